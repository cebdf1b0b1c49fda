"""Streams compiled to arrays: which chooser a request meets where, and the fixed delays on its way."""

from collections.abc import Iterable

import numpy as np

from kflab.engine.addresses import flow_salt
from kflab.engine.lookups import LINEAR_SYN_TIMES_NS, MOST_NAMES, SYN_TIMES_NS, threshold
from kflab.engine.types import MAX_RETRIES, MAX_TRIES, TCP_RETRIES2_NS, Int64Array, Stream, Timing, UInt64Array
from kflab.errors import KflabError

KINDS = ("l7", "l4", "node", "pod", "call")

NEVER_NS = 1 << 60
"""A patience without end: the client's own deadline comes first."""


class PairMap:
    """A sparse table (a, b) → value as sorted keys; b may be -1."""

    def __init__(self, rows: Iterable[tuple[int, int, int]]) -> None:
        self._one = {(a, b): value for a, b, value in rows}
        table = sorted(self._one.items())
        self._width = max((b for (_, b), _ in table), default=0) + 2
        self._keys = np.array([a * self._width + b + 1 for (a, b), _ in table] or [-1], dtype=np.int64)
        self._values = np.array([value for _, value in table] or [-1], dtype=np.int64)

    def get(self, a: Int64Array, b: Int64Array) -> Int64Array:
        """Look pairs up; -1 where there is none."""
        keys = a * self._width + b + 1
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = (self._keys[place] == keys) & (b + 1 < self._width)
        return np.where(found, self._values[place], -1)

    def get_one(self, a: int, b: int) -> int:
        """Look one pair up."""
        return self._one.get((a, b), -1)


def check(stream: Stream) -> None:
    """Refuse a stream that makes no sense.

    Raises:
        KflabError: Saying why.
    """
    if stream.kind not in KINDS:
        raise KflabError(f"stream {stream.index} has kind {stream.kind!r}, not one of {KINDS}")
    if not 1 <= stream.tries <= MAX_TRIES:
        raise KflabError(f"stream {stream.index} has {stream.tries} tries; 1 to {MAX_TRIES} can be recorded")
    if stream.names or stream.lost_per_million:
        if stream.kind != "pod" or stream.connections or stream.flow_port or stream.one_way:
            raise KflabError(f"stream {stream.index} asks DNS or loses packets: only new connections of pods can")
        if stream.retry or stream.timeout_ns or stream.attempt_timeout_ns:
            raise KflabError(f"stream {stream.index} asks DNS or loses packets, and has a deadline or retries")
        if not 0 <= stream.lost_per_million <= 1_000_000 or not 0 <= stream.names <= MOST_NAMES:
            raise KflabError(f"stream {stream.index} has {stream.names} names, {stream.lost_per_million} lost packets")
    if (stream.kind == "call") != (stream.parent >= 0):
        raise KflabError(f"stream {stream.index} of kind {stream.kind} has the parent {stream.parent}")
    if stream.connections and (stream.kind != "pod" or stream.flow_port):
        raise KflabError(f"stream {stream.index} keeps connections: only one of kind pod over TCP does")
    if stream.retry and not 1 <= stream.retry.attempts <= MAX_RETRIES:
        raise KflabError(f"stream {stream.index} tries {stream.retry.attempts} times more; 1 to {MAX_RETRIES} can be")
    if (stream.retry or stream.timeout_ns or stream.attempt_timeout_ns) and (stream.flow_port or stream.kind == "call"):
        raise KflabError(f"stream {stream.index} has a deadline or retries: no client over TCP sends it")


class Paths:
    """Per-stream columns; stream i stands at place i."""

    def __init__(self, timing: Timing, streams: list[Stream]) -> None:
        balanced = np.array([stream.kind in ("l7", "l4") for stream in streams], dtype=bool)
        self.is_l7 = np.array([stream.kind == "l7" for stream in streams], dtype=bool)
        self.inside = np.array([stream.kind in ("pod", "call") for stream in streams], dtype=bool)
        self.udp = np.array([stream.udp for stream in streams], dtype=bool)
        """[streams] -> the caller is on the node whose rules pick."""
        self.balanced = balanced
        """[streams] -> goes through a load balancer."""
        self.to_lb: Int64Array = np.where(balanced, timing.client_lb_ns, 0).astype(np.int64)
        direct = np.array([timing.client_lb_ns if stream.kind == "node" else 0 for stream in streams], dtype=np.int64)
        self.to_node: Int64Array = np.where(balanced, timing.client_lb_ns + timing.lb_node_ns, direct).astype(np.int64)
        """[streams] -> one way, client to the node that picks. A caller on the node itself is there at once."""
        self.lb: Int64Array = np.array([stream.lb for stream in streams], dtype=np.int64)
        self.place: Int64Array = np.array([stream.place for stream in streams], dtype=np.int64)
        self.tries: Int64Array = np.array(
            [stream.tries if stream.kind == "l7" else 1 for stream in streams], dtype=np.int64
        )
        self.http_front = np.array([stream.http_front for stream in streams], dtype=bool)
        """[streams] -> its load balancer speaks HTTP and answers for targets that do not."""
        self.front_answer: Int64Array = np.array([stream.front_answer for stream in streams], dtype=np.int64)
        self.any_front_answer = bool(self.front_answer.any())
        self.speaks_http = self.is_l7 | self.http_front
        # A front starts to wait when the client's request has reached it, and its answer has to travel back.
        round_trip: Int64Array = np.where(self.http_front, 2 * self.to_lb, 0).astype(np.int64)
        proxied = self.is_l7 | self.http_front
        own = [s.dial_timeout_ns or (s.connect_timeout_ns if s.kind != "l7" else 0) for s in streams]
        dials = [dial or timing.connect_timeout_ns for dial in own]
        dial: Int64Array = np.array(dials, dtype=np.int64)
        connects = [stream.connect_timeout_ns or timing.connect_timeout_ns for stream in streams]
        reads = [stream.read_timeout_ns or timing.read_timeout_ns for stream in streams]
        self.timeout: Int64Array = np.array([s.timeout_ns or NEVER_NS for s in streams], dtype=np.int64)
        """[streams] -> how long the client waits for a request in all."""
        self.attempt_timeout: Int64Array = np.array([s.attempt_timeout_ns or NEVER_NS for s in streams], dtype=np.int64)
        """[streams] -> how long the client waits for one attempt."""
        self.deadlines = np.minimum(self.timeout, self.attempt_timeout) < NEVER_NS
        """[streams] -> whether their clients have a deadline of their own (see `deadlines`)."""
        self.any_deadline = bool(self.deadlines.any())
        self.retry = [stream.retry for stream in streams]
        self.retries = np.array([stream.retry is not None for stream in streams], dtype=bool)
        self.any_retry = bool(self.retries.any())
        self.peer_timeout: Int64Array = np.array(
            [s.peer_timeout_ns or TCP_RETRIES2_NS for s in streams], dtype=np.int64
        )
        """[streams] -> how long their kernel sends again to a peer that does not acknowledge."""
        connect: Int64Array = np.where(proxied, np.array(connects, dtype=np.int64), dial)
        read: Int64Array = np.where(self.deadlines & ~proxied, NEVER_NS, np.array(reads, dtype=np.int64))
        self.connect_patience: Int64Array = connect + round_trip
        """[streams] -> from the start of a try until its caller hears that nobody accepted it."""
        self.read_patience: Int64Array = read + round_trip
        """[streams] -> from the start of a try until its caller hears that no answer came."""
        self.dial_patience: Int64Array = np.where(self.is_l7, dial, self.connect_patience)
        """[streams] -> from its start until the client hears that nobody accepted its own connection."""
        self.client_patience: Int64Array = np.where(self.deadlines, NEVER_NS, timing.read_timeout_ns).astype(np.int64)
        """[streams] -> how long the client waits for the answer of a proxy that has gone silent."""
        self.least_patience = int(min([*self.connect_patience, *self.read_patience], default=0))
        self.idempotent = np.array([stream.idempotent for stream in streams], dtype=bool)
        self.no_route = np.array([stream.no_route for stream in streams], dtype=bool)
        self.keepalive = np.array([stream.keepalive and stream.kind == "l7" for stream in streams], dtype=bool)
        self.flow_port: Int64Array = np.array([stream.flow_port for stream in streams], dtype=np.int64)
        self.one_way = np.array([stream.one_way for stream in streams], dtype=bool)
        self.any_flows = bool(self.flow_port.any())
        """Whether any stream keeps its source port (see `udpflows`)."""
        self.any_keepalive = bool(self.keepalive.any())
        self.connections: Int64Array = np.array([stream.connections for stream in streams], dtype=np.int64)
        self.connection_age: Int64Array = np.array([stream.connection_age_ns for stream in streams], dtype=np.int64)
        self.any_connections = bool(self.connections.any())
        """Whether any client keeps connections open (see `connections`)."""
        self.names: Int64Array = np.array([stream.names for stream in streams], dtype=np.int64)
        self.any_names = bool(self.names.any())
        """Whether any client asks DNS before it connects (see `lookups`)."""
        self.dns = PairMap((s.index, place, chooser) for s in streams for place, chooser in s.dns)
        self.pair_lost: UInt64Array = np.array([threshold(s.lost_per_million, 4) for s in streams], dtype=np.uint64)
        """[streams] -> chance in 2^-32 that one of two queries and two answers is lost."""
        self.syn_lost: Int64Array = np.array([threshold(s.lost_per_million, 2) for s in streams], dtype=np.int64)
        """[streams] -> likewise of a SYN and its answer."""
        self.syn_times = [LINEAR_SYN_TIMES_NS if s.linear_syns else SYN_TIMES_NS for s in streams]
        self.waits_first = (self.names > 0) | (self.syn_lost > 0)
        """[streams] -> something may come before the SYN that arrives."""
        self.salt: UInt64Array = np.array(
            [flow_salt(stream.client, stream.destination) for stream in streams], dtype=np.uint64
        )
        self.entries = PairMap((s.index, place, chooser) for s in streams for place, chooser in s.entries)
        self.upstreams = PairMap((s.index, server, chooser) for s in streams for server, chooser in s.upstreams)
        asking = {chooser for s in streams for _, chooser in s.upstreams}
        asking |= {
            chooser
            for s in streams
            if s.flow_port or s.parent >= 0 or s.connections or s.retry
            for _, chooser in s.entries
        }
        self.asking_in_order = tuple(sorted(asking))
        """Choosers that are asked again or not at all, as what happened before has it."""
        self.upstream_of = {(s.index, server): chooser for s in streams for server, chooser in s.upstreams}
        self.parent: Int64Array = np.array([stream.parent for stream in streams], dtype=np.int64)
        """[streams] -> the stream whose requests make these calls; -1 for all that are no calls."""
        self.address: Int64Array = np.array(
            [stream.index if stream.address < 0 else stream.address for stream in streams], dtype=np.int64
        )
        """[streams] -> the stream's address in draws."""
        self.calls = {(s.index, group): calls for s in streams for group, calls in s.calls if calls}
        """(stream, group of the server) -> what is called for each request."""
        choosers = {chooser for s in streams if s.parent >= 0 for _, chooser in s.entries}
        self.call_choosers: Int64Array = np.array(sorted(choosers), dtype=np.int64)
        """Every chooser of a stream of calls."""
        self.calling = np.zeros(len(streams), dtype=bool)
        """[streams] -> whether some server makes calls for its requests, or it is a stream of calls itself."""
        self.calling[[stream for stream, _ in self.calls]] = True
        self.calling |= self.parent >= 0
        lists = list(self.calls.values())
        self.call_lists = PairMap((stream, group, i) for i, (stream, group) in enumerate(self.calls))
        """(stream, group of the server) -> which list of calls; -1 none."""
        self.call_counts: Int64Array = np.array([len(calls) for calls in lists] or [0], dtype=np.int64)
        """[lists] -> how many calls."""
        longest = max(1, int(self.call_counts.max()))
        self.call_streams: Int64Array = np.full((max(1, len(lists)), longest), -1, dtype=np.int64)
        """[lists, turn] -> stream."""
        self.call_fatal = np.zeros(self.call_streams.shape, dtype=bool)
        """[lists, turn] -> whether its failure fails the request."""
        for i, calls in enumerate(lists):
            self.call_streams[i, : len(calls)] = [call.stream for call in calls]
            self.call_fatal[i, : len(calls)] = [call.fatal for call in calls]
        self.entry_of = {(s.index, place): chooser for s in streams if s.parent >= 0 for place, chooser in s.entries}
        """(stream of calls, place) -> chooser."""
        self.pins = [(s.index, number, port) for s in streams for number, port, _ in s.pinned_ports]
        self.upstream_pins = {(s.index, number): port for s in streams for number, _, port in s.pinned_ports if port}
        """(stream, number) -> source port of the ingress server's first try."""
        self.last_pin = max((number for _, number, _ in self.pins), default=-1)

    def pin_ports(self, streams: Int64Array, numbers: Int64Array, ports: Int64Array) -> Int64Array:
        """Put the scenario's own source ports where they are given."""
        if self.any_flows:
            ports = np.where(self.flow_port[streams] > 0, self.flow_port[streams], ports)
        if not self.pins or not len(numbers) or int(numbers.min()) > self.last_pin:
            return ports
        for stream, number, port in self.pins:
            ports[(streams == stream) & (numbers == number)] = port
        return ports
