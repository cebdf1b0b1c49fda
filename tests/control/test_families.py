"""Address families of Services: what the API server allocates and refuses, on single-stack and dual-stack clusters."""

from ipaddress import ip_address, ip_network

import pytest

from kflab.cluster.ipam import SERVICE_CIDR, SERVICE_CIDR_V6
from kflab.cluster.store import Store
from kflab.control.plane import ControlPlane
from kflab.draws import Draws
from kflab.errors import KflabError
from kflab.manifest.loader import load
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.sources import SourceText

NODE = """
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.5.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: c, image: nginx, ports: [{containerPort: 8080}]}]}
"""

DUAL_NODE = NODE.replace("[10.244.1.0/24]", '[10.244.1.0/24, "fd00:10:244:1::/64"]')

DUAL_PROXY = NODE + (
    "---\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    'clusterCIDR: "10.244.0.0/16,fd00:10:244::/56"\n'
)


def service(spec: str) -> str:
    ports = "ports: [{port: 80, targetPort: 8080}]"
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{selector: {{app: web}}, {ports}, {spec}}}\n"
    )


def opened(*texts: str) -> ControlPlane:
    loaded = load([SourceText("x.yaml", "\n---\n".join(texts))])
    loaded.raise_errors()
    plane = ControlPlane(Store(), Draws(1))
    plane.load(loaded.objects)
    plane.settle()
    return plane


def the_service(plane: ControlPlane) -> Service:
    found = plane.store.get(Key("Service", "default", "web"))
    assert isinstance(found, Service)
    return found


def applied(plane: ControlPlane, spec: str) -> Service:
    """Create or replace the Service at run time."""
    loaded = load([SourceText("x.yaml", service(spec))])
    loaded.raise_errors()
    plane.apply(loaded.objects)
    return the_service(plane)


@pytest.mark.parametrize("cluster", [DUAL_NODE, DUAL_PROXY])
@pytest.mark.parametrize(
    ("spec", "families", "policy"),
    [
        ("type: ClusterIP", ("IPv4",), "SingleStack"),
        ("ipFamilyPolicy: SingleStack", ("IPv4",), "SingleStack"),
        ("ipFamilyPolicy: PreferDualStack", ("IPv4", "IPv6"), "PreferDualStack"),
        ("ipFamilyPolicy: RequireDualStack", ("IPv4", "IPv6"), "RequireDualStack"),
        ("ipFamilies: [IPv6]", ("IPv6",), "SingleStack"),
        ("ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]", ("IPv6", "IPv4"), "PreferDualStack"),
        ("ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]", ("IPv6", "IPv4"), "RequireDualStack"),
        ('ipFamilyPolicy: PreferDualStack, clusterIP: "fd00:10:96::99"', ("IPv6", "IPv4"), "PreferDualStack"),
        ("ipFamilyPolicy: PreferDualStack, clusterIP: 10.96.0.99", ("IPv4", "IPv6"), "PreferDualStack"),
    ],
)
def test_a_dual_stack_cluster(cluster: str, spec: str, families: tuple[str, ...], policy: str) -> None:
    found = the_service(opened(cluster, service(spec)))
    assert (found.ip_families, found.ip_family_policy) == (families, policy)
    assert len(found.cluster_ips) == len(families)
    for ip, family in zip(found.cluster_ips, families, strict=True):
        assert ip_address(ip) in ip_network(SERVICE_CIDR if family == "IPv4" else SERVICE_CIDR_V6)
    if "99" in spec:
        assert found.cluster_ips[0].endswith("99")


def test_each_family_has_its_endpointslices() -> None:
    plane = opened(DUAL_NODE, service("ipFamilyPolicy: PreferDualStack"))
    slices = [obj for obj in plane.store.of_kind("EndpointSlice") if isinstance(obj, EndpointSlice)]
    mine = [piece for piece in slices if piece.service.name == "web"]
    assert sorted(piece.address_type for piece in mine) == ["IPv4", "IPv6"]


@pytest.mark.parametrize(
    ("spec", "refused", "families"),
    [
        (
            "ipFamilyPolicy: RequireDualStack",
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": '
            "this cluster is not configured for dual-stack services",
            ("IPv4",),
        ),
        ("ipFamilies: [IPv6]", 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster', ("IPv4",)),
        (
            "ipFamilies: [IPv4, IPv6]",
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ("IPv4",),
        ),
    ],
)
def test_a_single_stack_cluster_refuses_in_the_apis_words(spec: str, refused: str, families: tuple[str, ...]) -> None:
    plane = opened(NODE)
    with pytest.raises(KflabError, match='Service "web" is invalid: ') as caught:
        applied(plane, spec)
    assert refused in str(caught.value)
    assert plane.store.get(Key("Service", "default", "web")) is None
    # A file that says so is opened all the same, and what it lacks is said.
    opened_all_the_same = opened(NODE, service(spec))
    assert the_service(opened_all_the_same).ip_families == families
    assert any(refused in text for text, _ in opened_all_the_same.core.assumptions)


def test_prefer_dual_stack_on_a_single_stack_cluster_gets_one_family() -> None:
    found = the_service(opened(NODE, service("ipFamilyPolicy: PreferDualStack")))
    assert (found.ip_families, len(found.cluster_ips)) == (("IPv4",), 1)


def test_an_update_adds_the_second_address_and_gives_it_back() -> None:
    plane = opened(DUAL_NODE, service("type: ClusterIP"))
    first = the_service(plane).cluster_ips
    both = applied(plane, "ipFamilyPolicy: RequireDualStack").cluster_ips
    assert both[:1] == first
    assert len(both) == 2
    again = applied(plane, "ipFamilyPolicy: SingleStack")
    assert (again.cluster_ips, again.ip_families) == (first, ("IPv4",))
    assert plane.core.addresses.take_cluster_ip(both[1])  # it is free


def test_a_second_address_is_not_dropped_without_the_policy_saying_so() -> None:
    plane = opened(DUAL_NODE, service("ipFamilyPolicy: PreferDualStack"))
    kept = the_service(plane)
    with pytest.raises(KflabError, match="must be 'SingleStack' to release the secondary IP family"):
        applied(plane, "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4]")
    assert applied(plane, "type: ClusterIP").cluster_ips == kept.cluster_ips
