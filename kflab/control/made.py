"""Objects that the lab makes because the manifests use them without giving them, each with what it assumes.

Every function returns typed objects, a sentence that says what was assumed, and how to override it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kflab.control.alb import is_alb
from kflab.control.ingressclass import (
    NGINX_CONTROLLER,
    ControllerIdentity,
    class_of,
    recognise,
    unserved,
)
from kflab.control.listening import ANNOTATION
from kflab.control.priorities import CLUSTER_CRITICAL
from kflab.manifest.app_annotations import DELAYS
from kflab.manifest.corefile import CONFIG_MAP
from kflab.manifest.objects import KubeObject, LabelSelector, Meta
from kflab.manifest.objects_cluster import Namespace, Node
from kflab.manifest.objects_network import Ingress, IngressClass, Service, ServicePort
from kflab.manifest.objects_pods import Container, ContainerPort, Pod, PodSpec, PodTemplate, Probe
from kflab.manifest.objects_workloads import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kflab.records import dataclass

ALWAYS = ("default", "kube-system", "kube-public", "kube-node-lease")
"""Namespaces that every cluster has."""

NODE_SIZE = {"cpu": "8", "memory": "32Gi", "pods": "110"}
"""status.allocatable of made nodes (M)."""

ZONES = ("zone-a", "zone-b", "zone-c")

INGRESS_NAMESPACE = "ingress-nginx"

INGRESS_IMAGE = "registry.k8s.io/ingress-nginx/controller:v1.15.1"

LAMEDUCK = {DELAYS["app_stop_listening_s"]: "5s", DELAYS["app_exit_s"]: "5s"}
"""CoreDNS goes on answering for 5 s after SIGTERM: `health { lameduck 5s }` of kubeadm's Corefile (k/k
cmd/kubeadm/app/phases/addons/dns/manifests.go), where no ConfigMap says otherwise."""

COREDNS_IMAGE = "registry.k8s.io/coredns/coredns:v1.12.0"
"""The version of kubeadm 1.33."""

CLIENT_IMAGE = "curlimages/curl:8.12.1"
CLIENT_COMMAND = ("sleep", "infinity")

DNS_IP = "10.96.0.10"


@dataclass(frozen=True, slots=True)
class Made:
    """What was made and why."""

    objects: tuple[KubeObject, ...] = ()
    assumptions: tuple[tuple[str, str], ...] = ()
    """(what the lab assumed, how to override it)."""

    def __add__(self, other: "Made") -> "Made":
        return Made((*self.objects, *other.objects), (*self.assumptions, *other.assumptions))


def node_labels(name: str, zone: str) -> dict[str, str]:
    """Labels that a kubelet and a cloud put on a node.

    The beta labels are still kept beside the stable ones (k8s.io/kubernetes pkg/controller/nodelifecycle,
    reconcileNodeLabels), and older manifests select by them.
    """
    return {
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": zone,
    }


def nodes(count: int = 3) -> Made:
    """Nodes node-1 … with pod CIDRs 10.244.N.0/24 and addresses 10.0.x.y, over three zones."""
    found = []
    for i in range(1, count + 1):
        name = f"node-{i}"
        found.append(
            Node(
                Meta(name, labels=node_labels(name, ZONES[(i - 1) % len(ZONES)])),
                pod_cidrs=(pod_cidr(i),),
                internal_ips=(node_address(i),),
                allocatable=dict(NODE_SIZE),
            )
        )
    names = "node-1" if count == 1 else f"node-1 to node-{count}"
    text = f"the manifests name no node: {count} were made, {names}, Ready, over zones {', '.join(ZONES[:count])}"
    text += f", each with room for {NODE_SIZE['cpu']} CPUs, {NODE_SIZE['memory']} and {NODE_SIZE['pods']} pods"
    return Made(tuple(found), ((text, "give Node objects (status.allocatable tells their size), or --nodes N"),))


def pod_cidr(i: int) -> str:
    """The i-th node's /24: of 10.244.0.0/16, further nodes of the ranges behind it."""
    return f"10.{244 + i // 256}.{i % 256}.0/24" if i < 256 * 12 else f"100.{64 + i // 256}.{i % 256}.0/24"


def node_address(i: int) -> str:
    """The i-th node's own address, from 10.0.1.1 on."""
    return f"10.0.{1 + i // 250}.{10 + i % 250 if i < 240 else 1 + i % 250}"


def used_node(name: str, i: int) -> Node:
    """A Node that given pods run on, or that a given Node lacks nothing of but labels."""
    return Node(Meta(name, labels=node_labels(name, ZONES[(i - 1) % len(ZONES)])))


def namespaces(used: Iterable[str], given: Iterable[str]) -> Made:
    """Namespaces that objects are in and nobody gave; the ones that every cluster has go without saying."""
    known = set(given)
    missing = [name for name in dict.fromkeys((*ALWAYS, *used)) if name and name not in known]
    said = [name for name in missing if name not in ALWAYS]
    objects = tuple(Namespace(Meta(name, labels={"kubernetes.io/metadata.name": name})) for name in missing)
    if not said:
        return Made(objects)
    many = "namespaces" if len(said) > 1 else "namespace"
    return Made(
        objects, ((f"{many} {', '.join(said)} made: objects are in it, nobody gave it", "give Namespace objects"),)
    )


def ingress_controller(
    name: str = "ingress-nginx-controller",
    controller_class: str = NGINX_CONTROLLER,
    ingress_class: str = "nginx",
    *,
    without_class: bool = True,
    why: str = "",
) -> Made:
    """An ingress-nginx-like controller behind a LoadBalancer Service, as upstream's cloud manifest has it.

    Source: kubernetes/ingress-nginx deploy/static/provider/cloud/deploy.yaml.
    """
    labels = {
        "app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller",
        "app.kubernetes.io/instance": name,
    }  # fmt: skip
    args = (
        "/nginx-ingress-controller",
        f"--publish-service=$(POD_NAMESPACE)/{name}",
        f"--election-id={name}-leader",
        f"--controller-class={controller_class}",
        f"--ingress-class={ingress_class}",
        f"--configmap=$(POD_NAMESPACE)/{name}",
        f"--watch-ingress-without-class={'true' if without_class else 'false'}",
    )
    health = Probe("httpGet", 10254, "/healthz", initial_delay_s=10)
    container = Container(
        "controller", INGRESS_IMAGE,
        (ContainerPort(80, "http"), ContainerPort(443, "https"), ContainerPort(8443, "webhook")),
        args, readiness=health, liveness=replace(health, failure=5),
    )  # fmt: skip
    selector = LabelSelector(labels)
    deployment = Deployment(
        Meta(name, INGRESS_NAMESPACE, labels), selector=selector,
        template=PodTemplate(labels, {}, PodSpec((container,), grace_s=300)),
    )  # fmt: skip
    service = Service(
        Meta(name, INGRESS_NAMESPACE, labels, {"service.beta.kubernetes.io/aws-load-balancer-type": "nlb"}),
        type="LoadBalancer",
        ports=(ServicePort(80, "http", target="http"), ServicePort(443, "https", target="https")),
        selector=labels,
        external_traffic_policy="Local",
    )
    text = (
        f"{why or 'Ingresses without a controller'}: an ingress-nginx-like controller was made (behaves as v1.15.1), "
    )
    text += f"Deployment and LoadBalancer Service {INGRESS_NAMESPACE}/{name}"
    return Made((deployment, service), ((text, "give your controller's manifests and its IngressClass"),))


def ingress_controllers(objects: Sequence[KubeObject]) -> Made:
    """Controllers for the Ingresses that nobody among the objects serves, one per controller string."""
    made = Made()
    taken = {(obj.meta.namespace, obj.meta.name) for obj in objects if isinstance(obj, Deployment)}
    identities = list(controllers_in(objects))
    while True:
        classes = [obj for obj in objects if isinstance(obj, IngressClass)]
        left = [each for each in unserved((*objects, *made.objects), identities) if not is_alb(each, classes)]
        if not left:
            return made
        made += _controller_for(left[0], objects, identities, taken)


def _controller_for(
    ingress: Ingress,
    objects: Sequence[KubeObject],
    identities: list[ControllerIdentity],
    taken: set[tuple[str, str]],
) -> Made:
    class_name, annotated = class_of(ingress)
    known = next((c for c in objects if isinstance(c, IngressClass) and c.meta.name == class_name), None)
    controller = known.controller if known is not None and not annotated else NGINX_CONTROLLER
    same = next((i for i in identities if i.controller_class == controller and not annotated), None)
    if same is not None and class_name and known is None and not same.watch_namespace:
        # A controller is there; only the IngressClass object that leads to it is missing.
        missing = IngressClass(Meta(class_name), controller=controller)
        text = f"IngressClass {class_name} was made for controller {controller}: Ingress {ingress.meta.name} names it"
        return Made((missing,), ((text, f"give IngressClass {class_name}"),))
    name, n = "ingress-nginx-controller", 1
    while (INGRESS_NAMESPACE, name) in taken:
        n += 1
        name = f"ingress-nginx-controller-{n}"
    taken.add((INGRESS_NAMESPACE, name))
    if same is not None:
        # The string is taken by a controller that does not serve this Ingress: the made one gets its own.
        controller = f"{controller}-{n}"
    why = f"nobody serves Ingress {ingress.meta.namespace}/{ingress.meta.name}"
    why += f" (class {class_name})" if class_name else " (no class)"
    made = ingress_controller(name, controller, class_name or "nginx", without_class=not class_name or n == 1, why=why)
    if class_name and not annotated and known is None:
        made += Made((IngressClass(Meta(class_name), controller=controller),))
    identities.extend(controllers_in(made.objects))
    return made


def controllers_in(objects: Iterable[KubeObject]) -> Iterable[ControllerIdentity]:
    """Ingress controllers among workloads and bare pods."""
    for obj in objects:
        spec: PodSpec | None = None
        if isinstance(obj, Deployment | DaemonSet | StatefulSet | ReplicaSet):
            spec = obj.template.spec
        elif isinstance(obj, Pod):
            spec = obj.spec
        identity = recognise(spec, obj.meta.namespace) if spec is not None else None
        if identity is not None:
            yield identity


def coredns(objects: Iterable[KubeObject]) -> Made:
    """CoreDNS and Service kube-dns, unless a Service of that name or with that address is there."""
    for obj in objects:
        if isinstance(obj, Service) and obj.meta.namespace == "kube-system":
            if obj.meta.name in ("kube-dns", "coredns") or obj.cluster_ip == DNS_IP:
                return Made()
    labels = {"k8s-app": "kube-dns"}
    lameduck = {} if any(obj.key == CONFIG_MAP for obj in objects) else dict(LAMEDUCK)
    health = Probe("httpGet", 8080, "/health", initial_delay_s=60, timeout_s=5, failure=5)
    container = Container(
        "coredns", COREDNS_IMAGE,
        (ContainerPort(53, "dns", "UDP"), ContainerPort(53, "dns-tcp"), ContainerPort(9153, "metrics")),
        ("-conf", "/etc/coredns/Corefile"), readiness=Probe("httpGet", 8181, "/ready"), liveness=health,
    )  # fmt: skip
    deployment = Deployment(
        Meta("coredns", "kube-system", labels), replicas=2, selector=LabelSelector(labels),
        template=PodTemplate(labels, lameduck, PodSpec((container,), priority_class=CLUSTER_CRITICAL)),
    )  # fmt: skip
    service = Service(
        Meta("kube-dns", "kube-system", {**labels, "kubernetes.io/name": "CoreDNS"}),
        ports=(
            ServicePort(53, "dns", "UDP", 53), ServicePort(53, "dns-tcp", "TCP", 53),
            ServicePort(9153, "metrics", "TCP", 9153),
        ),
        selector=labels, cluster_ips=(DNS_IP,),
    )  # fmt: skip
    text = f"cluster DNS was made: CoreDNS, 2 pods, Service kube-system/kube-dns {DNS_IP}, as kubeadm installs it"
    return Made((deployment, service), ((text, "give a Service kube-system/kube-dns and its pods"),))


def is_client(pod: Pod) -> bool:
    """Whether a pod is the client that `client_pod` makes."""
    return pod.meta.annotations.get(ANNOTATION) == "" and any(
        container.image == CLIENT_IMAGE and container.command == CLIENT_COMMAND for container in pod.spec.containers
    )


def client_pod(namespace: str = "default", name: str = "client") -> Made:
    """A pod that only sends requests."""
    container = Container("client", CLIENT_IMAGE, command=CLIENT_COMMAND)
    pod = Pod(Meta(name, namespace, {"app.kubernetes.io/name": name}, {ANNOTATION: ""}), spec=PodSpec((container,)))
    text = f"pod {namespace}/{name} was made to call Services that nothing in these manifests calls, 1 request/s each"
    text += "; drains leave it where it is"
    return Made((pod,), ((text, "give clients in a scenario, or --url URL"),))
