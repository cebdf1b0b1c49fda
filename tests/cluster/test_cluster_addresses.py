"""Address ranges, the store's past, and questions about what hangs together."""

import pytest

from kflab.cluster.ipam import Allocator, Pins
from kflab.cluster.store import Store
from kflab.cluster.topology import hangs_together, path_between, services_of
from kflab.errors import KflabError
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import Endpoint, EndpointSlice, Service
from kflab.manifest.objects_pods import Pod, PodSpec


def lowest(obj: str, n: int, low: int, high: int) -> int:
    return low


def ranges(**pins: object) -> Allocator:
    return Allocator(Pins(**pins), lowest)


def test_cluster_ips_and_node_ports_leave_the_lower_band_to_people():
    addresses = ranges()
    assert addresses.allocate_cluster_ip("a/b") == "10.96.1.1"
    assert addresses.allocate_node_port("a/b/80") == 30086
    assert addresses.take_cluster_ip("10.96.0.10")
    assert not addresses.take_cluster_ip("10.96.0.10")
    addresses.release_cluster_ip("10.96.0.10")
    assert addresses.take_cluster_ip("10.96.0.10")


def test_node_ports_run_out_from_the_upper_band_to_the_lower():
    addresses = ranges()
    found = [addresses.allocate_node_port(str(i)) for i in range(2769)]
    assert len(set(found[:2768])) == 2768
    assert set(found[:2768]) == set(range(30000, 32768))
    assert found[2682] == 30000
    assert found[2768] == 0


def test_pod_addresses_go_round_and_pins_stay_reserved():
    addresses = ranges(pod_ips={"a/Deployment/b": ("10.244.1.3",)})
    addresses.add_node("n", ("10.244.1.0/29",))
    got = [addresses.allocate_pod_ips("n")[0] for _ in range(4)]
    assert got == ["10.244.1.2", "10.244.1.4", "10.244.1.5", "10.244.1.6"]
    assert addresses.allocate_pod_ips("n") == ()
    addresses.release_pod_ips("n", ("10.244.1.2",))
    addresses.release_pod_ips("n", ("10.244.1.6",))
    assert addresses.allocate_pod_ips("n") == ("10.244.1.2",)
    assert addresses.allocate_pod_ips("n", "10.244.1.3") == ("10.244.1.3",)


def test_dual_stack_nodes_give_one_address_of_each_family():
    addresses = ranges()
    addresses.add_node("n", ("10.244.1.0/24", "fd00:10:244:1::/64"))
    assert addresses.allocate_pod_ips("n") == ("10.244.1.2", "fd00:10:244:1::2")


def test_a_malformed_pod_cidr_is_said_with_its_node():
    with pytest.raises(KflabError, match=r"node n: podCIDR .*10\.244\.1\.0/33"):
        ranges().add_node("n", ("10.244.1.0/33",))


def test_invented_pod_ranges_do_not_meet_given_ones():
    addresses = ranges()
    addresses.reserve_pod_cidrs(("10.244.0.0/24", "10.244.2.0/24"))
    assert [addresses.free_pod_cidr() for _ in range(2)] == ["10.244.1.0/24", "10.244.3.0/24"]


def test_the_store_remembers_what_observers_still_ask_for():
    store = Store()
    first = Service(Meta("s", "default"), type="ClusterIP")
    second = Service(Meta("s", "default"), type="NodePort")
    store.put(first, 0, "user")
    store.put(second, 1, "user")
    store.delete(first.key, 2, "user")
    assert [store.get(first.key, at) for at in (0, 1, 2, 3)] == [None, first, second, None]
    assert store.last_rule_change == 3
    store.forget_before(2)
    assert store.get(first.key, 2) == second
    assert [c.revision for c in store.changes(0)] == [3]


def small_store() -> Store:
    store = Store()
    store.put(Service(Meta("web", "default")), 0, "user")
    store.put(Pod(Meta("p", "default"), spec=PodSpec(node_name="n")), 0, "user")
    store.put(
        EndpointSlice(
            Meta("web-x", "default", {"kubernetes.io/service-name": "web"}),
            endpoints=(Endpoint(("10.1.1.1",), target=Key("Pod", "default", "p")),),
        ),
        0,
        "user",
    )
    return store


def test_what_hangs_together_is_found_along_slices_pods_and_nodes():
    store = small_store()
    web, pod, node = Key("Service", "default", "web"), Key("Pod", "default", "p"), Key("Node", "", "n")
    piece = Key("EndpointSlice", "default", "web-x")
    assert set(hangs_together(store, piece)) == {web, pod, node, piece}
    assert path_between(store, web, node) == (web, piece, pod, node)
    assert path_between(store, node, web) == ()
    assert services_of(store, pod) == (web,)
