"""Thousands of kube-proxies that hear the same change: their syncs planned together, as rows of arrays.

Each keeps its own instants and its own draws; what is shared is the computing. A kube-proxy to which anything else
happens than changes and syncs (it stops, its node is cut off, its watch comes back) leaves the crowd and is followed
by itself, until it is calm again (proxysync.py). Arrays are replaced, never written into: checkpoints share them.
"""

from collections.abc import Sequence
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from kflab.cluster.checkpoint import Mutable
from kflab.control.observers import FAR_PAST, History, Observer
from kflab.control.waves import Roll, Wave
from kflab.manifest.objects import Key
from kflab.records import dataclass

Int64Array = NDArray[np.int64]


@dataclass(slots=True)
class Proxy(Mutable):
    """One kube-proxy process. While it is in the crowd, the times here are those from before."""

    observer: Observer
    number: int
    """The node's part of the address of its draws."""
    subject: Key
    """What facts about it are about."""
    said: str
    """What its facts say when it has written new rules."""
    inbox: list[tuple[int, int]] = field(default_factory=list)
    """(when it has the event, revision), ascending: changes not yet in rules."""
    last_arrival: int = FAR_PAST
    run_start: int = FAR_PAST
    run_end: int = FAR_PAST
    bucket: int = FAR_PAST
    """Token bucket as a theoretical arrival time (GCRA): full when it lies in the past."""
    life: int = 0
    """Grows with every stop: events of an earlier process mean nothing."""
    config: int = 0
    """Number of the configuration that the process read when it started."""
    cut: bool = False
    """Its watch is broken: it hears of nothing."""
    ready: bool = True
    """It has filled its caches since it started."""
    row: int = -1
    """Its row in the crowd's arrays; -1: it never was there."""
    joined: bool = False
    """It is followed in the crowd."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Sync runs that are still to end, by (instant, number); all arrays have shape (n,)."""

    end_ns: Int64Array
    number: Int64Array
    """Place among the events of one instant."""
    row: Int64Array
    start_ns: Int64Array
    revision: Int64Array
    """What the rules are made from then: the newest change that has come before the start."""

    def picked(self, which: slice | Int64Array | NDArray[np.bool_]) -> "Planned":
        """Some of them."""
        return Planned(
            self.end_ns[which], self.number[which], self.row[which], self.start_ns[which], self.revision[which]
        )  # fmt: skip


def _none() -> Int64Array:
    return np.empty(0, dtype=np.int64)


class Crowd(Mutable):
    """The rows. Index space of all arrays but `planned`'s: row of a kube-proxy, in order of its node's coming."""

    def __init__(self) -> None:
        self.members: list[Proxy] = []
        self.roll = Roll()
        """Whose facts each member's are, what they are about and what they say."""
        self.live = np.empty(0, dtype=np.bool_)
        """Who is followed here now."""
        self.numbers, self.config = _none(), _none()
        self.last_arrival, self.run_start, self.run_end, self.bucket = _none(), _none(), _none(), _none()
        self.history = History()
        """What the rules were made from, and are."""
        self.done_start = _none()
        """Start of the last run that has ended: what came before it is in the rules."""
        self.planned = Planned(_none(), _none(), _none(), _none(), _none())
        self._sent: list[tuple[int, Int64Array]] = []
        """(revision, when each row has it) of changes that are not in everybody's rules yet."""

    def join(self, calm: Sequence[Proxy]) -> None:
        """Follow kube-proxies here that have nothing in hand."""
        fresh = [proxy for proxy in calm if proxy.row < 0]
        for proxy in fresh:
            proxy.row = len(self.members)
            self.members.append(proxy)
        self.roll = self.roll.and_also([(proxy.subject.name, proxy.subject, proxy.said) for proxy in fresh])
        grown = len(self.members)
        rows = np.array([proxy.row for proxy in calm], dtype=np.int64)

        def filled(old: Int64Array, values: Sequence[int]) -> Int64Array:
            new = np.full(grown, FAR_PAST, dtype=np.int64)
            new[: len(old)] = old
            new[rows] = values
            return new

        self.numbers = filled(self.numbers, [proxy.number for proxy in calm])
        self.config = filled(self.config, [proxy.config for proxy in calm])
        self.run_start = filled(self.run_start, [proxy.run_start for proxy in calm])
        self.run_end = filled(self.run_end, [proxy.run_end for proxy in calm])
        self.bucket = filled(self.bucket, [proxy.bucket for proxy in calm])
        self.last_arrival = filled(self.last_arrival, [proxy.last_arrival for proxy in calm])
        self.done_start = filled(self.done_start, [proxy.last_arrival for proxy in calm])
        self.live = np.concatenate((self.live, np.zeros(len(fresh), dtype=np.bool_)))
        self.live[rows] = True
        self.history.join([(proxy.row, proxy.observer) for proxy in calm], grown)
        for proxy in calm:
            proxy.joined = True

    def leave(self, proxy: Proxy) -> list[tuple[int, int, int]]:
        """Follow a kube-proxy by itself again: its times and its inbox are up to date afterwards.

        Returns:
            (end, number, start) of its runs that are still to end.
        """
        row, planned = proxy.row, self.planned
        done = int(self.done_start[row])
        proxy.inbox = [
            (int(arrivals[row]), revision) for revision, arrivals in self._sent
            if row < len(arrivals) and int(arrivals[row]) > done
        ]  # fmt: skip
        proxy.last_arrival, proxy.bucket = int(self.last_arrival[row]), int(self.bucket[row])
        proxy.run_start, proxy.run_end = int(self.run_start[row]), int(self.run_end[row])
        proxy.joined = False
        proxy.observer.leave_crowd()
        self.live = self.live.copy()
        self.live[row] = False
        mine = planned.row == row
        runs = planned.picked(mine)
        self.planned = planned.picked(~mine)
        return list(zip(runs.end_ns.tolist(), runs.number.tolist(), runs.start_ns.tolist(), strict=True))

    def hear(
        self, now_ns: int, revision: int, arrivals: Int64Array, takes: Int64Array, intervals: Int64Array, burst: int,
        numbers: Int64Array,
    ) -> None:  # fmt: skip
        """A change is on its way to everybody: plan the runs that carry it where no planned run does.

        Args:
            now_ns: When it was written.
            revision: Its store revision.
            arrivals: When each row would have it, ns, shape (rows,).
            takes: How long a run takes, ns, shape (rows,).
            intervals: Each row's minSyncPeriod, ns, shape (rows,).
            burst: Tokens of the bounded-frequency runner.
            numbers: Place of each row's run among the events of its instant, shape (rows,).
        """
        live = self.live
        arrivals = np.maximum(arrivals, self.last_arrival)
        self.last_arrival = np.where(live, arrivals, self.last_arrival)
        self._sent = [sent for sent in self._sent if (sent[1] > self.done_start[: len(sent[1])]).any()]
        self._sent.append((revision, np.where(live, arrivals, FAR_PAST)))
        plans = live & (arrivals > self.run_start)
        carried = live & ~plans
        old = self.planned
        revisions = old.revision
        if carried.any():
            last = np.full(len(live), -1, dtype=np.int64)
            last[old.row] = np.arange(len(old.row))  # of a row's runs the latest is written last
            revisions = revisions.copy()
            revisions[last[carried]] = revision
        starts = np.maximum(arrivals, self.run_end)
        tokens = self.bucket - (burst - 1) * intervals
        # No token: the runner's timer fires one interval after the last run ended.
        starts = np.where(starts < tokens, np.maximum(tokens, self.run_end + intervals), starts)
        ends = starts + takes
        rows = np.flatnonzero(plans)
        merged = Planned(
            np.concatenate((old.end_ns, np.maximum(ends[rows], now_ns))),
            np.concatenate((old.number, numbers[rows])),
            np.concatenate((old.row, rows)),
            np.concatenate((old.start_ns, starts[rows])),
            np.concatenate((revisions, np.full(len(rows), revision, dtype=np.int64))),
        )
        self.planned = merged.picked(np.lexsort((merged.number, merged.end_ns)))
        self.run_start = np.where(plans, starts, self.run_start)
        self.run_end = np.where(plans, ends, self.run_end)
        spent = starts if burst > 1 else ends  # without a burst the wait begins when a run has ended (1.34)
        self.bucket = np.where(plans, np.maximum(self.bucket, spent) + intervals, self.bucket)

    def next_run(self) -> tuple[int, int] | None:
        """(instant, number) of the run that ends next; None when none is planned."""
        planned = self.planned
        return (int(planned.end_ns[0]), int(planned.number[0])) if len(planned.row) else None

    def take(self, until_ns: int, before: tuple[int, int] | None) -> Planned:
        """Take off the runs that end up to an instant, and before another event (its instant and number)."""
        planned = self.planned
        count = int(np.searchsorted(planned.end_ns, until_ns, side="right"))
        if before is not None:
            low, high = (int(np.searchsorted(planned.end_ns, before[0], side=side)) for side in ("left", "right"))
            count = min(count, low + int(np.searchsorted(planned.number[low:high], before[1])))
        taken, self.planned = planned.picked(slice(0, count)), planned.picked(slice(count, None))
        self.done_start = self.done_start.copy()
        self.done_start[taken.row] = taken.start_ns
        return taken

    def learn(self, taken: Planned) -> Wave:
        """Let observers act on what their runs carried; returns what is to be told."""
        wave = Wave(taken.end_ns, taken.row, taken.revision, self.roll)
        self.history.add(wave)
        return wave

    def oldest(self) -> int:
        """The oldest revision that somebody's rules here are made from."""
        return int(self.history.revision[self.live].min())
