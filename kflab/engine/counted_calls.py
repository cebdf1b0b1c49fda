"""Counted spans whose requests make calls: the chains of `calls`, without a row for each call.

A request's calls come one after another, so with those of its calls it is one line of visits, in the order of the tree
of calls: it is at the front's pod, then at the first pod called, and so on. Whom each visit meets, and for how long it
is served, is drawn; while nothing changes that does not depend on time. Time passes between two visits only by hops. So
all that is open is how long each visit waits for its worker, and that depends on when the others come.

The slab is solved by repetition: visits come as if none waited, workers serve them, what they waited moves all that
follows, and so on until nothing moves. A visit decides only what comes after it (hops take time), so there is one such
end, and it is what events in order of time come to (see `chains`, which finds the same for calls with rows).
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kflab.engine.call_places import CallPlaces
from kflab.engine.calls import TRY_BITS
from kflab.engine.express import Express
from kflab.engine.memory import NEVER, Col
from kflab.engine.queues import order_by_arrival, serve
from kflab.engine.types import Int64Array
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.engine.step_state import Rows
    from kflab.engine.steps import Queued, Steps

BoolArray = NDArray[np.bool_]

_HALF = np.uint64(32)
_WORKER_BITS = np.uint64(0xFFFF)


@dataclass(slots=True)
class Calling:
    """Requests of one stream, each with all its visits; shapes [visits, n] and [n].

    A visit that does not take place, because the pod before it makes other calls or because it is over, takes no time.
    """

    stream: int
    places: CallPlaces
    numbers: Int64Array
    call_numbers: Int64Array
    first: Int64Array
    """[n] when the request reaches its own server."""
    servers: Int64Array
    hops: Int64Array
    """One way, caller to server; 0 for the request itself."""
    gaps: Int64Array
    """From the end of the visit before until this one's SYN arrives."""
    services: Int64Array
    waits: Int64Array
    """Final for visits that arrived before now."""
    workers: Int64Array
    queue_ids: Int64Array
    choosers: Int64Array
    bits: Int64Array
    """What choosers pick by."""
    present: BoolArray
    over: BoolArray
    """Visits that were over, with all that was called for them, before the span began."""
    closes: Int64Array
    """From the end of the last visit that is made for this one until this one's caller has its answer."""
    express: Express | None = None
    """What becomes of the requests; None for those that have `block`."""
    block: Int64Array | None = None
    """[columns, n] of the matrix of requests in flight, of requests that began before the span."""

    def __len__(self) -> int:
        return len(self.numbers)

    def arrivals(self) -> Int64Array:
        """When each visit's SYN arrives, as the waits are known."""
        times = self.gaps.copy()
        times[0] = self.first
        times[1:] += self.services[:-1]
        times[1:] += self.waits[:-1]
        return np.cumsum(times, axis=0, out=times)

    def ends(self, arrivals: Int64Array) -> Int64Array:
        """When the caller of each visit has its answer; of the request itself: when the answer sets out."""
        done: Int64Array = arrivals + self.services + self.waits
        ends: Int64Array = done[self.places.lasts] + self.closes
        return ends

    def only(self, rows: Int64Array) -> "Calling":
        """Keep some requests."""
        kept = replace(self)
        for one in fields(self):
            column = getattr(self, one.name)
            if isinstance(column, np.ndarray):
                setattr(kept, one.name, column[..., rows])
        kept.express = None if self.express is None else self.express.only(rows)
        return kept

    def answered(self, ends: Int64Array) -> Int64Array:
        """When no more has to be known of each request: its server has answered; accepted, where it calls nobody."""
        below = self.places.parents == 0
        calls: BoolArray = (self.present[below] | self.over[below]).any(axis=0)
        known: Int64Array = np.where(calls, ends[0], self.first)
        return known

    @property
    def streams(self) -> Int64Array:
        """Stream of each visit, shape [visits, n]."""
        return np.broadcast_to(self.places.streams[:, None], self.servers.shape)

    @property
    def named(self) -> Int64Array:
        """Number of each visit in its stream, shape [visits, n]."""
        named = np.tile(self.call_numbers, (len(self.places), 1))
        named[0] = self.numbers
        return named

    # Made ---------------------------------------------------------------------------------------------------------

    def pick(self, steps: "Steps", v: int) -> None:
        """Draw whom the calls at a place meet, and how long that takes."""
        places, memory, paths = self.places, steps.memory, steps.paths
        above = int(places.parents[v])
        callers = self.servers[above]
        self.present[v] = self.present[above] & (memory.group[callers] == places.groups[v])
        stream = int(places.streams[v])
        nodes = memory.place[callers]
        choosers = paths.entries.get(np.full(len(self), stream), nodes)
        here = self.present[v] & (choosers >= 0)
        words = steps.draws.rows(int(paths.address[stream]), self.call_numbers)
        bits = words[:, 1] >> _HALF
        slots = steps.choosers.slots_by_draw(steps.choosers.current[choosers], bits)
        servers = np.where(here, steps.choosers.flat[slots], 0)
        own = (words[:, 2] & _WORKER_BITS) * memory.n_workers[servers].astype(np.uint64) >> np.uint64(16)
        self.servers[v], self.workers[v] = servers, own.astype(np.int64)
        self.queue_ids[v] = memory.first_worker[servers] + self.workers[v]
        self.services[v] = np.where(here, steps.service_ns(servers, words[:, 3]), 0)
        self.hops[v] = np.where(here, steps.hop_ns(nodes, memory.place[servers]), 0)
        self.choosers[v], self.bits[v] = choosers, bits.astype(np.int64)

    def link(self) -> None:
        """Work out what passes between visits, from the hops."""
        places = self.places
        for v in range(len(places) - 1, -1, -1):
            youngest = int(places.youngest[v])
            self.closes[v] = self.hops[v] + (self.closes[youngest] if youngest >= 0 else 0)
        for v in range(1, len(places)):
            elder = int(places.elder[v])
            self.gaps[v] = self.hops[v] + (self.closes[elder] if elder >= 0 else 0)


def blank(stream: int, places: CallPlaces, numbers: Int64Array, call_numbers: Int64Array, first: Int64Array) -> Calling:
    """Make requests without visits but their first."""
    shape = (len(places), len(numbers))
    zeros = [np.zeros(shape, dtype=np.int64) for _ in range(10)]
    servers, hops, gaps, services, waits, workers, queue_ids, choosers, bits, closes = zeros
    present = np.zeros(shape, dtype=bool)
    present[0] = True
    over = np.zeros(shape, dtype=bool)
    return Calling(
        stream, places, numbers, call_numbers, first, servers, hops, gaps, services, waits, workers, queue_ids,
        choosers, bits, present, over, closes,
    )  # fmt: skip


def begun(steps: "Steps", places: CallPlaces, express: Express) -> Calling:
    """Take new requests, routed to their own servers."""
    made = blank(express.stream, places, express.numbers, express.numbers << TRY_BITS, express.arrivals)
    made.servers[0], made.workers[0] = express.servers, express.workers
    made.queue_ids[0], made.services[0] = express.queue_ids, express.services
    for v in range(1, len(places)):
        made.pick(steps, v)
    made.link()
    made.express = express
    return made


def joined(parts: Sequence[Calling]) -> Calling:
    """Make one of several sets of new requests of one stream."""
    if len(parts) == 1:
        return parts[0]
    whole = replace(parts[0])
    for one in fields(whole):
        if isinstance(getattr(whole, one.name), np.ndarray):
            setattr(whole, one.name, np.concatenate([getattr(part, one.name) for part in parts], axis=-1))
    express = [part.express for part in parts if part.express is not None]
    together = express[0].only(np.arange(len(express[0])))
    for column in fields(together):
        if isinstance(getattr(together, column.name), np.ndarray):
            setattr(together, column.name, np.concatenate([getattr(one, column.name) for one in express]))
    whole.express = together
    return whole


# A slab -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Visits:
    """Visits at one place of calls that arrive in the slab (see `steps.Queued`)."""

    stream: int
    numbers: Int64Array
    starts: Int64Array
    arrivals: Int64Array
    queue_ids: Int64Array
    services: Int64Array


def solve(
    steps: "Steps", sets: Sequence[Calling], accepted: "Rows", others: "Sequence[Queued]", now_ns: int, end_ns: int
) -> "list[Queued]":
    """Find out how long every visit of the slab [now, end) waits.

    Args:
        steps: The engine's steps.
        sets: Requests with calls; their waits are changed.
        accepted: Rows in flight that their servers accepted in this slab.
        others: Accepted requests that are not in flight and make no calls.
        now_ns: Start of the slab.
        end_ns: End of the slab.

    Returns:
        The visits that arrive in the slab, by place.
    """
    m, memory = steps.memory.flights.m, steps.memory
    _, ids, known, services = steps.queue_of(accepted)
    known = np.concatenate([known, *(other.arrivals for other in others)])
    ids = np.concatenate([ids, *(o.queue_ids for o in others), *(s.queue_ids.ravel() for s in sets)])
    services = np.concatenate([services, *(o.services for o in others), *(s.services.ravel() for s in sets)])
    streams = np.concatenate([
        m[Col.STREAM, accepted], *(np.full(len(o.starts), o.stream) for o in others), *(s.streams.ravel() for s in sets)
    ])  # fmt: skip
    numbers = np.concatenate([m[Col.NUMBER, accepted], *(o.numbers for o in others), *(s.named.ravel() for s in sets)])
    fixed, waits = len(known), _shared_waits(sets)
    present = np.concatenate([np.ones(fixed, dtype=bool), *(s.present.ravel() for s in sets)])
    arrivals = np.concatenate([known, np.full(len(waits), NEVER, dtype=np.int64)])
    while True:
        before, arrivals = arrivals, np.concatenate([known, *(s.arrivals().ravel() for s in sets)])
        arrivals[~present | (arrivals < now_ns) | (arrivals >= end_ns)] = NEVER
        moved = np.flatnonzero(arrivals != before)
        if not len(moved):
            return _by_place(sets, arrivals[fixed:])
        gone = moved[arrivals[moved] == NEVER] - fixed
        waits[gone] = 0
        hot = np.zeros(len(memory.busy_until), dtype=bool)
        hot[ids[moved]] = True
        rows = np.flatnonzero(hot[ids] & (arrivals < NEVER))
        if not len(rows):
            continue
        named = streams[rows], numbers[rows]
        order = order_by_arrival(ids[rows], arrivals[rows], lambda some, named=named: (named[0][some], named[1][some]))  # type: ignore[misc]
        rows = rows[order]
        done = serve(ids[rows], arrivals[rows], services[rows], memory.busy_until.copy())
        mine = rows >= fixed
        waits[rows[mine] - fixed] = (done - services[rows] - arrivals[rows])[mine]


def _shared_waits(sets: Sequence[Calling]) -> Int64Array:
    """Let the sets' waits be parts of one array, shape (all visits,); return it."""
    waits = np.concatenate([one.waits.ravel() for one in sets])
    bounds = np.cumsum([0, *(one.waits.size for one in sets)])
    for one, begin in zip(sets, bounds.tolist(), strict=False):
        one.waits = waits[begin : begin + one.waits.size].reshape(one.waits.shape)
    return waits


def _by_place(sets: Sequence[Calling], arrivals: Int64Array) -> "list[Queued]":
    """Put the visits that arrive in the slab, at `arrivals` [all visits], together by place."""
    found: list[Queued] = []
    begin = 0
    for one in sets:
        times = arrivals[begin : begin + one.waits.size].reshape(one.waits.shape)
        begin += one.waits.size
        for v, stream in enumerate(one.places.streams.tolist()):
            rows = np.flatnonzero(times[v] < NEVER)
            if len(rows):
                columns = (one.named[v], one.first, times[v], one.queue_ids[v], one.services[v])
                found.append(_Visits(stream, *(column[rows] for column in columns)))
    return found
