"""A character canvas for circuit drawings: wires whose joints always match, boxes, held labels and text.

Each cell stores the weight of its four arms in one byte (two bits an arm) and its ink in another, so a row becomes
glyphs by one `bytes.translate`-like lookup. Two wires that meet share the cell's byte, arm by arm the heavier, and the
glyph that has exactly these arms is drawn: lines meet by construction. A cell that holds text hides its arms.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final

from kflab.tui.glyphs import to_ascii
from kflab.tui.text import safe


class Weight(IntEnum):
    """How heavy an arm of a wire is; the heavier wins where two meet."""

    NONE = 0
    DOTTED = 1
    """Allowed but unused."""
    LIGHT = 2
    HEAVY = 3


UP, RIGHT, DOWN, LEFT = 0, 2, 4, 6
"""Bit positions of the arms in a cell's byte."""

INKS: Final = (
    "text",
    "strong",
    "dim",
    "faint",
    "spine",
    "rule",
    "traffic",
    "wave",
    "back",
    "known",
    "late",
    "lost",
    "yamlkey",
)
"""Ink tokens of `tokens.TOKENS` by their number in an ink byte (at most 16)."""

BOLD: Final = 0x10
REVERSE: Final = 0x20
SEL: Final = 0x40
"""On the ground of the selection."""
GAP: Final = 0x80
"""On the ground of the gap in which callers act on the past."""

_NUMBER: Final = {name: number for number, name in enumerate(INKS)}

Run = tuple[str, int]
"""Neighbouring cells of one ink: their text and the ink byte."""
Runs = tuple[Run, ...]


def ink(token: str, *, bold: bool = False, reverse: bool = False) -> int:
    """The ink byte of a token.

    Raises:
        KeyError: If `token` is not in `INKS`.
    """
    return _NUMBER[token] | (BOLD if bold else 0) | (REVERSE if reverse else 0)


def arms_of(up: Weight, right: Weight, down: Weight, left: Weight) -> int:
    """The byte of a cell with these arms."""
    return up << UP | right << RIGHT | down << DOWN | left << LEFT


def arm(cell: int, direction: int) -> Weight:
    """The weight of one arm of a cell's byte; `direction` is UP, RIGHT, DOWN or LEFT."""
    return Weight(cell >> direction & 3)


def _named_arms(name: str) -> int | None:
    """Read a character's arms off its Unicode name; None where it is no plain single line.

    Names are "BOX DRAWINGS LIGHT DOWN AND HEAVY RIGHT" (a weight before each direction), "… HEAVY DOWN AND RIGHT"
    (one weight for all) or "… DOWN LIGHT AND RIGHT UP HEAVY" (the weight behind its directions).
    Source: Unicode Character Database, block 2500-257F.
    """
    words = name.removeprefix("BOX DRAWINGS ").split()
    if any(word in ("DOUBLE", "ARC", "DIAGONAL", "DASH") for word in words):
        return None
    weights = {"LIGHT": Weight.LIGHT, "HEAVY": Weight.HEAVY, "SINGLE": Weight.LIGHT}
    ways = {
        "UP": (UP,),
        "DOWN": (DOWN,),
        "LEFT": (LEFT,),
        "RIGHT": (RIGHT,),
        "VERTICAL": (UP, DOWN),
        "HORIZONTAL": (LEFT, RIGHT),
    }
    cell = 0
    before: Weight | None = None
    for phrase in " ".join(words).split(" AND "):
        parts = phrase.split()
        own = next((weights[part] for part in parts if part in weights), None)
        if parts[0] in weights:
            before = own
        weight = own or before
        if weight is None:
            return None
        for part in parts:
            for direction in ways.get(part, ()):
                cell |= weight << direction
    return cell


def _unicode_table() -> tuple[str, ...]:
    drawn = {0: " "}
    for code in range(0x2500, 0x2580):
        cell = _named_arms(unicodedata.name(chr(code)))
        if cell is not None:
            drawn.setdefault(cell, chr(code))
    table = []
    for cell in range(256):
        weights = [arm(cell, way) for way in (UP, RIGHT, DOWN, LEFT)]
        solid = arms_of(*(Weight.LIGHT if weight is Weight.DOTTED else weight for weight in weights))
        table.append(drawn[solid])
    # Dotted lines exist only as straights; where one turns or joins, its arm is drawn light.
    dotted = Weight.DOTTED
    table[arms_of(Weight.NONE, dotted, Weight.NONE, dotted)] = "┄"
    table[arms_of(dotted, Weight.NONE, dotted, Weight.NONE)] = "┊"
    return tuple(table)


def _ascii_table() -> tuple[str, ...]:
    table = []
    for cell in range(256):
        up, right, down, left = (arm(cell, way) for way in (UP, RIGHT, DOWN, LEFT))
        across, along = max(left, right), max(up, down)
        if across and along:
            table.append("+")
        elif across:
            table.append(" .-="[across])
        else:
            table.append(" :||"[along])
    return tuple(table)


UNICODE_JOINTS: Final = _unicode_table()
"""Glyph of each of the 256 arm bytes."""
ASCII_JOINTS: Final = _ascii_table()


@lru_cache(64)
def _merger(arms: int) -> bytes:
    """Table from an arm byte to the same joined with other arms, arm by arm the heavier."""
    return bytes(
        sum(max(cell >> way & 3, arms >> way & 3) << way for way in (UP, RIGHT, DOWN, LEFT)) for cell in range(256)
    )


_INK_RUNS: Final = re.compile(rb"(.)\1*", re.DOTALL)


@lru_cache(8192)
def cells(text: str) -> str:
    """Outside text as characters of one cell each: invisible ones escaped, wide ones replaced by `□`."""
    text = safe(text)
    if text.isascii():
        return text
    return "".join("□" if unicodedata.east_asian_width(char) in "WF" else char for char in text)


class Canvas:
    """A drawing of `width` × `height` cells. Everything outside is ignored, so callers need not clip."""

    __slots__ = ("_arms", "_inks", "_joints", "_text", "ascii", "height", "width")

    def __init__(self, width: int, height: int, *, ascii: bool = False) -> None:  # noqa: A002 - the word for it
        self.width = max(0, width)
        self.height = max(0, height)
        self.ascii = ascii
        self._joints = ASCII_JOINTS if ascii else UNICODE_JOINTS
        self._arms = bytearray(self.width * self.height)
        self._inks = bytearray(self.width * self.height)
        self._text: list[str] = [""] * (self.width * self.height)

    def arms_at(self, x: int, y: int) -> int:
        """The arm byte of a cell (also of one that text hides)."""
        return self._arms[y * self.width + x]

    def holds_text(self, x: int, y: int) -> bool:
        """Whether text hides the cell's arms."""
        return self._text[y * self.width + x] != ""

    def _run(self, first: int, stop: int, step: int, arms: int, colour: int) -> None:
        """Give every `step`-th cell from `first` before `stop` arms, the heavier of old and new for each."""
        cells = slice(first, stop, step)
        self._arms[cells] = self._arms[cells].translate(_merger(arms))
        hidden = self._text[cells]
        if not any(hidden):
            self._inks[cells] = bytes((colour,)) * len(hidden)
        else:
            for at, text in zip(range(first, stop, step), hidden, strict=True):
                if not text:
                    self._inks[at] = colour

    def wire(self, points: Sequence[tuple[int, int]], weight: Weight, colour: int) -> None:
        """Draw a wire through the centres of the cells between the points.

        Args:
            points: Corners; neighbouring points share a column or a row.
            weight: Of all its arms.
            colour: Ink byte; the last wire through a cell decides the cell's ink.

        Raises:
            ValueError: If two neighbouring points share neither; the message gives them.
        """
        if not weight:
            return
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if x0 != x1 and y0 != y1:
                raise ValueError(f"a wire turns only at points: {(x0, y0)} to {(x1, y1)} is neither straight way")
            across = y0 == y1
            low, high = sorted((x0, x1) if across else (y0, y1))
            ahead, behind = (weight << RIGHT, weight << LEFT) if across else (weight << DOWN, weight << UP)
            limit, fixed, bound = (self.width, y0, self.height) if across else (self.height, x0, self.width)
            if low == high or not 0 <= fixed < bound:
                continue
            for start, stop, arms in ((low, low + 1, ahead), (low + 1, high, ahead | behind), (high, high + 1, behind)):
                start, stop = max(0, start), min(limit, stop)
                if start < stop and across:
                    self._run(fixed * self.width + start, fixed * self.width + stop, 1, arms, colour)
                elif start < stop:
                    step = self.width
                    self._run(start * step + fixed, (stop - 1) * step + fixed + 1, step, arms, colour)

    def box(self, x: int, y: int, width: int, height: int, colour: int, weight: Weight = Weight.LIGHT) -> None:
        """Draw a frame; wires drawn across it make a visible contact."""
        right, bottom = x + width - 1, y + height - 1
        self.wire([(x, y), (right, y), (right, bottom), (x, bottom), (x, y)], weight, colour)

    def text(self, x: int, y: int, text: str, colour: int, room: int | None = None) -> int:
        """Write text over whatever is there.

        Args:
            x: Column of its first character.
            y: Row.
            text: May come from outside.
            colour: Ink byte.
            room: Cells it may take; what is longer ends in `…`.

        Returns:
            The column after its last character.
        """
        text = cells(to_ascii(text) if self.ascii and not text.isascii() else text)
        if room is not None and len(text) > room:
            text = "" if room <= 0 else text[: room - 1].rstrip() + ("~" if self.ascii else "…")
        start, end = max(0, x), min(self.width, x + len(text))
        if 0 <= y < self.height and start < end:
            cells_here = slice(y * self.width + start, y * self.width + end)
            self._text[cells_here] = text[start - x : end - x]
            self._inks[cells_here] = bytes((colour,)) * (end - start)
        return x + len(text)

    def right(self, edge: int, y: int, text: str, colour: int) -> int:
        """Write text that ends before column `edge`; returns the column of its first character."""
        start = edge - len(cells(text))
        self.text(start, y, text, colour)
        return start

    def ground(self, x: int, y: int, width: int, height: int, which: int = SEL) -> None:
        """Lay a ground (SEL or GAP) under a rectangle of what is drawn so far."""
        for row in range(max(0, y), min(self.height, y + height)):
            start, end = row * self.width + max(0, x), row * self.width + min(self.width, x + width)
            for at in range(start, end):
                self._inks[at] |= which

    def first_word(self, x: int, y: int, width: int) -> tuple[int, int]:
        """(column, length) of the first text of more than one cell in a stretch of a row; length 0 without any."""
        start = -1
        for at in range(max(0, x), min(self.width, x + width) + 1):
            inside = at < min(self.width, x + width) and self._text[y * self.width + at] not in ("", " ")
            if inside and start < 0:
                start = at
            elif not inside and start >= 0:
                if at - start > 1:
                    return start, at - start
                start = -1
        return x, 0

    def widened(self, width: int, height: int) -> "Canvas":
        """The same drawing at the upper left of a canvas that is at least so large."""
        larger = Canvas(max(width, self.width), max(height, self.height), ascii=self.ascii)
        for y in range(self.height):
            old, new = (
                slice(y * self.width, (y + 1) * self.width),
                slice(y * larger.width, y * larger.width + self.width),
            )
            larger._arms[new] = self._arms[old]
            larger._inks[new] = self._inks[old]
            larger._text[new] = self._text[old]
        return larger

    def rows(self) -> list[Runs]:
        """The drawing as runs of equal ink, one tuple a row."""
        joints, width = self._joints, self.width
        drawn = []
        for start in range(0, self.height * width, width or 1):
            end = start + width
            line = "".join(
                [char or joints[cell] for char, cell in zip(self._text[start:end], self._arms[start:end], strict=True)]
            )
            drawn.append(
                tuple(
                    (line[found.start() - start : found.end() - start], self._inks[found.start()])
                    for found in _INK_RUNS.finditer(self._inks, start, end)
                )
            )
        return drawn

    def lines(self) -> list[str]:
        """The drawing as plain text, without trailing spaces."""
        return ["".join(text for text, _ in runs).rstrip() for runs in self.rows()]
