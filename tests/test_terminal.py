"""The lab on a real terminal: it starts, a pod is killed, it ends, and the terminal is as it was."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, environment, needs_screen

KFLAB = shutil.which("kflab", path=str(Path(sys.executable).parent)) or "kflab"

STEADY_BYTES_PER_S = 700_000
"""A scrolling trace at 30 frames/s was measured at 607 kB/s; a screen that repaints whole frames takes far more."""

SSH_BYTES_PER_S = 250_000
"""Over SSH at most 10 frames/s: 211 kB/s measured with everything scrolling."""

pytestmark = needs_screen


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Terminal]]:
    """Terminals to close whatever happens."""
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def shell(script: str, home: Path, started: list[Terminal], **more: str) -> Terminal:
    terminal = Terminal(["/bin/sh", "-c", script], environment(home, **more))
    started.append(terminal)
    return terminal


def test_start_kill_quit_leaves_the_terminal_as_it_was(tmp_path: Path, started: list[Terminal]) -> None:
    script = f'stty -a | tr "\\n" " "; echo; "{KFLAB}"; echo "code $?"; stty -a | tr "\\n" " "; echo; echo finished'
    terminal = shell(script, tmp_path, started)
    terminal.wait_for(lambda text: "overview" in text and "product-service" in text, "the first frame")
    assert "Traceback" not in terminal.text()
    terminal.press("k")
    terminal.read_for(1.0)
    terminal.press("\r")
    terminal.read_for(0.5)
    terminal.press("\r")
    terminal.wait_for(lambda text: "crashed" in text, "word of the crash")
    terminal.press("\x1b")
    terminal.read_for(0.5)
    terminal.press("q")
    assert terminal.finish() == 0
    raw = bytes(terminal.raw)
    entered, left = raw.find(b"\x1b[?1049h"), raw.rfind(b"\x1b[?1049l")
    assert 0 <= entered < left, "the alternate screen was entered and left"
    after = raw[left:]
    assert b"code 0" in after
    assert b"finished" in after
    for switch_off, switch_on in ((b"\x1b[?25h", b"\x1b[?25l"), (b"\x1b[?1000l", b"\x1b[?1000h")):
        assert raw.rfind(switch_off) > raw.rfind(switch_on), f"{switch_off!r} came last"
    settings = [line.strip() for line in raw.split(b"\n") if b"speed" in line and b"icanon" in line]
    assert len(settings) == 2
    assert settings[0].replace(b"\r", b"") in settings[1].replace(b"\r", b"")


@pytest.mark.parametrize(
    ("more", "budget"), [({}, STEADY_BYTES_PER_S), ({"SSH_CONNECTION": "::1 1 ::1 22"}, SSH_BYTES_PER_S)]
)
def test_bytes_stay_in_budget(tmp_path: Path, started: list[Terminal], more: dict[str, str], budget: int) -> None:
    terminal = shell(f'exec "{KFLAB}"', tmp_path, started, **more)
    terminal.wait_for(lambda text: "product-service" in text, "the first frame")
    terminal.read_for(1.0)
    assert terminal.read_for(3.0) < 3 * budget
    terminal.press("q")
    assert terminal.finish() == 0


def test_too_small_a_terminal_is_no_traceback(tmp_path: Path, started: list[Terminal]) -> None:
    terminal = Terminal([KFLAB], environment(tmp_path), columns=40, rows=10)
    started.append(terminal)
    terminal.wait_for(lambda text: bool(text.strip()), "anything")
    terminal.read_for(1.0)
    terminal.press("q")
    assert terminal.finish() == 0
    assert b"Traceback" not in bytes(terminal.raw)


@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {"TERM": ""}])
def test_dumb_terminal_gets_plain_lines(tmp_path: Path, started: list[Terminal], more: dict[str, str]) -> None:
    terminal = shell(f'"{KFLAB}" replay pod-crash --duration 2s; echo "code $?"', tmp_path, started, **more)
    terminal.finish()
    raw = bytes(terminal.raw)
    assert b"\x1b[" not in raw
    assert b"Traceback" not in raw
    assert b"code 0" in raw or b"code 1" in raw


def test_ctrl_c_ends_plain_lines_without_a_traceback(tmp_path: Path, started: list[Terminal]) -> None:
    terminal = shell(f'exec "{KFLAB}" replay overview --plain --speed 1', tmp_path, started)
    terminal.wait_for(lambda text: bool(text.strip()), "the first line")
    terminal.press("\x03")
    terminal.finish()
    assert b"Traceback" not in bytes(terminal.raw)


def test_no_color_sends_no_colour(tmp_path: Path, started: list[Terminal]) -> None:
    terminal = shell(f'exec "{KFLAB}"', tmp_path, started, NO_COLOR="1")
    terminal.wait_for(lambda text: "product-service" in text, "the first frame")
    terminal.press("q")
    assert terminal.finish() == 0
    assert b"\x1b[38;2;" not in bytes(terminal.raw)
    assert b"\x1b[48;2;" not in bytes(terminal.raw)
