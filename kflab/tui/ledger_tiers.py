"""Rows of the tiers: heads, candidates, and what stands for many of them."""

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from kflab.lab.snapshot import Band, Candidate
from kflab.tui.cells import CellLine
from kflab.tui.glyphs import UNICODE, of_state, state_token
from kflab.tui.ledger_context import Paint, sentence
from kflab.tui.ledger_rows import GOOD_STATES, LedgerRow, RowKind, address_of, band_name, outside
from kflab.tui.ledger_sparks import draw_note, draw_spark, sum_series
from kflab.tui.status_line import short_names
from kflab.tui.text import fit, fit_words, plural, rate, safe, share, shorten

GLYPH_STRIP = 17
"""Up to so many pods have a glyph each in a folded row."""

_TARGET_PORT = re.compile(r" → :[0-9a-z-]+(?= ·|$)")

_STATE_INKS = {"traffic": "dim", "late": "late", "lost": "lost", "dim": "dim", "faint": "faint"}


def draw_head(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    band = row.band
    if band is None:
        return
    grid = paint.grid
    chosen = row.id == paint.selected
    x = line.put(grid.GLYPH, band.title, "strong", bold=True)
    figure = band.figure or rate(paint.figures.rates.get(band.id, band.rate_rps))
    room = grid.figure - cell_len(figure) - 1 - (x + 2)
    detail = next((words for words in _details(band, grid.short) if cell_len(words) <= room), band.short or band.detail)
    detail = sentence(detail, paint.glyphs)
    line.put(x + 2, fit_words(detail, room, paint.glyphs.ellipsis), "text" if chosen else "dim")
    line.right(grid.figure, sentence(figure, paint.glyphs), "dim" if band.figure else "strong")
    if band.series is not None:
        draw_spark(line, paint, row.id, band.series, band.id, head=True)
    else:
        draw_note(line, paint, band.note)


def _details(band: Band, short: bool) -> Iterator[str]:
    """A head's detail, then with less of what matters least: the target port, the ordinary way to choose."""
    if not short:
        yield band.detail
        without_port = _TARGET_PORT.sub("", band.detail)
        yield without_port
        yield without_port.replace(" · random", "")
    yield band.short or band.detail


def draw_failed(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    failures = paint.snapshot.failures
    now = paint.figures.failed_rps
    token = "lost" if now > 0 else "dim"
    line.put(paint.grid.GLYPH, paint.glyphs.crashed if now > 0 else paint.glyphs.dot, token)
    line.put(paint.grid.NAME, "failed", token)
    figure = rate(now)
    line.right(paint.grid.figure, figure, token)
    room = paint.grid.figure - cell_len(figure) - 1 - paint.grid.state
    text = sentence(failures.text, paint.glyphs)
    if cell_len(text) > room:
        text = plural(failures.since_event, "request") if failures.since_event else ""
    line.put(paint.grid.state, fit(text, room, paint.glyphs.ellipsis), token)
    draw_spark(line, paint, row.id, failures.series, "failed", failed=True)


def draw_sockets(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    """``✖ WebSockets  10,000 cut: NGINX ended its old workers   10,000 open``."""
    sockets = row.sockets
    if sockets is None:
        return
    grid, glyphs = paint.grid, paint.glyphs
    count = sum(number for _, number in sockets.cut)
    token = "lost" if count else "dim"
    line.put(grid.GLYPH, glyphs.crashed if count else glyphs.dot, token)
    line.put(grid.NAME, "WebSockets", token)
    figure = f"{sockets.open:,} open"
    line.right(grid.figure, figure, "dim")
    room = grid.figure - cell_len(figure) - 1 - grid.state
    why = "; ".join(f"{number:,} cut: {reason}" for reason, number in sockets.cut)
    many = len(paint.snapshot.sockets) > 1
    words = (f"{sockets.client}: {why or 'none cut'}", why, f"{count:,} cut") if many else (why, f"{count:,} cut")
    text = next((each for each in words if cell_len(safe(each)) <= room), words[-1]) if count or many else "none cut"
    line.put(grid.state, fit(sentence(text, glyphs), room, glyphs.ellipsis), token)


def draw_candidate(row: LedgerRow, line: CellLine, paint: Paint) -> None:
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
        draw_spark(line, paint, row.id, candidate.series, band.id + "|")
    else:
        draw_note(line, paint, candidate.note)


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
    x = line.put(grid.state, candidate.left or candidate.state, token, bold=flash)
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


def draw_group(row: LedgerRow, line: CellLine, paint: Paint) -> None:
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
    _strip_of_states(line, paint, members, sentence(where, paint.glyphs), figure)
    line.right(grid.figure, figure, "text")
    total = sum_series([member.series for member in members if member.series is not None])
    if total is not None:
        draw_spark(line, paint, row.id, total, band.id, head=True)
    else:
        draw_note(line, paint, members[0].note)


def draw_fold(row: LedgerRow, line: CellLine, paint: Paint) -> None:
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
        draw_spark(line, paint, row.id, band.series, "folded", head=True)
    else:
        draw_note(line, paint, band.note)


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


def draw_more(row: LedgerRow, line: CellLine, paint: Paint) -> None:
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
    draw_refused(row, line, paint)


def draw_services(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    line.put(paint.grid.GLYPH, paint.glyphs.folded, "dim")
    ink = "strong" if row.id == paint.selected else "dim"
    line.put(paint.grid.NAME, fit(sentence(row.text, paint.glyphs), paint.grid.figure - 5, paint.glyphs.ellipsis), ink)


def draw_words(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    """Connector rows: NGINX's route, what was refused and saved, nothing."""
    ink = "strong" if row.id == paint.selected else "dim" if row.kind is RowKind.FOOTER else "faint"
    end = paint.grid.context or paint.grid.lens or paint.grid.width
    text = short_names(sentence(row.text, paint.glyphs), 16, paint.glyphs.ellipsis)
    line.put(paint.grid.GLYPH, fit(text, end - paint.grid.GLYPH - 1, paint.glyphs.ellipsis), ink)
    draw_refused(row, line, paint)


def draw_refused(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    gap = paint.gap
    if not row.refused or gap is None:
        return
    text = safe(row.refused)
    at = gap[1] + 1
    if at + cell_len(text) > paint.grid.width:
        at = paint.grid.width - cell_len(text)
    line.put(at, text, "lost")
