"""Real applications' manifests, unchanged: they open, run, and nothing false is said of them."""

from pathlib import Path

import pytest

from kflab.lab.running import Lab
from kflab.scenario.opening import open_what

MANIFESTS = Path(__file__).resolve().parents[2] / ".." / "shared" / "manifests"
needs_shared = pytest.mark.skipif(not MANIFESTS.exists(), reason="the shared manifests are not beside this checkout")

BOOKINFO = "bookinfo/platform/kube"

APPLICATIONS = {
    "bookinfo": [f"{BOOKINFO}/bookinfo.yaml", f"{BOOKINFO}/bookinfo-ingress.yaml"],
    "guestbook": ["guestbook"],
    "ingress-nginx cloud": ["ingress-nginx/cloud"],
    "ingress-nginx aws": ["ingress-nginx/aws"],
    "kube-prometheus": ["kube-prometheus"],
    "online-boutique": ["online-boutique"],
    "sock-shop": ["sock-shop"],
}


def lab_of(*paths: str) -> Lab:
    return Lab(open_what([str(MANIFESTS / path) for path in paths]).spec)


@needs_shared
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_opens_and_runs(name: str) -> None:
    lab = lab_of(*APPLICATIONS[name])
    assert not [found for found in lab.findings if found.severity not in ("info",)]
    lab.advance(5_000_000_000)
    snapshot = lab.snapshot()
    assert snapshot.pods_total > 0
    if name not in ("kube-prometheus", "ingress-nginx cloud", "ingress-nginx aws"):
        assert lab.totals.failed == 0
        assert lab.totals.ok > 100
    if name == "kube-prometheus":  # its operator makes the pods of Prometheus and Alertmanager: it does not run here
        # prometheus-adapter names Prometheus in its args, and answers 500 without it.
        assert set(lab.totals.by_status) == {"refused", "500"}


@needs_shared
def test_services_without_a_caller_are_counted_and_called_once_a_second() -> None:
    lab = lab_of("sock-shop")
    # user-db has one: the user Service's pods name it in their environment.
    assert "12 Services have no caller in these manifests: 1 request/s each from a client pod" in lab.traffic_lines()
    lab.advance(20_000_000_000)
    inside = [wired.entry.index for wired in lab.wiring.wired if wired.entry.kind == "pod"]
    assert len(inside) == 12


@needs_shared
@pytest.mark.parametrize(
    "path", sorted(p.relative_to(MANIFESTS).as_posix() for p in MANIFESTS.rglob("*.y*ml")) if MANIFESTS.exists() else []
)
def test_every_variant_file_alone_opens(path: str) -> None:
    lab = lab_of(path)
    assert not [found for found in lab.findings if found.severity == "error"]
    lab.advance(300_000_000)
    lab.snapshot()
