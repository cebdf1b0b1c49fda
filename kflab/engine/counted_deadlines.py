"""Counted spans of clients with deadlines or retries: counted as long as no deadline passes and nothing fails.

Nothing fails in a counted span, so there is nothing to try again, and a deadline that is kept changes nothing. When a
request will miss its deadline is known from the moment at which its server accepts it: the span ends at the first
deadline that is missed, and what follows, retries too, is followed. Slabs are short enough that no deadline passes in
the slab in which its request was accepted.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.deadlines import deadlines
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.retrying import attempt_of

if TYPE_CHECKING:
    from kflab.engine.engine import Engine
    from kflab.engine.express import Express
    from kflab.engine.steps import Steps


def longest_slab_ns(steps: "Steps") -> int:
    """Longest slab in which no deadline of a request passes that is accepted in it; 0 or less where there is none.

    Such a request began at most its way to the server before the slab did.
    """
    paths, timing = steps.paths, steps.timing
    if not paths.any_deadline:
        return NEVER
    hops = 2 * max(timing.same_node_ns, timing.cross_node_ns)
    way: int = int(paths.to_node[paths.deadlines].max()) + timing.nginx_ns + hops
    return int(np.minimum(paths.timeout, paths.attempt_timeout).min()) - way


def obstacles(engine: "Engine") -> Iterator[str]:
    """What stands against counting requests of clients with deadlines or retries, now."""
    steps, paths = engine.steps, engine.steps.paths
    if not paths.any_deadline and not paths.any_retry:
        return
    if longest_slab_ns(steps) <= 0:
        yield "a client gives up sooner than a request can reach its pod"
    m, live = steps.memory.flights.m, steps.memory.flights.due_before(NEVER)
    mine = live[paths.retries[m[Col.STREAM, live]]]
    failed = (m[Col.STAGE, mine] == Stage.ANSWER) & ((m[Col.STATUS, mine] < 200) | (m[Col.STATUS, mine] >= 400))
    if (failed | (attempt_of(m[Col.NUMBER, mine]) > 0)).any():
        yield "a client tries again"
    if _first_in_flight(steps) < NEVER:
        yield "a client is about to give a request up"


def first_missed_ns(steps: "Steps", settled: "list[Express]") -> int:
    """The first deadline that will be missed; NEVER where none is known.

    Args:
        steps: The engine's steps.
        settled: Requests whose servers accepted them in the slab that has just run, their finish known.
    """
    paths, first = steps.paths, _first_in_flight(steps)
    for express in settled if paths.any_deadline else ():
        if paths.deadlines[express.stream]:
            left = min(int(paths.timeout[express.stream]), int(paths.attempt_timeout[express.stream]))
            missed = express.starts[express.finishes > express.starts + left]
            first = min(first, int(missed.min()) + left) if len(missed) else first
    return first


def _first_in_flight(steps: "Steps") -> int:
    """The first deadline that a row in flight will miss."""
    m, live = steps.memory.flights.m, steps.memory.flights.due_before(NEVER)
    rows = live[(m[Col.STAGE, live] == Stage.ANSWER) & steps.paths.deadlines[m[Col.STREAM, live]]]
    times = deadlines(steps, rows)
    missed = times[times < m[Col.DUE, rows]]
    return int(missed.min()) if len(missed) else NEVER
