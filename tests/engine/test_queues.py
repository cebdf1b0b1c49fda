"""The queue recursion against the sentence that defines it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kflab.engine.queues import order_by_arrival, serve

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=40)


@given(rows=ROWS, backlog=st.lists(st.integers(0, 60), min_size=4, max_size=4), scale=st.sampled_from((1, 10**12)))
def test_first_come_first_served(rows: list[tuple[int, int, int]], backlog: list[int], scale: int) -> None:
    rows = sorted(rows)
    workers, arrivals, services = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    busy = np.array(backlog, dtype=np.int64) * scale
    expected, free = [], busy.tolist()
    for worker, arrival, service in rows:
        free[worker] = max(free[worker], arrival * scale) + service * scale
        expected.append(free[worker])
    assert serve(workers, arrivals * scale, services * scale, busy).tolist() == expected
    assert busy.tolist() == free


@given(seed=st.integers(0, 50), n_workers=st.sampled_from((1, 5, 70_000)), span=st.sampled_from((100, 10**8)))
def test_order(seed: int, n_workers: int, span: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    workers = generator.integers(0, n_workers, 3000)
    arrivals = generator.integers(0, span, 3000) + 10**15
    streams, numbers = generator.integers(0, 3, 3000), generator.permutation(3000)
    order = order_by_arrival(workers, arrivals, lambda rows: (streams[rows], numbers[rows]))
    assert (order == np.lexsort((numbers, streams, arrivals, workers))).all()
