"""Counted spans: where nothing changes, requests are taken in bulk and only counted.

While the rules are constant and every server listens, each request goes well. Which pod it meets, how long it waits and
is served follow from the same addressed draws and the same queues as its flow's (`steps`), so where each request opens
a connection of its own at random or by hash, counts are those of flows to the last request, and no bound on the load is
needed. What is left out is the row of each: no request of a counted span can be opened, sampled or billed.

Not to the last request, and said where it is shown:

* Turns (NGINX's round robin, a virtual server's) are taken in order of the requests' starts; flows take them in order
  of arrival, some 0.1 ms apart. An affinity entry is renewed at a request's start.
* Of NGINX's kept connections to pods only the turns are counted. A request's worker is drawn, where a flow's is that of
  the connection it goes over, which no other request uses meanwhile: drawn ones meet more often, and wait more (with a
  third of the workers busy the median is 10 % longer). So this is counted only up to a load of `MOST_BUSY`. The pools
  stand still: after the span they hold what they held before, no older.

Calls that pods make for what they serve are counted by the same draws and queues as well (`counted_calls`).

Of connections that clients keep open a request goes over the one that its draw names, as a flow does; one that has
reached its maximal age is followed by the next (`over_kept`).

Deadlines of clients that are kept and retries that are not needed change nothing: a span ends at the first deadline
that is missed (`counted_deadlines`).

What needs flows: see `countable`. Results do not depend on how a span is cut into slabs: requests are routed in order
of their start, and queue in order of their arrival.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.addresses import ephemeral_ports, flow_hashes
from kflab.engine.affinity import Listed
from kflab.engine.arrivals import Batch
from kflab.engine.bins import Bins, Count
from kflab.engine.call_places import CallPlaces
from kflab.engine.counted_calls import Calling, begun, joined, solve
from kflab.engine.counted_rows import as_rows, finished, taken_over
from kflab.engine.express import Express, ExpressFinished
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.over_kept import MANY_LEFT, count_in_hand, forget_left, note_workers, over_kept
from kflab.engine.scheduled import Connected
from kflab.engine.step_state import Rows
from kflab.engine.steps import Queued, Steps
from kflab.engine.types import Int64Array, Pick, UInt64Array
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.engine.engine import Engine

KEPT_SPANS = 1000
"""Spans remembered."""

LONGEST_NS = 1_000_000_000
"""Longest slab of a counted span."""

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_LOW_16 = np.uint64(0xFFFF)
_NONE: Int64Array = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class Counted:
    """The state of counting: one per engine."""

    on: bool = False
    since_ns: int = 0
    held: list[Express] = field(default_factory=list)
    """Routed requests that are not at their server yet."""
    calling: list[Calling] = field(default_factory=list)
    """Requests whose servers make calls, until those have answered; first those that began before the span."""
    answered_calls: list[Express] = field(default_factory=list)
    """Requests that servers answered in the slab that runs, having made their calls."""
    places: dict[int, CallPlaces] = field(default_factory=dict)
    """Stream whose requests are served with calls → the places that they come to."""
    ok: Int64Array = field(default_factory=lambda: _NONE)
    """[streams] -> counted requests that finished since the last `take`."""
    answered: Int64Array = field(default_factory=lambda: _NONE)
    """[servers] -> requests it answered or, of an ingress server, handed on, among them."""
    requests: int = 0
    """Requests counted since the start."""
    stops_ns: int = NEVER
    """When the span ends by itself (see `counted_deadlines`)."""
    missed: bool = False
    """Whether the last span ended so."""
    spans: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=KEPT_SPANS))
    """(from, to) of the latest spans that are over, ns."""
    ended_ns: int = 0
    """How long all spans were that are over."""
    static: str | None = None
    """What in the rules needs flows, "" for nothing; None when it has to be looked up anew."""

    def note_answers(self, servers: Int64Array) -> None:
        """Count what servers answered."""
        counts = np.bincount(servers)
        self.answered = _grown(self.answered, len(counts))
        self.answered[: len(counts)] += counts

    def note(self, over: ExpressFinished, bins: Bins) -> None:
        """Count requests that have finished, also as handed on by their ingress server."""
        express, n = over.express, len(over.rows)
        self.ok = _grown(self.ok, express.stream + 1)
        self.ok[express.stream] += n
        self.requests += n
        columns = [express.servers]
        if not isinstance(express.ingresses, int):
            columns.append(express.ingresses)
            bins.add(Count.SERVER_OK, express.ingresses.take(over.rows), over.finishes())
        for servers in columns:
            self.note_answers(servers.take(over.rows))

    def spans_until(self, now_ns: int) -> tuple[tuple[int, int], ...]:
        """Return the latest spans, the one that runs now included."""
        return (*self.spans, *([(self.since_ns, now_ns)] if self.on and now_ns > self.since_ns else []))

    def counted_ns(self, now_ns: int) -> int:
        """Return how long all spans were."""
        return self.ended_ns + (now_ns - self.since_ns if self.on else 0)

    def take(self) -> tuple[Int64Array, Int64Array]:
        """Return `ok` and `answered`, and begin anew."""
        found = self.ok, self.answered
        self.ok, self.answered = _NONE, _NONE
        return found


def _grown(counts: Int64Array, n: int) -> Int64Array:
    return counts if len(counts) >= n else np.append(counts, np.zeros(n - len(counts), dtype=np.int64))


# Begin and end ----------------------------------------------------------------------------------------------------


def begin(engine: "Engine") -> None:
    """Count requests that start from now on; there is no obstacle (see `countable`).

    Those under way are sent on to their server at once, by the draws and at the times that they have anyway, so that
    later turns are all taken by counted ones.
    """
    counted, steps, flights = engine.counted, engine.steps, engine.memory.flights
    if counted.on:
        return
    counted.on, counted.since_ns, counted.stops_ns, counted.missed = True, engine.now_ns, NEVER, False
    engine.compile_paths()
    engine.choosers.begin(engine.now_ns, engine.now_ns + 1)
    active = flights.due_before(NEVER)
    for stage, step in (
        (Stage.LB, steps.at_lb),
        (Stage.NODE, steps.at_node),
        (Stage.INGRESS, steps.at_ingress),
        (Stage.TRY, steps.at_try),
    ):
        rows = steps.ready(active, stage, NEVER)
        if len(rows):
            step(rows)
    counted.places = {
        stream.index: CallPlaces(engine.streams, stream.index)
        for stream in engine.streams
        if stream.parent < 0 and stream.calls
    }
    counted.calling = [one for places in counted.places.values() if (one := taken_over(steps, places)) is not None]
    if steps.paths.any_connections:
        note_workers(steps, steps.ready(active, Stage.SERVER, NEVER))
    # NGINX closes the connections of these when their answer is there: the pools stand still.
    rows = steps.ready(active, Stage.RELEASE, NEVER)
    flights.m[Col.STAGE, rows] = Stage.ANSWER
    flights.m[Col.DUE, rows] += flights.m[Col.BACK, rows]


def end(engine: "Engine") -> None:
    """Take requests one by one from now on. What is under way has rows of its own when it is due."""
    counted, steps, memory = engine.counted, engine.steps, engine.memory
    counted.static = None
    if not counted.on:
        return
    counted.on = False
    for express in counted.held:
        rows = memory.flights.add(len(express), blank=False)
        memory.flights.m[:, rows[0] : rows[-1] + 1] = on_its_way(steps, express)
    for calling in counted.calling:
        block = as_rows(steps, calling, engine.now_ns)
        rows = memory.flights.add(block.shape[1], blank=False)
        memory.flights.m[:, rows[0] : rows[-1] + 1] = block
    counted.held, counted.calling = [], []
    if engine.choosers.n_scheduled or steps.paths.any_connections or steps.paths.any_deadline:
        engine.all_in_flight()  # what looks for connections, a client's requests or its deadlines, looks there
    if steps.paths.any_connections:
        count_in_hand(steps)
    stood_ns = engine.now_ns - counted.since_ns
    if stood_ns:
        counted.spans.append((counted.since_ns, engine.now_ns))
        counted.ended_ns += stood_ns
    memory.pools.stand_still(stood_ns)


def on_its_way(steps: Steps, express: Express) -> Int64Array:
    """Columns of the matrix of requests in flight for routed ones whose SYN is not at its server yet."""
    rows = np.arange(len(express))
    block = express.matrix(rows)
    block[Col.STAGE] = Stage.SERVER
    block[Col.DUE] = express.arrivals
    block[Col.OUT] = 0 if express.direct else NEVER
    block[Col.WORKER0] = -1  # known when it is there
    for col in (Col.SERVED, Col.QUEUE, Col.SERVICE, Col.STATUS, Col.ANSWER0, Col.TRY_END0):
        block[col] = 0
    words = steps.draws.rows(express.stream, express.numbers)
    block[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1] = words.T.view(np.int64)
    return block


# A slab -----------------------------------------------------------------------------------------------------------


def arriving(engine: "Engine", batches: Sequence[Batch], end_ns: int) -> list[Express]:
    """Route a slab's new requests; return those, and earlier ones, that are at their server before its end."""
    counted = engine.counted
    if len(engine.memory.connections.leaving) > MANY_LEFT:
        forget_left(engine.memory, [*counted.held, *engine.accepted])
    kept = engine.steps.paths.connections
    routed = [*counted.held, *_route(engine.steps, [batch for batch in batches if not kept[batch.stream]])]
    routed += [over_kept(engine.steps, batch) for batch in batches if kept[batch.stream]]
    counted.held, there = [], []
    for express in routed:
        if express.stream in counted.places:
            counted.calling.append(begun(engine.steps, counted.places[express.stream], express))
            continue
        late = express.arrivals >= end_ns
        if not late.any():
            there.append(express)
            continue
        now, later = np.flatnonzero(~late), np.flatnonzero(late)
        counted.held.append(express.only(later))
        if len(now):
            there.append(express.only(now))
    return there


def take_calls(
    engine: "Engine", active: "Rows", end_ns: int, others: "Sequence[Queued]"
) -> "tuple[Rows, list[Int64Array]]":
    """Take every visit of requests with calls that arrives before `end_ns`, and what else arrives.

    Args:
        engine: The engine.
        active: Rows in flight that are due.
        end_ns: End of the slab.
        others: Accepted requests that are not in flight and make no calls. Those whose servers have answered now are
            put behind them; when is already said.

    Returns:
        The rows that may have finished, and when each of `others` is done.
    """
    counted, steps, now_ns = engine.counted, engine.steps, engine.now_ns
    accepted = steps.accept(active, end_ns)
    visits = solve(steps, counted.calling, accepted, others, now_ns, end_ns) if counted.calling else []
    queued = [*others, *visits]
    done = steps.at_workers(accepted, queued)[: len(others)] if queued or len(accepted) else []
    left: dict[tuple[int, bool], list[Calling]] = {}
    for calling in counted.calling:
        arrivals = calling.arrivals()
        ends = calling.ends(arrivals)
        _count_calls(engine, calling, arrivals, ends, end_ns)
        known = calling.answered(ends) < end_ns
        over, open_ = np.flatnonzero(known), np.flatnonzero(~known)
        if len(over) and calling.express is None:
            rows = finished(steps, calling.only(over), arrivals[:, over], ends[0, over])
            active = np.concatenate([active, rows])
        elif len(over) and calling.express is not None:
            answered = calling.express.only(over)
            answered.done = ends[0, over]
            answered.calling = ends[0, over] - (arrivals + calling.services + calling.waits)[0, over]
            counted.answered_calls.append(answered)
        if len(open_):
            left.setdefault((calling.stream, calling.express is None), []).append(calling.only(open_))
    counted.calling = [one for (_, old), parts in left.items() for one in (parts if old else [joined(parts)])]
    return active, done


def _count_calls(engine: "Engine", calling: Calling, arrivals: Int64Array, ends: Int64Array, end_ns: int) -> None:
    """Count the calls that start, and those that are answered, before `end_ns`."""
    steps, bins, now_ns = engine.steps, engine.bins, engine.now_ns
    called = calling.present.copy()
    called[0] = False
    starts = arrivals - calling.hops
    begins = called & (starts >= now_ns) & (starts < end_ns)
    choosers = calling.choosers[begins]
    slots = steps.choosers.slots_by_draw(steps.choosers.current[choosers], calling.bits[begins].view(np.uint64))
    steps.count_picks(choosers, starts[begins], slots)
    bins.add(Count.STREAM_SENT, calling.streams[begins], starts[begins])
    over = called & (ends >= now_ns) & (ends < end_ns)
    servers = calling.servers[over]
    bins.add(Count.SERVER_OK, servers, ends[over])
    bins.add(Count.STREAM_OK, calling.streams[over], ends[over])
    if len(servers):
        engine.counted.note_answers(servers)


def _route(steps: Steps, batches: Sequence[Batch]) -> list[Express]:
    """Make every pick of new requests: load balancer, node, and for l7 the ingress server's."""
    if not batches:
        return []
    paths, memory, timing = steps.paths, steps.memory, steps.timing
    # Those through an ingress first: a slice each for both kinds.
    ordered = sorted(batches, key=lambda batch: not paths.is_l7[batch.stream])
    lengths = [len(batch.starts) for batch in ordered]
    rows = _Rows(
        np.repeat(np.array([batch.stream for batch in ordered], dtype=np.int64), lengths),
        np.concatenate([np.arange(batch.first, batch.first + n) for batch, n in zip(ordered, lengths, strict=True)]),
        np.concatenate([batch.starts for batch in ordered]),
        np.concatenate([batch.words for batch in ordered]),
    )
    nodes = paths.place[rows.streams]
    balanced = np.flatnonzero(paths.balanced[rows.streams])
    if len(balanced):
        part = rows if len(balanced) == len(nodes) else rows.only(balanced)
        at_lb = part.starts + paths.to_lb[part.streams]
        nodes[balanced], _ = _pick(steps, part, paths.lb[part.streams], _lb_bits(steps, part), at_lb)
    at_node = rows.starts + paths.to_node[rows.streams]
    targets, turns = _pick(steps, rows, paths.entries.get(rows.streams, nodes), rows.words[:, 1] >> _HALF, at_node)
    hops = steps.hop_ns(nodes, memory.place[targets])
    n_l7 = sum(n for batch, n in zip(ordered, lengths, strict=True) if paths.is_l7[batch.stream])
    ingresses, in_hops, servers, out_hops = targets[:n_l7], hops[:n_l7], targets.copy(), hops.copy()
    arrivals = at_node + hops
    if n_l7:
        part = rows.only(np.arange(n_l7))
        arrivals[:n_l7] += timing.nginx_ns
        choosers = paths.upstreams.get(part.streams, ingresses)
        servers[:n_l7], _ = _pick(steps, part, choosers, part.words[:, 2] >> _HALF, arrivals[:n_l7])
        out_hops[:n_l7] = steps.hop_ns(memory.place[ingresses], memory.place[servers[:n_l7]])
        arrivals[:n_l7] += out_hops[:n_l7]
    workers = (rows.words[:, 2] & _LOW_16).view(np.int64) * memory.n_workers[servers] >> 16
    queue_ids = memory.first_worker[servers] + workers
    services = steps.service_ns(servers, rows.words[:, 3])
    made, begin_at = [], 0
    for batch, n in zip(ordered, lengths, strict=True):
        own = slice(begin_at, begin_at + n)
        l7 = begin_at < n_l7
        made.append(
            Express(
                stream=batch.stream, numbers=rows.numbers[own], starts=rows.starts[own], nodes=nodes[own],
                ingresses=ingresses[own] if l7 else -1, servers=servers[own],
                in_hops=in_hops[own] if l7 else 0, out_hops=out_hops[own],
                arrivals=arrivals[own], workers=workers[own], queue_ids=queue_ids[own], services=services[own],
                to_node_ns=int(paths.to_node[batch.stream]), nginx_ns=timing.nginx_ns if l7 else 0,
                done=arrivals[own], finishes=arrivals[own], turns=turns[own], counted=True,
            )
        )  # fmt: skip
        begin_at += n
    return made


@dataclass(slots=True)
class _Rows:
    """New requests, shape (n,) each; words (n, 4)."""

    streams: Int64Array
    numbers: Int64Array
    starts: Int64Array
    words: UInt64Array

    def only(self, rows: Int64Array) -> "_Rows":
        return _Rows(self.streams[rows], self.numbers[rows], self.starts[rows], self.words[rows])


def _lb_bits(steps: Steps, rows: _Rows) -> UInt64Array:
    """What a load balancer picks by: a hash of the flow, or half a word."""
    paths, table = steps.paths, steps.choosers
    drawn = rows.words[:, 0] & _LOW_HALF
    by_hash = table.pick[paths.lb[rows.streams]] == Pick.FLOW_HASH
    if not by_hash.any():
        return drawn
    ports = paths.pin_ports(rows.streams, rows.numbers, ephemeral_ports(rows.words[:, 1]))
    return np.where(by_hash, flow_hashes(paths.salt[rows.streams], ports), drawn)


def _pick(
    steps: Steps, rows: _Rows, choosers: Int64Array, bits: UInt64Array, times: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Pick a candidate for each request, by draw or in turn, and count it at `times`; return it and `Col.TURNS`."""
    table, memory = steps.choosers, steps.memory
    versions = table.current[choosers]
    slots = table.slots_by_draw(versions, bits)
    turns = np.zeros_like(slots)
    in_turn = np.flatnonzero(table.pick[choosers] == Pick.ROUND_ROBIN) if table.n_round_robin else _NONE
    if len(in_turn):
        order = np.lexsort((rows.numbers[in_turn], rows.streams[in_turn], rows.starts[in_turn], versions[in_turn]))
        in_turn = in_turn[order]
        slots[in_turn] = table.slots_by_turn(versions[in_turn])
    scheduled = np.flatnonzero(table.scheduler[choosers] >= 0) if table.n_scheduled else _NONE
    if len(scheduled):
        part = rows.only(scheduled)
        servers, places, _ = memory.schedulers.take(
            table.scheduler[choosers[scheduled]], part.starts, part.streams, part.numbers,
            table.flat[slots[scheduled]], versions[scheduled], Connected(steps),
            Listed(table.flat, table.offset, table.size),
        )  # fmt: skip
        slots[scheduled] = table.slots_of(versions[scheduled], servers)
        turns[scheduled] = np.where(places + 1 < 1 << 16, places + 1, 0)
    table.count(slots)
    steps.bins.add(Count.CHOOSER, choosers, times)
    return table.flat[slots], turns
