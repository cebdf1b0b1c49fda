"""Requests over a node that has left the cluster since: opened, they are what they were."""

import pytest

from kflab.lab.commands import Act, SetLoad
from kflab.lab.handle import Tab
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec, PinSpec
from kflab.manifest.objects import Key

S = 10**9

PROXY = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {mode}\n---"

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 4
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {type: LoadBalancer, POLICY selector: {app: app}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node-2, containers: [{name: web, image: x}]}
"""

USERS = ClientSpec("http://shop.example.com/", rate_rps=60.0, name="users")
WEB = ClientSpec("http://app/", rate_rps=60.0, name="web", from_pod="default/web")
PINS = PinSpec(public_names={"shop.example.com": "default/app"})


def lab_of(mode: str, policy: str) -> tuple[Lab, list[Record]]:
    tab = Tab("app.yaml", PROXY.format(mode=mode) + APP.replace("POLICY", policy), None)
    lab = Lab(LabSpec("removed", (tab,), clients=(USERS, WEB), nodes=3, pins=PINS))
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    return lab, kept


def told(lab: Lab, one: Record) -> list[tuple[object, ...]]:
    """What an opened request says, but for the ages of revisions."""
    trace = lab.reopener.open_record(one)
    return [trace.status, trace.source, trace.latency_ns, *(
        (hop.number, hop.where, hop.node, hop.before, hop.after, hop.mover, hop.why, hop.chance, hop.outcome)
        for hop in trace.hops
    )]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "policy"), [("iptables", ""), ("nftables", "externalTrafficPolicy: Local,"), ("ipvs", "")]
)
def test_what_passed_a_node_opens_as_before_when_the_node_is_gone(mode: str, policy: str) -> None:
    lab, kept = lab_of(mode, policy)
    lab.advance(10 * S)
    before = kept[-60:]
    then = [told(lab, one) for one in before]
    places = lab.wiring.places
    assert {places[one.node] for one in before if one.node >= 0} == {"node-1", "node-2", "node-3"}
    assert lab.do(Act("deleteVM", Key("Node", "", "node-2"))).ok
    for t_s in (60, 150):  # without its Node; without its pods, too
        lab.advance(t_s * S)
        assert lab.store.get(Key("Node", "", "node-2")) is None
        for one, words in zip(before, then, strict=True):
            assert told(lab, one) == words, (places[one.node], t_s)
    assert not [obj for obj in lab.store.of_kind("Pod") if obj.spec.node_name == "node-2"]
    meanwhile = [one for one in kept if 10 * S < one.start_ns < 60 * S]
    assert {places[one.node] for one in meanwhile if one.node >= 0} == {"node-1", "node-2", "node-3"}
    for one in meanwhile[::60]:
        assert not [hop for hop in lab.reopener.open_record(one).hops if hop.outcome == "mismatch"], one


def test_what_nobody_can_open_any_more_is_forgotten() -> None:
    lab, _ = lab_of("iptables", "")
    lab.advance(10 * S)
    lab.do(Act("deleteVM", Key("Node", "", "node-2")))
    lab.do(SetLoad(0.1))
    lab.advance(60 * S)
    assert lab.plane.observer_at("kube-proxy/node-2", 10 * S) is not None
    lab.advance(1500 * S)
    assert not lab.plane.core.former
    assert lab.plane.observer_at("kube-proxy/node-2", 10 * S) is None
    assert lab.store.last(Key("Node", "", "node-2")) is None
