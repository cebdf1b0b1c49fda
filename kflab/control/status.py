"""What each kubelet knows of its pods, and the status it writes to the API.

Stands for the pod workers' state and k8s.io/kubernetes pkg/kubelet/status/status_manager.go. Between a change on
the node and the write of a status lie the relist that notices it and the PATCH.
"""

from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import STATUS_WRITER, Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent
from kflab.control.job_failures import BY_KUBELET, disrupted
from kflab.manifest.app_annotations import own_delay_ns
from kflab.manifest.objects import Key, Labels
from kflab.manifest.objects_pods import ContainerStatus, Pod, PodSpec, PodStatus
from kflab.records import dataclass
from kflab.replacing import copier

_reported = copier(Pod, "status")


@dataclass(slots=True)
class RunningHook(Mutable):
    """A postStart hook that the sync of a pod waits for."""

    container: str
    rest: tuple[str, ...]
    """Containers that start when it is over."""
    failed: bool = False
    """It has failed, and its container is being stopped."""


def _late() -> Any:
    """A table of a `PodWorker` that is made when it is first asked for."""
    return field(init=False)


@dataclass(slots=True)
class PodWorker(Mutable):
    """One pod as its kubelet knows it.

    Most tables stay empty in most pods: each is made when it is first asked for.
    """

    key: Key
    uid: str
    node: str
    spec: PodSpec
    seen_ns: int
    """When the kubelet first synced the pod: phase of its probes."""
    annotations: Labels = field(default_factory=dict)
    """The pod's: how its application behaves (manifest/app_annotations.py)."""
    pod_ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    containers: dict[str, ContainerStatus] = field(default_factory=dict)
    """By name, in the order of the spec: sidecars, then the others."""
    inits: dict[str, ContainerStatus] = _late()
    """Init containers that run once, by name."""
    start_step: int = 0
    """Place in spec.initContainers of what has to start next; their number when all have."""
    pull_back_off: dict[str, tuple[int, int]] = _late()
    """Container → (back-off in ns, when its image's pull failed last)."""
    pull_reasons: dict[str, str] = _late()
    """Container → why its last sync could not have its image; the next sync writes it (kubelet's reason cache)."""
    sandbox_ns: int = 0
    """When its sandbox was ready."""
    ready: bool = False
    ready_since_ns: int | None = None
    passed: frozenset[str] = frozenset()
    """Readiness gates whose condition is True, as the kubelet last saw the pod."""
    back_off: dict[str, tuple[int, int]] = _late()
    """Container → (back-off in ns, when it was last raised), as client-go's flowcontrol.Backoff keeps it."""
    startup_passed: tuple[str, ...] = ()
    """Containers whose startup probe, if any, has passed."""
    probe_runs: dict[tuple[str, str], tuple[int, int]] = _late()
    """(container, kind) → (good answers in a row, bad answers in a row)."""
    probe_due: dict[tuple[str, str], int] = _late()
    """(container, kind) → when a tick of it is scheduled."""
    probe_from: dict[tuple[str, str], int] = _late()
    """(container, kind) → an instant at which its ticker fires, where that is not `seen_ns` (probetimes.py)."""
    probe_waits: dict[tuple[str, str], int] = _late()
    """(container, kind) of probes that wait for an answer → when they were sent."""
    late_results: dict[tuple[str, str], bool] = _late()
    """(container, kind) → result of a probe that a sync loop which stands still has not taken yet."""
    probe_killed: tuple[str, ...] = ()
    """Containers that are being stopped because a liveness or startup probe gave up on them."""
    restarting: tuple[str, ...] = ()
    """Containers that the sync in hand starts again."""
    hook: RunningHook | None = None
    """The postStart hook that its sync waits for."""
    hook_failed: tuple[str, ...] = ()
    """Containers that are stopped because their postStart hook failed, until that is noticed."""
    kill: int = 0
    """Number of the current termination; 0 while it is to live."""
    grace_s: int = 0
    """Its grace period; 0 for a kubelet that has to begin it anew."""
    kill_turns: dict[str, tuple[int, int]] = _late()
    """Sidecar that waits for its turn to stop → (when its preStop is over, when it is stopped anyway)."""
    signalled: dict[str, tuple[int, int]] = _late()
    """Container → (number of the termination, number of the start) that it got SIGTERM for."""
    writing: bool = False
    """A status write is on its way."""
    shut_down: str = ""
    """Reason of its end by the kubelet's own will: its node shuts down (Terminated) or lacks memory (Evicted). It is
    Failed when it has ended, and its object stays; "": none of it."""

    if not TYPE_CHECKING:  # the checker knows the fields

        def __getattr__(self, name: str) -> Any:
            if name not in _LATE:
                raise AttributeError(f"a pod's worker has no {name!r}")
            setattr(self, name, {})
            return getattr(self, name)

    def restart_policy(self, name: str) -> str:
        """Whether a container is started again: as the pod says, sidecars always."""
        plain = any(container.name == name for container in self.spec.containers)
        return self.spec.restart_policy if plain else "Always"

    def restarts(self, name: str, exit_code: int | None) -> bool:
        """Whether a container that ended so is started again (kuberuntime_manager.go, ShouldContainerBeRestarted)."""
        policy = self.restart_policy(name)
        return policy == "Always" or (policy == "OnFailure" and exit_code != 0)

    def phase(self) -> str:
        """status.phase (pkg/kubelet/kubelet_pods.go getPhase)."""
        if self.start_step < len(self.spec.init_containers):
            failed = any(st.state == "terminated" and st.exit_code for st in self.inits.values())
            return "Failed" if failed and self.spec.restart_policy == "Never" else "Pending"
        states = [self.containers[container.name] for container in self.spec.containers]
        if self.shut_down and not any(st.state == "running" for st in states):
            return "Failed"
        if any(st.state == "waiting" and st.exit_code is None for st in states):
            return "Pending"
        if not states or any(st.state == "running" for st in states) or self.spec.restart_policy == "Always":
            return "Running"
        if not any(st.exit_code for st in states):
            return "Succeeded"
        return "Failed" if self.spec.restart_policy == "Never" else "Running"


_LATE = frozenset(each.name for each in fields(PodWorker) if not each.init)


@dataclass(frozen=True, slots=True)
class StatusEvent(PodEvent):
    """Something that a kubelet's status manager writes."""

    needs_api: ClassVar[bool] = True

    @property
    def actor(self) -> str:
        """The status manager, which tries again at its own tick."""
        return f"{STATUS_WRITER}{self.node}"


@dataclass(frozen=True, slots=True)
class WriteStatus(StatusEvent):
    """A kubelet's status PATCH arrives at the API server."""

    room: ClassVar[str] = "status"


@dataclass(frozen=True, slots=True)
class ConditionsSeen(PodEvent):
    """Conditions that readiness gates name reached the pod's kubelet."""

    room: ClassVar[str] = "status"
    needs_api: ClassVar[bool] = True
    by_watch: ClassVar[bool] = True


_NO_GATES: frozenset[str] = frozenset()


def passed_gates(pod: Pod) -> frozenset[str]:
    """A pod's readiness gates whose condition is True."""
    if not pod.spec.readiness_gates:
        return _NO_GATES
    return frozenset(gate for gate in pod.spec.readiness_gates if pod.status.passes(gate))


class StatusManager(Controller):
    """Keeps the workers and writes their statuses."""

    room = "status"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.workers: dict[Key, PodWorker] = {}
        self._unsent: dict[str, dict[Key, None]] = {}
        """Node → pods of which the API has no status, though nothing about them has changed."""

    def app_delay(self, worker: PodWorker, name: str) -> int:
        """A delay of a pod's application, ns: as its annotations have it, else drawn."""
        own = own_delay_ns(worker.annotations, name)
        return self.core.delay(name, worker.key) if own is None else own

    def worker(self, key: Key, uid: str) -> PodWorker | None:
        """The worker of exactly this pod, not of a later one with its name."""
        worker = self.workers.get(key)
        return worker if worker is not None and worker.uid == uid else None

    def update(self, worker: PodWorker, name: str, status: ContainerStatus) -> None:
        """A container's status changed in the kubelet's eyes: work out readiness and write."""
        worker.containers[name] = status
        self._find_ready(worker)
        self.write_soon(worker)

    def _find_ready(self, worker: PodWorker) -> None:
        """Condition Ready: all containers are ready and all readiness gates passed.

        Source: k8s.io/kubernetes pkg/kubelet/status/generate.go, GeneratePodReadyCondition.
        """
        ready = all(st.ready for st in worker.containers.values())
        ready = ready and worker.passed.issuperset(worker.spec.readiness_gates)
        if ready != worker.ready:
            worker.ready, worker.ready_since_ns = ready, self.core.now_ns

    def conditions_changed(self, pod: Pod) -> None:
        """Somebody set conditions that readiness gates name: the pod's kubelet sees them soon.

        Source: k8s.io/kubernetes pkg/kubelet/kubelet.go, HandlePodReconcile (NeedToReconcilePodReadiness).
        """
        wait = self.core.delay("kubelet_watch_s", pod.key)
        self.core.push(wait, ConditionsSeen(pod.spec.node_name, pod.key, pod.meta.uid))

    def _conditions_seen(self, worker: PodWorker) -> None:
        pod = self.core.store.get(worker.key)
        if not isinstance(pod, Pod):
            return
        worker.passed = passed_gates(pod)
        before = worker.ready
        self._find_ready(worker)
        if worker.ready != before:
            self.write_soon(worker)

    def write_soon(self, worker: PodWorker) -> None:
        """Send a PATCH, unless one that will carry this change is on its way."""
        if not worker.writing:
            worker.writing = True
            wait = self.core.delay("pod_status_write_s", worker.key)
            self.core.push(wait, WriteStatus(worker.node, worker.key, worker.uid))

    def reconcile(self, node: str, wait_ns: int) -> None:
        """Compare the API's statuses of a node's pods with the kubelet's own, `wait_ns` from now.

        Source: k8s.io/kubernetes pkg/kubelet/status/status_manager.go, syncBatch and needsReconcile.
        """
        for worker in self.workers.values():
            if worker.node == node and not worker.writing:
                worker.writing = True
                self.core.push(wait_ns, WriteStatus(node, worker.key, worker.uid))

    def unsent(self, key: Key) -> None:
        """A mirror pod was made anew: its status is written at the next tick, or with one of another pod before.

        Source: k8s.io/kubernetes pkg/kubelet/status/status_manager.go, syncBatch: the versions that the API has are
        known by the mirror pod's uid, so that a new one has none.
        """
        worker = self.workers.get(key)
        if worker is None or worker.writing:
            return
        self._unsent.setdefault(worker.node, {})[key] = None
        period = max(1, self.core.spans["status_retry_s"][0])
        phase = self.core.draws.control_between("status-phase", f"{STATUS_WRITER}{worker.node}", 0, 0, period)
        self.core.push((phase - self.core.now_ns) % period, WriteStatus(worker.node, key, worker.uid))

    def handle(self, event: Event) -> None:
        """Write what the kubelet knows now, or take in conditions that others set."""
        assert isinstance(event, WriteStatus | ConditionsSeen)
        worker = self.worker(event.key, event.uid)
        if worker is None:
            return
        if isinstance(event, ConditionsSeen):
            self._conditions_seen(worker)
            return
        worker.writing = False
        self.write(worker)
        for key in self._unsent.pop(worker.node, ()):
            other = self.workers.get(key)
            if other is not None and other is not worker:
                self.write(other)

    def runs(self, worker: PodWorker, pod: Pod, statuses: tuple[ContainerStatus, ...], noticed_ns: int) -> None:
        """All containers of a settling pod run and are ready since `noticed_ns`: tell the API.

        Args:
            worker: The pod's.
            pod: As the API has it.
            statuses: Of its containers, in the order of the spec.
            noticed_ns: When the kubelet saw it.
        """
        worker.containers = {status.name: status for status in statuses}
        worker.startup_passed = tuple(worker.containers)
        worker.ready, worker.ready_since_ns = True, noticed_ns
        had = pod.status
        status = PodStatus(
            "Running", worker.pod_ips, worker.host_ips, True, noticed_ns, had.scheduled_ns, worker.seen_ns,
            containers=statuses, nominated_node=had.nominated_node, conditions=had.conditions,
        )  # fmt: skip
        self.core.put(_reported(pod, status), f"kubelet {worker.node}", worker.key)

    def write(self, worker: PodWorker) -> None:
        """Put the worker's status into the API."""
        pod = self.core.store.get(worker.key)
        if not isinstance(pod, Pod) or pod.meta.uid != worker.uid:
            return
        phase = worker.phase()
        status = PodStatus(
            phase=phase,
            pod_ips=worker.pod_ips,
            host_ips=worker.host_ips,
            ready=worker.ready,
            ready_since_ns=worker.ready_since_ns,
            scheduled_ns=pod.status.scheduled_ns,
            start_ns=worker.seen_ns,
            nominated_node=pod.status.nominated_node,
            reason=worker.shut_down if phase == "Failed" else "",
            containers=tuple(worker.containers[container.name] for container in worker.spec.containers),
            inits=tuple(
                worker.inits.get(container.name) or worker.containers[container.name]
                for container in worker.spec.init_containers
            ),
            conditions=pod.status.conditions,
        )
        by = f"kubelet {worker.node}"
        written = _reported(pod, status)
        if worker.shut_down:
            written = disrupted(written, BY_KUBELET, self.core.now_ns)
        change = self.core.put(written, by)
        if change is not None and not self.core.quiet:
            what = _describe(pod.status, status)
            if (
                pod.spec.readiness_gates
                and worker.phase() == "Running"
                and not status.ready
                and status.containers_ready
            ):
                what = "not ready (ReadinessGatesNotReady)"
            if what != "pending" or pod.status.phase != "Pending":
                text = f"kubelet on {worker.node} wrote that {pod.meta.name} is {what}"
                self.core.fact(What.POD_STATUS_WRITTEN, worker.key, by, text, change.revision)


def _describe(old: PodStatus, new: PodStatus) -> str:
    state = "ready" if new.ready else "not ready"
    for container in (*new.inits, *new.containers):
        if container.state == "terminated" and container.reason == "Completed" and container in new.inits:
            continue
        if container.state == "waiting" and container.reason not in ("ContainerCreating", "PodInitializing"):
            return f"{state} ({container.reason})"
        if container.state == "terminated":
            return f"{state} (exited {container.exit_code})"
    if new.phase == "Pending":
        return "pending"
    if not new.ready and new.phase == "Running" and not old.ready:
        return "running, not ready"
    return state
