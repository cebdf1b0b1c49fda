"""Text in columns, aligned as Go's text/tabwriter does it: kubectl's tables and its `describe` layout.

A column is a run of neighbouring lines that have a tab-terminated cell at that position; its width is that of its
widest cell, so one line without the cell ends the column and a new one starts below. That is why the two halves of
`kubectl describe ingress` are indented differently, and why a plain `ljust` would not do.

Source: Go standard library text/tabwriter (documentation of Writer); kubectl pkg/printers `GetNewTabWriter`
(minwidth 6, padding 3) and pkg/describe `tabbedString` (minwidth 0, padding 2).
"""

from collections.abc import Iterable, Sequence

from kflab.kubectl.hostile import printable


def align(text: str, *, min_width: int, padding: int) -> str:
    """Replace tabs by spaces so that columns line up.

    Args:
        text: Lines whose cells end in a tab; what follows the last tab of a line belongs to no column.
        min_width: Smallest width of a column, padding included.
        padding: Spaces between the widest cell of a column and the next one.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    out: list[str] = [""] * len(lines)

    def block(first: int, last: int, widths: list[int]) -> None:
        column = len(widths)
        i = first
        while i < last:
            if column >= len(lines[i]) - 1:
                out[i] = _line(lines[i], widths)
                i += 1
                continue
            end = i
            width = min_width
            while end < last and column < len(lines[end]) - 1:
                width = max(width, len(lines[end][column]) + padding)
                end += 1
            block(i, end, [*widths, width])
            i = end

    block(0, len(lines), [])
    return "\n".join(out)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(
        cell.ljust(widths[j]) if j < len(cells) - 1 and j < len(widths) else cell for j, cell in enumerate(cells)
    )


def table(header: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """A kubectl table, one line per row, each ended by a newline; "" without rows.

    Args:
        header: Column names, or None for `--no-headers`.
        rows: Cells as text; control characters in them are shown escaped, tabs and newlines never break the table.
    """
    lines = ["\t".join(printable(cell) for cell in row) for row in rows]
    if not lines:
        return ""
    if header is not None:
        lines.insert(0, "\t".join(header))
    return align("\n".join(lines), min_width=6, padding=3) + "\n"


class Writer:
    """Collects the lines of a `describe`, as kubectl's PrefixWriter: two spaces per level, tabs align."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._pending: list[str] = []

    def line(self, level: int, *cells: str) -> None:
        """Write one line; every cell but the last ends in a tab."""
        self._pending.append("  " * level + "\t".join(printable(cell) for cell in cells))

    def flush(self) -> None:
        """End all columns here, as PrefixWriter.Flush does before a table of events."""
        if self._pending:
            self._parts.append(align("\n".join(self._pending), min_width=0, padding=2))
            self._pending = []

    def text(self) -> str:
        """All that was written, ended by a newline."""
        self.flush()
        return "".join(part + "\n" for part in self._parts)
