"""Colours on terminals that have few: 256 of them over most SSH sessions and in tmux, 16 on a console."""

import asyncio

import pytest
from rich.color import Color, ColorSystem

from kflab.tui.app import KflabApp
from kflab.tui.run import terminal_colours
from kflab.tui.tokens import PAPER, SLATE
from kflab.tui.tokens_256 import PAPER_256, SLATE_256

from .fakes import FakeLab, crash_half


@pytest.mark.parametrize("table", [SLATE_256, PAPER_256], ids=["slate", "paper"])
def test_a_terminal_of_256_colours_keeps_greys_grey_and_hues_as_written(table: dict[str, str]) -> None:
    for token, written in table.items():
        shown = Color.parse(written).downgrade(ColorSystem.EIGHT_BIT).get_truecolor()
        red, green, blue = Color.parse(written).get_truecolor()
        if red == green == blue:
            assert shown.red == shown.green == shown.blue, token
            assert abs(shown.red - red) <= 10, token
        else:
            assert shown.hex == written, token
    grounds = {Color.parse(table[name]).downgrade(ColorSystem.EIGHT_BIT).number for name in ("bg", "sel", "gap")}
    assert len(grounds) == 3  # a selected row and the gap are seen


def test_the_tables_have_the_same_tokens() -> None:
    assert SLATE_256.keys() == SLATE.keys()
    assert PAPER_256.keys() == PAPER.keys()


@pytest.mark.parametrize(("colours", "table"), [("256", SLATE_256), ("truecolor", SLATE)])
def test_all_that_is_drawn_is_of_the_table_of_the_terminal(
    colours: str, table: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def drawn() -> set[str]:
        app = KflabApp(FakeLab(crash_half()), colours=colours)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.press("k")
            await pilot.pause()
            seen = set()
            for screen in app.screen_stack:
                for strip in screen._compositor.render_strips():
                    for segment in strip:
                        style = segment.style
                        seen |= {each.get_truecolor().hex for each in (style.color, style.bgcolor) if each}
            return seen

    seen = asyncio.run(drawn())
    assert len(seen) > 8
    assert seen <= set(table.values())


@pytest.mark.parametrize(
    ("asked", "colours", "theme"),
    [("", "standard", "ansi"), ("", "256", "slate"), ("paper", "standard", "paper"), ("", "truecolor", "slate")],
)
def test_sixteen_colours_are_the_terminals_own_unless_a_theme_is_asked_for(
    asked: str, colours: str, theme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert KflabApp(FakeLab(crash_half()), theme=asked, colours=colours).theme == theme


@pytest.mark.parametrize(
    ("term", "colorterm", "colours"),
    [("screen", "", "standard"), ("tmux-256color", "", "256"), ("xterm-256color", "truecolor", "truecolor")],
)
def test_the_terminal_says_how_many_colours_it_has(
    term: str, colorterm: str, colours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLORTERM", colorterm)
    assert terminal_colours() == colours
