"""The reference's clock: the heap of events, and when each request begins."""

from collections.abc import Sequence
from heapq import heappop, heappush

from kflab.draws import Draws
from kflab.engine.arrivals import FRACTION_BITS, Rate, unit_gaps
from kflab.engine.neighbours import Neighbours
from kflab.engine.pools import PoolLimits, Pools
from kflab.engine.reference_affinity import RecentLists
from kflab.engine.reference_ewma import PlainScores
from kflab.engine.reference_requests import Hanging, Kept, Request
from kflab.engine.reference_turns import TurnTaker
from kflab.engine.snat import PortTable
from kflab.engine.types import Behaviour, Choice, Fan, Server, Stream, Timing

_BLOCK = 64

Row = tuple[object, ...]

_RANK = {"rid": -1, "start": 0, "lookup": 0, "lb": 0, "node": 0, "ingress": 0, "release": 1, "try": 2, "server": 3,
         "call": 4, "answer": 5, "giveup": 6}  # fmt: skip


class Clock:
    """What stands, what is under way, and the heap of events that is to come."""

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
        self.scores: dict[int, PlainScores] = {}
        """Chooser → the scores of its NGINX."""
        self.pools = Pools(usual=PoolLimits(timing.keepalive_connections, timing.keepalive_idle_ns))
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

    def _finish(self, request: Request, status: int, t_ns: int) -> None:
        request.status, request.finish_ns = status, t_ns
        self._push(t_ns, request, "answer")
