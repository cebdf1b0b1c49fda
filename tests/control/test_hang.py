"""Timeline B of the fact sheet: a process hangs, and nobody but its probes can tell."""

from dataclasses import replace

import pytest
from control_clusters import HTTP_READY, MS, S, cluster, container, deployment, endpoints, first, pods, service

from kflab.control.facts import What
from kflab.errors import KflabError
from kflab.manifest.objects_pods import Probe

HTTP_LIVE = replace(HTTP_READY, path="/live")


def hanging(seed, box, for_s=None, **spec):
    """(plane, pod, start, facts until 120 s after it hung)."""
    plane = cluster(deployment(box=box, **spec), service(), seed=seed)
    pod = pods(plane)[seed % 3].key
    plane.run_until(5 * S + seed * 613 * MS)
    start = plane.now_ns
    facts = plane.said_by(lambda: plane.apps.hang(pod, for_ns=None if for_s is None else for_s * S))
    return plane, pod, start, [*facts, *plane.run_until(start + 120 * S)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("period", "timeout", "failure"), [(10, 1, 3), (5, 2, 1), (2, 3, 2)])
def test_readiness_notices_a_hang_after_its_threshold_of_timeouts(seed, period, timeout, failure):
    probe = replace(HTTP_READY, period_s=period, timeout_s=timeout, failure=failure)
    plane, pod, start, facts = hanging(seed, container(readiness=probe))

    written = first(facts, What.POD_STATUS_WRITTEN, pod)
    between = max(period, timeout)  # a probe that takes longer than its period is followed by the next at once
    least = (failure - 1) * between + timeout
    assert least * S <= written.t_ns - start <= (least + period) * S + 50 * MS
    assert "not ready" in written.text
    sliced = first(facts, What.ENDPOINTS_WRITTEN)
    assert 5 * MS <= sliced.t_ns - written.t_ns <= 50 * MS
    assert not plane.store.get(pod).status.ready
    assert endpoints(plane)[pod] == (False, False, False)
    assert plane.store.get(pod).status.restarts == 0, "readiness restarts nothing"
    failed = [f for f in facts if f.what is What.PROBE_FAILED]
    assert len(failed) == failure + 1, "the sync that follows asks once more (prober_manager.go, UpdatePodStatus)"
    assert "context deadline exceeded" in failed[0].detail


@pytest.mark.parametrize("seed", range(6))
def test_liveness_kills_it_with_sigkill_after_the_grace_period_and_the_first_restart_is_at_once(seed):
    plane, pod, start, facts = hanging(seed, container(readiness=HTTP_READY, liveness=HTTP_LIVE), grace_s=7)

    gave_up = first(facts, What.PROBE_GAVE_UP, pod)
    assert 21 * S <= gave_up.t_ns - start <= 31 * S
    sigterm, sigkill = first(facts, What.SIGTERM_SENT, pod), first(facts, What.SIGKILL_SENT, pod)
    assert gave_up.t_ns <= sigterm.t_ns <= gave_up.t_ns + 30 * MS
    assert sigkill.t_ns - gave_up.t_ns == 7 * S
    exited = first(facts, What.CONTAINER_EXITED, pod)
    assert exited.t_ns == sigkill.t_ns
    assert "137" in exited.text
    started = first(facts, What.CONTAINER_STARTED, pod)
    assert 0.3 * S <= started.t_ns - exited.t_ns <= 1.5 * S + 1.13 * S
    assert plane.store.get(pod).status.ready
    assert not plane.runtime[pod].hanging
    assert plane.core.states.get(pod) is None


def test_a_process_that_goes_on_answers_the_probe_that_waits_for_it():
    _, _, _, facts = hanging(1, container(readiness=replace(HTTP_READY, failure=1, timeout_s=20)), for_s=15)
    assert not [f for f in facts if f.what in (What.PROBE_FAILED, What.POD_STATUS_WRITTEN)]


def test_readiness_comes_back_when_the_process_goes_on():
    plane, pod, start, facts = hanging(2, container(readiness=HTTP_READY), for_s=45)
    written = [f for f in facts if f.what is What.POD_STATUS_WRITTEN]
    assert ["not ready" in f.text for f in written] == [True, False]
    assert 45 * S <= written[1].t_ns - start <= 56 * S
    assert plane.store.get(pod).status.ready


@pytest.mark.parametrize("action", ["tcpSocket", "exec"])
def test_a_probe_that_asks_only_the_kernel_or_a_process_of_its_own_sees_no_hang(action):
    plane, pod, _, facts = hanging(3, container(readiness=Probe(action, 8080 if action == "tcpSocket" else None)))
    assert plane.store.get(pod).status.ready
    assert [f.what for f in facts if f.subject == pod] == [What.PROCESS_HUNG]


def test_sigterm_that_came_while_it_hung_is_acted_on_when_it_goes_on():
    plane = cluster()
    pod = pods(plane)[0].key
    plane.apps.hang(pod, for_ns=8 * S)
    facts = [*plane.delete_pod(pod), *plane.run_until(plane.now_ns + 60 * S)]
    exited = first(facts, What.CONTAINER_EXITED, pod)
    assert exited.t_ns == 8.5 * S, "app_exit_s after it went on"
    assert not [f for f in facts if f.what is What.SIGKILL_SENT]


def test_a_hang_is_refused_where_it_makes_no_sense():
    plane = cluster()
    pod = pods(plane)[0].key
    plane.apps.hang(pod)
    with pytest.raises(KflabError, match="hangs already"):
        plane.apps.hang(pod)
    with pytest.raises(KflabError, match="no running container sidecar"):
        plane.apps.hang(pod, "sidecar")
    plane.crash(pod)
    with pytest.raises(KflabError, match="nothing hangs"):
        plane.apps.resume(pod)


def test_a_process_that_hangs_after_sigterm_is_killed_at_the_end_of_its_grace_period():
    plane = cluster()
    pod = pods(plane)[0].key
    plane.delete_pod(pod, 10)
    plane.run_until(300 * MS)
    facts = [*plane.said_by(lambda: plane.apps.hang(pod)), *plane.run_until(60 * S)]
    sigkill = first(facts, What.SIGKILL_SENT, pod)
    assert 10 * S < sigkill.t_ns <= 10 * S + 30 * MS
    relist = 1060 * MS  # the pod's worker waits for one after the end (pod_workers.go, GetNewerThan)
    assert first(facts, What.POD_REMOVED, pod).t_ns <= sigkill.t_ns + relist + 900 * MS
