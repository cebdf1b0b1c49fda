"""HorizontalPodAutoscaler. Defaults: k8s.io/kubernetes pkg/apis/autoscaling/v2/defaults.go.

Only the pods' CPU (type Resource, name cpu) scales anything in the lab. Where nothing else is written, that is the
default metric: 80 % of the requests. autoscaling/v1 is read too (targetCPUUtilizationPercentage).
"""

from typing import Any

from kflab.manifest.objects import Key
from kflab.manifest.objects_autoscaler import CpuTarget, HorizontalPodAutoscaler, ScalingPolicy, ScalingRules
from kflab.manifest.quantities import milli_of
from kflab.manifest.typed_common import Given, Tree

DEFAULT_UTILIZATION = 80
"""DefaultCPUUtilization (pkg/apis/autoscaling/types.go)."""

SELECT_POLICIES = ("Max", "Min", "Disabled")
POLICY_TYPES = ("Pods", "Percent")

UP_POLICIES = (ScalingPolicy("Pods", 4, 15), ScalingPolicy("Percent", 100, 15))
DOWN_POLICIES = (ScalingPolicy("Percent", 100, 15),)


def autoscaler(tree: Tree, given: Given) -> HorizontalPodAutoscaler:
    """autoscaling/v2 HorizontalPodAutoscaler. What it observed is worked out anew."""
    spec = tree.get("spec") or {}
    reference = spec.get("scaleTargetRef") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas")
    metrics = spec.get("metrics") or []
    cpu: CpuTarget | None = CpuTarget(utilization=spec.get("targetCPUUtilizationPercentage") or DEFAULT_UTILIZATION)
    if metrics:
        cpu = next((target for metric in metrics if (target := cpu_target(metric)) is not None), None)
    behavior = spec.get("behavior")
    least = 1 if least is None else max(0, least)
    return HorizontalPodAutoscaler(
        given.meta,
        given.raw,
        given.place,
        target=Key(reference.get("kind") or "", given.meta.namespace, reference.get("name") or ""),
        target_version=reference.get("apiVersion") or "",
        min_replicas=least,
        max_replicas=max(1, least, most or 0),
        cpu=cpu,
        left_out=tuple(metric_name(metric) for metric in metrics if cpu_target(metric) is None),
        up=None if behavior is None else _rules(behavior.get("scaleUp"), UP_POLICIES, 0),
        down=None if behavior is None else _rules(behavior.get("scaleDown"), DOWN_POLICIES, None),
    )


def cpu_target(metric: Tree) -> CpuTarget | None:
    """The pods' CPU that a metric aims at; None for every other metric."""
    source = metric.get("resource") or {}
    target = source.get("target") or {}
    if metric.get("type") != "Resource" or source.get("name") != "cpu":
        return None
    share = target.get("averageUtilization") or source.get("targetAverageUtilization")
    average = milli_of(target.get("averageValue") or source.get("targetAverageValue"))
    if share is not None and share > 0:
        return CpuTarget(utilization=share)
    return CpuTarget(average_milli=average) if average else None


def metric_name(metric: Tree) -> str:
    """A metric in words, for what is said of it."""
    kind = str(metric.get("type") or "?")
    source = metric.get(kind[:1].lower() + kind[1:])
    name = ""
    if isinstance(source, dict):
        inner = source.get("metric")
        name = str(source.get("name") or (inner.get("name") if isinstance(inner, dict) else "") or "")
    return f"{kind} {name}".rstrip()


def _rules(tree: Any, policies: tuple[ScalingPolicy, ...], window_s: int | None) -> ScalingRules:
    tree = tree or {}
    window, select, given = tree.get("stabilizationWindowSeconds"), tree.get("selectPolicy"), tree.get("policies")
    if given:
        policies = tuple(
            ScalingPolicy(p["type"], p["value"], p["periodSeconds"])
            for p in given
            if p.get("type") in POLICY_TYPES and _above(p.get("value")) and _above(p.get("periodSeconds"))
        ) or policies  # fmt: skip
    return ScalingRules(
        policies,
        window_s if window is None else min(max(0, window), 3600),
        select if select in SELECT_POLICIES else "Max",
        milli_of(tree.get("tolerance")),
    )


def _above(value: Any) -> bool:
    return isinstance(value, int) and value > 0
