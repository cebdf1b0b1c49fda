"""What kubectl calls each kind: plural, singular, short names, group, and whether it lives in a namespace.

Source: the API server's discovery documents for v1.33 (`kubectl api-resources`).
"""

from collections.abc import Sequence
from difflib import get_close_matches

from kflab.cluster.store import Store
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """One row of `kubectl api-resources`."""

    kind: str
    plural: str
    short: tuple[str, ...] = ()
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """Plural with group, as NotFound errors say it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def prefix(self) -> str:
        """Singular with group, as `-o name` and tables of several kinds print it: `deployment.apps`."""
        return f"{self.singular}.{self.group}" if self.group else self.singular


PODS = Resource("Pod", "pods", ("po",))
SERVICES = Resource("Service", "services", ("svc",))
ENDPOINTS = Resource("Endpoints", "endpoints", ("ep",))
EVENTS = Resource("Event", "events", ("ev",))
DEPLOYMENTS = Resource("Deployment", "deployments", ("deploy",), "apps")
REPLICA_SETS = Resource("ReplicaSet", "replicasets", ("rs",), "apps")
STATEFUL_SETS = Resource("StatefulSet", "statefulsets", ("sts",), "apps")
DAEMON_SETS = Resource("DaemonSet", "daemonsets", ("ds",), "apps")
HORIZONTAL_POD_AUTOSCALERS = Resource(
    "HorizontalPodAutoscaler", "horizontalpodautoscalers", ("hpa",), "autoscaling", version="v2"
)
JOBS = Resource("Job", "jobs", (), "batch")
NODES = Resource("Node", "nodes", ("no",), namespaced=False)

RESOURCES: tuple[Resource, ...] = (
    Resource("ConfigMap", "configmaps", ("cm",)),
    ENDPOINTS,
    EVENTS,
    Resource("Namespace", "namespaces", ("ns",), namespaced=False),
    NODES,
    PODS,
    Resource("Secret", "secrets"),
    SERVICES,
    DAEMON_SETS,
    DEPLOYMENTS,
    REPLICA_SETS,
    STATEFUL_SETS,
    JOBS,
    Resource("EndpointSlice", "endpointslices", (), "discovery.k8s.io"),
    Resource("IngressClass", "ingressclasses", (), "networking.k8s.io", namespaced=False),
    Resource("Ingress", "ingresses", ("ing",), "networking.k8s.io"),
    Resource("PodDisruptionBudget", "poddisruptionbudgets", ("pdb",), "policy"),
    Resource("PriorityClass", "priorityclasses", ("pc",), "scheduling.k8s.io", namespaced=False),
    HORIZONTAL_POD_AUTOSCALERS,
)
"""Kinds with their own columns, in the order of `kubectl api-resources`."""

ALL: tuple[Resource, ...] = (
    PODS, SERVICES, DAEMON_SETS, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, HORIZONTAL_POD_AUTOSCALERS, JOBS
)  # fmt: skip
"""What `kubectl get all` prints (category "all"), in its order, as far as the lab runs them."""

_BY_KIND = {resource.kind: resource for resource in RESOURCES}


def _names(resource: Resource) -> tuple[str, ...]:
    plain = (resource.plural, resource.singular, *resource.short)
    if not resource.group:
        return plain
    return (
        *plain,
        resource.qualified,
        resource.prefix,
        f"{resource.plural}.{resource.version}.{resource.group}",
    )


_BY_NAME = {name: resource for resource in RESOURCES for name in _names(resource)}


def of_kind(kind: str) -> Resource:
    """The resource of a kind; kinds without behaviour get a made row (plural as kubectl's guess: +s, +es, y → ies)."""
    known = _BY_KIND.get(kind)
    if known is not None:
        return known
    low = kind.lower()
    if low.endswith("y"):
        plural = low[:-1] + "ies"
    elif low.endswith(("s", "x", "ch")):
        plural = low + "es"
    else:
        plural = low + "s"
    return Resource(kind, plural)


def find(word: str, store: Store) -> tuple[Resource, ...]:
    """The resources a word on the command line names (`svc`, `deployments.apps`, `all`); () if there is none.

    Kinds that the store merely keeps (a CustomResource, say) are found by their kind, singular or plural.
    """
    low = word.lower()
    if low == "all":
        return ALL
    known = _BY_NAME.get(low)
    if known is not None:
        return (known,)
    for kind in store.kinds():
        resource = of_kind(kind)
        if low in (resource.singular, resource.plural):
            namespaced = any(key.namespace for key in store.keys(kind))
            return (Resource(kind, resource.plural, namespaced=namespaced),)
    return ()


def like(word: str) -> Sequence[str]:
    """Resource names that resemble a word, nearest first."""
    return get_close_matches(word.lower(), sorted(_BY_NAME), n=2, cutoff=0.7)


def names() -> tuple[str, ...]:
    """Plural names and short names, for completion."""
    return tuple(sorted({name for resource in RESOURCES for name in (resource.plural, *resource.short)} | {"all"}))
