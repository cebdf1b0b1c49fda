"""Load balancers as their makers know them: where they listen, which targets they found healthy and when."""

from bisect import bisect_right
from dataclasses import field

from kflab.cluster.checkpoint import Mutable
from kflab.control.lbprofiles import LbProfile
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(slots=True)
class Target(Mutable):
    """One node behind a load balancer, or one pod."""

    name: str
    """The node's name, or "namespace/name" of the pod."""
    node: str
    phase_ns: int
    """A moment at which it was checked: checks follow in whole intervals."""
    healthy: bool = False
    disagreeing: int = 0
    """Checks in a row that said the opposite of `healthy`."""
    due: bool = False
    """A check that matters is scheduled."""
    initial: bool = False
    """Registered, and no check has passed yet."""
    draining: bool = False
    """Deregistered; new flows may still come."""
    joined: int = 0
    """Number of its registration, the same name may come back."""
    pod: Key | None = None
    ip: str = ""
    """The pod's address."""
    ports: tuple[tuple[int, int], ...] = ()
    """(port of the Service, port of the pod)."""

    @property
    def state(self) -> str:
        """What AWS calls it while checks do not decide: draining or initial; "" for the others."""
        return "draining" if self.draining else "initial" if self.initial else ""


@dataclass(frozen=True, slots=True)
class ListedPod:
    """One pod among the targets at some time."""

    name: str
    node: str
    pod: Key | None
    ip: str
    ports: tuple[tuple[int, int], ...]
    healthy: bool
    state: str = ""
    """initial or draining, where it is one."""


@dataclass(slots=True)
class LoadBalancer(Mutable):
    """One Service's load balancer, or one target group of an Application Load Balancer."""

    key: Key
    """The Service; the TargetGroupBinding of a target group."""
    service: Key
    profile: LbProfile
    hostname: str
    """What the Service's status publishes; "" when it publishes an address."""
    ips: tuple[str, ...]
    """The A records behind the hostname, or the published address."""
    local: bool
    """externalTrafficPolicy Local."""
    interval_ns: int
    healthy_count: int
    unhealthy_count: int
    targets: dict[str, Target] = field(default_factory=dict)
    versions: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """(since, names of healthy targets), ascending."""
    replaced: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """With nodes as targets: (until, names of all targets), ascending; those of now are `targets`."""
    pods: list[tuple[int, tuple[ListedPod, ...]]] = field(default_factory=list)
    """With IP targets: (since, registered pods), ascending; pods come and go, unlike nodes."""
    refresh_due: bool = False
    """Targets are about to be registered or deregistered."""
    port: int = 0
    """Of a target group: the Service's port; 0: all of them."""
    joined: int = 0
    """Registrations so far."""
    gates: tuple[str, ...] = ()
    """Condition types by which its controller tells pods that their target is healthy (see `lbgates`)."""
    again_due: bool = False
    """Its controller is about to look at its targets again, because pods wait for their gate."""

    def healthy(self) -> tuple[str, ...]:
        """Targets that pass their checks now, in order of registration."""
        return tuple(target.name for target in self.targets.values() if target.healthy)

    def healthy_at(self, t_ns: int) -> tuple[str, ...]:
        """Targets that were healthy in its eyes at `t_ns`."""
        i = bisect_right(self.versions, t_ns, key=lambda version: version[0])
        return self.versions[i - 1][1] if i else ()

    def pods_at(self, t_ns: int) -> tuple[ListedPod, ...]:
        """Pods that were registered at `t_ns`."""
        i = bisect_right(self.pods, t_ns, key=lambda version: version[0])
        return self.pods[i - 1][1] if i else ()

    def registered(self) -> tuple[str, ...]:
        """All targets."""
        return tuple(self.targets)

    def registered_at(self, t_ns: int) -> tuple[str, ...]:
        """All targets at `t_ns`."""
        i = bisect_right(self.replaced, t_ns, key=lambda entry: entry[0])
        return self.replaced[i][1] if i < len(self.replaced) else self.registered()
