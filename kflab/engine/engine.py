"""The engine: traffic in slabs of simulated time.

Slabs end at `advance` bounds, at changes of behaviour, rate or pick, and after `slab_ns`; results are the same for any
slab length. What an observer learns does not cut a slab: every step compares its own time with the versions.
"""

import copy
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kflab.draws import Draws
from kflab.engine import chains, countable, counting
from kflab.engine.affinity import Affinity
from kflab.engine.arrivals import Arrivals, Batch
from kflab.engine.bins import BIN_NS, Bins, Count
from kflab.engine.changes import Change, ClientGone, FlowsEnd, Link, Rate, ServerChange, carry_out
from kflab.engine.choosers import Choosers
from kflab.engine.counted_deadlines import first_missed_ns, longest_slab_ns
from kflab.engine.counted_rows import as_rows
from kflab.engine.eventwise import take_tries
from kflab.engine.express import MIN_ROWS, Express, Underway, route, settle
from kflab.engine.finished import FinishedRows, Window, as_columns
from kflab.engine.lingering import remember_ended
from kflab.engine.memory import NEVER, Col, Memory, Stage
from kflab.engine.paths import Paths, check
from kflab.engine.pools import PoolLimits
from kflab.engine.retrying import note_starts
from kflab.engine.scheduled import Connected, schedulers_in_order
from kflab.engine.schedulers import VirtualServer
from kflab.engine.steps import Steps
from kflab.engine.taking import Taking
from kflab.engine.types import Answer, Behaviour, Fan, Finished, Pick, Server, Stream, Timing
from kflab.errors import KflabError
from kflab.records import dataclass

MAX_SLAB_ROWS = 1 << 17
"""A slab is cut shorter when more requests than this would start in it: arrays stay near the caches."""


TOLD = 1 << 18
"""Changes of servers' behaviour kept for `take_told`; the lab takes them every slab."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The engine's whole state at one instant; opaque, may be restored any number of times."""

    state: dict[str, object]


class Engine:
    """Flows through choosers, queues and tries.

    Args:
        draws: Addressed random numbers.
        timing: Delays and timeouts.
        streams: Kinds of request; `Stream.index` is the position.
        servers: Addresses that may answer, listening from the start.
        n_places: Number of nodes.
        slab_ns: Longest slab.
        kept_rows: Finished rows kept for `take_finished` at most; the oldest go first (`dropped_rows` counts them).
        hashing: Keep `digest` (costs some 50 ns a row).

    Raises:
        KflabError: If a stream makes no sense; the message says which.
    """

    def __init__(
        self,
        draws: Draws,
        timing: Timing,
        streams: Sequence[Stream],
        servers: Sequence[Server],
        n_places: int,
        slab_ns: int = 100_000_000,
        kept_rows: int = 1 << 18,
        hashing: bool = True,
    ) -> None:
        self.timing = timing
        self.n_places = n_places
        self.slab_ns = slab_ns
        self.now_ns = 0
        self.memory = Memory()
        self.memory.pools.usual = PoolLimits(timing.keepalive_connections, timing.keepalive_idle_ns)
        self.bins = Bins()
        self.choosers = Choosers(draws)
        self.steps = Steps(draws, timing, self.choosers, self.memory, self.bins)
        self.taking = Taking(self.steps, slab_ns)
        self.arrivals = Arrivals(draws)
        self.finished = FinishedRows(kept_rows, hashing)
        self._changes: list[tuple[int, Change]] = []
        """(when, what), ascending: each cuts a slab."""
        self._told: deque[tuple[int, int, int]] = deque(maxlen=TOLD)
        self._underway: list[Underway] = []
        self.counted = counting.Counted()
        self.watch: Callable[[int], int] | None = None
        """Called between two slabs when `next_watch_ns` has come; may set `steps.room` and `steps.ports`; returns when
        it is due next."""
        self.next_watch_ns = 0
        for server in servers:
            self.add_server(server)
        self._streams: list[Stream] = []
        self._paths_stale = False
        for stream in streams:
            self.add_stream(stream)

    # What the lab tells ---------------------------------------------------------------------------------------------

    def _take(self, stream: Stream) -> None:
        """Know a stream; its paths are compiled when something moves next, once for all that came meanwhile."""
        check(stream)
        counting.end(self)
        self.next_watch_ns = self.now_ns
        self._paths_stale = True
        for chooser in (stream.lb, *(chooser for _, chooser in (*stream.entries, *stream.upstreams, *stream.dns))):
            if chooser >= 0:
                self._ensure_chooser(chooser)

    def compile_paths(self) -> None:
        """Make arrays of the streams given since; the next slab does it by itself."""
        if self._paths_stale:
            self.steps.paths = Paths(self.timing, self._streams)
            self._paths_stale = False
            for what in (Count.STREAM_SENT, Count.STREAM_OK, Count.STREAM_FAILED, Count.STREAM_AGAIN):
                self.bins.ensure(what, len(self._streams))

    def _ensure_chooser(self, chooser: int) -> None:
        self.choosers.ensure(chooser)
        self.bins.ensure(Count.CHOOSER, self.choosers.n_choosers)

    @property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(self._streams)

    def add_stream(self, stream: Stream) -> None:
        """Add a stream that starts now; its index must be the next one.

        Raises:
            KflabError: If it makes no sense.
        """
        if stream.index != len(self._streams):
            raise KflabError(f"stream {len(self._streams)} has index {stream.index}")
        self._take(stream)
        self._streams.append(stream)
        self.arrivals.add(stream.rate_rps, self.now_ns)

    def replace_stream(self, stream: Stream) -> None:
        """Change a stream from now on: new entries, upstreams, route, rate…; steps still to come go the new way.

        A client that has another address is none that conntrack knows.
        """
        self._take(stream)
        if stream.client != self._streams[stream.index].client:
            self.memory.udp.forget(stream.index)
        if stream.calls != self._streams[stream.index].calls:
            self.taking.calls_changed_ns = self.now_ns
        self._streams[stream.index] = stream
        self.arrivals.set_rate(stream.index, stream.rate_rps, self.now_ns)

    def add_server(self, server: Server) -> int:
        """Add a server that listens from now on; return its index."""
        index = self.memory.add_server(server)
        table = self.steps.table_names.get(server.service, 0)
        self.steps.server_table = np.append(self.steps.server_table, table)
        self.bins.ensure(Count.SERVER_OK, index + 1)
        self.bins.ensure(Count.SERVER_BAD, index + 1)
        return index

    def learn(self, chooser: int, from_ns: int, fan: Fan) -> None:
        """Give a chooser new candidates for every pick at or after `from_ns` (now or later).

        Raises:
            KflabError: If `from_ns` is in the past, or the fan's weights make no sense.
        """
        counting.end(self)
        self._ensure_chooser(chooser)
        self.choosers.learn(chooser, from_ns, fan, self.now_ns)
        self.memory.scores.learn(chooser, from_ns, fan.candidates)

    def set_pick(self, chooser: int, pick: int, scheduler: int = -1) -> None:
        """Say how a chooser picks, from now on.

        Args:
            chooser: The chooser. Of load balancers FLOW_HASH, RANDOM or SCHEDULED; `PEERS` are for upstreams.
            pick: A `Pick`.
            scheduler: Of a SCHEDULED one: its virtual server, which must list the chooser's candidates. Of an EWMA one:
                the number of its ingress pod, whose choosers share their scores.
        """
        counting.end(self)
        self._ensure_chooser(chooser)
        scored = pick == Pick.EWMA
        self.choosers.set_pick(chooser, pick, -1 if scored else scheduler)
        self.memory.scores.use(chooser, scheduler if scored else -1, self.choosers.candidates(chooser))

    def limit_pool(self, ingress: int, limits: PoolLimits) -> None:
        """Say which idle connections an ingress server keeps, from now on."""
        self.memory.pools.limits[ingress] = limits

    def add_virtual_server(self, poll_ns: int = 0, graceful: bool = True) -> int:
        """Add a virtual server without destinations (see `schedulers.VirtualServer`); return its index."""
        return self.memory.schedulers.add(VirtualServer(poll_ns, self.timing.ipvs_drain_poll_ns, graceful))

    def add_affinity(self, lasts_ns: int) -> int:
        """Add an affinity entry that is over after this long without use (see `affinity`).

        Returns:
            Its index, for `set_pick` with SCHEDULED.
        """
        return self.memory.schedulers.add_affinity(lasts_ns)

    def add_zoned_turns(self) -> int:
        """Add a load balancer that takes turns in each zone (see `zoned_turns`); return its index, for `set_pick`."""
        return self.memory.schedulers.add_zoned()

    def put_in_zone(self, index: int, target: int, virtual: int) -> None:
        """Say which virtual server takes turns in the zone of a load balancer's target."""
        self.memory.schedulers.zoned[index].of[target] = virtual

    def put_behind(self, entry: int, virtual: int) -> None:
        """Say which virtual server has the connections of an affinity entry; -1 none, as in modes without them."""
        behind = self.memory.schedulers.behind
        behind.pop(entry, None)
        if virtual >= 0:
            behind[entry] = virtual

    def affinity(self, index: int) -> Affinity:
        """The affinity entry of an index, to read."""
        return self.memory.schedulers.kept.entries[index]

    def keep_for(self, index: int, lasts_ns: int) -> None:
        """Let an affinity entry last this long from now on."""
        counting.end(self)
        self.memory.schedulers.kept.entries[index].lasts_ns = lasts_ns

    def list_endpoints(self, index: int, from_ns: int, servers: tuple[int, ...]) -> None:
        """Let the rules of an affinity entry list these servers for every pick at or after `from_ns` (now or later)."""
        counting.end(self)
        self.memory.schedulers.kept.list_endpoints(index, from_ns, servers)

    def share_lists(self, index: int, number: int) -> None:
        """Let an affinity entry's caller be in lists of this number from now on (see `caller_lists`); -1: in none."""
        counting.end(self)
        self.memory.schedulers.kept.share(index, number)

    def list_destinations(
        self, virtual: int, from_ns: int, scheduler: int, servers: tuple[int, ...], udp_ns: int = 0
    ) -> None:
        """Let a virtual server have these destinations with weight for every pick at or after `from_ns` (now or later).

        Args:
            virtual: The virtual server.
            from_ns: When.
            scheduler: A `Scheduler`.
            servers: In the order in which those are added that it does not have.
            udp_ns: Of UDP: how long IPVS keeps an entry after its last datagram; 0 of others.

        Raises:
            KflabError: If `from_ns` is in the past.
        """
        if from_ns < self.now_ns:
            raise KflabError(f"virtual server {virtual} cannot learn at {from_ns} ns: it is already {self.now_ns} ns")
        counting.end(self)
        self.memory.schedulers.learn(virtual, from_ns, scheduler, servers, udp_ns)

    def behave(self, server: int, behaviour: int, t_ns: int, drain: bool = False) -> None:
        """Change what a server does with a SYN, from `t_ns` (now or later) on.

        Requests that it had accepted and not yet answered end first (see `crashes`), unless `drain`: then the process
        only stopped listening and finishes its work, as after SIGTERM. A server that hangs keeps them (see `hangs`).

        Raises:
            KflabError: If it is too late, or an ingress server is to hang.
        """
        if behaviour == Behaviour.HANGS and self.memory.servers[server].is_ingress:
            raise KflabError(
                f"{self.memory.servers[server].address} is an ingress server: how it hangs is not modelled"
            )
        self._change(t_ns, ServerChange(server, behaviour, drain))
        self._told.append((t_ns, server, behaviour))

    def set_rate(self, stream: int, rate_rps: float, t_ns: int) -> None:
        """Change a stream's mean rate from `t_ns` (now or later) on."""
        self._change(t_ns, Rate(stream, rate_rps))

    def cut(self, place: int, off: bool, t_ns: int) -> None:
        """From `t_ns` (now or later) on nothing passes to or from a place (`off`), or all passes again (see `cuts`)."""
        self._change(t_ns, Link(place, off))

    def end_flows(self, lb: int, t_ns: int, *, place: int = -1, server: int = -1, silent: bool = False) -> None:
        """Let a load balancer end, at `t_ns` (now or later), its flows to a target: a node or a server (`flowends`)."""
        self._change(t_ns, FlowsEnd(lb, place, server, silent))

    def end_client(self, stream: int, t_ns: int) -> None:
        """Let the process of a pod's client end at `t_ns` (now or later): its requests in hand go with it.

        It sends on unless its rate is 0 from then on.

        Raises:
            KflabError: If it is too late, or the client is not in a pod.
        """
        if self._streams[stream].kind != "pod":
            raise KflabError(f"stream {stream} is of kind {self._streams[stream].kind}: only clients in pods end")
        self._change(t_ns, ClientGone(stream))

    def clean_flows(self, stream: int, place: int, t_ns: int, keep: frozenset[int]) -> None:
        """Let kube-proxy on a node delete, at `t_ns` (now or later), a UDP stream's entry to any server but these."""
        self.memory.udp.clean((stream, place), t_ns, keep)

    def _change(self, t_ns: int, change: Change) -> None:
        if t_ns < self.now_ns:
            raise KflabError(f"a change at {t_ns} ns comes too late: it is {self.now_ns} ns")
        counting.end(self)
        insort(self._changes, (t_ns, change), key=lambda each: each[0])  # behind those of the same instant
        self._make_changes()

    def _make_changes(self) -> None:
        """Make the changes that are due."""
        while self._changes and self._changes[0][0] <= self.now_ns:
            _, change = self._changes.pop(0)
            self.next_watch_ns = self.now_ns  # what was foreseen may no longer hold
            carry_out(self, change)

    def rate_changed(self, stream: int, rate_rps: float) -> None:
        """Let a stream have another mean rate from now on."""
        self._streams[stream] = replace(self._streams[stream], rate_rps=rate_rps)
        self.arrivals.set_rate(stream, rate_rps, self.now_ns)

    def all_in_flight(self) -> None:
        """Give every request that went express its own columns, so that its ending can be rewritten."""
        for underway in self._underway:
            underway.put_in_flight(self.memory.flights)
        self._underway = []
        self.compile_paths()

    @property
    def accepted(self) -> list[Express]:
        """Routed requests whose servers have accepted them, with some that are over."""
        return [underway.express for underway in self._underway]

    def may_count(self) -> str:
        """Say why requests cannot be counted from now on (see `countable`); "" where they can."""
        self.compile_paths()
        return countable.obstacle(self)

    def count_requests(self, on: bool) -> None:
        """Count requests that start from now on, where `may_count` has nothing against it; or follow each again.

        Whatever the engine is told ends it too.
        """
        (counting.begin if on else counting.end)(self)

    @property
    def changes_ahead(self) -> bool:
        """Whether a server, a rate or a link is to change."""
        return bool(self._changes)

    # Time -----------------------------------------------------------------------------------------------------------

    def advance(self, to_ns: int) -> None:
        """Run until `to_ns`: afterwards every step before it has been taken, none at or after it."""
        while self.now_ns < to_ns:
            if self.watch is not None and self.now_ns >= self.next_watch_ns:
                self.next_watch_ns = self.watch(self.now_ns)
            end_ns = min(to_ns, self.now_ns + self._slab_length())
            if self._changes:
                end_ns = min(end_ns, self._changes[0][0])
            if self.counted.on:
                end_ns = min(end_ns, self.counted.stops_ns)
            if self.watch is not None:
                end_ns = min(end_ns, self.next_watch_ns)
            self._slab(end_ns)
            self.now_ns = end_ns
            if self.counted.on and end_ns >= self.counted.stops_ns:
                self.counted.missed = True
                counting.end(self)
            self._make_changes()

    def _slab_length(self) -> int:
        per_ns = self.arrivals.rows_per_ns()
        if self.counted.on:
            longest = int(MAX_SLAB_ROWS / max(per_ns, MAX_SLAB_ROWS / counting.LONGEST_NS))
            return max(1, min(longest, longest_slab_ns(self.steps)))
        if self.taking.many_calls and self.steps.paths.calls:
            to_next_bin = BIN_NS - self.now_ns % BIN_NS
            return min(self.slab_ns, to_next_bin, chains.SLAB_NS, max(1, int(MAX_SLAB_ROWS / max(per_ns, 1e-9)) // 8))
        if per_ns * self.slab_ns > MIN_ROWS:
            # Whole bins keep the bulk path's counting simple; slab lengths never matter to results.
            to_next_bin = BIN_NS - self.now_ns % BIN_NS
            return min(self.slab_ns, to_next_bin, max(1, int(MAX_SLAB_ROWS / per_ns)))
        return self.slab_ns

    def _slab(self, end_ns: int) -> None:
        self.compile_paths()
        memory, steps = self.memory, self.steps
        self.choosers.begin(self.now_ns, end_ns)
        steps.begin_ns = self.now_ns
        steps.in_order = schedulers_in_order(steps)
        ordered, calling = not self.counted.on and self.taking.in_order(self.now_ns, end_ns), bool(steps.paths.calls)
        before, rounds = steps.ordered_rows, steps.call_rounds
        routed: list[Express] = []
        tries = partial(take_tries, steps) if ordered else None
        if calling and self.counted.on:
            tries = partial(counting.take_calls, self, others=routed)
        elif calling and not ordered:
            tries = partial(chains.take_chains, steps, others=routed)
        batches: Iterable[Batch] = self.arrivals.take(end_ns)
        if self.counted.on:
            batches = list(batches)
            routed += counting.arriving(self, batches, end_ns)
        for batch in batches:
            self.bins.add(Count.STREAM_SENT, np.full(len(batch.starts), batch.stream), batch.starts)
            note_starts(steps, batch.stream, batch.starts, self.now_ns)
            if self.counted.on:
                continue
            in_flight = ordered or bool(steps.paths.calling[batch.stream])
            express = None if in_flight else route(steps, batch, self.now_ns, end_ns)
            if in_flight:
                steps.start(batch)
            elif express is not None:
                routed.append(express)
        done, served = steps.run(end_ns, tries, routed, bool(self.counted.calling))
        if calling and not self.counted.on:
            self.taking.weigh_calls(steps.ordered_rows - before, steps.call_rounds - rounds, self.now_ns, end_ns)
        for express, served_ns in zip(routed, served, strict=True):
            settle(express, served_ns)
            self._underway.append(Underway(express))
        for express in self.counted.answered_calls:
            settle(express, express.done)
            self._underway.append(Underway(express))
        if self.counted.on and steps.paths.any_deadline:
            self.counted.stops_ns = min(self.counted.stops_ns, first_missed_ns(steps, routed))
        self.counted.answered_calls = []
        for underway in self._underway:
            over = underway.finish(self.bins, end_ns)
            if over is not None and over.express.counted:
                self.finished.add_counted(over, end_ns)
                self.counted.note(over, self.bins)
            elif over is not None:
                self.finished.add_express(over, end_ns)
        self._underway = [underway for underway in self._underway if len(underway)]
        if len(done):
            steps.count_tries(done)
            rows = memory.flights.m[:, done]
            memory.flights.remove(done)
            good = (rows[Col.STATUS] >= 200) & (rows[Col.STATUS] < 400)
            over = rows[Col.NEXT] == 0
            bad = ~good & over & (rows[Col.STATUS] != -Answer.CLIENT_GONE)
            self.bins.add(Count.STREAM_OK, rows[Col.STREAM, good], rows[Col.DUE, good])
            self.bins.add(Count.STREAM_FAILED, rows[Col.STREAM, bad], rows[Col.DUE, bad])
            unranked = ~over | (steps.paths.parent[rows[Col.STREAM]] >= 0)
            self.finished.add(rows, end_ns, unranked if unranked.any() else None)
            remember_ended(steps, rows)
        if memory.udp.cleanups:
            memory.udp.settle(end_ns)
        memory.schedulers.settle(end_ns, Connected(steps))
        memory.flights.compact()
        self.choosers.end(end_ns)

    # What came of it ------------------------------------------------------------------------------------------------

    def is_call(self, streams: "NDArray[np.int32]") -> "NDArray[np.bool_]":
        """Say which streams are calls that pods make for the requests they serve; shape as `streams`."""
        self.compile_paths()
        calls: NDArray[np.bool_] = self.steps.paths.parent[streams] >= 0
        return calls

    def take_finished(self) -> Finished:
        """Take the requests finished since the last call, in order of (finish, stream, number)."""
        return self.finished.take()

    def take_counted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take what counted requests came to since the last call: all went well.

        Returns:
            [streams] how many finished, [servers] how many each answered or, of an ingress server, handed on; either
            may be shorter than there are.
        """
        return self.counted.take()

    def take_told(self) -> list[tuple[int, int, int]]:
        """Take (t_ns, server, Behaviour) of every `behave` since the last call: what tries met, and since when."""
        told = list(self._told)
        self._told.clear()
        return told

    @property
    def in_flight(self) -> int:
        """How many requests have started and not finished."""
        rows: int = self.memory.flights.live + sum(map(len, self._underway)) + sum(map(len, self.counted.held))
        return rows + sum(int(as_rows(self.steps, one, self.now_ns).shape[1]) for one in self.counted.calling)

    def in_flight_rows(self) -> Finished:
        """Requests that have started and not finished, as far as they have gone, by (stream, number).

        `finish_ns` is when the client will know where that is settled, else `NEVER`; an answer of 0 with a server is a
        try under way. Ends later than now have not happened yet for whoever waits for them.
        """
        flights = self.memory.flights
        live = np.flatnonzero(flights.m[Col.DUE, : flights.used] != NEVER)
        parts = [flights.m[:, live]]
        parts[0] = parts[0][:, parts[0][Col.START] <= self.now_ns]  # without attempts that their client waits to make
        parts[0][Col.DUE, parts[0][Col.STAGE] != Stage.ANSWER] = NEVER
        for underway in self._underway:
            rows = np.arange(len(underway.express)) if underway.rows is None else underway.rows
            parts.append(underway.express.matrix(rows))
        for express in self.counted.held:
            parts.append(counting.on_its_way(self.steps, express))
            parts[-1][Col.DUE] = NEVER
        for calling in self.counted.calling:
            parts.append(as_rows(self.steps, calling, self.now_ns))
            parts[-1][Col.DUE, parts[-1][Col.STAGE] != Stage.ANSWER] = NEVER
        rows = np.concatenate(parts, axis=1)
        return as_columns(rows[:, np.lexsort((rows[Col.NUMBER], rows[Col.STREAM]))])

    @property
    def dropped_rows(self) -> int:
        """Finished rows that were given up because nobody took them."""
        return self.finished.dropped

    def window(self, start_ns: int, end_ns: int) -> Window:
        """Count and rank the requests that finished in [start, end)."""
        return self.finished.window(start_ns, end_ns)

    def digest(self) -> str:
        """Return the golden hash over all finished rows.

        Raises:
            KflabError: If the engine was made without hashing.
        """
        if not self.finished.hashing:
            raise KflabError("this engine keeps no digest: it was made with hashing=False")
        return self.finished.digest()

    def wait_ns(self, server: int, word: int) -> int:
        """How long a request that came now would wait for its worker, drawn by the low 16 bits of a word."""
        memory = self.memory
        worker = (word & 0xFFFF) * int(memory.n_workers[server]) >> 16
        if memory.servers[server].shared_queue:
            worker = memory.free_first(server)
        return max(0, int(memory.busy_until[int(memory.first_worker[server]) + worker]) - self.now_ns)

    def connections(self, chooser: int) -> tuple[tuple[int, int], ...]:
        """Return (candidate, connections it was given) under the version in force, in the fan's order."""
        return self.choosers.connections(chooser)

    def checkpoint(self) -> Checkpoint:
        """Copy the whole state."""
        return Checkpoint(copy.deepcopy({key: value for key, value in self.__dict__.items() if key != "watch"}))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint."""
        self.__dict__.update(copy.deepcopy(checkpoint.state))
