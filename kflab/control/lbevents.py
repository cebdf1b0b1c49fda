"""What happens to load balancers at instants of their own, and what their observers are called."""

from dataclasses import dataclass
from typing import ClassVar

from kflab.control.heap import Event
from kflab.manifest.objects import Key


@dataclass(frozen=True, slots=True)
class HealthCheck(Event):
    """A check of one target that may change something."""

    room: ClassVar[str] = "lbsync"
    balancer: Key
    target: str
    asked_ns: int
    """When it was sent; the answer, or its timeout, comes now."""


@dataclass(frozen=True, slots=True)
class TargetsRead(Event):
    """A cloud registers and deregisters targets as the slices, or the Nodes, say."""

    room: ClassVar[str] = "lbsync"
    balancer: Key


@dataclass(frozen=True, slots=True)
class TargetsReadAgain(Event):
    """The controller looks again, because pods wait for their readiness gate."""

    room: ClassVar[str] = "lbsync"
    balancer: Key


@dataclass(frozen=True, slots=True)
class TargetDrained(Event):
    """No new flow comes to a deregistered target any more."""

    room: ClassVar[str] = "lbsync"
    balancer: Key
    target: str
    joined: int


@dataclass(frozen=True, slots=True)
class DelayOver(Event):
    """A target was deregistered so long ago that its flows end."""

    room: ClassVar[str] = "lbsync"
    balancer: Key
    target: str
    node: str
    pod: Key | None


def observer_name(balancer: Key) -> str:
    """Name of a load balancer's observer."""
    return f"lb/{balancer.namespace}/{balancer.name}"
