"""How a pod's containers come up: images one at a time, init containers in order, sidecars before the others."""

from dataclasses import replace
from itertools import pairwise

import pytest
from control_clusters import HTTP_READY, S, cluster, container, deployment, endpoints, first, pods, service

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.control.verbs import VERBS
from kflab.kubectl.events import events_from
from kflab.kubectl.printers import cells
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Container

PRODUCT = Key("Deployment", "default", "product")
PROXY = Container("proxy", "proxy:v1", restart_policy="Always")


def scaled(plane, replicas, within_s=300):
    """Facts after a scale, and the pods that it made."""
    before = {pod.key for pod in pods(plane)}
    facts = [*plane.scale(PRODUCT, replicas), *plane.run_until(plane.now_ns + within_s * S)]
    return facts, [pod.key for pod in pods(plane) if pod.key not in before]


def one_more(plane):
    """Scale from 0 to 1, and go on until the pod is there."""
    plane.scale(PRODUCT, 1)
    while not pods(plane):
        plane.step()
    return pods(plane)[0].key


def started(facts, pod):
    return [(f.text.partition(" of ")[0], f.t_ns / S) for f in facts
            if f.what is What.CONTAINER_STARTED and f.subject == pod]  # fmt: skip


def statuses(plane, pod, until_s):
    """kubectl's STATUS column of a pod, as it changes."""
    seen = []
    while plane.now_ns < until_s * S and plane.next_ns() is not None:
        plane.step()
        obj = plane.store.get(pod)
        text = cells(obj, plane.now_ns, False)[2] if obj is not None else ""
        if text and text != (seen[-1] if seen else ""):
            seen.append(text)
    return seen


def test_a_node_pulls_an_image_once_and_one_at_a_time():
    slow = Delays(image_pull_s=(20.0, 20.0))
    plane = cluster(deployment(1), service(), nodes=1, delays=slow)
    facts, (fresh,) = scaled(plane, 2)
    assert started(facts, fresh)[0][1] < 2, "the image is on the node"

    plane = cluster(deployment(0), service(), nodes=1, delays=slow)
    facts, both = scaled(plane, 2)
    times = sorted(started(facts, pod)[0][1] for pod in both)
    assert 20 < times[0] < 22
    assert times[1] - times[0] < 1.5, "the second pull finds the first one's layers"

    own = Delays(image_pull_s=(20.0, 20.0))
    plane = cluster(deployment(0, container(image="a:v1")), deployment(0, container(image="b:v1"), name="other"),
                    service(), nodes=1, delays=own)  # fmt: skip
    plane.scale(Key("Deployment", "default", "other"), 1)
    facts, both = scaled(plane, 1)
    one, two = sorted(started(facts, pod)[0][1] for pod in both)
    assert 19 < two - one < 21, "the second image waits for the first"


def test_kubelets_that_do_not_serialize_pulls_pull_side_by_side_and_wait_for_shared_layers():
    delays = Delays(image_pull_s=(20.0, 20.0), serialize_image_pulls=0.0)
    plane = cluster(deployment(0, container(image="a:v1")), deployment(0, container(image="b:v1"), name="other"),
                    service(), nodes=1, delays=delays)  # fmt: skip
    plane.scale(Key("Deployment", "default", "other"), 1)
    facts, three = scaled(plane, 2)
    times = [started(facts, pod)[0][1] for pod in three]
    assert all(20 < t < 22 for t in times)


def test_an_image_nobody_has_backs_off_and_never_starts():
    made = deployment(1, container(image="shop:v2"))
    bad = replace(made, template=replace(made.template, annotations={"kflab.dev/missing-images": "shop:v2"}))
    plane = cluster(replace(bad, replicas=0), service())
    pod = one_more(plane)
    seen = statuses(plane, pod, 200)
    assert seen[:4] == ["Pending", "ContainerCreating", "ErrImagePull", "ImagePullBackOff"]
    facts = plane.facts
    failed = [f.t_ns / S for f in facts if f.what is What.IMAGE_FAILED]
    gaps = [two - one for one, two in pairwise(failed)]
    for gap, least in zip(gaps, (10, 20, 40), strict=False):
        assert least <= gap <= least + 15 + 3
    assert started(facts, pod) == []
    assert endpoints(plane).get(pod) in (None, (False, False, False))
    said = {(e.reason, e.message) for e in events_from(facts, plane.store) if e.about == pod}
    assert ("Failed", 'Failed to pull image "shop:v2": not found') in said
    assert ("BackOff", 'Back-off pulling image "shop:v2"') in said


@pytest.mark.parametrize("seed", range(4))
def test_each_sync_shows_why_the_one_before_could_not_have_the_image(seed):
    # As kubectl get -w shows it: ErrImagePull after some 3 s, ImagePullBackOff 10 to 15 s later, and so on in turn.
    bad = deployment(0, container(image="shop:v2"))
    bad = replace(bad, template=replace(bad.template, annotations={"kflab.dev/missing-images": "shop:v2"}))
    plane = cluster(bad, service(), seed=seed)
    pod = one_more(plane)
    shown = []
    while plane.now_ns < 60 * S:
        plane.step()
        reason = plane.store.get(pod).status.containers[:1]
        if reason and (not shown or shown[-1][0] != reason[0].reason):
            shown.append((reason[0].reason, plane.now_ns / S))
    names, times = zip(*shown, strict=True)
    assert names[1:5] == ("ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff")
    assert 0.8 < times[1] < 4.3
    for one, two in pairwise(times[1:5]):
        assert 10 <= two - one <= 15 + 3.1
    backing_off = [f.t_ns / S for f in plane.facts if f.what is What.IMAGE_BACK_OFF]
    assert backing_off[0] - times[1] < 0.1, "the sync that shows ErrImagePull is in back-off itself"


@pytest.mark.parametrize(("policy", "reason"), [("Always", "ErrImagePull"), ("IfNotPresent", ""), ("", "")])
def test_a_registry_that_is_down_stops_only_who_asks_it(policy, reason):
    plane = cluster(deployment(1, container(pull_policy=policy)), service(), nodes=1)
    VERBS["registryDown"].do(plane, Key("", "", ""), {"for": 60 * S})
    _, (fresh,) = scaled(plane, 2, 8)
    assert plane.store.get(fresh).status.ready == (not reason)
    assert not reason or plane.store.get(fresh).status.containers[0].reason in (reason, "ImagePullBackOff")
    plane.run_until(200 * S)
    assert plane.store.get(fresh).status.ready


def test_pull_policy_never_needs_the_image():
    slow = Delays(image_pull_s=(5.0, 5.0))
    plane = cluster(deployment(0, container(pull_policy="Never")), service(), delays=slow)
    assert statuses(plane, one_more(plane), 40) == ["Pending", "ContainerCreating", "ErrImageNeverPull"]


def with_inits(*inits, **spec):
    made = deployment(0, **spec)
    return replace(made, template=replace(made.template, spec=replace(made.template.spec, init_containers=inits)))


def test_init_containers_run_in_order_before_the_others():
    inits = (Container("migrate", "tool:v1"), Container("warm", "tool:v1"))
    plane = cluster(with_inits(*inits), service(), delays=Delays(init_container_s=(4.0, 4.0)))
    pod = one_more(plane)
    assert statuses(plane, pod, 30) == ["Pending", "Init:0/2", "Init:1/2", "PodInitializing", "Running"]
    facts = plane.facts
    assert [name for name, _ in started(facts, pod)] == ["api"]
    assert 8.4 < started(facts, pod)[0][1] < 9.6
    done = plane.store.get(pod).status
    assert [(s.name, s.state, s.exit_code) for s in done.inits] == [
        ("migrate", "terminated", 0), ("warm", "terminated", 0),
    ]  # fmt: skip
    assert done.ready
    assert done.phase == "Running"


def test_a_sidecar_starts_first_and_holds_the_others_until_its_startup_probe_passes():
    slow = replace(PROXY, startup=replace(HTTP_READY, port=15000, period_s=2, failure=30))
    plane = cluster(with_inits(slow), service(), delays=Delays(app_listen_s=7.0))
    facts, (pod,) = scaled(plane, 1, 60)
    (one, t_one), (two, t_two) = started(facts, pod)
    assert (one, two) == ("proxy", "api")
    assert 7 <= t_two - t_one <= 9.2 + 0.5
    assert cells(plane.store.get(pod), plane.now_ns, False)[1] == "2/2"


def test_a_sidecar_is_restarted_whatever_the_pod_says_and_the_app_goes_on():
    plane = cluster(with_inits(PROXY), service())
    _, (pod,) = scaled(plane, 1, 20)
    plane.apps.exit(pod, 1, container="proxy")
    facts = plane.run_until(plane.now_ns + 10 * S)
    assert [name for name, _ in started(facts, pod)] == ["proxy"]
    assert plane.store.get(pod).status.restarts == 1
    assert plane.runtime[pod].container("api").starts == 1


def test_sidecars_stop_last_in_reverse_order_within_the_one_grace_period():
    second = replace(PROXY, name="logger")
    plane = cluster(with_inits(PROXY, second), service(), delays=Delays(app_exit_s=3.0))
    _, (pod,) = scaled(plane, 1, 20)
    start = plane.now_ns
    facts = [*plane.delete_pod(pod), *plane.run_until(start + 60 * S)]
    exits = [(f.text.partition(" ")[0], (f.t_ns - start) / S) for f in facts if f.what is What.CONTAINER_EXITED]
    assert [name for name, _ in exits] == ["api", "logger", "proxy"]
    assert [round(t) for _, t in exits] == [3, 6, 9]

    start, (pod,) = plane.now_ns, [p.key for p in pods(plane)]
    facts = [*plane.delete_pod(pod, 4), *plane.run_until(start + 60 * S)]
    exits = [(f.text.partition(" ")[0], (f.t_ns - start) / S) for f in facts if f.what is What.CONTAINER_EXITED]
    assert [name for name, _ in exits[:1]] == ["api"]
    assert max(t for _, t in exits) <= 6.1, "at the end of the grace period all get SIGTERM, and 2 s"
    assert first(facts, What.SIGKILL_SENT, pod)


def test_a_pod_deleted_before_its_kubelet_saw_it_never_starts():
    plane = cluster(deployment(0), service(), delays=Delays(kubelet_watch_s=(0.5, 0.5)))
    pod = one_more(plane)
    while not plane.store.get(pod).spec.node_name:
        plane.step()
    plane.delete_pod(pod)
    plane.scale(PRODUCT, 0)
    facts = plane.run_until(60 * S)
    assert plane.store.get(pod) is None
    assert not started(facts, pod)


def test_a_container_that_dies_before_the_kubelet_first_looks_is_restarted():
    plane = cluster(deployment(0), service(), delays=Delays(pleg_relist_s=5.0))
    VERBS["crashLoop"].do(plane, PRODUCT, {"after": S // 2, "for": 8 * S})
    pod = one_more(plane)
    plane.run_until(100 * S)
    status = plane.store.get(pod).status
    assert (status.ready, status.restarts > 0) == (True, True)


def test_what_follows_an_init_container_begins_at_the_relist_that_finds_its_end():
    waits = []
    inits = (Container("one", "one:v1"), Container("two", "two:v1"))
    for seed in range(10):
        plane = cluster(deployment(0, container(), init_containers=inits), service(), seed=seed)
        _, (pod,) = scaled(plane, 1, 20)
        one, two = plane.store.get(pod).status.inits
        waits.append((two.started_ns - one.finished_ns) / S)
    assert min(waits) >= 0.06
    assert max(waits) <= 1.12
    assert max(waits) - min(waits) > 0.3
