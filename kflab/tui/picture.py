"""A screen as an SVG that looks the same everywhere: a grid of whole cells, lines and blocks drawn, nothing fetched.

Textual's own export leaves lines and bars to the viewer's font, so that they have gaps, and names web fonts. Here each
word starts exactly at its cell, and box drawings and blocks are shapes whose form follows from their Unicode names.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape

from rich.color_triplet import ColorTriplet
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.strip import Strip

WIDTH, HEIGHT = 12, 24
"""A cell, in units of the picture: 0.6 and 1.2 of the letter size, as most fonts of fixed width are."""

LETTERS = 20
BASELINE = 18
"""Letter size, and where letters stand below a cell's top."""

MARGIN, TITLE = 12, 34
"""Around the screen, and above it for the title."""

FONTS = "'Fira Code','JetBrains Mono','Cascadia Mono','DejaVu Sans Mono',Menlo,Consolas,monospace"
"""The first of these that the viewer has."""

DIM = 0.4
"""How far a dim ink goes towards its ground."""

TERMINAL = TerminalTheme(
    (13, 17, 23),
    (205, 213, 224),
    [
        (13, 17, 23),
        (244, 99, 111),
        (95, 179, 211),
        (229, 171, 92),
        (95, 179, 211),
        (182, 156, 242),
        (95, 179, 211),
        (205, 213, 224),
    ],
)
"""What a terminal's own colours are in a picture: those of the dark theme."""

Box = tuple[float, float, float, float]
"""x, y, width, height within a cell."""

_STROKES = {"LIGHT": 1.5, "HEAVY": 3.0}
_ARMS = {"UP": "u", "DOWN": "d", "LEFT": "l", "RIGHT": "r", "VERTICAL": "ud", "HORIZONTAL": "lr"}
_DASHES = {"DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}
_BLOCKS = {
    **{"LOWER " + part: n for n, part in enumerate(("", "ONE EIGHTH", "ONE QUARTER", "THREE EIGHTHS", "HALF"))},
    **{"LOWER " + part: n for n, part in enumerate(("FIVE EIGHTHS", "THREE QUARTERS", "SEVEN EIGHTHS"), 5)},
}


@lru_cache(256)
def arms(character: str) -> dict[str, float]:
    """Stroke width of each arm (u, d, l, r) of a box drawing; empty for any other character.

    "┿" is BOX DRAWINGS VERTICAL LIGHT AND HORIZONTAL HEAVY: a weight stands behind its directions, unless the name
    begins with a weight ("HEAVY VERTICAL AND RIGHT", "LIGHT LEFT AND HEAVY RIGHT"), which then stands before them.
    """
    kind, _, name = unicodedata.name(character, "").partition("BOX DRAWINGS ")
    if kind or not name or "DIAGONAL" in name or "DOUBLE " in name.replace("DOUBLE DASH", ""):
        return {}
    words = [word for word in name.split() if word in _ARMS or word in _STROKES]
    if words[0] not in _STROKES:
        words.reverse()
    found: dict[str, float] = {}
    stroke = 0.0
    for word in words:
        if word in _STROKES:
            stroke = _STROKES[word]
        else:
            found.update(dict.fromkeys(_ARMS[word], stroke))
    return found


@lru_cache(256)
def shapes(character: str) -> tuple[Box, ...]:
    """The rectangles a box drawing or block is made of, in its cell; () for what the font draws."""
    name = unicodedata.name(character, "")
    if name.endswith(" BLOCK") or name == "LOWER HALF BLOCK":
        eighths = _BLOCKS.get(name.removesuffix(" BLOCK"))
        if eighths:
            return ((0, HEIGHT * (1 - eighths / 8), WIDTH, HEIGHT * eighths / 8),)
        if name.startswith("LEFT "):
            across = _BLOCKS.get(name.removesuffix(" BLOCK").replace("LEFT ", "LOWER ", 1), 4)
            return ((0.0, 0.0, WIDTH * across / 8, float(HEIGHT)),)
        return {
            "FULL BLOCK": ((0.0, 0.0, float(WIDTH), float(HEIGHT)),),
            "UPPER ONE EIGHTH BLOCK": ((0.0, 0.0, float(WIDTH), HEIGHT / 8),),
        }.get(name, ())
    widths = arms(character)
    if not widths:
        return ()
    middle_x, middle_y = WIDTH / 2, HEIGHT / 2
    if " DASH " in name:
        count = next(n for word, n in _DASHES.items() if word in name)
        across, (length, stroke) = "l" in widths, (WIDTH if "l" in widths else HEIGHT, max(widths.values()))
        step = length / count
        dashes = [(i * step + step * 0.2, step * 0.6) for i in range(count)]
        if across:
            return tuple((at, middle_y - stroke / 2, long, stroke) for at, long in dashes)
        return tuple((middle_x - stroke / 2, at, stroke, long) for at, long in dashes)
    # An arm reaches over the middle by half the width of what crosses it, so that corners have no notch.
    over_y = max(widths.get("l", 0.0), widths.get("r", 0.0)) / 2
    over_x = max(widths.get("u", 0.0), widths.get("d", 0.0)) / 2
    boxes: list[Box] = []
    for arm, stroke in sorted(widths.items()):
        if arm in "lr":
            x = 0.0 if arm == "l" else middle_x - over_x
            boxes.append((x, middle_y - stroke / 2, middle_x + over_x, stroke))
        else:
            y = 0.0 if arm == "u" else middle_y - over_y
            boxes.append((middle_x - stroke / 2, y, stroke, middle_y + over_y))
    return tuple(boxes)


def _mixed(ink: ColorTriplet, ground: ColorTriplet, part: float) -> str:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(ink, ground, strict=True))
    return ColorTriplet(red, green, blue).hex


@lru_cache(1024)
def colours(style: Style) -> tuple[str, str]:
    """Ink and ground of a style, as #rrggbb."""
    ink, ground = TERMINAL.foreground_color, TERMINAL.background_color
    if style.color is not None and not style.color.is_default:
        ink = style.color.get_truecolor(TERMINAL)
    if style.bgcolor is not None and not style.bgcolor.is_default:
        ground = style.bgcolor.get_truecolor(TERMINAL)
    if style.reverse:
        ink, ground = ground, ink
    return _mixed(ink, ground, DIM if style.dim else 0.0), ground.hex


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _rect(box: Box) -> str:
    x, y, width, height = box
    return f"M{_number(x)} {_number(y)}h{_number(width)}v{_number(height)}h{_number(-width)}z"


def _words(cells: Sequence[tuple[str, Style]]) -> Iterator[tuple[int, str, Style]]:
    """(column, word, style): runs of one style without blanks and without what is drawn."""
    start, word = 0, ""
    for x, (character, style) in enumerate(cells):
        letter = character != " " and not shapes(character)
        if word and (not letter or style != cells[start][1]):
            yield start, word, cells[start][1]
            word = ""
        if letter:
            start = start if word else x
            word += character
    if word:
        yield start, word, cells[start][1]


def svg(strips: Sequence[Strip], title: str, shows: str) -> str:
    """Draw a screen.

    Args:
        strips: Its lines; every character is one cell wide.
        title: Above the screen.
        shows: For those who cannot see it.

    Returns:
        The same text for the same strips.
    """
    rows = [
        [(letter, segment.style or Style.null()) for segment in strip for letter in segment.text] for strip in strips
    ]
    width = max(map(len, rows)) * WIDTH
    height = len(rows) * HEIGHT
    base = colours(rows[0][0][1])
    grounds: dict[str, list[str]] = {}
    drawn: dict[str, list[str]] = {}
    texts: list[str] = []
    for y, cells in enumerate(rows):
        top = y * HEIGHT
        x = 0
        while x < len(cells):
            ground = colours(cells[x][1])[1]
            end = next((i for i in range(x, len(cells)) if colours(cells[i][1])[1] != ground), len(cells))
            if ground != base[1]:
                grounds.setdefault(ground, []).append(_rect((x * WIDTH, top, (end - x) * WIDTH, HEIGHT)))
            x = end
        for x, (letter, style) in enumerate(cells):
            for left, down, wide, high in shapes(letter):
                path = _rect((x * WIDTH + left, top + down, wide, high))
                drawn.setdefault(colours(style)[0], []).append(path)
        for x, word, style in _words(cells):
            more = ' font-weight="bold"' if style.bold else ""
            more += ' text-decoration="underline"' if style.underline else ""
            long = f' textLength="{len(word) * WIDTH}"' if len(word) > 1 else ""
            place = f'x="{x * WIDTH}" y="{top + BASELINE}"{long}'
            texts.append(f'<text {place} fill="{colours(style)[0]}"{more}>{escape(word, quote=False)}</text>')
    whole_width, whole_height = width + 2 * MARGIN, height + MARGIN + TITLE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole_width} {whole_height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(shows)}</desc>",
        f'<rect width="{whole_width}" height="{whole_height}" rx="8" fill="{base[1]}"/>',
        f'<rect x="0.5" y="0.5" width="{whole_width - 1}" height="{whole_height - 1}" rx="8" fill="none"'
        ' stroke="#808080" stroke-opacity="0.5"/>',
        f'<g font-family="{FONTS}" font-size="{LETTERS}" xml:space="preserve">',
        f'<text x="{whole_width / 2:g}" y="23" text-anchor="middle" font-size="15" fill="#808080">'
        f"{escape(title)}</text>",
        f'<g transform="translate({MARGIN},{TITLE})">',
        *(f'<path fill="{colour}" d="{"".join(paths)}"/>' for colour, paths in grounds.items()),
        *(f'<path fill="{colour}" d="{"".join(paths)}"/>' for colour, paths in drawn.items()),
        *texts,
        "</g></g></svg>",
    ]
    return "\n".join(lines) + "\n"
