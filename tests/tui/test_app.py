"""The shell: layout, focus, keys, messages between panes."""

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from kflab.lab.commands import (
    Kill,
    KillRandom,
    NextEvent,
    Pause,
    Restart,
    Result,
    Resume,
    Run,
    Save,
    SetLoad,
    SetSpeed,
    Stop,
)
from kflab.lab.snapshot import Snapshot
from kflab.tui import lab_desk, lab_words
from kflab.tui.app import KflabApp
from kflab.tui.keys import LAB_BINDINGS
from kflab.tui.lab_screen import SPEEDS, step
from kflab.tui.messages import CommandIssued, ObjectSelected, RequestOpened
from kflab.tui.plan import TABS, Wish, plan
from kflab.tui.run import reason_for_plain

from .fakes import PODS, PRODUCT_SVC, FakeLab

Driven = tuple[KflabApp, Pilot[Any], FakeLab]


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts and history go to a folder of this test; the terminal is an ordinary one."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@asynccontextmanager
async def app(state: str | Snapshot = "steady", size: tuple[int, int] = (120, 40)) -> AsyncIterator[Driven]:
    lab = FakeLab(state)
    shown = KflabApp(lab, glyphs="unicode")
    async with shown.run_test(size=size) as pilot:
        await pilot.pause()
        yield shown, pilot, lab


def screen_text(shown: KflabApp) -> list[str]:
    """What stands on the screen, line by line."""
    return ["".join(segment.text for segment in strip) for strip in shown.screen._compositor.render_strips()]


async def open_request(shown: KflabApp, pilot: Pilot[Any]) -> None:
    shown.main.post_message(RequestOpened(1030))
    for _ in range(4):
        await pilot.pause()


class TestPlan:
    @pytest.mark.parametrize(
        "size", [(40, 10), (60, 16), (80, 24), (100, 30), (120, 40), (159, 50), (160, 44), (200, 60)]
    )
    @pytest.mark.parametrize("view", ["ledger", "schematic", "nodes"])
    @pytest.mark.parametrize("request_open", [False, True])
    def test_panes_never_overlap_and_never_leave_the_body(
        self, size: tuple[int, int], view: str, request_open: bool
    ) -> None:
        for lower in ("", "rules", "shares"):
            areas = plan(*size, Wish(view=view, request=request_open, lower=lower)).areas
            taken: set[tuple[int, int]] = set()
            for region in areas.values():
                cells = {(x, y) for x in range(region.x, region.right) for y in range(region.y, region.bottom)}
                assert cells
                assert not cells & taken
                taken |= cells
                assert region.right <= size[0]
                assert region.bottom <= size[1] - 3

    def test_an_open_request_takes_the_lower_panes_and_never_the_topology(self) -> None:
        before = plan(120, 40, Wish()).areas
        after = plan(120, 40, Wish(request=True)).areas
        assert after["ledger"] == before["ledger"]
        assert set(after) == {"ledger", "request"}

    def test_columns_of_the_design(self) -> None:
        areas = plan(120, 40, Wish()).areas
        assert (areas["ledger"].height, areas["manifest"].width, areas["trace"].width) == (24, 46, 73)

    @pytest.mark.parametrize("tab", TABS)
    def test_small_terminals_show_one_pane(self, tab: str) -> None:
        assert len(plan(80, 24, Wish(tab=tab)).areas) == 1


class TestScreen:
    async def test_the_frame_of_the_design(self) -> None:
        async with app() as (shown, _, _lab):
            text = screen_text(shown)
            assert text[0].startswith(" kflab overview")
            assert "seed 7" in text[0]
            assert text[1].startswith(" Try k on a pod")
            assert text[26].startswith("─ Manifest ")
            assert text[26][47:56] == "─ Trace f"
            assert text[39].startswith(" k kill  enter open")

    async def test_forty_by_ten_says_the_worst(self) -> None:
        async with app("crash_half", (40, 10)) as (shown, _, _lab):
            text = "\n".join(screen_text(shown))
            assert "crashed" in text
            assert "not in step" in text
            assert "60×16 brings the drawing" in text

    async def test_growing_brings_panes_back(self) -> None:
        async with app("steady", (40, 10)) as (shown, pilot, _lab):
            await pilot.resize_terminal(120, 40)
            await pilot.pause()
            assert any("─ Trace" in line for line in screen_text(shown))
            await pilot.resize_terminal(80, 24)
            await pilot.pause()
            assert screen_text(shown)[1].startswith(" 1 Topology")

    async def test_no_color_sends_no_colour(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        async with app("crash_half") as (shown, _, _lab):
            for strip in shown.screen._compositor.render_strips():
                for segment in strip:
                    assert segment.style is not None
                    for colour in (segment.style.color, segment.style.bgcolor):
                        assert colour is None or colour.is_default
            assert any("×××××" in line for line in screen_text(shown))

    async def test_over_ssh_frames_are_fewer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
        async with app() as (shown, _, _lab):
            assert shown.frames == 10
            assert shown.animation_level == "none"

    async def test_over_ssh_the_trace_is_painted_twice_a_second_and_never_stays_behind(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
        assert lab_desk.SSH_SCROLL_S == 0.5
        async with app() as (shown, pilot, lab):
            shown.main.holds_back("trace")
            monkeypatch.setattr(lab_desk, "SSH_SCROLL_S", 3600.0)  # however slow this machine is
            later = FakeLab("crash_two").current
            lab.current = replace(later, traces=tuple(replace(row, id=row.id + 500) for row in later.traces))
            shown.main.tick()
            await pilot.pause()
            assert "00:14.40" in screen_text(shown)[0]
            assert not any("14.3" in line for line in screen_text(shown)[27:38])
            monkeypatch.setattr(lab_desk, "SSH_SCROLL_S", 0.01)
            await pilot.pause(0.8)
            assert any("14.3" in line for line in screen_text(shown)[27:38])

    @pytest.mark.parametrize("theme", ["slate", "paper", "ansi"])
    async def test_every_theme_starts(self, theme: str) -> None:
        lab = FakeLab("crash_two")
        shown = KflabApp(lab, theme=theme)
        async with shown.run_test(size=(120, 40)):
            assert shown.theme == theme

    async def test_a_frame_is_skipped_while_output_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with app() as (shown, pilot, lab):
            monkeypatch.setattr(lab_desk, "output_waits", lambda _app: True)
            lab.current = FakeLab("crash_half").current
            shown.main.tick()
            assert "00:11.90" in screen_text(shown)[0]
            monkeypatch.setattr(lab_desk, "output_waits", lambda _app: False)
            shown.main.tick()
            await pilot.pause()
            assert "00:12.90" in screen_text(shown)[0]


class TestKeys:
    async def test_space_pauses_and_runs(self) -> None:
        async with app() as (_, pilot, lab):
            await pilot.press("space")
            await pilot.pause(0.2)
            await pilot.press("space")
            assert [type(command) for command in lab.commands] == [Pause, Resume]

    async def test_commands_by_key(self) -> None:
        async with app() as (_, pilot, lab):
            await pilot.press("full_stop", "K", "R", "greater_than_sign", "left_parenthesis")
            assert lab.commands == [NextEvent(), KillRandom(), Restart(), SetSpeed(2.0), SetLoad(0.5)]

    def test_speed_steps_stay_within_bounds(self) -> None:
        assert step(SPEEDS, 100.0, 1) == 100.0
        assert step(SPEEDS, 0.01, -1) == 0.01
        assert step(SPEEDS, 0.6, 1) == 1.0
        assert step(SPEEDS, 0.6, -1) == 0.5

    async def test_v_goes_through_the_views(self) -> None:
        async with app() as (shown, pilot, _lab):
            seen = []
            for _ in range(3):
                await pilot.press("v")
                await pilot.pause()
                seen.append(next(iter(shown.main.body.plan.areas)))
            assert seen == ["schematic", "nodes", "ledger"]

    async def test_tabs_by_number(self) -> None:
        async with app(size=(80, 24)) as (shown, pilot, _lab):
            for key, area in (("2", "manifest"), ("3", "trace"), ("4", "request"), ("1", "ledger")):
                await pilot.press(key)
                await pilot.pause()
                assert list(shown.main.body.plan.areas) == [area]

    async def test_i_shows_rules_and_esc_takes_them_away(self) -> None:
        async with app() as (shown, pilot, _lab):
            await pilot.press("i")
            await pilot.pause()
            assert "rules" in shown.main.body.plan.areas
            await pilot.press("escape", "escape")
            await pilot.pause()
            assert "trace" in shown.main.body.plan.areas

    async def test_k_enter_enter_crashes_the_pod_under_the_cursor(self) -> None:
        async with app() as (_, pilot, lab):
            await pilot.press("k")
            await pilot.pause()
            await pilot.press("enter", "enter")
            await pilot.pause()
            assert lab.commands == [Kill(PODS[1], "crash")]

    async def test_colon_opens_the_command_line_and_types_there(self) -> None:
        async with app() as (shown, pilot, lab):
            await pilot.press("colon")
            await pilot.pause()
            await pilot.press(*"speed", "space", "5", "enter")
            await pilot.pause()
            await pilot.pause()
            assert lab.commands == [SetSpeed(5.0)]
            assert shown.return_value is None

    async def test_question_mark_tells_all_keys(self) -> None:
        async with app(size=(120, 100)) as (shown, pilot, _lab):
            await pilot.press("question_mark")
            await pilot.pause()
            text = "\n".join(screen_text(shown))
            for words in ("Crash a random ready application pod", "kubectl"):
                assert words in text

    async def test_q_leaves(self) -> None:
        async with app() as (shown, pilot, _lab):
            await pilot.press("q")
            await pilot.pause()
            assert shown.return_value == 0

    async def test_ctrl_c_says_how_and_leaves_the_second_time(self) -> None:
        async with app() as (shown, pilot, _lab):
            await pilot.press("ctrl+c")
            assert shown.return_value is None
            await pilot.press("ctrl+c")
            assert shown.return_value == 0

    async def test_typing_a_filter_triggers_nothing(self) -> None:
        async with app() as (shown, pilot, lab):
            await pilot.press("slash", *"qkKRv", "space", "full_stop")
            await pilot.pause()
            assert lab.commands == []
            assert shown.return_value is None
            assert shown.main.ledger.filter_text == "qkKRv ."
            await pilot.press("escape")
            await pilot.pause()
            assert shown.main.ledger.filter_text == ""

    async def test_typing_in_the_editor_triggers_nothing(self) -> None:
        async with app() as (shown, pilot, lab):
            await pilot.press("e")
            await pilot.pause()
            await pilot.pause()
            await pilot.press(*"qkKRv", "space", "full_stop")
            assert lab.commands == []
            assert shown.return_value is None

    async def test_a_click_on_a_key_presses_it(self) -> None:
        async with app() as (shown, pilot, lab):
            x = screen_text(shown)[39].index("space")
            await pilot.click(offset=(x, 39))
            await pilot.pause()
            assert [type(command) for command in lab.commands] == [Pause]

    def test_every_binding_has_id_words_and_tooltip(self) -> None:
        for binding in LAB_BINDINGS:
            assert binding.id
            assert binding.description
            assert binding.tooltip
            assert not binding.priority

    def test_keys_of_tmux_and_screen_stay_free(self) -> None:
        taken = {key for binding in (*LAB_BINDINGS, *KflabApp.BINDINGS) for key in binding.key.split(",")}  # type: ignore[union-attr]  # all are Binding
        assert not taken & {"ctrl+a", "ctrl+b", "ctrl+enter", "ctrl+i", "ctrl+m", "ctrl+h"}


class TestMessages:
    async def test_selecting_reaches_every_pane_once(self) -> None:
        async with app() as (shown, pilot, _lab):
            shown.main.post_message(ObjectSelected(PODS[1]))
            await pilot.pause()
            assert shown.main.selected == PODS[1]
            assert shown.main.ledger.selected_key == PODS[1]
            assert "m4dd8" in shown.main.traces.subtitle

    async def test_opening_a_request_lights_its_path_and_closing_darkens_it(self) -> None:
        async with app("crash_half") as (shown, pilot, lab):
            await open_request(shown, pilot)
            assert lab.opened == [1030]
            text = screen_text(shown)
            assert text[1].startswith(" ▼ 12.53 s")
            assert text[26].startswith("━ Request ")
            assert text[39].startswith(" esc back")
            await pilot.press("escape")
            await pilot.pause()
            assert "trace" in shown.main.body.plan.areas
            assert shown.main.ledger.trace is None

    async def test_arrows_walk_hops_and_n_goes_on(self) -> None:
        async with app("crash_half") as (shown, pilot, lab):
            await open_request(shown, pilot)
            await pilot.press("right", "right", "left")
            await pilot.pause()
            assert shown.main.hop == 2
            await pilot.press("n")
            await pilot.pause()
            assert lab.opened[0] == 1030
            assert len(lab.opened) <= 2

    async def test_esc_undoes_one_step_at_a_time(self) -> None:
        async with app("crash_half") as (shown, pilot, _lab):
            shown.main.post_message(ObjectSelected(PRODUCT_SVC))
            await open_request(shown, pilot)
            await pilot.press("i")
            await pilot.pause()
            steps = []
            for _ in range(4):
                main = shown.main
                steps.append((main.wish.lower, main.trace is not None, main.selected is not None))
                await pilot.press("escape")
                await pilot.pause()
                await pilot.pause()
            assert steps[0] == ("rules", True, True)
            assert ("", True, True) in steps
            assert ("", False, True) in steps
            assert shown.main.selected is None

    async def test_enter_on_a_row_opens_a_request_that_touched_it(self) -> None:
        async with app("crash_half") as (shown, pilot, lab):
            shown.main.post_message(ObjectSelected(PODS[1]))
            await pilot.pause()
            await pilot.press("enter")
            for _ in range(3):
                await pilot.pause()
            row = next(row for row in lab.current.traces if row.id == lab.opened[0])
            assert PODS[1].name in [one.pod for one in row.tries]

    async def test_a_refused_command_is_said(self) -> None:
        async with app() as (shown, pilot, lab):
            lab.results[Restart] = Result(False, "the API server is stopped [bold]")
            await pilot.press("R")
            await pilot.pause()
            assert [note.message for note in shown._notifications] == ["the API server is stopped [bold]"]
            assert all(not note.markup for note in shown._notifications)

    async def test_a_restart_forgets_the_old_life(self) -> None:
        async with app("crash_two") as (shown, pilot, lab):
            assert shown.main.ledger.control.caught_ns is not None
            lab.current = FakeLab("steady").current
            shown.main.tick()
            await pilot.pause()
            assert shown.main.ledger.control.caught_ns is None


class TestCommandLine:
    @pytest.mark.parametrize(
        ("line", "asked"),
        [
            (":speed 0.5", SetSpeed(0.5)),
            ("save demo", Save("demo")),
            ("stop kube-proxy/node-a", Stop("kube-proxy/node-a")),
            ("kubectl get pods -A", Run("kubectl get pods -A")),
            ("pause", Pause()),
            ("w out.yaml", lab_words.FaceWord("w", "out.yaml")),
            ("  ", None),
        ],
    )
    def test_words(self, line: str, asked: object) -> None:
        assert lab_words.parse(line) == asked

    async def test_a_wrong_word_is_told_in_one_line(self) -> None:
        async with app() as (shown, pilot, lab):
            shown.main.post_message(CommandIssued("speed fast"))
            await pilot.pause()
            assert lab.commands == []
            assert "0.01 to 100" in next(iter(shown._notifications)).message


class TestStart:
    def test_without_a_terminal_nothing_starts(self) -> None:
        assert reason_for_plain(io.StringIO(), io.StringIO(), {"TERM": "xterm"}) == "standard output is no terminal"

    @pytest.mark.parametrize("term", ["dumb", "", "unknown"])
    def test_a_dumb_terminal_is_no_screen(self, term: str) -> None:
        master, slave = os.openpty()
        with os.fdopen(master, "w"), os.fdopen(slave, "w") as terminal:
            assert reason_for_plain(terminal, terminal, {"TERM": term}) is not None
            assert reason_for_plain(terminal, terminal, {"TERM": "xterm-256color"}) is None
