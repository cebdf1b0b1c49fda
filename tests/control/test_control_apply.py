"""Writes as the API server takes or refuses them, and what containers listen on."""

from dataclasses import replace

import pytest
from control_clusters import SERVICE, S, cluster, container, deployment, endpoints, pods, service

from kflab.control.delays import Delays
from kflab.control.listening import container_ports, read_annotation
from kflab.errors import KflabError
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_cluster import Namespace
from kflab.manifest.objects_network import ServicePort
from kflab.manifest.objects_pods import Container, Pod, PodSpec, Probe


def test_a_changed_target_port_changes_slices_and_keeps_addresses():
    plane = cluster()
    ip = plane.store.get(SERVICE).cluster_ip
    plane.apply([replace(service(), ports=(ServicePort(80, target=9090),))])
    plane.run_until(5 * S)
    assert plane.store.get(SERVICE).cluster_ip == ip
    ports = {s.ports[0].port for s in plane.store.of_kind("EndpointSlice")}
    assert ports == {9090}
    assert len(plane.store.keys("EndpointSlice")) == 1


def test_a_service_keeps_its_node_port_when_the_manifest_does_not_name_it():
    plane = cluster(deployment(), service(type="NodePort"))
    port = plane.store.get(SERVICE).ports[0].node_port
    assert 30086 <= port <= 32767
    plane.apply([service(type="NodePort", session_affinity="ClientIP")])
    assert plane.store.get(SERVICE).ports[0].node_port == port
    assert plane.store.get(SERVICE).session_affinity == "ClientIP"


@pytest.mark.parametrize(("wrong", "words"), [
    (replace(deployment(), selector=LabelSelector({"app": "x"})), "spec.selector: Invalid value: .*immutable"),
    (service(cluster_ips=("10.96.1.1",)), r'clusterIPs\[0\]: Invalid value: \["10.96.1.1"\]: may not change once set'),
    (replace(service(), meta=Meta("two", "default"), cluster_ips=("10.96.9.9",)), "provided IP is already allocated"),
    (replace(service(type="NodePort"), meta=Meta("two", "default"), ports=(ServicePort(80, node_port=30001),)),
     r"spec.ports\[0\].nodePort: Invalid value: 30001: provided port is already allocated"),
    (replace(deployment(), meta=Meta("x", "nowhere")), 'namespaces "nowhere" not found'),
])  # fmt: skip
def test_refusals_use_the_api_servers_words_and_nothing_is_written(wrong, words):
    taken = replace(
        service(type="NodePort"), meta=Meta("one", "default"), cluster_ips=("10.96.9.9",),
        ports=(ServicePort(80, node_port=30001),),
    )  # fmt: skip
    plane = cluster(deployment(), service(), taken)
    revision = plane.store.revision
    fine = replace(service(), meta=Meta("fine", "default"))
    with pytest.raises(KflabError, match=words):
        plane.apply([fine, wrong])
    assert plane.store.revision == revision
    plane.apply([fine])
    assert plane.store.get(fine.key).cluster_ip


def test_a_namespace_in_the_same_apply_is_enough():
    plane = cluster()
    plane.apply([replace(deployment(1), meta=Meta("x", "new")), Namespace(Meta("new"))])
    plane.run_until(20 * S)
    assert Key("Namespace", "", "new") in plane.store.keys("Namespace")
    assert any(p.meta.namespace == "new" and p.status.ready for p in pods(plane))


def test_applying_the_same_again_changes_nothing():
    plane = cluster()
    live = plane.store.get(SERVICE)
    assert plane.apply([live]) == ()
    assert plane.next_ns() is None


@pytest.mark.parametrize("key", [Key("Pod", "default", "none"), Key("Deployment", "default", "none")])
def test_what_is_not_there_is_not_found(key):
    plane = cluster()
    act = plane.delete_pod if key.kind == "Pod" else lambda k: plane.scale(k, 1)
    with pytest.raises(KflabError, match=r'\(NotFound\): .*s "none" not found'):
        act(key)


def test_a_crashed_container_cannot_crash_again():
    plane = cluster()
    plane.crash(pods(plane)[0].key)
    with pytest.raises(KflabError, match="no running container"):
        plane.crash(pods(plane)[0].key)


# --- listening ------------------------------------------------------------------------------------------------


def pod(*containers: Container, **annotations: str) -> Pod:
    return Pod(Meta("p", "default", {"app": "product"}, annotations), spec=PodSpec(containers))


def test_declared_ports_and_ports_of_probes_listen():
    box = container(readiness=Probe("httpGet", 8081), liveness=Probe("exec"))
    assert container_ports(pod(box), []) == (((("TCP", 8080), ("TCP", 8081)),), False)


def test_without_declaration_the_services_decide_and_it_is_assumed():
    silent = Container("a")
    services = [service(), service(ports=(ServicePort(53, protocol="UDP", target=5353), ServicePort(1, target="web")))]
    assert container_ports(pod(silent), services) == (((("TCP", 8080), ("UDP", 5353)),), True)
    assert container_ports(pod(container(), silent), [service()]) == (((("TCP", 8080),), ()), False)


def test_the_annotation_overrides_all():
    found = container_ports(pod(container(), **{"kflab.dev/listens": "9090, 53/udp"}), [service()])
    assert found == (((("TCP", 9090), ("UDP", 53)),), False)
    for bad in ("http", "0", "70000", "80/QUIC"):
        with pytest.raises(KflabError, match=r"kflab\.dev/listens"):
            read_annotation(bad)


def test_a_service_made_later_gives_silent_pods_their_port():
    plane = cluster(deployment(box=container(ports=())))
    victim = pods(plane)[0].key
    assert plane.runtime[victim].listening == ()
    facts = plane.apply([service()])
    assert plane.runtime[victim].listening == (("TCP", 8080),)
    assert plane.runtime[victim].assumed
    assert any(f.ports == (("TCP", 8080),) for f in facts)
    plane.run_until(5 * S)
    assert len(endpoints(plane)) == 3


# --- delays ---------------------------------------------------------------------------------------------------


def test_delays_can_be_overridden_and_wrong_names_get_a_hint():
    assert Delays().with_overrides({"app_exit_s": 3, "sandbox_s": [1, 2]}).sandbox_s == (1.0, 2.0)
    assert Delays().with_overrides({"sandbox_s": 1}).sandbox_s == (1.0, 1.0)
    with pytest.raises(KflabError, match="did you mean 'app_exit_s'"):
        Delays().with_overrides({"app_exits": 3})
    for bad in (-1, "3", [2, 1], [1, 2, 3], True, None):
        with pytest.raises(KflabError, match="must be a number of seconds"):
            Delays().with_overrides({"sandbox_s": bad})
    with pytest.raises(KflabError, match="takes one number"):
        Delays().with_overrides({"minimum_grace_s": [1, 2]})
