"""What workloads write, their budgets and their autoscalers."""

from kflab.manifest.objects_autoscaler import CpuTarget, HorizontalPodAutoscaler, ScalingRules
from kflab.manifest.objects_workloads import (
    DaemonSet,
    Deployment,
    FailureRule,
    Job,
    PodDisruptionBudget,
    ReplicaSet,
    StatefulSet,
)
from kflab.manifest.quantities import milli_text
from kflab.manifest.typed_batch import indexes_text
from kflab.manifest.write_common import (
    IfAbsent,
    Start,
    Tree,
    condition_tree,
    observed_tree,
    selector_tree,
    some,
    written,
)
from kflab.manifest.write_pods import template_tree


def deployment_tree(obj: Deployment, start: Start) -> Tree:
    """spec and status of a Deployment."""
    strategy: Tree = {"type": obj.strategy.type}
    if obj.strategy.type == "RollingUpdate":
        strategy["rollingUpdate"] = {
            "maxSurge": obj.strategy.max_surge,
            "maxUnavailable": obj.strategy.max_unavailable,
        }
    return {
        "spec": {
            **some(minReadySeconds=obj.min_ready_s or None, paused=obj.paused or None),
            "progressDeadlineSeconds": obj.progress_deadline_s,
            "replicas": obj.replicas,
            "revisionHistoryLimit": obj.revision_history_limit,
            "selector": selector_tree(obj.selector),
            "strategy": strategy,
            "template": template_tree(obj.template),
        },
        "status": {
            **observed_tree(obj.observed),
            **some(conditions=[condition_tree(c, start) for c in obj.conditions]),
        },
    }


def replica_set_tree(obj: ReplicaSet | StatefulSet | DaemonSet, start: Start) -> Tree:
    """spec and status of a ReplicaSet, StatefulSet or DaemonSet."""
    spec: Tree = {"selector": selector_tree(obj.selector), "template": template_tree(obj.template)}
    if isinstance(obj, ReplicaSet | StatefulSet):
        spec["replicas"] = obj.replicas
    if obj.min_ready_s:
        spec["minReadySeconds"] = obj.min_ready_s
    status = observed_tree(obj.observed)
    if isinstance(obj, StatefulSet):
        spec |= {"podManagementPolicy": obj.pod_management, "serviceName": obj.service_name}
        spec |= {"revisionHistoryLimit": obj.revision_history_limit, "updateStrategy": _ordered_update(obj)}
        if obj.start_ordinal:
            spec["ordinals"] = {"start": obj.start_ordinal}
        status |= some(currentRevision=obj.current_revision, updateRevision=obj.update_revision)
    elif isinstance(obj, DaemonSet):
        update: Tree = {"type": obj.update.type}
        if obj.update.type == "RollingUpdate":
            limits = {"maxSurge": obj.update.max_surge, "maxUnavailable": obj.update.max_unavailable}
            update["rollingUpdate"] = limits
        spec |= {"revisionHistoryLimit": obj.revision_history_limit, "updateStrategy": update}
    return {"spec": spec, "status": status}


def _ordered_update(obj: StatefulSet) -> Tree:
    update: Tree = {"type": obj.update_type}
    if obj.update_type == "RollingUpdate" and (obj.partition is not None or obj.max_unavailable is not None):
        update["rollingUpdate"] = {"partition": obj.partition or 0}
        if obj.max_unavailable is not None:
            update["rollingUpdate"]["maxUnavailable"] = obj.max_unavailable
    return update


def job_tree(obj: Job, start: Start) -> Tree:
    """spec and status of a Job."""
    spec = some(
        activeDeadlineSeconds=obj.active_deadline_s,
        backoffLimit=obj.backoff_limit,
        completionMode="Indexed" if obj.indexed else "NonIndexed",
        completions=obj.completions,
        parallelism=obj.parallelism,
        podFailurePolicy={"rules": [_failure_rule(rule) for rule in obj.failure_rules]} if obj.failure_rules else None,
        podReplacementPolicy="Failed" if obj.replaces_failed_only else "TerminatingOrFailed",
        ttlSecondsAfterFinished=obj.ttl_s,
        backoffLimitPerIndex=obj.backoff_per_index,
        maxFailedIndexes=obj.max_failed_indexes,
    )
    uid = {"batch.kubernetes.io/controller-uid": obj.meta.uid}
    selector = {"selector": {"matchLabels": uid}} if obj.meta.uid else {}
    status = some(
        completedIndexes=indexes_text(obj.completed_indexes),
        failedIndexes=indexes_text(obj.failed_indexes),
        completionTime=None if obj.completion_ns is None else written(obj.completion_ns, start),
        conditions=[condition_tree(c, start) for c in obj.conditions],
        startTime=None if obj.start_ns is None else written(obj.start_ns, start),
    )
    rules = [
        some(succeededCount=rule.count, succeededIndexes=None if rule.indexes is None else indexes_text(rule.indexes))
        for rule in obj.success_rules
    ]
    rest = {**selector, "suspend": obj.suspend, "template": template_tree(obj.template)}
    if rules:
        rest["successPolicy"] = {"rules": rules}
    return {"spec": {**spec, **rest}, "status": {**observed_tree(obj.observed), **status}}


def _failure_rule(rule: FailureRule) -> Tree:
    codes = some(containerName=rule.container, operator=rule.operator, values=list(rule.codes))
    patterns = [{"status": status, "type": kind} for kind, status in rule.conditions]
    return some(action=rule.action, onExitCodes=codes if rule.operator else None, onPodConditions=patterns)


def budget_tree(obj: PodDisruptionBudget, start: Start) -> Tree:
    """spec and status of a PodDisruptionBudget."""
    status = obj.status
    return {
        "spec": some(
            minAvailable=obj.min_available,
            maxUnavailable=obj.max_unavailable,
            selector=None if obj.selector is None else selector_tree(obj.selector),
            unhealthyPodEvictionPolicy=obj.unhealthy_policy if obj.unhealthy_policy != "IfHealthyBudget" else None,
        ),
        "status": {
            "currentHealthy": status.current_healthy,
            "desiredHealthy": status.desired_healthy,
            "disruptionsAllowed": status.disruptions_allowed,
            "expectedPods": status.expected_pods,
            "observedGeneration": status.observed_generation,
        },
    }


def autoscaler_tree(obj: HorizontalPodAutoscaler, start: Start) -> Tree:
    """spec and status of a HorizontalPodAutoscaler."""
    status = obj.status
    now: Tree = {}
    if obj.cpu is not None and status.average_milli is not None:
        value = milli_text(status.average_milli)
        current = some(averageUtilization=status.utilization, averageValue=value)
        now = {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]}
    return {
        "spec": some(
            maxReplicas=obj.max_replicas,
            minReplicas=obj.min_replicas,
            metrics=IfAbsent([_cpu_metric(obj.cpu)]) if obj.cpu is not None else None,
            behavior=some(
                scaleUp=_scaling(obj.up) if obj.up is not None else None,
                scaleDown=_scaling(obj.down) if obj.down is not None else None,
            ),
            scaleTargetRef={"apiVersion": obj.target_version, "kind": obj.target.kind, "name": obj.target.name},
        ),
        "status": {
            **some(
                currentReplicas=status.current_replicas,
                desiredReplicas=status.desired_replicas,
                lastScaleTime=written(status.last_scale_ns, start),
                conditions=[
                    some(
                        lastTransitionTime=written(c.since_ns, start),
                        message=c.message, reason=c.reason, status=c.status, type=c.type,
                    )
                    for c in status.conditions
                ],
            ),
            **now,
        },
    }  # fmt: skip


def _cpu_metric(cpu: CpuTarget) -> Tree:
    if cpu.average_milli is not None:
        target: Tree = {"type": "AverageValue", "averageValue": milli_text(cpu.average_milli)}
    else:
        target = {"type": "Utilization", "averageUtilization": cpu.utilization}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _scaling(rules: ScalingRules) -> Tree:
    policies = [{"type": p.type, "value": p.value, "periodSeconds": p.period_s} for p in rules.policies]
    return some(
        policies=policies,
        selectPolicy=rules.select,
        stabilizationWindowSeconds=rules.window_s,
        tolerance=None if rules.tolerance_milli is None else milli_text(rules.tolerance_milli),
    )
