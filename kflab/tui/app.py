"""The app: themes, glyphs, the one screen, and how often it asks the lab."""

import gc
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from textual import events
from textual.app import App
from textual.binding import Binding
from textual.command import Provider
from textual.filter import LineFilter
from textual.screen import Screen

from kflab.lab.handle import LabHandle
from kflab.tui.ascii_filter import AsciiFilter
from kflab.tui.glyphs import ASCII, choose
from kflab.tui.lab_screen import LabScreen
from kflab.tui.strips import keep_out_of_cycles
from kflab.tui.tokens import THEMES, THEMES_256

FRAMES_LOCAL = 20
"""Frames per second on this machine's own terminal. A lens cell is 0.1 s, so more would show nothing new at ×1."""

FRAMES_SSH = 10
"""Frames per second over SSH: the link is the budget."""

HANDS_OFF_S = 2.0
"""Without a key for so long nobody is typing just now."""

COLLECT_AFTER = 8
"""Collections of the middle generation that make a full one worth its 20 ms; a held lab never comes to it."""


def lab_commands() -> type[Provider]:
    """What ctrl+p offers; imported when it is first pressed, or in idle time (`later`)."""
    from kflab.tui.palette import LabCommands

    return LabCommands


class KflabApp(App[int]):
    """The lab's face. Returns the exit code.

    Args:
        lab: What to show.
        theme: slate, paper or ansi; "" is slate, on a terminal of 16 colours ansi.
        glyphs: "ascii" or "unicode"; "" asks the locale.
        colours: What the terminal can show, in Rich's words: "truecolor", "256" or "standard" (16).
        painted: Called once, when the first frame is on the screen.
    """

    CSS_PATH = "kflab.tcss"
    TITLE = "kflab"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    COMMANDS = {lab_commands}
    ENABLE_COMMAND_PALETTE = True
    NOTIFICATION_TIMEOUT = 4
    BINDINGS = [
        Binding(
            "ctrl+q",
            "quit_lab",
            "quit",
            id="app.quit",
            show=False,
            priority=True,
            tooltip="Leave kflab; unwritten edits are asked about",
        ),
        Binding(
            "ctrl+c",
            "interrupt",
            "copy, or how to quit",
            id="app.interrupt",
            show=False,
            tooltip="Copies a selection; without one says how to quit; twice quits",
        ),
    ]

    def __init__(
        self,
        lab: LabHandle,
        *,
        theme: str = "slate",
        glyphs: str = "",
        colours: str = "truecolor",
        painted: Callable[[], None] | None = None,
    ) -> None:
        no_color = "NO_COLOR" in os.environ
        # Without ansi_color Textual still sends greys as 24-bit colour under NO_COLOR.
        super().__init__(ansi_color=True if no_color else None)
        keep_out_of_cycles()
        self.lab = lab
        self.painted = painted
        self.keys_pressed = 0
        self._key_at = 0.0
        self._pressed: deque[tuple[events.Key, Screen[Any]]] = deque(maxlen=64)
        """The last keys, and the screen that each was pressed on."""
        self.glyphs = choose(glyphs)
        self._ascii = AsciiFilter()
        self.over_ssh = bool(os.environ.get("SSH_CONNECTION"))
        self.frames = FRAMES_SSH if self.over_ssh else FRAMES_LOCAL
        if self.over_ssh:
            self.animation_level = "none"
        self.colours = colours
        for each in THEMES_256 if colours == "256" else THEMES:
            self.register_theme(each)
        # Under NO_COLOR the grounds must be the terminal's own, so the theme is the one that names none.
        # Slate's violet and amber are both light grey in sixteen colours, and its selection is black on black.
        usual = "ansi" if colours == "standard" else "slate"
        self.theme = "ansi" if no_color else theme if theme in ("slate", "paper", "ansi") else usual
        self.main = LabScreen(lab)

    async def on_event(self, event: events.Event) -> None:
        """Count key presses, so that one press of esc is one step back; a key that bubbles comes here again.

        In a burst (`:load 2` pasted) the keys after `:` are on their way to a pane when it opens the command line, and
        bubble up after that: they are the command line's.
        """
        if isinstance(event, events.Key):
            pressed_on = next((screen for key, screen in self._pressed if key is event), None)
            if pressed_on is None:
                self._pressed.append((event, self.screen))
                self.keys_pressed += 1
                self._key_at = time.monotonic()
            elif pressed_on is self.main is not self.screen:
                from kflab.tui.command_line import CommandLine

                if isinstance(self.screen, CommandLine):
                    self.screen.take(event)
                    return
        await super().on_event(event)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's own, and ASCII where the terminal is not UTF-8."""
        filters = super().get_line_filters()
        return [*filters, self._ascii] if self.glyphs is ASCII else filters

    def on_mount(self) -> None:
        self.set_interval(HANDS_OFF_S, self._tidy)

    def _tidy(self) -> None:
        """Collect garbage while nobody types.

        Textual's strips are garbage in cycles (each caches itself), and Python would look for them in the middle of a
        key press: 200 ms, when it comes to it alone.
        """
        if time.monotonic() - self._key_at > HANDS_OFF_S and gc.get_count()[2] >= COLLECT_AFTER:
            gc.collect()

    def get_default_screen(self) -> LabScreen:
        """The one screen."""
        return self.main

    def action_quit_lab(self) -> None:
        """Leave; the screen asks the editor first."""
        self.main.leave()

    def action_interrupt(self) -> None:
        """ctrl+c: copy what is selected, else say how to quit, and quit on the second press."""
        self.main.interrupted()
