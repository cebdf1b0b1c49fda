"""Counted spans of clients with deadlines and retries: the numbers of flows, also where a deadline ends the span."""

from collections.abc import Iterator

import pytest
from small_path import MakeEngine

from kflab.engine.bins import Count
from kflab.engine.engine import Engine
from kflab.engine.memory import NEVER
from kflab.engine.types import Behaviour, Retry

MS = 1_000_000
BEGIN, END, UNTIL = 300 * MS, 900 * MS, 1500 * MS
RETRY = Retry(3, connect_failure=True, timeout=True, budget_percent=20)


def cells() -> Iterator[int]:
    """Instants at which it is decided anew whether to count."""
    yield from range(BEGIN, END, 50 * MS)


def run(engine: Engine, counting: bool, more_stops: tuple[int, ...] = ()) -> Engine:
    """Count where it can be, decided every 50 ms; a pod crashes at the end."""
    engine.advance(BEGIN)
    for cell_ns in cells():
        if counting:
            engine.count_requests(not engine.may_count())
        for stop_ns in (*(stop for stop in more_stops if 0 < stop - cell_ns < 50 * MS), cell_ns + 50 * MS):
            engine.advance(stop_ns)
    engine.behave(3, Behaviour.REFUSES, END)
    engine.advance(UNTIL)
    return engine


def assert_same_counts(counts: Engine, flows: Engine) -> None:
    for name in Count:
        first = 2 if name == Count.SERVER_OK else 0  # what ingress servers handed on is counted where there are no rows
        assert (counts.bins.series(name, 0, 15)[:, first:] == flows.bins.series(name, 0, 15)[:, first:]).all(), name
    assert counts.window(100 * MS, UNTIL) == flows.window(100 * MS, UNTIL)
    assert counts.in_flight == flows.in_flight


@pytest.mark.parametrize("retry", [None, RETRY])
@pytest.mark.parametrize(("timeout_ms", "least_ms"), [(3000, 600), (12, 300), (7, 20)])
def test_clients_with_deadlines_count_as_flows_do(
    make_engine: MakeEngine, retry: Retry | None, timeout_ms: int, least_ms: int
) -> None:
    """A deadline that is never missed, one that is now and then, and one that many miss."""
    settings = {"rate_rps": 400.0, "workers": 4, "attempt_timeout_ns": timeout_ms * MS, "retry": retry}
    flows, counts, again = (
        run(make_engine(**settings), counting, stops)
        for counting, stops in ((False, ()), (True, ()), (True, (311 * MS, 333_333_333, 499 * MS)))
    )
    assert_same_counts(counts, flows)
    assert counts.counted.counted_ns(UNTIL) >= least_ms * MS
    assert flows.bins.totals(Count.STREAM_FAILED).sum() > 0 or retry is not None
    assert (flows.bins.totals(Count.STREAM_AGAIN).sum() > 0) == (retry is not None and timeout_ms < 3000)
    assert again.digest() == counts.digest()
    assert again.counted.spans == counts.counted.spans


def test_a_span_ends_at_the_first_deadline_that_is_missed(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=400.0, workers=4, timeout_ns=12 * MS)
    engine.advance(BEGIN)
    assert engine.may_count() == ""
    engine.count_requests(True)
    engine.advance(END)
    flows = make_engine(rate_rps=400.0, workers=4, timeout_ns=12 * MS)
    flows.advance(END)
    rows = flows.take_finished()
    gave_up = rows.finish_ns[(rows.status < 0) & (rows.finish_ns >= BEGIN)]
    assert engine.counted.spans[0] == (BEGIN, int(gave_up.min()))
    assert not engine.counted.on
    assert engine.counted.stops_ns < NEVER


def test_a_request_that_is_about_to_be_given_up_is_named(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=2000.0, workers=1, timeout_ns=25 * MS)
    engine.advance(BEGIN)
    assert engine.may_count() == "a client is about to give a request up"
    engine = make_engine(retry=Retry(3, statuses=frozenset({502}), backoff_ns=500 * MS, backoff_max_ns=500 * MS))
    for behaviour, t_ns in ((Behaviour.REFUSES, BEGIN - 50 * MS), (Behaviour.LISTENS, BEGIN)):
        for pod in (2, 3, 4):
            engine.behave(pod, behaviour, t_ns)
    engine.advance(BEGIN + 1)
    assert engine.may_count() == "a client tries again"
    assert "sooner" in make_engine(timeout_ns=MS // 5).may_count()
