"""Access logs: what `kubectl logs` shows of a pod that serves requests.

An ingress-nginx controller writes its `upstreaminfo` format; an application writes one plain line per request (the
lab's own wording: nobody can know what a given image logs).

Source: https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/log-format/ (fields and their
order); nginx src/http/ngx_http_upstream.c (several tries separated by ", "; "-" where there is no value).
"""

from collections.abc import Iterable
from hashlib import blake2b

from kflab.kubectl.ages import rfc3339, time_local
from kflab.kubectl.hostile import printable
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class UpstreamTry:
    """One upstream connection of a request through an ingress controller."""

    address: str
    """ip:port it went to: a pod's, or with service-upstream the Service's ClusterIP."""
    status: str
    """HTTP status; NGINX notes 502 for a refused or reset try and 504 for a timeout."""
    time_ns: int
    length: int = 0
    """Bytes of the answer, headers included."""


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One request, as the pod that answered it would log it."""

    t_ns: int
    """When it was finished (NGINX logs at the end of a request)."""
    client: str
    """Address the pod saw: the client's, or a node's where it was masqueraded."""
    method: str
    path: str
    """With its query."""
    status: str
    request_time_ns: int
    host: str = ""
    protocol: str = "HTTP/1.1"
    body_bytes: int = 0
    request_length: int = 0
    referer: str = "-"
    user_agent: str = "-"
    upstream_name: str = ""
    """ingress-nginx: NAMESPACE-SERVICE-PORT; "" where no rule matched ("upstream-default-backend" is its own)."""
    tries: tuple[UpstreamTry, ...] = ()
    """() for a pod that answered itself."""
    request_id: str = ""
    """32 hex digits; "" makes one from the record."""


def ingress_line(record: AccessRecord) -> str:
    """One line of ingress-nginx' default log format (`upstreaminfo`)."""
    tries = record.tries
    addresses = ", ".join(attempt.address for attempt in tries) or "-"
    lengths = ", ".join(str(attempt.length) for attempt in tries) or "-"
    times = ", ".join(_seconds(attempt.time_ns) for attempt in tries) or "-"
    statuses = ", ".join(attempt.status for attempt in tries) or "-"
    fields = (
        f"{record.client} - - [{time_local(record.t_ns)}]",
        f'"{record.method} {record.path} {record.protocol}" {record.status} {record.body_bytes}',
        f'"{record.referer}" "{record.user_agent}"',
        f"{record.request_length} {_seconds(record.request_time_ns)}",
        f"[{record.upstream_name}] [] {addresses} {lengths} {times} {statuses}",
        record.request_id or _made_id(record),
    )
    return printable(" ".join(fields))


def application_line(record: AccessRecord) -> str:
    """One plain line of an application: when, what, how it ended, how long it took, who asked."""
    milliseconds = f"{record.request_time_ns / 1_000_000:.3f}"
    line = f"{rfc3339(record.t_ns)} {record.method} {record.path} {record.status} {milliseconds}ms {record.client}"
    return printable(line)


def _seconds(duration_ns: int) -> str:
    """nginx' $request_time: seconds with three decimals, cut off."""
    milliseconds = duration_ns // 1_000_000
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def _made_id(record: AccessRecord) -> str:
    # $request_id is 16 random bytes; here a digest, so that the same run logs the same lines.
    text = f"{record.t_ns} {record.client} {record.method} {record.path} {record.request_time_ns}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def log_lines(
    records: Iterable[AccessRecord], *, ingress: bool, now_ns: int, since_ns: int | None = None, tail: int | None = None
) -> list[str]:
    """Lines of one container, oldest first.

    Args:
        records: As the lab kept them, oldest first.
        ingress: Whether the pod is an ingress-nginx controller.
        now_ns: Simulated time.
        since_ns: Only what is at most this old (`--since`).
        tail: At most this many of the newest (`--tail`).
    """
    shown = [record for record in records if since_ns is None or record.t_ns >= now_ns - since_ns]
    if tail is not None:
        shown = shown[max(0, len(shown) - tail) :]
    return [ingress_line(record) if ingress else application_line(record) for record in shown]
