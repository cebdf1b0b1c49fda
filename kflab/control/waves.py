"""Syncs of thousands of kube-proxies as columns: one entry among the facts, which are made when somebody reads them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kflab.control.facts import Fact, What
from kflab.manifest.objects import Key
from kflab.records import dataclass

Int64Array = NDArray[np.int64]

_fact: Callable[[Iterable[Any]], Fact] = partial(tuple.__new__, Fact)
"""As Fact._make, without a step in Python for each."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Who the rows are; a longer roll begins with the rows of the one before."""

    names: tuple[str, ...] = ()
    """Names of the observers."""
    subjects: tuple[Key, ...] = ()
    """What facts about each are about."""
    texts: tuple[str, ...] = ()
    """What they say."""
    row_of: Mapping[str, int] = field(default_factory=dict)
    """Name → row."""

    def and_also(self, more: Sequence[tuple[str, Key, str]]) -> "Roll":
        """With further rows of (name, subject, text)."""
        if not more:
            return self
        names, subjects, texts = zip(*more, strict=True)
        rows = {**self.row_of, **{name: row for row, name in enumerate(names, len(self.names))}}
        return Roll(self.names + names, self.subjects + subjects, self.texts + texts, rows)


@dataclass(frozen=True, slots=True)
class Wave:
    """Sync runs that ended one after another with nothing between; all arrays have shape (n,), in order."""

    t_ns: Int64Array
    """When each ended, ascending."""
    row: Int64Array
    """Whose it was: a place in the roll."""
    revision: Int64Array
    """What the rules are made from since."""
    roll: Roll

    def __len__(self) -> int:
        return len(self.row)

    @property
    def what(self) -> What:
        """The kind of all its facts."""
        return What.RULES_SYNCED

    @property
    def names(self) -> list[str]:
        """Whose runs these were, in order."""
        return list(map(self.roll.names.__getitem__, self.row.tolist()))

    def picked(self, which: NDArray[np.bool_]) -> "Wave":
        """Some of them."""
        return Wave(self.t_ns[which], self.row[which], self.revision[which], self.roll)

    def of(self, names: Collection[str]) -> Iterator[Fact]:
        """The facts of some observers, in order."""
        return self.picked(self._are(names)).facts() if names else iter(())

    def without(self, names: Collection[str]) -> "Wave":
        """The runs of all but some observers."""
        return self.picked(~self._are(names))

    def _are(self, names: Collection[str]) -> NDArray[np.bool_]:
        row_of = self.roll.row_of
        return np.isin(self.row, [row_of[name] for name in names if name in row_of])

    def facts(self) -> Iterator[Fact]:
        """All of them, as facts, in order."""
        rows, roll = self.row.tolist(), self.roll
        subjects, names, texts = (map(column.__getitem__, rows) for column in (roll.subjects, roll.names, roll.texts))
        told = zip(
            self.t_ns.tolist(), repeat(What.RULES_SYNCED), subjects, names, texts, self.revision.tolist(), repeat(()),
            repeat(""),
        )  # fmt: skip
        return map(_fact, told)


def flat(entries: Iterable[Fact | Wave]) -> Iterator[Fact]:
    """All facts, those of waves in their places."""
    for entry in entries:
        if isinstance(entry, Wave):
            yield from entry.facts()
        else:
            yield entry


def ended_ns(entry: Fact | Wave) -> int:
    """When a fact was, or the last of a wave."""
    return int(entry.t_ns[-1]) if isinstance(entry, Wave) else entry.t_ns
