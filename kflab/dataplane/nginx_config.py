"""ingress-nginx's configuration: servers, locations and upstreams made of the objects a controller knows.

Profile: ingress-nginx v1.15.1. Sources: kubernetes/ingress-nginx internal/ingress/controller/controller.go
(getBackendServers, createUpstreams, createServers, serviceEndpoints, getServiceClusterEndpoint), endpointslices.go,
controller/store (class filter), annotations documentation; Kubernetes documentation, Ingress.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from kflab.dataplane.addresses import canonical
from kflab.dataplane.nginx_choice import CanaryRule, canary_rule
from kflab.dataplane.nginx_keepalive import Keepalive, keepalive_of
from kflab.dataplane.nginx_proxying import USUAL, Proxying
from kflab.dataplane.packets import join_host_port
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_config import ConfigMap
from kflab.manifest.objects_network import EndpointSlice, Ingress, IngressBackend, IngressClass, Service, ServicePort
from kflab.records import dataclass

PREFIX: Final = "nginx.ingress.kubernetes.io/"
CONTROLLER: Final = "k8s.io/ingress-nginx"
CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"


ROUND_ROBIN: Final = "round_robin"
EWMA: Final = "ewma"
"""Values of load-balance: ConfigMap key, and annotation (rootfs/etc/nginx/lua/balancer.lua, IMPLEMENTATIONS)."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One peer NGINX may connect to."""

    address: str
    port: int
    target: Key | None = None
    """Pod behind it; None for a ClusterIP."""

    @property
    def text(self) -> str:
        return join_host_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a location sends requests."""

    service: Key
    port: int
    """Number of the Service port; 0 where the Service or the port does not exist."""
    upstreams: tuple[Upstream, ...] = ()
    """In order of address; () answers 503."""
    service_upstream: bool = False
    """The only upstream is the ClusterIP (annotation service-upstream)."""
    problem: str = ""
    """Why there is no upstream."""
    balancing: str = ROUND_ROBIN
    """How a peer is picked where nothing sticks a request to one: `ROUND_ROBIN` or `EWMA`."""

    @property
    def name(self) -> str:
        """namespace-service-port, as ingress-nginx names its upstreams."""
        return f"{self.service.namespace}-{self.service.name}-{self.port}"


@dataclass(frozen=True, slots=True)
class Canary:
    """A second backend of a location, by a canary Ingress."""

    rule: CanaryRule
    backend: Backend
    ingress: Key


@dataclass(frozen=True, slots=True)
class Location:
    """One path of a server."""

    path: str
    path_type: str
    backend: Backend | None
    """None: 404 of the controller's own default backend."""
    ingress: Key | None = None
    default: bool = False
    """The `/` every server has; a rule for it takes its place."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    canary: Canary | None = None

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean annotation; what is not a boolean counts as absent (parser.go)."""
        text = self.annotations.get(PREFIX + name, "").strip().lower()
        return default if text not in {"true", "false", "1", "0", "t", "f"} else text in {"true", "1", "t"}

    def text(self, name: str) -> str:
        """An annotation's text, "" without it."""
        return self.annotations.get(PREFIX + name, "").strip()


@dataclass(frozen=True, slots=True)
class Server:
    """One host with its locations."""

    host: str
    locations: tuple[Location, ...]
    tls: bool = False
    """An Ingress with a tls section defines it."""
    tls_secret: str = ""
    """namespace/name of its certificate, "" for the controller's default one."""

    @property
    def patterns(self) -> bool:
        """Whether its paths are regular expressions (use-regex, or a rewrite-target, on any of its Ingresses)."""
        return any(
            location.flag("use-regex") or location.text("rewrite-target") not in {"", location.path}
            for location in self.locations
        )


@dataclass(frozen=True, slots=True)
class IngressConfig:
    """What one ingress-nginx controller has made of the objects it knows."""

    servers: Mapping[str, Server]
    """By host; "_" is the server of unknown hosts."""
    keepalive: Keepalive = Keepalive()
    """Which upstream connections are kept."""
    ingresses: tuple[Key, ...] = ()
    """Served, in order of age."""
    proxying: Proxying = USUAL
    """Of the ConfigMap; annotations of an Ingress go before it."""
    balancing: str = ""
    """load-balance of the ConfigMap; "" without it."""

    @classmethod
    def build(
        cls,
        ingresses: Iterable[Ingress],
        classes: Iterable[IngressClass],
        services: Iterable[Service],
        slices: Iterable[EndpointSlice],
        config_map: ConfigMap | None = None,
        secrets: Iterable[Key] | None = None,
        *,
        controller: str = CONTROLLER,
        class_name: str = "nginx",
        without_class: bool = False,
    ) -> "IngressConfig":
        """Make the configuration.

        Args:
            ingresses: All Ingresses the controller sees, of any class.
            classes: All IngressClasses.
            services: Services.
            slices: EndpointSlices.
            config_map: The controller's ConfigMap.
            secrets: Keys of existing Secrets; None takes every Secret that is named as existing.
            controller: --controller-class.
            class_name: --ingress-class, compared with the old annotation.
            without_class: --watch-ingress-without-class.
        """
        known_classes = tuple(classes)
        served = sorted(
            (ingress for ingress in ingresses if serves(ingress, known_classes, controller, class_name, without_class)),
            key=lambda ingress: (ingress.meta.creation_ns, ingress.meta.namespace, ingress.meta.name),
        )
        backends = _Backends(services, slices)
        maker = _Maker(backends, None if secrets is None else frozenset(secrets), _text(config_map, "load-balance"))
        maker.add(served)
        return cls(
            servers=maker.servers(),
            keepalive=keepalive_of(config_map.data if config_map is not None else {}),
            ingresses=tuple(ingress.key for ingress in served),
            proxying=_proxying(config_map),
            balancing=_text(config_map, "load-balance"),
        )


def config_of(objects: Iterable[KubeObject], config_map: ConfigMap | None = None) -> IngressConfig:
    """The configuration a controller with default settings makes of a set of objects."""
    everything = tuple(objects)
    return IngressConfig.build(
        (item for item in everything if isinstance(item, Ingress)),
        (item for item in everything if isinstance(item, IngressClass)),
        (item for item in everything if isinstance(item, Service)),
        (item for item in everything if isinstance(item, EndpointSlice)),
        config_map,
        (item.key for item in everything if item.kind == "Secret"),
    )


def serves(
    ingress: Ingress,
    classes: Sequence[IngressClass],
    controller: str = CONTROLLER,
    class_name: str = "nginx",
    without_class: bool = False,
) -> bool:
    """Whether a controller serves an Ingress (controller/store, ingressclass; documentation, Ingress class)."""
    if ingress.ingress_class:
        return any(item.meta.name == ingress.ingress_class and item.controller == controller for item in classes)
    annotation = ingress.meta.annotations.get(CLASS_ANNOTATION)
    if annotation is not None:
        return annotation == class_name
    if any(item.default and item.controller == controller for item in classes):
        return True
    return without_class


def _text(config_map: ConfigMap | None, key: str) -> str:
    return (config_map.data.get(key, "") if config_map else "").strip()


def _proxying(config_map: ConfigMap | None) -> Proxying:
    given = config_map.data if config_map is not None else {}
    return USUAL.under(lambda name: given.get(name, "").strip(), retry_key=True)


class _Backends:
    """Services and their ready endpoints, looked up by (namespace, name)."""

    def __init__(self, services: Iterable[Service], slices: Iterable[EndpointSlice]) -> None:
        self._services = {service.key: service for service in services}
        self._slices: dict[Key, list[EndpointSlice]] = {}
        for piece in slices:
            self._slices.setdefault(piece.service, []).append(piece)

    def resolve(self, namespace: str, given: IngressBackend, service_upstream: bool) -> Backend:
        key = Key("Service", namespace, given.service)
        service = self._services.get(key)
        if service is None:
            return Backend(key, _as_number(given.port), problem=f"Service {namespace}/{given.service} does not exist")
        port = next(
            (p for p in service.ports if given.port in (p.port, p.name) or str(p.port) == str(given.port)), None
        )
        if port is None:
            return Backend(key, 0, problem=f"Service {namespace}/{given.service} has no port {given.port}")
        if service_upstream and service.cluster_ip and not service.headless:
            only = Upstream(canonical(service.cluster_ip), port.port)
            return Backend(key, port.port, (only,), service_upstream=True)
        upstreams = self._ready(key, port)
        problem = "" if upstreams else f"Service {namespace}/{given.service} has no ready endpoint"
        return Backend(key, port.port, upstreams, problem=problem)

    def first_port(self, key: Key) -> int:
        service = self._services.get(key)
        return service.ports[0].port if service and service.ports else 0

    def _ready(self, key: Key, port: ServicePort) -> tuple[Upstream, ...]:
        """Ready endpoints only; nil is ready; no fallback to terminating ones (endpointslices.go)."""
        found: dict[str, Upstream] = {}
        for piece in self._slices.get(key, ()):
            numbers = [item.port for item in piece.ports if item.name == port.name and item.protocol == port.protocol]
            for number in numbers:
                for endpoint in piece.endpoints:
                    if number is None or not (endpoint.ready is None or endpoint.ready):
                        continue
                    for address in endpoint.addresses:
                        upstream = Upstream(canonical(address) or address, number, endpoint.target)
                        found.setdefault(upstream.text, upstream)
        return tuple(found[text] for text in sorted(found))


def _as_number(port: int | str) -> int:
    return port if isinstance(port, int) else 0


class _Maker:
    """Servers and locations, filled Ingress by Ingress, oldest first."""

    def __init__(self, backends: _Backends, secrets: frozenset[Key] | None, balancing: str) -> None:
        self._backends = backends
        self._secrets = secrets
        self._usual = balancing
        self._balancing: dict[tuple[str, str, str], str] = {}
        """(namespace, Service, port) → load-balance: of the first Ingress that names it (controller.go,
        createUpstreams)."""
        self._locations: dict[str, dict[tuple[str, str], Location]] = {}
        self._tls: dict[str, str] = {}
        self._aliases: dict[str, str] = {}

    def add(self, ingresses: Sequence[Ingress]) -> None:
        self._note_balancing(ingresses)
        self._server("_")
        main = [ingress for ingress in ingresses if not _canary(ingress)]
        for ingress in main:
            for rule in ingress.rules:
                self._server(rule.host.lower() or "_", ingress)
        for ingress in main:
            self._default_backend(ingress)
            for rule in ingress.rules:
                host = rule.host.lower() or "_"
                for path in rule.paths:
                    self._location(host, ingress, path.path or "/", path.path_type, path.backend)
                if ingress.tls:
                    self._tls.setdefault(host, "")
        for ingress in ingresses:
            if _canary(ingress):
                self._add_canary(ingress)
        for ingress in main:
            self._certificates(ingress)
            self._alias(ingress)

    def _note_balancing(self, ingresses: Sequence[Ingress]) -> None:
        for ingress in ingresses:
            own = ingress.meta.annotations.get(PREFIX + "load-balance", "").strip() or self._usual
            paths = (path.backend for rule in ingress.rules for path in rule.paths)
            for given in (ingress.default_backend, *paths):
                if given is not None:
                    self._balancing.setdefault((ingress.meta.namespace, given.service, str(given.port)), own)

    def _server(self, host: str, ingress: Ingress | None = None) -> None:
        if host in self._locations:
            return
        backend = None
        if ingress is not None and ingress.default_backend is not None and host != "_":
            backend = self._backend(ingress, ingress.default_backend)
        key = ingress.key if ingress is not None and backend is not None else None
        root = Location("/", "Prefix", backend, key, default=True)
        self._locations[host] = {("/", "Prefix"): root}

    def _backend(self, ingress: Ingress, given: IngressBackend) -> Backend | None:
        if not given.service:
            return None
        upstream = ingress.meta.annotations.get(PREFIX + "service-upstream", "").strip().lower() == "true"
        backend = self._backends.resolve(ingress.meta.namespace, given, upstream)
        if self._balancing.get((ingress.meta.namespace, given.service, str(given.port))) == EWMA:
            backend = replace(backend, balancing=EWMA)
        stand_in = ingress.meta.annotations.get(PREFIX + "default-backend", "").strip()
        if not backend.upstreams and stand_in:
            key = Key("Service", ingress.meta.namespace, stand_in)
            other = self._backends.resolve(
                ingress.meta.namespace, IngressBackend(stand_in, self._backends.first_port(key)), False
            )
            if other.upstreams:
                return other
        return backend

    def _default_backend(self, ingress: Ingress) -> None:
        """An Ingress with a default backend and no rules takes requests for hosts nobody claims."""
        if ingress.default_backend is None or ingress.rules:
            return
        root = self._locations["_"]["/", "Prefix"]
        if root.default and root.backend is None:
            backend = self._backend(ingress, ingress.default_backend)
            self._locations["_"]["/", "Prefix"] = Location("/", "Prefix", backend, ingress.key, default=True)

    def _location(self, host: str, ingress: Ingress, path: str, path_type: str, given: IngressBackend) -> None:
        kind = "Exact" if path_type == "Exact" else "Prefix"
        locations = self._locations[host]
        known = locations.get((path, kind))
        if known is not None and not known.default:
            return
        backend = self._backend(ingress, given)
        locations[path, kind] = Location(path, path_type, backend, ingress.key, False, ingress.meta.annotations)

    def _add_canary(self, ingress: Ingress) -> None:
        """A canary stands beside a main location of the same host, path and type; without one it has no effect."""
        rule = canary_rule(lambda name: ingress.meta.annotations.get(PREFIX + name, "").strip())
        for host_rule in ingress.rules:
            locations = self._locations.get(host_rule.host.lower() or "_", {})
            for path in host_rule.paths:
                key = (path.path or "/", "Exact" if path.path_type == "Exact" else "Prefix")
                main = locations.get(key)
                backend = self._backend(ingress, path.backend)
                if main is None or main.default or main.canary is not None or backend is None:
                    continue
                if backend.upstreams:
                    locations[key] = replace(main, canary=Canary(rule, backend, ingress.key))

    def _certificates(self, ingress: Ingress) -> None:
        hosts = {rule.host.lower() for rule in ingress.rules}
        for entry in ingress.tls:
            secret = Key("Secret", ingress.meta.namespace, entry.secret)
            if not entry.secret or (self._secrets is not None and secret not in self._secrets):
                continue
            for host in entry.hosts:
                name = host.lower()
                if name in hosts and not self._tls.get(name):
                    self._tls[name] = f"{secret.namespace}/{secret.name}"

    def _alias(self, ingress: Ingress) -> None:
        aliases = ingress.meta.annotations.get(PREFIX + "server-alias", "")
        for alias in (piece.strip().lower() for piece in aliases.split(",")):
            if alias and alias not in self._locations and ingress.rules:
                self._aliases.setdefault(alias, ingress.rules[0].host.lower() or "_")

    def servers(self) -> dict[str, Server]:
        made = {
            host: Server(host, tuple(locations.values()), host in self._tls, self._tls.get(host, ""))
            for host, locations in self._locations.items()
        }
        for alias, host in self._aliases.items():
            made.setdefault(alias, made[host])
        return made


def _canary(ingress: Ingress) -> bool:
    return ingress.meta.annotations.get(PREFIX + "canary", "").strip().lower() == "true"
