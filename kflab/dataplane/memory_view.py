"""What the walker may ask of the memory that traffic left behind (idea 5 of the architecture): read-only."""

from typing import Protocol

from kflab.dataplane.packets import Packet
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class KeptConnection:
    """An upstream connection that NGINX had open already."""

    address: str
    """Pod ip:port that it is connected to; after DNAT where it was opened to a ClusterIP."""
    source_port: int = 0
    """0: not in the record."""
    opened_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """The destination that a virtual server took for a connection."""

    destination: str
    """ip:port."""
    place: int
    """Its place among those with weight, from 1, in the order in which the kernel lists them."""
    load: tuple[int, int] | None = None
    """Active and inactive connections that it had, where the scheduler counts them."""
    next_best: tuple[int, int] | None = None
    """The same of the best of the others."""


@dataclass(frozen=True, slots=True)
class Scores:
    """By which scores NGINX's `ewma` took a peer, µs."""

    taken_us: int
    passed_us: int | None = None
    """Of the other one drawn; None: there was no other."""


class MemoryView(Protocol):
    """Implemented on the engine's memory or on a finished request's record; a test fakes it."""

    def round_robin(self, ingress: Key, upstream: str, try_number: int) -> int:
        """Position of the round robin used by this try: index into the upstream's peers."""
        ...

    def kept_connection(self, ingress: Key, upstream: str, try_number: int) -> KeptConnection | None:
        """The open connection that this try went over; None: a new one."""
        ...

    def seen(self, node: str, client: str, service: Key, port: int, endpoint: str, t_ns: int) -> bool:
        """Whether a node's session affinity keeps the client on an endpoint, ip:port, of a Service port."""
        ...

    def affinity_ended(self, node: str, client: str, service: Key, port: int, t_ns: int) -> int | None:
        """When the client's affinity entry ran out, where this connection made a new one; None: it did not."""
        ...

    def affinity_forgotten(self, node: str, client: str, service: Key, port: int, t_ns: int) -> bool:
        """Whether the entry that this connection made anew had been dropped from a full list."""
        ...

    def tracked(self, node: str, packet: Packet) -> str:
        """ip:port that a node's conntrack entry sends the packet to, past all rules; "" for a first packet."""
        ...

    def turn(self, try_number: int) -> Turn | None:
        """Whom IPVS took for the client's connection (0) or for a try; None where no turn is on record."""
        ...

    def scores(self, ingress: Key, upstream: str, try_number: int) -> Scores | None:
        """By which scores NGINX took the peer of a try; None where it went by none."""
        ...

    def dropped_on(self, try_number: int) -> str:
        """The node whose full conntrack table dropped a connection's first packet: the client's (0), or a try's."""
        ...

    def found_no_port(self, try_number: int) -> bool:
        """Whether the node that masquerades a connection, the client's (0) or a try's, had no source port for it."""
        ...


@dataclass(frozen=True, slots=True)
class BlankMemory:
    """Nothing happened before: every connection is new."""

    positions: tuple[int, ...] = ()
    """Round-robin position per try; the try's number where not given."""

    def round_robin(self, ingress: Key, upstream: str, try_number: int) -> int:
        """The given position, else one step per try."""
        index = try_number - 1
        return self.positions[index] if index < len(self.positions) else index

    def kept_connection(self, ingress: Key, upstream: str, try_number: int) -> KeptConnection | None:
        """Never."""
        return None

    def seen(self, node: str, client: str, service: Key, port: int, endpoint: str, t_ns: int) -> bool:
        """Never."""
        return False

    def affinity_ended(self, node: str, client: str, service: Key, port: int, t_ns: int) -> int | None:
        """Never."""
        return None

    def affinity_forgotten(self, node: str, client: str, service: Key, port: int, t_ns: int) -> bool:
        """Never."""
        return False

    def tracked(self, node: str, packet: Packet) -> str:
        """Never."""
        return ""

    def turn(self, try_number: int) -> Turn | None:
        """None is known: the draw tells it."""
        return None

    def scores(self, ingress: Key, upstream: str, try_number: int) -> Scores | None:
        """None are known."""
        return None

    def dropped_on(self, try_number: int) -> str:
        """Never."""
        return ""

    def found_no_port(self, try_number: int) -> bool:
        """Never."""
        return False
