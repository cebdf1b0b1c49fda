"""How traffic's side answers the control plane: the lab's implementation of `control.signals.Signals`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kflab.cluster.store import Store
from kflab.control.lbprofiles import HEALTH_NODE_PORT, PROXY_HEALTHZ, ROUTE, SPEAKER
from kflab.control.lbtargets import to_be_deleted
from kflab.control.observers import NO_RULES
from kflab.lab.rulebook import RuleBook
from kflab.manifest.app_annotations import cpu_per_busy_second
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod, Probe

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane


class LabSignals:
    """Answers from ground truth (what listens) and from what each node's kube-proxy has synced."""

    def __init__(self, store: Store, book: RuleBook) -> None:
        self._store = store
        self._book = book
        self.plane: ControlPlane | None = None
        """Set once it exists; it needs the signals to be built."""
        self.waits: Callable[[Key, int, int, int], int] | None = None
        """Asks the engine; None before t = 0."""
        self.busy: Callable[[Key, int], int] | None = None
        """The same, for how long a pod's workers have been busy."""

    def answer_to_probe(self, pod: Key, container: str, probe: Probe, t_ns: int) -> bool:
        """A probe succeeds while its container is up and its port listens.

        exec probes have no port and succeed while the container is up (there is no process to run).
        """
        assert self.plane is not None
        runtime = self.plane.runtime.get(pod)
        if runtime is None or container not in runtime.names or not runtime.container(container).accepting:
            return False
        if probe.port is None:
            return True
        port = probe.port
        if isinstance(port, str):
            obj = self._store.get(pod)
            spec = obj.spec.containers if isinstance(obj, Pod) else ()
            port = next((p.port for c in spec for p in c.ports if p.name == probe.port), 0)
        return ("TCP", port) in runtime.listening

    def probe_waits(self, pod: Key, port: int, word: int, t_ns: int) -> int:
        """What the queue of one of the pod's workers holds."""
        return self.waits(pod, port, word, t_ns) if self.waits is not None else 0

    def cpu_used(self, pod: Key, t_ns: int) -> int:
        """The time that the pod's workers served requests, times what a busy worker uses."""
        obj = self._store.get(pod)
        if self.busy is None or not isinstance(obj, Pod):
            return 0
        return self.busy(pod, t_ns) * cpu_per_busy_second(obj.meta.annotations) // 1000

    def answer_to_health_check(self, node: str, service: Key, how: str, t_ns: int) -> bool:
        """What a check of a node finds, by what its kube-proxy has synced and whether that runs.

        healthCheckNodePort: a local ready endpoint is known (pkg/proxy/healthcheck, service_health.go). :10256/healthz:
        kube-proxy runs, and no autoscaler is about to remove its node (KEP-3836). A TCP connect: the NodePort answers,
        as the node's rules have any endpoint at all. A MetalLB speaker is on every node that is there.
        """
        assert self.plane is not None
        if how != ROUTE and not self.plane.core.reachable(node):
            return False
        observer = self.plane.observers.get(f"kube-proxy/{node}")
        if how in (SPEAKER, ROUTE):
            return self._store.get(Key("Node", "", node)) is not None
        known = observer.at(t_ns) if observer else None
        obj = self._store.get(service)
        if observer is None or known is None or not isinstance(obj, Service):
            return False
        if how == PROXY_HEALTHZ:
            there = self._store.get(Key("Node", "", node))
            return observer.running and isinstance(there, Node) and not to_be_deleted(there)
        rules = self._book.table(known[1]).get(service)
        if rules is None or not rules.ports:
            return False
        if how == HEALTH_NODE_PORT and rules.ports[0].health_port:
            return observer.running and any(port.endpoints.local_ready(node) > 0 for port in rules.ports)
        return observer.config_at(t_ns) != NO_RULES and any(port.endpoints.any_usable for port in rules.ports)
