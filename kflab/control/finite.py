"""Applications that run to their end: each container exits by itself some time after it started.

How long and with which code a manifest does not say: annotations do (kflab.dev/runs-for, kflab.dev/exit-code), and a
Job's pods without them run as long as the delay `job_run_s` has it and end with 0. Told to end before (SIGTERM), they
exit with 143, 128 + 15, as a process without a handler does: the work is not done. All are our choices (M).
"""

from typing import ClassVar

from kflab.control.core import Controller, Core, address_of
from kflab.control.heap import Event
from kflab.control.kubelet import Kubelet
from kflab.control.pods import works_to_an_end
from kflab.control.termination import Termination
from kflab.manifest.app_annotations import exit_code_of, runs_for_ns
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

SHARE_BITS = 53
"""Of 64 random bits so many decide whether a run fails."""


@dataclass(frozen=True, slots=True)
class RunsOut(Event):
    """A container has done its work."""

    room: ClassVar[str] = "finite"
    key: Key
    uid: str
    container: str
    starts: int


class Finite(Controller):
    """Ends containers that do not run for ever."""

    room = "finite"

    def __init__(self, core: Core, kubelet: Kubelet, termination: Termination) -> None:
        super().__init__(core)
        self.kubelet, self.termination = kubelet, termination
        self._timed: dict[tuple[Key, str], tuple[str, int]] = {}
        """(pod, container) → (uid, start) whose end is due."""

    def ground_changed(self, key: Key) -> None:
        """A container may have started that is to end by itself."""
        ground, pod = self.core.runtime.get(key), self.core.store.get(key)
        if ground is None or not isinstance(pod, Pod):
            for at in [at for at in self._timed if at[0] == key] if self._timed else ():
                del self._timed[at]
            return
        if not works_to_an_end(pod):
            return
        for container in pod.spec.containers:
            run = ground.container(container.name)
            at, start = (key, container.name), (ground.uid, run.starts)
            if run.up and self._timed.get(at) != start:
                self._timed[at] = start
                own = runs_for_ns(pod.meta.annotations)
                takes = self.core.delay("job_run_s", key) if own is None else own
                self.core.push(takes, RunsOut(key, ground.uid, container.name, run.starts))

    def handle(self, event: Event) -> None:
        """The process exits, if it is still that one and does not hang."""
        assert isinstance(event, RunsOut)
        ground, pod = self.core.runtime.get(event.key), self.core.store.get(event.key)
        if ground is None or ground.uid != event.uid:
            return
        run = ground.container(event.container)
        if not run.up or run.hung or run.starts != event.starts:
            return
        code, share = exit_code_of(pod.meta.annotations) if isinstance(pod, Pod) else (0, 1.0)
        if code and share < 1:
            drawn = self.core.bits("run-fails", address_of(event.key)) >> (64 - SHARE_BITS)
            code = code if drawn < share * (1 << SHARE_BITS) else 0
        self.kubelet.containers_exited(event.key, (event.container,), code, "", done=not code)
        self.termination.gone_if_done(event.key, event.uid)
