"""A choice that requests pass, as the lab knows it, and a stream of requests with all the choices it may pass."""

from bisect import bisect_right
from dataclasses import field

from kflab.engine.types import PEERS, Call, Fan, Pick, Stream
from kflab.lab.entries import Entry
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(slots=True)
class Chooser:
    """One chooser as the lab knows it."""

    index: int
    kind: str
    """lb (nodes), entry (a node's DNAT of the first connection), dns (likewise of its client's queries), upstream (what
    NGINX's connection reaches)."""
    band: str
    """Id of the band it belongs to."""
    place: str
    """Node on which the choice is made; "" for a load balancer."""
    observers: tuple[str, ...]
    """Whose knowledge decides, by name."""
    entry: Entry
    pod: Key | None = None
    """The ingress pod, for upstream choosers."""
    fan: Fan | None = None
    since_ns: int = 0
    """Since when it has these candidates."""
    picker: int = Pick.RANDOM
    given_picker: int = Pick.RANDOM
    """What the engine was told last."""
    virtual: int = -1
    """IPVS: the virtual server whose turns it takes; under affinity the entry of its caller; -1 for none."""
    given_virtual: int = -1
    sticky: bool = False
    """`virtual` is an affinity entry."""
    service: Key | None = None
    """The Service whose endpoints are chosen."""
    service_port: int = 0
    past: list[tuple[int, Fan]] = field(default_factory=list)
    """(from_ns, candidates) ascending, for the autopsy; what was replaced long ago is forgotten."""

    @property
    def by_peer(self) -> bool:
        """Whether NGINX itself picks the pod, by what its controller knows."""
        return self.picker in PEERS


def front_band(entry: Entry) -> str:
    """Id of the band of what clients of an entry dial."""
    key = entry.balancer
    if entry.node:
        return f"node/{entry.node}/{key.namespace}/{key.name}"
    return f"{'lb' if entry.balanced else 'nodes'}/{key.namespace}/{key.name}"


@dataclass(frozen=True, slots=True)
class Home:
    """Where a client in a pod was from one instant on."""

    from_ns: int
    pod: Key
    address: str
    node: str
    """"" where its pod had none yet."""
    container: str
    """Whose process sends."""


@dataclass(slots=True)
class Wired:
    """One stream and everything it may pass."""

    entry: Entry
    stream: Stream
    lb: Chooser | None = None
    entries: dict[str, Chooser] = field(default_factory=dict)
    """Node → its DNAT of this stream's first connection."""
    dns: Chooser | None = None
    """Its pod's node's DNAT of queries; None where DNS is not asked for each request."""
    upstreams: dict[Key, Chooser] = field(default_factory=dict)
    """Ingress pod → chooser."""
    wished_rps: float = 0.0
    """Its rate while its caller is up."""
    caller_down: bool = False
    """The pod that calls sends nothing: its process is gone, or hangs."""
    homes: list[Home] = field(default_factory=list)
    """Of a client in a pod: where it was, ascending; what was over long ago is forgotten."""
    name: str = ""
    """What it is, whatever its index: part of the addresses of its calls' draws."""
    calls: tuple[tuple[int, tuple[Call, ...]], ...] = ()
    """As `Stream.calls`."""

    def home_at(self, start_ns: int, finish_ns: int) -> Home | None:
        """Where its client was for a request of these instants; None for a client outside.

        At the instant at which one goes and another comes, what ends is the former's.
        """
        place = bisect_right(self.homes, start_ns, key=lambda home: home.from_ns)
        if place > 1 and self.homes[place - 1].from_ns == finish_ns:
            place -= 1
        return self.homes[max(0, place - 1)] if self.homes else None
