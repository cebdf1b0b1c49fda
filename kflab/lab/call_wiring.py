"""From who calls whom to the engine's streams of calls: one stream per place in the tree of calls of each entry.

A stream of calls is called by whichever pod serves the outer request, so its choosers belong to nodes: the DNAT of one
Service port on one node is one chooser, whoever calls through it there.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from kflab.cluster.store import Store
from kflab.engine.types import Call, Int64Array
from kflab.lab.calls import CallGraph, Edge, workload_of
from kflab.lab.choosers import Chooser, Wired
from kflab.lab.entries import Entry
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.wiring import Wiring

MOST_PLACES = 2_000
"""Places in trees of calls that a lab keeps at most; deeper calls are left out, and said so."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a tree of calls."""

    outer: int
    """Stream of the requests that the call is made for."""
    caller: Key
    service: Key
    port: int
    turn: int
    """Which of several equal calls of one request."""


class CallWiring:
    """Keeps the streams of calls of a lab.

    Args:
        wiring: The lab's streams and choosers.
        store: The cluster, for the workloads of pods.
    """

    def __init__(self, wiring: "Wiring", store: Store) -> None:
        self._wiring, self._store = wiring, store
        self._graph: CallGraph | None = None
        self._places: dict[Place, Wired] = {}
        self.outer: dict[int, int] = {}
        """Stream of calls → the stream of the requests it is made for."""
        self._groups: dict[Key, int] = {}
        """Workload → group of its pods' servers."""
        self._nodes: dict[Key, dict[str, None]] = {}
        """Workload → nodes that have, or had, servers of it."""
        self._choosers: dict[tuple[str, Key, int], Chooser] = {}
        self._moved = False
        """Whether servers came up on nodes where their workload had none."""

    def group(self, pod: Key, node: str) -> int:
        """The group of a pod's servers, which is new to the engine."""
        obj = self._store.get(pod)
        if not isinstance(obj, Pod):
            return -1
        workload = workload_of(self._store, obj)
        nodes = self._nodes.setdefault(workload, {})
        if node not in nodes:
            nodes[node] = None
            self._moved = True
        return self._groups.setdefault(workload, len(self._groups))

    def follow(self, graph: CallGraph, t_ns: int) -> None:
        """From `t_ns` on the calls are those of `graph`."""
        self._graph = graph
        for wired in [wired for wired in self._wiring.wired if wired.entry.kind != "call"]:
            self.wire(wired, t_ns)
        self.settle(t_ns)

    def settle(self, t_ns: int) -> None:
        """Wire callers on nodes that are new to them."""
        while self._moved:
            self._moved = False
            for wired in tuple(self._places.values()):
                self._wiring.complete(wired, t_ns)

    def wire(self, wired: Wired, t_ns: int) -> None:
        """Hand the engine what is called for requests of a stream, and for those calls in turn."""
        graph = self._graph
        if graph is None:
            return
        calls = []
        for workload in dict.fromkeys(key for service in self._served_by(wired) for key in graph.behind(service)):
            edges = graph.edges.get(workload, ())
            made = tuple(call for edge in edges for call in self._calls(graph, wired, edge, t_ns))
            if made:
                calls.append((self._groups.setdefault(workload, len(self._groups)), made))
        if tuple(calls) != wired.calls:
            wired.calls = tuple(calls)
            self._wiring.complete(wired, t_ns)

    @staticmethod
    def _served_by(wired: Wired) -> list[Key]:
        """The Services whose pods may serve a stream's requests."""
        if wired.entry.kind != "l7":
            return [wired.entry.service]
        return [chooser.service for chooser in wired.upstreams.values() if chooser.service is not None]

    def _calls(self, graph: CallGraph, outer: Wired, edge: Edge, t_ns: int) -> list[Call]:
        """One call per time that an edge is gone along, each at a place of its own."""
        made = []
        for turn in range(edge.times):
            place = Place(outer.stream.index, edge.caller, edge.service, edge.port, turn)
            wired = self._places.get(place)
            if wired is None:
                if len(self._places) >= MOST_PLACES:
                    graph.leave_out(edge, MOST_PLACES)
                    break
                wired = self._places[place] = self._add(outer, edge, turn, t_ns)
            self.wire(wired, t_ns)
            made.append(Call(wired.stream.index, edge.fatal))
        return made

    def _add(self, outer: Wired, edge: Edge, turn: int, t_ns: int) -> Wired:
        service = self._store.get(edge.service)
        assert isinstance(service, Service), "an edge leads to a Service that is there"
        port = next(port for port in service.ports if port.port == edge.port and port.protocol == "TCP")
        name = f"{outer.name}/{edge.caller.kind}/{edge.caller.namespace}/{edge.caller.name}/{edge.callee}/{turn}"
        digest = blake2b(name.encode(), digest_size=8, person=b"kflab call").digest()
        host, _, _ = edge.callee.rpartition(":")
        index = len(self._wiring.wired)
        entry = Entry(index, "call", "GET", "http", host, "/", 0.0, edge.service, port, client="", caller=edge.caller)
        # Two bits are left free: addresses of draws are int64, and indices of streams stand below them.
        address = 1 << 61 | int.from_bytes(digest, "little") >> 3
        self.outer[index] = outer.stream.index
        return self._wiring.add_call(entry, outer, name, address, t_ns)

    def callers(self) -> tuple[Wired, ...]:
        """Every stream of calls, in the order of their streams."""
        return tuple(self._places.values())

    def calling(self, service: Key) -> str:
        """Names of the workloads that call a Service: "frontend, checkoutservice"."""
        entries = (wired.entry for wired in self._places.values())
        return ", ".join(
            dict.fromkeys(entry.caller.name for entry in entries if entry.caller and entry.service == service)
        )

    def below(self, stream: int) -> frozenset[int]:
        """Every stream of calls made for a stream's requests, directly or in turn."""
        found = {stream}
        for index, outer in self.outer.items():  # an outer stream is always older than its calls
            if outer in found:
                found.add(index)
        return frozenset(found - {stream})

    def most_calls(self) -> int:
        """How many calls one request from outside makes at most, those of its calls included."""
        return int(np.bincount(self.roots()).max(initial=1)) - 1 if self.outer else 0

    def roots(self) -> Int64Array:
        """[streams] -> the stream from outside (or of a pod's own accord) that a stream is made for; itself if none."""
        roots = np.arange(len(self._wiring.wired))
        for index, outer in self.outer.items():  # an outer stream is always older than its calls
            roots[index] = roots[outer]
        return roots

    def nodes_of(self, caller: Key) -> tuple[str, ...]:
        """Nodes from which a workload calls."""
        return tuple(node for node in self._nodes.get(caller, ()) if node)

    def chooser(self, entry: Entry, node: str, t_ns: int) -> Chooser:
        """The DNAT of a call's Service port on a node."""
        key = (node, entry.service, entry.port.port)
        found = self._choosers.get(key)
        if found is None:
            found = self._choosers[key] = self._wiring.entry_chooser(entry, node, t_ns)
        return found
