"""Small things every workload controller does with pods: making, marking, deleting, counting."""

from kflab.cluster.ipam import Pins
from kflab.control.core import Core
from kflab.control.facts import What
from kflab.control.job_failures import disrupted
from kflab.manifest.app_annotations import RUNS_FOR
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.replacing import replace


def active(pod: Pod) -> bool:
    """Neither finished nor being deleted (k8s.io/kubernetes pkg/controller/controller_utils.go IsPodActive)."""
    return pod.meta.deletion_ns is None and pod.status.phase not in ("Succeeded", "Failed")


def available(pod: Pod, min_ready_ns: int, now_ns: int) -> bool:
    """Ready for minReadySeconds (pkg/api/v1/pod IsPodAvailable)."""
    if not pod.status.ready:
        return False
    since = pod.status.ready_since_ns
    return min_ready_ns == 0 or since is None or since + min_ready_ns <= now_ns


def works_to_an_end(pod: Pod) -> bool:
    """Whether a pod's containers end by themselves: those of Jobs, and of pods that say so (see finite.py)."""
    return RUNS_FOR in pod.meta.annotations or (pod.meta.owner is not None and pod.meta.owner.kind == "Job")


def owners(core: Core, key: Key) -> tuple[Key, ...]:
    """A pod, what made it, and what made that: whatever befalls one of them befalls the pod."""
    found, obj = [key], core.store.get(key)
    while obj is not None and obj.meta.owner is not None:
        found.append(obj.meta.owner)
        obj = core.store.get(obj.meta.owner)
    return tuple(found)


def owned_pods(core: Core, owner: Key) -> list[Pod]:
    """Pods whose controlling owner is `owner`, in order of creation."""
    return [pod for pod in core.store.all_of(core.index.owned_by(owner)) if isinstance(pod, Pod)]


def create_pod(core: Core, owner: Key, pod: Pod, by: str, pin: tuple[Key, int]) -> None:
    """Make one pod of a workload.

    Args:
        core: The shared state.
        owner: Its controlling owner.
        pod: Name, labels and spec; the owner is filled in here.
        by: The controller.
        pin: The workload that a user wrote, and which of its pods this is: pinned addresses go by it.
    """
    workload, ordinal = pin
    pinned = Pins.nth(core.pins.pod_ips, workload.namespace, workload.kind, workload.name, ordinal)
    if pinned:
        core.pinned_ips[pod.key] = pinned
    if pod.meta.owner != owner:
        pod = replace(pod, meta=replace(pod.meta, owner=owner))
    change = core.create(pod, by, settled=core.quiet)
    if change is not None and not core.quiet:
        core.fact(What.POD_CREATED, change.key, by, f"{by} created {pod.meta.name}", change.revision)


def mark_deleted(core: Core, pod: Pod, grace_s: int | None, by: str, disruption: tuple[str, str] | None = None) -> None:
    """A graceful delete: deletionTimestamp, or removal at once where nobody has to stop anything.

    A pod that no kubelet has, or one deleted with grace 0, goes at once (k8s.io/kubernetes
    pkg/registry/core/pod/strategy.go CheckGracefulDelete).

    Args:
        core: The shared state.
        pod: The pod.
        grace_s: Its grace period; None: the pod's own.
        by: Who deletes.
        disruption: (reason, message) of its condition DisruptionTarget, where it is ended for others' sake.
    """
    if disruption is not None:
        pod = disrupted(pod, disruption, core.now_ns)
    grace = pod.spec.grace_s if grace_s is None else grace_s
    if not pod.spec.node_name or pod.status.phase in ("Succeeded", "Failed"):
        grace = 0
    if grace == 0:
        core.fact(What.POD_DELETED, pod.key, by, f"{by} deleted {pod.meta.name} without waiting")
        change = core.remove(pod.key, by)
        if change is not None:
            core.fact(What.POD_REMOVED, pod.key, by, f"{pod.meta.name} was removed from the API", change.revision)
        return
    if pod.meta.deletion_ns is not None and (pod.meta.grace_s or 0) <= grace:
        return
    since = core.now_ns if pod.meta.deletion_ns is None else pod.meta.deletion_ns
    change = core.put(replace(pod, meta=replace(pod.meta, deletion_ns=since, grace_s=grace)), by)
    if change is not None:
        core.fact(
            What.POD_DELETED, pod.key, by, f"{by} deleted {pod.meta.name} with {grace} s of grace", change.revision
        )
