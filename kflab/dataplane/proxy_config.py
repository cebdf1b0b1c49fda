"""How kube-proxy is configured: what a KubeProxyConfiguration says, as far as it changes rules."""

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from kflab.dataplane.addresses import IPV4, contains, family_of, network
from kflab.dataplane.local_traffic import LocalTraffic
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.records import dataclass

LARGE_CLUSTER_ENDPOINTS: Final = 1000
"""More endpoints than this in all: rules to and in endpoint chains lose their comments (k/k
pkg/proxy/iptables/proxier.go, largeClusterEndpointsThreshold)."""

INTERFACE_MODES: Final = ("BridgeInterface", "InterfaceNamePrefix")
"""Values of detectLocalMode that tell pods by the interface their packets come in by."""

MASQUERADE_MARK: Final = 0x4000
"""Packet mark of traffic to masquerade: bit 14 (iptables.masqueradeBit, kube-proxy v1alpha1 defaults.go)."""


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """kube-proxy's settings on a node. Defaults are those of kube-proxy v1alpha1 defaults.go, 1.33."""

    mode: str = "iptables"
    """iptables, nftables or ipvs."""
    cluster_cidrs: tuple[str, ...] = ()
    """The pod network: a source inside it is a pod. () is: no detector of local traffic, in mode ClusterCIDR."""
    detect_local_mode: str = "ClusterCIDR"
    """ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix."""
    pod_interface: str = ""
    """For the last two: the bridge's name, or the prefix with `+`."""
    masquerade_all: bool = False
    """`iptables.masqueradeAll`: also rewrite the source of pods that call a ClusterIP."""
    localhost_node_ports: bool = True
    """`iptables.localhostNodePorts`: NodePorts answer on 127.0.0.0/8 too (IPv4 only)."""
    node_port_addresses: tuple[str, ...] = ()
    """CIDRs of node addresses that serve NodePorts; () is all; ("primary",) is the node's primary address."""
    ipvs_scheduler: str = ""
    """`ipvs.scheduler`; "" is rr."""
    ipvs_tcp_s: float = 0.0
    """`ipvs.tcpTimeout`: how long IPVS keeps the entry of an established connection; 0: the kernel's 900 s."""
    ipvs_udp_s: float = 0.0
    """`ipvs.udpTimeout`: how long IPVS keeps an entry after its last datagram; 0: the kernel's 300 s."""
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    nfacct: bool = False
    """Whether the kernel has both of kube-proxy's accounting objects (proxier.go, ensureNFAcctCounter). Off by
    default, so that the printed text loads on a node without them."""
    random_fully: bool = True
    """Whether iptables knows MASQUERADE --random-fully (1.6.2 and newer)."""
    conntrack_tcp_be_liberal: bool = False
    """sysctl nf_conntrack_tcp_be_liberal: INVALID packets are then not dropped."""

    @classmethod
    def from_object(cls, given: KubeProxyConfiguration | None) -> "ProxyConfig":
        """Settings of a KubeProxyConfiguration object; the defaults without one."""
        if given is None:
            return cls()
        return cls(
            mode=given.mode or "iptables",
            cluster_cidrs=tuple(given.cluster_cidrs),
            detect_local_mode=given.detect_local_mode or "ClusterCIDR",
            pod_interface=given.pod_interface,
            masquerade_all=given.masquerade_all,
            localhost_node_ports=given.localhost_node_ports,
            node_port_addresses=tuple(given.node_port_addresses),
            ipvs_scheduler=given.ipvs_scheduler,
            ipvs_tcp_s=given.ipvs_tcp_s,
            ipvs_udp_s=given.ipvs_udp_s,
            feature_gates=dict(given.feature_gates),
        )

    def gate(self, name: str) -> bool:
        """Whether a feature gate is on; gates that are not given are off (alpha in 1.33)."""
        return bool(self.feature_gates.get(name, False))

    def local_traffic(self, family: str, pod_cidrs: tuple[str, ...] = ()) -> LocalTraffic | None:
        """What tells pods of one family from others on a node; None without a detector.

        Args:
            family: IPv4 or IPv6.
            pod_cidrs: The node's.
        """
        given = self.cluster_cidrs if self.detect_local_mode == "ClusterCIDR" else pod_cidrs
        cidr = next((cidr for cidr in given if family_of(cidr) == family), "")
        if self.detect_local_mode in INTERFACE_MODES:
            return LocalTraffic(cidr, self.pod_interface) if self.pod_interface else None
        return LocalTraffic(cidr) if cidr else None

    def node_port_cidrs(self, family: str) -> tuple[str, ...]:
        """Node port CIDRs of a family; () where every local address serves node ports.

        Source: k/k pkg/proxy/util/nodeport_addresses.go (a CIDR of the other family is ignored, a zero CIDR is all).
        """
        own = tuple(cidr for cidr in self.node_port_addresses if family_of(cidr) == family)
        if any((parts := network(cidr)) is not None and parts[2] == 0 for cidr in own):
            return ()
        return own

    def serves_localhost(self, family: str) -> bool:
        """Whether NodePorts answer on 127.0.0.0/8 (proxier.go NewProxier, nodePortAddresses.ContainsIPv4Loopback)."""
        if family != IPV4 or not self.localhost_node_ports or "primary" in self.node_port_addresses:
            return False
        own = self.node_port_cidrs(family)
        return not own or any(
            contains(cidr, "127.0.0.1") or contains("127.0.0.0/8", cidr.split("/")[0]) for cidr in own
        )
