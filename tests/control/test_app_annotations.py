"""Annotations kflab.dev/… of a pod template say how its application behaves when it starts and when it ends."""

from dataclasses import replace

import pytest
from control_clusters import MS, S, cluster, container, deployment, first, pods, service

from kflab.control.facts import What
from kflab.errors import KflabError
from kflab.manifest.app_annotations import backlog, keep_alive_ns, own_delay_ns, problems, shares_queue, workers
from kflab.manifest.loader import load
from kflab.manifest.sources import SourceText


def annotated(box=None, grace_s=30, **annotations):
    given = {f"kflab.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    made = deployment(1, box=box, grace_s=grace_s)
    plane = cluster(replace(made, template=replace(made.template, annotations=given)), service())
    return plane, pods(plane)[0].key


def ending(plane, pod, within_s=100):
    """Times of the steps of a graceful delete, s after it."""
    facts = [*plane.delete_pod(pod), *plane.run_until(plane.now_ns + within_s * S)]
    mine = [f for f in facts if f.subject == pod]
    return {f.what: f.t_ns / S for f in reversed(mine)}


def test_an_application_stops_listening_and_exits_when_it_says():
    plane, pod = annotated(stop_listening="1500ms", exit_after="9s")
    steps = ending(plane, pod)
    sigterm = steps[What.SIGTERM_SENT]
    assert steps[What.LISTENERS_CHANGED] - sigterm == pytest.approx(1.5)
    assert steps[What.CONTAINER_EXITED] - sigterm == pytest.approx(9)
    assert What.SIGKILL_SENT not in steps


def test_one_that_ignores_sigterm_is_killed_at_the_end_of_its_grace_period():
    plane, pod = annotated(exit_after="never", grace_s=12)
    steps = ending(plane, pod)
    assert 12 <= steps[What.SIGKILL_SENT] <= 12.03
    assert steps[What.LISTENERS_CHANGED] == steps[What.SIGKILL_SENT] == steps[What.CONTAINER_EXITED]


def test_a_pre_stop_hook_that_is_no_sleep_takes_its_time_out_of_the_grace_period():
    plane, pod = annotated(container(pre_stop_hook=True), pre_stop="4s", grace_s=10, exit_after="never")
    steps = ending(plane, pod)
    assert 4 <= steps[What.SIGTERM_SENT] <= 4.06
    assert 10 <= steps[What.SIGKILL_SENT] <= 10.03
    plane, pod = annotated(container(pre_stop_hook=True), pre_stop="50s", grace_s=10, exit_after="never")
    steps = ending(plane, pod)
    assert 10 <= steps[What.SIGTERM_SENT] <= 10.06, "the hook is cut off"
    assert 1.99 <= steps[What.SIGKILL_SENT] - steps[What.SIGTERM_SENT] <= 2.01, "minimumGracePeriodInSeconds"


def test_an_application_starts_to_listen_when_it_says():
    plane, pod = annotated(starts_in="3s")
    facts = [*plane.crash(pod), *plane.run_until(20 * S)]
    started = first(facts, What.CONTAINER_STARTED, pod).t_ns
    listens = [f for f in facts if f.what is What.LISTENERS_CHANGED and f.ports]
    assert listens[0].t_ns - started == 3000 * MS


def test_durations_are_read_exactly_and_bad_ones_said_with_their_place():
    assert own_delay_ns({"kflab.dev/exit-after": "1.25s"}, "app_exit_s") == 1_250_000_000
    assert own_delay_ns({"kflab.dev/exit-after": "2m"}, "app_exit_s") == 120 * S
    assert own_delay_ns({"kflab.dev/exit-after": "never"}, "app_exit_s") is None
    assert backlog({}) == 4096
    with pytest.raises(KflabError, match="whole number"):
        backlog({"kflab.dev/backlog": "-1"})
    assert problems({"kflab.dev/starts-in": "soon", "other": "soon"}) == {
        "kflab.dev/starts-in": "'soon' is not a duration; expected a form such as 8s, 1.5s, 500ms or 2m"
    }
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    kflab.dev/starts-in: never\n"
        "spec: {containers: [{name: a, image: a}]}\n"
    )
    loaded = load([SourceText("a.yaml", text)])
    with pytest.raises(KflabError, match="'never' is not a duration"):
        loaded.raise_errors()
    assert [f.place.line for f in loaded.findings if f.place and "duration" in f.message] == [6]


@pytest.mark.parametrize("how", ["crash", "exit", "loop"])
def test_a_terminating_pod_that_exits_by_itself_is_removed_at_once(how):
    plane, pod = annotated(exit_after="never", grace_s=60)
    if how == "loop":
        plane.apps.loop(pod, 5 * S, 1, None)
    plane.delete_pod(pod)
    plane.run_until(2 * S)
    if how == "crash":
        plane.crash(pod)
    elif how == "exit":
        plane.apps.exit(pod, 1)
    plane.run_until(8 * S)
    assert plane.store.get(pod) is None
    assert pod not in plane.runtime


def test_workers_and_their_queue_are_said_by_annotations():
    assert (workers({}), shares_queue({})) == (16, False)
    assert workers({"kflab.dev/workers": "4"}) == 4
    assert shares_queue({"kflab.dev/queue": "shared"})
    assert problems({"kflab.dev/workers": "0", "kflab.dev/queue": "both"}) == {
        "kflab.dev/workers": "'0' must be a whole number from 1 to 9999",
        "kflab.dev/queue": "'both' must be shared or each",
    }


def test_how_long_idle_connections_are_kept_is_said_by_an_annotation():
    assert keep_alive_ns({}) == 0
    assert keep_alive_ns({"kflab.dev/keep-alive": "5s"}) == 5 * S
    assert "kflab.dev/keep-alive" in problems({"kflab.dev/keep-alive": "soon"})
