"""Workloads of the engine: routing, the whole path, numpy's floor, two peers, counts. Plain results, no printing.

Speeds are per second of the process's own CPU time (one core, one thread), best of several runs: on a machine that
others use too, wall-clock time measures them.
"""

from collections.abc import Callable
from fractions import Fraction
from time import process_time

import numpy as np

from kflab.draws import Draws
from kflab.engine.counts import Words, count, poisson
from kflab.engine.engine import Engine
from kflab.engine.express import pick_path
from kflab.engine.types import Behaviour, Fan, Pick, Server, Stream, Timing
from kflab.records import dataclass

SEED = 7
N_NODES = 4
N_INGRESS = 4
N_PODS = 24
WORKERS = 256
"""Together 6,144 workers: a million requests/s of 2.9 ms each keep 47 % of them busy."""

RATE_RPS = 1_000_000.0
BLOCK = 1 << 14
CHOICES = (N_NODES, N_INGRESS, N_PODS)
"""What a request chooses on its way: node (flow hash), ingress pod (kube-proxy), pod (ingress)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure."""

    name: str
    value: float
    unit: str
    detail: str = ""


def best_rate(run: Callable[[], int], repeats: int = 5) -> float:
    """Return the most things per CPU second that `run` (which returns how many it did) reached."""
    best = 0.0
    for _ in range(repeats):
        begin = process_time()
        done = run()
        best = max(best, done / max(1e-9, process_time() - begin))
    return best


def make_engine(rate_rps: float = RATE_RPS, hashing: bool = False, workers: int = WORKERS) -> Engine:
    """Make the measured path: four nodes behind a flow hash, four ingress pods, 24 pods, everything healthy."""
    ingress = [Server(f"ingress-{n}", n % N_NODES, is_ingress=True) for n in range(N_INGRESS)]
    pods = [Server(f"pod-{n}", n % N_NODES, workers) for n in range(N_PODS)]
    entries = tuple((place, 1 + place) for place in range(N_NODES))
    upstreams = tuple((server, 1 + N_NODES + server) for server in range(N_INGRESS))
    stream = Stream(
        0, "l7", rate_rps, lb=0, entries=entries, upstreams=upstreams, client="203.0.113.45", destination="x:443"
    )
    engine = Engine(Draws(SEED), Timing(), [stream], [*ingress, *pods], N_NODES, hashing=hashing)
    engine.set_pick(0, Pick.FLOW_HASH)
    engine.learn(0, 0, _even(range(N_NODES)))
    for _, chooser in entries:
        engine.learn(chooser, 0, _even(range(N_INGRESS)))
    for _, chooser in upstreams:
        engine.learn(chooser, 0, _even(range(N_INGRESS, N_INGRESS + N_PODS)))
    return engine


def _even(candidates: range) -> Fan:
    return Fan(tuple(candidates), (1,) * len(candidates))


def routing(rows: int = 1 << 20, repeats: int = 5) -> Measured:
    """(a) Draw and route: flow hash → node → kube-proxy → ingress → pod → status, counted per pod and status."""
    engine = make_engine()
    engine.compile_paths()
    draws, steps = Draws(SEED), engine.steps
    status_of = np.where(engine.memory.behaviour == Behaviour.LISTENS, 200, 502)

    def run() -> int:
        per_pod = np.zeros(N_INGRESS + N_PODS, dtype=np.int64)
        per_status = np.zeros(600, dtype=np.int64)
        for first in range(0, rows, BLOCK):
            picks = pick_path(steps, 0, draws.block(0, first, BLOCK))
            per_pod += np.bincount(picks.servers, minlength=len(per_pod))
            per_status += np.bincount(status_of.take(picks.servers), minlength=600)
        if int(per_status[200]) != rows:
            raise AssertionError(f"{rows} requests routed, {per_status[200]} answered")
        return rows

    return Measured("routing", best_rate(run, repeats), "flows/s", "one core, blocks of 16,384")


def floor(rows: int = 1 << 20, repeats: int = 5, philox: bool = False) -> Measured:
    """(b) numpy drawing and counting as many random integers as the path has choices (three), in equal blocks.

    Args:
        rows: Flows.
        repeats: Runs, of which the best counts.
        philox: Draw with Philox, the generator that can be addressed, instead of numpy's default.
    """
    generator = np.random.Generator(np.random.Philox(SEED) if philox else np.random.PCG64(SEED))

    def run() -> int:
        counts = [np.zeros(n, dtype=np.int64) for n in CHOICES]
        for _ in range(0, rows, BLOCK):
            for count_of, n in zip(counts, CHOICES, strict=True):
                count_of += np.bincount(generator.integers(0, n, BLOCK), minlength=n)
        return rows

    name = "floor, Philox" if philox else "floor, numpy's default generator"
    return Measured(name, best_rate(run, repeats), "flows/s", "three integers drawn and counted per flow")


def full_path(simulated_ms: int = 500, repeats: int = 5, hashing: bool = False) -> Measured:
    """(a) The whole path at 1,000,000 requests/s: arrivals, picks, queues, latency, bins, finished rows kept."""
    best = 0.0
    for _ in range(repeats):
        engine = make_engine(hashing=hashing)
        # The first tenth of a second fills the pods and warms numpy up.
        engine.advance(100_000_000)
        before, begin = engine.finished.total, process_time()
        engine.advance(100_000_000 + simulated_ms * 1_000_000)
        best = max(best, (engine.finished.total - before) / (process_time() - begin))
    name = "full path, with golden hash" if hashing else "full path"
    return Measured(name, best, "flows/s", "1,000,000 requests/s, 100 ms slabs, 24 pods × 256 workers")


def quiet_slab(slabs: int = 50) -> Measured:
    """What one 100 ms slab costs at 1,000 requests/s."""
    engine = make_engine(rate_rps=1000.0, hashing=True, workers=16)
    engine.advance(1_000_000_000)
    begin = process_time()
    engine.advance(1_000_000_000 + slabs * 100_000_000)
    return Measured("slab at 1,000 requests/s", (process_time() - begin) / slabs * 1e3, "ms", "100 ms simulated")


def counts(n: int) -> Measured:
    """(d) Counts mode for about `n` requests."""
    engine = make_engine()
    fans = {0: _even(range(N_NODES))}
    fans |= {chooser: _even(range(N_INGRESS)) for _, chooser in engine.streams[0].entries}
    fans |= {chooser: _even(range(N_INGRESS, N_INGRESS + N_PODS)) for _, chooser in engine.streams[0].upstreams}
    behaviour = [Behaviour.LISTENS] * (N_INGRESS + N_PODS)
    draws = Draws(SEED)
    begin = process_time()
    sent = poisson(Words(draws, "bench", str(n)), Fraction(n))
    result = count(draws, engine.streams[0], sent, fans, behaviour, {})
    spent = process_time() - begin
    if sum(result.status.values()) != sent:
        raise AssertionError(f"{sent} requests, {sum(result.status.values())} answered")
    return Measured(f"counts of {n:,} requests", spent * 1e3, "ms")
