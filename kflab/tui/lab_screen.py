"""The one screen: status, story, panes, keys; who gets which message and which key."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from kflab.errors import KflabError
from kflab.lab.commands import Command, KillRandom, NextEvent, Pause, Restart, Result, Resume, SetLoad, SetSpeed
from kflab.lab.handle import LabHandle
from kflab.lab.snapshot import Snapshot, Span, TraceRow
from kflab.manifest.objects import Key
from kflab.tui import lab_words
from kflab.tui.clipboard import copy
from kflab.tui.command_line import open_command_line
from kflab.tui.facts_view import FactsView
from kflab.tui.filter_line import FilterLine
from kflab.tui.frame import Body, PaneFrame
from kflab.tui.help_screen import open_help
from kflab.tui.hints import Hints
from kflab.tui.history import History
from kflab.tui.keys import LAB_BINDINGS, key_offers
from kflab.tui.kill_menu import KillMenu
from kflab.tui.ledger import LedgerView
from kflab.tui.manifest_pane import ManifestPane
from kflab.tui.messages import (
    CommandIssued,
    HopSelected,
    InstantSelected,
    LabMessage,
    ObjectSelected,
    RequestClosed,
    RequestLoaded,
    RequestOpened,
    ViewAsked,
)
from kflab.tui.nodes_view import NodesView
from kflab.tui.plan import TABS, Wish, plan
from kflab.tui.request_pane import RequestPane
from kflab.tui.rules_pane import RulesPane
from kflab.tui.schematic import SchematicView
from kflab.tui.shares_pane import SharesPane
from kflab.tui.status_line import KeyLine, StatusLine, StoryLine
from kflab.tui.text import instant
from kflab.tui.tokens import LOOKS
from kflab.tui.trace_pane import TracePane

VIEWS = ("ledger", "schematic", "nodes")
"""What `v` goes through."""

SPEEDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Simulated seconds per second that `<` and `>` step through."""

LOADS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Factors of the configured load that `(` and `)` step through."""


class Answered(Message):
    """A future of the lab is done. Posted from the lab's thread; handled on the screen's."""

    def __init__(self, then: Callable[[Any], None], value: Any, error: BaseException | None) -> None:
        super().__init__()
        self.then = then
        self.value = value
        self.error = error


class LabScreen(Screen[None]):
    """Everything a lab shows."""

    BINDINGS: ClassVar[list[BindingType]] = [*LAB_BINDINGS]
    AUTO_FOCUS = ""

    def __init__(self, lab: LabHandle) -> None:
        super().__init__()
        self.lab = lab
        self.hints = Hints()
        self.wish = Wish()
        self.snapshot: Snapshot | None = None
        self.trace_id: int | None = None
        """Id of the open request's row; None when none is open."""
        self.trace: RequestLoaded | None = None
        self.hop = 0
        self.selected: Key | None = None
        self.status = StatusLine()
        self.story = StoryLine(self.action_tab)
        self.keys = KeyLine(self.press)
        self.ledger = LedgerView(lab)
        self.schematic = SchematicView(lab)
        self.nodes_view = NodesView(lab)
        self.request = RequestPane(lab)
        self.manifest = ManifestPane(lab)
        self.traces = TracePane(lab)
        self.shares = SharesPane(lab)
        self.rules = RulesPane(lab)
        self.facts = FactsView(lab)
        frames = (
            PaneFrame("ledger", self.ledger, titled=False),
            PaneFrame("schematic", self.schematic),
            PaneFrame("nodes", self.nodes_view),
            PaneFrame("request", self.request),
            PaneFrame("manifest", self.manifest),
            PaneFrame("trace", self.traces),
            PaneFrame("shares", self.shares),
            PaneFrame("rules", self.rules),
            PaneFrame("facts", self.facts, titled=False),
        )
        self.body = Body(frames)
        self.history = History()
        self.filter = FilterLine(self._filtered)
        self._stale: set[str] = set()
        self._before_request: Widget | None = None
        self._interrupts = 0
        self._stepped_back = -1

    def compose(self) -> ComposeResult:
        yield self.status
        yield self.story
        yield self.body
        yield self.keys
        yield self.filter

    def on_mount(self) -> None:
        frames = getattr(self.app, "frames", 20)
        self.follow_plan()
        self.tick()
        self.focus_pane(self.wish.view)
        self.set_interval(1 / frames, self.tick)

    def on_resize(self) -> None:
        self.ledger.forget_height()
        self.follow_plan()

    # --- frames ---------------------------------------------------------------------------------------------------

    @property
    def panes(self) -> Iterable[Widget]:
        return [frame.pane for frame in self.body.frames.values()]

    def tick(self) -> None:
        """Ask the lab for its newest snapshot and hand it to what is visible."""
        snapshot = self.lab.snapshot()
        if snapshot is self.snapshot:
            self.ledger.calm()
            self.say()
            self.follow_pane_sizes()
            return
        if self.snapshot is not None and self.app.output_waits():  # type: ignore[attr-defined]  # KflabApp
            return
        if self.snapshot is not None and snapshot.t_ns < self.snapshot.t_ns:
            self.restarted()
        self.snapshot = snapshot
        with self.app.batch_update():
            self.status.show(snapshot)
            for area, frame in self.body.frames.items():
                if area in self.body.plan.areas:
                    frame.show(snapshot)
                    self._stale.discard(area)
                else:
                    self._stale.add(area)
            self.say()
        self.follow_pane_sizes()

    def follow_pane_sizes(self) -> None:
        """Lay out anew when the ledger has grown or somebody began or ended editing."""
        editing = bool(getattr(self.manifest, "editing", False))
        if self.ledger.wanted_rows() > self.wish.topology_rows or editing != self.wish.editing:
            self.want(editing=editing)

    def restarted(self) -> None:
        """The clock went back: what was open belongs to a life that is over."""
        self.ledger.restart()
        if self.trace is not None:
            self.post_message(RequestClosed())

    def say(self) -> None:
        """Bring story, keys and titles up to date."""
        snapshot = self.snapshot
        if snapshot is None:
            return
        size = self.body.plan.size
        self.story.say(self.sentence(snapshot), size == "tabs", self.wish.tab)
        self.keys.offer(
            key_offers(size, self.trace is not None, self.wish.lower, snapshot.paused, self.typing() is not None)
        )
        for area in self.body.plan.areas:
            self.body.frames[area].check_title()

    def sentence(self, snapshot: Snapshot) -> tuple[Span, ...]:
        """Row 1 now."""
        if self.ledger.filter_text:
            return (
                Span("/", "key"),
                Span(f" {self.ledger.filter_text} ", "strong"),
                Span(f"{self.ledger.matches} rows; ", "dim"),
                Span("esc", "key"),
                Span(" shows all again", "dim"),
            )
        if self.trace is not None:
            return (
                Span(f"▼ {instant(self.trace.trace.t_start_ns)} s", "key"),
                Span("  the path of one request is drawn heavy; ", "text"),
                Span("← →", "key"),
                Span(" walk its hops, ", "dim"),
                Span("n", "key"),
                Span(" the next request of the same way", "dim"),
            )
        return self.hints.sentence(snapshot)

    def typing(self) -> Widget | None:
        """What has the focus, if one types into it."""
        focused = self.focused
        return focused if focused is not None and focused.check_consume_key("x", "x") else None

    # --- plan and focus -------------------------------------------------------------------------------------------

    def want(self, **changes: Any) -> None:
        """Change what should be on the screen."""
        self.wish = replace(self.wish, **changes)
        self.follow_plan()

    def follow_plan(self) -> None:
        """Lay the panes out for the size and the wish of now."""
        width, height = self.app.size
        rows = self.ledger.wanted_rows()
        if self.wish.view != "ledger":
            view = self.schematic if self.wish.view == "schematic" else self.nodes_view
            rows = max(rows, view.wanted_rows() + 1)
        self.wish = replace(self.wish, topology_rows=rows)
        moved = self.body.follow(plan(width, height, self.wish))
        if not moved:
            return
        if self.snapshot is not None:
            for area in self.body.plan.areas:
                if area in self._stale:
                    self.body.frames[area].show(self.snapshot)
                    self._stale.discard(area)
        focused = self.focused
        visible = [self.body.frames[area] for area in self.body.plan.areas]
        if focused is not None and not any(frame in focused.ancestors_with_self for frame in visible):
            self.call_after_refresh(self.focus_pane, next(iter(self.body.plan.areas)))
        self.say()

    def focus_pane(self, area: str) -> None:
        """Give a pane the focus, if it is shown."""
        frame = self.body.frames.get(area)
        if frame is not None and frame.display:
            target = frame.pane if frame.pane.can_focus else next(iter(frame.pane.query("*:can-focus")), None)
            if target is not None:
                self.set_focus(target)
        self.say()

    def show_pane(self, area: str) -> None:
        """Bring a pane to the screen, wherever it can be, and focus it."""
        size = self.body.plan.size
        if area == "topology":
            area = self.wish.view
        if size == "tabs":
            self.want(tab="topology" if area in VIEWS else area)
        elif size == "split" and area in ("rules", "shares"):
            self.want(lower=area)
        elif size == "split" and area in ("manifest", "trace"):
            self.want(lower="", request=False if area == "manifest" else self.wish.request)
            if area == "manifest" and self.trace is not None:
                self.post_message(RequestClosed())
        elif area in VIEWS and area not in self.body.plan.areas:
            self.want(view=area)
        self.call_after_refresh(self.focus_pane, area)

    # --- messages -------------------------------------------------------------------------------------------------

    def relay(self, message: LabMessage) -> None:
        """Hand a copy to every pane."""
        for pane in self.panes:
            pane.post_message(message.copy())

    def on_object_selected(self, message: ObjectSelected) -> None:
        if message.relayed:
            return
        self.selected = message.key
        self.relay(message)

    def on_hop_selected(self, message: HopSelected) -> None:
        if message.relayed:
            return
        self.hop = message.number
        self.relay(message)

    def on_request_opened(self, message: RequestOpened) -> None:
        if message.relayed:
            return
        self.hints.did("open")
        trace_id = message.trace_id

        def loaded(trace: Any) -> None:
            self.post_message(RequestLoaded(trace, trace_id))

        self.ask(self.lab.open_request(trace_id), loaded)

    def on_request_loaded(self, message: RequestLoaded) -> None:
        if message.relayed:
            return
        if self.trace is None:
            self._before_request = self.focused
        self.trace, self.trace_id = message, message.trace_id
        self.hop = next((hop.number for hop in message.trace.hops if hop.number), 0)
        self.relay(message)
        self.want(request=True, lower="", tab="request" if self.body.plan.size == "tabs" else self.wish.tab)
        self.call_after_refresh(self.focus_pane, "request")

    def on_request_closed(self, message: RequestClosed) -> None:
        if message.relayed or self.trace is None:
            return
        self.trace, self.trace_id, self.hop = None, None, 0
        self.relay(message)
        tab = "trace" if self.wish.tab == "request" else self.wish.tab
        self.want(request=False, tab=tab)
        before = self._before_request
        if before is not None and before.is_attached:
            self.call_after_refresh(self.set_focus, before)

    def on_view_asked(self, message: ViewAsked) -> None:
        if not message.relayed:
            self.show_pane(message.pane)

    def on_instant_selected(self, message: InstantSelected) -> None:
        """A click in the lens, or enter on a row: open the nearest traced request of that row."""
        if message.relayed or self.snapshot is None:
            return
        rows = [row for row in self.snapshot.traces if self.ledger.row_touches(row, message.key)]
        if not rows:
            self.tell("no traced request touched this row yet")
            return
        nearest = min(rows, key=lambda row: (abs(row.t_ns - message.t_ns), row.ok, -row.id))
        self.post_message(RequestOpened(nearest.id))

    def ask(self, future: "Future[Any]", then: Callable[[Any], None]) -> None:
        """Call `then` with the value, on this thread, when the lab has answered."""

        def done(finished: "Future[Any]") -> None:
            if finished.cancelled():
                return
            error = finished.exception()
            self.post_message(Answered(then, None if error else finished.result(), error))

        future.add_done_callback(done)

    def on_answered(self, message: Answered) -> None:
        if message.error is None:
            message.then(message.value)
        elif isinstance(message.error, KflabError):
            self.tell(str(message.error), bad=True)
        else:
            self.tell(f"{type(message.error).__name__}: {message.error}", bad=True)

    def submit(self, command: Command) -> None:
        """Send a command; say what came of it."""

        def answered(result: Result) -> None:
            if result.text:
                self.tell(result.text, bad=not result.ok)
            if result.trace_id is not None:
                self.post_message(RequestOpened(result.trace_id))

        self.ask(self.lab.submit(command), answered)

    def tell(self, text: str, bad: bool = False) -> None:
        """Announce one line; outside text is never markup."""
        self.app.notify(text, severity="error" if bad else "information", markup=False)

    # --- keys -----------------------------------------------------------------------------------------------------

    def press(self, action: str) -> None:
        """Run an action of this screen (a click on the key line)."""
        self._stepped_back = -1
        self.app.call_later(self.run_action, action)

    def action_next_pane(self) -> None:
        self.focus_next()
        self.say()

    def action_previous_pane(self) -> None:
        self.focus_previous()
        self.say()

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
        on_ledger = self.wish.view == "ledger" or self.selected is None
        key = self.ledger.selected_key if on_ledger else self.selected
        x, y = self.ledger.selected_place() if on_ledger else (4, self.body.frames[self.wish.view].region.y + 1)

        def chosen(command: Command | None) -> None:
            if command is not None:
                self.hints.did("kill")
                self.submit(command)

        self.app.push_screen(KillMenu(key, self.snapshot, x, y), chosen)

    def action_command(self) -> None:
        self.open_command()

    def open_command(self, start: str = "") -> None:
        """Open the command line, with a start of a line."""
        open_command_line(self, self.history, start, self.action_help)

    def action_help(self) -> None:
        """About the focused pane, then all keys."""
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

    def action_tab(self, tab: str) -> None:
        """1 to 4: one pane at a time where only one fits, the focus elsewhere."""
        if self.body.plan.size == "tabs":
            self.want(tab=tab)
            self.call_after_refresh(self.focus_pane, self.wish.view if tab == "topology" else tab)
        elif tab == "request" and self.trace is None:
            self.tell("no request is open: enter on a row of Trace opens one")
        else:
            self.show_pane(tab)

    def action_rules(self) -> None:
        self.hints.did("rules")
        self._toggle("rules")

    def action_shares(self) -> None:
        self._toggle("shares")

    def _toggle(self, pane: str) -> None:
        size = self.body.plan.size
        if (size == "split" and self.wish.lower == pane) or (size == "tabs" and self.wish.tab == pane):
            self.action_back()
        else:
            self.show_pane(pane)

    def action_filter(self) -> None:
        if "ledger" not in self.body.plan.areas:
            self.want(view="ledger", tab="topology")
        self.filter.open(self.ledger.filter_text)

    def _filtered(self, text: str, done: bool) -> None:
        self.ledger.set_filter(text)
        if done:
            self.focus_pane("ledger")
        self.say()

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
            text, what = self.request.copy_text()
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
        self.hints.did("command")
        try:
            asked = lab_words.parse(message.line)
        except KflabError as error:
            self.tell(error.message, bad=True)
            return
        if isinstance(asked, lab_words.FaceWord):
            self.do_word(asked)
        elif asked is not None:
            self.submit(asked)

    def do_word(self, word: lab_words.FaceWord) -> None:
        """Do what the screen does itself."""
        if word.name == "q":
            self.leave()
        elif word.name == "w":
            self.manifest.write(word.argument or None)
        elif word.name == "theme":
            if word.argument in LOOKS and word.argument != "plain":
                self.app.theme = word.argument
            else:
                self.tell("themes are slate, paper and ansi", bad=True)
        elif word.name == "view":
            if word.argument in VIEWS:
                self.want(view=word.argument)
            else:
                self.tell("views are ledger, schematic and nodes", bad=True)
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
