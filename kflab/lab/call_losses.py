"""Requests that failed because a call behind them failed: the call's try stands for them on bills.

The chain of a failed call ends at the one that met something itself (its socket's error); those above it answered 500
one after another. The last such ending before the request from outside was over is the one that decided it.
"""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.calls import FAILED, TRY_BITS
from kflab.engine.types import Finished, Int64Array
from kflab.lab.retried import joined, replaced

if TYPE_CHECKING:
    from kflab.lab.call_wiring import CallWiring

KEPT_NS = 1_000_000_000
"""How long an ending of a call is remembered, simulated: who waits for it knows some hops later."""


class CallLosses:
    """What calls met lately.

    Args:
        inner: Whose calls they are.
    """

    def __init__(self, inner: "CallWiring") -> None:
        self._inner = inner
        self._met: Finished | None = None

    def billed(self, rows: Finished, calls: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Finished:
        """Leave calls out, and put the call that failed it in the place of each request that failed so.

        Args:
            rows: Finished rows, in order of finish.
            calls: (n,) which of them are calls.

        Returns:
            One row per request that is no call; `extra` says what its client was told, and when it began and ended.
        """
        met = rows.only(calls & (rows.status <= 0))
        if self._met is not None:
            met = joined(self._met, met)
        fronts = rows.only(~calls)
        extra = {"told": fronts.status.astype(np.int64), "began_ns": fronts.start_ns, "ended_ns": fronts.finish_ns}
        failed = np.flatnonzero(fronts.status == FAILED)
        if len(failed) and len(met):
            keys = self._keys(self._inner.roots()[met.stream], met.number >> TRY_BITS)
            order = np.lexsort((met.finish_ns, keys))
            wanted = self._keys(fronts.stream[failed].astype(np.int64), fronts.number[failed])
            place = np.maximum(np.searchsorted(keys[order], wanted, side="right") - 1, 0)
            there = keys[order][place] == wanted
            fronts = replaced(fronts, failed[there], met, order[place[there]])
        self._met = met.only(met.finish_ns > int(rows.finish_ns.max(initial=0)) - KEPT_NS) if len(met) else None
        fronts.extra.update(extra)
        return fronts

    def _keys(self, streams: Int64Array, numbers: Int64Array) -> Int64Array:
        return numbers * len(self._inner.roots()) + streams
