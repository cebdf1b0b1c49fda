"""The axis above the ledger: column heads, then time."""

from rich.cells import cell_len

from kflab.lab.snapshot import BIN_NS, Mark
from kflab.tui.cells import CellLine
from kflab.tui.ledger_context import ENDING, Paint
from kflab.tui.ledger_grid import CONTEXT_CELL_BINS, CONTEXT_CELLS
from kflab.tui.lens import changes
from kflab.tui.text import instant


def paint_axis(paint: Paint, hidden: tuple[int, int] = (0, 0)) -> CellLine:
    """The one axis of all rows: column heads, then time.

    Args:
        paint: What all rows share.
        hidden: Rows out of sight above and below, said here.
    """
    grid, glyphs = paint.grid, paint.glyphs
    line = CellLine(grid.width)
    line.put(grid.NAME, "who chooses, among whom" if grid.state - grid.NAME > 23 else "who chooses", "faint")
    above, below = hidden
    if above or below:
        parts = ([f"{glyphs.more_up} {above}"] if above else []) + ([f"{glyphs.more_down} {below}"] if below else [])
        line.put(grid.NAME, " ".join(" " * 24), "faint")
        line.put(grid.NAME, f"{' '.join(parts)} more", "late")
    line.put(grid.state, "state", "faint")
    if grid.address is not None:
        line.put(grid.address, "address", "faint")
    if grid.node is not None:
        line.put(grid.node, "node", "faint")
    if grid.bar is not None:
        line.put(grid.bar, f"share {glyphs.tick_head}", "faint")
    line.right(grid.figure, "rate, %" if grid.width >= 92 else "rate", "faint")
    if grid.context is not None:
        line.put(grid.context, "-30 s", "faint")
        for mark in changes(paint.snapshot.marks):
            cell = CONTEXT_CELLS - (paint.lens.now // CONTEXT_CELL_BINS - mark.t_ns // BIN_NS // CONTEXT_CELL_BINS)
            if 5 < cell <= CONTEXT_CELLS:
                line.put(grid.context + min(CONTEXT_CELLS - 1, cell), glyphs.tick_down, mark_ink(mark))
    if grid.lens is not None:
        _lens_axis(line, paint)
    return line


def mark_ink(mark: Mark) -> str:
    return "lost" if mark.kind in (*ENDING, "cut") else "known" if mark.kind == "moved" else "late"


def _lens_axis(line: CellLine, paint: Paint) -> None:
    grid, glyphs, lens = paint.grid, paint.glyphs, paint.lens
    start = grid.lens or 0
    taken = [False] * grid.width

    def place(x: int, text: str, ink: str, bold: bool = False) -> None:
        width = cell_len(text)
        if x < start - 2 or x + width > grid.width or any(taken[max(0, x - 1) : x + width + 1]):
            return
        line.put(x, text, ink, bold)
        taken[x : x + width] = [True] * width

    change = paint.change
    if lens.caught is not None and change is not None:
        column = start + lens.before
        glyph = glyphs.crashed if change.kind in ENDING else glyphs.stale
        line.put(column, glyph, mark_ink(change), bold=True)
        taken[column] = True
        # From one minute on an instant is longer; it never covers a column's head, and goes where it has no room.
        room = column - (grid.context + 6 if grid.context is not None else grid.figure + 1)
        labels = [instant(change.t_ns, decimals) for decimals in (2, 1, 0)]
        label = next((words for least in (1, 0) for words in labels if len(words) + least <= room), "")
        line.right(column if len(label) == room else column - 1, label, mark_ink(change))
        taken[column - 1 - len(label) : column] = [True] * (len(label) + 1)
    if paint.open_ns is not None:
        column_of_request = lens.column(paint.open_ns // BIN_NS)
        if column_of_request is not None:
            place(start + column_of_request, glyphs.open_mark, "strong", bold=True)
    for mark in paint.snapshot.marks:
        at = lens.column(mark.t_ns // BIN_NS)
        if at is None or (change is not None and mark.t_ns == change.t_ns and mark.kind == change.kind):
            continue
        lost = glyphs.crashed if mark.kind in (*ENDING, "cut") else glyphs.stale
        glyph = glyphs.knows if mark.kind == "moved" else lost
        if not taken[start + at]:
            line.put(start + at, glyph, mark_ink(mark))
            taken[start + at] = True
    now = lens.now_column
    if now is not None:
        place(start + now - 2, "now", "strong", bold=True)
    if lens.caught is not None:
        for second in range(1, lens.cells // 10 + 1):
            x = start + lens.before + 10 * second
            place(x, f"+{second} s", "faint")
        return
    for second in range(1, lens.cells // 10 + 1):
        ago = lens.column(lens.now - 10 * second)
        if ago is not None:
            place(start + ago - 2, f"-{second} s", "faint")
