"""A line that says what takes so long, until it is done."""

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

AFTER_S = 1.0
"""Nobody wonders about less."""


@contextmanager
def said_if_long(what: str, out: TextIO | None = None, after_s: float = AFTER_S) -> Iterator[None]:
    """Say `what` on a terminal (standard error, if none is given) while the block lasts long, then wipe it out."""
    stream = sys.stderr if out is None else out
    if not stream.isatty():
        yield
        return
    done = threading.Event()
    said = False

    def wait() -> None:
        nonlocal said
        if not done.wait(after_s):
            from kflab.kubectl.hostile import printable  # a quick start needs none

            said = True
            line = printable(f"kflab: {what} ...")[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{line}", end="", file=stream, flush=True)

    teller = threading.Thread(target=wait, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        if said:
            print("\r\x1b[K", end="", file=stream, flush=True)
