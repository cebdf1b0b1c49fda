"""StatefulSet controller: pods by ordinal, made and deleted in order, and updated from the highest ordinal down.

Source: k8s.io/kubernetes pkg/controller/statefulset/stateful_set_control.go (updateStatefulSet, processReplica,
processCondemned, updateStatefulSetAfterInvariantEstablished, completeRollingUpdate), stateful_set_utils.go
(newVersionedStatefulSetPod, getStatefulSetMaxUnavailable), stateful_set.go (updatePod). Volumes and their claims are
not modelled. Where `maxUnavailable` is given it is honoured as with the gate MaxUnavailableStatefulSet (off by default
up to 1.34, on from 1.35).
"""

from collections.abc import Sequence
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.delays import ns
from kflab.control.garbage import collect
from kflab.control.heap import Event
from kflab.control.pods import available, create_pod, mark_deleted, owned_pods
from kflab.control.revisions import HASH, Hashes, history, is_of, shortened
from kflab.control.rollout import resolve
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Revision, StatefulSet
from kflab.records import dataclass
from kflab.replacing import replace

BY = "statefulset-controller"


@dataclass(frozen=True, slots=True)
class SyncStatefulSet(Event):
    """A StatefulSet is taken from the work queue."""

    room: ClassVar[str] = "statefulset"
    needs_api: ClassVar[bool] = True
    key: Key


class StatefulSetController(Controller):
    """Makes NAME-0, NAME-1, …, deletes from the highest ordinal down, and rolls out new templates."""

    room = "statefulset"
    kinds = ("StatefulSet", "Pod")
    owners = ("StatefulSet",)
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}
        self._later: dict[Key, int] = {}
        """StatefulSets that wait for minReadySeconds → when they are looked at again."""
        self._hashes = Hashes()

    def changed(self, change: Change) -> None:
        """Queue the StatefulSet, or the owner of the pod."""
        if change.key.kind == "StatefulSet":
            if change.new is None:
                self._hashes.forget(change.key)
                self._later.pop(change.key, None)
                collect(self.core, change.key)
                return
            if change.old is None and isinstance(change.new, StatefulSet) and change.new.max_unavailable is not None:
                self.core.assume(
                    f"maxUnavailable of StatefulSet {change.new.meta.name} counts, as from Kubernetes 1.35 on",
                    "leave it out: before, only with the feature gate MaxUnavailableStatefulSet",
                )
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
        """Take the next step that the order allows, and write the status."""
        assert isinstance(event, SyncStatefulSet)
        self._queued.pop(event.key, None)
        sts = self.core.store.get(event.key)
        if not isinstance(sts, StatefulSet):
            return
        found = owned_pods(self.core, sts.key)
        revisions = history(sts, self._hashes.of(sts), found)
        names = {revision.name: revision for revision in revisions}
        update = revisions[-1]
        current = names.get(sts.current_revision, update)
        if not (self.core.quiet and event.key in self.core.as_given):
            self._step(sts, found, current, update)
        self._write_status(sts, revisions, current, update)

    # --- what to do -----------------------------------------------------------------------------------------

    def _step(self, sts: StatefulSet, found: Sequence[Pod], current: Revision, update: Revision) -> None:
        by_ordinal = {_ordinal(pod.meta.name): pod for pod in found}
        wanted = range(sts.start_ordinal, sts.start_ordinal + sts.replicas)
        ordered = sts.pod_management != "Parallel"
        if self._replicas_block(sts, wanted, by_ordinal, ordered, current, update):
            return
        condemned = [by_ordinal[n] for n in sorted(by_ordinal, reverse=True) if n >= 0 and n not in wanted]
        if self._condemned_block(sts, condemned, [by_ordinal[n] for n in wanted if n in by_ordinal], ordered):
            return
        if sts.update_type == "RollingUpdate":
            self._update(sts, [(n, by_ordinal.get(n)) for n in wanted], update)

    def _replicas_block(
        self,
        sts: StatefulSet,
        wanted: range,
        by_ordinal: dict[int, Pod],
        ordered: bool,
        current: Revision,
        update: Revision,
    ) -> bool:
        """Make what is missing; whether a pod has to be waited for before anything is deleted or updated."""
        for ordinal in wanted:
            pod = by_ordinal.get(ordinal)
            if pod is None:
                self._create(sts, ordinal, self._revision_of_new(sts, ordinal, current, update))
                if ordered:
                    return True
            elif pod.status.phase in ("Failed", "Succeeded"):
                if not pod.terminating:
                    mark_deleted(self.core, pod, None, BY)
                if ordered:
                    return True
            elif ordered and (pod.terminating or not self._available(sts, pod)):
                return True
        return False

    def _condemned_block(self, sts: StatefulSet, condemned: Sequence[Pod], kept: Sequence[Pod], ordered: bool) -> bool:
        """Delete pods beyond `replicas`: all at once, or one when those before it in the order are well."""
        unwell = [pod for pod in (*kept, *reversed(condemned)) if self._unavailable(sts, pod)]
        for pod in condemned:
            if ordered and (pod.terminating or (not self._available(sts, pod) and pod != unwell[0])):
                return True
            if not pod.terminating:
                mark_deleted(self.core, pod, None, BY)
                if ordered:
                    return True
        return False

    def _update(self, sts: StatefulSet, replicas: Sequence[tuple[int, Pod | None]], update: Revision) -> None:
        """Delete pods of other revisions, the highest ordinal first, within the bound."""
        lowest = sts.start_ordinal + (sts.partition or 0)
        if sts.max_unavailable is None:
            for ordinal, pod in reversed(replicas):
                if ordinal < lowest or pod is None:
                    return
                if not is_of(pod, update.name) and not pod.terminating:
                    mark_deleted(self.core, pod, None, BY)
                    return
                if self._unavailable(sts, pod):
                    return
            return
        left = max(1, resolve(sts.max_unavailable, sts.replicas, up=False))
        left -= sum(pod is None or self._unavailable(sts, pod) for _, pod in replicas)
        for ordinal, pod in reversed(replicas):
            if left <= 0 or ordinal < lowest:
                return
            if pod is not None and not is_of(pod, update.name) and not pod.terminating:
                mark_deleted(self.core, pod, None, BY)
                left -= 1

    def _available(self, sts: StatefulSet, pod: Pod) -> bool:
        return pod.status.phase == "Running" and available(pod, ns(sts.min_ready_s), self.core.now_ns)

    def _unavailable(self, sts: StatefulSet, pod: Pod) -> bool:
        return pod.terminating or not self._available(sts, pod)

    # --- pods -----------------------------------------------------------------------------------------------

    def _revision_of_new(self, sts: StatefulSet, ordinal: int, current: Revision, update: Revision) -> Revision:
        """Pods below the partition keep the current revision; without one, as many as are of it still."""
        if sts.update_type != "RollingUpdate":
            return update
        kept = sts.observed.get("currentReplicas", 0) if sts.partition is None else sts.partition
        return current if ordinal < sts.start_ordinal + kept else update

    def _create(self, sts: StatefulSet, ordinal: int, revision: Revision) -> None:
        name = f"{sts.meta.name}-{ordinal}"
        if self.core.store.get(Key("Pod", sts.meta.namespace, name)) is not None:
            return
        template = revision.template
        labels = {
            **template.labels,
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(ordinal),
            HASH: revision.name,
        }
        spec = replace(template.spec, hostname=name, subdomain=sts.service_name)
        meta = Meta(name, sts.meta.namespace, labels, template.annotations)
        create_pod(self.core, sts.key, Pod(meta, spec=spec), BY, (sts.key, ordinal))

    # --- status ---------------------------------------------------------------------------------------------

    def _write_status(
        self, sts: StatefulSet, revisions: tuple[Revision, ...], current: Revision, update: Revision
    ) -> None:
        pods = owned_pods(self.core, sts.key)
        well = [pod for pod in pods if pod.status.phase == "Running" and pod.status.ready]
        good = [pod for pod in well if self._available(sts, pod)]
        staying = [pod for pod in pods if not pod.terminating]
        observed = {
            "observedGeneration": sts.meta.generation,
            "replicas": len(pods),
            "readyReplicas": len(well),
            "availableReplicas": len(good),
            "currentReplicas": sum(is_of(pod, current.name) for pod in staying),
            "updatedReplicas": sum(is_of(pod, update.name) for pod in staying),
        }
        all_new = observed["updatedReplicas"] == observed["replicas"] == observed["readyReplicas"] == sts.replicas
        if sts.update_type == "RollingUpdate" and all_new:
            current = update
            observed["currentReplicas"] = observed["updatedReplicas"]
        live = frozenset((current.name, update.name, *(pod.meta.labels.get(HASH, "") for pod in pods)))
        new = replace(
            sts,
            observed=observed,
            current_revision=current.name,
            update_revision=update.name,
            revisions=shortened(revisions, live, sts.revision_history_limit),
        )
        if new != sts:
            self.core.put(new, BY)
        if len(good) < len(well):
            self._look_again(sts, [pod.status.ready_since_ns or 0 for pod in well if pod not in good])

    def _look_again(self, sts: StatefulSet, ready_since: Sequence[int]) -> None:
        """Sync once more when the first pod's minReadySeconds are over."""
        due = min(ready_since) + ns(sts.min_ready_s) + self.core.spans["requeue_skew_s"][0]
        if self._later.get(sts.key, 0) != due:
            self._later[sts.key] = due
            self.core.push_at(due, SyncStatefulSet(sts.key))


def _ordinal(name: str) -> int:
    tail = name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else -1
