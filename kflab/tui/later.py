"""What the first frame does without: imported once it stands, before somebody asks for it."""

from importlib import import_module
from threading import Thread

LATER = (
    "kflab.tui.command_line",
    "kflab.tui.help_screen",
    "kflab.tui.kill_menu",
    "kflab.tui.palette",
    "kflab.lab.terminal",
    "kflab.lab.single_requests",
    "kflab.lab.mode_switch",
    "kflab.kubectl.complete",
    "kflab.tui.again_screen",
)
"""Modules that a key or a command needs, the likeliest first."""


def load() -> None:
    """Import all of it."""
    for name in LATER:
        import_module(name)


def load_in_background() -> None:
    """The same in a thread of its own, which gives the interpreter up to a key every millisecond."""
    Thread(target=load, name="kflab-later", daemon=True).start()
