"""Counted spans in which pods make calls: the numbers of flows, to the last call."""

from dataclasses import replace

import numpy as np
import pytest
from test_against_reference import MS, TIMING
from test_chains import START, STOCKS, TO_CART, TO_STOCK, make_servers, make_tree

from kflab.draws import Draws
from kflab.engine.bins import Count
from kflab.engine.engine import Engine
from kflab.engine.schedulers import Scheduler
from kflab.engine.types import Behaviour, Fan, Finished, Pick

SPAN = (300 * MS, 700 * MS)
END = 1200 * MS
INGRESSES = 2


def shop(rate: float = 300.0, workers: int = 16) -> Engine:
    """An ingress, a load balancer and a pod send requests; pods that serve them call two Services, one in turn."""
    streams = [
        replace(stream, rate_rps=rate if stream.rate_rps and not (stream.no_route or stream.front_answer) else 0.0)
        for stream in make_tree(keepalive=False, idempotent=True, tries=3, fatal=True)
    ]
    engine = Engine(Draws(3), TIMING, streams, make_servers(workers), 3)
    for chooser, fan in START.items():
        engine.learn(chooser, 0, fan)
    return engine


def run(engine: Engine, counting: bool, stops_ms: tuple[float, ...] = (), crash: int = STOCKS[0]) -> Engine:
    """Count (or not) in SPAN; a pod crashes where it ends."""
    engine.advance(SPAN[0])
    if counting:
        assert engine.may_count() == ""
        engine.count_requests(True)
    for t_ms in stops_ms:
        engine.advance(int(t_ms * MS))
    engine.advance(SPAN[1])
    engine.behave(crash, Behaviour.REFUSES, SPAN[1])
    engine.advance(END)
    return engine


def assert_same_counts(counts: Engine, flows: Engine) -> None:
    for name in Count:
        first = INGRESSES if name == Count.SERVER_OK else 0  # what they handed on is counted where there are no rows
        assert (counts.bins.totals(name)[first:] == flows.bins.totals(name)[first:]).all(), name
        assert (counts.bins.series(name, 0, 12)[:, first:] == flows.bins.series(name, 0, 12)[:, first:]).all(), name
    for chooser in START:
        assert counts.connections(chooser) == flows.connections(chooser)
    assert counts.window(100 * MS, END) == flows.window(100 * MS, END)
    assert counts.in_flight == flows.in_flight


@pytest.mark.parametrize(
    ("rate", "workers", "crash"), [(300.0, 16, STOCKS[0]), (300.0, 16, 2), (150.0, 1, 6), (40.0, 2, STOCKS[1])]
)
def test_calls_count_as_flows_do(rate: float, workers: int, crash: int) -> None:
    """With one worker far beyond saturation. A pod called, or one that calls, dies with requests in hand."""
    flows = run(shop(rate, workers), counting=False, crash=crash)
    counts = run(shop(rate, workers), counting=True, crash=crash)
    assert_same_counts(counts, flows)
    assert flows.bins.totals(Count.STREAM_FAILED).sum() > 0
    assert counts.counted.requests > 10
    answered = counts.take_counted()[1]
    assert answered[list(STOCKS)].sum() > counts.counted.requests


def test_cuts_and_checkpoints_change_nothing() -> None:
    whole = run(shop(), counting=True)
    in_pieces = run(shop(), counting=True, stops_ms=(300.05, 301, 333.3, 471.77, 471.8, 699.9999))
    assert in_pieces.digest() == whole.digest()
    assert_same_counts(in_pieces, whole)
    engine = shop()
    engine.advance(SPAN[0])
    engine.count_requests(True)
    engine.advance(444 * MS)
    kept = engine.checkpoint()
    run(engine, counting=False)
    engine.restore(kept)
    run(engine, counting=False)
    assert engine.digest() == whole.digest()
    assert_same_counts(engine, whole)


@pytest.mark.parametrize(("begin_ms", "end_ms"), [(300.0, 302.0), (300.123, 309.7), (250.0, 420.0)])
@pytest.mark.parametrize("workers", [1, 16])
def test_what_is_under_way_has_the_rows_of_flows(begin_ms: float, end_ms: float, workers: int) -> None:
    """While requests are counted, and when they no longer are; also of requests from before. Only those on their way
    to their own pod know already which it is."""
    flows, counts = shop(workers=workers), shop(workers=workers)
    for engine in (flows, counts):
        engine.advance(int(begin_ms * MS))
    assert counts.may_count() == ""
    counts.count_requests(True)
    for engine in (flows, counts):
        engine.advance(int(end_ms * MS))
    expected = flows.in_flight_rows()
    assert (expected.extra["caller"] > 0).sum() > 5
    for on in (True, False):
        counts.count_requests(on)
        rows = counts.in_flight_rows()
        assert len(rows) == len(expected) == counts.in_flight
        reached = expected.try_worker.max(axis=1) >= 0
        for name, column in columns(expected).items():
            assert (columns(rows)[name][reached] == column[reached]).all(), name
            assert name.startswith(("try", "tries", "node", "ingress")) or (columns(rows)[name] == column).all(), name
    rest = [engine.advance(END) or columns(engine.take_finished()) for engine in (flows, counts)]
    later = [rows["start_ns"] >= int(end_ms * MS) for rows in rest]
    for name, column in rest[0].items():
        assert (column[later[0]] == rest[1][name][later[1]]).all(), name


def columns(rows: Finished) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"]:
    named = {name: getattr(rows, name) for name in Finished.__slots__ if name != "extra"}
    return {**named, **rows.extra}


def test_no_row_of_a_counted_call_is_handed_out() -> None:
    engine = shop()
    engine.advance(SPAN[0])
    engine.take_finished()
    engine.count_requests(True)
    engine.advance(SPAN[1])
    rows = engine.take_finished()
    calls = engine.is_call(rows.stream)
    assert (rows.start_ns[~calls] < SPAN[0]).all()
    sent = int(engine.bins.totals(Count.STREAM_SENT).sum())
    done = int(engine.bins.totals(Count.STREAM_OK).sum() + engine.bins.totals(Count.STREAM_FAILED).sum())
    assert sent == done + engine.in_flight


def test_what_needs_flows_is_named() -> None:
    def why(engine: Engine, t_ms: int) -> str:
        engine.advance(t_ms * MS)
        return engine.may_count()

    assert why(shop(), 100) == ""
    engine = shop()
    virtual = engine.add_virtual_server()
    engine.list_destinations(virtual, 0, Scheduler.RR, (6, 7))
    engine.set_pick(TO_CART, Pick.SCHEDULED, virtual)
    assert why(engine, 100) == "calls between pods go in turn or by affinity"
    engine = shop()
    engine.learn(TO_CART, 0, Fan())
    assert why(engine, 100) == "the rules of a calling pod's node lead nowhere"
    engine = shop()
    engine.behave(STOCKS[0], Behaviour.SILENT, 0)
    engine.advance(100 * MS)
    engine.learn(TO_STOCK, 100 * MS, Fan(STOCKS[1:], (1, 1)))
    assert why(engine, 110) == "a call has failed"
