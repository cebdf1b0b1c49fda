"""What the statements of nftables rules do to a packet.

Sources: nft(8), STATEMENTS; the kernel's net/netfilter/nft_nat.c, nft_masq.c, nft_redir.c, nft_meta.c, nft_ct.c.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from kflab.dataplane import dump_targets
from kflab.dataplane.dump_meeting import Meeting
from kflab.dataplane.dump_targets import Beyond
from kflab.dataplane.nft_dump import Listing
from kflab.dataplane.nft_dump_print import expression_text, statement_text
from kflab.dataplane.nft_dump_value import ABSENT, Address, Ways, ways_of

Change = Callable[[Meeting], str]
"""Changes a packet. Returns "" where the rule goes on, "break" where it ends, "rewritten" where the nat chains of this
hook end, else a verdict."""

VERDICTS: Final = frozenset({"accept", "drop", "continue", "return", "jump", "goto", "reject"})

PASSING: Final = frozenset(
    {
        "counter",
        "ct expectation",
        "ct helper",
        "ct timeout",
        "dup",
        "flow",
        "last",
        "log",
        "reset",
        "secmark",
    }
)
"""Statements after which the packet goes on, unchanged as far as kflab follows it."""

_LIMITS: Final = frozenset({"limit", "quota", "ct count", "meter"})
"""Statements with a state of their own: whether they hold depends on what came before."""

_REASONS: Final = {
    "queue": "a program outside the kernel decides (queue)",
    "tproxy": "a proxy on the node takes it (tproxy)",
    "synproxy": "the node answers in the server's place (synproxy)",
    "fwd": "it is sent on to another interface (fwd)",
}

_WHOLE: Final = Fraction(1)

_KEPT: Final = frozenset({"saddr", "daddr", "sport", "dport", "protocol", "nexthdr"})
"""Header fields whose rewriting would change the way; others (dscp, ttl…) do not."""


def limits(kind: str, body: Any) -> bool:
    """Whether a statement holds for some packets only, by a state of its own."""
    if kind == "set" and isinstance(body, dict) and isinstance(body.get("stmt"), list):
        return any(isinstance(item, dict) and not _LIMITS.isdisjoint(item) for item in body["stmt"])
    return kind in _LIMITS


def text_of_match(kind: str, body: Any) -> str:
    """A statement in words of nft, for messages and to know the same question again."""
    return statement_text(kind, body)


def changes_of(
    kind: str, body: Any, at: Meeting, place: tuple[str, str], listing: Listing
) -> list[tuple[Fraction, Change]]:
    """What a statement does, with the chance of each.

    Args:
        kind: The statement's key in libnftables-json(5).
        body: Its value.
        at: The packet; it is not changed here.
        place: Family and table of the rule, for maps.
        listing: The dump.

    Raises:
        Beyond: If the outcome cannot be known. The message says why.
    """
    match kind, body:
        case "set", _:  # a set filled by packets; what it limits was asked before
            return [(_WHOLE, _go_on)]
        case "mangle", {"key": key, "value": value}:
            return _mangled(key, value, at, place, listing)
        case "notrack", _:
            return [(_WHOLE, _untrack)]
        case "masquerade", _:
            return [(_WHOLE, _from("masquerade"))]
        case "snat", {"addr": address}:
            text = expression_text(address)
            return [(_WHOLE, _from(text))]
        case "redirect", None:
            return [(_WHOLE, _redirected(0))]
        case "redirect", dict():
            port = body.get("port", 0)
            if not isinstance(port, int):
                raise Beyond(f"it is sent to one of the node's own ports {expression_text(port)}")
            return [(_WHOLE, _redirected(port))]
        case "dnat", dict():
            return _dnat(body, at, place, listing)
        case "xt", _:
            return [(_WHOLE, _extension(body))]
        case "unread", {"text": str(text)}:
            raise Beyond(f"kflab does not read {text!r}")
    raise Beyond(_REASONS.get(kind, f"kflab does not know statement {kind!r}"))


def _go_on(at: Meeting) -> str:
    return ""


def is_final(kind: str, body: Any) -> bool:
    """Whether nothing more can be said after a statement that cannot be read: it rewrites the destination."""
    return kind in ("dnat", "redirect") or (
        kind == "xt" and isinstance(body, dict) and body.get("name") in ("DNAT", "REDIRECT")
    )


def is_match(kind: str, body: Any) -> bool:
    """Whether a statement that kflab does not know is a match for certain."""
    return kind == "xt" and isinstance(body, dict) and body.get("type") == "match"


def is_idle(kind: str, body: Any) -> bool:
    """Whether a packet fares the same whether a statement is there or not, but for what it is compared with."""
    if kind == "xt" and isinstance(body, dict):
        return body.get("type") == "match" or body.get("name") in dump_targets.PASSING
    return kind in PASSING or kind in ("match", "continue", "set") or limits(kind, body)


def has_effect(change: Change) -> bool:
    """Whether a change is one."""
    return change is not _go_on


def _untrack(at: Meeting) -> str:
    at.untracked = True
    return ""


def _break(at: Meeting) -> str:
    return "break"


def _from(source: str) -> Change:
    def change(at: Meeting) -> str:
        at.snat = source
        return "rewritten"

    return change


def _redirected(port: int) -> Change:
    def change(at: Meeting) -> str:
        dump_targets.redirect(at, port)
        return "rewritten"

    return change


# --- marks -----------------------------------------------------------------------------------------------------------


def _mangled(
    key: Any, value: Any, at: Meeting, place: tuple[str, str], listing: Listing
) -> list[tuple[Fraction, Change]]:
    """Set a mark; other fields do not change the way, but for addresses and ports, which nobody follows here."""
    match key:
        case {"meta": {"key": "mark"}}:
            return [(chance, _marked("mark", found)) for chance, found in ways_of(value, at, place, listing)]
        case {"ct": {"key": "mark"}}:
            return [(chance, _marked("connmark", found)) for chance, found in ways_of(value, at, place, listing)]
        case {"payload": {"field": str(field)}} if field not in _KEPT:
            return [(_WHOLE, _go_on)]
        case {"meta": _} | {"ct": _} | {"tcp option": _} | {"exthdr": _}:
            return [(_WHOLE, _go_on)]
    raise Beyond(f"kflab does not follow a packet whose {expression_text(key)} is set")


def _marked(name: str, value: Any) -> Change:
    def change(at: Meeting) -> str:
        if value is ABSENT:
            return "break"
        if isinstance(value, int):
            setattr(at, name, value & 0xFFFFFFFF)
            at.unsure -= {name}
        else:
            at.unsure |= {name}
        return ""

    return change


# --- destinations ----------------------------------------------------------------------------------------------------


def _dnat(body: dict[str, Any], at: Meeting, place: tuple[str, str], listing: Listing) -> list[tuple[Fraction, Change]]:
    """Rewrite the destination to an address, a port, or both, also by a map."""
    family, version = body.get("family"), at.destination[0] if at.destination is not None else 0
    if family in ("ip", "ip6") and version != (4 if family == "ip" else 6):
        return [(_WHOLE, _break)]
    whole: Ways = [(_WHOLE, None)]
    addresses = ways_of(body["addr"], at, place, listing) if body.get("addr") is not None else whole
    numbers = ways_of(body["port"], at, place, listing) if body.get("port") is not None else whole
    changes = []
    for chance, address in addresses:
        for share, port in numbers:
            changes.append((chance * share, _to(body, address, port)))
    return changes


def _to(body: dict[str, Any], address: Any, port: Any) -> Change:
    if address is ABSENT or port is ABSENT:
        return _break
    if type(address) is tuple and len(address) == 2 and body.get("port") is None:
        address, port = address  # a map from keys to address . port
        known = isinstance(address, Address) and isinstance(port, int)
    else:
        known = isinstance(address, Address) or body.get("addr") is None
        known = known and (isinstance(port, int) or body.get("port") is None)
    text, number = address.text if isinstance(address, Address) else "", port if isinstance(port, int) else 0
    if known and 0 <= number < 65536 and (text or number):
        return lambda at: _rewritten(at, text, number)
    to = statement_text("dnat", {key: body[key] for key in ("addr", "port") if key in body}).removeprefix("dnat to ")
    raise Beyond(f"the destination becomes one of {to}")


def _rewritten(at: Meeting, address: str, port: int) -> str:
    at.goes_to(address or at.packet.dst, port)
    return "rewritten"


# --- iptables-nft ----------------------------------------------------------------------------------------------------


def _extension(body: Any) -> Change:
    """An extension of iptables inside nftables: nft shows its name only, so that few can be followed."""
    kind, name = (body.get("type"), body.get("name")) if isinstance(body, dict) else (None, None)
    if kind == "match" and name == "comment":
        return _go_on
    if kind in ("target", "watcher") and isinstance(name, str):
        if name in dump_targets.PASSING:
            return _go_on
        if name == "MASQUERADE":
            return _from("masquerade")
        if name == "NOTRACK":
            return _untrack
        if name == "REJECT":
            return lambda at: "reject"
    what = f"{kind or 'extension'} {name}" if name else "an extension"
    raise Beyond(f"nft does not show the options of iptables' {what}")
