"""A small path that tests share: two ingress servers on one node, pods on two, one flow-hashing load balancer."""

from collections.abc import Callable

from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.types import Fan, Pick, Server, Stream, Timing

MakeEngine = Callable[..., Engine]


def make(
    rate_rps: float = 1000.0,
    slab_ns: int = 100_000_000,
    seed: int = 1,
    in_turn: bool = False,
    workers: int = 16,
    timing: Timing | None = None,
    **stream: object,
) -> Engine:
    """Servers 0 and 1 are the ingress (node 0), 2 to 4 the pods (nodes 0, 1, 0); choosers as in the fans below."""
    servers = [Server("i0", 0, is_ingress=True), Server("i1", 0, is_ingress=True)]
    servers += [Server(f"p{n}", n % 2, workers) for n in range(3)]
    entries, upstreams = ((0, 1), (1, 1)), ((0, 2), (1, 3))
    client = {"client": "203.0.113.45", "destination": "52.100.10.20:443"}
    path = {"lb": 0, "entries": entries, "upstreams": upstreams}
    streams = [Stream(0, "l7", rate_rps, **{**path, **client, **stream})]  # type: ignore[arg-type]  # a test's overrides
    streams.append(Stream(1, "pod", rate_rps / 10, place=0, entries=((0, 4),)))
    engine = Engine(Draws(seed), timing or Timing(), streams, servers, 2, slab_ns=slab_ns)
    engine.set_pick(0, Pick.FLOW_HASH)
    for chooser in (2, 3):
        engine.set_pick(chooser, Pick.ROUND_ROBIN if in_turn else Pick.RANDOM)
    engine.learn(0, 0, Fan((0, 1), (1, 1)))
    engine.learn(1, 0, Fan((0, 1), (1, 1)))
    for chooser in (2, 3, 4):
        engine.learn(chooser, 0, Fan((2, 3, 4), (1, 1, 1)))
    return engine
