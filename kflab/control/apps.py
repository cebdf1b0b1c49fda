"""What befalls applications: they hang, their health endpoints fail, they exit, again and again.

Nobody is told: the kubelet finds out by its probes and its relist. What is so lasts until it is over, for a pod or for
every pod of a workload, those made meanwhile included.

Kubernetes says nothing about how applications behave; the choices are ours (M): a process that hangs (stopped, or all
its threads stuck) acts on no signal but SIGKILL and goes on where it stood still; one whose dependency is away answers
its http and grpc probes badly, and an exec probe is taken to ask for the same; a TCP connect succeeds in both cases,
because the kernel makes it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.delays import SECOND_NS
from kflab.control.facts import What
from kflab.control.heap import Event, SpellOver
from kflab.control.kubelet import Kubelet
from kflab.control.pods import owners
from kflab.control.probes import Probes
from kflab.control.runtime import ContainerRun, PodRuntime
from kflab.control.termination import Termination
from kflab.errors import KflabError
from kflab.manifest.app_annotations import ignores_sigterm
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

HUNG = "hung"
"""State of a pod (`Core.states`), for verbs."""

UNWELL = "failing its probes"

LOOPING = "crashing after each start"


@dataclass(frozen=True, slots=True)
class OfRun(Event):
    """Something that befalls one run of a container."""

    room: ClassVar[str] = "apps"
    key: Key
    uid: str
    container: str
    starts: int


@dataclass(frozen=True, slots=True)
class Resumes(OfRun):
    """A process that hung goes on."""


@dataclass(frozen=True, slots=True)
class Recovers(SpellOver):
    """Health endpoints answer again."""

    room: ClassVar[str] = "apps"


@dataclass(frozen=True, slots=True)
class LoopOver(SpellOver):
    """Containers stay up from now on."""

    room: ClassVar[str] = "apps"


@dataclass(frozen=True, slots=True)
class RegistryBack(Event):
    """Registries answer again; `number` tells outages apart."""

    room: ClassVar[str] = "apps"
    number: int


@dataclass(frozen=True, slots=True)
class LoopExit(OfRun):
    """A container that cannot stay up exits."""


@dataclass(frozen=True, slots=True)
class Loop:
    """How containers crash."""

    after_ns: int
    exit_code: int
    number: int


class Apps(Controller):
    """Ground truth of the applications in the pods."""

    room = "apps"

    def __init__(self, core: Core, kubelet: Kubelet, termination: Termination, probes: Probes) -> None:
        super().__init__(core)
        self.kubelet, self.termination, self.probes = kubelet, termination, probes
        self._loops: dict[Key, Loop] = {}
        """Pod or workload → how its containers crash."""
        self._doomed: dict[tuple[Key, str], int] = {}
        """(pod, container) → the start whose end is due."""
        self._number = 0
        self._registry_down = 0
        """Number of the present outage; 0: they answer."""

    def handle(self, event: Event) -> None:
        """Something is over, or happens again."""
        match event:
            case Resumes(key, uid, container, starts):
                ground = self.core.runtime.get(key)
                if ground is not None and ground.uid == uid:
                    run = ground.container(container)
                    if run.hung and run.starts == starts:
                        self.resume(key, container)
            case Recovers(key, number):
                if self.core.failing.get(key, ((), 0))[1] == number:
                    self.recover(key)
            case LoopOver(key, number):
                if key in self._loops and self._loops[key].number == number:
                    self.end_loop(key)
            case RegistryBack(number):
                if self._registry_down == number:
                    self.registry_up()
            case LoopExit(key, uid, container, starts):
                self._loop_exit(key, uid, container, starts)

    # --- hanging --------------------------------------------------------------------------------------------

    def running(self, pod: Key, container: str = "") -> tuple[PodRuntime, ContainerRun]:
        """A pod's ground truth and a container that runs; "": the first of the spec that does.

        Raises:
            KflabError: When there is none.
        """
        ground, obj = self.core.runtime.get(pod), self.core.store.get(pod)
        names = [c.name for c in (*obj.spec.containers, *obj.spec.init_containers)] if isinstance(obj, Pod) else []
        up = [run for run in ground.containers if run.up] if ground is not None else []
        up.sort(key=lambda run: names.index(run.name) if run.name in names else len(names))
        found = next((run for run in up if container in ("", run.name)), None)
        if ground is None or found is None:
            raise KflabError(
                f"no running container{f' {container}' if container else ''} in pod {pod.namespace}/{pod.name}"
            )
        return ground, found

    def hang(self, pod: Key, container: str = "", for_ns: int | None = None) -> None:
        """Let a container's process stand still.

        Args:
            pod: The pod.
            container: Which container; "": the first.
            for_ns: How long; None: until it is killed or resumed.

        Raises:
            KflabError: When no such container runs, it hangs already, or it is NGINX's.
        """
        if f"ingress/{pod.namespace}/{pod.name}" in self.core.observers:
            raise KflabError(
                f"{pod.name} is an ingress controller: how NGINX hangs is not modelled; crash or delete it"
            )
        ground, run = self.running(pod, container)
        if run.hung:
            raise KflabError(f"{run.name} of {pod.name} hangs already")
        self._set(ground, replace(run, hung=True))
        if run.killed_ns is not None:
            self.termination.sigkill_at(pod, ground.uid, run, run.killed_ns)
        self.core.mark(pod, HUNG)
        after = self.core.runtime[pod]
        text = f"{run.name} of {pod.name} stands still; its kernel still makes connections"
        self.core.fact(What.PROCESS_HUNG, pod, f"node {ground.node}", text, ports=after.hanging)
        self._recheck(pod)
        if for_ns is not None:
            self.core.push(for_ns, Resumes(pod, ground.uid, run.name, run.starts))

    def resume(self, pod: Key, container: str = "") -> None:
        """Let a process that hangs go on.

        Raises:
            KflabError: When none does.
        """
        ground = self.core.runtime.get(pod)
        hung = [run for run in (ground.containers if ground is not None else ()) if run.hung]
        run = next((run for run in hung if container in ("", run.name)), None)
        if ground is None or run is None:
            raise KflabError(f"nothing hangs in pod {pod.namespace}/{pod.name}")
        self._set(ground, replace(run, hung=False))
        after = self.core.runtime[pod]
        text = f"{run.name} of {pod.name} goes on where it stood still"
        self.core.fact(What.PROCESS_RESUMED, pod, f"node {ground.node}", text, ports=after.hanging)
        self._recheck(pod)
        self.probes.answered(pod, run.name)
        worker = self.kubelet.status.worker(pod, ground.uid)
        if run.killed_ns is not None and worker is not None and not ignores_sigterm(worker.annotations):
            self.termination.acts_on_sigterm(pod, ground.uid, run)

    def _set(self, ground: PodRuntime, run: ContainerRun) -> None:
        self.core.set_ground(ground.key, ground.with_runs(run))

    def _recheck(self, pod: Key) -> None:
        worker = self.kubelet.status.workers.get(pod)
        if worker is not None:
            self.probes.recheck(worker)

    # --- health endpoints -----------------------------------------------------------------------------------

    def fail_probes(self, key: Key, kinds: Sequence[str], for_ns: int | None) -> None:
        """Let health endpoints answer 503 from now on.

        Args:
            key: A pod or a workload.
            kinds: Which probes fail: readiness, liveness, startup.
            for_ns: How long; None: until `recover`.

        Raises:
            KflabError: When they do already.
        """
        if key in self.core.failing:
            raise KflabError(f"{key.name} fails its probes already")
        self._number += 1
        self.core.failing[key] = (tuple(kinds), self._number)
        self.core.mark(key, UNWELL)
        text = f"the {' and '.join(kinds)} endpoint of {key.name} answers 503 from now on"
        self.core.fact(What.PROBES_FAIL, key, "application", text)
        self._recheck_all(key)
        if for_ns is not None:
            self.core.push(for_ns, Recovers(key, self._number))

    def recover(self, key: Key) -> None:
        """Let health endpoints answer 200 again.

        Raises:
            KflabError: When they do.
        """
        if self.core.failing.pop(key, None) is None:
            raise KflabError(f"{key.name} does not fail its probes")
        self.core.unmark(key, UNWELL)
        self.core.fact(What.PROBES_PASS, key, "application", f"the health endpoints of {key.name} answer 200 again")
        self._recheck_all(key)

    def _recheck_all(self, key: Key) -> None:
        for worker in list(self.kubelet.status.workers.values()):
            if key in owners(self.core, worker.key):
                self.probes.recheck(worker)

    # --- registries -----------------------------------------------------------------------------------------

    def registry_goes_down(self, for_ns: int | None) -> None:
        """Let no registry answer from now on.

        Raises:
            KflabError: When none does already.
        """
        if self._registry_down:
            raise KflabError("the registries are down already")
        self._number += 1
        self._registry_down = self._number
        self.probes.start.images.registry_down = True
        self.core.fact(What.PROBES_FAIL, Key("", "", ""), "registry", "no image registry answers from now on")
        if for_ns is not None:
            self.core.push(for_ns, RegistryBack(self._number))

    def registry_up(self) -> None:
        """Let registries answer again.

        Raises:
            KflabError: When they do.
        """
        if not self._registry_down:
            raise KflabError("the registries answer")
        self._registry_down = 0
        self.probes.start.images.registry_down = False
        self.core.fact(What.PROBES_PASS, Key("", "", ""), "registry", "image registries answer again")

    # --- exiting --------------------------------------------------------------------------------------------

    def exit(self, pod: Key, exit_code: int, reason: str = "", container: str = "") -> None:
        """Let a container's process end now.

        Raises:
            KflabError: When no such container runs.
        """
        ground, run = self.running(pod, container)
        why = f" ({reason})" if reason else ""
        self.kubelet.containers_exited(pod, (run.name,), exit_code, why, reason)
        self.termination.gone_if_done(pod, ground.uid)

    def loop(self, key: Key, after_ns: int, exit_code: int, for_ns: int | None) -> None:
        """Let containers exit `after_ns` after each start, those that run now after as long from now.

        Args:
            key: A pod or a workload; of each pod the first container.
            after_ns: From start to exit, ns.
            exit_code: Their exit code.
            for_ns: How long this goes on; None: until `end_loop`.

        Raises:
            KflabError: When they do already.
        """
        if key in self._loops:
            raise KflabError(f"{key.name} crashes after each start already")
        self._number += 1
        self._loops[key] = Loop(after_ns, exit_code, self._number)
        self.core.mark(key, LOOPING)
        text = f"containers of {key.name} exit {after_ns / SECOND_NS:g} s after each start from now on"
        self.core.fact(What.PROBES_FAIL, key, "application", text)
        for pod in list(self.core.runtime):
            self.ground_changed(pod)
        if for_ns is not None:
            self.core.push(for_ns, LoopOver(key, self._number))

    def end_loop(self, key: Key) -> None:
        """Let containers stay up again.

        Raises:
            KflabError: When they do.
        """
        if self._loops.pop(key, None) is None:
            raise KflabError(f"{key.name} does not crash after each start")
        self.core.unmark(key, LOOPING)
        self._doomed = {name: starts for name, starts in self._doomed.items() if self._loop_of(name[0])}
        self.core.fact(What.PROBES_PASS, key, "application", f"containers of {key.name} stay up from now on")

    def _loop_of(self, pod: Key) -> Loop | None:
        return next((self._loops[key] for key in owners(self.core, pod) if key in self._loops), None)

    def ground_changed(self, key: Key) -> None:
        """A container may have started that is to exit soon; a process that hung may be gone."""
        ground = self.core.runtime.get(key)
        if HUNG in self.core.states.get(key, ()) and not (ground and any(run.hung for run in ground.containers)):
            self.core.unmark(key, HUNG)
        if not self._loops:
            return
        loop = self._loop_of(key)
        pod = self.core.store.get(key)
        if loop is None or ground is None or not isinstance(pod, Pod) or not pod.spec.containers:
            return
        name = pod.spec.containers[0].name
        run = ground.container(name)
        if run.up and self._doomed.get((key, name)) != run.starts:
            self._doomed[key, name] = run.starts
            self.core.push(loop.after_ns, LoopExit(key, ground.uid, name, run.starts))

    def _loop_exit(self, key: Key, uid: str, name: str, starts: int) -> None:
        loop, ground = self._loop_of(key), self.core.runtime.get(key)
        if loop is None or ground is None or ground.uid != uid or self._doomed.get((key, name)) != starts:
            return
        if ground.container(name).up and ground.container(name).starts == starts:
            self.kubelet.containers_exited(key, (name,), loop.exit_code, "")
            self.termination.gone_if_done(key, uid)
