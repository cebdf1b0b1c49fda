"""The time columns of a row: sparklines, or why there is none."""

from collections.abc import Sequence

from kflab.lab.snapshot import Series
from kflab.tui.cells import CellLine
from kflab.tui.ledger_context import Paint, sentence
from kflab.tui.ledger_grid import CONTEXT_CELLS
from kflab.tui.sparks import context, level, window
from kflab.tui.text import fit


def draw_note(line: CellLine, paint: Paint, note: str) -> None:
    """Why a sparkline is empty."""
    grid = paint.grid
    text = sentence(note, paint.glyphs)
    if not text:
        return
    if grid.context is not None:
        line.put(grid.context, fit(text, CONTEXT_CELLS, paint.glyphs.ellipsis), "faint")
    elif grid.lens is not None:
        at = grid.lens + grid.before + 1
        line.put(at, fit(text, grid.width - at, paint.glyphs.ellipsis), "faint")


def draw_spark(
    line: CellLine,
    paint: Paint,
    row_id: str,
    series: Series,
    scale_name: str,
    *,
    head: bool = False,
    failed: bool = False,
) -> None:
    """The context column and the lens of one series."""
    grid, glyphs, snapshot = paint.grid, paint.glyphs, paint.snapshot
    scale = paint.scales.get(scale_name, 1.0)
    blocks = glyphs.blocks
    if grid.context is not None:
        for i, (ok, bad) in enumerate(context(series, snapshot.first_bin, paint.lens.now, CONTEXT_CELLS)):
            height = level(bad if failed else ok + bad, scale)
            if height:
                _cell(line, paint, grid.context + i, height, "back", failed or (bad > 0 and not head), blocks)
    if grid.lens is None:
        return
    for column, start, count in paint.lens.spans():
        first = snapshot.first_bin
        source = series
        if start < first and row_id in paint.captured:
            source, first = paint.captured[row_id]
        oks, bads, skip = window(source, first, start, count)
        for i, (ok_n, bad_n) in enumerate(zip(oks, bads, strict=True)):
            total = bad_n if failed else ok_n + bad_n
            if total:
                red = failed or (bad_n > 0 and (not head or ok_n == 0))
                _cell(line, paint, grid.lens + column + skip + i, level(total, scale), "wave", red, blocks)


def _cell(line: CellLine, paint: Paint, x: int, height: int, ink: str, red: bool, blocks: str) -> None:
    if red and paint.plain:
        line.put(x, paint.glyphs.refused, "lost")
    else:
        line.put(x, blocks[height - 1], "lost" if red else ink)


def sum_series(series: Sequence[Series]) -> Series | None:
    """The sum of several series."""
    if not series:
        return None
    ok, bad = series[0].ok.copy(), series[0].bad.copy()
    for one in series[1:]:
        ok += one.ok
        bad += one.bad
    return Series(ok, bad)
