"""A lab in its own thread: faces queue commands, ask for snapshots and never wait for the engine.

Wall clock is read here and nowhere to the left: it decides how fast the story is told, never the story.
"""

import gc
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from kflab.errors import KflabError
from kflab.lab.answering import Answering
from kflab.lab.commands import (
    Command,
    NextEvent,
    Pause,
    Restart,
    Result,
    Resume,
    SetSpeed,
)
from kflab.lab.running import Lab
from kflab.lab.snapshot import Snapshot, Span
from kflab.lab.spec import LabSpec

STEP_S = 0.04
"""Wall time between two steps: a snapshot is never older than that."""

MOST_NS = 500_000_000
"""Largest simulated step between two looks at the clock and the command queue."""

BEHIND_S = 0.25
"""How much untold wall time is carried; more is dropped, the lab runs slower and says so."""

BUSY_S = 0.02
"""Longest wall time spent advancing before commands and snapshots get their turn: keeps a key press quick."""

CALM_AFTER_S = 2.0
"""When everything that lives as long as the screen has been made, and the garbage collector need not look at it again:
a full collection of 130,000 objects held the interpreter for 80 to 100 ms, several times a minute."""

FULL_COLLECTION = 100
"""Collections of the middle generation before a full one (Python's default is 10): what a screen's caches hold still
takes 45 ms to look through, and this makes it a dozen seconds between two; more would let garbage pile up."""

SWITCH_S = 0.001
"""How long the screen waits at most for the interpreter while this thread computes (Python's default is 5 ms, paid
once for reading a key, once for handling it and once for writing the frame)."""

SLOWEST, FASTEST = 0.01, 100.0
"""Bounds of the asked speed."""

DRAW_SHARE = 3.0
"""After a snapshot this many times its cost belongs to the simulation: large clusters are drawn less often."""

_Job = tuple[Callable[[], Any], "Future[Any]"]


class LabThread(Answering):
    """A `LabHandle`: one lab, one thread.

    Args:
        spec: What to run. It is built in the calling thread, so that bad input is told before a screen opens.
        speed: Simulated seconds per second.
        held: Wait with the story until `begin`: commands are obeyed, but time stands still.

    Raises:
        KflabError: If the spec cannot be run.
    """

    def __init__(self, spec: LabSpec, speed: float = 1.0, *, held: bool = False) -> None:
        self._spec = spec
        self._lab = Lab(spec)
        self._speed = speed
        self._reached = speed
        self._paused = False
        self._held = held
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._mark_wall, self._mark_sim = time.monotonic(), 0
        """Where measuring the reached speed began."""
        self._failure: Exception | None = None
        self._draw_again = 0.0
        """Wall instant before which no snapshot is drawn for the asking."""
        self._snapshot = self._draw()
        self._frozen = False
        self._switch_s = sys.getswitchinterval()
        self._thresholds = gc.get_threshold()
        sys.setswitchinterval(SWITCH_S)
        self._thread = threading.Thread(target=self._run, name="kflab-lab", daemon=True)
        self._thread.start()

    # --- what faces call ------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The newest snapshot; asks the thread for the next one."""
        self._asked.set()
        return self._snapshot

    def begin(self) -> None:
        """Tell the story from here on: there is a picture of its beginning, and its making needs no core any more."""
        self._held = False
        self._jobs.put(None)

    def close(self) -> None:
        """Stop the thread and wait for it.

        Raises:
            Exception: What ended the lab before its time.
        """
        self._closed.set()
        self._jobs.put(None)
        self._thread.join(timeout=5.0)
        sys.setswitchinterval(self._switch_s)
        if self._frozen:
            gc.unfreeze()
            gc.set_threshold(*self._thresholds)
            self._frozen = False
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    # --- the thread -----------------------------------------------------------------------------------------

    def _ask(self, work: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._jobs.put((work, future))
        return future

    def _measure_anew(self) -> None:
        """Speed, pause or lab changed: what was reached before says nothing any more."""
        self._reached = self._speed
        self._mark_wall, self._mark_sim = time.monotonic(), self._lab.t_ns

    def _obey(self, command: Command) -> Result:
        result = self._do(command)
        if isinstance(command, (Pause, Resume, SetSpeed, NextEvent, Restart)):
            self._measure_anew()
        return result

    def _do(self, command: Command) -> Result:
        match command:
            case Pause():
                self._paused = True
                return Result(True, "paused")
            case Resume():
                self._paused = False
                return Result(True, "running")
            case SetSpeed(factor):
                self._speed = min(max(factor, SLOWEST), FASTEST)
                return Result(True, f"speed ×{self._speed:g}")
            case NextEvent():
                self._paused = True
                return self._lab.next_event()
            case Restart():
                self._lab = Lab(self._spec)
                self._paused = False
                if self._frozen:  # the old lab is garbage now, and full of cycles
                    gc.unfreeze()
                    gc.collect()
                    gc.freeze()
                return Result(True, "started again")
            case _:
                return self._lab.do(command)

    def _draw(self) -> Snapshot:
        return replace(self._lab.snapshot(), paused=self._paused, speed_asked=self._speed, speed_reached=self._reached)

    def _serve(self, job: _Job | None) -> None:
        if job is None:
            return
        work, future = job
        try:
            result = work()
        except KflabError as error:
            future.set_exception(error)
            return
        except Exception as error:  # the lab ends with it (`_run`); whoever waits for this answer must not wait on
            future.set_exception(KflabError(f"the lab has stopped: {error}"))
            raise
        self._snapshot = self._draw()  # before the answer: who waited for it sees what it did
        future.set_result(result)

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # whatever ends the thread must be seen: faces show it, `close` raises it
            self._failure = error
            story = (Span("✖ The lab stopped: ", "lost"), Span(str(error), "strong"))
            self._snapshot = replace(self._snapshot, story=story, paused=True)
            while not self._closed.is_set():
                job = self._jobs.get()
                if job is not None:
                    job[1].set_exception(KflabError(f"the lab has stopped: {error}"))

    def _loop(self) -> None:
        told = time.monotonic()
        """Wall instant up to which the story has been told."""
        calm_at: float | None = None
        while not self._closed.is_set():
            now = time.monotonic()
            running = not (self._paused or self._held or self._lab.ended)
            if calm_at is None and not self._held:
                calm_at = now + CALM_AFTER_S
            if not running:
                told = now
            elif now - told >= STEP_S:
                told = self._tell(max(told, now - BEHIND_S), now)
            if now - self._mark_wall >= 1.0:
                reached = (self._lab.t_ns - self._mark_sim) / 1e9 / (now - self._mark_wall)
                self._reached = self._speed if reached >= 0.98 * self._speed or not running else reached
                self._mark_wall, self._mark_sim = now, self._lab.t_ns
            if not self._frozen and calm_at is not None and now >= calm_at:
                gc.freeze()
                gc.set_threshold(*self._thresholds[:2], FULL_COLLECTION)
                gc.enable()  # whoever opened the screen may have switched it off for the start
                self._frozen = True
            if self._asked.is_set() and time.monotonic() >= self._draw_again:
                self._asked.clear()
                if running:
                    began = time.monotonic()
                    self._snapshot = self._draw()
                    done = time.monotonic()
                    self._draw_again = done + (done - began) * DRAW_SHARE
            try:
                # Paused: sleep until somebody asks for something; running: until the next step is due.
                wait_s = max(0.001, told + STEP_S - time.monotonic()) if running else 0.25
                self._serve(self._jobs.get(timeout=wait_s))
            except queue.Empty:
                continue

    def _tell(self, told: float, now: float) -> float:
        """Advance the lab towards the wall instant `now`, for `BUSY_S` at most; returns how far the story is told."""
        deadline = time.monotonic() + BUSY_S
        while told < now and time.monotonic() < deadline and self._jobs.empty():
            step_s = min(now - told, MOST_NS / 1e9 / self._speed)
            self._lab.advance(self._lab.t_ns + max(1, int(step_s * self._speed * 1e9)))
            told += step_s
        return told
