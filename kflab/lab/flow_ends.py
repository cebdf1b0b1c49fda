"""Load balancers that end their flows to a target: told to the engine, and remembered for the autopsy."""

from kflab.control.facts import Fact, What
from kflab.engine.engine import Engine
from kflab.engine.types import Answer
from kflab.lab.wiring import Wiring
from kflab.manifest.objects import Key
from kflab.records import dataclass

KEPT = 1_000
"""Ends that are remembered; the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class FlowEnd:
    """One load balancer ended its flows to one target."""

    t_ns: int
    observer: str
    target: str
    """A node's name, or namespace/name of a pod."""
    choosers: frozenset[int]
    place: int
    """The node; -1 of a pod."""
    servers: frozenset[int]
    """The pod's."""
    answer: int
    """The Answer of tries that were in hand."""


class FlowEnds:
    """All of them.

    Args:
        wiring: Knows which choosers and servers are meant.
        engine: Ends the flows.
    """

    def __init__(self, wiring: Wiring, engine: Engine) -> None:
        self._wiring, self._engine = wiring, engine
        self._ends: list[FlowEnd] = []

    def hear(self, fact: Fact) -> None:
        """Let the engine end the flows that a fact tells of; UDP has none."""
        target, silent = fact.detail, fact.what is What.FLOWS_DROPPED
        choosers = [
            chooser.index
            for chooser in self._wiring.choosers
            if chooser.kind == "lb" and fact.subject.name in chooser.observers and chooser.entry.port.protocol == "TCP"
        ]
        namespace, slash, name = target.partition("/")
        place, servers = -1, frozenset[int]()
        if slash:
            pod = Key("Pod", namespace, name)
            servers = frozenset(i for i, entry in enumerate(self._wiring.servers) if entry[3] == pod)
        elif target in self._wiring.places:
            place = self._wiring.places.index(target)
        for index in choosers:
            for server in sorted(servers):
                self._engine.end_flows(index, fact.t_ns, server=server, silent=silent)
            if place >= 0:
                self._engine.end_flows(index, fact.t_ns, place=place, silent=silent)
        answer = Answer.TIMEOUT if silent else Answer.RESET
        end = FlowEnd(fact.t_ns, fact.subject.name, target, frozenset(choosers), place, servers, answer)
        self._ends.append(end)
        del self._ends[:-KEPT]

    def times(self) -> list[int]:
        """When each was, ascending."""
        return [end.t_ns for end in self._ends]

    def of(self, stream: int, node: int, server: int, answer: int, pick_ns: int, end_ns: int) -> FlowEnd | None:
        """The first end that a try which was picked and heard of at these times was in hand at; None: none was."""
        if server < 0:
            return None
        wired = self._wiring.wired[stream] if stream < len(self._wiring.wired) else None
        lb = wired.lb.index if wired is not None and wired.lb is not None else -1
        for end in self._ends:
            here = lb in end.choosers and (end.place == node or server in end.servers)
            if here and end.answer == answer and pick_ns <= end.t_ns <= end_ns:
                return end
        return None
