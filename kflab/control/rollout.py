"""The arithmetic of a Deployment: how many pods which ReplicaSet should have next. Pure functions.

Source: k8s.io/kubernetes pkg/controller/deployment/rolling.go, sync.go and util/deployment_util.go
(ResolveFenceposts, NewRSNewReplicas, GetReplicaSetProportion).
"""

from collections.abc import Sequence

from kflab.control.set_revisions import MAX
from kflab.manifest.objects import Key
from kflab.manifest.objects_workloads import Deployment, ReplicaSet
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """A rolling update's limits, in pods."""

    surge: int
    unavailable: int


def resolve(value: int | str, replicas: int, *, up: bool) -> int:
    """An int, or a percentage of `replicas` rounded up or down (apimachinery pkg/util/intstr)."""
    if isinstance(value, int):
        return value
    percent = int(value.rstrip("%"))
    return -(-percent * replicas // 100) if up else percent * replicas // 100


def bounds(deployment: Deployment) -> Bounds:
    """maxSurge rounds up, maxUnavailable down; if both come to 0, one pod may be unavailable."""
    if deployment.strategy.type == "Recreate":
        return Bounds(0, 0)
    surge = resolve(deployment.strategy.max_surge, deployment.replicas, up=True)
    unavailable = resolve(deployment.strategy.max_unavailable, deployment.replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Bounds(surge, min(unavailable, deployment.replicas) if deployment.replicas else unavailable)


def new_replicas(deployment: Deployment, new: int, total: int) -> int:
    """Size of the new ReplicaSet: as far up as the surge allows.

    Args:
        deployment: The Deployment.
        new: Present spec.replicas of its new ReplicaSet.
        total: Sum of spec.replicas over all its ReplicaSets.
    """
    if deployment.strategy.type == "Recreate":
        return deployment.replicas
    limit = deployment.replicas + bounds(deployment).surge
    if total >= limit:
        return new
    return new + min(limit - total, deployment.replicas - new)


def available(rs: ReplicaSet) -> int:
    """availableReplicas of its status."""
    return rs.observed.get("availableReplicas", 0)


def old_sizes(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> dict[Key, int]:
    """New sizes of old ReplicaSets, oldest first, of those that change: unhealthy pods go first, then ready ones."""
    sizes = {rs.key: rs.replicas for rs in old if rs.replicas > 0}
    if not sizes:
        return {}
    floor = deployment.replicas - bounds(deployment).unavailable
    total = new.replicas + sum(sizes.values())
    allowed = total - floor - (new.replicas - available(new))
    if allowed <= 0:
        return {}
    left = allowed
    for rs in old:
        unhealthy = min(sizes.get(rs.key, 0), max(0, rs.replicas - available(rs)))
        gone = min(left, unhealthy)
        if gone > 0:
            sizes[rs.key] -= gone
            left -= gone
    # A status that lags behind a scale-down would count pods that are about to go, and take availability below its
    # bound for a moment: a set has no more available pods than it is asked to have.
    spare = available(new) + sum(min(available(rs), rs.replicas) for rs in old) - floor
    for rs in old:
        gone = min(max(0, spare), sizes.get(rs.key, 0))
        if gone > 0:
            sizes[rs.key] -= gone
            spare -= gone
    before = {rs.key: rs.replicas for rs in old}
    return {key: size for key, size in sizes.items() if size != before[key]}


def scaled(deployment: Deployment, active: Sequence[ReplicaSet]) -> dict[Key, int]:
    """Sizes after `replicas` changed in the middle of a rollout: every ReplicaSet in proportion, larger first.

    Args:
        deployment: A Deployment with a rolling update.
        active: Its ReplicaSets that are not empty.

    Returns:
        ReplicaSet → size, of those that change. What rounding leaves over is the largest one's.
    """
    allowed = deployment.replicas + bounds(deployment).surge if deployment.replicas > 0 else 0
    to_add = allowed - sum(rs.replicas for rs in active)
    if to_add == 0:
        return {}
    order = sorted(active, key=lambda rs: (-rs.replicas, -rs.meta.creation_ns if to_add > 0 else rs.meta.creation_ns))
    sizes, added = {}, 0
    for rs in order:
        share = _share(deployment, rs, allowed) if added != to_add else 0
        share = min(share, to_add - added) if to_add > 0 else max(share, to_add - added)
        sizes[rs.key] = rs.replicas + share
        added += share
    first = order[0].key
    sizes[first] = max(0, sizes[first] + to_add - added)
    return {rs.key: sizes[rs.key] for rs in active if sizes[rs.key] != rs.replicas}


def _share(deployment: Deployment, rs: ReplicaSet, allowed: int) -> int:
    """How many pods a ReplicaSet gains (getReplicaSetFraction): its size as a share of `allowed` before, halves up."""
    if not allowed:
        return -rs.replicas
    given = rs.meta.annotations.get(MAX, "")
    before = int(given) if given.isdecimal() and int(given) else deployment.observed.get("replicas", 0)
    return (2 * rs.replicas * allowed + before) // (2 * before) - rs.replicas if before else 0
