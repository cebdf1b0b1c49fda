"""The rules of a node: shortened, marked where the open request went, searched."""

from dataclasses import replace

from kflab.dataplane.packets import RequestTrace
from kflab.tui.messages import HopSelected, ObjectSelected, RequestLoaded
from kflab.tui.rules_lines import rule_lines, short
from kflab.tui.rules_pane import RulesPane
from tests.tui import fakes
from tests.tui.demo import PaneApp, lines_of

SVC = (
    '-A KUBE-SVC-4WTCEQOV7PEPC2YB -m comment --comment "default/product-service -> 10.244.2.26:8080" '
    "-m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-ZK2NLLEQTFGAR4XA"
)
SEP = "-A KUBE-SEP-ZK2NLLEQTFGAR4XA -p tcp -m tcp -j DNAT --to-destination 10.244.2.26:8080"
OTHER = "-A KUBE-SEP-7JQFTL5WMJAKL5MD -p tcp -m tcp -j DNAT --to-destination 10.244.2.25:8080"


class Lab(fakes.FakeLab):
    asked: list[str]

    def rules_text(self, node: str, t_ns: int | None = None) -> object:
        self.asked = [*getattr(self, "asked", []), node]
        return fakes._done(f"*nat\n# {node}\n{SVC}\n{SEP}\n{OTHER}\nCOMMIT\n")


def trace() -> RequestTrace:
    """The request of the picture, with the rules that hop 5 took."""
    made = fakes.request()
    hops = tuple(replace(hop, rules=(SVC, SEP)) if hop.number == 5 else hop for hop in made.hops)
    return replace(made, hops=hops)


def test_ids_are_shortened_in_the_middle_and_comments_marked() -> None:
    assert short(SVC, "…").startswith("-A KUBE-SVC-4WTC…C2YB … -m statistic … --probability 0.5")
    assert "KUBE-NODEPORTS" in short("-A KUBE-SERVICES -j KUBE-NODEPORTS", "…")


def test_a_jump_is_told_where_it_leads() -> None:
    assert [line.target for line in rule_lines(f"{SVC}\n{SEP}")] == ["10.244.2.26:8080", ""]


async def test_the_open_requests_rules_carry_a_heavy_bar_and_their_hop() -> None:
    app = PaneApp(Lab("crash_half"), RulesPane)
    async with app.run_test(size=(70, 14)) as pilot:
        await pilot.pause()
        assert app.pane.subtitle.startswith("node-a · rev 41")
        app.pane.post_message(RequestLoaded(trace()))
        app.pane.post_message(HopSelected(5))
        await pilot.pause()
        lines = [line for line in lines_of(app) if line.startswith("┃")]
        assert len(lines) == 4
        assert lines[1].endswith("hop 5")
        assert "10.244.2.26:8080" in lines[1]
        assert not any("10.244.2.25" in line for line in lines)


async def test_rules_are_fetched_once_a_revision_and_follow_the_selected_node() -> None:
    lab = Lab("crash_half")
    app = PaneApp(lab, RulesPane)
    async with app.run_test(size=(70, 14)) as pilot:
        await pilot.pause()
        app.pane.show(replace(lab.current, t_ns=lab.current.t_ns + 1))
        assert lab.asked == ["node-a"]
        app.pane.show(fakes.crash_two())
        assert lab.asked == ["node-a", "node-a"]
        app.pane.post_message(ObjectSelected(fakes.NODE_C))
        await pilot.pause()
        assert lab.asked[-1] == "node-c"
        assert any("# node-c" in line for line in lines_of(app))


async def test_search_counts_and_marks_matches() -> None:
    app = PaneApp(Lab("crash_half"), RulesPane)
    async with app.run_test(size=(70, 14)) as pilot:
        await pilot.pause()
        await pilot.press("slash", *"2.25", "enter")
        await pilot.pause()
        assert "/2.25: 1 match" in app.pane.subtitle
        assert app.pane.copy_text()[0] == OTHER
        await pilot.press("escape")
        assert app.pane.pattern == ""


def test_a_hundred_thousand_rules_draw_only_what_is_seen() -> None:
    pane = RulesPane(fakes.FakeLab())
    pane.lines = rule_lines("\n".join([SVC, SEP] * 50_000))
    drawn: list[int] = []
    pane._rows = lambda line, *rest: drawn.append(line.number) or [None, None]  # type: ignore[assignment,func-returns-value]
    pane._say = lambda: None  # type: ignore[method-assign]
    rows = pane.build(70, 20)
    assert len(rows) == 200_000
    rows[0], rows[199_999]
    assert drawn == [0, 99_999]
