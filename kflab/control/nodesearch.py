"""How far the scheduler looks for a node: until enough are found that a pod fits on, from where it last stopped on.

Source: k8s.io/kubernetes pkg/scheduler/schedule_one.go (numFeasibleNodesToFind, findNodesThatPassFilters,
nextStartNodeIndex) with percentageOfNodesToScore left at 0. There sixteen workers look at once and may look at a few
nodes more, and the nodes of several zones take turns (backend/cache/node_tree.go); here one looks, in the nodes' order.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from kflab.cluster.checkpoint import Mutable

LEAST, LEAST_PERCENT = 100, 5
"""minFeasibleNodesToFind and minFeasibleNodesPercentageToFind."""


def enough(nodes: int) -> int:
    """How many fitting nodes end the search in a cluster of so many: all below 100, 10 % of 5,000."""
    if nodes < LEAST:
        return nodes
    return max(LEAST, nodes * max(LEAST_PERCENT, 50 - nodes // 125) // 100)


class NodeSearch(Mutable):
    """Where the next search begins."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        """Node → its place among all."""
        self._start = 0

    def nodes_are(self, names: Sequence[str]) -> None:
        """The cluster's nodes, in order."""
        self._place = {name: place for place, name in enumerate(names)}

    @property
    def total(self) -> int:
        """How many nodes there are."""
        return len(self._place)

    def place(self, name: str) -> int:
        """A node's place among all."""
        return self._place[name]

    def pieces(self, candidates: Sequence[str], found: list[str]) -> Iterator[Sequence[str]]:
        """Candidates to look at next, until enough are found or all were looked at; the next search goes on from there.

        Args:
            candidates: Nodes in their order.
            found: Those of them that fit; whoever looks adds to it between two pieces.
        """
        wanted, total = enough(self.total), self.total
        first = bisect_left(candidates, self._start % total, key=self._place.__getitem__) if total else 0
        turned = [*candidates[first:], *candidates[:first]]
        seen = 0
        while seen < len(turned) and len(found) < wanted:
            piece = turned[seen : seen + wanted - len(found)]
            seen += len(piece)
            yield piece
        if seen and seen < len(turned):  # else every node was looked at, and the start stays
            passed = (self._place[turned[seen - 1]] - self._start) % total + 1
            self._start = (self._start + passed) % total
