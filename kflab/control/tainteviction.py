"""Taint eviction controller: pods leave a node with NoExecute taints when they have tolerated them long enough.

Source: k8s.io/kubernetes pkg/controller/tainteviction/taint_eviction.go (processPodOnNode, getMinTolerationTime);
lifecycle 1.5. What admission adds to every pod's tolerations is in `tolerations`.
"""

from collections.abc import Sequence
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.heap import Event, ManagerEvent
from kflab.control.job_failures import BY_TAINT
from kflab.control.nodefilters import tolerated
from kflab.control.pods import mark_deleted
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

BY = "taint-eviction-controller"


@dataclass(frozen=True, slots=True)
class NodeTainted(ManagerEvent):
    """The controller hears of changed taints."""

    room: ClassVar[str] = "tainteviction"
    node: str


@dataclass(frozen=True, slots=True)
class EvictPod(ManagerEvent):
    """A pod has tolerated its node's taints long enough."""

    room: ClassVar[str] = "tainteviction"
    key: Key
    uid: str
    due_ns: int


class TaintEviction(Controller):
    """Keeps a time for every pod on a tainted node."""

    room = "tainteviction"
    kinds = ("Node", "Pod")
    component = "controller-manager"
    settles = False

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._due: dict[Key, int] = {}
        """Pod → when it has to go."""
        self._heard: dict[str, None] = {}

    def changed(self, change: Change) -> None:
        """NoExecute taints came or went, or a pod was bound to a tainted node."""
        old, new = change.old, change.new
        if change.key.kind == "Node":
            before = no_execute(old) if isinstance(old, Node) else ()
            after = no_execute(new) if isinstance(new, Node) else ()
            if before != after:
                self._hear(change.key.name)
        elif isinstance(new, Pod):
            bound = new.spec.node_name and not (isinstance(old, Pod) and old.spec.node_name)
            if bound:
                node = self.core.store.get(Key("Node", "", new.spec.node_name))
                if isinstance(node, Node) and no_execute(node):
                    self._hear(node.meta.name)
        else:
            self._due.pop(change.key, None)

    def evicted_at_ns(self, pod: Key) -> int | None:
        """When a pod will have tolerated its node's taints long enough; None: it is not counted down."""
        return self._due.get(pod)

    def restarted(self) -> None:
        """A new process counts every toleration from now on."""
        self._due.clear()
        self._heard.clear()
        for node in self.core.store.of_kind("Node"):
            if isinstance(node, Node) and no_execute(node):
                self._hear(node.meta.name)

    def _hear(self, node: str) -> None:
        if node not in self._heard:
            self._heard[node] = None
            self.core.push(self.core.delay("watch_s", f"{BY}/{node}"), NodeTainted(node))

    def handle(self, event: Event) -> None:
        """Work out when each pod of a node has to go; or one goes now."""
        match event:
            case NodeTainted(name):
                self._heard.pop(name, None)
                node = self.core.store.get(Key("Node", "", name))
                taints = no_execute(node) if isinstance(node, Node) else ()
                for key in self.core.index.pods_on(name):
                    pod = self.core.store.get(key)
                    if isinstance(pod, Pod):
                        self._decide(pod, taints)
            case EvictPod(key, uid, due_ns):
                pod = self.core.store.get(key)
                if isinstance(pod, Pod) and pod.meta.uid == uid and self._due.get(key) == due_ns:
                    del self._due[key]
                    if not pod.terminating:
                        mark_deleted(self.core, pod, None, BY, BY_TAINT)

    def _decide(self, pod: Pod, taints: Sequence[Taint]) -> None:
        if not taints or pod.terminating:
            self._due.pop(pod.key, None)
            return
        wait = tolerates_ns(pod, taints)
        now = self.core.now_ns
        if wait is None:
            self._due.pop(pod.key, None)
            return
        # Once scheduled, an eviction keeps its time whatever taint came since, unless that is not tolerated at all
        # (processPodOnNode: a start in the past plus the new time is always before now plus it).
        if not wait or pod.key not in self._due:
            self._due[pod.key] = now + wait
            self.core.push_at(now + wait, EvictPod(pod.key, pod.meta.uid, now + wait))


def no_execute(node: Node) -> tuple[Taint, ...]:
    """Taints that evict."""
    return tuple(taint for taint in node.taints if taint.effect == "NoExecute")


def tolerates_ns(pod: Pod, taints: Sequence[Taint]) -> int | None:
    """How long a pod tolerates taints, in ns; None: for ever; 0: not at all."""
    waits: list[int] = []
    for taint in taints:
        matching = [each for each in pod.spec.tolerations if tolerated(taint, (each,))]
        if not matching:
            return 0
        waits += [max(0, each.seconds) * 1_000_000_000 for each in matching if each.seconds is not None]
    return min(waits) if waits else None
