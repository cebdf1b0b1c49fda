"""kube-proxy's nftables mode: the table of one node as data, and as the text `nft list ruleset` prints.

As in iptables mode a rule set holds no rules: it derives the chains and map elements that a packet can meet from the
shared `ServiceTable` and the node's own facts. `table()` writes everything; `NftScan` reads that from end to end.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Protocol

from kflab.dataplane import nftables_names as names
from kflab.dataplane.endpoints import ProxyEndpoint
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.nftables_fixed import BASE_CHAINS, COMMENT, SET_COMMENTS, fixed_chains, serving_ips
from kflab.dataplane.nftables_port import NftPort
from kflab.dataplane.nftables_rules import (
    Decision,
    Element,
    Key,
    NftChain,
    NftMap,
    NftSet,
    NftTable,
)
from kflab.dataplane.nftables_text import BY_NODE_PORT, NftText
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.node_ports import NodePorts
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.service_addresses import cluster_ips
from kflab.dataplane.service_ports import PortRules, ServiceRules
from kflab.manifest.objects import Key as ObjectKey


class NftSource(Protocol):
    """Whatever can be walked: a node's rule set, or a full listing of it."""

    @property
    def family(self) -> str:
        """IPv4 or IPv6."""
        ...

    def is_local(self, address: str) -> bool:
        """Whether the node has the address."""
        ...

    def base_chains(self, hook: str) -> tuple[NftChain, ...]:
        """Base chains of a hook, by priority."""
        ...

    def chain(self, name: str, packet: Packet) -> NftChain | None:
        """A chain that the packet can come to."""
        ...

    def decision(self, map_name: str, packet: Packet) -> Decision | None:
        """What a verdict map says of the packet's destination."""
        ...

    def holds(self, set_name: str, address: str) -> bool:
        """Whether a set of kube-proxy's (not one that packets fill) has an address."""
        ...

    def affinity_s(self, set_name: str, packet: Packet) -> int | None:
        """Timeout of a set that packets fill, in seconds; None for others."""
        ...

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """The endpoint that a DNAT of `packet` to address:port reaches, as far as it is known."""
        ...


class NftRuleSet(NodePorts[NftPort]):
    """What one node's kube-proxy has written.

    Args:
        facts: The node.
        config: kube-proxy's settings there.
        services: Compiled Services as this kube-proxy knows them; a `ServiceTable` is shared, not copied.
        family: IPv4 or IPv6; by default that of the table.
        service_cidrs: The cluster's ServiceCIDRs of this family; () leaves unallocated ClusterIPs alone.
    """

    def __init__(
        self,
        facts: NodeFacts,
        config: ProxyConfig,
        services: Mapping[ObjectKey, ServiceRules],
        family: str | None = None,
        service_cidrs: tuple[str, ...] = (),
    ) -> None:
        super().__init__(facts, config, services, family)
        self.service_cidrs = service_cidrs

    @cached_property
    def _fixed(self) -> dict[str, NftChain]:
        return fixed_chains(self.facts, self.config, self.family, self.service_cidrs)

    @cached_property
    def _serving_ips(self) -> tuple[str, ...] | None:
        return serving_ips(self.facts, self.config, self.family)

    def _made(self, port: PortRules) -> NftPort:
        return NftPort(PortOnNode(port, self.facts, self.config, self.family))

    # --- what a packet can meet --------------------------------------------------------------------------------

    def base_chains(self, hook: str) -> tuple[NftChain, ...]:
        """Base chains of a hook, by priority."""
        return _OWN_HOOKS[hook]

    def chain(self, name: str, packet: Packet) -> NftChain | None:
        """A chain that the packet can come to."""
        fixed = self._fixed.get(name)
        if fixed is not None:
            return fixed
        for port in self.deciding(packet):
            chain = port.chain(name)
            if chain is not None:
                return chain
        return None

    def decision(self, map_name: str, packet: Packet) -> Decision | None:
        """What a verdict map says of the packet's destination."""
        key = key_of(packet, map_name not in BY_NODE_PORT)
        if map_name in BY_NODE_PORT:
            ports = self.services.at_node_port(packet.protocol, packet.dport)
        else:
            ports = self.services.at(packet.dst, packet.protocol, packet.dport)
        for port in ports:
            for element in self.on_node(port).elements(map_name):
                if element.key == key:
                    return element.decision
        return None

    def holds(self, set_name: str, address: str) -> bool:
        """Whether set cluster-ips or nodeport-ips has an address."""
        if set_name == names.NODEPORT_IPS:
            return address in (self._serving_ips or ())
        return set_name == names.CLUSTER_IPS and self.services.has_cluster_ip(address)

    def affinity_s(self, set_name: str, packet: Packet) -> int | None:
        """Timeout of an affinity set."""
        if not set_name.startswith(names.AFFINITY):
            return None
        chain = names.ENDPOINT + set_name.removeprefix(names.AFFINITY)
        return next((port.port.affinity_s for port in self.deciding(packet) if chain in port.endpoint_chains), None)

    # --- all of it ---------------------------------------------------------------------------------------------

    def _containers(self) -> tuple[NftSet | NftMap, ...]:
        """Sets and maps. Of two Services that claim one destination the first by namespace and name has it.

        kube-proxy itself handles Services in no fixed order, and the last one wins.
        """
        elements: dict[str, dict[Key, Element]] = {name: {} for name in SET_COMMENTS}
        affinity: list[NftSet] = []
        for port in self.every_port():
            for name in elements:
                for element in port.elements(name):
                    elements[name].setdefault(element.key, element)
            affinity.extend(port.affinity_sets())
        found: list[NftSet | NftMap] = []
        for name, comment in SET_COMMENTS.items():
            if name == names.CLUSTER_IPS:
                found.append(NftSet(name, comment, tuple(sorted(cluster_ips(self.services)))))
            elif name != names.NODEPORT_IPS:
                found.append(NftMap(name, name not in BY_NODE_PORT, comment, tuple(elements[name].values())))
            elif self._serving_ips is not None:
                found.append(NftSet(name, comment, self._serving_ips))
        return (*found, *affinity)

    def table(self) -> NftTable:
        """Everything kube-proxy writes in one full sync."""
        own = (chain for port in self.every_port() for chain in port.chains())
        return NftTable(names.TABLE, self.family, COMMENT, self._containers(), (*self._fixed.values(), *own))

    def save_text(self) -> str:
        """The table as `nft list ruleset` prints it (a map's elements in order of Services); `nft -f` loads it."""
        return "".join(self.written().blocks())

    def written(self) -> NftText:
        """The text in pieces, which can be followed to the rules of the next revision (`written.Written`)."""
        text = NftText(self._fixed, self._serving_ips, self.family)
        for port in self.every_port():
            text.put(port)
        return text

    @property
    def written_for(self) -> tuple[object, ...]:
        """All that the text depends on besides the Services."""
        return self.facts, self.config, self.family, self.service_cidrs


class NftScan:
    """A whole table, read without an index (the slow half of property tests).

    Args:
        table: The table.
        rule_set: The node that it is from: for local addresses and the pods behind endpoints.
    """

    def __init__(self, table: NftTable, rule_set: NftRuleSet) -> None:
        self._table = table
        self._rule_set = rule_set
        self.family = table.family

    def is_local(self, address: str) -> bool:
        """As on the node."""
        return self._rule_set.is_local(address)

    def base_chains(self, hook: str) -> tuple[NftChain, ...]:
        """Base chains of a hook, by priority."""
        return _hooked(self._table.chains, hook)

    def chain(self, name: str, packet: Packet) -> NftChain | None:
        """The chain of that name."""
        return next((chain for chain in self._table.chains if chain.name == name), None)

    def decision(self, map_name: str, packet: Packet) -> Decision | None:
        """Search the map."""
        for container in self._table.containers:
            if isinstance(container, NftMap) and container.name == map_name:
                key = key_of(packet, container.by_address)
                return next((element.decision for element in container.elements if element.key == key), None)
        return None

    def _set(self, name: str) -> NftSet | None:
        found = (item for item in self._table.containers if isinstance(item, NftSet) and item.name == name)
        return next(found, None)

    def holds(self, set_name: str, address: str) -> bool:
        """Search the set."""
        found = self._set(set_name)
        return found is not None and address in found.elements

    def affinity_s(self, set_name: str, packet: Packet) -> int | None:
        """Timeout of the set."""
        found = self._set(set_name)
        return found.timeout_s if found is not None and found.timeout_s else None

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """Search every Service."""
        return self._rule_set.endpoint_anywhere(address, port)


def key_of(packet: Packet, by_address: bool) -> Key:
    """What a verdict map is asked about a packet."""
    tail = (packet.protocol.lower(), str(packet.dport))
    return (packet.dst, *tail) if by_address else tail


def _hooked(chains: tuple[NftChain, ...], hook: str) -> tuple[NftChain, ...]:
    found = [(chain.hook.priority, chain) for chain in chains if chain.hook is not None and chain.hook.hook == hook]
    return tuple(chain for _, chain in sorted(found, key=lambda item: item[0]))


_OWN_HOOKS = {hook: _hooked(BASE_CHAINS, hook) for hook in ("prerouting", "input", "forward", "output", "postrouting")}
