"""What each option of a match asks of a packet: iptables-extensions(8), the kernel's net/netfilter/xt_*.c.

A maker takes an option as written and returns the judge of a packet; it raises ValueError for a value that it cannot
read.
"""

from collections.abc import Callable, Mapping
from typing import Final

from kflab.dataplane.addresses import address_number, network
from kflab.dataplane.dump_meeting import Answer, Meeting
from kflab.dataplane.dump_words import Option

SOURCE_PORTS: Final = (32768, 60999)
"""Where a caller's port comes from (Documentation/networking/ip-sysctl.rst, ip_local_port_range). A rule on source
ports is decided only if it takes all of them or none."""

_PROTOCOLS: Final = {"0": "all", "6": "tcp", "17": "udp", "132": "sctp", "1": "icmp", "58": "ipv6-icmp"}

_ROUTE_TYPES: Final = frozenset({"LOCAL", "UNICAST", "BROADCAST", "MULTICAST"})

Judge = Callable[[Meeting], Answer]
"""Whether a match holds for a packet."""


def always(at: Meeting) -> Answer:
    return True


def never(at: Meeting) -> Answer:
    return False


def undecided(at: Meeting) -> Answer:
    return None


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


def _inside(option: Option, of_source: bool) -> Judge:
    ranges = [masked(piece) for value in option.values for piece in value.split(",")]

    def judge(at: Meeting) -> Answer:
        number = at.source if of_source else at.destination
        if number is None:
            return None
        return any(number[0] == version and number[1] & mask == base for version, base, mask in ranges)

    return judge


def _interface(option: Option, incoming: bool) -> Judge:
    wanted = option.value

    def judge(at: Meeting) -> Answer:
        name = at.in_interface() if incoming else at.out_interface()
        if name is None:
            return wanted == "+" or (False if wanted == "lo" else None)
        if wanted.endswith("+"):
            return bool(name) and name.startswith(wanted[:-1])
        return name == wanted

    return judge


def of_protocol(option: Option) -> Judge:
    wanted = _PROTOCOLS.get(option.value, option.value.lower())
    return lambda at: wanted in ("all", at.protocol)


def _range(option: Option, of_source: bool) -> Judge:
    first, _, last = option.value.partition("-")
    low, high = address_number(first), address_number(last or first)
    if low is None or high is None:
        raise ValueError(option.value)

    def judge(at: Meeting) -> Answer:
        number = at.source if of_source else at.destination
        return None if number is None else low <= number <= high

    return judge


def _address_type(option: Option, of_source: bool) -> Judge:
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


def ports(text: str) -> list[tuple[int, int]]:
    """A list of ports and ranges: 80,443,8000:8080.

    Raises:
        ValueError: If it is none.
    """
    found = []
    for piece in text.split(","):
        first, colon, last = piece.replace("-", ":").partition(":")
        low = small_number(first or "0")
        found.append((low, small_number(last or "65535") if colon else low))
    return found


def small_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise ValueError(text)
    return int(text)


def _to_port(option: Option) -> Judge:
    ranges = ports(option.value)
    return lambda at: any(low <= at.packet.dport <= high for low, high in ranges)


def _from_port(option: Option) -> Judge:
    ranges = ports(option.value)
    first, last = SOURCE_PORTS
    if any(low <= first and high >= last for low, high in ranges):
        return always
    return never if all(high < first or low > last for low, high in ranges) else undecided


def _either_port(option: Option) -> Judge:
    there, back = _to_port(option), _from_port(option)

    def judge(at: Meeting) -> Answer:
        answers = there(at), back(at)
        return True if True in answers else None if None in answers else False

    return judge


def _flags(option: Option) -> Judge:
    """A connection begins with SYN alone."""
    mask, wanted = ({*value.upper().split(",")} - {"NONE"} for value in option.values)
    holds = ("ALL" in mask or "SYN" in mask) and wanted == {"SYN"}
    if "ALL" not in mask and "SYN" not in mask:
        holds = not wanted
    return always if holds else never


def _states(option: Option) -> Judge:
    """NEW, or UNTRACKED; and DNAT or SNAT once rewritten (xt_conntrack.c, conntrack_mt)."""
    wanted = frozenset(option.value.split(","))

    def judge(at: Meeting) -> Answer:
        if at.untracked:
            return "UNTRACKED" in wanted
        return "NEW" in wanted or ("DNAT" in wanted and at.rewritten) or ("SNAT" in wanted and bool(at.snat))

    return judge


def _original_destination(option: Option) -> Judge:
    version, base, mask = masked(option.value)

    def judge(at: Meeting) -> Answer:
        number = address_number(at.original.dst)
        return not at.untracked and number is not None and number[0] == version and number[1] & mask == base

    return judge


def _original_port(option: Option) -> Judge:
    ranges = ports(option.value)
    return lambda at: not at.untracked and any(low <= at.original.dport <= high for low, high in ranges)


def _direction(option: Option) -> Judge:
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


def _mark(option: Option) -> Judge:
    value, mask = number_mask(option.value)
    return lambda at: at.mark & mask == value


def _connmark(option: Option) -> Judge:
    value, mask = number_mask(option.value)
    return lambda at: at.connmark & mask == value


def recent(options: tuple[Option, ...]) -> Judge:
    """No list knows the source yet: --set holds, --rcheck, --update and --remove do not (xt_recent.c)."""
    commands = [option for option in options if option.name in ("--set", "--rcheck", "--update", "--remove")]
    if len(commands) != 1:
        return undecided
    command = commands[0]
    holds = (command.name == "--set") is not command.inverted
    if command.name == "--set":
        return lambda at: holds

    def judge(at: Meeting) -> Answer:
        at.notes["the caller is taken as one that no `recent` list knows (no session affinity yet)"] = None
        return holds

    return judge


def in_set(options: tuple[Option, ...]) -> Judge:
    if len(options) != 1 or options[0].name != "--match-set" or len(options[0].values) != 2:
        return undecided
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


Maker = Callable[[Option], Judge]

_PORT_OPTIONS: Final[Mapping[str, Maker]] = {
    "--dport": _to_port,
    "--destination-port": _to_port,
    "--sport": _from_port,
    "--source-port": _from_port,
}

MODULES: Final[Mapping[str, Mapping[str, Maker]]] = {
    "": {
        "-s": lambda option: _inside(option, True),
        "-d": lambda option: _inside(option, False),
        "-i": lambda option: _interface(option, True),
        "-o": lambda option: _interface(option, False),
        "-p": of_protocol,
        "-f": lambda option: never,  # the first packet is no later fragment
        "-4": lambda option: always,
        "-6": lambda option: always,
    },
    "tcp": {**_PORT_OPTIONS, "--tcp-flags": _flags, "--syn": lambda option: always},
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
        "--ctproto": of_protocol,
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
