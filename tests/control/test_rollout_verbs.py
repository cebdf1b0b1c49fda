"""`kubectl rollout` and `kubectl set image`: restart, undo, pause, resume, revisions, progress deadline."""

from dataclasses import replace

import pytest
from control_clusters import HTTP_READY, MS, PRODUCT, S, cluster, container, deployment, pods, ready, service

from kflab.control.facts import What
from kflab.control.plane import ControlPlane
from kflab.control.set_revisions import revision_of
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_workloads import Deployment, ReplicaSet, RollingUpdate
from kflab.manifest.pieces import PackedTree


def do(plane: ControlPlane, verb: str, key: Key = PRODUCT, **options: object):
    return VERBS[verb].do(plane, key, options)  # type: ignore[arg-type]


def product(plane: ControlPlane) -> Deployment:
    found = plane.store.get(PRODUCT)
    assert isinstance(found, Deployment)
    return found


def progressing(plane: ControlPlane) -> tuple[str, str]:
    found = next(c for c in product(plane).conditions if c.type == "Progressing")
    return found.status, found.reason


def images(plane: ControlPlane) -> list[str]:
    return [pod.spec.containers[0].image for pod in ready(plane)]


def test_restart_replaces_every_pod_and_writes_the_date_into_the_template():
    plane = cluster(deployment(3), service())
    before = {pod.meta.name for pod in pods(plane)}
    plane.run_until(65 * S)
    (fact,) = do(plane, "restart")
    assert fact.what is What.APPLIED
    assert product(plane).template.annotations["kubectl.kubernetes.io/restartedAt"] == "2026-01-01T12:01:05Z"
    plane.run_until(130 * S)
    assert len(ready(plane)) == 3
    assert not before & {pod.meta.name for pod in pods(plane)}


def test_restart_twice_within_a_second_and_restart_while_paused_are_refused():
    plane = cluster(deployment(3))
    do(plane, "restart")
    plane.run_until(900 * MS)
    with pytest.raises(KflabError, match="within the past second"):
        do(plane, "restart")
    do(plane, "pauseRollout")
    with pytest.raises(KflabError, match="can't restart paused deployment"):
        do(plane, "restart")
    with pytest.raises(KflabError, match="already paused"):
        do(plane, "pauseRollout")


def test_a_paused_rollout_stops_where_it_is_and_goes_on_when_resumed():
    plane = cluster(deployment(6, container(readiness=HTTP_READY)), service())
    do(plane, "pauseRollout")
    do(plane, "setImage", image="product-api:v2")
    plane.run_until(60 * S)
    assert images(plane) == ["product-api:v1"] * 6
    assert progressing(plane) == ("Unknown", "DeploymentPaused")
    do(plane, "resumeRollout")
    plane.run_until(120 * S)
    assert images(plane) == ["product-api:v2"] * 6
    assert progressing(plane) == ("True", "NewReplicaSetAvailable")


def test_undo_brings_the_earlier_replica_set_back_under_the_next_revision():
    plane = cluster(deployment(3))
    first = plane.store.keys("ReplicaSet")[0]
    do(plane, "setImage", image="product-api:v2")
    plane.run_until(60 * S)
    assert {revision_of(rs): rs.replicas for rs in plane.store.of_kind("ReplicaSet")} == {1: 0, 2: 3}
    assert revision_of(product(plane)) == 2
    do(plane, "undo")
    plane.run_until(120 * S)
    assert images(plane) == ["product-api:v1"] * 3
    again = plane.store.get(first)
    assert isinstance(again, ReplicaSet)
    assert revision_of(again) == revision_of(product(plane)) == 3
    assert again.meta.annotations["deployment.kubernetes.io/revision-history"] == "1"
    do(plane, "undo", toRevision=2)
    plane.run_until(180 * S)
    assert images(plane) == ["product-api:v2"] * 3
    with pytest.raises(KflabError, match="specified revision 2"):
        do(plane, "undo", toRevision=2)


@pytest.mark.parametrize("keep", [dict, PackedTree])
def test_undo_brings_back_what_the_lab_has_no_type_for(keep: type):
    def tree(memory: str):
        box = {"name": "api", "image": "product-api:v1", "resources": {"limits": {"memory": memory}}}
        return keep({"spec": {"template": {"spec": {"containers": [box]}}}})

    before = replace(deployment(2), raw=tree("1Gi"))
    plane = cluster(before)
    plane.apply([replace(before, raw=tree("2Gi"))])
    plane.run_until(60 * S)
    assert len(plane.store.keys("ReplicaSet")) == 2
    assert all(type(rs.raw) is keep for rs in plane.store.of_kind("ReplicaSet"))
    do(plane, "undo")
    plane.run_until(120 * S)
    assert product(plane).raw == tree("1Gi")
    assert len(plane.store.keys("ReplicaSet")) == 2


def test_undo_without_history_and_an_unknown_container_are_refused():
    plane = cluster(deployment(2))
    with pytest.raises(KflabError, match="no rollout history found"):
        do(plane, "undo")
    with pytest.raises(KflabError, match='unable to find container named "web"'):
        do(plane, "setImage", image="x:1", container="web")


def test_a_rollout_without_progress_is_told_after_its_deadline_and_not_rolled_back():
    before = replace(deployment(10), progress_deadline_s=60)
    plane = cluster(before, service())
    broken = container(readiness=replace(HTTP_READY, port=9999))
    spec = replace(before.template.spec, containers=(broken,))
    new = replace(before.template, annotations={"kflab.dev/listens": "8080"}, spec=spec)
    plane.apply([replace(before, template=new)])
    plane.run_until(50 * S)
    assert progressing(plane)[0] == "True"
    last = next(c for c in product(plane).conditions if c.type == "Progressing").updated_ns
    plane.run_until(last + 61 * S + 100 * MS)
    assert progressing(plane) == ("False", "ProgressDeadlineExceeded")
    plane.run_until(600 * S)
    assert len(ready(plane)) == 8
    assert sum(rs.replicas for rs in plane.store.of_kind("ReplicaSet")) == 13
    assert product(plane).observed["updatedReplicas"] == 5
    assert next(c for c in product(plane).conditions if c.type == "Available").status == "True"


@pytest.mark.parametrize("min_ready_s", [0, 7])
def test_a_new_pod_frees_an_old_one_min_ready_seconds_after_it_was_ready(min_ready_s):
    before = replace(deployment(2, strategy=RollingUpdate(max_surge=1, max_unavailable=0)), min_ready_s=min_ready_s)
    plane = cluster(before, service())
    do(plane, "restart")
    old = {pod.key for pod in pods(plane)}
    freed: list[int] = []
    while plane.next_ns() is not None:
        for fact in plane.step():
            if fact.what is What.POD_DELETED and fact.subject in old:
                fresh = [p for p in ready(plane) if p.key not in old]
                newest = max(p.status.ready_since_ns or 0 for p in fresh)
                freed.append(fact.t_ns - newest)
    assert len(freed) == 2
    for wait in freed:
        assert min_ready_s * S <= wait < min_ready_s * S + 250 * MS
