"""Who knows what, beside the schematic: when each observer learned of the last change, and what not knowing cost."""

from kflab.lab.snapshot import Knower, Snapshot
from kflab.manifest.objects import Key
from kflab.tui import text
from kflab.tui.glyphs import Glyphs
from kflab.tui.row import wrap_words
from kflab.tui.wires import Canvas, Weight, ink

TEXT, STRONG, DIM, FAINT = ink("text"), ink("strong"), ink("dim"), ink("faint")
BOLD = ink("strong", bold=True)
RULE, SPINE, KNOWN, LATE, LOST = ink("rule"), ink("spine"), ink("known"), ink("late"), ink("lost")

SPANS_NS = (600_000_000, 2_000_000_000, 10_000_000_000, 60_000_000_000, 600_000_000_000)
"""How much time the axis covers: it opens at the event and grows (schematic.md, micro-interactions)."""

LONGEST_NAME = 16
"""Cells for an observer's name at 120 columns: "EndpointSlice", "node-b kubelet" fit."""


def axis_span(snapshot: Snapshot) -> int:
    """How much time the axis shows: what has passed since the change, or what it took until all knew."""
    knowledge = snapshot.knowledge
    if knowledge.t_ns is None:
        return SPANS_NS[0]
    learned = [one.learned_ns - knowledge.t_ns for one in knowledge.knowers if one.learned_ns is not None]
    waiting = knowledge.known < knowledge.count
    needed = snapshot.t_ns - knowledge.t_ns if waiting or not learned else max(learned) * 21 // 20
    return next((span for span in SPANS_NS if span >= needed), SPANS_NS[-1])


def draw_knowledge(
    canvas: Canvas, x: int, width: int, height: int, snapshot: Snapshot, glyphs: Glyphs, top: int = 0
) -> list[tuple[Key, int, int, int, int]]:
    """Draw the panel into a part of the canvas.

    Args:
        canvas: To draw on.
        x: First column.
        width: Cells it may take.
        height: Row before which it ends.
        snapshot: Of the lab.
        glyphs: In force.
        top: Its first row.

    Returns:
        (object, x, y, width, height) of each observer drawn.
    """
    knowledge = snapshot.knowledge
    knowers = knowledge.knowers
    count = f"{knowledge.known} of {knowledge.count}"
    all_know = knowledge.known == knowledge.count
    canvas.wire([(x - 1, top), (x + width - 1, top)], Weight.LIGHT, RULE)
    canvas.text(x, top, " Who knows what ", BOLD)
    canvas.right(
        x + width - 1,
        top,
        f" {count if not all_know else 'all ' + str(knowledge.count) + ' in step'} ",
        DIM if all_know else LATE,
    )
    y = top + 1
    for line in _headline(snapshot, width, glyphs):
        canvas.text(x, y, line, TEXT if knowledge.what else DIM, width)
        y += 1
    if not knowers:
        return []
    changed = knowledge.t_ns is not None
    foot = _footers(snapshot, width)
    rows_left = height - y - len(foot) - (1 if foot else 0) - (1 if changed else 0)
    each = 2 if changed and len(knowers) * 2 <= rows_left else 1
    shown = knowers if len(knowers) * each <= rows_left else knowers[: max(0, rows_left - 1)]
    name_room = min(max(len(_name(one, 40, glyphs)) for one in knowers), LONGEST_NAME + max(0, width - 40) // 2)
    axis_at, axis_end = x + 2 + name_room + 1, x + width - 9
    if changed:
        _axis(canvas, axis_at, axis_end, y, snapshot)
        y += 1
    hits = []
    for one in shown:
        _knower(canvas, x, y, name_room, axis_at, axis_end, x + width, one, snapshot, glyphs, each == 2)
        hits.append((one.key, x, y, width, each))
        y += each
    if len(shown) < len(knowers):
        rest = knowers[len(shown) :]
        behind = sum(not one.in_step and not one.off for one in rest)
        said = f"{glyphs.more_down} {len(rest)} more observers" + (f", {behind} behind" if behind else ", in step")
        canvas.text(x, y, said, LATE if behind else DIM)
        y += 1
    y += 1
    if not changed:
        for line in _reading(width, canvas.ascii):
            canvas.text(x, y, line, DIM)
            y += 1
        y += 1
    for line, tone in foot:
        canvas.text(x, y, line, tone)
        y += 1
    return hits


def _reading(width: int, plain: bool) -> list[str]:
    """How to read the drawing, while there is nothing to tell."""
    heavy, light, dotted = ("=", "-", ".") if plain else ("━", "─", "┄")
    said = (
        "A box is something that runs, a label held in a wire is a rule, a wire is traffic:",
        f"{heavy} 40 % of the requests or more",
        f"{light} fewer",
        f"{dotted} allowed, but unused",
    )
    return [line for sentence in said for line in wrap_words(sentence, width)]


def _headline(snapshot: Snapshot, width: int, glyphs: Glyphs) -> list[str]:
    knowledge = snapshot.knowledge
    if not knowledge.what:
        return ["nothing has changed: everybody knows", "the same. k on a pod changes that"]
    what = knowledge.what.removeprefix("that ")
    subject = knowledge.subject
    if subject is not None and len(what) > width:
        what = what.replace(subject.name, text.shorten(subject.name, 17, glyphs.ellipsis))
    if len(what) <= width:
        return [what.replace(" · ", ", ")]
    return [line for part in what.split(" · ") for line in wrap_words(part, width)][:2]


def _footers(snapshot: Snapshot, width: int) -> list[tuple[str, int]]:
    """What it cost, in words."""
    said: list[tuple[str, int]] = []
    for band in snapshot.bands:
        if band.footer:
            said.extend(
                (line, LOST if snapshot.failures.rate_rps > 0 else TEXT) for line in wrap_words(band.footer, width)
            )
    if snapshot.failures.text:
        tone = LOST if snapshot.failures.rate_rps > 0 else DIM
        words = snapshot.failures.text
        cost = f"no request failed{words[4:]}" if words.startswith("none") else f"failed requests: {words}"
        said.extend((line, tone) for line in wrap_words(cost, width))
    for row in snapshot.sockets:
        cut = ", ".join(f"{number:,} cut when {why}" for why, number in row.cut)
        tone = LOST if cut else DIM
        said.extend((line, tone) for line in wrap_words(f"WebSockets: {row.open:,} open, {cut or 'none cut'}", width))
    return said[:6]


def _name(one: Knower, room: int, glyphs: Glyphs) -> str:
    """An observer's name in `room` cells; of an ingress pod the unique tail stays."""
    if len(one.name) <= room:
        return one.name
    first, _, rest = one.name.rpartition(" ")
    return (
        f"{text.shorten(first, max(3, room - len(rest) - 1), glyphs.ellipsis)} {rest}"
        if first
        else (text.shorten(one.name, room, glyphs.ellipsis))
    )


def _axis(canvas: Canvas, start: int, end: int, y: int, snapshot: Snapshot) -> None:
    """Ticks over the bars: 0 s, now and the end of the span."""
    t0 = snapshot.knowledge.t_ns or 0
    span = axis_span(snapshot)
    canvas.text(start, y, "0 s", FAINT)
    last = f"{span / text.S:g} s"
    elapsed = snapshot.t_ns - t0
    now = start + elapsed * (end - start - 1) // span if elapsed <= span else -1
    if now < 0 or now + 2 < end - len(last):
        canvas.right(end, y, last, FAINT)
    if now >= start + 5:  # "0 s" stands left of it
        canvas.text(min(now - 1, end - 3), y, "now", STRONG)


def _knower(
    canvas: Canvas,
    x: int,
    y: int,
    name_room: int,
    start: int,
    end: int,
    edge: int,
    one: Knower,
    snapshot: Snapshot,
    glyphs: Glyphs,
    reasons: bool,
) -> None:
    """One observer: state, name, its bar of not knowing, when it learned; below, why that matters."""
    t0 = snapshot.knowledge.t_ns
    pays = one.callers == "callers here"
    tone = DIM if one.off else KNOWN if one.in_step else LATE
    canvas.text(x, y, glyphs.dot if one.off else glyphs.knows if one.in_step else glyphs.stale, tone)
    canvas.text(x + 2, y, _name(one, name_room, glyphs), BOLD if pays and not one.in_step else TEXT)
    if t0 is not None and not one.off:
        span = axis_span(snapshot)
        until = one.learned_ns if one.learned_ns is not None else snapshot.t_ns
        cells = max(0, min(end - start - 1, (until - t0) * (end - start - 1) // span))
        if one.learned_ns is not None or not one.in_step:
            dash = glyphs.past_heavy if pays else glyphs.past
            canvas.text(start, y, dash * cells, LOST if pays and one.refused else LATE)
            if one.in_step:
                canvas.text(start + cells, y, glyphs.knows, KNOWN)
                if canvas.width > start + cells + 1:
                    canvas.wire([(start + cells + 1, y), (end - 1, y)], Weight.LIGHT, RULE)
    if one.off:
        said, said_ink = "no power", DIM
    elif not one.running:
        said, said_ink = "stopped", LATE
    elif one.in_step and one.learned_ns is not None and t0 is not None:
        said, said_ink = text.after(one.learned_ns - t0), KNOWN
    elif one.in_step:
        said, said_ink = one.revision if t0 is None else "in step", DIM
    else:
        said, said_ink = "not yet", LATE
    canvas.right(edge, y, said, said_ink)
    if t0 is None and one.callers:
        canvas.text(start, y, one.callers, DIM if pays else FAINT, end - start)
    if not reasons or one.off:
        return
    words = [
        one.word if one.word and one.word != said else "",
        one.revision if said != one.revision else "",
        one.callers,
    ]
    end_at = canvas.text(x + 2, y + 1, f" {glyphs.dot} ".join(word for word in words if word), DIM)
    if one.refused:
        cost = f"{one.refused:,} refused"
        if end_at + len(cost) + 1 <= edge:
            canvas.right(edge, y + 1, cost, LOST)
