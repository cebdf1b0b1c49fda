"""The ruled title line above a pane, and the body that puts frames where the plan says."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.geometry import NULL_OFFSET, NULL_SPACING, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.strip import Strip
from textual.widget import Widget

from kflab.lab.snapshot import Snapshot
from kflab.tui.glyphs import UNICODE, Glyphs, choose, to_ascii
from kflab.tui.pane import Pane
from kflab.tui.panes import ORDER
from kflab.tui.plan import Plan
from kflab.tui.row import Row
from kflab.tui.text import fit
from kflab.tui.tokens import look

if TYPE_CHECKING:
    from kflab.tui.canvas_view import CanvasView


def title_row(title: str, subtitle: str, note: str, width: int, focused: bool, glyphs: Glyphs) -> Row:
    """``─ Trace following ────── sampled ─``; with the focus the rule is heavy.

    The subtitle goes before the note, and is cut with a sign; the title is never cut.
    """
    if glyphs is not UNICODE:
        title, subtitle, note = to_ascii(title), to_ascii(subtitle), to_ascii(note)
    rule = glyphs.rule_heavy if focused else glyphs.rule
    ink = "dim" if focused else "rule"
    row = Row().put(0, rule, ink).put(2, title, "strong", bold=True)
    room = width - row.x - (cell_len(note) + 6 if note else 3)
    if subtitle and room > 4:
        row.put(row.x + 1, fit(subtitle, room - 1, glyphs.ellipsis), "dim")
    end = width - (cell_len(note) + 4 if note else 0)
    if row.x + 2 < end:
        row.put(row.x + 1, rule * (end - row.x - 1), ink)
    if note:
        row.put(end + 1, note, "text" if focused else "dim").put(width - 1, rule, ink)
    return row


class TitleLine(Widget):
    """One ruled line that says what a pane is."""

    DEFAULT_CSS = "TitleLine { height: 1; width: 1fr; }"

    def __init__(self, pane: Widget) -> None:
        super().__init__()
        self.pane = pane
        self._shown: tuple[str, str, str, bool] | None = None

    def texts(self) -> tuple[str, str, str, bool]:
        """Title, subtitle, note and focus of the pane, now."""
        pane = self.pane
        words = [str(getattr(pane, name, "") or "") for name in ("title", "subtitle", "note")]
        focused = self.screen.focused  # not `pane.has_focus`: that is a message later
        return words[0], words[1], words[2], focused is not None and pane in focused.ancestors_with_self

    def check(self) -> None:
        """Repaint when a text changed."""
        if self.texts() != self._shown:
            self.refresh()

    def render_line(self, y: int) -> Strip:
        self._shown = self.texts()
        glyphs = getattr(self.app, "glyphs", None) or choose()
        title, subtitle, note, focused = self._shown
        return title_row(title, subtitle, note, self.size.width, focused, glyphs).strip(look(self.app), self.size.width)


class PaneFrame(Widget):
    """A pane with its title line. `name` is its name in the plan."""

    DEFAULT_CSS = """
    PaneFrame { layout: vertical; }
    PaneFrame > .pane { height: 1fr; width: 1fr; }
    """

    def __init__(self, area: str, pane: "Pane | CanvasView", titled: bool = True) -> None:
        super().__init__()
        self.area = area
        self.pane = pane
        self.line = TitleLine(pane) if titled else None
        pane.add_class("pane")

    def compose(self) -> Iterable[Widget]:
        if self.line is not None:
            yield self.line
        yield self.pane

    def show(self, snapshot: Snapshot) -> None:
        """Hand a snapshot to the pane."""
        self.pane.show(snapshot)

    def check_title(self) -> None:
        if self.line is not None and self.is_mounted:
            self.line.check()


class PlanLayout(Layout):
    """Places frames by `Body.plan`; what has no area is not shown."""

    name = "plan"

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        areas = parent.plan.areas if isinstance(parent, Body) else {}
        return [
            WidgetPlacement(areas[child.area], NULL_OFFSET, NULL_SPACING, child)
            for child in children
            if isinstance(child, PaneFrame) and child.area in areas
        ]


class Body(Widget):
    """Everything between the story line and the key line.

    Args:
        make: Makes the frame of an area, when it is first wanted.
    """

    DEFAULT_CSS = "Body { height: 1fr; width: 1fr; }"

    def __init__(self, make: Callable[[str], PaneFrame]) -> None:
        super().__init__()
        self.frames: dict[str, PaneFrame] = {}
        """Those made so far, in their order."""
        self._make = make
        self.plan = Plan("split")
        self._plan_layout = PlanLayout()

    @property
    def layout(self) -> Layout:
        """Always the plan's."""
        return self._plan_layout

    def compose(self) -> Iterable[Widget]:
        yield from self.frames.values()

    def need(self, area: str) -> PaneFrame:
        """The frame of an area; made now, and hidden, if nobody wanted it before."""
        frame = self.frames.get(area)
        if frame is None:
            frame = self._make(area)
            frame.display = False
            self.frames = {name: self.frames.get(name, frame) for name in ORDER if name in self.frames or name == area}
            if self.is_mounted:
                behind = [other for other in self.frames.values() if other.parent is self]
                after = [other for other in behind if ORDER.index(other.area) > ORDER.index(area)]
                self.mount(frame, before=after[0] if after else None)
        return frame

    def follow(self, plan: Plan) -> bool:
        """Take a new plan. Returns whether anything moved."""
        if plan == self.plan:
            return False
        self.plan = plan
        for area in plan.areas:
            self.need(area)
        for area, frame in self.frames.items():
            frame.display = area in plan.areas
        self.refresh(layout=True)
        return True
