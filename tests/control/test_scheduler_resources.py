"""Room on nodes: what a pod requests, where it fits, and what `kubectl describe` says when it fits nowhere."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.control.facts import What
from kflab.control.plane import settle
from kflab.control.podresources import amount, requests_of
from kflab.draws import Draws
from kflab.manifest.loader import load
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Container, Pod, PodSpec
from kflab.manifest.sources import SourceText
from tests.control.control_clusters import S, cluster, container, deployment, pods


def nodes(*sizes):
    return [
        Node(Meta(f"n{i}"), pod_cidrs=(f"10.244.{i}.0/24",), internal_ips=(f"10.0.0.{i}",), allocatable=size)
        for i, size in enumerate(sizes, 1)
    ]


def asking(replicas, cpu="500m", name="product", **more):
    return deployment(replicas, container(requests={"cpu": cpu, **more}), name=name)


def where(plane, **labels):
    return sorted(p.spec.node_name for p in pods(plane, **labels))


@pytest.mark.parametrize(
    ("resource", "quantity", "units"),
    [("cpu", "500m", 500), ("cpu", "0.1", 100), ("cpu", "2", 2000), ("cpu", "1n", 1), ("memory", "64Mi", 67108864),
     ("memory", "128974848", 128974848), ("memory", "129e6", 129000000), ("memory", "129M", 129000000),
     ("memory", "1.5Gi", 1610612736), ("pods", "110", 110)],
)  # fmt: skip
def test_quantities_of_the_documentation(resource, quantity, units):
    assert amount(resource, quantity) == units


def test_init_containers_run_before_and_sidecars_beside_the_containers():
    """KEP-753's rule: max(containers + sidecars, an init container + the sidecars before it), plus overhead."""

    def box(name, cpu, policy=""):
        return Container(name, requests={"cpu": cpu}, restart_policy=policy)

    plain = PodSpec((box("a", "200m"), box("b", "300m")), (box("i", "400m"), box("j", "700m")))
    assert requests_of(plain).asked == (700, 0)
    sidecar = replace(plain, init_containers=(box("i", "400m"), box("s", "100m", "Always"), box("j", "700m")))
    assert requests_of(sidecar).asked == (800, 0)
    assert requests_of(replace(sidecar, overhead=(("cpu", "250m"),))).asked == (1050, 0)
    assert requests_of(PodSpec((Container("a", limits=(("cpu", "1"), ("memory", "1Ki"))),))).asked == (1000, 1024)


def test_pods_wait_when_nodes_are_full_and_describe_says_why():
    plane = settle([*nodes({"cpu": "1"}, {"cpu": "1"}, {"cpu": "1"}), asking(6)], Draws(1))
    assert where(plane) == ["n1", "n1", "n2", "n2", "n3", "n3"]
    plane.apply([asking(7)])
    plane.run_until(10 * S)
    assert where(plane)[0] == ""
    said = [fact.detail for fact in plane.facts if fact.what is What.POD_UNSCHEDULABLE]
    assert said[0].startswith("0/3 nodes are available: 3 Insufficient cpu.")
    late = next(p for p in pods(plane) if p.spec.node_name == "n2")
    plane.apply([asking(7)])
    plane.delete(late.key)
    plane.run_until(60 * S)
    assert sorted(p.spec.node_name for p in pods(plane) if p.status.phase == "Running").count("") == 0


def test_reasons_are_counted_per_node():
    bad = nodes({"cpu": "1", "memory": "1Gi"}, {"cpu": "4", "memory": "1Gi"}, {"cpu": "4", "memory": "8Gi"})
    bad[2] = replace(bad[2], unschedulable=True)
    plane = settle(bad, Draws(1))
    plane.apply([asking(1, "2", memory="2Gi")])
    plane.run_until(5 * S)
    said = [fact.detail for fact in plane.facts if fact.what is What.POD_UNSCHEDULABLE]
    told = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable, 2 Insufficient memory."
    assert said[0].startswith(told)


def test_a_node_takes_as_many_pods_as_it_says():
    plane = settle([*nodes({"pods": "2"}, {"pods": "1"}), deployment(4)], Draws(1))
    assert where(plane) == ["", "n1", "n1", "n2"]


def test_the_emptier_node_wins():
    """LeastAllocated: of two nodes with as many pods of the owner, the one with the larger share free."""
    plane = settle([*nodes({"cpu": "2", "memory": "4Gi"}, {"cpu": "8", "memory": "4Gi"}), asking(1)], Draws(1))
    assert where(plane) == ["n2"]


def test_made_nodes_have_a_size_and_nodes_without_one_take_everything():
    assert where(cluster(asking(4, "5"), nodes=3)) == ["", "node-1", "node-2", "node-3"]
    assert where(settle([*nodes({}), asking(4, "500")], Draws(1))) == ["n1"] * 4


def test_manifests_give_sizes_and_limits():
    text = """
apiVersion: v1
kind: Node
metadata: {name: a}
status: {capacity: {cpu: 2, memory: 4Gi}, allocatable: {cpu: 1930m, memory: 3Gi, pods: 17}}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  overhead: {cpu: 250m}
  containers: [{name: c, image: x, resources: {requests: {cpu: 1}, limits: {cpu: 2, memory: 1Gi}}}]
"""
    node, pod = load([SourceText("a.yaml", text)]).objects
    assert isinstance(node, Node)
    assert isinstance(pod, Pod)
    assert node.allocatable == {"cpu": "1930m", "memory": "3Gi", "pods": "17"}
    assert requests_of(pod.spec).asked == (1250, 1024**3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), min_size=1, max_size=4),
)
def test_no_node_is_ever_overcommitted(cpus, wanted):
    """Whatever the nodes and wishes are: bound requests stay within allocatable, and none waits that would fit."""
    sets = [asking(n, f"{tenths}00m", f"w{i}") for i, (n, tenths) in enumerate(wanted)]
    plane = settle([*nodes(*({"cpu": str(cpu), "pods": "5"} for cpu in cpus)), *sets], Draws(1))
    taken = {f"n{i}": [0, 0] for i in range(1, len(cpus) + 1)}
    waiting = []
    for pod in pods(plane):
        asked = requests_of(pod.spec).asked[0]
        if pod.spec.node_name:
            taken[pod.spec.node_name][0] += asked
            taken[pod.spec.node_name][1] += 1
        else:
            waiting.append(asked)
    for i, cpu in enumerate(cpus, 1):
        used, count = taken[f"n{i}"]
        assert used <= 1000 * cpu
        assert count <= 5
        assert count == 5 or all(asked > 1000 * cpu - used for asked in waiting)


def test_ended_pods_give_their_room_back():
    one = Pod(Meta("one", "default"), spec=PodSpec((container(requests={"cpu": "1"}),), restart_policy="Never"))
    two = replace(one, meta=Meta("two", "default"))
    plane = settle([*nodes({"cpu": "1"}), one], Draws(1))
    plane.apply([two])
    plane.run_until(5 * S)
    assert not plane.store.get(two.key).spec.node_name
    plane.crash(Key("Pod", "default", "one"))
    plane.run_until(20 * S)
    assert plane.store.get(one.key).status.phase == "Failed"
    assert plane.store.get(two.key).spec.node_name == "n1"
