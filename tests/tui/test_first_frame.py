"""What stands on the screen at the very first paint, and that the story waits for it."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from textual.app import App

from kflab.bench.screen import FIRST_FRAME
from kflab.lab.commands import SetLoad
from kflab.lab.thread import LabThread
from kflab.scenario.format import load
from kflab.tui.app import KflabApp
from kflab.tui.frame import PaneFrame
from kflab.tui.lab_desk import LabDesk
from kflab.tui.nodes_view import NodesView
from kflab.tui.panes import ORDER
from kflab.tui.yaml_area import YamlArea

from .fakes import FakeLab


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every frame that is written to the terminal, as text."""
    seen: list[str] = []
    display = App._display

    def recorded(self: App[object], screen: Any, renderable: Any) -> None:
        strips = screen._compositor.render_strips()
        seen.append("\n".join("".join(segment.text for segment in strip) for strip in strips))
        display(self, screen, renderable)

    monkeypatch.setattr(App, "_display", recorded)
    return seen


@pytest.mark.parametrize("size", [(120, 40), (160, 50)])
async def test_the_first_frame_is_whole(frames: list[str], size: tuple[int, int]) -> None:
    shown = KflabApp(FakeLab("steady"), glyphs="unicode")
    async with shown.run_test(size=size):
        first = frames[0]
        assert [word for word in (*FIRST_FRAME[1:], "product-") if word not in first] == []
        assert "kind: Deployment" in first, "the text of the row that is selected, not another first"
        assert len(shown.main.manifest.query(YamlArea)) == 2, "that text, and the live object"


async def test_whoever_waits_is_told_when_something_is_painted(frames: list[str]) -> None:
    painted_after: list[int] = []
    shown = KflabApp(FakeLab("steady"), glyphs="unicode", painted=lambda: painted_after.append(len(frames)))
    async with shown.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.pause(0.1)
    assert len(painted_after) == 1
    assert painted_after[0] >= 1


async def test_a_pane_that_is_wanted_before_it_was_made_knows_what_the_others_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_rest = LabDesk.make_rest
    monkeypatch.setattr(LabDesk, "make_rest", lambda self: None)
    shown = KflabApp(FakeLab("steady"), glyphs="unicode")
    async with shown.run_test(size=(120, 40)) as pilot:
        assert "nodes" not in shown.main.body.frames
        await pilot.press("down", "v", "v")
        await pilot.pause(0.2)
        frame = shown.main.body.frames["nodes"]
        assert frame.region.height > 5
        pane = frame.pane
        assert isinstance(pane, NodesView)
        assert pane.snapshot is not None
        assert pane.selected == shown.main.selected is not None
        assert shown.main.focused is pane
        make_rest(shown.main)
        await pilot.pause()
        areas = [frame.area for frame in shown.main.body.children if isinstance(frame, PaneFrame)]
        assert areas == list(ORDER) == list(shown.main.body.frames)


def test_a_held_lab_obeys_but_its_time_stands_still_until_it_begins() -> None:
    lab = LabThread(load("overview").spec, held=True)
    try:
        assert lab.submit(SetLoad(2.0)).result(timeout=20).ok
        lab.snapshot()
        time.sleep(0.2)
        assert lab.submit(SetLoad(1.0)).result(timeout=20).ok
        assert lab.snapshot().t_ns == 0
        lab.begin()
        deadline = time.monotonic() + 20
        while lab.snapshot().t_ns == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lab.snapshot().t_ns > 0
    finally:
        lab.close()


IN_AN_INTERPRETER_OF_ITS_OWN = """
import asyncio, json, sys
from textual.app import App
from kflab.lab.thread import LabThread
from kflab.scenario.format import load
from kflab.tui import later
from kflab.tui.app import KflabApp

def kflab():
    return {name for name in sys.modules if name.startswith("kflab.")}

first, after = set(), {}
display = App._display
def recorded(self, screen, renderable):
    first.update(() if first else kflab())
    display(self, screen, renderable)
App._display = recorded

async def main():
    lab = LabThread(load("overview").spec, held=True)
    try:
        async with KflabApp(lab, glyphs="unicode").run_test(size=(120, 40)) as pilot:
            lab.begin()
            while lab.snapshot().t_ns < 500_000_000:
                await pilot.pause(0.02)
            later.load()
            before = kflab()
            for key in ("k", "escape", ":", "escape", "question_mark", "escape", "v", "v", "v", "tab", "ctrl+p"):
                await pilot.press(key)
                await pilot.pause()
                after[key] = sorted(kflab() - before)
    finally:
        lab.close()

asyncio.run(main())
print(json.dumps({"first": sorted(first), "later": later.LATER, "after": after}))
"""


def test_the_first_frame_loads_no_more_than_it_shows_and_no_key_has_to_load_the_rest() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IN_AN_INTERPRETER_OF_ITS_OWN], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert "kflab.tui.ledger" in told["first"]
    assert sorted(set(told["first"]) & set(told["later"])) == []
    rooms = ("kflab.kubectl.", "kflab.proof.", "kflab.bench.", "kflab.scenario.plain")
    too_much = [name for name in told["first"] if name.startswith(rooms) and name != "kflab.kubectl.ages"]
    assert too_much == []
    assert {key: names for key, names in told["after"].items() if names} == {}
