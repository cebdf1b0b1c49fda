"""Clients that send a request again: when, after how long, and how often in all.

An attempt is a row like any other: it goes its whole way anew, with draws of its own, over a new connection (or
another one that its client keeps). Its number is the request's with the attempt in the bits above (`attempt_of`), so
every attempt has its own address in the draws and in records; `Col.NEXT` of a row says when the one after it begins.

Before retry n the client waits a random time below min(base × 2ⁿ⁻¹, max): "full jitter" (AWS Architecture Blog,
Exponential Backoff And Jitter; Envoy source/common/common/backoff_strategy.cc, JitteredExponentialBackOffStrategy, with
25 ms and 250 ms unless set, which are the defaults here).

A retry budget is the one of Gateway API (BackendTrafficPolicy, retryConstraint: budget.percent of the requests in
budget.interval, minRetryRate), counted as Finagle does (finagle-core service/RetryBudget.scala): so many percent of the
requests on top of the minimum rate. Simplified: its window slides, Finagle's goes by tenths.

Simplified: a retry that could begin only after the request's whole deadline is not made, the request fails at once.
"""

from bisect import bisect_right, insort
from dataclasses import field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kflab.engine.bins import Count
from kflab.engine.memory import N_COLS, Col, Stage
from kflab.engine.types import Answer, Int64Array, Retry
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.engine.eventwise import Eventwise
    from kflab.engine.steps import Steps

ATTEMPT_SHIFT = 40
"""Bits of a request's number below those of its attempt."""

_S = 1_000_000_000

Number = TypeVar("Number", int, Int64Array)


def attempt_of(number: Number) -> Number:
    """Which attempt of its request a row is, from 0."""
    return number >> ATTEMPT_SHIFT


def request_of(number: Number) -> Number:
    """The number of the request that a row is an attempt of."""
    return number & ((1 << ATTEMPT_SHIFT) - 1)


@dataclass(slots=True)
class RetryBudget:
    """What one client has sent and sent again."""

    starts: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """When the requests of the last interval began, ascending."""
    spent: list[int] = field(default_factory=list)
    """When its retries were decided, ascending."""

    def deposit(self, starts: Int64Array, since_ns: int) -> None:
        """Requests began, later than all before; those until `since_ns` matter no more."""
        old = int(np.searchsorted(self.starts, since_ns, side="right"))
        self.starts = np.concatenate((self.starts[old:], starts))

    def withdraw(self, t_ns: int, retry: Retry) -> bool:
        """Take one retry, if the budget has it."""
        since = t_ns - retry.budget_interval_ns
        del self.spent[: bisect_right(self.spent, since)]
        first, last = np.searchsorted(self.starts, (since, t_ns), side="right").tolist()
        # In units of 1 % of a retry × 1 s: whole numbers.
        have = retry.budget_percent * (last - first) * _S + 100 * retry.budget_min_rate * retry.budget_interval_ns
        if (len(self.spent) + 1) * 100 * _S > have:
            return False
        insort(self.spent, t_ns)
        return True


def note_starts(steps: "Steps", stream: int, starts: Int64Array, now_ns: int) -> None:
    """Requests of a stream begin, in the slab that begins now: its client's budget grows."""
    retry = steps.paths.retry[stream]
    if retry is not None and retry.budget_percent >= 0:
        budget = steps.memory.budgets.setdefault(stream, RetryBudget())
        budget.deposit(starts, now_ns - retry.budget_interval_ns)


def heard(slab: "Eventwise", flight: list[int]) -> None:
    """The client knows how an attempt ended: it may send the request again."""
    steps, paths = slab.steps, slab.steps.paths
    stream, t_ns = flight[Col.STREAM], flight[Col.DUE]
    retry, made = paths.retry[stream], attempt_of(flight[Col.NUMBER])
    if retry is None or made >= retry.attempts or not _is_retried(steps, retry, flight):
        return
    number = flight[Col.NUMBER] + (1 << ATTEMPT_SHIFT)
    words = steps.draws.rows(stream, np.array([number], dtype=np.int64))[0]
    bound = min(retry.backoff_ns << made, max(retry.backoff_ns, retry.backoff_max_ns))
    start = t_ns + (int(words[0] >> np.uint64(32)) * bound >> 32)
    first = flight[Col.START] - flight[Col.SINCE]
    if start - first >= paths.timeout[stream]:
        return
    if retry.budget_percent >= 0:
        budget = steps.memory.budgets.setdefault(stream, RetryBudget())
        if not budget.withdraw(t_ns, retry):
            return
    flight[Col.NEXT] = start
    fresh = [0] * N_COLS
    fresh[Col.NODE] = fresh[Col.INGRESS] = -1
    fresh[Col.SERVER0 : Col.SERVER0 + 3] = fresh[Col.WORKER0 : Col.WORKER0 + 3] = [-1, -1, -1]
    fresh[Col.STREAM], fresh[Col.NUMBER], fresh[Col.START], fresh[Col.SINCE] = stream, number, start, start - first
    fresh[Col.ARRIVAL_WORD : Col.SERVICE_WORD + 1] = words.view(np.int64).tolist()
    if paths.balanced[stream]:
        fresh[Col.STAGE], fresh[Col.DUE] = Stage.LB, start + int(paths.to_lb[stream])
    else:
        fresh[Col.STAGE], fresh[Col.DUE] = Stage.NODE, start + int(paths.to_node[stream])
        fresh[Col.NODE] = int(paths.place[stream])
    steps.bins.add(Count.STREAM_AGAIN, np.array([stream]), np.array([start]))
    slab.enter(fresh)


def _is_retried(steps: "Steps", retry: Retry, flight: list[int]) -> bool:
    """Whether an attempt that ended so is sent again."""
    status, stream = flight[Col.STATUS], flight[Col.STREAM]
    if status == -Answer.CLIENT_GONE:
        return False
    if status > 0:
        return status in retry.statuses
    if status in (-Answer.REFUSED, -Answer.REJECTED, -Answer.UNREACHABLE):
        return retry.connect_failure
    if status == -Answer.RESET:
        return retry.reset
    if status == -Answer.GAVE_UP:  # not where the whole request's deadline is what passed
        over = flight[Col.DUE] - flight[Col.START] + flight[Col.SINCE] >= steps.paths.timeout[stream]
        return retry.timeout and not over
    # Who waited no longer than for a connection got none.
    waited = flight[Col.DUE] - flight[Col.START]
    dialling = not flight[Col.KEPT] and waited <= steps.paths.dial_patience[stream]
    return retry.timeout or (dialling and retry.connect_failure)
