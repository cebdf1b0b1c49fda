"""Sampled requests as they finish; the newest at the bottom, until somebody looks back."""

from bisect import bisect_left
from collections.abc import Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.strip import Strip
from textual.widgets import Input

from kflab.lab.snapshot import Snapshot, TraceRow
from kflab.tui import text
from kflab.tui.line_pane import LinePane
from kflab.tui.messages import ObjectSelected, RequestClosed, RequestLoaded, RequestOpened
from kflab.tui.row import Row
from kflab.tui.trace_filter import OUTCOMES, TraceFilter, way_of
from kflab.tui.trace_row import TraceLayout, draw, head_row, request_text, scale_ns

KEPT = 4_000
"""Rows kept while following; an hour of looking back at one sample a second. While stopped four times as many."""


class TracePane(LinePane):
    """The trace. It follows until an upward move stops it; `end` follows again."""

    title = "Trace"

    DEFAULT_CSS = """
    TracePane Input { dock: bottom; height: 1; border: none; padding: 0 1; background: $tok-sel; display: none; }
    TracePane Input:focus { border: none; background-tint: $tok-sel 0%; }
    TracePane.-typing Input { display: block; }
    """

    BINDINGS = [
        Binding("enter", "open", "open", id="trace.open", tooltip="Open the request under the cursor"),
        Binding(
            "f",
            "outcome",
            "errors",
            id="trace.outcome",
            tooltip="Show all, only errors, only retried requests, only calls",
        ),
        Binding(
            "slash", "filter", "filter", id="trace.filter", tooltip="Filter by pod:, svc:, status:, errors or a word"
        ),
        Binding("escape", "undo", "back", id="trace.undo", show=False, tooltip="Undo one step: cursor, then filter"),
        Binding("up", "scroll_lines(-1)", "up", id="trace.up", show=False, tooltip="One request back; stops following"),
        Binding("down", "scroll_lines(1)", "down", id="trace.down", show=False, tooltip="One request on"),
        Binding("end", "scroll_edge(1)", "follow", id="trace.follow", show=False, tooltip="Follow the newest again"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.filter = TraceFilter()
        self.kept: list[TraceRow] = []
        self.shown: list[TraceRow] = []
        self.following = True
        self.cursor_id: int | None = None
        self.open_id: int | None = None
        self._snapshot: Snapshot | None = None
        self._seen = 0
        self._seen_at_stop = 0
        self._request_width = 8
        self._time_width = 5
        self._full_ns = scale_ns([])
        self._typed_before: TraceFilter = self.filter
        self._strips: dict[tuple[object, ...], Strip] = {}

    def compose(self) -> ComposeResult:
        yield Input(placeholder="errors, retried, pod:…, svc:…, status:502, or any word", id="trace-filter")

    # --- rows ---------------------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Take in what finished since the last snapshot."""
        if snapshot is self._snapshot:
            return
        if snapshot.traces_seen < self._seen:
            self._forget()
        self._snapshot = snapshot
        new = self._new_rows(snapshot.traces)
        self._seen = snapshot.traces_seen
        if new:
            self.kept.extend(new)
            limit = KEPT if self.following else 4 * KEPT
            if len(self.kept) > limit:
                del self.kept[: len(self.kept) - limit]
                self.shown = [row for row in self.kept if self.filter.takes(row)]
            else:
                self.shown.extend(row for row in new if self.filter.takes(row))
            self._measure(new)
            if self.following:
                self.top = self._last_top()
                self.refresh()
        self._say()

    def _new_rows(self, rows: Sequence[TraceRow]) -> Sequence[TraceRow]:
        """Rows with a larger id than the newest kept one (ids grow)."""
        if not self.kept:
            return rows
        first = bisect_left(rows, self.kept[-1].id + 1, key=lambda row: row.id)
        return rows[first:]

    def _forget(self) -> None:
        """Start over: the scenario was restarted."""
        self.kept, self.shown, self.cursor_id, self.open_id, self.following, self.top = [], [], None, None, True, 0
        self._strips.clear()
        self.refresh()

    def _measure(self, new: Sequence[TraceRow]) -> None:
        """Widen columns for longer words and step the bar's scale; columns never shrink, so nothing jitters."""
        request = max(self._request_width, max(len(request_text(row)) for row in new))
        time = max(self._time_width, len(text.instant(new[-1].t_ns)))
        recent = [row.latency_ns for row in self.kept[-400:]]
        full = scale_ns(recent)
        # Upwards at once; downwards only when the bars have become really short.
        full = full if full > self._full_ns or 4 * full < self._full_ns or len(recent) < 40 else self._full_ns
        if (request, time, full) != (self._request_width, self._time_width, self._full_ns):
            self._request_width, self._time_width, self._full_ns = request, time, full
            self._strips.clear()
            self.refresh()

    def _refilter(self) -> None:
        """Apply the filter to all kept rows and keep the cursor's row in view."""
        self.shown = [row for row in self.kept if self.filter.takes(row)]
        if self.following or self.cursor_id is None:
            self.top = self._last_top()
        else:
            self.top = max(0, min(self._cursor_index() - self._height // 2, self._last_top()))
        self._say()
        self.refresh()

    def _say(self) -> None:
        """Put state and filter into the title."""
        newer = self._seen - self._seen_at_stop
        state = "following" if self.following else f"stopped, {newer:,} newer" if newer else "stopped"
        words = self.filter.words_for_title()
        state = f"{state} · only {words}" if words else state
        if self._snapshot is not None and self._snapshot.counting:
            state += " · requests are counted: no new rows"
        elif self._snapshot is not None and self._snapshot.followed:
            words = f"not counted: {self._snapshot.followed}"
            state = words if state == "following" else f"{state} · {words}"
        self.subtitle = state
        self.note = "sampled"

    # --- drawing ------------------------------------------------------------------------------------------------

    @property
    def layout_columns(self) -> TraceLayout:
        return TraceLayout.of(self.size.width, self._request_width, self._time_width)

    @property
    def _heads(self) -> int:
        return 1 if self.layout_columns.split else 0

    @property
    def _height(self) -> int:
        """Rows for requests."""
        return max(1, self.size.height - self._heads - self.has_class("-typing"))

    def _last_top(self) -> int:
        return max(0, len(self.shown) - self._height)

    def build(self, width: int, height: int) -> Sequence[Row]:
        """Unused: rows are drawn one by one, only those in sight."""
        return ()

    def render_line(self, y: int) -> Strip:
        """Draw the head or one request."""
        layout, width = self.layout_columns, self.size.width
        if self._heads and y == 0:
            return head_row(layout, self.glyphs).strip(self.look, width)
        index = self.top + y - self._heads
        if not self.shown and y == self._heads:
            return Row().put(1, self._empty_words(), "faint").strip(self.look, width)
        if not 0 <= index < len(self.shown):
            return Row().strip(self.look, width)
        row = self.shown[index]
        chosen = "cursor" if row.id == self.cursor_id else "open" if row.id == self.open_id else ""
        cache_key = (row.id, layout, self._full_ns, chosen, self.look.name, self.glyphs.ready)
        strip = self._strips.get(cache_key)
        if strip is None:
            if len(self._strips) > 600:
                self._strips.clear()
            strip = draw(row, layout, self.glyphs, self._full_ns, chosen).strip(self.look, width)
            self._strips[cache_key] = strip
        return strip

    def _empty_words(self) -> str:
        """What an empty trace says, with the key that fills it."""
        if self.kept and not self.filter.empty:
            return f"none of {len(self.kept):,} sampled requests · esc shows all"
        if self._snapshot is not None and self._snapshot.counting:
            return "requests are only counted now (traffic.mode: auto)"
        if self._snapshot is not None and self._snapshot.paused:
            return "no request has finished yet · space lets the clock run"
        return "no request has finished yet"

    # --- moving -------------------------------------------------------------------------------------------------

    def _cursor_index(self) -> int:
        """Where the cursor's row stands among the shown; the last row without a cursor."""
        if self.cursor_id is None:
            return len(self.shown) - 1
        return min(bisect_left(self.shown, self.cursor_id, key=lambda row: row.id), len(self.shown) - 1)

    def _stop(self) -> None:
        if self.following:
            self.following = False
            self._seen_at_stop = self._seen

    def _move_cursor(self, index: int) -> None:
        if not self.shown:
            return
        self._stop()
        index = max(0, min(index, len(self.shown) - 1))
        self.cursor_id = self.shown[index].id
        self.top = min(max(self.top, index - self._height + 1), index)
        self._say()
        self.refresh()

    def action_scroll_lines(self, count: int) -> None:
        if self.cursor_id is None and count > 0 and self.following:
            return
        self._move_cursor(self._cursor_index() + (count if self.cursor_id is not None else 0))

    def action_scroll_page(self, direction: int) -> None:
        self._move_cursor(self._cursor_index() + direction * max(1, self._height - 1))

    def action_scroll_edge(self, direction: int) -> None:
        if direction < 0:
            self._move_cursor(0)
            return
        self.following, self.cursor_id = True, None
        self.top = self._last_top()
        self._say()
        self.refresh()

    def _wheel(self, count: int) -> None:
        if count < 0 and self._last_top() > 0:
            self._stop()
        self.top = max(0, min(self.top + count, self._last_top()))
        if count > 0 and self.top == self._last_top() and self.cursor_id is None:
            self.following = True
        self._say()
        self.refresh()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._wheel(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._wheel(3)

    def on_click(self, event: events.Click) -> None:
        """Select the row; a second click on it opens it."""
        index = self.top + event.y - self._heads
        if event.y < self._heads or not 0 <= index < len(self.shown):
            return
        if self.shown[index].id == self.cursor_id:
            self.action_open()
        else:
            self._move_cursor(index)

    def on_resize(self) -> None:
        self.top = self._last_top() if self.following else min(self.top, self._last_top())
        self._strips.clear()
        self.refresh()

    # --- actions ------------------------------------------------------------------------------------------------

    def action_open(self) -> None:
        """Open the request under the cursor, or the newest."""
        if self.shown:
            row = self.shown[self._cursor_index()]
            self._move_cursor(self._cursor_index())
            self.post_message(RequestOpened(row.id))

    def action_outcome(self) -> None:
        """Go to the next of all, errors, retried, and calls between pods where there are any."""
        outcomes = OUTCOMES if any(row.label for row in self.kept) else OUTCOMES[: OUTCOMES.index("calls")]
        following = outcomes[(OUTCOMES.index(self.filter.outcome) + 1) % len(outcomes)]
        self.filter = TraceFilter(following, self.filter.key, self.filter.pods, self.filter.words)
        self._refilter()

    def action_filter(self) -> None:
        """Type a filter in the pane's last line."""
        self._typed_before = self.filter
        self.add_class("-typing")
        box = self.query_one("#trace-filter", Input)
        box.value = " ".join(self.filter.words)
        box.focus()

    def action_undo(self) -> None:
        """Undo one step: typing, the cursor, the filter."""
        if self.has_class("-typing"):
            self.filter = self._typed_before
            self._end_typing()
        elif not self.following:
            self.action_scroll_edge(1)
        else:
            self.filter = TraceFilter("", self.filter.key, self.filter.pods)
            self._refilter()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc is the shell's (request, selection) once nothing of the pane's own is left to undo."""
        own = self.has_class("-typing") or not self.following or bool(self.filter.outcome or self.filter.words)
        return action != "undo" or own

    def _end_typing(self) -> None:
        self.remove_class("-typing")
        self.focus()
        self._refilter()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.has_class("-typing"):
            self.filter = TraceFilter.parse(event.value, self.filter)
            self._refilter()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        self._end_typing()

    def row_of(self, trace_id: int) -> TraceRow | None:
        """The kept row with this id."""
        index = bisect_left(self.kept, trace_id, key=lambda row: row.id)
        return self.kept[index] if index < len(self.kept) and self.kept[index].id == trace_id else None

    def neighbour(self, trace_id: int, direction: int) -> TraceRow | None:
        """The next (1) or previous (-1) kept request of the same way."""
        index = bisect_left(self.kept, trace_id, key=lambda row: row.id)
        here = self.row_of(trace_id)
        rows = self.kept[index + 1 :] if direction > 0 else self.kept[index - 1 :: -1] if index else []
        return next((row for row in rows if here is None or way_of(row) == way_of(here)), None)

    # --- what happened elsewhere --------------------------------------------------------------------------------

    def on_object_selected(self, message: ObjectSelected) -> None:
        self.filter = self.filter.with_key(message.key, self._snapshot)
        self._refilter()

    def on_request_loaded(self, message: RequestLoaded) -> None:
        self.open_id = message.trace_id
        self.refresh()

    def on_request_closed(self, message: RequestClosed) -> None:
        self.open_id = None
        self.refresh()
