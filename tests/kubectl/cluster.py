"""A small settled cluster, made by hand, and a lab that answers what a test tells it to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kflab.cluster.store import Store
from kflab.control.facts import Fact
from kflab.dataplane.conntrack import Entry, Life, NodeTable, Tracked
from kflab.dataplane.packets import Packet
from kflab.kubectl.curl import CurlAnswer, CurlRequest
from kflab.kubectl.logs import AccessRecord, UpstreamTry
from kflab.kubectl.portforward import Forwards
from kflab.manifest.objects import Condition, Key, LabelSelector, Meta
from kflab.manifest.objects_cluster import Namespace, Node
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
    LoadBalancerIngress,
    Service,
    ServicePort,
)
from kflab.manifest.objects_pods import Container, ContainerPort, ContainerStatus, Pod, PodSpec, PodStatus, PodTemplate
from kflab.manifest.objects_workloads import Deployment, ReplicaSet

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
OLD = -5 * MINUTE
"""When everything was made: five minutes before the lab opened."""

NAMES = ("product-7c9d8f6b5-4kq2x", "product-7c9d8f6b5-8zt4c", "product-7c9d8f6b5-m4dd8")

RULES = """\
*nat
:KUBE-SERVICES - [0:0]
-A KUBE-SERVICES -d 10.96.100.50/32 -p tcp -m comment --comment "default/product-service cluster IP" -j KUBE-SVC-ABC
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -j KUBE-SVC-DEF
-A KUBE-SVC-ABC -m comment --comment "default/product-service -> 10.244.2.25:8080" -j KUBE-SEP-1
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
COMMIT
"""


def pod(
    name: str,
    ip: str,
    node: str,
    *,
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    container: Container | None = None,
    owner: Key | None = None,
    status: ContainerStatus | None = None,
    phase: str = "Running",
    ready: bool = True,
    meta: Meta | None = None,
) -> Pod:
    """A pod of one container, running unless told otherwise."""
    container = container or Container("api", "product-api:v1", (ContainerPort(8080, "http"),))
    running = ContainerStatus(container.name, "running", "", ready, 0, OLD)
    return Pod(
        meta or Meta(name, namespace, labels or {"app": "product"}, uid=f"uid-{name}", creation_ns=OLD, owner=owner),
        spec=PodSpec((container,), node_name=node),
        status=PodStatus(
            phase,
            (ip,) if ip else (),
            ("10.0.1.51",),
            ready,
            OLD if ready else None,
            OLD,
            OLD,
            "",
            (status or running,),
        ),
    )


def brief() -> Store:
    """The cluster of the request-flow overview."""
    store = Store()

    def put(*objects: object) -> None:
        for obj in objects:
            store.put(obj, OLD, "user")  # type: ignore[arg-type]  # every argument is a KubeObject

    for name in ("default", "ingress-nginx", "kube-system"):
        put(Namespace(Meta(name, creation_ns=OLD)))
    for name, ip, cidr in (("node-a", "10.0.1.50", "10.244.1.0/24"), ("node-b", "10.0.1.51", "10.244.2.0/24")):
        put(Node(Meta(name, creation_ns=OLD), pod_cidrs=(cidr,), internal_ips=(ip,)))
    product = LabelSelector({"app": "product"})
    template = PodTemplate({"app": "product"}, spec=PodSpec((Container("api", "product-api:v1"),)))
    counts = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
    put(
        Deployment(
            Meta("product", "default", creation_ns=OLD),
            replicas=3,
            selector=product,
            template=template,
            observed=counts,
            conditions=(
                Condition("Available", "True", "MinimumReplicasAvailable"),
                Condition("Progressing", "True", "NewReplicaSetAvailable"),
            ),
        ),
        ReplicaSet(
            Meta("product-7c9d8f6b5", "default", creation_ns=OLD, owner=Key("Deployment", "default", "product")),
            replicas=3,
            selector=product,
            template=template,
            observed=counts,
        ),
        Service(
            Meta("product-service", "default", creation_ns=OLD),
            ports=(ServicePort(80, target=8080),),
            selector={"app": "product"},
            cluster_ips=("10.96.100.50",),
        ),
    )
    owner = Key("ReplicaSet", "default", "product-7c9d8f6b5")
    for name, ip in zip(NAMES, ("10.244.2.25", "10.244.2.26", "10.244.2.27"), strict=True):
        put(pod(name, ip, "node-b", owner=owner))
    put(
        EndpointSlice(
            Meta(
                "product-service-x7k2p", "default", {"kubernetes.io/service-name": "product-service"}, creation_ns=OLD
            ),
            endpoints=tuple(
                Endpoint((f"10.244.2.{25 + i}",), True, True, False, "node-b", target=Key("Pod", "default", name))
                for i, name in enumerate(NAMES)
            ),
            ports=(EndpointPort(8080),),
        ),
        IngressClass(Meta("nginx", creation_ns=OLD), controller="k8s.io/ingress-nginx"),
        Ingress(
            Meta(
                "api-ingress",
                "default",
                annotations={"nginx.ingress.kubernetes.io/service-upstream": "true"},
                creation_ns=OLD,
            ),
            ingress_class="nginx",
            rules=(
                IngressRule(
                    "api.example.com", (IngressPath("/products", "Prefix", IngressBackend("product-service", 80)),)
                ),
            ),
            tls=(IngressTLS(("api.example.com",), "api-tls"),),
            load_balancer=(LoadBalancerIngress(ip="52.100.10.20"),),
        ),
        Deployment(
            Meta("ingress-nginx-controller", "ingress-nginx", creation_ns=OLD),
            replicas=2,
            selector=LabelSelector({"app": "ingress-nginx"}),
            observed={"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2},
        ),
        Service(
            Meta("ingress-nginx-controller", "ingress-nginx", creation_ns=OLD),
            type="LoadBalancer",
            ports=(ServicePort(443, target=443, node_port=30443),),
            selector={"app": "ingress-nginx"},
            cluster_ips=("10.96.12.7",),
            external_traffic_policy="Local",
            load_balancer=(LoadBalancerIngress(hostname="a1b2c3d4e5f6.elb.eu-central-1.amazonaws.com"),),
        ),
    )
    controller = Container("controller", "registry.k8s.io/ingress-nginx/controller:v1.9.0", (ContainerPort(443),))
    for name, ip in (
        ("ingress-nginx-controller-5d-aaaaa", "10.244.1.10"),
        ("ingress-nginx-controller-5d-bbbbb", "10.244.1.11"),
    ):
        put(
            pod(
                name,
                ip,
                "node-a",
                namespace="ingress-nginx",
                labels={"app": "ingress-nginx"},
                container=controller,
            )
        )
    return store


@dataclass
class FakeLab:
    """An `Env` whose answers a test sets."""

    now_ns: int = 0
    namespace: str = "default"
    forwards: Forwards = field(default_factory=Forwards)
    answer: CurlAnswer = field(default_factory=lambda: CurlAnswer("200", 3_000_000))
    asked: list[CurlRequest] = field(default_factory=list)
    done: list[tuple[object, ...]] = field(default_factory=list)
    happened: list[Fact] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    refusal: str = ""

    def rules_text(self, node: str) -> str:
        return f"# rules of {node}\n{RULES}"

    def conntrack(self, node: str, protocol: str) -> NodeTable:
        packet = Packet("10.244.1.10", 39123, "10.96.100.50", 80)
        back = Packet("10.244.2.25", 8080, "10.244.1.10", 39123)
        life = Life("ESTABLISHED", self.now_ns + 86_397 * SECOND, assured=True)
        entries = (Entry(Tracked(node, packet, back), life),)
        return NodeTable(node, entries, 1234, 131_072)

    def access_log(self, pod: Key) -> Sequence[AccessRecord]:
        if pod.namespace != "ingress-nginx":
            return (AccessRecord(-2 * SECOND, "10.244.1.10", "GET", "/products", "200", 2_500_000),)
        tries = (
            UpstreamTry("10.96.100.50:80", "502", 1_000_000),
            UpstreamTry("10.96.100.50:80", "200", 4_000_000, 512),
        )
        return tuple(
            AccessRecord(
                t_ns,
                "203.0.113.45",
                "GET",
                "/products",
                "200",
                5_900_000,
                "api.example.com",
                body_bytes=512,
                request_length=70,
                upstream_name="default-product-service-80",
                tries=tries,
            )
            for t_ns in (-90 * SECOND, -3 * SECOND, -1 * SECOND)
        )

    def curl(self, request: CurlRequest) -> CurlAnswer:
        self.asked.append(request)
        return self.answer

    def scale(self, workload: Key, replicas: int) -> str:
        self.done.append(("scale", workload, replicas))
        return self.refusal

    def kill(self, pod: Key, how: str) -> str:
        self.done.append(("kill", pod, how))
        return self.refusal

    def act_on_workload(self, verb: str, workload: Key, options: Sequence[tuple[str, int | str]]) -> str:
        return "the fake lab rolls nothing out"

    def act_on_node(self, verb: str, node: str, options: Sequence[tuple[str, int | bool]]) -> str:
        self.done.append((verb, node, tuple(options)))
        return self.refusal

    def facts(self) -> Sequence[Fact]:
        return self.happened

    def running(self, component: str) -> bool:
        return component not in self.stopped

    def talks(self, node: str) -> bool:
        return f"node/{node}" not in self.stopped
