"""Nodes on one Ethernet: connects to a dead one time out at first, and then fail with "No route to host"."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_path import make
from test_against_reference import TIMING, Change, changes, compare

from kflab.engine.neighbours import PROBES, Neighbours
from kflab.engine.types import Answer, Stream, Timing

S = 1_000_000_000
MS = 1_000_000
PROBES_NS = PROBES * S


def test_an_entry_fails_3_to_53_s_after_its_node_and_each_node_has_its_own() -> None:
    known = Neighbours(11, Timing())
    known.cut(0, True, 100 * S)
    callers = np.arange(1, 2001)
    failed = known.failed_ns(callers, np.zeros(2000, dtype=np.int64)) - 100 * S
    assert 3 * S <= failed.min() < 4 * S
    assert 48 * S < failed.max() <= 53 * S
    assert 19 * S < failed.mean() < 22 * S  # half of 30 + 5 s on average, and 3
    assert len(set(failed.tolist())) == 2000
    known.cut(0, True, 150 * S)  # it was off already
    assert (known.failed_ns(callers, np.zeros(2000, dtype=np.int64)) - 100 * S == failed).all()


def test_a_connect_ends_with_the_round_of_probes_that_its_first_syn_meets() -> None:
    known = Neighbours(3, Timing())
    known.cut(1, True, 0)
    one, other = np.array([0]), np.array([1])
    failed = int(known.failed_ns(one, other)[0])

    def end(start_ns: int, patience_ns: int) -> tuple[int, bool]:
        ends, heard = known.ends(one, other, np.array([start_ns]), np.array([patience_ns]))
        return int(ends[0]), bool(heard[0])

    assert end(failed, 10 * S) == (failed + PROBES_NS, True)
    assert end(failed + 2 * S, 10 * S) == (failed + PROBES_NS, True)
    assert end(failed + 3 * S, 10 * S) == (failed + 2 * PROBES_NS, True)
    # The SYN of 3 s later is the first one that the kernel has no address for.
    assert end(failed - 2 * S, 10 * S) == (failed + PROBES_NS, True)
    assert end(failed - 2 * S, 4 * S) == (failed + 2 * S, False)
    assert end(failed - 60 * S, 10 * S) == (failed - 50 * S, False)


def test_the_kernels_times_are_those_of_the_sysctls() -> None:
    timing = Timing(neighbour_reachable_ns=4 * S, neighbour_delay_ns=2 * S, neighbour_probe_ns=S // 2)
    known = Neighbours(11, timing)
    known.cut(0, True, 0)
    failed = known.failed_ns(np.arange(1, 2001), np.zeros(2000, dtype=np.int64))
    assert 1.5 * S <= failed.min() < 1.7 * S
    assert 9 * S < failed.max() <= 9.5 * S


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=changes(), seed=st.integers(0, 1000), in_turn=st.booleans(), keepalive=st.booleans(),
    slab_ms=st.sampled_from((3, 37, 100)), tries=st.integers(1, 3), at_ms=st.integers(1, 300), place=st.integers(0, 2),
)  # fmt: skip
def test_same_rows(
    script: list[Change], seed: int, in_turn: bool, keepalive: bool, slab_ms: int, tries: int, at_ms: int, place: int
) -> None:
    cut = [Change(at_ms * MS, "cut", place, drain=True)]
    found = sorted((*script, *cut), key=lambda change: change.t_ns)
    with pytest.MonkeyPatch.context() as patch:
        # Seconds are too long for the half second that these models run.
        waits = tuple(((1 << k) - 1) * MS for k in range(7))
        patch.setattr("kflab.engine.neighbours.SYN_RETRIES_NS", waits)
        patch.setattr("kflab.engine.reference_course.FIRST_WAIT_NS", MS)
        timing = replace(TIMING, neighbour_reachable_ns=40 * MS, neighbour_delay_ns=5 * MS, neighbour_probe_ns=MS)
        compare(
            found, seed, in_turn, keepalive, True, tries, 2, slab_ms,
            neighbours=lambda: Neighbours(seed, timing), timing=timing,
        )  # fmt: skip


@pytest.mark.parametrize("slab_ns", [S // 10, S // 7])
def test_callers_in_the_cluster_hear_it_clients_outside_and_datagrams_do_not(slab_ns: int) -> None:
    timing = Timing(connect_timeout_ns=10 * S)
    engine = make(60.0, slab_ns=slab_ns, timing=timing)
    engine.add_stream(Stream(2, "pod", 20.0, place=0, entries=((0, 4),), udp=True))
    engine.add_stream(Stream(3, "node", 20.0, place=0, entries=((0, 4),)))
    engine.steps.neighbours = Neighbours(5, timing)
    engine.cut(1, True, 2 * S)
    engine.advance(80 * S)
    rows = engine.take_finished()
    late = rows.start_ns > 60 * S
    answers = {stream: set(rows.status[late & (rows.stream == stream)].tolist()) for stream in range(4)}
    assert answers[1] == {200, -Answer.UNREACHABLE}
    assert answers[2] == answers[3] == {200, -Answer.TIMEOUT}
    assert answers[0] == {200, 502, -Answer.TIMEOUT}  # its load balancer chose the dead node, or all three tries did
    tried = rows.try_answer[late & (rows.stream == 0)]
    assert (tried == Answer.UNREACHABLE).any()
    assert not (tried == Answer.TIMEOUT).any()
    waits = (rows.finish_ns - rows.start_ns)[rows.status == -Answer.UNREACHABLE]
    assert waits.max() <= 10 * S
    assert (rows.finish_ns - rows.start_ns)[late & (rows.status == -Answer.UNREACHABLE)].max() <= 3 * S
    early = (rows.start_ns > 2 * S) & (rows.start_ns < 25 * S) & (rows.stream == 1) & (rows.status < 0)
    assert -Answer.TIMEOUT in set(rows.status[early].tolist())
