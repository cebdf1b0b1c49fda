"""A line of single cells, each with its own ink and ground; becomes a strip at the end."""

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from kflab.tui.tokens import Look


class CellLine:
    """One line under construction. Later writes cover earlier ones; nothing leaves the line."""

    __slots__ = ("chars", "grounds", "inks", "reverse", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.chars: list[str] = [" "] * width
        self.inks: list[tuple[str, bool]] = [("text", False)] * width
        self.grounds: list[str] = ["bg"] * width
        self.reverse = (0, 0)
        """Columns (start, end) drawn in reverse: the selected name where there is no selection ground."""

    def put(self, x: int, text: str, ink: str = "text", bold: bool = False) -> int:
        """Write from column `x`. Returns the column behind it."""
        pair = (ink, bold)
        if text.isascii():
            for char in text:
                if 0 <= x < self.width:
                    self.chars[x] = char
                    self.inks[x] = pair
                x += 1
            return x
        for char in text:
            cells = cell_len(char)
            if 0 <= x and x + cells <= self.width:
                self.chars[x] = char
                self.inks[x] = pair
                for extra in range(1, cells):
                    self.chars[x + extra] = ""
                    self.inks[x + extra] = pair
            x += cells
        return x

    def right(self, edge: int, text: str, ink: str = "text", bold: bool = False) -> None:
        """Write so that it ends before column `edge`."""
        self.put(edge - cell_len(text), text, ink, bold)

    def ground(self, start: int, end: int, token: str) -> None:
        """Set the ground of the columns `start` … `end` - 1."""
        for x in range(max(0, start), min(self.width, end)):
            self.grounds[x] = token

    @property
    def text(self) -> str:
        return "".join(self.chars).rstrip()

    def changes(self, old: "CellLine", start: int, end: int) -> tuple[int, int] | None:
        """Columns (first, behind the last) within `start` … `end` - 1 that differ from an older line; None for none."""
        if self.reverse != old.reverse:
            return (start, end)
        mine, theirs = self.chars[start:end], old.chars[start:end]
        inks, old_inks = self.inks[start:end], old.inks[start:end]
        grounds, old_grounds = self.grounds[start:end], old.grounds[start:end]
        if mine == theirs and inks == old_inks and grounds == old_grounds:
            return None
        differs = [
            i
            for i in range(len(mine))
            if mine[i] != theirs[i] or grounds[i] != old_grounds[i] or (inks[i] != old_inks[i] and mine[i] != " ")
        ]
        return (start + differs[0], start + differs[-1] + 1) if differs else None

    def strip(self, look: Look) -> Strip:
        """Make the strip; neighbours of one style are one segment."""
        first, behind = self.reverse
        segments: list[Segment] = []
        run: list[str] = []
        last: Style | None = None
        previous: tuple[tuple[str, bool], str, bool] = (("text", False), "", False)
        for x, (char, ink, ground) in enumerate(zip(self.chars, self.inks, self.grounds, strict=True)):
            inverted = first <= x < behind
            # A blank has no ink: it goes on in the one before, which saves a change of style, 40 bytes over SSH.
            key = (previous[0] if char == " " else ink, ground, inverted)
            if key != previous:
                token, bold = key[0]
                style = look.style(token, ground, bold=bold)
                if inverted:
                    style = style + Style(reverse=True)
                if style != last:
                    if run and last is not None:
                        segments.append(Segment("".join(run), last))
                    run, last = [], style
                previous = key
            run.append(char)
        if run and last is not None:
            segments.append(Segment("".join(run), last))
        return Strip(segments, self.width)
