"""Rules and elements as `nft list ruleset` prints them, read into the statements of libnftables-json(5).

nft prints one rule to a line, words apart by blanks; only what it prints is read, not all that it accepts. What is not
read becomes one unknown statement, so that the walk names it and leaves it undecided. Source: nftables
src/parser_bison.y, src/statement.c, src/expression.c, src/json.c.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from kflab.dataplane.addresses import address_number
from kflab.dataplane.nft_dump import MOST_NESTED, ListedElement, Statement
from kflab.dataplane.nft_dump_words import UnreadError, Word, number_of, seconds, value_of

UNREAD: Final = "unread"
"""Kind of a statement that holds the rest of a rule, as words."""

_SHORT_META: Final = frozenset({"iif", "oif", "iifname", "oifname", "iiftype", "oiftype", "iifgroup", "oifgroup"})

_HEADERS: Final = frozenset(
    {
        "ah",
        "arp",
        "comp",
        "dccp",
        "esp",
        "ether",
        "icmp",
        "icmpv6",
        "igmp",
        "ip",
        "ip6",
        "sctp",
        "tcp",
        "th",
        "udp",
        "udplite",
        "vlan",
    }
)

_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})

_OPERATORS: Final = frozenset({"&", "|", "^", "<<", ">>"})

_SIMPLE: Final = frozenset({"accept", "drop", "continue", "return", "notrack"})

_NAT_FLAGS: Final = frozenset({"random", "fully-random", "persistent"})

_UNITS: Final = frozenset({"bytes", "kbytes", "mbytes"})


class Words:
    """Words, read from left to right."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words
        self.i = 0
        self._depth = 0

    @property
    def text(self) -> str:
        """The word to come; "" at the end, and for quoted words."""
        if self.i < len(self.words) and not self.words[self.i].quoted:
            return self.words[self.i].text
        return ""

    @property
    def over(self) -> bool:
        return self.i >= len(self.words)

    def fail(self, expected: str) -> UnreadError:
        """What to raise at the word to come."""
        return UnreadError(f"expected {expected}", self.i)

    def take(self) -> Word:
        """The next word, whatever it is."""
        if self.over:
            raise self.fail("more")
        self.i += 1
        return self.words[self.i - 1]

    def takes(self, *texts: str) -> bool:
        """Take the next words if they are these."""
        end = self.i + len(texts)
        if tuple(word.text for word in self.words[self.i : end] if not word.quoted) != texts:
            return False
        self.i = end
        return True

    def need(self, text: str) -> None:
        """Take a certain word."""
        if not self.takes(text):
            raise self.fail(repr(text))

    def number(self) -> int:
        """A number."""
        found = value_of(self.take())
        if not isinstance(found, int):
            self.i -= 1
            raise self.fail("a number")
        return found

    # --- expressions -------------------------------------------------------------------------------------------------

    def expression(self) -> Any:
        """What a rule looks at: a field, a concatenation of fields, with bits masked."""
        self._depth += 1
        if self._depth > MOST_NESTED:
            raise self.fail("less nesting")
        parts = [self._masked()]
        while self.takes("."):
            parts.append(self._masked())
        self._depth -= 1
        found: Any = parts[0] if len(parts) == 1 else {"concat": parts}
        if self.takes("map"):
            found = {"map": {"key": found, "data": self.container(True)}}
        return found

    def _masked(self) -> Any:
        found = self._field()
        while self.text in _OPERATORS:
            operator = self.take().text
            found = {operator: [found, self._field()]}
        return found

    def _field(self) -> Any:
        word = self.take()
        if word.quoted:
            return word.text
        text = word.text
        if text in _SHORT_META:
            return {"meta": {"key": text}}
        if text == "meta":
            return {"meta": {"key": self.take().text}}
        if text == "ct":
            return self._ct()
        if text == "fib":
            return self._fib()
        if text == "numgen":
            mode = self.take().text
            self.need("mod")
            return {"numgen": {"mode": mode, "mod": self.number(), "offset": self._offset()}}
        if text == "jhash":
            inner = self.expression()
            self.need("mod")
            hashed: dict[str, Any] = {"mod": self.number(), "expr": inner}
            if self.takes("seed"):
                hashed["seed"] = self.number()
            offset = self._offset()
            return {"jhash": {**hashed, "offset": offset} if offset else hashed}
        if text == "symhash":
            self.need("mod")
            return {"symhash": {"mod": self.number(), "offset": self._offset()}}
        if text in ("socket", "rt"):
            return {text: {"key": self.take().text}}
        if text == "exthdr":
            return {"exthdr": {"name": self.take().text}}
        if text == "tcp" and self.takes("option"):
            name = self.take().text
            if self.text in ("exists", "missing", "!=", "=="):
                return {"tcp option": {"name": name}}
            return {"tcp option": {"name": name, "field": self.take().text}}
        if text in _HEADERS:
            return {"payload": {"protocol": text, "field": self.take().text}}
        if text.startswith("("):
            return self._flag_list(text)
        raw = re.fullmatch(r"@(ll|nh|th|ih),(\d{1,6}),(\d{1,4})", text)
        if raw is not None:
            return {"payload": {"base": raw[1], "offset": int(raw[2]), "len": int(raw[3])}}
        return value_of(word)

    def _flag_list(self, first: str) -> list[str]:
        """`(fin | syn | rst)`, as nft before 1.0 prints masks."""
        words = [first[1:]]
        while not words[-1].endswith(")"):
            self.need("|")
            words.append(self.take().text)
        words[-1] = words[-1][:-1]
        if not all(re.fullmatch("[a-z]+", word) for word in words):
            raise self.fail("names of flags")
        return words

    def _offset(self) -> int:
        return self.number() if self.takes("offset") else 0

    def _ct(self) -> Any:
        direction = self.take().text if self.text in ("original", "reply") else ""
        key = self.take().text
        if direction and key in ("ip", "ip6"):
            key = f"{key} {self.take().text}"
        return {"ct": {"key": key, "dir": direction} if direction else {"key": key}}

    def _fib(self) -> Any:
        flags = [self.take().text]
        while self.takes("."):
            flags.append(self.take().text)
        return {"fib": {"result": self.take().text, "flags": flags}}

    # --- what it is compared with ------------------------------------------------------------------------------------

    def container(self, is_map: bool) -> Any:
        """{ … } or @name."""
        if self.text.startswith("@"):
            return self.take().text
        self.need("{")
        items: list[Any] = []
        while not self.takes("}"):
            key, data = self.element(is_map)
            items.append([key, data] if is_map else key)
            if not self.takes(",") and self.text != "}":
                raise self.fail("',' or '}'")
        return {"set": items}

    def element(self, is_map: bool) -> tuple[Any, Any]:
        """One element: (key, data), the key with its comment and timeouts where it has some."""
        key = self.values()
        more: dict[str, Any] = {}
        while self.text in ("timeout", "expires", "comment", "counter"):
            name = self.take().text
            if name == "counter":
                self.need("packets")
                packets = self.number()
                self.need("bytes")
                more[name] = {"packets": packets, "bytes": self.number()}
            else:
                text = self.take().text
                more[name] = text if name == "comment" else seconds(text)
        if more:
            key = {"elem": {"val": key, **more}}
        if not is_map:
            return key, None
        self.need(":")
        return key, self._data()

    def _data(self) -> Any:
        if self.text in _SIMPLE:
            return {self.take().text: None}
        if self.text in ("jump", "goto"):
            kind = self.take().text
            return {kind: {"target": self.take().text}}
        return self.values()

    def values(self) -> Any:
        """A value, or values with points between them."""
        parts = [value_of(self.take())]
        while self.takes("."):
            parts.append(value_of(self.take()))
        return parts[0] if len(parts) == 1 else {"concat": parts}

    # --- statements --------------------------------------------------------------------------------------------------

    def statement(self) -> Statement:
        """One statement.

        Raises:
            UnreadError: If it is not one that kflab reads.
        """
        text = self.text
        if text in _SIMPLE:
            return self.take().text, None
        if text in ("jump", "goto"):
            kind = self.take().text
            return kind, {"target": self.take().text}
        reader = getattr(self, f"_{text}", None) if text in _STATEMENTS else None
        if reader is not None:
            self.i += 1
            found: Statement = reader()
            return found
        if text == "ct" and self.takes("ct", "count"):
            over = self.takes("over")
            limit: dict[str, Any] = {"val": self.number()}
            return "ct count", {**limit, "inv": True} if over else limit
        if text in ("dnat", "snat", "masquerade", "redirect", "tproxy"):
            return self._nat()
        if text in ("add", "update", "delete") and len(self.words) > self.i + 1:
            return self._fill()
        return self._comparison()

    def _counter(self) -> Statement:
        if not self.takes("packets"):
            return "counter", self._named()
        packets = self.number()
        self.need("bytes")
        return "counter", {"packets": packets, "bytes": self.number()}

    def _named(self) -> str | None:
        """`name "x"` of a named object."""
        return self.take().text if self.takes("name") else None

    def _log(self) -> Statement:
        found: dict[str, Any] = {}
        while self.text in ("prefix", "group", "snaplen", "queue-threshold", "level", "flags"):
            name = self.take().text
            word = self.take()
            found[name] = int(word.text) if word.text.isdecimal() and len(word.text) < 10 else word.text
            if name == "flags" and word.text in ("tcp", "ip"):
                found[name] = f"{word.text} {self.take().text}"
        return "log", found or None

    def _limit(self) -> Statement:
        if self.text == "name":
            return "limit", self._named()
        self.need("rate")
        over = self.takes("over")
        rate, slash, per = self.take().text.partition("/")
        found: dict[str, Any] = {"rate": _decimal(rate, self)}
        unit = ""
        if not slash:
            unit, _, per = self.take().text.partition("/")
        found["burst"], found["per"] = (0 if unit else 5), per
        if self.takes("burst"):
            found["burst"], burst_unit = self.number(), self.take().text
            unit_of_burst = burst_unit if burst_unit in _UNITS else ""
        else:
            unit_of_burst = "bytes" if unit else ""
        if over:
            found["inv"] = True
        if unit:
            found["rate_unit"], found["burst_unit"] = unit, unit_of_burst
        return "limit", found

    def _quota(self) -> Statement:
        if self.text == "name":
            return "quota", self._named()
        over = self.takes("over")
        self.takes("until")
        found: dict[str, Any] = {"val": self.number(), "val_unit": self.take().text}
        if self.takes("used"):
            found["used"], found["used_unit"] = self.number(), self.take().text
        return "quota", {**found, "inv": True} if over else found

    def _reject(self) -> Statement:
        if not self.takes("with"):
            return "reject", None
        if self.takes("tcp", "reset"):
            return "reject", {"type": "tcp reset"}
        kind = self.take().text
        self.takes("type")
        return "reject", {"type": kind, "expr": self.take().text}

    def _xt(self) -> Statement:
        kind = self.take().text
        return "xt", {"type": kind, "name": self.take().text}

    def _fill(self) -> Statement:
        op, name = self.take().text, self.take().text
        self.need("{")
        element: Any = self.expression()
        if self.takes("timeout"):
            element = {"elem": {"val": element, "timeout": seconds(self.take().text)}}
        statements = []
        while not self.takes("}"):
            kind, body = self.statement()
            statements.append({kind: body})
        found: dict[str, Any] = {"op": op, "elem": element, "set": name}
        return "set", {**found, "stmt": statements} if statements else found

    def _nat(self) -> Statement:
        kind = self.take().text
        found: dict[str, Any] = {}
        if self.text in ("ip", "ip6"):
            found["family"] = self.take().text
        if self.takes("to"):
            self._target(found)
        flags: list[str] = []
        while self.text and set(self.text.split(",")) <= _NAT_FLAGS:
            flags += self.take().text.split(",")
        if flags:
            found["flags"] = flags[0] if len(flags) == 1 else flags
        return kind, found or None

    def _target(self, found: dict[str, Any]) -> None:
        """An address, a port, both, or a map to them."""
        start = self.i
        word = self.take()
        text = word.text
        bracketed = re.fullmatch(r"\[([^\]]+)\](?::(.+))?", text)
        host, port = text, ""
        if bracketed is not None:
            host, port = bracketed[1], bracketed[2] or ""
        elif text.startswith(":"):
            host, port = "", text[1:]
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        first = host.partition("-")[0].partition("/")[0]
        if not word.quoted and (not host or address_number(first) is not None):
            if host:
                found["addr"] = value_of(word._replace(text=host))
            if port:
                found["port"] = value_of(word._replace(text=port))
            return
        self.i = start
        found["addr"] = self.expression()

    def _comparison(self) -> Statement:
        start = self.i
        left = self.expression()
        if not isinstance(left, dict):
            self.i = start
            raise self.fail("a statement")
        if self.takes("vmap"):
            return "vmap", {"key": left, "data": self.container(True)}
        if self.takes("set"):
            return "mangle", {"key": left, "value": self.expression()}
        given = self.take().text if self.text in _COMPARISONS else ""
        flags = _has_flags(left)
        if self.text == "{" or self.text.startswith("@"):
            return "match", {"op": given or "==", "left": left, "right": self.container(False)}
        if self.over:
            raise self.fail("something to compare with")
        if self.text in ("exists", "missing"):
            return "match", {"op": given or "==", "left": left, "right": self.take().text == "exists"}
        right = self.values()
        if self.takes("/"):  # flags / mask
            left = {"&": [left, self.values()]}
            return "match", {"op": given or "==", "left": left, "right": right}
        return "match", {"op": given or ("in" if flags else "=="), "left": left, "right": right}


_STATEMENTS: Final = frozenset({"counter", "log", "limit", "quota", "reject", "xt"})


def _has_flags(left: dict[str, Any]) -> bool:
    match left:
        case {"ct": {"key": "state" | "status" | "event" | "label"}} | {
            "payload": {"protocol": "tcp", "field": "flags"}
        }:
            return True
    return False


def _decimal(text: str, words: Words) -> int:
    number = number_of(text)
    if number is None:
        words.i -= 1
        raise words.fail("a rate")
    return number


def read_rule(words: Sequence[Word]) -> tuple[tuple[Statement, ...], str]:
    """Read a rule.

    Returns:
        Its statements and its comment. From what cannot be read on, one statement of kind `UNREAD`.
    """
    reader = Words(words)
    parts: list[Statement] = []
    while not reader.over:
        if reader.takes("comment") and reader.i == len(words) - 1:
            return tuple(parts), reader.take().text
        start = reader.i
        try:
            parts.append(reader.statement())
        except UnreadError:
            shown = (f'"{word.text}"' if word.quoted else word.text for word in words[start:])
            parts.append((UNREAD, {"text": " ".join(shown)}))
            break
    return tuple(parts), ""


def read_elements(words: Sequence[Word], is_map: bool) -> list[ListedElement]:
    """Read `{ … }` of a set or map.

    Raises:
        UnreadError: If it is not what nft prints.
    """
    reader = Words(words)
    items = reader.container(is_map)
    if not isinstance(items, dict) or not reader.over:
        raise reader.fail("the end of the elements")
    found = []
    for item in items["set"]:
        key, data = item if is_map else (item, None)
        comment = ""
        if isinstance(key, dict) and "elem" in key:
            comment, key = str(key["elem"].get("comment", "")), key["elem"]["val"]
        found.append(ListedElement(key, data, comment))
    return found
