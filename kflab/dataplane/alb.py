"""What an AWS Application Load Balancer does with one request: listener, rule, target group.

Source: AWS docs, Listeners for your Application Load Balancers and Listener rules (rules by priority, then the default
action; `*` and `?` in host and path conditions; hosts without regard to case, paths with it, without the query).
How rules are made from Ingresses: `control.alb`.
"""

import re
from functools import lru_cache

from kflab.control.alb import AlbModel, AlbRule
from kflab.dataplane.nginx_uri import clean_host
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class AlbRoute:
    """What a request meets there."""

    kind: str
    """"forward" to a target group; "answer": it answers `status` itself; "refused": no listener has the port."""
    why: str
    status: int = 0
    """404, 400, 503 or 301 where it answers itself."""
    rule: AlbRule | None = None
    group: Key | None = None
    location: str = ""
    """Of a redirect."""


def route(model: AlbModel, port: int, scheme: str, host: str, path: str) -> AlbRoute:
    """Find what an Application Load Balancer does with a request.

    Args:
        model: Its listeners and rules.
        port: That the client dialled.
        scheme: http or https, as the client speaks.
        host: Host header.
        path: Path, with or without a query.
    """
    protocol = next((protocol for protocol, number in model.listeners if number == port), "")
    if not protocol:
        return AlbRoute("refused", f"no listener on port {port}")
    if protocol != scheme:
        return AlbRoute("answer", f"its listener on {port} speaks {protocol}, not {scheme}", 400)
    if protocol == "http" and model.ssl_redirect:
        name = clean_host(host)
        where = f"https://{name}:{model.ssl_redirect}{path}"
        return AlbRoute("answer", f"ssl-redirect: http is redirected to {model.ssl_redirect}", 301, location=where)
    for number, rule in enumerate(model.rules, 1):
        if _fits(rule, clean_host(host), path.partition("?")[0]):
            return _forward(rule, f"rule {number} of {len(model.rules)}: {_conditions(rule)}")
    if model.default is not None:
        return _forward(model.default, "no rule fits, the default action takes it")
    return AlbRoute("answer", f"none of {len(model.rules)} rules has host {clean_host(host)} and path {path}", 404)


def _forward(rule: AlbRule, why: str) -> AlbRoute:
    if rule.group is None:
        return AlbRoute("answer", f"{why}; Service {rule.service.name} does not exist", 503, rule)
    return AlbRoute("forward", why, 0, rule, rule.group)


def _conditions(rule: AlbRule) -> str:
    where = f"host {rule.host}" if rule.host else "any host"
    return f"{where} and path {' or '.join(rule.patterns)}" if rule.patterns else where


def host_fits(condition: str, host: str) -> bool:
    """Whether a host meets a host condition."""
    return bool(_glob(condition.lower()).fullmatch(host.lower()))


def _fits(rule: AlbRule, host: str, path: str) -> bool:
    if rule.host and not host_fits(rule.host, host):
        return False
    return not rule.patterns or any(_glob(pattern).fullmatch(path) for pattern in rule.patterns)


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(letter) or re.escape(letter) for letter in pattern), re.DOTALL)
