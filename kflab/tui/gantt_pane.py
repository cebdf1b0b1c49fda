"""Who knew when: every change with its events, a bar per observer, and the bills of what was lost."""

from collections.abc import Sequence

from textual.binding import Binding

from kflab.lab.autopsy_values import AutopsyReport, BillRow, GanttEvent, GanttGroup, GanttRow
from kflab.lab.snapshot import Snapshot
from kflab.scenario.gantt_text import ASCII_BARS, UNICODE_BARS, bar, latency
from kflab.tui import text
from kflab.tui.glyphs import ASCII
from kflab.tui.line_pane import LinePane
from kflab.tui.messages import RequestOpened
from kflab.tui.row import Row, wrap_words

SHOWN_GROUPS = 40
"""Changes shown at most, the newest."""

Item = tuple[str, int]
"""("event", id) or ("bill", id)."""


class GanttPane(LinePane):
    """Newest change first. Events are folded but for the one that lost most; enter unfolds, and opens a bill."""

    title = "Who knew when"
    subtitle = "requests lost in each gap"

    BINDINGS = [
        Binding("up", "move(-1)", "up", id="gantt.up", show=False, tooltip="The event or bill above"),
        Binding("down", "move(1)", "down", id="gantt.down", show=False, tooltip="The event or bill below"),
        Binding("enter", "choose", "open", id="gantt.open", tooltip="Unfold an event; open a request of a bill"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.report = AutopsyReport()
        self.cursor: Item | None = None
        self._turned: set[int] = set()
        """Events that the user folded or unfolded against what they are by default."""
        self._places: list[tuple[int, Item]] = []
        """(row, item) of what the cursor can stand on, from top to bottom."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the newest report."""
        if snapshot.autopsy is self.report:
            return
        self.report = report = snapshot.autopsy
        lost = report.failed + report.slowed
        # One that lost a try and was saved by the next has not failed: the word is explained where it stands first.
        self.note = f"{lost:,} lost = {report.failed:,} failed + {report.slowed:,} slowed" if lost else "nothing lost"
        if report.unexplained:
            self.note += f", {report.unexplained:,} not explained"
        self.rebuild()

    # --- drawing --------------------------------------------------------------------------------------------------

    def build(self, width: int, height: int) -> Sequence[Row]:
        """Make all lines."""
        self._places = []
        groups = [group for group in self.report.groups if group.events or group.lost][-SHOWN_GROUPS:]
        if not groups:
            return [
                Row().put(1, "no pod has ended or begun yet: ", "faint").add("k", "strong").add(" ends one", "faint"),
            ]
        rows: list[Row] = []
        for number, group in enumerate(reversed(groups)):
            if number:
                rows.append(Row())
            self._group(group, number == 0, width, rows)
        if self.cursor not in [item for _, item in self._places]:
            self.cursor = None
        return rows

    def _group(self, group: GanttGroup, newest: bool, width: int, rows: list[Row]) -> None:
        worst = max(group.events, key=lambda event: event.lost, default=None)
        merged = len(group.events) > 0 and group.events[0].what == group.what and group.events[0].t_ns == group.t_ns
        if not merged:
            head = Row().put(1, text.instant(group.t_ns), "strong")
            head.put(max(9, head.x + 2), text.fit(
                text.safe(group.what), max(8, width - 24), self.glyphs.ellipsis), "strong", bold=True)  # fmt: skip
            if group.lost:
                head.right(width - 2, f"{group.lost:,} lost", "lost")
            rows.append(head)
        for event in group.events:
            opened = (event is worst and (newest or event.lost > 0)) != (event.id in self._turned)
            self._event(event, group, opened, merged and event is group.events[0], width, rows)

    def _event(
        self, event: GanttEvent, group: GanttGroup, opened: bool, heads: bool, width: int, rows: list[Row]
    ) -> None:  # fmt: skip
        line = self._line(("event", event.id), rows)
        line.put(1, self.glyphs.unfolded if opened else self.glyphs.folded, "dim")
        when = text.instant(event.t_ns) if heads else f"+{(event.t_ns - group.t_ns) / 1e9:.2f}"
        line.put(3, when, "strong" if heads else "dim")
        lost = f"{event.lost:,} lost" if event.lost else ""
        known = f"known +{(event.known_ns - event.t_ns) / 1e9:.3f} s" if event.known_ns is not None else ""
        right = lost or (known if not opened else "")
        at = max(10, 3 + len(when) + 2)
        room = max(8, width - 4 - at - len(right))
        what = text.fit_words(text.safe(event.what), room, self.glyphs.ellipsis)
        line.put(at, what, "strong" if heads else "text", bold=heads)
        line.right(width - 2, right, "lost" if lost else "known")
        rows.append(line)
        if not opened:
            return
        for bill in self.report.bills:
            if bill.event == event.id:
                self._bill(bill, event.what if what == text.safe(event.what) else "", width, rows)
        rows += [self._bar(row, event, width) for row in event.rows]

    def _line(self, item: Item, rows: list[Row]) -> Row:
        """A line on which the cursor can stand."""
        self._places.append((len(rows), item))
        chosen = item == self.cursor
        line = Row("sel" if chosen else "bg")
        return line.put(0, self.glyphs.selected, "strong") if chosen else line

    def _bill(self, bill: BillRow, said: str, width: int, rows: list[Row]) -> None:
        """A bill; of one that is all of its event, whose line has said what it is (`said`), what clients got."""
        line = self._line(("bill", bill.id), rows)
        line.put(5, self.glyphs.crashed if bill.failed else self.glyphs.stale, "lost" if bill.failed else "late")
        outcome = bill.outcome.replace("×", self.glyphs.times)
        more = "" if bill.trace is None else f" {self.glyphs.dot} enter opens one"
        longest = f"; longest {latency(bill.longest_ns)}"
        extra = next(part for part in (longest + more, longest, "") if not part or len(outcome + part) <= width - 9)
        outcome = text.fit(outcome + extra, max(8, width - 9), self.glyphs.ellipsis)
        if bill.title == said:
            rows.append(line.put(7, outcome, "text"))
            return
        words = bill.title.replace("×", self.glyphs.times)
        room, words = max(8, width - 9), text.safe(words)
        fitted = text.fit_words(words, room, self.glyphs.ellipsis)
        cut = fitted != words and fitted.endswith(self.glyphs.ellipsis)  # a shorter name alone does not make it fit
        first, *further = wrap_words(words, room) if cut else [fitted]
        rows.append(line.put(7, first, "text"))
        rows += [Row(line.ground).put(7, part, "text") for part in further]
        rows.append(Row(line.ground).put(7, outcome, "dim"))

    def _bar(self, row: GanttRow, event: GanttEvent, width: int) -> Row:
        """One observer: its name, its bar, when it knew, what was lost meanwhile."""
        named = 22 if width < 100 else 28
        noted = 0 if width < 100 else 24
        cells = max(8, width - named - noted - 32)
        line = Row().put(5, text.shorten(row.name, named - 1, self.glyphs.ellipsis), "text" if row.calls else "dim")
        bars = ASCII_BARS if self.glyphs is ASCII else UNICODE_BARS
        waiting, gap = bar(row, event, cells, bars)
        token = "lost" if row.lost or row.kind == "truth" else "late" if row.calls else "spine"
        line.put(5 + named, waiting, "faint").put(5 + named + len(waiting), gap, token)
        at = 5 + named + cells
        knew = f"+{(row.knew_ns - event.t_ns) / 1e9:.3f} s" if row.knew_ns is not None else "not yet"
        line.right(at + 11, knew, "known" if row.knew_ns is not None else "late")
        if row.lost:
            line.right(at + 25, f"{row.lost:,} lost", "lost")
        elif not noted:
            line.right(at + 25, text.fit(text.safe(row.note), 12, self.glyphs.ellipsis), "dim")
        if noted:
            line.put(at + 27, text.fit(text.safe(row.note), width - at - 28, self.glyphs.ellipsis), "dim")
        return line

    # --- keys -----------------------------------------------------------------------------------------------------

    def action_move(self, direction: int) -> None:
        """Move the cursor to the next event or bill."""
        self._lines()
        items = [item for _, item in self._places]
        if not items:
            return
        if self.cursor in items:
            at = max(0, min(len(items) - 1, items.index(self.cursor) + direction))
        else:
            at = 0
        self.cursor = items[at]
        self.rebuild()
        self._lines()
        self.scroll_to_row(self._places[at][0], 1)

    def action_choose(self) -> None:
        """Unfold or fold the event, or open a request of the bill."""
        if self.cursor is None:
            self.action_move(1)
            return
        kind, number = self.cursor
        if kind == "event":
            self._turned ^= {number}
            self.rebuild()
            return
        bill = next((bill for bill in self.report.bills if bill.id == number), None)
        if bill is not None and bill.trace is not None:
            self.post_message(RequestOpened(bill.trace))
        elif bill is not None:
            self.app.notify("its requests are too old to be opened", markup=False)

    def copy_text(self) -> tuple[str, str]:
        """What `y` copies: the page as text."""
        return "\n".join(row.text for row in self.build(120, 0)), "who knew when"
