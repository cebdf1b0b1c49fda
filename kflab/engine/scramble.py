"""Random words for things that have no draw of their own, by their addresses."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kflab.engine.types import UInt64Array

IntArray = NDArray[np.int64] | NDArray[np.int32]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
"""So that a word of zeros is scrambled as well."""


def words(salt: int, *parts: IntArray) -> UInt64Array:
    """A word for each address, from a salt of the run's seed.

    Args:
        salt: From 0 to 2⁶⁴ - 1.
        parts: The numbers that make up an address, arrays of one shape.
    """
    mixed = np.full(parts[0].shape, salt, dtype=np.uint64)
    for part in parts:
        mixed = _mix((mixed ^ part.astype(np.int64).view(np.uint64)) + _STEP)
    return mixed


def _mix(x: UInt64Array) -> UInt64Array:
    """The finaliser of splitmix64."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)
