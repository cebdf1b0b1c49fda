"""Signals answered from ground truth alone: what a cluster without traffic would answer.

Used until a lab puts its own in place (`control.settle` without traffic, tests). Probes succeed while their port
listens and the container is up; exec probes while the container is up.
"""

from typing import TYPE_CHECKING

from kflab.cluster.checkpoint import Mutable
from kflab.control.lbprofiles import HEALTH_NODE_PORT, PROXY_HEALTHZ, ROUTE, SPEAKER
from kflab.control.lbtargets import to_be_deleted
from kflab.control.listening import probe_port
from kflab.control.observers import NO_RULES
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Container, Pod, Probe

if TYPE_CHECKING:
    from kflab.control.core import Core


class GroundSignals(Mutable):
    """The default `Signals`."""

    def __init__(self, core: "Core") -> None:
        self._core = core

    def answer_to_probe(self, pod: Key, container: str, probe: Probe, t_ns: int) -> bool:
        """Whether the container runs and its probed port listens."""
        del t_ns
        ground = self._core.runtime.get(pod)
        if ground is None or container not in ground.names or not ground.container(container).up:
            return False
        if probe.action == "exec":
            return True
        spec = self._container(pod, container)
        port = probe_port(spec, probe) if spec is not None else None
        return port is not None and ("TCP", port) in ground.listening

    def probe_waits(self, pod: Key, port: int, word: int, t_ns: int) -> int:
        """Nobody calls: nobody waits."""
        return 0

    def cpu_used(self, pod: Key, t_ns: int) -> int:
        """Nobody calls: nothing is used."""
        return 0

    def _container(self, key: Key, name: str) -> Container | None:
        pod = self._core.store.get(key)
        if not isinstance(pod, Pod):
            return None
        return next((c for c in (*pod.spec.containers, *pod.spec.init_containers) if c.name == name), None)

    def answer_to_health_check(self, node: str, service: Key, how: str, t_ns: int) -> bool:
        """What a load balancer's check of a node finds.

        On healthCheckNodePort kube-proxy answers: 200 while its rules have a ready endpoint on the node; on :10256 it
        answers for itself. A connection to the NodePort goes through to one of the endpoints that the node's rules list
        (lifecycle 1.4, 1.9; k8s.io/kubernetes pkg/proxy/healthcheck). A node that is there has its MetalLB speaker.
        """
        balanced = self._core.store.get(service)
        proxy = self._core.observers.get(f"kube-proxy/{node}")
        if not isinstance(balanced, Service) or proxy is None:
            return False
        if how != ROUTE and not self._core.reachable(node):
            return False
        if how in (SPEAKER, ROUTE):
            return True
        if how == PROXY_HEALTHZ:
            there = self._core.store.get(Key("Node", "", node))
            return proxy.running and isinstance(there, Node) and not to_be_deleted(there)
        known = proxy.at(t_ns)
        revision = known[1] if known is not None else 0
        slices = [self._core.store.get(key, revision) for key in self._core.index.slices_of(service)]
        entries = [entry for piece in slices if isinstance(piece, EndpointSlice) for entry in piece.endpoints]
        ready = [entry for entry in entries if entry.ready is not False]
        if how == HEALTH_NODE_PORT:
            return proxy.running and any(entry.node_name == node for entry in ready)
        if proxy.config_at(t_ns) == NO_RULES:
            return False
        usable = ready or [entry for entry in entries if entry.serving is not False and entry.terminating]
        return any(self._alive(entry.target) for entry in usable)

    def _alive(self, pod: Key | None) -> bool:
        ground = self._core.runtime.get(pod) if pod is not None else None
        return pod is None or (ground is not None and bool(ground.listening))
