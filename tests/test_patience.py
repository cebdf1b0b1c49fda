"""What takes long says so on a terminal, and leaves no trace."""

import io
import time

from kflab.patience import said_if_long


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_for(out: io.StringIO) -> None:
    while not out.getvalue():
        time.sleep(0.001)


def test_a_long_load_is_told_and_wiped_out() -> None:
    out = Terminal()
    with said_if_long("reading big\x1b[2J.yaml", out, after_s=0.0):
        wait_for(out)
        assert out.getvalue() == "\r\x1b[Kkflab: reading big\\x1b[2J.yaml ..."
    assert out.getvalue().endswith("...\r\x1b[K")


def test_a_short_one_says_nothing() -> None:
    out = Terminal()
    with said_if_long("reading small.yaml", out, after_s=60.0):
        pass
    assert out.getvalue() == ""


def test_nothing_is_said_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with said_if_long("reading big.yaml", out, after_s=0.0):
        time.sleep(0.01)
    assert out.getvalue() == ""


def test_a_failure_wipes_the_line_too() -> None:
    out = Terminal()
    try:
        with said_if_long("reading bad.yaml", out, after_s=0.0):
            wait_for(out)
            raise ValueError
    except ValueError:
        pass
    assert out.getvalue().endswith("\r\x1b[K")
