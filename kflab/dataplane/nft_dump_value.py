"""What the expressions of nftables rules come to for the first packet of a connection, and whether matches hold.

Sources: nft(8); the kernel's net/netfilter/nft_payload.c, nft_meta.c, nft_ct.c, nft_fib.c, nft_numgen.c, nft_lookup.c.
As in `dump_meeting`: the packet is NEW (a TCP SYN), its mark is 0 when it arrives, its source port is an ephemeral one.
What the dump cannot tell (interfaces, sizes, users, hashes…) is None: undecided, never guessed.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from typing import Any, Final, NamedTuple

from kflab.dataplane.addresses import address_number
from kflab.dataplane.dump_meeting import Answer, Meeting, both
from kflab.dataplane.dump_options import SOURCE_PORTS, route_type
from kflab.dataplane.nft_dump import ListedElement, ListedSet, Listing

MOST_BRANCHES: Final = 65_536
"""Values of one numgen that are followed."""


class Address(NamedTuple):
    """An address: 4 or 6, and its number."""

    version: int
    number: int

    @property
    def text(self) -> str:
        """As people write it."""
        return str(IPv4Address(self.number) if self.version == 4 else IPv6Address(self.number))


class Span(NamedTuple):
    """One number of a range, not known which; as a literal: any of them. Addresses bring their version, else 0."""

    first: int
    last: int
    version: int = 0


class Flags(frozenset[str]):
    """Bits by name: TCP flags, connection states."""


class Status(frozenset[str]):
    """ct status: the bits that are set for certain."""


class RouteType(NamedTuple):
    """fib … type, of the source or the destination."""

    of_source: bool


class Special(NamedTuple):
    """Something that is no value."""

    what: str


ABSENT: Final = Special("absent")
"""The packet has no such thing: the rule ends, whatever is compared (NFT_BREAK)."""

ELSEWHERE: Final = Special("elsewhere")
"""An interface that is not known, but is not lo."""

ANY: Final = Special("*")
"""As a literal: everything."""

Ways = list[tuple[Fraction, Any]]
"""Values with their chances. A value is None (undecided), one of the classes above, a number, a word, or a tuple of
values (a concatenation)."""

_CERTAIN_STATUS: Final = frozenset({"dnat", "snat", "seen-reply", "assured", "dying"})
"""Bits of ct status that are known of a first packet; dnat and snat once it is rewritten, the others never set."""

_NUMBERS: Final = {
    "icmp": 1,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "sctp": 132,
    "udplite": 136,
}
"""Protocols by name (nft prints numbers on a node without /etc/protocols)."""

_FLAG_WORDS: Final = frozenset("fin syn rst psh ack urg ecn cwr ece invalid established related new untracked".split())
"""Names of TCP flags and connection states; `nft -n` prints numbers, which stay undecided."""

_PORTED: Final = frozenset({"tcp", "udp", "sctp", "dccp", "udplite"})

_OTHERS: Final = frozenset({"icmp", "icmpv6", "igmp", "ah", "esp", "comp", "gre", "arp", "vlan"})
"""Headers that no packet here has."""

_WHOLE: Final = Fraction(1)


# --- the packet -----------------------------------------------------------------------------------------------------


def ways_of(expression: Any, at: Meeting, place: tuple[str, str], listing: Listing) -> Ways:
    """Work out an expression.

    Args:
        expression: As libnftables-json writes it.
        at: The packet.
        place: Family and table of the rule, for maps.
        listing: The dump.

    Returns:
        Its values with their chances: one, but where numgen draws.
    """
    match expression:
        case {"concat": [*parts]}:
            return _combined(parts, at, place, listing)
        case {"numgen": {"mod": int(mod), **rest}} if 0 < mod <= MOST_BRANCHES:
            # inc counts connections: over many of them the same share.
            offset = rest.get("offset") or 0
            if isinstance(offset, int) and rest.get("mode") in ("random", "inc"):
                return [(Fraction(1, mod), i + offset) for i in range(mod)]
        case {"&": [left, right]} | {"|": [left, right]} | {"^": [left, right]}:
            (operator,) = expression
            pairs = _combined([left, right], at, place, listing)
            return [(chance, _operated(operator, pair)) for chance, pair in pairs]
        case {"<<": [left, int(bits)]} | {">>": [left, int(bits)]} if 0 <= bits <= 32:
            up = "<<" in expression
            shifted = ways_of(left, at, place, listing)
            return [
                (chance, ((value << bits if up else value >> bits) & 0xFFFFFFFF) if isinstance(value, int) else None)
                for chance, value in shifted
            ]
        case {"map": {"key": key, "data": data}}:
            return _mapped(key, data, at, place, listing)
        case {"payload": dict(body)}:
            return [(_WHOLE, _payload(body, at))]
        case {"meta": {"key": str(key)}}:
            return [(_WHOLE, _meta(key, at))]
        case {"ct": {"key": str(key), **more}}:
            return [(_WHOLE, _ct(key, more.get("dir"), at))]
        case {"fib": {"result": "type", "flags": ["saddr" | "daddr" as side] | ("saddr" | "daddr" as side)}}:
            return [(_WHOLE, RouteType(side == "saddr"))]
        case str() | int() | list() | {"prefix": _} | {"range": _}:
            return [(_WHOLE, literal(expression))]
    return [(_WHOLE, None)]


def _combined(parts: Sequence[Any], at: Meeting, place: tuple[str, str], listing: Listing) -> Ways:
    each = [ways_of(part, at, place, listing) for part in parts]
    total = 1
    for ways in each:
        total *= len(ways)
    if total > MOST_BRANCHES:
        return [(_WHOLE, None)]
    found: Ways = []
    for combination in product(*each):
        chance = _WHOLE
        for share, _ in combination:
            chance *= share
        values = tuple(value for _, value in combination)
        found.append((chance, ABSENT if any(value is ABSENT for value in values) else values))
    return found


def _operated(operator: str, pair: Any) -> Any:
    """left operator right, of numbers, addresses or flags."""
    if pair is None or pair is ABSENT:
        return pair
    left, right = pair
    if isinstance(left, str) or isinstance(right, str):
        left, right = (Flags({side}) if isinstance(side, str) else side for side in (left, right))
    if isinstance(left, Flags) and isinstance(right, Flags):
        if not (left | right) <= _FLAG_WORDS:
            return None
        return Flags(left & right if operator == "&" else left | right if operator == "|" else left ^ right)
    if isinstance(left, Address) and isinstance(right, Address) and left.version == right.version:
        return Address(left.version, _bits(operator, left.number, right.number))
    if isinstance(left, int) and isinstance(right, int):
        return _bits(operator, left, right)
    return None


def _bits(operator: str, left: int, right: int) -> int:
    return left & right if operator == "&" else left | right if operator == "|" else left ^ right


def _mapped(key: Any, data: Any, at: Meeting, place: tuple[str, str], listing: Listing) -> Ways:
    found: Ways = []
    elements = container(data, place, listing)
    for chance, value in ways_of(key, at, place, listing):
        hits = None if elements is None else elements.hits(value, at)
        if hits is None or any(answer is None for _, answer in hits):
            found.append((chance, None))
        else:
            found.append((chance, literal(hits[0][0].data) if hits else ABSENT))
    return found


def _payload(body: dict[str, Any], at: Meeting) -> Any:
    protocol, name = body.get("protocol"), body.get("field")
    version = at.destination[0] if at.destination is not None else 0
    if protocol in ("ip", "ip6"):
        if version != (4 if protocol == "ip" else 6):
            return ABSENT
        match name:
            case "saddr":
                return _address(at.packet.src)
            case "daddr":
                return _address(at.packet.dst)
            case "protocol" | "nexthdr":
                return at.protocol
            case "version":
                return version
        return None
    if protocol in _OTHERS or (protocol in _PORTED and protocol != at.protocol):
        return ABSENT
    if protocol in _PORTED or protocol == "th":
        if name == "dport":
            return at.packet.dport
        if name == "sport":
            return Span(*SOURCE_PORTS)
        if name == "flags" and protocol == "tcp":
            return Flags({"syn"})  # a connection begins with SYN alone
    return None


def _address(text: str) -> Address | None:
    number = address_number(text)
    return Address(*number) if number is not None else None


def _meta(key: str, at: Meeting) -> Any:
    six = at.destination is not None and at.destination[0] == 6
    match key:
        case "l4proto":
            return at.protocol
        case "nfproto":
            return "ipv6" if six else "ipv4"
        case "protocol":
            return "ip6" if six else "ip"
        case "mark":
            return None if "mark" in at.unsure else at.mark
        case "iifname" | "iif" | "oifname" | "oif":
            name = _in_interface(at) if key[0] == "i" else at.out_interface()
            return ELSEWHERE if name is None else name
    return None


def _in_interface(at: Meeting) -> str | None:
    """Linux 5.7 and newer also tell on postrouting where a forwarded packet came in (net/ipv4/ip_output.c)."""
    if at.hook == "POSTROUTING" and not at.src_local:
        return at.known.in_interface or None
    return at.in_interface()


def _ct(key: str, direction: Any, at: Meeting) -> Any:
    if key == "state":
        return Flags({"untracked" if at.untracked else "new"})
    if at.untracked:
        return ABSENT
    six = at.destination is not None and at.destination[0] == 6
    match key:
        case "status":
            return Status({*(["dnat"] if at.rewritten else []), *(["snat"] if at.snat else [])})
        case "mark":
            return None if "connmark" in at.unsure else at.connmark
        case "direction":
            return "original"
        case "l3proto":
            return "ipv6" if six else "ipv4"
        case "protocol":
            return at.protocol
    if direction == "original":
        match key:
            case "saddr" | "ip saddr" | "ip6 saddr":
                return _address(at.original.src)
            case "daddr" | "ip daddr" | "ip6 daddr":
                return _address(at.original.dst)
            case "proto-dst":
                return at.original.dport
            case "proto-src":
                return Span(*SOURCE_PORTS)
    return None


# --- what it is compared with ----------------------------------------------------------------------------------------


def literal(expression: Any) -> Any:
    """A constant as rules and elements write it; None where it cannot be read."""
    match expression:
        case bool():
            return None
        case int():
            return expression
        case "*":
            return ANY
        case str():
            return _address(expression) or expression
        case {"prefix": {"addr": str(base), "len": int(length)}}:
            start = _address(base)
            bits = 0 if start is None else 32 if start.version == 4 else 128
            if start is None or not 0 <= length <= bits:
                return None
            low = start.number >> (bits - length) << (bits - length)
            return Span(low, low + (1 << (bits - length)) - 1, start.version)
        case {"range": [first, last]}:
            low_end, high_end = literal(first), literal(last)
            if isinstance(low_end, Address) and isinstance(high_end, Address):
                return Span(low_end.number, high_end.number, low_end.version)
            if isinstance(low_end, int) and isinstance(high_end, int):
                return Span(low_end, high_end)
            return None
        case {"concat": [*parts]}:
            return tuple(literal(part) for part in parts)
        case {"elem": {"val": inner}}:
            return literal(inner)
        case list() | {"|": list()}:
            names = expression if isinstance(expression, list) else expression["|"]
            return Flags(names) if all(isinstance(name, str) for name in names) else None
    return None


def same(value: Any, wanted: Any, at: Meeting) -> Answer:
    """Whether a value is what a literal says."""
    if value is ABSENT:
        return False
    if wanted is ANY:
        return True
    if value is ELSEWHERE:
        return False if wanted == "lo" else None
    match value, wanted:
        case RouteType(of_source), str():
            return route_type(at, of_source, frozenset({wanted.upper()}))
        case Flags(), str():
            return value == Flags({wanted}) if wanted in _FLAG_WORDS else None
        case Flags(), Flags():
            return value == wanted if wanted <= _FLAG_WORDS else None
        case Flags(), 0:
            return not value
        case Address(), Address():
            return value == wanted
        case Address(version, number), Span(first, last, of_version):
            return version == of_version and first <= number <= last
        case Span(first, last), Span(low, high, 0):
            return True if low <= first and last <= high else False if high < first or last < low else None
        case Span(first, last), int():
            return None if first <= wanted <= last else False
        case tuple(), tuple() if type(value) is tuple and type(wanted) is tuple:
            if len(value) != len(wanted):
                return None
            return both(same(one, other, at) for one, other in zip(value, wanted, strict=True))
        case str(), str():
            if wanted.endswith("*") and not wanted.endswith("\\*"):
                return value.startswith(wanted[:-1])
            return value == wanted
        case str(), int() if value in _NUMBERS:
            return _NUMBERS[value] == wanted
        case int(), int():
            return value == wanted
        case int(), Span(first, last, 0):
            return first <= value <= last
    return None


class Container:
    """The elements of a set or map, found by key."""

    def __init__(self, elements: Iterable[ListedElement]) -> None:
        self._exact: dict[Any, ListedElement] = {}
        self._others: list[tuple[Any, ListedElement]] = []
        self._every: list[tuple[Any, ListedElement]] = []
        for element in elements:
            wanted = literal(element.key)
            self._every.append((wanted, element))
            if _is_exact(wanted):
                self._exact.setdefault(wanted, element)
            else:
                self._others.append((wanted, element))

    def hits(self, value: Any, at: Meeting) -> list[tuple[ListedElement, Answer]]:
        """Elements that a value is or may be: one that it is for certain, or all that it may be."""
        if value is ABSENT:
            return []
        searched = self._every
        if _is_exact(value):
            for key in _spellings(value):
                found = self._exact.get(key)
                if found is not None:
                    return [(found, True)]
            searched = self._others
        maybe: list[tuple[ListedElement, Answer]] = []
        anything: list[tuple[ListedElement, Answer]] = []
        for wanted, element in searched:
            if wanted is ANY:
                anything = [(element, True)]
                continue
            answer = same(value, wanted, at)
            if answer is True:
                return [(element, True)]
            if answer is None:
                maybe.append((element, None))
        return [*maybe, *anything]


def _is_exact(value: Any) -> bool:
    if type(value) is tuple:
        return all(_is_exact(part) for part in value)
    return isinstance(value, Address | int) or (isinstance(value, str) and not value.endswith("*"))


def _spellings(value: Any) -> Iterable[Any]:
    """A key with its protocols by name and by number."""
    parts = value if type(value) is tuple else (value,)
    each = [(part, _NUMBERS[part]) if isinstance(part, str) and part in _NUMBERS else (part,) for part in parts]
    return (found if type(value) is tuple else found[0] for found in product(*each))


def container(expression: Any, place: tuple[str, str], listing: Listing) -> Container | None:
    """The set or map that an expression names or holds; None where it is not in the dump."""
    match expression:
        case str() if expression.startswith("@"):
            found = listing.set(place, expression[1:])
            return None if found is None else _of(found)
        case {"set": [*items]}:
            return Container(
                ListedElement(item[0], item[1]) if isinstance(item, list) and len(item) == 2 else ListedElement(item)
                for item in items
            )
    return None


def _of(listed: ListedSet) -> Container:
    if listed.container is None:
        listed.container = Container(listed.elements)
    assert isinstance(listed.container, Container)
    return listed.container


# --- matches ----------------------------------------------------------------------------------------------------------


def answers_of(
    body: dict[str, Any], at: Meeting, place: tuple[str, str], listing: Listing
) -> list[tuple[Fraction, Answer]]:
    """Whether a match holds: the answers with their chances, each answer once."""
    total: dict[Answer, Fraction] = {}
    for chance, value in ways_of(body.get("left"), at, place, listing):
        answer = _answer(str(body.get("op")), value, body.get("right"), at, place, listing)
        total[answer] = total.get(answer, Fraction(0)) + chance
    return [(chance, answer) for answer, chance in total.items()]


def _answer(op: str, value: Any, right: Any, at: Meeting, place: tuple[str, str], listing: Listing) -> Answer:
    if value is ABSENT:
        return False
    if op in ("==", "!=", "in"):
        found = _is_in(op, value, right, at, place, listing)
        return found if found is None or op != "!=" else not found
    wanted = literal(right)
    if not isinstance(wanted, int):
        return None
    low, high = (value.first, value.last) if isinstance(value, Span) else (value, value)
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    ends = {
        "<": (low < wanted, high < wanted),
        "<=": (low <= wanted, high <= wanted),
        ">": (low > wanted, high > wanted),
        ">=": (low >= wanted, high >= wanted),
    }.get(op)
    return ends[0] if ends is not None and ends[0] == ends[1] else None


def _is_in(op: str, value: Any, right: Any, at: Meeting, place: tuple[str, str], listing: Listing) -> Answer:
    is_set = (isinstance(right, str) and right.startswith("@")) or (isinstance(right, dict) and "set" in right)
    if is_set:
        elements = container(right, place, listing)
        if elements is None:
            return None
        if isinstance(right, str):
            _note_set(listing.set(place, right[1:]), at)
        hits = elements.hits(value, at)
        return True if any(answer for _, answer in hits) else None if hits else False
    wanted = literal(right)
    names = wanted if isinstance(wanted, Flags) else Flags({wanted}) if isinstance(wanted, str) else None
    if isinstance(value, Status):
        if names is None or op != "in":
            return None
        return True if names & value else False if names <= _CERTAIN_STATUS else None
    if isinstance(value, Flags) and op == "in":
        return bool(value & names) if names is not None and names <= _FLAG_WORDS else None
    return same(value, wanted, at)


def _note_set(listed: ListedSet | None, at: Meeting) -> None:
    if listed is not None and listed.filled_by_packets:
        at.notes["sets that packets fill (session affinity) are taken as they were at the moment of the dump"] = None
