"""How fast a kind of cluster is: named sets of delays, over which a scenario's own go.

All figures are modelling choices (M) but where a source is named: few propagation figures were measured (lifecycle 2).
`small` is what `Delays` has by default.
"""

from collections.abc import Mapping
from dataclasses import field

from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of cluster."""

    words: str
    delays: Mapping[str, object] = field(default_factory=dict)
    """Overrides of control delays (`Delays`), in seconds."""
    timing: Mapping[str, int] = field(default_factory=dict)
    """Overrides of the data path's delays (engine `Timing`), in ns."""


PROFILES: Mapping[str, Profile] = {
    "laptop": Profile(
        "a cluster of containers on one machine (kind, minikube): no network between nodes, few Services",
        {
            "watch_s": [0.0005, 0.005],
            "api_write_s": [0.002, 0.01],
            "controller_s": [0.001, 0.01],
            "endpointslice_s": [0.002, 0.02],
            "proxy_watch_s": [0.001, 0.01],
            "proxy_sync_s": [0.01, 0.05],
            "ingress_watch_s": [0.001, 0.01],
            "coredns_watch_s": [0.001, 0.01],
            "pod_status_write_s": [0.005, 0.03],
        },
        {"client_lb_ns": 30_000, "lb_node_ns": 30_000, "cross_node_ns": 30_000},
    ),
    "small": Profile("tens of nodes, up to some hundred Services, an idle API server (the default)"),
    "5000-nodes": Profile(
        "the largest supported cluster: programming a node's rules takes 5 s (median) to 20 s (99th percentile)",
        {
            # lifecycle 2: p50 5 s with minSyncPeriod 1 s (KEP-3453), p99 20-25 s on GCE (kubernetes/perf-tests #2407).
            # The metric counts from the pod's change to written rules; nearly all of it is the sync and its queue.
            "proxy_sync_s": {"p50": 5.0, "p99": 20.0},
            "proxy_watch_s": [0.02, 0.5],
            "watch_s": [0.01, 0.2],
            # lifecycle 1.6: the SLO of a single-object write is p99 ≤ 1 s.
            "api_write_s": {"p50": 0.02, "p99": 1.0},
            "controller_s": [0.01, 0.2],
            "endpointslice_s": [0.02, 0.5],
            "scheduler_s": [0.01, 0.1],
            "pod_status_write_s": [0.02, 0.5],
            "ingress_watch_s": [0.01, 0.5],
            "coredns_watch_s": [0.01, 0.5],
        },
        {"cross_node_ns": 250_000},
    ),
}  # fmt: skip
