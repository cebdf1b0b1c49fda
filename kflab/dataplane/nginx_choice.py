"""Choices NGINX makes between backends and between peers: canaries, cookie affinity, hashing.

Sources: ingress-nginx documentation (canary, session affinity, custom upstream hashing); rootfs/etc/nginx/lua/
balancer.lua (route_to_alternative_balancer), balancer/sticky.lua, balancer/chash.lua.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from hashlib import blake2b
from itertools import count
from typing import TypeVar

from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class CanaryRule:
    """When a canary takes a request."""

    header: str = ""
    header_value: str = ""
    header_pattern: str = ""
    cookie: str = ""
    weight: int = 0
    total: int = 100

    def share(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Fraction:
        """The chance that a request goes to the canary: header first, then cookie, then weight."""
        if self.header and self.header.lower() in headers:
            value = headers[self.header.lower()]
            if self.header_value:
                if value == self.header_value:
                    return Fraction(1)
            elif self.header_pattern:
                if _found(self.header_pattern, value):
                    return Fraction(1)
            elif value in {"always", "never"}:
                return Fraction(value == "always")
        if self.cookie and cookies.get(self.cookie) in {"always", "never"}:
            return Fraction(cookies[self.cookie] == "always")
        return min(Fraction(1), Fraction(max(0, self.weight), max(1, self.total)))


def _found(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return False


def canary_rule(annotation: Callable[[str], str]) -> CanaryRule:
    """The rule of a canary Ingress; `annotation` gives an annotation's text by its short name."""

    def number(name: str, default: int) -> int:
        text = annotation(name)
        return int(text) if text.isascii() and text.isdigit() else default

    return CanaryRule(
        header=annotation("canary-by-header"),
        header_value=annotation("canary-by-header-value"),
        header_pattern=annotation("canary-by-header-pattern"),
        cookie=annotation("canary-by-cookie"),
        weight=number("canary-weight", 0),
        total=number("canary-weight-total", 100) or 100,
    )


def lower_names(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers by lower-case name."""
    return {name.lower(): value for name, value in (headers or {}).items()}


def cookies_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Cookies of a Cookie header (names in lower case already); of a name given twice the first counts."""
    found: dict[str, str] = {}
    for piece in headers.get("cookie", "").split(";"):
        name, mark, value = piece.strip().partition("=")
        if mark:
            found.setdefault(name, value)
    return found


_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")

KNOWN_VARIABLES = frozenset(
    "request_uri uri document_uri host http_host scheme request_method args query_string is_args remote_addr "
    "binary_remote_addr".split()
)
"""Variables of NGINX that `hash_key` has the value of (nginx documentation, ngx_http_core_module, Embedded Variables).
Beside them arg_NAME, cookie_NAME and http_NAME."""


def hash_key(expression: str, request: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """The text an `upstream-hash-by` expression comes to.

    What a request lacks is an empty text, and so is an unknown variable (rootfs/etc/nginx/lua/util.lua,
    generate_var_value): requests of which nothing is left all have one key.

    Args:
        expression: Text with $variables.
        request: request_uri, uri, host, http_host, scheme, request_method, remote_addr; any may be left out.
        headers: By lower-case name, for $http_NAME and $cookie_NAME.
    """
    cookies = cookies_of(headers)
    query = request.get("request_uri", "").partition("?")[2]
    known = {
        **request,
        "document_uri": request.get("uri", ""),
        "args": query,
        "query_string": query,
        "is_args": "?" if query else "",
        "binary_remote_addr": request.get("remote_addr", ""),  # other bytes, but as many different ones
    }

    def value(found: re.Match[str]) -> str:
        name = found.group(1) or found.group(2)
        if name in known:
            return known[name]
        if name.startswith("http_"):
            return headers.get(name[5:].replace("_", "-"), "")
        if name.startswith("cookie_"):
            return cookies.get(name[7:], "")
        return argument(query, name[4:]) if name.startswith("arg_") else ""

    return _VARIABLE.sub(value, expression)


def argument(query: str, name: str) -> str:
    """The first argument of a name in a query, whatever the case of its letters (ngx_http_arg)."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return next((value for key, mark, value in pairs if mark and key.lower() == name.lower()), "")


def unknown_variables(expression: str) -> tuple[str, ...]:
    """Variables of an `upstream-hash-by` expression that are taken as empty because the lab does not have them."""
    names = (found.group(1) or found.group(2) for found in _VARIABLE.finditer(expression))
    own = ("http_", "cookie_", "arg_")
    return tuple(dict.fromkeys(name for name in names if name not in KNOWN_VARIABLES and not name.startswith(own)))


SUBSET_SIZE = 3
"""Default of upstream-hash-by-subset-size (annotations/upstreamhashby/main.go)."""

Peer = TypeVar("Peer")


def subset(peers: Sequence[Peer], key: str, size: int) -> tuple[tuple[Peer, ...], tuple[int, ...]]:
    """The peers among which a request with a key is drawn, and how often each is among them.

    Peers are cut into sets of one size; the last one is filled up with the first peers, over and over if there are
    fewer than a set takes (rootfs/etc/nginx/lua/balancer/chashsubset.lua, build_subset_map).
    """
    sets = -(-len(peers) // size)
    first = hashed_index(key, sets) * size
    counts: dict[Peer, int] = {}
    for place in range(first, first + size):
        peer = peers[place % len(peers)]
        counts[peer] = counts.get(peer, 0) + 1
    return tuple(counts), tuple(counts.values())


def hashed_index(key: str, n: int) -> int:
    """A peer by consistent hash. nginx's own ring is not rebuilt: any even hash has the same shares and stickiness."""
    digest = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=4, person=b"kflab chash").digest()
    return int.from_bytes(digest, "big") * n >> 32


def affinity_key(index: int, n: int) -> str:
    """A cookie value that hashes to a peer: NGINX makes keys until one does (lua/balancer/sticky.lua)."""
    return next(key for key in map(str, count()) if hashed_index(key, n) == index)
