"""The schematic: every fact is on it, at every size, and nothing moves that should not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.lab.snapshot import Band, Snapshot
from kflab.manifest.objects import Key
from kflab.tui.glyphs import ASCII, UNICODE
from kflab.tui.messages import ObjectSelected
from kflab.tui.schematic import SchematicView
from kflab.tui.schematic_draw import Circuit
from kflab.tui.schematic_layout import MORE_NODES, Frame, plan_left, plan_right
from kflab.tui.schematic_left import LeftColumn
from kflab.tui.schematic_memory import DWELL_NS, Placement, Weights
from kflab.tui.schematic_path import find_path, way_of
from kflab.tui.schematic_right import RightColumn
from kflab.tui.wires import DOWN, LEFT, RIGHT, UP, Canvas, Weight, arm
from tests.tui.fakes import INGRESS_1, PODS, PRODUCT_SVC, request
from tests.tui.schematic_fakes import (
    CASES,
    OneView,
    black_hole,
    crash,
    many,
    no_nat,
    row_of,
    service_band,
    steady,
    with_service,
)


async def shown(snapshot: Snapshot, width: int = 120, height: int = 23, **more: Any) -> list[str]:
    app = OneView(SchematicView, snapshot, **more)
    async with app.run_test(size=(width, height)) as pilot:
        await pilot.pause()
        return app.lines()


FACTS = (
    "client 203.0.113.45",
    "1,004/s",
    "✖ 36/s failed, 18 in all",
    "DNS api.example.com → 52.100.10.20",
    "52.100.10.20:443",
    "1 healthy target of 3",
    "○ out: no ingress pod",
    "DNAT :30443 → local pods :443",
    "ingress-…-4kq2x",
    "10.244.1.10",
    "NGINX api.example.com/products",
    "Service product-service:80",
    "10.96.100.50",
    "1,484/s",
    "1.48 tries",
    "◇ still 1 of 3",
    "✖ product-…-m4dd8",
    "crashed 10.244.2.26",
    "32.6 %",
    "refused: nothing listens",
    "● product-…-7xk2p",
    "ready 10.244.2.25",
    "0 of 5",
    "◇ node-b kubelet",
    "not noticed yet",
    "◇ node-a rules",
    "callers here",
    "239 refused",
    "nobody calls",
    "not yet",
    "NGINX tried",
    "18 answered 502 after 3",
)


async def test_every_fact_of_the_crash_is_readable_in_one_colour() -> None:
    lines = await shown(crash())
    text = "\n".join(lines)
    assert [fact for fact in FACTS if fact not in text] == []
    assert "╳" in lines[row_of(lines, "✖ product-…-m4dd8")]
    assert sum(line.count("◇ stale") for line in lines) == 3, "each node says that its rules are old"


async def test_without_colour_only_bold_dim_and_reverse_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = OneView(SchematicView, crash())
    async with app.run_test(size=(120, 23)) as pilot:
        app.view.select(PODS[1])
        await pilot.pause()
        styles = [segment.style for y in range(23) for segment in app.view.render_line(y) if segment.style is not None]
        assert all(style.color is None and style.bgcolor is None for style in styles)
        chosen = "".join(
            segment.text
            for y in range(23)
            for segment in app.view.render_line(y)
            if segment.style is not None and segment.style.reverse
        )
        assert chosen == "product-…-m4dd8"


async def test_ascii_screen_is_ascii_and_says_the_same() -> None:
    text = "\n".join(await shown(crash(), glyphs=ASCII))
    assert text.isascii()
    for fact in ("x product-~-m4dd8", "refused: nothing listens", "- still 1 of 3", "[ Service product-service:80 ]"):
        assert fact in text


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("size", [(60, 16), (77, 18), (80, 20), (120, 23), (132, 40), (200, 50)])
async def test_nothing_is_cut_without_a_sign_at_any_size(name: str, size: tuple[int, int]) -> None:
    snapshot = CASES[name]()
    app = OneView(SchematicView, snapshot)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        view = app.view
        canvas = view.paint(snapshot, *size)
        assert_joints_match(canvas)
        lines = canvas.lines()
        assert max(len(line) for line in lines) <= size[0]
        path = find_path(snapshot)
        assert path.service is not None
        drawn = {hit.key for hit in view.hits}
        hidden = [one for one in path.service.candidates if one.key not in drawn]
        if hidden:
            text = "\n".join(lines)
            assert "more" in text or "●" in text, "pods without a place of their own are counted"
        if canvas.height > size[1]:
            assert "more lines" in app.lines()[-1]


def assert_joints_match(canvas: Canvas) -> None:
    """The lines of a drawing meet wherever no words stand between them."""
    for y in range(canvas.height):
        for x in range(canvas.width):
            cell = canvas.arms_at(x, y)
            if x + 1 < canvas.width:
                assert arm(cell, RIGHT) == arm(canvas.arms_at(x + 1, y), LEFT), (x, y)
            if y + 1 < canvas.height:
                assert arm(cell, DOWN) == arm(canvas.arms_at(x, y + 1), UP), (x, y)


async def test_resizing_and_coming_back_shows_the_same() -> None:
    app = OneView(SchematicView, crash())
    async with app.run_test(size=(120, 23)) as pilot:
        await pilot.pause()
        before = app.lines()
        for size in ((80, 20), (200, 50), (50, 12), (120, 23)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert app.lines() == before


async def test_a_tiny_pane_states_facts_and_the_size_that_draws() -> None:
    lines = await shown(crash(), 50, 10)
    assert "m4dd8 crashed" in lines[0]
    assert "60 columns bring the drawing" in lines[-1]


async def test_no_path_names_the_key_that_brings_one() -> None:
    lines = await shown(replace(steady(), bands=()))
    assert "ctrl+s" in lines[0]


# --- stillness ------------------------------------------------------------------------------------------------


def changed(band: Band, **states: str) -> Band:
    """The same band with pods in other states, by the tail of their names."""
    rows = tuple(
        replace(one, state=states[tail], listed=False, rate_rps=0.0)
        if (tail := one.name.rpartition("-")[2]) in states
        else one
        for one in band.candidates
    )
    return replace(band, candidates=rows)


async def test_a_dead_pod_keeps_its_place_and_a_new_one_takes_the_free_slot() -> None:
    app = OneView(SchematicView, steady())
    async with app.run_test(size=(80, 22)) as pilot:
        await pilot.pause()
        band = service_band(steady())
        rows = {pod: row_of(app.lines(), pod) for pod in ("7xk2p", "m4dd8", "q8rwz")}
        app.view.show(with_service(steady(), changed(band, m4dd8="crashed")))
        dead = app.lines()
        assert {pod: row_of(dead, pod) for pod in rows} == rows
        gone = tuple(one for one in band.candidates if not one.name.endswith("m4dd8"))
        app.view.show(with_service(steady(), replace(band, candidates=gone)))
        assert row_of(app.lines(), "q8rwz") == rows["q8rwz"]
        new = replace(band.candidates[1], key=Key("Pod", "default", "product-7c9f8d6b5-n3w22"), name="product-n3w22")
        app.view.show(with_service(steady(), replace(band, candidates=(new, *gone))))
        lines = app.lines()
        assert row_of(lines, "n3w22") == rows["m4dd8"]
        assert row_of(lines, "7xk2p") == rows["7xk2p"]


def test_nodes_are_sorted_worst_first_once_and_then_hold_still() -> None:
    snapshot = many()
    band = service_band(snapshot)
    placement = Placement()
    order = placement.worst_first(band.id, placement.place(band, snapshot.nodes))
    assert order[:2] == ["node-d", "node-f"]
    ill = tuple(replace(one, state="crashed") if one.node == "node-i" else one for one in band.candidates)
    assert placement.worst_first(band.id, placement.place(replace(band, candidates=ill), snapshot.nodes)) == order


def test_a_weight_changes_only_after_half_a_second_beyond_its_limit() -> None:
    weights = Weights()
    assert weights.of("tap", 333, 1000, 0) is Weight.LIGHT
    assert weights.of("tap", 480, 1000, 1) is Weight.LIGHT
    assert weights.of("tap", 480, 1000, 1 + DWELL_NS) is Weight.HEAVY
    assert weights.of("tap", 350, 1000, 2 * DWELL_NS) is Weight.HEAVY, "between 30 and 40 % nothing changes"
    assert weights.of("tap", 250, 1000, 3 * DWELL_NS) is Weight.HEAVY
    assert weights.of("tap", 390, 1000, 3 * DWELL_NS + 1) is Weight.HEAVY, "it came back in time"
    assert weights.of("tap", 250, 1000, 4 * DWELL_NS) is Weight.HEAVY
    assert weights.of("tap", 250, 1000, 5 * DWELL_NS) is Weight.LIGHT
    assert weights.of("tap", 0, 1000, 6 * DWELL_NS) is Weight.DOTTED


async def test_the_same_snapshot_paints_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = OneView(SchematicView, crash())
    async with app.run_test(size=(120, 23)) as pilot:
        await pilot.pause()
        painted: list[Any] = []
        monkeypatch.setattr(app.view, "refresh", lambda *regions, **_: painted.append(regions))
        app.view.show(crash())
        assert painted == []
        faster = tuple(replace(band, rate_rps=1011.0) if band.kind == "client" else band for band in crash().bands)
        app.view.show(replace(crash(), bands=faster))
        assert [len(regions) for regions in painted] == [1], "one row holds the client's rate"


# --- drawing rules --------------------------------------------------------------------------------------------


async def test_a_pod_that_rules_no_longer_list_has_no_tap() -> None:
    lines = await shown(CASES["crash_two"]())
    at = row_of(lines, "◐ product-…-m4dd8")
    assert "▶" not in lines[at]
    assert "╳" not in lines[at]
    assert "not an endpoint yet" in lines[at + 2]


async def test_a_kept_connection_to_a_pod_that_left_keeps_its_tap() -> None:
    band = service_band(steady())
    kept = replace(band.candidates[1], state="terminating", listed=False)
    lines = await shown(with_service(steady(), replace(band, candidates=(band.candidates[0], kept))))
    assert "▶ ◌" in lines[row_of(lines, "m4dd8")]
    lost = replace(kept, failing=True)
    lines = await shown(with_service(steady(), replace(band, candidates=(band.candidates[0], lost))))
    assert "▶" not in lines[row_of(lines, "m4dd8")], "the failures counted are those before the rules changed"


async def test_timeouts_are_a_dotted_end_and_a_word() -> None:
    lines = await shown(black_hole())
    at = row_of(lines, "m4dd8      484/s")
    assert "┄?" in lines[at]
    assert "no answer" in lines[at + 2]


async def test_without_nat_the_label_is_nginxs_upstream() -> None:
    text = "\n".join(await shown(no_nat()))
    assert "┫ upstream product-service:80 ┣" in text
    assert "round robin, 1 of 3" in text
    assert "Service product-service" not in text
    assert "3 healthy targets of 3" in text


async def test_upstreams_keep_their_label_while_they_are_tried_again() -> None:
    """As the lab words it: the choice gives way to the tries, the pod addresses stay."""
    band = service_band(no_nat())
    tried = "product-service 10.96.100.50:80 → :8080 (by pod address) · 1.48 tries/request"
    text = "\n".join(await shown(with_service(no_nat(), replace(band, title="Service", detail=tried))))
    assert "┫ upstream product-service:80 ┣" in text
    assert "round robin, 1 of 3" in text


async def test_a_service_without_endpoints_says_what_callers_get() -> None:
    band = service_band(steady())
    empty = replace(band, candidates=(), detail="product-service 10.96.100.50:80 → :8080 · no endpoints: 503")
    text = "\n".join(await shown(with_service(steady(), empty)))
    assert "✖ no endpoints: 503" in text
    assert "▶ ● product" not in text


async def test_a_long_public_name_never_costs_its_address() -> None:
    name = "k8s-default-frontend-70b2433b1f-3a90d5cf88389c28.elb.us-east-1.amazonaws.com"
    bands = tuple(
        replace(band, detail=f"{name} → 198.51.100.10 · only choice") if band.kind == "dns" else band
        for band in steady().bands
    )
    for width in (60, 80, 120):
        lines = await shown(replace(steady(), bands=bands), width)
        assert "→ 198.51.100.10" in lines[row_of(lines, "DNS")]


async def test_a_route_to_no_service_ends_at_nginx() -> None:
    bands = tuple(
        replace(band, detail="NGINX ends TLS · /products → 404 · no rule matches") if band.kind == "route" else band
        for band in steady().bands
        if band.kind != "service"
    )
    text = "\n".join(await shown(replace(steady(), bands=bands)))
    assert "✖ 404, no rule matches" in text


async def test_many_pods_are_one_row_a_node_with_a_sum_for_the_rest() -> None:
    lines = await shown(many())
    text = "\n".join(lines)
    assert "72 pods 70 ready" in text
    assert "●●●◐●●●●●" in lines[row_of(lines, "node-d")]
    assert "▼ 3 more nodes, 27" in text
    rates = [float(line.split("/s")[-2].split()[-1]) for line in lines if "▶ node-" in line or "more nodes" in line]
    assert sum(rates) == pytest.approx(service_band(many()).rate_rps, abs=40), "the branches add up to the trunk"


async def test_arrows_walk_a_strip_glyph_by_glyph_and_enter_unfolds() -> None:
    app = OneView(SchematicView, many())
    node = next(row for row in many().nodes if row.key.name == "node-d")
    async with app.run_test(size=(120, 23)) as pilot:
        await pilot.pause()
        app.view.select(node.pods[0].key)
        for _ in range(3):
            await pilot.press("right")
        assert app.view.selected == node.pods[3].key
        assert app.chosen[-1] == node.pods[3].key
        assert f"{node.pods[3].key.name.rpartition('-')[2]} starting" in app.text()
        app.view.select(node.key)
        await pilot.press("enter")
        await pilot.pause()
        assert node.pods[0].key.name.rpartition("-")[2] in app.text()
        app.view.select(MORE_NODES)
        assert app.chosen[-1] == node.key, "a row of folded nodes is no object to select elsewhere"
        await pilot.press("enter")
        await pilot.pause()
        assert "more nodes" not in app.text()


async def test_services_behind_one_ingress_are_stacked_and_the_last_change_unfolds() -> None:
    app = OneView(SchematicView, CASES["sixty"]())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = app.text()
        assert "┫ Service orders:80 ┣" in text
        others = [band for band in CASES["sixty"]().bands if band.kind == "service" and "orders" not in band.id]
        for band in others:
            assert f"┫ {band.id.rpartition('/')[2]} ┣" in text
        app.view.select(others[0].key)
        await pilot.press("enter")
        await pilot.pause()
        assert f"┫ Service {others[0].id.rpartition('/')[2]} ┣" in app.text()


async def test_an_endpoint_chosen_elsewhere_brings_its_path() -> None:
    snapshot = CASES["sixty"]()
    band = next(one for one in snapshot.bands if one.kind == "service" and "orders" not in one.id)
    app = OneView(SchematicView, snapshot)
    async with app.run_test(size=(120, 40)) as pilot:
        message = ObjectSelected(band.candidates[0].key)
        message.relayed = True
        app.view.post_message(message)
        await pilot.pause()
        assert f"Service {band.id.rpartition('/')[2]}" in app.text()
        assert app.chosen == [], "what was chosen elsewhere is not said again"


async def test_services_without_a_caller_are_listed_to_be_chosen() -> None:
    uncalled = tuple(Key("Service", "default", f"service-{i}") for i in range(14))
    lines = await shown(replace(steady(), uncalled=uncalled), 80, 30)
    line = lines[row_of(lines, "no caller")]
    assert "service-0" in line
    assert line.endswith("more")


STATES = ("ready", "crashed", "starting", "terminating", "gone", "pending", "not ready")


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["node-a", "node-b", "node-c", "node-d", ""]), st.sampled_from(STATES)), max_size=30
    ),
    st.integers(60, 110),
    st.integers(10, 50),
    st.booleans(),
)
def test_any_cluster_draws_with_matching_joints_and_every_pod_accounted_for(
    pods: list[tuple[str, str]], width: int, height: int, lit: bool
) -> None:
    band = service_band(crash())
    rows = tuple(
        replace(
            band.candidates[0],
            key=Key("Pod", "default", f"product-{i}"),
            name=f"product-7c9f8d6b5-{i:05d}",
            node=node,
            state=state,
            address=f"10.244.2.{25 + i}",
            listed=state in ("ready", "crashed", "gone"),
            failing=state in ("crashed", "gone"),
        )
        for i, (node, state) in enumerate(pods)
    )
    snapshot = with_service(crash(), replace(band, candidates=rows))
    path = find_path(snapshot)
    assert path.service is not None
    placement = Placement()
    slots = placement.place(path.service, snapshot.nodes)
    assert sum(one is not None for some in slots.values() for one in some) == len(rows)
    left = plan_left(path, snapshot, height)
    order = placement.worst_first(path.service.id, slots)
    right = plan_right(path, slots, order, left, height, frozenset(), False)
    way = way_of(request(), path) if lit else None
    circuit = Circuit(snapshot, path, Frame(width), left, right, Weights(), UNICODE, way)
    LeftColumn(circuit).draw()
    RightColumn(circuit).draw()
    assert_joints_match(circuit.canvas)
    in_boxes = {one.key for box in right.boxes for one in box.slots if one is not None}
    in_strips = {one.key for _, _, members in right.strips for one in members}
    folded = {one.key for one in right.more[2]} if right.more is not None else set()
    assert in_boxes | in_strips | folded == {one.key for one in rows}
    assert not in_boxes & in_strips


async def test_a_tall_narrow_pane_has_who_knows_what_below() -> None:
    lines = await shown(crash(), 80, 44)
    at = row_of(lines, "Who knows what")
    assert at > row_of(lines, "still 1 of 3")
    assert "callers here" in "\n".join(lines[at:])


async def test_a_restart_frees_every_place() -> None:
    app = OneView(SchematicView, steady())
    async with app.run_test(size=(80, 22)) as pilot:
        await pilot.pause()
        band = service_band(steady())
        app.view.show(with_service(steady(), replace(band, candidates=band.candidates[1:])))
        assert row_of(app.lines(), "m4dd8") > 10
        app.view.show(with_service(replace(steady(), t_ns=0), replace(band, candidates=band.candidates[1:])))
        assert row_of(app.lines(), "m4dd8") <= 10


# --- one request ----------------------------------------------------------------------------------------------


def test_hops_find_their_places_on_the_path() -> None:
    way = way_of(request(), find_path(crash()))
    assert (way.start, way.lb, way.entry, way.route) == ((1,), (2,), (3,), (4, 6))
    assert way.ingress == INGRESS_1
    assert way.pods == ((PODS[1], (5,), False), (PODS[0], (7,), True))


async def test_the_lit_way_carries_hop_numbers_to_the_wires_they_touched() -> None:
    app = OneView(SchematicView, crash())
    async with app.run_test(size=(120, 23)) as pilot:
        await pilot.pause()
        app.view.light(request())
        lines = app.lines()
        assert " 1  DNS" in lines[row_of(lines, "DNS")]
        assert " 2  1 healthy" in lines[row_of(lines, "healthy")]
        assert " 3  DNAT" in lines[row_of(lines, "DNAT")]
        assert " 4 6 " in lines[row_of(lines, "NGINX")]
        assert " 5 ╳" in lines[row_of(lines, "484/s")]
        assert " 7 ━┿▶" in lines[row_of(lines, "7xk2p")]
        app.view.light(None)
        assert " 4 6 " not in app.text()


async def test_a_refused_try_stays_lit_when_the_pod_is_back() -> None:
    app = OneView(SchematicView, steady())
    async with app.run_test(size=(120, 23)) as pilot:
        await pilot.pause()
        app.view.light(request())
        lines = app.lines()
        assert " 5 ╳" in lines[row_of(lines, "m4dd8")]


# --- choosing -------------------------------------------------------------------------------------------------


async def test_arrows_go_through_everything_that_is_drawn() -> None:
    app = OneView(SchematicView, steady())
    async with app.run_test(size=(80, 22)) as pilot:
        await pilot.pause()
        app.view.select(PODS[0])
        await pilot.press("down", "down")
        assert app.view.selected == PODS[2]
        await pilot.press("left")
        assert app.view.selected == PRODUCT_SVC
        await pilot.press("right")
        assert app.view.selected in PODS
        for _ in range(20):
            await pilot.press("up")
        assert app.view.selected is not None
        assert app.view.selected.kind in ("Node", "Pod", "Service")


async def test_a_click_chooses_what_is_under_the_mouse() -> None:
    app = OneView(SchematicView, steady())
    async with app.run_test(size=(80, 22)) as pilot:
        await pilot.pause()
        at = row_of(app.lines(), "m4dd8")
        await pilot.click(SchematicView, offset=(60, at + 1))
        assert app.chosen == [PODS[1]]


async def test_the_filter_leaves_what_matches_bright_and_arrows_stop_only_there() -> None:
    app = OneView(SchematicView, steady())
    async with app.run_test(size=(80, 22)) as pilot:
        await pilot.pause()
        app.view.filter = "q8rwz"
        await pilot.press("down", "down", "up")
        assert app.view.selected == PODS[2]
        assert app.view.note == "/q8rwz 1 found"


@pytest.mark.parametrize("name", ["[/]", "/[a-z]+(/|$)(.*)", "\x1b[2Jclear", "a\u202eevil", "漢字-pod", "x" * 300])
async def test_hostile_names_are_shown_and_nothing_else(name: str) -> None:
    band = service_band(steady())
    evil = replace(band.candidates[0], name=name, key=Key("Pod", "default", name), address=name, note=name)
    evil_service = replace(band, key=Key("Service", "default", name), candidates=(evil, *band.candidates[1:]))
    lines = await shown(with_service(steady(), evil_service), 80, 22)
    assert all(line.isprintable() for line in lines)
    assert max(len(line) for line in lines) <= 80
