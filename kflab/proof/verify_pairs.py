"""Who calls what: every pair of a source and a destination that verify tries."""

from collections.abc import Iterator
from dataclasses import field

from kflab.dataplane.addresses import IPV4, IPV6, contains
from kflab.dataplane.packets import Packet, join_host_port
from kflab.dataplane.service_ports import PortRules
from kflab.proof.verify_cluster import Cluster
from kflab.records import dataclass

SPOKEN = ("TCP", "UDP")
"""Protocols that real sockets are opened for."""

CROWD = {
    IPV4: ("198.18.0.0/15", "100.64.0.0/10", "192.88.99.0/24"),
    IPV6: ("2001:2::/48", "2001:db8:ffff::/48", "3fff:ffff::/48"),
}
"""Ranges to take one-time clients from, the first that is free: for benchmarks (RFC 2544, RFC 5180), shared (RFC 6598),
formerly 6to4 (RFC 7526), for documentation (RFC 3849, RFC 9637)."""

_CALLER_PORT = 40_000


@dataclass(frozen=True, slots=True)
class Source:
    """Somebody who calls."""

    kind: str
    """client, node or pod."""
    name: str
    node: str = ""
    """The node it is or runs on; "" outside."""
    address: str = ""
    """Its own address."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Destination:
    """Something that is called."""

    address: str
    port: int
    protocol: str
    words: str
    """What it is, e.g. "default/cart cluster IP"."""
    node: str = ""
    """Whose address it is, for a NodePort; "" for an address that no interface has."""
    loopback: bool = False
    sticky_s: int = field(default=0, compare=False)
    """For how long the rules remember who called; 0: they do not."""

    def __str__(self) -> str:
        return f"{self.protocol} {join_host_port(self.address, self.port)} ({self.words})"


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and a destination, and the node whose rules the call meets first."""

    source: Source
    destination: Destination
    node: str

    @property
    def packet(self) -> Packet:
        """The first packet, as the caller's kernel sends it."""
        to = self.destination
        src = self.source.address
        if self.source.kind == "node" and (to.loopback or to.node == self.node):
            src = to.address  # a socket that dials an address of its own host has that address too
        return Packet(src, _CALLER_PORT, to.address, to.port, to.protocol)

    def __str__(self) -> str:
        via = f" through {self.node}" if self.source.kind == "client" and not self.destination.node else ""
        return f"{self.source} → {self.destination}{via}"


def sources(cluster: Cluster) -> Iterator[Source]:
    """Clients, nodes, and pods that have a network of their own."""
    for address in cluster.clients:
        yield Source("client", address, "", address)
    for name, facts in cluster.nodes.items():
        yield Source("node", name, name, facts.primary_ip(cluster.family))
    for pod in cluster.pods:
        if not pod.host_network:
            yield Source("pod", pod.name, pod.node, pod.address)


def destinations(cluster: Cluster) -> tuple[tuple[Destination, ...], int]:
    """Everything the cluster's Services can be called by, and how many Service ports no socket can speak to."""
    table = next(iter(cluster.rules.values())).services if cluster.rules else {}
    found: dict[Destination, None] = {}
    unspoken = 0
    for service in table.values():
        for port in service.ports:
            if port.protocol not in SPOKEN:
                unspoken += 1
                continue
            found.update(dict.fromkeys(_of_port(port, cluster)))
        for port in service.ports[:1]:
            lacking = _unused({item.port for item in service.ports})
            for protocol in SPOKEN:
                words = f"{service.key.namespace}/{service.key.name} cluster IP, a port it lacks"
                found[Destination(port.cluster_ip, lacking, protocol, words)] = None
    return tuple(found), unspoken


def _unused(ports: set[int]) -> int:
    """The lowest port from 7 on that a Service lacks."""
    return next(port for port in range(7, 65536) if port not in ports)


def _of_port(port: PortRules, cluster: Cluster) -> Iterator[Destination]:
    sticky_s = port.affinity_s
    yield Destination(port.cluster_ip, port.port, port.protocol, f"{port.name} cluster IP", sticky_s=sticky_s)
    for words, addresses in (("external IP", port.external_ips), ("load balancer IP", port.lb_ips)):
        for address in addresses:
            if not cluster.node_with(address):
                yield Destination(address, port.port, port.protocol, f"{port.name} {words}", sticky_s=sticky_s)
    if not port.node_port:
        return
    for name, facts in cluster.nodes.items():
        for ip in facts.ips:
            yield Destination(ip, port.node_port, port.protocol, f"{port.name} node port", name, sticky_s=sticky_s)
    loopback = "127.0.0.1" if cluster.family == IPV4 else "::1"
    yield Destination(loopback, port.node_port, port.protocol, f"{port.name} node port", "", True, sticky_s)


def pairs(cluster: Cluster, all_destinations: tuple[Destination, ...]) -> Iterator[Pair]:
    """Every pair; a client reaches addresses that no interface has through each node in turn."""
    for source in sources(cluster):
        for destination in all_destinations:
            if destination.loopback:
                if source.kind == "node":
                    yield Pair(source, destination, source.node)
            elif source.kind != "client":
                yield Pair(source, destination, source.node)
            elif destination.node:
                yield Pair(source, destination, destination.node)
            else:
                for node in cluster.nodes:
                    yield Pair(source, destination, node)


def crowd_range(cluster: Cluster) -> str:
    """A range of addresses that nothing in the cluster uses or names."""
    used = [*cluster.clients, *(pod.address for pod in cluster.pods)]
    used.extend(ip for facts in cluster.nodes.values() for ip in facts.ips)
    table = next(iter(cluster.rules.values())).services if cluster.rules else {}
    for service in table.values():
        for port in service.ports:
            used.extend((port.cluster_ip, *port.external_ips, *port.lb_ips))
            used.extend(cidr.partition("/")[0] for cidr in port.source_ranges)
    for cidr in CROWD[cluster.family]:
        if not any(contains(cidr, address) for address in used):
            return cidr
    return CROWD[cluster.family][0]
