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
* No destination is ever overloaded: kube-proxy sets no thresholds.
* kube-proxy adds first, then removes (k/k pkg/proxy/ipvs/proxier.go 1.33, syncEndpoint). One that still has
  connections gets weight 0 and is looked at every minute, one without is deleted; UDP and SCTP are deleted at once
  (graceful_termination.go; k/k pkg/proxy/ipvs/util, IsRsGracefulTerminationNeeded). One that comes back while it drains
  is deleted and added anew.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from kflab.engine.affinity import Affinity, Listed
from kflab.engine.types import Int64Array

POLL_NS: Final = 60_000_000_000
"""How often kube-proxy looks whether draining destinations have no connections left (rsCheckDeleteInterval)."""

HEAD: Final = -1
"""The pointer of a round that has not begun: at the head of the list."""

_NEVER: Final = (1 << 63) - 1


class Scheduler:
    """IPVS's schedulers that take turns."""

    RR: Final = 0
    WRR: Final = 1


SCHEDULERS: Final = {"rr": Scheduler.RR, "wrr": Scheduler.WRR}
"""By `ipvs.scheduler`. sh, dh and mh are functions of the packet; lc, wlc, sed and nq are drawn (see `lab.wiring`)."""

Connected = Callable[[int], bool]
"""server → whether a connection to it through this virtual server is in flight."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """What an observer's sync writes."""

    from_ns: int
    order: int
    scheduler: int
    servers: tuple[int, ...]
    """Those with weight, in the order in which the new ones are added."""


@dataclass(slots=True)
class VirtualServer:
    """One virtual server of one node.

    Its changes are carried out when a connection of their time or a later one asks.
    """

    poll_ns: int = 0
    """When kube-proxy first looks after its draining destinations; then every `POLL_NS`."""
    graceful: bool = True
    """Whether a destination with connections drains before it is deleted."""
    scheduler: int = Scheduler.RR
    listed: list[int] = field(default_factory=list)
    """Servers, in the list's order."""
    draining: dict[int, None] = field(default_factory=dict)
    """Those of weight 0."""
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
        return self.poll_ns + -(-passed // POLL_NS) * POLL_NS

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
        self._changed(before)

    def _poll(self, t_ns: int, connected: Connected) -> None:
        before = list(self.listed), dict(self.draining)
        for server in list(self.draining):
            if not self._has_connections(server, t_ns, connected):
                self._delete(server)
        self._changed(before)

    def _changed(self, before: tuple[list[int], dict[int, None]]) -> None:
        if before != (self.listed, self.draining):
            self._ring = None
            if self.scheduler == Scheduler.WRR:
                self.last = HEAD

    def _has_connections(self, server: int, t_ns: int, connected: Connected) -> bool:
        return self.until_ns.get(server, -1) > t_ns or connected(server)

    def _delete(self, server: int) -> None:
        place = self.listed.index(server)
        if self.last == server:
            self.last = self.listed[place - 1] if place else HEAD
        self.listed.remove(server)
        self.draining.pop(server, None)
        self.until_ns.pop(server, None)

    # --- connections ----------------------------------------------------------------------------------------------

    def take(self, times: Int64Array, connected: Connected) -> tuple[Int64Array, Int64Array]:
        """Give new connections their servers.

        Args:
            times: When each is scheduled, shape (n,), ns, ascending.
            connected: Tells whether a connection to a server is in flight.

        Returns:
            Server of each, -1 where none has weight, and its place among the usable ones from 0, shape (n,) each.
        """
        servers, places = np.full_like(times, -1), np.zeros_like(times)
        i, n = 0, len(times)
        while i < n:
            self.settle(int(times[i]), connected)
            end = i + int(np.searchsorted(times[i:], self.next_ns(), side="left"))
            ring = self._usable_ring()
            if len(ring):
                turns = (self._next_place(ring) + np.arange(end - i)) % len(ring)
                servers[i:end], places[i:end] = ring[turns], turns
                self.last = int(servers[end - 1])
            i = end
        return servers, places

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
    kept: dict[int, Affinity] = field(default_factory=dict)
    """Index → the affinity entry that takes the place of a virtual server."""
    _waiting: dict[int, None] = field(default_factory=dict)
    """Those that will change by themselves."""
    _changes: int = 0

    def add(self, virtual: VirtualServer) -> int:
        """Add one; return its index."""
        self.servers.append(virtual)
        return len(self.servers) - 1

    def add_affinity(self, lasts_ns: int) -> int:
        """Add an affinity entry; return its index."""
        index = self.add(VirtualServer())
        self.kept[index] = Affinity(lasts_ns)
        return index

    def learn(self, index: int, from_ns: int, scheduler: int, servers: tuple[int, ...]) -> None:
        """Let `servers` be the destinations with weight from `from_ns` on."""
        self._changes += 1
        self._waiting[index] = None
        self.servers[index].learn(Change(from_ns, self._changes, scheduler, servers))

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
    ) -> tuple[Int64Array, Int64Array]:
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
        order = np.lexsort((numbers, streams, times, which))
        ids, first = np.unique(which[order], return_index=True)
        servers, places = np.empty_like(times), np.empty_like(times)
        for index, rows in zip(ids.tolist(), np.split(order, first[1:]), strict=True):
            if index in self.kept:
                servers[rows] = self.kept[index].take(times[rows], drawn[rows], versions[rows], listed)
                places[rows] = -1
            else:
                servers[rows], places[rows] = self.servers[index].take(times[rows], partial(connected, index))
        return servers, places
