"""Pod garbage collector: pods without a Node, and pods that terminate where nobody will end them.

It looks every 20 s. A Node has to be missing for 40 s until its pods are marked Failed and removed by force; pods that
terminate on a node with the out-of-service taint go at once. Looks that would find nothing are no events. Source:
k8s.io/kubernetes pkg/controller/podgc/gc_controller.go, gcOrphaned and gcTerminating; lifecycle 1.5.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, ManagerEvent
from kflab.control.job_failures import BY_GC, disrupted
from kflab.control.pods import mark_deleted
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

BY = "pod-garbage-collector"

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class GcLook(ManagerEvent):
    """The garbage collector looks at all pods."""

    room: ClassVar[str] = "podgc"


class PodGc(Controller):
    """Removes pods that nobody else will."""

    room = "podgc"
    kinds = ("Node", "Pod")
    component = "controller-manager"
    settles = False

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._missing: dict[str, int] = {}
        """Missing nodes → when their quarantine is over; 0: not seen missing yet."""
        self._due = 0

    def changed(self, change: Change) -> None:
        """A node is gone or not Ready, or a pod terminates where nobody will end it."""
        new = change.new
        if change.key.kind == "Node":
            name = change.key.name
            if new is None:
                self._missing[name] = 0
                self._plan(self.core.now_ns)
                return
            self._missing.pop(name, None)
            if isinstance(new, Node) and new.ready != "True" and out_of_service(new):
                self._plan(self.core.now_ns)
        elif isinstance(new, Pod) and new.terminating:
            node = self.core.store.get(Key("Node", "", new.spec.node_name))
            if isinstance(node, Node) and node.ready != "True" and out_of_service(node):
                self._plan(self.core.now_ns)

    def restarted(self) -> None:
        """A new process sees missing nodes for the first time."""
        self._missing = dict.fromkeys(self._missing, 0)
        self._due = 0
        if self._missing:
            self._plan(self.core.now_ns)

    def _plan(self, after_ns: int) -> None:
        """Look at the first tick after a moment, unless a look is planned for before."""
        period = max(1, self.core.spans["podgc_period_s"][0])
        phase = self.core.draws.control_between("podgc-phase", "", 0, 0, period)
        tick = phase + ((after_ns - phase) // period + 1) * period
        if self._due <= self.core.now_ns or tick < self._due:
            self._due = tick
            self.core.push_at(tick, GcLook())

    def handle(self, event: Event) -> None:
        """Look, and remove what nobody else will."""
        assert isinstance(event, GcLook)
        for pod in list(self._terminating_out_of_service()):
            self._force(pod, f"{pod.spec.node_name} is out of service")
        now, quarantine = self.core.now_ns, self.core.spans["podgc_quarantine_s"][0]
        for node, until in list(self._missing.items()):
            there = [self.core.store.get(key) for key in self.core.index.pods_on(node)]
            pods = [pod for pod in there if isinstance(pod, Pod)]
            if not pods:
                del self._missing[node]
            elif not until:
                self._missing[node] = now + quarantine
            elif now >= until:
                for pod in pods:
                    self._force(disrupted(pod, BY_GC, now), f"Node {node} does not exist any more")
                del self._missing[node]
        if self._missing:
            self._plan(min(max(until, now + 1) for until in self._missing.values()) - 1)

    def _terminating_out_of_service(self) -> Iterator[Pod]:
        for node in self.core.store.of_kind("Node"):
            if isinstance(node, Node) and node.ready != "True" and out_of_service(node):
                for key in self.core.index.pods_on(node.meta.name):
                    pod = self.core.store.get(key)
                    if isinstance(pod, Pod) and pod.terminating:
                        yield pod

    def _force(self, pod: Pod, why: str) -> None:
        if pod.status.phase not in ("Succeeded", "Failed"):
            status = replace(pod.status, phase="Failed", reason="", ready=False)
            change = self.core.put(replace(pod, status=status), BY)
            if change is not None:
                text = f"{BY} marked {pod.meta.name} Failed: {why}"
                self.core.fact(What.POD_STATUS_WRITTEN, pod.key, BY, text, change.revision)
        current = self.core.store.get(pod.key)
        if isinstance(current, Pod):
            mark_deleted(self.core, current, 0, BY)


def out_of_service(node: Node) -> bool:
    """Whether somebody has said that a node is shut down for good."""
    return any(taint.key == OUT_OF_SERVICE for taint in node.taints)
