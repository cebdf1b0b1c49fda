"""Single-server FIFO queues, exact in integers.

Each worker serves its requests in order of arrival: finish_i = max(arrive_i, finish_{i-1}) + service_i. With
S_i = service_1 + … + service_i this unrolls to finish_i = S_i + max_{j ≤ i}(arrive_j - S_{j-1}): a cumulative sum and a
cumulative maximum, the recursion of Lindley (1952) in (max, +) form, here for all workers at once.
"""

from collections.abc import Callable

import numpy as np

from kflab.engine.types import Int64Array


def stable_order(keys: Int64Array, bits: int) -> Int64Array:
    """Sort non-negative keys below 2^bits, stable: least-significant-digit radix, numpy's own for 16-bit digits."""
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(16, bits, 16):
        digits = (keys >> shift).astype(np.uint16)
        order = order.take(np.argsort(digits.take(order), kind="stable"))
    return order


_MAX_DOUBTS = 256
"""More rows in doubt than this cost more by hand than sorting by the low bits too (10 µs each)."""

TieKeys = Callable[[Int64Array], tuple[Int64Array, Int64Array]]
"""Rows → their streams and numbers; asked only about rows that tie."""


def order_by_arrival(workers: Int64Array, arrivals: Int64Array, keys: TieKeys) -> Int64Array:
    """Order rows by (worker, arrival, stream, number)."""
    n = len(workers)
    if n < 512:
        streams, numbers = keys(np.arange(n))
        return np.lexsort((numbers, streams, arrivals, workers))
    since = arrivals - int(arrivals.min())
    worker_bits = int(workers.max()).bit_length()
    # Sorting by the 16 high bits of time leaves few rows of one worker in doubt; those are put right by hand.
    bits = int(since.max()).bit_length()
    coarse = max(0, bits - 16)
    order = np.argsort((since >> coarse).astype(np.uint16), kind="stable")
    order = order.take(stable_order(workers.take(order), worker_bits))
    doubts = _doubts(order, workers, since, coarse)
    if len(doubts) > _MAX_DOUBTS and coarse:
        order = stable_order(since, bits)
        order = order.take(stable_order(workers.take(order), worker_bits))
        doubts = _doubts(order, workers, since, 0)
    if len(doubts):
        for run in np.split(doubts, np.flatnonzero(np.diff(doubts) != 1) + 1):
            begin, end = int(run[0]), int(run[-1]) + 2
            rows = order[begin:end]
            streams, numbers = keys(rows)
            order[begin:end] = rows[np.lexsort((numbers, streams, arrivals[rows]))]
    return order


def _doubts(order: Int64Array, workers: Int64Array, since: Int64Array, coarse: int) -> Int64Array:
    """Return positions p such that rows p and p + 1 of `order` have the same worker and the same coarse time."""
    times = since.take(order)
    times >>= coarse
    same: Int64Array = np.flatnonzero(times[1:] == times[:-1])
    doubts: Int64Array = same[workers[order[same]] == workers[order[same + 1]]]
    return doubts


def serve(workers: Int64Array, arrivals: Int64Array, services: Int64Array, busy_until: Int64Array) -> Int64Array:
    """Serve rows that are in order of (worker, arrival).

    Args:
        workers: (n,) index into `busy_until`, ascending.
        arrivals: (n,) ns.
        services: (n,) ns.
        busy_until: (workers,) when each worker is done with earlier work; updated in place.

    Returns:
        (n,) when each is done.
    """
    heads = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), workers[1:] != workers[:-1])))
    tails = np.append(heads[1:], len(workers)) - 1
    owners = workers.take(heads)
    total = np.cumsum(services)
    ready = arrivals - total
    ready += services
    wait = busy_until.take(owners) - arrivals.take(heads)
    ready[heads] += np.maximum(wait, 0)
    # Lifting each worker's values above all earlier ones makes one running maximum serve them all.
    span = int(ready.max()) - int(ready.min()) + 1
    if span * len(heads) < 1 << 62:
        lift = np.repeat(np.arange(len(heads), dtype=np.int64) * span, tails - heads + 1)
        ready += lift
        np.maximum.accumulate(ready, out=ready)
        ready -= lift
    else:
        for begin, end in zip(heads.tolist(), (tails + 1).tolist(), strict=True):
            part = ready[begin:end]
            np.maximum.accumulate(part, out=part)
    ready += total
    busy_until[owners] = ready.take(tails)
    return ready
