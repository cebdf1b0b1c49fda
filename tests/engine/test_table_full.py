"""A node whose conntrack table is full takes no new connection; those it has go on."""

import numpy as np
import pytest
from small_path import make

from kflab.engine.table_room import TableRoom, chance
from kflab.engine.types import Answer, Fan, Timing

S = 1_000_000_000
FAR = 3
"""The pod on node 1; ingress servers and the other pods are on node 0."""


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("keepalive", [False, True])
def test_first_packets_are_dropped_where_there_is_no_room(in_turn: bool, keepalive: bool) -> None:
    engine = make(100.0, in_turn=in_turn, keepalive=keepalive)
    engine.steps.room = TableRoom(np.array([False, True]))
    engine.advance(12 * S)
    rows = engine.take_finished()
    through_far_node = (rows.stream == 0) & (rows.node == 1)
    assert set(rows.status[through_far_node].tolist()) == {-Answer.TABLE_FULL}
    assert set((rows.finish_ns - rows.start_ns)[through_far_node].tolist()) == {Timing().connect_timeout_ns}
    tried_far = rows.try_server == FAR
    assert set(rows.try_answer[tried_far].tolist()) == {Answer.TABLE_FULL}
    assert set(rows.try_answer[(rows.try_server >= 0) & ~tried_far].tolist()) == {Answer.OK}


def test_a_client_does_not_reach_an_ingress_on_a_full_node() -> None:
    for keepalive in (False, True):
        engine = make(50.0, keepalive=keepalive)
        engine.learn(0, 0, Fan((1,), (1,)))  # the load balancer knows node 1 only, and that one has room
        engine.steps.room = TableRoom(np.array([True, False]))
        engine.advance(12 * S)
        rows = engine.take_finished()
        ours = rows.stream == 0
        assert set(rows.status[ours].tolist()) == {-Answer.TABLE_FULL}
        assert set(rows.tries[ours].tolist()) == {0}


def test_kept_connections_go_on() -> None:
    engine = make(200.0, in_turn=True, keepalive=True)
    engine.learn(0, 0, Fan((0,), (1,)))
    engine.advance(5 * S)
    engine.take_finished()
    engine.steps.room = TableRoom(np.array([False, True]))
    engine.advance(10 * S)
    rows = engine.take_finished()
    answers = rows.try_answer[(rows.try_server == FAR) & (rows.stream == 0)[:, None]]
    assert np.count_nonzero(answers == Answer.OK) > 100
    kept = (rows.extra["kept"] & 1) == 1
    far_first = (rows.try_server[:, 0] == FAR) & (rows.stream == 0) & (rows.try_start_ns[:, 0] >= 5 * S)
    assert set(rows.try_answer[far_first & kept, 0].tolist()) == {Answer.OK}


def test_one_event_after_the_other_gives_the_same() -> None:
    digests = set()
    for keepalive in (False, True):
        engine = make(100.0, keepalive=keepalive, timing=Timing(keepalive_connections=0))
        engine.learn(0, 0, Fan((0,), (1,)))
        engine.advance(2 * S)
        engine.steps.room = TableRoom(np.array([False, True]))
        engine.advance(8 * S)
        engine.steps.room = None
        engine.advance(20 * S)
        digests.add(engine.digest())
    assert len(digests) == 1


def test_the_share_that_finds_an_entry_to_evict_follows_the_hash_table() -> None:
    assert chance(0, 262_144) == 0
    # One entry in a table of 16 buckets stands in two chains; a packet looks into half of the buckets.
    assert chance(1, 16) == 3 << 62
    assert chance(1000, 8) == (1 << 64) - 1
    n, half = 20_000, np.full(2, 1 << 63, dtype=np.uint64)
    room = TableRoom(np.array([False, True]), half, salt=7)
    numbers = np.arange(n)
    shut = room.shut(np.full(n, 1), np.zeros(n, dtype=np.int64), numbers, 1)
    assert abs(np.count_nonzero(shut) / n - 0.5) < 0.02
    assert room.evicted.tolist() == [0, n - np.count_nonzero(shut)]
    assert room.dropped.tolist() == [0, np.count_nonzero(shut)]
    again = TableRoom(np.array([False, True]), half, salt=7)
    one_by_one = [again.shut_one(1, 0, number, 1) for number in range(50)]
    assert one_by_one == shut[:50].tolist()
    assert not room.shut(np.array([0, -1]), np.zeros(2, dtype=np.int64), np.arange(2), 0).any()


@pytest.mark.parametrize("full", [[True, False], [False, True], [True, True]])
def test_one_event_after_the_other_gives_the_same_where_some_get_in(full: list[bool]) -> None:
    digests, counts = set(), set()
    for keepalive in (False, True):
        engine = make(200.0, keepalive=keepalive, timing=Timing(keepalive_connections=0))
        engine.advance(2 * S)
        room = TableRoom(np.array(full), np.full(2, 1 << 63, dtype=np.uint64), salt=3)
        engine.steps.room = room
        engine.advance(8 * S)
        engine.steps.room = None
        engine.advance(20 * S)
        digests.add(engine.digest())
        counts.add((*room.evicted.tolist(), *room.dropped.tolist()))
    assert len(digests) == 1
    assert len(counts) == 1
    assert min(max(pair) for pair in (next(iter(counts))[:2], next(iter(counts))[2:])) > 0
