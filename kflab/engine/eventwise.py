"""Tries one event after the other, in order of time: exact where one request's outcome changes another's pick.

Six cases need it: streams with kept connections (which connection is idle depends on when earlier answers came), NGINX
that picks by how soon its peers answered (`ewma`),
clients that keep their own (see `connecting`), round robin while some candidate does not answer (a failed try takes the
next turn before requests that start later), clients that may send a request again within the slab (`retrying`), and
virtual servers whose turns depend on what happens within it (`scheduled`), which those that count connections always do
(`ipvs_entries`).
Some 10 µs an event, against some 0.1 µs a row in `steps`, so the engine comes here only for slabs that need it. The
outcome is the same as that of `steps` where both apply; a test holds them together.

Kept connections: see `pools`. A request on a kept connection needs no SYN, so only the server's process matters: gone
means reset (nginx then does not count the try), silence and a process that hangs mean the read timeout, after which
only idempotent requests are tried again.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from heapq import heapify, heappop, heappush

import numpy as np

from kflab.engine import connecting, ewma_tries, ipvs_entries, retrying
from kflab.engine.addresses import ephemeral_port
from kflab.engine.affinity import Listed
from kflab.engine.bins import Count
from kflab.engine.calls import Chains, waiting_rows
from kflab.engine.cuts import lost_between_two
from kflab.engine.deadlines import deadlines, give_up, gives_up_at, is_over
from kflab.engine.memory import Col, Stage
from kflab.engine.pools import Connection
from kflab.engine.scheduled import Connected, packed_entry_turn, packed_try_turn
from kflab.engine.step_state import STATUS_OF, Rows
from kflab.engine.steps import Steps
from kflab.engine.types import PEERS, Answer, Behaviour, Int64Array, Pick

_RID = -2
"""Requests that NGINX is rid of at an instant move scores before it picks by them at it."""

_OVER = -1
"""Connections that are over at an instant are so before others are scheduled at it."""

_RANK = {
    Stage.LB: 0, Stage.NODE: 0, Stage.INGRESS: 0, Stage.RELEASE: 1, Stage.TRY: 2, Stage.SERVER: 3, Stage.CALL: 4,
    Stage.ANSWER: 5,
}  # fmt: skip
"""At one instant connections become idle before tries start."""

_DEADLINE = 6
"""Rank of a client that gives up: what comes at the same instant still counts."""

_MASK = (1 << 64) - 1

Event = tuple[int, int, int, int, int]
"""(time, rank of the stage, stream, number, place in the list of rows)."""


class Eventwise:
    """One slab's tries."""

    def __init__(self, steps: Steps, rows: Rows, end_ns: int) -> None:
        self.steps, self.end_ns = steps, end_ns
        m = steps.memory.flights.m
        self.rows = rows.tolist()
        self.flights: list[list[int]] = m[:, rows].T.tolist()
        self.heap: list[Event] = []
        self.chains = Chains(self) if steps.paths.calls else None
        self._spare = -1
        """A row of the matrix through which rows go that have none yet."""
        for place, flight in enumerate(self.flights):
            self.push(flight, place)
            self._push_deadline(flight, place)
        heapify(self.heap)
        self.picked_choosers: list[int] = []
        self.picked_times: list[int] = []
        self.picked_slots: list[int] = []
        self.bad: list[tuple[int, int]] = []

    def push(self, flight: list[int], place: int) -> None:
        """Put a request's next step on the heap, if it has one in this slab.

        Of answers those to calls matter, those over connections that the client keeps, and those to clients that may
        send the request again.
        """
        if self.steps.memory.schedulers.open:
            over_ns = ipvs_entries.next_end(self.steps, flight)
            if over_ns < self.end_ns:
                heappush(self.heap, (over_ns, _OVER, flight[Col.STREAM], flight[Col.NUMBER], place))
        if self.steps.choosers.n_scored:
            rid_ns = ewma_tries.over_ns(self.steps, flight)
            if self.steps.begin_ns <= rid_ns < self.end_ns:
                heappush(self.heap, (rid_ns, _RID, flight[Col.STREAM], flight[Col.NUMBER], place))
        rank = _RANK.get(flight[Col.STAGE])
        paths, stream = self.steps.paths, flight[Col.STREAM]
        called = self.chains is not None and paths.parent[stream] >= 0
        if rank == _RANK[Stage.ANSWER] and not (called or paths.connections[stream] or paths.retries[stream]):
            return
        if rank is not None and flight[Col.DUE] < self.end_ns:
            heappush(self.heap, (flight[Col.DUE], rank, flight[Col.STREAM], flight[Col.NUMBER], place))

    def enter(self, flight: list[int]) -> None:
        """Take in a request that starts now."""
        self.flights.append(flight)
        self.push(flight, len(self.flights) - 1)
        self._push_deadline(flight, len(self.flights) - 1)

    def _push_deadline(self, flight: list[int], place: int) -> None:
        """Put the instant on the heap at which a request's client gives it up, if that is in this slab."""
        if self.steps.paths.deadlines[flight[Col.STREAM]]:
            t_ns = gives_up_at(self.steps, flight)
            if t_ns < self.end_ns:
                heappush(self.heap, (t_ns, _DEADLINE, flight[Col.STREAM], flight[Col.NUMBER], place))

    def run(self) -> None:
        while self.heap:
            t_ns, rank, _, _, place = heappop(self.heap)
            flight = self.flights[place]
            if rank == _RID:
                if t_ns == ewma_tries.over_ns(self.steps, flight):
                    ewma_tries.note_over(self.steps, flight, t_ns)
                continue
            if rank == _OVER:
                ipvs_entries.close_ended(self.steps, flight, t_ns)
                continue
            if rank == _DEADLINE:
                if not is_over(flight, t_ns):
                    self._in_matrix(place, partial(give_up, self.steps, times=np.array([t_ns])))
                    self.push(self.flights[place], place)
                continue
            if t_ns != flight[Col.DUE]:
                continue  # its client gave up before
            if rank == 0 and flight[Col.STAGE] == Stage.LB:
                self._in_matrix(place, self.steps.at_lb)
                flight = self.flights[place]
            elif rank == 0 and self.steps.paths.connections[flight[Col.STREAM]]:
                connecting.depart(self, flight)
            elif rank == 0:
                self._through(place)
                flight = self.flights[place]
            elif rank < 4:
                (self._release, self._try, self._arrive)[rank - 1](flight)
            elif self.chains is not None and rank == 4:
                self.chains.step(flight, place)
            elif self.chains is not None and self.steps.paths.parent[flight[Col.STREAM]] >= 0:
                self.chains.heard(flight)
                continue
            else:
                if self.steps.paths.connections[flight[Col.STREAM]]:
                    connecting.heard(self.steps, flight)
                retrying.heard(self, flight)
                continue
            self.push(flight, place)
        if self._spare >= 0:
            self.steps.memory.flights.remove(np.array([self._spare]))

    def _through(self, place: int) -> None:
        """Take one row through its node or its ingress server, as the steps do."""
        flight = self.flights[place]
        if self._past_node(flight):
            return
        ipvs_entries.close_idle(self.steps, flight[Col.DUE])
        self._in_matrix(place, self.steps.at_node if flight[Col.STAGE] == Stage.NODE else self.steps.at_ingress)

    def _in_matrix(self, place: int, step: Callable[[Rows], None]) -> None:
        """Take one row through a step that works on the matrix."""
        flights = self.steps.memory.flights
        if place >= len(self.rows) and self._spare < 0:
            self._spare = int(flights.add(1)[0])
        row = self.rows[place] if place < len(self.rows) else self._spare
        flights.m[:, row] = self.flights[place]
        step(np.array([row]))
        self.flights[place] = flights.m[:, row].tolist()

    def _past_node(self, flight: list[int]) -> bool:
        """Take one row through its node where nothing is out of the ordinary: as `Steps.at_node`, in less time."""
        steps, stream, node, t = self.steps, flight[Col.STREAM], flight[Col.NODE], flight[Col.DUE]
        paths, choosers, timing = steps.paths, steps.choosers, steps.timing
        odd = steps.cut is not None or steps.room is not None or bool(paths.flow_port[stream])
        if odd or flight[Col.STAGE] != Stage.NODE:
            return False
        chooser = paths.entries.get_one(stream, node)
        if chooser < 0 or choosers.flat[choosers.offset[choosers.version_at(chooser, t)]] < 0:
            return False
        server, _ = self.pick(flight, chooser, t)
        hop = timing.same_node_ns if int(steps.memory.place[server]) == node else timing.cross_node_ns
        flight[Col.BACK], flight[Col.DUE] = int(paths.to_node[stream]) + hop, t + hop
        if paths.is_l7[stream]:
            flight[Col.INGRESS], flight[Col.STAGE] = server, Stage.INGRESS
            return True
        flight[Col.SERVER0], flight[Col.STAGE], flight[Col.TRIES] = server, Stage.SERVER, 1
        flight[Col.HOP], flight[Col.TRY_START0] = flight[Col.DUE] - flight[Col.START], flight[Col.START]
        return True

    def _try(self, flight: list[int]) -> None:
        steps, t, tries = self.steps, flight[Col.DUE], flight[Col.TRIES]
        if tries:
            self._count_bad(flight)
        if tries or flight[Col.LOST]:
            number = np.array([flight[Col.NUMBER]], dtype=np.int64)
            # The words of a try are those of its place among all tries made, also those not counted.
            words = steps.draws.rows(flight[Col.STREAM], number, tries + flight[Col.LOST])[0]
            flight[Col.BACKEND_WORD], flight[Col.SERVICE_WORD] = words[2:].view(np.int64).tolist()
        ingress = flight[Col.INGRESS]
        chooser = steps.paths.upstream_of.get((flight[Col.STREAM], ingress), -1)
        flight[Col.POOLED_SINCE] = flight[Col.POOLED_USES] = 0
        server, worker, answer = self._choose(flight, chooser, ingress, t)
        flight[Col.SERVER0 + tries] = server
        flight[Col.WORKER0 + tries] = worker
        flight[Col.TRY_START0 + tries] = t
        flight[Col.TRIES] = tries + 1
        if server < 0:
            patience = int(steps.paths.connect_patience[flight[Col.STREAM]])
            wait = {Answer.NO_UPSTREAM: 0, Answer.TIMEOUT: patience, Answer.TABLE_FULL: patience}
            delay = wait.get(answer, 2 * steps.timing.same_node_ns)
            self._fail(flight, answer, t + delay, answer != Answer.NO_UPSTREAM)
            return
        place = steps.memory.place
        same = place[ingress] == place[server]
        flight[Col.HOP] = steps.timing.same_node_ns if same else steps.timing.cross_node_ns
        flight[Col.STAGE] = Stage.SERVER
        flight[Col.DUE] = t + flight[Col.HOP]

    def _choose(self, flight: list[int], chooser: int, ingress: int, t: int) -> tuple[int, int, int]:
        """Return (server or -1, worker of a kept connection or -1, the empty fan's answer)."""
        steps, choosers = self.steps, self.steps.choosers
        if chooser < 0:
            self.picked_slots.append(0)
            return -1, -1, Answer.NO_UPSTREAM
        keeps = bool(steps.paths.keepalive[flight[Col.STREAM]])
        pick = int(choosers.pick[chooser])
        by_peer = pick in PEERS
        if keeps and not by_peer:
            kept = self._kept(flight, ingress, ("chooser", chooser), t)
            if kept is not None:
                return kept.server, kept.worker, Answer.NONE
        if steps.room is not None and not by_peer and self._shut(flight, ingress):
            self.picked_slots.append(0)
            return -1, -1, Answer.TABLE_FULL
        version = choosers.version_at(chooser, t)
        slot, size = int(choosers.offset[version]), int(choosers.size[version])
        scheduler = int(choosers.scheduler[chooser])
        if pick == Pick.ROUND_ROBIN:
            slot += int(choosers.turn[version])
            choosers.turn[version] = (choosers.turn[version] + 1) % size
        elif pick == Pick.EWMA and choosers.flat[slot] >= 0:
            slot += ewma_tries.picked(steps, flight, chooser, choosers.flat[slot : slot + size].tolist(), t)
        elif scheduler >= 0 and choosers.flat[slot] >= 0:
            slot += ((flight[Col.BACKEND_WORD] & _MASK) >> 32) * size >> 32
            slot, place = self._scheduled(scheduler, version, t, slot, flight, flight[Col.TRIES] + 1)
            flight[Col.TURNS] |= packed_try_turn(place, flight[Col.TRIES])
        else:
            slot += ((flight[Col.BACKEND_WORD] & _MASK) >> 32) * size >> 32
        self.picked_choosers.append(chooser)
        self.picked_times.append(t)
        self.picked_slots.append(slot)
        server = int(choosers.flat[slot])
        if keeps and by_peer and server >= 0:
            kept = self._kept(flight, ingress, ("server", server), t)
            if kept is not None:
                return server, kept.worker, Answer.NONE
        if steps.room is not None and by_peer and server >= 0 and self._shut(flight, ingress):
            return -1, -1, Answer.TABLE_FULL
        return server, -1, int(choosers.answer[version])

    def pick(self, flight: list[int], chooser: int, t_ns: int) -> tuple[int, int]:
        """Pick for a call, by the high half of its word or in turn; return (server or -1, the empty fan's answer)."""
        choosers, word = self.steps.choosers, flight[Col.ENTRY_WORD]
        version = choosers.version_at(chooser, t_ns) if chooser >= 0 else 0
        slot = int(choosers.offset[version]) + (((word & _MASK) >> 32) * int(choosers.size[version]) >> 32)
        if chooser >= 0:
            scheduler = int(choosers.scheduler[chooser])
            if scheduler >= 0 and choosers.flat[slot] >= 0:
                slot, place = self._scheduled(scheduler, version, t_ns, slot, flight, 0)
                flight[Col.TURNS] = packed_entry_turn(place)
            self.picked_choosers.append(chooser)
            self.picked_times.append(t_ns)
        self.picked_slots.append(slot)
        return int(choosers.flat[slot]), int(choosers.answer[version])

    def _scheduled(
        self, scheduler: int, version: int, t_ns: int, drawn: int, flight: list[int], part: int
    ) -> tuple[int, int]:
        """Slot and place (from 0) of the server that a virtual server gives to one connection of a request.

        `drawn`: a draw's slot; `part`: 0 for the client's connection, else which try. An affinity entry gives no place:
        -1.
        """
        steps, table = self.steps, self.steps.choosers
        ipvs_entries.close_idle(steps, t_ns)
        server, place, flight[Col.LOADS0 + part] = steps.memory.schedulers.take_one(
            scheduler, t_ns, (flight[Col.STREAM], flight[Col.NUMBER], part), int(table.flat[drawn]), version,
            partial(Connected(steps), scheduler), Listed(table.flat, table.offset, table.size),
        )  # fmt: skip
        return table.slot_of(version, server), place

    def _kept(self, flight: list[int], ingress: int, key: tuple[str, int], t: int) -> Connection | None:
        memory, timing = self.steps.memory, self.steps.timing
        kept = memory.pools.take(ingress, key, t)
        if kept is not None:
            ipvs_entries.from_pool(self.steps, flight, kept.via, kept.server)
            flight[Col.KEPT] |= 1 << flight[Col.TRIES]
            flight[Col.KEPT_PORTS] |= kept.source_port << 16 * flight[Col.TRIES]
            flight[Col.POOLED_SINCE], flight[Col.POOLED_USES] = kept.opened_ns, kept.uses
            same = memory.place[ingress] == memory.place[kept.server]
            if kept.closing(t, timing.same_node_ns if same else timing.cross_node_ns):
                return replace(kept, worker=-1)  # nobody has its other end when the request comes there
        return kept

    def _source_port(self, flight: list[int], last: int) -> int:
        """The port from which the connection of the last try was opened."""
        if flight[Col.KEPT] >> last & 1:
            return flight[Col.KEPT_PORTS] >> 16 * last & 0xFFFF
        pinned = self.steps.paths.upstream_pins.get((flight[Col.STREAM], flight[Col.NUMBER]))
        if pinned and not last + flight[Col.LOST]:
            return pinned
        return ephemeral_port(flight[Col.BACKEND_WORD] & _MASK)

    def _arrive(self, flight: list[int]) -> None:
        steps, memory, t = self.steps, self.steps.memory, flight[Col.DUE]
        last = flight[Col.TRIES] - 1
        server, followed = flight[Col.SERVER0 + last], flight[Col.KEPT] >> last & 1
        # A datagram that follows its conntrack entry is over no connection.
        kept = 0 if steps.paths.flow_port[flight[Col.STREAM]] else followed
        behaviour = memory.behaviour[server]
        over = connecting.used_by(steps, flight)
        if over is not None:
            followed = kept = int(over.established)
            behaviour = np.int64(connecting.meets(over, int(behaviour)))
        elif kept and behaviour == Behaviour.LISTENS and flight[Col.WORKER0 + last] < 0:
            if steps.paths.keepalive[flight[Col.STREAM]]:
                behaviour = np.int64(Behaviour.REFUSES)
        if lost_between_two(steps.cut, self._caller(flight), int(memory.place[server])):
            behaviour = np.int64(Behaviour.SILENT)
        if steps.ports is not None and not followed and self._no_port(flight, server):
            end = flight[Col.TRY_START0 + last] + int(steps.paths.connect_patience[flight[Col.STREAM]])
            self._fail(flight, Answer.NO_PORT, end, True)
            return
        if steps.room is not None and not followed and self._no_room(flight, server):
            end = flight[Col.TRY_START0 + last] + int(steps.paths.connect_patience[flight[Col.STREAM]])
            self._fail(flight, Answer.TABLE_FULL, end, True)
            return
        if behaviour == Behaviour.LISTENS:
            if over is not None:
                over.established, over.dies_ns = True, 0
            self._serve(flight, server, last)
        elif behaviour == Behaviour.HANGS:
            self._wait(flight, server, last, bool(kept))
        elif behaviour == Behaviour.SILENT and not kept and steps.neighbours is not None:
            self._unanswered(flight)
        elif behaviour == Behaviour.SILENT:
            patience = steps.paths.read_patience if kept else steps.paths.connect_patience
            end = flight[Col.TRY_START0 + last] + int(patience[flight[Col.STREAM]])
            if over is not None and kept:
                end = connecting.silent_until(steps, over, flight, end)
            idempotent = bool(steps.paths.idempotent[flight[Col.STREAM]])
            self._fail(flight, Answer.TIMEOUT, end, idempotent or not kept)
        elif not kept:
            self._fail(flight, Answer.REFUSED, t + flight[Col.HOP], True)
        elif over is None and steps.paths.idempotent[flight[Col.STREAM]]:
            self._fail_kept(flight, t + flight[Col.HOP])
        else:
            self._fail(flight, Answer.RESET, t + flight[Col.HOP], False)

    def _unanswered(self, flight: list[int]) -> None:
        """The SYN of the last try gets no answer."""
        last = flight[Col.TRIES] - 1
        asked = (flight[col] for col in (Col.STREAM, Col.INGRESS, Col.NODE, Col.SERVER0 + last, Col.TRY_START0 + last))
        streams, ingress, nodes, servers, began = (np.array([value], dtype=np.int64) for value in asked)
        answers, ends = self.steps.unanswered(streams, ingress, nodes, servers, began)
        self._fail(flight, int(answers[0]), int(ends[0]), True)

    def _no_port(self, flight: list[int], server: int) -> bool:
        """Whether the caller's node finds no source port for the last try."""
        steps, stream, ingress = self.steps, flight[Col.STREAM], flight[Col.INGRESS]
        assert steps.ports is not None
        if ingress >= 0:
            chooser, caller = steps.paths.upstream_of.get((stream, ingress), -1), int(steps.memory.place[ingress])
            word = flight[Col.BACKEND_WORD]
        else:
            caller = flight[Col.NODE]
            chooser, word = steps.paths.entries.get_one(stream, caller), flight[Col.ENTRY_WORD]
        asked = (np.array([value], dtype=np.int64) for value in (chooser, caller, server, flight[Col.DUE], word))
        choosers, callers, servers, times, words = asked
        return bool(steps.ports.none_left(choosers, callers, servers, times, words.view(np.uint64))[0])

    def _no_room(self, flight: list[int], server: int) -> bool:
        """Whether the server's node, another than the caller's, drops the last try for want of room in its table."""
        room, there = self.steps.room, int(self.steps.memory.place[server])
        tries = flight[Col.TRIES] + flight[Col.LOST]
        away = there != self._caller(flight)
        return room is not None and away and room.shut_one(there, flight[Col.STREAM], flight[Col.NUMBER], tries)

    def _shut(self, flight: list[int], ingress: int) -> bool:
        """Whether the ingress' node drops the try that begins, for want of room in its table."""
        room, here = self.steps.room, int(self.steps.memory.place[ingress])
        tries = flight[Col.TRIES] + flight[Col.LOST] + 1
        return room is not None and room.shut_one(here, flight[Col.STREAM], flight[Col.NUMBER], tries)

    def _caller(self, flight: list[int]) -> int:
        """The node that the caller of a try is on, or whose rules sent it."""
        ingress = flight[Col.INGRESS]
        return int(self.steps.memory.place[ingress]) if ingress >= 0 else flight[Col.NODE]

    def _wait(self, flight: list[int], server: int, last: int, kept: bool) -> None:
        """Let a try wait at a hanging server; a new connection only where the accept queue has room."""
        memory, paths, stream = self.steps.memory, self.steps.paths, flight[Col.STREAM]
        began, hang = flight[Col.TRY_START0 + last], memory.hangs[server]
        if not kept and hang.waiting > memory.servers[server].backlog:
            self._fail(flight, Answer.TIMEOUT, began + int(paths.connect_patience[stream]), True)
            return
        hang.waiting += not kept
        over = connecting.used_by(self.steps, flight)
        if over is not None:
            over.established = True
        worker, service = self._drawn(flight, server, last)
        attempt = flight[Col.TRIES] + flight[Col.LOST]
        entry = (stream, flight[Col.NUMBER], attempt, flight[Col.DUE], worker, service, 0)
        hang.add([np.array([value]) for value in entry])
        self._fail(flight, Answer.TIMEOUT, began + int(paths.read_patience[stream]), bool(paths.idempotent[stream]))

    def _drawn(self, flight: list[int], server: int, last: int) -> tuple[int, int]:
        """Worker (that of the kept connection, else drawn; of one queue the first free) and service time of a try."""
        steps, worker = self.steps, flight[Col.WORKER0 + last]
        over = connecting.used_by(steps, flight)
        if steps.memory.servers[server].shared_queue:
            worker = steps.memory.free_first(server)
        elif over is not None:
            worker = over.worker
        elif worker < 0:
            worker = (flight[Col.BACKEND_WORD] & 0xFFFF) * int(steps.memory.n_workers[server]) >> 16
        table = steps.tables[int(steps.server_table[server])]
        return worker, int(table[(flight[Col.SERVICE_WORD] & _MASK) >> 48])

    def _serve(self, flight: list[int], server: int, last: int) -> None:
        memory, t = self.steps.memory, flight[Col.DUE]
        worker, service = self._drawn(flight, server, last)
        flight[Col.WORKER0 + last] = worker
        index = int(memory.first_worker[server]) + worker
        begin = max(t, int(memory.busy_until[index]))
        done = begin + service
        memory.busy_until[index] = done
        if memory.work is not None:
            memory.work[index] += service
        flight[Col.QUEUE], flight[Col.SERVICE], flight[Col.SERVED] = begin - t, service, done
        if self.chains is not None and self.chains.of(flight):
            flight[Col.STAGE], flight[Col.DUE], flight[Col.CALL] = Stage.CALL, done, 0
        else:
            self.answered(flight, done, 200)

    def answered(self, flight: list[int], t_ns: int, status: int) -> None:
        """The server's answer sets out at `t_ns`: say when the caller of the try and the client have it."""
        steps, last = self.steps, flight[Col.TRIES] - 1
        l7 = bool(steps.paths.is_l7[flight[Col.STREAM]])
        end = t_ns + flight[Col.HOP if l7 else Col.BACK]
        flight[Col.ANSWER0 + last], flight[Col.TRY_END0 + last] = Answer.OK, end
        flight[Col.OUT] = end if l7 else 0
        flight[Col.STATUS] = status
        if steps.paths.keepalive[flight[Col.STREAM]]:
            flight[Col.STAGE], flight[Col.DUE] = Stage.RELEASE, end
        else:
            flight[Col.STAGE], flight[Col.DUE] = Stage.ANSWER, end + (flight[Col.BACK] if l7 else 0)

    def _release(self, flight: list[int]) -> None:
        memory, steps, t = self.steps.memory, self.steps, flight[Col.DUE]
        last = flight[Col.TRIES] - 1
        server, ingress = flight[Col.SERVER0 + last], flight[Col.INGRESS]
        if memory.behaviour[server] in (Behaviour.LISTENS, Behaviour.HANGS):
            chooser = steps.paths.upstream_of.get((flight[Col.STREAM], ingress), -1)
            by_peer = chooser < 0 or int(steps.choosers.pick[chooser]) in PEERS
            key = ("server", server) if by_peer else ("chooser", chooser)
            port = self._source_port(flight, last)
            via = ipvs_entries.to_pool(steps, flight)
            idle_ns = memory.servers[server].idle_close_ns
            uses = flight[Col.POOLED_USES]
            opened = flight[Col.POOLED_SINCE if uses else Col.TRY_START0 + last]
            connection = Connection(key, server, flight[Col.WORKER0 + last], t, port, via, idle_ns, opened, uses + 1)
            memory.pools.keep(ingress, connection)
        flight[Col.STAGE], flight[Col.DUE] = Stage.ANSWER, t + flight[Col.BACK]

    def _fail(self, flight: list[int], answer: int, end: int, may_retry: bool) -> None:
        steps, tries, stream = self.steps, flight[Col.TRIES], flight[Col.STREAM]
        flight[Col.ANSWER0 + tries - 1], flight[Col.TRY_END0 + tries - 1] = answer, end
        if not steps.paths.is_l7[stream]:
            status = int(STATUS_OF[answer]) if steps.paths.http_front[stream] else -answer
            flight[Col.STAGE], flight[Col.DUE], flight[Col.STATUS] = Stage.ANSWER, end, status
        elif may_retry and tries < steps.paths.tries[stream]:
            flight[Col.STAGE], flight[Col.DUE] = Stage.TRY, end
        else:
            flight[Col.STAGE], flight[Col.DUE] = Stage.ANSWER, end + flight[Col.BACK]
            flight[Col.STATUS], flight[Col.OUT] = int(STATUS_OF[answer]), end

    def _fail_kept(self, flight: list[int], end: int) -> None:
        """Forget a try that failed on a kept connection; the next one starts at once."""
        last = flight[Col.TRIES] - 1
        self.bad.append((flight[Col.SERVER0 + last], end))
        flight[Col.LOST_SERVER] = flight[Col.SERVER0 + last] + 1
        flight[Col.TRIES], flight[Col.LOST] = last, flight[Col.LOST] + 1
        flight[Col.KEPT] &= ~(1 << last)
        flight[Col.KEPT_PORTS] &= ~(0xFFFF << 16 * last)
        flight[Col.SERVER0 + last] = flight[Col.WORKER0 + last] = -1
        flight[Col.TRY_START0 + last] = 0
        flight[Col.STAGE], flight[Col.DUE] = Stage.TRY, end

    def _count_bad(self, flight: list[int]) -> None:
        last = flight[Col.TRIES] - 1
        if flight[Col.SERVER0 + last] >= 0:
            self.bad.append((flight[Col.SERVER0 + last], flight[Col.TRY_END0 + last]))


def take_tries(steps: Steps, active: Rows, end_ns: int) -> tuple[Rows, list[Int64Array]]:
    """Take every try, arrival and release before `end_ns`, in order of time, and every call.

    Returns:
        `active` and the rows of calls and further attempts that were put in flight; and nothing, as
        `chains.take_chains` does for others.
    """
    flights, calls = steps.memory.flights, bool(steps.paths.calls)
    m = flights.m
    stages = m[Col.STAGE, active]
    ours = np.isin(stages, (Stage.LB, Stage.NODE, Stage.INGRESS, Stage.RELEASE, Stage.TRY, Stage.SERVER))
    if steps.paths.any_connections or steps.paths.any_retry:
        streams = m[Col.STREAM, active]
        ours |= ((steps.paths.connections[streams] > 0) | steps.paths.retries[streams]) & (stages == Stage.ANSWER)
    if calls:
        inner = (stages == Stage.ANSWER) & (steps.paths.parent[m[Col.STREAM, active]] >= 0)
        ours |= (stages == Stage.CALL) | inner
    due = m[Col.DUE, active] < end_ns
    rows = active[ours & due]
    if steps.paths.any_deadline:
        late = (deadlines(steps, active) < end_ns) & (stages != Stage.WAIT)
        rows = active[(ours & due) | late]
    if steps.memory.schedulers.open:
        rows = ipvs_entries.with_ending(steps, rows, end_ns)
    if steps.choosers.n_scored:
        rows = ewma_tries.with_over(steps, rows, end_ns)
    known = np.concatenate([rows, waiting_rows(steps.memory)]) if calls else rows
    if not len(rows) and not (len(known) and steps.paths.any_deadline):
        return active, []
    slab = Eventwise(steps, known, end_ns)
    slab.run()
    columns = np.array(slab.flights, dtype=np.int64).T
    fresh = flights.add(columns.shape[1] - len(known), blank=False)
    flights.m[:, np.concatenate([known, fresh])] = columns
    steps.bins.add(Count.CHOOSER, np.array(slab.picked_choosers, dtype=np.int64), np.array(slab.picked_times))
    steps.choosers.count(np.array(slab.picked_slots, dtype=np.int64))
    bad = np.array(slab.bad, dtype=np.int64).reshape(-1, 2)
    steps.bins.add(Count.SERVER_BAD, bad[:, 0], bad[:, 1])
    steps.ordered_rows += columns.shape[1]
    if slab.chains is None:
        return np.concatenate([active, fresh]), []
    sent = np.array(slab.chains.sent_streams, dtype=np.int64)
    steps.bins.add(Count.STREAM_SENT, sent, np.array(slab.chains.sent_times, dtype=np.int64))
    # Who waits for a call and has a deadline is in two of these.
    return np.unique(np.concatenate([active, known[len(rows) :], fresh])), []
