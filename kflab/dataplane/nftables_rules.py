"""nftables rules as data: expressions, statements, chains, sets, maps, and the text `nft list ruleset` prints.

Text as nftables 1.0 prints it (nftables src/rule.c, src/expression.c, src/statement.c, src/datatype.c): masks in eight
hex digits, named priorities where the hook has them, anonymous address sets as merged intervals in order, elements of
concatenated keys one to a line. A hash set's elements come from the kernel in no fixed order; here they are sorted.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from kflab.dataplane.addresses import IPV4, address_number, network
from kflab.records import dataclass

INDENT: Final = ",\n\t\t\t     "
"""Between elements on different lines."""


def family_word(family: str) -> str:
    """What nft calls a family: ip or ip6."""
    return "ip" if family == IPV4 else "ip6"


def _is(inverted: bool) -> str:
    return "!= " if inverted else ""


# --- expressions: they hold or they do not -----------------------------------------------------------------------


class Addr(NamedTuple):
    """Source or destination address is one address or in one CIDR."""

    of: str
    """saddr or daddr."""
    value: str
    inverted: bool = False

    def listed(self, family: str) -> str:
        return f"{family_word(family)} {self.of} {_is(self.inverted)}{_plain(self.value)}"


class Iif(NamedTuple):
    """Interface that a packet came in by: `iif` looks for its index, `iifname` for a pattern of its name."""

    name: str
    """With `+` at the end: a prefix, as iptables writes it."""
    cidr: str
    """Whose packets come in by it, as kflab's packets have no interface; "" is nobody's."""
    inverted: bool = False

    def listed(self, family: str) -> str:
        prefix = self.name.removesuffix("+")
        if prefix != self.name:
            return f'iifname {_is(self.inverted)}"{prefix}*"'
        return f'iif {_is(self.inverted)}"{prefix}"'


class AddrIn(NamedTuple):
    """Address is in an anonymous set of addresses and CIDRs."""

    of: str
    values: tuple[str, ...]
    inverted: bool = False

    def listed(self, family: str) -> str:
        if len(self.values) == 1:
            return Addr(self.of, self.values[0], self.inverted).listed(family)
        inside = ", ".join(_intervals(self.values))
        return f"{family_word(family)} {self.of} {_is(self.inverted)}{{ {inside} }}"


class AddrInSet(NamedTuple):
    """Address is in a named set."""

    of: str
    set: str

    def listed(self, family: str) -> str:
        return f"{family_word(family)} {self.of} @{self.set}"


class PortIs(NamedTuple):
    """Protocol and destination port."""

    protocol: str
    port: int

    def listed(self, family: str) -> str:
        return f"{self.protocol} dport {self.port}"


class ProtoIs(NamedTuple):
    """Transport protocol, lower case."""

    protocol: str

    def listed(self, family: str) -> str:
        return f"meta l4proto {self.protocol}"


class CtNew(NamedTuple):
    """First packet of a connection."""

    def listed(self, family: str) -> str:
        return "ct state new"


class FibLocal(NamedTuple):
    """Address belongs to the node (fib lookup says local)."""

    of: str

    def listed(self, family: str) -> str:
        return f"fib {self.of} type local"


class Unmarked(NamedTuple):
    """None of the mask's bits is set in the packet's mark."""

    mask: int

    def listed(self, family: str) -> str:
        return f"meta mark & {self.mask:#010x} == 0x00000000"


# --- statements: they do something -------------------------------------------------------------------------------


class Decision(NamedTuple):
    """A verdict: jump, goto (with a chain), return, drop, reject."""

    kind: str
    chain: str = ""

    def listed(self, family: str = IPV4) -> str:
        return f"{self.kind} {self.chain}" if self.chain else self.kind


class Vmap(NamedTuple):
    """Look up a verdict in a named map, by (address,) protocol and port; go on where it has none."""

    map: str
    by_address: bool

    def listed(self, family: str) -> str:
        address = f"{family_word(family)} daddr . " if self.by_address else ""
        return f"{address}meta l4proto . th dport vmap @{self.map}"


class Numgen(NamedTuple):
    """Go to one of n chains at random.

    The kernel takes index (u * n) >> 32 of a random 32-bit word u (net/netfilter/nft_numgen.c, reciprocal_scale).
    """

    chains: tuple[str, ...]

    def listed(self, family: str) -> str:
        inside = ", ".join(f"{i} : goto {chain}" for i, chain in enumerate(self.chains))
        return f"numgen random mod {len(self.chains)} vmap {{ {inside} }}"


class SetMark(NamedTuple):
    """Change the packet's mark: "|" sets bits, "^" flips them."""

    operator: str
    bits: int

    def listed(self, family: str) -> str:
        return f"meta mark set meta mark {self.operator} {self.bits:#010x}"


class Masquerade(NamedTuple):
    """Rewrite the source address to the outgoing interface's."""

    def listed(self, family: str) -> str:
        return "masquerade fully-random"


class Dnat(NamedTuple):
    """Rewrite the destination; `to` is ip:port or [ip]:port."""

    to: str

    def listed(self, family: str) -> str:
        return f"dnat to {self.to}"


class Remember(NamedTuple):
    """Put the source into an affinity set, or renew it there."""

    set: str

    def listed(self, family: str) -> str:
        return f"update @{self.set} {{ {family_word(family)} saddr }}"


Expression = Addr | Iif | AddrIn | AddrInSet | PortIs | ProtoIs | CtNew | FibLocal | Unmarked
Statement = Decision | Vmap | Numgen | SetMark | Masquerade | Dnat | Remember
Part = Expression | Statement


class NftRule(NamedTuple):
    """One rule: its parts are read from left to right until an expression does not hold."""

    parts: tuple[Part, ...]
    comment: str = ""

    def listed(self, family: str = IPV4) -> str:
        """As `nft list` prints it, without indentation."""
        words = [part.listed(family) for part in self.parts]
        if self.comment:
            words.append(f'comment "{self.comment}"')
        return " ".join(words)


def rule(*parts: Part, comment: str = "") -> NftRule:
    """Put a rule together."""
    return NftRule(parts, comment)


# --- chains, sets, maps ------------------------------------------------------------------------------------------


class Hook(NamedTuple):
    """Where a base chain is hooked in."""

    type: str
    """filter or nat."""
    hook: str
    """prerouting, input, forward, output or postrouting."""
    priority: int

    def listed(self) -> str:
        return f"type {self.type} hook {self.hook} priority {self._priority()}; policy accept;"

    def _priority(self) -> str:
        """dstnat is a name in prerouting only, srcnat in postrouting only (src/rule.c, std_prio_lookup)."""
        if self.hook == "prerouting" and -110 <= self.priority <= -90:
            return _around("dstnat", self.priority + 100)
        if self.hook == "postrouting" and 90 <= self.priority <= 110:
            return _around("srcnat", self.priority - 100)
        return _around("filter", self.priority) if abs(self.priority) <= 10 else str(self.priority)


def _around(name: str, offset: int) -> str:
    return f"{name} {'+' if offset > 0 else '-'} {abs(offset)}" if offset else name


@dataclass(frozen=True, slots=True)
class NftChain:
    """A chain; a base chain has a hook."""

    name: str
    rules: tuple[NftRule, ...] = ()
    comment: str = ""
    hook: Hook | None = None

    def listed(self, family: str) -> str:
        """As `nft list` prints it inside its table."""
        lines = [f"\tchain {self.name} {{\n"]
        if self.comment:
            lines.append(f'\t\tcomment "{self.comment}"\n')
        if self.hook is not None:
            lines.append(f"\t\t{self.hook.listed()}\n")
        lines.extend(f"\t\t{item.listed(family)}\n" for item in self.rules)
        lines.append("\t}\n")
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class NftSet:
    """A named set of addresses of the table's family."""

    name: str
    comment: str = ""
    elements: tuple[str, ...] = ()
    timeout_s: int = 0
    """Seconds an element stays after its last renewal; 0: for ever. A set with a timeout is filled by packets."""

    def listed(self, family: str) -> str:
        """As `nft list` prints it inside its table."""
        body = [f"type {_address_type(family)}"]
        if self.timeout_s:
            # 65535 elements is what nft gives a set that packets fill and that names no size (src/evaluate.c).
            body += ["size 65535", "flags dynamic,timeout", f"timeout {_duration(self.timeout_s)}"]
        if self.comment:
            body.append(f'comment "{self.comment}"')
        if self.elements:
            per_line = 2 if family == IPV4 else 1
            ordered = sorted(self.elements, key=lambda ip: address_number(ip) or (0, 0))
            rows = [", ".join(ordered[i : i + per_line]) for i in range(0, len(ordered), per_line)]
            body.append(f"elements = {{ {INDENT.join(rows)} }}")
        return _container("set", self.name, body)


Key = tuple[str, ...]
"""(address, protocol, port) or (protocol, port), as text; the protocol in lower case."""


class Element(NamedTuple):
    """One entry of a verdict map."""

    key: Key
    decision: Decision
    comment: str = ""

    def listed(self) -> str:
        note = f' comment "{self.comment}"' if self.comment else ""
        return f"{' . '.join(self.key)}{note} : {self.decision.listed()}"


@dataclass(frozen=True, slots=True)
class NftMap:
    """A named verdict map."""

    name: str
    by_address: bool
    comment: str
    elements: tuple[Element, ...] = ()

    def listed(self, family: str) -> str:
        """As `nft list` prints it inside its table."""
        if not self.elements:
            return _container("map", self.name, self._body(family))
        opening, closing = self.around(family)
        return f"{opening}{INDENT.join(element.listed() for element in self.elements)}{closing}"

    def around(self, family: str) -> tuple[str, str]:
        """What stands before and after the elements, where there are any."""
        body = "".join(f"\t\t{line}\n" for line in self._body(family))
        return f"\tmap {self.name} {{\n{body}\t\telements = {{ ", " }\n\t}\n"

    def _body(self, family: str) -> list[str]:
        address = f"{_address_type(family)} . " if self.by_address else ""
        return [f"type {address}inet_proto . inet_service : verdict", f'comment "{self.comment}"']


@dataclass(frozen=True, slots=True)
class NftTable:
    """A table with everything in it, in order of creation."""

    name: str
    family: str
    comment: str
    containers: tuple[NftSet | NftMap, ...]
    chains: tuple[NftChain, ...]

    def listed(self) -> str:
        """As `nft list ruleset` prints it; `nft -f` loads it."""
        return "".join(table_text(self.name, self.family, self.comment, self.containers, self.chains))


def table_text(
    name: str, family: str, comment: str, containers: Iterable[NftSet | NftMap], chains: Iterable[NftChain]
) -> Iterator[str]:
    """The pieces of a table's text, so that a large one need not be held as data."""
    yield f'table {family_word(family)} {name} {{\n\tcomment "{comment}"\n'
    first = True
    for item in chain(containers, chains):
        # After the table's comment nft leaves no empty line, between its blocks it leaves one.
        yield item.listed(family) if first else "\n" + item.listed(family)
        first = False
    yield "}\n"


def _container(kind: str, name: str, body: list[str]) -> str:
    lines = "".join(f"\t\t{line}\n" for line in body)
    return f"\t{kind} {name} {{\n{lines}\t}}\n"


def _address_type(family: str) -> str:
    return "ipv4_addr" if family == IPV4 else "ipv6_addr"


def _duration(seconds: int) -> str:
    """3h, 1h1m1s, 10s (src/datatype.c, time_print)."""
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _plain(value: str) -> str:
    """An address or CIDR; a network of one is printed as its address."""
    base, slash, length = value.partition("/")
    return base if slash and length == ("128" if ":" in base else "32") else value


def _intervals(values: tuple[str, ...]) -> list[str]:
    """What an anonymous set of addresses and CIDRs is kept as: intervals in order, those that touch merged."""
    spans: list[tuple[int, int]] = []
    version = 4
    for value in values:
        parts = network(value)
        if parts is not None:
            version = parts[0]
            ones = (1 << (32 if version == 4 else 128)) - 1
            spans.append((parts[1], parts[1] | (parts[2] ^ ones)))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return [_interval(low, high, version) for low, high in merged]


def _interval(low: int, high: int, version: int) -> str:
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    bits = 32 if version == 4 else 128
    size = high - low + 1
    if size == 1:
        return str(kind(low))
    if size & (size - 1) == 0 and low % size == 0:
        return f"{kind(low)}/{bits - size.bit_length() + 1}"
    return f"{kind(low)}-{kind(high)}"
