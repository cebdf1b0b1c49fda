"""A field of a scenario file: its value with its place, and how a value of each type is read.

Each reader raises `KflabError` with the place, for what is not of its type.
"""

import math
from collections.abc import Callable, Collection
from typing import Any

from kflab.errors import KflabError, Place
from kflab.records import dataclass
from kflab.scenario.library import Origin

PlaceOf = Callable[[tuple[str | int, ...]], Place]


@dataclass(frozen=True, slots=True)
class Field:
    """A value with the place it was written at and the origin that relative paths in it belong to."""

    value: Any
    place: Place
    origin: Origin
    place_in: PlaceOf
    """Place of a path inside the value."""


def mapping(value: Any, what: str, place: Place) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise KflabError(f"{what} must be a mapping, not {value!r}", place)
    return value


def items(field: Field | None) -> list[Any]:
    """A list's items; none where the field is not given."""
    if field is None:
        return []
    if not isinstance(field.value, list):
        raise KflabError("expected a list", field.place)
    return field.value


def number(value: Any, what: str, place: Place, low: float = -math.inf, high: float = math.inf) -> float:
    found = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(found) and low <= found <= high):
        bounds = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
        raise KflabError(f"{what} {value!r} must be a number{bounds}", place)
    return found


def whole(value: Any, what: str, place: Place, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise KflabError(f"{what} {value!r} must be a whole number from {low} to {high}", place)
    return value


def truth(value: Any, what: str, place: Place) -> bool:
    if not isinstance(value, bool):
        raise KflabError(f"{what} {value!r} must be true or false", place)
    return value


def one_of(value: Any, known: Collection[str], what: str, place: Place, none: str | None = None) -> str:
    """One of these words, or `none` where there is a word for "not given"."""
    if value not in list(known) and (none is None or value != none):  # a list: the value may be any YAML
        raise KflabError(f"{what} {value!r}: expected one of {', '.join(known)}", place)
    return str(value)
