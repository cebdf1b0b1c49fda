"""Kubelet: starts pods, notices what happened to their containers, restarts them.

Source: k8s.io/kubernetes pkg/kubelet (kubelet.go syncPod, kuberuntime/kuberuntime_manager.go SyncPod and doBackOff,
pod_workers.go completeWork). Delays: lifecycle 1.1, 4A, 4F.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.corednspods import behaviour, open_ports, runs_coredns
from kflab.control.crash_backoff import retry_after, wait_before_restart
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent
from kflab.control.listening import container_ports, has_silent_container, running_containers
from kflab.control.plainstart import PlainPodRuns, PlainStarts
from kflab.control.pleg import Relist
from kflab.control.podstart import ContainersStarted, PodFinished, PodStart
from kflab.control.poststart import PostStartHooks
from kflab.control.probes import KillContainer, Probes
from kflab.control.runtime import ContainerRun, PodRuntime, Ports
from kflab.control.status import PodWorker, StatusManager, passed_gates
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import ContainerStatus, Pod
from kflab.records import dataclass
from kflab.replacing import copier, replace


@dataclass(frozen=True, slots=True)
class PodSeen(PodEvent):
    """A pod bound to the node reached its kubelet."""

    room: ClassVar[str] = "kubelet"
    needs_runtime: ClassVar[bool] = True
    needs_api: ClassVar[bool] = True
    by_watch: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class KillPod(PodEvent):
    """The kubelet starts to stop a pod."""

    room: ClassVar[str] = "termination"
    needs_runtime: ClassVar[bool] = True
    needs_api: ClassVar[bool] = True
    by_watch: ClassVar[bool] = True
    grace_s: int


@dataclass(frozen=True, slots=True)
class SandboxReady(PodEvent):
    """Pod sandbox and network are there."""

    room: ClassVar[str] = "kubelet"
    needs_runtime: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class StartsListening(Event):
    """An application that takes a while opens its ports."""

    room: ClassVar[str] = "kubelet"
    key: Key
    uid: str
    starts: int


@dataclass(frozen=True, slots=True)
class RetrySync(PodEvent):
    """The pod worker tries again after a sync that failed because a container is in back-off."""

    room: ClassVar[str] = "kubelet"
    needs_runtime: ClassVar[bool] = True
    container: str
    starts: int


_running = copier(ContainerStatus, "state", "reason", "restarts", "started_ns", "ready")
_started = copier(ContainerRun, "up", "accepting", "since_ns", "starts", "hung", "killed_ns")


@lru_cache(maxsize=4096)
def _waiting(name: str, reason: str) -> ContainerStatus:
    """The status of a container that was never started."""
    return ContainerStatus(name, reason=reason)


class Kubelet(Controller):
    """All nodes' kubelets."""

    room = "kubelet"
    kinds = ("Pod", "Service")

    def __init__(
        self, core: Core, status: StatusManager, probes: Probes, start: PodStart, hooks: PostStartHooks
    ) -> None:
        super().__init__(core)
        self.hooks = hooks
        self.start = start
        self.status = status
        self.probes = probes
        self.pleg = start.pleg
        self._plain = PlainStarts(core)
        self._addressed: dict[Key, str] = {}
        """Pods that got their addresses before their sandbox, while the cluster settled → their uid."""
        self._waiting: dict[Key, str] = {}
        """Pods whose namesake is still being stopped → their uid."""

    # --- what the kubelet hears -----------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """A pod was bound to a node; or a Service gives silent containers ports."""
        new = change.new
        if isinstance(new, Service):
            self._service_changed(new)
        elif isinstance(new, Pod) and new.spec.node_name:
            old = change.old
            bound = not (isinstance(old, Pod) and old.spec.node_name)
            if bound and self.core.quiet:
                self._bound_while_settling(change.key, new)
            elif bound and self.status.worker(change.key, new.meta.uid) is None:
                wait = self.core.delay("kubelet_watch_s", change.key)
                self.core.push(wait, PodSeen(new.spec.node_name, change.key, new.meta.uid))
            elif new.spec.readiness_gates and isinstance(old, Pod) and old.status.conditions != new.status.conditions:
                self.status.conditions_changed(new)

    def handle(self, event: Event) -> None:
        """Whatever a kubelet does at an instant of its own."""
        match event:
            case Relist():
                for key in self.pleg.found(event):
                    worker = self.status.workers.get(key)
                    if worker is not None:
                        self._sync(worker)
            case PlainPodRuns():
                self._plain_runs(event)
            case PodSeen(_, key, uid):
                self._seen(key, uid)
            case SandboxReady(_, key, uid):
                self._sandbox(key, uid)
            case ContainersStarted(_, key, uid, names):
                self._started(key, uid, names)
            case StartsListening(key, uid, starts):
                self._listens(key, uid, starts)
            case PodFinished(_, key, uid):
                worker = self.status.worker(key, uid)
                if worker is not None and not worker.kill:
                    self._finish(worker)
            case RetrySync(_, key, uid, container, starts):
                worker = self.status.worker(key, uid)
                if worker is not None and worker.containers[container].restarts + 1 == starts and not worker.kill:
                    ground = self.core.runtime.get(key)
                    up = ground is not None and ground.container(container).up
                    if not up and container not in worker.restarting:
                        self.restart_or_wait(worker, container, retry=True)

    # --- start ----------------------------------------------------------------------------------------------

    def _bound_while_settling(self, key: Key, pod: Pod) -> None:
        """A pod was bound, or is at the instant that its status says: it has its worker and its address at once."""
        core, node, uid = self.core, pod.spec.node_name, pod.meta.uid
        seen_ns = max(core.now_ns, pod.status.scheduled_ns or core.now_ns) + core.delay("kubelet_watch_s", key)
        if key in self.status.workers or pod.terminating:
            if self.status.worker(key, uid) is None:
                core.push_at(seen_ns, PodSeen(node, key, uid))
            return
        worker = self.new_worker(key, pod, seen_ns)
        worker.pod_ips = self._addresses(worker)
        sandbox_ns = seen_ns + core.delay("sandbox_s", key)
        started_ns = sandbox_ns + core.delay("container_start_s", key)
        running = self._plain.running(pod, started_ns) if worker.pod_ips else None
        if running is not None:
            noticed_ns = self.pleg.next_look(node, started_ns) + self.pleg.takes
            told_ns = noticed_ns + core.delay("pod_status_write_s", key)
            if told_ns < 0:
                core.push_at(told_ns, PlainPodRuns(node, key, uid, running, noticed_ns))
                return
        if worker.pod_ips:
            self._addressed[key] = uid
        core.push_at(sandbox_ns, SandboxReady(node, key, uid))

    def _plain_runs(self, event: PlainPodRuns) -> None:
        worker, pod = self.status.worker(event.key, event.uid), self.core.store.get(event.key)
        if worker is None or worker.kill or not isinstance(pod, Pod):
            return
        running = event.running
        ground = PodRuntime(
            worker.key, worker.uid, worker.node, worker.pod_ips, True, running.runs, running.listening,
            started_ns=running.runs[-1].since_ns, names=running.names,
        )  # fmt: skip
        self.core.set_ground(worker.key, ground)
        self.status.runs(worker, pod, running.statuses, event.noticed_ns)

    def _addresses(self, worker: PodWorker) -> tuple[str, ...]:
        """What the CNI plugin gives a pod; () when it has no address left."""
        if worker.spec.host_network:
            return worker.host_ips
        return self.core.addresses.allocate_pod_ips(worker.node, self.core.pinned_ips.pop(worker.key, ""))

    def _seen(self, key: Key, uid: str) -> None:
        pod = self.core.store.get(key)
        if not isinstance(pod, Pod) or pod.meta.uid != uid:
            return
        if key in self.status.workers:
            self._waiting[key] = uid
            return
        worker = self.new_worker(key, pod, self.core.now_ns)
        if pod.terminating:  # deleted before its kubelet saw it: nothing of it starts (pod_workers.go, UpdatePod)
            self.core.push(0, KillPod(worker.node, key, uid, pod.meta.grace_s or 0))
            return
        if not self.core.quiet:
            self.status.write_soon(worker)  # ContainerCreating, before the sandbox is made (kubelet.go, SyncPod)
        self.core.push(self.core.delay("sandbox_s", key), SandboxReady(pod.spec.node_name, key, uid))

    def restart(self, pod: Pod, containers: Sequence[ContainerStatus]) -> None:
        """Start a pod anew in a sandbox of its own, as after a reboot of its node.

        Args:
            pod: As the API has it; the status keeps its addresses until the new sandbox has its own.
            containers: What the kubelet found of them.
        """
        worker = self.new_worker(pod.key, pod, self.core.now_ns)
        worker.containers.update({status.name: status for status in containers})
        worker.pod_ips = pod.status.pod_ips
        self.status.write_soon(worker)
        if pod.spec.restart_policy == "Never" and any(status.exit_code is not None for status in containers):
            return  # it has failed (kuberuntime_manager.go, computePodActions)
        self.core.push(self.core.delay("sandbox_s", pod.key), SandboxReady(pod.spec.node_name, pod.key, pod.meta.uid))

    def new_worker(self, key: Key, pod: Pod, seen_ns: int) -> PodWorker:
        """Know a pod from now on; nothing of it runs yet."""
        spec = pod.spec
        node = self.core.store.get(Key("Node", "", spec.node_name))
        reason = "PodInitializing" if spec.init_containers else "ContainerCreating"
        worker = PodWorker(
            key, pod.meta.uid, spec.node_name, spec, seen_ns,
            annotations=behaviour(self.core.store, pod),
            host_ips=node.internal_ips if isinstance(node, Node) else (),
            containers={container.name: _waiting(container.name, reason) for container in running_containers(spec)},
            passed=passed_gates(pod),
        )  # fmt: skip
        for container in spec.init_containers:
            if container.restart_policy != "Always":
                worker.inits[container.name] = _waiting(container.name, reason)
        self.status.workers[key] = worker
        return worker

    def _sandbox(self, key: Key, uid: str) -> None:
        worker = self.status.worker(key, uid)
        pod = self.core.store.get(key)
        if worker is None or worker.kill or not isinstance(pod, Pod):
            return
        ips = worker.pod_ips if self._addressed.pop(key, "") == uid else self._addresses(worker)
        if not ips:  # the sync fails and is tried again
            self.core.push(self.core.delay("sync_retry_s", key), SandboxReady(worker.node, key, uid))
            return
        worker.pod_ips = ips
        self.core.set_ground(key, self.ground(pod, worker, ips))
        self.start.begin(worker)

    def ground(self, pod: Pod, worker: PodWorker, ips: tuple[str, ...]) -> PodRuntime:
        """A sandbox in which nothing runs yet; containers that ran in an earlier one go on counting their starts."""
        ports, assumed = self._ports(pod)
        containers = running_containers(pod.spec)
        before = {name: st.restarts + 1 for name, st in worker.containers.items() if st.exit_code is not None}
        runs = tuple(
            ContainerRun(c.name, own, starts=before.get(c.name, 0)) for c, own in zip(containers, ports, strict=True)
        )
        names = {c.name: i for i, c in enumerate(containers)}
        return PodRuntime(pod.key, worker.uid, worker.node, ips, True, runs, assumed=assumed, names=names)

    def _ports(self, pod: Pod) -> tuple[tuple[Ports, ...], bool]:
        """What each container listens on, and whether that is only assumed."""
        ports, assumed = container_ports(pod, self._selecting(pod))
        if runs_coredns(pod):
            store, boxes = self.core.store, running_containers(pod.spec)
            ports = tuple(open_ports(store, box, own) for box, own in zip(boxes, ports, strict=True))
        return ports, assumed

    def _selecting(self, pod: Pod) -> Iterator[Service]:
        """Services that select a pod; looked for when somebody asks."""
        for key in self.core.index.services_selecting(pod.meta.namespace, pod.meta.labels):
            service = self.core.store.get(key)
            if isinstance(service, Service):
                yield service

    def _started(self, key: Key, uid: str, names: tuple[str, ...]) -> None:
        worker = self.status.worker(key, uid)
        ground = self.core.runtime.get(key)
        if worker is None or worker.kill or ground is None or not ground.sandbox:
            return
        names = self.hooks.first(worker, tuple(name for name in names if not ground.container(name).up))
        now = self.core.now_ns
        if worker.restarting:
            worker.restarting = tuple(name for name in worker.restarting if name not in names)
        wait = self.status.app_delay(worker, "app_listen_s")
        runs = []
        for name in names:
            run = ground.container(name)
            runs.append(_started(run, True, wait == 0, now, run.starts + 1, False, None))
        if not runs:
            return
        ground = ground.with_runs(*runs, started_ns=now)
        self.core.set_ground(key, ground)
        if not self.core.quiet:
            what = " and ".join(run.name for run in runs)
            text = f"{what} of {key.name} started on {worker.node}"
            self.core.fact(What.CONTAINER_STARTED, key, f"kubelet {worker.node}", text)
        if wait:
            self.core.push(wait, StartsListening(key, uid, runs[0].starts))
        else:
            self._tell_listeners(ground)
        self.hooks.begin(worker, ground)
        self.pleg.pod_changed(worker.node, key)

    def _listens(self, key: Key, uid: str, starts: int) -> None:
        ground = self.core.runtime.get(key)
        if ground is None or ground.uid != uid:
            return
        late = [
            replace(r, accepting=True) for r in ground.containers if r.up and not r.accepting and r.starts == starts
        ]
        worker = self.status.worker(key, uid)
        if late and (worker is None or not worker.kill):
            after = ground.with_runs(*late)
            self.core.set_ground(key, after)
            self.listeners_changed(after)

    # --- listeners ------------------------------------------------------------------------------------------

    def listeners_changed(self, ground: PodRuntime) -> None:
        """What answers on a pod changed now: tell, and let probes look again."""
        self._tell_listeners(ground)
        worker = self.status.worker(ground.key, ground.uid)
        if worker is not None:
            self.probes.recheck(worker)

    def _tell_listeners(self, ground: PodRuntime) -> None:
        if not self.core.quiet:
            ports = ", ".join(f"{port}/{protocol}" for protocol, port in ground.listening) or "nothing"
            text = f"{ground.key.name} listens on {ports}"
            self.core.fact(What.LISTENERS_CHANGED, ground.key, f"kubelet {ground.node}", text, ports=ground.listening)

    def _service_changed(self, service: Service) -> None:
        for key in self.core.index.pods_selected(service.meta.namespace, service.selector):
            pod, ground = self.core.store.get(key), self.core.runtime.get(key)
            if not isinstance(pod, Pod) or ground is None or not has_silent_container(pod):
                continue
            ports, assumed = self._ports(pod)
            runs = [replace(run, ports=own) for run, own in zip(ground.containers, ports, strict=True)]
            after = replace(ground.with_runs(*runs), assumed=assumed)
            self.core.set_ground(key, after)
            if after.listening != ground.listening:
                self.listeners_changed(after)

    # --- noticing and restarting ----------------------------------------------------------------------------

    def _sync(self, worker: PodWorker) -> None:
        """A relist found something about this pod: bring the kubelet's view up to the ground truth."""
        ground = self.core.runtime.get(worker.key)
        if ground is None or worker.kill or worker.hook is not None:
            return  # of a pod that is to go the worker is busy until all containers have ended (SyncTerminatingPod)
        for container in running_containers(worker.spec):
            run = ground.container(container.name)
            status = worker.containers[container.name]
            unseen = status.state == "waiting" and status.exit_code is None  # its first start, over before a relist
            fresh = run.starts > 0 and (unseen or status.restarts != run.starts - 1)
            if run.up and (fresh or status.state != "running"):
                worker.containers[container.name] = _running(status, "running", "", run.starts - 1, run.since_ns, False)
                self.probes.container_running(worker, container)
            elif not run.up and run.starts > 0 and (fresh or status.state == "running"):
                if container.name not in worker.restarting:  # the pod's worker is busy with it
                    self._container_died(worker, run)

    def _container_died(self, worker: PodWorker, run: ContainerRun) -> None:
        status = worker.containers[run.name]
        by = f"kubelet {worker.node}"
        text = f"kubelet on {worker.node} noticed that {run.name} of {worker.key.name} exited ({run.exit_code})"
        self.core.fact(What.KUBELET_NOTICED, worker.key, by, text)
        dead = replace(
            status, state="terminated", reason=run.ended, ready=False, restarts=run.starts - 1,
            finished_ns=run.since_ns, exit_code=run.exit_code, exit_reason=run.exit_reason,
        )  # fmt: skip
        if run.name in worker.hook_failed:
            worker.hook_failed = tuple(other for other in worker.hook_failed if other != run.name)
            if worker.restarts(run.name, run.exit_code):
                dead = replace(dead, state="waiting", reason="PostStartHookError")
        self.status.update(worker, run.name, dead)
        self.restart_or_wait(worker, run.name, retry=False)
        if worker.phase() in ("Succeeded", "Failed"):
            wait = self.core.delay("sandbox_gone_s", worker.key)
            self.core.push(wait, PodFinished(worker.node, worker.key, worker.uid))

    def _finish(self, worker: PodWorker) -> None:
        """A pod that is done loses its sandbox; sidecars that still run are stopped first (SyncTerminatingPod)."""
        ground = self.core.runtime.get(worker.key)
        if ground is None:
            return
        left = [run for run in ground.containers if run.up]
        for run in left:
            if run.killed_ns is None:
                grace = worker.spec.grace_s
                kill = KillContainer(worker.node, worker.key, worker.uid, run.name, grace, restart=False)
                self.core.push(0, kill)
        if left:
            self.core.push(self.pleg.period, PodFinished(worker.node, worker.key, worker.uid))
        else:
            self.release_sandbox(worker)

    def release_sandbox(self, worker: PodWorker) -> PodRuntime | None:
        """Sandbox and addresses go; returns what was there."""
        key, ground = worker.key, self.core.runtime.get(worker.key)
        self.core.set_ground(key, None)
        if ground is not None and not worker.spec.host_network:
            self.core.addresses.release_pod_ips(worker.node, worker.pod_ips)
            ips = " and ".join(ground.ips)
            text = f"the sandbox of {key.name} is gone; nobody has {ips} now"
            self.core.fact(What.ADDRESS_GONE, key, f"kubelet {worker.node}", text)
        return ground

    def restart_or_wait(self, worker: PodWorker, name: str, *, retry: bool) -> None:
        """Restart a dead container now, or fail the sync because it is in back-off (doBackOff)."""
        status = worker.containers[name]
        if not worker.restarts(name, status.exit_code):
            return
        if retry and (status.state != "waiting" or status.reason == "PostStartHookError"):
            # The reason of a failed sync shows in the status that the next sync writes before it does anything.
            self.status.update(worker, name, replace(status, state="waiting", reason="CrashLoopBackOff"))
        waits = wait_before_restart(self.core, worker, name, status.finished_ns or self.core.now_ns)
        if waits:
            self._back_off(worker, name, waits, retry)
        else:
            self._start_again(worker, name)

    def _start_again(self, worker: PodWorker, name: str) -> None:
        worker.restarting = (*worker.restarting, name)
        wait = self.core.delay("container_restart_s", worker.key)
        self.core.push(wait, ContainersStarted(worker.node, worker.key, worker.uid, (name,)))

    def _stopped_for_probe(self, worker: PodWorker, run: ContainerRun) -> None:
        """A container that a probe gave up on has been stopped: the same sync starts it again.

        That sync began while the container ran, so its back-off counts from the end of the run *before*, of which
        there is none the first time: a container is restarted some times at once until the back-off exceeds the
        length of such a round (kuberuntime_manager.go, SyncPod and doBackOff; k/k #22240, #99697). Where it has to
        wait, the next relist finds it dead, and it waits from its own end like any other.
        """
        name, status = run.name, worker.containers[run.name]
        if worker.kill or run.starts != status.restarts + 1:
            return
        if worker.restart_policy(name) == "Never" or f"kubelet/{worker.node}" in self.core.stopped:
            return  # the next relist finds it dead
        before = status.finished_ns if status.exit_code is not None else None
        if before is None or not wait_before_restart(self.core, worker, name, before):
            worker.containers[name] = replace(
                status, finished_ns=run.since_ns, exit_code=run.exit_code, exit_reason=run.exit_reason
            )
            self._start_again(worker, name)

    def _back_off(self, worker: PodWorker, name: str, waits: int, retry: bool) -> None:
        status = worker.containers[name]
        if not retry:
            text = f"kubelet on {worker.node} waits {waits / 1e9:g} s before it restarts {name} of {worker.key.name}"
            self.core.fact(What.BACK_OFF, worker.key, f"kubelet {worker.node}", text)
        wait = retry_after(self.core, worker, status.finished_ns or self.core.now_ns, waits)
        self.core.push(wait, RetrySync(worker.node, worker.key, worker.uid, name, status.restarts + 1))

    # --- ground truth changes -------------------------------------------------------------------------------

    def containers_exited(
        self, key: Key, names: Sequence[str], exit_code: int, why: str, reason: str = "", *, done: bool = False
    ) -> None:
        """Containers stop running now, whether or not anybody notices; `done`: because their work is done."""
        ground = self.core.runtime.get(key)
        if ground is None:
            return
        now = self.core.now_ns
        dead = [
            replace(run, up=False, accepting=False, hung=False, since_ns=now, exit_code=exit_code, exit_reason=reason)
            for run in ground.containers
            if run.name in names and run.up
        ]
        if not dead:
            return
        after = ground.with_runs(*dead, exited_ns=now)
        self.core.set_ground(key, after)
        what = " and ".join(run.name for run in dead)
        text = f"{what} of {key.name} exited with code {exit_code}{why}"
        fact = What.CONTAINER_COMPLETED if done else What.CONTAINER_EXITED
        self.core.fact(fact, key, f"node {ground.node}", text, ports=after.hanging)
        if after.listening != ground.listening:
            self._tell_listeners(after)
        self.pleg.pod_changed(ground.node, key)
        worker = self.status.worker(key, ground.uid)
        if worker is not None and ground.node in self.core.runtimes:
            self.probes.recheck(worker)  # no relist will find it, but probes go on
        if worker is not None and worker.hook is not None:
            self.hooks.exited(worker, [run.name for run in dead])
        if worker is not None and worker.probe_killed:
            for run in dead:
                if run.name in worker.probe_killed:
                    self._stopped_for_probe(worker, run)

    def worker_gone(self, key: Key) -> None:
        """A pod is completely stopped; a namesake that waited for that can start."""
        worker = self.status.workers.pop(key, None)
        uid = self._waiting.pop(key, "")
        pod = self.core.store.get(key)
        if worker is not None and uid and isinstance(pod, Pod):
            self.core.push(0, PodSeen(pod.spec.node_name, key, uid))
