"""Probes: startup, readiness and liveness, without a tick that changes nothing.

A prober's ticks lie on a grid (probetimes.py). Only ticks that can change a state
are events: a passing probe of a ready container has none until what it meets changes.

Source: k8s.io/kubernetes pkg/kubelet/prober/worker.go, prober_manager.go (lifecycle 1.1).
"""

from typing import ClassVar

from kflab.control.core import Controller, Core, address_of
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent
from kflab.control.listening import probe_port, running_containers
from kflab.control.pods import owners
from kflab.control.podstart import PodStart
from kflab.control.probetimes import ProbeTimes
from kflab.control.status import PodWorker, StatusManager
from kflab.manifest.app_annotations import probes_queue
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Container, ContainerStatus, Probe
from kflab.records import dataclass
from kflab.replacing import copier, replace

STARTUP, READINESS, LIVENESS = "startup", "readiness", "liveness"


@dataclass(frozen=True, slots=True)
class ProbeTick(PodEvent):
    """A probe runs now."""

    room: ClassVar[str] = "probes"
    container: str
    kind: str
    starts: int
    due_ns: int
    """Another tick may have taken its place."""


@dataclass(frozen=True, slots=True)
class ProbeEnd(PodEvent):
    """A probe that was not answered at once is: or its timeout is over."""

    room: ClassVar[str] = "probes"
    container: str
    kind: str
    sent_ns: int
    good: bool


@dataclass(frozen=True, slots=True)
class KillContainer(PodEvent):
    """A container is to be stopped: a liveness or startup probe failed for good, or the pod is done."""

    room: ClassVar[str] = "termination"
    needs_runtime: ClassVar[bool] = True
    container: str
    grace_s: int
    restart: bool
    """Whether the same sync starts it again: a probe gave up on it."""


def probe_of(container: Container, kind: str) -> Probe | None:
    """A container's probe of a kind, if it has one."""
    return {STARTUP: container.startup, READINESS: container.readiness, LIVENESS: container.liveness}[kind]


_ready = copier(ContainerStatus, "ready")


class Probes(Controller):
    """Runs the probes that matter."""

    room = "probes"

    def __init__(self, core: Core, status: StatusManager, start: PodStart) -> None:
        super().__init__(core)
        self.status, self.start = status, start
        self.times = ProbeTimes(core)

    def container_running(self, worker: PodWorker, container: Container) -> None:
        """The kubelet has just noticed that a container runs."""
        name = container.name
        worker.probe_killed = tuple(other for other in worker.probe_killed if other != name)
        if worker.probe_runs or worker.probe_waits:
            for kind in (STARTUP, READINESS, LIVENESS):
                worker.probe_runs.pop((name, kind), None)
                worker.probe_waits.pop((name, kind), None)
        if name in worker.startup_passed:
            worker.startup_passed = tuple(other for other in worker.startup_passed if other != name)
        if container.startup is None:
            self._startup_passed(worker, container)
        else:
            self.status.update(worker, name, worker.containers[name])  # Running, started: false
            self.next_tick(worker, container, STARTUP, container.startup)

    def _startup_passed(self, worker: PodWorker, container: Container) -> None:
        name = container.name
        worker.startup_passed = (*worker.startup_passed, name)
        status = worker.containers[name]
        if container.readiness is None:
            self.status.update(worker, name, _ready(status, True))
        else:
            # A started container that is not ready gets an extra probe on every pod sync, and this is one.
            self.status.update(worker, name, replace(status, ready=False))
            self._extra(worker, container, container.readiness)
        if container.liveness is not None and worker.kill == 0:
            self.next_tick(worker, container, LIVENESS, container.liveness)
        self.start.sidecar_started(worker, name)

    def answered(self, key: Key, container: str) -> None:
        """A process that hung goes on: probes that wait for it are answered."""
        worker = self.status.workers.get(key)
        if worker is None:
            return
        wait = self.core.delay("probe_answer_s", key)
        for (name, kind), sent_ns in worker.probe_waits.items():
            if name == container:
                self.core.push(wait, ProbeEnd(worker.node, key, worker.uid, name, kind, sent_ns, True))

    def recheck(self, worker: PodWorker) -> None:
        """What answers on the pod changed: its next ticks matter again."""
        for container in running_containers(worker.spec):
            status = worker.containers.get(container.name)
            if status is None or status.state != "running":
                continue
            if container.startup is not None and container.name not in worker.startup_passed:
                self.next_tick(worker, container, STARTUP, container.startup)
                continue
            if container.readiness is not None:
                self.next_tick(worker, container, READINESS, container.readiness)
            if container.liveness is not None and worker.kill == 0:
                self.next_tick(worker, container, LIVENESS, container.liveness)

    def _extra(self, worker: PodWorker, container: Container, probe: Probe) -> None:
        """A sync of the pod finds a started container not ready: its readiness probe runs now, its ticker starts anew.

        Within the initial delay only the ticker does. A prober that sleeps yet is not woken. Source: k/k
        pkg/kubelet/prober/prober_manager.go, UpdatePodStatus (manualTriggerCh), worker.go, run; k/k #119089.
        """
        name, now = container.name, self.core.now_ns
        if self.times.start(worker, name, READINESS, probe) > now:
            self.next_tick(worker, container, READINESS, probe)
            return
        runs = now + self.core.delay("probe_answer_s", worker.key)
        worker.probe_due.pop((name, READINESS), None)
        worker.probe_from[name, READINESS] = runs
        if (worker.containers[name].started_ns or now) + probe.initial_delay_s * SECOND_NS <= now:
            self._push(worker, name, READINESS, runs)
        else:
            self.next_tick(worker, container, READINESS, probe)

    def next_tick(self, worker: PodWorker, container: Container, kind: str, probe: Probe) -> None:
        """Schedule a probe's next run by its ticker."""
        self._push(worker, container.name, kind, self.times.next_tick(worker, container.name, kind, probe))

    def ask(self, worker: PodWorker, name: str, kind: str, t_ns: int) -> None:
        """Run a probe at an instant."""
        worker.probe_due.pop((name, kind), None)
        self._push(worker, name, kind, t_ns)

    def forget(self, worker: PodWorker) -> None:
        """A kubelet that starts again knows of no answers."""
        for known in (worker.probe_runs, worker.probe_waits, worker.probe_due, worker.probe_from):
            known.clear()

    def _push(self, worker: PodWorker, name: str, kind: str, t_ns: int) -> None:
        if (name, kind) not in worker.probe_due and (name, kind) not in worker.probe_waits:
            worker.probe_due[name, kind] = t_ns
            starts = worker.containers[name].restarts + 1
            self.core.push_at(t_ns, ProbeTick(worker.node, worker.key, worker.uid, name, kind, starts, t_ns))

    def handle(self, event: Event) -> None:
        """Ask, count, and decide whether another tick matters."""
        if isinstance(event, ProbeEnd):
            self._ended(event)
            return
        assert isinstance(event, ProbeTick)
        worker = self.status.worker(event.key, event.uid)
        if worker is None or worker.probe_due.get((event.container, event.kind)) != event.due_ns:
            return
        del worker.probe_due[event.container, event.kind]
        status = worker.containers[event.container]
        container = next(c for c in running_containers(worker.spec) if c.name == event.container)
        probe = probe_of(container, event.kind)
        if probe is None or status.state != "running":
            return
        if status.restarts + 1 != event.starts:
            # The tick was meant for an earlier run of the container; the present one has the same grid.
            self.next_tick(worker, container, event.kind, probe)
            return
        if event.kind != READINESS and (worker.kill or event.container in worker.probe_killed):
            return
        if event.kind != STARTUP and container.name not in worker.startup_passed:
            return  # not before the startup probe has passed, again if the kubelet forgot it
        hung = self.core.runtimes.get(worker.node)
        if hung is not None and probe.action == "exec" and not hung.listing_only:
            return  # the command waits in the runtime, and its error is thrown away (worker.go, doProbe)
        good = self._answer(worker, container, event.kind, probe)
        now = self.core.now_ns
        if good is None:
            worker.probe_waits[event.container, event.kind] = now
            end = ProbeEnd(worker.node, worker.key, worker.uid, event.container, event.kind, now, False)
            self.core.push(probe.timeout_s * SECOND_NS, end)
            return
        self._counted(worker, container, event.kind, probe, good, now)

    def _answer(self, worker: PodWorker, container: Container, kind: str, probe: Probe) -> bool | None:
        """What a probe meets; None: a connection, and no answer.

        A process that hangs is not seen by tcpSocket (the kernel connects) nor by exec (the command is a process of its
        own, taken to succeed); endpoints that fail are seen by all but tcpSocket.
        """
        key, port = worker.key, probe_port(container, probe)
        ground = self.core.runtime.get(key)
        asks = probe.action in ("httpGet", "grpc")
        if asks and ground is not None and ("TCP", port) in ground.hanging:
            return None
        if probe.action != "tcpSocket" and self.core.failing:
            if any(kind in self.core.failing.get(owner, ((), 0))[0] for owner in owners(self.core, key)):
                return False
        assert self.core.signals is not None
        good = self.core.signals.answer_to_probe(key, container.name, probe, self.core.now_ns)
        if good and asks and port is not None and probes_queue(worker.annotations):
            word = self.core.bits("probe-worker", address_of(key))
            waits = self.core.signals.probe_waits(key, port, word, self.core.now_ns)
            return None if waits > probe.timeout_s * SECOND_NS else True
        return good

    def _ended(self, event: ProbeEnd) -> None:
        worker, name = self.status.worker(event.key, event.uid), (event.container, event.kind)
        if worker is None or worker.probe_waits.get(name) != event.sent_ns:
            return
        del worker.probe_waits[name]
        container = next(c for c in running_containers(worker.spec) if c.name == event.container)
        probe = probe_of(container, event.kind)
        if probe is None or worker.containers[event.container].state != "running":
            return
        if event.kind != READINESS and (worker.kill or event.container in worker.probe_killed):
            return
        self._counted(worker, container, event.kind, probe, event.good, event.sent_ns, late=True)

    def _counted(
        self, worker: PodWorker, container: Container, kind: str, probe: Probe, good: bool, sent_ns: int,
        *, late: bool = False,
    ) -> None:  # fmt: skip
        """Count an answer; the next tick is due at once where the ticker fired while the probe waited."""
        name = container.name
        run = worker.probe_runs.get((name, kind), (0, 0))
        run = (run[0] + 1, 0) if good else (0, run[1] + 1)
        worker.probe_runs[(name, kind)] = run
        if not good:
            self._tell(worker, container, kind, probe, late)
        # Queues change without anybody's knowing: every tick of a probe that waits in one matters.
        if not self._decide(worker, container, kind, probe, run) and not self._again(
            worker, kind, run[1] < probe.failure
        ):
            return
        if late and self.times.fired(worker, name, kind, probe, sent_ns):
            self._push(worker, name, kind, self.core.now_ns)
        else:
            self.next_tick(worker, container, kind, probe)

    @staticmethod
    def _again(worker: PodWorker, kind: str, alive: bool) -> bool:
        return probes_queue(worker.annotations) and (kind == READINESS or (kind == LIVENESS and alive))

    def _tell(self, worker: PodWorker, container: Container, kind: str, probe: Probe, late: bool) -> None:
        """A failed probe, in the words of its Event (pkg/kubelet/prober/prober.go, pkg/probe/http, pkg/probe/tcp)."""
        where = f"{worker.pod_ips[0] if worker.pod_ips else ''}:{probe_port(container, probe)}"
        refused = f"dial tcp {where}: connect: connection refused"
        ground = self.core.runtime.get(worker.key)
        listens = ground is not None and ("TCP", probe_port(container, probe)) in ground.listening
        why, short = refused, "refused"
        if probe.action == "exec":
            why, short = "command failed", "its command failed"
        elif late:
            why = f'Get "http://{where}{probe.path}": context deadline exceeded'
            why += " (Client.Timeout exceeded while awaiting headers)"
            short = f"no answer within {probe.timeout_s} s"
        elif listens:
            why, short = "HTTP probe failed with statuscode: 503", "it answered 503"
        elif probe.action == "httpGet":
            why = f'Get "http://{where}{probe.path}": {refused}'
        if probe.action == "grpc" and (late or listens):
            why = "timeout: failed to connect service" if late else "service unhealthy (responded with NOT_SERVING)"
        text = f"kubelet on {worker.node}: {kind} probe of {worker.key.name} failed: {short}"
        detail = f"{kind.capitalize()} probe failed: {why}"
        self.core.fact(What.PROBE_FAILED, worker.key, f"kubelet {worker.node}", text, detail=detail)

    def _result(self, worker: PodWorker, container: Container, kind: str, good: bool) -> None:
        """A readiness or startup probe's new result goes to the sync loop, if that does not stand still."""
        name, hung = container.name, self.core.runtimes.get(worker.node)
        if hung is not None and hung.unwell_ns <= self.core.now_ns:
            worker.late_results[name, kind] = good
            return
        if kind == STARTUP:
            self._startup_passed(worker, container)
            return
        self.status.update(worker, name, replace(worker.containers[name], ready=good))
        if not good and not worker.kill and hung is None and container.readiness is not None:
            # The new result makes the kubelet sync the pod (kubelet.go, handleProbeSync).
            self._extra(worker, container, container.readiness)

    def sync_loop_goes_on(self, worker: PodWorker) -> None:
        """A kubelet's sync loop takes results that waited; commands run again."""
        late, worker.late_results = worker.late_results, {}
        for container in running_containers(worker.spec):
            for kind in (STARTUP, READINESS):
                good = late.get((container.name, kind))
                if good is not None and worker.containers[container.name].state == "running":
                    self._result(worker, container, kind, good)
        self.recheck(worker)

    def _decide(self, worker: PodWorker, container: Container, kind: str, probe: Probe, run: tuple[int, int]) -> bool:
        """Act on a run of equal answers; True when the next tick can change something again."""
        good, bad = run
        name = container.name
        status = worker.containers[name]
        if kind == READINESS:
            if worker.late_results.get((name, kind), status.ready):
                if bad >= probe.failure:
                    self._result(worker, container, kind, False)
                return 0 < bad < probe.failure
            if good >= probe.success:
                self._result(worker, container, kind, True)
            return 0 < good < probe.success
        if kind == STARTUP and good:
            self._result(worker, container, kind, True)
            return False
        if bad >= probe.failure:
            why = f"{kind} probe failed {bad} times"
            self.core.fact(
                What.PROBE_GAVE_UP, worker.key, f"kubelet {worker.node}",
                f"kubelet on {worker.node} gave up on {name} of {worker.key.name}: {why}",
                detail=f"Container {name} failed {kind} probe, will be restarted",
            )  # fmt: skip
            worker.probe_killed = (*worker.probe_killed, name)
            # The probe's own grace period, if it has one (kuberuntime_container.go, setTerminationGracePeriod).
            grace = worker.spec.grace_s if probe.grace_s is None else probe.grace_s
            self.core.push(0, KillContainer(worker.node, worker.key, worker.uid, name, grace, restart=True))
            return False
        return bad > 0
