"""Each workload runs, small, and reports a figure; the peers model the same path."""

import pytest

from kflab.bench import engine_workloads, python_walk, simpy_peer


def test_workloads_report() -> None:
    measured = [
        engine_workloads.routing(rows=1 << 14, repeats=1),
        engine_workloads.floor(rows=1 << 14, repeats=1),
        engine_workloads.full_path(simulated_ms=5, repeats=1),
        engine_workloads.quiet_slab(slabs=2),
        engine_workloads.counts(10**6),
    ]
    assert all(each.value > 0 for each in measured)
    assert [each.unit for each in measured] == ["flows/s", "flows/s", "flows/s", "ms", "ms"]


def test_peers_agree_on_the_tail() -> None:
    pytest.importorskip("simpy")

    def p99_ms(detail: str) -> float:
        return float(detail.removeprefix("p99 ").removesuffix(" ms"))

    walked, simulated = python_walk.walk(8000), simpy_peer.simulate(8000)
    assert p99_ms(walked.detail) == pytest.approx(p99_ms(simulated.detail), rel=0.25)
    engine = engine_workloads.make_engine()
    engine.advance(40_000_000)
    window = engine.window(0, 40_000_000)
    assert window.p99_ns is not None
    assert window.p99_ns / 1e6 == pytest.approx(p99_ms(walked.detail), rel=0.25)
