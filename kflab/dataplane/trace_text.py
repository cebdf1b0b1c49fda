"""A request's trace as plain text and as JSON, for `kflab trace`."""

import json
from collections.abc import Sequence
from typing import Any

from kflab.dataplane.packets import Alternative, Hop, Packet, RequestTrace
from kflab.manifest.objects import Key

_ARROW = "→"
_BIDI = {
    code: f"\\u{code:04x}" for code in (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_SHOWN = {**_BIDI, **_CONTROL}


_ONLY_IF_ANY = frozenset({"refused", "reset", "timeout"})
"""Parts of the latency that are left out where nothing failed."""


def visible(text: str) -> str:
    """Text from outside with control and direction characters shown escaped."""
    return text.translate(_SHOWN)


def milliseconds(duration_ns: int) -> str:
    """A latency: "3.9 ms", "1.25 s"."""
    return f"{duration_ns / 1e6:.1f} ms" if duration_ns < 1_000_000_000 else f"{duration_ns / 1e9:.2f} s"


def _at(packet: Packet | None) -> tuple[str, str]:
    return (packet.source, packet.destination) if packet else ("", "")


def step_name(hop: Hop, earlier: Sequence[Hop], later: Sequence[Hop]) -> str:
    """Name a row of the packet table, e.g. "Node to Ingress Pod"."""
    to_ingress = any(item.mover == "NGINX" for item in later)
    from_ingress = any(item.mover == "NGINX" for item in earlier)
    match hop.mover:
        case "client":
            to_lb = any(item.mover == "load balancer" for item in later)
            return "Browser to LoadBalancer" if to_lb else "Client to Node"
        case "load balancer":
            straight = any(key.kind in ("Pod", "Endpoint") for key in hop.touches)
            return f"LoadBalancer to {'Ingress Pod' if to_ingress else 'Pod'}" if straight else "LoadBalancer to Node"
        case "NGINX":
            by_rules = later and later[0].mover in {"kernel DNAT", "conntrack", "kernel"} and later[0].number
            return "Ingress to Service" if by_rules else "Ingress to Pod"
        case "kernel DNAT" | "conntrack":
            if to_ingress and not from_ingress:
                return "Node to Ingress Pod"
            through_lb = any(item.mover == "load balancer" for item in earlier)
            return "Node to Pod" if through_lb and not from_ingress else "Service to Pod"
        case "resolver":
            return "Pod to DNS"
        case "CNI route":
            return "Pod to Pod" if hop.before is None else "Node to LoadBalancer"
    return f"{hop.where} dials"


def packet_table(trace: RequestTrace) -> list[str]:
    """Source and destination of every numbered hop that sends a packet on."""
    rows = []
    for i, hop in enumerate(trace.hops):
        if hop.number and hop.after is not None:
            name = f"Step {hop.number}: {step_name(hop, trace.hops[:i], trace.hops[i + 1 :])}"
            rows.append((name, *_at(hop.after), "1" if hop.chance == 1 else str(hop.chance)))
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        f"  {name:<{widths[0]}}  {source:<{widths[1]}} {_ARROW} {destination:<{widths[2]}}  {chance}".rstrip()
        for name, source, destination, chance in rows
    ]


def _alternatives(items: Sequence[Alternative]) -> str:
    others = [item for item in items if not item.chosen]
    shown = [
        f"{item.address} ({item.chance if item.chance else item.note or 'no chance'})"
        + (f" {item.target.name}" if item.target and item.target.kind == "Pod" else "")
        for item in others[:8]
    ]
    if len(others) > len(shown):
        shown.append(f"and {len(others) - len(shown)} more")
    return ", ".join(shown)


def _reasons(hop: Hop) -> list[str]:
    mark = f"{hop.number:>3}" if hop.number else "   "
    status = f" {_ARROW} {hop.outcome}" if hop.outcome and hop.number else ""
    cross = "✖ " if not hop.number and hop.outcome else ""
    lines = [f"{mark}  {hop.where}: {cross}{hop.why}{status}"]
    if hop.chooser:
        lines.append(f"     chosen by: {hop.chooser}" + (f", {hop.chance}" if hop.chance != 1 else ""))
    others = _alternatives(hop.alternatives)
    if others:
        lines.append(f"     also possible: {others}")
    if hop.seen:
        lines.append(f"     who calls: {hop.seen}")
    if hop.writer:
        lines.append(f"     written by: {hop.writer}")
    lines.extend(f"     {rule}" for rule in hop.rules)
    return lines


def render_text(trace: RequestTrace) -> str:
    """The whole trace as plain text: packet table, reasons, way back, latency, what is not modelled."""
    tries = f"{trace.tries} {'try' if trace.tries == 1 else 'tries'}"
    latency = "" if trace.latency_ns is None else f" · {milliseconds(trace.latency_ns)}"
    lines = [f"{trace.method} {trace.url} · from {trace.source} · {trace.status} · {tries}{latency}", ""]
    table = packet_table(trace)
    if table:
        lines += ["Packet, first of each connection (source → destination, chance)", *table, ""]
    lines.append("Who moved it, and why")
    for hop in trace.hops:
        lines.extend(_reasons(hop))
    if trace.back:
        lines += ["", "The way back"]
        width = max(len(_at(hop.after)[0]) for hop in trace.back)
        for hop in trace.back:
            source, destination = _at(hop.after)
            lines.append(f"  {hop.where}: {source:<{width}} {_ARROW} {destination}  ({hop.why})")
    if trace.parts and trace.latency_ns is not None:
        shown = [(name, value) for name, value in trace.parts if value or name not in _ONLY_IF_ANY]
        split = ", ".join(f"{name} {milliseconds(value)}" for name, value in shown)
        lines += ["", f"Latency {milliseconds(trace.latency_ns)}: {split}"]
    if trace.not_modelled:
        lines += ["", f"Not modelled: {', '.join(trace.not_modelled)}"]
    return "\n".join(visible(line) for line in lines) + "\n"


def _key(key: Key | None) -> str | None:
    return None if key is None else "/".join(filter(None, (key.kind, key.namespace, key.name)))


def _packet(packet: Packet | None) -> dict[str, str] | None:
    if packet is None:
        return None
    return {"source": packet.source, "destination": packet.destination, "protocol": packet.protocol}


def _hop(hop: Hop) -> dict[str, Any]:
    return {
        "number": hop.number,
        "try": hop.try_number,
        "where": hop.where,
        "node": hop.node,
        "timeNs": hop.t_ns,
        "before": _packet(hop.before),
        "after": _packet(hop.after),
        "mover": hop.mover,
        "chooser": hop.chooser,
        "chance": str(hop.chance),
        "alternatives": [
            {
                "address": item.address,
                "chance": str(item.chance),
                "target": _key(item.target),
                "chosen": item.chosen,
                "note": item.note,
            }
            for item in hop.alternatives
        ],
        "chains": list(hop.chains),
        "rules": list(hop.rules),
        "writer": hop.writer,
        "why": hop.why,
        "seen": hop.seen,
        "touches": [_key(key) for key in hop.touches],
        "outcome": hop.outcome,
    }


def to_tree(trace: RequestTrace) -> dict[str, Any]:
    """The trace as JSON-ready data; chances are exact fractions as text, times are simulated ns."""
    return {
        "format": "kflab-trace",
        "version": 1,
        "stream": trace.stream,
        "number": trace.number,
        "method": trace.method,
        "url": trace.url,
        "from": trace.source,
        "startNs": trace.t_start_ns,
        "latencyNs": trace.latency_ns,
        "status": trace.status,
        "tries": trace.tries,
        "hops": [_hop(hop) for hop in trace.hops],
        "back": [_hop(hop) for hop in trace.back],
        "latencyParts": [{"name": name, "ns": value} for name, value in trace.parts],
        "notModelled": list(trace.not_modelled),
    }


def render_json(trace: RequestTrace) -> str:
    """The trace as JSON, stable in order, ASCII only."""
    return json.dumps(to_tree(trace), indent=2) + "\n"
