"""Service ports as one node writes them: what the rule sets of all three modes have in common."""

from collections.abc import Iterator, Mapping
from typing import Final, Generic, Protocol, TypeVar

from kflab.dataplane.addresses import IPV4
from kflab.dataplane.endpoints import ProxyEndpoint
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.service_ports import PortRules, ServiceRules
from kflab.dataplane.service_table import ServiceTable
from kflab.manifest.objects import Key

_CACHE_MAX: Final = 4096
"""Service ports a node keeps once made; they are cheap to make again."""


class _Made(Protocol):
    @property
    def port(self) -> PortRules: ...


Made = TypeVar("Made", bound=_Made)


class NodePorts(Generic[Made]):
    """What one node's kube-proxy knows; a mode says how it writes a Service port (`_made`).

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
        self.facts = facts
        self.config = config
        self.services = ServiceTable.of(services, family or IPV4)
        self.family = family or self.services.family
        self._ports: dict[int, Made] = {}

    def _made(self, port: PortRules) -> Made:
        """A Service port as this mode writes it."""
        raise NotImplementedError

    def on_node(self, port: PortRules) -> Made:
        """A Service port as this node writes it."""
        known = self._ports.get(id(port))
        if known is None or known.port is not port:
            if len(self._ports) >= _CACHE_MAX:
                self._ports.clear()
            known = self._ports[id(port)] = self._made(port)
        return known

    def is_local(self, address: str) -> bool:
        """Whether an address is of type LOCAL on this node."""
        return self.facts.is_local(address)

    def deciding(self, packet: Packet) -> tuple[Made, ...]:
        """Service ports that the packet's destination can match, in the order of their rules."""
        by_address = self.services.at(packet.dst, packet.protocol, packet.dport)
        by_node_port = self.services.at_node_port(packet.protocol, packet.dport)
        return tuple(self.on_node(port) for port in dict.fromkeys((*by_address, *by_node_port)))

    def endpoint(self, packet: Packet, address: str, port: int) -> ProxyEndpoint | None:
        """The endpoint behind address:port among those of the Service ports the packet can match."""
        text = Packet("", 0, address, port).destination
        for on_node in self.deciding(packet):
            found = on_node.port.endpoints.by_text.get(text)
            if found is not None:
                return found
        return None

    def endpoint_anywhere(self, address: str, port: int) -> ProxyEndpoint | None:
        """The endpoint behind address:port among those of every Service."""
        text = Packet("", 0, address, port).destination
        every = (port.endpoints.by_text.get(text) for rules in self.services.values() for port in rules.ports)
        return next((found for found in every if found is not None), None)

    def every_port(self) -> Iterator[Made]:
        """Every Service port, in order; made for one listing only, so that nothing of it is kept."""
        for key in self.services:
            for port in self.services[key].ports:
                yield self._made(port)
