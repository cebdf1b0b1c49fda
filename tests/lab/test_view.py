"""Snapshots: figures add up, rows keep their places, stopped components leave knowledge stale."""

import time
from dataclasses import replace

import pytest

from kflab.errors import KflabError
from kflab.lab.commands import Kill, KillRandom, NextEvent, Pause, Resume, SetLoad, SetSpeed, Start, Stop
from kflab.lab.running import Lab
from kflab.lab.snapshot import Snapshot
from kflab.lab.thread import LabThread
from kflab.manifest.objects import Key
from kflab.scenario.format import load
from kflab.scenario.opening import open_what

S = 1_000_000_000


def overview(to_ns: int = 4 * S) -> Lab:
    lab = Lab(load("overview").spec)
    lab.advance(to_ns)
    return lab


def product(lab: Lab, ordinal: int = 0) -> Key:
    return [key for key in lab.store.keys("Pod") if key.name.startswith("product-")][ordinal]


def band(snapshot: Snapshot, kind: str):  # type: ignore[no-untyped-def]
    return next(item for item in snapshot.bands if item.kind == kind)


def test_every_fan_adds_up_to_its_trunk() -> None:
    snapshot = overview().snapshot()
    for kind in ("lb", "ingress", "service"):
        item = band(snapshot, kind)
        assert sum(row.share or 0 for row in item.candidates) == pytest.approx(1.0)
        assert sum(row.expected or 0 for row in item.candidates) == pytest.approx(1.0)
        assert sum(row.rate_rps for row in item.candidates) == pytest.approx(item.rate_rps, rel=0.05)
    assert snapshot.ok_share == 1.0
    assert snapshot.rate_rps == pytest.approx(1000, rel=0.1)


def test_a_load_balancer_target_without_an_ingress_pod_says_why() -> None:
    rows = {row.name: row for row in band(overview().snapshot(), "lb").candidates}
    assert (rows["node-a"].state, rows["node-b"].state) == ("healthy", "unhealthy")
    assert rows["node-b"].note == "no ingress pod"


def test_after_a_crash_the_pod_keeps_row_and_share_until_the_rules_change() -> None:
    lab = overview()
    victim = product(lab, 1)
    before = [row.key for row in band(lab.snapshot(), "service").candidates]
    assert lab.do(Kill(victim)).ok
    lab.advance(4 * S + 50_000_000)
    crashed = {row.key: row for row in band(lab.snapshot(), "service").candidates}[victim]
    assert (crashed.state, crashed.failing, crashed.listed) == ("crashed", True, True)
    lab.advance(10 * S)
    snapshot = lab.snapshot()
    assert [row.key for row in band(snapshot, "service").candidates] == before
    assert snapshot.knowledge.known == len(snapshot.knowledge.knowers)
    assert "tries refused in" in band(snapshot, "service").footer
    assert any(mark.kind == "moved" for mark in snapshot.marks)


def test_with_its_kube_proxy_stopped_a_node_never_learns_and_traffic_suffers() -> None:
    lab = overview()
    assert lab.do(Stop("kube-proxy/node-a")).ok
    assert lab.do(Kill(product(lab), "force")).ok
    lab.advance(9 * S)
    stale = lab.totals.lost_tries
    assert stale > 0
    rows = {row.name: row for row in lab.knowledge().knowers}
    assert not rows["node-a rules"].running
    assert rows["node-a rules"].learned_ns is None
    assert rows["node-b rules"].learned_ns is not None
    assert lab.do(Start("kube-proxy/node-a")).ok
    lab.advance(12 * S)
    assert lab.knowledge().moved_ns is not None


def test_with_the_api_server_stopped_nothing_is_written_and_kubectl_is_refused() -> None:
    lab = overview()
    assert lab.do(Stop("apiserver")).ok
    assert lab.do(Kill(product(lab))).ok
    lab.advance(8 * S)
    rows = {row.name: row for row in lab.knowledge().knowers}
    assert not rows["EndpointSlice"].in_step
    answer = lab.run_words(["get", "pods"])
    assert not answer.ok
    assert "refused" in answer.text


def test_random_kills_are_drawn_from_their_own_stream() -> None:
    def victims() -> list[Key | None]:
        lab = overview(S)
        found = []
        for second in range(2, 5):
            assert lab.do(KillRandom()).ok
            found.append(lab.knowledge().subject)
            lab.advance(second * 5 * S)
        return found

    first = victims()
    assert first == victims()
    assert all(key is not None and key.name.startswith("product-") for key in first)


def test_load_doubles() -> None:
    lab = overview()
    assert lab.do(SetLoad(2.0)).ok
    lab.advance(8 * S)
    assert lab.snapshot().rate_rps == pytest.approx(2000, rel=0.1)
    assert not lab.do(SetLoad(-1.0)).ok


def test_cold_starts_from_nothing_and_becomes_ready() -> None:
    lab = Lab(open_what(["overview"], cold=True).spec)
    lab.advance(200_000_000)
    assert lab.totals.ok == 0
    lab.advance(300 * S)
    assert lab.totals.ok > 1000
    assert lab.snapshot().ok_share == 1.0


def test_unknown_things_are_answered_not_raised() -> None:
    lab = overview(S)
    assert not lab.do(Kill(Key("Pod", "default", "nobody"))).ok
    assert "no component" in lab.do(Stop("kubelet/nowhere")).text


def test_a_lab_in_a_thread_obeys_and_answers() -> None:
    lab = LabThread(load("overview").spec, speed=50)
    try:
        assert lab.submit(SetSpeed(1000)).result(5).text == "speed ×100"
        assert lab.submit(Pause()).result(5).ok
        at = lab.snapshot().t_ns
        assert lab.snapshot().paused
        assert lab.submit(Kill(next(
            row.key for row in band(lab.snapshot(), "service").candidates))).result(5).ok  # fmt: skip
        event = lab.submit(NextEvent()).result(5)
        assert event.ok
        assert lab.snapshot().t_ns > at
        assert lab.submit(Resume()).result(5).ok
        assert "KUBE-SERVICES" in lab.rules_text("node-a").result(5)
        assert lab.live_yaml(Key("Service", "default", "product-service")).result(5).startswith("apiVersion: v1")
        assert lab.locate(Key("Service", "default", "product-service")) == ("4-service.yaml", 1)
    finally:
        lab.close()


def test_a_lab_that_fails_says_so_instead_of_standing_still() -> None:
    spec = load("pod-crash").spec
    action = replace(spec.actions[0], t_ns=100_000_000, pod_of=("default/Deployment/product", 99))
    lab = LabThread(replace(spec, actions=(action,)), speed=10)
    for _ in range(500):
        if lab.snapshot().story and lab.snapshot().story[0].tone == "lost":
            break
        time.sleep(0.01)
    assert "no ordinal 99" in lab.snapshot().story[1].text
    with pytest.raises(KflabError, match="has stopped"):
        lab.submit(Pause()).result(5)
    with pytest.raises(KflabError, match="no ordinal 99"):
        lab.close()
