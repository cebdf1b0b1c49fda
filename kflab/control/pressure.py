"""Node-pressure eviction: a node runs out of memory, and its kubelet ends pods one by one. No budget is asked.

Every 10 s the eviction manager looks (delay eviction_monitor_s); over a hard threshold it evicts at most one pod, with
1 s to go (hard_eviction_grace_s). The pod is
Failed, reason Evicted, and stays as an object; whoever made it makes another elsewhere, because the node has a taint.

Source: k8s.io/kubernetes pkg/kubelet/eviction/eviction_manager.go (synchronize, evictPod), helpers.go
(rankMemoryPressure: usage above requests, priority, usage). Memory use is not modelled: pods without a memory request
use more than they asked for, the others do not; of equals the youngest goes first (M). Critical pods and static pods
are never evicted.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, KubeletEvent
from kflab.control.priorities import critical
from kflab.control.status import PodWorker
from kflab.control.termination import Termination
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

PRESSURE = "under memory pressure"

TAINT = Taint("node.kubernetes.io/memory-pressure", "NoSchedule")

EVICTED = "Evicted"
"""Reason in the status of an evicted pod."""


@dataclass(frozen=True, slots=True)
class Synchronize(KubeletEvent):
    """The eviction manager looks, and memory is short; `left` pods are yet to go."""

    room: ClassVar[str] = "pressure"
    number: int
    left: int


@dataclass(frozen=True, slots=True)
class Relieved(KubeletEvent):
    """The condition MemoryPressure ends."""

    room: ClassVar[str] = "pressure"
    needs_api: ClassVar[bool] = True
    number: int


class Pressure(Controller):
    """The eviction managers of all kubelets."""

    room = "pressure"

    def __init__(self, core: Core, termination: Termination) -> None:
        super().__init__(core)
        self.termination = termination
        self._present: dict[str, int] = {}
        """Node under pressure → number of the occasion."""
        self._number = 0

    def begin(self, node: str, pods: int) -> None:
        """Let a node's memory run out, until that many pods are evicted.

        Raises:
            KflabError: When it is short already, or the node is not there.
        """
        if not isinstance(self.core.store.get(Key("Node", "", node)), Node):
            raise KflabError(f'nodes "{node}" not found')
        if node in self._present:
            raise KflabError(f"{node} is {PRESSURE} already")
        if pods < 1:
            raise KflabError(f"pods {pods}: expected 1 or more")
        self._number += 1
        self._present[node] = self._number
        self.core.mark(Key("Node", "", node), PRESSURE)
        text = f"memory of {node} runs out"
        self.core.fact(What.NODE_PRESSURE, Key("Node", "", node), f"node {node}", text)
        period = self.core.spans["eviction_monitor_s"][0]
        phase = self.core.draws.control_between("eviction-phase", node, 0, 0, period)
        wait = (phase - self.core.now_ns) % period
        self.core.push(wait, Synchronize(node, self._number, pods))

    def handle(self, event: Event) -> None:
        """Evict one pod, or find that all is well again."""
        assert isinstance(event, Synchronize | Relieved)
        if self._present.get(event.node) != event.number:
            return
        if isinstance(event, Relieved):
            del self._present[event.node]
            self.core.unmark(Key("Node", "", event.node), PRESSURE)
            self._taint(event.node, False)
            return
        self._taint(event.node, True)
        victim = next(iter(self._ranked(event.node)), None)
        if victim is not None:
            self._evict(victim)
        if victim is not None and event.left > 1:
            period = self.core.spans["eviction_monitor_s"][0]
            self.core.push(period, Synchronize(event.node, event.number, event.left - 1))
        else:
            lasts = self.core.delay("pressure_transition_s", f"node/{event.node}")
            self.core.push(lasts, Relieved(event.node, event.number))

    def _ranked(self, node: str) -> Sequence[PodWorker]:
        """Pods that may be evicted, in the order in which they are."""
        found = []
        for worker in self.termination.status.workers.values():
            pod = self.core.store.get(worker.key)
            if worker.node != node or worker.kill or not isinstance(pod, Pod) or pod.terminating:
                continue
            spared = pod.is_mirror or critical(worker.key.namespace, worker.spec)
            if not spared and pod.status.phase == "Running":
                asks = any("memory" in container.requests for container in pod.spec.containers)
                found.append((asks, worker.spec.priority, -(pod.meta.creation_ns or 0), worker.key, worker))
        return [entry[4] for entry in sorted(found, key=lambda entry: entry[:4])]

    def _evict(self, worker: PodWorker) -> None:
        by = f"kubelet {worker.node}"
        text = f"kubelet on {worker.node} evicted {worker.key.name}: the node was low on resource memory"
        detail = "The node was low on resource: memory."
        self.core.fact(What.POD_EVICTED, worker.key, by, text, detail=detail)
        self.termination.shut_down(worker, int(self.core.delays.hard_eviction_grace_s), EVICTED)

    def _taint(self, name: str, present: bool) -> None:
        """The condition, and the taint that the node lifecycle controller makes of it, in one write."""
        node = self.core.store.get(Key("Node", "", name))
        if not isinstance(node, Node) or (TAINT in node.taints) == present:
            return
        others = tuple(taint for taint in node.taints if taint != TAINT)
        self.core.put(replace(node, taints=(*others, TAINT) if present else others), f"kubelet {name}")
