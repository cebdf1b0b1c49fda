"""The nodes view: what each node knows and runs, at any width and for any number of nodes."""

from dataclasses import replace

import pytest

from kflab.lab.snapshot import NodeRow, PodRow, Snapshot
from kflab.manifest.objects import Key
from kflab.tui.glyphs import ASCII
from kflab.tui.nodes_view import NodesView
from tests.tui.fakes import NODE_B, PODS, SNAPSHOTS, request
from tests.tui.schematic_fakes import OneView, crash, many, row_of, steady


async def shown(snapshot: Snapshot, width: int, height: int = 24, **more: object) -> list[str]:
    app = OneView(NodesView, snapshot, **more)
    async with app.run_test(size=(width, height)) as pilot:
        await pilot.pause()
        return app.lines()


async def test_the_list_says_of_each_node_what_it_knows_calls_and_runs() -> None:
    lines = await shown(crash(), 66)
    head = lines[row_of(lines, "node-a")]
    assert head.startswith(" ● node-a     10.0.1.50")
    assert head.endswith("◇ rules rev 41, stale  callers here")
    assert "nobody calls" in lines[row_of(lines, "node-b")]
    dead = lines[row_of(lines, "m4dd8")]
    for fact in ("✖", "crashed", "refused", "484/s"):
        assert fact in dead
    text = "\n".join(lines)
    assert "DNAT 2,488/s" in text
    assert "no DNAT here · the kubelet looks again at 12.92 s" in text


async def test_boxes_say_the_same_with_addresses() -> None:
    text = "\n".join(await shown(crash(), 120))
    for fact in (
        "node-a 10.0.1.50",
        "◇ rev 41, stale for 0.50 s",
        "looks again at 12.92 s, in 0.02 s",
        "2,488/s out",
        "callers here",
        "10.244.2.26",
        "crashed",
        "484/s",
        "● Ready",
        "no pods · the load balancer's health check fails here",
    ):
        assert fact in text


async def test_rules_in_step_say_since_when_they_are() -> None:
    rows = [replace(node, rules="rev 43", rules_since_ns=14_100_000_000) for node in SNAPSHOTS["crash_two"]().nodes]
    text = "\n".join(await shown(replace(SNAPSHOTS["crash_two"](), nodes=tuple(rows)), 120))
    assert "rev 43, since 14.10" in text, "not since the change before that revision"


async def test_stopped_components_and_sick_nodes_say_so() -> None:
    rows = list(steady().nodes)
    rows[0] = replace(rows[0], proxy_running=False)
    rows[1] = replace(rows[1], kubelet_running=False, ready="Unknown")
    for width in (66, 120):
        text = "\n".join(await shown(replace(steady(), nodes=tuple(rows)), width))
        assert "kube-proxy stopped" in text
        assert "NotReady" in text
        assert "stopped" in text


async def test_ascii_is_ascii() -> None:
    for width in (66, 120):
        assert "\n".join(await shown(crash(), width, glyphs=ASCII)).isascii()


def crowd(nodes: int, pods: int) -> Snapshot:
    """Many nodes with many pods."""
    rows = []
    for n in range(nodes):
        members = tuple(
            PodRow(
                Key("Pod", "default", f"web-{n}-{i}"),
                "crashed" if (n, i) == (3, 5) else "ready",
                f"10.{n // 256}.{n % 256}.{i}",
                10.0,
                False,
                0,
            )
            for i in range(pods)
        )
        key = Key("Node", "", f"worker-{n:04d}")
        rows.append(
            NodeRow(key, f"10.1.{n // 256}.{n % 256}", "True", "z", "rev 9", True, True, True, False, 0, None, members)
        )
    return replace(steady(), nodes=tuple(rows))


async def test_a_thousand_nodes_scroll_and_cost_what_the_screen_shows() -> None:
    app = OneView(NodesView, crowd(1000, 30))
    async with app.run_test(size=(66, 20)) as pilot:
        await pilot.pause()
        assert "more lines" in app.lines()[-1]
        assert len(app.view.hits) < 40
        app.view.select(Key("Pod", "default", "web-700-3"))
        await pilot.pause()
        assert "worker-0700" in app.text()
        assert app.lines()[0].endswith("more lines")
        await pilot.press("right")
        assert app.view.selected == Key("Node", "", "worker-0701")


async def test_a_crowded_node_shows_a_glyph_a_pod_and_lists_what_is_not_ordinary() -> None:
    app = OneView(NodesView, crowd(5, 20))
    async with app.run_test(size=(66, 40)) as pilot:
        await pilot.pause()
        lines = app.lines()
        at = row_of(lines, "worker-0003")
        assert "●●●●●✖●●●●●●●●●●●●●● 20 pods" in lines[at + 1]
        assert "web-3-5" in lines[at + 2]
        assert "web-3-6" not in app.text()
        app.view.select(Key("Node", "", "worker-0003"))
        await pilot.press("enter")
        await pilot.pause()
        assert "web-3-6" in app.text()


async def test_up_and_down_walk_nodes_and_pods() -> None:
    app = OneView(NodesView, crash())
    async with app.run_test(size=(66, 24)) as pilot:
        await pilot.pause()
        app.view.select(NODE_B)
        await pilot.press("down", "down")
        assert app.chosen[-1] == PODS[1]
        await pilot.click(NodesView, offset=(10, row_of(app.lines(), "q8rwz")))
        assert app.chosen[-1] == PODS[2]


async def test_the_filter_leaves_nodes_that_hold_a_match() -> None:
    app = OneView(NodesView, crash())
    async with app.run_test(size=(66, 24)) as pilot:
        await pilot.pause()
        app.view.filter = "m4dd8"
        await pilot.pause()
        assert "node-a" not in app.text()
        assert "m4dd8" in app.text()
        assert app.view.note == "/m4dd8 1 of 3"
        app.view.filter = "nothing"
        await pilot.pause()
        assert "esc shows all" in app.text()


async def test_an_open_request_numbers_the_rows_it_touched() -> None:
    for width in (66, 120):
        app = OneView(NodesView, crash())
        async with app.run_test(size=(width, 24)) as pilot:
            await pilot.pause()
            app.view.light(request())
            lines = app.lines()
            assert " 5 " in lines[row_of(lines, "m4dd8")]
            assert " 7 " in lines[row_of(lines, "7xk2p")]


@pytest.mark.parametrize("width", [40, 66, 67, 80, 120, 200])
@pytest.mark.parametrize("make", [steady, crash, many])
async def test_every_width_fits(make: object, width: int) -> None:
    snapshot = make()  # type: ignore[operator]  # one of the functions above
    lines = await shown(snapshot, width, 30)
    assert max(len(line) for line in lines) <= width
    assert "node-a" in "\n".join(lines)
