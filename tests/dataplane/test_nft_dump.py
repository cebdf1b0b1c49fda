"""A real node's `nft list ruleset`, as JSON and as text: read and walked; what it cannot tell stays undecided."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from clusters import overview
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dump import NODE, by_dump, fate, fates, told
from test_iptables import packets, relaxed, rule_sets
from test_nftables_random import nft_of

from kflab.cli import main
from kflab.dataplane import dump_branch
from kflab.dataplane.dump_meeting import Known
from kflab.dataplane.dump_outcome import Exploration, Fate
from kflab.dataplane.dump_read import read_rules
from kflab.dataplane.dump_text import render_text, to_tree
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.nft_dump import Listing
from kflab.dataplane.nft_dump_print import rule_text
from kflab.dataplane.nft_dump_walk import explore_listing
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.nftables_walk import nft_fan
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.world import StaticWorld
from kflab.errors import KflabError

steady = settings(relaxed, derandomize=True)


def by_fan(rules: NftRuleSet, packet: Packet) -> tuple[object, ...]:
    """What kflab's own walker says of a packet, to be compared with `by_dump`."""
    may = nft_fan(rules, packet)
    if may.verdict is Verdict.DNAT:
        ends = {(item.address, item.port, item.masquerade): item.chance for item in may.endpoints}
        return tuple(sorted(ends.items()))
    return (may.verdict if may.verdict in (Verdict.DROP, Verdict.REJECT) else "passed",)


def read(text: str) -> Listing:
    found = read_rules(text, "node.nft")
    assert isinstance(found, Listing)
    return found


def base(*rules: str, kind: str = "filter", hook: str = "forward", prio: str = "filter", name: str = "c") -> str:
    """A base chain as nft prints it."""
    lines = "".join(f"\t\t{rule}\n" for rule in rules)
    return f"\tchain {name} {{\n\t\ttype {kind} hook {hook} priority {prio}; policy accept;\n{lines}\t}}\n"


def table(*blocks: str, family: str = "inet", name: str = "t") -> str:
    return f"table {family} {name} {{\n{''.join(blocks)}}}\n"


SETS = """\tset pods {
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = { 10.244.1.0/24, 10.250.0.1-10.250.0.9 comment "some, with { odd } words" }
\t}
\tset ports {
\t\ttype ipv4_addr . inet_service
\t\tflags interval
\t\telements = { 10.244.2.0/24 . 80-90,
\t\t\t     10.9.9.9 . 443 }
\t}
\tmap ends {
\t\ttype inet_service : verdict
\t\telements = { 80 : drop, 81 : accept }
\t}
\tchain own {
\t\tdrop
\t}
"""


def walked(
    text: str, src: str = "10.244.1.9", dst: str = "10.244.2.7", port: int = 80, known: Known = NODE
) -> Exploration:
    return explore_listing(read(text), Packet(src, 40000, dst, port), known)


class TestReading:
    @pytest.mark.parametrize("node", ["node-a", "node-b"])
    def test_kflabs_own_text_is_understood_to_the_last_word(self, node: str) -> None:
        rules = StaticWorld.of(overview()).rules[node]
        text = NftRuleSet(rules.facts, rules.config, rules.services).save_text()
        lines = text.split("\n")
        listing = read(text)
        seen = 0
        for chain in listing.tables["ip", "kube-proxy"].chains.values():
            for rule in chain.rules:
                assert rule_text(rule.parts, rule.comment) == lines[rule.line - 1][rule.column - 1 :]
                seen += 1
        assert seen > 30

    @pytest.mark.parametrize(
        ("text", "place", "said"),
        [
            ('{"nftables": []}', "1:1", "no tables in it"),
            ("{", "1:2", "expected '\"nftables\"'"),
            ('{"nftables": [\n {"table": {"family": "ip"}}]}', "2:12", 'expected a text as "name"'),
            ('{"nftables": [\n {"table": {"family": "ipx", "name": "a"}}]}', "2:23", "expected a family"),
            ('{"nftables": [{"table": {"family": "ip", "name": 5}}]}', "1:50", 'expected a text as "name"'),
            ('{"nftables": [{"rule": {"family": "ip", "table": "a"}}]}', "1:50", "table ip a is not declared"),
            ('{"nftables": [{"table": {"family": "ip", "name": "a"', "1:53", "no JSON"),
            ('{"nftables": [{"table": {"family": "ip", "name": "a", "handle": NaN}}]}', "1:15", "no JSON"),
            ('{"nftables": [' + "[" * 100_000, "1:15", "nested too deeply"),
            ('{"nftables": [' + "9" * 10_000 + "]}", "1:15", "no JSON that nft writes"),
            ('{"nftables": [7]}', "1:15", "expected an object"),
            ('{"nftables": []} {}', "1:18", "follows the end"),
            ("table ip a {\n\tchain c {\n", "3:1", "ends inside chain c"),
            ("table ip a {\n\tfrobnicate\n}\n", "2:2", "expected a chain, set or map"),
            ("table ip a {\n}\ntable ip a {\n}\n", "3:10", "second time"),
            ("table ip a {\n\tset s {\n\t\telements = { 1, 2 3 }\n\t}\n}\n", "3:21", "among the elements of s"),
            ("table ip a {\n\tmap s {\n\t\telements = { 1 }\n\t}\n}\n", "3:18", "among the elements of s"),
            ("table ip a {\n\tchain c {\n\t\ttype filter hook input priority soon;\n\t}\n}\n", "3:35", "a priority"),
        ],
    )
    def test_what_is_no_dump_is_told_with_its_place(self, text: str, place: str, said: str) -> None:
        with pytest.raises(KflabError) as caught:
            read_rules(text, "node.nft")
        assert str(caught.value).startswith(f"node.nft:{place}: ")
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_wrong_types_deep_inside_are_told_where_they_stand(self) -> None:
        rule = {"family": "ip", "table": "a", "chain": "c", "handle": 1, "expr": [{"accept": None}, 7]}
        head = '{"table": {"family": "ip", "name": "a"}}, {"chain": {"family": "ip", "table": "a", "name": "c"}}'
        text = f'{{"nftables": [{head},\n{json.dumps({"rule": rule})}]}}'
        with pytest.raises(KflabError) as caught:
            read_rules(text, "n")
        column = text.split("\n")[1].index("7]") + 1
        assert str(caught.value).startswith(f"n:2:{column}: expected a statement with one key")

    def test_every_rule_has_its_line_column_and_handle(self) -> None:
        text = table(base("ip saddr 10.244.1.9 drop # handle 7")).replace("inet t {", "inet t { # handle 1")
        found = walked(text)
        (step,) = found.outcomes()[0].path
        assert step.rule.position == {"line": 4, "column": 3, "handle": 7}
        assert step.text() == "c: ip saddr 10.244.1.9 drop # handle 7"
        assert "dropped at node.nft:4:3" in render_text(found, "x")
        assert to_tree(found)["cases"][0]["outcomes"][0]["decidedBy"]["handle"] == 7

    def test_iptables_saves_are_still_told_apart(self) -> None:
        assert not isinstance(read_rules("# Generated by x\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"), Listing)
        warned = "# Warning: table ip nat is managed by iptables-nft, do not touch!\n" + table()
        assert read(warned).remarks == ("Warning: table ip nat is managed by iptables-nft, do not touch!",)


class TestMatches:
    """Each match as the kernel judges the first packet of 10.244.1.9 → 10.244.2.7:80/TCP; the rule drops."""

    @pytest.mark.parametrize(
        "matches",
        [
            "ip saddr 10.244.0.0/16",
            "ip saddr != 10.0.0.0/16",
            "ip saddr { 192.0.2.1, 10.244.1.5-10.244.1.20 }",
            "ip saddr @pods",
            "ip daddr != @pods",
            "ip daddr . tcp dport @ports",
            "ip daddr . th dport { 10.244.2.7 . 80 }",
            "ip daddr & 255.255.0.0 == 10.244.0.0",
            "meta l4proto tcp",
            "meta l4proto { 6, 17 }",
            "meta l4proto != udp",
            "ip protocol tcp",
            "meta nfproto ipv4",
            "meta protocol { ip, ip6 }",
            "tcp dport 80",
            "th dport 1-1024",
            "tcp dport != { 22, 443-500 }",
            "tcp dport < 81",
            "tcp sport >= 1024",
            "tcp sport != 53",
            "tcp flags syn",
            "tcp flags syn / fin,syn,rst,ack",
            "tcp flags & (fin | syn | rst | ack) == syn",
            "tcp flags != ack",
            "ct state new",
            "ct state related,new",
            "ct state { new, untracked }",
            "ct state != established",
            "ct direction original",
            "ct original ip daddr 10.244.2.7",
            "ct original proto-dst 80",
            "fib daddr type unicast",
            "fib saddr type != local",
            "fib daddr type != { local, multicast }",
            "meta mark & 0x00004000 == 0x00000000",
            "meta mark != 0x00000001",
            'iifname != "lo"',
            "ct mark 0x00000000",
            'counter packets 7 bytes 420 log prefix "x drop: " level info',
            "meta mark set 0x00000005 meta mark 0x00000005 ct mark set meta mark ct mark & 0x00000004 != 0x00000000",
            "notrack ct state untracked",
            'xt match "comment"',
        ],
    )
    def test_holds(self, matches: str) -> None:
        assert fate(walked(table(SETS, base(f"{matches} drop")))) is Fate.DROPPED

    @pytest.mark.parametrize(
        "matches",
        [
            "ip saddr 10.0.0.0/16",
            "ip saddr 10.250.0.1-10.250.0.9",
            "ip daddr @pods",
            "ip daddr . tcp dport { 10.244.2.7 . 81 }",
            "ip6 saddr fe80::/10",
            "ip6 saddr != fe80::/10",
            "udp dport 80",
            "udp dport != 53",
            "icmp type echo-request",
            "meta nfproto ipv6",
            "tcp sport < 1024",
            "tcp flags ack",
            "tcp flags ack / syn,ack",
            "ct state established,related",
            "ct state invalid",
            "ct status dnat",
            "ct status assured",
            "fib saddr type local",
            "meta mark & 0x00004000 != 0x00000000",
            'oifname "lo"',
            "notrack ct mark 0x00000000",
            "numgen random mod 10 > 9",
        ],
    )
    def test_does_not_hold(self, matches: str) -> None:
        assert fate(walked(table(SETS, base(f"{matches} drop")))) is Fate.PASSED

    @pytest.mark.parametrize(
        "matches",
        [
            "limit rate 3/minute",
            "limit rate over 10 kbytes/second",
            "quota over 25 mbytes",
            "ct count over 10",
            'iifname "eth0"',
            'oifname { "cali*", "eth0" }',
            "meta skuid 1000",
            "ip length > 100",
            "ip dscp cs1",
            "fib saddr . iif oif missing",
            "fib daddr type broadcast",
            "ct status confirmed",
            "tcp sport 40000-50000",
            "tcp dport http",
            "ct state 0x2,0x8",
            "tcp flags 2 / 23",
            "jhash ip saddr mod 2 0",
            "ip saddr @elsewhere",
            "@th,16,16 80",
            "update @pods { ip saddr limit rate 3/minute }",
            'xt match "u32"',
            "meta mark set jhash ip saddr mod 8 meta mark 0x00000003",
            "socket transparent 1",
        ],
    )
    def test_is_undecided_and_named(self, matches: str) -> None:
        found = walked(table(SETS, base(f"{matches} drop")))
        assert sorted(fates(found)) == sorted([((True,), Fate.DROPPED), ((False,), Fate.PASSED)])
        (question,) = found.questions
        assert question.what.removeprefix("match ").rstrip("}").split()[-1].strip('"') in matches

    def test_words_nobody_knows_leave_both_ways_open(self) -> None:
        found = walked(table(base("frobnicate deeply drop", "drop")))
        assert fates(found) == [((True,), Fate.UNKNOWN), ((False,), Fate.DROPPED)]
        assert "frobnicate deeply drop" in found.questions[0].what

    def test_an_interface_that_is_given_decides(self) -> None:
        known = Known("n", (), in_interface="cali7", out_interface="eth0")
        assert fate(walked(table(base('iifname "cali*" oifname "eth0" drop')), known=known)) is Fate.DROPPED
        assert fate(walked(table(base('iifname { "docker0", "lo" } drop')), known=known)) is Fate.PASSED

    def test_numgen_shares_are_exact(self) -> None:
        found = walked(table(base("numgen random mod 100 < 30 drop")))
        assert {item.fate: item.chance for item in found.outcomes()} == {
            Fate.DROPPED: Fraction(3, 10),
            Fate.PASSED: Fraction(7, 10),
        }


class TestWalking:
    def test_the_same_undecided_match_is_assumed_once(self) -> None:
        rules = ("ip saddr != @gone meta mark set 0x8", "ip saddr @gone accept", "meta mark 0x8 drop")
        found = walked(table(base(*rules)))
        assert fates(found) == [((True,), Fate.DROPPED), ((False,), Fate.PASSED)]
        assert "undecided at rule node.nft:4:3: match ip saddr != @gone" in render_text(found, "x")

    def test_undecided_rules_that_change_nothing_are_not_asked(self) -> None:
        idle = "\tchain idle {\n\t\tlimit rate 1/second log\n\t\treturn\n\t}\n"
        rules = (
            "ip saddr @a log",
            "limit rate 5/second counter",
            "ip saddr @b jump idle",
            "ip saddr @c",
            "ip saddr @d add @e { ip saddr }",
            'xt match "u32" counter packets 0 bytes 0 xt target "LOG"',
        )
        assert fate(walked(table(idle, base(*rules)))) is Fate.PASSED

    def test_an_accept_ends_its_own_base_chain_only_and_a_drop_is_final(self) -> None:
        first = base("accept", "drop", prio="filter - 5", name="first")
        found = walked(table(first) + table(base("drop"), name="u"))
        assert fate(found) is Fate.DROPPED
        assert [step.rule.position["line"] for step in found.outcomes()[0].path] == [4, 11]
        assert fate(walked(table(first))) is Fate.PASSED

    def test_of_two_chains_of_one_priority_the_later_runs_first_and_it_is_said(self) -> None:
        one = table(base("meta mark 0x1 drop"), name="one")
        other = table(base("meta mark set 0x1"), name="other")
        found = walked(one + other)
        assert fate(found) is Fate.DROPPED
        assert "inet other c and inet one c have one priority" in found.notes[0]
        assert fate(walked(other + one)) is Fate.PASSED

    def test_nat_runs_at_its_own_hook_priority_whatever_its_chains_name(self) -> None:
        nat = base("dnat ip to 10.9.9.9:99", kind="nat", hook="prerouting", prio="dstnat + 10", name="nat")
        early = base("tcp dport 80 counter packets 0 bytes 0", "tcp dport 99 drop", hook="prerouting", prio="-95")
        assert fate(walked(table(nat, early))) is Fate.DROPPED
        earlier = base("tcp dport 99 drop", hook="prerouting", prio="-105")
        assert fate(walked(table(nat, earlier))) is Fate.PASSED

    def test_the_first_nat_chain_that_rewrites_ends_nat_and_an_accept_does_not(self) -> None:
        chains = [
            base("accept", kind="nat", hook="prerouting", prio="dstnat", name="a"),
            base("tcp dport 80 dnat ip to 10.9.9.9:99", kind="nat", hook="prerouting", prio="dstnat + 1", name="b"),
            base("dnat ip to 10.8.8.8", kind="nat", hook="prerouting", prio="dstnat + 2", name="c"),
        ]
        assert walked(table(*chains)).outcomes()[0].packet.destination == "10.9.9.9:99"

    def test_goto_returns_past_its_caller_and_a_policy_drops(self) -> None:
        own = "\tchain a {\n\t\tgoto b\n\t\tdrop\n\t}\n\tchain b {\n\t\tip saddr 192.0.2.1 accept\n\t}\n"
        assert fate(walked(table(own, base("jump a", "reject")))) is Fate.REFUSED
        closed = table(own, base("goto b", "accept").replace("policy accept", "policy drop"))
        found = walked(closed)
        assert fate(found) is Fate.DROPPED
        assert found.outcomes()[0].why == "policy drop of inet t c (node.nft:9:2)"

    def test_verdict_maps(self) -> None:
        assert fate(walked(table(SETS, base("tcp dport vmap @ends", "reject")))) is Fate.DROPPED
        assert fate(walked(table(SETS, base("tcp dport vmap @ends", "reject")), port=81)) is Fate.PASSED
        assert fate(walked(table(SETS, base("tcp dport vmap @ends", "reject")), port=82)) is Fate.REFUSED
        rest = "ct state vmap { established : accept, new : jump own }"
        assert fate(walked(table(SETS, base(rest, "accept")))) is Fate.DROPPED

    def test_a_verdict_map_by_interface_asks_element_by_element(self) -> None:
        found = walked(table(SETS, base('iifname vmap { "lo" : accept, "eth0" : drop, "eth1" : goto own }')))
        assert sorted(fates(found)) == [
            ((False, False), Fate.PASSED),
            ((False, True), Fate.DROPPED),
            ((True,), Fate.DROPPED),
        ]
        assert found.questions[0].what == 'match iifname "eth0"'

    @pytest.mark.parametrize(
        ("rule", "destination"),
        [
            ("dnat ip to 10.1.0.1", "10.1.0.1:80"),
            ("tcp dport 80 dnat ip to 10.1.0.1:8080", "10.1.0.1:8080"),
            ("dnat ip to tcp dport map { 80 : 10.1.0.2, 81 : 10.1.0.3 }", "10.1.0.2:80"),
            ("dnat ip to ip saddr . tcp dport map { 10.244.1.9 . 80 : 10.1.0.4 . 90 }", "10.1.0.4:90"),
            ("tcp dport 80 redirect to :15001", "10.0.1.50:15001"),
            ("dnat ip to tcp dport map { 81 : 10.1.0.3 }", "10.244.2.7:80"),
            ("dnat ip6 to fd00::1", "10.244.2.7:80"),
        ],
    )
    def test_destinations(self, rule: str, destination: str) -> None:
        outcome = walked(table(base(rule, kind="nat", hook="prerouting", prio="dstnat"))).outcomes()[0]
        assert (outcome.fate, outcome.packet.destination) == (Fate.PASSED, destination)

    def test_a_map_by_numgen_shares_destinations(self) -> None:
        rule = "dnat ip to numgen random mod 3 map { 0 : 10.1.0.1, 1 : 10.1.0.2, 2 : 10.1.0.1 }"
        found = walked(table(base(rule, kind="nat", hook="prerouting", prio="dstnat")))
        assert {item.packet.dst: item.chance for item in found.outcomes()} == {
            "10.1.0.1": Fraction(2, 3),
            "10.1.0.2": Fraction(1, 3),
        }

    @pytest.mark.parametrize(
        "rule", ["dnat ip to 10.1.0.1-10.1.0.9", "dnat ip to jhash ip saddr mod 2 map @x", 'xt target "DNAT"']
    )
    def test_a_destination_nobody_can_read_is_not_guessed(self, rule: str) -> None:
        found = walked(table(base(rule, kind="nat", hook="prerouting", prio="dstnat")))
        assert fate(found) is Fate.UNKNOWN

    @pytest.mark.parametrize(
        ("rule", "source"),
        [
            ("masquerade fully-random", "masquerade"),
            ('xt target "MASQUERADE"', "masquerade"),
            ("snat ip to 192.0.2.9", "192.0.2.9"),
        ],
    )
    def test_sources(self, rule: str, source: str) -> None:
        outcome = walked(table(base(rule, kind="nat", hook="postrouting", prio="srcnat"))).outcomes()[0]
        assert (outcome.fate, outcome.source) == (Fate.PASSED, source)

    def test_affinity_sets_are_taken_as_dumped(self) -> None:
        affinity = "\tset aff {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 3h\n"
        affinity += "\t\telements = { 10.244.1.9 timeout 3h expires 2h59m1s500ms }\n\t}\n"
        found = walked(table(affinity, base("ip saddr @aff drop")))
        assert fate(found) is Fate.DROPPED
        assert "as they were at the moment of the dump" in found.notes[0]
        assert fate(walked(table(affinity, base("ip saddr @aff drop")), src="10.244.1.8")) is Fate.PASSED

    def test_other_families_and_hooks_are_said_not_to_be_walked(self) -> None:
        listing = read(table(base("drop", hook="input"), family="bridge") + table(base("accept")))
        assert listing.remarks == ("not walked: bridge t c (hook input of family bridge)",)
        dormant = table("\tflags dormant\n", base("drop"))
        assert fate(walked(dormant)) is Fate.PASSED

    def test_tables_of_the_other_family_are_not_met(self) -> None:
        assert fate(walked(table(base("drop"), family="ip6"))) is Fate.PASSED
        assert fate(walked(table(base("drop"), family="ip6"), src="fd00::9", dst="fd00::7")) is Fate.DROPPED

    def test_chains_in_a_circle_are_told(self) -> None:
        own = "\tchain a {\n\t\tjump b\n\t}\n\tchain b {\n\t\tjump a\n\t}\n"
        with pytest.raises(KflabError, match="circle"):
            walked(table(own, base("jump a")))

    def test_rules_made_to_explode_are_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dump_branch, "MOST_SPLITS", 100)
        many = [f"ip saddr @s{i} meta mark set meta mark | {1 << i:#x}" for i in range(20)]
        found = walked(table(base(*many)))
        assert not found.complete


class TestSameAsTheRulesItWasPrintedFromByNft:
    @steady
    @given(rule_sets(), st.lists(packets, min_size=3, max_size=6))
    def test_random_clusters(self, iptables: RuleSet, sent: list[Packet]) -> None:
        rules = nft_of(iptables)
        listing = read(rules.save_text())
        known = Known("node-a", rules.facts.ips)
        for packet in sent:
            assert by_dump(explore_listing(listing, packet, known)) == by_fan(rules, packet)


WORDS = """table ip ip6 inet { } chain set map elements = type filter nat hook prerouting priority dstnat ; policy
accept drop , : . ip saddr daddr tcp dport meta mark ct state new vmap numgen random mod jhash seed fib type local @s @x
jump c goto dnat to masquerade redirect :80 10.0.0.1:80 10.0.0.0/8 1-5 limit rate 3/minute burst packets log prefix "a
comment "b" ( ) | & ^ == != < flags timeout 1h2s add update counter bytes reject with xt match target exists quota
""".split()
PIECES = st.sampled_from([*WORDS, "\n", "\n", "\t", "9" * 50, "\x00", "\u2028", "#", "# handle 5"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*WORDS, "expr", "right", "@s", "*"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                """match left right op vmap key data set concat payload protocol field meta ct numgen mod mode offset
            jhash prefix addr len range elem val mangle value dnat snat port family xt type name jump target & |
            map fib result flags limit stmt << redirect masquerade""".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class TestFuzz:
    SENT = Packet("10.0.0.9", 40000, "10.0.0.1", 80)

    def try_it(self, text: str) -> None:
        try:
            rules = read_rules(text, "x")
            if isinstance(rules, Listing):
                found = explore_listing(rules, self.SENT, NODE)
                render_text(found, "x")
                json.dumps(to_tree(found))
        except KflabError as error:
            if not told(error):
                raise

    @steady
    @given(st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=60).map(" ".join)))
    def test_any_text_is_read_or_told(self, text: str) -> None:
        self.try_it("table " + text)
        self.try_it("{" + text)

    @steady
    @given(st.lists(PIECES, max_size=14), st.lists(PIECES, max_size=8))
    def test_a_rule_of_any_words_is_walked(self, words: list[str], elements: list[str]) -> None:
        rule, inside = (" ".join(word for word in found if "\n" not in word) for found in (words, elements))
        self.try_it(table(SETS, base(rule, "drop", kind="nat", hook="prerouting")))
        self.try_it(table(f"\tmap s {{\n\t\telements = {{ {inside} }}\n\t}}\n", base("ip saddr vmap @s")))

    @steady
    @given(st.lists(VALUES, max_size=4), VALUES)
    def test_json_of_any_shape_is_walked_or_told(self, expr: list[object], element: object) -> None:
        own = {"family": "ip", "table": "a"}
        objects = [
            {"table": {"family": "ip", "name": "a"}},
            {"set": {**own, "name": "s", "elem": [element]}},
            {"map": {**own, "name": "x", "elem": [[element, element]]}},
            {"chain": {**own, "name": "c", "type": "nat", "hook": "prerouting", "prio": 0, "policy": "accept"}},
            {"rule": {**own, "chain": "c", "expr": expr}},
            {"rule": {**own, "chain": "c", "expr": [{"match": element}, {"vmap": {"key": element, "data": "@x"}}]}},
        ]
        self.try_it(json.dumps({"nftables": objects}))

    @steady
    @given(st.integers(0, 10**6), st.integers(0, 60), st.text(max_size=6), st.booleans())
    def test_a_damaged_dump_is_read_or_told(self, start: int, length: int, put: str, as_json: bool) -> None:
        rules = StaticWorld.of(overview()).rules["node-a"]
        text = NftRuleSet(rules.facts, rules.config, rules.services).save_text()
        if as_json:
            text = as_nft_json(text)
        start %= len(text)
        self.try_it(text[:start] + put + text[start + length :])
        self.try_it(text[:start])


def as_nft_json(text: str) -> str:
    """A text dump written as nft -j writes it."""
    objects: list[object] = []
    for (family, name), found in read(text).tables.items():
        own = {"family": family, "table": name}
        objects.append({"table": {"family": family, "name": name}})
        for chain in found.chains.values():
            hook = {"type": chain.type, "hook": chain.hook, "prio": chain.priority, "policy": chain.policy}
            objects.append({"chain": {**own, "name": chain.name, **(hook if chain.hook else {})}})
        for item in found.sets.values():
            keys = [
                {"elem": {"val": element.key, "comment": element.comment}} if element.comment else element.key
                for element in item.elements
            ]
            elements = [[key, element.data] for key, element in zip(keys, item.elements, strict=True)]
            more = {"timeout": item.timeout_s, "flags": ["timeout"]} if item.filled_by_packets else {}
            kind, elem = ("map", elements) if item.is_map else ("set", keys)
            objects.append({kind: {**own, "name": item.name, "elem": elem, **more}})
        for chain in found.chains.values():
            for rule in chain.rules:
                objects.append({"rule": {**own, "chain": chain.name, "expr": [dict([part]) for part in rule.parts]}})
    return json.dumps({"nftables": objects})


class TestCommand:
    @pytest.mark.parametrize("as_json", [False, True])
    def test_trace(self, as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rules = StaticWorld.of(overview()).rules["node-a"]
        text = NftRuleSet(rules.facts, rules.config, rules.services).save_text()
        path = tmp_path / "node-a"
        path.write_text(as_nft_json(text) if as_json else text, encoding="utf-8")
        words = ["trace", "10.96.100.50:80", "--from", "10.244.1.10", "--rules", str(path), "--node", "10.0.1.50"]
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "1/3  to 10.244.2.25:8080, source kept" in said
        assert f"{path}:" in said
        assert "ip kube-proxy  services: ip daddr . meta l4proto . th dport vmap @service-ips" in said
        assert main([*words, "-o", "json"]) == 0
        tree = json.loads(capsys.readouterr().out)
        assert {item["chance"] for item in tree["cases"][0]["outcomes"]} == {"1/3"}

    def test_bad_input_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "x.json"
        path.write_text('{"nftables": [{"rule": 3}]}')
        assert main(["trace", "10.0.0.1:80", "--from", "10.0.0.2", "--rules", str(path), "--node", "10.0.1.50"]) == 2
        said = capsys.readouterr().err
        assert f"{path}:1:24: expected an object as rule" in said
        assert said.count("\n") == 1
