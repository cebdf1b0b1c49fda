"""Base of the views that are drawings: a scrolling canvas on which arrows and mouse choose objects."""

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kflab.lab.snapshot import Snapshot
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.tui.line_pane import glyphs_of
from kflab.tui.messages import ObjectSelected
from kflab.tui.tokens import Look, look
from kflab.tui.wires import BOLD, GAP, INKS, REVERSE, SEL, Canvas, Runs, ink


@dataclass(frozen=True, slots=True)
class Hit:
    """A rectangle of the drawing that stands for an object."""

    key: Key
    x: int
    y: int
    width: int
    height: int

    def holds(self, x: int, y: int) -> bool:
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


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
    CanvasView { background: $tok-bg; scrollbar-size: 0 0; overflow-x: hidden; }
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

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: Snapshot | None = None
        self.selected: Key | None = None
        self.hits: list[Hit] = []
        self.first_row = 0
        """Row of the whole drawing at which what is drawn begins; only views that draw a window change it."""
        self.total_rows = 0
        """Rows of the whole drawing; set by `paint`."""
        self._rows: list[Runs] = []
        self._table: InkTable | None = None

    def watch_has_focus(self, _has_focus: bool) -> None:
        """As in `Pane`: no style depends on the focus."""

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
        before_first, before = self.first_row, self._rows
        self.total_rows = 0
        canvas = self.paint(self.snapshot, width, height)
        self.total_rows = self.total_rows or canvas.height
        for hit in self.hits:
            if hit.key == self.selected:
                self._mark(canvas, hit)
        rows = self._rows = canvas.rows()
        if self.virtual_size != Size(width, self.total_rows) or self.first_row != before_first:
            self.virtual_size = Size(width, self.total_rows)
            self.refresh()
            return
        skip = round(self.scroll_y) - self.first_row
        changed = [y for y in range(height) if rows[y + skip : y + skip + 1] != before[y + skip : y + skip + 1]]
        if len(changed) > height * 3 // 4:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def _mark(self, canvas: Canvas, hit: Hit) -> None:
        """Show that an object is chosen: by its ground or, where there is none, by its name in reverse."""
        x, y, width, height = hit.x, hit.y - self.first_row, hit.width, hit.height
        if look(self.app).reverse_selection and 0 <= y < canvas.height:
            word, length = canvas.first_word(x, y, width)
            x, width, height = (word, length, 1) if length else (x, width, 1)
        canvas.ground(x, y, width, height, REVERSE if width == height == 1 else SEL)

    def paint(self, snapshot: Snapshot, width: int, height: int) -> Canvas:
        """Draw a snapshot; subclasses fill `hits`."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        """Draw one visible line, with a sign where more is out of sight."""
        wanted = look(self.app)
        if self._table is None or self._table.look is not wanted:
            self._table = InkTable(wanted)
        width, height = self.size
        at = y + round(self.scroll_y) - self.first_row
        strip = self._table.strip(self._rows[at] if 0 <= at < len(self._rows) else (), width)
        sign = self._sign(y, height)
        if sign and width > len(sign) + 2:
            tail = Strip([Segment(f" {sign} ", self._table.style(ink("dim")))])
            strip = Strip.join([strip.crop(0, width - len(sign) - 2), tail])
        return strip

    def _sign(self, y: int, height: int) -> str:
        glyphs = glyphs_of(self.app)
        top = round(self.scroll_y)
        hidden = self.total_rows - top - height
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
            (one for one in ((*_distance(here, hit, dx, dy), at) for at, hit in enumerate(matching)) if one[0] >= 0),
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
