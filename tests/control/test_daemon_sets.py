"""DaemonSets: a pod on every node that may have one, and new templates within maxUnavailable or maxSurge."""

from collections import Counter
from dataclasses import replace

from control_clusters import S, cluster, container, pods, ready
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.control import made
from kflab.control.daemonset import TOLERATIONS
from kflab.control.facts import What
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_cluster import Taint
from kflab.manifest.objects_pods import PodSpec, PodTemplate, Toleration
from kflab.manifest.objects_workloads import DaemonSet, RollingUpdate

AGENT = Key("DaemonSet", "default", "agent")
LABELS = {"app": "agent"}


def daemon_set(surge=0, unavailable=1, kind="RollingUpdate", **fields):
    template = PodTemplate(LABELS, {}, PodSpec((container(image="agent:v1"),)))
    update = RollingUpdate(kind, surge, unavailable)
    return DaemonSet(
        Meta("agent", "default"), selector=LabelSelector(LABELS), template=template, update=update, **fields
    )


def roll(plane, image):
    now = plane.store.get(AGENT)
    template = replace(now.template, spec=replace(now.template.spec, containers=(container(image=image),)))
    return plane.apply([replace(now, template=template)])


def images(plane):
    return sorted((pod.spec.node_name, pod.spec.containers[0].image) for pod in pods(plane))


def all_of(image, nodes):
    return [(f"node-{n}", image) for n in range(1, nodes + 1)]


def steps(plane, until_s):
    while (due := plane.next_ns()) is not None and due <= until_s * S:
        yield plane.step()


def test_every_daemon_pod_tolerates_what_the_controller_adds():
    plane = cluster(daemon_set())
    assert all(set(TOLERATIONS) <= set(pod.spec.tolerations) for pod in pods(plane))
    host = replace(
        daemon_set(), template=replace(daemon_set().template, spec=PodSpec((container(),), host_network=True))
    )
    added = {one.key for pod in pods(cluster(host)) for one in pod.spec.tolerations}
    assert "node.kubernetes.io/network-unavailable" in added


@settings(max_examples=15, deadline=None)
@given(nodes=st.integers(1, 6), seed=st.integers(0, 1000),
       unavailable=st.one_of(st.integers(1, 4), st.sampled_from(["10%", "50%", "100%"])))  # fmt: skip
def test_without_surge_no_more_than_max_unavailable_nodes_lack_a_pod_and_none_has_two(nodes, seed, unavailable):
    plane = cluster(daemon_set(0, unavailable), nodes=nodes, seed=seed)
    roll(plane, "agent:v2")
    allowed = unavailable if isinstance(unavailable, int) else -(-int(unavailable[:-1]) * nodes // 100)
    for _ in steps(plane, 1000):
        assert len(ready(plane)) >= nodes - allowed
        assert max(Counter(pod.spec.node_name for pod in pods(plane) if pod.spec.node_name).values(), default=0) <= 1
    assert images(plane) == all_of("agent:v2", nodes)
    assert plane.next_ns() is None


@settings(max_examples=15, deadline=None)
@given(nodes=st.integers(1, 6), seed=st.integers(0, 1000),
       surge=st.one_of(st.integers(1, 4), st.sampled_from(["10%", "50%", "100%"])))  # fmt: skip
def test_with_surge_every_node_keeps_a_ready_pod_and_few_have_two(nodes, seed, surge):
    plane = cluster(daemon_set(surge, 0, min_ready_s=3), nodes=nodes, seed=seed)
    roll(plane, "agent:v2")
    allowed = surge if isinstance(surge, int) else -(-int(surge[:-1]) * nodes // 100)
    for _ in steps(plane, 1000):
        assert {pod.spec.node_name for pod in ready(plane)} == {f"node-{n}" for n in range(1, nodes + 1)}
        assert len([pod for pod in pods(plane) if not pod.terminating]) <= nodes + allowed
    assert images(plane) == all_of("agent:v2", nodes)
    assert plane.store.get(AGENT).observed["numberUnavailable"] == 0
    assert plane.next_ns() is None


def test_on_delete_replaces_only_what_somebody_deletes():
    plane = cluster(daemon_set(kind="OnDelete"))
    roll(plane, "agent:v2")
    plane.run_until(100 * S)
    assert images(plane) == all_of("agent:v1", 3)
    plane.delete_pod(next(pod.key for pod in pods(plane) if pod.spec.node_name == "node-2"))
    plane.run_until(200 * S)
    assert [image for _, image in images(plane)] == ["agent:v1", "agent:v2", "agent:v1"]
    assert plane.store.get(AGENT).observed["updatedNumberScheduled"] == 1


def test_a_node_has_no_new_pod_until_the_old_one_is_gone():
    plane = cluster(daemon_set())
    victim = pods(plane)[0]
    facts = [*plane.delete_pod(victim.key), *plane.run_until(100 * S)]
    removed = next(fact.t_ns for fact in facts if fact.what is What.POD_REMOVED)
    created = next(fact.t_ns for fact in facts if fact.what is What.POD_CREATED)
    assert created > removed


def test_nodes_that_join_get_a_pod_and_cordoned_ones_keep_theirs():
    plane = cluster(daemon_set(), nodes=2)
    plane.apply([replace(plane.store.get(Key("Node", "", "node-1")), unschedulable=True)])
    plane.apply([made.used_node("late", 3)])
    plane.run_until(60 * S)
    assert {pod.spec.node_name for pod in ready(plane)} == {"node-1", "node-2", "late"}
    plane.delete_pod(next(pod.key for pod in pods(plane) if pod.spec.node_name == "node-1"))
    plane.run_until(200 * S)
    assert {pod.spec.node_name for pod in ready(plane)} == {"node-1", "node-2", "late"}
    assert plane.store.get(AGENT).observed["desiredNumberScheduled"] == 3


def test_a_taint_that_is_not_tolerated_evicts_only_with_no_execute():
    plane = cluster(daemon_set())
    for effect, left in (("NoSchedule", 3), ("NoExecute", 2)):
        node = plane.store.get(Key("Node", "", "node-3"))
        plane.apply([replace(node, taints=(Taint("gpu", effect, "yes"),))])
        plane.run_until(plane.now_ns + 100 * S)
        assert len(pods(plane)) == left
        assert plane.store.get(AGENT).observed["desiredNumberScheduled"] == 2


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    surge=st.booleans(),
    deeds=st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from(["kill", "roll", "cordon"]), st.integers(1, 4)), max_size=6
    ),
)
def test_kills_cordons_and_rollouts_end_with_one_new_pod_on_every_node(seed, surge, deeds):
    plane = cluster(daemon_set(1, 0) if surge else daemon_set(0, 1), nodes=4, seed=seed)
    image = "agent:v1"
    for wait, deed, number in deeds:
        for _ in steps(plane, plane.now_ns // S + wait):
            there = Counter(pod.spec.node_name for pod in pods(plane) if not pod.terminating and pod.spec.node_name)
            assert max(there.values(), default=0) <= 1 + surge
        if deed == "roll":
            image = f"agent:v{number + 1}"
            roll(plane, image)
        elif deed == "cordon":
            node = plane.store.get(Key("Node", "", f"node-{number}"))
            plane.apply([replace(node, unschedulable=not node.unschedulable)])
        else:
            for pod in pods(plane):
                if pod.spec.node_name == f"node-{number}" and not pod.terminating:
                    plane.delete_pod(pod.key)
    plane.run_until(plane.now_ns + 2000 * S)
    assert images(plane) == all_of(image, 4)
    assert len(ready(plane)) == 4


def test_only_what_tolerates_every_taint_should_run_on_a_node_that_is_not_ready():
    plain, every = daemon_set(), Toleration("", "Exists")
    spec = replace(plain.template.spec, tolerations=(every,))
    other = replace(
        plain, meta=Meta("proxy", "default"), template=replace(plain.template, spec=spec, labels={"p": "1"})
    )
    plane = cluster(plain, replace(other, selector=LabelSelector({"p": "1"})))
    plane.machines.power_off("node-3")
    plane.run_until(100 * S)
    desired = [ds.observed["desiredNumberScheduled"] for ds in plane.store.of_kind("DaemonSet")]
    assert desired == [2, 3]
