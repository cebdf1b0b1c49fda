"""The calls that were made for a request: found among the rows that are kept, and opened with it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.engine.calls import outer_number
from kflab.lab.records import Record, record, status_text

if TYPE_CHECKING:
    from kflab.lab.running import Lab

SAID = "calls between pods: that every request makes them, and their order, are assumed"

NO_LOOKUP = "the DNS lookup before a call"


def calls_for(lab: "Lab", one: Record) -> tuple[Record, ...]:
    """Find the calls made for a request, and for those in turn, in order of start; () where no row is kept."""
    inner = lab.wiring.inner
    below = np.array(sorted(inner.below(one.stream)), dtype=np.int64)
    if not len(below):
        return ()
    from_outside = one.stream not in inner.outer
    found = []
    for rows in lab.sampler.recent_batches():
        if not len(rows) or int(rows.finish_ns[-1]) < one.start_ns:
            break
        numbers = outer_number(rows.number) if from_outside else rows.number
        mine = np.flatnonzero((numbers == one.number) & np.isin(rows.stream, below))
        found += [record(rows, i) for i in mine.tolist()]
    return tuple(sorted(found, key=lambda call: (call.start_ns, call.stream, call.number)))


def calls_among(lab: "Lab", one: Record, records: Sequence[Record]) -> tuple[Record, ...]:
    """The same, out of records that somebody holds."""
    inner = lab.wiring.inner
    below, from_outside = inner.below(one.stream), one.stream not in inner.outer
    mine = [
        call for call in records
        if call.stream in below and (outer_number(call.number) if from_outside else call.number) == one.number
    ]  # fmt: skip
    return tuple(sorted(mine, key=lambda call: (call.start_ns, call.stream, call.number)))


def called_by_name(trace: RequestTrace, name: str) -> RequestTrace:
    """Say of a call that its Service's address is taken as known: names are not looked up by traffic."""
    hops = [
        replace(hop, why=f"{name} is {hop.after.dst}; looking the name up is not modelled")
        if hop.number == 1 and hop.after is not None else hop
        for hop in trace.hops
    ]  # fmt: skip
    return replace(trace, hops=tuple(hops), not_modelled=(*trace.not_modelled, NO_LOOKUP))


def with_calls(lab: "Lab", trace: RequestTrace, one: Record, calls: Sequence[Record]) -> RequestTrace:
    """Append the hops of the calls to those of the request they were made for, each call after its own request."""
    if not calls:
        return trace
    hops = list(trace.hops)
    last = max((hop.number for hop in hops), default=0)
    for hop in _hops(lab, one, calls):
        if hop.number:
            last += 1
            hop = replace(hop, number=last)
        hops.append(hop)
    return replace(trace, hops=tuple(hops), not_modelled=(*trace.not_modelled, NO_LOOKUP, SAID))


def _hops(lab: "Lab", one: Record, calls: Sequence[Record]) -> Iterator[Hop]:
    """A sentence for each call of a request, then the call's hops, then what was called for it."""
    outer = lab.wiring.inner.outer
    for call in calls:
        if outer[call.stream] != one.stream or (one.stream in outer and call.number != one.number):
            continue
        trace = lab.reopener.open_record(call)
        entry = lab.wiring.wired[call.stream].entry
        name = status_text(call.status)
        callee = entry.label.rpartition(" ")[2]
        why = f"calls {callee} at {call.start_ns / 1e9:.4f} s: {name} in {call.latency_ns / 1e6:.1f} ms"
        where = trace.hops[0].where if trace.hops else trace.source
        yield Hop(0, where, why=why, t_ns=call.start_ns, outcome="" if call.ok else name)
        yield from trace.hops
        yield from _hops(lab, call, calls)
