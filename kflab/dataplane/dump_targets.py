"""What the targets of a dump's rules do to a packet.

Sources: iptables-extensions(8) and the kernel's net/netfilter/xt_*.c of the same names.
"""

from collections.abc import Callable, Mapping
from typing import Final

from kflab.dataplane.addresses import address_number, canonical, family_of
from kflab.dataplane.dump import DumpRule
from kflab.dataplane.dump_meeting import Meeting
from kflab.dataplane.dump_options import number_mask
from kflab.dataplane.dump_words import Option

ENDS: Final = frozenset({"ACCEPT", "DROP", "REJECT", "RETURN"})

PASSING: Final = frozenset(
    {
        "",
        "AUDIT",
        "CHECKSUM",
        "CLASSIFY",
        "CONNSECMARK",
        "DSCP",
        "ECN",
        "FLOWOFFLOAD",
        "HL",
        "IDLETIMER",
        "LED",
        "LOG",
        "NFLOG",
        "RATEEST",
        "SECMARK",
        "SET",
        "TCPMSS",
        "TCPOPTSTRIP",
        "TEE",
        "TOS",
        "TRACE",
        "TTL",
        "ULOG",
    }
)
"""Targets after which the packet goes on, unchanged as far as kflab follows it."""

_ALL: Final = 0xFFFFFFFF


class Beyond(Exception):
    """A target whose outcome cannot be known from the dump. The message says why."""


def _find(options: tuple[Option, ...], *names: str) -> str:
    return next((option.value for option in options if option.name in names), "")


def _set_mark(old: int, options: tuple[Option, ...]) -> int:
    """xt_MARK: mark & ~mask ^ value; --set-mark also clears the bits of its value."""
    for option in options:
        value, mask = number_mask(option.value) if option.name.endswith("mark") and option.values else (0, 0)
        match option.name:
            case "--set-xmark":
                return (old & ~mask & _ALL) ^ value
            case "--set-mark":
                return (old & ~(mask | value) & _ALL) ^ value
            case "--and-mark":
                return old & value
            case "--or-mark":
                return old | value
            case "--xor-mark":
                return old ^ value
    raise ValueError("no mark")


def _mark(at: Meeting, options: tuple[Option, ...]) -> str:
    at.mark = _set_mark(at.mark, options)
    return ""


def _connmark(at: Meeting, options: tuple[Option, ...]) -> str:
    """xt_connmark.c: save copies the packet's mark to the connection, restore the other way."""
    both = _find(options, "--mask") or "0xffffffff"
    nf_mask = int(_find(options, "--nfmask") or both, 0)
    ct_mask = int(_find(options, "--ctmask") or both, 0)
    given = {option.name for option in options}
    if "--save-mark" in given:
        at.connmark = (at.connmark & ~ct_mask) ^ (at.mark & nf_mask)
    elif "--restore-mark" in given:
        at.mark = (at.mark & ~nf_mask) ^ (at.connmark & ct_mask)
    else:
        at.connmark = _set_mark(at.connmark, options)
    return ""


def _untrack(at: Meeting, options: tuple[Option, ...]) -> str:
    at.untracked = True
    return ""


def _ct(at: Meeting, options: tuple[Option, ...]) -> str:
    if any(option.name == "--notrack" for option in options):
        at.untracked = True
    return ""


def _dnat(at: Meeting, options: tuple[Option, ...]) -> str:
    text = _find(options, "--to-destination")
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    if "-" in host or "-" in port or "/" in port:
        raise Beyond(f"the destination becomes one of {text}")
    if (host and address_number(host) is None) or not (port == "" or (port.isdecimal() and len(port) < 6)):
        raise ValueError(text)
    if not host and not port:
        raise ValueError(text)
    at.goes_to(canonical(host) if host else at.packet.dst, int(port or 0))
    return "ACCEPT"


def _redirect(at: Meeting, options: tuple[Option, ...]) -> str:
    """nf_nat_redirect.c: to loopback on OUTPUT, else to the primary address of the interface it came in by."""
    port = _find(options, "--to-ports")
    if "-" in port:
        raise Beyond(f"it is sent to one of the node's own ports {port}")
    redirect(at, int(port or 0) if len(port) < 6 else 0)
    return "ACCEPT"


def redirect(at: Meeting, port: int) -> None:
    """Send a packet to the node itself; port 0 keeps its port."""
    family = family_of(at.packet.dst)
    loopback = "127.0.0.1" if family == "IPv4" else "::1"
    own = next((ip for ip in at.known.local_ips if family_of(ip) == family), loopback)
    at.goes_to(loopback if at.hook == "OUTPUT" else own, port)


def _snat(at: Meeting, options: tuple[Option, ...]) -> str:
    at.snat = _find(options, "--to-source") or "?"
    return "ACCEPT"


def _masquerade(at: Meeting, options: tuple[Option, ...]) -> str:
    at.snat = "masquerade"
    return "ACCEPT"


_ACTIONS: Final[Mapping[str, Callable[[Meeting, tuple[Option, ...]], str]]] = {
    "MARK": _mark,
    "CONNMARK": _connmark,
    "NOTRACK": _untrack,
    "CT": _ct,
    "DNAT": _dnat,
    "REDIRECT": _redirect,
    "SNAT": _snat,
    "MASQUERADE": _masquerade,
}


def act(at: Meeting, rule: DumpRule) -> str:
    """Let a rule's target change the packet.

    Returns:
        "" where the packet goes on to the next rule, else ACCEPT, DROP, REJECT or RETURN.

    Raises:
        Beyond: If the outcome cannot be known.
    """
    if rule.target in ENDS:
        return rule.target
    if rule.target in PASSING:
        return ""
    action = _ACTIONS.get(rule.target)
    if action is None:
        raise Beyond(_REASONS.get(rule.target, f"kflab does not know target {rule.target}"))
    try:
        return action(at, rule.arguments)
    except ValueError:
        raise Beyond(f"kflab cannot read the options of {rule.target}") from None


_REASONS: Final = {
    "NFQUEUE": "a program outside the kernel decides (NFQUEUE)",
    "QUEUE": "a program outside the kernel decides (QUEUE)",
    "TPROXY": "a proxy on the node takes it (TPROXY)",
    "SYNPROXY": "the node answers in the server's place (SYNPROXY)",
    "NETMAP": "its address is mapped to another network (NETMAP)",
}

KNOWN_TARGETS: Final = ENDS | PASSING | frozenset(_ACTIONS) | frozenset(_REASONS)
"""Every target that is no chain."""
