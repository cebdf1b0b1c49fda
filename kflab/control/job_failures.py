"""podFailurePolicy: what a Job makes of a failed pod, by its exit codes and by what befell it.

The first rule that fits decides: FailJob ends the Job, FailIndex the pod's index (where the Job has
backoffLimitPerIndex; else it counts), Ignore counts the pod not at all, Count counts it towards backoffLimit, as does a
pod that no rule fits.

Source: k8s.io/kubernetes pkg/controller/job/pod_failure_policy.go (matchPodFailurePolicy, matchOnExitCodes). Reasons of
DisruptionTarget: staging/src/k8s.io/api/core/v1/types.go; who sets it: eviction.go, preemption.go, taint_eviction.go,
podgc gc_controller.go, kubelet eviction_manager.go. Here it is set on pods of Jobs alone, as nobody else looks at it,
and in one write with the delete.
"""

from collections.abc import Sequence

from kflab.manifest.objects import Condition
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import FailureRule
from kflab.replacing import replace

FAIL_JOB, FAIL_INDEX, IGNORE, COUNT = "FailJob", "FailIndex", "Ignore", "Count"

DISRUPTED = "DisruptionTarget"

BY_EVICTION = ("EvictionByEvictionAPI", "Eviction API: evicting")
BY_TAINT = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
BY_PREEMPTION = ("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod")
BY_GC = ("DeletionByPodGC", "PodGC: node no longer exists")
BY_KUBELET = ("TerminationByKubelet", "The kubelet ended the pod: its node shuts down or lacks memory.")


def judge(rules: Sequence[FailureRule], pod: Pod) -> tuple[str, str]:
    """(action, message of a Job that fails by it).

    Args:
        rules: Of the Job, in order.
        pod: A pod of it that has failed.
    """
    for n, rule in enumerate(rules):
        what = _by_exit_code(rule, pod) if rule.operator else _by_condition(rule, pod)
        if what and rule.action in (FAIL_JOB, FAIL_INDEX, IGNORE):
            return rule.action, f"{what} matching {rule.action} rule at index {n}"
        if what:
            return COUNT, ""
    return COUNT, ""


def _by_exit_code(rule: FailureRule, pod: Pod) -> str:
    for status in (*pod.status.containers, *pod.status.inits):
        if status.state != "terminated" or not status.exit_code or rule.container not in ("", status.name):
            continue
        if (status.exit_code in rule.codes) == (rule.operator == "In"):
            where = f"{pod.meta.namespace}/{pod.meta.name}"
            return f"Container {status.name} for pod {where} failed with exit code {status.exit_code}"
    return ""


def _by_condition(rule: FailureRule, pod: Pod) -> str:
    for found in pod.status.conditions:
        if (found.type, found.status) in rule.conditions:
            return f"Pod {pod.meta.namespace}/{pod.meta.name} has condition {found.type}"
    return ""


def disrupted(pod: Pod, why: tuple[str, str], now_ns: int) -> Pod:
    """A pod with the condition that says who is about to end it; one of another workload as it was."""
    if pod.meta.owner is None or pod.meta.owner.kind != "Job" or pod.status.condition(DISRUPTED) is not None:
        return pod
    mark = Condition(DISRUPTED, "True", *why, now_ns, now_ns)
    return replace(pod, status=replace(pod.status, conditions=(*pod.status.conditions, mark)))
