"""Both plays at the same time, each in a process of its own: whoever shows a running lab never waits for them.

A new interpreter is started for each (forked copies of a process with threads may hang, and `multiprocessing` cannot
start one while Textual stands in for standard error). The job goes in by its standard input; how far it is and what it
came to comes back by its standard output, pickled; both ends are this program.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import IO

from kflab.errors import KflabError
from kflab.lab.session import Session
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.records import dataclass
from kflab.scenario.again import Change, Compared, Play, Played, changed, compared, end_of, key_of

NICE = 19
"""How far the plays stand back behind the lab on the screen (nice(2)): they take what it leaves."""

CHILD = f"import os; getattr(os, 'nice', int)({NICE}); from kflab.scenario.again_runs import child; child()"
"""What an interpreter is started with: it stands back before its imports."""


@dataclass(frozen=True, slots=True)
class Job:
    """One play, as it is sent to its process."""

    spec: LabSpec
    end_ns: int
    workload: Key | None


def child() -> None:
    """The process of one play: reads its job, tells how far it is, then what it came to or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    out = sys.stdout.buffer
    job = pickle.load(sys.stdin.buffer)

    def tell(told: int | str | Played) -> None:
        pickle.dump(told, out)
        out.flush()

    try:
        play = Play(job.spec, job.end_ns)
        play.run(tell)
        tell(play.played(job.workload))
    except KflabError as error:
        tell(str(error))


class AgainRun:
    """A session played twice, as it was and with one setting changed.

    Args:
        session: What to play.
        change: The setting.

    Raises:
        KflabError: If nothing in the session has this setting.
    """

    def __init__(self, session: Session, change: Change) -> None:
        self.session, self.change, self.end_ns = session, change, end_of(session)
        self.reached_ns = [0, 0]
        """How far each play is."""
        self.future: Future[Compared] = Future()
        """The two plays, or a `KflabError` that says which could not be played and why."""
        self._specs = (session.spec, changed(session, change))
        self._played: dict[int, Played] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Begin; returns at once."""
        for side in range(2):
            threading.Thread(target=self._follow, args=(side,), name="kflab-again", daemon=True).start()

    def stop(self) -> None:
        """End both processes. Does nothing when they are over."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()

    def name_of(self, side: int) -> str:
        """What a play is called: 0 as it was, 1 with the setting."""
        return str(self.change) if side else "as it was"

    def _follow(self, side: int) -> None:
        """One play, from its start to its end; in a thread of its own."""
        try:
            played = self._play(side)
        except KflabError as error:
            self._fail(error)
        except OSError as error:
            self._fail(KflabError(f"{self.name_of(side)}: no process could be started for it: {error.strerror}"))
        else:
            with self._lock:
                self._played[side] = played
                both = len(self._played) == 2
            if both:
                self.future.set_result(compared(self.session, self.change, self._played[0], self._played[1]))

    def _fail(self, error: KflabError) -> None:
        """The first failure is told; the other play has no use any more."""
        self.stop()
        with self._lock:
            first = not self.future.done()
            if first:
                self.future.set_exception(error)

    def _play(self, side: int) -> Played:
        with self._lock:
            if self._stopped:
                raise KflabError("given up")
            process = subprocess.Popen(
                [sys.executable, "-c", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # it would be written over the screen
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
            )
            self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            pickle.dump(Job(self._specs[side], self.end_ns, key_of(self.session)), process.stdin)
            process.stdin.close()
            return self._listen(side, process.stdout)

    def _listen(self, side: int, stream: IO[bytes]) -> Played:
        """Take in what a play tells, to its end."""
        while True:
            try:
                told = pickle.load(stream)
            except (EOFError, pickle.UnpicklingError):
                raise KflabError(f"{self.name_of(side)}: its process ended before its time") from None
            if isinstance(told, Played):
                return told
            if isinstance(told, str):
                raise KflabError(f"{self.name_of(side)}: {told}")
            self.reached_ns[side] = told
