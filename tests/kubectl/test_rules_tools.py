"""A node's rules on the command line, in every mode: the tool that has them prints them, another one says which has."""

import pytest

from kflab.errors import KflabError
from kflab.kubectl.commands import IptablesSave
from kflab.kubectl.complete import completions
from kflab.kubectl.parse import parse_words
from kflab.lab.commands import Run, SetMode
from kflab.lab.running import Lab
from kflab.scenario.format import load

STARTS = {
    "iptables": {"iptables-save": "*mangle"},
    "nftables": {"nft list ruleset": "table ip kube-proxy {"},
    "ipvs": {"ipvsadm -Sn": "-A -t ", "ipset save": "create KUBE-LOOP-BACK", "iptables-save": "*filter"},
}


@pytest.mark.parametrize("mode", STARTS)
def test_the_modes_own_tools_print_its_rules(mode: str) -> None:
    lab = Lab(load("overview").spec)
    if mode != "iptables":
        assert lab.do(SetMode(mode)).ok
        lab.advance(6_000_000_000)
    for tool in ("iptables-save", "nft list ruleset", "ipvsadm -Sn", "ipset save"):
        line = f"{tool} --node node-a"
        result = lab.do(Run(line))
        assert result.ok
        if tool in STARTS[mode]:
            assert next(row for row in result.text.splitlines() if row[:1] != "#").startswith(STARTS[mode][tool])
            assert lab.do(Run(f"ssh node-a sudo {tool}")).text == result.text
        else:
            first = next(iter(STARTS[mode]))
            assert result.text == f"# no rules of kube-proxy here: on node-a `{first}` prints them\n"


def test_without_rules_every_tool_says_so() -> None:
    lab = Lab(load("overview").spec)
    assert lab.do(SetMode("nftables")).ok
    while not lab.rules_text("node-a").startswith("# no rules"):
        lab.advance(lab.t_ns + 50_000_000)
    for tool in ("iptables-save", "nft list ruleset"):
        assert lab.do(Run(f"{tool} --node node-a")).text.startswith("# no rules: kube-proxy started at ")


@pytest.mark.parametrize("line", ["nft", "nft list tables", "ipvsadm -C", "ipset destroy", "ipvsadm --node"])
def test_other_uses_of_the_tools_are_refused(line: str) -> None:
    with pytest.raises(KflabError, match="only `"):
        parse_words(line.split())


def test_ways_to_write_them() -> None:
    assert parse_words(["ipvsadm", "-S", "-n"]) == IptablesSave("", tool="ipvsadm -Sn")
    assert parse_words("ssh root@node-b nft list ruleset".split()) == IptablesSave("node-b", tool="nft list ruleset")
    lab = Lab(load("overview").spec)
    assert completions("nft ", lab.store) == ("nft list ruleset",)
    assert completions("ipset s", lab.store) == ("ipset save",)
