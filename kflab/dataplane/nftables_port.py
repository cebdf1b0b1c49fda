"""What one Service port puts into kube-proxy's nftables table on one node.

Source: k/k pkg/proxy/nftables/proxier.go (release-1.33), syncProxyRules and writeServiceToEndpointRules;
pkg/proxy/topology.go for the endpoint lists, as in iptables mode.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

from kflab.dataplane import nftables_names as names
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.local_traffic import LocalTraffic
from kflab.dataplane.nftables_rules import (
    Addr,
    AddrIn,
    AddrInSet,
    Decision,
    Dnat,
    Element,
    FibLocal,
    Key,
    NftChain,
    NftRule,
    NftSet,
    Numgen,
    Part,
    PortIs,
    ProtoIs,
    Remember,
    rule,
)
from kflab.dataplane.service_ports import PortRules, ranges_hold
from kflab.records import dataclass

_MARK = Decision("jump", names.MARK_MASQ)
_REJECT = Decision("goto", names.REJECT_CHAIN)
_DROP = Decision("drop")


@dataclass(frozen=True, eq=False)
class NftPort:
    """A Service port as one node's kube-proxy writes it. Everything is made when asked for."""

    on_node: PortOnNode
    """Endpoint lists and policies, the same in every mode."""

    @property
    def port(self) -> PortRules:
        return self.on_node.port

    @cached_property
    def protocol(self) -> str:
        return self.port.protocol.lower()

    @cached_property
    def _port_name(self) -> str:
        return self.port.name.partition(":")[2]

    @cached_property
    def _base(self) -> str:
        key = self.port.service
        return names.port_base(key.namespace, key.name, self.protocol, self._port_name)

    def _endpoint_base(self, text: str) -> str:
        key, endpoint = self.port.service, self.port.endpoints.by_text[text]
        return names.endpoint_base(
            key.namespace, key.name, self.protocol, self._port_name, endpoint.address, endpoint.port
        )

    # --- elements of the shared maps -----------------------------------------------------------------------------

    def _at(self, address: str) -> Key:
        return address, self.protocol, str(self.port.port)

    def _refusal(self, present: bool) -> Decision | None:
        """What happens to traffic of one policy that has nowhere to go; None where it has."""
        if not self.on_node.has_endpoints:
            return _REJECT
        return None if present else _DROP

    @property
    def _external(self) -> Decision:
        return Decision("goto", names.EXTERNAL + self._base)

    @cached_property
    def service_ips(self) -> tuple[Element, ...]:
        """Elements of map service-ips."""
        port, found = self.port, []
        if self.on_node.has_internal:
            prefix = names.LOCAL if port.internal_local else names.SERVICE
            found.append(Element(self._at(port.cluster_ip), Decision("goto", prefix + self._base)))
        if self.on_node.has_endpoints:
            found.extend(Element(self._at(ip), self._external) for ip in (*port.external_ips, *port.lb_ips))
        return tuple(found)

    @cached_property
    def service_nodeports(self) -> tuple[Element, ...]:
        """Elements of map service-nodeports."""
        port = self.port
        if not port.node_port or not self.on_node.has_endpoints:
            return ()
        return (Element((self.protocol, str(port.node_port)), self._external),)

    @cached_property
    def no_endpoint_services(self) -> tuple[Element, ...]:
        """Elements of map no-endpoint-services."""
        port, found = self.port, []
        refusal = self._refusal(self.on_node.has_internal)
        if refusal is not None:
            found.append(Element(self._at(port.cluster_ip), refusal, port.name))
        refusal = self._refusal(self.on_node.has_external)
        if refusal is not None:
            found.extend(Element(self._at(ip), refusal, port.name) for ip in (*port.external_ips, *port.lb_ips))
        return tuple(found)

    @cached_property
    def no_endpoint_nodeports(self) -> tuple[Element, ...]:
        """Elements of map no-endpoint-nodeports."""
        refusal = self._refusal(self.on_node.has_external)
        if refusal is None or not self.port.node_port:
            return ()
        return (Element((self.protocol, str(self.port.node_port)), refusal, self.port.name),)

    @property
    def guarded(self) -> bool:
        """Whether source ranges guard the load balancer addresses; unlike in iptables mode also without endpoints."""
        return bool(self.port.lb_ips and self.port.source_ranges)

    @cached_property
    def firewall_ips(self) -> tuple[Element, ...]:
        """Elements of map firewall-ips."""
        if not self.guarded:
            return ()
        to = Decision("goto", names.FIREWALL + self._base)
        return tuple(Element(self._at(ip), to) for ip in self.port.lb_ips)

    def elements(self, map_name: str) -> tuple[Element, ...]:
        """What it puts into a map."""
        match map_name:
            case names.SERVICE_IPS:
                return self.service_ips
            case names.SERVICE_NODEPORTS:
                return self.service_nodeports
            case names.NO_ENDPOINT_SERVICES:
                return self.no_endpoint_services
            case names.NO_ENDPOINT_NODEPORTS:
                return self.no_endpoint_nodeports
            case names.FIREWALL_IPS:
                return self.firewall_ips
        return ()

    # --- chains of its own ---------------------------------------------------------------------------------------

    @cached_property
    def endpoint_chains(self) -> Mapping[str, str]:
        """Chain of each endpoint that can be reached from here → ip:port."""
        return {names.ENDPOINT + self._endpoint_base(text): text for text in self.on_node.reachable}

    @cached_property
    def chain_names(self) -> tuple[str, ...]:
        """Its chains without those of endpoints, in order of creation."""
        node, found = self.on_node, []
        if node.cluster_endpoints:
            found.append(names.SERVICE)
        if node.local_endpoints:
            found.append(names.LOCAL)
        if node.has_endpoints and self.port.externally_accessible:
            found.append(names.EXTERNAL)
        if self.guarded:
            found.append(names.FIREWALL)
        return tuple(prefix + self._base for prefix in found)

    def chain(self, name: str) -> NftChain | None:
        """One of its chains by name; None where the node has no such chain."""
        if name.startswith(names.ENDPOINT):
            text = self.endpoint_chains.get(name)
            return None if text is None else self.endpoint_chain(text)
        if name not in self.chain_names:
            return None
        if name.startswith(names.SERVICE):
            return self.cluster_chain
        if name.startswith(names.LOCAL):
            return self.local_chain
        return self.external_chain if name.startswith(names.EXTERNAL) else self.firewall_chain

    def chains(self) -> Iterator[NftChain]:
        """Every chain of this port, in order of creation."""
        for text in self.on_node.reachable:
            yield self.endpoint_chain(text)
        for name in self.chain_names:
            chain = self.chain(name)
            if chain is not None:
                yield chain

    def affinity_sets(self) -> Iterator[NftSet]:
        """A set of client addresses for each endpoint, under ClientIP affinity."""
        if self.port.affinity_s:
            for text in self.on_node.reachable:
                yield NftSet(names.AFFINITY + self._endpoint_base(text), timeout_s=self.port.affinity_s)

    @property
    def _pods(self) -> LocalTraffic | None:
        return self.on_node.config.local_traffic(self.on_node.family, self.on_node.facts.pod_cidrs)

    def _masquerade_first(self) -> Iterator[NftRule]:
        """First rule of the chain that ClusterIP traffic takes: who is not a pod is masqueraded."""
        if not self.on_node.has_internal:
            return
        to: tuple[Part, ...] = (Addr("daddr", self.port.cluster_ip), PortIs(self.protocol, self.port.port))
        if self.on_node.config.masquerade_all:
            yield rule(*to, _MARK)
        elif self._pods:
            yield rule(*to, self._pods.expression(inverted=True), _MARK)

    def _to_endpoints(self, prefix: str, endpoints: tuple[str, ...]) -> NftChain:
        internal = names.LOCAL if self.port.internal_local else names.SERVICE
        rules = list(self._masquerade_first()) if prefix == internal else []
        bases = [self._endpoint_base(text) for text in endpoints]
        if self.port.affinity_s:
            rules.extend(
                rule(AddrInSet("saddr", names.AFFINITY + base), Decision("goto", names.ENDPOINT + base))
                for base in bases
            )
        rules.append(rule(Numgen(tuple(names.ENDPOINT + base for base in bases))))
        return NftChain(prefix + self._base, tuple(rules))

    @cached_property
    def cluster_chain(self) -> NftChain:
        """service-…: the endpoints under Cluster policy."""
        return self._to_endpoints(names.SERVICE, self.on_node.cluster_endpoints)

    @cached_property
    def local_chain(self) -> NftChain:
        """local-…: the endpoints under Local policy."""
        return self._to_endpoints(names.LOCAL, self.on_node.local_endpoints)

    @cached_property
    def external_chain(self) -> NftChain:
        """external-…: what comes to a NodePort, an external or a load balancer address."""
        name = names.EXTERNAL + self._base
        to_cluster = Decision("goto", names.SERVICE + self._base)
        if not self.port.external_local:
            return NftChain(name, (rule(_MARK), rule(to_cluster)))
        rules = []
        if self._pods:
            rules.append(rule(self._pods.expression(), to_cluster, comment="short-circuit pod traffic"))
        rules.append(rule(FibLocal("saddr"), _MARK, comment="masquerade local traffic"))
        rules.append(rule(FibLocal("saddr"), to_cluster, comment="short-circuit local traffic"))
        if self.on_node.has_external:
            rules.append(rule(Decision("goto", names.LOCAL + self._base)))
        return NftChain(name, tuple(rules))

    @cached_property
    def firewall_chain(self) -> NftChain:
        """firewall-…: drops whom the source ranges do not name."""
        port, node = self.port, self.on_node
        sources = port.source_ranges
        if ranges_hold(sources, node.facts.primary_ip(node.family)):
            sources += port.lb_ips
        return NftChain(names.FIREWALL + self._base, (rule(AddrIn("saddr", sources, inverted=True), _DROP),))

    def endpoint_chain(self, text: str) -> NftChain:
        """endpoint-…: mark a call from itself (hairpin), remember the client, rewrite the destination."""
        base = self._endpoint_base(text)
        rules = [rule(Addr("saddr", self.port.endpoints.by_text[text].address), _MARK)]
        if self.port.affinity_s:
            rules.append(rule(Remember(names.AFFINITY + base)))
        rules.append(rule(ProtoIs(self.protocol), Dnat(text)))
        return NftChain(names.ENDPOINT + base, tuple(rules))
