"""Where pods go that look at other pods, at zones and at preferences: the examples of the Kubernetes documentation."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.control.facts import What
from kflab.control.plane import settle
from kflab.draws import Draws
from kflab.manifest.loader import load
from kflab.manifest.objects import Meta
from kflab.manifest.objects_cluster import Node, Taint
from kflab.manifest.objects_pods import Pod
from kflab.manifest.sources import SourceText
from tests.control.control_clusters import S, deployment, pods

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def nodes(zones="AABB", **more):
    made = []
    for i, zone in enumerate(zones, 1):
        labels = {HOST: f"n{i}", **({ZONE: zone} if zone != "-" else {})}
        fields = {"pod_cidrs": (f"10.244.{i}.0/24",), "internal_ips": (f"10.0.0.{i}",)}
        made.append(replace(Node(Meta(f"n{i}", labels=labels), **fields), **more))
    return made


def term(app, key=HOST):
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}


def required(**terms):
    return {name: {"requiredDuringSchedulingIgnoredDuringExecution": value} for name, value in terms.items()}


def preferred(**terms):
    return {name: {"preferredDuringSchedulingIgnoredDuringExecution": value} for name, value in terms.items()}


def where(plane, app):
    return sorted(p.spec.node_name for p in pods(plane, app=app))


def zones(plane, app):
    at = {f"n{i}": zone for i, zone in enumerate("AABB", 1)}
    return Counter(at[name] for name in where(plane, app) if name)


def said(plane):
    return [fact.detail for fact in plane.facts if fact.what is What.POD_UNSCHEDULABLE]


def test_the_redis_and_web_server_example():
    """docs/concepts/scheduling-eviction/assign-pod-node: three caches apart, each with a web server beside it."""
    cache = deployment(3, name="store", affinity=required(podAntiAffinity=[term("store")]))
    apart = required(podAntiAffinity=[term("web-store")], podAffinity=[term("store")])
    web = deployment(3, name="web-store", affinity=apart)
    plane = settle([*nodes("ABCD"), web, cache], Draws(1))
    assert len(set(where(plane, "store"))) == 3
    assert where(plane, "web-store") == where(plane, "store")


def test_one_pod_too_many_for_its_anti_affinity_waits_and_says_so():
    plane = settle([*nodes("ABC"), deployment(3, affinity=required(podAntiAffinity=[term("product")]))], Draws(1))
    plane.apply([deployment(4, affinity=required(podAntiAffinity=[term("product")]))])
    plane.run_until(5 * S)
    assert where(plane, "product") == ["", "n1", "n2", "n3"]
    assert said(plane)[0].startswith("0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.")


def test_pods_that_are_there_keep_others_out():
    alone = deployment(1, name="alone", affinity=required(podAntiAffinity=[term("product", ZONE)]))
    plane = settle([*nodes(), alone], Draws(1))
    plane.apply([deployment(2)])
    plane.run_until(5 * S)
    assert set(zones(plane, "product")) == {"A", "B"} - set(zones(plane, "alone"))
    crowd = settle([*nodes("A"), alone], Draws(1))
    crowd.apply([deployment(1)])
    crowd.run_until(5 * S)
    assert said(crowd)[0].startswith(
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
    )


def test_a_pod_waits_for_the_one_it_wants_to_be_near():
    web = deployment(1, name="web", affinity=required(podAffinity=[term("db", ZONE)]))
    plane = settle(nodes(), Draws(1))
    plane.apply([web])
    plane.run_until(5 * S)
    assert said(plane)[0].startswith("0/4 nodes are available: 4 node(s) didn't match pod affinity rules.")
    plane.apply([deployment(1, name="db", node_selector={HOST: "n3"})])
    plane.run_until(10 * S)
    assert zones(plane, "web") == {"B": 1}


def test_a_group_that_wants_to_be_together_starts_anywhere():
    plane = settle([*nodes(), deployment(4, affinity=required(podAffinity=[term("product", ZONE)]))], Draws(1))
    assert sorted(zones(plane, "product").values()) == [4]


def test_preferences_are_kept_where_they_can_be():
    near = preferred(podAffinity=[{"weight": 100, "podAffinityTerm": term("db")}])
    plane = settle([*nodes(), deployment(1, name="db", node_selector={HOST: "n3"})], Draws(1))
    plane.apply([deployment(1, name="web", affinity=near)])
    away = preferred(podAntiAffinity=[{"weight": 100, "podAffinityTerm": term("db", ZONE)}])
    plane.apply([deployment(2, name="far", affinity=away)])
    plane.run_until(5 * S)
    assert where(plane, "web") == ["n3"]
    assert zones(plane, "far") == {"A": 2}


def test_preferred_node_affinity_and_soft_taints():
    wish = {"weight": 1, "preference": {"matchExpressions": [{"key": HOST, "operator": "In", "values": ["n4"]}]}}
    plane = settle([*nodes(), deployment(1, affinity=preferred(nodeAffinity=[wish]))], Draws(1))
    assert where(plane, "product") == ["n4"]
    shunned = nodes("A", taints=(Taint("busy", "PreferNoSchedule"),)) + nodes("AB")[1:]
    assert where(settle([*shunned, deployment(1)], Draws(1)), "product") == ["n2"]
    assert where(settle([*shunned[:1], deployment(1)], Draws(1)), "product") == ["n1"]


def constraint(key=ZONE, skew=1, when="DoNotSchedule", **more):
    selector = {"labelSelector": {"matchLabels": {"app": "product"}}}
    return {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when, **selector, **more}


def given_pods(*names):
    """Pods foo=bar of the documentation's pictures, bound."""
    base = deployment(1).template
    return [
        Pod(Meta(f"p{i}", "default", {"app": "product"}), spec=replace(base.spec, node_name=name))
        for i, name in enumerate(names, 1)
    ]


@pytest.mark.parametrize(
    ("constraints", "allowed"),
    [
        ((constraint(ZONE),), {"n3", "n4"}),
        ((constraint(ZONE), constraint(HOST)), {"n4"}),
        ((constraint(ZONE, 2),), {"n1", "n2", "n3", "n4"}),
    ],
)
def test_the_topology_spread_examples(constraints, allowed):
    """docs/concepts/scheduling-eviction/topology-spread-constraints: p1 on node1, p2 on node2, p3 on node3."""
    plane = settle([*nodes(), *given_pods("n1", "n2", "n3")], Draws(1))
    for name in ("n1", "n2", "n3", "n4"):
        pod = Pod(Meta(f"mypod-{name}", "default", {"app": "product", "probe": name}))
        spec = replace(deployment(1).template.spec, spread=constraints, node_selector={})
        found = plane.scheduler.placement.around.refusals(replace(pod, spec=spec), [name])
        assert (name not in found) == (name in allowed)


def test_conflicting_constraints_leave_a_pod_pending():
    """The same page: node1 and node2 in zone A with two and one pods, node3 in zone B with two."""
    plane = settle([*nodes("AAB"), *given_pods("n1", "n1", "n2", "n3", "n3")], Draws(1))
    plane.apply([deployment(1, name="product", spread=(constraint(ZONE), constraint(HOST)))])
    plane.run_until(5 * S)
    told = "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints."
    assert said(plane)[0].startswith(told)


def test_a_missing_label_and_too_few_domains():
    plane = settle([*nodes("AB-"), deployment(4, spread=(constraint(ZONE, minDomains=3),))], Draws(1))
    assert Counter(where(plane, "product"))[""] == 2, "at most maxSkew pods per zone while a third zone is wanted"


def test_schedule_anyway_spreads_and_never_refuses():
    plane = settle([*nodes(), deployment(5, spread=(constraint(ZONE, when="ScheduleAnyway"),))], Draws(1))
    assert sorted(zones(plane, "product").values()) == [2, 3]
    full = settle([*nodes("AA"), deployment(5, spread=(constraint(ZONE, when="ScheduleAnyway"),))], Draws(1))
    assert "" not in where(full, "product")


def test_the_manifest_reader_knows_constraints():
    text = """
apiVersion: v1
kind: Pod
metadata: {name: mypod, labels: {app: product}}
spec:
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule,
     labelSelector: {matchLabels: {app: product}}}
  containers: [{name: c, image: x}]
"""
    plane = settle([*nodes("AB"), *given_pods("n1", "n1"), *load([SourceText("p.yaml", text)]).objects], Draws(1))
    assert plane.store.get(Pod(Meta("mypod", "default")).key).spec.node_name == "n2"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("ABC"), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 3))
def test_hard_spreading_never_exceeds_its_skew(named, replicas, skew):
    everything = nodes("".join(named))
    plane = settle([*everything, deployment(replicas, spread=(constraint(ZONE, skew),))], Draws(1))
    zone_of = {node.meta.name: node.meta.labels[ZONE] for node in everything}
    counts = dict.fromkeys(named, 0)
    for name in where(plane, "product"):
        counts[zone_of[name]] += 1
    assert sum(counts.values()) == replicas, "nothing but the skew limits these nodes, so all are placed"
    assert max(counts.values()) - min(counts.values()) <= skew
