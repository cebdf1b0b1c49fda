"""Words and figures as the screen writes them: names, numbers, clocks, and text from outside made harmless."""

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from textual.content import Content

from kflab.lab.instants import instant as instant

S = 1_000_000_000
MS = 1_000_000

_CONTROL = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e", "\x00": "\\0"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@lru_cache(4096)
def safe(text: str) -> str:
    """Show control, bidirectional and other invisible characters escaped, so that names cannot move the cursor.

    Text from outside (names, paths, annotations, log lines) goes through here and then into `Segment`s or
    `plain`, never through a markup parser.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char in _CONTROL:
        return _CONTROL[char]
    if unicodedata.category(char) in _INVISIBLE or unicodedata.combining(char):
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return char


def plain(text: str, style: str = "") -> Content:
    """Outside text as Textual `Content` that is never parsed as markup."""
    return Content.styled(safe(text), style) if style else Content(safe(text))


@lru_cache(4096)
def shorten(name: str, width: int, ellipsis: str = "…") -> str:
    """Shorten a name in the middle, keeping the whole last part: ``product-7c9f8d6b5-m4dd8`` → ``product-…-m4dd8``.

    Args:
        name: A Kubernetes name (or other outside text).
        width: How many cells there are.
        ellipsis: The sign for what is missing; no Kubernetes name holds it.

    Returns:
        At most `width` cells. Only where even the last part is wider does its *start* go.
    """
    name = safe(name)
    if cell_len(name) <= width:
        return name
    if width <= 0:
        return ""
    head, _, tail = name.rpartition("-")
    if head and len(tail) + 2 <= width:
        room = width - len(tail) - 2
        # Whole leading parts where one fits ("product-…-m4dd8"), letters of the first part where none does.
        parts = head.split("-")
        kept = ""
        for part in parts:
            longer = f"{kept}{part}-"
            if len(longer) > room:
                break
            kept = longer
        if not kept and room >= 2:
            kept = head[:room].rstrip("-")
        return f"{kept}{ellipsis}-{tail}"
    if len(tail) <= width and head:
        return tail
    if width == 1:
        return ellipsis
    front = (width - 1) // 3
    rest = width - 1 - front
    return _cells(name, front) + ellipsis + _cells_end(name, rest)


def tail(name: str) -> str:
    """The last part of a name, as a trace shows it: ``m4dd8``."""
    return safe(name).rpartition("-")[2]


def _cells(text: str, width: int) -> str:
    """As much of the start as fits into `width` cells."""
    used = 0
    for i, char in enumerate(text):
        used += cell_len(char)
        if used > width:
            return text[:i]
    return text


def _cells_end(text: str, width: int) -> str:
    used = 0
    for i in range(len(text) - 1, -1, -1):
        used += cell_len(text[i])
        if used > width:
            return text[i + 1 :]
    return text


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """A sentence in `width` cells: as it is, or cut with a sign. For prose only; names use `shorten`."""
    if cell_len(text) <= width:
        return text
    return "" if width <= 0 else _cells(text, width - 1).rstrip() + ellipsis


def fit_words(text: str, width: int, ellipsis: str = "…") -> str:
    """A sentence in `width` cells: its longest word is shortened in the middle first, then its end is cut."""
    over = cell_len(text) - width
    if over <= 0:
        return text
    words = text.split(" ")
    longest = max(range(len(words)), key=lambda i: cell_len(words[i]))
    room = cell_len(words[longest]) - over
    if room >= 12:
        words[longest] = shorten(words[longest], room, ellipsis)
    return fit(" ".join(words), width, ellipsis)


def rate(rps: float, per: str = "/s") -> str:
    """``1,004/s``; from 100,000 ``104k/s``; below 10 one decimal where it says something: ``0.5/s``."""
    return number(rps) + per


def number(value: float) -> str:
    """``1,004``, ``104k``, ``1.28M``; below 10 with one decimal unless it is whole."""
    if value >= 9_999_500:
        return f"{value / 1e6:.3g}M"
    if value >= 999_500:
        return f"{value / 1e6:.2f}M"
    if value >= 99_999.5:
        return f"{value / 1000:.0f}k"
    if 0 < value < 9.95 and abs(value - round(value)) >= 0.05:
        return f"{value:.1f}"
    return f"{round(value):,}"


def share(part: float | None) -> str:
    """``33.4 %``, but ``0 %`` and ``100 %``; never 0 or 100 for what is only near it."""
    if part is None:
        return ""
    percent = part * 100
    if percent <= 0:
        return "0 %"
    if percent >= 100:
        return "100 %"
    return f"{min(max(percent, 0.1), 99.9):.1f} %"


def ms(ns: int | None) -> str:
    """Milliseconds without the unit: one decimal below 10, none above, ``–`` for none."""
    if ns is None:
        return "–"
    value = ns / MS
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def clock(t_ns: int) -> str:
    """Simulated time: ``mm:ss.cc``, ``h:mm:ss`` from one hour."""
    centis = max(0, t_ns) // 10_000_000
    minutes, rest = divmod(centis, 6000)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}"
    return f"{minutes:02d}:{rest // 100:02d}.{rest % 100:02d}"


def after(delta_ns: int) -> str:
    """A delay after the change: ``+0.63 s``; from 100 s ``+2:03``."""
    if delta_ns >= 100 * S:
        return f"+{delta_ns // (60 * S)}:{delta_ns // S % 60:02d}"
    return f"+{delta_ns / S:.2f} s"


def span(ns: int) -> str:
    """A length of time: ``0.63 s``, ``14 s``, ``2 min``."""
    if ns < 10 * S:
        return f"{ns / S:.2f} s"
    if ns < 120 * S:
        return f"{ns / S:.0f} s"
    return f"{ns / (60 * S):.0f} min"


def speed(factor: float) -> str:
    """``×1``, ``×0.6``, ``×0.01``, ``×100``."""
    return f"×{factor:.2g}" if factor < 100 else f"×{factor:.0f}"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 pod``, ``3 pods``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
