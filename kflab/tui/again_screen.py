"""The last change played again with one setting changed: the menu of settings, then both plays side by side."""

from collections.abc import Callable, Sequence
from typing import Any

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kflab.errors import KflabError
from kflab.lab.session import Session
from kflab.scenario.again import Change, Compared, offers
from kflab.scenario.again_runs import AgainRun
from kflab.scenario.again_text import SAME_LUCK, lines
from kflab.tui import clipboard
from kflab.tui.frame import title_row
from kflab.tui.glyphs import ASCII
from kflab.tui.kill_menu import KillChoice, Menu
from kflab.tui.line_pane import LinePane, glyphs_of
from kflab.tui.overlay import Overlay
from kflab.tui.row import Row, wrap_words
from kflab.tui.text import instant, safe
from kflab.tui.tokens import look

LOOK_S = 0.1
"""How often the progress is drawn."""

BAR_CELLS = 30
"""Cells of a progress bar."""


class AgainMenu(Menu):
    """Which setting to change. Answers a `Change`, or None."""

    def __init__(self, session: Session) -> None:
        choices = tuple(KillChoice(key, str(change), what, change) for key, change, what in offers(session))
        about = f" of {session.workload.meta.name}" if session.workload is not None else ""
        super().__init__(f"the last change again, with one setting{about}:", choices, "a", 4, 3)


class PlaysEnded(Message):
    """Both plays are over, or one could not be played. Posted from their thread."""


class AgainPane(LinePane):
    """How far the plays are; then the two columns."""

    def __init__(self, run: AgainRun) -> None:
        super().__init__()
        self.run = run
        self.both: Compared | None = None
        self.error = ""

    def build(self, width: int, height: int) -> Sequence[Row]:
        """Make all lines."""
        session = self.run.session
        rows = [Row().put(1, part, "text") for part in wrap_words(
            f"{instant(session.change_ns)} s {session.what}; both plays from 0 to {instant(self.run.end_ns)} s",
            width - 3,
        )]  # fmt: skip
        rows += [Row().put(1, part, "dim") for part in wrap_words(SAME_LUCK, width - 3)]
        rows.append(Row())
        if self.error:
            return [*rows, *(Row().put(1, part, "lost") for part in wrap_words(safe(self.error), width - 3))]
        if self.both is None:
            return rows + [self._progress(side) for side in range(2)]
        for line in lines(self.both, width - 1, self.glyphs is ASCII):
            row = Row()
            for piece in line:
                row.put(piece.x, piece.text, piece.token, bold=piece.token == "strong")
            rows.append(row)
        return rows

    def _progress(self, side: int) -> Row:
        reached, end = self.run.reached_ns[side], self.run.end_ns
        cells = BAR_CELLS * reached // max(1, end)
        row = Row().put(1, self.run.name_of(side), "text").put(36, self.glyphs.bar * cells, "traffic")
        row.put(36 + cells, self.glyphs.empty * (BAR_CELLS - cells), "rule")
        return row.put(37 + BAR_CELLS, f"{reached / 1e9:.1f} s" if reached else "starting", "dim")

    def copy_text(self) -> tuple[str, str]:
        """What `y` copies: the page as text."""
        return "\n".join(row.text for row in self.build(120, 0)), "comparison"


class _Title(Widget):
    DEFAULT_CSS = "_Title { height: 1; width: 1fr; }"

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def render_line(self, y: int) -> Strip:
        glyphs = glyphs_of(self.app)
        note = f"a another {glyphs.dot} y copy {glyphs.dot} esc back"
        row = title_row("", self.words, note, self.size.width, True, glyphs)
        return row.strip(look(self.app), self.size.width)


class AgainScreen(Overlay[bool]):
    """Two plays, while they run and when they are over; the lab runs on above. Answers True for another setting."""

    DEFAULT_CSS = """
    AgainScreen { align: left bottom; }
    AgainScreen > #sheet { height: auto; width: 100%; background: $tok-bg; }
    """

    BINDINGS = [
        Binding("escape,q", "close(False)", "close", id="again.close", tooltip="Back to the lab; ends both plays"),
        Binding("a", "close(True)", "another", id="again.another", tooltip="The same with another setting"),
        Binding("y", "copy", "copy", id="again.copy", tooltip="Copy the comparison"),
    ]

    def __init__(self, run: AgainRun) -> None:
        super().__init__()
        self.run = run
        self.pane = AgainPane(run)
        self._drawn = [-1, -1]

    def compose(self) -> ComposeResult:
        with Widget(id="sheet"):
            yield _Title(f"Played again: {self.run.change}")
            yield self.pane

    def on_mount(self) -> None:
        self._fit()
        self.pane.focus()
        self._timer = self.set_interval(LOOK_S, self._look)
        self.run.future.add_done_callback(lambda done: self.post_message(PlaysEnded()))
        self.run.start()

    def on_unmount(self) -> None:
        self.run.stop()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        """All but the status, the story and the keys of the lab; a small screen whole."""
        height = self.app.size.height
        self.pane.styles.height = max(1, height - 1 if height < 30 else height - 4)

    def _look(self) -> None:
        if self.run.reached_ns != self._drawn:
            self._drawn = list(self.run.reached_ns)
            self.pane.rebuild()

    def on_plays_ended(self) -> None:
        """Show what they came to."""
        self._timer.stop()
        error = self.run.future.exception()
        self.pane.error = f"cannot be played again: {error}" if error is not None else ""
        self.pane.both = None if error is not None else self.run.future.result()
        self.pane.rebuild()

    def action_close(self, another: bool) -> None:
        self.dismiss(another)

    def action_copy(self) -> None:
        words, what = self.pane.copy_text()
        self.app.notify(clipboard.copy(self.app, words, what), markup=False)


def offer(app: App[Any], session: Session, tell: Callable[[str], None]) -> None:
    """Open the menu of settings, and then the comparison; `tell` gets what cannot be done, in words."""

    def chosen(change: Change | None) -> None:
        if change is None:
            return
        try:
            run = AgainRun(session, change)
        except KflabError as error:
            tell(str(error))
            return
        app.push_screen(AgainScreen(run), ended)

    def ended(another: bool | None) -> None:
        if another:
            app.push_screen(AgainMenu(session), chosen)

    app.push_screen(AgainMenu(session), chosen)
