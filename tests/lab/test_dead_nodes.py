"""What callers meet while a node is dead or cut off: silence, on every way that leads there or through it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.engine.types import Answer, Finished
from kflab.errors import KflabError
from kflab.lab.bills import Cause
from kflab.lab.commands import Act
from kflab.lab.handle import Tab
from kflab.lab.records import record
from kflab.lab.running import Lab
from kflab.lab.spec import HOST_GW, ClientSpec, LabSpec, PinSpec
from kflab.manifest.objects import Key
from kflab.scenario.format import load, load_text

S = 10**9
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 3
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {type: LoadBalancer, selector: {app: app}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: web, image: x}]}
"""

WEB = ClientSpec("http://app", rate_rps=60.0, name="web", from_pod="default/web")


def lab_of(*clients: ClientSpec, text: str = APP, **spec: object) -> Lab:
    lab = Lab(LabSpec("dead", (Tab("app.yaml", text, None),), clients=clients, nodes=3, **spec))
    lab.rows: list[Finished] = []
    lab.watch_rows(lab.rows.append)
    lab.advance(5 * S)
    return lab


def do(lab: Lab, verb: str, node: str, **options: object) -> None:
    result = lab.do(Act(verb, Key("Node", "", node), tuple(options.items())))
    assert result.ok, result.text


def failed(lab: Lab, from_s: float, to_s: float) -> tuple[int, int, set[int]]:
    """(sent, failed, statuses of the failed) of requests that started in [from, to)."""
    sent = bad = 0
    statuses: set[int] = set()
    for rows in lab.rows:
        ours = (rows.start_ns >= from_s * S) & (rows.start_ns < to_s * S)
        wrong = ours & (rows.status != 200)
        sent, bad = sent + int(np.count_nonzero(ours)), bad + int(np.count_nonzero(wrong))
        statuses |= set(rows.status[wrong].tolist())
    return sent, bad, statuses


def node_of(lab: Lab, name: str) -> str:
    return next(p.spec.node_name for p in lab.store.of_kind("Pod") if p.meta.name.startswith(name))


def test_a_dead_node_of_a_pod_costs_its_share_of_new_connections():
    lab = lab_of(WEB)
    do(lab, "powerOff", "node-3")
    lab.advance(40 * S)
    sent, bad, statuses = failed(lab, 6, 30)
    assert 0.25 < bad / sent < 0.42
    assert statuses == {-Answer.TIMEOUT}
    waits = {int(w) for rows in lab.rows for w in (rows.finish_ns - rows.start_ns)[rows.status != 200]}
    assert lab.engine.timing.connect_timeout_ns in waits
    service = next(band for band in lab.snapshot().bands if band.kind == "service")
    states = {row.node: row.state for row in service.candidates}
    assert states["node-3"] == "no power", "no container crashed"
    assert "tries timed out so far" in service.footer
    lab.advance(90 * S)
    assert failed(lab, 70, 84)[1] == 0


def test_a_node_loses_power_while_requests_wait_for_a_service_that_never_had_a_pod():
    nobody = APP.replace("replicas: 3", "replicas: 0").replace("{type: L", "{externalTrafficPolicy: Local, type: L")
    tab = Tab("app.yaml", nobody, None)
    client = ClientSpec("http://198.51.100.10/", 20.0)
    lab = Lab(LabSpec("empty", (tab,), clients=(client,), nodes=2, load_balancer="metallb-l2"))
    lab.advance(2 * S)
    assert lab.totals.in_flight == lab.totals.sent > 0
    assert lab.do(Act("powerOff", Key("Node", "", "node-1"))).ok
    lab.advance(5 * S)
    assert set(lab.totals.by_status) <= {"timeout"}


def test_the_trace_of_such_a_request_says_why():
    lab = lab_of(WEB)
    do(lab, "powerOff", "node-3")
    lab.advance(12 * S)
    one = next(record(r, i) for r in lab.rows for i in np.flatnonzero((r.status != 200) & (r.start_ns > 6 * S)))
    trace = lab.reopener.open_record(one)
    assert trace.status == "timeout"
    assert "node-3 has no power" in trace.hops[-1].why
    assert not any(hop.outcome == "mismatch" for hop in trace.hops)


def test_a_partition_is_silent_between_nodes_and_leaves_the_node_itself_alone():
    lab = lab_of(WEB)
    do(lab, "partition", "node-1")  # the caller's own node
    lab.advance(30 * S)
    sent, bad, statuses = failed(lab, 6, 20)
    assert 0.55 < bad / sent < 0.78  # two of three pods are elsewhere; its own rules go on listing them
    assert statuses == {-Answer.TIMEOUT}
    lab.advance(60 * S)
    do(lab, "heal", "node-1")
    lab.advance(90 * S)
    assert failed(lab, 61, 84)[1] == 0


def test_cut_off_from_the_api_alone_traffic_flows_and_rules_go_stale():
    lab = lab_of(WEB)
    do(lab, "isolate", "node-1")
    lab.advance(100 * S)
    assert failed(lab, 5, 90)[1] == 0
    assert lab.store.get(Key("Node", "", "node-1")).ready == "Unknown"
    stale = lab.plane.observers["kube-proxy/node-1"].revision
    assert stale < lab.plane.observers["kube-proxy/node-2"].revision


def test_a_pod_on_a_dead_node_calls_nobody_until_it_runs_again():
    lab = lab_of(WEB)
    do(lab, "powerOff", "node-1")
    lab.advance(20 * S)
    assert failed(lab, 5.001, 20)[0] == 0
    do(lab, "powerOn", "node-1")
    lab.advance(100 * S)
    assert failed(lab, 90, 95)[0] > 200


def test_a_load_balancer_sends_to_a_dead_node_until_its_checks_have_failed():
    pins = PinSpec(load_balancer_ips={"default/app": "52.100.10.20"})
    lab = lab_of(ClientSpec("http://52.100.10.20", rate_rps=60.0), pins=pins, load_balancer="gcp")
    do(lab, "powerOff", "node-3")
    lab.advance(60 * S)
    facts = [f for f in lab.facts if "found node-3 unhealthy" in f.text]
    assert len(facts) == 1
    out = facts[0].t_ns / S - 5
    assert 17 <= out <= 26  # three checks, 8 s apart, and the last one's timeout of 1 s
    sent, bad, _ = failed(lab, 6, 5 + out)
    assert bad / sent > 0.45  # a third of the hops, and a third of the pods behind the others
    sent, bad, _ = failed(lab, 5 + out + 0.1, 40)
    assert 0.2 < bad / sent < 0.45  # only the pods now


def test_results_do_not_depend_on_the_slab():
    digests = set()
    for slab_ns in (50_000_000, 500_000_000):
        lab = Lab(LabSpec("dead", (Tab("app.yaml", APP, None),), clients=(WEB,), nodes=3), slab_ns=slab_ns)
        lab.advance(5 * S)
        do(lab, "powerOff", "node-3")
        lab.advance(8 * S)
        do(lab, "partition", "node-2", link="network")
        lab.advance(12 * S)
        do(lab, "heal", "node-2")
        lab.advance(15 * S)
        digests.add(lab.digest())
    assert len(digests) == 1


def test_what_a_partition_costs_is_billed_to_the_node_that_was_cut_off():
    lab = lab_of(WEB)
    do(lab, "partition", "node-1")
    lab.advance(30 * S)
    do(lab, "heal", "node-1")
    lab.advance(50 * S)
    (bill,) = lab.autopsy.bills
    assert (bill.cause, bill.node, bill.from_ns, bill.until_ns) == (Cause.NODE_LOST, "node-1", 5 * S, 30 * S)
    assert bill.failed == lab.totals.failed > 100


def test_a_dead_hop_and_a_dead_backend_are_billed_apart():
    pins = PinSpec(load_balancer_ips={"default/app": "52.100.10.20"})
    lab = lab_of(ClientSpec("http://52.100.10.20", rate_rps=60.0), pins=pins, load_balancer="gcp")
    do(lab, "powerOff", "node-3")
    lab.advance(20 * S)
    causes = {bill.cause for bill in lab.autopsy.bills}
    assert causes == {Cause.NODE_LOST, Cause.STALE}
    (hop,) = (bill for bill in lab.gantt.report().bills if bill.cause == Cause.NODE_LOST)
    assert (hop.title, hop.until_ns) == ("load balancer app still sends to node-3, which is off the network", None)
    lab.advance(40 * S)
    (hop,) = (bill for bill in lab.gantt.report().bills if bill.cause == Cause.NODE_LOST)
    out_ns = next(f.t_ns for f in lab.facts if "found node-3 unhealthy" in f.text)
    assert (hop.observer, hop.from_ns, hop.until_ns) == ("lb/default/app", 5 * S, out_ns)
    assert hop.title == f"load balancer app sent to node-3 for {(out_ns - 5 * S) / S:.3f} s after it left the network"
    assert hop.last_ns < out_ns
    (row,) = (r for g in lab.gantt.report().groups for e in g.events for r in e.rows if r.name == "app targets")
    assert (row.knew_ns, row.lost) == (out_ns, hop.failed)


def test_who_knows_and_the_nodes_view_tell_truth_from_what_the_api_says():
    lab = lab_of(WEB)
    do(lab, "powerOff", "node-3")
    lab.advance(20 * S)
    row = next(each for each in lab.knowledge().knowers if each.name == "node controller")
    assert (row.word, row.revision) == ("not noticed yet", "lease 16s")
    node = next(each for each in lab.snapshot().nodes if each.key.name == "node-3")
    assert (node.ready, node.outage) == ("True", "no power")
    assert {pod.state for pod in node.pods} == {"no power"}
    lab.advance(70 * S)
    row = next(each for each in lab.knowledge().knowers if each.name == "node controller")
    assert (row.word, row.revision) == ("noticed", "Unknown")
    assert 44 * S < row.learned_ns - 5 * S < 56 * S


def test_on_one_ethernet_callers_in_the_cluster_have_no_route_to_host_once_arp_has_failed() -> None:
    outside = ClientSpec("http://app", rate_rps=60.0, name="outside")
    pins = PinSpec(public_names={"app": "default/app"})
    lab = lab_of(WEB, outside, pod_network=HOST_GW, pins=pins)
    do(lab, "powerOff", "node-3")
    lab.advance(62 * S)
    inside = [rows.only(rows.stream == 0) for rows in lab.rows]
    late = [rows.only((rows.start_ns > 59 * S - 3 * S) & (rows.start_ns < 56 * S + 2 * S)) for rows in inside]
    answers = {int(status) for rows in late for status in rows.status}
    assert answers == {200, -Answer.UNREACHABLE}
    waits = [int(w) for rows in late for w in (rows.finish_ns - rows.start_ns)[rows.status < 0]]
    assert 0 < min(waits)
    assert max(waits) <= 3 * S
    assert -Answer.UNREACHABLE not in {int(status) for rows in lab.rows for status in rows.status[rows.stream == 1]}
    lost = [record(rows, i) for rows in inside for i in range(len(rows)) if rows.status[i] == -Answer.UNREACHABLE]
    for one in lost[::9]:
        trace = lab.reopener.open_record(one)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
        assert trace.status == "no route"
        assert "no route to host in" in trace.hops[-1].why
        assert "node-3 has no power; ARP asks for it three times and gets no answer" in trace.hops[-1].why
        assert sum(ns for _, ns in trace.parts) == one.latency_ns
    assert {bill.cause for bill in lab.autopsy.bills} <= {Cause.STALE, Cause.NODE_LOST, Cause.DEAF}
    assert any("pod network host-gw" in text for text, _ in lab.assumptions)


def test_nobody_waits_for_the_route_of_a_datagram() -> None:
    text = APP.replace("containerPort: 8080", "containerPort: 8080, protocol: UDP")
    text = text.replace("port: 80, targetPort: 8080", "port: 80, targetPort: 8080, protocol: UDP")
    client = ClientSpec("udp://app:80", rate_rps=60.0, name="web", from_pod="default/web")
    lab = lab_of(client, text=text, pod_network=HOST_GW)
    do(lab, "powerOff", "node-3")
    lab.advance(60 * S)
    assert failed(lab, 35, 50)[2] == {-Answer.TIMEOUT}


def test_a_scenario_says_which_network_lies_between_its_nodes() -> None:
    routed = Lab(load(str(SCENARIOS / "node-power-loss.yaml")).spec)
    assert any("pod network routed: a router between the nodes" in text for text, _ in routed.assumptions)
    spec = load(str(SCENARIOS / "node-power-loss-l2.yaml")).spec
    assert spec.pod_network == HOST_GW
    assert Lab(spec).journal.as_tree(S)["cluster"]["podNetwork"] == "host-gw"
    head = "kflab: scenario/v1\nmanifests:\n  documents: [{name: a, text: ''}]\ncluster:\n  podNetwork: "
    with pytest.raises(KflabError, match=r"x.yaml:5:15: podNetwork 'vxlan': expected one of routed, host-gw"):
        load_text(f"{head}vxlan\n", "x.yaml")


def test_tries_that_find_nobody_left_are_not_said_to_be_over():
    lab = lab_of(WEB, text=APP.replace("replicas: 3", "replicas: 1"))
    do(lab, "partition", node_of(lab, "app-"))
    service = Key("Service", "default", "app")
    lab.advance(70 * S)
    moved = lab.knowledge().moved_ns
    assert moved is not None
    before, text, _ = lab.view.lost_in(service)
    lab.advance(80 * S)
    after, _, _ = lab.view.lost_in(service)
    assert after > before
    assert text.endswith(" so far")


FAULTS = st.lists(
    st.tuples(
        st.sampled_from([50, 400, 2_000, 9_000, 30_000]),
        st.sampled_from(["partition", "heal", "isolate", "powerOff", "powerOn", "shutdown", "drain"]),
        st.sampled_from(["node-1", "node-2", "node-3"]),
    ),
    min_size=1,
    max_size=5,
)
"""(ms to wait, what to do then, to which node)."""


@settings(max_examples=8, deadline=None)
@given(told=FAULTS)
def test_whatever_befalls_nodes_each_lost_request_is_on_one_explained_bill(told):
    pins = PinSpec(load_balancer_ips={"default/app": "52.100.10.20"})
    lab = lab_of(WEB, ClientSpec("http://52.100.10.20", rate_rps=40.0), pins=pins, load_balancer="gcp")
    for wait_ms, verb, node in told:
        lab.advance(lab.t_ns + wait_ms * 1_000_000)
        try:
            lab.do(Act(verb, Key("Node", "", node)))
        except KflabError:
            continue
    lab.advance(lab.t_ns + 66 * S)
    report = lab.gantt.report()
    assert report.billed == lab.totals.failed + lab.totals.slowed
    assert sum(row.lost for g in report.groups for e in g.events for row in e.rows) == report.billed
    assert report.unexplained == 0, [bill.title for bill in report.bills]
