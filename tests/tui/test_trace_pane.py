"""The trace: what a row says, following and stopping, filters, opening."""

from dataclasses import replace

from kflab.lab.snapshot import TraceRow, TraceTry
from kflab.tui.glyphs import UNICODE
from kflab.tui.messages import ObjectSelected, RequestOpened
from kflab.tui.tokens import LOOKS
from kflab.tui.trace_filter import TraceFilter
from kflab.tui.trace_pane import TracePane
from kflab.tui.trace_row import TraceLayout, draw, scale_ns
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of, without_lab

DEAD = TraceTry(fakes.PODS[1].name, "refused")
GOOD = TraceTry(fakes.PODS[0].name, "ok")


def row(*tries: TraceTry, **changes: object) -> TraceRow:
    base = fakes.trace_rows(12_900 * fakes.MS, False)[0]
    return replace(base, ingress=fakes.INGRESS_1.name, tries=tries, t_ns=12_530 * fakes.MS, **changes)


def words(one: TraceRow, width: int = 73) -> str:
    layout = TraceLayout.of(width, len("GET /products"), 5)
    return " ".join(draw(one, layout, UNICODE, 8 * fakes.MS).text.replace("━", "").replace("╸", "").split())


def test_a_row_tells_each_try() -> None:
    assert words(row(DEAD, GOOD, latency_ns=4_100_000)) == "12.53 GET /products 4kq2x → m4dd8 ✖ → 7xk2p 200 4.1 ms"
    assert "m4dd8 ✖ twice → 7xk2p" in words(row(DEAD, DEAD, GOOD))
    assert "m4dd8 ✖ 3 times" in words(row(DEAD, DEAD, DEAD, status="502", ok=False))
    assert "m4dd8 ✖ timeout → 7xk2p" in words(row(replace(DEAD, outcome="timeout"), GOOD))


def test_a_status_of_a_word_takes_the_room_that_the_way_leaves() -> None:
    said = words(row(replace(DEAD, outcome="refused"), label="cart → redis:6379", status="refused", ok=False), 72)
    assert said.endswith("m4dd8 ✖ refused 2.7 ms")


def test_a_way_too_long_loses_its_start_with_a_sign() -> None:
    line = words(row(DEAD, replace(DEAD, pod="product-7c9f8d6b5-q8rwz"), GOOD), 60)
    assert "… " in line
    assert "7xk2p" in line


def test_every_line_fits_at_every_width() -> None:
    for width in range(24, 200, 7):
        layout = TraceLayout.of(width, 40, 8)
        one = row(DEAD, DEAD, GOOD, path="/[/]/" + "x" * 90, status="no such host", latency_ns=61 * fakes.S)
        strip = draw(one, layout, UNICODE, 8 * fakes.MS).strip(LOOKS["slate"], width)
        assert strip.cell_length == width


def test_the_bar_scale_steps_1_2_5_and_forgives_outliers() -> None:
    assert scale_ns([3_100_000] * 99 + [900_000_000]) == 5_000_000
    assert scale_ns([]) == 8_000_000


def test_filters_by_outcome_object_and_word() -> None:
    failed, retried = row(DEAD, DEAD, DEAD, status="502", ok=False), row(DEAD, GOOD)
    plain = TraceFilter()
    assert TraceFilter("errors").takes(failed)
    assert not TraceFilter("errors").takes(retried)
    assert TraceFilter("retried").takes(retried)
    assert TraceFilter.parse("status:50 pod:m4dd8", plain).takes(failed)
    assert not TraceFilter.parse("status:50", plain).takes(retried)
    assert TraceFilter.parse("svc:product", plain).takes(retried)
    assert plain.with_key(fakes.PODS[0], None).takes(retried)
    assert not plain.with_key(fakes.PODS[0], None).takes(failed)
    assert plain.with_key(fakes.NODE_B, fakes.crash_half()).takes(failed)
    assert not plain.with_key(fakes.NODE_C, fakes.crash_half()).takes(failed)


def test_a_call_between_pods_says_who_calls_whom_and_can_be_asked_for() -> None:
    call, users = row(GOOD, label="web → cart:80", method="GET", path="/"), row(GOOD)
    assert "web → cart:80" in words(replace(call, ingress=""))
    assert "GET" not in words(call)
    long = replace(call, ingress="", label="frontend → cartservice:7070")
    assert "fr… → cartse…" in words(long, 60)
    assert TraceFilter("calls").takes(call)
    assert not TraceFilter("calls").takes(users)
    assert TraceFilter.parse("cart", TraceFilter()).takes(call)
    assert TraceFilter.parse("calls", TraceFilter()).takes(call)


async def test_f_offers_calls_only_where_there_are_any() -> None:
    lab = fakes.FakeLab("crash_half")
    app = PaneApp(lab, without_lab(TracePane))
    async with app.run_test(size=(73, 15)) as pilot:
        await pilot.pause()
        await pilot.press("f", "f", "f")
        assert app.pane.filter.outcome == ""
        app.pane.kept.append(replace(app.pane.kept[-1], id=app.pane.kept[-1].id + 1, label="web → cart:80"))
        await pilot.press("f", "f", "f")
        assert app.pane.filter.outcome == "calls"
        assert [one.label for one in app.pane.shown] == ["web → cart:80"]
        await pilot.press("f")
        assert app.pane.filter.outcome == ""


async def test_moving_up_stops_the_trace_and_counts_what_is_newer() -> None:
    lab = fakes.FakeLab("crash_half")
    app = PaneApp(lab, without_lab(TracePane))
    async with app.run_test(size=(73, 15)) as pilot:
        pane = app.pane
        await pilot.pause()
        newest = pane.shown[-1]
        assert any("sampled" in line and "following" in line for line in lines_of(app))
        await pilot.press("up")
        first = newest.id + 1
        more = tuple(replace(newest, id=first + i, t_ns=newest.t_ns + i) for i in range(214))
        pane.show(replace(lab.current, traces=(*lab.current.traces, *more), traces_seen=lab.current.traces_seen + 214))
        assert pane.subtitle == "stopped, 214 newer"
        assert pane.shown[pane._cursor_index()].id == newest.id
        await pilot.press("end")
        assert pane.subtitle == "following"


async def test_enter_opens_the_request_under_the_cursor() -> None:
    opened: list[int] = []
    app = PaneApp(fakes.FakeLab("crash_half"), without_lab(TracePane))
    async with app.run_test(
        size=(73, 15), message_hook=lambda m: opened.append(m.trace_id) if isinstance(m, RequestOpened) else None
    ) as pilot:
        await pilot.press("up", "up", "enter")
        await pilot.pause()
        assert app.pane.shown[-2].id in opened


async def test_typing_a_filter_narrows_at_once_and_esc_takes_it_back() -> None:
    app = PaneApp(fakes.FakeLab("crash_half"), without_lab(TracePane))
    async with app.run_test(size=(73, 15)) as pilot:
        pane = app.pane
        everything = len(pane.shown)
        await pilot.press("slash", *"status:502")
        await pilot.pause()
        assert 0 < len(pane.shown) < everything
        assert all(row.status == "502" for row in pane.shown)
        await pilot.press("escape")
        await pilot.pause()
        assert len(pane.shown) == everything


async def test_a_restart_empties_the_trace() -> None:
    lab = fakes.FakeLab("crash_half")
    app = PaneApp(lab, without_lab(TracePane))
    async with app.run_test(size=(73, 15)):
        app.pane.show(replace(lab.current, traces=(), traces_seen=0))
        assert app.pane.shown == []


async def test_esc_undoes_the_panes_own_steps_and_then_is_the_shells() -> None:
    app = PaneApp(fakes.FakeLab("crash_half"), without_lab(TracePane))
    async with app.run_test(size=(73, 15)) as pilot:
        pane = app.pane
        pane.post_message(ObjectSelected(fakes.PODS[1]))
        await pilot.press("f", "up")
        assert pane.subtitle.startswith("stopped")
        await pilot.press("escape")
        assert pane.subtitle == f"following · only errors · {fakes.PODS[1]}"
        await pilot.press("escape")
        assert pane.subtitle == f"following · only {fakes.PODS[1]}"
        assert pane.check_action("undo", ()) is False
        pane.post_message(ObjectSelected(None))
        await pilot.pause()
        assert pane.subtitle == "following"


async def test_an_empty_trace_says_that_requests_are_counted() -> None:
    lab = fakes.FakeLab("steady")
    lab.current = replace(lab.current, traces=(), traces_seen=0, counting=True)
    app = PaneApp(lab, without_lab(TracePane))
    async with app.run_test(size=(73, 15)) as pilot:
        await pilot.pause()
        assert any("requests are only counted now" in line for line in lines_of(app))


async def test_the_title_says_that_requests_are_counted_or_why_not() -> None:
    lab = fakes.FakeLab("steady")
    app = PaneApp(lab, without_lab(TracePane))
    async with app.run_test(size=(73, 15)) as pilot:
        await pilot.pause()
        for change, words in (
            ({"counting": True}, "following · requests are counted: no new rows"),
            ({"followed": "a process hangs"}, "not counted: a process hangs"),
            ({}, "following"),
        ):
            app.pane.show(replace(lab.current, **change))
            assert app.pane.subtitle == words
