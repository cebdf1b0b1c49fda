"""Many kube-proxies told of as one wave: the lab's story, its tables and its hash are those of each told by itself."""

from dataclasses import astuple

import pytest

from kflab.control import proxysync
from kflab.control.waves import Wave
from kflab.lab.commands import Act, Kill, Scale, Start, Stop
from kflab.lab.running import Lab
from kflab.lab.spec import ClientSpec, LabSpec, Tab
from kflab.manifest.objects import Key

S = 1_000_000_000

NODES = 40

CLUSTER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec: {nodeName: node-7, containers: [{name: caller, image: caller:1}]}
"""

WEB = Key("Deployment", "default", "web")


def story(monkeypatch: pytest.MonkeyPatch, crowd: int) -> tuple[list[object], int]:
    """What there was to see, and how many syncs were told of as waves."""
    monkeypatch.setattr(proxysync, "CROWD", crowd)
    clients = (ClientSpec("http://web", 50.0, from_pod="default/caller"),)
    lab = Lab(LabSpec("crowd", (Tab("crowd.yaml", CLUSTER, None),), clients=clients, nodes=NODES))
    told: list[object] = []

    def wait(seconds: float) -> None:
        lab.advance(lab.t_ns + round(seconds * S))
        incident = lab.knowing.incident
        told.append((lab.t_ns, lab.digest(), lab.news.last_words, astuple(incident) if incident else None))
        told.append([astuple(spread) for spread in lab.autopsy.spreading.spreads])
        told.append((lab.knowing.marks[:], lab.view.snapshot().knowledge))

    pods = [key for key in lab.store.keys("Pod") if key.name.startswith("web-")]
    for deed in (Kill(pods[0]), Stop("kube-proxy/node-3"), Kill(pods[1], "delete"), Start("kube-proxy/node-3")):
        assert lab.do(deed).ok
        wait(2.3)
    assert lab.do(Act("powerOff", Key("Node", "", "node-5"))).ok
    wait(55)
    assert lab.do(Scale(WEB, 9)).ok
    wait(0.9)
    wait(4)
    told.append(lab.take_lines())
    told.append([(name, observer.versions) for name, observer in lab.plane.observers.items()])
    return told, sum(len(entry) for entry in lab.plane.core.facts if isinstance(entry, Wave))


def test_told_together_as_told_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    (together, in_waves), (alone, in_none) = story(monkeypatch, 2), story(monkeypatch, 10**9)
    assert in_waves > 5 * NODES
    assert not in_none
    assert len(together) == len(alone) > 20
    for ours, theirs in zip(together, alone, strict=True):
        assert ours == theirs
