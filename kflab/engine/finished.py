"""Finished requests: kept for whoever takes them, hashed, and their latencies ranked."""

from collections import Counter, deque

import numpy as np
from numpy.typing import NDArray

from kflab.engine.express import ExpressFinished
from kflab.engine.memory import N_COLS, Col
from kflab.engine.types import MAX_TRIES, Finished, Int64Array, UInt64Array
from kflab.records import dataclass

KEPT_ROWS = 1 << 18
"""Rows kept for `take` when nobody takes them, at most (about 75 MB); then the oldest batch goes."""

KEPT_LATENCY_NS = 60_000_000_000
"""Windows look back this far at most, simulated: at low rates rows alone would be kept for hours."""

KEPT_LATENCIES = 1 << 18
"""Rows kept for percentiles."""

SLOW_NS, SLOW_BIN_NS = 500_000_000, 10_000_000
"""From when on a request's latency is counted, and how finely."""

_HASHED = [
    Col.STREAM, Col.NUMBER, Col.START, Col.DUE, Col.STATUS, Col.TRIES, Col.NODE, Col.INGRESS, Col.QUEUE, Col.SERVICE,
    Col.KEPT, Col.LOST, *range(Col.SERVER0, Col.WORKER0 + MAX_TRIES),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Window:
    """What finished in a window of simulated time. Percentiles are nearest-rank, over the latencies still kept."""

    n: int
    ok: int
    p50_ns: int | None
    p99_ns: int | None

    @property
    def failed(self) -> int:
        return self.n - self.ok


def mix(x: UInt64Array) -> UInt64Array:
    """Scramble 64-bit words (the finaliser of splitmix64)."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Counted requests, which all went well: shapes (n,), ns."""

    finish_ns: Int64Array
    latency_ns: Int64Array

    def finishes(self) -> Int64Array:
        return self.finish_ns

    def latencies(self) -> Int64Array:
        return self.latency_ns


Ranked = Int64Array | ExpressFinished | Latencies
"""What percentiles are made from."""


def _coded_latencies(batch: Ranked) -> tuple[Int64Array, Int64Array]:
    """Return finishes and latencies, the latter inverted where a request failed."""
    if not isinstance(batch, np.ndarray):
        return batch.finishes(), batch.latencies()
    latencies = batch[Col.DUE] - batch[Col.START] + batch[Col.SINCE] + batch[Col.LOOKUP]
    good = (batch[Col.STATUS] >= 200) & (batch[Col.STATUS] < 400)
    return batch[Col.DUE], np.where(good, latencies, ~latencies)


class FinishedRows:
    """A bounded store of finished rows.

    Args:
        kept_rows: Most rows kept for `take`.
        hashing: Whether to keep the digest.
    """

    def __init__(self, kept_rows: int = KEPT_ROWS, hashing: bool = True) -> None:
        self.kept_rows = kept_rows
        self.hashing = hashing
        self.total = 0
        self.dropped = 0
        """Rows that nobody took in time."""
        self._batches: deque[tuple[int, Int64Array | ExpressFinished]] = deque()
        self._kept = 0
        self._latencies: deque[tuple[int, int, Ranked]] = deque()
        self._n_latencies = 0
        self.longest_ns = 0
        """How long the slowest request took, failed or not, counted ones too."""
        self.slow: Counter[int] = Counter()
        """Requests that took `SLOW_NS` or more, however they ended, counted ones too, by whole `SLOW_BIN_NS`."""
        self._sum = 0
        self._sum2 = 0

    def add(self, rows: Int64Array, end_ns: int, unranked: "NDArray[np.bool_] | None" = None) -> None:
        """Add rows of the slab that ends at `end_ns`, as columns of the flights' matrix; DUE is their finish.

        `unranked`: which of them windows do not rank: calls between pods, attempts that others follow; None for none.
        """
        count = rows.shape[1]
        if not count:
            return
        self._add(count, rows, end_ns, rows if unranked is None else rows[:, ~unranked])
        if self.hashing:
            self._hash(rows)

    def add_express(self, over: ExpressFinished, end_ns: int) -> None:
        """Add rows that all went well."""
        self._add(len(over.rows), over, end_ns, over)
        if self.hashing:
            self._hash(over.matrix())

    def add_counted(self, over: ExpressFinished, end_ns: int) -> None:
        """Add requests of a counted span: only how long they took is kept."""
        finishes = over.finishes()
        self.total += len(finishes)
        self._rank(len(finishes), Latencies(finishes, over.latencies()), end_ns)
        if self.hashing:
            numbers, stream = over.express.numbers.take(over.rows), over.express.stream
            state = mix(mix((numbers + (stream << 48)).view(np.uint64)) + finishes.view(np.uint64))
            self._sum = (self._sum + int(state.sum())) & (1 << 64) - 1

    def _add(
        self,
        count: int,
        batch: "Int64Array | ExpressFinished",
        end_ns: int,
        ranked: "Int64Array | ExpressFinished",
    ) -> None:
        self.total += count
        self._batches.append((count, batch))
        self._kept += count
        while self._kept > self.kept_rows and len(self._batches) > 1:
            gone, _ = self._batches.popleft()
            self._kept -= gone
            self.dropped += gone
        self._rank(ranked.shape[1] if isinstance(ranked, np.ndarray) else count, ranked, end_ns)

    def _rank(self, n_ranked: int, ranked: Ranked, end_ns: int) -> None:
        coded = _coded_latencies(ranked)[1]
        if len(coded):
            self.longest_ns = max(self.longest_ns, int(coded.max()), int((~coded).max()))
        late = coded[(coded >= SLOW_NS) | (~coded >= SLOW_NS)]
        for place, count in zip(*np.unique(np.maximum(late, ~late) // SLOW_BIN_NS, return_counts=True), strict=True):
            self.slow[int(place)] += int(count)
        self._latencies.append((n_ranked, end_ns, ranked))
        self._n_latencies += n_ranked
        while len(self._latencies) > 1 and (
            self._n_latencies > KEPT_LATENCIES or self._latencies[0][1] < end_ns - KEPT_LATENCY_NS
        ):
            self._n_latencies -= self._latencies.popleft()[0]

    def took_between(self, low_ns: int, high_ns: int) -> int:
        """How many requests took from `low_ns` (`SLOW_NS` or more) to below `high_ns`, in whole `SLOW_BIN_NS`."""
        low, high = low_ns // SLOW_BIN_NS, high_ns // SLOW_BIN_NS
        return sum(count for place, count in self.slow.items() if low <= place < high)

    def _hash(self, rows: Int64Array) -> None:
        """Add every row's own hash: a sum does not depend on how rows came in batches."""
        state: UInt64Array = np.zeros(rows.shape[1], dtype=np.uint64)
        for col in _HASHED:
            state = mix(state + rows[col].view(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        mask = (1 << 64) - 1
        self._sum = (self._sum + int(state.sum())) & mask
        self._sum2 = (self._sum2 + int(mix(state ^ np.uint64(mask)).sum())) & mask

    def digest(self) -> str:
        """Return 128 bits over the set of all rows finished so far, hexadecimal."""
        return f"{self._sum:016x}{self._sum2:016x}"

    def window(self, start_ns: int, end_ns: int) -> Window:
        """Rank the latencies of requests that finished in [start, end)."""
        parts: list[Int64Array] = []
        for _, slab_end_ns, batch in reversed(self._latencies):
            if slab_end_ns <= start_ns:
                break
            finishes, latencies = _coded_latencies(batch)
            parts.append(latencies[(finishes >= start_ns) & (finishes < end_ns)])
        coded = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        n = len(coded)
        if not n:
            return Window(0, 0, None, None)
        good = int(np.count_nonzero(coded >= 0))
        latencies = np.where(coded >= 0, coded, ~coded)
        places = ((n * 50 + 99) // 100 - 1, (n * 99 + 99) // 100 - 1)
        ranked = np.partition(latencies, places)
        return Window(n, good, int(ranked[places[0]]), int(ranked[places[1]]))

    def take(self) -> Finished:
        """Hand out the rows kept, in order of (finish, stream, number), and forget them."""
        batches, self._batches, self._kept = self._batches, deque(), 0
        parts = [batch if isinstance(batch, np.ndarray) else batch.matrix() for _, batch in batches]
        rows = np.concatenate(parts, axis=1) if parts else np.zeros((N_COLS, 0), dtype=np.int64)
        rows = rows[:, np.lexsort((rows[Col.NUMBER], rows[Col.STREAM], rows[Col.DUE]))]

        return as_columns(rows)


def as_columns(rows: Int64Array) -> Finished:
    """Give columns of the flights' matrix their names; `finish_ns` is their due time."""

    def three(col: int) -> Int64Array:
        return np.ascontiguousarray(rows[col : col + MAX_TRIES].T)

    return Finished(
        stream=rows[Col.STREAM].astype(np.int32),
        number=rows[Col.NUMBER].copy(),
        start_ns=rows[Col.START].copy(),
        finish_ns=rows[Col.DUE].copy(),
        status=rows[Col.STATUS].astype(np.int32),
        tries=rows[Col.TRIES].astype(np.int8),
        node=rows[Col.NODE].astype(np.int32),
        ingress=rows[Col.INGRESS].astype(np.int32),
        try_server=three(Col.SERVER0).astype(np.int32),
        try_answer=three(Col.ANSWER0).astype(np.int8),
        try_start_ns=three(Col.TRY_START0),
        try_end_ns=three(Col.TRY_END0),
        try_worker=three(Col.WORKER0).astype(np.int32),
        queue_ns=rows[Col.QUEUE].copy(),
        service_ns=rows[Col.SERVICE].copy(),
        extra={
            "kept": rows[Col.KEPT].copy(),
            "lost": rows[Col.LOST].copy(),
            "lost_server": rows[Col.LOST_SERVER] - 1,
            "kept_ports": rows[Col.KEPT_PORTS].copy(),
            "caller": rows[Col.CALLER].copy(),
            "calling_ns": rows[Col.CALLING].copy(),
            "turns": rows[Col.TURNS].copy(),
            "opened_ns": rows[Col.OPENED].copy(),
            **{f"loads{k}": rows[Col.LOADS0 + k].copy() for k in range(MAX_TRIES + 1)},
            "since_ns": rows[Col.SINCE].copy(),
            "next_ns": rows[Col.NEXT].copy(),
            "lookup_ns": rows[Col.LOOKUP].copy(),
            "asked": rows[Col.ASKED].copy(),
            "waited_ns": rows[Col.WAITED].copy(),
        },
    )
