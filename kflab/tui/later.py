"""What the first frame does without: imported once it stands, before somebody asks for it."""

from collections.abc import Callable, Sequence
from importlib import import_module
from threading import Thread
from time import sleep

PANES = (
    "kflab.tui.schematic",
    "kflab.tui.nodes_view",
    "kflab.tui.request_pane",
    "kflab.tui.shares_pane",
    "kflab.tui.gantt_pane",
    "kflab.tui.rules_pane",
    "kflab.tui.facts_view",
)
"""Panes that are hidden at first."""

ASKED = (
    "kflab.tui.command_line",
    "kflab.tui.help_screen",
    "kflab.tui.kill_menu",
    "kflab.tui.palette",
    "kflab.lab.reopening",
    "kflab.lab.terminal",
    "kflab.lab.single_requests",
    "kflab.lab.mode_switch",
    "kflab.kubectl.complete",
    "kflab.tui.again_screen",
)
"""What a key or a command opens, the likeliest first."""

LATER = (*PANES, *ASKED)

PAUSE_S = 0.005
"""After each module: in it whoever waits for the interpreter gets it, a key press above all."""


def load(names: Sequence[str] = LATER) -> None:
    """Import modules, with a pause after each."""
    for name in names:
        import_module(name)
        sleep(PAUSE_S)


def load_in_background(panes_are_there: Callable[[], object]) -> None:
    """Import all of it in a thread of its own.

    Args:
        panes_are_there: Called in that thread when the panes can be made without importing anything.
    """

    def run() -> None:
        load(PANES)
        panes_are_there()
        load(ASKED)

    Thread(target=run, name="kflab-later", daemon=True).start()
