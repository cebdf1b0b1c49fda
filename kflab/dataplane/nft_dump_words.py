"""The words of `nft list ruleset`, and the constants they write: numbers, addresses, ranges, flags, times."""

import re
from typing import Any, Final, NamedTuple

from kflab.dataplane.addresses import address_number

_WORD: Final = re.compile(r'"[^"]*"?|[^\s"]+')


class Word(NamedTuple):
    """One word with its place. A quoted one is a value, whatever it looks like."""

    text: str
    line: int
    column: int
    quoted: bool = False


class UnreadError(Exception):
    """Something nft does not print like that, or that kflab does not read."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at
        """Number of the word."""


def split(line: str, number: int) -> list[Word]:
    """The words of one line; what follows an unquoted # is left out. Commas, braces and semicolons end words."""
    words: list[Word] = []
    for found in _WORD.finditer(line):
        text, column = found[0], found.start() + 1
        if text[0] == '"':
            words.append(Word(text.strip('"'), number, column, True))
        elif text[0] == "#":
            break
        else:
            tail = text[-1] if text[-1] in ",;" and len(text) > 1 else ""
            words.append(Word(text.removesuffix(tail), number, column))
            if tail:
                words.append(Word(tail, number, column + len(text) - 1))
    return words


def value_of(word: Word) -> Any:
    """A constant: number, address, prefix, range, flags or a word."""
    text = word.text
    if word.quoted:
        return text
    number = number_of(text)
    if number is not None:
        return number
    if "," in text and text != ",":
        return text.split(",")
    base, slash, length = text.partition("/")
    if slash and length.isdecimal() and len(length) < 4 and address_number(base) is not None:
        return {"prefix": {"addr": base, "len": int(length)}}
    first, dash, last = text.partition("-")
    if dash:
        ends = [_end(first), _end(last)]
        if None not in ends:
            return {"range": ends}
    return text


def number_of(text: str) -> int | None:
    """A number as nft writes it; None for anything else."""
    if text.isascii() and text.isdecimal() and len(text) < 40:
        return int(text)
    if re.fullmatch(r"0x[0-9a-f]{1,32}", text):
        return int(text, 16)
    return None


def _end(text: str) -> int | str | None:
    number = number_of(text)
    if number is not None:
        return number
    return text if address_number(text) is not None else None


_TIME: Final = re.compile(r"(\d{1,9})(ms|d|h|m|s)")

_LENGTH: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0}


def seconds(text: str) -> int:
    """1h2m3s500ms in whole seconds; 0 where it is no time."""
    return sum(int(count) * _LENGTH[unit] for count, unit in _TIME.findall(text))
