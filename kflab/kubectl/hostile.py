"""Names and values from manifests are data: whatever they contain, they must not steer a terminal."""

import unicodedata

_STEERING = frozenset({"Cc", "Cf", "Zl", "Zp", "Co", "Cs"})
"""Unicode categories that move the cursor, change direction or show nothing: control, format (bidi marks, zero
width), line and paragraph separators, private use, surrogates."""


def printable(text: str) -> str:
    r"""Show control, bidirectional and invisible characters escaped (\x1b, \u202e); leave all else as it is."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _STEERING else char
        for char in text
    )
