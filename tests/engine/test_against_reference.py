"""The vectorised engine and the event-by-event model produce the very same rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kflab.draws import Draws
from kflab.engine import ewma, express, reference_ewma
from kflab.engine.engine import Engine
from kflab.engine.neighbours import Neighbours
from kflab.engine.pools import PoolLimits
from kflab.engine.reference import Reference
from kflab.engine.reference_ewma import PlainScores
from kflab.engine.types import Answer, Behaviour, Fan, Finished, Pick, Server, Stream, Timing

MS = 1_000_000
N_INGRESS = 2
N_PODS = 4
N_SERVERS = N_INGRESS + N_PODS
LB, ENTRY_A, ENTRY_B, UP_A, UP_B, INSIDE = range(6)
PODS = tuple(range(N_INGRESS, N_SERVERS))

# Short timeouts, so that runs of half a second see tries after them.
TIMING = Timing(
    connect_timeout_ns=50 * MS,
    read_timeout_ns=120 * MS,
    keepalive_idle_ns=20 * MS,
    keepalive_connections=3,
    service_p50_ns=5 * MS,
    service_tables=(("slow", 20 * MS, 60 * MS),),
)

FAR = replace(TIMING, same_node_ns=1 * MS, cross_node_ns=4 * MS)
"""Long ways, so that much is on them when something happens."""


@dataclass(frozen=True)
class Change:
    """Something that happens in a run."""

    t_ns: int
    what: str
    subject: int
    fan: Fan | None = None
    behaviour: int = Behaviour.LISTENS
    drain: bool = False
    rate: float = 0.0


def fans(candidates: tuple[int, ...]) -> st.SearchStrategy[Fan]:
    some = st.lists(st.sampled_from(candidates), min_size=1, max_size=len(candidates), unique=True)
    weighted = some.flatmap(
        lambda chosen: st.lists(st.sampled_from((1, 1, 1, 2)), min_size=len(chosen), max_size=len(chosen)).map(
            lambda weights: Fan(tuple(chosen), tuple(weights))
        )
    )
    empty = st.sampled_from((Answer.REJECTED, Answer.TIMEOUT, Answer.NO_UPSTREAM)).map(lambda a: Fan(answer=a))
    return st.one_of(weighted, weighted, weighted, empty)


def changes() -> st.SearchStrategy[list[Change]]:
    when = st.integers(1, 400).map(lambda n: n * MS + n % 7)
    learns = st.one_of(
        st.tuples(st.sampled_from((UP_A, UP_B, INSIDE)), fans(PODS)),
        st.tuples(st.sampled_from((ENTRY_A, ENTRY_B)), fans((0, 1))),
        st.tuples(st.just(LB), fans((0, 1))),
    )
    learn = st.builds(lambda t, pair: Change(t, "learn", pair[0], fan=pair[1]), when, learns)
    behave = st.builds(
        lambda t, server, behaviour, drain: Change(t, "behave", server, behaviour=behaviour, drain=drain),
        when,
        st.integers(0, N_SERVERS - 1),
        st.sampled_from((Behaviour.LISTENS, Behaviour.REFUSES, Behaviour.SILENT)),
        st.booleans(),
    )
    hang = st.builds(
        lambda t, server: Change(t, "behave", server, behaviour=Behaviour.HANGS), when, st.sampled_from(PODS)
    )
    rate = st.builds(
        lambda t, s, r: Change(t, "rate", s, rate=r), when, st.integers(0, 3), st.sampled_from((50.0, 900.0))
    )
    cut = st.builds(lambda t, place, off: Change(t, "cut", place, drain=off), when, st.integers(0, 2), st.booleans())
    flows = st.builds(
        lambda t, target, silent: Change(t, "flows", target, drain=silent),
        when,
        st.sampled_from((0, 1, *PODS)),
        st.booleans(),
    )
    return st.lists(st.one_of(behave, learn, behave, hang, rate, cut, flows, gone()), min_size=2, max_size=12).map(
        lambda found: sorted(found, key=lambda change: change.t_ns)
    )


def gone() -> st.SearchStrategy[Change]:
    """The process of a client in a pod ends, and another one goes on at once."""
    when = st.integers(1, 400).map(lambda n: n * MS + n % 7)
    return st.builds(lambda t, stream: Change(t, "gone", stream), when, st.sampled_from((2, 8, 9)))


def make_streams(
    keepalive: bool, idempotent: bool, tries: int, places: int, keeping: list[Stream] | None = None
) -> list[Stream]:
    entries = tuple((place, (ENTRY_A, ENTRY_B)[place]) for place in range(places))
    ways = {"lb": LB, "entries": entries, "upstreams": ((0, UP_A), (1, UP_B))}
    l7 = {**ways, "client": "203.0.113.45", "destination": "x:443"}
    return [
        Stream(0, "l7", 700.0, tries=tries, keepalive=keepalive, pinned_ports=((0, 54321, 39123),), **l7),
        Stream(1, "l7", 200.0, idempotent=idempotent, **l7),
        Stream(2, "pod", 300.0, place=0, entries=((0, INSIDE),)),
        Stream(3, "l4", 100.0, lb=LB, entries=((0, INSIDE), (1, INSIDE))),
        Stream(4, "node", 50.0, place=1, entries=((1, INSIDE),)),
        Stream(5, "l7", 30.0, no_route=True, **l7),
        Stream(6, "l4", 100.0, lb=LB, entries=((0, INSIDE), (1, INSIDE)), http_front=True,
               connect_timeout_ns=70 * MS, read_timeout_ns=150 * MS),
        Stream(7, "l4", 30.0, lb=LB, http_front=True, front_answer=404),
        *(keeping or ()),
    ]  # fmt: skip


def keep(connections: int, age_ms: int, idempotent: bool) -> list[Stream]:
    """Two clients in pods on different nodes."""
    return [
        Stream(8, "pod", 400.0, place=0, entries=((0, INSIDE),), connections=connections, idempotent=idempotent,
               connection_age_ns=age_ms * MS),
        Stream(9, "pod", 150.0, place=1, entries=((1, INSIDE),), connections=1),
    ]  # fmt: skip


def make_servers(workers: int, shared: bool = False) -> list[Server]:
    ingress = [Server(f"i{n}", n, is_ingress=True) for n in range(N_INGRESS)]
    backlogs = (4096, 5, 0, 40)
    return ingress + [
        Server(f"p{n}", n % 3, workers, ("default", "slow")[n % 2], backlog=backlogs[n], shared_queue=shared and n != 1,
               idle_close_ns=(0, 0, 2 * MS, 9 * MS)[n])
        for n in range(N_PODS)
    ]  # fmt: skip


FIRST = {
    LB: Fan((0, 1), (1, 1)),
    ENTRY_A: Fan((0, 1), (1, 1)),
    ENTRY_B: Fan((1,), (1,)),
    UP_A: Fan(PODS, (1,) * N_PODS),
    UP_B: Fan(PODS, (1,) * N_PODS),
    INSIDE: Fan(PODS, (1, 2, 1, 1)),
}


def engine_rows(finished: Finished) -> list[tuple[object, ...]]:
    columns = [
        *(finished.stream, finished.number, finished.start_ns, finished.finish_ns, finished.status, finished.tries),
        *(finished.node, finished.ingress, finished.queue_ns, finished.service_ns),
        *(finished.extra["kept"], finished.extra["lost"]),
    ]
    per_try = [finished.try_server, finished.try_answer, finished.try_start_ns, finished.try_end_ns]
    per_try.append(finished.try_worker)
    plain = [column.tolist() for column in columns]
    tries = [[tuple(int(column[row, k]) for column in per_try) for k in range(3)] for row in range(len(finished))]
    return [(*values, *tries[row]) for row, values in enumerate(zip(*plain, strict=True))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=changes(),
    seed=st.integers(0, 1000),
    in_turn=st.booleans(),
    keepalive=st.booleans(),
    idempotent=st.booleans(),
    tries=st.integers(1, 3),
    workers=st.sampled_from((1, 3)),
    slab_ms=st.sampled_from((3, 37, 100)),
    bulk_from=st.sampled_from((1, 512)),
    keeps=st.booleans(),
    timing=st.sampled_from((TIMING, FAR)),
)
def test_same_rows(
    script: list[Change],
    seed: int,
    in_turn: bool,
    keepalive: bool,
    idempotent: bool,
    tries: int,
    workers: int,
    slab_ms: int,
    bulk_from: int,
    keeps: bool,
    timing: Timing,
) -> None:
    keeping = keep(3, 60, idempotent) if keeps else None
    with mock.patch.object(express, "MIN_ROWS", bulk_from):
        compare(script, seed, in_turn, keepalive, idempotent, tries, workers, slab_ms, keeping=keeping, timing=timing)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=changes(), seed=st.integers(0, 1000), in_turn=st.booleans(), keepalive=st.booleans(),
    slab_ms=st.sampled_from((3, 37, 100)),
)  # fmt: skip
def test_same_rows_where_workers_share_a_queue(
    script: list[Change], seed: int, in_turn: bool, keepalive: bool, slab_ms: int
) -> None:
    compare(script, seed, in_turn, keepalive, True, 2, 3, slab_ms, shared=True)


def score(model: Engine | Reference, *pods: int) -> None:
    """Let NGINX pick by scores: those of the same number are shared."""
    known = {pod: PlainScores() for pod in pods}
    for chooser, pod in zip((UP_A, UP_B), pods, strict=True):
        if isinstance(model, Engine):
            model.set_pick(chooser, Pick.EWMA, pod)
        else:
            model.set_pick(chooser, Pick.EWMA)
            model.scores[chooser] = known[pod]


def give_up(stream: Stream) -> Stream:
    """Clients that close their connection after a while."""
    return replace(stream, attempt_timeout_ns=60 * MS) if stream.index in (1, 2) else stream


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=changes(), seed=st.integers(0, 1000), keepalive=st.booleans(), idempotent=st.booleans(),
    tries=st.integers(1, 3), slab_ms=st.sampled_from((3, 37, 100)), shared=st.booleans(), patient=st.booleans(),
)  # fmt: skip
def test_same_rows_where_nginx_goes_by_response_times(
    script: list[Change], seed: int, keepalive: bool, idempotent: bool, tries: int, slab_ms: int, shared: bool,
    patient: bool,
) -> None:  # fmt: skip
    behaving = (lambda stream: stream) if patient else give_up
    pods = (0, 0) if shared else (0, 1)
    weight = ewma.weight
    # Scores forget 250 times as fast, so that half a second sees many of them change.
    with (
        mock.patch.object(ewma, "weight", lambda ms: weight(250 * ms)),
        mock.patch.object(reference_ewma, "DECAY_S", 0.04),
    ):
        compare(script, seed, False, keepalive, idempotent, tries, 3, slab_ms, behaving=behaving, scored=pods)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=changes(), seed=st.integers(0, 1000), keepalive=st.booleans(), slab_ms=st.sampled_from((3, 37, 100)))
def test_same_rows_where_nginx_draws_the_pod(script: list[Change], seed: int, keepalive: bool, slab_ms: int) -> None:
    compare(script, seed, False, keepalive, True, 3, 3, slab_ms, drawn=True)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=changes(), seed=st.integers(0, 1000), in_turn=st.booleans(), slab_ms=st.sampled_from((3, 37, 100)),
    requests=st.sampled_from((1, 4, 10_000)), time_ms=st.sampled_from((15, 60, 3600_000)),
)  # fmt: skip
def test_same_rows_where_kept_connections_grow_old(
    script: list[Change], seed: int, in_turn: bool, slab_ms: int, requests: int, time_ms: int
) -> None:
    limits = PoolLimits(2, 35 * MS, time_ms * MS, requests)
    compare(script, seed, in_turn, True, True, 3, 3, slab_ms, limits=limits)


def new_peers() -> st.SearchStrategy[list[Change]]:
    some = st.lists(st.sampled_from(PODS), min_size=1, max_size=N_PODS, unique=True).map(sorted)
    one = st.builds(
        lambda t, chooser, listed: Change(t, "learn", chooser, fan=Fan(tuple(listed), (1,) * len(listed))),
        st.integers(1, 400).map(lambda n: n * MS + n % 7), st.sampled_from((UP_A, UP_B)), some,
    )  # fmt: skip
    return st.lists(one, min_size=6, max_size=12).map(lambda found: sorted(found, key=lambda change: change.t_ns))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=new_peers(), seed=st.integers(0, 1000), shared=st.booleans())
def test_new_peers_start_at_the_mean_score_and_those_gone_are_forgotten(
    script: list[Change], seed: int, shared: bool
) -> None:
    compare(script, seed, False, True, True, 3, 3, 37, scored=(0, 0) if shared else (0, 1))


def compare(
    script: list[Change],
    seed: int,
    in_turn: bool,
    keepalive: bool,
    idempotent: bool,
    tries: int,
    workers: int,
    slab_ms: int,
    shared: bool = False,
    keeping: list[Stream] | None = None,
    timing: Timing = TIMING,
    neighbours: Callable[[], Neighbours] | None = None,
    behaving: Callable[[Stream], Stream] = lambda stream: stream,
    scored: tuple[int, int] | None = None,
    drawn: bool = False,
    limits: PoolLimits | None = None,
) -> None:
    streams = [behaving(stream) for stream in make_streams(keepalive, idempotent, tries, 2, keeping)]
    servers = make_servers(workers, shared)
    engine = Engine(Draws(seed), timing, streams, servers, 3, slab_ns=slab_ms * MS)
    slow = Reference(Draws(seed), timing, streams, servers)
    if neighbours is not None:
        engine.steps.neighbours, slow.neighbours = neighbours(), neighbours()
    for model in (engine, slow):
        model.set_pick(LB, Pick.FLOW_HASH)
        if in_turn:
            model.set_pick(UP_A, Pick.ROUND_ROBIN)
            model.set_pick(UP_B, Pick.ROUND_ROBIN)
        if scored is not None:
            score(model, *scored)
        if limits is not None:
            (model.pools if isinstance(model, Reference) else model.memory.pools).limits[0] = limits
        for chooser in (UP_A, UP_B) if drawn else ():
            model.set_pick(chooser, Pick.PEER_DRAWN)
        for chooser, fan in FIRST.items():
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
        elif change.what == "flows":
            place, server = (-1, change.subject) if change.subject in PODS else (change.subject, -1)
            engine.end_flows(LB, change.t_ns, place=place, server=server, silent=change.drain)
            slow.advance(change.t_ns)
            slow.end_flows(LB, place, server, change.drain)
        elif change.what == "gone" and change.subject < len(streams):
            engine.end_client(change.subject, change.t_ns)
            slow.advance(change.t_ns)
            slow.end_client(change.subject)
        elif change.what == "rate":
            engine.set_rate(change.subject, change.rate, change.t_ns)
            slow.advance(change.t_ns)
            slow.set_rate(change.subject, change.rate)
    engine.advance(500 * MS)
    slow.advance(500 * MS)
    finished = engine.take_finished()
    order = np.lexsort((finished.number, finished.stream, finished.finish_ns))
    assert (order == np.arange(len(finished))).all()
    assert len(finished) > 100
    expected = sorted(slow.rows, key=lambda row: (row[3], row[0], row[1]))
    got = engine_rows(finished)
    for mine, theirs in zip(got, expected, strict=False):
        assert mine == theirs
    assert len(got) == len(expected)
    assert engine.in_flight == len(slow.live)


def changes_at_pods() -> st.SearchStrategy[list[Change]]:
    when = st.integers(20, 450).map(lambda n: n * MS + n % 7)
    behave = st.builds(
        lambda t, server, behaviour, drain: Change(t, "behave", server, behaviour=behaviour, drain=drain),
        when,
        st.sampled_from(PODS),
        st.sampled_from((Behaviour.REFUSES, Behaviour.LISTENS, Behaviour.REFUSES, Behaviour.SILENT, Behaviour.HANGS)),
        st.sampled_from((False, False, True)),
    )
    learn = st.builds(lambda t, fan: Change(t, "learn", INSIDE, fan=fan), when, fans(PODS))
    cut = st.builds(lambda t, place, off: Change(t, "cut", place, drain=off), when, st.integers(0, 2), st.booleans())
    some = st.lists(st.one_of(behave, behave, behave, learn, cut, gone()), min_size=4, max_size=16)
    return some.map(lambda found: sorted(found, key=lambda change: change.t_ns))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=changes_at_pods(),
    seed=st.integers(0, 1000),
    connections=st.sampled_from((1, 3, 40)),
    age_ms=st.sampled_from((0, 60, 1)),
    idempotent=st.booleans(),
    slab_ms=st.sampled_from((3, 37, 100)),
    timing=st.sampled_from((TIMING, FAR)),
)
def test_same_rows_of_clients_that_keep_connections(
    script: list[Change], seed: int, connections: int, age_ms: int, idempotent: bool, slab_ms: int, timing: Timing
) -> None:
    keeping = keep(connections, age_ms, idempotent)
    compare(script, seed, False, False, idempotent, 2, 3, slab_ms, keeping=keeping, timing=timing)
