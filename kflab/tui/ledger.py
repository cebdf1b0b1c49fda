"""The ledger: every tier a band, a chooser and its candidates, all rows on one time axis."""

from textual import events
from textual.binding import Binding

from kflab.lab.snapshot import BIN_NS, TraceRow
from kflab.manifest.objects import Key
from kflab.tui.ledger_canvas import LedgerCanvas
from kflab.tui.ledger_path import row_keys
from kflab.tui.ledger_rows import LedgerRow, RowKind
from kflab.tui.messages import InstantSelected, ObjectSelected, RequestClosed, RequestLoaded


class LedgerView(LedgerCanvas):
    """Topology as a ledger: selection by arrows and mouse, folding, lens and filter."""

    BINDINGS = [
        Binding("up", "move(-1)", "row up", id="ledger.up", show=False, tooltip="Select the row above"),
        Binding("down", "move(1)", "row down", id="ledger.down", show=False, tooltip="Select the row below"),
        Binding("left", "band(-1)", "band up", id="ledger.left", show=False, tooltip="Band above; hop before"),
        Binding("right", "band(1)", "band down", id="ledger.right", show=False, tooltip="Band below; hop after"),
        Binding("home", "edge(-1)", "first row", id="ledger.home", show=False, tooltip="Select the first row"),
        Binding("end", "edge(1)", "last row", id="ledger.end", show=False, tooltip="Select the last row"),
        Binding("pageup", "move(-10)", "ten up", id="ledger.pageup", show=False, tooltip="Ten rows up"),
        Binding("pagedown", "move(10)", "ten down", id="ledger.pagedown", show=False, tooltip="Ten rows down"),
        Binding("enter", "open", "open", id="ledger.open", show=False, tooltip="Open the row's newest traced request"),
    ]

    def row_touches(self, row: TraceRow, key: Key | None) -> bool:
        """Whether a traced request touched the object of a ledger row."""
        if key is None:
            return True
        if key.kind == "Service":
            mine = self.snapshot is not None and any(
                band.key == key and band.kind != "service" for band in self.snapshot.bands
            )
            return row.service == key or mine
        if key.kind == "Pod":
            return row.ingress == key.name or any(one.pod == key.name for one in row.tries)
        return True

    # --- selection ------------------------------------------------------------------------------------------------

    def selected_place(self) -> tuple[int, int]:
        """Column and row on the screen where the selected name stands; the pane's first row without one."""
        index = next((i for i, row in enumerate(self.rows) if row.id == self.selected), self.top)
        inside = max(0, min(self.size.height - 2, index - self.top))
        return self.region.x + self.grid.GLYPH, self.region.y + 1 + inside

    @property
    def selected_row(self) -> LedgerRow | None:
        return next((row for row in self.rows if row.id == self.selected), None)

    def select(self, row: LedgerRow) -> None:
        """Select a row and tell the other panes."""
        self.selected, self._chosen = row.id, True
        if row.key != self.selected_key:
            self.selected_key = row.key
            if row.key is not None:
                self.post_message(ObjectSelected(row.key))
        self._draw()
        self._into_view()

    def _into_view(self) -> None:
        index = next((i for i, row in enumerate(self.rows) if row.id == self.selected), None)
        if index is None:
            return
        room = self.size.height - 1
        top = min(max(self.top, index - room + 1), index)
        if index <= 1:
            top = 0
        if top != self.top:
            self.top = top
            self._draw()

    def _choices(self) -> list[LedgerRow]:
        return [row for row in self.rows if row.selectable]

    def action_move(self, count: int) -> None:
        """Select another row."""
        choices = self._choices()
        if not choices:
            return
        at = next((i for i, row in enumerate(choices) if row.id == self.selected), None)
        if at is None:
            target = 0 if count > 0 else len(choices) - 1
        else:
            target = max(0, min(len(choices) - 1, at + count))
        self.select(choices[target])

    def action_edge(self, direction: int) -> None:
        choices = self._choices()
        if choices:
            self.select(choices[0 if direction < 0 else -1])

    def action_band(self, direction: int) -> None:
        """The head of the band above or below; with an open request, its hops."""
        if self.trace is not None:
            self.app.call_later(self.screen.run_action, f"hop({direction})")
            return
        heads = [
            i
            for i, row in enumerate(self.rows)
            if row.selectable and row.kind in (RowKind.HEAD, RowKind.FOLD, RowKind.KNOWS)
        ]
        at = next((i for i, row in enumerate(self.rows) if row.id == self.selected), -1)
        if direction > 0:
            target = next((i for i in heads if i > at), None)
        else:
            target = next((i for i in reversed(heads) if i < at), None)
        if target is not None:
            self.select(self.rows[target])

    def action_open(self) -> None:
        """Open the newest traced request of the row; a folded row lists what it hides."""
        row = self.selected_row
        if row is None:
            self.action_move(1)
            return
        if row.kind is RowKind.MORE and row.band is not None:
            self.listed.add(row.band.id)
        elif row.kind is RowKind.GROUP and row.band is not None:
            self.by_hand[row.band.id] = False
        elif row.kind is RowKind.SERVICES and row.bands:
            self.by_hand.update({band.id: True for band in row.bands})
        else:
            t_ns = self.snapshot.t_ns if self.snapshot is not None else 0
            self.post_message(InstantSelected(row.key, t_ns))
            return
        self._draw()
        self._into_view()

    def fold(self, folded: bool) -> None:
        """`+` and `-`: fold or unfold the selected band by hand."""
        row = self.selected_row
        if row is None or row.band is None:
            return
        if folded:
            self.listed.discard(row.band.id)
        if row.band.kind in ("service", "lb", "ingress"):
            self.by_hand[row.band.id] = folded
        if folded and row.kind is RowKind.CANDIDATE:
            head = next((other for other in self.rows if other.band is row.band), row)
            self.selected, self.selected_key = head.id, head.key
        self._draw()
        self._into_view()

    def on_click(self, event: events.Click) -> None:
        """The mouse selects row and instant: a click in the lens opens the nearest traced request."""
        x, y = event.screen_x - self.region.x, event.screen_y - self.region.y
        index = self.top + y - 1
        if y < 1 or index >= len(self.rows) or self._paint is None:
            return
        row = self.rows[index]
        grid = self.grid
        if row.selectable:
            self.select(row)
        if grid.lens is not None and x >= grid.lens:
            at = self._paint.lens.bin_at(min(x - grid.lens, grid.lens_cells - 1))
            if at is not None and at < self._paint.lens.now:
                self.post_message(InstantSelected(row.key, at * BIN_NS + BIN_NS // 2))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._scroll(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._scroll(-3)

    def _scroll(self, count: int) -> None:
        top = max(0, min(self.top + count, len(self.rows) - (self.size.height - 1)))
        if top != self.top:
            self.top = top
            self._draw()

    # --- messages of others ---------------------------------------------------------------------------------------

    def on_object_selected(self, message: ObjectSelected) -> None:
        """Another pane selected an object: its row here."""
        if message.relayed and message.key != self.selected_key:
            self.selected_key, self._chosen = message.key, message.key is not None
            if message.key is None:
                self.selected = ""
            else:
                self._draw()
                row = next((row for row in self.rows if row.selectable and message.key in row_keys(row)), None)
                if row is not None:
                    self.selected = row.id
                    self._into_view()
            self._draw()

    def on_request_loaded(self, message: RequestLoaded) -> None:
        if message.relayed:
            self.trace = message.trace
            self._draw()

    def on_request_closed(self, message: RequestClosed) -> None:
        if message.relayed:
            self.trace = None
            self._draw()

    # --- lens and filter ------------------------------------------------------------------------------------------

    def toggle_lens(self) -> None:
        if self.snapshot is not None:
            self.control.toggle(self.snapshot)
            self._draw()

    def step_change(self, direction: int) -> None:
        if self.snapshot is not None:
            self.control.step(self.snapshot, direction, self._captures.drawable())
            self._draw()

    def set_filter(self, text: str) -> None:
        """Show only rows that hold this text; "" shows all."""
        self.filter_text = text
        self.top = 0
        self._draw()
