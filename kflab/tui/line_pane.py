"""A pane that draws its own lines: scrolling, a cursor where wanted, and signs for what is out of sight."""

from collections.abc import Sequence

from textual import events
from textual.binding import Binding
from textual.geometry import Region, Size
from textual.strip import Strip

from kflab.lab.snapshot import Snapshot
from kflab.tui.glyphs import Glyphs, choose
from kflab.tui.pane import Pane
from kflab.tui.row import Row
from kflab.tui.tokens import Look, look


def glyphs_of(app: object) -> Glyphs:
    """The glyph set of the app, or the one the locale asks for."""
    given = getattr(app, "glyphs", None)
    return given if isinstance(given, Glyphs) else choose()


class LinePane(Pane):
    """Base of the panes that are a list of rows. Subclasses give `build`; this draws the visible part."""

    DEFAULT_CSS = """
    LinePane { height: 1fr; width: 1fr; background: $tok-bg; }
    """

    BINDINGS = [
        Binding("up", "scroll_lines(-1)", "up", id="pane.up", show=False, tooltip="One line up"),
        Binding("down", "scroll_lines(1)", "down", id="pane.down", show=False, tooltip="One line down"),
        Binding("pageup", "scroll_page(-1)", "page up", id="pane.pageup", show=False, tooltip="One page up"),
        Binding("pagedown", "scroll_page(1)", "page down", id="pane.pagedown", show=False, tooltip="One page down"),
        Binding("home", "scroll_edge(-1)", "top", id="pane.home", show=False, tooltip="To the first line"),
        Binding("end", "scroll_edge(1)", "bottom", id="pane.end", show=False, tooltip="To the last line"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.top = 0
        self.rows: Sequence[Row] = ()
        self._built_for: tuple[Size, str] | None = None

    def build(self, width: int, height: int) -> Sequence[Row]:
        """Make all lines for this size."""
        raise NotImplementedError

    def show(self, snapshot: Snapshot) -> None:
        """Nothing on a page of its own changes with time, unless a subclass says so."""

    @property
    def glyphs(self) -> Glyphs:
        return glyphs_of(self.app)

    @property
    def look(self) -> Look:
        return look(self.app)

    def rebuild(self) -> None:
        """Make the lines anew at the next paint."""
        self._built_for = None
        self.refresh()

    def _lines(self) -> Sequence[Row]:
        """The lines for the present size, made when size, theme or content changed."""
        wanted = (self.size, self.look.name)
        if self._built_for != wanted:
            self._built_for = wanted
            self.rows = self.build(self.size.width, self.size.height)
            self.top = max(0, min(self.top, len(self.rows) - self.size.height))
        return self.rows

    def render_line(self, y: int) -> Strip:
        """Draw one visible line."""
        rows = self._lines()
        width = self.size.width
        index = self.top + y
        row = rows[index] if index < len(rows) else Row()
        strip = row.strip(self.look, width)
        sign = self._more_sign(y, len(rows))
        if sign and width > 4:
            tail = Row(row.ground).put(1, sign, "dim").strip(self.look, 2)
            strip = Strip.join([strip.crop(0, width - 2), tail])
        return strip

    def _more_sign(self, y: int, count: int) -> str:
        """The sign that lines above or below are out of sight, at the edge concerned."""
        if y == 0 and self.top > 0:
            return self.glyphs.more_up
        if y == self.size.height - 1 and self.top + self.size.height < count:
            return self.glyphs.more_down
        return ""

    def scroll_to_row(self, index: int, context: int = 0) -> None:
        """Bring a line into view, with some lines around it."""
        height = max(1, self.size.height)
        if index - context < self.top:
            self._set_top(index - context)
        elif index + context >= self.top + height:
            self._set_top(index + context - height + 1)

    def _set_top(self, top: int) -> None:
        top = max(0, min(top, len(self._lines()) - self.size.height))
        if top != self.top:
            self.top = top
            self.refresh()

    def refresh_rows(self, first: int, last: int) -> None:
        """Repaint the visible ones of some lines."""
        first, last = max(first, self.top), min(last, self.top + self.size.height - 1)
        if first <= last:
            self.refresh(Region(0, first - self.top, self.size.width, last - first + 1))

    def action_scroll_lines(self, count: int) -> None:
        self._set_top(self.top + count)

    def action_scroll_page(self, direction: int) -> None:
        self._set_top(self.top + direction * max(1, self.size.height - 1))

    def action_scroll_edge(self, direction: int) -> None:
        self._set_top(0 if direction < 0 else len(self._lines()))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_scroll_lines(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_scroll_lines(3)

    def on_resize(self) -> None:
        self.rebuild()

    def notify_style_update(self) -> None:
        self._built_for = None
        super().notify_style_update()
