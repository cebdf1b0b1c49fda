"""What kube-proxy's nftables table in a dump says of each Service port, as `drift_view` says it of its iptables chains.

The same reading is done of a real node's dump and of the text kflab writes, so that only differences of meaning show.
Source of the forms: k/k pkg/proxy/nftables/proxier.go (release-1.33).
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from kflab.dataplane import nftables_names as names
from kflab.dataplane.addresses import canonical, canonical_cidr
from kflab.dataplane.nft_dump import ListedChain, ListedElement, ListedRule, ListedSet, Listing, Statement
from kflab.dataplane.nft_dump_print import rule_text
from kflab.dataplane.packets import join_host_port
from kflab.proof.drift_view import At, Found, NodeView, PortKey, PortView

FAMILIES: Final = {"IPv4": "ip", "IPv6": "ip6"}

_BASE: Final = re.compile(r"[A-Z2-7]{8}-([^/]+)/([^/]+)/([a-z]+)/([^/]*)")
"""Namespace, Service, protocol and port name in the name of a Service port's chain."""

_OF_PORTS: Final = (names.SERVICE, names.LOCAL, names.EXTERNAL, names.FIREWALL, names.ENDPOINT)

_FIXED: Final = (
    names.SERVICES,
    names.FIREWALL_CHECK,
    names.SERVICE_ENDPOINTS_CHECK,
    names.NODEPORT_ENDPOINTS_CHECK,
    names.MARK_MASQ,
    names.MASQUERADING,
    names.REJECT_CHAIN,
)
"""Chains that belong to no Service. cluster-ips-check also drops unallocated ClusterIPs: of what ranges, only the API
server knows."""


def nft_view_of(listing: Listing, family: str, external_ips: Mapping[PortKey, frozenset[str]]) -> NodeView:
    """Read kube-proxy's table of one address family.

    Args:
        listing: The dump.
        family: IPv4 or IPv6.
        external_ips: The spec's externalIPs by Service port; the table does not tell them from load balancer addresses.
    """
    return _Viewer(listing, (FAMILIES[family], names.TABLE), external_ips).view()


class _Viewer:
    def __init__(
        self, listing: Listing, place: tuple[str, str], external_ips: Mapping[PortKey, frozenset[str]]
    ) -> None:
        self._listing, self._place, self._external_ips = listing, place, external_ips
        self._view = NodeView()

    def view(self) -> NodeView:
        self._entries()
        self._refusals()
        for port in self._view.ports.values():
            self._read(port)
        self._around()
        return self._view

    # --- parts of the table ----------------------------------------------------------------------------------------

    def _chain(self, name: str) -> ListedChain | None:
        return self._listing.chain(self._place, name)

    def _rules(self, name: str) -> list[ListedRule]:
        chain = self._chain(name)
        return chain.rules if chain is not None else []

    def _elements(self, name: str) -> tuple[list[ListedElement], At]:
        found = self._listing.set(self._place, name)
        return (found.elements, At(found.line, found.column)) if found is not None else ([], At(0))

    def _set(self, name: str) -> ListedSet | None:
        return self._listing.set(self._place, name)

    def _stranger(self, chain: str, rule: ListedRule) -> None:
        self._view.strangers.append(Found(At(rule.line, rule.column), f"{' '.join(self._place)} {rule.told(chain)}"))

    def _odd_element(self, name: str, at: At, element: ListedElement) -> None:
        text = rule_text([("vmap", {"key": element.key, "data": element.data})])
        self._view.strangers.append(Found(at, f"{' '.join(self._place)} map {name}: {text}"))

    def _port(self, key: PortKey, at: At) -> PortView:
        return self._view.ports.setdefault(key, PortView(*key, at))

    def _at(self, chain: str, otherwise: At) -> At:
        found = self._chain(chain)
        return At(found.line, found.column) if found is not None else otherwise

    # --- where traffic comes in ------------------------------------------------------------------------------------

    def _entries(self) -> None:
        for name in (names.SERVICE_IPS, names.FIREWALL_IPS, names.SERVICE_NODEPORTS):
            elements, at = self._elements(name)
            for element in elements:
                target = _target(("vmap", element.data))
                key, where = _port_key(target), _destination(element.key)
                if key is None or where is None or key[1] != where[1]:
                    self._odd_element(name, at, element)
                    continue
                address, _, number = where
                port = self._port(key, self._at(target, at))
                if name == names.SERVICE_NODEPORTS:
                    port.node_port = number
                    port.chains["external"] = target
                elif name == names.FIREWALL_IPS:
                    port.chains["firewall"] = target
                    port.addresses.setdefault("load balancer IP", {})[join_host_port(address, number)] = at
                else:
                    inside = target.startswith((names.SERVICE, names.LOCAL))
                    port.chains["internal" if inside else "external"] = target
                    kind = "cluster IP" if inside else self._kind(key, address)
                    port.addresses.setdefault(kind, {})[join_host_port(address, number)] = at

    def _kind(self, key: PortKey, address: str) -> str:
        return "external IP" if address in self._external_ips.get(key, ()) else "load balancer IP"

    def _refusals(self) -> None:
        cluster_ips, _ = self._elements(names.CLUSTER_IPS)
        own = {canonical(element.key) for element in cluster_ips if isinstance(element.key, str)}
        for name in (names.NO_ENDPOINT_SERVICES, names.NO_ENDPOINT_NODEPORTS):
            elements, at = self._elements(name)
            for element in elements:
                where, verdict = _destination(element.key), _refusal(element.data)
                if where is None or not verdict or not element.comment:
                    self._odd_element(name, at, element)
                    continue
                address, protocol, number = where
                port = self._port((element.comment, protocol), at)
                port.refused[join_host_port(address, number) if address else f"node port {number}"] = verdict
                if not address:
                    port.node_port = number
                elif address in own:
                    port.addresses.setdefault("cluster IP", {})[join_host_port(address, number)] = at
                    port.internal_policy = "Local" if verdict == "DROP" else port.internal_policy
                    continue
                if verdict == "DROP":
                    port.external_policy = "Local"

    # --- chains of one port ----------------------------------------------------------------------------------------

    def _read(self, port: PortView) -> None:
        internal, external = port.chains.get("internal", ""), port.chains.get("external", "")
        if internal:
            port.internal_policy = "Local" if internal.startswith(names.LOCAL) else "Cluster"
            port.internal, masquerade = self._spread(port, internal)
            port.masquerade = tuple(masquerade)
        if "firewall" in port.chains:
            self._firewall(port, port.chains["firewall"])
        if external:
            self._external(port, external)

    def _firewall(self, port: PortView, name: str) -> None:
        """firewall-…: drops all but the source ranges. The load balancer's own addresses are the node's hairpin."""
        own = {text.rpartition(":")[0].strip("[]") for text in port.addresses.get("load balancer IP", {})}
        ranges: set[str] = set()
        for rule in self._rules(name):
            allowed = _sources(rule.parts)
            if allowed is None:
                self._stranger(name, rule)
            else:
                ranges.update(text for text in allowed if text.partition("/")[0] not in own)
        port.source_ranges = tuple(sorted(ranges))

    def _external(self, port: PortView, name: str) -> None:
        """external-…: Cluster masquerades all; Local sends only pods and the node itself to the cluster's endpoints."""
        masquerade: list[str] = []
        local, onward = False, ""
        for rule in self._rules(name):
            target, matched = _jump(rule.parts), rule_text(rule.parts[:-1])
            if target == names.MARK_MASQ:
                masquerade.append(matched or "all")
                local = local or bool(matched)
            elif target.startswith(names.LOCAL) and not matched:
                local, onward = True, target
            elif target.startswith(names.SERVICE):
                if matched:
                    local = True
                    port.short, _ = self._spread(port, target)
                else:
                    onward = target
            else:
                self._stranger(name, rule)
        port.external_policy = "Local" if local else "Cluster"
        port.external_masquerade = tuple(masquerade)
        if onward:
            port.external, _ = self._spread(port, onward)

    def _spread(self, port: PortView, name: str) -> tuple[dict[str, Fraction], list[str]]:
        """The endpoints that a service-… or local-… chain shares traffic among, and whom it masquerades."""
        shares: dict[str, Fraction] = {}
        masquerade: list[str] = []
        for rule in self._rules(name):
            target = _jump(rule.parts)
            if target == names.MARK_MASQ:
                masquerade.append(_caller(rule.parts[:-1]))
                continue
            affinity = _affinity(rule.parts)
            if affinity and target.startswith(names.ENDPOINT):
                found = self._set(affinity)
                port.affinity_s = found.timeout_s if found is not None else 0
                continue
            chosen = _numgen(rule.parts)
            if not chosen:
                self._stranger(name, rule)
            for chain, share in chosen.items():
                endpoint = self._endpoint(chain)
                if not endpoint:
                    self._stranger(name, rule)
                    continue
                shares[endpoint] = shares.get(endpoint, Fraction(0)) + share
                port.endpoint_places[endpoint] = self._at(chain, At(rule.line, rule.column))
        return shares, masquerade

    def _endpoint(self, chain: str) -> str:
        """ip:port that an endpoint-… chain rewrites to; "" where it has no such rule."""
        for rule in self._rules(chain):
            for kind, body in rule.parts:
                match kind, body:
                    case "dnat", {"addr": str(address), "port": int(number)}:
                        return join_host_port(canonical(address) or address, number)
        return ""

    # --- around them -----------------------------------------------------------------------------------------------

    def _around(self) -> None:
        table = self._listing.tables.get(self._place)
        if table is None:
            return
        for chain in table.chains.values():
            for rule in chain.rules if chain.hook and not table.dormant else ():
                target = _jump(rule.parts)
                way = f"{' '.join(self._place)}: nothing jumps to {target} at hook {chain.hook} (type {chain.type})"
                if target in table.chains:
                    self._view.jumps.add(way)
                    self._view.needed.add(way)
        for name in _FIXED:
            masks = name in (names.MARK_MASQ, names.MASQUERADING)
            title = f"masquerade: {name}" if masks else f"chain {name}"
            self._view.fixed[title] = tuple(rule_text(rule.parts) for rule in self._rules(name))
            self._view.fixed_at[title] = self._at(name, At(0))
        found = self._set(names.NODEPORT_IPS)
        if found is not None:
            title = f"set {names.NODEPORT_IPS}"
            self._view.fixed[title] = tuple(sorted(str(element.key) for element in found.elements))
            self._view.fixed_at[title] = At(found.line, found.column)


def _port_key(chain: str) -> PortKey | None:
    """The Service port that a chain belongs to."""
    prefix = next((prefix for prefix in _OF_PORTS if chain.startswith(prefix)), "")
    found = _BASE.fullmatch(chain.removeprefix(prefix)) if prefix else None
    if found is None:
        return None
    namespace, service, protocol, port = found.groups()
    return f"{namespace}/{service}" + (f":{port}" if port else ""), protocol


def _destination(key: Any) -> tuple[str, str, int] | None:
    """(address or "", protocol, port) of an element's key."""
    match key:
        case {"concat": [str(address), str(protocol), int(number)]} if canonical(address):
            return canonical(address), protocol, number
        case {"concat": [str(protocol), int(number)]}:
            return "", protocol, number
    return None


def _target(statement: Statement) -> str:
    """The chain that an element's verdict goes to."""
    match statement[1]:
        case {"goto": {"target": str(target)}} | {"jump": {"target": str(target)}}:
            return target
    return ""


def _refusal(data: Any) -> str:
    match data:
        case {"goto": {"target": names.REJECT_CHAIN}}:
            return "REJECT"
        case {"drop": _}:
            return "DROP"
    return ""


def _jump(parts: tuple[Statement, ...]) -> str:
    """The chain that a rule ends in; "" for others."""
    match parts[-1:]:
        case (("jump" | "goto", {"target": str(target)}),):
            return target
    return ""


def _sources(parts: tuple[Statement, ...]) -> list[str] | None:
    """Who is not dropped by `ip saddr != … drop`; None for other rules."""
    match parts:
        case (("match", {"op": "!=", "left": {"payload": {"field": "saddr"}}, "right": right}), ("drop", _)):
            items = right["set"] if isinstance(right, dict) and "set" in right else [right]
            shown = [rule_text([("vmap", {"key": item, "data": ""})]).partition(" ")[0] for item in items]
            return [canonical_cidr(text) or text for text in shown]
    return None


def _caller(parts: tuple[Statement, ...]) -> str:
    """Whom a masquerade rule of a ClusterIP is about: the condition on the source, or "all"."""
    sources = [
        rule_text([(kind, body)])
        for kind, body in parts
        if kind == "match" and isinstance(body, dict) and _is_source(body.get("left"))
    ]
    return " ".join(sources) or "all"


def _is_source(left: Any) -> bool:
    return isinstance(left, dict) and isinstance(left.get("payload"), dict) and left["payload"].get("field") == "saddr"


def _affinity(parts: tuple[Statement, ...]) -> str:
    """The affinity set of `ip saddr @affinity-… goto endpoint-…`."""
    match parts[:1]:
        case (("match", {"op": "==", "right": str(right)}),) if right.startswith("@" + names.AFFINITY):
            return right[1:]
    return ""


def _numgen(parts: tuple[Statement, ...]) -> dict[str, Fraction]:
    """Chain → share of `numgen random mod n vmap { 0 : goto …, … }`."""
    match parts:
        case (("vmap", {"key": {"numgen": {"mod": int(mod)}}, "data": {"set": [*items]}}),) if mod > 0:
            shares: dict[str, Fraction] = {}
            for item in items:
                match item:
                    case [int(index), {"goto": {"target": str(target)}}] if 0 <= index < mod:
                        shares[target] = shares.get(target, Fraction(0)) + Fraction(1, mod)
            return shares
    return {}
