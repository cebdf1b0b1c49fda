"""A program on a pseudo-terminal, what its screen shows, and when: standard library only, Linux.

The screen is followed cell by cell, because a live screen writes all the time: only what a key must change says that
the key was answered. Programs that bracket a frame in synchronised updates (terminal mode 2026,
https://gist.github.com/christianparpart/d8a62cc1ab659194337d73e399004036) are told that this terminal knows them, as
most do; a frame then counts as shown at its end, as it would be.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from kflab.errors import KflabError

COLUMNS, ROWS = 120, 40

_PIECE = re.compile(
    r"\x1b\[(?P<csi>[0-9:;<=>?]*[ -/]*)(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[ -/]*[0-OQ-WYZ`-~]"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
)
"""ECMA-48: control sequences, operating system commands, other strings, short escapes, controls, text."""


class Glass:
    """The cells of a terminal, from the bytes that came: cursor moves, text and erasing; colours are left out."""

    def __init__(self, columns: int = COLUMNS, rows: int = ROWS) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.in_frame = False
        """Inside a synchronised update: not shown yet."""
        self._x = self._y = 0
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> None:
        """Take in what came; an escape sequence cut in two waits for its other half."""
        text = self._rest + self._decoder.decode(data)
        at = 0
        while at < len(text):
            found = _PIECE.match(text, at)
            if found is None:
                if len(text) - at > 4096:  # no terminal sequence is so long: this is none
                    at += 1
                    continue
                break
            at = found.end()
            if found["text"]:
                self._write(found["text"])
            elif found["final"]:
                self._control(found["csi"], found["final"])
            elif found["control"]:
                self._move(found["control"])
        self._rest = text[at:]

    def line(self, row: int) -> str:
        """One row; negative ones count from the last."""
        return "".join(self.cells[row])

    def text(self) -> str:
        """All rows."""
        return "\n".join(map("".join, self.cells))

    def has(self, *words: str) -> bool:
        """Whether all words stand on the glass, none across two rows."""
        text = self.text()
        return all(word in text for word in words)

    def _write(self, text: str) -> None:
        row = self.cells[self._y]
        for char in text:
            wide = 1 if char < "\u0300" else _width(char)
            if wide:
                self._x = min(self._x, self.columns - 1)
                row[self._x] = char
                if wide == 2 and self._x + 1 < self.columns:
                    row[self._x + 1] = ""
                self._x += wide

    def _move(self, char: str) -> None:
        if char == "\r":
            self._x = 0
        elif char == "\n":
            if self._y == self.rows - 1:
                self.cells = [*self.cells[1:], [" "] * self.columns]
            else:
                self._y += 1
        elif char == "\b":
            self._x = max(0, self._x - 1)

    def _control(self, parameters: str, final: str) -> None:
        if parameters.startswith("?"):
            if parameters == "?2026" and final in "hl":
                self.in_frame = final == "h"
            return
        try:
            numbers = [int(part or 0) for part in parameters.split(";")]
        except ValueError:  # another private form
            return
        first = max(1, numbers[0])
        match final:
            case "H" | "f":
                self._y = min(first, self.rows) - 1
                self._x = min(max(1, numbers[1]) if len(numbers) > 1 else 1, self.columns) - 1
            case "A":
                self._y = max(0, self._y - first)
            case "B":
                self._y = min(self.rows - 1, self._y + first)
            case "C":
                self._x = min(self.columns - 1, self._x + first)
            case "D":
                self._x = max(0, self._x - first)
            case "G":
                self._x = min(first, self.columns) - 1
            case "J" if numbers[0] in (2, 3):
                self.cells = [[" "] * self.columns for _ in range(self.rows)]
            case "K" if numbers[0] == 0:
                self.cells[self._y][self._x :] = [" "] * (self.columns - self._x)
            case _:
                pass


def _width(char: str) -> int:
    """Cells that a character takes."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def environment(home: Path) -> dict[str, str]:
    """A plain login's environment with its own home, so that a measurement neither reads nor leaves state."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LC_ALL") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor"}


class Terminal:
    """A program on a pseudo-terminal of its own; a context manager that ends it.

    Args:
        command: Program and arguments.
        env: Its whole environment.
        columns: Width.
        rows: Height.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], columns: int = COLUMNS, rows: int = ROWS
    ) -> None:
        self.glass = Glass(columns, rows)
        self.received = 0
        """Bytes that came so far."""
        self._tail = b""
        self._master, slave = pty.openpty()
        try:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            self.started_s = time.monotonic()
            """Just before the program was started."""
            self._process = subprocess.Popen(
                list(command), stdin=slave, stdout=slave, stderr=slave, env=dict(env), start_new_session=True,
                # Its controlling terminal: should this process die, the kernel hangs up on the program.
                preexec_fn=_take_terminal,
            )  # fmt: skip
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The program's process."""
        return self._process.pid

    def press(self, keys: str) -> float:
        """Send keys; returns the monotonic time at which they were written."""
        os.write(self._master, keys.encode())
        return time.monotonic()

    def read(self, timeout_s: float) -> float | None:
        """Read once. Returns the time at which bytes came, or None when none came in time.

        Raises:
            KflabError: If the program has ended.
        """
        ready, _, _ = select.select([self._master], [], [], max(0.0, timeout_s))
        if not ready:
            return None
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the other side open any more
            data = b""
        at = time.monotonic()
        if not data:
            raise KflabError(f"the program on the pseudo-terminal ended; its screen was:\n{self.shown()}")
        self.received += len(data)
        self._answer(data)
        self.glass.feed(data)
        return at

    def _answer(self, data: bytes) -> None:
        """Answer the one question that decides how frames are written; others may go unanswered."""
        seen = self._tail + data
        if b"\x1b[?2026$p" in seen:
            os.write(self._master, b"\x1b[?2026;2$y")
            seen = b""
        self._tail = seen[-8:]

    def wait(self, done: Callable[[Glass], bool], timeout_s: float, what: str) -> float:
        """Read until the glass fulfils a condition; returns the time at which the bytes came that made it so.

        Raises:
            KflabError: If it never does.
        """
        found = self.first(done, timeout_s)
        if found is None:
            raise KflabError(f"waited {timeout_s:g} s for {what}; the screen was:\n{self.shown()}")
        return found

    def first(self, done: Callable[[Glass], bool], timeout_s: float) -> float | None:
        """As `wait`, but None when it never comes."""
        end = time.monotonic() + timeout_s
        at = time.monotonic()
        while self.glass.in_frame or not done(self.glass):
            left = end - time.monotonic()
            if left <= 0:
                return None
            at = self.read(left) or at
        return at

    def drain(self, seconds: float) -> None:
        """Read whatever comes in a span of time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)

    def shown(self) -> str:
        """The screen without empty rows, for messages."""
        return "\n".join(line for line in (row.rstrip() for row in self.glass.text().splitlines()) if line)

    def cpu_s(self) -> float:
        """Computing time of the program so far, all its threads (proc(5): utime and stime)."""
        # The command's name may hold blanks and brackets; the fields start after its last bracket.
        fields = _proc(self.pid, "stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def starved_s(self) -> float:
        """How long the program's threads, and this process, were ready to run but had no core (proc(5): schedstat).

        Waits that overlap are counted twice, so this is an upper bound; 0 where the kernel does not say.
        """
        try:
            threads = os.listdir(f"/proc/{self.pid}/task")
            waits = [_proc(self.pid, f"task/{thread}/schedstat") for thread in threads]
            return sum(int(line.split()[1]) for line in (*waits, _proc(os.getpid(), "schedstat"))) / 1e9
        except (KflabError, OSError, IndexError):
            return 0.0

    def rss_mb(self) -> float:
        """Memory of the program that is resident now, in MB of 10⁶ bytes."""
        for line in _proc(self.pid, "status").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise KflabError("no VmRSS in /proc/PID/status")

    def close(self) -> None:
        """End the program, gently first."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        os.close(self._master)


def _take_terminal() -> None:
    """Runs in the child, after setsid: make standard input its controlling terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise KflabError(f"cannot read /proc/{pid}/{name}: {error.strerror}; this needs Linux") from None
