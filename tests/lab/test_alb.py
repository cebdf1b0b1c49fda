"""An Ingress of class alb: which target answers, what the pod sees, and what the client is told when none does."""

from collections import Counter

import numpy as np
import pytest

from kflab.dataplane.packets import RequestTrace
from kflab.engine.types import Finished
from kflab.errors import KflabError
from kflab.lab.commands import Act, Apply, Kill, Scale
from kflab.lab.handle import Tab
from kflab.lab.public_names import public_names
from kflab.lab.records import record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Ingress

S = 10**9

CLIENT = "203.0.113.45"

WEB = Key("Deployment", "default", "web")

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 3
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers:
      - {name: app, image: x, ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec:
  type: TYPE
  selector: {app: NAME}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
"""

SHOP = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations: {alb.ingress.kubernetes.io/scheme: internet-facing, MORE}
spec:
  ingressClassName: alb
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
      - {path: /none, pathType: Exact, backend: {service: {name: nobody, port: {number: 80}}}}
"""

IP = "alb.ingress.kubernetes.io/target-type: ip"


def manifests(more: str = "", kind: str = "NodePort", names: tuple[str, ...] = ("web",)) -> str:
    apps = "".join(APP.replace("NAME", name).replace("TYPE", kind) for name in names)
    return apps + SHOP.replace(", MORE", f", {more}" if more else "")


def lab_of(more: str = "", kind: str = "NodePort", url: str = "http://shop.example.com/", **spec: object) -> Lab:
    tab = Tab("shop.yaml", manifests(more, kind), None)
    return Lab(LabSpec("alb", (tab,), url=url, rate_rps=300.0, **spec))  # type: ignore[arg-type]  # LabSpec's own fields


def run(lab: Lab, seconds: float) -> Finished:
    """What finishes in the next seconds."""
    rows: list[Finished] = []
    lab.watch_rows(rows.append)
    lab.advance(lab.t_ns + round(seconds * S))
    parts = [part for part in rows if len(part)]
    return parts[-1] if len(parts) == 1 else joined(parts)


def joined(parts: list[Finished]) -> Finished:
    names = [name for name in Finished.__slots__ if name != "extra"]
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in parts[0].extra}
    return Finished(**whole, extra=extra)


def statuses(rows: Finished) -> Counter[int]:
    return Counter(rows.status.tolist())


def opened(lab: Lab, rows: Finished, status: int) -> RequestTrace:
    """The last request with a status; the walk must agree with the row."""
    i = np.flatnonzero(rows.status == status)[-1]
    trace = lab.reopener.open_record(record(rows, int(i)))
    assert not [hop.why for hop in trace.hops if hop.outcome == "mismatch"]
    assert trace.status == str(status)
    return trace


def words(trace: RequestTrace) -> str:
    return " | ".join(f"{hop.where}: {hop.why} {hop.seen}" for hop in trace.hops)


@pytest.mark.parametrize(("more", "kind", "movers"), [
    ("", "NodePort", ["client", "load balancer", "kernel DNAT"]),
    (IP, "ClusterIP", ["client", "load balancer"]),
])  # fmt: skip
def test_targets_are_node_ports_or_pods_and_all_pods_serve(more: str, kind: str, movers: list[str]) -> None:
    lab = lab_of(more, kind)
    rows = run(lab, 10)
    assert set(statuses(rows)) == {200}
    pods = Counter(rows.try_server[:, 0].tolist())
    assert len(pods) == 3
    assert max(pods.values()) < 1.25 * min(pods.values())
    trace = opened(lab, rows, 200)
    assert [hop.mover for hop in trace.hops if hop.number] == movers
    said = words(trace)
    assert "host shop.example.com and path /*" in said
    assert f"X-Forwarded-For says {CLIENT}" in said
    hop = trace.hops[1]
    assert hop.after is not None
    assert hop.after.src == "10.0.0.5"


def test_the_status_of_the_ingress_has_the_name_that_dns_answers() -> None:
    lab = lab_of()
    ingress = lab.store.get(Key("Ingress", "default", "shop"))
    assert isinstance(ingress, Ingress)
    name = ingress.load_balancer[0].hostname
    assert name.startswith("k8s-default-shop-")
    assert name.endswith(".elb.amazonaws.com")
    assert public_names(lab)["shop.example.com"] == public_names(lab)[name]


def test_a_rule_to_a_service_that_does_not_exist_answers_503_itself() -> None:
    lab = lab_of(url="http://shop.example.com/none")
    rows = run(lab, 2)
    assert set(statuses(rows)) == {503}
    assert "Service nobody does not exist" in words(opened(lab, rows, 503))


def test_a_host_without_a_rule_gets_404_and_another_port_no_listener() -> None:
    name = next(iter(lab_of().plane.albs.values())).hostname
    lab = lab_of(url=f"http://{name}/")
    rows = run(lab, 1)
    assert set(statuses(rows)) == {404}
    assert "none of 2 rules has host" in words(opened(lab, rows, 404))
    with pytest.raises(KflabError, match="no listener on port 8443; it has 80"):
        lab_of(url="https://shop.example.com:8443/")


def test_http_is_redirected_where_the_ingress_says_so() -> None:
    ports = """alb.ingress.kubernetes.io/listen-ports: '[{"HTTP": 80}, {"HTTPS": 443}]'"""
    redirect = "alb.ingress.kubernetes.io/ssl-redirect: '443'"
    lab = lab_of(f"{ports}, {redirect}")
    rows = run(lab, 1)
    assert set(statuses(rows)) == {301}
    assert "to https://shop.example.com:443/" in words(opened(lab, rows, 301))
    assert set(statuses(run(lab_of(f"{ports}, {redirect}", url="https://shop.example.com/"), 1))) == {200}


def test_instance_targets_of_a_cluster_ip_service_are_refused_as_the_controller_does() -> None:
    tab = Tab("shop.yaml", manifests("", "ClusterIP"), None)
    lab = Lab(LabSpec("alb", (tab,), rate_rps=100.0))
    assert not lab.plane.albs
    said = [text for text, _ in lab.assumptions if "FailedBuildModel" in text]
    assert said
    assert "needs a NodePort, and Service web is a ClusterIP" in said[0]


def test_no_ingress_controller_is_made_for_it() -> None:
    assert not lab_of().controllers.all()


def test_a_crashed_pod_is_a_502_and_no_other_target_is_tried() -> None:
    lab = lab_of(IP, "ClusterIP")
    lab.advance(2 * S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("web"))
    lab.do(Kill(pod))
    rows = run(lab, 0.3)
    assert set(statuses(rows)) == {200, 502}
    trace = opened(lab, rows, 502)
    assert trace.tries == 1
    assert "answers 502 itself: its target refused; it tries no other" in words(trace)


def test_a_pod_that_hangs_fails_http_checks_and_leaves_where_no_probe_takes_it_out() -> None:
    """Two checks of 5 s each, the first within 15 s: 20 to 35 s; a TCP check, as an NLB's, would go on to pass."""
    lab = lab_of(IP, "ClusterIP")
    lab.advance(S)
    (pod, *_) = [key for key in lab.plane.runtime if key.name.startswith("web-")]
    assert lab.do(Act("hang", pod)).ok
    lab.advance(19 * S)
    (balancer,) = lab.plane.balancers.values()
    assert len(balancer.healthy()) == 3
    lab.advance(37 * S)
    assert len(balancer.healthy()) == 2
    lab.advance(110 * S)  # what waited for it has got its 504 after 60 s of idleness
    assert set(statuses(run(lab, 10))) == {200}


def test_a_pod_that_is_gone_is_a_504_after_ten_seconds() -> None:
    lab = lab_of(IP, "ClusterIP")
    lab.advance(2 * S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("web"))
    lab.do(Kill(pod, "force"))
    rows = run(lab, 20)
    assert 504 in statuses(rows)
    late = rows.finish_ns - rows.start_ns
    assert set(late[rows.status == 504].tolist()) == {10 * S + 2 * lab.engine.timing.client_lb_ns}
    assert "answers 504 itself: its target did not answer in time" in words(opened(lab, rows, 504))


def test_how_long_it_waits_for_a_target_to_accept_can_be_set() -> None:
    lab = lab_of(IP, "ClusterIP", timing={"alb_connect_timeout_ns": 3 * S})
    lab.advance(2 * S)
    lab.do(Kill(next(key for key in lab.store.keys("Pod") if key.name.startswith("web")), "force"))
    rows = run(lab, 10)
    waited = (rows.finish_ns - rows.start_ns)[rows.status == 504]
    assert set(waited.tolist()) == {3 * S + 2 * lab.engine.timing.client_lb_ns}


def test_without_targets_it_answers_503_and_a_new_pod_has_to_pass_one_check_first() -> None:
    lab = lab_of(IP, "ClusterIP")
    lab.advance(S)
    lab.do(Scale(WEB, 0))
    lab.advance(40 * S)
    rows = run(lab, 1)
    assert set(statuses(rows)) == {503}
    assert "no target is registered" in words(opened(lab, rows, 503))
    lab.do(Scale(WEB, 1))
    group = next(iter(lab.plane.balancers.values()))
    while not group.targets:
        lab.advance(lab.t_ns + S // 10)
    assert [target.state for target in group.targets.values()] == ["initial"]
    rows = run(lab, 0.01)
    assert set(statuses(rows)) <= {503}
    lab.advance(lab.t_ns + 15 * S)
    assert set(statuses(run(lab, 1))) == {200}


def test_with_unhealthy_targets_alone_it_fails_open() -> None:
    lab = lab_of()
    lab.advance(S)
    lab.do(Scale(WEB, 0))
    lab.advance(60 * S)
    group = next(iter(lab.plane.balancers.values()))
    assert not group.healthy()
    rows = run(lab, 1)
    assert set(statuses(rows)) == {502}  # the node rejects, and all three get their share
    assert len(set(rows.node.tolist())) == 3


def test_a_changed_rule_leads_the_same_requests_elsewhere() -> None:
    tab = Tab("shop.yaml", manifests(IP, "ClusterIP", ("web", "next")), None)
    lab = Lab(LabSpec("alb", (tab,), url="http://shop.example.com/", rate_rps=300.0))
    assert set(statuses(run(lab, 1))) == {200}
    changed = manifests(IP, "ClusterIP", ("web", "next")).replace("service: {name: web,", "service: {name: next,")
    assert lab.do(Apply((("shop.yaml", changed),))).ok
    lab.advance(lab.t_ns + 30 * S)
    rows = run(lab, 2)
    assert set(statuses(rows)) == {200}
    pods = {lab.wiring.servers[server][3] for server in rows.try_server[:, 0].tolist()}
    assert all(pod is not None and pod.name.startswith("next") for pod in pods)
    opened(lab, rows, 200)


def test_requests_from_before_a_rule_was_taken_away_are_told_as_they_were() -> None:
    tab = Tab("shop.yaml", manifests(IP, "ClusterIP"), None)
    lab = Lab(LabSpec("alb", (tab,), url="http://shop.example.com/", rate_rps=300.0))
    before = run(lab, 1)
    changed = manifests(IP, "ClusterIP").replace("host: shop.example.com", "host: other.example.com")
    assert lab.do(Apply((("shop.yaml", changed),))).ok
    lab.advance(lab.t_ns + 30 * S)
    assert set(statuses(run(lab, 1))) == {404}
    for i in range(0, len(before), 20):
        trace = lab.reopener.open_record(record(before, i))
        assert not [hop.why for hop in trace.hops if hop.outcome == "mismatch"]


def test_an_ingress_of_later_gets_its_load_balancer_from_the_cloud() -> None:
    tab = Tab("shop.yaml", APP.replace("NAME", "web").replace("TYPE", "NodePort"), None)
    lab = Lab(LabSpec("alb", (tab,), rate_rps=100.0))
    lab.advance(S)
    assert lab.do(Apply((("shop.yaml", manifests()),))).ok
    lab.advance(30 * S)
    assert not lab.plane.albs
    lab.advance(240 * S)
    urls = {entry.url for entry in lab.entries()}
    assert "http://shop.example.com/" in urls
    index = next(entry.index for entry in lab.entries() if entry.url == "http://shop.example.com/")
    rows = run(lab, 5)
    assert set(rows.status[rows.stream == index].tolist()) == {200}


def test_the_topology_shows_the_load_balancer_and_its_pods() -> None:
    lab = lab_of(IP, "ClusterIP")
    lab.advance(3 * S)
    bands = {band.kind: band for band in lab.snapshot().bands}
    assert "ALB IP round robin, 3 of 3" in bands["lb"].detail
    assert "IP target" in bands["service"].detail
    assert len([row for row in bands["service"].candidates if row.rate_rps > 50]) == 3
