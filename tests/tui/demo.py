"""A small app around one pane, as the shell mounts it: for tests of panes."""

from collections.abc import Callable

from textual.app import App, ComposeResult
from textual.message import Message

from kflab.lab.handle import LabHandle
from kflab.tui.frame import PaneFrame
from kflab.tui.glyphs import UNICODE, Glyphs
from kflab.tui.pane import Pane
from kflab.tui.tokens import THEMES


class PaneApp(App[None]):
    """Mounts the pane that `make` gives, in its frame."""

    CSS = "Screen { background: $tok-bg; color: $tok-text; }"

    def __init__(self, lab: LabHandle, make: Callable[[LabHandle], Pane], glyphs: Glyphs = UNICODE) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = "slate"
        self.glyphs = glyphs
        self.lab = lab
        self.make = make
        self.heard: list[Message] = []

    def compose(self) -> ComposeResult:
        self.pane = self.make(self.lab)
        yield PaneFrame("pane", self.pane)

    def on_mount(self) -> None:
        self.pane.show(self.lab.snapshot())
        self.pane.focus()


def without_lab(make: Callable[[], Pane]) -> Callable[[LabHandle], Pane]:
    """For `PaneApp`: a pane that shows snapshots only."""
    return lambda _lab: make()


def lines_of(app: App[None]) -> list[str]:
    """What the screen shows, line by line."""
    return ["".join(segment.text for segment in strip).rstrip() for strip in app.screen._compositor.render_strips()]
