"""Colours by meaning: four hues, each one meaning; everything else is grey.

`THEMES` are Textual themes built of the tokens (in `.tcss` they are ``$tok-traffic`` …); panes that draw their own
lines ask `look(app)` and take Rich styles by token name.
"""

from functools import lru_cache
from typing import Final

from rich.style import Style
from textual.app import App
from textual.theme import Theme

from kflab.records import dataclass
from kflab.tui.tokens_256 import PAPER_256, SLATE_256

TOKENS: Final = (
    "traffic",
    "wave",
    "back",
    "known",
    "late",
    "lost",
    "gap",
    "sel",
    "strong",
    "text",
    "dim",
    "faint",
    "spine",
    "rule",
    "yamlkey",
    "bg",
)
"""Every token. gap, sel and bg are grounds, all others inks."""

SLATE: Final = {
    "traffic": "#5fb0d3",
    "wave": "#42839f",
    "back": "#274555",
    "known": "#b69cf2",
    "late": "#e5ab5c",
    "lost": "#f4636f",
    "gap": "#2a1820",
    "sel": "#1c2736",
    "strong": "#ffffff",
    "text": "#cdd5e0",
    "dim": "#98a3b5",
    "faint": "#717d90",
    "spine": "#46536a",
    "rule": "#2a3341",
    "yamlkey": "#8fb4d8",
    "bg": "#0d1117",
}

PAPER: Final = {
    "traffic": "#1b7799",
    "wave": "#4f9ab8",
    "back": "#b5d2dd",
    "known": "#6741c0",
    "late": "#945400",
    "lost": "#bd1c33",
    "gap": "#fae3e1",
    "sel": "#e3eaf2",
    "strong": "#000000",
    "text": "#2d2b27",
    "dim": "#5d5951",
    "faint": "#756f64",
    "spine": "#a8a294",
    "rule": "#d6d2c8",
    "yamlkey": "#2a5f8f",
    "bg": "#fbfaf6",
}

ANSI: Final = {
    "traffic": "cyan",
    "wave": "cyan",
    "back": "bright_black",
    "known": "magenta",
    "late": "yellow",
    "lost": "red",
    "gap": "default",
    "sel": "default",
    "strong": "default",
    "text": "default",
    "dim": "default",
    "faint": "bright_black",
    "spine": "bright_black",
    "rule": "bright_black",
    "yamlkey": "blue",
    "bg": "default",
}
"""The terminal's own sixteen colours; grounds stay the user's, so the selection is a reversed name."""

_BOLD = frozenset({"strong", "lost"})
_DIM = frozenset({"dim", "faint", "back", "spine", "rule"})


@dataclass(frozen=True, eq=False)
class Look:
    """Styles of one theme. `plain` is NO_COLOR: bold, dim and reverse only.

    Compared by identity: there is one per theme, and hashing the table for every styled cell would cost a frame.
    """

    name: str
    table: tuple[tuple[str, str], ...]
    plain: bool = False

    @property
    def reverse_selection(self) -> bool:
        """Whether a selected name is drawn in reverse because there is no selection ground."""
        return self.plain or self.name == "ansi"

    def style(self, token: str, on: str = "bg", *, bold: bool = False, underline: bool = False) -> Style:
        """The style of an ink token on a ground token.

        Args:
            token: What it means, e.g. "lost".
            on: "bg", "gap" or "sel".
            bold: Bold besides.
            underline: Underlined besides.
        """
        return _style(self, token, on, bold, underline)

    def __getitem__(self, token: str) -> Style:
        return _style(self, token, "bg", False, False)

    def selected(self, bold: bool = True) -> Style:
        """The selected name."""
        if self.reverse_selection:
            return Style(bold=bold, reverse=True)
        return _style(self, "strong", "sel", bold, False)


@lru_cache(512)
def _style(look: Look, token: str, on: str, bold: bool, underline: bool) -> Style:
    if look.plain:
        return Style(
            bold=True if bold or token in _BOLD else None,
            dim=True if token in _DIM and not bold else None,
            underline=underline or None,
        )
    table = dict(look.table)
    dim = look.name == "ansi" and token == "dim"
    return Style(
        color=table[token],
        bgcolor=table[on],
        bold=True if bold or (look.name == "ansi" and token == "strong") else None,
        dim=True if dim and not bold else None,
        underline=underline or None,
    )


LOOKS: Final = {
    "slate": Look("slate", tuple(SLATE.items())),
    "paper": Look("paper", tuple(PAPER.items())),
    "ansi": Look("ansi", tuple(ANSI.items())),
    "plain": Look("plain", tuple(ANSI.items()), plain=True),
}
"""By theme name; "plain" is NO_COLOR."""

LOOKS_256: Final = {
    **LOOKS,
    "slate": Look("slate", tuple(SLATE_256.items())),
    "paper": Look("paper", tuple(PAPER_256.items())),
}
"""The same on a terminal of 256 colours."""


def look(app: App[object]) -> Look:
    """The look in force: NO_COLOR first, then the theme (slate for a theme that is not ours).

    An app that knows its terminal to have 256 colours says so as `colours`.
    """
    looks = LOOKS_256 if getattr(app, "colours", "") == "256" else LOOKS
    if app.no_color:
        return looks["plain"]
    return looks.get(app.theme, looks["slate"])


_ANSI_VARIABLES: Final = {
    "ansi-background": "ansi_black",
    "ansi-foreground": "ansi_white",
    "input-selection-background": "ansi_bright_blue",
    "input-selection-foreground": "ansi_black",
    "screen-selection-background": "ansi_bright_blue",
    "screen-selection-foreground": "ansi_black",
}
"""What Textual's own style sheets ask of a theme in the terminal's colours."""


def _theme(name: str, table: dict[str, str], dark: bool, ansi: bool = False) -> Theme:
    prefix = "ansi_" if ansi else ""
    tokens = {token: f"{prefix}{colour}" for token, colour in table.items()}
    return Theme(
        name=name,
        primary=tokens["traffic"],
        secondary=tokens["wave"],
        warning=tokens["late"],
        error=tokens["lost"],
        success=tokens["traffic"],
        accent=tokens["known"],
        foreground=tokens["text"],
        background=tokens["bg"],
        surface=tokens["bg"],
        panel=tokens["bg"],
        boost=tokens["bg"] if ansi else tokens["sel"],
        dark=dark,
        ansi=ansi,
        variables={
            **{f"tok-{token}": colour for token, colour in tokens.items()},
            "block-cursor-foreground": tokens["bg"] if not ansi else "ansi_black",
            "block-cursor-background": tokens["strong"] if not ansi else "ansi_white",
            "input-cursor-foreground": tokens["bg"] if not ansi else "ansi_black",
            "input-cursor-background": tokens["strong"] if not ansi else "ansi_white",
            "input-selection-background": tokens["spine"],
            "scrollbar": tokens["spine"],
            "scrollbar-hover": tokens["faint"],
            "scrollbar-active": tokens["dim"],
            "scrollbar-background": tokens["bg"],
            "scrollbar-background-hover": tokens["bg"],
            "scrollbar-background-active": tokens["bg"],
            "scrollbar-corner-color": tokens["bg"],
            "border": tokens["spine"],
            "border-blurred": tokens["rule"],
            "link-color": tokens["text"],
            **(_ANSI_VARIABLES if ansi else {}),
        },
    )


THEMES: Final = (
    _theme("slate", SLATE, dark=True),
    _theme("paper", PAPER, dark=False),
    _theme("ansi", ANSI, dark=True, ansi=True),
)
"""Register each with the app."""

THEMES_256: Final = (
    _theme("slate", SLATE_256, dark=True),
    _theme("paper", PAPER_256, dark=False),
    THEMES[2],
)
"""These instead where the terminal has 256 colours."""
