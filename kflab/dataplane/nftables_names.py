"""Names of the chains, sets and maps in kube-proxy's nftables table.

Source: k/k pkg/proxy/nftables/proxier.go (release-1.33), constants, servicePortChainNameBase,
servicePortEndpointChainNameBase, hashAndTruncate: the first 8 characters of the base32 SHA-256 of the name, a dash,
the name itself; at most 240 characters, longer ones end in "...".
"""

import hashlib
from functools import lru_cache
from typing import Final

from kflab.dataplane.base32 import base32_40

TABLE: Final = "kube-proxy"

FILTER_PREROUTING_PRE_DNAT: Final = "filter-prerouting-pre-dnat"
FILTER_OUTPUT_PRE_DNAT: Final = "filter-output-pre-dnat"
FILTER_INPUT: Final = "filter-input"
FILTER_FORWARD: Final = "filter-forward"
FILTER_OUTPUT: Final = "filter-output"
NAT_PREROUTING: Final = "nat-prerouting"
NAT_OUTPUT: Final = "nat-output"
NAT_POSTROUTING: Final = "nat-postrouting"

SERVICES: Final = "services"
SERVICE_ENDPOINTS_CHECK: Final = "service-endpoints-check"
NODEPORT_ENDPOINTS_CHECK: Final = "nodeport-endpoints-check"
CLUSTER_IPS_CHECK: Final = "cluster-ips-check"
FIREWALL_CHECK: Final = "firewall-check"
MARK_MASQ: Final = "mark-for-masquerade"
MASQUERADING: Final = "masquerading"
REJECT_CHAIN: Final = "reject-chain"

CLUSTER_IPS: Final = "cluster-ips"
NODEPORT_IPS: Final = "nodeport-ips"
SERVICE_IPS: Final = "service-ips"
SERVICE_NODEPORTS: Final = "service-nodeports"
NO_ENDPOINT_SERVICES: Final = "no-endpoint-services"
NO_ENDPOINT_NODEPORTS: Final = "no-endpoint-nodeports"
FIREWALL_IPS: Final = "firewall-ips"

SERVICE: Final = "service-"
LOCAL: Final = "local-"
EXTERNAL: Final = "external-"
FIREWALL: Final = "firewall-"
ENDPOINT: Final = "endpoint-"
AFFINITY: Final = "affinity-"

_BASE_MAX: Final = 256 - 16
"""knftables.NameLengthMax less the longest prefix."""


def _hashed(name: str) -> str:
    digest = hashlib.sha256(name.encode()).digest()
    full = f"{base32_40(digest)}-{name}"
    return full if len(full) <= _BASE_MAX else f"{full[: _BASE_MAX - 3]}..."


@lru_cache(maxsize=65_536)
def port_base(namespace: str, service: str, protocol: str, port_name: str) -> str:
    """What follows the prefix in the names of a Service port's chains.

    Args:
        namespace: The Service's.
        service: Its name.
        protocol: TCP, UDP or SCTP, any case.
        port_name: "" for a port without a name.
    """
    return _hashed(f"{namespace}/{service}/{protocol.lower()}/{port_name}")


@lru_cache(maxsize=262_144)
def endpoint_base(namespace: str, service: str, protocol: str, port_name: str, address: str, port: int) -> str:
    """What follows the prefix in the names of an endpoint's chain and affinity set; colons of IPv6 become dots."""
    own = f"{namespace}/{service}/{protocol.lower()}/{port_name}"
    return _hashed(f"{own}__{address.replace(':', '.')}/{port}")
