"""The common case in bulk: first tries of new-connection requests that meet nothing unusual.

Same semantics as `steps`, the same draws, fewer columns. A request goes express when its first try reaches its server
inside the slab, no chooser changes in it, and everything it picks exists and listens; the others take `steps` from
their start. What is accepted joins the queues of `steps` (`Steps.at_workers`), so order at a worker is one order.
"""

from copy import copy
from dataclasses import fields
from functools import lru_cache

import numpy as np

from kflab.engine.addresses import ephemeral_ports, flow_hashes
from kflab.engine.arrivals import Batch
from kflab.engine.bins import BIN_NS, Bins, Count
from kflab.engine.memory import N_COLS, Col, Flights, Stage
from kflab.engine.paths import PairMap
from kflab.engine.steps import Steps
from kflab.engine.types import MAX_TRIES, Answer, Behaviour, Int64Array, Pick, UInt64Array
from kflab.records import dataclass

MIN_ROWS = 512
"""Below this, `steps` alone is as fast."""

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_LOW_16 = np.uint64(0xFFFF)


@dataclass(slots=True)
class Express:
    """Routed rows of one stream, shape (n,) each; scalars where all rows agree."""

    stream: int
    numbers: Int64Array
    starts: Int64Array
    nodes: "Int64Array | int"
    ingresses: "Int64Array | int"
    """-1 where the client's connection goes to the server itself."""
    servers: Int64Array
    in_hops: "Int64Array | int"
    """One way, node to ingress; 0 without one."""
    out_hops: Int64Array
    """One way, ingress (without one: node) to server."""
    arrivals: Int64Array
    workers: Int64Array
    """Worker of the server."""
    queue_ids: Int64Array
    """Worker among all."""
    services: Int64Array
    to_node_ns: int
    nginx_ns: int
    done: Int64Array
    """When the server is done; the arrivals until the queues have run."""
    finishes: Int64Array
    turns: "Int64Array | int" = 0
    """`Col.TURNS`."""
    opened: "Int64Array | int" = 0
    """When the connection was opened that its client keeps; 0 where it opens one per request."""
    ports: "Int64Array | int" = 0
    """The client's port of that connection; 0 of the request that opened it."""
    arrival_words: "Int64Array | int" = 0
    """ARRIVAL words, which name that connection."""
    calling: "Int64Array | int" = 0
    """How long its server made calls before it was done."""
    counted: bool = False
    """Of a counted span (see `counting`)."""

    @property
    def direct(self) -> bool:
        """Whether the client's connection goes to the server itself."""
        return isinstance(self.ingresses, int)

    def only(self, rows: Int64Array) -> "Express":
        """Keep some rows."""
        kept = copy(self)
        for one in fields(self):
            column = getattr(self, one.name)
            if isinstance(column, np.ndarray):
                setattr(kept, one.name, column[rows])
        return kept

    def answered_ns(self, rows: Int64Array) -> Int64Array:
        """When the caller of the try, an ingress server or the client itself, has the answer."""
        if self.direct:
            return self.finishes.take(rows)
        return self.done.take(rows) + self.out_hops.take(rows)

    def __len__(self) -> int:
        return len(self.starts)

    def matrix(self, rows: Int64Array) -> Int64Array:
        """Return rows as columns of the matrix of requests in flight, waiting for their answer."""
        block = np.zeros((N_COLS, len(rows)), dtype=np.int64)
        block[Col.SERVER0 : Col.SERVER0 + MAX_TRIES] = -1
        block[Col.WORKER0 : Col.WORKER0 + MAX_TRIES] = -1
        starts, out_hops = self.starts[rows], self.out_hops[rows]
        in_hops = _of(self.in_hops, rows)
        services, done = self.services[rows], self.done[rows]
        block[Col.STREAM] = self.stream
        block[Col.NUMBER] = self.numbers[rows]
        block[Col.START] = starts
        block[Col.STAGE] = Stage.ANSWER
        block[Col.DUE] = self.finishes[rows]
        block[Col.NODE] = _of(self.nodes, rows)
        block[Col.INGRESS] = _of(self.ingresses, rows)
        block[Col.TURNS] = _of(self.turns, rows)
        if not isinstance(self.opened, int):
            block[Col.OPENED], block[Col.KEPT_PORTS] = self.opened[rows], _of(self.ports, rows)
            block[Col.KEPT] = block[Col.KEPT_PORTS] > 0
            block[Col.ARRIVAL_WORD] = _of(self.arrival_words, rows)
        block[Col.TRIES] = 1
        block[Col.TRY_END0] = self.answered_ns(rows)
        if self.direct:
            block[Col.BACK] = out_hops + self.to_node_ns
            block[Col.HOP] = self.arrivals[rows] - starts
            block[Col.TRY_START0] = starts
        else:
            block[Col.OUT] = block[Col.TRY_END0]
            block[Col.BACK] = in_hops + self.to_node_ns
            block[Col.HOP] = out_hops
            block[Col.TRY_START0] = starts + in_hops + (self.to_node_ns + self.nginx_ns)
        calling = _of(self.calling, rows)
        block[Col.SERVED] = done - calling
        block[Col.QUEUE] = done - calling - services - self.arrivals[rows]
        block[Col.CALLING] = calling
        block[Col.SERVICE] = services
        block[Col.STATUS] = 200
        block[Col.SERVER0] = self.servers[rows]
        block[Col.ANSWER0] = Answer.OK
        block[Col.WORKER0] = self.workers[rows]
        return block


def _of(column: "Int64Array | int", rows: Int64Array) -> "Int64Array | int":
    return column if isinstance(column, int) else column[rows]


@dataclass(slots=True)
class ExpressFinished:
    """Finished express rows, made into a matrix only if somebody asks."""

    express: Express
    rows: Int64Array

    def matrix(self) -> Int64Array:
        return self.express.matrix(self.rows)

    def finishes(self) -> Int64Array:
        return self.express.finishes.take(self.rows)

    def latencies(self) -> Int64Array:
        return self.finishes() - self.express.starts.take(self.rows)


def route(steps: Steps, batch: Batch, start_ns: int, end_ns: int) -> "Express | None":
    """Route what can go express; the rest of the batch is put in flight as `steps` does.

    Args:
        steps: The engine's steps.
        batch: New requests of one stream.
        start_ns: Start of the slab.
        end_ns: End of the slab, in the same bin.
    """
    stream = batch.stream
    if not _may_go(steps, stream, start_ns, end_ns, len(batch.starts)):
        steps.start(batch)
        return None
    timing, paths = steps.timing, steps.paths
    _keep_freed_memory()
    to_node = int(paths.to_node[stream])
    longest = to_node + timing.nginx_ns + 2 * max(timing.same_node_ns, timing.cross_node_ns)
    n = int(np.searchsorted(batch.starts, end_ns - longest))
    if n < MIN_ROWS or batch.first <= paths.last_pin:
        steps.start(batch)
        return None
    steps.start(Batch(stream, batch.first + n, batch.starts[n:], batch.words[n:]))
    return _route(steps, Batch(stream, batch.first, batch.starts[:n], batch.words[:n]), to_node)


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Free one large block, never touched: glibc then gives arrays up to that size from its heap and keeps them.

    Otherwise each slab's arrays are mapped and unmapped anew, and page faults take a fifth of the time (mallopt(3),
    "dynamic mmap threshold").
    """
    np.empty(31 << 20, dtype=np.uint8)


def _may_go(steps: Steps, stream: int, start_ns: int, end_ns: int, count: int) -> bool:
    paths, choosers = steps.paths, steps.choosers
    return (
        count >= MIN_ROWS
        and bool(paths.is_l7[stream])
        and not paths.keepalive[stream]
        and steps.room is None
        and not paths.deadlines[stream]
        and steps.cut is None
        and steps.ports is None
        and not paths.no_route[stream]
        and paths.lb[stream] >= 0
        and choosers.flat[choosers.offset[choosers.current[paths.lb[stream]]]] >= 0
        and not choosers.changing
        and not choosers.n_round_robin
        and not choosers.n_scheduled
        and start_ns // BIN_NS == (end_ns - 1) // BIN_NS
    )


def _behind(steps: Steps, stream: int, n: int, pairs: PairMap) -> tuple[Int64Array, Int64Array]:
    """Return offset and size of the fan in force behind each of `n` places (or ingress servers) of a stream."""
    choosers = pairs.get(np.full(n, stream), np.arange(n))
    versions = np.where(choosers < 0, 0, steps.choosers.current[np.maximum(choosers, 0)])
    return steps.choosers.offset[versions], steps.choosers.size[versions]


def _taken(table: Int64Array, places: Int64Array) -> "Int64Array | int":
    """Look places up, or give the one value that all have. -1 wraps to the last."""
    return int(table[0]) if (table == table[0]).all() else table.take(places, mode="wrap")


def _slots(offsets: "Int64Array | int", sizes: "Int64Array | int", bits: UInt64Array) -> Int64Array:
    """Multiply-shift in place on `bits` (fresh, below 2³²)."""
    picks = bits.view(np.int64)
    picks *= sizes
    picks >>= 32
    picks += offsets
    return picks


def _hops(steps: Steps, same: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Int64Array:
    """Turn "same place" into a delay without branching on random data."""
    hops = same.astype(np.int64)
    hops *= steps.timing.same_node_ns - steps.timing.cross_node_ns
    hops += steps.timing.cross_node_ns
    return hops


@dataclass(slots=True)
class Picks:
    """What each request of a block picked; -1 where a fan was empty."""

    nodes: "Int64Array | int"
    ingresses: Int64Array
    servers: Int64Array
    lb_slots: "Int64Array | int"
    entry_slots: Int64Array
    up_slots: Int64Array

    def only(self, rows: Int64Array) -> "Picks":
        """Keep some rows."""
        nodes, lb_slots = self.nodes, self.lb_slots
        if not isinstance(nodes, int) and not isinstance(lb_slots, int):
            nodes, lb_slots = nodes[rows], lb_slots[rows]
        slots = self.entry_slots[rows], self.up_slots[rows]
        return Picks(nodes, self.ingresses[rows], self.servers[rows], lb_slots, *slots)


def pick_path(steps: Steps, stream: int, words: UInt64Array) -> Picks:
    """Make the three picks of an l7 request's first try: node, ingress server, server.

    Args:
        steps: The engine's steps; no chooser changes in the slab and none takes turns.
        stream: An l7 stream with a load balancer.
        words: (n, 4) draw words of attempt 0.
    """
    choosers, paths = steps.choosers, steps.paths
    flat, entry = choosers.flat, words[:, 1]
    lb = int(paths.lb[stream])
    version = int(choosers.current[lb])
    offset, size = int(choosers.offset[version]), int(choosers.size[version])
    lb_slots: Int64Array | int = offset
    nodes: Int64Array | int = int(flat[offset])
    if size > 1:
        if choosers.pick[lb] == Pick.FLOW_HASH:
            bits = flow_hashes(paths.salt[stream], ephemeral_ports(entry))
        else:
            bits = words[:, 0] & _LOW_HALF
        lb_slots = _slots(offset, size, bits)
        nodes = flat.take(lb_slots)
    n_places = int(flat[offset : offset + size].max()) + 1
    # One more row, for -1 to wrap to: an empty fan behind an empty fan.
    offsets, sizes = _behind(steps, stream, n_places + 1, paths.entries)
    if isinstance(nodes, int):
        entry_slots = _slots(int(offsets[nodes]), int(sizes[nodes]), entry >> _HALF)
    else:
        entry_slots = _slots(_taken(offsets, nodes), _taken(sizes, nodes), entry >> _HALF)
    ingresses = flat.take(entry_slots)
    offsets, sizes = _behind(steps, stream, len(steps.memory.place) + 1, paths.upstreams)
    up_slots = _slots(_taken(offsets, ingresses), _taken(sizes, ingresses), words[:, 2] >> _HALF)
    return Picks(nodes, ingresses, flat.take(up_slots), lb_slots, entry_slots, up_slots)


def _route(steps: Steps, batch: Batch, to_node: int) -> "Express | None":
    stream, words, starts = batch.stream, batch.words, batch.starts
    memory, timing = steps.memory, steps.timing
    picks = pick_path(steps, stream, words)
    numbers = np.arange(batch.first, batch.first + len(starts))
    # An empty fan picked -1, which wraps to the entry behind the last server.
    usable = np.append(memory.behaviour == Behaviour.LISTENS, False)
    if not usable[:-1].all() or int(picks.ingresses.min()) < 0 or int(picks.servers.min()) < 0:
        good = usable.take(picks.ingresses, mode="wrap") & usable.take(picks.servers, mode="wrap")
        if not good.all():
            odd, rows = np.flatnonzero(~good), np.flatnonzero(good)
            steps.start(Batch(stream, 0, starts[odd], words[odd]), numbers[odd])
            if not len(rows):
                return None
            starts, words, numbers, picks = starts[rows], words[rows], numbers[rows], picks.only(rows)
    _count(steps, picks, int(starts[0]))
    servers = picks.servers
    ingress_places = memory.place.take(picks.ingresses)
    in_hops = _hops(steps, ingress_places == picks.nodes)
    out_hops = _hops(steps, memory.place.take(servers) == ingress_places)
    arrivals = starts + (to_node + timing.nginx_ns)
    arrivals += in_hops
    arrivals += out_hops
    workers = (words[:, 2] & _LOW_16).view(np.int64)
    workers *= memory.n_workers.take(servers)
    workers >>= 16
    return Express(
        stream=stream,
        numbers=numbers,
        starts=starts,
        nodes=picks.nodes,
        ingresses=picks.ingresses,
        servers=servers,
        in_hops=in_hops,
        out_hops=out_hops,
        arrivals=arrivals,
        workers=workers,
        queue_ids=memory.first_worker.take(servers) + workers,
        services=steps.service_ns(servers, words[:, 3]),
        to_node_ns=to_node,
        nginx_ns=timing.nginx_ns,
        done=arrivals,
        finishes=arrivals,
    )


def _count(steps: Steps, picks: Picks, t_ns: int) -> None:
    """Count picks per slot and per chooser; the slab lies in one bin."""
    choosers = steps.choosers
    counts = np.bincount(picks.entry_slots, minlength=choosers.n_slots)
    counts += np.bincount(picks.up_slots, minlength=choosers.n_slots)
    if isinstance(picks.lb_slots, int):
        counts[picks.lb_slots] += len(picks.servers)
    else:
        counts += np.bincount(picks.lb_slots, minlength=choosers.n_slots)
    choosers.slot_picks[: len(counts)] += counts
    used = np.flatnonzero(counts)
    owners = choosers.owner[used]
    amounts = np.zeros(steps.bins.width(Count.CHOOSER), dtype=np.int64)
    np.add.at(amounts, owners, counts[used])
    steps.bins.add_many(Count.CHOOSER, amounts, t_ns // BIN_NS)


def settle(express: Express, done: Int64Array) -> None:
    """Write down what the queues made of the rows."""
    express.done = done
    finishes = done + express.in_hops
    finishes += express.out_hops
    finishes += express.to_node_ns
    express.finishes = finishes


@dataclass(slots=True)
class Underway:
    """Express rows whose client does not know yet: served, their answer's time computed, nobody crashed since."""

    express: Express
    rows: "Int64Array | None" = None
    """Which rows of `express` are still to come; None for all."""

    def __len__(self) -> int:
        return len(self.express) if self.rows is None else len(self.rows)

    def finish(self, bins: Bins, end_ns: int) -> "ExpressFinished | None":
        """Take out the rows that finish before `end_ns`, and count them."""
        express, first = self.express, self.rows is None and not self.express.counted
        finishes = express.finishes if self.rows is None else express.finishes.take(self.rows)
        over = finishes < end_ns
        rows, late = np.flatnonzero(over), np.flatnonzero(~over)
        if self.rows is not None:
            rows, late = self.rows.take(rows), self.rows.take(late)
        self.rows = late
        if not len(rows):
            return None
        if first:
            # Served, answered and finished within one slab, which lies in one bin.
            answered = np.bincount(express.servers, minlength=bins.width(Count.SERVER_OK))
            answered -= np.bincount(express.servers.take(late), minlength=bins.width(Count.SERVER_OK))
            bins.add_many(Count.SERVER_OK, answered, (end_ns - 1) // BIN_NS)
        else:
            bins.add(Count.SERVER_OK, express.servers.take(rows), express.answered_ns(rows))
        if first:
            finished = np.zeros(bins.width(Count.STREAM_OK), dtype=np.int64)
            finished[express.stream] = len(rows)
            bins.add_many(Count.STREAM_OK, finished, (end_ns - 1) // BIN_NS)
        else:
            bins.add(Count.STREAM_OK, np.full(len(rows), express.stream), express.finishes.take(rows))
        return ExpressFinished(express, rows)

    def put_in_flight(self, flights: Flights) -> None:
        """Give the rows their own columns in the matrix, so that a crash can rewrite their endings."""
        late = np.arange(len(self.express)) if self.rows is None else self.rows
        if len(late):
            rows = flights.add(len(late), blank=False)
            flights.m[:, rows[0] : rows[-1] + 1] = self.express.matrix(late)
