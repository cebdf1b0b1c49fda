"""What curl prints for one request that the lab sent.

Source: curl's exit codes and messages (curl(1), "EXIT CODES"); bodies of NGINX' own error pages
(nginx src/http/ngx_http_special_response.c).
"""

from http import HTTPStatus
from json import dumps
from urllib.parse import urlsplit

from kflab.errors import KflabError
from kflab.kubectl.ages import rfc1123z
from kflab.kubectl.commands import Curl
from kflab.kubectl.hostile import printable
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.portforward import Forward
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class CurlRequest:
    """One request for the lab to send and trace."""

    url: str
    source: Key | None = None
    """Pod or Node it is sent from; None: the client outside the cluster."""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    via: Forward | None = None
    """Sent into this pod's network namespace by a port-forward: no Service, no rules, no DNS."""
    resolve: tuple[tuple[str, str], ...] = ()
    """(host:port, address): taken instead of asking DNS."""
    max_time_ns: int | None = None


@dataclass(frozen=True, slots=True)
class CurlAnswer:
    """What came back."""

    status: str
    """"200", "502"… or "refused", "no route", "timeout", "reset", "no such host"."""
    latency_ns: int = 0
    answered_by: Key | None = None
    """Pod whose answer it is; for an error page made by an ingress controller, that controller's pod."""
    trace_id: int | None = None
    server: str = ""
    """Value of the Server header, "nginx" for an ingress controller's page; "" for an application."""
    body: str = ""
    """Given by a scenario; "" for the lab's own."""
    connected: bool = False
    """Of a timeout: it had its connection, and waited for an answer."""
    dialled: tuple[tuple[str, int], tuple[str, int]] | None = None
    """Address and port that it connected to, and its own; None: it connected to nothing."""


_PAGES = {"nginx", "openresty"}


def host_and_port(url: str) -> tuple[str, int]:
    """Host and port of a URL.

    Raises:
        KflabError: If it has no host or no valid port.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise KflabError("curl: (3) URL rejected: Port number was not a decimal number between 0 and 65535") from None
    if not parts.hostname:
        raise KflabError("curl: (3) URL rejected: No host part in the URL")
    return parts.hostname, port if port is not None else 443 if parts.scheme == "https" else 80


def is_local(host: str) -> bool:
    """Whether a host name means the machine that asks."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def render(command: Curl, answer: CurlAnswer, now_ns: int) -> Outcome:
    """Print the answer as curl does.

    Args:
        command: The options decide what is shown.
        answer: What the lab's request came to.
        now_ns: For the Date header.
    """
    host, port = host_and_port(command.url)
    unreached = f"Failed to connect to {host} port {port} after {answer.latency_ns // 1_000_000} ms"
    match answer.status:
        case "timeout" | "dropped" | "no route" if _gave_up_connecting(command, answer):
            ms = (command.connect_timeout_ns or 0) // 1_000_000
            message = f"Failed to connect to {host} port {port} after {ms} ms: Timeout was reached"
            return _fail(command, 28, message, answer)
        case _ if command.max_time_ns is not None and answer.latency_ns > command.max_time_ns:
            return _fail(command, 28, _cut_short(command.max_time_ns, answer), answer)
        case "refused" | "no route":
            return _fail(command, 7, f"{unreached}: Could not connect to server", answer)
        case "no such host":
            return _fail(command, 6, f"Could not resolve host: {host}", answer)
        case "timeout" if answer.connected:
            return _fail(command, 28, _cut_short(answer.latency_ns, answer), answer)
        case "timeout" | "dropped":
            return _fail(command, 28, f"{unreached}: Timeout was reached", answer)
        case "reset":
            return _fail(command, 56, "Recv failure: Connection reset by peer", answer)
        case "empty":
            return _fail(command, 52, "Empty reply from server", answer)
        case status if not status.isdecimal():
            return _fail(command, 56, f"Recv failure: {status}", answer)
    page = _body(command, answer)
    head = "".join(f"{name}\n" for name in _head(command, answer, page, now_ns))
    out = head + "\n" if command.head or command.include else ""
    if not command.head and command.method != "HEAD":
        out += page + "\n"
    told = "".join(f"< {line}\n" for line in head.splitlines()) + "<\n" if command.verbose else ""
    asked = _asked(command, host, port) if command.verbose else ""
    return Outcome(out, asked + told, 0, answer.trace_id)


def _gave_up_connecting(command: Curl, answer: CurlAnswer) -> bool:
    """Whether --connect-timeout ended it; of two limits the shorter one does."""
    limit, longest = command.connect_timeout_ns, command.max_time_ns
    if limit is None or answer.connected or answer.latency_ns <= limit:
        return False
    return longest is None or limit <= longest


def _cut_short(after_ns: int, answer: CurlAnswer) -> str:
    """What curl says when its time is up (lib/multi.c, multi_handle_timeout): of a connect, or of an answer."""
    ms = after_ns // 1_000_000
    if answer.status in ("timeout", "dropped", "no route", "refused") and not answer.connected:
        return f"Connection timed out after {ms} milliseconds"
    return f"Operation timed out after {ms} milliseconds with 0 bytes received"


_ERRNO = {"refused": "Connection refused", "no route": "No route to host"}
"""What connect() says, as -v shows it (lib/cf-socket.c: "connect to %s port %u from %s port %d failed: %s")."""


def _fail(command: Curl, code: int, message: str, answer: CurlAnswer) -> Outcome:
    err = "" if command.silent else f"curl: ({code}) {printable(message)}\n"
    if command.verbose and answer.dialled and answer.status in _ERRNO:
        (address, port), (source, source_port) = answer.dialled
        told = f"connect to {address} port {port} from {source} port {source_port} failed: {_ERRNO[answer.status]}"
        err = f"*   Trying {address}:{port}...\n* {told}\n{err}"
    return Outcome("", err, code, answer.trace_id)


def _asked(command: Curl, host: str, port: int) -> str:
    parts = urlsplit(command.url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{command.method} {path} HTTP/1.1", f"Host: {parts.netloc}", "Accept: */*"]
    lines += [f"{name}: {value}" for name, value in command.headers]
    text = f"* Connected to {host} port {port}\n" + "".join(f"> {line}\n" for line in lines) + ">\n"
    return "".join(printable(line) + "\n" for line in text.splitlines())


def _reason(status: str) -> str:
    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return ""


def _head(command: Curl, answer: CurlAnswer, page: str, now_ns: int) -> list[str]:
    del command
    date = rfc1123z(now_ns).removesuffix("+0000") + "GMT"
    kind = "text/html" if answer.server in _PAGES else "application/json"
    lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}".rstrip(), f"Date: {date}"]
    if answer.server:
        lines.append(f"Server: {answer.server}")
    return [*lines, f"Content-Type: {kind}", f"Content-Length: {len(page.encode())}"]


def _body(command: Curl, answer: CurlAnswer) -> str:
    if answer.body:
        return answer.body
    if answer.server in _PAGES:
        title = f"{answer.status} {_reason(answer.status)}".rstrip()
        return (
            f"<html>\n<head><title>{title}</title></head>\n<body>\n<center><h1>{title}</h1></center>\n"
            f"<hr><center>{answer.server}</center>\n</body>\n</html>"
        )
    path = urlsplit(command.url).path or "/"
    return dumps({"path": path, "pod": answer.answered_by.name if answer.answered_by else None})
