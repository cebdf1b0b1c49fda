"""Drift of a node in nftables mode: its `nft list ruleset` against what manifests imply."""

import contextlib
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dataplane"))

from test_drift import PLAIN
from test_iptables import rule_sets, rules_on
from test_nft_dump import as_nft_json, steady
from test_nftables_kernel import every_kind, nft
from test_nftables_random import nft_of

from kflab.cli import main
from kflab.dataplane.dump_read import read_rules
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.nft_dump import Listing
from kflab.dataplane.nftables import NftRuleSet
from kflab.errors import KflabError
from kflab.proof.drift import Compared, compare_listing


def compared(rules: NftRuleSet, text: str) -> Compared:
    listing = read_rules(text, "node.nft")
    assert isinstance(listing, Listing)
    return compare_listing(rules, listing)


def said(found: Compared) -> list[str]:
    return [item.text for item in found.differences]


def once(pattern: str, replacement: str, text: str) -> str:
    """Replace one thing that is there."""
    changed, n = re.subn(pattern, replacement, text, count=1, flags=re.DOTALL)
    assert n == 1
    return changed


@pytest.fixture(name="rules")
def _rules() -> NftRuleSet:
    return nft_of(rules_on("node-a"))


@pytest.fixture(name="text")
def _text(rules: NftRuleSet) -> str:
    return rules.save_text()


class TestFindings:
    @pytest.mark.parametrize("as_json", [False, True])
    def test_own_text_has_no_drift(self, rules: NftRuleSet, text: str, as_json: bool) -> None:
        found = compared(rules, as_nft_json(text) if as_json else text)
        assert (said(found), found.notes, found.n_ports, found.n_endpoints) == ([], (), 4, 6)

    def test_a_missing_endpoint(self, rules: NftRuleSet, text: str) -> None:
        fewer = once(
            r"numgen random mod 3 vmap \{ (0 : goto \S+25/8080), 1 : goto \S+, 2 : goto (\S+) \}",
            r"numgen random mod 2 vmap { \1, 1 : goto \2 }",
            text,
        )
        (found,) = compared(rules, fewer).differences
        assert found.text == "default/product-service (TCP): this node is 1 endpoint behind: it lacks 10.244.2.26:8080"
        assert found.behind == 1
        assert fewer.splitlines()[found.line - 1].startswith("\tchain service-")

    def test_an_endpoint_that_moved(self, rules: NftRuleSet, text: str) -> None:
        assert said(compared(rules, text.replace("dnat to 10.244.2.26:8080", "dnat to 10.244.2.99:8080"))) == [
            "default/product-service (TCP): this node is 1 endpoint behind: it lacks 10.244.2.26:8080",
            "default/product-service (TCP): 1 endpoint that the manifests do not imply: 10.244.2.99:8080",
        ]

    def test_missing_and_extra_service_ports(self, rules: NftRuleSet, text: str) -> None:
        missing = once(r"10\.96\.100\.50 \. tcp \. 80 : goto [^\n,}]+,?\s*", "", text)
        assert said(compared(rules, missing.replace(", }", " }"))) == [
            "Service port default/product-service (TCP) is missing, with 3 endpoints: cluster IP 10.96.100.50:80"
        ]
        fewer = NftRuleSet(
            rules.facts, rules.config, {key: item for key, item in rules.services.items() if key.name != "kube-dns"}
        )
        assert said(compared(fewer, text)) == [
            "Service port kube-system/kube-dns:dns (UDP) is not in the manifests: cluster IP 10.96.0.10:53, 1 endpoint",
            "Service port kube-system/kube-dns:dns-tcp (TCP) is not in the manifests: cluster IP 10.96.0.10:53, "
            "0 endpoints",
        ]

    def test_nothing_at_all(self, rules: NftRuleSet) -> None:
        found = compared(rules, "table ip filter {\n}\n")
        assert "another mode than nftables" in said(found)[0]
        assert found.differences[0].behind == 6

    def test_masquerade(self, rules: NftRuleSet, text: str) -> None:
        (first, *_) = said(compared(rules, text.replace("ip saddr != 10.244.0.0/16", "ip saddr != 10.0.0.0/8")))
        assert 'masquerade is for "ip saddr != 10.0.0.0/8" here, for "ip saddr != 10.244.0.0/16" by the' in first
        (bit,) = said(compared(rules, text.replace("\t\tmeta mark set meta mark | 0x00004000\n", "")))
        assert bit == "masquerade: mark-for-masquerade has no rule; expected meta mark set meta mark | 0x00004000"

    def test_a_jump_that_is_gone(self, rules: NftRuleSet, text: str) -> None:
        gone = once(r"(chain nat-output \{.*?accept;\n)\t\tjump services\n", r"\1", text)
        assert said(compared(rules, gone)) == ["ip kube-proxy: nothing jumps to services at hook output (type nat)"]

    def test_a_strange_rule_inside_kube_proxys_chain(self, rules: NftRuleSet, text: str) -> None:
        strange = once(r"(chain service-\S+product-service/tcp/ \{\n)", r"\1\t\tip saddr 192.0.2.0/24 return\n", text)
        (found,) = compared(rules, strange).differences
        assert found.text.startswith("not kube-proxy's form inside its own chain: ip kube-proxy service-")
        assert found.text.endswith("ip saddr 192.0.2.0/24 return")
        assert "192.0.2.0/24" in strange.splitlines()[found.line - 1]

    def test_uneven_shares(self, rules: NftRuleSet, text: str) -> None:
        uneven = once(r"mod 3 vmap \{ 0 : goto (\S+),", r"mod 4 vmap { 3 : goto \1, 0 : goto \1,", text)
        (found,) = said(compared(rules, uneven))
        assert "ClusterIP traffic is shared otherwise" in found
        assert "gets 0.500, not 1/3 (and 2 more)" in found

    def test_policies(self) -> None:
        (found,) = said(compared(nft_of(rules_on("node-b")), nft_of(rules_on("node-a")).save_text()))[:1]
        assert "outside traffic reaches 10.244.1.10:443, 10.244.1.11:443, which the manifests do not imply" in found

    @pytest.mark.parametrize("family", ["IPv4", "IPv6"])
    def test_affinity_and_source_ranges(self, family: str) -> None:
        rules = every_kind(family)
        text = rules.save_text()
        assert said(compared(rules, text)) == []
        other = said(compared(rules, text.replace("timeout 1h1m1s", "timeout 3h")))
        assert "session affinity is 10800 s here, 3661 s by the manifests" in other[0]
        one = "2001:dba::/32" if family == "IPv6" else "203.0.113.0/24"
        wide = said(compared(rules, text.replace(f", {one}", "")))
        assert any("load balancer source ranges are" in item and one in item for item in wide)

    def test_addresses_that_serve_node_ports(self, rules: NftRuleSet, text: str) -> None:
        other = once(r"elements = \{ 10\.0\.1\.50 \}", "elements = { 10.0.1.99 }", text)
        assert said(compared(rules, other)) == ["set nodeport-ips has 10.0.1.99; expected 10.0.1.50"]


class TestForeignRules:
    @staticmethod
    def foreign(kind: str, hook: str, priority: str, rule: str, policy: str = "accept") -> str:
        head = f"type {kind} hook {hook} priority {priority}; policy {policy};"
        return f"table inet other {{\n\tchain c {{\n\t\t{head}\n\t\t{rule}\n\t}}\n}}\n"

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            (("nat", "prerouting", "dstnat - 5", "tcp dport 30443 redirect to :81"), "10.0.1.50:81"),
            (("filter", "forward", "filter", "ip daddr 10.244.2.0/24 drop"), "where kube-proxy's rules alone: reaches"),
            (("nat", "postrouting", "srcnat - 5", "ip daddr 10.244.0.0/16 masquerade"), "masqueraded"),
        ],
    )
    def test_are_named_where_they_change_the_answer(
        self, rules: NftRuleSet, text: str, table: tuple[str, str, str, str], words: str
    ) -> None:
        whole = text + self.foreign(*table)
        (found,) = compared(rules, whole).differences
        assert f"inet other c: {table[3]} changes the answer" in found.text
        assert words in found.text
        assert whole.splitlines()[found.line - 1].strip() == table[3]

    def test_that_change_nothing_are_no_drift(self, rules: NftRuleSet, text: str) -> None:
        quiet = self.foreign("filter", "forward", "filter", "ip saddr 192.0.2.0/24 drop")
        assert said(compared(rules, text + quiet)) == []

    def test_undecided_ones_are_noted(self, rules: NftRuleSet, text: str) -> None:
        found = compared(rules, text + self.foreign("filter", "forward", "filter", "limit rate 3/minute drop"))
        assert said(found) == []
        assert "undecided rules may change answers: node.nft:" in found.notes[0]
        assert "limit rate 3/minute" in found.notes[0]

    def test_a_policy(self, rules: NftRuleSet, text: str) -> None:
        closed = self.foreign("filter", "forward", "filter", "udp dport 53 accept", policy="drop")
        assert any("policy drop of inet other c" in item for item in said(compared(rules, text + closed)))


class TestRandomClusters:
    @steady
    @given(rule_sets())
    def test_own_text_never_drifts(self, iptables: RuleSet) -> None:
        rules = nft_of(iptables)
        assert said(compared(rules, rules.save_text())) == []

    @steady
    @given(rule_sets(), st.data())
    def test_a_lost_or_invented_endpoint_is_found(self, iptables: RuleSet, data: st.DataObject) -> None:
        rules = nft_of(iptables)
        text = rules.save_text()
        targets = sorted(set(re.findall(r"dnat to (\S+)", text)))
        if not targets:
            return
        target = data.draw(st.sampled_from(targets))
        six = target.startswith("[")
        moved = compared(
            rules, text.replace(f"dnat to {target}\n", f"dnat to {'[fd99::1]' if six else '10.9.9.9'}:99\n")
        )
        assert sum(item.ahead for item in moved.differences) >= 1
        assert sum(item.behind for item in moved.differences) >= 1

    @steady
    @given(st.integers(0, 10**6), st.integers(0, 60), st.text(max_size=6), st.integers(0, 10**6), st.integers(0, 10**6))
    def test_a_damaged_dump_is_compared_or_told(self, start: int, length: int, put: str, one: int, other: int) -> None:
        rules = nft_of(rules_on("node-a"))
        lines = rules.save_text().splitlines()
        one, other = one % len(lines), other % len(lines)
        lines[one], lines[other] = lines[other], lines[one]
        text = "\n".join(lines)
        start %= len(text)
        with contextlib.suppress(KflabError):
            compared(rules, "table" + (text[:start] + put + text[start + length :]).removeprefix("table"))


class TestTheKernelsDump:
    @pytest.mark.parametrize("form", ["nft -j list ruleset", "nft list ruleset"])
    @pytest.mark.parametrize("family", ["IPv4", "IPv6"])
    def test_has_no_drift_and_one_removed_endpoint_is_found(self, family: str, form: str) -> None:
        rules = every_kind(family)
        text = rules.save_text()
        assert said(compared(rules, nft(f"nft -f - && {form}", text))) == []
        gone = re.search(r"mod 37 vmap \{ 0 : goto (\S+),", text)
        assert gone is not None
        address = re.search(rf"chain {re.escape(gone[1])} .*?dnat to (\S+)", text, re.DOTALL)
        assert address is not None
        fewer = text.replace("mod 37 vmap", "mod 36 vmap").replace(f" 0 : goto {gone[1]},", "", 1)
        numbered = re.sub(
            r"(mod 36 vmap \{)(.*?)(\})",
            lambda found: (
                found[1] + re.sub(r"(\d+) : goto", lambda item: f"{int(item[1]) - 1} : goto", found[2]) + found[3]
            ),
            fewer,
        )
        found = compared(rules, nft(f"nft -f - && {form}", numbered))
        assert any(f"ClusterIP traffic does not reach {address[1]}" in item for item in said(found)) or any(
            f"it lacks {address[1]}" in item for item in said(found)
        )
        assert sum(item.behind for item in found.differences) >= 1


class TestCommand:
    MODE = "---\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n"

    def run(self, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
        code = main(["drift", *words])
        done = capsys.readouterr()
        return code, done.out + done.err

    @pytest.fixture
    def files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
        manifests, dump = tmp_path / "web.yaml", tmp_path / "n1.nft"
        manifests.write_text(PLAIN + self.MODE)
        assert main(["rules", "-f", str(manifests), "--node", "n1"]) == 0
        dump.write_text(capsys.readouterr().out)
        return manifests, dump

    @pytest.mark.parametrize("config", ["", MODE])
    def test_no_drift(self, files: tuple[Path, Path], config: str, capsys: pytest.CaptureFixture[str]) -> None:
        manifests, dump = files
        manifests.write_text(PLAIN + config)
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert (code, out.startswith("n1: no drift: ")) == (0, True), out

    def test_addresses_that_kflab_made_up_are_not_held_against_the_node(
        self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifests, dump = files
        real = re.sub(r"10\.244\.(\d+)\.(\d+)(?=[:/ ]\d|\t|\n|\s)", r"172.20.\1.\2", dump.read_text())
        dump.write_text(real.replace("10.96.", "10.43."))
        assert self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")[0] == 0
        manifests.write_text(PLAIN.replace("replicas: 3", "replicas: 5") + self.MODE)
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert code == 1
        assert "default/web (TCP): this node is 2 endpoints behind: 3 here, 5 by the manifests" in out
        assert re.match(rf"{re.escape(str(dump))}:\d+:\d+: ", out)

    def test_changed_manifests_show(self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        manifests, dump = files
        changed = PLAIN.replace("  sessionAffinity: ClientIP\n", "  internalTrafficPolicy: Local\n")
        manifests.write_text(changed + self.MODE)
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert code == 1
        assert "internalTrafficPolicy is Cluster here, Local in the manifests" in out
        assert "session affinity is 10800 s here, off by the manifests" in out

    def test_a_dump_of_the_other_mode_is_refused(
        self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifests, dump = files
        manifests.write_text(PLAIN + self.MODE.replace("nftables", "iptables"))
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert code == 2
        assert "mode iptables: give the node's iptables-save" in out
        assert out.count("\n") == 1
