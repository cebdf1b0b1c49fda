"""Pods that close the connections NGINX keeps to them, idle for a while: what is sent in that very moment is lost."""

import numpy as np

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.types import Answer, Fan, Server, Stream, Timing

MS = 1_000_000
S = 1_000_000_000
HOP = 4 * MS


def run(idle_close_ns: int, idempotent: bool, slab_ns: int = 100 * MS) -> Engine:
    """A client → NGINX on node 0 → one pod on node 1, some 20 requests a second."""
    stream = Stream(
        0, "l7", 20.0, lb=0, entries=((0, 1),), upstreams=((0, 2),), keepalive=True, idempotent=idempotent,
        client="203.0.113.45", destination="x:443",
    )  # fmt: skip
    timing = Timing(cross_node_ns=HOP, service_p50_ns=MS, service_p99_ns=2 * MS, keepalive_idle_ns=200 * MS)
    servers = [Server("nginx", 0, is_ingress=True), Server("pod", 1, 8, idle_close_ns=idle_close_ns)]
    engine = Engine(Draws(5), timing, [stream], servers, 2, slab_ns=slab_ns)
    for chooser, server in ((0, 0), (1, 0), (2, 1)):
        engine.learn(chooser, 0, Fan((server,), (1,)))
    engine.advance(30 * S)
    return engine


def test_a_post_that_meets_the_closing_is_a_502() -> None:
    rows = run(50 * MS, idempotent=False).take_finished()
    lost = rows.status == 502
    assert 10 < lost.sum() < len(rows) / 5
    assert (rows.status[~lost] == 200).all()
    assert (rows.try_answer[lost, 0] == Answer.RESET).all()
    assert (rows.try_end_ns[lost, 0] - rows.try_start_ns[lost, 0] == 2 * HOP).all()
    # The connection had been idle for almost as long as the pod lets it: less than a round trip was missing.
    ends = np.sort(rows.try_end_ns[~lost, 0])
    for start in rows.try_start_ns[lost, 0].tolist():
        idle = start - ends[(ends <= start) & (ends > start - 50 * MS)]
        assert ((idle >= 50 * MS - 2 * HOP) & (idle < 50 * MS)).any()


def test_a_get_is_tried_again_and_none_is_lost() -> None:
    rows = run(50 * MS, idempotent=True).take_finished()
    assert (rows.status == 200).all()
    assert 10 < (rows.extra["lost"] > 0).sum() < len(rows) / 5


def test_nobody_notices_a_pod_that_waits_longer_than_nginx() -> None:
    for idle_close_ns in (0, 250 * MS):
        rows = run(idle_close_ns, idempotent=False).take_finished()
        assert (rows.status == 200).all()
        assert (rows.extra["kept"] > 0).sum() > 250


def test_slab_length_changes_nothing() -> None:
    assert run(50 * MS, False, 7 * MS).digest() == run(50 * MS, False).digest()
