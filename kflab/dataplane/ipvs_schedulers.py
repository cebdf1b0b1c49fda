"""How IPVS picks a real server: the kernel's schedulers by name, and their choice as far as it is a function.

Source: net/netfilter/ipvs/ip_vs_rr.c, ip_vs_wrr.c, ip_vs_lc.c, ip_vs_wlc.c, ip_vs_sh.c, ip_vs_dh.c, ip_vs_sed.c,
ip_vs_nq.c, ip_vs_mh.c; k/k pkg/proxy/ipvs/proxier.go (every server gets weight 1, so the weighted schedulers and their
plain ones do the same). A server of weight 0 is never picked: it drains.

- sh and dh are pure functions of the source or destination address.
- rr and wrr go round; lc, wlc, sed and nq ask how many connections each server has. Where they stand is memory, not a
  rule (`memory_view.Turn`). Without it the draw tells one connection's place in the round, or the least loaded server
  of the moment, with the share of its weight: what rr and wrr come to over many connections.
- mh hashes source address and port (kube-proxy sets its mh-port flag): for a new source port, an even chance.

kube-proxy adds servers in no fixed order, so which bucket of sh and dh a server has differs between real nodes; here
servers stand in order of ip:port.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from kflab.dataplane.addresses import address_number
from kflab.dataplane.memory_view import Turn
from kflab.dataplane.packets import Packet

DEFAULT: Final = "rr"

CHOOSER: Final[Mapping[str, str]] = {
    "rr": "round robin",
    "wrr": "weighted round robin",
    "lc": "least connections",
    "wlc": "weighted least connections",
    "sh": "source hash",
    "dh": "destination hash",
    "sed": "shortest expected delay",
    "nq": "never queue",
    "mh": "Maglev hash",
}
"""Schedulers that kflab knows, in words."""

COUNTING: Final = frozenset({"lc", "wlc", "sed", "nq"})
"""Those that ask how many connections each server has."""

_TABLE_BITS: Final = 8
"""ip_vs_sh and ip_vs_dh have 256 buckets (CONFIG_IP_VS_SH_TAB_BITS and its like for dh)."""

_GOLDEN_RATIO_32: Final = 0x61C88647
"""include/linux/hash.h."""


class RealServer(NamedTuple):
    """A server behind a virtual server."""

    text: str
    """ip:port."""
    address: str
    port: int
    weight: int = 1


def turn_words(scheduler: str, turn: Turn, n: int) -> str:
    """Why a scheduler took a server, among `n`: "rr: turn 4 of 6", "lc: 3 active + 9 inactive against 5 + 2"."""
    if turn.load is None:
        return f"{scheduler}: turn {turn.place} of {n}"
    asked = 1 if scheduler in {"sed", "nq"} else 2  # those do not look at inactive ones
    mine, other = turn.load[:asked], (turn.next_best or ())[:asked]
    words = " + ".join(f"{count} {kind}" for count, kind in zip(mine, ("active", "inactive"), strict=False))
    if not other:
        return f"{scheduler}: {words}"
    listed = ", first in the list" if mine == other else ""
    return f"{scheduler}: {words} against {' + '.join(map(str, other))}{listed}"


def shares(scheduler: str, servers: Sequence[RealServer], packet: Packet) -> tuple[tuple[RealServer, Fraction], ...]:
    """Every server that a first packet may get, with its chance; () where all drain or there is none."""
    usable = [server for server in servers if server.weight > 0]
    if not usable:
        return ()
    if scheduler in {"sh", "dh"}:
        return ((_hashed(usable, packet.src if scheduler == "sh" else packet.dst), Fraction(1)),)
    total = sum(server.weight for server in usable)
    return tuple((server, Fraction(server.weight, total)) for server in usable)


def pick(
    scheduler: str, servers: Sequence[RealServer], packet: Packet, draw: int
) -> tuple[RealServer, Fraction] | None:
    """The server that an unsigned 32-bit draw means, with its chance: index (u * n) >> 32 for n equal shares."""
    low = Fraction(0)
    at = Fraction(draw, 1 << 32)
    for server, chance in shares(scheduler, servers, packet):
        low += chance
        if at < low:
            return server, chance
    return None


def _hashed(servers: Sequence[RealServer], address: str) -> RealServer:
    """The server in the address's bucket: buckets are dealt out in turn, as many at a time as a server has weight."""
    version, number = address_number(address) or (4, 0)
    folded = number
    if version == 6:
        folded = 0
        for word in range(4):
            folded ^= (number >> (32 * word)) & 0xFFFFFFFF
    bucket = (folded * _GOLDEN_RATIO_32 & 0xFFFFFFFF) >> (32 - _TABLE_BITS)
    # dh gives every server one bucket at a time; with kube-proxy's weights of 1 that is the same.
    place = bucket % sum(server.weight for server in servers)
    for server in servers:
        place -= server.weight
        if place < 0:
            return server
    return servers[-1]
