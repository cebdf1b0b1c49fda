"""Hosts and paths as nginx reads them before it looks for a server and a location."""

import re
from urllib.parse import unquote_to_bytes


def clean_host(host: str) -> str:
    """A Host header as nginx compares it: lower case, without port and trailing dot (ngx_http_validate_host)."""
    text = host.strip().lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0].removesuffix(".")


def clean_path(path: str) -> str:
    """The path nginx matches locations with: no query, percent-decoded, slashes merged, dots resolved.

    Source: nginx documentation, `location` ("matching is performed against a normalized URI"), `merge_slashes`.
    """
    raw = path.partition("?")[0].partition("#")[0]
    text = unquote_to_bytes(raw).decode("utf-8", "surrogateescape")
    parts: list[str] = []
    pieces = re.sub(r"/+", "/", text).split("/")
    for piece in pieces[1:] if text.startswith("/") else pieces:
        if piece == "..":
            if parts:
                parts.pop()
        elif piece != ".":
            parts.append(piece)
    directory = text.endswith(("/", "/.", "/..")) and bool(parts) and parts[-1] != ""
    return "/" + "/".join(parts) + ("/" if directory else "")


def query_of(path: str) -> str:
    """The query with its question mark, "" without one."""
    _, mark, query = path.partition("?")
    return mark + query


def host_fits(pattern: str, host: str) -> bool:
    """Whether a wildcard `*.foo.com` covers a host: exactly one label (Ingress API)."""
    if not pattern.startswith("*."):
        return pattern == host
    label, dot, rest = host.partition(".")
    return bool(label and dot) and rest == pattern[2:]


def prefix_fits(rule: str, path: str) -> bool:
    """Path type Prefix: element by element, a trailing slash in either does not count (Ingress API)."""
    wanted = rule.rstrip("/")
    have = path.rstrip("/")
    return not wanted or have == wanted or path.startswith(wanted + "/")
