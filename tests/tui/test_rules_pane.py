"""The rules of a node: shortened, marked where the open request went, searched."""

from dataclasses import replace

import pytest

from kflab.dataplane.packets import Hop, Packet, RequestTrace
from kflab.lab.commands import SetMode
from kflab.lab.running import Lab as RunningLab
from kflab.scenario.format import load
from kflab.scenario.opening import open_what
from kflab.tui.app import KflabApp
from kflab.tui.messages import HopSelected, ObjectSelected, RequestLoaded
from kflab.tui.rules_lines import deciding, printed, rule_lines, same_rule, short, taken_rules
from kflab.tui.rules_pane import RulesPane
from kflab.tui.screenshots import HeldLab, Stage
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
        return fakes.answered(f"*nat\n# {node}\n{SVC}\n{SEP}\n{OTHER}\nCOMMIT\n")


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
        drains = [replace(row, draining=1) for row in fakes.crash_two().nodes]
        app.pane.show(replace(fakes.crash_two(), nodes=tuple(drains)))  # IPVS has one of weight 0 in the same revision
        assert lab.asked == ["node-a"] * 3
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


MODES = {
    "iptables": ("as iptables-save prints them", "-j KUBE-SEP-", "nat KUBE-SVC-"),
    "nftables": ("as nft list ruleset prints them", "numgen random mod 3", "chain service-"),
    "ipvs": ("as ipvsadm -Sn, ipset save and iptables-save print them", "-r 10.244.2.2", "virtual server 10.96.100.50"),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_rule_a_hop_took_stands_in_its_nodes_text(mode: str) -> None:
    lab = RunningLab(load("overview").spec)
    if mode != "iptables":
        assert lab.do(SetMode(mode)).ok
    lab.advance(7_000_000_000)
    how, chose, room = MODES[mode]
    met = 0
    for row in lab.view.traces()[-20:]:
        for hop in lab.open_request(row.id).hops:
            if not hop.rules or not hop.number:
                continue
            lines = rule_lines(lab.rules_text(hop.node, hop.t_ns))
            assert printed(lines) == how
            there = {line.rule: line for line in lines if line.rule}
            assert set(taken_rules(hop)) <= set(there)
            decided = there[same_rule(hop.rules[deciding(hop.rules)])]
            if hop.number == 5:
                assert chose in decided.full
                assert decided.room.startswith(room)
                met += 1
    assert met > 10


def test_an_element_of_a_verdict_map_is_lit_too() -> None:
    text = (
        "table ip kube-proxy {\n\tmap no-endpoint-services {\n"
        "\t\ttype ipv4_addr . inet_proto . inet_service : verdict\n"
        '\t\telements = { 10.96.1.1 . tcp . 80 comment "a/b:c" : goto reject-chain,\n'
        '\t\t\t     10.96.1.2 . udp . 53 comment "a/d" : drop }\n\t}\n'
        '\n\tchain services {\n\t\tcomment "x"\n\t\tip daddr . meta l4proto . th dport vmap @m\n\t}\n}\n'
    )
    rules = [line.rule for line in rule_lines(text) if line.rule]
    assert rules == [
        "@no-endpoint-services 10.96.1.1 . tcp . 80",
        "@no-endpoint-services 10.96.1.2 . udp . 53",
        "services: ip daddr . meta l4proto . th dport vmap @m",
    ]
    hop = Hop(
        3, "node-a, kernel", before=Packet("10.244.1.2", 4, "10.96.1.2", 53, "UDP"),
        rules=("check: ip daddr . meta l4proto . th dport vmap @no-endpoint-services",),
    )  # fmt: skip
    assert rules[1] in taken_rules(hop)


def test_the_choice_decides_and_not_the_masquerade_after_it() -> None:
    masquerade = "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"
    assert deciding(("-A KUBE-SERVICES -j KUBE-SVC-A", SVC, SEP, masquerade)) == 1
    assert deciding(("-A KUBE-SERVICES -d 10.96.1.1/32 -j REJECT", masquerade)) == 0
    assert deciding(("services: x vmap @service-ips", "masquerading: masquerade fully-random")) == 0


async def test_d_goes_from_one_deciding_rule_to_the_next() -> None:
    lab = HeldLab(open_what(["overview"]).spec)
    app = KflabApp(lab, glyphs="unicode")
    async with app.run_test(size=(120, 40)) as pilot:
        stage = Stage(app, pilot, lab)
        await stage.press("colon", *("space" if key == " " else key for key in "mode nftables"), "enter", "escape")
        await stage.until(6, 500_000_000)
        await stage.press("3", "up", "enter", "i", "d")
        assert "hop 3 decided at line " in next(line for line in stage.lines() if "Rules node-a" in line)
        first = next(line for line in stage.lines() if line.rstrip().endswith("decided hop 3"))
        assert first.startswith("┃")
        await stage.press("d")
        assert any("decided hop 5" in line for line in stage.lines())
        assert any("numgen random mod 3 vmap" in line for line in stage.lines())
        await stage.press("D")
        assert any("decided hop 3" in line for line in stage.lines())
        assert any("d next decision" in line for line in stage.lines()[-1:])
