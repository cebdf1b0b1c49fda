"""What hangs together: a graph of the objects around one object, built when somebody asks.

Never the store itself: a networkx graph of the part asked about, thrown away after the answer. networkx is
imported inside functions, because importing it costs more than most answers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kflab.cluster.store import Store
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_network import EndpointSlice, Ingress, Service
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from networkx import DiGraph

Edge = tuple[Key, Key, str]


def edges(store: Store, namespace: str | None = None) -> Sequence[Edge]:
    """Every "leads to" between objects of a namespace (None: all), as (from, to, word).

    Ingress → Service ("routes to"), Service → EndpointSlice ("lists"), EndpointSlice → Pod ("endpoint"), Pod → Node
    ("runs on"), owner → owned ("owns").
    """
    found: list[Edge] = []
    for kind in ("Ingress", "EndpointSlice", "Pod", "ReplicaSet"):
        for obj in store.of_kind(kind, namespace):
            found.extend(_edges_of(obj))
    return found


def _edges_of(obj: KubeObject) -> list[Edge]:
    found: list[Edge] = []
    if obj.meta.owner is not None and obj.meta.owner.kind != "Node":
        found.append((obj.meta.owner, obj.key, "owns"))
    if isinstance(obj, Pod) and obj.spec.node_name:
        found.append((obj.key, Key("Node", "", obj.spec.node_name), "runs on"))
    elif isinstance(obj, EndpointSlice):
        found.append((obj.service, obj.key, "lists"))
        found.extend((obj.key, endpoint.target, "endpoint") for endpoint in obj.endpoints if endpoint.target)
    elif isinstance(obj, Ingress):
        names = [path.backend.service for rule in obj.rules for path in rule.paths]
        if obj.default_backend is not None:
            names.append(obj.default_backend.service)
        namespace = obj.meta.namespace
        found.extend((obj.key, Key("Service", namespace, name), "routes to") for name in dict.fromkeys(names) if name)
    return found


def graph(store: Store, namespace: str | None = None) -> "DiGraph":
    """The objects of a namespace (None: all) as a directed graph; edges carry `word`."""
    import networkx as nx

    result = nx.DiGraph()
    for service in store.of_kind("Service", namespace):
        result.add_node(service.key)
    for start, end, word in edges(store, namespace):
        result.add_edge(start, end, word=word)
    return result


def hangs_together(store: Store, key: Key) -> Sequence[Key]:
    """Everything that a request through `key` may meet behind it and what leads to it, nodes last, `key` first."""
    import networkx as nx

    around = graph(store, key.namespace or None)
    if key not in around:
        return (key,)
    before = nx.single_source_shortest_path_length(around.reverse(copy=False), key)
    behind = nx.single_source_shortest_path_length(around, key)
    near = {*before, *behind} - {key}
    return (key, *sorted(near, key=lambda other: (other.kind == "Node", other)))


def path_between(store: Store, start: Key, end: Key) -> Sequence[Key]:
    """The shortest chain of "leads to" from one object to another; () when there is none."""
    import networkx as nx

    namespace = start.namespace if start.namespace == end.namespace else None
    around = graph(store, namespace)
    try:
        return tuple(nx.shortest_path(around, start, end))
    except (nx.NetworkXNoPath, nx.NodeNotFound):
        return ()


def services_of(store: Store, pod: Key) -> Sequence[Key]:
    """Services that list a pod in one of their slices, in order of creation of the slices."""
    found: dict[Key, None] = {}
    for obj in store.of_kind("EndpointSlice", pod.namespace):
        if isinstance(obj, EndpointSlice) and any(endpoint.target == pod for endpoint in obj.endpoints):
            found[obj.service] = None
    return tuple(service for service in found if isinstance(store.get(service), Service))
