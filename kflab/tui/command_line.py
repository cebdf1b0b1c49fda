"""The command line: one row at the bottom, with history and completion; and what its lines do.

A line that is refused is not lost: it stands there again to be mended, below what is wrong with it.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from kflab.errors import KflabError, Place
from kflab.lab.commands import Command, Result, Run, SetMode
from kflab.lab.handle import LabHandle
from kflab.tui import lab_words, text
from kflab.tui.command_words import common_start, completions
from kflab.tui.history import History
from kflab.tui.line_pane import glyphs_of
from kflab.tui.manifest_pane import ManifestPane
from kflab.tui.messages import CommandIssued, RequestOpened
from kflab.tui.output_screen import OutputScreen, answer_lines, assumption_lines, finding_lines, told_lines
from kflab.tui.overlay import Overlay
from kflab.tui.row import Row, wrap_words
from kflab.tui.tokens import look

EMPTY = "kubectl's commands and the lab's own; tab lists them, ↑ the line before"
"""What an empty line says of itself."""

TROUBLE_ROWS = 3
"""Rows for what was wrong with a line, at most."""


class _Trouble(Widget):
    """Why the line was refused, above it; gone as soon as the line is changed."""

    DEFAULT_CSS = "_Trouble { height: 1; width: 1fr; display: none; }"

    def __init__(self) -> None:
        super().__init__()
        self.words = ""

    def say(self, words: str) -> None:
        self.words = words
        self.display = bool(words)
        self.on_resize()

    def on_resize(self) -> None:
        self.styles.height = max(1, min(TROUBLE_ROWS, len(wrap_words(self.words, self.app.size.width - 4))))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        lines, row = wrap_words(self.words, self.size.width - 4), Row("sel")
        glyphs = glyphs_of(self.app)
        if y == 0:
            row.put(1, glyphs.crashed, "lost")
        if y < len(lines):
            cut = y == TROUBLE_ROWS - 1 and len(lines) > TROUBLE_ROWS
            words = f"{lines[y]} {lines[y + 1]}" if cut else lines[y]
            row.put(3, text.fit(words, self.size.width - 4, glyphs.ellipsis), "strong")
        return row.strip(look(self.app), self.size.width)


class _Hints(Widget):
    """The completions that tab goes through, in one line above the input."""

    DEFAULT_CSS = "_Hints { height: 1; width: 1fr; display: none; }"

    def __init__(self) -> None:
        super().__init__()
        self.lines: tuple[str, ...] = ()
        self.at = -1

    def say(self, lines: tuple[str, ...], at: int = -1) -> None:
        self.lines, self.at = lines, at
        self.display = bool(lines)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        row, width = Row("sel"), self.size.width
        ellipsis = glyphs_of(self.app).ellipsis
        words = [line.rstrip().rpartition(" ")[2] for line in self.lines]
        first = max(0, self.at - 3)
        if first:
            row.put(1, f"{ellipsis}{first}", "faint")
        for index in range(first, len(words)):
            word = text.shorten(words[index], 40, ellipsis)
            if row.x + len(word) + 12 > width and row.x:
                row.put(row.x + 2, f"{ellipsis}{len(words) - index} more", "faint")
                break
            row.put(row.x + 2 if row.x else 1, word, "strong" if index == self.at else "dim", bold=index == self.at)
        return row.strip(look(self.app), width)


class CommandLine(Overlay[str | None]):
    """Ask for a line. The result is the line, None when it was left.

    Args:
        lab: For completions.
        history: The lines so far; the app keeps one for the whole session.
        start: What stands there at first.
        trouble: Why that was refused.
    """

    DEFAULT_CSS = """
    CommandLine { align: left bottom; }
    CommandLine #bar { height: auto; width: 100%; }
    CommandLine #row { height: 1; layout: horizontal; background: $tok-sel; }
    CommandLine #sign { width: 2; height: 1; padding: 0 0 0 1; color: $tok-strong; text-style: bold; }
    CommandLine Input { height: 1; border: none; padding: 0; width: 1fr; background: $tok-sel; color: $tok-strong; }
    CommandLine Input:focus { border: none; background-tint: $tok-sel 0%; }
    CommandLine Input > .input--placeholder, CommandLine Input > .input--suggestion { color: $tok-dim; }
    """

    BINDINGS = [
        Binding("escape", "leave", "back", id="command.leave", tooltip="Leave the command line"),
        Binding("up", "history(-1)", "line before", id="command.before", tooltip="The line entered before"),
        Binding("down", "history(1)", "line after", id="command.after", tooltip="The line entered after"),
        Binding("tab", "complete(1)", "complete", id="command.complete", priority=True, tooltip="Complete the word"),
        Binding("shift+tab", "complete(-1)", "complete", id="command.complete-back", priority=True, show=False),
    ]

    def __init__(self, lab: LabHandle, history: History, start: str = "", trouble: str = "") -> None:
        super().__init__()
        self.trouble, self._refused = _Trouble(), trouble
        self.lab = lab
        self.history = history
        self.input = Input(value=start, placeholder=EMPTY, select_on_focus=False)
        self.hints = _Hints()
        self._cycle: tuple[str, ...] = ()
        self._at = -1
        self._set = start

    def compose(self) -> ComposeResult:
        with Widget(id="bar"):
            yield self.trouble
            yield self.hints
            with Widget(id="row"):
                yield _Sign(id="sign")
                yield self.input

    def on_mount(self) -> None:
        self.input.cursor_blink = False
        self.input.focus()
        self.trouble.say(self._refused)

    def _put(self, line: str) -> None:
        self._set = line
        self.input.value = line
        self.input.cursor_position = len(line)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != self._set:
            self._cycle, self._at = (), -1
            self.hints.say(())
            self.trouble.say("")

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self._enter(event.value)

    def _enter(self, value: str) -> None:
        line = value.strip().lstrip(":").strip()
        if not line:
            self.dismiss(None)
            return
        trouble = self.history.add(line)
        if trouble:
            self.app.notify(trouble, severity="warning", markup=False)
        self.dismiss(line)

    def on_key(self, event: events.Key) -> None:
        """Backspace on an empty line leaves, as in vi."""
        if self.focused is None:
            event.stop()
            self.take(event)
        elif event.key == "backspace" and not self.input.value:
            event.stop()
            self.dismiss(None)

    def take(self, event: events.Key) -> None:
        """A key of a burst that was pressed after `:` and before the input had the focus."""
        if event.is_printable and event.character:
            self._put(self.input.value + event.character)
        elif event.key == "enter":
            self.call_after_refresh(lambda: self._enter(self.input.value))

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_history(self, direction: int) -> None:
        typed = self.input.value
        self._put(self.history.back(typed) if direction < 0 else self.history.forward(typed))

    def action_complete(self, direction: int) -> None:
        """Complete as far as it is certain; then go through what is possible."""
        line = self.input.value
        if not self._cycle:
            found = completions(line, self.lab.completions(line))
            if not found:
                return
            certain = common_start(found)
            if len(found) == 1 or len(certain) > len(line):
                self._put(certain)
                self.hints.say(found if len(found) > 1 else ())
                return
            self._cycle = found
        self._at = (self._at + direction) % len(self._cycle) if self._at >= 0 else 0 if direction > 0 else -1
        self._at %= len(self._cycle)
        self._put(self._cycle[self._at])
        self.hints.say(self._cycle, self._at)


class _Sign(Widget):
    def render_line(self, y: int) -> Strip:
        return Row("sel").put(0, ":", "strong", bold=True).strip(look(self.app), self.size.width)


class Desk(Protocol):
    """What the command line needs of the screen that opened it."""

    lab: LabHandle
    manifest: ManifestPane

    @property
    def app(self) -> App[Any]: ...

    @property
    def is_current(self) -> bool: ...

    def ask(self, future: "Future[Any]", then: Callable[[Any], None]) -> None: ...

    def tell(self, text: str, bad: bool = False) -> None: ...

    def post_message(self, message: Any) -> bool: ...

    def show_pane(self, area: str) -> None: ...


def open_command_line(
    desk: Desk, history: History, start: str = "", helper: Callable[[], None] | None = None, trouble: str = ""
) -> None:  # fmt: skip
    """Open the command line and do what is entered; `trouble` is what was wrong with `start`."""

    def entered(line: str | None) -> None:
        if line:
            run_line(desk, line, history, helper)

    desk.app.push_screen(CommandLine(desk.lab, history, start, trouble), entered)


def run_line(desk: Desk, line: str, history: History, helper: Callable[[], None] | None = None) -> None:
    """Do what a line says.

    Args:
        desk: The screen.
        line: As entered, with or without a colon or the word kubectl.
        history: For the next command after an output.
        helper: Opens the help.
    """
    line = line.strip().lstrip(":").strip()

    def refused(words: str) -> None:
        """The line again, to be mended; where something else has been opened meanwhile, only what is wrong."""
        words = " ".join(words.split())
        if desk.is_current:
            open_command_line(desk, history, line, helper, words)
        else:
            desk.tell(words, bad=True)

    try:
        said = lab_words.parse(line)
    except KflabError as error:
        refused(error.message)
        return
    if line in ("help", "?") and helper is not None:
        helper()
    elif line == "apply":
        desk.manifest.action_apply()
    elif isinstance(said, Run):
        _run(desk, said, said.line, history, helper, refused)
    elif isinstance(said, SetMode):
        _run(desk, said, f":{line}", history, helper, refused)
    elif isinstance(said, lab_words.FaceWord) and said.name == "assumptions":
        _show(desk, OutputScreen(f":{line}", assumption_lines(desk.lab.assumptions())), history, helper)
    elif isinstance(said, lab_words.FaceWord) and said.name == "findings":
        findings = desk.manifest.findings or desk.lab.findings()
        _show(desk, OutputScreen(f":{line}", finding_lines(findings)), history, helper)
    elif said is not None:
        desk.post_message(CommandIssued(line, refused))


def _run(
    desk: Desk,
    command: Command,
    title: str,
    history: History,
    helper: Callable[[], None] | None,
    refused: Callable[[str], None],
) -> None:
    """A command that answers in words: one line is told, more are shown, a curl opens its request."""

    def answered(result: Result) -> None:
        if result.trace_id is not None:
            desk.post_message(RequestOpened(result.trace_id))
        shown = told_lines if isinstance(command, SetMode) else answer_lines
        lines = shown(result.text, result.ok) if result.text.strip() else []
        if result.trace_id is not None and result.ok:
            if lines:
                desk.tell(lines[0].text)
        elif not result.ok and len(lines) <= 1:
            refused(lines[0].text if lines else "refused")
        elif not lines:
            desk.tell("done")
        elif len(lines) == 1:
            desk.tell(lines[0].text)
        else:
            _show(desk, OutputScreen(title, lines), history, helper)

    desk.ask(desk.lab.submit(command), answered)


def _show(desk: Desk, screen: OutputScreen, history: History, helper: Callable[[], None] | None) -> None:
    """Show an output; a jump leads into the editor, a colon to the next command."""

    def closed(answer: Place | str | None) -> None:
        if isinstance(answer, Place):
            desk.show_pane("manifest")
            desk.manifest.go_to(answer.file, answer.line, answer.column)
        elif answer == ":":
            open_command_line(desk, history, helper=helper)

    desk.app.push_screen(screen, closed)
