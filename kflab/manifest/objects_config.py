"""Configuration: ConfigMaps, Secrets, and how a cluster's kube-proxy is set."""

from collections.abc import Mapping
from dataclasses import field

from kflab.manifest.objects import KubeObject, Labels
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class ConfigMap(KubeObject):
    """v1 ConfigMap."""

    data: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Secret(KubeObject):
    """v1 Secret; values are never shown."""

    type: str = "Opaque"


@dataclass(frozen=True, slots=True)
class ProxyConntrack:
    """`conntrack` of a KubeProxyConfiguration; defaults of pkg/proxy/apis/config/v1alpha1/defaults.go. 0 of a timeout:
    the kernel's stays."""

    max_per_core: int = 32_768
    min: int = 131_072
    tcp_established_s: float = 86_400.0
    tcp_close_wait_s: float = 3_600.0
    udp_s: float = 0.0
    udp_stream_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KubeProxyConfiguration(KubeObject):
    """kubeproxy.config.k8s.io/v1alpha1. Has no metadata; its name is "kube-proxy"."""

    mode: str = "iptables"
    cluster_cidrs: tuple[str, ...] = ()
    detect_local_mode: str = "ClusterCIDR"
    pod_interface: str = ""
    """detectLocal.bridgeInterface, or interfaceNamePrefix with `+`, whichever the mode asks for."""
    node_port_addresses: tuple[str, ...] = ()
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    min_sync_s: float = 1.0
    sync_s: float = 30.0
    ipvs_scheduler: str = ""
    """`ipvs.scheduler`; "" is rr."""
    ipvs_tcp_s: float = 0.0
    """`ipvs.tcpTimeout`; 0: the kernel's."""
    ipvs_udp_s: float = 0.0
    """`ipvs.udpTimeout`; 0: the kernel's."""
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    conntrack: ProxyConntrack = ProxyConntrack()
