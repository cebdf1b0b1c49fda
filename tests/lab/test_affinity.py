"""sessionAffinity ClientIP: a caller stays on its pod until the rules no longer list it."""

from pathlib import Path

from kflab.lab.commands import Kill
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.scenario.opening import open_what

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "web:1", ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: 8080}]
"""


def test_one_caller_one_pod_and_a_new_one_when_it_dies(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFESTS)
    lab = Lab(open_what([str(tmp_path / "web.yaml")]).spec)
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    lab.advance(20_000_000_000)
    first = {lab.wiring.servers[server][3] for row in kept for server in row.servers}
    assert len(first) == 1
    for row in kept:
        trace = lab.reopener.open_record(row)
        assert not [hop for hop in trace.hops if hop.outcome == "mismatch"]
    pod = first.pop()
    assert pod is not None
    assert lab.do(Kill(pod, "delete")).ok
    del kept[:]
    lab.advance(60_000_000_000)
    after = [lab.wiring.servers[row.servers[-1]][3] for row in kept if row.ok]
    assert pod not in after
    assert len(set(after)) == 1
