"""Rows kept for percentiles are bounded in time as well as in number."""

import numpy as np

from kflab.engine.finished import KEPT_LATENCY_NS, FinishedRows
from kflab.engine.memory import N_COLS, Col


def test_a_slow_stream_is_not_kept_for_hours() -> None:
    finished = FinishedRows()
    for minute in range(120):
        rows = np.zeros((N_COLS, 1), dtype=np.int64)
        rows[Col.DUE], rows[Col.STATUS] = minute * 60_000_000_000, 200
        finished.add(rows, minute * 60_000_000_000 + 1)
        finished.take()
    assert len(finished._latencies) <= 3
    end = 119 * 60_000_000_000 + 1
    assert finished.window(end - KEPT_LATENCY_NS // 2, end).n == 1
