"""The command line: completion, history, outputs, jumps."""

from pathlib import Path

import pytest
from textual import events

from kflab.errors import Place
from kflab.lab.commands import Finding, Result, Run
from kflab.tui.app import KflabApp
from kflab.tui.command_line import CommandLine
from kflab.tui.command_words import common_start, completions
from kflab.tui.history import History
from kflab.tui.output_screen import OutputScreen, answer_lines, assumption_lines, finding_lines
from kflab.tui.trace_pane import TracePane
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of, without_lab


@pytest.fixture
def history(tmp_path: Path) -> History:
    made = History(tmp_path / "history")
    made.add("get pods -o wide")
    return made


def test_completions_take_whole_lines_and_last_words() -> None:
    assert completions("get p", ("get pods",)) == ("get pods",)
    assert completions("get pods -n ku", ("kube-system",)) == ("get pods -n kube-system",)
    assert "assumptions" in completions("ass", ())
    assert common_start(("get pods", "get po")) == "get po"
    assert common_start(()) == ""


async def entered(history: History, *keys: str) -> tuple[list[object], str]:
    app, answers = PaneApp(fakes.FakeLab(), without_lab(TracePane)), []
    async with app.run_test(size=(80, 24)) as pilot:
        line = CommandLine(app.lab, history)
        app.push_screen(line, answers.append)
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause()
        return answers, line.input.value


async def test_a_line_is_entered_and_remembered(history: History) -> None:
    answers, _ = await entered(history, *"get", "space", *"svc", "enter")
    assert answers == ["get svc"]
    assert History(history.path).lines == ["get pods -o wide", "get svc"]


async def test_tab_completes_as_far_as_certain_then_walks(history: History) -> None:
    assert (await entered(history, "d", "e", "s", "tab"))[1] == "describe pod"
    assert (await entered(history, "g", "tab"))[1] == "get "
    assert (await entered(history, "g", "tab", "tab"))[1] == "get pods"
    assert (await entered(history, "g", "tab", "tab", "tab"))[1] == "get svc"


async def test_up_brings_the_line_before(history: History) -> None:
    assert (await entered(history, "x", "up"))[1] == "get pods -o wide"
    assert (await entered(history, "x", "up", "down"))[1] == "x"
    assert (await entered(history, "escape"))[0] == [None]


async def test_an_output_keeps_its_columns_and_scrolls() -> None:
    app = PaneApp(fakes.FakeLab(), without_lab(TracePane))
    text = "NAME    READY\n" + "".join(f"pod-{n}\t1/1 [/] [b]\x1b[31m\n" for n in range(60))
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(OutputScreen("get pods", answer_lines(text)))
        await pilot.pause()
        lines = lines_of(app)
        assert lines[1].strip() == "NAME    READY"
        assert "pod-0   1/1 [/] [b]\\e[31m" in lines[2]
        assert "▼" in lines[-1]
        await pilot.press("end")
        await pilot.pause()
        assert "pod-59" in lines_of(app)[-1]


async def test_a_finding_is_a_jump_to_its_line() -> None:
    findings = (
        Finding("error", "no port", Place("a.yaml", 3, 1)),
        Finding("warning", "no pods", Place("b.yaml", 9, 1)),
    )
    app, answers = PaneApp(fakes.FakeLab(), without_lab(TracePane)), []
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(OutputScreen(":findings", finding_lines(findings)), answers.append)
        await pilot.pause()
        await pilot.press("down", "enter")
        await pilot.pause()
    assert answers == [Place("b.yaml", 9, 1)]


def test_assumptions_say_how_to_override_them() -> None:
    line = assumption_lines(fakes.FakeLab().assumptions())[0]
    assert (line.text, line.second) == (
        "container api listens on 8080 (declared)",
        "to override: annotation kflab.dev/listens",
    )


def test_results_are_what_the_lab_gives() -> None:
    lab = fakes.FakeLab()
    lab.results[Run] = Result(True, "NAME\nx\n")
    assert [line.text for line in answer_lines(lab.submit(Run("get x")).result().text)] == ["NAME", "x"]


async def test_a_table_wider_than_the_screen_is_walked_sideways() -> None:
    app = PaneApp(fakes.FakeLab(), without_lab(TracePane))
    async with app.run_test(size=(60, 20)) as pilot:
        app.push_screen(
            OutputScreen("get pods -o wide", answer_lines("NAME" + " " * 80 + "NODE\npod" + " " * 81 + "node-a\n"))
        )
        await pilot.pause()
        assert lines_of(app)[-2].endswith("…")
        await pilot.press("right", "right")
        await pilot.pause()
        assert lines_of(app)[-1].endswith("node-a")


async def test_a_pasted_command_is_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All keys are there before the first has opened the line."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = KflabApp(fakes.FakeLab())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        shown = []
        monkeypatch.setattr("kflab.tui.command_line.run_line", lambda desk, line, *rest: shown.append(line))
        for character in ":load 2":
            app.post_message(events.Key({" ": "space", ":": "colon"}.get(character, character), character))
        app.post_message(events.Key("enter", "\r"))
        for _ in range(6):
            await pilot.pause()
        assert shown == ["load 2"]
        assert app.screen is app.main
