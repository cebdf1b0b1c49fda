"""Terminals too small for a drawing: the worst facts, as lines."""

from textual.strip import Strip

from kflab.lab.snapshot import Candidate, Snapshot
from kflab.tui.glyphs import DOWN, UNICODE, Glyphs, of_state, state_token
from kflab.tui.pane import Pane
from kflab.tui.plan import TINY_COLUMNS, TINY_ROWS
from kflab.tui.row import Row
from kflab.tui.text import fit, number, plural, share, shorten
from kflab.tui.tokens import look

_GOOD = frozenset({"ready", "healthy", "running", "succeeded"})


def fact_rows(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """What is wrong first, then who does not know, then the ordinary; a last line says which size brings more."""
    rows: list[Row] = []
    failures = snapshot.failures
    if failures.rate_rps or failures.since_event:
        text = f"failed {number(failures.rate_rps)}/s, {failures.since_event:,} since the change"
        rows.append(Row().put(1, glyphs.crashed, "lost").put(3, text, "lost"))
    knowledge = snapshot.knowledge
    behind = knowledge.count - knowledge.known
    if behind:
        rows.append(Row().put(1, glyphs.stale, "late").put(3, f"{behind} of {knowledge.count} not in step", "late"))
    candidates = [(band, row) for band in snapshot.bands for row in band.candidates]
    odd = [pair for pair in candidates if pair[1].state not in _GOOD or pair[1].failing]
    odd.sort(key=lambda pair: pair[1].state == "unhealthy")
    rest = [pair for pair in candidates if pair[1].state in _GOOD and not pair[1].failing]
    for _, row in (*odd, *rest):
        rows.append(_candidate(row, width, glyphs))
    room = max(1, height - 1)
    if len(rows) > room:
        hidden = len(rows) - room + 1
        rows = [*rows[: room - 1], Row().put(1, f"{glyphs.more_down} {plural(hidden, 'more row')}", "faint")]
    note = f"{TINY_COLUMNS}{glyphs.times}{TINY_ROWS} brings the drawing"
    return [*rows, Row().put(1, fit(note, width - 2, glyphs.ellipsis), "faint")]


def _candidate(row: Candidate, width: int, glyphs: Glyphs) -> Row:
    figure = share(row.share)
    line = Row().put(1, of_state(glyphs, row.state), state_token(row.state))
    line.put(3, shorten(row.name, max(6, width - 24), glyphs.ellipsis))
    token = "lost" if row.failing or row.state in DOWN else "late" if state_token(row.state) == "late" else "dim"
    line.put(max(line.x + 1, width - 20), row.state, token)
    return line.right(width - 1, figure, "lost" if row.failing else "text")


class FactsView(Pane):
    """Status and the worst facts at 40×10."""

    can_focus = False
    title = "Facts"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.snapshot: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.refresh()

    def render_line(self, y: int) -> Strip:
        if y == 0 and self.snapshot is not None:
            glyphs = getattr(self.app, "glyphs", UNICODE)
            self.rows = fact_rows(self.snapshot, self.size.width, self.size.height, glyphs)
        row = self.rows[y] if y < len(self.rows) else Row()
        return row.strip(look(self.app), self.size.width)
