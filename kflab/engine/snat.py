"""Source ports of masqueraded connections: whether a node's kernel finds a free one towards a destination.

Two connections from one address to one destination must differ in their source port, so a node has 64,512 of them for
each (protocol, address it masquerades to, destination). The kernel does not search them all: from a random port on it
tries 128 in a row, then 64 from another random one, then 32, 16 and 8. Where all are taken the packet is dropped when
its entry cannot be confirmed (net/netfilter/nf_nat_core.c, nf_nat_l4proto_unique_tuple; nf_conntrack_core.c,
nf_ct_resolve_clash). Taken ports come in runs, because each search ends at the first free one, so searches fail well
before the last port is taken.

Kernels from 6.5 on may take the port of a connection in TIME_WAIT or CLOSE on their last attempts, where the new
connection's sequence number lies ahead of the old one's (nf_nat_used_tuple_harder): by chance in half of the cases,
since both begin at a random one.
"""

from dataclasses import field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from kflab.engine.addresses import ephemeral_ports
from kflab.engine.memory import NEVER, Col
from kflab.engine.paths import PairMap
from kflab.engine.types import Answer, Int64Array, UInt64Array
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.engine.steps import Steps

BoolArray = NDArray[np.bool_]

FIRST_PORT: Final = 1024
N_PORTS: Final = 65536 - FIRST_PORT
"""Ports that an unprivileged source port may be mapped to."""

WINDOWS: Final = (128, 64, 32, 16, 8)
"""NF_NAT_MAX_ATTEMPTS, then halves of it: a round of fewer than 16 is the last."""

HARDER: Final = 32
"""NF_NAT_HARDER_THRESH: so many attempts before the end of a round connections that closed may be evicted."""

EVICTS_FROM: Final = (6, 5)
"""First kernel that evicts (commit 4589725502871, "netfilter: snat: evict closing tcp entries")."""

N_TRIES: Final = sum(WINDOWS)

_STEP: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)
_BLOCK = 2048
"""Connections looked at in one go: bounds the memory of a search."""

_WITHIN: Int64Array = np.concatenate([np.arange(size) for size in WINDOWS])
_WINDOW: Int64Array = np.repeat(np.arange(len(WINDOWS)), WINDOWS)
LATE: BoolArray = np.concatenate([size - np.arange(size) <= HARDER for size in WINDOWS])
"""[attempts] -> whether an attempt may evict."""


def _mixed(words: UInt64Array, salt: int) -> UInt64Array:
    """The finaliser of splitmix64 over what two draws of a connection give."""
    base = (words >> _HALF) << np.uint64(16) ^ ephemeral_ports(words).astype(np.uint64)
    x = base + np.uint64(_STEP * salt & _WORD)
    x = (x ^ x >> np.uint64(30)) * _MIX_1
    return (x ^ x >> np.uint64(27)) * _MIX_2


def attempts(words: UInt64Array) -> Int64Array:
    """List the ports that the kernel tries for each connection, in order.

    The first one is the port that an opened request shows (`cni.masquerade_port`).

    Args:
        words: ENTRY words of callers' connections, BACKEND words of NGINX's; shape (n,).

    Returns:
        Ports counted from `FIRST_PORT`, shape (n, `N_TRIES`).
    """
    starts = np.stack([_mixed(words, k) >> _HALF for k in range(len(WINDOWS))], axis=1)
    starts = (starts * np.uint64(N_PORTS) >> _HALF).astype(np.int64)
    ports = starts[:, _WINDOW]
    ports += _WITHIN
    ports[ports >= N_PORTS] -= N_PORTS
    return ports


def ahead(words: UInt64Array) -> BoolArray:
    """For each attempt, whether the new sequence number would lie ahead of the old one's; shape (n, `N_TRIES`)."""
    bits = np.stack([_mixed(words, 8 + k) for k in range(-(-N_TRIES // 64))], axis=1)
    flags = np.unpackbits(np.ascontiguousarray(bits).view(np.uint8), axis=1, bitorder="little")
    return flags[:, :N_TRIES].astype(bool)


@dataclass(slots=True)
class PortTable:
    """The ports of one node towards one destination."""

    until: Int64Array = field(default_factory=lambda: np.zeros(N_PORTS, dtype=np.int64))
    """[ports] -> when its entry ends, ns; `memory.NEVER` while the connection is open."""
    closed: BoolArray = field(default_factory=lambda: np.zeros(N_PORTS, dtype=bool))
    """[ports] -> its connection is, or was, in TIME_WAIT or CLOSE."""

    def open_to(self, words: UInt64Array, times: Int64Array, evicts: bool) -> tuple[Int64Array, BoolArray]:
        """The ports each connection tries (see `attempts`), and which of them it could have as the table stands."""
        ports = attempts(words)
        free = self.until[ports] <= times[:, None]
        if evicts:
            free |= LATE & self.closed[ports] & ahead(words)
        return ports, free

    def take(self, words: UInt64Array, times: Int64Array, evicts: bool) -> tuple[Int64Array, Int64Array]:
        """Give each connection the first port it can have, one connection after the other.

        Args:
            words: As for `attempts`, in order of time, shape (n,).
            times: When each begins, ns, ascending.
            evicts: Whether the kernel evicts connections that closed.

        Returns:
            The port of each, shape (n,); -1 where it finds none: they are open now, `until` is the caller's to set.
            And when the entries would have ended that were evicted for them, ns.
        """
        found = np.full(len(words), -1, dtype=np.int64)
        evicted = []
        for first in range(0, len(words), _BLOCK):
            part = slice(first, first + _BLOCK)
            found[part] = chosen = self._take(words[part], times[part], evicts)
            given, begins = chosen[chosen >= 0], times[part][chosen >= 0]
            evicted.append(self.until[given[self.until[given] > begins]])
            self.until[given] = NEVER
            self.closed[given] = False
        return found, np.concatenate([found[:0], *evicted])

    def _take(self, words: UInt64Array, times: Int64Array, evicts: bool) -> Int64Array:
        """All at once: each asks for its first port, the earliest gets it, the others ask for their next."""
        n = len(words)
        ports, free = self.open_to(words, times, evicts)
        columns = np.where(free, np.arange(N_TRIES), N_TRIES)
        following = np.full((n, N_TRIES + 2), N_TRIES, dtype=np.int64)
        following[:, :N_TRIES] = np.minimum.accumulate(columns[:, ::-1], axis=1)[:, ::-1]
        rows = np.arange(n)
        asked = following[:, 0].copy()
        holder = np.empty(N_PORTS, dtype=np.int64)
        while True:
            asking = rows[asked < N_TRIES]
            wanted = ports[asking, asked[asking]]
            holder[wanted] = n
            np.minimum.at(holder, wanted, asking)
            refused = asking[holder[wanted] != asking]
            if not len(refused):
                break
            asked[refused] = following[refused, asked[refused] + 1]
        result = np.full(n, -1, dtype=np.int64)
        result[asking] = wanted
        return result


class PortsInUse:
    """What the nodes' kernels hold of destinations whose ports may run out, as of the last look.

    Args:
        evicts: Whether the kernels evict connections that closed.
    """

    def __init__(self, evicts: bool) -> None:
        self.evicts = evicts
        self.tables: dict[tuple[int, int], PortTable] = {}
        """(place, server) → the ports of that node towards that server."""
        self._masqueraded = PairMap(())
        self._index = PairMap(())

    def follow(self, tables: dict[tuple[int, int], PortTable], masqueraded: set[tuple[int, int]]) -> None:
        """Say which destinations are looked at, and which (chooser, server) are masqueraded."""
        self.tables = tables
        self._index = PairMap((place, server, k) for k, (place, server) in enumerate(tables))
        self._masqueraded = PairMap((chooser, server, 1) for chooser, server in masqueraded)

    def none_left(
        self, choosers: Int64Array, places: Int64Array, servers: Int64Array, times: Int64Array, words: UInt64Array
    ) -> BoolArray:
        """Whether the search for a source port fails, for new connections as they reach their server.

        Each is judged by the table as the last look left it, so the order of steps does not matter.

        Args:
            choosers: Who chose the server, shape (n,); -1 nobody.
            places: Node of the caller, which masquerades, shape (n,).
            servers: Destination, shape (n,).
            times: When, ns, shape (n,).
            words: As for `attempts`, shape (n,).
        """
        lost = np.zeros(len(servers), dtype=bool)
        which = np.where(self._masqueraded.get(choosers, servers) == 1, self._index.get(places, servers), -1)
        for k, table in enumerate(self.tables.values()):
            rows = np.flatnonzero(which == k)
            for first in range(0, len(rows), _BLOCK):
                part = rows[first : first + _BLOCK]
                _, free = table.open_to(words[part], times[part], self.evicts)
                lost[part] = ~free.any(axis=1)
        return lost


# --- where requests meet it ---------------------------------------------------------------------------------------


def drop_on_the_way_to_servers(steps: "Steps", ports: PortsInUse, rows: Int64Array) -> Int64Array:
    """End tries whose caller's node found no source port for them; return the other rows.

    Args:
        steps: The engine's steps.
        ports: What the nodes hold.
        rows: Tries whose SYN is about to reach its server.
    """
    m, paths, place = steps.memory.flights.m, steps.paths, steps.memory.place
    last, streams, ingress = m[Col.TRIES, rows] - 1, m[Col.STREAM, rows], m[Col.INGRESS, rows]
    inside = ingress >= 0
    callers = np.where(inside, place[ingress], m[Col.NODE, rows])
    choosers = np.where(inside, paths.upstreams.get(streams, ingress), paths.entries.get(streams, callers))
    words = np.where(inside, m[Col.BACKEND_WORD, rows], m[Col.ENTRY_WORD, rows]).view(np.uint64)
    servers = m[Col.SERVER0 + last, rows]
    lost = ports.none_left(choosers, callers, servers, m[Col.DUE, rows], words)
    lost &= m[Col.KEPT, rows] >> last & 1 == 0  # a kept connection, or a flow's entry, has its port
    gone = rows[lost]
    ends = m[Col.TRY_START0 + last[lost], gone] + paths.connect_patience[streams[lost]]
    steps.failed(gone, Answer.NO_PORT, ends, True)
    left: Int64Array = rows[~lost]
    return left


def drop_on_the_way_to_ingresses(steps: "Steps", ports: PortsInUse, rows: Int64Array) -> Int64Array:
    """End clients' connections for which the node they came to found no source port; return the other rows."""
    m, paths = steps.memory.flights.m, steps.paths
    streams, nodes = m[Col.STREAM, rows], m[Col.NODE, rows]
    words = m[Col.ENTRY_WORD, rows].view(np.uint64)
    choosers = paths.entries.get(streams, nodes)
    lost = ports.none_left(choosers, nodes, m[Col.INGRESS, rows], m[Col.DUE, rows], words)
    steps.end(rows[lost], -Answer.NO_PORT, m[Col.START, rows[lost]] + paths.dial_patience[streams[lost]])
    left: Int64Array = rows[~lost]
    return left
