"""DaemonSet controller: one pod per fitting node, and new templates rolled out node by node.

Source: k8s.io/kubernetes pkg/controller/daemon/daemon_controller.go (updateDaemonSet, manage, podsShouldBeOnNode,
NodeShouldRunDaemonPod, updateDaemonSetStatus), util/daemonset_util.go (AddOrUpdateDaemonPodTolerations).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core, address_of
from kflab.control.daemonrollout import Step, limits, replacing, surging
from kflab.control.delays import ns
from kflab.control.garbage import collect
from kflab.control.heap import Event
from kflab.control.names import generated
from kflab.control.nodefilters import fits, may_stay, named_node
from kflab.control.pods import available, create_pod, mark_deleted, owned_pods
from kflab.control.revisions import HASH, Hashes, history, is_of, shortened
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod, PodSpec, Toleration
from kflab.manifest.objects_workloads import DaemonSet, Revision
from kflab.records import dataclass
from kflab.replacing import replace

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

ON_HOST = Toleration("node.kubernetes.io/network-unavailable", "Exists", "", "NoSchedule")
"""Added to daemon pods of the host's network."""

Fit = tuple[dict[str, None], dict[str, None]]
"""Nodes that should have a pod, and those where one may go on."""


@dataclass(frozen=True, slots=True)
class SyncDaemonSet(Event):
    """A DaemonSet is taken from the work queue."""

    room: ClassVar[str] = "daemonset"
    needs_api: ClassVar[bool] = True
    key: Key


class DaemonSetController(Controller):
    """Makes one pod per fitting node, and replaces those of older templates."""

    room = "daemonset"
    kinds = ("DaemonSet", "Pod", "Node")
    owners = ("DaemonSet",)
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}
        self._created: dict[Key, int] = {}
        self._later: dict[Key, int] = {}
        """DaemonSets that wait for a time → when they are looked at again."""
        self._failures: dict[tuple[Key, str], tuple[int, int]] = {}
        """(DaemonSet, node) → when its last failed pod was deleted, and how long the next one has to wait."""
        self._hashes = Hashes()

    def changed(self, change: Change) -> None:
        """Queue the DaemonSet, the owner of the pod, or all of them when a node changes."""
        match change.key.kind:
            case "DaemonSet":
                if change.new is None:
                    self._hashes.forget(change.key)
                    self._later.pop(change.key, None)
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

    def restarted(self) -> None:
        """Back-offs are kept in memory only."""
        self._failures.clear()

    def _enqueue(self, key: Key) -> None:
        if key not in self._queued:
            self._queued[key] = None
            wait = self.core.delay("watch_s", key) + self.core.delay("controller_s", key)
            self.core.push(wait, SyncDaemonSet(key))

    def handle(self, event: Event) -> None:
        """Bring pods and fitting nodes together; when they are, take a step of the rollout."""
        assert isinstance(event, SyncDaemonSet)
        self._queued.pop(event.key, None)
        ds = self.core.store.get(event.key)
        if not isinstance(ds, DaemonSet):
            return
        revisions = history(ds, self._hashes.of(ds), owned_pods(self.core, ds.key))
        fit = self._fit(ds)
        if not (self.core.quiet and event.key in self.core.as_given):
            step = self._manage(ds, revisions[-1], fit)
            if step == Step() and ds.update.type == "RollingUpdate":
                step = self._roll(ds, revisions[-1], fit[0])
            for node in step.make:
                self._create(ds, revisions[-1], node)
            for pod in step.delete:
                mark_deleted(self.core, pod, None, BY)
        self._write_status(ds, revisions, fit[0])

    # --- what to do -----------------------------------------------------------------------------------------

    def _fit(self, ds: DaemonSet) -> Fit:
        spec = _spec(ds.template.spec)
        nodes = [node for node in self.core.store.of_kind("Node") if isinstance(node, Node)]
        wanted = {node.meta.name: None for node in nodes if fits(spec, node)}
        others = [node for node in nodes if node.meta.name not in wanted]
        return wanted, wanted | {node.meta.name: None for node in others if may_stay(spec, node)}

    def _on_nodes(self, ds: DaemonSet) -> dict[str, list[Pod]]:
        """Its pods by node, in order of creation; a finished pod that is being deleted is not there any more."""
        found: dict[str, list[Pod]] = {}
        for pod in owned_pods(self.core, ds.key):
            if not (pod.terminating and _finished(pod)):
                found.setdefault(_node_of(pod), []).append(pod)
        return found

    def _manage(self, ds: DaemonSet, update: Revision, fit: Fit) -> Step:
        """A pod where there has to be one, none where there may not, one where there are more."""
        wanted, stay = fit
        on_nodes = self._on_nodes(ds)
        surge = limits(ds.update, len(wanted)).surge > 0 and ds.update.type == "RollingUpdate"
        make = [node for node in wanted if node not in on_nodes]
        delete: list[Pod] = []
        for node, pods in on_nodes.items():
            there = [pod for pod in pods if not pod.terminating]
            if node not in stay:
                # Pods that are bound to a Node that is gone are the pod garbage collector's.
                gone = self.core.store.get(Key("Node", "", node)) is None
                delete += [pod for pod in there if not (gone and pod.spec.node_name)]
                continue
            failed = [pod for pod in there if _finished(pod)]
            delete += [pod for pod in failed if self._may_replace(ds.key, node)]
            running = sorted((pod for pod in there if not _finished(pod)), key=lambda pod: not pod.spec.node_name)
            if surge:
                delete += self._too_many(ds, running, update)
                if not there and node in wanted:
                    make.append(node)
            else:
                delete += running[1:]
        return Step(tuple(delete), tuple(make))

    def _too_many(self, ds: DaemonSet, running: Sequence[Pod], update: Revision) -> list[Pod]:
        """Surging, a node has one old pod that is ready and one new that is not available yet; no other two."""
        new = [pod for pod in running if is_of(pod, update.name)]
        old = [pod for pod in running if not is_of(pod, update.name)]
        delete = [*new[1:], *old[1:]]
        if new and old and (not old[0].status.ready or self._available(ds, new[0])):
            delete.append(old[0])
        return delete

    def _may_replace(self, key: Key, node: str) -> bool:
        """Whether a failed pod may go now; if not, the DaemonSet is looked at again when it may."""
        now = self.core.now_ns
        since, wait = self._failures.get((key, node), (0, 0))
        if wait and now < since + wait:
            self._look_again(key, since + wait)
            return False
        first, longest = self.core.spans["daemon_backoff_s"][0], self.core.spans["daemon_backoff_max_s"][0]
        forgotten = now - since > 2 * longest
        self._failures[key, node] = (now, min(2 * wait, longest) if wait and not forgotten else first)
        return True

    def _roll(self, ds: DaemonSet, update: Revision, wanted: dict[str, None]) -> Step:
        on_nodes: dict[str, Sequence[Pod]] = dict.fromkeys(wanted, ())
        on_nodes.update(self._on_nodes(ds))
        bounds = limits(ds.update, len(wanted))
        if bounds.surge:
            return surging(on_nodes, update.name, bounds.surge, wanted, lambda pod: self._available(ds, pod))
        return replacing(on_nodes, update.name, bounds.unavailable, lambda pod: self._available(ds, pod))

    def _available(self, ds: DaemonSet, pod: Pod) -> bool:
        return available(pod, ns(ds.min_ready_s), self.core.now_ns)

    # --- pods -----------------------------------------------------------------------------------------------

    def _create(self, ds: DaemonSet, update: Revision, node: str) -> None:
        name = ""
        while not name or self.core.store.get(Key("Pod", ds.meta.namespace, name)) is not None:
            name = generated(f"{ds.meta.name}-", self.core.bits("pod-name", f"{address_of(ds.key)}/{node}"))
        spec = _spec(ds.template.spec)
        bound = replace(spec, affinity=_on_node(spec.affinity, node))
        labels = {**ds.template.labels, HASH: update.name}
        meta = Meta(name, ds.meta.namespace, labels, ds.template.annotations)
        ordinal = self._created.get(ds.key, 0)
        self._created[ds.key] = ordinal + 1
        create_pod(self.core, ds.key, Pod(meta, spec=bound), BY, (ds.key, ordinal))

    # --- status ---------------------------------------------------------------------------------------------

    def _write_status(self, ds: DaemonSet, revisions: tuple[Revision, ...], wanted: dict[str, None]) -> None:
        on_nodes = self._on_nodes(ds)
        firsts = [on_nodes[node][0] for node in wanted if node in on_nodes]
        ready = [pod for pod in firsts if pod.status.ready]
        good = [pod for pod in ready if self._available(ds, pod)]
        observed = {
            "observedGeneration": ds.meta.generation,
            "desiredNumberScheduled": len(wanted),
            "currentNumberScheduled": len(firsts),
            "numberMisscheduled": sum(node not in wanted for node in on_nodes),
            "numberReady": len(ready),
            "numberAvailable": len(good),
            "numberUnavailable": len(wanted) - len(good),
            "updatedNumberScheduled": sum(is_of(pod, revisions[-1].name) for pod in firsts),
        }
        live = frozenset(pod.meta.labels.get(HASH, "") for pods in on_nodes.values() for pod in pods)
        new = replace(ds, observed=observed, revisions=shortened(revisions, live, ds.revision_history_limit))
        if new != ds:
            self.core.put(new, BY)
        waiting = [pod.status.ready_since_ns or 0 for pods in on_nodes.values() for pod in pods
                   if pod.status.ready and not self._available(ds, pod)]  # fmt: skip
        if waiting:
            self._look_again(ds.key, min(waiting) + ns(ds.min_ready_s) + self.core.spans["requeue_skew_s"][0])

    def _look_again(self, key: Key, t_ns: int) -> None:
        if self._later.get(key, 0) != t_ns:
            self._later[key] = t_ns
            self.core.push_at(t_ns, SyncDaemonSet(key))


def _finished(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def _node_of(pod: Pod) -> str:
    """Where a pod is, or where the scheduler will put it."""
    return pod.spec.node_name or named_node(pod.spec.affinity) or ""


def _spec(spec: PodSpec) -> PodSpec:
    """The template's spec with the tolerations of every daemon pod."""
    added = (*TOLERATIONS, ON_HOST) if spec.host_network else TOLERATIONS
    return replace(spec, tolerations=(*spec.tolerations, *(one for one in added if one not in spec.tolerations)))


def _on_node(affinity: Mapping[str, Any] | None, node: str) -> Mapping[str, Any]:
    """The template's affinity with its required node terms replaced by the one node (daemonset_util.go)."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {**(affinity or {}), "nodeAffinity": required}
