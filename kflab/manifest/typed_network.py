"""Services, EndpointSlices and Ingresses.

Defaults: k8s.io/kubernetes pkg/apis/core/v1/defaults.go (SetDefaults_Service), pkg/apis/discovery/v1/defaults.go.
"""

from typing import Any

from kflab.manifest.addresses import family, sloppy_cidr, sloppy_ip
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import (
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    EndpointSubset,
    Ingress,
    IngressBackend,
    IngressPath,
    IngressRule,
    IngressTLS,
    LoadBalancerIngress,
    Service,
    ServicePort,
)
from kflab.manifest.typed_common import Given, Tree, protocol_of, text_map

SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
ASSUMED_BACKEND_PORT = 80
"""For an Ingress backend that names no port at all, which the API server refuses."""


def service(tree: Tree, given: Given) -> Service:
    """v1 Service."""
    spec = tree.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    kind = kind if kind in SERVICE_TYPES else "ClusterIP"
    cluster_ips = tuple(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    cluster_ips = ("None",) if "None" in cluster_ips else _usual(cluster_ips)
    affinity = spec.get("sessionAffinity") or "None"
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    allocate = spec.get("allocateLoadBalancerNodePorts")
    policy = spec.get("ipFamilyPolicy")
    if policy not in FAMILY_POLICIES:
        policy = "RequireDualStack" if len(cluster_ips) > 1 else "SingleStack"
    return Service(
        given.meta,
        given.raw,
        given.place,
        type=kind,
        ports=tuple(_service_port(p) for p in spec.get("ports") or () if p.get("port")),
        selector=text_map(spec.get("selector")),
        cluster_ips=cluster_ips,
        external_ips=_usual(spec.get("externalIPs")),
        external_name=spec.get("externalName") or "",
        external_traffic_policy="Local" if spec.get("externalTrafficPolicy") == "Local" else "Cluster",
        internal_traffic_policy="Local" if spec.get("internalTrafficPolicy") == "Local" else "Cluster",
        session_affinity="ClientIP" if affinity == "ClientIP" else "None",
        affinity_timeout_s=int(timeout) if timeout and timeout > 0 else 10800,
        health_check_node_port=int(spec.get("healthCheckNodePort") or 0),
        load_balancer_class=spec.get("loadBalancerClass") or "",
        load_balancer_source_ranges=_source_ranges(spec, given),
        load_balancer_ip=sloppy_ip(spec.get("loadBalancerIP") or "") or "",
        allocate_node_ports=True if allocate is None else bool(allocate),
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
        traffic_distribution=spec.get("trafficDistribution") or "",
        ip_families=_families(spec, cluster_ips),
        ip_family_policy=policy,
        load_balancer=load_balancer(tree),
    )


def _service_port(tree: Tree) -> ServicePort:
    port = int(tree["port"])
    return ServicePort(
        port=port,
        name=tree.get("name") or "",
        protocol=protocol_of(tree),
        target=tree.get("targetPort") or port,
        node_port=int(tree.get("nodePort") or 0),
        app_protocol=tree.get("appProtocol") or "",
    )


def _source_ranges(spec: Tree, given: Given) -> tuple[str, ...]:
    """spec.loadBalancerSourceRanges, else the old annotation.

    Source: pkg/api/v1/service/util.go, GetLoadBalancerSourceRanges.
    """
    ranges = spec.get("loadBalancerSourceRanges")
    if not ranges:
        text = given.meta.annotations.get("service.beta.kubernetes.io/load-balancer-source-ranges", "").strip()
        ranges = text.split(",") if text and spec.get("type") == "LoadBalancer" else []
    return tuple(usual for text in ranges if text and (usual := sloppy_cidr(text)))


def _usual(addresses: Any) -> tuple[str, ...]:
    """The addresses that are some, in their usual form."""
    return tuple(usual for text in addresses or () if text and (usual := sloppy_ip(text)))


def _families(spec: Tree, cluster_ips: tuple[str, ...]) -> tuple[str, ...]:
    given = tuple(name for name in spec.get("ipFamilies") or () if name in ("IPv4", "IPv6"))
    if given:
        return given
    told = tuple(dict.fromkeys(family(ip) for ip in cluster_ips if sloppy_ip(ip)))
    return told or ("IPv4",)


def load_balancer(tree: Tree) -> tuple[LoadBalancerIngress, ...]:
    """status.loadBalancer.ingress."""
    entries = ((tree.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return tuple(
        LoadBalancerIngress(
            sloppy_ip(e.get("ip") or "") or "",
            e.get("hostname") or "",
            "Proxy" if e.get("ipMode") == "Proxy" else "VIP",
        )
        for e in entries
    )


def endpoint_slice(tree: Tree, given: Given) -> EndpointSlice:
    """discovery.k8s.io/v1 EndpointSlice."""
    names = tree.get("addressType") == "FQDN"
    endpoints = tuple(_endpoint(e, given, names) for e in tree.get("endpoints") or ())
    first = next((address for e in endpoints for address in e.addresses), "")
    return EndpointSlice(
        given.meta,
        given.raw,
        given.place,
        address_type=tree.get("addressType") or (family(first) if first else "IPv4"),
        endpoints=tuple(e for e in endpoints if e.addresses),
        ports=_endpoint_ports(tree),
    )


def _endpoint_ports(tree: Tree) -> tuple[EndpointPort, ...]:
    return tuple(
        EndpointPort(
            None if p.get("port") is None else int(p["port"]),
            p.get("name") or "",
            protocol_of(p),
            p.get("appProtocol") or "",
        )
        for p in tree.get("ports") or ()
    )


def endpoints(tree: Tree, given: Given) -> Endpoints:
    """v1 Endpoints."""
    subsets = []
    for part in tree.get("subsets") or ():
        ready, not_ready = (
            tuple(
                (ip, _target(e.get("targetRef"), given), e.get("nodeName") or "")
                for e in part.get(name) or ()
                if (ip := sloppy_ip(e.get("ip") or ""))
            )
            for name in ("addresses", "notReadyAddresses")
        )
        subsets.append(EndpointSubset(ready, not_ready, _endpoint_ports(part)))
    return Endpoints(given.meta, given.raw, given.place, tuple(subsets))


def _target(tree: Tree | None, given: Given) -> Key | None:
    if not tree:
        return None
    return Key(tree.get("kind") or "", tree.get("namespace") or given.meta.namespace, tree.get("name") or "")


def _endpoint(tree: Tree, given: Given, names: bool) -> Endpoint:
    conditions = tree.get("conditions") or {}
    hints = tree.get("hints") or {}
    return Endpoint(
        addresses=tuple(tree.get("addresses") or ()) if names else _usual(tree.get("addresses")),
        ready=conditions.get("ready"),
        serving=conditions.get("serving"),
        terminating=conditions.get("terminating"),
        node_name=tree.get("nodeName") or "",
        zone=tree.get("zone") or "",
        hostname=tree.get("hostname") or "",
        target=_target(tree.get("targetRef"), given),
        hint_zones=tuple(z.get("name") or "" for z in hints.get("forZones") or ()),
        hint_nodes=tuple(n.get("name") or "" for n in hints.get("forNodes") or ()),
    )


def ingress(tree: Tree, given: Given) -> Ingress:
    """networking.k8s.io/v1 Ingress, and its older versions, whose backends are flat."""
    spec = tree.get("spec") or {}
    rules = []
    for rule in spec.get("rules") or ():
        paths = (rule.get("http") or {}).get("paths") or ()
        rules.append(IngressRule(rule.get("host") or "", tuple(_path(p) for p in paths)))
    default = spec.get("defaultBackend") or spec.get("backend")
    return Ingress(
        given.meta,
        given.raw,
        given.place,
        ingress_class=spec.get("ingressClassName") or None,
        rules=tuple(rules),
        tls=tuple(IngressTLS(tuple(t.get("hosts") or ()), t.get("secretName") or "") for t in spec.get("tls") or ()),
        default_backend=_backend(default) if default else None,
        load_balancer=load_balancer(tree),
    )


def _path(tree: Tree) -> IngressPath:
    path = tree.get("path") or "/"
    path_type = tree.get("pathType")
    return IngressPath(
        path if path.startswith("/") else "/" + path,
        path_type if path_type in PATH_TYPES else "ImplementationSpecific",
        _backend(tree.get("backend") or {}),
    )


def _backend(tree: Tree) -> IngressBackend:
    inner = tree.get("service")
    if inner:
        return IngressBackend(inner.get("name") or "", _backend_port(inner.get("port")))
    if tree.get("serviceName"):
        return IngressBackend(tree["serviceName"], tree.get("servicePort") or ASSUMED_BACKEND_PORT)
    return IngressBackend()


def _backend_port(port: Any) -> int | str:
    """A port {name} or {number}; a bare number or name is taken for what it means."""
    if isinstance(port, dict):
        return int(port["number"]) if port.get("number") else port.get("name") or ASSUMED_BACKEND_PORT
    if isinstance(port, float):
        return int(port)
    return port if isinstance(port, int | str) and port and not isinstance(port, bool) else ASSUMED_BACKEND_PORT
