"""The bench's report and its pseudo-terminal: what they say, never how fast something was."""

import io
import json
import os
import sys
from pathlib import Path

import pytest

from kflab import exits
from kflab.bench import report, screen
from kflab.bench.table import Bench, Report, shown
from kflab.bench.terminal_probe import Glass, Terminal, environment
from kflab.errors import KflabError
from kflab.scenario.format import load

MACHINE = {
    "cpu": "Some CPU", "cores": 2, "memory_gb": 8.0, "system": "Linux 6", "python": "3.11.7", "numpy": "2.4",
    "textual": "8.2.8", "simpy": "4.1", "load_average_before": 0.1, "load_average_after": 1.0,
}  # fmt: skip

CHILD = """
import sys, termios, tty
tty.setraw(0)
size = __import__("os").get_terminal_size()
print(f"\\x1b[2J\\x1b[2;3Hsize {size.columns}x{size.lines}", end="", flush=True)
while (key := sys.stdin.read(1)) != "q":
    print(f"\\x1b[5;1H\\x1b[7mgot\\x1b[0m {key}", end="", flush=True)
"""


def canned() -> Bench:
    bench = Bench(lambda text: None)
    bench.add("b", "floor", 40_000_000.0, "flows/s", "three integers drawn and counted per flow")
    bench.add("a", "routing", 12_345_678.0, "flows/s", "the way", beside="0.309 × the floor (b)",
              target="≥ 1/4 of the floor", reached=True)  # fmt: skip
    bench.add("g", "key to paint steady, p99", 61.4, "ms", "200 keys", target="< 50 ms", reached=False)
    bench.add("a", "full path ÷ SimPy", 1.0, "×", "no peer", target="≥ 100×")
    bench.raw["a"] = [{"name": "routing", "value": 12_345_678.0}]
    return bench


# --- the report -------------------------------------------------------------------------------------------------


def test_the_table_says_value_baseline_target_and_meaning() -> None:
    text = Report(MACHINE, ("a", "b", "g"), canned(), 12.0).text()
    routing = next(line for line in text.splitlines() if line.startswith("  routing"))
    assert "12.35 M flows/s" in routing
    assert "0.309 × the floor (b); target ≥ 1/4 of the floor: reached" in routing
    assert "61.4 ms" in text
    assert "target < 50 ms: MISSED" in text
    assert "target ≥ 100×: this run cannot say" in text
    assert "targets reached: 1 of 2; missed: key to paint steady, p99" in text
    assert text.index("(a) engine") < text.index("(b) floor") < text.index("(g) the screen")
    assert "not idle" not in text


def test_a_busy_machine_and_failures_are_said() -> None:
    bench = canned()
    bench.failed.append("(c) simpy is not installed")
    text = Report({**MACHINE, "load_average_before": 3.0}, ("a",), bench, 12.0).text()
    assert "note: the machine was not idle when this began (load average 3)" in text
    assert "not measured: (c) simpy is not installed" in text


def test_json_carries_every_figure_with_every_field() -> None:
    tree = json.loads(json.dumps(Report(MACHINE, ("a", "b", "g"), canned(), 12.0).tree()))
    assert set(tree) == {
        "kflab", "kubernetes", "machine", "workloads", "quick", "took_s", "figures", "raw", "notes", "failed",
    }  # fmt: skip
    assert {figure["letter"] for figure in tree["figures"]} == {"a", "b", "g"}
    for figure in tree["figures"]:
        assert set(figure) == {"letter", "name", "value", "unit", "means", "beside", "target", "reached"}
    assert tree["raw"]["a"] == [{"name": "routing", "value": 12_345_678.0}]
    assert set(tree["workloads"]) == {"a", "b", "g"}


@pytest.mark.parametrize(
    ("value", "text"), [(12_345_678.0, "12.35 M"), (4321.4, "4,321"), (61.42, "61.4"), (0.5, "0.500")]
)
def test_values_have_three_figures(value: float, text: str) -> None:
    assert shown(value) == text


# --- which workloads --------------------------------------------------------------------------------------------


def test_baselines_are_measured_before_what_is_compared_with_them() -> None:
    assert sorted(report.chosen("")) == list("abcdefghi")
    letters = report.chosen("a,b c")
    assert sorted(letters) == ["a", "b", "c"]
    assert letters[-1] == "a"


def test_an_unknown_letter_is_refused_by_name() -> None:
    with pytest.raises(KflabError, match="'x' is no workload"):
        report.run("ax", False, io.StringIO())


def test_run_reports_and_one_failure_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def floor(bench: Bench) -> None:
        bench.add("b", "floor", 4e7, "flows/s", "integers")

    def peers(bench: Bench) -> None:
        raise KflabError("simpy is not installed")

    monkeypatch.setitem(report.WORKLOADS, "b", floor)
    monkeypatch.setitem(report.WORKLOADS, "c", peers)
    out = io.StringIO()
    assert report.run("b", True, out) == exits.OK
    assert json.loads(out.getvalue())["figures"][0]["value"] == 4e7
    out = io.StringIO()
    assert report.run("bc", False, out) == exits.FAILED
    assert "40.00 M flows/s" in out.getvalue()
    assert "not measured: (c) simpy is not installed" in out.getvalue()
    assert "(b) floor" in capsys.readouterr().err, "progress is told on standard error"


# --- the glass --------------------------------------------------------------------------------------------------


def test_the_glass_follows_cursor_text_and_erasing() -> None:
    glass = Glass(12, 4)
    glass.feed(b"\x1b]22;default\x07\x1b[?1049h\x1b[1;1H\x1b[38;2;1;2;3mone\x1b[0m two\r\nthree")
    assert glass.line(0).rstrip() == "one two"
    assert glass.line(1).rstrip() == "three"
    glass.feed("\x1b[4;11Hé界\x1b[2;3H\x1b[K".encode())
    assert glass.line(1).rstrip() == "th"
    assert glass.line(-1)[10:] == "é界"
    glass.feed(b"\x1b[2J")
    assert not glass.text().strip()


def test_a_sequence_or_character_cut_in_two_is_whole_again() -> None:
    glass = Glass(20, 2)
    for byte in "\x1b[1;5H\x1b[48;2;9;9;9m━ Trace\x1b[0m".encode():
        glass.feed(bytes([byte]))
    assert glass.line(0) == "    ━ Trace         "


def test_a_frame_is_not_shown_before_its_end() -> None:
    glass = Glass(20, 2)
    glass.feed(b"\x1b[?2026h\x1b[1;1Hhalf")
    assert glass.in_frame
    glass.feed(b" whole\x1b[?2026l")
    assert not glass.in_frame


# --- the terminal -----------------------------------------------------------------------------------------------


def test_a_child_sees_its_size_and_answers_keys(tmp_path: Path) -> None:
    with Terminal([sys.executable, "-c", CHILD], environment(tmp_path), 100, 30) as terminal:
        shown_at = terminal.wait(lambda glass: glass.has("size 100x30"), 60.0, "the first line")
        assert shown_at > terminal.started_s
        pressed = terminal.press("x")
        assert terminal.wait(lambda glass: "got x" in glass.line(4), 60.0, "the key") >= pressed
        assert terminal.cpu_s() >= 0
        assert 1 < terminal.rss_mb() < 500
        assert terminal.received > 0
        assert terminal.first(lambda glass: glass.has("never"), 0.05) is None
        pid = terminal.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_that_ends_is_told_with_its_screen(tmp_path: Path) -> None:
    with (
        Terminal([sys.executable, "-c", "print('it broke')"], environment(tmp_path)) as terminal,
        pytest.raises(KflabError, match="it broke"),
    ):
        terminal.wait(lambda glass: False, 60.0, "anything")


# --- what keys must change ----------------------------------------------------------------------------------------


def test_signs_of_keys_ignore_what_lives_anyway() -> None:
    glass = Glass(60, 8)
    glass.feed(
        "\x1b[1;1H kflab bench  ▶ 1:02:03  ×100\x1b[3;1H     who chooses\x1b[5;1H▌├ ● pod\x1b[7;1H━ Manifest ━".encode()
    )
    assert screen.simulated_s(glass) == 3723
    assert screen.row_sign(glass) == "4"
    assert screen.focus_sign(glass) == "Manifest"
    assert screen.view_sign(glass) == "who chooses"
    before = [screen.sign_of(key)(glass) for key in screen.CYCLE]
    glass.feed("\x1b[5;20H━━━ 33 %\x1b[1;15H▶ 1:02:04".encode())
    assert [screen.sign_of(key)(glass) for key in screen.CYCLE] == before
    glass.feed("\x1b[5;1H \x1b[4;1H▌".encode())
    assert screen.row_sign(glass) == "3"


def test_the_scenario_of_the_key_presses_opens(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(screen.scenario_text(3), encoding="utf-8")
    scenario = load(str(path))
    assert [action.t_ns // 10**9 for action in scenario.spec.actions] == [0, 6, 10, 22, 34]


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(200, 0, -1)]
    assert screen.quantile(values, 0.99) == 198.0
    assert screen.quantile(values, 0.5) == 100.0
    assert screen.quantile([5.0], 0.99) == 5.0
