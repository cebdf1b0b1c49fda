"""Nodes whose packets go nowhere: no power, or cut off from all others.

Between two places of which one is cut off nothing passes, not even an ICMP error: a SYN is sent again until the caller
gives up, an open connection is silent until the caller's read timeout (lifecycle.md 3, "Node dead"). Inside one place
packets pass as ever. A request that was under way across a cut link is given up at its timeout even if the link heals
before: TCP's retransmissions are not modelled.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kflab.engine.memory import Col
from kflab.engine.types import Answer, Int64Array

if TYPE_CHECKING:
    from kflab.engine.step_state import Rows
    from kflab.engine.steps import Steps

Cut = NDArray[np.bool_]
"""[places + 1] -> whether the place is cut off; the last entry, to which -1 wraps, stands for all others."""


def with_place(cut: Cut | None, place: int, off: bool) -> Cut | None:
    """The table with one place changed; None when no place is cut off."""
    old = np.zeros(1, dtype=bool) if cut is None else cut
    new = np.zeros(max(len(old), place + 2), dtype=bool)
    new[: len(old)] = old
    new[place] = off
    return new if new.any() else None


def off(cut: Cut, places: Int64Array) -> NDArray[np.bool_]:
    """Whether places are cut off."""
    found: NDArray[np.bool_] = cut[np.minimum(places, len(cut) - 1)]
    return found


def lost_between(cut: Cut, a: Int64Array, b: Int64Array) -> NDArray[np.bool_]:
    """Whether packets between pairs of places are lost."""
    lost: NDArray[np.bool_] = (a != b) & (off(cut, a) | off(cut, b))
    return lost


def lost_between_two(cut: Cut | None, a: int, b: int) -> bool:
    """`lost_between` for one pair."""
    if cut is None or a == b:
        return False
    last = len(cut) - 1
    return bool(cut[min(a, last)]) or bool(cut[min(b, last)])


def without_lost(steps: "Steps", rows: "Rows") -> "Rows":
    """Let clients outside wait in vain where the node they come to is cut off; return the other rows."""
    assert steps.cut is not None
    m = steps.memory.flights.m
    lost = off(steps.cut, m[Col.NODE, rows]) & ~steps.paths.inside[m[Col.STREAM, rows]]
    gone = rows[lost]
    steps.turned_away(gone, np.full(len(gone), Answer.TIMEOUT), np.zeros(len(gone), dtype=np.int64))
    left: Rows = rows[~lost]
    return left
