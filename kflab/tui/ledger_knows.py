"""Rows of "who knows": which observer acts on which revision, since when."""

from collections.abc import Sequence

from rich.cells import cell_len

from kflab.lab.bill_words import shortened
from kflab.lab.snapshot import BIN_NS, Knower, Knowledge
from kflab.tui.cells import CellLine
from kflab.tui.ledger_context import Paint, sentence
from kflab.tui.ledger_rows import LedgerRow, slowest_caller
from kflab.tui.status_line import short_names
from kflab.tui.text import after, fit, safe, shorten


def draw_knows(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    knowledge, grid = paint.snapshot.knowledge, paint.grid
    x = line.put(grid.GLYPH, "who knows", "strong", bold=True)
    known, count = knowledge.known, knowledge.count
    figure = f"{known} of {count}"
    room = grid.figure - cell_len(figure) - 1 - x - 2
    what = sentence(knowledge.what, paint.glyphs)
    if not what:
        what = "every observer acts on a revision of the past"
        if cell_len(what) > room:
            what = "on which revision it acts"
    elif knowledge.changes is not None:
        what = next((words for words in _of_changes(knowledge) if cell_len(words) <= room), what)
    elif grid.short and knowledge.subject is not None:
        what = what.removeprefix("that ").split(" · ")[0]
        if knowledge.subject.kind == "Pod":
            what = what.replace(knowledge.subject.name, knowledge.subject.name.rpartition("-")[2])
        what = what.removeprefix("containers of ")
        if cell_len(what) > room:
            what = what.rpartition(" at ")[0] or what
    else:
        what = short_names(what, 16, paint.glyphs.ellipsis)
        while cell_len(what) > room and " · " in what:
            what = what.rpartition(" · ")[0]
    line.put(x + 2, fit(what, room, paint.glyphs.ellipsis), "dim")
    token = "late" if known < count else "known" if knowledge.t_ns is not None else "dim"
    line.right(grid.figure, figure, token)


def _of_changes(knowledge: Knowledge) -> list[str]:
    """The newest change of a pod in a rollout and how many of all are known, from the longest to the shortest words."""
    known, count = knowledge.changes or (0, 0)
    what = knowledge.what.removeprefix("that ").split(" · ")[0]
    if knowledge.subject is not None:
        what = what.replace(knowledge.subject.name, knowledge.subject.name.rpartition("-")[2])
    briefly = shortened(what.rpartition(" at ")[0])
    return [
        f"{what} · {known:,} of {count:,} pod changes known",
        f"{what} · {known:,} of {count:,} changes known",
        f"{briefly} · {known:,} of {count:,} changes",
        f"{briefly} · {known:,}/{count:,} changes",
        briefly,
    ]


def draw_knower(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    knower = row.knower
    if knower is None:
        return
    grid, glyphs = paint.grid, paint.glyphs
    chosen = row.id == paint.selected
    _knows_glyph(line, paint, knower.in_step, knower.off)
    name = shorten_observer(knower.name, grid.name_end - grid.NAME, glyphs.ellipsis)
    line.put(grid.NAME, name, "strong" if chosen else "text", bold=chosen)
    word = "stopped" if not knower.running else "in step" if knower.in_step else "stale"
    if knower.running and knower.word == "restarting":
        word = knower.word
    word = "no power" if knower.off else word
    line.put(grid.state, word, "dim" if knower.off or word == "in step" else "late")
    if grid.address is not None:
        line.put(grid.address, fit(safe(knower.revision), 15, glyphs.ellipsis), "dim")
    if grid.node is not None:
        line.put(grid.node, fit(safe(knower.callers), grid.figure - 9 - grid.node, glyphs.ellipsis), "faint")
    since = paint.knowledge_ns
    if knower.off:
        return
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


def draw_strip(row: LedgerRow, line: CellLine, paint: Paint) -> None:
    """``◆ 8 nodes' rules  in step  rev 318  ◆◆◆◆◆◆◆◆ 3 call  +0.97 s``."""
    grid, glyphs = paint.grid, paint.glyphs
    knowers = tuple(knower for knower in row.knowers if not knower.off)
    known = sum(knower.in_step for knower in knowers)
    every = known == len(knowers)
    chosen = row.id == paint.selected
    _knows_glyph(line, paint, every)
    name, word = f"{len(knowers):,} nodes' rules", "in step" if every else f"{known:,} of {len(knowers):,}"
    if cell_len(name) > grid.name_end - grid.NAME:
        name = name.removesuffix("' rules")
    if cell_len(word) >= grid.state_room:
        word = f"{len(knowers) - known:,} stale"
    line.put(grid.NAME, name, "strong" if chosen else "text", bold=chosen)
    line.put(grid.state, word, "dim" if every else "late")
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


def _knows_glyph(line: CellLine, paint: Paint, in_step: bool, off: bool = False) -> None:
    glyphs = paint.glyphs
    if off:
        line.put(paint.grid.GLYPH, glyphs.dot, "faint")
        return
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
    if concerned and word and (end is not None or behind):  # no word where its ◆ has left the lens
        at = (end if end is not None else grid.lens + lens.before) + 2
        _after(line, paint, at, safe(word), "late" if behind else "known")


def _after(line: CellLine, paint: Paint, at: int, text: str, ink: str) -> None:
    """Words behind what is drawn in the lens; where not all fit the last one says it, or none does."""
    for words in (text, text.rpartition(" ")[2] if ink == "known" else text):
        if at > 0 and at + cell_len(words) <= paint.grid.width:
            line.put(at, words, ink)
            return
