"""From what observers know to the candidates of a choice.

A chooser is compiled from the same rule set that the walker reads (`walk.fan`): one rule set, two readings. It gets a
new version whenever an observer it depends on has learned something that changes its candidates.
"""

from collections.abc import Sequence
from math import lcm
from typing import cast

from kflab.control.lbprofiles import LB_ADDRESS, POD
from kflab.control.observers import NO_RULES, revision_at
from kflab.control.plane import ControlPlane
from kflab.dataplane.ipvs import Draining
from kflab.dataplane.lb import in_service, node_weights, source_at_target
from kflab.dataplane.nginx import DRAWN, EWMA
from kflab.dataplane.nginx import route as nginx_route
from kflab.dataplane.packets import Packet, Verdict, join_host_port
from kflab.dataplane.walk import FanOut
from kflab.dataplane.world import LbInForce
from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.types import Answer, Fan, Pick
from kflab.lab.affinity import CALLING_PODS, Affinities, lasts
from kflab.lab.balancer_turns import BalancerTurns
from kflab.lab.choosers import Chooser
from kflab.lab.dialling import Dialling
from kflab.lab.ingress_views import IngressConfigs
from kflab.lab.rulebook import RuleBook
from kflab.lab.server_index import ServerIndex, engine_until
from kflab.lab.turns import Turns
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod

_EMPTY_ANSWERS = {
    Verdict.REJECT: Answer.REJECTED,
    Verdict.DROP: Answer.TIMEOUT,
    Verdict.NONE: Answer.TIMEOUT,  # no rule: the packet follows the default route and nobody answers
    Verdict.ACCEPT: Answer.REJECTED,
}


class Compiler:
    """Makes candidates out of rules.

    Args:
        plane: Control plane, for observers.
        book: Rules by revision.
        engine: Receives a chooser's versions.
        index: Numbers of places and servers.
        dialling: What clients connect to.
        configs: What ingress pods are configured with.
        draws: For what the lab cannot know, such as the order of IPVS's destinations.
    """

    def __init__(
        self, plane: ControlPlane, book: RuleBook, engine: Engine, index: ServerIndex, dialling: Dialling,
        configs: IngressConfigs, draws: Draws,
    ) -> None:  # fmt: skip
        self._plane, self._store, self._book, self._engine = plane, plane.store, book, engine
        self._index, self._dialling, self._configs = index, dialling, configs
        self.turns = Turns(engine, draws)
        self.balancer_turns = BalancerTurns(engine)
        self.affinity = Affinities(engine)
        self._pods: dict[Key | None, int] = {}
        """Ingress pod → its number."""
        self.masqueraded: set[tuple[int, int]] = set()
        """(chooser, server): connections that a node's rules masquerade on their way there."""
        self._sources: dict[tuple[int, int], set[tuple[str, str]]] = {}
        """(place, server) → whose connections that node masquerades: (caller, address dialled)."""
        self.shared_destinations: dict[tuple[int, int], int] = {}
        """(place, server) → since when a node masquerades several callers' connections to it, ns (`source_ports`)."""

    def refresh(self, chooser: Chooser, t_ns: int) -> None:
        """Compile a chooser from what its observers know at `t_ns`."""
        chooser.sticky = False
        compiled = getattr(self, f"_compile_{chooser.kind}")(chooser, t_ns)
        if not chooser.sticky:
            self.affinity.leave(chooser.index, t_ns)
        if (chooser.picker, chooser.virtual) != (chooser.given_picker, chooser.given_virtual):
            engine_until(self._engine, t_ns)
            virtual = self._pod_number(chooser.pod) if chooser.picker == Pick.EWMA else chooser.virtual
            self._engine.set_pick(chooser.index, chooser.picker, virtual)
            chooser.given_picker, chooser.given_virtual = chooser.picker, chooser.virtual
        if compiled != chooser.fan:
            chooser.fan, chooser.since_ns = compiled, t_ns
            chooser.past.append((t_ns, compiled))
            self._engine.learn(chooser.index, t_ns, compiled)

    def _pod_number(self, pod: Key | None) -> int:
        """The number by which the engine knows an ingress pod's scores: choosers of one pod share them."""
        return self._pods.setdefault(pod, len(self._pods))

    def _compile_lb(self, chooser: Chooser, t_ns: int) -> Fan:
        if not chooser.entry.balanced:
            chooser.picker = Pick.RANDOM
            nodes = [key.name for key in self._store.keys("Node") if chooser.entry.node in ("", key.name)]
            places = tuple(self._index.place(node) for node in nodes)
            return Fan(places, (1,) * len(places)) if places else Fan(answer=Answer.TIMEOUT)
        chooser.service = chooser.entry.service
        known = self._dialling.balancer_at(chooser.entry, t_ns)
        if known is None:
            chooser.picker = Pick.FLOW_HASH
            return Fan(answer=Answer.TIMEOUT)
        # An ALB's turns and Envoy's draws have the same equal shares: both are drawn here.
        chooser.picker, chooser.virtual = Pick.RANDOM if known.profile.copies else Pick.FLOW_HASH, -1
        weights = node_weights(known.targets, known.profile, known.address)
        if not weights:
            return Fan(answer=Answer.NO_UPSTREAM if known.profile.http else Answer.TIMEOUT)
        if known.profile.takes_turns:
            zones: dict[str, tuple[int, ...]] = {}
            for target in in_service(known.targets, known.profile, known.address):
                zone = target.zone if known.profile.zonal else ""
                zones[zone] = (*zones.get(zone, ()), self._index.place(target.node.name))
            listener = chooser.entry.balancer, chooser.entry.port.port
            chooser.picker, chooser.virtual = Pick.SCHEDULED, self.balancer_turns.of(*listener, zones, t_ns)
        return Fan(tuple(self._index.place(node.name) for node in weights), tuple(weights.values()))

    def _compile_entry(self, chooser: Chooser, t_ns: int) -> Fan:
        chooser.picker, chooser.virtual = Pick.RANDOM, -1
        profile = self._dialling.profile_of(chooser.entry)
        if profile is not None and profile.destination == POD:
            return self._pods_on(chooser, self._dialling.balancer_at(chooser.entry, t_ns))
        revision = revision_at(self._plane.observers, f"kube-proxy/{chooser.place}", t_ns)
        if revision is None:
            return Fan(answer=Answer.TIMEOUT)
        packet = self.first_packet(chooser)
        return self._by_rules(chooser, revision, packet, t_ns)

    def _compile_dns(self, chooser: Chooser, t_ns: int) -> Fan:
        """As a node's DNAT of any other connection; where IPVS takes turns, each query is drawn."""
        fan = self._compile_entry(chooser, t_ns)
        chooser.picker, chooser.virtual, chooser.sticky = Pick.RANDOM, -1, False
        return fan

    def _compile_upstream(self, chooser: Chooser, t_ns: int) -> Fan:
        config = self._configs.at(chooser.observers[0], t_ns)
        pod = self._store.get(cast(Key, chooser.pod))
        chooser.picker, chooser.virtual = Pick.ROUND_ROBIN, -1  # also where NGINX has nobody: it is who knows
        if config is None or not isinstance(pod, Pod):
            return Fan(answer=Answer.NO_UPSTREAM)
        entry = chooser.entry
        found = nginx_route(config, entry.scheme, entry.host, entry.path, method=entry.method, client=entry.client)
        chooser.service, chooser.service_port = found.service, found.port or 0
        service = found.service  # none where no rule matches any more: then it is of no Service's band
        chooser.band = f"service/{service.namespace}/{service.name}:{found.port}" if service is not None else ""
        if not found.upstreams:
            return Fan(answer=Answer.NO_UPSTREAM)
        if not found.service_upstream:
            peers, weights = found.upstreams, found.weights
            chooser.picker = {EWMA: Pick.EWMA, DRAWN: Pick.PEER_DRAWN}.get(found.balancing, Pick.ROUND_ROBIN)
            if found.hash_key is not None:  # all requests of a stream have one key, and each try goes by it alone
                peers = (peers[found.peer_index(0)],)
            candidates = tuple(self._index.server(u.address, u.port, "TCP", u.target) for u in peers)
            return Fan(candidates, weights or (1,) * len(candidates))
        chooser.picker, chooser.virtual = Pick.RANDOM, -1
        upstream = found.upstreams[0]
        revision = revision_at(self._plane.observers, chooser.observers[1], t_ns)
        if revision is None:
            return Fan(answer=Answer.TIMEOUT)
        return self._by_rules(chooser, revision, Packet(pod.ip, 0, upstream.address, upstream.port), t_ns)

    def _pods_on(self, chooser: Chooser, known: LbInForce | None) -> Fan:
        """The pods on a node that a load balancer with IP targets sends to: no kube-proxy is asked."""
        if known is None:
            return Fan(answer=Answer.TIMEOUT)
        port = chooser.entry.port
        servers = tuple(
            self._index.server(target.address, target.port_of(port.port), port.protocol, target.pod)
            for target in in_service(known.targets, known.profile, known.address)
            if target.node.name == chooser.place
        )
        return Fan(servers, (1,) * len(servers)) if servers else Fan(answer=Answer.TIMEOUT)

    def _by_rules(self, chooser: Chooser, revision: int, packet: Packet, t_ns: int) -> Fan:
        """What the rules of a chooser's node do with a first packet; in IPVS mode its virtual server takes turns."""
        out = self._node_fan(chooser.place, revision, packet, t_ns)
        fan = self._fan(chooser, out, packet, t_ns)
        if chooser.kind == "entry" and not chooser.entry.inside and self._bypassed(chooser, out, fan):
            return Fan(answer=Answer.TIMEOUT)
        rules = self._book.rule_set(
            chooser.place, revision, self._plane.observers[f"kube-proxy/{chooser.place}"].config_at(t_ns)
        )
        if out.affinity_s and chooser.service is not None:
            caller = CALLING_PODS if chooser.entry.kind == "call" else packet.src
            key = (chooser.place, caller, chooser.service, chooser.service_port)
            lasts_ns = lasts(out.affinity_s, rules, packet.protocol)
            entry = self.affinity.entry(key, rules, lasts_ns, t_ns, lambda at_ns: engine_until(self._engine, at_ns))
            self.affinity.list(chooser.index, entry, fan.candidates, t_ns)
            chooser.virtual, chooser.sticky = entry, True
            self._engine.put_behind(entry, self.turns.of(chooser.place, rules, packet, fan.candidates, t_ns))
        else:
            chooser.virtual = self.turns.of(chooser.place, rules, packet, fan.candidates, t_ns)
        chooser.picker = Pick.SCHEDULED if chooser.virtual >= 0 else Pick.RANDOM
        return fan

    def _bypassed(self, chooser: Chooser, out: FanOut, fan: Fan) -> bool:
        """Whether no pod's answer comes back through the node, so that a client outside gets none that it knows.

        IPVS without an endpoint of a Local policy on the node: it sends to those of other nodes and hides no client, so
        "the reply will have the POD address and will be discarded" (k/k pkg/proxy/ipvs/proxier.go, syncEndpoint).
        """
        places, here = self._engine.memory.place, self._index.place(chooser.place)
        return bool(fan.candidates) and not any(
            endpoint.masquerade or places[server] == here
            for server, endpoint in zip(fan.candidates, out.endpoints, strict=True)
        )

    def _node_fan(self, node: str, revision: int, packet: Packet, t_ns: int) -> FanOut:
        """What a node's rules, of its kube-proxy's configuration at `t_ns`, may do with a first packet."""
        proxy = self._plane.observer_at(f"kube-proxy/{node}", t_ns)
        config = proxy.config_at(t_ns) if proxy is not None else 0
        out = self._book.fan(node, revision, packet, config)
        if config == NO_RULES and self._book.rule_set(node, revision, config).is_local(packet.dst):
            return FanOut(Verdict.REJECT)  # nothing on the node listens on a NodePort: its kernel answers RST
        return out

    def first_packet(self, chooser: Chooser) -> Packet:
        """The packet that a node's rules see first for this chooser's stream (source port 0: no rule looks at it)."""
        entry = chooser.entry
        service = cast(Service, self._store.get(entry.service))
        if entry.kind == "call":
            place = self._index.place(chooser.place)
            # Any address of the node's pods: no rule tells them apart but for session affinity.
            there = next(
                server[0] for i, server in enumerate(self._index.servers) if self._engine.memory.place[i] == place
            )
            return Packet(there, 0, service.cluster_ip, entry.port.port, entry.port.protocol)
        if entry.kind == "pod":
            return Packet(entry.client, 0, service.cluster_ip, entry.port.port, entry.port.protocol)
        node = self._store.last(Key("Node", "", chooser.place))
        address = next(iter(node.internal_ips), "") if isinstance(node, Node) else ""
        profile = self._dialling.profile_of(entry)
        if profile is None:
            return Packet(entry.client, 0, address, self._dialling.node_port(entry), entry.port.protocol)
        front = self._dialling.front_address(entry)
        source = source_at_target(profile, entry.client, front, entry.port.protocol)
        if profile.destination == LB_ADDRESS:
            return Packet(source, 0, front, entry.port.port, entry.port.protocol)
        return Packet(source, 0, address, self._dialling.node_port(entry), entry.port.protocol)

    def _fan(self, chooser: Chooser, out: FanOut, packet: Packet, t_ns: int) -> Fan:
        if out.verdict is not Verdict.DNAT:
            return Fan(answer=_EMPTY_ANSWERS[out.verdict])
        scale = lcm(*(endpoint.chance.denominator for endpoint in out.endpoints))
        servers = tuple(self._index.server(e.address, e.port, packet.protocol, e.target) for e in out.endpoints)
        hidden = [server for server, endpoint in zip(servers, out.endpoints, strict=True) if endpoint.masquerade]
        self._note_masquerade(chooser, packet, hidden, t_ns)
        return Fan(servers, tuple(e.chance.numerator * (scale // e.chance.denominator) for e in out.endpoints))

    def _note_masquerade(self, chooser: Chooser, packet: Packet, servers: Sequence[int], t_ns: int) -> None:
        """Remember whose connections a node masquerades, and to which servers."""
        place, caller = self._index.place(chooser.place), (packet.src, packet.destination)
        for server in servers:
            self.masqueraded.add((chooser.index, server))
            destination = (place, server)
            callers = self._sources.setdefault(destination, set())
            if caller in callers:
                continue
            callers.add(caller)
            if len(callers) > 1:
                self.shared_destinations.setdefault(destination, t_ns)

    def empty_verdict(self, chooser: Chooser, t_ns: int) -> Verdict | None:
        """Why a chooser of endpoints had nothing to choose at `t_ns`; None where its node had no rules at all."""
        pod = self._store.get(chooser.pod) if chooser.pod else None
        observer = self._plane.observer_at(chooser.observers[-1], t_ns)
        known = observer.at(t_ns) if observer is not None else None
        if known is None or not chooser.place or (chooser.pod and not isinstance(pod, Pod)):
            return None
        if isinstance(pod, Pod):
            config = self._configs.at(chooser.observers[0], t_ns)
            entry = chooser.entry
            ups = nginx_route(config, entry.scheme, entry.host, entry.path).upstreams if config else ()
            if not ups:
                return None
            packet = Packet(pod.ip, 0, ups[0].address, ups[0].port)
        else:
            packet = self.first_packet(chooser)
        proxy = self._plane.observer_at(f"kube-proxy/{chooser.place}", t_ns)
        if proxy is not None and proxy.config_at(t_ns) == NO_RULES:
            return None
        return self._node_fan(chooser.place, known[1], packet, t_ns).verdict

    def draining(self, node: str, t_ns: int) -> Draining:
        """What IPVS on a node kept with weight 0 at an instant, for connections that it still had."""
        return {
            name: frozenset(join_host_port(*self._index.servers[server][:2]) for server in servers)
            for name, servers in self.turns.draining(node, t_ns).items()
        }
