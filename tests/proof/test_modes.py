"""The vectors in nftables and IPVS mode: what applies passes, what does not says why, nothing altered passes."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from kflab.cli import main
from kflab.dataplane.addresses import IPV4
from kflab.dataplane.modes import MODES, fan_in, rule_set_for, walk_in
from kflab.dataplane.modes_differ import Reason
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.errors import KflabError
from kflab.proof.mode_vectors import RULE_TEXT
from kflab.proof.vectors import conform

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "conformance"
OTHER_MODES = ("nftables", "ipvs")


def need(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"shared vectors {name} are not beside the checkout")
    return path


def run(path: Path, mode: str) -> tuple[int, list[str]]:
    out = io.StringIO()
    try:
        code = conform([str(path)], out, mode)
    except KflabError as error:
        return 2, str(error).splitlines()  # as `kflab conform` does: the line on standard error, exit 2
    return code, out.getvalue().splitlines()


@pytest.mark.parametrize(("mode", "apart"), [("nftables", 18), ("ipvs", 43)])
def test_every_flow_that_applies_passes(mode: str, apart: int) -> None:
    code, lines = run(need("kube-proxy/visible.json"), mode)
    assert lines[-1] == f"{273 - apart} passed, {apart} not applicable, 0 failed"
    assert code == 0
    assert sum(line.startswith("– ") for line in lines) == apart
    known = {reason.words for reason in Reason}
    assert {line.rpartition(": ")[2] for line in lines if line.startswith("– ")} <= known


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_rule_texts_are_iptables_own_and_ingress_has_no_mode(mode: str) -> None:
    code, lines = run(need("kube-proxy/rules-visible.json"), mode)
    assert (code, lines[-1]) == (0, "0 passed, 25 not applicable, 0 failed")
    assert any(RULE_TEXT in line for line in lines)
    code, lines = run(need("ingress/visible.json"), mode)
    assert (code, lines[-1]) == (0, "214 passed, 0 not applicable, 0 failed")


def altered(vector: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(vector))
    for flow in copy["flows"]:
        expect = flow["expect"]
        if expect["endpoints"]:
            expect["endpoints"] = [*expect["endpoints"][1:], "192.0.2.2:2"]
        else:
            expect["verdict"] = "none" if expect["verdict"] != "none" else "drop"
    return copy


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_every_altered_expectation_fails_whether_it_applies_or_not(mode: str, tmp_path: Path) -> None:
    vectors = [altered(vector) for vector in json.loads(need("kube-proxy/visible.json").read_text())]
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(vectors))
    code, lines = run(path, mode)
    assert (code, lines[-1]) == (1, "0 passed, 0 not applicable, 273 failed")


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_a_malformed_file_is_exit_2_in_every_mode(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('[{"id": "x", "flows": [{}]}]')
    code, lines = run(path, mode)
    assert (code, len(lines)) == (2, 1)


def test_every_reason_has_words_and_a_source() -> None:
    assert len({reason.words for reason in Reason}) == len(Reason)
    assert all("proxier.go" in reason.source or "server_linux.go" in reason.source for reason in Reason)


@pytest.mark.parametrize("mode", MODES)
def test_the_factory_makes_what_can_be_walked_and_fanned(mode: str) -> None:
    rules = rule_set_for(mode, NodeFacts("n", ("10.0.0.1",), primary_ips=("10.0.0.1",)), ProxyConfig(), {}, IPV4)
    packet = Packet("10.0.0.9", 1, "10.0.0.1", 80)
    assert fan_in(rules, packet).verdict is Verdict.NONE
    assert walk_in(rules, packet, 7).verdict is Verdict.NONE
    assert rules.save_text()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(KflabError, match="unknown kube-proxy mode 'userspace'"):
        rule_set_for("userspace", NodeFacts("n"), ProxyConfig(), {}, IPV4)


@pytest.mark.parametrize(
    ("mode", "first"), [("nftables", "table ip kube-proxy {"), ("ipvs", "# ipvsadm -Sn"), ("iptables", "*mangle")]
)
def test_rules_prints_the_modes_own_text(mode: str, first: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--node", "node-a", "--mode", mode]) == 0
    assert capsys.readouterr().out.startswith(f"{first}\n")


def test_rules_takes_the_mode_from_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {a: b}, ports: [{port: 80}]}\n---\n"
        "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n"
    )
    assert main(["rules", "--node", "node-1", "-f", str(path)]) == 0
    assert capsys.readouterr().out.startswith("table ip kube-proxy {\n")
