"""IPVS turns: one memory for each virtual server, whoever comes; engine and a linked list as in the kernel agree."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_against_reference import engine_rows

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.reference import Reference
from kflab.engine.reference_counts import LeastTaker
from kflab.engine.reference_turns import TurnTaker
from kflab.engine.scheduled import entry_turn
from kflab.engine.schedulers import SCHEDULERS, Scheduler
from kflab.engine.types import Behaviour, Fan, Finished, Pick, Server, Stream, Timing

MS = 1_000_000
S = 1_000 * MS
PODS = (1, 2, 3, 4)
LB, ENTRY, POD, OTHER, UP = range(5)

STREAMS = [
    Stream(0, "l7", 300.0, lb=LB, entries=((0, ENTRY), (1, ENTRY)), upstreams=((0, UP),), client="203.0.113.45"),
    Stream(1, "pod", 400.0, place=0, entries=((0, POD),)),
    Stream(2, "node", 100.0, place=0, entries=((0, OTHER),)),
]
"""A client and a pod on node 0 call one virtual server; with `shared` NGINX's tries from that node do too."""

TIMING = Timing(service_p50_ns=5 * MS, connect_timeout_ns=50 * MS, keepalive_idle_ns=20 * MS)


def models(seed: int, slab_ms: int, shared: bool, keepalive: bool, scheduler: str, changes: list) -> tuple:
    l7 = Stream(
        0, "l7", 300.0, lb=LB, entries=((0, ENTRY), (1, ENTRY)), upstreams=((0, UP),), client="203.0.113.45",
        keepalive=keepalive,
    )  # fmt: skip
    streams = [l7, *STREAMS[1:]]
    servers = [Server("i0", 0, is_ingress=True), *(Server(f"p{n}", n % 2, 2) for n in PODS)]
    engine = Engine(Draws(seed), TIMING, streams, servers, 2, slab_ns=slab_ms * MS)
    slow = Reference(Draws(seed), TIMING, streams, servers)
    virtual = engine.add_virtual_server(graceful=False)
    turns = scheduler in ("rr", "wrr")
    taker = TurnTaker(starts_over=scheduler == "wrr") if turns else LeastTaker(scheduler=scheduler)
    fans = {LB: Fan((0, 1), (1, 1)), ENTRY: Fan((0,), (1,)), UP: Fan(PODS, (1,) * 4)}
    for model in (engine, slow):
        for chooser, fan in fans.items():
            model.learn(chooser, 0, fan)
    users = [POD, OTHER, *([UP] if shared else [])]
    for chooser in users:
        engine.set_pick(chooser, Pick.SCHEDULED, virtual)
        slow.virtual[chooser] = taker
    for t_ns, listed in [(0, PODS), *changes]:
        fan = Fan(tuple(sorted(listed)), (1,) * len(listed))
        engine.list_destinations(virtual, t_ns, SCHEDULERS[scheduler], listed)
        taker.changes.append((t_ns, listed))
        for chooser in users:
            engine.learn(chooser, t_ns, fan)
            slow.learn(chooser, t_ns, fan)
    return engine, slow


some = st.lists(st.sampled_from(PODS), min_size=1, max_size=4, unique=True).map(tuple)
change = st.tuples(st.integers(1, 400).map(lambda n: n * MS + n % 7), some)
changes = st.lists(change, max_size=6, unique_by=lambda one: one[0]).map(sorted)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes, st.integers(0, 99), st.sampled_from((3, 37, 100)), st.booleans(), st.booleans(),
    st.sampled_from(tuple(SCHEDULERS)), st.integers(0, 4), st.sampled_from((Behaviour.REFUSES, Behaviour.SILENT)),
)  # fmt: skip
def test_same_rows(
    changed: list, seed: int, slab_ms: int, shared: bool, keepalive: bool, scheduler: str, dying: int, how: int
) -> None:
    engine, slow = models(seed, slab_ms, shared, keepalive, scheduler, changed)
    engine.behave(dying, how, 200 * MS)
    slow.advance(200 * MS)
    slow.behave(dying, how)
    engine.advance(400 * MS)
    slow.advance(400 * MS)
    assert_same(engine, slow)


def assert_same(engine: Engine, slow: Reference) -> None:
    got = engine_rows(engine.take_finished())
    expected = sorted(slow.rows, key=lambda row: (row[3], row[0], row[1]))
    assert len(got) > 50
    for mine, theirs in zip(got, expected, strict=False):
        assert mine == theirs
    assert len(got) == len(expected)


@pytest.mark.parametrize("then", [Behaviour.LISTENS, Behaviour.REFUSES, "cut", "drain"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes, st.integers(0, 99), st.sampled_from((3, 100)), st.booleans(), st.booleans(),
    st.sampled_from(("rr", "lc", "nq")), st.sampled_from(PODS),
)  # fmt: skip
def test_same_rows_around_a_hang_a_cut_and_a_drain(
    then: int | str, changed: list, seed: int, slab_ms: int, shared: bool, keepalive: bool, scheduler: str, pod: int
) -> None:
    """From 200 to 300 ms a pod hangs, and goes on or dies then; node 1 is cut off; or a pod stops listening."""
    engine, slow = models(seed, slab_ms, shared, keepalive, scheduler, changed)
    for t_ns, off in ((200 * MS, True), (300 * MS, False)):
        slow.advance(t_ns)
        if then == "cut":
            engine.cut(1, off, t_ns)
            slow.cut(1, off)
        elif then == "drain":
            engine.behave(pod, Behaviour.REFUSES, t_ns, drain=True)
            slow.behave(pod, Behaviour.REFUSES, drain=True)
        else:
            engine.behave(pod, Behaviour.HANGS if off else then, t_ns)
            slow.behave(pod, Behaviour.HANGS if off else then)
        engine.advance(t_ns)
    engine.advance(400 * MS)
    slow.advance(400 * MS)
    assert_same(engine, slow)


def taken(finished: Finished, streams: tuple[int, ...]) -> list[int]:
    rows = np.flatnonzero(np.isin(finished.stream, streams))
    order = rows[np.lexsort((finished.number[rows], finished.stream[rows], finished.start_ns[rows]))]
    return [int(server) for server in finished.try_server[order, 0]]


def test_streams_of_one_virtual_server_share_its_turns() -> None:
    streams = [Stream(n, "pod", 200.0, place=0, entries=((0, n),)) for n in range(2)]
    servers = [Server(f"p{n}", 0) for n in range(3)]
    engine = Engine(Draws(1), Timing(), streams, servers, 1)
    virtual = engine.add_virtual_server()
    for chooser in range(2):
        engine.set_pick(chooser, Pick.SCHEDULED, virtual)
        engine.learn(chooser, 0, Fan((0, 1, 2), (1, 1, 1)))
    engine.list_destinations(virtual, 0, Scheduler.RR, (1, 0, 2))
    engine.advance(2 * S)
    finished = engine.take_finished()
    sequence = taken(finished, (0, 1))
    assert sequence == [(2, 0, 1)[n % 3] for n in range(len(sequence))]  # the last added stands first
    assert len(sequence) > 500
    places = {(int(server), entry_turn(int(turn))) for server, turn in
              zip(finished.try_server[:, 0], finished.extra["turns"], strict=True)}  # fmt: skip
    assert places == {(2, 1), (0, 2), (1, 3)}


def sequence_of(scheduler: int, changed: list[tuple[int, tuple[int, ...]]], graceful: bool, until_ns: int) -> list[int]:
    engine = Engine(Draws(1), Timing(), [Stream(0, "pod", 50.0, place=0, entries=((0, 0),))],
                    [Server(f"p{n}", 0) for n in range(4)], 1)  # fmt: skip
    virtual = engine.add_virtual_server(poll_ns=30 * S, graceful=graceful)
    engine.set_pick(0, Pick.SCHEDULED, virtual)
    for t_ns, listed in changed:
        engine.list_destinations(virtual, t_ns, scheduler, listed)
        engine.learn(0, t_ns, Fan(tuple(sorted(listed)), (1,) * len(listed)))
    engine.advance(until_ns)
    finished = engine.take_finished()
    engine_of[scheduler, graceful] = engine
    return taken(finished, (0,))


engine_of: dict[tuple[int, bool], Engine] = {}


def test_a_removed_destination_drains_until_its_connections_have_timed_out() -> None:
    sequence = sequence_of(Scheduler.RR, [(0, (0, 1, 2)), (5 * S, (0, 1))], True, 10 * S)
    engine = engine_of[Scheduler.RR, True]
    virtual = engine.memory.schedulers.servers[0]
    assert (virtual.usable, list(virtual.draining)) == ([1, 0], [2])
    assert 2 not in sequence[-200:]
    engine.advance(124 * S)  # TIME_WAIT of 120 s is over at 125 s at the earliest, kube-proxy looks at 90 and 150 s
    assert list(virtual.draining) == [2]
    engine.advance(151 * S)
    assert (virtual.listed, list(virtual.draining)) == ([1, 0], [])


def test_kube_proxy_looks_at_draining_destinations_as_often_as_is_set() -> None:
    timing = Timing(ipvs_drain_poll_ns=10 * S)
    engine = Engine(Draws(1), timing, [Stream(0, "pod", 50.0, place=0, entries=((0, 0),))],
                    [Server(f"p{n}", 0) for n in range(2)], 1)  # fmt: skip
    virtual = engine.add_virtual_server(poll_ns=3 * S)
    engine.set_pick(0, Pick.SCHEDULED, virtual)
    for t_ns, listed in ((0, (0, 1)), (5 * S, (0,))):
        engine.list_destinations(virtual, t_ns, Scheduler.RR, listed)
        engine.learn(0, t_ns, Fan(listed, (1,) * len(listed)))
    drains = engine.memory.schedulers.servers[0].draining
    engine.advance(123 * S)  # TIME_WAIT of 120 s is over at 125 s at the latest, looks are at 123 and 133 s
    assert list(drains) == [1]
    engine.advance(134 * S)
    assert not drains


def test_udp_and_sctp_are_deleted_at_once() -> None:
    sequence_of(Scheduler.RR, [(0, (0, 1, 2)), (5 * S, (0, 1))], False, 6 * S)
    assert engine_of[Scheduler.RR, False].memory.schedulers.servers[0].listed == [1, 0]


@pytest.mark.parametrize("scheduler", ["rr", "lc", "nq"])
@pytest.mark.parametrize("slab_ms", [1, 7, 250])
def test_turns_do_not_depend_on_slabs(slab_ms: int, scheduler: str) -> None:
    changed = [(100 * MS, (1, 2)), (150 * MS + 3, (2, 3, 4)), (150 * MS + 4, (4, 3, 1))]
    engine, _ = models(3, slab_ms, False, False, scheduler, changed)
    other, _ = models(3, 100, False, False, scheduler, changed)
    for one in (engine, other):
        one.advance(400 * MS)
    assert engine.digest() == other.digest()
