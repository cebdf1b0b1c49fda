"""postStart hooks: what a kubelet runs right after it has started a container, beside its ENTRYPOINT.

The kubelet waits for the hook in the sync of the pod: containers that come after are not started, and nothing that
happens to the pod is noticed, so its status stays what it was (ContainerCreating) and no probe runs, while the process
works and listens already. A hook that fails has its container stopped, which then restarts like one that crashed
(PostStartHookError). A request of an httpGet hook is sent once, at the start: whoever does not listen yet has failed.
A tcpSocket hook always fails. A command ends with its container; a sleep is the kubelet's own and goes on.

Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go (startContainer), pkg/kubelet/lifecycle/
handlers.go (Run, runHTTPHandler, runSleepHandler), kuberuntime_manager.go (SyncPod), kubelet_pods.go
(convertToAPIContainerStatuses: the reason of a start that failed). How long a command or an answer takes, and that it
ends well, is assumed (annotations kflab.dev/post-start and kflab.dev/post-start-exit-code). A request to another host
(httpGet.host) is answered.
"""

from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent
from kflab.control.pleg import Pleg
from kflab.control.podstart import ContainersStarted
from kflab.control.probes import KillContainer
from kflab.control.runtime import PodRuntime
from kflab.control.status import PodWorker, RunningHook, StatusManager
from kflab.manifest.app_annotations import post_start_exit_code
from kflab.manifest.objects_pods import Container, LifecycleHandler
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class PostStartEnds(PodEvent):
    """A postStart hook has ended, well or not."""

    room: ClassVar[str] = "poststart"
    needs_runtime: ClassVar[bool] = True
    container: str
    starts: int
    good: bool


class PostStartHooks(Controller):
    """Runs the postStart hooks of all kubelets."""

    room = "poststart"

    def __init__(self, core: Core, status: StatusManager, pleg: Pleg) -> None:
        super().__init__(core)
        self.status, self.pleg = status, pleg

    def first(self, worker: PodWorker, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a pod's containers that start now; the others wait for a hook."""
        if worker.hook is not None:
            worker.hook.rest = (*worker.hook.rest, *names)
            return ()
        for i, name in enumerate(names):
            if _hook(worker, name) is not None:
                worker.hook = RunningHook(name, names[i + 1 :])
                return names[: i + 1]
        return names

    def begin(self, worker: PodWorker, ground: PodRuntime) -> None:
        """The container that has a hook runs: so does the hook."""
        hook = worker.hook
        handler = None if hook is None else _hook(worker, hook.container)
        if hook is None or handler is None:
            return
        takes, good = self.status.app_delay(worker, "post_start_exec_s"), True
        match handler.action:
            case "sleep":
                takes = handler.sleep_s * SECOND_NS
            case "exec":
                good = not post_start_exit_code(worker.annotations)
                takes = handler.sleep_s * SECOND_NS or takes
            case "httpGet":
                port = _port(worker, hook.container, handler)
                good = bool(handler.host) or ("TCP", port) in ground.listening
                takes = takes if good else 0
            case _:
                takes, good = 0, False
        starts = ground.container(hook.container).starts
        self.core.push(takes, PostStartEnds(worker.node, worker.key, worker.uid, hook.container, starts, good))

    def handle(self, event: Event) -> None:
        """A hook has ended."""
        assert isinstance(event, PostStartEnds)
        worker, ground = self.status.worker(event.key, event.uid), self.core.runtime.get(event.key)
        if worker is None or worker.kill or ground is None or worker.hook is None:
            return
        if worker.hook.container != event.container or ground.container(event.container).starts != event.starts:
            return
        if event.good:
            self.over(worker)
        elif not worker.hook.failed:
            self._fail(worker, worker.hook)
            grace = worker.spec.grace_s
            self.core.push(0, KillContainer(worker.node, worker.key, worker.uid, event.container, grace, restart=False))

    def _fail(self, worker: PodWorker, hook: RunningHook) -> None:
        hook.failed = True
        worker.hook_failed = (*worker.hook_failed, hook.container)
        text = f"the postStart hook of {hook.container} of {worker.key.name} failed: kubelet stops the container"
        self.core.fact(
            What.POST_START_FAILED, worker.key, f"kubelet {worker.node}", text, detail="PostStartHook failed"
        )

    def exited(self, worker: PodWorker, names: list[str]) -> None:
        """Containers of a pod have ended: a command that ran in one has too."""
        hook = worker.hook
        if hook is None or hook.container not in names or worker.kill:
            return
        handler = _hook(worker, hook.container)
        if handler is not None and handler.action == "sleep" and not hook.failed:
            return
        if not hook.failed:
            self._fail(worker, hook)
        self.over(worker)

    def over(self, worker: PodWorker) -> None:
        """The sync goes on: what waited starts, and the next relist is heard."""
        if worker.hook is None:
            return
        rest, worker.hook = worker.hook.rest, None
        self.pleg.pod_changed(worker.node, worker.key)
        if rest:
            made = self.core.delay("container_start_s", worker.key)
            self.core.push(made, ContainersStarted(worker.node, worker.key, worker.uid, rest))


def _container(worker: PodWorker, name: str) -> Container:
    return next(c for c in (*worker.spec.init_containers, *worker.spec.containers) if c.name == name)


def _hook(worker: PodWorker, name: str) -> LifecycleHandler | None:
    return _container(worker, name).post_start


def _port(worker: PodWorker, name: str, handler: LifecycleHandler) -> int | None:
    """The number of an httpGet hook's port (handlers.go, resolvePort)."""
    if isinstance(handler.port, str):
        ports = _container(worker, name).ports
        return next((port.port for port in ports if port.name == handler.port), None)
    return handler.port
