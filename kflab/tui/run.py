"""Start the screen, where there is one."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

from kflab import exits
from kflab.lab.handle import LabHandle


def reason_for_plain(
    stdin: TextIO | None, stdout: TextIO | None, environment: Mapping[str, str] | None = None
) -> str | None:
    """Why no screen can be shown here, in words; None where one can.

    Textual starts without a terminal, and with TERM=dumb, and then fails late; so this is asked first.
    """
    environ = os.environ if environment is None else environment
    if stdout is None or not stdout.isatty():
        return "standard output is no terminal"
    if stdin is None or not stdin.isatty():
        return "standard input is no terminal"
    term = environ.get("TERM", "")
    if term in ("dumb", "unknown", ""):
        return f"the terminal type is {term or 'not set'} (TERM)"
    return None


def terminal_colours() -> str:
    """What the terminal can show, by COLORTERM and TERM as Rich reads them: "truecolor", "256" or "standard"."""
    from rich.console import Console
    from textual import constants

    # Textual paints through a console made like this one.
    return Console(color_system=constants.COLOR_SYSTEM, force_terminal=True).color_system or "standard"  # type: ignore[arg-type]


def run(
    lab: LabHandle,
    *,
    theme: str = "",
    glyphs: str = "",
    painted: Callable[[], None] | None = None,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
) -> int | None:
    """Show a running lab until the user leaves.

    Args:
        lab: What to show. It is not closed here.
        theme: slate, paper or ansi; "" asks KFLAB_THEME, then the terminal: slate, with 16 colours ansi.
        glyphs: ascii or unicode; "" asks the locale.
        painted: Called once, when the first frame is on the screen.
        stdin: Where keys come from; only asked whether it is a terminal.
        stdout: The same for the output.

    Returns:
        The exit code, or None when no screen can be shown here: nothing was started, and the caller falls back to
        plain lines (`reason_for_plain` says why).
    """
    if reason_for_plain(stdin or sys.stdin, stdout or sys.stdout) is not None:
        return None
    from kflab.tui.app import KflabApp

    app = KflabApp(
        lab,
        theme=theme or os.environ.get("KFLAB_THEME", ""),
        glyphs=glyphs,
        colours=terminal_colours(),
        painted=painted,
    )
    code = app.run()
    # Without a result the app was left in the ordinary way, or by an exception that Textual has shown.
    return (app.return_code or exits.OK) if code is None else code
