"""The menu on a row: what it offers, and how few keys it takes."""

from dataclasses import replace
from pathlib import Path

import pytest

from kflab.control.verb import KINDS, TARGETS
from kflab.control.verbs import VERBS, verbs_for
from kflab.lab.commands import Act, Command, Kill, Start, Stop
from kflab.lab.running import Lab
from kflab.lab.snapshot import Component
from kflab.lab.targets import Target, targets
from kflab.manifest.objects import Key
from kflab.scenario.format import load
from kflab.tui.app import KflabApp
from kflab.tui.kill_menu import WIDTH, KillMenu, kill_choices
from kflab.tui.screenshots import COARSE_NS, HeldLab, Stage
from kflab.tui.trace_pane import TracePane
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of, without_lab


def commands(key: Key | None, **changes: object) -> list[Command]:
    """What the menu of a row of a fake lab does, verbs aside."""
    targets = fakes.FakeLab(replace(fakes.steady(), **changes)).targets(key)  # type: ignore[arg-type]
    found = [each.command for each in kill_choices(targets)]
    return [command for command in found if isinstance(command, Kill | Stop | Start)]


def test_a_pod_can_be_crashed_deleted_and_forced() -> None:
    pod = fakes.PODS[0]
    assert commands(pod) == [Kill(pod, "crash"), Kill(pod, "delete"), Kill(pod, "force"), Stop("apiserver")]


def test_a_node_and_the_control_plane_are_stopped_and_started() -> None:
    assert commands(fakes.NODE_A) == [Stop("kube-proxy/node-a"), Stop("kubelet/node-a"), Stop("apiserver")]
    stopped = (Component("apiserver", False), Component("kubelet/node-a", False))
    assert commands(fakes.NODE_A, components=stopped) == [
        Stop("kube-proxy/node-a"),
        Start("kubelet/node-a"),
        Start("apiserver"),
    ]
    assert commands(None) == commands(fakes.SLICE) == [Stop("apiserver")]


async def chosen(*keys: str, size: tuple[int, int] = (80, 24), at: tuple[int, int] = (5, 8)) -> list[object]:
    app, answers = PaneApp(fakes.FakeLab(), without_lab(TracePane)), []
    async with app.run_test(size=size) as pilot:
        app.push_screen(KillMenu(app.lab.targets(fakes.PODS[1]), *at), answers.append)
        await pilot.pause()
        answers.append([line for line in lines_of(app) if "crash container" in line])
        await pilot.press(*keys)
        await pilot.pause()
    return answers


async def test_enter_twice_crashes_the_container() -> None:
    assert (await chosen("enter"))[1:] == []
    assert (await chosen("enter", "enter"))[1:] == [Kill(fakes.PODS[1], "crash")]


async def test_a_letter_does_it_at_once_and_esc_does_nothing() -> None:
    assert (await chosen("f"))[1:] == [Kill(fakes.PODS[1], "force")]
    assert (await chosen("escape"))[1:] == [None]
    assert (await chosen("down", "down", "enter"))[1:] == [Kill(fakes.PODS[1], "delete")]


async def test_the_menu_is_whole_at_the_last_row_and_on_a_small_screen() -> None:
    assert (await chosen(at=(5, 23)))[0]
    assert (await chosen(size=(40, 10), at=(30, 9)))[0]


def test_verbs_are_offered_only_in_the_state_they_are_for() -> None:
    key = Key("Component", "", "apiserver")
    running = [each.words for each in kill_choices((Target("component", key),))]
    stopped = [each.words for each in kill_choices((Target("component", key, frozenset({"stopped"})),))]
    assert running == ["stop API server", "restart API server"]
    assert stopped == ["start API server"]


def test_a_menu_names_each_target_and_gives_a_letter_once() -> None:
    pod, node = fakes.PODS[1], fakes.NODE_A
    choices = kill_choices(
        (Target("pod", pod), Target("node", node), Target("component", Key("Component", "", "apiserver")))
    )
    headings = [each.words for each in choices if each.command is None]
    assert headings[-1] == "control plane"
    letters = [each.key for each in choices if each.key]
    assert len(letters) == len(set(letters))
    assert not {"j", "k", "q"} & set(letters), "these move and leave"


def test_a_trainer_reaches_all_that_befalls_a_pod_its_workload_and_its_node_by_a_letter() -> None:
    pod, node, workload = fakes.PODS[1], fakes.NODE_A, Key("Deployment", "default", "web")
    choices = kill_choices((Target("pod", pod), Target("workload", workload), Target("node", node)))
    assert [each.words for each in choices if each.command is not None and not each.key] == []
    by_words = {each.words: each.key for each in choices}
    assert by_words["delete, gracefully"] == "d"
    assert by_words["drain"] == "D", "d deletes the pod: the node's is the capital"
    assert by_words["power off"] == "O"
    assert by_words["roll out again"] == "r"


def test_no_line_of_the_widest_menu_is_cut() -> None:
    for target in TARGETS:
        for verb in verbs_for(target):
            column = max(30, 4 + len(verb.words) + 2)
            assert not verb.in_menu or column + len(verb.what) < WIDTH, verb.name


async def test_one_long_name_cuts_no_other_line() -> None:
    component = Target("component", Key("Component", "", "kube-proxy/node-with-a-name-of-35-characters"))
    app = PaneApp(fakes.FakeLab(), without_lab(TracePane))
    async with app.run_test(size=(120, 40)) as pilot:
        app.push_screen(KillMenu((Target("component", Key("Component", "", "etcd")), component)))
        await pilot.pause()
        assert any("nothing is written, watches stay open" in line for line in lines_of(app))


def test_every_verb_has_what_the_menu_and_a_scenario_need() -> None:
    assert VERBS
    for verb in VERBS.values():
        assert verb.target in TARGETS, verb.name
        assert set(verb.options.values()) <= set(KINDS), verb.name
        assert verb.letter not in ("j", "k", "q"), verb.name
        assert "{name}" in verb.said or verb.target == "none", verb.name
    for target in TARGETS:
        for state in {"", *(verb.when for verb in verbs_for(target))}:
            letters = [
                verb.letter
                for verb in verbs_for(target)
                if verb.letter and verb.in_menu and verb.when in ("", state) and verb.unless != (state or None)
            ]
            assert len(letters) == len(set(letters)), (target, state, letters)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_a_drain_shows_how_far_it_is_and_what_a_budget_holds(size: tuple[int, int]) -> None:
    lab = HeldLab(load(str(Path(__file__).parents[2] / "scenarios" / "drain-pdb.yaml")).spec)
    app = KflabApp(lab, glyphs="unicode")
    async with app.run_test(size=size) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.until(17, COARSE_NS)
        assert any("node-2: 2 of 3 gone, 1 held" in line for line in stage.lines()[:2])
        await stage.until(30, COARSE_NS)
        assert any("node-2: 2 of 3 gone" in line for line in stage.lines()[:2])
        assert not any("held" in line for line in stage.lines()[:2]), "its eviction went through at 25 s"


async def test_more_lines_than_the_screen_has_are_scrolled() -> None:
    app = PaneApp(fakes.FakeLab(), without_lab(TracePane))
    many = tuple(Target("component", Key("Component", "", f"thing-{n}")) for n in range(12))
    answers: list[object] = []
    async with app.run_test(size=(60, 10)) as pilot:
        app.push_screen(KillMenu(many), answers.append)
        await pilot.pause()
        assert any("more below" in line for line in lines_of(app))
        await pilot.press("up")
        await pilot.pause()
        assert any("thing-11" in line for line in lines_of(app))
        await pilot.press("enter")
        await pilot.pause()
    assert answers == [Act("bounce", Key("Component", "", "thing-11"))]


def test_the_control_planes_menu_slows_down_what_can_be_slow() -> None:
    lab = Lab(load("overview").spec)

    def offered() -> dict[str, Command]:
        return {each.words: each.command for each in kill_choices(targets(lab, None)) if each.command is not None}

    assert {"slow down etcd", "slow down API server", "slow down scheduler"} <= set(offered())
    assert any(words.startswith("slow down ingress controller") for words in offered())
    assert "speed up again etcd" not in offered()
    assert lab.do(offered()["slow down etcd"]).ok
    assert "slow down etcd" not in offered()
    assert lab.do(offered()["speed up again etcd"]).ok
    assert not lab.plane.core.slow
    assert lab.do(Stop("etcd")).ok
    assert [words for words in offered() if "etcd" in words] == ["start etcd"]
