"""The real iptables reads kflab's text and prints it back, in a network namespace of its own."""

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from clusters import PRODUCT_SERVICE, node, overview, pod, slice_of
from hypothesis import given, settings
from test_iptables import relaxed, rule_sets

from kflab.dataplane.iptables import RuleSet, compile_service
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.world import StaticWorld
from kflab.manifest.objects import Meta
from kflab.manifest.objects_network import LoadBalancerIngress, Service, ServicePort


def saved_again(text: str, tool: str) -> str:
    """What iptables-save prints after iptables-restore took the text; skips where that cannot be tried."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which(f"{tool}-restore"):
        pytest.skip(f"needs root, unshare and {tool}")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    command = ["unshare", "-n", "sh", "-c", f"{tool}-restore && {tool}-save"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if "nf_tables" in done.stderr and "not supported" in done.stderr.lower():
        pytest.skip(f"the kernel lacks what {tool} needs")
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_chain(text: str) -> dict[tuple[str, str], list[str]]:
    """Declared chains and their rules; tables and chains in any order."""
    found: dict[tuple[str, str], list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith(":"):
            found[table, line[1:].split()[0]] = [line]
        elif line.startswith("-A"):
            found[table, line.split()[1]].append(line)
    return found


@pytest.mark.parametrize("defaults", [False, True])
def test_the_overviews_rules_come_back_word_for_word(defaults: bool) -> None:
    text = StaticWorld.of(overview(defaults=defaults)).rules["node-a"].save_text()
    assert by_chain(saved_again(text, "iptables")) == by_chain(text)


@pytest.mark.parametrize(("tool", "family"), [("iptables", "IPv4"), ("ip6tables", "IPv6")])
def test_every_kind_of_rule_comes_back_word_for_word(tool: str, family: str) -> None:
    six = family == "IPv6"
    prefix = "fd00:10::" if six else "10.244.1."
    pods = [pod("default", f"p-{i}", f"{prefix}{i + 1}", "node-a" if i % 2 else "node-b", 8080) for i in range(37)]
    guarded = Service(
        Meta(PRODUCT_SERVICE.name, "default"),
        type="LoadBalancer",
        ports=(ServicePort(80, "", "TCP", 8080, 30080),),
        cluster_ips=("fd00:96::1" if six else "10.96.0.1",),
        external_ips=("2001:db8::9" if six else "198.51.100.9",),
        external_traffic_policy="Local",
        session_affinity="ClientIP",
        health_check_node_port=32000,
        load_balancer_source_ranges=("2001:db8::/32" if six else "203.0.113.0/24",),
        load_balancer=(LoadBalancerIngress("2001:db8::1" if six else "198.51.100.1"),),
    )
    empty = replace(
        guarded, meta=Meta("empty", "default"), cluster_ips=("fd00:96::2" if six else "10.96.0.2",), external_ips=()
    )
    facts = NodeFacts.from_node(node("node-a", "2001:db8::5" if six else "203.0.113.5", f"{prefix}0/24"))
    config = ProxyConfig(cluster_cidrs=("fd00:10::/64" if six else "10.244.0.0/16",))
    services = {
        guarded.key: compile_service(guarded, [slice_of(PRODUCT_SERVICE, pods, 8080)], family),
        empty.key: compile_service(empty, [], family),
    }
    text = RuleSet(facts, config, services, family).save_text()
    assert "--probability 0.02702702722" in text
    assert by_chain(saved_again(text, tool)) == by_chain(text)


@settings(relaxed, max_examples=25, derandomize=True)
@given(rule_sets())
def test_the_rules_of_random_clusters_are_accepted(rules: RuleSet) -> None:
    text = rules.save_text()
    tool = "ip6tables" if rules.family == "IPv6" else "iptables"
    saved_again("*filter\nCOMMIT\n", tool)  # skips where that cannot be tried
    command = ["unshare", "-n", f"{tool}-restore", "--test"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
