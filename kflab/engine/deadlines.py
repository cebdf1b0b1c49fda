"""Clients that wait no longer than a deadline of their own, for one attempt or for the whole request.

At the deadline the client closes its connection and nothing more happens on its side: NGINX ends its try with it and
logs 499 (ngx_http_upstream.c, ngx_http_upstream_check_broken_connection; `proxy_ignore_client_abort` is off), a pod
makes no further call for it. What a server has taken into its queue it works off all the same.

A deadline is no stage: it follows from when the attempt began, so nothing that rewrites a row's course need know of
it. A step whose time is later than the deadline is not taken, and the row ends there.

Simplified: NGINX knows at the same instant as its client, not one way later.
"""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.types import Answer, Int64Array

if TYPE_CHECKING:
    from kflab.engine.step_state import Rows, StepState


def deadlines(steps: "StepState", rows: "Rows") -> Int64Array:
    """When the clients of rows in flight give them up, ns; far away where they have no deadline."""
    m, paths = steps.memory.flights.m, steps.paths
    streams = m[Col.STREAM, rows]
    left = np.minimum(paths.attempt_timeout[streams], paths.timeout[streams] - m[Col.SINCE, rows])
    found: Int64Array = m[Col.START, rows] + left
    return found


def due_only_by_deadline(steps: "StepState", end_ns: int) -> "Rows":
    """List the rows in flight whose deadline is before `end_ns` and whose next step is not."""
    m, used = steps.memory.flights.m, steps.memory.flights.used
    waiting = np.flatnonzero((m[Col.DUE, :used] >= end_ns) & (m[Col.DUE, :used] != NEVER))
    waiting = waiting[steps.paths.deadlines[m[Col.STREAM, waiting]]]
    due: Rows = waiting[deadlines(steps, waiting) < end_ns]
    return due


def give_up_late(steps: "StepState", active: "Rows", end_ns: int) -> None:
    """End the rows whose deadline lies in the slab and before their next step; all earlier steps have been taken."""
    times = deadlines(steps, active)
    late = times < np.minimum(steps.memory.flights.m[Col.DUE, active], end_ns)
    give_up(steps, active[late], times[late])


def give_up(steps: "StepState", rows: "Rows", times: Int64Array, answer: int = Answer.GAVE_UP) -> None:
    """Let clients give up requests in flight.

    Args:
        steps: The engine's steps.
        rows: (n,) rows in flight.
        times: (n,) when, ns.
        answer: How the requests end: GAVE_UP, or CLIENT_GONE where the client itself is gone.
    """
    if not len(rows):
        return
    m = steps.memory.flights.m
    l7 = steps.paths.is_l7[m[Col.STREAM, rows]]
    nameless = (m[Col.STAGE, rows] == Stage.LOOKUP) | (m[Col.STATUS, rows] == -Answer.NO_NAME)
    early = ~l7 & (m[Col.TRIES, rows] == 0) & ~nameless
    m[Col.TRIES, rows[early]] = 1
    m[Col.TRY_START0, rows[early]] = m[Col.START, rows[early]]
    last = np.maximum(m[Col.TRIES, rows] - 1, 0)
    open_ = (m[Col.ANSWER0 + last, rows] == Answer.NONE) | (m[Col.TRY_END0 + last, rows] > times)
    open_ &= m[Col.TRIES, rows] > 0
    own, last = rows[open_], last[open_]
    m[Col.ANSWER0 + last, own] = np.where(l7[open_], Answer.NONE, answer)
    m[Col.TRY_END0 + last, own] = times[open_]
    for col in (Col.SERVED, Col.QUEUE, Col.SERVICE):
        m[col, own] = 0
    held = l7 & (m[Col.OUT, rows] > times)
    m[Col.OUT, rows[held]] = times[held]
    steps.end(rows, -answer, times)


def gives_up_at(steps: "StepState", flight: list[int]) -> int:
    """`deadlines` of one row that the event loop has."""
    paths, stream = steps.paths, flight[Col.STREAM]
    left = min(int(paths.attempt_timeout[stream]), int(paths.timeout[stream]) - flight[Col.SINCE])
    return flight[Col.START] + left


def is_over(flight: list[int], t_ns: int) -> bool:
    """Whether the client of a row that the event loop has knows at `t_ns` how it ended."""
    return flight[Col.STAGE] == Stage.ANSWER and flight[Col.DUE] <= t_ns
