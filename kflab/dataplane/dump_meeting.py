"""A packet where it meets a rule of a dump, and what is known of its node beside the dump.

Said once, here: the packet is the first of its connection (NEW; for TCP a SYN), no `recent` list knows its source, and
its mark is 0 when it arrives.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field

from kflab.dataplane.addresses import address_number, is_loopback
from kflab.dataplane.packets import Packet
from kflab.records import dataclass

Answer = bool | None
"""None: undecided."""


def both(answers: Iterable[Answer]) -> Answer:
    """All of several answers: one no is no; else one undecided is undecided."""
    found: Answer = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            found = None
    return found


@dataclass(frozen=True, eq=False)
class Known:
    """What is known beside the dump.

    Args:
        node: Its name, "" where only addresses are known.
        local_ips: The node's own addresses; every other address but loopback is taken as not its own.
        in_interface: Where packets from elsewhere come in; "" unknown.
        out_interface: Where packets to elsewhere go out; "" unknown.
        sets: Members of ipsets by name, as `ipset save` prints them.
    """

    node: str = ""
    local_ips: tuple[str, ...] = ()
    in_interface: str = ""
    out_interface: str = ""
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def is_local(self, address: str) -> bool:
        """Whether the kernel routes an address to the node itself (type LOCAL)."""
        return address in self.local_ips or is_loopback(address)


class Meeting:
    """A packet where it meets a rule."""

    __slots__ = (
        "answers",
        "connmark",
        "destination",
        "dst_local",
        "hook",
        "known",
        "looped",
        "mark",
        "notes",
        "original",
        "packet",
        "protocol",
        "rewritten",
        "snat",
        "source",
        "src_local",
        "unsure",
        "untracked",
    )

    def __init__(self, packet: Packet, known: Known) -> None:
        self.packet = self.original = packet
        self.known = known
        self.protocol = packet.protocol.lower()
        self.source = address_number(packet.src)
        self.destination = address_number(packet.dst)
        self.src_local = known.is_local(packet.src)
        self.dst_local = known.is_local(packet.dst)
        self.mark = self.connmark = 0
        self.unsure: frozenset[str] = frozenset()
        """mark, connmark: those that a rule has set to something unknown."""
        self.untracked = False
        self.rewritten = False
        self.snat = ""
        """What becomes of the source: "" kept, "masquerade", or an address."""
        self.hook = ""
        self.looped = False
        """Whether it has left by lo and comes in again."""
        self.answers: Mapping[object, bool] = {}
        """What was assumed of undecided matches on this packet's way."""
        self.notes: dict[str, None] = {}
        """Assumptions met on the way; shared by all branches."""

    def copy(self) -> "Meeting":
        """An independent packet in the same state."""
        twin = Meeting.__new__(Meeting)
        for name in Meeting.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def goes_to(self, address: str, port: int) -> None:
        """Rewrite the destination."""
        before = self.packet
        self.packet = Packet(before.src, before.sport, address, port or before.dport, before.protocol)
        self.destination = address_number(address)
        self.dst_local = self.known.is_local(address)
        self.rewritten = True

    @property
    def state(self) -> tuple[object, ...]:
        """Everything a rule may have changed."""
        return self.packet, self.rewritten, self.mark, self.connmark, self.unsure, self.untracked, self.snat

    def in_interface(self) -> str | None:
        """Name of the interface it came in by; "" none; None unknown."""
        if self.hook in ("OUTPUT", "POSTROUTING"):
            return ""
        if self.looped:
            return "lo"
        return self.known.in_interface or None

    def out_interface(self) -> str | None:
        """Name of the interface it goes out by; "" none; None unknown."""
        if self.hook in ("PREROUTING", "INPUT"):
            return ""
        if self.dst_local:
            return "lo"
        return self.known.out_interface or None
