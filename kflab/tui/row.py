"""One printed line: pieces of text at fixed columns, each with a colour token; made into a Textual strip at the end."""

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.strip import Strip

from kflab.tui.text import safe
from kflab.tui.tokens import Look


class Row:
    """A line under construction, from left to right.

    Pieces never overlap: one that would start inside the previous piece is pushed behind it, and what passes the
    right edge is cropped when the strip is made. All text is made harmless here.
    """

    __slots__ = ("ground", "pieces", "x")

    def __init__(self, ground: str = "bg") -> None:
        self.ground = ground
        self.pieces: list[tuple[str, str, bool, bool]] = []
        self.x = 0

    def put(self, x: int, text: str, token: str = "text", bold: bool = False, underline: bool = False) -> "Row":
        """Write a piece at column `x`, or behind the last piece where that is further right."""
        text = safe(text)
        if not text:
            return self
        if x > self.x:
            self.pieces.append((" " * (x - self.x), "text", False, False))
            self.x = x
        self.pieces.append((text, token, bold, underline))
        self.x += cell_len(text)
        return self

    def add(self, text: str, token: str = "text", bold: bool = False) -> "Row":
        """Write directly behind the last piece."""
        return self.put(self.x, text, token, bold)

    def right(self, edge: int, text: str, token: str = "text", bold: bool = False) -> "Row":
        """Write so that the piece ends before column `edge`."""
        return self.put(edge - cell_len(safe(text)), text, token, bold)

    @property
    def text(self) -> str:
        """What the line says, without trailing spaces."""
        return "".join(piece[0] for piece in self.pieces).rstrip()

    def strip(self, look: Look, width: int) -> Strip:
        """Make the strip, exactly `width` cells wide; neighbours of one style are one segment."""
        segments: list[Segment] = []
        used = 0
        for text, token, bold, underline in (*self.pieces, (" " * max(0, width - self.x), "text", False, False)):
            room = width - used
            cells = cell_len(text)
            if cells > room:
                text, cells = set_cell_size(text, room), room
            if not text:
                continue
            used += cells
            style = look.style(token, self.ground, bold=bold, underline=underline)
            if text.isspace() and not underline:
                style = look.style("text", self.ground)
            if segments and segments[-1].style == style:
                segments[-1] = Segment(segments[-1].text + text, style)
            else:
                segments.append(Segment(text, style))
        return Strip(segments, width)


def wrap_words(text: str, width: int) -> list[str]:
    """Break a sentence into lines of at most `width` cells, at spaces where there are any."""
    lines: list[str] = []
    line = ""
    for word in safe(text).split(" "):
        candidate = f"{line} {word}" if line else word
        if cell_len(candidate) <= width or (not line and cell_len(word) <= width):
            line = candidate
            continue
        if line:
            lines.append(line)
        while cell_len(word) > width > 0:
            cut = set_cell_size(word, width)
            lines.append(cut)
            word = word[len(cut.rstrip()) or 1 :]
        line = word
    if line or not lines:
        lines.append(line)
    return lines
