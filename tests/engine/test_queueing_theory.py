"""Waiting times against queueing theory: M/M/1, M/D/1, M/M/c, and c queues of one worker each.

Sources: Kleinrock, Queueing Systems I (1975), 3.2, 5.6 (Pollaczek-Khinchine) and 3.5 (Erlang's C formula). Means are of
some 100,000 requests of a fixed seed after a warm-up; the relative error allowed is stated with each.
"""

from math import factorial

import numpy as np
import pytest

from kflab.draws import Draws, duration_table
from kflab.engine.engine import Engine
from kflab.engine.types import Fan, Server, Stream, Timing

MEAN_NS = 10_000_000
"""Mean service time: 10 ms."""


def waits(kind: str, load: float, workers: int = 1, shared: bool = False, seconds: int = 3000) -> float:
    """Mean wait before service, in mean service times, of Poisson arrivals at one server."""
    rate = load * workers * 1e9 / MEAN_NS
    stream = Stream(0, "pod", rate, place=0, entries=((0, 0),))
    server = Server("p", 0, workers, shared_queue=shared)
    engine = Engine(Draws(11), Timing(), [stream], [server], 1, slab_ns=500_000_000, kept_rows=1 << 20, hashing=False)
    engine.learn(0, 0, Fan((0,), (1,)))
    given = {"mean_ns": MEAN_NS} if kind == "exponential" else {"ns": MEAN_NS}
    engine.steps.tables[0] = duration_table(kind, **given)
    engine.advance(seconds * 1_000_000_000)
    rows = engine.take_finished()
    late = rows.start_ns > 50_000_000_000
    assert len(rows) > 49_000
    return float(np.mean(rows.queue_ns[late])) / MEAN_NS


def erlang_c(load: float, workers: int) -> float:
    """Chance that a request has to wait, M/M/c."""
    offered = load * workers
    last = offered**workers / factorial(workers) / (1 - load)
    return last / (sum(offered**k / factorial(k) for k in range(workers)) + last)


@pytest.mark.parametrize(("load", "error"), [(0.5, 0.03), (0.8, 0.10)])
def test_one_worker_with_exponential_service(load: float, error: float) -> None:
    assert waits("exponential", load) == pytest.approx(load / (1 - load), rel=error)


@pytest.mark.parametrize(("load", "error"), [(0.5, 0.03), (0.8, 0.06)])
def test_one_worker_with_constant_service_waits_half_as_long(load: float, error: float) -> None:
    assert waits("constant", load) == pytest.approx(load / (1 - load) / 2, rel=error)


@pytest.mark.parametrize(("load", "error"), [(0.7, 0.06)])
def test_workers_with_a_queue_each_are_so_many_single_servers(load: float, error: float) -> None:
    assert waits("exponential", load, workers=4, seconds=400) == pytest.approx(load / (1 - load), rel=error)


@pytest.mark.parametrize(("load", "workers", "error"), [(0.7, 4, 0.06), (0.8, 2, 0.08)])
def test_workers_that_share_a_queue(load: float, workers: int, error: float) -> None:
    """M/M/c by Erlang's C formula: W = C / (c μ (1 - ρ))."""
    expected = erlang_c(load, workers) / (workers * (1 - load))
    measured = waits("exponential", load, workers, shared=True, seconds=250 if workers == 4 else 500)
    assert measured == pytest.approx(expected, rel=error)
    assert measured < 0.6 * load / (1 - load), "one queue waits less than many"
