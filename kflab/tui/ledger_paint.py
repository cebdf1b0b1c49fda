"""One ledger row as a line of cells."""

from kflab.tui.cells import CellLine
from kflab.tui.ledger_axis import mark_ink
from kflab.tui.ledger_context import Paint
from kflab.tui.ledger_knows import draw_knower, draw_knows, draw_strip
from kflab.tui.ledger_rows import LedgerRow, RowKind
from kflab.tui.ledger_tiers import (
    draw_candidate,
    draw_failed,
    draw_fold,
    draw_group,
    draw_head,
    draw_more,
    draw_services,
    draw_sockets,
    draw_words,
)

_DRAW = {
    RowKind.HEAD: draw_head,
    RowKind.FAILED: draw_failed,
    RowKind.SOCKETS: draw_sockets,
    RowKind.CANDIDATE: draw_candidate,
    RowKind.GROUP: draw_group,
    RowKind.ROUTE: draw_words,
    RowKind.BLANK: draw_words,
    RowKind.FOOTER: draw_words,
    RowKind.FOLD: draw_fold,
    RowKind.MORE: draw_more,
    RowKind.SERVICES: draw_services,
    RowKind.KNOWS: draw_knows,
    RowKind.KNOWER: draw_knower,
    RowKind.STRIP: draw_strip,
}


def paint_row(row: LedgerRow, spine: str, paint: Paint) -> CellLine:
    """Draw a row.

    Args:
        row: Which.
        spine: Its spine glyph and ink: a glyph, or glyph + "!" where the path is lit.
        paint: What all rows share.
    """
    line = CellLine(paint.grid.width)
    gap = paint.gap
    if gap is not None:
        line.ground(*gap, "gap")
    if row.id == paint.selected:
        line.ground(0, paint.grid.figure, "sel")
    _DRAW[row.kind](row, line, paint)
    column = paint.change_column
    if column is not None and paint.change is not None:
        line.put(column, paint.glyphs.line, mark_ink(paint.change))
    lit = spine.endswith("!")
    if spine:
        line.put(1, spine.rstrip("!"), "strong" if lit else "spine", bold=lit)
    hop = paint.hops.get(row.id)
    if hop is not None:
        line.put(0, str(hop) if hop < 10 else "+", "strong", bold=True)
    elif row.id == paint.selected:
        line.put(0, paint.glyphs.selected, "strong", bold=True)
    return line
