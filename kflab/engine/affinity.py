"""ClientIP affinity: which endpoint a node keeps one caller on, and until when.

One entry for each node, caller and Service port; every new connection of that caller renews it, whichever stream it is
of. An entry that ran out, or whose endpoint left the rules, is made anew by the next connection, which is drawn as any
other (with its own word) and is what the entry then holds.

Sources: k/k pkg/proxy/iptables/proxier.go, writeServiceToEndpointRules (`recent --rcheck --seconds N --reap` looks,
`recent --set` on the endpoint's chain renews); net/netfilter/xt_recent.c, recent_mt (a stamp exactly N seconds old
still matches); k/k pkg/proxy/nftables/proxier.go (a set with a timeout, `update` renews);
include/net/netfilter/nf_tables.h, __nft_set_elem_expired (an element exactly that old is over);
net/netfilter/ipvs/ip_vs_core.c, ip_vs_sched_persist (a template, its timer set anew by each new connection), and
ip_vs_conn.c, ip_vs_conn_expire (a template that still controls connections lives 60 s longer).

Simplified: time is exact, not in jiffies; a caller whose choosers list different endpoints (Local and Cluster traffic)
has one entry, not two. Lists of xt_recent that may be full: `caller_lists`. nftables' sets hold 65,535 callers (nft
gives a dynamic set without a size that one), which no lab reaches.
"""

from bisect import bisect_right, insort
from dataclasses import field
from typing import NamedTuple

import numpy as np

from kflab.engine.types import Int64Array
from kflab.records import dataclass

_NEVER = (1 << 63) - 1


class Held(NamedTuple):
    """What an entry held from one instant on."""

    since_ns: int
    """When the connection came that made it."""
    server: int
    ended_ns: int
    """When the entry before ran out unused; -1 where it did not, or there was none."""
    forgotten: bool = False
    """The entry before was dropped from a full list (`caller_lists`)."""


@dataclass(slots=True)
class Affinity:
    """One entry. Changes of the rules are carried out when a connection of their time or a later one asks."""

    lasts_ns: int
    """It is over when more than this has passed since its last use."""
    server: int = -1
    """Whom it holds; -1 nobody."""
    used_ns: int = 0
    """Its last use."""
    history: list[Held] = field(default_factory=list)
    """Ascending; what was over long ago is forgotten."""
    coming: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    """(from_ns, order, endpoints that the rules list)."""
    n_changes: int = 0

    def learn(self, from_ns: int, servers: tuple[int, ...]) -> None:
        """Let the rules list these endpoints from `from_ns` on: what is kept of others goes with their rules."""
        self.n_changes += 1
        insort(self.coming, (from_ns, self.n_changes, servers))

    def _settle(self, t_ns: int) -> None:
        while self.coming and self.coming[0][0] <= t_ns:
            if self.server not in self.coming.pop(0)[2]:
                self.server = -1

    def take(self, times: Int64Array, drawn: Int64Array, lists: Int64Array, listed: "Listed") -> Int64Array:
        """Give new connections of its caller their servers.

        Args:
            times: When each asks, shape (n,), ns, ascending.
            drawn: Whom each would draw.
            lists: Which list of endpoints each is drawn from.
            listed: Tells whether a list has a server.

        Returns:
            Server of each, shape (n,).
        """
        n = len(times)
        gaps = np.diff(times) > self.lasts_ns
        cuts = np.append(np.flatnonzero(gaps | (np.diff(lists) != 0)) + 1, n)
        servers = np.empty_like(times)
        i = 0
        while i < n:
            t_ns, ended_ns = int(times[i]), -1
            self._settle(t_ns)
            if self.server >= 0 and t_ns - self.used_ns > self.lasts_ns:
                self.server, ended_ns = -1, self.used_ns + self.lasts_ns
            if self.server < 0 or not listed(int(lists[i]), self.server):
                self.server = int(drawn[i])
                self.history.append(Held(t_ns, self.server, ended_ns))
            end = int(cuts[np.searchsorted(cuts, i, side="right")])
            if self.coming:
                end = min(end, i + int(np.searchsorted(times[i:], self.coming[0][0], side="left")))
            servers[i:end] = self.server
            self.used_ns = int(times[end - 1])
            i = end
        return servers

    def held_at(self, t_ns: int) -> Held | None:
        """What it held when a connection of `t_ns` had asked; None: nothing, or it had run out by then."""
        place = bisect_right(self.history, t_ns, key=lambda one: one.since_ns)
        if not place or (place == len(self.history) and t_ns - self.used_ns > self.lasts_ns):
            return None
        return self.history[place - 1]

    def forget_before(self, t_ns: int) -> None:
        """Drop what was replaced before `t_ns`."""
        place = bisect_right(self.history, t_ns, key=lambda one: one.since_ns)
        del self.history[: max(0, place - 1)]


class Listed:
    """Whether a chooser's version lists a server.

    Args:
        flat: [slots] → server.
        offset: [versions] → first slot.
        size: [versions] → how many.
    """

    def __init__(self, flat: Int64Array, offset: Int64Array, size: Int64Array) -> None:
        self._flat, self._offset, self._size = flat, offset, size

    def __call__(self, version: int, server: int) -> bool:
        first = int(self._offset[version])
        return bool((self._flat[first : first + int(self._size[version])] == server).any())

    def endpoints(self, version: int) -> list[int]:
        """Servers of a version, in the order of its rules."""
        first = int(self._offset[version])
        listed: list[int] = self._flat[first : first + int(self._size[version])].tolist()
        return list(dict.fromkeys(listed))
