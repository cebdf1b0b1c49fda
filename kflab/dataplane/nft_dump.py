"""A real node's nftables as data: the tables, chains, rules, sets and maps of `nft list ruleset`, with their places.

Rules are kept as the statements of libnftables-json(5), whichever form they were read from (`nft_dump_json`,
`nft_dump_text`). What the statements mean is the business of `nft_dump_value` and `nft_dump_walk`.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, NamedTuple

from kflab.dataplane.nft_dump_print import rule_text
from kflab.errors import Place
from kflab.records import dataclass

MOST_RULES: Final = 1_000_000

MOST_ELEMENTS: Final = 5_000_000

MOST_NESTED: Final = 64
"""Levels of one statement. nft itself nests some ten."""

Statement = tuple[str, Any]
"""(kind, body) of a statement of libnftables-json(5), e.g. ("jump", {"target": "services"})."""

FAMILIES: Final = ("ip", "ip6", "inet", "arp", "bridge", "netdev")

WALKED: Final = ("prerouting", "input", "forward", "output", "postrouting")
"""Hooks that a packet of this simulation meets."""

_NAT_PRIORITY: Final = {"prerouting": -100, "output": -100, "postrouting": 100, "input": 100}
"""Where the kernel runs chains of type nat, whatever priority they name among themselves (net/netfilter/nf_nat_proto.c,
nf_nat_ipv4_ops: NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC)."""


@dataclass(frozen=True, slots=True, eq=False)
class ListedRule:
    """One rule."""

    line: int
    column: int
    handle: int
    """0 where the dump shows none (`nft list ruleset` without -a)."""
    parts: tuple[Statement, ...]
    comment: str = ""
    source: str = ""
    """Its text where the dump was text, word for word."""

    @property
    def position(self) -> Mapping[str, int]:
        """Line and column of the file, and the handle where it is known."""
        found = {"line": self.line, "column": self.column}
        return {**found, "handle": self.handle} if self.handle else found

    @property
    def refusal(self) -> str:
        """What a reject answers with."""
        body = next((body for kind, body in self.parts if kind == "reject"), None)
        if not isinstance(body, dict):
            return ""
        return " ".join(str(body[key]) for key in ("type", "expr") if isinstance(body.get(key), str))

    def place(self, file: str) -> str:
        """file:line:column."""
        return f"{file}:{self.line}:{self.column}"

    def text(self) -> str:
        """As `nft list` prints it."""
        return self.source or rule_text(self.parts, self.comment)

    def told(self, chain: str) -> str:
        """The chain, the rule, and its handle as `nft -a` shows it."""
        return f"{chain}: {self.text()}" + (f" # handle {self.handle}" if self.handle else "")


@dataclass(eq=False)
class ListedChain:
    """One chain; a base chain has a hook."""

    family: str
    table: str
    name: str
    line: int
    column: int
    handle: int = 0
    type: str = ""
    hook: str = ""
    priority: int = 0
    policy: str = ""
    rules: list[ListedRule] = field(default_factory=list)
    comment: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """(family, table)."""
        return self.family, self.table

    @property
    def title(self) -> str:
        """Family, table and name."""
        return f"{self.family} {self.table} {self.name}"

    @property
    def order(self) -> int:
        """The priority at which the kernel runs it."""
        return _NAT_PRIORITY.get(self.hook, self.priority) if self.type == "nat" else self.priority


class ListedElement(NamedTuple):
    """One element of a set or map, as libnftables-json writes key and data."""

    key: Any
    data: Any = None
    comment: str = ""


@dataclass(eq=False)
class ListedSet:
    """A named set, or a map."""

    family: str
    table: str
    name: str
    line: int
    column: int
    is_map: bool = False
    timeout_s: int = 0
    """How long an element stays by default; 0: for ever."""
    filled_by_packets: bool = False
    """Flags dynamic or timeout: its elements were those of the moment of the dump."""
    elements: list[ListedElement] = field(default_factory=list)
    container: object = None
    """Its elements by key, made by `nft_dump_value` when somebody asks."""


@dataclass(eq=False)
class ListedTable:
    """One table."""

    family: str
    name: str
    dormant: bool = False
    """Its base chains are switched off."""
    chains: dict[str, ListedChain] = field(default_factory=dict)
    sets: dict[str, ListedSet] = field(default_factory=dict)


@dataclass(eq=False)
class Listing:
    """All tables of one node, in the order of the dump: that of their creation."""

    name: str
    """The file, for messages."""
    tables: dict[tuple[str, str], ListedTable]
    remarks: tuple[str, ...] = ()
    """What the dump itself says is missing from it, and what of it is not walked."""
    tool: str = "nft list ruleset"

    def chain(self, place: tuple[str, str], name: str) -> ListedChain | None:
        """A chain of a table (family, name); None where it does not exist."""
        table = self.tables.get(place)
        return table.chains.get(name) if table is not None else None

    def set(self, place: tuple[str, str], name: str) -> ListedSet | None:
        """A set or map of a table."""
        table = self.tables.get(place)
        return table.sets.get(name) if table is not None else None

    def base_chains(self, hook: str, family: str) -> tuple[ListedChain, ...]:
        """Base chains that a packet meets at a hook, in the kernel's order.

        By priority; of equal ones the later registered runs first (net/netfilter/core.c, nf_hook_entries_grow), taken
        to be the later in the dump. Chains of type nat run together, see `_NAT_PRIORITY`.

        Args:
            hook: prerouting, input, forward, output or postrouting.
            family: ip or ip6.
        """
        found = [
            chain
            for table in self.tables.values()
            if table.family in (family, "inet") and not table.dormant
            for chain in table.chains.values()
            if chain.hook == hook
        ]
        found.reverse()
        return tuple(sorted(found, key=lambda chain: (chain.order, chain.priority)))

    def at(self, line: int, column: int) -> Place:
        """A place in the file."""
        return Place(self.name, line, column)


def unwalked(tables: Mapping[tuple[str, str], ListedTable]) -> tuple[str, ...]:
    """Base chains that no walk visits, as remarks."""
    found = []
    for table in tables.values():
        for chain in table.chains.values():
            if chain.hook and chain.rules and (table.family in FAMILIES[3:] or chain.hook not in WALKED):
                found.append(f"not walked: {chain.title} (hook {chain.hook} of family {chain.family})")
    return tuple(found)
