"""Connections that a client process in a pod keeps open to a Service, each with a place in the client's pool.

The first request that wants a place opens its connection. The caller's node rewrites it once, by its rules of that
instant; from then on its conntrack entry decides (net/netfilter/nf_conntrack_core.c: the nat table sees the first
packet only), so the connection stays on its pod also when the endpoint has left the rules. It ends

  * when the pod's process ends: its kernel resets what is in hand and closes the rest; the client knows one way later;
  * when a request over it got no answer at all (refused, reset, timed out): the client gives it up then;
  * when its peer has acknowledged nothing for as long as the client's kernel sends again (`connecting.silent_until`);
  * when it is as old as the server lets it become (gRPC MAX_CONNECTION_AGE: grpc-go internal/transport/
    http2_server.go, getJitter: 10 % more or less, drawn). What is in hand then is answered.

Simplified: requests share a connection freely (HTTP/2 streams; an HTTP/1.1 pool would open more connections than it
keeps); GOAWAY takes no time to arrive; a process that only stopped listening goes on serving its open connections
until it exits (one that sends `Connection: close` or GOAWAY before would spare its clients the resets); requests in
hand when another one gives the connection up wait for their own end; a client's pod that moves opens new ones.
"""

from collections.abc import Callable
from dataclasses import field

from kflab.records import dataclass

NEVER_NS = (1 << 63) - 1


@dataclass(slots=True)
class ClientConnection:
    """One connection."""

    stream: int
    slot: int
    """Its place in the pool, from 0."""
    place: int
    """The caller's node, whose rules picked the server."""
    server: int
    opened_ns: int
    port: int
    """The client's source port, of the request that opened it."""
    worker: int
    """Worker of the server that accepts it."""
    last_ns: int = 0
    """When the client last sent over it, or heard."""
    until_ns: int = NEVER_NS
    """The client opens another one for requests from then on."""
    established: bool = False
    broken: bool = False
    """Its server's process is gone: packets on it are answered with a reset."""
    dies_ns: int = 0
    """When the client's kernel gives it up unless its peer acknowledges something; 0: nothing is outstanding."""
    in_hand: int = 0
    """Requests on it that the client still waits for."""
    counted: bool = False
    """Whether a virtual server counts it (see `ipvs_entries`)."""


Slot = tuple[int, int]
"""(stream, place in its pool)."""


@dataclass(slots=True)
class ClientConnections:
    """The connections of all such streams."""

    current: dict[Slot, ClientConnection] = field(default_factory=dict)
    """The one that the next request goes over, or finds ended."""
    leaving: dict[tuple[int, int, int], ClientConnection] = field(default_factory=dict)
    """(stream, place, opened): given up, but not by every request in hand."""

    def usable(self, slot: Slot, place: int, t_ns: int) -> ClientConnection | None:
        """The connection for a request at `t_ns` from a node; None: a new one must be opened."""
        found = self.current.get(slot)
        if found is not None and (t_ns >= found.until_ns or 0 < found.dies_ns <= t_ns or found.place != place):
            self.give_up(found)
            return None
        return found

    def of(self, slot: Slot, opened_ns: int) -> ClientConnection:
        """The connection that a request under way goes over."""
        found = self.current.get(slot)
        return found if found is not None and found.opened_ns == opened_ns else self.leaving[(*slot, opened_ns)]

    def give_up(self, connection: ClientConnection) -> None:
        """Send no further request over it."""
        slot = (connection.stream, connection.slot)
        if self.current.get(slot) is connection:
            del self.current[slot]
            if connection.in_hand:
                self.leaving[(*slot, connection.opened_ns)] = connection

    def answered(self, connection: ClientConnection) -> None:
        """The client knows how one of its requests ended."""
        connection.in_hand -= 1
        if not connection.in_hand:
            self.leaving.pop((connection.stream, connection.slot, connection.opened_ns), None)

    def break_server(self, server: int, t_ns: int, way_ns: Callable[[int], int | None]) -> None:
        """End all connections to a server whose process ends at `t_ns`.

        Args:
            server: Whose process.
            t_ns: When.
            way_ns: The caller's place → how long the news travels to it; None: it does not get there.
        """
        for connection in (*self.current.values(), *self.leaving.values()):
            if connection.server == server and connection.established:
                connection.broken = True
                way = way_ns(connection.place)
                if way is not None:
                    connection.until_ns = min(connection.until_ns, t_ns + way)


def slot_of(arrival_word: int, connections: int) -> int:
    """The place in the pool of a request, by the low half of its arrival word (the high half made its start)."""
    return (arrival_word & 0xFFFFFFFF) * connections >> 32


def lifetime_ns(age_ns: int, word: int) -> int:
    """How long a server lets a connection live, by the high half of a word; `age_ns` 0: for ever."""
    if not age_ns:
        return NEVER_NS
    tenth = age_ns // 10
    return age_ns - tenth + ((word >> 32 & 0xFFFFFFFF) * 2 * tenth >> 32)
