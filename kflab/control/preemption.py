"""Room for an important pod: which pods of lower priority go for it.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins/defaultpreemption/default_preemption.go
(SelectVictimsOnNode, filterPodsWithPDBViolation, PodEligibleToPreemptOthers), framework/preemption/preemption.go
(DryRunPreemption, pickOneNodeForPreemption), pkg/scheduler/util/utils.go (MoreImportantPod, GetEarliestPodStartTime).

A node is a candidate where the pod would fit without the pods of lower priority. As many of those as possible stay,
first those whose PodDisruptionBudget would be violated, then the others, the more important before the less. Of the
candidates the one with the fewest violations wins, then the one whose most important victim is least important, then
the smaller sum of priorities, then fewer victims, then the victim that started last. Budgets are asked, but do not
forbid. Of candidates that are equal in all this the first node wins, where upstream takes any.
"""

from collections.abc import Sequence
from dataclasses import replace

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core, address_of
from kflab.control.nodespace import occupies
from kflab.control.placement import Nominated, Placement, Reasons, sentence
from kflab.control.podsaround import NO_LABEL, NOT_NEAR
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import PodDisruptionBudget
from kflab.records import dataclass

UNHELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"

LEAST_CANDIDATES, SHARE_OF_NODES = 100, 10
"""minCandidateNodesAbsolute and minCandidateNodesPercentage: so many candidates are enough."""

_ABOVE_NEGATIVE = 2**31
"""Added to each priority, so that a negative sum does not prefer more victims (math.MaxInt32 + 1)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node, and who has to go there."""

    node: str
    victims: tuple[Pod, ...]
    """Most important first."""
    violations: int
    """Victims that take a PodDisruptionBudget below what it wants."""


class Preemption(Mutable):
    """Finds victims, and remembers for whom room is being made."""

    def __init__(self, core: Core, placement: Placement) -> None:
        self.core, self.placement = core, placement
        self.nominated: dict[Key, Pod] = {}
        """Pods for which others are being deleted, with status.nominatedNodeName."""
        self.victims: dict[Key, str] = {}
        """Pods that were deleted to make room → their uid."""
        self._priorities: dict[int, int] = {}
        """Priority → bound pods of it."""

    def take(self, pod: Pod, step: int) -> None:
        """A pod was bound to a node (1), or left it (-1)."""
        priority = pod.spec.priority
        left = self._priorities.get(priority, 0) + step
        if left:
            self._priorities[priority] = left
        else:
            self._priorities.pop(priority, None)

    def forget(self, key: Key) -> None:
        """A pod is bound, or gone: no room is held for it."""
        self.nominated.pop(key, None)
        self.victims.pop(key, None)

    def before(self, pod: Pod) -> Nominated:
        """Pods that are nominated for a node and no less important than this one (addNominatedPods)."""
        found: dict[str, list[Pod]] = {}
        for key, other in self.nominated.items():
            if key != pod.key and other.spec.priority >= pod.spec.priority:
                node = other.status.nominated_node
                found.setdefault(node, []).append(replace(other, spec=replace(other.spec, node_name=node)))
        return found

    def find(self, pod: Pod, fitting: Sequence[str], reasons: Reasons) -> tuple[Candidate | None, str]:
        """Look for room that could be made.

        Args:
            pod: A pod that fits nowhere.
            fitting: Nodes that go with it by themselves, in order.
            reasons: Why each of them was refused.

        Returns:
            The best candidate, None where there is none; and what the scheduler says about it, "" for a candidate.
        """
        if pod.spec.preemption_policy == "Never":
            return None, "not eligible due to preemptionPolicy=Never."
        mine = self.nominated.get(pod.key)
        if mine is not None and mine.status.nominated_node in fitting and self._clearing(mine):
            return None, "not eligible due to a terminating pod on the nominated node."
        every = {key.name: (UNHELPFUL,) for key in self.core.store.keys("Node")}
        told: dict[str, Sequence[str]] = {**every}
        helpful = [name for name in fitting if not {NOT_NEAR, NO_LABEL} & set(reasons.get(name, ()))]
        if all(priority >= pod.spec.priority for priority in self._priorities):
            told.update(dict.fromkeys(helpful, (NO_VICTIMS,)))
            return None, sentence(told)
        found = self._candidates(pod, helpful, told)
        return (_best(found), "") if found else (None, sentence(told))

    def _clearing(self, pod: Pod) -> bool:
        """Whether pods that were deleted for this one are still there."""
        there = self._pods_on(pod.status.nominated_node)
        return any(
            other.terminating and self.victims.get(other.key) == other.meta.uid
            and other.spec.priority < pod.spec.priority for other in there
        )  # fmt: skip

    def _candidates(self, pod: Pod, names: Sequence[str], told: dict[str, Sequence[str]]) -> list[Candidate]:
        enough = max(LEAST_CANDIDATES, len(names) * SHARE_OF_NODES // 100)
        start = 0
        if len(names) > enough:
            n = self.core.next_draw("preemption-offset", address_of(pod.key))
            start = self.core.draws.control_between("preemption-offset", address_of(pod.key), n, 0, len(names))
        before = self.before(pod)
        found: list[Candidate] = []
        for name in (*names[start:], *names[:start]):
            candidate = self._on_node(pod, name, before, told)
            if candidate is not None:
                found.append(candidate)
            if len(found) >= enough and any(not each.violations for each in found):
                break
        return found

    def _pods_on(self, node: str) -> list[Pod]:
        pods = (self.core.store.get(key) for key in self.core.index.pods_on(node))
        return [pod for pod in pods if isinstance(pod, Pod) and occupies(pod)]

    def _on_node(self, pod: Pod, node: str, before: Nominated, told: dict[str, Sequence[str]]) -> Candidate | None:
        """The fewest and least important pods that have to leave a node (SelectVictimsOnNode)."""
        possible = [other for other in self._pods_on(node) if other.spec.priority < pod.spec.priority]
        if not possible:
            told[node] = (NO_VICTIMS,)
            return None
        gone = {other.key: other for other in possible}
        refused = self.placement.without(pod, node, gone, before)
        if refused:
            told[node] = refused
            return None
        violating, others = self._by_budget(sorted(possible, key=self._importance))
        violations = 0
        for other in (*violating, *others):
            del gone[other.key]
            if self.placement.without(pod, node, gone, before):
                gone[other.key] = other
                violations += other in violating
        # Upstream takes nothing for a candidate where all may stay: then another's nomination kept the pod away.
        return Candidate(node, tuple(sorted(gone.values(), key=self._importance)), violations) if gone else None

    def _importance(self, pod: Pod) -> tuple[int, int]:
        """Sorts the most important first: by priority, then who started first."""
        return -pod.spec.priority, _started(pod, self.core.now_ns)

    def _by_budget(self, pods: Sequence[Pod]) -> tuple[list[Pod], list[Pod]]:
        """(pods whose deletion would violate a budget, the others); an empty selector selects nothing here."""
        budgets = [b for b in self.core.store.of_kind("PodDisruptionBudget") if isinstance(b, PodDisruptionBudget)]
        allowed = {budget.key: budget.status.disruptions_allowed for budget in budgets}
        violating: list[Pod] = []
        others: list[Pod] = []
        for pod in pods:
            violated = False
            for budget in budgets:
                selector = budget.selector
                if budget.meta.namespace != pod.meta.namespace or selector is None or not pod.meta.labels:
                    continue
                if not (selector.match_labels or selector.match_expressions) or not selector.matches(pod.meta.labels):
                    continue
                if any(name == pod.meta.name for name, _ in budget.status.disrupted):
                    continue
                allowed[budget.key] -= 1
                violated = violated or allowed[budget.key] < 0
            (violating if violated else others).append(pod)
        return violating, others


def _started(pod: Pod, now_ns: int) -> int:
    return now_ns if pod.status.start_ns is None else pod.status.start_ns


def _best(found: Sequence[Candidate]) -> Candidate:
    """pickOneNodeForPreemption."""

    def rank(candidate: Candidate) -> tuple[int, ...]:
        victims = candidate.victims
        highest = victims[0].spec.priority
        total = sum(pod.spec.priority + _ABOVE_NEGATIVE for pod in victims)
        earliest = min(_started(pod, 2**62) for pod in victims if pod.spec.priority == highest)
        return candidate.violations, highest, total, len(victims), -earliest

    return min(found, key=rank)
