"""Workloads: what keeps pods of one template running, or runs them to their end; and the budget that guards them."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from kflab.manifest.objects import UNHASHED, Condition, KubeObject, LabelSelector
from kflab.manifest.objects_pods import PodTemplate
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class RollingUpdate:
    """Deployment strategy. Values are ints or percentages as text ("25%"); type Recreate ignores them."""

    type: str = "RollingUpdate"
    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


@dataclass(frozen=True, slots=True)
class Deployment(KubeObject):
    """apps/v1 Deployment."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    strategy: RollingUpdate = RollingUpdate()
    min_ready_s: int = 0
    paused: bool = False
    revision_history_limit: int = 10
    progress_deadline_s: int = 600
    observed: Mapping[str, int] = field(default_factory=dict)
    """status: replicas, updatedReplicas, readyReplicas, availableReplicas."""
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaSet(KubeObject):
    """apps/v1 ReplicaSet."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    min_ready_s: int = 0
    observed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revision:
    """One template that a StatefulSet or DaemonSet had: what a ControllerRevision object holds."""

    name: str
    """Value of its pods' label controller-revision-hash."""
    number: int
    """Counts up; a template that comes back gets the next number."""
    template: PodTemplate
    code: str
    """Our hash of the template, by which it is known again."""
    raw: Mapping[str, Any] | None = field(default=None, compare=False)
    """The template as the user wrote it, as {"spec": {"template": …}}, so that an undo brings all of it back."""
    cause: str = ""
    """Annotation kubernetes.io/change-cause of the workload when it got this template."""


@dataclass(frozen=True, slots=True)
class StatefulSet(KubeObject):
    """apps/v1 StatefulSet. Its ControllerRevisions are kept with it, not as objects of their own."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    service_name: str = ""
    pod_management: str = "OrderedReady"
    update_type: str = "RollingUpdate"
    """RollingUpdate or OnDelete."""
    partition: int | None = None
    """Ordinals below it keep their revision; None: spec.updateStrategy.rollingUpdate is not given."""
    max_unavailable: int | str | None = None
    """A count or a percentage as text; None: not given, one pod at a time."""
    min_ready_s: int = 0
    start_ordinal: int = 0
    revision_history_limit: int = 10
    observed: Mapping[str, int] = field(default_factory=dict)
    current_revision: str = ""
    update_revision: str = ""
    revisions: tuple[Revision, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonSet(KubeObject):
    """apps/v1 DaemonSet; one pod per fitting node. Its ControllerRevisions are kept with it."""

    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    update: RollingUpdate = RollingUpdate("RollingUpdate", 0, 1)
    """Its type is RollingUpdate or OnDelete."""
    min_ready_s: int = 0
    revision_history_limit: int = 10
    observed: Mapping[str, int] = field(default_factory=dict)
    revisions: tuple[Revision, ...] = ()


@dataclass(frozen=True, slots=True)
class FailureRule:
    """One rule of a Job's podFailurePolicy: onExitCodes if it has an operator, else onPodConditions."""

    action: str
    """FailJob, Ignore, Count or FailIndex."""
    operator: str = ""
    """In or NotIn."""
    codes: tuple[int, ...] = ()
    container: str = ""
    """containerName; "": any."""
    conditions: tuple[tuple[str, str], ...] = ()
    """(type, status), any of them."""


@dataclass(frozen=True, slots=True)
class SuccessRule:
    """One rule of a Job's successPolicy: which indexes have to succeed, how many of them; None: all of these, any."""

    indexes: tuple[int, ...] | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Job(KubeObject):
    """batch/v1 Job."""

    template: PodTemplate = PodTemplate()
    """Its restartPolicy is OnFailure or Never."""
    parallelism: int = 1
    completions: int | None = 1
    """None: one pod that succeeds is enough, and the others are waited for."""
    backoff_limit: int = 6
    active_deadline_s: int | None = None
    ttl_s: int | None = None
    """spec.ttlSecondsAfterFinished; None: it stays."""
    indexed: bool = False
    """completionMode Indexed."""
    suspend: bool = False
    replaces_failed_only: bool = False
    """podReplacementPolicy Failed: a pod that is being deleted is waited for."""
    failure_rules: tuple[FailureRule, ...] = field(default=(), metadata=UNHASHED)
    """spec.podFailurePolicy.rules."""
    backoff_per_index: int | None = None
    """spec.backoffLimitPerIndex: an index fails by itself when its pods failed more often; None: only the Job does."""
    max_failed_indexes: int | None = None
    """The Job fails at once when more indexes have; None: when all others have succeeded."""
    success_rules: tuple[SuccessRule, ...] = ()
    """spec.successPolicy.rules: the first that is met ends the Job well."""
    observed: Mapping[str, int] = field(default_factory=dict)
    """status: active, ready, succeeded, failed, terminating."""
    start_ns: int | None = None
    completion_ns: int | None = None
    completed_indexes: tuple[int, ...] = ()
    failed_indexes: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """PodDisruptionBudgetStatus; all 0 until the disruption controller has looked."""

    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    disruptions_allowed: int = 0
    observed_generation: int = 0
    disrupted: tuple[tuple[str, int], ...] = ()
    """(pod name, since) of evictions that the controller has not seen as deletes yet."""


@dataclass(frozen=True, slots=True)
class PodDisruptionBudget(KubeObject):
    """policy/v1 PodDisruptionBudget."""

    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    selector: LabelSelector | None = None
    """None selects no pod, an empty one every pod of the namespace."""
    unhealthy_policy: str = "IfHealthyBudget"
    """spec.unhealthyPodEvictionPolicy, or AlwaysAllow."""
    status: BudgetStatus = BudgetStatus()
