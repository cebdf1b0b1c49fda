"""Ports of the nodes' own addresses: two pods of a node cannot both have one.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins/nodeports/node_ports.go, framework/types.go (HostPortInfo),
pkg/scheduler/util/utils.go (GetHostPorts: of containers and sidecars). A container that is on the host's network has
its containerPorts as host ports (pkg/apis/core/v1/defaults.go).
"""

from collections.abc import Iterable, Sequence

from kflab.cluster.checkpoint import Mutable
from kflab.manifest.objects_pods import Pod, PodSpec

TAKEN = "node(s) didn't have free ports for the requested pod ports"

ANY = "0.0.0.0"

HostPort = tuple[str, int, str]
"""Protocol, port, address of the node; `ANY` for all of them."""


def host_ports(spec: PodSpec) -> tuple[HostPort, ...]:
    """What a pod takes of a node."""
    found = [
        (port.protocol, port.host_port, port.host_ip or ANY)
        for container in spec.containers for port in container.ports if port.host_port
    ]  # fmt: skip
    found += [
        (port.protocol, port.host_port, port.host_ip or ANY)
        for container in spec.init_containers if container.restart_policy == "Always"
        for port in container.ports if port.host_port
    ]  # fmt: skip
    return tuple(found)


def conflict(one: HostPort, other: HostPort) -> bool:
    """Whether two pods of a node cannot have these (HostPortInfo.CheckConflict)."""
    return one[:2] == other[:2] and (one[2] == other[2] or ANY in (one[2], other[2]))


class HostPorts(Mutable):
    """Host ports that are taken, node by node."""

    def __init__(self) -> None:
        self._taken: dict[str, dict[HostPort, int]] = {}
        self._read: tuple[PodSpec, tuple[HostPort, ...]] = (PodSpec(), ())
        """The spec that was looked at last, and its ports: pods of one template share it."""

    def of(self, pod: Pod) -> tuple[HostPort, ...]:
        """What a pod takes."""
        spec, read = pod.spec, self._read[0]
        if spec.containers is not read.containers or spec.init_containers is not read.init_containers:
            self._read = (spec, host_ports(spec))
        return self._read[1]

    def take(self, pod: Pod, node: str, step: int) -> None:
        """A pod was bound to a node (1), or left it (-1)."""
        for port in self.of(pod):
            taken = self._taken.setdefault(node, {})
            taken[port] = taken.get(port, 0) + step
            if taken[port] <= 0:
                del taken[port]

    def free(self, node: str, wanted: Sequence[HostPort], gone: Iterable[Pod] = (), beside: Iterable[Pod] = ()) -> bool:
        """Whether a node has ports left, if some pods were gone and others were there."""
        left = dict(self._taken.get(node, ()))
        for pod in gone:
            for port in host_ports(pod.spec):
                left[port] = left.get(port, 0) - 1
        for pod in beside:
            for port in host_ports(pod.spec):
                left[port] = left.get(port, 0) + 1
        return not any(count > 0 and conflict(port, own) for port, count in left.items() for own in wanted)
