"""Who the targets of a load balancer should be: nodes, or pods."""

from kflab.control import lbprofiles
from kflab.control.core import Core
from kflab.control.loadbalancers import LoadBalancer, Target
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Endpoint, EndpointSlice, Service
from kflab.manifest.objects_pods import Pod

PRIMARY = "minikube.k8s.io/primary"

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
"""Taint of a node that the cluster autoscaler is about to remove."""

KARPENTER = "karpenter.sh/disrupted"
"""Taint, with NoSchedule, of one that Karpenter is about to remove."""

EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers"


def wanted(core: Core, balancer: LoadBalancer) -> dict[str, Target]:
    """All targets that there should be now, by name."""
    if balancer.profile.destination == lbprofiles.POD:
        return _pods(core, balancer)
    nodes = (node for node in core.store.of_kind("Node") if isinstance(node, Node))
    taken = [node for node in nodes if takes_node(balancer, node)]
    if balancer.profile.check(balancer.local).how == lbprofiles.ROUTE:
        taken = taken[:1]
    return {node.meta.name: of_node(node) for node in taken}


def of_node(node: Node) -> Target:
    """A node as target."""
    return Target(node.meta.name, node.meta.name, 0)


def takes_node(balancer: LoadBalancer, node: Node) -> bool:
    """Whether a node that is there should be a target.

    Source: KEP-3458; for AWS's controller pkg/backend/endpoint_resolver.go ResolveNodePortEndpoints.
    """
    if balancer.profile.check(balancer.local).how == lbprofiles.ROUTE:
        # The tunnel's route goes through the first node, which minikube labels primary, and only there.
        return node.meta.labels.get(PRIMARY, "true") == "true" and not balancer.targets.keys() - {node.meta.name}
    if balancer.profile.ready_nodes and node.ready != "True":
        return False
    if balancer.profile.heeds_taint and leaves(balancer, node):
        return False
    return EXCLUDE not in node.meta.labels


def to_be_deleted(node: Node) -> bool:
    """Whether the cluster autoscaler is about to remove a node: kube-proxy's /healthz answers 503 there.

    Source: KEP-3836; k8s.io/kubernetes pkg/proxy/healthcheck/proxy_health.go, SyncNode.
    """
    return any(taint.key == TO_BE_DELETED for taint in node.taints)


def leaves(balancer: LoadBalancer, node: Node) -> bool:
    """Whether a controller that heeds taints deregisters a node because it is about to be removed.

    Sources: aws-load-balancer-controller pkg/backend/endpoint_utils.go, IsNodeSuitableAsTrafficProxy;
    kubernetes/ingress-gce pkg/utils/zonegetter/zone_getter.go, nodePredicateInternal (the autoscaler's taint alone).
    """
    karpenter = any(taint.key == KARPENTER and taint.effect == "NoSchedule" for taint in node.taints)
    return to_be_deleted(node) or (karpenter and balancer.profile.provider == "aws")


def endpoints_of(core: Core, service: Key) -> list[tuple[EndpointSlice, Endpoint]]:
    """A Service's endpoints, each with the slice it is in."""
    found = (core.store.get(key) for key in core.index.slices_of(service))
    return [(piece, entry) for piece in found if isinstance(piece, EndpointSlice) for entry in piece.endpoints]


def _only_gated(core: Core, entry: Endpoint) -> bool:
    """Whether an endpoint that is not ready has ready containers, on a node that is Ready, and is not terminating."""
    pod = core.store.get(entry.target) if entry.target is not None else None
    node = core.store.get(Key("Node", "", entry.node_name))
    well = isinstance(pod, Pod) and pod.status.containers_ready and not entry.terminating
    return well and isinstance(node, Node) and node.ready == "True"


def _pods(core: Core, balancer: LoadBalancer) -> dict[str, Target]:
    """The ready endpoints, and those that wait for nothing but their readiness gates.

    Source: aws-load-balancer-controller pkg/backend/endpoint_resolver.go, resolvePodEndpointsWithEndpointsData.
    """
    service = core.store.get(balancer.service)
    found: dict[str, Target] = {}
    if not isinstance(service, Service):
        return found
    for piece, entry in endpoints_of(core, balancer.service):
        if not entry.addresses or piece.address_type != "IPv4":
            continue
        if entry.ready is False and not _only_gated(core, entry):
            continue
        pod = entry.target
        name = f"{pod.namespace}/{pod.name}" if pod is not None else entry.addresses[0]
        numbers = {(port.name, port.protocol): port.port for port in piece.ports}
        pairs = (
            (port.port, numbers.get((port.name, port.protocol), 0))
            for port in service.ports
            if balancer.port in (0, port.port)
        )
        ports = tuple((port, number) for port, number in pairs if number)
        found.setdefault(name, Target(name, entry.node_name, 0, pod=pod, ip=entry.addresses[0], ports=ports))
    return found
