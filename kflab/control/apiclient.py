"""How often a controller of kube-controller-manager may ask the API server: the token bucket of its client.

Each controller has a client of its own with --kube-api-qps 20 and --kube-api-burst 30; who finds no token waits for his
turn. Source: k8s.io/client-go rest/config.go and util/flowcontrol/throttle.go, k/k cmd/kube-controller-manager/app
(ClientBuilder.ClientOrDie for each controller), pkg/controller/apis/config defaults. So a ReplicaSet of 500 pods takes
(500 - 30) / 20 = 23.5 s to be made, and as long to be deleted.

Simplified: Events and status updates, which share the bucket, take no token. Buckets are modelled where their effect
shows: of the ReplicaSet controller and of the node lifecycle controller. Kubelets' (--kube-api-qps 50, burst 100, for
at most 110 pods) and the scheduler's (50, 100) are not.
"""

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core


class ApiClient(Mutable):
    """One client and its bucket."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._full_ns = 0
        """When the bucket will be full again."""

    def take(self, t_ns: int) -> int:
        """When a request that is ready at an instant is sent, ns; requests are to come in order of time."""
        gap = self._core.spans["controller_api_gap_s"][0]
        burst = max(1, int(self._core.delays.controller_api_burst))
        sent = max(t_ns, self._full_ns - (burst - 1) * gap)
        self._full_ns = max(self._full_ns, sent) + gap
        return sent
