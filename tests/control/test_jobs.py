"""Jobs: pods that run to their end, how many at a time, what follows a failure, and who hears of it."""

from dataclasses import replace

import pytest

from kflab.control.facts import What
from kflab.control.job_counts import Backoff
from kflab.control.verbs import VERBS
from kflab.kubectl.describe_job import describe_job
from kflab.kubectl.events import events_from
from kflab.kubectl.printers import cells
from kflab.kubectl.tabular import Writer
from kflab.manifest.admit import admit
from kflab.manifest.app_annotations import EXIT_CODE, RUNS_FOR, problems
from kflab.manifest.loader import load
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import PodSpec, PodTemplate
from kflab.manifest.objects_workloads import Job
from kflab.manifest.sources import SourceText
from kflab.manifest.typed_batch import indexes, indexes_text
from tests.control.control_clusters import LABELS, S, cluster, container, endpoints, pods, service

JOB = Key("Job", "default", "work")


def job(runs="5s", code="0", policy="Never", grace_s=30, **fields):
    notes = {RUNS_FOR: runs, EXIT_CODE: code}
    spec = PodSpec((container(),), restart_policy=policy, grace_s=grace_s)
    return Job(Meta("work", "default"), template=PodTemplate(LABELS, notes, spec), **fields)


def now_of(plane):
    found = plane.store.get(JOB)
    assert isinstance(found, Job)
    return found


def true_conditions(plane):
    return [(each.type, each.reason) for each in now_of(plane).conditions if each.status == "True"]


def created(plane):
    return [f.t_ns / S for f in plane.facts if f.what is What.POD_CREATED and f.by == "job-controller"]


def each_step(plane, until_s):
    while (due := plane.next_ns()) is not None and due <= until_s * S:
        plane.step()
        yield now_of(plane)


def test_no_more_at_a_time_than_parallelism_and_as_many_as_completions():
    plane = cluster(job(parallelism=2, completions=5), service())
    assert not pods(plane), "a Job of the manifests starts when the lab opens"
    for _ in each_step(plane, 60):
        assert sum(pod.status.phase in ("Pending", "Running") for pod in pods(plane, app="product")) <= 2
    done = now_of(plane)
    assert true_conditions(plane) == [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]
    assert {name: done.observed[name] for name in ("active", "succeeded", "failed")} == {
        "active": 0, "succeeded": 5, "failed": 0,
    }  # fmt: skip
    assert [pod.status.phase for pod in pods(plane)] == ["Succeeded"] * 5, "completed pods stay"
    assert cells(done, plane.now_ns, False)[1:4] == ("Complete", "5/5", f"{(done.completion_ns - done.start_ns) // S}s")


def test_a_completed_pod_leaves_the_endpoints_and_its_sandbox_goes():
    plane = cluster(job("8s"), service())
    plane.run_until(5 * S)
    (pod,) = pods(plane)
    assert endpoints(plane) == {pod.key: (True, True, False)}
    plane.run_until(20 * S)
    ended = next(f.t_ns for f in plane.facts if f.what is What.CONTAINER_COMPLETED)
    written = [f.t_ns for f in plane.facts if f.what is What.ENDPOINTS_WRITTEN and f.t_ns > ended]
    assert endpoints(plane) == {}
    assert 0 < written[0] - ended < 1.3 * S, "a relist, a status write, a sync"
    assert pod.key not in plane.runtime


def test_failures_wait_longer_each_time_until_the_limit():
    plane = cluster(job("1s", "1", backoff_limit=3))
    plane.run_until(200 * S)
    times = created(plane)
    ended = [f.t_ns / S for f in plane.facts if f.what is What.CONTAINER_EXITED]
    assert [round(made - end) for made, end in zip(times[1:], ended, strict=False)] == [10, 20, 40]
    assert len(times) == 4
    assert now_of(plane).observed["failed"] == 4
    assert ("Failed", "BackoffLimitExceeded") in true_conditions(plane)
    assert cells(now_of(plane), plane.now_ns, False)[1:3] == ("Failed", "0/1")
    told = [(e.type, e.reason, e.message) for e in events_from(plane.facts, plane.store) if e.about == JOB][-1]
    assert told == ("Warning", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


def test_the_backoff_doubles_to_ten_minutes_and_a_success_forgets_earlier_failures():
    waits = [Backoff(n, 0).left_ns(0, 10 * S, 600 * S) // S for n in range(9)]
    assert waits == [0, 10, 20, 40, 80, 160, 320, 600, 600]
    assert Backoff(3, 5).after([50], [40, 60, 70]) == Backoff(2, 70)
    assert Backoff(3, 5).after([], [40]) == Backoff(4, 40)
    assert Backoff(3, 5).after([50], []) == Backoff()


def test_on_failure_the_kubelet_restarts_and_restarts_count_towards_the_limit():
    plane = cluster(job("1s", "1", policy="OnFailure", backoff_limit=2))
    plane.run_until(120 * S)
    assert len(created(plane)) == 1
    assert ("Failed", "BackoffLimitExceeded") in true_conditions(plane)
    assert now_of(plane).observed["failed"] == 1
    assert not pods(plane), "the pod that was still tried is deleted"


def test_a_deadline_ends_the_job_when_its_pods_have_ended():
    slow = job("10m", grace_s=20, parallelism=2, completions=2, active_deadline_s=15)
    notes = {**slow.template.annotations, "kflab.dev/exit-after": "12s"}
    plane = cluster(replace(slow, template=replace(slow.template, annotations=notes)))
    plane.run_until(20 * S)
    assert true_conditions(plane) == [("FailureTarget", "DeadlineExceeded")]
    assert now_of(plane).observed["terminating"] == 2
    assert cells(now_of(plane), plane.now_ns, False)[1] == "FailureTarget"
    plane.run_until(60 * S)
    assert ("Failed", "DeadlineExceeded") in true_conditions(plane)
    failed = next(each for each in now_of(plane).conditions if each.type == "Failed")
    assert 27 * S < failed.since_ns < 32 * S
    assert now_of(plane).observed["failed"] == 2


def test_a_finished_job_goes_after_its_ttl_and_takes_its_pods_along():
    plane = cluster(job("2s", ttl_s=30))
    plane.run_until(20 * S)
    (ended,) = [each.since_ns for each in now_of(plane).conditions if each.type == "Complete"]
    plane.run_until(ended + 29 * S)
    assert plane.store.get(JOB) is not None
    plane.run_until(ended + 31 * S)
    assert (plane.store.get(JOB), pods(plane)) == (None, [])


def test_each_index_completes_once_though_some_runs_fail():
    plane = cluster(job("3s", "1 in 40%", parallelism=3, completions=5, indexed=True, backoff_limit=50))
    for found in each_step(plane, 3000):
        running = [p.meta.labels["batch.kubernetes.io/job-completion-index"] for p in pods(plane)
                   if p.status.phase in ("Pending", "Running")]  # fmt: skip
        assert len(set(running)) == len(running) <= 3
        assert not {int(index) for index in running} & set(found.completed_indexes)
    done = now_of(plane)
    assert done.completed_indexes == (0, 1, 2, 3, 4)
    assert done.observed["succeeded"] == 5
    assert done.observed["failed"] == len(pods(plane)) - 5 > 0
    one = next(p for p in pods(plane) if p.spec.hostname == "work-3")
    assert one.meta.name.startswith("work-3-")
    assert ("JOB_COMPLETION_INDEX", "3") in one.spec.containers[0].env


def test_a_deleted_pod_counts_as_failed_and_is_replaced_after_the_backoff():
    slow = job("60s")
    notes = {**slow.template.annotations, "kflab.dev/exit-after": "15s"}
    plane = cluster(replace(slow, template=replace(slow.template, annotations=notes)))
    plane.run_until(10 * S)
    (first,) = pods(plane)
    plane.delete_pod(first.key)
    plane.run_until(120 * S)
    assert round(created(plane)[1]) == 20
    assert {name: now_of(plane).observed[name] for name in ("succeeded", "failed")} == {"succeeded": 1, "failed": 1}


def test_suspend_deletes_the_pods_uncounted_and_resume_starts_again():
    plane = cluster(job("20s", parallelism=2, completions=2))
    plane.run_until(10 * S)
    plane.apply([replace(now_of(plane), suspend=True)])
    plane.run_until(60 * S)
    assert (pods(plane), now_of(plane).observed["failed"]) == ([], 0)
    assert cells(now_of(plane), plane.now_ns, False)[1] == "Suspended"
    plane.apply([replace(now_of(plane), suspend=False)])
    plane.run_until(120 * S)
    assert now_of(plane).observed["succeeded"] == 2
    assert now_of(plane).start_ns > 60 * S, "the clock of activeDeadlineSeconds starts anew"


def test_a_work_queue_is_done_after_one_success_and_the_end_of_the_others():
    plane = cluster(job("30s", parallelism=3, completions=None))
    plane.run_until(10 * S)
    VERBS["exit"].do(plane, pods(plane)[0].key, {"code": 0})
    plane.run_until(25 * S)
    assert (len(created(plane)), true_conditions(plane)) == (3, [])
    assert cells(now_of(plane), plane.now_ns, False)[2] == "1/1 of 3"
    plane.run_until(60 * S)
    assert ("Complete", "CompletionsReached") in true_conditions(plane)
    assert now_of(plane).observed["succeeded"] == 3


def test_pods_that_end_while_the_controller_is_away_are_counted_once():
    plane = cluster(job("5s", parallelism=2, completions=4))
    plane.run_until(3 * S)
    plane.stop("controller-manager")
    plane.run_until(40 * S)
    assert len(created(plane)) == 2
    plane.start("controller-manager")
    plane.run_until(120 * S)
    assert now_of(plane).observed["succeeded"] == 4
    assert len(created(plane)) == 4


def test_a_copy_at_any_instant_goes_on_as_the_original():
    plane = cluster(job("3s", "1 in 50%", parallelism=2, completions=4, backoff_limit=30), service())
    plane.run_until(14 * S)
    twin = plane.copy()
    assert plane.run_until(300 * S) == twin.run_until(300 * S)
    assert now_of(plane) == twin.store.get(JOB)


def test_describe_counts_pods_and_says_when():
    plane = cluster(job("5s", parallelism=2, completions=3, indexed=True, ttl_s=100, active_deadline_s=90))
    plane.run_until(12 * S)
    out = Writer()
    describe_job(out, now_of(plane), plane.store, plane.now_ns)
    lines = [" ".join(line.split()) for line in out.text().splitlines()]
    for wanted in (
        "Completion Mode: Indexed", "TTL Seconds After Finished: 100", "Active Deadline Seconds: 90s",
        "Pods Statuses: 1 Active (1 Ready) / 2 Succeeded / 0 Failed", "Completed Indexes: 0,1",
        "Start Time: Thu, 01 Jan 2026 12:00:00 +0000",
    ):  # fmt: skip
        assert wanted in lines


def test_indexes_are_written_as_the_api_does():
    assert indexes_text((1, 3, 4, 5, 7, 8)) == "1,3-5,7,8"
    assert indexes("1,3-5,7,8") == (1, 3, 4, 5, 7, 8)


TEXT = """\
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  completionMode: Indexed
  backoffLimit: -1
  template:
    spec:
      restartPolicy: Always
      containers:
      - {name: c, image: "c:v1"}
"""


def test_what_the_server_would_refuse_is_said_with_its_place():
    (document,) = load([SourceText("a.yaml", TEXT)]).documents
    said = {f.message.split(": ", 1)[0]: (f.place.line, f.message) for f in admit(None, document.obj, document.marks)}
    assert said["spec.backoffLimit"][0] == 6
    assert "when completion mode is Indexed" in said["spec.completions"][1]
    assert 'supported values: "OnFailure", "Never"' in said["spec.template.spec.restartPolicy"][1]
    assert isinstance(document.obj, Job)
    assert document.obj.template.spec.restart_policy == "Never"


@pytest.mark.parametrize("text", ["x", "1 in", "1 in 101%", "300"])
def test_what_is_no_exit_code_is_refused(text):
    assert "must be an exit code from 0 to 255" in problems({EXIT_CODE: text})[EXIT_CODE]
