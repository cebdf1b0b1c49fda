"""Cluster autoscaler: takes a node out of the cluster, machine and all.

It taints the node, waits --node-delete-delay-after-taint, evicts the node's pods, waits until they are gone, and lets
the cloud delete the machine. Load balancers and kube-proxy's /healthz heed the taint (see `lbtargets`): the delay is
the time they get. Which node is not needed any more is the user's word; DaemonSet pods, which it evicts as best it can,
stay here until the machine goes, and the machine goes at once, without an orderly shutdown.

Source: kubernetes/autoscaler cluster-autoscaler/core/scaledown/actuation/actuator.go (taintNodesSync,
deleteNodesAsync, prepareNodeForDeletion) and drain.go (retry after 10 s, --max-pod-eviction-time 2 min,
--max-graceful-termination-sec 600, a look every 5 s whether pods are gone); a failed removal takes the taint away.
"""

from typing import ClassVar, Final

from kflab.cluster.checkpoint import Mutable
from kflab.cluster.store import Change
from kflab.control.admission import require_api
from kflab.control.core import Controller, Core
from kflab.control.delays import SECOND_NS
from kflab.control.disruption import DisruptionController
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.lbtargets import TO_BE_DELETED
from kflab.control.machines import Machines
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass
from kflab.replacing import replace

BY: Final = "cluster-autoscaler"


@dataclass(frozen=True, slots=True)
class DelayOver(Event):
    """A tainted node has had its time."""

    room: ClassVar[str] = "scaledown"
    needs_api: ClassVar[bool] = True
    node: str


@dataclass(frozen=True, slots=True)
class EvictOne(Event):
    """The autoscaler asks for one eviction."""

    room: ClassVar[str] = "scaledown"
    needs_api: ClassVar[bool] = True
    node: str
    key: Key
    uid: str


@dataclass(frozen=True, slots=True)
class MachineGoes(Event):
    """No pod is left to wait for: the cloud is told to delete the machine."""

    room: ClassVar[str] = "scaledown"
    node: str


@dataclass(slots=True)
class Removal(Mutable):
    """A node on its way out."""

    since_ns: int = 0
    """When evictions began."""
    left: dict[Key, str] | None = None
    """Pods that are still there, with their uids; None before evictions began."""


class NodeScaleDown(Controller):
    """Removals under way."""

    room = "scaledown"
    kinds = ("Pod",)
    settles = False

    def __init__(self, core: Core, disruption: DisruptionController, machines: Machines) -> None:
        super().__init__(core)
        self._disruption, self._machines = disruption, machines
        self._removals: dict[str, Removal] = {}

    def remove(self, name: str, delay_ns: int | None) -> None:
        """Begin to take a node out.

        Args:
            name: The node.
            delay_ns: --node-delete-delay-after-taint; None: its default.

        Raises:
            KflabError: When it is under way or nobody answers.
        """
        require_api(self.core)
        node = self.core.store.get(Key("Node", "", name))
        if not isinstance(node, Node) or name in self._removals:
            raise KflabError(f"node {name} is being removed already" if name in self._removals else f"no node {name}")
        self._removals[name] = Removal()
        taint = Taint(TO_BE_DELETED, "NoSchedule", str(self.core.now_ns // SECOND_NS))
        self._put(replace(node, taints=(*node.taints, taint)), f"tainted node {name} {TO_BE_DELETED}:NoSchedule")
        wait = self.core.delay("node_delete_delay_s", f"machine/{name}") if delay_ns is None else delay_ns
        self.core.push(wait, DelayOver(name))

    def _put(self, node: Node, did: str) -> None:
        change = self.core.put(node, BY)
        if change is not None:
            self.core.fact(What.NODE_TAINTED, node.key, BY, f"{BY} {did}", change.revision)

    def changed(self, change: Change) -> None:
        """A pod is gone."""
        old = change.old
        if change.new is not None or not isinstance(old, Pod) or not self._removals:
            return
        removal = self._removals.get(old.spec.node_name)
        if removal is not None and removal.left is not None and removal.left.pop(change.key, None) is not None:
            self._go_on(old.spec.node_name, removal)

    def handle(self, event: Event) -> None:
        """Evict the pods, ask for one eviction, or let the machine go."""
        assert isinstance(event, DelayOver | EvictOne | MachineGoes)
        removal = self._removals.get(event.node)
        if removal is None:
            return
        match event:
            case DelayOver(node):
                removal.since_ns, removal.left = self.core.now_ns, self._pods_of(node)
                for key, uid in removal.left.items():
                    self.core.push(self.core.delay("api_write_s", f"{BY}/{key}"), EvictOne(node, key, uid))
                self._go_on(node, removal)
            case EvictOne(node, key, uid):
                if removal.left is not None and removal.left.get(key) == uid:
                    self._evict(event, removal)
            case MachineGoes(node):
                del self._removals[node]
                if self.core.machines.get(node) is None or self.core.machines[node].exists:
                    self._machines.delete_vm(node)

    def _pods_of(self, node: str) -> dict[Key, str]:
        found: dict[Key, str] = {}
        for key in self.core.index.pods_on(node):
            pod = self.core.store.get(key)
            if isinstance(pod, Pod) and pod.status.phase not in ("Succeeded", "Failed"):
                if not pod.is_mirror and (pod.meta.owner is None or pod.meta.owner.kind != "DaemonSet"):
                    found[key] = pod.meta.uid
        return found

    def _go_on(self, node: str, removal: Removal) -> None:
        """Nobody is left: the machine goes, when the autoscaler looks."""
        if not removal.left:
            passed = self.core.now_ns - removal.since_ns
            self.core.push(-passed % self.core.spans["autoscaler_poll_s"][0], MachineGoes(node))

    def _evict(self, event: EvictOne, removal: Removal) -> None:
        pod = self.core.store.get(event.key)
        if not isinstance(pod, Pod) or pod.terminating:
            return
        refusal = self._disruption.refusal(event.key)
        if not refusal:
            longest = int(self.core.delays.autoscaler_grace_max_s)
            self._disruption.evict(event.key, BY, min(pod.spec.grace_s, longest))
            return
        wait = self.core.delay("autoscaler_eviction_retry_s", f"{BY}/{event.key}")
        if self.core.now_ns + wait < removal.since_ns + self.core.spans["autoscaler_eviction_give_up_s"][0]:
            after = f"{round(wait / SECOND_NS, 2):g} s"
            text = f"eviction of {event.key.name} was refused, {BY} will ask again in {after}: {refusal}"
            self.core.fact(What.EVICTION_REFUSED, event.key, BY, text)
            self.core.push(wait, event)
        else:
            self._give_up(event.node, event.key)

    def _give_up(self, name: str, key: Key) -> None:
        del self._removals[name]
        node = self.core.store.get(Key("Node", "", name))
        if isinstance(node, Node):
            rest = tuple(taint for taint in node.taints if taint.key != TO_BE_DELETED)
            self._put(replace(node, taints=rest), f"gave up on node {name}: {key.name} could not be evicted")
