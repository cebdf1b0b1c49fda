"""A pod crashes: what is lost, who learns when, and every opened request is the one that happened."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kflab.engine.types import Answer
from kflab.lab.records import Record, record
from kflab.lab.reopening import ANSWER_WORDS
from kflab.lab.running import Lab
from kflab.scenario.format import load

END_NS = 20_000_000_000


def rows_of(lab: Lab, to_ns: int) -> list[Record]:
    """Every finished request."""
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    lab.advance(to_ns)
    return kept


@pytest.fixture(scope="module")
def crashed() -> tuple[Lab, list[Record]]:
    lab = Lab(load("pod-crash").spec)
    return lab, rows_of(lab, 8_000_000_000)


def test_every_failed_and_retried_request_opens_as_it_happened(crashed: tuple[Lab, list[Record]]) -> None:
    lab, rows = crashed
    special = [row for row in rows if not row.ok or row.tries > 1]
    ordinary = [row for row in rows if row.ok and row.tries == 1]
    assert len(special) > 50
    chosen = special + ordinary[:: max(1, len(ordinary) // (1000 - len(special)))][: 1000 - len(special)]
    assert len(chosen) == 1000
    for row in chosen:
        trace = lab.reopener.open_record(row)
        assert trace.tries == row.tries, row
        assert trace.status == str(row.status), row
        assert trace.latency_ns == row.latency_ns
        assert sum(ns for _, ns in trace.parts) == row.latency_ns
        parts = dict(trace.parts)
        assert (parts["queue"], parts["service"]) == (row.queue_ns, row.service_ns)
        tries = zip(row.answers, row.try_starts_ns, row.try_ends_ns, strict=True)
        lost = sum(end - start for answer, start, end in tries if answer == Answer.REFUSED)
        assert parts["refused"] == lost
        walked = [hop.after.destination for hop in trace.hops
                  if hop.number and hop.after and hop.after.dport == 8080 and hop.mover == "kernel DNAT"]  # fmt: skip
        recorded = [f"{lab.wiring.servers[server][0]}:{lab.wiring.servers[server][1]}" for server in row.servers]
        assert walked == recorded, (row, trace)
        assert not any(hop.outcome == "mismatch" for hop in trace.hops)
        entered = next(hop.after.destination for hop in trace.hops if hop.number == 3 and hop.after)
        assert entered.rpartition(":")[0] == lab.wiring.servers[row.ingress][0]


def test_lost_tries_were_all_at_the_crashed_pod_before_the_rules_changed(crashed: tuple[Lab, list[Record]]) -> None:
    lab, rows = crashed
    knowledge = lab.knowledge()
    assert knowledge.subject is not None
    assert knowledge.moved_ns is not None
    for row in rows:
        for answer, server, start in zip(row.answers, row.servers, row.try_starts_ns, strict=True):
            if answer != Answer.OK:
                assert ANSWER_WORDS[answer] in ("refused", "reset")
                assert lab.wiring.servers[server][3] == knowledge.subject
                assert start < knowledge.moved_ns


def test_observers_learn_in_the_order_of_lifecycle_4a(crashed: tuple[Lab, list[Record]]) -> None:
    lab, _ = crashed
    knowledge = lab.knowledge()
    learned = {row.name: row.learned_ns for row in knowledge.knowers}
    assert all(t is not None for t in learned.values())
    times = [t for t in learned.values() if t is not None]
    assert learned["node-b kubelet"] == min(times)
    assert learned["EndpointSlice"] == sorted(times)[1]
    assert max(times) - (knowledge.t_ns or 0) < 2_500_000_000


def test_the_same_story_at_any_slab_length_and_pace() -> None:
    def story(slab_ns: int, step_ns: int) -> tuple[str, int, int]:
        lab = Lab(load("pod-crash").spec, slab_ns=slab_ns)
        while lab.t_ns < 8_000_000_000:
            lab.advance(min(8_000_000_000, lab.t_ns + step_ns))
        return lab.digest(), lab.totals.failed, lab.totals.lost_tries

    wanted = story(500_000_000, 8_000_000_000)
    assert story(100_000_000, 33_333_333) == wanted
    assert story(37_000_001, 1_000_000_000) == wanted


def test_golden_hash_also_without_cpu_features() -> None:
    code = (
        "from kflab.lab.running import Lab; from kflab.scenario.format import load; "
        "lab = Lab(load('pod-crash').spec); lab.advance(7_000_000_000); print(lab.digest())"
    )

    def run(**extra: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **extra}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    features = " ".join(
        name for name, on in np._core._multiarray_umath.__cpu_features__.items()  # type: ignore[attr-defined]
        if on and name in np._core._multiarray_umath.__cpu_dispatch__  # type: ignore[attr-defined]
    )  # fmt: skip
    plain = run(PYTHONHASHSEED="1")
    assert plain == run(PYTHONHASHSEED="2", NPY_DISABLE_CPU_FEATURES=features)
    lab = Lab(load("pod-crash").spec)
    lab.advance(7_000_000_000)
    assert lab.digest() == plain
