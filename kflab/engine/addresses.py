"""Ports and hashes that follow from a request's draw words: the walker and the arrays use the same functions."""

from hashlib import blake2b

import numpy as np

from kflab.engine.types import Int64Array, UInt64Array

FIRST_PORT = 32768
"""First ephemeral port of Linux, net.ipv4.ip_local_port_range (kernel Documentation/networking/ip-sysctl.rst)."""

N_PORTS = 60999 - 32768 + 1

_U16 = np.uint64(0xFFFF)
_PORT_BITS = np.uint64(16)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)
_SHIFT_1 = np.uint64(30)
_SHIFT_2 = np.uint64(27)


def ephemeral_ports(words: UInt64Array) -> Int64Array:
    """Give the source port that a word draws.

    Args:
        words: ENTRY words for the client's port, BACKEND words (of the try) for the ingress's port; shape (n,).

    Returns:
        Ports 32768-60999, bits 16-31 of the word scaled onto the range.
    """
    bits = words >> _PORT_BITS & _U16
    return (bits * np.uint64(N_PORTS) >> _PORT_BITS).astype(np.int64) + FIRST_PORT


def ephemeral_port(word: int) -> int:
    """Give the source port that one word draws, as `ephemeral_ports` does."""
    return ((word >> 16 & 0xFFFF) * N_PORTS >> 16) + FIRST_PORT


def flow_salt(client: str, destination: str) -> int:
    """Hash the constant part of a flow's five-tuple (TCP), 64 bits."""
    digest = blake2b(f"TCP {client} {destination}".encode(), digest_size=8, person=b"kflab flow").digest()
    return int.from_bytes(digest, "little")


def flow_hashes(salts: UInt64Array, ports: Int64Array) -> UInt64Array:
    """Hash flows to 32 bits: an integer mix (the finaliser of splitmix64) of the constant part and the source port.

    AWS does not publish the NLB's hash; any well-mixed one has the same shares and the same stickiness.
    """
    x = salts ^ ports.astype(np.uint64)
    x = (x ^ x >> _SHIFT_1) * _MIX_1
    x = (x ^ x >> _SHIFT_2) * _MIX_2
    return x >> _HALF
