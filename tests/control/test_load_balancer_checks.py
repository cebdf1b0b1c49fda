"""How long each load balancer goes on sending to a node that is dead, and how soon it comes back."""

from collections.abc import Iterable

import pytest
from control_clusters import LABELS, S, deployment, first, service

from kflab.cluster.store import Store
from kflab.control import made
from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.control.ground_signals import GroundSignals
from kflab.control.lbchoice import Surroundings, choose
from kflab.control.lbprofiles import PROFILES
from kflab.control.plane import ControlPlane
from kflab.draws import Draws
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service

PRODUCT = Key("Service", "default", "product-service")


class DeadNodes(GroundSignals):
    """Nodes that answer nothing any more."""

    dead: Iterable[str] = ()

    def answer_to_health_check(self, node: str, service: Key, how: str, t_ns: int) -> bool:
        return node not in self.dead and super().answer_to_health_check(node, service, how, t_ns)


def plane_of(name: str, policy: str, seed: int = 7, **delays: object) -> tuple[ControlPlane, DeadNodes]:
    plane = ControlPlane(Store(), Draws(seed), Delays().with_overrides(delays), load_balancer=name)
    signals = DeadNodes(plane.core)
    plane.use_signals(signals)
    balanced = service(type="LoadBalancer", external_traffic_policy=policy)
    plane.load((*made.nodes(3).objects, deployment(6), balanced))
    plane.settle()
    return plane, signals


def seconds_until_out(plane: ControlPlane, signals: DeadNodes, back: bool = False) -> float:
    """Kill node-2 (or let it come back) and wait until the balancer's list changes."""
    started = plane.now_ns
    signals.dead = () if back else ("node-2",)
    plane.lb.proxy_changed("node-2")  # something looks: what a check finds is otherwise no event
    facts = plane.run_until(started + 200 * S)
    return (first(facts, What.LB_TARGETS_CHANGED).t_ns - started) / S


TIMES = [
    # profile, policy, out after at least, at most; back after at least, at most
    ("aws-nlb", "Cluster", 20, 30, 20, 30),
    ("aws-nlb", "Local", 10, 20, 10, 20),
    ("aws-nlb-ccm", "Cluster", 60, 90, 60, 90),
    ("aws-nlb-ccm", "Local", 10, 20, 10, 20),
    ("aws-clb", "Cluster", 50, 60, 10, 20),
    ("aws-clb", "Local", 50, 60, 10, 20),
    ("gcp", "Cluster", 16, 24, 0, 8),
    ("gcp", "Local", 16, 24, 0, 8),
    ("metallb-l2", "Cluster", 5, 6, 0, 1),
    ("metallb-l2", "Local", 5, 6, 0, 1),
    ("metallb-bgp", "Cluster", 60, 90, 0, 30),
    ("kind", "Cluster", 3, 6, 0, 3),
]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("name", "policy", "out_low", "out_high", "back_low", "back_high"), TIMES)
def test_seconds_until_a_dead_node_leaves_and_comes_back(
    name: str, policy: str, out_low: float, out_high: float, back_low: float, back_high: float, seed: int
) -> None:
    plane, signals = plane_of(name, policy, seed)
    assert plane.balancers[PRODUCT].healthy() == ("node-1", "node-2", "node-3")
    assert out_low <= seconds_until_out(plane, signals) <= out_high
    assert plane.balancers[PRODUCT].healthy() == ("node-1", "node-3")
    assert back_low <= seconds_until_out(plane, signals, back=True) <= back_high


def test_a_scenarios_delays_go_before_the_profiles() -> None:
    plane, signals = plane_of("gcp", "Cluster", lb_interval_s=2, lb_unhealthy_count=2)
    assert 2 <= seconds_until_out(plane, signals) <= 4


@pytest.mark.parametrize("name", ["metallb-l2", "metallb-bgp"])
def test_metallb_withdraws_at_once_where_the_last_endpoint_is_gone(name: str) -> None:
    plane, _ = plane_of(name, "Local")
    plane.scale(Key("Deployment", "default", "product"), 0)
    facts = plane.run_until(3 * S)
    assert plane.balancers[PRODUCT].healthy() == ()
    gone = first(facts, What.LB_TARGETS_CHANGED)
    written = first(facts, What.ENDPOINTS_WRITTEN)
    assert 0 < gone.t_ns - written.t_ns < 2 * S
    assert "no longer announces the address of product-service" in gone.text


def test_gcp_does_not_see_under_cluster_that_no_pod_is_left_and_an_nlb_does() -> None:
    for name, left in (("gcp", 3), ("aws-nlb", 0)):
        plane, _ = plane_of(name, "Cluster")
        plane.scale(Key("Deployment", "default", "product"), 0)
        plane.run_until(120 * S)
        assert len(plane.balancers[PRODUCT].healthy()) == left


# --- choosing ---------------------------------------------------------------------------------------------------

AWS = "service.beta.kubernetes.io/aws-load-balancer-"


def balanced(load_balancer_class: str = "", **annotations: str) -> Service:
    names = {key.replace("_", "-"): value for key, value in annotations.items()}
    meta = Meta("web", "default", LABELS, {f"{AWS}{key}": value for key, value in names.items()})
    return Service(meta, type="LoadBalancer", load_balancer_class=load_balancer_class)


@pytest.mark.parametrize(
    ("given", "around", "name"),
    [
        (balanced(), Surroundings(), "aws-nlb"),
        (balanced(type="nlb"), Surroundings(), "aws-nlb-ccm"),
        (balanced(type="external"), Surroundings(), "aws-nlb"),
        (balanced(type="external", nlb_target_type="ip"), Surroundings(), "aws-nlb-ip"),
        (balanced(type="nlb-ip"), Surroundings(), "aws-nlb-ip"),
        (balanced("service.k8s.aws/nlb"), Surroundings("gcp"), "aws-nlb"),
        (balanced("service.k8s.aws/nlb", nlb_target_type="ip"), Surroundings(), "aws-nlb-ip"),
        (balanced("example.com/unknown"), Surroundings("gcp"), "aws-nlb"),
        (balanced("networking.gke.io/l4-regional-internal"), Surroundings(), "gcp"),
        (balanced(type="nlb"), Surroundings("gcp"), "gcp"),
        (balanced(type="nlb"), Surroundings("aws-clb"), "aws-nlb-ccm"),
        (balanced(), Surroundings("aws-nlb-ip"), "aws-nlb-ip"),
        (balanced(), Surroundings(provider_ids=frozenset({"aws"})), "aws-clb"),
        (balanced(type="nlb"), Surroundings(provider_ids=frozenset({"gce"})), "gcp"),
        (balanced(), Surroundings("kind", frozenset({"gce"})), "kind"),
        (balanced(), Surroundings(provider_ids=frozenset({"kind"}), metallb=("L2Advertisement",)), "metallb-l2"),
        (balanced(), Surroundings("metallb-bgp"), "metallb-bgp"),
        (balanced(), Surroundings(provider_ids=frozenset({"minikube"})), "minikube"),
        (balanced(), Surroundings(provider_ids=frozenset({"docker-desktop"})), "docker-desktop"),
        (
            balanced(),
            Surroundings(provider_ids=frozenset({"docker-desktop"}), metallb=("IPAddressPool",)),
            "metallb-l2",
        ),
        (balanced(type="nlb"), Surroundings("docker-desktop"), "docker-desktop"),
        (balanced(), Surroundings("metallb-bgp", metallb=("L2Advertisement",)), "metallb-l2"),
        (balanced(), Surroundings("metallb-l2", metallb=("IPAddressPool", "BGPAdvertisement")), "metallb-bgp"),
    ],
)
def test_who_makes_the_load_balancer(given: Service, around: Surroundings, name: str) -> None:
    assert choose(given, around).name == name


def test_aws_annotations_set_the_check() -> None:
    found = choose(balanced(type="external", healthcheck_interval="5", healthcheck_unhealthy_threshold="2"))
    assert (found.cluster_check.interval_s, found.cluster_check.unhealthy, found.cluster_check.healthy) == (5, 2, 3)


def test_surroundings_read_the_nodes() -> None:
    nodes = [Node(Meta("a"), provider_id="aws:///us-east-1a/i-1"), Node(Meta("b"))]
    assert Surroundings.of(nodes).provider_ids == {"aws"}
    assert set(PROFILES) >= {"aws-nlb", "gcp", "metallb-l2", "kind"}
