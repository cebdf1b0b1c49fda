"""Whether a rule's matches hold for a packet: what netfilter's match modules do with the first of a connection."""

from collections.abc import Callable, Mapping
from typing import Any

from kflab.dataplane.addresses import address_number
from kflab.dataplane.packets import Packet
from kflab.dataplane.rules import (
    AddrType,
    Comment,
    CtState,
    Dport,
    Dst,
    InIface,
    Mark,
    Match,
    Nfacct,
    Proto,
    RecentCheck,
    RecentSet,
    Src,
    Statistic,
    Unknown,
    network_hit,
)


class Flow:
    """A packet on its way through a node: addresses as numbers, mark, and whether it was rewritten."""

    __slots__ = ("dst_local", "dst_number", "mark", "packet", "protocol", "rewritten", "src_local", "src_number")

    def __init__(self, packet: Packet, src_local: bool, dst_local: bool) -> None:
        self.packet = packet
        self.protocol = packet.protocol.lower()
        self.src_number = address_number(packet.src)
        self.dst_number = address_number(packet.dst)
        self.src_local = src_local
        self.dst_local = dst_local
        self.mark = 0
        self.rewritten = False

    def copy(self) -> "Flow":
        """An independent flow in the same state."""
        twin = Flow.__new__(Flow)
        twin.packet, twin.protocol, twin.mark, twin.rewritten = self.packet, self.protocol, self.mark, self.rewritten
        twin.src_number, twin.dst_number = self.src_number, self.dst_number
        twin.src_local, twin.dst_local = self.src_local, self.dst_local
        return twin

    def set_mark(self, argument: str) -> None:
        """Apply a MARK target: --or-mark, --xor-mark or --set-xmark value/mask (xt_MARK: mark & ~mask ^ value)."""
        option, _, text = argument.partition(" ")
        value, _, mask = text.partition("/")
        number = int(value, 0)
        if option == "--or-mark":
            self.mark |= number
        elif option == "--xor-mark":
            self.mark ^= number
        else:
            self.mark = (self.mark & ~int(mask or "0xffffffff", 0)) ^ number

    def dnat(self, argument: str) -> None:
        """Apply a DNAT target: --to-destination ip:port, [ip]:port or ip."""
        host, port = split_destination(argument.split()[-1])
        before = self.packet
        self.packet = Packet(before.src, before.sport, host, port or before.dport, before.protocol)
        self.dst_number = address_number(host)
        self.rewritten = True


def split_destination(text: str) -> tuple[str, int]:
    """Split ip:port or [ip]:port; port 0 where there is none."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, int(port[1:] or 0) if port else 0
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, int(port)
    return text, 0


def _always(match: Any, flow: Flow) -> bool:
    return True


def _proto(match: Proto, flow: Flow) -> bool:
    return flow.protocol == match.name


def _dport(match: Dport, flow: Flow) -> bool:
    return flow.packet.dport == match.port


def _src(match: Src, flow: Flow) -> bool:
    return network_hit(match.cidr, flow.src_number) is not match.inverted


def _dst(match: Dst, flow: Flow) -> bool:
    return network_hit(match.cidr, flow.dst_number) is not match.inverted


def _in_iface(match: InIface, flow: Flow) -> bool:
    if match.cidr is None:
        return False
    return (bool(match.cidr) and network_hit(match.cidr, flow.src_number)) is not match.inverted


def _addrtype(match: AddrType, flow: Flow) -> bool:
    return flow.src_local if match.of == "src" else flow.dst_local


def _ctstate(match: CtState, flow: Flow) -> bool:
    """A first packet is NEW; once its destination was rewritten it also has the virtual state DNAT."""
    state = "NEW" in match.states or (flow.rewritten and "DNAT" in match.states)
    return state is not match.inverted


def _mark(match: Mark, flow: Flow) -> bool:
    return (flow.mark & match.mask == match.value) is not match.inverted


def _never(match: Unknown, flow: Flow) -> bool:
    return False


_JUDGES: Mapping[type, Callable[[Any, Flow], bool]] = {
    Comment: _always,
    Nfacct: _always,
    RecentSet: _always,
    RecentCheck: _always,
    Statistic: _always,
    Proto: _proto,
    Dport: _dport,
    Src: _src,
    Dst: _dst,
    InIface: _in_iface,
    AddrType: _addrtype,
    CtState: _ctstate,
    Mark: _mark,
    Unknown: _never,
}
"""Chance and memory (Statistic, RecentCheck) are the walker's to judge, after these."""


def hits(matches: tuple[Match, ...], flow: Flow) -> bool:
    """Whether every match holds that neither chance nor memory decides. A match of unknown kind never holds."""
    for match in matches:
        if not _JUDGES[type(match)](match, flow):
            return False
    return True
