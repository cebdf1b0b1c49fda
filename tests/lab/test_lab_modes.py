"""The lab in every kube-proxy mode: the same story, and every opened request agrees with its row."""

from dataclasses import replace

import pytest

from kflab.lab.handle import Tab
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.scenario.format import load


def in_mode(mode: str) -> LabSpec:
    spec = load("pod-crash").spec
    tabs = tuple(Tab(t.name, t.text.replace("mode: iptables", f"mode: {mode}"), t.path, t.role) for t in spec.tabs)
    return replace(spec, tabs=tabs)


@pytest.mark.parametrize(
    ("mode", "word"), [("nftables", "numgen random mod 3"), ("ipvs", "-A -t 10.96.100.50:80 -s rr")]
)
def test_pod_crash_in_other_modes(mode: str, word: str) -> None:
    lab = Lab(in_mode(mode))
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(0, len(rows), 11)))
    lab.advance(8_000_000_000)
    assert lab.totals.lost_tries > 50
    assert lab.knowledge().moved_ns is not None
    assert word in lab.rules_text("node-a")
    for row in [one for one in kept if one.lost] + kept[:100]:
        trace = lab.reopener.open_record(row)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
        assert "KUBE-KUBE" not in trace.hops[2].why
