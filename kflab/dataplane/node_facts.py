"""What kube-proxy knows of the node it runs on."""

from dataclasses import field

from kflab.dataplane.addresses import IPV4, canonical, contains, family_of, is_loopback
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.manifest.objects_cluster import Node
from kflab.records import dataclass

ZONE_LABEL = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as its kube-proxy sees it."""

    name: str
    ips: tuple[str, ...] = ()
    """Every non-loopback address of the node, both families, canonical text."""
    zone: str = ""
    """Label topology.kubernetes.io/zone, "" without."""
    primary_ips: tuple[str, ...] = ()
    """Primary address per family: decides whether source ranges contain the node."""
    pod_cidrs: tuple[str, ...] = ()
    extra_ips: tuple[str, ...] = field(default=())
    """Addresses on the node that no Node object names, e.g. the gateway address of its bridge."""

    @classmethod
    def from_node(cls, node: Node, extra_ips: tuple[str, ...] = ()) -> "NodeFacts":
        """Facts of a Node object. The primary address of a family is the first InternalIP, else the first ExternalIP.

        Source: k/k pkg/util/node/node.go, GetNodeHostIPs.
        """
        ips = tuple(dict.fromkeys(filter(None, map(canonical, (*node.internal_ips, *node.external_ips)))))
        primary: dict[str, str] = {}
        for ip in ips:
            primary.setdefault(family_of(ip), ip)
        return cls(
            name=node.meta.name,
            ips=ips,
            zone=node.meta.labels.get(ZONE_LABEL, ""),
            primary_ips=tuple(primary.values()),
            pod_cidrs=node.pod_cidrs,
            extra_ips=tuple(filter(None, map(canonical, extra_ips))),
        )

    def primary_ip(self, family: str = IPV4) -> str:
        """The primary address of a family; "" where the node has none."""
        return next((ip for ip in self.primary_ips if family_of(ip) == family), "")

    def is_local(self, address: str) -> bool:
        """Whether the kernel routes the address to itself (address type LOCAL): loopback or one of its own."""
        return address in self.ips or address in self.extra_ips or is_loopback(address)

    def node_port_ips(self, config: ProxyConfig, family: str) -> tuple[str, ...]:
        """Addresses that get a rule of their own under nodePortAddresses, loopback first.

        Source: k/k pkg/proxy/util/nodeport_addresses.go GetNodeIPs; proxier.go skips loopback on IPv6 and where
        localhost node ports are off.
        """
        if "primary" in config.node_port_addresses:
            primary = self.primary_ip(family)
            return (primary,) if primary else ()
        loopback = "127.0.0.1" if family == IPV4 else "::1"
        found: dict[str, None] = {}
        for cidr in config.node_port_cidrs(family):
            for ip in (loopback, *self.ips):
                if family_of(ip) != family or not contains(cidr, ip):
                    continue
                if is_loopback(ip) and not config.serves_localhost(family):
                    continue
                found[ip] = None
        return tuple(found)
