"""How much of each node is taken: the scheduler's cache of node sizes and of what the pods there request.

Source: k8s.io/kubernetes pkg/scheduler/framework/types.go (NodeInfo), framework/plugins/noderesources (fit.go,
least_allocated.go, balanced_allocation.go). Pods that have ended take nothing (the scheduler's informer leaves
Succeeded and Failed pods out), pods that are being deleted do until they are gone.
"""

from collections.abc import Iterable

from kflab.cluster.checkpoint import Mutable
from kflab.control.podresources import RESOURCES, Requests, amount, requests_of
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

MAX_PODS = 110
"""kubelet maxPods (lifecycle 1.1), for a node that does not tell its own."""

_NOTHING = (0, 0)

MAX_SCORE = 100
"""MaxNodeScore."""


@dataclass(frozen=True, slots=True)
class Size:
    """status.allocatable of a node, in whole units; None: without end."""

    pods: int = MAX_PODS
    room: tuple[int | None, int | None] = (None, None)


def size_of(node: Node) -> Size:
    """What a node has for pods."""
    given = node.allocatable
    cpu, memory = (amount(name, given[name]) if name in given else None for name in RESOURCES)
    return Size(amount("pods", given["pods"]) if "pods" in given else MAX_PODS, (cpu, memory))


class NodeSpace(Mutable):
    """Sizes of nodes, and the sums of requests on them."""

    def __init__(self) -> None:
        self.sizes: dict[str, Size] = {}
        self.asked: dict[str, tuple[int, int]] = {}
        self._counted: dict[str, tuple[int, int]] = {}
        self._pods: dict[str, int] = {}
        self.limited: dict[str, None] = {}
        """Nodes that say how much CPU or memory they have."""

    def node_changed(self, name: str, node: Node | None) -> None:
        """A node came, changed or went."""
        self.sizes.pop(name, None)
        self.limited.pop(name, None)
        if node is not None:
            size = self.sizes[name] = size_of(node)
            if size.room != (None, None):
                self.limited[name] = None

    def take(self, pod: Pod, node: str, step: int) -> None:
        """A pod was bound to a node (1), or left it (-1)."""
        requests = requests_of(pod.spec)
        if requests.asked != _NOTHING:
            self.asked[node] = _plus(self.asked.get(node, _NOTHING), requests.asked, step)
        self._pods[node] = self._pods.get(node, 0) + step
        (cpu, memory), (own_cpu, own_memory) = self._counted.get(node, _NOTHING), requests.counted
        self._counted[node] = (cpu + step * own_cpu, memory + step * own_memory)

    def max_pods(self, node: str) -> int:
        """How many pods a node takes."""
        size = self.sizes.get(node)
        return MAX_PODS if size is None else size.pods

    def count(self, node: str) -> int:
        """How many pods take room on a node."""
        return self._pods.get(node, 0)

    def lacking(self, node: str, requests: Requests, extra: tuple[int, int] = (0, 0)) -> list[str]:
        """Resources of which a node has not enough left for a pod; `extra` is held for others, or free if negative."""
        taken = self.asked.get(node, (0, 0))
        return [
            name for name, want, used, held, room in
            zip(RESOURCES, requests.asked, taken, extra, self.sizes[node].room, strict=True)
            if room is not None and want > 0 and want > room - used - held
        ]  # fmt: skip

    def score(self, node: str, requests: Requests) -> int:
        """LeastAllocated and BalancedAllocation of a pod on a node, 0 to 200, weight 1 each."""
        room = self.sizes[node].room
        free, shares = [], []
        for i, whole in enumerate(room):
            if whole:
                counted = self._counted.get(node, (0, 0))[i] + requests.counted[i]
                free.append(max(0, whole - counted) * MAX_SCORE // whole)
                shares.append(min(1.0, (self.asked.get(node, (0, 0))[i] + requests.asked[i]) / whole))
        least = sum(free) // len(free) if free else 0
        if requests.asked == (0, 0):
            return least  # BalancedAllocation passes over best-effort pods
        uneven = abs((shares[0] - shares[1]) / 2) if len(shares) == 2 else 0.0
        return least + int((1 - uneven) * MAX_SCORE)


def _plus(one: tuple[int, int], other: tuple[int, int], step: int) -> tuple[int, int]:
    return one[0] + step * other[0], one[1] + step * other[1]


def asked_by(pods: Iterable[Pod]) -> tuple[int, int]:
    """What pods request together."""
    total = (0, 0)
    for pod in pods:
        total = _plus(total, requests_of(pod.spec).asked, 1)
    return total


def occupies(pod: Pod | None) -> str:
    """The node whose room a pod takes; "": none."""
    return pod.spec.node_name if pod is not None and pod.status.phase not in ("Succeeded", "Failed") else ""
