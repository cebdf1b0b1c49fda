"""AWS Application Load Balancers: what the AWS Load Balancer Controller makes of Ingresses.

One ALB for each group of Ingresses (an Ingress without a group is its own), one target group for each Ingress, Service
and port. Sources: kubernetes-sigs/aws-load-balancer-controller pkg/ingress/group_loader.go, model_build_listener.go
(listeners), model_build_listener_rules.go (rules, in order), model_build_target_group.go (target groups),
model_build_actions.go, enhanced_backend_builder.go (a missing Service answers 503); docs/guide/ingress/annotations.md.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from kflab.control import lbprofiles as lb
from kflab.control.ingressclass import class_of
from kflab.control.lbchoice import ended_flows, pairs
from kflab.control.lbprofiles import LbProfile
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Ingress, IngressBackend, IngressClass, IngressPath, Service, ServicePort
from kflab.records import dataclass

CONTROLLER: Final = "ingress.k8s.aws/alb"
"""spec.controller of an IngressClass of the AWS Load Balancer Controller."""

CLASS_NAME: Final = "alb"
"""Name of the IngressClass that its chart installs, and what the old annotation says."""

_PREFIX: Final = "alb.ingress.kubernetes.io/"

USE_ANNOTATION: Final = "use-annotation"
"""Backend port that stands for an action in an annotation of the Ingress."""

FIRST_ORDER: Final = {"Exact": 0, "Prefix": 1}
"""Rules of a host: exact paths, then prefixes, longest first, then the others as written (sortIngressPaths)."""

Services = Callable[[Key], Service | None]


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Targets of one Service port, as the TargetGroupBinding of this name has them."""

    key: Key
    """The TargetGroupBinding."""
    service: Key
    port: int
    """Number of the Service's port."""
    profile: LbProfile


@dataclass(frozen=True, slots=True)
class AlbRule:
    """One rule of every listener, by priority."""

    ingress: Key
    host: str
    """Host condition; "" for any. `*` stands for any characters."""
    path: str
    path_type: str
    """As the Ingress has them; "" and "" for its default backend."""
    patterns: tuple[str, ...]
    """Path conditions; () for any. `*` stands for any characters, `?` for one."""
    service: Key
    port: int
    group: Key | None
    """Target group that it forwards to; None: the Service does not exist, and the rule answers 503 itself."""


@dataclass(frozen=True, slots=True)
class AlbModel:
    """One Application Load Balancer as the controller wants it."""

    key: Key
    """Key("LoadBalancer", "", its AWS name)."""
    ingresses: tuple[Key, ...]
    listeners: tuple[tuple[str, int], ...]
    """("http" or "https", port)."""
    rules: tuple[AlbRule, ...]
    default: AlbRule | None
    """What takes a request that no rule fits; None: it is answered 404."""
    groups: tuple[TargetGroup, ...]
    ssl_redirect: int = 0
    """Port that every http listener redirects to; 0 for none."""
    idle_s: float = 60.0
    """idle_timeout.timeout_seconds (AWS docs, ALB attributes: 60 s)."""
    internal: bool = True
    """Its scheme; internet-facing only where an Ingress asks for it."""
    problem: str = ""
    """Why the controller cannot build it: then there is none."""


@dataclass(frozen=True, slots=True)
class AlbReading:
    """All Application Load Balancers of a cluster, and what of their Ingresses is not modelled."""

    models: tuple[AlbModel, ...]
    left_out: tuple[str, ...]


def is_alb(ingress: Ingress, classes: Iterable[IngressClass]) -> bool:
    """Whether the AWS Load Balancer Controller takes an Ingress.

    A class that no IngressClass object describes goes by its name, as the controller's chart names it.
    """
    name, annotated = class_of(ingress)
    if annotated:
        return name == CLASS_NAME
    known = list(classes)
    if name:
        named = next((each for each in known if each.meta.name == name), None)
        return named.controller == CONTROLLER if named is not None else name == CLASS_NAME
    return any(each.default and each.controller == CONTROLLER for each in known)


def read(ingresses: Iterable[Ingress], classes: Iterable[IngressClass], services: Services) -> AlbReading:
    """Make the load balancers of a cluster's Ingresses.

    Args:
        ingresses: All of them.
        classes: All IngressClasses.
        services: Looks a Service up.
    """
    known = list(classes)
    members: dict[tuple[str, str], list[Ingress]] = {}
    for ingress in ingresses:
        if is_alb(ingress, known):
            group = _text(ingress.meta.annotations, "group.name")
            where = ("", group) if group else (ingress.meta.namespace, ingress.meta.name)
            members.setdefault(where, []).append(ingress)
    left_out: list[str] = []
    models = []
    for (namespace, name), group_of in members.items():
        group_of.sort(key=lambda each: (_whole(each.meta.annotations, "group.order", 0), *_name(each.key)))
        models.append(_Builder(namespace, name, group_of, services, left_out).build())
    return AlbReading(tuple(models), tuple(left_out))


class _Builder:
    """Builds one load balancer."""

    def __init__(
        self, namespace: str, name: str, ingresses: list[Ingress], services: Services, left_out: list[str]
    ) -> None:
        self.namespace, self.name, self.ingresses = namespace, name, ingresses
        self.services, self.left_out = services, left_out
        self.groups: dict[Key, TargetGroup] = {}
        self.problem = ""

    def build(self) -> AlbModel:
        rules = [rule for ingress in self.ingresses for rule in self._rules(ingress)]
        defaults = [
            rule
            for ingress in self.ingresses
            if ingress.default_backend is not None
            and (rule := self._rule(ingress, "", IngressPath("", "", ingress.default_backend))) is not None
        ]
        listeners: dict[tuple[str, int], None] = {}
        redirect, idle = 0, 60.0
        for ingress in self.ingresses:
            given = ingress.meta.annotations
            listeners.update(dict.fromkeys(self._listeners(ingress)))
            redirect = redirect or _whole(given, "ssl-redirect", 0)
            attributes = pairs(_text(given, "load-balancer-attributes"))
            idle = float(_number(attributes.get("idle_timeout.timeout_seconds", ""), int(idle)))
        return AlbModel(
            Key("LoadBalancer", "", self._aws_name()),
            tuple(ingress.key for ingress in self.ingresses),
            tuple(listeners),
            tuple(rules),
            defaults[0] if defaults else None,
            tuple(self.groups.values()),
            redirect,
            idle,
            all(_text(each.meta.annotations, "scheme") != "internet-facing" for each in self.ingresses),
            self.problem,
        )

    def _aws_name(self) -> str:
        """k8s-NAMESPACE-NAME-HASH, or k8s-GROUP-HASH (model_build_load_balancer.go, buildLoadBalancerName)."""
        for ingress in self.ingresses:
            given = _text(ingress.meta.annotations, "load-balancer-name")
            if given:
                return given
        digest = _hash(self.namespace, self.name)
        if not self.namespace:
            return f"k8s-{_short(self.name, 17)}-{digest}"
        return f"k8s-{_short(self.namespace, 8)}-{_short(self.name, 8)}-{digest}"

    def _listeners(self, ingress: Ingress) -> list[tuple[str, int]]:
        """listen-ports; else 443 with a certificate-arn, 80 without (computeIngressListenPortConfigByPort)."""
        text = _text(ingress.meta.annotations, "listen-ports")
        if not text:
            certified = bool(_text(ingress.meta.annotations, "certificate-arn"))
            return [("https", 443) if certified else ("http", 80)]
        try:
            given = json.loads(text)
            found = [(str(scheme).lower(), int(port)) for entry in given for scheme, port in entry.items()]
        except (ValueError, TypeError, AttributeError):
            found = []
        if not found or any(scheme not in ("http", "https") for scheme, _ in found):
            self._fail(ingress, f'listen-ports {text!r} is not a list like [{{"HTTP": 80}}]')
        return found

    def _rules(self, ingress: Ingress) -> list[AlbRule]:
        found = []
        for rule in ingress.rules:
            ordered = sorted(rule.paths, key=lambda path: (FIRST_ORDER.get(path.path_type, 2), _longer_first(path)))
            found += [made for path in ordered if (made := self._rule(ingress, rule.host, path)) is not None]
        return found

    def _rule(self, ingress: Ingress, host: str, path: IngressPath) -> AlbRule | None:
        backend, where = path.backend, f"Ingress {'/'.join(_name(ingress.key))}"
        if backend.port == USE_ANNOTATION:
            said = (
                f"{where}: the action in its annotation actions.{backend.service} is not modelled, the rule is left out"
            )
            self.left_out.append(said)
            return None
        conditions = _text(ingress.meta.annotations, f"conditions.{backend.service}")
        if conditions:
            self.left_out.append(f"{where}: the further conditions of {backend.service} are not looked at")
        if path.path_type in ("Exact", "Prefix") and any(letter in path.path for letter in "*?"):
            self._fail(ingress, f"a path of type {path.path_type} must not have wildcards: {path.path}")
        key = Key("Service", ingress.meta.namespace, backend.service)
        service = self.services(key)
        group, port = None, backend.port if isinstance(backend.port, int) else 0
        if service is not None:
            found = service_port(service, backend)
            if found is None:
                self._fail(ingress, f"Service {backend.service} has no port {backend.port}")
                return None
            port = found.port
            group = self._group(ingress, service, found)
        patterns = path_patterns(path)
        return AlbRule(ingress.key, host, path.path, path.path_type, patterns, key, port, group)

    def _group(self, ingress: Ingress, service: Service, port: ServicePort) -> Key:
        # What a Service says goes before what its Ingress says (algorithm.MergeStringMap).
        given = {**ingress.meta.annotations, **service.meta.annotations}
        kind = _text(given, "target-type") or "instance"
        if kind not in ("instance", "ip"):
            self._fail(ingress, f"unknown target-type {kind!r}, expected instance or ip")
        if kind == "instance" and service.type not in ("NodePort", "LoadBalancer"):
            said = f"targets are instances, which needs a NodePort, and Service {service.meta.name} is a {service.type}"
            self._fail(ingress, f"{said} (target-type: ip goes to pods)")
        more = (*_name(ingress.key), *_name(service.key), str(port.port), kind)
        name = target_group_name(service.meta.namespace, service.meta.name, *more)
        key = Key("TargetGroupBinding", service.meta.namespace, name)
        profile = lb.AWS_ALB_IP if kind == "ip" else lb.AWS_ALB
        self.groups.setdefault(key, TargetGroup(key, service.key, port.port, _settings(profile, given)))
        return key

    def _fail(self, ingress: Ingress, why: str) -> None:
        self.problem = self.problem or f"Ingress {'/'.join(_name(ingress.key))}: {why}"


def service_port(service: Service, backend: IngressBackend) -> ServicePort | None:
    """The port of a Service that a backend names, by number or name."""
    return next((port for port in service.ports if backend.port in (port.port, port.name)), None)


def path_patterns(path: IngressPath) -> tuple[str, ...]:
    """Path conditions of a rule (buildPathPatterns): "/shop" as Prefix is "/shop" and "/shop/*"."""
    if not path.path:
        return ()
    if path.path_type != "Prefix":
        return (path.path,)
    base = path.path.removesuffix("/")
    return (base, f"{base}/*") if base else ("/*",)


def _longer_first(path: IngressPath) -> int:
    return -len(path.path) if path.path_type == "Prefix" else 0


def _settings(profile: LbProfile, given: Mapping[str, str]) -> LbProfile:
    """Timing of the health check, and how it picks."""
    check = profile.cluster_check
    check = replace(
        check,
        interval_s=_whole(given, "healthcheck-interval-seconds", int(check.interval_s)),
        timeout_s=_whole(given, "healthcheck-timeout-seconds", int(check.timeout_s)),
        healthy=_whole(given, "healthy-threshold-count", check.healthy),
        unhealthy=_whole(given, "unhealthy-threshold-count", check.unhealthy),
    )
    attributes = pairs(_text(given, "target-group-attributes"))
    picks = profile.picks
    if attributes.get("load_balancing.algorithm.type") == "least_outstanding_requests":
        picks = lb.LEAST_OUTSTANDING
    sticky = attributes.get("stickiness.enabled") == "true"
    note = "its stickiness cookie is not modelled" if sticky else ""
    profile = ended_flows(profile, attributes)
    return replace(profile, cluster_check=check, local_check=check, picks=picks, note=note)


def _text(given: Mapping[str, str], name: str) -> str:
    return given.get(f"{_PREFIX}{name}", "").strip()


def _whole(given: Mapping[str, str], name: str, default: int) -> int:
    return _number(_text(given, name), default)


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() else default


def _name(key: Key) -> tuple[str, str]:
    return key.namespace, key.name


def target_group_name(namespace: str, service: str, *more: str) -> str:
    """k8s-NAMESPACE-NAME-HASH, which its TargetGroupBinding has too (buildTargetGroupName); `more` is hashed."""
    return f"k8s-{_short(namespace, 8)}-{_short(service, 8)}-{_hash(*more)}"


def _hash(*parts: str) -> str:
    """Ten hex digits; AWS's controller hashes the uid too."""
    return blake2b("/".join(parts).encode(), digest_size=5).hexdigest()


def _short(text: str, most: int) -> str:
    return "".join(letter for letter in text if letter.isalnum())[:most]
