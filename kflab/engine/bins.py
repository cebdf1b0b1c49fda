"""Counts of what happened, in bins of 0.1 simulated seconds and in all.

What counts where: a try (ok or bad) in the bin in which its caller knew how it ended; a request *sent* in the bin of
its start, *ok* or *failed* in the bin of its finish; a connection of a chooser in the bin of the pick. A try is counted
once its request goes on or finishes, so the last fraction of a millisecond before `now` may still be missing.
"""

from enum import Enum

import numpy as np

from kflab.engine.types import Int32Array, Int64Array

BIN_NS = 100_000_000
RING = 512
"""Bins kept: 51.2 s."""


class Count(Enum):
    """What is counted, and per what."""

    SERVER_OK = "tries that were answered, per server"
    SERVER_BAD = "tries refused, reset or timed out, per server"
    STREAM_SENT = "requests started, per stream"
    STREAM_OK = "requests finished with status 200-399, per stream"
    STREAM_FAILED = "requests finished otherwise, per stream, but for those whose client is gone"
    STREAM_AGAIN = "attempts after the first, in the bin of their start, per stream"
    CHOOSER = "connections, per chooser"


class Bins:
    """Rings of counts. Everything is integers; adding is commutative, so order never matters."""

    def __init__(self) -> None:
        self._rings: dict[Count, Int32Array] = {count: np.zeros((RING, 8), dtype=np.int32) for count in Count}
        self._totals: dict[Count, Int64Array] = {count: np.zeros(8, dtype=np.int64) for count in Count}
        self._bin_of: Int64Array = np.full(RING, -1, dtype=np.int64)
        """[ring rows] -> the bin it holds; -1 none."""

    def ensure(self, count: Count, n: int) -> None:
        """Make room for ids below `n`."""
        ring, total = self._rings[count], self._totals[count]
        if n > ring.shape[1]:
            wide = max(n, 2 * ring.shape[1])
            self._rings[count] = np.zeros((RING, wide), dtype=np.int32)
            self._rings[count][:, : ring.shape[1]] = ring
            self._totals[count] = np.zeros(wide, dtype=np.int64)
            self._totals[count][: len(total)] = total

    def width(self, count: Count) -> int:
        """Return how many ids have room."""
        return len(self._totals[count])

    def _open(self, bin_index: int) -> int:
        """Return the ring row of a bin, emptied if it held an older one; -1 if the bin is already forgotten."""
        row = bin_index % RING
        if self._bin_of[row] != bin_index:
            if self._bin_of[row] > bin_index:
                return -1
            for ring in self._rings.values():
                ring[row] = 0
            self._bin_of[row] = bin_index
        return row

    def add(self, count: Count, ids: Int64Array, times: Int64Array) -> None:
        """Count one for each id at its time."""
        if not len(ids):
            return
        first, last = int(times.min()) // BIN_NS, int(times.max()) // BIN_NS
        if first == last:
            self.add_many(count, np.bincount(ids, minlength=self._totals[count].shape[0]), first)
            return
        width, n_bins = self._totals[count].shape[0], last - first + 1
        if n_bins > min(RING, len(ids)):
            bins = times // BIN_NS
            for bin_index in np.unique(bins).tolist():
                self.add_many(count, np.bincount(ids[bins == bin_index], minlength=width), bin_index)
            return
        cells = (times // BIN_NS - first) * width + ids
        amounts = np.bincount(cells, minlength=n_bins * width).reshape(n_bins, width)
        self._totals[count] += amounts.sum(axis=0)
        rows = np.array([self._open(first + i) for i in range(n_bins)])
        self._rings[count][rows[rows >= 0]] += amounts[rows >= 0].astype(np.int32)

    def add_many(self, count: Count, amounts: Int64Array, bin_index: int) -> None:
        """Add an amount for every id to one bin."""
        self._totals[count] += amounts
        row = self._open(bin_index)
        if row >= 0:
            self._rings[count][row] += amounts.astype(np.int32)

    def totals(self, count: Count) -> Int64Array:
        """Return the running totals, by id (possibly longer than there are ids)."""
        return self._totals[count].copy()

    def series(self, count: Count, first_bin: int, n_bins: int) -> Int64Array:
        """Return counts of `n_bins` bins, shape (n_bins, ids); zeros where nothing is kept."""
        bins = np.arange(first_bin, first_bin + n_bins)
        rows = bins % RING
        known = (self._bin_of[rows] == bins) & (bins >= 0)
        found = self._rings[count][rows].astype(np.int64)
        found[~known] = 0
        return found

    def one(self, count: Count, index: int, first_bin: int, n_bins: int) -> Int64Array:
        """Return counts of one id, shape (n_bins,)."""
        bins = np.arange(first_bin, first_bin + n_bins)
        rows = bins % RING
        known = (self._bin_of[rows] == bins) & (bins >= 0)
        return np.where(known, self._rings[count][rows, index], 0).astype(np.int64)
