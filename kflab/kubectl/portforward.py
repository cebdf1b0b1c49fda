"""Active port-forwards: a port of one's own machine that reaches one pod's port.

`kubectl port-forward svc/x` looks the Service up once, picks one pod, translates the Service port to that pod's port
and stays with that pod: traffic goes kubectl → API server → kubelet → the pod's network namespace, where it is
dialled as localhost. No kube-proxy rule, ClusterIP or readiness is involved, and other pods are never tried.

Source: https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/;
k8s.io/kubectl pkg/cmd/portforward/portforward.go (translateServicePortToTargetPort, one pod by
AttachablePodForObject); KEP-4006 (streaming through API server and kubelet).
"""

from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

FIRST_FREE_PORT = 40_000
"""Where the lab starts when it chooses a local port itself (`:80`); a real kernel picks any ephemeral one."""


@dataclass(frozen=True, slots=True)
class Forward:
    """localhost:`local` reaches `port` inside `pod`."""

    local: int
    pod: Key
    port: int
    uid: str = ""
    """The pod's uid when it began: a later pod of the same name is another pod."""


class Forwards:
    """All forwards of one lab, by local port."""

    def __init__(self) -> None:
        self._by_port: dict[int, Forward] = {}

    def add(self, forward: Forward) -> None:
        """Begin forwarding.

        Raises:
            KflabError: If the local port is taken.
        """
        taken = self._by_port.get(forward.local)
        if taken is not None and taken != forward:
            raise KflabError(
                f"unable to listen on port {forward.local}: address already in use "
                f"(it forwards to {taken.pod}; `port-forward` lists, `port-forward stop {forward.local}` ends it)"
            )
        self._by_port[forward.local] = forward

    def get(self, local: int) -> Forward | None:
        """The forward listening on a local port."""
        return self._by_port.get(local)

    def drop(self, local: int) -> Forward | None:
        """End the forward of a local port, as ctrl+c does or a lost pod."""
        return self._by_port.pop(local, None)

    def active(self) -> tuple[Forward, ...]:
        """All of them in order of local port."""
        return tuple(self._by_port[port] for port in sorted(self._by_port))

    def free_port(self) -> int:
        """A local port nobody listens on."""
        port = FIRST_FREE_PORT
        while port in self._by_port:
            port += 1
        return port


def container_port(pod: Pod, wanted: int | str) -> int | None:
    """A number as it is, or the number of the container port of that name; None if there is no such name."""
    if isinstance(wanted, int):
        return wanted
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        for port in container.ports:
            if port.name == wanted:
                return port.port
    return None


def remote_port(pod: Pod, service: Service | None, text: str) -> int:
    """The port inside the pod that `port-forward` means by what was typed.

    Raises:
        KflabError: In kubectl's words, if the Service or the pod has no such port.
    """
    if service is None:
        port = container_port(pod, int(text) if text.isdecimal() else text)
        if port is None:
            raise KflabError(f"Pod '{pod.meta.name}' does not have a named port '{text}'")
        return port
    for candidate in service.ports:
        if text in (str(candidate.port), candidate.name):
            if service.headless:  # a headless Service has no port of its own to translate from
                return candidate.port
            port = container_port(pod, candidate.target or candidate.port)
            if port is None:
                raise KflabError(f"Pod '{pod.meta.name}' does not have a named port '{candidate.target}'")
            return port
    if text.isdecimal():
        raise KflabError(f"Service {service.meta.name} does not have a service port {text}")
    raise KflabError(f"Service '{service.meta.name}' does not have a named port '{text}'")
