"""When requests start: Poisson streams whose gaps are addressed draws.

Request n starts one gap after request n - 1 (request 0 one gap after t = 0); the gap is an exponential of request n's
own ARRIVAL word. Times are kept in units of 2⁻¹⁰ ns so that rounding does not bend the rate. A change of rate rescales
what is left of the running gap: the exponential has no memory, so the stream stays Poisson, and the same luck serves
every rate.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import isqrt

import numpy as np

from kflab.draws import Draws, duration_table
from kflab.engine.types import Int64Array, UInt64Array
from kflab.records import dataclass

FRACTION_BITS = 10
"""Start times are int64 in 2⁻¹⁰ ns: 104 simulated days."""

NEVER = (1 << 63) - 1

_UNIT_BITS = 24
_MIN_BLOCK = 32
"""Rows drawn at least at once: a quiet stream asks the generator once in 32 requests."""

_MAX_BLOCK = 1 << 14
"""Rows drawn at most at once: 512 KiB of words, routed while they are in the cache."""

_TABLE_SHIFT = np.uint64(48)


def unit_gaps() -> Int64Array:
    """Return the exponential table with mean 2²⁴."""
    return duration_table("exponential", mean_ns=1 << _UNIT_BITS)


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate as the integers that scale a gap."""

    mean: int
    """Mean gap in 2⁻¹⁰ ns; 0 is silent."""

    @classmethod
    def of(cls, rate_rps: float) -> "Rate":
        return cls(round(Fraction(10**9 << FRACTION_BITS) / Fraction(rate_rps)) if rate_rps > 0 else 0)

    @property
    def drop(self) -> int:
        """How many low bits of the mean to leave out, so that a gap's product fits 63 bits (33 are kept)."""
        return max(0, self.mean.bit_length() - 33)

    def gaps(self, units: Int64Array) -> Int64Array:
        """Scale gaps of mean 2²⁴ to gaps in 2⁻¹⁰ ns."""
        return units * (self.mean >> self.drop) >> (_UNIT_BITS - self.drop)

    def gap(self, unit: int) -> int:
        return unit * (self.mean >> self.drop) >> (_UNIT_BITS - self.drop)


@dataclass(slots=True)
class Batch:
    """Consecutive requests of one stream that start inside a slab."""

    stream: int
    first: int
    starts: Int64Array
    """(n,) ns, ascending."""
    words: UInt64Array
    """(n, 4) draw words of attempt 0."""


@dataclass(slots=True)
class _Buffer:
    """Requests drawn ahead of one stream."""

    rate: Rate
    first: int
    """Number of row 0 of the buffer."""
    starts: Int64Array
    """(k,) in 2⁻¹⁰ ns."""
    words: UInt64Array
    used: int = 0
    held: tuple[int, int] | None = None
    """While silent: (what was left of the running gap, the mean it was drawn for)."""


class Arrivals:
    """The starts of all streams."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._units = unit_gaps()
        self._buffers: list[_Buffer] = []
        self.next_starts: Int64Array = np.zeros(0, dtype=np.int64)
        """[streams] -> start of the next request in 2⁻¹⁰ ns; NEVER when silent."""

    def add(self, rate_rps: float, t_ns: int) -> None:
        """Add the next stream, from `t_ns` on."""
        index = len(self._buffers)
        empty = np.zeros(0, dtype=np.int64)
        self._buffers.append(_Buffer(Rate(0), 0, empty, np.zeros((0, 4), dtype=np.uint64)))
        self.next_starts = np.append(self.next_starts, NEVER)
        self.set_rate(index, rate_rps, t_ns)

    def rows_per_ns(self) -> float:
        """Return the mean number of requests per simulated ns, to size slabs (it never reaches a result)."""
        return sum((1 << FRACTION_BITS) / buffer.rate.mean for buffer in self._buffers if buffer.rate.mean)

    def set_rate(self, stream: int, rate_rps: float, t_ns: int) -> None:
        """Change a rate at `t_ns`; every request before it has been taken."""
        buffer = self._buffers[stream]
        rate, now = Rate.of(rate_rps), t_ns << FRACTION_BITS
        if rate == buffer.rate:
            return
        if buffer.rate.mean:
            left: tuple[int, int] | None = (int(self.next_starts[stream]) - now, buffer.rate.mean)
        else:
            left = buffer.held
        buffer.rate = rate
        if not rate.mean:
            buffer.held = left
            self.next_starts[stream] = NEVER
            return
        if buffer.used == len(buffer.starts):
            self._draw(stream, buffer, _MIN_BLOCK)
        units = self._units[(buffer.words[buffer.used :, 0] >> _TABLE_SHIFT).astype(np.int64)]
        gaps = rate.gaps(units)
        gaps[0] = left[0] * rate.mean // left[1] if left is not None else gaps[0]
        buffer.held = None
        buffer.starts[buffer.used :] = np.cumsum(gaps) + now
        self.next_starts[stream] = buffer.starts[buffer.used]

    def take(self, end_ns: int) -> Iterator[Batch]:
        """Take every request that starts before `end_ns`, by stream, each batch drawn when it is asked for."""
        end = end_ns << FRACTION_BITS
        for stream in np.flatnonzero(self.next_starts < end).tolist():
            yield from self._take(stream, end)

    def _take(self, stream: int, end: int) -> Iterator[Batch]:
        buffer = self._buffers[stream]
        while True:
            stop = int(np.searchsorted(buffer.starts, end, side="left"))
            if stop > buffer.used:
                rows = slice(buffer.used, stop)
                starts = buffer.starts[rows] >> FRACTION_BITS
                batch = Batch(stream, buffer.first + buffer.used, starts, buffer.words[rows])
                buffer.used = stop
                yield batch
            if stop < len(buffer.starts):
                self.next_starts[stream] = buffer.starts[stop]
                return
            expected = (end - int(buffer.starts[-1])) // buffer.rate.mean
            self._draw(stream, buffer, min(_MAX_BLOCK, expected + 4 * isqrt(expected) + _MIN_BLOCK))

    def _draw(self, stream: int, buffer: _Buffer, count: int) -> None:
        """Replace a used-up buffer by the next requests."""
        first = buffer.first + len(buffer.starts)
        last = int(buffer.starts[-1]) if len(buffer.starts) else 0
        words = self._draws.block(stream, first, count)
        gaps = buffer.rate.gaps(self._units.take((words[:, 0] >> _TABLE_SHIFT).view(np.int64)))
        gaps[0] += last
        buffer.first, buffer.starts, buffer.words, buffer.used = first, np.cumsum(gaps), words, 0
        self.next_starts[stream] = buffer.starts[0]
