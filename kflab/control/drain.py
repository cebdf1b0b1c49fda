"""kubectl cordon, uncordon and drain: a node without new pods, then without any.

drain cordons, checks all pods before it touches one, and evicts them side by side: an eviction that a budget refuses
(429) is tried again every 5 s, any other refusal ends the drain. It is over when every pod's object is gone. Source:
k8s.io/kubectl pkg/drain/drain.go, filters.go (daemonSetFilter, mirrorPodFilter, unreplicatedFilter), cordon.go. Pods
with local data (--delete-emptydir-data) are not told apart, and --timeout is not modelled.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.admission import require_api
from kflab.control.core import Controller, Core
from kflab.control.delays import SECOND_NS
from kflab.control.disruption import DisruptionController
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.made import is_client
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

BY = "kubectl"


@dataclass(frozen=True, slots=True)
class EvictNext(Event):
    """kubectl asks for a pod's eviction, for the first time or again."""

    room: ClassVar[str] = "drain"
    node: str
    key: Key
    uid: str
    grace_s: int | None


class Drains(Controller):
    """Drains under way."""

    room = "drain"
    kinds = ("Pod", "Node")
    pods_gone = True

    def __init__(self, core: Core, disruption: DisruptionController) -> None:
        super().__init__(core)
        self.disruption = disruption
        self._left: dict[str, dict[Key, str]] = {}
        """Node → its pods that are still to go, with their uids."""
        self._of: dict[str, int] = {}
        """Node → how many pods there were to go when its drain began."""
        self._refused: dict[Key, None] = {}
        """Pods whose refusal has been told, and which are not evicted yet."""

    # --- cordon -----------------------------------------------------------------------------------------------

    def cordon(self, name: str, unschedulable: bool) -> None:
        """Set or clear spec.unschedulable.

        Raises:
            KflabError: When nobody answers.
        """
        require_api(self.core)
        node = self.core.store.get(Key("Node", "", name))
        if isinstance(node, Node) and node.unschedulable != unschedulable:
            change = self.core.put(replace(node, unschedulable=unschedulable), BY)
            if change is not None:
                word = "cordoned" if unschedulable else "uncordoned"
                self.core.fact(What.APPLIED, node.key, BY, f"node {name} was {word}", change.revision)

    def changed(self, change: Change) -> None:
        """Remember who is cordoned; a pod that is gone needs no eviction any more."""
        if change.key.kind == "Node":
            cordoned = isinstance(change.new, Node) and change.new.unschedulable
            (self.core.mark if cordoned else self.core.unmark)(change.key, "cordoned")
            if change.new is None:
                self._left.pop(change.key.name, None)
        elif change.new is None and isinstance(change.old, Pod):
            self._gone(change.old)

    # --- drain ------------------------------------------------------------------------------------------------

    def drain(self, name: str, grace_s: int | None, *, force: bool, ignore_daemonsets: bool) -> None:
        """Cordon a node and evict its pods.

        Args:
            name: The node.
            grace_s: --grace-period; None: each pod's own.
            force: --force: pods that no controller would make again go too.
            ignore_daemonsets: --ignore-daemonsets: pods of DaemonSets stay.

        The client pod that the lab made itself stays, and goes on calling: it is in nobody's cluster.

        Raises:
            KflabError: In kubectl's words, when pods would have to stay. Nothing is changed then; kubectl would have
                cordoned the node already.
        """
        require_api(self.core)
        if name in self._left:
            raise KflabError(f"node {name} is being drained already")
        pods, errors = self._chosen(name, force, ignore_daemonsets)
        if errors:
            why = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
            raise KflabError(f'unable to drain node "{name}" due to error: {why}')
        self.cordon(name, True)
        self._left[name], self._of[name] = {pod.key: pod.meta.uid for pod in pods}, len(pods)
        for pod in pods:
            wait = self.core.delay("api_write_s", f"{BY}/{pod.key}")
            self.core.push(wait, EvictNext(name, pod.key, pod.meta.uid, grace_s))
        if not pods:
            self._finished(name)

    def left(self, name: str) -> tuple[int, int, int]:
        """Pods of a node that a drain evicts, how many it still waits for, how many of those a budget holds.

        (0, 0, 0) when there is no drain.
        """
        pods = self._left.get(name, {})
        return self._of[name] if pods else 0, len(pods), sum(key in self._refused for key in pods)

    def _chosen(self, name: str, force: bool, ignore_daemonsets: bool) -> tuple[list[Pod], list[str]]:
        """Pods to evict, and why it cannot be done."""
        there = [self.core.store.get(key) for key in self.core.index.pods_on(name)]
        pods = [pod for pod in there if isinstance(pod, Pod) and not pod.is_mirror]
        ended = [pod for pod in pods if pod.status.phase in ("Succeeded", "Failed")]
        owned = {pod.key: pod.meta.owner.kind if pod.meta.owner is not None else "" for pod in pods}
        daemons = [pod for pod in pods if owned[pod.key] == "DaemonSet" and pod not in ended]
        made = [pod for pod in pods if not owned[pod.key] and is_client(pod)]
        bare = [pod for pod in pods if not owned[pod.key] and pod not in ended and pod not in made]
        errors = []
        if bare and not force:
            errors.append(_why("Pods that declare no controller (use --force to override)", bare))
        if daemons and not ignore_daemonsets:
            errors.append(_why("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", daemons))
        return [pod for pod in pods if pod not in daemons and pod not in made], errors

    def handle(self, event: Event) -> None:
        """Ask for one eviction."""
        assert isinstance(event, EvictNext)
        if self._left.get(event.node, {}).get(event.key) != event.uid:
            return
        try:
            require_api(self.core)
            refusal = self.disruption.refusal(event.key)
            if not refusal:
                self.disruption.evict(event.key, BY, event.grace_s)
                self._refused.pop(event.key, None)
        except KflabError as error:
            del self._left[event.node]
            text = f"kubectl drain of {event.node} ended: error when evicting {event.key.name}: {error}"
            self.core.fact(What.DRAIN_ENDED, Key("Node", "", event.node), BY, text)
            return
        if refusal:
            wait = self.core.delay("drain_retry_s", f"{BY}/{event.key}")
            if event.key not in self._refused:
                self._refused[event.key] = None
                after = f"{round(wait / SECOND_NS, 2):g}s"
                text = f"error when evicting {event.key.name} (will retry after {after}): {refusal}"
                self.core.fact(What.EVICTION_REFUSED, event.key, BY, text)
            self.core.push(wait, event)

    def _gone(self, pod: Pod) -> None:
        self._refused.pop(pod.key, None)
        left = self._left.get(pod.spec.node_name)
        if left is not None and left.get(pod.key) == pod.meta.uid:
            del left[pod.key]
            if not left:
                self._finished(pod.spec.node_name)

    def _finished(self, name: str) -> None:
        del self._left[name]
        self.core.fact(What.DRAIN_ENDED, Key("Node", "", name), BY, f"node {name} was drained")


def _why(what: str, pods: Sequence[Pod]) -> str:
    return f"cannot delete {what}: {', '.join(f'{pod.meta.namespace}/{pod.meta.name}' for pod in pods)}"
