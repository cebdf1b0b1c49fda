"""Load balancers' targets: registration, health checks from their phase, what the balancer knows when.

What a check asks and how long it takes is the profile's (`lbprofiles`; lifecycle 1.9). A check that would find what the
balancer believes is no event.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control import lbprofiles
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.lbchoice import METALLB_KINDS, choose
from kflab.control.lbprofiles import LbProfile
from kflab.control.loadbalancers import ListedPod, LoadBalancer, Target
from kflab.control.observers import Observer
from kflab.control.surroundings import look_around
from kflab.manifest.objects import Endpoint, EndpointSlice, Key, Node, Pod, Service

PRIMARY = "minikube.k8s.io/primary"

EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


@dataclass(frozen=True, slots=True)
class HealthCheck(Event):
    """A check of one target that may change something."""

    room: ClassVar[str] = "lbsync"
    service: Key
    target: str
    asked_ns: int
    """When it was sent; the answer, or its timeout, comes now."""


@dataclass(frozen=True, slots=True)
class TargetsRead(Event):
    """A cloud registers and deregisters pods as the slices say."""

    room: ClassVar[str] = "lbsync"
    service: Key


class LbSync(Controller):
    """All load balancers."""

    room = "lbsync"
    kinds = ("Service", "EndpointSlice", "Node", *METALLB_KINDS)

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.balancers: dict[Key, LoadBalancer] = {}
        self._changes: list[tuple[int, Key]] = []
        """(revision, Service) of rule changes that concern a balanced Service."""

    # --- what exists ----------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Services get and lose load balancers, targets are registered, slices may change answers."""
        match change.new or change.old:
            case Service() as service:
                self._service(change, service)
            case Node() as node:
                for balancer in self.balancers.values():
                    self._register_node(balancer, node, gone=change.new is None)
            case EndpointSlice() as piece if piece.service in self.balancers and not self.core.quiet:
                self._changes.append((change.revision, piece.service))
                self._slices_changed(self.balancers[piece.service])
            case other if other is not None and other.kind in METALLB_KINDS:
                look_around(self.core)

    def _service(self, change: Change, service: Service) -> None:
        wants = change.new is not None and service.type == "LoadBalancer" and bool(service.load_balancer)
        if not wants:
            self.balancers.pop(service.key, None)
            self.core.observers.pop(observer_name(service.key), None)
            return
        if not self.core.quiet:
            self._changes.append((change.revision, service.key))
        local = service.external_traffic_policy == "Local"
        profile = choose(service, self.core.surroundings)
        balancer = self.balancers.get(service.key)
        if balancer is None:
            self._make(service, profile, local)
        elif balancer.profile.destination != profile.destination:
            self._make(service, profile, local)  # other targets
            self._say(self.balancers[service.key], f"load balancer of {service.meta.name} is now {profile.title}")
        elif (balancer.local, balancer.profile) != (local, profile):
            changed = balancer.profile != profile
            balancer.local, balancer.profile = local, profile
            balancer.interval_ns, balancer.healthy_count, balancer.unhealthy_count = self._timing(profile, local)
            self._look_all(balancer)
            if changed and not self.core.quiet:
                self._learn(balancer)
                self._say(balancer, f"load balancer of {service.meta.name} has new settings")

    def _timing(self, profile: LbProfile, local: bool) -> tuple[int, int, int]:
        """Interval in ns and counts: the profile's, unless the delays name them."""
        delays, check = self.core.delays, profile.check(local)
        if local:
            given = (delays.lb_local_interval_s, delays.lb_local_healthy_count, delays.lb_local_unhealthy_count)
        else:
            given = (delays.lb_interval_s, delays.lb_healthy_count, delays.lb_unhealthy_count)
        own = (check.interval_s, check.healthy, check.unhealthy)
        seconds, good, bad = (own[i] if value is None else value for i, value in enumerate(given))
        return max(1, round(seconds * 1e9)), max(1, int(good)), max(1, int(bad))

    def _make(self, service: Service, profile: LbProfile, local: bool) -> None:
        name = f"{service.meta.namespace}/{service.meta.name}"
        hostname = next((entry.hostname for entry in service.load_balancer if entry.hostname), "")
        ips = tuple(entry.ip for entry in service.load_balancer if entry.ip)
        pinned = self.core.pins.lb_ips.get(name, "")
        if pinned or not ips:
            ips = (self.core.addresses.allocate_lb_ip(name),)
        balancer = LoadBalancer(service.key, profile, hostname, ips, local, *self._timing(profile, local))
        self.balancers[service.key] = balancer
        observer = Observer(observer_name(service.key), "lb")
        self.core.observers[observer.name] = observer
        for node in self.core.store.of_kind("Node"):
            assert isinstance(node, Node)
            self._register_node(balancer, node, gone=False)
        if not self.core.quiet:
            self._register_pods(balancer)
            self._learn(balancer)

    def _register_node(self, balancer: LoadBalancer, node: Node, *, gone: bool) -> None:
        name = node.meta.name
        if balancer.profile.destination == lbprofiles.POD:
            return
        if balancer.profile.check(balancer.local).how == lbprofiles.ROUTE:
            # The tunnel's route goes through the first node, which minikube labels primary, and only there.
            away = node.meta.labels.get(PRIMARY, "true") != "true" or bool(balancer.targets.keys() - {name})
        else:
            away = EXCLUDE in node.meta.labels
        if gone or away:
            if balancer.targets.pop(name, None) is not None and not self.core.quiet:
                self._learn(balancer)
        elif name not in balancer.targets:
            self._add(balancer, Target(name, name, 0))

    def _add(self, balancer: LoadBalancer, target: Target) -> None:
        obj = f"{balancer.service.namespace}/{balancer.service.name}/{target.name}"
        target.phase_ns = self.core.draws.control_between("lb-phase", obj, 0, 0, balancer.interval_ns)
        balancer.targets[target.name] = target
        if not self.core.quiet:
            self._schedule(balancer, target)

    # --- pods as targets --------------------------------------------------------------------------------------

    def _endpoints(self, service: Key) -> list[tuple[EndpointSlice, Endpoint]]:
        found = (self.core.store.get(key) for key in self.core.index.slices_of(service))
        return [(piece, entry) for piece in found if isinstance(piece, EndpointSlice) for entry in piece.endpoints]

    def _register_pods(self, balancer: LoadBalancer) -> None:
        """Let the targets be the ready endpoints.

        Source: aws-load-balancer-controller pkg/backend/endpoint_resolver.go, ResolvePodEndpoints.
        """
        service = self.core.store.get(balancer.service)
        if balancer.profile.destination != lbprofiles.POD or not isinstance(service, Service):
            return
        wanted: dict[str, Target] = {}
        for piece, entry in self._endpoints(balancer.service):
            if entry.ready is False or not entry.addresses or piece.address_type != "IPv4":
                continue
            pod = entry.target
            name = f"{pod.namespace}/{pod.name}" if pod is not None else entry.addresses[0]
            numbers = {(port.name, port.protocol): port.port for port in piece.ports}
            pairs = ((port.port, numbers.get((port.name, port.protocol), 0)) for port in service.ports)
            ports = tuple((port, number) for port, number in pairs if number)
            wanted.setdefault(name, Target(name, entry.node_name, 0, pod=pod, ip=entry.addresses[0], ports=ports))
        gone = [name for name in balancer.targets if name not in wanted]
        for name in gone:
            del balancer.targets[name]
        for name, target in wanted.items():
            if name not in balancer.targets:
                self._add(balancer, target)

    def _slices_changed(self, balancer: LoadBalancer) -> None:
        if balancer.profile.follows_api:
            self._look_all(balancer)
        elif balancer.profile.destination == lbprofiles.POD and not balancer.refresh_due:
            balancer.refresh_due = True
            self.core.push(self.core.delay("lb_target_s", balancer.service), TargetsRead(balancer.service))

    # --- checks ---------------------------------------------------------------------------------------------

    def finish_settling(self) -> None:
        """By t = 0 every target has been checked often enough: believe what checks say."""
        for balancer in self.balancers.values():
            self._register_pods(balancer)
            for target in balancer.targets.values():
                target.healthy = self._answer(balancer, target)
            self._learn(balancer)

    def _answer(self, balancer: LoadBalancer, target: Target) -> bool:
        """What a check of a target would find now."""
        if balancer.profile.destination == lbprofiles.POD:
            ground = self.core.runtime.get(target.pod) if target.pod is not None else None
            port = target.ports[0][1] if target.ports else 0
            if ground is not None and not self.core.reachable(ground.node):
                return False
            return target.pod is None or (ground is not None and ("TCP", port) in ground.listening)
        if balancer.profile.follows_api and not self._may_announce(balancer, target.node):
            return False
        return self._node_answers(balancer, target)

    def _node_answers(self, balancer: LoadBalancer, target: Target) -> bool:
        assert self.core.signals is not None
        how = balancer.profile.check(balancer.local).how
        return self.core.signals.answer_to_health_check(target.node, balancer.service, how, self.core.now_ns)

    def _may_announce(self, balancer: LoadBalancer, node: str) -> bool:
        """Whether MetalLB lets a node announce the address, by what the API says.

        Source: metallb/metallb speaker/layer2_controller.go and bgp_controller.go, ShouldAnnounce.
        """
        serving = (
            entry for _, entry in self._endpoints(balancer.service)
            if (entry.ready is not False if entry.serving is None else entry.serving)
        )  # fmt: skip
        return any(not balancer.local or entry.node_name == node for entry in serving)

    def _timeout(self, balancer: LoadBalancer) -> int:
        """How long a check waits for an answer, in ns: the profile's time, unless the delays name it."""
        delays = self.core.delays
        given = delays.lb_local_timeout_s if balancer.local else delays.lb_timeout_s
        return round((balancer.profile.check(balancer.local).timeout_s if given is None else given) * 1e9)

    def _schedule(self, balancer: LoadBalancer, target: Target, since_ns: int | None = None) -> None:
        """Plan the first check after `since_ns` (now); from a node that is off the network no answer comes."""
        if target.due:
            return
        target.due = True
        since = self.core.now_ns if since_ns is None else since_ns
        if balancer.profile.follows_api and self._node_answers(balancer, target):
            wait = self.core.delay("lb_watch_s", balancer.service)
            self.core.push(wait, HealthCheck(balancer.service, target.name, self.core.now_ns))
            return
        behind = (since - target.phase_ns) // balancer.interval_ns
        t_ns = target.phase_ns + (behind + 1) * balancer.interval_ns
        silent = not balancer.profile.follows_api and not self.core.reachable(target.node)
        wait = self._timeout(balancer) if silent else 0
        self.core.push_at(t_ns + wait, HealthCheck(balancer.service, target.name, t_ns))

    def _look(self, balancer: LoadBalancer, target: Target) -> None:
        """Schedule a check if it would now find something else than believed."""
        if not target.due and self._answer(balancer, target) != target.healthy:
            self._schedule(balancer, target)

    def _look_all(self, balancer: LoadBalancer) -> None:
        if not self.core.quiet:
            for target in balancer.targets.values():
                self._look(balancer, target)

    def handle(self, event: Event) -> None:
        """Check, count, and go on as long as the answers disagree with the state; or read the slices."""
        if isinstance(event, TargetsRead):
            known = self.balancers.get(event.service)
            if known is not None:
                known.refresh_due = False
                self._register_pods(known)
                self._learn(known)
                many = len(known.targets)
                text = f"load balancer of {event.service.name} has {many} pod{'s' if many != 1 else ''} registered"
                self._say(known, text)
            return
        assert isinstance(event, HealthCheck)
        balancer = self.balancers.get(event.service)
        target = balancer.targets.get(event.target) if balancer is not None else None
        if balancer is None or target is None:
            return
        target.due = False
        if self._answer(balancer, target) == target.healthy:
            target.disagreeing = 0
            return
        target.disagreeing += 1
        needed = balancer.unhealthy_count if target.healthy else balancer.healthy_count
        if balancer.profile.follows_api and self._node_answers(balancer, target):
            needed = 1  # its speaker read it from the API: nothing is counted
        if target.disagreeing < needed:
            self._schedule(balancer, target, event.asked_ns)
            return
        target.healthy, target.disagreeing = not target.healthy, 0
        self._learn(balancer)
        word = "healthy" if target.healthy else "unhealthy"
        text = f"load balancer of {event.service.name} found {event.target} {word} after {needed} checks"
        if balancer.profile.follows_api:
            did = "announces" if target.healthy else "no longer announces"
            text = f"{event.target} {did} the address of {event.service.name}"
        self._say(balancer, text)

    def _say(self, balancer: LoadBalancer, text: str) -> None:
        name = observer_name(balancer.service)
        self.core.fact(What.LB_TARGETS_CHANGED, Key("Observer", "", name), name, text, self.core.store.revision)

    def _learn(self, balancer: LoadBalancer) -> None:
        now = self.core.now_ns
        balancer.versions.append((now, balancer.healthy()))
        if balancer.profile.destination == lbprofiles.POD:
            listed = (ListedPod(t.name, t.node, t.pod, t.ip, t.ports, t.healthy) for t in balancer.targets.values())
            balancer.pods.append((now, tuple(listed)))
        self.core.observers[observer_name(balancer.service)].learn(now, self.core.store.revision)

    def forget_before(self, t_ns: int) -> None:
        """Drop what was over before `t_ns`: replaced target lists, and changes that every kube-proxy has passed."""
        for balancer in self.balancers.values():
            i = bisect_right(balancer.versions, t_ns, key=lambda version: version[0])
            del balancer.versions[: max(0, i - 1)]
            i = bisect_right(balancer.pods, t_ns, key=lambda version: version[0])
            del balancer.pods[: max(0, i - 1)]
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
        """A node's kube-proxy stopped or started: it serves healthCheckNodePort and :10256 itself."""
        for balancer in self.balancers.values():
            if node in balancer.targets:
                self._look(balancer, balancer.targets[node])

    def node_changed(self, node: str) -> None:
        """Packets reach a node no more, or again: checks of it and of its pods find that out."""
        for balancer in self.balancers.values():
            for target in balancer.targets.values():
                if target.node == node:
                    self._look(balancer, target)

    def ground_changed(self, key: Key) -> None:
        """A TCP connect to a NodePort goes through to a pod, and one to a pod meets it."""
        if self.core.quiet or not any(self._connects(balancer) for balancer in self.balancers.values()):
            return
        pod = self.core.store.get(key)
        if isinstance(pod, Pod):
            for service in self.core.index.services_selecting(key.namespace, pod.meta.labels):
                balancer = self.balancers.get(service)
                if balancer is not None and self._connects(balancer):
                    self._look_all(balancer)

    @staticmethod
    def _connects(balancer: LoadBalancer) -> bool:
        return balancer.profile.check(balancer.local).how == lbprofiles.CONNECT


def observer_name(service: Key) -> str:
    """Name of a load balancer's observer."""
    return f"lb/{service.namespace}/{service.name}"
