"""Init containers that fail: what kubectl shows, when they are tried again, and what waits for them."""

from dataclasses import replace

import pytest
from control_clusters import S, cluster, container, deployment, endpoints, pods, service

from kflab.control.delays import Delays
from kflab.control.facts import What
from kflab.control.verbs import VERBS
from kflab.errors import KflabError
from kflab.kubectl.describe_pod import describe_pod
from kflab.kubectl.events import events_from
from kflab.kubectl.printers import cells
from kflab.kubectl.tabular import Writer
from kflab.manifest.app_annotations import problems
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import Container, Pod, PodSpec

PRODUCT = Key("Deployment", "default", "product")
INITS = (Container("migrate", "migrate:v1"), Container("warm", "warm:v1"))
EXIT = "kflab.dev/init-exit-code"


def failing(code="1", **spec):
    base = deployment(0, container(), init_containers=INITS, **spec)
    return replace(base, template=replace(base.template, annotations={EXIT: code, "kflab.dev/init-takes": "1s"}))


def one_more(plane):
    plane.scale(PRODUCT, 1)
    while not pods(plane):
        plane.step()
    return pods(plane)[0].key


def shown(plane, pod, until_s):
    """kubectl's STATUS and RESTARTS of a pod, as they change."""
    seen = []
    while plane.now_ns < until_s * S and plane.next_ns() is not None:
        plane.step()
        obj = plane.store.get(pod)
        line = cells(obj, plane.now_ns, False)
        pair = line[2], line[3].split()[0]
        if not seen or pair != seen[-1]:
            seen.append(pair)
    return seen


def test_a_failing_init_container_backs_off_and_nothing_after_it_starts():
    plane = cluster(failing("migrate=3"), service(), delays=Delays(sync_retry_s=(10.0, 10.0)))
    pod = one_more(plane)
    seen = shown(plane, pod, 60)
    assert [each for each in seen if each[1] == "2"] == [
        ("Init:0/2", "2"), ("Init:Error", "2"), ("Init:CrashLoopBackOff", "2"),
    ]  # fmt: skip
    plane.run_until(1200 * S)
    status = plane.store.get(pod).status
    migrate, warm = status.inits
    assert (migrate.exit_code, warm.state, warm.reason) == (3, "waiting", "PodInitializing")
    assert (status.phase, status.ready, endpoints(plane)[pod]) == ("Pending", False, (False, False, False))
    assert not [fact for fact in plane.facts if fact.what is What.CONTAINER_STARTED and fact.subject == pod]
    waits = [fact.text.split(" waits ")[1].split(" s ")[0] for fact in plane.facts if fact.what is What.BACK_OFF]
    assert waits[:7] == ["10", "20", "40", "80", "160", "300", "300"]
    told = [event.message for event in events_from(plane.facts, plane.store) if event.reason == "BackOff"]
    assert told[0].startswith(f"Back-off restarting failed container migrate in pod {pod.name}_default(")


def test_init_containers_that_end_well_again_let_the_pod_start():
    plane = cluster(replace(deployment(0, container(), init_containers=INITS)), service())
    VERBS["failInit"].do(plane, PRODUCT, {"code": 2, "container": "warm", "for": 30 * S})
    with pytest.raises(KflabError, match="fail already"):
        VERBS["failInit"].do(plane, PRODUCT, {})
    pod = one_more(plane)
    seen = [status for status, _ in shown(plane, pod, 100)]
    assert "Init:CrashLoopBackOff" in seen
    assert seen[-1] == "Running"
    assert cells(plane.store.get(pod), plane.now_ns, False)[3] == "0", "kubectl counts init restarts while they run"
    assert plane.store.get(pod).status.inits[1].restarts == 3
    with pytest.raises(KflabError, match="end well"):
        VERBS["passInit"].do(plane, PRODUCT, {})


def test_without_restarts_one_failure_is_the_pods_end():
    bare = Pod(
        Meta("once", "default", {"app": "product"}, {EXIT: "1"}),
        spec=PodSpec((container(),), INITS, restart_policy="Never"),
    )
    plane = cluster(deployment(0), service())
    plane.apply([bare])
    seen = shown(plane, bare.key, 60)
    assert seen[-1] == ("Init:Error", "0")
    status = plane.store.get(bare.key).status
    assert (status.phase, status.inits[0].restarts) == ("Failed", 0)
    assert bare.key not in plane.runtime, "its sandbox is gone"
    assert bare.key not in endpoints(plane), "a failed pod is no endpoint"


def test_describe_shows_the_exit_code_and_that_the_pod_is_not_initialized():
    plane = cluster(failing("7"), service())
    pod = one_more(plane)
    plane.run_until(8 * S)
    out = Writer()
    describe_pod(out, plane.store.get(pod), plane.store, plane.now_ns)
    text = out.text()
    assert "Exit Code:    7" in text
    assert "Initialized                 False" in text


def test_what_is_no_init_container_and_what_is_no_exit_code_is_refused():
    plane = cluster(failing(), deployment(1, name="other"))
    with pytest.raises(KflabError, match="product has no init container sync: it has migrate, warm"):
        VERBS["failInit"].do(plane, PRODUCT, {"container": "sync"})
    with pytest.raises(KflabError, match="other has no init container: it has none"):
        VERBS["failInit"].do(plane, Key("Deployment", "default", "other"), {})
    with pytest.raises(KflabError, match="exit code 0 is no failure"):
        VERBS["failInit"].do(plane, PRODUCT, {"code": 0})
    assert problems({EXIT: "migrate=oops"}) == {EXIT: "'migrate=oops' must be an exit code from 0 to 255, or NAME=CODE"}
    assert not problems({EXIT: "migrate=1, warm=0"})
