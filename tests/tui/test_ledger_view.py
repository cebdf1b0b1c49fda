"""The ledger as it is painted: text of the lines, selection, filter, lit path, regions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from kflab.lab.autopsy_values import AutopsyReport, GanttEvent, GanttGroup, GanttRow
from kflab.lab.snapshot import Mark, Snapshot, SocketRow
from kflab.manifest.objects import Key
from kflab.tui.cells import CellLine
from kflab.tui.glyphs import ASCII, UNICODE
from kflab.tui.ledger import LedgerView
from kflab.tui.ledger_rows import RowKind
from kflab.tui.messages import InstantSelected, ObjectSelected, RequestClosed, RequestLoaded
from kflab.tui.text import S
from kflab.tui.tokens import THEMES

from .fakes import CRASH_NS, NODE_A, PODS, PRODUCT_SVC, SNAPSHOTS, FakeLab, crash_half, crash_two, request, steady


class Bare(App[None]):
    """The ledger alone, with a clock that only tests move."""

    def __init__(self, lab: FakeLab) -> None:
        super().__init__()
        self.seconds = 0.0
        self.glyphs = UNICODE
        self.over_ssh = False
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = "slate"
        self.ledger = LedgerView(lab, clock=lambda: self.seconds)
        self.heard: list[object] = []

    def compose(self) -> ComposeResult:
        yield self.ledger

    def on_object_selected(self, message: ObjectSelected) -> None:
        self.heard.append(message.key)

    def on_instant_selected(self, message: InstantSelected) -> None:
        self.heard.append((message.key, message.t_ns))


@asynccontextmanager
async def ledger(state: str | Snapshot, width: int = 120, height: int = 24) -> AsyncIterator[tuple[Bare, Pilot[None]]]:
    app = Bare(FakeLab(state))
    async with app.run_test(size=(width, height)) as pilot:
        app.ledger.show(app.ledger.lab.snapshot())
        app.ledger.focus()
        await pilot.pause()
        yield app, pilot


def lines(app: Bare) -> list[str]:
    return [app.ledger.render_line(y).text for y in range(app.ledger.size.height)]


def row(app: Bare, words: str) -> str:
    return next(line for line in lines(app) if words in line)


async def test_steady_stands_in_the_columns_of_the_design() -> None:
    async with ledger("steady") as (app, _):
        head = row(app, "who chooses")
        for words, column in (("state", 22), ("address", 34), ("node", 50), ("share", 57), ("-30 s", 75)):
            assert head.index(words) == column
        pod = row(app, "product-…-m4dd8")
        assert pod[3] == "●"
        assert pod.index("product") == 5
        assert pod.index("10.244.2.26") == 34
        assert pod[57:65] == "━━━━━┼──"
        assert pod[:73].endswith("33.5 %")
        assert set(pod[90:119]) <= set("▁▂▃▄▅▆▇")


async def test_the_crash_runs_through_every_row_in_one_column() -> None:
    async with ledger("crash_half") as (app, _):
        shown = lines(app)
        assert shown[0][96] == "✖"
        end = next(i for i, line in enumerate(shown) if "node-c rules" in line)
        assert {line[96] for line in shown[1 : end + 1]} == {"│"}
        assert shown[0][90:95] == "12.40"
        assert shown[0][99:102] == "now"


async def test_the_gap_is_tinted_until_traffic_moved() -> None:
    async with ledger("crash_two") as (app, _):
        strip = app.ledger.render_line(5)
        tinted, x = set(), 0
        for segment in strip:
            if segment.style is not None and segment.style.bgcolor is not None:
                colour = segment.style.bgcolor.triplet
                if colour is not None and colour.hex == "#2a1820":
                    tinted |= set(range(x, x + segment.cell_length))
            x += segment.cell_length
        assert tinted == set(range(97, 103))
        assert lines(app)[0][103] == "◆"


async def test_who_learned_when() -> None:
    async with ledger("crash_two") as (app, _):
        assert row(app, "node-a rules")[97:117] == "╍╍╍╍╍╍◆ traffic move"
        assert row(app, "node-c rules").rstrip().endswith("◆ in step")
        assert "5 of 5" in row(app, "who knows")


async def test_a_narrow_terminal_keeps_address_state_and_figure() -> None:
    async with ledger("crash_half", 80, 21) as (app, _):
        pod = row(app, "product-…-m4dd8")
        assert "crashed" in pod
        assert "10.244.2.26" in pod
        assert pod[:52].endswith("32.6 %")
        assert "node-b" not in pod


@pytest.mark.parametrize("state", sorted(SNAPSHOTS))
@pytest.mark.parametrize("width", [60, 80, 92, 104, 120, 132, 200])
async def test_every_line_is_exactly_as_wide_as_the_pane(state: str, width: int) -> None:
    async with ledger(state, width, 25) as (app, _):
        for y in range(25):
            strip = app.ledger.render_line(y)
            assert sum(segment.cell_length for segment in strip) == width
            assert all(segment.style is not None for segment in strip)


async def test_arrows_select_rows_and_tell_others() -> None:
    async with ledger("steady") as (app, pilot):
        await pilot.press("end")
        await pilot.press("up", "up")
        assert app.heard[-1] == NODE_A
        assert row(app, "node-a rules").startswith("▌")


async def test_left_and_right_walk_the_bands() -> None:
    async with ledger("steady") as (app, pilot):
        await pilot.press("home", "right", "right", "right", "right")
        assert app.heard[-1] == PRODUCT_SVC


async def test_a_click_selects_the_row_and_the_instant() -> None:
    async with ledger("crash_half") as (app, pilot):
        y = lines(app).index(row(app, "product-…-m4dd8"))
        await pilot.click(LedgerView, offset=(98, y))
        key, t_ns = next(heard for heard in app.heard if not isinstance(heard, Key))  # type: ignore[misc]
        assert key == PODS[1]
        assert CRASH_NS + 100_000_000 <= t_ns < CRASH_NS + 200_000_000


async def test_the_selection_survives_everything_that_happens() -> None:
    async with ledger("steady") as (app, pilot):
        app.ledger.post_message(_relayed(ObjectSelected(PODS[1])))
        await pilot.pause()
        before = lines(app).index(row(app, "▌"))
        app.ledger.show(SNAPSHOTS["crash_half"]())
        assert lines(app).index(row(app, "▌")) == before


async def test_when_the_row_of_a_pod_goes_the_cursor_stands_on_another_of_its_band() -> None:
    """So `k` still has a pod of the same Service to end; the row "who knows" is about the pod that is gone."""
    async with ledger("crash_half") as (app, pilot):
        snapshot = SNAPSHOTS["crash_half"]()
        assert snapshot.knowledge.subject == PODS[1]
        app.ledger.post_message(_relayed(ObjectSelected(PODS[1])))
        await pilot.pause()
        bands = tuple(
            replace(band, candidates=tuple(c for c in band.candidates if c.key != PODS[1])) for band in snapshot.bands
        )
        app.ledger.show(replace(snapshot, bands=bands))
        chosen = app.ledger.selected_row
        assert chosen is not None
        assert (chosen.kind, chosen.key) in [(RowKind.CANDIDATE, PODS[0]), (RowKind.CANDIDATE, PODS[2])]
        assert app.ledger.selected_key == chosen.key
        assert "▌" in row(app, chosen.key.name[-5:])


def _relayed(message: ObjectSelected | RequestLoaded | RequestClosed) -> ObjectSelected | RequestLoaded | RequestClosed:
    return message.copy()


async def test_an_open_request_lights_its_path() -> None:
    async with ledger("crash_half") as (app, pilot):
        app.ledger.post_message(_relayed(RequestLoaded(request(), 1)))
        await pilot.pause()
        numbers = {line[0]: line for line in lines(app)[1:] if line[0].isdigit()}
        for number, words in {
            "1": "DNS",
            "2": "node-a",
            "3": "ingress-…-4kq2x",
            "4": "Service",
            "5": "m4dd8",
            "7": "7xk2p",
        }.items():
            assert words in numbers[number]
        assert lines(app)[1][1] == "┏"
        assert numbers["5"][1] == "┗"
        assert "▼" in lines(app)[0]
        app.ledger.post_message(_relayed(RequestClosed()))
        await pilot.pause()
        assert lines(app)[1][1] == "╭"


async def test_a_narrow_terminal_names_a_node_whole_and_a_pod_by_its_tail() -> None:
    snapshot = SNAPSHOTS["crash_half"]()
    lost = replace(snapshot.knowledge, subject=NODE_A, what=f"that {NODE_A.name} lost power at 5.83")
    async with ledger(replace(snapshot, knowledge=lost), 80, 21) as (app, _):
        assert f"{NODE_A.name} lost power" in row(app, "who knows")
    gone = replace(snapshot.knowledge, subject=PODS[1], what=f"that {PODS[1].name} crashed at 5.83")
    async with ledger(replace(snapshot, knowledge=gone), 80, 21) as (app, _):
        assert "m4dd8 crashed" in row(app, "who knows")
        assert PODS[1].name not in row(app, "who knows")


async def test_a_head_too_long_keeps_how_many_tries_there_are() -> None:
    snapshot = SNAPSHOTS["crash_half"]()
    band = replace(snapshot.bands[-1], detail="product-service 10.96.100.50:80 → :8080 · random · 1.48 tries/request")
    async with ledger(replace(snapshot, bands=(*snapshot.bands[:-1], band))) as (app, _):
        assert "product-service 10.96.100.50:80 · 1.48 tries/request" in row(app, "Service")


async def test_a_pod_of_two_services_is_lit_where_the_hop_went() -> None:
    snapshot = SNAPSHOTS["crash_half"]()
    other = replace(snapshot.bands[-1], id="service/default/other:80", key=Key("Service", "default", "other"))
    async with ledger(replace(snapshot, bands=(*snapshot.bands, other)), 120, 40) as (app, pilot):
        app.ledger.post_message(_relayed(RequestLoaded(request(), 1)))
        await pilot.pause()
        lit = app.ledger.lit_rows()
        assert {name.split("|")[0] for name, number in lit.items() if number in (5, 7)} == {
            "service/default/product-service:80"
        }


async def test_sixty_pods_fit_and_one_glyph_is_one_pod() -> None:
    async with ledger("sixty_pods", 120, 25) as (app, _):
        frontend = row(app, "frontend")
        assert frontend.count("●") == 16
        assert "16 ready" in frontend
        assert "▴" in row(app, "catalogue")
        assert row(app, "8 nodes ")[34:47] == "10.0.1.50–57 "
        assert "9 of 10" in row(app, "▾ orders")


async def test_enter_on_more_lists_all() -> None:
    async with ledger("sixty_pods", 120, 25) as (app, pilot):
        app.ledger.select(next(row for row in app.ledger.rows if row.kind.value == "more"))
        await pilot.press("enter")
        names = [row.candidate.name for row in app.ledger.rows if row.candidate is not None]
        assert sum(name.startswith("orders") for name in names) == 10


async def test_what_is_out_of_sight_is_said() -> None:
    async with ledger("sixty_pods", 120, 10) as (app, pilot):
        assert "▼" in lines(app)[0]
        await pilot.press("end")
        assert "▲" in lines(app)[0]
        assert "8 nodes' rules" in "\n".join(lines(app))


async def test_numbers_of_thousands_of_nodes_keep_apart() -> None:
    async with ledger("sixty_pods", 120, 40) as (app, _):
        snapshot = SNAPSHOTS["sixty_pods"]()
        rules = next(knower for knower in snapshot.knowledge.knowers if knower.name.endswith(" rules"))
        others = tuple(knower for knower in snapshot.knowledge.knowers if not knower.name.endswith(" rules"))
        many = tuple(replace(rules, name=f"n{i} rules", key=rules.key._replace(name=f"n{i}"), in_step=i >= 496)
                     for i in range(1500))  # fmt: skip
        app.ledger.show(replace(snapshot, knowledge=replace(snapshot.knowledge, knowers=(*others, *many))))
        assert "1,500 nodes      496 stale   rev" in row(app, "1,500 nodes")


async def test_plus_unfolds_and_minus_folds() -> None:
    async with ledger("sixty_pods", 120, 40) as (app, pilot):
        band = next(row for row in app.ledger.rows if row.band is not None and row.band.kind == "lb")
        app.ledger.select(band)
        app.ledger.fold(True)
        assert any(row.kind.value == "group" and row.band.kind == "lb" for row in app.ledger.rows if row.band)
        app.ledger.fold(False)
        assert not any(row.kind.value == "group" and row.band.kind == "lb" for row in app.ledger.rows if row.band)
        await pilot.pause()


async def test_a_changed_state_word_is_bold_for_a_second() -> None:
    async with ledger("steady") as (app, _):
        app.seconds = 1.0
        app.ledger.show(SNAPSHOTS["crash_half"]())

        def bold() -> bool:
            y = lines(app).index(row(app, "m4dd8  crashed"))
            return any(
                segment.style is not None and bool(segment.style.bold) and "crashed" in segment.text
                for segment in app.ledger.render_line(y)
            )

        assert bold()
        app.seconds = 2.1
        app.ledger.calm()
        assert not bold()


async def test_between_two_frames_only_changed_lines_are_repainted() -> None:
    async with ledger("steady") as (app, _):
        painted: list[tuple[int, tuple[Region, ...]]] = []
        for one in app.ledger.slices:
            one.refresh = lambda *regions, start=one.start: painted.append((start, regions))  # type: ignore
        snapshot = app.ledger.lab.snapshot()
        app.ledger.show(replace(snapshot, t_ns=snapshot.t_ns + 1))
        assert painted == []
        app.ledger.show(replace(snapshot, t_ns=snapshot.t_ns + 100_000_000))
        assert {start for start, _ in painted} == {75, 90}  # a cell of the 30 s column is complete, too
        assert all(len(regions) == 1 and regions[0].height == 1 for _, regions in painted)


async def test_hostile_names_are_data() -> None:
    snapshot = SNAPSHOTS["steady"]()
    band = snapshot.bands[-1]
    names = ("[/]", "x\x1b[2J\u202ey", "漢字漢字漢字漢字漢字漢字")
    pods = tuple(replace(pod, name=name) for pod, name in zip(band.candidates, names, strict=True))
    hostile = replace(
        snapshot, bands=(*snapshot.bands[:-1], replace(band, candidates=pods, detail="[bold]/[a-z]+(/|$)"))
    )
    async with ledger(hostile) as (app, _):
        text = "\n".join(lines(app))
        assert "[/]" in text
        assert "[bold]/[a-z]+(/|$)" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        for y in range(24):
            assert app.ledger.render_line(y).cell_length == 120


async def test_ascii_screens_are_ascii() -> None:
    async with ledger("crash_two") as (app, _):
        app.glyphs = ASCII
        app.ledger.show(replace(app.ledger.lab.snapshot()))
        assert [line for line in lines(app) if not line.isascii()] == []


async def test_an_old_change_can_be_looked_at_again() -> None:
    async with ledger("crash_two") as (app, _):
        old = SNAPSHOTS["crash_two"]()
        for t in range(20):
            app.ledger.show(replace(old, t_ns=old.t_ns + t * 400_000_000))
        before = row(app, "m4dd8")[90:119]
        assert "▃" in before or "▂" in before
        far = old.t_ns + 60_000_000_000
        bare = SNAPSHOTS["steady"]()
        app.ledger.show(replace(bare, t_ns=far, first_bin=far // 100_000_000 - 119))
        app.ledger.step_change(-1)
        assert lines(app)[0][90:97] == "12.40 ✖"
        assert row(app, "m4dd8")[97:103].strip()


def test_only_columns_that_differ_are_repainted() -> None:
    old, new = CellLine(20), CellLine(20)
    for line in (old, new):
        line.put(2, "product", "text")
    assert new.changes(old, 0, 20) is None
    new.put(4, "x", "lost")
    new.ground(10, 12, "gap")
    assert new.changes(old, 0, 20) == (4, 12)
    assert new.changes(old, 0, 8) == (4, 5)
    assert new.changes(old, 12, 20) is None


async def test_web_sockets_that_were_cut_stand_under_the_client() -> None:
    """At every width at least how many; where there is room also why."""
    cut = SocketRow("browser", 10_000, (("NGINX ended its old workers", 10_000),), CRASH_NS + S)
    state = replace(crash_two(), sockets=(cut,))
    async with ledger(state) as (app, _):
        line = row(app, "WebSockets")
        assert line[:73].rstrip() == " │ ✖ WebSockets       10,000 cut: NGINX ended its old workers 10,000 open"
        assert lines(app).index(line) == lines(app).index(row(app, "failed")) + 1
    async with ledger(state, 80) as (app, _):
        assert row(app, "WebSockets")[:52].rstrip() == " │ ✖ WebSockets      10,000 cut          10,000 open"
    quiet = SocketRow("browser", 12, ())
    async with ledger(replace(state, sockets=(quiet, replace(quiet, client="other")))) as (app, _):
        assert "· WebSockets       browser: none cut" in row(app, "browser")
        assert "other: none cut" in row(app, "other:")
    async with ledger(replace(state, marks=(*state.marks, Mark(CRASH_NS + S, "cut", "cut")))) as (app, _):
        assert lines(app)[0][107] == "✖", "no change, so the lens stays on the crash"
        assert lines(app)[0][90:95] == "12.40"


@pytest.mark.parametrize(
    ("width", "minutes", "axis"),
    [
        (126, 1, "rate, %  -30 s        1:12.40 ✖"),
        (126, 59, "rate, %  -30 s       59:12.40 ✖"),
        (80, 0, "rate 12.4 ✖"),
        (80, 1, "rate 1:12 ✖"),
        (80, 12, "rate 12:12✖"),
        (80, 90, "rate      ✖"),
    ],
)
async def test_the_instant_of_a_change_covers_no_head(width: int, minutes: int, axis: str) -> None:
    state, later = crash_two(), minutes * 60 * S
    marks = tuple(replace(mark, t_ns=mark.t_ns + later) for mark in state.marks)
    async with ledger(replace(state, t_ns=state.t_ns + later, marks=marks), width) as (app, _):
        assert axis in lines(app)[0].replace("╷", " ")


async def test_what_does_not_fit_beside_who_knows_goes_part_by_part() -> None:
    state = crash_two()
    what = "that deployment/frontend was applied at 1:45.80 · 1 of 3 available · 0 of 2 pod changes known"
    async with ledger(replace(state, knowledge=replace(state.knowledge, what=what)), 120) as (app, _):
        assert "that deployment/frontend was applied at 1:45.80  " in row(app, "who knows")


async def test_down_comes_past_services_that_share_their_pods() -> None:
    """Two Services select the same pods (frontend and frontend-external of online-boutique)."""
    state = steady()
    shop = next(band for band in state.bands if band.kind == "service")
    names = ("external", "internal", *(f"other-{i}" for i in range(8)))
    more = tuple(replace(shop, id=f"service/{name}", key=PRODUCT_SVC._replace(name=name)) for name in names)
    bands = (*(band for band in state.bands if band is not shop), *more)
    async with ledger(replace(state, bands=bands), height=20) as (app, pilot):
        await pilot.press("home")
        seen = [app.ledger.selected]
        for _ in range(60):
            await pilot.press("down")
            if app.ledger.selected == seen[-1]:
                break
            seen.append(app.ledger.selected)
        assert len(set(seen)) == len(seen)
        assert app.ledger.selected_row is not None
        assert app.ledger.selected_row.kind is RowKind.KNOWER
        assert {"service/external", "service/internal"} <= set(seen)


async def test_a_rollout_says_which_pod_change_spreads_and_how_many_are_known() -> None:
    state = crash_two()
    what = f"that {PODS[1].name} was deleted at 12.40 · 3 of 4 pod changes known · 2 of 3 updated"
    rolls = replace(state.knowledge, what=what, subject=PODS[1], kind="delete", changes=(3, 4), began_ns=CRASH_NS - S)
    tail = PODS[1].name.rpartition("-")[2]
    for width, words in (
        (126, f"{tail} was deleted at 12.40 · 3 of 4 changes known"),
        (80, f"{tail} deleted · 3 of 4 changes"),
    ):
        async with ledger(replace(state, knowledge=rolls), width) as (app, _):
            assert f"who knows  {words} " in row(app, "who knows")
            assert "5 of 5" in row(app, "who knows")


async def test_an_observer_on_a_node_without_power_does_not_count() -> None:
    state = crash_half()
    off = tuple(replace(one, off=one.name == "node-c rules", running=False) for one in state.knowledge.knowers)
    async with ledger(replace(state, knowledge=replace(state.knowledge, knowers=off))) as (app, _):
        assert "of 4" in row(app, "who knows")
        dead = row(app, "node-c rules")
        assert "no power" in dead
        assert "not yet" not in dead
        assert "◇" not in dead
        assert "╌" not in dead


async def test_a_change_held_by_hand_shows_its_own_rows_as_they_ended() -> None:
    """Superseded after 0.1 s by the next pod of a rollout: what its observers learned since is in the Gantt."""
    first, later = crash_half(), CRASH_NS + 2 * S
    rolls = replace(first.knowledge, subject=PODS[1], changes=(0, 1), began_ns=CRASH_NS - S)
    newest = replace(crash_two().knowledge, t_ns=later, subject=PODS[2], changes=(1, 2), began_ns=CRASH_NS - S)
    rows = tuple(
        GanttRow(one.name, "rules", CRASH_NS, CRASH_NS + 300_000_000, 0, "", True) for one in rolls.knowers
    )  # fmt: skip
    event = GanttEvent(1, CRASH_NS, "was deleted", PODS[1], "end", later, CRASH_NS + 300_000_000, 0, rows)
    report = AutopsyReport(groups=(GanttGroup(CRASH_NS - S, "restart", "restarted", 0, (event,)),))
    marks = (Mark(CRASH_NS, "delete", "first"), Mark(later, "delete", "second"))
    async with ledger(replace(first, knowledge=rolls, marks=marks[:1])) as (app, pilot):
        after = replace(crash_two(), t_ns=later + S // 2, knowledge=newest, marks=marks, autopsy=report)
        app.ledger.show(after)
        await pilot.pause()
        assert "1 of 2 changes" in row(app, "who knows"), "by itself it is about the newest"
        app.ledger.step_change(1)
        app.ledger.step_change(-1)
        await pilot.pause()
        assert "5 of 5" in row(app, "who knows")
        for name in ("EndpointSlice", "node-a rules", "node-c rules"):
            assert "+0.30 s" in row(app, name)
            assert "not yet" not in row(app, name)
