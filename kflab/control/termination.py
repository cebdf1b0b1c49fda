"""The end of a pod: preStop, SIGTERM, the application's exit or SIGKILL, the address gone, the object removed.

Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go killContainer, pod_workers.go,
website docs/concepts/workloads/pods/pod-lifecycle (lifecycle 1.2, 4C).
"""

from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent
from kflab.control.kubelet import KillPod, Kubelet
from kflab.control.pods import works_to_an_end
from kflab.control.probes import KillContainer
from kflab.control.runtime import ContainerRun
from kflab.control.status import PodWorker, StatusEvent
from kflab.manifest.app_annotations import ignores_sigterm
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass
from kflab.replacing import replace

SIGTERM_CODE = 143
"""128 + 15: of a process that SIGTERM ended."""


@dataclass(frozen=True, slots=True)
class Sigterm(PodEvent):
    """SIGTERM reaches a container."""

    room: ClassVar[str] = "termination"
    needs_runtime: ClassVar[bool] = True
    container: str
    kill: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Sigkill(PodEvent):
    """The grace period is over."""

    room: ClassVar[str] = "termination"
    needs_runtime: ClassVar[bool] = True
    container: str
    kill: int
    starts: int


@dataclass(frozen=True, slots=True)
class StopListening(Event):
    """The application closes its listeners after SIGTERM."""

    room: ClassVar[str] = "termination"
    key: Key
    uid: str
    container: str
    starts: int


@dataclass(frozen=True, slots=True)
class AppExit(Event):
    """The application has finished and exits."""

    room: ClassVar[str] = "termination"
    key: Key
    uid: str
    container: str
    starts: int


@dataclass(frozen=True, slots=True)
class TearDown(PodEvent):
    """Sandbox and address go."""

    room: ClassVar[str] = "termination"
    needs_runtime: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RemovePod(StatusEvent):
    """The kubelet deletes the pod object for good."""

    room: ClassVar[str] = "termination"


class Termination(Controller):
    """Stops containers and pods."""

    room = "termination"
    kinds = ("Pod",)

    def __init__(self, core: Core, kubelet: Kubelet) -> None:
        super().__init__(core)
        self.kubelet = kubelet
        self.status = kubelet.status

    def changed(self, change: Change) -> None:
        """A deletion timestamp was set or shortened, or the object of a running pod is gone."""
        old, new = change.old, change.new
        if new is not None and new.meta.deletion_ns is None:
            return
        if not isinstance(old, Pod) or self.status.worker(change.key, old.meta.uid) is None:
            if isinstance(old, Pod) and new is None:
                self.core.pinned_ips.pop(change.key, None)
            return
        if old.is_mirror:
            return  # its kubelet goes by the manifest on the node (staticpods.py)
        if new is None:
            machine = self.core.machines.get(old.spec.node_name)
            if machine is not None and not machine.powered:
                self._abandon(change.key, old)
            else:
                self._push_kill(old, 0)
        elif new.meta.deletion_ns is not None and (
            old.meta.deletion_ns is None or (new.meta.grace_s or 0) < (old.meta.grace_s or 0)
        ):
            assert isinstance(new, Pod)
            self._push_kill(new, new.meta.grace_s or 0)

    def _abandon(self, key: Key, pod: Pod) -> None:
        """The object of a pod that went down with its node was removed: the next boot finds nothing of it."""
        worker = self.status.workers[key]
        self.core.set_ground(key, None)
        if not worker.spec.host_network:
            self.core.addresses.release_pod_ips(pod.spec.node_name, worker.pod_ips)
        self.kubelet.worker_gone(key)
        self.core.forget_draws(key)

    def _push_kill(self, pod: Pod, grace_s: int) -> None:
        wait = self.core.delay("kubelet_watch_s", pod.key)
        self.core.push(wait, KillPod(pod.spec.node_name, pod.key, pod.meta.uid, grace_s))

    def handle(self, event: Event) -> None:
        """One step of an ending."""
        match event:
            case KillPod(_, key, uid, grace_s):
                worker = self.status.worker(key, uid)
                if worker is not None:
                    self._kill_pod(worker, grace_s)
            case KillContainer(_, key, uid, container, grace_s):
                worker = self.status.worker(key, uid)
                if worker is not None and not worker.kill:
                    self._stop_container(worker, container, grace_s)
            case Sigterm():
                self._sigterm(event)
            case Sigkill(_, key, uid, container, kill, starts):
                worker = self.status.worker(key, uid)
                if worker is not None and worker.kill == kill and self._alive(key, uid, container, starts):
                    self.core.fact(
                        What.SIGKILL_SENT, key, f"kubelet {worker.node}", f"kubelet killed {container} of {key.name}"
                    )
                    self._exited(key, uid, container, 137, " by SIGKILL")
            case StopListening(key, uid, container, starts):
                self._stop_listening(key, uid, container, starts)
            case AppExit(key, uid, container, starts):
                if self._acts(key, uid, container, starts):
                    self._exited(key, uid, container, self._code_after_sigterm(key), " after SIGTERM")
            case TearDown(_, key, uid):
                self._tear_down(key, uid)
            case RemovePod(_, key, uid):
                self._remove(key, uid)

    def shut_down(self, worker: PodWorker, grace_s: int, reason: str = "Terminated") -> None:
        """End a pod because its node shuts down, or for another reason of the kubelet's own."""
        worker.shut_down = reason
        self._kill_pod(worker, grace_s)

    # --- stopping -------------------------------------------------------------------------------------------

    def _kill_pod(self, worker: PodWorker, grace_s: int) -> None:
        """Begin an end, or begin it anew with less time; more than it has it does not get.

        Source: k8s.io/kubernetes pkg/kubelet/pod_workers.go, UpdatePod and calculateEffectiveGracePeriod: never less
        than 1 s, also after a forced delete.
        """
        by, grace_s, ground = f"kubelet {worker.node}", max(1, grace_s), self.core.runtime.get(worker.key)
        if worker.kill and 0 < worker.grace_s <= grace_s and ground is not None and ground.up:
            return
        worker.grace_s = grace_s
        self.core.fact(
            What.KUBELET_NOTICED, worker.key, by, f"kubelet on {worker.node} learned that {worker.key.name} is to go"
        )
        worker.kill += 1
        if ground is None or not ground.up:
            self.core.push(0, TearDown(worker.node, worker.key, worker.uid))
            return
        sidecars = {c.name for c in worker.spec.init_containers}
        worker.kill_turns = {}
        for run in ground.containers:
            if run.up and run.name not in sidecars:
                self._stop_container(worker, run.name, grace_s)
            elif run.up:
                pre_stop = self._pre_stop(worker, run.name, grace_s)
                deadline = self.core.now_ns + _budget(pre_stop, grace_s)
                worker.kill_turns[run.name] = (self.core.now_ns + pre_stop, deadline)
        for name, (_, deadline) in worker.kill_turns.items():
            sigterm = Sigterm(worker.node, worker.key, worker.uid, name, worker.kill, deadline)
            self.core.push_at(deadline, sigterm)
        self._give_turns(worker)

    def ground_changed(self, key: Key) -> None:
        """A container may have ended whose end a sidecar waits for."""
        worker = self.status.workers.get(key)
        if worker is not None and worker.kill and worker.kill_turns:
            self._give_turns(worker)

    def _give_turns(self, worker: PodWorker) -> None:
        """Stop sidecars in reverse order, each when all that started after it have ended.

        Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_termination_order.go, waitForTurn.
        """
        ground = self.core.runtime.get(worker.key)
        for run in reversed(ground.containers if ground is not None else ()):
            if run.name in worker.kill_turns:
                ready, deadline = worker.kill_turns.pop(run.name)
                deadline += max(0, self.core.now_ns - ready) % SECOND_NS  # whole seconds of the wait count
                wait = max(0, ready - self.core.now_ns) + self.core.delay("sigterm_s", worker.key)
                sigterm = Sigterm(worker.node, worker.key, worker.uid, run.name, worker.kill, deadline)
                self.core.push(wait, sigterm)
            if run.up:
                return

    def _stop_container(self, worker: PodWorker, name: str, grace_s: int) -> None:
        """preStop, then SIGTERM, then SIGKILL when the one budget for both is used up."""
        pre_stop = self._pre_stop(worker, name, grace_s)
        deadline = self.core.now_ns + _budget(pre_stop, grace_s)
        wait = pre_stop + self.core.delay("sigterm_s", worker.key)
        self.core.push(wait, Sigterm(worker.node, worker.key, worker.uid, name, worker.kill, deadline))

    def _pre_stop(self, worker: PodWorker, name: str, grace_s: int) -> int:
        """How long a container's preStop hook takes, within the grace period, ns."""
        container = next(c for c in (*worker.spec.init_containers, *worker.spec.containers) if c.name == name)
        hook = (container.pre_stop_sleep_s or 0) * SECOND_NS
        if container.pre_stop_hook:
            hook = self.status.app_delay(worker, "pre_stop_exec_s")
        return min(hook, grace_s * SECOND_NS)

    def _sigterm(self, event: Sigterm) -> None:
        worker = self.status.worker(event.key, event.uid)
        ground = self.core.runtime.get(event.key)
        if worker is None or worker.kill != event.kill or ground is None:
            return
        run = ground.container(event.container)
        key, uid, name = event.key, event.uid, event.container
        if not run.up or worker.signalled.get(name) == (event.kill, run.starts):
            return
        worker.signalled[name] = event.kill, run.starts
        self.core.fact(
            What.SIGTERM_SENT, key, f"kubelet {worker.node}", f"kubelet sent SIGTERM to {name} of {key.name}"
        )
        killed = max(event.deadline_ns, self.core.now_ns + self.core.spans["minimum_grace_s"][0])
        run = replace(run, killed_ns=killed)
        self.core.set_ground(key, ground.with_runs(run))
        exits = None if run.hung or ignores_sigterm(worker.annotations) else self.acts_on_sigterm(key, uid, run)
        if exits is None or self.core.now_ns + exits > killed:
            self.sigkill_at(key, uid, run, killed)

    def sigkill_at(self, key: Key, uid: str, run: ContainerRun, t_ns: int) -> None:
        """The kubelet will kill a container that does not exit in time."""
        worker = self.status.worker(key, uid)
        if worker is not None:
            self.core.push_at(t_ns, Sigkill(worker.node, key, uid, run.name, worker.kill, run.starts))

    def acts_on_sigterm(self, key: Key, uid: str, run: ContainerRun) -> int:
        """The application stops listening, finishes its work and exits; returns how long that takes, ns."""
        worker = self.status.workers[key]
        exits = self.status.app_delay(worker, "app_exit_s")
        stops = self.status.app_delay(worker, "app_stop_listening_s")
        if stops < exits:
            self.core.push(stops, StopListening(key, uid, run.name, run.starts))
        self.core.push(exits, AppExit(key, uid, run.name, run.starts))
        return exits

    def _alive(self, key: Key, uid: str, name: str, starts: int) -> bool:
        ground = self.core.runtime.get(key)
        if ground is None or ground.uid != uid:
            return False
        run = ground.container(name)
        return run.up and run.starts == starts

    def _acts(self, key: Key, uid: str, name: str, starts: int) -> bool:
        """Whether the process is there and does not hang."""
        return self._alive(key, uid, name, starts) and not self.core.runtime[key].container(name).hung

    def _stop_listening(self, key: Key, uid: str, name: str, starts: int) -> None:
        if self._acts(key, uid, name, starts):
            ground = self.core.runtime[key]
            after = ground.with_runs(replace(ground.container(name), accepting=False))
            self.core.set_ground(key, after)
            if after.listening != ground.listening:
                self.kubelet.listeners_changed(after)

    def _code_after_sigterm(self, key: Key) -> int:
        """Servers end well; whoever has work to finish has not finished it."""
        pod = self.core.store.get(key)
        return SIGTERM_CODE if isinstance(pod, Pod) and works_to_an_end(pod) else 0

    def _exited(self, key: Key, uid: str, name: str, exit_code: int, why: str) -> None:
        self.kubelet.containers_exited(key, (name,), exit_code, why)
        self.gone_if_done(key, uid)

    def gone_if_done(self, key: Key, uid: str) -> None:
        """A container of a pod has ended: if the pod is to go and it was the last, the sandbox follows."""
        worker = self.status.worker(key, uid)
        ground = self.core.runtime.get(key)
        if worker is not None and worker.kill and ground is not None and not ground.up:
            wait = self.core.delay("sandbox_gone_s", key)
            self.core.push(wait, TearDown(worker.node, key, uid))

    # --- after the last exit --------------------------------------------------------------------------------

    def _tear_down(self, key: Key, uid: str) -> None:
        worker = self.status.worker(key, uid)
        if worker is None:
            return
        ground = self.kubelet.release_sandbox(worker)
        for name, status in list(worker.containers.items()):
            run = ground.container(name) if ground is not None else None
            if run is not None and run.starts and status.state != "terminated":
                dead = replace(
                    status, state="terminated", reason=run.ended, ready=False, restarts=run.starts - 1,
                    finished_ns=run.since_ns, exit_code=run.exit_code, exit_reason=run.exit_reason,
                )  # fmt: skip
                self.status.update(worker, name, dead)
        pod = self.core.store.get(key)
        if worker.shut_down and isinstance(pod, Pod) and not pod.terminating:
            self.status.write_soon(worker)
            return
        # The pod's worker waits for a relist that is newer than the end (pod_workers.go, podWorkerLoop: GetNewerThan).
        pleg, now = self.kubelet.pleg, self.core.now_ns
        relist = pleg.next_look(worker.node, now) + pleg.takes - now
        self.core.push(relist + self.core.delay("pod_removal_s", key), RemovePod(worker.node, key, uid))

    def _remove(self, key: Key, uid: str) -> None:
        worker = self.status.worker(key, uid)
        if worker is None:
            return
        self.kubelet.worker_gone(key)
        pod = self.core.store.get(key)
        by = f"kubelet {worker.node}"
        if isinstance(pod, Pod) and pod.meta.uid == uid:
            change = self.core.remove(key, by)
            if change is not None:
                self.core.fact(What.POD_REMOVED, key, by, f"{key.name} was removed from the API", change.revision)
        self.core.forget_draws(key)

    def kubelet_started(self, node: str) -> None:
        """A restarted kubelet starts terminations again, with the full grace period (lifecycle 1.2)."""
        for worker in list(self.status.workers.values()):
            if worker.node == node and worker.kill and worker.key in self.core.runtime:
                pod = self.core.store.get(worker.key)
                known = isinstance(pod, Pod) and pod.meta.uid == worker.uid
                grace = pod.meta.grace_s if known and pod is not None else 0
                worker.grace_s = 0
                self.core.push(0, KillPod(node, worker.key, worker.uid, grace or 0))


def _budget(pre_stop_ns: int, grace_s: int) -> int:
    """From the start of an end to SIGKILL, ns: of a preStop hook's time whole seconds count.

    Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go (killContainer, executePreStopHook).
    """
    return pre_stop_ns % SECOND_NS + grace_s * SECOND_NS
