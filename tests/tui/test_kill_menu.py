"""The menu on a row: what it offers, and how few keys it takes."""

from dataclasses import replace

from kflab.lab.commands import Command, Kill, Start, Stop
from kflab.lab.snapshot import Component
from kflab.tui.kill_menu import KillMenu, kill_choices
from kflab.tui.trace_pane import TracePane
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of


def commands(key: object, **changes: object) -> list[Command]:
    return [each.command for each in kill_choices(key, replace(fakes.steady(), **changes))]  # type: ignore[arg-type]


def test_a_pod_can_be_crashed_deleted_and_forced() -> None:
    pod = fakes.PODS[0]
    assert commands(pod) == [Kill(pod, "crash"), Kill(pod, "delete"), Kill(pod, "force")]


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
    app, answers = PaneApp(fakes.FakeLab(), TracePane), []
    async with app.run_test(size=size) as pilot:
        app.push_screen(KillMenu(fakes.PODS[1], fakes.steady(), *at), answers.append)
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
