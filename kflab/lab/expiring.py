"""Counts of things that end at known times: how many of each kind are left now."""

from collections.abc import Iterator

import numpy as np

from kflab.engine.types import Int64Array

BIN_NS = 100_000_000
"""Things leave the count at the first multiple of this after their end: counts are exact at every tenth of a second.
(A kernel's own count holds expired entries until its collector comes by, nf_conntrack_core.c, gc_worker.)"""


class Expiring:
    """How many of each kind are left."""

    def __init__(self) -> None:
        self._ending: dict[int, Int64Array] = {}
        """Bin of the end → how many end there, per kind."""
        self.left: Int64Array = np.zeros(0, dtype=np.int64)
        """[kinds] -> how many there are."""

    def add(self, kinds: Int64Array, ends: Int64Array) -> None:
        """Count things.

        Args:
            kinds: Their kinds, below the number given to `expire` last, shape (n,).
            ends: When each ends, ns, shape (n,).
        """
        if not len(kinds):
            return
        n_kinds = len(self.left)
        bins = -(-ends // BIN_NS)
        first = int(bins.min())
        counts = np.bincount((bins - first) * n_kinds + kinds)
        for k in range(-(-len(counts) // n_kinds)):
            part = counts[k * n_kinds : (k + 1) * n_kinds]
            if part.any():
                known = self._ending.setdefault(first + k, np.zeros(n_kinds, dtype=np.int64))
                if len(known) < len(part):
                    known = self._ending[first + k] = np.append(known, np.zeros(len(part) - len(known), dtype=np.int64))
                known[: len(part)] += part
                self.left[: len(part)] += part

    def take_out(self, kind: int, ends: Int64Array) -> None:
        """Take things of one kind out before their ends; what has expired by itself is out already."""
        for end in (-(-ends // BIN_NS)).tolist():
            if end in self._ending:
                self._ending[end][kind] -= 1
                self.left[kind] -= 1

    def clear(self, kind: int) -> None:
        """Take all things of one kind out."""
        for counts in (self.left, *self._ending.values()):
            counts[kind : kind + 1] = 0

    def expire(self, now_ns: int, n_kinds: int) -> None:
        """Take out what has ended by now; make room for new kinds."""
        for done in [end for end in self._ending if end * BIN_NS <= now_ns]:
            gone = self._ending.pop(done)
            self.left[: len(gone)] -= gone
        missing = n_kinds - len(self.left)
        if missing > 0:
            self.left = np.append(self.left, np.zeros(missing, dtype=np.int64))

    def ends_of(self, kind: int) -> Iterator[tuple[int, int]]:
        """(when, how many) of a kind, by time."""
        for end, counts in sorted(self._ending.items()):
            if kind < len(counts) and counts[kind]:
                yield end * BIN_NS, int(counts[kind])
