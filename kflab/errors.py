"""The one error kflab raises for anything a person can put right."""

from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """A position in a text somebody wrote. Lines and columns count from 1.

    No dataclass, so that `kflab --help` need not import what makes one.
    """

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class KflabError(Exception):
    """A problem with input or usage, told in one line.

    Args:
        message: What is wrong and what was expected, without a trailing full stop.
        place: Where it is written, when it comes from a file.
    """

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or "" where no known name is near."""
    from difflib import get_close_matches

    near = get_close_matches(wrong, sorted(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
