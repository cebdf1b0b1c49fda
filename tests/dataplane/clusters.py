"""Clusters made by hand for the data plane's tests."""

from dataclasses import replace

from kflab.dataplane.nginx import IngressConfig, config_of
from kflab.dataplane.world import StaticWorld
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_config import ConfigMap, KubeProxyConfiguration
from kflab.manifest.objects_network import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Ingress,
    IngressBackend,
    IngressClass,
    IngressPath,
    IngressRule,
    IngressTLS,
    Service,
    ServicePort,
)
from kflab.manifest.objects_pods import Container, ContainerPort, Pod, PodSpec, PodStatus

INGRESS_SERVICE = Key("Service", "ingress-nginx", "ingress-nginx-controller")
PRODUCT_SERVICE = Key("Service", "default", "product-service")
SERVICE_LABEL = "kubernetes.io/service-name"


def node(name: str, ip: str, pod_cidr: str, zone: str = "") -> Node:
    labels = {"kubernetes.io/hostname": name, **({"topology.kubernetes.io/zone": zone} if zone else {})}
    return Node(Meta(name, labels=labels), pod_cidrs=(pod_cidr,), internal_ips=(ip,))


def pod(namespace: str, name: str, ip: str, on: str, port: int) -> Pod:
    container = Container("main", ports=(ContainerPort(port),))
    return Pod(
        Meta(name, namespace),
        spec=PodSpec((container,), node_name=on),
        status=PodStatus("Running", (ip,), ready=True),
    )


def slice_of(service: Key, pods: list[Pod], port: int, port_name: str = "", protocol: str = "TCP") -> EndpointSlice:
    endpoints = tuple(
        Endpoint((item.ip,), True, True, False, node_name=item.spec.node_name, target=item.key) for item in pods
    )
    meta = Meta(f"{service.name}-x1", service.namespace, labels={SERVICE_LABEL: service.name})
    return EndpointSlice(meta, endpoints=endpoints, ports=(EndpointPort(port, port_name, protocol),))


def overview(*, defaults: bool = False) -> list[KubeObject]:
    """The brief's example; `defaults` leaves out externalTrafficPolicy Local and service-upstream."""
    ingress_pods = [
        pod("ingress-nginx", "ingress-nginx-controller-7d4f9-4kq2x", "10.244.1.10", "node-a", 443),
        pod("ingress-nginx", "ingress-nginx-controller-7d4f9-9zl7p", "10.244.1.11", "node-a", 443),
    ]
    names = ("7xk2p", "m4dd8", "q8rwz")
    product_pods = [
        pod("default", f"product-5b6c8-{name}", f"10.244.2.{25 + i}", "node-b", 8080) for i, name in enumerate(names)
    ]
    coredns = pod("kube-system", "coredns-6f6b6-zz7rt", "10.244.2.2", "node-b", 53)
    dns_key = Key("Service", "kube-system", "kube-dns")
    annotations = {} if defaults else {"nginx.ingress.kubernetes.io/service-upstream": "true"}
    backend = IngressBackend("product-service", 80)
    return [
        node("node-a", "10.0.1.50", "10.244.1.0/24"),
        node("node-b", "10.0.1.51", "10.244.2.0/24"),
        KubeProxyConfiguration(Meta("kube-proxy"), cluster_cidrs=("10.244.0.0/16",)),
        IngressClass(Meta("nginx"), controller="k8s.io/ingress-nginx"),
        ConfigMap(Meta("ingress-nginx-controller", "ingress-nginx"), data={"upstream-keepalive-connections": "0"}),
        *ingress_pods,
        *product_pods,
        coredns,
        Service(
            Meta(
                INGRESS_SERVICE.name,
                INGRESS_SERVICE.namespace,
                annotations={"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"},
            ),
            type="LoadBalancer",
            ports=(ServicePort(443, "", "TCP", 443, 30443),),
            cluster_ips=("10.96.7.7",),
            external_traffic_policy="Cluster" if defaults else "Local",
            health_check_node_port=0 if defaults else 32123,
        ),
        Service(
            Meta(PRODUCT_SERVICE.name, "default"),
            ports=(ServicePort(80, "", "TCP", 8080),),
            cluster_ips=("10.96.100.50",),
        ),
        Service(
            Meta("kube-dns", "kube-system"),
            ports=(ServicePort(53, "dns", "UDP", 53), ServicePort(53, "dns-tcp", "TCP", 53)),
            cluster_ips=("10.96.0.10",),
        ),
        slice_of(INGRESS_SERVICE, ingress_pods, 443),
        slice_of(PRODUCT_SERVICE, product_pods, 8080),
        slice_of(dns_key, [coredns], 53, "dns", "UDP"),
        Ingress(
            Meta("api-ingress", "default", annotations=annotations),
            ingress_class="nginx",
            rules=(IngressRule("api.example.com", (IngressPath("/products", "Prefix", backend),)),),
            tls=(IngressTLS(("api.example.com",), "api-example-com-tls"),),
        ),
    ]


def ingress_config(objects: list[KubeObject]) -> IngressConfig:
    config_map = next(item for item in objects if isinstance(item, ConfigMap))
    return config_of(objects, config_map)


def world(objects: list[KubeObject], **changes: object) -> StaticWorld:
    controllers = [item.key for item in objects if isinstance(item, Pod) and item.meta.namespace == "ingress-nginx"]
    config = ingress_config(objects)
    made = StaticWorld.of(
        objects,
        load_balancers={"52.100.10.20": INGRESS_SERVICE},
        public={"api.example.com": ("52.100.10.20",)},
        ingress=dict.fromkeys(controllers, config),
        revision=41,
        written_ns=-57_300_000_000,
    )
    return replace(made, **changes) if changes else made  # type: ignore[arg-type]  # field names are the caller's
