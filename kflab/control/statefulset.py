"""StatefulSet controller, as far as pods exist: names by ordinal, in order, a missing one is made again.

Source: k8s.io/kubernetes pkg/controller/statefulset/stateful_set_control.go, stateful_set_utils.go. Rolling updates
and volumes come later: a changed template is used by the pods that are made from then on.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.garbage import collect
from kflab.control.heap import Event
from kflab.control.pods import create_pod, mark_deleted, owned_pods
from kflab.manifest.objects import Key, Meta, Pod, StatefulSet

BY = "statefulset-controller"


@dataclass(frozen=True, slots=True)
class SyncStatefulSet(Event):
    """A StatefulSet is taken from the work queue."""

    room: ClassVar[str] = "statefulset"
    needs_api: ClassVar[bool] = True
    key: Key


class StatefulSetController(Controller):
    """Makes NAME-0, NAME-1, … and deletes from the highest ordinal down."""

    room = "statefulset"
    kinds = ("StatefulSet", "Pod")
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}

    def changed(self, change: Change) -> None:
        """Queue the StatefulSet, or the owner of the pod."""
        if change.key.kind == "StatefulSet":
            if change.new is None:
                collect(self.core, change.key)
                return
            self._enqueue(change.key)
            return
        obj = change.new or change.old
        if obj is not None and obj.meta.owner is not None and obj.meta.owner.kind == "StatefulSet":
            self._enqueue(obj.meta.owner)

    def _enqueue(self, key: Key) -> None:
        if key not in self._queued:
            self._queued[key] = None
            wait = self.core.delay("watch_s", key) + self.core.delay("controller_s", key)
            self.core.push(wait, SyncStatefulSet(key))

    def handle(self, event: Event) -> None:
        """Make the next missing pod, or delete the last superfluous one."""
        assert isinstance(event, SyncStatefulSet)
        self._queued.pop(event.key, None)
        sts = self.core.store.get(event.key)
        if not isinstance(sts, StatefulSet) or (self.core.quiet and event.key in self.core.as_given):
            return
        pods = {pod.meta.name: pod for pod in owned_pods(self.core, sts.key)}
        self._make_missing(sts, pods)
        self._delete_surplus(sts, pods)
        ready = sum(pod.status.ready for pod in pods.values())
        observed = {
            "replicas": len(pods), "readyReplicas": ready, "availableReplicas": ready, "currentReplicas": len(pods),
            "updatedReplicas": len(pods),
        }  # fmt: skip
        if sts.observed != observed:
            self.core.put(replace(sts, observed=observed), BY)

    def _make_missing(self, sts: StatefulSet, pods: dict[str, Pod]) -> None:
        for ordinal in range(sts.replicas):
            pod = pods.get(f"{sts.meta.name}-{ordinal}")
            if pod is None:
                self._create(sts, ordinal)
            if sts.pod_management == "OrderedReady" and (pod is None or not pod.status.ready):
                return

    def _delete_surplus(self, sts: StatefulSet, pods: dict[str, Pod]) -> None:
        wanted = {f"{sts.meta.name}-{ordinal}" for ordinal in range(sts.replicas)}
        surplus = [pod for name, pod in pods.items() if name not in wanted]
        if sts.pod_management == "OrderedReady":
            if any(pod.terminating for pod in surplus):
                return
            surplus = sorted(surplus, key=lambda pod: -_ordinal(pod.meta.name))[:1]
        for pod in surplus:
            if not pod.terminating:
                mark_deleted(self.core, pod, None, BY)

    def _create(self, sts: StatefulSet, ordinal: int) -> None:
        name = f"{sts.meta.name}-{ordinal}"
        if self.core.store.get(Key("Pod", sts.meta.namespace, name)) is not None:
            return
        labels = {
            **sts.template.labels,
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(ordinal),
        }
        spec = replace(sts.template.spec, hostname=name, subdomain=sts.service_name)
        meta = Meta(name, sts.meta.namespace, labels, sts.template.annotations)
        create_pod(self.core, sts.key, Pod(meta, spec=spec), BY, (sts.key, ordinal))


def _ordinal(name: str) -> int:
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1
