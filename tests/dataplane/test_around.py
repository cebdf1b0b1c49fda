"""What stands around the rules: NGINX routes, load balancer, DNS, pod network."""

from dataclasses import replace
from fractions import Fraction
from hashlib import sha256

import numpy as np
import pytest
from clusters import INGRESS_SERVICE, ingress_config, node, overview, world

from kflab.control.lbprofiles import PROFILES
from kflab.dataplane.cni import BRIDGE, ROUTED, gateway, masquerade_port, masquerade_source
from kflab.dataplane.dns import ClusterDns, names_to_ask, resolve
from kflab.dataplane.lb import (
    CLASSIC_NOTE,
    LbTarget,
    answers_health_check,
    flow_hash,
    flow_salt,
    health_check,
    in_service,
    node_weights,
    pick_target,
    profile_of,
    target_alternatives,
    target_nodes,
    weights,
)
from kflab.dataplane.nginx import route
from kflab.dataplane.packets import Packet
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import Endpoint, EndpointSlice, Ingress, Service, ServicePort

SERVICE = next(item for item in overview() if item.key == INGRESS_SERVICE and isinstance(item, Service))


class TestNginx:
    def test_service_upstream_makes_the_cluster_ip_the_only_peer(self) -> None:
        found = route(ingress_config(overview()), "https", "api.example.com", "/products/7")
        assert [peer.text for peer in found.upstreams] == ["10.96.100.50:80"]
        assert found.service_upstream
        assert (found.path, found.path_type) == ("/products", "Prefix")

    def test_without_it_the_peers_are_the_ready_pods(self) -> None:
        objects = overview(defaults=True)
        pods = next(item for item in objects if item.meta.name == "product-service-x1")
        assert isinstance(pods, EndpointSlice)
        unready = replace(pods.endpoints[1], ready=False)
        fewer = replace(pods, endpoints=(pods.endpoints[0], unready, pods.endpoints[2]))
        found = route(
            ingress_config([fewer if item is pods else item for item in objects]),
            "https",
            "API.example.com.:443",
            "/products",
        )
        assert [peer.text for peer in found.upstreams] == ["10.244.2.25:8080", "10.244.2.27:8080"]

    def test_keepalive_comes_from_the_config_map(self) -> None:
        assert ingress_config(overview()).keepalive.connections == 0

    @pytest.mark.parametrize(
        ("host", "path", "status"),
        [
            ("api.example.com", "/other", 404),
            ("other.example.com", "/products", 404),
            ("api.example.com", "/productsx", 404),
        ],
    )
    def test_what_no_rule_takes_is_a_404_of_nginx(self, host: str, path: str, status: int) -> None:
        found = route(ingress_config(overview()), "https", host, path)
        assert (found.kind, found.status) == ("answer", status)

    def test_an_ingress_of_another_class_is_not_served(self) -> None:
        objects = [replace(item, ingress_class="traefik") if isinstance(item, Ingress) else item for item in overview()]
        assert ingress_config(objects).ingresses == ()


class TestLoadBalancer:
    TARGETS = tuple(LbTarget(Key("Node", "", f"n{i}"), f"10.0.0.{i}", healthy=i != 2) for i in range(1, 5))

    def test_only_healthy_targets_share_the_flows(self) -> None:
        chances = [item.chance for item in target_alternatives(self.TARGETS, 30443, None)]
        assert chances == [Fraction(1, 3), Fraction(0), Fraction(1, 3), Fraction(1, 3)]
        assert {pick_target(self.TARGETS, value << 24).address for value in range(256)} == {  # type: ignore[union-attr]
            "10.0.0.1",
            "10.0.0.3",
            "10.0.0.4",
        }

    def test_no_healthy_target_fails_open(self) -> None:
        down = [replace(target, healthy=False) for target in self.TARGETS]
        assert len(in_service(down)) == 4

    def test_a_classic_lb_and_envoy_fail_closed(self) -> None:
        down = [replace(target, healthy=False) for target in self.TARGETS]
        assert in_service(down, PROFILES["aws-clb"]) == ()
        assert pick_target(down, 5, PROFILES["kind"]) is None

    def test_docker_desktops_envoy_panics_below_half(self) -> None:
        desktop = PROFILES["docker-desktop"]
        half = [replace(target, healthy=i < 2) for i, target in enumerate(self.TARGETS)]
        assert in_service(half, desktop) == tuple(half[:2])
        quarter = [replace(target, healthy=i < 1) for i, target in enumerate(self.TARGETS)]
        assert in_service(quarter, desktop) == tuple(quarter)
        assert in_service(quarter, PROFILES["kind"]) == tuple(quarter[:1])

    def test_one_hash_in_two_falls_on_the_only_node_of_its_zone(self) -> None:
        zoned = [replace(target, healthy=True, zone="b" if i == 3 else "a") for i, target in enumerate(self.TARGETS)]
        assert node_weights(zoned) == {target.node: 3 if target.zone == "b" else 1 for target in zoned}
        picked = [pick_target(zoned, value << 22) for value in range(1024)]
        assert sum(target is zoned[3] for target in picked) == 512

    def test_in_a_large_cluster_zones_are_rounded_and_targets_of_one_zone_still_alike(self) -> None:
        for sizes in ((167, 167, 166), (1667, 1667, 1666), (1, 4999), (3, 997, 4000)):
            many = [
                LbTarget(Key("Node", "", f"{z}-{i}"), "", zone=str(z)) for z, n in enumerate(sizes) for i in range(n)
            ]
            found = weights(many)
            assert sum(found.values()) <= 1 << 16  # what the engine's tables take
            total = sum(found.values())
            for zone, size in enumerate(sizes):
                own = [weight for target, weight in found.items() if target.zone == str(zone)]
                assert len(set(own)) == 1
                assert sum(own) / total == pytest.approx(1 / len(sizes), rel=0.03), size

    def test_one_huge_zone_among_many_small_ones_still_fits_the_tables(self) -> None:
        sizes = (19951, *(1 for _ in range(49)))
        many = [LbTarget(Key("Node", "", f"{z}-{i}"), "", zone=str(z)) for z, n in enumerate(sizes) for i in range(n)]
        assert sum(weights(many).values()) <= 1 << 16

    def test_layer_2_elects_by_the_hash_of_node_and_address(self) -> None:
        # printf 'n3#192.0.2.7' | sha256sum, and so on for each node: the smallest wins.
        sums = {t: sha256(f"{t.node.name}#192.0.2.7".encode()).hexdigest() for t in self.TARGETS if t.healthy}
        assert in_service(self.TARGETS, PROFILES["metallb-l2"], "192.0.2.7") == (min(sums, key=lambda t: sums[t]),)

    def test_the_hash_equals_the_engines(self) -> None:
        from kflab.engine.addresses import flow_hashes
        from kflab.engine.addresses import flow_salt as engine_salt

        salt = engine_salt("203.0.113.45", "52.100.10.20:443")
        assert salt == flow_salt("203.0.113.45", "52.100.10.20:443")
        ports = np.array([54321, 32768, 1], dtype=np.int64)
        values = flow_hashes(np.full(3, salt, dtype=np.uint64), ports)
        mine = [flow_hash(Packet("203.0.113.45", int(port), "52.100.10.20", 443)) for port in ports]
        assert mine == [int(value) for value in values]

    def test_under_local_a_node_is_healthy_while_its_proxy_knows_a_ready_pod_there(self) -> None:
        rules = world(overview()).rules
        assert answers_health_check(rules["node-a"], SERVICE)
        assert not answers_health_check(rules["node-b"], SERVICE)
        assert not answers_health_check(rules["node-a"], SERVICE, proxy_running=False)
        assert not answers_health_check(None, SERVICE)

    def test_under_cluster_the_node_port_itself_is_asked(self) -> None:
        service = replace(SERVICE, external_traffic_policy="Cluster", health_check_node_port=0)
        assert health_check(service).port == 30443
        assert answers_health_check(None, service, reaches=lambda port: port == 30443)

    def test_a_plain_aws_service_gets_a_note(self) -> None:
        assert profile_of(SERVICE).note == ""
        assert profile_of(replace(SERVICE, meta=Meta("x", "y"))).note == CLASSIC_NOTE

    def test_a_labelled_node_is_no_target(self) -> None:
        out = node("n", "10.0.0.9", "10.244.9.0/24")
        out = replace(
            out, meta=replace(out.meta, labels={"node.kubernetes.io/exclude-from-external-load-balancers": ""})
        )
        assert target_nodes([out]) == ()


class TestDns:
    HEADLESS = Service(Meta("db", "app"), ports=(ServicePort(5432),), cluster_ips=("None",))
    EXTERNAL = Service(Meta("shop", "app"), type="ExternalName", external_name="api.example.com")
    SLICE = EndpointSlice(
        Meta("db-1", "app", labels={"kubernetes.io/service-name": "db"}),
        endpoints=(
            Endpoint(("10.244.1.5",), ready=True, hostname="db-0"),
            Endpoint(("10.244.1.6",), ready=False, hostname="db-1"),
        ),
    )
    DNS = ClusterDns.of([HEADLESS, EXTERNAL], [SLICE], {"api.example.com": ("52.100.10.20",)})

    def test_a_headless_name_has_its_ready_endpoints(self) -> None:
        assert self.DNS.lookup("db.app.svc.cluster.local").addresses == ("10.244.1.5",)
        assert self.DNS.lookup("db-0.db.app.svc.cluster.local.").addresses == ("10.244.1.5",)
        assert not self.DNS.lookup("db-1.db.app.svc.cluster.local").found

    def test_an_external_name_is_a_cname(self) -> None:
        assert self.DNS.lookup("shop.app.svc.cluster.local").addresses == ("52.100.10.20",)

    def test_a_short_name_is_found_first_in_the_pods_own_namespace(self) -> None:
        assert len(resolve(self.DNS, "db", "app").asked) == 1
        assert len(resolve(self.DNS, "db.app", "other").asked) == 2

    def test_an_outside_name_costs_three_misses(self) -> None:
        found = resolve(self.DNS, "api.example.com", "app")
        assert found.words == "api.example.com → 52.100.10.20, after 3 misses"
        assert names_to_ask("api.example.com.", "app") == ("api.example.com.",)

    def test_from_outside_cluster_names_do_not_exist(self) -> None:
        assert resolve(self.DNS, "db.app.svc.cluster.local", None).addresses == ()


class TestPodNetwork:
    def test_which_address_masquerade_gives(self) -> None:
        cidrs = ("10.244.2.0/24", "fd00:10:0:2::/64")
        assert masquerade_source(BRIDGE, "10.0.1.51", cidrs, to_local_pod=True) == "10.244.2.1"
        assert masquerade_source(BRIDGE, "10.0.1.51", cidrs, to_local_pod=False) == "10.0.1.51"
        assert masquerade_source(ROUTED, "10.0.1.51", cidrs, to_local_pod=True) == "10.0.1.51"
        assert gateway(cidrs, "IPv6") == "fd00:10:0:2::1"

    def test_the_drawn_port_is_unprivileged(self) -> None:
        packet = Packet("203.0.113.45", 54321, "10.0.1.50", 30443)
        ports = {masquerade_port(packet, draw << 20) for draw in range(500)}
        assert min(ports) >= 1024
        assert max(ports) <= 65535
        assert len(ports) > 450
