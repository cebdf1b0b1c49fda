"""What is so with the machine under a node. Machines that are well are not listed anywhere."""

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
