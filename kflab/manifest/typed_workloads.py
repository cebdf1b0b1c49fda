"""Workloads. Defaults: k8s.io/kubernetes pkg/apis/apps/v1/defaults.go."""

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from kflab.manifest.objects import Condition, LabelSelector, Requirement
from kflab.manifest.objects_pods import PodTemplate
from kflab.manifest.objects_workloads import (
    DaemonSet,
    Deployment,
    PodDisruptionBudget,
    ReplicaSet,
    RollingUpdate,
    StatefulSet,
)
from kflab.manifest.typed_common import Given, Tree, text_map
from kflab.manifest.typed_pods import pod_template
from kflab.replacing import replace


def deployment(tree: Tree, given: Given) -> Deployment:
    """apps/v1 Deployment."""
    spec = tree.get("spec") or {}
    selector, template = selector_and_template(spec, given.meta.name)
    return Deployment(
        given.meta,
        given.raw,
        given.place,
        replicas=count(spec.get("replicas"), 1),
        selector=selector,
        template=template,
        strategy=_rolling_update(spec.get("strategy"), "Recreate", "25%", "25%"),
        min_ready_s=count(spec.get("minReadySeconds"), 0),
        paused=bool(spec.get("paused")),
        revision_history_limit=count(spec.get("revisionHistoryLimit"), 10),
        progress_deadline_s=count(spec.get("progressDeadlineSeconds"), 600),
        observed=observed(tree),
        conditions=conditions(tree),
    )


def replica_set(tree: Tree, given: Given) -> ReplicaSet:
    """apps/v1 ReplicaSet."""
    spec = tree.get("spec") or {}
    selector, template = selector_and_template(spec, given.meta.name)
    return ReplicaSet(
        given.meta,
        given.raw,
        given.place,
        replicas=count(spec.get("replicas"), 1),
        selector=selector,
        template=template,
        min_ready_s=count(spec.get("minReadySeconds"), 0),
        observed=observed(tree),
    )


def stateful_set(tree: Tree, given: Given) -> StatefulSet:
    """apps/v1 StatefulSet.

    An updateStrategy without type gets partition 0; type RollingUpdate alone gets none (SetDefaults_StatefulSet).
    """
    spec, status = tree.get("spec") or {}, tree.get("status") or {}
    selector, template = selector_and_template(spec, given.meta.name)
    strategy = spec.get("updateStrategy") or {}
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    most = (rolling or {}).get("maxUnavailable")
    return StatefulSet(
        given.meta,
        given.raw,
        given.place,
        replicas=count(spec.get("replicas"), 1),
        selector=selector,
        template=template,
        service_name=spec.get("serviceName") or "",
        pod_management=spec.get("podManagementPolicy") or "OrderedReady",
        update_type="OnDelete" if kind == "OnDelete" else "RollingUpdate",
        partition=None if kind and rolling is None else count((rolling or {}).get("partition"), 0),
        max_unavailable=most if is_share(most) else None,
        min_ready_s=count(spec.get("minReadySeconds"), 0),
        start_ordinal=count((spec.get("ordinals") or {}).get("start"), 0),
        revision_history_limit=count(spec.get("revisionHistoryLimit"), 10),
        observed=observed(tree),
        current_revision=str(status.get("currentRevision") or ""),
        update_revision=str(status.get("updateRevision") or ""),
    )


def daemon_set(tree: Tree, given: Given) -> DaemonSet:
    """apps/v1 DaemonSet: by default no surge, one pod unavailable."""
    spec = tree.get("spec") or {}
    selector, template = selector_and_template(spec, given.meta.name)
    return DaemonSet(
        given.meta,
        given.raw,
        given.place,
        selector=selector,
        template=template,
        update=_rolling_update(spec.get("updateStrategy"), "OnDelete", 0, 1),
        min_ready_s=count(spec.get("minReadySeconds"), 0),
        revision_history_limit=count(spec.get("revisionHistoryLimit"), 10),
        observed=observed(tree),
    )


def _rolling_update(strategy: Tree | None, other_type: str, surge: int | str, unavailable: int | str) -> RollingUpdate:
    """A strategy of type RollingUpdate, or of the one other type there is; the shares are the defaults."""
    strategy = strategy or {}
    rolling = strategy.get("rollingUpdate") or {}
    given_surge, given_unavailable = rolling.get("maxSurge"), rolling.get("maxUnavailable")
    return RollingUpdate(
        other_type if strategy.get("type") == other_type else "RollingUpdate",
        given_surge if is_share(given_surge) else surge,
        given_unavailable if is_share(given_unavailable) else unavailable,
    )


def disruption_budget(tree: Tree, given: Given) -> PodDisruptionBudget:
    """policy/v1 PodDisruptionBudget. What it observed is worked out anew."""
    spec = tree.get("spec") or {}
    least, most, selector = spec.get("minAvailable"), spec.get("maxUnavailable"), spec.get("selector")
    return PodDisruptionBudget(
        given.meta,
        given.raw,
        given.place,
        min_available=least if is_share(least) and not is_share(most) else None,
        max_unavailable=most if is_share(most) else None,
        selector=None if selector is None else label_selector(selector),
        unhealthy_policy="AlwaysAllow"
        if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        else "IfHealthyBudget",
    )


def label_selector(tree: Tree) -> LabelSelector:
    """metav1.LabelSelector."""
    return LabelSelector(
        text_map(tree.get("matchLabels")),
        tuple(
            Requirement(e.get("key") or "", e.get("operator") or "In", tuple(e.get("values") or ()))
            for e in tree.get("matchExpressions") or ()
        ),
    )


def selector_and_template(spec: Tree, name: str) -> tuple[LabelSelector, PodTemplate]:
    """A workload's selector and template.

    Where the API server would refuse, the lab's assumption: no selector means the template's labels, or `app: NAME`
    when it has none; a selector that the template does not match adds its labels to the template.
    """
    template = pod_template(spec.get("template"))
    given = spec.get("selector")
    if not selects_something(given):
        labels = template.labels or {"app": name}
        return LabelSelector(labels), replace(template, labels=labels)
    selector = label_selector(given)
    if not selector.matches(template.labels):
        template = replace(template, labels={**template.labels, **selector.match_labels})
    return selector, template


def selects_something(selector: Any) -> TypeGuard[Tree]:
    """Whether a selector has any requirement (apps/v1 refuses an empty one like a missing one)."""
    return bool(selector and (selector.get("matchLabels") or selector.get("matchExpressions")))


def is_share(value: Any) -> TypeGuard[int | str]:
    """Whether a value is a number of pods or a percentage."""
    return (
        re.fullmatch("[0-9]{1,9}%", value) is not None if isinstance(value, str) else (value is not None and value >= 0)
    )


def count(value: Any, default: int) -> int:
    """A number, 0 or more, or its default."""
    return default if value is None else max(0, int(value))


def observed(tree: Tree) -> Mapping[str, int]:
    """Counts of a status."""
    status = tree.get("status") or {}
    return {name: value for name, value in status.items() if isinstance(value, int) and not isinstance(value, bool)}


def conditions(tree: Tree) -> tuple[Condition, ...]:
    """Conditions of a dump; their dates lie before the lab opened and are not kept."""
    entries = (tree.get("status") or {}).get("conditions") or ()
    return tuple(
        Condition(e.get("type") or "", e.get("status") or "", e.get("reason") or "", e.get("message") or "")
        for e in entries
    )
