"""curl's command line, as far as one traced request needs it; and `kubectl exec POD -- curl …`."""

import re
from collections.abc import Sequence

from kflab.errors import KflabError
from kflab.kubectl.commands import Command, Curl, Target
from kflab.kubectl.options import read

_HAS_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def parse_curl(words: Sequence[str], source: Target | None = None, namespace: str = "") -> Command:
    """Parse the words after `curl`.

    Raises:
        KflabError: For options the lab has no meaning for, a missing URL or a scheme other than http and https.
    """
    options = read(
        words,
        "request header data url from max-time connect-timeout output resolve write-out user-agent data-raw",
        "head include verbose insecure silent show-error location fail ipv4 ipv6 http1.1 http2 compressed get",
        short={
            "X": "request",
            "H": "header",
            "d": "data",
            "m": "max-time",
            "o": "output",
            "w": "write-out",
            "A": "user-agent",
            "I": "head",
            "i": "include",
            "v": "verbose",
            "k": "insecure",
            "s": "silent",
            "S": "show-error",
            "L": "location",
            "f": "fail",
            "4": "ipv4",
            "6": "ipv6",
            "G": "get",
        },
    )
    urls = [*options.values.get("url", ()), *options.words]
    if len(urls) != 1:
        raise KflabError("curl sends one request here: give one URL" if urls else "curl: (2) no URL specified")
    url = urls[0]
    if not _HAS_SCHEME.match(url):
        url = f"http://{url}"
    if not url.lower().startswith(("http://", "https://")):
        raise KflabError(f'curl: (1) Protocol "{url.partition(":")[0]}" not supported')
    if any(char.isspace() or ord(char) < 32 for char in url):
        raise KflabError("curl: (3) URL rejected: Malformed input to a URL function")
    asked = options.text("from")
    if asked:
        source, namespace = _source(asked)
    default = "HEAD" if options.flag("head") else "POST" if _has_body(options.values) else "GET"
    return Curl(
        url,
        source,
        namespace,
        options.text("request", default).upper(),
        tuple(_header(text) for text in options.values.get("header", ())),
        options.flag("head"),
        options.flag("include"),
        options.flag("verbose"),
        options.flag("insecure"),
        options.flag("silent") and not options.flag("show-error"),
        tuple(_resolve(text) for text in options.values.get("resolve", ())),
        _seconds("max-time", options.text("max-time")),
        _seconds("connect-timeout", options.text("connect-timeout")),
    )


def _has_body(values: object) -> bool:
    return isinstance(values, dict) and ("data" in values or "data-raw" in values) and "get" not in values


def _source(text: str) -> tuple[Target | None, str]:
    """`client`, `node/NAME`, `NS/POD` or `POD` of --from."""
    left, slash, name = text.partition("/")
    if not slash:
        return (None, "") if text == "client" else (Target("pod", text), "")
    if left in ("node", "nodes", "no"):
        return Target("node", name), ""
    return (Target("pod", name), "") if left in ("pod", "pods", "po") else (Target("pod", name), left)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise KflabError(f"a header is `Name: value`, not {text!r}")
    return name.strip(), value.strip()


def _resolve(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([^:]+:\d+):(.+)", text)
    if match is None:
        raise KflabError(f"--resolve is HOST:PORT:ADDRESS, not {text!r}")
    return match[1], match[2]


def _seconds(option: str, text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text):
        raise KflabError(f"--{option} is a number of seconds, not {text!r}")
    whole, _, part = text.partition(".")
    return int(whole) * 1_000_000_000 + int((part + "000000000")[:9])


def parse_exec(words: Sequence[str]) -> Command:
    """Parse `kubectl exec [-it] POD [-c CONTAINER] -- curl URL`.

    Raises:
        KflabError: For any other program: containers in the lab run none.
    """
    split = list(words).index("--") if "--" in words else len(words)
    options = read(
        words[:split],
        "namespace container pod-running-timeout",
        "stdin tty quiet",
        short={"n": "namespace", "c": "container", "i": "stdin", "t": "tty", "q": "quiet"},
    )
    command = list(words[split + 1 :]) or list(options.words[1:])
    if not options.words or not command:
        raise KflabError("write `exec POD -- curl URL`")
    if command[0] != "curl":
        raise KflabError(f"containers here run no {command[0]}; only `exec POD -- curl URL` works")
    resource, slash, name = options.words[0].partition("/")
    source = Target(resource, name) if slash else Target("pod", resource)
    return parse_curl(command[1:], source, options.text("namespace"))
