"""The one screen without its keys: panes, frames, plan, focus, and who gets which message."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from textual import events
from textual.app import App, ComposeResult
from textual.message import Message
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

from kflab.errors import KflabError
from kflab.lab.commands import (
    Act,
    Command,
    Kill,
    KillRandom,
    NextEvent,
    Pause,
    Restart,
    Result,
    Resume,
    SetLoad,
    SetSpeed,
    Start,
    Stop,
)
from kflab.lab.handle import LabHandle
from kflab.lab.snapshot import Snapshot, Span
from kflab.manifest.objects import Key
from kflab.tui import later, panes
from kflab.tui.filter_line import FilterLine
from kflab.tui.frame import Body, PaneFrame
from kflab.tui.held_figures import HeldFigures
from kflab.tui.hints import Hints
from kflab.tui.history import History
from kflab.tui.keys import key_offers
from kflab.tui.ledger import LedgerView
from kflab.tui.manifest_pane import ManifestPane
from kflab.tui.messages import (
    HopSelected,
    InstantSelected,
    LabMessage,
    ObjectSelected,
    RequestClosed,
    RequestLoaded,
    RequestOpened,
    ViewAsked,
)
from kflab.tui.pane import Pane
from kflab.tui.plan import TABS, Wish, plan
from kflab.tui.status_line import KeyLine, StatusLine, StoryLine
from kflab.tui.text import instant
from kflab.tui.trace_pane import TracePane

VIEWS = ("ledger", "schematic", "nodes")
"""What `v` goes through."""


SCROLLING = frozenset({"trace", "nodes", "shares"})
"""Panes of which most lines change with every frame."""

SSH_SCROLL_S = 0.5
"""Seconds between two paints of them over SSH, where a scrolling trace is most of the bytes."""


class Answered(Message):
    """A future of the lab is done. Posted from the lab's thread; handled on the screen's."""

    def __init__(self, then: Callable[[Any], None], value: Any, error: BaseException | None) -> None:
        super().__init__()
        self.then = then
        self.value = value
        self.error = error


SEEN_ANYWAY = (Pause, Resume, SetSpeed, SetLoad, Restart, Kill, KillRandom, Stop, Start, Act)
"""Commands whose effect the screen itself shows: a toast would only cover figures."""


def output_waits(app: App[object]) -> bool:
    """Whether the terminal has not yet taken what was painted before: then a frame is skipped.

    Textual's writer blocks the event loop when the link is slow; its queue length is the only sign of it.
    """
    queue = getattr(getattr(app._driver, "_writer_thread", None), "_queue", None)
    return queue is not None and queue.qsize() > 1


class LabDesk(Screen[None]):
    """Everything a lab shows; `LabScreen` adds the keys."""

    AUTO_FOCUS = ""

    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """Textual's own, but a change of it does not paint the whole screen: the two panes paint themselves."""

    def __init__(self, lab: LabHandle) -> None:
        super().__init__()
        self.lab = lab
        self.hints = Hints()
        self.wish = Wish()
        self.snapshot: Snapshot | None = None
        """What is on show."""
        self._newest: Snapshot | None = None
        """The lab's own snapshot behind it."""
        self.figures = HeldFigures()
        self.clock = time.monotonic
        self.trace_id: int | None = None
        """Id of the open request's row; None when none is open."""
        self.trace: RequestLoaded | None = None
        self.hop = 0
        self.selected: Key | None = None
        self.status = StatusLine()
        self.story = StoryLine(self.action_tab)
        self.keys = KeyLine(self.press)
        self.ledger = LedgerView(lab)
        self.manifest = ManifestPane(lab)
        self.traces = TracePane()
        self.body = Body(self._frame_of)
        self.history = History()
        self.filter = FilterLine(self._filtered)
        self._stale: set[str] = set()
        self._shown_at: dict[str, float] = {}
        self._before_request: Widget | None = None
        self._lower_before = ""
        self._resumed = False
        self._interrupts = 0
        self._stepped_back = -1

    def _frame_of(self, area: str) -> PaneFrame:
        """Make a pane with its frame, and tell it what the others were told before."""
        own: dict[str, Pane] = {"ledger": self.ledger, "manifest": self.manifest, "trace": self.traces}
        pane = own[area] if area in own else panes.made(area, self.lab)
        self._stale.add(area)
        if self.selected is not None:
            pane.post_message(ObjectSelected(self.selected).copy())
        if self.trace is not None:
            pane.post_message(self.trace.copy())
            pane.post_message(HopSelected(self.hop).copy())
        return PaneFrame(area, pane, titled=area not in panes.UNTITLED)

    def make_rest(self) -> None:
        """Make the panes that nobody wanted yet, so that no key has to wait for them."""
        for area in panes.ORDER:
            self.body.need(area)

    def compose(self) -> ComposeResult:
        for area in ("ledger", "manifest", "trace"):  # the screen asks these even where they have no room
            self.body.need(area)
        self.follow_plan()
        self.ledger.begin(self.lab.snapshot())
        if self.ledger.selected_key is not None:
            self.manifest.begin(self.ledger.selected_key)
        yield self.status
        yield self.story
        yield self.body
        yield self.keys
        yield self.filter

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Every widget got its styles when it was mounted, just now: the first time none needs them once more."""
        if not self._resumed:
            self._resumed, event.refresh_styles = True, False

    def on_mount(self) -> None:
        frames = getattr(self.app, "frames", 20)
        self.follow_plan()
        self.tick()
        self.focus_pane(self.wish.view)
        self.call_after_refresh(self._show_selected)
        self.call_after_refresh(self._after_first_paint)
        self.set_interval(1 / frames, self.tick)

    def _after_first_paint(self) -> None:
        painted = getattr(self.app, "painted", None)
        if painted is None:
            self.make_rest()
            return
        painted()
        later.load_in_background(lambda: self.post_message(Answered(lambda _: self.make_rest(), None, None)))

    def _show_selected(self) -> None:
        """Begin with the manifest of the row that is selected."""
        if self.ledger.selected_key is not None:
            self.manifest.show_object(self.ledger.selected_key)

    def on_resize(self) -> None:
        self.ledger.forget_height()
        self.follow_plan()

    # --- frames ---------------------------------------------------------------------------------------------------

    @property
    def panes(self) -> Iterable[Widget]:
        return [frame.pane for frame in self.body.frames.values()]

    def tick(self) -> None:
        """Ask the lab for its newest snapshot and hand it to what is visible."""
        newest, now = self.lab.snapshot(), self.clock()
        if newest is self._newest and self.snapshot is not None and not self.figures.due(newest, now):
            self.ledger.calm()
            self.show_held_back(self.snapshot)
            self.say()
            self.follow_pane_sizes()
            return
        if self.snapshot is not None and output_waits(self.app):
            return
        if self.snapshot is not None and newest.t_ns < self.snapshot.t_ns:
            self.restarted()
            self.figures.restart()
        self._newest = newest
        self.snapshot = snapshot = self.figures.take(newest, now)
        with self.app.batch_update():
            self.status.show(snapshot)
            for area, frame in self.body.frames.items():
                if area in self.body.plan.areas and frame.is_mounted and not self.holds_back(area):
                    frame.show(snapshot)
                    self._stale.discard(area)
                else:
                    self._stale.add(area)
            self.say()
        self.follow_pane_sizes()

    def holds_back(self, area: str) -> bool:
        """Whether a pane skips this frame: over SSH those that scroll are painted twice a second."""
        if area not in SCROLLING or not getattr(self.app, "over_ssh", False):
            return False
        now = time.monotonic()
        if now - self._shown_at.get(area, 0.0) < SSH_SCROLL_S:
            return True
        self._shown_at[area] = now
        return False

    def show_held_back(self, snapshot: Snapshot) -> None:
        """The lab rests: panes that skipped its last frame get it now."""
        for area in [area for area in self.body.plan.areas if area in self._stale and not self.holds_back(area)]:
            self._show_stale(area, snapshot)

    def _show_stale(self, area: str, snapshot: Snapshot) -> None:
        frame = self.body.frames[area]
        if frame.is_mounted:  # else it was made just now, and the next tick shows it
            frame.show(snapshot)
            self._stale.discard(area)

    def follow_pane_sizes(self) -> None:
        """Lay out anew when the ledger has grown or somebody began or ended editing."""
        editing = bool(getattr(self.manifest, "editing", False))
        if self.ledger.wanted_rows() > self.wish.topology_rows or editing != self.wish.editing:
            self.want(editing=editing)

    def restarted(self) -> None:
        """The clock went back: what was open belongs to a life that is over."""
        self.ledger.restart()
        self.manifest.restarted()
        if self.trace is not None:
            self.post_message(RequestClosed())

    def watch_focused(self) -> None:
        """Titles and keys follow at once."""
        self.say()

    def say(self) -> None:
        """Bring story, keys and titles up to date."""
        snapshot = self.snapshot
        if snapshot is None:
            return
        size = self.body.plan.size
        self.story.say(self.sentence(snapshot), size == "tabs", self.wish.tab)
        beside = self.wish.tab if size == "tabs" and self.wish.tab not in TABS else self.wish.lower
        editing, changed = self.typing() is not None, bool(snapshot.marks)
        self.keys.offer(key_offers(size, self.trace is not None, beside, snapshot.paused, editing, changed))
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
            view: Any = self.body.need(self.wish.view).pane
            rows = max(rows, view.wanted_rows() + 1)
        self.wish = replace(self.wish, topology_rows=rows)
        moved = self.body.follow(plan(width, height, self.wish))
        if not moved:
            return
        if self.snapshot is not None:
            for area in self.body.plan.areas:
                if area in self._stale:
                    self._show_stale(area, self.snapshot)
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
        elif (size == "split" and area in ("rules", "shares", "gantt")) or (size == "wide" and area == "gantt"):
            self.want(lower=area)
        elif size == "split" and area in ("manifest", "trace"):
            self.want(lower="", request=False if area == "manifest" else self.wish.request)
            if area == "manifest" and self.trace is not None:
                self.post_message(RequestClosed())
        elif area in VIEWS and area not in self.body.plan.areas:
            self.want(view=area)
        self.call_after_refresh(self.focus_pane, area)

    def action_tab(self, tab: str) -> None:
        """1 to 4: one pane at a time where only one fits, the focus elsewhere."""
        if self.body.plan.size == "tabs":
            self.want(tab=tab)
            self.call_after_refresh(self.focus_pane, self.wish.view if tab == "topology" else tab)
        elif tab == "request" and self.trace is None:
            self.tell("no request is open: enter on a row of Trace opens one")
        else:
            self.show_pane(tab)

    def _filtered(self, text: str, done: bool) -> None:
        self.ledger.set_filter(text)
        if done:
            self.focus_pane("ledger")
        self.say()

    def press(self, action: str) -> None:
        """Run an action of this screen (a click on the key line)."""
        self._stepped_back = -1
        self.app.call_later(self.run_action, action)

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
            self._lower_before = self.wish.tab if self.wish.tab == "gantt" else self.wish.lower
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
        from_bill = self._lower_before == "gantt" and not self.wish.lower
        if from_bill:
            tab = "gantt" if self.body.plan.size == "tabs" else tab
        self.want(request=False, tab=tab, lower="gantt" if from_bill else self.wish.lower)
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

    def submit(self, command: Command, refused: Callable[[str], None] | None = None) -> None:
        """Send a command; say what came of it, or tell `refused` why nothing did."""

        def answered(result: Result) -> None:
            if isinstance(command, NextEvent):
                self.app.clear_notifications()  # one event after the other; told one above the other they hide rows
            if not result.ok and refused is not None:
                refused(result.text)
            elif result.text and not (result.ok and isinstance(command, SEEN_ANYWAY)):
                self.tell(result.text, bad=not result.ok)
            if result.trace_id is not None:
                self.post_message(RequestOpened(result.trace_id))

        self.ask(self.lab.submit(command), answered)

    def tell(self, text: str, bad: bool = False) -> None:
        """Announce one line; outside text is never markup."""
        self.app.notify(text, severity="error" if bad else "information", markup=False)
