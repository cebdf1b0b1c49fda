"""How far a rollout or a drain has come, in a few words, by what the API knows of it.

The questions are those of `kubectl rollout status` (k8s.io/kubectl pkg/polymorphichelpers/rollout_status.go), the words
shorter, for one line beside other things. A drain is over when no pod that it evicts is left.
"""

from kflab.control.job import over
from kflab.control.progress import PROGRESSING, TIMED_OUT
from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, StatefulSet


def progress(obj: KubeObject | None) -> str:
    """What a workload still waits for: "1 of 3 updated"; "" once it is rolled out, and for everything else.

    A StatefulSet's partition keeps pods as they are, and OnDelete all of them: those are not waited for. Of a Job it
    says how far it has come: "3 of 9 succeeded, 2 failed".
    """
    kept = 0
    match obj:
        case Deployment():
            wanted, names = obj.replicas, ("updatedReplicas", "availableReplicas", "replicas")
            late = any(each.type == PROGRESSING and each.reason == TIMED_OUT for each in obj.conditions)
        case StatefulSet():
            wanted, names, late = obj.replicas, ("updatedReplicas", "availableReplicas", "replicas"), False
            kept = wanted if obj.update_type == "OnDelete" else min(wanted, obj.partition or 0)
        case DaemonSet():
            wanted, late = obj.observed.get("desiredNumberScheduled", 0), False
            names = ("updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
            kept = wanted if obj.update.type == "OnDelete" else 0
        case Job():
            return _runs(obj)
        case _:
            return ""
    updated, available, there = (obj.observed.get(name, 0) for name in names)
    if obj.observed.get("observedGeneration", 0) < obj.meta.generation:
        words = f"its controller has not seen it yet, {wanted} wanted"
    elif updated < wanted - kept:
        words = f"{updated} of {wanted - kept} updated"
    elif there - updated > kept:
        words = f"{there - updated - kept} old left"
    elif there > wanted:
        words = f"{there - wanted} more than wanted"
    elif available < wanted:
        words = f"{available} of {wanted} available"
    else:
        return ""
    if isinstance(obj, Deployment) and obj.paused:
        return f"paused, {words}"
    return f"progress deadline exceeded, {words}" if late else words


def _runs(job: Job) -> str:
    if over(job):
        return ""
    done, failed = job.observed.get("succeeded", 0), job.observed.get("failed", 0)
    words = f"{done} of {job.completions if job.completions is not None else 1} succeeded"
    words += f", {failed} failed" if failed else ""
    return f"suspended, {words}" if job.suspend else words


def drained(pods: int, left: int, held: int) -> str:
    """How far a drain is: "1 of 3 gone, 1 held by its budget"; "" once nothing is left."""
    words = f"{pods - left:,} of {pods:,} gone" if left else ""
    return f"{words}, {held} held by {'its budget' if held == 1 else 'their budgets'}" if held else words
