"""What tells a pod's packet from another's on a node.

Source: k/k pkg/proxy/util/localdetector.go, cmd/kube-proxy/app/server_linux.go getLocalDetectors.
"""

from typing import NamedTuple

from kflab.dataplane.addresses import contains
from kflab.dataplane.nftables_rules import Addr, Iif
from kflab.dataplane.rules import InIface, Src


class LocalTraffic(NamedTuple):
    """The detector of one node and family."""

    cidr: str
    """Sources in it are pods. With `interface`: this node's pods, whose packets come in by it; "" where it has none."""
    interface: str = ""
    """detectLocalMode BridgeInterface: its name; InterfaceNamePrefix: the prefix and `+`."""

    def holds(self, source: str) -> bool:
        """Whether a packet with this source address is a pod's."""
        return bool(self.cidr) and contains(self.cidr, source)

    @property
    def words(self) -> str:
        """For sentences: "in 10.244.0.0/16", "by interface cbr0"."""
        return f"by interface {self.interface}" if self.interface else f"in {self.cidr}"

    def match(self, inverted: bool = False) -> Src | InIface:
        """As iptables asks it."""
        if self.interface:
            return InIface(self.interface, self.cidr, inverted)
        return Src(self.cidr, inverted)

    def expression(self, inverted: bool = False) -> Addr | Iif:
        """As nftables asks it."""
        if self.interface:
            return Iif(self.interface, self.cidr, inverted)
        return Addr("saddr", self.cidr, inverted)
