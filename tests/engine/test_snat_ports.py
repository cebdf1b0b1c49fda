"""Source ports of masqueraded connections: the kernel's bounded search, in bulk and port by port."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_path import make

from kflab.dataplane.cni import masquerade_port
from kflab.dataplane.packets import Packet
from kflab.draws import Draws
from kflab.engine.addresses import ephemeral_port
from kflab.engine.engine import Engine
from kflab.engine.memory import NEVER
from kflab.engine.reference import Reference
from kflab.engine.snat import FIRST_PORT, N_PORTS, PortsInUse, PortTable, ahead, attempts
from kflab.engine.types import Answer, Fan, Server, Stream, Timing

S = 1_000_000_000
MS = 1_000_000


def words_of(seed: int, n: int) -> np.ndarray:
    return Draws(seed).block(0, 0, n)[:, 1]


def test_the_ports_tried_are_five_runs_of_fewer_and_fewer() -> None:
    ports = attempts(words_of(1, 500))
    assert ports.shape == (500, 248)
    assert ports.min() >= 0
    assert ports.max() < N_PORTS
    follows = np.diff(ports, axis=1) % N_PORTS == 1
    breaks = [127, 191, 223, 239]
    assert follows[:, [k for k in range(247) if k not in breaks]].all()
    assert not follows[:, breaks].any()


def test_the_first_port_tried_is_the_one_an_opened_request_shows() -> None:
    for word in words_of(2, 50).tolist():
        packet = Packet("10.0.0.1", ephemeral_port(word), "10.0.0.2", 80)
        shown = masquerade_port(packet, word >> 32)
        assert FIRST_PORT + int(attempts(np.array([word], dtype=np.uint64))[0, 0]) == shown


def taken_one_by_one(table: PortTable, words: np.ndarray, times: list[int], evicts: bool) -> list[int]:
    """The same search in plain Python: one connection, one port after the other."""
    until, closed, found = table.until.tolist(), table.closed.tolist(), []
    for tried, luck, t in zip(attempts(words).tolist(), ahead(words).tolist(), times, strict=True):
        chosen, start = -1, 0
        for window in (128, 64, 32, 16, 8):
            for k in range(window):
                port = tried[start + k]
                kill = evicts and k >= window - 32 and closed[port] and luck[start + k]
                if chosen < 0 and (until[port] <= t or kill):
                    chosen = port
            start += window
        if chosen >= 0:
            until[chosen], closed[chosen] = NEVER, False
        found.append(chosen)
    return found


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    share=st.sampled_from((0.0, 0.9, 0.99, 0.9999)),
    closing=st.sampled_from((0.0, 0.02, 1.0)),
    evicts=st.booleans(),
)
def test_many_at_once_get_the_ports_they_get_one_by_one(seed: int, share: float, closing: float, evicts: bool) -> None:
    luck = np.random.default_rng(seed)
    table = PortTable()
    table.until[luck.random(N_PORTS) < share] = NEVER
    soon = luck.random(N_PORTS) < 0.001
    table.until[soon] = luck.integers(0, S, int(soon.sum()))
    table.closed[:] = luck.random(N_PORTS) < closing
    words = words_of(seed, 80)
    words[40:] = words[:40]  # collisions: two search the same ports
    times = np.sort(luck.integers(0, S, 80))
    expected = taken_one_by_one(table, words, times.tolist(), evicts)
    ports, _ = table.take(words, times, evicts)
    assert ports.tolist() == expected
    given = [port for port in expected if port >= 0]
    assert len(set(given)) == len(given)


def test_searches_fail_before_the_last_port_is_taken() -> None:
    table = PortTable()
    words = words_of(3, 70_000)
    ports, _ = table.take(words, np.zeros(len(words), dtype=np.int64), False)
    placed = np.cumsum(ports >= 0)
    first = int(np.flatnonzero(ports < 0)[0])
    assert 0.85 * N_PORTS < placed[first] < 0.97 * N_PORTS
    assert N_PORTS // 2 < placed[first]  # where `source_ports` begins to look is far below
    assert placed[-1] <= N_PORTS


def test_a_full_table_of_closed_connections_is_no_obstacle_to_a_kernel_that_evicts() -> None:
    table = PortTable()
    table.until[:] = NEVER
    table.closed[:] = True
    words, times = words_of(4, 300), np.zeros(300, dtype=np.int64)
    assert (PortTable(table.until.copy(), table.closed.copy()).take(words, times, False)[0] == -1).all()
    ports, evicted = table.take(words, times, True)
    assert (ports >= 0).all()
    assert len(evicted) == 300
    assert len(set(ports.tolist())) == 300


def crowded(seed: int, share: float = 0.97) -> PortTable:
    """A table in which a good part of all searches fails: ports taken in long runs."""
    table, luck = PortTable(), np.random.default_rng(seed)
    runs = np.repeat(luck.random(N_PORTS // 512) < share, 512)
    table.until[runs] = NEVER
    table.until[luck.random(N_PORTS) < 0.001] = 200 * MS
    table.closed[luck.random(N_PORTS) < 0.02] = True
    return table


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1000),
    in_turn=st.booleans(),
    keepalive=st.booleans(),
    evicts=st.booleans(),
    slab_ms=st.sampled_from((3, 37, 100)),
)
def test_bulk_and_event_by_event_drop_the_same(
    seed: int, in_turn: bool, keepalive: bool, evicts: bool, slab_ms: int
) -> None:
    timing = Timing(connect_timeout_ns=50 * MS, read_timeout_ns=120 * MS, keepalive_connections=3)
    engine = make(300.0, slab_ms * MS, seed, in_turn=in_turn, timing=timing, keepalive=keepalive)
    slow = Reference(Draws(seed), timing, engine.streams, engine.memory.servers)
    slow.set_pick(0, 1)
    for chooser in (2, 3):
        slow.set_pick(chooser, 2 if in_turn else 0)
    slow.learn(0, 0, Fan((0, 1), (1, 1)))
    slow.learn(1, 0, Fan((0, 1), (1, 1)))
    for chooser in (2, 3, 4):
        slow.learn(chooser, 0, Fan((2, 3, 4), (1, 1, 1)))
    tables = {(0, 0): crowded(seed), (1, 1): crowded(seed + 1), (0, 3): crowded(seed + 2, 1.0)}
    slow.ports = tables
    slow.masqueraded = {(1, 0), (1, 1), (2, 3), (3, 3), (4, 3)}
    slow.evicts = evicts
    engine.steps.ports = PortsInUse(evicts)
    engine.steps.ports.follow(tables, slow.masqueraded)
    engine.advance(600 * MS)
    slow.advance(600 * MS)
    rows = engine.take_finished()
    got = [
        (int(rows.stream[i]), int(rows.number[i]), int(rows.finish_ns[i]), int(rows.status[i]),
         tuple(zip(rows.try_server[i].tolist(), rows.try_answer[i].tolist(), rows.try_end_ns[i].tolist(), strict=True)))
        for i in range(len(rows))
    ]  # fmt: skip
    expected = [
        (row[0], row[1], row[3], row[4], tuple((tried[0], tried[1], tried[3]) for tried in row[-3:]))  # type: ignore[index]
        for row in sorted(slow.rows, key=lambda row: (row[3], row[0], row[1]))
    ]
    assert got == expected
    # Who keeps connections opens few: then it is a matter of luck whether one of them finds no port.
    assert keepalive or (rows.try_answer == Answer.NO_PORT).any()
    assert (rows.try_answer == Answer.OK).any()


def test_a_masqueraded_connection_without_a_port_times_out_and_others_do_not() -> None:
    stream = Stream(0, "pod", 200.0, place=0, entries=((0, 0),))
    engine = Engine(Draws(1), Timing(), [stream], [Server("a", 0), Server("b", 1)], 2)
    engine.learn(0, 0, Fan((0, 1), (1, 1)))
    full = PortTable()
    full.until[:] = NEVER
    engine.steps.ports = PortsInUse(False)
    engine.steps.ports.follow({(0, 1): full}, {(0, 1)})
    engine.advance(8 * S)
    rows = engine.take_finished()
    towards_b = rows.try_server[:, 0] == 1
    assert set(rows.status[towards_b].tolist()) == {-Answer.NO_PORT}
    assert set((rows.finish_ns - rows.start_ns)[towards_b].tolist()) == {Timing().connect_timeout_ns}
    assert set(rows.status[~towards_b].tolist()) == {200}
