"""kube-proxy's IPVS mode: virtual servers, ipsets and iptables rules of one node as data, and as their tools' texts.

As in the other modes a rule set holds no rules: it derives what a packet can meet from the shared `ServiceTable` and
the node's own facts. `IpvsScan` reads everything from end to end.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Protocol

from kflab.dataplane import ipvs_sets as sets
from kflab.dataplane.addresses import contains, family_of, is_loopback
from kflab.dataplane.endpoints import ProxyEndpoint
from kflab.dataplane.iptables import save_text
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.ipvs_fixed import BUILT_IN, NoAccess, chains
from kflab.dataplane.ipvs_port import IpvsPort, VirtualServer
from kflab.dataplane.ipvs_schedulers import CHOOSER, DEFAULT
from kflab.dataplane.ipvs_sets import Entry, IpSet
from kflab.dataplane.ipvs_text import IpvsText
from kflab.dataplane.local_traffic import LocalTraffic
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.node_ports import NodePorts
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.rules import Chain, Tables
from kflab.dataplane.service_addresses import virtual_ips
from kflab.dataplane.service_ports import PortRules, ServiceRules
from kflab.errors import KflabError
from kflab.manifest.objects import Key

_BUILT_IN = {(table, chain.name): chain for table, found in BUILT_IN.items() for chain in found}

Draining = Mapping[str, frozenset[str]]
"""Virtual server's name (`-t 10.96.0.1:80`) → servers, ip:port, of weight 0."""


class IpvsSource(Protocol):
    """Whatever can be walked: a node's rule set, or a full listing of it."""

    @property
    def family(self) -> str:
        """IPv4 or IPv6."""
        ...

    def is_local(self, address: str) -> bool:
        """Whether an address is of type LOCAL: the node's own, or on kube-ipvs0."""
        ...

    def on_node_itself(self, address: str) -> bool:
        """Whether it is an address of the node proper: packets to it end here."""
        ...

    def chain_for(self, table: str, name: str, packet: Packet) -> Chain | None:
        """A chain, at least with the rules the packet can match."""
        ...

    def entries(self, set_name: str, packet: Packet) -> Iterator[Entry]:
        """Entries of an ipset, at least those that the packet can be, before or after its destination is rewritten."""
        ...

    def virtual_server(self, packet: Packet) -> VirtualServer | None:
        """The virtual server that the packet's destination is."""
        ...

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """The endpoint behind a real server, as far as it is known."""
        ...


class IpvsRuleSet(NodePorts[IpvsPort]):
    """What one node's kube-proxy has written.

    Args:
        facts: The node.
        config: kube-proxy's settings there.
        services: Compiled Services as this kube-proxy knows them; a `ServiceTable` is shared, not copied.
        family: IPv4 or IPv6; by default that of the table.
        scheduler: `ipvs.scheduler`, rr by default.
        draining: Servers with weight 0: removed, but not yet without connections (graceful_termination.go).

    Raises:
        KflabError: For a scheduler that kflab does not know.
    """

    def __init__(
        self,
        facts: NodeFacts,
        config: ProxyConfig,
        services: Mapping[Key, ServiceRules],
        family: str | None = None,
        scheduler: str = DEFAULT,
        draining: Draining | None = None,
    ) -> None:
        if scheduler not in CHOOSER:
            raise KflabError(f"unknown IPVS scheduler {scheduler!r}; kflab knows {', '.join(CHOOSER)}")
        super().__init__(facts, config, services, family)
        self.scheduler = scheduler
        self.draining: Draining = draining or {}
        self._kinds = {sets.set_name(kind.name, self.family): kind for kind in sets.KINDS}

    def with_draining(self, draining: Draining) -> "IpvsRuleSet":
        """The same with these servers of weight 0."""
        return IpvsRuleSet(self.facts, self.config, self.services, self.family, self.scheduler, draining)

    @cached_property
    def node_ips(self) -> tuple[str, ...]:
        """Addresses that serve NodePorts, never loopback (proxier.go syncProxyRules, netlink_linux.go)."""
        if "primary" in self.config.node_port_addresses or self.config.node_port_cidrs(self.family):
            found = self.facts.node_port_ips(self.config, self.family)
        else:
            found = (*self.facts.ips, *self.facts.extra_ips)
        return tuple(
            ip
            for ip in dict.fromkeys(found)
            if family_of(ip) == self.family and not is_loopback(ip) and not contains("fe80::/10", ip)
        )

    def _made(self, port: PortRules) -> IpvsPort:
        on_node = PortOnNode(port, self.facts, self.config, self.family)
        return IpvsPort(on_node, self.node_ips, self.scheduler, self.draining)

    # --- what a packet can meet --------------------------------------------------------------------------------

    def on_node_itself(self, address: str) -> bool:
        """Whether it is an address of the node proper."""
        return self.facts.is_local(address)

    def bound(self, address: str) -> bool:
        """Whether kube-ipvs0 has the address: every ClusterIP, and other VIPs that no other interface has."""
        if self.services.has_cluster_ip(address):
            return True
        own = address in self.facts.ips or address in self.facts.extra_ips
        return not own and self.services.has_other_ip(address)

    def is_local(self, address: str) -> bool:
        """Whether an address is of type LOCAL."""
        return self.facts.is_local(address) or self.bound(address)

    @property
    def _pods(self) -> LocalTraffic | None:
        return self.config.local_traffic(self.family, self.facts.pod_cidrs)

    def chain_for(self, table: str, name: str, packet: Packet) -> Chain | None:
        """A chain; rules of sets that the packet is in are among its rules."""
        built_in = _BUILT_IN.get((table, name))
        if built_in is not None:
            return built_in
        return self._chains_met(packet).get((table, name))

    def _chains_met(self, packet: Packet) -> dict[tuple[str, str], Chain]:
        closed = tuple(_no_access(self.deciding(packet)))
        if not closed:
            return self._open_chains
        return chains(self.config, self._pods, self.family, lambda _name: True, closed)

    @cached_property
    def _open_chains(self) -> dict[tuple[str, str], Chain]:
        return chains(self.config, self._pods, self.family, lambda _name: True, ())

    def entries(self, set_name: str, packet: Packet) -> Iterator[Entry]:
        """Entries of an ipset that the packet can be."""
        name = self._kinds[set_name].name
        if name == sets.IPVS_IPS:
            if self.bound(packet.dst):
                yield Entry(packet.dst)
            return
        by_source = self.services.at(packet.src, packet.protocol, packet.dport)
        by_health_port = self.services.at_health_port(packet.dport)
        others = (self.on_node(port) for port in (*by_source, *by_health_port))
        for port in (*self.deciding(packet), *others):
            for at, entry in port.entries():
                if at == name:
                    yield entry

    def virtual_server(self, packet: Packet) -> VirtualServer | None:
        """The virtual server that the packet's destination is; of two Services that claim it, the first by name."""
        for port in self.deciding(packet):
            found = port.virtual_server(packet.dst, packet.dport)
            if found is not None:
                return found
        return None

    # --- all of it ---------------------------------------------------------------------------------------------

    def virtual_servers(self) -> tuple[VirtualServer, ...]:
        """Every virtual server, in ipvsadm's order; of two Services that claim one, the first by name has it."""
        found: dict[str, VirtualServer] = {}
        for port in self.every_port():
            for server in port.virtual_servers():
                found.setdefault(server.name, server)
        return tuple(sorted(found.values(), key=lambda server: server.order))

    def ip_sets(self) -> tuple[IpSet, ...]:
        """Every ipset, in kube-proxy's order, entries sorted."""
        found: dict[str, dict[Entry, None]] = {kind.name: {} for kind in sets.KINDS}
        for port in self.every_port():
            for name, entry in port.entries():
                found[name][entry] = None
        for address in virtual_ips(self.services):
            if self.bound(address):
                found[sets.IPVS_IPS][Entry(address)] = None
        return tuple(IpSet(kind, tuple(sorted(found[kind.name]))) for kind in sets.KINDS)

    def full_tables(self) -> Tables:
        """The iptables rules, built-in chains and their jumps included."""
        filled = frozenset(item.kind.name for item in self.ip_sets() if item.entries)
        return self._tables(filled, tuple(dict.fromkeys(_no_access(self.every_port()))))

    def _tables(self, filled: frozenset[str], closed: tuple[NoAccess, ...]) -> Tables:
        own = chains(self.config, self._pods, self.family, lambda name: name in filled, closed)
        return {
            table: (*BUILT_IN[table], *(own[key] for key in sorted(own) if key[0] == table))
            for table in ("filter", "nat")
        }

    def ipvsadm_text(self) -> str:
        """The virtual servers as `ipvsadm -Sn` prints them."""
        return "".join(self.written().ipvsadm())

    def ipset_text(self) -> str:
        """The ipsets as `ipset save` prints them."""
        return "".join(self.written().ipset())

    def iptables_text(self) -> str:
        """The iptables rules as `iptables-save` prints them; they load where the ipsets exist."""
        return self.written().iptables()

    def save_text(self) -> str:
        """All three, each under a line with the command that prints it."""
        return "".join(self.written().blocks())

    def written(self) -> IpvsText:
        """The texts in pieces, which can be followed to the rules of the next revision (`written.Written`)."""
        own = frozenset((*self.facts.ips, *self.facts.extra_ips))
        text = IpvsText(
            self.family,
            lambda address: address not in own,
            lambda filled, closed: save_text(self._tables(filled, closed), self.family),
        )
        for port in self.every_port():
            text.put(port)
        return text

    @property
    def written_for(self) -> tuple[object, ...]:
        """All that the text depends on besides the Services."""
        return self.facts, self.config, self.family, self.scheduler, self.draining


def _no_access(ports: Iterable[IpvsPort]) -> Iterator[NoAccess]:
    for port in ports:
        yield from port.no_access()


class IpvsScan:
    """Everything of a rule set, read without an index (the slow half of property tests)."""

    def __init__(self, rule_set: IpvsRuleSet) -> None:
        self._rule_set = rule_set
        self.family = rule_set.family
        self._servers = rule_set.virtual_servers()
        self._sets = {sets.set_name(item.kind.name, self.family): item.entries for item in rule_set.ip_sets()}
        self._bound = {entry.ip for entry in self._sets[sets.set_name(sets.IPVS_IPS, self.family)]}
        self._chains = {
            (table, chain.name): chain for table, found in rule_set.full_tables().items() for chain in found
        }

    def is_local(self, address: str) -> bool:
        """As on the node."""
        return self.on_node_itself(address) or address in self._bound

    def on_node_itself(self, address: str) -> bool:
        """As on the node."""
        return self._rule_set.on_node_itself(address)

    def chain_for(self, table: str, name: str, packet: Packet) -> Chain | None:
        """The whole chain."""
        return self._chains.get((table, name))

    def entries(self, set_name: str, packet: Packet) -> Iterator[Entry]:
        """Every entry."""
        yield from self._sets[set_name]

    def virtual_server(self, packet: Packet) -> VirtualServer | None:
        """Search all virtual servers."""
        wanted = (packet.dst, packet.dport, packet.protocol)
        return next((item for item in self._servers if (item.address, item.port, item.protocol) == wanted), None)

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """Search every Service."""
        return self._rule_set.endpoint_anywhere(address, port)
