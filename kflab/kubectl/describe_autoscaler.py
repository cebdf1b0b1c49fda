"""`kubectl describe hpa` (k8s.io/kubectl pkg/describe/describe.go, describeHorizontalPodAutoscalerV2)."""

from kflab.cluster.store import Store
from kflab.kubectl.sheet import annotations, lines_of
from kflab.kubectl.tabular import Writer
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler, ScalingRules
from kflab.manifest.quantities import milli_text

DOWN_WINDOW_S = 300
"""Where the object says nothing, the controller's flag counts."""


def describe_autoscaler(out: Writer, obj: HorizontalPodAutoscaler, store: Store, now_ns: int) -> None:
    """Write a HorizontalPodAutoscaler."""
    del store, now_ns
    status = obj.status
    out.line(0, "Name:", obj.meta.name)
    out.line(0, "Namespace:", obj.meta.namespace)
    lines_of(out, "Labels", obj.meta.labels)
    annotations(out, "Annotations", obj.meta.annotations)
    out.line(0, "Reference:", f"{obj.target.kind}/{obj.target.name}")
    out.line(0, "Metrics:", "( current / target )")
    if obj.cpu is not None and obj.cpu.average_milli is not None:
        used = "<unknown>" if status.average_milli is None else milli_text(status.average_milli)
        out.line(1, "resource cpu on pods:", f"{used} / {milli_text(obj.cpu.average_milli)}")
    elif obj.cpu is not None:
        used = "<unknown>"
        if status.utilization is not None and status.average_milli is not None:
            used = f"{status.utilization}% ({milli_text(status.average_milli)})"
        title = "resource cpu on pods  (as a percentage of request):"
        out.line(1, title, f"{used} / {obj.cpu.utilization}%")
    out.line(0, "Min replicas:", str(obj.min_replicas))
    out.line(0, "Max replicas:", str(obj.max_replicas))
    if obj.up is not None or obj.down is not None:
        out.line(0, "Behavior:")
        _rules(out, "Scale Up:", obj.up, 0)
        _rules(out, "Scale Down:", obj.down, DOWN_WINDOW_S)
    pods = f"{status.current_replicas} current / {status.desired_replicas} desired"
    out.line(0, f"{obj.target.kind} pods:", pods)
    if status.conditions:
        out.flush()
        out.line(0, "Conditions:")
        out.line(1, "Type", "Status", "Reason", "Message")
        out.line(1, "----", "------", "------", "-------")
        for condition in status.conditions:
            out.line(1, condition.type, condition.status, condition.reason, condition.message)


def _rules(out: Writer, title: str, rules: ScalingRules | None, window_s: int) -> None:
    if rules is None:
        return
    out.line(1, title)
    window = window_s if rules.window_s is None else rules.window_s
    out.line(2, f"Stabilization Window: {window} seconds")
    out.line(2, f"Select Policy: {rules.select}")
    out.line(2, "Policies:")
    for policy in rules.policies:
        out.line(3, f"- Type: {policy.type}", f"Value: {policy.value}", f"Period: {policy.period_s} seconds")
