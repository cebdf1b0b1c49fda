"""Deployment controller: a ReplicaSet per template, rolled over within surge and unavailability.

Source: k8s.io/kubernetes pkg/controller/deployment (deployment_controller.go, rolling.go, recreate.go, sync.go).
One step per sync, as there: growing the new ReplicaSet and shrinking old ones are different syncs.
"""

from collections.abc import Sequence
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import SETTLE_BATCH_NS, SETTLE_RUN_NS, Controller, Core
from kflab.control.facts import What
from kflab.control.garbage import collect
from kflab.control.hashing import fnv32a_all
from kflab.control.heap import Event
from kflab.control.names import canonical_template, code_of, template_hash
from kflab.control.pods import owned_pods
from kflab.control.progress import check_at_ns, complete, rollout_conditions
from kflab.control.rollout import available, bounds, new_replicas, old_sizes, scaled
from kflab.control.set_revisions import (
    DESIRED,
    HASH,
    MAX,
    REVISION,
    annotations_of_new,
    revision_of,
    template_tree,
)
from kflab.manifest.objects import Key, KubeObject, LabelSelector, Meta
from kflab.manifest.objects_pods import PodTemplate
from kflab.manifest.objects_workloads import Deployment, ReplicaSet
from kflab.records import dataclass
from kflab.replacing import replace

BY = "deployment-controller"


@dataclass(frozen=True, slots=True)
class SyncDeployment(Event):
    """A Deployment is taken from the work queue."""

    room: ClassVar[str] = "deployment"
    needs_api: ClassVar[bool] = True
    key: Key


class DeploymentController(Controller):
    """Makes, grows and shrinks ReplicaSets."""

    room = "deployment"
    kinds = ("Deployment", "ReplicaSet", "Pod")
    pods_gone = True
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}
        self.adopted: dict[tuple[Key, str], Key] = {}
        """(Deployment, our hash of its template) → the given ReplicaSet that has this template."""
        self._hashes: dict[Key, tuple[Deployment, str]] = {}
        self._checks: dict[Key, tuple[int, int]] = {}
        """When the next look at a rollout's progress is due, and the number of that event."""

    def changed(self, change: Change) -> None:
        """Queue the Deployment or the owner of the ReplicaSet; a gone pod may let Recreate go on."""
        match change.key.kind:
            case "Deployment":
                if change.new is None:
                    self._hashes.pop(change.key, None)
                    check = self._checks.pop(change.key, None)
                    if check is not None:
                        self.core.heap.drop(check[1])
                    collect(self.core, change.key)
                else:
                    self._tell_paused(change.old, change.new)
                    if not (self.core.quiet and change.same_generation):  # its own status changes nothing
                        self._enqueue(change.key)
            case "ReplicaSet":
                obj = change.new or change.old
                if obj is not None and obj.meta.owner is not None and obj.meta.owner.kind == "Deployment":
                    self._enqueue(obj.meta.owner, 2 * SETTLE_RUN_NS)
            case _ if change.new is None and change.old is not None and change.old.meta.owner is not None:
                rs = self.core.store.get(change.old.meta.owner)
                if rs is not None and rs.meta.owner is not None:
                    self._enqueue(rs.meta.owner)

    def _tell_paused(self, old: KubeObject | None, new: KubeObject) -> None:
        """The menu offers pause or resume by this mark."""
        paused = isinstance(new, Deployment) and new.paused
        if paused != (isinstance(old, Deployment) and old.paused):
            (self.core.mark if paused else self.core.unmark)(new.key, "rollout paused")

    def _enqueue(self, key: Key, settling_ns: int = SETTLE_BATCH_NS) -> None:
        if key.kind == "Deployment" and key not in self._queued:
            self._queued[key] = None
            self.core.push(self.core.queued_for(key, settling_ns), SyncDeployment(key))

    def handle(self, event: Event) -> None:
        """Take one step for one Deployment."""
        assert isinstance(event, SyncDeployment)
        self._queued.pop(event.key, None)
        if event.key in self._checks and self._checks[event.key][0] <= self.core.now_ns:
            del self._checks[event.key]
        deployment = self.core.store.get(event.key)
        if isinstance(deployment, Deployment) and not (self.core.quiet and event.key in self.core.as_given):
            self._sync(deployment)

    def _sync(self, deployment: Deployment) -> None:
        sets = self.replica_sets(deployment)
        new = self._new_of(deployment, sets)
        if new is not None and not deployment.paused:
            new = self._numbered(deployment, new, sets)
            sets = [new if rs.key == new.key else rs for rs in sets]
        if self._scaling(deployment, sets) or deployment.paused:
            self._scale(deployment, sets, new)
            if deployment.paused:
                self._clean_up(deployment, new, sets)
        elif deployment.strategy.type == "Recreate":
            self._recreate(deployment, new, sets)
        else:
            self._roll(deployment, new, sets)
        self._write_status(deployment.key, new is None)

    def _numbered(self, deployment: Deployment, new: ReplicaSet, sets: list[ReplicaSet]) -> ReplicaSet:
        """The new ReplicaSet with its revision; an earlier one that is wanted again gets the next number.

        It also follows the Deployment's minReadySeconds (getNewReplicaSet).
        """
        others = [rs for rs in sets if rs.key != new.key]
        annotations = annotations_of_new(deployment, new, others)
        if annotations == new.meta.annotations and new.min_ready_s == deployment.min_ready_s:
            return new
        numbered = replace(
            new, meta=replace(new.meta, annotations=annotations), min_ready_s=deployment.min_ready_s
        )  # fmt: skip
        self.core.put(numbered, BY)
        return numbered

    def replica_sets(self, deployment: Deployment) -> list[ReplicaSet]:
        """Its ReplicaSets in order of creation."""
        found = [self.core.store.get(key) for key in self.core.index.owned_by(deployment.key)]
        return sorted((rs for rs in found if isinstance(rs, ReplicaSet)), key=lambda rs: (rs.meta.creation_ns, rs.key))

    def _new_of(self, deployment: Deployment, sets: list[ReplicaSet]) -> ReplicaSet | None:
        code = self._hash(deployment)
        adopted = self.adopted.get((deployment.key, code))
        for rs in sets:
            if rs.key == adopted or rs.meta.labels.get(HASH) == code:
                return rs
        return None

    def _hash(self, deployment: Deployment) -> str:
        """pod-template-hash of its present template; worked out once per template."""
        known = self._hashes.get(deployment.key)
        if known is not None and known[0].template is deployment.template and known[0].raw is deployment.raw:
            return known[1]
        code = template_hash(deployment, deployment.template)
        self._hashes[deployment.key] = (deployment, code)
        return code

    def know(self, deployments: Sequence[Deployment]) -> None:
        """Work out the hashes of many templates at once: a cluster is being opened."""
        texts = [canonical_template(each, each.template).encode() for each in deployments]
        for each, value in zip(deployments, fnv32a_all(texts), strict=True):
            self._hashes[each.key] = (each, code_of(value))

    def _roll(self, deployment: Deployment, new: ReplicaSet | None, sets: list[ReplicaSet]) -> None:
        if new is None:
            self._make(deployment, sets)
            return
        old = [rs for rs in sets if rs.key != new.key]
        size = new_replicas(deployment, new.replicas, sum(rs.replicas for rs in sets))
        if new.replicas > deployment.replicas:
            size = deployment.replicas
        if size != new.replicas:
            self._resize(deployment, new, size)
            return
        for key, wanted in old_sizes(deployment, new, old).items():
            rs = self.core.store.get(key)
            if isinstance(rs, ReplicaSet):
                self._resize(deployment, rs, wanted)
        self._clean_up_when_complete(deployment, new, sets)

    def _recreate(self, deployment: Deployment, new: ReplicaSet | None, sets: list[ReplicaSet]) -> None:
        old = [rs for rs in sets if new is None or rs.key != new.key]
        running = [rs for rs in old if rs.replicas > 0]
        for rs in running:
            self._resize(deployment, rs, 0)
        if running or any(self._runs_pods(rs) for rs in old):
            return
        if new is None:
            self._make(deployment, sets)
        elif new.replicas != deployment.replicas:
            self._resize(deployment, new, deployment.replicas)
        else:
            self._clean_up_when_complete(deployment, new, sets)

    def _runs_pods(self, rs: ReplicaSet) -> bool:
        """oldPodsRunning: pods that have ended do not count, those that are being deleted do."""
        pods = owned_pods(self.core, rs.key)
        return rs.observed.get("replicas", 0) > 0 or any(
            pod.status.phase not in ("Succeeded", "Failed") for pod in pods
        )

    def _make(self, deployment: Deployment, sets: list[ReplicaSet]) -> None:
        code = self._hash(deployment)
        labels = {**deployment.template.labels, HASH: code}
        template = replace(deployment.template, labels=labels)
        selector = replace(
            deployment.selector, match_labels={**deployment.selector.match_labels, HASH: code}
        )  # fmt: skip
        size = new_replicas(deployment, 0, sum(rs.replicas for rs in sets))
        annotations = {**annotations_of_new(deployment, None, sets), **sized_for(deployment)}
        meta = Meta(
            f"{deployment.meta.name}-{code}", deployment.meta.namespace, labels, annotations, owner=deployment.key
        )
        raw = template_tree(deployment.raw)
        self.core.create(ReplicaSet(meta, raw, None, size, selector, template, deployment.min_ready_s), BY)

    def _resize(self, deployment: Deployment, rs: ReplicaSet, size: int) -> None:
        if rs.replicas == size and rs.meta.annotations.get(DESIRED) == str(deployment.replicas):
            return
        meta = replace(
            rs.meta, annotations={**rs.meta.annotations, **sized_for(deployment)},
            generation=rs.meta.generation + (rs.replicas != size),
        )  # fmt: skip
        change = self.core.put(replace(rs, meta=meta, replicas=size), BY)
        if change is not None and rs.replicas != size:
            self.core.fact(
                What.SCALED, rs.key, BY, f"{BY} scaled {rs.meta.name} from {rs.replicas} to {size}", change.revision
            )

    def _scaling(self, deployment: Deployment, sets: list[ReplicaSet]) -> bool:
        """Whether `replicas` changed since the ReplicaSets were last sized."""
        desired = str(deployment.replicas)
        return any(rs.replicas > 0 and rs.meta.annotations.get(DESIRED, desired) != desired for rs in sets)

    def _scale(self, deployment: Deployment, sets: list[ReplicaSet], new: ReplicaSet | None) -> None:
        running = [rs for rs in sets if rs.replicas > 0]
        if len(running) <= 1:
            target = running[0] if running else (new or (sets[-1] if sets else None))
            if target is not None:
                self._resize(deployment, target, deployment.replicas)
            return
        if new is not None and available(new) >= deployment.replicas and new.replicas == deployment.replicas:
            for rs in running:
                self._resize(deployment, rs, rs.replicas if rs.key == new.key else 0)
            return
        sizes = scaled(deployment, running)
        for rs in running:
            self._resize(deployment, rs, sizes.get(rs.key, rs.replicas))

    def _clean_up_when_complete(self, deployment: Deployment, new: ReplicaSet, sets: list[ReplicaSet]) -> None:
        if deployment.observed and complete(deployment, deployment.observed):
            self._clean_up(deployment, new, sets)

    def _clean_up(self, deployment: Deployment, new: ReplicaSet | None, sets: list[ReplicaSet]) -> None:
        """Of old ReplicaSets beyond revisionHistoryLimit those with the lowest revisions go, if they are empty."""
        old = sorted((rs for rs in sets if new is None or rs.key != new.key), key=revision_of)
        for rs in old[: max(0, len(old) - deployment.revision_history_limit)]:
            if rs.replicas == 0 and rs.observed.get("replicas", 0) == 0:
                self.core.remove(rs.key, BY)

    def _write_status(self, key: Key, was_without_new: bool) -> None:
        deployment = self.core.store.get(key)
        if not isinstance(deployment, Deployment):
            return
        sets = self.replica_sets(deployment)
        new = self._new_of(deployment, sets)
        replicas = sum(rs.observed.get("replicas", 0) for rs in sets)
        good = sum(available(rs) for rs in sets)
        observed = {
            "observedGeneration": deployment.meta.generation,
            "replicas": replicas,
            "updatedReplicas": new.observed.get("replicas", 0) if new is not None else 0,
            "readyReplicas": sum(rs.observed.get("readyReplicas", 0) for rs in sets),
            "availableReplicas": good,
            "unavailableReplicas": max(0, sum(rs.replicas for rs in sets) - good),
        }
        made = was_without_new and new is not None
        name = new.meta.name if new is not None else ""
        conditions = rollout_conditions(deployment, observed, name, made, self.core.now_ns)
        number = new.meta.annotations.get(REVISION, "") if new is not None else ""
        meta = deployment.meta
        if number and meta.annotations.get(REVISION) != number:
            meta = replace(meta, annotations={**meta.annotations, REVISION: number})
        written = replace(deployment, meta=meta, observed=observed, conditions=conditions)
        if written != deployment:
            self.core.put(written, BY)
        self._check_later(written)

    def _check_later(self, deployment: Deployment) -> None:
        """Look again when the deadline of a rollout without progress has passed; not once it is complete."""
        key = deployment.key
        due = None if self.core.quiet else check_at_ns(deployment, self.core.spans["requeue_skew_s"][0])
        known = self._checks.get(key)
        if known is not None and (due is None or due < known[0]):
            self.core.heap.drop(known[1])
            del self._checks[key]
            known = None
        if due is not None and known is None:
            due = max(due, self.core.now_ns)
            self._checks[key] = (due, self.core.heap.push(due, SyncDeployment(key)))


def sized_for(deployment: Deployment) -> dict[str, str]:
    """Annotations of a ReplicaSet that say for how many pods it was sized (SetReplicasAnnotations)."""
    replicas = deployment.replicas
    return {DESIRED: str(replicas), MAX: str(replicas + bounds(deployment).surge)}


def made_replica_set(deployment: Deployment, name: str, labels: dict[str, str], replicas: int) -> ReplicaSet:
    """The ReplicaSet that given pods name as their owner, when the input lacks it."""
    extra = {HASH: labels[HASH]} if HASH in labels else {}
    template: PodTemplate = replace(deployment.template, labels={**deployment.template.labels, **extra})
    selector: LabelSelector = replace(deployment.selector, match_labels={**deployment.selector.match_labels, **extra})
    meta = Meta(
        name, deployment.meta.namespace, dict(template.labels), sized_for(deployment),
        owner=deployment.key,
    )  # fmt: skip
    return ReplicaSet(meta, None, None, replicas, selector, template, deployment.min_ready_s)
