"""What cuts a slab: a server's behaviour, a rate, a link, a load balancer's flows or a client change at an instant."""

from typing import TYPE_CHECKING

from kflab.engine.client_gone import end_client
from kflab.engine.crashes import end_requests_across, end_requests_at, hang_at, leave
from kflab.engine.cuts import with_place
from kflab.engine.flowends import end_flows
from kflab.engine.types import Behaviour
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Rate:
    """A stream's mean rate changes."""

    stream: int
    rate_rps: float


@dataclass(frozen=True, slots=True)
class ServerChange:
    """What a server does with a SYN changes."""

    server: int
    behaviour: int
    drain: bool = False
    """It only stopped listening and finishes its work."""


@dataclass(frozen=True, slots=True)
class Link:
    """Nothing passes to or from a place any more (`off`), or all passes again."""

    place: int
    off: bool


@dataclass(frozen=True, slots=True)
class FlowsEnd:
    """A load balancer ends its flows to a node's place or to a server; -1 for the one that is not meant."""

    lb: int
    place: int
    server: int
    silent: bool


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The process that sends a stream's requests ends."""

    stream: int


Change = Rate | ServerChange | Link | FlowsEnd | ClientGone


def carry_out(engine: "Engine", change: Change) -> None:
    """Make a change now, and end the requests that do not live through it."""
    match change:
        case Rate(stream, rate_rps):
            engine.rate_changed(stream, rate_rps)
        case FlowsEnd(lb, place, server, silent):
            engine.all_in_flight()
            end_flows(engine.steps, lb, place, server, silent, engine.now_ns)
        case ClientGone(stream):
            engine.all_in_flight()
            end_client(engine.steps, stream, engine.now_ns)
        case Link(place, off):
            engine.steps.cut = with_place(engine.steps.cut, place, off)
            if engine.steps.neighbours is not None:
                engine.steps.neighbours.cut(place, off, engine.now_ns)
            if off:
                engine.all_in_flight()
                end_requests_across(engine.steps, place, engine.now_ns)
        case ServerChange():
            _behave(engine, change)


def _behave(engine: "Engine", change: ServerChange) -> None:
    server, behaviour, t_ns = change.server, change.behaviour, engine.now_ns
    before = int(engine.memory.behaviour[server])
    engine.memory.behaviour[server] = behaviour
    hung, hangs = before == Behaviour.HANGS, behaviour == Behaviour.HANGS
    if (hung and hangs) or (not hung and behaviour == Behaviour.LISTENS):
        return
    drains = change.drain and behaviour not in (Behaviour.HANGS, Behaviour.LISTENS)
    if not drains or hung:
        engine.all_in_flight()
    if hung:
        leave(engine.steps, server, Behaviour.LISTENS if drains else behaviour, t_ns)
    if hangs:
        hang_at(engine.steps, server, t_ns)
    elif drains:
        engine.memory.pools.drop_server(server, t_ns)
    elif behaviour != Behaviour.LISTENS:
        end_requests_at(engine.steps, server, behaviour, t_ns)
