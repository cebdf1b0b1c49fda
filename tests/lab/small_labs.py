"""Small labs for tests about what callers get: one Service, one app that calls it, every request kept."""

from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.scenario.format import load_text

S = 1_000_000_000

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers: [{{name: c, image: "web:1", ports: [{{containerPort: 8080}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  {service}
  ports: [{{port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec: {{containers: [{{name: c, image: "app:1"}}]}}
"""


def indent(text: str) -> str:
    return "".join(f"      {line}\n" for line in text.splitlines())


def direct(
    rate: float = 200.0, replicas: int = 3, service: str = "type: ClusterIP", client: str = "", more: str = "",
) -> Lab:  # fmt: skip
    """An app in a pod that calls `web` by its ClusterIP; `client` and `more` are further lines of the scenario."""
    texts = MANIFESTS.format(replicas=replicas, service=service)
    scenario = (
        f"kflab: scenario/v1\nseed: 11\nduration: 60s\nmanifests:\n  documents:\n  - name: web.yaml\n    text: |\n"
        f"{indent(texts)}"
        f"clients:\n- {{name: app, from: default/Deployment/app, url: http://web/, rate: {rate:g}{client}}}\n{more}"
    )
    return Lab(load_text(scenario, "test").spec)


def kept_rows(lab: Lab) -> list[Record]:
    """Every request that finishes from now on."""
    kept: list[Record] = []
    lab.watch_rows(lambda rows: kept.extend(record(rows, i) for i in range(len(rows))))
    return kept


def pods(lab: Lab, workload: str = "web") -> list[Key]:
    return [key for key in lab.store.keys("Pod") if key.name.startswith(f"{workload}-")]
