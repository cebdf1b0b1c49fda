"""What `eventwise` does for requests over connections that their client keeps open (see `connections`)."""

from typing import TYPE_CHECKING

from kflab.engine import ipvs_entries
from kflab.engine.addresses import ephemeral_port
from kflab.engine.connections import NEVER_NS, ClientConnection, lifetime_ns, slot_of
from kflab.engine.cuts import lost_between_two
from kflab.engine.memory import Col, Stage
from kflab.engine.types import Answer, Behaviour

if TYPE_CHECKING:
    from kflab.engine.eventwise import Eventwise
    from kflab.engine.steps import Steps

_MASK = (1 << 64) - 1


def depart(slab: "Eventwise", flight: list[int]) -> None:
    """A request meets its node: it goes over the connection that is open, or opens one by the node's rules."""
    steps, t = slab.steps, flight[Col.DUE]
    stream, node = flight[Col.STREAM], flight[Col.NODE]
    slot = _slot(steps, flight)
    known = steps.memory.connections
    flight[Col.TRIES], flight[Col.TRY_START0] = 1, flight[Col.START]
    before = known.current.get(slot)
    connection = known.usable(slot, node, t)
    if before is not None and connection is None and not before.in_hand:
        answer = Answer.RESET if before.broken else Answer.OK
        ipvs_entries.close_kept(steps, before, answer, min(t, max(before.until_ns, before.last_ns)))
    if connection is not None:
        flight[Col.KEPT], flight[Col.KEPT_PORTS] = 1, connection.port
    else:
        if steps.room is not None and steps.room.shut_one(node, stream, flight[Col.NUMBER], 0):
            _turned_away(steps, flight, Answer.TABLE_FULL)
            return
        server, answer = slab.pick(flight, steps.paths.entries.get_one(stream, node), t)
        if server < 0:
            _turned_away(steps, flight, answer)
            return
        word = flight[Col.BACKEND_WORD] & _MASK
        worker = (word & 0xFFFF) * int(steps.memory.n_workers[server]) >> 16
        connection = ClientConnection(*slot, node, server, t, _source_port(steps, flight), worker)
        connection.until_ns = min(NEVER_NS, t + lifetime_ns(int(steps.paths.connection_age[stream]), word))
        known.current[slot] = connection
        ipvs_entries.keep(steps, connection, flight)
    connection.in_hand += 1
    connection.last_ns = t
    same = node == int(steps.memory.place[connection.server])
    hop = steps.timing.same_node_ns if same else steps.timing.cross_node_ns
    flight[Col.SERVER0], flight[Col.OPENED] = connection.server, connection.opened_ns
    flight[Col.BACK] = hop
    flight[Col.HOP] = t + hop - flight[Col.START]
    flight[Col.STAGE], flight[Col.DUE] = Stage.SERVER, t + hop


def used_by(steps: "Steps", flight: list[int]) -> ClientConnection | None:
    """The connection that a try goes over; None where its client opens one per request."""
    if not steps.paths.connections[flight[Col.STREAM]]:
        return None
    return steps.memory.connections.of(_slot(steps, flight), flight[Col.OPENED])


def meets(connection: ClientConnection, behaviour: int) -> int:
    """What a request over a connection meets at its server, whose behaviour is that towards a first packet."""
    if not connection.established or behaviour == Behaviour.SILENT:
        return behaviour
    if connection.broken:
        return Behaviour.REFUSES
    # Whoever stopped listening and still runs goes on with its open connections.
    return Behaviour.LISTENS if behaviour == Behaviour.REFUSES else behaviour


def silent_until(steps: "Steps", connection: ClientConnection, flight: list[int], end_ns: int) -> int:
    """When a request over an open connection to a vanished peer ends: its patience's end, or the connection's.

    The kernel gives the connection up some time after the first packet that was not acknowledged (tcp_retries2, or
    TCP_USER_TIMEOUT, which gRPC sets to its keepalive timeout: gRFC A18); all that is on it fails then.
    """
    if not connection.dies_ns:
        connection.dies_ns = flight[Col.TRY_START0] + int(steps.paths.peer_timeout[flight[Col.STREAM]])
    return max(flight[Col.DUE], min(end_ns, connection.dies_ns))


def heard(steps: "Steps", flight: list[int]) -> None:
    """The client knows how a request ended: without any answer it gives the connection up."""
    if flight[Col.SERVER0] < 0:
        return  # no rule let it through: there never was a connection
    connection = used_by(steps, flight)
    assert connection is not None
    connection.last_ns = flight[Col.DUE]
    if flight[Col.STATUS] < 0:
        steps.memory.connections.give_up(connection)
    steps.memory.connections.answered(connection)
    if not connection.in_hand and steps.memory.connections.current.get(_slot(steps, flight)) is not connection:
        answer = -flight[Col.STATUS] if flight[Col.STATUS] < 0 else Answer.OK
        ipvs_entries.close_kept(steps, connection, answer, flight[Col.DUE])


def process_ended(steps: "Steps", server: int, t_ns: int) -> None:
    """Break the connections to a server whose process is gone."""
    place = steps.memory.place

    def way_ns(caller: int) -> int | None:
        there = int(place[server])
        if lost_between_two(steps.cut, caller, there):
            return None
        return steps.timing.same_node_ns if caller == there else steps.timing.cross_node_ns

    steps.memory.connections.break_server(server, t_ns, way_ns)


def _slot(steps: "Steps", flight: list[int]) -> tuple[int, int]:
    stream = flight[Col.STREAM]
    return stream, slot_of(flight[Col.ARRIVAL_WORD], int(steps.paths.connections[stream]))


def _source_port(steps: "Steps", flight: list[int]) -> int:
    mine = (flight[Col.STREAM], flight[Col.NUMBER])
    pinned = next((port for stream, number, port in steps.paths.pins if (stream, number) == mine), 0)
    return pinned or ephemeral_port(flight[Col.ENTRY_WORD] & _MASK)


def _turned_away(steps: "Steps", flight: list[int], answer: int) -> None:
    silent = answer in (Answer.TIMEOUT, Answer.TABLE_FULL)
    stream = flight[Col.STREAM]
    end = flight[Col.START] + int(steps.paths.connect_patience[stream]) if silent else flight[Col.DUE]
    flight[Col.ANSWER0], flight[Col.TRY_END0], flight[Col.STATUS] = answer, end, -answer
    flight[Col.STAGE], flight[Col.DUE] = Stage.ANSWER, end
