"""Bench (i): one simulated hour of a cluster of 100 nodes with 10,000 requests/s, a rolling update in its middle.

Each run is a process of its own, so that peak memory is its own. Where nothing changes requests are counted, around the
update each is followed (`lab.counting`). The baseline is a span of the same with every request followed.
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict

from kflab.lab.running import Lab
from kflab.lab.spec import AUTO, FLOWS
from kflab.records import dataclass
from kflab.scenario.format import load_text

NODES = 100
PODS = 200
RATE_RPS = 10_000
HOUR_S = 3600
QUICK_S = 360
BASELINE_S = 20
"""Over how much simulated time, the last of a run, requests per CPU second are measured."""

STEP_S = 10
"""How often the cost of a run is looked at, simulated."""

PATHS = ("load balancer", "ingress")
"""A Service of type LoadBalancer (AWS NLB); and NGINX behind one, which keeps connections to the pods."""

_APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: %d
  selector: {matchLabels: {app: shop}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 5%%}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - name: shop
        image: shop:1
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 5}
        lifecycle: {preStop: {sleep: {seconds: 10}}}
---
apiVersion: v1
kind: Service
metadata:
  name: shop
  annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}
spec: {type: %s, selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
"""

_INGRESS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
spec:
  replicas: 10
  selector: {matchLabels: {app: ingress-nginx}}
  template:
    metadata: {labels: {app: ingress-nginx}}
    spec:
      containers:
      - name: controller
        image: registry.k8s.io/ingress-nginx/controller:v1.15.1
        args: [/nginx-ingress-controller, --ingress-class=nginx, --controller-class=k8s.io/ingress-nginx]
        ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata:
  name: ingress-nginx-controller
  namespace: ingress-nginx
  annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}
spec: {type: LoadBalancer, selector: {app: ingress-nginx}, ports: [{name: http, port: 80}]}
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


@dataclass(frozen=True, slots=True)
class Hour:
    """What a run cost. CPU seconds of the process, memory in MiB."""

    path: str
    """One of `PATHS`."""
    mode: str
    simulated_s: int
    sent: int
    failed: int
    counted: int
    """Requests that were counted, not followed."""
    counted_s: float
    """Simulated time in which they were."""
    cpu_s: float
    """Of the whole run, after the cluster was loaded."""
    update_cpu_s: float
    """Of the part from the update on until requests were counted again."""
    rate: float
    """Requests per CPU second of the last `BASELINE_S` simulated."""
    peak_mib: float
    growth_mib: float
    """By how much the peak rose in the last quarter of the run."""


def scenario(path: str, mode: str, seconds: int) -> str:
    """The scenario as text; in `auto` mode with a rolling update half-way."""
    behind = path == "ingress"
    texts = {"app": _APP % (PODS, "ClusterIP" if behind else "LoadBalancer")}
    if behind:
        texts["ingress"] = _INGRESS
    name = "ingress-nginx/ingress-nginx-controller" if behind else "default/shop"
    restart = {"at": f"{seconds // 2}s", "restart": "default/Deployment/shop"}
    tree = {
        "kflab": "scenario/v1",
        "duration": f"{seconds}s",
        "manifests": {"documents": [{"name": f"{key}.yaml", "text": text} for key, text in texts.items()]},
        "cluster": {"nodes": NODES, "pins": {"publicNames": {"shop.example.com": name}}},
        "traffic": {"mode": mode},
        "clients": [{"name": "web", "url": "http://shop.example.com/", "rate": RATE_RPS}],
        "actions": [restart] if mode == AUTO else [],
    }
    return json.dumps(tree)


def measure(path: str, mode: str, seconds: int) -> Hour:
    """Measure one run in this process.

    Args:
        path: One of `PATHS`.
        mode: A traffic mode (`lab.spec`).
        seconds: Simulated, a multiple of `STEP_S`.
    """
    lab = Lab(load_text(scenario(path, mode, seconds), "hour").spec)
    marks = [_Mark(time.process_time(), 0, _peak_mib())]
    for t_s in range(STEP_S, seconds + 1, STEP_S):
        lab.advance(t_s * 1_000_000_000)
        marks.append(_Mark(time.process_time(), lab.totals.sent, _peak_mib()))
    spans = lab.counting.spans()
    half, again = len(marks) // 2, -(-spans[-1][0] // (STEP_S * 1_000_000_000)) if spans else 0
    before, last = marks[-1 - BASELINE_S // STEP_S], marks[-1]
    return Hour(
        path, mode, seconds, last.sent, lab.totals.failed, lab.counting.requests, lab.counting.counted_ns() / 1e9,
        cpu_s=last.cpu_s - marks[0].cpu_s,
        update_cpu_s=marks[again].cpu_s - marks[half].cpu_s if again > half else 0.0,
        rate=(last.sent - before.sent) / max(1e-9, last.cpu_s - before.cpu_s),
        peak_mib=last.peak_mib,
        growth_mib=last.peak_mib - marks[len(marks) * 3 // 4].peak_mib,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a run had cost at one instant."""

    cpu_s: float
    sent: int
    peak_mib: float


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(path: str, mode: str, seconds: int) -> Hour:
    """Measure one run in a process of its own."""
    command = [sys.executable, "-m", "kflab.bench.hour", path, mode, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Hour(**json.loads(done.stdout))


def baseline(path: str) -> Hour:
    """Measure the same traffic with every request followed."""
    return run(path, FLOWS, 2 * BASELINE_S)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
