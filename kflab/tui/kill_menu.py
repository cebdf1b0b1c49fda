"""The menu of what can be done to what is selected: under the very row, grouped by target, one key for the usual."""

from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.strip import Strip
from textual.widget import Widget

from kflab.control.verbs import verbs_for
from kflab.lab.commands import Act, Kill, Start, Stop
from kflab.lab.targets import Target
from kflab.records import dataclass
from kflab.tui.line_pane import glyphs_of
from kflab.tui.overlay import Overlay
from kflab.tui.row import Row
from kflab.tui.text import shorten
from kflab.tui.tokens import look

WIDTH = 74
"""Cells of the menu; at 40 columns it takes what there is."""

SHORTEST = 20
"""Fewer cells than these say nothing of what happens."""

COMPONENTS = {
    "apiserver": ("API server", "a", "nobody learns, traffic goes on"),
    "kube-proxy": ("kube-proxy", "p", "its rules stay as they are"),
    "etcd": ("etcd", "e", "nothing is written, watches stay open"),
    "controller-manager": ("controller manager", "m", "no slices, no pods replaced"),
    "scheduler": ("scheduler", "", "new pods stay Pending"),
    "coredns": ("CoreDNS", "", "its pods end: names resolve no more"),
    "ingress": ("ingress controller", "", "NGINX goes on with what it knows"),
    "kubelet": ("kubelet", "l", "nobody looks after its pods"),
}
"""Component or its kind → name, letter, what is so while it is stopped."""


@dataclass(frozen=True, slots=True)
class KillChoice:
    """One line of the menu; a heading has no command."""

    key: str
    """The letter that chooses it at once; "" for none."""
    words: str
    what: str = ""
    """What happens then, in a few words."""
    command: Any = None
    """What choosing it answers: a `Command`, in other menus something else."""


def kill_choices(targets: tuple[Target, ...]) -> tuple[KillChoice, ...]:
    """What can be done, by target. A letter a nearer target has is a capital here; each is given once."""
    found: list[KillChoice] = []
    taken: set[str] = set()
    heading = ""
    of_components = bool(targets) and targets[0].kind == "component"
    for target in targets:
        lines = list(_lines(target, of_components))
        group = "control plane" if target.kind == "component" else f"{target.key.kind} {target.key.name}"
        if lines and found and group != heading:
            found.append(KillChoice("", group))
        heading = group if lines else heading
        for line in lines:
            letter = next((each for each in (line.key, line.key.upper()) if each not in taken), "")
            taken.add(letter)
            found.append(KillChoice(letter, line.words, line.what, line.command))
    return tuple(found)


def _lines(target: Target, of_components: bool) -> Iterator[KillChoice]:
    """One target's lines. Under an object, components are only stopped and started: the rest is in their own menu."""
    key = target.key
    if target.kind == "pod":
        yield KillChoice("c", "crash container", "exit 137, the kubelet restarts it", Kill(key, "crash"))
        yield KillChoice("d", "delete, gracefully", "SIGTERM, then its grace period", Kill(key, "delete"))
        yield KillChoice("f", "delete by force", "grace period 0: gone at once", Kill(key, "force"))
    name = ""
    if target.kind == "component":
        kind, _, where = key.name.partition("/")
        name, letter, while_stopped = COMPONENTS.get(kind, (kind, "", "what it does is not done"))
        shown = f"{name} on {where}" if where and kind not in ("kube-proxy", "kubelet") else name
        if "stopped" in target.states:
            yield KillChoice(letter, f"start {shown}", "it catches up with what it missed", Start(key.name))
        else:
            yield KillChoice(letter, f"stop {shown}", while_stopped, Stop(key.name))
    if target.kind == "component" and not of_components:
        return
    for verb in verbs_for(target.kind):
        offered = verb.in_menu and verb.unless not in target.states and (not verb.when or verb.when in target.states)
        if offered:
            words = f"{verb.words} {name}".rstrip()
            yield KillChoice(verb.letter if not name else "", words, verb.what, Act(verb.name, key))


class _Menu(Widget):
    """The lines themselves; more than fit are scrolled."""

    DEFAULT_CSS = "_Menu { position: absolute; background: $tok-sel; }"

    def __init__(self, title: str, choices: tuple[KillChoice, ...]) -> None:
        super().__init__()
        self.title = title
        self.choices = choices
        self.chosen = -1
        self.first = 0
        """The choice on the first line under the title."""

    def _column(self, width: int) -> int:
        """Where it is said what happens, the same on all lines; but the longest of it is not cut for one long name."""
        lines = [choice for choice in self.choices if choice.command is not None]
        widest = max((6 + cell_len(choice.words) for choice in lines), default=0)
        longest = max((cell_len(choice.what) for choice in lines), default=0)
        return max(30, min(widest, width - longest - 1))

    def move(self, step: int) -> None:
        """Go to the next line that does something."""
        places = [at for at, choice in enumerate(self.choices) if choice.command is not None]
        here = places.index(self.chosen) + step if self.chosen in places else (0 if step > 0 else -1)
        self.chosen = places[max(0, min(here, len(places) - 1)) if self.chosen >= 0 else here]
        rows = max(1, self.size.height - 1)
        self.first = max(min(self.first, self.chosen), self.chosen - rows + 1)
        if self.chosen == places[0]:
            self.first = 0
        self.refresh()

    def render_line(self, y: int) -> Strip:
        glyphs, width = glyphs_of(self.app), self.size.width
        if y == 0:
            row = Row("sel").put(1, shorten(self.title, width - 2, glyphs.ellipsis), "strong", bold=True)
            below = len(self.choices) - self.first - (self.size.height - 1)
            hint = f"{below} more below" if below > 0 else "enter twice, or its key"
            if row.x + len(hint) + 1 < width:
                row.right(width - 1, hint, "faint")
            return row.strip(look(self.app), width)
        at = self.first + y - 1
        if at >= len(self.choices):
            return Row("sel").strip(look(self.app), width)
        choice, here = self.choices[at], at == self.chosen
        if choice.command is None:
            words = shorten(choice.words, width - 2, glyphs.ellipsis)
            return Row("sel").put(1, words, "dim", bold=True).strip(look(self.app), width)
        row = Row("sel").put(0, glyphs.selected if here else " ", "strong")
        row.put(2, choice.key, "strong", bold=True).put(4, choice.words, "lost" if here else "text", bold=here)
        column = max(self._column(width), row.x + 2)
        if width >= column + SHORTEST:
            row.put(column, shorten(choice.what, width - column - 1, glyphs.ellipsis), "dim")
        return row.strip(look(self.app), width)


class Menu(Overlay[Any]):
    """Ask for one of several choices. The lab goes on running and is seen around the menu.

    No line is chosen at first: enter chooses the most usual, enter again does it; a line's letter does it at once.

    Args:
        title: What the menu is about.
        choices: Its lines.
        own_key: The key that opened it: it closes it as well.
        x: Column of the row's name on the screen.
        y: The row on the screen; the menu stands right under it, or above it near the bottom.
    """

    DEFAULT_CSS = "Menu { layout: vertical; }"

    def __init__(self, title: str, choices: tuple[KillChoice, ...], own_key: str, x: int, y: int) -> None:
        super().__init__()
        self.choices = choices
        self.own_key = own_key
        self.menu = _Menu(title, choices)
        self.at = (x, y)

    def compose(self) -> ComposeResult:
        yield self.menu

    def on_mount(self) -> None:
        self._place()

    def on_resize(self) -> None:
        self._place()

    def _place(self) -> None:
        """Under the row, or above it; else at the bottom, where the head of the screen stays seen. The rest scrolls."""
        screen = self.app.size
        height = min(len(self.choices) + 1, screen.height)
        width = min(WIDTH, screen.width)
        x = max(0, min(self.at[0], screen.width - width))
        below = self.at[1] + 1
        above = min(self.at[1], screen.height) - height
        y = below if below + height <= screen.height else above if above >= 0 else screen.height - height
        self.menu.styles.width, self.menu.styles.height = width, height
        self.menu.styles.offset = (x, y)

    def on_key(self, event: events.Key) -> None:
        """Move, choose, leave."""
        event.stop()
        menu = self.menu
        letters = {choice.key: choice.command for choice in self.choices if choice.key}
        if event.key in ("escape", "q", self.own_key):
            self.dismiss(None)
        elif event.character in letters:
            self.dismiss(letters[event.character])
        elif event.key == "enter" and menu.chosen >= 0:
            self.dismiss(self.choices[menu.chosen].command)
        elif event.key in ("enter", "down", "j"):
            menu.move(1)
        elif event.key == "up":
            menu.move(-1)

    def on_click(self, event: events.Click) -> None:
        """A click on a line does it; a click elsewhere closes."""
        region = self.menu.region
        line = event.screen_y - region.y - 1 + self.menu.first
        if not region.contains(event.screen_x, event.screen_y):
            self.dismiss(None)
        elif event.screen_y > region.y and line < len(self.choices) and self.choices[line].command is not None:
            self.dismiss(self.choices[line].command)


class KillMenu(Menu):
    """Ask what to do to what is selected.

    Args:
        targets: What the menu is about, nearest first.
        x: As in `Menu`.
        y: As in `Menu`.
    """

    def __init__(self, targets: tuple[Target, ...], x: int = 4, y: int = 4) -> None:
        own = targets and targets[0].kind != "component"
        super().__init__(str(targets[0].key) if own else "control plane", kill_choices(targets), "k", x, y)
