"""Typed, immutable Kubernetes objects: what every room right of `manifest` works with.

Only fields that the lab models are typed; `raw` keeps the whole tree as given. Objects are never edited in place:
controllers use `dataclasses.replace`. Defaults here are those the API server would fill in
(k8s.io/kubernetes pkg/apis/*/v1/defaults.go), so a freshly constructed object is already defaulted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from kflab.errors import Place
from kflab.replacing import quick

Labels = Mapping[str, str]

NO_LABELS: Labels = {}

UNHASHED: Mapping[str, str] = MappingProxyType({"hash": "left out while it has its default"})
"""Metadata of a field that came after pod templates got their hashes: pods keep their names."""


class Key(NamedTuple):
    """Names one object in a cluster. `namespace` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """kubectl's `kind/name`, in lower case."""
        return f"{self.kind.lower()}/{self.name}"


_tuple = tuple.__new__

NO_KEY = Key("", "", "")
"""Names nothing."""


@quick
@dataclass(frozen=True, slots=True)
class Meta:
    """ObjectMeta, as far as the lab reads it."""

    name: str
    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    uid: str = ""
    """Empty until the API server (the store) has accepted the object."""
    creation_ns: int = 0
    """Simulated time of creation in ns; negative before the lab opened."""
    deletion_ns: int | None = None
    """deletionTimestamp minus the grace period, i.e. when delete was called; None while it lives."""
    grace_s: int | None = None
    """deletionGracePeriodSeconds, set with deletion_ns."""
    owner: Key | None = None
    """The controlling ownerReference."""
    generation: int = 1


@dataclass(frozen=True, slots=True)
class KubeObject:
    """Base of all kinds."""

    meta: Meta
    raw: Mapping[str, Any] | None = field(default=None, compare=False)
    """The tree as the user (or dump) gave it, defaults not filled in; None for objects that controllers made."""
    place: Place | None = field(default=None, compare=False)
    """Where the user wrote it; None for made objects."""

    @property
    def kind(self) -> str:
        return type(self).__name__

    @property
    def key(self) -> Key:
        meta = self.meta
        return _tuple(Key, (self.kind, meta.namespace, meta.name))  # asked so often that Key's own way counts


# --- selectors ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Requirement:
    """One matchExpressions entry; `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@quick
@dataclass(frozen=True, slots=True)
class LabelSelector:
    """metav1.LabelSelector. An empty selector matches everything; "no selector" is None where it is used."""

    match_labels: Labels = field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether all requirements hold (apimachinery pkg/labels/selector.go)."""
        for key, value in self.match_labels.items():
            if labels.get(key) != value:
                return False
        for want in self.match_expressions:
            present = want.key in labels
            if want.operator == "In" and (not present or labels[want.key] not in want.values):
                return False
            if want.operator == "NotIn" and present and labels[want.key] in want.values:
                return False
            if want.operator == "Exists" and not present:
                return False
            if want.operator == "DoesNotExist" and present:
                return False
        return True


# --- cluster-scoped -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Namespace(KubeObject):
    """v1 Namespace."""


@dataclass(frozen=True, slots=True)
class Taint:
    """A node taint."""

    key: str
    effect: str
    value: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod toleration; empty `key` with Exists tolerates all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None


@quick
@dataclass(frozen=True, slots=True)
class Node(KubeObject):
    """v1 Node."""

    pod_cidrs: tuple[str, ...] = ()
    internal_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    ready: str = "True"
    """Status of the Ready condition: True, False or Unknown."""
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = ""
    cores: int = 0
    """status.capacity.cpu, whole CPUs; 0 where it is not given."""
    allocatable: Mapping[str, str] = field(default_factory=dict)
    """status.allocatable, or capacity where only that is given; empty: pods find room without end."""


# --- pods and workloads ---------------------------------------------------------------------------------------


@quick
@dataclass(frozen=True, slots=True)
class ContainerPort:
    """One containerPort."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe; `port` is a number or a named container port; `action` is httpGet, tcpSocket, exec or grpc."""

    action: str
    port: int | str | None = None
    path: str = "/"
    initial_delay_s: int = 0
    period_s: int = 10
    timeout_s: int = 1
    success: int = 1
    failure: int = 3


@quick
@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod template."""

    name: str
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()
    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """Literal environment values only, in order."""
    readiness: Probe | None = None
    liveness: Probe | None = None
    startup: Probe | None = None
    pre_stop_sleep_s: int | None = None
    """lifecycle.preStop.sleep.seconds, or an exec of `sleep N` where that is the whole command."""
    pre_stop_hook: bool = field(default=False, metadata=UNHASHED)
    """lifecycle.preStop is something else than a sleep: how long it takes is not written."""
    restart_policy: str = ""
    """"Always" on an init container makes it a sidecar."""
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[tuple[str, str], ...] = field(default=(), metadata=UNHASHED)
    """resources.limits: what a pod requests of a resource where `requests` does not say (SetDefaults_Pod)."""
    pull_policy: str = field(default="", metadata=UNHASHED)
    """imagePullPolicy as written; "": by the image's tag."""

    @property
    def pulls_always(self) -> bool:
        """imagePullPolicy Always: written, or the default for :latest and no tag (SetDefaults_Container)."""
        name = self.image.rpartition("/")[2]
        tag = name.partition(":")[2] if "@" not in name else "digest"
        return self.pull_policy == "Always" or (not self.pull_policy and tag in ("", "latest"))


@quick
@dataclass(frozen=True, slots=True)
class PodSpec:
    """v1 PodSpec, as far as modelled."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    node_selector: Labels = field(default_factory=dict)
    host_network: bool = False
    restart_policy: str = "Always"
    grace_s: int = 30
    tolerations: tuple[Toleration, ...] = ()
    dns_policy: str = "ClusterFirst"
    hostname: str = ""
    subdomain: str = ""
    service_account: str = "default"
    affinity: Mapping[str, Any] | None = None
    readiness_gates: tuple[str, ...] = ()
    overhead: tuple[tuple[str, str], ...] = field(default=(), metadata=UNHASHED)
    """Resources of the sandbox itself, on top of the containers'."""
    priority_class: str = field(default="", metadata=UNHASHED)
    """priorityClassName."""
    dns_options: tuple[tuple[str, str], ...] = field(default=(), metadata=UNHASHED)
    """dnsConfig.options, (name, value)."""
    spread: tuple[Mapping[str, Any], ...] = field(default=(), metadata=UNHASHED)
    """topologySpreadConstraints, as given."""
    priority: int = field(default=0, metadata=UNHASHED)
    """Filled in from the PriorityClass when the pod is made (admission plugin Priority)."""
    preemption_policy: str = field(default="", metadata=UNHASHED)
    """"Never": the pod waits for room; "" is PreemptLowerPriority."""


@quick
@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """status.containerStatuses entry. `state` is waiting, running or terminated."""

    name: str
    state: str = "waiting"
    reason: str = "ContainerCreating"
    ready: bool = False
    restarts: int = 0
    started_ns: int | None = None
    finished_ns: int | None = None
    exit_code: int | None = None
    """Of the state terminated, or of the last termination when running again or waiting."""
    exit_reason: str = ""
    """Reason of that termination; "": Completed for code 0, else Error."""

    @property
    def ended(self) -> str:
        """Why it ended last: Completed, Error or OOMKilled."""
        return self.exit_reason or ("Error" if self.exit_code else "Completed")


@quick
@dataclass(frozen=True, slots=True)
class Condition:
    """One status.conditions entry of a pod or workload."""

    type: str
    status: str
    """True, False or Unknown."""
    reason: str = ""
    message: str = ""
    since_ns: int = 0
    """lastTransitionTime."""
    updated_ns: int = 0
    """lastUpdateTime."""


@dataclass(frozen=True, slots=True)
class PodStatus:
    """v1 PodStatus, as the API server has it: what the kubelet last reported, not what is."""

    phase: str = "Pending"
    pod_ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    ready: bool = False
    """Condition Ready."""
    ready_since_ns: int | None = None
    scheduled_ns: int | None = None
    start_ns: int | None = None
    reason: str = ""
    containers: tuple[ContainerStatus, ...] = ()
    inits: tuple[ContainerStatus, ...] = ()
    """status.initContainerStatuses, sidecars among them."""
    nominated_node: str = ""
    """status.nominatedNodeName: where pods are being deleted to make room for this one."""
    conditions: tuple[Condition, ...] = ()
    """Of the types that spec.readinessGates name: what others than the kubelet have set."""

    @property
    def containers_ready(self) -> bool:
        """Condition ContainersReady."""
        return bool(self.containers) and all(status.ready for status in self.containers)

    def condition(self, type_: str) -> Condition | None:
        """The condition of a type that a readiness gate names; None: nobody has set it."""
        return next((condition for condition in self.conditions if condition.type == type_), None)

    def passes(self, gate: str) -> bool:
        """Whether a readiness gate is passed: a condition that nobody has set counts as False."""
        found = self.condition(gate)
        return found is not None and found.status == "True"

    @property
    def restarts(self) -> int:
        """Of all containers, init containers included."""
        return sum(status.restarts for status in (*self.containers, *self.inits))


@quick
@dataclass(frozen=True, slots=True)
class Pod(KubeObject):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ip(self) -> str:
        """First pod IP, "" before the sandbox exists."""
        return self.status.pod_ips[0] if self.status.pod_ips else ""

    @property
    def terminating(self) -> bool:
        return self.meta.deletion_ns is not None


@quick
@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A workload's spec.template."""

    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    spec: PodSpec = PodSpec()


@quick
@dataclass(frozen=True, slots=True)
class RollingUpdate:
    """Deployment strategy. Values are ints or percentages as text ("25%"); type Recreate ignores them."""

    type: str = "RollingUpdate"
    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


@quick
@dataclass(frozen=True, slots=True)
class Deployment(KubeObject):
    """apps/v1 Deployment."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    strategy: RollingUpdate = RollingUpdate()
    min_ready_s: int = 0
    paused: bool = False
    revision_history_limit: int = 10
    progress_deadline_s: int = 600
    observed: Mapping[str, int] = field(default_factory=dict)
    """status: replicas, updatedReplicas, readyReplicas, availableReplicas."""
    conditions: tuple[Condition, ...] = ()


@quick
@dataclass(frozen=True, slots=True)
class ReplicaSet(KubeObject):
    """apps/v1 ReplicaSet."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    min_ready_s: int = 0
    observed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revision:
    """One template that a StatefulSet or DaemonSet had: what a ControllerRevision object holds."""

    name: str
    """Value of its pods' label controller-revision-hash."""
    number: int
    """Counts up; a template that comes back gets the next number."""
    template: PodTemplate
    code: str
    """Our hash of the template, by which it is known again."""
    raw: Mapping[str, Any] | None = field(default=None, compare=False)
    """The template as the user wrote it, as {"spec": {"template": …}}, so that an undo brings all of it back."""
    cause: str = ""
    """Annotation kubernetes.io/change-cause of the workload when it got this template."""


@dataclass(frozen=True, slots=True)
class StatefulSet(KubeObject):
    """apps/v1 StatefulSet. Its ControllerRevisions are kept with it, not as objects of their own."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    service_name: str = ""
    pod_management: str = "OrderedReady"
    update_type: str = "RollingUpdate"
    """RollingUpdate or OnDelete."""
    partition: int | None = None
    """Ordinals below it keep their revision; None: spec.updateStrategy.rollingUpdate is not given."""
    max_unavailable: int | str | None = None
    """A count or a percentage as text; None: not given, one pod at a time."""
    min_ready_s: int = 0
    start_ordinal: int = 0
    revision_history_limit: int = 10
    observed: Mapping[str, int] = field(default_factory=dict)
    current_revision: str = ""
    update_revision: str = ""
    revisions: tuple[Revision, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonSet(KubeObject):
    """apps/v1 DaemonSet; one pod per fitting node. Its ControllerRevisions are kept with it."""

    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    update: RollingUpdate = RollingUpdate("RollingUpdate", 0, 1)
    """Its type is RollingUpdate or OnDelete."""
    min_ready_s: int = 0
    revision_history_limit: int = 10
    observed: Mapping[str, int] = field(default_factory=dict)
    revisions: tuple[Revision, ...] = ()


@dataclass(frozen=True, slots=True)
class Job(KubeObject):
    """batch/v1 Job."""

    template: PodTemplate = PodTemplate()
    """Its restartPolicy is OnFailure or Never."""
    parallelism: int = 1
    completions: int | None = 1
    """None: one pod that succeeds is enough, and the others are waited for."""
    backoff_limit: int = 6
    active_deadline_s: int | None = None
    ttl_s: int | None = None
    """spec.ttlSecondsAfterFinished; None: it stays."""
    indexed: bool = False
    """completionMode Indexed."""
    suspend: bool = False
    replaces_failed_only: bool = False
    """podReplacementPolicy Failed: a pod that is being deleted is waited for."""
    observed: Mapping[str, int] = field(default_factory=dict)
    """status: active, ready, succeeded, failed, terminating."""
    start_ns: int | None = None
    completion_ns: int | None = None
    completed_indexes: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()


# --- Services -------------------------------------------------------------------------------------------------


@quick
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


@quick
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


@quick
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


@quick
@dataclass(frozen=True, slots=True)
class EndpointPort:
    """One EndpointSlice port. `port` None means all ports."""

    port: int | None
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


@quick
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


# --- Ingress --------------------------------------------------------------------------------------------------


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
class BudgetStatus:
    """PodDisruptionBudgetStatus; all 0 until the disruption controller has looked."""

    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    disruptions_allowed: int = 0
    observed_generation: int = 0
    disrupted: tuple[tuple[str, int], ...] = ()
    """(pod name, since) of evictions that the controller has not seen as deletes yet."""


@dataclass(frozen=True, slots=True)
class PodDisruptionBudget(KubeObject):
    """policy/v1 PodDisruptionBudget."""

    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    selector: LabelSelector | None = None
    """None selects no pod, an empty one every pod of the namespace."""
    unhealthy_policy: str = "IfHealthyBudget"
    """spec.unhealthyPodEvictionPolicy, or AlwaysAllow."""
    status: BudgetStatus = BudgetStatus()


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """A metric of an HPA: the CPU that its pods use on average. One of the two targets is given."""

    utilization: int | None = None
    """Per cent of what the pods request."""
    average_milli: int | None = None
    """Thousandths of a CPU per pod."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most `value` Pods or Percent in `period_s`."""

    type: str
    value: int
    period_s: int


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """HPAScalingRules of one direction; `select` is Max, Min or Disabled. `window_s` None: the controller's own."""

    policies: tuple[ScalingPolicy, ...]
    window_s: int | None = None
    select: str = "Max"


@dataclass(frozen=True, slots=True)
class ScalerCondition:
    """One of AbleToScale, ScalingActive, ScalingLimited."""

    type: str
    status: str
    reason: str
    message: str
    since_ns: int = 0


@dataclass(frozen=True, slots=True)
class ScalerStatus:
    """HorizontalPodAutoscalerStatus. Usage is None where no metric was to be had."""

    current_replicas: int = 0
    desired_replicas: int = 0
    utilization: int | None = None
    """Per cent of the requests; only for a target that is one."""
    average_milli: int | None = None
    last_scale_ns: int | None = None
    conditions: tuple[ScalerCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class HorizontalPodAutoscaler(KubeObject):
    """autoscaling/v2 HorizontalPodAutoscaler, as far as it scales by CPU."""

    target: Key = NO_KEY
    """spec.scaleTargetRef."""
    target_version: str = "apps/v1"
    """Its apiVersion."""
    min_replicas: int = 1
    max_replicas: int = 1
    cpu: CpuTarget | None = CpuTarget(utilization=80)
    """None: none of its metrics is the pods' CPU."""
    left_out: tuple[str, ...] = ()
    """Metrics that the lab has not: they scale nothing."""
    up: ScalingRules | None = None
    """None, as `down` then is: no spec.behavior."""
    down: ScalingRules | None = None
    status: ScalerStatus = ScalerStatus()


@dataclass(frozen=True, slots=True)
class IngressClass(KubeObject):
    """networking.k8s.io/v1 IngressClass."""

    controller: str = ""

    @property
    def default(self) -> bool:
        return self.meta.annotations.get("ingressclass.kubernetes.io/is-default-class") == "true"


@dataclass(frozen=True, slots=True)
class PriorityClass(KubeObject):
    """scheduling.k8s.io/v1 PriorityClass."""

    value: int = 0
    global_default: bool = False
    """Pods that name no class get this one."""
    preemption_policy: str = "PreemptLowerPriority"
    """Or Never."""
    description: str = ""


# --- configuration --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigMap(KubeObject):
    """v1 ConfigMap."""

    data: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Secret(KubeObject):
    """v1 Secret; values are never shown."""

    type: str = "Opaque"


@dataclass(frozen=True, slots=True)
class ProxyConntrack:
    """`conntrack` of a KubeProxyConfiguration; defaults of pkg/proxy/apis/config/v1alpha1/defaults.go. 0 of a timeout:
    the kernel's stays."""

    max_per_core: int = 32_768
    min: int = 131_072
    tcp_established_s: float = 86_400.0
    tcp_close_wait_s: float = 3_600.0
    udp_s: float = 0.0
    udp_stream_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KubeProxyConfiguration(KubeObject):
    """kubeproxy.config.k8s.io/v1alpha1. Has no metadata; its name is "kube-proxy"."""

    mode: str = "iptables"
    cluster_cidrs: tuple[str, ...] = ()
    detect_local_mode: str = "ClusterCIDR"
    pod_interface: str = ""
    """detectLocal.bridgeInterface, or interfaceNamePrefix with `+`, whichever the mode asks for."""
    node_port_addresses: tuple[str, ...] = ()
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    min_sync_s: float = 1.0
    sync_s: float = 30.0
    ipvs_scheduler: str = ""
    """`ipvs.scheduler`; "" is rr."""
    ipvs_tcp_s: float = 0.0
    """`ipvs.tcpTimeout`; 0: the kernel's."""
    ipvs_udp_s: float = 0.0
    """`ipvs.udpTimeout`; 0: the kernel's."""
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    conntrack: ProxyConntrack = ProxyConntrack()


@dataclass(frozen=True, slots=True)
class Unmodelled(KubeObject):
    """Any other kind: kept, listed and shown, without behaviour."""

    given_kind: str = ""
    api_version: str = ""

    @property
    def kind(self) -> str:
        return self.given_kind


KINDS: Mapping[str, type[KubeObject]] = {
    cls.__name__: cls
    for cls in (
        Namespace, Node, Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, Service, EndpointSlice, Endpoints,
        Ingress, IngressClass, PodDisruptionBudget, PriorityClass, HorizontalPodAutoscaler, ConfigMap, Secret,
        KubeProxyConfiguration,
    )
}  # fmt: skip
"""Kinds with behaviour, by name."""

CLUSTER_SCOPED = frozenset(
    {"Namespace", "Node", "IngressClass", "KubeProxyConfiguration", "PersistentVolume", "StorageClass", "ClusterRole",
     "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass", "RuntimeClass", "APIService",
     "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "GatewayClass"}
)  # fmt: skip
"""Kinds without a namespace."""
