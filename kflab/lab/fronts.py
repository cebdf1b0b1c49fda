"""Entry points at Application Load Balancers: where a URL leads by their rules as they are now."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from kflab.cluster.store import Store
from kflab.control.alb import AlbRule
from kflab.control.albsync import Alb
from kflab.dataplane.alb import AlbRoute, host_fits, route
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Ingress, Service, ServicePort
from kflab.records import dataclass

NO_ALBS: Final[Mapping[Key, Alb]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fronted:
    """Where one URL leads at a load balancer."""

    alb: Key
    listener: int
    """Port that is dialled."""
    service: Key
    port: ServicePort
    group: Key | None
    """Target group; None where the load balancer answers itself."""
    ingress: Key | None


class Fronts:
    """All Application Load Balancers of a lab, as entry points.

    Args:
        albs: By key.
        store: For their Services.
    """

    def __init__(self, albs: Mapping[Key, Alb], store: Store) -> None:
        self._albs, self._store = albs, store

    def for_name(self, host: str) -> Alb | None:
        """The load balancer with this name or address, or with a rule for this host."""
        for one in self._albs.values():
            if host in (one.hostname, one.ip):
                return one
        for one in self._albs.values():
            if any(rule.host and host_fits(rule.host, host) for rule in one.model.rules):
                return one
        return None

    def takes(self, ingress: Ingress) -> bool:
        """Whether some load balancer has this Ingress' rules."""
        return any(ingress.key in one.model.ingresses for one in self._albs.values())

    def services(self) -> frozenset[Key]:
        """Services that rules lead to."""
        return frozenset(rule.service for one in self._albs.values() for rule in _rules(one))

    def at(self, one: Alb, listener: int, scheme: str, host: str, path: str) -> Fronted:
        """Where a request leads."""
        return self.led(one, listener, route(one.model, listener, scheme, host, path))

    def led(self, one: Alb, listener: int, found: AlbRoute) -> Fronted:
        """The same, of a route."""
        rule = found.rule
        if rule is None:
            return Fronted(one.key, listener, Key("Service", "", ""), ServicePort(listener), None, None)
        service = self._store.get(rule.service)
        ports = service.ports if isinstance(service, Service) else ()
        port = next((item for item in ports if item.port == rule.port), ServicePort(rule.port or listener))
        return Fronted(one.key, listener, rule.service, port, found.group, rule.ingress)

    def all(self) -> Iterator[tuple[str, str, str, Fronted]]:
        """(scheme, host, path, where it leads) of one request for each rule, by https where a listener speaks it."""
        for one in self._albs.values():
            listeners = sorted(one.model.listeners, key=lambda each: each[0] != "https")
            if not listeners:
                continue
            scheme, port = listeners[0]
            seen: dict[tuple[str, str], None] = {}
            for rule in _rules(one):
                host = f"www{rule.host[1:]}" if rule.host.startswith("*.") else rule.host.replace("*", "x")
                seen.setdefault((host or one.hostname, sample(rule)))
            for host, path in seen:
                yield scheme, host, path, self.at(one, port, scheme, host, path)


def _rules(one: Alb) -> tuple[AlbRule, ...]:
    model = one.model
    return (*model.rules, model.default) if model.default is not None else model.rules


def sample(rule: AlbRule) -> str:
    """A path that a rule takes."""
    return rule.path.replace("*", "").replace("?", "x") or "/"
