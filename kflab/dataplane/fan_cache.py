"""Fans shared by nodes: where two nodes' rules cannot differ for a packet, the fan is worked out once.

What a fan depends on besides the Service ports themselves is small: the endpoint lists of this node, what the node
is to source and destination, and which endpoints are the node's own addresses. That is the cache's key; a test compares
cached fans with fresh ones on random clusters.
"""

from collections.abc import Hashable
from typing import Final, NamedTuple

from kflab.dataplane.addresses import contains, is_loopback
from kflab.dataplane.endpoints import SAME_NODE_GATE
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.local_traffic import LocalTraffic
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.service_ports import PortRules, ranges_hold
from kflab.dataplane.walk import FanOut, fan

_MAX: Final = 65_536
"""Fans kept before the cache starts again: bounds its memory."""


class FanCache:
    """Fans by everything they depend on."""

    def __init__(self) -> None:
        self._fans: dict[Hashable, tuple[object, FanOut]] = {}
        self._seen: dict[int, _Node] = {}
        """By id of a node's facts; each keeps its facts, so that the id is given to no others."""
        self.hits = 0
        self.misses = 0

    def fan(self, rules: RuleSet, packet: Packet) -> FanOut:
        """As `walk.fan`, without memory of affinity."""
        addressed = rules.services.at(packet.dst, packet.protocol, packet.dport)
        by_node_port = rules.services.at_node_port(packet.protocol, packet.dport)
        ports = tuple(dict.fromkeys((*addressed, *by_node_port)))
        key = self._key(rules, packet, ports, bool(addressed))
        known = self._fans.get(key)
        if known is not None:
            self.hits += 1
            return known[1]
        self.misses += 1
        found = fan(rules, packet)
        if len(self._fans) >= _MAX:
            self._fans.clear()
        # Kept with the fan: their ids are part of the key and must not be given to others meanwhile.
        self._fans[key] = ((ports, rules.config), found)
        return found

    def _node(self, rules: RuleSet) -> "_Node":
        """What a node is to any packet: worked out once, whatever the revision of its rules."""
        facts, config, family = rules.facts, rules.config, rules.family
        known = self._seen.get(id(facts))
        if known is None or known.facts is not facts or known.config is not config or known.family != family:
            if len(self._seen) >= _MAX:
                self._seen.clear()
            known = self._seen[id(facts)] = _Node(
                facts, config, family, frozenset((*facts.ips, *facts.extra_ips)),
                config.local_traffic(family, facts.pod_cidrs), facts.primary_ip(family),
                frozenset(facts.node_port_ips(config, family)), config.gate(SAME_NODE_GATE),
            )  # fmt: skip
        return known

    def _key(self, rules: RuleSet, packet: Packet, ports: tuple[PortRules, ...], addressed: bool) -> Hashable:
        node = self._node(rules)
        name, zone = node.facts.name, node.facts.zone
        src, dst = packet.src, packet.dst
        from_loopback, to_loopback = contains("127.0.0.0/8", src), is_loopback(dst)
        per_port = tuple(
            [
                (
                    id(port),
                    _shared(port.cluster_list(name, zone, node.same_node), port.endpoints.unhinted_texts),
                    port.local_list(name),
                    src if src in port.endpoints.addresses else "",
                    _local_endpoints(node, port),
                    _guarded(port, packet, node.primary),
                )
                for port in ports
            ]
        )
        return (
            per_port,
            id(rules.config),
            node.family,
            src in node.own or is_loopback(src),
            dst in node.own or to_loopback,
            node.pods is not None and node.pods.holds(src),
            node.pods is not None,
            to_loopback,
            from_loopback,
            dst in node.node_port_ips,
            dst if addressed else "",
            packet.protocol,
            packet.dport,
        )


class _Node(NamedTuple):
    """A node's part of every key."""

    facts: NodeFacts
    config: ProxyConfig
    family: str
    own: frozenset[str]
    """Its addresses, without loopback."""
    pods: LocalTraffic | None
    """What tells pods from others."""
    primary: str
    node_port_ips: frozenset[str]
    same_node: bool


def _shared(endpoints: tuple[str, ...], everybody: tuple[str, ...]) -> Hashable:
    """A list all nodes share is named by its identity instead of being hashed."""
    return id(endpoints) if endpoints is everybody else endpoints


def _local_endpoints(node: _Node, port: PortRules) -> tuple[str, ...]:
    """Endpoints on the node's own addresses, or on loopback where the API server let one through."""
    if node.own.isdisjoint(port.endpoints.addresses):
        return ()
    return tuple(ip for ip in port.endpoints.addresses if ip in node.own or is_loopback(ip))


def _guarded(port: PortRules, packet: Packet, primary: str) -> Hashable:
    """What source ranges make of this packet and this node."""
    if not port.source_ranges:
        return None
    return (
        ranges_hold(port.source_ranges, packet.src),
        ranges_hold(port.source_ranges, primary),
        packet.src in port.lb_ips,
    )
