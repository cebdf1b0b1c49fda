"""The reference's way in: from the client by name, load balancer and node to a server or an ingress."""

import numpy as np

from kflab.engine.addresses import ephemeral_ports, flow_hashes, flow_salt
from kflab.engine.reference_clock import Clock
from kflab.engine.reference_counts import LeastTaker
from kflab.engine.reference_lookups import Lookup, syn_wait_ns
from kflab.engine.reference_requests import Kept, Request, Try
from kflab.engine.snat import ahead, attempts
from kflab.engine.types import Answer, Behaviour, Choice, Fan, Pick, Stream


class WayIn(Clock):
    """Names, the load balancer, the client's node and the ingress: a request comes to its first server."""

    def _fan(self, chooser: int, t_ns: int) -> tuple[int, Fan]:
        found = (-1, Fan(answer=Answer.TIMEOUT))
        for version, (from_ns, fan) in enumerate(self.fans.get(chooser, [])):
            if from_ns <= t_ns:
                found = (version, fan)
        return found

    @staticmethod
    def _run(fan: Fan) -> list[int]:
        divisor = int(np.gcd.reduce(fan.weights))
        return [c for c, weight in zip(fan.candidates, fan.weights, strict=True) for _ in range(weight // divisor)]

    def _draw(self, fan: Fan, u32: int) -> int:
        run = self._run(fan)
        return run[u32 * len(run) >> 32]

    def _choose(self, chooser: int, fan: Fan, u32: int, t_ns: int, request: Request) -> int:
        """By affinity, by the virtual server that has the chooser, or drawn."""
        if chooser in self.recent and fan.candidates:
            return self.recent[chooser].take(t_ns, fan.candidates, self._draw(fan, u32))
        taker = self.virtual.get(chooser)
        if isinstance(taker, LeastTaker):
            return taker.take_for(t_ns, request, self.pools)
        return taker.take(t_ns) if taker is not None else self._draw(fan, u32)

    def _to_node(self, stream: Stream) -> int:
        if stream.kind in ("pod", "call"):
            return 0
        return self.timing.client_lb_ns + (0 if stream.kind == "node" else self.timing.lb_node_ns)

    def _hop(self, a: int, b: int) -> int:
        return self.timing.same_node_ns if a == b else self.timing.cross_node_ns

    def _start(self, request: Request, t_ns: int) -> None:
        if request.stream.kind in ("l7", "l4"):
            self._push(t_ns + self.timing.client_lb_ns, request, "lb")
            return
        request.node = request.stream.place
        if request.stream.names:
            timing = self.timing
            request.lookup = Lookup(self.draws, request.stream, request.number, timing.dns_ns, timing.dns_timeout_ns)
            self._push(t_ns, request, "lookup")
        elif request.stream.lost_per_million:
            self._connect(request, t_ns)
        else:
            self._push(t_ns + self._to_node(request.stream), request, "node")

    def _lookup(self, request: Request, t_ns: int) -> None:
        lookup = request.lookup
        assert lookup is not None
        t_ns = lookup.ask(t_ns, lambda at_ns, u32: self._at_dns(request, at_ns, u32))
        if lookup.failed:
            self._finish(request, -Answer.NO_NAME, t_ns)
        elif lookup.done:
            request.start_ns = t_ns
            self._connect(request, t_ns)
        else:
            self._push(t_ns, request, "lookup")

    def _at_dns(self, request: Request, t_ns: int, u32: int) -> tuple[int, int]:
        """What a query meets, and the way there."""
        _, fan = self._fan(dict(request.stream.dns).get(request.node, -1), t_ns)
        if not fan.candidates:
            return (Behaviour.REFUSES if fan.answer == Answer.REJECTED else Behaviour.SILENT), 0
        server = self._draw(fan, u32)
        return self._meets(server, request.node), self._hop(request.node, self.servers[server].place)

    def _connect(self, request: Request, t_ns: int) -> None:
        """The SYN sets out, as often as it takes."""
        wait = syn_wait_ns(self.draws, request.stream, request.number)
        if wait is None or wait >= self._dialling(request.stream):
            self._turned_away(request, Answer.SYN_LOST, t_ns)
            return
        request.waited_ns = wait
        self._push(t_ns + wait, request, "node")

    def _lb(self, request: Request, t_ns: int) -> None:
        stream = request.stream
        if stream.front_answer:
            self._finish(request, stream.front_answer, t_ns + self.timing.client_lb_ns)
            return
        _, fan = self._fan(stream.lb, t_ns)
        if not fan.candidates:
            self._turned_away(request, fan.answer, t_ns + self.timing.client_lb_ns)
            return
        bits = request.words[Choice.ARRIVAL] & 0xFFFFFFFF
        if self.picks.get(stream.lb) == Pick.FLOW_HASH:
            ports = ephemeral_ports(np.array([request.words[Choice.ENTRY]], dtype=np.uint64))
            for number, port, _ in stream.pinned_ports:
                if number == request.number:
                    ports[0] = port
            salt = np.array([flow_salt(stream.client, stream.destination)], dtype=np.uint64)
            bits = int(flow_hashes(salt, ports)[0])
        request.node = self._draw(fan, bits)
        self._push(t_ns + self.timing.lb_node_ns, request, "node")

    def _turned_away(self, request: Request, answer: int, heard_ns: int) -> None:
        if answer in (Answer.TIMEOUT, Answer.SYN_LOST):
            heard_ns = request.start_ns + self._dialling(request.stream)
        if not request.is_l7:
            request.tries.append(Try(-1, answer, request.start_ns, heard_ns))
        self._finish(request, self._code(answer) if request.stream.http_front else -answer, heard_ns)

    def _patience(self, stream: Stream, *, read: bool = False) -> int:
        """From the start of a try until its caller hears that nobody answered it."""
        proxied = stream.kind == "l7" or stream.http_front
        if read and not proxied and (stream.timeout_ns or stream.attempt_timeout_ns):
            return 1 << 60
        if read:
            own = stream.read_timeout_ns or self.timing.read_timeout_ns
        elif proxied:
            own = stream.connect_timeout_ns or self.timing.connect_timeout_ns
        else:
            own = stream.dial_timeout_ns or stream.connect_timeout_ns or self.timing.connect_timeout_ns
        return own + (2 * self.timing.client_lb_ns if stream.http_front else 0)

    def _dialling(self, stream: Stream) -> int:
        """How long the client waits for its own connection."""
        if stream.kind != "l7":
            return self._patience(stream)
        return stream.dial_timeout_ns or self.timing.connect_timeout_ns

    @staticmethod
    def _code(answer: int) -> int:
        """What an HTTP proxy answers for a try that ended so."""
        return {Answer.TIMEOUT: 504, Answer.NO_PORT: 504, Answer.NO_UPSTREAM: 503}.get(answer, 502)

    def _node(self, request: Request, t_ns: int) -> None:
        stream = request.stream
        if request.node in self.off and stream.kind not in ("pod", "call"):
            self._turned_away(request, Answer.TIMEOUT, 0)
            return
        server = self._over_kept(request, t_ns) if stream.connections else -1
        if server < 0:
            _, fan = self._fan(dict(stream.entries).get(request.node, -1), t_ns)
            if not fan.candidates:
                self._turned_away(request, fan.answer, t_ns + self._to_node(stream))
                return
            server = self._choose(
                dict(stream.entries)[request.node], fan, request.words[Choice.ENTRY] >> 32, t_ns, request
            )
            if stream.connections:
                self._open(request, server, t_ns)
        hop = self._hop(request.node, self.servers[server].place)
        request.back_ns = self._to_node(stream) + hop
        if request.is_l7:
            request.ingress = server
            self._push(t_ns + hop, request, "ingress")
        else:
            request.hop_ns = t_ns + hop - request.start_ns - request.waited_ns
            request.tries.append(Try(server, Answer.NONE, request.start_ns, 0))
            self._push(t_ns + hop, request, "server")

    def _pool_place(self, request: Request) -> tuple[int, int]:
        low = request.words[Choice.ARRIVAL] % (1 << 32)
        return request.stream.index, low * request.stream.connections // (1 << 32)

    def _over_kept(self, request: Request, t_ns: int) -> int:
        """Take the open connection of the request's place in the pool; its server, or -1 without one."""
        kept = self.kept.get(self._pool_place(request))
        if kept is None or t_ns >= min(kept.until_ns, kept.unheard_ns) or kept.place != request.node:
            return -1
        request.over, request.kept = kept, 1
        return kept.server

    def _open(self, request: Request, server: int, t_ns: int) -> None:
        word, age = request.words[Choice.BACKEND], request.stream.connection_age_ns
        until: float = float("inf")
        if age:
            until = t_ns + age - age // 10 + (word >> 32) * (2 * (age // 10)) // (1 << 32)
        worker = (word & 0xFFFF) * len(self.busy[server]) >> 16
        request.over = self.kept[self._pool_place(request)] = Kept(server, request.node, worker, until)

    def _no_port(self, request: Request, server: int, t_ns: int) -> bool:
        """Whether the search for a source port fails, port by port as nf_nat_l4proto_unique_tuple goes."""
        stream, trying = request.stream, bool(request.tries) and request.is_l7
        caller = self.servers[request.ingress].place if trying else request.node
        ways = dict(stream.upstreams) if trying else dict(stream.entries)
        chooser = ways.get(request.ingress if trying else caller, -1)
        table = self.ports.get((caller, server))
        if table is None or (chooser, server) not in self.masqueraded:
            return False
        word = np.array([request.words[Choice.BACKEND if trying else Choice.ENTRY]], dtype=np.uint64)
        ports, luck = attempts(word)[0].tolist(), ahead(word)[0].tolist()
        window, done = 128, 0
        while window >= 8:
            for k in range(window):
                port = ports[done + k]
                if table.until[port] <= t_ns:
                    return False
                if self.evicts and window - k <= 32 and table.closed[port] and luck[done + k]:
                    return False
            window, done = window // 2, done + window
        return True

    def _ingress(self, request: Request, t_ns: int) -> None:
        if self._no_port(request, request.ingress, t_ns):
            self._finish(request, -Answer.NO_PORT, request.start_ns + self._dialling(request.stream))
            return
        behaviour = self._meets(request.ingress, request.node)
        if behaviour == Behaviour.REFUSES:
            self._finish(request, -Answer.REFUSED, t_ns + request.back_ns)
        elif behaviour == Behaviour.SILENT:
            self._finish(request, -Answer.TIMEOUT, request.start_ns + self._dialling(request.stream))
        else:
            request.admitted = True
            ready = t_ns + self.timing.nginx_ns
            if request.stream.no_route:
                request.out_ns = ready
                self._finish(request, 404, ready + request.back_ns)
            else:
                self._push(ready, request, "try")

    def _caller(self, request: Request) -> int:
        return self.servers[request.ingress].place if request.is_l7 else request.node

    def _meets(self, server: int, caller: int) -> int:
        return Behaviour.SILENT if self._lost(server, caller) else self.behaviour[server]

    def _lost(self, server: int, caller: int) -> bool:
        """Whether nothing passes between a server and a caller's place."""
        there = self.servers[server].place
        return there != caller and (there in self.off or caller in self.off)
