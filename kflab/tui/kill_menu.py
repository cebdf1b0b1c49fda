"""The menu on a row: what can be ended or stopped there, most usual first."""

from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.strip import Strip
from textual.widget import Widget

from kflab.lab.commands import Command, Kill, Start, Stop
from kflab.lab.snapshot import Snapshot
from kflab.manifest.objects import Key
from kflab.tui.line_pane import glyphs_of
from kflab.tui.overlay import Overlay
from kflab.tui.row import Row
from kflab.tui.text import shorten
from kflab.tui.tokens import look

WIDTH = 58
"""Cells of the menu; at 40 columns it takes what there is."""


@dataclass(frozen=True, slots=True)
class KillChoice:
    """One line of the menu."""

    key: str
    """The letter that chooses it at once."""
    words: str
    what: str
    """What happens then, in a few words."""
    command: Command


def kill_choices(key: Key | None, snapshot: Snapshot) -> tuple[KillChoice, ...]:
    """What can be done to an object: three lines for a pod or a node, the API server for anything else."""
    if key is not None and key.kind == "Pod":
        return (
            KillChoice("c", "crash container", "exit 137, the kubelet restarts it", Kill(key, "crash")),
            KillChoice("d", "delete, gracefully", "SIGTERM, then its grace period", Kill(key, "delete")),
            KillChoice("f", "delete by force", "grace period 0: gone at once", Kill(key, "force")),
        )
    api = _switch(snapshot, "apiserver", "a", "API server", "nobody learns, traffic goes on")
    if key is not None and key.kind == "Node":
        return (
            _switch(snapshot, f"kube-proxy/{key.name}", "p", "kube-proxy", "its rules stay as they are"),
            _switch(snapshot, f"kubelet/{key.name}", "l", "kubelet", "nobody looks after its pods"),
            api,
        )
    return (api,)


def _switch(snapshot: Snapshot, component: str, key: str, name: str, while_stopped: str) -> KillChoice:
    """Stop or start a component, whichever it is not."""
    running = next((each.running for each in snapshot.components if each.name == component), True)
    if running:
        return KillChoice(key, f"stop {name}", while_stopped, Stop(component))
    return KillChoice(key, f"start {name}", "it catches up with what it missed", Start(component))


class _Menu(Widget):
    """The lines themselves."""

    DEFAULT_CSS = "_Menu { position: absolute; background: $tok-sel; }"

    def __init__(self, title: str, choices: tuple[KillChoice, ...]) -> None:
        super().__init__()
        self.title = title
        self.choices = choices
        self.chosen = -1

    def render_line(self, y: int) -> Strip:
        glyphs, width = glyphs_of(self.app), self.size.width
        if y == 0:
            row = Row("sel").put(1, shorten(self.title, width - 2, glyphs.ellipsis), "strong", bold=True)
            if row.x + 24 < width:
                row.right(width - 1, "enter twice, or its key", "faint")
            return row.strip(look(self.app), width)
        if y > len(self.choices):
            return Row("sel").strip(look(self.app), width)
        choice, here = self.choices[y - 1], y - 1 == self.chosen
        row = Row("sel").put(0, glyphs.selected if here else " ", "strong")
        row.put(2, choice.key, "strong", bold=True).put(4, choice.words, "lost" if here else "text", bold=here)
        if width >= 24 + len(choice.what):
            row.put(23, choice.what, "dim")
        return row.strip(look(self.app), width)


class KillMenu(Overlay[Command | None]):
    """Ask what to end. The lab goes on running and is seen around the menu.

    No line is chosen at first: enter chooses the most usual, enter again does it; a line's letter does it at once.

    Args:
        key: The object whose row it is; None for the control plane.
        snapshot: The lab as it is, for what is stopped already.
        x: Column of the row's name on the screen.
        y: The row on the screen; the menu stands right under it, or above it near the bottom.
    """

    DEFAULT_CSS = "KillMenu { layout: vertical; }"

    def __init__(self, key: Key | None, snapshot: Snapshot, x: int = 4, y: int = 4) -> None:
        super().__init__()
        self.choices = kill_choices(key, snapshot)
        of_pod_or_node = key is not None and key.kind in ("Pod", "Node")
        self.menu = _Menu(str(key) if of_pod_or_node else "control plane", self.choices)
        self.at = (x, y)

    def compose(self) -> ComposeResult:
        yield self.menu

    def on_mount(self) -> None:
        self._place()

    def on_resize(self) -> None:
        self._place()

    def _place(self) -> None:
        """Under the row, or above it where there is no room, always whole."""
        screen, height = self.app.size, len(self.choices) + 1
        width = min(WIDTH, screen.width)
        x = max(0, min(self.at[0], screen.width - width))
        below = self.at[1] + 1
        y = below if below + height <= screen.height else max(0, self.at[1] - height)
        self.menu.styles.width, self.menu.styles.height = width, height
        self.menu.styles.offset = (x, y)

    def on_key(self, event: events.Key) -> None:
        """Move, choose, leave."""
        event.stop()
        menu, last = self.menu, len(self.choices) - 1
        letters = [choice.key for choice in self.choices]
        if event.key in ("escape", "q", "k"):
            self.dismiss(None)
        elif event.character in letters:
            self.dismiss(self.choices[letters.index(event.character)].command)
        elif event.key in ("1", "2", "3") and int(event.key) <= len(self.choices):
            self.dismiss(self.choices[int(event.key) - 1].command)
        elif event.key == "enter" and menu.chosen >= 0:
            self.dismiss(self.choices[menu.chosen].command)
        elif event.key in ("enter", "down", "j"):
            menu.chosen = min(last, menu.chosen + 1)
        elif event.key == "up":
            menu.chosen = max(0, menu.chosen - 1)
        menu.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click on a line does it; a click elsewhere closes."""
        region = self.menu.region
        line = event.screen_y - region.y - 1
        if region.contains(event.screen_x, event.screen_y) and 0 <= line < len(self.choices):
            self.dismiss(self.choices[line].command)
        elif not region.contains(event.screen_x, event.screen_y):
            self.dismiss(None)
