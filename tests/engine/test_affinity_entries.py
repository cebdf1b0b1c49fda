"""ClientIP affinity that times out: the engine's entries and xt_recent's lists agree, for any slab length."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_against_reference import engine_rows

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.reference import Reference
from kflab.engine.reference_affinity import RecentLists
from kflab.engine.types import Behaviour, Fan, Pick, Server, Stream, Timing

MS = 1_000_000
S = 1_000 * MS
PODS = (1, 2, 3, 4)
LB, ENTRY, POD, OTHER, UP = range(5)

TIMING = Timing(service_p50_ns=5 * MS, connect_timeout_ns=50 * MS, keepalive_idle_ns=20 * MS)


def models(seed: int, slab_ms: int, shared: bool, keepalive: bool, lasts_ms: int, changes: list) -> tuple:
    streams = [
        Stream(0, "l7", 60.0, lb=LB, entries=((0, ENTRY), (1, ENTRY)), upstreams=((0, UP),), keepalive=keepalive),
        Stream(1, "pod", 50.0, place=0, entries=((0, POD),)),
        Stream(2, "node", 30.0, place=0, entries=((0, OTHER),)),
    ]
    servers = [Server("i0", 0, is_ingress=True), *(Server(f"p{n}", n % 2, 2) for n in PODS)]
    engine = Engine(Draws(seed), TIMING, streams, servers, 2, slab_ns=slab_ms * MS)
    slow = Reference(Draws(seed), TIMING, streams, servers)
    entry, lists = engine.add_affinity(lasts_ms * MS), RecentLists(lasts_ms * MS)
    for model in (engine, slow):
        for chooser, fan in {LB: Fan((0, 1), (1, 1)), ENTRY: Fan((0,), (1,)), UP: Fan(PODS, (1,) * 4)}.items():
            model.learn(chooser, 0, fan)
    users = [POD, OTHER, *([UP] if shared else [])]
    for chooser in users:
        engine.set_pick(chooser, Pick.SCHEDULED, entry)
        slow.recent[chooser] = lists
    for t_ns, listed in [(0, PODS), *changes]:
        engine.list_endpoints(entry, t_ns, listed)
        lists.changes.append((t_ns, listed))
        for chooser in users:
            for model in (engine, slow):
                model.learn(chooser, t_ns, Fan(tuple(sorted(listed)), (1,) * len(listed)))
    return engine, slow


some = st.lists(st.sampled_from(PODS), min_size=1, max_size=4, unique=True).map(tuple)
change = st.tuples(st.integers(1, 900).map(lambda n: n * MS + n % 7), some)
changes = st.lists(change, max_size=6, unique_by=lambda one: one[0]).map(sorted)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes, st.integers(0, 99), st.sampled_from((3, 37, 100, 400)), st.booleans(), st.booleans(),
    st.sampled_from((1, 8, 20, 60)), st.integers(1, 4), st.sampled_from((Behaviour.REFUSES, Behaviour.SILENT)),
)  # fmt: skip
def test_same_rows(
    changed: list, seed: int, slab_ms: int, shared: bool, keepalive: bool, lasts_ms: int, dying: int, how: int
) -> None:
    engine, slow = models(seed, slab_ms, shared, keepalive, lasts_ms, changed)
    engine.behave(dying, how, 400 * MS)
    slow.advance(400 * MS)
    slow.behave(dying, how)
    engine.advance(900 * MS)
    slow.advance(900 * MS)
    got = engine_rows(engine.take_finished())
    expected = sorted(slow.rows, key=lambda row: (row[3], row[0], row[1]))
    assert len(got) > 50
    assert got == expected


def run(slab_ms: int) -> tuple[list[int], list[int]]:
    engine, _ = models(3, slab_ms, False, False, 25, [(300 * MS, (1, 2)), (600 * MS + 1, PODS)])
    engine.advance(1500 * MS)
    finished = engine.take_finished()
    rows = np.flatnonzero(finished.stream > 0)
    order = rows[np.argsort(finished.start_ns[rows], kind="stable")]
    return finished.start_ns[order].tolist(), finished.try_server[order, 0].tolist()


@pytest.mark.parametrize("slab_ms", [1, 7, 1000])
def test_entries_do_not_depend_on_slabs(slab_ms: int) -> None:
    assert run(slab_ms) == run(100)


def test_only_a_pause_longer_than_the_timeout_or_lost_rules_moves_a_caller() -> None:
    starts, servers = run(100)
    moved = [i for i in range(1, len(servers)) if servers[i] != servers[i - 1]]
    assert len(moved) > 5
    for i in moved:
        lost = starts[i - 1] < 300 * MS <= starts[i] and servers[i - 1] not in (1, 2)
        assert lost or starts[i] - starts[i - 1] > 25 * MS


def test_an_entry_exactly_as_old_as_its_timeout_still_holds() -> None:
    engine = Engine(Draws(1), Timing(), [], [Server("a", 0)], 1)
    entry = engine.affinity(engine.add_affinity(2 * S))
    asked = np.array([0, 2 * S, 4 * S + 1], dtype=np.int64)
    drawn, lists = np.array([5, 6, 7]), np.zeros(3, dtype=np.int64)
    assert entry.take(asked, drawn, lists, lambda _, server: True).tolist() == [5, 5, 7]
    assert entry.held_at(4 * S + 1).ended_ns == 4 * S
    assert entry.held_at(6 * S + 2) is None
