"""Finding objects as kubectl does: by kind and name, by selector, a pod behind a workload or Service."""

from collections.abc import Sequence

from kflab.cluster.store import Store
from kflab.dataplane.packets import join_host_port
from kflab.errors import KflabError
from kflab.kubectl import selectors
from kflab.kubectl.commands import Target
from kflab.kubectl.endpoints import all_endpoints
from kflab.kubectl.env import Env
from kflab.kubectl.events import events_from
from kflab.kubectl.hostile import printable
from kflab.kubectl.kinds import Resource, find, like
from kflab.manifest.objects import Key, KubeObject, LabelSelector
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, ReplicaSet, StatefulSet


class ApiError(KflabError):
    """An answer of the API server; printed with "Error from server" in front."""


def resources(word: str, store: Store) -> tuple[Resource, ...]:
    """The resources a word names.

    Raises:
        KflabError: In kubectl's words, if there are none.
    """
    found = find(word, store)
    if not found:
        near = like(word)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise KflabError(f'the server doesn\'t have a resource type "{printable(word)}"{hint}')
    return found


def resource(word: str, store: Store) -> Resource:
    """The one resource a word names.

    Raises:
        KflabError: If it names none, or several ("all").
    """
    found = resources(word, store)
    if len(found) != 1:
        raise KflabError(f'name one kind instead of "{word}"')
    return found[0]


def listed(kind: Resource, namespace: str | None, store: Store, env: Env) -> Sequence[KubeObject]:
    """All objects of a kind, in the API server's order: by namespace, then name (Events: by time)."""
    found: Sequence[KubeObject]
    if kind.kind == "Endpoints":
        made = {endpoints.key: endpoints for endpoints in all_endpoints(store, namespace)}
        given = {obj.key: obj for obj in store.of_kind("Endpoints", namespace) if not _selects(obj.key, store)}
        found = list({**made, **given}.values())
    elif kind.kind == "Event":
        events = events_from(env.facts(), store)
        return [event for event in events if namespace in (None, event.meta.namespace)]
    else:
        found = list(store.of_kind(kind.kind, namespace if kind.namespaced else None))
    return sorted(found, key=lambda obj: (obj.meta.namespace, obj.meta.name))


def _selects(endpoints: Key, store: Store) -> bool:
    """Whether the endpoints controller writes this object: then it says what the slices say."""
    service = store.get(Key("Service", endpoints.namespace, endpoints.name))
    return isinstance(service, Service) and bool(service.selector)


def named(kind: Resource, namespace: str, name: str, store: Store, env: Env) -> KubeObject:
    """One object.

    Raises:
        ApiError: NotFound, as the API server says it.
    """
    found: KubeObject | None
    if kind.kind in ("Endpoints", "Event"):
        found = next((obj for obj in listed(kind, namespace, store, env) if obj.meta.name == name), None)
    else:
        found = store.get(Key(kind.kind, namespace if kind.namespaced else "", name))
    if found is None:
        raise ApiError(f'(NotFound): {kind.qualified} "{printable(name)}" not found')
    return found


def matching(
    objects: Sequence[KubeObject], selector: str, fields: tuple[tuple[str, bool, str], ...] = ()
) -> list[KubeObject]:
    """Objects whose labels and fields match.

    Raises:
        KflabError: If the selector cannot be read.
    """
    wanted = selectors.parse(selector) if selector else None
    return [
        obj
        for obj in objects
        if (wanted is None or wanted.matches(obj.meta.labels)) and selectors.field_matches(obj, fields)
    ]


def pods_behind(target: Target, namespace: str, store: Store, env: Env) -> tuple[KubeObject, list[Pod]]:
    """The named object and the pods kubectl considers for it, best first.

    A pod stands for itself. For a workload or Service the pods its selector matches are sorted as kubectl does before
    `logs` and `port-forward`: scheduled before unscheduled, Running before other phases, ready before not ready, the
    longest ready first, fewer restarts first.

    Source: k8s.io/kubectl pkg/polymorphichelpers (logsforobject.go, attachablepodforobject.go), pkg/util/podutils
    ByLogging and ActivePods.

    Raises:
        KflabError: NotFound, or a kind that selects no pods.
    """
    kind = resource(target.resource, store)
    obj = named(kind, namespace, target.name, store, env)
    if isinstance(obj, Pod):
        return obj, [obj]
    if isinstance(obj, Deployment | ReplicaSet | StatefulSet | DaemonSet):
        wanted = obj.selector
    elif isinstance(obj, Service):
        if not obj.selector:
            raise KflabError(f"invalid service '{printable(obj.meta.name)}': Service is defined without a selector")
        wanted = LabelSelector(obj.selector)
    else:
        raise KflabError(f"cannot attach to *{kind.kind}: it has no pods of its own")
    pods = [pod for pod in store.of_kind("Pod", obj.meta.namespace) if isinstance(pod, Pod)]
    return obj, sorted((pod for pod in pods if wanted.matches(pod.meta.labels)), key=_rank)


def _rank(pod: Pod) -> tuple[bool, bool, bool, int, int, int, str]:
    since = pod.status.ready_since_ns
    return (
        not pod.spec.node_name,
        pod.status.phase != "Running",
        not pod.status.ready,
        since if since is not None else 0,
        pod.status.restarts,
        pod.meta.creation_ns,
        pod.meta.name,
    )


def source_key(target: Target | None, namespace: str, store: Store, env: Env) -> Key | None:
    """The pod or node a `curl` is sent from; None for the client.

    Raises:
        KflabError: If it does not exist or does not run.
    """
    if target is None:
        return None
    kind = resource(target.resource, store)
    if kind.kind == "Node":
        return named(kind, "", target.name, store, env).key
    _, pods = pods_behind(target, namespace, store, env)
    if not pods:
        raise KflabError(f"no pod behind {target.resource}/{printable(target.name)}")
    pod = pods[0]
    if pod.status.phase != "Running":
        raise KflabError(
            f"cannot exec in a container of a pod that is not running; current phase is {pod.status.phase}"
        )
    return pod.key


def kubelet_refusal(pod: Pod, path: str, store: Store, env: Env) -> str:
    """What the API server says when it cannot reach the pod's kubelet (port 10250); "" if it can."""
    node = pod.spec.node_name
    talks = env.talks(node)
    if not node or (talks and env.running(f"kubelet/{node}")):
        return ""
    known = store.get(Key("Node", "", node))
    address = known.internal_ips[0] if isinstance(known, Node) and known.internal_ips else node
    host = join_host_port(address, 10250)
    ending = "connect: connection refused" if talks else "i/o timeout"
    text = f'Get "https://{host}/{path}": dial tcp {host}: {ending}'
    return printable(f"Error from server: {text}") + "\n"


def is_ingress_controller(pod: Pod) -> bool:
    """Whether a pod logs as ingress-nginx does: its image is an ingress-nginx controller's.

    Source: image names of the ingress-nginx releases (registry.k8s.io/ingress-nginx/controller, formerly
    quay.io/kubernetes-ingress-controller/nginx-ingress-controller).
    """
    return any(
        "ingress-nginx/controller" in container.image or "nginx-ingress-controller" in container.image
        for container in pod.spec.containers
    )
