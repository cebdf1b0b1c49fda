"""IP addresses and CIDRs as kube-proxy and netfilter read them: leniently parsed, compared as integers.

kube-proxy reads addresses with netutils.ParseIPSloppy (k8s.io/utils/net/parse.go): leading zeros of an IPv4 octet are
decimal and are not written back.
"""

import ipaddress
import socket
from functools import lru_cache
from typing import Final

IPV4: Final = "IPv4"
IPV6: Final = "IPv6"


def _strip_zeros(text: str) -> str:
    """Drop leading zeros of dotted octets, so that 010.1.02.3 is 10.1.2.3."""
    if "." not in text or ":" in text:
        return text
    return ".".join(octet.lstrip("0") or "0" if octet.isdigit() else octet for octet in text.split("."))


def _packed_ipv4(text: str) -> bytes | None:
    """The four bytes of a plain dotted address, None for anything else: nearly every address there is, in C."""
    try:
        return socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=262_144)
def address_number(text: str) -> tuple[int, int] | None:
    """Read an address.

    Returns:
        (4 or 6, the address as an integer), or None where the text is no address. An IPv4-mapped IPv6 address is
        IPv4, as Go's net.IP treats it.
    """
    packed = _packed_ipv4(text)
    if packed is not None:
        return 4, int.from_bytes(packed, "big")
    try:
        address = ipaddress.ip_address(_strip_zeros(text.strip()))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


@lru_cache(maxsize=262_144)
def canonical(text: str) -> str:
    """The address as Go's net.IP.String writes it; "" where the text is no address."""
    packed = _packed_ipv4(text)
    if packed is not None:
        return socket.inet_ntop(socket.AF_INET, packed)
    number = address_number(text)
    if number is None:
        return ""
    version, value = number
    return str(ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value))


def family_of(text: str) -> str:
    """IPv4 or IPv6 of an address or CIDR; "" where it is neither."""
    number = address_number(text.partition("/")[0])
    if number is None:
        return ""
    return IPV4 if number[0] == 4 else IPV6


@lru_cache(maxsize=65_536)
def network(cidr: str) -> tuple[int, int, int] | None:
    """Read a CIDR, or an address as a network of one.

    Returns:
        (4 or 6, network address, mask) as integers, host bits cleared; None where the text is no CIDR.
    """
    base, slash, length = cidr.strip().partition("/")
    number = address_number(base)
    if number is None:
        return None
    version, value = number
    bits = 32 if version == 4 else 128
    if not slash:
        length = str(bits)
    if not (length.isascii() and length.isdigit()) or int(length) > bits:
        return None
    mask = ((1 << bits) - 1) ^ ((1 << (bits - int(length))) - 1)
    return version, value & mask, mask


def canonical_cidr(cidr: str) -> str:
    """The CIDR as Go's net.IPNet.String writes it (host bits cleared); "" where the text is none."""
    if "/" in cidr:
        return _canonical_network(cidr)
    address = canonical(cidr)
    return f"{address}/{128 if ':' in address else 32}" if address else ""


@lru_cache(maxsize=65_536)
def _canonical_network(cidr: str) -> str:
    parts = network(cidr)
    if parts is None:
        return ""
    version, value, mask = parts
    base = ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value)
    return f"{base}/{mask.bit_count()}"


def contains(cidr: str, address: str) -> bool:
    """Whether an address lies in a CIDR of its own family; False where either cannot be read."""
    parts = network(cidr)
    number = address_number(address)
    if parts is None or number is None:
        return False
    return number[0] == parts[0] and number[1] & parts[2] == parts[1]


def is_loopback(address: str) -> bool:
    """127.0.0.0/8 or ::1."""
    return contains("127.0.0.0/8", address) or contains("::1/128", address)
