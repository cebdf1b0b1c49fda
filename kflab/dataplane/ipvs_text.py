"""The texts of a node's rules in IPVS mode: ipvsadm, ipset, iptables-save, kept so that a change costs little.

ipvsadm's and ipset's lines stand in their own order; the iptables rules are few, whatever the number of Services.
"""

from collections.abc import Callable

from kflab.dataplane import ipvs_sets as sets
from kflab.dataplane.addresses import IPV4, address_number
from kflab.dataplane.ipvs_fixed import NoAccess
from kflab.dataplane.ipvs_port import IpvsPort, VirtualServer
from kflab.dataplane.ipvs_sets import Entry, IpSet
from kflab.dataplane.text_blocks import ClaimedBlocks
from kflab.manifest.objects import Key

Order = tuple[int, int, int, int]
"""ipvsadm's: version, protocol, address, port."""


def server_text(server: VirtualServer) -> str:
    """A virtual server and its real servers, as `ipvsadm -Sn` prints them."""
    reals = sorted(server.servers, key=lambda real: (address_number(real.address) or (0, 0), real.port))
    return "".join([f"{server.saved()}\n", *[f"{server.saved_server(real)}\n" for real in reals]])


class IpvsText:
    """The texts, Service port by Service port.

    Args:
        family: IPv4 or IPv6.
        bound: Whether an external address of a Service is on kube-ipvs0 (ClusterIPs are always).
        iptables: Makes the iptables text, given the ipsets that have entries and the ports closed to the node.
    """

    def __init__(
        self,
        family: str,
        bound: Callable[[str], bool],
        iptables: Callable[[frozenset[str], tuple[NoAccess, ...]], str],
    ) -> None:
        self._family, self._bound, self._iptables = family, bound, iptables
        self._servers: ClaimedBlocks[Order] = ClaimedBlocks()
        self._sets: dict[str, ClaimedBlocks[Entry]] = {kind.name: ClaimedBlocks() for kind in sets.KINDS}
        self._closed: dict[tuple[Key, int], tuple[NoAccess, ...]] = {}

    def _entries(self, port: IpvsPort) -> dict[tuple[str, Entry], None]:
        """(set, entry) of a Service port, its addresses on kube-ipvs0 among them, each once."""
        own = port.port
        addresses = (own.cluster_ip, *(ip for ip in (*own.external_ips, *own.lb_ips) if self._bound(ip)))
        return dict.fromkeys((*port.entries(), *((sets.IPVS_IPS, Entry(ip)) for ip in addresses)))

    def put(self, port: IpvsPort) -> None:
        """Write a Service port's virtual servers and entries."""
        order = port.port.order
        for server in {server.name: server for server in reversed(list(port.virtual_servers()))}.values():
            self._servers.claim(server.name, order, server.order, server_text(server))
        for name, entry in self._entries(port):
            self._sets[name].claim(entry, order, entry, f"add {sets.set_name(name, self._family)} {entry.saved()}\n")
        closed = tuple(port.no_access())
        if closed:
            self._closed[order] = closed

    def drop(self, port: IpvsPort) -> None:
        """Remove a Service port's virtual servers and entries."""
        order = port.port.order
        for server in port.virtual_servers():
            self._servers.release(server.name, order)
        for name, entry in self._entries(port):
            self._sets[name].release(entry, order)
        self._closed.pop(order, None)

    def ipvsadm(self) -> list[str]:
        """The virtual servers, in pieces."""
        return self._servers.blocks.texts()

    def ipset(self) -> list[str]:
        """The ipsets, in pieces."""
        found: list[str] = []
        for kind in sets.KINDS:
            found.extend(f"{line}\n" for line in IpSet(kind).saved(self._family))
            found.extend(self._sets[kind.name].blocks.texts())
        return found

    def iptables(self) -> str:
        """The iptables rules."""
        filled = frozenset(name for name, claimed in self._sets.items() if claimed.blocks)
        closed = (entry for order in sorted(self._closed) for entry in self._closed[order])
        return self._iptables(filled, tuple(dict.fromkeys(closed)))

    def blocks(self) -> list[str]:
        """All three, each under a line with the command that prints it, in pieces."""
        six = "" if self._family == IPV4 else "6"
        return [
            "# ipvsadm -Sn\n", *self.ipvsadm(),
            "# ipset save\n", *self.ipset(),
            f"# ip{six}tables-save\n", self.iptables(),
        ]  # fmt: skip
