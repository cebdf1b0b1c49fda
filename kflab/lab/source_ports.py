"""Source ports of masqueraded connections: which nodes may run out of them, and what they hold (see `engine.snat`).

One caller cannot exhaust them: its address has 28,232 source ports of its own towards one destination
(net.ipv4.ip_local_port_range), and its kernel takes them in turn (inet_hashtables.c, __inet_hash_connect); a SYN from
a port whose entry is in TIME_WAIT replaces that entry (nf_conntrack_proto_tcp.c, "Attempt to reopen a closed/aborted
connection"). So only nodes that masquerade several callers towards one server are followed: first by counts alone, and
port by port once a quarter of the ports is taken. A search for a port cannot fail long before half of them are.
"""

from dataclasses import field
from typing import TYPE_CHECKING, Final

import numpy as np

from kflab.engine.addresses import N_PORTS as CALLER_PORTS
from kflab.engine.bins import Count
from kflab.engine.finished import mix
from kflab.engine.memory import NEVER
from kflab.engine.retrying import request_of
from kflab.engine.snat import EVICTS_FROM, N_PORTS, PortsInUse, PortTable
from kflab.engine.types import Choice, Finished, Int64Array, UInt64Array
from kflab.lab.expiring import Expiring
from kflab.lab.table_entries import EndedEntries
from kflab.lab.tracked_rows import BoolArray, Reading
from kflab.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from kflab.lab.running import Lab

Destination = tuple[int, int]
"""(place that masquerades, server)."""

BEGIN: Final = N_PORTS // 4
"""From so many connections on a destination is followed port by port…"""

END: Final = N_PORTS // 8
"""… and below so many no longer."""

LOOKS_NS: Final = (500_000_000, 100_000_000, 10_000_000)
"""How often its ports are looked at: the longest of these in which at most `PER_LOOK` requests start."""

PER_LOOK: Final = 512
"""Between two looks connections are judged by the same table: a hundredth of the ports at most is given twice."""

_NUMBER_BITS = 44
_TRY_BITS = 2


@dataclass(slots=True)
class _Batch:
    """Masqueraded connections towards followed destinations; arrays of one length."""

    keys: Int64Array
    """Index of the destination."""
    ids: Int64Array
    """(stream, number, try) in one word."""
    starts: Int64Array
    until: Int64Array
    closed: BoolArray
    own: BoolArray
    """The caller's own connection, not one of NGINX's tries."""
    attempts: Int64Array
    """Attempt whose words drew it."""

    def only(self, rows: "Int64Array | BoolArray") -> "_Batch":
        """Some of them."""
        return _Batch(*(getattr(self, name)[rows] for name in self.__slots__))

    @property
    def streams(self) -> Int64Array:
        return self.ids >> _NUMBER_BITS + _TRY_BITS

    @property
    def numbers(self) -> Int64Array:
        return (self.ids >> _TRY_BITS) & (1 << _NUMBER_BITS) - 1


def _joined(batches: list[_Batch]) -> _Batch:
    return _Batch(*(np.concatenate([getattr(batch, name) for batch in batches]) for name in _Batch.__slots__))


@dataclass(slots=True)
class _Held:
    """One destination's ports, and who holds them."""

    table: PortTable = field(default_factory=PortTable)
    open_ids: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Connections that are open, ascending…"""
    open_ports: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """… and their ports."""
    stream: Int64Array = field(default_factory=lambda: np.zeros(N_PORTS, dtype=np.int64))
    """[ports] -> stream of the caller that holds or held it."""
    number: Int64Array = field(default_factory=lambda: np.full(N_PORTS, NEVER, dtype=np.int64))
    """[ports] -> number of its request; `NEVER` where it is not known, or NGINX's."""

    def in_use(self, now_ns: int) -> int:
        """How many ports are taken."""
        return int(np.count_nonzero(self.table.until > now_ns))

    def place(self, new: _Batch, words: UInt64Array, evicts: bool) -> Int64Array:
        """Give new connections their ports, in order of time; return when the entries would have ended that went."""
        ports, evicted = self.table.take(words, new.starts, evicts)
        got = ports >= 0
        self.stream[ports[got]] = new.streams[got]
        self.number[ports[got]] = np.where(new.own, request_of(new.numbers), NEVER)[got]
        ids, ports = np.append(self.open_ids, new.ids[got]), np.append(self.open_ports, ports[got])
        order = np.argsort(ids)
        self.open_ids, self.open_ports = ids[order], ports[order]
        return evicted

    def close(self, over: _Batch) -> None:
        """Connections ended: their ports are taken until their entries time out."""
        at = np.searchsorted(self.open_ids, over.ids)
        known = np.flatnonzero(at < len(self.open_ids))
        known = known[self.open_ids[at[known]] == over.ids[known]]
        ports = self.open_ports[at[known]]
        self.table.until[ports] = over.until[known]
        self.table.closed[ports] = over.closed[known]
        left = np.ones(len(self.open_ids), dtype=bool)
        left[at[known]] = False
        self.open_ids, self.open_ports = self.open_ids[left], self.open_ports[left]

    def reuse(self, newest: Int64Array, now_ns: int) -> None:
        """End the entries whose caller has come round to the same source port.

        Args:
            newest: [streams] -> number of the last request that began.
            now_ns: Now.
        """
        gone = self.table.closed & (self.number <= newest[self.stream] - CALLER_PORTS)
        self.table.until[gone] = np.minimum(self.table.until[gone], now_ns)


class SourcePorts:
    """The source ports of all nodes.

    Args:
        lab: The lab.
        reading: Makes a reader of rows, under the present settings.
        entries: The nodes' entries of finished requests: those that are evicted are taken out of them.
    """

    def __init__(self, lab: "Lab", reading: "Callable[[], Reading]", entries: EndedEntries) -> None:
        self._lab, self._reading, self._entries = lab, reading, entries
        self._in_use = PortsInUse(lab.spec.kernel >= EVICTS_FROM)
        self._ended = Expiring()
        """Entries of finished connections, per followed destination."""
        self._held: dict[int, _Held] = {}
        """Index of a destination → its ports, where it is followed port by port."""
        self._over: list[_Batch] = []
        """Connections of those that ended since the last look."""

    @property
    def followed(self) -> dict[Destination, int]:
        """Destination to which a node masquerades several callers → since when, ns."""
        return self._lab.wiring.compiler.shared_destinations

    def used(self, place: int) -> tuple[tuple[int, int], ...]:
        """(server, ports taken) of a node's destinations that are followed port by port."""
        now_ns, known = self._lab.t_ns, list(self.followed)
        return tuple((known[k][1], held.in_use(now_ns)) for k, held in self._held.items() if known[k][0] == place)

    def machine_off(self, place: int, t_ns: int) -> None:
        """A node's kernel stopped: all its ports are free."""
        for key, destination in enumerate(self.followed):
            if destination[0] == place:
                self._ended.clear(key)
                self._held.pop(key, None)
                self.followed[destination] = t_ns  # older connections no longer count

    # --- counting ---------------------------------------------------------------------------------------------

    def add(self, rows: Finished, now_ns: int) -> None:
        """Count what finished requests leave behind."""
        if not self.followed:
            return
        self._ended.expire(now_ns, len(self.followed))
        over = self._batch(rows, now_ns)
        lasting = over.until > now_ns
        self._ended.add(over.keys[lasting], over.until[lasting])
        if self._held:
            self._over.append(over.only(np.isin(over.keys, list(self._held))))

    def _batch(self, rows: Finished, now_ns: int) -> _Batch:
        """The connections of some requests that a node masquerades towards a followed destination."""
        paths, wiring = self._lab.engine.steps.paths, self._lab.wiring
        known = list(self.followed)
        since = np.array(list(self.followed.values()), dtype=np.int64)
        n_servers = len(wiring.servers)
        destinations = np.array([place * n_servers + server for place, server in known], dtype=np.int64)
        order = np.argsort(destinations)
        pairs = np.array([c * n_servers + s for c, s in wiring.compiler.masqueraded], dtype=np.int64)
        batches = []
        for found in self._reading().connections(rows, now_ns):
            streams = rows.stream[found.rows].astype(np.int64)
            ingress = rows.ingress[found.rows].astype(np.int64)
            own = np.full(len(streams), found.try_number == 0) | (ingress < 0)
            choosers = np.where(own, paths.entries.get(streams, found.near), paths.upstreams.get(streams, ingress))
            wanted = found.near * n_servers + found.servers
            at = order[np.minimum(np.searchsorted(destinations, wanted, sorter=order), len(order) - 1)]
            mine = (destinations[at] == wanted) & (found.starts >= since[at]) & (found.near >= 0)
            mine &= np.isin(choosers * n_servers + found.servers, pairs)
            some = np.flatnonzero(mine)
            ids = (streams << _NUMBER_BITS | rows.number[found.rows]) << _TRY_BITS | found.try_number
            attempts = np.where(own, 0, found.try_number - 1 + rows.extra["lost"][found.rows])
            batches.append(_Batch(at, ids, found.starts, found.until, found.closed, own, attempts).only(some))
        return _joined(batches) if batches else _Batch(*_NOTHING)

    # --- looking ----------------------------------------------------------------------------------------------

    def look(self, now_ns: int) -> int:
        """Bring the tables up to date, and give them to the engine; return when to look again.

        Args:
            now_ns: Now. Finished requests have been added.
        """
        engine = self._lab.engine
        open_ = self._batch(engine.in_flight_rows(), now_ns)
        open_ = open_.only(open_.until == NEVER)
        self._ended.expire(now_ns, len(self.followed))
        counts = self._ended.left + np.bincount(open_.keys, minlength=len(self.followed))
        for key in [key for key in self._held if counts[key] < END]:
            del self._held[key]
        for key in np.flatnonzero(counts >= BEGIN).tolist():
            if key not in self._held:
                self._held[key] = self._begun(key, now_ns)
        over = _joined(self._over) if self._over else _Batch(*_NOTHING)
        self._over = []
        newest = engine.bins.totals(Count.STREAM_SENT) - 1
        for key, held in self._held.items():
            ended = over.only(over.keys == key)
            self._place(key, held, _joined([ended.only(ended.until > 0), open_.only(open_.keys == key)]))
            held.close(ended)
            held.reuse(newest, now_ns)
        known = list(self.followed)
        if self._held:
            tables = {known[key]: held.table for key, held in self._held.items()}
            self._in_use.follow(tables, self._lab.wiring.compiler.masqueraded)
        engine.steps.ports = self._in_use if self._held else None
        per_ns = engine.arrivals.rows_per_ns()
        step = next((ns for ns in LOOKS_NS if per_ns * ns <= PER_LOOK), LOOKS_NS[-1]) if self._held else LOOKS_NS[0]
        return (now_ns // step + 1) * step

    def _place(self, key: int, held: _Held, found: _Batch) -> None:
        """Give ports to those that have none yet, and forget the entries that were evicted for them."""
        new = found.only(~np.isin(found.ids, held.open_ids))
        new = new.only(np.lexsort((new.ids, new.starts)))
        if len(new.ids):
            words = self._lab.draws.rows(new.streams, new.numbers, new.attempts)
            chosen = np.where(new.own, words[:, Choice.ENTRY], words[:, Choice.BACKEND])
            gone = held.place(new, chosen, self._in_use.evicts)
            self._ended.take_out(key, gone)
            self._entries.take_out(list(self.followed)[key][0], gone)

    def _begun(self, key: int, now_ns: int) -> _Held:
        """A destination's ports as its finished connections left them: how many is known, which ones are drawn."""
        place, server = list(self.followed)[key]
        name = f"{self._lab.wiring.places[place]} {self._lab.wiring.servers[server]}"
        known = np.array(list(self._ended.ends_of(key)), dtype=np.int64).reshape(-1, 2)
        ends = np.repeat(known[:, 0], known[:, 1])
        first = np.uint64(self._lab.draws.control_u64("source-ports", name, now_ns))
        words = mix(first + np.arange(len(ends), dtype=np.uint64))
        held = _Held()
        ports, _ = held.table.take(words, np.full(len(ends), now_ns), evicts=False)
        ends, ports = ends[ports >= 0], ports[ports >= 0]
        held.table.until[ports] = ends
        held.table.closed[ports] = True
        callers = self._callers(place, server)
        if len(callers):
            # Whose they are is not known: taken for the last ones of each caller in turn, the last to end the latest.
            newest = self._lab.engine.bins.totals(Count.STREAM_SENT) - 1
            held.stream[ports] = np.resize(callers, len(ports))
            held.number[ports] = newest[held.stream[ports]] - np.arange(len(ports))[::-1] // len(callers)
        return held

    def _callers(self, place: int, server: int) -> Int64Array:
        """Streams whose own connections a node masquerades to a server."""
        wiring = self._lab.wiring
        choosers = (wiring.choosers[chooser] for chooser, to in sorted(wiring.compiler.masqueraded) if to == server)
        streams = {c.entry.index for c in choosers if c.kind == "entry" and c.place == wiring.places[place]}
        return np.array(sorted(streams), dtype=np.int64)


_NOTHING = (*(np.zeros(0, dtype=np.int64) for _ in range(4)), *(np.zeros(0, dtype=bool) for _ in range(2)),
            np.zeros(0, dtype=np.int64))  # fmt: skip
