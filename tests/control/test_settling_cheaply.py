"""What a settling cluster does ahead, late or once for many pods changes nothing that anybody sees."""

import gc

import pytest
from control_clusters import PRODUCT, SERVICE, S, cluster, deployment, endpoints, pods, service

from kflab.cluster.ipam import Pins
from kflab.collector import passed_over
from kflab.control.core import address_of
from kflab.control.names import generated
from kflab.control.plane import ControlPlane
from kflab.draws import Draws
from kflab.manifest.objects import Key


def drawn_names(rs: Key, numbers: range) -> list[str]:
    """Names of a ReplicaSet's pods by the numbers of their draws, each drawn by itself."""
    return [generated(f"{rs.name}-", Draws(7).control_u64("pod-name", address_of(rs), n)) for n in numbers]


def replica_set(plane: ControlPlane) -> Key:
    (key,) = plane.store.keys("ReplicaSet")
    return key


def test_names_drawn_ahead_are_those_drawn_one_by_one():
    plane = cluster(deployment(15))
    rs = replica_set(plane)
    assert [pod.meta.name for pod in pods(plane)] == drawn_names(rs, range(15))
    plane.scale(PRODUCT, 23)
    plane.run_until(60 * S)
    assert [pod.meta.name for pod in pods(plane)] == drawn_names(rs, range(23))


def test_pinned_names_leave_the_draws_to_the_others():
    plane = cluster(deployment(5), pins=Pins(pod_names={"default/Deployment/product": ("first", "second")}))
    rs = replica_set(plane)
    assert [pod.meta.name for pod in pods(plane)] == ["first", "second", *drawn_names(rs, range(3))]
    plane.scale(PRODUCT, 9)
    plane.run_until(60 * S)
    assert [pod.meta.name for pod in pods(plane)][5:] == drawn_names(rs, range(3, 7))


def test_a_copy_of_a_running_cluster_goes_on_by_itself():
    """Also the scheduler's nodes for the template it saw last, and tables of a kubelet that nobody has asked for."""
    plane = cluster(deployment(4), service())
    copy = plane.copy()
    for twin in (plane, copy):
        twin.scale(PRODUCT, 8)
        twin.run_until(30 * S)
    assert [(pod.meta.name, pod.spec.node_name) for pod in pods(plane)] == [
        (pod.meta.name, pod.spec.node_name) for pod in pods(copy)
    ]
    key = pods(plane)[0].key
    plane.status.workers[key].back_off["api"] = (1, 2)
    assert copy.status.workers[key].back_off == {}


def test_a_worker_has_no_other_tables():
    plane = cluster(deployment(1))
    (worker,) = [plane.status.workers[pod.key] for pod in pods(plane)]
    assert worker.probe_due == worker.inits == {}
    with pytest.raises(AttributeError, match="probe_dues"):
        worker.probe_dues  # type: ignore[attr-defined]  # noqa: B018


def test_slices_list_each_pod_by_its_key():
    plane = cluster(deployment(4), service())
    assert list(endpoints(plane, SERVICE)) == [pod.key for pod in pods(plane)]


def test_what_is_passed_over_by_the_garbage_collector_is_looked_at_again_afterwards():
    before = gc.get_freeze_count()
    with passed_over():
        assert gc.get_freeze_count() > before
    assert gc.get_freeze_count() == 0
