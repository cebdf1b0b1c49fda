"""What a bench run has found, and how it is told: a table for people, a tree for JSON."""

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kflab import KUBERNETES_RELEASE, __version__
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.bench.engine_workloads import Measured

LETTERS = {
    "a": "engine: routing, and the full path with queueing latency (one core)",
    "b": "floor: numpy drawing and counting as many random integers as the path has choices",
    "c": "peers: the same path in plain Python and in SimPy",
    "d": "counts mode: 10⁶ and 10⁹ requests",
    "e": "generated clusters of 10 to 5,000 nodes: load, compile, one pod killed, a node lost, memory",
    "f": "process start to first paint, beside a bare Textual app of three widgets",
    "g": "the screen through a pseudo-terminal: key to paint, a held lab, memory",
    "h": "rules of one node among 10,000 Services × 10 endpoints and 5,000 nodes: write, change, walk; conform",
    "i": "one simulated hour of 100 nodes, 10,000 requests/s and a rolling update: CPU time, memory",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report."""

    letter: str
    name: str
    value: float
    unit: str
    means: str
    beside: str = ""
    """The baseline of the same run."""
    target: str = ""
    reached: bool | None = None
    """None: no target, or not to be judged by this run: its baseline is missing, or it was a quick one."""


@dataclass(slots=True)
class Bench:
    """What a run has found so far; `tell` narrates to people, never into the report."""

    tell: Callable[[str], None]
    quick: bool = False
    paused_s: float = 30.0
    figures: list[Figure] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    """Letter → every figure as measured."""
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Workloads that could not be measured, each with why."""
    found: dict[str, float] = field(default_factory=dict)
    """Values that later targets are compared with."""

    def add(
        self, letter: str, name: str, value: float, unit: str, means: str, *,
        beside: str = "", target: str = "", reached: bool | None = None,
    ) -> None:  # fmt: skip
        """Keep a figure."""
        self.figures.append(Figure(letter, name, value, unit, means, beside, target, reached))
        self.tell(f"  {name}: {shown(value)} {unit}")

    def measured(self, letter: str, found: "Measured") -> None:
        """Keep what a workload of the engine measured, raw."""
        self.raw.setdefault(letter, []).append(asdict(found))
        self.found[found.name] = found.value


@dataclass(frozen=True, slots=True)
class Report:
    """A finished run."""

    machine: dict[str, Any]
    letters: tuple[str, ...]
    bench: Bench
    took_s: float

    def tree(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "kflab": __version__,
            "kubernetes": KUBERNETES_RELEASE,
            "machine": self.machine,
            "workloads": {letter: LETTERS[letter] for letter in LETTERS if letter in self.letters},
            "quick": self.bench.quick,
            "took_s": round(self.took_s, 1),
            "figures": [asdict(figure) for figure in self.ordered()],
            "raw": self.bench.raw,
            "notes": self.notes(),
            "failed": self.bench.failed,
        }

    def ordered(self) -> list[Figure]:
        """Figures by letter, as measured within one."""
        return sorted(self.bench.figures, key=lambda figure: figure.letter)

    def notes(self) -> list[str]:
        """What one must know to read the figures."""
        notes = list(self.bench.notes)
        busy = self.machine["load_average_before"]
        if busy > 0.5:
            notes.insert(0, f"the machine was not idle when this began (load average {busy:g}): figures are too slow")
        return notes

    def text(self) -> str:
        """The table: per figure one line of name, value, baseline and target, and below it what it means."""
        machine = self.machine
        lines = [
            f"kflab {__version__} bench: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:g} GB; "
            f"Python {machine['python']}, numpy {machine['numpy']}, Textual {machine['textual']}",
        ]
        figures = self.ordered()
        names = max((len(figure.name) for figure in figures), default=0)
        for letter in LETTERS:
            mine = [figure for figure in figures if figure.letter == letter]
            if not mine:
                continue
            lines += ["", f"({letter}) {LETTERS[letter]}"]
            for figure in mine:
                value = f"{shown(figure.value):>10} {figure.unit}"
                extra = "; ".join(text for text in (figure.beside, verdict(figure)) if text)
                lines.append(f"  {figure.name:<{names}} {value:<22} {extra}".rstrip())
                lines.append(f"      {figure.means}")
        lines += self._closing(figures)
        return "\n".join(lines) + "\n"

    def _closing(self, figures: Iterable[Figure]) -> list[str]:
        judged = [figure for figure in figures if figure.reached is not None]
        missed = [figure.name for figure in judged if not figure.reached]
        lines = [""]
        if judged:
            tail = f"; missed: {', '.join(missed)}" if missed else ""
            lines.append(f"targets reached: {len(judged) - len(missed)} of {len(judged)}{tail}")
        lines += [f"not measured: {text}" for text in self.bench.failed]
        lines += [f"note: {text}" for text in self.notes()]
        lines.append(f"took {self.took_s:.0f} s")
        return lines


def verdict(figure: Figure) -> str:
    """The target and whether it is reached, in words."""
    if not figure.target:
        return ""
    if figure.reached is None:
        return f"target {figure.target}: this run cannot say"
    return f"target {figure.target}: {'reached' if figure.reached else 'MISSED'}"


def times(value: float, baseline: float | None, name: str) -> str:
    """`value` as a multiple of a baseline; "" without one."""
    return "" if baseline is None else f"{shown(value / baseline)} × {name}"


def shown(value: float) -> str:
    """Three significant figures, large numbers in full thousands."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.2f} M"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def about_machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "textual": _version("textual"),
        "simpy": _version("simpy"),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    """The processor's name, as the kernel says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
