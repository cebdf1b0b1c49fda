"""What NGINX does with one request: server by host, location by path, then answer or upstream.

Profile: ingress-nginx v1.15.1; see `nginx_config` for how its configuration is made. Sources: nginx documentation
(`server_name`, `location`), ingress-nginx documentation (path matching, rewrite, TLS), Kubernetes documentation:
Ingress.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final
from urllib.parse import quote

from kflab.dataplane.nginx_choice import SUBSET_SIZE, cookies_of, hash_key, hashed_index, lower_names, subset
from kflab.dataplane.nginx_config import (
    EWMA,
    ROUND_ROBIN,
    Backend,
    IngressConfig,
    Location,
    Server,
    Upstream,
    config_of,
    serves,
)
from kflab.dataplane.nginx_proxying import USUAL, Proxying
from kflab.dataplane.nginx_uri import clean_host, clean_path, host_fits, prefix_fits, query_of
from kflab.manifest.objects import Key
from kflab.records import dataclass

__all__ = [
    "DRAWN", "EWMA", "ROUND_ROBIN", "Backend", "IngressConfig", "Location", "Route", "Server", "Upstream", "config_of",
    "route", "serves",
]  # fmt: skip

DRAWN: Final = "drawn"
"""`Route.balancing` of upstream-hash-by-subset."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a request meets in NGINX."""

    kind: str
    """"proxy": sent to an upstream; "redirect" and "answer": NGINX itself answers with `status`."""
    status: int = 0
    """308, 301, 302, 404 or 503 where NGINX answers itself; 0 for "proxy"."""
    host: str = ""
    """Host of the server that took the request, "_" for unknown ones."""
    ingress: Key | None = None
    """The Ingress the location comes from."""
    path: str = ""
    path_type: str = ""
    """As written in the Ingress; "" where no rule matched."""
    service: Key | None = None
    port: int = 0
    """Number of the Service port."""
    backend: str = ""
    """Name of the upstream, "namespace-service-port"."""
    upstreams: tuple[Upstream, ...] = ()
    service_upstream: bool = False
    """The only upstream is the ClusterIP: kube-proxy's rules choose the pod."""
    location: str = ""
    """Location header of a redirect."""
    tls_ended: bool = False
    tls_secret: str = ""
    """Certificate presented; "" on http and for the controller's default certificate."""
    rewritten: str = ""
    """Path and query the pod sees where an annotation changed them."""
    split: tuple[tuple[Key, int, Fraction], ...] = ()
    """(Service, port, chance) where a canary's weight leaves it to chance; the route is what the draw chose."""
    hash_key: str | None = None
    """What the peer is chosen by instead of round robin: `upstream-hash-by`, or the affinity cookie sent; it may be
    empty. None: neither."""
    weights: tuple[int, ...] = ()
    """Of the upstreams, where one of a subset is drawn; () for the others."""
    balancing: str = ROUND_ROBIN
    """How a peer is picked without a `hash_key`: `ROUND_ROBIN`, `EWMA`, or `DRAWN` by `weights`."""
    set_cookie: tuple[str, str] | None = None
    """(name, path) of the affinity cookie that the answer sets."""
    proxying: Proxying = USUAL
    """How long NGINX waits for a peer, and when it asks the next one."""
    why: str = ""
    """Reason in plain words."""

    def peer_index(self, position: int) -> int:
        """Index of the peer: by hash where there is a key (ingress-nginx rootfs/etc/nginx/lua/balancer/chash.lua,
        `balance`: a further try finds the same one), else by the round robin's position."""
        n = len(self.upstreams)
        return position % n if self.hash_key is None else hashed_index(self.hash_key, n)


def route(
    config: IngressConfig,
    scheme: str,
    host: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    client: str = "",
    draw: int = 0,
) -> Route:
    """Find what NGINX does with a request.

    Args:
        config: The controller's configuration.
        scheme: http or https.
        host: Host header as sent, with or without a port; also the TLS server name.
        path: Path with query, as sent.
        headers: Further request headers, Cookie among them.
        method: Of the request, for $request_method.
        client: Its address, for $remote_addr.
        draw: u32 for a canary's weight: the canary takes what falls below its share.
    """
    sent = lower_names(headers)
    name = clean_host(host)
    server = _server(config, name)
    uri = clean_path(path)
    location, groups = _location(server, uri)
    secure = scheme == "https"
    secret = server.tls_secret if secure else ""
    if not secure and _to_https(server, location):
        target = f"https://{name}{_kept_path(path, location)}"
        return Route(
            "redirect",
            308,
            server.host,
            location.ingress,
            location.path,
            location.path_type if not location.default else "",
            location=target,
            why="ssl-redirect: the host has TLS and the request came over http",
        )
    base = Route(
        "answer",
        404,
        server.host,
        location.ingress,
        location.path,
        "" if location.default and location.backend is None else location.path_type,
        tls_ended=secure,
        tls_secret=secret,
        why=_why_404(server, name, uri),
    )
    redirect = _redirect(location, uri, f"{scheme}://{host.strip()}")
    if redirect is not None:
        status, target = redirect
        return replace(base, kind="redirect", status=status, location=target, why=f"annotation: redirect {status}")
    backend = location.backend
    if backend is None:
        return base
    why = _why(server, location, name)
    split: tuple[tuple[Key, int, Fraction], ...] = ()
    canary = location.canary
    if canary is not None and backend.upstreams:
        share = canary.rule.share(sent, cookies_of(sent))
        main = backend
        if Fraction(draw, 1 << 32) < share:
            backend, why = canary.backend, f"{why}; canary of Ingress {canary.ingress.name}"
        if 0 < share < 1:
            split = (
                (main.service, main.port, 1 - share),
                (canary.backend.service, canary.backend.port, share),
            )
    service = replace(
        base, service=backend.service, port=backend.port, backend=backend.name,
        proxying=config.proxying.under(location.text),
    )  # fmt: skip
    if not backend.upstreams:
        return replace(service, status=503, why=f"{why}; {backend.problem}")
    request = {"request_uri": path, "uri": uri, "host": name, "http_host": host, "scheme": scheme}
    request |= {"request_method": method, "remote_addr": client}
    key, cookie = _stickiness(location, request, sent)
    peers, weights = backend.upstreams, tuple[int, ...]()
    sticks = cookie is not None or key is not None
    balancing = ROUND_ROBIN if sticks else backend.balancing
    if location.text("affinity") != "cookie" and key is not None and location.flag("upstream-hash-by-subset"):
        size = location.text("upstream-hash-by-subset-size")
        peers, weights = subset(peers, key, int(size) if size.isdigit() and int(size) else SUBSET_SIZE)
        key, balancing = None, DRAWN
    return replace(
        service,
        kind="proxy",
        status=0,
        upstreams=peers,
        service_upstream=backend.service_upstream,
        rewritten=_rewritten(location, groups, path),
        split=split,
        hash_key=key,
        weights=weights,
        balancing=balancing,
        set_cookie=cookie,
        why=why,
    )


def _stickiness(
    location: Location, request: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[str | None, tuple[str, str] | None]:
    """What the peer hangs on, and the cookie to set: a request with the affinity cookie keeps its pod."""
    if location.text("affinity") == "cookie":
        name = location.text("session-cookie-name") or "INGRESSCOOKIE"
        sent = cookies_of(headers).get(name)
        return sent, (name, location.text("session-cookie-path") or location.path) if sent is None else None
    expression = location.text("upstream-hash-by")
    return hash_key(expression, request, headers) if expression else None, None


def _server(config: IngressConfig, host: str) -> Server:
    """Exact name first, then a wildcard of one label, then the server of unknown hosts; no second look."""
    exact = config.servers.get(host)
    if exact is not None and host != "_":
        return exact
    wildcard = config.servers.get("*." + host.partition(".")[2])
    if wildcard is not None and host_fits("*." + host.partition(".")[2], host):
        return wildcard
    return config.servers["_"]


def _location(server: Server, uri: str) -> tuple[Location, tuple[str, ...]]:
    """The location of a path, and the groups of its pattern where paths are patterns."""
    if server.patterns:
        for location in sorted(server.locations, key=lambda item: -len(item.path)):
            found = _search(location.path, uri)
            if found is not None:
                return location, found
        return Location("/", "Prefix", None, default=True), ()
    best: Location | None = None
    for location in server.locations:
        exact = location.path_type == "Exact"
        if (uri == location.path) if exact else prefix_fits(location.path, uri):
            if best is None or _rank(location) > _rank(best):
                best = location
    return best or Location("/", "Prefix", None, default=True), ()


def _rank(location: Location) -> tuple[int, bool, bool]:
    """Longest path first; on equal paths Exact before Prefix."""
    exact = location.path_type == "Exact"
    return (len(location.path) if exact else len(location.path.rstrip("/")), exact, not location.default)


def _search(pattern: str, uri: str) -> tuple[str, ...] | None:
    """nginx `location ~* "^pattern"`: case blind, anchored at the start only. An invalid pattern never matches."""
    try:
        found = re.match(pattern, uri, re.IGNORECASE)
    except re.error:
        return None
    return None if found is None else tuple(group or "" for group in found.groups())


def _to_https(server: Server, location: Location) -> bool:
    return location.flag("force-ssl-redirect") or (server.tls and location.flag("ssl-redirect", default=True))


def _kept_path(path: str, location: Location) -> str:
    return path if location.flag("preserve-trailing-slash") else path.removesuffix("/")


def _redirect(location: Location, uri: str, origin: str) -> tuple[int, str] | None:
    """Redirects by annotation: temporal before permanent; app-root from `/` only."""
    root = location.text("app-root")
    if root and uri == "/":
        return 302, root if "://" in root else origin + root
    for name, status in (("temporal-redirect", 302), ("permanent-redirect", 301)):
        target = location.text(name)
        if target:
            code = location.text(f"{name}-code")
            return (int(code) if code.isdigit() and 300 <= int(code) <= 308 else status), target
    return None


def _rewritten(location: Location, groups: tuple[str, ...], path: str) -> str:
    target = location.text("rewrite-target")
    if not target or target == location.path:
        return ""

    def group(found: re.Match[str]) -> str:
        number = int(found.group(1))
        return groups[number - 1] if 0 < number <= len(groups) else ""

    rewritten = re.sub(r"\$(\d)", group, target)
    return quote(rewritten, safe="/%:@!$&'()*+,;=~-._?[]") + query_of(path)


def _why(server: Server, location: Location, host: str) -> str:
    where = "any host" if server.host == "_" else f"host {server.host}"
    if location.default:
        return f"{where}: no path fits, the Ingress's default backend takes it"
    return f"{where} and path {location.path} ({location.path_type})"


def _why_404(server: Server, host: str, uri: str) -> str:
    if server.host == "_" and all(location.default for location in server.locations):
        return f"no Ingress has host {host}"
    return f"no path of host {server.host} fits {uri}"
