"""ReplicaSet controller: as many active pods as asked for, and which one goes first.

Source: k8s.io/kubernetes pkg/controller/replicaset/replica_set.go (manageReplicas, slowStartBatch),
pkg/controller/controller_utils.go (ActivePodsWithRanks).
"""

import re
from collections import Counter
from functools import cmp_to_key
from typing import ClassVar

from kflab.cluster.ipam import Pins
from kflab.cluster.store import Change
from kflab.control.apiclient import ApiClient
from kflab.control.core import SETTLE_BATCH_NS, SETTLE_RUN_NS, Controller, Core, address_of
from kflab.control.delays import SECOND_NS, ns
from kflab.control.garbage import collect
from kflab.control.heap import Event
from kflab.control.names import generated
from kflab.control.pods import active, available, create_pod, mark_deleted, owned_pods
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import ReplicaSet
from kflab.records import dataclass
from kflab.replacing import replace

BY = "replicaset-controller"

BURST = 500
"""At most so many creations or deletions per sync."""


@dataclass(frozen=True, slots=True)
class SyncReplicaSet(Event):
    """A ReplicaSet is taken from the work queue."""

    room: ClassVar[str] = "replicaset"
    needs_api: ClassVar[bool] = True
    key: Key


@dataclass(frozen=True, slots=True)
class CreatePods(Event):
    """One batch of the slow start is sent."""

    room: ClassVar[str] = "replicaset"
    needs_api: ClassVar[bool] = True
    key: Key
    count: int


@dataclass(frozen=True, slots=True)
class DeletePod(Event):
    """A deletion that had to wait for the controller's client is sent."""

    room: ClassVar[str] = "replicaset"
    needs_api: ClassVar[bool] = True
    key: Key
    pod: Key
    uid: str


class ReplicaSetController(Controller):
    """Makes and deletes pods of ReplicaSets and writes their status."""

    room = "replicaset"
    kinds = ("ReplicaSet", "Pod")
    owners = ("ReplicaSet", "")
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}
        self._expected: dict[Key, int] = {}
        """Creations under way: not seen as pods yet, so not asked for again."""
        self._going: dict[Key, dict[Key, None]] = {}
        """ReplicaSet → its pods whose deletion waits to be sent."""
        self._client = ApiClient(core)
        self._created: dict[Key, int] = {}
        """Pods created so far, by pin owner: the ordinals of pins."""
        self._ahead: dict[Key, tuple[int, list[int]]] = {}
        """ReplicaSet → number of its first draw of a pod's name that was made ahead, and those draws."""

    def changed(self, change: Change) -> None:
        """Queue the ReplicaSet, or the owner of the pod."""
        if change.key.kind == "ReplicaSet":
            if change.new is None:
                self._going.pop(change.key, None)
                self._ahead.pop(change.key, None)
                collect(self.core, change.key)
            elif not (self.core.quiet and change.same_generation):  # its own status changes nothing
                self._enqueue(change.key)
            return
        before = change.old.meta.owner if change.old is not None else None
        after = change.new.meta.owner if change.new is not None else None
        for owner in (before, after) if before is not after else (after,):
            if owner is not None and owner.kind == "ReplicaSet":
                self._enqueue(owner, SETTLE_RUN_NS)
        if after is None and change.old is None and isinstance(change.new, Pod):
            self._enqueue_adopters(change.new)

    def _enqueue_adopters(self, pod: Pod) -> None:
        for obj in self.core.store.of_kind("ReplicaSet", pod.meta.namespace):
            if isinstance(obj, ReplicaSet) and obj.selector.matches(pod.meta.labels):
                self._enqueue(obj.key)

    def _enqueue(self, key: Key, settling_ns: int = SETTLE_BATCH_NS) -> None:
        if key not in self._queued:
            self._queued[key] = None
            self.core.push(self.core.queued_for(key, settling_ns), SyncReplicaSet(key))

    def handle(self, event: Event) -> None:
        """Bring one ReplicaSet in order."""
        match event:
            case SyncReplicaSet(key):
                self._queued.pop(key, None)
                rs = self.core.store.get(key)
                if isinstance(rs, ReplicaSet):
                    self._sync(rs)
            case CreatePods(key, count):
                rs = self.core.store.get(key)
                self._expected[key] = max(0, self._expected.get(key, 0) - count)
                if isinstance(rs, ReplicaSet):
                    for _ in range(count):
                        self._create(rs)
            case DeletePod(key, pod_key, uid):
                self._going.get(key, {}).pop(pod_key, None)
                pod = self.core.store.get(pod_key)
                if isinstance(pod, Pod) and pod.meta.uid == uid and active(pod):
                    mark_deleted(self.core, pod, None, BY)

    def _sync(self, rs: ReplicaSet) -> None:
        if self.core.quiet and rs.key in self.core.as_given:
            self._write_status(rs)
            return
        self._adopt(rs)
        key = rs.key
        there = [pod for pod in owned_pods(self.core, key) if active(pod)]
        going = self._going.get(key, {})
        pods = [pod for pod in there if pod.key not in going] if going else there
        missing = rs.replicas - len(pods) - self._expected.get(key, 0)
        if missing > 0:
            self._slow_start(rs, min(missing, BURST))
        elif missing < 0:
            for pod in victims(self.core, rs, pods)[: min(-missing, BURST)]:
                self._delete(key, pod)
        self._write_status(rs, there if missing >= 0 else None)

    def _delete(self, key: Key, pod: Pod) -> None:
        """Delete a pod as soon as the client may."""
        now = self.core.now_ns
        sent = now if self.core.quiet else self._client.take(now)
        if sent == now:
            mark_deleted(self.core, pod, None, BY)
        else:
            self._going.setdefault(key, {})[pod.key] = None
            self.core.push_at(sent, DeletePod(key, pod.key, pod.meta.uid))

    def _adopt(self, rs: ReplicaSet) -> None:
        """Pods that match and have no owner become the ReplicaSet's (controller_ref_manager.go)."""
        if not self.core.index.has_ownerless(rs.meta.namespace):
            return
        for pod in self.core.store.all_of(self.core.index.pods_matching(rs.meta.namespace, rs.selector)):
            if pod.meta.owner is not None or not isinstance(pod, Pod):
                continue
            if active(pod) and rs.selector.matches(pod.meta.labels):
                self.core.put(replace(pod, meta=replace(pod.meta, owner=rs.key)), BY)

    def _slow_start(self, rs: ReplicaSet, count: int) -> None:
        """Batches of 1, 2, 4, 8 …, each sent when the one before has succeeded, as fast as the client may.

        Simplified: the turns of all batches are taken at once, before those of another ReplicaSet that comes later.
        """
        key, now = rs.key, self.core.now_ns
        self._expected[key] = self._expected.get(key, 0) + count
        if count > 1:
            self._ahead[key] = self.core.bits_ahead("pod-name", address_of(key), count)
        wait, batch = 0, 1
        while count > 0:
            size = min(batch, count)
            wait += self.core.delay("api_write_s", key)
            turns = Counter(now + wait if self.core.quiet else self._client.take(now + wait) for _ in range(size))
            for sent, many in turns.items():
                self.core.push_at(sent, CreatePods(key, many))
                wait = sent - now
            count, batch = count - size, 2 * batch

    def _create(self, rs: ReplicaSet) -> None:
        key = rs.key
        owner = rs.meta.owner or key
        ordinal = self._created.get(owner, 0)
        self._created[owner] = ordinal + 1
        name = Pins.nth(self.core.pins.pod_names, owner.namespace, owner.kind, owner.name, ordinal)
        while not name or self.core.store.get(Key("Pod", rs.meta.namespace, name)) is not None:
            name = generated(f"{rs.meta.name}-", self._name_bits(key))
        meta = Meta(name, rs.meta.namespace, rs.template.labels, rs.template.annotations, owner=key)
        create_pod(self.core, key, Pod(meta, spec=rs.template.spec), BY, (owner, ordinal))

    def _name_bits(self, key: Key) -> int:
        """What the next pod's name is made from: drawn ahead, where it was."""
        first, words = self._ahead.get(key, (0, ()))
        if not words:
            return self.core.bits("pod-name", address_of(key))
        at = self.core.next_draw("pod-name", address_of(key)) - first
        if at == len(words) - 1:
            del self._ahead[key]
        return words[at]

    def note_given(self, owner: Key, count: int) -> None:
        """Pods that came with the input count as created: pins are for those made later."""
        self._created[owner] = self._created.get(owner, 0) + count

    def _write_status(self, rs: ReplicaSet, pods: list[Pod] | None = None) -> None:
        """Count its active pods: `pods`, where they are known."""
        key = rs.key
        if pods is None:
            pods = [pod for pod in owned_pods(self.core, key) if active(pod)]
        min_ready = ns(rs.min_ready_s)
        now = self.core.now_ns
        ready = [pod for pod in pods if pod.status.ready]
        good = [pod for pod in ready if available(pod, min_ready, now)]
        labels = rs.template.labels
        observed = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(
                labels is pod.meta.labels or labels.items() <= pod.meta.labels.items() for pod in pods
            ),
            "readyReplicas": len(ready),
            "availableReplicas": len(good),
        }
        current = self.core.store.get(key)
        if isinstance(current, ReplicaSet) and current.observed != observed:
            self.core.put(replace(current, observed=observed), BY)
        if len(good) < len(ready):
            # Upstream asks for one more sync when the first pod's minReadySeconds are over.
            first = min(p.status.ready_since_ns or 0 for p in ready if p not in good)
            self.core.push_at(first + min_ready, SyncReplicaSet(key))


def victims(core: Core, rs: ReplicaSet, pods: list[Pod]) -> list[Pod]:
    """Pods in the order in which scaling down deletes them (ActivePodsWithRanks.Less; lifecycle 1.6)."""
    related = _co_located(core, rs, pods)
    phases = {"Pending": 0, "Unknown": 1}

    def first_wishes(pod: Pod) -> tuple[object, ...]:
        phase = phases.get(pod.status.phase, 2)
        near = -related.get(pod.spec.node_name, 0)
        return (bool(pod.spec.node_name), phase, pod.status.ready, _deletion_cost(pod), near)

    def compare(one: Pod, two: Pod) -> int:
        mine, other = first_wishes(one), first_wishes(two)
        if mine != other:
            return -1 if mine < other else 1
        if one.status.ready and two.status.ready:
            by_ready = _younger_first(core.now_ns, one, two, _ready_since(one), _ready_since(two))
            if by_ready:
                return by_ready
        if _most_restarts(one) != _most_restarts(two):
            return -1 if _most_restarts(one) > _most_restarts(two) else 1
        by_age = _younger_first(core.now_ns, one, two, one.meta.creation_ns, two.meta.creation_ns)
        return by_age or _by_uid(one, two)  # upstream leaves it to the order of the informer's map

    return sorted(pods, key=cmp_to_key(compare))


def _ready_since(pod: Pod) -> int:
    return pod.status.ready_since_ns if pod.status.ready_since_ns is not None else pod.meta.creation_ns


def _younger_first(now_ns: int, one: Pod, two: Pod, since_one: int, since_two: int) -> int:
    """Compare ages by their logarithm: of about one age, the lower uid goes first, which is arbitrary.

    Times in objects are whole seconds (apimachinery pkg/apis/meta/v1/time.go): those of one second are equal.
    """
    since_one, since_two = since_one - since_one % SECOND_NS, since_two - since_two % SECOND_NS
    if since_one == since_two:
        return 0
    rank_one, rank_two = (max(0, now_ns - since).bit_length() for since in (since_one, since_two))
    if rank_one != rank_two:
        return rank_one - rank_two
    return _by_uid(one, two)


def _by_uid(one: Pod, two: Pod) -> int:
    return -1 if one.meta.uid < two.meta.uid else 1


def _co_located(core: Core, rs: ReplicaSet, pods: list[Pod]) -> dict[str, int]:
    """Active pods per node of all ReplicaSets with the same owner (getPodsRankedByRelatedPodsOnSameNode)."""
    counts: dict[str, int] = {}
    family = core.index.owned_by(rs.meta.owner) if rs.meta.owner is not None else [rs.key]
    for key in family:
        for pod in owned_pods(core, key) if key.kind == "ReplicaSet" else ():
            if active(pod) and pod.spec.node_name:
                counts[pod.spec.node_name] = counts.get(pod.spec.node_name, 0) + 1
    return counts


def _most_restarts(pod: Pod) -> tuple[int, int]:
    """The most restarts of any of its containers, then of its sidecars (maxContainerRestarts)."""
    sidecars = {c.name for c in pod.spec.init_containers if c.restart_policy == "Always"}
    both = (*pod.status.containers, *pod.status.inits)
    regular = max((c.restarts for c in pod.status.containers if c.name not in sidecars), default=0)
    return regular, max((c.restarts for c in both if c.name in sidecars), default=0)


def _deletion_cost(pod: Pod) -> int:
    """An int32 as Go reads it, without plus sign or leading zero; anything else counts as 0."""
    text = pod.meta.annotations.get("controller.kubernetes.io/pod-deletion-cost", "0")
    cost = int(text) if re.fullmatch("-[0-9]{1,10}|0|[1-9][0-9]{0,9}", text) else 0
    return cost if -(2**31) <= cost < 2**31 else 0
