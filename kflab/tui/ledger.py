"""The ledger: every tier a band, a chooser and its candidates, all rows on one time axis."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.lab.handle import LabHandle
from kflab.lab.snapshot import BIN_NS, Knowledge, Mark, Series, Snapshot, TraceRow
from kflab.manifest.objects import Key
from kflab.tui.cells import CellLine
from kflab.tui.glyphs import UNICODE, Glyphs
from kflab.tui.ledger_grid import Grid, grid_for
from kflab.tui.ledger_paint import Figures, Paint, paint_axis, paint_row
from kflab.tui.ledger_rows import (
    Folding,
    LedgerRow,
    RowKind,
    Wanted,
    choose_folding,
    make_rows,
    outside,
)
from kflab.tui.lens import LensControl
from kflab.tui.messages import InstantSelected, ObjectSelected, RequestClosed, RequestLoaded
from kflab.tui.pane import Pane
from kflab.tui.sparks import Scales, peak
from kflab.tui.tokens import Look, look

FIGURE_S = 0.25
"""Figures change at most four times a second (wall time)."""

FLASH_S = 1.0
"""A state word that changed is bold for so long (wall time)."""

OUTSIDE_LOOKS = 4
"""A share is said to be outside its 99 % band after so many figure updates in a row: one look alone is chance."""

CAPTURES = 8
"""How many past changes can be drawn again after their bins have left the snapshot."""

_PATH_KINDS = frozenset({RowKind.HEAD, RowKind.CANDIDATE, RowKind.GROUP, RowKind.FOLD, RowKind.ROUTE})


class Capture:
    """What a past change looked like, kept when its bins leave the snapshot's series."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.knowledge: Knowledge | None = None
        self.series: dict[str, tuple[Series, int]] = {}


class Slice(Widget):
    """A run of the ledger's columns.

    Textual repaints a changed region from the left edge of its widget on, so the columns that change every 0.1 s are
    widgets of their own: over SSH this is most of the difference.
    """

    DEFAULT_CSS = "Slice { width: 1; height: 1fr; }"

    def __init__(self, ledger: "LedgerView") -> None:
        super().__init__()
        self.ledger = ledger
        self.start = 0
        self.end = 0

    def place(self, start: int, end: int) -> None:
        """Take the columns `start` … `end` - 1."""
        self.start, self.end = start, end
        self.display = end > start
        self.styles.width = max(1, end - start)

    def render_line(self, y: int) -> Strip:
        return self.ledger.render_line(y).crop(self.start, self.end)


class LedgerView(Pane):
    """Topology as a ledger."""

    title = "Topology"
    subtitle = "ledger"

    DEFAULT_CSS = "LedgerView { width: 1fr; height: 1fr; layout: horizontal; overflow: hidden; }"

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

    def __init__(
        self,
        lab: LabHandle,
        *,
        clock: Callable[[], float] = time.monotonic,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(lab, id=id)
        self.snapshot: Snapshot | None = None
        self.rows: list[LedgerRow] = []
        self.selected = ""
        self.selected_key: Key | None = None
        self.filter_text = ""
        self.matches = 0
        self.top = 0
        self.trace: RequestTrace | None = None
        self.control = LensControl()
        self.scales = Scales()
        self.by_hand: dict[str, bool] = {}
        self.listed: set[str] = set()
        self._clock = clock
        self._figures = Figures()
        self._figures_at = -1.0
        self._looks: dict[tuple[str, Key], int] = {}
        self._states: dict[Key, str] = {}
        self._flashes: dict[Key, float] = {}
        self._captures: dict[int, Capture] = {}
        self._folding: tuple[object, Folding] | None = None
        self._wanted_rows = 0
        self._counted: tuple[object, ...] | None = None
        self.slices = tuple(Slice(self) for _ in range(4))
        self._cells: list[CellLine] = []
        self._lines: list[Strip] = []
        self._drawn_with: Look | None = None
        self._paint: Paint | None = None
        self._started = False
        self._chosen = False
        """Whether somebody selected; the cursor of the start gives way to the first change."""
        self._unfolded = ""

    def compose(self) -> ComposeResult:
        yield from self.slices

    # --- what the screen asks -------------------------------------------------------------------------------------

    @property
    def glyphs(self) -> Glyphs:
        return getattr(self.app, "glyphs", UNICODE)

    @property
    def look(self) -> Look:
        return look(self.app)

    @property
    def grid(self) -> Grid:
        return grid_for(max(1, self.size.width))

    def wanted_rows(self) -> int:
        """Rows this pane would like, its axis included. Grows, and never shrinks until the terminal is resized."""
        snapshot = self.lab.snapshot()
        counts = (tuple(len(band.candidates) for band in snapshot.bands), len(snapshot.knowledge.knowers))
        if counts != self._counted:
            self._counted = counts
            self._wanted_rows = max(self._wanted_rows, len(make_rows(snapshot, Wanted(), Folding())) + 1)
        return self._wanted_rows

    def forget_height(self) -> None:
        """The terminal was resized: the wish may shrink again."""
        self._wanted_rows = 0
        self._counted = None

    def restart(self) -> None:
        """A new life of the lab: forget marks, scales, captures."""
        self.control.restart()
        self.scales.restart()
        self._captures.clear()
        self._looks.clear()
        self._states.clear()
        self._flashes.clear()
        self._figures_at = -1.0

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

    # --- frames ---------------------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot."""
        now = self._clock()
        self._note_states(snapshot, now)
        self.snapshot = snapshot
        if self._figures_at < 0 or now - self._figures_at >= FIGURE_S or snapshot.paused:
            self._take_figures(snapshot, first=self._figures_at < 0)
            self._figures_at = now
        self._draw()

    def calm(self) -> None:
        """Nothing new from the lab: let flashes end and the last figures through."""
        if self.snapshot is None:
            return
        now = self._clock()
        due = any(until <= now for until in self._flashes.values())
        late = self._figures_at >= 0 and now - self._figures_at >= FIGURE_S and self._figures_of is not self.snapshot
        if due or late:
            self.show(self.snapshot)

    _figures_of: Snapshot | None = None

    def _take_figures(self, snapshot: Snapshot, first: bool) -> None:
        self._figures_of = snapshot
        outsides: dict[tuple[str, Key], int] = {}
        for band in snapshot.bands:
            for row in band.candidates:
                side = outside(row)
                spot = (band.id, row.key)
                looks = self._looks.get(spot, 0)
                if side == 0:
                    looks = 0
                elif first or (looks and (looks > 0) != (side > 0)):
                    looks = side * (OUTSIDE_LOOKS if first else 1)
                else:
                    looks += side
                self._looks[spot] = looks
                if abs(looks) >= OUTSIDE_LOOKS:
                    outsides[spot] = side
        self._figures = Figures(
            {band.id: band.rate_rps for band in snapshot.bands},
            {(band.id, row.key): row.share for band in snapshot.bands for row in band.candidates},
            outsides,
            snapshot.failures.rate_rps,
        )

    def _note_states(self, snapshot: Snapshot, now: float) -> None:
        """Remember which state words changed, to make them bold for a second."""
        states = {row.key: row.state for band in snapshot.bands for row in band.candidates}
        if self._states:
            for key, state in states.items():
                if self._states.get(key, state) != state:
                    self._flashes[key] = now + FLASH_S
        self._states = states
        for key in [key for key, until in self._flashes.items() if until <= now]:
            del self._flashes[key]

    def _wanted(self, snapshot: Snapshot) -> Wanted:
        keep = {self.selected_key} if self.selected_key is not None else set()
        if self.trace is not None:
            keep |= {key for hop in self.trace.hops for key in hop.touches}
        return Wanted(
            self._choose_unfolded(snapshot),
            self.by_hand,
            frozenset(self.listed),
            self.filter_text,
            frozenset(keep),
            connectors=self.app.size.height >= 30,
        )

    def _choose_unfolded(self, snapshot: Snapshot) -> str:
        """The selected Service unfolds; if none is, the one with the last change; else what was."""
        services = [band for band in snapshot.bands if band.kind == "service"]
        touched = {key for hop in self.trace.hops for key in hop.touches} if self.trace is not None else set()
        order = (self.selected_key, snapshot.knowledge.subject)
        for wanted in order if self._chosen else reversed(order):
            if wanted is None:
                continue
            for band in services:
                if band.key == wanted or any(row.key == wanted for row in band.candidates):
                    self._unfolded = band.id
                    return band.id
        for band in services:
            if any(row.key in touched for row in band.candidates):
                return band.id
        return self._unfolded if any(band.id == self._unfolded for band in services) else ""

    def _fold(self, snapshot: Snapshot, wanted: Wanted, height: int) -> Folding:
        """The folding for this structure: decided by counts, not by states, so that it does not flicker."""
        structure = (
            height,
            wanted.unfolded,
            tuple(wanted.by_hand.items()),
            wanted.listed,
            wanted.filter_text,
            wanted.connectors,
            tuple((band.id, len(band.candidates)) for band in snapshot.bands),
            len(snapshot.knowledge.knowers),
        )
        if self._folding is None or self._folding[0] != structure:
            self._folding = (structure, choose_folding(snapshot, wanted, height))
        return self._folding[1]

    def _draw(self) -> None:
        """Make the rows and lines of this frame; repaint the lines that differ."""
        snapshot = self.snapshot
        width, height = self.size
        if snapshot is None or width < 2 or height < 2:
            return
        grid = self.grid
        self._first_selection(snapshot)
        wanted = self._wanted(snapshot)
        folding = self._fold(snapshot, wanted, height - 1)
        self.rows = make_rows(snapshot, wanted, folding)
        self.matches = sum(row.kind is RowKind.CANDIDATE for row in self.rows) if self.filter_text else 0
        self._keep_selection()
        self.top = max(0, min(self.top, len(self.rows) - (height - 1)))
        paint = self._make_paint(snapshot, grid)
        self._paint = paint
        visible = self.rows[self.top : self.top + height - 1]
        spines = self._spines(paint.hops)
        cells = [paint_axis(paint, (self.top, len(self.rows) - self.top - len(visible)))]
        for i, row in enumerate(visible):
            line = paint_row(row, spines[self.top + i], paint)
            if row.id == self.selected and self.look.reverse_selection:
                line.reverse = (2, grid.name_end)
            cells.append(line)
        cells.extend(CellLine(width) for _ in range(height - len(cells)))
        self._repaint(cells)

    def _repaint(self, cells: list[CellLine]) -> None:
        """Take the lines of a frame; repaint only what differs, in the columns concerned."""
        old, self._cells = self._cells, cells
        style = self.look
        if len(old) != len(cells) or not old or old[0].width != cells[0].width or self._drawn_with is not style:
            self._drawn_with = style
            self._lines = [line.strip(style) for line in cells]
            for part_of in self.slices:
                part_of.refresh()
            return
        for y, (before, after) in enumerate(zip(old, cells, strict=True)):
            fresh = False
            for part_of in self.slices:
                changed = after.changes(before, part_of.start, part_of.end)
                if changed is not None:
                    fresh = True
                    part_of.refresh(Region(changed[0] - part_of.start, y, changed[1] - changed[0], 1))
            if fresh:
                self._lines[y] = after.strip(style)

    def _make_paint(self, snapshot: Snapshot, grid: Grid) -> Paint:
        self.control.over_ssh = bool(getattr(self.app, "over_ssh", False))
        lens = self.control.follow(snapshot, max(1, grid.lens_cells), grid.before)
        self._capture(snapshot)
        caught = self.control.caught_ns
        change = next((mark for mark in snapshot.marks if mark.t_ns == caught and mark.kind != "moved"), None)
        knowledge = snapshot.knowledge
        captured: Mapping[str, tuple[Series, int]] = {}
        if caught is not None and caught in self._captures:
            kept = self._captures[caught]
            change = change or kept.mark
            captured = kept.series
            if kept.knowledge is not None and knowledge.t_ns != caught:
                knowledge = kept.knowledge
        if knowledge is not snapshot.knowledge:
            snapshot = replace(snapshot, knowledge=knowledge)
        hops = self.lit_rows()
        return Paint(
            snapshot,
            grid,
            lens,
            self.glyphs,
            self._figures,
            self._scale_all(snapshot),
            self.look.plain,
            self.selected,
            frozenset(self._flashes),
            hops,
            self.trace.t_start_ns if self.trace is not None else None,
            captured,
            change,
            knowledge.moved_ns,
            knowledge.t_ns,
        )

    def _scale_all(self, snapshot: Snapshot) -> dict[str, float]:
        """Candidates of a band share one scale; heads have theirs; folded Services share one."""
        scales: dict[str, float] = {}
        t_ns = snapshot.t_ns
        for band in snapshot.bands:
            if band.series is not None:
                scales[band.id] = self.scales.of(band.id, peak([band.series]), t_ns)
            own = [row.series for row in band.candidates if row.series is not None]
            if own:
                scales[band.id + "|"] = self.scales.of(band.id + "|", peak(own), t_ns)
        services = [band.series for band in snapshot.bands if band.kind == "service" and band.series is not None]
        if services:
            scales["folded"] = self.scales.of("folded", peak(services), t_ns)
        failed = snapshot.failures.series
        scales["failed"] = self.scales.of("failed", float(failed.bad.max()) if len(failed.bad) else 0.0, t_ns)
        return scales

    def _capture(self, snapshot: Snapshot) -> None:
        """Keep what recent changes look like before their bins leave the snapshot."""
        for mark in snapshot.marks:
            if mark.kind == "moved":
                continue
            age = (snapshot.t_ns - mark.t_ns) // BIN_NS
            kept = self._captures.get(mark.t_ns)
            if kept is None:
                kept = self._captures[mark.t_ns] = Capture(mark)
                while len(self._captures) > CAPTURES:
                    del self._captures[min(self._captures)]
            if snapshot.knowledge.t_ns == mark.t_ns:
                kept.knowledge = snapshot.knowledge
            if kept.series or age < 60 or mark.t_ns // BIN_NS - 8 < snapshot.first_bin:
                continue
            low = mark.t_ns // BIN_NS - 8 - snapshot.first_bin
            for band in snapshot.bands:
                if band.series is not None:
                    kept.series[band.id] = (part(band.series, low), mark.t_ns // BIN_NS - 8)
                for row in band.candidates:
                    if row.series is not None:
                        spot = f"{band.id}|{row.key}|{row.key.namespace}"
                        kept.series[spot] = (part(row.series, low), mark.t_ns // BIN_NS - 8)
            kept.series["failed"] = (part(snapshot.failures.series, low), mark.t_ns // BIN_NS - 8)

    def _spines(self, hops: Mapping[str, int]) -> list[str]:
        """The spine glyph of every row; lit ones end with "!"."""
        glyphs = self.glyphs
        taps = [i for i, row in enumerate(self.rows) if row.tap]
        if not taps:
            return [""] * len(self.rows)
        lit = [i for i, row in enumerate(self.rows) if row.id in hops]
        lit_end = lit[-1] if lit and self.trace is not None else -1
        spines = []
        for i, row in enumerate(self.rows):
            heavy = i <= lit_end
            if i == taps[0]:
                glyph = glyphs.lit_first if heavy else glyphs.spine_first
            elif i == lit_end:
                glyph = glyphs.lit_last
            elif i > taps[-1]:
                glyph = ""
            elif heavy:
                glyph = glyphs.lit_tap if row.id in hops else glyphs.lit
            elif i == taps[-1]:
                glyph = glyphs.spine_last
            else:
                glyph = glyphs.spine_tap if row.tap else glyphs.spine
            spines.append(f"{glyph}!" if heavy and glyph else glyph)
        return spines

    def lit_rows(self) -> dict[str, int]:
        """Row id → number of the first hop of the open request that belongs there."""
        lit: dict[str, int] = {}
        if self.trace is None:
            return lit
        for hop in self.trace.hops:
            if not hop.number:
                continue
            row = self._row_of_hop(hop)
            if row is not None:
                lit.setdefault(row.id, hop.number)
        return lit

    def _row_of_hop(self, hop: Hop) -> LedgerRow | None:
        """The row furthest along the path among those that the hop touched."""
        where = f"{hop.where} {hop.mover}".lower()
        path = [row for row in self.rows if row.kind in _PATH_KINDS]
        if hop.where.lower().startswith("client"):
            kinds: tuple[str, ...] = ("dns", "client")
            for kind in kinds:
                for row in path:
                    if row.band is not None and row.band.kind == kind:
                        return row
            return None
        only_lb = "load balancer" in where
        touched = set(hop.touches)
        found, best = None, 0
        for row in path:
            if only_lb and (row.band is None or row.band.kind != "lb"):
                continue
            if not row_keys(row) & touched:
                continue
            # A pod may stand under several Services: its row under the one this hop went to is meant.
            under = row.kind in (RowKind.CANDIDATE, RowKind.GROUP, RowKind.FOLD)
            score = 2 if under and row.band is not None and row.band.key in touched else 1
            if score >= best:
                found, best = row, score
        return found

    def render_line(self, y: int) -> Strip:
        """Draw one line of the frame."""
        if y < len(self._lines) and self._lines[y].cell_length == self.size.width:
            return self._lines[y]
        return CellLine(max(1, self.size.width)).strip(self.look)

    def on_resize(self) -> None:
        """Put the slices where the columns of this width are."""
        grid = self.grid
        figures = grid.bar if grid.bar is not None else max(0, grid.figure - 8)
        behind = grid.context or grid.lens or grid.width
        edges = (0, figures, behind, grid.lens if grid.lens is not None else grid.width, grid.width)
        for i, one in enumerate(self.slices):
            one.place(edges[i], edges[i + 1])
        self._cells = []
        self._draw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_attached and self.snapshot is not None and self._drawn_with is not self.look:
            self._draw()

    # --- selection ------------------------------------------------------------------------------------------------

    def _keep_selection(self) -> None:
        """Find the selected row again; where it is gone, the nearest one takes over."""
        if not self.selected or any(row.id == self.selected for row in self.rows):
            return
        match = next((row for row in self.rows if row.selectable and self.selected_key in row_keys(row)), None)
        self.selected = match.id if match is not None else ""

    def _first_selection(self, snapshot: Snapshot) -> None:
        """The cursor stands on a pod from the start, so that `k` has something to kill; nobody is told."""
        if self._started:
            return
        subject = snapshot.knowledge.subject
        bands = [band for band in snapshot.bands if band.kind == "service" and band.candidates]
        bands.sort(key=lambda band: not any(row.key == subject for row in band.candidates))
        for band in bands[:1]:
            self._started = True
            pod = band.candidates[min(1, len(band.candidates) - 1)]
            if self.selected_key is None:
                self.selected, self.selected_key = f"{band.id}|{pod.key}|{pod.key.namespace}", pod.key

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
            kept = [t_ns for t_ns, capture in self._captures.items() if capture.series]
            self.control.step(self.snapshot, direction, kept)
            self._draw()

    def set_filter(self, text: str) -> None:
        """Show only rows that hold this text; "" shows all."""
        self.filter_text = text
        self.top = 0
        self._draw()


def row_keys(row: LedgerRow) -> set[Key]:
    """Objects a row stands for."""
    keys = {row.key} if row.key is not None else set()
    if row.kind in (RowKind.GROUP, RowKind.MORE) or (row.kind is RowKind.FOLD and not row.unfolded):
        keys |= {member.key for member in row.members}
    return keys


def part(series: Series, low: int) -> Series:
    """The bins from `low` on that a caught lens can show."""
    return Series(series.ok[low : low + 70], series.bad[low : low + 70])
