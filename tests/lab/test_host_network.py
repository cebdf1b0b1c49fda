"""Pods in their node's network: one address, several pods; the opened request agrees with its row."""

from pathlib import Path

from kflab.lab.commands import Kill
from kflab.lab.records import Record, record, status_text
from kflab.lab.running import Lab
from kflab.scenario.opening import open_what

MANIFESTS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      containers: [{name: a, image: "agent:1", ports: [{containerPort: 9100}]}]
---
apiVersion: v1
kind: Service
metadata: {name: agent}
spec: {selector: {app: agent}, ports: [{port: 80, targetPort: 9100}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: NodePort, selector: {app: agent}, ports: [{port: 80, targetPort: 9100}]}
"""
S = 1_000_000_000


def test_every_request_opens_as_it_went(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANIFESTS)
    lab = Lab(open_what([str(tmp_path / "a.yaml")]).spec)
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    lab.advance(3 * S)
    victim = next(key for key in lab.store.keys("Pod") if key.name.startswith("agent-"))
    assert lab.do(Kill(victim, "crash")).ok
    lab.advance(6 * S)
    assert lab.totals.ok > 400
    assert any(not row.ok for row in kept), "nobody met the crashed pod"
    pods = set()
    for row in kept:
        trace = lab.reopener.open_record(row)
        assert not [hop.why for hop in trace.hops if hop.outcome == "mismatch"]
        assert trace.status == status_text(row.status)
        pods |= {key for hop in trace.hops for key in hop.touches if key.kind == "Pod" and "agent" in key.name}
        if row.ok:
            assert trace.back, "a request that was answered has a way back"
            assert "agent-" in trace.back[0].where
    assert len(pods) == 3
