"""What listens where: which ports a pod's containers answer on.

A container listens on the containerPorts it declares and the ports its probes name. Declaring none, it listens on
the numeric targetPorts of the Services that select its pod: assumed. The annotation `kflab.dev/listens` on the pod
(its template) overrides all of it. Anything else refuses. Kubernetes itself says nothing about listeners:
containerPort "is primarily informational" (API reference, Container.ports).
"""

from collections.abc import Iterable

from kflab.control.runtime import Ports
from kflab.errors import KflabError
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Container, Pod, PodSpec, Probe

ANNOTATION = "kflab.dev/listens"
"""Value: "8080,9090/UDP"; empty: nothing listens."""


def running_containers(spec: PodSpec) -> tuple[Container, ...]:
    """Containers that run while the pod does: sidecars (restartable init containers) first."""
    if not spec.init_containers:
        return spec.containers
    return (*(c for c in spec.init_containers if c.restart_policy == "Always"), *spec.containers)


def main_container(spec: PodSpec) -> str:
    """Name of the container that is the application: the first that is no sidecar."""
    return spec.containers[0].name if spec.containers else ""


def read_annotation(text: str) -> Ports:
    """Ports of the annotation's value.

    Raises:
        KflabError: When a part is no port number with an optional /TCP, /UDP or /SCTP.
    """
    found: set[tuple[str, int]] = set()
    for part in text.split(","):
        number, _, protocol = part.strip().partition("/")
        if not number and not protocol:
            continue
        protocol = protocol.strip().upper() or "TCP"
        if not number.strip().isdigit() or not 0 < int(number) < 65536 or protocol not in ("TCP", "UDP", "SCTP"):
            raise KflabError(f'{ANNOTATION}: {part.strip()!r} is no port; write for example "8080,9090/UDP"')
        found.add((protocol, int(number)))
    return tuple(sorted(found))


def probe_port(container: Container, probe: Probe) -> int | None:
    """The number of a probe's port; a name means one of the container's own ports. None: it has no port."""
    if isinstance(probe.port, str):
        return next((port.port for port in container.ports if port.name == probe.port), None)
    return probe.port


def declared_ports(container: Container) -> Ports:
    """What a container says it listens on: containerPorts and the ports of its probes."""
    if len(container.ports) == 1 and container.readiness is container.liveness is container.startup is None:
        only = container.ports[0]
        return ((only.protocol, only.port),)
    found = {(port.protocol, port.port) for port in container.ports}
    for probe in (container.readiness, container.liveness, container.startup):
        port = probe_port(container, probe) if probe is not None and probe.action != "exec" else None
        if port is not None and ("TCP", port) not in found:
            found.add(("TCP", port))
    return tuple(sorted(found))


def container_ports(pod: Pod, services: Iterable[Service]) -> tuple[tuple[Ports, ...], bool]:
    """What each running container of a pod listens on once it has started.

    Args:
        pod: The pod.
        services: Services that select it; only asked when a container declares nothing.

    Returns:
        Ports per container, in the order of `running_containers`, and whether any of them is only assumed.
    """
    containers = running_containers(pod.spec)
    override = pod.meta.annotations.get(ANNOTATION)
    if override is not None:
        try:
            wanted = read_annotation(override)
        except KflabError:
            wanted = ()
        main = next((i for i, c in enumerate(containers) if c.restart_policy != "Always"), 0)
        return tuple(wanted if i == main else () for i in range(len(containers))), False
    ports = [declared_ports(container) for container in containers]
    if all(ports):
        return tuple(ports), False
    silent = [i for i, own in enumerate(ports) if not own]
    claimed = {port for own in ports for port in own}
    wished = {
        (port.protocol, port.target)
        for service in services
        for port in service.ports
        if isinstance(port.target, int) and port.target > 0
    }
    assumed = tuple(sorted(wished - claimed))
    if assumed:
        first = next((i for i in silent if containers[i].restart_policy != "Always"), silent[0])
        ports[first] = assumed
    return tuple(ports), bool(assumed)


def has_silent_container(pod: Pod) -> bool:
    """Whether Services decide what some container of the pod listens on."""
    if ANNOTATION in pod.meta.annotations:
        return False
    return any(not declared_ports(container) for container in running_containers(pod.spec))
