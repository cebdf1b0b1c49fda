"""Cloud load balancers as the cloud knows them: where they listen, which targets they found healthy and when."""

from bisect import bisect_right
from dataclasses import dataclass, field

from kflab.cluster.checkpoint import Mutable
from kflab.manifest.objects import Key


@dataclass(slots=True)
class Target(Mutable):
    """One node behind a load balancer."""

    node: str
    phase_ns: int
    """A moment at which it was checked: checks follow in whole intervals."""
    healthy: bool = False
    disagreeing: int = 0
    """Checks in a row that said the opposite of `healthy`."""
    due: bool = False
    """A check that matters is scheduled."""


@dataclass(slots=True)
class LoadBalancer(Mutable):
    """An AWS NLB with instance targets, the first profile."""

    service: Key
    hostname: str
    """What the Service's status publishes; "" when it publishes an address."""
    ips: tuple[str, ...]
    """The A records behind the hostname, or the published address."""
    local: bool
    """Checked by healthCheckNodePort (externalTrafficPolicy Local)."""
    interval_ns: int
    healthy_count: int
    unhealthy_count: int
    targets: dict[str, Target] = field(default_factory=dict)
    versions: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """(since, healthy nodes), ascending."""

    def healthy(self) -> tuple[str, ...]:
        """Nodes that pass their checks now, in order of registration."""
        return tuple(target.node for target in self.targets.values() if target.healthy)

    def healthy_at(self, t_ns: int) -> tuple[str, ...]:
        """Nodes that were healthy in its eyes at `t_ns`."""
        i = bisect_right(self.versions, t_ns, key=lambda version: version[0])
        return self.versions[i - 1][1] if i else ()

    def registered(self) -> tuple[str, ...]:
        """All target nodes."""
        return tuple(self.targets)
