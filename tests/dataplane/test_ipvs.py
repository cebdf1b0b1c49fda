"""IPVS mode: virtual servers, schedulers, texts, what packets meet."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clusters import PRODUCT_SERVICE, node, overview, pod, slice_of

from kflab.cli import main
from kflab.dataplane.iptables import compile_service
from kflab.dataplane.ipvs import IpvsRuleSet
from kflab.dataplane.ipvs_schedulers import CHOOSER, RealServer, pick, shares
from kflab.dataplane.ipvs_sets import set_name
from kflab.dataplane.ipvs_walk import ipvs_fan, ipvs_walk
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.world import StaticWorld
from kflab.errors import KflabError
from kflab.manifest.objects import Meta
from kflab.manifest.objects_network import LoadBalancerIngress, Service, ServicePort

CONFIG = ProxyConfig(cluster_cidrs=("10.244.0.0/16",))
FACTS = NodeFacts.from_node(node("node-a", "10.0.1.50", "10.244.1.0/24"))


def overview_rules(name: str = "node-a") -> IpvsRuleSet:
    known = StaticWorld.of(overview()).rules[name]
    return IpvsRuleSet(known.facts, known.config, known.services)


def one(nodes: str = "ab", scheduler: str = "rr", config: ProxyConfig = CONFIG, **changes: object) -> IpvsRuleSet:
    """A node's rules for one Service with three pods, taking turns on the nodes given."""
    service = Service(
        Meta(PRODUCT_SERVICE.name, PRODUCT_SERVICE.namespace),
        type="LoadBalancer",
        ports=(ServicePort(80, "", "TCP", 8080, 30080),),
        cluster_ips=("10.96.9.9",),
        load_balancer=(LoadBalancerIngress("198.51.100.1"),),
    )
    service = replace(service, **changes)  # type: ignore[arg-type]  # the caller names fields of Service
    pods = [
        pod("default", f"p-{i}", f"10.244.{i + 1}.2", f"node-{nodes[i % len(nodes)]}", 8080)
        for i in range(3 if nodes else 0)
    ]
    compiled = compile_service(service, [slice_of(PRODUCT_SERVICE, pods, 8080)])
    return IpvsRuleSet(FACTS, config, {service.key: compiled}, scheduler=scheduler)


class TestTexts:
    def test_virtual_servers_as_ipvsadm_saves_them(self) -> None:
        lines = one(session_affinity="ClientIP", affinity_timeout_s=600).ipvsadm_text().splitlines()
        assert lines[:5] == [
            "-A -t 10.0.1.50:30080 -s rr -p 600",
            "-a -t 10.0.1.50:30080 -r 10.244.1.2:8080 -m -w 1",
            "-a -t 10.0.1.50:30080 -r 10.244.2.2:8080 -m -w 1",
            "-a -t 10.0.1.50:30080 -r 10.244.3.2:8080 -m -w 1",
            "-A -t 10.96.9.9:80 -s rr -p 600",
        ]

    def test_udp_and_the_scheduler_are_named(self) -> None:
        assert "-A -u 10.96.0.10:53 -s rr\n" in overview_rules().ipvsadm_text()
        assert "-A -t 10.96.9.9:80 -s mh -b mh-port\n" in one(scheduler="mh").ipvsadm_text()

    def test_sets_hold_what_the_rules_ask(self) -> None:
        text = one(load_balancer_source_ranges=("203.0.113.0/24",)).ipset_text()
        for line in (
            "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536",
            "add KUBE-CLUSTER-IP 10.96.9.9,tcp:80",
            "add KUBE-LOOP-BACK 10.244.1.2,tcp:8080,10.244.1.2",
            "add KUBE-NODE-PORT-TCP 30080",
            "add KUBE-LOAD-BALANCER-SOURCE-CIDR 198.51.100.1,tcp:80,203.0.113.0/24",
            "add KUBE-IPVS-IPS 198.51.100.1",
        ):
            assert f"{line}\n" in text
        assert "KUBE-LOOP-BACK 10.244.2.2" not in text

    def test_rules_of_empty_sets_are_not_written(self) -> None:
        text = one().iptables_text()
        assert "--match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER\n" in text
        assert "KUBE-NODE-PORT-UDP" not in text
        assert "-A KUBE-NODE-PORT -p tcp -m comment" in text

    def test_every_chain_jumped_to_is_declared(self) -> None:
        text = one(external_ips=("203.0.113.9",)).iptables_text()
        declared = {line[1:].split()[0] for line in text.splitlines() if line.startswith(":")}
        assert {line.rpartition("-j ")[2].split()[0] for line in text.splitlines() if "-j KUBE-" in line} <= declared

    def test_names_of_ipv6_sets_are_cut_at_31(self) -> None:
        assert set_name("KUBE-LOAD-BALANCER-SOURCE-CIDR", "IPv6") == "KUBE-6-LOAD-BALANCER-SOURCE-CID"


class TestSchedulers:
    servers = tuple(RealServer(f"10.0.0.{i}:80", f"10.0.0.{i}", 80) for i in range(1, 4))
    packet = Packet("203.0.113.7", 4000, "10.96.9.9", 80)

    @pytest.mark.parametrize("name", sorted(set(CHOOSER) - {"sh", "dh"}))
    def test_shares_are_those_of_the_weights(self, name: str) -> None:
        assert [chance for _, chance in shares(name, self.servers, self.packet)] == [Fraction(1, 3)] * 3

    def test_a_source_keeps_its_server_under_sh_and_an_address_under_dh(self) -> None:
        other = replace(self.packet, src="203.0.113.8", sport=9)
        for name, moves in (("sh", True), ("dh", False)):
            reached = {shares(name, self.servers, replace(other, src=f"203.0.113.{i}"))[0][0].text for i in range(40)}
            assert (len(reached) > 1) is moves
            assert shares(name, self.servers, self.packet) == shares(name, self.servers, replace(self.packet, sport=5))

    def test_sh_is_the_kernels_hash(self) -> None:
        # hash_32(0x0A000001, 8) = 39; the buckets are dealt to the three servers in turn.
        assert shares("sh", self.servers, replace(self.packet, src="10.0.0.1"))[0][0] is self.servers[39 % 3]

    def test_a_draining_server_gets_nothing_new(self) -> None:
        servers = (self.servers[0]._replace(weight=0), *self.servers[1:])
        assert {pick("rr", servers, self.packet, draw << 24) for draw in range(256)} == {
            (server, shares("rr", servers, self.packet)[0][1]) for server in servers[1:]
        }
        assert pick("rr", (servers[0],), self.packet, 0) is None

    def test_an_unknown_scheduler_is_refused(self) -> None:
        with pytest.raises(KflabError, match="unknown IPVS scheduler 'best'"):
            one(scheduler="best")


class TestPackets:
    def test_a_walk_tells_virtual_server_and_real_server(self) -> None:
        taken = ipvs_walk(overview_rules(), Packet("10.244.1.10", 39123, "10.96.100.50", 80), 1 << 31)
        assert taken.packet.destination == "10.244.2.26:8080"
        assert taken.rules[-2:] == ("-A -t 10.96.100.50:80 -s rr", "-a -t 10.96.100.50:80 -r 10.244.2.26:8080 -m -w 1")
        assert len(taken.alternatives) == 3

    @pytest.mark.parametrize("source", ["10.244.1.10", "10.0.1.50", "203.0.113.4"])
    def test_a_port_that_a_vip_lacks_is_refused(self, source: str) -> None:
        for address in ("10.96.9.9", "198.51.100.1"):
            assert ipvs_fan(one(), Packet(source, 1, address, 81)).verdict is Verdict.REJECT

    def test_a_virtual_server_without_servers_refuses(self) -> None:
        assert ipvs_fan(one(""), Packet("10.244.1.10", 1, "10.96.9.9", 80)).verdict is Verdict.REJECT

    def test_node_ports_answer_on_every_address_but_loopback(self) -> None:
        assert ipvs_fan(one(), Packet("203.0.113.1", 1, "10.0.1.50", 30080)).masquerade
        assert ipvs_fan(one(), Packet("127.0.0.1", 1, "127.0.0.1", 30080)).verdict is Verdict.NONE

    def test_a_local_policy_falls_back_to_all_endpoints(self) -> None:
        here = ipvs_fan(one(external_traffic_policy="Local"), Packet("203.0.113.1", 1, "10.0.1.50", 30080))
        assert [item.address for item in here.endpoints] == ["10.244.1.2", "10.244.3.2"]
        assert not here.masquerade
        away = ipvs_fan(one("b", external_traffic_policy="Local"), Packet("203.0.113.1", 1, "10.0.1.50", 30080))
        assert len(away.endpoints) == 3
        assert not away.masquerade

    def test_source_ranges_bind_outsiders_not_the_node(self) -> None:
        rules = one(load_balancer_source_ranges=("203.0.113.0/24",))
        verdicts = {
            source: ipvs_fan(rules, Packet(source, 1, "198.51.100.1", 80)).verdict
            for source in ("203.0.113.1", "192.0.2.1", "10.0.1.50", "198.51.100.1")
        }
        assert verdicts == {
            "203.0.113.1": Verdict.DNAT,
            "192.0.2.1": Verdict.DROP,
            "10.0.1.50": Verdict.DNAT,
            "198.51.100.1": Verdict.DROP,
        }

    def test_a_pod_that_reaches_itself_is_masqueraded(self) -> None:
        found = ipvs_fan(one(), Packet("10.244.1.2", 1, "10.96.9.9", 80))
        assert [item.masquerade for item in found.endpoints] == [True, False, False]

    def test_affinity_is_kept_per_virtual_server(self) -> None:
        rules = one(session_affinity="ClientIP")
        packet = Packet("10.244.1.9", 4000, "10.96.9.9", 80)
        first = ipvs_walk(rules, packet, 0)
        server = "-t 10.96.9.9:80 10.244.1.2:8080"
        again = ipvs_walk(rules, packet, (1 << 32) - 1, recent=lambda name, _source, _seconds: name == server)
        assert again.sticky
        assert again.packet.destination == first.packet.destination == "10.244.1.2:8080"
        other = replace(packet, dst="198.51.100.1")
        assert not ipvs_walk(rules, other, 0, recent=lambda name, _source, _seconds: name == server).sticky

    def test_a_removed_endpoint_drains(self) -> None:
        rules = one()
        draining = {"-t 10.96.9.9:80": frozenset({"10.244.7.7:8080"})}
        rules = IpvsRuleSet(FACTS, CONFIG, rules.services, draining=draining)
        assert "-a -t 10.96.9.9:80 -r 10.244.7.7:8080 -m -w 0\n" in rules.ipvsadm_text()
        assert len(ipvs_fan(rules, Packet("10.244.1.10", 1, "10.96.9.9", 80)).endpoints) == 3


@pytest.mark.parametrize(("given", "written"), [("lc", "lc"), ("", "rr"), ("best", "rr")])
def test_the_configured_scheduler_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, written: str
) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
        f"mode: ipvs\nipvs: {{scheduler: '{given}'}}\n"
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {a: b}, ports: [{port: 80}]}\n"
    )
    assert main(["rules", "-f", str(tmp_path), "--node", "node-1"]) == 0
    servers = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("-A -t", "-A -u"))]
    assert servers
    assert all(line.endswith(f"-s {written}") for line in servers)
