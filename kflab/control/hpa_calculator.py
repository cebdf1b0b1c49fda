"""How many replicas a HorizontalPodAutoscaler wants: usage against target, and the brakes.

Pure functions over plain values. Source: k8s.io/kubernetes pkg/controller/podautoscaler/replica_calculator.go
(GetResourceReplicas, groupPods, calcPlainMetricReplicas), metrics/utilization.go and horizontal.go
(normalizeDesiredReplicas, stabilizeRecommendationWithBehaviors, convertDesiredReplicasWithBehaviorRate).
"""

from collections.abc import Mapping, Sequence
from math import ceil

from kflab.control.delays import SECOND_NS
from kflab.manifest.objects_autoscaler import CpuTarget, ScalingRules
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

Stamped = Sequence[tuple[int, int]]
"""(when in ns, number) in order of time."""

WITHIN = "DesiredWithinRange"
IN_RANGE = "the desired count is within the acceptable range"
UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")

SCALE_UP_FACTOR, SCALE_UP_LEAST = 2, 4
"""Without spec.behavior one step goes to at most max(2 × current, 4) pods (horizontal.go, calculateScaleUpLimit)."""


class NoMetricsError(Exception):
    """Usage cannot be told; the message is the controller's."""


@dataclass(frozen=True, slots=True)
class PodUsage:
    """What the metrics API says of one pod."""

    t_ns: int
    """End of the window."""
    window_ns: int
    milli: int
    """CPU used on average in the window, thousandths."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the metric asks for."""

    replicas: int
    average_milli: int
    utilization: int | None
    """Per cent of the requests; None for a target that is no share."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The controller's own settings."""

    up: float = 0.1
    """How far use ÷ target may be above 1: --horizontal-pod-autoscaler-tolerance, or behavior.scaleUp.tolerance."""
    down: float = 0.1
    """The same below 1."""
    initialization_ns: int = 300 * SECOND_NS
    """--horizontal-pod-autoscaler-cpu-initialization-period."""
    readiness_delay_ns: int = 30 * SECOND_NS
    """--horizontal-pod-autoscaler-initial-readiness-delay."""

    def close(self, ratio: float) -> bool:
        """Whether a change would be too small (Tolerances.isWithin, both ends within)."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(slots=True)
class Groups:
    """Names of pods by what their usage is worth (groupPods). Those that are going are in none."""

    ready: list[str]
    unready: list[str]
    missing: list[str]


def group(pods: Sequence[Pod], usage: Mapping[str, PodUsage], now_ns: int, rules: Rules) -> Groups:
    """Sort pods as groupPods does for CPU."""
    groups = Groups([], [], [])
    for pod in pods:
        name, status = pod.meta.name, pod.status
        if pod.terminating or status.phase == "Failed":
            continue
        if status.phase == "Pending":
            groups.unready.append(name)
        elif name not in usage:
            groups.missing.append(name)
        elif _unready(pod, usage[name], now_ns, rules):
            groups.unready.append(name)
        else:
            groups.ready.append(name)
    return groups


def _unready(pod: Pod, usage: PodUsage, now_ns: int, rules: Rules) -> bool:
    start, since = pod.status.start_ns, pod.status.ready_since_ns
    if start is None or since is None:
        return True
    if start + rules.initialization_ns > now_ns:
        return not pod.status.ready or usage.t_ns < since + usage.window_ns
    return not pod.status.ready and start + rules.readiness_delay_ns > since


def wanted(
    current: int,
    target: CpuTarget,
    groups: Groups,
    usage: Mapping[str, PodUsage],
    requests: Mapping[str, int],
    rules: Rules,
) -> Wanted:
    """Replicas that bring the average use to the target.

    Args:
        current: spec.replicas of the workload.
        target: Share of the requests, or an average.
        groups: Of the pods that the workload selects.
        usage: Pod name → its usage.
        requests: Pod name → CPU it requests, thousandths; looked at for a share only.
        rules: Tolerance.

    Raises:
        NoMetricsError: When no pod's usage counts.
    """
    used = {name: usage[name].milli for name in groups.ready}
    if not used:
        raise NoMetricsError("did not receive metrics for targeted pods (pods might be unready)")
    share = target.utilization
    ratio, percent = _ratio(used, requests, target)
    average = sum(used.values()) // len(used)

    def result(replicas: int) -> Wanted:
        return Wanted(replicas, average, percent if share is not None else None)

    with_unready = bool(groups.unready) and ratio > 1.0
    if not with_unready and not groups.missing:
        return result(current if rules.close(ratio) else ceil(ratio * len(groups.ready)))
    if ratio != 1.0 or share is None:
        # Where nothing is known the cautious guess counts: all of it before going down, nothing before going up.
        for name in groups.missing:
            if ratio >= 1.0:
                used[name] = 0
            else:
                used[name] = requests[name] * max(100, share) // 100 if share is not None else target.average_milli or 0
    if with_unready:
        used.update(dict.fromkeys(groups.unready, 0))
    again, _ = _ratio(used, requests, target)
    if rules.close(again) or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return result(current)
    replicas = ceil(again * len(used))
    if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current):
        return result(current)
    return result(replicas)


def _ratio(used: Mapping[str, int], requests: Mapping[str, int], target: CpuTarget) -> tuple[float, int]:
    """(use ÷ target, per cent of the requests). The per cent are cut to whole ones before they are divided."""
    total = sum(used.values())
    if target.utilization is None:
        return (total // len(used)) / (target.average_milli or 1), 0
    asked = sum(requests[name] for name in used)
    if not asked:
        raise NoMetricsError("no metrics returned matched known pods")
    percent = total * 100 // asked
    return percent / target.utilization, percent


# --- brakes -----------------------------------------------------------------------------------------------------------


def stabilised(
    current: int, desired: int, past: Stamped, up_s: int, down_s: int, now_ns: int
) -> tuple[int, tuple[str, str]]:
    """The recommendation within the lowest and the highest of its windows (spec.behavior given).

    Args:
        current: Replicas now.
        desired: What the metric asks for now.
        past: Earlier recommendations.
        up_s: Stabilisation window upwards, s.
        down_s: The same downwards.
        now_ns: Now.

    Returns:
        The recommendation, and (reason, message) for when it is not `desired`.
    """
    up = min([desired, *(n for t, n in past if t > now_ns - up_s * SECOND_NS)])
    down = max([desired, *(n for t, n in past if t > now_ns - down_s * SECOND_NS)])
    found = min(max(current, up), down)
    way, word = ("ScaleUp", "lower") if desired >= current else ("ScaleDown", "higher")
    most = "lowest" if way == "ScaleUp" else "highest"
    text = f"recent recommendations were {word} than current one, applying the {most} recent recommendation"
    return found, (f"{way}Stabilized", text)


def limited(current: int, desired: int, least: int, most: int) -> tuple[int, tuple[str, str]]:
    """The step that is allowed without spec.behavior, and (reason, message)."""
    limit = max(SCALE_UP_FACTOR * current, SCALE_UP_LEAST)
    if desired < least:
        return least, TOO_FEW
    if desired > min(most, limit):
        return min(most, limit), UP_LIMIT if most > limit else TOO_MANY
    return desired, (WITHIN, IN_RANGE)


def limited_by_rules(
    current: int,
    desired: int,
    bounds: tuple[int, int],
    rules: tuple[ScalingRules, ScalingRules],
    steps: tuple[Stamped, Stamped],
    now_ns: int,
) -> tuple[int, tuple[str, str]]:
    """The step that spec.behavior allows, and (reason, message).

    Args:
        current: Replicas now.
        desired: The stabilised recommendation.
        bounds: minReplicas, maxReplicas.
        rules: Upwards, downwards.
        steps: Pods added and pods taken away so far, with their times.
        now_ns: Now.
    """
    least, most = bounds
    if desired > current:
        limit = max(current, _up_limit(current, rules[0], steps, now_ns))
        if desired > min(most, limit):
            return min(most, limit), UP_LIMIT if most > limit else TOO_MANY
    elif desired < current:
        limit = min(current, _down_limit(current, rules[1], steps, now_ns))
        if desired < max(least, limit):
            return max(least, limit), DOWN_LIMIT if least < limit else TOO_FEW
    return desired, (WITHIN, IN_RANGE)


def _at_start(current: int, period_s: int, steps: tuple[Stamped, Stamped], now_ns: int) -> int:
    """Replicas when a period began."""
    added, taken = (sum(n for t, n in some if t > now_ns - period_s * SECOND_NS) for some in steps)
    return current - added + taken


def _up_limit(current: int, rules: ScalingRules, steps: tuple[Stamped, Stamped], now_ns: int) -> int:
    if rules.select == "Disabled":
        return current
    proposed = []
    for policy in rules.policies:
        start = _at_start(current, policy.period_s, steps, now_ns)
        # Rounded up, as a share that adds less than a pod would never add one; in floating point as upstream, where
        # 100 pods and 10 % come to 110.00000000000001, and that to 111.
        share = ceil(start * (1 + policy.value / 100))
        proposed.append(start + policy.value if policy.type == "Pods" else share)
    return min(proposed) if rules.select == "Min" else max(proposed)


def _down_limit(current: int, rules: ScalingRules, steps: tuple[Stamped, Stamped], now_ns: int) -> int:
    if rules.select == "Disabled":
        return current
    proposed = []
    for policy in rules.policies:
        start = _at_start(current, policy.period_s, steps, now_ns)
        share = int(start * (1 - policy.value / 100))
        proposed.append(start - policy.value if policy.type == "Pods" else share)
    return max(proposed) if rules.select == "Min" else min(proposed)
