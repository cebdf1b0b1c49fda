"""Init containers that fail: which exit code they end with, and what the kubelet does then.

One that fails is started again as a crashed container is: at once, then after a back-off of 10 s that doubles to 5 min
(kubectl: Init:Error, Init:CrashLoopBackOff); what comes after it does not start. With restartPolicy Never the pod has
failed for good. Source: k8s.io/kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go
(computeInitContainerActions), pkg/kubelet/kubelet_pods.go (getPhase).
"""

from dataclasses import replace
from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.crash_backoff import retry_after, wait_before_restart
from kflab.control.facts import What
from kflab.control.heap import Event, PodEvent, SpellOver
from kflab.control.pods import owners
from kflab.control.status import PodWorker, StatusManager
from kflab.errors import KflabError
from kflab.manifest.app_annotations import init_exit_code
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

FAILING = "init containers fail"
"""State of a pod or workload (`Core.states`), for verbs."""


@dataclass(frozen=True, slots=True)
class RetryInit(PodEvent):
    """The pod worker tries again after a sync that failed because an init container is in back-off."""

    room: ClassVar[str] = "podstart"
    needs_runtime: ClassVar[bool] = True
    step: int
    restarts: int
    """Of the run that failed."""


@dataclass(frozen=True, slots=True)
class InitsEndWell(SpellOver):
    """Init containers of an object end well again."""

    room: ClassVar[str] = "initfailures"


@dataclass(frozen=True, slots=True)
class Failing:
    """How init containers of a pod or workload end for now."""

    code: int
    container: str
    """Which one; "": all."""
    number: int


class InitFailures(Controller):
    """Knows which init containers fail, and lets them wait for their next run."""

    room = "initfailures"

    def __init__(self, core: Core, status: StatusManager) -> None:
        super().__init__(core)
        self.status = status
        self._failing: dict[Key, Failing] = {}
        self._number = 0

    def handle(self, event: Event) -> None:
        """They end well again."""
        assert isinstance(event, InitsEndWell)
        if event.key in self._failing and self._failing[event.key].number == event.number:
            self.end_well(event.key)

    # --- what befalls them ----------------------------------------------------------------------------------

    def fail(self, key: Key, code: int, container: str, for_ns: int | None) -> None:
        """Let init containers end with a code from now on.

        Args:
            key: A pod or a workload.
            code: Exit code, 1 to 255.
            container: Which one; "": all.
            for_ns: How long; None: until `end_well`.

        Raises:
            KflabError: When they do already, or there is no such init container.
        """
        if key in self._failing:
            raise KflabError(f"init containers of {key.name} fail already")
        obj = self.core.store.get(key)
        spec = obj.spec if isinstance(obj, Pod) else getattr(getattr(obj, "template", None), "spec", None)
        names = [c.name for c in spec.init_containers if c.restart_policy != "Always"] if spec is not None else []
        if not names or container not in ("", *names):
            has = f"it has {', '.join(names)}" if names else "it has none"
            raise KflabError(f"{key.name} has no init container{f' {container}' if container else ''}: {has}")
        self._number += 1
        self._failing[key] = Failing(code, container, self._number)
        self.core.mark(key, FAILING)
        what = f"init container {container}" if container else "init containers"
        self.core.fact(What.PROBES_FAIL, key, "application", f"{what} of {key.name} exit with {code} from now on")
        if for_ns is not None:
            self.core.push(for_ns, InitsEndWell(key, self._number))

    def end_well(self, key: Key) -> None:
        """Let init containers end well again.

        Raises:
            KflabError: When they do.
        """
        if self._failing.pop(key, None) is None:
            raise KflabError(f"init containers of {key.name} end well")
        self.core.unmark(key, FAILING)
        text = f"init containers of {key.name} end well from now on"
        self.core.fact(What.PROBES_PASS, key, "application", text)

    def code(self, worker: PodWorker, name: str) -> int:
        """With which code an init container of a pod ends now."""
        for owner in owners(self.core, worker.key):
            failing = self._failing.get(owner)
            if failing is not None and failing.container in ("", name):
                return failing.code
        return init_exit_code(worker.annotations, name)

    # --- what the kubelet does ------------------------------------------------------------------------------

    def failed(self, worker: PodWorker, name: str, code: int, ended_ns: int) -> bool:
        """The kubelet finds that an init container ended with a code that is not 0; whether it is to run again now."""
        by = f"kubelet {worker.node}"
        text = f"kubelet on {worker.node} noticed that init container {name} of {worker.key.name} exited ({code})"
        self.core.fact(What.KUBELET_NOTICED, worker.key, by, text)
        worker.inits[name] = replace(
            worker.inits[name], state="terminated", reason="Error", ready=False, finished_ns=ended_ns,
            exit_code=code,
        )  # fmt: skip
        self.status.write_soon(worker)
        return worker.spec.restart_policy != "Never" and self._may_run(worker, name, retry=False)

    def retry(self, worker: PodWorker, event: RetryInit) -> bool:
        """A retry of the sync is due; whether the init container is to run again now."""
        name = worker.spec.init_containers[event.step].name
        status = worker.inits.get(name)
        due = status is not None and status.state != "running" and status.restarts == event.restarts
        return due and worker.start_step == event.step and self._may_run(worker, name, retry=True)

    def _may_run(self, worker: PodWorker, name: str, *, retry: bool) -> bool:
        status = worker.inits[name]
        finished = status.finished_ns or self.core.now_ns
        if retry and status.state != "waiting":
            # The reason of a failed sync shows in the status that the next sync writes before it does anything.
            worker.inits[name] = replace(status, state="waiting", reason="CrashLoopBackOff")
            self.status.write_soon(worker)
        waits = wait_before_restart(self.core, worker, name, finished)
        if not waits:
            return True
        if not retry:
            text = f"kubelet on {worker.node} waits {waits / 1e9:g} s before it restarts {name} of {worker.key.name}"
            self.core.fact(What.BACK_OFF, worker.key, f"kubelet {worker.node}", text, detail=name)
        event = RetryInit(worker.node, worker.key, worker.uid, worker.start_step, status.restarts)
        self.core.push(retry_after(self.core, worker, finished, waits), event)
        return False
