"""Services, the endpoints behind them, and Ingresses in front."""

from dataclasses import field

from kflab.manifest.objects import Key, KubeObject, Labels
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One Service port. `target` is a number or a container port name."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target: int | str = 0
    """Defaults to `port` (the loader fills it)."""
    node_port: int = 0
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class LoadBalancerIngress:
    """One status.loadBalancer.ingress entry."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str = "VIP"


@dataclass(frozen=True, slots=True)
class Service(KubeObject):
    """v1 Service."""

    type: str = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()
    selector: Labels = field(default_factory=dict)
    """Empty: no selector, EndpointSlices are given by hand."""
    cluster_ips: tuple[str, ...] = ()
    """() before allocation; ("None",) headless."""
    external_ips: tuple[str, ...] = ()
    external_name: str = ""
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    session_affinity: str = "None"
    affinity_timeout_s: int = 10800
    health_check_node_port: int = 0
    load_balancer_class: str = ""
    load_balancer_source_ranges: tuple[str, ...] = ()
    load_balancer_ip: str = ""
    allocate_node_ports: bool = True
    publish_not_ready: bool = False
    traffic_distribution: str = ""
    ip_families: tuple[str, ...] = ("IPv4",)
    ip_family_policy: str = "SingleStack"
    load_balancer: tuple[LoadBalancerIngress, ...] = ()
    """status.loadBalancer.ingress."""

    @property
    def headless(self) -> bool:
        return self.cluster_ips == ("None",)

    @property
    def cluster_ip(self) -> str:
        return self.cluster_ips[0] if self.cluster_ips else ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of an EndpointSlice. None means the field is absent."""

    addresses: tuple[str, ...]
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None
    node_name: str = ""
    zone: str = ""
    hostname: str = ""
    target: Key | None = None
    hint_zones: tuple[str, ...] = ()
    hint_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """One EndpointSlice port. `port` None means all ports."""

    port: int | None
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class EndpointSlice(KubeObject):
    """discovery.k8s.io/v1 EndpointSlice; its Service is label `kubernetes.io/service-name`."""

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service(self) -> Key:
        return Key("Service", self.meta.namespace, self.meta.labels.get("kubernetes.io/service-name", ""))


@dataclass(frozen=True, slots=True)
class EndpointSubset:
    """Addresses that share the same ports."""

    addresses: tuple[tuple[str, Key | None, str], ...]
    """(ip, target, node name) of ready endpoints."""
    not_ready: tuple[tuple[str, Key | None, str], ...]
    ports: tuple[EndpointPort, ...]


@dataclass(frozen=True, slots=True)
class Endpoints(KubeObject):
    """v1 Endpoints: the Service of the same name."""

    subsets: tuple[EndpointSubset, ...] = ()


@dataclass(frozen=True, slots=True)
class IngressBackend:
    """Service backend: `port` is a number or a Service port name. `service` "" for resource backends."""

    service: str = ""
    port: int | str = 0


@dataclass(frozen=True, slots=True)
class IngressPath:
    """One path of a rule. `path_type` is Exact, Prefix or ImplementationSpecific."""

    path: str
    path_type: str
    backend: IngressBackend


@dataclass(frozen=True, slots=True)
class IngressRule:
    """One rule; host "" matches every host."""

    host: str = ""
    paths: tuple[IngressPath, ...] = ()


@dataclass(frozen=True, slots=True)
class IngressTLS:
    """One tls entry."""

    hosts: tuple[str, ...] = ()
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Ingress(KubeObject):
    """networking.k8s.io/v1 Ingress."""

    ingress_class: str | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTLS, ...] = ()
    default_backend: IngressBackend | None = None
    load_balancer: tuple[LoadBalancerIngress, ...] = ()


@dataclass(frozen=True, slots=True)
class IngressClass(KubeObject):
    """networking.k8s.io/v1 IngressClass."""

    controller: str = ""

    @property
    def default(self) -> bool:
        return self.meta.annotations.get("ingressclass.kubernetes.io/is-default-class") == "true"
