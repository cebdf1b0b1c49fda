"""podFailurePolicy: a Job that gives up at once, or forgives what was not its pods' fault."""

from dataclasses import replace

import pytest

from kflab.control.facts import What
from kflab.control.job_failures import DISRUPTED, judge
from kflab.kubectl.events import events_from
from kflab.manifest.app_annotations import EXIT_CODE, RUNS_FOR
from kflab.manifest.loader import load
from kflab.manifest.objects import Condition, Key, Meta
from kflab.manifest.objects_pods import ContainerStatus, Pod, PodSpec, PodStatus, PodTemplate
from kflab.manifest.objects_workloads import FailureRule, Job
from kflab.manifest.sources import SourceText
from kflab.manifest.write import to_yaml
from tests.control.control_clusters import LABELS, S, cluster, container, pods

JOB = Key("Job", "default", "work")

FATAL = FailureRule("FailJob", "In", (3, 4), "api")
FORGIVEN = FailureRule("Ignore", conditions=((DISRUPTED, "True"),))


def job(*rules, code="0", runs="5s", **fields):
    notes = {RUNS_FOR: runs, EXIT_CODE: code}
    spec = PodSpec((container(),), restart_policy="Never")
    template = PodTemplate(LABELS, notes, spec)
    return Job(
        Meta("work", "default"), template=template, failure_rules=rules, replaces_failed_only=True, **fields
    )  # fmt: skip


def now_of(plane):
    found = plane.store.get(JOB)
    assert isinstance(found, Job)
    return found


def test_an_exit_code_that_a_fail_job_rule_names_ends_the_job_at_the_first_failure():
    plane = cluster(job(FATAL, code="3"))
    plane.run_until(120 * S)
    failed = next(each for each in now_of(plane).conditions if each.type == "Failed")
    name = pods(plane)[0].meta.name
    text = f"Container api for pod default/{name} failed with exit code 3 matching FailJob rule at index 0"
    assert (failed.reason, failed.message) == ("PodFailurePolicy", text)
    assert len(pods(plane)) == 1
    assert now_of(plane).observed["failed"] == 1
    told = [(e.reason, e.message) for e in events_from(plane.facts, plane.store) if e.about == JOB]
    assert ("PodFailurePolicy", text) in told


def test_another_exit_code_counts_towards_the_limit():
    plane = cluster(job(FATAL, code="5", backoff_limit=1))
    plane.run_until(120 * S)
    assert [each.reason for each in now_of(plane).conditions if each.type == "Failed"] == ["BackoffLimitExceeded"]
    assert now_of(plane).observed["failed"] == 2


@pytest.mark.parametrize(("rules", "ended"), [((FORGIVEN,), "Complete"), ((), "Failed")])
def test_an_evicted_pod_is_forgiven_where_a_rule_ignores_disruptions(rules, ended):
    plane = cluster(job(*rules, runs="20s", backoff_limit=0))
    plane.run_until(5 * S)
    (pod,) = pods(plane)
    plane.disruption.evict(pod.key, "kubectl")
    marked = plane.store.get(pod.key).status.condition(DISRUPTED)
    assert (marked.status, marked.reason) == ("True", "EvictionByEvictionAPI")
    plane.run_until(120 * S)
    assert [each.type for each in now_of(plane).conditions if each.type in ("Complete", "Failed")] == [ended]
    assert now_of(plane).observed["failed"] == (0 if rules else 1)
    codes = [f.text for f in plane.facts if f.what is What.CONTAINER_EXITED]
    assert "exited with code 143 after SIGTERM" in codes[0], "its work was not done"


def test_who_is_not_of_a_job_gets_no_such_condition():
    from tests.control.control_clusters import deployment

    plane = cluster(deployment(1))
    (pod,) = pods(plane)
    plane.disruption.evict(pod.key, "kubectl")
    assert plane.store.get(pod.key).status.conditions == ()


def failed_pod(code, *conditions):
    status = ContainerStatus("api", "terminated", "Error", exit_code=code)
    return Pod(Meta("one", "default"), status=PodStatus("Failed", containers=(status,), conditions=conditions))


@pytest.mark.parametrize(
    ("rules", "pod", "action"),
    [
        ((FATAL,), failed_pod(4), "FailJob"),
        ((FATAL,), failed_pod(5), "Count"),
        ((replace(FATAL, operator="NotIn"),), failed_pod(5), "FailJob"),
        ((replace(FATAL, operator="NotIn"),), failed_pod(0), "Count"),
        ((replace(FATAL, container="side"),), failed_pod(4), "Count"),
        ((replace(FATAL, container="", action="Ignore"), FATAL), failed_pod(4), "Ignore"),
        ((replace(FATAL, action="Count"), FATAL), failed_pod(4), "Count"),
        ((FORGIVEN, FATAL), failed_pod(4, Condition(DISRUPTED, "True")), "Ignore"),
        ((FORGIVEN, FATAL), failed_pod(4, Condition(DISRUPTED, "False")), "FailJob"),
    ],
)
def test_the_first_rule_that_fits_decides(rules, pod, action):
    assert judge(rules, pod)[0] == action


TEXT = """
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  podFailurePolicy:
    rules:
    - action: FailJob
      onExitCodes: {containerName: api, operator: In, values: [3, 4]}
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget}]
  template:
    spec:
      restartPolicy: RESTART
      containers: [{name: api, image: x}]
"""


def test_the_policy_is_read_written_and_refused_in_the_api_servers_words():
    loaded = load([SourceText("job.yaml", TEXT.replace("RESTART", "Never"))])
    (read,) = loaded.objects
    assert isinstance(read, Job)
    assert read.failure_rules == (FATAL, FORGIVEN)
    assert not loaded.findings
    (again,) = load([SourceText("again.yaml", to_yaml(replace(read, raw=None)))]).objects
    assert again.failure_rules == read.failure_rules
    wrong = TEXT.replace("RESTART", "OnFailure").replace("Ignore", "Forget").replace("operator: In", "operator: Like")
    told = " ".join(str(each) for each in load([SourceText("job.yaml", wrong)]).findings)
    assert 'only "Never" is supported when podFailurePolicy is specified' in told
    assert 'spec.podFailurePolicy.rules[1].action: Unsupported value: "Forget"' in told
    assert 'spec.podFailurePolicy.rules[0].onExitCodes.operator: Unsupported value: "Like"' in told
