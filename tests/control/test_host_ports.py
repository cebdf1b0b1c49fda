"""Host ports: two pods of one node cannot both have one, so a rollout with a surge may have nowhere to go."""

from dataclasses import replace

import pytest
from control_clusters import S, cluster, container, deployment, pods, ready

from kflab.control.facts import What
from kflab.control.hostports import conflict, host_ports
from kflab.manifest.loader import load
from kflab.manifest.objects_pods import Container, ContainerPort, PodSpec
from kflab.manifest.objects_workloads import RollingUpdate
from kflab.manifest.sources import SourceText

EDGE = ContainerPort(8080, host_port=80)


def rolled(plane, before):
    plane.apply([replace(before, template=replace(before.template, annotations={"version": "2"}))])
    return plane.run_until(plane.now_ns + 60 * S)


def test_a_rollout_with_a_surge_waits_for_ever_where_every_node_has_the_port_taken():
    before = deployment(2, container(ports=(EDGE,)))
    plane = cluster(before, nodes=2)
    assert len({pod.spec.node_name for pod in ready(plane)}) == 2
    told = [fact.detail for fact in rolled(plane, before) if fact.what is What.POD_UNSCHEDULABLE]
    assert told == [
        "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports. preemption: 0/2 nodes "
        "are available: 2 No preemption victims found for incoming pod."
    ]
    assert [pod.status.phase for pod in pods(plane)] == ["Running", "Running", "Pending"]


def test_without_a_surge_the_new_pod_takes_the_port_when_the_old_one_is_gone():
    before = deployment(2, container(ports=(EDGE,)), RollingUpdate(max_surge=0, max_unavailable=1))
    plane = cluster(before, nodes=2)
    rolled(plane, before)
    assert [pod.meta.annotations for pod in ready(plane)] == [{"version": "2"}] * 2
    assert len({pod.spec.node_name for pod in ready(plane)}) == 2


def test_the_same_port_on_two_addresses_or_protocols_is_two_ports():
    text = """
apiVersion: v1
kind: Pod
metadata: {name: edge}
spec:
  hostNetwork: %s
  initContainers:
  - {name: side, restartPolicy: Always, ports: [{containerPort: 9, hostPort: 9, protocol: UDP}]}
  - {name: first, ports: [{containerPort: 7, hostPort: 7}]}
  containers:
  - {name: a, ports: [{containerPort: 53, hostPort: 53, hostIP: 10.0.0.1}, {containerPort: 8080}]}
"""
    for on_host, more in (("false", ()), ("true", (("TCP", 8080, "0.0.0.0"),))):
        (pod,) = load([SourceText("pod.yaml", text % on_host)]).objects
        assert host_ports(pod.spec) == (("TCP", 53, "10.0.0.1"), *more, ("UDP", 9, "0.0.0.0"))


@pytest.mark.parametrize(
    ("other", "clash"),
    [
        (("TCP", 53, "10.0.0.1"), True),
        (("TCP", 53, "10.0.0.2"), False),
        (("TCP", 53, "0.0.0.0"), True),
        (("UDP", 53, "10.0.0.1"), False),
        (("TCP", 54, "10.0.0.1"), False),
    ],
)
def test_an_address_of_its_own_conflicts_with_itself_and_with_all(other, clash):
    assert conflict(("TCP", 53, "10.0.0.1"), other) is clash
    assert conflict(other, ("TCP", 53, "10.0.0.1")) is clash


def test_a_pod_that_went_to_its_end_gives_its_ports_back():
    before = deployment(1, container(ports=(EDGE,)))
    plane = cluster(before, nodes=1)
    plane.scale(before.key, 2)
    plane.run_until(10 * S)
    assert sum(pod.status.phase == "Pending" for pod in pods(plane)) == 1
    (first,) = ready(plane)
    plane.core.put(replace(first, status=replace(first.status, phase="Failed", ready=False)), "test")
    plane.run_until(30 * S)
    assert [pod.spec.node_name != "" for pod in pods(plane)][:2] == [True, True]


def test_ports_of_init_containers_that_end_do_not_count():
    spec = PodSpec((Container("a", ports=(EDGE,)),), init_containers=(Container("b", ports=(EDGE,)),))
    assert host_ports(spec) == (("TCP", 80, "0.0.0.0"),)
