"""NGINX's scores of peers (see `ewma`) in the event loop: a try picks by them, a request's end moves them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.memory import NEVER, Col
from kflab.engine.types import Answer, Behaviour, Int64Array, Pick

if TYPE_CHECKING:
    from kflab.engine.steps import Steps

_MS = 1_000_000


def picked(steps: "Steps", flight: list[int], chooser: int, servers: Sequence[int], t_ns: int) -> int:
    """Place of the peer for a request's next try; writes its scores down."""
    tries = flight[Col.TRIES]
    tried = {*flight[Col.SERVER0 : Col.SERVER0 + tries], flight[Col.LOST_SERVER] - 1}
    u32 = (flight[Col.BACKEND_WORD] & (1 << 64) - 1) >> 32
    place, flight[Col.LOADS0 + tries + 1] = steps.memory.scores.take(chooser, servers, tried, u32, t_ns)
    return place


def over_ns(steps: "Steps", flight: list[int]) -> int:
    """When NGINX is rid of a request that moves a score, as far as that is known; else `NEVER`."""
    last, out = flight[Col.TRIES] - 1, flight[Col.OUT]
    if last < 0 or not 0 < out < NEVER or flight[Col.SERVER0 + last] < 0:
        return NEVER
    # Where the client's connection was lost on the way NGINX moves no score, though it is out from then on.
    by_nginx = flight[Col.STATUS] > 0 and flight[Col.ANSWER0 + last] != Answer.NONE
    known = by_nginx or (flight[Col.STATUS] == -Answer.GAVE_UP and out == flight[Col.DUE])
    return out if known and _chooser(steps, flight) >= 0 else NEVER


def _chooser(steps: "Steps", flight: list[int]) -> int:
    chooser = steps.paths.upstream_of.get((flight[Col.STREAM], flight[Col.INGRESS]), -1)
    return chooser if chooser >= 0 and steps.choosers.pick[chooser] == Pick.EWMA else -1


def with_over(steps: "Steps", rows: Int64Array, end_ns: int) -> Int64Array:
    """Add to the rows that the event loop takes those that NGINX is rid of in this slab."""
    m, used = steps.memory.flights.m, steps.memory.flights.used
    out = m[Col.OUT, :used]
    due = (out >= max(1, steps.begin_ns)) & (out < end_ns) & (m[Col.TRIES, :used] > 0) & (m[Col.DUE, :used] != NEVER)
    due[rows] = False
    return np.concatenate((rows, np.flatnonzero(due)))


def note_over(steps: "Steps", flight: list[int], t_ns: int) -> None:
    """NGINX is rid of a request now, `t_ns`: the score of the last peer moves."""
    last, ingress = flight[Col.TRIES] - 1, flight[Col.INGRESS]
    if steps.memory.behaviour[ingress] == Behaviour.LISTENS:
        took_ms = t_ns // _MS - flight[Col.TRY_START0 + last] // _MS
        steps.memory.scores.heard(_chooser(steps, flight), flight[Col.SERVER0 + last], took_ms, t_ns)


def process_ended(steps: "Steps", server: int) -> None:
    """A server's process is gone: if it is NGINX, its scores are."""
    scores = steps.memory.scores
    for (_, ingress), chooser in steps.paths.upstream_of.items():
        if ingress == server and chooser in scores.dictionary:
            scores.forget(scores.dictionary[chooser])
