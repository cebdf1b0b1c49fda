"""Real applications and the brief's documents load as they are."""

import json
import re
from pathlib import Path

import pytest

from kflab.manifest.findings import Finding, Severity
from kflab.manifest.loader import Loaded, load
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Ingress, Service
from kflab.manifest.objects_workloads import Deployment
from kflab.manifest.sources import SourceText, read_paths
from kflab.manifest.typed import to_object
from kflab.manifest.write import to_tree, to_yaml

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
MANIFESTS = SHARED / "manifests"
BRIEF = SHARED / "brief" / "request-flow-overview.md"
FILES = sorted(MANIFESTS.rglob("*.y*ml")) if MANIFESTS.is_dir() else []

needs_shared = pytest.mark.skipif(not FILES, reason="the shared documents are not beside this checkout")

APPLICATIONS = {
    "bookinfo": ["bookinfo/platform/kube/bookinfo.yaml", "bookinfo/platform/kube/bookinfo-ingress.yaml"],
    "guestbook": ["guestbook"],
    "ingress-nginx cloud": ["ingress-nginx/cloud"],
    "ingress-nginx aws": ["ingress-nginx/aws"],
    "kube-prometheus": ["kube-prometheus"],
    "online-boutique": ["online-boutique"],
    "sock-shop": ["sock-shop"],
}


def complaints(loaded: Loaded) -> list[Finding]:
    return [finding for finding in loaded.findings if finding.severity > Severity.INFO]


def brief_text() -> str:
    return "---\n".join(re.findall(r"```yaml\n(.*?)```", BRIEF.read_text(encoding="utf-8"), re.S)[:5])


@needs_shared
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_has_nothing_to_complain_about(name: str) -> None:
    loaded = load(read_paths([str(MANIFESTS / path) for path in APPLICATIONS[name]]))
    assert complaints(loaded) == []
    assert loaded.objects


@needs_shared
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(MANIFESTS)))
def test_every_file_alone_has_only_what_is_missing_in_it(file: Path) -> None:
    """A Service or an Ingress alone does point at nothing here; nothing else may be said."""
    loaded = load(read_paths([str(file)]))
    assert [c for c in complaints(loaded) if "selects nothing" not in c.message and "no Service" not in c.message] == []
    for document in loaded.documents:
        assert document.obj is not None
        assert to_object(to_tree(document.obj)) == document.obj
        if document.key.kind != "Secret":
            again = load([SourceText("again", to_yaml(document.obj))])
            assert again.objects[0] == document.obj


@needs_shared
def test_the_brief_loads_with_its_four_assumptions() -> None:
    loaded = load([SourceText("brief.yaml", brief_text())])
    assert [(f.severity, f.path[-1], f.assumption) for f in complaints(loaded)] == [
        (Severity.WARNING, "selector", ""),
        (Severity.REFUSED, "selector", "selector app: ingress-nginx-controller"),
        (Severity.REFUSED, "pathType", "pathType ImplementationSpecific"),
        (Severity.REFUSED, "port", "port {number: 80}"),
        (Severity.REFUSED, "selector", "selector app: product"),
    ]
    by_key = {obj.key: obj for obj in loaded.objects}
    ingress = by_key[Key("Ingress", "default", "api-ingress")]
    assert isinstance(ingress, Ingress)
    path = ingress.rules[0].paths[0]
    assert (path.path_type, path.backend.service, path.backend.port) == (
        "ImplementationSpecific", "product-service", 80,
    )  # fmt: skip
    product = by_key[Key("Deployment", "default", "product")]
    assert isinstance(product, Deployment)
    assert product.selector.match_labels == product.template.labels == {"app": "product"}
    assert product.replicas == 3
    entry = by_key[Key("Service", "ingress-nginx", "ingress-nginx-controller")]
    assert isinstance(entry, Service)
    assert (entry.type, entry.ports[0].node_port, entry.ports[0].target) == ("LoadBalancer", 30443, 443)


PATCHES = """
apiVersion: v1
kind: Service
metadata:
  name: ingress-nginx-controller
  namespace: ingress-nginx
  annotations: {service.beta.kubernetes.io/aws-load-balancer-type: nlb}
spec: {externalTrafficPolicy: Local}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress-nginx-controller, namespace: ingress-nginx}
spec:
  selector: {matchLabels: {app: ingress-nginx}}
  template:
    metadata: {labels: {app: ingress-nginx}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node-a}
      containers:
      - name: controller
        args: [/nginx-ingress-controller]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: api-ingress
  annotations: {nginx.ingress.kubernetes.io/service-upstream: "true"}
spec:
  ingressClassName: nginx
  tls: [{hosts: [api.example.com], secretName: api-tls}]
  rules:
  - host: api.example.com
    http:
      paths:
      - path: /products
        pathType: Prefix
        backend: {service: {name: product-service, port: {number: 80}}}
---
apiVersion: v1
kind: Service
metadata: {name: product-service}
spec: {clusterIP: 10.96.100.50}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: product}
spec:
  selector: {matchLabels: {app: product}}
  template:
    metadata: {labels: {app: product}}
    spec: {nodeSelector: {kubernetes.io/hostname: node-b}}
"""


@needs_shared
def test_the_brief_patched_is_clean_and_keeps_what_the_patches_do_not_say() -> None:
    loaded = load([SourceText("brief.yaml", brief_text())], [SourceText("patches.yaml", PATCHES)])
    assert complaints(loaded) == []
    by_name = {(o.kind, o.meta.name): o for o in loaded.objects}
    controller = by_name["Deployment", "ingress-nginx-controller"]
    assert isinstance(controller, Deployment)
    container = controller.template.spec.containers[0]
    assert container.image == "registry.k8s.io/ingress-nginx/controller:v1.9.0"
    assert container.args == ("/nginx-ingress-controller",)
    assert [port.port for port in container.ports] == [443]
    assert controller.replicas == 2
    entry = by_name["Service", "ingress-nginx-controller"]
    assert isinstance(entry, Service)
    assert entry.external_traffic_policy == "Local"
    assert entry.ports[0].node_port == 30443
    document = loaded.document(controller.key)
    assert document is not None
    marks = document.marks
    container_path = ("spec", "template", "spec", "containers", 0)
    assert str(marks.place((*container_path, "args"))).startswith("patches.yaml:21:")
    assert marks.place((*container_path, "image")).file == "brief.yaml"


@needs_shared
def test_the_loader_is_not_stricter_than_kube_proxy() -> None:
    """The conformance vectors hold what the API server would refuse and kube-proxy takes."""
    folder = SHARED / "conformance" / "kube-proxy"
    vectors = [v for file in sorted(folder.glob("*visible.json")) for v in json.loads(file.read_text(encoding="utf-8"))]
    assert vectors
    for vector in vectors:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": vector.get("manifests", [])})
        assert load([SourceText(vector["id"], text)], require_objects=False).errors == ()
