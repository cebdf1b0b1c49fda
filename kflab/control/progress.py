"""A Deployment's conditions Available and Progressing, from its counts and its clock. Pure functions.

Source: k8s.io/kubernetes pkg/controller/deployment/progress.go (syncRolloutStatus, requeueStuckDeployment), sync.go
(calculateStatus, checkPausedConditions, getNewReplicaSet), util/deployment_util.go (SetDeploymentCondition,
DeploymentComplete, DeploymentProgressing, DeploymentTimedOut). The controller rolls nothing back: a missed deadline is
a condition.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from kflab.control.delays import SECOND_NS
from kflab.control.rollout import bounds
from kflab.manifest.objects import Condition
from kflab.manifest.objects_workloads import Deployment

Counts = Mapping[str, int]

AVAILABLE: Final = "Available"
PROGRESSING: Final = "Progressing"

NEW_CREATED: Final = "NewReplicaSetCreated"
FOUND_NEW: Final = "FoundNewReplicaSet"
UPDATED: Final = "ReplicaSetUpdated"
DONE: Final = "NewReplicaSetAvailable"
TIMED_OUT: Final = "ProgressDeadlineExceeded"
PAUSED: Final = "DeploymentPaused"
RESUMED: Final = "DeploymentResumed"

NO_DEADLINE: Final = 2**31 - 1
"""progressDeadlineSeconds that stands for none (math.MaxInt32, HasProgressDeadline)."""

Conditions = tuple[Condition, ...]


def condition(conditions: Conditions, kind: str) -> Condition | None:
    """The condition of a type; None where there is none."""
    return next((entry for entry in conditions if entry.type == kind), None)


def with_condition(conditions: Conditions, new: Condition) -> Conditions:
    """SetDeploymentCondition: nothing changes while status and reason stay."""
    old = condition(conditions, new.type)
    if old is not None and (old.status, old.reason) == (new.status, new.reason):
        return conditions
    if old is not None and old.status == new.status:
        new = replace(new, since_ns=old.since_ns)
    return (*(entry for entry in conditions if entry.type != new.type), new)


def has_deadline(deployment: Deployment) -> bool:
    """Whether lack of progress is told at all."""
    return deployment.progress_deadline_s != NO_DEADLINE


def rollout_conditions(deployment: Deployment, counts: Counts, new_name: str, made: bool, now_ns: int) -> Conditions:
    """Conditions after one sync.

    Args:
        deployment: With the status of the sync before.
        counts: The status of this one.
        new_name: Name of the new ReplicaSet; "" while there is none.
        made: This sync made it.
        now_ns: Simulated time.
    """
    found = _with_available(deployment, counts, now_ns)
    if not has_deadline(deployment):
        return tuple(entry for entry in found if entry.type != PROGRESSING)
    found = _with_paused(deployment, found, now_ns)
    if made:
        text = f'Created new replica set "{new_name}"'
        found = with_condition(found, Condition(PROGRESSING, "True", NEW_CREATED, text, now_ns, now_ns))
    elif condition(found, PROGRESSING) is None and new_name:
        text = f'Found new replica set "{new_name}"'
        found = with_condition(found, Condition(PROGRESSING, "True", FOUND_NEW, text, now_ns, now_ns))
    current = condition(found, PROGRESSING)
    settled = counts["replicas"] == counts["updatedReplicas"] and current is not None and current.reason == DONE
    if deployment.paused or settled:
        return found
    about = f'ReplicaSet "{new_name}"' if new_name else f'Deployment "{deployment.meta.name}"'
    if complete(deployment, counts):
        text = f"{about} has successfully progressed."
        return with_condition(found, Condition(PROGRESSING, "True", DONE, text, now_ns, now_ns))
    if _progressed(deployment.observed, counts):
        new = Condition(PROGRESSING, "True", UPDATED, f"{about} is progressing.", now_ns, now_ns)
        if current is not None and current.status == "True":
            new = replace(new, since_ns=current.since_ns)
        return (*(entry for entry in found if entry.type != PROGRESSING), new)
    if _late(deployment, current, now_ns):
        text = f"{about} has timed out progressing."
        return with_condition(found, Condition(PROGRESSING, "False", TIMED_OUT, text, now_ns, now_ns))
    return found


def complete(deployment: Deployment, counts: Counts) -> bool:
    """DeploymentComplete: all pods are of the new template and available, and no others are there."""
    wanted = deployment.replicas
    return counts["updatedReplicas"] == counts["replicas"] == counts["availableReplicas"] == wanted


def check_at_ns(deployment: Deployment, skew_ns: int) -> int | None:
    """When the controller looks again whether there was progress (requeueStuckDeployment); None: never.

    Args:
        deployment: With its conditions.
        skew_ns: The delay requeue_skew_s.
    """
    current = condition(deployment.conditions, PROGRESSING)
    if not has_deadline(deployment) or current is None or deployment.paused:
        return None
    if (
        current.reason in (DONE, TIMED_OUT, PAUSED)
        or not deployment.observed
        or complete(deployment, deployment.observed)
    ):
        return None
    return current.updated_ns + deployment.progress_deadline_s * SECOND_NS + skew_ns


def _with_available(deployment: Deployment, counts: Counts, now_ns: int) -> Conditions:
    if counts["availableReplicas"] >= deployment.replicas - bounds(deployment).unavailable:
        text = "Deployment has minimum availability."
        new = Condition(AVAILABLE, "True", "MinimumReplicasAvailable", text, now_ns, now_ns)
    else:
        text = "Deployment does not have minimum availability."
        new = Condition(AVAILABLE, "False", "MinimumReplicasUnavailable", text, now_ns, now_ns)
    return with_condition(deployment.conditions, new)


def _with_paused(deployment: Deployment, found: Conditions, now_ns: int) -> Conditions:
    current = condition(found, PROGRESSING)
    if current is not None and current.reason == TIMED_OUT:
        return found
    was = current is not None and current.reason == PAUSED
    if deployment.paused and not was:
        return with_condition(
            found, Condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now_ns, now_ns)
        )  # fmt: skip
    if was and not deployment.paused:
        return with_condition(
            found, Condition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed", now_ns, now_ns)
        )  # fmt: skip
    return found


def _progressed(before: Counts, now: Counts) -> bool:
    def old_pods(counts: Counts) -> int:
        return counts.get("replicas", 0) - counts.get("updatedReplicas", 0)

    return (
        now["updatedReplicas"] > before.get("updatedReplicas", 0)
        or old_pods(now) < old_pods(before)
        or now["readyReplicas"] > before.get("readyReplicas", 0)
        or now["availableReplicas"] > before.get("availableReplicas", 0)
    )


def _late(deployment: Deployment, current: Condition | None, now_ns: int) -> bool:
    if current is None or current.reason == DONE:
        return False
    if current.reason == TIMED_OUT:
        return True
    return current.updated_ns + deployment.progress_deadline_s * SECOND_NS < now_ns
