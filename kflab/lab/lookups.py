"""What an opened request tells of its lookup, its lost SYNs and a client that went away before its connection."""

from dataclasses import replace

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.engine.types import Answer
from kflab.lab.records import Record

GIVEN = "the address was given; DNS is not asked"
"""What the walker says of the address that traffic dials."""


def after_lookup(trace: RequestTrace, one: Record, timeout_ns: int) -> RequestTrace:
    """Say before and at the first hop what the client asked DNS, and which SYN was answered."""
    extra = dict(one.extra)
    asked, lookup_ns, waited_ns = extra.get("asked", 0), extra.get("lookup_ns", 0), extra.get("waited_ns", 0)
    if not asked and not waited_ns:
        return trace
    hops, where = list(trace.hops), trace.hops[0].where
    gone = one.status == -Answer.CLIENT_GONE and (not one.servers or one.servers[0] < 0)
    unresolved, unheard = one.status == -Answer.NO_NAME, one.status == -Answer.SYN_LOST
    if unresolved:
        hops = [Hop(0, "DNS", why="no answer: the name is not resolved", outcome=trace.status, t_ns=one.finish_ns)]
    elif unheard:
        why = "every SYN of the connect timeout, or its answer, was lost"
        hops = [hops[0], Hop(0, where, why=why, outcome=trace.status, t_ns=one.finish_ns)]
    elif waited_ns and not gone:
        why = f"a SYN or its answer was lost; the one sent {waited_ns / 1e9:g} s after the first was answered"
        hops.insert(1, Hop(0, where, why=why, t_ns=one.start_ns + waited_ns))
    if asked:
        took_ns = one.latency_ns if unresolved else lookup_ns
        remark = Hop(
            0,
            where,
            mover="resolver",
            why=_words(asked, took_ns, unresolved, timeout_ns),
            t_ns=one.start_ns - lookup_ns,
        )
        hops = [remark, *(replace(hop, why=hop.why.replace(GIVEN, "DNS answered it")) for hop in hops)]
    return replace(trace, t_start_ns=one.start_ns - lookup_ns, latency_ns=one.latency_ns, hops=tuple(hops))


def ended_early(trace: RequestTrace, one: Record) -> RequestTrace:
    """Say of a request whose client went away before a packet of its connection had come anywhere how far it was."""
    if one.status != -Answer.CLIENT_GONE or (one.servers and one.servers[0] >= 0) or not trace.hops:
        return trace
    waited = dict(one.extra).get("waited_ns", 0)
    why = "its process ended before it had sent anything for this attempt"
    if not one.tries:
        why = "its process ended while it asked DNS"
    elif waited:
        why = "its process ended while it waited to send a SYN again"
    said = [hop for hop in trace.hops if hop.mover == "resolver"]
    end = Hop(0, trace.hops[0].where, why=why, outcome=trace.status, t_ns=one.finish_ns)
    return replace(trace, hops=(*said, end))


def _words(asked: int, took_ns: int, unresolved: bool, timeout_ns: int) -> str:
    names, questions, silent = (asked & 0xFF) + unresolved, asked >> 16 & 0xFF, asked >> 24
    took = f"{took_ns / 1e6:.1f} ms" if took_ns < 1_000_000_000 else f"{took_ns / 1e9:.3f} s"
    text = f"asked DNS for {names} {'name' if names == 1 else 'names'}, A and AAAA: {2 * questions} queries in {took}"
    return text + (f", {silent} × {timeout_ns / 1e9:g} s without an answer" if silent else "")
