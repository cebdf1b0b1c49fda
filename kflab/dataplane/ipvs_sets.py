"""The ipsets of kube-proxy's IPVS mode: names, types, comments, and what one Service port puts in.

Source: k/k pkg/proxy/ipvs/ipset.go, pkg/proxy/ipvs/ipset/types.go, pkg/proxy/ipvs/proxier.go (1.33): ipsetInfo, the
validated entries of syncProxyRules.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from kflab.dataplane.addresses import IPV4, contains
from kflab.records import dataclass

LOOP_BACK: Final = "KUBE-LOOP-BACK"
CLUSTER_IP: Final = "KUBE-CLUSTER-IP"
EXTERNAL_IP: Final = "KUBE-EXTERNAL-IP"
EXTERNAL_IP_LOCAL: Final = "KUBE-EXTERNAL-IP-LOCAL"
LOAD_BALANCER: Final = "KUBE-LOAD-BALANCER"
LOAD_BALANCER_LOCAL: Final = "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_FW: Final = "KUBE-LOAD-BALANCER-FW"
SOURCE_IP: Final = "KUBE-LOAD-BALANCER-SOURCE-IP"
SOURCE_CIDR: Final = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
HEALTH_PORT: Final = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS: Final = "KUBE-IPVS-IPS"
NODE_PORT: Final = {
    "tcp": "KUBE-NODE-PORT-TCP",
    "udp": "KUBE-NODE-PORT-UDP",
    "sctp": "KUBE-NODE-PORT-SCTP-HASH",
}
NODE_PORT_LOCAL: Final = {
    "tcp": "KUBE-NODE-PORT-LOCAL-TCP",
    "udp": "KUBE-NODE-PORT-LOCAL-UDP",
    "sctp": "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
}

_NAME_MAX: Final = 31


class SetKind(NamedTuple):
    """An ipset that kube-proxy makes."""

    name: str
    type: str
    comment: str


KINDS: Final = (
    SetKind(LOOP_BACK, "hash:ip,port,ip", "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
    SetKind(CLUSTER_IP, "hash:ip,port", "Kubernetes service cluster ip + port for masquerade purpose"),
    SetKind(EXTERNAL_IP, "hash:ip,port", "Kubernetes service external ip + port for masquerade and filter purpose"),
    SetKind(
        EXTERNAL_IP_LOCAL, "hash:ip,port", "Kubernetes service external ip + port with externalTrafficPolicy=local"
    ),
    SetKind(LOAD_BALANCER, "hash:ip,port", "Kubernetes service lb portal"),
    SetKind(
        LOAD_BALANCER_FW,
        "hash:ip,port",
        "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    ),
    SetKind(
        LOAD_BALANCER_LOCAL,
        "hash:ip,port",
        "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    ),
    SetKind(
        SOURCE_IP,
        "hash:ip,port,ip",
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    ),
    SetKind(
        SOURCE_CIDR,
        "hash:ip,port,net",
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    ),
    SetKind(NODE_PORT["tcp"], "bitmap:port", "Kubernetes nodeport TCP port for masquerade purpose"),
    SetKind(NODE_PORT_LOCAL["tcp"], "bitmap:port", "Kubernetes nodeport TCP port with externalTrafficPolicy=local"),
    SetKind(NODE_PORT["udp"], "bitmap:port", "Kubernetes nodeport UDP port for masquerade purpose"),
    SetKind(NODE_PORT_LOCAL["udp"], "bitmap:port", "Kubernetes nodeport UDP port with externalTrafficPolicy=local"),
    SetKind(
        NODE_PORT["sctp"],
        "hash:ip,port",
        "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
    ),
    SetKind(
        NODE_PORT_LOCAL["sctp"],
        "hash:ip,port",
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    ),
    SetKind(HEALTH_PORT, "bitmap:port", "Kubernetes health check node port"),
    SetKind(IPVS_IPS, "hash:ip", "Addresses on the ipvs interface"),
)
"""Every ipset, in kube-proxy's order."""

KIND_OF: Final = {kind.name: kind for kind in KINDS}


def set_name(name: str, family: str) -> str:
    """The name of a set of a family: for IPv6 KUBE-6-…, cut at 31 characters (ipset.go, NewIPSet)."""
    return name if family == IPV4 else name.replace("KUBE-", "KUBE-6-", 1)[:_NAME_MAX]


class Entry(NamedTuple):
    """An entry: ip,proto:port,source; a part that the set's type lacks is "" or 0."""

    ip: str = ""
    protocol: str = ""
    port: int = 0
    source: str = ""
    """An address or a CIDR."""

    def saved(self) -> str:
        """As `ipset save` prints it."""
        if not self.ip:
            return str(self.port)
        if not self.port:
            return self.ip
        tail = f",{self.source}" if self.source else ""
        return f"{self.ip},{self.protocol}:{self.port}{tail}"

    def has(self, ip: str, protocol: str, port: int, source: str) -> bool:
        """Whether a packet's fields are this entry; a bitmap:port knows no protocol."""
        if self.port and port != self.port:
            return False
        if self.ip and self.ip != ip:
            return False
        if self.protocol and self.protocol != protocol:
            return False
        return not self.source or contains(self.source, source)


@dataclass(frozen=True, slots=True)
class IpSet:
    """One ipset with its entries."""

    kind: SetKind
    entries: tuple[Entry, ...] = ()

    def saved(self, family: str) -> Iterator[str]:
        """Lines of `ipset save`, without the kernel's own options (bucketsize, initval)."""
        name = set_name(self.kind.name, family)
        if self.kind.type == "bitmap:port":
            options = "range 0-65535"
        else:
            options = f"family {'inet' if family == IPV4 else 'inet6'} hashsize 1024 maxelem 65536"
        yield f"create {name} {self.kind.type} {options}"
        for entry in self.entries:
            yield f"add {name} {entry.saved()}"
