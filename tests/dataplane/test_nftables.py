"""kube-proxy's nftables table: names, text, what packets meet."""

from dataclasses import replace

import pytest
from clusters import PRODUCT_SERVICE, node, overview, pod, slice_of

from kflab.dataplane import nftables_names as names
from kflab.dataplane.iptables import compile_service
from kflab.dataplane.modes import cidrs_in_use
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.nftables_rules import AddrIn, Hook, NftSet
from kflab.dataplane.nftables_walk import nft_fan, nft_walk
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.service_table import ServiceTable
from kflab.dataplane.world import StaticWorld
from kflab.manifest.objects import Meta
from kflab.manifest.objects_network import LoadBalancerIngress, Service, ServicePort

CONFIG = ProxyConfig(cluster_cidrs=("10.244.0.0/16",))
FACTS = NodeFacts.from_node(node("node-a", "10.0.1.50", "10.244.1.0/24"), ("10.244.1.1",))


def table_of(name: str = "node-a", service_cidrs: tuple[str, ...] = ()) -> NftRuleSet:
    known = StaticWorld.of(overview()).rules[name]
    return NftRuleSet(known.facts, known.config, known.services, service_cidrs=service_cidrs)


def one(service: Service, n_pods: int = 3, **config: object) -> NftRuleSet:
    pods = [pod("default", f"p-{i}", f"10.244.{i % 2 + 1}.{i + 2}", f"node-{'ab'[i % 2]}", 8080) for i in range(n_pods)]
    compiled = compile_service(service, [slice_of(PRODUCT_SERVICE, pods, 8080)])
    return NftRuleSet(FACTS, replace(CONFIG, **config), {service.key: compiled})  # type: ignore[arg-type]  # test's own


def service(**changes: object) -> Service:
    made = Service(
        Meta(PRODUCT_SERVICE.name, PRODUCT_SERVICE.namespace),
        type="LoadBalancer",
        ports=(ServicePort(80, "", "TCP", 8080, 30080),),
        cluster_ips=("10.96.9.9",),
        load_balancer=(LoadBalancerIngress("198.51.100.1"),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # the caller names fields of Service


class TestNames:
    def test_chain_names_are_kube_proxys(self) -> None:
        assert names.port_base("ns1", "svc1", "TCP", "p80") == "ULMVA6XW-ns1/svc1/tcp/p80"
        assert (
            names.endpoint_base("ns1", "svc1", "tcp", "p80", "10.180.0.1", 80)
            == "5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"
        )
        assert names.endpoint_base("a", "b", "udp", "", "fd00::1", 53).endswith("-a/b/udp/__fd00..1/53")

    def test_a_name_too_long_is_cut_at_240(self) -> None:
        long = names.endpoint_base(
            "n" * 63, "s" * 63, "sctp", "p" * 63, "fd00:1111:2222:3333:4444:5555:6666:7777", 65535
        )
        assert len(long) == 240
        assert long.endswith("...")


class TestText:
    def test_the_overviews_table_names_its_parts_as_kube_proxy_does(self) -> None:
        text = table_of(service_cidrs=("10.96.0.0/16",)).save_text()
        assert text.startswith('table ip kube-proxy {\n\tcomment "rules for kube-proxy"\n\tset cluster-ips {\n')
        assert "\t\ttype filter hook prerouting priority dstnat - 10; policy accept;\n" in text
        assert '\t\tip daddr 10.96.0.0/16 drop comment "Drop traffic to unallocated ClusterIPs"\n' in text
        assert "\t\telements = { 10.0.1.50 }\n" in text
        assert "\t\tnumgen random mod 3 vmap { 0 : goto endpoint-" in text

    def test_text_and_data_are_one(self) -> None:
        rules = table_of()
        assert rules.table().listed() == rules.save_text()

    def test_every_chain_and_set_that_is_named_exists(self) -> None:
        text = one(service(session_affinity="ClientIP", load_balancer_source_ranges=("203.0.113.0/24",))).save_text()
        lines = text.split()
        declared = {lines[i + 1] for i, word in enumerate(lines) if word in {"chain", "set", "map"}}
        called = {lines[i + 1].strip(",") for i, word in enumerate(lines) if word in {"jump", "goto"}}
        called |= {word[1:].strip('"') for word in lines if word.startswith("@")}
        assert called <= declared
        assert any(name.startswith("affinity-") for name in called)

    @pytest.mark.parametrize(
        ("hook", "text"),
        [
            (Hook("nat", "prerouting", -100), "priority dstnat;"),
            (Hook("nat", "output", -100), "priority -100;"),
            (Hook("filter", "output", 0), "priority filter;"),
            (Hook("nat", "postrouting", 100), "priority srcnat;"),
        ],
    )
    def test_priorities_have_names_where_the_hook_has(self, hook: Hook, text: str) -> None:
        assert text in hook.listed()

    def test_address_sets_are_kept_as_merged_intervals(self) -> None:
        values = ("10.0.0.0/8", "12.0.0.0/8", "11.0.0.0/8", "9.1.0.0/16", "1.2.3.4", "1.2.3.5", "1.2.3.9/32")
        assert (
            AddrIn("saddr", values, inverted=True).listed("IPv4")
            == "ip saddr != { 1.2.3.4/31, 1.2.3.9, 9.1.0.0/16, 10.0.0.0-12.255.255.255 }"
        )
        assert AddrIn("saddr", ("fd00::1/128",)).listed("IPv6") == "ip6 saddr fd00::1"

    def test_timeouts_are_written_in_units(self) -> None:
        assert "timeout 1d1h1m1s\n" in NftSet("affinity-x", timeout_s=90_061).listed("IPv4")

    def test_service_cidrs_count_only_if_they_hold_all_cluster_ips(self) -> None:
        inside = table_of().services
        assert cidrs_in_use(("10.96.0.0/16", "fd00::/108"), inside) == ("10.96.0.0/16",)
        assert cidrs_in_use(("10.97.0.0/16",), inside) == ()


class TestPackets:
    @pytest.mark.parametrize("draw", [0, 0x55555555, 0x55555556, 0xAAAAAAAB, 0xFFFFFFFF])
    def test_numgen_takes_index_u_times_n_over_two_to_the_32(self, draw: int) -> None:
        taken = nft_walk(table_of(), Packet("10.244.1.10", 39123, "10.96.100.50", 80), draw)
        assert taken.packet.dst == f"10.244.2.{25 + (draw * 3 >> 32)}"
        assert len(taken.alternatives) == 3

    def test_the_rules_taken_are_told_in_nfts_words(self) -> None:
        taken = nft_walk(table_of(), Packet("203.0.113.45", 54321, "10.0.1.50", 30443), 0)
        assert taken.packet.destination == "10.244.1.10:443"
        assert not taken.masquerade
        assert [chain.partition("-")[0] for chain in taken.chains] == ["services", "external", "local", "endpoint"]
        assert taken.rules[0] == ("services: ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports")

    def test_a_port_that_a_cluster_ip_lacks_is_refused_and_an_unallocated_one_dropped(self) -> None:
        rules = table_of(service_cidrs=("10.96.0.0/16",))
        assert nft_fan(rules, Packet("10.244.1.10", 1, "10.96.100.50", 81)).verdict is Verdict.REJECT
        assert nft_fan(rules, Packet("10.0.1.50", 1, "10.96.100.50", 81)).verdict is Verdict.REJECT
        assert nft_fan(rules, Packet("10.244.1.10", 1, "10.96.77.77", 80)).verdict is Verdict.DROP
        assert nft_fan(table_of(), Packet("10.244.1.10", 1, "10.96.77.77", 80)).verdict is Verdict.NONE

    def test_node_ports_answer_on_the_primary_address_only(self) -> None:
        rules = one(service())
        assert nft_fan(rules, Packet("203.0.113.1", 1, "10.0.1.50", 30080)).verdict is Verdict.DNAT
        assert nft_fan(rules, Packet("203.0.113.1", 1, "10.244.1.1", 30080)).verdict is Verdict.NONE
        assert nft_fan(rules, Packet("127.0.0.1", 1, "127.0.0.1", 30080)).verdict is Verdict.NONE

    def test_node_port_addresses_widen_them_but_never_to_loopback(self) -> None:
        rules = one(service(), node_port_addresses=("0.0.0.0/0",))
        assert nft_fan(rules, Packet("203.0.113.1", 1, "10.244.1.1", 30080)).verdict is Verdict.DNAT
        assert nft_fan(rules, Packet("127.0.0.1", 1, "127.0.0.1", 30080)).verdict is Verdict.NONE
        assert "set nodeport-ips" not in rules.save_text()
        assert "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto" in rules.save_text()

    def test_source_ranges_are_checked_before_anything_else(self) -> None:
        guarded = service(load_balancer_source_ranges=("203.0.113.0/24",))
        for n_pods, inside in ((3, Verdict.DNAT), (0, Verdict.REJECT)):
            rules = one(guarded, n_pods)
            assert nft_fan(rules, Packet("203.0.113.1", 1, "198.51.100.1", 80)).verdict is inside
            assert nft_fan(rules, Packet("192.0.2.1", 1, "198.51.100.1", 80)).verdict is Verdict.DROP

    def test_a_node_without_local_endpoints_still_reaches_the_others_of_a_local_policy(self) -> None:
        remote = service(external_traffic_policy="Local")
        pods = [pod("default", "p", "10.244.2.2", "node-b", 8080)]
        compiled = compile_service(remote, [slice_of(PRODUCT_SERVICE, pods, 8080)])
        rules = NftRuleSet(FACTS, CONFIG, {remote.key: compiled})
        own = nft_fan(rules, Packet("10.0.1.50", 1, "198.51.100.1", 80))
        assert own.verdict is Verdict.DNAT
        assert own.masquerade
        assert nft_fan(rules, Packet("203.0.113.1", 1, "198.51.100.1", 80)).verdict is Verdict.DROP

    def test_a_known_client_goes_where_it_went(self) -> None:
        rules = one(service(session_affinity="ClientIP", affinity_timeout_s=60), 4)
        packet = Packet("10.244.1.9", 4000, "10.96.9.9", 80)
        first = nft_walk(rules, packet, 0)
        name = names.AFFINITY + first.chains[-1].removeprefix(names.ENDPOINT)
        asked: list[tuple[str, int]] = []

        def recent(sets: str, source: str, seconds: int) -> bool:
            asked.append((source, seconds))
            return sets == name

        second = nft_walk(rules, packet, (1 << 32) - 1, recent=recent)
        assert second.sticky
        assert second.packet.destination == first.packet.destination
        assert set(asked) == {("10.244.1.9", 60)}
        assert nft_fan(rules, packet).affinity_s == 60

    def test_a_pod_that_reaches_itself_is_masqueraded(self) -> None:
        found = nft_fan(one(service()), Packet("10.244.1.2", 1, "10.96.9.9", 80))
        assert [item.masquerade for item in found.endpoints] == [True, False, False]

    def test_a_table_of_other_services_is_not_mixed_up(self) -> None:
        first = one(service())
        other = replace(service(), cluster_ips=("10.96.9.8",))
        second = NftRuleSet(FACTS, CONFIG, ServiceTable([compile_service(other, [])]))
        lacking = Packet("10.244.1.9", 1, "10.96.9.9", 9)
        assert nft_fan(first, lacking).verdict is Verdict.REJECT
        assert nft_fan(second, lacking).verdict is Verdict.NONE
