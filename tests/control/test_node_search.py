"""In a large cluster the scheduler looks at a share of the nodes, and goes on where it stopped."""

import pytest

from kflab.cluster.store import Store
from kflab.control.nodesearch import NodeSearch, enough
from kflab.control.plane import ControlPlane
from kflab.draws import Draws
from kflab.manifest.objects import LabelSelector, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Container, Pod, PodSpec, PodTemplate
from kflab.manifest.objects_workloads import Deployment


@pytest.mark.parametrize(
    ("nodes", "found"), [(0, 0), (99, 99), (100, 100), (250, 120), (1000, 420), (5000, 500), (8000, 400)]
)
def test_so_many_fitting_nodes_are_enough(nodes: int, found: int) -> None:
    """The formula of numFeasibleNodesToFind, worked out by hand: 50 - nodes/125 percent, at least 5 % and 100."""
    assert enough(nodes) == found


def test_a_search_goes_on_where_the_last_one_stopped() -> None:
    names = [f"n{i:03}" for i in range(250)]
    search = NodeSearch()
    search.nodes_are(names)

    def looked_at(refuses: set[str], candidates: list[str]) -> list[str]:
        found: list[str] = []
        seen: list[str] = []
        for piece in search.pieces(candidates, found):
            seen += piece
            found += [name for name in piece if name not in refuses]
        return seen

    assert looked_at(set(), names) == names[:120]
    full = set(names[120:140])
    assert looked_at(full, names) == names[120:250] + names[:10], "refused nodes are passed over"
    fitting = names[::2]  # the others do not go with the pod by themselves
    assert looked_at(set(), fitting) == fitting[5:125], "all but five of the fitting ones"
    assert looked_at(set(names), names)[0] == "n249"
    assert looked_at(set(), names[:3]) == names[:3], "all, where there are few"


def test_pods_with_requests_go_to_the_shares_in_turn() -> None:
    sizes = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    given = [Node(Meta(f"n{i:03}"), internal_ips=(f"172.16.1.{i}",), allocatable=sizes) for i in range(200)]
    spec = PodSpec((Container("c", "c:1", requests={"cpu": "500m"}),))
    labels = {"app": "c"}
    template = PodTemplate(labels, spec=spec)
    deployment = Deployment(Meta("c", "default"), replicas=4, selector=LabelSelector(labels), template=template)
    plane = ControlPlane(Store(), Draws(1))
    plane.load([*given, deployment])
    plane.settle()
    pods = [pod for pod in plane.store.of_kind("Pod") if isinstance(pod, Pod)]
    assert [pod.spec.node_name for pod in pods] == ["n000", "n100", "n001", "n101"]
