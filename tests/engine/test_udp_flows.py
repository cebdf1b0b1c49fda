"""UDP senders with one source port: the entry decides, until it idles out or is cleaned up."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.types import Answer, Behaviour, Fan, Server, Stream, Timing
from kflab.engine.udpflows import UdpFlow, UdpFlows

S = 1_000_000_000
OLD, NEW = 0, 1


def sender(rate: float = 20.0, slab_ns: int = S // 10, **fields: object) -> Engine:
    """A pod's sender on place 0; its one chooser picks server 0."""
    stream = Stream(0, "pod", rate, place=0, entries=((0, 0),), flow_port=40_000, **fields)  # type: ignore[arg-type]  # a test's overrides
    engine = Engine(Draws(5), Timing(), [stream], [Server("old", 1), Server("new", 1)], 2, slab_ns)
    engine.learn(0, 0, Fan((OLD,), (1,)))
    return engine


def servers(engine: Engine, from_ns: int = 0) -> set[int]:
    rows = engine.take_finished()
    return set(rows.try_server[rows.start_ns >= from_ns, 0].tolist())


def test_new_rules_do_not_move_it_and_a_cleanup_does() -> None:
    engine = sender()
    engine.advance(5 * S)
    engine.learn(0, 5 * S, Fan((NEW,), (1,)))
    engine.advance(20 * S)
    assert servers(engine) == {OLD}
    engine.clean_flows(0, 0, 20 * S + 7, frozenset({NEW}))
    engine.advance(30 * S)
    assert servers(engine, 20 * S + 7) == {NEW}


def test_a_cleanup_that_keeps_its_server_leaves_it() -> None:
    engine = sender()
    engine.advance(5 * S)
    engine.learn(0, 5 * S, Fan((NEW,), (1,)))
    engine.clean_flows(0, 0, 6 * S, frozenset({OLD, NEW}))
    engine.advance(10 * S)
    assert servers(engine) == {OLD}


def test_it_is_not_rejected_when_new_callers_are() -> None:
    engine = sender()
    engine.advance(5 * S)
    engine.learn(0, 5 * S, Fan(answer=Answer.REJECTED))
    engine.behave(OLD, Behaviour.SILENT, 6 * S)
    engine.advance(20 * S)
    rows = engine.take_finished()
    late = rows.start_ns > 6 * S
    assert set(rows.status[late].tolist()) == {-Answer.TIMEOUT}
    assert set(rows.status[~late].tolist()) <= {200, -Answer.RESET, -Answer.TIMEOUT}


def test_a_rejected_datagram_makes_no_entry() -> None:
    engine = sender()
    engine.learn(0, 0, Fan(answer=Answer.REJECTED))
    engine.advance(5 * S)
    assert engine.memory.udp.flows == {}
    engine.learn(0, 5 * S, Fan((NEW,), (1,)))
    engine.advance(10 * S)
    assert servers(engine, 5 * S) == {NEW}


@pytest.mark.parametrize(("one_way", "silence_s", "stays"), [
    (True, 25, True), (True, 31, False), (False, 31, True), (False, 110, True), (False, 121, False),
])  # fmt: skip
def test_silence_ends_it(one_way: bool, silence_s: int, stays: bool) -> None:
    engine = sender(100.0, one_way=one_way)
    engine.advance(5 * S)
    engine.set_rate(0, 0.0, 5 * S)
    engine.learn(0, 5 * S, Fan((NEW,), (1,)))
    engine.set_rate(0, 100.0, (5 + silence_s) * S)
    engine.advance((8 + silence_s) * S)
    assert servers(engine, 6 * S) == ({OLD} if stays else {NEW})


def test_slabs_do_not_matter() -> None:
    digests = set()
    for slab_ns in (S // 100, S // 3, 2 * S):
        engine = sender(100.0, slab_ns)
        engine.learn(0, 3 * S + 1, Fan((NEW,), (1,)))
        engine.clean_flows(0, 0, 4 * S + 11, frozenset({NEW}))
        engine.learn(0, 6 * S, Fan(answer=Answer.REJECTED))
        engine.clean_flows(0, 0, 7 * S, frozenset({OLD}))
        engine.learn(0, 8 * S + 5, Fan((OLD, NEW), (1, 1)))
        engine.advance(10 * S)
        digests.add(engine.digest())
    assert len(digests) == 1


@given(
    gaps=st.lists(st.sampled_from([1, S, 3 * S, 29 * S, 30 * S, 119 * S, 120 * S]), min_size=1, max_size=12),
    picks=st.lists(st.integers(-1, 2), min_size=12, max_size=12),
    cleanups=st.lists(st.tuples(st.integers(0, 300), st.frozensets(st.integers(0, 2))), max_size=3),
    replies=st.lists(st.booleans(), min_size=3, max_size=3),
    cuts=st.sets(st.integers(1, 11), max_size=3),
)
def test_it_equals_one_datagram_after_the_other(
    gaps: list[int],
    picks: list[int],
    cleanups: list[tuple[int, frozenset[int]]],
    replies: list[bool],
    cuts: set[int],
) -> None:
    times = np.cumsum(gaps)
    coming = sorted((t * S + S // 2, keep) for t, keep in cleanups)
    timing, answering = Timing(), np.array(replies)
    wanted: list[int] = []
    flow: UdpFlow | None = None
    for i, t in enumerate(times.tolist()):
        if flow is not None:
            cleaned = any(flow.last_ns < c <= t and flow.server not in keep for c, keep in coming)
            if cleaned or t - flow.last_ns >= flow.timeout_ns(timing):
                flow = None
        if flow is None and picks[i] >= 0:
            flow = UdpFlow(picks[i], i, t, t, replies[picks[i]])
        wanted.append(flow.server if flow else -1)
        if flow is not None:
            flow.last_ns = t
    flows = UdpFlows()
    for c, keep in coming:
        flows.clean((0, 0), c, keep)
    found: list[int] = []
    bounds = [0, *sorted(cut for cut in cuts if cut < len(times)), len(times)]
    for first, end in pairwise(bounds):
        part = slice(first, end)
        servers, _ = flows.follow(
            (0, 0), times[part], np.arange(first, end), np.array(picks[: len(times)])[part], answering, timing
        )
        flows.settle(int(times[end - 1]) + 1)
        found += servers.tolist()
    assert found == wanted


def test_a_sender_with_another_address_is_none_that_conntrack_knows() -> None:
    engine = sender(client="10.0.0.1")
    engine.advance(5 * S)
    engine.learn(0, 5 * S, Fan((NEW,), (1,)))
    engine.end_client(0, 6 * S)
    engine.advance(7 * S)
    assert servers(engine) == {OLD}, "the same five-tuple has the same entry, whichever process sends"
    engine.replace_stream(replace(engine.streams[0], client="10.0.0.2"))
    engine.advance(9 * S)
    assert servers(engine, 7 * S) == {NEW}


@pytest.mark.parametrize("connections", [0, 2])
def test_a_datagram_to_a_port_on_which_nothing_listens_is_refused_whoever_else_calls(connections: int) -> None:
    """A neighbour that keeps connections has the engine go from event to event; the sender meets the same."""
    engine = sender()
    neighbour = Stream(1, "pod", 20.0, place=1, entries=((1, 1),), connections=connections)
    engine.add_stream(neighbour)
    engine.learn(1, 0, Fan((NEW,), (1,)))
    engine.advance(2 * S)
    engine.take_finished()
    engine.behave(OLD, Behaviour.REFUSES, 2 * S)
    engine.advance(4 * S)
    rows = engine.take_finished()
    late = (rows.stream == 0) & (rows.start_ns > 2 * S)
    assert late.sum() > 20
    assert set(rows.status[late].tolist()) == {-Answer.REFUSED}
    assert set(rows.try_server[late, 0].tolist()) == {OLD}
