"""What each kind writes: the typed fields as the API has them, defaults included."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kflab.manifest.objects import Condition, Key, Labels, LabelSelector
from kflab.manifest.objects_autoscaler import CpuTarget, HorizontalPodAutoscaler, ScalingRules
from kflab.manifest.objects_cluster import Node, PriorityClass
from kflab.manifest.objects_config import ConfigMap, Secret
from kflab.manifest.objects_network import (
    Endpoint,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Ingress,
    IngressBackend,
    IngressClass,
    LoadBalancerIngress,
    Service,
)
from kflab.manifest.objects_pods import Container, ContainerStatus, Pod, PodSpec, PodTemplate, Probe
from kflab.manifest.objects_workloads import (
    DaemonSet,
    Deployment,
    FailureRule,
    Job,
    PodDisruptionBudget,
    ReplicaSet,
    StatefulSet,
)
from kflab.manifest.quantities import milli_text
from kflab.manifest.typed_batch import indexes_text

Tree = dict[str, Any]
Start = datetime | None


class Whole(dict[str, Any]):
    """A map that replaces the one in the raw tree instead of being merged into it."""


@dataclass(frozen=True, slots=True)
class IfAbsent:
    """Typed in part only (literal variables, the seconds of a sleep): written just where the raw tree has nothing."""

    value: Any


def written(t_ns: int | None, start: Start) -> str | None:
    """A simulated time as RFC 3339, whole seconds as the API server keeps; None without a start."""
    if t_ns is None or start is None:
        return None
    return (start + timedelta(microseconds=t_ns // 1000)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _some(**fields: Any) -> Tree:
    """The fields that say something (false and 0 do, None and "" and empty collections do not)."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value != "" and value != [] and value != {}
    }


def _whole(labels: Labels) -> Whole | None:
    return Whole(labels) if labels else None


def _pod(pod: Pod, start: Start) -> Tree:
    status = pod.status
    condition = _conditions(pod, start) if status.host_ips or status.pod_ips or pod.spec.node_name else []
    return {
        "spec": _pod_spec(pod.spec),
        "status": _some(
            phase=status.phase,
            reason=status.reason,
            conditions=condition,
            containerStatuses=[_container_status(c, pod, start) for c in status.containers],
            initContainerStatuses=[_container_status(c, pod, start) for c in status.inits],
            nominatedNodeName=status.nominated_node,
            hostIP=status.host_ips[0] if status.host_ips else None,
            hostIPs=[{"ip": ip} for ip in status.host_ips],
            podIP=pod.ip,
            podIPs=[{"ip": ip} for ip in status.pod_ips],
            startTime=written(status.start_ns, start),
        ),
    }


def _conditions(pod: Pod, start: Start) -> list[Tree]:
    status = pod.status
    ready = "True" if status.ready else "False"
    containers = "True" if pod.spec.readiness_gates and status.containers_ready else ready
    rows = [
        ("Initialized", "True", status.start_ns),
        ("Ready", ready, status.ready_since_ns),
        ("ContainersReady", containers, status.ready_since_ns),
        ("PodScheduled", "True", status.scheduled_ns),
    ]
    own = [_some(type=name, status=word, lastTransitionTime=written(t_ns, start)) for name, word, t_ns in rows]
    return [*(_condition(condition, start) for condition in status.conditions), *own]


def _container_status(status: ContainerStatus, pod: Pod, start: Start) -> Tree:
    specs = (*pod.spec.containers, *pod.spec.init_containers)
    image = next((c.image for c in specs if c.name == status.name), "")
    since = {"startedAt": written(status.started_ns, start)} if status.started_ns is not None else {}
    ended = _some(
        exitCode=status.exit_code,
        finishedAt=written(status.finished_ns, start),
        reason=status.reason if status.state == "terminated" else status.ended,
    )
    state: Tree = {"waiting": _some(reason=status.reason)}
    if status.state == "running":
        state = {"running": {name: value for name, value in since.items() if value}}
    elif status.state == "terminated":
        state = {"terminated": ended}
    last = {"terminated": ended} if status.state != "terminated" and status.exit_code is not None else {}
    return {
        **_some(image=image, name=status.name),
        "lastState": Whole(last),
        "ready": status.ready,
        "restartCount": status.restarts,
        "started": status.state == "running",
        "state": Whole(state),
    }


def _pod_spec(spec: PodSpec) -> Tree:
    return _some(
        affinity=dict(spec.affinity) if spec.affinity else None,
        containers=[_container(c) for c in spec.containers],
        dnsPolicy=spec.dns_policy,
        hostname=spec.hostname,
        hostNetwork=spec.host_network or None,
        initContainers=[_container(c) for c in spec.init_containers],
        nodeName=spec.node_name,
        overhead=dict(spec.overhead),
        nodeSelector=_whole(spec.node_selector),
        preemptionPolicy=spec.preemption_policy,
        priority=spec.priority or None,
        priorityClassName=spec.priority_class,
        readinessGates=[{"conditionType": gate} for gate in spec.readiness_gates],
        restartPolicy=spec.restart_policy,
        serviceAccount=spec.service_account,
        serviceAccountName=spec.service_account,
        subdomain=spec.subdomain,
        terminationGracePeriodSeconds=spec.grace_s,
        tolerations=[
            _some(
                effect=t.effect,
                key=t.key,
                operator=t.operator if t.operator != "Equal" else None,
                value=t.value,
                tolerationSeconds=t.seconds,
            )
            for t in spec.tolerations
        ],
        topologySpreadConstraints=[dict(constraint) for constraint in spec.spread],
    )


def _container(container: Container) -> Tree:
    requests, limits, sleep = dict(container.requests), dict(container.limits), container.pre_stop_sleep_s
    return _some(
        args=list(container.args),
        command=list(container.command),
        env=IfAbsent([{"name": name, "value": value} for name, value in container.env]) if container.env else None,
        image=container.image,
        lifecycle=IfAbsent({"preStop": {"sleep": {"seconds": sleep}}}) if sleep is not None else None,
        livenessProbe=_probe(container.liveness),
        name=container.name,
        ports=[
            _some(
                containerPort=p.port,
                hostIP=p.host_ip or None,
                hostPort=p.host_port or None,
                name=p.name,
                protocol=p.protocol,
            )
            for p in container.ports
        ],
        readinessProbe=_probe(container.readiness),
        resources=_some(limits=limits, requests=requests) or None,
        restartPolicy=container.restart_policy,
        startupProbe=_probe(container.startup),
    )


def _probe(probe: Probe | None) -> Tree | None:
    if probe is None:
        return None
    handler: Tree = _some(port=probe.port)
    if probe.action == "httpGet":
        handler = {"path": probe.path, **handler}
    return {
        probe.action: handler,
        "failureThreshold": probe.failure,
        "periodSeconds": probe.period_s,
        "successThreshold": probe.success,
        "timeoutSeconds": probe.timeout_s,
        **({"initialDelaySeconds": probe.initial_delay_s} if probe.initial_delay_s else {}),
        **({} if probe.grace_s is None else {"terminationGracePeriodSeconds": probe.grace_s}),
    }


def _selector(selector: LabelSelector) -> Tree:
    expressions = [_some(key=e.key, operator=e.operator, values=list(e.values)) for e in selector.match_expressions]
    return _some(matchLabels=_whole(selector.match_labels), matchExpressions=expressions)


def _template(template: PodTemplate) -> Tree:
    metadata = _some(labels=_whole(template.labels), annotations=_whole(template.annotations))
    return {"metadata": metadata, "spec": _pod_spec(template.spec)}


def _status(observed: Mapping[str, int]) -> Tree:
    return {name: value for name, value in observed.items() if value}


def _deployment(obj: Deployment, start: Start) -> Tree:
    strategy: Tree = {"type": obj.strategy.type}
    if obj.strategy.type == "RollingUpdate":
        strategy["rollingUpdate"] = {
            "maxSurge": obj.strategy.max_surge,
            "maxUnavailable": obj.strategy.max_unavailable,
        }
    return {
        "spec": {
            **_some(minReadySeconds=obj.min_ready_s or None, paused=obj.paused or None),
            "progressDeadlineSeconds": obj.progress_deadline_s,
            "replicas": obj.replicas,
            "revisionHistoryLimit": obj.revision_history_limit,
            "selector": _selector(obj.selector),
            "strategy": strategy,
            "template": _template(obj.template),
        },
        "status": {**_status(obj.observed), **_some(conditions=[_condition(c, start) for c in obj.conditions])},
    }


def _condition(condition: Condition, start: Start) -> Tree:
    return _some(
        lastTransitionTime=written(condition.since_ns, start),
        lastUpdateTime=written(condition.updated_ns, start),
        message=condition.message,
        reason=condition.reason,
        status=condition.status,
        type=condition.type,
    )


def _replica_set(obj: ReplicaSet | StatefulSet | DaemonSet, start: Start) -> Tree:
    spec: Tree = {"selector": _selector(obj.selector), "template": _template(obj.template)}
    if isinstance(obj, ReplicaSet | StatefulSet):
        spec["replicas"] = obj.replicas
    if obj.min_ready_s:
        spec["minReadySeconds"] = obj.min_ready_s
    status = _status(obj.observed)
    if isinstance(obj, StatefulSet):
        spec |= {"podManagementPolicy": obj.pod_management, "serviceName": obj.service_name}
        spec |= {"revisionHistoryLimit": obj.revision_history_limit, "updateStrategy": _ordered_update(obj)}
        if obj.start_ordinal:
            spec["ordinals"] = {"start": obj.start_ordinal}
        status |= _some(currentRevision=obj.current_revision, updateRevision=obj.update_revision)
    elif isinstance(obj, DaemonSet):
        update: Tree = {"type": obj.update.type}
        if obj.update.type == "RollingUpdate":
            limits = {"maxSurge": obj.update.max_surge, "maxUnavailable": obj.update.max_unavailable}
            update["rollingUpdate"] = limits
        spec |= {"revisionHistoryLimit": obj.revision_history_limit, "updateStrategy": update}
    return {"spec": spec, "status": status}


def _ordered_update(obj: StatefulSet) -> Tree:
    update: Tree = {"type": obj.update_type}
    if obj.update_type == "RollingUpdate" and (obj.partition is not None or obj.max_unavailable is not None):
        update["rollingUpdate"] = {"partition": obj.partition or 0}
        if obj.max_unavailable is not None:
            update["rollingUpdate"]["maxUnavailable"] = obj.max_unavailable
    return update


def _job(obj: Job, start: Start) -> Tree:
    spec = _some(
        activeDeadlineSeconds=obj.active_deadline_s,
        backoffLimit=obj.backoff_limit,
        completionMode="Indexed" if obj.indexed else "NonIndexed",
        completions=obj.completions,
        parallelism=obj.parallelism,
        podFailurePolicy={"rules": [_failure_rule(rule) for rule in obj.failure_rules]} if obj.failure_rules else None,
        podReplacementPolicy="Failed" if obj.replaces_failed_only else "TerminatingOrFailed",
        ttlSecondsAfterFinished=obj.ttl_s,
    )
    uid = {"batch.kubernetes.io/controller-uid": obj.meta.uid}
    selector = {"selector": {"matchLabels": uid}} if obj.meta.uid else {}
    status = _some(
        completedIndexes=indexes_text(obj.completed_indexes),
        completionTime=None if obj.completion_ns is None else written(obj.completion_ns, start),
        conditions=[_condition(c, start) for c in obj.conditions],
        startTime=None if obj.start_ns is None else written(obj.start_ns, start),
    )
    rest = {**selector, "suspend": obj.suspend, "template": _template(obj.template)}
    return {"spec": {**spec, **rest}, "status": {**_status(obj.observed), **status}}


def _failure_rule(rule: FailureRule) -> Tree:
    codes = _some(containerName=rule.container, operator=rule.operator, values=list(rule.codes))
    patterns = [{"status": status, "type": kind} for kind, status in rule.conditions]
    return _some(action=rule.action, onExitCodes=codes if rule.operator else None, onPodConditions=patterns)


def _service(obj: Service, start: Start) -> Tree:
    external = obj.type in ("NodePort", "LoadBalancer")
    affinity = {"clientIP": {"timeoutSeconds": obj.affinity_timeout_s}} if obj.session_affinity == "ClientIP" else None
    spec = _some(
        allocateLoadBalancerNodePorts=obj.allocate_node_ports if obj.type == "LoadBalancer" else None,
        clusterIP=obj.cluster_ip,
        clusterIPs=list(obj.cluster_ips),
        externalIPs=list(obj.external_ips),
        externalName=obj.external_name,
        externalTrafficPolicy=obj.external_traffic_policy if external else None,
        healthCheckNodePort=obj.health_check_node_port or None,
        internalTrafficPolicy=obj.internal_traffic_policy if obj.type != "ExternalName" else None,
        ipFamilies=list(obj.ip_families) if obj.type != "ExternalName" else None,
        ipFamilyPolicy=obj.ip_family_policy if obj.type != "ExternalName" else None,
        loadBalancerClass=obj.load_balancer_class,
        loadBalancerIP=obj.load_balancer_ip,
        loadBalancerSourceRanges=list(obj.load_balancer_source_ranges),
        ports=[
            _some(
                appProtocol=p.app_protocol,
                name=p.name,
                nodePort=p.node_port or None,
                port=p.port,
                protocol=p.protocol,
                targetPort=p.target,
            )
            for p in obj.ports
        ],
        publishNotReadyAddresses=obj.publish_not_ready or None,
        selector=_whole(obj.selector),
        sessionAffinity=obj.session_affinity,
        sessionAffinityConfig=affinity,
        trafficDistribution=obj.traffic_distribution,
        type=obj.type,
    )
    return {"spec": spec, "status": {"loadBalancer": _load_balancer(obj.load_balancer)}}


def _load_balancer(entries: Iterable[LoadBalancerIngress]) -> Tree:
    return _some(ingress=[_some(hostname=e.hostname, ip=e.ip, ipMode=e.ip_mode if e.ip else None) for e in entries])


def _endpoint_slice(obj: EndpointSlice, start: Start) -> Tree:
    ports = _endpoint_ports(obj.ports)
    for port in ports:
        port.setdefault("name", "")
    return {"addressType": obj.address_type, "endpoints": [_endpoint(e) for e in obj.endpoints], "ports": ports}


def _endpoint(endpoint: Endpoint) -> Tree:
    return _some(
        addresses=list(endpoint.addresses),
        conditions=_some(ready=endpoint.ready, serving=endpoint.serving, terminating=endpoint.terminating),
        hostname=endpoint.hostname,
        hints=_some(
            forZones=[{"name": zone} for zone in endpoint.hint_zones],
            forNodes=[{"name": node} for node in endpoint.hint_nodes],
        ),
        nodeName=endpoint.node_name,
        targetRef=_reference(endpoint.target),
        zone=endpoint.zone,
    )


def _endpoint_ports(ports: Iterable[EndpointPort]) -> list[Tree]:
    return [_some(name=p.name, port=p.port, protocol=p.protocol, appProtocol=p.app_protocol) for p in ports]


def _endpoints(obj: Endpoints, start: Start) -> Tree:
    subsets = [
        _some(
            addresses=[_address(*address) for address in subset.addresses],
            notReadyAddresses=[_address(*address) for address in subset.not_ready],
            ports=_endpoint_ports(subset.ports),
        )
        for subset in obj.subsets
    ]
    return _some(subsets=subsets)


def _address(ip: str, target: Key | None, node: str) -> Tree:
    return _some(ip=ip, nodeName=node, targetRef=_reference(target))


def _reference(target: Key | None) -> Tree | None:
    return _some(kind=target.kind, name=target.name, namespace=target.namespace) if target else None


def _ingress(obj: Ingress, start: Start) -> Tree:
    rules = []
    for rule in obj.rules:
        paths = [{"backend": _backend(p.backend), "path": p.path, "pathType": p.path_type} for p in rule.paths]
        rules.append(_some(host=rule.host, http={"paths": paths} if paths else None))
    spec = _some(
        defaultBackend=_backend(obj.default_backend) if obj.default_backend else None,
        ingressClassName=obj.ingress_class,
        rules=rules,
        tls=[_some(hosts=list(t.hosts), secretName=t.secret) for t in obj.tls],
    )
    return {"spec": spec, "status": {"loadBalancer": _load_balancer(obj.load_balancer)}}


def _backend(backend: IngressBackend) -> Tree:
    if not backend.service:
        return {}
    port = {"number": backend.port} if isinstance(backend.port, int) else {"name": backend.port}
    return {"service": {"name": backend.service, "port": port}}


def _budget(obj: PodDisruptionBudget, start: Start) -> Tree:
    status = obj.status
    return {
        "spec": _some(
            minAvailable=obj.min_available,
            maxUnavailable=obj.max_unavailable,
            selector=None if obj.selector is None else _selector(obj.selector),
            unhealthyPodEvictionPolicy=obj.unhealthy_policy if obj.unhealthy_policy != "IfHealthyBudget" else None,
        ),
        "status": {
            "currentHealthy": status.current_healthy,
            "desiredHealthy": status.desired_healthy,
            "disruptionsAllowed": status.disruptions_allowed,
            "expectedPods": status.expected_pods,
            "observedGeneration": status.observed_generation,
        },
    }


def _autoscaler(obj: HorizontalPodAutoscaler, start: Start) -> Tree:
    status = obj.status
    now: Tree = {}
    if obj.cpu is not None and status.average_milli is not None:
        value = milli_text(status.average_milli)
        current = _some(averageUtilization=status.utilization, averageValue=value)
        now = {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]}
    return {
        "spec": _some(
            maxReplicas=obj.max_replicas,
            minReplicas=obj.min_replicas,
            metrics=IfAbsent([_cpu_metric(obj.cpu)]) if obj.cpu is not None else None,
            behavior=_some(
                scaleUp=_scaling(obj.up) if obj.up is not None else None,
                scaleDown=_scaling(obj.down) if obj.down is not None else None,
            ),
            scaleTargetRef={"apiVersion": obj.target_version, "kind": obj.target.kind, "name": obj.target.name},
        ),
        "status": {
            **_some(
                currentReplicas=status.current_replicas,
                desiredReplicas=status.desired_replicas,
                lastScaleTime=written(status.last_scale_ns, start),
                conditions=[
                    _some(
                        lastTransitionTime=written(c.since_ns, start),
                        message=c.message, reason=c.reason, status=c.status, type=c.type,
                    )
                    for c in status.conditions
                ],
            ),
            **now,
        },
    }  # fmt: skip


def _cpu_metric(cpu: CpuTarget) -> Tree:
    if cpu.average_milli is not None:
        target: Tree = {"type": "AverageValue", "averageValue": milli_text(cpu.average_milli)}
    else:
        target = {"type": "Utilization", "averageUtilization": cpu.utilization}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _scaling(rules: ScalingRules) -> Tree:
    policies = [{"type": p.type, "value": p.value, "periodSeconds": p.period_s} for p in rules.policies]
    return _some(policies=policies, selectPolicy=rules.select, stabilizationWindowSeconds=rules.window_s)


def _ingress_class(obj: IngressClass, start: Start) -> Tree:
    return {"spec": {"controller": obj.controller}}


def _priority_class(obj: PriorityClass, start: Start) -> Tree:
    return _some(
        description=obj.description,
        globalDefault=obj.global_default or None,
        preemptionPolicy=obj.preemption_policy,
        value=obj.value,
    )


def _node(obj: Node, start: Start) -> Tree:
    addresses = [{"address": ip, "type": "InternalIP"} for ip in obj.internal_ips]
    addresses += [{"address": ip, "type": "ExternalIP"} for ip in obj.external_ips]
    addresses.append({"address": obj.meta.name, "type": "Hostname"})
    return {
        "spec": _some(
            podCIDR=obj.pod_cidrs[0] if obj.pod_cidrs else None,
            podCIDRs=list(obj.pod_cidrs),
            providerID=obj.provider_id,
            taints=[_some(effect=t.effect, key=t.key, value=t.value) for t in obj.taints],
            unschedulable=obj.unschedulable or None,
        ),
        "status": {
            "addresses": addresses,
            **({"allocatable": dict(obj.allocatable)} if obj.allocatable else {}),
            "conditions": [{"status": obj.ready, "type": "Ready"}],
        },
    }


def _config_map(obj: ConfigMap, start: Start) -> Tree:
    return {"data": Whole(obj.data)} if obj.data else {}


def _secret(obj: Secret, start: Start) -> Tree:
    return {"type": obj.type}


WRITERS: Mapping[str, Callable[[Any, Start], Tree]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _replica_set,
    "DaemonSet": _replica_set,
    "Service": _service,
    "EndpointSlice": _endpoint_slice,
    "Endpoints": _endpoints,
    "Ingress": _ingress,
    "IngressClass": _ingress_class,
    "PodDisruptionBudget": _budget,
    "Job": _job,
    "PriorityClass": _priority_class,
    "HorizontalPodAutoscaler": _autoscaler,
    "Node": _node,
    "ConfigMap": _config_map,
    "Secret": _secret,
}
"""Kinds that write more than their metadata."""
