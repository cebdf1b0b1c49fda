"""What a Service's endpoints are: from pods to EndpointSlice entries and ports. Pure functions.

Source: k8s.io/endpointslice utils.go (podToEndpoint, getEndpointPorts), topologycache and trafficdist packages,
k8s.io/kubernetes pkg/api/v1/pod FindPort.
"""

from collections.abc import Mapping

from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Endpoint, EndpointPort, Service, ServicePort
from kflab.manifest.objects_pods import Pod
from kflab.replacing import replace

ZONE = "topology.kubernetes.io/zone"


def belongs(pod: Pod) -> bool:
    """Whether a pod is listed at all: it has an address and has not finished (ShouldPodBeInEndpoints)."""
    return bool(pod.status.pod_ips) and pod.status.phase not in ("Succeeded", "Failed")


def target_port(port: ServicePort, pod: Pod) -> int | None:
    """The number a Service port's target has on this pod; None when the pod has no port of that name."""
    if isinstance(port.target, int):
        return port.target or port.port
    sidecars = (c for c in pod.spec.init_containers if c.restart_policy == "Always")
    for container in (*sidecars, *pod.spec.containers):
        for own in container.ports:
            if own.name == port.target and own.protocol == port.protocol:
                return own.port
    return None


def endpoint_ports(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    """The slice ports for this pod; pods with equal ports share slices."""
    found = []
    for port in service.ports:
        number = target_port(port, pod)
        if number is not None:
            found.append(EndpointPort(number, port.name, port.protocol, port.app_protocol))
    return tuple(found)


def endpoint(service: Service, key: Key, pod: Pod, ip: str, zone: str) -> Endpoint:
    """One entry: ready, serving and terminating as lifecycle 1.2 says."""
    serving, terminating = pod.status.ready, pod.terminating
    hostname = pod.spec.hostname if pod.spec.hostname and pod.spec.subdomain == service.meta.name else ""
    return Endpoint(
        addresses=(ip,),
        ready=service.publish_not_ready or (serving and not terminating),
        serving=serving,
        terminating=terminating,
        node_name=pod.spec.node_name,
        zone=zone,
        hostname=hostname,
        target=key,
    )


def with_hints(service: Service, entry: Endpoint) -> Endpoint:
    """Hints of trafficDistribution; only ready endpoints with a zone get them."""
    wish = service.traffic_distribution
    if not entry.ready or not entry.zone or wish not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        return entry
    nodes = (entry.node_name,) if wish == "PreferSameNode" and entry.node_name else ()
    return replace(entry, hint_zones=(entry.zone,), hint_nodes=nodes)


def zone_of(labels: Mapping[str, str]) -> str:
    """A node's zone."""
    return labels.get(ZONE, "")


def family_of(ip: str) -> str:
    """addressType of an address."""
    return "IPv6" if ":" in ip else "IPv4"
