"""Services without a selector: EndpointSlices and Endpoints written by hand, and addresses outside the cluster."""

from pathlib import Path

import pytest

from kflab.cli import main
from kflab.lab.commands import Apply
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.scenario.opening import open_what

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 80, targetPort: 8080}]}\n"
ENDPOINTS = """---
apiVersion: v1
kind: Endpoints
metadata: {name: db%s}
subsets:
- addresses: [{ip: %s}]
  notReadyAddresses: [{ip: 192.0.2.61}]
  ports: [{port: 8080}]
"""
S = 1_000_000_000


def lab_of(tmp_path: Path, text: str) -> Lab:
    (tmp_path / "db.yaml").write_text(text)
    return Lab(open_what([str(tmp_path / "db.yaml")]).spec)


def slices(lab: Lab) -> list[EndpointSlice]:
    found = (obj for obj in lab.store.of_kind("EndpointSlice", "default") if isinstance(obj, EndpointSlice))
    return [piece for piece in found if piece.service == Key("Service", "default", "db")]


def test_endpoints_are_mirrored_and_an_outside_address_answers(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, SERVICE + ENDPOINTS % ("", "192.0.2.60"))
    (piece,) = slices(lab)
    assert [(e.addresses, e.ready) for e in piece.endpoints] == [(("192.0.2.60",), True), (("192.0.2.61",), False)]
    assert piece.meta.labels["endpointslice.kubernetes.io/managed-by"] == "endpointslicemirroring-controller.k8s.io"
    lab.advance(20 * S)
    assert lab.totals.ok > 10
    assert lab.totals.failed == 0
    assert any("192.0.2.60" in text and "outside the cluster" in text for text, _ in lab.assumptions)


def test_changed_endpoints_change_the_slice(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, SERVICE + ENDPOINTS % ("", "192.0.2.60"))
    lab.advance(S)
    (before,) = slices(lab)
    text = (SERVICE + ENDPOINTS % ("", "192.0.2.60")).replace("192.0.2.60", "192.0.2.70")
    assert lab.do(Apply(((str(tmp_path / "db.yaml"), text),))).ok
    lab.advance(5 * S)
    (after,) = slices(lab)
    assert after.meta.name == before.meta.name
    assert after.endpoints[0].addresses == ("192.0.2.70",)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (", annotations: {kflab.dev/listens: ''}", "annotated: nothing answers there"),
        (", labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}", "labelled: no slice is made"),
        (", annotations: {control-plane.alpha.kubernetes.io/leader: '{}'}", "a leader election: no slice is made"),
    ],
)
def test_what_does_not_answer(tmp_path: Path, more: str, why: str) -> None:
    lab = lab_of(tmp_path, SERVICE + ENDPOINTS % (more, "192.0.2.60"))
    lab.advance(10 * S)
    assert lab.totals.ok == 0, why


def test_an_address_of_the_pod_network_without_a_pod_answers_nobody(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, SERVICE + ENDPOINTS % ("", "10.244.1.200"))
    lab.advance(10 * S)
    assert lab.totals.ok == 0
    assert any("nobody answers" in text for text, _ in lab.assumptions)


def test_a_service_with_a_selector_takes_its_pods_only(tmp_path: Path) -> None:
    text = SERVICE.replace("spec: {", "spec: {selector: {app: db}, ")
    lab = lab_of(tmp_path, text + ENDPOINTS % ("", "192.0.2.60"))
    service = lab.store.get(Key("Service", "default", "db"))
    assert isinstance(service, Service)
    assert all(not piece.endpoints for piece in slices(lab))


def test_get_endpoints_shows_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "db.yaml").write_text(SERVICE + ENDPOINTS % ("", "192.0.2.60"))
    assert main(["get", "ep,endpointslices", "-f", str(tmp_path / "db.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "endpoints/db   192.0.2.60:8080" in shown
    assert "192.0.2.60,192.0.2.61" in shown


def test_bad_endpoints_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "db.yaml"
    path.write_text(SERVICE + (ENDPOINTS % ("", "192.0.2.60")).replace("port: 8080", "port: 80800"))
    assert main(["get", "svc", "-f", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{path}:12:18: ")
    assert "80800" in error
