"""A container runtime that hangs: what its kubelet does not do any more, when it says so, and what goes on."""

import pytest
from control_clusters import HTTP_READY, S, cluster, container, deployment, endpoints, pods, service

from kflab.control.facts import What
from kflab.control.noderuntimes import RUNTIME_HANGS
from kflab.control.plane import ControlPlane
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod, Probe

NODE = Key("Node", "", "node-2")


def hung(box=None, replicas: int = 3, **options: int | bool) -> tuple[ControlPlane, Pod]:
    """A cluster whose node-2 has a hung runtime, and the pod there."""
    plane = cluster(deployment(replicas, box=box or container(readiness=HTTP_READY)), service())
    VERBS["hangRuntime"].do(plane, NODE, options)
    return plane, next(pod for pod in pods(plane) if pod.spec.node_name == "node-2")


def resume(plane: ControlPlane) -> None:
    VERBS["resumeRuntime"].do(plane, NODE, {})


def readiness(plane: ControlPlane) -> list[tuple[float, str]]:
    """When the node's Ready condition was written, and the sentence about it."""
    return [(f.t_ns / S, f.text) for f in plane.facts if f.what is What.NODE_READY_CHANGED and f.subject == NODE]


def listed(plane: ControlPlane, pod: Pod) -> bool:
    return bool(endpoints(plane)[pod.key][0])


@pytest.mark.parametrize(
    ("listing", "least", "most", "why"),
    [(False, 25, 40, "container runtime is down"), (True, 178, 190, "PLEG is not healthy")],
)
def test_the_node_says_not_ready_and_its_pods_keep_their_endpoints(listing, least, most, why):
    plane, pod = hung(listingOnly=listing)
    plane.run_until(most * S + S // 10)
    ((at_s, text),) = readiness(plane)
    assert least <= at_s <= most
    assert text == f"node node-2 is NotReady: kubelet on node-2 posted it: {why}"
    plane.run_until((most + 60) * S)
    assert listed(plane, pod)
    assert plane.runtime[pod.key].up


def test_pods_are_evicted_after_five_minutes_and_end_when_the_runtime_answers():
    plane, pod = hung()
    plane.run_until(360 * S)
    assert plane.store.get(pod.key).terminating
    assert pod.key not in endpoints(plane) or not listed(plane, pod)
    assert plane.runtime[pod.key].up
    assert sum(one.status.ready and not one.terminating for one in pods(plane)) == 3
    assert not [f for f in plane.facts if f.what is What.SIGTERM_SENT]
    resume(plane)
    plane.run_until(380 * S)
    assert plane.store.get(pod.key) is None
    assert readiness(plane)[-1][1].startswith("node node-2 is Ready")


def test_nobody_notices_a_crash_before_and_the_container_restarts_after():
    plane, pod = hung(box=container())
    plane.crash(pod.key)
    plane.run_until(100 * S)
    assert not plane.runtime[pod.key].up
    assert plane.store.get(pod.key).status.ready
    assert listed(plane, pod)
    resume(plane)
    plane.run_until(115 * S)
    assert plane.runtime[pod.key].up
    assert plane.store.get(pod.key).status.restarts == 1


def test_a_failing_http_probe_counts_until_the_sync_loop_stands_still():
    early, pod = hung(box=container(readiness=Probe("httpGet", 8080, period_s=2, failure=3)))
    early.crash(pod.key)
    early.run_until(10 * S)
    assert not listed(early, pod)
    late, pod = hung(box=container(readiness=Probe("httpGet", 8080, period_s=2, failure=3)))
    late.run_until(60 * S)
    late.crash(pod.key)
    late.run_until(120 * S)
    assert listed(late, pod)
    resume(late)
    late.run_until(late.now_ns + 5 * S + S // 2)
    seen = [
        f.text for f in late.facts if f.what is What.POD_STATUS_WRITTEN and f.subject == pod.key and f.t_ns >= 120 * S
    ]
    assert "not ready" in seen[0]


def test_a_command_neither_passes_nor_fails_while_the_runtime_hangs():
    probe = Probe("exec", period_s=2, failure=2)
    plane, pod = hung(box=container(readiness=probe, liveness=probe))
    plane.apps.fail_probes(pod.key, ("readiness", "liveness"), None)
    plane.run_until(60 * S)
    assert plane.store.get(pod.key).status.ready
    assert not [f for f in plane.facts if f.what is What.PROBE_FAILED]
    resume(plane)
    plane.run_until(75 * S)
    assert [f for f in plane.facts if f.what is What.PROBE_GAVE_UP]


def test_new_pods_of_the_node_wait_and_start_when_it_answers():
    plane, _ = hung()
    plane.scale(Key("Deployment", "default", "product"), 6)
    plane.run_until(20 * S)
    waiting = [pod for pod in pods(plane) if pod.spec.node_name == "node-2" and not pod.status.ready]
    assert waiting
    assert sum(pod.status.ready for pod in pods(plane)) == 6 - len(waiting)
    resume(plane)
    plane.run_until(30 * S)
    assert sum(pod.status.ready for pod in pods(plane)) == 6


def test_a_short_hang_is_no_news_to_the_api():
    plane, _ = hung(**{"for": 20 * S})
    plane.run_until(100 * S)
    assert readiness(plane) == []
    assert NODE not in plane.core.states


def test_a_kubelet_that_starts_finds_it_unhealthy_at_once():
    plane, _ = hung()
    plane.run_until(5 * S)
    plane.stop("kubelet/node-2")
    plane.start("kubelet/node-2")
    plane.run_until(16 * S)
    assert "container runtime is down" in readiness(plane)[0][1]


def test_power_ends_it_and_what_makes_no_sense_is_refused():
    plane, pod = hung()
    with pytest.raises(KflabError, match="hangs already"):
        VERBS["hangRuntime"].do(plane, NODE, {})
    assert RUNTIME_HANGS in plane.core.states[NODE]
    plane.machines.power_off("node-2")
    with pytest.raises(KflabError, match="does not hang"):
        resume(plane)
    with pytest.raises(KflabError, match="no power"):
        VERBS["hangRuntime"].do(plane, NODE, {})
    plane.machines.power_on("node-2")
    plane.run_until(150 * S)
    assert plane.runtime[pod.key].up
    assert plane.store.get(pod.key).status.ready


def test_a_copy_goes_its_own_way():
    plane, pod = hung()
    plane.delete_pod(pod.key)
    plane.run_until(10 * S)
    twin = plane.copy()
    resume(twin)
    twin.run_until(20 * S)
    plane.run_until(20 * S)
    assert twin.store.get(pod.key) is None
    assert plane.store.get(pod.key).terminating
