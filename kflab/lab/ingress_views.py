"""What an ingress controller's pods make of the objects they knew: NGINX's configuration by revision."""

from collections.abc import Iterable
from typing import cast

from kflab.cluster.store import Store
from kflab.dataplane.nginx import IngressConfig, serves
from kflab.lab.controllers import Controller
from kflab.lab.rulebook import RuleBook
from kflab.manifest.objects import Key
from kflab.manifest.objects_config import ConfigMap
from kflab.manifest.objects_network import EndpointSlice, Ingress, IngressBackend, IngressClass, Service


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
