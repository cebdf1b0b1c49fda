"""Rules of a node: names, texts, endpoints, and the indexed walk against a scan of every rule."""

from dataclasses import replace
from fractions import Fraction

import pytest
from clusters import PRODUCT_SERVICE, node, overview, pod, slice_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kflab.dataplane.fan_cache import FanCache
from kflab.dataplane.iptables import RuleSet, Scan, ServiceTable, compile_service, save_text
from kflab.dataplane.iptables_names import chain_hash
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.parse import parse_save
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.walk import fan, walk
from kflab.dataplane.world import StaticWorld
from kflab.errors import KflabError
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    Service,
    ServicePort,
)

NODES = ("node-a", "node-b", "node-c")
ZONES = ("zone-1", "zone-2")
CONFIG = ProxyConfig(cluster_cidrs=("10.244.0.0/16", "fd00:10::/64"))


def rules_on(name: str) -> RuleSet:
    return StaticWorld.of(overview()).rules[name]


class TestText:
    def test_chain_name_is_kube_proxys_hash(self) -> None:
        assert chain_hash("ns1/svc1:p80", "TCP") == "XPGD46QRK7WJZT7O"
        assert chain_hash("ns1/svc1:p80", "tcp", "10.180.0.1:80") == "SXIVWICOYRO3J4NJ"

    def test_three_pods_get_a_third_each_in_the_kernels_digits(self) -> None:
        lines = [line for line in rules_on("node-a").save_text().splitlines() if "default/product-service ->" in line]
        assert [line.partition("--probability ")[2].partition(" ")[0] for line in lines] == [
            "0.33333333349",
            "0.50000000000",
            "",
        ]

    def test_a_nodes_text_has_the_built_in_chains_and_ends_each_table(self) -> None:
        text = rules_on("node-b").save_text()
        assert text.count("COMMIT\n") == 3
        assert ":PREROUTING ACCEPT [0:0]\n" in text
        assert '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES\n' in text
        assert '--comment "ingress-nginx/ingress-nginx-controller has no local endpoints"' in text

    def test_every_chain_jumped_to_is_declared(self) -> None:
        text = rules_on("node-a").save_text()
        declared = {line[1:].split()[0] for line in text.splitlines() if line.startswith(":")}
        jumps = {line.rpartition("-j ")[2].split()[0] for line in text.splitlines() if "-j KUBE-" in line}
        assert jumps <= declared

    @pytest.mark.parametrize("name", NODES[:2])
    def test_printed_rules_parse_and_print_byte_for_byte(self, name: str) -> None:
        text = rules_on(name).save_text()
        assert parse_save(text).text() == text

    def test_a_parsed_dump_walks_as_the_rules_it_was_printed_from(self) -> None:
        rules = rules_on("node-a")
        parsed = parse_save(rules.save_text(), local_ips=rules.facts.ips)
        packet = Packet("10.244.1.10", 39123, "10.96.100.50", 80)
        for draw in (0, 1 << 31, (1 << 32) - 1):
            assert walk(parsed, packet, draw).packet == walk(rules, packet, draw).packet


class TestForeignText:
    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.text(max_size=40),
                st.sampled_from(["*nat", ":A - [0:0]", "COMMIT", "*filter"]),
                st.lists(
                    st.sampled_from(
                        [
                            "-m",
                            "-j",
                            "-s",
                            "-d",
                            "-p",
                            "!",
                            "tcp",
                            "--dport",
                            "80",
                            "statistic",
                            "--mode",
                            "random",
                            "--probability",
                            "0/0",
                            "1/0",
                            "mark",
                            "--mark",
                            "x",
                            "10.0.0.1",
                            '"',
                            "recent",
                            "A",
                            "\\",
                        ]
                    ),
                    max_size=9,
                ).map(lambda words: "-A A " + " ".join(words)),
            ),
            max_size=8,
        )
    )
    def test_any_text_is_read_or_refused_with_its_line(self, lines: list[str]) -> None:
        try:
            parsed = parse_save("\n".join(lines))
        except KflabError as refused:
            parsed = None
            place = refused.place
        if parsed is None:
            assert place is not None
        else:
            walk(parsed, Packet("10.0.0.1", 1, "10.0.0.2", 80), 1 << 31)

    def test_a_match_nobody_here_judges_is_kept_and_never_taken(self) -> None:
        text = (
            "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
            "-A FORWARD -m set --match-set blocked src -j DROP\nCOMMIT\n"
        )
        parsed = parse_save(text)
        assert parsed.text() == text
        assert walk(parsed, Packet("10.0.0.1", 1, "10.0.0.2", 80), 0).verdict is Verdict.NONE


class TestDraws:
    @pytest.mark.parametrize("draw", [0, 1, 0x55555555, 0x55555556, 0xAAAAAAAA, 0xAAAAAAAB, 0xFFFFFFFF])
    def test_equal_shares_take_index_u_times_n_over_two_to_the_32(self, draw: int) -> None:
        taken = walk(rules_on("node-a"), Packet("10.244.1.10", 39123, "10.96.100.50", 80), draw)
        assert taken.packet.dst == f"10.244.2.{25 + (draw * 3 >> 32)}"
        assert taken.chance == Fraction(1, 3)

    def test_an_outside_client_finds_a_local_ingress_pod_and_keeps_its_address(self) -> None:
        taken = walk(rules_on("node-a"), Packet("203.0.113.45", 54321, "10.0.1.50", 30443), 0)
        assert taken.packet.destination == "10.244.1.10:443"
        assert not taken.masquerade
        assert [chain.rpartition("-")[0] or chain for chain in taken.chains][-2:] == ["KUBE-SVL", "KUBE-SEP"]

    def test_local_policy_drops_on_a_node_without_a_pod(self) -> None:
        assert walk(rules_on("node-b"), Packet("203.0.113.45", 54321, "10.0.1.51", 30443), 0).verdict is Verdict.DROP

    def test_affinity_sends_a_known_client_to_its_endpoint(self) -> None:
        service = replace(_service(PRODUCT_SERVICE, "10.96.9.9"), session_affinity="ClientIP", affinity_timeout_s=60)
        pods = [pod("default", f"p-{i}", f"10.244.1.{i + 1}", "node-a", 8080) for i in range(4)]
        compiled = compile_service(service, [slice_of(PRODUCT_SERVICE, pods, 8080)])
        rules = RuleSet(
            NodeFacts.from_node(node("node-a", "10.0.0.1", "10.244.1.0/24")), CONFIG, {service.key: compiled}
        )
        packet = Packet("10.244.1.9", 4000, "10.96.9.9", 80)
        first = walk(rules, packet, 0)
        second = walk(rules, packet, (1 << 32) - 1, recent=lambda chain, _source, _seconds: chain == first.chains[-1])
        assert second.sticky
        assert second.packet.destination == first.packet.destination


def _service(key: Key, ip: str) -> Service:
    return Service(Meta(key.name, key.namespace), ports=(ServicePort(80, "", "TCP", 8080),), cluster_ips=(ip,))


# --- random clusters -----------------------------------------------------------------------------------------------

ADDRESSES = [f"10.244.{i}.{j}" for i in (1, 2, 3) for j in range(1, 9)]
endpoint = st.builds(
    Endpoint,
    addresses=st.sampled_from(ADDRESSES).map(lambda ip: (ip,)),
    ready=st.sampled_from([True, True, False, None]),
    serving=st.sampled_from([True, False, None]),
    terminating=st.sampled_from([True, False, False, None]),
    node_name=st.sampled_from(("", *NODES)),
    hint_zones=st.sampled_from([(), ("zone-1",), ("zone-1",), ("zone-2",)]),
    target=st.none(),
)
policy = st.sampled_from(["Cluster", "Local"])


@st.composite
def service_and_slice(draw: st.DrawFn, index: int) -> tuple[Service, EndpointSlice]:
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]))
    protocol = draw(st.sampled_from(["TCP", "TCP", "UDP", "SCTP"]))
    name = f"s{index}"
    lb = (LoadBalancerIngress(ip="198.51.100.7"),) if kind == "LoadBalancer" else ()
    service = Service(
        Meta(name, "ns"),
        type=kind,
        ports=(
            ServicePort(
                draw(st.sampled_from([80, 81])), "a", protocol, 8080, 30000 + index if kind != "ClusterIP" else 0
            ),
            ServicePort(443, "b", "TCP", 8443),
        ),
        cluster_ips=(f"10.96.0.{index + 1}",),
        external_ips=draw(st.sampled_from([(), ("203.0.113.9",)])),
        external_traffic_policy=draw(policy),
        internal_traffic_policy=draw(policy),
        session_affinity=draw(st.sampled_from(["None", "None", "ClientIP"])),
        health_check_node_port=32000 + index if kind == "LoadBalancer" else 0,
        load_balancer_source_ranges=draw(st.sampled_from([(), (), ("203.0.113.0/24", " 10.0.0.0/8")])),
        load_balancer=lb,
    )
    ports = (EndpointPort(8080, "a", protocol), EndpointPort(8443, "b", "TCP"))
    meta = Meta(f"{name}-x", "ns", labels={"kubernetes.io/service-name": name})
    return service, EndpointSlice(meta, endpoints=tuple(draw(st.lists(endpoint, max_size=6))), ports=ports)


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    pairs = [draw(service_and_slice(i)) for i in range(draw(st.integers(1, 5)))]
    table = ServiceTable(compile_service(service, [piece]) for service, piece in pairs)
    facts = NodeFacts("node-a", ("10.0.0.1", "10.0.0.2"), draw(st.sampled_from(("", *ZONES))), ("10.0.0.1",))
    config = ProxyConfig(
        cluster_cidrs=draw(st.sampled_from([(), ("10.244.0.0/16",)])),
        masquerade_all=draw(st.booleans()),
        localhost_node_ports=draw(st.booleans()),
        node_port_addresses=draw(st.sampled_from([(), (), ("10.0.0.0/31",), ("127.0.0.0/8",)])),
        nfacct=draw(st.booleans()),
    )
    return RuleSet(facts, config, table)


packets = st.builds(
    Packet,
    src=st.sampled_from(
        ["203.0.113.4", "192.0.2.1", "10.244.1.1", "10.244.2.3", "10.0.0.1", "127.0.0.1", "198.51.100.7"]
    ),
    sport=st.just(40000),
    dst=st.sampled_from(["10.96.0.1", "10.96.0.2", "203.0.113.9", "198.51.100.7", "10.0.0.1", "10.0.0.2", "127.0.0.1"]),
    dport=st.sampled_from([80, 81, 443, 30000, 30001, 30002, 32000, 32001, 9]),
    protocol=st.sampled_from(["TCP", "TCP", "UDP", "SCTP"]),
)
draws = st.integers(0, (1 << 32) - 1)
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestRandomClusters:
    @relaxed
    @given(rule_sets(), st.lists(packets, min_size=4, max_size=8), draws)
    def test_the_index_finds_what_a_scan_of_all_rules_finds(
        self, rules: RuleSet, sent: list[Packet], draw: int
    ) -> None:
        scan = Scan(rules)
        for packet in sent:
            assert fan(rules, packet) == fan(scan, packet)
            indexed, scanned = walk(rules, packet, draw), walk(scan, packet, draw)
            assert (indexed.verdict, indexed.packet, indexed.rules, indexed.chance, indexed.masquerade) == (
                scanned.verdict,
                scanned.packet,
                scanned.rules,
                scanned.chance,
                scanned.masquerade,
            )

    @relaxed
    @given(rule_sets(), packets, draws)
    def test_a_walk_ends_at_one_of_the_fans_endpoints_with_its_chance(
        self, rules: RuleSet, packet: Packet, draw: int
    ) -> None:
        may, taken = fan(rules, packet), walk(rules, packet, draw)
        assert taken.verdict == may.verdict
        if may.verdict is Verdict.DNAT:
            shares = {(item.address, item.port): item for item in may.endpoints}
            mine = shares[taken.packet.dst, taken.packet.dport]
            assert taken.chance == mine.chance
            assert taken.masquerade == mine.masquerade
            assert sum(item.chance for item in may.endpoints) == 1

    @relaxed
    @given(rule_sets(), packets)
    def test_every_endpoint_is_drawn_by_exactly_its_share_of_all_draws(self, rules: RuleSet, packet: Packet) -> None:
        may = fan(rules, packet)
        n = len(may.endpoints)
        reached = [walk(rules, packet, ((2 * i + 1) << 32) // (2 * n)).packet for i in range(n)]
        assert [(item.dst, item.dport) for item in reached] == [(item.address, item.port) for item in may.endpoints]

    @relaxed
    @given(rule_sets())
    def test_printed_rules_of_any_cluster_round_trip(self, rules: RuleSet) -> None:
        text = rules.save_text()
        assert text == save_text(rules.full_tables())
        assert parse_save(text).text() == text

    @relaxed
    @given(st.lists(st.tuples(service_and_slice(0), st.booleans()), min_size=1, max_size=4), packets)
    def test_a_table_changed_step_by_step_equals_one_made_at_once(
        self, steps: list[tuple[tuple[Service, EndpointSlice], bool]], packet: Packet
    ) -> None:
        facts = NodeFacts("node-a", ("10.0.0.1",), "", ("10.0.0.1",))
        other = _service(Key("Service", "ns", "other"), "10.96.0.2")
        table = ServiceTable([compile_service(other, [])])
        known = {other.key: compile_service(other, [])}
        for (service, piece), removed in steps:
            compiled = None if removed else compile_service(service, [piece])
            table = table.with_changes({service.key: compiled})
            known.pop(service.key, None)
            if compiled is not None:
                known[service.key] = compiled
            fresh = RuleSet(facts, CONFIG, ServiceTable(known.values()))
            stepped = RuleSet(facts, CONFIG, table)
            assert stepped.save_text() == fresh.save_text()
            assert fan(stepped, packet) == fan(fresh, packet)
            assert (len(table), table.n_endpoints) == (len(known), fresh.services.n_endpoints)

    @relaxed
    @given(rule_sets(), st.lists(packets, min_size=3, max_size=10))
    def test_a_shared_fan_equals_each_nodes_own(self, rules: RuleSet, sent: list[Packet]) -> None:
        cache = FanCache()
        nodes = [
            NodeFacts("node-a", ("10.0.0.1", "10.0.0.2"), "zone-1", ("10.0.0.1",)),
            NodeFacts("node-b", ("10.0.0.2",), "zone-2", ("10.0.0.2",)),
            NodeFacts("node-c", ("10.0.0.3", "10.244.1.1", "10.244.2.3"), "", ("10.0.0.3",)),
        ]
        for packet in sent:
            for facts in nodes:
                own = RuleSet(facts, rules.config, rules.services)
                assert cache.fan(own, packet) == fan(own, packet)
