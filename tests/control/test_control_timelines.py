"""The timelines of the fact sheet, section 4: what happens after what, and within which bounds."""

import pytest
from control_clusters import (
    HTTP_READY,
    MS,
    PRODUCT,
    SERVICE,
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

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.manifest.objects import Key


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("readiness", [None, HTTP_READY])
def test_a_crash_is_noticed_written_and_synced_in_order_and_in_time(seed, readiness):
    plane = cluster(deployment(box=container(readiness=readiness)), service(), seed=seed)
    victim = pods(plane)[seed % 3]
    plane.run_until(5 * S + seed * 97 * MS)
    start = plane.now_ns
    facts = [*plane.crash(victim.key), *plane.run_until(start + 20 * S)]

    exited = first(facts, What.CONTAINER_EXITED, victim.key)
    refused = first(facts, What.LISTENERS_CHANGED, victim.key)
    noticed = first(facts, What.KUBELET_NOTICED, victim.key)
    written = first(facts, What.POD_STATUS_WRITTEN, victim.key)
    sliced = first(facts, What.ENDPOINTS_WRITTEN)
    assert (exited.t_ns, refused.t_ns, refused.ports) == (start, start, ())
    assert start < noticed.t_ns <= start + 1.13 * S
    assert 10 * MS <= written.t_ns - noticed.t_ns <= 50 * MS
    assert 5 * MS <= sliced.t_ns - written.t_ns <= 50 * MS
    gone = {
        f.subject.name: f.t_ns for f in reversed(facts) if f.what is What.RULES_SYNCED and f.revision >= sliced.revision
    }
    gone.pop("coredns", None)
    assert set(gone) == {"kube-proxy/node-1", "kube-proxy/node-2", "kube-proxy/node-3"}
    assert all(25 * MS <= t - sliced.t_ns <= 1.2 * S for t in gone.values())
    assert all(0.1 * S <= t - start <= 2.5 * S for t in gone.values())

    started = first(facts, What.CONTAINER_STARTED, victim.key)
    assert 0.3 * S <= started.t_ns - noticed.t_ns <= 1.5 * S
    again = plane.store.get(victim.key)
    assert again.status.ready
    assert again.status.restarts == 1
    assert again.ip == victim.ip
    assert endpoints(plane)[victim.key] == (True, True, False)
    assert len(pods(plane)) == 3


def test_while_a_crashed_pod_is_out_its_endpoint_is_listed_but_not_ready():
    plane = cluster()
    victim = pods(plane)[0]
    facts = [*plane.crash(victim.key), *plane.run_until(1)]
    sliced = None
    while sliced is None:
        facts.extend(plane.step())
        sliced = next((f for f in facts if f.what is What.ENDPOINTS_WRITTEN), None)
    assert endpoints(plane)[victim.key] == (False, False, False)


def test_the_second_crash_waits_at_least_ten_seconds_and_the_third_twenty():
    plane = cluster()
    victim = pods(plane)[0].key
    waits = []
    for _ in range(4):
        facts = [*plane.crash(victim), *plane.run_until(plane.now_ns + 90 * S)]
        waits.append(first(facts, What.CONTAINER_STARTED, victim).t_ns - facts[0].t_ns)
    assert waits[0] < 2.7 * S
    for wait, least in zip(waits[1:], (10 * S, 20 * S, 40 * S), strict=True):
        assert least <= wait <= least + 15 * S + 2.7 * S


def test_back_off_shows_in_the_status_and_starts_again_after_ten_quiet_minutes():
    plane = cluster()
    victim = pods(plane)[0].key
    plane.crash(victim)
    plane.run_until(plane.now_ns + 30 * S)
    facts = [*plane.crash(victim), *plane.run_until(plane.now_ns + 1.2 * S // 1)]
    first(facts, What.BACK_OFF, victim)
    status = plane.store.get(victim).status.containers[0]
    assert (status.state, status.reason, status.exit_code) == ("terminated", "Error", 137)
    plane.run_until(plane.now_ns + 700 * S)
    facts = [*plane.crash(victim), *plane.run_until(plane.now_ns + 30 * S)]
    assert first(facts, What.CONTAINER_STARTED, victim).t_ns - facts[0].t_ns < 2.7 * S


@pytest.mark.parametrize("seed", range(8))
def test_a_graceful_delete_races_endpoints_against_sigterm(seed):
    plane = cluster(seed=seed)
    victim = pods(plane)[1]
    plane.run_until(3 * S)
    start = plane.now_ns
    facts = [*plane.delete_pod(victim.key), *plane.run_until(start + 20 * S)]

    assert facts[0].what is What.POD_DELETED
    noticed = first(facts, What.KUBELET_NOTICED, victim.key)
    sliced = first(facts, What.ENDPOINTS_WRITTEN)
    sigterm = first(facts, What.SIGTERM_SENT, victim.key)
    closed = first(facts, What.LISTENERS_CHANGED, victim.key)
    exited = first(facts, What.CONTAINER_EXITED, victim.key)
    gone = first(facts, What.ADDRESS_GONE, victim.key)
    removed = first(facts, What.POD_REMOVED, victim.key)
    assert 5 * MS <= noticed.t_ns - start <= 30 * MS
    assert 5 * MS <= sliced.t_ns - start <= 50 * MS
    assert sigterm.t_ns - start <= 60 * MS
    assert closed.t_ns == sigterm.t_ns
    assert exited.t_ns == sigterm.t_ns + 500 * MS
    assert exited.t_ns < gone.t_ns < removed.t_ns
    synced = times(facts, What.RULES_SYNCED)
    assert 0.03 * S <= min(synced) - start <= 1.5 * S
    created = first(facts, What.POD_CREATED)
    assert created.t_ns - start < 100 * MS
    assert victim.key not in endpoints(plane)
    assert len(ready(plane)) == 3


def test_a_deleted_pod_is_listed_as_serving_and_terminating_until_it_is_gone():
    plane = cluster()
    victim = pods(plane)[1].key
    plane.delete_pod(victim)
    plane.run_until(60 * MS)
    assert endpoints(plane)[victim] == (False, True, True)


def test_pre_stop_sleep_delays_sigterm_and_listening_goes_on():
    plane = cluster(deployment(box=container(pre_stop_sleep_s=5)), service())
    victim = pods(plane)[0].key
    facts = [*plane.delete_pod(victim), *plane.run_until(20 * S)]
    assert 5 * S <= first(facts, What.SIGTERM_SENT, victim).t_ns <= 5.06 * S
    assert first(facts, What.LISTENERS_CHANGED, victim).t_ns >= 5 * S


def test_an_application_that_does_not_end_is_killed_when_grace_is_over():
    slow = Delays().with_overrides({"app_exit_s": 60, "app_stop_listening_s": 60})
    plane = cluster(deployment(grace_s=8), service(), delays=slow)
    victim = pods(plane)[0].key
    facts = [*plane.delete_pod(victim), *plane.run_until(20 * S)]
    killed = first(facts, What.SIGKILL_SENT, victim)
    assert 8 * S <= killed.t_ns <= 8.1 * S
    assert "137" in first(facts, What.CONTAINER_EXITED, victim).text
    assert first(facts, What.LISTENERS_CHANGED, victim).t_ns == killed.t_ns


def test_pre_stop_that_eats_the_grace_leaves_two_seconds_for_sigterm():
    slow = Delays().with_overrides({"app_exit_s": 60})
    plane = cluster(deployment(box=container(pre_stop_sleep_s=30), grace_s=5), service(), delays=slow)
    victim = pods(plane)[0].key
    facts = [*plane.delete_pod(victim), *plane.run_until(20 * S)]
    sigterm, killed = first(facts, What.SIGTERM_SENT, victim), first(facts, What.SIGKILL_SENT, victim)
    assert 5 * S <= sigterm.t_ns <= 5.06 * S
    assert killed.t_ns - sigterm.t_ns == 2 * S


def test_a_forced_delete_takes_the_object_at_once_and_the_process_a_little_later():
    plane = cluster()
    victim = pods(plane)[0]
    facts = list(plane.delete_pod(victim.key, grace_s=0))
    assert plane.store.get(victim.key) is None
    assert victim.key in plane.runtime
    facts += plane.run_until(10 * S)
    assert first(facts, What.ADDRESS_GONE, victim.key).t_ns > first(facts, What.POD_REMOVED, victim.key).t_ns
    assert victim.key not in plane.runtime
    assert len(ready(plane)) == 3


def test_replacement_is_created_bound_started_probed_and_listed():
    plane = cluster(deployment(box=container(readiness=HTTP_READY)), service())
    facts = [*plane.delete_pod(pods(plane)[0].key), *plane.run_until(20 * S)]
    made = first(facts, What.POD_CREATED).subject
    chain = [
        first(facts, what, made).t_ns
        for what in (What.POD_CREATED, What.POD_SCHEDULED, What.CONTAINER_STARTED, What.POD_STATUS_WRITTEN)
    ]
    assert chain == sorted(chain)
    assert chain[1] - chain[0] < 50 * MS
    assert 0.4 * S <= chain[2] - chain[1] <= 1.6 * S
    listed = first(facts, What.ENDPOINTS_WRITTEN, after_ns=chain[3])
    assert 5 * MS <= listed.t_ns - chain[3] <= 50 * MS
    assert chain[3] - chain[0] < 5 * S
    assert endpoints(plane)[made] == (True, True, False)


@pytest.mark.parametrize("seed", range(6))
def test_a_new_service_is_known_to_every_node_soon_after(seed):
    plane = cluster(deployment(), seed=seed)
    plane.run_until(4 * S)
    facts = [*plane.apply([service()]), *plane.run_until(10 * S)]
    created = facts[0]
    assert created.what is What.APPLIED
    assert plane.store.get(SERVICE).cluster_ip.startswith("10.96.")
    known = {
        f.subject.name: f.t_ns
        for f in reversed(facts)
        if f.what is What.RULES_SYNCED and f.revision >= created.revision
    }
    assert len(known) == 4
    assert all(5 * MS <= t - created.t_ns <= 1.2 * S for t in known.values())
    assert 5 * MS <= known["coredns"] - created.t_ns <= 30 * MS
    assert len(endpoints(plane)) == 3
    assert all(o.revision >= plane.store.last_rule_change for o in plane.observers.values() if o.kind == "kube-proxy")


def test_scaling_up_and_down_changes_the_endpoints():
    plane = cluster()
    plane.scale(PRODUCT, 6)
    plane.run_until(20 * S)
    assert len(ready(plane)) == 6
    assert sum(e[0] is True for e in endpoints(plane).values()) == 6
    plane.scale(PRODUCT, 2)
    plane.run_until(40 * S)
    assert len(pods(plane)) == 2
    assert len(endpoints(plane)) == 2
    assert plane.store.get(PRODUCT).observed["readyReplicas"] == 2


def test_scaling_to_nothing_leaves_one_empty_slice():
    from control_clusters import slices

    plane = cluster()
    plane.scale(PRODUCT, 0)
    plane.run_until(20 * S)
    assert [s.endpoints for s in slices(plane)] == [()]
    assert plane.next_ns() is None


def test_nothing_is_due_in_a_settled_cluster():
    plane = cluster(deployment(box=container(readiness=HTTP_READY, liveness=HTTP_READY)), service())
    assert plane.next_ns() is None
    assert plane.facts == []
    assert all(p.status.ready for p in pods(plane))
    assert plane.store.get(Key("Deployment", "default", "product")).observed["availableReplicas"] == 3
