"""Load balancers' targets: registration, health checks from their phase, what the balancer knows when.

What a check asks and how long it takes is the profile's (`lbprofiles`; lifecycle 1.9). A check that would find what the
balancer believes is no event.
"""

from bisect import bisect_right

from kflab.cluster.store import Change
from kflab.control import lbgates, lbprofiles
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.lbchoice import METALLB_KINDS, choose
from kflab.control.lbevents import DelayOver, HealthCheck, TargetDrained, TargetsRead, TargetsReadAgain, observer_name
from kflab.control.lbprofiles import LbProfile
from kflab.control.lbtargets import endpoints_of, leaves, of_node, takes_node, wanted
from kflab.control.loadbalancers import ListedPod, LoadBalancer, Target
from kflab.control.observers import Observer
from kflab.control.surroundings import look_around
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod


class LbSync(Controller):
    """All load balancers."""

    room = "lbsync"
    kinds = ("Service", "EndpointSlice", "Node", *METALLB_KINDS)

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.balancers: dict[Key, LoadBalancer] = {}
        """By Service; target groups of Application Load Balancers by TargetGroupBinding."""
        self._of_service: dict[Key, dict[Key, None]] = {}
        """Service → the balancers that lead to it."""
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
                    if balancer.profile.check(balancer.local).how == lbprofiles.PROXY_HEALTHZ:
                        self._node_looked_at(balancer, node.meta.name)
            case EndpointSlice() as piece if self._of_service.get(piece.service) and not self.core.quiet:
                self._changes.append((change.revision, piece.service))
                for key in self._of_service[piece.service]:
                    self._slices_changed(self.balancers[key])
            case other if other is not None and other.kind in METALLB_KINDS:
                look_around(self.core)

    def _service(self, change: Change, service: Service) -> None:
        wants = change.new is not None and service.type == "LoadBalancer" and bool(service.load_balancer)
        if not wants:
            self.drop(service.key)
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
            lbgates.released(self.core, balancer)
            self._say(self.balancers[service.key], f"load balancer of {service.meta.name} is now {profile.title}")
        else:
            self._settings(balancer, profile, local)

    def _settings(self, balancer: LoadBalancer, profile: LbProfile, local: bool) -> None:
        if (balancer.local, balancer.profile) == (local, profile):
            return
        changed = balancer.profile != profile
        balancer.local, balancer.profile = local, profile
        balancer.gates = self._gates(balancer)
        balancer.interval_ns, balancer.healthy_count, balancer.unhealthy_count = self._timing(profile, local)
        self._look_all(balancer)
        if changed and not self.core.quiet:
            self._learn(balancer)
            self._say(balancer, f"load balancer of {balancer.service.name} has new settings")

    def have_group(self, key: Key, service: Key, port: int, profile: LbProfile, hostname: str, ip: str) -> None:
        """Let a target group of an Application Load Balancer be so.

        Args:
            key: Its TargetGroupBinding.
            service: Whose targets they are.
            port: Number of the Service's port.
            profile: How it behaves.
            hostname: What the load balancer publishes.
            ip: The A record behind it.
        """
        known = self.balancers.get(key)
        if known is not None:
            self._settings(known, profile, False)
            return
        self._have(
            LoadBalancer(key, service, profile, hostname, (ip,), False, *self._timing(profile, False), port=port)
        )

    def drop(self, key: Key) -> None:
        """A load balancer or target group is gone."""
        gone = self.balancers.pop(key, None)
        if gone is not None:
            self.core.observers.pop(observer_name(key), None)
            self._of_service[gone.service].pop(key)
            lbgates.released(self.core, gone)

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
        self._have(LoadBalancer(service.key, service.key, profile, hostname, ips, local, *self._timing(profile, local)))

    def _gates(self, balancer: LoadBalancer) -> tuple[str, ...]:
        if not balancer.profile.has_gates:
            return ()
        service = self.core.store.get(balancer.service)
        own = lbgates.gates_of(service) if isinstance(service, Service) else ()
        return own if balancer.key == balancer.service else (lbgates.gate_of(balancer.key),)

    def _have(self, balancer: LoadBalancer) -> None:
        balancer.gates = self._gates(balancer)
        self.balancers[balancer.key] = balancer
        self._of_service.setdefault(balancer.service, {})[balancer.key] = None
        observer = Observer(observer_name(balancer.key), "lb", service=balancer.service.name)
        self.core.observers[observer.name] = observer
        if self.core.quiet:
            self._register(balancer)
        else:
            self._reconcile(balancer)
            self._learn(balancer)

    # --- registration -----------------------------------------------------------------------------------------

    def _register(self, balancer: LoadBalancer) -> None:
        """Let the targets be who they should be."""
        found = wanted(self.core, balancer)
        for target in list(balancer.targets.values()):
            if target.name not in found:
                self._leave(balancer, target)
        for name, target in found.items():
            known = balancer.targets.get(name)
            if known is None or known.draining:
                self._add(balancer, target)

    def _register_node(self, balancer: LoadBalancer, node: Node, *, gone: bool) -> None:
        if balancer.profile.destination == lbprofiles.POD:
            return
        known = balancer.targets.get(node.meta.name)
        takes = not gone and takes_node(balancer, node)
        if takes == (known is not None and not known.draining):
            return
        tainted = balancer.profile.heeds_taint and leaves(balancer, node)
        if (balancer.profile.drains or tainted) and not self.core.quiet:
            self._read_soon(balancer)
        elif takes:
            self._add(balancer, of_node(node))
        elif known is not None:
            self._leave(balancer, known)
            if not self.core.quiet:
                self._learn(balancer)

    def _add(self, balancer: LoadBalancer, target: Target) -> None:
        obj = f"{balancer.key.namespace}/{balancer.key.name}/{target.name}"
        target.phase_ns = self.core.draws.control_between("lb-phase", obj, 0, 0, balancer.interval_ns)
        balancer.joined += 1
        target.joined = balancer.joined
        target.initial = balancer.profile.drains and not self.core.quiet
        self._replace_targets(balancer)
        balancer.targets[target.name] = target
        if not self.core.quiet:
            self._schedule(balancer, target)

    def _replace_targets(self, balancer: LoadBalancer) -> None:
        """Nodes are about to become targets, or to be none any more: remember who they were until now."""
        if not self.core.quiet and balancer.profile.destination != lbprofiles.POD:
            balancer.replaced.append((self.core.now_ns, balancer.registered()))

    def _leave(self, balancer: LoadBalancer, target: Target) -> None:
        """Deregister a target. What it works on goes on; a cloud's new flows may come for a while."""
        profile = balancer.profile
        if profile.ends_drained and not self.core.quiet and not target.draining:
            over = DelayOver(balancer.key, target.name, target.node, target.pod)
            self.core.push(round(profile.deregistration_s * 1e9), over)
        if self.core.quiet or not profile.drains:
            self._replace_targets(balancer)
            del balancer.targets[target.name]
        elif not target.draining:
            target.draining = True
            obj = f"{balancer.key.namespace}/{balancer.key.name}/{target.name}"
            wait = self.core.delay("lb_draining_s", obj)
            self.core.push(wait, TargetDrained(balancer.key, target.name, target.joined))

    def _slices_changed(self, balancer: LoadBalancer) -> None:
        if balancer.profile.follows_api:
            self._look_all(balancer)
        elif balancer.profile.destination == lbprofiles.POD:
            self._read_soon(balancer)

    def _read_soon(self, balancer: LoadBalancer) -> None:
        if not balancer.refresh_due:
            balancer.refresh_due = True
            self.core.push(self.core.delay("lb_target_s", balancer.key), TargetsRead(balancer.key))

    # --- checks ---------------------------------------------------------------------------------------------

    def finish_settling(self) -> None:
        """By t = 0 every target has been checked often enough: believe what checks say."""
        for balancer in self.balancers.values():
            self._register(balancer)
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
            if self._waits(balancer, target):
                return False
            return target.pod is None or (ground is not None and ("TCP", port) in ground.listening)
        if balancer.profile.follows_api and not self._may_announce(balancer, target.node):
            return False
        return self._node_answers(balancer, target)

    def _waits(self, balancer: LoadBalancer, target: Target) -> bool:
        """Whether an HTTP check of a pod gets a connection and no answer: its process hangs."""
        ground = self.core.runtime.get(target.pod) if target.pod is not None else None
        port = target.ports[0][1] if target.ports else 0
        return balancer.profile.http and ground is not None and ("TCP", port) in ground.hanging

    def _node_answers(self, balancer: LoadBalancer, target: Target) -> bool:
        assert self.core.signals is not None
        how = balancer.profile.check(balancer.local).how
        return self.core.signals.answer_to_health_check(target.node, balancer.service, how, self.core.now_ns)

    def _may_announce(self, balancer: LoadBalancer, node: str) -> bool:
        """Whether MetalLB lets a node announce the address, by what the API says.

        Source: metallb/metallb speaker/layer2_controller.go and bgp_controller.go, ShouldAnnounce.
        """
        serving = (
            entry for _, entry in endpoints_of(self.core, balancer.service)
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
        if target.due or target.draining:
            return
        target.due = True
        since = self.core.now_ns if since_ns is None else since_ns
        if balancer.profile.follows_api and self._node_answers(balancer, target):
            wait = self.core.delay("lb_watch_s", balancer.key)
            self.core.push(wait, HealthCheck(balancer.key, target.name, self.core.now_ns))
            return
        behind = (since - target.phase_ns) // balancer.interval_ns
        t_ns = target.phase_ns + (behind + 1) * balancer.interval_ns
        silent = not balancer.profile.follows_api and not self.core.reachable(target.node)
        silent = silent or self._waits(balancer, target)
        wait = self._timeout(balancer) if silent else 0
        self.core.push_at(t_ns + wait, HealthCheck(balancer.key, target.name, t_ns))

    def _look(self, balancer: LoadBalancer, target: Target) -> None:
        """Schedule a check if it would now find something else than believed."""
        if not target.due and (target.initial or self._answer(balancer, target) != target.healthy):
            self._schedule(balancer, target)

    def _node_looked_at(self, balancer: LoadBalancer, node: str) -> None:
        """Its kube-proxy's own health may be another now."""
        target = balancer.targets.get(node)
        if target is not None and not self.core.quiet:
            self._look(balancer, target)

    def _look_all(self, balancer: LoadBalancer) -> None:
        if not self.core.quiet:
            for target in balancer.targets.values():
                self._look(balancer, target)

    def handle(self, event: Event) -> None:
        """A check, a reading of targets, or the end of a target."""
        assert isinstance(event, HealthCheck | TargetsRead | TargetsReadAgain | TargetDrained | DelayOver)
        balancer = self.balancers.get(event.balancer)
        if balancer is None:
            return
        match event:
            case TargetsRead():
                self._read(balancer)
            case TargetsReadAgain():
                balancer.again_due = False
                before = dict.fromkeys((t.name, t.draining) for t in balancer.targets.values())
                self._reconcile(balancer)
                if before != dict.fromkeys((t.name, t.draining) for t in balancer.targets.values()):
                    self._told(balancer)
            case DelayOver(_, name, node, pod):
                self._delay_over(balancer, name, node, pod)
            case TargetDrained(_, name, joined):
                self._drained(balancer, name, joined)
            case HealthCheck(_, name, asked_ns):
                target = balancer.targets.get(name)
                if target is not None:
                    self._check(balancer, target, asked_ns)

    def _read(self, balancer: LoadBalancer) -> None:
        balancer.refresh_due = False
        self._reconcile(balancer)
        self._told(balancer)

    def _reconcile(self, balancer: LoadBalancer) -> None:
        """What a controller does with a target group: register, deregister, and tell pods of their health."""
        known = frozenset(target.name for target in balancer.targets.values() if not target.draining)
        self._register(balancer)
        if lbgates.report(self.core, balancer, known) and not balancer.again_due:
            balancer.again_due = True
            self.core.push(self.core.delay("lb_requeue_s", balancer.key), TargetsReadAgain(balancer.key))

    def _told(self, balancer: LoadBalancer) -> None:
        self._learn(balancer)
        many = sum(not target.draining for target in balancer.targets.values())
        what = "pod" if balancer.profile.destination == lbprofiles.POD else "node"
        text = f"load balancer of {balancer.service.name} has {many} {what}{'s' if many != 1 else ''} registered"
        self._say(balancer, text)

    def _drained(self, balancer: LoadBalancer, name: str, joined: int) -> None:
        target = balancer.targets.get(name)
        if target is None or target.joined != joined:
            return  # it was registered again
        self._replace_targets(balancer)
        del balancer.targets[name]
        self._learn(balancer)
        self._say(balancer, f"load balancer of {balancer.service.name} sends no more requests to {name}, deregistered")

    def _delay_over(self, balancer: LoadBalancer, name: str, node: str, pod: Key | None) -> None:
        """Flows to a target that left, and runs on, end now."""
        target = balancer.targets.get(name)
        there = pod in self.core.runtime if pod is not None else self.core.reachable(node)
        if there and (target is None or target.draining):
            why = f"it was deregistered {balancer.profile.deregistration_s:g} s ago"
            self._end_flows(balancer, name, why, silent=balancer.profile.ends_drained == lbprofiles.SILENCE)

    def _end_flows(self, balancer: LoadBalancer, target: str, why: str, *, silent: bool = False) -> None:
        name = observer_name(balancer.key)
        did = "passes on nothing more of" if silent else "resets"
        text = f"load balancer of {balancer.service.name} {did} its connections to {target}: {why}"
        what = What.FLOWS_DROPPED if silent else What.FLOWS_RESET
        self.core.fact(what, Key("Observer", "", name), name, text, detail=target)

    def _check(self, balancer: LoadBalancer, target: Target, asked_ns: int) -> None:
        """Check, count, and go on as long as the answers disagree with the state."""
        target.due = False
        if target.draining:
            return
        answer = self._answer(balancer, target)
        if answer == target.healthy and not (target.initial and not answer):
            target.disagreeing = 0
            return
        target.disagreeing += 1
        if target.initial and not answer:
            if target.disagreeing >= balancer.unhealthy_count:
                target.initial, target.disagreeing = False, 0  # it is unhealthy from now on
                self._learn(balancer)
            else:
                self._schedule(balancer, target, asked_ns)
            return
        needed = balancer.unhealthy_count if target.healthy else balancer.healthy_count
        if target.initial and balancer.profile.http:
            needed = 1
        if balancer.profile.follows_api and self._node_answers(balancer, target):
            needed = 1  # its speaker read it from the API: nothing is counted
        if target.disagreeing < needed:
            self._schedule(balancer, target, asked_ns)
            return
        target.healthy, target.initial, target.disagreeing = not target.healthy, False, 0
        self._learn(balancer)
        word = "healthy" if target.healthy else "unhealthy"
        checks = f"{needed} check{'s' if needed != 1 else ''}"
        text = f"load balancer of {balancer.service.name} found {target.name} {word} after {checks}"
        if balancer.profile.follows_api:
            did = "announces" if target.healthy else "no longer announces"
            text = f"{target.name} {did} the address of {balancer.service.name}"
        self._say(balancer, text)
        if balancer.profile.resets_unhealthy and not target.healthy and balancer.healthy():
            self._end_flows(balancer, target.name, "it is unhealthy")

    def _say(self, balancer: LoadBalancer, text: str) -> None:
        name = observer_name(balancer.key)
        self.core.fact(What.LB_TARGETS_CHANGED, Key("Observer", "", name), name, text, self.core.store.revision)

    def _learn(self, balancer: LoadBalancer) -> None:
        now = self.core.now_ns
        balancer.versions.append((now, balancer.healthy()))
        if balancer.profile.destination == lbprofiles.POD:
            listed = (
                ListedPod(t.name, t.node, t.pod, t.ip, t.ports, t.healthy, t.state) for t in balancer.targets.values()
            )
            balancer.pods.append((now, tuple(listed)))
        observer = self.core.observers[observer_name(balancer.key)]
        # As long as one that is deregistered gets new flows, what was written has not arrived.
        late = any(target.draining for target in balancer.targets.values())
        observer.learn(now, observer.revision if late else self.core.store.revision)

    def forget_before(self, t_ns: int) -> None:
        """Drop what was over before `t_ns`: replaced target lists, and changes that every kube-proxy has passed."""
        for balancer in self.balancers.values():
            i = bisect_right(balancer.versions, t_ns, key=lambda version: version[0])
            del balancer.versions[: max(0, i - 1)]
            i = bisect_right(balancer.pods, t_ns, key=lambda version: version[0])
            del balancer.pods[: max(0, i - 1)]
            del balancer.replaced[: bisect_right(balancer.replaced, t_ns, key=lambda entry: entry[0])]
        proxies = [o.revision for o in self.core.observers.values() if o.kind == "kube-proxy"]
        if proxies:
            del self._changes[: bisect_right(self._changes, min(proxies), key=lambda entry: entry[0])]

    # --- what may change answers ----------------------------------------------------------------------------

    def all_seen(self, revision: int) -> bool:
        """Whether rules of this revision or a later one hold all that load balancers' checks wait for."""
        return not self._changes or self._changes[-1][0] <= revision

    def proxy_synced(self, node: str, old_revision: int, new_revision: int) -> None:
        """A node's rules were made anew: its healthCheckNodePort may answer otherwise."""
        if not self._changes or self._changes[-1][0] <= old_revision:
            return
        low = bisect_right(self._changes, old_revision, key=lambda entry: entry[0])
        high = bisect_right(self._changes, new_revision, key=lambda entry: entry[0])
        for service in dict.fromkeys(entry[1] for entry in self._changes[low:high]):
            for key in self._of_service.get(service, ()):
                balancer = self.balancers[key]
                if node in balancer.targets:
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
                for found in self._of_service.get(service, ()):
                    if self._connects(self.balancers[found]):
                        self._look_all(self.balancers[found])

    @staticmethod
    def _connects(balancer: LoadBalancer) -> bool:
        return balancer.profile.check(balancer.local).how == lbprofiles.CONNECT
