"""What the API server would say about a HorizontalPodAutoscaler.

Source: k8s.io/kubernetes pkg/apis/autoscaling/validation/validation.go (validateHorizontalPodAutoscalerSpec,
validateBehavior, validateScalingRules, validateScalingPolicy).
"""

from typing import Any

from kflab.manifest.findings import Path, Report
from kflab.manifest.quantities import milli_of
from kflab.manifest.typed_autoscaler import POLICY_TYPES, SELECT_POLICIES, cpu_target, metric_name
from kflab.manifest.typed_common import Tree
from kflab.manifest.values import invalid, unsupported

LONGEST_WINDOW_S = 3600
LONGEST_PERIOD_S = 1800
_ABOVE = "must be greater than 0"


def check_autoscaler(tree: Tree, report: Report) -> None:
    """autoscaling/v2 and v1 HorizontalPodAutoscaler."""
    spec = tree.get("spec") or {}
    _check_bounds(spec, report)
    reference = spec.get("scaleTargetRef") or {}
    for field in ("kind", "name"):
        if not reference.get(field):
            report.refused(("spec", "scaleTargetRef", field), "Required value", "it scales nothing")
    share = spec.get("targetCPUUtilizationPercentage")
    if share is not None and tree.get("apiVersion") != "autoscaling/v1":
        words = 'unknown field "spec.targetCPUUtilizationPercentage": it belongs to autoscaling/v1'
        report.refused(("spec", "targetCPUUtilizationPercentage"), words, "it is read as the CPU target")
    if share is not None and share <= 0:
        path: Path = ("spec", "targetCPUUtilizationPercentage")
        report.refused(path, invalid(share, _ABOVE), "80")
    for position, metric in enumerate(spec.get("metrics") or ()):
        _check_metric(metric, ("spec", "metrics", position), report)
    behavior = spec.get("behavior") or {}
    for field in ("scaleUp", "scaleDown"):
        _check_rules(behavior.get(field) or {}, ("spec", "behavior", field), report)


def _check_bounds(spec: Tree, report: Report) -> None:
    least, most = spec.get("minReplicas"), spec.get("maxReplicas")
    if least is not None and least < 1:
        words = "must be greater than or equal to 1 (0 needs the alpha feature HPAScaleToZero)"
        report.refused(("spec", "minReplicas"), invalid(least, words), f"minReplicas {max(0, least)}")
    if most is None or most < 1:
        words = "Required value" if most is None else invalid(most, _ABOVE)
        report.refused(("spec", "maxReplicas"), words, f"maxReplicas {max(1, least or 1)}")
    elif least is not None and most < least:
        words = invalid(most, "must be greater than or equal to `minReplicas`")
        report.refused(("spec", "maxReplicas"), words, f"maxReplicas {least}")


def _check_metric(metric: Tree, path: Path, report: Report) -> None:
    if cpu_target(metric) is not None:
        return
    source = metric.get("resource") or {}
    if metric.get("type") == "Resource" and source.get("name") == "cpu":
        words = "Required value: must set either a target raw value or a target utilization"
        report.refused((*path, "resource", "target"), words, "the metric is left out")
    elif not metric.get("type"):
        report.refused((*path, "type"), "Required value: must specify a metric source type", "the metric is left out")
    else:
        words = f"metric {metric_name(metric)} is not modelled: only the pods' CPU scales in the lab"
        report.warn(path, words)


def _check_rules(rules: Tree, path: Path, report: Report) -> None:
    window, select = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    if window is not None and not 0 <= window <= LONGEST_WINDOW_S:
        bound = (
            "must be greater than or equal to zero"
            if window < 0
            else f"must be less than or equal to {LONGEST_WINDOW_S}"
        )
        assumed = f"{0 if window < 0 else LONGEST_WINDOW_S} s"
        report.refused((*path, "stabilizationWindowSeconds"), invalid(window, bound), assumed)
    if select is not None and select not in SELECT_POLICIES:
        report.refused((*path, "selectPolicy"), unsupported(select, SELECT_POLICIES), "Max")
    tolerance = rules.get("tolerance")
    if tolerance is not None and milli_of(tolerance) is None:
        words = invalid(tolerance, "must be greater than or equal to zero")
        report.refused((*path, "tolerance"), words, "the controller's own, 0.1")
    elif tolerance is not None:
        report.warn((*path, "tolerance"), "counts as from Kubernetes 1.35 on; before, it needs a feature gate "
                    "(HPAConfigurableTolerance)")  # fmt: skip
    for position, policy in enumerate(rules.get("policies") or ()):
        _check_policy(policy, (*path, "policies", position), report)


def _check_policy(policy: Tree, path: Path, report: Report) -> None:
    left_out = "this policy is left out"
    kind = policy.get("type")
    if kind not in POLICY_TYPES:
        report.refused((*path, "type"), unsupported(kind or "", POLICY_TYPES), left_out)
    for field in ("value", "periodSeconds"):
        number: Any = policy.get(field)
        if not number or number < 0:
            report.refused((*path, field), invalid(number or 0, _ABOVE), left_out)
    period = policy.get("periodSeconds") or 0
    if period > LONGEST_PERIOD_S:
        words = invalid(period, f"must be less than or equal to {LONGEST_PERIOD_S}")
        report.refused((*path, "periodSeconds"), words, "it counts as written")
