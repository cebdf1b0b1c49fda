"""Streams of requests and the choices they pass, handed to the engine and kept up with what observers learn."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import cast
from urllib.parse import urlsplit

from kflab.cluster.store import Store
from kflab.control.lbevents import observer_name
from kflab.control.lbprofiles import POD
from kflab.control.plane import ControlPlane
from kflab.control.waves import Wave
from kflab.dataplane.alb import route
from kflab.dataplane.nginx import route as nginx_route
from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.lookups import LINEAR_FROM
from kflab.engine.types import Stream
from kflab.errors import KflabError
from kflab.lab.call_wiring import CallWiring
from kflab.lab.choosers import Chooser, Home, Wired, front_band
from kflab.lab.client_pods import ClientPods
from kflab.lab.compiling import Compiler
from kflab.lab.controllers import Controllers
from kflab.lab.dialling import Dialling
from kflab.lab.dns_clients import dns_entry, names_asked
from kflab.lab.entries import Entry
from kflab.lab.fronts import Fronts
from kflab.lab.ingress_views import IngressConfigs
from kflab.lab.rulebook import RuleBook
from kflab.lab.server_index import ServerIndex, engine_until
from kflab.lab.udp_cleanup import UdpCleanup
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Methods that NGINX tries again also when they were sent."""


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
        self._store: Store = plane.store
        self._engine = engine
        self.inner = CallWiring(self, plane.store)
        self.clients = ClientPods(plane, self)
        self.index = ServerIndex(plane, engine, controllers, self.inner.group)
        self.places, self.servers = self.index.places, self.index.servers
        self.dialling = Dialling(plane, lb_address)
        self.configs = IngressConfigs(plane, book, controllers)
        self.compiler = Compiler(plane, book, engine, self.index, self.dialling, self.configs, draws)
        self._udp = UdpCleanup(plane, book, engine, self.index)
        self.choosers: list[Chooser] = []
        self._by_observer: dict[str, list[int]] = {}
        self.wired: list[Wired] = []

    def pod_changed(self, pod: Key, t_ns: int) -> None:
        """A pod's listeners or its sandbox changed at `t_ns`."""
        self.index.pod_changed(pod, t_ns)

    def set_rate(self, wired: Wired, rate_rps: float, t_ns: int) -> None:
        """Let a stream have a mean rate from `t_ns` on, or when its caller is up again."""
        wired.wished_rps = rate_rps
        if not wired.caller_down:
            self._engine.set_rate(wired.entry.index, rate_rps, t_ns)

    def stand_still(self, wired: Wired, still: bool, t_ns: int) -> None:
        """A client sends nothing from `t_ns` on, or again."""
        if wired.caller_down != still:
            wired.caller_down = still
            self._engine.set_rate(wired.entry.index, 0.0 if still else wired.wished_rps, t_ns)

    def client_gone(self, wired: Wired, t_ns: int) -> None:
        """A client's process is gone at `t_ns`, and its requests in hand with it."""
        engine_until(self._engine, t_ns)
        self._engine.end_client(wired.entry.index, t_ns)
        self.stand_still(wired, True, t_ns)

    def client_comes(self, wired: Wired, home: Home, t_ns: int) -> str:
        """A client's process runs, from `t_ns` on, where `home` says; return what is to be said of it besides."""
        engine_until(self._engine, t_ns)
        before, remark = wired.homes[-1], ""
        wired.homes.append(home)
        if (before.pod, before.address, before.node) != (home.pod, home.address, home.node):
            wired.entry = replace(wired.entry, client=home.address, client_pod=home.pod)
            place = self.index.place(home.node)
            wired.stream = replace(wired.stream, place=place, client=home.address, names=0)
            wired.dns = None
            here = wired.entries.get(home.node)
            if here is not None:
                here.entry = wired.entry
                self.compiler.refresh(here, max(t_ns, self._engine.now_ns))
            if wired.entry.source is not None and wired.entry.source.lookups:
                try:
                    self._asks_dns(wired, t_ns)
                except KflabError as error:
                    remark = f"; it asks no DNS any more: {error}"
            self.complete(wired, t_ns)
        self.stand_still(wired, False, t_ns)
        return remark

    def node_changed(self, node: str, t_ns: int) -> None:
        """Packets reach a node no more, or again, from `t_ns` on."""
        self._engine.cut(self.index.place(node), not self._plane.core.reachable(node), t_ns)

    def add(self, entry: Entry, t_ns: int = 0) -> Wired:
        """Wire one kind of request, sent from `t_ns` on."""
        engine_until(self._engine, t_ns)
        source = entry.source
        destination = self.dialling.dialled(entry)
        pinned: tuple[tuple[int, int, int], ...] = ()
        if source and source.first_client_port is not None:
            pinned = ((0, source.first_client_port, source.first_upstream_port or 0),)
        pod = self._store.get(entry.client_pod) if entry.client_pod is not None else None
        homes = [self.clients.home_of(pod, t_ns)] if isinstance(pod, Pod) else []
        place = self.index.place(homes[0].node) if homes else -1
        down = bool(homes) and not self.clients.runs(homes[0])
        stream = Stream(
            index=entry.index,
            kind="l7" if entry.kind == "l7" else ("pod" if entry.kind == "pod" else "l4"),
            rate_rps=0.0 if down else entry.rate_rps,
            place=place,
            tries=3 if entry.kind == "l7" else 1,
            idempotent=entry.method in IDEMPOTENT,
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
        name = f"{entry.identity} {same}"
        wired = Wired(entry, stream, wished_rps=entry.rate_rps, caller_down=down, homes=homes, name=name)
        self.wired.append(wired)
        if homes:
            self.clients.add(wired)
        if entry.kind != "pod":
            wired.lb = self._chooser("lb", front_band(entry), "", (observer_name(entry.balancer),), entry)
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
        destination = self.dialling.dialled(entry)
        stream = Stream(entry.index, "call", 0.0, tries=1, destination=destination, parent=outer.stream.index,
                        address=address)  # fmt: skip
        wired = Wired(entry, stream, name=name)
        self.wired.append(wired)
        self.complete(wired, t_ns)
        return wired

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
        profile = self.dialling.profile_of(entry)
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
            keepalive = keepalive or self.configs.keeps_connections(pod, t_ns)
            self._limit_pools(wired, pod, t_ns)
        streams = self._engine.streams
        rate = streams[old.index].rate_rps if old.index < len(streams) else old.rate_rps
        wired.stream = replace(
            old, rate_rps=rate, lb=wired.lb.index if wired.lb else -1,
            entries=tuple((self.index.place(node), chooser.index) for node, chooser in wired.entries.items()),
            upstreams=tuple(upstreams), keepalive=keepalive, calls=wired.calls,
            dns=((old.place, wired.dns.index),) if wired.dns else (),
            no_route=entry.kind == "l7" and self._is_404(wired, t_ns),
        )  # fmt: skip
        wired.stream = self._proxied(self._fronted(wired.stream, entry, t_ns), wired, t_ns)
        known = self._engine.streams
        if wired.stream.index == len(known):
            self._engine.add_stream(wired.stream)
        elif known[wired.stream.index] != wired.stream:
            engine_until(self._engine, t_ns)
            self._engine.replace_stream(wired.stream)

    def _limit_pools(self, wired: Wired, pod: Key, t_ns: int) -> None:
        """Let an ingress pod keep such connections as its ConfigMap says from `t_ns` on."""
        pools = self._engine.memory.pools
        limits = self.configs.pool_limits(pod, t_ns, pools.usual)
        for index in self._ingress_servers(wired, pod):
            if pools.limits_of(index) != limits:
                engine_until(self._engine, t_ns)
                self._engine.limit_pool(index, limits)

    def _fronted(self, stream: Stream, entry: Entry, t_ns: int) -> Stream:
        """A stream as an Application Load Balancer treats it, if it passes one."""
        one = self._plane.albs.get(entry.alb) if entry.alb is not None else None
        if one is None:
            return replace(stream, http_front=False, front_answer=0, connect_timeout_ns=0, read_timeout_ns=0)
        model = one.at(t_ns)
        found = route(model, entry.listener, entry.scheme, entry.host, entry.path)
        return replace(
            stream,
            http_front=True,
            front_answer=found.status if found.kind == "answer" else 0,
            connect_timeout_ns=self._engine.timing.alb_connect_timeout_ns,
            read_timeout_ns=round(model.idle_s * 1e9),
        )

    def _proxied(self, stream: Stream, wired: Wired, t_ns: int) -> Stream:
        """A stream as the NGINX treats it that it passes: of several pods as the first that is configured."""
        entry = wired.entry
        for chooser in wired.upstreams.values():
            config = self.configs.at(chooser.observers[0], t_ns)
            if config is not None:
                found = nginx_route(config, entry.scheme, entry.host, entry.path).proxying
                return replace(
                    stream,
                    tries=found.tries,
                    idempotent=entry.method in IDEMPOTENT or found.non_idempotent,
                    connect_timeout_ns=(found.connect_s or 0) * 1_000_000_000,
                    read_timeout_ns=(found.read_s or 0) * 1_000_000_000,
                )
        return stream

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
                chooser.band, observers = front_band(entry), (observer_name(entry.balancer),)
            else:
                chooser.band = f"service/{entry.service.namespace}/{entry.service.name}:{entry.port.port}"
                chooser.service, chooser.service_port = entry.service, entry.port.port
                observers = (self._entry_observer(entry, chooser.place),)
            self._watch(chooser, observers)
            self.compiler.refresh(chooser, max(t_ns, self._engine.now_ns))

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
        return [self.index.server(ip, port, "TCP", pod) for ip in (runtime.ips if runtime else obj.status.pod_ips)]

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
        self.compiler.refresh(chooser, max(t_ns, self._engine.now_ns))
        return chooser

    def observer_learned(self, name: str, t_ns: int) -> None:
        """An observer's rules changed at `t_ns`: give its choosers a new version where candidates changed."""
        if name.startswith("lb/"):
            self._who_decides(name)
        for index in self._by_observer.get(name, ()):
            self.compiler.refresh(self.choosers[index], t_ns)
            self._udp.synced(self.choosers[index], self.wired[self.choosers[index].entry.index].stream, t_ns)
        if name.startswith("ingress/"):
            for wired in self.wired:
                if any(name in chooser.observers for chooser in wired.upstreams.values()):
                    self._hand_over(wired, t_ns)
                    self.inner.wire(wired, t_ns)
        self.inner.settle(t_ns)

    def observers_learned(self, wave: Wave) -> None:
        """As `observer_learned`, for kube-proxies that synced one after another."""
        self.inner.settle(int(wave.t_ns[0]))
        for fact in wave.of(self._by_observer):
            self.observer_learned(fact.by, fact.t_ns)

    def _who_decides(self, balancer: str) -> None:
        """Behind a load balancer the nodes' rules choose endpoints, or with IP targets it does so itself."""
        for wired in self.wired:
            if wired.lb is None or balancer not in wired.lb.observers:
                continue
            for node, chooser in wired.entries.items():
                self._watch(chooser, (self._entry_observer(wired.entry, node),))

    def topology_changed(self, t_ns: int) -> None:
        """Nodes or ingress pods came or went at `t_ns`: wire what is new."""
        for wired in tuple(self.wired):
            self.complete(wired, t_ns)

    def forget_before(self, t_ns: int) -> None:
        """Drop candidates that were replaced before `t_ns`."""
        for chooser in self.choosers:
            i = bisect_right(chooser.past, t_ns, key=lambda entry: entry[0])
            del chooser.past[: max(0, i - 1)]
        for wired in self.wired:
            i = bisect_right(wired.homes, t_ns, key=lambda home: home.from_ns)
            del wired.homes[: max(0, i - 1)]
        self.compiler.affinity.forget_before(t_ns)
        self.compiler.turns.forget_before(t_ns)

    def _is_404(self, wired: Wired, t_ns: int) -> bool:
        """Whether the controller has no rule for this stream's host and path."""
        for chooser in wired.upstreams.values():
            config = self.configs.at(chooser.observers[0], t_ns)
            if config is not None:
                found = nginx_route(config, wired.entry.scheme, wired.entry.host, wired.entry.path)
                return found.kind == "answer" and found.status == 404
        return True

    def fronts(self) -> list[int]:
        """Indices of the streams that are no calls: what users send, and pods of their own accord."""
        return [wired.entry.index for wired in self.wired if wired.entry.kind != "call"]

    def callers_of(self, services: Iterable[Key]) -> frozenset[str]:
        """Names of the observers by whose rules traffic reaches any of these Services."""
        wanted = set(services)
        names: set[str] = set()
        for chooser in self.choosers:
            if chooser.service not in wanted or not self.reached(chooser):
                continue
            if chooser.kind == "upstream":
                names.add(chooser.observers[0 if chooser.by_peer else 1])
            elif chooser.kind in ("entry", "dns"):
                names.add(chooser.observers[0])
        return frozenset(names)

    def calling(self) -> frozenset[str]:
        """Names of all observers by whose rules traffic flows."""
        return self.callers_of({chooser.service for chooser in self.choosers if chooser.service})

    def reached(self, chooser: Chooser) -> bool:
        """Whether the load balancer (or the caller's place) lets traffic come to this chooser at all."""
        wired = self.wired[chooser.entry.index]
        if chooser.entry.kind == "pod" and chooser.kind in ("entry", "dns"):
            return chooser is wired.dns or wired.entries.get(wired.homes[-1].node if wired.homes else "") is chooser
        if chooser.kind != "entry" or chooser.entry.inside:
            return True
        return wired.lb is None or wired.lb.fan is None or self.index.place(chooser.place) in wired.lb.fan.candidates
