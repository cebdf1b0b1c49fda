"""The end of pods with several containers, and when their objects go."""

from dataclasses import replace

import pytest
from control_clusters import HTTP_READY, S, cluster, container, deployment, endpoints, first, pods, service

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.manifest.objects_pods import Container

SLOW = Container("slow", "proxy:v1", pre_stop_sleep_s=20)


@pytest.mark.parametrize(("failure", "after"), [(3, (20, 31)), (1, (0, 11))])
def test_a_pod_that_goes_serves_by_its_probes_until_its_last_container_has_ended(failure, after):
    # The worker of the pod is busy stopping it (kubelet.go, SyncTerminatingPod), so nobody writes that one has ended.
    template = deployment(box=container(readiness=replace(HTTP_READY, failure=failure)), grace_s=60).template
    spec = replace(template.spec, containers=(*template.spec.containers, replace(SLOW, pre_stop_sleep_s=40)))
    plane = cluster(replace(deployment(), template=replace(template, spec=spec)), service())
    pod = pods(plane)[0].key
    facts = list(plane.delete_pod(pod))
    facts += plane.run_until(38 * S)
    exited = first(facts, What.CONTAINER_EXITED, pod)
    written = next(f for f in facts if f.what is What.POD_STATUS_WRITTEN and f.subject == pod)
    assert "not ready" in written.text
    assert after[0] * S <= written.t_ns - exited.t_ns <= after[1] * S
    assert endpoints(plane)[pod] == (False, False, True)


def test_without_readiness_probe_it_serves_to_the_end():
    spec = replace(deployment().template.spec, containers=(container(), SLOW))
    template = replace(deployment().template, spec=spec)
    plane = cluster(replace(deployment(), template=template), service())
    pod = pods(plane)[0].key
    plane.delete_pod(pod)
    plane.run_until(15 * S)
    assert endpoints(plane)[pod] == (False, True, True)


def test_the_object_of_a_pod_goes_at_a_relist_after_its_end():
    waits = []
    for seed in range(12):
        plane = cluster(seed=seed, delays=Delays().with_overrides({"pod_removal_s": 0.1}))
        pod = pods(plane)[0].key
        facts = [*plane.delete_pod(pod), *plane.run_until(10 * S)]
        waits.append((first(facts, What.POD_REMOVED).t_ns - first(facts, What.ADDRESS_GONE).t_ns) / S)
    assert min(waits) >= 0.16
    assert max(waits) <= 0.1 + 1.06 + 0.06
    assert max(waits) - min(waits) > 0.3


def test_a_forced_delete_leaves_a_pre_stop_hook_one_second():
    plane = cluster(deployment(box=container(pre_stop_sleep_s=20)), service())
    pod = pods(plane)[0].key
    facts = [*plane.delete_pod(pod, grace_s=0), *plane.run_until(20 * S)]
    assert 1 * S <= first(facts, What.SIGTERM_SENT, pod).t_ns <= 1.07 * S


def test_of_a_pre_stop_hook_whole_seconds_count():
    delays = Delays().with_overrides({"app_exit_s": 60, "pre_stop_exec_s": 1.6})
    plane = cluster(deployment(box=container(pre_stop_hook=True), grace_s=8), service(), delays=delays)
    pod = pods(plane)[0].key
    facts = [*plane.delete_pod(pod), *plane.run_until(20 * S)]
    learned, killed = first(facts, What.KUBELET_NOTICED, pod), first(facts, What.SIGKILL_SENT, pod)
    assert killed.t_ns - learned.t_ns == 8.6 * S
