"""Glyphs of the screen and their ASCII twins. Always one cell wide, always beside a word."""

import locale
import os
import sys
from dataclasses import fields

from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of glyphs. The defaults are Unicode."""

    ready: str = "●"
    starting: str = "◐"
    crashed: str = "✖"
    terminating: str = "◌"
    pending: str = "○"
    knows: str = "◆"
    stale: str = "◇"
    above: str = "▴"
    below: str = "▾"
    folded: str = "▸"
    unfolded: str = "▾"
    bar: str = "━"
    bar_half: str = "╸"
    empty: str = "─"
    tick_on: str = "┿"
    """Expected share where the bar reaches it."""
    tick_off: str = "┼"
    """Expected share on the empty bar."""
    tick_head: str = "┼"
    spine: str = "│"
    spine_tap: str = "├"
    spine_first: str = "╭"
    spine_last: str = "╰"
    lit: str = "┃"
    lit_tap: str = "┣"
    lit_first: str = "┏"
    lit_last: str = "┗"
    blocks: str = "▁▂▃▄▅▆▇"
    """Sparkline heights, lowest first; never a full block, so rows never touch."""
    past: str = "╌"
    """Acting on the past."""
    past_heavy: str = "╍"
    """The same where callers pay for it."""
    line: str = "│"
    """The line of a change, through all rows."""
    tick_down: str = "╷"
    open_mark: str = "▼"
    selected: str = "▌"
    ellipsis: str = "…"
    arrow: str = "→"
    back: str = "↩"
    refused: str = "×"
    running: str = "▶"
    paused: str = "‖"
    dot: str = "·"
    rule: str = "─"
    rule_heavy: str = "━"
    more_up: str = "▲"
    more_down: str = "▼"
    check: str = "✓"
    edited: str = "✎"
    corner: str = "╰"
    legend: str = "━"
    times: str = "×"
    left_right: str = "↔"


UNICODE = Glyphs()

ASCII = Glyphs(
    ready="*",
    starting="~",
    crashed="x",
    terminating=".",
    pending="o",
    knows="+",
    stale="-",
    above="^",
    below="v",
    folded=">",
    unfolded="v",
    bar="=",
    bar_half="=",
    empty="-",
    tick_on="|",
    tick_off="|",
    tick_head="|",
    spine="|",
    spine_tap="|",
    spine_first="|",
    spine_last="|",
    lit="#",
    lit_tap="#",
    lit_first="#",
    lit_last="#",
    blocks=".:-=+*#",
    past=".",
    past_heavy=".",
    line="|",
    tick_down="'",
    open_mark="v",
    selected=">",
    ellipsis="~",
    arrow=">",
    back="<",
    refused="x",
    running=">",
    paused="=",
    dot="-",
    rule="-",
    rule_heavy="=",
    more_up="^",
    more_down="v",
    check="+",
    edited="*",
    corner="|",
    legend="=",
    times="x",
    left_right="<>",
)

_TO_ASCII = str.maketrans(
    {
        **{
            glyph: twin
            for field in fields(Glyphs)
            for glyph, twin in zip(getattr(UNICODE, field.name), getattr(ASCII, field.name), strict=False)
        },
        "–": "-",
        "—": "-",
        "’": "'",
        "←": "<",
        "↑": "^",
        "↓": "v",
        "↔": "-",
        "›": ">",
        "│": "|",
        "─": "-",
    }
)


def to_ascii(text: str) -> str:
    """Replace every glyph of the screen in a sentence by its ASCII twin; other characters beyond ASCII become `?`."""
    return text.translate(_TO_ASCII).encode("ascii", "replace").decode("ascii")


def choose(setting: str = "") -> Glyphs:
    """Pick a set.

    Args:
        setting: "ascii" or "unicode" decides; "" asks the environment variable KFLAB_GLYPHS, then the locale.

    Returns:
        ASCII when the locale is not UTF-8, Unicode otherwise. An environment that names no locale counts as UTF-8 (a
        container's shell), one that says C or POSIX does not.
    """
    wish = (setting or os.environ.get("KFLAB_GLYPHS", "")).lower()
    if wish in ("ascii", "unicode"):
        return ASCII if wish == "ascii" else UNICODE
    encoding = _locale_encoding().lower().replace("-", "").replace("_", "")
    return UNICODE if encoding == "utf8" else ASCII


def _locale_encoding() -> str:
    """The locale's encoding; where Python has put itself into UTF-8 mode (PEP 540), what the environment asked for."""
    if not sys.flags.utf8_mode:
        return locale.getpreferredencoding(False)
    # LC_CTYPE says nothing here: Python overwrites it when it leaves the C locale (PEP 538).
    asked, _, charset = (os.environ.get("LC_ALL") or os.environ.get("LANG") or "").partition(".")
    return "ascii" if asked in ("C", "POSIX") and not charset else charset.partition("@")[0] or "utf8"


STATE_GLYPHS = {
    "ready": "ready",
    "healthy": "ready",
    "running": "ready",
    "starting": "starting",
    "not ready": "starting",
    "crashed": "crashed",
    "no power": "crashed",
    "failed": "crashed",
    "hung": "starting",
    "terminating": "terminating",
    "gone": "terminating",
    "pending": "pending",
    "unhealthy": "pending",
    "succeeded": "pending",
}
"""Field of `Glyphs` for each state word of a snapshot."""

DOWN = ("crashed", "no power")
"""States of a pod whose process has ended without anybody's wish."""

STATE_TOKENS = {
    "ready": "traffic",
    "healthy": "traffic",
    "running": "traffic",
    "starting": "late",
    "not ready": "late",
    "crashed": "lost",
    "no power": "lost",
    "failed": "lost",
    "hung": "lost",
    "terminating": "late",
    "gone": "faint",
    "pending": "dim",
    "unhealthy": "dim",
    "succeeded": "dim",
}
"""Colour token of a state's glyph."""


def of_state(glyphs: Glyphs, state: str) -> str:
    """The glyph for a state word; an unknown word gets the empty circle."""
    return str(getattr(glyphs, STATE_GLYPHS.get(state, "pending")))


def state_token(state: str) -> str:
    """The colour token for a state word."""
    return STATE_TOKENS.get(state, "dim")
