"""The arithmetic of a Job: how many pods it wants, how long it waits after failures, when it is over. Pure functions.

Source: k8s.io/kubernetes pkg/controller/job/job_controller.go (syncJob, manageJob, pastBackoffLimitOnFailure),
backoff_utils.go (newBackoffRecord, getRemainingTimeForFailuresCount), indexed_job_utils.go (firstPendingIndexes).
"""

from collections.abc import Collection, Sequence

from kflab.control.delays import SECOND_NS
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import Job
from kflab.records import dataclass

COMPLETE, FAILED = "Complete", "Failed"
"""Conditions of a Job that is over."""

MET, TARGET = "SuccessCriteriaMet", "FailureTarget"
"""Conditions of a Job that is decided and waits for its pods' end (features JobPodReplacementPolicy, JobManagedBy)."""

SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row."""

    failures: int = 0
    last_ns: int = 0
    """When the last of them ended."""

    def after(self, succeeded: Sequence[int], failed: Sequence[int]) -> "Backoff":
        """With pods that ended at these times; a success forgets the failures before it."""
        if not succeeded:
            return Backoff(self.failures + len(failed), max(failed)) if failed else self
        later = [t_ns for t_ns in failed if t_ns > max(succeeded)]
        return Backoff(len(later), max(later, default=0))

    def left_ns(self, now_ns: int, first_ns: int, longest_ns: int) -> int:
        """How long no pod is made yet, where the first wait and the longest are these."""
        if not self.failures:
            return 0
        wait = min(first_ns << min(self.failures - 1, 16), longest_ns)
        return max(0, self.last_ns + wait - now_ns)


def wanted(job: Job, active: int, succeeded: int) -> int:
    """How many pods should be active; of a work queue none is made after the first success."""
    if job.completions is None:
        return active if succeeded else job.parallelism
    return max(0, min(job.parallelism, job.completions - succeeded))


def complete(job: Job, active: int, succeeded: int) -> bool:
    """Whether all is done."""
    enough = succeeded > 0 if job.completions is None else succeeded >= job.completions
    return enough and active == 0


def pending_indexes(job: Job, taken: Collection[int], count: int) -> list[int]:
    """The lowest completion indexes that nobody has."""
    return [index for index in range(job.completions or 0) if index not in taken][:count]


def succeeds_early(job: Job) -> str:
    """The message of a Job that meets a rule of its successPolicy, else "" (success_policy.go, matchSuccessPolicy)."""
    done = set(job.completed_indexes)
    for n, rule in enumerate(job.success_rules):
        within = len(done) if rule.indexes is None else len(done.intersection(rule.indexes))
        needed = rule.count if rule.count is not None else len(rule.indexes or ())
        if needed and within >= needed:
            return f"Matched rules at index {n}"
    return ""


def indexes_failed(job: Job) -> tuple[str, str]:
    """(reason, message) when a Job with backoffLimitPerIndex has failed by its indexes; ("", "") while it has not."""
    failed = len(job.failed_indexes)
    if job.max_failed_indexes is not None and failed > job.max_failed_indexes:
        return "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
    if failed and failed + len(job.completed_indexes) >= (job.completions or 0):
        return "FailedIndexes", "Job has failed indexes"
    return "", ""


def given_up(job: Job, failed: int, pods: Sequence[Pod], start_ns: int | None, now_ns: int) -> tuple[str, str]:
    """(reason, message) when a Job has failed; ("", "") while it has not."""
    if failed > job.backoff_limit or _restarted_too_often(job, pods):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if job.active_deadline_s is not None and start_ns is not None and not job.suspend:
        if now_ns - start_ns >= job.active_deadline_s * SECOND_NS:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
    return indexes_failed(job)


def _restarted_too_often(job: Job, pods: Sequence[Pod]) -> bool:
    if job.template.spec.restart_policy != "OnFailure":
        return False
    running = [pod.status for pod in pods if pod.status.phase in ("Running", "Pending")]
    restarts = sum(status.restarts for status in running)
    return restarts > 0 if job.backoff_limit == 0 else restarts >= job.backoff_limit


def ended_ns(pod: Pod) -> int:
    """When a pod ended: its last container, else its delete, else its creation (getFinishedTime)."""
    states = pod.status.containers
    times = [state.finished_ns for state in states if state.state == "terminated" and state.finished_ns is not None]
    if states and len(times) == len(states):
        return max(times)
    return pod.meta.creation_ns if pod.meta.deletion_ns is None else pod.meta.deletion_ns


def removal_order(pod: Pod) -> tuple[bool, ...]:
    """Sorts pods so that those in earlier stages go first (controller.ActivePods)."""
    return bool(pod.spec.node_name), pod.status.phase == "Running", pod.status.ready
