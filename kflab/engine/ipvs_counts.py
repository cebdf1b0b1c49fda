"""How many connections IPVS holds to each destination of a virtual server, and whom its counting schedulers take.

What is modelled, by source:

* A connection is active from its SYN until it is closed, SYN_RECV included (net/netfilter/ipvs/ip_vs_proto_tcp.c,
  tcp_state_active_table, set_tcp_state: since Linux 4.8; before, it was active once established). Then it is inactive
  for as long as its last state lasts (see `lingering`). A UDP one is inactive all its life: it starts so (ip_vs_conn.c,
  ip_vs_bind_dest), and only TCP's and SCTP's states move it.
* lc takes the least active * 256 + inactive (include/net/ip_vs.h, ip_vs_dest_conn_overhead), wlc the same by weight
  (ip_vs_lc.c, ip_vs_wlc.c); sed the least active + 1 by weight (ip_vs_sed.c); nq the first without active ones, else
  as sed (ip_vs_nq.c). Of equals the first in the list. kube-proxy's weights are 1, so wlc does as lc.
* A destination that is deleted and added anew while it has connections keeps its counts (ip_vs_ctl.c,
  ip_vs_trash_get_dest).

Simplified: SCTP counts as TCP; an entry that idles out while its connection is open (ESTABLISHED: 15 minutes or
`ipvs.tcpTimeout`) stays counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Final, NamedTuple

import numpy as np

from kflab.engine.types import Int64Array
from kflab.records import dataclass

_ACTIVE_COSTS: Final = 256
"""How many inactive connections an active one outweighs (ip_vs_dest_conn_overhead)."""

_S: Final = 1_000_000_000

TIME_WAIT_NS: Final = 120 * _S
CLOSE_NS: Final = 10 * _S
CLOSE_WAIT_NS: Final = 60 * _S
SYN_RECV_NS: Final = 60 * _S
"""How long an entry lasts in its last state (ip_vs_proto_tcp.c, tcp_timeouts). `ipvs.tcpTimeout` and
`ipvs.tcpFinTimeout` are for ESTABLISHED and FIN_WAIT (ip_vs_ctl.c, ip_vs_set_timeout)."""

ESTABLISHED_S: Final = 900
"""How long an open one lasts without a packet, seconds."""

UDP_NS: Final = 300 * _S
"""The same of UDP (ip_vs_proto_udp.c, udp_timeouts) unless `ipvs.udpTimeout` says otherwise."""

_NEVER: Final = (1 << 63) - 1

_UNSORTED: Final = 4096
"""So many closed connections stay unsorted at most."""

_ACTIVE_BITS: Final = 11
_INACTIVE_BITS: Final = 19


class Load(NamedTuple):
    """How many connections a destination has."""

    active: int = 0
    inactive: int = 0

    def fitting(self) -> "Load":
        """Return the same, as far as `packed` has bits for it."""
        return Load(min(self.active, (1 << _ACTIVE_BITS) - 1), min(self.inactive, (1 << _INACTIVE_BITS) - 1))


def packed(mine: Load, other: Load | None) -> int:
    """Pack the load of the destination taken and that of the best among the others for `Col.LOADS`; never 0.

    What is above 2,047 active or 524,287 inactive connections is told as that many.
    """
    word = 2 | (other is not None)
    for load in (mine.fitting(), (other or Load()).fitting()):
        word = (word << _ACTIVE_BITS | load.active) << _INACTIVE_BITS | load.inactive
    return word


def unpacked(word: int) -> tuple[Load, Load | None] | None:
    """Read what `packed` packed; None for 0: nobody counted."""
    if not word:
        return None
    found = []
    for _ in range(2):
        word, inactive = word >> _INACTIVE_BITS, word & (1 << _INACTIVE_BITS) - 1
        word, active = word >> _ACTIVE_BITS, word & (1 << _ACTIVE_BITS) - 1
        found.append(Load(active, inactive))
    return found[1], found[0] if word & 1 else None


def overhead(load: Load) -> int:
    """What lc and wlc compare."""
    return load.active * _ACTIVE_COSTS + load.inactive


def expected_delay(load: Load) -> int:
    """What sed compares, and nq: with equal weights the first that is idle has the shortest one."""
    return load.active + 1


@dataclass(slots=True)
class Counts:
    """The connections of one virtual server, by destination, as of the last `settle`."""

    active: dict[int, int] = field(default_factory=dict)
    inactive: dict[int, int] = field(default_factory=dict)
    _until: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """When each closed connection is forgotten, ascending."""
    _whose: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Of each: twice its server, and 1 if it counts as active."""
    _fresh: list[tuple[int, int]] = field(default_factory=list)
    """(until, whose) of those that are not sorted in."""
    _next_ns: int = _NEVER
    """When the next one is forgotten."""

    def load(self, server: int) -> Load:
        """What a destination has."""
        return Load(self.active.get(server, 0), self.inactive.get(server, 0))

    def opened(self, server: int, active: bool) -> None:
        """A connection was scheduled."""
        self._add(server, active, 1)

    def closed(self, server: int, active: bool, until_ns: int, stays_active: bool) -> None:
        """A connection ended now and is forgotten at `until_ns`.

        Args:
            server: Its destination.
            active: How it counted until now.
            until_ns: From then on it does not count.
            stays_active: How it counts until then.
        """
        if active != stays_active:
            self._add(server, active, -1)
            self._add(server, stays_active, 1)
        self._fresh.append((until_ns, 2 * server + stays_active))
        self._next_ns = min(self._next_ns, until_ns)
        if len(self._fresh) > _UNSORTED:
            self._sort_in()

    def settle(self, t_ns: int) -> None:
        """Forget what has timed out by `t_ns`."""
        if t_ns < self._next_ns:
            return
        self._sort_in()
        gone = int(np.searchsorted(self._until, t_ns, side="right"))
        kinds, numbers = np.unique(self._whose[:gone], return_counts=True)
        for whose, count in zip(kinds.tolist(), numbers.tolist(), strict=True):
            self._add(whose >> 1, bool(whose & 1), -count)
        self._until, self._whose = self._until[gone:].copy(), self._whose[gone:].copy()
        self._next_ns = int(self._until[0]) if len(self._until) else _NEVER

    def _sort_in(self) -> None:
        fresh = np.array(self._fresh, dtype=np.int64).reshape(-1, 2)
        self._fresh = []
        until, whose = np.concatenate((self._until, fresh[:, 0])), np.concatenate((self._whose, fresh[:, 1]))
        order = np.argsort(until, kind="stable")
        self._until, self._whose = until[order], whose[order]

    def _add(self, server: int, active: bool, count: int) -> None:
        loads = self.active if active else self.inactive
        loads[server] = loads.get(server, 0) + count
        if not loads[server]:
            del loads[server]

    def pick(self, usable: Sequence[int], compares: Callable[[Load], int]) -> tuple[int, int]:
        """Take a destination.

        Args:
            usable: Those with weight, in the list's order; not empty.
            compares: What the scheduler compares.

        Returns:
            Its place in `usable` and what decided (see `packed`).
        """
        costs = [compares(self.load(server)) for server in usable]
        place = costs.index(min(costs))
        others = [(cost, n) for n, cost in enumerate(costs) if n != place]
        best = self.load(usable[min(others)[1]]) if others else None
        return place, packed(self.load(usable[place]), best)
