"""The scheduler's choice for a pod that a count of pods does not decide: filters, then scores over the nodes left.

Filters and scores are those of the default profile, in its order and with its weights (k8s.io/kubernetes
pkg/scheduler/apis/config/v1/default_plugins.go). Not modelled: volumes, dynamic resources, images that are
already there. Of nodes with equal scores the real scheduler draws one; here the one with fewest pods wins, then the
first. In a cluster of 100 nodes and more a share of them is looked at (nodesearch.py).
"""

from collections.abc import Collection, Mapping, Sequence

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core
from kflab.control.hostports import TAKEN, HostPorts
from kflab.control.nodefilters import preferences, preferred, soft_taints
from kflab.control.nodesearch import NodeSearch
from kflab.control.nodespace import MAX_SCORE, NodeSpace, asked_by
from kflab.control.podresources import requests_of
from kflab.control.podsaround import PodsAround
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod

Reasons = Mapping[str, Sequence[str]]
"""Node → why it was refused, in the filters' words."""

Nominated = Mapping[str, Sequence[Pod]]
"""Node → pods for which room is made there, as if they were bound to it."""

NOBODY: Nominated = {}

TAINTS, AFFINITY, SPREAD, AROUND = 3, 2, 2, 2
"""Weights of TaintToleration, NodeAffinity, PodTopologySpread and InterPodAffinity; resources have 1."""


class Placement(Mutable):
    """Filters and scores."""

    def __init__(self, core: Core) -> None:
        self.space = NodeSpace()
        self.ports = HostPorts()
        self.around = PodsAround(core)
        self.search = NodeSearch()
        self._nodes_changed = True
        self._soft_taints: dict[str, None] = {}
        """Nodes with a PreferNoSchedule taint."""

    def node_changed(self, name: str, node: Node | None) -> None:
        """A node came, changed or went."""
        self.space.node_changed(name, node)
        nodes = self.around.nodes
        self._nodes_changed = True
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
        self.ports.take(pod, node, step)
        self.around.take(pod, node, step)

    def asks(self, pod: Pod) -> bool:
        """Whether more than counts of pods decide where a pod goes."""
        if self._soft_taints or (self.space.limited and requests_of(pod.spec).asked != (0, 0)):
            return True
        if pod.spec.affinity and preferences(pod.spec):
            return True
        return bool(self.ports.of(pod)) or self.around.concerned(pod)

    def choose(self, pod: Pod, nodes: Sequence[str], nominated: Nominated = NOBODY) -> tuple[str | None, Reasons]:
        """The best of some nodes that go with the pod by themselves, given in order.

        Args:
            pod: The pod.
            nodes: The nodes.
            nominated: Pods whose room is kept from this one.

        Returns:
            The node, None where none is left; and why others that were looked at were refused.
        """
        reasons: dict[str, Sequence[str]] = {}
        left: list[str] = []
        for piece in self._search().pieces(nodes, left):
            reasons |= self._refusals(pod, [node for node in piece if node not in nominated])
            for node in piece:
                if node in nominated and (refused := self.without(pod, node, {}, nominated)):
                    reasons[node] = refused
            left += [node for node in piece if node not in reasons]
        left.sort(key=self.search.place)
        if len(left) <= 1:
            return (left[0] if left else None), reasons
        totals = self._totals(pod, left)
        ranks = [(-total, self.space.count(node), n) for n, (node, total) in enumerate(zip(left, totals, strict=True))]
        return left[min(ranks)[2]], reasons

    def _search(self) -> NodeSearch:
        if self._nodes_changed:
            self.search.nodes_are(list(self.around.nodes))
            self._nodes_changed = False
        return self.search

    def without(self, pod: Pod, node: str, gone: Mapping[Key, Pod], nominated: Nominated) -> Sequence[str]:
        """Why a node would refuse a pod if some pods that are there were gone; (): it would take it.

        It has to do so with the pods that are nominated for it, and without (framework/runtime/framework.go,
        RunFilterPluginsWithNominatedPods).
        """
        beside = nominated.get(node, ())
        self.around.without = gone
        for other in gone.values():
            self.around.take(other, node, -1)
        refused = self._refusals(pod, [node], gone.values())
        if beside and not refused:
            self.around.beside = beside
            for other in beside:
                self.around.take(other, node, 1)
            refused = self._refusals(pod, [node], gone.values(), beside)
            for other in beside:
                self.around.take(other, node, -1)
            self.around.beside = ()
        for other in gone.values():
            self.around.take(other, node, 1)
        self.around.without = {}
        return refused.get(node, ())

    def _refusals(
        self, pod: Pod, nodes: Sequence[str], gone: Collection[Pod] = (), beside: Collection[Pod] = ()
    ) -> dict[str, Sequence[str]]:
        """Node → why it refuses a pod; `gone` and `beside` are of the one node that is asked about."""
        found: dict[str, Sequence[str]] = {}
        around = self.around.refusals(pod, nodes)
        requests, ports = requests_of(pod.spec), self.ports.of(pod)
        held, free = asked_by(beside), asked_by(gone)
        extra = held[0] - free[0], held[1] - free[1]
        for node in nodes:
            if ports and not self.ports.free(node, ports, gone, beside):
                found[node] = [TAKEN]
                continue
            # NodeResourcesFit runs before the plugins that look at other pods (noderesources/fit.go, fitsRequest).
            full = self.space.count(node) + len(beside) - len(gone) >= self.space.max_pods(node)
            refused = ["Too many pods"] if full else []
            refused += [f"Insufficient {name}" for name in self.space.lacking(node, requests, extra)]
            if not refused and node in around:
                refused = [around[node]]
            if refused:
                found[node] = refused
        return found

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
