"""The start of plain pods while a cluster settles: one step instead of five, with the same times and the same end.

Before t = 0 delays are fixed and nobody looks. Of a pod that is neither initialised nor probed, has no hook, and whose
images are there, it is then known from the moment it is bound when its containers will run, when its kubelet will have
noticed, and when the API will have its status: at that instant it is brought there. Its worker is known from the
beginning, so that what comes between stops it as it stops any pod that is being started.
"""

from typing import ClassVar

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core
from kflab.control.corednspods import runs_coredns
from kflab.control.heap import KubeletEvent
from kflab.control.listening import container_ports, has_silent_container
from kflab.control.runtime import ContainerRun, Ports, open_ports
from kflab.manifest.app_annotations import DOMAIN
from kflab.manifest.objects import Key, Labels
from kflab.manifest.objects_pods import Container, ContainerStatus, Pod
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """What plain pods of one template that started at one instant have in common."""

    runs: tuple[ContainerRun, ...]
    listening: Ports
    statuses: tuple[ContainerStatus, ...]
    names: dict[str, int]
    """Position of each container by name."""


@dataclass(frozen=True, slots=True)
class PlainPodRuns(KubeletEvent):
    """A plain pod runs, its kubelet has seen that, and the API hears of it."""

    room: ClassVar[str] = "kubelet"
    key: Key
    uid: str
    running: Running
    noticed_ns: int
    """When its kubelet saw that."""


class PlainStarts(Mutable):
    """Knows which pods are plain, and what they are when they run."""

    def __init__(self, core: Core) -> None:
        self._takes_nothing = core.spans["image_pull_s"] == core.spans["app_listen_s"] == (0, 0)
        self._template: tuple[tuple[Container, ...], Labels] = ((), {})
        """Containers and annotations of the pod that was looked at last: pods of one template share them."""
        self._ports: tuple[Ports, ...] | None = None
        """What each of those containers listens on; None: such a pod is not plain."""
        self._started_ns = 0
        self._running: Running | None = None
        """The pod that was looked at last, started then."""

    def running(self, pod: Pod, started_ns: int) -> Running | None:
        """A pod's containers from `started_ns` on; None where more has to happen until it is ready."""
        spec, owner = pod.spec, pod.meta.owner
        if spec.init_containers or spec.readiness_gates or (owner is not None and owner.kind == "Job"):
            return None
        containers, annotations = self._template
        if containers is not spec.containers or annotations is not pod.meta.annotations:
            self._template = (spec.containers, pod.meta.annotations)
            self._ports = container_ports(pod, ())[0] if self._is_plain(pod) else None
            self._running = None
        if self._ports is not None and (self._running is None or self._started_ns != started_ns):
            self._started_ns, self._running = started_ns, _running(spec.containers, self._ports, started_ns)
        return self._running

    def _is_plain(self, pod: Pod) -> bool:
        return (
            self._takes_nothing
            and bool(pod.spec.containers)
            and not any(name.startswith(DOMAIN) for name in pod.meta.annotations)
            and all(c.startup is c.readiness is c.liveness is None for c in pod.spec.containers)
            and all(c.post_start is None for c in pod.spec.containers)
            and not has_silent_container(pod)
            and not runs_coredns(pod)
        )


def _running(containers: tuple[Container, ...], ports: tuple[Ports, ...], started_ns: int) -> Running:
    runs = tuple(
        ContainerRun(container.name, own, True, True, started_ns, 1)
        for container, own in zip(containers, ports, strict=True)
    )
    statuses = tuple(ContainerStatus(c.name, "running", "", True, 0, started_ns) for c in containers)
    return Running(runs, open_ports(runs), statuses, {c.name: i for i, c in enumerate(containers)})
