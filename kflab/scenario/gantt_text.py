"""The autopsy as lines of text: the bills, then the Gantt of who knew when, with the requests lost in each gap."""

from collections.abc import Iterator

from kflab.lab.autopsy_values import AutopsyReport, BillRow, GanttEvent, GanttGroup, GanttRow
from kflab.records import dataclass

WHOLE_EVENTS = 3
"""Events of a change that are printed with all their rows; of the others, one line each."""

LINES_OF_GROUP = 20
"""Folded events of a change that get a line of their own."""

BAR_CELLS = 28
NAME_CELLS = 26

_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class BarGlyphs:
    """What bars are drawn with."""

    waiting: str
    """Told nothing yet."""
    full: str
    """Its own gap."""
    tip: str
    """An instant."""
    eighths: str
    """Index n: a cell filled to n eighths from the left; one glyph where there are none."""
    on: str
    """The gap has not ended."""
    times: str


UNICODE_BARS = BarGlyphs("·", "█", "▏", _EIGHTHS, "▶", "×")
ASCII_BARS = BarGlyphs(".", "#", "|", "", ">", "x")


def bar(row: GanttRow, event: GanttEvent, cells: int, glyphs: BarGlyphs) -> tuple[str, str]:
    """A row's bar on its event's axis: (waiting part, gap part), together at most `cells` wide."""
    span = max(1, event.end_ns - event.t_ns)

    def place(t_ns: int) -> float:
        return min(1.0, max(0.0, (t_ns - event.t_ns) / span)) * cells

    end = row.knew_ns if row.knew_ns is not None else event.end_ns
    if row.kind == "truth":
        before = min(cells - 1, int(place(end)))
        return glyphs.waiting * before, glyphs.tip if row.knew_ns is not None else ""
    first, last = int(place(min(row.gap_ns, end))), place(end)
    first = min(first, cells - 1)
    if row.knew_ns is None:
        return glyphs.waiting * first, glyphs.full * (cells - first - 1) + glyphs.on
    whole = int(last)
    part = int((last - whole) * 8)
    solid = glyphs.full * max(0, whole - first)
    if glyphs.eighths:
        solid += glyphs.eighths[part].strip() if whole >= first else ""
        solid = solid or glyphs.tip
    elif part >= 4 or not solid:
        solid += glyphs.full
    return glyphs.waiting * first, solid[: cells - first]


def report_lines(report: AutopsyReport, ascii_only: bool = False) -> Iterator[str]:
    """Lines that follow the player's report; none where nothing was lost and nothing happened."""
    glyphs = ASCII_BARS if ascii_only else UNICODE_BARS
    if not report.bills and not any(group.events for group in report.groups):
        return
    lost = report.failed + report.slowed
    yield ""
    yield "autopsy"
    sure = f"{report.unexplained:,} not explained"
    yield f"  {lost:,} lost = {report.failed:,} failed + {report.slowed:,} slowed; {report.billed:,} billed, {sure}"
    for bill in report.bills:
        yield from _bill(bill, glyphs)
    yield ""
    yield "who knew when, and requests lost in each gap"
    for group in report.groups:
        yield from _group(group, glyphs)


def clock(t_ns: int) -> str:
    """An instant, in seconds with milliseconds."""
    return f"{t_ns / 1e9:.3f}"


def latency(ns: int) -> str:
    """How long something took, with its unit: ``0.85 ms``, ``15.0 ms``, ``5.00 s``."""
    if ns >= 999_950_000:
        return f"{ns / 1e9:,.2f} s"
    return f"{ns / 1e6:.1f} ms" if ns >= 1_000_000 else f"{ns / 1e6:.2f} ms"


def _bill(bill: BillRow, glyphs: BarGlyphs) -> Iterator[str]:
    yield f"  {bill.lost:>7,}  {bill.title.replace('×', glyphs.times)}"
    until = f"{clock(bill.until_ns)} s" if bill.until_ns is not None else f"open, last at {clock(bill.last_ns)} s"
    outcome = bill.outcome.replace("×", glyphs.times)
    window = f"at {until}" if bill.until_ns == bill.from_ns else f"{clock(bill.from_ns)} to {until}"
    yield f"           {window}: {outcome}; longest {latency(bill.longest_ns)}"


def _lost(n: int) -> str:
    return f"{n:,} lost" if n else ""


def _group(group: GanttGroup, glyphs: BarGlyphs) -> Iterator[str]:
    yield f"  {clock(group.t_ns):>9} s  {group.what}" + (f"  ({_lost(group.lost)})" if group.lost else "")
    ranked = sorted(group.events, key=lambda event: -event.lost)
    whole = {event.id for event in ranked[:WHOLE_EVENTS] if event.lost or len(group.events) == 1}
    if not whole and ranked:
        whole = {group.events[0].id}
    folded = 0
    for event in group.events:
        if event.id in whole:
            yield from _event(event, group, glyphs)
            continue
        folded += 1
        if folded <= LINES_OF_GROUP:
            known = f"known +{(event.known_ns - event.t_ns) / 1e9:.3f} s" if event.known_ns is not None else ""
            after = (event.t_ns - group.t_ns) / 1e9
            yield f"    +{after:.3f} s  {event.what}  {known}  {_lost(event.lost)}".rstrip()
    if folded > LINES_OF_GROUP:
        yield f"    … and {folded - LINES_OF_GROUP} further events".replace("…", "..." if glyphs is ASCII_BARS else "…")


def _event(event: GanttEvent, group: GanttGroup, glyphs: BarGlyphs) -> Iterator[str]:
    after = (event.t_ns - group.t_ns) / 1e9
    if event.what != group.what or after:
        yield f"    +{after:.3f} s  {event.what}" + (f"  ({_lost(event.lost)})" if event.lost else "")
    for row in event.rows:
        waiting, gap = bar(row, event, BAR_CELLS, glyphs)
        drawn = (waiting + gap).ljust(BAR_CELLS)
        knew = f"+{(row.knew_ns - event.t_ns) / 1e9:.3f} s" if row.knew_ns is not None else "not yet"
        yield f"      {_fit(row.name, glyphs):<{NAME_CELLS}} {drawn} {knew:>11}  {_lost(row.lost):>12}  {row.note}"


def _fit(name: str, glyphs: BarGlyphs) -> str:
    """A name cut in the middle where it is too long."""
    if len(name) <= NAME_CELLS:
        return name
    dots = "..." if glyphs is ASCII_BARS else "…"
    keep = NAME_CELLS - len(dots)
    return name[: keep // 2] + dots + name[-(keep - keep // 2) :]
