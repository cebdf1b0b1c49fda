"""What Services, endpoints and Ingresses write."""

from collections.abc import Iterable

from kflab.manifest.objects import Key
from kflab.manifest.objects_network import (
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Ingress,
    IngressBackend,
    IngressClass,
    LoadBalancerIngress,
    Service,
)
from kflab.manifest.write_common import Start, Tree, reference_tree, some, whole


def service_tree(obj: Service, start: Start) -> Tree:
    """spec and status of a Service."""
    external = obj.type in ("NodePort", "LoadBalancer")
    affinity = {"clientIP": {"timeoutSeconds": obj.affinity_timeout_s}} if obj.session_affinity == "ClientIP" else None
    spec = some(
        allocateLoadBalancerNodePorts=obj.allocate_node_ports if obj.type == "LoadBalancer" else None,
        clusterIP=obj.cluster_ip,
        clusterIPs=list(obj.cluster_ips),
        externalIPs=list(obj.external_ips),
        externalName=obj.external_name,
        externalTrafficPolicy=obj.external_traffic_policy if external else None,
        healthCheckNodePort=obj.health_check_node_port or None,
        internalTrafficPolicy=obj.internal_traffic_policy if obj.type != "ExternalName" else None,
        ipFamilies=list(obj.ip_families) if obj.type != "ExternalName" else None,
        ipFamilyPolicy=obj.ip_family_policy if obj.type != "ExternalName" else None,
        loadBalancerClass=obj.load_balancer_class,
        loadBalancerIP=obj.load_balancer_ip,
        loadBalancerSourceRanges=list(obj.load_balancer_source_ranges),
        ports=[
            some(
                appProtocol=p.app_protocol,
                name=p.name,
                nodePort=p.node_port or None,
                port=p.port,
                protocol=p.protocol,
                targetPort=p.target,
            )
            for p in obj.ports
        ],
        publishNotReadyAddresses=obj.publish_not_ready or None,
        selector=whole(obj.selector),
        sessionAffinity=obj.session_affinity,
        sessionAffinityConfig=affinity,
        trafficDistribution=obj.traffic_distribution,
        type=obj.type,
    )
    return {"spec": spec, "status": {"loadBalancer": _load_balancer(obj.load_balancer)}}


def _load_balancer(entries: Iterable[LoadBalancerIngress]) -> Tree:
    return some(ingress=[some(hostname=e.hostname, ip=e.ip, ipMode=e.ip_mode if e.ip else None) for e in entries])


def endpoint_slice_tree(obj: EndpointSlice, start: Start) -> Tree:
    """Endpoints and ports of an EndpointSlice."""
    ports = _endpoint_ports(obj.ports)
    for port in ports:
        port.setdefault("name", "")
    return {"addressType": obj.address_type, "endpoints": [_endpoint(e) for e in obj.endpoints], "ports": ports}


def _endpoint(endpoint: Endpoint) -> Tree:
    return some(
        addresses=list(endpoint.addresses),
        conditions=some(ready=endpoint.ready, serving=endpoint.serving, terminating=endpoint.terminating),
        hostname=endpoint.hostname,
        hints=some(
            forZones=[{"name": zone} for zone in endpoint.hint_zones],
            forNodes=[{"name": node} for node in endpoint.hint_nodes],
        ),
        nodeName=endpoint.node_name,
        targetRef=reference_tree(endpoint.target),
        zone=endpoint.zone,
    )


def _endpoint_ports(ports: Iterable[EndpointPort]) -> list[Tree]:
    return [some(name=p.name, port=p.port, protocol=p.protocol, appProtocol=p.app_protocol) for p in ports]


def endpoints_tree(obj: Endpoints, start: Start) -> Tree:
    """Subsets of an Endpoints."""
    subsets = [
        some(
            addresses=[_address(*address) for address in subset.addresses],
            notReadyAddresses=[_address(*address) for address in subset.not_ready],
            ports=_endpoint_ports(subset.ports),
        )
        for subset in obj.subsets
    ]
    return some(subsets=subsets)


def _address(ip: str, target: Key | None, node: str) -> Tree:
    return some(ip=ip, nodeName=node, targetRef=reference_tree(target))


def ingress_tree(obj: Ingress, start: Start) -> Tree:
    """spec and status of an Ingress."""
    rules = []
    for rule in obj.rules:
        paths = [{"backend": _backend(p.backend), "path": p.path, "pathType": p.path_type} for p in rule.paths]
        rules.append(some(host=rule.host, http={"paths": paths} if paths else None))
    spec = some(
        defaultBackend=_backend(obj.default_backend) if obj.default_backend else None,
        ingressClassName=obj.ingress_class,
        rules=rules,
        tls=[some(hosts=list(t.hosts), secretName=t.secret) for t in obj.tls],
    )
    return {"spec": spec, "status": {"loadBalancer": _load_balancer(obj.load_balancer)}}


def _backend(backend: IngressBackend) -> Tree:
    if not backend.service:
        return {}
    port = {"number": backend.port} if isinstance(backend.port, int) else {"name": backend.port}
    return {"service": {"name": backend.service, "port": port}}


def ingress_class_tree(obj: IngressClass, start: Start) -> Tree:
    """spec of an IngressClass."""
    return {"spec": {"controller": obj.controller}}
