"""A real terminal for tests: a pseudo-terminal, the bytes that came through it, and what they would show."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pexpect
import pyte
import pytest

PATIENCE_S = 60.0
"""How long a test waits for something to appear: two shared cores can be slow; a pass never takes that long."""

PARTS = ("kflab.cli", "kflab.tui.run", "kflab.lab.thread", "kflab.control.plane", "kflab.engine.engine")

MISSING = [name for name in PARTS if find_spec(name) is None]

needs_screen = pytest.mark.skipif(bool(MISSING), reason=f"not there yet: {', '.join(MISSING)}")


class Terminal:
    """A program on a pseudo-terminal of a given size.

    Args:
        command: Program and arguments.
        env: Its whole environment.
        columns: Width.
        rows: Height.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], columns: int = 120, rows: int = 40) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        self.child = pexpect.spawn(
            command[0], list(command[1:]), env=dict(env), dimensions=(rows, columns), timeout=PATIENCE_S
        )

    def text(self) -> str:
        """What the screen shows now."""
        return "\n".join(self.screen.display)

    def read_for(self, seconds: float) -> int:
        """Read what comes in a span of time; how many bytes came."""
        before = len(self.raw)
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read(min(0.1, end - time.monotonic())):
            pass
        return len(self.raw) - before

    def _read(self, seconds: float) -> bool:
        """Read once; False at the end of the program."""
        try:
            got = self.child.read_nonblocking(65536, timeout=max(0.0, seconds))
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += got
        # Textual asks the terminal questions that pyte answers by writing nowhere, and some it does not know.
        with contextlib.suppress(Exception):
            self._stream.feed(got)
        return True

    def wait_for(self, done: Callable[[str], bool], what: str) -> None:
        """Read until the screen fulfils a condition; fails, showing the screen, if it never does."""
        end = time.monotonic() + PATIENCE_S
        while not done(self.text()):
            if time.monotonic() > end:
                pytest.fail(f"waited {PATIENCE_S:.0f} s for {what}; the screen was:\n{self.text()}")
            if not self._read(0.2):
                if done(self.text()):
                    return
                pytest.fail(f"ended before {what}; the screen was:\n{self.text()}")

    def press(self, keys: str) -> None:
        """Send keys."""
        self.child.send(keys)

    def finish(self) -> int | None:
        """Read to the end and return the exit code; None if a signal ended it."""
        end = time.monotonic() + PATIENCE_S
        while self._read(0.5):
            if time.monotonic() > end:
                self.child.close(force=True)
                pytest.fail(f"did not end; the screen was:\n{self.text()}")
        self.child.close()
        status: int | None = self.child.exitstatus
        return status

    def close(self) -> None:
        """End the program whatever it does."""
        self.child.close(force=True)


def environment(home: Path, **more: str) -> dict[str, str]:
    """A plain login's environment with its own home, so that no test touches the user's state."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    kept.setdefault("LANG", "C.UTF-8")
    return {**kept, "HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor", "SHELL": "/bin/sh", **more}
