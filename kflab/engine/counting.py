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

What needs flows: see `obstacle`. Results do not depend on how a span is cut into slabs: requests are routed in order of
their start, and queue in order of their arrival.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from kflab.draws import TABLE_SIZE
from kflab.engine.addresses import ephemeral_ports, flow_hashes
from kflab.engine.affinity import Listed
from kflab.engine.arrivals import Batch
from kflab.engine.bins import Bins, Count
from kflab.engine.express import Express, ExpressFinished
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.scheduled import Connected, schedulers_in_order
from kflab.engine.schedulers import Scheduler
from kflab.engine.steps import Steps
from kflab.engine.types import Behaviour, Int64Array, Pick, Stream, UInt64Array

if TYPE_CHECKING:
    from kflab.engine.engine import Engine

MOST_BUSY = 0.05
"""Offered load per worker up to which kept connections are counted: the mean wait of drawn workers is then some 4 % of
the mean of the default service time (M/G/1, Pollaczek and Khinchine). Ours."""

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
    ok: Int64Array = field(default_factory=lambda: _NONE)
    """[streams] -> counted requests that finished since the last `take`."""
    answered: Int64Array = field(default_factory=lambda: _NONE)
    """[servers] -> requests it answered or, of an ingress server, handed on, among them."""
    requests: int = 0
    """Requests counted since the start."""
    spans: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=KEPT_SPANS))
    """(from, to) of the latest spans that are over, ns."""
    ended_ns: int = 0
    """How long all spans were that are over."""
    static: str | None = None
    """What in the rules needs flows, "" for nothing; None when it has to be looked up anew."""

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
            counts = np.bincount(servers.take(over.rows))
            self.answered = _grown(self.answered, len(counts))
            self.answered[: len(counts)] += counts

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


# Whether ----------------------------------------------------------------------------------------------------------


def obstacle(engine: "Engine") -> str:
    """Say why requests cannot be counted from now on; "" where they can."""
    passing = next(_passing(engine), "")
    if passing:
        return passing
    if engine.counted.static is None:
        engine.counted.static = next((why for stream in engine.streams for why in _of_stream(engine, stream)), "")
    return engine.counted.static


def _passing(engine: "Engine") -> Iterator[str]:
    """What may pass by itself, or come."""
    memory = engine.memory
    if engine.changes_ahead or engine.choosers.changes_ahead or memory.schedulers.changes_ahead:
        yield "a change is under way"
    if engine.steps.cut is not None:
        yield "a node is cut off"
    if engine.watch is not None:
        yield "conntrack tables or source ports are watched"
    if memory.schedulers.open:
        yield "a virtual server counts connections"
    if memory.hangs:
        yield "a process hangs"
    if memory.n_shared:
        yield "workers of a pod share one queue"
    m, live = memory.flights.m, memory.flights.due_before(NEVER)
    stages = m[Col.STAGE, live]
    before = m[Col.TRIES, live] + m[Col.LOST, live] - (stages == Stage.SERVER)
    if ((stages <= Stage.SERVER) & (before > 0)).any():
        yield "a request tries again"


def _of_stream(engine: "Engine", stream: Stream) -> Iterator[str]:
    table = engine.choosers
    if not stream.rate_rps:
        return
    if stream.calls:
        yield "pods make calls for what they serve"
    if stream.flow_port or stream.one_way:
        yield "a UDP sender keeps its port or wants no answer"
    if stream.connections:
        yield "a client keeps connections open"
    if stream.front_answer or stream.no_route:
        yield "a front answers by itself"
    nodes: set[int] = {stream.place}
    if stream.kind in ("l7", "l4"):
        nodes = set(table.candidates(stream.lb))
        yield from _picking(engine, stream.lb)
    if not nodes:
        yield "a load balancer has no target"
    entries = dict(stream.entries)
    first: set[int] = set()
    for node in sorted(nodes):
        chooser = entries.get(node, -1)
        first.update(table.candidates(chooser))
        if not table.candidates(chooser):
            yield "a node's rules lead nowhere"
        yield from _picking(engine, chooser)
    servers = set(first)
    for ingress in sorted(first) if stream.kind == "l7" else ():
        chooser = dict(stream.upstreams).get(ingress, -1)
        servers.update(table.candidates(chooser))
        if not table.candidates(chooser):
            yield "NGINX has no upstream"
        elif table.pick[chooser] == Pick.SCHEDULED:
            yield "a node's rules take turns for NGINX's connections, or keep them on one pod"
        elif table.pick[chooser] == Pick.RANDOM and stream.keepalive:
            yield "NGINX keeps connections to a Service's address: a request's pod is that of an idle connection"
    if stream.keepalive and _busy(engine, servers - first) > MOST_BUSY:
        yield f"more than {MOST_BUSY:.0%} of workers are busy, and NGINX keeps connections to them"
    if any(engine.memory.behaviour[server] != Behaviour.LISTENS for server in servers):
        yield "an address that is listed does not answer"


def _busy(engine: "Engine", servers: set[int]) -> float:
    """Offered load per worker if every request of the engine came to these servers."""
    rate_rps = sum(stream.rate_rps for stream in engine.streams)
    tables = {int(engine.steps.server_table[server]) for server in servers}
    longest_s = max((int(engine.steps.tables[table].sum()) / TABLE_SIZE / 1e9 for table in tables), default=0.0)
    workers = sum(int(engine.memory.n_workers[server]) for server in servers)
    return rate_rps * longest_s / max(1, workers)


def _picking(engine: "Engine", chooser: int) -> Iterator[str]:
    """What a chooser of the way in may not do."""
    table, schedulers = engine.choosers, engine.memory.schedulers
    which = int(table.scheduler[chooser]) if chooser >= 0 else -1
    if which < 0:
        return
    virtual = schedulers.servers[which]
    if which in schedulers_in_order(engine.steps):
        yield "turns of one virtual server depend on more than its connections' order"
    elif which not in schedulers.kept and virtual.scheduler not in (Scheduler.RR, Scheduler.WRR):
        yield "a virtual server counts connections"


# Begin and end ----------------------------------------------------------------------------------------------------


def begin(engine: "Engine") -> None:
    """Count requests that start from now on; there is no `obstacle`.

    Those under way are sent on to their server at once, by the draws and at the times that they have anyway, so that
    later turns are all taken by counted ones.
    """
    counted, steps, flights = engine.counted, engine.steps, engine.memory.flights
    if counted.on:
        return
    counted.on, counted.since_ns = True, engine.now_ns
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
    counted.held = []
    if engine.choosers.n_scheduled:
        engine.all_in_flight()  # what looks for a destination's connections looks there
    stood_ns = engine.now_ns - counted.since_ns
    if stood_ns:
        counted.spans.append((counted.since_ns, engine.now_ns))
        counted.ended_ns += stood_ns
    for ingress, kept in memory.pools.idle.items():
        memory.pools.idle[ingress] = [replace(one, idle_since_ns=one.idle_since_ns + stood_ns) for one in kept]


def on_its_way(steps: Steps, express: Express) -> Int64Array:
    """Columns of the matrix of requests in flight for routed ones whose SYN is not at its server yet."""
    rows = np.arange(len(express))
    block = express.matrix(rows)
    block[Col.STAGE] = Stage.SERVER
    block[Col.DUE] = express.arrivals
    block[Col.OUT] = 0 if express.direct else NEVER
    for col in (Col.SERVED, Col.QUEUE, Col.SERVICE, Col.STATUS, Col.ANSWER0, Col.TRY_END0):
        block[col] = 0
    block[Col.WORKER0] = -1
    address = int(steps.paths.address[express.stream])
    words = steps.draws.rows(address, express.numbers)
    block[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1] = words.T.view(np.int64)
    return block


# A slab -----------------------------------------------------------------------------------------------------------


def arriving(engine: "Engine", batches: Sequence[Batch], end_ns: int) -> list[Express]:
    """Route a slab's new requests; return those, and earlier ones, that are at their server before its end."""
    counted = engine.counted
    routed = [*counted.held, *_route(engine.steps, batches)]
    counted.held, there = [], []
    for express in routed:
        late = express.arrivals >= end_ns
        if not late.any():
            there.append(express)
            continue
        now, later = np.flatnonzero(~late), np.flatnonzero(late)
        counted.held.append(express.only(later))
        if len(now):
            there.append(express.only(now))
    return there


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
