"""One Service port in IPVS mode on one node: its virtual servers, the addresses they are bound to, its ipset entries.

Source: k/k pkg/proxy/ipvs/proxier.go (1.33), syncProxyRules, syncService, syncEndpoint; where a Local policy finds no
endpoint on the node, IPVS falls back to all of them (k/k #97081).
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cached_property

from kflab.dataplane import ipvs_sets as sets
from kflab.dataplane.addresses import address_number
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.ipvs_fixed import NoAccess
from kflab.dataplane.ipvs_rules import PROTOCOL_NUMBERS
from kflab.dataplane.ipvs_schedulers import RealServer
from kflab.dataplane.ipvs_sets import Entry
from kflab.dataplane.packets import join_host_port
from kflab.dataplane.service_ports import PortRules, ranges_hold
from kflab.records import dataclass

_OPTION = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """A virtual server with its real servers."""

    address: str
    port: int
    protocol: str
    """TCP, UDP or SCTP."""
    scheduler: str
    persistent_s: int
    """Seconds a client stays with its server after its last new connection; 0 without affinity."""
    servers: tuple[RealServer, ...] = ()

    @property
    def name(self) -> str:
        """As ipvsadm names it: -t ip:port."""
        return f"{_OPTION[self.protocol]} {join_host_port(self.address, self.port)}"

    def saved(self) -> str:
        """The virtual server's line of `ipvsadm -Sn` (ipvsadm.c, print_service_entry)."""
        persistence = f" -p {self.persistent_s}" if self.persistent_s else ""
        # kube-proxy sets the scheduler's flag "source port too" for mh (FlagSourceHash).
        flags = " -b mh-port" if self.scheduler == "mh" else ""
        return f"-A {self.name} -s {self.scheduler}{persistence}{flags}"

    def saved_server(self, server: RealServer) -> str:
        """A real server's line; -m: reached by rewriting addresses."""
        return f"-a {self.name} -r {server.text} -m -w {server.weight}"

    def remembered(self, server: RealServer) -> str:
        """Name of the memory that a client was sent to a server: a persistence template of this virtual server."""
        return f"{self.name} {server.text}"

    @property
    def order(self) -> tuple[int, int, int, int]:
        """ipvsadm's order: protocol, address, port (libipvs.c, ipvs_cmp_services)."""
        version, number = address_number(self.address) or (4, 0)
        return version, PROTOCOL_NUMBERS[self.protocol.lower()], number, self.port


@dataclass(frozen=True, eq=False)
class IpvsPort:
    """A Service port as one node's kube-proxy writes it."""

    on_node: PortOnNode
    """Endpoint lists and policies, the same in every mode."""
    node_ips: tuple[str, ...]
    """Addresses of the node that serve NodePorts."""
    scheduler: str = "rr"
    draining: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Virtual server (its name) → servers, ip:port, that keep their connections and get no new ones (weight 0)."""

    @property
    def port(self) -> PortRules:
        return self.on_node.port

    @cached_property
    def protocol(self) -> str:
        return self.port.protocol.lower()

    @cached_property
    def internal_endpoints(self) -> tuple[str, ...]:
        """ip:port behind the ClusterIP."""
        return self._of_policy(self.port.internal_local)

    @cached_property
    def external_endpoints(self) -> tuple[str, ...]:
        """ip:port behind NodePorts, external and load balancer addresses."""
        return self._of_policy(self.port.external_local)

    def _of_policy(self, local: bool) -> tuple[str, ...]:
        return (self.on_node.local_endpoints if local else ()) or self.on_node.cluster_endpoints

    def _server(self, address: str, port: int, endpoints: tuple[str, ...]) -> VirtualServer:
        made = VirtualServer(address, port, self.port.protocol, self.scheduler, self.port.affinity_s)
        by_text = self.port.endpoints.by_text
        drained = self.draining.get(made.name, frozenset()) - frozenset(endpoints)
        servers = [RealServer(text, by_text[text].address, by_text[text].port) for text in endpoints]
        for text in sorted(drained):
            host, _, number = text.rpartition(":")
            servers.append(RealServer(text, host.strip("[]"), int(number), 0))
        return VirtualServer(address, port, made.protocol, made.scheduler, made.persistent_s, tuple(servers))

    def virtual_server(self, address: str, port: int) -> VirtualServer | None:
        """The virtual server of this Service port at an address and port."""
        own = self.port
        if port == own.port and address == own.cluster_ip:
            return self._server(address, port, self.internal_endpoints)
        if port == own.port and (address in own.external_ips or address in own.lb_ips):
            return self._server(address, port, self.external_endpoints)
        if port and port == own.node_port and address in self.node_ips:
            return self._server(address, port, self.external_endpoints)
        return None

    def virtual_servers(self) -> Iterator[VirtualServer]:
        """All of them."""
        own = self.port
        yield self._server(own.cluster_ip, own.port, self.internal_endpoints)
        for ip in dict.fromkeys((*own.external_ips, *own.lb_ips)):
            if ip != own.cluster_ip:
                yield self._server(ip, own.port, self.external_endpoints)
        if own.node_port:
            for ip in self.node_ips:
                yield self._server(ip, own.node_port, self.external_endpoints)

    @property
    def allows_node(self) -> bool:
        """Whether source ranges contain the node."""
        return ranges_hold(self.port.source_ranges, self.on_node.facts.primary_ip(self.on_node.family))

    def no_access(self) -> Iterator[NoAccess]:
        """Its load balancer addresses that the node itself must not call."""
        if self.port.source_ranges and not self.allows_node:
            for ip in self.port.lb_ips:
                yield ip, self.protocol, self.port.port

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """(set, entry) of every ipset that a Service port writes to; KUBE-IPVS-IPS is the rule set's own."""
        own, protocol = self.port, self.protocol
        for endpoint in own.endpoints.all:
            if endpoint.node == self.on_node.facts.name:
                yield sets.LOOP_BACK, Entry(endpoint.address, protocol, endpoint.port, endpoint.address)
        yield sets.CLUSTER_IP, Entry(own.cluster_ip, protocol, own.port)
        external = sets.EXTERNAL_IP_LOCAL if own.external_local else sets.EXTERNAL_IP
        for ip in own.external_ips:
            yield external, Entry(ip, protocol, own.port)
        for ip in own.lb_ips:
            yield from self._lb_entries(ip)
        yield from self._port_entries()

    def _lb_entries(self, ip: str) -> Iterator[tuple[str, Entry]]:
        own, protocol = self.port, self.protocol
        entry = Entry(ip, protocol, own.port)
        yield sets.LOAD_BALANCER, entry
        if own.external_local:
            yield sets.LOAD_BALANCER_LOCAL, entry
        if own.source_ranges:
            yield sets.LOAD_BALANCER_FW, entry
            for cidr in own.source_ranges:
                yield sets.SOURCE_CIDR, Entry(ip, protocol, own.port, cidr)
            if self.allows_node:
                yield sets.SOURCE_IP, Entry(ip, protocol, own.port, ip)

    def _port_entries(self) -> Iterator[tuple[str, Entry]]:
        own, protocol = self.port, self.protocol
        if own.node_port:
            if not self.node_ips:
                # proxier.go goes on to the next Service port here, before the health check port.
                return
            found = [Entry(port=own.node_port)]
            if protocol == "sctp":
                found = [Entry(ip, protocol, own.node_port) for ip in self.node_ips]
            for name in (sets.NODE_PORT, sets.NODE_PORT_LOCAL)[: 2 if own.external_local else 1]:
                for entry in found:
                    yield name[protocol], entry
        if own.health_port:
            yield sets.HEALTH_PORT, Entry(port=own.health_port)
