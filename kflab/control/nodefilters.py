"""Which nodes a pod may run on, as far as the two alone decide it.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins (nodeunschedulable, tainttoleration, nodeaffinity), whose
words the reasons are; k8s.io/component-helpers scheduling/corev1/nodeaffinity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kflab.manifest.objects import LabelSelector, Requirement
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import PodSpec, Toleration


def named_node(affinity: Mapping[str, Any] | None) -> str | None:
    """The one node that a DaemonSet's pod asks for by metadata.name.

    Source: k8s.io/kubernetes pkg/controller/daemon/util ReplaceDaemonSetPodNodeNameNodeAffinity.
    """
    terms = _node_terms(affinity)
    if terms is None or len(terms) != 1:
        return None
    term = terms[0]
    for item in term.get("matchFields") or ():
        values = list(item.get("values") or ())
        if item.get("key") == "metadata.name" and item.get("operator") == "In" and len(values) == 1:
            return str(values[0])
    return None


def _node_terms(affinity: Mapping[str, Any] | None) -> list[Mapping[str, Any]] | None:
    """Terms of the required node affinity; None where there is none."""
    if not affinity:
        return None
    level: Any = affinity
    for name in ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"):
        level = level.get(name) if isinstance(level, Mapping) else None
    if not isinstance(level, Mapping):
        return None
    return [term for term in level.get("nodeSelectorTerms") or () if isinstance(term, Mapping)]


def fits(spec: PodSpec, node: Node) -> bool:
    """Whether the pod may run on the node, as far as node and pod alone decide it."""
    return not misfit(spec, node)


def misfit(spec: PodSpec, node: Node) -> str:
    """Why node and pod do not go together, in the filter's words; "": they do.

    A node that is not Ready refuses pods here as by the taint, not-ready or unreachable, that a cluster gives it.
    """
    if node.unschedulable and not _tolerates_unschedulable(spec):
        return "node(s) were unschedulable"
    for taint in node.taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not tolerated(taint, spec.tolerations):
            return f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
    if node.ready != "True":
        state = f"node.kubernetes.io/{'unreachable' if node.ready == 'Unknown' else 'not-ready'}"
        if not tolerated(Taint(state, "NoSchedule"), spec.tolerations):
            return f"node(s) had untolerated taint {{{state}: }}"
    return "" if affinity_allows(spec, node) else "node(s) didn't match Pod's node affinity/selector"


def may_stay(spec: PodSpec, node: Node) -> bool:
    """Whether a daemon pod that runs on a node goes on there though no new one would be put there.

    Source: k8s.io/kubernetes pkg/controller/daemon/daemon_controller.go, NodeShouldRunDaemonPod.
    """
    evicting = [taint for taint in node.taints if taint.effect == "NoExecute"]
    return fits(spec, replace(node, ready="True", unschedulable=False, taints=())) and all(
        tolerated(taint, spec.tolerations) for taint in evicting
    )


def _tolerates_unschedulable(spec: PodSpec) -> bool:
    return tolerated(Taint("node.kubernetes.io/unschedulable", "NoSchedule"), spec.tolerations)


def tolerated(taint: Taint, tolerations: tuple[Toleration, ...]) -> bool:
    """k8s.io/api/core/v1 Toleration.ToleratesTaint for any of them."""
    for toleration in tolerations:
        if toleration.effect and toleration.effect != taint.effect:
            continue
        if toleration.key and toleration.key != taint.key:
            continue
        if toleration.operator == "Exists" or (toleration.key and toleration.value == taint.value):
            return True
    return False


def affinity_allows(spec: PodSpec, node: Node) -> bool:
    """Node selector, and required node affinity: any term."""
    labels = node.meta.labels
    if any(labels.get(name) != value for name, value in spec.node_selector.items()):
        return False
    terms = _node_terms(spec.affinity)
    return terms is None or any(_term_matches(term, node) for term in terms)


def preferences(spec: PodSpec) -> Sequence[Mapping[str, Any]]:
    """Preferred node affinity: entries of weight and preference."""
    wishes: Mapping[str, Any] = (spec.affinity or {}).get("nodeAffinity") or {}
    return tuple(wishes.get("preferredDuringSchedulingIgnoredDuringExecution") or ())


def preferred(spec: PodSpec, node: Node) -> int:
    """Sum of the weights of the preferences that a node meets (nodeaffinity/node_affinity.go, Score)."""
    wishes = preferences(spec)
    return sum(int(wish.get("weight") or 0) for wish in wishes if _term_matches(wish.get("preference") or {}, node))


def soft_taints(spec: PodSpec, node: Node) -> int:
    """PreferNoSchedule taints that a pod does not tolerate (tainttoleration/taint_toleration.go, Score)."""
    soft = (taint for taint in node.taints if taint.effect == "PreferNoSchedule")
    return sum(not tolerated(taint, spec.tolerations) for taint in soft)


def _term_matches(term: Mapping[str, Any], node: Node) -> bool:
    """All expressions and fields of a node selector term; an empty term matches nothing."""
    expressions, fields = term.get("matchExpressions"), term.get("matchFields")
    return (
        bool(expressions or fields)
        and term_matches(expressions, node.meta.labels)
        and term_matches(fields, {"metadata.name": node.meta.name})
    )


def term_matches(expressions: object, labels: Mapping[str, str]) -> bool:
    """Whether labels meet a node selector term's expressions."""
    if not isinstance(expressions, list | tuple):
        return True
    wanted: list[Requirement] = []
    compare: list[Requirement] = []
    for item in expressions:
        if isinstance(item, Mapping):
            operator = str(item.get("operator"))
            requirement = Requirement(str(item.get("key")), operator, tuple(str(v) for v in item.get("values") or ()))
            (compare if operator in ("Gt", "Lt") else wanted).append(requirement)
    if not LabelSelector(match_expressions=tuple(wanted)).matches(labels):
        return False
    return all(_compares(requirement, labels.get(requirement.key, "")) for requirement in compare)


def _compares(requirement: Requirement, value: str) -> bool:
    bound = requirement.values[0] if requirement.values else ""
    if not value.lstrip("-").isdigit() or not bound.lstrip("-").isdigit():
        return False
    return int(value) > int(bound) if requirement.operator == "Gt" else int(value) < int(bound)
