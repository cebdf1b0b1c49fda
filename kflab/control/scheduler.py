"""Scheduler: which node a pod gets.

Simplified from k8s.io/kubernetes pkg/scheduler. A pod that asks for nothing goes by NodeUnschedulable, NodeName,
TaintToleration, node selector, required node affinity and the number of pods a node takes; its score is fewest pods of
the same owner, then fewest pods, then the order of the nodes: what the default spreading and LeastAllocated come to on
equal nodes, found with a heap. For all others see placement.py.

A pod that fits nowhere is parked, and tried again at once when something changes that may help: from 1.33 on a
scheduler with nothing else to do does not wait for its back-off of 1 to 10 s (feature SchedulerPopFromBackoffQ,
backend/queue/scheduling_queue.go). Priorities are not modelled: no pod is deleted to make room (framework/preemption),
and the sentence on it that follows in a real FailedScheduling is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.nodefilters import fits, misfit, named_node
from kflab.control.nodespace import occupies
from kflab.control.placement import Placement, Reasons, sentence
from kflab.control.podterms import wishes_of
from kflab.manifest.objects import Key, Node, Pod, PodSpec
from kflab.replacing import replace

BY = "scheduler"


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
        self.parked: dict[Key, bool] = {}
        """Pods that fitted nowhere; tried again when a node changes or a pod goes; True: also when one comes."""
        self._said: dict[Key, str] = {}
        """What was last said about a pod that fits nowhere."""
        self.placement = Placement(core)
        self._own: dict[tuple[Key, str], int] = {}
        self._heaps: dict[Signature, list[tuple[int, int, str]]] = {}
        """Fitting nodes of pods with the same wishes as (pods, order, node)."""
        self._fitting: dict[Signature, dict[str, None]] = {}
        self._read: tuple[PodSpec, Signature] = (PodSpec(), ((), (), "None"))
        """The spec that was looked at last, and its signature."""
        self._order: dict[str, int] = {}
        self._next_order = 0

    def changed(self, change: Change) -> None:
        """New pods queue; a node's change or a pod's end lets parked ones try again."""
        old, new = change.old, change.new
        if change.key.kind == "Node":
            self.placement.node_changed(change.key.name, new if isinstance(new, Node) else None)
            self._heaps.clear()
            self._fitting.clear()
            if new is not None and change.key.name not in self._order:
                self._order[change.key.name] = self._next_order
                self._next_order += 1
            self._unpark()
            return
        was = old if isinstance(old, Pod) else None
        now = new if isinstance(new, Pod) else None
        freed = self._take(was, now)
        before = was.spec.node_name if was is not None else ""
        after = now.spec.node_name if now is not None else ""
        if before != after:
            self._count(was, before, -1)
            self._count(now, after, 1)
            if not after:
                self._freed(before)
        elif freed:
            self._unpark()
        if old is None and new is not None and not after:
            self.core.push(self.core.delay("watch_s", change.key), SchedulePod(change.key))
        if new is None:
            self.parked.pop(change.key, None)
            self._said.pop(change.key, None)

    def _take(self, was: Pod | None, now: Pod | None) -> bool:
        """Count a pod's requests where it is; whether it gave room back."""
        before, after = occupies(was), occupies(now)
        if before == after:
            return False
        if was is not None and before:
            self.placement.take(was, before, -1)
        if now is not None and after:
            self.placement.take(now, after, 1)
            self._unpark(waiting_for_pods=True)
        return bool(before)

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

    def _unpark(self, *, waiting_for_pods: bool = False) -> None:
        """Try parked pods again: all, or those for which another pod's coming makes a difference."""
        for key in [key for key, waits in self.parked.items() if waits or not waiting_for_pods]:
            del self.parked[key]
            self.core.push(self.core.delay("watch_s", key), SchedulePod(key))

    def handle(self, event: Event) -> None:
        """Find a node and bind."""
        assert isinstance(event, SchedulePod)
        pod = self.core.store.get(event.key)
        if not isinstance(pod, Pod) or pod.spec.node_name or pod.meta.deletion_ns is not None:
            return
        node, reasons = self._choose(pod)
        if node is None:
            self._park(pod, reasons)
            return
        self._said.pop(event.key, None)
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

    def _park(self, pod: Pod, reasons: Reasons) -> None:
        """A pod fits nowhere: say so, and wait."""
        if pod.spec.priority_class:
            text = f"pod priorities are not modelled: {pod.meta.name} of class {pod.spec.priority_class} waits for room"
            self.core.assume(f"{text}, where a scheduler may delete pods of lower priority for it", "give it room")
        wishes = wishes_of(pod)
        self.parked[pod.key] = bool(wishes.near or wishes.spread)
        every = self._misfits(pod)
        if (named := named_node(pod.spec.affinity)) is not None:
            elsewhere = ("node(s) didn't satisfy plugin(s) [NodeAffinity]",)
            every = {name: every[name] if name == named else elsewhere for name in every}
        told = sentence({**every, **reasons})
        if pod.status.reason != "Unschedulable":
            self.core.put(replace(pod, status=replace(pod.status, reason="Unschedulable")), BY)
        if self._said.get(pod.key) != told:  # Events that say the same are one Event with a count
            self._said[pod.key] = told
            text = f"scheduler found no node for {pod.meta.name}: {told}"
            self.core.fact(What.POD_UNSCHEDULABLE, pod.key, BY, text, detail=told)

    def _misfits(self, pod: Pod) -> dict[str, Sequence[str]]:
        """Every node → why it does not go with a pod by itself, () where it does."""
        nodes = (node for node in self.core.store.of_kind("Node") if isinstance(node, Node))
        return {node.meta.name: (why,) if (why := misfit(pod.spec, node)) else () for node in nodes}

    def _choose(self, pod: Pod) -> tuple[str | None, Reasons]:
        """The node for a pod; else why nodes that go with it by themselves were refused."""
        named = named_node(pod.spec.affinity)
        if named is not None:
            node = self.core.store.get(Key("Node", "", named))
            good = isinstance(node, Node) and fits(pod.spec, node)
            return self.placement.choose(pod, [named] if good else [])
        heap, fitting = self._candidates(pod)
        if not self.placement.asks(pod):
            found = self._pick(heap, pod.meta.owner)
            return found, {} if found else dict.fromkeys(fitting, ("Too many pods",))
        return self.placement.choose(pod, list(fitting))

    def _candidates(self, pod: Pod) -> tuple[list[tuple[int, int, str]], dict[str, None]]:
        """Nodes that go with a pod by themselves: a heap by number of pods, and all in order."""
        spec = pod.spec
        if spec is not self._read[0]:  # pods of one template share it
            wishes = (tuple(sorted(spec.node_selector.items())), spec.tolerations, repr(spec.affinity))
            self._read = (spec, wishes)
        signature = self._read[1]
        heap = self._heaps.get(signature)
        if heap is None:
            nodes = [
                node for node in self.core.store.of_kind("Node") if isinstance(node, Node) and fits(pod.spec, node)
            ]
            names = [node.meta.name for node in nodes]
            heap = [(self.core.index.count_on(name), self._order[name], name) for name in names]
            heapify(heap)
            self._heaps[signature], self._fitting[signature] = heap, dict.fromkeys(names)
        return heap, self._fitting[signature]

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
            if count >= self.placement.space.max_pods(node):
                continue
            own = self._own.get((owner, node), 0) if owner is not None else 0
            candidate = (own, count, order, node)
            if best is None or candidate < best:
                best = candidate
            if own == 0:
                break
        for entry in aside:
            heappush(heap, entry)
        return best[3] if best is not None else None
