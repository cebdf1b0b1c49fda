"""Choices NGINX makes between backends and between peers: canaries, cookie affinity, hashing.

Sources: ingress-nginx documentation (canary, session affinity, custom upstream hashing); rootfs/etc/nginx/lua/
balancer.lua (route_to_alternative_balancer), balancer/sticky.lua, balancer/chash.lua.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from itertools import count


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


def hash_key(expression: str, request: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """The text an `upstream-hash-by` expression comes to; variables it does not know are empty.

    Args:
        expression: Text with $variables.
        request: request_uri, uri, host, scheme, remote_addr.
        headers: By lower-case name, for $http_NAME and $cookie_NAME.
    """
    cookies = cookies_of(headers)

    def value(found: re.Match[str]) -> str:
        name = found.group(1) or found.group(2)
        if name.startswith("http_"):
            return headers.get(name[5:].replace("_", "-"), "")
        if name.startswith("cookie_"):
            return cookies.get(name[7:], "")
        return request.get(name, "")

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, expression)


def hashed_index(key: str, n: int) -> int:
    """A peer by consistent hash. nginx's own ring is not rebuilt: any even hash has the same shares and stickiness."""
    digest = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=4, person=b"kflab chash").digest()
    return int.from_bytes(digest, "big") * n >> 32


def affinity_key(index: int, n: int) -> str:
    """A cookie value that hashes to a peer: NGINX makes keys until one does (lua/balancer/sticky.lua)."""
    return next(key for key in map(str, count()) if hashed_index(key, n) == index)
