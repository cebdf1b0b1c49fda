"""`conntrack`'s command line (conntrack-tools, conntrack(8)): listing, counting, statistics."""

from collections.abc import Sequence

from kflab.errors import KflabError
from kflab.kubectl.commands import Conntrack
from kflab.kubectl.options import Options, read

_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "6": "TCP", "17": "UDP", "132": "SCTP"}

_STATUSES = ("ASSURED", "UNREPLIED", "SEEN_REPLY", "SRC_NAT", "DST_NAT")

_ELSEWHERE = {
    "D": "entries end by their timeouts, or when kube-proxy cleans up stale UDP ones",
    "F": "entries end by their timeouts, or when kube-proxy cleans up stale UDP ones",
    "E": "the table is read at one instant; list it again",
    "G": "list with filters instead",
}


def parse_conntrack(words: Sequence[str]) -> Conntrack:
    """Parse the words after `conntrack`.

    Raises:
        KflabError: For what is not here, unknown options, and values that mean nothing.
    """
    for word in words:
        if word[:1] == "-" and word[1:2] in _ELSEWHERE and word[1:2] != "-":
            raise KflabError(f"of conntrack, -L, -C and -S are here, not -{word[1]}: {_ELSEWHERE[word[1]]}")
    options = read(
        words,
        "proto protonum src dst orig-src orig-dst reply-src reply-dst sport dport orig-port-src orig-port-dst "
        "state status node",
        "dump count stats src-nat dst-nat any-nat",
        short={
            "L": "dump", "C": "count", "S": "stats", "p": "proto", "s": "src", "d": "dst", "r": "reply-src",
            "q": "reply-dst",
            "u": "status", "n": "src-nat", "g": "dst-nat", "j": "any-nat",
        },
    )  # fmt: skip
    for word in options.words:
        if word != "conntrack":  # `-L conntrack` names the table
            raise KflabError(f"conntrack takes no {word!r}; another node's table: --node NODE")
    if sum(options.flag(name) for name in ("dump", "count", "stats")) != 1:
        raise KflabError(
            "conntrack: one of -L (list), -C (count) and -S (statistics); e.g. `conntrack -L -p tcp --node NODE`"
        )
    status = options.text("status").upper()
    if status and status not in _STATUSES:
        raise KflabError(f"conntrack: unknown status {status!r}; one of {', '.join(_STATUSES)}")
    return Conntrack(
        node=options.text("node"),
        count=options.flag("count"),
        statistics=options.flag("stats"),
        protocol=_protocol(options),
        src=options.text("orig-src", options.text("src")),
        dst=options.text("orig-dst", options.text("dst")),
        reply_src=options.text("reply-src"),
        reply_dst=options.text("reply-dst"),
        sport=_port(options, "orig-port-src", "sport"),
        dport=_port(options, "orig-port-dst", "dport"),
        state=options.text("state").upper(),
        status=status,
        src_nat=options.flag("src-nat"),
        dst_nat=options.flag("dst-nat"),
        any_nat=options.flag("any-nat"),
    )


def _protocol(options: Options) -> str:
    text = options.text("protonum", options.text("proto")).lower()
    if text and text not in _PROTOCOLS:
        raise KflabError(f"conntrack: protocol {text!r} is not tracked here; tcp, udp or sctp")
    return _PROTOCOLS.get(text, "")


def _port(options: Options, *names: str) -> int:
    given = next((number for name in names if (number := options.number(name)) is not None), 0)
    if not 0 <= given <= 65535:
        raise KflabError(f"conntrack: port {given} is not in 0–65535")
    return given
