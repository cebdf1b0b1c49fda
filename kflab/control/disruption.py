"""PodDisruptionBudgets: how many pods may be evicted now, and the eviction itself.

The controller counts healthy pods into the budget's status; the API server's eviction subresource reads that status and
takes one off. Nothing but evictions looks at it: deletes, crashes and node failures do not ask.

Source: k8s.io/kubernetes pkg/controller/disruption/disruption.go (trySync, getExpectedPodCount, countHealthyPods,
buildDisruptedPodMap, updatePdbStatus) and pkg/registry/core/pod/storage/eviction.go. An empty selector takes every pod
of the namespace (website docs/tasks/run-application/configure-pdb). Controllers the lab knows by their replicas are
Deployments, ReplicaSets and StatefulSets; DaemonSets have no scale, so a share of them allows nothing.
"""

from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.admission import require_api
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.job_failures import BY_EVICTION
from kflab.control.pods import mark_deleted
from kflab.control.rollout import resolve
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import BudgetStatus, Deployment, PodDisruptionBudget, ReplicaSet, StatefulSet
from kflab.records import dataclass

BY = "disruption-controller"

VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
"""The API server's message with code 429; clients try again."""


@dataclass(frozen=True, slots=True)
class SyncBudget(Event):
    """A budget is taken from the work queue."""

    room: ClassVar[str] = "disruption"
    needs_api: ClassVar[bool] = True
    key: Key


class DisruptionController(Controller):
    """Keeps the budgets' statuses, and evicts."""

    room = "disruption"
    kinds = ("PodDisruptionBudget", "Pod")
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}

    def changed(self, change: Change) -> None:
        """Queue a budget, or those of a pod."""
        if change.key.kind == "PodDisruptionBudget":
            if change.new is not None:
                self._enqueue(change.key)
            return
        if not self.core.store.count("PodDisruptionBudget"):
            return
        for obj in (change.old, change.new):
            if isinstance(obj, Pod):
                for budget in self.budgets_of(obj):
                    self._enqueue(budget.key)

    def _enqueue(self, key: Key) -> None:
        if key not in self._queued:
            self._queued[key] = None
            self.core.push(self.core.delay("watch_s", key) + self.core.delay("controller_s", key), SyncBudget(key))

    def handle(self, event: Event) -> None:
        """Work out what a budget allows now."""
        assert isinstance(event, SyncBudget)
        self._queued.pop(event.key, None)
        budget = self.core.store.get(event.key)
        if not isinstance(budget, PodDisruptionBudget):
            return
        status = self._status(budget)
        if status != budget.status:
            self.core.put(replace(budget, status=status), BY)
            self._say(budget, status)
        if status.disrupted:
            first = min(since for _, since in status.disrupted)
            self._queued[event.key] = None
            self.core.push_at(first + self.core.spans["budget_deletion_timeout_s"][0] + 1, event)

    def _say(self, budget: PodDisruptionBudget, status: BudgetStatus) -> None:
        if status.disruptions_allowed != budget.status.disruptions_allowed:
            allowed = status.disruptions_allowed
            text = f"{budget.meta.name} allows {allowed} disruption{'s' if allowed != 1 else ''}: "
            text += f"{status.current_healthy} healthy, {status.desired_healthy} wanted"
            self.core.fact(What.BUDGET_CHANGED, budget.key, BY, text)

    # --- what a budget allows -------------------------------------------------------------------------------

    def _status(self, budget: PodDisruptionBudget) -> BudgetStatus:
        pods = self._pods(budget)
        since_at_least = self.core.now_ns - self.core.spans["budget_deletion_timeout_s"][0]
        by_name = {pod.meta.name: pod for pod in pods}
        disrupted = tuple(
            (name, since) for name, since in budget.status.disrupted
            if name in by_name and by_name[name].meta.deletion_ns is None and since >= since_at_least
        )  # fmt: skip
        going = {name for name, _ in disrupted}
        healthy = sum(
            pod.meta.deletion_ns is None and pod.meta.name not in going and pod.status.ready for pod in pods
        )  # fmt: skip
        expected, desired = self._expected(budget, pods)
        allowed = max(0, healthy - desired) if expected > 0 else 0
        return BudgetStatus(healthy, desired, expected, allowed, budget.meta.generation, disrupted)

    def _pods(self, budget: PodDisruptionBudget) -> list[Pod]:
        if budget.selector is None:
            return []
        keys = self.core.index.pods_matching(budget.meta.namespace, budget.selector)
        return [pod for pod in map(self.core.store.get, keys) if isinstance(pod, Pod)]

    def _expected(self, budget: PodDisruptionBudget, pods: list[Pod]) -> tuple[int, int]:
        """(expectedPods, desiredHealthy)."""
        if budget.max_unavailable is not None:
            expected = self._scale(pods)
            return expected, max(0, expected - resolve(budget.max_unavailable, expected, up=True))
        if isinstance(budget.min_available, str):
            expected = self._scale(pods)
            return expected, resolve(budget.min_available, expected, up=True)
        return len(pods), budget.min_available or 0

    def _scale(self, pods: list[Pod]) -> int:
        """Sum of spec.replicas over the pods' controllers; 0, so that nothing is allowed, where one has no scale."""
        scales: dict[Key, int] = {}
        for pod in pods:
            owner = pod.meta.owner
            if owner is None:
                continue
            workload = self.core.store.get(owner)
            if isinstance(workload, ReplicaSet) and workload.meta.owner is not None:
                workload = self.core.store.get(workload.meta.owner)
            if not isinstance(workload, Deployment | ReplicaSet | StatefulSet):
                return 0
            scales[workload.key] = workload.replicas
        return sum(scales.values())

    def budgets_of(self, pod: Pod) -> list[PodDisruptionBudget]:
        """Budgets that select a pod."""
        return [
            budget for budget in self.core.store.of_kind("PodDisruptionBudget", pod.meta.namespace)
            if isinstance(budget, PodDisruptionBudget) and budget.selector is not None
            and budget.selector.matches(pod.meta.labels)
        ]  # fmt: skip

    # --- the eviction subresource ---------------------------------------------------------------------------

    def refusal(self, key: Key) -> str:
        """Why the API server would refuse an eviction now with 429; "": it would not.

        Raises:
            KflabError: When the pod is not there, or has several budgets (code 500).
        """
        return self._check(key)[1]

    def evict(self, key: Key, by: str, grace_s: int | None = None) -> None:
        """POST pods/NAME/eviction: a delete, if the pod's budget allows it.

        Args:
            key: The pod.
            by: Who asks.
            grace_s: Grace period of the delete; None: the pod's own.

        Raises:
            KflabError: In the API server's words, when it refuses; `refusal` says beforehand whether with 429.
        """
        require_api(self.core)
        pod, refused, budget = self._check(key)
        if refused:
            raise KflabError(refused)
        if budget is not None:
            status = replace(
                budget.status,
                disruptions_allowed=budget.status.disruptions_allowed - 1,
                disrupted=(*budget.status.disrupted, (key.name, self.core.now_ns)),
            )
            self.core.put(replace(budget, status=status), "eviction")
        self.core.fact(What.POD_EVICTED, key, by, f"{by} evicted {key.name}")
        mark_deleted(self.core, pod, grace_s, by, BY_EVICTION)

    def _check(self, key: Key) -> tuple[Pod, str, PodDisruptionBudget | None]:
        """(the pod, why not, the budget that has to give one)."""
        pod = self.core.store.get(key)
        if not isinstance(pod, Pod):
            raise KflabError(f'Error from server (NotFound): pods "{key.name}" not found')
        if pod.meta.deletion_ns is not None or pod.status.phase in ("Succeeded", "Failed", "Pending"):
            return pod, "", None  # canIgnorePDB
        budgets = self.budgets_of(pod)
        if len(budgets) > 1:
            raise KflabError(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        if not budgets:
            return pod, "", None
        budget = budgets[0]
        status = budget.status
        if not pod.status.ready:
            enough = status.current_healthy >= status.desired_healthy > 0
            if budget.unhealthy_policy == "AlwaysAllow" or enough:
                return pod, "", None
        if status.observed_generation < budget.meta.generation:
            why = f"The disruption budget {budget.meta.name} is still being processed by the server."
            return pod, f"{VIOLATES} {why}", budget
        if status.disruptions_allowed <= 0:
            needs = f"needs {status.desired_healthy} healthy pods and has {status.current_healthy} currently"
            return pod, f"{VIOLATES} The disruption budget {budget.meta.name} {needs}", budget
        return pod, "", budget
