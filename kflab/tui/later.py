"""What the first frame does without: imported once it stands, before somebody asks for it."""

from collections.abc import Callable
from importlib import import_module
from threading import Thread

LATER = (
    "kflab.lab.reopening",
    "kflab.tui.nodes_view",
    "kflab.tui.schematic",
    "kflab.tui.request_pane",
    "kflab.tui.shares_pane",
    "kflab.tui.gantt_pane",
    "kflab.tui.rules_pane",
    "kflab.tui.facts_view",
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


def load_in_background(then: Callable[[], object]) -> None:
    """The same in a thread of its own, which gives the interpreter up to a key every millisecond.

    Args:
        then: Called in that thread when all is imported.
    """

    def run() -> None:
        load()
        then()

    Thread(target=run, name="kflab-later", daemon=True).start()
