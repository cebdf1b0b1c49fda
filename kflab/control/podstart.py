"""The start of a pod's containers, one after another: images, init containers, sidecars, then the others.

Init containers run in order, each to its end; a sidecar (restartPolicy Always) is left running, and the next one starts
when its startup probe, if any, has passed. Then each container's image is pulled and the container started. Init
containers that fail: init_failures.py. Image garbage collection and registry limits are not modelled.

Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go (SyncPod, startContainer),
kuberuntime_container.go (computeInitContainerActions), pkg/kubelet/images/image_manager.go (EnsureImageExists).
"""

from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent
from kflab.control.images import Images
from kflab.control.init_failures import InitFailures, RetryInit
from kflab.control.pleg import Pleg
from kflab.control.status import PodWorker, StatusManager
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Container, ContainerStatus
from kflab.records import dataclass
from kflab.replacing import replace


@dataclass(frozen=True, slots=True)
class ContainersStarted(PodEvent):
    """Containers of a pod run from now on."""

    room: ClassVar[str] = "kubelet"
    needs_runtime: ClassVar[bool] = True
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PodFinished(PodEvent):
    """All containers of a pod are done for good: its sandbox goes."""

    room: ClassVar[str] = "kubelet"
    needs_runtime: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class InitRuns(PodEvent):
    """An init container's image is there: it starts."""

    room: ClassVar[str] = "podstart"
    needs_runtime: ClassVar[bool] = True
    step: int


@dataclass(frozen=True, slots=True)
class InitEnds(Event):
    """An init container's process ends."""

    room: ClassVar[str] = "podstart"
    key: Key
    uid: str
    step: int
    began_ns: int


@dataclass(frozen=True, slots=True)
class InitDone(PodEvent):
    """A relist has found that an init container has ended."""

    room: ClassVar[str] = "podstart"
    needs_runtime: ClassVar[bool] = True
    step: int
    ended_ns: int
    code: int


@dataclass(frozen=True, slots=True)
class PullFailed(PodEvent):
    """The registry did not give an image."""

    room: ClassVar[str] = "podstart"
    needs_runtime: ClassVar[bool] = True
    container: str
    reason: str


@dataclass(frozen=True, slots=True)
class PullAgain(PodEvent):
    """The pod worker tries a sync again that failed for want of an image."""

    room: ClassVar[str] = "podstart"
    needs_runtime: ClassVar[bool] = True
    container: str


class PodStart(Controller):
    """Brings a pod's containers up, on every node."""

    room = "podstart"

    def __init__(self, core: Core, status: StatusManager) -> None:
        super().__init__(core)
        self.status = status
        self.images = Images(core, status)
        self.failures = InitFailures(core, status)
        self.pleg = Pleg(core)

    def handle(self, event: Event) -> None:
        """One step of a start."""
        assert isinstance(event, InitRuns | InitEnds | InitDone | RetryInit | PullFailed | PullAgain)
        worker = self.status.worker(event.key, event.uid)
        if worker is None or worker.kill or worker.key not in self.core.runtime:
            return
        match event:
            case InitRuns(step=step) if step == worker.start_step:
                self._run_init(worker, worker.spec.init_containers[step])
            case InitEnds(step=step, began_ns=began_ns) if step == worker.start_step:
                self._init_ends(worker, worker.spec.init_containers[step], began_ns)
            case InitDone(step=step) if step == worker.start_step:
                self._init_done(worker, worker.spec.init_containers[step], event.ended_ns, event.code)
            case RetryInit(step=step) if self.failures.retry(worker, event):
                self._start(worker, worker.spec.init_containers[step], again=True)
            case PullFailed():
                self._failed(worker, event.container, event.reason)
            case PullAgain():
                self._pull_again(worker, event.container)

    def begin(self, worker: PodWorker) -> None:
        """The sandbox is there: start what comes first."""
        worker.start_step, worker.sandbox_ns = 0, self.core.now_ns
        self._go_on(worker)

    def _go_on(self, worker: PodWorker) -> None:
        inits = worker.spec.init_containers
        if worker.start_step < len(inits):
            self._start(worker, inits[worker.start_step])
            return
        waits: dict[int, list[str]] = {}
        for container in worker.spec.containers:
            wait = self._image(worker, container)
            if wait is not None:
                waits.setdefault(wait, []).append(container.name)
        if waits:
            made = self.core.delay("container_start_s", worker.key)
            for wait, names in waits.items():
                event = ContainersStarted(worker.node, worker.key, worker.uid, tuple(names))
                self.core.push(wait + made, event)

    def _image(self, worker: PodWorker, container: Container) -> int | None:
        """When a container's image is there, ns from now; None: the pull fails."""
        wait, problem = self.images.pull(worker, container)
        if problem:
            self.core.push(wait, PullFailed(worker.node, worker.key, worker.uid, container.name, problem))
            return None
        if wait:
            text = f"{worker.node} pulls {container.image} for {worker.key.name}, {wait / 1e9:.1f} s"
            detail = f'Pulling image "{container.image}"'
            self.core.fact(What.IMAGE_PULLING, worker.key, f"kubelet {worker.node}", text, detail=detail)
        return wait

    def _start(self, worker: PodWorker, container: Container, *, again: bool = False) -> None:
        wait = self._image(worker, container)
        if wait is None:
            return
        if again:
            wait += self.core.delay("container_restart_s", worker.key)
        if container.name in worker.inits:
            self.core.push(wait, InitRuns(worker.node, worker.key, worker.uid, worker.start_step))
        else:
            wait += self.core.delay("container_start_s", worker.key)
            self.core.push(wait, ContainersStarted(worker.node, worker.key, worker.uid, (container.name,)))

    # --- init containers ------------------------------------------------------------------------------------

    def _run_init(self, worker: PodWorker, container: Container) -> None:
        before = worker.inits[container.name]
        if before.state == "running":
            return  # a kubelet that started again has retried it already
        running = ContainerStatus(container.name, "running", "", started_ns=self.core.now_ns)
        if before.exit_code is not None:  # it has failed before
            running = replace(running, restarts=before.restarts + 1, exit_code=before.exit_code)
            running = replace(running, finished_ns=before.finished_ns)
        worker.inits[container.name] = running
        self.status.write_soon(worker)
        takes = self.status.app_delay(worker, "init_container_s")
        self.core.push(takes, InitEnds(worker.key, worker.uid, worker.start_step, self.core.now_ns))

    def _init_ends(self, worker: PodWorker, container: Container, began_ns: int) -> None:
        now, status = self.core.now_ns, worker.inits[container.name]
        if status.state == "running" and status.started_ns == began_ns:
            code = self.failures.code(worker, container.name)
            found = self.pleg.next_look(worker.node, now) + self.pleg.takes
            self.core.push_at(found, InitDone(worker.node, worker.key, worker.uid, worker.start_step, now, code))

    def _init_done(self, worker: PodWorker, container: Container, ended_ns: int, code: int) -> None:
        if code:
            if self.failures.failed(worker, container.name, code, ended_ns):
                self._start(worker, container, again=True)
            elif worker.phase() == "Failed":
                wait = self.core.delay("sandbox_gone_s", worker.key)
                self.core.push(wait, PodFinished(worker.node, worker.key, worker.uid))
            return
        done = replace(
            worker.inits[container.name], state="terminated", reason="Completed", ready=True,
            finished_ns=ended_ns, exit_code=0,
        )  # fmt: skip
        worker.inits[container.name] = done
        self._next(worker)

    def sidecar_started(self, worker: PodWorker, name: str) -> None:
        """A sidecar runs and its startup probe has passed: if others wait for it, they go on."""
        inits = worker.spec.init_containers
        if worker.start_step < len(inits) and inits[worker.start_step].name == name and not worker.kill:
            self._next(worker)

    def _next(self, worker: PodWorker) -> None:
        worker.start_step += 1
        self.status.write_soon(worker)
        self._go_on(worker)

    # --- images that are not to be had ----------------------------------------------------------------------

    def _failed(self, worker: PodWorker, name: str, reason: str) -> None:
        """A pull failed: back-off grows, and the worker tries again (image_manager.go, EnsureImageExists)."""
        core, container = self.core, self._container(worker, name)
        never = reason == "ErrImageNeverPull"
        words = "is not there, and imagePullPolicy is Never" if never else "could not be pulled"
        text = f"{container.image} {words} on {worker.node} for {worker.key.name}"
        detail = f'Failed to pull image "{container.image}": {_why(self.images.registry_down)}'
        if never:
            detail = f'Container image "{container.image}" is not present with pull policy of Never'
        core.fact(What.IMAGE_FAILED, worker.key, f"kubelet {worker.node}", text, detail=detail)
        if not never:
            first, longest = core.spans["image_backoff_s"][0], core.spans["image_backoff_max_s"][0]
            before = worker.pull_back_off.get(name)
            worker.pull_back_off[name] = (first if before is None else min(2 * before[0], longest), core.now_ns)
        first = name not in worker.pull_reasons
        worker.pull_reasons[name] = reason
        if first and (worker.start_step == 0 or len(worker.spec.containers) > 1):
            # The relist that found the sandbox, or a container beside, has a sync wait for the end of this one.
            since = core.now_ns if worker.start_step else worker.sandbox_ns
            found = self.pleg.next_look(worker.node, since) + self.pleg.takes
            again = PullAgain(worker.node, worker.key, worker.uid, name)
            core.push_at(max(core.now_ns, found), again)
        else:
            self._sync_later(worker, name)

    def _pull_again(self, worker: PodWorker, name: str) -> None:
        """Another sync: it writes why the last one failed, then tries (kubelet.go, SyncPod; reason_cache.go)."""
        statuses = worker.inits if name in worker.inits else worker.containers
        reason = worker.pull_reasons.get(name, "")
        if reason and statuses[name].reason != reason:
            statuses[name] = replace(statuses[name], state="waiting", reason=reason)
            self.status.write_soon(worker)
        entry = worker.pull_back_off.get(name)
        if entry is not None and self.core.now_ns - entry[1] < entry[0]:
            if reason != "ImagePullBackOff":
                worker.pull_reasons[name] = "ImagePullBackOff"
                image = self._container(worker, name).image
                text = f"kubelet on {worker.node} waits before it pulls {image} again for {worker.key.name}"
                detail = f'Back-off pulling image "{image}"'
                self.core.fact(What.IMAGE_BACK_OFF, worker.key, f"kubelet {worker.node}", text, detail=detail)
            self._sync_later(worker, name)
            return
        inits = worker.spec.init_containers
        if worker.start_step < len(inits):
            if inits[worker.start_step].name == name:
                self._start(worker, inits[worker.start_step])
            return
        wait = self._image(worker, self._container(worker, name))
        if wait is not None:
            wait += self.core.delay("container_start_s", worker.key)
            self.core.push(wait, ContainersStarted(worker.node, worker.key, worker.uid, (name,)))

    def _sync_later(self, worker: PodWorker, name: str) -> None:
        wait = self.core.delay("sync_retry_s", worker.key)
        self.core.push(wait, PullAgain(worker.node, worker.key, worker.uid, name))

    @staticmethod
    def _container(worker: PodWorker, name: str) -> Container:
        return next(c for c in (*worker.spec.init_containers, *worker.spec.containers) if c.name == name)


def _why(registry_down: bool) -> str:
    return "dial tcp: i/o timeout" if registry_down else "not found"
