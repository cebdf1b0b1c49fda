"""The iptables matches that IPVS mode needs besides those of iptables mode, as data.

They are `Unknown` matches to whoever does not know them: kept word for word, never true. `ipvs_walk` judges them.
"""

from collections.abc import Mapping
from typing import Final

from kflab.dataplane.rules import Unknown

PROTOCOL_NUMBERS: Final[Mapping[str, int]] = {"tcp": 6, "udp": 17, "sctp": 132}
"""IANA protocol numbers."""


class MatchSet(Unknown):
    """-m set --match-set NAME dst,dst: the packet's fields are an entry of an ipset."""

    __slots__ = ()

    @classmethod
    def of(cls, name: str, fields: str) -> "MatchSet":
        """Match a set.

        Args:
            name: The ipset's name.
            fields: What of the packet is looked up: dst, "dst,dst", "dst,dst,src" or "src,dst".
        """
        return cls(f"-m set --match-set {name} {fields}")

    @property
    def set(self) -> str:
        """The ipset's name."""
        return self.text.split()[3]

    @property
    def fields(self) -> str:
        """What of the packet is looked up."""
        return self.text.split()[4]


class OnlyProto(Unknown):
    """-p tcp, without the module of that name."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The protocol, lower case."""
        return self.text.removeprefix("-p ")


class NotFromBridge(Unknown):
    """-m physdev ! --physdev-is-in: it did not come in by a bridge port. True here: kflab's pods are routed."""

    __slots__ = ()


class SrcNotLocal(Unknown):
    """-m addrtype ! --src-type LOCAL."""

    __slots__ = ()


class ToVirtualServer(Unknown):
    """-m ipvs --vproto --vaddr --vport: IPVS has taken the packet for a virtual server."""

    __slots__ = ()

    @classmethod
    def of(cls, protocol: str, address: str, port: int) -> "ToVirtualServer":
        """Match a virtual server, written as iptables-save prints it (libxt_ipvs.c: protocol, address, port)."""
        return cls(f"-m ipvs --vproto {PROTOCOL_NUMBERS[protocol]} --vaddr {address} --vport {port}")


NOT_FROM_BRIDGE: Final = NotFromBridge("-m physdev ! --physdev-is-in")
SRC_NOT_LOCAL: Final = SrcNotLocal("-m addrtype ! --src-type LOCAL")


def only_proto(name: str) -> OnlyProto:
    """Match a protocol without its module."""
    return OnlyProto(f"-p {name}")
