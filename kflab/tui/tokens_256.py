"""The two themes in the colours that a terminal of 256 has: the cube of 6×6×6 and 24 greys (xterm's 256colres.pl).

Over SSH and in tmux COLORTERM is rarely set, so this is what most remote users see. Left to themselves Rich's nearest
colours turn the greys teal, the selection navy and the ground of a gap black. Here each token is a colour that such a
terminal has (Rich may still move a light grey by one step): greys have no hue, and the four hues stay four.
"""

from typing import Final

SLATE_256: Final = {
    "traffic": "#5fafd7",
    "wave": "#5f87af",
    "back": "#444444",
    "known": "#af87ff",
    "late": "#d7af5f",
    "lost": "#ff5f5f",
    "gap": "#262626",
    "sel": "#303030",
    "strong": "#ffffff",
    "text": "#d0d0d0",
    "dim": "#9e9e9e",
    "faint": "#808080",
    "spine": "#585858",
    "rule": "#3a3a3a",
    "yamlkey": "#87afd7",
    "bg": "#121212",
}

PAPER_256: Final = {
    "traffic": "#005faf",
    "wave": "#5f87af",
    "back": "#afd7ff",
    "known": "#5f00af",
    "late": "#875f00",
    "lost": "#af0000",
    "gap": "#ffd7d7",
    "sel": "#e4e4e4",
    "strong": "#000000",
    "text": "#262626",
    "dim": "#585858",
    "faint": "#6c6c6c",
    "spine": "#a8a8a8",
    "rule": "#d0d0d0",
    "yamlkey": "#005f87",
    "bg": "#ffffff",
}
