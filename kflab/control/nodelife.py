"""Node lifecycle controller: leases, the monitor pass, Ready=Unknown and what follows from it.

A kubelet renews its lease every 10 × (1 + U(0, 0.04)) s. A lease renewed in time changes nothing and is no event:
when a kubelet falls silent, its last renewal is worked out from when it began, and so is the pass of the controller
that will find it too old. Only passes that can change something are events.

Source: k8s.io/kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go (monitorNodeHealth,
tryUpdateNodeHealth, processTaintBaseEviction, handleDisruption), pkg/controller/util/node/controller_utils.go
(MarkPodsNotReady), pkg/kubelet/nodestatus; lifecycle 1.5. Nodes that never posted a status are not modelled.
"""

from collections.abc import Iterator
from dataclasses import replace
from heapq import heapify, heapreplace
from typing import ClassVar

import numpy as np

from kflab.cluster.store import Change
from kflab.control.admission import require_api
from kflab.control.apiclient import ApiClient
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import MANAGER, Event, KubeletEvent, ManagerEvent
from kflab.control.names import number_of
from kflab.control.podgc import OUT_OF_SERVICE
from kflab.control.tolerations import NOT_READY, UNREACHABLE
from kflab.control.zonetaints import ZoneTaints, without_own
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

BY = "node-lifecycle-controller"

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

WORKERS = 8
"""Nodes whose writes go on at once (k/k pkg/controller/nodelifecycle/scheduler/taint_manager.go, UpdateWorkerSize)."""


@dataclass(frozen=True, slots=True)
class MonitorPass(ManagerEvent):
    """A pass over all nodes that may find something."""

    room: ClassVar[str] = "nodelife"


@dataclass(frozen=True, slots=True)
class MarkPodNotReady(ManagerEvent):
    """The pass reaches a pod of a node that is not Ready any more."""

    room: ClassVar[str] = "nodelife"
    key: Key
    uid: str
    node: str


@dataclass(frozen=True, slots=True)
class MarkNode(ManagerEvent):
    """The pass writes that a node is Unknown."""

    room: ClassVar[str] = "nodelife"
    node: str


@dataclass(frozen=True, slots=True)
class SyncTaints(ManagerEvent):
    """A changed Node gets the NoSchedule taints of its conditions."""

    room: ClassVar[str] = "nodelife"
    node: str


@dataclass(frozen=True, slots=True)
class PostNodeStatus(KubeletEvent):
    """A kubelet posts its node's conditions."""

    room: ClassVar[str] = "nodelife"
    needs_api: ClassVar[bool] = True
    ready: str = "True"
    why: str = ""


class NodeLife(Controller):
    """Watches over all nodes."""

    room = "nodelife"
    kinds = ("Node",)
    component = MANAGER

    def __init__(self, core: Core, taints: ZoneTaints) -> None:
        super().__init__(core)
        self.taints = taints
        self._probed: dict[str, int] = {}
        """Silent nodes → when the controller saw their lease renewed for the last time."""
        self._renewed: dict[str, int] = {}
        """Silent nodes → when their lease was renewed for the last time."""
        self._renewing: dict[str, tuple[int, int]] = {}
        """Node → (since when its kubelet renews, how often it began); others have since before t = 0."""
        self._first_pass: int | None = None
        """A moment at which a pass began; passes follow in whole periods."""
        self._due: dict[int, None] = {}
        self._client = ApiClient(core)
        self._syncing: dict[str, None] = {}

    # --- leases and passes ----------------------------------------------------------------------------------

    def _period(self) -> int:
        return max(1, self.core.spans["node_monitor_period_s"][0] + self.core.spans["node_monitor_pass_s"][0])

    def next_pass(self, after_ns: int) -> int:
        """When the first pass after a moment begins."""
        period = self._period()
        if self._first_pass is None:
            phase = self.core.draws.control_between("node-monitor-phase", "", 0, 0, period)
            self._first_pass = phase - 100 * period  # before any renewal that is asked about
        if after_ns < self._first_pass:
            return self._first_pass
        return self._first_pass + ((after_ns - self._first_pass) // period + 1) * period

    def _last_renewal(self, node: str) -> int:
        """When the lease of a node was renewed for the last time."""
        low, high = self.core.spans["lease_renew_s"]
        default = -self.core.draws.control_between("lease-phase", node, 0, 0, high)
        since, times = self._renewing.get(node, (default, 0))
        count = (self.core.now_ns - since) // max(1, low) + 1
        words = self.core.draws.rows(number_of(f"lease {node}"), np.arange(count, dtype=np.int64), times)[:, 0]
        waits = (words >> np.uint64(32)) * np.uint64(high - low + 1) >> np.uint64(32)
        renewals = since + np.cumsum(waits.astype(np.int64) + low)
        made = int(np.searchsorted(renewals, self.core.now_ns, side="right"))
        return int(renewals[made - 1]) if made else since

    def lease_age_ns(self, node: str) -> int | None:
        """How long ago a silent node renewed its lease for the last time; None: the node renews it."""
        return self.core.now_ns - self._renewed[node] if node in self._renewed else None

    def silenced(self, node: str) -> None:
        """A kubelet cannot renew its lease from now on."""
        if node in self._probed:
            return
        self._renewed[node] = self._last_renewal(node)
        self._probed[node] = self.next_pass(self._renewed[node])
        self._plan(self.next_pass(self._probed[node] + self._grace()))

    def _grace(self) -> int:
        return self.core.spans["node_monitor_grace_s"][0]

    def heard_again(self, node: str, *, restarted: bool) -> None:
        """A kubelet talks to the API server again: it renews its lease and posts its node's status."""
        times = self._renewing.get(node, (0, 0))[1] + 1
        self._renewing[node] = (self.core.now_ns, times)
        self._probed.pop(node, None)
        self._renewed.pop(node, None)
        if restarted:
            wait = self.core.delay("kubelet_start_s", f"kubelet/{node}")
        else:
            period = self.core.spans["node_status_s"][0]
            wait = self.core.draws.control_between("node-status-tick", node, times, 0, period + 1)
        self.core.push(wait, PostNodeStatus(node))

    def restarted(self) -> None:
        """A new process knows of no renewals: every node has the whole grace period from its first pass."""
        first = self.next_pass(self.core.now_ns)
        for node in self._probed:
            self._probed[node] = first
            self._plan(self.next_pass(first + self._grace()))
        self._plan(first)

    def _plan(self, t_ns: int) -> None:
        if t_ns not in self._due:
            self._due[t_ns] = None
            self.core.push_at(t_ns, MonitorPass())

    # --- what the controller hears --------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """A Node's conditions or spec changed: its NoSchedule taints follow; a pass may have work."""
        node = change.new
        if not isinstance(node, Node):
            self._probed.pop(change.key.name, None)
            self._renewed.pop(change.key.name, None)
            self._renewing.pop(change.key.name, None)
            return
        name = node.meta.name
        if change.old is None and not self.core.quiet:
            self._renewing[name] = (self.core.now_ns, 0)
        old = change.old
        before = (old.ready, old.unschedulable) if isinstance(old, Node) else ("True", False)
        if before != (node.ready, node.unschedulable) and name not in self._syncing:
            self._syncing[name] = None
            self.core.push(
                self.core.delay("watch_s", node.key) + self.core.delay("api_write_s", node.key), SyncTaints(name)
            )
        if not self.core.quiet and isinstance(old, Node) and old.ready != node.ready:
            self._plan(self.next_pass(self.core.now_ns))

    def handle(self, event: Event) -> None:
        """A pass, or one of its writes, or a kubelet's."""
        match event:
            case MonitorPass():
                self._due.pop(self.core.now_ns, None)
                self._pass()
            case MarkNode(node):
                self._set_ready(node, "Unknown", BY, "its kubelet stopped posting node status")
            case MarkPodNotReady(key, uid, node):
                self._mark_pod(key, uid, node)
            case PostNodeStatus(node, ready, why):
                hung = self.core.runtimes.get(node)
                if ready == "True" and hung is not None and hung.unwell_ns <= self.core.now_ns:
                    return  # it finds out by itself (noderuntimes.py)
                told = f"kubelet on {node} posted it{f': {why}' if why else ''}"
                self._set_ready(node, ready, f"kubelet {node}", told)
            case SyncTaints(node):
                self._syncing.pop(node, None)
                self._sync_taints(node)

    # --- one pass -------------------------------------------------------------------------------------------

    def _nodes(self) -> Iterator[Node]:
        return (node for node in self.core.store.of_kind("Node") if isinstance(node, Node))

    def _pass(self) -> None:
        now = self.core.now_ns
        marked: list[str] = []
        conditions: list[tuple[Node, str]] = []
        again = False
        for node in self._nodes():
            name, probed = node.meta.name, self._probed.get(node.meta.name)
            late = probed is not None and now > probed + self._grace()
            if late and node.ready != "Unknown":
                marked.append(name)
                again = True  # the next pass observes it and queues the NoExecute taint
            conditions.append((node, "Unknown" if late else node.ready))
            if node.ready == "True":
                self.taints.lift(node)
            else:
                self.taints.queue(node)
        self.taints.disruption(conditions)
        end = self._write(marked) if marked else now
        self._first_pass = end + self._period()
        for planned in [t_ns for t_ns in self._due if t_ns > now]:
            del self._due[planned]  # passes have moved
        self.core.heap.discard(_is_pass)
        if again:
            self._plan(self._first_pass)
        for node, condition in conditions:
            probed = self._probed.get(node.meta.name)
            if probed is not None and condition != "Unknown":
                self._plan(self.next_pass(max(probed + self._grace(), end)))

    def _write(self, nodes: list[str]) -> int:
        """Write Ready=Unknown of nodes, then Ready=False of each of their pods; return when the last is done.

        Writes of one node follow each other, eight nodes go on at once, and all share one client of 20 requests a
        second with a burst of 30 (kube-controller-manager's --kube-api-qps and --kube-api-burst).
        """
        core, now = self.core, self.core.now_ns
        jobs = [self._writes_of(node) for node in nodes]
        free = [(now, worker) for worker in range(min(WORKERS, len(jobs)))]
        work: list[list[Event]] = [[] for _ in free]
        heapify(free)
        end, waiting = now, iter(jobs)
        while free:
            t_ns, worker = free[0]
            if not work[worker]:
                job = next(waiting, None)
                if job is None:
                    del free[0]
                    heapify(free)
                    continue
                work[worker] = job[::-1]
            event = work[worker].pop()
            t_ns = self._client.take(t_ns)
            done = t_ns + core.delay("api_write_s", f"{BY}/{worker}")
            core.push_at(done, event)
            end = max(end, done)
            heapreplace(free, (done, worker))
        return end

    def _writes_of(self, node: str) -> list[Event]:
        found: list[Event] = [MarkNode(node)]
        known = self.core.store.get(Key("Node", "", node))
        if isinstance(known, Node) and known.ready != "True":
            return found  # what was NotReady before has its pods' conditions from its kubelet
        for key in self.core.index.pods_on(node):
            pod = self.core.store.get(key)
            if isinstance(pod, Pod) and pod.status.ready:
                found.append(MarkPodNotReady(key, pod.meta.uid, node))
        return found

    # --- writes ---------------------------------------------------------------------------------------------

    def _set_ready(self, name: str, ready: str, by: str, why: str) -> None:
        node = self.core.store.get(Key("Node", "", name))
        if not isinstance(node, Node) or node.ready == ready:
            return
        change = self.core.put(replace(node, ready=ready), by)
        if change is not None:
            words = {"True": "Ready", "False": "NotReady", "Unknown": "Unknown"}[ready]
            self.core.fact(What.NODE_READY_CHANGED, node.key, by, f"node {name} is {words}: {why}", change.revision)

    def _mark_pod(self, key: Key, uid: str, node: str) -> None:
        pod = self.core.store.get(key)
        if not isinstance(pod, Pod) or pod.meta.uid != uid or not pod.status.ready:
            return
        status = replace(pod.status, ready=False, ready_since_ns=self.core.now_ns)
        change = self.core.put(replace(pod, status=status), BY)
        if change is not None:
            text = f"{BY} set {key.name} not ready: {node} is Unknown"
            self.core.fact(What.POD_STATUS_WRITTEN, key, BY, text, change.revision)

    def set_out_of_service(self, name: str, out: bool) -> None:
        """kubectl taint nodes NAME node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or without it.

        Raises:
            KflabError: When nobody answers.
        """
        require_api(self.core)
        node = self.core.store.get(Key("Node", "", name))
        if not isinstance(node, Node):
            return
        rest = tuple(taint for taint in node.taints if taint.key != OUT_OF_SERVICE)
        added = (Taint(OUT_OF_SERVICE, "NoExecute", "nodeshutdown"),) if out else ()
        change = self.core.put(replace(node, taints=(*rest, *added)), "user")
        if change is not None:
            (self.core.mark if out else self.core.unmark)(node.key, "out of service")
            text = f"node {name} was {'tainted' if out else 'freed of the taint'} {OUT_OF_SERVICE}"
            self.core.fact(What.NODE_TAINTED, node.key, "user", text, change.revision)

    def _sync_taints(self, name: str) -> None:
        """doNoScheduleTaintingPass: the taints that a node's conditions and spec.unschedulable ask for."""
        node = self.core.store.get(Key("Node", "", name))
        if not isinstance(node, Node):
            return
        wanted = []
        if node.ready != "True":
            wanted.append(Taint(UNREACHABLE if node.ready == "Unknown" else NOT_READY, "NoSchedule"))
        if node.unschedulable:
            wanted.append(Taint(UNSCHEDULABLE, "NoSchedule"))
        rest = without_own(node.taints, "NoSchedule", (UNREACHABLE, NOT_READY, UNSCHEDULABLE))
        change = self.core.put(replace(node, taints=(*rest, *wanted)), BY)
        if change is not None:
            words = (
                " and ".join(f"{taint.key}:NoSchedule" for taint in wanted) or "no NoSchedule taint of its conditions"
            )
            self.core.fact(What.NODE_TAINTED, node.key, BY, f"node {name} has {words}", change.revision)


def _is_pass(event: Event) -> bool:
    return isinstance(event, MonitorPass)
