"""Bench (f) and (g): the screen as a user meets it, through a pseudo-terminal of 120×40.

A key counts as answered when the glass shows what that key must change: the selected row for an arrow, the focused
pane for tab, the view for v. Any other byte may belong to the next frame, which comes twenty times a second anyway.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from math import ceil
from pathlib import Path
from statistics import median
from time import monotonic

from kflab.bench.terminal_probe import Glass, Terminal, environment
from kflab.errors import KflabError
from kflab.records import dataclass

PATIENCE_S = 60.0
"""How long anything that must come is waited for."""

LOST_S = 2.0
"""A key not answered by then counts as lost, and with this time."""

FIRST_FRAME = ("overview", "client", "who knows", "Manifest", "Trace", "help")
"""Words of the whole first frame: status, ledger to its last rows, both lower panes, key line."""

BARE_WORDS = ("alpha one", "beta two", "gamma three")
BARE_APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("alpha one")
        yield Static("beta two")
        yield Static("gamma three")
Bare().run()
"""
"""The least a Textual screen can be: three widgets of one line."""

BASE_RATE, RATE = 1_000, 100_000
"""Requests/s that `overview` sends by itself; simulated requests/s during key presses."""

PODS = 32
"""Pods of the key presses' Deployment: 16 workers of 2.9 ms each per pod make 176,000 requests/s of room."""

ROLLOUT_EVERY_S, ROLLOUTS = 12, 100
_START_S = 6
"""Simulated: when all pods are ready and known, so that the load can be put on."""

UP, DOWN = "\x1b[A", "\x1b[B"
CYCLE = (DOWN, DOWN, UP, UP, "\t", "\t", "\t", "v", "v", "v")
"""Ten keys that lead back to where they began."""

_CLOCK = re.compile(r"(?:(\d+):)?(\d\d):(\d\d)(?:\.\d\d)?(?= )")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FirstPaint:
    """(f) Seconds from process start to the whole first frame; medians and every run."""

    kflab_s: float
    bare_s: float
    kflab_runs: tuple[float, ...]
    bare_runs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """(g) Key press to paint, in ms."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    unstarved_p99_ms: float
    """p99 less the time for which one of the two sides was ready but other programs had the cores. A lower bound of
    what an idle machine would show: waits that overlap are subtracted twice."""
    lost: int
    """Keys whose effect did not show within two seconds."""
    revision_from: int
    revision_to: int
    """Revision of the EndpointSlice as the screen said it, before and after: a rollout moves it."""
    reached: str
    """Status line at the end."""
    samples_ms: tuple[float, ...]
    unstarved_ms: tuple[float, ...]
    by_key: dict[str, float] = field(default_factory=dict)
    """Worst time of each key."""


@dataclass(frozen=True, slots=True)
class Paused:
    """(g) What a held lab costs."""

    seconds: float
    cpu_share: float
    """Of one core, 0 to 1."""
    bytes_written: int


@dataclass(frozen=True, slots=True)
class Memory:
    """(g) Resident memory, MB of 10⁶ bytes."""

    overview_mb: float
    """`overview` at ×1, ten seconds after its first frame."""
    early_mb: float
    late_mb: float
    early_hours: float
    late_hours: float
    """Simulated hours at which the two were read, at ×100."""
    speed: float
    """Simulated seconds per second really reached between the two."""


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[max(0, ceil(round(len(values) * share, 6)) - 1)]


def simulated_s(glass: Glass) -> int:
    """Simulated whole seconds on the status line."""
    found = _CLOCK.search(glass.line(0))
    if found is None:
        raise KflabError(f"no clock on the status line: {glass.line(0).strip()!r}")
    return int(found[1] or 0) * 3600 + int(found[2]) * 60 + int(found[3])


@contextmanager
def opened(*words: str) -> Iterator[Terminal]:
    """Run kflab on a pseudo-terminal with a home of its own, up to its first frame."""
    with tempfile.TemporaryDirectory(prefix="kflab-bench-") as home:
        command = [sys.executable, "-m", "kflab", *words]
        with Terminal(command, environment(Path(home))) as terminal:
            terminal.wait(lambda glass: glass.has(*FIRST_FRAME[1:]), PATIENCE_S, "the first frame")
            yield terminal


# --- (f) ------------------------------------------------------------------------------------------------------


def first_paint(runs: int = 7) -> FirstPaint:
    """Start kflab and the bare app in turn; the first pair warms the disk cache and is not counted."""
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="kflab-bench-") as home:
        for _ in range(runs + 1):
            ours.append(_paint([sys.executable, "-m", "kflab"], FIRST_FRAME, Path(home)))
            bare.append(_paint([sys.executable, "-c", BARE_APP], BARE_WORDS, Path(home)))
    return FirstPaint(median(ours[1:]), median(bare[1:]), tuple(ours[1:]), tuple(bare[1:]))


def _paint(command: list[str], words: tuple[str, ...], home: Path) -> float:
    with Terminal(command, environment(home)) as terminal:
        return terminal.wait(lambda glass: glass.has(*words), PATIENCE_S, "the first frame") - terminal.started_s


# --- (g) keys -------------------------------------------------------------------------------------------------


def scenario_text(rollouts: int) -> str:
    """`overview` with more pods and a hundred times the load, and a rollout every so often."""
    lines = [
        "kflab: scenario/v1",
        "title: Key presses under load",
        "extends: overview",
        "duration: 3h",
        "actions:",
        f"- {{at: 0s, scale: {{workload: default/Deployment/product, replicas: {PODS}}}}}",
        f"- {{at: {_START_S}s, load: {RATE // BASE_RATE}}}",
    ]
    for n in range(rollouts):
        lines += [
            f"- at: {_START_S + 4 + n * ROLLOUT_EVERY_S}s",
            "  apply:",
            "  - name: 5-deployment.yaml",
            "    text: |",
            *(f"      {line}" for line in _deployment(n + 2).splitlines()),
        ]
    return "\n".join(lines) + "\n"


def _deployment(version: int) -> str:
    return (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: product\n"
        f"spec:\n  replicas: {PODS}\n  template:\n    spec:\n      containers:\n"
        f"      - name: api\n        image: product-api:v{version}\n        ports:\n        - containerPort: 8080\n"
    )


def key_presses(rollout: bool, count: int = 200) -> Keys:
    """Press keys at 100,000 simulated requests/s at ×1, steadily or while Pods are being replaced."""
    with tempfile.TemporaryDirectory(prefix="kflab-bench-") as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(scenario_text(ROLLOUTS if rollout else 0), encoding="utf-8")
        with opened(str(path)) as terminal:
            terminal.wait(lambda glass: simulated_s(glass) >= _START_S + 5, PATIENCE_S, "the load")
            for _ in range(20):
                terminal.press(UP)
                terminal.drain(0.05)
            terminal.drain(1.0)
            revision = _revision(terminal.glass)
            samples = [(key, *_press(terminal, key, n)) for n, key in enumerate(_keys(count))]
            terminal.drain(0.5)
            return _keys_of(samples, revision, _revision(terminal.glass), terminal.glass.line(0))


def _keys(count: int) -> list[str]:
    return [CYCLE[n % len(CYCLE)] for n in range(count)]


def _keys_of(samples: list[tuple[str, float, float]], before: int, after: int, status: str) -> Keys:
    times = [round(1e3 * spent, 3) for _, spent, _ in samples]
    unstarved = [round(1e3 * max(0.0, spent - starved), 3) for _, spent, starved in samples]
    names = {UP: "up", DOWN: "down", "\t": "tab"}
    worst: dict[str, float] = {}
    for (key, _, _), spent in zip(samples, times, strict=True):
        name = names.get(key, key)
        worst[name] = max(worst.get(name, 0.0), spent)
    return Keys(
        p50_ms=quantile(times, 0.5),
        p99_ms=quantile(times, 0.99),
        max_ms=max(times),
        unstarved_p99_ms=quantile(unstarved, 0.99),
        lost=sum(spent >= LOST_S for _, spent, _ in samples),
        revision_from=before,
        revision_to=after,
        reached=" ".join(status.split()),
        samples_ms=tuple(times),
        unstarved_ms=tuple(unstarved),
        by_key=worst,
    )


def _press(terminal: Terminal, key: str, n: int) -> tuple[float, float]:
    """Press one key and wait for its effect; then a pause, so that keys fall anywhere between two frames.

    Returns:
        Seconds until the effect showed, and those spent waiting for a core, on both sides.
    """
    sign = sign_of(key)
    before, starved = sign(terminal.glass), terminal.starved_s()
    pressed = terminal.press(key)
    shown = terminal.first(lambda glass: sign(glass) != before, LOST_S)
    starved = terminal.starved_s() - starved
    terminal.drain(0.03 + 0.06 * (n * 0.6180339887 % 1.0))
    return LOST_S if shown is None else max(0.0, shown - pressed), starved


def sign_of(key: str) -> Callable[[Glass], str]:
    """What on the glass a key must change."""
    return {"v": view_sign, "\t": focus_sign}.get(key, row_sign)


def row_sign(glass: Glass) -> str:
    """Rows with the mark of the selection."""
    return ",".join(str(n) for n, row in enumerate(glass.cells) if row[0] == "▌")


def focus_sign(glass: Glass) -> str:
    """Panes whose title line is heavy; none means the ledger, which has no title."""
    text = glass.text()
    return ",".join(pane for pane in ("Topology", "Nodes", "Manifest", "Trace") if f"━ {pane}" in text)


def view_sign(glass: Glass) -> str:
    """Which view of the topology is shown."""
    top = glass.line(2)
    return next((word for word in ("who chooses", "Topology", "Nodes") if word in top), "")


def _revision(glass: Glass) -> int:
    """Revision of the EndpointSlice as "who knows" says it; 0 when it says none."""
    line = next((line for line in glass.text().splitlines() if "EndpointSlice" in line), "")
    found = re.search(r"\brev (\d+)", line)
    return int(found[1]) if found else 0


# --- (g) at rest, memory ----------------------------------------------------------------------------------------


def paused(seconds: float = 30.0) -> Paused:
    """Hold `overview` and see what the process still computes and writes."""
    with opened() as terminal:
        terminal.drain(2.0)
        terminal.press(" ")
        terminal.wait(lambda glass: "paused" in glass.line(0), PATIENCE_S, "the pause")
        terminal.drain(2.0)
        begin, cpu, written = monotonic(), terminal.cpu_s(), terminal.received
        terminal.drain(seconds)
        spent = terminal.cpu_s() - cpu
        return Paused(seconds, spent / (monotonic() - begin), terminal.received - written)


def memory(quick: bool = False, tell: Tell = lambda text: None) -> Memory:
    """Resident memory of `overview` at ×1, then at simulated hours 1 and 3 at ×100 (quick: minutes 3 and 9)."""
    with opened() as terminal:
        terminal.drain(10.0)
        overview_mb = terminal.rss_mb()
    hour = 180 if quick else 3600
    with opened("--speed", "100") as terminal:
        early = _reach(terminal, hour, tell)
        early_mb, begin = terminal.rss_mb(), monotonic()
        late = _reach(terminal, 3 * hour, tell)
        late_mb, speed = terminal.rss_mb(), (late - early) / (monotonic() - begin)
    return Memory(overview_mb, early_mb, late_mb, early / 3600, late / 3600, speed)


def _reach(terminal: Terminal, target_s: int, tell: Tell) -> int:
    """Wait for a simulated instant; gives up when the clock is slower than a tenth of ×100."""
    begin, start = monotonic(), simulated_s(terminal.glass)
    patience = PATIENCE_S + (target_s - start) / 10
    told = 0
    while (now := simulated_s(terminal.glass)) < target_s:
        spent = monotonic() - begin
        if spent > patience:
            raise KflabError(f"reached {now} simulated seconds in {spent:.0f} s; {target_s} were wanted")
        if spent >= told + 30:
            told = int(spent)
            tell(f"  simulated {now} s of {target_s} s")
        terminal.drain(0.25)
    return now
