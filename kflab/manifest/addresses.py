"""IP addresses as kube-proxy reads them: leading zeros are decimal, blanks around source ranges do not matter.

Source: k8s.io/utils/net ParseIPSloppy and ParseCIDRSloppy (Go before 1.17); pkg/proxy/serviceport.go trims the source
ranges. The API server is stricter by now, and manifests from before live on.
"""

import ipaddress
import re
from functools import lru_cache

_ZEROS = re.compile(r"(?<![0-9a-fA-F:])0+(?=[0-9])")


@lru_cache(maxsize=65536)
def sloppy_ip(text: str) -> str | None:
    """The address in its usual form, or None if it is none even for kube-proxy."""
    try:
        return str(ipaddress.ip_address(_ZEROS.sub("", text) if "." in text else text))
    except ValueError:
        return None


@lru_cache(maxsize=65536)
def sloppy_cidr(text: str) -> str | None:
    """The network in its usual form (host bits cleared), or None if it is none even for kube-proxy."""
    address, slash, bits = text.strip().partition("/")
    ip = sloppy_ip(address)
    if ip is None or not slash or not bits.isdigit():
        return None
    try:
        return str(ipaddress.ip_network(f"{ip}/{int(bits)}", strict=False))
    except ValueError:
        return None


def family(address: str) -> str:
    """IPv4 or IPv6."""
    return "IPv6" if ":" in address else "IPv4"
