"""What the real nft prints, of kube-proxy's rules and of others', is read and walked the same, as JSON and as text.

The rules are loaded in a network namespace without a name (`unshare -n`): it is gone when the command ends.
"""

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_dump import by_dump
from test_iptables import packets, rule_sets
from test_nft_dump import by_fan, steady
from test_nftables_kernel import every_kind, nft
from test_nftables_random import nft_of

from kflab.dataplane.dump_meeting import Known
from kflab.dataplane.dump_outcome import Fate
from kflab.dataplane.dump_read import read_rules
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.nft_dump import Listing
from kflab.dataplane.nft_dump_parse import UNREAD
from kflab.dataplane.nft_dump_print import rule_text
from kflab.dataplane.nft_dump_walk import explore_listing
from kflab.dataplane.packets import Packet

FORMS = ("nft -j list ruleset", "nft -a list ruleset", "nft list ruleset")

_BETWEEN = "# kflab: the next form"


def listed(text: str) -> list[Listing]:
    """The kernel's rules after `nft -f` took a text, in every form that nft prints."""
    script = "nft -f - && " + f" && echo '{_BETWEEN}' && ".join(FORMS)
    found = [read_rules(form, "x") for form in nft(script, text).split(f"{_BETWEEN}\n")]
    assert all(isinstance(item, Listing) for item in found)
    return [item for item in found if isinstance(item, Listing)]


@steady
@given(rule_sets(), st.lists(packets, min_size=8, max_size=16))
def test_the_kernels_dump_of_kube_proxys_rules_walks_as_they_were_written(
    iptables: RuleSet, sent: list[Packet]
) -> None:
    rules = nft_of(iptables)
    known = Known("node-a", rules.facts.ips)
    for listing in listed(rules.save_text()):
        for packet in sent:
            assert by_dump(explore_listing(listing, packet, known)) == by_fan(rules, packet)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_every_kind_of_rule_is_the_same_in_every_form(family: str) -> None:
    rules = every_kind(family)
    text = rules.save_text()
    (own,) = read_rules(text, "own").tables.values()  # type: ignore[union-attr]  # it is text of nft
    for listing in listed(text):
        (table,) = listing.tables.values()
        assert table.chains.keys() == own.chains.keys()
        for name, chain in table.chains.items():
            written = own.chains[name]
            assert (chain.type, chain.hook, chain.priority, chain.policy) == (
                written.type,
                written.hook,
                written.priority,
                written.policy,
            )
            assert [rule_text(rule.parts, rule.comment) for rule in chain.rules] == [
                rule_text(rule.parts, rule.comment) for rule in written.rules
            ]
        for name, found in table.sets.items():
            assert sorted(map(repr, found.elements)) == sorted(map(repr, own.sets[name].elements))
            assert (found.timeout_s, found.filled_by_packets) == (
                own.sets[name].timeout_s,
                own.sets[name].filled_by_packets,
            )


RULES = """
input ct state vmap { established : accept, related : accept, invalid : drop }
input ct state established,related accept
input ct status dnat accept
input ct state { new, untracked } counter
input iifname "lo" accept
input iifname { "eth0", "eth1" } accept
input oifname . iifname { "a" . "b" } accept
input iif lo accept
input iifname "eth*" accept
input ip saddr @bad drop
input ip6 saddr fe80::/10 accept
input tcp dport { 22, 80-90 } ct state new limit rate 3/minute burst 5 packets log prefix "in: " level info accept
input tcp flags & (fin | syn | rst | ack) == syn accept
input tcp flags syn accept
input tcp flags != syn drop
input meta nfproto ipv4 meta l4proto { tcp, udp } th dport 53 accept
input fib saddr . iif oif missing drop
input fib daddr type { local, broadcast } accept
input meta mark and 0xff != 0 drop
input meta mark { 1, 5-9 } accept
input meta mark set ct mark
input ct mark set meta mark and 0xffff00ff or 0x100
input meta mark set numgen random mod 4
input ip protocol icmp icmp type echo-request accept
input icmpv6 type { nd-neighbor-solicit, nd-router-advert } accept
input meta pkttype broadcast drop
input ip saddr 10.0.0.0/8 tcp dport != 22 reject with tcp reset
input counter reject with icmpx admin-prohibited
input add @dyn { ip saddr timeout 30s }
input tcp dport 25 update @dyn { ip saddr limit rate 3/minute }
input ct count over 10 drop
input ip saddr . tcp dport { 10.0.0.1 . 80, 10.0.0.0/24 . 90-100 } drop
input jhash ip saddr mod 2 vmap { 0 : accept, 1 : drop }
input jhash ip saddr . tcp sport mod 2 seed 0xdead vmap { 0 : accept, 1 : drop }
input tcp option maxseg size set rt mtu
input quota over 25 mbytes drop
input limit rate over 10 kbytes/second drop
input ct original ip daddr 10.0.0.1 accept
input meta skuid 1000 accept
input ip length > 100 drop
input ip daddr & 255.0.0.255 == 10.0.0.5 drop
input socket transparent 1 accept
input exthdr frag exists drop
input goto own
pre dnat ip to tcp dport map @ends
pre dnat ip to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
pre dnat ip to ip saddr . tcp dport map { 10.0.0.9 . 80 : 10.0.0.1 . 90 }
pre tcp dport 81 dnat ip to 10.0.0.1-10.0.0.3:80-90
pre tcp dport 80 redirect to :8080
pre redirect
pre tcp dport 82 dnat ip6 to [fd00::1]:80
post oifname != "docker0" masquerade random,persistent
post snat ip to 10.0.0.1
early udp dport 4789 notrack
early tcp dport 80 tproxy ip to 127.0.0.1:9000 accept
early numgen inc mod 10 < 3 accept
"""

SETUP = """
add table inet t
add chain inet t own
add set inet t bad { type ipv4_addr; flags interval; elements = { 10.1.0.0/16, 10.3.0.1-10.3.0.9 comment "x" }; }
add set inet t dyn { type ipv4_addr; flags dynamic,timeout; timeout 60s; }
add map inet t ends { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1, 90 : 10.0.0.2 }; }
add chain inet t input { type filter hook input priority filter; policy drop; }
add chain inet t pre { type nat hook prerouting priority dstnat; }
add chain inet t post { type nat hook postrouting priority srcnat; }
add chain inet t early { type filter hook prerouting priority raw; }
"""


def test_rules_of_others_are_understood_in_text_as_in_json() -> None:
    nft("true", "")  # skips where nft cannot be tried
    lines = [line for line in RULES.splitlines() if line]
    # One by one: a kernel may lack the module that a rule needs.
    rules = "\n".join(f"nft 'add rule inet t {line}' || echo lacking >&2" for line in lines)
    forms = f"\necho '{_BETWEEN}'\n".join(FORMS)
    script = f"nft -f - <<'END' || exit 1\n{SETUP}END\n{rules}\n{forms}\n"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("lacking\n") < len(lines) // 2, done.stderr
    as_json, with_handles, plain = (read_rules(form, "x") for form in done.stdout.split(f"{_BETWEEN}\n"))
    assert isinstance(as_json, Listing)
    assert isinstance(with_handles, Listing)
    assert isinstance(plain, Listing)
    seen = 0
    for name, chain in as_json.tables["inet", "t"].chains.items():
        for other in (with_handles, plain):
            written = other.tables["inet", "t"].chains[name]
            for rule, text in zip(chain.rules, written.rules, strict=True):
                assert rule.parts == text.parts
                assert rule_text(rule.parts) == text.source
                assert all(kind != UNREAD for kind, _ in text.parts)
                seen += 1
        assert [rule.handle for rule in chain.rules] == [
            rule.handle for rule in with_handles.tables["inet", "t"].chains[name].rules
        ]
    assert seen > len(lines)


def test_what_iptables_nft_leaves_is_named_and_undecided() -> None:
    nft("true", "")  # skips where nft cannot be tried
    if not shutil.which("iptables-nft") or os.geteuid() != 0:
        pytest.skip("needs root and iptables-nft")
    script = """iptables-nft -A FORWARD -m u32 --u32 "0x0>>0x18&0xf=0x5:0xf" -j DROP
    iptables-nft -A FORWARD -m comment --comment "fine" -j NFLOG
    iptables-nft -t nat -A POSTROUTING -s 10.244.0.0/16 ! -o docker0 -j MASQUERADE
    nft -j list ruleset"""
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode or "u32" not in done.stdout:
        pytest.skip("the kernel lacks what iptables-nft needs")
    listing = read_rules(done.stdout, "x")
    assert isinstance(listing, Listing)
    found = explore_listing(listing, Packet("192.0.2.1", 40000, "10.244.2.7", 80), Known("n"))
    assert [question.what for question in found.questions] == ['match xt match "u32"']
    assert [case.outcomes[0].fate for case in found.cases] == [Fate.DROPPED, Fate.PASSED]
    found = explore_listing(listing, Packet("10.244.1.9", 40000, "10.250.2.7", 80), Known("n", out_interface="eth0"))
    assert {outcome.source for outcome in found.outcomes() if outcome.fate is Fate.PASSED} == {"masquerade"}
