"""Calls behind the front door: the engine and the event-by-event model agree, and what a caller sees follows."""

from dataclasses import replace
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_against_reference import (
    ENTRY_A,
    FIRST,
    INSIDE,
    LB,
    MS,
    PODS,
    TIMING,
    UP_A,
    UP_B,
    Change,
    changes,
    engine_rows,
    fans,
    make_streams,
)

from kflab.draws import Draws
from kflab.engine import chains, express
from kflab.engine.bins import Count
from kflab.engine.engine import Engine
from kflab.engine.reference import Reference
from kflab.engine.types import Answer, Behaviour, Call, Fan, Finished, Pick, Retry, Server, Stream, Timing

FRONT, CART, STOCK = 0, 1, 2
"""Groups of servers: PODS are the front's, behind them two more."""
CARTS, STOCKS = (6, 7), (8, 9, 10)
TO_CART, TO_STOCK = 6, 7
"""Choosers."""


def inner(index: int, parent: int, chooser: int, calls: tuple[tuple[int, tuple[Call, ...]], ...] = ()) -> Stream:
    entries = tuple((place, chooser) for place in range(3))
    return Stream(index, "call", 0.0, entries=entries, parent=parent, address=1000 + index, calls=calls)


def make_tree(keepalive: bool, idempotent: bool, tries: int, fatal: bool) -> list[Stream]:
    """Streams 0 (l7), 2 (pod) and 3 (l4) call the cart, then the stock, then the cart again; the cart calls stock."""
    streams = make_streams(keepalive, idempotent, tries, 2)
    for outer in (0, 2, 3):
        n = len(streams)
        made = (Call(n), Call(n + 1, fatal), Call(n + 2, fatal))
        streams[outer] = replace(streams[outer], calls=((FRONT, made),), rate_rps=streams[outer].rate_rps / 4)
        streams += [
            inner(n, outer, TO_CART, ((CART, (Call(n + 3, fatal),)),)), inner(n + 1, outer, TO_STOCK),
            inner(n + 2, outer, TO_CART), inner(n + 3, n, TO_STOCK),
        ]  # fmt: skip
    return streams


def make_servers(workers: int) -> list[Server]:
    ingress = [Server(f"i{n}", n, is_ingress=True) for n in range(2)]
    front = [Server(f"p{n}", n % 3, workers, ("default", "slow")[n % 2], group=FRONT) for n in range(len(PODS))]
    carts = [Server(f"c{n}", n, workers, group=CART) for n in range(len(CARTS))]
    return [*ingress, *front, *carts, *(Server(f"s{n}", n, workers, group=STOCK) for n in range(len(STOCKS)))]


START = {**FIRST, TO_CART: Fan(CARTS, (1, 1)), TO_STOCK: Fan(STOCKS, (1, 2, 1))}

when = st.integers(1, 400).map(lambda n: n * MS + n % 7)
inner_changes = st.lists(
    st.one_of(
        st.builds(
            lambda t, server, behaviour, drain: Change(t, "behave", server, behaviour=behaviour, drain=drain),
            when, st.sampled_from((*CARTS, *STOCKS, *PODS)),
            st.sampled_from((Behaviour.LISTENS, Behaviour.REFUSES, Behaviour.SILENT, Behaviour.HANGS)), st.booleans(),
        ),
        st.builds(lambda t, fan: Change(t, "learn", TO_CART, fan=fan), when, fans(CARTS)),
        st.builds(lambda t, fan: Change(t, "learn", TO_STOCK, fan=fan), when, fans(STOCKS)),
        st.builds(lambda t, place, off: Change(t, "cut", place, drain=off), when, st.integers(0, 2), st.booleans()),
    ),
    max_size=6,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.tuples(changes(), inner_changes).map(lambda both: sorted([*both[0], *both[1]], key=lambda one: one.t_ns)),
    seed=st.integers(0, 1000),
    in_turn=st.booleans(),
    keepalive=st.booleans(),
    idempotent=st.booleans(),
    fatal=st.booleans(),
    tries=st.integers(1, 3),
    workers=st.sampled_from((1, 3)),
    slab_ms=st.sampled_from((3, 37, 100)),
    bulk_from=st.sampled_from((1, 512)),
    impatient=st.booleans(),
)
def test_same_rows_as_the_reference(
    script: list[Change],
    seed: int,
    in_turn: bool,
    keepalive: bool,
    idempotent: bool,
    fatal: bool,
    tries: int,
    workers: int,
    slab_ms: int,
    bulk_from: int,
    impatient: bool,
) -> None:
    streams, servers = make_tree(keepalive, idempotent, tries, fatal), make_servers(workers)
    if impatient:  # clients give up amid calls, and try again
        again = Retry(2, True, True, True, frozenset({500, 502}), 5 * MS, 20 * MS)
        for outer in (0, 2, 3):
            streams[outer] = replace(streams[outer], attempt_timeout_ns=30 * MS, timeout_ns=70 * MS, retry=again)
    seldom, worth = (0, 0) if bulk_from == 1 else (chains.FROM_PER_S, chains.WORTH)
    with (
        mock.patch.object(express, "MIN_ROWS", bulk_from),
        mock.patch.object(chains, "FROM_PER_S", seldom),
        mock.patch.object(chains, "WORTH", worth),
    ):
        engine = Engine(Draws(seed), TIMING, streams, servers, 3, slab_ns=slab_ms * MS)
        slow = Reference(Draws(seed), TIMING, streams, servers)
        for model in (engine, slow):
            model.set_pick(LB, Pick.FLOW_HASH)
            for chooser in (UP_A, UP_B) if in_turn else ():
                model.set_pick(chooser, Pick.ROUND_ROBIN)
            for chooser, fan in START.items():
                model.learn(chooser, 0, fan)
            for change in script:
                if change.what == "learn":
                    model.learn(change.subject, change.t_ns, change.fan)
        for change in script:
            if change.what == "behave":
                engine.behave(change.subject, change.behaviour, change.t_ns, drain=change.drain)
                slow.advance(change.t_ns)
                slow.behave(change.subject, change.behaviour, drain=change.drain)
            elif change.what == "cut":
                engine.cut(change.subject, change.drain, change.t_ns)
                slow.advance(change.t_ns)
                slow.cut(change.subject, change.drain)
            elif change.what == "rate":
                engine.set_rate(change.subject, change.rate, change.t_ns)
                slow.advance(change.t_ns)
                slow.set_rate(change.subject, change.rate)
        engine.advance(500 * MS)
        slow.advance(500 * MS)
    got = engine_rows(engine.take_finished())
    expected = sorted(slow.rows, key=lambda row: (row[3], row[0], row[1]))
    for mine, theirs in zip(got, expected, strict=False):
        assert mine == theirs
    assert len(got) == len(expected)
    assert engine.in_flight == len(slow.live)
    sent = engine.bins.totals(Count.STREAM_SENT).sum() + engine.bins.totals(Count.STREAM_AGAIN).sum()
    assert int(sent) == len(got) + engine.in_flight  # every call that started is over, or under way


def chain(rate_rps: float = 200.0, fatal: bool = True, slab_ns: int = 100 * MS) -> Engine:
    """A caller in a pod → front → cart → stock, one pod each."""
    streams = [
        Stream(0, "pod", rate_rps, place=0, entries=((0, INSIDE),), calls=((FRONT, (Call(1, fatal),)),)),
        inner(1, 0, TO_CART, ((CART, (Call(2),)),)),
        inner(2, 1, TO_STOCK),
    ]
    engine = Engine(Draws(3), TIMING, streams, make_servers(3), 3, slab_ns=slab_ns)
    for chooser, candidates in ((ENTRY_A, (0,)), (INSIDE, (2,)), (TO_CART, (6,)), (TO_STOCK, (8,))):
        engine.learn(chooser, 0, Fan(candidates, (1,)))
    return engine


def of_stream(rows: Finished, stream: int) -> dict[int, int]:
    """Number → place of a stream's rows."""
    return {int(rows.number[i]): i for i in range(len(rows)) if rows.stream[i] == stream}


def test_an_answer_waits_for_the_calls_behind_it() -> None:
    engine = chain()
    engine.advance(1000 * MS)
    rows = engine.take_finished()
    fronts, carts = of_stream(rows, 0), of_stream(rows, 1)
    assert len(fronts) > 100
    for number, i in fronts.items():
        cart = carts[number << 4]
        own = rows.queue_ns[i] + rows.service_ns[i]
        assert rows.status[i] == 200
        assert rows.start_ns[cart] == rows.start_ns[i] + 20_000 + own  # same node: 20 µs one way
        assert rows.finish_ns[i] == rows.finish_ns[cart] + 20_000


def test_a_dead_callee_fails_its_callers_one_by_one_upwards() -> None:
    engine = chain()
    engine.behave(8, Behaviour.REFUSES, 300 * MS)
    engine.advance(1000 * MS)
    rows = engine.take_finished()
    late = rows.start_ns > 310 * MS
    for stream, status in ((0, 500), (1, 500), (2, -Answer.REFUSED)):
        mine = rows.status[(rows.stream == stream) & late]
        assert len(mine) > 50
        assert (mine == status).all()


def test_a_failed_call_may_be_ignored() -> None:
    engine = chain(fatal=False)
    engine.behave(8, Behaviour.REFUSES, 300 * MS)
    engine.advance(1000 * MS)
    rows = engine.take_finished()
    assert (rows.status[rows.stream == 0] == 200).all()
    assert (rows.status[(rows.stream == 1) & (rows.start_ns > 310 * MS)] == 500).all()


def test_a_crash_while_waiting_resets_the_caller_and_the_call_goes_on() -> None:
    engine = chain()
    engine.behave(6, Behaviour.SILENT, 200 * MS)  # the front now waits for a cart that does not answer
    engine.behave(2, Behaviour.REFUSES, 240 * MS)
    engine.advance(1000 * MS)
    rows = engine.take_finished()
    fronts, carts = of_stream(rows, 0), of_stream(rows, 1)
    reset = [number for number, i in fronts.items() if rows.status[i] == -Answer.RESET]
    waited = [number for number in reset if number << 4 in carts]
    assert waited
    for number in waited:
        assert rows.finish_ns[fronts[number]] == 240 * MS + 20_000
        assert rows.finish_ns[carts[number << 4]] > 240 * MS + 20_000
        assert rows.status[carts[number << 4]] == -Answer.TIMEOUT


def test_slab_length_changes_nothing() -> None:
    digests = set()
    for slab_ms in (3, 41, 500):
        engine = chain(slab_ns=slab_ms * MS)
        engine.behave(6, Behaviour.REFUSES, 400 * MS)
        engine.behave(6, Behaviour.LISTENS, 600 * MS)
        engine.advance(1000 * MS)
        digests.add(engine.digest())
    assert len(digests) == 1


def test_many_calls_are_taken_in_bulk_and_come_to_the_same() -> None:
    digests = []
    for bulk in (False, True):
        engine = chain(rate_rps=3000.0)
        engine.behave(6, Behaviour.REFUSES, 400 * MS)
        engine.behave(6, Behaviour.LISTENS, 500 * MS)
        with mock.patch.object(chains, "FROM_PER_S", 0 if bulk else 1 << 40):
            engine.advance(800 * MS)
        assert bool(engine.steps.call_rounds) == bulk
        digests.append(engine.digest())
    assert digests[0] == digests[1]


def late_caller(seed: int) -> Engine:
    """A front calls a store, then a pod that calls the store three times, then the store again; the store is busy."""

    def call(index: int, parent: int, chooser: int, *below: int) -> Stream:
        calls = ((CART, tuple(Call(n) for n in below)),) if below else ()
        return inner(index, parent, chooser, calls)

    streams = [Stream(0, "pod", 500.0, place=0, entries=((0, 0),), calls=((FRONT, (Call(1), Call(2), Call(3))),))]
    streams += [call(1, 0, 2), call(2, 0, 1, 4, 5, 6), call(3, 0, 2), *(call(n, 2, 2) for n in (4, 5, 6))]
    servers = [Server("f", 0, 64, group=FRONT), Server("m", 1, 64, group=CART), Server("b", 2, 8, group=STOCK)]
    engine = Engine(Draws(seed), Timing(), streams, servers, 3)
    for chooser in range(3):
        engine.learn(chooser, 0, Fan((chooser,), (1,)))
    return engine


def test_a_caller_that_turns_out_to_be_late_makes_no_calls() -> None:
    """In a busy slab, calls that were found first and are not made after all hold up nobody."""
    for seed in range(2):
        bulk, one_by_one = late_caller(seed), late_caller(seed)
        with mock.patch.object(chains, "FROM_PER_S", 1), mock.patch.object(chains, "WORTH", 0):
            bulk.advance(400 * MS)
        with mock.patch.object(chains, "FROM_PER_S", 1 << 40):
            one_by_one.advance(400 * MS)
        assert bulk.steps.call_rounds > 20
        assert one_by_one.steps.call_rounds == 0
        assert bulk.digest() == one_by_one.digest()
