"""The ingress controllers of a cluster: workload, pods, and the Services that lead to them."""

from typing import cast

from kflab.cluster.store import Store
from kflab.control.ingressclass import ControllerIdentity, recognise, serves
from kflab.manifest.objects import Key, LabelSelector
from kflab.manifest.objects_network import Ingress, IngressClass, Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.records import dataclass

_WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet")


@dataclass(frozen=True, slots=True)
class Controller:
    """One ingress controller."""

    key: Key
    """Its workload, or the pod itself when it has none."""
    identity: ControllerIdentity
    pods: tuple[Key, ...]
    """In order of creation."""
    services: tuple[Key, ...]
    """Services that select its pods; the one it publishes first."""


class Controllers:
    """Finds ingress controllers; looks again only after a workload, pod or Service changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = -1
        self._found: tuple[Controller, ...] = ()
        self._pods: frozenset[Key] = frozenset()

    def all(self) -> tuple[Controller, ...]:
        """All of them, in order of their workloads."""
        kinds = {*_WORKLOADS, "Pod", "Service"}
        changes = self._store.changes(max(self._seen, 0))
        if self._seen < 0 or any(change.key.kind in kinds for change in changes):
            self._found = tuple(self._find())
            self._pods = frozenset(pod for controller in self._found for pod in controller.pods)
        self._seen = self._store.revision
        return self._found

    def is_pod(self, key: Key) -> bool:
        """Whether a pod is (or just was) an ingress controller's."""
        before = self._pods
        self.all()
        return key in self._pods or key in before

    def serving(self, ingress: Ingress) -> Controller | None:
        """The controller that takes an Ingress."""
        classes = [cast(IngressClass, obj) for obj in self._store.of_kind("IngressClass")]
        return next((c for c in self.all() if serves(c.identity, ingress, classes)), None)

    def _find(self) -> list[Controller]:
        found = []
        for kind in _WORKLOADS:
            for obj in self._store.of_kind(kind):
                assert isinstance(obj, Deployment | DaemonSet | StatefulSet)
                template = obj.template
                identity = recognise(template.spec, obj.meta.namespace)
                if identity is None:
                    continue
                labels = template.labels
                pods = tuple(
                    pod.key for pod in self._store.of_kind("Pod", obj.meta.namespace)
                    if isinstance(pod, Pod) and recognise(pod.spec, pod.meta.namespace) == identity
                    and all(pod.meta.labels.get(k) == v for k, v in labels.items())
                )  # fmt: skip
                services = [
                    service.key for service in self._store.of_kind("Service", obj.meta.namespace)
                    if isinstance(service, Service) and service.selector
                    and LabelSelector(service.selector).matches(labels)
                ]  # fmt: skip
                first = identity.publish_service
                services = [key for key in services if key == first] + [key for key in services if key != first]
                found.append(Controller(obj.key, identity, pods, tuple(services)))
        return found
