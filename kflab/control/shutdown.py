"""Graceful node shutdown: systemd waits while the kubelet ends the node's pods, those of the lowest priority first.

The kubelet posts Ready=False at once and ends each group within its part of shutdownGracePeriod, or the pod's own grace
period if that is shorter; then the machine goes off. Nothing is deleted: a pod that has ended is Failed with reason
Terminated. Until then its endpoint says what its readiness says, and is not terminating: nobody takes traffic away
before the application ends. Source: k8s.io/kubernetes pkg/kubelet/nodeshutdown (killPods, migrateConfig),
pkg/kubelet/status/status_manager.go (mergePodStatus: no terminal phase while containers may run); lifecycle 1.5.

Two groups as with shutdownGracePeriodCriticalPods: critical pods go last. Pods of kube-system that name no
PriorityClass count as critical.
"""

from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.heap import Event, KubeletEvent
from kflab.control.machine import Machine
from kflab.control.machines import Machines
from kflab.control.nodelife import PostNodeStatus
from kflab.control.priorities import critical
from kflab.control.status import PodWorker
from kflab.control.termination import Termination
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class NextGroup(KubeletEvent):
    """The time of a group is over, or all of its pods have ended."""

    room: ClassVar[str] = "shutdown"
    number: int


@dataclass(frozen=True, slots=True)
class MachineStops(KubeletEvent):
    """systemd has stopped the rest."""

    room: ClassVar[str] = "shutdown"


class Shutdowns(Controller):
    """Shutdowns under way."""

    room = "shutdown"

    def __init__(self, core: Core, termination: Termination, machines: Machines) -> None:
        super().__init__(core)
        self.termination, self.machines = termination, machines
        self._periods: dict[str, tuple[int, int]] = {}
        """Node → seconds for ordinary and for critical pods."""
        self._group: dict[str, int] = {}
        """Node → number of the group that ends now."""
        self._running: dict[str, dict[Key, None]] = {}
        """Node → pods of that group that still run."""

    def begin(self, node: str, grace_ns: int, critical_ns: int) -> None:
        """Shut a node down; with a grace period of 0, kubelet's default, as if its power were cut.

        Raises:
            KflabError: When it has no power, shuts down already, or its kubelet is stopped.
        """
        core = self.core
        if not core.machines.get(node, Machine()).powered:
            raise KflabError(f"node {node} has no power already")
        if node in self._group:
            raise KflabError(f"node {node} shuts down already")
        if critical_ns > grace_ns:
            raise KflabError("criticalGracePeriod is part of gracePeriod and cannot be longer")
        if not grace_ns:
            self.machines.power_off(node, f"node {node} was shut down without a grace period")
            return
        if f"kubelet/{node}" in core.stopped:
            raise KflabError(f"kubelet/{node} is stopped: nobody would end its pods; power it off instead")
        seconds = (grace_ns - critical_ns) // SECOND_NS, critical_ns // SECOND_NS
        self._periods[node] = seconds
        text = f"node {node} shuts down: {seconds[0]} s for its pods, then {seconds[1]} s for critical ones"
        core.fact(What.MACHINE_STOPS, Key("Node", "", node), f"node {node}", text)
        core.push(core.delay("api_write_s", f"kubelet/{node}"), PostNodeStatus(node, "False"))
        self._begin_group(node, 0)

    def _begin_group(self, node: str, number: int) -> None:
        periods = self._periods[node]
        while number < len(periods):
            pods = [
                worker for worker in self.termination.status.workers.values()
                if worker.node == node and critical(worker.key.namespace, worker.spec) == (number == 1)
                and worker.key in self.core.runtime
            ]  # fmt: skip
            if pods:
                self._group[node], self._running[node] = number, {worker.key: None for worker in pods}
                for worker in pods:
                    self._end(worker, periods[number])
                self.core.push(periods[number] * SECOND_NS, NextGroup(node, number))
                return
            number += 1
        self._group[node], self._running[node] = number, {}
        self.core.push(self.core.delay("node_poweroff_s", f"machine/{node}"), MachineStops(node))

    def _end(self, worker: PodWorker, seconds: int) -> None:
        self.termination.shut_down(worker, min(seconds, worker.spec.grace_s))

    def ground_changed(self, key: Key) -> None:
        """A pod of the group that ends now has gone."""
        if self._running and key not in self.core.runtime:
            for node, pods in self._running.items():
                if key in pods:
                    del pods[key]
                    if not pods:
                        self.core.push(0, NextGroup(node, self._group[node]))

    def handle(self, event: Event) -> None:
        """Go on with the next group, or stop the machine."""
        assert isinstance(event, KubeletEvent)
        node = event.node
        if node not in self._group:
            return
        if isinstance(event, NextGroup) and self._group[node] == event.number:
            self._begin_group(node, event.number + 1)
        elif isinstance(event, MachineStops):
            self.forget(node)
            self.machines.power_off(node, f"node {node} has shut down")

    def under_way(self, node: str) -> bool:
        """Whether a node shuts down now."""
        return node in self._group

    def forget(self, node: str) -> None:
        """The machine is off: there is nothing left to wait for."""
        for known in (self._group, self._running, self._periods):
            known.pop(node, None)
