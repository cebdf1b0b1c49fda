"""Rolling updates stay within surge and unavailability, whatever the numbers."""

from dataclasses import replace

import pytest
from control_clusters import PRODUCT, S, cluster, container, deployment, pods, ready, service
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.control.facts import What
from kflab.control.replicaset import victims
from kflab.control.rollout import bounds
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import Container, ContainerStatus, Pod, PodSpec, PodStatus
from kflab.manifest.objects_workloads import ReplicaSet, RollingUpdate

limit = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "10%", "25%", "50%", "100%"]))


@settings(max_examples=60, deadline=None)
@given(replicas=st.integers(1, 12), surge=limit, unavailable=limit, seed=st.integers(0, 1000))
def test_a_rolling_update_keeps_its_bounds_and_ends(replicas, surge, unavailable, seed):
    before = deployment(replicas, strategy=RollingUpdate(max_surge=surge, max_unavailable=unavailable))
    plane = cluster(before, nodes=2, seed=seed)
    allowed = bounds(before)
    after = replace(before, template=replace(before.template, spec=replace(before.template.spec, containers=(
        container(image="product-api:v2"),))))  # fmt: skip
    plane.apply([after])
    while (due := plane.next_ns()) is not None and due < 300 * S:
        plane.step()
        # The bound is on what is asked for: one ReplicaSet may create before the other has deleted, as upstream.
        assert sum(rs.replicas for rs in plane.store.of_kind("ReplicaSet")) <= replicas + allowed.surge
        assert len(ready(plane)) >= replicas - allowed.unavailable
    assert [p.spec.containers[0].image for p in ready(plane)] == ["product-api:v2"] * replicas
    assert len(pods(plane)) == replicas
    assert plane.next_ns() is None


@pytest.mark.parametrize(("replicas", "surge", "unavailable"), [(1, 1, 0), (3, 1, 0), (4, 1, 1), (10, 3, 2)])
def test_default_percentages_round_surge_up_and_unavailable_down(replicas, surge, unavailable):
    found = bounds(deployment(replicas))
    assert (found.surge, found.unavailable) == (surge, unavailable)


def test_both_limits_zero_means_one_may_be_unavailable():
    found = bounds(deployment(4, strategy=RollingUpdate(max_surge=0, max_unavailable="0%")))
    assert (found.surge, found.unavailable) == (0, 1)


def test_a_rollout_of_ten_starts_as_the_fact_sheet_says():
    before = deployment(10)
    plane = cluster(before)
    new = replace(before, template=replace(before.template, labels={"app": "product", "v": "2"}))
    facts = [*plane.apply([new]), *plane.run_until(int(0.3 * S))]
    created = [f for f in facts if f.what is What.POD_CREATED]
    deleted = [f for f in facts if f.what is What.POD_DELETED]
    assert len(created) == 5
    assert len(deleted) == 2


def test_going_back_to_the_old_template_uses_the_old_replica_set():
    before = deployment(3)
    plane = cluster(before, service())
    old = {k.name for k in plane.store.keys("ReplicaSet")}
    newer = replace(before, template=replace(before.template, annotations={"a": "b"}))
    plane.apply([newer])
    plane.run_until(60 * S)
    assert len(plane.store.keys("ReplicaSet")) == 2
    plane.apply([before])
    plane.run_until(120 * S)
    sizes = {rs.meta.name: rs.replicas for rs in plane.store.of_kind("ReplicaSet")}
    assert {name for name, size in sizes.items() if size == 3} == old


def test_recreate_stops_all_before_it_starts_any():
    before = deployment(3, strategy=RollingUpdate(type="Recreate"))
    plane = cluster(before)
    plane.apply([replace(before, template=replace(before.template, annotations={"a": "b"}))])
    both = False
    while plane.next_ns() is not None:
        plane.step()
        both = both or len({p.meta.owner for p in pods(plane)}) > 1
    assert not both
    assert len(ready(plane)) == 3


def test_a_change_without_a_type_in_the_lab_rolls_the_pods_too():
    def tree(memory):
        return {"spec": {"template": {"spec": {"containers": [{"name": "api", "resources": {"limits": memory}}]}}}}

    before = replace(deployment(2), raw=tree("1Gi"))
    plane = cluster(before)
    names = {p.meta.name for p in pods(plane)}
    plane.apply([replace(before, raw=tree("2Gi"))])
    plane.run_until(60 * S)
    assert not names & {p.meta.name for p in pods(plane)}


def test_scaling_in_the_middle_of_a_rollout_ends_at_the_new_size():
    before = deployment(6)
    plane = cluster(before)
    after = replace(before, template=replace(before.template, annotations={"a": "b"}))
    plane.apply([after])
    plane.run_until(2 * S)
    plane.scale(PRODUCT, 9)
    plane.run_until(120 * S)
    assert len(ready(plane)) == 9
    assert len({p.meta.owner for p in pods(plane)}) == 1


def test_names_have_upstreams_form():
    plane = cluster()
    rs = plane.store.keys("ReplicaSet")[0].name
    alphabet = set("bcdfghjklmnpqrstvwxz2456789")
    assert rs.startswith("product-")
    assert set(rs.removeprefix("product-")) <= alphabet
    for pod in pods(plane):
        stem, _, tail = pod.meta.name.rpartition("-")
        assert stem == rs
        assert len(tail) == 5
        assert set(tail) <= alphabet
        assert pod.meta.labels["pod-template-hash"] == rs.removeprefix("product-")


def test_scaling_down_takes_unready_then_cheap_then_crowded_pods_first():
    plane = cluster(deployment(5), service(), nodes=2)
    rs = next(o for o in plane.store.of_kind("ReplicaSet") if isinstance(o, ReplicaSet))
    every = pods(plane)
    order = victims(plane.core, rs, every)
    crowded = {p.spec.node_name for p in every if sum(q.spec.node_name == p.spec.node_name for q in every) == 3}
    assert {p.spec.node_name for p in order[:3]} == crowded
    cheap = replace(every[0], meta=replace(every[0].meta, annotations={
        "controller.kubernetes.io/pod-deletion-cost": "-1"}))  # fmt: skip
    broken = replace(every[1], status=replace(every[1].status, ready=False))
    order = victims(plane.core, rs, [every[3], every[2], cheap, broken, every[4]])
    assert order[:2] == [broken, cheap]


COST = "controller.kubernetes.io/pod-deletion-cost"

POD = Pod(Meta("one", "default"), spec=PodSpec((container(),), node_name="calm"), status=PodStatus("Running"))
READY = replace(POD, status=PodStatus("Running", ready=True, ready_since_ns=S))


def restarted(*regular, sidecar):
    boxes = tuple(ContainerStatus(f"c{n}", "running", restarts=count) for n, count in enumerate(regular))
    status = replace(READY.status, containers=boxes, inits=(ContainerStatus("side", "running", restarts=sidecar),))
    return replace(
        READY, status=status, spec=replace(READY.spec, init_containers=(Container("side", restart_policy="Always"),))
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (replace(POD, spec=replace(POD.spec, node_name="")), READY),
        (replace(READY, status=replace(READY.status, phase="Pending")), POD),
        (replace(POD, status=replace(POD.status, phase="Unknown")), POD),
        (POD, READY),
        (replace(READY, meta=replace(READY.meta, annotations={COST: "-5"})), READY),
        (READY, replace(READY, meta=replace(READY.meta, annotations={COST: "7"}))),
        (replace(READY, spec=replace(READY.spec, node_name="crowded")), READY),
        (replace(READY, status=replace(READY.status, ready_since_ns=900 * S)), READY),
        (restarted(3, 0, sidecar=0), restarted(2, 2, sidecar=9)),
        (restarted(1, 0, sidecar=2), restarted(1, 1, sidecar=1)),
        (replace(READY, meta=replace(READY.meta, creation_ns=900 * S)), READY),
        # Ready within one second is ready at one time, so restarts decide, not the uid.
        (
            replace(restarted(1, sidecar=0), meta=replace(READY.meta, uid="9")),
            replace(READY, status=replace(READY.status, ready_since_ns=S + S // 2)),
        ),
    ],
)
def test_the_order_of_scaling_down_is_upstreams(one, two):
    """ActivePodsWithRanks.Less, one wish after the other; of restarts the most of any one container counts."""
    plane = cluster(deployment(1), nodes=1)
    plane.run_until(1000 * S)
    rs = next(o for o in plane.store.of_kind("ReplicaSet") if isinstance(o, ReplicaSet))
    for n in range(2):
        neighbour = replace(READY, meta=Meta(f"near-{n}", "default", owner=rs.key))
        plane.core.create(replace(neighbour, spec=replace(READY.spec, node_name="crowded")), "test")
    assert victims(plane.core, rs, [one, two]) == [one, two]
    assert victims(plane.core, rs, [two, one]) == [one, two]


@pytest.mark.parametrize("text", ["+3", "08", "²", "--5", "", "cheap", "99999999999"])
def test_a_deletion_cost_that_is_no_number_counts_as_zero(text):
    plane = cluster(deployment(1), nodes=1)
    rs = next(o for o in plane.store.of_kind("ReplicaSet") if isinstance(o, ReplicaSet))
    odd = replace(READY, meta=replace(READY.meta, annotations={COST: text}))
    assert victims(plane.core, rs, [odd, POD])[0] == POD
    dear = replace(READY, meta=replace(READY.meta, annotations={COST: "1"}))
    assert victims(plane.core, rs, [dear, odd])[0] == odd


def test_a_deleted_deployment_takes_its_pods_along():
    plane = cluster()
    plane.delete(Key("Deployment", "default", "product"))
    plane.run_until(30 * S)
    assert pods(plane) == []
    assert plane.store.keys("ReplicaSet") == ()
