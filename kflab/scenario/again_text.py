"""Two plays side by side as lines: figures, bills by cause, and the rows of who knew when on one common axis.

A line is made of pieces at columns, each with a word for its meaning (the screen's colour tokens); the plain form
prints the texts alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

from kflab.lab.autopsy_values import GanttEvent, GanttRow
from kflab.lab.bill_words import shortened
from kflab.lab.gantt import as_tree
from kflab.records import dataclass
from kflab.scenario.again import Compared, Played
from kflab.scenario.gantt_text import ASCII_BARS, UNICODE_BARS, BarGlyphs, bar, clock, latency

WHOLE_PAIRS = 3
"""Pairs of events drawn with all their rows: those that lost most."""

LINES_OF_PAIRS = 12
"""Further pairs that get a line each."""

PLAIN_WIDTH = 108
"""Columns of the plain form."""

READY = "as many pods ready after"
"""The figure that a node's loss is about: the object of a pod on a lost node stays, however many others serve."""

SAME_LUCK = (
    "Draws are addressed: both plays have the same requests at the same instants, and the same luck in all else. Pods "
    "whose template differs have other names, and with them other nodes, addresses and start-up times."
)
"""What two plays share, and what they do not."""


class Piece(NamedTuple):
    """A text at a column, and what it means."""

    x: int
    text: str
    token: str = "text"


Line = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both plays."""

    label: str
    was: str
    then: str
    difference: str = ""
    """"3 fewer", "0.120 s later"; "" where they are equal."""
    worse: bool = False


def _count(label: str, was: int, then: int) -> Figure:
    less = then < was
    difference = f"{abs(then - was):,} {'fewer' if less else 'more'}" if then != was else ""
    return Figure(label, f"{was:,}", f"{then:,}", difference, not less)


def _span(label: str, was_ns: int | None, then_ns: int | None, none: tuple[str, str]) -> Figure:
    def words(ns: int | None, instead: str) -> str:
        return f"{ns / 1e9:.3f} s" if ns is not None else instead

    difference, later = "", then_ns is None
    if was_ns is not None and then_ns is not None and was_ns != then_ns:
        later = then_ns > was_ns
        difference = f"{abs(then_ns - was_ns) / 1e9:.3f} s {'later' if later else 'sooner'}"
    elif was_ns != then_ns:
        difference = "not by the end" if later else "by the end"
    return Figure(label, words(was_ns, none[0]), words(then_ns, none[1]), difference, later)


def figures(both: Compared) -> list[Figure]:
    """Every figure, in the order of the page."""
    was, then = both.was, both.then
    found = [
        _count("requests sent", was.sent, then.sent),
        _count("requests failed", was.failed, then.failed),
        _count("slowed by a try lost", was.slowed, then.slowed),
        _count("tries lost", was.lost_tries, then.lost_tries),
    ]
    if was.what or then.what:
        found.append(_span("traffic moved after", was.moved_ns, then.moved_ns, ("not yet", "not yet")))
    if both.workload:
        never = (f"not by {was.end_ns / 1e9:g} s", f"not by {then.end_ns / 1e9:g} s")
        found.append(_span("ready, old pods gone after", was.recovered_ns, then.recovered_ns, never))
        if any(play.recovered_ns is None and play.ready_ns is not None for play in (was, then)):
            found.append(_span(READY, was.ready_ns, then.ready_ns, never))
    if was.p99_ns is not None and then.p99_ns is not None:
        less = then.p99_ns < was.p99_ns
        change = f"{latency(abs(then.p99_ns - was.p99_ns))} {'less' if less else 'more'}"
        found.append(Figure(
            "p99 since the change" if was.what else "p99", latency(was.p99_ns),
            latency(then.p99_ns), change if was.p99_ns != then.p99_ns else "", not less,
        ))  # fmt: skip
    mine, other = was.billed(), then.billed()
    for cause in dict.fromkeys((*mine, *other)):
        found.append(_count(f"billed: {cause.replace('-', ' ')}", mine.get(cause, 0), other.get(cause, 0)))
    return found


def verdict(both: Compared) -> tuple[str, bool]:
    """The sentence above the table, and whether it is of a difference."""
    if both.same and both.change.name == "same":
        return "no difference at all: every event and every request is the same (one hash)", False
    if both.same:
        return f"no difference at all: {both.change} changes nothing here (one hash)", False
    failed = _count("", both.was.failed, both.then.failed).difference or "as many"
    slowed = _count("", both.was.slowed, both.then.slowed).difference or "as many"
    ready = next((each.difference for each in figures(both) if each.label == READY), "")
    ready = f", all ready {ready}" if ready else ""
    return f"with {both.change}: {failed} failed, {slowed} slowed{ready}", True


# --- the Gantt, in pairs --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """An event of one play and the one in its place in the other."""

    was: GanttEvent | None
    then: GanttEvent | None

    @property
    def lost(self) -> int:
        """Requests lost in both together."""
        return sum(event.lost for event in (self.was, self.then) if event is not None)

    @property
    def span_ns(self) -> int:
        """Length of the common axis."""
        return max(event.end_ns - event.t_ns for event in (self.was, self.then) if event is not None)

    def rows(self) -> list[tuple[str, GanttRow | None, GanttRow | None]]:
        """(name, row, row), paired by name, in the order of the first play."""
        mine = {row.name: row for row in self.was.rows} if self.was is not None else {}
        other = {row.name: row for row in self.then.rows} if self.then is not None else {}
        return [(name, mine.get(name), other.get(name)) for name in dict.fromkeys((*mine, *other))]


def pairs(both: Compared) -> list[Pair]:
    """Events under the last change of both plays: the n-th end with the n-th end, and so on; by time."""
    found: list[Pair] = []
    sides = [_last_events(play) for play in (both.was, both.then)]
    for kind in ("end", "start", "window"):
        mine, other = ([event for event in side if event.kind == kind] for side in sides)
        found += [Pair(was, then) for was, then in zip_longest(mine, other)]
    return sorted(found, key=lambda pair: min(e.t_ns for e in (pair.was, pair.then) if e is not None))


def _last_events(play: Played) -> Sequence[GanttEvent]:
    groups = [group for group in play.report.groups if group.t_ns == play.change_ns or not play.what]
    return groups[-1].events if groups else ()


# --- lines ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Columns:
    """Where things stand at a width."""

    width: int
    name: int
    """Where the first play begins."""
    side: int
    """Cells of one play in the rows of the Gantt."""
    bar: int

    @property
    def then(self) -> int:
        """Where the second play begins."""
        return self.name + self.side


def columns(width: int) -> Columns:
    """The columns of a page of a width, 60 or more."""
    name = 21 if width < 100 else 30
    side = (max(60, width) - name - 1) // 2
    return Columns(width, name, side, side - 22)


def lines(both: Compared, width: int = PLAIN_WIDTH, ascii_only: bool = False) -> Iterator[Line]:
    """The page."""
    at, glyphs = columns(width), ASCII_BARS if ascii_only else UNICODE_BARS
    mark = "!" if ascii_only else "≠"
    text, differs = verdict(both)
    yield (Piece(1, _fit(text, width - 2, glyphs), "strong" if differs else "known"),)
    yield ()
    yield _heading(at, str(both.change), "difference", glyphs)
    for figure in figures(both):
        yield _figure(figure, at, mark, glyphs)
    found = pairs(both)
    if not found:
        return
    yield ()
    yield (Piece(1, "who knew when after the last change, both on one axis", "strong"),)
    whole = {id(pair) for pair in sorted(found, key=lambda pair: -pair.lost)[:WHOLE_PAIRS]}
    further = 0
    for pair in found:
        further += id(pair) not in whole
        if id(pair) in whole or further <= LINES_OF_PAIRS:
            yield _pair(pair, both, at, mark, glyphs)
        if id(pair) in whole:
            for name, was, then in pair.rows():
                yield _bars(name, (was, then), pair, at, mark, glyphs)
    if further > LINES_OF_PAIRS:
        yield (Piece(3, f"and {further - LINES_OF_PAIRS} further events", "dim"),)


def _heading(at: Columns, change: str, last: str, glyphs: BarGlyphs) -> Line:
    first, second = _figure_edges(at)
    room = second - first - 2
    name = _fit(change, room, glyphs)
    return (
        Piece(first - len("as it was"), "as it was", "dim"), Piece(second - len(name), name, "dim"),
        Piece(second + 2, last, "dim"),
    )  # fmt: skip


def _figure_edges(at: Columns) -> tuple[int, int]:
    """Where the figures of the two plays end; the difference stands right of them."""
    first = at.name + 14
    return first, first + (20 if at.width < 100 else 34)


def _figure(figure: Figure, at: Columns, mark: str, glyphs: BarGlyphs) -> Line:
    first, second = _figure_edges(at)
    room = first - 4 - len(figure.was)
    label = figure.label if len(figure.label) <= room else figure.label.replace(" pods", "")
    pieces = [
        Piece(3, _fit(label, room, glyphs)),
        Piece(first - len(figure.was), figure.was),
    ]
    if not figure.difference:
        return (*pieces, Piece(second - len(figure.then), figure.then))
    token = "lost" if figure.worse else "traffic"
    return (
        Piece(1, mark, token), *pieces, Piece(second - len(figure.then), figure.then, token),
        Piece(second + 2, figure.difference, token),
    )  # fmt: skip


def _pair(pair: Pair, both: Compared, at: Columns, mark: str, glyphs: BarGlyphs) -> Line:
    """What happened, when after the change, and how many it cost, on both sides."""
    pieces = []
    for event, play, x in ((pair.was, both.was, at.name), (pair.then, both.then, at.then)):
        if event is None:
            pieces.append(Piece(x, "nothing of this kind", "dim"))
            continue
        lost = f"{event.lost:,} lost" if event.lost else ""
        what, room = event.what, at.side - len(lost) - 10
        if event.pod is not None and len(what) > room:
            what = what.replace(event.pod.name, event.pod.name.rpartition("-")[2])
        if len(what) > room:
            what = shortened(what)
        if event.pod is not None and len(what) > room:
            what = event.pod.name.rpartition("-")[2]  # that it ended or began stands at the left
        words = f"+{(event.t_ns - play.change_ns) / 1e9:.3f} {_fit(what, room, glyphs)}"
        pieces.append(Piece(x, words, "strong"))
        pieces.append(Piece(x + at.side - 1 - len(lost), lost, "lost"))
    either = pair.was or pair.then
    assert either is not None
    what = {"end": "ended", "start": "began", "window": "window"}[either.kind]
    return (*_marked(_differs(pair, both), mark), Piece(3, what, "strong"), *pieces)


def _differs(pair: Pair, both: Compared) -> bool:
    """Whether the two events differ in anything that is drawn, names aside."""
    if pair.was is None or pair.then is None:
        return True
    if pair.was.lost != pair.then.lost or pair.was.t_ns - both.was.change_ns != pair.then.t_ns - both.then.change_ns:
        return True
    return any(_shown(was, pair.was) != _shown(then, pair.then) for _, was, then in pair.rows())


def _shown(row: GanttRow | None, event: GanttEvent | None) -> tuple[int, int | None, int] | None:
    if row is None or event is None:
        return None
    return row.gap_ns - event.t_ns, None if row.knew_ns is None else row.knew_ns - event.t_ns, row.lost


def _marked(differs: bool, mark: str) -> Line:
    return (Piece(1, mark, "late"),) if differs else ()


def _bars(
    name: str, rows: tuple[GanttRow | None, GanttRow | None], pair: Pair, at: Columns, mark: str, glyphs: BarGlyphs
) -> Line:  # fmt: skip
    """One observer on both sides: its bar, when it knew, what was lost meanwhile."""
    differs = _shown(rows[0], pair.was) != _shown(rows[1], pair.then)
    pieces = [*_marked(differs, mark), Piece(5, _fit(name, at.name - 6, glyphs), "dim")]
    for row, event, x in ((rows[0], pair.was, at.name), (rows[1], pair.then, at.then)):
        if row is None or event is None:
            pieces.append(Piece(x, "-", "dim"))
            continue
        waiting, gap = bar(row, replace(event, end_ns=event.t_ns + max(1, pair.span_ns)), at.bar, glyphs)
        token = "lost" if row.lost or row.kind == "truth" else "late" if row.calls else "spine"
        pieces += [Piece(x, waiting, "faint"), Piece(x + len(waiting), gap, token)]
        knew = f"+{(row.knew_ns - event.t_ns) / 1e9:.3f} s" if row.knew_ns is not None else "not yet"
        pieces.append(Piece(x + at.bar + 10 - len(knew), knew, "known" if row.knew_ns is not None else "late"))
        lost = f"{row.lost:,} lost" if row.lost else ""
        pieces.append(Piece(x + at.side - 1 - len(lost), lost, "lost"))
    return tuple(pieces)


def _fit(text: str, cells: int, glyphs: BarGlyphs) -> str:
    """A text cut in the middle where it is too long."""
    if len(text) <= cells:
        return text
    dots = "..." if glyphs is ASCII_BARS else "…"
    keep = max(2, cells - len(dots))
    return text[: keep - keep // 2] + dots + text[-(keep // 2) :]


# --- the plain form -------------------------------------------------------------------------------------------


def report(both: Compared, name: str, seed: int, ascii_only: bool = False) -> Iterator[str]:
    """What `kflab replay NAME --compare SETTING` prints."""
    yield f"kflab replay {name}, and again with one setting changed: {both.change}"
    about = f" of {both.workload}" if both.workload else ""
    when = f"last change{about}: {both.was.what} at {clock(both.was.change_ns)} s" if both.was.what else "no change"
    yield f"seed {seed}, both from 0 to {both.was.end_ns / 1e9:g} s; {when}"
    yield from SAME_LUCK.replace(". ", ".\n").split("\n")
    yield ""
    for line in lines(both, PLAIN_WIDTH, ascii_only):
        text = ""
        for piece in line:
            text = text.ljust(piece.x) + piece.text
        yield text.rstrip()
    yield ""
    yield f"event hash     as it was {both.was.digest}, then {both.then.digest}"


def as_json(both: Compared, name: str, seed: int) -> dict[str, Any]:
    """The same as plain data; times in seconds."""

    def s(ns: int | None) -> float | None:
        return None if ns is None else ns / 1e9

    def side(play: Played) -> dict[str, Any]:
        return {
            "requests": {"sent": play.sent, "failed": play.failed, "slowed": play.slowed},
            "lost_tries": play.lost_tries, "p99_s": s(play.p99_ns), "moved_s": s(play.moved_ns),
            "recovered_s": s(play.recovered_ns), "ready_s": s(play.ready_ns), "billed": play.billed(),
            "autopsy": as_tree(play.report), "event_hash": play.digest,
        }  # fmt: skip

    return {
        "scenario": name, "seed": seed, "duration_s": both.was.end_ns / 1e9,
        "change": {"setting": both.change.name, "value": both.change.value},
        "workload": both.workload or None, "last_change": both.was.what or None, "same": both.same,
        "was": side(both.was), "then": side(both.then),
        "differences": [
            {"figure": each.label, "was": each.was, "then": each.then, "difference": each.difference}
            for each in figures(both) if each.difference
        ],
    }  # fmt: skip
