"""A node's memory runs out: who goes, how, and where the replacement goes."""

from itertools import pairwise

import pytest
from control_clusters import LABELS, S, cluster, container, deployment, first, pods, service

from kflab.control.facts import What
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.kubectl.events import events_from
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_workloads import PodDisruptionBudget


def on(plane, node):
    return [pod.key for pod in pods(plane) if pod.spec.node_name == node]


@pytest.mark.parametrize("seed", range(4))
def test_the_kubelet_evicts_one_pod_within_ten_seconds_and_asks_no_budget(seed):
    budget = PodDisruptionBudget(Meta("all", "default"), max_unavailable=0, selector=LabelSelector(LABELS))
    plane = cluster(deployment(3), service(), budget, seed=seed, nodes=3)
    node = pods(plane)[0].spec.node_name
    before = on(plane, node)
    facts = [*VERBS["nodePressure"].do(plane, Key("Node", "", node), {}), *plane.run_until(30 * S)]
    evicted = first(facts, What.POD_EVICTED)
    assert evicted.t_ns <= 10 * S
    assert evicted.subject in before
    assert len([f for f in facts if f.what is What.POD_EVICTED]) == 1
    exited = first(facts, What.CONTAINER_EXITED, evicted.subject)
    assert exited.t_ns - evicted.t_ns <= 2.1 * S
    obj = plane.store.get(evicted.subject)
    assert (obj.status.phase, obj.status.reason) == ("Failed", "Evicted")
    assert evicted.subject not in plane.runtime
    fresh = first(facts, What.POD_CREATED).subject
    assert plane.store.get(fresh).spec.node_name != node, "the taint keeps it away"
    assert plane.store.get(fresh).status.ready
    said = [e.message for e in events_from(facts, plane.store) if e.reason == "Evicted"]
    assert said == ["The node was low on resource: memory."]


def test_pods_without_a_memory_request_go_first_one_every_ten_seconds():
    asks = deployment(2, container(requests={"memory": "1Gi"}), name="asks")
    plane = cluster(asks, deployment(2), service(), nodes=1)
    facts = [*VERBS["nodePressure"].do(plane, Key("Node", "", "node-1"), {"pods": 3}), *plane.run_until(60 * S)]
    gone = [f for f in facts if f.what is What.POD_EVICTED]
    assert [f.subject.name.partition("-")[0] for f in gone] == ["product", "product", "asks"]
    assert [two.t_ns - one.t_ns for one, two in pairwise(gone)] == [10 * S, 10 * S]
    waiting = [p for p in pods(plane) if p.status.phase == "Pending"]
    assert len(waiting) == 3, "the only node has the taint"
    with pytest.raises(KflabError, match="under memory pressure already"):
        plane.pressure.begin("node-1", 1)
    plane.run_until(400 * S)
    assert not plane.store.get(Key("Node", "", "node-1")).taints
    assert all(p.status.ready for p in pods(plane) if p.status.phase == "Running")
    assert sum(p.status.phase == "Running" for p in pods(plane)) == 4


@pytest.mark.parametrize("grace_s", [30, 1])
def test_a_delete_gives_a_pod_that_its_kubelet_evicts_no_more_time(grace_s):
    plane = cluster(deployment(2, container(pre_stop_sleep_s=20)), service(), nodes=1)
    VERBS["nodePressure"].do(plane, Key("Node", "", "node-1"), {})
    while not any(fact.what is What.POD_EVICTED for fact in plane.facts):
        plane.run_until(plane.now_ns + S // 10)
    evicted = first(plane.facts, What.POD_EVICTED)
    plane.delete_pod(evicted.subject, grace_s=grace_s)
    plane.run_until(plane.now_ns + 40 * S)
    (term,) = (f for f in plane.facts if f.what is What.SIGTERM_SENT and f.subject == evicted.subject)
    assert S <= term.t_ns - evicted.t_ns < 1.1 * S  # eviction leaves a preStop hook 1 s
    assert first(plane.facts, What.CONTAINER_EXITED, evicted.subject).t_ns - evicted.t_ns < 3.1 * S
    assert plane.store.get(evicted.subject) is None
