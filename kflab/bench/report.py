"""`kflab bench`: every workload in one run, each figure beside its baseline and its target, reached or not.

Exit status: 0 when everything asked for was measured, whatever the figures; 1 when a workload could not be measured.
Missed targets do not fail: on a shared machine that would say more about the machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from kflab import exits
from kflab.bench.table import LETTERS, Bench, Report, about_machine, times
from kflab.errors import KflabError

if TYPE_CHECKING:
    from kflab.bench.clusters import Cluster
    from kflab.bench.rules import NodeRules

COUNTS_RATIO = 2.0
"""Counts of 10⁹ requests may take this much longer than of 10⁶ and still be called independent of the number."""

QUICK_SIZES = (10, 100, 1000)


# --- workloads --------------------------------------------------------------------------------------------------


def run(only: str, as_json: bool, out: TextIO, *, quick: bool = False, paused_s: float = 30.0) -> int:
    """Measure and report.

    Args:
        only: Letters of the workloads to run; "" for all.
        as_json: Print every raw figure as JSON instead of the table.
        out: Where the report goes; progress goes to standard error.
        quick: Shorter: no 5,000 nodes, memory at simulated minutes 3 and 9 instead of hours; the report says so.
        paused_s: How long a held lab is watched.

    Returns:
        The exit status.

    Raises:
        KflabError: If `only` has an unknown letter.
    """
    letters = chosen(only)
    bench = Bench(_tell, quick, paused_s)
    machine = about_machine()
    begin = monotonic()
    for letter in letters:
        bench.tell(f"({letter}) {LETTERS[letter]} …")
        _guarded(bench, letter, WORKLOADS[letter])
    machine["load_average_after"] = round(os.getloadavg()[0], 2)
    report = Report(machine, tuple(letters), bench, monotonic() - begin)
    if as_json:
        json.dump(report.tree(), out, indent=2, ensure_ascii=False)
        out.write("\n")
    else:
        out.write(report.text())
    return exits.FAILED if bench.failed else exits.OK


def chosen(only: str) -> list[str]:
    """Letters to run; the floor and the peers come before what is compared with them.

    Raises:
        KflabError: If a letter names no workload.
    """
    asked = [char for char in only.lower() if char not in ", "]
    for char in asked:
        if char not in LETTERS:
            raise KflabError(f"--only {only!r}: {char!r} is no workload; they are {', '.join(LETTERS)}")
    return [letter for letter in "bcadefghi" if not asked or letter in asked]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _guarded(bench: Bench, letter: str, work: Callable[[Bench], None]) -> None:
    """One workload that cannot be measured must not take the others' figures with it."""
    try:
        work(bench)
    except (KflabError, OSError, AssertionError, MemoryError, subprocess.SubprocessError) as error:
        why = (getattr(error, "stderr", None) or str(error) or type(error).__name__).strip()
        bench.failed.append(
            f"({letter}) {why.splitlines()[-1] if isinstance(error, subprocess.SubprocessError) else why}"
        )
        bench.tell(f"  could not be measured: {bench.failed[-1]}")


def _floor(bench: Bench) -> None:
    from kflab.bench import engine_workloads as engine

    for philox in (False, True):
        found = engine.floor(philox=philox)
        bench.measured("b", found)
        bench.add("b", found.name, found.value, found.unit, found.detail)
        if not philox:
            bench.found["floor"] = found.value


def _peers(bench: Bench) -> None:
    from kflab.bench import python_walk, simpy_peer

    found = python_walk.walk()
    bench.measured("c", found)
    bench.found["python"] = found.value
    bench.add("c", found.name, found.value, found.unit, f"one request at a time; {found.detail}")
    found = simpy_peer.simulate()
    bench.measured("c", found)
    bench.found["simpy"] = found.value
    bench.add("c", found.name, found.value, found.unit, f"a process per request, a Resource per worker; {found.detail}")


def _engine(bench: Bench) -> None:
    from kflab.bench import engine_workloads as engine

    floor = bench.found.get("floor")
    found = engine.routing()
    bench.measured("a", found)
    bench.add(
        "a", found.name, found.value, found.unit,
        f"LB hash → node → kube-proxy → ingress → pod → status; {found.detail}",
        beside=times(found.value, floor, "the floor (b)"), target="≥ 1/4 of the floor",
        reached=None if floor is None else found.value >= floor / 4,
    )  # fmt: skip
    simpy = bench.found.get("simpy")
    for hashing in (False, True):
        found = engine.full_path(hashing=hashing)
        bench.measured("a", found)
        peers = ((bench.found.get("simpy"), "SimPy (c)"), (bench.found.get("python"), "plain Python (c)"))
        beside = ", ".join(times(found.value, speed, name) for speed, name in peers if speed is not None)
        if hashing:
            bench.add("a", found.name, found.value, found.unit, found.detail, beside=beside)
            continue
        bench.add(
            "a", found.name, found.value, found.unit, found.detail,
            beside=beside, target="≥ 8 M flows/s", reached=found.value >= 8e6,
        )  # fmt: skip
        if simpy is not None:
            ratio = found.value / simpy
            bench.add(
                "a", "full path ÷ SimPy", ratio, "×", "how many times the peer's speed",
                target="≥ 100×", reached=ratio >= 100,
            )  # fmt: skip
    found = engine.quiet_slab()
    bench.measured("a", found)
    bench.add("a", found.name, found.value, found.unit, f"computing for {found.detail}")


def _counts(bench: Bench) -> None:
    from kflab.bench import engine_workloads as engine

    engine.counts(10**6)  # the first one fills tables
    small, large = engine.counts(10**6), engine.counts(10**9)
    for found in (small, large):
        bench.measured("d", found)
    ratio = large.value / max(small.value, 1e-9)
    bench.add("d", small.name, small.value, small.unit, "counts per path, pod and status, exact distribution")
    bench.add(
        "d", large.name, large.value, large.unit, "the same for a thousand times as many",
        beside=f"{ratio:.2f} × 10⁶", target=f"no dependence on the number (≤ {COUNTS_RATIO:g} ×)",
        reached=ratio <= COUNTS_RATIO,
    )  # fmt: skip


def _clusters(bench: Bench) -> None:
    from kflab.bench import clusters

    sizes = QUICK_SIZES if bench.quick else clusters.SIZES
    if bench.quick:
        bench.notes.append(f"(e) --quick: sizes {', '.join(map(str, sizes))} only")
    found: list[Cluster] = []
    for nodes in sizes:
        for source in ("objects", "yaml"):
            one = clusters.run((nodes,), (source,))[0]
            found.append(one)
            bench.raw.setdefault("e", []).append(asdict(one))
            _one_cluster(bench, one, next((c for c in found if c.nodes == 100 and c.source == source), None))


def _one_cluster(bench: Bench, one: "Cluster", small: "Cluster | None") -> None:
    """One size; `small` is the cluster of 100 nodes."""
    name = f"{one.nodes:,} nodes from {one.source}"
    size = f"{one.pods:,} pods, {one.services:,} Services"
    read = "reading the YAML and settling" if one.source == "yaml" else "settling the controllers"
    large = one.nodes == 5000
    bench.add("e", f"{name}: load", one.load_s, "s", f"CPU time; {read}; {size}")
    whole_s = one.load_s + one.compile_s
    bench.add(
        "e", f"{name}: compile", one.compile_s, "s", "all Services compiled, every node's rules made",
        beside=f"load and compile {whole_s:.1f} s" if large else "",
        target="load and compile < 20 s" if large else "", reached=whole_s < 20 if large else None,
    )  # fmt: skip
    ratio = one.kill_s / small.kill_s if small is not None and small.kill_s > 0 else None
    bench.add(
        "e", f"{name}: one pod kill", one.kill_s * 1e3, "ms",
        f"CPU until the last node's rules are effective ({one.kill_simulated_s:.2f} s simulated); median of several",
        beside="" if ratio is None or one.nodes <= 100 else f"{ratio:.1f} × the 100-node kill",
        target="≤ 3 × the 100-node kill" if large else "",
        reached=ratio <= 3 if large and ratio is not None else None,
    )  # fmt: skip
    bench.add(
        "e", f"{name}: one node lost", one.lose_s, "s",
        f"CPU until no other node's rules lead to its pods, of {one.lose_services} Services "
        f"({one.lose_simulated_s:.1f} s simulated)",
        target="< 0.5 s" if large else "", reached=one.lose_s < 0.5 if large else None,
    )  # fmt: skip
    bench.add(
        "e", f"{name}: peak memory", one.peak_mib, "MiB", "of a process of its own",
        target="< 2 GiB" if large else "", reached=one.peak_mib < 2048 if large else None,
    )  # fmt: skip


def _first_paint(bench: Bench) -> None:
    from kflab.bench import screen

    found = screen.first_paint()
    bench.raw["f"] = asdict(found)
    runs = len(found.kflab_runs)
    ratio = found.kflab_s / found.bare_s
    bench.add("f", "bare Textual app", found.bare_s, "s", f"three Static widgets, same interpreter; median of {runs}")
    bench.add(
        "f", "kflab to first paint", found.kflab_s, "s", f"exec to the whole first frame of overview; median of {runs}",
        beside=f"{ratio:.2f} × the bare app", target="< 1 s", reached=found.kflab_s < 1.0,
    )  # fmt: skip
    bench.add(
        "f", "kflab ÷ bare app", ratio, "×", "what the lab adds to the toolkit", target="≤ 2.5×", reached=ratio <= 2.5
    )


def _screen(bench: Bench) -> None:
    from kflab.bench import screen

    bench.raw["g"] = {}
    for name, rollout in (("steady", False), ("during rollouts", True)):
        keys = screen.key_presses(rollout, 50 if bench.quick else 200)
        bench.raw["g"][f"keys {name}"] = asdict(keys)
        moved = f"; EndpointSlice revision {keys.revision_from} → {keys.revision_to}" if rollout else ""
        lost = f"; {keys.lost} not answered within 2 s" if keys.lost else ""
        bench.add(
            "g", f"key to paint {name}, p99", keys.p99_ms, "ms",
            f"{len(keys.samples_ms)} keys at {screen.RATE:,} simulated requests/s, ×1{moved}{lost}",
            beside=f"p50 {keys.p50_ms:.0f} ms, worst {keys.max_ms:.0f} ms; "
            f"p99 without waits for a core ≥ {keys.unstarved_p99_ms:.0f} ms",
            target="< 50 ms", reached=keys.p99_ms < 50,
        )  # fmt: skip
        if rollout and keys.revision_from == keys.revision_to:
            bench.notes.append("(g) no rollout was seen while keys were pressed")
    held = screen.paused(min(bench.paused_s, 10.0) if bench.quick else bench.paused_s)
    bench.raw["g"]["paused"] = asdict(held)
    bench.add(
        "g", "held lab", held.cpu_share * 100, "% of a core", f"overview paused for {held.seconds:g} s, all threads",
        target="< 2 %", reached=held.cpu_share < 0.02,
    )  # fmt: skip
    found = screen.memory(bench.quick, bench.tell)
    bench.raw["g"]["memory"] = asdict(found)
    growth = found.late_mb - found.early_mb
    bench.add(
        "g", "overview, resident", found.overview_mb, "MB", "ten seconds after the first frame, ×1",
        target="< 150 MB", reached=found.overview_mb < 150,
    )  # fmt: skip
    when = f"simulated hours {found.early_hours:.2g} and {found.late_hours:.2g} at ×{found.speed:.0f} of ×100"
    bench.add(
        "g", "growth of resident memory", growth, "MB", when,
        beside=f"{found.early_mb:.1f} → {found.late_mb:.1f} MB", target="< 5 MB from hour 1 to hour 3",
        reached=None if bench.quick else growth < 5,
    )  # fmt: skip
    if bench.quick:
        bench.notes.append(
            "(g) --quick: 50 keys, a shorter pause, memory at simulated minutes 3 and 9, not hours 1 and 3"
        )


def _rules(bench: Bench) -> None:
    from kflab.bench import rules
    from kflab.dataplane.modes import MODES

    bench.raw["h"] = {}
    if bench.quick:
        bench.notes.append(f"(h) --quick: {rules.QUICK_SERVICES:,} Services and {rules.QUICK_NODES:,} nodes only")
    for mode in MODES:
        one = rules.run(mode, quick=bench.quick)
        bench.raw["h"][mode] = asdict(one)
        _one_mode(bench, one)
    conformed = rules.conform()
    if conformed is None:
        bench.notes.append(f"(h) no vector files in {rules.VECTORS}: `kflab conform` was not measured")
        return
    bench.raw["h"]["conform"] = asdict(conformed)
    left_out = f"; {conformed.left_out} files of kinds that it does not run" if conformed.left_out else ""
    bench.add(
        "h", "conform", conformed.seconds, "s",
        f"{conformed.files} vector files in each of {len(MODES)} modes, {conformed.failed} runs failed{left_out}",
        target="< 20 s", reached=conformed.seconds < 20,
    )  # fmt: skip


def _one_mode(bench: Bench, one: "NodeRules") -> None:
    def add(
        name: str, value: float, unit: str, means: str, target: str = "", reached: bool = False, beside: str = ""
    ) -> None:
        # A quick run has a tenth of the Services: it cannot say.
        judged = reached if target and not bench.quick else None
        bench.add("h", f"{one.mode}: {name}", value, unit, means, beside=beside, target=target, reached=judged)

    whole_s = one.compile_s + one.write_s
    add(
        "compile and write", whole_s, "s",
        f"{one.services:,} Services and {one.endpoints:,} endpoints: {one.lines:,} lines, {one.text_mb:.1f} MB",
        "< 5 s", whole_s < 5, f"compile {one.compile_s:.2f} s, write {one.write_s:.2f} s",
    )  # fmt: skip
    add(
        "one pod changes", one.change_p50_ms, "ms",
        "from the EndpointSlice to the whole text of a node written anew, in pieces; median, judged by the worst",
        "< 20 ms", one.change_max_ms < 20, f"worst {one.change_max_ms:.1f} ms",
    )  # fmt: skip
    add(
        "per further node",
        one.nodes_us,
        "µs",
        f"{one.nodes:,} nodes on shared Services: rule set made, a packet walked",
    )
    add(
        "walk of one packet", one.walk_p50_ms, "ms", "median; judged by the 99th percentile", "< 1 ms",
        one.walk_p99_ms < 1, f"p99 {one.walk_p99_ms:.2f} ms; with all alternatives {one.explained_p50_ms:.2f} ms, "
        f"p99 {one.explained_p99_ms:.2f} ms",
    )  # fmt: skip
    add(
        "naive walk", one.naive_p50_ms, "ms", "every rule of every chain read in turn: the same answers",
        beside=f"{one.naive_p50_ms / max(one.walk_p50_ms, 1e-9):,.0f} × the walk",
    )  # fmt: skip
    add("peak memory", one.peak_mib, "MiB", "before the naive walker's lists, of a process of its own")


def _hour(bench: Bench) -> None:
    from kflab.bench import hour
    from kflab.lab.spec import AUTO

    bench.raw["i"] = []
    seconds = hour.QUICK_S if bench.quick else hour.HOUR_S
    length = f"{seconds // 60} simulated minutes"
    if bench.quick:
        bench.notes.append(f"(i) --quick: {length}, not an hour")
    for path in hour.PATHS:
        bench.tell(f"  {path}: {length} …")
        flows, counted = hour.baseline(path), hour.run(path, AUTO, seconds)
        bench.raw["i"] += [asdict(flows), asdict(counted)]
        per_hour_s = hour.HOUR_S * hour.RATE_RPS / flows.rate
        bench.add(
            "i", f"{path}: each followed", flows.rate, "requests/s",
            f"steady traffic, the last {hour.BASELINE_S} of {flows.simulated_s} simulated s; {flows.peak_mib:.0f} MiB",
            beside=f"an hour without an update would take {per_hour_s:,.0f} s",
        )  # fmt: skip
        bench.add(
            "i", f"{path}: counted", counted.rate, "requests/s", "the same while nothing changes",
            beside=f"{counted.rate / flows.rate:.1f} × followed ones",
        )  # fmt: skip
        bench.add(
            "i", f"{path}: {'hour' if not bench.quick else length}", counted.cpu_s, "s",
            f"{counted.sent:,} requests, {counted.failed:,} failed, {hour.NODES} nodes, {hour.PODS} pods all replaced; "
            f"counted in {counted.counted_s:,.0f} s, the rest followed one by one",
            beside=f"{counted.update_cpu_s:.1f} s of it are the update", target="< 60 s",
            reached=None if bench.quick else counted.cpu_s < 60,
        )  # fmt: skip
        bench.add(
            "i", f"{path}: peak memory", counted.peak_mib, "MiB", "of a process of its own",
            beside=f"{counted.growth_mib:+.1f} MiB in the last quarter", target="flat (< 5 MiB in the last quarter)",
            reached=None if bench.quick else counted.growth_mib < 5,
        )  # fmt: skip


WORKLOADS: dict[str, Callable[[Bench], None]] = {
    "a": _engine,
    "b": _floor,
    "c": _peers,
    "d": _counts,
    "e": _clusters,
    "f": _first_paint,
    "g": _screen,
    "h": _rules,
    "i": _hour,
}
