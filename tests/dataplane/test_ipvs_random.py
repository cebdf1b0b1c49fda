"""IPVS mode on random clusters: index and scan, walk and fan, and what differs from iptables mode."""

from hypothesis import assume, given
from hypothesis import strategies as st
from test_iptables import draws, packets, relaxed, rule_sets
from test_nftables_random import told

from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.ipvs import IpvsRuleSet, IpvsScan
from kflab.dataplane.ipvs_schedulers import CHOOSER
from kflab.dataplane.ipvs_walk import ipvs_fan, ipvs_walk
from kflab.dataplane.modes_differ import difference
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.walk import fan

schedulers = st.sampled_from(sorted(CHOOSER))


def ipvs_of(rules: RuleSet, scheduler: str = "rr") -> IpvsRuleSet:
    return IpvsRuleSet(rules.facts, rules.config, rules.services, rules.family, scheduler)


@relaxed
@given(rule_sets(), st.lists(packets, min_size=4, max_size=8), draws, schedulers)
def test_the_index_finds_what_a_scan_of_everything_finds(
    iptables: RuleSet, sent: list[Packet], draw: int, scheduler: str
) -> None:
    rules = ipvs_of(iptables, scheduler)
    scan = IpvsScan(rules)
    for packet in sent:
        assert ipvs_fan(rules, packet) == ipvs_fan(scan, packet)
        assert ipvs_walk(rules, packet, draw) == ipvs_walk(scan, packet, draw)


@relaxed
@given(rule_sets(), packets, schedulers)
def test_every_server_is_drawn_by_exactly_its_share_of_all_draws(
    iptables: RuleSet, packet: Packet, scheduler: str
) -> None:
    rules = ipvs_of(iptables, scheduler)
    may = ipvs_fan(rules, packet)
    n = len(may.endpoints)
    reached = [ipvs_walk(rules, packet, ((2 * i + 1) << 32) // (2 * n)) for i in range(n)]
    assert [(item.packet.dst, item.packet.dport, item.chance, item.masquerade) for item in reached] == [
        (item.address, item.port, item.chance, item.masquerade) for item in may.endpoints
    ]
    assert sum(item.chance for item in may.endpoints) == (may.verdict is Verdict.DNAT)
    assert ipvs_walk(rules, packet, 0).verdict == may.verdict


@relaxed
@given(rule_sets(), st.lists(packets, min_size=4, max_size=12))
def test_it_answers_as_iptables_mode_but_where_it_is_said_to_differ(iptables: RuleSet, sent: list[Packet]) -> None:
    rules = ipvs_of(iptables)
    for packet in sent:
        # Of two Services with one address kube-proxy picks either, in any mode.
        assume(len(rules.services.at(packet.dst, packet.protocol, packet.dport)) < 2)
        differs = difference(rules, packet)
        found = told(ipvs_fan(rules, packet))
        same = told(fan(iptables, packet))
        assert found == (differs.expected if differs else same)
        assert differs is None or found != same
