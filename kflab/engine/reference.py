"""The same semantics as `engine`, one request and one event at a time: slow, plain, the other half of property tests.

Shared with the engine are only the draws, the duration tables, the port and hash functions and the pools; everything
that happens to a request is written anew here, as events on one heap in order of (time, rank, stream, number).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import heappop, heappush

import numpy as np

from kflab.draws import Draws, duration_table
from kflab.engine.addresses import ephemeral_ports, flow_hashes, flow_salt
from kflab.engine.arrivals import FRACTION_BITS, Rate, unit_gaps
from kflab.engine.neighbours import PROBES_NS, Neighbours
from kflab.engine.pools import Connection, Pools
from kflab.engine.reference_affinity import RecentLists
from kflab.engine.reference_counts import LeastTaker, Scheduled
from kflab.engine.reference_lookups import Lookup, syn_wait_ns
from kflab.engine.reference_turns import TurnTaker
from kflab.engine.snat import PortTable, ahead, attempts
from kflab.engine.types import TCP_RETRIES2_NS, Answer, Behaviour, Call, Choice, Fan, Pick, Server, Stream, Timing

_BLOCK = 64

FIRST_WAIT_NS = 1_000_000_000
"""After it a SYN is sent again; each further wait is twice the one before, six times in all."""


@dataclass(slots=True)
class Try:
    """One try, as it is recorded."""

    server: int
    answer: int
    start_ns: int
    end_ns: int
    worker: int = -1
    scheduled: Scheduled | None = None
    """The connection that a virtual server counts."""


@dataclass(slots=True)
class Request:
    """One request."""

    stream: Stream
    number: int
    start_ns: int
    words: list[int]
    node: int = -1
    ingress: int = -1
    admitted: bool = False
    """The ingress server has it."""
    back_ns: int = 0
    hop_ns: int = 0
    tries: list[Try] = field(default_factory=list)
    served_ns: int | None = None
    out_ns: int | None = None
    """When the ingress was rid of it."""
    queue_ns: int = 0
    service_ns: int = 0
    kept: int = 0
    lost: int = 0
    status: int | None = None
    finish_ns: int = 0
    """When the client knows, once there is a status."""
    calls_made: int | None = None
    """How many calls the server has started; None unless it is making calls."""
    outer: "tuple[Request, int] | None" = None
    """A call: the request it is made for, and which of its tries."""
    lookup: Lookup | None = None
    waited_ns: int = 0
    """How long after its first SYN the one set out that arrived."""
    over: "Kept | None" = None
    """The connection that it goes over, where its client keeps some."""
    first_ns: int = 0
    """When the first attempt of the same request began."""
    epoch: int = 0
    """Events of an older epoch no longer count: its course was changed."""

    @property
    def is_l7(self) -> bool:
        return self.stream.kind == "l7"


@dataclass(slots=True)
class Kept:
    """A connection that a client keeps."""

    server: int
    place: int
    worker: int
    until_ns: float
    up: bool = False
    """The server took it."""
    dead: bool = False
    """The process that took it is gone."""
    unheard_ns: float = float("inf")
    """Until when its packets may go unacknowledged."""


@dataclass(slots=True)
class Held:
    """A try at a hanging server."""

    request: Request
    this: Try
    arrival_ns: int
    worker: int
    service_ns: int
    done_ns: int | None = None
    """When it would have been done; None: not read yet."""
    calling: bool = False
    """It had made calls already: their answers are lost on it."""


@dataclass(slots=True)
class Hanging:
    """A hanging server."""

    since_ns: int
    waiting: int = 0
    held: list[Held] = field(default_factory=list)


Row = tuple[object, ...]
_RANK = {"start": 0, "lookup": 0, "lb": 0, "node": 0, "ingress": 0, "release": 1, "try": 2, "server": 3, "call": 4,
         "answer": 5,
         "giveup": 6}  # fmt: skip


class Reference:
    """Counterpart of `engine.Engine`; rows of finished requests are in `rows`."""

    def __init__(self, draws: Draws, timing: Timing, streams: Sequence[Stream], servers: Sequence[Server]) -> None:
        self.draws, self.timing = draws, timing
        self.streams, self.servers = list(streams), list(servers)
        self.behaviour = [Behaviour.LISTENS for _ in servers]
        self.busy = [[0] * server.workers for server in servers]
        self.fans: dict[int, list[tuple[int, Fan]]] = {}
        self.turns: dict[tuple[int, int], int] = {}
        self.picks: dict[int, int] = {}
        self.virtual: dict[int, TurnTaker] = {}
        """Chooser → the virtual server that picks for it."""
        self.recent: dict[int, RecentLists] = {}
        """Chooser → the lists of callers that affinity keeps for it."""
        self.pools = Pools()
        self.kept: dict[tuple[int, int], Kept] = {}
        """(stream, place in its pool) → the connection for the next request."""
        self.hanging: dict[int, Hanging] = {}
        self.off: set[int] = set()
        """Places that nothing passes to or from."""
        self.neighbours: Neighbours | None = None
        self.ports: dict[tuple[int, int], PortTable] = {}
        """(place, server) → source ports of masqueraded connections."""
        self.masqueraded: set[tuple[int, int]] = set()
        """(chooser, server)."""
        self.evicts = False
        self.sent: dict[int, list[int]] = {}
        """Stream → when its requests began."""
        self.again: dict[int, list[int]] = {}
        """Stream → when its budget paid for a retry."""
        self.live: dict[tuple[int, int], Request] = {}
        self.rows: list[Row] = []
        self.now_ns = 0
        self._heap: list[tuple[int, int, int, int, int, str]] = []
        self._blocks: dict[tuple[int, int], list[list[int]]] = {}
        self._unit = unit_gaps().tolist()
        self._rates = [Rate.of(stream.rate_rps) for stream in streams]
        self._next = [0] * len(self.streams)
        """Start of the next request of each stream, in 2⁻¹⁰ ns."""
        self._numbers = [0] * len(self.streams)
        for stream in self.streams:
            self._schedule(stream.index)

    def learn(self, chooser: int, from_ns: int, fan: Fan) -> None:
        versions = self.fans.setdefault(chooser, [])
        if not versions or versions[-1][1] != fan:
            versions.append((from_ns, fan))

    def set_pick(self, chooser: int, pick: int) -> None:
        self.picks[chooser] = pick

    def _words(self, stream: int, number: int) -> list[int]:
        key = (stream, number // _BLOCK)
        if key not in self._blocks:
            self._blocks[key] = self.draws.block(stream, key[1] * _BLOCK, _BLOCK).tolist()
        return self._blocks[key][number % _BLOCK]

    def _schedule(self, stream: int) -> None:
        if self._rates[stream].mean:
            unit = self._unit[self._words(stream, self._numbers[stream])[Choice.ARRIVAL] >> 48]
            self._next[stream] += self._rates[stream].gap(unit)

    def _push(self, t_ns: int, request: Request, what: str) -> None:
        key = (t_ns, _RANK[what], request.stream.index, request.number, request.epoch, what)
        heappush(self._heap, key)

    def advance(self, to_ns: int) -> None:
        for stream in self.streams:
            index = stream.index
            while self._rates[index].mean and self._next[index] >> FRACTION_BITS < to_ns:
                start, number = self._next[index] >> FRACTION_BITS, self._numbers[index]
                request = Request(stream, number, start, list(self._words(index, number)), first_ns=start)
                self._enter(request)
                self.sent.setdefault(index, []).append(start)
                self._numbers[index] += 1
                self._schedule(index)
        while self._heap and self._heap[0][0] < to_ns:
            t_ns, _, stream_index, number, epoch, what = heappop(self._heap)
            found = self.live.get((stream_index, number))
            if found is not None and (found.epoch == epoch or what == "giveup"):
                getattr(self, f"_{what}")(found, t_ns)
        self.now_ns = to_ns

    def _enter(self, request: Request) -> None:
        self.live[request.stream.index, request.number] = request
        self._push(request.start_ns, request, "start")
        own, whole = request.stream.attempt_timeout_ns, request.stream.timeout_ns
        ends = [request.start_ns + own] * (own > 0) + [request.first_ns + whole] * (whole > 0)
        if ends:
            self._push(min(ends), request, "giveup")

    # The way in -----------------------------------------------------------------------------------------------------

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
            return taker.take_for(t_ns, request, self.pools, self.timing.keepalive_idle_ns)
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
            request.lookup = Lookup(self.draws, request.stream, request.number, self.timing.dns_ns)
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
        return stream.dial_timeout_ns or stream.connect_timeout_ns or self.timing.connect_timeout_ns

    @staticmethod
    def _code(answer: int) -> int:
        """What an HTTP proxy answers for a try that ended so."""
        return {Answer.TIMEOUT: 504, Answer.NO_PORT: 504, Answer.NO_UPSTREAM: 503}.get(answer, 502)

    def _finish(self, request: Request, status: int, t_ns: int) -> None:
        request.status, request.finish_ns = status, t_ns
        self._push(t_ns, request, "answer")

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

    # Tries ----------------------------------------------------------------------------------------------------------

    def _try(self, request: Request, t_ns: int) -> None:
        made = len(request.tries) + request.lost
        if made:
            numbers = np.array([request.number], dtype=np.int64)
            request.words = self.draws.rows(request.stream.index, numbers, made)[0].tolist()
        chooser = dict(request.stream.upstreams).get(request.ingress, -1)
        if chooser < 0:
            request.tries.append(Try(-1, Answer.NO_UPSTREAM, t_ns, 0))
            self._fail(request, Answer.NO_UPSTREAM, t_ns, False)
            return
        in_turn = self.picks.get(chooser) == Pick.ROUND_ROBIN
        if request.stream.keepalive and not in_turn and self._reuse(request, ("chooser", chooser), t_ns):
            return
        version, fan = self._fan(chooser, t_ns)
        if not fan.candidates:
            request.tries.append(Try(-1, fan.answer, t_ns, 0))
            wait = 2 * self.timing.same_node_ns
            wait = self.timing.connect_timeout_ns if fan.answer == Answer.TIMEOUT else wait
            wait = 0 if fan.answer == Answer.NO_UPSTREAM else wait
            self._fail(request, fan.answer, t_ns + wait, fan.answer != Answer.NO_UPSTREAM)
            return
        if in_turn:
            run = self._run(fan)
            first = self.draws.control_between("round-robin-start", str(chooser), version, 0, len(run))
            taken = self.turns.get((chooser, version), 0)
            self.turns[chooser, version] = taken + 1
            server = run[(first + taken) % len(run)]
            if request.stream.keepalive and self._reuse(request, ("server", server), t_ns):
                return
        else:
            server = self._choose(chooser, fan, request.words[Choice.BACKEND] >> 32, t_ns, request)
        self._send(request, server, -1, t_ns)
        taker = self.virtual.get(chooser)
        if isinstance(taker, LeastTaker):
            request.tries[-1].scheduled = taker.log[-1]
            taker.log[-1].this = request.tries[-1]

    def _reuse(self, request: Request, key: tuple[str, int], t_ns: int) -> bool:
        kept = self.pools.take(request.ingress, key, t_ns, self.timing.keepalive_idle_ns)
        if kept is None:
            return False
        request.kept |= 1 << len(request.tries)
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
            in_turn = self.picks.get(chooser) == Pick.ROUND_ROBIN
            key = ("server", this.server) if in_turn else ("chooser", chooser)
            taker, via = self.virtual.get(chooser), -1
            if isinstance(taker, LeastTaker) and this.scheduled is not None:
                via, this.scheduled.pooled = taker.log.index(this.scheduled), True
            idle = self.servers[this.server].idle_close_ns
            connection = Connection(key, this.server, this.worker, t_ns, via=via, pod_idle_ns=idle)
            self.pools.keep(request.ingress, connection, self.timing.keepalive_connections)

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
            self._finish(request, self._code(answer), end_ns + request.back_ns)

    def _reset(self, request: Request, end_ns: int) -> None:
        """A connection in use is reset; on a kept one an idempotent request tries again for nothing."""
        if request.over is None and request.kept >> len(request.tries) - 1 & 1 and request.stream.idempotent:
            request.epoch += 1
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

    def _giveup(self, request: Request, t_ns: int) -> None:
        """The client closes its connection."""
        request.epoch += 1
        if not request.is_l7 and not request.tries:
            request.tries.append(Try(-1, Answer.NONE, request.start_ns, 0))
        this = request.tries[-1] if request.tries else None
        if this is not None and (this.answer == Answer.NONE or this.end_ns > t_ns):
            this.answer, this.end_ns = (Answer.NONE if request.is_l7 else Answer.GAVE_UP), t_ns
            request.served_ns, request.queue_ns, request.service_ns = None, 0, 0
        request.calls_made = None
        request.out_ns = t_ns
        self._finish(request, -Answer.GAVE_UP, t_ns)

    def _again(self, request: Request, t_ns: int) -> None:
        """Send the request again, if its client does."""
        retry, stream, made = request.stream.retry, request.stream, request.number >> 40
        if retry is None or made == retry.attempts or not self._wanted(request, t_ns):
            return
        number = (made + 1 << 40) + request.number % (1 << 40)
        words = self.draws.rows(stream.index, np.array([number], dtype=np.int64))[0].tolist()
        longest = min(retry.backoff_ns * 2**made, max(retry.backoff_max_ns, retry.backoff_ns))
        start = t_ns + (words[Choice.ARRIVAL] >> 32) * longest // 2**32
        if stream.timeout_ns and start >= request.first_ns + stream.timeout_ns:
            return
        if retry.budget_percent >= 0:
            since, again = t_ns - retry.budget_interval_ns, self.again.setdefault(stream.index, [])
            requests = sum(since < one <= t_ns for one in self.sent[stream.index])
            retries = sum(since < one <= t_ns for one in again)
            reserve = Fraction(retry.budget_min_rate * retry.budget_interval_ns, 10**9)
            if retries + 1 > Fraction(retry.budget_percent, 100) * requests + reserve:
                return
            again.append(t_ns)
        self._enter(Request(stream, number, start, words, first_ns=request.first_ns))

    def _wanted(self, request: Request, t_ns: int) -> bool:
        """Whether the client tries again after such an end."""
        retry, status, stream = request.stream.retry, request.status, request.stream
        assert retry is not None
        assert status is not None
        if status > 0:
            return status in retry.statuses
        match -status:
            case Answer.REFUSED | Answer.REJECTED | Answer.UNREACHABLE:
                return retry.connect_failure
            case Answer.RESET:
                return retry.reset
            case Answer.GAVE_UP:
                whole = bool(stream.timeout_ns) and t_ns >= request.first_ns + stream.timeout_ns
                return retry.timeout and not whole
        connected = request.kept or t_ns > request.start_ns + self._dialling(stream)
        return retry.timeout or (retry.connect_failure and not connected)

    # Changes --------------------------------------------------------------------------------------------------------

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
            this = request.tries[-1] if request.tries else None
            served = request.served_ns is not None and (request.served_ns > now or request.calls_made is not None)
            if this and this.server == server and served:
                if behaviour == Behaviour.SILENT:
                    end = max(now, this.start_ns + self._patience(request.stream, read=True))
                    self._fail(request, Answer.TIMEOUT, end, request.stream.idempotent)
                else:
                    self._reset(request, now + (request.hop_ns if request.is_l7 else request.back_ns))
        for request in list(self.live.values()):
            held = request.admitted and (request.out_ns is None or request.out_ns > now)
            if request.ingress == server and held:
                self._lose_ingress(request, behaviour, now)
        self.busy[server] = [min(busy, now) for busy in self.busy[server]]
        self.pools.drop_ingress(server, now)
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

    def _hang(self, server: int, now: int) -> None:
        """Everything that it works on stands still."""
        hanging = self.hanging[server] = Hanging(now)
        for request in self.live.values():
            this = request.tries[-1] if request.tries else None
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
            told += PROBES_NS
        return (Answer.UNREACHABLE, told) if told < given_up else (Answer.TIMEOUT, given_up)

    def _caller(self, request: Request) -> int:
        return self.servers[request.ingress].place if request.is_l7 else request.node

    def _meets(self, server: int, caller: int) -> int:
        return Behaviour.SILENT if self._lost(server, caller) else self.behaviour[server]

    def _lost(self, server: int, caller: int) -> bool:
        """Whether nothing passes between a server and a caller's place."""
        there = self.servers[server].place
        return there != caller and (there in self.off or caller in self.off)

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
            this = request.tries[-1] if request.tries else None
            served = request.served_ns is not None and (request.served_ns > now or request.calls_made is not None)
            if this is None or this.server < 0 or not served:
                continue
            caller, there = self._caller(request), self.servers[this.server].place
            outside = request.stream.kind in ("l4", "node") and request.node == place
            if outside or (caller != there and place in (caller, there)):
                end = max(now, this.start_ns + self._patience(request.stream, read=True))
                self._fail(request, Answer.TIMEOUT, end, request.stream.idempotent)
        for request in list(self.live.values()):
            held = request.admitted and (request.out_ns is None or request.out_ns > now)
            if held and place in (request.node, self.servers[request.ingress].place):
                self._lose_ingress(request, Behaviour.SILENT, now)

    def end_flows(self, lb: int, place: int, server: int, silent: bool) -> None:
        """A load balancer ends its flows to a node, or to a server."""
        now, way = self.now_ns, self.timing.client_lb_ns
        for request in list(self.live.values()):
            this = request.tries[-1] if request.tries else None
            if this is None or request.is_l7 or request.stream.lb != lb:
                continue
            if (this.server != server) if server >= 0 else (request.node != place):
                continue
            served = request.served_ns is not None and (request.served_ns > now or request.calls_made is not None)
            waits = this.answer == Answer.TIMEOUT and this.worker >= 0 and this.end_ns > now + way
            if silent and served:
                end = max(now, this.start_ns + self._patience(request.stream, read=True))
                self._fail(request, Answer.TIMEOUT, end, False)
            elif not silent and (served or waits):
                self._fail(request, Answer.RESET, now + way, False)
        for request in list(self.live.values()):
            held = request.admitted and (request.out_ns is None or request.out_ns > now)
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
