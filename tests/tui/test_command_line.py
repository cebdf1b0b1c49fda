"""The command line: completion, history, outputs, jumps."""

from pathlib import Path

import pytest
from textual import events

from kflab.errors import KflabError, Place
from kflab.lab.commands import Act, Finding, Kill, Result, Run
from kflab.manifest.objects import Key
from kflab.tui.app import KflabApp
from kflab.tui.command_line import CommandLine
from kflab.tui.command_words import common_start, completions
from kflab.tui.history import History
from kflab.tui.lab_words import parse
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


def words_for(line: str) -> str:
    with pytest.raises(KflabError) as refused:
        parse(line)
    return refused.value.message


def test_a_mistyped_word_names_the_nearest_of_the_labs_own_and_of_kubectls() -> None:
    assert words_for("setConditon x") == 'no command "setConditon" here; did you mean setCondition?'
    assert words_for("power node-b") == 'no command "power" here; did you mean powerOff or powerOn?'
    assert words_for("SETCONDITION x") == 'no command "SETCONDITION" here; did you mean setCondition?'
    assert "did you mean rollout" in words_for("rolout restart deployment/x")
    assert "did you mean assumptions" in words_for("asumptions")
    assert words_for("xyzzy") == 'no command "xyzzy" here; ? and :help list what there is'
    assert words_for("view circuit") == "view takes ledger, schematic or nodes, not 'circuit'"
    assert parse("kubectl get pods | grep x") == Run("kubectl get pods | grep x")


def test_a_pod_is_crashed_by_name() -> None:
    assert parse("crash shop-1") == Kill(Key("Pod", "", "shop-1"))
    assert parse("crash pod/shop-1") == Kill(Key("Pod", "", "shop-1"))
    assert parse("crash shop/shop-1") == Kill(Key("Pod", "shop", "shop-1"))
    assert words_for("crash shop-1 twice") == "crash takes one pod, NAME or NAMESPACE/NAME, not 'shop-1 twice'"


async def refused(lab: fakes.FakeLab, line: str, tmp_path: Path, then: str = "") -> tuple[list[str], str]:
    """The lowest lines of the screen after a line that is refused, and what stands in the input."""
    app = KflabApp(lab)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("colon", *({" ": "space", "/": "slash", "-": "minus"}.get(c, c) for c in line), "enter")
        for _ in range(3):
            await pilot.pause()
        if then:
            await pilot.press(then)
            await pilot.pause()
        screen = app.screen
        value = screen.input.value if isinstance(screen, CommandLine) else ""
        return [row.rstrip() for row in lines_of(app)[-3:]], value


async def test_a_refused_line_stays_to_be_mended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both what the screen refuses and what the lab does; the next key takes the words away, not the line."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    rows, value = await refused(fakes.FakeLab(), "setConditon x", tmp_path)
    assert value == "setConditon x"
    assert rows[-2] == ' ✖ no command "setConditon" here; did you mean setCondition?'
    assert rows[-1] == " :setConditon x"
    rows, value = await refused(fakes.FakeLab(), "speed x", tmp_path, "backspace")
    assert value == "speed "
    assert "✖" not in rows[-2]
    for line, command in (("get podz", Run), ("powerOff node-z", Act), ("crash nobody", Kill)):
        lab = fakes.FakeLab()
        lab.results[command] = Result(False, "Error from server (NotFound):\nnot found")
        rows, value = await refused(lab, line, tmp_path)
        if command is not Run:
            assert value == line
            assert rows[-2] == " ✖ Error from server (NotFound): not found"
        else:
            assert value == "", "an answer of many lines is shown whole"


async def test_a_long_trouble_is_wrapped_above_the_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lab = fakes.FakeLab()
    lab.results[Run] = Result(False, "error: " + "a word and " * 9 + "the end")
    rows, _ = await refused(lab, "get x", tmp_path)
    assert rows[0].startswith(" ✖ error: a word")
    assert rows[1].endswith("the end")


async def test_an_empty_line_says_how_to_fill_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = KflabApp(fakes.FakeLab())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("colon")
        await pilot.pause()
        assert lines_of(app)[-1].rstrip().endswith("tab lists them, ↑ the line before")
        await pilot.press("g")
        await pilot.pause()
        assert lines_of(app)[-1].rstrip() == " :g"


async def test_an_assumption_that_nothing_overrides_is_read_to_its_end() -> None:
    sentence = "calls behind the front door: " + "each makes its calls one after another " * 6 + "and that is all"
    app = KflabApp(fakes.FakeLab())
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(OutputScreen(":assumptions", assumption_lines([(sentence, "")])))
        await pilot.pause()
        shown = " ".join(" ".join(lines_of(app)).split())
        assert sentence in shown
