"""What traffic had left behind when a request was made, as its record tells: the walker's memory."""

from typing import TYPE_CHECKING

from kflab.dataplane.memory_view import KeptConnection, Scores, Turn
from kflab.dataplane.nginx import IngressConfig, Route, route
from kflab.dataplane.packets import Packet
from kflab.engine.ewma import unpacked as scores_in
from kflab.engine.ipvs_counts import unpacked
from kflab.engine.scheduled import entry_turn, try_turn
from kflab.engine.types import Answer, Pick
from kflab.lab.choosers import Wired
from kflab.lab.entries import Entry
from kflab.lab.records import Record
from kflab.manifest.objects import Key
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.running import Lab


@dataclass(frozen=True, slots=True)
class RecordedMemory:
    """What the record says of round robin and kept connections, and what session affinity remembers."""

    lab: "Lab"
    positions: tuple[int, ...]
    kept: tuple[KeptConnection | None, ...]
    flow: str = ""
    """ip:port of the conntrack entry that a UDP request followed, or one over a connection that its client keeps."""
    dropped: tuple[str, ...] = ()
    """Node whose full table dropped the client's connection (0) or a try's; "" for none."""
    without_port: tuple[bool, ...] = ()
    """Whether the client's connection (0) or a try's got no source port."""
    turns: tuple[Turn | None, ...] = ()
    """Whom IPVS took for the client's connection (0) or a try's."""
    scored: tuple[Scores | None, ...] = ()
    """By what NGINX's ewma took the peer of each try."""

    def turn(self, try_number: int) -> Turn | None:
        """The turn that is on record."""
        return self.turns[try_number] if try_number < len(self.turns) else None

    def round_robin(self, ingress: Key, upstream: str, try_number: int) -> int:
        """Index of the upstream that the record names."""
        return self.positions[try_number - 1] if try_number <= len(self.positions) else 0

    def kept_connection(self, ingress: Key, upstream: str, try_number: int) -> KeptConnection | None:
        """The connection the record says was reused."""
        return self.kept[try_number - 1] if try_number <= len(self.kept) else None

    def seen(self, node: str, client: str, service: Key, port: int, endpoint: str, t_ns: int) -> bool:
        """Whether affinity keeps the client on an endpoint."""
        held = self.lab.wiring.compiler.affinity.held(node, client, service, port, t_ns)
        # The connection that made the entry was drawn.
        return held is not None and held.since_ns < t_ns and self.lab.wiring.index.address(held.server) == endpoint

    def affinity_ended(self, node: str, client: str, service: Key, port: int, t_ns: int) -> int | None:
        """When the entry ran out that the connection of this instant found no more."""
        held = self.lab.wiring.compiler.affinity.held(node, client, service, port, t_ns)
        return held.ended_ns if held is not None and held.since_ns == t_ns and held.ended_ns >= 0 else None

    def affinity_forgotten(self, node: str, client: str, service: Key, port: int, t_ns: int) -> bool:
        """Whether the entry had been dropped that the connection of this instant made anew."""
        held = self.lab.wiring.compiler.affinity.held(node, client, service, port, t_ns)
        return held is not None and held.since_ns == t_ns and held.forgotten

    def tracked(self, node: str, packet: Packet) -> str:
        """The endpoint of the entry that the record says was there."""
        return self.flow

    def scores(self, ingress: Key, upstream: str, try_number: int) -> Scores | None:
        """The scores that are on record."""
        return self.scored[try_number - 1] if try_number <= len(self.scored) else None

    def dropped_on(self, try_number: int) -> str:
        """Where the record says a full table dropped a connection."""
        return self.dropped[try_number] if try_number < len(self.dropped) else ""

    def found_no_port(self, try_number: int) -> bool:
        """Whether the record says a connection got no source port."""
        return try_number < len(self.without_port) and self.without_port[try_number]


def memory_of(lab: "Lab", wired: Wired, one: Record) -> RecordedMemory:
    """Round-robin positions and kept connections as the record has them."""
    ingress = lab.wiring.servers[one.ingress][3] if one.ingress >= 0 else None
    chooser = wired.upstreams.get(ingress) if ingress else None
    if chooser is None:
        follows = wired.stream.flow_port or wired.stream.connections
        flow = lab.wiring.index.address(one.servers[0]) if follows and dict(one.extra).get("kept") else ""
        told = dropped_on(lab, one), without_port(one), _turns(lab, one)
        return RecordedMemory(lab, (), (), flow, *told)
    positions: list[int] = []
    kept_bits, kept_ports = dict(one.extra).get("kept", 0), dict(one.extra).get("kept_ports", 0)
    kept: list[KeptConnection | None] = []
    for k, (server, start) in enumerate(zip(one.servers, one.try_starts_ns, strict=True)):
        config = lab.wiring.configs.at(chooser.observers[0], start)
        address = lab.wiring.index.address(server) if server >= 0 else ""
        ups = _route(config, wired.entry).upstreams if config else ()
        positions.append(next((i for i, up in enumerate(ups) if up.text == address), 0))
        port = kept_ports >> 16 * k & 0xFFFF
        kept.append(KeptConnection(address, port) if kept_bits >> k & 1 else None)
    told = dropped_on(lab, one), without_port(one), _turns(lab, one)
    scored = _scores(one) if chooser.picker == Pick.EWMA else ()
    return RecordedMemory(lab, tuple(positions), tuple(kept), "", *told, scored)


def dropped_on(lab: "Lab", one: Record) -> tuple[str, ...]:
    """Node whose full table dropped the client's connection (0) or one of NGINX's tries; "" for none."""

    def node(place: int) -> str:
        return lab.wiring.places[place] if place >= 0 else ""

    places = lab.engine.memory.place
    tries = []
    for server, answer in zip(one.servers, one.answers, strict=True):
        near = int(places[one.ingress]) if one.ingress >= 0 else one.node
        there = int(places[server]) if server >= 0 else near
        tries.append(node(there) if answer == Answer.TABLE_FULL else "")
    if one.ingress < 0 and tries:
        return tuple(tries)
    client = int(places[one.ingress]) if one.ingress >= 0 else one.node
    return (node(client) if one.status == -Answer.TABLE_FULL else "", *tries)


def without_port(one: Record) -> tuple[bool, ...]:
    """Whether the client's connection (0) or one of NGINX's tries got no source port where it is masqueraded."""
    tries = tuple(answer == Answer.NO_PORT for answer in one.answers)
    return tries if one.ingress < 0 else (one.status == -Answer.NO_PORT, *tries)


def _route(config: IngressConfig, entry: Entry) -> Route:
    return route(config, entry.scheme, entry.host, entry.path, method=entry.method, client=entry.client)


def _scores(one: Record) -> tuple[Scores | None, ...]:
    extra = dict(one.extra)
    found = (scores_in(extra.get(f"loads{k + 1}", 0)) for k in range(len(one.servers)))
    return tuple(Scores(*pair) if pair else None for pair in found)


def _turns(lab: "Lab", one: Record) -> tuple[Turn | None, ...]:
    """Whom IPVS took for the client's connection (0) and for each of NGINX's tries."""
    extra = dict(one.extra)
    turns = extra.get("turns", 0)
    reached = one.ingress if one.ingress >= 0 else next(iter(one.servers), -1)
    places = [(reached, entry_turn(turns))]
    places += [(server, try_turn(turns, k)) for k, server in enumerate(one.servers)]
    found: list[Turn | None] = []
    for part, (server, n) in enumerate(places):
        loads = unpacked(extra.get(f"loads{part}", 0)) or (None, None)
        found.append(Turn(lab.wiring.index.address(server), n, *loads) if n and server >= 0 else None)
    return tuple(found)
