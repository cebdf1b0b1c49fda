"""Whose load balancer stands in front: what the pod sees, which rule takes the packet, who gets how much."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from small_labs import direct, kept_rows

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.engine.types import Finished
from kflab.errors import KflabError
from kflab.lab.commands import Act, Apply, Kill, Scale, Stop
from kflab.lab.handle import Tab
from kflab.lab.records import record
from kflab.lab.running import Lab
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.scenario.format import load_text
from kflab.scenario.opening import open_what
from kflab.scenario.tracing import first_request

S = 10**9

CLIENT = "203.0.113.45"

WEB = Key("Service", "default", "web")

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: x, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {ANNOTATIONS}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: POLICY
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
  MORE
---
"""

METALLB = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.168.7.240-192.168.7.250]}
---
apiVersion: metallb.io/v1beta1
kind: KIND
metadata: {name: adv, namespace: metallb-system}
---
"""


def node(name: str, number: int, zone: str, provider: str = "") -> str:
    line = (
        f"spec: {{podCIDR: 10.244.{number}.0/24, providerID: '{provider}'}}"
        if provider
        else (f"spec: {{podCIDR: 10.244.{number}.0/24}}")
    )
    return (
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
        f"{line}\nstatus: {{addresses: [{{type: InternalIP, address: 10.0.1.{number}}}],"
        " conditions: [{type: Ready, status: 'True'}]}\n---\n"
    )


THREE = node("n1", 1, "a") + node("n2", 2, "a") + node("n3", 3, "b")
"""Two nodes in zone a, one in zone b."""


def lab_of(
    name: str = "",
    policy: str = "Cluster",
    annotations: str = "",
    more: str = "",
    nodes: str = THREE,
    extra: str = "",
    made: int = 0,
    **spec: object,
) -> Lab:
    text = APP.replace("{ANNOTATIONS}", f"{{{annotations}}}").replace("POLICY", policy).replace("MORE", more)
    tab = Tab("web.yaml", nodes + extra + text, None)
    return Lab(LabSpec("lb", (tab,), load_balancer=name, rate_rps=400.0, nodes=made, **spec))  # type: ignore[arg-type]  # LabSpec's own fields


def steps(trace: RequestTrace) -> tuple[Hop, Hop | None]:
    """The load balancer's hop and the node's."""
    found = {hop.mover: hop for hop in trace.hops if hop.number}
    return found["load balancer"], found.get("kernel DNAT")


def arrived(trace: RequestTrace) -> str:
    """The source address that the answering pod sees."""
    last = [hop for hop in trace.hops if hop.number and hop.after][-1]
    assert last.after is not None
    return last.after.src


def finished(lab: Lab, seconds: int) -> list[Finished]:
    rows: list[Finished] = []
    lab.watch_rows(rows.append)
    lab.advance(seconds * S)
    return rows


def node_shares(lab: Lab, seconds: int = 20) -> dict[str, float]:
    places = np.concatenate([part.node for part in finished(lab, seconds)]).tolist()
    assert len(places) > 4000
    return {lab.wiring.places[place]: count / len(places) for place, count in Counter(places).items()}


def opened(lab: Lab, rows: list[Finished]) -> list[RequestTrace]:
    """Open finished requests: the walk must tell what the batch did."""
    traces = []
    for part in rows[:3]:
        for i in range(min(len(part), 60)):
            trace = lab.reopener.open_record(record(part, i))
            assert not [hop.why for hop in trace.hops if hop.outcome == "mismatch"]
            traces.append(trace)
    return traces


# --- source and rule, per profile -------------------------------------------------------------------------------

NODE_IPS = {"10.0.1.1", "10.0.1.2", "10.0.1.3", "10.244.1.1", "10.244.2.1", "10.244.3.1"}

SEEN = [
    # profile, rule met on the way in, source under Local
    ("aws-nlb", "KUBE-NODEPORTS", CLIENT),
    ("aws-clb", "KUBE-NODEPORTS", "10.0.0.5"),
    ("gcp", "loadbalancer IP", CLIENT),
    ("metallb-l2", "loadbalancer IP", CLIENT),
    ("metallb-bgp", "loadbalancer IP", CLIENT),
    ("kind", "KUBE-NODEPORTS", "198.51.100.10"),
    ("docker-desktop", "KUBE-NODEPORTS", "198.51.100.10"),
]


@pytest.mark.parametrize(("name", "rule", "local_source"), SEEN, ids=[row[0] for row in SEEN])
def test_what_the_pod_sees_and_which_rule_took_the_packet(name: str, rule: str, local_source: str) -> None:
    cluster = first_request(lab_of(name), 0)
    assert cluster.status == "200"
    balancer, entry = steps(cluster)
    assert entry is not None
    assert rule in "\n".join(entry.rules)
    assert ("loadbalancer IP" in "\n".join(entry.rules)) == (rule == "loadbalancer IP")
    assert arrived(cluster) in NODE_IPS
    assert f"chosen by loadBalancer {name}, as given" in balancer.why
    local = first_request(lab_of(name, "Local"), 0)
    assert arrived(local) == local_source
    assert local.back[-1].after is not None
    assert local.back[-1].after.source == f"{lab_of(name).lb_address(WEB)}:80"
    assert local.back[-1].after.dst == CLIENT


@pytest.mark.parametrize("name", [row[0] for row in SEEN] + ["aws-nlb-ip"])
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_every_request_that_happened_is_told_as_it_happened(name: str, policy: str) -> None:
    lab = lab_of(name, policy)
    assert {trace.status for trace in opened(lab, finished(lab, 2))} == {"200"}


def test_what_happened_before_a_pod_was_deregistered_is_told_as_it_was() -> None:
    lab = lab_of("aws-nlb-ip")
    rows: list[Finished] = []
    lab.watch_rows(rows.append)
    lab.advance(2 * S)
    lab.do(Kill(next(key for key in lab.store.keys("Pod") if key.name.startswith("web-")), "delete"))
    lab.advance(30 * S)
    for part in (rows[0], rows[6], rows[-1]):
        assert opened(lab, [part])


def test_what_happened_before_a_node_was_deregistered_is_told_as_it_was() -> None:
    lab = lab_of("aws-nlb")
    rows = finished(lab, 2)
    lab.do(Act("shutdown", Key("Node", "", "n1"), (("gracePeriod", 2 * S),)))
    lab.advance(40 * S)
    assert lab.plane.balancers[WEB].registered() == ("n2", "n3")
    for trace in opened(lab, rows):
        balancer, _ = steps(trace)
        assert len(balancer.alternatives) == 3


def test_passthrough_keeps_the_destination_and_answers_go_straight_back() -> None:
    trace = first_request(lab_of("gcp"), 0)
    balancer, _ = steps(trace)
    assert balancer.before == balancer.after
    assert [hop.where for hop in trace.back][-1].endswith("kernel")


def test_ip_targets_meet_no_rule_and_hide_the_client() -> None:
    trace = first_request(lab_of("aws-nlb-ip"), 0)
    balancer, entry = steps(trace)
    assert entry is None
    assert balancer.after is not None
    assert balancer.after.dport == 8080
    assert balancer.after.src == "10.0.0.5"
    assert balancer.outcome == "200"


def test_ip_targets_keep_the_client_where_the_annotation_says_so() -> None:
    kept = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes: preserve_client_ip.enabled=true"
    assert arrived(first_request(lab_of("aws-nlb-ip", annotations=kept), 0)) == CLIENT


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_minikubes_tunnel_dials_the_cluster_ip_through_one_node_whatever_the_policy(policy: str) -> None:
    nodes = THREE.replace("{name: n2, labels: {", "{name: n2, labels: {minikube.k8s.io/name: mk, ").replace(
        "{name: n1, labels: {", "{name: n1, labels: {minikube.k8s.io/primary: 'false', "
    )
    lab = lab_of("", policy, nodes=nodes)
    service = lab.store.get(WEB)
    assert isinstance(service, Service)
    assert service.load_balancer[0].ip == service.cluster_ip
    rows = finished(lab, 2)
    assert {lab.wiring.places[place] for part in rows for place in part.node.tolist()} == {"n2"}
    trace = opened(lab, rows)[0]
    balancer, entry = steps(trace)
    assert "minikube tunnel, chosen by the Nodes' label minikube.k8s.io/name" in balancer.why
    assert entry is not None
    assert "cluster IP" in entry.rules[0]
    pods = {item.address.rpartition(":")[0].rpartition(".")[0] for item in entry.alternatives}
    assert len(pods) == 2  # pods of two nodes: Local keeps none of them out


# --- shares -----------------------------------------------------------------------------------------------------


def test_without_cross_zone_a_node_in_the_small_zone_gets_half() -> None:
    shares = node_shares(lab_of("aws-nlb"))
    assert shares["n3"] == pytest.approx(1 / 2, abs=0.02)
    assert shares["n1"] == pytest.approx(1 / 4, abs=0.02)
    balancer, _ = steps(first_request(lab_of("aws-nlb"), 0))
    assert {item.address.partition(":")[0]: item.chance for item in balancer.alternatives} == {
        "10.0.1.1": Fraction(1, 4), "10.0.1.2": Fraction(1, 4), "10.0.1.3": Fraction(1, 2),
    }  # fmt: skip
    assert "cross-zone is off" in balancer.why


@pytest.mark.parametrize(
    "annotation",
    [
        "aws-load-balancer-attributes: load_balancing.cross_zone.enabled=true",
        'aws-load-balancer-cross-zone-load-balancing-enabled: "true"',
    ],
)
def test_with_cross_zone_all_nodes_get_a_third(annotation: str) -> None:
    lab = lab_of("aws-nlb", annotations=f"service.beta.kubernetes.io/{annotation}")
    assert node_shares(lab) == pytest.approx({"n1": 1 / 3, "n2": 1 / 3, "n3": 1 / 3}, abs=0.02)


def test_a_large_cluster_with_uneven_zones_opens() -> None:
    trace = first_request(lab_of(nodes="", made=500), 0)
    assert trace.status == "200"
    assert not [hop.why for hop in trace.hops if hop.outcome == "mismatch"]


def test_passthrough_and_bgp_spread_over_nodes_whatever_the_zone() -> None:
    for name in ("gcp", "metallb-bgp", "kind"):
        shares = node_shares(lab_of(name), 15)
        assert shares == pytest.approx({"n1": 1 / 3, "n2": 1 / 3, "n3": 1 / 3}, abs=0.025)


def test_ip_targets_share_by_zone_of_the_pods() -> None:
    lab = lab_of("aws-nlb-ip", nodes=THREE + node("n4", 4, "a"))
    lab.plane.scale(Key("Deployment", "default", "web"), 4)
    lab.advance(60 * S)
    known = lab.wiring.dialling.balancer_at(lab.wiring.wired[0].entry, lab.t_ns)
    assert known is not None
    zones = Counter(target.zone for target in known.targets if target.healthy)
    assert sum(zones.values()) == 4
    assert set(zones) == {"a", "b"}
    balancer, _ = steps(lab.open_request(lab.snapshot().traces[-1].id))
    for item, target in zip(balancer.alternatives, known.targets, strict=True):
        assert item.chance == Fraction(1, 2 * zones[target.zone])


def test_metallb_layer_2_sends_everything_to_the_node_that_metallb_elects() -> None:
    # sha256 of "NODE#198.51.100.10", speaker/layer2_controller.go; computed with sha256sum.
    assert node_shares(lab_of("metallb-l2"), 15) == {"n3": 1.0}


# --- who is chosen ----------------------------------------------------------------------------------------------


def balancer_words(lab: Lab) -> str:
    return steps(first_request(lab, 0))[0].why


def test_the_nodes_provider_decides() -> None:
    gce = node("n1", 1, "a", "gce://p/z/n1")
    assert "GCP passthrough network LB, chosen by the Nodes' providerID gce://" in balancer_words(lab_of(nodes=gce))
    kind = node("n1", 1, "a", "kind://docker/kind/kind-worker")
    assert "cloud-provider-kind, Envoy" in balancer_words(lab_of(nodes=kind))
    desktop = lab_of(nodes=node("n1", 1, "a", "kind://docker/desktop/desktop-control-plane"))
    words = "Docker Desktop, Envoy, chosen by the Nodes' providerID kind://docker/desktop/"
    assert words in balancer_words(desktop)
    assert any("publishes its ports on the host" in text for text, _ in desktop.assumptions)
    aws = node("n1", 1, "a", "aws:///us-east-1a/i-1")
    assert "AWS Classic LB" in balancer_words(lab_of(nodes=aws))


def test_annotations_of_the_provider_refine_and_others_are_not_read() -> None:
    kind = "service.beta.kubernetes.io/aws-load-balancer-type"
    target = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"
    assert "AWS NLB, IP targets" in balancer_words(lab_of(annotations=f"{kind}: external, {target}: ip"))
    assert "AWS NLB, instance targets" in balancer_words(lab_of("aws-clb", annotations=f"{kind}: nlb"))
    assert f"it does not read {kind}" in balancer_words(lab_of("gcp", annotations=f"{kind}: nlb"))


def test_a_plain_service_with_nothing_to_go_by_stays_an_nlb_with_a_note() -> None:
    words = balancer_words(lab_of())
    assert "AWS NLB, instance targets, chosen by kflab's default" in words
    assert "gets a Classic LB" in words


def test_metallbs_objects_choose_it_and_its_pool_gives_the_address() -> None:
    lab = lab_of(extra=METALLB.replace("KIND", "BGPAdvertisement"))
    assert "MetalLB, BGP, chosen by BGPAdvertisement in the manifests" in balancer_words(lab)
    service = lab.store.get(WEB)
    assert isinstance(service, Service)
    assert [(entry.ip, entry.ip_mode) for entry in service.load_balancer] == [("192.168.7.240", "VIP")]
    l2 = lab_of(
        annotations="metallb.io/loadBalancerIPs: 192.168.7.244", extra=METALLB.replace("KIND", "L2Advertisement")
    )
    assert l2.lb_address(WEB) == "192.168.7.244"
    assert "layer 2" in balancer_words(l2)


def test_an_unknown_name_is_one_clear_line() -> None:
    with pytest.raises(KflabError, match="--load-balancer 'f5': expected one of aws-nlb, "):
        open_what(["overview"], load_balancer="f5")
    text = "kflab: scenario/v1\nmanifests: {documents: [{name: a, text: ''}]}\ncluster:\n  loadBalancer: f5\n"
    with pytest.raises(KflabError, match="loadBalancer 'f5': expected one of") as caught:
        load_text(text, "x.yaml")
    assert str(caught.value.place) == "x.yaml:4:17"


def test_a_saved_lab_keeps_its_load_balancer() -> None:
    lab = lab_of("gcp")
    assert lab.journal.as_tree(S)["cluster"]["loadBalancer"] == "gcp"


# --- status, ipMode, NodePorts ----------------------------------------------------------------------------------


def test_kinds_address_is_a_proxys_and_kube_proxy_makes_no_rule_for_it() -> None:
    lab = lab_of("kind")
    service = lab.store.get(WEB)
    assert isinstance(service, Service)
    assert service.load_balancer[0].ip_mode == "Proxy"
    assert service.load_balancer[0].ip not in lab.rules_text("n1")
    gcp = lab_of("gcp")
    assert f"-d {gcp.lb_address(WEB)}/32" in gcp.rules_text("n1")


def test_without_node_ports_passthrough_still_works_and_node_port_targets_do_not() -> None:
    none = "allocateLoadBalancerNodePorts: false"
    assert first_request(lab_of("gcp", more=none), 0).status == "200"
    lost = first_request(lab_of("aws-nlb", more=none), 0)
    assert lost.status == "timeout"
    assert "allocateLoadBalancerNodePorts: false" in lost.hops[1].why
    assert first_request(lab_of("aws-nlb-ip", more=none), 0).status == "200"


def test_a_load_balancer_made_while_the_lab_runs_publishes_its_address_and_gets_traffic() -> None:
    lab = lab_of("gcp", cold=True, delays={"cloud_lb_s": [20, 20]})
    lab.advance(15 * S)
    service = lab.store.get(WEB)
    assert isinstance(service, Service)
    assert service.load_balancer == ()
    assert {trace.status for trace in opened(lab, finished(lab, 40)[-3:])} == {"200"}
    assert f"-d {lab.lb_address(WEB)}/32" in lab.rules_text("n1")


def test_a_service_that_is_given_ip_targets_stops_meeting_kube_proxy() -> None:
    kind = "service.beta.kubernetes.io/aws-load-balancer-type: external"
    lab = lab_of(annotations=kind)
    lab.advance(2 * S)
    assert "NodePort" in next(band for band in lab.snapshot().bands if band.kind == "service").detail
    target = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip"
    text = lab.tabs[0].text.replace(kind, f"{kind}, {target}")
    assert lab.do(Apply((("web.yaml", text),))).ok
    rows: list[Finished] = []
    lab.watch_rows(rows.append)
    lab.advance(60 * S)
    assert "IP target" in next(band for band in lab.snapshot().bands if band.kind == "service").detail
    trace = opened(lab, rows[-2:])[-1]
    assert steps(trace)[1] is None
    assert arrived(trace) == "10.0.0.5"


def test_cross_zone_turned_on_evens_the_shares_at_once() -> None:
    lab = lab_of("aws-nlb")
    lab.advance(S)
    note = "service.beta.kubernetes.io/aws-load-balancer-cross-zone-load-balancing-enabled"
    assert lab.do(
        Apply((("web.yaml", lab.tabs[0].text.replace("annotations: {}", f"annotations: {{{note}: 'true'}}")),))
    ).ok
    assert node_shares(lab, 25)["n3"] == pytest.approx(1 / 3, abs=0.03)


def test_what_is_left_out_is_said() -> None:
    said = [text for text, _ in lab_of("aws-clb").assumptions]
    assert any("has one load balancer node per zone here" in text for text in said)
    sticky = [text for text, _ in lab_of("gcp", more="sessionAffinity: ClientIP").assumptions]
    assert any("hash the client's address alone" in text for text in sticky)


# --- knowing ----------------------------------------------------------------------------------------------------


def healthy(lab: Lab) -> tuple[str, ...]:
    return lab.plane.balancers[WEB].healthy()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("gcp", 16, 24), ("kind", 3, 6), ("docker-desktop", 3, 6), ("aws-clb", None, None), ("metallb-bgp", None, None)],
)
def test_a_stopped_kube_proxy_takes_its_node_out_only_where_it_answers_the_check(
    name: str, low: int | None, high: int | None
) -> None:
    lab = lab_of(name)
    lab.do(Stop("kube-proxy/n1"))
    if low is None or high is None:
        lab.advance(120 * S)
        assert len(healthy(lab)) == 3
        return
    lab.advance(low * S - 1)
    assert len(healthy(lab)) == 3
    lab.advance(high * S + 1)
    assert healthy(lab) == ("n2", "n3")


def test_ip_targets_follow_the_slices_in_seconds() -> None:
    lab = lab_of("aws-nlb-ip")
    pods = healthy(lab)
    lab.do(Scale(Key("Deployment", "default", "web"), 1))
    lab.advance(6 * S)  # deregistered within 5 s, and still sent new flows for 5 to 15 s
    states = [target.state for target in lab.plane.balancers[WEB].targets.values()]
    assert sorted(states) == ["", "draining"]
    assert set(healthy(lab)) == set(pods)
    lab.advance(21 * S)
    assert len(lab.plane.balancers[WEB].registered()) == 1
    assert set(healthy(lab)) < set(pods)
    lab.do(Scale(Key("Deployment", "default", "web"), 2))
    lab.advance(27 * S)
    assert len(healthy(lab)) == 1  # registered, and not yet found healthy: three checks of 10 s
    lab.advance(70 * S)
    assert len(healthy(lab)) == 2


def test_the_ledgers_row_says_whose_it_is() -> None:
    for name, words in (("gcp", "GCP L4 hash, 3 of 3"), ("metallb-l2", "MetalLB L2 one node, 3 of 3")):
        lab = lab_of(name)
        lab.advance(S)
        band = next(band for band in lab.snapshot().bands if band.kind == "lb")
        assert band.detail == f"198.51.100.10:80 → nodes · {words}"
        assert band.short.endswith(f" · {words.partition(' hash')[0].partition(' one')[0]}")
    assert [row.note for row in band.candidates] == ["stands by", "stands by", ""]


def test_with_ip_targets_it_is_the_load_balancer_that_has_to_learn_of_a_crash() -> None:
    lab = lab_of("aws-nlb-ip")
    lab.advance(S)
    band = next(band for band in lab.snapshot().bands if band.kind == "service")
    assert band.detail.endswith("IP target · NLB IP hash")
    lab.do(Kill(next(key for key in lab.store.keys("Pod") if key.name.startswith("web-")), "crash"))
    lab.advance(11 * S)
    rows = {row.name: row for row in lab.knowledge().knowers}
    assert rows["web IP targets"].callers == "callers here"
    assert rows["n1 rules"].callers == "nobody calls"
    assert rows["web IP targets"].word == "traffic moves"
    learned = rows["web IP targets"].learned_ns
    assert learned is not None
    assert 1 * S <= learned - S <= 8 * S


def test_a_pod_that_calls_a_service_with_an_nlb_of_ip_targets_goes_by_its_nodes_rules() -> None:
    lab = direct(rate=60, replicas=4, service="type: LoadBalancer", more="cluster: {loadBalancer: aws-nlb-ip}\n")
    rows = kept_rows(lab)
    lab.advance(3 * S)
    assert lab.totals.failed == 0
    assert len({server for row in rows for server in row.servers}) == 4
    assert not [hop for row in rows[:20] for hop in lab.reopener.open_record(row).hops if hop.outcome == "mismatch"]
