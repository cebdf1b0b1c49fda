"""A node whose container runtime hangs: its CRI calls are not answered. Processes and their traffic go on.

Nothing is started, stopped or noticed on the node: pods that come wait, pods that are deleted stay Terminating, a
container that crashes stays down. Leases are renewed and probes by HTTP, gRPC and TCP go on; a command waits in the
runtime and its error is thrown away. Once the kubelet calls the runtime unhealthy its sync loop stands still, so that
results of probes do not reach the API any more, and its node status says NotReady. The node lifecycle controller marks
only pods of nodes that are *Unknown* not ready, so Services keep their endpoints; five minutes later it evicts the pods
(toleration of node.kubernetes.io/not-ready), which takes their endpoints away and ends none of their containers.

Unhealthy is the runtime when its status was not had for 30 s, or when the PLEG could not list pods for 3 min, as where
the state of one container hangs and the runtime's status is answered.

Source: k8s.io/kubernetes pkg/kubelet/runtime.go (runtimeErrors), kubelet.go (updateRuntimeUp, syncLoop,
syncLoopIteration, maxWaitForContainerRuntime), pleg/generic.go (Healthy), nodestatus/setters.go (ReadyCondition),
prober/worker.go (doProbe), pkg/controller/nodelifecycle/node_lifecycle_controller.go (monitorNodeHealth).
Simplified: where listing alone hangs, pods are not started or stopped either.
"""

from typing import ClassVar

from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, KubeletEvent, SpellOver
from kflab.control.kubelet import Kubelet
from kflab.control.machine import HungRuntime, Machine
from kflab.control.nodelife import PostNodeStatus
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.records import dataclass

RUNTIME_HANGS = "runtime hangs"
"""State of a node (`Core.states`), for verbs."""


@dataclass(frozen=True, slots=True)
class RuntimeUnwell(KubeletEvent):
    """A kubelet works out its node's conditions and finds the runtime unhealthy."""

    room: ClassVar[str] = "noderuntimes"
    number: int


@dataclass(frozen=True, slots=True)
class SyncLoopGoesOn(KubeletEvent):
    """A kubelet's sync loop wakes up and finds the runtime healthy."""

    room: ClassVar[str] = "noderuntimes"
    hung: HungRuntime


@dataclass(frozen=True, slots=True)
class RuntimeAnswers(SpellOver):
    """A runtime has hung for as long as it was to."""

    room: ClassVar[str] = "noderuntimes"


class NodeRuntimes(Controller):
    """Lets container runtimes hang, and kubelets find out."""

    room = "noderuntimes"

    def __init__(self, core: Core, kubelet: Kubelet) -> None:
        super().__init__(core)
        self.kubelet = kubelet
        self._number = 0

    def hang(self, node: str, for_ns: int | None, *, listing_only: bool) -> None:
        """Let a node's runtime answer nothing from now on, or only its own status.

        Raises:
            KflabError: When it hangs already, or the node has no power.
        """
        core, now = self.core, self.core.now_ns
        if node in core.runtimes:
            raise KflabError(f"the container runtime of {node} hangs already")
        if not core.machines.get(node, Machine()).powered:
            raise KflabError(f"node {node} has no power")
        self._number += 1
        if listing_only:
            pleg = self.kubelet.pleg
            unwell = pleg.next_look(node, now) - pleg.period + core.spans["pleg_unhealthy_s"][0]
        else:
            unwell = self._last_tick(node, "runtime_status_s") + core.spans["runtime_down_s"][0]
        unwell = max(unwell, now)
        core.runtimes[node] = HungRuntime(self._number, now, unwell, listing_only)
        key = Key("Node", "", node)
        core.mark(key, RUNTIME_HANGS)
        what = "answers its status and nothing else" if listing_only else "answers nothing any more"
        core.fact(What.RUNTIME_HUNG, key, f"node {node}", f"the container runtime of {node} {what}")
        self._report(node, unwell)
        for worker in self.kubelet.status.workers.values():
            if worker.node == node:
                self.kubelet.probes.recheck(worker)  # of what has ended and was not noticed yet
        if for_ns is not None:
            core.push(for_ns, RuntimeAnswers(key, self._number))

    def _last_tick(self, node: str, delay: str, t_ns: int | None = None) -> int:
        """When something that a kubelet does every so often was done last, now or at an instant."""
        period, now = max(1, self.core.spans[delay][0]), self.core.now_ns if t_ns is None else t_ns
        phase = self.core.draws.control_between(f"{delay}-phase", node, 0, 0, period)
        return now - (now - phase) % period

    def _next_status(self, node: str, t_ns: int) -> int:
        """When a kubelet works out its node's conditions next, at or after an instant."""
        return self._last_tick(node, "node_status_s", t_ns - 1) + max(1, self.core.spans["node_status_s"][0])

    def _report(self, node: str, unwell_ns: int) -> None:
        event = RuntimeUnwell(node, self.core.runtimes[node].number)
        self.core.push_at(self._next_status(node, unwell_ns), event)

    def kubelet_started(self, node: str) -> None:
        """A kubelet that starts has never had an answer: the runtime is unhealthy to it from the beginning."""
        hung = self.core.runtimes.get(node)
        if hung is not None and self.core.now_ns < hung.unwell_ns:
            hung.unwell_ns = self.core.now_ns
            self._report(node, self.core.now_ns)

    def answer(self, node: str) -> None:
        """The runtime answers again, calls that waited first.

        Raises:
            KflabError: When it does not hang.
        """
        core, now = self.core, self.core.now_ns
        hung = core.runtimes.pop(node, None)
        if hung is None:
            raise KflabError(f"the container runtime of {node} does not hang")
        key = Key("Node", "", node)
        core.unmark(key, RUNTIME_HANGS)
        core.fact(What.RUNTIME_ANSWERS, key, f"node {node}", f"the container runtime of {node} answers again")
        wait = 0
        if hung.unwell_ns <= now:  # the loop sleeps, each time twice as long, and looks again
            longest = core.spans["sync_loop_backoff_max_s"][0]
            wait = core.draws.control_between("sync-loop", node, hung.number, 0, longest + 1)
            core.push_at(self._next_status(node, now), PostNodeStatus(node))
        core.push(wait, SyncLoopGoesOn(node, hung))

    def handle(self, event: Event) -> None:
        """A kubelet finds out, or all goes on."""
        core = self.core
        match event:
            case RuntimeUnwell(node, number):
                hung = core.runtimes.get(node)
                if hung is not None and hung.number == number:
                    core.push(0, PostNodeStatus(node, "False", _why(hung)))
            case RuntimeAnswers(key, number):
                hung = core.runtimes.get(key.name)
                if hung is not None and hung.number == number:
                    self.answer(key.name)
            case SyncLoopGoesOn(node, hung):
                for waited in hung.held:
                    core.push(0, waited)
                for worker in self.kubelet.status.workers.values():
                    if worker.node == node:
                        self.kubelet.probes.sync_loop_goes_on(worker)


def _why(hung: HungRuntime) -> str:
    return "PLEG is not healthy" if hung.listing_only else "container runtime is down"
