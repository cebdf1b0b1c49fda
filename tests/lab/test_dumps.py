"""A dump of a cluster opens as it stands: nothing new, nothing gone, and it lives on."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from kflab.kubectl.ages import instant
from kflab.lab.commands import Kill, Scale
from kflab.lab.handle import Tab
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.write import to_tree, tree_to_yaml
from kflab.scenario.opening import open_what

S = 1_000_000_000

ALL = ("Pod", "Service", "Deployment", "ReplicaSet", "Ingress", "EndpointSlice", "Node")
"""What `kubectl get all,ep,endpointslices,ing,nodes` gives."""

PRODUCT = Key("Deployment", "default", "product")


def dump(lab: Lab, kinds: Sequence[str] = ALL) -> str:
    """What kubectl would print of these kinds, as one List."""
    items = []
    for kind in kinds:
        for obj in lab.store.of_kind(kind):
            tree = to_tree(obj, instant(0))
            tree["metadata"]["resourceVersion"] = "4711"
            items.append(tree)
    return tree_to_yaml({"apiVersion": "v1", "kind": "List", "items": items})


def opened(*texts: str, **more: Any) -> Lab:
    return Lab(LabSpec("dump", tuple(Tab(f"{i}.yaml", text, None) for i, text in enumerate(texts)), **more))


def pods(lab: Lab) -> dict[Key, tuple[object, ...]]:
    found = (cast(Pod, obj) for obj in lab.store.of_kind("Pod"))
    return {p.key: (p.spec.node_name, p.status.pod_ips, p.status.ready, p.meta.owner, p.meta.uid) for p in found}


def services(lab: Lab) -> dict[Key, tuple[object, ...]]:
    found = (cast(Service, obj) for obj in lab.store.of_kind("Service"))
    return {s.key: (s.cluster_ips, tuple(p.node_port for p in s.ports), s.load_balancer) for s in found}


def slices(lab: Lab) -> dict[Key, list[tuple[object, ...]]]:
    found = (cast(EndpointSlice, obj) for obj in lab.store.of_kind("EndpointSlice"))
    return {s.key: sorted((e.addresses, e.ready, str(e.target)) for e in s.endpoints) for s in found}


@pytest.fixture(scope="module")
def source() -> Lab:
    """A running overview."""
    lab = Lab(open_what(["overview"]).spec)
    lab.advance(2 * S)
    return lab


@pytest.fixture(scope="module")
def whole(source: Lab) -> str:
    return dump(source)


def without_client(found: dict[Key, tuple[object, ...]]) -> dict[Key, tuple[object, ...]]:
    """Without the pod that the lab adds to call Services with."""
    return {key: value for key, value in found.items() if key.name != "client"}


def test_a_dump_opens_as_it_was_and_stays_so(source: Lab, whole: str) -> None:
    lab = opened(whole)
    assert without_client(pods(lab)) == pods(source)
    assert services(lab) == services(source)
    assert slices(lab) == slices(source)
    before = (pods(lab), services(lab), slices(lab), lab.store.revision)
    lab.advance(10 * S)
    assert (pods(lab), services(lab), slices(lab), lab.store.revision) == before
    assert lab.facts == []
    assert lab.totals.sent > 500
    assert lab.totals.failed == 0
    assert [f for f in lab.findings if f.severity != "info"] == []


def test_a_dump_of_a_dump_is_the_same(whole: str) -> None:
    first = opened(whole)
    second = opened(dump(first))
    assert pods(second) == pods(first), "the client pod too is taken as it stands"
    second.advance(3 * S)
    assert second.totals.failed == 0
    assert second.client_pod is not None


def test_a_crash_is_noticed_in_a_dump(source: Lab, whole: str) -> None:
    lab = opened(whole)
    lab.advance(S)
    victim = next(key for key in pods(lab) if key.name.startswith("product-"))
    assert lab.do(Kill(victim)).ok
    lab.advance(15 * S)
    pod = cast(Pod, lab.store.get(victim))
    assert pod.status.restarts == 1
    assert pod.status.ready
    assert lab.knowledge().moved_ns is not None
    assert set(pods(lab)) == set(pods(opened(whole)))


def test_scaling_a_dump_takes_new_addresses(source: Lab, whole: str) -> None:
    lab = opened(whole)
    given = without_client(pods(lab))
    assert lab.do(Scale(PRODUCT, 5)).ok
    lab.advance(30 * S)
    now = pods(lab)
    assert given.items() <= now.items()
    fresh = {key for key in now if key not in given and key.name.startswith("product-")}
    assert len(fresh) == 2
    addresses = [ip for _, ips, *_ in now.values() for ip in cast(tuple[str, ...], ips)]
    assert len(set(addresses)) == len(addresses)
    assert lab.do(Scale(PRODUCT, 1)).ok
    lab.advance(90 * S)
    assert sum(key.name.startswith("product-") for key in pods(lab)) == 1


@pytest.mark.parametrize(
    "kinds", [("Pod", "Service"), ("Pod", "Service", "Deployment"), ("Pod", "Service", "ReplicaSet", "EndpointSlice")]
)
def test_what_a_dump_lacks_is_made_and_said(source: Lab, kinds: tuple[str, ...]) -> None:
    lab = opened(dump(source, kinds))
    assert without_client(pods(lab)) == pods(source)
    assert services(lab) == services(source)
    assert sorted(map(str, slices(lab).values())) == sorted(map(str, slices(source).values()))
    said = "\n".join(text for text, _ in lab.assumptions)
    assert "nodes node-a, node-b made" in said
    assert "namespace ingress-nginx made" in said
    for name, ip, cidr in (("node-a", "10.0.1.50", "10.244.1.0/24"), ("node-b", "10.0.1.51", "10.244.2.0/24")):
        node = cast(Node, lab.store.get(Key("Node", "", name)))
        assert (node.internal_ips, node.pod_cidrs) == ((ip,), (cidr,))
    before = pods(lab)
    lab.advance(10 * S)
    assert pods(lab) == before
    assert lab.totals.failed == 0


CART = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {selector: {app: cart}, ports: [{port: 80}]}
"""


def test_a_dump_and_intent_mix(whole: str) -> None:
    alone, lab = opened(whole), opened(whole, CART)
    new = {key: value for key, value in pods(lab).items() if key.name.startswith("cart-")}
    assert without_client(pods(alone)).items() <= pods(lab).items()
    assert len(new) == 2
    assert all(value[2] for value in new.values()), "made and ready before t = 0"
    assert services(alone).items() <= services(lab).items()
    lab.advance(5 * S)
    assert lab.totals.failed == 0


BY_HAND = """\
apiVersion: v1
kind: Service
metadata: {name: database}
spec: {ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: database-1, labels: {kubernetes.io/service-name: database}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
- {addresses: [192.0.2.10], conditions: {ready: true}}
- {addresses: [192.0.2.11], conditions: {ready: true}}
"""


def test_a_service_without_selector_keeps_the_slice_given_by_hand() -> None:
    lab = opened(BY_HAND)
    before = slices(lab)
    rules = lab.rules_text(lab.store.keys("Node")[0].name)
    assert "192.0.2.10:5432" in rules
    assert "192.0.2.11:5432" in rules
    lab.advance(10 * S)
    assert slices(lab) == before


def test_a_node_without_a_range_gives_no_address_twice(source: Lab) -> None:
    text = dump(source, ("Pod", "Service", "Deployment", "ReplicaSet")).replace("10.244.2.2", "10.244.1.2")
    lab = opened(text)  # pods of both nodes in one /24
    assert lab.do(Scale(PRODUCT, 9)).ok
    lab.advance(60 * S)
    addresses = [ip for _, ips, *_ in pods(lab).values() for ip in cast(tuple[str, ...], ips)]
    assert len(addresses) >= 12
    assert len(set(addresses)) == len(addresses)
