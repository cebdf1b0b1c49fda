"""Who knew when: bars, bills, what enter does, at both sizes and in ASCII."""

import re
from dataclasses import replace

import pytest

from kflab.lab.autopsy_values import AutopsyReport, BillRow, GanttEvent, GanttGroup, GanttRow
from kflab.manifest.objects import Key
from kflab.tui.app import KflabApp
from kflab.tui.gantt_pane import GanttPane
from kflab.tui.glyphs import ASCII, UNICODE, Glyphs
from kflab.tui.messages import RequestOpened
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of, without_lab

S = 1_000_000_000
POD = Key("Pod", "default", "product-7c9f8d6b5-m4dd8")


def report(pods: int = 2) -> AutopsyReport:
    """A rollout of some pods, of which the first lost 30 requests."""
    events = tuple(
        GanttEvent(
            i + 1, (10 + i) * S, f"{POD.name[:-1]}{i} was deleted", POD, "end", (11 + i) * S, (11 + i) * S,
            0 if i else 30,
            (
                GanttRow("truth", "truth", (10 + i) * S, (10 + i) * S + S // 4, 0, "got SIGTERM", False),
                GanttRow("node-a rules", "rules", (10 + i) * S + S // 2, (11 + i) * S, 0 if i else 30, "callers here",
                         True),
                GanttRow("node-b rules", "rules", (10 + i) * S + S // 2, None, 0, "nobody calls", False),
            ),
        )
        for i in range(pods)
    )  # fmt: skip
    title = f"node-a's rules were 0.750 s behind when {POD.name[:-1]}0 got SIGTERM"
    bill = BillRow(
        7, "stale", title, "10 failed (502 ×10), 20 saved by a further try", 10, 20, (("502", 10),),
        "kube-proxy/node-a", POD, None, 10 * S, 11 * S, 10 * S, 11 * S, 18_500_000, 1, 99,
    )  # fmt: skip
    group = GanttGroup(10 * S, "apply", "deployment/product was applied", 30, events)
    return AutopsyReport(10, 20, 30, 0, (bill,), (group,))


def app_of(given: AutopsyReport, glyphs: Glyphs = UNICODE) -> PaneApp:
    lab = fakes.FakeLab("crash_half")
    lab.current = replace(lab.current, autopsy=given)
    return PaneApp(lab, without_lab(GanttPane), glyphs)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
async def test_the_event_that_lost_most_is_open_and_its_gap_is_solid(size: tuple[int, int], glyphs: Glyphs) -> None:
    app = app_of(report(), glyphs)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        lines = lines_of(app)
        rules = next(line for line in lines if "node-a rules" in line)
        full, waits = ("#", ".") if glyphs is ASCII else ("█", "·")
        assert rules.index(waits) < rules.index(full)
        assert abs(rules.count(full) - rules.count(waits)) <= 3  # half of the axis each, but for the dot in "+1.000"
        assert "30 lost" in rules
        assert "not yet" in next(line for line in lines if "node-b rules" in line)
        assert any("behind when" in line and line.rstrip().endswith("got SIGTERM") for line in lines)
        assert sum("was deleted" in line for line in lines) == 2
        assert sum("truth" in line for line in lines) == 1  # the other event is folded
        assert app.pane.note == "30 lost = 10 failed + 20 slowed"
        if glyphs is ASCII:
            assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("width", [80, 120])
async def test_a_bill_that_is_all_of_its_event_does_not_say_it_twice(width: int) -> None:
    given = report(1)
    (bill,), (group,) = given.bills, given.groups
    long = "load balancer ingress-nginx-controller sent to node-b for 72.429 s after it left the network"
    event = replace(group.events[0], what=long, pod=None)
    app = app_of(replace(given, bills=(replace(bill, title=long),), groups=(replace(group, events=(event,)),)))
    async with app.run_test(size=(width, 40)) as pilot:
        await pilot.pause()
        lines = lines_of(app)
        assert sum("load balancer ingress-nginx" in line for line in lines) == (1 if width == 120 else 2)
        assert sum("10 failed (502 ×10), 20 saved by a further try" in line for line in lines) == 1


async def test_enter_unfolds_an_event_and_opens_a_request_of_a_bill() -> None:
    opened: list[int] = []

    class Heard(PaneApp):
        def on_request_opened(self, message: RequestOpened) -> None:
            opened.append(message.trace_id)

    lab = fakes.FakeLab("crash_half")
    lab.current = replace(lab.current, autopsy=report())
    app = Heard(lab, without_lab(GanttPane))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("down", "down", "enter")
        await pilot.pause()
        assert opened == [99]
        await pilot.press("down", "enter")
        await pilot.pause()
        assert sum("truth" in line for line in lines_of(app)) == 2
        await pilot.press("enter")
        await pilot.pause()
        assert sum("truth" in line for line in lines_of(app)) == 1


async def test_the_cursor_is_brought_into_view_in_a_long_rollout() -> None:
    app = app_of(report(60))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*["down"] * 40)
        await pilot.pause()
        assert any(line.startswith("▌") for line in lines_of(app))


async def test_nothing_yet_names_the_key_that_fills_it() -> None:
    app = app_of(AutopsyReport())
    async with app.run_test(size=(80, 10)) as pilot:
        await pilot.pause()
        assert any("no pod has ended or begun yet: k ends one" in line for line in lines_of(app))


async def test_names_from_outside_are_never_markup() -> None:
    given = report(1)
    event = replace(given.groups[0].events[0], what="[red]x[/] \x1b[31m was deleted")
    app = app_of(replace(given, groups=(replace(given.groups[0], what="[@click=app.exit]x", events=(event,)),)))
    async with app.run_test(size=(100, 20)) as pilot:
        await pilot.pause()
        text = "\n".join(lines_of(app))
        assert "[red]x[/] \\e[31m was deleted" in text
        assert "[@click=app.exit]x" in text


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_g_shows_it_on_the_screen_and_esc_takes_it_away(size: tuple[int, int]) -> None:
    lab = fakes.FakeLab("crash_half")
    lab.current = replace(lab.current, autopsy=report())
    app = KflabApp(lab)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press("g")
        await pilot.pause()
        assert any("Who knew when" in line for line in lines_of(app))
        await pilot.press("escape")
        await pilot.pause()
        assert not any("Who knew when" in line for line in lines_of(app))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_late_instants_and_large_numbers_stand_apart(size: tuple[int, int]) -> None:
    given = report(1)
    event = given.groups[0].events[0]
    rows = tuple(replace(row, lost=558_657 if row.calls else 0, knew_ns=None) for row in event.rows)
    event = replace(event, t_ns=287 * S + 860_000_000, lost=558_657, rows=rows)
    group = replace(given.groups[0], t_ns=event.t_ns, what=event.what, events=(event,), lost=558_657)
    app = app_of(replace(given, groups=(group,)))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        lines = lines_of(app)
        assert any("4:47.86  product-" in line for line in lines)
        assert any(re.search(r"not yet +558,657 lost", line) for line in lines)


async def test_at_80_columns_a_row_without_losses_says_what_happened() -> None:
    app = app_of(report(1))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        lines = lines_of(app)
        assert next(line for line in lines if " truth " in line).rstrip(" │").endswith("got SIGTERM")
        assert next(line for line in lines if "node-b rules" in line).rstrip(" │").endswith("nobody calls")
