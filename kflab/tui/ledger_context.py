"""What all rows of one ledger frame share, and words they have in common."""

from collections.abc import Mapping
from dataclasses import field

from kflab.lab.knowledge import CUTS_OFF, POD_ENDS
from kflab.lab.snapshot import BIN_NS, Mark, Series, Snapshot
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui.glyphs import UNICODE, Glyphs, to_ascii
from kflab.tui.ledger_grid import Grid
from kflab.tui.lens import Lens
from kflab.tui.text import safe

ENDING = (*POD_ENDS, *CUTS_OFF)
"""Kinds of change after which something answers no more: ✖, in the colour of what is lost."""

_LOSING = (*ENDING, "apply")
"""Kinds of change whose gap is tinted: callers may still be sent to what is no longer there."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures on show; they change at most four times a second."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """Band id → requests/s."""
    shares: Mapping[tuple[str, Key], float | None] = field(default_factory=dict)
    """(band id, candidate) → observed share."""
    outside: Mapping[tuple[str, Key], int] = field(default_factory=dict)
    """(band id, candidate) → 1 above, -1 below its band for a while now."""
    failed_rps: float = 0.0


@dataclass(slots=True)
class Paint:
    """Everything the rows of one frame share."""

    snapshot: Snapshot
    grid: Grid
    lens: Lens
    glyphs: Glyphs
    figures: Figures
    scales: Mapping[str, float]
    """Spark scale by name: band id for the head, band id + "|" for its candidates, "failed"."""
    plain: bool = False
    """NO_COLOR: refused cells are × instead of red blocks."""
    selected: str = ""
    flashing: frozenset[Key] = frozenset()
    hops: Mapping[str, int] = field(default_factory=dict)
    """Row id → hop number of the open request."""
    open_ns: int | None = None
    """Instant of the open request."""
    captured: Mapping[str, tuple[Series, int]] = field(default_factory=dict)
    """Row id → (series, its first bin), where the caught change has left the snapshot's series."""
    change: Mark | None = None
    """The change the lens is caught on."""
    moved_ns: int | None = None
    knowledge_ns: int | None = None
    """When the change happened that the who-knows rows are about."""

    @property
    def gap(self) -> tuple[int, int] | None:
        """Columns (start, end) of the tint, in the line."""
        if self.change is None or self.grid.lens is None or self.change.kind not in _LOSING:
            return None
        if self.lens.caught is None or self.knowledge_ns != self.change.t_ns:
            return None
        start = self.grid.lens + self.lens.before + 1
        if self.moved_ns is not None:
            column = self.lens.column(self.moved_ns // BIN_NS)
            end = self.grid.lens + (column if column is not None else self.lens.cells)
        elif self.snapshot.knowledge.known == self.snapshot.knowledge.count:
            return None
        else:
            end = self.grid.lens + min(self.lens.cells, self.lens.before + 1 + self.lens.now - self.lens.caught)
        return (start, max(start, end))

    @property
    def change_column(self) -> int | None:
        """Column of ✖ in the line."""
        if self.lens.caught is None or self.grid.lens is None:
            return None
        return self.grid.lens + self.lens.before


def sentence(text: str, glyphs: Glyphs) -> str:
    text = safe(text)
    return text if glyphs is UNICODE else to_ascii(text)
