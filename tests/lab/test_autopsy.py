"""Every request that failed or was slowed is on one bill, with the cause and the window that lost it."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from small_labs import S, direct, kept_rows, pods

from kflab.lab import autopsy
from kflab.lab.autopsy_values import AutopsyReport
from kflab.lab.bills import Cause
from kflab.lab.commands import Act, Kill, Scale, Stop
from kflab.lab.gantt import as_tree
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.scenario.format import load


def adds_up(lab: Lab) -> AutopsyReport:
    """Bills, the Gantt's rows and the totals have one sum."""
    report = lab.gantt.report()
    lost = lab.totals.failed + lab.totals.slowed
    assert report.billed == lost
    assert sum(bill.lost for bill in report.bills) == lost
    assert sum(group.lost for group in report.groups) == lost
    for group in report.groups:
        for event in group.events:
            assert sum(row.lost for row in event.rows) == event.lost
    assert report.unexplained == 0
    return report


@pytest.fixture(scope="module")
def crashed() -> Lab:
    lab = Lab(load("pod-crash").spec)
    lab.advance(12 * S)
    return lab


def test_a_crash_is_billed_to_the_callers_rules_until_they_change(crashed: Lab) -> None:
    report = adds_up(crashed)
    (bill,) = report.bills
    assert (bill.cause, bill.observer) == (Cause.STALE, "kube-proxy/node-a")
    moved = crashed.knowledge().moved_ns
    assert moved is not None
    assert (bill.from_ns, bill.until_ns) == (5 * S, moved)
    assert bill.title.startswith(f"node-a's rules were {(moved - 5 * S) / 1e9:.3f} s behind when product-")
    assert bill.title.endswith("crashed")
    assert bill.first_ns >= 5 * S
    assert bill.last_ns < moved


def test_the_gaps_are_those_of_who_had_to_learn(crashed: Lab) -> None:
    event = crashed.gantt.report().groups[0].events[0]
    rows = {row.name: row for row in event.rows}
    knew = {row.name: row.learned_ns for row in crashed.knowledge().knowers}
    for name in ("node-b kubelet", "EndpointSlice", "node-a rules", "node-b rules"):
        assert rows[name].knew_ns == knew[name]
    assert rows["node-b rules"].lost == 0  # nobody calls there
    assert rows["node-b kubelet"].lost > rows["EndpointSlice"].lost > 0
    assert rows["node-a rules"].gap_ns == rows["EndpointSlice"].knew_ns


def test_a_bill_opens_one_of_its_requests(crashed: Lab) -> None:
    (bill,) = crashed.gantt.report().bills
    assert bill.trace is not None
    assert bill.pod is not None
    trace = crashed.open_request(bill.trace)
    assert any(hop.outcome == "refused" for hop in trace.hops)
    assert any(bill.pod in hop.touches for hop in trace.hops)


CUT_NS = 5_100_000_000


def cut_off_a_pod(lab: Lab) -> Pod:
    """Cut the first pod's node off at `CUT_NS`."""
    lab.advance(CUT_NS)
    pod = lab.store.get(pods(lab)[0])
    assert isinstance(pod, Pod)
    assert lab.do(Act("partition", Key("Node", "", pod.spec.node_name))).ok
    return pod


@pytest.mark.parametrize("slab_ns", [S, S // 20])
def test_who_gave_up_before_its_node_was_cut_off_is_not_billed_to_the_cut(slab_ns: int) -> None:
    slow = "timing: {service_p50_ns: 600000000, service_p99_ns: 700000000}\n"
    lab = Lab(direct(rate=60, replicas=2, client=", attemptTimeout: 400ms", more=slow).spec, slab_ns)
    rows = kept_rows(lab)
    pod = cut_off_a_pod(lab)
    lab.advance(8 * S)
    adds_up(lab)
    (lost,) = (bill for bill in lab.autopsy.bills if bill.cut == pod.spec.node_name)
    assert (lost.cause, lost.from_ns, lost.pod) == (Cause.STALE, CUT_NS, pod.key)
    there = {i for i, server in enumerate(lab.wiring.servers) if server[3] == pod.key}
    assert lost.failed == sum(row.start_ns >= CUT_NS and row.servers[0] in there for row in rows)


def partitioned(slab_ns: int, until_ns: int) -> Lab:
    """node-3 is cut off at 10 s and healed at 120 s; a client calls from node-1 and one from node-3 itself."""
    lab = Lab(load("node-partition").spec, slab_ns=slab_ns)
    lab.advance(until_ns)
    return lab


def test_a_partition_shows_who_knew_when_that_a_pod_was_out_of_reach() -> None:
    lab = partitioned(500_000_000, 150 * S)
    report = adds_up(lab)
    behind, caller = sorted(report.bills, key=lambda bill: bill.cause, reverse=True)
    event = next(e for g in report.groups for e in g.events if e.id == behind.event)
    assert event.what.endswith(" was cut off with its node")
    rows = {row.name: row for row in event.rows}
    knew = [rows[name].knew_ns for name in ("node-lifecycle-controller", "EndpointSlice", "node-1 rules")]
    assert None not in knew
    assert sorted(knew) == knew
    assert 40 * S <= knew[0] - 10 * S <= 55 * S  # lifecycle 4D.2
    assert behind.title.startswith(
        f"node-1's rules were {(knew[2] - 10 * S) / 1e9:.3f} s behind when {behind.pod.name}"
    )
    assert (behind.cause, behind.from_ns, behind.until_ns) == (Cause.STALE, 10 * S, knew[2])
    assert behind.last_ns < knew[2]
    assert rows["node-lifecycle-controller"].lost > 0.9 * behind.failed  # nobody could tell before
    assert rows["node-3 rules"].knew_ns > 120 * S  # it hears nothing while it is cut off
    # The client on the node itself: no rule helps where nothing leaves.
    assert (caller.cause, caller.from_ns, caller.until_ns) == (Cause.NODE_LOST, 10 * S, 120 * S)
    back = [e for g in report.groups for e in g.events if e.kind == "start" and e.pod == behind.pod]
    assert [e.t_ns for e in back] == [120 * S]
    assert back[0].what == f"{behind.pod.name} is back with its node", "it never stopped answering"


def test_slabs_do_not_decide_the_bills_of_a_partition() -> None:
    one, other = (as_tree(partitioned(slab_ns, 65 * S).gantt.report()) for slab_ns in (500_000_000, 90_000_000))
    assert json.dumps(one) == json.dumps(other)


def test_a_partition_that_nobody_noticed_ends_when_it_is_healed() -> None:
    lab = direct(rate=60, replicas=2)
    lab.advance(5 * S)
    pod = lab.store.get(pods(lab)[0])
    assert isinstance(pod, Pod)
    node = Key("Node", "", pod.spec.node_name)
    assert lab.do(Act("partition", node)).ok
    lab.advance(15 * S)
    assert lab.do(Act("heal", node)).ok
    lab.advance(25 * S)
    (bill,) = adds_up(lab).bills
    assert (bill.pod, bill.from_ns, bill.until_ns) == (pod.key, 5 * S, 15 * S)
    assert f"'s rules led to {pod.meta.name}, which was cut off with its node for 10.000 s" in bill.title
    assert not [e for g in lab.gantt.report().groups for e in g.events if e.kind == "start"]


@pytest.mark.parametrize("slab_ns", [500_000_000, 70_000_000])
def test_what_was_on_its_way_over_a_node_that_is_cut_off_is_billed_to_the_cut(slab_ns: int) -> None:
    """node-b is a target of the load balancer and hands on to the ingress pods of node-a."""
    lab = Lab(load("overview-defaults").spec, slab_ns=slab_ns)
    cut_ns = 3_745_000_000
    lab.advance(cut_ns)
    assert lab.do(Act("partition", Key("Node", "", "node-b"))).ok
    lab.advance(5 * S)
    assert lab.do(Act("heal", Key("Node", "", "node-b"))).ok
    lab.advance(70 * S)
    report = adds_up(lab)
    (hop,) = (bill for bill in report.bills if bill.title == "in hand by way of node-b when it left the network")
    assert (hop.cause, hop.from_ns) == (Cause.IN_FLIGHT, cut_ns)
    assert hop.last_ns < cut_ns
    assert hop.failed > 0


def test_a_node_cut_off_from_the_api_alone_serves_on() -> None:
    lab = direct(rate=60, replicas=2)
    lab.advance(5 * S)
    pod = lab.store.get(pods(lab)[0])
    assert isinstance(pod, Pod)
    assert lab.do(Act("isolate", Key("Node", "", pod.spec.node_name))).ok
    lab.advance(20 * S)
    assert not adds_up(lab).bills
    assert not [e for g in lab.gantt.report().groups for e in g.events if e.what.endswith("cut off with its node")]


def test_slabs_do_not_decide_the_bills(crashed: Lab) -> None:
    other = Lab(load("pod-crash").spec, slab_ns=70_000_000)
    for t_ns in range(0, 12 * S, 1_300_000_000):
        other.advance(t_ns)
    other.advance(12 * S)
    assert json.dumps(as_tree(other.gantt.report())) == json.dumps(as_tree(crashed.gantt.report()))


def test_a_graceful_delete_loses_from_sigterm_until_the_rules_change() -> None:
    lab = direct(rate=2000)
    lab.advance(5 * S)
    assert lab.do(Kill(pods(lab)[0], "delete")).ok
    lab.advance(15 * S)
    report = adds_up(lab)
    (bill,) = report.bills
    assert bill.cause == Cause.STALE
    assert "got SIGTERM" in bill.title
    assert dict(bill.outcomes) == {"refused": bill.failed}
    rows = {row.name: row for row in next(e for g in report.groups for e in g.events if e.lost).rows}
    learned = next(row for row in rows.values() if row.calls and row.kind == "rules")
    # The API server knew at once, the kubelet keeps nobody waiting: only the slice and the node's rules were behind.
    assert rows["EndpointSlice"].lost + learned.lost == bill.failed
    assert learned.lost > 0
    assert bill.until_ns == learned.knew_ns


def test_requests_in_hand_when_a_pod_crashes_have_a_bill_of_their_own() -> None:
    lab = direct(rate=4000, replicas=2)
    lab.advance(5 * S)
    assert lab.do(Kill(pods(lab)[0])).ok
    lab.advance(9 * S)
    bills = {bill.cause: bill for bill in adds_up(lab).bills}
    assert dict(bills[Cause.IN_FLIGHT].outcomes) == {"reset": bills[Cause.IN_FLIGHT].lost}
    assert bills[Cause.IN_FLIGHT].from_ns == 5 * S
    assert bills[Cause.STALE].outcomes[0][0] == "refused"


def test_no_endpoints_is_a_window_until_one_is_ready() -> None:
    lab = direct(rate=500)
    lab.advance(5 * S)
    assert lab.do(Scale(Key("Deployment", "default", "web"), 0)).ok
    lab.advance(12 * S)
    assert adds_up(lab).bills[-1].until_ns is None
    assert lab.do(Scale(Key("Deployment", "default", "web"), 2)).ok
    lab.advance(20 * S)
    bill = adds_up(lab).bills[-1]
    assert bill.cause == Cause.NO_ENDPOINTS
    assert bill.title.startswith("web has no ready endpoint: REJECT by node-")
    assert bill.until_ns is not None
    assert 12 * S < bill.until_ns < 16 * S
    assert bill.failed > 2500
    shown = next(event for group in lab.gantt.report().groups for event in group.events if event.id == bill.event)
    assert shown.lost == bill.lost


def test_a_stopped_proxy_leaves_the_window_open() -> None:
    lab = direct(rate=300)
    lab.advance(2 * S)
    node = next(wired.entries for wired in lab.wiring.wired).keys()
    for name in node:
        assert lab.do(Stop(f"kube-proxy/{name}")).ok
    assert lab.do(Kill(pods(lab)[0], "force")).ok
    lab.advance(20 * S)
    bill = adds_up(lab).bills[-1]
    assert bill.until_ns is None
    assert "still lead to" in bill.title
    assert "5 s connect timeout ×" in bill.title
    assert dict(bill.outcomes).keys() <= {"refused", "timeout"}


def test_every_billed_request_is_one_that_finished_so() -> None:
    lab = direct(rate=1000, replicas=2)
    kept = kept_rows(lab)
    lab.advance(3 * S)
    for pod in pods(lab):
        assert lab.do(Kill(pod, "delete")).ok
        lab.advance(lab.t_ns + 2 * S)
    lab.advance(15 * S)
    report = adds_up(lab)
    billed: Counter[str] = Counter()
    for bill in report.bills:
        billed.update(dict(bill.outcomes))
    assert billed == lab.totals.by_status
    assert sum(not row.ok for row in kept) == sum(billed.values()) > 0


def test_old_bills_are_put_together_and_still_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autopsy, "KEPT_BILLS", 2)
    lab = direct(rate=1000, replicas=3)
    for i in range(5):
        lab.advance((3 * i + 2) * S)
        assert lab.do(Kill(pods(lab)[i % 3], "delete")).ok
    lab.advance(20 * S)
    report = adds_up(lab)
    assert len([bill for bill in report.bills if bill.observer]) <= 2
    assert len(report.bills) > 2


SHOP = """
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: nginx
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
"""


def test_nginx_that_never_knew_a_pod_is_who_answers_503() -> None:
    lab = Lab(LabSpec("shop", (Tab("shop.yaml", SHOP, None),), url="http://shop.example.com/", rate_rps=20.0))
    lab.advance(3 * S)
    (bill,) = adds_up(lab).bills
    assert bill.cause == Cause.NO_ENDPOINTS
    assert bill.observer.startswith("ingress/ingress-nginx/")
    assert bill.outcomes[0][0] == "503"


def test_a_forced_deletion_is_one_event_whose_kubelet_knows() -> None:
    """The object goes at once, the process after its SIGTERM: both are the end of one pod."""
    lab = direct(rate=300)
    lab.advance(2 * S)
    pod = pods(lab)[0]
    assert lab.do(Kill(pod, "force")).ok
    lab.advance(10 * S)
    [event] = [e for group in adds_up(lab).groups for e in group.events if e.pod == pod and e.kind == "end"]
    kubelet = next(row for row in event.rows if row.kind == "kubelet")
    assert kubelet.knew_ns is not None
    assert kubelet.note.startswith("SIGTERM at +0.")


@pytest.mark.parametrize(("mode", "how"), [("iptables", "DROP"), ("nftables", "DROP"), ("ipvs", "REJECT")])
def test_policy_local_is_named_where_other_nodes_have_the_pods(mode: str, how: str) -> None:
    spec = direct(replicas=1, service="type: ClusterIP\n  internalTrafficPolicy: Local").spec
    proxy = f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n"
    lab = Lab(replace(spec, tabs=(*spec.tabs, Tab("proxy.yaml", proxy, None))))
    lab.advance(8 * S)
    (bill,) = adds_up(lab).bills
    assert bill.cause == Cause.NO_LOCAL
    assert bill.title.startswith(f"policy Local and no endpoint of web on the node: {how} by node-")
    lab.do(Scale(Key("Deployment", "default", "web"), 0))
    lab.advance(20 * S)
    assert adds_up(lab).bills[-1].title.startswith("web has no ready endpoint: REJECT by node-")


def test_a_pod_that_listens_on_nothing_starts_and_has_not_stopped_answering() -> None:
    lab = direct()
    lab.advance(S)
    assert lab.do(Scale(Key("Deployment", "default", "app"), 2)).ok
    lab.advance(20 * S)
    assert len(pods(lab, "app")) == 2
    assert [event.what for group in lab.gantt.report().groups for event in group.events] == []


def test_with_a_sidecar_each_end_and_each_start_is_the_applications_own() -> None:
    mesh = (
        "{kind: Deployment, apiVersion: apps/v1, metadata: {name: web}, spec: {template: {spec: {initContainers: "
        "[{name: mesh, image: 'mesh:1', restartPolicy: Always, ports: [{containerPort: 15001}]}]}}}}"
    )
    base = direct().spec
    lab = Lab(replace(base, tabs=(*base.tabs, Tab("mesh.yaml", mesh, None, "patches"))))
    lab.advance(S)
    pod = pods(lab)[0]

    def ends_and_starts() -> list[str]:
        adds_up(lab)
        found = (event for group in lab.gantt.report().groups for event in group.events if event.kind != "window")
        return [event.what.removeprefix(f"{pod.name} ") for event in found if event.pod == pod]

    assert lab.do(Kill(pod)).ok
    lab.advance(20 * S)
    assert ends_and_starts() == ["crashed", "began to answer"]
    assert lab.do(Act("exit", pod, (("container", "mesh"),))).ok
    lab.advance(40 * S)
    rows = {row.name: row for event in lab.gantt.report().groups[-1].events for row in event.rows}
    assert (rows["truth"].note, rows["truth"].knew_ns) == ("still answers", None)
    assert lab.do(Kill(pod, "delete")).ok
    lab.advance(60 * S)
    assert ends_and_starts() == ["crashed", "began to answer", "crashed", "was deleted"]


@pytest.mark.parametrize("slab_ns", [S, S // 20])
def test_who_gave_up_on_what_was_in_hand_when_its_pods_node_was_cut_off_is_billed_to_the_cut(slab_ns: int) -> None:
    slow = "timing: {service_p50_ns: 600000000, service_p99_ns: 700000000}\n"
    lab = Lab(direct(rate=10, replicas=2, client=", timeout: 4s", more=slow).spec, slab_ns)
    rows = kept_rows(lab)
    pod = cut_off_a_pod(lab)
    lab.advance(12 * S)
    adds_up(lab)
    assert not [bill for bill in lab.autopsy.bills if bill.cause == Cause.DEADLINE]
    (lost,) = (bill for bill in lab.autopsy.bills if bill.cause == Cause.IN_FLIGHT)
    assert (lost.from_ns, lost.pod) == (CUT_NS, pod.key)
    title = next(row.title for row in lab.gantt.report().bills if row.id == lost.id)
    assert title == f"in hand at {pod.meta.name} when it was cut off with its node"
    there = {i for i, server in enumerate(lab.wiring.servers) if server[3] == pod.key}
    before = [row for row in rows if row.start_ns < CUT_NS <= row.finish_ns and row.servers[0] in there]
    assert lost.failed == len(before) > 0
