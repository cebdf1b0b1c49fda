"""What a Deployment does with its ReplicaSets beyond a plain rollout: shares, history, pods that have failed."""

from dataclasses import replace

from control_clusters import HTTP_READY, PRODUCT, S, cluster, container, deployment, pods, ready

from kflab.control.rollout_writes import undo
from kflab.control.set_revisions import revision_of
from kflab.manifest.objects_workloads import ReplicaSet, RollingUpdate


def template(before, version, **fields):
    spec = replace(before.template.spec, containers=(container(image=f"product-api:{version}", **fields),))
    return replace(before, template=replace(before.template, spec=spec))


def sizes(plane):
    """Image → spec.replicas of its ReplicaSet."""
    sets = [rs for rs in plane.store.of_kind("ReplicaSet") if isinstance(rs, ReplicaSet)]
    return {rs.template.spec.containers[0].image.rpartition(":")[2]: rs.replicas for rs in sets}


def broken(before):
    """The second version, which does not listen where its readiness probe asks."""
    new = template(before, "v2", readiness=replace(HTTP_READY, port=9999)).template
    return replace(before, template=replace(new, annotations={"kflab.dev/listens": "8080"}))


def stuck(replicas, **fields):
    """A Deployment whose second version never becomes ready, half way through its rollout."""
    before = deployment(replicas, **fields)
    plane = cluster(before)
    plane.apply([broken(before)])
    plane.run_until(20 * S)
    return plane


def test_a_stuck_rollout_that_is_scaled_keeps_each_replica_sets_share_with_halves_rounded_up():
    plane = stuck(3)
    assert sizes(plane) == {"v1": 3, "v2": 1}
    plane.scale(PRODUCT, 1)
    plane.run_until(40 * S)
    assert sizes(plane) == {"v1": 1, "v2": 1}  # of 4 pods 3 : 1, so of 2 pods 1.5 : 0.5


def test_a_share_is_of_the_most_pods_that_were_allowed_when_the_replica_set_was_sized():
    plane = stuck(10)
    assert sizes(plane) == {"v1": 8, "v2": 5}
    marks = [rs.meta.annotations["deployment.kubernetes.io/max-replicas"] for rs in plane.store.of_kind("ReplicaSet")]
    assert marks == ["13", "13"]
    plane.scale(PRODUCT, 15)
    plane.run_until(40 * S)
    assert sizes(plane) == {"v1": 12, "v2": 7}  # 19 allowed: 8 * 19 / 13 = 11.7, 5 * 19 / 13 = 7.3


def test_recreate_does_not_wait_for_pods_that_were_evicted():
    before = deployment(2, strategy=RollingUpdate(type="Recreate"))
    plane = cluster(before)
    victim = pods(plane)[0]
    plane.pressure.begin(victim.spec.node_name, 1)
    plane.run_until(60 * S)
    assert "Failed" in [pod.status.phase for pod in pods(plane)]
    plane.apply([template(before, "v2")])
    plane.run_until(120 * S)
    assert sizes(plane) == {"v1": 0, "v2": 2}
    assert [pod.spec.containers[0].image for pod in ready(plane)] == ["product-api:v2"] * 2


def test_history_keeps_the_latest_revisions_also_after_an_undo():
    before = replace(deployment(1), revision_history_limit=1)
    plane = cluster(before)
    plane.apply([template(before, "v2")])
    plane.run_until(30 * S)
    undo(plane.core, plane.deployments, PRODUCT)
    plane.run_until(60 * S)
    plane.apply([template(before, "v3")])
    plane.run_until(90 * S)
    # v1 is revision 3 now, v2 still 2: the older revision goes, not the older ReplicaSet.
    assert sizes(plane) == {"v1": 0, "v3": 1}
    assert sorted(revision_of(rs) for rs in plane.store.of_kind("ReplicaSet")) == [3, 4]


def test_an_empty_old_replica_set_stays_until_the_rollout_is_complete():
    every = RollingUpdate(max_unavailable="100%")
    before = replace(deployment(2, strategy=every), revision_history_limit=0)
    plane = cluster(before)
    plane.apply([broken(before)])
    plane.run_until(60 * S)
    assert sizes(plane) == {"v1": 0, "v2": 2}
    plane.apply([template(before, "v3")])
    plane.run_until(120 * S)
    assert sizes(plane) == {"v3": 2}


def test_recreate_keeps_no_more_history_than_asked_for():
    before = replace(deployment(1, strategy=RollingUpdate(type="Recreate")), revision_history_limit=1)
    plane = cluster(before)
    for n, version in enumerate(("v2", "v3", "v4")):
        plane.apply([template(before, version)])
        plane.run_until((n + 1) * 60 * S)
    assert sizes(plane) == {"v3": 0, "v4": 1}


def test_a_new_min_ready_seconds_counts_for_the_replica_set_that_is_there():
    before = deployment(1)
    plane = cluster(before)
    plane.apply([replace(before, min_ready_s=30)])
    plane.run_until(5 * S)
    (rs,) = plane.store.of_kind("ReplicaSet")
    assert rs.min_ready_s == 30
