"""Drift: what a node has against what manifests imply."""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dataplane"))

from test_iptables import relaxed, rule_sets, rules_on

from kflab.cli import main
from kflab.dataplane.dump import read_dump
from kflab.dataplane.iptables import RuleSet
from kflab.errors import KflabError
from kflab.proof.drift import Compared, compare
from kflab.scenario.opening import open_what

FIRST = "-A KUBE-SERVICES -d 10.96.100.50/32"
"""How a rule of nat KUBE-SERVICES begins."""


def compared(rules: RuleSet, text: str) -> Compared:
    (dump,) = read_dump(text, "node.txt")
    return compare(rules, dump)


def said(found: Compared) -> list[str]:
    return [item.text for item in found.differences]


def without(text: str, *patterns: str) -> str:
    lines = (line for line in text.splitlines() if not any(re.search(pattern, line) for pattern in patterns))
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(name="rules")
def _rules() -> RuleSet:
    return rules_on("node-a")


@pytest.fixture(name="text")
def _text(rules: RuleSet) -> str:
    return rules.save_text()


class TestFindings:
    def test_own_text_has_no_drift(self, rules: RuleSet, text: str) -> None:
        found = compared(rules, text)
        assert (said(found), found.notes, found.n_ports, found.n_endpoints) == ([], (), 4, 6)

    def test_counters_and_order_are_no_drift(self, rules: RuleSet, text: str) -> None:
        counted = re.sub("^-A", "[1:60] -A", text, flags=re.M).replace("[0:0]", "[5:300]")
        assert said(compared(rules, counted)) == []

    def test_a_missing_endpoint(self, rules: RuleSet, text: str) -> None:
        chain = re.search(r"-A (KUBE-SEP-\w+) .*10.244.2.26:8080", text)
        assert chain is not None
        found = compared(rules, without(text, chain[1]))
        assert said(found) == [
            "default/product-service (TCP): this node is 1 endpoint behind: it lacks 10.244.2.26:8080"
        ]
        assert found.differences[0].behind == 1
        assert found.differences[0].line > 0

    def test_an_endpoint_too_many_and_one_that_moved(self, rules: RuleSet, text: str) -> None:
        moved = said(compared(rules, text.replace("10.244.2.26", "10.244.2.99")))
        assert moved == [
            "default/product-service (TCP): this node is 1 endpoint behind: it lacks 10.244.2.26:8080",
            "default/product-service (TCP): 1 endpoint that the manifests do not imply: 10.244.2.99:8080",
        ]

    def test_missing_and_extra_service_ports(self, rules: RuleSet, text: str) -> None:
        missing = compared(rules, without(text, "default/product-service"))
        assert said(missing) == [
            "Service port default/product-service (TCP) is missing, with 3 endpoints: cluster IP 10.96.100.50:80"
        ]
        rule = "-A KUBE-SERVICES -d 10.96.5.5/32 -p tcp -m comment --comment "
        rule += '"old/gone cluster IP" -m tcp --dport 80 -j KUBE-SVC-ZLCRCKR62E5AJDEK\n'
        extra = compared(rules, text.replace(FIRST, rule + FIRST, 1))
        assert said(extra) == [
            "Service port old/gone (TCP) is not in the manifests: cluster IP 10.96.5.5:80, 3 endpoints"
        ]

    def test_nothing_at_all(self, rules: RuleSet) -> None:
        found = compared(rules, "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n")
        assert "another mode than iptables" in said(found)[0]
        assert found.differences[0].behind == 6

    def test_masquerade(self, rules: RuleSet, text: str) -> None:
        (first, *_) = said(compared(rules, text.replace("! -s 10.244.0.0/16", "! -s 10.0.0.0/8")))
        assert 'masquerade is for "! -s 10.0.0.0/8" here, for "! -s 10.244.0.0/16" by the manifests' in first
        (bit,) = said(compared(rules, text.replace("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n", "")))
        assert bit.startswith("masquerade: KUBE-MARK-MASQ has no rule; expected -j MARK")
        assert said(compared(rules, text.replace(" --random-fully", ""))) == []

    def test_a_jump_that_is_gone(self, rules: RuleSet, text: str) -> None:
        found = said(compared(rules, without(text, "^-A PREROUTING")))
        assert found == ["nat PREROUTING does not jump to KUBE-SERVICES"]

    def test_a_strange_rule_inside_kube_proxys_chain(self, rules: RuleSet, text: str) -> None:
        strange = "-A KUBE-SERVICES -s 192.0.2.0/24 -j RETURN\n"
        found = said(compared(rules, text.replace(FIRST, strange + FIRST, 1)))
        assert found == [f"not kube-proxy's form inside its own chain: nat {strange.strip()}"]

    def test_uneven_shares(self, rules: RuleSet, text: str) -> None:
        (found,) = said(compared(rules, text.replace("0.33333333349", "0.90000000000")))
        assert "ClusterIP traffic is shared otherwise: 10.244.2.25:8080 gets 0.900, not 1/3 (and 2 more)" in found

    def test_policies(self) -> None:
        other = rules_on("node-b")
        (found,) = said(compared(other, rules_on("node-a").save_text()))
        assert "outside traffic reaches 10.244.1.10:443, 10.244.1.11:443, which the manifests do not imply" in found


class TestForeignRules:
    @pytest.mark.parametrize(
        ("before", "rule", "words"),
        [
            ("-A PREROUTING", "-A PREROUTING -p tcp -m tcp --dport 30443 -j REDIRECT --to-ports 81", "10.0.1.50:81"),
            ("-A FORWARD", "-A FORWARD -d 10.244.2.0/24 -j DROP", "dropped, where kube-proxy's rules alone: reaches"),
            ("-A POSTROUTING", "-A POSTROUTING -d 10.244.0.0/16 -j MASQUERADE", "masqueraded"),
        ],
    )
    def test_are_named_where_they_change_the_answer(
        self, rules: RuleSet, text: str, before: str, rule: str, words: str
    ) -> None:
        (found,) = compared(rules, text.replace(before, f"{rule}\n{before}", 1)).differences
        assert rule in found.text
        assert words in found.text
        assert text.splitlines()[found.line - 1].startswith(before)

    def test_that_change_nothing_are_no_drift(self, rules: RuleSet, text: str) -> None:
        quiet = "-A FORWARD -s 192.0.2.0/24 -j DROP\n-A FORWARD -j LOG\n"
        assert said(compared(rules, text.replace("-A FORWARD", quiet + "-A FORWARD", 1))) == []

    def test_undecided_ones_are_noted(self, rules: RuleSet, text: str) -> None:
        doubtful = "-A FORWARD -m set --match-set blocked src -j DROP\n"
        found = compared(rules, text.replace("-A FORWARD", doubtful + "-A FORWARD", 1))
        assert said(found) == []
        assert "undecided rules may change answers: node.txt:" in found.notes[0]
        assert "--match-set blocked src" in found.notes[0]

    def test_a_policy(self, rules: RuleSet, text: str) -> None:
        head, table, rest = text.partition("*filter\n")
        closed = head + table + rest.replace(":FORWARD ACCEPT", ":FORWARD DROP", 1)
        found = said(compared(rules, closed))
        assert any("policy DROP of filter FORWARD" in item for item in found)


class TestRandomClusters:
    @relaxed
    @given(rule_sets())
    def test_own_text_never_drifts(self, rules: RuleSet) -> None:
        assert said(compared(rules, rules.save_text())) == []

    @relaxed
    @given(rule_sets(), st.data())
    def test_a_lost_or_invented_endpoint_is_found(self, rules: RuleSet, data: st.DataObject) -> None:
        text = rules.save_text()
        used = {
            match
            for line in text.splitlines()
            if not re.match(r"-A KUBE-SEP-", line)
            for match in re.findall(r"-j (KUBE-SEP-\w+)", line)
        }
        if not used:
            return
        chain = data.draw(st.sampled_from(sorted(used)))
        lost = compared(rules, without(text, chain))
        assert lost.differences
        assert sum(item.behind for item in lost.differences) >= 1
        target = next(line for line in text.splitlines() if line.startswith(f"-A {chain} ") and "DNAT" in line)
        moved = compared(rules, text.replace(target, target.rpartition(" ")[0] + " 10.9.9.9:999"))
        assert sum(item.ahead for item in moved.differences) >= 1

    @relaxed
    @given(st.integers(0, 10**6), st.integers(0, 60), st.text(max_size=6), st.integers(0, 10**6), st.integers(0, 10**6))
    def test_a_damaged_dump_is_compared_or_told(self, start: int, length: int, put: str, one: int, other: int) -> None:
        rules = rules_on("node-a")
        lines = rules.save_text().splitlines()
        one, other = one % len(lines), other % len(lines)
        lines[one], lines[other] = lines[other], lines[one]
        text = "\n".join(lines)
        start %= len(text)
        with contextlib.suppress(KflabError):
            compared(rules, text[:start] + put + text[start + length :])


PLAIN = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: nginx, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.5.1}]}
"""


class TestCommand:
    def run(self, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
        code = main(["drift", *words])
        done = capsys.readouterr()
        return code, done.out + done.err

    @pytest.fixture
    def files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
        manifests, dump = tmp_path / "web.yaml", tmp_path / "n1.txt"
        manifests.write_text(PLAIN)
        assert main(["rules", "-f", str(manifests), "--node", "n1"]) == 0
        dump.write_text(capsys.readouterr().out)
        return manifests, dump

    def test_no_drift(self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        manifests, dump = files
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert (code, out.startswith("n1: no drift: ")) == (0, True), out

    def test_addresses_that_kflab_made_up_are_not_held_against_the_node(
        self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifests, dump = files
        text = dump.read_text()
        real = re.sub(r"10\.244\.(\d+)\.(\d+)(?=[:/]\d)", r"172.20.\1.\2", text).replace("10.96.", "10.43.")
        real = real.replace("172.20.0.0/16", "10.244.0.0/16")
        dump.write_text(real)
        assert self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")[0] == 0
        manifests.write_text(PLAIN.replace("replicas: 3", "replicas: 5"))
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert code == 1
        assert "default/web (TCP): this node is 2 endpoints behind: 3 here, 5 by the manifests" in out
        assert out.splitlines()[-1].endswith("this node is 2 endpoints behind")

    def test_changed_manifests_show(self, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
        manifests, dump = files
        manifests.write_text(PLAIN.replace("  sessionAffinity: ClientIP\n", "  internalTrafficPolicy: Local\n"))
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert code == 1
        assert "internalTrafficPolicy is Cluster here, Local in the manifests" in out
        assert "session affinity is 10800 s here, off by the manifests" in out

    @pytest.mark.parametrize(
        ("dump", "node", "said"),
        [
            ("nonsense\n", "node-a", ":1:1: expected a table"),
            ("*nat\n:A - [0:0]\nCOMMIT\n", "node-z", "no node named 'node-z'"),
            (None, "node-a", "cannot read"),
        ],
    )
    def test_bad_input_is_one_line(
        self, dump: str | None, node: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "dump"
        if dump is not None:
            file.write_text(dump)
        code, out = self.run(capsys, "--rules", str(file), "--node", node)
        assert code == 2
        assert said in out
        assert out.count("\n") == 1

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"))
        code, out = self.run(capsys, "--rules", "-", "--node", "node-a")
        assert code == 1
        assert out.startswith("<stdin>: no Service port at all")

    def test_other_modes_are_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = "---\napiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n"
        manifests, dump = tmp_path / "web.yaml", tmp_path / "dump"
        manifests.write_text(PLAIN + config)
        dump.write_text("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n")
        code, out = self.run(capsys, "-f", str(manifests), "--rules", str(dump), "--node", "n1")
        assert (code, "mode nftables" in out) == (2, True)


def test_every_bundled_scenarios_nodes_agree_with_their_own_rules() -> None:
    from kflab.proof.drift import expect
    from kflab.scenario.library import bundled

    for name in bundled():
        scenario = open_what([name])
        texts = "\n".join(tab.text for tab in scenario.spec.tabs)
        nodes = re.findall(r"kind: Node\n\s*metadata:\s*\{?\s*name: ([\w-]+)", texts)
        for node in nodes[:2]:
            for rules in expect(scenario, node).rules.values():
                assert said(compared(rules, rules.save_text())) == []
