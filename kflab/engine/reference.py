"""The same semantics as `engine`, one request and one event at a time: slow, plain, the other half of property tests.

Shared with the engine are only the draws, the duration tables, the port and hash functions and the pools; everything
that happens to a request is written anew, as events on one heap in order of (time, rank, stream, number). Each file
beside this one adds what is next on a request's way: `reference_clock`, `reference_way`, `reference_retries`,
`reference_course`; here are the changes that come from outside.
"""

from kflab.engine.arrivals import FRACTION_BITS, Rate
from kflab.engine.reference_course import Course
from kflab.engine.reference_requests import Hanging, Held, Request
from kflab.engine.types import Answer, Behaviour


class Reference(Course):
    """Counterpart of `engine.Engine`; rows of finished requests are in `rows`."""

    def set_rate(self, stream: int, rate_rps: float) -> None:
        """Change a rate now (from a rate above 0 to a rate above 0)."""
        now = self.now_ns << FRACTION_BITS
        old, new = self._rates[stream], Rate.of(rate_rps)
        self._next[stream] = now + (self._next[stream] - now) * new.mean // old.mean
        self._rates[stream] = new

    def behave(self, server: int, behaviour: int, drain: bool = False) -> None:
        """Change a server's behaviour now."""
        before, self.behaviour[server] = self.behaviour[server], behaviour
        now = self.now_ns
        if behaviour == Behaviour.HANGS:
            if before != behaviour:
                self._hang(server, now)
            return
        if before == Behaviour.HANGS:
            self._leave(server, Behaviour.LISTENS if drain else behaviour, now)
        if behaviour == Behaviour.LISTENS:
            return
        if drain:
            self.pools.drop_server(server, now)
            return
        for request in list(self.live.values()):
            this = request.last_try
            served = request.being_served(now)
            if this and this.server == server and served:
                if behaviour == Behaviour.SILENT:
                    end = max(now, this.start_ns + self._patience(request.stream, read=True))
                    self._fail(request, Answer.TIMEOUT, end, request.stream.idempotent)
                else:
                    self._reset(request, now + (request.hop_ns if request.is_l7 else request.back_ns))
        for request in list(self.live.values()):
            held = request.at_ingress(now)
            if request.ingress == server and held:
                self._lose_ingress(request, behaviour, now)
        self.busy[server] = [min(busy, now) for busy in self.busy[server]]
        self.pools.drop_ingress(server, now)
        self._lose_scores(server)
        if behaviour == Behaviour.REFUSES:
            self.pools.drop_server(server, now)
            there = self.servers[server].place
            known = {id(kept): kept for kept in self.kept.values()}
            known |= {id(request.over): request.over for request in self.live.values() if request.over is not None}
            for kept in known.values():
                if kept.server == server and kept.up:
                    kept.dead = True
                    if not self._lost(server, kept.place):
                        kept.until_ns = min(kept.until_ns, now + self._hop(kept.place, there))

    def _lose_scores(self, ingress: int) -> None:
        for stream in self.streams:
            scores = self.scores.get(dict(stream.upstreams).get(ingress, -1))
            if scores is not None:
                scores.ewma.clear()
                scores.touched_s.clear()

    def _hang(self, server: int, now: int) -> None:
        """Everything that it works on stands still."""
        hanging = self.hanging[server] = Hanging(now)
        for request in self.live.values():
            this = request.last_try
            if not this or this.server != server or request.served_ns is None:
                continue
            if request.served_ns > now or request.calls_made is not None:
                arrival = request.served_ns - request.service_ns - request.queue_ns
                held = Held(request, this, arrival, this.worker, request.service_ns, request.served_ns)
                held.calling = request.served_ns <= now
                hanging.held.append(held)
        for held in hanging.held:
            end = max(now, held.this.start_ns + self._patience(held.request.stream, read=True))
            self._fail(held.request, Answer.TIMEOUT, end, held.request.stream.idempotent)

    def _leave(self, server: int, behaviour: int, now: int) -> None:
        """It goes on where it stood still, or its kernel resets all connections, or nobody says anything any more."""
        hanging, busy = self.hanging.pop(server), self.busy[server]
        live = [
            held for held in hanging.held
            if held.request.tries and held.request.tries[-1] is held.this and held.this.answer == Answer.TIMEOUT
            and held.this.end_ns > now and not self._lost(server, self._caller(held.request))
        ]  # fmt: skip
        if behaviour == Behaviour.REFUSES:
            for held in live:
                request = held.request
                self._reset(request, now + (request.hop_ns if request.is_l7 else request.back_ns))
        if behaviour != Behaviour.LISTENS:
            return
        self.busy[server] = busy = [now + max(0, until - hanging.since_ns) for until in busy]
        unread = [held for held in hanging.held if held.done_ns is None]
        unread.sort(key=lambda held: (held.arrival_ns, held.request.stream.index, held.request.number))
        for held in hanging.held:
            if held.done_ns is not None:
                held.done_ns += now - hanging.since_ns
        for held in unread:
            if self.servers[server].shared_queue:
                held.worker = busy.index(min(busy))
            held.done_ns = busy[held.worker] = busy[held.worker] + held.service_ns
        for held in live:
            request, done = held.request, held.done_ns
            assert done is not None
            way = request.hop_ns if request.is_l7 else request.back_ns
            if not held.calling and done + way < held.this.end_ns:
                request.epoch += 1
                held.this.worker, held.this.answer, held.this.end_ns = held.worker, Answer.NONE, 0
                self._served(request, held.arrival_ns, held.service_ns, done)

    def cut(self, place: int, off: bool) -> None:
        """Cut a place off now, or let everything pass again."""
        if self.neighbours is not None:
            self.neighbours.cut(place, off, self.now_ns)
        if not off:
            self.off.discard(place)
            return
        self.off.add(place)
        now = self.now_ns
        for request in list(self.live.values()):
            this = request.last_try
            served = request.being_served(now)
            if this is None or this.server < 0 or not served:
                continue
            caller, there = self._caller(request), self.servers[this.server].place
            outside = request.stream.kind in ("l4", "node") and request.node == place
            if outside or (caller != there and place in (caller, there)):
                end = max(now, this.start_ns + self._patience(request.stream, read=True))
                self._fail(request, Answer.TIMEOUT, end, request.stream.idempotent)
        for request in list(self.live.values()):
            held = request.at_ingress(now)
            if held and place in (request.node, self.servers[request.ingress].place):
                self._lose_ingress(request, Behaviour.SILENT, now)

    def end_client(self, stream: int) -> None:
        """The process that sends a stream's requests ends, and what it remembered goes with it."""
        for request in [request for request in self.live.values() if request.stream.index == stream]:
            if request.start_ns > self.now_ns and request.lookup is not None:
                request.start_ns = request.first_ns
            elif request.start_ns > self.now_ns:  # an attempt that it waited to make
                request.start_ns, request.node = self.now_ns, request.stream.place
            self._giveup(request, self.now_ns, Answer.CLIENT_GONE)
        for place in [place for place in self.kept if place[0] == stream]:
            del self.kept[place]
        self.sent.pop(stream, None)
        self.again.pop(stream, None)

    def end_flows(self, lb: int, place: int, server: int, silent: bool) -> None:
        """A load balancer ends its flows to a node, or to a server."""
        now, way = self.now_ns, self.timing.client_lb_ns
        for request in list(self.live.values()):
            this = request.last_try
            if this is None or request.is_l7 or request.stream.lb != lb:
                continue
            if (this.server != server) if server >= 0 else (request.node != place):
                continue
            served = request.being_served(now)
            waits = this.answer == Answer.TIMEOUT and this.worker >= 0 and this.end_ns > now + way
            if silent and served:
                end = max(now, this.start_ns + self._patience(request.stream, read=True))
                self._fail(request, Answer.TIMEOUT, end, False)
            elif not silent and (served or waits):
                self._fail(request, Answer.RESET, now + way, False)
        for request in list(self.live.values()):
            held = request.at_ingress(now)
            if server < 0 and held and request.stream.lb == lb and request.node == place:
                self._lose_ingress(request, Behaviour.SILENT if silent else Behaviour.REFUSES, now)
                if not silent:
                    request.epoch += 1
                    self._finish(request, -Answer.RESET, now + way)

    def _lose_ingress(self, request: Request, behaviour: int, now: int) -> None:
        request.epoch += 1
        if request.tries and (request.tries[-1].end_ns > now or request.tries[-1].end_ns == 0):
            request.tries[-1].answer, request.tries[-1].end_ns = Answer.NONE, now
        request.served_ns, request.queue_ns, request.service_ns, request.out_ns = None, 0, 0, now
        request.calls_made = None
        if behaviour == Behaviour.SILENT:
            patient = bool(request.stream.timeout_ns or request.stream.attempt_timeout_ns)
            patience = 1 << 60 if patient else self.timing.read_timeout_ns
            self._finish(request, -Answer.TIMEOUT, max(now, request.start_ns + patience))
        else:
            self._finish(request, -Answer.RESET, now + request.back_ns)
