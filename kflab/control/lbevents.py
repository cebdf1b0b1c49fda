"""What happens to load balancers at instants of their own, and what their observers are called."""

from typing import ClassVar

from kflab.control.heap import Event
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class LbEvent(Event):
    """Something that happens to one load balancer."""

    room: ClassVar[str] = "lbsync"
    balancer: Key


@dataclass(frozen=True, slots=True)
class HealthCheck(LbEvent):
    """A check of one target that may change something."""

    target: str
    asked_ns: int
    """When it was sent; the answer, or its timeout, comes now."""


@dataclass(frozen=True, slots=True)
class TargetsRead(LbEvent):
    """A cloud registers and deregisters targets as the slices, or the Nodes, say."""


@dataclass(frozen=True, slots=True)
class TargetsReadAgain(LbEvent):
    """The controller looks again, because pods wait for their readiness gate."""


@dataclass(frozen=True, slots=True)
class TargetDrained(LbEvent):
    """No new flow comes to a deregistered target any more."""

    target: str
    joined: int


@dataclass(frozen=True, slots=True)
class DelayOver(LbEvent):
    """A target was deregistered so long ago that its flows end."""

    target: str
    node: str
    pod: Key | None


def observer_name(balancer: Key) -> str:
    """Name of a load balancer's observer."""
    return f"lb/{balancer.namespace}/{balancer.name}"
