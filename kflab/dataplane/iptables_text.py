"""The text of a node's rules in iptables mode, as iptables-save prints it, kept so that a change costs what it changed.

Chains stand in order of their names; in the chains that Services share, rules stand by namespace and name.
"""

from collections.abc import Iterable, Mapping

from kflab.dataplane import iptables_names as names
from kflab.dataplane.iptables_fixed import BUILT_IN
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.rules import Chain, Rule
from kflab.dataplane.text_blocks import TextBlocks
from kflab.manifest.objects import Key

SHARED = {
    "filter": (
        names.NODEPORTS,
        names.SERVICES,
        names.EXTERNAL_SERVICES,
        names.FORWARD,
        names.PROXY_FIREWALL,
    ),
    "nat": (names.NODEPORTS, names.SERVICES, names.MARK_MASQ, names.POSTROUTING),
}
"""Chains kube-proxy always declares, in normal order."""


def lines(chain: str, rules: Iterable[Rule], family: str) -> str:
    """Rules of one chain as iptables-save prints them."""
    return "".join([f"{rule.saved(chain, family)}\n" for rule in rules])


def shared_rules(port: PortOnNode) -> tuple[tuple[str, str, tuple[Rule, ...]], ...]:
    """What one Service port writes to the chains that all share: table, chain, rules."""
    return (
        ("nat", names.SERVICES, port.nat_services),
        ("nat", names.NODEPORTS, port.nat_nodeports),
        ("filter", names.SERVICES, port.filter_services),
        ("filter", names.EXTERNAL_SERVICES, port.filter_external),
        ("filter", names.PROXY_FIREWALL, port.filter_firewall),
        ("filter", names.NODEPORTS, port.filter_nodeports),
    )


class _Table:
    """One table's chains: their declarations and their rules."""

    def __init__(self) -> None:
        self.heads: TextBlocks[str] = TextBlocks()
        self.bodies: TextBlocks[str] = TextBlocks()

    def put(self, name: str, text: str) -> None:
        self.heads.put(name, f":{name} - [0:0]\n")
        self.bodies.put(name, text)

    def drop(self, name: str) -> None:
        self.heads.drop(name)
        self.bodies.drop(name)


class IptablesText:
    """The text, Service port by Service port.

    Args:
        fixed: Chains that depend on no Service, by (table, name).
        nodeport_jumps: The last rules of nat KUBE-SERVICES.
        family: IPv4 or IPv6.
    """

    def __init__(self, fixed: Mapping[tuple[str, str], Chain], nodeport_jumps: tuple[Rule, ...], family: str) -> None:
        self._family = family
        self._last = {("nat", names.SERVICES): lines(names.SERVICES, nodeport_jumps, family)}
        """What follows the Services' rules in a shared chain."""
        self._tables = {table: _Table() for table in ("mangle", "filter", "nat")}
        self._shared: dict[tuple[str, str], TextBlocks[tuple[Key, int]]] = {}
        for table in self._tables.values():
            table.put(names.CANARY, "")
        for table_name, all_names in SHARED.items():
            for name in all_names:
                if (table_name, name) not in fixed:
                    self._shared[table_name, name] = TextBlocks()
                    self._tables[table_name].put(name, self._last.get((table_name, name), ""))
        for (table_name, name), chain in fixed.items():
            self._tables[table_name].put(name, lines(name, chain.rules, family))

    def put(self, port: PortOnNode) -> None:
        """Write a Service port's rules."""
        nat = self._tables["nat"]
        for chain in port.own_chains():
            nat.put(chain.name, lines(chain.name, chain.rules, self._family))
        for table, name, rules in shared_rules(port):
            if rules:
                self._shared[table, name].put(port.port.order, lines(name, rules, self._family))

    def drop(self, port: PortOnNode) -> None:
        """Remove a Service port's rules."""
        nat = self._tables["nat"]
        for name in port.own_chain_names():
            nat.drop(name)
        for table, name, rules in shared_rules(port):
            if rules:
                self._shared[table, name].drop(port.port.order)

    def blocks(self) -> list[str]:
        """The text, in pieces."""
        for (table_name, name), shared in self._shared.items():
            if shared.changed:
                text = "".join(shared.texts()) + self._last.get((table_name, name), "")
                self._tables[table_name].bodies.put(name, text)
        found = []
        for table_name, table in self._tables.items():
            built_in = BUILT_IN[table_name]
            found.append(f"*{table_name}\n")
            found.extend(f":{chain.name} {chain.policy} [0:0]\n" for chain in built_in)
            found.extend(table.heads.texts())
            found.extend(lines(chain.name, chain.rules, self._family) for chain in built_in)
            found.extend(table.bodies.texts())
            found.append("COMMIT\n")
        return found
