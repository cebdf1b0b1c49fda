"""The cluster autoscaler removes a node: who hears of its taint, and when the machine goes."""

from dataclasses import replace
from itertools import pairwise

import pytest
from control_clusters import S, deployment, first, service

from kflab.cluster.store import Store
from kflab.control import made
from kflab.control.delays import Delays
from kflab.control.facts import Fact, What
from kflab.control.plane import ControlPlane
from kflab.control.verbs import VERBS
from kflab.draws import Draws
from kflab.errors import KflabError
from kflab.manifest.objects import Key, KubeObject, LabelSelector, Meta
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, PodDisruptionBudget

SERVICE = Key("Service", "default", "product-service")
NODE = Key("Node", "", "node-2")


def plane_of(name: str, *more: KubeObject, replicas: int = 3, policy: str = "Cluster") -> ControlPlane:
    plane = ControlPlane(Store(), Draws(7), Delays(), load_balancer=name)
    balanced = service(type="LoadBalancer", external_traffic_policy=policy)
    plane.load((*made.nodes(3).objects, deployment(replicas), balanced, *more))
    plane.settle()
    return plane


def remove(plane: ControlPlane, **options: int) -> None:
    VERBS["autoscaleDown"].do(plane, NODE, options)


def taints(plane: ControlPlane) -> list[str]:
    node = plane.store.get(NODE)
    assert isinstance(node, Node)
    return [taint.key for taint in node.taints]


def machine_off(facts: list[Fact] | tuple[Fact, ...]) -> float:
    return first(facts, What.MACHINE_OFF).t_ns / S


def test_after_the_delay_pods_are_evicted_and_the_machine_goes_when_they_are_gone() -> None:
    plane = plane_of("aws-nlb")
    remove(plane)
    assert taints(plane) == ["ToBeDeletedByClusterAutoscaler"]
    facts = plane.run_until(60 * S)
    evicted = [fact.t_ns / S for fact in facts if fact.what == What.POD_EVICTED]
    assert len(evicted) == 1
    assert 5 < evicted[0] < 5.1
    gone = next(f.t_ns / S for f in facts if f.what == What.POD_REMOVED)
    assert gone < machine_off(facts) <= gone + 5
    assert machine_off(facts) % 5 == 0
    assert all(pod.spec.node_name != "node-2" for pod in plane.store.of_kind("Pod") if isinstance(pod, Pod))


@pytest.mark.parametrize(("options", "goes_at"), [({}, 5), ({"delay": 42 * S}, 42)])
def test_an_empty_node_goes_at_the_end_of_the_delay_and_daemon_pods_do_not_hold_it(
    options: dict[str, int], goes_at: int
) -> None:
    labels = {"app": "agent"}
    agents = DaemonSet(
        Meta("agent", "default"), selector=LabelSelector(labels), template=replace(deployment().template, labels=labels)
    )
    plane = plane_of("aws-nlb", agents, replicas=0)
    remove(plane, **options)
    assert machine_off(plane.run_until(60 * S)) == goes_at


def test_a_budget_that_allows_nothing_keeps_the_node_and_the_taint_is_taken_away() -> None:
    budget = PodDisruptionBudget(Meta("web", "default"), selector=LabelSelector({"app": "product"}), max_unavailable=0)
    plane = plane_of("aws-nlb", budget)
    remove(plane)
    facts = plane.run_until(300 * S)
    refused = [fact.t_ns / S for fact in facts if fact.what == What.EVICTION_REFUSED]
    assert len(refused) == 11
    assert [round(b - a) for a, b in pairwise(refused)] == [10] * 10
    assert not [fact for fact in facts if fact.what == What.MACHINE_OFF]
    assert taints(plane) == []
    remove(plane)  # it may be tried again


@pytest.mark.parametrize(
    ("name", "policy", "low", "high"),
    [
        ("aws-nlb", "Cluster", 1, 20),  # its controller reads the taint; new flows come for some seconds more
        ("gcp", "Cluster", 1, 5),  # so does GKE's; there new flows stop with it
        ("kind", "Cluster", 3, 6),  # kube-proxy's /healthz says 503: two checks 3 s apart
        ("kind", "Local", None, None),  # healthCheckNodePort does not look at the node
        ("aws-nlb-ccm", "Cluster", None, None),  # a connect to the NodePort goes through
    ],
)
def test_when_load_balancers_heed_the_taint(name: str, policy: str, low: int | None, high: int | None) -> None:
    plane = plane_of(name, policy=policy)
    remove(plane, delay=100 * S)
    facts = plane.run_until(99 * S)
    told = [fact.t_ns / S for fact in facts if fact.what == What.LB_TARGETS_CHANGED]
    healthy = plane.balancers[SERVICE].healthy()
    if low is None or high is None:
        assert "node-2" in healthy
    else:
        assert "node-2" not in healthy
        assert low <= told[-1] <= high


def test_karpenters_taint_is_read_by_awss_controller_alone() -> None:
    for name, there in (("aws-nlb", False), ("gcp", True)):
        plane = plane_of(name)
        node = plane.store.get(NODE)
        assert isinstance(node, Node)
        plane.core.put(replace(node, taints=(Taint("karpenter.sh/disrupted", "NoSchedule"),)), "karpenter")
        plane.run_until(30 * S)
        assert ("node-2" in plane.balancers[SERVICE].healthy()) is there


def test_it_is_not_done_twice() -> None:
    plane = plane_of("aws-nlb")
    remove(plane)
    with pytest.raises(KflabError, match="node-2 is being removed already"):
        remove(plane)
    twin = plane.copy()
    assert [f.text for f in twin.run_until(60 * S)] == [f.text for f in plane.run_until(60 * S)]
