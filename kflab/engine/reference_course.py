"""The reference's servers: tries, queues, calls and answers of one request."""

import numpy as np

from kflab.draws import duration_table
from kflab.engine.pools import Connection
from kflab.engine.reference_counts import LeastTaker
from kflab.engine.reference_requests import Held, Request, Try
from kflab.engine.reference_retries import Retries
from kflab.engine.types import PEERS, TCP_RETRIES2_NS, Answer, Behaviour, Call, Choice, Pick

FIRST_WAIT_NS = 1_000_000_000
"""After it a SYN is sent again; each further wait is twice the one before, six times in all."""


class Course(Retries):
    """Tries at servers, the calls that these make, and the answers."""

    def _try(self, request: Request, t_ns: int) -> None:
        made, request.pooled = len(request.tries) + request.lost, None
        if made:
            numbers = np.array([request.number], dtype=np.int64)
            request.words = self.draws.rows(request.stream.index, numbers, made)[0].tolist()
        chooser = dict(request.stream.upstreams).get(request.ingress, -1)
        if chooser < 0:
            request.tries.append(Try(-1, Answer.NO_UPSTREAM, t_ns, 0))
            self._fail(request, Answer.NO_UPSTREAM, t_ns, False)
            return
        pick = self.picks.get(chooser)
        if request.stream.keepalive and pick not in PEERS and self._reuse(request, ("chooser", chooser), t_ns):
            return
        version, fan = self._fan(chooser, t_ns)
        if not fan.candidates:
            request.tries.append(Try(-1, fan.answer, t_ns, 0))
            wait = 2 * self.timing.same_node_ns
            wait = self._patience(request.stream) if fan.answer == Answer.TIMEOUT else wait
            wait = 0 if fan.answer == Answer.NO_UPSTREAM else wait
            self._fail(request, fan.answer, t_ns + wait, fan.answer != Answer.NO_UPSTREAM)
            return
        if pick == Pick.EWMA:
            scores = self.scores[chooser]
            self._sync_scores(t_ns)
            tried = {*(one.server for one in request.tries), request.lost_server}
            server = scores.pick(self._run(fan), tried, request.words[Choice.BACKEND] >> 32, t_ns)
        elif pick == Pick.ROUND_ROBIN:
            run = self._run(fan)
            first = self.draws.control_between("round-robin-start", str(chooser), version, 0, len(run))
            taken = self.turns.get((chooser, version), 0)
            self.turns[chooser, version] = taken + 1
            server = run[(first + taken) % len(run)]
        else:
            server = self._choose(chooser, fan, request.words[Choice.BACKEND] >> 32, t_ns, request)
        if pick in PEERS and request.stream.keepalive and self._reuse(request, ("server", server), t_ns):
            return
        self._send(request, server, -1, t_ns)
        taker = self.virtual.get(chooser)
        if isinstance(taker, LeastTaker):
            request.tries[-1].scheduled = taker.log[-1]
            taker.log[-1].this = request.tries[-1]

    def _sync_scores(self, t_ns: int) -> None:
        while self.scores:
            next_ns = {one: scores.next_sync_ns(one, self.fans.get(one, [])) for one, scores in self.scores.items()}
            chooser = min(next_ns, key=lambda one: next_ns[one])
            if next_ns[chooser] > t_ns:
                return
            self.scores[chooser].sync(chooser, self.fans[chooser])

    def _rid(self, request: Request, t_ns: int) -> None:
        """NGINX is rid of a request: the score of its last peer moves."""
        chooser, this = dict(request.stream.upstreams).get(request.ingress, -1), request.last_try
        if request.scored or this is None or this.server < 0 or self.picks.get(chooser) != Pick.EWMA:
            return
        if self.behaviour[request.ingress] != Behaviour.LISTENS:
            return
        request.scored = True
        self._sync_scores(t_ns)
        took_ms = t_ns // 1_000_000 - this.start_ns // 1_000_000
        self.scores[chooser].update(this.server, took_ms / 1000, t_ns // 1_000_000 / 1000)

    def _reuse(self, request: Request, key: tuple[str, int], t_ns: int) -> bool:
        kept = self.pools.take(request.ingress, key, t_ns)
        if kept is None:
            return False
        request.kept |= 1 << len(request.tries)
        request.pooled = kept.opened_ns, kept.uses
        hop, idle = self._hop(self.servers[request.ingress].place, self.servers[kept.server].place), kept.pod_idle_ns
        shut = idle and t_ns + hop >= kept.idle_since_ns - hop + idle
        self._send(request, kept.server, -1 if shut else kept.worker, t_ns)
        taker = self.virtual.get(key[1]) if key[0] == "chooser" else None
        if isinstance(taker, LeastTaker):
            one = request.tries[-1].scheduled = taker.log[kept.via]
            one.request, one.this, one.pooled = request, request.tries[-1], False
        return True

    def _send(self, request: Request, server: int, worker: int, t_ns: int) -> None:
        request.tries.append(Try(server, Answer.NONE, t_ns, 0, worker))
        request.hop_ns = self._hop(self.servers[request.ingress].place, self.servers[server].place)
        self._push(t_ns + request.hop_ns, request, "server")

    def _server(self, request: Request, t_ns: int) -> None:
        this = request.tries[-1]
        behaviour = self._meets(this.server, self._caller(request))
        kept = bool(request.kept >> len(request.tries) - 1 & 1)
        over = request.over
        if over is not None:
            kept = over.up
            if over.up and behaviour != Behaviour.SILENT:
                if over.dead:
                    self._fail(request, Answer.RESET, t_ns + request.hop_ns, False)
                    return
                if behaviour == Behaviour.REFUSES:  # it only stopped listening
                    behaviour = Behaviour.LISTENS
        if kept and over is None and this.worker < 0 and request.is_l7 and behaviour == Behaviour.LISTENS:
            behaviour = Behaviour.REFUSES  # the pod has closed it
        if not kept and self._no_port(request, this.server, t_ns):
            self._fail(request, Answer.NO_PORT, this.start_ns + self._patience(request.stream), True)
        elif behaviour == Behaviour.LISTENS:
            if over is not None:
                over.up, over.unheard_ns = True, float("inf")
            self._serve(request, this, t_ns)
        elif behaviour == Behaviour.HANGS:
            self._wait(request, this, t_ns, kept)
        elif behaviour == Behaviour.SILENT and not kept:
            self._fail(request, *self._unanswered(request, this), True)
        elif behaviour == Behaviour.SILENT:
            end = this.start_ns + self._patience(request.stream, read=True)
            if over is not None:
                limit = request.stream.peer_timeout_ns or TCP_RETRIES2_NS
                over.unheard_ns = min(over.unheard_ns, this.start_ns + limit)
                end = max(t_ns, min(end, int(over.unheard_ns)))
            self._fail(request, Answer.TIMEOUT, end, request.stream.idempotent)
        elif kept:
            self._reset(request, t_ns + request.hop_ns)
        else:
            self._fail(request, Answer.REFUSED, t_ns + request.hop_ns, True)

    def _wait(self, request: Request, this: Try, t_ns: int, kept: bool) -> None:
        hanging = self.hanging[this.server]
        if not kept and hanging.waiting == self.servers[this.server].backlog + 1:
            self._fail(request, Answer.TIMEOUT, this.start_ns + self._patience(request.stream), True)
            return
        hanging.waiting += 0 if kept else 1
        if request.over is not None:
            request.over.up = True
        worker, service = self._drawn(request, this)
        hanging.held.append(Held(request, this, t_ns, worker, service))
        end = this.start_ns + self._patience(request.stream, read=True)
        self._fail(request, Answer.TIMEOUT, end, request.stream.idempotent)

    def _drawn(self, request: Request, this: Try) -> tuple[int, int]:
        """Worker and service time of a try."""
        worker, busy = this.worker, self.busy[this.server]
        if self.servers[this.server].shared_queue:
            worker = busy.index(min(busy))
        elif request.over is not None:
            worker = request.over.worker
        elif worker < 0:
            worker = (request.words[Choice.BACKEND] & 0xFFFF) * len(self.busy[this.server]) >> 16
        params = {name: (p50, p99) for name, p50, p99 in self.timing.service_tables}
        default = (self.timing.service_p50_ns, self.timing.service_p99_ns)
        p50, p99 = params.get(self.servers[this.server].service, default)
        table = duration_table("lognormal", p50_ns=p50, p99_ns=p99)
        return worker, int(table[request.words[Choice.SERVICE] >> 48])

    def _serve(self, request: Request, this: Try, t_ns: int) -> None:
        this.worker, service = self._drawn(request, this)
        busy = self.busy[this.server]
        busy[this.worker] = max(t_ns, busy[this.worker]) + service
        self._served(request, t_ns, service, busy[this.worker])

    def _served(self, request: Request, t_ns: int, service_ns: int, done_ns: int) -> None:
        request.service_ns, request.queue_ns, request.served_ns = service_ns, done_ns - service_ns - t_ns, done_ns
        if self._calls(request):
            request.calls_made = 0
            self._push(done_ns, request, "call")
        else:
            self._answered(request, done_ns, 200)

    def _answered(self, request: Request, t_ns: int, status: int) -> None:
        this = request.tries[-1]
        this.answer, request.calls_made = Answer.OK, None
        if not request.is_l7:
            this.end_ns = t_ns + request.back_ns
            self._finish(request, status, this.end_ns)
            return
        this.end_ns = request.out_ns = t_ns + request.hop_ns
        self._finish(request, status, this.end_ns + request.back_ns)
        self._push(this.end_ns, request, "rid")
        if request.stream.keepalive:
            self._push(this.end_ns, request, "release")

    def _calls(self, request: Request) -> tuple[Call, ...]:
        return dict(request.stream.calls).get(self.servers[request.tries[-1].server].group, ())

    def _call(self, request: Request, t_ns: int) -> None:
        """Start the next call, or answer after the last one."""
        calls, made = self._calls(request), request.calls_made
        assert made is not None
        if made == len(calls):
            self._answered(request, t_ns, 200)
            return
        request.calls_made = made + 1
        stream, which = self.streams[calls[made].stream], len(request.tries) - 1 + request.lost
        number = request.number if request.outer else request.number * 16 + min(which, 15)
        words = self.draws.rows(stream.address, np.array([number], dtype=np.int64))[0].tolist()
        call = Request(stream, number, t_ns, words, self.servers[request.tries[-1].server].place)
        call.outer = request, which
        self.live[stream.index, number] = call
        self._node(call, t_ns)

    def _heard(self, call: Request, t_ns: int) -> None:
        """Go on with the request that a call was made for, if it still waits for it."""
        assert call.outer is not None
        request, which = call.outer
        waits = request.calls_made is not None and len(request.tries) - 1 + request.lost == which
        if not waits or self.live.get((request.stream.index, request.number)) is not request:
            return
        fatal = next(one.fatal for one in self._calls(request) if one.stream == call.stream.index)
        if call.status != 200 and fatal:
            self._answered(request, t_ns, 500)
        else:
            self._push(t_ns, request, "call")

    def _release(self, request: Request, t_ns: int) -> None:
        this = request.tries[-1]
        if self.behaviour[this.server] in (Behaviour.LISTENS, Behaviour.HANGS):
            chooser = dict(request.stream.upstreams)[request.ingress]
            key = ("server", this.server) if self.picks.get(chooser) in PEERS else ("chooser", chooser)
            taker, via = self.virtual.get(chooser), -1
            if isinstance(taker, LeastTaker) and this.scheduled is not None:
                via, this.scheduled.pooled = taker.log.index(this.scheduled), True
            idle = self.servers[this.server].idle_close_ns
            since, uses = request.pooled or (this.start_ns, 0)
            connection = Connection(
                key, this.server, this.worker, t_ns, via=via, pod_idle_ns=idle, opened_ns=since, uses=uses + 1
            )
            self.pools.keep(request.ingress, connection)

    def _fail(self, request: Request, answer: int, end_ns: int, may_retry: bool) -> None:
        request.epoch += 1
        request.tries[-1].answer, request.tries[-1].end_ns = answer, end_ns
        request.served_ns, request.queue_ns, request.service_ns, request.out_ns = None, 0, 0, None
        request.calls_made = request.status = None
        if not request.is_l7:
            self._finish(request, self._code(answer) if request.stream.http_front else -answer, end_ns)
        elif may_retry and len(request.tries) < request.stream.tries:
            self._push(end_ns, request, "try")
        else:
            request.out_ns = end_ns
            self._push(end_ns, request, "rid")
            self._finish(request, self._code(answer), end_ns + request.back_ns)

    def _reset(self, request: Request, end_ns: int) -> None:
        """A connection in use is reset; on a kept one an idempotent request tries again for nothing."""
        if request.over is None and request.kept >> len(request.tries) - 1 & 1 and request.stream.idempotent:
            request.epoch += 1
            request.lost_server = request.tries[-1].server
            scheduled = request.tries.pop().scheduled
            if scheduled is not None:
                scheduled.broken_ns = end_ns
            request.kept &= ~(1 << len(request.tries))
            request.lost += 1
            request.served_ns, request.queue_ns, request.service_ns, request.out_ns = None, 0, 0, None
            request.calls_made = request.status = None
            self._push(end_ns, request, "try")
        else:
            self._fail(request, Answer.RESET, end_ns, request.stream.idempotent)

    def _answer(self, request: Request, t_ns: int) -> None:
        del self.live[request.stream.index, request.number]
        if request.over is not None and request.status is not None and request.status < 0:
            place = self._pool_place(request)
            if self.kept.get(place) is request.over:
                del self.kept[place]
        if request.outer:
            self._heard(request, t_ns)
        blank = Try(-1, Answer.NONE, 0, 0)
        tries = (request.tries + [blank] * 3)[:3]
        self.rows.append(
            (
                *(request.stream.index, request.number, request.start_ns, t_ns, request.status, len(request.tries)),
                *(request.node, request.ingress, request.queue_ns, request.service_ns, request.kept, request.lost),
                *((one.server, int(one.answer), one.start_ns, one.end_ns, one.worker) for one in tries),
            )
        )

        self._again(request, t_ns)

    def _unanswered(self, request: Request, this: Try) -> tuple[int, int]:
        """How a connect ends whose SYNs get no answer, and when."""
        given_up, caller = this.start_ns + self._patience(request.stream), self._caller(request)
        inside = request.is_l7 or request.stream.kind in ("pod", "call")
        if self.neighbours is None or not inside or request.stream.udp or not self._lost(this.server, caller):
            return Answer.TIMEOUT, given_up
        pair = np.array([caller]), np.array([self.servers[this.server].place])
        told = int(self.neighbours.failed_ns(*pair)[0])
        syn, wait = this.start_ns, FIRST_WAIT_NS
        while syn < told:
            if wait > 32 * FIRST_WAIT_NS:
                return Answer.TIMEOUT, given_up
            syn, wait = syn + wait, 2 * wait
        while told <= syn:
            told += self.neighbours.probes_ns
        return (Answer.UNREACHABLE, told) if told < given_up else (Answer.TIMEOUT, given_up)
