"""Where traffic enters: from manifests (or a scenario's clients) to kinds of request.

From outside: every Ingress host and path, every LoadBalancer and NodePort Service. From a client pod, one request a
second: every Service that nothing of that reaches.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast
from urllib.parse import urlsplit

from kflab.cluster.store import Store
from kflab.control.albsync import Alb
from kflab.errors import KflabError
from kflab.lab.controllers import Controller, Controllers
from kflab.lab.fronts import NO_ALBS, Fronted, Fronts
from kflab.lab.patience import patience_words
from kflab.lab.pods_from import pods_of
from kflab.lab.spec import ClientSpec, LabSpec
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Ingress, IngressPath, Service, ServicePort
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

OUTSIDE_CLIENT = "203.0.113.45"
"""Address of the client outside (RFC 5737, TEST-NET-3)."""

UNCALLED_RPS = 1.0
"""Rate from the client pod to a Service that nobody else calls."""

_SCHEME_PORTS = {"http": 80, "https": 443, "tcp": 80}


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of request from one kind of caller."""

    index: int
    kind: str
    """l7, l4, node, pod or call, as `engine.types.Stream`."""
    method: str
    scheme: str
    host: str
    path: str
    rate_rps: float
    service: Key
    """The Service that is dialled first: the controller's for l7."""
    port: ServicePort
    """Its port."""
    client: str = OUTSIDE_CLIENT
    client_pod: Key | None = None
    caller: Key | None = None
    """call: the workload whose pods make it while they serve requests; `client` is empty then."""
    controller: Controller | None = None
    ingress: Key | None = None
    """The Ingress whose rule made this entry, if any."""
    source: ClientSpec | None = None
    balanced: bool = True
    """l7 and l4: through a cloud load balancer; False: the client dials a node's NodePort itself."""
    node: str = ""
    """Not balanced: the node whose address or name the client's URL has; "" where any node is as likely."""
    alb: Key | None = None
    """l4: the Application Load Balancer that is dialled; its rules choose the Service."""
    group: Key | None = None
    """Its target group; None where it answers itself."""
    listener: int = 0
    """Its port that is dialled."""

    @property
    def balancer(self) -> Key:
        """Whose targets decide: the Service's load balancer, or the target group."""
        return self.group or self.service

    @property
    def label(self) -> str:
        """Who calls whom, as "frontend → cartservice:7070"; "" for what is no call."""
        return f"{self.caller.name} → {self.host}:{self.port.port}" if self.caller is not None else ""

    @property
    def inside(self) -> bool:
        """Whether it starts in a pod of the cluster."""
        return self.kind in ("pod", "call")

    @property
    def identity(self) -> tuple[str, Key, int, str, str]:
        """What tells one entry from another, whatever its address is called by now."""
        named = (self.host, self.path) if self.kind == "l7" or self.alb else ("", "")
        if self.alb is not None:  # its rules say anew which Service a path leads to
            return (self.kind, self.alb, self.listener, *named)
        return (self.kind, self.service, self.port.port, *named)

    @property
    def url(self) -> str:
        """As a person would type it."""
        number = self.listener or (self.port.port if self.balanced else self.port.node_port)
        plain = number == _SCHEME_PORTS.get(self.scheme) or (self.kind == "l7" and self.balanced)
        port = "" if plain else f":{number}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a URL asks for and who asks, wherever it leads."""

    method: str
    scheme: str
    host: str
    path: str
    rate_rps: float
    source: ClientSpec | None = None
    url: str = ""
    """As it was written, for messages."""

    def of(self, kind: str, service: Key, port: ServicePort) -> Entry:
        """The entry that it is where it leads to this Service port."""
        client = self.source.address if self.source is not None else OUTSIDE_CLIENT
        return Entry(
            0, kind, self.method, self.scheme, self.host, self.path, self.rate_rps, service, port, client,
            source=self.source,
        )  # fmt: skip


def sample_path(path: IngressPath) -> str:
    """A path that the rule matches: the path itself, or of a pattern the part before its first special character."""
    if path.path_type != "ImplementationSpecific":
        return path.path or "/"
    literal = re.match(r"[^\[\](){}.*+?|^$\\]*", path.path)
    return (literal[0] if literal else "") or "/"


def _port_for(service: Service, wanted: int, scheme: str = "") -> ServicePort | None:
    """The Service's port of a number; for a udp:// URL the UDP one."""
    protocols = ("UDP",) if scheme == "udp" else ("TCP", "UDP", "SCTP")
    return next((port for port in service.ports if port.port == wanted and port.protocol in protocols), None)


def controller_service(store: Store, controller: Controller) -> Service | None:
    """The Service through which an ingress controller is reached from outside: LoadBalancer before NodePort."""
    services = [cast(Service, store.get(key)) for key in controller.services]
    for wanted in ("LoadBalancer", "NodePort"):
        for service in services:
            if service is not None and service.type == wanted:
                return service
    return None


class Entries:
    """Finds the entries of a lab.

    Args:
        store: The settled cluster.
        spec: What the lab is made from.
        controllers: Ingress controllers.
        client_pod: The pod that calls what nobody else calls; None without one.
        called: Services that pods call while they serve requests.
        albs: Application Load Balancers.
    """

    def __init__(
        self,
        store: Store,
        spec: LabSpec,
        controllers: Controllers,
        client_pod: Key | None,
        called: Collection[Key] = (),
        albs: Mapping[Key, Alb] = NO_ALBS,
    ) -> None:
        self._called = called
        self._store = store
        self._spec = spec
        self._controllers = controllers.all()
        self._serving = controllers.serving
        self._client_pod = client_pod
        self._fronts = Fronts(albs, store)
        self.entries: list[Entry] = []
        self.uncalled: tuple[Key, ...] = ()
        self.skipped: list[str] = []
        """Why some Services get no traffic at all."""
        self._served: set[Key] = set()
        """Ingresses that requests from outside can reach."""

    def find(self) -> list[Entry]:
        """All entries, in stable order.

        Raises:
            KflabError: If a scenario's client names a URL that leads nowhere.
        """
        if self._spec.clients:
            for client in self._spec.clients:
                self._add(self.resolve(client.url, client.method, client.rate_rps, client))
            return self.entries
        if self._spec.url:
            self._add(self.resolve(self._spec.url, "GET", self._spec.rate_rps, None))
            return self.entries
        outside = [*self._of_ingresses(), *self._of_fronts(), *self._of_services()]
        for entry in outside:
            self._add(entry, self._spec.rate_rps / len(outside))
        self._of_uncalled()
        return self.entries

    def _add(self, entry: Entry, rate: float | None = None) -> None:
        rate = entry.rate_rps if rate is None else rate
        self.entries.append(replace(entry, index=len(self.entries), rate_rps=rate))

    # --- one URL --------------------------------------------------------------------------------------------

    def resolve(self, url: str, method: str, rate_rps: float, client: ClientSpec | None) -> Entry:
        """Find out what a URL from outside leads to.

        Raises:
            KflabError: If it leads to nothing in this cluster.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
        except ValueError as error:
            raise KflabError(f"{url!r} is not a URL: {error}") from None
        scheme, host, path = parts.scheme or "http", parts.hostname or "", parts.path or "/"
        if parts.query:
            path += f"?{parts.query}"
        try:
            port = parts.port or _SCHEME_PORTS.get(scheme, 80)
        except ValueError:
            raise KflabError(f"the port of {url!r} must be from 0 to 65535") from None
        asked = Asked(method, scheme, host, path, rate_rps, client, url)
        if client is not None and client.from_pod:
            return self._from_pod(client, asked, port)
        pinned = self._spec.pins.public_names.get(host)
        if pinned:
            namespace, _, name = pinned.partition("/")
            return self._to_service(Key("Service", namespace, name), port, asked)
        front = self._fronts.for_name(host)
        if front is not None:
            if port not in {number for _, number in front.model.listeners}:
                has = ", ".join(f"{number} ({protocol})" for protocol, number in front.model.listeners)
                raise KflabError(f"{url!r}: {front.key.name} has no listener on port {port}; it has {has}")
            return self._at_front(self._fronts.at(front, port, scheme, host, path), asked)
        ingress = self._ingress_for(host)
        if ingress is not None:
            controller = self._controller_of(ingress)
            service = controller_service(self._store, controller) if controller else None
            if service is not None:
                if service.type == "NodePort":
                    return self._to_node_port(service, port, asked)
                return self._to_service(service.key, port, asked)
        for obj in self._store.of_kind("Service"):
            service = cast(Service, obj)
            if any(host in (entry.ip, entry.hostname) for entry in service.load_balancer):
                return self._to_service(service.key, port, asked)
        node = next(
            (n for n in self._store.of_kind("Node") if host in (*cast(Node, n).internal_ips, n.meta.name)), None
        )
        if node is not None:
            for obj in self._store.of_kind("Service"):
                service = cast(Service, obj)
                for candidate in service.ports:
                    if candidate.node_port == port:
                        entry = self._entry(service, candidate, asked)
                        return replace(entry, balanced=False, node=node.meta.name)
        raise KflabError(f"{url!r} leads to nothing in this cluster: no Ingress host, load balancer or NodePort has it")

    def _from_pod(self, client: ClientSpec, asked: Asked, port: int) -> Entry:
        """A client that runs in the cluster: "namespace/pod", or "namespace/Kind/name" for a pod of a workload."""
        pod = self._caller(client.from_pod)
        labels = asked.host.split(".")
        namespace = labels[1] if len(labels) > 1 else pod.meta.namespace
        named = self._store.get(Key("Service", namespace, labels[0]))
        for obj in self._store.of_kind("Service"):
            if asked.host and asked.host in cast(Service, obj).cluster_ips:
                named = obj
        if not isinstance(named, Service):
            raise KflabError(
                f"{asked.url!r} from {client.from_pod} leads to nothing: no Service {namespace}/{labels[0]}"
            )
        found = _port_for(named, port, asked.scheme)
        if found is None:
            has = ", ".join(f"{item.port}/{item.protocol}" for item in named.ports)
            udp = "UDP " if asked.scheme == "udp" else ""
            raise KflabError(
                f"{asked.url!r}: Service {namespace}/{named.meta.name} has no {udp}port {port}; it has {has}"
            )
        return replace(asked.of("pod", named.key, found), client=pod.ip, client_pod=pod.key)

    def _caller(self, text: str) -> Pod:
        for pod in pods_of(self._store, text):
            return pod
        raise KflabError(f"client from {text!r}: no such pod; expected NAMESPACE/POD or NAMESPACE/KIND/NAME")

    def _to_service(self, key: Key, port: int, asked: Asked) -> Entry:
        service = self._store.get(key)
        if not isinstance(service, Service):
            raise KflabError(f"{asked.url!r} leads to Service {key.namespace}/{key.name}, which does not exist")
        found = _port_for(service, port) or (service.ports[0] if asked.scheme == "tcp" and service.ports else None)
        if found is None:
            has = ", ".join(str(item.port) for item in service.ports)
            raise KflabError(f"{asked.url!r}: Service {key.namespace}/{key.name} has no port {port}; it has {has}")
        return self._entry(service, found, asked)

    def _to_node_port(self, service: Service, port: int, asked: Asked) -> Entry:
        """A host name that leads to nodes: the port is a NodePort, or the Service's port that stands for it."""
        found = next((item for item in service.ports if port in (item.node_port, item.port)), None)
        if found is None:
            has = ", ".join(str(item.node_port) for item in service.ports)
            name = f"{service.meta.namespace}/{service.meta.name}"
            raise KflabError(f"{asked.url!r}: Service {name} has no NodePort {port}; it has {has}")
        return self._entry(service, found, asked)

    def _entry(self, service: Service, port: ServicePort, asked: Asked) -> Entry:
        controller = next((c for c in self._controllers if service.key in c.services), None)
        kind = "l7" if controller is not None and asked.scheme in ("http", "https") else "l4"
        ingress = self._ingress_for(asked.host) if kind == "l7" else None
        return replace(
            asked.of(kind, service.key, port), controller=controller if kind == "l7" else None,
            ingress=ingress.key if ingress else None, balanced=service.type == "LoadBalancer",
        )  # fmt: skip

    @staticmethod
    def _at_front(found: Fronted, asked: Asked) -> Entry:
        return replace(
            asked.of("l4", found.service, found.port), ingress=found.ingress, alb=found.alb, group=found.group,
            listener=found.listener,
        )  # fmt: skip

    def _of_fronts(self) -> list[Entry]:
        return [
            self._at_front(found, Asked("GET", scheme, host, path, 0.0))
            for scheme, host, path, found in self._fronts.all()
        ]

    def _ingress_for(self, host: str) -> Ingress | None:
        for obj in self._store.of_kind("Ingress"):
            ingress = cast(Ingress, obj)
            for rule in ingress.rules:
                if rule.host == host or (rule.host.startswith("*.") and host.partition(".")[2] == rule.host[2:]):
                    return ingress
        return None

    def _controller_of(self, ingress: Ingress) -> Controller | None:
        return self._serving(ingress)

    # --- everything there is --------------------------------------------------------------------------------

    def _of_ingresses(self) -> list[Entry]:
        found: dict[tuple[str, str, str], Entry] = {}
        for obj in self._store.of_kind("Ingress"):
            ingress = cast(Ingress, obj)
            name = f"Ingress {ingress.meta.namespace}/{ingress.meta.name}"
            if self._fronts.takes(ingress):
                self._served.add(ingress.key)
                continue
            controller = self._controller_of(ingress)
            service = controller_service(self._store, controller) if controller else None
            if controller is None:
                self.skipped.append(f"{name}: no controller serves it")
                continue
            if service is None:
                key = controller.key
                self.skipped.append(
                    f"{name}: no LoadBalancer or NodePort Service leads to its controller {key.namespace}/{key.name}, "
                    "so nothing is sent to it from outside (host ports are not modelled)"
                )
                continue
            self._served.add(ingress.key)
            tls_hosts = {host for tls in ingress.tls for host in tls.hosts}
            pairs = [(rule.host, sample_path(path)) for rule in ingress.rules for path in rule.paths]
            pairs += [(rule.host, "/") for rule in ingress.rules if not rule.paths]
            if not ingress.rules and ingress.default_backend:
                pairs.append(("", "/"))
            for host, path in pairs:
                shown = f"www{host[1:]}" if host.startswith("*.") else host
                secure = host in tls_hosts or any(tls.hosts == () for tls in ingress.tls)
                scheme = "https" if secure else "http"
                port = _port_for(service, 443 if secure else 80) or (service.ports[0] if service.ports else None)
                if port is None:
                    continue
                if not shown and service.type == "LoadBalancer" and not service.load_balancer:
                    continue  # reached by the load balancer's own name, once the cloud has made it
                address = shown or next((entry.ip or entry.hostname for entry in service.load_balancer), "")
                address = address or self._a_node()
                found.setdefault(
                    (scheme, address, path),
                    Entry(
                        0, "l7", "GET", scheme, address, path, 0.0, service.key, port,
                        controller=controller, ingress=ingress.key, balanced=service.type == "LoadBalancer",
                    ),
                )  # fmt: skip
        return list(found.values())

    def _of_services(self) -> list[Entry]:
        of_controllers = {key for controller in self._controllers for key in controller.services}
        fronted = self._fronts.services()
        found = []
        for obj in self._store.of_kind("Service"):
            service = cast(Service, obj)
            if service.key in of_controllers or service.type not in ("LoadBalancer", "NodePort") or service.headless:
                continue
            for port in service.ports[:1]:
                balanced = service.type == "LoadBalancer"
                if balanced and not service.load_balancer:
                    continue  # the cloud has not made it yet
                if not balanced and service.key in fronted:
                    continue  # its NodePort is there for the load balancer
                host = next((entry.ip or entry.hostname for entry in service.load_balancer), service.meta.name)
                if not balanced:
                    host = self._a_node()
                scheme = "http" if port.protocol == "TCP" else port.protocol.lower()
                found.append(Entry(0, "l4", "GET", scheme, host, "/", 0.0, service.key, port, balanced=balanced))
        return found

    def _a_node(self) -> str:
        """An address by which NodePorts are dialled; which node a request goes to is the client's draw."""
        return next((ip for n in self._store.of_kind("Node") for ip in cast(Node, n).internal_ips), "node")

    def _of_uncalled(self) -> None:
        reached = {entry.service for entry in self.entries} | set(self._called)
        for obj in self._store.of_kind("Ingress"):
            ingress = cast(Ingress, obj)
            if ingress.key not in self._served:
                continue
            backends = [path.backend for rule in ingress.rules for path in rule.paths]
            backends += [ingress.default_backend] if ingress.default_backend else []
            reached |= {Key("Service", ingress.meta.namespace, backend.service) for backend in backends}
        for controller in self._controllers:
            reached |= set(controller.services)
            if not any(entry.controller == controller for entry in self.entries):
                name = f"{controller.key.namespace}/{controller.key.name}"
                self.skipped.append(f"ingress controller {name} has no Ingress to serve: nothing is sent to it")
        uncalled = []
        caller = self._client_address()
        for obj in self._store.of_kind("Service"):
            service = cast(Service, obj)
            if service.key in reached or service.place is None:  # made by the lab, not in these manifests
                continue
            if service.type == "LoadBalancer":
                continue  # called from outside as soon as the cloud has made it
            if service.type == "ExternalName":
                self.skipped.append(f"Service {service.meta.namespace}/{service.meta.name}: an ExternalName, outside")
                continue
            if service.headless or not service.cluster_ip or not service.ports:
                name = f"{service.meta.namespace}/{service.meta.name}"
                self.skipped.append(f"Service {name}: headless, no address that rules are made for")
                continue
            uncalled.append(service.key)
            if not caller:
                continue  # the client pod has not started yet
            port = service.ports[0]
            scheme = "http" if port.protocol == "TCP" else port.protocol.lower()
            host = f"{service.meta.name}.{service.meta.namespace}"
            self._add(
                Entry(
                    0, "pod", "GET", scheme, host, "/", UNCALLED_RPS, service.key, port, client=caller,
                    client_pod=self._client_pod,
                )
            )  # fmt: skip
        self.uncalled = tuple(uncalled)

    def _client_address(self) -> str:
        pod = self._store.get(self._client_pod) if self._client_pod else None
        return pod.ip if isinstance(pod, Pod) else ""


def describe_traffic(entries: Sequence[Entry], uncalled: Sequence[Key]) -> list[str]:
    """What sends requests where, one line each, for reports and the status of an opened file."""
    lines = [
        f"{entry.rate_rps:,.0f} requests/s from {entry.client} to {entry.url}" for entry in entries if not entry.inside
    ]
    lines += [
        f"client {entry.source.name}: {patience_words(entry.source)}" for entry in entries
        if entry.source is not None and patience_words(entry.source)
    ]  # fmt: skip
    edges = {(entry.caller, entry.service, entry.port.port) for entry in entries if entry.kind == "call"}
    if edges:
        callers, services = {edge[0] for edge in edges}, {edge[1] for edge in edges}
        who = "1 workload calls" if len(callers) == 1 else f"{len(callers)} workloads call"
        what = "1 Service" if len(services) == 1 else f"{len(services)} Services"
        lines.append(f"{who} {what} for the requests they serve (:assumptions says which)")
    if uncalled:
        n = len(uncalled)
        what = "1 Service has" if n == 1 else f"{n} Services have"
        lines.append(f"{what} no caller in these manifests: 1 request/s each from a client pod")
    return lines
