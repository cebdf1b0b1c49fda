"""Names of kube-proxy's chains.

Source: k/k pkg/proxy/iptables/proxier.go, portProtoHash and servicePortEndpointChainName: SHA-256 over the service
port name, the protocol in lower case and, for endpoints, ip:port, without separators; base32; 16 characters.
"""

import hashlib
from typing import Final

from kflab.dataplane.base32 import base32_80

SERVICES: Final = "KUBE-SERVICES"
EXTERNAL_SERVICES: Final = "KUBE-EXTERNAL-SERVICES"
NODEPORTS: Final = "KUBE-NODEPORTS"
PROXY_FIREWALL: Final = "KUBE-PROXY-FIREWALL"
FIREWALL: Final = "KUBE-FIREWALL"
FORWARD: Final = "KUBE-FORWARD"
POSTROUTING: Final = "KUBE-POSTROUTING"
MARK_MASQ: Final = "KUBE-MARK-MASQ"
CANARY: Final = "KUBE-PROXY-CANARY"

SVC: Final = "KUBE-SVC-"
SVL: Final = "KUBE-SVL-"
EXT: Final = "KUBE-EXT-"
FW: Final = "KUBE-FW-"
SEP: Final = "KUBE-SEP-"


def chain_hash(service_port: str, protocol: str, endpoint: str = "") -> str:
    """The 16 characters of a chain name.

    Args:
        service_port: `namespace/service`, with `:portname` where the port has a name.
        protocol: TCP, UDP or SCTP, any case.
        endpoint: ip:port for an endpoint's chain.
    """
    digest = hashlib.sha256(f"{service_port}{protocol.lower()}{endpoint}".encode()).digest()
    return base32_80(digest)


def prefix_of(chain: str) -> str:
    """The prefix of a per-service chain (KUBE-SVC-…), "" for other chains."""
    for prefix in (SVC, SEP, EXT, SVL, FW):
        if chain.startswith(prefix) and len(chain) == len(prefix) + 16:
            return prefix
    return ""
