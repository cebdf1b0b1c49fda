"""Whom a pod asks for names, and which names of endpoints there are."""

from pathlib import Path

import pytest

from kflab.dataplane.dns import ClusterDns, resolve
from kflab.lab.running import Lab
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod
from kflab.scenario.opening import open_what

S = 1_000_000_000

MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: agent}
spec:
  FIELDS
  containers: [{name: a, image: "agent:1", ports: [{containerPort: 9100}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: a, image: "web:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


def lab_with(tmp_path: Path, fields: str) -> Lab:
    (tmp_path / "a.yaml").write_text(MANIFESTS.replace("FIELDS", fields))
    lab = Lab(open_what([str(tmp_path / "a.yaml")]).spec)
    lab.advance(S)
    return lab


@pytest.mark.parametrize(
    ("fields", "knows"),
    [
        ("dnsPolicy: ClusterFirst", True),
        ("hostNetwork: true", False),
        ("dnsPolicy: Default", False),
        ("{hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}", True),
    ],
)
def test_a_pod_on_the_hosts_network_knows_services_only_where_its_policy_says_so(tmp_path, fields, knows) -> None:
    fields = fields.strip("{}").replace(", ", "\n  ")
    lab = lab_with(tmp_path, fields)
    request = lab.singles.request_for("http://web/", "GET", Key("Pod", "default", "agent"))
    trace = lab.singles.send(request, "ask")
    assert trace.status == ("200" if knows else "no such host")
    why = " ".join(hop.why for hop in trace.hops)
    assert ("its node's resolvers, which know no Services" in why) is not knows


def test_an_endpoint_has_a_name_also_where_its_service_has_a_cluster_ip(tmp_path) -> None:
    lab = lab_with(tmp_path, "dnsPolicy: ClusterFirst")
    services = [obj for obj in lab.store.of_kind("Service") if isinstance(obj, Service)]
    slices = [obj for obj in lab.store.of_kind("EndpointSlice") if isinstance(obj, EndpointSlice)]
    pod = lab.store.get(Key("Pod", "default", "web"))
    assert isinstance(pod, Pod)
    dns = ClusterDns.of(services, slices)
    assert resolve(dns, f"{pod.ip.replace('.', '-')}.web.default.svc.cluster.local", "default").addresses == (pod.ip,)
    assert resolve(dns, "10-9-9-9.web.default.svc.cluster.local", "default").addresses == ()
