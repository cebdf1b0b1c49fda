"""CoreDNS by the Corefile that the manifests give: how it ends, if it gets ready, what it answers, what is said."""

import pytest

from kflab.control.facts import What
from kflab.lab.assuming_dns import dns_assumptions
from kflab.lab.dns_clients import names_asked
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec, Tab
from kflab.manifest.corefile import KUBEADM
from kflab.manifest.loader import load
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.manifest.sources import SourceText

S = 1_000_000_000

DNS = """apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system}
spec:
  replicas: 1
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      containers:
      - name: coredns
        image: registry.k8s.io/coredns/coredns:v1.12.0
        ports: [{containerPort: 53, protocol: UDP, name: dns}]
        readinessProbe: {httpGet: {path: /ready, port: 8181}}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: 10.96.0.10
  selector: {k8s-app: kube-dns}
  ports: [{port: 53, protocol: UDP, name: dns}]
---
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: default}
spec: {containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default}
spec: {clusterIP: 10.96.5.5, selector: {app: shop}, ports: [{port: 80}]}
"""


BAD = ".:53 {\n health {\n  lameduck long\n }\n}\n"


def manifests(corefile: str | None, extra: str = "") -> str:
    text = DNS + extra
    if corefile is not None:
        body = "".join(f"    {line}\n" for line in corefile.splitlines())
        text += "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\n"
        text += f"data:\n  Corefile: |\n{body}"
    return text


def opened(corefile: str | None, extra: str = "") -> Lab:
    return Lab(LabSpec("dns", (Tab("dns.yaml", manifests(corefile, extra), None),)))


def coredns(lab: Lab) -> Pod:
    found = next(pod for pod in lab.store.of_kind("Pod", "kube-system"))
    assert isinstance(found, Pod)
    return found


def ends_after(lab: Lab) -> float:
    """Seconds from SIGTERM to the end of a CoreDNS pod that is deleted now."""
    key = coredns(lab).key
    lab.plane.delete_pod(key)
    lab.plane.run_until(lab.plane.now_ns + 20 * S)
    at = {fact.what: fact.t_ns for fact in lab.plane.facts if fact.subject == key}
    return (at[What.CONTAINER_EXITED] - at[What.SIGTERM_SENT]) / S


@pytest.mark.parametrize(
    ("corefile", "seconds"),
    [
        (None, 5.0),
        (KUBEADM, 5.0),
        (KUBEADM.replace("lameduck 5s", "lameduck 12s"), 12.0),
        (".:53 {\n health\n ready\n kubernetes\n}", 0.5),
    ],
)
def test_coredns_goes_on_for_its_lameduck(corefile, seconds):
    assert ends_after(opened(corefile)) == pytest.approx(seconds)


def test_without_the_ready_plugin_its_readiness_probe_is_refused():
    lab = opened(".:53 {\n health\n kubernetes\n}")
    assert not coredns(lab).status.ready
    assert coredns(opened(KUBEADM)).status.ready


def test_a_corefile_with_another_port_leaves_nobody_at_53():
    lab = opened(KUBEADM.replace(".:53", ".:1053"))
    assert ("UDP", 53) not in lab.plane.runtime[coredns(lab).key].listening


def test_autopath_answers_the_first_question():
    pod = Key("Pod", "default", "app")
    plain, walking = (
        opened(KUBEADM),
        opened(KUBEADM.replace("pods insecure", "pods verified").replace("loop", "autopath @kubernetes")),
    )
    for lab, within, outside in ((plain, 1, 4), (walking, 1, 1)):
        app = lab.store.get(pod)
        assert isinstance(app, Pod)
        assert names_asked(lab.store, app, "shop") == within
        assert names_asked(lab.store, app, "api.example.com") == outside


def test_a_cluster_without_the_kubernetes_plugin_has_no_names_of_services():
    lab = opened(".:53 {\n ready\n forward . /etc/resolv.conf\n}")
    found = lab.world.dns_at(0).lookup("shop.default.svc.cluster.local")
    assert not found.exists
    assert "no kubernetes plugin" in found.words
    other = opened(".:53 {\n ready\n kubernetes corp.internal\n}")
    assert other.world.dns_at(0).lookup("shop.default.svc.corp.internal").addresses == ("10.96.5.5",)


def said(lab: Lab) -> list[str]:
    return [text for text, _ in dns_assumptions(lab.store)]


def test_what_is_not_modelled_is_said():
    assert said(opened(KUBEADM)) == []
    (none,) = said(opened(None))
    assert "is not given: CoreDNS has kubeadm's Corefile" in none
    old = said(
        opened(".:53 {\n ready\n hosts\n rewrite name a b\n kubernetes {\n  pods verified\n  ttl 20\n }\n cache 30\n}")
    )
    assert [text.removeprefix("ConfigMap kube-system/coredns: ")[:46] for text in old] == [
        "what hosts, rewrite of its Corefile would answ",
        "CoreDNS may answer from its cache what was so ",
        "pods verified: any name like 10-0-0-1.default.",
    ]
    assert "up to 20 s ago" in old[1]


def test_a_corefile_that_coredns_would_not_start_with_is_a_finding_at_its_line():
    lab = opened(BAD)
    words = "Corefile:2: lameduck 'long'; expected a duration such as 5s"
    (finding,) = [f for f in load([SourceText("dns.yaml", manifests(BAD))]).findings if words in f.message]
    assert "data.Corefile" in finding.message
    assert words in said(lab)[0]
    assert ends_after(lab) == pytest.approx(5.0)


def test_nodelocal_dnscache_is_said_not_to_be_asked():
    daemon = """---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: node-local-dns, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: node-local-dns}}
  template:
    metadata: {labels: {k8s-app: node-local-dns}}
    spec:
      hostNetwork: true
      containers:
      - name: node-cache
        image: registry.k8s.io/dns/k8s-dns-node-cache:1.26.4
        args: [-localip, "169.254.20.10,10.96.0.10", -conf, /etc/Corefile]
"""
    (text,) = said(opened(KUBEADM, daemon))
    assert text.startswith("DaemonSet kube-system/node-local-dns (NodeLocal DNSCache) is not modelled")
