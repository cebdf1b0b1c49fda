"""What of the store decides load balancers, and what a new one publishes in its Service's status."""

from hashlib import blake2b
from ipaddress import ip_address, ip_network

from kflab.control.core import Core
from kflab.control.lbchoice import METALLB_KINDS, Surroundings, choose
from kflab.control.lbprofiles import AWS_CLB, MINIKUBE, LbProfile
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import LoadBalancerIngress, Service

_METALLB_IPS = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")


def look_around(core: Core) -> None:
    """Read the Nodes and MetalLB's objects as they are now."""
    nodes = (node for node in core.store.of_kind("Node") if isinstance(node, Node))
    others = (obj for kind in METALLB_KINDS for obj in core.store.of_kind(kind))
    core.surroundings = Surroundings.of(nodes, others, core.surroundings.named)


def published(core: Core, service: Service) -> LoadBalancerIngress:
    """The status entry that a Service's load balancer gets: a name (AWS) or an address with its ipMode."""
    profile = choose(service, core.surroundings)
    if profile.publishes == "hostname":
        return LoadBalancerIngress(hostname=published_name(core, service, profile))
    own = service.cluster_ip if profile.name == MINIKUBE.name else ""
    return LoadBalancerIngress(ip=own or _address(core, service, profile.provider), ip_mode=profile.ip_mode)


def _address(core: Core, service: Service, provider: str) -> str:
    """The pinned or asked-for address, else MetalLB's pool, else one of the lab's range.

    Source: MetalLB docs, usage (annotation loadBalancerIPs, spec.loadBalancerIP; pools in order, autoAssign).
    """
    name = f"{service.meta.namespace}/{service.meta.name}"
    pinned = core.pins.lb_ips.get(name, "")
    asked = ""
    if provider == "metallb":
        texts = (service.meta.annotations.get(key, "").partition(",")[0].strip() for key in _METALLB_IPS)
        asked = next(filter(None, texts), "")
    asked = pinned or asked or service.load_balancer_ip
    if asked:
        return asked
    return (_of_pools(core) if provider == "metallb" else "") or core.addresses.allocate_lb_ip(name)


def _of_pools(core: Core) -> str:
    """The first free address of MetalLB's IPAddressPools, IPv4; "" when there is none."""
    services = (obj for obj in core.store.of_kind("Service") if isinstance(obj, Service))
    taken = {entry.ip for service in services for entry in service.load_balancer}
    for pool in core.store.of_kind("IPAddressPool"):
        spec = (pool.raw or {}).get("spec") or {}
        ranges = spec.get("addresses") if isinstance(spec, dict) else None
        if not isinstance(ranges, list) or spec.get("autoAssign") is False:
            continue
        for text in ranges:
            low, high = _range(str(text))
            # At most as many addresses are taken as there are Services: no need to look further.
            for number in range(low, min(high, low + len(taken)) + 1):
                address = str(ip_address(number))
                if address not in taken:
                    return address
    return ""


def _range(text: str) -> tuple[int, int]:
    """ "10.0.0.10-10.0.0.20" or "10.0.0.0/28" as two numbers; (1, 0), an empty range, for anything else."""
    low, dash, high = (part.strip() for part in text.partition("-"))
    try:
        if dash:
            first, last = ip_address(low), ip_address(high)
        else:
            network = ip_network(low, strict=False)
            first, last = network[0], network[-1]
    except ValueError:
        return 1, 0
    return (int(first), int(last)) if first.version == last.version == 4 else (1, 0)


def published_name(core: Core, service: Service, profile: LbProfile) -> str:
    """The DNS name AWS gives: the pin, else k8s-NAMESPACE-NAME-HASH-ID.elb.REGION.amazonaws.com or a Classic LB's.

    Source: aws-load-balancer-controller pkg/service/model_build_load_balancer.go, buildLoadBalancerName;
    k8s.io/cloud-provider DefaultLoadBalancerName ("a" and the Service's uid, here a hash).
    """
    name = f"{service.meta.namespace}/{service.meta.name}"
    pinned = core.pins.lb_hostnames.get(name, "")
    if pinned:
        return pinned
    digest = blake2b(name.encode(), digest_size=13).hexdigest()
    if profile.name == AWS_CLB.name:
        return f"a{digest}-{int(digest[:8], 16)}.us-east-1.elb.amazonaws.com"
    parts = (_short(service.meta.namespace), _short(service.meta.name), digest[:10])
    return f"k8s-{'-'.join(parts)}-{digest[10:26]}.elb.us-east-1.amazonaws.com"


def _short(text: str) -> str:
    return "".join(char for char in text if char.isalnum())[:8]
