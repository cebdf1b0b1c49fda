"""Pods: their containers and probes, what the kubelet last reported of them, and the template that makes them."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from kflab.manifest.objects import UNHASHED, Condition, Key, KubeObject, Labels
from kflab.records import dataclass

_tuple = tuple.__new__


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod toleration; empty `key` with Exists tolerates all."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """One containerPort."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = field(default="", metadata=UNHASHED)


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
    grace_s: int | None = field(default=None, metadata=UNHASHED)
    """terminationGracePeriodSeconds of a liveness or startup probe: it counts where that probe kills the container."""


@dataclass(frozen=True, slots=True)
class LifecycleHandler:
    """A postStart hook; `action` is exec, httpGet, tcpSocket or sleep."""

    action: str
    sleep_s: int = 0
    """sleep.seconds, or N where `sleep N` is the whole command."""
    port: int | str | None = None
    """Of httpGet: a number or a named container port."""
    host: str = ""
    """Of httpGet; "": the pod."""


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
    post_start: LifecycleHandler | None = field(default=None, metadata=UNHASHED)
    """lifecycle.postStart."""
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
    """What others than the kubelet have set: of the types that spec.readinessGates name, and DisruptionTarget."""

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
        own = self.containers[0].restarts if len(self.containers) == 1 else sum([c.restarts for c in self.containers])
        return own + sum([status.restarts for status in self.inits]) if self.inits else own


MIRROR = "kubernetes.io/config.mirror"
"""Annotation of a mirror pod, which shows a static pod of its node (pkg/apis/core/annotation_key_constants.go)."""


@dataclass(frozen=True, slots=True)
class Pod(KubeObject):
    """v1 Pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def key(self) -> Key:  # asked so often that the way over `kind` counts
        meta = self.meta
        return _tuple(Key, ("Pod", meta.namespace, meta.name))

    @property
    def ip(self) -> str:
        """First pod IP, "" before the sandbox exists."""
        return self.status.pod_ips[0] if self.status.pod_ips else ""

    @property
    def terminating(self) -> bool:
        return self.meta.deletion_ns is not None

    @property
    def is_mirror(self) -> bool:
        """Whether its kubelet runs it from a file, and this object only shows it."""
        return MIRROR in self.meta.annotations


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A workload's spec.template."""

    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    spec: PodSpec = PodSpec()
