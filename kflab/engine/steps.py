"""One slab of requests in flight, step by step: every step whose time lies in the slab is taken, for all rows at once.

The order is that of the path (load balancer, node, ingress, then tries in rounds, then the queues), not of time: steps
of different requests only meet in three places, and each of those puts them in order of time itself: a round-robin
chooser (by time, stream, number), a worker's queue (by arrival, stream, number) and a pool of kept connections. Where
the picks of one request change those of another inside a slab, `eventwise` takes over the tries.

What is modelled (lifecycle.md 1.8, 1.10, 3): the SYN and the request travel together, so a handshake's round trip is
not counted apart; nginx tries again on refused, reset and timed-out connects, on a reset or timeout after the request
was sent only if it is idempotent (ngx_http_upstream.c, ngx_http_upstream_next); plain clients do not try again. A
queue longer than proxy-read-timeout is waited for.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np

from kflab.draws import Draws, duration_table
from kflab.engine import cuts, lookups
from kflab.engine.addresses import ephemeral_ports, flow_hashes
from kflab.engine.arrivals import Batch
from kflab.engine.bins import Bins, Count
from kflab.engine.choosers import Choosers
from kflab.engine.deadlines import deadlines, due_only_by_deadline, give_up_late
from kflab.engine.hanging import admit
from kflab.engine.memory import NEVER, Col, Memory, Stage
from kflab.engine.neighbours import Neighbours
from kflab.engine.paths import Paths
from kflab.engine.queues import order_by_arrival, serve
from kflab.engine.scheduled import asked_by_flows, take_turns, waits
from kflab.engine.snat import PortsInUse, drop_on_the_way_to_ingresses, drop_on_the_way_to_servers
from kflab.engine.table_room import BoolArray, TableRoom, dropped_at_nodes
from kflab.engine.types import Answer, Behaviour, Int64Array, Pick, Timing, UInt64Array

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
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


class Queued(Protocol):
    """Accepted requests of one stream that are not in flight; arrays of one length."""

    stream: int
    numbers: Int64Array
    starts: Int64Array
    arrivals: Int64Array
    queue_ids: Int64Array
    services: Int64Array


class Steps:
    """The steps of a request, on the engine's memory.

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
        self.end_ns = 0
        self.ordered_rows = 0
        """Requests and calls that `eventwise` or `chains` took in their slabs so far."""
        self.call_rounds = 0
        """Rounds that `chains` took so far."""

    # The way in ---------------------------------------------------------------------------------------------------

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

    def at_lb(self, rows: Rows) -> None:
        """The load balancer picks a node by flow hash or at random."""
        m, paths = self.memory.flights.m, self.paths
        if paths.any_front_answer:
            own = paths.front_answer[m[Col.STREAM, rows]]
            answered = rows[own > 0]
            self.end(answered, own[own > 0], m[Col.DUE, answered] + paths.to_lb[m[Col.STREAM, answered]])
            rows = rows[own == 0]
        streams, times = m[Col.STREAM, rows], m[Col.DUE, rows]
        choosers = paths.lb[streams]
        words = self.memory.flights.words
        ports = paths.pin_ports(streams, m[Col.NUMBER, rows], ephemeral_ports(words(Col.ENTRY_WORD, rows)))
        hashed = flow_hashes(paths.salt[streams], ports)
        by_hash = self.choosers.pick[np.maximum(choosers, 0)] == Pick.FLOW_HASH
        bits = np.where(by_hash, hashed, words(Col.ARRIVAL_WORD, rows) & _LOW_HALF)
        nodes, answers, _ = self.pick_by(choosers, times, bits, rows, noted=False)
        self.turned_away(rows[nodes < 0], answers[nodes < 0], paths.to_lb[streams[nodes < 0]])
        good = rows[nodes >= 0]
        m[Col.NODE, good] = nodes[nodes >= 0]
        m[Col.STAGE, good] = Stage.NODE
        m[Col.DUE, good] += self.timing.lb_node_ns

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

    def at_node(self, rows: Rows) -> None:
        """The node's rules pick: an ingress server (l7) or the server itself."""
        if self.cut is not None:
            rows = cuts.without_lost(self, rows)
        if self.room is not None:
            shut = dropped_at_nodes(self, self.room, rows)
            lost, rows = rows[shut], rows[~shut]
            self.turned_away(lost, np.full(len(lost), Answer.TABLE_FULL), np.zeros(len(lost), dtype=np.int64))
        m, paths = self.memory.flights.m, self.paths
        streams, times, nodes = m[Col.STREAM, rows], m[Col.DUE, rows], m[Col.NODE, rows]
        choosers = paths.entries.get(streams, nodes)
        bits = self.memory.flights.words(Col.ENTRY_WORD, rows) >> _HALF
        if paths.any_flows:
            targets, answers = self._by_flows(rows, choosers, bits)
        else:
            targets, answers, _ = self.pick_by(choosers, times, bits, rows)
        bad = targets < 0
        self.turned_away(rows[bad], answers[bad], paths.to_node[streams[bad]])
        good, targets, nodes, streams = rows[~bad], targets[~bad], nodes[~bad], streams[~bad]
        hops = self.hop_ns(nodes, self.memory.place[targets])
        m[Col.BACK, good] = paths.to_node[streams] + hops
        m[Col.DUE, good] += hops
        l7 = paths.is_l7[streams]
        to_ingress, direct = good[l7], good[~l7]
        m[Col.INGRESS, to_ingress] = targets[l7]
        m[Col.STAGE, to_ingress] = Stage.INGRESS
        m[Col.SERVER0, direct] = targets[~l7]
        m[Col.STAGE, direct] = Stage.SERVER
        m[Col.TRIES, direct] = 1
        m[Col.HOP, direct] = m[Col.DUE, direct] - m[Col.START, direct] - m[Col.WAITED, direct]
        m[Col.TRY_START0, direct] = m[Col.START, direct]

    def _by_flows(self, rows: Rows, choosers: Int64Array, bits: UInt64Array) -> tuple[Int64Array, Int64Array]:
        """Pick as `pick_by`, but for streams that keep their source port: those follow their conntrack entry."""
        m, paths, memory = self.memory.flights.m, self.paths, self.memory
        streams, times, nodes = m[Col.STREAM, rows], m[Col.DUE, rows], m[Col.NODE, rows]
        numbers = m[Col.NUMBER, rows]
        versions = np.where(choosers < 0, 0, self.choosers.versions_at(np.maximum(choosers, 0), times))
        slots = self.choosers.slots_by_draw(versions, bits)
        if self.choosers.n_scheduled:
            asked = asked_by_flows(self, rows, choosers)
            slots[asked] = take_turns(self, rows[asked], choosers[asked], versions[asked], times[asked], slots[asked])
        targets = self.choosers.flat[slots]
        followed = np.zeros(len(rows), dtype=bool)
        listens = memory.behaviour == Behaviour.LISTENS
        fixed = np.flatnonzero(paths.flow_port[streams])
        for stream, node in sorted(set(zip(streams[fixed].tolist(), nodes[fixed].tolist(), strict=True))):
            mine = fixed[(streams[fixed] == stream) & (nodes[fixed] == node)]
            mine = mine[np.lexsort((numbers[mine], times[mine]))]
            answering = listens & (not paths.one_way[stream])
            targets[mine], followed[mine] = memory.udp.follow(
                (stream, node), times[mine], numbers[mine], targets[mine], answering, self.timing
            )
        m[Col.KEPT, rows[followed]] = 1
        new = ~followed
        self.count_picks(choosers[new], times[new], slots[new])
        return targets, self.choosers.answer[versions]

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

    def at_ingress(self, rows: Rows) -> None:
        """The ingress server accepts, or its node answers for it."""
        if self.ports is not None:
            rows = drop_on_the_way_to_ingresses(self, self.ports, rows)
        if self.room is not None:
            m = self.memory.flights.m
            shut = self.no_room_at(m[Col.INGRESS, rows], m[Col.NODE, rows], rows, 0)
            patience = self.paths.dial_patience[m[Col.STREAM, rows[shut]]]
            self.end(rows[shut], -Answer.TABLE_FULL, m[Col.START, rows[shut]] + patience)
            rows = rows[~shut]
        m, timing = self.memory.flights.m, self.timing
        times, behaviour = m[Col.DUE, rows], self.meets(m[Col.INGRESS, rows], m[Col.NODE, rows])
        listens = behaviour == Behaviour.LISTENS
        if not listens.all():
            refused, silent = rows[behaviour == Behaviour.REFUSES], rows[behaviour == Behaviour.SILENT]
            self.end(refused, -Answer.REFUSED, m[Col.DUE, refused] + m[Col.BACK, refused])
            patience = self.paths.dial_patience[m[Col.STREAM, silent]]
            self.end(silent, -Answer.TIMEOUT, m[Col.START, silent] + patience)
            rows, times = rows[listens], times[listens]
        lost = self.paths.no_route[m[Col.STREAM, rows]]
        m[Col.OUT, rows] = NEVER
        m[Col.STAGE, rows] = Stage.TRY
        m[Col.DUE, rows] = times + timing.nginx_ns
        if lost.any():
            rows = rows[lost]
            m[Col.OUT, rows] = m[Col.DUE, rows]
            self.end(rows, 404, m[Col.DUE, rows] + m[Col.BACK, rows])

    # Tries --------------------------------------------------------------------------------------------------------

    def at_try(self, rows: Rows) -> None:
        """The ingress starts a try: its upstream chooser picks."""
        m = self.memory.flights.m
        if self.room is not None:
            near, tries = self.memory.place[m[Col.INGRESS, rows]], m[Col.TRIES, rows] + m[Col.LOST, rows] + 1
            shut = self.room.shut(near, m[Col.STREAM, rows], m[Col.NUMBER, rows], tries)
            lost, rows = rows[shut], rows[~shut]
            self.begin_try(lost)
            self.tried(lost, np.full(len(lost), -1), np.full(len(lost), Answer.TABLE_FULL))
        choosers = self.begin_try(rows)
        times = m[Col.DUE, rows]
        turns = self.choosers.pick[np.maximum(choosers, 0)] == Pick.ROUND_ROBIN
        if not self.choosers.n_round_robin or not turns.any():
            bits = self.memory.flights.words(Col.BACKEND_WORD, rows) >> _HALF
            targets, answers, _ = self.pick_by(choosers, times, bits)
        else:
            bits = self.memory.flights.words(Col.BACKEND_WORD, rows) >> _HALF
            versions = np.where(choosers < 0, 0, self.choosers.versions_at(np.maximum(choosers, 0), times))
            slots = self.choosers.slots_by_draw(versions, bits)
            in_turn = turns & (choosers >= 0)
            order = np.flatnonzero(in_turn)
            part = rows[order]
            order = order[np.lexsort((m[Col.NUMBER, part], m[Col.STREAM, part], times[order], versions[order]))]
            slots[order] = self.choosers.slots_by_turn(versions[order])
            self.count_picks(choosers, times, slots)
            targets, answers = self.choosers.flat[slots], self.choosers.answer[versions]
        answers = np.where(choosers < 0, Answer.NO_UPSTREAM, answers)
        self.tried(rows, targets, answers)

    def begin_try(self, rows: Rows) -> Int64Array:
        """Count the try before, fetch this try's words; return the upstream choosers (-1: the ingress knows none)."""
        m, flights = self.memory.flights.m, self.memory.flights
        tries = m[Col.TRIES, rows]
        again = rows[tries + m[Col.LOST, rows] > 0]
        if len(again):
            self.count_tries(again)
            attempts = m[Col.TRIES, again] + m[Col.LOST, again]
            words = self.draws.rows(m[Col.STREAM, again], m[Col.NUMBER, again], attempts)
            flights.m[Col.BACKEND_WORD : Col.SERVICE_WORD + 1, again] = words[:, 2:].T.view(np.int64)
        return self.paths.upstreams.get(m[Col.STREAM, rows], m[Col.INGRESS, rows])

    def tried(self, rows: Rows, targets: Int64Array, answers: Int64Array) -> None:
        """Record what was picked; send the SYN, or end the try where there was nothing to pick."""
        m, timing = self.memory.flights.m, self.timing
        times, tries = m[Col.DUE, rows], m[Col.TRIES, rows]
        m[Col.SERVER0 + tries, rows] = targets
        m[Col.TRY_START0 + tries, rows] = times
        m[Col.TRIES, rows] = tries + 1
        some = targets >= 0
        if not some.all():
            bad, answers, times = rows[~some], answers[~some], times[~some]
            # A REJECT happens on the ingress' own node; NGINX without a peer knows it at once.
            wait = np.where(answers == Answer.NO_UPSTREAM, 0, 2 * timing.same_node_ns)
            silent = (answers == Answer.TIMEOUT) | (answers == Answer.TABLE_FULL)
            wait = np.where(silent, timing.connect_timeout_ns, wait)
            self.failed(bad, answers, times + wait, answers != Answer.NO_UPSTREAM)
            rows, targets = rows[some], targets[some]
        hops = self.hop_ns(self.memory.place[m[Col.INGRESS, rows]], self.memory.place[targets])
        m[Col.HOP, rows] = hops
        m[Col.STAGE, rows] = Stage.SERVER
        m[Col.DUE, rows] += hops

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

    def at_server(self, rows: Rows) -> Rows:
        """A try's SYN arrives. Returns the rows whose connection was accepted."""
        if self.ports is not None:
            rows = drop_on_the_way_to_servers(self, self.ports, rows)
        m = self.memory.flights.m
        if self.room is not None:
            last = m[Col.TRIES, rows] - 1
            ingress = m[Col.INGRESS, rows]
            callers = np.where(ingress >= 0, self.memory.place[ingress], m[Col.NODE, rows])
            shut = m[Col.KEPT, rows] >> last & 1 == 0
            part, at = rows[shut], last[shut]
            tries = m[Col.TRIES, part] + m[Col.LOST, part]
            shut[shut] = self.no_room_at(m[Col.SERVER0 + at, part], callers[shut], part, tries)
            began = m[Col.TRY_START0 + last[shut], rows[shut]]
            patience = self.paths.connect_patience[m[Col.STREAM, rows[shut]]]
            self.failed(rows[shut], Answer.TABLE_FULL, began + patience, True)
            rows = rows[~shut]
        servers = m[Col.SERVER0 + m[Col.TRIES, rows] - 1, rows]
        ingress = m[Col.INGRESS, rows]
        behaviour = self.meets(servers, np.where(ingress >= 0, self.memory.place[ingress], m[Col.NODE, rows]))
        listens = behaviour == Behaviour.LISTENS
        if listens.all():
            return rows
        refused, silent = rows[behaviour == Behaviour.REFUSES], rows[behaviour == Behaviour.SILENT]
        self.failed(refused, Answer.REFUSED, m[Col.DUE, refused] + m[Col.HOP, refused], True)
        last = m[Col.TRIES, silent] - 1
        of = (m[Col.STREAM, silent], m[Col.INGRESS, silent], m[Col.NODE, silent])
        answers, ends = self.unanswered(*of, m[Col.SERVER0 + last, silent], m[Col.TRY_START0 + last, silent])
        # Of a SYN that was lost and sent again the caller hears after that.
        again = m[Col.WAITED, silent] > 0
        self.failed(silent, answers, np.where(again, np.maximum(ends, m[Col.DUE, silent]), ends), True)
        hanging = rows[behaviour == Behaviour.HANGS]
        m[Col.STAGE, hanging] = Stage.RELEASE  # not due again in this slab's rounds; `admit` gives the real stage
        self.hanging.append(hanging)
        accepted: Rows = rows[listens]
        return accepted

    def at_workers(self, rows: Rows, others: Sequence[Queued] = ()) -> list[Int64Array]:
        """Accepted connections queue at their worker, are served, and their answers set out.

        Args:
            rows: Accepted rows in flight.
            others: Sets of accepted requests that are not in flight (see `express`).

        Returns:
            For each of `others`, when its requests are done.
        """
        m, memory = self.memory.flights.m, self.memory
        last = m[Col.TRIES, rows] - 1
        own, workers, arrivals, services = self.queue_of(rows)
        bounds = np.cumsum([0, len(rows)] + [len(other.starts) for other in others])
        if others:
            workers = np.concatenate([workers, *(other.queue_ids for other in others)])
            arrivals = np.concatenate([arrivals, *(other.arrivals for other in others)])
            services = np.concatenate([services, *(other.services for other in others)])

        @cache
        def named() -> tuple[Int64Array, Int64Array]:
            streams = [m[Col.STREAM, rows], *(np.full(len(other.starts), other.stream) for other in others)]
            return np.concatenate(streams), np.concatenate([m[Col.NUMBER, rows], *(other.numbers for other in others)])

        def keys(places: Int64Array) -> tuple[Int64Array, Int64Array]:
            streams, numbers = named()
            return streams[places], numbers[places]

        order = order_by_arrival(workers, arrivals, keys)
        done = np.empty_like(arrivals)
        done[order] = serve(workers.take(order), arrivals.take(order), services.take(order), memory.busy_until)
        memory.note_work(workers, services)
        n = len(rows)
        m[Col.WORKER0 + last, rows] = own
        self.answered(rows, last, arrivals[:n], services[:n], done[:n])
        return [done[begin:end] for begin, end in pairwise(bounds[1:].tolist())]

    def queue_of(self, rows: Rows) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
        """Accepted rows in flight: worker of their server, the same among all, arrival, service time; (n,) each."""
        m, memory = self.memory.flights.m, self.memory
        servers = m[Col.SERVER0 + m[Col.TRIES, rows] - 1, rows]
        words = memory.flights.words(Col.BACKEND_WORD, rows) & _WORKER_BITS
        own = (words * memory.n_workers[servers].astype(np.uint64) >> np.uint64(16)).astype(np.int64)
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
        """Count the last try of each row at its server, by its end."""
        m = self.memory.flights.m
        last = np.maximum(m[Col.TRIES, rows] - 1, 0)
        servers, answers, ends = m[Col.SERVER0 + last, rows], m[Col.ANSWER0 + last, rows], m[Col.TRY_END0 + last, rows]
        known = servers >= 0
        good, bad = known & (answers == Answer.OK), known & (answers > Answer.OK)
        self.bins.add(Count.SERVER_OK, servers[good], ends[good])
        self.bins.add(Count.SERVER_BAD, servers[bad], ends[bad])

    # A slab -------------------------------------------------------------------------------------------------------

    def run(
        self,
        end_ns: int,
        tries: "Callable[[Rows, int], tuple[Rows, list[Int64Array]]] | None" = None,
        others: Sequence[Queued] = (),
        even_idle: bool = False,
    ) -> tuple[Rows, list[Int64Array]]:
        """Take every step before `end_ns`.

        Args:
            end_ns: End of the slab.
            tries: Takes over from the first try on, given the rows in flight that are due, and returns those that may
                have finished, and when each of `others` is done; None for `rounds`.
            others: Accepted requests that are not in flight.
            even_idle: Whether to ask `tries` also when nothing in flight is due.

        Returns:
            The rows that finished (the caller removes them), and when each of `others` is done.
        """
        flights = self.memory.flights
        active = flights.due_before(end_ns)
        if self.paths.any_deadline:
            active = np.concatenate((active, due_only_by_deadline(self, end_ns)))
        if not len(active) and not others and not even_idle:
            return active, []
        if self.paths.any_names:
            lookups.look_up(self, self.ready(active, Stage.LOOKUP, end_ns), end_ns)
        for stage, step in ((Stage.LB, self.at_lb), (Stage.NODE, self.at_node), (Stage.INGRESS, self.at_ingress)):
            rows = self.ready(active, stage, end_ns)
            if len(rows) and len(self.in_order) and stage != Stage.LB:
                rows = rows[~waits(self, rows)]
            elif stage == Stage.LB and self.paths.any_retry and self.choosers.n_scheduled:
                # Attempts that begin in this slab take turns as well.
                rows = rows[self.choosers.scheduler_of(self.paths.lb[flights.m[Col.STREAM, rows]]) < 0]
            if stage == Stage.NODE and self.paths.any_connections:
                # Which connections are open then depends on how earlier requests ended: `eventwise` takes them.
                rows = rows[self.paths.connections[flights.m[Col.STREAM, rows]] == 0]
            if len(rows):
                step(rows)
        done: list[Int64Array] = []
        if tries is None:
            done = self.rounds(active, end_ns, others)
        else:
            active, done = tries(active, end_ns)
        if self.paths.any_deadline:
            give_up_late(self, active, end_ns)
        return self.ready(active, Stage.ANSWER, end_ns), done

    def rounds(self, active: Rows, end_ns: int, others: Sequence[Queued] = ()) -> list[Int64Array]:
        """Take tries in rounds, then serve everything that was accepted."""
        accepted = self.accept(active, end_ns)
        return self.at_workers(accepted, others) if len(accepted) or others else []

    def accept(self, active: Rows, end_ns: int) -> Rows:
        """Take tries in rounds until each is accepted or over; return the accepted rows."""
        accepted: list[Rows] = []
        while True:
            starting = self.ready(active, Stage.TRY, end_ns)
            if len(starting):
                self.at_try(starting)
            arriving = self.ready(active, Stage.SERVER, end_ns)
            if not len(arriving):
                if not len(starting):
                    break
                continue
            rows = self.at_server(arriving)
            # Not due again in this loop; `answered` gives the row its real stage.
            self.memory.flights.m[Col.STAGE, rows] = Stage.RELEASE
            accepted.append(rows)
        if any(map(len, self.hanging)):
            admit(self, np.concatenate(self.hanging))
        self.hanging.clear()
        return np.concatenate([active[:0], *accepted])

    def ready(self, active: Rows, stage: int, end_ns: int) -> Rows:
        """Return the rows at a stage whose time has come, and whose client still waits then."""
        m = self.memory.flights.m
        ready: Rows = active[(m[Col.STAGE, active] == stage) & (m[Col.DUE, active] < end_ns)]
        if self.paths.any_deadline:
            ready = ready[m[Col.DUE, ready] <= deadlines(self, ready)]
        return ready
