"""When a prober's ticker fires: a grid of whole periods for each probe of each container.

It begins when the kubelet first synced the pod. A kubelet that started less than a period before that lets the prober
sleep a random part of the period first. Every extra run of a readiness probe starts its ticker anew.

Source: k8s.io/kubernetes pkg/kubelet/prober/worker.go (run), k/k #119089; lifecycle 1.1.
"""

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core, address_of
from kflab.control.delays import SECOND_NS
from kflab.control.status import PodWorker
from kflab.manifest.objects_pods import Probe


class ProbeTimes(Mutable):
    """The tickers of all probers."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._since: dict[str, int] = {}
        """Node → when its kubelet started, after t = 0."""

    def kubelet_started(self, node: str) -> None:
        """A kubelet starts now."""
        self._since[node] = self.core.now_ns

    def sleeps(self, worker: PodWorker, name: str, kind: str, probe: Probe) -> int:
        """How long a prober that starts now, soon after its kubelet, waits before its first run, ns."""
        purpose, address = f"prober-{kind}-{name}", address_of(worker.key)
        n = self.core.next_draw(purpose, address)
        return self.core.draws.control_between(purpose, address, n, 0, _period(probe))

    def start(self, worker: PodWorker, name: str, kind: str, probe: Probe) -> int:
        """An instant at which the ticker of a probe fires, or the first at which it will."""
        found = worker.probe_from.get((name, kind))
        if found is not None:
            return found
        since = self._since.get(worker.node)
        if since is None or worker.seen_ns - since >= _period(probe):
            return worker.seen_ns
        worker.probe_from[name, kind] = worker.seen_ns + self.sleeps(worker, name, kind, probe)
        return worker.probe_from[name, kind]

    def next_tick(self, worker: PodWorker, name: str, kind: str, probe: Probe) -> int:
        """When the ticker fires next, and the initial delay is over."""
        start, period = self.start(worker, name, kind, probe), _period(probe)
        began = worker.containers[name].started_ns or 0
        earliest = max(self.core.now_ns + 1, began + probe.initial_delay_s * SECOND_NS)
        return start + max(0, -((start - earliest) // period)) * period

    def fired(self, worker: PodWorker, name: str, kind: str, probe: Probe, since_ns: int) -> bool:
        """Whether the ticker has fired since an instant."""
        start, period = self.start(worker, name, kind, probe), _period(probe)
        return (self.core.now_ns - start) // period > (since_ns - start) // period


def _period(probe: Probe) -> int:
    return max(1, probe.period_s) * SECOND_NS
