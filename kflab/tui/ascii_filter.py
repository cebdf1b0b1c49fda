"""ASCII on the whole screen: what panes do not draw themselves, and text from outside, in twins of the same width."""

from functools import lru_cache
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from kflab.tui.glyphs import to_ascii

_SCROLLBAR_ENDS: Final = dict.fromkeys(map(ord, "▁▂▃▄▅▆▇█▉▊▋▌▍▎▏"), " ")
"""Textual ends a scrollbar within a cell by these; panes' own blocks have been translated when they come here."""


class AsciiFilter(LineFilter):
    """For terminals that are not UTF-8: no byte beyond ASCII leaves the screen."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Replace what is beyond ASCII; widths stay, so nothing moves."""
        return [
            segment if segment.text.isascii() else Segment(_twin(segment.text), segment.style, segment.control)
            for segment in segments
        ]


@lru_cache(2048)
def _twin(text: str) -> str:
    return "".join(to_ascii(char)[: cell_len(char)].ljust(cell_len(char)) for char in text.translate(_SCROLLBAR_ENDS))
