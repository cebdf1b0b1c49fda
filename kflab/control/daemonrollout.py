"""One step of a DaemonSet's rolling update: which pods go, which nodes get a second one. Pure functions.

Source: k8s.io/kubernetes pkg/controller/daemon/update.go (rollingUpdate, findUpdatedPodsOnNode,
updatedDesiredNodeCounts) as of 1.33: there an old pod that is not available is replaced outside of maxUnavailable and
does not count into it. Upstream looks at nodes in Go's random map order, here in the order of the store.
"""

from collections.abc import Callable, Mapping, Sequence

from kflab.control.revisions import is_of
from kflab.control.rollout import Bounds, resolve
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import RollingUpdate
from kflab.records import dataclass

OnNodes = Mapping[str, Sequence[Pod]]
"""Node → its daemon pods; nodes that should have one and do not are there with none."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next."""

    delete: tuple[Pod, ...] = ()
    make: tuple[str, ...] = ()
    """Nodes that get a pod of the new revision beside the old one."""


def limits(update: RollingUpdate, desired: int) -> Bounds:
    """maxSurge and maxUnavailable of so many nodes, both rounded up; if both come to 0, one may be unavailable."""
    surge = resolve(update.max_surge, desired, up=True)
    unavailable = resolve(update.max_unavailable, desired, up=True)
    return Bounds(surge, unavailable if surge or unavailable else 1)


def old_and_new(pods: Sequence[Pod], revision: str) -> tuple[Pod | None, Pod | None] | None:
    """A node's old and new pod among those that are not terminating; None while there are too many of either."""
    there = [pod for pod in pods if not pod.terminating]
    new = [pod for pod in there if is_of(pod, revision)]
    old = [pod for pod in there if not is_of(pod, revision)]
    if len(new) > 1 or len(old) > 1:
        return None
    return (old[0] if old else None, new[0] if new else None)


def replacing(on_nodes: OnNodes, revision: str, most: int, available: Callable[[Pod], bool]) -> Step:
    """Without surge: delete old pods as long as no more than `most` nodes lack an available one.

    Args:
        on_nodes: The pods.
        revision: Name of the new revision.
        most: maxUnavailable, in nodes.
        available: Whether a pod has been ready for minReadySeconds.
    """
    lacking, broken, candidates = 0, [], []
    for pods in on_nodes.values():
        found = old_and_new(pods, revision)
        old, new = found if found is not None else (None, None)
        if (old is None) == (new is None):
            lacking += 1
        elif new is not None:
            lacking += not available(new)
        elif old is not None and not available(old):
            broken.append(old)
        elif old is not None:
            candidates.append(old)
    return Step((*broken, *candidates[: max(0, most - lacking)]))


def surging(
    on_nodes: OnNodes,
    revision: str,
    most: int,
    wanted: Mapping[str, None],
    available: Callable[[Pod], bool],
) -> Step:
    """With surge: make new pods beside at most `most` available old ones, delete the old where the new is available.

    Args:
        on_nodes: The pods.
        revision: Name of the new revision.
        most: maxSurge, in nodes.
        wanted: Nodes that should have a pod. Old pods elsewhere go when enough nodes have an available one.
        available: Whether a pod has been ready for minReadySeconds.
    """
    delete: list[Pod] = []
    elsewhere: list[Pod] = []
    replace_now: list[str] = []
    candidates: list[str] = []
    surged = well = 0
    for node, pods in on_nodes.items():
        found = old_and_new(pods, revision)
        if found is None:
            surged += 1
            continue
        old, new = found
        stands = old or new
        well += stands is not None and available(stands)
        if old is None:
            continue
        if new is not None:
            if available(new):
                delete.append(old)
            else:
                surged += 1
        elif not available(old):
            if node in wanted:
                replace_now.append(node)
            else:
                delete.append(old)
        elif node in wanted:
            candidates.append(node)
        else:
            elsewhere.append(old)
    delete += elsewhere[: max(0, well - len(wanted))]
    return Step(tuple(delete), (*replace_now, *candidates[: max(0, most - surged)]))
