"""Probes: startup, readiness and liveness, without a tick that changes nothing.

A prober's ticks lie on a grid: the pod worker's first sync plus whole periods. Only ticks that can change a state
are events: a passing probe of a ready container has none until what it meets changes.

Source: k8s.io/kubernetes pkg/kubelet/prober/worker.go, prober_manager.go (lifecycle 1.1).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.heap import Event, KubeletEvent
from kflab.control.status import PodWorker, StatusManager
from kflab.manifest.objects import Container, Key, Probe

STARTUP, READINESS, LIVENESS = "startup", "readiness", "liveness"


@dataclass(frozen=True, slots=True)
class ProbeTick(KubeletEvent):
    """A probe runs now."""

    room: ClassVar[str] = "probes"
    key: Key
    uid: str
    container: str
    kind: str
    starts: int


@dataclass(frozen=True, slots=True)
class KillContainer(KubeletEvent):
    """A liveness or startup probe failed for good: the container is to be stopped and restarted."""

    room: ClassVar[str] = "termination"
    key: Key
    uid: str
    container: str
    why: str


class Probes(Controller):
    """Runs the probes that matter."""

    room = "probes"

    def __init__(self, core: Core, status: StatusManager) -> None:
        super().__init__(core)
        self.status = status

    def container_running(self, worker: PodWorker, container: Container) -> None:
        """The kubelet has just noticed that a container runs."""
        name = container.name
        for kind in (STARTUP, READINESS, LIVENESS):
            worker.probe_runs.pop((name, kind), None)
        worker.startup_passed = tuple(other for other in worker.startup_passed if other != name)
        if container.startup is None:
            self._startup_passed(worker, container)
        else:
            self._next_tick(worker, container, STARTUP, container.startup)

    def _startup_passed(self, worker: PodWorker, container: Container) -> None:
        name = container.name
        worker.startup_passed = (*worker.startup_passed, name)
        status = worker.containers[name]
        if container.readiness is None:
            self.status.update(worker, name, replace(status, ready=True))
        else:
            # A started container that is not ready gets an extra probe on every pod sync, and this is one.
            self.status.update(worker, name, replace(status, ready=False))
            started = status.started_ns or self.core.now_ns
            if started + container.readiness.initial_delay_s * SECOND_NS <= self.core.now_ns:
                now = self.core.now_ns + self.core.delay("probe_answer_s", worker.key)
                self._push(worker, name, READINESS, now)
            else:
                self._next_tick(worker, container, READINESS, container.readiness)
        if container.liveness is not None and worker.kill == 0:
            self._next_tick(worker, container, LIVENESS, container.liveness)

    def recheck(self, worker: PodWorker) -> None:
        """What answers on the pod changed: its next ticks matter again."""
        for container in worker.spec.containers:
            status = worker.containers.get(container.name)
            if status is None or status.state != "running":
                continue
            if container.startup is not None and container.name not in worker.startup_passed:
                self._next_tick(worker, container, STARTUP, container.startup)
                continue
            if container.readiness is not None:
                self._next_tick(worker, container, READINESS, container.readiness)
            if container.liveness is not None and worker.kill == 0:
                self._next_tick(worker, container, LIVENESS, container.liveness)

    def _next_tick(self, worker: PodWorker, container: Container, kind: str, probe: Probe) -> None:
        started = worker.containers[container.name].started_ns
        earliest = max(self.core.now_ns + 1, (started or 0) + probe.initial_delay_s * SECOND_NS)
        period = max(1, probe.period_s) * SECOND_NS
        ticks = -((worker.seen_ns - earliest) // period)
        self._push(worker, container.name, kind, worker.seen_ns + ticks * period)

    def _push(self, worker: PodWorker, name: str, kind: str, t_ns: int) -> None:
        if (name, kind) not in worker.probe_due:
            worker.probe_due = (*worker.probe_due, (name, kind))
            starts = worker.containers[name].restarts + 1
            self.core.push_at(t_ns, ProbeTick(worker.node, worker.key, worker.uid, name, kind, starts))

    def handle(self, event: Event) -> None:
        """Ask, count, and decide whether another tick matters."""
        assert isinstance(event, ProbeTick)
        worker = self.status.worker(event.key, event.uid)
        if worker is None:
            return
        worker.probe_due = tuple(due for due in worker.probe_due if due != (event.container, event.kind))
        status = worker.containers[event.container]
        container = next(c for c in worker.spec.containers if c.name == event.container)
        probe = {STARTUP: container.startup, READINESS: container.readiness, LIVENESS: container.liveness}[event.kind]
        if probe is None or status.state != "running":
            return
        if status.restarts + 1 != event.starts:
            # The tick was meant for an earlier run of the container; the present one has the same grid.
            self._next_tick(worker, container, event.kind, probe)
            return
        if worker.kill and event.kind != READINESS:
            return
        assert self.core.signals is not None
        good = self.core.signals.answer_to_probe(event.key, event.container, probe, self.core.now_ns)
        run = worker.probe_runs.get((event.container, event.kind), (0, 0))
        run = (run[0] + 1, 0) if good else (0, run[1] + 1)
        worker.probe_runs[(event.container, event.kind)] = run
        if self._decide(worker, container, event.kind, probe, run):
            self._next_tick(worker, container, event.kind, probe)

    def _decide(self, worker: PodWorker, container: Container, kind: str, probe: Probe, run: tuple[int, int]) -> bool:
        """Act on a run of equal answers; True when the next tick can change something again."""
        good, bad = run
        name = container.name
        status = worker.containers[name]
        if kind == READINESS:
            if status.ready:
                if bad >= probe.failure:
                    self.status.update(worker, name, replace(status, ready=False))
                return 0 < bad < probe.failure
            if good >= probe.success:
                self.status.update(worker, name, replace(status, ready=True))
            return 0 < good < probe.success
        if kind == STARTUP and good:
            self._startup_passed(worker, container)
            return False
        if bad >= probe.failure:
            why = f"{kind} probe failed {bad} times"
            self.core.fact(
                What.KUBELET_NOTICED, worker.key, f"kubelet {worker.node}",
                f"kubelet on {worker.node} gave up on {name} of {worker.key.name}: {why}",
            )  # fmt: skip
            self.core.push(0, KillContainer(worker.node, worker.key, worker.uid, name, why))
            return False
        return bad > 0
