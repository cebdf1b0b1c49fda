"""From what observers know to the engine's tables: streams, choosers and servers, kept up to date.

A chooser is compiled from the same rule set that the walker reads (`walk.fan`): one rule set, two readings. It gets a
new version whenever an observer it depends on has learned something that changes its candidates.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import lcm
from typing import cast
from urllib.parse import urlsplit

from kflab.cluster.outside import Outside
from kflab.cluster.store import Store
from kflab.control.lbevents import observer_name
from kflab.control.lbprofiles import ALB_CONNECT_S, LB_ADDRESS, POD, LbProfile
from kflab.control.loadbalancers import LoadBalancer
from kflab.control.observers import NO_RULES
from kflab.control.plane import ControlPlane
from kflab.control.runtime import PodRuntime
from kflab.dataplane.alb import route
from kflab.dataplane.endpoints import ProxyEndpoint
from kflab.dataplane.ipvs import Draining
from kflab.dataplane.lb import in_service, node_weights, source_at_target
from kflab.dataplane.nginx import IngressConfig
from kflab.dataplane.nginx import route as nginx_route
from kflab.dataplane.packets import Packet, Verdict, join_host_port
from kflab.dataplane.walk import FanOut
from kflab.dataplane.world import LbInForce
from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.lookups import LINEAR_FROM
from kflab.engine.types import Answer, Behaviour, Call, Fan, Pick, Server, Stream
from kflab.lab.affinity import CALLING_PODS, Affinities, lasts
from kflab.lab.balancer_turns import BalancerTurns
from kflab.lab.balancing import in_force
from kflab.lab.call_wiring import CallWiring
from kflab.lab.controllers import Controller, Controllers
from kflab.lab.dns_clients import dns_entry, names_asked
from kflab.lab.entries import Entry
from kflab.lab.fronts import Fronts
from kflab.lab.ingress_views import config_at
from kflab.lab.rulebook import RuleBook
from kflab.lab.turns import Turns
from kflab.manifest import app_annotations
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


@dataclass(slots=True)
class Chooser:
    """One chooser as the lab knows it."""

    index: int
    kind: str
    """lb (nodes), entry (a node's DNAT of the first connection), dns (likewise of its client's queries), upstream (what
    NGINX's connection reaches)."""
    band: str
    """Id of the band it belongs to."""
    place: str
    """Node on which the choice is made; "" for a load balancer."""
    observers: tuple[str, ...]
    """Whose knowledge decides, by name."""
    entry: Entry
    pod: Key | None = None
    """The ingress pod, for upstream choosers."""
    fan: Fan | None = None
    since_ns: int = 0
    """Since when it has these candidates."""
    picker: int = Pick.RANDOM
    given_picker: int = Pick.RANDOM
    """What the engine was told last."""
    virtual: int = -1
    """IPVS: the virtual server whose turns it takes; under affinity the entry of its caller; -1 for none."""
    given_virtual: int = -1
    sticky: bool = False
    """`virtual` is an affinity entry."""
    service: Key | None = None
    """The Service whose endpoints are chosen."""
    service_port: int = 0
    past: list[tuple[int, Fan]] = field(default_factory=list)
    """(from_ns, candidates) ascending, for the autopsy; what was replaced long ago is forgotten."""


def _front_band(entry: Entry) -> str:
    """Id of the band of what clients of an entry dial."""
    key = entry.balancer
    return f"{'lb' if entry.balanced else 'nodes'}/{key.namespace}/{key.name}"


@dataclass(slots=True)
class Wired:
    """One stream and everything it may pass."""

    entry: Entry
    stream: Stream
    lb: Chooser | None = None
    entries: dict[str, Chooser] = field(default_factory=dict)
    """Node → its DNAT of this stream's first connection."""
    dns: Chooser | None = None
    """Its pod's node's DNAT of queries; None where DNS is not asked for each request."""
    upstreams: dict[Key, Chooser] = field(default_factory=dict)
    """Ingress pod → chooser."""
    wished_rps: float = 0.0
    """Its rate while its caller is up."""
    caller_down: bool = False
    """The pod that calls went down with its node."""
    name: str = ""
    """What it is, whatever its index: part of the addresses of its calls' draws."""
    calls: tuple[tuple[int, tuple[Call, ...]], ...] = ()
    """As `Stream.calls`."""


class Wiring:
    """Builds and updates the engine's tables.

    Args:
        plane: Control plane, for observers and ground truth.
        book: Rules by revision.
        engine: Receives streams, servers and chooser versions.
        controllers: Ingress controllers of the cluster.
        draws: For what the lab cannot know, such as the order of IPVS's destinations.
        lb_address: Address of a Service's load balancer.
        kernel: Linux release of the nodes.
    """

    def __init__(
        self,
        plane: ControlPlane,
        book: RuleBook,
        engine: Engine,
        controllers: Controllers,
        draws: Draws,
        lb_address: Callable[[Key], str],
        kernel: tuple[int, int],
    ) -> None:
        self._kernel = kernel
        self._controllers = controllers
        self._fronts = Fronts(plane.albs, plane.store)
        self._plane = plane
        self._lb_address = lb_address
        self._store: Store = plane.store
        self._outside = Outside(plane.store)
        self._book = book
        self._engine = engine
        self.places: list[str] = []
        """[place] -> node name."""
        self._place_of: dict[str, int] = {}
        self.servers: list[tuple[str, int, str, Key | None]] = []
        """[server] -> (ip, port, protocol, pod)."""
        self._server_of: dict[tuple[str, int, str, Key | None], int] = {}
        self._servers_of_pod: dict[Key, list[int]] = {}
        self.inner = CallWiring(self, plane.store)
        self.choosers: list[Chooser] = []
        self._by_observer: dict[str, list[int]] = {}
        self.wired: list[Wired] = []
        self._configs: dict[tuple[str, int], IngressConfig] = {}
        self._cleaned: dict[int, tuple[ProxyEndpoint, ...]] = {}
        """Chooser → endpoints at its kube-proxy's last cleanup of UDP entries."""
        self.turns = Turns(engine, draws)
        self.balancer_turns = BalancerTurns(engine)
        self.affinity = Affinities(engine)
        self.masqueraded: set[tuple[int, int]] = set()
        """(chooser, server): connections that a node's rules masquerade on their way there."""
        self._sources: dict[tuple[int, int], set[tuple[str, str]]] = {}
        """(place, server) → whose connections that node masquerades: (caller, address dialled)."""
        self.shared_destinations: dict[tuple[int, int], int] = {}
        """(place, server) → since when a node masquerades several callers' connections to it, ns (`source_ports`)."""

    # --- index spaces ---------------------------------------------------------------------------------------

    def place(self, node: str) -> int:
        """Index of a node; -1 for outside."""
        if not node:
            return -1
        found = self._place_of.get(node)
        if found is None:
            found = self._place_of[node] = len(self.places)
            self.places.append(node)
        return found

    def server(self, ip: str, port: int, protocol: str, pod: Key | None) -> int:
        """Index of an address that may answer; made known to the engine at first use."""
        key = (ip, port, protocol, pod)
        found = self._server_of.get(key)
        if found is None:
            runtime = self._plane.runtime.get(pod) if pod else None
            node = runtime.node if runtime else ""
            ingress = pod is not None and self._controllers.is_pod(pod)
            group = self.inner.group(pod, node) if pod else -1
            obj = self._store.get(pod) if pod else None
            said = obj.meta.annotations if isinstance(obj, Pod) else {}
            found = self._engine.add_server(
                Server(
                    join_host_port(ip, port), self.place(node), app_annotations.workers(said), is_ingress=ingress,
                    group=group, backlog=app_annotations.backlog(said),
                    shared_queue=app_annotations.shares_queue(said),
                    idle_close_ns=app_annotations.keep_alive_ns(said),
                )
            )  # fmt: skip
            assert found == len(self.servers), "the engine numbers servers as the lab does"
            self._server_of[key] = found
            self.servers.append(key)
            if pod:
                self._servers_of_pod.setdefault(pod, []).append(found)
            self._engine.behave(found, self.behaviour(ip, port, protocol, pod), self._engine.now_ns)
        return found

    def address(self, server: int) -> str:
        """ip:port of a server."""
        ip, port, _, _ = self.servers[server]
        return join_host_port(ip, port)

    def behaviour(self, ip: str, port: int, protocol: str, pod: Key | None) -> int:
        """What answers on an address now, in truth."""
        runtime = self._plane.runtime.get(pod) if pod else self._runtime_by_ip(ip)
        if runtime is None and pod is None and self._outside.answers(ip):
            return Behaviour.LISTENS
        if runtime is None or not runtime.sandbox or ip not in runtime.ips:
            return Behaviour.SILENT
        if (protocol, port) in runtime.hanging:
            return Behaviour.HANGS
        return Behaviour.LISTENS if (protocol, port) in runtime.listening else Behaviour.REFUSES

    def wait_ns(self, pod: Key, port: int, word: int, t_ns: int) -> int:
        """How long a request to a pod's port would wait for its worker at `t_ns`, ns.

        The engine is brought up to `t_ns` first: the answer does not depend on how far it was ahead or behind.
        """
        self._engine_until(t_ns)
        servers = self._servers_of_pod.get(pod, ())
        index = next((index for index in servers if self.servers[index][1] == port), None)
        return 0 if index is None else self._engine.wait_ns(index, word)

    def busy_ns(self, pod: Key, t_ns: int) -> int:
        """How long a pod's workers have served requests until `t_ns`, ns, counted from the first time anybody asks."""
        self._engine_until(t_ns)
        self._engine.memory.count_work()
        return sum(self._engine.memory.worked_ns(index, t_ns) for index in self._servers_of_pod.get(pod, ()))

    def _runtime_by_ip(self, ip: str) -> PodRuntime | None:
        return next((run for run in self._plane.runtime.values() if run.sandbox and ip in run.ips), None)

    def pod_changed(self, pod: Key, t_ns: int) -> None:
        """A pod's listeners or its sandbox changed at `t_ns`.

        A process that stopped listening and still runs (after SIGTERM) finishes what it had accepted.
        """
        self._caller_changed(pod, t_ns)
        runtime = self._plane.runtime.get(pod)
        for index in self._servers_of_pod.get(pod, ()):
            ip, port, protocol, _ = self.servers[index]
            behaviour = self.behaviour(ip, port, protocol, pod)
            drains = behaviour == Behaviour.REFUSES and runtime is not None and runtime.serves((protocol, port))
            self._engine.behave(index, behaviour, t_ns, drain=drains)

    def set_rate(self, wired: Wired, rate_rps: float, t_ns: int) -> None:
        """Let a stream have a mean rate from `t_ns` on, or when its caller is up again."""
        wired.wished_rps = rate_rps
        if not wired.caller_down:
            self._engine.set_rate(wired.entry.index, rate_rps, t_ns)

    def _caller_changed(self, pod: Key, t_ns: int) -> None:
        """A pod that calls went down with its node, or runs again: who is down calls nobody."""
        runtime = self._plane.runtime.get(pod)
        down = runtime is not None and not runtime.sandbox
        for wired in self.wired:
            if wired.entry.client_pod == pod and wired.caller_down != down:
                wired.caller_down = down
                self._engine.set_rate(wired.entry.index, 0.0 if down else wired.wished_rps, t_ns)

    def node_changed(self, node: str, t_ns: int) -> None:
        """Packets reach a node no more, or again, from `t_ns` on."""
        self._engine.cut(self.place(node), not self._plane.core.reachable(node), t_ns)

    # --- building -------------------------------------------------------------------------------------------

    def add(self, entry: Entry, t_ns: int = 0) -> Wired:
        """Wire one kind of request, sent from `t_ns` on."""
        self._engine_until(t_ns)
        source = entry.source
        destination = self.dialled(entry)
        pinned: tuple[tuple[int, int, int], ...] = ()
        if source and source.first_client_port is not None:
            pinned = ((0, source.first_client_port, source.first_upstream_port or 0),)
        place = -1
        if entry.client_pod is not None:
            runtime = self._plane.runtime.get(entry.client_pod)
            place = self.place(runtime.node if runtime else "")
        stream = Stream(
            index=entry.index,
            kind="l7" if entry.kind == "l7" else ("pod" if entry.kind == "pod" else "l4"),
            rate_rps=entry.rate_rps,
            place=place,
            tries=3 if entry.kind == "l7" else 1,
            idempotent=entry.method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"),
            pinned_ports=pinned,
            flow_port=source.client_port if source else 0,
            one_way=source is not None and source.one_way,
            udp=entry.port.protocol == "UDP",
            connections=source.connections if source else 0,
            connection_age_ns=source.connection_age_ns if source else 0,
            lost_per_million=source.lost_per_million if source else 0,
            linear_syns=self._kernel >= LINEAR_FROM,
            client=entry.client,
            destination=destination,
        )
        if source is not None:
            stream = replace(
                stream, dial_timeout_ns=source.connect_timeout_ns, timeout_ns=source.timeout_ns,
                attempt_timeout_ns=source.attempt_timeout_ns, peer_timeout_ns=source.keepalive_timeout_ns,
                retry=source.retry,
            )  # fmt: skip
        same = sum(other.entry.identity == entry.identity for other in self.wired)
        wired = Wired(entry, stream, wished_rps=entry.rate_rps, name=f"{entry.identity} {same}")
        self.wired.append(wired)
        if entry.kind != "pod":
            wired.lb = self._chooser("lb", _front_band(entry), "", (observer_name(entry.balancer),), entry)
        if source is not None and source.lookups:
            self._asks_dns(wired, self._engine.now_ns)
        self.complete(wired, self._engine.now_ns)
        return wired

    def _asks_dns(self, wired: Wired, t_ns: int) -> None:
        """Let a client in a pod ask DNS before each request, through its node's rules."""
        entry, place = wired.entry, wired.stream.place
        pod = self._store.get(entry.client_pod) if entry.client_pod else None
        if not isinstance(pod, Pod) or place < 0:
            return
        host = entry.host if entry.source is None else urlsplit(entry.source.url).hostname or entry.host
        names = names_asked(self._store, pod, host)
        if names:
            asked = dns_entry(self._store, entry)
            node = self.places[place]
            band = f"service/{asked.service.namespace}/{asked.service.name}:{asked.port.port}"
            wired.dns = self._chooser("dns", band, node, (f"kube-proxy/{node}",), asked, t_ns=t_ns)
            wired.stream = replace(wired.stream, names=names)

    def add_call(self, entry: Entry, outer: Wired, name: str, address: int, t_ns: int) -> Wired:
        """Wire a call that is made for requests of another stream, from `t_ns` on; draws have the given address."""
        destination = self.dialled(entry)
        stream = Stream(entry.index, "call", 0.0, tries=1, destination=destination, parent=outer.stream.index,
                        address=address)  # fmt: skip
        wired = Wired(entry, stream, name=name)
        self.wired.append(wired)
        self.complete(wired, t_ns)
        return wired

    def _engine_until(self, t_ns: int) -> None:
        """Let the engine come up to an instant at which its paths change: they have no versions, unlike choosers."""
        if t_ns > self._engine.now_ns:
            self._engine.advance(t_ns)

    def dialled(self, entry: Entry) -> str:
        """ip:port that the client connects to; ":port" where it picks a node itself."""
        if entry.alb is not None:
            one = self._plane.albs.get(entry.alb)
            return join_host_port(one.ip, entry.listener) if one is not None else ""
        service = self._store.get(entry.service)
        if not isinstance(service, Service):
            return ""
        if entry.inside:
            return join_host_port(service.cluster_ip, entry.port.port)
        if not entry.balanced:
            return f":{self.node_port(entry)}"
        return join_host_port(self._lb_address(entry.service), entry.port.port)

    def node_port(self, entry: Entry) -> int:
        """The NodePort of the Service port dialled, as allocated."""
        service = self._store.get(entry.service)
        ports = service.ports if isinstance(service, Service) else ()
        return next((port.node_port for port in ports if port.port == entry.port.port), 0)

    def complete(self, wired: Wired, t_ns: int) -> None:
        """Add the choosers of nodes and ingress pods that are not wired yet, and hand the stream to the engine."""
        entry = wired.entry
        if entry.caller is not None:
            nodes = list(self.inner.nodes_of(entry.caller))
        elif entry.kind == "pod":
            nodes = [self.places[wired.stream.place]] if wired.stream.place >= 0 else []
        elif entry.alb is not None and entry.group is None:
            nodes = []  # the load balancer answers itself
        else:
            nodes = [key.name for key in self._store.keys("Node")]
        for node in nodes:
            if node not in wired.entries:
                known = self.inner.chooser if entry.kind == "call" else self.entry_chooser
                wired.entries[node] = known(entry, node, t_ns)
        if entry.controller is not None:
            for pod in self._controller_pods(entry):
                if pod in wired.upstreams:
                    continue
                obj = self._store.get(pod)
                node = cast(Pod, obj).spec.node_name
                observers = (f"ingress/{pod.namespace}/{pod.name}", f"kube-proxy/{node}")
                wired.upstreams[pod] = self._chooser("upstream", "", node, observers, entry, pod, t_ns)
        self._hand_over(wired, t_ns)

    def entry_chooser(self, entry: Entry, node: str, t_ns: int) -> Chooser:
        """Make a node's DNAT of a stream's first connection."""
        band = "ingress" if entry.kind == "l7" else "service"
        band_id = f"{band}/{entry.service.namespace}/{entry.service.name}:{entry.port.port}"
        return self._chooser("entry", band_id, node, (self._entry_observer(entry, node),), entry, t_ns=t_ns)

    def _entry_observer(self, entry: Entry, node: str) -> str:
        """By whose knowledge an endpoint is chosen behind a node: the node's kube-proxy; of IP targets the balancer."""
        profile = self.profile_of(entry)
        if profile is not None and profile.destination == POD:
            return observer_name(entry.balancer)
        return f"kube-proxy/{node}"

    def _controller_pods(self, entry: Entry) -> list[Key]:
        current = next((c for c in self._controllers.all() if entry.controller and c.key == entry.controller.key), None)
        pods = current.pods if current else (entry.controller.pods if entry.controller else ())
        return [pod for pod in pods if isinstance(self._store.get(pod), Pod) and cast(Pod, self._store.get(pod)).ip]

    def _hand_over(self, wired: Wired, t_ns: int) -> None:
        """Give the engine the stream's paths as they are from `t_ns` on."""
        entry, old = wired.entry, wired.stream
        upstreams = []
        keepalive = False
        for pod, chooser in wired.upstreams.items():
            for index in self._ingress_servers(wired, pod):
                upstreams.append((index, chooser.index))
            keepalive = keepalive or self._keepalive(pod, t_ns)
        streams = self._engine.streams
        rate = streams[old.index].rate_rps if old.index < len(streams) else old.rate_rps
        wired.stream = Stream(
            index=old.index, kind=old.kind, rate_rps=rate, lb=wired.lb.index if wired.lb else -1,
            place=old.place, entries=tuple((self.place(node), c.index) for node, c in wired.entries.items()),
            upstreams=tuple(upstreams), tries=old.tries, idempotent=old.idempotent, keepalive=keepalive,
            pinned_ports=old.pinned_ports, client=old.client, destination=old.destination,
            flow_port=old.flow_port, one_way=old.one_way, connections=old.connections,
            connection_age_ns=old.connection_age_ns, names=old.names,
            dns=((old.place, wired.dns.index),) if wired.dns else (), lost_per_million=old.lost_per_million,
            linear_syns=old.linear_syns, calls=wired.calls, parent=old.parent, address=old.address,
            no_route=entry.kind == "l7" and self._is_404(wired, t_ns),
            dial_timeout_ns=old.dial_timeout_ns, timeout_ns=old.timeout_ns, attempt_timeout_ns=old.attempt_timeout_ns,
            peer_timeout_ns=old.peer_timeout_ns, retry=old.retry,
        )  # fmt: skip
        wired.stream = self._fronted(wired.stream, entry, t_ns)
        known = self._engine.streams
        if wired.stream.index == len(known):
            self._engine.add_stream(wired.stream)
        elif known[wired.stream.index] != wired.stream:
            self._engine_until(t_ns)
            self._engine.replace_stream(wired.stream)

    def _fronted(self, stream: Stream, entry: Entry, t_ns: int) -> Stream:
        """A stream as an Application Load Balancer treats it."""
        one = self._plane.albs.get(entry.alb) if entry.alb is not None else None
        if one is None:
            return stream
        model = one.at(t_ns)
        found = route(model, entry.listener, entry.scheme, entry.host, entry.path)
        return replace(
            stream,
            http_front=True,
            front_answer=found.status if found.kind == "answer" else 0,
            connect_timeout_ns=round(ALB_CONNECT_S * 1e9),
            read_timeout_ns=round(model.idle_s * 1e9),
        )

    def fronts_changed(self, t_ns: int) -> None:
        """Rules of Application Load Balancers changed at `t_ns`: requests are led anew."""
        for wired in self.wired:
            entry = wired.entry
            one = self._plane.albs.get(entry.alb) if entry.alb is not None else None
            if one is not None:
                found = self._fronts.at(one, entry.listener, entry.scheme, entry.host, entry.path)
                new = replace(entry, service=found.service, port=found.port, group=found.group, ingress=found.ingress)
                if new != entry:
                    self._lead(wired, new, t_ns)
            if entry.alb is not None:
                self.complete(wired, t_ns)

    def _lead(self, wired: Wired, entry: Entry, t_ns: int) -> None:
        """Let a stream go to another target group."""
        wired.entry = entry
        for chooser in filter(None, (wired.lb, *wired.entries.values())):
            chooser.entry = entry
            if chooser.kind == "lb":
                chooser.band, observers = _front_band(entry), (observer_name(entry.balancer),)
            else:
                chooser.band = f"service/{entry.service.namespace}/{entry.service.name}:{entry.port.port}"
                chooser.service, chooser.service_port = entry.service, entry.port.port
                observers = (self._entry_observer(entry, chooser.place),)
            self._watch(chooser, observers)
            self.refresh(chooser, max(t_ns, self._engine.now_ns))

    def _watch(self, chooser: Chooser, observers: tuple[str, ...]) -> None:
        """Let other observers' knowledge decide at a chooser."""
        if chooser.observers != observers:
            for name in chooser.observers:
                self._by_observer[name].remove(chooser.index)
            for name in observers:
                self._by_observer.setdefault(name, []).append(chooser.index)
            chooser.observers = observers

    def _ingress_servers(self, wired: Wired, pod: Key) -> list[int]:
        """Servers of an ingress pod that this stream's connections reach (its targetPort); of one that is gone, did."""
        runtime, obj = self._plane.runtime.get(pod), self._store.get(pod)
        if not isinstance(obj, Pod):
            return [index for index, _ in wired.stream.upstreams if self.servers[index][3] == pod]
        target = wired.entry.port.target
        port = target if isinstance(target, int) else next(
            (p.port for c in obj.spec.containers for p in c.ports if p.name == target), 0)  # fmt: skip
        return [self.server(ip, port, "TCP", pod) for ip in (runtime.ips if runtime else obj.status.pod_ips)]

    def _chooser(
        self, kind: str, band: str, place: str, observers: Sequence[str], entry: Entry, pod: Key | None = None,
        t_ns: int = 0,
    ) -> Chooser:  # fmt: skip
        chooser = Chooser(len(self.choosers), kind, band, place, tuple(observers), entry, pod)
        if kind in ("entry", "dns"):
            chooser.service, chooser.service_port = entry.service, entry.port.port
        self.choosers.append(chooser)
        for name in observers:
            self._by_observer.setdefault(name, []).append(chooser.index)
        self.refresh(chooser, max(t_ns, self._engine.now_ns))
        return chooser

    # --- keeping up -----------------------------------------------------------------------------------------

    def observer_learned(self, name: str, t_ns: int) -> None:
        """An observer's rules changed at `t_ns`: give its choosers a new version where candidates changed."""
        if name.startswith("lb/"):
            self._who_decides(name)
        for index in self._by_observer.get(name, ()):
            self.refresh(self.choosers[index], t_ns)
            self._clean_flows(self.choosers[index], t_ns)
        if name.startswith("ingress/"):
            for wired in self.wired:
                if any(name in chooser.observers for chooser in wired.upstreams.values()):
                    self._hand_over(wired, t_ns)
                    self.inner.wire(wired, t_ns)
        self.inner.settle(t_ns)

    def _who_decides(self, balancer: str) -> None:
        """Behind a load balancer the nodes' rules choose endpoints, or with IP targets it does so itself."""
        for wired in self.wired:
            if wired.lb is None or balancer not in wired.lb.observers:
                continue
            for node, chooser in wired.entries.items():
                self._watch(chooser, (self._entry_observer(wired.entry, node),))

    def _clean_flows(self, chooser: Chooser, t_ns: int) -> None:
        """What kube-proxy does at the end of a sync that changed endpoints: delete stale UDP entries.

        An entry goes when its endpoint is not serving any more; a Service without any serving endpoint is passed over,
        so its entries stay (k/k pkg/proxy/conntrack/cleanup.go as of 1.33; later releases clean those too, #139629).
        Here a sync cleans the entries of the Services whose endpoints it changed, there all UDP ones.
        """
        stream = self.wired[chooser.entry.index].stream
        revision = self._revision(chooser.observers[0], t_ns)
        if not stream.flow_port or chooser.kind != "entry" or revision is None:
            return
        rules = self._book.table(revision).get(chooser.entry.service)
        own = chooser.entry.port
        ports = (p for p in rules.ports if (p.port, p.protocol) == (own.port, own.protocol)) if rules else ()
        endpoints = tuple(endpoint for port in ports for endpoint in port.endpoints.all)
        if endpoints == self._cleaned.get(chooser.index):
            return
        self._cleaned[chooser.index] = endpoints
        serving = {endpoint.address for endpoint in endpoints if endpoint.serving}
        if serving:
            keep = frozenset(i for i, (ip, _, _, _) in enumerate(self.servers) if ip in serving)
            self._engine.clean_flows(stream.index, self.place(chooser.place), t_ns, keep)

    def topology_changed(self, t_ns: int) -> None:
        """Nodes or ingress pods came or went at `t_ns`: wire what is new."""
        for wired in tuple(self.wired):
            self.complete(wired, t_ns)

    def refresh(self, chooser: Chooser, t_ns: int) -> None:
        """Compile a chooser from what its observers know at `t_ns`."""
        chooser.sticky = False
        compiled = getattr(self, f"_compile_{chooser.kind}")(chooser, t_ns)
        if not chooser.sticky:
            self.affinity.leave(chooser.index, t_ns)
        if (chooser.picker, chooser.virtual) != (chooser.given_picker, chooser.given_virtual):
            self._engine_until(t_ns)
            self._engine.set_pick(chooser.index, chooser.picker, chooser.virtual)
            chooser.given_picker, chooser.given_virtual = chooser.picker, chooser.virtual
        if compiled != chooser.fan:
            chooser.fan, chooser.since_ns = compiled, t_ns
            chooser.past.append((t_ns, compiled))
            self._engine.learn(chooser.index, t_ns, compiled)

    def profile_of(self, entry: Entry) -> LbProfile | None:
        """Whose load balancer an entry's traffic passes; None without one."""
        balancer = self._balancer(entry)
        return balancer.profile if balancer is not None else None

    def _balancer(self, entry: Entry) -> LoadBalancer | None:
        if not entry.balanced or (entry.alb is not None and entry.group is None):
            return None
        return self._plane.balancers.get(entry.balancer)

    def front_address(self, entry: Entry) -> str:
        """Where clients of an entry's load balancer connect."""
        one = self._plane.albs.get(entry.alb) if entry.alb is not None else None
        return one.ip if one is not None else self._lb_address(entry.service)

    def balancer_at(self, entry: Entry, t_ns: int) -> LbInForce | None:
        """The load balancer that an entry's traffic passes; None without one."""
        balancer = self._balancer(entry)
        if balancer is None:
            return None
        return in_force(self._store, balancer, self.front_address(entry), t_ns)

    def _compile_lb(self, chooser: Chooser, t_ns: int) -> Fan:
        if not chooser.entry.balanced:
            chooser.picker = Pick.RANDOM
            nodes = [key.name for key in self._store.keys("Node")]
            places = tuple(self.place(node) for node in nodes)
            return Fan(places, (1,) * len(places)) if places else Fan(answer=Answer.TIMEOUT)
        chooser.service = chooser.entry.service
        known = self.balancer_at(chooser.entry, t_ns)
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
                zones[zone] = (*zones.get(zone, ()), self.place(target.node.name))
            listener = chooser.entry.balancer, chooser.entry.port.port
            chooser.picker, chooser.virtual = Pick.SCHEDULED, self.balancer_turns.of(*listener, zones, t_ns)
        return Fan(tuple(self.place(node.name) for node in weights), tuple(weights.values()))

    def _compile_entry(self, chooser: Chooser, t_ns: int) -> Fan:
        chooser.picker, chooser.virtual = Pick.RANDOM, -1
        profile = self.profile_of(chooser.entry)
        if profile is not None and profile.destination == POD:
            return self._pods_on(chooser, self.balancer_at(chooser.entry, t_ns))
        revision = self._revision(f"kube-proxy/{chooser.place}", t_ns)
        if revision is None:
            return Fan(answer=Answer.TIMEOUT)
        packet = self.first_packet(chooser)
        return self._by_rules(chooser, revision, packet, t_ns)

    def _compile_dns(self, chooser: Chooser, t_ns: int) -> Fan:
        """As a node's DNAT of any other connection; where IPVS takes turns, each query is drawn."""
        fan = self._compile_entry(chooser, t_ns)
        chooser.picker, chooser.virtual, chooser.sticky = Pick.RANDOM, -1, False
        return fan

    def _by_rules(self, chooser: Chooser, revision: int, packet: Packet, t_ns: int) -> Fan:
        """What the rules of a chooser's node do with a first packet; in IPVS mode its virtual server takes turns."""
        out = self._node_fan(chooser.place, revision, packet, t_ns)
        fan = self._fan(chooser, out, packet, t_ns)
        rules = self._book.rule_set(
            chooser.place, revision, self._plane.observers[f"kube-proxy/{chooser.place}"].config_at(t_ns)
        )
        if out.affinity_s and chooser.service is not None:
            caller = CALLING_PODS if chooser.entry.kind == "call" else packet.src
            key = (chooser.place, caller, chooser.service, chooser.service_port)
            lasts_ns = lasts(out.affinity_s, rules, packet.protocol)
            entry = self.affinity.entry(key, rules, lasts_ns, t_ns, self._engine_until)
            self.affinity.list(chooser.index, entry, fan.candidates, t_ns)
            chooser.virtual, chooser.sticky = entry, True
            self._engine.put_behind(entry, self.turns.of(chooser.place, rules, packet, fan.candidates, t_ns))
        else:
            chooser.virtual = self.turns.of(chooser.place, rules, packet, fan.candidates, t_ns)
        chooser.picker = Pick.SCHEDULED if chooser.virtual >= 0 else Pick.RANDOM
        return fan

    def _node_fan(self, node: str, revision: int, packet: Packet, t_ns: int) -> FanOut:
        """What a node's rules, of its kube-proxy's configuration at `t_ns`, may do with a first packet."""
        config = self._plane.observers[f"kube-proxy/{node}"].config_at(t_ns)
        out = self._book.fan(node, revision, packet, config)
        if config == NO_RULES and self._book.rule_set(node, revision, config).is_local(packet.dst):
            return FanOut(Verdict.REJECT)  # nothing on the node listens on a NodePort: its kernel answers RST
        return out

    def first_packet(self, chooser: Chooser) -> Packet:
        """The packet that a node's rules see first for this chooser's stream (source port 0: no rule looks at it)."""
        entry = chooser.entry
        service = cast(Service, self._store.get(entry.service))
        if entry.kind == "call":
            place = self._place_of[chooser.place]
            # Any address of the node's pods: no rule tells them apart but for session affinity.
            there = next(server[0] for i, server in enumerate(self.servers) if self._engine.memory.place[i] == place)
            return Packet(there, 0, service.cluster_ip, entry.port.port, entry.port.protocol)
        if entry.kind == "pod":
            return Packet(entry.client, 0, service.cluster_ip, entry.port.port, entry.port.protocol)
        node = self._store.get(Key("Node", "", chooser.place))
        address = next(iter(node.internal_ips), "") if isinstance(node, Node) else ""
        profile = self.profile_of(entry)
        if profile is None:
            return Packet(entry.client, 0, address, self.node_port(entry), entry.port.protocol)
        front = self.front_address(entry)
        source = source_at_target(profile, entry.client, front, entry.port.protocol)
        if profile.destination == LB_ADDRESS:
            return Packet(source, 0, front, entry.port.port, entry.port.protocol)
        return Packet(source, 0, address, self.node_port(entry), entry.port.protocol)

    def _pods_on(self, chooser: Chooser, known: LbInForce | None) -> Fan:
        """The pods on a node that a load balancer with IP targets sends to: no kube-proxy is asked."""
        if known is None:
            return Fan(answer=Answer.TIMEOUT)
        port = chooser.entry.port
        servers = tuple(
            self.server(target.address, target.port_of(port.port), port.protocol, target.pod)
            for target in in_service(known.targets, known.profile, known.address)
            if target.node.name == chooser.place
        )
        return Fan(servers, (1,) * len(servers)) if servers else Fan(answer=Answer.TIMEOUT)

    def _compile_upstream(self, chooser: Chooser, t_ns: int) -> Fan:
        config = self.ingress_config(chooser.observers[0], t_ns)
        pod = self._store.get(cast(Key, chooser.pod))
        if config is None or not isinstance(pod, Pod):
            return Fan(answer=Answer.NO_UPSTREAM)
        entry = chooser.entry
        found = nginx_route(config, entry.scheme, entry.host, entry.path)
        chooser.service, chooser.service_port = found.service, found.port or 0
        if found.service is not None:
            chooser.band = f"service/{found.service.namespace}/{found.service.name}:{found.port}"
        if not found.upstreams:
            return Fan(answer=Answer.NO_UPSTREAM)
        if not found.service_upstream:
            chooser.picker, chooser.virtual = Pick.ROUND_ROBIN, -1
            candidates = tuple(self.server(u.address, u.port, "TCP", u.target) for u in found.upstreams)
            return Fan(candidates, (1,) * len(candidates))
        chooser.picker, chooser.virtual = Pick.RANDOM, -1
        upstream = found.upstreams[0]
        revision = self._revision(chooser.observers[1], t_ns)
        if revision is None:
            return Fan(answer=Answer.TIMEOUT)
        return self._by_rules(chooser, revision, Packet(pod.ip, 0, upstream.address, upstream.port), t_ns)

    def _fan(self, chooser: Chooser, out: FanOut, packet: Packet, t_ns: int) -> Fan:
        if out.verdict is not Verdict.DNAT:
            return Fan(answer=_EMPTY_ANSWERS[out.verdict])
        scale = lcm(*(endpoint.chance.denominator for endpoint in out.endpoints))
        servers = tuple(self.server(e.address, e.port, packet.protocol, e.target) for e in out.endpoints)
        hidden = [server for server, endpoint in zip(servers, out.endpoints, strict=True) if endpoint.masquerade]
        self._note_masquerade(chooser, packet, hidden, t_ns)
        return Fan(servers, tuple(e.chance.numerator * (scale // e.chance.denominator) for e in out.endpoints))

    def _note_masquerade(self, chooser: Chooser, packet: Packet, servers: Sequence[int], t_ns: int) -> None:
        """Remember whose connections a node masquerades, and to which servers."""
        place, caller = self.place(chooser.place), (packet.src, packet.destination)
        for server in servers:
            self.masqueraded.add((chooser.index, server))
            destination = (place, server)
            callers = self._sources.setdefault(destination, set())
            if caller in callers:
                continue
            callers.add(caller)
            if len(callers) > 1:
                self.shared_destinations.setdefault(destination, t_ns)

    def _revision(self, observer: str, t_ns: int) -> int | None:
        known = self._plane.observers.get(observer)
        found = known.at(t_ns) if known else None
        return found[1] if found else None

    def ingress_config(self, observer: str, t_ns: int) -> IngressConfig | None:
        """What an ingress pod's NGINX was configured with at `t_ns`."""
        revision = self._revision(observer, t_ns)
        if revision is None:
            return None
        _, namespace, name = observer.split("/", 2)
        key = (observer, revision)
        if key not in self._configs:
            if len(self._configs) > 64:
                self._configs.clear()
            controller = self._controller_of(Key("Pod", namespace, name))
            if controller is None:
                return None
            self._configs[key] = config_at(self._store, self._book, controller, revision)
        return self._configs[key]

    def forget_old_configs(self) -> None:
        """Drop configurations made from revisions that no ingress pod is remembered to have acted on."""
        known = {(name, rev) for name, observer in self._plane.observers.items() for _, rev in observer.versions}
        self._configs = {key: config for key, config in self._configs.items() if key in known}

    def forget_before(self, t_ns: int) -> None:
        """Drop candidates that were replaced before `t_ns`."""
        for chooser in self.choosers:
            i = bisect_right(chooser.past, t_ns, key=lambda entry: entry[0])
            del chooser.past[: max(0, i - 1)]
        self.affinity.forget_before(t_ns)
        self.turns.forget_before(t_ns)

    def draining(self, node: str, t_ns: int) -> Draining:
        """What IPVS on a node kept with weight 0 at an instant, for connections that it still had."""
        return {
            name: frozenset(join_host_port(*self.servers[server][:2]) for server in servers)
            for name, servers in self.turns.draining(node, t_ns).items()
        }

    def empty_verdict(self, chooser: Chooser, t_ns: int) -> Verdict | None:
        """Why a chooser of endpoints had nothing to choose at `t_ns`; None where its node had no rules at all."""
        pod = self._store.get(chooser.pod) if chooser.pod else None
        revision = self._revision(chooser.observers[-1], t_ns)
        if revision is None or not chooser.place or (chooser.pod and not isinstance(pod, Pod)):
            return None
        if isinstance(pod, Pod):
            config = self.ingress_config(chooser.observers[0], t_ns)
            entry = chooser.entry
            ups = nginx_route(config, entry.scheme, entry.host, entry.path).upstreams if config else ()
            if not ups:
                return None
            packet = Packet(pod.ip, 0, ups[0].address, ups[0].port)
        else:
            packet = self.first_packet(chooser)
        config_number = self._plane.observers[f"kube-proxy/{chooser.place}"].config_at(t_ns)
        return None if config_number == NO_RULES else self._node_fan(chooser.place, revision, packet, t_ns).verdict

    def _controller_of(self, pod: Key) -> Controller | None:
        return next((c for c in self._controllers.all() if pod in c.pods), None)

    def _is_404(self, wired: Wired, t_ns: int) -> bool:
        """Whether the controller has no rule for this stream's host and path."""
        for chooser in wired.upstreams.values():
            config = self.ingress_config(chooser.observers[0], t_ns)
            if config is not None:
                found = nginx_route(config, wired.entry.scheme, wired.entry.host, wired.entry.path)
                return found.kind == "answer" and found.status == 404
        return True

    def _keepalive(self, pod: Key, t_ns: int) -> bool:
        config = self.ingress_config(f"ingress/{pod.namespace}/{pod.name}", t_ns)
        return config is not None and config.keepalive_connections > 0

    def fronts(self) -> list[int]:
        """Indices of the streams that are no calls: what users send, and pods of their own accord."""
        return [wired.entry.index for wired in self.wired if wired.entry.kind != "call"]

    # --- who calls whom -------------------------------------------------------------------------------------

    def callers_of(self, services: Iterable[Key]) -> frozenset[str]:
        """Names of the observers by whose rules traffic reaches any of these Services."""
        wanted = set(services)
        names: set[str] = set()
        for chooser in self.choosers:
            if chooser.service not in wanted or not self.reached(chooser):
                continue
            if chooser.kind == "upstream":
                names.add(chooser.observers[0 if chooser.picker == Pick.ROUND_ROBIN else 1])
            elif chooser.kind in ("entry", "dns"):
                names.add(chooser.observers[0])
        return frozenset(names)

    def calling(self) -> frozenset[str]:
        """Names of all observers by whose rules traffic flows."""
        return self.callers_of({chooser.service for chooser in self.choosers if chooser.service})

    def reached(self, chooser: Chooser) -> bool:
        """Whether the load balancer (or the caller's place) lets traffic come to this chooser at all."""
        if chooser.kind != "entry" or chooser.entry.inside:
            return True
        wired = self.wired[chooser.entry.index]
        return wired.lb is None or wired.lb.fan is None or self.place(chooser.place) in wired.lb.fan.candidates
