"""Priorities: who is deleted to make room for whom, and what the scheduler says when nobody can be."""

from dataclasses import replace

import pytest

from kflab.control import made
from kflab.control.facts import What
from kflab.control.plane import settle
from kflab.control.preemption import Candidate, _best
from kflab.control.verbs import VERBS
from kflab.draws import Draws
from kflab.kubectl.events import events_from
from kflab.kubectl.printers import cells
from kflab.manifest.admit import admit
from kflab.manifest.loader import load
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_cluster import PriorityClass
from kflab.manifest.objects_pods import Pod, PodSpec, PodStatus
from kflab.manifest.objects_workloads import PodDisruptionBudget
from kflab.manifest.sources import SourceText
from tests.control.control_clusters import S, container, deployment, pods
from tests.control.test_scheduler_resources import nodes, where

HIGH = PriorityClass(Meta("high"), value=1000)
LOW = PriorityClass(Meta("low"), value=10)


def asking(replicas, cpu, name, cls="", **spec):
    return deployment(replicas, container(requests={"cpu": cpu}), name=name, priority_class=cls, **spec)


def opened(*objects, sizes=("1", "1")):
    return settle([*nodes(*({"cpu": size} for size in sizes)), HIGH, LOW, *objects], Draws(3))


def said(plane, what=What.POD_UNSCHEDULABLE):
    return [fact.detail for fact in plane.facts if fact.what is what]


def test_a_less_important_pod_goes_with_its_grace_and_its_replacement_does_not_take_the_place():
    slow = replace(asking(2, "1", "product"))
    slow = replace(slow, template=replace(slow.template, annotations={"kflab.dev/exit-after": "12s"}))
    plane = opened(slow)
    plane.apply([asking(1, "1", "urgent", "high")])
    plane.run_until(5 * S)
    (urgent,) = pods(plane, app="urgent")
    (victim,) = [pod for pod in pods(plane, app="product") if pod.terminating]
    assert (urgent.spec.node_name, urgent.status.nominated_node) == ("", victim.spec.node_name)
    assert cells(urgent, plane.now_ns, True)[-2] == victim.spec.node_name, "kubectl's NOMINATED NODE"
    plane.run_until(60 * S)
    (urgent,) = pods(plane, app="urgent")
    assert urgent.spec.node_name == victim.spec.node_name
    assert sorted(pod.spec.node_name for pod in pods(plane, app="product")) == sorted(
        ["", *({"n1", "n2"} - {urgent.spec.node_name})]
    )
    gone = next(f.t_ns for f in plane.facts if f.what is What.POD_REMOVED and f.subject == victim.key)
    bound = next(f.t_ns for f in plane.facts if f.what is What.POD_SCHEDULED and f.subject == urgent.key)
    assert 12 * S < gone < bound < gone + S
    assert said(plane)[0] == "0/2 nodes are available: 2 Insufficient cpu."
    told = [e for e in events_from(plane.facts, plane.store) if e.reason == "Preempted"]
    assert [(e.about, e.message) for e in told] == [
        (victim.key, f"Preempted by pod {urgent.meta.uid} on node {urgent.spec.node_name}")
    ]
    waiting = next(pod for pod in pods(plane, app="product") if not pod.spec.node_name)
    assert said(plane)[-1].endswith(
        "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    )
    assert waiting.status.reason == "Unschedulable"


def test_only_as_many_go_as_have_to_and_the_less_important_first():
    plane = opened(asking(2, "1", "worker", "low"), asking(2, "1", "filler"), sizes=("4",))
    plane.apply([asking(1, "1", "urgent", "high")])
    plane.run_until(60 * S)
    assert [len([n for n in where(plane, app=name) if n]) for name in ("urgent", "worker", "filler")] == [1, 2, 1]


def test_a_node_where_no_budget_is_violated_is_preferred():
    budget = PodDisruptionBudget(Meta("kept", "default"), min_available=1, selector=LabelSelector({"app": "kept"}))
    kept = asking(1, "1", "kept", node_selector={"kubernetes.io/hostname": "n1"})
    two = [replace(each, meta=replace(each.meta, labels={"kubernetes.io/hostname": each.meta.name}))
           for each in nodes({"cpu": "1"}, {"cpu": "1"})]  # fmt: skip
    plane = settle([*two, HIGH, LOW, kept, asking(1, "1", "free", "low"), budget], Draws(3))
    facts = [*plane.apply([asking(1, "1", "urgent", "high")]), *plane.run_until(30 * S)]
    told = next(fact.text for fact in facts if "make room" in fact.text)
    assert "lets free-" in told, "though it is more important than the pod of n1"
    assert "on n2 make room for urgent-" in told
    plane.apply([asking(2, "1", "urgent", "high")])
    plane.run_until(60 * S)
    assert where(plane, app="urgent") == ["n1", "n2"], "a budget is asked, but forbids nothing"


def victim(priority, start_ns=0, name="v"):
    return Pod(Meta(name, "default"), spec=PodSpec(priority=priority), status=PodStatus(start_ns=start_ns))


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (Candidate("a", (victim(1),), 1), Candidate("b", (victim(100), victim(100)), 0)),
        (Candidate("a", (victim(9),), 0), Candidate("b", (victim(8), victim(8), victim(8)), 0)),
        (Candidate("a", (victim(5), victim(4)), 0), Candidate("b", (victim(5), victim(3)), 0)),
        (Candidate("a", (victim(5), victim(-7)), 0), Candidate("b", (victim(5),), 0)),
        (Candidate("a", (victim(5, 10), victim(4, 90)), 0), Candidate("b", (victim(5, 20), victim(4, 30)), 0)),
    ],
    ids=["budgets", "highest", "sum", "number", "youngest"],
)
def test_criteria_in_their_order(worse, better):
    """Source: pickOneNodeForPreemption's list of criteria."""
    assert _best([worse, better]) == _best([better, worse]) == better


def test_a_class_that_never_preempts_waits_but_goes_first_when_there_is_room():
    polite = PriorityClass(Meta("polite"), value=500, preemption_policy="Never")
    plane = opened(asking(1, "1", "product"), polite, sizes=("1",))
    plane.apply([asking(1, "1", "batch", "low", node_selector={"no": "where"})])
    plane.apply([asking(1, "1", "urgent", "polite"), asking(1, "1", "other")])
    plane.run_until(20 * S)
    assert where(plane, app="product") == ["n1"]
    assert (
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
        in said(plane)
    )
    plane.scale(Key("Deployment", "default", "product"), 0)
    plane.run_until(60 * S)
    assert (where(plane, app="urgent"), where(plane, app="other")) == (["n1"], [""])


def test_pods_that_keep_others_out_go_too():
    term = {"labelSelector": {"matchLabels": {"app": "urgent"}}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    labelled = [replace(each, meta=replace(each.meta, labels={"kubernetes.io/hostname": each.meta.name}))
                for each in nodes({"cpu": "8"})]  # fmt: skip
    plane = settle([*labelled, HIGH, asking(1, "1", "shy", affinity=apart), asking(1, "1", "calm")], Draws(3))
    plane.apply([asking(1, "1", "urgent", "high")])
    plane.run_until(40 * S)
    assert (where(plane, app="urgent"), where(plane, app="calm"), where(plane, app="shy")) == (["n1"], ["n1"], [""])


def test_nodes_that_do_not_go_with_the_pod_are_no_help():
    plane = opened(asking(2, "1", "product"))
    plane.apply([asking(1, "1", "urgent", "high", node_selector={"disk": "ssd"})])
    plane.run_until(20 * S)
    told = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are "
    assert said(plane) == [f"{told}available: 2 Preemption is not helpful for scheduling."]


def test_classes_give_priorities_when_pods_are_made():
    usual = PriorityClass(Meta("usual"), value=7, global_default=True)
    plane = opened(asking(1, "100m", "a", "system-node-critical"), asking(1, "100m", "b"), asking(1, "100m", "c", "x"))
    by_name = {pod.meta.labels["app"]: pod.spec.priority for pod in pods(plane)}
    assert by_name == {"a": 2_000_001_000, "b": 0, "c": 0}
    assert [text for text, _ in plane.assumptions if "PriorityClass x" in text]
    shown = [cells(each, plane.now_ns, False) for each in plane.store.of_kind("PriorityClass")]
    assert [row[:3] for row in shown if row[0].startswith("system")] == [
        ("system-node-critical", "2000001000", "false"), ("system-cluster-critical", "2000000000", "false"),
    ]  # fmt: skip
    plane.apply([usual])
    plane.apply([asking(1, "100m", "d")])
    plane.run_until(10 * S)
    (pod,) = pods(plane, app="d")
    assert (pod.spec.priority, pod.spec.priority_class) == (7, "usual")


def test_a_class_out_of_range_is_refused_in_the_servers_words():
    text = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: mine}\nvalue: 1000000001\n"
    (document,) = load([SourceText("a.yaml", text)]).documents
    (finding,) = admit(None, document.obj, document.marks)
    assert "maximum allowed value of a user defined priority is 1000000000" in finding.message
    assert (finding.place.line, finding.place.column) == (4, 8)


def test_node_pressure_takes_the_less_important_pod_and_never_a_critical_one():
    only = {"node_selector": {"kubernetes.io/hostname": "n1"}}
    labelled = [replace(each, meta=replace(each.meta, labels={"kubernetes.io/hostname": each.meta.name}))
                for each in nodes({"cpu": "8"}, {"cpu": "8"})]  # fmt: skip
    boxes = [deployment(1, container(), name=name, priority_class=cls, **only)
             for name, cls in (("usual", "low"), ("least", ""), ("vital", "system-node-critical"))]  # fmt: skip
    plane = settle([*labelled, LOW, *boxes], Draws(3))
    VERBS["nodePressure"].do(plane, Key("Node", "", "n1"), {"pods": 5})
    plane.run_until(120 * S)
    evicted = [f.subject.name.split("-")[0] for f in plane.facts if f.what is What.POD_EVICTED]
    assert evicted == ["least", "usual"]


def test_the_made_coredns_is_critical_as_kubeadms():
    workload, _ = made.coredns(()).objects
    assert workload.template.spec.priority_class == "system-cluster-critical"
    plane = settle([*nodes({"cpu": "1"}), workload], Draws(3))
    assert {pod.spec.priority for pod in pods(plane)} == {2_000_000_000}
