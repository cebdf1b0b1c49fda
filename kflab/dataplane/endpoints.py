"""From EndpointSlices to the endpoints of a Service port, and which of them a node may use.

Sources: k/k pkg/proxy/endpointslicecache.go (slices to endpoints), pkg/proxy/topology.go (usable endpoints: hints,
local, terminating fallback; KEP-1669, KEP-2433, KEP-3015).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from kflab.dataplane.addresses import IPV4, IPV6, canonical
from kflab.dataplane.packets import join_host_port
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice
from kflab.records import dataclass

SAME_NODE_GATE = "PreferSameTrafficDistribution"


class ProxyEndpoint(NamedTuple):
    """One endpoint as kube-proxy holds it. `text` is ip:port, the sort key."""

    text: str
    address: str
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    target: Key | None = None

    @property
    def fallback(self) -> bool:
        """Serving and terminating: used only where nothing is ready."""
        return not self.ready and self.serving and self.terminating


def endpoints_by_port(
    slices: Iterable[EndpointSlice], family: str
) -> Mapping[tuple[str, str], tuple[ProxyEndpoint, ...]]:
    """Group the endpoints of a Service's slices.

    Args:
        slices: The slices labelled with the Service, any address type; other families' addresses are left out.
        family: IPv4 or IPv6.

    Returns:
        (port name, protocol) → endpoints, one per ip:port, sorted as text. Only the first address of an endpoint
        counts; of an address seen twice a non-terminating entry wins.
    """
    found: dict[tuple[str, str], dict[str, ProxyEndpoint]] = {}
    for piece in sorted(slices, key=lambda item: item.meta.name):
        if piece.address_type == "FQDN":
            continue
        for port in piece.ports:
            if not port.port:
                continue
            group = found.setdefault((port.name, port.protocol), {})
            for entry in piece.endpoints:
                address = canonical(entry.addresses[0]) if entry.addresses else ""
                if not address or (IPV6 if ":" in address else IPV4) != family:
                    continue
                text = join_host_port(address, port.port)
                terminating = bool(entry.terminating)
                known = group.get(text)
                if known is not None and (terminating or not known.terminating):
                    continue
                group[text] = ProxyEndpoint(
                    text=text,
                    address=address,
                    port=port.port,
                    node=entry.node_name,
                    ready=entry.ready is None or entry.ready,
                    serving=entry.serving is None or entry.serving,
                    terminating=terminating,
                    zone_hints=entry.hint_zones,
                    node_hints=entry.hint_nodes,
                    target=entry.target,
                )
    return {name: tuple(group[text] for text in sorted(group)) for name, group in found.items()}


@dataclass(frozen=True, eq=False)
class EndpointSet:
    """All endpoints of one Service port, with what every node can share worked out once."""

    all: tuple[ProxyEndpoint, ...] = ()

    @cached_property
    def ready(self) -> tuple[ProxyEndpoint, ...]:
        return tuple(endpoint for endpoint in self.all if endpoint.ready)

    @cached_property
    def fallback(self) -> tuple[ProxyEndpoint, ...]:
        """Serving and terminating, for when no ready one is left."""
        return tuple(endpoint for endpoint in self.all if endpoint.serving and endpoint.terminating)

    @cached_property
    def unhinted(self) -> tuple[ProxyEndpoint, ...]:
        """The cluster list of every node that no hint narrows."""
        return self.ready or self.fallback

    @cached_property
    def unhinted_texts(self) -> tuple[str, ...]:
        """ip:port of `unhinted`: one value for all nodes."""
        return tuple(endpoint.text for endpoint in self.unhinted)

    @cached_property
    def addresses(self) -> frozenset[str]:
        """Every endpoint's address."""
        return frozenset(endpoint.address for endpoint in self.all)

    @cached_property
    def any_usable(self) -> bool:
        """Whether any endpoint anywhere is ready, or serving and terminating."""
        return bool(self.ready or self.fallback)

    @cached_property
    def by_text(self) -> Mapping[str, ProxyEndpoint]:
        return {endpoint.text: endpoint for endpoint in self.all}

    @cached_property
    def _by_node(self) -> Mapping[str, tuple[ProxyEndpoint, ...]]:
        groups: dict[str, list[ProxyEndpoint]] = {}
        for endpoint in self.all:
            if endpoint.node:
                groups.setdefault(endpoint.node, []).append(endpoint)
        return {node: tuple(group) for node, group in groups.items()}

    @cached_property
    def _all_node_hinted(self) -> bool:
        return bool(self.ready) and all(endpoint.node_hints for endpoint in self.ready)

    @cached_property
    def _all_zone_hinted(self) -> bool:
        return bool(self.ready) and all(endpoint.zone_hints for endpoint in self.ready)

    def cluster_list(self, node: str, zone: str, same_node: bool) -> tuple[ProxyEndpoint, ...]:
        """Endpoints under Cluster policy on a node (topology.go CategorizeEndpoints, topologyModeFromHints).

        Args:
            node: Name of the node.
            zone: Its zone label, "" without.
            same_node: Whether gate PreferSameTrafficDistribution is on.
        """
        if same_node and self._all_node_hinted:
            chosen = tuple(endpoint for endpoint in self.ready if node in endpoint.node_hints)
            if chosen:
                return chosen
        if self._all_zone_hinted:
            chosen = tuple(endpoint for endpoint in self.ready if zone in endpoint.zone_hints)
            if chosen:
                return chosen
        return self.unhinted

    def local_list(self, node: str) -> tuple[ProxyEndpoint, ...]:
        """Endpoints under Local policy on a node; hints do not count."""
        local = self._by_node.get(node, ())
        return tuple(endpoint for endpoint in local if endpoint.ready) or tuple(
            endpoint for endpoint in local if endpoint.fallback
        )

    def local_ready(self, node: str) -> int:
        """How many ready endpoints a node has: what healthCheckNodePort reports (healthcheck/service_health.go)."""
        return sum(endpoint.ready for endpoint in self._by_node.get(node, ()))


def slices_of(service: Key, slices: Iterable[EndpointSlice]) -> Sequence[EndpointSlice]:
    """The slices labelled with a Service."""
    return tuple(piece for piece in slices if piece.service == service)
