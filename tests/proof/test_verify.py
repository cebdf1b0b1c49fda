"""The real kernel agrees with kflab's rules, and an altered rule is noticed."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction

import pytest

from kflab.exits import FAILED, OK, USAGE
from kflab.lab.handle import Tab
from kflab.lab.spec import LabSpec
from kflab.proof import netns
from kflab.proof.verify import verify
from kflab.proof.verify_modes import tools
from kflab.proof.verify_stats import chi_square_tail, connections_to_see_all, fits
from kflab.scenario.format import Scenario, load

NODES = """
apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {where: a}}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 10.0.1.50}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-b, labels: {where: b}}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 10.0.1.51}]}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clusterCIDR: 10.244.0.0/16
"""


def workload(replicas: int, where: str = "", name: str = "web") -> str:
    selector = f"nodeSelector: {{where: {where}}}" if where else ""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      {selector}
      containers: [{{name: main, image: web, ports: [{{containerPort: 8080}}, {{containerPort: 53, protocol: UDP}}]}}]
"""


def service(name: str, ports: str, spec: str = "", status: str = "") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: web}}
  ports: [{ports}]
  {spec}
{status}
"""


HTTP = "{name: http, port: 80, targetPort: 8080}"
HTTP_NODE = "{name: http, port: 80, targetPort: 8080, nodePort: 30080}"
DNS_NODE = "{name: dns, protocol: UDP, port: 53, targetPort: 53, nodePort: 30053}"
BALANCED = "status: {loadBalancer: {ingress: [{ip: 198.51.100.8}]}}"

CLUSTERS = {
    "session affinity": (
        workload(3),
        service("sticky", f"{HTTP_NODE}, {DNS_NODE}", "type: NodePort\n  sessionAffinity: ClientIP"),
    ),
    "Local policies": (
        workload(2, "a"),
        service(
            "local",
            f"{HTTP_NODE}, {DNS_NODE}",
            "type: LoadBalancer\n  externalTrafficPolicy: Local\n  externalIPs: [198.51.100.7]",
            BALANCED,
        ),
        service("internal", HTTP, "internalTrafficPolicy: Local"),
    ),
    "source ranges": (
        workload(2),
        service("ranged", HTTP_NODE, "type: LoadBalancer\n  loadBalancerSourceRanges: [192.0.2.0/24]", BALANCED),
    ),
    "hairpin": (workload(1, "a"), service("itself", HTTP_NODE, "type: NodePort")),
    "UDP": (workload(3), service("dns", DNS_NODE, "type: NodePort")),
    "no endpoints": (
        workload(1, name="other"),
        service("nobody", f"{HTTP_NODE}, {DNS_NODE}", "type: NodePort\n  externalIPs: [198.51.100.7]"),
    ),
    "nobody listens": (workload(2), service("wrong", "{port: 80, targetPort: 81, nodePort: 30080}", "type: NodePort")),
}


SIX = (
    NODES.replace("podCIDR: 10.244.1.0/24", 'podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]')
    .replace("podCIDR: 10.244.2.0/24", 'podCIDRs: [10.244.2.0/24, "fd00:10:244:2::/64"]')
    .replace("address: 10.0.1.50}", 'address: 10.0.1.50}, {type: InternalIP, address: "fd00:10::50"}')
    .replace("address: 10.0.1.51}", 'address: 10.0.1.51}, {type: InternalIP, address: "fd00:10::51"}')
    .replace("10.244.0.0/16", "10.244.0.0/16,fd00:10:244::/48")
)


def made(*manifests: str, nodes: str = NODES) -> Scenario:
    text = "\n---\n".join((nodes, *manifests))
    return Scenario(LabSpec("made", (Tab("made.yaml", text, None),)), "made", "", 0, ())


def asked(
    scenario: Scenario, mode: str = "iptables", rewrite: Callable[[str, str], str] | None = None
) -> tuple[int, str]:
    """Verify; skips where this machine cannot."""
    lacking = netns.missing(tools(mode))
    if lacking:
        pytest.skip(lacking)
    out = io.StringIO()
    code = verify(scenario, mode, out, rewrite)
    if code == USAGE:
        pytest.skip(out.getvalue().strip())
    return code, out.getvalue()


MODES = ("iptables", "nftables")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["overview", "overview-defaults"])
def test_the_kernel_agrees_on_the_overview(name: str, mode: str) -> None:
    code, said = asked(load(name), mode)
    assert code == OK, said
    assert re.match(rf"1\d\d pairs agree, 0 disagree \(\d+ calls; {mode}.*; Linux .*\)\n$", said)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CLUSTERS)
def test_the_kernel_agrees_on(name: str, mode: str) -> None:
    code, said = asked(made(*CLUSTERS[name]), mode)
    assert code == OK, said
    agreeing = re.match(r"(\d+) pairs agree, 0 disagree", said)
    assert agreeing is not None
    assert int(agreeing[1]) > 30


@pytest.mark.parametrize("mode", MODES)
def test_the_kernel_agrees_in_both_families(mode: str) -> None:
    both = 'ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: RequireDualStack\n  clusterIPs: [10.96.5.5, "fd00:96::5"]'
    local = "clusterIP: 10.96.5.5\n  type: NodePort\n  externalTrafficPolicy: Local"
    code, said = asked(made(workload(2), service("both", HTTP_NODE, f"{local}\n  {both}"), nodes=SIX), mode)
    assert code == OK, said
    assert len(re.findall(r"^\d\d+ pairs agree, 0 disagree", said, re.MULTILINE)) == 2


def altered(pattern: str, replacement: str, times: int = 0) -> Callable[[str, str], str]:
    """Edit the rules of node-a."""

    def rewrite(node: str, text: str) -> str:
        if node != "node-a":
            return text
        changed, n = re.subn(pattern, replacement, text, count=times, flags=re.MULTILINE)
        assert n, f"no rule matches {pattern}"
        return changed

    return rewrite


WEB = (workload(2, "b"), service("web", HTTP_NODE, "type: NodePort"))
ONE = (workload(1, "b"), service("web", HTTP_NODE, "type: NodePort"))


@pytest.mark.parametrize(
    ("manifests", "pattern", "replacement", "told"),
    [
        pytest.param(
            WEB,
            r"^-A KUBE-SEP-\w+ -p tcp .*default/web:http.* -j DNAT .*\n",
            "",
            r"default/web:http cluster IP\): kflab says 1/2 .* 1/2 .*; the kernel: never default/web-",
            id="one endpoint's DNAT is gone",
        ),
        pytest.param(
            WEB,
            r"^(-A KUBE-SVC-\w+ .*default/web:http ->.*--probability )0.50000000000",
            r"\g<1>0.80000000000",
            r"client 203\S+ .*default/web:http cluster IP.*: kflab says 1/2 .* 1/2 .*; the kernel: \d+× default/web-",
            id="shares are uneven",
        ),
        pytest.param(
            ONE,
            r"^-A KUBE-EXT-\w+ .* -j KUBE-MARK-MASQ\n",
            "",
            r"client 203\S+ → TCP 10.0.1.50:30080 .*sees 10.0.1.50; the kernel: dropped",
            id="answers go another way without masquerade",
        ),
        pytest.param(
            ONE,
            r"^-A KUBE-NODEPORTS .*\n",
            "",
            r"client 203\S+ → TCP 10.0.1.50:30080 .*; the kernel: refused \(\d+×\)",
            id="nobody takes the node port",
        ),
    ],
)
def test_an_altered_rule_is_told(manifests: tuple[str, str], pattern: str, replacement: str, told: str) -> None:
    code, said = asked(made(*manifests), "iptables", altered(pattern, replacement, 1))
    assert code == FAILED
    lines = said.splitlines()
    assert any(re.search(told, line) for line in lines[:-1]), said
    assert re.match(r"\d+ pairs agree, [1-9]\d* disagree", lines[-1])
    assert all("10.0.1.51:30080" not in line for line in lines if "client" in line), "node-b's rules are untouched"


def test_an_altered_nftables_rule_is_told() -> None:
    code, said = asked(made(*ONE), "nftables", altered(r"^\t+masquerade\b.*$", "accept", 1))
    assert code == FAILED
    assert re.search(r"client 203\S+ → TCP 10.0.1.50:30080 .*sees 10.0.1.50; the kernel: dropped", said), said


def test_affinity_that_forgets_is_told() -> None:
    code, said = asked(made(*CLUSTERS["session affinity"]), "iptables", altered(r"^.* -m recent --rcheck .*\n", ""))
    assert code == FAILED
    assert "though affinity remembers another" in said


def test_shares_are_held_against_exact_chances() -> None:
    half = [Fraction(1, 2)] * 2
    assert fits([210, 190], half, 1e-6)
    assert not fits([280, 120], half, 1e-6)
    assert fits([400], [Fraction(1)], 1e-6)
    # Tables of the chi-square distribution: 3.841 and 7.815 are the 5 % points for 1 and 3 degrees, 9.210 1 % for 2.
    assert chi_square_tail(3.841, 1) == pytest.approx(0.05, rel=1e-3)
    assert chi_square_tail(7.815, 3) == pytest.approx(0.05, rel=1e-3)
    assert chi_square_tail(9.210, 2) == pytest.approx(0.01, rel=1e-3)
    assert connections_to_see_all(half, 1e-6) == 21
    assert connections_to_see_all([Fraction(1)], 1e-6) == 1


def test_rules_that_the_tool_refuses_are_told() -> None:
    code, said = asked(made(*WEB), "iptables", altered(r"--to-destination \S+", "--to-destination nowhere", 1))
    assert code == FAILED
    assert re.match(r"✖ node node-a: iptables-restore refuses the rules: .*nowhere", said)


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    out = io.StringIO()
    assert verify(load("overview"), "iptables", out) == USAGE
    assert out.getvalue() == "kflab verify: needs root: it builds network namespaces\n"


def test_without_the_tools_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(netns, "tool", lambda name: "" if name == "iptables-restore" else f"/sbin/{name}")
    out = io.StringIO()
    assert verify(load("overview"), "iptables", out) == USAGE
    assert out.getvalue() == "kflab verify: needs iptables-restore, which is not installed\n"


def interfaces() -> str:
    return subprocess.run((netns.tool("ip"), "-o", "link"), capture_output=True, text=True, check=True).stdout


def test_ctrl_c_leaves_nothing_behind() -> None:
    lacking = netns.missing(tools("iptables"))
    if lacking:
        pytest.skip(lacking)
    before = interfaces(), os.readlink("/proc/self/ns/net")
    code = "import sys; from kflab.cli import main; sys.exit(main(['verify', 'overview']))"
    running = subprocess.Popen((sys.executable, "-c", code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    held: set[str] = set()
    deadline = time.monotonic() + 20
    while len(held) < 5 and running.poll() is None and time.monotonic() < deadline:
        held = _namespaces_of(running.pid)
        time.sleep(0.02)
    assert len(held) >= 5, "namespaces were under way"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert (out, err) == ("", "")
    assert (interfaces(), os.readlink("/proc/self/ns/net")) == before


def _namespaces_of(pid: int) -> set[str]:
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if target.startswith("net:"):
                found.add(target)
    except OSError:  # the process or one of its files is gone
        return found
    return found
