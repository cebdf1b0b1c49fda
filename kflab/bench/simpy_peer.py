"""A peer: the same path as SimPy processes, one per request, with a Resource per worker (needs the test extra)."""

from collections.abc import Generator
from math import exp, log
from random import Random
from time import process_time
from typing import Any

from kflab.bench.engine_workloads import N_INGRESS, N_NODES, N_PODS, RATE_RPS, SEED, WORKERS, Measured
from kflab.engine.types import Timing
from kflab.errors import KflabError


def simulate(requests: int = 20_000) -> Measured:
    """(c) Run `requests` requests through SimPy.

    Raises:
        KflabError: If simpy is not installed.
    """
    try:
        import simpy
    except ImportError:
        raise KflabError("simpy is not installed: pip install 'kflab[test]'") from None
    timing, random = Timing(), Random(SEED)
    sigma = log(timing.service_p99_ns / timing.service_p50_ns) / 2.3263478740408408
    mu = log(timing.service_p50_ns)
    environment = simpy.Environment()
    workers = [[simpy.Resource(environment) for _ in range(WORKERS)] for _ in range(N_PODS)]
    latencies: list[int] = []

    def request() -> Generator[Any, Any, None]:
        start = environment.now
        yield environment.timeout(timing.client_lb_ns)
        node = hash((random.getrandbits(16), "203.0.113.45")) % N_NODES
        yield environment.timeout(timing.lb_node_ns)
        ingress = random.randrange(N_INGRESS)
        hop_in = timing.same_node_ns if ingress % N_NODES == node else timing.cross_node_ns
        yield environment.timeout(hop_in + timing.nginx_ns)
        pod = random.randrange(N_PODS)
        hop_out = timing.same_node_ns if pod % N_NODES == ingress % N_NODES else timing.cross_node_ns
        yield environment.timeout(hop_out)
        with workers[pod][random.randrange(WORKERS)].request() as turn:
            yield turn
            yield environment.timeout(int(exp(random.normalvariate(mu, sigma))))
        yield environment.timeout(hop_out + hop_in + timing.lb_node_ns + timing.client_lb_ns)
        latencies.append(int(environment.now - start))

    def source() -> Generator[Any, Any, None]:
        for _ in range(requests):
            yield environment.timeout(int(random.expovariate(RATE_RPS) * 1e9))
            environment.process(request())

    environment.process(source())
    begin = process_time()
    environment.run()
    spent = process_time() - begin
    latencies.sort()
    p99_ms = latencies[len(latencies) * 99 // 100] / 1e6
    return Measured("SimPy", len(latencies) / spent, "flows/s", f"p99 {p99_ms:.1f} ms")
