"""Attempts of one request, put together: on bills a request stands once, with the attempt that cost it most.

The attempts that a client made anew are rows of their own (`engine.retrying`). A request that ended well in the end
was slowed by the longest of those before; one that failed is what its last attempt met.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from kflab.dataplane.packets import Hop, RequestTrace
from kflab.engine.retrying import ATTEMPT_SHIFT, attempt_of, request_of
from kflab.engine.types import Finished, Int64Array
from kflab.lab.records import Record, record, status_text

if TYPE_CHECKING:
    from kflab.lab.running import Lab


def columns_of(rows: Finished) -> list[str]:
    """Names of the columns that are no extra ones."""
    return [one.name for one in fields(rows) if one.name != "extra"]


def joined(first: Finished, then: Finished) -> Finished:
    """Rows of two sets that have the same extra columns."""
    columns = {name: np.concatenate([getattr(first, name), getattr(then, name)]) for name in columns_of(first)}
    extra = {name: np.concatenate([column, then.extra[name]]) for name, column in first.extra.items()}
    return Finished(**columns, extra=extra)


def replaced(rows: Finished, at: Int64Array, by: Finished, places: Int64Array) -> Finished:
    """Copy rows with those `at` some places taken from others."""
    columns = {name: getattr(rows, name).copy() for name in columns_of(rows)}
    extra = {name: column.copy() for name, column in rows.extra.items()}
    for name, column in columns.items():
        column[at] = getattr(by, name)[places]
    for name, column in extra.items():
        column[at] = by.extra[name][places]
    return Finished(**columns, extra=extra)


class Attempts:
    """Attempts of requests that are not over."""

    def __init__(self) -> None:
        self._pending: Finished | None = None

    def billed(self, rows: Finished) -> Finished:
        """Leave out attempts that others followed, and put the longest of them in the place of who was saved later.

        Args:
            rows: Finished rows, none of them calls between pods; `extra` may say what a client was told.

        Returns:
            One row per request that is over; where there are attempts `extra` says what the client was told in the end
            (`told`), when the request began and ended (`began_ns`, `ended_ns`) and how often it was sent (`sent`).
        """
        again = rows.extra["next_ns"] > 0
        if self._pending is None and not again.any():
            return rows
        rows = Finished(**{name: getattr(rows, name) for name in columns_of(rows)}, extra=dict(rows.extra))
        rows.extra.setdefault("told", rows.status.astype(np.int64))
        rows.extra["began_ns"] = rows.start_ns - rows.extra["since_ns"]
        rows.extra["ended_ns"] = rows.finish_ns
        rows.extra["sent"] = attempt_of(rows.number) + 1
        waiting, over = rows.only(again), rows.only(~again)
        if self._pending is not None:
            waiting = joined(self._pending, waiting)
        told = {name: over.extra[name] for name in ("told", "began_ns", "ended_ns", "sent")}
        fine = np.flatnonzero((over.extra["sent"] > 1) & (over.status >= 200) & (over.status < 400))
        if len(fine) and len(waiting):
            known = _keys(waiting)
            order = np.lexsort((waiting.finish_ns - waiting.start_ns, known))
            wanted = _keys(over)[fine]
            at = np.maximum(np.searchsorted(known[order], wanted, side="right") - 1, 0)
            there = known[order][at] == wanted
            over = replaced(over, fine[there], waiting, order[at[there]])
            over.extra.update(told)
        left = waiting.only(~np.isin(_keys(waiting), _keys(rows.only(~again))))
        self._pending = left if len(left) else None
        return over


def _keys(rows: Finished) -> Int64Array:
    keys: Int64Array = rows.stream.astype(np.int64) << ATTEMPT_SHIFT | request_of(rows.number)
    return keys


def attempts_before(lab: "Lab", one: Record) -> tuple[Record, ...]:
    """Find the attempts that came before the one on record, in order; () where no row is kept."""
    if not attempt_of(one.number):
        return ()
    found = []
    for rows in lab.sampler.recent_batches():
        if not len(rows) or int(rows.finish_ns[-1]) < one.began_ns:
            break
        same = (rows.stream == one.stream) & (request_of(rows.number) == request_of(one.number))
        found += [record(rows, i) for i in np.flatnonzero(same & (rows.number < one.number)).tolist()]
    return tuple(sorted(found, key=lambda before: before.number))


def with_attempts(lab: "Lab", trace: RequestTrace, one: Record, before: Sequence[Record]) -> RequestTrace:
    """Say before a request's hops what its earlier attempts met, and count them into its latency."""
    made = attempt_of(one.number)
    if not made:
        return trace
    source = trace.hops[0].where if trace.hops else trace.source
    hops = (*_told(lab, source, before), Hop(0, source, why=f"attempt {made + 1} of {made + 1}:", t_ns=one.start_ns))
    return replace(trace, hops=(*hops, *trace.hops), latency_ns=one.latency_ns)


def _told(lab: "Lab", source: str, before: Sequence[Record]) -> Iterator[Hop]:
    for each in before:
        name = status_text(each.status)
        whom = lab.reopener.server_name(each.servers[-1]) if each.servers and each.servers[-1] >= 0 else ""
        at = f", {whom}" if whom else ""
        lasted, waited = each.finish_ns - each.start_ns, dict(each.extra)["next_ns"] - each.finish_ns
        why = (
            f"attempt {attempt_of(each.number) + 1} at {each.start_ns / 1e9:.4f} s{at}: {name} after "
            f"{lasted / 1e6:.1f} ms; the client waits {waited / 1e6:.1f} ms and tries again"
        )
        yield Hop(0, source, why=why, t_ns=each.start_ns, outcome=name)
