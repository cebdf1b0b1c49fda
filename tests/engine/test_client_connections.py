"""Clients in pods that keep connections open: what a request over one meets, and when a new one is opened."""

from collections import Counter

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.types import Answer, Behaviour, Fan, Finished, Server, Stream, Timing

MS = 1_000_000
S = 1_000_000_000
TIMING = Timing(connect_timeout_ns=50 * MS, read_timeout_ns=200 * MS, service_p50_ns=5 * MS, service_p99_ns=20 * MS)


def lab(connections: int, pods: int = 2, age_ns: int = 0, rate: float = 300.0) -> Engine:
    """A client on node 0, pods on node 1; chooser 0 gives the first `pods` of six."""
    stream = Stream(0, "pod", rate, place=0, entries=((0, 0),), connections=connections, connection_age_ns=age_ns)
    engine = Engine(Draws(3), TIMING, [stream], [Server(f"p{n}", 1, 4) for n in range(6)], 2)
    engine.learn(0, 0, Fan(tuple(range(pods)), (1,) * pods))
    return engine


def servers(rows: Finished) -> Counter[int]:
    return Counter(rows.try_server[:, 0].tolist())


def test_a_connection_stays_on_its_pod_when_the_rules_forget_it() -> None:
    engine = lab(4)
    engine.learn(0, 1 * S, Fan((5,), (1,)))
    engine.advance(3 * S)
    rows = engine.take_finished()
    assert (rows.status == 200).all()
    assert 5 not in servers(rows)
    assert engine.choosers.connections(0) == ((5, 0),)
    assert len(set(rows.extra["opened_ns"].tolist())) == 4
    assert (rows.extra["opened_ns"] <= rows.start_ns).all()
    assert (rows.extra["kept"] == 0).sum() == 4


def test_a_process_that_ends_resets_what_is_in_hand_and_nothing_after() -> None:
    engine = lab(4, pods=1)
    engine.learn(0, 900 * MS, Fan((5,), (1,)))
    engine.behave(0, Behaviour.REFUSES, 1 * S)
    engine.advance(3 * S)
    rows = engine.take_finished()
    bad = rows.only(rows.status != 200)
    assert 0 < len(bad) < 10
    assert set(bad.status.tolist()) == {-Answer.RESET}
    assert int(bad.finish_ns.max()) <= 1 * S + TIMING.cross_node_ns * 2
    assert set(rows.only(rows.start_ns > 1 * S + TIMING.cross_node_ns).try_server[:, 0].tolist()) == {5}


def test_a_packet_on_the_way_to_a_process_that_ended_is_reset_even_when_another_listens_again() -> None:
    engine = lab(1, pods=1, rate=20_000.0)
    engine.behave(0, Behaviour.REFUSES, 1 * S)
    engine.behave(0, Behaviour.LISTENS, 1 * S + 1)
    engine.advance(1100 * MS)
    rows = engine.take_finished()
    late = rows.only(rows.start_ns >= 1 * S)
    before_the_news = late.start_ns < 1 * S + TIMING.cross_node_ns
    assert before_the_news.any()
    assert set(late.only(before_the_news).status.tolist()) == {-Answer.RESET}
    assert set(late.only(~before_the_news).status.tolist()) == {200}


def test_a_process_that_only_stopped_listening_serves_its_open_connections() -> None:
    engine = lab(1, pods=1)
    engine.behave(0, Behaviour.REFUSES, 1 * S, drain=True)
    engine.advance(2 * S)
    rows = engine.take_finished()
    assert (rows.status == 200).all()
    assert servers(rows.only(rows.start_ns > 1 * S)).keys() == {0}


def test_a_silent_pod_costs_read_timeouts_until_the_first_has_run_out() -> None:
    engine = lab(1, pods=1, rate=60.0)
    engine.learn(0, 1 * S, Fan((5,), (1,)))
    engine.behave(0, Behaviour.SILENT, 1 * S)
    engine.advance(3 * S)
    rows = engine.take_finished()
    lost = rows.only(rows.status == -Answer.TIMEOUT)
    assert set((lost.finish_ns - lost.start_ns).tolist()) == {TIMING.read_timeout_ns}
    first = int(lost.finish_ns.min())
    assert set(rows.only(rows.start_ns > first).try_server[:, 0].tolist()) == {5}
    assert (rows.only(rows.start_ns > first).status == 200).all()
    assert len(lost) == int(((rows.finish_ns >= first) & (rows.start_ns <= first)).sum())


def test_new_pods_get_nothing_until_the_server_ends_old_connections() -> None:
    shares = {}
    for age_ns in (0, 1 * S):
        engine = lab(40, pods=2, age_ns=age_ns)
        engine.advance(1 * S)
        engine.take_finished()
        engine.learn(0, 1 * S, Fan((0, 1, 2, 3, 4, 5), (1,) * 6))
        engine.advance(4 * S)
        engine.take_finished()
        engine.advance(10 * S)
        rows = engine.take_finished()
        assert (rows.status == 200).all()
        shares[age_ns] = sum(n for server, n in servers(rows).items() if server > 1) / len(rows)
    assert shares[0] < 0.02
    assert 0.55 < shares[1 * S] < 0.78


def test_an_old_connection_is_replaced_within_a_tenth_of_its_age() -> None:
    engine = lab(5, age_ns=1 * S, rate=200.0)
    engine.advance(8 * S)
    rows = engine.take_finished()
    ages = rows.start_ns - rows.extra["opened_ns"]
    assert int(ages.max()) <= 1100 * MS
    last = {}
    for opened, age in zip(rows.extra["opened_ns"].tolist(), ages.tolist(), strict=True):
        last[opened] = max(last.get(opened, 0), age)
    whole = [age for opened, age in last.items() if opened < 6 * S]
    assert sorted(whole)[3] >= 800 * MS  # an idle one is not seen to its end
    assert max(whole) - min(whole) > 50 * MS
