"""One ledger row, or the axis, as a line of cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len

from kflab.lab.snapshot import BIN_NS, Candidate, Knower, Mark, Series, Snapshot
from kflab.manifest.objects import Key
from kflab.tui.cells import CellLine
from kflab.tui.glyphs import UNICODE, Glyphs, of_state, state_token, to_ascii
from kflab.tui.ledger_grid import CONTEXT_CELL_BINS, CONTEXT_CELLS, Grid
from kflab.tui.ledger_rows import (
    GOOD_STATES,
    LedgerRow,
    RowKind,
    address_of,
    band_name,
    outside,
    slowest_caller,
)
from kflab.tui.lens import Lens, changes
from kflab.tui.sparks import context, level, window
from kflab.tui.status_line import short_names
from kflab.tui.text import after, fit, fit_words, instant, plural, rate, safe, share, shorten

GLYPH_STRIP = 17
"""Up to so many pods have a glyph each in a folded row."""

_STATE_INKS = {"traffic": "dim", "late": "late", "lost": "lost", "dim": "dim", "faint": "faint"}

_LOSING = ("crash", "delete", "apply")
"""Kinds of change whose gap is tinted: callers may still be sent to what is no longer there."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures on show; they change at most four times a second."""

    rates: Mapping[str, float] = field(default_factory=dict)
    """Band id → requests/s."""
    shares: Mapping[tuple[str, Key], float | None] = field(default_factory=dict)
    """(band id, candidate) → observed share."""
    outside: Mapping[tuple[str, Key], int] = field(default_factory=dict)
    """(band id, candidate) → 1 above, -1 below its band for a while now."""
    failed_rps: float = 0.0


@dataclass(slots=True)
class Paint:
    """Everything the rows of one frame share."""

    snapshot: Snapshot
    grid: Grid
    lens: Lens
    glyphs: Glyphs
    figures: Figures
    scales: Mapping[str, float]
    """Spark scale by name: band id for the head, band id + "|" for its candidates, "failed"."""
    plain: bool = False
    """NO_COLOR: refused cells are × instead of red blocks."""
    selected: str = ""
    flashing: frozenset[Key] = frozenset()
    hops: Mapping[str, int] = field(default_factory=dict)
    """Row id → hop number of the open request."""
    open_ns: int | None = None
    """Instant of the open request."""
    captured: Mapping[str, tuple[Series, int]] = field(default_factory=dict)
    """Row id → (series, its first bin), where the caught change has left the snapshot's series."""
    change: Mark | None = None
    """The change the lens is caught on."""
    moved_ns: int | None = None
    knowledge_ns: int | None = None
    """When the change happened that the who-knows rows are about."""

    @property
    def gap(self) -> tuple[int, int] | None:
        """Columns (start, end) of the tint, in the line."""
        if self.change is None or self.grid.lens is None or self.change.kind not in _LOSING:
            return None
        if self.lens.caught is None or self.knowledge_ns != self.change.t_ns:
            return None
        start = self.grid.lens + self.lens.before + 1
        if self.moved_ns is not None:
            column = self.lens.column(self.moved_ns // BIN_NS)
            end = self.grid.lens + (column if column is not None else self.lens.cells)
        elif all(knower.in_step for knower in self.snapshot.knowledge.knowers):
            return None
        else:
            end = self.grid.lens + min(self.lens.cells, self.lens.before + 1 + self.lens.now - self.lens.caught)
        return (start, max(start, end))

    @property
    def change_column(self) -> int | None:
        """Column of ✖ in the line."""
        if self.lens.caught is None or self.grid.lens is None:
            return None
        return self.grid.lens + self.lens.before


def paint_row(row: LedgerRow, spine: str, paint: Paint) -> CellLine:
    """Draw a row.

    Args:
        row: Which.
        spine: Its spine glyph and ink: a glyph, or glyph + "!" where the path is lit.
        paint: What all rows share.
    """
    line = CellLine(paint.grid.width)
    gap = paint.gap
    if gap is not None:
        line.ground(*gap, "gap")
    if row.id == paint.selected:
        line.ground(0, paint.grid.figure, "sel")
    _DRAW[row.kind](row, line, paint)
    column = paint.change_column
    if column is not None and paint.change is not None:
        line.put(column, paint.glyphs.line, "lost" if paint.change.kind in ("crash", "delete") else "late")
    lit = spine.endswith("!")
    if spine:
        line.put(1, spine.rstrip("!"), "strong" if lit else "spine", bold=lit)
    hop = paint.hops.get(row.id)
    if hop is not None:
        line.put(0, str(hop) if hop < 10 else "+", "strong", bold=True)
    elif row.id == paint.selected:
        line.put(0, paint.glyphs.selected, "strong", bold=True)
    return line


def _sentence(text: str, glyphs: Glyphs) -> str:
    text = safe(text)
    return text if glyphs is UNICODE else to_ascii(text)


def _head(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    band = row.band
    if band is None:
        return
    grid = paint.grid
    chosen = row.id == paint.selected
    x = line.put(grid.GLYPH, band.title, "strong", bold=True)
    figure = band.figure or rate(paint.figures.rates.get(band.id, band.rate_rps))
    room = grid.figure - cell_len(figure) - 1 - (x + 2)
    detail = _sentence(band.detail, paint.glyphs)
    if grid.short or cell_len(detail) > room:
        detail = _sentence(band.short or band.detail, paint.glyphs)
    line.put(x + 2, fit_words(detail, room, paint.glyphs.ellipsis), "text" if chosen else "dim")
    line.right(grid.figure, _sentence(figure, paint.glyphs), "dim" if band.figure else "strong")
    if band.series is not None:
        _spark(line, paint, row.id, band.series, band.id, head=True)
    else:
        _note(line, paint, band.note)


def _failed(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    failures = paint.snapshot.failures
    now = paint.figures.failed_rps
    token = "lost" if now > 0 else "dim"
    line.put(paint.grid.GLYPH, paint.glyphs.crashed if now > 0 else paint.glyphs.dot, token)
    line.put(paint.grid.NAME, "failed", token)
    figure = rate(now)
    line.right(paint.grid.figure, figure, token)
    room = paint.grid.figure - cell_len(figure) - 1 - paint.grid.state
    text = _sentence(failures.text, paint.glyphs)
    if cell_len(text) > room:
        text = plural(failures.since_event, "request") if failures.since_event else ""
    line.put(paint.grid.state, fit(text, room, paint.glyphs.ellipsis), token)
    _spark(line, paint, row.id, failures.series, "failed", failed=True)


def _candidate(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    candidate, band = row.candidate, row.band
    if candidate is None or band is None:
        return
    grid, glyphs = paint.grid, paint.glyphs
    indent = 2 if row.nested else 0
    if row.nested:
        line.put(grid.GLYPH, glyphs.spine_last if row.last else glyphs.spine_tap, "spine")
    out = candidate.state in ("unhealthy", "pending", "gone", "succeeded")
    chosen = row.id == paint.selected or row.id in paint.hops
    line.put(grid.GLYPH + indent, of_state(glyphs, candidate.state), state_token(candidate.state))
    name = shorten(candidate.name, grid.name_end - grid.NAME - indent, glyphs.ellipsis)
    ink = "strong" if chosen else "dim" if out else "text"
    line.put(grid.NAME + indent, name, ink, bold=chosen)
    _state(line, paint, candidate, band.kind)
    observed = paint.figures.shares.get((band.id, candidate.key), candidate.share)
    figure = share(observed)
    if grid.address is not None:
        _address(line, paint, candidate.address, figure, "strong" if chosen else "dim" if out else "text")
    if grid.node is not None:
        room = (grid.bar or grid.figure - 8) - grid.node - 1
        line.put(grid.node, shorten(candidate.node, room, glyphs.ellipsis), "dim")
    _bar(line, paint, candidate, len(band.candidates), observed)
    token = "lost" if candidate.failing else "faint" if not observed else "text"
    line.right(grid.figure, figure, token)
    side = paint.figures.outside.get((band.id, candidate.key), 0)
    if side:
        line.put(grid.figure, glyphs.above if side > 0 else glyphs.below, "late")
    if candidate.series is not None:
        _spark(line, paint, row.id, candidate.series, band.id + "|")
    else:
        _note(line, paint, candidate.note)


def _address(line: CellLine, paint: Paint, address: str, figure: str, ink: str) -> None:
    """An address is never cut where that can be helped: a long one begins further left."""
    grid = paint.grid
    column = grid.address or 0
    end = (grid.node if grid.node is not None else grid.figure - cell_len(figure)) - 1
    start = min(column, max(grid.state + 6, end - cell_len(address)))
    line.put(start, shorten(address, end - start, paint.glyphs.ellipsis), ink)


def _state(line: CellLine, paint: Paint, candidate: Candidate, kind: str) -> None:
    """The state word, with restarts behind it; bold for a second after it changed."""
    grid = paint.grid
    token = _STATE_INKS[state_token(candidate.state)]
    flash = candidate.key in paint.flashing
    x = line.put(grid.state, candidate.state, token, bold=flash)
    if candidate.restarts and kind != "lb":
        word = f"{'r' if paint.glyphs is not UNICODE else '↻'}{candidate.restarts}"
        end = (grid.address or grid.figure) - 1
        if x + 1 + len(word) <= end:
            line.put(x + 1, word, "dim")


def _bar(line: CellLine, paint: Paint, candidate: Candidate, places: int, observed: float | None) -> None:
    """Full width is 1.6 ÷ places, so equal shares end at 5/8; the tick stands at the expected share."""
    grid, glyphs = paint.grid, paint.glyphs
    if grid.bar is None:
        return
    cells = grid.bar_cells
    scale = cells * max(1, places) / 1.6
    value = observed or 0.0
    single = candidate.expected is not None and candidate.expected >= 1
    halves = cells * 2 if single and value > 0 else max(0, min(cells * 2, round(value * scale * 2)))
    if value > 0 and halves == 0:
        halves = 1
    line.put(grid.bar, glyphs.empty * cells, "rule")
    ink = "lost" if candidate.failing else "traffic"
    line.put(grid.bar, glyphs.bar * (halves // 2) + (glyphs.bar_half if halves % 2 else ""), ink)
    if candidate.expected and not single:
        tick = min(cells - 1, int(candidate.expected * scale + 1e-6))
        reached = halves > tick * 2
        line.put(grid.bar + tick, glyphs.tick_on if reached else glyphs.tick_off, ink if reached else "spine")


def _group(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    """``● 8 nodes   8 healthy  10.0.1.50–57   ●●●●●●●●   12.5 %``."""
    band, members = row.band, row.members
    if band is None or not members:
        return
    grid, glyphs = paint.grid, paint.glyphs
    chosen = row.id == paint.selected or row.id in paint.hops
    good = [member for member in members if member.state in GOOD_STATES]
    worst = next((member for member in members if member.state not in (*GOOD_STATES, "unhealthy")), None)
    line.put(
        grid.GLYPH,
        of_state(glyphs, worst.state if worst else members[0].state if not good else "ready"),
        state_token(worst.state) if worst else "traffic" if good else "dim",
    )
    noun = "node" if members[0].key.kind == "Node" else "pod"
    line.put(grid.NAME, plural(len(members), noun), "strong" if chosen else "text", bold=chosen)
    _counted_state(line, paint, members)
    nodes = {member.node for member in members if member.node}
    where = f"on {plural(len(nodes), 'node')}" if nodes else address_range([member.address for member in members])
    expected = [member.expected for member in members if member.expected]
    figure = share(expected[0]) if expected and max(expected) - min(expected) < 1e-6 else ""
    _strip_of_states(line, paint, members, where, figure)
    line.right(grid.figure, figure, "text")
    total = sum_series([member.series for member in members if member.series is not None])
    if total is not None:
        _spark(line, paint, row.id, total, band.id, head=True)
    else:
        _note(line, paint, members[0].note)


def _fold(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    """A Service in one row: ``▸ frontend  16 ready  10.96.12.8  ●●●…  600/s``."""
    band = row.band
    if band is None:
        return
    grid, glyphs = paint.grid, paint.glyphs
    chosen = row.id == paint.selected or row.id in paint.hops
    odd = row.unfolded
    line.put(grid.GLYPH, glyphs.unfolded if odd else glyphs.folded, "late" if odd else "dim")
    name = shorten(band_name(band), grid.name_end - grid.NAME, glyphs.ellipsis)
    line.put(grid.NAME, name, "strong" if chosen or odd else "text", bold=chosen or odd)
    if row.members:
        _counted_state(line, paint, row.members)
    else:
        line.put(grid.state, "no pods", "late")
    figure = rate(paint.figures.rates.get(band.id, band.rate_rps))
    _strip_of_states(line, paint, row.members, address_of(band), figure)
    line.right(grid.figure, figure, "text")
    if band.series is not None:
        _spark(line, paint, row.id, band.series, "folded", head=True)
    else:
        _note(line, paint, band.note)


def _counted_state(line: CellLine, paint: Paint, members: Sequence[Candidate]) -> None:
    """``16 ready``; where not all are alike ``9 of 10`` in the colour of waiting."""
    good = sum(member.state in GOOD_STATES for member in members)
    flash = any(member.key in paint.flashing for member in members)
    states = {member.state for member in members}
    if len(states) == 1:
        state = next(iter(states))
        line.put(paint.grid.state, f"{len(members):,} {state}"[:12], _STATE_INKS[state_token(state)], bold=flash)
    else:
        nodes = members[0].key.kind == "Node"
        line.put(paint.grid.state, f"{good:,} of {len(members):,}", "dim" if nodes else "late", bold=flash)


def _strip_of_states(line: CellLine, paint: Paint, members: Sequence[Candidate], where: str, figure: str) -> None:
    """The address, and one glyph per pod in placement order, or counts of states where there are too many."""
    grid, glyphs = paint.grid, paint.glyphs
    if grid.address is not None:
        _address(line, paint, where, figure, "text")
    if grid.node is None:
        return
    room = min(GLYPH_STRIP, grid.figure - 7 - grid.node)
    if len(members) <= room:
        for i, member in enumerate(members):
            side = outside(member) if member.state in GOOD_STATES else 0
            if side:
                line.put(grid.node + i, glyphs.above if side > 0 else glyphs.below, "late")
            else:
                line.put(grid.node + i, of_state(glyphs, member.state), state_token(member.state))
        return
    counts: dict[str, int] = {}
    for member in members:
        counts[member.state] = counts.get(member.state, 0) + 1
    x = grid.node
    for state, count in sorted(counts.items(), key=lambda pair: (pair[0] not in GOOD_STATES, -pair[1])):
        text = f"{of_state(glyphs, state)}{count:,}"
        if x + cell_len(text) > grid.figure - 7:
            line.put(x, glyphs.ellipsis, "dim")
            break
        x = line.put(x, text, state_token(state)) + 1


def address_range(addresses: Sequence[str]) -> str:
    """``10.0.1.50–57`` for a run of IPv4 addresses in one /24, else the first and how many more."""
    parts = [address.rpartition(".") for address in addresses]
    if not parts:
        return ""
    prefixes = {head for head, _, _ in parts}
    if len(prefixes) == 1 and all(last.isdigit() for _, _, last in parts):
        numbers = sorted(int(last) for _, _, last in parts)
        if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
            return f"{parts[0][0]}.{numbers[0]}–{numbers[-1]}"
    return addresses[0] if len(addresses) == 1 else f"{addresses[0]} +{len(addresses) - 1}"


def _more(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    grid = paint.grid
    x = grid.GLYPH
    if row.nested:
        line.put(x, paint.glyphs.spine_last if row.last else paint.glyphs.spine_tap, "spine")
        x += 2
    ink = "strong" if row.id == paint.selected else "faint"
    end = line.put(x, fit(row.text, grid.figure - x, paint.glyphs.ellipsis), ink)
    at = max(end + 2, grid.node or 0)
    if at + 16 <= grid.figure:
        line.put(at, "enter lists them", "faint")
    _refused(row, line, paint)


def _services(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    line.put(paint.grid.GLYPH, paint.glyphs.folded, "dim")
    ink = "strong" if row.id == paint.selected else "dim"
    line.put(paint.grid.NAME, fit(_sentence(row.text, paint.glyphs), paint.grid.figure - 5, paint.glyphs.ellipsis), ink)


def _words(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    """Connector rows: NGINX's route, what was refused and saved, nothing."""
    ink = "strong" if row.id == paint.selected else "dim" if row.kind is RowKind.FOOTER else "faint"
    end = paint.grid.context or paint.grid.lens or paint.grid.width
    text = short_names(_sentence(row.text, paint.glyphs), 16, paint.glyphs.ellipsis)
    line.put(paint.grid.GLYPH, fit(text, end - paint.grid.GLYPH - 1, paint.glyphs.ellipsis), ink)
    _refused(row, line, paint)


def _refused(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    gap = paint.gap
    if not row.refused or gap is None:
        return
    text = safe(row.refused)
    at = gap[1] + 1
    if at + cell_len(text) > paint.grid.width:
        at = paint.grid.width - cell_len(text)
    line.put(at, text, "lost")


def _knows(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    knowledge, grid = paint.snapshot.knowledge, paint.grid
    x = line.put(grid.GLYPH, "who knows", "strong", bold=True)
    known, count = knowledge.known, len(knowledge.knowers)
    figure = f"{known} of {count}"
    room = grid.figure - cell_len(figure) - 1 - x - 2
    what = _sentence(knowledge.what, paint.glyphs)
    if not what:
        what = "every observer acts on a revision of the past"
        if cell_len(what) > room:
            what = "on which revision it acts"
    elif grid.short and knowledge.subject is not None:
        tail = knowledge.subject.name.rpartition("-")[2]
        what = what.removeprefix("that ").replace(knowledge.subject.name, tail).split(" · ")[0]
    else:
        what = short_names(what, 16, paint.glyphs.ellipsis)
    line.put(x + 2, fit(what, room, paint.glyphs.ellipsis), "dim")
    token = "late" if known < count else "known" if knowledge.t_ns is not None else "dim"
    line.right(grid.figure, figure, token)


def _knower(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    knower = row.knower
    if knower is None:
        return
    grid, glyphs = paint.grid, paint.glyphs
    chosen = row.id == paint.selected
    _knows_glyph(line, paint, knower.in_step)
    name = shorten_observer(knower.name, grid.name_end - grid.NAME, glyphs.ellipsis)
    line.put(grid.NAME, name, "strong" if chosen else "text", bold=chosen)
    word = "stopped" if not knower.running else "in step" if knower.in_step else "stale"
    line.put(grid.state, word, "dim" if word == "in step" else "late")
    if grid.address is not None:
        line.put(grid.address, fit(safe(knower.revision), 15, glyphs.ellipsis), "dim")
    if grid.node is not None:
        line.put(grid.node, fit(safe(knower.callers), grid.figure - 9 - grid.node, glyphs.ellipsis), "faint")
    since = paint.knowledge_ns
    if not knower.in_step:
        line.right(grid.figure, "not yet", "late")
    elif knower.learned_ns is not None and since is not None:
        line.right(grid.figure, after(knower.learned_ns - since), "known")
    _learning(line, paint, [knower], knower.word, heavy=knower.callers.startswith("callers"))


def shorten_observer(name: str, width: int, ellipsis: str) -> str:
    """``node-b kubelet`` keeps its last word whole: ``ip-10-…-eu rules``."""
    who, space, what = name.rpartition(" ")
    if not space or cell_len(name) <= width:
        return shorten(name, width, ellipsis)
    return f"{shorten(who, max(1, width - len(what) - 1), ellipsis)} {what}"


def _strip(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    """``◆ 8 nodes' rules  in step  rev 318  ◆◆◆◆◆◆◆◆ 3 call  +0.97 s``."""
    grid, glyphs, knowers = paint.grid, paint.glyphs, row.knowers
    known = sum(knower.in_step for knower in knowers)
    every = known == len(knowers)
    chosen = row.id == paint.selected
    _knows_glyph(line, paint, every)
    line.put(grid.NAME, f"{len(knowers):,} nodes' rules", "strong" if chosen else "text", bold=chosen)
    line.put(grid.state, "in step" if every else f"{known:,} of {len(knowers):,}", "dim" if every else "late")
    revisions = list(dict.fromkeys(knower.revision for knower in knowers))
    if grid.address is not None:
        text = revisions[0] if len(revisions) == 1 else f"{revisions[0]} +{len(revisions) - 1}"
        line.put(grid.address, fit(text, 15, glyphs.ellipsis), "dim")
    callers = sum(knower.callers.startswith("callers") for knower in knowers)
    if grid.node is not None:
        x = grid.node
        words = f"{callers:,} call"
        if len(knowers) <= grid.figure - 8 - grid.node - len(words) - 1:
            for knower in knowers:
                x = line.put(x, glyphs.knows if knower.in_step else glyphs.stale, "known" if knower.in_step else "late")
            x += 1
        line.put(x, words, "faint")
    slowest = slowest_caller(knowers)
    since = paint.knowledge_ns
    if not every and (slowest is None or not slowest.in_step):
        line.right(grid.figure, "not yet", "late")
    elif since is not None:
        learned = [knower.learned_ns for knower in knowers if knower.learned_ns is not None]
        last = slowest.learned_ns if slowest is not None and slowest.learned_ns is not None else max(learned, default=0)
        if last:
            line.right(grid.figure, after(last - since), "known")
    _learning(line, paint, knowers, f"{known:,} of {len(knowers):,}", heavy=bool(callers))


def _knows_glyph(line: CellLine, paint: Paint, in_step: bool) -> None:
    glyphs = paint.glyphs
    line.put(paint.grid.GLYPH, glyphs.knows if in_step else glyphs.stale, "known" if in_step else "late")


def _learning(line: CellLine, paint: Paint, knowers: Sequence[Knower], word: str, heavy: bool) -> None:
    """The lens of an observer: quiet before the change, dashed while it acts on the past, ◆ where it learned."""
    grid, glyphs, lens = paint.grid, paint.glyphs, paint.lens
    if grid.lens is None:
        return
    since = paint.knowledge_ns
    change = since // BIN_NS if since is not None else None
    bins = [knower.learned_ns // BIN_NS for knower in knowers if knower.learned_ns is not None]
    behind = any(not knower.in_step for knower in knowers)
    concerned = change is not None and bool(bins or behind)
    last = lens.now if behind else max(bins, default=-1)
    end = None
    for column in range(lens.cells):
        b = lens.bin_at(column)
        x = grid.lens + column
        if b is None:
            continue
        if concerned and change is not None and b >= change and not (lens.caught is not None and lens.caught > change):
            if b in bins and (b < lens.now or b == lens.now):
                line.put(x, glyphs.knows, "known")
                end = x
            elif b < last:
                line.put(x, glyphs.past_heavy if heavy else glyphs.past, "late")
                end = x
            elif lens.caught is None and b < lens.now:
                line.put(x, glyphs.empty, "rule")
        elif b < lens.now and not (concerned and lens.caught is not None and column > lens.before):
            line.put(x, glyphs.empty, "rule")
    if concerned and word:
        at = (end if end is not None else grid.lens + lens.before) + 2
        _after(line, paint, at, safe(word), "late" if behind else "known")


def _after(line: CellLine, paint: Paint, at: int, text: str, ink: str) -> None:
    """Words behind what is drawn in the lens; where not all fit the last one says it, or none does."""
    for words in (text, text.rpartition(" ")[2] if ink == "known" else text):
        if at > 0 and at + cell_len(words) <= paint.grid.width:
            line.put(at, words, ink)
            return


def _note(line: CellLine, paint: Paint, note: str) -> None:
    """Why a sparkline is empty."""
    grid = paint.grid
    text = _sentence(note, paint.glyphs)
    if not text:
        return
    if grid.context is not None:
        line.put(grid.context, fit(text, CONTEXT_CELLS, paint.glyphs.ellipsis), "faint")
    elif grid.lens is not None:
        at = grid.lens + grid.before + 1
        line.put(at, fit(text, grid.width - at, paint.glyphs.ellipsis), "faint")


def _spark(
    line: CellLine,
    paint: Paint,
    row_id: str,
    series: Series,
    scale_name: str,
    *,
    head: bool = False,
    failed: bool = False,
) -> None:
    """The context column and the lens of one series."""
    grid, glyphs, snapshot = paint.grid, paint.glyphs, paint.snapshot
    scale = paint.scales.get(scale_name, 1.0)
    blocks = glyphs.blocks
    if grid.context is not None:
        for i, (ok, bad) in enumerate(context(series, snapshot.first_bin, paint.lens.now, CONTEXT_CELLS)):
            height = level(bad if failed else ok + bad, scale)
            if height:
                _cell(line, paint, grid.context + i, height, "back", failed or (bad > 0 and not head), blocks)
    if grid.lens is None:
        return
    for column, start, count in paint.lens.spans():
        first = snapshot.first_bin
        source = series
        if start < first and row_id in paint.captured:
            source, first = paint.captured[row_id]
        oks, bads, skip = window(source, first, start, count)
        for i, (ok_n, bad_n) in enumerate(zip(oks, bads, strict=True)):
            total = bad_n if failed else ok_n + bad_n
            if total:
                red = failed or (bad_n > 0 and (not head or ok_n == 0))
                _cell(line, paint, grid.lens + column + skip + i, level(total, scale), "wave", red, blocks)


def _cell(line: CellLine, paint: Paint, x: int, height: int, ink: str, red: bool, blocks: str) -> None:
    if red and paint.plain:
        line.put(x, paint.glyphs.refused, "lost")
    else:
        line.put(x, blocks[height - 1], "lost" if red else ink)


def sum_series(series: Sequence[Series]) -> Series | None:
    """The sum of several series."""
    if not series:
        return None
    ok, bad = series[0].ok.copy(), series[0].bad.copy()
    for one in series[1:]:
        ok += one.ok
        bad += one.bad
    return Series(ok, bad)


_DRAW = {
    RowKind.HEAD: _head,
    RowKind.FAILED: _failed,
    RowKind.CANDIDATE: _candidate,
    RowKind.GROUP: _group,
    RowKind.ROUTE: _words,
    RowKind.BLANK: _words,
    RowKind.FOOTER: _words,
    RowKind.FOLD: _fold,
    RowKind.MORE: _more,
    RowKind.SERVICES: _services,
    RowKind.KNOWS: _knows,
    RowKind.KNOWER: _knower,
    RowKind.STRIP: _strip,
}


def paint_axis(paint: Paint, hidden: tuple[int, int] = (0, 0)) -> CellLine:
    """The one axis of all rows: column heads, then time.

    Args:
        paint: What all rows share.
        hidden: Rows out of sight above and below, said here.
    """
    grid, glyphs = paint.grid, paint.glyphs
    line = CellLine(grid.width)
    line.put(grid.NAME, "who chooses, among whom" if grid.state - grid.NAME > 23 else "who chooses", "faint")
    above, below = hidden
    if above or below:
        parts = ([f"{glyphs.more_up} {above}"] if above else []) + ([f"{glyphs.more_down} {below}"] if below else [])
        line.put(grid.NAME, " ".join(" " * 24), "faint")
        line.put(grid.NAME, f"{' '.join(parts)} more", "late")
    line.put(grid.state, "state", "faint")
    if grid.address is not None:
        line.put(grid.address, "address", "faint")
    if grid.node is not None:
        line.put(grid.node, "node", "faint")
    if grid.bar is not None:
        line.put(grid.bar, f"share {glyphs.tick_head}", "faint")
    line.right(grid.figure, "rate, %" if grid.width >= 92 else "rate", "faint")
    if grid.context is not None:
        line.put(grid.context, "-30 s", "faint")
        for mark in changes(paint.snapshot.marks):
            cell = CONTEXT_CELLS - (paint.lens.now // CONTEXT_CELL_BINS - mark.t_ns // BIN_NS // CONTEXT_CELL_BINS)
            if 5 < cell <= CONTEXT_CELLS:
                line.put(grid.context + min(CONTEXT_CELLS - 1, cell), glyphs.tick_down, _mark_ink(mark))
    if grid.lens is not None:
        _lens_axis(line, paint)
    return line


def _mark_ink(mark: Mark) -> str:
    return "lost" if mark.kind in ("crash", "delete") else "known" if mark.kind == "moved" else "late"


def _lens_axis(line: CellLine, paint: Paint) -> None:
    grid, glyphs, lens = paint.grid, paint.glyphs, paint.lens
    start = grid.lens or 0
    taken = [False] * grid.width

    def place(x: int, text: str, ink: str, bold: bool = False) -> None:
        width = cell_len(text)
        if x < start - 2 or x + width > grid.width or any(taken[max(0, x - 1) : x + width + 1]):
            return
        line.put(x, text, ink, bold)
        taken[x : x + width] = [True] * width

    change = paint.change
    if lens.caught is not None and change is not None:
        column = start + lens.before
        glyph = glyphs.crashed if change.kind in ("crash", "delete") else glyphs.stale
        line.put(column, glyph, _mark_ink(change), bold=True)
        taken[column] = True
        label = instant(change.t_ns, 2 if lens.before >= 6 else 1)
        line.right(column - 1, label, _mark_ink(change))
        taken[column - 1 - len(label) : column] = [True] * (len(label) + 1)
    if paint.open_ns is not None:
        column_of_request = lens.column(paint.open_ns // BIN_NS)
        if column_of_request is not None:
            place(start + column_of_request, glyphs.open_mark, "strong", bold=True)
    for mark in paint.snapshot.marks:
        at = lens.column(mark.t_ns // BIN_NS)
        if at is None or (change is not None and mark.t_ns == change.t_ns and mark.kind == change.kind):
            continue
        glyph = {"moved": glyphs.knows, "crash": glyphs.crashed, "delete": glyphs.crashed}.get(mark.kind, glyphs.stale)
        if not taken[start + at]:
            line.put(start + at, glyph, _mark_ink(mark))
            taken[start + at] = True
    now = lens.now_column
    if now is not None:
        place(start + now - 2, "now", "strong", bold=True)
    if lens.caught is not None:
        for second in range(1, lens.cells // 10 + 1):
            x = start + lens.before + 10 * second
            place(x, f"+{second} s", "faint")
        return
    for second in range(1, lens.cells // 10 + 1):
        ago = lens.column(lens.now - 10 * second)
        if ago is not None:
            place(start + ago - 2, f"-{second} s", "faint")
