"""What the API server does to a write before it is stored: allocation, carried-over fields, refusals.

Source: k8s.io/kubernetes pkg/registry/core/service/storage/alloc.go, pkg/apis/core/validation,
pkg/apis/apps/validation; messages are the API server's.
"""

import json

from kflab.control.core import API_SERVER, ETCD, Core
from kflab.control.families import with_families
from kflab.errors import KflabError
from kflab.manifest.objects import Key, KubeObject, LabelSelector
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler
from kflab.manifest.objects_network import Ingress, Service, ServicePort
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, PodDisruptionBudget, ReplicaSet, StatefulSet
from kflab.replacing import replace

_DUAL = "give Nodes podCIDRs of both families, or a KubeProxyConfiguration clusterCIDR with both"

REFUSED_CONNECTION = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"
"""kubectl's words when nothing answers at the API server's address."""


def require_api(core: Core) -> None:
    """Raise what kubectl says while the API server is stopped."""
    if ETCD in core.stopped and API_SERVER not in core.stopped:
        raise KflabError("Error from server: etcdserver: request timed out")
    if not core.api_up():
        raise KflabError(REFUSED_CONNECTION)


def check_update(old: KubeObject, new: KubeObject) -> None:
    """Refuse changes of immutable fields in the API's words.

    Raises:
        KflabError: Naming kind, object and field.
    """
    head = f'The {new.kind} "{new.meta.name}" is invalid: '
    if isinstance(old, Deployment | ReplicaSet | DaemonSet) and isinstance(new, Deployment | ReplicaSet | DaemonSet):
        if old.selector != new.selector:
            raise KflabError(f"{head}spec.selector: Invalid value: {_selector(new.selector)}: field is immutable")
    elif isinstance(old, StatefulSet) and isinstance(new, StatefulSet):
        if (old.selector, old.service_name, old.pod_management) != (new.selector, new.service_name, new.pod_management):
            raise KflabError(
                f"{head}spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                "'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' are forbidden"
            )
    elif isinstance(old, Service) and isinstance(new, Service):
        keeps = old.type != "ExternalName" and new.type != "ExternalName"
        if keeps and old.cluster_ips and new.cluster_ips and old.cluster_ip != new.cluster_ip:
            given = json.dumps(list(new.cluster_ips))
            raise KflabError(f"{head}spec.clusterIPs[0]: Invalid value: {given}: may not change once set")
    elif isinstance(old, Pod) and isinstance(new, Pod) and _pod_fixed(old) != _pod_fixed(new):
        raise KflabError(
            f"{head}spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously "
            "negative)"
        )


def _selector(selector: LabelSelector) -> str:
    labels = ",".join(f'"{k}":"{v}"' for k, v in sorted(selector.match_labels.items()))
    return f'{{"matchLabels":{{{labels}}}}}'


def _pod_fixed(pod: Pod) -> object:
    containers = tuple(replace(c, image="") for c in pod.spec.containers)
    inits = tuple(replace(c, image="") for c in pod.spec.init_containers)
    spec = replace(pod.spec, containers=containers, init_containers=inits, priority=0, preemption_policy="")
    return replace(spec, node_name="", tolerations=(), grace_s=0)


def carry_over(old: KubeObject, new: KubeObject) -> KubeObject:
    """What an update without these fields keeps: identity, status and the addresses the server gave."""
    if isinstance(new, Deployment) and isinstance(old, Deployment):
        new = replace(new, observed=old.observed, conditions=old.conditions)
    spec_same = replace(new, meta=old.meta, raw=None) == replace(old, raw=None) and _raw_spec(old) == _raw_spec(new)
    meta = replace(
        new.meta, uid=old.meta.uid, creation_ns=old.meta.creation_ns, deletion_ns=old.meta.deletion_ns,
        grace_s=old.meta.grace_s, owner=new.meta.owner or old.meta.owner,
        generation=old.meta.generation + (not spec_same),
    )  # fmt: skip
    merged = replace(new, meta=meta)
    if isinstance(merged, Pod) and isinstance(old, Pod):
        given = old.spec
        spec = replace(merged.spec, node_name=given.node_name, priority=given.priority)
        return replace(merged, status=old.status, spec=replace(spec, preemption_policy=given.preemption_policy))
    if isinstance(merged, ReplicaSet | StatefulSet | DaemonSet):
        assert isinstance(old, type(merged))
        kept = {name: getattr(old, name) for name in ("current_revision", "update_revision", "revisions")
                if hasattr(old, name)}  # fmt: skip
        return replace(merged, observed=old.observed, **kept)
    if isinstance(merged, Job) and isinstance(old, Job):
        kept = {name: getattr(old, name) for name in ("observed", "start_ns", "completion_ns", "completed_indexes")}
        return replace(merged, conditions=old.conditions, **kept)
    if isinstance(merged, PodDisruptionBudget) and isinstance(old, PodDisruptionBudget):
        return replace(merged, status=old.status)
    if isinstance(merged, HorizontalPodAutoscaler) and isinstance(old, HorizontalPodAutoscaler):
        return replace(merged, status=old.status)
    if isinstance(merged, Service) and isinstance(old, Service):
        return _carry_service(old, merged)
    if isinstance(merged, Ingress) and isinstance(old, Ingress):
        return replace(merged, load_balancer=old.load_balancer)
    return merged


def _raw_spec(obj: KubeObject) -> object:
    return obj.raw.get("spec") if obj.raw is not None else None


def _carry_service(old: Service, new: Service) -> Service:
    node_ports = {(port.protocol, port.port): port.node_port for port in old.ports}
    by_name = {port.name: port.node_port for port in old.ports if port.name}
    ports = new.ports
    if new.type in ("NodePort", "LoadBalancer"):
        ports = tuple(
            replace(
                port,
                node_port=port.node_port or node_ports.get((port.protocol, port.port)) or by_name.get(port.name, 0),
            )
            for port in new.ports
        )
    cluster_ips = new.cluster_ips or (old.cluster_ips if new.type != "ExternalName" else ())
    return replace(
        new,
        ports=ports,
        cluster_ips=cluster_ips,
        health_check_node_port=new.health_check_node_port or old.health_check_node_port,
        load_balancer=old.load_balancer if new.type == "LoadBalancer" else (),
    )


def admit_service(core: Core, service: Service, old: Service | None, *, strict: bool) -> Service:
    """Give a Service the addresses and ports it needs.

    Args:
        core: The shared state.
        service: As written.
        old: The stored Service it replaces, whose allocations it keeps or gives back.
        strict: Refuse conflicts, as the API server does; else keep the wish and say so (opening files).

    Raises:
        KflabError: In the API server's words, when an address or port is taken or none is left.
    """
    name = f"{service.meta.namespace}/{service.meta.name}"
    head = f'Service "{service.meta.name}" is invalid: '
    service, refused = with_families(service, old, core.addresses.families)
    if refused and strict:
        raise KflabError(head + refused)
    if refused:
        now = f"{service.ip_family_policy} with {' and '.join(service.ip_families)}"
        core.assume(f"the API server refuses Service {name}: {refused}; taken as {now}", "change it, or " + _DUAL)
    service = replace(service, cluster_ips=_cluster_ips(core, service, old, name, head, strict))
    wants_node_ports = service.type == "NodePort" or (service.type == "LoadBalancer" and service.allocate_node_ports)
    service = replace(service, ports=_node_ports(core, service, old, name, head, wants_node_ports, strict))
    health = service.health_check_node_port
    if service.type == "LoadBalancer" and service.external_traffic_policy == "Local":
        if not health:
            health = core.addresses.allocate_node_port(f"{name}/health-check")
        elif old is None or old.health_check_node_port != health:
            core.addresses.node_ports.take(health)
    else:
        health = 0
    return replace(service, health_check_node_port=health)


def _cluster_ips(
    core: Core, service: Service, old: Service | None, name: str, head: str, strict: bool
) -> tuple[str, ...]:
    had = old.cluster_ips if old is not None and not old.headless else ()
    if service.type == "ExternalName" or service.headless:
        for ip in had:
            core.addresses.release_cluster_ip(ip)
        return service.cluster_ips if service.headless else ()
    for ip in had:
        if service.cluster_ips and ip not in service.cluster_ips:
            core.addresses.release_cluster_ip(ip)
    found = list(service.cluster_ips)
    for ip in found:
        if ip in had or core.addresses.take_cluster_ip(ip):
            continue
        if strict:
            raise KflabError(
                f'{head}spec.clusterIPs: Invalid value: ["{ip}"]: failed to allocate IP {ip}: '
                "provided IP is already allocated"
            )
        core.assume(f"{ip} is the ClusterIP of two Services", f"change spec.clusterIP of {name}")
    for family in service.ip_families[len(found) :]:
        ip = core.addresses.allocate_cluster_ip(name, family)
        if not ip:
            raise KflabError(f"Internal error occurred: failed to allocate a serviceIP: range is full ({name})")
        found.append(ip)
    return tuple(found)


def _node_ports(
    core: Core, service: Service, old: Service | None, name: str, head: str, wanted: bool, strict: bool
) -> tuple[ServicePort, ...]:
    had = {port.node_port for port in old.ports} if old is not None else set()
    keeps = {port.node_port for port in service.ports} if wanted else set()
    for number in sorted(had - keeps - {0}):
        core.addresses.node_ports.release(number)
    if not wanted:
        return tuple(replace(port, node_port=0) if service.type == "ClusterIP" else port for port in service.ports)
    # One Service may use one node port for two protocols of the same port.
    mine: dict[int, int] = {}
    for i, port in enumerate(service.ports):
        number = port.node_port
        if number and number not in had and number not in mine.values() and not core.addresses.node_ports.take(number):
            if strict:
                raise KflabError(
                    f"{head}spec.ports[{i}].nodePort: Invalid value: {number}: provided port is already allocated"
                )
            core.assume(f"node port {number} belongs to two Services", f"change spec.ports[{i}].nodePort of {name}")
        if number:
            mine[port.port] = number
    ports = []
    for port in service.ports:
        number = port.node_port or mine.get(port.port, 0)
        if not number:
            number = core.addresses.allocate_node_port(f"{name}/{port.name or port.port}")
            mine[port.port] = number
        ports.append(replace(port, node_port=number))
    return tuple(ports)


def release_service(core: Core, service: Service) -> None:
    """Give back what a removed Service had."""
    if not service.headless:
        for ip in service.cluster_ips:
            core.addresses.release_cluster_ip(ip)
    for port in service.ports:
        core.addresses.node_ports.release(port.node_port)
    core.addresses.node_ports.release(service.health_check_node_port)


def service_key(namespace: str, name: str) -> Key:
    """Key of a Service."""
    return Key("Service", namespace, name)
