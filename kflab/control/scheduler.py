"""Scheduler: which node a pod gets.

Simplified from k8s.io/kubernetes pkg/scheduler: filters are NodeUnschedulable, NodeName, TaintToleration, node
selector and required node affinity, and 110 pods per node; the score is fewest pods of the same owner, then fewest
pods, then the order of the nodes. Resources, preferences and pod affinity are not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.manifest.objects import Key, LabelSelector, Node, Pod, PodSpec, Requirement, Taint, Toleration

BY = "scheduler"

MAX_PODS = 110
"""kubelet maxPods (lifecycle 1.1)."""


@dataclass(frozen=True, slots=True)
class SchedulePod(Event):
    """A pod without node is at the head of the queue."""

    room: ClassVar[str] = "scheduler"
    needs_api: ClassVar[bool] = True
    key: Key


Signature = tuple[Any, ...]


class Scheduler(Controller):
    """Binds pods to nodes."""

    room = "scheduler"
    kinds = ("Pod", "Node")
    component = "scheduler"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.parked: dict[Key, None] = {}
        """Pods that fitted nowhere; tried again when a node changes or a pod goes."""
        self._own: dict[tuple[Key, str], int] = {}
        self._heaps: dict[Signature, list[tuple[int, int, str]]] = {}
        """Fitting nodes of pods with the same wishes as (pods, order, node)."""
        self._fitting: dict[Signature, set[str]] = {}
        self._order: dict[str, int] = {}
        self._next_order = 0

    def changed(self, change: Change) -> None:
        """New pods queue; a node's change or a pod's end lets parked ones try again."""
        old, new = change.old, change.new
        if change.key.kind == "Node":
            self._heaps.clear()
            self._fitting.clear()
            if new is not None and change.key.name not in self._order:
                self._order[change.key.name] = self._next_order
                self._next_order += 1
            self._unpark()
            return
        before = old.spec.node_name if isinstance(old, Pod) else ""
        after = new.spec.node_name if isinstance(new, Pod) else ""
        if before != after:
            self._count(old if isinstance(old, Pod) else None, before, -1)
            self._count(new if isinstance(new, Pod) else None, after, 1)
            if not after:
                self._freed(before)
        if old is None and isinstance(new, Pod) and not after:
            self.core.push(self.core.delay("watch_s", new.key), SchedulePod(change.key))
        if new is None:
            self.parked.pop(change.key, None)

    def _count(self, pod: Pod | None, node: str, step: int) -> None:
        if pod is None or not node or pod.meta.owner is None:
            return
        at = (pod.meta.owner, node)
        self._own[at] = self._own.get(at, 0) + step
        if self._own[at] <= 0:
            del self._own[at]

    def _freed(self, node: str) -> None:
        # An entry that counts too many would come up too late, so a better one is added; the old one is dropped
        # when it surfaces.
        entry = (self.core.index.count_on(node), self._order.get(node, -1), node)
        for signature, heap in self._heaps.items():
            if node in self._fitting[signature]:
                heappush(heap, entry)
        self._unpark()

    def _unpark(self) -> None:
        for key in self.parked:
            self.core.push(self.core.delay("watch_s", key), SchedulePod(key))
        self.parked.clear()

    def handle(self, event: Event) -> None:
        """Find a node and bind."""
        assert isinstance(event, SchedulePod)
        pod = self.core.store.get(event.key)
        if not isinstance(pod, Pod) or pod.spec.node_name or pod.meta.deletion_ns is not None:
            return
        node = self._choose(pod)
        if node is None:
            self.parked[event.key] = None
            if pod.status.reason != "Unschedulable":
                self.core.put(replace(pod, status=replace(pod.status, reason="Unschedulable")), BY)
            return
        now = self.core.now_ns
        bound = replace(
            pod,
            spec=replace(pod.spec, node_name=node),
            status=replace(pod.status, scheduled_ns=now, reason=""),
        )
        change = self.core.put(bound, BY)
        if change is not None:
            name = pod.meta.name
            self.core.fact(What.POD_SCHEDULED, pod.key, BY, f"scheduler put {name} on {node}", change.revision)

    def _choose(self, pod: Pod) -> str | None:
        named = named_node(pod.spec.affinity)
        if named is not None:
            node = self.core.store.get(Key("Node", "", named))
            good = isinstance(node, Node) and fits(pod.spec, node) and self.core.index.count_on(named) < MAX_PODS
            return named if good else None
        signature = (
            tuple(sorted(pod.spec.node_selector.items())), pod.spec.tolerations, repr(pod.spec.affinity),
        )  # fmt: skip
        heap = self._heaps.get(signature)
        if heap is None:
            nodes = [
                node for node in self.core.store.of_kind("Node") if isinstance(node, Node) and fits(pod.spec, node)
            ]
            names = [node.meta.name for node in nodes]
            heap = [(self.core.index.count_on(name), self._order[name], name) for name in names]
            heapify(heap)
            self._heaps[signature], self._fitting[signature] = heap, set(names)
        return self._pick(heap, pod.meta.owner)

    def _pick(self, heap: list[tuple[int, int, str]], owner: Key | None) -> str | None:
        """The best node, looking in order of pod counts until one has no pod of this owner."""
        aside: list[tuple[int, int, str]] = []
        seen: dict[str, None] = {}
        best: tuple[int, int, int, str] | None = None
        while heap:
            count, order, node = heappop(heap)
            if node in seen:
                continue
            current = self.core.index.count_on(node)
            if current != count:
                heappush(heap, (current, order, node))
                continue
            seen[node] = None
            aside.append((count, order, node))
            if count >= MAX_PODS:
                break
            own = self._own.get((owner, node), 0) if owner is not None else 0
            candidate = (own, count, order, node)
            if best is None or candidate < best:
                best = candidate
            if own == 0:
                break
        for entry in aside:
            heappush(heap, entry)
        return best[3] if best is not None else None


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
    level: Any = affinity
    for name in ("nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"):
        level = level.get(name) if isinstance(level, Mapping) else None
    if not isinstance(level, Mapping):
        return None
    return [term for term in level.get("nodeSelectorTerms") or () if isinstance(term, Mapping)]


def fits(spec: PodSpec, node: Node) -> bool:
    """Whether the pod may run on the node, as far as filters are modelled."""
    if node.ready != "True" or (node.unschedulable and not _tolerates_unschedulable(spec)):
        return False
    labels = node.meta.labels
    if any(labels.get(name) != value for name, value in spec.node_selector.items()):
        return False
    if not all(
        tolerated(taint, spec.tolerations) for taint in node.taints if taint.effect in ("NoSchedule", "NoExecute")
    ):
        return False
    return _affinity_allows(spec.affinity, node)


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


def _affinity_allows(affinity: Mapping[str, Any] | None, node: Node) -> bool:
    """Required node affinity: any term, all of its expressions and fields."""
    terms = _node_terms(affinity)
    if terms is None:
        return True
    return any(
        _matches(term.get("matchExpressions"), node.meta.labels)
        and _matches(term.get("matchFields"), {"metadata.name": node.meta.name})
        for term in terms
    )


def _matches(expressions: object, labels: Mapping[str, str]) -> bool:
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
