"""The schematic: the selected path, entry → Service, as a circuit that is alive."""

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kflab.dataplane.packets import RequestTrace
from kflab.lab.handle import LabHandle
from kflab.lab.snapshot import Snapshot
from kflab.manifest.objects import Key
from kflab.tui.glyphs import ASCII
from kflab.tui.line_pane import glyphs_of
from kflab.tui.messages import ObjectSelected, RequestClosed, RequestLoaded
from kflab.tui.schematic_draw import Circuit, Hit
from kflab.tui.schematic_knows import draw_knowledge
from kflab.tui.schematic_layout import (
    MORE_NODES,
    MORE_SERVICES,
    Frame,
    Placement,
    RightPlan,
    Weights,
    plan_left,
    plan_right,
)
from kflab.tui.schematic_path import Path, find_path, holds, path_of_trace, service_bands, way_of
from kflab.tui.tokens import Look, look
from kflab.tui.wires import BOLD, GAP, INKS, REVERSE, SEL, Canvas, Runs, Weight, ink

NARROWEST = 60
"""Below so many columns facts stand as lines, without a drawing (schematic.md, breakpoints)."""
DRAWING = 77
"""Columns of the drawing that the pictures show."""
WIDEST = 110
"""Wider than this the boxes only get emptier."""
KNOWS_FROM = 118
"""From this width who-knows-what stands at the right of the drawing."""
KNOWS_LEAST = 41
"""Columns it needs, gutter included."""


class InkTable:
    """Rich styles of ink bytes under one look."""

    def __init__(self, wanted: Look) -> None:
        self.look = wanted
        self._styles: dict[int, Style] = {}
        self._strips: dict[tuple[Runs, int], Strip] = {}

    def style(self, byte: int) -> Style:
        style = self._styles.get(byte)
        if style is None:
            ground = "sel" if byte & SEL else "gap" if byte & GAP else "bg"
            style = self.look.style(INKS[byte & 0x0F], ground, bold=bool(byte & BOLD))
            if byte & REVERSE or (byte & SEL and self.look.reverse_selection):
                style += Style(reverse=True)
            self._styles[byte] = style
        return style

    def strip(self, runs: Runs, width: int) -> Strip:
        """A row of a canvas as a strip of exactly `width` cells; cached by content."""
        strip = self._strips.get((runs, width))
        if strip is None:
            if len(self._strips) > 4096:
                self._strips.clear()
            segments = [Segment(words, self.style(byte)) for words, byte in runs]
            strip = Strip(segments).adjust_cell_length(width, self.style(0))
            self._strips[(runs, width)] = strip
        return strip


class CanvasView(ScrollView, can_focus=True):
    """A scrolling widget that shows a canvas and lets arrows and mouse choose what is drawn on it."""

    DEFAULT_CSS = """
    CanvasView { background: $tok-bg; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; overflow-x: hidden; }
    """

    BINDINGS = [
        Binding("up", "move(0, -1)", "up", id="canvas.up", show=False, tooltip="To the object above"),
        Binding("down", "move(0, 1)", "down", id="canvas.down", show=False, tooltip="To the object below"),
        Binding("left", "move(-1, 0)", "left", id="canvas.left", show=False, tooltip="To the object at the left"),
        Binding("right", "move(1, 0)", "right", id="canvas.right", show=False, tooltip="To the object at the right"),
        Binding("enter", "unfold", "unfold", id="canvas.unfold", show=False, tooltip="Unfold or fold what is selected"),
    ]

    filter: reactive[str] = reactive("")
    """Text that names must hold; the rest steps back. "" shows all alike."""

    title = "Topology"
    subtitle = ""
    note = ""

    def __init__(self, lab: LabHandle, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id)
        self.lab = lab
        self.snapshot: Snapshot | None = None
        self.selected: Key | None = None
        self.hits: list[Hit] = []
        self._rows: list[Runs] = []
        self._table: InkTable | None = None
        self._stale = True

    # --- drawing -----------------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot: only rows that changed are painted."""
        self.snapshot = snapshot
        self.redraw()

    def redraw(self) -> None:
        """Draw anew and repaint what changed."""
        width, height = self.size
        if self.snapshot is None or width < 2 or height < 1:
            return
        canvas = self.paint(self.snapshot, width, height)
        self._select_on(canvas)
        rows, before = canvas.rows(), self._rows
        self._rows = rows
        if self.virtual_size != Size(width, len(rows)):
            self.virtual_size = Size(width, len(rows))
            self.refresh()
            return
        top = round(self.scroll_y)
        changed = [y for y in range(top, min(top + height, len(rows))) if y >= len(before) or rows[y] != before[y]]
        if len(changed) > height * 3 // 4:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y - top, width, 1) for y in changed))

    def paint(self, snapshot: Snapshot, width: int, height: int) -> Canvas:
        """Draw a snapshot; subclasses fill `hits`."""
        raise NotImplementedError

    def _select_on(self, canvas: Canvas) -> None:
        for hit in self.hits:
            if hit.key == self.selected:
                canvas.ground(hit.x, hit.y, hit.width, hit.height)

    def render_line(self, y: int) -> Strip:
        """Draw one visible line, with a sign where more is out of sight."""
        wanted = look(self.app)
        if self._table is None or self._table.look is not wanted:
            self._table = InkTable(wanted)
        width, height = self.size
        at = y + round(self.scroll_y)
        strip = self._table.strip(self._rows[at] if at < len(self._rows) else (), width)
        sign = self._sign(y, height)
        if sign and width > len(sign) + 2:
            tail = Strip([Segment(f" {sign} ", self._table.style(ink("dim")))])
            strip = Strip.join([strip.crop(0, width - len(sign) - 2), tail])
        return strip

    def _sign(self, y: int, height: int) -> str:
        glyphs = glyphs_of(self.app)
        top = round(self.scroll_y)
        hidden = len(self._rows) - top - height
        if y == height - 1 and hidden > 0:
            return f"{glyphs.more_down} {hidden + 1} more lines"
        if y == 0 and top > 0:
            return f"{glyphs.more_up} {top + 1} more lines"
        return ""

    # --- choosing ----------------------------------------------------------------------------------------------

    def select(self, key: Key | None, *, post: bool = True) -> None:
        """Choose an object; `post` tells the other panes."""
        if key == self.selected:
            return
        self.selected = key
        self.redraw()
        self._bring_into_view(key)
        if post and (key is None or key.kind != "More"):
            self.post_message(ObjectSelected(key))

    def _bring_into_view(self, key: Key | None) -> None:
        hit = next((hit for hit in self.hits if hit.key == key), None)
        if hit is not None and self.virtual_size.height > self.size.height:
            self.scroll_to_region(
                Region(hit.x, hit.y, hit.width, hit.height), animate=False, immediate=True, force=True
            )

    def on_object_selected(self, message: ObjectSelected) -> None:
        """Another pane chose an object: mark it here too."""
        if message.relayed:
            self.select(message.key, post=False)

    def action_move(self, dx: int, dy: int) -> None:
        """Choose the nearest object in a direction."""
        matching = [hit for hit in self.hits if self.walks(hit)]
        if not matching:
            return
        here = next((hit for hit in matching if hit.key == self.selected), None)
        if here is None:
            self.select(matching[0].key)
            return
        best = min(
            (one for one in (_distance(here, hit, dx, dy) + (at,) for at, hit in enumerate(matching)) if one[0] >= 0),
            default=None,
        )
        if best is not None:
            self.select(matching[best[-1]].key)

    def walks(self, hit: Hit) -> bool:
        """Whether arrows stop at an object."""
        return not self.filter or self.filter in hit.key.name

    def action_unfold(self) -> None:
        """Unfold or fold what is selected."""

    def on_click(self, event: events.Click) -> None:
        """Choose what was clicked; a second click unfolds it."""
        x, y = event.x, event.y + round(self.scroll_y)
        found = [hit for hit in self.hits if hit.holds(x, y)]
        if not found:
            return
        event.stop()
        self.focus()
        key = min(found, key=lambda hit: hit.width * hit.height).key
        if key == self.selected:
            self.action_unfold()
        else:
            self.select(key)

    # --- changes from outside ----------------------------------------------------------------------------------

    def watch_filter(self) -> None:
        self.redraw()

    def on_resize(self) -> None:
        self._rows = []
        self.redraw()
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._table = None


def _distance(here: Hit, there: Hit, dx: int, dy: int) -> tuple[int, int, int]:
    """How far another object lies in a direction: (distance, sideways, 0); (-1, 0, 0) where it does not lie there."""
    if there.key == here.key:
        return (-1, 0, 0)
    if dy:
        ahead = there.y - (here.y + here.height - 1) if dy > 0 else here.y - (there.y + there.height - 1)
        aside = max(0, there.x - (here.x + here.width - 1), here.x - (there.x + there.width - 1))
        return (ahead + aside * 2, aside, 0) if ahead > 0 else (-1, 0, 0)
    ahead = there.x - (here.x + here.width - 1) if dx > 0 else here.x - (there.x + there.width - 1)
    aside = max(0, there.y - (here.y + here.height - 1), here.y - (there.y + there.height - 1))
    return (ahead + aside * 4, aside, 0) if ahead > 0 else (-1, 0, 0)


class SchematicView(CanvasView):
    """The path to one Service. Selecting a Service (or one of its pods) anywhere chooses the path."""

    def __init__(self, lab: LabHandle, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(lab, id=id)
        self.subtitle = "path"
        self._wanted = ""
        self._trace: RequestTrace | None = None
        self._placement = Placement()
        self._weights = Weights()
        self._unfolded: frozenset[str] = frozenset()
        self._all_nodes = False
        self._open_services = False

    def light(self, trace: RequestTrace | None) -> None:
        """Light the way of a request, or (None) put it out."""
        self._trace = trace
        self.redraw()

    def on_request_loaded(self, message: RequestLoaded) -> None:
        self.light(message.trace)

    def on_request_closed(self, _: RequestClosed) -> None:
        self.light(None)

    def select(self, key: Key | None, *, post: bool = True) -> None:
        """Choose an object; a Service or an endpoint that is not on the drawn path changes the path."""
        if key is not None and self.snapshot is not None:
            path = find_path(self.snapshot, self._wanted)
            if not any(holds(band, key) for band in path.bands()):
                other = next((band for band in service_bands(self.snapshot) if holds(band, key)), None)
                if other is not None:
                    self._wanted = other.id
        super().select(key, post=post)

    def action_unfold(self) -> None:
        """Unfold or fold a node, the nodes or the Services that are folded away."""
        key = self.selected
        if key == MORE_NODES:
            self._all_nodes, self.selected = True, None
        elif key == MORE_SERVICES:
            self._open_services, self.selected = True, None
        elif key is not None and key.kind == "Node":
            self._unfolded = self._unfolded.symmetric_difference({key.name})
        elif key is not None and key.kind == "Service" and self.snapshot is not None:
            band = next((one for one in service_bands(self.snapshot) if one.key == key), None)
            if band is not None:
                self._wanted = band.id
        self.redraw()

    def paint(self, snapshot: Snapshot, width: int, height: int) -> Canvas:
        """Draw the path and, where there is room, who knows what."""
        glyphs = glyphs_of(self.app)
        lit_path = path_of_trace(snapshot, self._trace) if self._trace is not None else ""
        path = find_path(snapshot, lit_path or self._wanted)
        self.hits = []
        self.note = f"rules rev {snapshot.rules_revision}"
        if width < NARROWEST or not snapshot.bands:
            return self._facts(snapshot, path, width, height)
        drawing = min(width, WIDEST)
        if width >= KNOWS_FROM:
            drawing = min(WIDEST, max(DRAWING, DRAWING + (width - 120) * 2 // 5))
        left = plan_left(path, snapshot, height, self._open_services)
        right = RightPlan()
        if path.service is not None:
            pods = self._placement.place(path.service, snapshot.nodes)
            order = self._placement.worst_first(path.service.id, pods)
            right = plan_right(path, pods, order, left, height, self._unfolded, self._all_nodes)
        way = way_of(self._trace, path) if self._trace is not None else None
        circuit = Circuit(snapshot, path, Frame(drawing), left, right, self._weights, glyphs, way, self.filter)
        canvas = circuit.draw()
        self.hits = circuit.hits
        if snapshot.uncalled and left.uncalled >= 0:
            self._uncalled(canvas, snapshot, left.uncalled, drawing)
        if self.filter:
            found = len({hit.key for hit in self.hits if self.filter in hit.key.name})
            self.note = f"/{self.filter} {found} found"
        if width - drawing >= KNOWS_LEAST:
            canvas = canvas.widened(width, height)
            gutter = drawing
            canvas.wire([(gutter, 0), (gutter, max(height, canvas.height) - 1)], Weight.LIGHT, ink("rule"))
            for key, *place in draw_knowledge(canvas, gutter + 2, width - gutter - 3, height, snapshot, glyphs):
                self.hits.append(Hit(key, *place))
        return canvas

    def _uncalled(self, canvas: Canvas, snapshot: Snapshot, y: int, width: int) -> None:
        """Services that nobody outside calls, as many as fit, each to be chosen."""
        x = canvas.text(1, y, "no caller  ", ink("dim"))
        for at, key in enumerate(snapshot.uncalled):
            rest = len(snapshot.uncalled) - at
            sign = f" {rest} more" if rest > 1 else ""
            if x + len(key.name) + 2 + len(sign) > width:
                canvas.text(x, y, f"{rest} more", ink("dim"))
                break
            self.hits.append(Hit(key, x, y, len(key.name), 1))
            x = canvas.text(x, y, key.name, ink("text")) + 2

    def _facts(self, snapshot: Snapshot, path: Path, width: int, height: int) -> Canvas:
        """The worst facts as lines, and which size brings the drawing."""
        glyphs = glyphs_of(self.app)
        canvas = Canvas(width, max(1, height), ascii=glyphs is ASCII)
        if not snapshot.bands:
            canvas.text(1, 0, "no request path yet: ctrl+s applies manifests with a Service", ink("dim"), width - 1)
            return canvas
        lines: list[tuple[str, str]] = []
        for band in path.bands():
            for one in band.candidates:
                if one.failing or one.state not in ("ready", "healthy", "unhealthy"):
                    lines.append((f"{one.name} {one.state}", "lost" if one.failing else "late"))
        lines.extend(
            (f"{one.name} {one.word or 'stale'}", "late") for one in snapshot.knowledge.knowers if not one.in_step
        )
        if not lines:
            lines = [("all is well", "text")]
        for y, (said, token) in enumerate(lines[: max(1, height - 1)]):
            canvas.text(1, y, said, ink(token), width - 1)
        canvas.text(1, max(0, height - 1), f"{NARROWEST} columns bring the drawing", ink("dim"), width - 1)
        return canvas
