"""Fans shared by nodes: where two nodes' rules cannot differ for a packet, the fan is worked out once.

What a fan depends on besides the Service ports themselves is small: the endpoint lists of this node, what the node
is to source and destination, and which endpoints are the node's own addresses. That is the cache's key; a test compares
cached fans with fresh ones on random clusters.
"""

from collections.abc import Hashable
from typing import Final

from kflab.dataplane.addresses import contains
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.packets import Packet
from kflab.dataplane.service_ports import ranges_hold
from kflab.dataplane.walk import FanOut, fan

_MAX: Final = 65_536
"""Fans kept before the cache starts again: bounds its memory."""


class FanCache:
    """Fans by everything they depend on."""

    def __init__(self) -> None:
        self._fans: dict[Hashable, tuple[object, FanOut]] = {}
        self.hits = 0
        self.misses = 0

    def fan(self, rules: RuleSet, packet: Packet) -> FanOut:
        """As `walk.fan`, without memory of affinity."""
        ports = rules.deciding(packet)
        key = self._key(rules, packet, ports)
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

    @staticmethod
    def _key(rules: RuleSet, packet: Packet, ports: tuple[PortOnNode, ...]) -> Hashable:
        pods = rules.config.local_traffic(rules.family, rules.facts.pod_cidrs)
        primary = rules.facts.primary_ip(rules.family)
        per_port = tuple(
            (
                id(on_node.port),
                _shared(on_node.cluster_endpoints, on_node.port.endpoints.unhinted_texts),
                on_node.local_endpoints,
                packet.src if packet.src in on_node.port.endpoints.addresses else "",
                tuple(ip for ip in on_node.port.endpoints.addresses if rules.is_local(ip))
                if _may_be_local(rules, on_node)
                else (),
                _guarded(on_node, packet, primary),
            )
            for on_node in ports
        )
        addressed = rules.services.at(packet.dst, packet.protocol, packet.dport)
        dst = packet.dst if addressed else ""
        serves = packet.dst in rules.facts.node_port_ips(rules.config, rules.family)
        return (
            per_port,
            id(rules.config),
            rules.family,
            rules.is_local(packet.src),
            rules.is_local(packet.dst),
            pods is not None and pods.holds(packet.src),
            pods is not None,
            contains("127.0.0.0/8", packet.dst) or packet.dst == "::1",
            contains("127.0.0.0/8", packet.src),
            serves,
            dst,
            packet.protocol,
            packet.dport,
        )


def _shared(endpoints: tuple[str, ...], everybody: tuple[str, ...]) -> Hashable:
    """A list all nodes share is named by its identity instead of being hashed."""
    return id(endpoints) if endpoints is everybody else endpoints


def _may_be_local(rules: RuleSet, on_node: PortOnNode) -> bool:
    own = (*rules.facts.ips, *rules.facts.extra_ips)
    return any(ip in on_node.port.endpoints.addresses for ip in own)


def _guarded(on_node: PortOnNode, packet: Packet, primary: str) -> Hashable:
    """What source ranges make of this packet and this node."""
    port = on_node.port
    if not port.source_ranges:
        return None
    return (
        ranges_hold(port.source_ranges, packet.src),
        ranges_hold(port.source_ranges, primary),
        packet.src in port.lb_ips,
    )
