"""Rows of nodes where nothing happens are kept from frame to frame: they are those that would be made anew."""

from kflab.lab.band_counts import frame
from kflab.lab.commands import Act, Kill, Scale, Start, Stop
from kflab.lab.node_rows import NodeRows
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec, Tab
from kflab.manifest.objects import Key

S = 1_000_000_000

CLUSTER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 8
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1, ports: [{containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  replicas: 12
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: idle, image: idle:1, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""

IDLE = Key("Deployment", "default", "idle")


def node(name: str) -> Key:
    return Key("Node", "", name)


def test_kept_rows_are_those_made_anew() -> None:
    lab = Lab(LabSpec("rows", (Tab("rows.yaml", CLUSTER, None),), nodes=6))
    kept = NodeRows(lab, lab.view)
    pods = [key for key in lab.store.keys("Pod") if key.name.startswith("idle-")]
    words: set[str] = set()
    for deed, seconds in (
        (Kill(pods[0]), 4),
        (Kill(pods[1], "delete"), 4),
        (Act("hang", pods[2]), 3),
        (Act("resume", pods[2]), 3),
        (Act("crashLoop", pods[3]), 20),
        (Stop("kube-proxy/node-2"), 2),
        (Scale(IDLE, 15), 6),
        (Act("partition", node("node-3")), 60),
        (Act("heal", node("node-3")), 15),
        (Start("kube-proxy/node-2"), 2),
        (Act("powerOff", node("node-4")), 120),
        (Act("drain", node("node-5")), 40),
    ):
        assert lab.do(deed).ok, deed
        for _ in range(seconds * 2):
            lab.advance(lab.t_ns + S // 2)
            counts, bands = frame(lab, 10), lab.view.snapshot().bands
            rows = kept.build(counts, bands)
            assert rows == NodeRows(lab, lab.view).build(counts, bands)
            words.update(pod.state for row in rows for pod in row.pods)
            words.update(pod.left.split()[0] for row in rows for pod in row.pods if pod.left)
    assert {"ready", "hung", "crashed", "no power", "terminating", "backoff", "evict"} <= words


def test_a_node_says_since_when_it_acts_on_the_revision_that_stands_beside() -> None:
    """A restarted pod comes back after the crash was known: its write is a revision of its own."""
    lab = Lab(LabSpec("rows", (Tab("rows.yaml", CLUSTER, None),), nodes=2))
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("web-"))
    assert lab.do(Kill(pod)).ok
    lab.advance(15 * S)
    incident = lab.knowing.incident
    assert incident is not None
    for row in NodeRows(lab, lab.view).build(frame(lab, 10), lab.view.snapshot().bands):
        known = lab.node_rules.at(row.key.name, lab.t_ns)
        assert known is not None
        assert row.rules == f"rev {known.revision}"
        assert row.rules_since_ns == known.written_ns > incident.learned[f"kube-proxy/{row.key.name}"]
