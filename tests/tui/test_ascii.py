"""A terminal that is not UTF-8: nothing beyond ASCII is sent, whoever draws it."""

import pytest
from rich.segment import Segment
from textual.color import Color

from kflab.tui.app import KflabApp
from kflab.tui.ascii_filter import AsciiFilter

from .fakes import FakeLab


def drawn(app: KflabApp) -> list[str]:
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_no_page_sends_a_byte_beyond_ascii(size: tuple[int, int]) -> None:
    app = KflabApp(FakeLab("crash_two"), glyphs="ascii")
    async with app.run_test(size=size) as pilot:
        for keys in (
            ("k",), ("escape", "g"), ("escape", "question_mark"), ("escape", "ctrl+p"), ("escape", "2", "e"),
            ("escape", "v"), ("v",), ("3", "up", "enter"),
        ):  # fmt: skip
            await pilot.press(*keys)
            await pilot.pause()
            lines = drawn(app)
            assert [line for line in lines if not line.isascii()] == [], keys
            assert {len(line) for line in lines} == {size[0]}


def test_others_are_not_filtered() -> None:
    app = KflabApp(FakeLab("crash_two"), glyphs="unicode")
    assert not any(isinstance(each, AsciiFilter) for each in app.get_line_filters())


def test_widths_stay() -> None:
    said = AsciiFilter().apply([Segment("a → 漢é e\u0301 ▅")], Color(0, 0, 0))
    assert said[0].text == "a > ? ? e  "
