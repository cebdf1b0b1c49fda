"""What the steps of requests work on, and how each may go on or end: started, turned away, failed, answered.

What is modelled (lifecycle.md 1.8, 1.10, 3): nginx tries again on refused, reset and timed-out connects, on a reset or
timeout after the request was sent only if it is idempotent (ngx_http_upstream.c, ngx_http_upstream_next); plain clients
do not try again.
"""

import numpy as np

from kflab.draws import Draws, duration_table
from kflab.engine import cuts, lookups
from kflab.engine.arrivals import Batch
from kflab.engine.bins import Bins, Count
from kflab.engine.choosers import Choosers
from kflab.engine.deadlines import deadlines
from kflab.engine.memory import NEVER, Col, Memory, Stage
from kflab.engine.neighbours import Neighbours
from kflab.engine.paths import Paths
from kflab.engine.scheduled import take_turns
from kflab.engine.snat import PortsInUse
from kflab.engine.table_room import BoolArray, TableRoom
from kflab.engine.types import Answer, Behaviour, Int64Array, Timing, UInt64Array

_WORKER_BITS = np.uint64(0xFFFF)
_TOP_16 = np.uint64(48)

STATUS_OF = np.zeros(16, dtype=np.int64)
STATUS_OF[[Answer.REFUSED, Answer.REJECTED, Answer.RESET, Answer.UNREACHABLE, Answer.NONE]] = 502
STATUS_OF[Answer.TIMEOUT] = 504
STATUS_OF[[Answer.TABLE_FULL, Answer.NO_PORT]] = 504
STATUS_OF[Answer.NO_UPSTREAM] = 503
"""[Answer] -> what nginx tells its client when the last try ended so (lifecycle.md 1.8), and what an ALB tells it (AWS
docs, Troubleshoot your Application Load Balancers: 502 for a target that resets or refuses, 503 without targets, 504
for one that does not accept or answer in time)."""

Rows = Int64Array
"""Column indices into the matrix of requests in flight."""


class StepState:
    """What the steps work on, and how the course of a request is written down.

    Args:
        draws: For the words of second and third tries.
        timing: Delays and timeouts.
        choosers: Who picks what.
        memory: Requests in flight and backlogs; changed in place.
        bins: Where tries and connections are counted.
    """

    def __init__(self, draws: Draws, timing: Timing, choosers: Choosers, memory: Memory, bins: Bins) -> None:
        self.draws, self.timing, self.choosers, self.memory, self.bins = draws, timing, choosers, memory, bins
        self.paths = Paths(timing, [])
        default = duration_table("lognormal", p50_ns=timing.service_p50_ns, p99_ns=timing.service_p99_ns)
        self.table_names = {name: place + 1 for place, (name, _, _) in enumerate(timing.service_tables)}
        self.tables = [default] + [
            duration_table("lognormal", p50_ns=p50, p99_ns=p99) for _, p50, p99 in timing.service_tables
        ]
        self.server_table: Int64Array = np.zeros(0, dtype=np.int64)
        """[servers] -> service-time table."""
        self.room: TableRoom | None = None
        """Which first packets nodes with a full conntrack table let in; None where none is full."""
        self.dns_queries = 0
        """Queries that clients sent so far."""
        self.hanging: list[Rows] = []
        """Of the slab that runs: rows whose SYN arrived at a hanging server."""
        self.cut: cuts.Cut | None = None
        """[places + 1] -> whether a node's packets go nowhere; None where all nodes are well (see `cuts`)."""
        self.neighbours: Neighbours | None = None
        """What nodes on one Ethernet know of dead ones; None: a router between them drops packets in silence."""
        self.ports: PortsInUse | None = None
        """Source ports of masqueraded connections; None while no node can run out of them."""
        self.in_order: Int64Array = np.zeros(0, dtype=np.int64)
        """Virtual servers whose connections the event loop takes through their node (see `scheduled`)."""
        self.begin_ns = 0
        """Start of the slab that runs."""
        self.end_ns = 0
        self.ordered_rows = 0
        """Requests and calls that `eventwise` or `chains` took in their slabs so far."""
        self.call_rounds = 0
        """Rounds that `chains` took so far."""

    def start(self, batch: Batch, numbers: "Int64Array | None" = None) -> None:
        """Put new requests in flight, on their way to the load balancer or their node.

        Args:
            batch: Requests of one stream.
            numbers: Their numbers, when they are not consecutive.
        """
        if not len(batch.starts):
            return
        flights, paths, stream = self.memory.flights, self.paths, batch.stream
        rows = flights.add(len(batch.starts))
        block = flights.m[:, rows[0] : rows[-1] + 1]
        block[Col.STREAM] = stream
        block[Col.NUMBER] = np.arange(batch.first, batch.first + len(rows)) if numbers is None else numbers
        block[Col.START] = batch.starts
        if paths.balanced[stream]:
            block[Col.STAGE] = Stage.LB
            block[Col.DUE] = batch.starts + paths.to_lb[stream]
        else:
            block[Col.STAGE] = Stage.NODE
            block[Col.NODE] = paths.place[stream]
            block[Col.DUE] = batch.starts + paths.to_node[stream]
        block[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1] = batch.words.T.view(np.int64)
        if paths.waits_first[stream]:
            lookups.begin(self, stream, rows)

    def hop_ns(self, place: Int64Array, other: Int64Array) -> Int64Array:
        """Return the one-way delay between two places."""
        return np.where(place == other, self.timing.same_node_ns, self.timing.cross_node_ns)

    def count_picks(self, choosers: Int64Array, times: Int64Array, slots: Int64Array) -> None:
        """Count connections by chooser (-1: none) and by what was picked."""
        known = choosers >= 0
        self.bins.add(Count.CHOOSER, choosers[known], times[known])
        self.choosers.count(slots)

    def pick_by(
        self, choosers: Int64Array, times: Int64Array, bits: UInt64Array, rows: "Rows | None" = None, noted: bool = True
    ) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Pick by 32 bits each, or as the virtual servers of `rows` take turns, and count; a chooser of -1 has no rule.

        Returns:
            (candidate or -1, the empty fan's Answer or NONE, version), each (n,).
        """
        versions = np.where(choosers < 0, 0, self.choosers.versions_at(np.maximum(choosers, 0), times))
        slots = self.choosers.slots_by_draw(versions, bits)
        if rows is not None and self.choosers.n_scheduled:
            slots = take_turns(self, rows, choosers, versions, times, slots, noted)
        self.count_picks(choosers, times, slots)
        return self.choosers.flat[slots], self.choosers.answer[versions], versions

    def turned_away(self, rows: Rows, answers: Int64Array, back: Int64Array) -> None:
        """End requests that met an empty fan on their way in: rejected at once, or dropped until it gives up."""
        if not len(rows):
            return
        m = self.memory.flights.m
        direct = rows[~self.paths.is_l7[m[Col.STREAM, rows]]]
        m[Col.TRIES, direct] = 1
        m[Col.TRY_START0, direct] = m[Col.START, direct]
        silent = (answers == Answer.TIMEOUT) | (answers == Answer.TABLE_FULL) | (answers == Answer.SYN_LOST)
        streams = m[Col.STREAM, rows]
        finish = np.where(silent, m[Col.START, rows] + self.paths.dial_patience[streams], m[Col.DUE, rows] + back)
        m[Col.ANSWER0, rows] = answers
        m[Col.TRY_END0, rows] = finish
        l7 = self.paths.is_l7[m[Col.STREAM, rows]]
        m[Col.ANSWER0, rows[l7]] = 0
        m[Col.TRY_END0, rows[l7]] = 0
        self.end(rows, np.where(self.paths.http_front[streams], STATUS_OF[answers], -answers), finish)

    def end(self, rows: Rows, status: "Int64Array | int", finish: Int64Array) -> None:
        m = self.memory.flights.m
        m[Col.STATUS, rows] = status
        m[Col.STAGE, rows] = Stage.ANSWER
        m[Col.DUE, rows] = finish

    def no_room_at(self, servers: Int64Array, callers: Int64Array, rows: Rows, tries: "Int64Array | int") -> BoolArray:
        """Whether the node of each server, another than the caller's, drops the first packet of this connection."""
        m, there = self.memory.flights.m, self.memory.place[servers]
        if self.room is None:
            return np.zeros(len(servers), dtype=bool)
        there = np.where(there == callers, -1, there)
        return self.room.shut(there, m[Col.STREAM, rows], m[Col.NUMBER, rows], tries)

    def meets(self, servers: Int64Array, callers: Int64Array) -> Int64Array:
        """What callers on these places meet at servers: silence across a cut link."""
        behaviour = self.memory.behaviour[servers]
        if self.cut is not None:
            behaviour[cuts.lost_between(self.cut, callers, self.memory.place[servers])] = Behaviour.SILENT
        return behaviour

    def unanswered(
        self, streams: Int64Array, ingress: Int64Array, nodes: Int64Array, servers: Int64Array, began: Int64Array
    ) -> tuple[Int64Array, Int64Array]:
        """How tries end that get no answer to their SYN, and when: (Answer, ns), shape (n,) each.

        Args:
            streams: Of the requests, shape (n,).
            ingress: Ingress server that tries; -1 the client itself.
            nodes: Place of the client.
            servers: Whom they try.
            began: When the SYN was sent, ns.
        """
        paths, place = self.paths, self.memory.place
        patience = paths.connect_patience[streams]
        answers, ends = np.full(len(streams), Answer.TIMEOUT, dtype=np.int64), began + patience
        if self.neighbours is not None and self.cut is not None:
            callers, there = np.where(ingress >= 0, place[ingress], nodes), place[servers]
            # A client outside is behind a router.
            asks = cuts.lost_between(self.cut, callers, there) & ((ingress >= 0) | paths.inside[streams])
            asks &= ~paths.udp[streams]
            ends[asks], heard = self.neighbours.ends(callers[asks], there[asks], began[asks], patience[asks])
            answers[asks] = np.where(heard, Answer.UNREACHABLE, Answer.TIMEOUT)
        return answers, ends

    def failed(self, rows: Rows, answers: "Int64Array | int", ends: Int64Array, may_retry: "Int64Array | bool") -> None:
        """End a try badly; the next one starts at once, or the client hears of it."""
        if not len(rows):
            return
        m, streams = self.memory.flights.m, self.memory.flights.m[Col.STREAM, rows]
        tries = m[Col.TRIES, rows]
        codes = np.broadcast_to(np.asarray(answers, dtype=np.int64), (len(rows),))
        m[Col.ANSWER0 + tries - 1, rows] = codes
        m[Col.TRY_END0 + tries - 1, rows] = ends
        m[Col.SERVED, rows] = 0
        m[Col.QUEUE, rows] = 0
        m[Col.SERVICE, rows] = 0
        l7 = self.paths.is_l7[streams]
        more = l7 & (tries < self.paths.tries[streams]) & may_retry
        m[Col.STAGE, rows] = np.where(more, Stage.TRY, Stage.ANSWER)
        m[Col.DUE, rows] = np.where(more | ~l7, ends, ends + m[Col.BACK, rows])
        last = ~more
        m[Col.OUT, rows[more]] = NEVER  # it may have been about to be rid of it when its server died
        m[Col.STATUS, rows[last]] = np.where(self.paths.speaks_http[streams], STATUS_OF[codes], -codes)[last]
        m[Col.OUT, rows[last & l7]] = ends[last & l7]

    def retry_free(self, rows: Rows, ends: Int64Array) -> None:
        """Start the next try at `ends` without counting the one that failed (an error on a kept connection)."""
        m = self.memory.flights.m
        tries = m[Col.TRIES, rows]
        servers, m[Col.SERVER0 + tries, rows] = m[Col.SERVER0 + tries, rows], -1
        m[Col.LOST_SERVER, rows] = servers + 1
        self.bins.add(Count.SERVER_BAD, servers, ends)
        for col in (Col.ANSWER0, Col.TRY_START0, Col.TRY_END0):
            m[col + tries, rows] = 0
        m[Col.WORKER0 + tries, rows] = -1
        m[Col.KEPT, rows] &= ~(1 << tries)
        m[Col.KEPT_PORTS, rows] &= ~(0xFFFF << 16 * tries)
        for col in (Col.SERVED, Col.QUEUE, Col.SERVICE):
            m[col, rows] = 0
        m[Col.OUT, rows] = NEVER
        m[Col.STAGE, rows] = Stage.TRY
        m[Col.DUE, rows] = ends

    def queue_of(self, rows: Rows) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
        """Accepted rows in flight: worker of their server, the same among all, arrival, service time; (n,) each."""
        m, memory = self.memory.flights.m, self.memory
        servers = m[Col.SERVER0 + m[Col.TRIES, rows] - 1, rows]
        words = memory.flights.words(Col.BACKEND_WORD, rows) & _WORKER_BITS
        own = (words * memory.n_workers[servers].astype(np.uint64) >> np.uint64(16)).astype(np.int64)
        if self.paths.any_connections:  # an open connection has its worker
            known = m[Col.WORKER0 + m[Col.TRIES, rows] - 1, rows]
            own = np.where(known >= 0, known, own)
        services = self.service_ns(servers, memory.flights.words(Col.SERVICE_WORD, rows))
        return own, memory.first_worker[servers] + own, m[Col.DUE, rows], services

    def service_ns(self, servers: Int64Array, words: UInt64Array) -> Int64Array:
        """Draw service times."""
        index = (words >> _TOP_16).view(np.int64)
        if len(self.tables) == 1:
            return self.tables[0].take(index)
        which = self.server_table[servers]
        return np.stack(self.tables)[which, index]

    def answered(
        self, rows: Rows, last: Int64Array, arrivals: Int64Array, services: Int64Array, done: Int64Array
    ) -> None:
        """Record when the server is done and when the caller and the client will know."""
        m = self.memory.flights.m
        m[Col.QUEUE, rows] = done - services - arrivals
        m[Col.SERVICE, rows] = services
        m[Col.SERVED, rows] = done
        self.answer(rows, last, done, 200)

    def answer(self, rows: Rows, last: Int64Array, times: Int64Array, status: "Int64Array | int") -> None:
        """Let the servers' answers to each row's last try set out; say when the caller and the client will know."""
        m = self.memory.flights.m
        l7 = self.paths.is_l7[m[Col.STREAM, rows]]
        ends = times + np.where(l7, m[Col.HOP, rows], m[Col.BACK, rows])
        m[Col.ANSWER0 + last, rows] = Answer.OK
        m[Col.TRY_END0 + last, rows] = ends
        m[Col.OUT, rows] = np.where(l7, ends, 0)
        self.end(rows, status, ends + np.where(l7, m[Col.BACK, rows], 0))

    def count_tries(self, rows: Rows) -> None:
        """Count the last try of each row at its server, by its end; none whose client is gone."""
        m = self.memory.flights.m
        last = np.maximum(m[Col.TRIES, rows] - 1, 0)
        servers, answers, ends = m[Col.SERVER0 + last, rows], m[Col.ANSWER0 + last, rows], m[Col.TRY_END0 + last, rows]
        known = servers >= 0
        good, bad = known & (answers == Answer.OK), known & (answers > Answer.OK) & (answers != Answer.CLIENT_GONE)
        self.bins.add(Count.SERVER_OK, servers[good], ends[good])
        self.bins.add(Count.SERVER_BAD, servers[bad], ends[bad])

    def ready(self, active: Rows, stage: int, end_ns: int) -> Rows:
        """Return the rows at a stage whose time has come, and whose client still waits then."""
        m = self.memory.flights.m
        ready: Rows = active[(m[Col.STAGE, active] == stage) & (m[Col.DUE, active] < end_ns)]
        if self.paths.any_deadline:
            ready = ready[m[Col.DUE, ready] <= deadlines(self, ready)]
        return ready
