"""The last change again with another setting: two keys, two columns, and the lab goes on."""

import asyncio
import re
from pathlib import Path

import pytest

from kflab.scenario.again import Change, offers
from kflab.scenario.format import load
from kflab.tui.again_screen import AgainMenu, AgainScreen
from kflab.tui.app import KflabApp
from kflab.tui.screenshots import COARSE_NS, HeldLab, Stage
from tests.tui import fakes

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def lab_of() -> HeldLab:
    return HeldLab(load(str(SCENARIOS / "pod-delete.yaml")).spec)


async def page(stage: Stage, words: str) -> list[str]:
    """The screen once it says something; the plays run in processes of their own, at the lowest priority."""
    for _ in range(6000):
        if any(words in line for line in stage.lines()):
            return stage.lines()
        await asyncio.sleep(0.05)
        await stage.pilot.pause()
    raise AssertionError("\n".join(stage.lines()))


@pytest.mark.parametrize(("size", "glyphs"), [((120, 40), ""), ((80, 24), "ascii")])
async def test_two_keys_show_two_columns(size: tuple[int, int], glyphs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if glyphs:
        monkeypatch.setenv("NO_COLOR", "1")
    lab = lab_of()
    app = KflabApp(lab, glyphs=glyphs or "unicode")
    async with app.run_test(size=size) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.until(7, COARSE_NS)
        await stage.press("a")
        assert isinstance(app.screen, AgainMenu)
        assert any("preStop sleep 5 s" in line for line in stage.lines())
        await stage.press("p")
        assert isinstance(app.screen, AgainScreen)
        lines = await page(stage, "requests failed")
        failed = next(line for line in lines if "requests failed" in line)
        assert failed.split()[:5] == ["!" if glyphs else "≠", "requests", "failed", "3", "0"]
        assert any("as it was" in line and "preStop sleep 5 s" in line for line in lines)
        assert any("Draws are addressed" in line for line in lines)
        assert any("node-b kubelet" in line and line.count("+0.0") == 2 for line in lines)
        if glyphs:
            assert all(line.isascii() for line in lines)
            assert any("ready, old gone after" in line for line in lines)
            assert not any(re.search(r"\.\.\.[a-z]", line) for line in lines), "nothing is cut in the middle"
        await stage.press("a")
        assert isinstance(app.screen, AgainMenu)  # another setting
        await stage.press("a")
        assert app.screen is app.main


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_what_each_setting_does_stands_in_one_column_and_is_not_cut(size: tuple[int, int]) -> None:
    lab = lab_of()
    app = KflabApp(lab, glyphs="unicode")
    async with app.run_test(size=size) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.until(6, COARSE_NS)
        await stage.press("a")
        offered = offers(lab.session().result())
        found = {what: [line.index(what) for line in stage.lines() if what in line] for _, _, what in offered}
        assert any("terminationGracePeriodSeconds 60" in line for line in stage.lines())
        assert {len(columns) for columns in found.values()} == {1}, found
        assert len({columns[0] for columns in found.values()}) == 1, found


async def test_as_it_was_says_that_nothing_differs() -> None:
    lab = lab_of()
    app = KflabApp(lab, glyphs="unicode")
    async with app.run_test(size=(120, 40)) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.until(6, COARSE_NS)
        await stage.press("a", "s")
        lines = await page(stage, "requests failed")
        assert any("no difference at all" in line for line in lines)
        assert not any("≠" in line for line in lines)


async def test_esc_ends_the_processes() -> None:
    lab = lab_of()
    app = KflabApp(lab, glyphs="unicode")
    async with app.run_test(size=(80, 24)) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.until(6, COARSE_NS)
        await stage.press("a", "P")
        assert isinstance(app.screen, AgainScreen)
        run = app.screen.run
        assert run.change == Change("preStop", "15")
        await stage.press("escape")
        assert app.screen is app.main
        for _ in range(100):
            if all(process.poll() is not None for process in run._processes):
                break
            await asyncio.sleep(0.05)
        assert all(process.poll() is not None for process in run._processes)


async def test_without_a_change_there_is_nothing_to_play_again() -> None:
    app = KflabApp(fakes.FakeLab(), glyphs="unicode")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("a")
        await pilot.pause()
        assert app.screen is app.main
        assert any("nothing was changed yet" in note.message for note in app._notifications)
