"""Pictures of real runs, for the README: the app on a held lab, driven by keys, saved as SVG.

Nothing here reads the wall clock: the lab moves only when a picture asks, frame by frame as a terminal would see it
at ×1, and the screen's own clock is the simulated one. So the same versions make the same bytes.
"""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import TextArea

from kflab.errors import KflabError
from kflab.lab.answering import Answering
from kflab.lab.commands import Command, NextEvent, Pause, Restart, Result, Resume, SetSpeed
from kflab.lab.running import Lab
from kflab.lab.snapshot import Snapshot
from kflab.lab.spec import LabSpec
from kflab.records import dataclass
from kflab.scenario.opening import open_what
from kflab.tui.app import KflabApp
from kflab.tui.atomic_write import reason_of, write_atomically
from kflab.tui.picture import svg

FRAME_NS = 50_000_000
"""Simulated time between two frames: what a terminal sees at 20 frames a second and ×1."""

COARSE_NS = 500_000_000
"""Step through the calm before the story."""

PATIENCE = 400
"""Looks at the screen, 10 ms apart, before something awaited counts as missing."""

UNSET = ("NO_COLOR", "SSH_CONNECTION", "KFLAB_THEME")
"""Variables of the caller's terminal that would change a picture."""


class HeldLab(Answering):
    """A `LabHandle` that stands still: one lab, no thread; time passes only through `advance`."""

    def __init__(self, spec: LabSpec) -> None:
        self._spec = spec
        self._lab = Lab(spec)
        self._paused = False
        self._speed = 1.0
        self._snapshot = self._draw()

    @property
    def t_ns(self) -> int:
        """Simulated now."""
        return self._lab.t_ns

    def seconds(self) -> float:
        """Simulated now, as a clock."""
        return self._lab.t_ns / 1e9

    def advance(self, to_ns: int) -> None:
        """Let simulated time pass."""
        self._lab.advance(to_ns)
        self._snapshot = self._draw()

    def snapshot(self) -> Snapshot:
        """The lab as of now."""
        return self._snapshot

    def close(self) -> None:
        """Nothing to stop."""

    def _draw(self) -> Snapshot:
        drawn = self._lab.snapshot()
        return replace(drawn, paused=self._paused, speed_asked=self._speed, speed_reached=self._speed)

    def _obey(self, command: Command) -> Result:
        match command:
            case Pause() | Resume():
                self._paused = isinstance(command, Pause)
                result = Result(True)
            case SetSpeed(factor):
                self._speed = factor
                result = Result(True)
            case NextEvent():
                self._paused = True
                result = self._lab.next_event()
            case Restart():
                self._lab = Lab(self._spec)
                result = Result(True)
            case _:
                result = self._lab.do(command)
        self._snapshot = self._draw()
        return result

    def _ask(self, work: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(work())
        except KflabError as error:
            future.set_exception(error)
        return future


class Stage:
    """The app on a held lab, and what a picture does with it."""

    def __init__(self, app: KflabApp, pilot: Pilot[Any], lab: HeldLab) -> None:
        self.app = app
        self.pilot = pilot
        self.lab = lab

    async def settle(self) -> None:
        """Let every message and layout of what has happened come to an end."""
        for _ in range(4):
            await self.pilot.pause()

    async def until(self, t_s: float, step_ns: int = FRAME_NS) -> None:
        """Let the lab run to an instant, showing every frame on the way; in coarse steps none is painted."""
        end = round(t_s * 1e9)
        while self.lab.t_ns < end:
            self.lab.advance(min(end, (self.lab.t_ns // step_ns + 1) * step_ns))
            self.app.main.tick()
            if step_ns == FRAME_NS:
                await self.pilot.pause()
        await self.settle()

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, each with its consequences."""
        for key in keys:
            await self.pilot.press(key)
            self.app.main.tick()
            await self.settle()

    async def when(self, seen: Callable[[str], bool], what: str) -> None:
        """Wait for something that the app does by a timer of its own.

        Raises:
            KflabError: If it does not come.
        """
        for _ in range(PATIENCE):
            if seen("\n".join(self.lines())):
                await self.settle()
                return
            await self.pilot.pause(0.01)
        raise KflabError(f"screenshots: waited in vain for {what}")

    def lines(self) -> list[str]:
        """What stands on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in strips]


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture."""

    name: str
    """File name without its suffix."""
    size: tuple[int, int]
    play: Callable[[Stage], Awaitable[None]]
    """Brings the screen to what the picture shows."""
    shows: str
    """What is to be seen, in a few words; the SVG's description."""
    theme: str = "slate"
    no_color: bool = False
    scenario: str = "overview"


CALM_S = 32.4
"""Instant of the steady pictures, and of the kill: the 30 s column is full."""


async def _calm(stage: Stage) -> None:
    """The steady state."""
    await stage.until(CALM_S - 0.4, COARSE_NS)
    await stage.until(CALM_S)


async def _crash(stage: Stage, after_s: float) -> None:
    """Crash the selected pod as a user would, and let time pass."""
    await _calm(stage)
    await stage.press("k", "enter", "enter")
    await stage.until(CALM_S + after_s)


async def _noticed(stage: Stage) -> None:
    """Half a second on: written, and the callers' rules still old."""
    await _crash(stage, 0.5)


async def _moved(stage: Stage) -> None:
    """Two seconds on: traffic has moved and the pod is not back."""
    await _crash(stage, 2.0)


async def _retried(stage: Stage) -> None:
    """A request that was saved by its second try, opened from Trace."""
    await _crash(stage, 0.7)
    await stage.press("3", "f", "f", "up", "up", "enter")


async def _gantt(stage: Stage) -> None:
    """Who knew when, and the bills, once all have learned."""
    await _moved(stage)
    await stage.press("g")


async def _menu(stage: Stage) -> None:
    """What can be done to the selected pod, its workload, its node and the control plane."""
    await _calm(stage)
    await stage.press("k", "enter")


async def _schematic(stage: Stage) -> None:
    """The same crash as a circuit."""
    await _noticed(stage)
    await stage.press("v")


async def _bad_port(stage: Stage) -> None:
    """The Service's port set to 80800 in the editor."""
    await _calm(stage)
    await stage.press("up", "up", "e", *["down"] * 8, "end", "8", "0", "0")
    await stage.when(lambda text: "65535" in text, "the finding about port 80800")


SHOTS: tuple[Shot, ...] = (
    Shot("overview-120x40", (120, 40), _calm, "steady traffic: every tier with its chooser and its candidates"),
    Shot("pod-killed-120x40", (120, 40), _noticed, "half a second after a pod crashed: who knows, who does not"),
    Shot("traffic-moved-120x40", (120, 40), _moved, "two seconds after the crash: the rules changed, traffic moved"),
    Shot("request-120x40", (120, 40), _retried, "one request, tried twice, hop by hop"),
    Shot("editor-error-120x40", (120, 40), _bad_port, "port 80800 in the editor, and why it is refused"),
    Shot("schematic-120x40", (120, 40), _schematic, "the crash, drawn as a circuit"),
    Shot("gantt-120x40", (120, 40), _gantt, "who knew when of the crash, and a bill for every lost request"),
    Shot("menu-120x40", (120, 40), _menu, "what can be done to a pod, its workload, its node and the control plane"),
    Shot("wide-200x60", (200, 60), _retried, "the crash and a retried request on a large terminal"),
    Shot("small-80x24", (80, 24), _noticed, "the crash at 80×24"),
    Shot("paper-120x40", (120, 40), _moved, "traffic has moved; the light theme", theme="paper"),
    Shot("nocolor-120x40", (120, 40), _noticed, "the crash under NO_COLOR", no_color=True),
)


@contextmanager
def _terminal(no_color: bool) -> Iterator[None]:
    """The environment of a picture: nothing of the caller's terminal, and a state folder that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        wanted: Mapping[str, str] = {"XDG_STATE_HOME": folder, **({"NO_COLOR": "1"} if no_color else {})}
        before = {name: os.environ.get(name) for name in (*UNSET, "XDG_STATE_HOME")}
        for name in UNSET:
            os.environ.pop(name, None)
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


async def _take(shot: Shot) -> str:
    lab = HeldLab(open_what([shot.scenario]).spec)
    app = KflabApp(lab, theme=shot.theme, glyphs="unicode")
    app.animation_level = "none"
    # Figures change four times a second and changed states are bold for one: seconds of the story, not of the wall.
    app.main.ledger._clock = lab.seconds
    app.main.clock = lab.seconds
    async with app.run_test(size=shot.size) as pilot:
        for area in app.main.query(TextArea):
            area.cursor_blink = False
        stage = Stage(app, pilot, lab)
        await stage.settle()
        await shot.play(stage)
        strips = app.screen._compositor.render_strips()
        return svg(strips, f"kflab {shot.scenario}", shot.shows)


def take(shot: Shot) -> str:
    """Make one picture.

    Returns:
        The SVG, the same bytes every time.

    Raises:
        KflabError: If the run did not come to what the picture is to show.
    """
    with _terminal(shot.no_color):
        return asyncio.run(_take(shot))


def make(folder: str, names: Sequence[str] = ()) -> Iterator[Path]:
    """Make all pictures, or those named, in a folder.

    Yields:
        Each file when it is written.

    Raises:
        KflabError: If a name is unknown, or a file cannot be written.
    """
    known = {shot.name: shot for shot in SHOTS}
    for name in names:
        if name not in known:
            raise KflabError(f"no picture named {name!r}; there are {', '.join(known)}")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KflabError(f"{folder}: {reason_of(error)}") from error
    for name in names or known:
        path = Path(folder) / f"{name}.svg"
        write_atomically(path, take(known[name]))
        yield path
