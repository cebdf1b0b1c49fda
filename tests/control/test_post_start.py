"""postStart hooks: what waits for them, and what becomes of a container whose hook fails."""

from dataclasses import replace

import pytest
from control_clusters import S, cluster, container, deployment, endpoints, pods, service

from kflab.control.facts import What
from kflab.control.plane import ControlPlane
from kflab.manifest.loader import load
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Container, ContainerPort, LifecycleHandler, Pod
from kflab.manifest.sources import SourceText

SLEEP_5 = LifecycleHandler("sleep", 5)
EXEC = LifecycleHandler("exec")


def starting(*boxes: Container, **annotations: str) -> tuple[ControlPlane, Key]:
    """A cluster in which the one pod of a Deployment is being made."""
    given = {f"kflab.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    made = deployment(0, box=boxes[0])
    spec = replace(made.template.spec, containers=boxes)
    plane = cluster(replace(made, template=replace(made.template, annotations=given, spec=spec)), service())
    plane.scale(made.key, 1)
    plane.run_until(S // 10)
    return plane, pods(plane)[0].key


def at(plane: ControlPlane, what: What, key: Key) -> list[float]:
    return [fact.t_ns / S for fact in plane.facts if fact.what is what and fact.subject == key]


def pod(plane: ControlPlane, key: Key) -> Pod:
    found = plane.store.get(key)
    assert isinstance(found, Pod)
    return found


def ready_at(plane: ControlPlane, key: Key, within_s: int = 60) -> float:
    while not pod(plane, key).status.ready and plane.now_ns < within_s * S:
        plane.step()
    assert pod(plane, key).status.ready
    return plane.now_ns / S


def test_a_pod_is_not_running_before_its_hook_has_ended_though_its_process_listens():
    plane, key = starting(container(post_start=SLEEP_5))
    plane.run_until(5 * S)
    (started,) = at(plane, What.CONTAINER_STARTED, key)
    assert plane.runtime[key].listening == (("TCP", 8080),)
    assert pod(plane, key).status.phase == "Pending"
    assert pod(plane, key).status.containers[0].reason == "ContainerCreating"
    assert not any(ready for ready, _, _ in endpoints(plane).values())
    assert 5 < ready_at(plane, key) - started < 6.3  # the hook, a relist, the write


def test_containers_after_it_start_when_it_has_ended():
    second = Container("second", "second:v1", (ContainerPort(9090),))
    plane, key = starting(container(post_start=SLEEP_5), second)
    plane.run_until(20 * S)
    first_at, second_at = at(plane, What.CONTAINER_STARTED, key)
    assert 5 < second_at - first_at < 6
    assert pod(plane, key).status.ready


def test_no_probe_runs_meanwhile():
    plane, key = starting(container(post_start=SLEEP_5), starts_in="4s")
    ready_at(plane, key)
    assert not at(plane, What.PROBE_FAILED, key)


@pytest.mark.parametrize(
    ("hook", "annotations"),
    [
        (EXEC, {"post_start_exit_code": "1", "post_start": "1s"}),
        (LifecycleHandler("httpGet", port=8080), {"starts_in": "3s"}),
        (LifecycleHandler("tcpSocket"), {}),
    ],
)
def test_a_hook_that_fails_stops_its_container_which_restarts_like_one_that_crashed(hook, annotations):
    plane, key = starting(container(post_start=hook), **annotations)
    plane.run_until(60 * S)
    failed = at(plane, What.POST_START_FAILED, key)
    starts = at(plane, What.CONTAINER_STARTED, key)
    assert len(failed) >= 3
    assert starts[1] - failed[0] < 5
    assert starts[2] - failed[1] > 10
    status = pod(plane, key).status
    assert not status.ready
    assert status.containers[0].reason in ("PostStartHookError", "CrashLoopBackOff")
    assert status.restarts >= 2
    assert at(plane, What.SIGTERM_SENT, key)


def test_the_status_says_why_until_it_waits_for_its_back_off():
    plane, key = starting(container(post_start=LifecycleHandler("tcpSocket")))
    seen: dict[str, None] = {}
    while plane.now_ns < 40 * S:
        plane.step()
        seen.update((status.reason, None) for status in pod(plane, key).status.containers)
    assert list(seen) == ["ContainerCreating", "PostStartHookError", "CrashLoopBackOff"]


def test_a_request_is_answered_by_whoever_listens_at_once():
    plane, key = starting(container(post_start=LifecycleHandler("httpGet", port=8080)), post_start="1s")
    (started,) = [ready_at(plane, key) and at(plane, What.CONTAINER_STARTED, key)[0]]
    assert 1 < ready_at(plane, key) - started < 2.4
    assert not at(plane, What.POST_START_FAILED, key)


def test_a_command_ends_with_its_container():
    plane, key = starting(container(post_start=LifecycleHandler("exec", 30)))
    plane.run_until(4 * S)
    plane.crash(key)
    plane.run_until(12 * S)
    assert at(plane, What.POST_START_FAILED, key)[0] == pytest.approx(4)
    assert len(at(plane, What.CONTAINER_STARTED, key)) == 2


def test_a_sleep_goes_on_when_the_container_has_crashed_and_nobody_notices_before():
    plane, key = starting(container(post_start=LifecycleHandler("sleep", 20)))
    plane.run_until(4 * S)
    plane.crash(key)
    plane.run_until(18 * S)
    assert len(at(plane, What.CONTAINER_STARTED, key)) == 1
    plane.run_until(30 * S)
    assert len(at(plane, What.CONTAINER_STARTED, key)) == 2
    assert not at(plane, What.POST_START_FAILED, key)


def test_a_pod_deleted_meanwhile_ends_at_once():
    plane, key = starting(container(post_start=LifecycleHandler("sleep", 60)))
    plane.run_until(4 * S)
    plane.delete_pod(key)
    plane.run_until(9 * S)
    assert plane.store.get(key) is None


def test_a_kubelet_that_starts_again_does_not_wait_for_a_hook_it_does_not_know_of():
    plane, key = starting(container(post_start=LifecycleHandler("sleep", 60)))
    plane.run_until(4 * S)
    node = pod(plane, key).spec.node_name
    plane.stop(f"kubelet/{node}")
    plane.run_until(6 * S)
    plane.start(f"kubelet/{node}")
    assert ready_at(plane, key) < 25
    assert len(at(plane, What.CONTAINER_STARTED, key)) == 1


def test_a_cluster_opens_with_pods_whose_hooks_are_over():
    plane = cluster(deployment(2, box=container(post_start=LifecycleHandler("sleep", 9))), service())
    assert [one.status.ready for one in pods(plane)] == [True, True]


def test_hooks_are_read_and_shown_as_they_are_written():
    text = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: a, image: x, lifecycle: {postStart: {exec: {command: [sh, -c, sleep 3]}}}}
  - {name: b, image: x, lifecycle: {postStart: {httpGet: {path: /warm, port: http}}}}
  - {name: c, image: x, lifecycle: {postStart: {sleep: {seconds: 2}}}}
  - {name: d, image: x, lifecycle: {postStart: {exec: {command: [/warm.sh]}}}}
"""
    (made,) = load([SourceText("pod.yaml", text)]).objects
    assert isinstance(made, Pod)
    assert [box.post_start for box in made.spec.containers] == [
        LifecycleHandler("exec", 3),
        LifecycleHandler("httpGet", port="http"),
        LifecycleHandler("sleep", 2),
        LifecycleHandler("exec"),
    ]
