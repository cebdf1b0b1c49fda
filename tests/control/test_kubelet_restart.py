"""A kubelet that starts again knows of no probe and no back-off: what that does to pods that run."""

from dataclasses import replace

import pytest
from control_clusters import HTTP_READY, S, cluster, container, deployment, first, pods, ready, service

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.manifest.objects_pods import Probe

KUBELET = "kubelet/node-1"
KEEPS = Delays().with_overrides({"restart_keeps_status": 1})


def restarted(box, seed=1, before=None, delays=None, until_s=40):
    """(plane, pod on node-1, when its kubelet started again, facts of the pod since then)."""
    plane = cluster(deployment(box=box), service(), seed=seed, delays=delays)
    pod = next(p.key for p in pods(plane) if p.spec.node_name == "node-1")
    if before is not None:
        before(plane, pod)
    plane.run_until(plane.now_ns + 5 * S)
    plane.stop(KUBELET)
    plane.run_until(plane.now_ns + 2 * S)
    start = plane.now_ns
    facts = [*plane.start(KUBELET), *plane.run_until(start + until_s * S)]
    return plane, pod, start, [fact for fact in facts if fact.subject == pod]


def said(facts):
    return ["not ready" if "not ready" in f.text else "ready" for f in facts if f.what is What.POD_STATUS_WRITTEN]


@pytest.mark.parametrize("seed", range(6))
def test_a_ready_pod_with_a_readiness_probe_is_not_ready_for_a_moment_within_a_period(seed):
    _, _, start, facts = restarted(container(readiness=HTTP_READY), seed)
    assert said(facts) == ["not ready", "ready"]
    gone, back = (f.t_ns for f in facts if f.what is What.POD_STATUS_WRITTEN)
    assert 0.1 * S < gone - start < 11.05 * S, "kubelet_start_s, then a random part of the period of 10 s"
    assert back - gone < 0.15 * S


def test_a_pod_without_readiness_probe_stays_ready():
    _, _, _, facts = restarted(container(liveness=HTTP_READY))
    assert said(facts) == []


def test_from_1_35_on_it_stays_ready():
    _, _, _, facts = restarted(container(readiness=HTTP_READY), delays=KEEPS)
    assert said(facts) == []


def unready(plane, pod):
    plane.apps.fail_probes(pod, ("readiness",), None)
    plane.run_until(plane.now_ns + 40 * S)
    assert not plane.store.get(pod).status.ready


def test_a_pod_that_was_not_ready_is_ready_until_its_prober_begins():
    _, _, _, facts = restarted(container(readiness=HTTP_READY), before=unready)
    assert said(facts) == ["ready", "not ready"], "k/k #135795"


def test_from_1_35_on_a_pod_that_was_not_ready_stays_so():
    _, _, _, facts = restarted(container(readiness=HTTP_READY), before=unready, delays=KEEPS)
    assert said(facts) == []


def test_a_startup_probe_has_to_pass_again():
    # k/k #125397
    box = container(startup=Probe("httpGet", 8080, "/up", period_s=5), readiness=replace(HTTP_READY, period_s=1))
    plane, pod, _, facts = restarted(box)
    assert "not ready" in said(facts)
    assert plane.store.get(pod).status.ready


def test_failures_before_do_not_count():
    def failing(plane, pod):
        plane.apps.fail_probes(pod, ("liveness",), None)
        plane.run_until(plane.now_ns + 15 * S)  # one or two of three

    _, _, start, facts = restarted(container(liveness=replace(HTTP_READY, period_s=10)), before=failing)
    assert first(facts, What.PROBE_GAVE_UP).t_ns - start >= 20 * S


def crash_looping(plane, pod):
    for _ in range(4):
        plane.crash(pod)
        plane.run_until(plane.now_ns + 90 * S)
    plane.crash(pod)  # now it waits for 80 s


def test_a_container_in_back_off_restarts_at_once():
    _, pod, start, facts = restarted(container(), before=crash_looping)
    assert first(facts, What.CONTAINER_STARTED, pod).t_ns - start < (1 + 1.5) * S


def test_probers_of_pods_that_start_soon_after_the_kubelet_sleep_first():
    # A rebooted node: no readiness probe before a random part of its period is over (worker.go, run).
    times = []
    for seed in range(6):
        plane = cluster(deployment(box=container(readiness=replace(HTTP_READY, period_s=60))), service(), seed=seed)
        plane.run_until(1 * S)
        plane.machines.power_off("node-1")
        plane.run_until(20 * S)
        plane.machines.power_on("node-1")
        facts = plane.run_until(200 * S)
        pod = next(p.key for p in pods(plane) if p.spec.node_name == "node-1")
        begun = first(facts, What.CONTAINER_STARTED, pod).t_ns
        back = next(f.t_ns for f in facts if f.subject == pod and f.t_ns > begun and "is ready" in f.text)
        times.append((back - begun) / S)
        assert len(ready(plane)) == 3
    assert max(times) > 20, times
    assert max(times) < 61


def test_the_ticker_of_a_readiness_probe_starts_anew_with_the_probe_that_a_sync_runs():
    # k/k #119089: an application that listens after 3 s is asked again a period after the first time.
    plane = cluster(delays=Delays().with_overrides({"app_listen_s": 3}))
    plane.apply([deployment(box=container(readiness=HTTP_READY), name="late")])
    facts = plane.run_until(30 * S)
    for pod in pods(plane, app="late"):
        failed, written = first(facts, What.PROBE_FAILED, pod.key), plane.store.get(pod.key).status.ready_since_ns
        assert written == failed.t_ns + 10 * S
