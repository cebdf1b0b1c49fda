"""The scheduler's choice for a pod that a count of pods does not decide: filters, then scores over the nodes left.

Filters and scores are those of the default profile, in its order and with its weights (k8s.io/kubernetes
pkg/scheduler/apis/config/v1/default_plugins.go). Not modelled: volumes, host ports, dynamic resources, images that are
already there. Of nodes with equal scores the real scheduler draws one; here the one with fewest pods wins, then the
first. Every node is looked at, where the real one stops at a share of a large cluster (percentageOfNodesToScore).
"""

from collections.abc import Mapping, Sequence

from kflab.cluster.checkpoint import Mutable
from kflab.control.index import Index
from kflab.control.nodespace import NodeSpace
from kflab.control.podresources import Requests, requests_of
from kflab.manifest.objects import Pod

Reasons = Mapping[str, Sequence[str]]
"""Node → why it was refused, in the filters' words."""


class Placement(Mutable):
    """Filters and scores."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.space = NodeSpace()

    def asks(self, pod: Pod) -> bool:
        """Whether a pod wants more of a node than a place among its pods."""
        return self.space.limited and requests_of(pod.spec).asked != (0, 0)

    def choose(self, pod: Pod, nodes: Sequence[str], own: Mapping[str, int]) -> tuple[str | None, Reasons]:
        """The best of some nodes.

        Args:
            pod: Who looks for a place.
            nodes: Names of nodes that go with the pod by themselves, in order.
            own: Node → pods of the same owner there.

        Returns:
            The node, None where none is left; and why others were refused.
        """
        requests = requests_of(pod.spec)
        reasons: dict[str, Sequence[str]] = {}
        left: list[str] = []
        for node in nodes:
            refused = self._refused(node, requests)
            if refused:
                reasons[node] = refused
            else:
                left.append(node)
        if not left:
            return None, reasons
        totals = [self.space.score(node, requests) for node in left]
        ranks = [
            (own.get(node, 0), -total, self.index.count_on(node), n)
            for n, (node, total) in enumerate(zip(left, totals, strict=True))
        ]  # fmt: skip
        return left[min(ranks)[3]], reasons

    def _refused(self, node: str, requests: Requests) -> list[str]:
        """NodeResourcesFit (noderesources/fit.go, fitsRequest)."""
        full = ["Too many pods"] if self.index.count_on(node) >= self.space.max_pods(node) else []
        return full + [f"Insufficient {name}" for name in self.space.lacking(node, requests)]


def sentence(reasons: Reasons) -> str:
    """What `kubectl describe pod` shows of a failed try (framework/types.go, FitError.Error)."""
    counts: dict[str, int] = {}
    for refused in reasons.values():
        for reason in refused:
            counts[reason] = counts.get(reason, 0) + 1
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    return f"0/{len(reasons)} nodes are available: {told}." if told else "no nodes available to schedule pods"
