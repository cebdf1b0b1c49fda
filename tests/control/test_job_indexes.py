"""Indexed Jobs whose indexes fail by themselves (backoffLimitPerIndex), or that are done early (successPolicy)."""

from dataclasses import replace

from kflab.control.facts import What
from kflab.manifest.app_annotations import EXIT_CODE, RUNS_FOR
from kflab.manifest.loader import load
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_pods import PodSpec, PodTemplate
from kflab.manifest.objects_workloads import FailureRule, Job, SuccessRule
from kflab.manifest.sources import SourceText
from kflab.manifest.write import to_yaml
from tests.control.control_clusters import LABELS, S, cluster, container, pods

JOB = Key("Job", "default", "work")
NEVER_MIND = 2**31 - 1


def job(code="0", runs="5s", completions=4, parallelism=4, **fields):
    spec = PodSpec((container(),), restart_policy="Never")
    template = PodTemplate(LABELS, {RUNS_FOR: runs, EXIT_CODE: code}, spec)
    given = {"backoff_limit": NEVER_MIND, **fields}
    return Job(
        Meta("work", "default"), template=template, indexed=True, completions=completions, parallelism=parallelism,
        **given,
    )  # fmt: skip


def running(*fields, until_s=120, **named):
    plane = cluster(job(*fields, **named))
    plane.run_until(until_s * S)
    return plane, plane.store.get(JOB)


def verdict(found):
    return [(each.type, each.reason) for each in found.conditions if each.type in ("Complete", "Failed")]


def fail(plane, index, code=1):
    """The pod of an index ends with a code, now."""
    pod = next(p for p in pods(plane) if p.meta.name.startswith(f"work-{index}-") and p.status.phase == "Running")
    plane.crash(pod.key, code)


def test_every_index_has_its_own_limit_and_back_off():
    plane = cluster(job(runs="40s", backoff_per_index=1))
    plane.run_until(10 * S)
    fail(plane, 2)
    plane.run_until(30 * S)
    again = [p for p in pods(plane) if p.meta.name.startswith("work-2-")]
    assert len(again) == 2  # after its own back-off of 10 s, while the others run on
    assert again[1].meta.annotations["batch.kubernetes.io/job-index-failure-count"] == "1"
    assert sum(p.status.phase == "Running" for p in pods(plane)) == 4
    fail(plane, 2)
    plane.run_until(120 * S)
    found = plane.store.get(JOB)
    assert found.failed_indexes == (2,)
    assert found.completed_indexes == (0, 1, 3)
    assert verdict(found) == [("Failed", "FailedIndexes")]
    assert len([p for p in pods(plane) if p.meta.name.startswith("work-2-")]) == 2


def test_more_failed_indexes_than_allowed_end_the_job_at_once():
    plane = cluster(job(runs="60s", backoff_per_index=0, max_failed_indexes=1))
    plane.run_until(10 * S)
    fail(plane, 0)
    plane.run_until(15 * S)
    assert verdict(plane.store.get(JOB)) == []
    fail(plane, 3)
    plane.run_until(25 * S)
    assert verdict(plane.store.get(JOB)) == [("Failed", "MaxFailedIndexesExceeded")]
    assert not [p for p in pods(plane) if p.status.phase == "Running"]


def test_a_fail_index_rule_gives_an_index_up_at_its_first_failure():
    rule = FailureRule("FailIndex", "In", (42,))
    plane = cluster(job(runs="30s", backoff_per_index=5, failure_rules=(rule,), replaces_failed_only=True))
    plane.run_until(10 * S)
    fail(plane, 1, 42)
    fail(plane, 2, 7)
    plane.run_until(120 * S)
    found = plane.store.get(JOB)
    assert (found.failed_indexes, found.completed_indexes) == ((1,), (0, 2, 3))


def test_a_success_policy_ends_the_job_when_its_leader_has_succeeded():
    plane = cluster(job(runs="60s", success_rules=(SuccessRule((0,)),)))
    plane.run_until(10 * S)
    fail(plane, 0, 0)
    plane.run_until(20 * S)
    found = plane.store.get(JOB)
    assert verdict(found) == [("Complete", "SuccessPolicy")]
    assert found.observed["failed"] == 0
    assert [each.message for each in found.conditions if each.type == "SuccessCriteriaMet"] == [
        "Matched rules at index 0"
    ]
    assert not [p for p in pods(plane) if p.status.phase == "Running"]
    told = [f.text for f in plane.facts if f.what is What.JOB_FINISHED]
    assert told == ["Job work is complete: 1 succeeded, 0 failed"]


def test_a_number_of_indexes_is_enough_where_a_rule_says_so():
    rules = (SuccessRule((0, 1), 2), SuccessRule(None, 3))
    plane = cluster(job(runs="60s", success_rules=rules))
    plane.run_until(10 * S)
    for index in (1, 2):
        fail(plane, index, 0)
    plane.run_until(20 * S)
    assert verdict(plane.store.get(JOB)) == []
    fail(plane, 3, 0)
    plane.run_until(30 * S)
    assert verdict(plane.store.get(JOB)) == [("Complete", "SuccessPolicy")]
    assert [each.message for each in plane.store.get(JOB).conditions if each.type == "SuccessCriteriaMet"] == [
        "Matched rules at index 1"
    ]


def test_a_job_without_them_is_what_it_was():
    _, found = running()
    assert verdict(found) == [("Complete", "CompletionsReached")]
    assert replace(found, failed_indexes=()) == found


def test_what_is_written_is_read_and_written_back():
    text = """apiVersion: batch/v1
kind: Job
metadata: {name: work, namespace: default}
spec:
  completions: 4
  completionMode: Indexed
  backoffLimitPerIndex: 1
  maxFailedIndexes: 2
  successPolicy: {rules: [{succeededIndexes: 0-1, succeededCount: 1}, {}]}
  template: {spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}
"""
    loaded = load([SourceText("job.yaml", text)])
    (found,) = loaded.objects
    assert (found.backoff_per_index, found.max_failed_indexes, found.backoff_limit) == (1, 2, NEVER_MIND)
    assert found.success_rules == (SuccessRule((0, 1), 1),)
    assert [f.message for f in loaded.findings] == [
        "spec.successPolicy.rules[1]: Required value: at least one of succeededCount or succeededIndexes must be "
        "specified"
    ]
    made = to_yaml(replace(found, raw=None))
    assert "backoffLimitPerIndex: 1" in made
    assert "succeededIndexes: 0,1" in made
    plain = load([SourceText("job.yaml", text.replace("  completionMode: Indexed\n", ""))])
    assert plain.objects[0].backoff_per_index is None
    assert sum("requires indexed completion mode" in f.message for f in plain.findings) == 2
