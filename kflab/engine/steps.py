"""One slab of requests in flight, step by step: every step whose time lies in the slab is taken, for all rows at once.

The order is that of the path (load balancer, node, ingress, then tries in rounds, then the queues), not of time: steps
of different requests only meet in three places, and each of those puts them in order of time itself: a round-robin
chooser (by time, stream, number), a worker's queue (by arrival, stream, number) and a pool of kept connections. Where
the picks of one request change those of another inside a slab, `eventwise` takes over the tries.

The SYN and the request travel together, so a handshake's round trip is not counted apart. A queue longer than
proxy-read-timeout is waited for. What a step may do to a request is in `step_state`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np

from kflab.engine import cuts, lookups
from kflab.engine.addresses import ephemeral_ports, flow_hashes
from kflab.engine.deadlines import due_only_by_deadline, give_up_late
from kflab.engine.hanging import admit
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.queues import order_by_arrival, serve
from kflab.engine.scheduled import asked_by_flows, take_turns, waits
from kflab.engine.snat import drop_on_the_way_to_ingresses, drop_on_the_way_to_servers
from kflab.engine.step_state import Rows, StepState
from kflab.engine.table_room import dropped_at_nodes
from kflab.engine.types import Answer, Behaviour, Int64Array, Pick, UInt64Array

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)


class Queued(Protocol):
    """Accepted requests of one stream that are not in flight; arrays of one length."""

    stream: int
    numbers: Int64Array
    starts: Int64Array
    arrivals: Int64Array
    queue_ids: Int64Array
    services: Int64Array


class Steps(StepState):
    """The steps of a request, on the engine's memory."""

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
            wait = np.where(silent, self.paths.connect_patience[m[Col.STREAM, bad]], wait)
            self.failed(bad, answers, times + wait, answers != Answer.NO_UPSTREAM)
            rows, targets = rows[some], targets[some]
        hops = self.hop_ns(self.memory.place[m[Col.INGRESS, rows]], self.memory.place[targets])
        m[Col.HOP, rows] = hops
        m[Col.STAGE, rows] = Stage.SERVER
        m[Col.DUE, rows] += hops

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
