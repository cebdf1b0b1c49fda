"""Calls behind the front door in bulk: the chains of one slab, vectorised over requests.

Same semantics and draws as `calls`. When a call starts depends on when those before it were answered, hence on the
queues, hence on when other calls start. So the slab is solved by repetition: with the starts known so far every worker
is served anew, what follows from the ends moves the starts, until nothing moves. An arrival decides only what lies
after it (service and hops take time), so each round leaves a longer beginning of the slab as it will be, and the end is
the one that events in order of time come to.

A start that does not come in this slab is `NEVER`; so is all that would follow from it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kflab.engine import cuts
from kflab.engine.bins import Count
from kflab.engine.calls import FAILED, TRY_BITS, WAITING, waiting_rows
from kflab.engine.chain_table import N_COLS, Of
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.queues import order_by_arrival, serve
from kflab.engine.types import Answer, Behaviour, Int64Array

if TYPE_CHECKING:
    from kflab.engine.step_state import Rows
    from kflab.engine.steps import Queued, Steps

BoolArray = NDArray[np.bool_]

SLAB_NS = 100_000_000
"""Longest slab solved in bulk: longer ones take more rounds and are no cheaper (measured, M)."""

FROM_PER_S = 6_000
"""Requests and calls per simulated second from which the bulk is tried."""

WORTH = 40
"""How many of them per round from which it stays: a round costs some 1.4 ms, a call in `eventwise` some 35 µs
(measured)."""

AGAIN_NS = 5_000_000_000
"""How long it is not tried again after it was not worth it."""

_HALF = np.uint64(32)
_WORKER_BITS = np.uint64(0xFFFF)


class Chains:
    """One slab's chains.

    Args:
        steps: The engine's steps.
        accepted: Rows in flight that their servers accepted in this slab, `Col.DUE` their arrival.
        active: Rows in flight that are due in this slab.
        end_ns: End of the slab.
        others: Sets of accepted requests that are not in flight and make no calls (see `express`).
    """

    def __init__(
        self, steps: "Steps", accepted: "Rows", active: "Rows", end_ns: int, others: "Sequence[Queued]" = ()
    ) -> None:
        self.steps, self.end_ns, self.others = steps, end_ns, others
        none = np.zeros(0, dtype=np.int64)
        self.fixed_ids = np.concatenate([none, *(other.queue_ids for other in others)])
        self.fixed_arrivals = np.concatenate([none, *(other.arrivals for other in others)])
        self.fixed_services = np.concatenate([none, *(other.services for other in others)])
        self.fixed_numbers = np.concatenate([none, *(other.numbers for other in others)])
        self.fixed_streams = np.repeat(
            [other.stream for other in others] or none, [len(o.starts) for o in others] or none
        )
        self.fixed_done = np.zeros_like(self.fixed_ids)
        self.table: Int64Array = np.zeros((N_COLS, 256), dtype=np.int64)
        self.n = 0
        paths, m = steps.paths, steps.memory.flights.m
        self.inner: Int64Array = np.zeros((256, max(1, paths.call_streams.shape[1])), dtype=np.int64)
        """[table, turn] -> place of that call in the table; -1 not made in this slab."""
        stages = m[Col.STAGE, active]
        heard = active[
            (stages == Stage.ANSWER) & (paths.parent[m[Col.STREAM, active]] >= 0) & (m[Col.DUE, active] < end_ns)
        ]
        ready = active[(stages == Stage.CALL) & (m[Col.DUE, active] < end_ns)]
        waiting = waiting_rows(steps.memory)
        self.waiting = waiting
        groups = [accepted, ready, waiting, heard]
        rows = np.concatenate(groups)
        places = self._add(len(rows))
        kinds = np.repeat(np.arange(4), [len(group) for group in groups])
        t = self.table
        t[Of.ROW, places], t[Of.STREAM, places], t[Of.NUMBER, places] = rows, m[Col.STREAM, rows], m[Col.NUMBER, rows]
        t[Of.MADE, places] = np.where(kinds == 0, 0, m[Col.CALL, rows])
        last = np.maximum(m[Col.TRIES, rows] - 1, 0)
        t[Of.SERVER, places] = m[Col.SERVER0 + last, rows]
        t[Of.HOP, places] = m[Col.BACK, rows]
        t[Of.DONE, places] = np.where(kinds == 1, m[Col.DUE, rows], NEVER)
        t[Of.FINISH, places] = np.where(kinds == 3, m[Col.DUE, rows], NEVER)
        t[Of.STATUS, places] = np.where(kinds == 3, m[Col.STATUS, rows], 200)
        mine = places[kinds != 3]
        t[Of.CALLS, mine] = self._lists(mine)
        self._join(places[kinds == 2], places)
        self._visit(places[kinds == 0], m[Col.DUE, accepted])
        self.ready, self.heard = places[kinds == 1], places[(kinds == 3) & (t[Of.OUTER, places] >= 0)]
        self.pending: list[Int64Array] = []
        """Calls whose ending moved, and nobody has heard yet."""
        self.busy = steps.memory.busy_until
        self.hot = np.zeros(0, dtype=bool)
        """[workers] -> whether any call has to do with it."""
        self.rounds = 0

    # The table --------------------------------------------------------------------------------------------------------

    def _add(self, count: int) -> Int64Array:
        """Make rows of the table, blank; return their places."""
        while self.n + count > self.table.shape[1]:
            self.table = np.concatenate((self.table, np.zeros_like(self.table)), axis=1)
            self.inner = np.concatenate((self.inner, np.zeros_like(self.inner)))
        first, self.n = self.n, self.n + count
        block = self.table[:, first : self.n]
        block[:] = 0
        block[[Of.ROW, Of.OUTER, Of.CALLS, Of.SERVER, Of.CHOOSER]] = -1
        block[[Of.ARRIVAL, Of.DONE, Of.ANSWERED, Of.FINISH, Of.START, Of.DUE]] = NEVER
        self.inner[first : self.n] = -1
        return np.arange(first, self.n)

    def _lists(self, places: Int64Array) -> Int64Array:
        """Which list of calls the servers of requests go through; -1 none."""
        t, memory = self.table, self.steps.memory
        servers = t[Of.SERVER, places]
        groups = np.where(servers >= 0, memory.group[servers], -1)
        lists: Int64Array = self.steps.paths.call_lists.get(t[Of.STREAM, places], groups)
        return lists

    def _join(self, waiting: Int64Array, calls: Int64Array) -> None:
        """Tell calls from before this slab who waits for them."""
        if not len(waiting):
            return
        t, paths = self.table, self.steps.paths
        calls = calls[paths.parent[t[Of.STREAM, calls]] >= 0]
        width = len(paths.parent)
        keys = self._numbers(waiting) * width + t[Of.STREAM, waiting]
        order = np.argsort(keys)
        wanted = t[Of.NUMBER, calls] * width + paths.parent[t[Of.STREAM, calls]]
        found = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        outer = waiting[order[found]]
        calls, outer = calls[keys[order[found]] == wanted], outer[keys[order[found]] == wanted]
        t[Of.OUTER, calls] = outer
        t[Of.TURN, calls] = np.minimum(t[Of.MADE, outer], self.inner.shape[1]) - 1
        self.inner[outer, t[Of.TURN, calls]] = calls

    def _numbers(self, places: Int64Array) -> Int64Array:
        """Numbers of the calls that requests make now (see `calls.call_number`)."""
        t, m = self.table, self.steps.memory.flights.m
        rows = t[Of.ROW, places]
        tries = m[Col.TRIES, rows] - 1 + m[Col.LOST, rows]
        outside = self.steps.paths.parent[t[Of.STREAM, places]] < 0
        own = t[Of.NUMBER, places]
        numbers: Int64Array = np.where(outside, own << TRY_BITS | np.minimum(tries, (1 << TRY_BITS) - 1), own)
        return numbers

    # One round --------------------------------------------------------------------------------------------------------

    def solve(self) -> None:
        """Repeat until nothing moves."""
        self._go_on(self.ready, self.table[Of.MADE, self.ready], self.table[Of.DONE, self.ready])
        self.pending.append(self.heard)
        self._hear()
        while True:
            self.rounds += 1
            moved = self._serve()
            if not len(moved):
                self._serve_others()
                return
            t = self.table
            calling = t[Of.CALLS, moved] >= 0
            served, callers = moved[~calling], moved[calling]
            t[Of.ANSWERED, served] = t[Of.DONE, served]
            self._answered(moved)
            self._go_on(callers, np.zeros(len(callers), dtype=np.int64), t[Of.DONE, callers])
            self._hear()

    def _serve(self) -> Int64Array:
        """Serve the workers that any call has to do with; return the places whose ending may have moved."""
        t, self.busy = self.table, self.steps.memory.busy_until.copy()
        visits = np.flatnonzero(t[Of.ARRIVAL, : self.n] < self.end_ns)
        inner = (t[Of.CALLS, visits] >= 0) | (self.steps.paths.parent[t[Of.STREAM, visits]] >= 0)
        self.hot = np.zeros(len(self.busy), dtype=bool)
        self.hot[t[Of.QUEUE_ID, visits[inner]]] = True
        visits = visits[self.hot[t[Of.QUEUE_ID, visits]]]
        done = self._queue(visits, np.flatnonzero(self.hot[self.fixed_ids]))
        moved: Int64Array = visits[(done != t[Of.DONE, visits]) | (t[Of.MOVED, visits] != 0)]
        t[Of.DONE, visits] = done
        t[Of.MOVED, visits] = 0
        return moved

    def _serve_others(self) -> None:
        """Serve the workers that no call has to do with: once is enough."""
        t = self.table
        visits = np.flatnonzero(t[Of.ARRIVAL, : self.n] < self.end_ns)
        visits = visits[~self.hot[t[Of.QUEUE_ID, visits]]]
        t[Of.DONE, visits] = self._queue(visits, np.flatnonzero(~self.hot[self.fixed_ids]))

    def _queue(self, visits: Int64Array, fixed: Int64Array) -> Int64Array:
        """Serve places of the table and of the requests not in flight; return when those of the table are done."""
        t, n = self.table, len(visits)
        if not n and not len(fixed):
            return visits
        workers = np.concatenate([t[Of.QUEUE_ID, visits], self.fixed_ids[fixed]])
        arrivals = np.concatenate([t[Of.ARRIVAL, visits], self.fixed_arrivals[fixed]])
        services = np.concatenate([t[Of.SERVICE, visits], self.fixed_services[fixed]])
        streams = np.concatenate([t[Of.STREAM, visits], self.fixed_streams[fixed]])
        numbers = np.concatenate([t[Of.NUMBER, visits], self.fixed_numbers[fixed]])
        order = order_by_arrival(workers, arrivals, lambda some: (streams[some], numbers[some]))
        done = np.empty_like(arrivals)
        done[order] = serve(workers[order], arrivals[order], services[order], self.busy)
        self.fixed_done[fixed] = done[n:]
        return done[:n]

    def _go_on(self, outer: Int64Array, turns: Int64Array, times: Int64Array) -> None:
        """Servers are ready for their next call, or to answer after the last one; a time from the end on is NEVER."""
        if not len(outer):
            return
        t, paths = self.table, self.steps.paths
        times = np.where(times < self.end_ns, times, NEVER)
        more = turns < paths.call_counts[t[Of.CALLS, outer]]
        if not more.all():
            over = outer[~more]
            t[Of.ANSWERED, over], t[Of.STATUS, over] = times[~more], 200
            self._answered(over)
            outer, turns, times = outer[more], turns[more], times[more]
        places = self.inner[outer, turns]
        fresh = (places < 0) & (times < NEVER)
        if fresh.any():
            places[fresh] = self._make(outer[fresh], turns[fresh])
        known = places >= 0
        places, times = places[known], times[known]
        moved = self.table[Of.START, places] != times
        self._send(places[moved], times[moved])

    def _make(self, outer: Int64Array, turns: Int64Array) -> Int64Array:
        """Make calls; when they start is said later."""
        places = self._add(len(outer))
        t, paths, steps = self.table, self.steps.paths, self.steps
        self.inner[outer, turns] = places
        t[Of.OUTER, places], t[Of.TURN, places] = outer, turns
        t[Of.STREAM, places] = paths.call_streams[t[Of.CALLS, outer], turns]
        numbers, old = t[Of.NUMBER, outer], t[Of.ROW, outer] >= 0
        numbers[old] = self._numbers(outer[old])
        t[Of.NUMBER, places] = numbers
        self._place(places)
        words = steps.draws.rows(paths.address[t[Of.STREAM, places]], t[Of.NUMBER, places])
        t[Of.WORD0 : Of.WORD0 + 4, places] = words.T.view(np.int64)
        return places

    def _place(self, places: Int64Array) -> None:
        """Say from where calls are made: from the server of the request they are made for."""
        t, paths = self.table, self.steps.paths
        callers = t[Of.SERVER, t[Of.OUTER, places]]
        nodes = self.steps.memory.place[callers]
        t[Of.CALLER, places], t[Of.NODE, places] = callers, nodes
        t[Of.CHOOSER, places] = paths.entries.get(t[Of.STREAM, places], nodes)

    def _send(self, places: Int64Array, times: Int64Array) -> None:
        """Start calls at these times, or not at all: pick, travel, arrive or fail."""
        if not len(places):
            return
        t, steps, paths = self.table, self.steps, self.steps.paths
        memory, timing = steps.memory, steps.timing
        self._place(places)
        t[Of.START, places] = times
        going = times < NEVER
        self._leave(places[~going])
        places, times = places[going], times[going]
        patience = paths.connect_patience[t[Of.STREAM, places]]
        nodes, choosers = t[Of.NODE, places], t[Of.CHOOSER, places]
        versions = np.where(choosers < 0, 0, steps.choosers.versions_at(np.maximum(choosers, 0), times))
        slots = steps.choosers.slots_by_draw(versions, t[Of.WORD0 + 1, places].view(np.uint64) >> _HALF)
        servers, answers = steps.choosers.flat[slots], steps.choosers.answer[versions]
        there = memory.place[servers]
        hops = np.where(there == nodes, timing.same_node_ns, timing.cross_node_ns)
        arrivals = times + hops
        behaviour = memory.behaviour[servers]
        if steps.cut is not None:
            behaviour[cuts.lost_between(steps.cut, nodes, there)] = Behaviour.SILENT
        away = servers < 0
        late = ~away & (arrivals >= self.end_ns)
        met = ~away & ~late
        answers = np.where(met & (behaviour == Behaviour.REFUSES), Answer.REFUSED, answers)
        answers = np.where(met & (behaviour == Behaviour.SILENT), Answer.TIMEOUT, answers)
        failed = away | (met & (behaviour != Behaviour.LISTENS))
        ends = np.where(answers == Answer.TIMEOUT, times + patience, np.where(away, times, arrivals + hops))
        listens = met & ~failed
        t[Of.SLOT, places], t[Of.HOP, places] = slots, np.where(away, 0, hops)
        was = t[Of.SERVER, places]
        t[Of.SERVER, places] = servers
        self._forget(places[listens], was[listens])
        self._leave(places[~listens])
        # Who calls them may be among those that leave: then these calls are made no more.
        called = t[Of.OUTER, places] >= 0
        listens, late, failed = listens & called, late & called, failed & called
        self._visit(places[listens], arrivals[listens])
        t[Of.DUE, places[late]] = arrivals[late]
        lost = places[failed]
        t[Of.ANSWER, lost], t[Of.STATUS, lost], t[Of.FINISH, lost] = answers[failed], -answers[failed], ends[failed]

    def _leave(self, places: Int64Array) -> None:
        """Take calls out of their queues: they do not start, arrive or get accepted in this slab."""
        t = self.table
        for column in (Of.ARRIVAL, Of.FINISH, Of.DUE, Of.ANSWERED, Of.DONE):
            t[column, places] = NEVER
        t[Of.ANSWER, places], t[Of.STATUS, places] = 0, 200
        calling = places[t[Of.CALLS, places] >= 0]
        self._withdraw(calling)
        self.pending.append(places)

    def _withdraw(self, outer: Int64Array) -> None:
        """Let nothing be called any more for requests whose server, or whose time, is another than it seemed."""
        if not len(outer):
            return
        t = self.table
        calls = self.inner[outer]
        calls = calls[calls >= 0]
        self.inner[outer] = -1
        t[Of.CALLS, outer] = -1
        t[Of.OUTER, calls], t[Of.START, calls] = -1, NEVER
        self._leave(calls)

    def _forget(self, places: Int64Array, was: Int64Array) -> None:
        """Calls are accepted: if by another server than before, what that one would have called is not called."""
        t = self.table
        fresh = (t[Of.ARRIVAL, places] == NEVER) | (t[Of.SERVER, places] != was)
        self._leave(places[fresh])
        t[Of.CALLS, places[fresh]] = self._lists(places[fresh])

    def _visit(self, places: Int64Array, arrivals: Int64Array) -> None:
        """Join the queue of a worker."""
        t, steps, memory = self.table, self.steps, self.steps.memory
        servers, rows = t[Of.SERVER, places], t[Of.ROW, places]
        backend, service = t[Of.WORD0 + 2, places], t[Of.WORD0 + 3, places]
        old = rows >= 0
        backend[old] = memory.flights.m[Col.BACKEND_WORD, rows[old]]
        service[old] = memory.flights.m[Col.SERVICE_WORD, rows[old]]
        own = (backend.view(np.uint64) & _WORKER_BITS) * memory.n_workers[servers].astype(np.uint64) >> np.uint64(16)
        t[Of.WORKER, places] = own.astype(np.int64)
        t[Of.QUEUE_ID, places] = memory.first_worker[servers] + t[Of.WORKER, places]
        t[Of.SERVICE, places] = steps.service_ns(servers, service.view(np.uint64))
        t[Of.ARRIVAL, places] = arrivals
        t[Of.MOVED, places] = 1

    # Who hears --------------------------------------------------------------------------------------------------------

    def _answered(self, places: Int64Array) -> None:
        """Servers' answers set out, or not any more: those of calls are for somebody to hear."""
        t = self.table
        calls = places[self.steps.paths.parent[t[Of.STREAM, places]] >= 0]
        answered = t[Of.ANSWERED, calls]
        t[Of.FINISH, calls] = answered + np.where(answered < NEVER, t[Of.HOP, calls], 0)
        self.pending.append(calls)

    def _hear(self) -> None:
        """Those who wait for calls go on, or give up, until nobody has anything to hear."""
        while self.pending:
            calls = np.unique(np.concatenate(self.pending))
            self.pending.clear()
            t, paths = self.table, self.steps.paths
            calls = calls[t[Of.OUTER, calls] >= 0]
            if not len(calls):
                continue
            outer, turns, finish = t[Of.OUTER, calls], t[Of.TURN, calls], t[Of.FINISH, calls]
            lists = t[Of.CALLS, outer]
            broken = paths.call_fatal[lists, turns] & (t[Of.STATUS, calls] != 200) & (finish < self.end_ns)
            on = turns + 1 < paths.call_counts[lists]
            self._go_on(outer[on], turns[on] + 1, np.where(broken, NEVER, finish)[on])
            self._conclude(np.unique(outer))

    def _conclude(self, outer: Int64Array) -> None:
        """Work out when requests are answered, and how, from the ends of their calls."""
        t, paths = self.table, self.steps.paths
        lists, calls = t[Of.CALLS, outer], self.inner[outer]
        outer, lists, calls = outer[lists >= 0], lists[lists >= 0], calls[lists >= 0]
        finish = np.where(calls >= 0, t[Of.FINISH, calls], NEVER)
        heard = finish < self.end_ns
        broken = heard & (t[Of.STATUS, calls] != 200) & paths.call_fatal[lists]
        fails = broken.any(axis=1)
        which = np.where(fails, np.argmax(broken, axis=1), paths.call_counts[lists] - 1)
        rows = np.arange(len(outer))
        answered = np.where(heard[rows, which], finish[rows, which], NEVER)
        status = np.where(fails, FAILED, 200)
        moved = (answered != t[Of.ANSWERED, outer]) | (status != t[Of.STATUS, outer])
        t[Of.ANSWERED, outer], t[Of.STATUS, outer] = answered, status
        self._answered(outer[moved])

    # What came of it --------------------------------------------------------------------------------------------------

    def write(self) -> "Rows":
        """Put what happened in flight; return the rows that may have finished beside those that were due."""
        t, steps, memory = self.table, self.steps, self.steps.memory
        fresh = self._enter(np.flatnonzero((t[Of.ROW, : self.n] < 0) & (t[Of.START, : self.n] < NEVER)))
        m = memory.flights.m
        memory.busy_until = self.busy
        visits = np.flatnonzero(t[Of.ARRIVAL, : self.n] < self.end_ns)
        memory.note_work(t[Of.QUEUE_ID, visits], t[Of.SERVICE, visits])
        memory.note_work(self.fixed_ids, self.fixed_services)
        rows = t[Of.ROW, visits]
        last = m[Col.TRIES, rows] - 1
        m[Col.WORKER0 + last, rows] = t[Of.WORKER, visits]
        done, services = t[Of.DONE, visits], t[Of.SERVICE, visits]
        m[Col.SERVED, rows], m[Col.SERVICE, rows] = done, services
        m[Col.QUEUE, rows] = done - services - t[Of.ARRIVAL, visits]
        plain = t[Of.CALLS, visits] < 0
        steps.answer(rows[plain], last[plain], done[plain], np.full(int(plain.sum()), 200))
        self._write_callers(visits)
        return np.concatenate([self.waiting, fresh])

    def _write_callers(self, visits: Int64Array) -> None:
        """Requests whose servers call: answered, calling, or still at their own work."""
        t, m = self.table, self.steps.memory.flights.m
        callers = np.flatnonzero((t[Of.CALLS, : self.n] >= 0) & (t[Of.ROW, : self.n] >= 0))
        over = callers[t[Of.ANSWERED, callers] < NEVER]
        rows = t[Of.ROW, over]
        m[Col.CALLING, rows] = t[Of.ANSWERED, over] - m[Col.SERVED, rows]
        self.steps.answer(rows, m[Col.TRIES, rows] - 1, t[Of.ANSWERED, over], t[Of.STATUS, over])
        open_ = callers[t[Of.ANSWERED, callers] == NEVER]
        calls = self.inner[open_]
        started = (calls >= 0) & (t[Of.START, calls] < NEVER) & (t[Of.ROW, calls] >= 0)
        made = np.where(started, np.arange(calls.shape[1]) + 1, 0).max(axis=1, initial=0)
        made = np.maximum(made, t[Of.MADE, open_])
        rows = t[Of.ROW, open_]
        at_work = np.isin(open_, visits) & (t[Of.DONE, open_] >= self.end_ns)
        m[Col.CALL, rows] = made
        m[Col.STAGE, rows] = np.where(at_work, Stage.CALL, Stage.WAIT)
        m[Col.DUE, rows] = np.where(at_work, t[Of.DONE, open_], WAITING)

    def _enter(self, places: Int64Array) -> "Rows":
        """Put the calls that started in flight, and count them."""
        t, steps = self.table, self.steps
        flights = steps.memory.flights
        rows = flights.add(len(places))
        m = flights.m
        t[Of.ROW, places] = rows
        starts, slots = t[Of.START, places], t[Of.SLOT, places]
        for column, of in (
            (Col.STREAM, Of.STREAM), (Col.NUMBER, Of.NUMBER), (Col.START, Of.START), (Col.NODE, Of.NODE),
            (Col.SERVER0, Of.SERVER), (Col.TRY_START0, Of.START), (Col.BACK, Of.HOP), (Col.HOP, Of.HOP),
            (Col.CALLER, Of.CALLER), (Col.STATUS, Of.STATUS), (Col.ANSWER0, Of.ANSWER),
        ):  # fmt: skip
            m[column, rows] = t[of, places]
        m[Col.TRIES, rows] = 1
        m[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1, rows] = t[Of.WORD0 : Of.WORD0 + 4, places]
        failed = t[Of.ANSWER, places] != 0
        m[Col.TRY_END0, rows] = np.where(failed, t[Of.FINISH, places], 0)
        m[Col.STAGE, rows] = np.where(failed, Stage.ANSWER, Stage.SERVER)
        m[Col.DUE, rows] = np.where(failed, t[Of.FINISH, places], t[Of.DUE, places])
        m[Col.STATUS, rows] = np.where(failed, t[Of.STATUS, places], 0)
        asked = slots >= 0
        steps.count_picks(t[Of.CHOOSER, places[asked]], starts[asked], slots[asked])
        steps.bins.add(Count.STREAM_SENT, t[Of.STREAM, places], starts)
        return rows


def take_chains(
    steps: "Steps", active: "Rows", end_ns: int, others: "Sequence[Queued]" = ()
) -> "tuple[Rows, list[Int64Array]]":
    """Take every try before `end_ns` in rounds, and every call.

    Args:
        steps: The engine's steps.
        active: Rows in flight that are due.
        end_ns: End of the slab.
        others: Accepted requests that are not in flight, of streams that make no calls.

    Returns:
        The rows that may have finished, and for each of `others` when its requests are done.
    """
    accepted = steps.accept(active, end_ns)
    chains = Chains(steps, accepted, active, end_ns, others)
    chains.solve()
    steps.call_rounds += chains.rounds
    steps.ordered_rows += chains.n + len(chains.fixed_ids)
    ends = np.cumsum([len(other.starts) for other in others])
    rows = np.concatenate([active, chains.write()])
    return rows, np.split(chains.fixed_done, ends[:-1]) if len(others) else []
