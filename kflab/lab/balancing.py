"""A Service's load balancer at an instant, as the walker and the engine's tables both read it."""

from collections.abc import Iterator, Mapping

from kflab.cluster.store import Store
from kflab.control import lbprofiles
from kflab.control.albsync import Alb
from kflab.control.loadbalancers import LoadBalancer
from kflab.dataplane.lb import ZONE_LABEL, LbTarget
from kflab.dataplane.world import AlbInForce, LbInForce
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service

_WHY = {
    lbprofiles.HEALTH_NODE_PORT: "its health check fails: no ready pod there",
    lbprofiles.PROXY_HEALTHZ: "its health check fails: kube-proxy does not answer on :10256",
    lbprofiles.CONNECT: "its health check fails",
    lbprofiles.SPEAKER: "it does not announce the address",
    lbprofiles.ROUTE: "no route leads there",
}
"""Why a target gets nothing, by what its check asks."""


STATES = {
    "initial": "initial: no health check has passed yet",
    "draining": "draining: deregistered, and the load balancer has not stopped yet",
}
"""What a cloud's states of a target mean."""


def in_force(store: Store, balancer: LoadBalancer, address: str, t_ns: int) -> LbInForce | None:
    """The load balancer as its maker knew it at `t_ns`; None when its Service is gone.

    Args:
        store: For the nodes behind the names.
        balancer: The load balancer.
        address: Where clients connect.
        t_ns: Up to now.
    """
    service = store.get(balancer.service)
    if not isinstance(service, Service):
        return None
    since = max((since for since, _ in balancer.versions if since <= t_ns), default=0)
    why = _WHY[balancer.profile.check(balancer.local).how]
    targets = []
    if balancer.profile.destination == lbprofiles.POD:
        for listed in balancer.pods_at(t_ns):
            key, zone, _ = _node(store, listed.node)
            pod = listed.pod or Key("Endpoint", "", listed.ip)
            note = STATES.get(listed.state, "" if listed.healthy else why)
            targets.append(LbTarget(key, listed.ip, listed.healthy, note, zone, pod, listed.ports, listed.state))
    else:
        healthy = frozenset(balancer.healthy_at(t_ns))
        for name in balancer.registered_at(t_ns):
            key, zone, ip = _node(store, name)
            targets.append(LbTarget(key, ip, name in healthy, "" if name in healthy else why, zone))
    return LbInForce(service, tuple(targets), since, balancer.profile, address, balancer.port)


def alb_in_force(store: Store, one: Alb, balancers: Mapping[Key, LoadBalancer], t_ns: int) -> AlbInForce:
    """An Application Load Balancer as it was at `t_ns`, with its target groups."""
    model = one.at(t_ns)
    groups = {}
    for group in model.groups:
        balancer = balancers.get(group.key)
        known = in_force(store, balancer, one.ip, t_ns) if balancer is not None else None
        if known is not None:
            groups[group.key] = known
    return AlbInForce(model, one.ip, groups)


def _node(store: Store, name: str) -> tuple[Key, str, str]:
    """A node's key, zone and address, also when it has left the cluster."""
    key = Key("Node", "", name)
    node = store.last(key)
    if not isinstance(node, Node):
        return key, "", ""
    return key, node.meta.labels.get(ZONE_LABEL, ""), next(iter(node.internal_ips), "")


def simplifications(store: Store, balancers: Mapping[Key, LoadBalancer]) -> Iterator[tuple[str, str]]:
    """What the lab leaves out of load balancers that are there: (what, how to have it otherwise)."""
    for key, balancer in balancers.items():
        profile, name = balancer.profile, f"{key.namespace}/{balancer.service.name}"
        if profile.takes_turns:
            text = "has one load balancer node per zone here; a busy one has more, each with turns of its own"
            yield f"{profile.title} of {name} {text}", "no other way"
        elif profile.picks == lbprofiles.ROUND_ROBIN:
            yield f"{profile.title} of {name} takes turns; traffic here draws with the same shares", "no other way"
        if profile.picks == lbprofiles.LEAST_OUTSTANDING:
            text = "sends to the target with the fewest outstanding requests; here it draws with equal shares"
            yield f"{profile.title}, {name}: it {text}", "no other way"
        if profile.http:
            text = "keeps connections to its targets; here it opens one for each request"
            yield f"{profile.title}, {name}: it {text}", "no other way"
        if profile.name == lbprofiles.METALLB_BGP.name:
            text = "when a node joins or leaves, the router's new hash breaks connections that are open; every request"
            yield f"{profile.title}, {name}: {text} from outside opens its own here", "no other way"
        service = store.get(key)
        sticky = isinstance(service, Service) and service.session_affinity == "ClientIP"
        if sticky and profile.name == lbprofiles.GCP_PASSTHROUGH.name:
            text = "sessionAffinity ClientIP makes it hash the client's address alone; here it hashes the whole flow"
            yield f"{profile.title}, {name}: {text}", "no other way"
        if profile.name == lbprofiles.DOCKER_DESKTOP.name:
            text = "Docker publishes its ports on the host, where one port serves one Service; clients here use the"
            yield f"{profile.title}, {name}: {text} address in the Service's status", "no other way"
        if sticky and profile.name in (lbprofiles.KIND.name, lbprofiles.DOCKER_DESKTOP.name):
            text = "sessionAffinity ClientIP gives its Envoy a hash ring; here it draws at random"
            yield f"{profile.title}, {name}: {text}", "no other way"
