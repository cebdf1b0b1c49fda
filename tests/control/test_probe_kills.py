"""What a liveness or startup probe that gives up does: the container restarts in the same sync of its pod."""

from dataclasses import replace

import pytest
from control_clusters import HTTP_READY, S, cluster, container, deployment, endpoints, first, pods, service

from kflab.control.facts import What
from kflab.manifest.objects import Meta
from kflab.manifest.objects_pods import Pod, Probe

QUICK = Probe("httpGet", 8080, "/live", period_s=2, failure=2)


def failing(box, until_s, seed=4, kinds=("liveness",), plane=None, **spec):
    """(plane, pod, facts of the pod) of a pod whose health endpoint answers 503 for ever."""
    plane = plane or cluster(deployment(box=box, **spec), service(), seed=seed)
    pod = pods(plane)[0].key
    plane.apps.fail_probes(pod, kinds, None)
    return plane, pod, [fact for fact in plane.run_until(until_s * S) if fact.subject == pod]


def rounds(facts):
    """(when it exited, when it was started again) of every restart, in s."""
    exits = [f.t_ns / S for f in facts if f.what is What.CONTAINER_EXITED]
    starts = [f.t_ns / S for f in facts if f.what is What.CONTAINER_STARTED]
    return list(zip(exits, starts, strict=False))


def test_restarts_by_liveness_are_at_once_until_the_back_off_is_longer_than_a_round():
    # k/k #99697: a pod killed every 70 s is in CrashLoopBackOff after its fifth restart, not after its first.
    box = container(liveness=Probe("httpGet", 8080, "/live", initial_delay_s=40))
    _, _, facts = failing(box, 900, grace_s=10)
    waits = [start - exit_ for exit_, start in rounds(facts)]
    assert all(wait < 1.6 for wait in waits[:5]), waits
    length = rounds(facts)[1][0] - rounds(facts)[0][0]
    assert 40 < length < 80, "between the back-off that the fifth kill finds and that which the sixth does"
    assert 80 <= waits[5] <= 80 + 15 + 2.6
    assert len([f for f in facts if f.what is What.BACK_OFF]) >= 1


def test_a_back_off_after_liveness_counts_from_the_end_of_the_run_that_was_killed():
    _, _, facts = failing(container(liveness=QUICK), 200, grace_s=1)
    waits = [start - exit_ for exit_, start in rounds(facts)]
    # Rounds of some 5 s: no entry at the first kill, none at the second, 10 s at the third.
    assert all(wait < 1.6 for wait in waits[:2]), waits
    assert 10 <= waits[2] <= 10 + 5 + 2.6


def test_a_container_without_readiness_probe_stays_ready_while_liveness_restarts_it():
    plane, pod, facts = failing(container(liveness=QUICK), 9)
    assert first(facts, What.CONTAINER_STARTED)
    assert "not ready" not in " ".join(f.text for f in facts if f.what is What.POD_STATUS_WRITTEN)
    assert endpoints(plane)[pod] == (True, True, False)
    status = plane.store.get(pod).status.containers[0]
    assert (status.restarts, status.state, status.exit_code) == (1, "running", 0)
    exited = first(facts, What.CONTAINER_EXITED).t_ns
    assert status.finished_ns == exited, "last state: terminated, with the time of its end"


def test_one_probe_gives_up_on_one_run_once():
    _, _, facts = failing(container(liveness=QUICK, readiness=HTTP_READY, pre_stop_sleep_s=20), 22)
    assert len([f for f in facts if f.what is What.PROBE_GAVE_UP]) == 1


def test_a_probe_may_have_a_grace_period_of_its_own():
    box = container(liveness=replace(QUICK, grace_s=3))
    plane = cluster(deployment(box=box, grace_s=60), service())
    pod = pods(plane)[0].key
    plane.apps.hang(pod)
    facts = plane.run_until(40 * S)
    gave_up, killed = first(facts, What.PROBE_GAVE_UP, pod), first(facts, What.SIGKILL_SENT, pod)
    assert killed.t_ns - gave_up.t_ns == 3 * S


def test_with_restart_policy_never_a_killed_container_stays_dead():
    template = deployment(1, container(liveness=QUICK), restart_policy="Never").template
    plane = cluster(Pod(Meta("once", "default", dict(template.labels)), spec=template.spec), service())
    pod = pods(plane)[0].key
    plane.apps.hang(pod)
    plane.run_until(60 * S)
    assert plane.store.get(pod).status.phase == "Failed"


@pytest.mark.parametrize("seed", range(3))
def test_a_pod_shows_running_while_its_startup_probe_has_not_passed(seed):
    startup = Probe("httpGet", 8080, "/up", failure=30)
    plane = cluster(deployment(box=container(startup=startup)), service(), seed=seed)
    key = deployment().key
    plane.apps.fail_probes(key, ("startup",), 40 * S)
    facts = [*plane.delete_pod(pods(plane)[0].key), *plane.run_until(20 * S)]
    made = first(facts, What.POD_CREATED).subject
    status = plane.store.get(made).status
    assert (status.phase, status.ready, status.containers[0].state) == ("Running", False, "running")


def test_crash_loop_back_off_shows_before_the_second_restart():
    # The sync that restarts a container writes first why the last one did not.
    plane = cluster()
    pod = pods(plane)[0].key
    plane.crash(pod)
    plane.run_until(20 * S)
    plane.crash(pod)
    seen = []
    while plane.now_ns < 40 * S:
        plane.run_until(plane.now_ns + S // 20)
        status = plane.store.get(pod).status.containers[0]
        if not seen or seen[-1] != (status.state, status.reason):
            seen.append((status.state, status.reason))
    assert seen == [("running", ""), ("terminated", "Error"), ("waiting", "CrashLoopBackOff"), ("running", "")]
