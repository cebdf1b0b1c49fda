"""`kflab trace`: follow one request, in words or JSON."""

import re
from typing import TextIO

from kflab import exits
from kflab.dataplane.packets import RequestTrace
from kflab.dataplane.trace_text import render_json, render_text
from kflab.engine.calls import outer_number
from kflab.errors import KflabError
from kflab.kubectl.hostile import printable
from kflab.lab.opened_calls import calls_among, with_calls
from kflab.lab.records import Record, record
from kflab.lab.running import Lab
from kflab.manifest.objects import Key

LONGEST_NS = 200_000_000_000
"""How long request 0 of a stream may take to finish: longer than NGINX's three tries of 60 s."""


def trace(lab: Lab, url: str, source: str, method: str, output: str, out: TextIO) -> int:
    """Print one request's way; see `traced`."""
    found = traced(lab, url, source, method)
    text = render_json(found) if output == "json" else render_text(found)
    for line in text.splitlines():  # names from manifests must not steer the terminal
        out.write((line if line.isprintable() else printable(line)) + "\n")
    return exits.OK


def traced(lab: Lab, url: str, source: str, method: str) -> RequestTrace:
    """One request's way.

    Without a URL, or with the URL of a stream, it is request 0 of that stream, run until it is answered; any other
    request is sent once by the walker.

    Raises:
        KflabError: If the URL or the source makes no sense.
    """
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", method):  # RFC 9110 section 9.1: a method is a token
        raise KflabError(f"{method!r} is not an HTTP method")
    caller = source_key(source)
    stream = None
    if caller is None and method == "GET":
        stream = next((entry for entry in lab.entries() if url in ("", entry.url, entry.url.rstrip("/"))), None)
    if stream is None and not url:
        if caller is not None:
            raise KflabError(f"from {source}: give a URL to trace, as in kflab trace http://SERVICE/ --from {source}")
        raise KflabError("no traffic from outside in these manifests: give a URL to trace")
    if stream is not None and stream.rate_rps > 0:
        return first_request(lab, stream.index)
    return lab.singles.send(lab.singles.request_for(url, method, caller), source)


def first_request(lab: Lab, stream: int) -> RequestTrace:
    """Run the lab until request 0 of a stream is finished, and open it."""
    calls: list[Record] = []
    while lab.t_ns < LONGEST_NS:
        lab.engine.advance(lab.t_ns + 10_000_000)
        rows = lab.engine.take_finished()
        inner = lab.engine.is_call(rows.stream)
        calls += [record(rows, i) for i in range(len(rows)) if inner[i] and not outer_number(int(rows.number[i]))]
        for i in range(len(rows)):
            if int(rows.stream[i]) == stream and int(rows.number[i]) == 0:
                one = record(rows, i)
                return with_calls(lab, lab.reopener.open_record(one), one, calls_among(lab, one, calls))
    raise KflabError("request 0 did not finish within 200 simulated seconds")


def source_key(text: str) -> Key | None:
    """Read --from: client, NAMESPACE/POD or node/NAME.

    Raises:
        KflabError: If it is none of these.
    """
    if text in ("", "client"):
        return None
    room, slash, name = text.partition("/")
    if not slash or not room or not name:
        raise KflabError(f"--from {text!r}: expected client, NAMESPACE/POD or node/NAME")
    return Key("Node", "", name) if room == "node" else Key("Pod", room, name)
