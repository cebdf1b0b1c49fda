"""A load balancer ends its flows to a target: who hears what, when, and who does not."""

import numpy as np
import pytest

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.types import Answer, Behaviour, Fan, Finished, Server, Stream, Timing

MS = 1_000_000
S = 1000 * MS

TIMING = Timing(service_p50_ns=2 * S, service_p99_ns=3 * S, read_timeout_ns=20 * S)
"""Slow servers: much is in hand at any time."""

CUT_NS = 5 * S
WAY = TIMING.client_lb_ns


def engine_of() -> Engine:
    """Two nodes with one pod each and an ingress server on node 0: flows l4, behind an HTTP front, l7, from a pod."""
    ways = {"lb": 0, "entries": ((0, 1), (1, 2))}
    streams = [
        Stream(0, "l4", 40.0, client="c", destination="x:80", **ways),
        Stream(1, "l4", 40.0, http_front=True, **ways),
        Stream(2, "l7", 40.0, lb=3, entries=((0, 4), (1, 4)), upstreams=((2, 5),)),
        Stream(3, "pod", 40.0, place=0, entries=((0, 1),)),
    ]
    servers = [Server("p0", 0, 500), Server("p1", 1, 500), Server("i", 0, 16, is_ingress=True)]
    engine = Engine(Draws(3), TIMING, streams, servers, 2)
    fans = (Fan((0, 1), (1, 1)), Fan((0,), (1,)), Fan((1,), (1,)), Fan((0, 1), (1, 1)), Fan((2,), (1,)),
            Fan((0, 1), (1, 1)))  # fmt: skip
    for chooser, fan in enumerate(fans):
        engine.learn(chooser, 0, fan)
    return engine


def run(*ends: tuple[int, int, int, bool], until: int = 30 * S) -> tuple[Finished, np.ndarray]:
    """All rows, and which of them were in hand at the cut."""
    engine = engine_of()
    for lb, place, server, silent in ends:
        engine.end_flows(lb, CUT_NS, place=place, server=server, silent=silent)
    for stream in range(4):
        engine.set_rate(stream, 0.0, 8 * S)
    engine.advance(until)
    rows = engine.take_finished()
    return rows, (rows.start_ns < CUT_NS - MS) & (rows.finish_ns > CUT_NS)


def test_flows_to_one_node_are_reset_and_the_others_go_on() -> None:
    rows, held = run((0, 1, -1, False))
    hit = held & np.isin(rows.stream, (0, 1)) & (rows.node == 1)
    assert hit.sum() > 50
    assert set(rows.status[hit & (rows.stream == 0)]) == {-Answer.RESET}
    assert set(rows.status[hit & (rows.stream == 1)]) == {502}
    assert set(rows.finish_ns[hit]) == {CUT_NS + WAY}
    assert set(rows.status[~hit]) == {200}


def test_a_pod_as_target_is_told_from_other_pods() -> None:
    rows, held = run((0, -1, 0, False))
    hit = held & np.isin(rows.stream, (0, 1)) & (rows.try_server[:, 0] == 0)
    assert hit.sum() > 50
    assert (rows.status[hit] != 200).all()
    assert set(rows.status[~hit]) == {200}  # the client in a pod and NGINX do not go through the load balancer


def test_in_silence_everybody_waits_for_the_read_timeout() -> None:
    rows, held = run((0, 1, -1, True))
    hit = held & (rows.stream == 0) & (rows.node == 1)
    assert set(rows.status[hit]) == {-Answer.TIMEOUT}
    assert (rows.finish_ns[hit] == rows.try_start_ns[hit, 0] + TIMING.read_timeout_ns).all()
    assert set(rows.status[held & (rows.stream == 1) & (rows.node == 1)]) == {504}


def test_the_clients_of_an_ingress_behind_the_target_are_reset() -> None:
    rows, _ = run((3, 1, -1, False))
    hit = (rows.stream == 2) & (rows.status == -Answer.RESET)
    assert hit.sum() > 20
    assert set(rows.node[hit]) == {1}
    assert set(rows.finish_ns[hit]) == {CUT_NS + WAY}
    assert set(rows.status[~hit]) == {200}


@pytest.mark.parametrize("silent", [False, True])
def test_a_flow_that_waits_at_a_dead_pod_is_reset_unless_the_end_is_silent(silent: bool) -> None:
    engine = engine_of()
    engine.behave(1, Behaviour.SILENT, 3 * S)
    engine.end_flows(0, CUT_NS, place=1, silent=silent)
    engine.advance(40 * S)
    rows = engine.take_finished()
    waited = (rows.stream == 0) & (rows.node == 1) & (rows.start_ns < 3 * S - MS) & (rows.finish_ns > 3 * S)
    reset = waited & (rows.status == -Answer.RESET)
    assert waited.sum() > 20
    assert reset.sum() == (0 if silent else waited.sum())
    opening = (rows.stream == 0) & (rows.node == 1) & (rows.start_ns > 3 * S) & (rows.start_ns < CUT_NS - MS)
    assert set(rows.status[opening]) == {-Answer.TIMEOUT}
    assert (rows.finish_ns[opening] == rows.start_ns[opening] + TIMING.connect_timeout_ns).all()
