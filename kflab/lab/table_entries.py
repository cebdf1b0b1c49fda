"""Nodes' conntrack entries as the lab counts them: of requests under way row by row, of finished ones by their ends."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kflab.engine.types import Finished, Int64Array
from kflab.lab.expiring import Expiring
from kflab.lab.tracked_rows import CLOSING, FIRM, LOOSE, Connections
from kflab.records import dataclass

_CLAMP_NS = (1_000_000_000, 300_000_000_000)
"""What the collector takes an entry's time left for, at least and at most (nf_conntrack_core.c, GC_SCAN_INTERVAL_MIN
and GC_SCAN_INTERVAL_CLAMP)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Entries of some requests that live now; arrays of one length."""

    places: Int64Array
    """Whose table."""
    ends: Int64Array
    """When each times out, ns; `NEVER` while it is open."""
    rows: Int64Array
    """Which request."""
    kinds: Int64Array
    """`tracked_rows.LOOSE`, `CLOSING` or `FIRM`."""
    tries: Int64Array
    """0: of the client's connection to an ingress; else the try's number, from 1."""

    def only(self, mask: NDArray[np.bool_]) -> "Found":
        """Some of them."""
        return Found(*(getattr(self, name)[mask] for name in self.__slots__))


def found_in(rows: Finished, connections: Iterator[Connections], now_ns: int) -> Found:
    """The entries that requests have on all nodes, one each per connection and node it crosses."""
    none = rows.number[:0]
    parts: list[tuple[Int64Array, ...]] = [(none, none, none, none, none)]
    for found in connections:
        for there, here in (
            (found.near, found.near >= 0),
            (found.far, (found.far >= 0) & (found.far != found.near)),
        ):
            live = np.flatnonzero(here & (found.until > now_ns))
            tries = np.full(len(live), found.try_number, dtype=np.int64)
            parts.append((there[live], found.until[live], found.rows[live], found.kinds[live], tries))
    return Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class EndedEntries:
    """Entries of requests that are over, until they time out: how many of each kind each node has."""

    def __init__(self) -> None:
        self._kinds = {kind: Expiring() for kind in (LOOSE, CLOSING, FIRM)}

    @property
    def left(self) -> Int64Array:
        """[places] -> how many there are."""
        loose, closing, firm = (known.left for known in self._kinds.values())
        return loose + closing + firm

    def of(self, kind: int, place: int) -> int:
        """How many of one kind a node has."""
        left = self._kinds[kind].left
        return int(left[place]) if place < len(left) else 0

    def expire(self, now_ns: int, n_places: int) -> None:
        """Take out what has ended by now; make room for new places."""
        for known in self._kinds.values():
            known.expire(now_ns, n_places)

    def add(self, found: Found) -> None:
        """Count entries."""
        for kind, known in self._kinds.items():
            mine = found.kinds == kind
            known.add(found.places[mine], found.ends[mine])

    def clear(self, place: int) -> None:
        """Take all of a node out."""
        for known in self._kinds.values():
            known.clear(place)

    def take_out(self, place: int, ends: Int64Array) -> None:
        """Take connections in TIME_WAIT or CLOSE out of a node's before their ends."""
        self._kinds[CLOSING].take_out(place, ends)

    def take_some(self, kind: int, place: int, which: Int64Array) -> None:
        """Take some of a node's out, named by their places in the order in which they end."""
        known = self._kinds[kind]
        ends = np.array(list(known.ends_of(place)), dtype=np.int64).reshape(-1, 2)
        at = np.searchsorted(np.cumsum(ends[:, 1]), which, side="right")
        known.take_out(place, ends[at, 0])

    def time_left(self, place: int, now_ns: int) -> int:
        """The time that a node's entries have left, in ns, added up as its collector does."""
        return sum(
            n * max(_CLAMP_NS[0], min(end - now_ns, _CLAMP_NS[1]))
            for known in self._kinds.values()
            for end, n in known.ends_of(place)
        )
