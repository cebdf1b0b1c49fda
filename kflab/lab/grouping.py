"""Rows of equal columns put together, exactly and without a loop per row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kflab.engine.types import Int64Array

_ROOM = 1 << 62


def grouped(columns: Sequence[NDArray[Any]]) -> list[Int64Array]:
    """Find the rows that are alike in every column.

    Args:
        columns: Integer or boolean arrays of one length, (n,) each; n at least 1.

    Returns:
        Per kind of row the places of its rows, ascending; kinds in order of their first row.
    """
    keys: Int64Array = np.zeros(len(columns[0]), dtype=np.int64)
    size = 1
    for column in columns:
        values = column.astype(np.int64, copy=False)
        low, high = int(values.min()), int(values.max())
        if low == high:
            continue
        span = high - low + 1
        if span > len(values):
            distinct, values = np.unique(values, return_inverse=True)
            low, span = 0, len(distinct)
        if size * span >= _ROOM:
            distinct, keys = np.unique(keys, return_inverse=True)
            size = len(distinct)
        keys = keys * span + (values - low)
        size *= span
    if size == 1:
        return [np.arange(len(keys))]
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    return sorted(np.split(order, cuts), key=lambda places: int(places[0]))
