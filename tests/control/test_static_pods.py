"""Static pods: what becomes of their mirror pods, and of them, when somebody deletes, drains, stops or cuts power."""

from dataclasses import replace

import pytest
from control_clusters import SERVICE, S, cluster, container, endpoints, first, service

from kflab.control.facts import What
from kflab.control.plane import ControlPlane
from kflab.control.pressure import EVICTED
from kflab.manifest.loader import load
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import MIRROR, Pod, PodSpec
from kflab.manifest.sources import SourceText

WEB = Key("Pod", "default", "web-node-2")
NODE = Key("Node", "", "node-2")


def static(name: str = "web-node-2", node: str = "node-2", **spec: object) -> Pod:
    labels = {"app": "product"}
    meta = Meta(name, "default", labels, {MIRROR: "0f3c", "kubernetes.io/config.source": "file"})
    return Pod(meta, spec=replace(PodSpec((container(),), node_name=node), **spec))


def with_static(*pods: Pod) -> ControlPlane:
    return cluster(*(pods or (static(),)), service())


def web(plane: ControlPlane) -> Pod:
    found = plane.store.get(WEB)
    assert isinstance(found, Pod)
    return found


def told(plane: ControlPlane, what: What, key: Key = WEB) -> list[int]:
    return [fact.t_ns for fact in plane.facts if fact.what is what and fact.subject == key]


def serves(plane: ControlPlane) -> bool:
    return any(ready for ready, _, _ in endpoints(plane, SERVICE).values())


def test_a_deleted_mirror_pod_comes_back_and_its_containers_never_stop():
    plane = with_static()
    started = plane.runtime[WEB].started_ns
    assert serves(plane)
    plane.delete_pod(WEB)
    plane.run_until(1 * S)
    assert not web(plane).terminating
    plane.run_until(60 * S)
    assert web(plane).status.ready
    assert plane.runtime[WEB].started_ns == started
    assert plane.runtime[WEB].up
    assert not told(plane, What.SIGTERM_SENT)


def test_the_service_of_a_deleted_mirror_pod_has_no_endpoint_until_the_status_managers_tick():
    plane = with_static()
    plane.delete_pod(WEB)
    plane.run_until(plane.now_ns + S // 2)
    assert web(plane).status.phase == "Pending"
    assert web(plane).status.pod_ips == ()
    assert not serves(plane)
    plane.run_until(11 * S)
    (written,) = told(plane, What.POD_STATUS_WRITTEN)
    assert written <= 10 * S + S // 10
    assert serves(plane)


def test_a_status_of_another_pod_of_the_node_carries_that_of_the_mirror_pod_along():
    other = static("other-node-2")
    plane = with_static(static(), other)
    plane.delete_pod(WEB)
    plane.run_until(S // 2)
    assert web(plane).status.phase == "Pending"
    plane.crash(other.key)
    plane.run_until(4 * S)
    assert told(plane, What.POD_STATUS_WRITTEN)[0] == told(plane, What.POD_STATUS_WRITTEN, other.key)[0]


def test_a_forced_delete_is_no_other():
    plane = with_static()
    plane.delete_pod(WEB, 0)
    plane.run_until(30 * S)
    assert web(plane).status.ready
    assert not told(plane, What.CONTAINER_EXITED)


def test_while_the_kubelet_is_stopped_a_deleted_mirror_pod_stays_terminating():
    plane = with_static()
    plane.stop("kubelet/node-2")
    plane.delete_pod(WEB)
    plane.run_until(40 * S)
    assert web(plane).terminating
    assert plane.runtime[WEB].up
    plane.start("kubelet/node-2")
    plane.run_until(80 * S)
    assert not web(plane).terminating
    assert web(plane).status.ready


def test_drain_leaves_mirror_pods_where_they_are_and_needs_no_force():
    plane = with_static()
    plane.drains.drain("node-2", None, force=False, ignore_daemonsets=False)
    plane.run_until(60 * S)
    assert first(plane.facts, What.DRAIN_ENDED, NODE).text == "node node-2 was drained"
    assert not web(plane).terminating
    assert serves(plane)


def test_a_node_without_memory_does_not_evict_them():
    plane = with_static()
    plane.pressure.begin("node-2", 1)
    plane.run_until(60 * S)
    assert web(plane).status.reason != EVICTED
    assert plane.runtime[WEB].up


@pytest.mark.parametrize("graceful", [False, True])
def test_a_node_that_boots_starts_its_static_pods_even_if_their_mirror_pods_were_deleted_meanwhile(graceful: bool):
    plane = with_static()
    if graceful:
        plane.shutdowns.begin("node-2", 30 * S, 10 * S)
        plane.run_until(60 * S)
    else:
        plane.machines.power_off("node-2")
    plane.delete_pod(WEB, 0)
    plane.run_until(plane.now_ns + 5 * S)
    assert plane.store.get(WEB) is None
    plane.machines.power_on("node-2")
    plane.run_until(plane.now_ns + 120 * S)
    assert web(plane).status.ready
    assert plane.runtime[WEB].up
    assert serves(plane)


def test_a_mirror_pod_of_a_dump_is_nobodys_replica():
    text = f"""
apiVersion: v1
kind: Pod
metadata:
  name: web-node-2
  namespace: default
  annotations: {{{MIRROR}: 0f3c}}
  ownerReferences: [{{apiVersion: v1, kind: Node, name: node-2, uid: a1, controller: true}}]
spec: {{nodeName: node-2, containers: [{{name: web, image: nginx}}]}}
"""
    (pod,) = load([SourceText("dump.yaml", text)]).objects
    assert pod.is_mirror
    assert pod.meta.owner is None
