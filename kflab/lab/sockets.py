"""WebSockets through an ingress controller: connections that stay open until somebody cuts them.

A client with `sockets` keeps so many open from the start. Each was led through a node and an ingress pod to a pod by
what those knew when it was opened, and stays there. It is cut when NGINX ends the workers from before a reload, when
the ingress pod's process ends, or that of the pod behind it; the client opens it anew at once, by what is known then.

Simplified: sockets send nothing that loads anybody, and their pings are more frequent than proxy-read-timeout; opening
one takes no time; behind a node without power, or a pod without a network, they are taken as cut when that is lost.
What cannot be opened is tried again whenever somebody has learned something.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kflab.control.facts import Fact, What
from kflab.control.waves import Wave, flat
from kflab.engine.types import Fan, Int64Array, UInt64Array
from kflab.lab.choosers import Chooser, Wired
from kflab.lab.snapshot import SocketRow
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.lab.running import Lab

_ATTEMPT = 1 << 21
"""The part "try" of the addresses of these draws: this and how often the socket was opened before."""
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)

RELOADED = "NGINX ended its old workers"
INGRESS_ENDED, POD_ENDED = "the ingress pod's process ended", "the pod behind them ended"


class SocketGroup:
    """The sockets of one client.

    Args:
        lab: Whose wiring and draws decide where they lead.
        wired: The client's stream.
        count: How many it keeps open.
    """

    def __init__(self, lab: "Lab", wired: Wired, count: int) -> None:
        self._lab, self._wired = lab, wired
        self.name = wired.entry.source.name if wired.entry.source else ""
        self.opened_ns: Int64Array = np.full(count, -1, dtype=np.int64)
        """[sockets] -> when it was opened; -1: it is not open."""
        self.ingress: Int64Array = np.full(count, -1, dtype=np.int64)
        self.server: Int64Array = np.full(count, -1, dtype=np.int64)
        """[sockets] -> index of the ingress server and of the server behind it; -1 none."""
        self._times: Int64Array = np.zeros(count, dtype=np.int64)
        self.cut: Counter[str] = Counter()
        """Why → how many were cut."""
        self.last_cut_ns: int | None = None
        self.last_why = ""
        self.last_count = 0
        """Of the instant at which some were cut last."""

    @property
    def open(self) -> int:
        """How many are open now."""
        return int((self.opened_ns >= 0).sum())

    def hear(self, fact: Fact) -> int:
        """Cut what a fact ends; return how many."""
        if fact.what is What.WORKERS_ENDED:
            through = self._at(self.ingress, fact.subject) & (self.opened_ns < int(fact.detail))
            return self._cut(through, RELOADED, fact.t_ns)
        if fact.what in (What.CONTAINER_EXITED, What.POD_LOST, What.NETWORK_REMOVED):
            runtime = self._lab.plane.runtime.get(fact.subject)
            if runtime is not None and runtime.up and fact.what is What.CONTAINER_EXITED:
                return 0  # another container of it
            return self._cut(self._at(self.ingress, fact.subject), INGRESS_ENDED, fact.t_ns) + self._cut(
                self._at(self.server, fact.subject), POD_ENDED, fact.t_ns
            )
        return 0

    def _at(self, servers: Int64Array, pod: Key) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        """[sockets] -> open, and led to a server of this pod."""
        theirs = [i for i, server in enumerate(self._lab.wiring.servers) if server[3] == pod]
        return (self.opened_ns >= 0) & np.isin(servers, theirs)

    def _cut(self, which: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]", why: str, t_ns: int) -> int:
        count = int(which.sum())
        if count:
            self.opened_ns[which] = self.ingress[which] = self.server[which] = -1
            self.cut[why] += count
            together = (self.last_cut_ns, self.last_why) == (t_ns, why)
            self.last_count = count + (self.last_count if together else 0)
            self.last_cut_ns, self.last_why = t_ns, why
        return count

    def reopen(self, t_ns: int) -> None:
        """Open what is not open."""
        rows = np.flatnonzero(self.opened_ns < 0)
        if not len(rows):
            return
        wired, wiring = self._wired, self._lab.wiring
        words = self._lab.draws.rows(wired.entry.index, rows, _ATTEMPT + self._times[rows])
        nodes = _picked(wired.lb.fan if wired.lb else None, words[:, 0] >> _HALF)
        ingress: Int64Array = np.full(len(rows), -1, dtype=np.int64)
        for node, chooser in wired.entries.items():
            mine = nodes == wiring.index.place(node)
            ingress[mine] = _picked(chooser.fan, words[mine, 0] & _LOW)
        server: Int64Array = np.full(len(rows), -1, dtype=np.int64)
        for index in np.unique(ingress[ingress >= 0]).tolist():
            pod = wiring.servers[index][3]
            upstream: Chooser | None = wired.upstreams.get(pod) if pod else None
            mine = ingress == index
            server[mine] = _picked(upstream.fan if upstream else None, words[mine, 1] >> _HALF)
        good = server >= 0
        self._times[rows[good]] += 1
        self.opened_ns[rows[good]] = t_ns
        self.ingress[rows[good]], self.server[rows[good]] = ingress[good], server[good]


def _picked(fan: Fan | None, draws: UInt64Array) -> Int64Array:
    """Who is picked by 32 bits each, by weight; -1 where there is nobody."""
    if fan is None or not fan.candidates:
        return np.full(len(draws), -1, dtype=np.int64)
    bounds = np.cumsum(np.array(fan.weights, dtype=np.int64))
    place = (draws * np.uint64(bounds[-1]) >> _HALF).astype(np.int64)
    return np.array(fan.candidates, dtype=np.int64)[np.searchsorted(bounds, place, side="right")]


class Sockets:
    """All clients' sockets."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self.groups = [
            SocketGroup(lab, wired, wired.entry.source.sockets)
            for wired in lab.wiring.wired
            if wired.entry.source is not None and wired.entry.source.sockets
        ]
        for group in self.groups:
            group.reopen(0)

    @property
    def cut(self) -> int:
        """How many were cut so far."""
        return sum(sum(group.cut.values()) for group in self.groups)

    def hear(self, entries: Sequence[Fact | Wave]) -> list[tuple[int, str, str]]:
        """Follow what happens; return lines (when, who, what) for what was cut."""
        lines = []
        for fact in flat(entries) if self.groups else ():
            for group in self.groups:
                count = group.hear(fact)
                if count:
                    lines.append((fact.t_ns, f"client {group.name}", f"{count:,} of its WebSockets were cut"))
                if count or fact.what in (What.RULES_SYNCED, What.LB_TARGETS_CHANGED):
                    group.reopen(fact.t_ns)
        return lines

    def rows(self) -> tuple[SocketRow, ...]:
        """The same for the screen."""
        return tuple(
            SocketRow(group.name, group.open, tuple(sorted(group.cut.items())), group.last_cut_ns)
            for group in self.groups
        )

    def words(self) -> list[str]:
        """One line for each client: how many are open, how many were cut, and why."""
        told = []
        for group in self.groups:
            why = ", ".join(f"{count:,} when {reason}" for reason, count in sorted(group.cut.items()))
            told.append(f"{group.name}: {group.open:,} open; {why or 'none cut'}")
        return told
