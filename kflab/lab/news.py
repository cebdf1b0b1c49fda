"""What happened, kept for whoever asks: facts, lines for the plain player, and the hash of the whole story."""

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from kflab.control.facts import Fact, What
from kflab.control.waves import Wave, ended_ns, flat

Line = tuple[int, str, str]
"""(when in ns, who, what)."""

T = TypeVar("T")

KEPT = 5_000
"""Facts, and lines, that are kept for views; the journal and the hash have seen them all."""

LIGHT = 8
"""So many facts of a wave take no more memory than one by itself."""


class Recent(Generic[T]):
    """The newest entries, as many as weigh `KEPT` facts."""

    def __init__(self) -> None:
        self.entries: deque[T | Wave] = deque()
        self._weight = 0

    def add(self, entry: T | Wave) -> None:
        """Keep an entry, and let the oldest go for it."""
        self.entries.append(entry)
        self._weight += _weight(entry)
        while self._weight > KEPT and len(self.entries) > 1:
            self._weight -= _weight(self.entries.popleft())

    def take(self) -> list[T | Wave]:
        """All of them; none are kept."""
        taken = list(self.entries)
        self.entries.clear()
        self._weight = 0
        return taken


def _weight(entry: object) -> int:
    return -(-len(entry) // LIGHT) if isinstance(entry, Wave) else 1


class News:
    """Takes in all facts of a lab in their order."""

    def __init__(self) -> None:
        self._facts, self._fresh = Recent[Fact](), Recent[Fact]()
        self._lines = Recent[Line]()
        self._hash = hashlib.blake2b(digest_size=16)
        self.told = 0
        """How many lines there were so far; a wave counts as one."""

    def hear(self, entries: Iterable[Fact | Wave]) -> None:
        """Take in what happened."""
        for entry in entries:
            self._facts.add(entry)
            self._fresh.add(entry)
            facts = entry.facts() if isinstance(entry, Wave) else (entry,)
            self._hash.update("".join([f"{f.t_ns} {f.what} {f.subject} {f.by} {f.revision}\n" for f in facts]).encode())
            if entry.what is not What.LISTENERS_CHANGED:
                self._line(entry if isinstance(entry, Wave) else (entry.t_ns, entry.by, entry.text))

    def say(self, t_ns: int, who: str, what: str) -> None:
        """Add a line that is no fact."""
        self._line((t_ns, who, what))

    def _line(self, line: Line | Wave) -> None:
        self._lines.add(line)
        self.told += 1

    @property
    def last_words(self) -> str:
        """What the last line says."""
        entry = self._lines.entries[-1]
        return _lines_of(entry)[-1][2]

    @property
    def facts(self) -> list[Fact]:
        """The newest facts."""
        return list(flat(self._facts.entries))

    @property
    def last_ns(self) -> int | None:
        """When the newest fact was; None before any."""
        return ended_ns(self._facts.entries[-1]) if self._facts.entries else None

    def take_lines(self) -> list[Line]:
        """Lines since the last call."""
        return [line for entry in self._lines.take() for line in _lines_of(entry)]

    def take_facts(self) -> list[Fact]:
        """Facts since the last call."""
        return list(flat(self._fresh.take()))

    def digest(self, more: bytes) -> str:
        """Hash of every fact so far, and of something more."""
        whole = self._hash.copy()
        whole.update(more)
        return whole.hexdigest()


def _lines_of(entry: Line | Wave) -> list[Line]:
    return [(fact.t_ns, fact.by, fact.text) for fact in entry.facts()] if isinstance(entry, Wave) else [entry]
