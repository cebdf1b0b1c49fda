"""Ctrl+C that cannot get lost.

Python raises KeyboardInterrupt wherever it stands: inside a garbage collector's callback or a `__del__` it prints and
drops it, and a C extension may clear it. So the handler also remembers, and a loop that runs for long asks at its own
steps.
"""

import signal
import threading
from types import FrameType

_came = threading.Event()


def install() -> None:
    """Take over SIGINT in the main thread, unless somebody ignores it or has a handler of his own."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _remember):
        _came.clear()
        signal.signal(signal.SIGINT, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    _came.set()
    raise KeyboardInterrupt


def check() -> None:
    """Raise what was dropped.

    Raises:
        KeyboardInterrupt: If Ctrl+C came and nothing has ended because of it.
    """
    if _came.is_set():
        raise KeyboardInterrupt
