"""Copying: an OSC 52 sequence to the terminal, which puts the text on the clipboard of whoever sits before it."""

import os

from textual.app import App

from kflab.tui.text import plural

OSC52_LIMIT = 74_994
"""Bytes of text that still fit: xterm and tmux take at most 100,000 bytes of base64 in one OSC 52 (tmux input.c,
INPUT_BUF_LIMIT; xterm's historical limit is the same order), and 74,994 is the largest multiple of three below it."""


def copy(app: App[object], text: str, what: str) -> str:
    """Copy a text and say what happened.

    Terminals give no answer to OSC 52, so the sentence says what was sent, and where it is known not to arrive.

    Args:
        app: The running app.
        text: What to copy.
        what: Its name in the sentence: "trace", "address", "rule".

    Returns:
        One line for the status area.
    """
    if not text:
        return f"no {what} to copy"
    if len(text.encode()) > OSC52_LIMIT:
        return f"the {what} is too long for the terminal's clipboard: {len(text.encode()):,} bytes"
    app.copy_to_clipboard(text)
    if not takes_osc52():
        return f"{what} sent, but this terminal is not known to take OSC 52: select it with the mouse and shift"
    lines = text.count("\n") + 1
    return f"{what} copied" if lines == 1 else f"{what} copied, {plural(lines, 'line')}"


def takes_osc52() -> bool:
    """Whether the terminal is not one of those known to ignore OSC 52."""
    terminal = os.environ.get("TERM", "")
    # The Linux console and screen without its own wrapping have no clipboard; Apple's Terminal.app ignores OSC 52.
    return not (terminal in ("linux", "dumb", "") or os.environ.get("TERM_PROGRAM") == "Apple_Terminal")
