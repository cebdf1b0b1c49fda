"""Painted lines do not wait for the garbage collector."""

import gc
import weakref
from dataclasses import replace

from rich.segment import Segment
from textual.strip import Strip

from kflab.tui.app import KflabApp
from kflab.tui.strips import divide

from .fakes import FakeLab


def test_a_strip_is_divided_as_before() -> None:
    strip = Strip([Segment("who knows"), Segment(" 4 of 4")])
    assert divide(strip, [strip.cell_length])[0] is strip
    assert [part.text for part in divide(strip, [3, 9, 16])] == ["who", " knows", " 4 of 4"]
    assert [part.text for part in divide(strip, iter([9, 16, 40]))] == ["who knows", " 4 of 4"]


def test_a_whole_line_is_gone_with_its_last_user() -> None:
    class Watched(Strip):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        line = Watched([Segment("client")])
        divide(line, [line.cell_length])
        gone = weakref.ref(line)
        del line
        assert gone() is None
    finally:
        gc.enable()


async def test_frames_leave_no_lines_behind() -> None:
    lab = FakeLab("crash_two")
    shown = KflabApp(lab)
    async with shown.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        gc.collect()
        gc.disable()
        try:
            for n in range(1, 6):
                lab.current = replace(lab.current, t_ns=lab.current.t_ns + n * 1_000_000_000)
                shown.main.tick()
                await pilot.pause()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            assert not [found for found in gc.garbage if isinstance(found, Strip)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
