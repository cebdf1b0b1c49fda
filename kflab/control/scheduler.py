"""Scheduler: which node a pod gets.

Simplified from k8s.io/kubernetes pkg/scheduler. A pod that asks for nothing goes by NodeUnschedulable, NodeName,
TaintToleration, node selector, required node affinity and the number of pods a node takes; its score is fewest pods of
the same owner, then fewest pods, then the order of the nodes: what the default spreading and LeastAllocated come to on
equal nodes, found with a heap over all nodes. For all others see placement.py.

A pod that fits nowhere is parked, and tried again at once when something changes that may help: from 1.33 on a
scheduler with nothing else to do does not wait for its back-off of 1 to 10 s (feature SchedulerPopFromBackoffQ,
backend/queue/scheduling_queue.go). Of pods that are tried again together the more important goes first (PrioritySort).
A pod that fits nowhere may have pods of lower priority deleted for it: preemption.py. Its nomination ends when it is
bound, as from 1.35 on (ClearingNominatedNodeNameAfterBinding).
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.job_failures import BY_PREEMPTION
from kflab.control.nodefilters import fits, misfit, named_node
from kflab.control.nodespace import occupies
from kflab.control.placement import Placement, Reasons, sentence
from kflab.control.pods import mark_deleted
from kflab.control.podterms import wishes_of
from kflab.control.preemption import Candidate, Preemption
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod, PodSpec, PodStatus
from kflab.records import dataclass
from kflab.replacing import copier, replace

BY = "scheduler"


@dataclass(frozen=True, slots=True)
class SchedulePod(Event):
    """A pod without node is at the head of the queue."""

    room: ClassVar[str] = "scheduler"
    needs_api: ClassVar[bool] = True
    key: Key


_bound = copier(Pod, "spec", "status")
_on_node = copier(PodSpec, "node_name")
_scheduled = copier(PodStatus, "scheduled_ns", "reason", "nominated_node")

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
        self.preemption = Preemption(core, self.placement)
        self._own: dict[tuple[Key, str], int] = {}
        self._heaps: dict[Signature, list[tuple[int, int, str]]] = {}
        """Fitting nodes of pods with the same wishes as (pods, order, node)."""
        self._fitting: dict[Signature, dict[str, None]] = {}
        self._read: PodSpec | None = None
        """The spec that was looked at last; None: nodes have changed since."""
        self._read_heap: list[tuple[int, int, str]] = []
        self._read_fitting: dict[str, None] = {}
        """The nodes that go with it, as in `_heaps` and `_fitting`."""
        self._order: dict[str, int] = {}
        self._next_order = 0

    def changed(self, change: Change) -> None:
        """New pods queue; a node's change or a pod's end lets parked ones try again."""
        old, new = change.old, change.new
        if change.key.kind == "Node":
            self.placement.node_changed(change.key.name, new if isinstance(new, Node) else None)
            self._heaps.clear()
            self._fitting.clear()
            self._read = None
            if new is not None and change.key.name not in self._order:
                self._order[change.key.name] = self._next_order
                self._next_order += 1
            self._unpark()
            return
        was = old if isinstance(old, Pod) else None
        now = new if isinstance(new, Pod) else None
        before, after = occupies(was), occupies(now)
        if before != after:
            self._move(was, before, now, after)
        if now is not None and change.key in self.preemption.nominated:
            self.preemption.nominated[change.key] = now
        if old is None and now is not None and not now.spec.node_name:
            self.core.push(self._takes(change.key), SchedulePod(change.key))
        if new is None:
            self.preemption.forget(change.key)
            self.parked.pop(change.key, None)
            self._said.pop(change.key, None)

    def _takes(self, pod: Key) -> int:
        """From a write that concerns a pod until the scheduler has bound it, ns."""
        return self.core.delay("watch_s", pod) + self.core.delay("scheduler_s", pod)

    def _move(self, was: Pod | None, before: str, now: Pod | None, after: str) -> None:
        """Count a pod where it takes room now; room that it gave back lets parked pods try again."""
        if was is not None and before:
            self.placement.take(was, before, -1)
            self.preemption.take(was, -1)
        if now is not None and after:
            self.placement.take(now, after, 1)
            self.preemption.take(now, 1)
            if self.parked:
                self._unpark(waiting_for_pods=True)
        self._count(was, before, -1)
        self._count(now, after, 1)
        if not after:
            self._freed(before)

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
        entry = (self.placement.space.count(node), self._order.get(node, -1), node)
        for signature, heap in self._heaps.items():
            if node in self._fitting[signature]:
                heappush(heap, entry)
        self._unpark()

    def _unpark(self, *, waiting_for_pods: bool = False) -> None:
        """Try parked pods again: all, or those for which another pod's coming makes a difference."""
        if not self.parked:
            return
        again = [key for key, waits in self.parked.items() if waits or not waiting_for_pods]
        waits_ns = [self._takes(key) for key in again]
        priorities = {key: pod.spec.priority for key in again if isinstance(pod := self.core.store.get(key), Pod)}
        if len(set(priorities.values())) > 1:
            again.sort(key=lambda key: -priorities.get(key, 0))
            waits_ns.sort()
        for key, wait in zip(again, waits_ns, strict=True):
            del self.parked[key]
            self.core.push(wait, SchedulePod(key))

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
        self.preemption.forget(event.key)
        self._said.pop(event.key, None)
        now = self.core.now_ns
        bound = _bound(pod, _on_node(pod.spec, node), _scheduled(pod.status, now, "", ""))
        change = self.core.put(bound, BY)
        if change is not None and not self.core.quiet:
            name = pod.meta.name
            self.core.fact(What.POD_SCHEDULED, pod.key, BY, f"scheduler put {name} on {node}", change.revision)

    def placed(self, key: Key, pod: Pod) -> Pod:
        """Bind a pod that is about to be made, as of the instant at which it would be bound.

        Bindings come in the order in which pods are made, and nothing is parked: so this is what would be found then.
        """
        if pod.spec.node_name or self.parked or self.preemption.nominated:
            return pod
        node, _ = self._choose(pod)
        if node is None:
            return pod
        bound_ns = self.core.now_ns + self._takes(key)
        return _bound(pod, _on_node(pod.spec, node), _scheduled(pod.status, bound_ns, "", ""))

    def _park(self, pod: Pod, reasons: Reasons) -> None:
        """A pod fits nowhere: make room for it if it is important enough, say so, and wait."""
        wishes = wishes_of(pod)
        self.parked[pod.key] = bool(wishes.near or wishes.spread)
        every = self._misfits(pod)
        if (named := named_node(pod.spec.affinity)) is not None:
            elsewhere = ("node(s) didn't satisfy plugin(s) [NodeAffinity]",)
            every = {name: every[name] if name == named else elsewhere for name in every}
        told = sentence({**every, **reasons})
        fitting = [name for name, why in every.items() if not why]
        candidate, unhelpful = self.preemption.find(pod, fitting, reasons)
        if unhelpful:
            told = f"{told} preemption: {unhelpful}"
        self._wait(pod, told, candidate)
        if candidate is not None:
            self._make_room(pod, candidate)

    def _wait(self, pod: Pod, told: str, candidate: Candidate | None) -> None:
        nominated = pod.status.nominated_node if candidate is None else candidate.node
        status = replace(pod.status, reason="Unschedulable", nominated_node=nominated)
        waiting = replace(pod, status=status)
        if candidate is not None:
            self.preemption.nominated[pod.key] = waiting
        if status != pod.status:
            self.core.put(waiting, BY)
        if self._said.get(pod.key) != told:  # Events that say the same are one Event with a count
            self._said[pod.key] = told
            text = f"scheduler found no node for {pod.meta.name}: {told}"
            self.core.fact(What.POD_UNSCHEDULABLE, pod.key, BY, text, detail=told)

    def _make_room(self, pod: Pod, candidate: Candidate) -> None:
        """Delete the victims, each with its own grace period, and end less important nominations to the node.

        Source: k8s.io/kubernetes pkg/scheduler/framework/preemption/preemption.go, prepareCandidateAsync.
        """
        for key, other in list(self.preemption.nominated.items()):
            if other.status.nominated_node == candidate.node and other.spec.priority < pod.spec.priority:
                del self.preemption.nominated[key]
                current = self.core.store.get(key)
                if isinstance(current, Pod):
                    self.core.put(replace(current, status=replace(current.status, nominated_node="")), BY)
        for victim in candidate.victims:
            if victim.terminating:
                continue
            self.preemption.victims[victim.key] = victim.meta.uid
            text = f"scheduler lets {victim.meta.name} on {candidate.node} make room for {pod.meta.name}"
            told = f"Preempted by pod {pod.meta.uid} on node {candidate.node}"
            self.core.fact(What.POD_PREEMPTED, victim.key, BY, text, detail=told)
            mark_deleted(self.core, victim, None, BY, BY_PREEMPTION)

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
            return self.placement.choose(pod, [named] if good else [], self.preemption.before(pod))
        heap, fitting = self._candidates(pod)
        if self.preemption.nominated:
            return self._choose_beside(pod, fitting)
        if not self.placement.asks(pod):
            found = self._pick(heap, pod.meta.owner)
            return found, {} if found else dict.fromkeys(fitting, ("Too many pods",))
        return self.placement.choose(pod, list(fitting))

    def _choose_beside(self, pod: Pod, fitting: dict[str, None]) -> tuple[str | None, Reasons]:
        """While room is held: the node that a pod is nominated for, if it fits there now; else any other."""
        before = self.preemption.before(pod)
        mine = pod.status.nominated_node
        if mine in fitting:
            node, _ = self.placement.choose(pod, [mine], before)
            if node is not None:
                return node, {}
        return self.placement.choose(pod, list(fitting), before)

    def _candidates(self, pod: Pod) -> tuple[list[tuple[int, int, str]], dict[str, None]]:
        """Nodes that go with a pod by themselves: a heap by number of pods, and all in order."""
        spec = pod.spec
        read = self._read
        if (
            read is not None
            and spec.tolerations is read.tolerations
            and spec.affinity is read.affinity
            and spec.node_selector == read.node_selector
        ):
            return self._read_heap, self._read_fitting
        signature = (tuple(sorted(spec.node_selector.items())), spec.tolerations, repr(spec.affinity))
        heap = self._heaps.get(signature)
        if heap is None:
            nodes = [node for node in self.core.store.of_kind("Node") if isinstance(node, Node) and fits(spec, node)]
            names = [node.meta.name for node in nodes]
            heap = [(self.placement.space.count(name), self._order[name], name) for name in names]
            heapify(heap)
            self._heaps[signature], self._fitting[signature] = heap, dict.fromkeys(names)
        self._read, self._read_heap, self._read_fitting = spec, heap, self._fitting[signature]
        return heap, self._read_fitting

    def _pick(self, heap: list[tuple[int, int, str]], owner: Key | None) -> str | None:
        """The best node, looking in order of pod counts until one has no pod of this owner."""
        counts, takes = self.placement.space.count, self.placement.space.max_pods
        aside: list[tuple[int, int, str]] = []
        seen: dict[str, None] = {}
        best: tuple[int, int, int, str] | None = None
        while heap:
            count, order, node = heappop(heap)
            if node in seen:
                continue
            current = counts(node)
            if current != count:
                heappush(heap, (current, order, node))
                continue
            seen[node] = None
            aside.append((count, order, node))
            if count >= takes(node):
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
