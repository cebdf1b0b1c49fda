"""How an opened request is printed: its hops, conntrack's part, where the time went, what else was possible."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from rich.cells import cell_len

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.records import dataclass
from kflab.tui import text
from kflab.tui.glyphs import Glyphs, to_ascii
from kflab.tui.row import Row, wrap_words
from kflab.tui.trace_row import PART_TOKENS

NAME = 4
"""Column of the first word; hop numbers stand left of it."""

WHY_ROOM = 26
"""Below this many columns for the reason it moves to a line of its own."""

BAD = frozenset({
    "refused", "timeout", "client timeout", "no route", "reset", "dropped", "rejected", "no such host", "mismatch",
})  # fmt: skip
"""Outcomes of a try that did not go well; a status from 500 on counts too."""


@dataclass(frozen=True, slots=True)
class RequestPage:
    """All lines of an opened request, and which line each hop's number stands on."""

    rows: tuple[Row, ...]
    row_of_hop: dict[int, int]


@dataclass(frozen=True, slots=True)
class _Columns:
    width: int
    source: int
    arrow: int
    destination: int
    chance: int
    why: int
    narrow: bool

    @classmethod
    def of(cls, trace: RequestTrace, width: int) -> "_Columns":
        """Columns as wide as this request's words, in the design's proportions."""
        moved = [hop for hop in trace.hops if hop.number and hop.after]
        where = max([12, *(cell_len(hop.where) for hop in trace.hops if hop.number)])
        sources = [len(hop.after.source) for hop in moved if hop.after and not _same_source(hop)]
        source = max([18, *sources])
        destination = max([17, *(len(hop.after.destination) for hop in moved if hop.after)])
        chance = max([6, *(len(_chance(hop.chance)) for hop in moved)])
        spare = width - (NAME + where + source + destination + chance + 9)
        gap = 3 if spare > WHY_ROOM + 12 else 2
        at_source = NAME + min(where, 26) + (gap - 1)
        arrow = at_source + source + 1
        at_chance = arrow + 2 + destination + gap - 1
        at_why = at_chance + chance + 2
        return cls(width, at_source, arrow, arrow + 2, at_chance, at_why, width - at_why < WHY_ROOM)


def request_page(trace: RequestTrace, width: int, selected: int, glyphs: Glyphs) -> RequestPage:
    """Print a request.

    Args:
        trace: The request.
        width: Cells of the pane.
        selected: Number of the hop under the cursor, 0 for none; its details are printed below.
        glyphs: The glyph set.
    """
    columns = _Columns.of(trace, width)
    rows: list[Row] = [_head(columns)]
    row_of_hop: dict[int, int] = {}
    for index, hop in enumerate(trace.hops):
        if hop.number:
            row_of_hop[hop.number] = len(rows)
            rows += _hop_rows(hop, _failed(trace.hops, index), columns, glyphs, hop.number == selected)
            rows += _caller_rows(hop, columns, glyphs) if hop.number == selected else []
        else:
            rows += _remark_rows(hop, columns, glyphs)
    rows += _conntrack_rows(trace, columns, glyphs)
    rows += _time_rows(trace, columns, glyphs)
    rows += _possible_rows(trace, columns, glyphs)
    chosen = next((hop for hop in trace.hops if hop.number == selected and selected), None)
    if chosen is not None:
        rows += _detail_rows(chosen, columns, glyphs)
    return RequestPage(tuple(rows), row_of_hop)


def title_words(trace: RequestTrace, glyphs: Glyphs, width: int = 120) -> str:
    """What stands in the pane's title: ``GET https://… · 200 · 2 tries · 4.1 ms · at 12.53 s``.

    Where that does not fit into `width` the URL's scheme and host go first.
    """
    words = _title(trace, trace.url, glyphs)
    path = trace.url.partition("://")[2]
    return words if cell_len(words) <= width else _title(trace, "/" + path.partition("/")[2], glyphs)


def _title(trace: RequestTrace, url: str, glyphs: Glyphs) -> str:
    parts = [f"{trace.method} {url}", trace.status]
    if trace.tries > 1:
        parts.append(text.plural(trace.tries, "try", "tries"))
    parts.append(f"{text.ms(trace.latency_ns)} ms" if trace.latency_ns is not None else "in flight")
    parts.append(f"at {text.instant(trace.t_start_ns)} s")
    return text.safe(f" {glyphs.dot} ".join(parts))


def _head(columns: _Columns) -> Row:
    row = Row().put(NAME, "who moved it", "faint").put(columns.source, "source", "faint")
    row.put(columns.destination, "destination", "faint").put(columns.chance, "chance", "faint")
    return row if columns.narrow else row.put(columns.why, "why, and by which rule", "faint")


def _hop_rows(hop: Hop, failed: bool, columns: _Columns, glyphs: Glyphs, selected: bool) -> list[Row]:
    """One numbered hop: one line, or with its reason below where the pane is narrow."""
    ground = "sel" if selected else "bg"
    row = Row(ground)
    if selected:
        row.put(0, glyphs.selected, "strong")
    row.put(1, str(hop.number), "strong" if selected else "dim", bold=selected)
    row.put(NAME, text.fit(text.safe(hop.where), columns.source - NAME - 1, glyphs.ellipsis), "text", bold=selected)
    if hop.after is not None:
        if _same_source(hop):
            row.put(columns.source + 2, "same", "faint")
        else:
            row.put(columns.source, hop.after.source, "text")
        row.put(columns.arrow, glyphs.arrow, "dim")
        if _same_destination(hop):
            row.put(columns.destination + 2, "same", "faint")
        else:
            row.put(columns.destination, hop.after.destination, "lost" if failed else "strong")
        row.put(columns.chance, _chance(hop.chance), "dim")
    why = _words(hop.why, glyphs)
    if not columns.narrow:
        room = columns.width - columns.why - 1
        lines = wrap_words(why, room) if selected else [one_line(why, room, glyphs)]
        rows = [row.put(columns.why, lines[0], "dim")]
        return rows + [Row(ground).put(columns.why, line, "dim") for line in lines[1:]]
    return [row] + [
        Row(ground).put(NAME + 2, line, "dim") for line in wrap_words(why, columns.width - NAME - 3) if line
    ]


def _caller_rows(hop: Hop, columns: _Columns, glyphs: Glyphs) -> list[Row]:
    """Under the hop that the cursor is on: who its receiver thinks is calling."""
    at = NAME + 2
    lines = wrap_words(_words(hop.seen, glyphs), columns.width - at - 1) if hop.seen else []
    return [Row("sel").put(at, line, "text") for line in lines]


def one_line(why: str, room: int, glyphs: Glyphs) -> str:
    """As many whole clauses of a reason as fit, and a sign; the hop under the cursor is printed whole."""
    why = text.safe(why)
    if cell_len(why) > room:
        # The way into the node ports is always through KUBE-SERVICES.
        why = why.replace(f"KUBE-SERVICES {glyphs.arrow} NODEPORTS", f"{glyphs.ellipsis}NODEPORTS")
    while cell_len(why) > room and "; " in why:
        why = why.rpartition("; ")[0].removesuffix(f" {glyphs.ellipsis}") + f" {glyphs.ellipsis}"
    return text.fit(why, room, glyphs.ellipsis)


def _remark_rows(hop: Hop, columns: _Columns, glyphs: Glyphs) -> list[Row]:
    """A sentence between hops: red for a try that failed, quiet otherwise."""
    bad = hop.outcome in BAD or hop.outcome[:1] == "5"
    token = "lost" if bad else "dim"
    sign = f"{glyphs.crashed} " if bad else ""
    at = columns.source
    lines = wrap_words(sign + _words(hop.why, glyphs), columns.width - at - 1)
    where = text.fit(text.safe(hop.where), at - NAME - 1, glyphs.ellipsis)
    rows = [Row().put(NAME, where, token).put(at, lines[0], token, bold=bad)]
    return rows + [Row().put(at + (2 if bad else 0), line, token, bold=bad) for line in lines[1:]]


def _failed(hops: Sequence[Hop], index: int) -> bool:
    """Whether the try that this hop sent on its way failed right after it."""
    if hops[index].outcome in BAD:
        return True
    after = hops[index + 1] if index + 1 < len(hops) else None
    return after is not None and not after.number and after.outcome in BAD


def _same_source(hop: Hop) -> bool:
    return hop.before is not None and hop.after is not None and hop.before.source == hop.after.source


def _same_destination(hop: Hop) -> bool:
    """Whether only the source was rewritten (SNAT). A proxy's new connection is printed in full."""
    if "kernel" not in hop.mover or hop.before is None or hop.after is None:
        return False
    return hop.before.destination == hop.after.destination and hop.before.source != hop.after.source


def _conntrack_rows(trace: RequestTrace, columns: _Columns, glyphs: Glyphs) -> list[Row]:
    """How the answer gets back, and who wrote the rules."""
    undone = [
        hop.number
        for index, hop in enumerate(trace.hops)
        if hop.number and "kernel" in hop.mover and _rewrites(hop) and not _failed(trace.hops, index)
    ]
    row = Row()
    first = next((hop.after for hop in trace.hops if hop.after is not None), None)
    if trace.back and undone and first is not None:
        words = f"conntrack undoes {numbers(reversed(undone))}: the client sees {first.destination}"
        row.put(1, glyphs.back, "known").put(NAME, words, "dim")
    elif trace.back:
        row.put(1, glyphs.back, "known").put(NAME, _words(trace.back[-1].why, glyphs) or "back the same way", "dim")
    writers = _writers(trace)
    if not row.x and not writers:
        return []
    rows = [row] if row.x else []
    for words in writers:
        if rows and rows[-1] is row and row.x + cell_len(words) + 4 <= columns.width:
            row.right(columns.width - 1, words, "faint")
        else:
            rows += [Row().put(NAME, line, "faint") for line in wrap_words(words, columns.width - NAME - 1)]
    return rows


def _rewrites(hop: Hop) -> bool:
    return hop.before is not None and hop.after is not None and hop.before != hop.after


def _writers(trace: RequestTrace) -> list[str]:
    """Who wrote the node's rules, each writer once with the hops it decided."""
    hops_of: dict[str, list[int]] = {}
    for hop in trace.hops:
        if hop.number and hop.writer and "kernel" in hop.mover:
            hops_of.setdefault(text.safe(hop.writer), []).append(hop.number)
    return [f"{numbers(of)}: {writer}" for writer, of in hops_of.items()]


def _time_rows(trace: RequestTrace, columns: _Columns, glyphs: Glyphs) -> list[Row]:
    """The latency as one bar with its legend."""
    if trace.latency_ns is None:
        return [] if trace.status else [Row().put(NAME, "still in flight", "late")]
    parts = [(name, ns) for name, ns in trace.parts if ns > 0]
    figure = f"{text.ms(trace.latency_ns)} ms"
    row = Row().put(NAME, figure, "strong", bold=True)
    if not parts:
        return [row]
    legend = [(name, f" {_part_name(name)} {text.ms(ns)}") for name, ns in parts]
    legend_width = sum(cell_len(words) + 3 for _, words in legend)
    at = max(NAME + 8, row.x + 2)
    beside = columns.width - at - legend_width - 3 >= 16
    bar_width = min(40, columns.width - at - legend_width - 3) if beside else columns.width - at - 2
    for token, cells in _split(parts, bar_width):
        row.put(max(at, row.x), glyphs.bar * cells, token)
    rows = [row]
    if not beside:
        row = Row()
        rows.append(row)
    for name, words in legend:
        start = row.x + 2 if row.x else NAME
        if start + cell_len(words) + 1 > columns.width:
            row = Row()
            rows.append(row)
            start = NAME
        row.put(start, glyphs.legend, PART_TOKENS.get(name, "dim"), bold=False).add(words, "dim")
    return rows


def _part_name(name: str) -> str:
    """A part in the legend: what its time was spent on."""
    return "refused try" if name == "refused" else text.safe(name)


def _split(parts: list[tuple[str, int]], width: int) -> list[tuple[str, int]]:
    """Cells per part, by largest remainder, at least one for each."""
    total = sum(ns for _, ns in parts)
    cells = [max(1, ns * width // total) for _, ns in parts]
    by_rest = sorted(range(len(parts)), key=lambda index: -(parts[index][1] * width % total))
    for index in by_rest * 2:
        if sum(cells) >= width:
            break
        cells[index] += 1
    while sum(cells) > width and max(cells) > 1:
        cells[cells.index(max(cells))] -= 1
    return [(PART_TOKENS.get(name, "dim"), count) for (name, _), count in zip(parts, cells, strict=True)]


def _possible_rows(trace: RequestTrace, columns: _Columns, glyphs: Glyphs) -> list[Row]:
    """What else could have been chosen, and what is not modelled."""
    sentences = possible_sentences(trace)
    left = f"also possible {f' {glyphs.dot} '.join(sentences)}" if sentences else ""
    right = f"not modelled: {', '.join(trace.not_modelled)}" if trace.not_modelled else ""
    if left and right and NAME + cell_len(left) + 3 + cell_len(right) < columns.width:
        return [Row().put(NAME, left, "faint").right(columns.width - 1, right, "faint")]
    if right and not left:
        return [Row().right(columns.width - 1, text.fit(right, columns.width - 2, glyphs.ellipsis), "faint")]
    rows = []
    for words in (left, right):
        if words:
            rows += [Row().put(NAME, line, "faint") for line in wrap_words(words, columns.width - NAME - 1)]
    return rows


def possible_sentences(trace: RequestTrace) -> list[str]:
    """``at 5 and 7: 10.244.2.27:8080 (1/3)`` for each set of candidates, with what no try chose."""
    hops_of: dict[tuple[str, ...], list[Hop]] = {}
    for hop in trace.hops:
        open_to = tuple(sorted(each.address for each in hop.alternatives if each.chance > 0))
        if hop.number and len(open_to) > 1:
            hops_of.setdefault(open_to, []).append(hop)
    sentences = []
    for hops in hops_of.values():
        taken = {each.address for hop in hops for each in hop.alternatives if each.chosen}
        others = [each for each in hops[0].alternatives if each.chance > 0 and each.address not in taken]
        if not others:
            continue
        shown = [f"{text.safe(each.address)} ({_chance(each.chance)})" for each in others[:3]]
        more = f", {len(others) - 3} more" if len(others) > 3 else ""
        sentences.append(f"at {numbers(hop.number for hop in hops)}: {', '.join(shown)}{more}")
    return sentences


def _detail_rows(hop: Hop, columns: _Columns, glyphs: Glyphs) -> list[Row]:
    """Everything about the hop under the cursor: chooser, candidates, rules in full, their writer."""
    lines: list[tuple[str, str, str]] = []
    chosen_by = ", ".join(word for word in (hop.mover, hop.chooser) if word)
    lines.append(("moved by", chosen_by, "text"))
    for each in hop.alternatives:
        name = f"  {each.target}" if each.target else ""
        note = f"  {each.note}" if each.note else ""
        sign = glyphs.check if each.chosen else " "
        token = "strong" if each.chosen else "dim" if each.chance else "faint"
        lines.append(("could go to", f"{sign} {_chance(each.chance):>5}  {each.address}{name}{note}", token))
    if hop.chains:
        lines.append(("chains", f" {glyphs.arrow} ".join(hop.chains), "dim"))
    lines += [("rule", rule, "text") for rule in hop.rules]
    if hop.writer:
        lines.append(("written by", _words(hop.writer, glyphs), "dim"))
    rows = [Row()]
    before = ""
    for label, words, token in lines:
        if not words:
            continue
        for number, line in enumerate(wrap_words(words, columns.width - 18)):
            row = Row()
            if len(rows) == 1:
                row.put(1, str(hop.number), "strong", bold=True)
            row.put(NAME, label if not number and label != before else "", "faint")
            rows.append(row.put(17 if not number else 19, line, token))
        before = label
    return rows


def numbers(hops: Iterable[int]) -> str:
    """``3, 5 and 7``."""
    words = [str(number) for number in hops]
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"


def _chance(chance: Fraction) -> str:
    """``1``, ``1/3``; an unwieldy fraction as a percentage."""
    shown = str(chance)
    return shown if len(shown) <= 7 else text.share(float(chance))


def _words(words: str, glyphs: Glyphs) -> str:
    """A sentence of the data plane in the terminal's glyphs."""
    return to_ascii(words) if glyphs.arrow == ">" else words
