"""Requests with calls that are under way where a counted span begins or ends: from rows in flight, and back to rows.

Nothing is lost on either way: what a row of a request or of a call holds follows from its visits (`counted_calls`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.call_places import CallPlaces
from kflab.engine.calls import TRY_BITS, WAITING
from kflab.engine.counted_calls import Calling, blank
from kflab.engine.memory import N_COLS, NEVER, Col, Stage
from kflab.engine.types import MAX_TRIES, Answer, Behaviour, Int64Array

if TYPE_CHECKING:
    from kflab.engine.step_state import Rows
    from kflab.engine.steps import Steps

_ALL = 1 << 32
"""More calls than any request makes."""

_WORKER_BITS = np.uint64(0xFFFF)


# From rows --------------------------------------------------------------------------------------------------------


def obstacles(steps: "Steps", changed_ns: int) -> Iterator[str]:
    """What stands against `taken_over` now.

    Args:
        steps: The engine's steps.
        changed_ns: When it last changed what is called for requests.
    """
    paths, m = steps.paths, steps.memory.flights.m
    rows = steps.memory.flights.due_before(NEVER)
    rows = rows[paths.calling[m[Col.STREAM, rows]]]
    if not len(rows):
        return
    stages, calls = m[Col.STAGE, rows], paths.parent[m[Col.STREAM, rows]] >= 0
    if (m[Col.START, rows] < changed_ns).any():
        yield "requests are under way for which pods made other calls"
    if (calls & (stages == Stage.ANSWER) & (m[Col.STATUS, rows] != 200)).any():
        yield "a call has failed"
    if ((stages == Stage.CALL) & (m[Col.CALL, rows] > 0)).any():
        yield "a call was answered this instant"
    if ((stages >= Stage.CALL) & ~calls & (m[Col.TRIES, rows] + m[Col.LOST, rows] > 1)).any():
        yield "a request was tried again"
    open_ = rows[(stages == Stage.SERVER) | (stages >= Stage.CALL) & (stages <= Stage.WAIT)]
    servers = m[Col.SERVER0 + np.maximum(m[Col.TRIES, open_] - 1, 0), open_]
    if (steps.memory.behaviour[servers] != Behaviour.LISTENS).any():
        yield "a call is on its way to a pod that does not answer"
    waiting, called = rows[stages == Stage.WAIT], rows[calls]
    lists = paths.call_lists.get(m[Col.STREAM, waiting], steps.memory.group[m[Col.SERVER0, waiting]])
    wanted = np.stack([paths.call_streams[lists, m[Col.CALL, waiting] - 1], _call_numbers(steps, waiting)])
    under_way = m[[Col.STREAM, Col.NUMBER]][:, called]
    if not np.array_equal(_sorted(wanted), _sorted(under_way)):
        yield "a call is under way that nobody waits for"


def _sorted(pairs: Int64Array) -> Int64Array:
    return pairs[:, np.lexsort(pairs)]


def _call_numbers(steps: "Steps", rows: "Rows") -> Int64Array:
    """Numbers of the calls that requests or calls in flight make (see `calls.call_number`), for their first try."""
    m = steps.memory.flights.m
    outside = steps.paths.parent[m[Col.STREAM, rows]] < 0
    numbers: Int64Array = np.where(outside, m[Col.NUMBER, rows] << TRY_BITS, m[Col.NUMBER, rows])
    return numbers


def taken_over(steps: "Steps", places: CallPlaces) -> "Calling | None":
    """Take the requests of a stream whose own servers they have not reached yet, or have not answered, out of the rows.

    Args:
        steps: The engine's steps; `obstacles` has nothing against it.
        places: Of the stream.
    """
    flights, memory = steps.memory.flights, steps.memory
    m, stream = flights.m, int(places.streams[0])
    live = flights.due_before(NEVER)
    stages = m[Col.STAGE, live]
    own = m[Col.STREAM, live] == stream
    rows = live[own & ((stages == Stage.SERVER) | (stages == Stage.CALL) | (stages == Stage.WAIT))]
    if not len(rows):
        return None
    block = m[:, rows].copy()
    made = blank(stream, places, block[Col.NUMBER], _call_numbers(steps, rows), _first(block))
    made.block = block
    last = block[Col.TRIES] - 1
    each = np.arange(len(rows))
    made.servers[0] = block[Col.SERVER0 + last, each]
    words = block[Col.BACKEND_WORD].view(np.uint64) & _WORKER_BITS
    own_worker = (words * memory.n_workers[made.servers[0]].astype(np.uint64) >> np.uint64(16)).astype(np.int64)
    known = block[Col.WORKER0 + last, each]
    made.workers[0] = np.where(known >= 0, known, own_worker)
    made.queue_ids[0] = memory.first_worker[made.servers[0]] + made.workers[0]
    made.services[0] = steps.service_ns(made.servers[0], block[Col.SERVICE_WORD].view(np.uint64))
    reached = block[Col.STAGE] != Stage.SERVER
    made.waits[0] = np.where(reached, block[Col.QUEUE], 0)
    resumed = _Resumed(steps, made, np.where(reached, block[Col.CALL], 0))
    for v in range(1, len(places)):
        made.pick(steps, v)
        resumed.look_up(v, live[m[Col.STREAM, live] == places.streams[v]])
    made.link()
    resumed.wind()
    flights.remove(np.concatenate([rows, *resumed.found_rows]))
    return made


def _first(block: Int64Array) -> Int64Array:
    """When requests reach their own server."""
    arrived = block[Col.SERVED] - block[Col.SERVICE] - block[Col.QUEUE]
    first: Int64Array = np.where(block[Col.STAGE] == Stage.SERVER, block[Col.DUE], arrived)
    return first


class _Resumed:
    """Which calls are under way for requests that are taken over, and which are over."""

    def __init__(self, steps: "Steps", made: Calling, calls: Int64Array) -> None:
        self.steps, self.made = steps, made
        shape = made.servers.shape
        self.calls: Int64Array = np.zeros(shape, dtype=np.int64)
        """How many calls the server of each visit had made."""
        self.calls[0] = calls
        self.found = np.zeros(shape, dtype=bool)
        self.over = made.over
        self.arrived: Int64Array = np.zeros(shape, dtype=np.int64)
        self.calling: Int64Array = np.zeros(shape, dtype=np.int64)
        self.found_rows: list[Rows] = []

    def look_up(self, v: int, rows: "Rows") -> None:
        """Find the calls at a place that are under way, among the rows of its stream."""
        made, memory, m = self.made, self.steps.memory, self.steps.memory.flights.m
        above = int(made.places.parents[v])
        order = np.argsort(m[Col.NUMBER, rows])
        rows = rows[order]
        if len(rows):
            at = np.minimum(np.searchsorted(m[Col.NUMBER, rows], made.call_numbers), len(rows) - 1)
            found = np.flatnonzero((m[Col.NUMBER, rows[at]] == made.call_numbers) & made.present[v])
            rows = rows[at[found]]
            self.found_rows.append(rows)
            self.found[v, found] = True
            made.servers[v, found], made.hops[v, found] = m[Col.SERVER0, rows], m[Col.HOP, rows]
            # The rules may have given it another pod than they would now.
            words, services = m[Col.BACKEND_WORD, rows].view(np.uint64) & _WORKER_BITS, m[Col.SERVICE_WORD, rows]
            made.workers[v, found] = words * memory.n_workers[m[Col.SERVER0, rows]].astype(np.uint64) >> np.uint64(16)
            made.queue_ids[v, found] = memory.first_worker[m[Col.SERVER0, rows]] + made.workers[v, found]
            made.services[v, found] = self.steps.service_ns(m[Col.SERVER0, rows], services.view(np.uint64))
            made.waits[v, found] = m[Col.QUEUE, rows]
            self.arrived[v, found] = m[Col.START, rows] + m[Col.HOP, rows]
            answered = m[Col.STAGE, rows] == Stage.ANSWER
            self.calls[v, found] = np.where(answered, _ALL, m[Col.CALL, rows])
            self.calling[v, found] = m[Col.CALLING, rows]
        over = self.over[above] | (made.present[v] & ~self.found[v] & (made.places.turns[v] < self.calls[above]))
        self.over[v] = over
        made.present[v, over] = False
        made.services[v, over] = made.hops[v, over] = made.waits[v, over] = 0

    def wind(self) -> None:
        """Let the time that has passed pass: visits that are over take none, those under way came when they came."""
        made, places = self.made, self.made.places
        done = made.first + made.waits[0] + made.services[0]
        for v in range(1, len(places)):
            above = int(places.parents[v])
            made.gaps[v, self.over[v]] = 0
            if places.elder[v] < 0:
                # Its caller has answered: all calls took as long as they took.
                answered = self.over[v] & self.found[above]
                made.gaps[v, answered] = self.calling[above, answered]
            found = self.found[v]
            made.gaps[v, found] = (self.arrived[v] - done)[found]
            done = done + made.gaps[v] + made.waits[v] + made.services[v]


def finished(steps: "Steps", calling: Calling, arrivals: Int64Array, answered: Int64Array) -> "Rows":
    """Put requests that began before the span, and that their servers have answered, in flight again."""
    assert calling.block is not None, "others have no rows"
    flights, m_rows = steps.memory.flights, np.arange(len(calling))
    rows = flights.add(len(calling), blank=False)
    m, last = flights.m, calling.block[Col.TRIES] - 1
    m[:, rows] = calling.block
    done = arrivals[0] + calling.waits[0] + calling.services[0]
    m[Col.WORKER0 + last, rows] = calling.workers[0, m_rows]
    m[Col.SERVED, rows], m[Col.QUEUE, rows], m[Col.SERVICE, rows] = done, calling.waits[0], calling.services[0]
    m[Col.CALLING, rows] = answered - done
    steps.answer(rows, last, answered, 200)
    return rows


# And back ---------------------------------------------------------------------------------------------------------


def as_rows(steps: "Steps", calling: Calling, now_ns: int) -> Int64Array:
    """Return columns of the matrix of requests in flight: the requests, and the calls under way for them.

    Args:
        steps: The engine's steps; every step before `now_ns` has been taken.
        calling: Requests that their own servers have not answered before.
        now_ns: Now.
    """
    arrivals = calling.arrivals()
    ends = calling.ends(arrivals)
    blocks = [_requests(steps, calling, arrivals, ends, now_ns)]
    starts = arrivals - calling.hops
    under_way = calling.present & (starts < now_ns) & (ends >= now_ns)
    for v in range(1, len(calling.places)):
        rows = np.flatnonzero(under_way[v])
        if not len(rows):
            continue
        block = _blank_rows(len(rows))
        servers, above = calling.servers[v, rows], calling.servers[calling.places.parents[v], rows]
        block[Col.STREAM], block[Col.NUMBER] = calling.places.streams[v], calling.call_numbers[rows]
        block[Col.START] = block[Col.TRY_START0] = starts[v, rows]
        block[Col.CALLER], block[Col.NODE], block[Col.SERVER0] = above, steps.memory.place[above], servers
        block[Col.BACK] = block[Col.HOP] = calling.hops[v, rows]
        block[Col.TRIES] = 1
        words = steps.draws.rows(int(steps.paths.address[calling.places.streams[v]]), calling.call_numbers[rows])
        block[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1] = words.T.view(np.int64)
        _at_server(calling, block, v, rows, arrivals, ends, now_ns)
        answered = block[Col.STAGE] == Stage.ANSWER
        for col, value in ((Col.STATUS, 200), (Col.ANSWER0, Answer.OK), (Col.TRY_END0, ends[v, rows])):
            block[col] = np.where(answered, value, 0)
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def _blank_rows(n: int) -> Int64Array:
    block: Int64Array = np.zeros((N_COLS, n), dtype=np.int64)
    block[Col.INGRESS] = -1
    block[Col.SERVER0 : Col.SERVER0 + MAX_TRIES] = block[Col.WORKER0 : Col.WORKER0 + MAX_TRIES] = -1
    return block


def _requests(steps: "Steps", calling: Calling, arrivals: Int64Array, ends: Int64Array, now_ns: int) -> Int64Array:
    """Columns of the requests themselves."""
    rows = np.arange(len(calling))
    if calling.block is not None:
        block = calling.block.copy()
    else:
        assert calling.express is not None, "requests come from rows or from a batch"
        block = calling.express.matrix(rows)
        block[Col.OUT] = 0 if calling.express.direct else NEVER
        for col in (Col.STATUS, Col.ANSWER0, Col.TRY_END0):
            block[col] = 0
        words = steps.draws.rows(calling.stream, calling.numbers)
        block[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1] = words.T.view(np.int64)
    block[Col.WORKER0 + block[Col.TRIES] - 1, rows] = -1
    _at_server(calling, block, 0, rows, arrivals, ends, now_ns)
    return block


def _at_server(
    calling: Calling, block: Int64Array, v: int, rows: Int64Array, arrivals: Int64Array, ends: Int64Array, now_ns: int
) -> None:
    """Fill in where visits of one place are: on their way, at work, calling or answered."""
    arrived = arrivals[v, rows] < now_ns
    done = arrivals[v, rows] + calling.waits[v, rows] + calling.services[v, rows]
    block[Col.STAGE] = np.where(arrived, Stage.ANSWER, Stage.SERVER)
    block[Col.DUE] = np.where(arrived, ends[v, rows], arrivals[v, rows])
    for col, value in (
        (Col.SERVED, done),
        (Col.QUEUE, calling.waits[v, rows]),
        (Col.SERVICE, calling.services[v, rows]),
    ):
        block[col] = np.where(arrived, value, 0)
    last, each = Col.WORKER0 + block[Col.TRIES] - 1, np.arange(len(rows))
    block[last, each] = np.where(arrived, calling.workers[v, rows], block[last, each])
    below = np.flatnonzero(calling.places.parents == v)
    over, own = calling.over[below][:, rows], calling.present[below][:, rows]
    started = own & ((arrivals - calling.hops)[below][:, rows] < now_ns)
    block[Col.CALL] = (over | started).sum(axis=0)
    calls, answered_ns = (over | own).any(axis=0), ends[v, rows] - calling.hops[v, rows]
    still = arrived & calls & (answered_ns >= now_ns)
    at_work = still & (done >= now_ns)
    block[Col.STAGE] = np.where(at_work, Stage.CALL, np.where(still, Stage.WAIT, block[Col.STAGE]))
    block[Col.DUE] = np.where(at_work, done, np.where(still, WAITING, block[Col.DUE]))
    block[Col.CALLING] = np.where(arrived & calls & ~still, answered_ns - done, 0)
