"""The one screen: what every key and every word of the command line does."""

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import BindingType

from kflab.errors import KflabError
from kflab.lab.commands import Command, KillRandom, NextEvent, Pause, Restart, Resume, SetLoad, SetSpeed
from kflab.lab.session import Session
from kflab.lab.snapshot import TraceRow
from kflab.tui.clipboard import copy
from kflab.tui.keys import LAB_BINDINGS
from kflab.tui.lab_desk import VIEWS, LabDesk
from kflab.tui.messages import (
    CommandIssued,
    HopSelected,
    ObjectSelected,
    RequestClosed,
    RequestOpened,
)
from kflab.tui.plan import TABS

if TYPE_CHECKING:
    from kflab.tui.lab_words import FaceWord

SPEEDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Simulated seconds per second that `<` and `>` step through."""

LOADS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Factors of the configured load that `(` and `)` step through."""


class LabScreen(LabDesk):
    """Everything a lab shows, and its keys.

    What a key opens is imported when it is first pressed, or in idle time before (`later`).
    """

    BINDINGS: ClassVar[list[BindingType]] = [*LAB_BINDINGS]

    # --- keys -----------------------------------------------------------------------------------------------------

    def action_next_pane(self) -> None:
        self.focus_next()

    def action_previous_pane(self) -> None:
        self.focus_previous()

    def action_pause(self) -> None:
        held = self.snapshot is not None and self.snapshot.paused
        self.submit(Resume() if held else Pause())

    def action_next_event(self) -> None:
        self.submit(NextEvent())

    def action_kill_random(self) -> None:
        self.hints.did("kill")
        self.submit(KillRandom())

    def action_kill(self) -> None:
        """The menu of what can be ended or stopped, on the selected row itself."""
        if self.snapshot is None:
            return
        from kflab.tui.kill_menu import KillMenu

        on_ledger = self.wish.view == "ledger" or self.selected is None
        key = self.ledger.selected_key if on_ledger else self.selected
        x, y = self.ledger.selected_place() if on_ledger else (4, self.body.frames[self.wish.view].region.y + 1)

        def chosen(command: Command | None) -> None:
            if command is not None:
                self.hints.did("kill")
                self.submit(command)

        self.app.push_screen(KillMenu(self.lab.targets(key), x, y), chosen)

    def action_again(self) -> None:
        """The menu of settings with which the last change is played again."""
        self.hints.did("again")
        self.ask(self.lab.session(), self._offer_again)

    def _offer_again(self, session: Session) -> None:
        if not session.changes:
            self.tell("nothing was changed yet: k ends something, then a plays it again")
            return
        from kflab.tui.again_screen import offer  # processes and all: the first frame need not wait for them

        offer(self.app, session, lambda words: self.tell(words, bad=True))

    def action_command(self) -> None:
        self.open_command()

    def open_command(self, start: str = "") -> None:
        """Open the command line, with a start of a line."""
        from kflab.tui.command_line import open_command_line

        open_command_line(self, self.history, start, self.action_help)

    def action_help(self) -> None:
        """About the focused pane, then all keys."""
        from kflab.tui.help_screen import open_help

        open_help(self.app, LAB_BINDINGS)

    def action_restart(self) -> None:
        self.submit(Restart())

    def action_speed(self, direction: int) -> None:
        if self.snapshot is not None:
            self.submit(SetSpeed(step(SPEEDS, self.snapshot.speed_asked, direction)))

    def action_load(self, direction: int) -> None:
        if self.snapshot is not None:
            self.submit(SetLoad(step(LOADS, self.snapshot.load_factor, direction)))

    def action_lens(self) -> None:
        self.ledger.toggle_lens()

    def action_change(self, direction: int) -> None:
        self.ledger.step_change(direction)

    def action_fold(self, folded: bool) -> None:
        self.ledger.fold(folded)

    def action_open(self) -> None:
        self.ledger.action_open()

    def action_view(self) -> None:
        """The next view of the topology; the focus stays on it if it was there."""
        self.hints.did("view")
        had = self.focused is None or self.body.frames[self.wish.view] in self.focused.ancestors_with_self
        view = VIEWS[(VIEWS.index(self.wish.view) + 1) % len(VIEWS)]
        if self.body.plan.size == "tabs":
            self.want(view=view, tab="topology")
        else:
            self.want(view=view)
        self.call_after_refresh(self.follow_plan)
        if had or self.body.plan.size == "tabs":
            self.call_after_refresh(self.focus_pane, view)

    def action_rules(self) -> None:
        self.hints.did("rules")
        self._toggle("rules")

    def action_shares(self) -> None:
        self._toggle("shares")

    def action_gantt(self) -> None:
        self.hints.did("gantt")
        self._toggle("gantt")

    def _toggle(self, pane: str) -> None:
        size = self.body.plan.size
        if (size in ("split", "wide") and self.wish.lower == pane) or (size == "tabs" and self.wish.tab == pane):
            self.action_back()
        else:
            self.show_pane(pane)

    def action_filter(self) -> None:
        if "ledger" not in self.body.plan.areas:
            self.want(view="ledger", tab="topology")
        self.filter.open(self.ledger.filter_text)

    def action_neighbour(self, direction: int) -> None:
        """The next or previous traced request of the same way."""
        if self.trace_id is None:
            return
        row: TraceRow | None = self.traces.neighbour(self.trace_id, direction)
        if row is None:
            self.tell("no further request of this way among those sampled")
        else:
            self.post_message(RequestOpened(row.id))

    def action_hop(self, direction: int) -> None:
        """Walk the hops of the open request."""
        if self.trace is None:
            return
        numbers = [hop.number for hop in self.trace.trace.hops if hop.number]
        if numbers:
            at = numbers.index(self.hop) if self.hop in numbers else -direction
            self.post_message(HopSelected(numbers[max(0, min(len(numbers) - 1, at + direction))]))

    def action_back(self) -> None:
        """esc: one step at a time.

        A pane without a use for the key may hand it on while it also bubbles here by itself; one press is one step.
        """
        pressed = getattr(self.app, "keys_pressed", 0)
        if pressed == self._stepped_back:
            return
        self._stepped_back = pressed
        if self.ledger.filter_text:
            self.ledger.set_filter("")
        elif self.wish.lower:
            self.want(lower="")
            self.call_after_refresh(self.focus_pane, "request" if self.trace is not None else self.wish.view)
        elif self.body.plan.size == "tabs" and self.wish.tab not in TABS:
            self.want(tab="topology")
            self.call_after_refresh(self.focus_pane, self.wish.view)
        elif self.trace is not None:
            self.post_message(RequestClosed())
        elif self.selected is not None:
            self.post_message(ObjectSelected(None))
        elif self.body.plan.size == "tabs" and self.wish.tab != "topology":
            self.action_tab("topology")
        else:
            self.focus_pane(self.wish.view)

    def action_edit(self) -> None:
        """Edit what is selected; the pane shows it already."""
        self.hints.did("edit")
        self.show_pane("manifest")
        self.call_after_refresh(self.manifest.action_edit)

    def action_live(self) -> None:
        self.show_pane("manifest")
        self.call_after_refresh(self.manifest.action_live)

    def action_copy(self) -> None:
        """Copy what the focused pane offers, else the selected name."""
        focused = self.focused
        source = getattr(focused, "copy_text", None)
        if source is not None:
            text, what = source()
        elif self.trace is not None:
            request: Any = self.body.need("request").pane
            text, what = request.copy_text()
        else:
            text, what = (self.selected.name, "name") if self.selected is not None else ("", "selection")
        self.tell(copy(self.app, text, what))

    def action_leave(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Quit, after the editor has asked about unwritten edits."""

        def then(may: bool) -> None:
            if may:
                self.app.exit(0)

        self.manifest.leave(then)

    # --- command line ---------------------------------------------------------------------------------------------

    def on_command_issued(self, message: CommandIssued) -> None:
        """A line of the command line: a word for the screen, or a command for the lab."""
        if message.relayed:
            return
        from kflab.tui import lab_words

        self.hints.did("command")
        try:
            asked = lab_words.parse(message.line)
        except KflabError as error:
            (message.refused or partial(self.tell, bad=True))(error.message)
            return
        if isinstance(asked, lab_words.FaceWord):
            self.do_word(asked)
        elif asked is not None:
            self.submit(asked, message.refused)

    def do_word(self, word: "FaceWord") -> None:
        """Do what the screen does itself."""
        if word.name == "q":
            self.leave()
        elif word.name == "w":
            self.manifest.write(word.argument or None)
        elif word.name == "theme":
            self.app.theme = word.argument
        elif word.name == "view":
            self.want(view=word.argument)
        elif word.name == "filter":
            self.ledger.set_filter(word.argument)

    def interrupted(self) -> None:
        """ctrl+c: says how to quit; the second one quits."""
        self._interrupts += 1
        if self._interrupts > 1:
            self.leave()
            return
        self.tell("q quits, ctrl+c once more too")
        self.set_timer(3, self._forget_interrupt)

    def _forget_interrupt(self) -> None:
        self._interrupts = 0


def step(steps: tuple[float, ...], now: float, direction: int) -> float:
    """The next or previous step from any value; stays at the ends."""
    if direction > 0:
        return next((value for value in steps if value > now * 1.001), steps[-1])
    return next((value for value in reversed(steps) if value < now * 0.999), steps[0])
