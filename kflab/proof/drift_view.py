"""What kube-proxy's chains in a dump say of each Service port: addresses, endpoints, policies, affinity, masquerade.

The same reading is done of a real node's dump and of the text kflab writes, so that only differences of meaning show.
Source of the forms: k/k pkg/proxy/iptables/proxier.go (1.24 and newer, which have KUBE-EXT and KUBE-SVL).
"""

import re
from collections.abc import Iterator
from dataclasses import field
from fractions import Fraction
from typing import Final, NamedTuple

from kflab.dataplane import iptables_names as names
from kflab.dataplane.addresses import canonical, canonical_cidr
from kflab.dataplane.dump import Dump, DumpChain, DumpRule
from kflab.dataplane.dump_match import chance_of
from kflab.dataplane.packets import join_host_port
from kflab.records import dataclass

PortKey = tuple[str, str]
"""(service port name, protocol in lower case)."""

_IN_SERVICES: Final = re.compile(r"(\S+) (cluster IP|external IP|loadbalancer IP)")
_REFUSED: Final = re.compile(r"(\S+) has no (?:local )?endpoints")
_HEALTH: Final = re.compile(r"(\S+) health check node port")


class At(NamedTuple):
    """Where something stands in the dump. Column 0: the whole line; line 0: nowhere."""

    line: int
    column: int = 0

    def place(self, file: str) -> str:
        """file, file:line or file:line:column."""
        return ":".join([file, *(str(number) for number in self if number)])


NOWHERE: Final = At(0)


class Found(NamedTuple):
    """Something with its place."""

    at: At
    text: str


@dataclass
class PortView:
    """One Service port as the rules of a node have it."""

    name: str
    protocol: str
    at: At
    addresses: dict[str, dict[str, At]] = field(default_factory=dict)
    """Kind (cluster IP, external IP, load balancer IP) → ip:port → place."""
    node_port: int = 0
    health_port: int = 0
    chains: dict[str, str] = field(default_factory=dict)
    """internal, external → the chain that its traffic takes."""
    internal: dict[str, Fraction] = field(default_factory=dict)
    """ip:port of an endpoint → its share of ClusterIP traffic."""
    external: dict[str, Fraction] = field(default_factory=dict)
    """The same of outside traffic: what KUBE-EXT sends on."""
    short: dict[str, Fraction] = field(default_factory=dict)
    """The same of pods and the node itself calling outside addresses of a Service with policy Local."""
    endpoint_places: dict[str, At] = field(default_factory=dict)
    internal_policy: str = ""
    """Cluster or Local; "" where the rules do not show it."""
    external_policy: str = ""
    affinity_s: int = 0
    source_ranges: tuple[str, ...] | None = None
    """None: no KUBE-FW chain."""
    masquerade: tuple[str, ...] = ()
    """Whose ClusterIP traffic is masqueraded, as conditions of the rules."""
    external_masquerade: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    """ip:port, or "node port" → REJECT or DROP."""

    @property
    def endpoints(self) -> dict[str, Fraction]:
        """Every endpoint with a chain that any of its traffic can reach."""
        return {**self.short, **self.external, **self.internal}


@dataclass
class NodeView:
    """All Service ports of a node, and what stands around them."""

    ports: dict[PortKey, PortView] = field(default_factory=dict)
    strangers: list[Found] = field(default_factory=list)
    """Rules inside kube-proxy's chains that are not of its form."""
    jumps: set[str] = field(default_factory=set)
    """Ways into kube-proxy's chains, in words that say that they are missing."""
    needed: set[str] = field(default_factory=set)
    """Those of them behind which there are rules."""
    fixed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Chains and sets that belong to no Service → their rules without comments, or their elements."""
    fixed_at: dict[str, At] = field(default_factory=dict)


def _protocol(rule: DumpRule) -> str:
    option = rule.option("-p")
    return option.value.lower() if option is not None and not option.inverted else ""


def _port(rule: DumpRule) -> int:
    option = rule.option("--dport")
    return int(option.value) if option is not None and option.value.isdecimal() and len(option.value) < 6 else 0


def _destination(rule: DumpRule) -> str:
    option = rule.option("-d")
    return canonical(option.value.partition("/")[0]) if option is not None and not option.inverted else ""


def condition(rule: DumpRule, without: frozenset[str] = frozenset({"comment"})) -> str:
    """A rule's matches in words, those of some modules left out."""
    words = []
    for group in rule.groups:
        if group.module in without:
            continue
        if not group.module:
            for option in group.options:
                shown = canonical_cidr(option.value) or option.value
                words.append(("! " if option.inverted else "") + f"{option.name} {shown}")
        elif group.options or group.module not in ("tcp", "udp", "sctp"):
            words.append(group.text())
    return " ".join(words)


def view_of(dump: Dump) -> NodeView:
    """Read kube-proxy's chains of a dump."""
    return _Viewer(dump).view()


class _Viewer:
    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self._view = NodeView()

    def view(self) -> NodeView:
        self._entries()
        self._refusals()
        for port in self._view.ports.values():
            self._read(port)
        self._around()
        return self._view

    def _rules(self, table: str, chain: str) -> tuple[DumpRule, ...]:
        found = self._dump.chain(table, chain)
        return found.rules if found is not None else ()

    def _port(self, name: str, protocol: str, line: int) -> PortView:
        return self._view.ports.setdefault((name, protocol), PortView(name, protocol, At(line)))

    def _stranger(self, table: str, chain: str, rule: DumpRule) -> None:
        self._view.strangers.append(Found(At(rule.line), f"{table} -A {chain} {rule.text}"))

    # --- where traffic comes in ---------------------------------------------------------------------------------

    def _entries(self) -> None:
        for rule in self._rules("nat", names.SERVICES):
            said = _IN_SERVICES.fullmatch(rule.comment)
            address, number, protocol = _destination(rule), _port(rule), _protocol(rule)
            if said is not None and address and number and protocol:
                port = self._port(said[1], protocol, rule.line)
                kind = said[2].replace("loadbalancer", "load balancer")
                port.addresses.setdefault(kind, {})[join_host_port(address, number)] = At(rule.line)
                port.chains["internal" if kind == "cluster IP" else "external"] = rule.target
                if rule.target.startswith(names.FW):
                    port.chains["firewall"] = rule.target
            elif rule.target != names.NODEPORTS:
                self._stranger("nat", names.SERVICES, rule)
        for rule in self._rules("nat", names.NODEPORTS):
            number, protocol = _port(rule), _protocol(rule)
            if number and protocol and rule.comment and rule.target.startswith("KUBE-"):
                port = self._port(rule.comment, protocol, rule.line)
                port.node_port = number
                port.chains["external"] = rule.target
            else:
                self._stranger("nat", names.NODEPORTS, rule)
        for rule in self._rules("filter", names.NODEPORTS):
            said = _HEALTH.fullmatch(rule.comment)
            if said is not None:
                health = _port(rule)
                for port in self._view.ports.values():
                    if port.name == said[1]:
                        port.health_port = health

    def _refusals(self) -> None:
        for chain in (names.SERVICES, names.EXTERNAL_SERVICES):
            for rule in self._rules("filter", chain):
                said = _REFUSED.fullmatch(rule.comment)
                number, protocol = _port(rule), _protocol(rule)
                if said is None or not number or not protocol:
                    self._stranger("filter", chain, rule)
                    continue
                address = _destination(rule)
                port = self._port(said[1], protocol, rule.line)
                port.refused[join_host_port(address, number) if address else f"node port {number}"] = rule.target
                if address and chain == names.SERVICES:
                    port.addresses.setdefault("cluster IP", {})[join_host_port(address, number)] = At(rule.line)
                    port.internal_policy = "Local" if rule.target == "DROP" else port.internal_policy
                elif not address:
                    port.node_port = number
                if chain == names.EXTERNAL_SERVICES and rule.target == "DROP":
                    port.external_policy = "Local"

    # --- chains of one port ---------------------------------------------------------------------------------------

    def _read(self, port: PortView) -> None:
        internal, external = port.chains.get("internal", ""), port.chains.get("external", "")
        if internal:
            port.internal_policy = "Local" if internal.startswith(names.SVL) else "Cluster"
            port.internal, masquerade = self._spread(port, internal)
            port.masquerade = tuple(masquerade)
        if external.startswith(names.FW):
            external = self._firewall(port, external)
        elif "firewall" in port.chains:
            external = self._firewall(port, port.chains["firewall"]) or external
        if external:
            self._external(port, external)

    def _firewall(self, port: PortView, name: str) -> str:
        """KUBE-FW: who may come in. Its own load balancer addresses among them are the node's hairpin."""
        ranges: dict[str, None] = {}
        onward = ""
        own = {text.rpartition(":")[0].strip("[]") for text in port.addresses.get("load balancer IP", {})}
        for rule in self._rules("nat", name):
            source = rule.option("-s")
            if source is not None and rule.target.startswith(names.EXT):
                onward = rule.target
                if source.value.partition("/")[0] not in own:
                    ranges[canonical_cidr(source.value) or source.value] = None
            elif rule.target:
                self._stranger("nat", name, rule)
        port.source_ranges = tuple(sorted(ranges))
        return onward or names.EXT + name.removeprefix(names.FW)

    def _external(self, port: PortView, name: str) -> None:
        """KUBE-EXT: Cluster masquerades all; Local sends only pods and the node itself to the cluster's endpoints."""
        masquerade: list[str] = []
        local = False
        onward = ""
        for rule in self._rules("nat", name):
            matched = condition(rule)
            if rule.target == names.MARK_MASQ:
                masquerade.append(matched or "all")
                local = local or "--src-type LOCAL" in matched
            elif rule.target.startswith(names.SVL) and not matched:
                local, onward = True, rule.target
            elif rule.target.startswith(names.SVC):
                if matched:
                    port.short, _ = self._spread(port, rule.target)
                else:
                    onward = rule.target
                local = local or "--src-type LOCAL" in matched
            else:
                self._stranger("nat", name, rule)
        port.external_policy = "Local" if local else "Cluster"
        port.external_masquerade = tuple(masquerade)
        if onward:
            port.external, _ = self._spread(port, onward)

    def _spread(self, port: PortView, name: str) -> tuple[dict[str, Fraction], list[str]]:
        """The endpoints that a KUBE-SVC or KUBE-SVL chain shares traffic among, and whom it masquerades."""
        shares: dict[str, Fraction] = {}
        masquerade: list[str] = []
        left = Fraction(1)
        for rule in self._rules("nat", name):
            if rule.target == names.MARK_MASQ:
                masquerade.append(self._caller(rule))
                continue
            recent = rule.group("recent")
            endpoint = self._endpoint(rule.target) if rule.target.startswith(names.SEP) else ""
            if not endpoint:
                self._stranger("nat", name, rule)
            elif recent is not None:
                seconds = recent.find("--seconds")
                if seconds is not None and seconds.value.isdecimal() and len(seconds.value) < 12:
                    port.affinity_s = int(seconds.value)
            else:
                statistic = rule.group("statistic")
                share = (chance_of(statistic) or Fraction(0)) if statistic is not None else Fraction(1)
                shares[endpoint] = shares.get(endpoint, Fraction(0)) + left * share
                port.endpoint_places[endpoint] = At(rule.line)
                left *= 1 - share
        return shares, masquerade

    @staticmethod
    def _caller(rule: DumpRule) -> str:
        """Whom a masquerade rule of a ClusterIP is about: "! -s 10.244.0.0/16", or "all"."""
        source = rule.option("-s")
        if source is None:
            return "all"
        return ("! " if source.inverted else "") + f"-s {canonical_cidr(source.value) or source.value}"

    def _endpoint(self, chain: str) -> str:
        """ip:port that a KUBE-SEP chain rewrites to; "" where it has no such rule."""
        for rule in self._rules("nat", chain):
            if rule.target == "DNAT":
                return next((item.value for item in rule.arguments if item.name == "--to-destination"), "")
        return ""

    # --- around them ----------------------------------------------------------------------------------------------

    def _around(self) -> None:
        for table, chains in self._dump.tables.items():
            for chain in chains.values():
                if chain.policy:
                    for rule in chain.rules:
                        if rule.target.startswith("KUBE-") and rule.target in chains:
                            way = f"{table} {chain.name} does not jump to {rule.target}"
                            self._view.jumps.add(way)
                            if chains[rule.target].rules:
                                self._view.needed.add(way)
        for name in (names.MARK_MASQ, names.POSTROUTING):
            title = f"masquerade: {name}"
            rules = self._rules("nat", name)
            self._view.fixed[title] = tuple(
                " ".join(filter(None, (condition(rule), "-j", rule.target, _arguments(rule)))) for rule in rules
            )
            found = self._dump.chain("nat", name)
            if found is not None:
                self._view.fixed_at[title] = At(rules[0].line if rules else found.line)


def _arguments(rule: DumpRule) -> str:
    """A target's options. How source ports are drawn depends on the version of iptables, and is left out."""
    return " ".join(option.text() for option in rule.arguments if option.name != "--random-fully")


def foreign(dump: Dump) -> Iterator[tuple[DumpChain, DumpRule]]:
    """Rules of built-in chains that do not go to kube-proxy's or the kubelet's chains."""
    for chains in dump.tables.values():
        for chain in chains.values():
            if chain.policy:
                for rule in chain.rules:
                    if not rule.target.startswith("KUBE-"):
                        yield chain, rule
