"""kube-proxy's iptables mode: the rule set of one node as data, and as the text iptables-save prints.

A `RuleSet` holds no rules: it derives the ones asked for from the shared `ServiceTable` and the node's own facts,
so thousands of nodes cost little. `tables()` writes them all, `rules_for` only those a packet can meet.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Protocol

from kflab.dataplane import iptables_names as names
from kflab.dataplane.addresses import IPV4
from kflab.dataplane.endpoints import ProxyEndpoint
from kflab.dataplane.iptables_fixed import BUILT_IN, fixed_chains, nodeport_jumps
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.iptables_text import SHARED, IptablesText, shared_rules
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.node_ports import NodePorts
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import LARGE_CLUSTER_ENDPOINTS, ProxyConfig
from kflab.dataplane.rules import Chain, Rule, Tables
from kflab.dataplane.service_ports import PortRules, ServiceRules, compile_service
from kflab.dataplane.service_table import ServiceTable
from kflab.manifest.objects import Key

__all__ = ["PortRules", "RuleSet", "RuleSource", "ServiceRules", "ServiceTable", "compile_service"]

_BUILT_IN = {(table, chain.name): chain for table, chains in BUILT_IN.items() for chain in chains}


class RuleSource(Protocol):
    """Whatever can be walked: a node's rule set, a full listing of it, a parsed dump."""

    @property
    def family(self) -> str:
        """IPv4 or IPv6."""
        ...

    def is_local(self, address: str) -> bool:
        """Whether an address is of type LOCAL on this node."""
        ...

    def chain_for(self, table: str, name: str, packet: Packet) -> Chain | None:
        """A chain, at least with the rules the packet can match, in order; None where it does not exist."""
        ...

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """The endpoint that a DNAT of `packet` to address:port reaches, as far as it is known."""
        ...


class RuleSet(NodePorts[PortOnNode]):
    """What one node's kube-proxy has written.

    Args:
        facts: The node.
        config: kube-proxy's settings there.
        services: Compiled Services as this kube-proxy knows them; a `ServiceTable` is shared, not copied.
        family: IPv4 or IPv6; by default that of the table.
    """

    def __init__(
        self,
        facts: NodeFacts,
        config: ProxyConfig,
        services: Mapping[Key, ServiceRules],
        family: str | None = None,
    ) -> None:
        super().__init__(facts, config, services, family)
        self.large = self.services.n_endpoints > LARGE_CLUSTER_ENDPOINTS

    def _made(self, port: PortRules) -> PortOnNode:
        return PortOnNode(port, self.facts, self.config, self.family, self.large)

    @cached_property
    def _fixed(self) -> dict[tuple[str, str], Chain]:
        return fixed_chains(self.config, self.family)

    @cached_property
    def _nodeport_jumps(self) -> tuple[Rule, ...]:
        return nodeport_jumps(self.facts, self.config, self.family)

    # --- what a packet can meet --------------------------------------------------------------------------------

    def chain_for(self, table: str, name: str, packet: Packet) -> Chain | None:
        """A chain with the rules that the packet's destination can match."""
        fixed = self._fixed.get((table, name))
        if fixed is not None:
            return fixed
        built_in = _BUILT_IN.get((table, name))
        if built_in is not None:
            return built_in
        if name in SHARED.get(table, ()):
            return Chain(name, self._shared_rules(table, name, packet))
        if table == "nat" and names.prefix_of(name):
            for on_node in self.deciding(packet):
                chain = on_node.chain(name)
                if chain is not None:
                    return chain
        return None

    def _shared_rules(self, table: str, name: str, packet: Packet) -> tuple[Rule, ...]:
        by_address = self.services.at(packet.dst, packet.protocol, packet.dport)
        by_node_port = self.services.at_node_port(packet.protocol, packet.dport)
        rules: list[Rule] = []
        if table == "nat" and name == names.SERVICES:
            for port in by_address:
                rules.extend(self.on_node(port).nat_services)
            rules.extend(self._nodeport_jumps)
        elif table == "nat":
            for port in by_node_port:
                rules.extend(self.on_node(port).nat_nodeports)
        elif name == names.SERVICES:
            for port in by_address:
                rules.extend(self.on_node(port).filter_services)
        elif name == names.EXTERNAL_SERVICES:
            both = dict.fromkeys((*by_address, *by_node_port))
            for port in sorted(both, key=lambda item: item.order):
                rules.extend(self.on_node(port).filter_external)
        elif name == names.PROXY_FIREWALL:
            for port in by_address:
                rules.extend(self.on_node(port).filter_firewall)
        elif name == names.NODEPORTS and packet.protocol == "TCP":
            for port in self.services.at_health_port(packet.dport):
                rules.extend(self.on_node(port).filter_nodeports)
        return tuple(rules)

    # --- all of it ---------------------------------------------------------------------------------------------

    def tables(self) -> Tables:
        """Every chain kube-proxy writes in one full sync, built-in chains excepted, in normal order.

        Normal order: KUBE-NODEPORTS, KUBE-SERVICES, then the rest sorted as text; in those two Services by namespace
        and name. (kube-proxy itself handles Services in no fixed order.)
        """
        # KUBE-FIREWALL exists always (its jumps are ensured), but is only written to where it has a rule.
        chains = {key: chain for key, chain in self._fixed.items() if chain.rules or key[1] != names.FIREWALL}
        shared: dict[tuple[str, str], list[Rule]] = {(table, name): [] for table in SHARED for name in SHARED[table]}
        for port in self.every_port():
            for table, name, rules in shared_rules(port):
                shared[table, name].extend(rules)
            chains.update((("nat", chain.name), chain) for chain in port.own_chains())
        shared["nat", names.SERVICES].extend(self._nodeport_jumps)
        chains.update((key, Chain(key[1], tuple(rules))) for key, rules in shared.items() if key not in chains)
        return {
            table: tuple(chains[key] for key in sorted((k for k in chains if k[0] == table), key=_normal_order))
            for table in ("filter", "nat")
        }

    def save_text(self) -> str:
        """The node's rules as iptables-save (ip6tables-save) prints them, built-in chains and jumps included.

        The same text as `save_text(full_tables())`, without holding all rules at once.
        """
        return "".join(self.written().blocks())

    def written(self) -> IptablesText:
        """The text in pieces, which can be followed to the rules of the next revision (`written.Written`)."""
        text = IptablesText(self._fixed, self._nodeport_jumps, self.family)
        for port in self.every_port():
            text.put(port)
        return text

    @property
    def written_for(self) -> tuple[object, ...]:
        """All that the text depends on besides the Services."""
        return self.facts, self.config, self.family, self.large

    def full_tables(self) -> Tables:
        """`tables()` together with the built-in chains, their jumps, and the canary chains kube-proxy watches.

        Source of the canary: k/k pkg/util/iptables/monitor (`Monitor`): an empty chain in mangle, nat and filter, whose
        disappearance tells that somebody flushed the rules.
        """
        own = self.tables()
        full = {}
        for table in ("mangle", "filter", "nat"):
            chains = {names.CANARY: Chain(names.CANARY)}
            if table == "filter":
                chains[names.FIREWALL] = Chain(names.FIREWALL)
            chains.update((chain.name, chain) for chain in own.get(table, ()))
            full[table] = (*BUILT_IN[table], *(chains[name] for name in sorted(chains)))
        return full


def _normal_order(key: tuple[str, str]) -> tuple[int, str]:
    head = (names.NODEPORTS, names.SERVICES)
    return (head.index(key[1]), "") if key[1] in head else (len(head), key[1])


def save_text(tables: Tables, family: str = IPV4) -> str:
    """Write tables as iptables-save does: chains with policies, rules by chain, COMMIT; counters are zero."""
    lines = []
    for table, chains in tables.items():
        lines.append(f"*{table}")
        lines.extend(f":{chain.name} {chain.policy or '-'} [0:0]" for chain in chains)
        for chain in chains:
            lines.extend(rule.saved(chain.name, family) for rule in chain.rules)
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


class Scan:
    """The same rules without an index: every rule of every chain, read one by one (the slow half of property tests)."""

    def __init__(self, rule_set: RuleSet) -> None:
        self._rule_set = rule_set
        self.family = rule_set.family
        self._chains = {
            (table, chain.name): Chain(chain.name, chain.rules, chain.policy)
            for table, chains in rule_set.full_tables().items()
            for chain in chains
        }

    def is_local(self, address: str) -> bool:
        """As on the node."""
        return self._rule_set.is_local(address)

    def chain_for(self, table: str, name: str, packet: Packet) -> Chain | None:
        """The whole chain."""
        return self._chains.get((table, name))

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """Search every Service."""
        return self._rule_set.endpoint_anywhere(address, port)
