"""The way back: each address change is undone by the conntrack entry that made it, in reverse order."""

from collections.abc import Sequence

from kflab.dataplane.packets import Hop, Packet
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Leg:
    """One rewriting of a connection's addresses on the way there."""

    where: str
    """As printed: "node-a, kernel" or "load balancer"."""
    node: str
    before: Packet
    after: Packet
    number: int
    """Hop that did it."""
    copies: bool = False
    """A proxy with a connection of its own on either side, not a rewriter of packets."""


@dataclass(slots=True)
class Connection:
    """One connection of the request, from who opened it to who accepted it."""

    opened: Packet
    """As its caller sent it."""
    legs: list[Leg]
    acceptor: str = ""
    """Who answers on it, as printed: "pod m4dd8", "ingress, NGINX"."""
    acceptor_node: str = ""

    @property
    def arrived(self) -> Packet:
        """As it reached its acceptor."""
        return self.legs[-1].after if self.legs else self.opened


def reply(packet: Packet) -> Packet:
    """The answering packet of a connection."""
    return Packet(packet.dst, packet.dport, packet.src, packet.sport, packet.protocol)


def way_back(connections: Sequence[Connection]) -> tuple[Hop, ...]:
    """Hops of the response, innermost connection first."""
    hops: list[Hop] = []
    for connection in reversed(connections):
        packet = reply(connection.arrived)
        hops.append(
            Hop(
                len(hops) + 1,
                connection.acceptor,
                node=connection.acceptor_node,
                after=packet,
                mover="socket",
                why="answers on the connection it accepted",
            )
        )
        for leg in reversed(connection.legs):
            undone = reply(leg.before)
            if leg.before == leg.after:
                continue
            by_lb = not leg.node
            words = "the load balancer" if by_lb else "conntrack"
            did = "copies the answer to the connection it took in" if leg.copies else "undoes"
            again = [f"the source is again {undone.source}"] if packet.source != undone.source else []
            if packet.destination != undone.destination:
                again.append(f"the destination is again {undone.destination}")
            hops.append(
                Hop(
                    len(hops) + 1,
                    leg.where,
                    node=leg.node,
                    before=packet,
                    after=undone,
                    mover="load balancer" if by_lb else "conntrack",
                    why=f"{words} {did} {leg.number}: {' and '.join(again)}",
                )
            )
            packet = undone
    return tuple(hops)
