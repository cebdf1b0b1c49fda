"""What listens where, and what a forwarded request and a log line say."""

import pytest

from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.scenario.format import load

S = 1_000_000_000


def lab_of(container: str, target: str, annotation: str = "") -> Lab:
    text = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}{annotation}}}
spec: {{containers: [{{name: web, image: x{container}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: {target}}}]}}
"""
    lab = Lab(LabSpec("web", (Tab("web.yaml", text, None),)))
    lab.advance(20 * S)
    return lab


@pytest.mark.parametrize(
    ("container", "target", "answers"),
    [
        (", ports: [{containerPort: 8080}]", "8080", True),
        (", ports: [{containerPort: 8080}]", "9090", False),
        (", ports: [{name: http, containerPort: 8080}]", "http", True),
        ("", "9090", True),  # declares none: the targetPorts of Services that select it
        (", ports: [{containerPort: 8080}], readinessProbe: {httpGet: {port: 9090}}", "9090", True),
        (", ports: [{containerPort: 8080}], livenessProbe: {tcpSocket: {port: 9091}}", "9091", True),
        (", ports: [{containerPort: 53, protocol: UDP}]", "53", False),
    ],
)
def test_a_container_listens_on_what_it_declares_and_its_probes_name(
    container: str, target: str, answers: bool
) -> None:
    lab = lab_of(container, target)
    assert lab.totals.sent > 5
    if answers:
        assert lab.totals.failed == 0
    else:
        assert lab.totals.ok == 0
        assert set(lab.totals.by_status) == {"refused"}


def test_a_port_that_nobody_declared_is_said_to_be_assumed() -> None:
    lab = lab_of("", "9090")
    assert any("9090" in text for text, _ in lab.assumptions), lab.assumptions


def test_a_forwarded_request_belongs_to_the_pods_row() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("product-"))
    assert lab.terminal.run(f"port-forward pod/{pod.name} 8080:8080").ok
    done = lab.terminal.run("curl localhost:8080/products")
    assert done.ok
    assert done.trace_id is not None
    trace = lab.open_request(done.trace_id)
    assert pod in trace.hops[-1].touches
    assert not any(key.kind == "Service" for hop in trace.hops for key in hop.touches)


def test_log_lines_have_fixed_lengths() -> None:
    lab = Lab(load("overview").spec)
    lab.advance(S)
    pod = next(key for key in lab.store.keys("Pod") if key.name.startswith("ingress-nginx-controller"))
    line = lab.terminal.run(f"logs -n {pod.namespace} {pod.name} --tail 1").text
    assert '"GET /products HTTP/' in line
    assert " 200 512 " in line
    assert " 256 " in line
