"""Printed answers: a scrollable pane over the lower part of the screen; the lab runs on above it."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.binding import Binding
from textual.strip import Strip
from textual.widget import Widget

from kflab.errors import Place
from kflab.lab.commands import Finding
from kflab.records import dataclass
from kflab.tui import clipboard
from kflab.tui.frame import title_row
from kflab.tui.line_pane import LinePane, glyphs_of
from kflab.tui.overlay import Overlay
from kflab.tui.row import Row, wrap_words
from kflab.tui.text import safe
from kflab.tui.tokens import look
from kflab.tui.yaml_area import SEVERITY_TOKENS


@dataclass(frozen=True, slots=True)
class Line:
    """One answer line. `second` is printed under it, stepped back; `place` is where enter jumps."""

    text: str
    token: str = "text"
    second: str = ""
    place: Place | None = None
    sentence: bool = False
    """Prose, wrapped where it is too long; a table's line is cut."""


def answer_lines(text: str, ok: bool = True) -> list[Line]:
    """The output of a command, line by line, as printed."""
    return [Line(line.expandtabs(8), "text" if ok else "lost") for line in text.rstrip("\n").split("\n")]


def told_lines(text: str, ok: bool = True) -> list[Line]:
    """Sentences with a head each, "about what: in words": the words below the head, as long as they are."""
    if not ok:
        return answer_lines(text, ok)
    parts = (line.partition(": ") for line in text.rstrip("\n").split("\n"))
    return [Line(about, "strong", words) for about, _, words in parts]


def finding_lines(findings: Sequence[Finding]) -> list[Line]:
    """Findings, worst first as given, each with its place."""
    if not findings:
        return [Line("nothing looks wrong in these manifests", "dim")]
    return [
        Line(
            each.message,
            SEVERITY_TOKENS.get(each.severity, "text"),
            f"{each.severity} · {each.place or ''}",
            each.place,
        )
        for each in findings
    ]


def assumption_lines(assumptions: Sequence[tuple[str, str]]) -> list[Line]:
    """What was assumed, and how to override it."""
    if not assumptions:
        return [Line("nothing was assumed", "dim")]
    return [Line(what, "text", f"to override: {how}" if how else "", sentence=True) for what, how in assumptions]


class OutputPane(LinePane):
    """Lines to scroll through. Where lines are jumps there is a cursor, and enter jumps."""

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__()
        self.lines = lines
        self.cursor = 0 if any(line.place for line in lines) else -1
        self.left = 0
        """First column shown; wide tables are walked with left and right."""
        self._first_row: list[int] = []

    BINDINGS = [
        Binding("left", "sideways(-1)", "left", id="output.left", show=False, tooltip="Columns further left"),
        Binding("right", "sideways(1)", "right", id="output.right", show=False, tooltip="Columns further right"),
    ]

    def action_sideways(self, direction: int) -> None:
        """Half a screen to the side, as far as there is text."""
        widest = max((len(line.text) for line in self.lines), default=0)
        step = max(8, self.size.width // 2)
        self.left = max(0, min(self.left + direction * step, widest - self.size.width + 4))
        self.rebuild()

    def build(self, width: int, height: int) -> Sequence[Row]:
        """Tables keep their columns: a line is never wrapped, but cut with a sign; sentences of a list are wrapped."""
        rows: list[Row] = []
        self._first_row = []
        ellipsis = self.glyphs.ellipsis
        for index, line in enumerate(self.lines):
            self._first_row.append(len(rows))
            ground = "sel" if index == self.cursor else "bg"
            is_list = bool(line.second or line.place or line.sentence)
            parts = wrap_words(line.text, width - 3) if is_list else [safe(line.text)[self.left :]]
            for number, part in enumerate(parts):
                row = Row(ground)
                if index == self.cursor and not number:
                    row.put(0, self.glyphs.selected, "strong")
                row.put(1, part, line.token)
                if row.x > width and not is_list:
                    row.pieces[-1] = (part[: max(0, width - 2)] + ellipsis, line.token, False, False)
                    row.x = width
                rows.append(row)
            rows += [Row(ground).put(3, part, "faint") for part in wrap_words(line.second, width - 5) if part]
        return rows

    def action_scroll_lines(self, count: int) -> None:
        """Move the cursor, or scroll where there is none."""
        if self.cursor < 0:
            super().action_scroll_lines(count)
            return
        self.cursor = max(0, min(len(self.lines) - 1, self.cursor + count))
        self.rebuild()
        self._lines()
        self.scroll_to_row(self._first_row[self.cursor], 1)

    def copy_text(self) -> tuple[str, str]:
        return "\n".join(f"{line.text}\n  {line.second}" if line.second else line.text for line in self.lines), "output"


class _Title(Widget):
    DEFAULT_CSS = "_Title { height: 1; width: 1fr; }"

    def __init__(self, words: str, note: str) -> None:
        super().__init__()
        self.words, self.note = words, note

    def render_line(self, y: int) -> Strip:
        row = title_row("", self.words, self.note, self.size.width, True, glyphs_of(self.app))
        return row.strip(look(self.app), self.size.width)


class OutputScreen(Overlay[Place | str | None]):
    """Show lines until esc. The result is the place to jump to, ":" for another command, or None."""

    DEFAULT_CSS = """
    OutputScreen { align: left bottom; }
    OutputScreen > #sheet { height: auto; width: 100%; background: $tok-bg; }
    """

    BINDINGS = [
        Binding("escape,q", "close", "close", id="output.close", tooltip="Back to the lab"),
        Binding("enter", "jump", "jump", id="output.jump", tooltip="To the line of the finding"),
        Binding("y", "copy", "copy", id="output.copy", tooltip="Copy the output"),
        Binding("colon", "again", "command", id="output.again", tooltip="Another command"),
    ]

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self.words = title
        self.pane = OutputPane(lines)
        self.title_line = _Title(title, "esc back · y copy" if self.pane.cursor < 0 else "enter jumps · esc back")

    def compose(self) -> ComposeResult:
        with Widget(id="sheet"):
            yield self.title_line
            yield self.pane

    def on_mount(self) -> None:
        self._fit()
        self.pane.focus()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        """As high as the output needs, at most two thirds of the screen, and the whole of a small one."""
        screen = self.app.size
        most = screen.height if screen.height < 30 else screen.height * 2 // 3
        needed = len(self.pane.build(max(10, screen.width), 0)) if screen.width else 1
        self.pane.styles.height = max(1, min(needed, most - 1))

    def action_close(self) -> None:
        self.dismiss(None)

    def action_again(self) -> None:
        self.dismiss(":")

    def action_jump(self) -> None:
        lines = self.pane.lines
        place = lines[self.pane.cursor].place if 0 <= self.pane.cursor < len(lines) else None
        if place is not None:
            self.dismiss(place)

    def action_copy(self) -> None:
        words, what = self.pane.copy_text()
        self.app.notify(clipboard.copy(self.app, words, what), markup=False)
