"""The engine's counts that one frame shows, and how far an observed share may stray from the expected one."""

from collections.abc import Iterable
from dataclasses import field
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kflab.engine.bins import Count
from kflab.lab.snapshot import BIN_NS, Series
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.running import Lab


WINDOW_BINS = 5
"""Live figures cover the last 0.5 s: five whole bins."""

Z99 = 2.5758293035489004
"""Two-sided 99 % quantile of the standard normal distribution."""

Ints = NDArray[np.int64]


@dataclass
class Counts:
    """Counts per bin for one frame, shape (n_bins, ids) each; the last bin is still filling."""

    first_bin: int
    n_bins: int
    whole: slice
    """The bins that live figures cover."""
    server_ok: Ints
    server_bad: Ints
    sent: Ints
    done: Ints
    failed: Ints
    chosen: Ints

    _windows: dict[int, list[int]] = field(default_factory=dict)
    """Sums over the window, by id, of columns that were asked for; the key is which."""
    _lately: dict[int, list[int]] = field(default_factory=dict)
    """Sums since the window began, by id, likewise."""
    _by_id: dict[int, Ints] = field(default_factory=dict)
    """The same counts, shape (ids, n_bins)."""
    _nothing: Ints | None = None

    @cached_property
    def seconds(self) -> float:
        """How long the window is."""
        return max(1, len(range(*self.whole.indices(self.n_bins)))) * BIN_NS / 1e9

    def window(self, columns: Ints) -> list[int]:
        """Sums over the window, by id."""
        sums = self._windows.get(id(columns))
        if sums is None:
            sums = self._windows[id(columns)] = columns[self.whole].sum(axis=0).tolist()
        return sums

    def rate(self, columns: Ints, ids: Iterable[int]) -> float:
        """Per second over the window, summed over ids."""
        sums = self.window(columns)
        known = len(sums)
        found = sum([sums[i] for i in ids if i < known])
        return found / self.seconds if found else 0.0

    def rate_of(self, columns: Ints, number: int) -> float:
        """`rate` of one id."""
        sums = self.window(columns)
        return sums[number] / self.seconds if number < len(sums) else 0.0

    def lately(self, columns: Ints, number: int) -> bool:
        """Whether an id has any count since the window began, in the bin that is still filling too."""
        found = self._lately.get(id(columns))
        if found is None:
            found = self._lately[id(columns)] = columns[self.whole.start :].sum(axis=0).tolist()
        return number < len(found) and found[number] > 0

    def one(self, columns: Ints, number: int) -> Ints:
        """Counts of one id per bin, read-only."""
        if number >= columns.shape[1]:
            return self.none()
        by_id = self._by_id.get(id(columns))
        if by_id is None:
            by_id = self._by_id[id(columns)] = np.ascontiguousarray(columns.T)
            by_id.setflags(write=False)
        only: Ints = by_id[number]
        return only

    def none(self) -> Ints:
        """No counts per bin, read-only."""
        if self._nothing is None:
            self._nothing = np.zeros(self.n_bins, dtype=np.int64)
            self._nothing.setflags(write=False)
        return self._nothing

    def total(self, columns: Ints, ids: Iterable[int]) -> Ints:
        """Sum over ids per bin, read-only."""
        wanted = [i for i in ids if i < columns.shape[1]]
        if len(wanted) == 1:
            return self.one(columns, wanted[0])
        if not wanted:
            return self.none()
        out: Ints = columns[:, wanted].sum(axis=1)
        out.setflags(write=False)
        return out

    def of_server(self, number: int) -> Series:
        """What a server answered and what was lost there."""
        return Series(self.one(self.server_ok, number), self.one(self.server_bad, number))


def frame(lab: "Lab", n_bins: int) -> Counts:
    """Read the engine's bins for one frame."""
    bins = lab.engine.bins
    now_bin = max(0, (lab.t_ns - 1) // BIN_NS) if lab.t_ns % BIN_NS == 0 else lab.t_ns // BIN_NS
    n = min(n_bins, now_bin + 1)
    first = now_bin - n + 1
    whole_end = n if lab.t_ns % BIN_NS == 0 else n - 1
    return Counts(
        first, n, slice(max(0, whole_end - WINDOW_BINS), max(1, whole_end)),
        bins.series(Count.SERVER_OK, first, n), bins.series(Count.SERVER_BAD, first, n),
        bins.series(Count.STREAM_SENT, first, n), bins.series(Count.STREAM_OK, first, n),
        bins.series(Count.STREAM_FAILED, first, n), bins.series(Count.CHOOSER, first, n),
    )  # fmt: skip


def spread(share: float, n: float) -> tuple[float, float]:
    """The 99 % band of an observed share of `n` connections whose expected share is `share`."""
    if n <= 0:
        return 0.0, 1.0
    half = Z99 * sqrt(max(share * (1 - share), 0.0) / n) + 0.5 / n
    return max(0.0, share - half), min(1.0, share + half)
