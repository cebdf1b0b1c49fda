"""Which upstream connections NGINX keeps: keys of the ConfigMap.

Source: kubernetes/ingress-nginx internal/ingress/controller/config/config.go (upstream-keepalive-connections 320,
-timeout 60, -time "1h", -requests 10000), rootfs/etc/nginx/template/nginx.tmpl; nginx documentation,
ngx_http_upstream_module, and Configuration file measurement units.
"""

import re
from collections.abc import Mapping
from typing import Final

from kflab.records import dataclass

CONNECTIONS: Final = 320

_UNITS: Final = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000,
                 "y": 31_536_000}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keepalive:
    """What is given; None for what is not."""

    connections: int = CONNECTIONS
    """Idle ones at most, of a worker; 0: none is kept."""
    timeout_s: int | None = None
    """How long one may idle."""
    time_s: float | None = None
    """Older ones are not kept after their request."""
    requests: int | None = None
    """How many one serves."""
    left_out: tuple[str, ...] = ()
    """What of it NGINX would not take, in words."""


def keepalive_of(given: Mapping[str, str]) -> Keepalive:
    """Read the keys of a ConfigMap."""
    said: list[str] = []

    def whole(name: str) -> int | None:
        text = given.get(f"upstream-keepalive-{name}", "").strip()
        if text and not (text.isascii() and text.isdigit()):
            said.append(f"upstream-keepalive-{name} {text!r}, which is no whole number: it is left out")
            return None
        return int(text) if text else None

    time = given.get("upstream-keepalive-time", "").strip()
    time_s = seconds(time)
    if time and time_s is None:
        said.append(f"upstream-keepalive-time {time!r}, which is no time as NGINX writes it (1h, 30m): it is left out")
    connections, timeout, requests = whole("connections"), whole("timeout"), whole("requests")
    return Keepalive(CONNECTIONS if connections is None else connections, timeout, time_s, requests, tuple(said))


def seconds(text: str) -> float | None:
    """A time as NGINX writes it, "1h 30m"; None where it is none."""
    parts = re.findall(r"([0-9]+)(ms|[smhdwMy]?)\s*", text)
    if not parts or re.fullmatch(r"(?:[0-9]+(?:ms|[smhdwMy]?)\s*)+", text) is None:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
