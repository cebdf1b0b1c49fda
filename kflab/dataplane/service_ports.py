"""What a Service port is to kube-proxy: its addresses, policies and endpoints, independent of any node.

Sources: k/k pkg/proxy/serviceport.go (newBaseServiceInfo), pkg/proxy/util/utils.go (ShouldSkipService, address
families, ipMode), pkg/api/v1/service/util.go (ExternalPolicyLocal, NeedsHealthCheck).
"""

from collections.abc import Iterable, Mapping
from functools import cached_property

from kflab.dataplane import iptables_names as names
from kflab.dataplane.addresses import IPV4, canonical, canonical_cidr, contains, family_of
from kflab.dataplane.endpoints import EndpointSet, endpoints_by_port
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.records import dataclass


@dataclass(frozen=True, eq=False)
class PortRules:
    """One port of one Service with its endpoints. Immutable and shared by all nodes; caches are derived from it."""

    service: Key
    index: int
    """Place in the Service's list of ports."""
    name: str
    """Service port name: namespace/service, with :port name where it has one."""
    protocol: str
    """TCP, UDP or SCTP."""
    cluster_ip: str
    port: int
    node_port: int
    external_ips: tuple[str, ...]
    lb_ips: tuple[str, ...]
    """Load balancer addresses that the node captures (ipMode VIP or none)."""
    source_ranges: tuple[str, ...]
    """loadBalancerSourceRanges of this family, canonical."""
    affinity_s: int
    """Seconds of ClientIP affinity; 0 without affinity."""
    health_port: int
    """healthCheckNodePort where it counts, else 0."""
    external_local: bool
    internal_local: bool
    endpoints: EndpointSet

    @property
    def order(self) -> tuple[Key, int]:
        """Where its rules stand among those of other Service ports."""
        return self.service, self.index

    @property
    def externally_accessible(self) -> bool:
        return bool(self.node_port or self.external_ips or self.lb_ips)

    @property
    def uses_cluster(self) -> bool:
        """Whether any traffic follows Cluster policy (short-circuited pod traffic counts)."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local(self) -> bool:
        return self.internal_local or (self.external_local and self.externally_accessible)

    @cached_property
    def hash(self) -> str:
        return names.chain_hash(self.name, self.protocol)

    @cached_property
    def sep_of(self) -> Mapping[str, str]:
        """ip:port → its KUBE-SEP chain."""
        return {
            endpoint.text: names.SEP + names.chain_hash(self.name, self.protocol, endpoint.text)
            for endpoint in self.endpoints.all
        }

    @cached_property
    def endpoint_of(self) -> Mapping[str, str]:
        """KUBE-SEP chain → ip:port."""
        return {chain: text for text, chain in self.sep_of.items()}

    def cluster_list(self, node: str, zone: str, same_node: bool) -> tuple[str, ...]:
        """ip:port of the endpoints under Cluster policy on a node; () where the policy is never used."""
        if not self.uses_cluster:
            return ()
        chosen = self.endpoints.cluster_list(node, zone, same_node)
        if chosen is self.endpoints.unhinted:
            return self.endpoints.unhinted_texts
        return tuple(endpoint.text for endpoint in chosen)

    def local_list(self, node: str) -> tuple[str, ...]:
        """ip:port of the endpoints under Local policy on a node; () where the policy is never used."""
        if not self.uses_local:
            return ()
        return tuple(endpoint.text for endpoint in self.endpoints.local_list(node))


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """A Service compiled for one address family: one value per revision, shared by all nodes."""

    key: Key
    family: str
    ports: tuple[PortRules, ...] = ()
    """() for Services without rules: headless, ExternalName, without ClusterIP."""
    n_endpoints: int = 0
    """Endpoints of all ports; they add up to large-cluster mode."""


def _of_family(addresses: Iterable[str], family: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(canonical(address) for address in addresses if family_of(address) == family))


def compile_service(service: Service, slices: Iterable[EndpointSlice], family: str = IPV4) -> ServiceRules:
    """Compile a Service and its slices.

    Args:
        service: The Service as the proxy knows it.
        slices: Its EndpointSlices (label kubernetes.io/service-name); others are left out.
        family: IPv4 or IPv6: kube-proxy runs once per family and sees only addresses of its own.

    Returns:
        Node-independent rules; without ports where kube-proxy skips the Service.
    """
    key = service.key
    cluster_ip = next((ip for ip in service.cluster_ips if family_of(ip) == family), "")
    if service.type == "ExternalName" or service.headless or not cluster_ip:
        return ServiceRules(key, family)
    by_port = endpoints_by_port((piece for piece in slices if piece.service == key), family)
    external_ips = _of_family(service.external_ips, family)
    lb_ips = _of_family((entry.ip for entry in service.load_balancer if entry.ip_mode != "Proxy"), family)
    external = service.type in {"NodePort", "LoadBalancer"} or (service.type == "ClusterIP" and service.external_ips)
    external_local = bool(external) and service.external_traffic_policy == "Local"
    health_port = service.health_check_node_port if external_local and service.type == "LoadBalancer" else 0
    ports = []
    for index, port in enumerate(service.ports):
        name = f"{key.namespace}/{key.name}" + (f":{port.name}" if port.name else "")
        ports.append(
            PortRules(
                service=key,
                index=index,
                name=name,
                protocol=port.protocol,
                cluster_ip=canonical(cluster_ip),
                port=port.port,
                node_port=port.node_port,
                external_ips=external_ips,
                lb_ips=lb_ips,
                source_ranges=_ranges(service.load_balancer_source_ranges, family),
                affinity_s=service.affinity_timeout_s if service.session_affinity == "ClientIP" else 0,
                health_port=health_port,
                external_local=external_local,
                internal_local=service.internal_traffic_policy == "Local",
                endpoints=EndpointSet(by_port.get((port.name, port.protocol), ())),
            )
        )
    return ServiceRules(key, family, tuple(ports), sum(len(port.endpoints.all) for port in ports))


def _ranges(given: tuple[str, ...], family: str) -> tuple[str, ...]:
    """Source ranges of a family; validation lets blanks around them through (serviceport.go trims them)."""
    return tuple(canonical_cidr(cidr) for cidr in given if family_of(cidr) == family and canonical_cidr(cidr))


def ranges_hold(ranges: tuple[str, ...], address: str) -> bool:
    """Whether any range contains an address."""
    return bool(address) and any(contains(cidr, address) for cidr in ranges)
