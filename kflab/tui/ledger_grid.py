"""The columns of the ledger: the same for every row, chosen by the terminal's width alone."""

from functools import lru_cache

from kflab.records import dataclass

CONTEXT_CELLS = 14
"""Cells of the context column, 2 s each."""

CONTEXT_CELL_BINS = 20
"""Bins of 0.1 s in one cell of the context column."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Columns, from 0. `hop` and `spine` are always 0 and 1, the glyph stands in 3, names begin in 5."""

    width: int
    name_end: int
    """First column behind a name."""
    state: int
    address: int | None
    node: int | None
    bar: int | None
    bar_cells: int
    figure: int
    """First column behind a figure (its right edge + 1)."""
    context: int | None
    lens: int | None
    lens_cells: int
    before: int
    """Lens cells left of ✖."""

    GLYPH = 3
    NAME = 5

    @property
    def text_end(self) -> int:
        """First column that the text left of the figure may not use: heads, footers, sentences."""
        return self.figure - 9

    @property
    def state_room(self) -> int:
        """Columns from a state to what follows it, the gap included."""
        return (self.address or self.node or self.text_end) - self.state

    @property
    def edges(self) -> tuple[int, ...]:
        """First columns of the slices that change at their own pace, and the width."""
        figures = self.bar if self.bar is not None else max(0, self.figure - 8)
        behind = self.context or self.lens or self.width
        return (0, figures, behind, self.lens if self.lens is not None else self.width, self.width)

    @property
    def short(self) -> bool:
        """Whether heads say only the short form."""
        return self.width < 92


def _lens(width: int, start: int) -> int:
    return max(8, width - start - (1 if width >= 92 else 0))


@lru_cache(64)
def grid_for(width: int) -> Grid:
    """The columns for a width.

    Below 120 columns go, in this order: the 30 s column, the bar, the node; address, state and figure stay. Extra
    columns between 120 and 159 lengthen the lens.
    """
    if width >= 126:
        # The pane beside the wide layout is 132 columns; alone at this width the lens simply grows.
        if width >= 130:
            return Grid(width, 29, 30, 42, 55, 63, 10, 81, 84, 101, min(_lens(width, 101), 60), 6)
        return Grid(width, 21, 22, 34, 50, 57, 8, 73, 75, 90, _lens(width, 90), 6)
    if width >= 118:
        return Grid(width, 21, 22, 34, 50, 57, 8, 73, 75, 90, _lens(width, 90), 6)
    if width >= 104:
        return Grid(width, 21, 22, 34, 50, 57, 8, 73, None, 75, _lens(width, 75), 6)
    if width >= 92:
        return Grid(width, 21, 22, 34, 50, None, 0, 65, None, 67, _lens(width, 67), 4)
    if width >= 70:
        return Grid(width, 20, 21, 33, None, None, 0, 52, None, 54, _lens(width, 54), 4)
    if width >= 60:
        return Grid(width, 20, 21, 33, None, None, 0, 52, None, None, 0, 0)
    return Grid(width, max(10, width - 20), max(11, width - 19), None, None, None, 0, width - 1, None, None, 0, 0)
