"""The lens: which instant each of its columns shows, live or caught on a change."""

from collections.abc import Sequence

from kflab.lab.knowledge import NODE_ENDS
from kflab.lab.snapshot import BIN_NS, Mark, Snapshot
from kflab.records import dataclass
from kflab.tui.text import S

HOLD_NS = 10 * S
"""A caught change is let go when all know and this long has passed since."""

SSH_STEP = 10
"""Over SSH the live lens shifts by this many cells at once, so that between shifts one column is painted."""

CONSEQUENCES = ("moved", "cut")
"""Kinds of mark that are no change: the lens is not caught on them."""

RECATCH_PART = 2
"""A further change is caught anew when it falls behind this part of the room right of ✖ (a half)."""


@dataclass(frozen=True, slots=True)
class Lens:
    """A window on bins of 0.1 s. Live: the last column is the newest. Caught: ✖ has a column of its own."""

    cells: int
    now: int
    """Bins before this one are complete."""
    end: int = 0
    """Live: the first bin behind the last column."""
    caught: int | None = None
    """Bin of the change that holds the lens."""
    before: int = 6

    def column(self, bin_index: int) -> int | None:
        """The column of a bin, or None outside."""
        if self.caught is None:
            column = bin_index - (self.end - self.cells)
        elif bin_index < self.caught:
            column = self.before - (self.caught - bin_index)
        else:
            column = self.before + 1 + bin_index - self.caught
        return column if 0 <= column < self.cells else None

    def bin_at(self, column: int) -> int | None:
        """The bin of a column; None for the column of ✖."""
        if self.caught is None:
            return self.end - self.cells + column
        if column == self.before:
            return None
        return self.caught + column - self.before - (1 if column > self.before else 0)

    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """Runs of columns of consecutive bins: (first column, first bin, how many), only complete bins."""
        if self.caught is None:
            first = self.end - self.cells
            return ((0, first, max(0, min(self.cells, self.now - first))),)
        left = (0, self.caught - self.before, max(0, min(self.before, self.now - self.caught + self.before)))
        right = (self.before + 1, self.caught, max(0, min(self.cells - self.before - 1, self.now - self.caught)))
        return (left, right)

    @property
    def now_column(self) -> int | None:
        """The last filled column, while the lens is filling; None once it is full."""
        if self.caught is None:
            return self.cells - 1 - max(0, self.end - self.now)
        column = self.before + self.now - self.caught
        return column if column < self.cells else None


def changes(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Marks that are changes (not their consequences), oldest first."""
    return tuple(mark for mark in marks if mark.kind not in CONSEQUENCES)


class LensControl:
    """Decides what the lens shows: follows the clock, catches each change, holds, lets go.

    It lets go some time after all know; of a node that fell silent, which takes much longer, some time after it fills.
    """

    def __init__(self, over_ssh: bool = False) -> None:
        self.over_ssh = over_ssh
        self.pinned: int | None = None
        """t_ns of a change chosen by hand; it is never let go by itself."""
        self._caught: int | None = None
        self._let_go: int | None = None
        """The change that was let go last; older ones are not caught again."""

    def restart(self) -> None:
        """A new life of the lab."""
        self.pinned = self._caught = self._let_go = None

    @property
    def caught_ns(self) -> int | None:
        """The change the lens shows now."""
        return self.pinned if self.pinned is not None else self._caught

    def follow(self, snapshot: Snapshot, cells: int, before: int) -> Lens:
        """The lens for a snapshot, `cells` wide with `before` cells left of ✖."""
        now = snapshot.t_ns // BIN_NS
        self._catch(snapshot, cells - before - 1)
        caught = self.caught_ns
        if caught is not None:
            return Lens(cells, now, caught=caught // BIN_NS, before=before)
        end = -(-now // SSH_STEP) * SSH_STEP if self.over_ssh else now
        return Lens(cells, now, end=end, before=before)

    def _catch(self, snapshot: Snapshot, room: int) -> None:
        found = changes(snapshot.marks)
        last = found[-1].t_ns if found else None
        if last is None or last == self._let_go:
            if last is None:
                self._caught = None
            return
        if self._caught is None or not any(mark.t_ns == self._caught for mark in found):
            self._caught = last
        elif (last - self._caught) // BIN_NS >= max(1, room // RECATCH_PART):
            self._caught = last
        knowledge = snapshot.knowledge
        learned = [knower.learned_ns for knower in knowledge.knowers if knower.learned_ns is not None]
        all_know = knowledge.known == knowledge.count
        if all_know:
            over = snapshot.t_ns - max([last, *learned]) >= HOLD_NS
        else:  # a lease takes 50 s to be too old: what comes meanwhile is watched live
            over = knowledge.kind in NODE_ENDS and snapshot.t_ns - last >= room * BIN_NS + HOLD_NS
        if over:
            self._let_go, self._caught = last, None

    def toggle(self, snapshot: Snapshot) -> None:
        """`z`: let go what is held, or hold the last change."""
        found = changes(snapshot.marks)
        if self.caught_ns is not None:
            self.pinned = None
            self._caught = None
            self._let_go = found[-1].t_ns if found else None
        elif found:
            self.pinned = found[-1].t_ns

    def step(self, snapshot: Snapshot, direction: int, known: Sequence[int] = ()) -> None:
        """`[` `]`: hold the change before or after the one shown.

        Args:
            snapshot: The lab now.
            direction: -1 or 1.
            known: Further changes that can still be drawn, t_ns.
        """
        times = sorted({mark.t_ns for mark in changes(snapshot.marks)} | set(known))
        if not times:
            return
        now = self.caught_ns
        if now is None:
            self.pinned = times[-1]
            return
        at = max((i for i, t_ns in enumerate(times) if t_ns <= now), default=0)
        self.pinned = times[max(0, min(len(times) - 1, at + direction))]
