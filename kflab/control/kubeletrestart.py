"""What a kubelet that starts again does to pods that run: all that it kept in memory only is gone.

Back-offs of crashed containers and of images are forgotten, so what waits restarts at once. Probers begin anew, each
after a random part of its period. Up to 1.34 statuses suffer (k/k #100277, #133770): the first sync finds no prober
yet and calls every running container ready, also one that was not; then each prober, when it begins, sets its initial
value (not ready, not started) and asks. So a pod with a readiness or startup probe leaves its Services for a moment.
From 1.35 on a status stays until a probe says otherwise: delay restart_keeps_status.

A container that was being stopped when its kubelet ended is still stopped when it is back. Probes of pods that are to
go are left alone.

Source: k8s.io/kubernetes pkg/kubelet/prober/prober_manager.go (UpdatePodStatus, AddPod), worker.go (newWorker,
doProbe); kubernetes/enhancements KEP-4781.
"""

from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.heap import Event, KubeletEvent
from kflab.control.init_failures import RetryInit
from kflab.control.kubelet import Kubelet
from kflab.control.listening import running_containers
from kflab.control.probes import LIVENESS, READINESS, STARTUP, probe_of
from kflab.control.status import PodWorker
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.replacing import replace


@dataclass(frozen=True, slots=True)
class KubeletSyncs(KubeletEvent):
    """A kubelet that has just started syncs all its pods."""

    room: ClassVar[str] = "kubeletrestart"
    needs_runtime: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ProberBegins(KubeletEvent):
    """A prober of a container that ran before its kubelet did begins."""

    room: ClassVar[str] = "kubeletrestart"
    needs_runtime: ClassVar[bool] = True
    key: Key
    uid: str
    container: str
    kind: str
    began_ns: int
    """When it was to begin: another restart of the kubelet makes another prober."""


class KubeletRestart(Controller):
    """Starts kubelets again."""

    room = "kubeletrestart"

    def __init__(self, core: Core, kubelet: Kubelet) -> None:
        super().__init__(core)
        self.kubelet, self.status, self.probes = kubelet, kubelet.status, kubelet.probes

    def started(self, node: str) -> None:
        """A kubelet starts now; it will sync its pods when it has read them from the API."""
        self.probes.times.kubelet_started(node)
        for worker in self._pods_of(node):
            self.probes.forget(worker)
        wait = self.core.delay("kubelet_start_s", f"kubelet/{node}")
        self.core.push(wait, KubeletSyncs(node))
        self.status.reconcile(node, wait)

    def _pods_of(self, node: str) -> list[PodWorker]:
        return [worker for worker in self.status.workers.values() if worker.node == node and not worker.kill]

    def handle(self, event: Event) -> None:
        """Sync all pods of a node, or let a prober begin."""
        if isinstance(event, KubeletSyncs):
            for each in self._pods_of(event.node):
                self._sync(each)
            return
        assert isinstance(event, ProberBegins)
        worker = self.status.worker(event.key, event.uid)
        if worker is not None and worker.probe_from.get((event.container, event.kind)) == event.began_ns:
            self._begins(worker, event.container, event.kind)

    def _sync(self, worker: PodWorker) -> None:
        worker.back_off.clear()
        worker.pull_back_off.clear()
        worker.pull_reasons.clear()
        worker.probe_killed = ()
        self.kubelet.hooks.over(worker)  # a container that runs is not asked for its hook again
        self.probes.forget(worker)
        for container in running_containers(worker.spec):
            name = container.name
            status = worker.containers[name]
            if status.state == "running":
                self._probers(worker, name)
            elif status.exit_code is not None and name not in worker.restarting:
                if status.state == "waiting":
                    why = status.exit_reason or ("Error" if status.exit_code else "Completed")
                    self.status.update(worker, name, replace(status, state="terminated", reason=why))
                self.kubelet.restart_or_wait(worker, name, retry=False)
        for status in worker.inits.values():
            if status.state != "running" and status.exit_code:
                step = worker.start_step
                self.core.push(0, RetryInit(worker.node, worker.key, worker.uid, step, status.restarts))

    def _probers(self, worker: PodWorker, name: str) -> None:
        """Make the probers of a running container; up to 1.34 it counts as ready until they begin."""
        container = next(c for c in running_containers(worker.spec) if c.name == name)
        status = worker.containers[name]
        if not self._keeps():
            if name not in worker.startup_passed:
                worker.startup_passed = (*worker.startup_passed, name)
            if not status.ready:
                self.status.update(worker, name, replace(status, ready=True))
        for kind in (STARTUP, READINESS, LIVENESS):
            probe = probe_of(container, kind)
            if probe is None or (kind == STARTUP and self._keeps() and name in worker.startup_passed):
                continue
            begins = self.core.now_ns + self.probes.times.sleeps(worker, name, kind, probe)
            worker.probe_from[name, kind] = begins
            if kind == LIVENESS or self._keeps():
                if kind == STARTUP or name in worker.startup_passed:
                    self.probes.next_tick(worker, container, kind, probe)
            else:
                self.core.push_at(begins, ProberBegins(worker.node, worker.key, worker.uid, name, kind, begins))

    def _begins(self, worker: PodWorker, name: str, kind: str) -> None:
        status = worker.containers[name]
        if worker.kill or status.state != "running":
            return
        if kind == STARTUP:
            worker.startup_passed = tuple(other for other in worker.startup_passed if other != name)
        if status.ready:
            self.status.update(worker, name, replace(status, ready=False))
        if kind == STARTUP or name in worker.startup_passed:
            # It asks at once; but its answer is written after this, as the status manager sends one PATCH at a time.
            wait = self.core.spans["pod_status_write_s"][1] + 1
            self.probes.ask(worker, name, kind, self.core.now_ns + wait)

    def _keeps(self) -> bool:
        return bool(self.core.spans["restart_keeps_status"][0])
