"""Which pods are ingress controllers, and which Ingresses they serve.

Source: kubernetes/ingress-nginx internal/ingress/controller/store/store.go and ingressclass package (flags
--controller-class, --ingress-class, --ingress-class-by-name, --watch-ingress-without-class, --watch-namespace).
"""

from collections.abc import Iterable
from functools import lru_cache

from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_network import Ingress, IngressClass
from kflab.manifest.objects_pods import PodSpec
from kflab.records import dataclass

NGINX_CONTROLLER = "k8s.io/ingress-nginx"
"""Default of --controller-class."""

ANNOTATION = "kubernetes.io/ingress.class"

IMAGES = (
    ("ingress-nginx/controller", NGINX_CONTROLLER),
    ("nginx-ingress-controller", NGINX_CONTROLLER),
    ("nginx-ingress", "nginx.org/ingress-controller"),
)
"""(part of an image name, controller string), more particular ones first."""


@dataclass(frozen=True, slots=True)
class ControllerIdentity:
    """What a controller says of itself in image and arguments."""

    namespace: str
    controller_class: str = NGINX_CONTROLLER
    ingress_class: str = "nginx"
    without_class: bool = False
    by_name: bool = False
    watch_namespace: str = ""
    publish_service: Key | None = None
    config_map: Key | None = None


@lru_cache(maxsize=1024)
def _default(image: str) -> str:
    """The controller string that an image has of its own; "" for any other image."""
    return next((controller for part, controller in IMAGES if part in image), "")


def recognise(spec: PodSpec, namespace: str) -> ControllerIdentity | None:
    """The ingress controller that pods of this template are; None for anything else."""
    for container in spec.containers:
        default = _default(container.image)
        if not (default or container.command or container.args):
            continue
        arguments = (*container.command, *container.args)
        if not default and not any(_name(argument) == "controller-class" for argument in arguments):
            continue
        flags = _flags(arguments)
        return ControllerIdentity(
            namespace=namespace,
            controller_class=flags.get("controller-class") or default or NGINX_CONTROLLER,
            ingress_class=flags.get("ingress-class") or "nginx",
            without_class=flags.get("watch-ingress-without-class") == "true",
            by_name=flags.get("ingress-class-by-name") == "true",
            watch_namespace=flags.get("watch-namespace", "").replace("$(POD_NAMESPACE)", namespace),
            publish_service=_reference(flags.get("publish-service", ""), "Service", namespace),
            config_map=_reference(flags.get("configmap", ""), "ConfigMap", namespace),
        )
    return None


def _name(argument: str) -> str:
    return argument.lstrip("-").partition("=")[0] if argument.startswith("-") else ""


def _flags(arguments: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    pending = ""
    for argument in arguments:
        name = _name(argument)
        if name:
            _, given, value = argument.partition("=")
            found[name] = value if given else "true"
            pending = "" if given else name
        elif pending:
            found[pending] = argument
            pending = ""
    return found


def _reference(text: str, kind: str, namespace: str) -> Key | None:
    space, _, name = text.replace("$(POD_NAMESPACE)", namespace).partition("/")
    return Key(kind, space, name) if name else None


def class_of(ingress: Ingress) -> tuple[str, bool]:
    """(class name, whether it is the old annotation's); ("", False) without any."""
    annotated = ingress.meta.annotations.get(ANNOTATION, "")
    if annotated:
        return annotated, True
    return ingress.ingress_class or "", False


def serves(identity: ControllerIdentity, ingress: Ingress, classes: Iterable[IngressClass]) -> bool:
    """Whether a controller takes an Ingress."""
    if identity.watch_namespace and identity.watch_namespace != ingress.meta.namespace:
        return False
    name, annotated = class_of(ingress)
    if annotated:
        return name == identity.ingress_class
    known = list(classes)
    if name:
        if identity.by_name and name == identity.ingress_class:
            return True
        return any(c.meta.name == name and c.controller == identity.controller_class for c in known)
    if identity.without_class:
        return True
    # The API server would have filled in the default class at creation (DefaultIngressClass admission).
    return any(c.default and c.controller == identity.controller_class for c in known)


def unserved(objects: Iterable[KubeObject], identities: Iterable[ControllerIdentity]) -> list[Ingress]:
    """Ingresses that no controller here takes."""
    everything = list(objects)
    classes = [obj for obj in everything if isinstance(obj, IngressClass)]
    known = list(identities)
    return [
        obj
        for obj in everything
        if isinstance(obj, Ingress) and not any(serves(identity, obj, classes) for identity in known)
    ]
