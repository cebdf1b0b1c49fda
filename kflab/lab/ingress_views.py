"""What an ingress controller's pods make of the objects they knew: NGINX's configuration by revision."""

from collections.abc import Iterable
from typing import cast

from kflab.cluster.store import Store
from kflab.control.observers import revision_at
from kflab.control.plane import ControlPlane
from kflab.dataplane.nginx import IngressConfig, serves
from kflab.engine.pools import PoolLimits
from kflab.lab.controllers import Controller, Controllers
from kflab.lab.rulebook import RuleBook
from kflab.manifest.objects import Key
from kflab.manifest.objects_config import ConfigMap
from kflab.manifest.objects_network import EndpointSlice, Ingress, IngressBackend, IngressClass, Service

MOST_KEPT = 64
"""Configurations that are kept at most."""


def _backends(ingress: Ingress) -> Iterable[IngressBackend]:
    for rule in ingress.rules:
        for path in rule.paths:
            yield path.backend
    if ingress.default_backend is not None:
        yield ingress.default_backend


def config_at(store: Store, book: RuleBook, controller: Controller, revision: int) -> IngressConfig:
    """The configuration that a controller has made from a store revision.

    Only the Services that an Ingress names are looked at: a controller watches all, but makes upstreams of these.
    """
    identity = controller.identity
    ingresses = [cast(Ingress, obj) for obj in store.of_kind_at("Ingress", revision)]
    classes = [cast(IngressClass, obj) for obj in store.of_kind_at("IngressClass", revision)]
    named = {
        Key("Service", ingress.meta.namespace, backend.service): None
        for ingress in ingresses
        if serves(ingress, classes, identity.controller_class, identity.ingress_class, identity.without_class)
        for backend in _backends(ingress)
    }
    services = [obj for key in named if isinstance(obj := store.get(key, at=revision), Service)]
    slices: list[EndpointSlice] = [piece for service in services for piece in book.slices(service.key, revision)]
    config_map = store.get(identity.config_map, at=revision) if identity.config_map else None
    secrets = [obj.key for obj in store.of_kind_at("Secret", revision)]
    return IngressConfig.build(
        ingresses, classes, services, slices, config_map if isinstance(config_map, ConfigMap) else None, secrets,
        controller=identity.controller_class, class_name=identity.ingress_class, without_class=identity.without_class,
    )  # fmt: skip


class IngressConfigs:
    """What each ingress pod's NGINX was configured with, made once for each revision.

    Args:
        plane: Control plane, for what the pods know.
        book: EndpointSlices by revision.
        controllers: Ingress controllers of the cluster.
    """

    def __init__(self, plane: ControlPlane, book: RuleBook, controllers: Controllers) -> None:
        self._plane, self._book, self._controllers = plane, book, controllers
        self._made: dict[tuple[str, int], IngressConfig] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._made)

    def at(self, observer: str, t_ns: int) -> IngressConfig | None:
        """What an ingress pod's NGINX was configured with at `t_ns`."""
        revision = revision_at(self._plane.observers, observer, t_ns)
        if revision is None:
            return None
        _, namespace, name = observer.split("/", 2)
        key = (observer, revision)
        if key not in self._made:
            if len(self._made) > MOST_KEPT:
                self._made.clear()
            pod = Key("Pod", namespace, name)
            controller = next((one for one in self._controllers.all() if pod in one.pods), None)
            if controller is None:
                return None
            self._made[key] = config_at(self._plane.store, self._book, controller, revision)
        return self._made[key]

    def keeps_connections(self, pod: Key, t_ns: int) -> bool:
        """Whether an ingress pod keeps connections to its upstreams open."""
        config = self.at(f"ingress/{pod.namespace}/{pod.name}", t_ns)
        return config is not None and config.keepalive.connections > 0

    def pool_limits(self, pod: Key, t_ns: int, usual: PoolLimits) -> PoolLimits:
        """Which of them it keeps; `usual` has what its ConfigMap does not say."""
        config = self.at(f"ingress/{pod.namespace}/{pod.name}", t_ns)
        if config is None:
            return usual
        given = config.keepalive
        return PoolLimits(
            given.connections,
            usual.idle_ns if given.timeout_s is None else given.timeout_s * 1_000_000_000,
            usual.time_ns if given.time_s is None else round(given.time_s * 1e9),
            usual.requests if given.requests is None else given.requests,
        )

    def forget_old(self) -> None:
        """Drop configurations made from revisions that no ingress pod is remembered to have acted on."""
        known = {(name, rev) for name, observer in self._plane.observers.items() for _, rev in observer.versions}
        self._made = {key: config for key, config in self._made.items() if key in known}
