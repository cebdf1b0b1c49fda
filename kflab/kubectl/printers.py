"""The columns of `kubectl get`, kind by kind.

Source: k8s.io/kubernetes pkg/printers/internalversion/printers.go (column definitions and cells) at v1.33.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kflab import KUBERNETES_RELEASE
from kflab.kubectl.ages import human_duration
from kflab.kubectl.endpoints import endpoints_text, slice_addresses_text, slice_ports_text
from kflab.kubectl.events import Event
from kflab.kubectl.selectors import format_labels, format_selector
from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler
from kflab.manifest.objects_cluster import Namespace, Node, PriorityClass
from kflab.manifest.objects_config import ConfigMap, Secret
from kflab.manifest.objects_network import (
    Endpoints,
    EndpointSlice,
    Ingress,
    IngressClass,
    LoadBalancerIngress,
    Service,
    ServicePort,
)
from kflab.manifest.objects_pods import Container, Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, PodDisruptionBudget, ReplicaSet, StatefulSet
from kflab.manifest.quantities import milli_text

Cells = tuple[tuple[str, ...], tuple[str, ...]]
"""Cells of a row: those always printed, and those `-o wide` adds."""

LOAD_BALANCER_WIDTH = 16
"""Bytes of a load balancer's address shown without `-o wide` (loadBalancerWidth)."""


def columns(kind: str, wide: bool) -> tuple[str, ...]:
    """Header of a kind's table."""
    narrow, more = _HEADERS.get(kind, (("NAME", "AGE"), ()))
    return narrow + more if wide else narrow


def cells(obj: KubeObject, now_ns: int, wide: bool) -> tuple[str, ...]:
    """Cells of an object's row, parallel to `columns`."""
    printer = _PRINTERS.get(type(obj))
    if printer is None:
        return (obj.meta.name, _age(obj, now_ns))
    narrow, more = printer(obj, now_ns, wide)
    return narrow + more if wide else narrow


def _age(obj: KubeObject, now_ns: int) -> str:
    return human_duration(now_ns - obj.meta.creation_ns)


# --- pods -----------------------------------------------------------------------------------------------------


def pod_reason(pod: Pod) -> str:
    """The STATUS column: the phase, or what the containers say about it, or that it is being deleted."""
    reason = pod.status.reason or pod.status.phase
    starting = _initializing(pod)
    if starting and not pod.terminating:
        return starting
    init = {container.name: container for container in pod.spec.init_containers}
    running = False
    for status in reversed(pod.status.containers):
        if status.name in init:
            continue
        if status.state == "waiting" and status.reason:
            reason = status.reason
        elif status.state == "terminated":
            reason = status.reason or f"ExitCode:{status.exit_code or 0}"
        elif status.state == "running" and status.ready:
            running = True
    if reason == "Completed" and running:
        reason = "Running" if pod.status.ready else "NotReady"
    if pod.terminating and pod.status.phase not in ("Succeeded", "Failed"):
        return "Unknown" if pod.status.reason == "NodeLost" else "Terminating"
    return reason


def _initializing(pod: Pod) -> str:
    """What init containers say while they are at it: Init:0/2, Init:ErrImagePull (printPod)."""
    sidecars = {container.name for container in pod.spec.init_containers if container.restart_policy == "Always"}
    for position, status in enumerate(pod.status.inits):
        if status.state == "terminated" and status.exit_code == 0:
            continue
        if status.name in sidecars and status.state == "running":
            continue
        if status.state == "terminated":
            return f"Init:{status.reason}" if status.reason else f"Init:ExitCode:{status.exit_code}"
        if status.state == "waiting" and status.reason and status.reason != "PodInitializing":
            return f"Init:{status.reason}"
        return f"Init:{position}/{len(pod.spec.init_containers)}"
    return ""


def pod_ready(pod: Pod) -> str:
    """The READY column: ready containers of all, sidecars counted, plain init containers not."""
    sidecars = {container.name for container in pod.spec.init_containers if container.restart_policy == "Always"}
    names = {container.name for container in pod.spec.containers} | sidecars
    statuses = (*pod.status.inits, *pod.status.containers)
    ready = sum(status.ready and status.state == "running" for status in statuses if status.name in names)
    return f"{ready}/{len(pod.spec.containers) + len(sidecars)}"


def _restarts(pod: Pod, now_ns: int) -> str:
    """Of the init containers while they are at it, then of sidecars and the others (printPod)."""
    once = {container.name for container in pod.spec.init_containers if container.restart_policy != "Always"}
    both = (*pod.status.inits, *pod.status.containers)
    statuses = pod.status.inits if _initializing(pod) else [s for s in both if s.name not in once]
    last = max((s.finished_ns for s in statuses if s.restarts and s.finished_ns is not None), default=None)
    count = sum(s.restarts for s in statuses)
    return f"{count} ({human_duration(now_ns - last)} ago)" if count and last is not None else str(count)


def _pod(obj: Pod, now_ns: int, wide: bool) -> Cells:
    del wide
    narrow = (obj.meta.name, pod_ready(obj), pod_reason(obj), _restarts(obj, now_ns), _age(obj, now_ns))
    passed = sum(obj.status.passes(gate) for gate in obj.spec.readiness_gates)
    gates = f"{passed}/{len(obj.spec.readiness_gates)}" if obj.spec.readiness_gates else "<none>"
    return narrow, (obj.ip or "<none>", obj.spec.node_name or "<none>", obj.status.nominated_node or "<none>", gates)


# --- workloads ------------------------------------------------------------------------------------------------


def _containers(containers: Sequence[Container]) -> tuple[str, str]:
    return ",".join(container.name for container in containers), ",".join(container.image for container in containers)


def seen(obj: Deployment | ReplicaSet | StatefulSet | DaemonSet | Job, field: str) -> int:
    """A number of the object's status; 0 where its controller has not written it yet."""
    return int(obj.observed.get(field, 0))


def _deployment(obj: Deployment, now_ns: int, wide: bool) -> Cells:
    del wide
    narrow = (
        obj.meta.name,
        f"{seen(obj, 'readyReplicas')}/{obj.replicas}",
        str(seen(obj, "updatedReplicas")),
        str(seen(obj, "availableReplicas")),
        _age(obj, now_ns),
    )
    return narrow, (*_containers(obj.template.spec.containers), format_selector(obj.selector))


def _replica_set(obj: ReplicaSet, now_ns: int, wide: bool) -> Cells:
    del wide
    current, ready = str(seen(obj, "replicas")), str(seen(obj, "readyReplicas"))
    narrow = (obj.meta.name, str(obj.replicas), current, ready, _age(obj, now_ns))
    return narrow, (*_containers(obj.template.spec.containers), format_selector(obj.selector))


def _stateful_set(obj: StatefulSet, now_ns: int, wide: bool) -> Cells:
    del wide
    narrow = (obj.meta.name, f"{seen(obj, 'readyReplicas')}/{obj.replicas}", _age(obj, now_ns))
    return narrow, _containers(obj.template.spec.containers)


def _daemon_set(obj: DaemonSet, now_ns: int, wide: bool) -> Cells:
    del wide
    names = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    counts = tuple(str(seen(obj, name)) for name in names)
    narrow = (obj.meta.name, *counts, format_labels(obj.template.spec.node_selector), _age(obj, now_ns))
    return narrow, (*_containers(obj.template.spec.containers), format_selector(obj.selector))


# --- Services and their endpoints -----------------------------------------------------------------------------


def load_balancer_text(addresses: Sequence[LoadBalancerIngress], wide: bool) -> str:
    """Addresses of a load balancer; cut to 16 characters without `-o wide`, as kubectl does."""
    text = ",".join(sorted({entry.ip or entry.hostname for entry in addresses if entry.ip or entry.hostname}))
    return text if wide or len(text) <= LOAD_BALANCER_WIDTH else text[: LOAD_BALANCER_WIDTH - 3] + "..."


def _external_ip(obj: Service, wide: bool) -> str:
    if obj.type == "ExternalName":
        return obj.external_name
    if obj.type == "LoadBalancer":
        balancer = load_balancer_text(obj.load_balancer, wide)
        return ",".join([*([balancer] if balancer else []), *obj.external_ips]) or "<pending>"
    return ",".join(obj.external_ips) or "<none>"


def _service_port(port: ServicePort) -> str:
    node_port = f":{port.node_port}" if port.node_port else ""
    return f"{port.port}{node_port}/{port.protocol}"


def _service(obj: Service, now_ns: int, wide: bool) -> Cells:
    ports = ",".join(_service_port(port) for port in obj.ports) or "<none>"
    cluster_ip = obj.cluster_ip or "<none>"
    narrow = (obj.meta.name, obj.type, cluster_ip, _external_ip(obj, wide), ports, _age(obj, now_ns))
    return narrow, (format_labels(obj.selector),)


def _endpoints(obj: Endpoints, now_ns: int, wide: bool) -> Cells:
    del wide
    return (obj.meta.name, endpoints_text(obj), _age(obj, now_ns)), ()


def _endpoint_slice(obj: EndpointSlice, now_ns: int, wide: bool) -> Cells:
    del wide
    return (
        obj.meta.name,
        obj.address_type,
        slice_ports_text(obj),
        slice_addresses_text(obj),
        _age(obj, now_ns),
    ), ()


# --- Ingress --------------------------------------------------------------------------------------------------


def _hosts(obj: Ingress) -> str:
    # kubectl counts rules, not hosts, in "+ N more...", and stops collecting at the first rule after three hosts.
    shown: list[str] = []
    more = False
    for rule in obj.rules:
        more = more or len(shown) == 3
        if not more and rule.host:
            shown.append(rule.host)
    text = ",".join(shown) or "*"
    return f"{text} + {len(obj.rules) - 3} more..." if more else text


def _ingress(obj: Ingress, now_ns: int, wide: bool) -> Cells:
    ports = "80, 443" if obj.tls else "80"
    address = load_balancer_text(obj.load_balancer, wide)
    return (obj.meta.name, obj.ingress_class or "<none>", _hosts(obj), address, ports, _age(obj, now_ns)), ()


def _ingress_class(obj: IngressClass, now_ns: int, wide: bool) -> Cells:
    del wide
    return (obj.meta.name, obj.controller, "<none>", _age(obj, now_ns)), ()


def _budget(obj: PodDisruptionBudget, now_ns: int, wide: bool) -> Cells:
    del wide
    least = "N/A" if obj.min_available is None else str(obj.min_available)
    most = "N/A" if obj.max_unavailable is None else str(obj.max_unavailable)
    return (obj.meta.name, least, most, str(obj.status.disruptions_allowed), _age(obj, now_ns)), ()


def job_status(obj: Job) -> str:
    """The STATUS column (printJob)."""
    true = {each.type for each in obj.conditions if each.status == "True"}
    order = ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet")
    return next((name for name in order if name in true), "Running")


def job_duration(obj: Job, now_ns: int) -> str:
    """From its start to its completion, or until now."""
    if obj.start_ns is None:
        return ""
    return human_duration((now_ns if obj.completion_ns is None else obj.completion_ns) - obj.start_ns)


def _job(obj: Job, now_ns: int, wide: bool) -> Cells:
    del wide
    done = seen(obj, "succeeded")
    if obj.completions is not None:
        completions = f"{done}/{obj.completions}"
    else:
        completions = f"{done}/1 of {obj.parallelism}" if obj.parallelism > 1 else f"{done}/1"
    containers = obj.template.spec.containers
    names, images = (",".join(getattr(c, field) for c in containers) for field in ("name", "image"))
    uid = f"batch.kubernetes.io/controller-uid={obj.meta.uid}"
    narrow = (obj.meta.name, job_status(obj), completions, job_duration(obj, now_ns), _age(obj, now_ns))
    return narrow, (names, images, uid)


def _priority_class(obj: PriorityClass, now_ns: int, wide: bool) -> Cells:
    del wide
    value = str(obj.value)
    return (obj.meta.name, value, str(obj.global_default).lower(), _age(obj, now_ns), obj.preemption_policy), ()


def _autoscaler(obj: HorizontalPodAutoscaler, now_ns: int, wide: bool) -> Cells:
    del wide
    target = f"{obj.target.kind}/{obj.target.name}"
    cells = (
        obj.meta.name,
        target,
        cpu_against_target(obj, "<unknown>"),
        str(obj.min_replicas),
        str(obj.max_replicas),
        str(obj.status.current_replicas),
        _age(obj, now_ns),
    )
    return cells, ()


def cpu_against_target(obj: HorizontalPodAutoscaler, unknown: str) -> str:
    """`cpu: 34%/50%` (pkg/printers/internalversion/printers.go, formatHPAMetrics)."""
    status = obj.status
    if obj.cpu is None:
        return unknown
    if obj.cpu.average_milli is not None:
        used = unknown if status.average_milli is None else milli_text(status.average_milli)
        return f"cpu: {used}/{milli_text(obj.cpu.average_milli)}"
    return f"cpu: {unknown if status.utilization is None else f'{status.utilization}%'}/{obj.cpu.utilization}%"


# --- the rest -------------------------------------------------------------------------------------------------


def field(raw: Mapping[str, Any] | None, *path: str) -> Any:
    """A field of the tree the user gave, None where it is absent."""
    here: Any = raw
    for step in path:
        if not isinstance(here, Mapping):
            return None
        here = here.get(step)
    return here


def node_roles(node: Node) -> str:
    """The ROLES column, from the node-role labels."""
    prefix = "node-role.kubernetes.io/"
    roles = {label.removeprefix(prefix) for label in node.meta.labels if label.startswith(prefix)}
    old = node.meta.labels.get("kubernetes.io/role", "")
    return ",".join(sorted(filter(None, roles | {old}))) or "<none>"


def node_info(node: Node, name: str) -> str:
    """A nodeInfo field, as a dump gave it; "" for a node that was written by hand."""
    return str(field(node.raw, "status", "nodeInfo", name) or "")


def _node(obj: Node, now_ns: int, wide: bool) -> Cells:
    del wide
    status = ["Ready" if obj.ready == "True" else "NotReady"]
    if obj.unschedulable:
        status.append("SchedulingDisabled")
    version = node_info(obj, "kubeletVersion") or f"v{KUBERNETES_RELEASE}.0"
    narrow = (obj.meta.name, ",".join(status), node_roles(obj), _age(obj, now_ns), version)
    return narrow, (
        obj.internal_ips[0] if obj.internal_ips else "<none>",
        obj.external_ips[0] if obj.external_ips else "<none>",
        node_info(obj, "osImage") or "<unknown>",
        node_info(obj, "kernelVersion") or "<unknown>",
        node_info(obj, "containerRuntimeVersion") or "<unknown>",
    )


def _namespace(obj: Namespace, now_ns: int, wide: bool) -> Cells:
    del wide
    return (obj.meta.name, "Terminating" if obj.meta.deletion_ns is not None else "Active", _age(obj, now_ns)), ()


def _secret(obj: Secret, now_ns: int, wide: bool) -> Cells:
    del wide
    given = {*(field(obj.raw, "data") or ()), *(field(obj.raw, "stringData") or ())}
    return (obj.meta.name, obj.type, str(len(given)), _age(obj, now_ns)), ()


def _config_map(obj: ConfigMap, now_ns: int, wide: bool) -> Cells:
    del wide
    binary = field(obj.raw, "binaryData") or ()
    return (obj.meta.name, str(len(obj.data) + len(binary)), _age(obj, now_ns)), ()


def _event(obj: Event, now_ns: int, wide: bool) -> Cells:
    del wide
    last = human_duration(now_ns - obj.t_ns)
    where = f"{obj.about.kind.lower()}/{obj.about.name}"
    return (last, obj.type, obj.reason, where, obj.message), (
        "",
        obj.source,
        last,
        "1",
        obj.meta.name,
    )


_WORKLOAD_WIDE = ("CONTAINERS", "IMAGES", "SELECTOR")

_HEADERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Pod": (("NAME", "READY", "STATUS", "RESTARTS", "AGE"), ("IP", "NODE", "NOMINATED NODE", "READINESS GATES")),
    "Deployment": (("NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"), _WORKLOAD_WIDE),
    "ReplicaSet": (("NAME", "DESIRED", "CURRENT", "READY", "AGE"), _WORKLOAD_WIDE),
    "StatefulSet": (("NAME", "READY", "AGE"), _WORKLOAD_WIDE[:2]),
    "DaemonSet": (
        ("NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR", "AGE"),
        _WORKLOAD_WIDE,
    ),
    "Service": (("NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"), ("SELECTOR",)),
    "Endpoints": (("NAME", "ENDPOINTS", "AGE"), ()),
    "EndpointSlice": (("NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"), ()),
    "Ingress": (("NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"), ()),
    "IngressClass": (("NAME", "CONTROLLER", "PARAMETERS", "AGE"), ()),
    "PodDisruptionBudget": (("NAME", "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS", "AGE"), ()),
    "Job": (("NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"), ("CONTAINERS", "IMAGES", "SELECTOR")),
    "PriorityClass": (("NAME", "VALUE", "GLOBAL-DEFAULT", "AGE", "PREEMPTIONPOLICY"), ()),
    "HorizontalPodAutoscaler": (("NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"), ()),
    "Node": (
        ("NAME", "STATUS", "ROLES", "AGE", "VERSION"),
        ("INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"),
    ),
    "Namespace": (("NAME", "STATUS", "AGE"), ()),
    "Secret": (("NAME", "TYPE", "DATA", "AGE"), ()),
    "ConfigMap": (("NAME", "DATA", "AGE"), ()),
    "Event": (
        ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"),
        ("SUBOBJECT", "SOURCE", "FIRST SEEN", "COUNT", "NAME"),
    ),
}

_PRINTERS: Mapping[type[KubeObject], Callable[[Any, int, bool], Cells]] = {
    Pod: _pod,
    Deployment: _deployment,
    ReplicaSet: _replica_set,
    StatefulSet: _stateful_set,
    DaemonSet: _daemon_set,
    Service: _service,
    Endpoints: _endpoints,
    EndpointSlice: _endpoint_slice,
    Ingress: _ingress,
    IngressClass: _ingress_class,
    PodDisruptionBudget: _budget,
    Job: _job,
    PriorityClass: _priority_class,
    HorizontalPodAutoscaler: _autoscaler,
    Node: _node,
    Namespace: _namespace,
    Secret: _secret,
    ConfigMap: _config_map,
    Event: _event,
}
