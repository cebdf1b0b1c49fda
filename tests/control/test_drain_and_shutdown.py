"""A node emptied in order: cordon, drain with budgets, graceful shutdown, the out-of-service taint."""

from dataclasses import replace

import pytest
from control_clusters import LABELS, S, cluster, container, deployment, endpoints, first, pods, service, times

from kflab.control.facts import What
from kflab.control.made import client_pod
from kflab.errors import KflabError
from kflab.manifest.objects import Key, LabelSelector, Meta
from kflab.manifest.objects_pods import Pod, PodSpec, PodTemplate
from kflab.manifest.objects_workloads import DaemonSet, PodDisruptionBudget

NODE = Key("Node", "", "node-2")


def budget(**fields):
    return PodDisruptionBudget(Meta("product", "default"), selector=LabelSelector(LABELS), **fields)


def on(plane, node="node-2"):
    return [pod for pod in pods(plane) if pod.spec.node_name == node]


def drain(plane, force=False, ignore_daemonsets=False, grace_s=None):
    plane.drains.drain("node-2", grace_s, force=force, ignore_daemonsets=ignore_daemonsets)


def test_a_cordoned_node_gets_no_new_pods_and_keeps_those_it_has():
    plane = cluster()
    there = on(plane)
    plane.drains.cordon("node-2", True)
    plane.scale(Key("Deployment", "default", "product"), 9)
    plane.run_until(30 * S)
    assert on(plane) == there
    assert {(t.key, t.effect) for t in plane.store.get(NODE).taints} == {
        ("node.kubernetes.io/unschedulable", "NoSchedule")
    }
    assert "cordoned" in plane.core.states[NODE]
    plane.drains.cordon("node-2", False)
    plane.run_until(40 * S)
    assert plane.store.get(NODE).taints == ()
    assert NODE not in plane.core.states


def test_drain_moves_pods_gracefully():
    plane = cluster()
    gone = on(plane)[0].key
    drain(plane)
    plane.run_until(60 * S)
    assert on(plane) == []
    assert plane.store.get(NODE).unschedulable
    assert sum(pod.status.ready for pod in pods(plane)) == 3
    assert first(plane.facts, What.SIGTERM_SENT, gone)
    assert first(plane.facts, What.DRAIN_ENDED, NODE).text == "node node-2 was drained"


def test_drain_asks_again_every_five_seconds_until_the_budget_allows_it():
    slow = container(readiness=None)
    plane = cluster(deployment(3, slow), service(), budget(min_available=3), nodes=3)
    gone = on(plane)[0].key
    drain(plane)
    plane.run_until(32 * S)
    assert not plane.store.get(gone).terminating
    assert len([f for f in plane.facts if f.what is What.EVICTION_REFUSED]) == 1  # said once, tried seven times
    plane.scale(Key("Deployment", "default", "product"), 4)
    plane.run_until(60 * S)
    evicted = first(plane.facts, What.POD_EVICTED, gone).t_ns
    ready = first([f for f in plane.facts if f.t_ns > 32 * S], What.ENDPOINTS_WRITTEN).t_ns
    assert ready < evicted < ready + 5.3 * S
    assert first(plane.facts, What.DRAIN_ENDED, NODE)


def test_two_pods_of_one_budget_leave_one_after_the_other():
    plane = cluster(deployment(4), service(), budget(max_unavailable=1), nodes=2)
    there = [pod.key for pod in on(plane)]
    assert len(there) == 2
    drain(plane)
    plane.run_until(90 * S)
    evicted = [first(plane.facts, What.POD_EVICTED, key).t_ns for key in there]
    assert 5 * S <= abs(evicted[0] - evicted[1])
    assert on(plane) == []


def test_pods_without_a_controller_and_daemons_stop_a_drain_unless_told_otherwise():
    labels = {"app": "agent"}
    template = PodTemplate(labels, {}, PodSpec((container(),)))
    daemons = DaemonSet(Meta("agent", "default", labels), selector=LabelSelector(labels), template=template)
    bare = Pod(Meta("bare", "default"), spec=PodSpec((container(),), node_name="node-2"))
    plane = cluster(deployment(), service(), daemons, bare)
    with pytest.raises(KflabError) as refused:
        drain(plane)
    assert str(refused.value).startswith(
        'unable to drain node "node-2" due to error: [cannot delete Pods that declare no controller'
    )
    assert "(use --force to override): default/bare" in str(refused.value)
    assert "DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/agent-" in str(refused.value)
    assert not plane.store.get(NODE).unschedulable
    drain(plane, force=True, ignore_daemonsets=True)
    plane.run_until(60 * S)
    assert [pod.meta.owner.kind for pod in on(plane)] == ["DaemonSet"]


def test_the_client_pod_that_the_lab_made_stops_no_drain_and_stays():
    """An SRE drains the node of their manifests: a pod that they never wrote is not what must be forced."""
    (client,) = client_pod().objects
    client = replace(client, spec=replace(client.spec, node_name="node-2"))
    plane = cluster(deployment(), service(), client)
    drain(plane)
    plane.run_until(60 * S)
    assert [pod.key for pod in on(plane)] == [client.key]
    assert first(plane.facts, What.DRAIN_ENDED, NODE).text == "node node-2 was drained"


def test_a_drain_ends_with_an_error_when_the_api_server_goes_away():
    plane = cluster(deployment(3), service(), budget(min_available=3))
    drain(plane)
    plane.run_until(7 * S)
    plane.stop("apiserver")
    plane.run_until(20 * S)
    ended = first(plane.facts, What.DRAIN_ENDED, NODE)
    assert "ended: error when evicting" in ended.text
    assert "The connection to the server" in ended.text
    plane.start("apiserver")
    plane.run_until(60 * S)
    assert len(on(plane)) == 1


# --- shutdown ------------------------------------------------------------------------------------------------


def test_a_graceful_shutdown_ends_pods_before_the_machine_and_leaves_them_failed():
    plane = cluster()
    plane.run_until(10 * S)
    pod = on(plane)[0]
    plane.shutdowns.begin("node-2", 30 * S, 10 * S)
    plane.run_until(60 * S)
    facts = plane.facts
    not_ready = first(facts, What.NODE_READY_CHANGED, NODE)
    assert not_ready.text.startswith("node node-2 is NotReady")
    assert not_ready.t_ns < 10.1 * S
    exited = first(facts, What.CONTAINER_EXITED, pod.key)
    assert "code 0 after SIGTERM" in exited.text
    off = first(facts, What.MACHINE_OFF, NODE).t_ns
    assert exited.t_ns < off < 17 * S
    ended = plane.store.get(pod.key)
    assert (ended.status.phase, ended.status.reason, ended.terminating) == ("Failed", "Terminated", False)
    assert pod.key not in endpoints(plane)
    assert sum(each.status.ready for each in pods(plane)) == 3  # replaced as soon as it had failed
    replaced = first([f for f in facts if f.t_ns > exited.t_ns], What.POD_CREATED).t_ns
    assert replaced < exited.t_ns + 1 * S


def test_until_it_has_ended_its_endpoint_stays_ready():
    plane = cluster(deployment(3, container(pre_stop_sleep_s=8)), service())
    plane.run_until(10 * S)
    pod = on(plane)[0].key
    plane.shutdowns.begin("node-2", 30 * S, 10 * S)
    plane.run_until(15 * S)
    assert endpoints(plane)[pod] == (True, True, False)
    plane.run_until(40 * S)
    assert pod not in endpoints(plane)


def test_a_pod_that_takes_too_long_is_killed_when_its_part_is_over():
    plane = cluster(deployment(3, container(pre_stop_sleep_s=60), grace_s=90), service())
    plane.run_until(10 * S)
    pod = on(plane)[0].key
    plane.shutdowns.begin("node-2", 30 * S, 10 * S)
    plane.run_until(60 * S)
    assert 29 * S < first(plane.facts, What.CONTAINER_EXITED, pod).t_ns < 33 * S
    assert first(plane.facts, What.MACHINE_OFF, NODE).t_ns < 47 * S


def test_a_pod_that_was_being_deleted_has_no_more_time_than_the_shutdown_gives_it():
    plane = cluster(deployment(3, container(pre_stop_sleep_s=60), grace_s=90), service())
    plane.run_until(10 * S)
    pod = on(plane)[0].key
    plane.delete_pod(pod)
    plane.run_until(15 * S)
    plane.shutdowns.begin("node-2", 30 * S, 10 * S)
    plane.run_until(60 * S)
    assert 34 * S < first(plane.facts, What.CONTAINER_EXITED, pod).t_ns < 38 * S


def test_without_a_grace_period_it_is_a_power_loss():
    plane = cluster()
    plane.run_until(10 * S)
    plane.shutdowns.begin("node-2", 0, 0)
    assert times(plane.facts, What.SIGTERM_SENT) == []
    assert not plane.core.reachable("node-2")


def test_after_it_the_node_comes_back_empty():
    plane = cluster()
    plane.run_until(10 * S)
    pod = on(plane)[0].key
    plane.shutdowns.begin("node-2", 30 * S, 10 * S)
    plane.run_until(100 * S)
    assert plane.store.get(NODE).ready == "Unknown"
    plane.machines.power_on("node-2")
    plane.run_until(200 * S)
    assert plane.store.get(NODE).ready == "True"
    assert plane.store.get(pod).status.phase == "Failed"
    assert plane.store.get(NODE).taints == ()


@pytest.mark.parametrize(
    ("grace", "critical", "said"), [(10, 20, "cannot be longer"), (30, 10, "kubelet/node-2 is stopped")]
)
def test_a_shutdown_that_cannot_be_is_refused(grace, critical, said):
    plane = cluster()
    plane.stop("kubelet/node-2")
    with pytest.raises(KflabError, match=said):
        plane.shutdowns.begin("node-2", grace * S, critical * S)


def test_a_copy_made_while_a_node_shuts_down_shuts_it_down_too():
    plane = cluster()
    plane.run_until(10 * S)
    plane.shutdowns.begin("node-2", 30 * S, 10 * S)
    plane.run_until(int(10.2 * S))
    twin = plane.copy()
    ahead = twin.run_until(60 * S)
    assert What.MACHINE_OFF in {fact.what for fact in ahead}
    assert plane.run_until(60 * S) == ahead


# --- out of service ------------------------------------------------------------------------------------------


def test_the_out_of_service_taint_frees_the_pods_of_a_dead_node():
    plane = cluster()
    plane.run_until(10 * S)
    pod = on(plane)[0].key
    plane.machines.power_off("node-2")
    plane.run_until(80 * S)
    plane.node_life.set_out_of_service("node-2", True)
    plane.run_until(110 * S)
    assert plane.store.get(pod) is None
    forced = first(plane.facts, What.POD_REMOVED, pod).t_ns
    assert 80 * S < forced < 100.1 * S  # the garbage collector looks every 20 s
    assert sum(each.status.ready for each in pods(plane)) == 3
