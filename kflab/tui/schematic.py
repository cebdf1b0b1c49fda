"""The schematic: the selected path, entry → Service, as a circuit that is alive."""

from kflab.dataplane.packets import RequestTrace
from kflab.lab.snapshot import Snapshot
from kflab.manifest.objects import Key
from kflab.tui.canvas_view import CanvasView, Hit
from kflab.tui.glyphs import ASCII
from kflab.tui.line_pane import glyphs_of
from kflab.tui.messages import RequestClosed, RequestLoaded
from kflab.tui.schematic_draw import Circuit
from kflab.tui.schematic_knows import draw_knowledge
from kflab.tui.schematic_layout import (
    MORE_NODES,
    MORE_SERVICES,
    Frame,
    RightPlan,
    plan_left,
    plan_right,
)
from kflab.tui.schematic_left import LeftColumn
from kflab.tui.schematic_memory import Placement, Weights
from kflab.tui.schematic_path import Path, find_path, holds, path_of_trace, service_bands, way_of
from kflab.tui.schematic_right import RightColumn
from kflab.tui.wires import Canvas, Weight, ink

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
KNOWS_ROWS = 10
"""Free rows below the drawing from which it stands there, where there is no room beside it."""


class SchematicView(CanvasView):
    """The path to one Service. Selecting a Service (or one of its pods) anywhere chooses the path."""

    def __init__(self) -> None:
        super().__init__()
        self.subtitle = "path"
        self._wanted = ""
        self._trace: RequestTrace | None = None
        self._placement = Placement()
        self._weights = Weights()
        self._unfolded: frozenset[str] = frozenset()
        self._all_nodes = False
        self._open_services = False

    def show(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot; a clock that went back is another life, in which every place is free again."""
        if self.snapshot is not None and snapshot.t_ns < self.snapshot.t_ns:
            self._placement, self._weights = Placement(), Weights()
        super().show(snapshot)

    def wanted_rows(self) -> int:
        """Rows that the drawing takes where there is room for all of it."""
        if self.snapshot is None:
            return 22
        path = find_path(self.snapshot, self._wanted)
        left = plan_left(path, self.snapshot, 10_000, self._open_services)
        if path.service is None:
            return left.height
        pods = self._placement.place(path.service, self.snapshot.nodes)
        right = plan_right(path, pods, pods, left, left.height, self._unfolded, self._all_nodes)
        return max(left.height, right.height)

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
        frame = Frame(drawing)
        beside = width - drawing >= KNOWS_LEAST
        legend = not (beside and snapshot.knowledge.t_ns is None)
        circuit = Circuit(
            snapshot, path, frame, left, right, self._weights, glyphs, way, self.selected, self.filter, legend
        )
        LeftColumn(circuit).draw()
        RightColumn(circuit).draw()
        canvas = circuit.canvas
        self.hits = circuit.hits
        if snapshot.uncalled and left.uncalled >= 0:
            self._uncalled(canvas, snapshot, left.uncalled, drawing)
        if self.filter:
            found = len({hit.key for hit in self.hits if self.filter in hit.key.name})
            self.note = f"/{self.filter} {found} found"
        if beside:
            canvas = canvas.widened(width, height)
            gutter = drawing
            canvas.wire([(gutter, 0), (gutter, max(height, canvas.height) - 1)], Weight.LIGHT, ink("rule"))
            for key, *place in draw_knowledge(canvas, gutter + 2, width - gutter - 3, height, snapshot, glyphs):
                self.hits.append(Hit(key, *place))
        elif height - canvas.height >= KNOWS_ROWS:
            top = canvas.height + 1
            canvas = canvas.widened(width, height)
            for key, *place in draw_knowledge(canvas, 2, width - 4, height, snapshot, glyphs, top):
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
            (f"{one.name} {one.word or 'stale'}", "late")
            for one in snapshot.knowledge.knowers
            if not one.in_step and not one.off
        )
        if not lines:
            lines = [("all is well", "text")]
        for y, (said, token) in enumerate(lines[: max(1, height - 1)]):
            canvas.text(1, y, said, ink(token), width - 1)
        canvas.text(1, max(0, height - 1), f"{NARROWEST} columns bring the drawing", ink("dim"), width - 1)
        return canvas
