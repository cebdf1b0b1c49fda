"""What the converters of all kinds share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kflab.errors import Place
from kflab.manifest.objects import Meta
from kflab.records import dataclass

Tree = Mapping[str, Any]

PROTOCOLS = ("SCTP", "TCP", "UDP")
_FAR_NS = 2**61
"""Some 73 years: times beyond it would overflow int64 when added."""
_LONGEST_S = 2**31
"""Some 68 years, the longest duration kept."""


def protocol_of(tree: Tree) -> str:
    """A port's protocol; a name in small letters is taken for the real one, anything else for TCP."""
    protocol = str(tree.get("protocol") or "TCP").upper()
    return protocol if protocol in PROTOCOLS else "TCP"


def seconds(value: Any, default: int) -> int:
    """A duration field; negative ones, which the API server refuses, are their default."""
    return default if value is None or value < 0 else min(int(value), _LONGEST_S)


@dataclass(frozen=True, slots=True)
class Given:
    """What converters need besides the tree."""

    meta: Meta
    raw: Tree
    place: Place | None
    now: datetime | None
    """The moment of a dump that becomes t = 0; None when nothing says so."""


def text_map(tree: Any) -> dict[str, str]:
    """A map of texts; null values are empty ones, as Go decodes them."""
    if not tree:
        return {}
    if None not in tree.values():
        return dict(tree)
    return {name: "" if value is None else value for name, value in tree.items()}


def when_ns(text: Any, now: datetime | None) -> int | None:
    """An RFC 3339 time as ns relative to `now`; None for no time, 0 for one that cannot be told."""
    if not text:
        return None
    if now is None:
        return 0
    moment = moment_of(str(text))
    if moment is None:
        return 0
    delta = moment - now
    t_ns = (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000
    return max(-_FAR_NS, min(t_ns, _FAR_NS))


def moment_of(text: str) -> datetime | None:
    """An RFC 3339 time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
