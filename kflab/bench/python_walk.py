"""A peer: the same path walked one request at a time in plain Python, as one would write it first."""

from math import exp, log
from random import Random
from time import process_time

from kflab.bench.engine_workloads import N_INGRESS, N_NODES, N_PODS, RATE_RPS, SEED, WORKERS, Measured
from kflab.engine.types import Timing


def walk(requests: int = 100_000) -> Measured:
    """(c) Route and queue `requests` requests in order of arrival at the pods' workers (hops of one length)."""
    timing, random = Timing(), Random(SEED)
    sigma = log(timing.service_p99_ns / timing.service_p50_ns) / 2.3263478740408408
    mu = log(timing.service_p50_ns)
    busy = [[0] * WORKERS for _ in range(N_PODS)]
    way_in = timing.client_lb_ns + timing.lb_node_ns
    answered = [0] * N_PODS
    latencies = []
    now = 0.0
    begin = process_time()
    for _ in range(requests):
        now += random.expovariate(RATE_RPS) * 1e9
        node = hash((random.getrandbits(16), "203.0.113.45")) % N_NODES
        ingress = random.randrange(N_INGRESS)
        hop_in = timing.same_node_ns if ingress % N_NODES == node else timing.cross_node_ns
        pod = random.randrange(N_PODS)
        hop_out = timing.same_node_ns if pod % N_NODES == ingress % N_NODES else timing.cross_node_ns
        worker = random.randrange(WORKERS)
        start = int(now)
        arrival = start + way_in + hop_in + timing.nginx_ns + hop_out
        service = int(exp(random.normalvariate(mu, sigma)))
        done = max(arrival, busy[pod][worker]) + service
        busy[pod][worker] = done
        answered[pod] += 1
        latencies.append(done + hop_out + hop_in + way_in - start)
    spent = process_time() - begin
    latencies.sort()
    p99_ms = latencies[len(latencies) * 99 // 100] / 1e6
    return Measured("plain Python walk", requests / spent, "flows/s", f"p99 {p99_ms:.1f} ms")
