"""`kubectl describe`: one sheet per object, in kubectl's layout as far as the lab models it.

Source: k8s.io/kubectl pkg/describe/describe.go (describeService, describeIngressV1, describeEndpoints,
describeEndpointSliceV1, describeNode, DescribeEvents), pkg/cmd/describe/describe.go (names by prefix, separators).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kflab import KUBERNETES_RELEASE
from kflab.cluster.store import Store
from kflab.kubectl.ages import human_duration, rfc1123z
from kflab.kubectl.commands import Describe
from kflab.kubectl.describe_autoscaler import describe_autoscaler
from kflab.kubectl.describe_job import describe_job
from kflab.kubectl.describe_pod import describe_deployment, describe_pod, describe_set
from kflab.kubectl.endpoints import ready_text, slices_of
from kflab.kubectl.env import Env
from kflab.kubectl.events import Event, events_from
from kflab.kubectl.get import ENDPOINTS_WARNING
from kflab.kubectl.hostile import printable
from kflab.kubectl.kinds import Resource
from kflab.kubectl.lookup import ApiError, listed, matching, named, resource, resources
from kflab.kubectl.outcome import Outcome
from kflab.kubectl.printers import load_balancer_text, node_info, node_roles
from kflab.kubectl.selectors import format_labels, format_selector
from kflab.kubectl.sheet import annotations, lines_of
from kflab.kubectl.tabular import Writer
from kflab.kubectl.trees import to_yaml
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler
from kflab.manifest.objects_cluster import Namespace, Node, PriorityClass
from kflab.manifest.objects_config import ConfigMap, Secret
from kflab.manifest.objects_network import (
    Endpoints,
    EndpointSlice,
    Ingress,
    IngressBackend,
    IngressClass,
    LoadBalancerIngress,
    Service,
)
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, PodDisruptionBudget, ReplicaSet, StatefulSet


def describe(command: Describe, store: Store, env: Env) -> Outcome:
    """Run `kubectl describe`.

    Raises:
        KflabError: For an unknown kind or a selector that cannot be read.
    """
    namespace = command.namespace or env.namespace
    found: list[tuple[Resource, KubeObject]] = []
    err = ""
    for word in command.resources:
        for kind in resources(word, store):
            everywhere = command.all_namespaces or not kind.namespaced
            objects = listed(kind, None if everywhere else namespace, store, env)
            found += [(kind, obj) for obj in matching(objects, command.selector)]
    for target in command.targets:
        kind = resource(target.resource, store)
        try:
            found.append((kind, named(kind, namespace, target.name, store, env)))
        except ApiError as error:
            # Without an exact match, describe takes every object whose name begins so.
            objects = listed(kind, namespace if kind.namespaced else None, store, env)
            begun = [(kind, obj) for obj in objects if obj.meta.name.startswith(target.name)]
            found += begun
            err += "" if begun else f"Error from server {error}\n"
    if any(kind.kind == "Endpoints" for kind, _ in found):
        err = ENDPOINTS_WARNING + err
    if not found:
        empty = "No resources found\n" if command.all_namespaces else f"No resources found in {namespace} namespace.\n"
        return Outcome("", err or empty, 1 if err else 0)
    sheets = [_sheet(obj, store, env) for _, obj in found]
    return Outcome("\n\n".join(sheets), err, 1 if "Error" in err else 0)


def _sheet(obj: KubeObject, store: Store, env: Env) -> str:
    writer = _WRITERS.get(type(obj))
    if writer is None:
        return to_yaml([obj], as_list=False)
    out = Writer()
    writer(out, obj, store, env.now_ns)
    if not isinstance(obj, Secret | ConfigMap | Namespace):
        _events(out, obj.key, store, env)
    return out.text()


def _events(out: Writer, about: Key, store: Store, env: Env) -> None:
    events = [event for event in events_from(env.facts(), store) if event.about == about]
    if not events:
        out.line(0, "Events:", "<none>")
        return
    out.flush()
    out.line(0, "Events:")
    out.line(1, "Type", "Reason", "Age", "From", "Message")
    out.line(1, "----", "------", "----", "----", "-------")
    for event in events:
        age = human_duration(env.now_ns - event.t_ns)
        out.line(1, event.type, event.reason, age, event.source, event.message)


# --- Services -------------------------------------------------------------------------------------------------


def _service(out: Writer, obj: Service, store: Store, now_ns: int) -> None:
    del now_ns
    _names(out, obj)
    out.line(0, "Selector:", format_labels(obj.selector))
    out.line(0, "Type:", obj.type)
    if obj.type != "ExternalName":
        out.line(0, "IP Family Policy:", obj.ip_family_policy)
    out.line(0, "IP Families:", ",".join(obj.ip_families) if obj.type != "ExternalName" else "<none>")
    out.line(0, "IP:", obj.cluster_ip)
    out.line(0, "IPs:", ",".join(obj.cluster_ips) or "<none>")
    if obj.external_ips:
        out.line(0, "External IPs:", ",".join(obj.external_ips))
    if obj.load_balancer_ip:
        out.line(0, "Desired LoadBalancer IP:", obj.load_balancer_ip)
    if obj.external_name:
        out.line(0, "External Name:", obj.external_name)
    if obj.load_balancer:
        out.line(0, "LoadBalancer Ingress:", ", ".join(_balancer(entry) for entry in obj.load_balancer))
    slices = slices_of(obj.key, store)
    for port in obj.ports:
        name = port.name or "<unset>"
        out.line(0, "Port:", name, f"{port.port}/{port.protocol}")
        out.line(0, "TargetPort:", f"{port.target or port.port}/{port.protocol}")
        if port.node_port:
            out.line(0, "NodePort:", name, f"{port.node_port}/{port.protocol}")
        out.line(0, "Endpoints:", ready_text(slices, port.name))
    out.line(0, "Session Affinity:", obj.session_affinity)
    if obj.type in ("NodePort", "LoadBalancer") or obj.external_ips:
        out.line(0, "External Traffic Policy:", obj.external_traffic_policy)
    if obj.type != "ExternalName":
        out.line(0, "Internal Traffic Policy:", obj.internal_traffic_policy)
    if obj.health_check_node_port:
        out.line(0, "HealthCheck NodePort:", str(obj.health_check_node_port))
    if obj.load_balancer_source_ranges:
        out.line(0, "LoadBalancer Source Ranges:", ",".join(obj.load_balancer_source_ranges))


def _balancer(entry: LoadBalancerIngress) -> str:
    return f"{entry.ip} ({entry.ip_mode})" if entry.ip and entry.ip_mode else entry.ip or entry.hostname


def _names(out: Writer, obj: KubeObject) -> None:
    out.line(0, "Name:", obj.meta.name)
    if obj.meta.namespace:
        out.line(0, "Namespace:", obj.meta.namespace)
    lines_of(out, "Labels", obj.meta.labels)
    annotations(out, "Annotations", obj.meta.annotations)


def _endpoints(out: Writer, obj: Endpoints, store: Store, now_ns: int) -> None:
    del store, now_ns
    _names(out, obj)
    out.line(0, "Subsets:")
    for subset in obj.subsets:
        out.line(1, "Addresses:", ",".join(ip for ip, _, _ in subset.addresses) or "<none>")
        out.line(1, "NotReadyAddresses:", ",".join(ip for ip, _, _ in subset.not_ready) or "<none>")
        if subset.ports:
            out.line(1, "Ports:")
            out.line(2, "Name", "Port", "Protocol")
            out.line(2, "----", "----", "--------")
            for port in subset.ports:
                out.line(2, port.name or "<unset>", str(port.port or 0), port.protocol)
        out.line(0, "")


def _endpoint_slice(out: Writer, obj: EndpointSlice, store: Store, now_ns: int) -> None:
    del store, now_ns
    _names(out, obj)
    out.line(0, "AddressType:", obj.address_type)
    if obj.ports:
        out.line(0, "Ports:")
        out.line(1, "Name", "Port", "Protocol")
        out.line(1, "----", "----", "--------")
        for port in obj.ports:
            out.line(1, port.name or "<unset>", "<unset>" if port.port is None else str(port.port), port.protocol)
    else:
        out.line(0, "Ports: <unset>")
    out.line(0, "Endpoints:" if obj.endpoints else "Endpoints: <none>")
    for endpoint in obj.endpoints:
        out.line(1, "- Addresses:", ", ".join(endpoint.addresses) or "<none>")
        out.line(2, "Conditions:")
        out.line(3, "Ready:", "<unset>" if endpoint.ready is None else str(endpoint.ready).lower())
        out.line(2, "Hostname:", endpoint.hostname or "<unset>")
        if endpoint.target is not None:
            out.line(2, "TargetRef:", f"{endpoint.target.kind}/{endpoint.target.name}")
        out.line(2, "NodeName:", endpoint.node_name or "<unset>")
        out.line(2, "Zone:", endpoint.zone or "<unset>")


# --- Ingress --------------------------------------------------------------------------------------------------


def _ingress(out: Writer, obj: Ingress, store: Store, now_ns: int) -> None:
    del now_ns
    out.line(0, "Name:", obj.meta.name)
    lines_of(out, "Labels", obj.meta.labels)
    out.line(0, "Namespace:", obj.meta.namespace)
    out.line(0, "Address:", load_balancer_text(obj.load_balancer, wide=True))
    out.line(0, "Ingress Class:", obj.ingress_class or "<none>")
    default = _backend(obj.default_backend, obj.meta.namespace, store) if obj.default_backend else "<default>"
    out.line(0, "Default backend:", default)
    if obj.tls:
        out.line(0, "TLS:")
        for entry in obj.tls:
            hosts = ",".join(entry.hosts)
            out.line(1, f"{entry.secret} terminates {hosts}" if entry.secret else f"SNI routes {hosts}")
    out.line(0, "Rules:")
    out.line(1, "Host", "Path", "Backends")
    out.line(1, "----", "----", "--------")
    routed = [rule for rule in obj.rules if rule.paths]
    for rule in routed:
        out.line(1, rule.host or "*", "")
        for path in rule.paths:
            out.line(2, "", f"{path.path} ", _backend(path.backend, obj.meta.namespace, store))
    if not routed:
        out.line(1, "*", "*", default)
    annotations(out, "Annotations", obj.meta.annotations)


def _backend(backend: IngressBackend, namespace: str, store: Store) -> str:
    """`service:port (endpoints)`, or why there are none."""
    text = f"{backend.service}:{backend.port}"
    service = store.get(Key("Service", namespace, backend.service))
    if not isinstance(service, Service):
        return f'{text} (<error: services "{backend.service}" not found>)'
    name = ""
    for port in service.ports:
        if backend.port in (port.port, port.name) and backend.port:
            name = port.name
    return f"{text} ({ready_text(slices_of(service.key, store), name)})"


def _ingress_class(out: Writer, obj: IngressClass, store: Store, now_ns: int) -> None:
    del store, now_ns
    _names(out, obj)
    out.line(0, "Controller:", obj.controller)


def _priority_class(out: Writer, obj: PriorityClass, store: Store, now_ns: int) -> None:
    del store, now_ns
    out.line(0, "Name:", obj.meta.name)
    out.line(0, "Value:", str(obj.value))
    out.line(0, "GlobalDefault:", str(obj.global_default).lower())
    out.line(0, "PreemptionPolicy:", obj.preemption_policy)
    out.line(0, "Description:", printable(obj.description))
    lines_of(out, "Annotations", obj.meta.annotations)


def _budget(out: Writer, obj: PodDisruptionBudget, store: Store, now_ns: int) -> None:
    del store, now_ns
    _names(out, obj)
    if obj.min_available is not None:
        out.line(0, "Min available:", str(obj.min_available))
    elif obj.max_unavailable is not None:
        out.line(0, "Max unavailable:", str(obj.max_unavailable))
    out.line(0, "Selector:", format_selector(obj.selector) if obj.selector is not None else "<unset>")
    out.line(0, "Status:")
    out.line(2, "Allowed disruptions:", str(obj.status.disruptions_allowed))
    out.line(2, "Current:", str(obj.status.current_healthy))
    out.line(2, "Desired:", str(obj.status.desired_healthy))
    out.line(2, "Total:", str(obj.status.expected_pods))


# --- nodes and the rest ---------------------------------------------------------------------------------------


def _node(out: Writer, obj: Node, store: Store, now_ns: int) -> None:
    out.line(0, "Name:", obj.meta.name)
    out.line(0, "Roles:", node_roles(obj))
    lines_of(out, "Labels", obj.meta.labels)
    annotations(out, "Annotations", obj.meta.annotations)
    out.line(0, "CreationTimestamp:", rfc1123z(obj.meta.creation_ns))
    taints = [f"{taint.key}={taint.value}" if taint.value else taint.key for taint in obj.taints]
    texts = [f"{text}:{taint.effect}" for text, taint in zip(taints, obj.taints, strict=True)]
    for i, text in enumerate(texts or ["<none>"]):
        out.line(0, "" if i else "Taints:", text)
    out.line(0, "Unschedulable:", str(obj.unschedulable).lower())
    reasons = {
        "True": ("KubeletReady", "kubelet is posting ready status"),
        "Unknown": ("NodeStatusUnknown", "Kubelet stopped posting node status."),
    }
    reason, message = reasons.get(obj.ready, ("KubeletNotReady", ""))
    out.line(0, "Conditions:")
    out.line(1, "Type", "Status", "Reason", "Message")
    out.line(1, "----", "------", "------", "-------")
    out.line(1, "Ready", obj.ready, reason, message)
    out.line(0, "Addresses:")
    for address in obj.internal_ips:
        out.line(1, "InternalIP:", address)
    for address in obj.external_ips:
        out.line(1, "ExternalIP:", address)
    out.line(1, "Hostname:", obj.meta.labels.get("kubernetes.io/hostname", obj.meta.name))
    out.line(0, "System Info:")
    out.line(1, "Kubelet Version:", node_info(obj, "kubeletVersion") or f"v{KUBERNETES_RELEASE}.0")
    if obj.pod_cidrs:
        out.line(0, "PodCIDR:", obj.pod_cidrs[0])
        out.line(0, "PodCIDRs:", ",".join(obj.pod_cidrs))
    if obj.provider_id:
        out.line(0, "ProviderID:", obj.provider_id)
    pods = [
        pod
        for pod in store.of_kind("Pod")
        if isinstance(pod, Pod) and pod.spec.node_name == obj.meta.name and pod.status.phase not in _ENDED
    ]
    out.line(0, "Non-terminated Pods:", f"({len(pods)} in total)")
    out.line(1, "Namespace", "Name", "", "Age")
    out.line(1, "---------", "----", "", "---")
    for pod in sorted(pods, key=lambda entry: (entry.meta.namespace, entry.meta.name)):
        out.line(1, pod.meta.namespace, pod.meta.name, "", human_duration(now_ns - pod.meta.creation_ns))


_ENDED = ("Succeeded", "Failed")


def _config_map(out: Writer, obj: ConfigMap, store: Store, now_ns: int) -> None:
    del store, now_ns
    _names(out, obj)
    out.line(0, "")
    out.line(0, "Data")
    out.line(0, "====")
    for key in sorted(obj.data):
        out.line(0, f"{key}:")
        out.line(0, "----")
        for line in obj.data[key].split("\n"):
            out.line(0, line)
        out.line(0, "")
    out.line(0, "")
    out.line(0, "BinaryData")
    out.line(0, "====")
    out.line(0, "")


def _secret(out: Writer, obj: Secret, store: Store, now_ns: int) -> None:
    """Names of keys only: values are never kept."""
    del store, now_ns
    _names(out, obj)
    out.line(0, "")
    out.line(0, "Type:", obj.type)


def _namespace(out: Writer, obj: Namespace, store: Store, now_ns: int) -> None:
    del store, now_ns
    _names(out, obj)
    out.line(0, "Status:", "Terminating" if obj.meta.deletion_ns is not None else "Active")


def _event(out: Writer, obj: Event, store: Store, now_ns: int) -> None:
    del store, now_ns
    _names(out, obj)
    rows: Sequence[tuple[str, str]] = (("Type:", obj.type), ("Reason:", obj.reason), ("Message:", obj.message))
    for title, text in rows:
        out.line(0, title, printable(text))


_WRITERS: Mapping[type[KubeObject], Callable[[Writer, Any, Store, int], None]] = {
    Pod: describe_pod,
    Deployment: describe_deployment,
    ReplicaSet: describe_set,
    StatefulSet: describe_set,
    DaemonSet: describe_set,
    Service: _service,
    Endpoints: _endpoints,
    EndpointSlice: _endpoint_slice,
    Ingress: _ingress,
    IngressClass: _ingress_class,
    PodDisruptionBudget: _budget,
    Job: describe_job,
    PriorityClass: _priority_class,
    HorizontalPodAutoscaler: describe_autoscaler,
    Node: _node,
    ConfigMap: _config_map,
    Secret: _secret,
    Namespace: _namespace,
    Event: _event,
}
