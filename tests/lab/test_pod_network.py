"""Who ends a deleted pod's network, and when: whether callers hear of the end of its process."""

from pathlib import Path

import pytest
from small_labs import S, direct, kept_rows, pods

from kflab.control.facts import What
from kflab.engine.types import Answer
from kflab.errors import KflabError
from kflab.lab.autopsy import Cause
from kflab.lab.commands import Act, Kill, Stop
from kflab.lab.records import Record
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load_text

MS = 1_000_000
CALICO = "cluster: {cni: calico}\n"
KEEPS = ", connections: 6, timeout: 30m"


def elsewhere(lab: Lab) -> Key:
    """A pod of `web` on another node than its caller."""
    here = lab.store.get(pods(lab, "app")[0])
    assert isinstance(here, Pod)
    nodes = {key: lab.store.get(key) for key in pods(lab)}
    return next(key for key, pod in nodes.items() if isinstance(pod, Pod) and pod.spec.node_name != here.spec.node_name)


def to(lab: Lab, pod: Key, rows: list[Record]) -> list[Record]:
    return [row for row in rows if any(server >= 0 and lab.wiring.servers[server][3] == pod for server in row.servers)]


def ended(lab: Lab) -> list[str]:
    return [fact.subject.name for fact in lab.facts if fact.what is What.NETWORK_REMOVED]


def force_deleted(more: str, client: str = KEEPS) -> tuple[Lab, Key, list[Record]]:
    lab = direct(20.0, client=client, more=more)
    lab.advance(3 * S)
    rows, victim = kept_rows(lab), elsewhere(lab)
    assert lab.do(Kill(victim, "force")).ok
    return lab, victim, rows


def test_under_calico_nobody_hears_of_the_end_of_a_pod_whose_object_went_first() -> None:
    lab, victim, rows = force_deleted(CALICO, f"{KEEPS}, keepaliveTimeout: 9s")
    lab.advance(30 * S)
    assert ended(lab) == [victim.name]
    lost = [row for row in to(lab, victim, rows) if not row.ok]
    assert {row.status for row in lost} == {-Answer.TIMEOUT}
    assert max(row.latency_ns for row in lost) == 9 * S
    assert [row for row in lost if row.start_ns > 5 * S], "the connections are open long after the process has ended"
    bill = next(bill for bill in lab.gantt.report().bills if bill.cause == Cause.KEPT)
    assert "lost its network before its process ended" in bill.title
    for row in lost[::7]:
        trace = lab.reopener.open_record(row)
        assert trace.status == "timeout"
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
        assert "lost its network, as Calico saw its object go" in trace.hops[-1].why


def test_with_other_cni_plugins_the_end_of_the_process_closes_its_connections() -> None:
    lab, victim, rows = force_deleted("")
    lab.advance(30 * S)
    assert not ended(lab)
    assert all(row.latency_ns < S for row in to(lab, victim, rows))
    assert not [row for row in to(lab, victim, rows) if row.start_ns > 5 * S]


def test_what_was_in_hand_when_the_network_went_waits_for_its_caller_s_patience() -> None:
    more = f"timing: {{service_p50_ns: 1000000000, service_p99_ns: 2000000000}}\n{CALICO}"
    lab, victim, rows = force_deleted(more, ", timeout: 8s")
    lab.advance(20 * S)
    hand = [row for row in to(lab, victim, rows) if row.start_ns < 3 * S and not row.ok]
    assert hand
    assert {row.latency_ns for row in hand} == {8 * S}


def test_new_connections_to_the_address_are_dropped_where_they_would_have_been_refused() -> None:
    for more, answers in (("", {-Answer.REFUSED}), (CALICO, {-Answer.TIMEOUT})):
        lab = direct(50.0, more=more)
        lab.advance(3 * S)
        rows, victim = kept_rows(lab), elsewhere(lab)
        for key in lab.store.keys("Node"):
            assert lab.do(Stop(f"kube-proxy/{key.name}")).ok
        assert lab.do(Kill(victim, "force")).ok
        lab.advance(12 * S)
        # The process has had SIGTERM and does not listen any more; its sandbox is there.
        mine = [row for row in to(lab, victim, rows) if 3 * S + 200 * MS < row.start_ns < 3 * S + 500 * MS]
        assert {row.status for row in mine} == answers


def test_a_graceful_deletion_removes_the_object_last_so_calico_has_nothing_to_end() -> None:
    lab = direct(20.0, client=KEEPS, more=CALICO)
    lab.advance(3 * S)
    rows, victim = kept_rows(lab), elsewhere(lab)
    assert lab.do(Kill(victim, "delete")).ok
    lab.advance(30 * S)
    assert not ended(lab)
    assert all(row.latency_ns < S for row in to(lab, victim, rows))


def test_a_drain_without_grace_is_a_forced_deletion() -> None:
    for options, ends in (((), False), ((("gracePeriod", 0),), True)):
        lab = direct(20.0, client=KEEPS, more=CALICO)
        lab.advance(3 * S)
        victim = elsewhere(lab)
        pod = lab.store.get(victim)
        assert isinstance(pod, Pod)
        result = lab.do(Act("drain", Key("Node", "", pod.spec.node_name), options))
        assert result.ok, result.text
        lab.advance(8 * S)
        assert (victim.name in ended(lab)) is ends


def test_a_process_that_ends_before_the_agent_has_heard_gets_its_fin_out() -> None:
    delays = "cluster: {cni: calico, delays: {app_exit_s: 0, network_removed_s: 0.3, sandbox_gone_s: 1}}\n"
    lab, victim, rows = force_deleted(delays)
    lab.advance(30 * S)
    assert "its sandbox is still there" in next(f.text for f in lab.facts if f.what is What.NETWORK_REMOVED)
    assert all(row.latency_ns < S for row in to(lab, victim, rows))


def test_an_agent_that_is_cut_off_from_the_api_hears_nothing_until_it_is_back() -> None:
    lab = direct(20.0, client=KEEPS, more="cluster: {cni: calico, delays: {app_exit_s: 40, minimum_grace_s: 60}}\n")
    lab.advance(3 * S)
    victim = elsewhere(lab)
    pod = lab.store.get(victim)
    assert isinstance(pod, Pod)
    node = Key("Node", "", pod.spec.node_name)
    assert lab.do(Act("isolate", node)).ok
    assert lab.do(Kill(victim, "force")).ok
    lab.advance(10 * S)
    assert not ended(lab)
    assert lab.do(Act("heal", node)).ok
    lab.advance(40 * S)
    assert ended(lab) == [victim.name]


def test_results_do_not_depend_on_the_slab() -> None:
    spec = direct(20.0, client=f"{KEEPS}, keepaliveTimeout: 4s", more=CALICO).spec
    digests = set()
    for slab_ns in (50 * MS, 500 * MS):
        lab = Lab(spec, slab_ns)
        lab.advance(3 * S)
        assert lab.do(Kill(elsewhere(lab), "force")).ok
        lab.advance(14 * S)
        digests.add(lab.digest())
    assert len(digests) == 1


def test_a_scenario_names_its_cni_plugin(tmp_path: Path) -> None:
    lab = direct(1.0, more=CALICO)
    assert lab.journal.as_tree(S)["cluster"]["cni"] == "calico"
    assert any("CNI calico: callers on the pod's own node" in text for text, _ in lab.assumptions)
    assert not any("CNI " in text for text, _ in direct(1.0).assumptions)
    forced = "actions:\n- {at: 3s, forceDelete: {workload: default/Deployment/web, ordinal: 1}}\n"
    said = [text for text, _ in direct(1.0, more=forced).assumptions if "CNI bridge" in text]
    assert "No route to host as soon as ARP for it has failed" in said[0]
    head = "kflab: scenario/v1\nmanifests:\n  documents: [{name: a, text: ''}]\ncluster:\n  cni: "
    with pytest.raises(KflabError, match=r"x.yaml:5:8: cni 'cilium': expected one of bridge, calico"):
        load_text(f"{head}cilium\n", "x.yaml")
