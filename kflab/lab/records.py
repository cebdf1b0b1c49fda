"""Finished requests as the lab remembers them: a sample for the trace pane, totals for the report.

Sampling is part of the story: per 50 ms of simulated time the first request to finish, whatever became of it, and the
first failed and the first retried one beside it; of calls between pods the first failed one, and the first of those
whose turn it is. Neither slabs nor the screen change which.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from kflab.dataplane.request_record import CLIENT_GONE
from kflab.engine.retrying import attempt_of
from kflab.engine.types import MAX_TRIES, Answer, Finished
from kflab.lab.losses import ended_with_client, lost_mask, lost_tries
from kflab.records import dataclass

SAMPLE_NS = 50_000_000
"""Requests are sampled per this much simulated time."""

CALL_TURNS = 16
"""A stream of calls between pods is sampled in one of this many intervals."""

KEPT_TRACES = 400
"""Sampled requests that can still be opened."""

KEPT_ROWS = 20_000
"""Finished rows kept for access logs and for opening any recent request."""

_STATUS_WORDS = {
    Answer.REFUSED: "refused",
    Answer.RESET: "reset",
    Answer.TIMEOUT: "timeout",
    Answer.TABLE_FULL: "timeout",
    Answer.NO_PORT: "timeout",
    Answer.REJECTED: "refused",
    Answer.NO_UPSTREAM: "503",
    Answer.UNREACHABLE: "no route",
    Answer.GAVE_UP: "client timeout",
    Answer.CLIENT_GONE: CLIENT_GONE,
    Answer.NO_NAME: "not resolved",
    Answer.SYN_LOST: "timeout",
}


def status_text(status: int) -> str:
    """HTTP status as text, or the error the client saw on its socket."""
    return str(status) if status > 0 else _STATUS_WORDS.get(-status, "none")


@dataclass(frozen=True, slots=True)
class Record:
    """One finished request. Times in ns; per-try tuples have `MAX_TRIES` entries or fewer."""

    stream: int
    number: int
    start_ns: int
    finish_ns: int
    status: int
    tries: int
    node: int
    ingress: int
    servers: tuple[int, ...]
    answers: tuple[int, ...]
    try_starts_ns: tuple[int, ...]
    try_ends_ns: tuple[int, ...]
    workers: tuple[int, ...]
    queue_ns: int
    service_ns: int
    extra: tuple[tuple[str, int], ...] = ()

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 400

    @property
    def began_ns(self) -> int:
        """When the request's first attempt began; `start_ns` is that of this one."""
        return self.start_ns - dict(self.extra).get("since_ns", 0)

    @property
    def latency_ns(self) -> int:
        """How long the client waited, its lookup, earlier attempts and the waits between them included."""
        return self.finish_ns - self.began_ns + dict(self.extra).get("lookup_ns", 0)

    @property
    def lost(self) -> int:
        """Tries that did not get an answer."""
        return sum(answer not in (Answer.NONE, Answer.OK, Answer.CLIENT_GONE) for answer in self.answers)


def record(rows: Finished, i: int, in_flight: bool = False) -> Record:
    """Row `i` of the columns as one value; of a request in flight with the try that is under way."""
    n = sum(int(rows.try_answer[i, j]) != Answer.NONE for j in range(MAX_TRIES))
    if in_flight:
        n = int(rows.tries[i])
    return Record(
        int(rows.stream[i]),
        int(rows.number[i]),
        int(rows.start_ns[i]),
        int(rows.finish_ns[i]),
        int(rows.status[i]),
        int(rows.tries[i]),
        int(rows.node[i]),
        int(rows.ingress[i]),
        tuple(int(x) for x in rows.try_server[i, :n]),
        tuple(int(x) for x in rows.try_answer[i, :n]),
        tuple(int(x) for x in rows.try_start_ns[i, :n]),
        tuple(int(x) for x in rows.try_end_ns[i, :n]),
        tuple(int(x) for x in rows.try_worker[i, :n]),
        int(rows.queue_ns[i]),
        int(rows.service_ns[i]),
        tuple((name, int(column.reshape(len(rows), -1)[i, 0])) for name, column in rows.extra.items()),
    )


@dataclass(slots=True)
class Totals:
    """Counts since the start (or since the last change, for the second instance the lab keeps)."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    gone: int = 0
    """Requests that ended with their client's process, in hand: neither ok nor failed."""
    lost_tries: int = 0
    """Tries refused, rejected, reset or timed out, those of calls between pods too."""
    saved: int = 0
    """Requests that lost a try or an attempt and still went well."""
    retried: int = 0
    slowed: int = 0
    """Requests that went well after a try was lost, also one that NGINX did not count (on a kept connection)."""
    in_flight: int = 0
    attempts: int = 0
    """How often clients sent their requests, each anew counted."""
    by_status: Counter[str] = field(default_factory=Counter)
    """Failed requests by status."""

    def add(self, rows: Finished) -> None:
        """Count finished rows."""
        if not len(rows):
            return
        good = (rows.status >= 200) & (rows.status < 400)
        gone, lost = ended_with_client(rows), lost_tries(rows).sum(axis=1)
        bad = ~good & ~gone
        again = attempt_of(rows.number) > 0
        self.ok += int(good.sum())
        self.failed += int(bad.sum())
        self.gone += int(gone.sum())
        self.lost_tries += int(lost.sum())
        self.saved += int((good & ((lost > 0) | again)).sum())
        self.retried += int(((rows.tries > 1) | again).sum())
        self.slowed += int(lost_mask(rows)[1].sum())
        if bad.any():
            for status, count in zip(*np.unique(rows.status[bad], return_counts=True), strict=True):
                self.by_status[status_text(int(status))] += int(count)

    def add_tries(self, rows: Finished | None) -> None:
        """Count the tries that calls behind the front door, or attempts that others followed, lost: nobody's ends."""
        if rows is not None:
            self.lost_tries += int(lost_tries(rows).sum())


class Sampler:
    """Keeps the trace sample and the ring of recent rows.

    Args:
        family: Finds the calls that were made for a request among the recent rows.
        earlier: Finds the attempts that came before one.
    """

    def __init__(
        self,
        family: Callable[[Record], tuple[Record, ...]] = lambda _: (),
        earlier: Callable[[Record], tuple[Record, ...]] = lambda _: (),
    ) -> None:
        self._family, self._earlier = family, earlier
        self.attempts: dict[int, tuple[Record, ...]] = {}
        """Trace id → the attempts that came before, in order."""
        self.calls: dict[int, tuple[Record, ...]] = {}
        """Trace id → the calls that were made for that request, and for those calls in turn, in order of start."""
        self.traces: deque[tuple[int, Record]] = deque(maxlen=KEPT_TRACES)
        """(trace id, record), oldest first."""
        self.seen = 0
        self._open: dict[int, dict[int, Record]] = {}
        """Sampling interval → what was sampled, by kind (0 any, 1 failed, 2 retried; of calls
        between pods 3 any, 4 failed), while it may still grow."""
        self._recent: deque[Finished] = deque()
        self._recent_rows = 0

    def add(self, rows: Finished, now_ns: int, calls: "NDArray[np.bool_]") -> None:
        """Take finished rows, `calls` of them calls between pods; `now_ns` is how far simulated time has come."""
        if len(rows):
            self._recent.append(rows)
            self._recent_rows += len(rows)
            while self._recent_rows > KEPT_ROWS and len(self._recent) > 1:
                self._recent_rows -= len(self._recent.popleft())
            self._sample(rows, calls)
        for key in sorted(k for k in self._open if (k + 1) * SAMPLE_NS <= now_ns):
            chosen = {(one.stream, one.number): one for one in self._open.pop(key).values()}
            for one in sorted(chosen.values(), key=lambda one: (one.finish_ns, one.stream, one.number)):
                self.remember(one)

    def _sample(self, rows: Finished, calls: "NDArray[np.bool_]") -> None:
        interval = rows.finish_ns // SAMPLE_NS
        failed = (rows.status < 200) | (rows.status >= 400)
        # By turns: the calls that call nobody would always be the first to finish.
        turn = calls & (rows.stream % CALL_TURNS == interval % CALL_TURNS)
        fronts = ~calls & (rows.extra["next_ns"] == 0)
        again = (rows.tries > 1) | (attempt_of(rows.number) > 0)
        kinds = (fronts, fronts & failed, fronts & ~failed & again, turn, calls & failed)
        for kind, mask in enumerate(kinds):
            found = np.flatnonzero(mask)
            keys, first = np.unique(interval[found], return_index=True)
            for key, i in zip(keys.tolist(), found[first].tolist(), strict=True):
                self._open.setdefault(key, {}).setdefault(kind, record(rows, i))

    def remember(self, one: Record) -> int:
        """Add a record to the trace list; returns its id."""
        if len(self.traces) == KEPT_TRACES:
            self.calls.pop(self.traces[0][0], None)
            self.attempts.pop(self.traces[0][0], None)
        self.traces.append((self.seen, one))
        calls = self._family(one)
        if calls:
            self.calls[self.seen] = calls
        earlier = self._earlier(one)
        if earlier:
            self.attempts[self.seen] = earlier
        self.seen += 1
        return self.seen - 1

    def find(self, trace_id: int) -> Record | None:
        """The record of a trace id, or None when it has been dropped."""
        return next((one for known, one in self.traces if known == trace_id), None)

    def oldest_start_ns(self) -> int | None:
        """When the earliest request that can be opened by its trace id began; None without any."""
        waiting = (one.began_ns for found in self._open.values() for one in found.values())
        return min((*(one.began_ns for _, one in self.traces), *waiting), default=None)

    def oldest_row_ns(self) -> int | None:
        """When the earliest of the kept rows began; None without any."""
        return min((int(rows.start_ns.min()) for rows in self._recent if len(rows)), default=None)

    def recent_batches(self) -> Iterator[Finished]:
        """Columns of the kept rows, newest batch first, each in order of finish."""
        yield from reversed(self._recent)

    def recent(self) -> Iterator[Record]:
        """Every kept row, oldest first."""
        for rows in self._recent:
            for i in range(len(rows)):
                yield record(rows, i)
