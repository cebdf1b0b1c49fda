"""Nodes on one Ethernet segment: a dead one is noticed by ARP, and new connections to it fail with "No route to host".

Where a node sends packets for another node's pods straight to that node (flannel's host-gw), its kernel has to know the
other's Ethernet address. After the other is gone the entry lives on: it counts as reachable for 15 to 45 s after its
last confirmation, then for 5 s more while packets are sent, then three probes of a second each go unanswered
(net/core/neighbour.c, neigh_timer_handler; net/ipv4/arp.c, arp_tbl: reachable_time, delay_probe_time, ucast_probes,
retrans_time). Until then packets vanish. From then on a packet waits while the kernel asks anew, three times in three
seconds (mcast_probes); then all that wait are dropped and the kernel says so (arp_error_report, ipv4_link_failure: ICMP
host unreachable). A TCP connect ends at once with EHOSTUNREACH (net/ipv4/tcp_ipv4.c, tcp_v4_err); an established
connection takes the error as soft and goes on; a UDP socket ignores it (net/ipv4/udp.c, __udp4_lib_err: not fatal).

Simplified: a packet crosses the node's kernel, which confirms nothing; when the entry was confirmed last is drawn, as
of an entry that is always in use. The kernel asks without a break, so a connect fails 0 to 3 s after its first SYN that
finds the entry failed; where few packets come it would be 3 s. IPv6's Neighbour Discovery has the same constants.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kflab.dataplane.conntrack import SYN_RETRIES_NS
from kflab.engine.scramble import words
from kflab.engine.types import Int64Array, Timing, UInt64Array

PROBES: Final = 3
"""ucast_probes, and mcast_probes."""

LONGEST_NS: Final = 500_000_000_000
"""`Timing.neighbour_reachable_ns` and `neighbour_delay_ns` may be so long: a part of both is worked out in 64 bits."""

_NEVER: Final = (1 << 62) - 1
_BITS, _OTHER_BITS, _BITS_MASK = np.uint64(24), np.uint64(40), np.uint64((1 << 24) - 1)
"""Two draws of 24 bits come from one word; more would overflow when multiplied by minutes in ns (see `LONGEST_NS`)."""


def _part(bits: UInt64Array, whole: Int64Array) -> Int64Array:
    """That part of `whole` which 24 random bits say."""
    return (bits * whole.astype(np.uint64) >> _BITS).astype(np.int64)


class Neighbours:
    """What nodes know of neighbours that are gone.

    Args:
        salt: Of the run's seed.
        timing: Its `neighbour_…_ns` are the kernels' times.
    """

    def __init__(self, salt: int, timing: Timing) -> None:
        self._salt = salt
        self._reachable_ns, self._delay_ns = timing.neighbour_reachable_ns, timing.neighbour_delay_ns
        self.probes_ns = PROBES * timing.neighbour_probe_ns
        """How long all probes take."""
        self._since: dict[int, int] = {}
        """Place that is cut off → since when."""

    def cut(self, place: int, off: bool, t_ns: int) -> None:
        """A place is cut off from `t_ns` on, or is back."""
        if not off:
            self._since.pop(place, None)
        else:
            self._since.setdefault(place, t_ns)

    def failed_ns(self, callers: Int64Array, there: Int64Array) -> Int64Array:
        """When the entry that a place has of another one fails, after one of them was cut off.

        Args:
            callers: Who sends, shape (n,).
            there: To whom, shape (n,).
        """
        since = np.array([self._since_of(*pair) for pair in zip(callers.tolist(), there.tolist(), strict=True)])
        since = since.astype(np.int64)
        drawn = words(self._salt, callers, there, since)
        whole = np.full(len(drawn), self._reachable_ns)
        reachable = self._reachable_ns // 2 + _part(drawn >> _OTHER_BITS, whole)
        # An entry in use is reachable, then delayed, then probed and confirmed at once: any instant is as likely.
        left = _part(drawn & _BITS_MASK, reachable + self._delay_ns)
        return since + left + self.probes_ns

    def _since_of(self, a: int, b: int) -> int:
        return min(self._since.get(a, _NEVER), self._since.get(b, _NEVER))

    def ends(
        self, callers: Int64Array, there: Int64Array, starts: Int64Array, patience: Int64Array
    ) -> tuple[Int64Array, NDArray[np.bool_]]:
        """How connects end whose packets are lost between two places.

        Args:
            callers: Who sends, shape (n,).
            there: To whom, shape (n,).
            starts: When the first SYN is sent, ns.
            patience: How long its caller waits, ns.

        Returns:
            When the caller knows, ns, shape (n,); and whether it hears "No route to host", shape (n,).
        """
        if not len(callers):
            return starts, np.zeros(0, dtype=bool)
        failed = self.failed_ns(callers, there)
        syns = starts[:, None] + np.array(SYN_RETRIES_NS, dtype=np.int64)
        found = syns >= failed[:, None]
        first = np.where(found.any(axis=1), syns[np.arange(len(syns)), found.argmax(axis=1)], _NEVER)
        told = failed + ((first - failed) // self.probes_ns + 1) * self.probes_ns
        heard = (first < _NEVER) & (told < starts + patience)
        return np.where(heard, told, starts + patience), heard
