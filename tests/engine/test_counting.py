"""Counted spans: the numbers of flows, without a row for each request."""

import pytest
from small_path import MakeEngine

from kflab.draws import Draws
from kflab.engine.bins import Count
from kflab.engine.counts import chi_square_limit
from kflab.engine.engine import Engine
from kflab.engine.schedulers import Scheduler
from kflab.engine.types import Behaviour, Fan, Pick, Server, Stream, Timing

MS = 1_000_000
SPAN = (300 * MS, 900 * MS)
PODS = (2, 3, 4)


def run(engine: Engine, counting: bool, stops_ms: tuple[float, ...] = (), until_ms: int = 2000) -> Engine:
    """Count (or not) in SPAN; a pod crashes where it ends."""
    engine.advance(SPAN[0])
    if counting:
        assert engine.may_count() == ""
        engine.count_requests(True)
    for t_ms in stops_ms:
        engine.advance(int(t_ms * MS))
    engine.advance(SPAN[1])
    engine.behave(3, Behaviour.REFUSES, SPAN[1])
    engine.advance(until_ms * MS)
    return engine


def ok_tries(engine: Engine) -> list[int]:
    return [int(engine.bins.totals(Count.SERVER_OK)[server]) for server in PODS]


@pytest.mark.parametrize("workers", [1, 16])
@pytest.mark.parametrize("rate", [300.0, 5000.0])
def test_new_connections_at_random_count_as_flows_do(make_engine: MakeEngine, workers: int, rate: float) -> None:
    """One worker at 5000 requests/s is far beyond saturation: also the queues are those of flows."""
    flows = run(make_engine(rate_rps=rate, workers=workers), counting=False)
    counts = run(make_engine(rate_rps=rate, workers=workers), counting=True)
    for name in Count:
        # The engine counts what ingress servers (0 and 1) handed on only where requests have no rows.
        first = 2 if name == Count.SERVER_OK else 0
        assert (counts.bins.totals(name)[first:] == flows.bins.totals(name)[first:]).all(), name
        assert (counts.bins.series(name, 0, 20)[:, first:] == flows.bins.series(name, 0, 20)[:, first:]).all(), name
    assert flows.in_flight == counts.in_flight
    for chooser in range(5):
        assert flows.connections(chooser) == counts.connections(chooser)
    assert flows.window(100 * MS, 2000 * MS) == counts.window(100 * MS, 2000 * MS)


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("workers", [1, 16])
def test_no_row_of_a_counted_request_is_handed_out(make_engine: MakeEngine, in_turn: bool, workers: int) -> None:
    engine = make_engine(rate_rps=2000.0, workers=workers, in_turn=in_turn)
    engine.advance(SPAN[0])
    engine.take_finished()
    engine.count_requests(True)
    engine.advance(SPAN[1])
    rows = engine.take_finished()
    assert (rows.start_ns < SPAN[0]).all()
    ok, answered = engine.take_counted()
    assert ok.sum() > 200
    assert answered[list(PODS)].sum() == ok.sum()
    assert answered[:2].sum() == ok[0]
    sent = int(engine.bins.totals(Count.STREAM_SENT).sum())
    done = int(engine.bins.totals(Count.STREAM_OK).sum() + engine.bins.totals(Count.STREAM_FAILED).sum())
    assert sent == done + engine.in_flight
    assert len(engine.in_flight_rows()) == engine.in_flight


@pytest.mark.parametrize(("in_turn", "keepalive"), [(False, False), (True, False), (True, True)])
def test_cuts_and_checkpoints_change_nothing(make_engine: MakeEngine, in_turn: bool, keepalive: bool) -> None:
    def made() -> Engine:
        return make_engine(rate_rps=4000.0, in_turn=in_turn, keepalive=keepalive, workers=100)

    whole = run(made(), counting=True)
    in_pieces = run(made(), counting=True, stops_ms=(300.05, 300.3, 471.77, 471.8, 899.9999))
    assert in_pieces.digest() == whole.digest()
    assert (in_pieces.bins.totals(Count.SERVER_BAD) == whole.bins.totals(Count.SERVER_BAD)).all()
    engine = made()
    engine.advance(SPAN[0])
    engine.count_requests(True)
    engine.advance(500 * MS)
    kept = engine.checkpoint()
    engine.advance(SPAN[1])
    engine.restore(kept)
    engine.advance(SPAN[1])
    engine.behave(3, Behaviour.REFUSES, SPAN[1])
    engine.advance(2000 * MS)
    assert engine.digest() == whole.digest()


@pytest.mark.parametrize("keepalive", [False, True])
def test_turns_and_kept_connections_have_the_shares_of_flows(make_engine: MakeEngine, keepalive: bool) -> None:
    flows, counts = (
        run(make_engine(rate_rps=6000.0, in_turn=True, keepalive=keepalive, workers=150), counting, until_ms=1500)
        for counting in (False, True)
    )
    for name in (Count.STREAM_SENT, Count.SERVER_BAD):
        a, b = flows.bins.totals(name), counts.bins.totals(name)
        # The pod that dies refuses as many, but for the turn and the connections that it meets them at.
        assert abs(int(a.sum()) - int(b.sum())) <= 12, name
    cells = list(zip(ok_tries(flows), ok_tries(counts), strict=True))
    assert sum((a - b) ** 2 / (a + b) for a, b in cells) < chi_square_limit(len(cells))
    assert max(abs(a - b) for a, b in cells) <= 12
    mine, theirs = counts.window(SPAN[0], SPAN[1]), flows.window(SPAN[0], SPAN[1])
    assert abs(mine.n - theirs.n) <= 12
    assert mine.p50_ns == pytest.approx(theirs.p50_ns, rel=0.05)
    assert mine.p99_ns == pytest.approx(theirs.p99_ns, rel=0.1)


@pytest.mark.parametrize("what", ["cut off", "hangs"])
def test_what_nobody_meets_is_no_obstacle(make_engine: MakeEngine, what: str) -> None:
    """A node is cut off, or a pod hangs, that nothing leads to any more: what it held waits for its timeouts."""

    def made() -> Engine:
        timing = Timing(connect_timeout_ns=100 * MS, read_timeout_ns=450 * MS)
        engine = make_engine(rate_rps=3000.0, timing=timing, idempotent=False, tries=1)
        engine.advance(100 * MS)
        if what == "hangs":
            engine.behave(3, Behaviour.HANGS, 100 * MS)
        else:
            engine.cut(1, True, 100 * MS)
        engine.advance(150 * MS)
        assert engine.may_count() in ("a node is cut off", "a process hangs")
        for chooser in (2, 3, 4):
            engine.learn(chooser, 150 * MS, Fan((2, 4), (1, 1)))
        engine.learn(0, 150 * MS, Fan((0,), (1,)))
        return engine

    flows, counts = run(made(), counting=False), run(made(), counting=True)
    for name in Count:
        first = 2 if name == Count.SERVER_OK else 0
        assert (counts.bins.series(name, 0, 20)[:, first:] == flows.bins.series(name, 0, 20)[:, first:]).all(), name
    assert counts.counted.requests > 1000
    assert int(flows.bins.series(Count.STREAM_FAILED, 5, 3).sum()) > 0
    assert flows.window(100 * MS, 2000 * MS) == counts.window(100 * MS, 2000 * MS)


def with_virtual_server(sticky: bool) -> Engine:
    """Two kinds of callers on a node, and one virtual server, or one affinity entry, for both."""
    streams = [Stream(n, "pod", 700.0, place=0, entries=((0, n),)) for n in range(2)]
    engine = Engine(Draws(5), Timing(), streams, [Server(f"p{n}", n % 2) for n in range(5)], 2)
    which = engine.add_affinity(60_000 * MS) if sticky else engine.add_virtual_server()
    if sticky:
        engine.list_endpoints(which, 0, PODS)
    else:
        engine.list_destinations(which, 0, Scheduler.RR, PODS)
    for chooser in range(2):
        engine.set_pick(chooser, Pick.SCHEDULED, which)
        engine.learn(chooser, 0, Fan(PODS, (1, 1, 1)))
    engine.advance(10 * MS)
    return engine


def test_turns_of_a_virtual_server_and_affinity() -> None:
    for sticky in (False, True):
        flows, counts = (run(with_virtual_server(sticky), counting, until_ms=900) for counting in (False, True))
        assert ok_tries(flows) == ok_tries(counts)
        assert sorted(ok_tries(counts))[0] == 0 if sticky else max(ok_tries(counts)) - min(ok_tries(counts)) < 9


def with_kept_connections(age_ms: int = 0, seed: int = 5, rate: float = 900.0) -> Engine:
    """Two clients: one keeps five connections open, the other opens one per request."""
    streams = [
        Stream(0, "pod", rate, place=0, entries=((0, 0),), connections=5, connection_age_ns=age_ms * MS),
        Stream(1, "pod", 300.0, place=1, entries=((1, 0),)),
    ]
    engine = Engine(Draws(seed), Timing(), streams, [Server(f"p{n}", n % 2, 4) for n in range(5)], 2)
    engine.learn(0, 0, Fan(PODS, (1, 1, 1)))
    return engine


def assert_same_connections(flows: Engine, counts: Engine) -> None:
    for name in Count:
        assert (counts.bins.totals(name) == flows.bins.totals(name)).all(), name
        assert (counts.bins.series(name, 0, 20) == flows.bins.series(name, 0, 20)).all(), name
    kept = [engine.memory.connections for engine in (flows, counts)]
    assert kept[0].current == kept[1].current
    assert kept[0].leaving == kept[1].leaving
    assert flows.connections(0) == counts.connections(0)
    assert flows.window(0, 2000 * MS) == counts.window(0, 2000 * MS)


def test_connections_that_clients_keep_stay_on_their_pods() -> None:
    """Also when one of their pods crashes where the span ends: its requests in hand are reset, the next reconnect."""
    flows, counts = (run(with_kept_connections(), counting, (333.3, 600)) for counting in (False, True))
    assert_same_connections(flows, counts)
    assert not flows.memory.connections.leaving
    assert int(flows.bins.totals(Count.STREAM_FAILED)[0]) > 0


@pytest.mark.parametrize("seed", [5, 6, 7])
@pytest.mark.parametrize(("age_ms", "rate"), [(20, 900.0), (130, 2500.0), (130, 12.0)])
def test_connections_of_a_maximal_age_are_opened_anew_as_with_flows(age_ms: int, rate: float, seed: int) -> None:
    """Also those that no request has opened before the span; and requests in hand over one that was given up."""
    flows = run(with_kept_connections(age_ms, seed, rate), counting=False)
    counts = run(with_kept_connections(age_ms, seed, rate), counting=True, stops_ms=(300.5, 417.3, 417.4, 800))
    assert_same_connections(flows, counts)
    assert sum(picks for _, picks in counts.connections(0)) > int(counts.bins.totals(Count.STREAM_SENT)[1])
    assert counts.counted.requests > 100


@pytest.mark.parametrize("end_ms", [301.0, 350.03, 483.7, 612.345])
def test_what_is_under_way_over_kept_connections_has_the_rows_of_flows(end_ms: float) -> None:
    flows, counts = (with_kept_connections(20, rate=20_000.0) for _ in range(2))
    for engine in (flows, counts):
        engine.advance(SPAN[0])
    counts.count_requests(True)
    for engine in (flows, counts):
        engine.advance(int(end_ms * MS))
    counts.count_requests(False)
    known = [engine.memory.connections for engine in (flows, counts)]
    for mine, theirs in ((known[0].current, known[1].current), (known[0].leaving, known[1].leaving)):
        assert mine.keys() == theirs.keys()
        for slot, one in mine.items():
            other = theirs[slot]
            assert (one.in_hand, one.established, one.port) == (other.in_hand, other.established, other.port), slot
            assert (one.worker, one.server, one.until_ns) == (other.worker, other.server, other.until_ns), slot
    rows = [engine.in_flight_rows() for engine in (flows, counts)]
    assert len(rows[0]) > 20
    for name in ("number", "finish_ns", "try_server", "try_worker", "queue_ns"):
        assert (getattr(rows[0], name) == getattr(rows[1], name)).all(), name
    for name in ("kept", "kept_ports", "opened_ns"):
        assert (rows[0].extra[name] == rows[1].extra[name]).all(), name


def test_connections_given_up_in_a_long_span_are_forgotten() -> None:
    engine = with_kept_connections(10, rate=1500.0)
    engine.advance(SPAN[0])
    engine.count_requests(True)
    for t_s in range(1, 8):
        engine.advance(t_s * 1000 * MS)
    assert len(engine.memory.connections.leaving) < 2000
    engine.count_requests(False)
    assert len(engine.memory.connections.leaving) < 50


def test_what_needs_flows_is_named(make_engine: MakeEngine) -> None:
    def why(engine: Engine, t_ms: int = 100) -> str:
        engine.advance(t_ms * MS)
        return engine.may_count()

    assert why(make_engine()) == ""
    assert "a Service's address" in why(make_engine(keepalive=True))
    assert why(make_engine(keepalive=True, in_turn=True, rate_rps=500.0)) == ""
    assert "front" in why(make_engine(no_route=True))
    kept = with_kept_connections()
    kept.choosers.set_pick(0, Pick.ROUND_ROBIN)
    assert kept.may_count() == "a client opens connections, in turn or by affinity"
    assert why(with_kept_connections()) == ""
    engine = make_engine()
    engine.learn(2, 200 * MS, Fan((2, 3), (1, 1)))
    assert why(engine) == "a change is under way"
    assert why(engine, 200) == ""
    engine.behave(4, Behaviour.REFUSES, 200 * MS)
    assert why(engine, 300) == "an address that is listed does not answer"
    for chooser in (2, 3, 4):
        engine.learn(chooser, 300 * MS, Fan((2, 3), (1, 1)))
    assert why(engine, 400) == ""
    engine.behave(2, Behaviour.HANGS, 400 * MS)
    assert why(engine, 500) == "a process hangs"
    engine.behave(2, Behaviour.LISTENS, 500 * MS)
    engine.cut(0, True, 500 * MS)
    assert why(engine, 600) == "a node is cut off"
    busy = make_engine(rate_rps=2000.0, keepalive=True, in_turn=True)
    assert "pods that are busy (over 5%)" in why(busy)


def test_what_the_engine_is_told_ends_a_span(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=2000.0)
    engine.advance(SPAN[0])
    engine.count_requests(True)
    engine.advance(400 * MS)
    engine.set_rate(0, 1000.0, 400 * MS)
    engine.advance(600 * MS)
    rows = engine.take_finished()
    assert engine.counted.spans_until(600 * MS) == ((SPAN[0], 400 * MS),)
    assert ((rows.start_ns < SPAN[0]) | (rows.start_ns >= 400 * MS)).all()
    assert (rows.start_ns >= 400 * MS).sum() > 100
