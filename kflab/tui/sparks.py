"""Sparklines: counts to heights, on scales that hold still."""

from collections.abc import Sequence

import numpy as np

from kflab.lab.snapshot import Series
from kflab.tui.ledger_grid import CONTEXT_CELL_BINS
from kflab.tui.text import S

SHRINK_NS = 30 * S
"""A scale steps down only after the smaller one has sufficed for this long."""

LEVELS = 7
"""Heights of a cell: ▁ to ▇."""


def step_125(value: float) -> float:
    """The smallest of 1, 2, 5 × 10ⁿ that is not below `value`; at least 1."""
    size = 1.0
    while True:
        for factor in (1, 2, 5):
            if value <= size * factor:
                return size * factor
        size *= 10


class Scales:
    """One scale per band and kind of row: up at once, down after 30 s of simulated time."""

    def __init__(self) -> None:
        self._scales: dict[str, tuple[float, int]] = {}

    def restart(self) -> None:
        self._scales.clear()

    def of(self, name: str, peak: float, t_ns: int) -> float:
        """The scale now, given the highest value in sight.

        Args:
            name: Whose scale, e.g. the band's id.
            peak: Highest count per bin.
            t_ns: Now.
        """
        wanted = step_125(peak)
        scale, since = self._scales.get(name, (wanted, t_ns))
        if wanted >= scale:
            scale, since = wanted, t_ns
        elif t_ns - since >= SHRINK_NS:
            scale, since = wanted, t_ns
        self._scales[name] = (scale, since)
        return scale


def level(count: float, scale: float) -> int:
    """0 for nothing, else 1 to 7."""
    if count <= 0:
        return 0
    return max(1, min(LEVELS, round(count / scale * LEVELS)))


def window(series: Series, first_bin: int, start: int, count: int) -> tuple[list[int], list[int], int]:
    """Counts of the bins `start` … that the series has: (ok, bad, how many bins are missing before the first)."""
    offset = start - first_bin
    skip = max(0, -offset)
    low = max(0, offset)
    high = max(low, offset + count)
    return series.ok[low:high].tolist(), series.bad[low:high].tolist(), skip


def context(series: Series, first_bin: int, now: int, cells: int) -> list[tuple[float, float]]:
    """Mean (ok, bad) counts per bin of the last complete 2 s cells, right-aligned; negative where there is none."""
    last = now // CONTEXT_CELL_BINS
    low = (last - cells) * CONTEXT_CELL_BINS
    ok, bad, skip = window(series, first_bin, low, cells * CONTEXT_CELL_BINS)
    result = []
    for cell in range(cells):
        a = cell * CONTEXT_CELL_BINS - skip
        b = a + CONTEXT_CELL_BINS
        if a < 0 or b > len(ok):
            result.append((-1.0, -1.0))
        else:
            result.append((sum(ok[a:b]) / CONTEXT_CELL_BINS, sum(bad[a:b]) / CONTEXT_CELL_BINS))
    return result


def peak(series: Sequence[Series]) -> int:
    """The highest complete bin of several series."""
    whole = [one for one in series if len(one.ok) > 1]
    if len(whole) > 1 and len({len(one.ok) for one in whole}) == 1:
        return int((np.stack([one.ok for one in whole])[:, :-1] + np.stack([one.bad for one in whole])[:, :-1]).max())
    return max((int((one.ok[:-1] + one.bad[:-1]).max()) for one in whole), default=0)
