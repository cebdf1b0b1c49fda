"""nftables mode on random clusters: index and scan, walk and fan, and what differs from iptables mode."""

from hypothesis import assume, given
from hypothesis import strategies as st
from test_iptables import draws, packets, relaxed, rule_sets

from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.modes_differ import Expected, difference
from kflab.dataplane.nftables import NftRuleSet, NftScan
from kflab.dataplane.nftables_walk import nft_fan, nft_walk
from kflab.dataplane.packets import Packet, Verdict, join_host_port
from kflab.dataplane.walk import FanOut, fan


def nft_of(rules: RuleSet) -> NftRuleSet:
    return NftRuleSet(rules.facts, rules.config, rules.services, rules.family)


def told(found: FanOut) -> Expected:
    endpoints = tuple(sorted(join_host_port(item.address, item.port) for item in found.endpoints))
    return Expected(found.verdict, endpoints, found.masquerade)


@relaxed
@given(rule_sets(), st.lists(packets, min_size=4, max_size=8), draws)
def test_the_index_finds_what_a_scan_of_the_whole_table_finds(iptables: RuleSet, sent: list[Packet], draw: int) -> None:
    rules = nft_of(iptables)
    scan = NftScan(rules.table(), rules)
    for packet in sent:
        assert nft_fan(rules, packet) == nft_fan(scan, packet)
        assert nft_walk(rules, packet, draw) == nft_walk(scan, packet, draw)


@relaxed
@given(rule_sets(), packets)
def test_every_endpoint_is_drawn_by_exactly_its_share_of_all_draws(iptables: RuleSet, packet: Packet) -> None:
    rules = nft_of(iptables)
    may = nft_fan(rules, packet)
    n = len(may.endpoints)
    reached = [nft_walk(rules, packet, ((2 * i + 1) << 32) // (2 * n)) for i in range(n)]
    assert [(item.packet.dst, item.packet.dport, item.chance, item.masquerade) for item in reached] == [
        (item.address, item.port, item.chance, item.masquerade) for item in may.endpoints
    ]
    assert sum(item.chance for item in may.endpoints) == (may.verdict is Verdict.DNAT)
    assert nft_walk(rules, packet, 0).verdict == may.verdict


@relaxed
@given(rule_sets(), st.lists(packets, min_size=4, max_size=12))
def test_it_answers_as_iptables_mode_but_where_it_is_said_to_differ(iptables: RuleSet, sent: list[Packet]) -> None:
    rules = nft_of(iptables)
    for packet in sent:
        # Of two Services with one address kube-proxy picks either, in any mode.
        assume(len(rules.services.at(packet.dst, packet.protocol, packet.dport)) < 2)
        differs = difference(rules, packet)
        found = told(nft_fan(rules, packet))
        same = told(fan(iptables, packet))
        assert found == (differs.expected if differs else same)
        assert differs is None or found != same


@relaxed
@given(rule_sets())
def test_text_and_data_are_one(iptables: RuleSet) -> None:
    rules = nft_of(iptables)
    assert rules.table().listed() == rules.save_text()
