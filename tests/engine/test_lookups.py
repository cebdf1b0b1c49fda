"""Names asked before a connection, and packets lost: the batch against one request at a time, and the waits felt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_against_reference import engine_rows

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.lookups import threshold
from kflab.engine.reference import Reference
from kflab.engine.types import Answer, Behaviour, Fan, Finished, Server, Stream, Timing
from kflab.errors import KflabError

S, MS = 1_000_000_000, 1_000_000
SHOP, DNS = 0, 1
"""Choosers."""
POD, COREDNS_A, COREDNS_B, CLIENT = range(4)
SERVERS = [Server("p", 0), Server("dns-a", 0), Server("dns-b", 1)]
TWO_COREDNS = Fan((COREDNS_A, COREDNS_B), (1, 1))


def stream(rate: float = 50.0, **fields: object) -> Stream:
    return Stream(0, "pod", rate, place=0, entries=((0, SHOP),), dns=((0, DNS),), **fields)  # type: ignore[arg-type]  # a test's fields


def engine(one: Stream, slab_ns: int = 100 * MS, timing: Timing = Timing()) -> Engine:  # noqa: B008 (frozen)
    made = Engine(Draws(3), timing, [one], SERVERS, 2, slab_ns=slab_ns)
    made.learn(SHOP, 0, Fan((POD,), (1,)))
    made.learn(DNS, 0, TWO_COREDNS)
    return made


def run(one: Stream, for_s: int = 120) -> tuple[Engine, Finished]:
    made = engine(one, S)
    made.advance(for_s * S)
    return made, made.take_finished()


@settings(max_examples=20, deadline=None)
@given(
    names=st.integers(0, 4),
    lost=st.sampled_from((0, 20_000, 200_000, 700_000)),
    linear=st.booleans(),
    timeout_s=st.sampled_from((1, 5)),
    slab_ms=st.sampled_from((7, 100, 2_000)),
    told=st.lists(
        st.tuples(
            st.integers(0, 15_000),
            st.sampled_from((COREDNS_A, COREDNS_B, POD, CLIENT)),
            st.sampled_from((Behaviour.LISTENS, Behaviour.REFUSES, Behaviour.SILENT)),
        ),
        max_size=5,
    ),
    fan=st.sampled_from(
        (TWO_COREDNS, Fan((COREDNS_B,), (1,)), Fan(answer=Answer.REJECTED), Fan(answer=Answer.TIMEOUT))
    ),
)
def test_a_batch_is_what_requests_one_by_one_come_to(names, lost, linear, timeout_s, slab_ms, told, fan):
    one = stream(8.0, names=names, lost_per_million=lost, linear_syns=linear)
    timing = Timing(dns_timeout_ns=timeout_s * S)
    batch, single = engine(one, slab_ms * MS, timing), Reference(Draws(3), timing, [one], SERVERS)
    single.learn(SHOP, 0, Fan((POD,), (1,)))
    single.learn(DNS, 0, TWO_COREDNS)
    for each in (batch, single):
        each.learn(DNS, 8 * S, fan)
    for t_ms, server, behaviour in sorted(told):
        if server == CLIENT:  # its process ends, and another goes on at once
            batch.end_client(0, t_ms * MS)
            single.advance(t_ms * MS)
            single.end_client(0)
            continue
        batch.behave(server, behaviour, t_ms * MS)
        single.advance(t_ms * MS)
        single.behave(server, behaviour)
    batch.advance(22 * S)
    single.advance(22 * S)
    assert sorted(engine_rows(batch.take_finished())) == sorted(single.rows)


def test_a_lost_packet_of_a_lookup_costs_five_seconds_and_two_in_a_row_the_request():
    made, rows = run(stream(names=1, lost_per_million=10_000), 240)
    took = rows.latency_ns / S
    good = rows.status == 200
    timeouts = rows.extra["asked"] >> 24
    resent = rows.extra["waited_ns"] > 0
    assert ((took[good & ~resent] // 5) == timeouts[good & ~resent]).all()
    assert took[good & (timeouts == 1) & ~resent].max() < 5.1
    share = (timeouts > 0).mean()
    expected = 1 - 0.99**4
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(rows)) ** 0.5
    failed = rows.status == -Answer.NO_NAME
    assert failed.sum() > 3
    assert took[failed].tolist() == pytest.approx([10.0] * int(failed.sum()))
    assert (rows.tries[failed] == 0).all()
    made.set_rate(0, 0.0, made.now_ns)
    made.advance(made.now_ns + 30 * S)
    questions = [part.extra["asked"] >> 16 & 0xFF for part in (rows, made.take_finished())]
    assert made.steps.dns_queries == 2 * int(sum(part.sum() for part in questions))


@pytest.mark.parametrize(("linear", "times"), [(False, {0, 1, 3}), (True, {0, 1, 2, 3, 4})])
def test_a_lost_syn_is_sent_again_at_the_kernels_times(linear, times):
    _, rows = run(stream(lost_per_million=200_000, linear_syns=linear))
    good = rows.status == 200
    assert set((rows.latency_ns[good] // S).tolist()) == times
    timeouts = rows.status == -Answer.SYN_LOST
    lost = 1 - 0.8**2
    expected = lost ** len(times)
    assert abs(timeouts.mean() - expected) < 4 * (expected * (1 - expected) / len(rows)) ** 0.5
    assert set(rows.latency_ns[timeouts].tolist()) == {5 * S}


def test_each_name_is_asked_twice_over_and_costs_a_round_trip():
    one, four = run(stream(names=1))[0], run(stream(names=4))[0]
    assert one.steps.dns_queries / one.finished.total == pytest.approx(2, rel=0.01)
    assert four.steps.dns_queries / four.finished.total == pytest.approx(8, rel=0.01)
    rows = run(stream(names=4))[1]
    lookups = rows.extra["lookup_ns"]
    near, far = Timing().same_node_ns, Timing().cross_node_ns
    assert lookups.min() >= 4 * (Timing().dns_ns + 2 * near)
    assert lookups.max() <= 4 * (Timing().dns_ns + 2 * far)


def test_while_coredns_is_silent_lookups_fail_after_ten_seconds_and_when_refused_at_once():
    for behaviour, took_s in ((Behaviour.SILENT, 10), (Behaviour.REFUSES, 0)):
        made = engine(stream(names=2))
        for server in (COREDNS_A, COREDNS_B):
            made.behave(server, behaviour, 0)
        made.advance(30 * S)
        rows = made.take_finished()
        assert set(rows.status.tolist()) == {-Answer.NO_NAME}
        assert set((rows.latency_ns // S).tolist()) == {took_s}


def test_losses_do_not_change_the_rest_of_the_luck():
    plain, lossy = run(stream(lost_per_million=0))[1], run(stream(lost_per_million=50_000))[1]
    common = lossy.extra["waited_ns"] == 0
    service = dict(zip(plain.number.tolist(), plain.service_ns.tolist(), strict=True))
    assert [service[n] for n in lossy.number[common].tolist()] == lossy.service_ns[common].tolist()


def test_chances_are_exact_integers():
    assert threshold(0, 4) == 0
    assert threshold(1_000_000, 2) == 1 << 32
    assert threshold(500_000, 2) == 3 << 30


def test_what_cannot_ask_is_refused():
    with pytest.raises(KflabError, match="only new connections of pods"):
        Engine(Draws(1), Timing(), [stream(names=1, connections=3)], SERVERS, 2)


def test_the_digest_does_not_depend_on_slabs():
    found = set()
    for slab_ms in (3, 100, 900):
        made = engine(stream(names=3, lost_per_million=60_000), slab_ms * MS)
        made.advance(20 * S)
        found.add(made.digest())
    assert len(found) == 1
    assert np.any(made.take_finished().extra["lookup_ns"] > 5 * S)
