"""Whether the matches of a dump's rule hold for the first packet of a connection: yes, no, or not to be known.

Sources: iptables-extensions(8) and the kernel's net/netfilter/xt_*.c of the same names. What a dump cannot tell
(members of an ipset, rates, interfaces, bridge ports, packet contents…) is `None`: undecided, never guessed.

Said once, here: the packet is the first of its connection (NEW; for TCP a SYN), no `recent` list knows its source, and
its mark is 0 when it arrives.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from kflab.dataplane.addresses import IPV4, address_number, is_loopback, network
from kflab.dataplane.dump_words import Group, Option
from kflab.dataplane.packets import Packet
from kflab.dataplane.rules import Statistic, probability_text

Answer = bool | None
"""None: undecided."""

SOURCE_PORTS: Final = (32768, 60999)
"""Where a caller's port comes from (Documentation/networking/ip-sysctl.rst, ip_local_port_range). A rule on source
ports is decided only if it takes all of them or none."""

_PROTOCOLS: Final = {"0": "all", "6": "tcp", "17": "udp", "132": "sctp", "1": "icmp", "58": "ipv6-icmp"}

_PORTED: Final = frozenset({"tcp", "udp", "sctp", "udplite", "dccp"})

_OTHER_PROTOCOLS: Final = frozenset({"icmp", "icmp6", "icmpv6", "ipv6-icmp", "esp", "ah", "udplite", "dccp"})
"""Modules of protocols that no packet here has."""

_FRACTION: Final = re.compile(r"[01]?(\.\d{1,20})?|\.\d{1,20}")


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


class Test(NamedTuple):
    """One match of a rule."""

    text: str
    """In words of the dump."""
    judge: Callable[[Meeting], Answer]
    lasting: bool = True
    """Whether its answer is the packet's; False where each rule has a state of its own (limit, quota…)."""


_OF_THE_RULE: Final = frozenset({"limit", "hashlimit", "quota", "quota2", "connlimit", "statistic", "connbytes"})


@lru_cache(maxsize=65_536)
def test_of(group: Group) -> Test:
    """The match of a group of options. Unknown modules and options are undecided.

    `statistic` is the walker's to judge, see `chance_of`.
    """
    try:
        judge = _judge(group)
    except (ValueError, IndexError, ZeroDivisionError):
        judge = _undecided
    return Test(group.text(), judge, group.module not in _OF_THE_RULE)


def _undecided(at: Meeting) -> Answer:
    return None


def _always(at: Meeting) -> Answer:
    return True


def _never(at: Meeting) -> Answer:
    return False


def _judge(group: Group) -> Callable[[Meeting], Answer]:
    module, options = group.module, group.options
    if module in _OTHER_PROTOCOLS:
        return _never
    if module in ("comment", "nfacct"):
        return _always
    judges: list[Callable[[Meeting], Answer]] = []
    if module in _PORTED:
        judges.append(_protocol(Option("-p", (module,))))
    if module == "set":
        judges.append(_set(options))
    elif module == "recent":
        judges.append(_recent(options))
    else:
        table = _MODULES.get(module, {})
        for option in options:
            make = table.get(option.name)
            if make is None:
                return _undecided
            judge = make(option)
            judges.append(_inverted(judge) if option.inverted else judge)
        if not judges:
            return _undecided
    return judges[0] if len(judges) == 1 else lambda at: both(judge(at) for judge in judges)


def both(answers: Iterable[Answer]) -> Answer:
    """All of several answers: one no is no; else one undecided is undecided."""
    found: Answer = True
    for answer in answers:
        if answer is False:
            return False
        if answer is None:
            found = None
    return found


def _inverted(judge: Callable[[Meeting], Answer]) -> Callable[[Meeting], Answer]:
    def opposite(at: Meeting) -> Answer:
        answer = judge(at)
        return None if answer is None else not answer

    return opposite


# --- addresses, interfaces, protocol ------------------------------------------------------------------------------


def masked(text: str) -> tuple[int, int, int]:
    """A CIDR or address/mask: (4 or 6, network, mask).

    Raises:
        ValueError: If it is neither.
    """
    parts = network(text)
    if parts is not None:
        return parts
    base, _, mask_text = text.partition("/")
    number, mask = address_number(base), address_number(mask_text)
    if number is None or mask is None or number[0] != mask[0]:
        raise ValueError(text)
    return number[0], number[1] & mask[1], mask[1]


def _inside(option: Option, of_source: bool) -> Callable[[Meeting], Answer]:
    ranges = [masked(piece) for value in option.values for piece in value.split(",")]

    def judge(at: Meeting) -> Answer:
        number = at.source if of_source else at.destination
        if number is None:
            return None
        return any(number[0] == version and number[1] & mask == base for version, base, mask in ranges)

    return judge


def _interface(option: Option, incoming: bool) -> Callable[[Meeting], Answer]:
    wanted = option.value

    def judge(at: Meeting) -> Answer:
        name = at.in_interface() if incoming else at.out_interface()
        if name is None:
            return wanted == "+" or (False if wanted == "lo" else None)
        if wanted.endswith("+"):
            return bool(name) and name.startswith(wanted[:-1])
        return name == wanted

    return judge


def _protocol(option: Option) -> Callable[[Meeting], Answer]:
    wanted = _PROTOCOLS.get(option.value, option.value.lower())
    return lambda at: wanted in ("all", at.protocol)


def _range(option: Option, of_source: bool) -> Callable[[Meeting], Answer]:
    first, _, last = option.value.partition("-")
    low, high = address_number(first), address_number(last or first)
    if low is None or high is None:
        raise ValueError(option.value)

    def judge(at: Meeting) -> Answer:
        number = at.source if of_source else at.destination
        return None if number is None else low <= number <= high

    return judge


_ROUTE_TYPES: Final = frozenset({"LOCAL", "UNICAST", "BROADCAST", "MULTICAST"})


def _address_type(option: Option, of_source: bool) -> Callable[[Meeting], Answer]:
    wanted = frozenset(option.value.split(","))

    return lambda at: route_type(at, of_source, wanted)


def route_type(at: Meeting, of_source: bool, wanted: frozenset[str]) -> Answer:
    """Whether the routing table says one of some types (LOCAL, UNICAST…) of the packet's source or destination."""
    address, local = (at.packet.src, at.src_local) if of_source else (at.packet.dst, at.dst_local)
    number = address_number(address)
    if number is None:
        return None
    version, value = number
    if local:
        found = "LOCAL"
    elif value >> (28 if version == 4 else 120) == (0xE if version == 4 else 0xFF):
        found = "MULTICAST"
    elif version == 4 and value == 0xFFFFFFFF:
        found = "BROADCAST"
    else:
        found = "UNICAST"
    if found in wanted:
        return True
    # ANYCAST, BLACKHOLE, PROHIBIT… and the broadcast address of a subnet are the routing table's to know.
    return False if wanted <= _ROUTE_TYPES - {"BROADCAST"} or local else None


# --- ports ----------------------------------------------------------------------------------------------------------


def ports(text: str) -> list[tuple[int, int]]:
    """A list of ports and ranges: 80,443,8000:8080.

    Raises:
        ValueError: If it is none.
    """
    found = []
    for piece in text.split(","):
        first, colon, last = piece.replace("-", ":").partition(":")
        low = _small(first or "0")
        found.append((low, _small(last or "65535") if colon else low))
    return found


def _small(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise ValueError(text)
    return int(text)


def _to_port(option: Option) -> Callable[[Meeting], Answer]:
    ranges = ports(option.value)
    return lambda at: any(low <= at.packet.dport <= high for low, high in ranges)


def _from_port(option: Option) -> Callable[[Meeting], Answer]:
    ranges = ports(option.value)
    first, last = SOURCE_PORTS
    if any(low <= first and high >= last for low, high in ranges):
        return _always
    return _never if all(high < first or low > last for low, high in ranges) else _undecided


def _either_port(option: Option) -> Callable[[Meeting], Answer]:
    there, back = _to_port(option), _from_port(option)

    def judge(at: Meeting) -> Answer:
        answers = there(at), back(at)
        return True if True in answers else None if None in answers else False

    return judge


def _flags(option: Option) -> Callable[[Meeting], Answer]:
    """A connection begins with SYN alone."""
    mask, wanted = ({*value.upper().split(",")} - {"NONE"} for value in option.values)
    holds = ("ALL" in mask or "SYN" in mask) and wanted == {"SYN"}
    if "ALL" not in mask and "SYN" not in mask:
        holds = not wanted
    return _always if holds else _never


# --- connection tracking, marks, chance -----------------------------------------------------------------------------


def _states(option: Option) -> Callable[[Meeting], Answer]:
    """NEW, or UNTRACKED; and DNAT or SNAT once rewritten (xt_conntrack.c, conntrack_mt)."""
    wanted = frozenset(option.value.split(","))

    def judge(at: Meeting) -> Answer:
        if at.untracked:
            return "UNTRACKED" in wanted
        return "NEW" in wanted or ("DNAT" in wanted and at.rewritten) or ("SNAT" in wanted and bool(at.snat))

    return judge


def _original_destination(option: Option) -> Callable[[Meeting], Answer]:
    version, base, mask = masked(option.value)

    def judge(at: Meeting) -> Answer:
        number = address_number(at.original.dst)
        return not at.untracked and number is not None and number[0] == version and number[1] & mask == base

    return judge


def _original_port(option: Option) -> Callable[[Meeting], Answer]:
    ranges = ports(option.value)
    return lambda at: not at.untracked and any(low <= at.original.dport <= high for low, high in ranges)


def _direction(option: Option) -> Callable[[Meeting], Answer]:
    return lambda at: not at.untracked and option.value == "ORIGINAL"


def number_mask(text: str) -> tuple[int, int]:
    """value/mask of a mark; the mask is all bits where it is left out.

    Raises:
        ValueError: If it is none.
    """
    value, slash, mask = text.partition("/")
    if len(text) > 40:
        raise ValueError(text)
    numbers = int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF
    if not all(0 <= number <= 0xFFFFFFFF for number in numbers):
        raise ValueError(text)
    return numbers


def _mark(option: Option) -> Callable[[Meeting], Answer]:
    value, mask = number_mask(option.value)
    return lambda at: at.mark & mask == value


def _connmark(option: Option) -> Callable[[Meeting], Answer]:
    value, mask = number_mask(option.value)
    return lambda at: at.connmark & mask == value


def _recent(options: tuple[Option, ...]) -> Callable[[Meeting], Answer]:
    """No list knows the source yet: --set holds, --rcheck, --update and --remove do not (xt_recent.c)."""
    commands = [option for option in options if option.name in ("--set", "--rcheck", "--update", "--remove")]
    if len(commands) != 1:
        return _undecided
    command = commands[0]
    holds = (command.name == "--set") is not command.inverted
    if command.name == "--set":
        return lambda at: holds

    def judge(at: Meeting) -> Answer:
        at.notes["the caller is taken as one that no `recent` list knows (no session affinity yet)"] = None
        return holds

    return judge


def chance_of(group: Group) -> Fraction | None:
    """Chance that a `statistic` match holds; None where it cannot be read.

    kube-proxy's 1/n come back exact: the dump shows what the kernel kept of them in 31 bits. `--mode nth` is taken as
    the share it gives over many connections.
    """
    mode = group.find("--mode")
    share = group.find("--probability")
    if mode is not None and mode.value == "nth":
        every = group.find("--every")
        n = _small(every.value) if every is not None else 0
        found, inverted = (Fraction(1, n) if n else None), bool(every and every.inverted)
    elif share is not None and _FRACTION.fullmatch(share.value) and any(char.isdigit() for char in share.value):
        found, inverted = _exact(share.value), share.inverted
    else:
        return None
    if found is None or found > 1:
        return None
    return 1 - found if inverted else found


@lru_cache(maxsize=16_384)
def _exact(text: str) -> Fraction:
    given = Fraction(text)
    if given:
        simple = Fraction(1, round(1 / given))
        if text in (probability_text(simple), Statistic(simple).saved(IPV4).rpartition(" ")[2]):
            return simple
    return given


# --- ipsets -----------------------------------------------------------------------------------------------------------


def _set(options: tuple[Option, ...]) -> Callable[[Meeting], Answer]:
    if len(options) != 1 or options[0].name != "--match-set" or len(options[0].values) != 2:
        return _undecided
    (name, sides), inverted = options[0].values, options[0].inverted
    directions = sides.split(",")

    def judge(at: Meeting) -> Answer:
        members = at.known.sets.get(name)
        if members is None:
            return None
        answers = [_member(entry, directions, at) for entry in members]
        found = True if True in answers else None if None in answers else False
        return None if found is None else found is not inverted

    return judge


def _member(entry: str, directions: list[str], at: Meeting) -> Answer:
    """Whether the packet is one entry: ip, net, ip,port, net,port or port (ipset(8))."""
    found: Answer = True
    parts = entry.split(",")
    if len(parts) > len(directions):
        return None
    for part, side in zip(parts, directions, strict=False):
        protocol, colon, port = part.rpartition(":")
        try:
            if colon and not port.isdecimal():
                raise ValueError(part)
            is_port = (colon and protocol.lower() in ("tcp", "udp", "sctp")) or part.isdecimal()
            if is_port:
                option = Option("", (port,))
                answer = (_to_port if side == "dst" else _from_port)(option)(at)
                if colon and protocol.lower() != at.protocol:
                    answer = False
            elif "-" in part:
                answer = _range(Option("", (part,)), side == "src")(at)
            else:
                answer = _inside(Option("", (part,)), side == "src")(at)
        except ValueError:
            try:
                answer = _inside(Option("", (part,)), side == "src")(at)
            except ValueError:
                return None
        if answer is False:
            return False
        found = None if answer is None else found
    return found


Maker = Callable[[Option], Callable[[Meeting], Answer]]

_PORT_OPTIONS: Final[Mapping[str, Maker]] = {
    "--dport": _to_port,
    "--destination-port": _to_port,
    "--sport": _from_port,
    "--source-port": _from_port,
}

_MODULES: Final[Mapping[str, Mapping[str, Maker]]] = {
    "": {
        "-s": lambda option: _inside(option, True),
        "-d": lambda option: _inside(option, False),
        "-i": lambda option: _interface(option, True),
        "-o": lambda option: _interface(option, False),
        "-p": _protocol,
        "-f": lambda option: _never,  # the first packet is no later fragment
        "-4": lambda option: _always,
        "-6": lambda option: _always,
    },
    "tcp": {**_PORT_OPTIONS, "--tcp-flags": _flags, "--syn": lambda option: _always},
    "udp": _PORT_OPTIONS,
    "sctp": _PORT_OPTIONS,
    "multiport": {
        "--dports": _to_port,
        "--destination-ports": _to_port,
        "--sports": _from_port,
        "--source-ports": _from_port,
        "--ports": _either_port,
    },
    "conntrack": {
        "--ctstate": _states,
        "--ctorigdst": _original_destination,
        "--ctorigdstport": _original_port,
        "--ctproto": _protocol,
        "--ctdir": _direction,
    },
    "state": {"--state": _states},
    "mark": {"--mark": _mark},
    "connmark": {"--mark": _connmark},
    "addrtype": {
        "--src-type": lambda option: _address_type(option, True),
        "--dst-type": lambda option: _address_type(option, False),
    },
    "iprange": {
        "--src-range": lambda option: _range(option, True),
        "--dst-range": lambda option: _range(option, False),
    },
}
