"""The real nft reads kflab's text and prints it back, in a network namespace of its own."""

import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from clusters import PRODUCT_SERVICE, node, overview, pod, slice_of
from hypothesis import given, settings
from test_iptables import relaxed, rule_sets

from kflab.dataplane.iptables import RuleSet, compile_service
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.world import StaticWorld
from kflab.manifest.objects import Meta
from kflab.manifest.objects_network import LoadBalancerIngress, Service, ServicePort


def nft(script: str, text: str) -> str:
    """Run a script with the text as its input; skips where that cannot be tried."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nft"):
        pytest.skip("needs root, unshare and nft")
    if subprocess.run(["unshare", "-n", "nft", "list", "ruleset"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces or nf_tables are not available here")
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_order(text: str) -> str:
    """The elements of each set in one order: the kernel lists a hash set as its buckets are."""

    def sort(found: re.Match[str]) -> str:
        elements = sorted(re.split(r",\s+", found[1]))
        return f"elements = {{ {', '.join(elements)} }}"

    return re.sub(r"elements = \{ (.*?) \}", sort, text, flags=re.DOTALL)


def every_kind(family: str) -> NftRuleSet:
    """A node's rules with everything in them that kube-proxy can write."""
    six = family == "IPv6"
    prefix = "fd00:10::" if six else "10.244.1."
    pods = [pod("default", f"p-{i}", f"{prefix}{i + 1}", "node-a" if i % 2 else "node-b", 8080) for i in range(37)]
    guarded = Service(
        Meta(PRODUCT_SERVICE.name, "default"),
        type="LoadBalancer",
        ports=(
            ServicePort(80, "", "TCP", 8080, 30080),
            ServicePort(53, "dns", "UDP", 53, 30053),
            ServicePort(99, "s", "SCTP", 99, 30099),
        ),
        cluster_ips=("fd00:96::1" if six else "10.96.0.1",),
        external_ips=("2001:db8::9" if six else "198.51.100.9",),
        external_traffic_policy="Local",
        session_affinity="ClientIP",
        affinity_timeout_s=3661,
        health_check_node_port=32000,
        load_balancer_source_ranges=(
            ("2001:db8::/32", "2001:dba::/32") if six else ("203.0.113.0/24", "10.0.0.0/8", "10.1.0.0/16")
        ),
        load_balancer=(LoadBalancerIngress("2001:db8::1" if six else "198.51.100.1"),),
    )
    second = "fd00:96::2" if six else "10.96.0.2"
    empty = replace(guarded, meta=Meta("empty", "default"), cluster_ips=(second,), external_ips=(), load_balancer=())
    remote = replace(
        empty,
        meta=Meta("remote", "default"),
        cluster_ips=("fd00:96::3" if six else "10.96.0.3",),
        internal_traffic_policy="Local",
        ports=(ServicePort(80, "", "TCP", 8080, 30081),),
    )
    away = [pod("default", "away", f"{prefix}99", "node-b", 8080)]
    facts = NodeFacts.from_node(node("node-a", "2001:db8::5" if six else "203.0.113.5", f"{prefix}0/24"))
    config = ProxyConfig(cluster_cidrs=("fd00:10::/64" if six else "10.244.0.0/16",))
    services = {
        guarded.key: compile_service(
            guarded,
            [slice_of(PRODUCT_SERVICE, pods, 8080), slice_of(PRODUCT_SERVICE, pods[:2], 53, "dns", "UDP")],
            family,
        ),
        empty.key: compile_service(empty, [], family),
        remote.key: compile_service(remote, [slice_of(remote.key, away, 8080)], family),
    }
    cidrs = ("fd00:96::/108",) if six else ("10.96.0.0/16", "10.98.0.0/16")
    return NftRuleSet(facts, config, services, family, cidrs)


@pytest.mark.parametrize("defaults", [False, True])
def test_the_overviews_table_is_accepted(defaults: bool) -> None:
    known = StaticWorld.of(overview(defaults=defaults)).rules["node-a"]
    text = NftRuleSet(known.facts, known.config, known.services).save_text()
    nft("nft -c -f -", text)
    assert in_order(nft("nft -f - && nft list ruleset", text)) == in_order(text)


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("addresses", [(), ("0.0.0.0/0", "::/0"), ("203.0.113.0/24", "2001:db8::/64")])
def test_every_kind_of_rule_comes_back_word_for_word(family: str, addresses: tuple[str, ...]) -> None:
    rules = every_kind(family)
    rules = NftRuleSet(
        rules.facts,
        replace(rules.config, node_port_addresses=addresses, masquerade_all=bool(addresses)),
        rules.services,
        family,
        rules.service_cidrs,
    )
    text = rules.save_text()
    assert in_order(nft("nft -f - && nft list ruleset", text)) == in_order(text)


@settings(relaxed, max_examples=25, derandomize=True)
@given(rule_sets())
def test_the_tables_of_random_clusters_are_accepted(iptables: RuleSet) -> None:
    nft("nft -c -f -", NftRuleSet(iptables.facts, iptables.config, iptables.services, iptables.family).save_text())
