"""What is so with the machine under a node. Machines that are well are not listed anywhere."""

from dataclasses import field

from kflab.cluster.checkpoint import Mutable
from kflab.control.heap import Event
from kflab.records import dataclass

LINKS = ("network", "control")
"""What a partition may cut: every packet of the node, or only what kubelet and kube-proxy say to the API server."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Ground truth of one machine."""

    powered: bool = True
    exists: bool = True
    """False: the cloud has deleted the virtual machine."""
    control: bool = True
    """kubelet and kube-proxy reach the API server."""
    network: bool = True
    """Packets of its own and of its pods pass to and from other machines."""
    since_ns: int = 0
    """Since when it does not talk to the API server."""

    @property
    def talks(self) -> bool:
        """Whether kubelet and kube-proxy, if they run, reach the API server."""
        return self.powered and self.control

    @property
    def reachable(self) -> bool:
        """Whether packets from elsewhere reach it."""
        return self.powered and self.network

    @property
    def well(self) -> bool:
        """Whether there is nothing to remember."""
        return self.powered and self.exists and self.control and self.network


@dataclass(slots=True)
class HungRuntime(Mutable):
    """A node's container runtime that does not answer (noderuntimes.py)."""

    number: int
    """Tells the occasions apart."""
    since_ns: int
    unwell_ns: int
    """From when on its kubelet calls it unhealthy, and its sync loop stands still."""
    listing_only: bool
    """Its own status is answered, and commands run."""
    held: list[Event] = field(default_factory=list)
    """What the kubelet would have done."""
