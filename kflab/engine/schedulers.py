"""Virtual servers that remember whose turn it is.

IPVS keeps one state per virtual server of a node (`struct ip_vs_service`, `sched_data`): every connection that comes to
that address through that node takes its turn from it, whichever client sent it. So choosers of several streams share
one `VirtualServer`. A load balancer that takes turns (AWS Classic) is one as well, without graceful termination.

What is modelled, by source:

* Destinations stand in a list, the last added first (net/netfilter/ipvs/ip_vs_ctl.c, __ip_vs_update_dest).
* rr: the pointer stands at the destination of the last connection; the next one in the list that has weight takes the
  next. Who is deleted hands the pointer to the one before it (ip_vs_rr.c, ip_vs_rr_del_dest).
* wrr: the same with weights of 1, all that kube-proxy gives; every change starts over at the head of the list
  (ip_vs_wrr.c, ip_vs_wrr_dest_changed).
* lc, wlc, sed and nq ask how many connections each destination has (see `ipvs_counts`).
* No destination is ever overloaded: kube-proxy sets no thresholds.
* kube-proxy adds first, then removes (k/k pkg/proxy/ipvs/proxier.go 1.33, syncEndpoint). One that still has
  connections gets weight 0 and is looked at every minute, one without is deleted; UDP and SCTP are deleted at once
  (graceful_termination.go; k/k pkg/proxy/ipvs/util, IsRsGracefulTerminationNeeded). One that comes back while it drains
  is deleted and added anew.
"""

import dataclasses
from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Final

import numpy as np

from kflab.engine.affinity import Affinity, Listed
from kflab.engine.ipvs_counts import CLOSE_NS, Counts, Load, expected_delay, overhead
from kflab.engine.kept_callers import KeptCallers
from kflab.engine.types import Int64Array, Timing
from kflab.engine.zoned_turns import ZonedTurns
from kflab.records import dataclass

HEAD: Final = -1
"""The pointer of a round that has not begun: at the head of the list."""

_NEVER: Final = (1 << 63) - 1


class Scheduler:
    """IPVS's schedulers that take turns or count."""

    RR: Final = 0
    WRR: Final = 1
    LC: Final = 2
    WLC: Final = 3
    SED: Final = 4
    NQ: Final = 5


SCHEDULERS: Final = {
    "rr": Scheduler.RR,
    "wrr": Scheduler.WRR,
    "lc": Scheduler.LC,
    "wlc": Scheduler.WLC,
    "sed": Scheduler.SED,
    "nq": Scheduler.NQ,
}
"""By `ipvs.scheduler`. sh, dh and mh are functions of the packet."""

COUNTING: Final[dict[int, Callable[[Load], int]]] = {
    Scheduler.LC: overhead,
    Scheduler.WLC: overhead,
    Scheduler.SED: expected_delay,
    Scheduler.NQ: expected_delay,
}
"""What the schedulers compare that count connections."""

Key = tuple[int, int, int]
"""Whose connection: (stream, number, 0 for the client's or from 1 the ingress server's try); of one that its client
keeps (stream, -1 - its place in the pool, when it was opened)."""

Connected = Callable[[int], bool]
"""server → whether a connection to it through this virtual server is in flight."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Change:
    """What an observer's sync writes."""

    from_ns: int
    order: int
    scheduler: int
    servers: tuple[int, ...]
    """Those with weight, in the order in which the new ones are added."""
    udp_ns: int = 0
    """How long an entry lasts after its last datagram; 0 unless it is a virtual server of UDP."""


@dataclass(slots=True)
class VirtualServer:
    """One virtual server of one node.

    Its changes are carried out when a connection of their time or a later one asks.
    """

    poll_ns: int = 0
    """When kube-proxy first looks after its draining destinations…"""
    every_ns: int = Timing().ipvs_drain_poll_ns
    """… and how often it does then."""
    graceful: bool = True
    """Whether a destination with connections drains before it is deleted."""
    udp_ns: int = 0
    """As in the last change."""
    counts: Counts = field(default_factory=Counts)
    scheduler: int = Scheduler.RR
    listed: list[int] = field(default_factory=list)
    """Servers, in the list's order."""
    draining: dict[int, None] = field(default_factory=dict)
    """Those of weight 0."""
    drained: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """(from_ns, those of weight 0) since anything was, ascending; what was replaced long ago is forgotten."""
    last: int = HEAD
    """Where the pointer stands: a listed server, or `HEAD`."""
    coming: list[Change] = field(default_factory=list)
    until_ns: dict[int, int] = field(default_factory=dict)
    """Server → when the last of its closed connections has timed out."""
    settled_ns: int = -1
    """Everything up to this instant has been carried out."""
    _ring: Int64Array | None = None

    # --- what kube-proxy writes ---------------------------------------------------------------------------------

    def learn(self, change: Change) -> None:
        """Take in a change that is to come."""
        insort(self.coming, change)

    @property
    def usable(self) -> list[int]:
        """Servers with weight, in the list's order."""
        return [server for server in self.listed if server not in self.draining]

    def next_ns(self) -> int:
        """When something changes next."""
        change = self.coming[0].from_ns if self.coming else _NEVER
        return min(change, self._next_poll())

    def _next_poll(self) -> int:
        if not self.draining:
            return _NEVER
        passed = max(0, self.settled_ns + 1 - self.poll_ns)
        return self.poll_ns + -(-passed // self.every_ns) * self.every_ns

    def settle(self, t_ns: int, connected: Connected) -> None:
        """Carry out everything that happens up to `t_ns`, itself included."""
        while (due := self.next_ns()) <= t_ns:
            self.settled_ns = due - 1
            # At one instant kube-proxy's sync comes before its look at draining ones.
            if self.coming and self.coming[0].from_ns == due:
                self._apply(self.coming.pop(0), connected)
            else:
                self._poll(due, connected)
                self.settled_ns = due
        self.settled_ns = max(self.settled_ns, t_ns)

    def _apply(self, change: Change, connected: Connected) -> None:
        if change.scheduler != self.scheduler:
            self.scheduler, self.last = change.scheduler, HEAD  # ip_vs_edit_service binds the new one: init_service
        self.udp_ns = change.udp_ns
        before = list(self.listed), dict(self.draining)
        for server in change.servers:
            if server in self.draining:
                self._delete(server)
            if server not in self.listed:
                self.listed.insert(0, server)
        for server in [one for one in self.listed if one not in change.servers and one not in self.draining]:
            if self.graceful and self._has_connections(server, change.from_ns, connected):
                self.draining[server] = None
            else:
                self._delete(server)
        self._changed(change.from_ns, before)

    def _poll(self, t_ns: int, connected: Connected) -> None:
        before = list(self.listed), dict(self.draining)
        for server in list(self.draining):
            if not self._has_connections(server, t_ns, connected):
                self._delete(server)
        self._changed(t_ns, before)

    def draining_at(self, t_ns: int) -> tuple[int, ...]:
        """Those that had weight 0 at an instant."""
        i = bisect_right(self.drained, t_ns, key=lambda entry: entry[0])
        return self.drained[i - 1][1] if i else ()

    def forget_before(self, t_ns: int) -> None:
        """Drop what was replaced before `t_ns`."""
        i = bisect_right(self.drained, t_ns, key=lambda entry: entry[0])
        del self.drained[: max(0, i - 1)]

    def _changed(self, t_ns: int, before: tuple[list[int], dict[int, None]]) -> None:
        if before[1] != self.draining:
            self.drained.append((t_ns, tuple(self.draining)))
        if before != (self.listed, self.draining):
            self._ring = None
            if self.scheduler == Scheduler.WRR:
                self.last = HEAD

    def _has_connections(self, server: int, t_ns: int, connected: Connected) -> bool:
        self.counts.settle(t_ns)
        return self.until_ns.get(server, -1) > t_ns or any(self.counts.load(server)) or connected(server)

    def _delete(self, server: int) -> None:
        place = self.listed.index(server)
        if self.last == server:
            self.last = self.listed[place - 1] if place else HEAD
        self.listed.remove(server)
        self.draining.pop(server, None)
        self.until_ns.pop(server, None)

    # --- connections ----------------------------------------------------------------------------------------------

    @property
    def counting(self) -> bool:
        """Whether connections have to be counted, or will have to be."""
        return self.scheduler in COUNTING or any(change.scheduler in COUNTING for change in self.coming)

    def take(self, times: Int64Array, connected: Connected) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Give new connections their servers.

        Args:
            times: When each is scheduled, shape (n,), ns, ascending.
            connected: Tells whether a connection to a server is in flight.

        Returns:
            Server of each, -1 where none has weight; its place among the usable ones from 0; and how many connections
            decided (`ipvs_counts.packed`), 0 where turns did. Shape (n,) each.
        """
        servers, places, loads = np.full_like(times, -1), np.zeros_like(times), np.zeros_like(times)
        i, n = 0, len(times)
        while i < n:
            self.settle(int(times[i]), connected)
            ring = self._usable_ring()
            if self.scheduler in COUNTING:
                if len(ring):
                    self.counts.settle(int(times[i]))
                    places[i], loads[i] = self.counts.pick(ring.tolist(), COUNTING[self.scheduler])
                    servers[i] = ring[places[i]]
                    self.counts.opened(int(servers[i]), active=not self.udp_ns)
                i += 1
                continue
            end = i + int(np.searchsorted(times[i:], self.next_ns(), side="left"))
            if len(ring):
                turns = (self._next_place(ring) + np.arange(end - i)) % len(ring)
                servers[i:end], places[i:end] = ring[turns], turns
                self.last = int(servers[end - 1])
            i = end
        return servers, places, loads

    def _usable_ring(self) -> Int64Array:
        if self._ring is None:
            self._ring = np.array(self.usable, dtype=np.int64)
        return self._ring

    def _next_place(self, ring: Int64Array) -> int:
        """Place in the ring of the first usable server after the pointer."""
        if self.last == HEAD:
            return 0
        passed = self.listed[: self.listed.index(self.last) + 1]
        return sum(server not in self.draining for server in passed) % len(ring)


@dataclass(slots=True)
class Schedulers:
    """All virtual servers that traffic may reach, by index."""

    servers: list[VirtualServer] = field(default_factory=list)
    kept: KeptCallers = field(default_factory=KeptCallers)
    """Affinity entries, which take the places of virtual servers."""
    behind: dict[int, int] = field(default_factory=dict)
    """Affinity entry → the virtual server whose destinations have its connections."""
    zoned: dict[int, ZonedTurns] = field(default_factory=dict)
    """Index → the load balancer that takes the place of a virtual server."""
    open: dict[Key, tuple[int, int]] = field(default_factory=dict)
    """Connections that are counted and not over → their virtual server and destination."""
    counting: bool = False
    """Whether a connection was ever counted."""
    _waiting: dict[int, None] = field(default_factory=dict)
    """Those that will change by themselves."""
    _changes: int = 0

    @property
    def changes_ahead(self) -> bool:
        """Whether any virtual server will change by itself."""
        return bool(self._waiting)

    def add(self, virtual: VirtualServer) -> int:
        """Add one; return its index."""
        self.servers.append(virtual)
        return len(self.servers) - 1

    def add_affinity(self, lasts_ns: int) -> int:
        """Add an affinity entry; return its index."""
        index = self.add(VirtualServer())
        self.kept.entries[index] = Affinity(lasts_ns)
        return index

    def having(self, which: Int64Array) -> Int64Array:
        """The virtual server that has the connections of each of `which`, that index itself but for affinity entries.

        -1 for -1 and for an entry without a virtual server, shape (n,).
        """
        if not self.kept.entries:
            return which
        having = np.arange(-1, len(self.servers), dtype=np.int64)
        for entry in self.kept.entries:
            having[entry + 1] = self.behind.get(entry, -1)
        return having[which + 1]

    def add_zoned(self) -> int:
        """Add a load balancer that takes turns in each zone; return its index."""
        index = self.add(VirtualServer())
        self.zoned[index] = ZonedTurns()
        return index

    def learn(self, index: int, from_ns: int, scheduler: int, servers: tuple[int, ...], udp_ns: int = 0) -> None:
        """Let `servers` be the destinations with weight from `from_ns` on (see `Change`)."""
        self._changes += 1
        self._waiting[index] = None
        self.servers[index].learn(Change(from_ns, self._changes, scheduler, servers, udp_ns))

    def settle(self, t_ns: int, connected: Callable[[int, int], bool]) -> None:
        """Carry out everything that kube-proxies do up to `t_ns`, itself included."""
        for index in list(self._waiting):
            virtual = self.servers[index]
            if virtual.next_ns() <= t_ns:
                virtual.settle(t_ns, partial(connected, index))
            if virtual.next_ns() == _NEVER:
                del self._waiting[index]

    def take(
        self,
        which: Int64Array,
        times: Int64Array,
        streams: Int64Array,
        numbers: Int64Array,
        drawn: Int64Array,
        versions: Int64Array,
        connected: Callable[[int, int], bool],
        listed: Listed,
    ) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Give connections their servers, in order of (time, stream, number) at each virtual server.

        Args:
            which: Virtual server of each, shape (n,).
            times: When each is scheduled, shape (n,), ns.
            streams: Its stream, shape (n,).
            numbers: Its number in the stream, shape (n,).
            drawn: Whom each would draw, shape (n,); what an affinity entry holds from then on.
            versions: Version of its chooser, shape (n,).
            connected: (virtual server, server) → whether a connection is in flight.
            listed: Whether a version lists a server.

        Returns:
            As `VirtualServer.take`; an affinity entry gives no places: -1.
        """
        together = self.kept.together(which)
        order = np.lexsort((numbers, streams, times, together))
        ids, first = np.unique(together[order], return_index=True)
        servers, places, loads = np.empty_like(times), np.empty_like(times), np.zeros_like(times)
        for index, rows in zip(ids.tolist(), np.split(order, first[1:]), strict=True):
            if index in self.kept.entries:
                servers[rows] = self.kept.take(which[rows], times[rows], drawn[rows], versions[rows], listed)
                places[rows] = -1
            elif index in self.zoned:
                at = self.zoned[index].virtual_servers(drawn[rows])
                for virtual in np.unique(at).tolist():
                    mine = rows[at == virtual]
                    asked = partial(connected, virtual)
                    servers[mine], places[mine], _ = self.servers[virtual].take(times[mine], asked)
            else:
                asked = partial(connected, index)
                servers[rows], places[rows], loads[rows] = self.servers[index].take(times[rows], asked)
        for row in np.flatnonzero(loads).tolist():
            key = int(streams[row]), int(numbers[row]), 0
            self._count(key, int(times[row]), int(which[row]), int(servers[row]))
        return servers, places, loads

    def take_one(
        self, which: int, t_ns: int, key: Key, drawn: int, version: int, connected: Connected, listed: Listed
    ) -> tuple[int, int, int]:
        """Give one connection its server, as `take` does; `connected` is of this virtual server."""
        times = np.array([t_ns])
        if which in self.kept.entries:
            kept = self.kept.take(np.array([which]), times, np.array([drawn]), np.array([version]), listed)
            return int(kept[0]), -1, 0
        server, place, load = (int(found[0]) for found in self.servers[which].take(times, connected))
        if load:
            self._count(key, t_ns, which, server)
        return server, place, load

    def _count(self, key: Key, t_ns: int, which: int, server: int) -> None:
        self.close(key, t_ns, CLOSE_NS)  # of a call that was given up, if it has the same number
        self.open[key] = which, server
        self.counting = True

    def close(self, key: Key, t_ns: int, lasts_ns: int, stays_active: bool = False) -> None:
        """Let a connection be over at `t_ns`, now, if it is one that is counted.

        Args:
            key: Whose.
            t_ns: Now.
            lasts_ns: How long IPVS keeps its entry from now on.
            stays_active: Whether it counts as active until then.
        """
        found = self.open.pop(key, None)
        if found is None:
            return
        virtual = self.servers[found[0]]
        virtual.counts.closed(found[1], not virtual.udp_ns, t_ns + lasts_ns, stays_active)
