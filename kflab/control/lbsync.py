"""Load balancers' targets: registration of nodes, health checks from their phase, what the balancer knows when.

Source: kubernetes-sigs/aws-load-balancer-controller pkg/service/model_build_target_group.go (defaults);
lifecycle 1.9. A check that would find what the balancer believes is no event.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.loadbalancers import LoadBalancer, Target
from kflab.control.observers import Observer
from kflab.manifest.objects import EndpointSlice, Key, Node, Pod, Service

EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


@dataclass(frozen=True, slots=True)
class HealthCheck(Event):
    """A check of one target that may change something."""

    room: ClassVar[str] = "lbsync"
    service: Key
    node: str


class LbSync(Controller):
    """All load balancers."""

    room = "lbsync"
    kinds = ("Service", "EndpointSlice", "Node")

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.balancers: dict[Key, LoadBalancer] = {}
        self._changes: list[tuple[int, Key]] = []
        """(revision, Service) of rule changes that concern a balanced Service."""

    # --- what exists ----------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Services get and lose load balancers, nodes are registered, slices may change answers."""
        match change.new or change.old:
            case Service() as service:
                self._service(change, service)
            case Node() as node:
                for balancer in self.balancers.values():
                    self._register(balancer, node, gone=change.new is None)
            case EndpointSlice() as piece if piece.service in self.balancers and not self.core.quiet:
                self._changes.append((change.revision, piece.service))

    def _service(self, change: Change, service: Service) -> None:
        wants = change.new is not None and service.type == "LoadBalancer" and bool(service.load_balancer)
        if not wants:
            self.balancers.pop(service.key, None)
            self.core.observers.pop(observer_name(service.key), None)
            return
        if not self.core.quiet:
            self._changes.append((change.revision, service.key))
        local = service.external_traffic_policy == "Local"
        balancer = self.balancers.get(service.key)
        if balancer is None:
            balancer = self._make(service, local)
        elif balancer.local != local:
            balancer.local = local
            balancer.interval_ns, balancer.healthy_count, balancer.unhealthy_count = self._check(local)
            self._look_all(balancer)

    def _check(self, local: bool) -> tuple[int, int, int]:
        delays = self.core.delays
        if local:
            seconds, good, bad = (
                delays.lb_local_interval_s,
                delays.lb_local_healthy_count,
                delays.lb_local_unhealthy_count,
            )
        else:
            seconds, good, bad = delays.lb_interval_s, delays.lb_healthy_count, delays.lb_unhealthy_count
        return max(1, round(seconds * 1e9)), max(1, int(good)), max(1, int(bad))

    def _make(self, service: Service, local: bool) -> LoadBalancer:
        name = f"{service.meta.namespace}/{service.meta.name}"
        hostname = next((entry.hostname for entry in service.load_balancer if entry.hostname), "")
        ips = tuple(entry.ip for entry in service.load_balancer if entry.ip)
        pinned = self.core.pins.lb_ips.get(name, "")
        if pinned or not ips:
            ips = (self.core.addresses.allocate_lb_ip(name),)
        balancer = LoadBalancer(service.key, hostname, ips, local, *self._check(local))
        self.balancers[service.key] = balancer
        observer = Observer(observer_name(service.key), "lb")
        self.core.observers[observer.name] = observer
        for node in self.core.store.of_kind("Node"):
            assert isinstance(node, Node)
            self._register(balancer, node, gone=False)
        if not self.core.quiet:
            self._learn(balancer)
        return balancer

    def _register(self, balancer: LoadBalancer, node: Node, *, gone: bool) -> None:
        name = node.meta.name
        if gone or EXCLUDE in node.meta.labels:
            if balancer.targets.pop(name, None) is not None and not self.core.quiet:
                self._learn(balancer)
            return
        if name not in balancer.targets:
            obj = f"{balancer.service.namespace}/{balancer.service.name}/{name}"
            phase = self.core.draws.control_between("lb-phase", obj, 0, 0, balancer.interval_ns)
            balancer.targets[name] = Target(name, phase)
            if not self.core.quiet:
                self._schedule(balancer, balancer.targets[name])

    # --- checks ---------------------------------------------------------------------------------------------

    def finish_settling(self) -> None:
        """By t = 0 every target has been checked often enough: believe what checks say."""
        for balancer in self.balancers.values():
            for target in balancer.targets.values():
                target.healthy = self._answer(balancer, target)
            self._learn(balancer)

    def _answer(self, balancer: LoadBalancer, target: Target) -> bool:
        assert self.core.signals is not None
        return self.core.signals.answer_to_health_check(target.node, balancer.service, self.core.now_ns)

    def _schedule(self, balancer: LoadBalancer, target: Target) -> None:
        if not target.due:
            target.due = True
            behind = (self.core.now_ns - target.phase_ns) // balancer.interval_ns
            t_ns = target.phase_ns + (behind + 1) * balancer.interval_ns
            self.core.push_at(t_ns, HealthCheck(balancer.service, target.node))

    def _look(self, balancer: LoadBalancer, target: Target) -> None:
        """Schedule a check if it would now find something else than believed."""
        if not target.due and self._answer(balancer, target) != target.healthy:
            self._schedule(balancer, target)

    def _look_all(self, balancer: LoadBalancer) -> None:
        if not self.core.quiet:
            for target in balancer.targets.values():
                self._look(balancer, target)

    def handle(self, event: Event) -> None:
        """Check, count, and go on as long as the answers disagree with the state."""
        assert isinstance(event, HealthCheck)
        balancer = self.balancers.get(event.service)
        target = balancer.targets.get(event.node) if balancer is not None else None
        if balancer is None or target is None:
            return
        target.due = False
        if self._answer(balancer, target) == target.healthy:
            target.disagreeing = 0
            return
        target.disagreeing += 1
        needed = balancer.unhealthy_count if target.healthy else balancer.healthy_count
        if target.disagreeing < needed:
            self._schedule(balancer, target)
            return
        target.healthy, target.disagreeing = not target.healthy, 0
        self._learn(balancer)
        word = "healthy" if target.healthy else "unhealthy"
        text = f"load balancer of {event.service.name} found {event.node} {word} after {needed} checks"
        name = observer_name(event.service)
        self.core.fact(What.LB_TARGETS_CHANGED, Key("Observer", "", name), name, text, self.core.store.revision)

    def _learn(self, balancer: LoadBalancer) -> None:
        now = self.core.now_ns
        balancer.versions.append((now, balancer.healthy()))
        self.core.observers[observer_name(balancer.service)].learn(now, self.core.store.revision)

    def forget_before(self, t_ns: int) -> None:
        """Drop what was over before `t_ns`: replaced target lists, and changes that every kube-proxy has passed."""
        for balancer in self.balancers.values():
            i = bisect_right(balancer.versions, t_ns, key=lambda version: version[0])
            del balancer.versions[: max(0, i - 1)]
        proxies = [o.revision for o in self.core.observers.values() if o.kind == "kube-proxy"]
        if proxies:
            del self._changes[: bisect_right(self._changes, min(proxies), key=lambda entry: entry[0])]

    # --- what may change answers ----------------------------------------------------------------------------

    def proxy_synced(self, node: str, old_revision: int, new_revision: int) -> None:
        """A node's rules were made anew: its healthCheckNodePort may answer otherwise."""
        if not self._changes or self._changes[-1][0] <= old_revision:
            return
        low = bisect_right(self._changes, old_revision, key=lambda entry: entry[0])
        high = bisect_right(self._changes, new_revision, key=lambda entry: entry[0])
        for service in dict.fromkeys(entry[1] for entry in self._changes[low:high]):
            balancer = self.balancers.get(service)
            if balancer is not None and node in balancer.targets:
                self._look(balancer, balancer.targets[node])

    def proxy_changed(self, node: str) -> None:
        """A node's kube-proxy stopped or started: it serves healthCheckNodePort itself."""
        for balancer in self.balancers.values():
            if node in balancer.targets:
                self._look(balancer, balancer.targets[node])

    def ground_changed(self, key: Key) -> None:
        """Under policy Cluster the checks go through to a pod."""
        if self.core.quiet or not any(not balancer.local for balancer in self.balancers.values()):
            return
        pod = self.core.store.get(key)
        if isinstance(pod, Pod):
            for service in self.core.index.services_selecting(key.namespace, pod.meta.labels):
                balancer = self.balancers.get(service)
                if balancer is not None and not balancer.local:
                    self._look_all(balancer)


def observer_name(service: Key) -> str:
    """Name of a load balancer's observer."""
    return f"lb/{service.namespace}/{service.name}"
