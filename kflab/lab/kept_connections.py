"""A request over a connection that its client keeps open, as it is told: which connection, and who asked no rule."""

from dataclasses import replace

from kflab.dataplane.packets import RequestTrace
from kflab.lab.choosers import Wired
from kflab.lab.records import Record


def _is_kept(wired: Wired, one: Record) -> bool:
    return bool(wired.stream.connections and dict(one.extra).get("kept"))


def kept_port(wired: Wired, one: Record) -> int:
    """The source port of the open connection that a request went over; 0 for one that opened its own."""
    return dict(one.extra).get("kept_ports", 0) if _is_kept(wired, one) else 0


def over_kept(trace: RequestTrace, wired: Wired, one: Record) -> RequestTrace:
    """Say at the hop where conntrack decides since when the connection is open."""
    if not _is_kept(wired, one):
        return trace
    opened_s = dict(one.extra)["opened_ns"] / 1e9
    why = f"conntrack: over the connection opened at {opened_s:.1f} s; no rule is asked, it stays on its pod"
    hops = tuple(replace(hop, why=why) if hop.mover == "conntrack" else hop for hop in trace.hops)
    return replace(trace, hops=hops)
