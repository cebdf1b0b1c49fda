"""How one sampled request is printed in the trace: time, request, way, status, latency and its bar."""

from itertools import groupby

from rich.cells import cell_len

from kflab.lab.snapshot import TraceRow, TraceTry
from kflab.records import dataclass
from kflab.tui import text
from kflab.tui.glyphs import Glyphs
from kflab.tui.row import Row

PART_TOKENS = {
    "earlier attempts": "lost",
    "refused": "lost",
    "retries": "lost",
    "reset": "lost",
    "timeout": "lost",
    "dropped": "lost",
    "queue": "late",
    "service": "traffic",
    "calls": "wave",
    "network": "dim",
}
"""Colour of each part of a latency; parts with other names are dim."""

TIMES = {2: "twice"}
"""English has a word for two tries; from three on it is "3 times"."""

SPLIT_FROM = 100
"""Columns from which the pane has heads and the split time bar."""

WAY_ROOM = 34
"""Cells for the way below which the client's address gives way to it."""


@dataclass(frozen=True, slots=True)
class TraceLayout:
    """Columns of the trace at one width."""

    width: int
    time_edge: int
    request: int
    client: int
    """0: no client column."""
    way: int
    status: int
    ms_edge: int
    bar: int
    bar_width: int
    split: bool

    @classmethod
    def of(cls, width: int, request_width: int, time_width: int) -> "TraceLayout":
        """Lay the columns out.

        Args:
            width: Cells of the pane.
            request_width: The longest request text so far.
            time_width: The longest time so far.
        """
        split = width >= SPLIT_FROM
        time_edge = 1 + time_width
        request = time_edge + 2
        bar_width = min(34, width // 4) if split else 8 if width >= 60 else 0
        bar = width - bar_width - (1 if split or not bar_width else 0)
        ms_edge = bar - 1 if bar_width else width - 1
        status = ms_edge - (13 if split else 11)
        room = status - request
        request_width = min(request_width, max(8, room // (4 if split else 3), min(14, room - 19)))
        way = request + request_width + 2
        client = way if status - way - 23 >= WAY_ROOM else 0
        way += 23 if client else 0
        return cls(width, time_edge, request, client, way, status, ms_edge, bar, bar_width, split)


def head_row(layout: TraceLayout, glyphs: Glyphs) -> Row:
    """The column heads of the wide trace."""
    row = Row().put(1, "at, s", "faint").put(layout.request, "request", "faint")
    if layout.client:
        row.put(layout.client, "client", "faint")
    row.put(layout.way, f"ingress {glyphs.arrow} pod", "faint").right(layout.ms_edge, "time", "faint")
    words = "refused, queue, service, network"
    return row.put(layout.bar, words if len(words) <= layout.bar_width + 1 else "where it went", "faint")


def request_text(row: TraceRow) -> str:
    """Method and path; of a call between pods who calls whom."""
    return text.safe(row.label or f"{row.method} {row.path}")


def draw(row: TraceRow, layout: TraceLayout, glyphs: Glyphs, full_ns: int, chosen: str = "") -> Row:
    """Print one request.

    Args:
        row: The request.
        layout: The columns.
        glyphs: The glyph set.
        full_ns: The latency that fills the bar.
        chosen: "" ordinary, "cursor" under the cursor, "open" the opened one.
    """
    line = Row("sel" if chosen else "bg")
    if chosen:
        line.put(0, glyphs.selected, "strong")
    line.right(layout.time_edge, text.instant(row.t_ns), "dim")
    room = (layout.client or layout.way) - layout.request - 2
    cut = _cut_call if row.label else _cut_middle
    words = cut(request_text(row), room, glyphs.ellipsis).replace("→", glyphs.arrow)
    line.put(layout.request, words, "strong" if chosen else "text")
    if layout.client:
        line.put(layout.client, text.fit(row.source, 21, glyphs.ellipsis), "dim")
    _put_way(line, row, layout, glyphs)
    token = "dim" if row.ok else "lost"
    # A word ("refused") takes what the way leaves; its end stands where a code's does.
    room = max(layout.ms_edge - layout.status - 8, layout.status + 3 - line.x - 2)
    status = text.fit(row.status, room, glyphs.ellipsis)
    if len(status) > 3:
        line.right(layout.status + 3, status, token, bold=not row.ok)
    else:
        line.put(layout.status, status, token, bold=not row.ok)
    line.right(layout.ms_edge, latency_words(row.latency_ns), "text")
    if layout.bar_width:
        line.put(layout.bar, "")
        for piece, token in bar(row, layout, glyphs, full_ns):
            line.put(max(layout.bar, line.x), piece, token)
    return line


def latency_words(ns: int) -> str:
    """``3.4 ms``; from one second ``1.23 s``."""
    return f"{text.ms(ns)} ms" if ns < text.S else f"{ns / text.S:.2f} s"


def _cut_middle(value: str, width: int, ellipsis: str) -> str:
    """Shorten a request in the middle: its method and the end of its path say most."""
    if cell_len(value) <= width:
        return value
    front = max(1, (width - 1) // 2)
    return value[:front] + ellipsis + value[len(value) - max(0, width - 1 - front) :]


def _cut_call(value: str, width: int, ellipsis: str) -> str:
    """Shorten who calls whom: first the port goes, then the end of the caller's name, then that of the callee's."""
    if cell_len(value) <= width:
        return value
    caller, _, callee = value.partition(" → ")
    callee = callee.rpartition(":")[0]
    caller = text.fit(caller, max(3, width - 3 - cell_len(callee)), ellipsis)
    return text.fit(f"{caller} → {callee}", width, ellipsis)


def bar(row: TraceRow, layout: TraceLayout, glyphs: Glyphs, full_ns: int) -> list[tuple[str, str]]:
    """The time bar as (text, token): one colour in the narrow trace, split by part in the wide one."""
    if not layout.split:
        cells = _half_cells(row.latency_ns, full_ns, layout.bar_width)
        drawn = glyphs.bar * (cells // 2) + glyphs.bar_half * (cells % 2)
        return [(drawn, "wave" if row.ok else "lost")]
    pieces: list[tuple[str, str]] = []
    done_ns = done = 0
    for name, part_ns in row.parts or (("service", row.latency_ns),):
        done_ns += part_ns
        end = _half_cells(done_ns, full_ns, layout.bar_width) // 2
        if part_ns and end == done and done < layout.bar_width:
            end = done + 1
        if end > done:
            pieces.append((glyphs.bar * (end - done), PART_TOKENS.get(name, "dim")))
            done = end
    return pieces


def _half_cells(ns: int, full_ns: int, width: int) -> int:
    """Length of a bar in half cells, at least one, at most the whole width."""
    return max(1, min(2 * width, round(2 * width * ns / full_ns)))


def way_stations(row: TraceRow, glyphs: Glyphs) -> list[list[tuple[str, str, bool]]]:
    """The way, station by station, each as pieces of (text, token, bold): ``4kq2x``, ``m4dd8 ✖ twice``, ``7xk2p``."""
    stations = [[(text.tail(row.ingress), "text", False)]] if row.ingress else []
    for (pod, outcome), same in groupby(row.tries, key=lambda one: (one.pod, one.outcome)):
        count = len(list(same))
        station = [(_place(TraceTry(pod, outcome)), "text", False)]
        if outcome != "ok":
            station.append((f" {glyphs.crashed}", "lost", True))
            words = [outcome] if outcome != "refused" else []
            words += [TIMES.get(count, f"{count} times")] if count > 1 else []
            if words:
                station.append((" " + " ".join(words), "lost", True))
        stations.append(station)
    return stations


def _place(one: TraceTry) -> str:
    """The pod's tail, or the whole address where no pod has it."""
    is_address = ":" in one.pod or (one.pod[:1].isdigit() and "." in one.pod)
    return text.safe(one.pod) if is_address else text.tail(one.pod)


def _put_way(line: Row, row: TraceRow, layout: TraceLayout, glyphs: Glyphs) -> None:
    """Write the way; where it does not fit the first stations go, with a sign, and the last one stays."""
    arrow = f" {glyphs.arrow} "
    stations = way_stations(row, glyphs)
    room = layout.status - layout.way - 1

    def width() -> int:
        cells = sum(cell_len(piece[0]) for station in stations for piece in station)
        return cells + len(arrow) * (len(stations) - 1) + (2 if cut else 0)

    cut = False
    while len(stations) > 1 and width() > room:
        stations.pop(0)
        cut = True
    line.put(layout.way, f"{glyphs.ellipsis} " if cut else "", "dim")
    for number, station in enumerate(stations):
        if number:
            line.add(arrow, "dim")
        for piece, token, bold in station:
            left = max(1, layout.way + room - max(layout.way, line.x))
            line.put(max(layout.way, line.x), text.fit(piece, left, glyphs.ellipsis), token, bold)


def scale_ns(latencies_ns: list[int]) -> int:
    """The latency that fills the bar: the next 1-2-5 step above all but the slowest twentieth."""
    if not latencies_ns:
        return 8 * text.MS
    ordered = sorted(latencies_ns)
    high = ordered[(len(ordered) - 1) * 19 // 20]
    step = 1
    while True:
        for factor in (1, 2, 5):
            if factor * step * 100_000 >= high:
                return factor * step * 100_000
        step *= 10
