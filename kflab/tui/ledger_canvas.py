"""How the ledger is drawn: rows, lines, and only what changed painted."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from textual.app import ComposeResult
from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.strip import Strip
from textual.widget import Widget

from kflab.dataplane.packets import RequestTrace
from kflab.lab.handle import LabHandle
from kflab.lab.snapshot import Series, Snapshot
from kflab.manifest.objects import Key
from kflab.tui.cells import CellLine
from kflab.tui.glyphs import UNICODE, Glyphs
from kflab.tui.ledger_axis import paint_axis
from kflab.tui.ledger_context import Paint
from kflab.tui.ledger_grid import Grid, grid_for
from kflab.tui.ledger_memory import Captures, FigureKeeper, Flashes, completed
from kflab.tui.ledger_paint import paint_row
from kflab.tui.ledger_path import lit_rows, row_keys, spines
from kflab.tui.ledger_rows import (
    Folding,
    LedgerRow,
    RowKind,
    Wanted,
    choose_folding,
    count_rows,
    make_rows,
)
from kflab.tui.lens import CONSEQUENCES, Lens, LensControl
from kflab.tui.pane import Pane
from kflab.tui.sparks import Scales, peak
from kflab.tui.tokens import Look, look

MOST_WANTED = 1000
"""Rows that a pane asks for at most: no terminal is higher."""


class Slice(Widget):
    """A run of the ledger's columns.

    Textual repaints a changed region from the left edge of its widget on, so the columns that change every 0.1 s are
    widgets of their own: over SSH this is most of the difference.
    """

    def __init__(self, ledger: "LedgerCanvas") -> None:
        super().__init__()
        self.ledger = ledger
        self.start = 0
        self.end = 0

    def render_line(self, y: int) -> Strip:
        return self.ledger.render_line(y).crop(self.start, self.end)


class SliceLayout(Layout):
    """Places slices where the columns of the ledger's width are; one without columns is not shown."""

    name = "slices"

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        slices = [child for child in children if isinstance(child, Slice)]
        edges = grid_for(max(1, size.width)).edges
        for one, start, end in zip(slices, edges, edges[1:], strict=False):
            one.start, one.end = start, end
        return [
            WidgetPlacement(Region(one.start, 0, one.end - one.start, size.height), NULL_OFFSET, NULL_SPACING, one)
            for one in slices
            if one.end > one.start
        ]


class LedgerCanvas(Pane):
    """The ledger as it is drawn; `LedgerView` adds what one does with it."""

    title = "Topology"
    subtitle = "ledger"

    DEFAULT_CSS = "LedgerCanvas { width: 1fr; height: 1fr; overflow: hidden; }"

    def __init__(self, lab: LabHandle, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.lab = lab
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
        self._figures = FigureKeeper()
        self._flashes = Flashes()
        self._captures = Captures()
        self._folding: tuple[object, Folding] | None = None
        self._wanted_rows = 0
        self._counted: tuple[object, ...] | None = None
        self.slices = tuple(Slice(self) for _ in range(4))
        self._slice_layout = SliceLayout()
        self._cells: list[CellLine] = []
        self._lines: list[Strip] = []
        self._drawn_with: Look | None = None
        self._paint: Paint | None = None
        self._started = False
        self._chosen = False
        """Whether somebody selected; the cursor of the start gives way to the first change."""
        self._unfolded = ""

    @property
    def layout(self) -> Layout:
        """Always that of the slices."""
        return self._slice_layout

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
            rows = count_rows(snapshot, Wanted(), Folding(), MOST_WANTED)
            self._wanted_rows = max(self._wanted_rows, rows + 1)
        return self._wanted_rows

    def forget_height(self) -> None:
        """The terminal was resized: the wish may shrink again."""
        self._wanted_rows = 0
        self._counted = None

    def restart(self) -> None:
        """A new life of the lab: forget marks, scales, captures."""
        self.control.restart()
        self.scales.restart()
        self._captures.restart()
        self._flashes.restart()
        self._figures.restart()

    # --- frames ---------------------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot."""
        now = self._clock()
        self._flashes.look(snapshot, now)
        self._figures.take(snapshot)
        self.snapshot = snapshot
        self._draw()

    def calm(self) -> None:
        """Nothing new from the lab: let flashes end and the last figures through."""
        if self.snapshot is None:
            return
        now = self._clock()
        if self._flashes.due(now):
            self.show(self.snapshot)

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
        # Services share pods: the one that the cursor stands in goes first, else it would fold under the cursor.
        row = next((row for row in self.rows if row.id == self.selected and row.band is not None), None)
        if row is not None:
            services.sort(key=lambda band: row.band is None or band.id != row.band.id)
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
        cells = self._frame()
        if cells:
            self._repaint(cells)

    def _frame(self) -> list[CellLine]:
        """The rows of this frame and their lines; none where there is nothing to show or no room."""
        snapshot = self.snapshot
        width, height = self.size
        if snapshot is None or width < 2 or height < 2:
            return []
        grid = self.grid
        self.control.over_ssh = bool(getattr(self.app, "over_ssh", False))
        lens = self.control.follow(snapshot, max(1, grid.lens_cells), grid.before)
        snapshot = self._as_held(snapshot)
        self.begin(snapshot)
        wanted = self._wanted(snapshot)
        folding = self._fold(snapshot, wanted, height - 1)
        before, self.rows = self.rows, make_rows(snapshot, wanted, folding)
        self.matches = sum(row.kind is RowKind.CANDIDATE for row in self.rows) if self.filter_text else 0
        self._keep_selection(before)
        self.top = max(0, min(self.top, len(self.rows) - (height - 1)))
        visible = self.rows[self.top : self.top + height - 1]
        paint = self._make_paint(snapshot, grid, lens, visible)
        self._paint = paint
        spine = spines(self.rows, paint.hops, self.glyphs)
        cells = [paint_axis(paint, (self.top, len(self.rows) - self.top - len(visible)))]
        for i, row in enumerate(visible):
            line = paint_row(row, spine[self.top + i], paint)
            if row.id == self.selected and self.look.reverse_selection:
                line.reverse = (2, grid.name_end)
            cells.append(line)
        cells.extend(CellLine(width) for _ in range(height - len(cells)))
        return cells

    def _repaint(self, cells: list[CellLine]) -> None:
        """Take the lines of a frame; repaint only what differs, in the columns concerned."""
        old, style = self._cells, self.look
        if len(old) != len(cells) or not old or old[0].width != cells[0].width or self._drawn_with is not style:
            self._take(cells)
            for part_of in self.slices:
                part_of.refresh()
            return
        self._cells = cells
        for y, (before, after) in enumerate(zip(old, cells, strict=True)):
            fresh = False
            for part_of in self.slices:
                changed = after.changes(before, part_of.start, part_of.end)
                if changed is not None:
                    fresh = True
                    part_of.refresh(Region(changed[0] - part_of.start, y, changed[1] - changed[0], 1))
            if fresh:
                self._lines[y] = after.strip(style)

    def _take(self, cells: list[CellLine]) -> None:
        """Take a whole frame."""
        self._cells, self._drawn_with = cells, self.look
        self._lines = [line.strip(self._drawn_with) for line in cells]

    def _as_held(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what is known of the change on which the lens is held, where that is not the newest."""
        self._captures.look(snapshot)
        caught, knowledge = self.control.caught_ns, snapshot.knowledge
        kept = self._captures.get(caught)
        # Of a rollout that the lens follows by itself the rows tell the newest change of a pod.
        held = self.control.pinned is not None or knowledge.began_ns is None
        if kept is None or kept.knowledge is None or knowledge.t_ns == caught or not held:
            return snapshot
        return replace(snapshot, knowledge=completed(kept.knowledge, snapshot))

    def _make_paint(self, snapshot: Snapshot, grid: Grid, lens: Lens, visible: Sequence[LedgerRow]) -> Paint:
        caught = self.control.caught_ns
        change = next((mark for mark in snapshot.marks if mark.t_ns == caught and mark.kind not in CONSEQUENCES), None)
        captured: Mapping[str, tuple[Series, int]] = {}
        kept = self._captures.get(caught)
        if kept is not None:
            change, captured = change or kept.mark, kept.series
        knowledge = snapshot.knowledge
        hops = self.lit_rows()
        return Paint(
            snapshot,
            grid,
            lens,
            self.glyphs,
            self._figures.figures,
            self._scale_all(snapshot, visible),
            self.look.plain,
            self.selected,
            self._flashes.keys,
            hops,
            self.trace.t_start_ns if self.trace is not None else None,
            captured,
            change,
            knowledge.moved_ns,
            knowledge.t_ns,
        )

    def _scale_all(self, snapshot: Snapshot, visible: Sequence[LedgerRow]) -> dict[str, float]:
        """Candidates of a band in sight share one scale; heads have theirs; folded Services share one."""
        scales: dict[str, float] = {}
        t_ns = snapshot.t_ns
        for band in {row.band.id: row.band for row in visible if row.band is not None}.values():
            if band.series is not None:
                scales[band.id] = self.scales.of(band.id, peak([band.series]), t_ns)
            own = [row.series for row in band.candidates if row.series is not None]
            if own:
                scales[band.id + "|"] = self.scales.of(band.id + "|", peak(own), t_ns)
        if any(row.kind is RowKind.FOLD for row in visible):
            services = [band.series for band in snapshot.bands if band.kind == "service" and band.series is not None]
            scales["folded"] = self.scales.of("folded", peak(services), t_ns)
        failed = snapshot.failures.series
        scales["failed"] = self.scales.of("failed", float(failed.bad.max()) if len(failed.bad) else 0.0, t_ns)
        return scales

    def lit_rows(self) -> dict[str, int]:
        """Row id → number of the first hop of the open request that belongs there."""
        return lit_rows(self.rows, self.trace)

    def render_line(self, y: int) -> Strip:
        """Draw one line of the frame; at a new size it is painted before Textual tells of the size."""
        if not self._fits():
            self._take(self._frame())
        if y < len(self._lines):
            return self._lines[y]
        return CellLine(max(1, self.size.width)).strip(self.look)

    def _fits(self) -> bool:
        """Whether the lines are drawn for the present size."""
        width, height = self.size
        return bool(self._cells) and (len(self._cells), self._cells[0].width) == (height, width)

    def on_resize(self) -> None:
        if not self._fits():
            self._draw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_attached and self.snapshot is not None and self._drawn_with is not self.look:
            self._draw()

    # --- the selected row -----------------------------------------------------------------------------------------

    def _keep_selection(self, before: Sequence[LedgerRow]) -> None:
        """Find the selected row again; where it is gone, the nearest candidate of its band takes over."""
        if not self.selected or any(row.id == self.selected for row in self.rows):
            return
        stands = [row for row in self.rows if row.selectable and self.selected_key in row_keys(row)]
        match = next((row for row in stands if row.kind is not RowKind.KNOWS), None)
        at, was = next(((i, row) for i, row in enumerate(before) if row.id == self.selected), (0, None))
        if match is None and was is not None and was.kind is RowKind.CANDIDATE and was.band is not None:
            near = [
                (abs(i - at), row) for i, row in enumerate(self.rows)
                if row.kind is RowKind.CANDIDATE and row.band is not None and row.band.id == was.band.id
            ]  # fmt: skip
            if near:
                _, match = min(near, key=lambda one: one[0])
                self.selected_key = match.key
        match = match or next(iter(stands), None)
        self.selected = match.id if match is not None else ""

    def begin(self, snapshot: Snapshot) -> None:
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
