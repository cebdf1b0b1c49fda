"""IPVS's counting schedulers by what their virtual server remembers: how long, of whom, and whom it takes for it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.ipvs_counts import Counts, Load, packed, unpacked
from kflab.engine.schedulers import Scheduler, VirtualServer
from kflab.engine.types import Behaviour, Fan, Pick, Server, Stream, Timing

MS = 1_000_000
S = 1_000 * MS
LEAST = Timing(service_p50_ns=5 * MS, connect_timeout_ns=500 * MS)


def made(scheduler: int, *streams: Stream, slab_ms: int = 100, udp_s: int = 0, n: int = 3) -> Engine:
    """All streams call one virtual server with `n` destinations; p0 stands first in its list."""
    engine = Engine(Draws(1), LEAST, streams, [Server(f"p{i}", 0) for i in range(n)], 1, slab_ns=slab_ms * MS)
    virtual = engine.add_virtual_server()
    for stream in streams:
        engine.set_pick(stream.index, Pick.SCHEDULED, virtual)
        engine.learn(stream.index, 0, Fan(tuple(range(n)), (1,) * n))
    engine.list_destinations(virtual, 0, scheduler, tuple(reversed(range(n))), udp_s * S)
    return engine


def calling(index: int, rate_rps: float, **others: int) -> Stream:
    return Stream(index, "pod", rate_rps, place=0, entries=((0, index),), **others)


def virtual_of(engine: Engine) -> VirtualServer:
    return engine.memory.schedulers.servers[0]


def shares(engine: Engine, since_ns: int = 0) -> Counter[int]:
    rows = engine.take_finished()
    return Counter(rows.try_server[rows.start_ns >= since_ns, 0].tolist())


def loads(engine: Engine) -> list[Load]:
    counts = virtual_of(engine).counts
    counts.settle(engine.now_ns)
    return [counts.load(server) for server in range(3)]


def listed(engine: Engine, t_ns: int, servers: tuple[int, ...]) -> None:
    engine.list_destinations(0, t_ns, Scheduler.LC, servers)
    for chooser in range(len(engine.streams)):
        engine.learn(chooser, t_ns, Fan(tuple(sorted(servers)), (1,) * len(servers)))


few = st.integers(0, 3)


@given(st.lists(st.tuples(few, few, st.booleans()), max_size=60))
def test_counts_are_those_of_a_list(steps: list[tuple[int, int, bool]]) -> None:
    """Each step: a connection to a server opens and closes; it is forgotten 0 to 3 s later, as active or not."""
    counts, remembered = Counts(), []
    for t_s, (server, lasts_s, active) in enumerate(steps):
        counts.settle(t_s)
        remembered = [one for one in remembered if one[0] > t_s]
        for one in range(4):
            kinds = [kind for _, whose, kind in remembered if whose == one]
            assert counts.load(one) == (kinds.count(True), kinds.count(False))
        counts.opened(server, True)
        counts.closed(server, True, t_s + lasts_s, active)
        remembered.append((t_s + lasts_s, server, active))


def test_many_closed_connections_are_forgotten_at_their_time() -> None:
    counts = Counts()
    for n in range(10_000):
        counts.opened(n % 2, True)
        counts.closed(n % 2, True, 1_000 + n * 7919 % 10_000, False)
    counts.settle(1_000 + 4_999)
    assert counts.load(0).inactive + counts.load(1).inactive == 5_000
    counts.settle(11_000)
    assert (counts.load(0), counts.load(1)) == ((0, 0), (0, 0))


@pytest.mark.parametrize("other", [None, Load(0, 0), Load(2_047, 524_287)])
def test_what_decided_is_read_as_it_was_written(other: Load | None) -> None:
    for mine in (Load(0, 0), Load(3, 40), Load(2_047, 524_287)):
        assert unpacked(packed(mine, other)) == (mine, other)
    assert unpacked(packed(Load(5_000, 1), None)) == ((2_047, 1), None)
    assert unpacked(0) is None


def test_a_closed_connection_counts_for_two_minutes() -> None:
    engine = made(Scheduler.LC, calling(0, 20.0))
    engine.set_rate(0, 0.0, 2 * S)
    engine.advance(3 * S)
    ends = engine.take_finished().finish_ns
    assert sum(load.inactive for load in loads(engine)) == len(ends) > 20
    engine.advance(int(ends.max()) + 120 * S - 1)
    assert sum(load.inactive for load in loads(engine)) == np.count_nonzero(ends == ends.max())
    engine.advance(int(ends.max()) + 120 * S)
    assert loads(engine) == [(0, 0)] * 3


def test_least_connections_falls_for_a_pod_that_refuses() -> None:
    """Its connections are in CLOSE, forgotten after 10 s, those of the others in TIME_WAIT for 120 s."""
    engine = made(Scheduler.LC, calling(0, 60.0))
    engine.behave(2, Behaviour.REFUSES, 20 * S)
    engine.advance(60 * S)
    late = shares(engine, 40 * S)
    assert late[2] > 0.7 * late.total()


@pytest.mark.parametrize("scheduler", [Scheduler.LC, Scheduler.SED, Scheduler.NQ])
def test_who_never_answers_is_soon_left_alone(scheduler: int) -> None:
    """A SYN without answer is an active connection for a minute."""
    engine = made(scheduler, calling(0, 60.0))
    engine.behave(2, Behaviour.SILENT, 10 * S)
    engine.advance(30 * S)
    assert shares(engine, 11 * S)[2] < 10


def test_who_hangs_is_left_alone() -> None:
    engine = made(Scheduler.LC, calling(0, 60.0))
    engine.behave(2, Behaviour.HANGS, 10 * S)
    engine.advance(30 * S)
    engine.behave(2, Behaviour.LISTENS, 30 * S)
    before = shares(engine, 11 * S)
    engine.advance(40 * S)
    assert before[2] < 10 < shares(engine, 31 * S)[2]


def test_shortest_expected_delay_fills_from_the_head_of_the_list() -> None:
    """Whoever has no active connection is as good as any other: the first in the list is taken."""
    found = shares_of_ten_seconds(made(Scheduler.SED, calling(0, 100.0)))
    assert found[0] > 1.3 * found[1] > 1.3 * found[2] > 0
    even = shares_of_ten_seconds(made(Scheduler.LC, calling(0, 100.0)))
    assert max(even.values()) - min(even.values()) < 5


def shares_of_ten_seconds(engine: Engine) -> Counter[int]:
    engine.advance(10 * S)
    return shares(engine)


def test_datagrams_are_never_active() -> None:
    """sed and nq ask for active connections alone: UDP has none, so the first in the list gets all."""
    assert set(shares_of_ten_seconds(made(Scheduler.NQ, calling(0, 100.0), udp_s=300))) == {0}
    engine = made(Scheduler.WLC, calling(0, 100.0), udp_s=3)
    even = shares_of_ten_seconds(engine)
    assert max(even.values()) - min(even.values()) < 5
    assert all(load.active == 0 for load in loads(engine))
    engine.set_rate(0, 0.0, 10 * S)
    engine.advance(14 * S)
    assert loads(engine) == [(0, 0)] * 3


@pytest.mark.parametrize("slab_ms", [3, 700])
def test_kept_connections_weigh_until_they_are_closed(slab_ms: int) -> None:
    """Six connections that a client keeps, and another client that opens one for each request."""
    engine = made(Scheduler.LC, calling(0, 200.0, connections=6), calling(1, 0.0), slab_ms=slab_ms)
    engine.advance(2 * S)
    assert [load.active for load in loads(engine)] == [2, 2, 2]
    engine.behave(0, Behaviour.REFUSES, 2 * S)
    listed(engine, 2 * S, (2, 1))
    engine.advance(4 * S)
    assert [load.active for load in loads(engine)] == [0, 3, 3]
    engine.behave(0, Behaviour.LISTENS, 4 * S)
    listed(engine, 4 * S, (2, 1, 0))
    engine.set_rate(1, 100.0, 4 * S)
    engine.set_rate(0, 0.0, 4 * S)
    engine.take_finished()
    engine.advance(8 * S)
    # Three active connections outweigh 768 closed ones: but for bursts the one that was away gets all.
    rows = engine.take_finished()
    brief = Counter(rows.try_server[rows.stream == 1, 0].tolist())
    assert brief[0] > 0.9 * brief.total() > 300


def test_connections_that_the_server_ends_are_closed_at_their_age() -> None:
    aged = calling(0, 200.0, connections=6, connection_age_ns=1 * S)
    digests = []
    for slab_ms in (3, 100, 700):
        engine = made(Scheduler.LC, aged, calling(1, 50.0), slab_ms=slab_ms)
        engine.advance(5 * S)
        assert 0 < sum(load.active for load in loads(engine)) <= 6 + 5
        digests.append((engine.digest(), loads(engine)))
        engine.set_rate(0, 0.0, 5 * S)
        engine.set_rate(1, 0.0, 5 * S)
        engine.advance(7 * S)  # nobody asks any more: those that were idle are closed when somebody does
        engine.set_rate(1, 1.0, 7 * S)
        engine.advance(12 * S)
        assert sum(load.active for load in loads(engine)) == 0
    assert digests[0] == digests[1] == digests[2]


def test_counting_begins_where_turns_end() -> None:
    engine = made(Scheduler.RR, calling(0, 100.0))
    engine.advance(2 * S)
    assert loads(engine) == [(0, 0)] * 3
    engine.list_destinations(0, 2 * S + 500, Scheduler.LC, (2, 1, 0))
    engine.advance(4 * S)
    assert sum(load.inactive for load in loads(engine)) > 100
    engine.list_destinations(0, 4 * S + 500, Scheduler.RR, (2, 1, 0))
    engine.advance(130 * S)
    assert loads(engine) == [(0, 0)] * 3
    assert not engine.memory.schedulers.open


def test_a_checkpoint_has_the_counts() -> None:
    engine = made(Scheduler.LC, calling(0, 200.0, connections=6), calling(1, 100.0))
    engine.advance(2 * S)
    then = engine.checkpoint()
    ends = []
    for _ in range(2):
        engine.behave(1, Behaviour.REFUSES, 3 * S)
        engine.advance(6 * S)
        ends.append((engine.digest(), loads(engine)))
        engine.restore(then)
    assert ends[0] == ends[1]
