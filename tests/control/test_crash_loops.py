"""Containers that exit again and again, by code and by memory, and pods that are done."""

from dataclasses import replace

import pytest
from control_clusters import HTTP_READY, S, cluster, container, deployment, endpoints, first, pods, service

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.control.pod_verbs import POD_VERBS
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.kubectl.events import events_from
from kflab.kubectl.printers import cells
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import Pod, PodSpec

PRODUCT = Key("Deployment", "default", "product")


def starts(facts, pod):
    return [f.t_ns for f in facts if f.what is What.CONTAINER_STARTED and f.subject == pod]


def exits(facts, pod):
    return [f.t_ns for f in facts if f.what is What.CONTAINER_EXITED and f.subject == pod]


def looping(seed=7, minutes=20, **delays):
    """(pod, facts) of a pod that exits 5 s after each start."""
    plane = cluster(deployment(1), service(), seed=seed, delays=Delays(**delays))
    pod = pods(plane)[0].key
    facts = plane.said_by(lambda: plane.apps.loop(PRODUCT, 5 * S, 2, None))
    return plane, pod, [*facts, *plane.run_until(minutes * 60 * S)]


@pytest.mark.parametrize("seed", range(5))
def test_back_off_doubles_to_five_minutes_and_ends_at_the_next_retry(seed):
    _, pod, facts = looping(seed, minutes=30)
    waits = [start - end for end, start in zip(exits(facts, pod), starts(facts, pod), strict=False)]
    series = [0, 10, 20, 40, 80, 160, 300, 300]
    assert len(waits) >= len(series)
    for wait, least in zip(waits, series, strict=False):
        # A retry every 10 to 15 s, a relist of at most 1.06 s before the first, up to 1.5 s to make the container.
        assert least * S <= wait <= (least + (15 if least else 1.06) + 1.5 + 0.1) * S


@pytest.mark.parametrize("seed", range(5))
def test_from_1_35_on_the_retry_is_due_when_back_off_ends(seed):
    _, pod, facts = looping(seed, minutes=30, crash_retry_at_end=1.0)
    waits = [start - end for end, start in zip(exits(facts, pod), starts(facts, pod), strict=False)]
    for wait, least in zip(waits, [0, 10, 20, 40, 80, 160, 300], strict=False):
        last = min(least, 60)  # only the last stretch can overshoot, by half of it at most
        assert least * S <= wait <= (least + last / 2 + 1.06 + 1.5 + 0.1) * S


def test_a_lower_cap_is_kept():
    _, pod, facts = looping(minutes=15, crash_backoff_max_s=60.0)
    waits = [start - end for end, start in zip(exits(facts, pod), starts(facts, pod), strict=False)]
    assert max(waits) <= 77 * S
    assert sum(wait > 55 * S for wait in waits) > 3


def test_kubectl_shows_crashloopbackoff_with_restarts_and_their_age():
    plane, pod, _ = looping(minutes=1)
    while plane.store.get(pod).status.containers[0].state != "waiting":
        plane.step()
    obj = plane.store.get(pod)
    status = obj.status.containers[0]
    assert (status.reason, status.exit_code, status.restarts) == ("CrashLoopBackOff", 2, 3)
    ago = (plane.now_ns - status.finished_ns) // S
    assert 10 <= ago <= 16
    assert cells(obj, plane.now_ns, False)[1:4] == ("0/1", "CrashLoopBackOff", f"3 ({ago}s ago)")


def test_the_loop_ends_and_new_pods_take_part_in_it():
    plane, pod, _ = looping(minutes=1)
    plane.scale(PRODUCT, 2)
    plane.run_until(90 * S)
    fresh = next(p.key for p in pods(plane) if p.key != pod)
    assert plane.runtime[fresh].containers[0].starts > 1
    plane.apps.end_loop(PRODUCT)
    plane.run_until(20 * 60 * S)
    assert all(p.status.ready for p in pods(plane))
    with pytest.raises(KflabError, match="does not crash"):
        plane.apps.end_loop(PRODUCT)


def test_out_of_memory_is_137_oomkilled_and_stays_in_the_last_state():
    plane = cluster()
    pod = pods(plane)[0].key
    facts = list(VERBS["oomKill"].do(plane, pod, {}))
    assert "137 (OOMKilled)" in facts[0].text
    written = []
    while not written:
        found = plane.step()
        written = [f for f in found if f.what is What.POD_STATUS_WRITTEN]
    dead = plane.store.get(pod).status.containers[0]
    assert (dead.state, dead.reason, dead.exit_code) == ("terminated", "OOMKilled", 137)
    plane.run_until(10 * S)
    again = plane.store.get(pod).status.containers[0]
    assert (again.state, again.ended, again.restarts) == ("running", "OOMKilled", 1)


@pytest.mark.parametrize(
    ("policy", "code", "phase", "restarts"),
    [
        ("Never", 0, "Succeeded", 0),
        ("Never", 3, "Failed", 0),
        ("OnFailure", 0, "Succeeded", 0),
        ("OnFailure", 3, "Running", 1),
        ("Always", 0, "Running", 1),
    ],
)
def test_restart_policy_and_exit_code_decide_the_phase(policy, code, phase, restarts):
    pod = Pod(Meta("task", "default", {"app": "product"}), spec=PodSpec((container(),), restart_policy=policy))
    plane = cluster(pod, service())
    assert endpoints(plane)[pod.key] == (True, True, False)
    VERBS["exit"].do(plane, pod.key, {"code": code})
    facts = plane.run_until(10 * S)
    status = plane.store.get(pod.key).status
    assert (status.phase, status.restarts) == (phase, restarts)
    gone = phase in ("Succeeded", "Failed")
    assert (pod.key in endpoints(plane)) == (not gone)
    assert (pod.key in plane.runtime) == (not gone), "a finished pod has no sandbox"
    assert any(f.what is What.ADDRESS_GONE for f in facts) == gone


def test_failing_readiness_takes_every_pod_out_and_restarts_none():
    plane = cluster(deployment(box=container(readiness=HTTP_READY, liveness=HTTP_READY)), service())
    facts = [*VERBS["failReadiness"].do(plane, PRODUCT, {"for": 50 * S}), *plane.run_until(49 * S)]
    assert [ready for ready, _, _ in endpoints(plane).values()] == [False] * 3
    out = [f.t_ns for f in facts if f.what is What.POD_STATUS_WRITTEN]
    assert all(20 * S <= t <= 30.1 * S for t in out)
    said = [e.message for e in events_from(facts, plane.store) if e.reason == "Unhealthy"]
    assert said[0] == "Readiness probe failed: HTTP probe failed with statuscode: 503"
    plane.run_until(61 * S)
    assert all(p.status.ready and p.status.restarts == 0 for p in pods(plane))


def test_liveness_on_a_shared_dependency_restarts_everything():
    plane = cluster(deployment(box=container(readiness=HTTP_READY, liveness=HTTP_READY)), service())
    VERBS["failReadiness"].do(plane, PRODUCT, {"for": 100 * S, "liveness": True})
    facts = plane.run_until(90 * S)
    assert all(p.status.restarts >= 1 for p in pods(plane))
    killed = [e.message for e in events_from(facts, plane.store) if e.reason == "Killing" and "liveness" in e.message]
    assert killed[0] == "Container api failed liveness probe, will be restarted"


def test_startup_probes_hold_the_others_back_and_give_up_in_the_end():
    box = container(startup=HTTP_READY, readiness=HTTP_READY, liveness=HTTP_READY)
    patient = replace(box, startup=replace(HTTP_READY, failure=6))
    plane = cluster(deployment(1, patient), service(), delays=Delays(app_listen_s=25.0))
    pod = pods(plane)[0].key
    facts = [*plane.crash(pod), *plane.run_until(40 * S)]
    restarted = first(facts, What.CONTAINER_STARTED, pod).t_ns
    failed = [f for f in facts if f.what is What.PROBE_FAILED]
    assert {f.detail.partition(" ")[0] for f in failed} == {"Startup"}
    ready = [f for f in facts if f.what is What.POD_STATUS_WRITTEN and f.text.endswith("is ready")]
    assert 25 * S <= ready[0].t_ns - restarted <= 36 * S

    plane = cluster(deployment(1, box), service())
    pod = pods(plane)[0].key
    VERBS["failReadiness"].do(plane, PRODUCT, {"liveness": True})
    facts = [*plane.crash(pod), *plane.run_until(60 * S)]
    gave_up = first(facts, What.PROBE_GAVE_UP, pod)
    assert "startup probe failed 3 times" in gave_up.text
    assert 20 * S <= gave_up.t_ns - first(facts, What.CONTAINER_STARTED, pod).t_ns <= 31 * S


def test_every_pod_verb_says_what_it_takes():
    for verb in POD_VERBS:
        assert VERBS[verb.name] is verb
        assert verb.what
        assert ("{name}" in verb.said) == (verb.target != "none")
    with pytest.raises(KflabError, match="0 to 255"):
        VERBS["exit"].do(cluster(), Key("Pod", "default", "x"), {"code": 256})
