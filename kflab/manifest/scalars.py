"""Plain YAML scalars → values, as kubectl reads them.

kubectl parses with sigs.k8s.io/yaml (goyaml.v2, YAML 1.1 with Go's ideas of numbers), so `yes` is true, `0644` is
octal, `1:30` and dates are text. Source: sigs.k8s.io/yaml goyaml.v2/resolve.go.
"""

import re
from typing import Final

Scalar = str | int | float | bool | None

_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_HINT: Final = frozenset("0123456789+-.")
_INT: Final = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)\Z")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_LONGEST_NUMBER: Final = 400
"""Digits beyond this are text: Python's int() is quadratic, and no field holds such a number."""


def resolve(plain: str) -> Scalar:
    """The value of an unquoted, untagged scalar."""
    if plain in _WORDS:
        return _WORDS[plain]
    if plain[0] not in _HINT or len(plain) > _LONGEST_NUMBER:
        return plain
    digits = plain.replace("_", "")
    if _INT.match(digits):
        return _integer(digits)
    if _FLOAT.match(digits):
        return float(digits)
    return plain


def _integer(digits: str) -> int | float:
    body = digits.lstrip("+-").lower()
    if body[:2] in ("0x", "0b", "0o"):
        value = int(body, 0)
    elif len(body) > 1 and body[0] == "0":
        value = int(body, 8)
    else:
        value = int(body)
    if digits[0] == "-":
        value = -value
    return value if -(2**63) <= value < 2**64 else float(value)


def key_text(value: Scalar) -> str:
    """A mapping key as JSON has it: always text (sigs.k8s.io/yaml, convertToJSONableObject)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
