"""Clients with deadlines and retries: the engine agrees with the event-by-event model, whatever the slab."""

from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_against_reference import FAR, MS, TIMING, Change, changes, compare, keep

from kflab.draws import Draws
from kflab.engine.bins import Count
from kflab.engine.engine import Engine
from kflab.engine.retries_ahead import RetriesAhead
from kflab.engine.retrying import attempt_of, request_of
from kflab.engine.types import Answer, Behaviour, Fan, Finished, Retry, Server, Stream, Timing
from kflab.errors import KflabError

S = 1_000_000_000
ALL = Retry(2, True, True, True, frozenset({500, 502, 503, 504}), backoff_ns=4 * MS, backoff_max_ns=20 * MS)


def retries() -> st.SearchStrategy[Retry | None]:
    some = st.builds(
        lambda attempts, kinds, base, budget: Retry(
            attempts,
            *kinds,
            frozenset({502, 503, 504}),
            base * MS,
            3 * base * MS,
            budget,
            100 * MS,
            10 if budget else 0,
        ),
        st.sampled_from((1, 3)),
        st.tuples(st.booleans(), st.booleans(), st.booleans()),
        st.sampled_from((0, 1, 30)),
        st.sampled_from((-1, -1, 0, 20)),
    )
    return st.one_of(st.none(), some, some)


def impatient(stream: Stream, retry: Retry | None, whole_ms: int, own_ms: int, dial_ms: int, peer_ms: int) -> Stream:
    return replace(
        stream,
        retry=retry,
        timeout_ns=whole_ms * MS,
        attempt_timeout_ns=own_ms * MS,
        dial_timeout_ns=dial_ms * MS,
        peer_timeout_ns=peer_ms * MS if stream.connections else 0,
    )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=changes(),
    seed=st.integers(0, 1000),
    retry=retries(),
    whole_ms=st.sampled_from((0, 25, 90)),
    own_ms=st.sampled_from((0, 8, 60)),
    dial_ms=st.sampled_from((0, 10)),
    in_turn=st.booleans(),
    keepalive=st.booleans(),
    slab_ms=st.sampled_from((3, 37, 100)),
    timing=st.sampled_from((TIMING, FAR)),
)
def test_same_rows(
    script: list[Change], seed: int, retry: Retry | None, whole_ms: int, own_ms: int, dial_ms: int, in_turn: bool,
    keepalive: bool, slab_ms: int, timing: Timing,
) -> None:  # fmt: skip
    patient = (5, 7)

    def behaving(stream: Stream) -> Stream:
        if stream.index in patient:
            return stream
        return impatient(stream, retry, whole_ms, own_ms, dial_ms, 40)

    compare(
        script,
        seed,
        in_turn,
        keepalive,
        False,
        2,
        3,
        slab_ms,
        keeping=keep(3, 60, True),
        timing=timing,
        behaving=behaving,
    )


def pod_client(rate: float = 200.0, pods: int = 2, slab_ns: int = 100 * MS, **more: object) -> Engine:
    """A client on node 0, pods on node 1, each served in a few ms."""
    stream = replace(Stream(0, "pod", rate, place=0, entries=((0, 0),)), **more)  # type: ignore[arg-type]
    timing = Timing(service_p50_ns=3 * MS, service_p99_ns=6 * MS)
    engine = Engine(Draws(3), timing, [stream], [Server(f"p{n}", 1, 4) for n in range(pods)], 2, slab_ns=slab_ns)
    engine.learn(0, 0, Fan(tuple(range(pods)), (1,) * pods))
    return engine


def by_request(rows: Finished) -> dict[int, list[int]]:
    """Number of each request → places of its attempts, in order."""
    found: dict[int, list[int]] = {}
    for i in range(len(rows)):
        found.setdefault(int(request_of(rows.number[i])), []).append(i)
    return found


def test_a_refused_attempt_is_made_again_at_the_next_pod() -> None:
    engine = pod_client(retry=replace(ALL, attempts=8, backoff_ns=0))
    engine.behave(0, Behaviour.REFUSES, 1 * S)
    engine.advance(3 * S)
    rows = engine.take_finished()
    requests = by_request(rows)
    over = [attempts[-1] for attempts in requests.values() if not rows.extra["next_ns"][attempts[-1]]]
    assert ((rows.status[over] == 200) | (attempt_of(rows.number[over]) == 8)).all()
    again = [attempts for attempts in requests.values() if len(attempts) > 1]
    assert len(again) > 100
    for first, second, *_ in again:
        assert rows.status[first] in (-Answer.REFUSED, -Answer.RESET)
        assert rows.start_ns[second] == rows.finish_ns[first] == rows.extra["next_ns"][first]
        assert rows.extra["since_ns"][second] == rows.start_ns[second] - rows.start_ns[first]
    failed = engine.bins.totals(Count.STREAM_FAILED)[0]
    assert failed == (rows.status[over] != 200).sum()
    assert failed < 5
    assert engine.bins.totals(Count.STREAM_AGAIN)[0] == sum(len(attempts) - 1 for attempts in requests.values())
    assert engine.bins.totals(Count.STREAM_SENT)[0] == len(requests) + engine.in_flight


def test_only_what_it_says_is_tried_again() -> None:
    engine = pod_client(retry=replace(ALL, connect_failure=False, reset=False))
    engine.behave(0, Behaviour.REFUSES, 1 * S)
    engine.advance(3 * S)
    rows = engine.take_finished()
    assert (rows.status == -Answer.REFUSED).sum() > 100
    assert not attempt_of(rows.number).any()


def test_the_wait_before_a_retry_grows_and_is_drawn_anew() -> None:
    engine = pod_client(pods=1, retry=replace(ALL, attempts=4, backoff_ns=10 * MS, backoff_max_ns=30 * MS))
    engine.behave(0, Behaviour.REFUSES, 0)
    engine.advance(3 * S)
    rows = engine.take_finished()
    waits = [
        [int(rows.extra["next_ns"][i] - rows.finish_ns[i]) for i in attempts[:-1]]
        for attempts in by_request(rows).values() if len(attempts) == 5
    ]  # fmt: skip
    for retry, bound in enumerate((10, 20, 30, 30)):
        mine = [of_one[retry] for of_one in waits]
        assert 0 <= min(mine) < bound * MS / 20
        assert bound * MS * 0.95 < max(mine) < bound * MS


def test_a_client_that_gives_up_leaves_the_work_to_the_pod() -> None:
    patient, impatient_ = pod_client(rate=2_000.0, pods=1), pod_client(rate=2_000.0, pods=1, timeout_ns=20 * MS)
    for engine in (patient, impatient_):
        engine.advance(2 * S)
    rows = impatient_.take_finished()
    late = rows.status == -Answer.GAVE_UP
    assert late.sum() > 1000
    assert (rows.finish_ns[late] == rows.start_ns[late] + 20 * MS).all()
    assert (rows.try_answer[late, 0] == Answer.GAVE_UP).all()
    assert (rows.finish_ns - rows.start_ns).max() == 20 * MS
    # Its queue is as long as if all of them still waited.
    assert (patient.memory.busy_until == impatient_.memory.busy_until).all()


def test_an_attempt_may_end_before_the_request_does() -> None:
    engine = pod_client(attempt_timeout_ns=50 * MS, timeout_ns=120 * MS, retry=replace(ALL, attempts=5, backoff_ns=0))
    engine.behave(0, Behaviour.HANGS, 1 * S)
    engine.behave(1, Behaviour.HANGS, 1 * S)
    engine.advance(2 * S)
    rows = engine.take_finished()
    hung = {n: ends for n, ends in by_request(rows).items() if rows.start_ns[ends[0]] > 1 * S and len(ends) == 3}
    assert len(hung) > 100
    for attempts in hung.values():
        lasted = [int(rows.finish_ns[i] - rows.start_ns[i]) for i in attempts]
        assert lasted == [50 * MS, 50 * MS, 20 * MS]


@pytest.mark.parametrize(("percent", "rate", "allowed"), [(20, 0, 0.2), (20, 10, 0.25), (0, 0, 0.0), (100, 0, 1.0)])
def test_a_budget_holds_retries_to_a_share(percent: int, rate: int, allowed: float) -> None:
    budget = replace(ALL, attempts=1, budget_percent=percent, budget_interval_ns=1 * S, budget_min_rate=rate)
    engine = pod_client(rate=200.0, pods=1, retry=budget)
    engine.behave(0, Behaviour.REFUSES, 0)
    engine.advance(10 * S)
    share = engine.bins.totals(Count.STREAM_AGAIN)[0] / engine.bins.totals(Count.STREAM_SENT)[0]
    assert allowed * 0.95 <= share <= allowed * 1.03


def test_retries_multiply_the_load_on_who_answers_with_errors() -> None:
    counts = []
    for retry in (None, replace(ALL, attempts=3)):
        engine = pod_client(pods=1, retry=retry)
        engine.behave(0, Behaviour.REFUSES, 1 * S)
        engine.advance(5 * S)
        counts.append(engine.choosers.connections(0)[0][1])
    assert 3.0 < counts[1] / counts[0] < 4.0


def test_slab_length_changes_nothing() -> None:
    digests = set()
    for slab_ms in (7, 100, 500):
        engine = pod_client(slab_ns=slab_ms * MS, timeout_ns=300 * MS, attempt_timeout_ns=40 * MS, retry=ALL)
        engine.behave(0, Behaviour.HANGS, 1 * S)
        engine.behave(0, Behaviour.REFUSES, 2 * S)
        engine.advance(3 * S)
        digests.add(engine.digest())
    assert len(digests) == 1


def test_a_kept_connection_to_a_vanished_pod_dies_as_a_whole() -> None:
    engine = pod_client(connections=1, timeout_ns=60 * S, peer_timeout_ns=3 * S)
    engine.learn(0, 1 * S, Fan((1,), (1,)))
    engine.advance(1 * S)
    gone = int(engine.take_finished().try_server[0, 0])
    engine.behave(gone, Behaviour.SILENT, 1 * S)
    engine.advance(5 * S)
    rows = engine.take_finished()
    stuck = rows.status == -Answer.TIMEOUT
    assert stuck.sum() > 400
    ends = set(rows.finish_ns[stuck & (rows.start_ns > 1 * S)].tolist())
    assert len(ends) == 1
    assert 4 * S <= ends.pop() < 4.1 * S
    assert (rows.status[rows.start_ns > 4.1 * S] == 200).all()


def test_senseless_streams_are_refused() -> None:
    for bad in (Stream(0, "pod", 1.0, retry=Retry(0)), Stream(0, "pod", 1.0, retry=Retry(16)),
                Stream(0, "pod", 1.0, flow_port=5, timeout_ns=1 * S)):  # fmt: skip
        with pytest.raises(KflabError, match="stream 0"):
            Engine(Draws(1), TIMING, [bad], [], 1)


def test_bulk_and_event_by_event_come_to_the_same() -> None:
    digests, ordered = set(), []
    for always in (False, True):
        with mock.patch.object(RetriesAhead, "may_begin", return_value=True) if always else nullcontext():
            engine = pod_client(rate=400.0, attempt_timeout_ns=200 * MS, retry=ALL)
            engine.learn(0, 2 * S, Fan((1,), (1,)))
            engine.behave(0, Behaviour.REFUSES, 1 * S)
            engine.behave(0, Behaviour.LISTENS, 4 * S)
            engine.advance(6 * S)
            digests.add(engine.digest())
            ordered.append(engine.steps.ordered_rows)
    assert len(digests) == 1
    assert 200 < ordered[0] < ordered[1] / 3
