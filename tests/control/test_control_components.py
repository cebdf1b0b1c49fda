"""Components stopped and started: knowledge goes stale, traffic and containers go on."""

import pytest
from control_clusters import (
    PRODUCT,
    S,
    cluster,
    container,
    deployment,
    endpoints,
    first,
    pods,
    ready,
    service,
    times,
)

from kflab.control.facts import What
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service


def test_a_stopped_proxy_keeps_its_rules_and_catches_up_with_a_full_sync():
    plane = cluster()
    stale = plane.observers["kube-proxy/node-2"]
    before = stale.revision
    plane.stop("kube-proxy/node-2")
    plane.delete_pod(pods(plane)[0].key)
    facts = plane.run_until(20 * S)
    assert stale.revision == before
    assert {f.subject.name for f in facts if f.what is What.RULES_SYNCED} >= {"kube-proxy/node-1", "kube-proxy/node-3"}
    facts = [*plane.start("kube-proxy/node-2"), *plane.run_until(25 * S)]
    synced = first(facts, What.RULES_SYNCED)
    assert 0.2 * S <= synced.t_ns - 20 * S <= 0.7 * S
    assert stale.revision == plane.observers["kube-proxy/node-1"].revision


def test_a_proxy_stopped_in_the_middle_of_a_sync_does_not_finish_it():
    plane = cluster()
    plane.delete_pod(pods(plane)[0].key)
    while not times(plane.facts, What.ENDPOINTS_WRITTEN):
        plane.step()
    plane.run_until(plane.now_ns + 6_000_000)
    before = plane.observers["kube-proxy/node-2"].revision
    plane.stop("kube-proxy/node-2")
    plane.run_until(20 * S)
    assert plane.observers["kube-proxy/node-2"].revision == before


def test_a_stopped_kubelet_notices_nothing_and_looks_at_once_when_started():
    plane = cluster()
    victim = pods(plane)[0]
    plane.stop(f"kubelet/{victim.spec.node_name}")
    assert plane.next_relist_ns(victim.spec.node_name) is None
    plane.crash(victim.key)
    facts = plane.run_until(30 * S)
    assert not [f for f in facts if f.subject == victim.key]
    assert plane.store.get(victim.key).status.ready
    assert plane.runtime[victim.key].listening == ()
    facts = [*plane.start(f"kubelet/{victim.spec.node_name}"), *plane.run_until(40 * S)]
    assert first(facts, What.KUBELET_NOTICED, victim.key).t_ns - 30 * S < 0.1 * S
    assert len(ready(plane)) == 3


def test_a_pod_deleted_while_its_kubelet_is_stopped_stays_terminating():
    plane = cluster()
    victim = pods(plane)[0]
    plane.stop(f"kubelet/{victim.spec.node_name}")
    plane.delete_pod(victim.key)
    plane.run_until(30 * S)
    assert endpoints(plane)[victim.key] == (False, True, True)
    plane.run_until(60 * S)
    assert plane.store.get(victim.key).terminating
    assert plane.runtime[victim.key].listening == (("TCP", 8080),)
    assert endpoints(plane)[victim.key] == (False, False, True)  # its node is Unknown by now
    assert sum(not p.terminating for p in pods(plane)) == 3
    plane.start(f"kubelet/{victim.spec.node_name}")
    plane.run_until(80 * S)
    assert plane.store.get(victim.key) is None


def test_without_api_server_containers_restart_but_nobody_hears_of_it():
    plane = cluster()
    victim = pods(plane)[0].key
    plane.stop("apiserver")
    revision = plane.store.revision
    facts = [*plane.crash(victim), *plane.run_until(20 * S)]
    first(facts, What.KUBELET_NOTICED, victim)
    first(facts, What.CONTAINER_STARTED, victim)
    assert plane.store.revision == revision
    plane.start("apiserver")
    plane.run_until(120 * S)
    assert plane.store.get(victim).status.restarts == 1
    assert len(ready(plane)) == 3
    assert plane.next_ns() is None


@pytest.mark.parametrize("act", [
    lambda p: p.apply([service()]), lambda p: p.scale(PRODUCT, 1), lambda p: p.delete_pod(pods(p)[0].key),
])  # fmt: skip
def test_without_api_server_kubectl_is_refused(act):
    plane = cluster()
    plane.stop("apiserver")
    with pytest.raises(KflabError, match=r"The connection to the server .* was refused"):
        act(plane)


def test_what_waits_for_the_api_server_flows_when_it_is_back():
    plane = cluster()
    plane.scale(PRODUCT, 5)
    plane.stop("apiserver")
    plane.run_until(10 * S)
    assert len(pods(plane)) == 3
    plane.start("apiserver")
    plane.run_until(120 * S)
    assert len(ready(plane)) == 5
    assert all(o.revision >= plane.store.last_rule_change for o in plane.observers.values() if o.kind == "kube-proxy")


@pytest.mark.parametrize("name", ["kube-proxy/nowhere", "ingress/default/nobody", "kubelet", "coredns", ""])
def test_an_unknown_component_is_refused(name):
    with pytest.raises(
        KflabError, match=r"there are apiserver, etcd, controller-manager, .* kube-proxy/NODE and kubelet/NODE"
    ):
        cluster().stop(name)


def test_a_component_cannot_be_stopped_twice_or_started_while_it_runs():
    plane = cluster()
    plane.stop("kubelet/node-1")
    assert plane.components["kubelet/node-1"] == 0
    with pytest.raises(KflabError, match="stopped already"):
        plane.stop("kubelet/node-1")
    with pytest.raises(KflabError, match="runs already"):
        plane.start("kube-proxy/node-1")


def balanced(policy: str) -> Service:
    return service(type="LoadBalancer", external_traffic_policy=policy)


def test_under_local_only_nodes_with_a_ready_pod_are_healthy():
    plane = cluster(deployment(2), balanced("Local"), nodes=3)
    nodes = {p.spec.node_name for p in pods(plane)}
    lb = plane.balancers[Key("Service", "default", "product-service")]
    assert set(lb.healthy()) == nodes
    assert lb.registered() == ("node-1", "node-2", "node-3")
    assert lb.ips[0].startswith("198.51.100.")
    assert plane.store.get(lb.service).health_check_node_port >= 30000


def test_under_cluster_every_node_is_healthy():
    plane = cluster(deployment(1), balanced("Cluster"), nodes=3)
    assert plane.balancers[Key("Service", "default", "product-service")].healthy() == ("node-1", "node-2", "node-3")


@pytest.mark.parametrize("seed", range(5))
def test_a_load_balancer_leaves_a_node_after_two_failed_checks(seed):
    plane = cluster(deployment(2), balanced("Local"), nodes=2, seed=seed)
    lb = plane.balancers[Key("Service", "default", "product-service")]
    plane.stop("kube-proxy/node-2")
    facts = plane.run_until(60 * S)
    left = first(facts, What.LB_TARGETS_CHANGED)
    assert 10 * S <= left.t_ns <= 20 * S
    assert lb.healthy() == ("node-1",)
    assert lb.healthy_at(left.t_ns - 1) == ("node-1", "node-2")
    assert plane.next_ns() is None
    plane.start("kube-proxy/node-2")
    facts = plane.run_until(120 * S)
    assert 10 * S <= first(facts, What.LB_TARGETS_CHANGED).t_ns - 60 * S <= 20 * S


def test_a_short_crash_between_two_checks_goes_unseen_by_the_load_balancer():
    plane = cluster(deployment(2), balanced("Local"), nodes=2)
    due = plane.balancers[Key("Service", "default", "product-service")].targets["node-1"].phase_ns
    plane.run_until(due + S // 2)
    victim = next(p for p in pods(plane) if p.spec.node_name == "node-1")
    plane.crash(victim.key)
    facts = plane.run_until(due + 60 * S)
    assert not times(facts, What.LB_TARGETS_CHANGED)


def test_two_changes_within_a_second_use_the_burst_and_a_third_waits():
    plane = cluster(deployment(6), service(), nodes=1)
    plane.run_until(5 * S)
    starts = []
    for pod in pods(plane)[:3]:
        plane.delete_pod(pod.key)
        plane.run_until(plane.now_ns + S // 5)
    facts = plane.run_until(plane.now_ns + 2 * S)
    starts = [f.t_ns for f in plane.facts if f.what is What.RULES_SYNCED and f.subject.name == "kube-proxy/node-1"]
    assert facts
    assert starts[1] - starts[0] < 0.5 * S
    assert starts[2] - starts[1] > S


def test_probes_that_find_no_listener_keep_a_pod_out_and_say_why():
    from dataclasses import replace

    from control_clusters import HTTP_READY

    silent = deployment(1, box=container(readiness=HTTP_READY))
    silent = replace(silent, template=replace(silent.template, annotations={"kflab.dev/listens": "9090"}))
    plane = cluster(silent, service())
    assert [p.status.phase for p in pods(plane)] == ["Running"]
    assert ready(plane) == []
    assert list(endpoints(plane).values()) == [(False, False, False)]
    assert plane.next_ns() is None


def test_a_liveness_probe_without_listener_restarts_under_back_off():
    from dataclasses import replace

    from control_clusters import HTTP_READY

    dead = deployment(1, box=container(liveness=HTTP_READY))
    dead = replace(dead, template=replace(dead.template, annotations={"kflab.dev/listens": ""}))
    plane = cluster(dead)
    assert pods(plane)[0].status.restarts >= 2
    assert plane.next_ns() is not None


def test_startup_then_readiness_with_its_initial_delay():
    from control_clusters import HTTP_READY

    from kflab.manifest.objects_pods import Probe

    box = container(startup=HTTP_READY, readiness=Probe("tcpSocket", 8080, initial_delay_s=20, period_s=5, success=2))
    plane = cluster(deployment(1, box=box), service())
    victim = pods(plane)[0].key
    facts = [*plane.crash(victim), *plane.run_until(120 * S)]
    started = first(facts, What.CONTAINER_STARTED, victim).t_ns
    back = next(f.t_ns for f in facts if f.what is What.ENDPOINTS_WRITTEN and "1 ready" in f.text)
    assert 25 * S <= back - started <= 31 * S


def test_readiness_goes_on_during_termination_and_feeds_serving():
    from control_clusters import HTTP_READY

    from kflab.control.delays import Delays

    slow = Delays().with_overrides({"app_exit_s": 60})
    plane = cluster(deployment(2, box=container(readiness=HTTP_READY), grace_s=60), service(), delays=slow)
    victim = pods(plane)[0].key
    plane.delete_pod(victim)
    plane.run_until(10 * S)
    assert endpoints(plane)[victim] == (False, True, True)
    plane.run_until(45 * S)
    assert endpoints(plane)[victim] == (False, False, True)
