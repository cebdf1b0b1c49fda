"""The scheduler's choice for a pod that a count of pods does not decide: filters, then scores over the nodes left.

Filters and scores are those of the default profile, in its order and with its weights (k8s.io/kubernetes
pkg/scheduler/apis/config/v1/default_plugins.go). Not modelled: volumes, host ports, dynamic resources, images that are
already there. Of nodes with equal scores the real scheduler draws one; here the one with fewest pods wins, then the
first. Every node is looked at, where the real one stops at a share of a large cluster (percentageOfNodesToScore).
"""

from collections.abc import Mapping, Sequence

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core
from kflab.control.nodefilters import preferences, preferred, soft_taints
from kflab.control.nodespace import MAX_SCORE, NodeSpace
from kflab.control.podresources import requests_of
from kflab.control.podsaround import PodsAround
from kflab.manifest.objects import Node, Pod

Reasons = Mapping[str, Sequence[str]]
"""Node → why it was refused, in the filters' words."""

TAINTS, AFFINITY, SPREAD, AROUND = 3, 2, 2, 2
"""Weights of TaintToleration, NodeAffinity, PodTopologySpread and InterPodAffinity; resources have 1."""


class Placement(Mutable):
    """Filters and scores."""

    def __init__(self, core: Core) -> None:
        self.index = core.index
        self.space = NodeSpace()
        self.around = PodsAround(core)
        self._soft_taints: dict[str, None] = {}
        """Nodes with a PreferNoSchedule taint."""

    def node_changed(self, name: str, node: Node | None) -> None:
        """A node came, changed or went."""
        self.space.node_changed(name, node)
        nodes = self.around.nodes
        if node is None:
            nodes.pop(name, None)
        else:
            nodes[name] = node
        self._soft_taints.pop(name, None)
        if node is not None and any(taint.effect == "PreferNoSchedule" for taint in node.taints):
            self._soft_taints[name] = None

    def take(self, pod: Pod, node: str, step: int) -> None:
        """A pod was bound to a node (1), or left it (-1)."""
        self.space.take(pod, node, step)
        self.around.take(pod, node, step)

    def asks(self, pod: Pod) -> bool:
        """Whether more than counts of pods decide where a pod goes."""
        if self._soft_taints or (self.space.limited and requests_of(pod.spec).asked != (0, 0)):
            return True
        return bool(preferences(pod.spec)) or self.around.concerned(pod)

    def choose(self, pod: Pod, nodes: Sequence[str]) -> tuple[str | None, Reasons]:
        """The best of some nodes that go with the pod by themselves, given in order.

        Returns:
            The node, None where none is left; and why others were refused.
        """
        reasons: dict[str, Sequence[str]] = {}
        around = self.around.refusals(pod, nodes)
        requests = requests_of(pod.spec)
        left: list[str] = []
        for node in nodes:
            # NodeResourcesFit runs before the plugins that look at other pods (noderesources/fit.go, fitsRequest).
            full = self.index.count_on(node) >= self.space.max_pods(node)
            refused = ["Too many pods"] if full else []
            refused += [f"Insufficient {name}" for name in self.space.lacking(node, requests)]
            if not refused and node in around:
                refused = [around[node]]
            if refused:
                reasons[node] = refused
            else:
                left.append(node)
        if len(left) <= 1:
            return (left[0] if left else None), reasons
        totals = self._totals(pod, left)
        ranks = [
            (-total, self.index.count_on(node), n) for n, (node, total) in enumerate(zip(left, totals, strict=True))
        ]
        return left[min(ranks)[2]], reasons

    def _totals(self, pod: Pod, left: Sequence[str]) -> list[int]:
        """Weighted sums of all scores."""
        requests = requests_of(pod.spec)
        nodes = [self.around.nodes[name] for name in left]
        taints = _of_highest([soft_taints(pod.spec, node) for node in nodes])
        affinity = _of_highest([preferred(pod.spec, node) for node in nodes])
        spread = self.around.evenness(pod, left)
        around = self.around.preference(pod, left)
        return [
            self.space.score(name, requests)
            + TAINTS * (MAX_SCORE - taints[n]) + AFFINITY * affinity[n] + SPREAD * spread[n] + AROUND * around[n]
            for n, name in enumerate(left)
        ]  # fmt: skip


def _of_highest(points: Sequence[int]) -> list[int]:
    """Points as hundredths of the highest (framework/plugins/helper/normalize_score.go)."""
    highest = max(points)
    return [MAX_SCORE * one // highest if highest else 0 for one in points]


def sentence(reasons: Reasons) -> str:
    """What `kubectl describe pod` shows of a failed try (framework/types.go, FitError.Error)."""
    counts: dict[str, int] = {}
    for refused in reasons.values():
        for reason in refused:
            counts[reason] = counts.get(reason, 0) + 1
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    return f"0/{len(reasons)} nodes are available: {told}." if told else "no nodes available to schedule pods"
