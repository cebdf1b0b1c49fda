"""Read `nft -j list ruleset`: the JSON of libnftables-json(5), with the place of every object.

Each command object is decoded on its own, so that a dump of one long line still tells line and column of each rule.
"""

import json
import re
from bisect import bisect_right
from typing import Any, Final, NoReturn

from kflab.collector import held_off
from kflab.dataplane.nft_dump import (
    FAMILIES,
    MOST_ELEMENTS,
    MOST_NESTED,
    MOST_RULES,
    ListedChain,
    ListedElement,
    ListedRule,
    ListedSet,
    ListedTable,
    Listing,
    Statement,
    unwalked,
)
from kflab.errors import KflabError, Place

_BLANK: Final = re.compile(r"[ \t\r\n]*")

_ASIDE: Final = frozenset(
    {
        "metainfo",
        "flowtable",
        "counter",
        "quota",
        "limit",
        "secmark",
        "synproxy",
        "ct helper",
        "ct timeout",
        "ct expectation",
        "tunnel",
    }
)
"""Objects that rules may name; none of them decides a way by itself."""

_EXPECTED: Final = 'expected the output of nft -j list ruleset: {"nftables": [...]}'

_NAME: Final = re.compile(r"[!-~]{1,256}")
"""Names of tables, chains and sets (the kernel takes 255 characters)."""

Path = tuple[str | int, ...]


class _WrongError(Exception):
    """Something of an object is not as nft writes it."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def read_json(text: str, name: str) -> Listing:
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
        self._text, self._name = text, name
        self._lines = [found.end() for found in re.finditer("\n", text)]
        self._tables: dict[tuple[str, str], ListedTable] = {}
        self._remarks: dict[str, None] = {}
        self._n_rules = self._n_elements = 0

    # --- places ------------------------------------------------------------------------------------------------------

    def _where(self, at: int) -> tuple[int, int]:
        line = bisect_right(self._lines, at)
        return line + 1, at - (self._lines[line - 1] if line else 0) + 1

    def _fail(self, message: str, at: int) -> NoReturn:
        raise KflabError(message, Place(self._name, *self._where(at)))

    def _find(self, at: int, path: Path) -> int:
        """Where the part of a decoded value begins that a path leads to."""
        for step in path:
            at = self._skip(self._skip(at) + 1)
            i = 0
            while True:
                if isinstance(step, str):
                    key, at = _DECODER.raw_decode(self._text, at)
                    at = self._skip(self._skip(at) + 1)
                    if key == step:
                        break
                elif i == step:
                    break
                _, at = _DECODER.raw_decode(self._text, at)
                at = self._skip(self._skip(at) + 1)
                i += 1
        return at

    # --- JSON --------------------------------------------------------------------------------------------------------

    def _skip(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        return found.end() if found is not None else at

    def _sign(self, sign: str, at: int) -> int:
        at = self._skip(at)
        if not self._text.startswith(sign, at):
            self._fail(f"expected {sign!r}; {_EXPECTED}", at)
        return at + len(sign)

    def _value(self, at: int) -> tuple[Any, int]:
        try:
            value, end = _DECODER.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
            self._fail(f"no JSON: {error.msg}", error.pos)
        except RecursionError:
            self._fail("nested too deeply", at)
        except ValueError as error:  # numbers of thousands of digits, NaN
            self._fail(f"no JSON that nft writes: {error}", at)
        return value, end

    def read(self) -> Listing:
        """Read it all."""
        at = self._sign("{", 0)
        at = self._sign('"nftables"', at)
        at = self._sign(":", at)
        at = self._sign("[", at)
        first = True
        while not self._text.startswith("]", at := self._skip(at)):
            if not first:
                at = self._skip(self._sign(",", at))
            first = False
            value, end = self._value(at)
            try:
                self._object(value, at)
            except _WrongError as wrong:
                self._fail(str(wrong), self._find(at, wrong.path))
            at = end
        at = self._skip(self._sign("}", self._sign("]", at)))
        if at != len(self._text):
            self._fail("something follows the end of the dump; give the dump of one node", at)
        if not self._tables:
            self._fail(f"no tables in it: {_EXPECTED}", 0)
        remarks = (*self._remarks, *unwalked(self._tables))
        return Listing(self._name, self._tables, remarks, "nft -j list ruleset")

    # --- objects -----------------------------------------------------------------------------------------------------

    def _object(self, value: Any, at: int) -> None:
        if not isinstance(value, dict) or len(value) != 1:
            raise _WrongError('expected an object with one key, such as {"rule": {...}}', ())
        ((kind, body),) = value.items()
        if kind in _ASIDE:
            return
        if not isinstance(body, dict):
            raise _WrongError(f"expected an object as {kind}", (kind,))
        match kind:
            case "table":
                self._table(body)
            case "chain":
                self._chain(body, at)
            case "rule":
                self._rule(body, at)
            case "set" | "map":
                self._set(kind, body, at)
            case _:
                self._remarks[f"kflab does not read objects of kind {kind!r}"] = None

    def _table(self, body: dict[str, Any]) -> None:
        family, name = self._family(body, "table"), _word(body, "name", ("table", "name"))
        if (family, name) in self._tables:
            raise _WrongError(f"table {family} {name} is there for the second time", ("table",))
        self._tables[family, name] = ListedTable(family, name, "dormant" in _words(body.get("flags")))

    @staticmethod
    def _family(body: dict[str, Any], kind: str) -> str:
        family = _word(body, "family", (kind, "family"))
        if family not in FAMILIES:
            raise _WrongError(f"expected a family ({', '.join(FAMILIES)}), not {family[:40]!r}", (kind, "family"))
        return family

    def _owner(self, body: dict[str, Any], kind: str) -> ListedTable:
        family, name = self._family(body, kind), _word(body, "table", (kind, "table"))
        table = self._tables.get((family, name))
        if table is None:
            raise _WrongError(f"table {family} {name} is not declared before it", (kind, "table"))
        return table

    def _chain(self, body: dict[str, Any], at: int) -> None:
        table = self._owner(body, "chain")
        name = _word(body, "name", ("chain", "name"))
        if name in table.chains:
            raise _WrongError(f"chain {name} is declared twice", ("chain", "name"))
        line, column = self._where(at)
        chain = ListedChain(table.family, table.name, name, line, column, _number(body, "handle", "chain"))
        if "hook" in body:
            chain.type, chain.hook = (_word(body, key, ("chain", key)) for key in ("type", "hook"))
            chain.priority = _number(body, "prio", "chain", signed=True)
            chain.policy = _word(body, "policy", ("chain", "policy")) if "policy" in body else ""
            if chain.policy not in ("", "accept", "drop"):
                raise _WrongError(f"expected policy accept or drop, not {chain.policy[:40]!r}", ("chain", "policy"))
        table.chains[name] = chain

    def _rule(self, body: dict[str, Any], at: int) -> None:
        table = self._owner(body, "rule")
        name = _word(body, "chain", ("rule", "chain"))
        chain = table.chains.get(name)
        if chain is None:
            raise _WrongError(f"chain {name} is not declared before its rule", ("rule", "chain"))
        self._n_rules += 1
        if self._n_rules > MOST_RULES:
            raise _WrongError(f"more than {MOST_RULES} rules", ())
        parts = _statements(body.get("expr"), ("rule", "expr"))
        comment = _word(body, "comment", ("rule", "comment")) if "comment" in body else ""
        line, column = self._where(at)
        chain.rules.append(ListedRule(line, column, _number(body, "handle", "rule"), parts, comment))

    def _set(self, kind: str, body: dict[str, Any], at: int) -> None:
        table = self._owner(body, kind)
        name = _word(body, "name", (kind, "name"))
        if name in table.sets:
            raise _WrongError(f"{kind} {name} is declared twice", (kind, "name"))
        elements = body.get("elem", [])
        if not isinstance(elements, list):
            raise _WrongError("expected a list of elements", (kind, "elem"))
        self._n_elements += len(elements)
        if self._n_elements > MOST_ELEMENTS:
            raise _WrongError(f"more than {MOST_ELEMENTS} elements", (kind, "elem"))
        line, column = self._where(at)
        # nft 1.0 leaves flag dynamic out of its JSON; a timeout tells the same.
        changing = bool({"dynamic", "timeout"}.intersection(_words(body.get("flags"))))
        found = ListedSet(
            table.family, table.name, name, line, column, kind == "map", _number(body, "timeout", kind), changing
        )
        found.elements = [element_of(item, kind == "map", (kind, "elem", i)) for i, item in enumerate(elements)]
        table.sets[name] = found


def _word(body: dict[str, Any], key: str, path: Path) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise _WrongError(f'expected a text as "{key}"', path if key in body else path[:-1])
    if key != "comment" and not _NAME.fullmatch(value):
        raise _WrongError(f'expected printable characters without blanks as "{key}"', path)
    return value


def _words(value: Any) -> tuple[str, ...]:
    """Flags: one, or a list of them."""
    return tuple(item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _number(body: dict[str, Any], key: str, kind: str, signed: bool = False) -> int:
    value = body.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63 or (value < 0 and not signed):
        raise _WrongError(f'expected a whole number as "{key}"', (kind, key))
    return value


def _statements(value: Any, path: Path) -> tuple[Statement, ...]:
    if not isinstance(value, list):
        raise _WrongError('expected a list of statements as "expr"', path if value is not None else path[:-1])
    found: list[Statement] = []
    for i, item in enumerate(value):
        if isinstance(item, str):
            found.append((item, None))
        elif isinstance(item, dict) and len(item) == 1:
            _bounded(item, (*path, i))
            found.extend(item.items())
        else:
            raise _WrongError('expected a statement with one key, such as {"match": {...}}', (*path, i))
    return tuple(found)


def _bounded(value: Any, path: Path) -> None:
    """Refuse what is nested so deeply that nft cannot have written it."""
    level = [value]
    for _ in range(MOST_NESTED):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _WrongError(f"nested more than {MOST_NESTED} deep", path)


def element_of(item: Any, is_map: bool, path: Path = ()) -> ListedElement:
    """One element as it stands in a set's list."""
    if isinstance(item, dict | list):
        _bounded(item, path)
    data = None
    if is_map:
        if not isinstance(item, list) or len(item) != 2:
            raise _WrongError("expected an element of a map: [key, data]", path)
        item, data = item
    comment = ""
    if isinstance(item, dict) and isinstance(item.get("elem"), dict):
        inner = item["elem"]
        said = inner.get("comment")
        item, comment = inner.get("val"), said if isinstance(said, str) else ""
    return ListedElement(item, data, comment)
