"""Shares: connections of each candidate since the last change, against what the rules give, with the 99 % band."""

from collections.abc import Sequence

from kflab.lab.snapshot import ShareGroup, ShareRow, Snapshot
from kflab.tui import text
from kflab.tui.glyphs import DOWN, of_state, state_token
from kflab.tui.line_pane import LinePane
from kflab.tui.row import Row, wrap_words


class SharesPane(LinePane):
    """One group per chooser, one line per candidate: where its share lies on the band that luck explains."""

    title = "Shares"
    subtitle = "expected share, 99 % band"

    def __init__(self) -> None:
        super().__init__()
        self.groups: tuple[ShareGroup, ...] = ()

    def show(self, snapshot: Snapshot) -> None:
        """Show the newest counts."""
        if snapshot.shares != self.groups:
            self.groups = snapshot.shares
            structural = sum(group.word == "structural" for group in self.groups)
            self.note = f"{structural} structural" if structural else "all within luck" if self.groups else ""
            self.rebuild()

    def build(self, width: int, height: int) -> Sequence[Row]:
        if not self.groups:
            return [Row().put(1, "nothing was chosen yet: no connection since the last change", "faint")]
        rows: list[Row] = []
        for number, group in enumerate(self.groups):
            if number:
                rows.append(Row())
            rows += self._group(group, width)
        return rows

    def _group(self, group: ShareGroup, width: int) -> list[Row]:
        head = Row().put(
            1,
            text.fit(text.safe(group.title).replace("→", self.glyphs.arrow), width - 2, self.glyphs.ellipsis),
            "strong",
            bold=True,
        )
        rows = [head]
        name_width = max(12, min(26, width // 4))
        axis = name_width + 4
        counts = width >= 100
        end = width - (28 if counts else 9)
        if counts:
            head.right(width - 19, "seen", "faint").right(width - 9, "expected", "faint").right(
                width - 1, "share", "faint"
            )
        for row in group.rows:
            rows.append(self._row(row, group, name_width, axis, end, width, counts))
        rows += self._verdict(group, name_width + 4, width)
        return rows

    def _row(
        self, row: ShareRow, group: ShareGroup, name_width: int, axis: int, end: int, width: int, counts: bool
    ) -> Row:
        glyphs, total = self.glyphs, max(1, group.n)
        dead = row.state in (*DOWN, "gone", "terminating", "failed")
        inside = row.low <= row.connections <= row.high
        line = Row().put(1, of_state(glyphs, row.state), state_token(row.state))
        line.put(3, text.shorten(row.key.name, name_width, glyphs.ellipsis), "lost" if row.state in DOWN else "text")
        if row.expected is None:
            line.put(axis, "no part in the choice", "faint")
        else:
            low, high = self._range(group)
            for cell, token in self._axis(row, low, high, end - axis, dead, inside):
                line.put(max(axis, line.x), cell, token)
        if counts:
            line.right(width - 19, f"{row.connections:,}", "text")
            expected = f"{float(row.expected) * group.n:,.0f}" if row.expected is not None else ""
            line.right(width - 9, expected, "dim")
        shown = text.share(row.connections / total) if group.n else ""
        sign = (
            "" if inside or row.expected is None else f"{glyphs.above if row.connections > row.high else glyphs.below} "
        )
        return line.right(width - 1, f"{sign}{shown}", "text" if inside or row.expected is None else "late")

    @staticmethod
    def _range(group: ShareGroup) -> tuple[float, float]:
        """Counts at the two ends of the group's axis: all bands and all dots, and half a band of air."""
        rows = [row for row in group.rows if row.expected is not None]
        low = min([row.low for row in rows] + [row.connections for row in rows])
        high = max([row.high for row in rows] + [row.connections for row in rows])
        air = max(1.0, (high - low) / 5)
        return max(0.0, low - air), high + air

    def _axis(
        self, row: ShareRow, low: float, high: float, width: int, dead: bool, inside: bool
    ) -> list[tuple[str, str]]:
        """The line of one candidate, cell by cell: axis, band, expected share, and the dot over them."""
        glyphs = self.glyphs

        def cell(count: float) -> int:
            return max(0, min(width - 1, round((count - low) / (high - low) * (width - 1))))

        cells: list[tuple[str, str]] = [(glyphs.empty, "rule")] * width
        for at in range(cell(row.low), cell(row.high) + 1):
            cells[at] = (glyphs.bar, "spine")
        expected = low + (high - low) / 2
        if row.expected is not None:
            expected = float(row.expected) * self._total(row)
        cells[cell(expected)] = (glyphs.tick_on, "text")
        token = "lost" if dead else "traffic" if inside else "late"
        cells[cell(row.connections)] = (glyphs.crashed if row.state in DOWN else glyphs.ready, token)
        return cells

    def _total(self, row: ShareRow) -> int:
        """How many connections the row's group had."""
        return next((group.n for group in self.groups if row in group.rows), 0)

    def _verdict(self, group: ShareGroup, at: int, width: int) -> list[Row]:
        """``luck, not structure: p = 0.91`` and how many connections that is about."""
        right = f"n = {group.n:,} since {text.instant(group.since_ns)}"
        p = "" if group.p_value is None else p_words(group.p_value)
        if group.word == "structural":
            words, token = ": ".join(part for part in ("structural", group.why or p) if part), "late"
            if group.why and p:
                words += f", {p}"
        elif group.word:
            words, token = f"luck, not structure{': ' if p else ''}{p}", "dim"
        else:
            words, token = group.why or "too few to say", "dim"
        if at + len(words) + len(right) + 4 > width:
            at = 3
        lines = wrap_words(words, max(12, width - at - len(right) - 4))
        first = Row().put(at, lines[0], token).right(width - 1, right, "dim")
        return [first] + [Row().put(at, line, token) for line in lines[1:]]

    def copy_text(self) -> tuple[str, str]:
        """What `y` copies: the page as text."""
        return "\n".join(row.text for row in self.build(100, 0)), "shares"


def p_words(p: float) -> str:
    """``p = 0.91``, ``p = 0.0031``, ``p < 0.0001``."""
    if p < 1e-4:
        return "p < 0.0001"
    return f"p = {p:.2f}" if p >= 0.095 else f"p = {p:.2g}"
