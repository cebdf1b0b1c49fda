"""Control-plane components stopped, slowed and started again: what each owns stops, and nothing else does."""

import pytest
from control_clusters import PRODUCT, S, cluster, endpoints, first, pods, ready, service, times

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.errors import KflabError
from kflab.manifest.objects import Key

MANAGER, SCHEDULER = "controller-manager", "scheduler"


def leads(plane, name, after_ns):
    return next(f.t_ns for f in plane.facts if f.t_ns > after_ns and f.text.startswith(f"{name} has got its lease"))


def test_without_a_controller_manager_a_crashed_container_restarts_but_its_slice_stays():
    plane = cluster()
    victim = pods(plane)[0].key
    plane.stop(MANAGER)
    plane.crash(victim)
    facts = plane.run_until(60 * S)
    assert times(facts, What.CONTAINER_STARTED)
    assert plane.store.get(victim).status.restarts == 1
    written = [f for f in facts if f.what is What.POD_STATUS_WRITTEN]
    assert len(written) >= 2  # not ready, and ready again
    assert times(facts, What.ENDPOINTS_WRITTEN) == []
    assert all(endpoint[0] for endpoint in endpoints(plane).values())


def test_without_a_controller_manager_a_deleted_pod_is_not_replaced_and_stays_listed():
    plane = cluster()
    victim = pods(plane)[0].key
    plane.stop(MANAGER)
    plane.delete_pod(victim)
    plane.run_until(60 * S)
    assert plane.store.get(victim) is None
    assert len(pods(plane)) == 2
    assert victim in endpoints(plane)
    plane.start(MANAGER)
    plane.run_until(120 * S)
    assert 15 * S <= leads(plane, MANAGER, 60 * S) - 60 * S <= 19.4 * S
    assert first([f for f in plane.facts if f.t_ns > 60 * S], What.ENDPOINTS_WRITTEN).t_ns > 75 * S
    assert victim not in endpoints(plane)
    assert len(ready(plane)) == 3


def test_without_a_controller_manager_a_dead_node_stays_ready_and_gets_the_whole_grace_period_afterwards():
    plane = cluster()
    plane.stop(MANAGER)
    plane.machines.power_off("node-2")
    plane.run_until(200 * S)
    assert plane.store.get(Key("Node", "", "node-2")).ready == "True"
    plane.start(MANAGER)
    plane.run_until(300 * S)
    began = leads(plane, MANAGER, 200 * S)
    assert 50 * S < first(plane.facts, What.NODE_READY_CHANGED).t_ns - began < 60.2 * S


def test_without_a_controller_manager_pods_of_a_deleted_deployment_stay():
    plane = cluster()
    plane.stop(MANAGER)
    plane.delete(PRODUCT)
    plane.run_until(60 * S)
    assert len(ready(plane)) == 3
    plane.start(MANAGER)
    plane.run_until(120 * S)
    assert pods(plane) == []
    assert list(plane.store.keys("ReplicaSet")) == []


def test_a_restarted_controller_manager_counts_tolerations_anew():
    plane = cluster()
    plane.machines.power_off("node-2")
    plane.run_until(200 * S)
    plane.stop(MANAGER)
    plane.start(MANAGER)
    plane.run_until(600 * S)
    began = leads(plane, MANAGER, 200 * S)
    assert 299 * S < first(plane.facts, What.POD_DELETED).t_ns - began < 311 * S


def test_without_a_scheduler_new_pods_stay_pending():
    plane = cluster()
    plane.stop(SCHEDULER)
    plane.scale(PRODUCT, 5)
    plane.run_until(60 * S)
    assert sum(not pod.spec.node_name for pod in pods(plane)) == 2
    plane.start(SCHEDULER)
    plane.run_until(120 * S)
    bound = first([f for f in plane.facts if f.t_ns > 60 * S], What.POD_SCHEDULED).t_ns
    assert bound >= leads(plane, SCHEDULER, 60 * S)
    assert len(ready(plane)) == 5


def test_stopped_again_while_it_waits_for_its_lease_it_never_leads():
    plane = cluster()
    plane.stop(SCHEDULER)
    plane.start(SCHEDULER)
    plane.run_until(5 * S)
    plane.stop(SCHEDULER)
    plane.scale(PRODUCT, 4)
    plane.run_until(60 * S)
    assert sum(not pod.spec.node_name for pod in pods(plane)) == 1
    plane.start(SCHEDULER)
    plane.run_until(90 * S)
    assert len(ready(plane)) == 4


@pytest.mark.parametrize("name", ["apiserver", "etcd"])
def test_a_short_outage_costs_no_election_and_a_long_one_does(name):
    for length, elected in ((8, False), (30, True)):
        plane = cluster()
        plane.stop(name)
        plane.run_until(length * S)
        plane.start(name)
        plane.run_until(200 * S)
        began = [f for f in plane.facts if "has got its lease" in f.text]
        assert bool(began) == elected, length
        if elected:
            assert {f.subject.name for f in began} == {MANAGER, SCHEDULER}
            assert all(15 * S <= f.t_ns - length * S <= 19.4 * S for f in began)
        assert plane.next_ns() is None


def test_no_node_is_unknown_after_an_outage_of_the_api_server():
    plane = cluster()
    plane.stop("apiserver")
    plane.run_until(300 * S)
    plane.start("apiserver")
    plane.run_until(600 * S)
    assert times(plane.facts, What.NODE_READY_CHANGED) == []


def test_a_node_that_died_while_nobody_could_write_is_found_afterwards():
    plane = cluster()
    plane.stop("apiserver")
    plane.run_until(10 * S)
    plane.machines.power_off("node-2")
    plane.run_until(200 * S)
    plane.start("apiserver")
    plane.run_until(400 * S)
    began = leads(plane, MANAGER, 200 * S)
    assert 50 * S < first(plane.facts, What.NODE_READY_CHANGED).t_ns - began < 60.2 * S


def test_without_etcd_nothing_is_written_and_kubectl_says_so():
    plane = cluster()
    victim = pods(plane)[0].key
    plane.stop("etcd")
    revision = plane.store.revision
    facts = [*plane.crash(victim), *plane.run_until(20 * S)]
    first(facts, What.CONTAINER_STARTED, victim)
    assert plane.store.revision == revision
    with pytest.raises(KflabError, match="etcdserver: request timed out"):
        plane.apply([service()])
    plane.start("etcd")
    plane.run_until(100 * S)
    assert plane.store.get(victim).status.restarts == 1


def test_a_slow_etcd_makes_every_write_later():
    waits = {}
    for by in (0, 2):
        plane = cluster()
        if by:
            plane.slow("etcd", by * S)
        plane.delete_pod(pods(plane)[0].key)
        plane.run_until(60 * S)
        waits[by] = first(plane.facts, What.ENDPOINTS_WRITTEN).t_ns
    assert waits[2] - waits[0] == 2 * S
    with pytest.raises(KflabError, match="must be below 7s"):
        plane.slow("etcd", 7 * S)
    plane.slow("etcd", 0)
    plane.run_until(100 * S)
    plane.delete_pod(pods(plane)[0].key)
    facts = plane.run_until(130 * S)
    assert first(facts, What.ENDPOINTS_WRITTEN).t_ns - 100 * S < 0.1 * S


def test_a_slow_api_server_tells_every_kube_proxy_later():
    after = {}
    for by in (0, 1):
        plane = cluster()
        if by:
            plane.slow("apiserver", by * S)
        plane.delete_pod(pods(plane)[0].key)
        plane.run_until(60 * S)
        written = first(plane.facts, What.ENDPOINTS_WRITTEN).t_ns
        synced = [f.t_ns for f in plane.facts if f.what is What.RULES_SYNCED and f.t_ns > written]
        after[by] = min(synced) - written
    assert after[0] < 0.5 * S
    assert S <= after[1] < 1.5 * S


def test_a_slow_kube_proxy_writes_its_rules_later_than_the_others():
    plane = cluster()
    plane.slow("kube-proxy/node-2", 5 * S)
    plane.delete_pod(pods(plane)[0].key)
    plane.run_until(20 * S)
    at = {f.subject.name: f.t_ns for f in reversed(plane.facts) if f.what is What.RULES_SYNCED}
    assert at["kube-proxy/node-2"] > at["kube-proxy/node-1"] + 4.5 * S
    with pytest.raises(KflabError, match="kubelet/node-2 cannot be slow"):
        plane.slow("kubelet/node-2", S)


def test_components_list_what_can_be_stopped():
    plane = cluster()
    assert list(plane.components)[:4] == ["apiserver", "etcd", MANAGER, SCHEDULER]
    plane.stop(SCHEDULER)
    assert plane.components[SCHEDULER] == 0


def test_every_controller_of_the_manager_says_so():
    """A controller whose work needs the API belongs to a process that can be stopped, or is known to be another."""
    plane = cluster()
    others = {
        "node", "kubelet", "termination", "status", "probes", "service", "lbsync", "proxysync", "ingresssync",
        "albsync", "podmetrics", "initfailures", "finite", "kubeletrestart", "podnetwork", "lbgates", "scaledown",
        "corednssync", "machines", "cloudnodes", "leaders", "apps", "podstart", "pressure", "drain", "shutdown",
        "noderuntimes", "staticpods", "poststart",
    }  # fmt: skip
    alone = {name for name, each in plane.core.controllers.items() if not each.component}
    assert alone <= others, "a new controller names its `component`, or is no part of the manager and listed here"


def test_a_profile_of_shorter_leases_is_possible():
    plane = cluster(delays=Delays().with_overrides({"leader_election_s": 3}))
    plane.stop(MANAGER)
    plane.start(MANAGER)
    plane.run_until(10 * S)
    assert leads(plane, MANAGER, 0) == 3 * S
