"""DaemonSet controller, as far as pods exist: one per fitting node.

Source: k8s.io/kubernetes pkg/controller/daemon/daemon_controller.go, util/daemonset_util.go. Rolling updates come
later: a changed template is used by the pods that are made from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core, address_of
from kflab.control.garbage import collect
from kflab.control.heap import Event
from kflab.control.names import generated
from kflab.control.nodefilters import fits, may_stay, named_node
from kflab.control.pods import active, create_pod, mark_deleted, owned_pods
from kflab.manifest.objects import DaemonSet, Key, Meta, Node, Pod, PodSpec, Toleration

BY = "daemonset-controller"

TOLERATIONS = (
    Toleration("node.kubernetes.io/not-ready", "Exists", "", "NoExecute"),
    Toleration("node.kubernetes.io/unreachable", "Exists", "", "NoExecute"),
    Toleration("node.kubernetes.io/disk-pressure", "Exists", "", "NoSchedule"),
    Toleration("node.kubernetes.io/memory-pressure", "Exists", "", "NoSchedule"),
    Toleration("node.kubernetes.io/pid-pressure", "Exists", "", "NoSchedule"),
    Toleration("node.kubernetes.io/unschedulable", "Exists", "", "NoSchedule"),
)
"""Added to every daemon pod (AddOrUpdateDaemonPodTolerations)."""


@dataclass(frozen=True, slots=True)
class SyncDaemonSet(Event):
    """A DaemonSet is taken from the work queue."""

    room: ClassVar[str] = "daemonset"
    needs_api: ClassVar[bool] = True
    key: Key


class DaemonSetController(Controller):
    """Makes one pod per fitting node."""

    room = "daemonset"
    kinds = ("DaemonSet", "Pod", "Node")
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}
        self._created: dict[Key, int] = {}

    def changed(self, change: Change) -> None:
        """Queue the DaemonSet, the owner of the pod, or all of them when a node changes."""
        match change.key.kind:
            case "DaemonSet":
                if change.new is None:
                    collect(self.core, change.key)
                    return
                self._enqueue(change.key)
            case "Node":
                for key in self.core.store.keys("DaemonSet"):
                    self._enqueue(key)
            case _:
                obj = change.new or change.old
                if obj is not None and obj.meta.owner is not None and obj.meta.owner.kind == "DaemonSet":
                    self._enqueue(obj.meta.owner)

    def _enqueue(self, key: Key) -> None:
        if key not in self._queued:
            self._queued[key] = None
            wait = self.core.delay("watch_s", key) + self.core.delay("controller_s", key)
            self.core.push(wait, SyncDaemonSet(key))

    def handle(self, event: Event) -> None:
        """Bring pods and fitting nodes together."""
        assert isinstance(event, SyncDaemonSet)
        self._queued.pop(event.key, None)
        ds = self.core.store.get(event.key)
        if not isinstance(ds, DaemonSet) or (self.core.quiet and event.key in self.core.as_given):
            return
        pods = [pod for pod in owned_pods(self.core, ds.key) if active(pod)]
        nodes = [node for node in self.core.store.of_kind("Node") if isinstance(node, Node)]
        spec = replace(ds.template.spec, tolerations=(*ds.template.spec.tolerations, *TOLERATIONS))
        wanted = {node.meta.name: None for node in nodes if fits(spec, node)}
        stay = {node.meta.name for node in nodes if node.meta.name not in wanted and may_stay(spec, node)}
        having: dict[str, None] = {}
        for pod in pods:
            at = pod.spec.node_name or named_node(pod.spec.affinity) or ""
            if at in wanted and at not in having:
                having[at] = None
            elif at in stay:
                pass
            else:
                mark_deleted(self.core, pod, None, BY)
        for node_name in wanted:
            if node_name not in having:
                self._create(ds, spec, node_name)
        self._write_status(ds, len(wanted), pods)

    def _create(self, ds: DaemonSet, spec: PodSpec, node: str) -> None:
        name = ""
        while not name or self.core.store.get(Key("Pod", ds.meta.namespace, name)) is not None:
            name = generated(f"{ds.meta.name}-", self.core.bits("pod-name", f"{address_of(ds.key)}/{node}"))
        bound = replace(spec, affinity=_on_node(spec.affinity, node))
        meta = Meta(name, ds.meta.namespace, ds.template.labels, ds.template.annotations)
        ordinal = self._created.get(ds.key, 0)
        self._created[ds.key] = ordinal + 1
        create_pod(self.core, ds.key, Pod(meta, spec=bound), BY, (ds.key, ordinal))

    def _write_status(self, ds: DaemonSet, wanted: int, pods: list[Pod]) -> None:
        ready = sum(pod.status.ready for pod in pods)
        observed = {
            "desiredNumberScheduled": wanted, "currentNumberScheduled": len(pods), "numberReady": ready,
            "numberAvailable": ready, "updatedNumberScheduled": len(pods),
        }  # fmt: skip
        if ds.observed != observed:
            self.core.put(replace(ds, observed=observed), BY)


def _on_node(affinity: Mapping[str, Any] | None, node: str) -> Mapping[str, Any]:
    """The template's affinity with its required node terms replaced by the one node (daemonset_util.go)."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {**(affinity or {}), "nodeAffinity": required}
