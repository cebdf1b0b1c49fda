"""What a user would notice of single mechanisms."""

from dataclasses import replace

import numpy as np
import pytest
from small_path import MakeEngine

from kflab.draws import Draws
from kflab.engine.bins import Count
from kflab.engine.choosers import Choosers
from kflab.engine.engine import Engine
from kflab.engine.types import Answer, Behaviour, Fan, Pick, Server, Stream, Timing
from kflab.errors import KflabError

MS = 1_000_000
S = 1000 * MS


def test_steady_state_answers_everything(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=1000.0)
    engine.advance(2 * S)
    finished = engine.take_finished()
    assert set(finished.status.tolist()) == {200}
    assert 1900 < np.count_nonzero(finished.stream == 0) < 2100
    assert (finished.tries == 1).all()


def test_refused_tries_are_retried_within_one_round_trip(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.behave(2, Behaviour.REFUSES, 0)
    engine.advance(S)
    finished = engine.take_finished()
    again = (finished.stream == 0) & (finished.tries == 2)
    assert again.sum() > 100
    assert (finished.try_answer[again, 0] == Answer.REFUSED).all()
    spent = finished.try_end_ns[again, 0] - finished.try_start_ns[again, 0]
    assert set(spent.tolist()) == {2 * Timing().same_node_ns}
    assert (finished.try_start_ns[again, 1] == finished.try_end_ns[again, 0]).all()
    failed = finished.status[finished.stream == 0] == 502
    assert 0.01 < failed.mean() < 0.08  # one in 27 draws the dead pod three times (lifecycle.md 1.8)


def test_round_robin_never_draws_the_dead_pod_twice_when_alone(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=5.0, in_turn=True)
    engine.behave(2, Behaviour.REFUSES, 0)
    engine.advance(60 * S)
    finished = engine.take_finished()
    assert set(finished.status[finished.stream == 0].tolist()) == {200}
    assert int(finished.tries.max()) == 2


def test_silent_pod_costs_the_connect_timeout(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.behave(3, Behaviour.SILENT, 0)
    engine.advance(20 * S)
    finished = engine.take_finished()
    late = (finished.stream == 0) & (finished.try_answer[:, 0] == Answer.TIMEOUT)
    assert late.any()
    assert ((finished.try_end_ns - finished.try_start_ns)[late, 0] == 5 * S).all()
    assert (finished.status == 504).sum() > 0


@pytest.mark.parametrize(("idempotent", "status"), [(True, 200), (False, 502)])
def test_crash_resets_what_is_in_flight(make_engine: MakeEngine, idempotent: bool, status: int) -> None:
    engine = make_engine(rate_rps=3000.0, idempotent=idempotent, workers=1)
    engine.advance(500 * MS)
    engine.behave(2, Behaviour.REFUSES, 500 * MS)
    engine.learn(2, 500 * MS, Fan((3, 4), (1, 1)))
    engine.learn(3, 500 * MS, Fan((3, 4), (1, 1)))
    engine.advance(20 * S)
    finished = engine.take_finished()
    hit = (finished.stream == 0) & (finished.try_answer[:, 0] == Answer.RESET)
    assert hit.sum() > 10
    assert set(finished.status[hit].tolist()) == {status}
    hops = {500 * MS + Timing().same_node_ns, 500 * MS + Timing().cross_node_ns}
    assert set(finished.try_end_ns[hit, 0].tolist()) <= hops


def test_restarted_process_has_no_backlog(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=3000.0, workers=1)
    engine.advance(S)
    assert engine.memory.backlog_ns(2, S) > 100 * MS
    engine.behave(2, Behaviour.REFUSES, S)
    engine.behave(2, Behaviour.LISTENS, S)
    assert engine.memory.backlog_ns(2, S) == 0
    assert engine.memory.backlog_ns(3, S) > 100 * MS


def test_drain_lets_accepted_requests_finish(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=3000.0, workers=4)
    engine.advance(500 * MS)
    engine.behave(2, Behaviour.REFUSES, 500 * MS, drain=True)
    engine.advance(2 * S)
    answers = engine.take_finished().try_answer
    assert not (answers == Answer.RESET).any()
    assert (answers == Answer.REFUSED).any()


def test_dead_ingress_takes_its_clients_along(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.advance(500 * MS)
    engine.behave(0, Behaviour.REFUSES, 500 * MS)
    engine.advance(S)
    finished = engine.take_finished()
    l7 = finished.stream == 0
    assert set(finished.status[l7].tolist()) == {200, -Answer.REFUSED, -Answer.RESET}
    assert (finished.ingress[l7 & (finished.status == -Answer.REFUSED)] == 0).all()


def test_each_flow_meets_the_rules_of_its_own_time(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.learn(2, 333 * MS, Fan((4,), (1,)))
    engine.advance(S)
    finished = engine.take_finished()
    own = (finished.stream == 0) & (finished.ingress == 0)
    late = finished.try_start_ns[:, 0] >= 333 * MS
    assert set(finished.try_server[own & late, 0].tolist()) == {4}
    assert set(finished.try_server[own & ~late, 0].tolist()) == {2, 3, 4}


@pytest.mark.parametrize(
    ("fan", "status"),
    [
        (Fan(answer=Answer.NO_UPSTREAM), 503),
        (Fan(answer=Answer.REJECTED), 502),
        (Fan(answer=Answer.TIMEOUT), 504),
    ],
)
def test_no_upstream(make_engine: MakeEngine, fan: Fan, status: int) -> None:
    engine = make_engine(rate_rps=100.0)
    engine.learn(2, 0, fan)
    engine.learn(3, 0, fan)
    engine.advance(20 * S)
    finished = engine.take_finished()
    assert set(finished.status[finished.stream == 0].tolist()) == {status}


def test_no_route_is_404_without_a_try(make_engine: MakeEngine) -> None:
    engine = make_engine(no_route=True)
    engine.advance(S)
    finished = engine.take_finished()
    l7 = finished.stream == 0
    assert set(finished.status[l7].tolist()) == {404}
    assert set(finished.tries[l7].tolist()) == {0}


def test_one_port_always_goes_to_one_node(make_engine: MakeEngine) -> None:
    engine = make_engine(pinned_ports=tuple((n, 54321, 39123) for n in range(50)))
    engine.advance(S)
    finished = engine.take_finished()
    pinned = (finished.stream == 0) & (finished.number < 50)
    assert len(set(finished.node[pinned].tolist())) == 1
    assert len(set(finished.node[~pinned & (finished.stream == 0)].tolist())) == 2


def test_weights_are_exact(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.learn(4, 0, Fan((2, 3, 4), (6, 3, 0)))
    engine.set_rate(1, 5000.0, 0)
    engine.advance(2 * S)
    counts = dict(engine.connections(4))
    assert counts[4] == 0
    assert abs(counts[2] - 2 * counts[3]) < 4 * (10_000 * 2) ** 0.5


def test_kept_connections_stay_on_their_pod(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=300.0, keepalive=True)
    engine.advance(2 * S)
    finished = engine.take_finished()
    l7 = finished.stream == 0
    kept = finished.extra["kept"][l7] & 1
    assert kept.mean() > 0.9
    assert sum(count for _, count in engine.connections(2)) < 30
    held = {connection.server for _, connection in engine.memory.pools}
    assert set(finished.try_server[l7][-50:, 0].tolist()) <= held


def test_bins_count_every_try_and_request(make_engine: MakeEngine) -> None:
    engine = make_engine(rate_rps=2000.0)
    engine.behave(2, Behaviour.REFUSES, 300 * MS)
    engine.advance(2 * S)
    finished, bins = engine.take_finished(), engine.bins
    sent = int(bins.totals(Count.STREAM_SENT)[:2].sum())
    assert sent == len(finished) + engine.in_flight
    for server in (2, 3, 4):
        here = finished.try_server == server
        good, bad = here & (finished.try_answer == Answer.OK), here & (finished.try_answer > Answer.OK)
        assert bins.one(Count.SERVER_OK, server, 0, 20).sum() == good.sum()
        per_bin = np.bincount(finished.try_end_ns[bad] // 100_000_000, minlength=20)
        series = bins.one(Count.SERVER_BAD, server, 0, 20)
        assert (series[:19] == per_bin[:19]).all()


def test_window_ranks_latencies(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.advance(2 * S)
    window, finished = engine.window(S, 2 * S), engine.take_finished()
    inside = finished.finish_ns >= S
    latencies = np.sort((finished.finish_ns - finished.start_ns)[inside])
    assert window.n == len(latencies)
    assert window.p50_ns == latencies[(len(latencies) * 50 + 99) // 100 - 1]
    assert window.p99_ns == latencies[(len(latencies) * 99 + 99) // 100 - 1]


def test_memory_is_bounded_when_nobody_takes() -> None:
    stream = Stream(0, "pod", 20_000.0, place=0, entries=((0, 0),))
    engine = Engine(Draws(1), Timing(), [stream], [Server("p", 0, 500)], 1, kept_rows=5000)
    engine.learn(0, 0, Fan((0,), (1,)))
    engine.advance(2 * S)
    assert len(engine.take_finished()) <= 5000
    assert engine.dropped_rows > 30_000


def test_rate_changes_keep_the_same_luck(make_engine: MakeEngine) -> None:
    slow, fast = make_engine(rate_rps=100.0), make_engine(rate_rps=100.0)
    fast.set_rate(0, 400.0, 0)
    slow.advance(40 * S)
    fast.advance(10 * S)
    mine, theirs = slow.take_finished(), fast.take_finished()
    first = mine.start_ns[(mine.stream == 0) & (mine.number == 500)]
    second = theirs.start_ns[(theirs.stream == 0) & (theirs.number == 500)]
    assert abs(int(first[0]) - 4 * int(second[0])) < 1000
    fast.set_rate(0, 0.0, 10 * S)
    fast.advance(20 * S)
    assert fast.bins.one(Count.STREAM_SENT, 0, 100, 100).sum() == 0
    fast.set_rate(0, 400.0, 20 * S)
    fast.advance(21 * S)
    assert 320 < fast.bins.one(Count.STREAM_SENT, 0, 200, 10).sum() < 480


def test_streams_and_servers_may_come_later(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.advance(S)
    server = engine.add_server(Server("new", 1))
    engine.learn(9, S, Fan((server,), (1,)))
    engine.add_stream(Stream(2, "node", 100.0, place=1, entries=((1, 9),)))
    engine.replace_stream(replace(engine.streams[0], no_route=True))
    engine.advance(2 * S)
    finished = engine.take_finished()
    assert set(finished.try_server[finished.stream == 2, 0].tolist()) == {server}
    assert 404 in finished.status[finished.stream == 0]


def test_nonsense_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.advance(S)
    with pytest.raises(KflabError, match="cannot learn"):
        engine.learn(2, 0, Fan((2,), (1,)))
    with pytest.raises(KflabError, match="too late"):
        engine.behave(2, Behaviour.REFUSES, 0)
    with pytest.raises(KflabError, match="one weight"):
        engine.learn(2, S, Fan((2, 3), (1,)))
    with pytest.raises(KflabError, match="kind"):
        Engine(Draws(1), Timing(), [Stream(0, "l5", 1.0)], [], 0)


def test_choosers_forget_old_versions() -> None:
    choosers = Choosers(Draws(1))
    choosers.set_pick(0, Pick.RANDOM)
    for n in range(20_000):
        choosers.learn(0, n, Fan((n % 7, 3), (1, 1)), n)
        choosers.end(n)
    assert choosers.n_slots < 10_000
    assert [candidate for candidate, _ in choosers.connections(0)] == [19_999 % 7, 3]


def test_a_version_is_in_force_from_its_first_nanosecond() -> None:
    choosers = Choosers(Draws(1))
    for chooser in (3, 4):
        choosers.learn(chooser, 0, Fan((0,), (1,)), 0)
        choosers.learn(chooser, 50 + chooser, Fan((1,), (1,)), 0)
    choosers.begin(0, 100)
    times = np.array([0, 53, 52, 54, 53, 99, 53])
    asked = np.array([3, 3, 3, 4, 4, 4, 0])
    found = choosers.versions_at(asked, times).tolist()
    assert found == [choosers.version_at(chooser, t) for chooser, t in zip(asked.tolist(), times.tolist(), strict=True)]
    assert choosers.flat[choosers.offset[found]].tolist() == [0, 1, 0, 1, 0, 1, -1]
