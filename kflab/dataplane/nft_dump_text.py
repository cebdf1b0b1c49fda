"""Read the text of `nft list ruleset`, with or without handles (-a): its tables, chains, sets and maps.

Of the text only what nft prints is read, not everything that `nft -f` accepts. Source: nftables src/rule.c.
"""

import re
from typing import Final, NoReturn

from kflab.collector import held_off
from kflab.dataplane.nft_dump import (
    FAMILIES,
    MOST_ELEMENTS,
    MOST_RULES,
    ListedChain,
    ListedRule,
    ListedSet,
    ListedTable,
    Listing,
    unwalked,
)
from kflab.dataplane.nft_dump_parse import read_elements, read_rule
from kflab.dataplane.nft_dump_words import UnreadError, Word, seconds, split
from kflab.errors import KflabError, Place

LONGEST_LINE: Final = 8 * 1024 * 1024
"""A Service with 10,000 endpoints has one rule of some megabyte."""

_HANDLE: Final = re.compile(r" # handle (\d{1,18})$")

_PRIORITIES: Final = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
"""Names of priorities outside the bridge family (src/rule.c, std_prios)."""

_ASIDE: Final = frozenset({"counter", "quota", "limit", "ct", "flowtable", "secmark", "synproxy", "tunnel"})
"""Blocks of a table that decide no way by themselves."""

_SET_LINES: Final = frozenset(
    {"type", "typeof", "size", "flags", "timeout", "gc-interval", "policy", "comment", "auto-merge", "counter", "quota"}
)


def read_nft_text(text: str, name: str) -> Listing:
    """Read a dump.

    Args:
        text: The dump.
        name: For messages.

    Raises:
        KflabError: With line and column, if it is no such dump.
    """
    with held_off():
        return _Reader(text, name).read()


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self._lines = text.split("\n")
        self._name = name
        self._i = 0
        self._tables: dict[tuple[str, str], ListedTable] = {}
        self._remarks: dict[str, None] = {}
        self._n_rules = self._n_elements = 0

    def _fail(self, message: str, word: Word | None = None) -> NoReturn:
        line, column = (word.line, word.column) if word is not None else (min(self._i, len(self._lines)) or 1, 1)
        raise KflabError(message, Place(self._name, line, column))

    def _next(self) -> tuple[list[Word], int, str]:
        """The words of the next line that has some, its handle, and its text; no words at the end."""
        while self._i < len(self._lines):
            raw = self._lines[self._i].rstrip("\r")
            self._i += 1
            if len(raw) > LONGEST_LINE:
                self._fail(f"a line of {len(raw)} characters: at most {LONGEST_LINE} are read")
            found = _HANDLE.search(raw)
            shown = raw[: found.start()] if found is not None else raw
            words = split(shown, self._i)
            if words:
                return words, int(found[1]) if found is not None else 0, shown.strip()
            if raw.lstrip().startswith("# Warning:"):
                self._remarks[raw.lstrip("# \t")[:200]] = None
        return [], 0, ""

    def read(self) -> Listing:
        """Read it all."""
        words, _, _ = self._next()
        while words:
            if [word.text for word in words[3:]] != ["{"] or words[0].text != "table":
                self._fail("expected `table FAMILY NAME {`, as nft list ruleset prints", words[0])
            self._table(words)
            words, _, _ = self._next()
        if not self._tables:
            self._fail("no tables in it: expected the output of nft list ruleset")
        return Listing(self._name, self._tables, (*self._remarks, *unwalked(self._tables)))

    def _table(self, head: list[Word]) -> None:
        family, name = head[1].text, head[2].text
        if family not in FAMILIES:
            self._fail(f"expected a family ({', '.join(FAMILIES)}), not {family[:40]!r}", head[1])
        if (family, name) in self._tables:
            self._fail(f"table {family} {name[:80]} is there for the second time: give the dump of one node", head[2])
        table = self._tables[family, name] = ListedTable(family, name)
        while True:
            words, handle, _ = self._next()
            if not words:
                self._fail(f"the dump ends inside table {family} {name[:80]}")
            first = words[0].text
            if first == "}" and len(words) == 1:
                return
            if first == "flags":
                table.dormant = any("dormant" in word.text.split(",") for word in words[1:])
            elif first == "chain" and self._opens(words, 3):
                self._chain(table, words, handle)
            elif first in ("set", "map") and self._opens(words, 3):
                self._set(table, words)
            elif first in _ASIDE and words[-1].text == "{":
                self._skip()
            elif first != "comment":
                self._fail("expected a chain, set or map, as nft list ruleset prints", words[0])

    @staticmethod
    def _opens(words: list[Word], length: int) -> bool:
        return len(words) == length and words[-1].text == "{" and not words[-1].quoted

    def _skip(self) -> None:
        """Over a block whose insides decide nothing."""
        depth = 1
        while depth:
            words, _, _ = self._next()
            if not words:
                self._fail("the dump ends inside a block")
            depth += sum((word.text == "{") - (word.text == "}") for word in words if not word.quoted)

    # --- chains ------------------------------------------------------------------------------------------------------

    def _chain(self, table: ListedTable, head: list[Word], handle: int) -> None:
        name = head[1].text
        if name in table.chains:
            self._fail(f"chain {name[:80]} is declared twice", head[1])
        chain = ListedChain(table.family, table.name, name, head[0].line, head[0].column, handle)
        table.chains[name] = chain
        while True:
            words, handle, text = self._next()
            if not words:
                self._fail(f"the dump ends inside chain {name[:80]}")
            if len(words) == 1 and words[0].text == "}" and not words[0].quoted:
                return
            if not chain.rules and words[0].text == "comment" and len(words) == 2 and not chain.comment:
                chain.comment = words[1].text
            elif not chain.rules and words[0].text == "type" and not chain.hook:
                self._hook(chain, words)
            else:
                self._n_rules += 1
                if self._n_rules > MOST_RULES:
                    self._fail(f"more than {MOST_RULES} rules", words[0])
                parts, comment = read_rule(words)
                chain.rules.append(ListedRule(words[0].line, words[0].column, handle, parts, comment, text))

    def _hook(self, chain: ListedChain, words: list[Word]) -> None:
        """`type filter hook input priority filter - 10; policy accept;`."""
        texts = [word.text for word in words]
        if len(texts) < 6 or texts[2] != "hook" or "priority" not in texts:
            self._fail("expected `type TYPE hook HOOK priority PRIORITY; policy POLICY;`", words[0])
        chain.type, chain.hook = texts[1], texts[3]
        start = texts.index("priority") + 1
        end = texts.index(";", start) if ";" in texts[start:] else len(texts)
        shown = " ".join(texts[start:end])
        found = re.fullmatch(r"(?:([a-z]+)(?: ([+-]) (\d{1,10}))?|(-?\d{1,10}))", shown)
        if found is None or (found[1] and found[1] not in _PRIORITIES and chain.family in FAMILIES[:3]):
            self._fail(f"expected a priority, not {shown[:40]!r}", words[min(start, len(words) - 1)])
        if found[4]:
            chain.priority = int(found[4])
        else:
            chain.priority = _PRIORITIES.get(found[1], 0) + int(f"{found[2] or '+'}{found[3] or 0}")
        if "policy" in texts[end:]:
            at = texts.index("policy", end) + 1
            chain.policy = texts[at] if at < len(texts) else ""
            if chain.policy not in ("accept", "drop"):
                self._fail("expected policy accept or drop", words[at - 1])

    # --- sets and maps -----------------------------------------------------------------------------------------------

    def _set(self, table: ListedTable, head: list[Word]) -> None:
        name, is_map = head[1].text, head[0].text == "map"
        if name in table.sets:
            self._fail(f"{head[0].text} {name[:80]} is declared twice", head[1])
        found = ListedSet(table.family, table.name, name, head[0].line, head[0].column, is_map)
        table.sets[name] = found
        while True:
            words, _, _ = self._next()
            if not words:
                self._fail(f"the dump ends inside {head[0].text} {name[:80]}")
            first = words[0].text
            if first == "}" and len(words) == 1:
                return
            if first == "elements" and len(words) > 2 and words[1].text == "=":
                self._elements(found, words[2:])
            elif first not in _SET_LINES:
                self._fail(f"expected a line of {head[0].text} {name[:80]}, as nft list ruleset prints", words[0])
            elif first == "timeout" and len(words) > 1:
                found.timeout_s = seconds(words[1].text)
            elif first == "flags" and len(words) > 1:
                names = {flag for word in words[1:] for flag in word.text.split(",")}
                found.filled_by_packets = bool(names & {"dynamic", "timeout"})

    def _elements(self, found: ListedSet, words: list[Word]) -> None:
        every = list(words)
        while not (every[-1].text == "}" and not every[-1].quoted):
            more, _, _ = self._next()
            if not more:
                self._fail(f"the dump ends inside the elements of {found.name[:80]}")
            every += more
        try:
            found.elements = read_elements(every, found.is_map)
        except UnreadError as error:
            self._fail(f"{error} among the elements of {found.name[:80]}", every[min(error.at, len(every) - 1)])
        self._n_elements += len(found.elements)
        if self._n_elements > MOST_ELEMENTS:
            self._fail(f"more than {MOST_ELEMENTS} elements", every[0])
