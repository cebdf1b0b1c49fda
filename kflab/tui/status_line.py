"""The lines above and below the panes: status, story (or tabs), keys."""

import re
from collections.abc import Callable
from itertools import takewhile

from rich.cells import cell_len
from textual import events
from textual.strip import Strip
from textual.widget import Widget

from kflab.lab.snapshot import Snapshot, Span
from kflab.tui.glyphs import UNICODE, Glyphs, to_ascii
from kflab.tui.plan import TABS
from kflab.tui.row import Row
from kflab.tui.text import clock, fit, ms, number, safe, share, shorten, speed
from kflab.tui.tokens import look

_POD_NAME = re.compile(r"\b[a-z0-9][a-z0-9.-]*-[a-z0-9]+-[bcdfghjklmnpqrstvwxz2456789]{5}\b")

_TONES = {"key": ("strong", True), "strong": ("strong", True), "known": ("known", True), "lost": ("lost", True)}


def short_names(text: str, width: int, ellipsis: str = "…") -> str:
    """Shorten the pod names inside a sentence, in the middle."""
    return _POD_NAME.sub(lambda found: shorten(found.group(), width, ellipsis), text)


class Line(Widget):
    """One line that draws itself and is repainted only when it says something new."""

    DEFAULT_CSS = "Line { height: 1; width: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._said: tuple[object, ...] = ()

    @property
    def glyphs(self) -> Glyphs:
        return getattr(self.app, "glyphs", UNICODE)

    def build(self) -> Row:
        raise NotImplementedError

    def check(self) -> None:
        """Repaint when the line changed."""
        said = tuple(self.build().pieces)
        if said != self._said:
            self._said = said
            self.refresh()

    def render_line(self, y: int) -> Strip:
        row = self.build()
        self._said = tuple(row.pieces)
        return row.strip(look(self.app), self.size.width)


SECONDS_FROM_NS = 1_000_000_000
"""From here on percentiles are given in seconds: the columns hold four cells."""

TENTH_NS = 100_000_000
"""Below this a median beside seconds keeps a unit of its own: 0.00 would say nothing."""


def percentile(ns: int | None, in_seconds: bool) -> str:
    """A percentile without its unit."""
    if ns is None or not in_seconds:
        return ms(ns)
    return f"{ns / 1e9:.2f}" if ns < 9.995e9 else f"{ns / 1e9:.1f}"


def status_row(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Row:
    """Scenario, clock, speed, requests/s, success, percentiles, seed, each at its column."""
    if width >= 160:
        at = {"run": 62, "speed": 74, "rate": 105, "ok": 122, "p50": 126, "p99": 135}
    elif width >= 110:
        at = {"run": 36, "speed": 48, "rate": 65, "ok": 82, "p50": 86, "p99": 95}
    elif width >= 78:
        at = {"run": 19, "speed": 30, "rate": 41, "ok": 58, "p50": 60, "p99": 69}
    else:
        at = {"run": 1, "speed": 12, "rate": 22, "ok": 38}
    row = Row()
    if width >= 78:
        row.put(1, "kflab", "strong", bold=True)
        row.put(7, fit(safe(snapshot.scenario), at["run"] - 8, glyphs.ellipsis), "dim")
    held = snapshot.paused or snapshot.ended
    row.put(at["run"], glyphs.paused if held else glyphs.running, "late" if held else "strong")
    row.put(at["run"] + 2, clock(snapshot.t_ns), "strong", bold=True)
    asked = speed(snapshot.speed_asked).replace("×", glyphs.times)
    reached = speed(snapshot.speed_reached).replace("×", glyphs.times)
    if held:
        row.put(at["speed"], "ended" if snapshot.ended else "paused", "late")
    elif snapshot.speed_reached < snapshot.speed_asked * 0.98:
        both = f"{reached} of {asked}"
        room = at["rate"] - len(number(snapshot.rate_rps)) - at["speed"] - 1
        row.put(at["speed"], both if width >= 110 and len(both) <= room else reached, "late")
    else:
        row.put(at["speed"], asked, "dim")
    row.right(at["rate"], number(snapshot.rate_rps), "strong", bold=True)
    row.put(at["rate"] + 1, "req/s" if width >= 78 else "/s", "dim")
    if snapshot.ok_share is None:
        row.right(at["ok"], "0 done", "dim")
    else:
        whole = snapshot.ok_share >= 1
        row.right(at["ok"], f"{share(snapshot.ok_share)} ok", "strong" if whole else "lost", bold=True)
    if "p50" in at:
        slow = max(snapshot.p50_ns or 0, snapshot.p99_ns or 0) >= SECONDS_FROM_NS
        apart = slow and width >= 80 and 0 < (snapshot.p50_ns or 0) < TENTH_NS
        middle = f"{ms(snapshot.p50_ns)}ms" if apart else percentile(snapshot.p50_ns, slow)
        row.put(at["p50"], "p50", "dim").put(at["p50"] + 4, middle, "strong")
        row.put(at["p99"] + apart, "p99", "dim").put(at["p99"] + apart + 4, percentile(snapshot.p99_ns, slow), "strong")
        row.add(" s" if slow else " ms", "dim")
    if width >= 110:
        row.right(width - 1, f"seed {snapshot.seed}", "faint")
    return row


class StatusLine(Line):
    """Row 0."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.check()

    def build(self) -> Row:
        if self.snapshot is None:
            return Row()
        return status_row(self.snapshot, self.size.width, self.glyphs)


def sentence_row(spans: tuple[Span, ...], width: int, glyphs: Glyphs) -> Row:
    """A sentence from its pieces, names shortened, cut with a sign where the terminal is too narrow."""
    row = Row()
    for i, span in enumerate(spans):
        token, bold = _TONES.get(span.tone, (span.tone, False))
        text = short_names(safe(span.text), 16, glyphs.ellipsis)
        if glyphs is not UNICODE:
            text = to_ascii(text)
        room = width - 1 - max(1, row.x)
        last = i == len(spans) - 1
        row.put(1, fit(text, room, glyphs.ellipsis), token, bold=bold)
        if cell_len(text) > room and not last:
            break
    return row


class StoryLine(Line):
    """Row 1: one sentence; with tabs, the tabs and what happened in few words."""

    def __init__(self, tab_chosen: Callable[[str], None]) -> None:
        super().__init__()
        self.spans: tuple[Span, ...] = ()
        self.tabs = False
        self.tab = "topology"
        self._chosen = tab_chosen
        self._places: list[tuple[int, int, str]] = []

    def say(self, spans: tuple[Span, ...], tabs: bool = False, tab: str = "topology") -> None:
        self.spans, self.tabs, self.tab = spans, tabs, tab
        self.check()

    def build(self) -> Row:
        if not self.tabs:
            return sentence_row(self.spans, self.size.width, self.glyphs)
        row = Row()
        self._places = []
        names = TABS if self.tab in TABS else (*TABS[:3], self.tab)
        gap = 3 if self.size.width >= 76 else 1
        for i, name in enumerate(names):
            start = row.x + (gap if i else 1)
            active = name == self.tab
            row.put(start, str(i + 1), "strong" if active else "dim")
            row.put(start + 2, name.capitalize(), "strong" if active else "dim", underline=active)
            self._places.append((start, row.x, name))
        tone = self.spans[0].tone if self.spans and self.spans[0].tone in ("lost", "known", "late") else ""
        if not tone and self.spans and self.spans[0].tone == "text":
            tone = "text"  # a scenario's narration
        if tone:
            first = "".join(span.text for span in takewhile(lambda span: span.tone == tone, self.spans))
            text = _POD_NAME.sub(lambda found: found.group().rpartition("-")[2], safe(first)).rstrip(". ")
            room = self.size.width - row.x - 3
            text = text if self.glyphs is UNICODE else to_ascii(text)
            if room > 10:
                row.right(self.size.width - 1, fit(text, room, self.glyphs.ellipsis), tone, bold=True)
        return row

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._places if self.tabs else ():
            if start <= event.x < end:
                self._chosen(name)


class KeyLine(Line):
    """The last row: keys and what they do now. A click on one is a press."""

    def __init__(self, press: Callable[[str], None]) -> None:
        super().__init__()
        self.keys: tuple[tuple[str, str, str], ...] = ()
        self._press = press
        self._places: list[tuple[int, int, str]] = []

    def offer(self, keys: tuple[tuple[str, str, str], ...]) -> None:
        """Take (key as shown, words, action) from left to right; what does not fit is left out.

        Room for help is always kept: it names the rest.
        """
        self.keys = keys
        self.check()

    def build(self) -> Row:
        row = Row()
        self._places = []
        helped = not any(action == "help" for _, _, action in self.keys)
        for i, (key, words, action) in enumerate(self.keys):
            start = 1 if i == 0 else row.x + 2
            helped = helped or action == "help"
            room = self.size.width - 1 - (0 if helped else len("  ? help"))
            if start + cell_len(key) + 1 + cell_len(words) > room:
                continue
            shown = key if self.glyphs is UNICODE else to_ascii(key)
            row.put(start, shown, "strong", bold=True).put(row.x + 1, words, "dim")
            self._places.append((start, row.x, action))
        return row

    def on_click(self, event: events.Click) -> None:
        for start, end, action in self._places:
            if start <= event.x < end and action:
                self._press(action)
