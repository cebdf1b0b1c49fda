"""Single-server FIFO queues, exact in integers.

Each worker serves its requests in order of arrival: finish_i = max(arrive_i, finish_{i-1}) + service_i. With
S_i = service_1 + … + service_i this unrolls to finish_i = S_i + max_{j ≤ i}(arrive_j - S_{j-1}): a cumulative sum and a
cumulative maximum, the recursion of Lindley (1952) in (max, +) form, here for all workers at once.
"""

import numpy as np

from kflab.engine.types import Int64Array

_U16 = 1 << 16


def stable_order(keys: Int64Array, bits: int) -> Int64Array:
    """Sort non-negative keys below 2^bits, stable: least-significant-digit radix, numpy's own for 16-bit digits."""
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(16, bits, 16):
        digits = (keys >> shift).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
    return order


def order_by_arrival(workers: Int64Array, arrivals: Int64Array, streams: Int64Array, numbers: Int64Array) -> Int64Array:
    """Order rows by (worker, arrival, stream, number)."""
    if len(workers) < 512:
        return np.lexsort((numbers, streams, arrivals, workers))
    first, last = int(arrivals.min()), int(arrivals.max())
    order = stable_order(arrivals - first, (last - first).bit_length())
    n_bits = int(workers.max()).bit_length()
    by_worker = workers[order]
    order = order[stable_order(by_worker, n_bits)]
    same = (np.diff(arrivals[order]) == 0) & (np.diff(workers[order]) == 0)
    return fix_ties(order, np.flatnonzero(same), streams, numbers)


def fix_ties(order: Int64Array, ties: Int64Array, streams: Int64Array, numbers: Int64Array) -> Int64Array:
    """Order rows that tie by (stream, number).

    Args:
        order: Row indices, sorted but for ties.
        ties: Ascending positions p such that rows p and p + 1 of `order` tie.
        streams: (rows,) second key.
        numbers: (rows,) third key.
    """
    if not len(ties):
        return order
    breaks = np.flatnonzero(np.diff(ties) != 1) + 1
    for run in np.split(ties, breaks):
        begin, end = int(run[0]), int(run[-1]) + 2
        rows = order[begin:end]
        order[begin:end] = rows[np.lexsort((numbers[rows], streams[rows]))]
    return order


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
    n = len(workers)
    heads = np.flatnonzero(np.concatenate((np.ones(1, dtype=bool), workers[1:] != workers[:-1])))
    lengths = np.diff(np.append(heads, n))
    total = np.cumsum(services)
    before = total - services
    # Sums restart at each worker, so that values stay within the slab and the backlog.
    before -= np.repeat(before[heads], lengths)
    ready = arrivals.copy()
    ready[heads] = np.maximum(ready[heads], busy_until[workers[heads]])
    ready -= before
    # Lifting each worker's values above all earlier ones makes one running maximum serve them all.
    low = int(ready.min())
    span = int(ready.max()) - low + 1
    if span * len(heads) < 1 << 62:
        lift = np.repeat(np.arange(len(heads), dtype=np.int64) * span - low, lengths)
        ready += lift
        np.maximum.accumulate(ready, out=ready)
        ready -= lift
    else:
        for begin, length in zip(heads.tolist(), lengths.tolist(), strict=True):
            part = ready[begin : begin + length]
            np.maximum.accumulate(part, out=part)
    done = ready + before + services
    busy_until[workers[heads]] = done[heads + lengths - 1]
    return done
