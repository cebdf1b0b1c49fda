"""What pods and pod templates write."""

from kflab.manifest.objects_pods import Container, ContainerStatus, Pod, PodSpec, PodTemplate, Probe
from kflab.manifest.write_common import IfAbsent, Start, Tree, Whole, condition_tree, some, whole, written


def pod_tree(pod: Pod, start: Start) -> Tree:
    """spec and status of a Pod."""
    status = pod.status
    condition = _conditions(pod, start) if status.host_ips or status.pod_ips or pod.spec.node_name else []
    return {
        "spec": _pod_spec(pod.spec),
        "status": some(
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
    own = [some(type=name, status=word, lastTransitionTime=written(t_ns, start)) for name, word, t_ns in rows]
    return [*(condition_tree(condition, start) for condition in status.conditions), *own]


def _container_status(status: ContainerStatus, pod: Pod, start: Start) -> Tree:
    specs = (*pod.spec.containers, *pod.spec.init_containers)
    image = next((c.image for c in specs if c.name == status.name), "")
    since = {"startedAt": written(status.started_ns, start)} if status.started_ns is not None else {}
    ended = some(
        exitCode=status.exit_code,
        finishedAt=written(status.finished_ns, start),
        reason=status.reason if status.state == "terminated" else status.ended,
    )
    state: Tree = {"waiting": some(reason=status.reason)}
    if status.state == "running":
        state = {"running": {name: value for name, value in since.items() if value}}
    elif status.state == "terminated":
        state = {"terminated": ended}
    last = {"terminated": ended} if status.state != "terminated" and status.exit_code is not None else {}
    return {
        **some(image=image, name=status.name),
        "lastState": Whole(last),
        "ready": status.ready,
        "restartCount": status.restarts,
        "started": status.state == "running",
        "state": Whole(state),
    }


def _pod_spec(spec: PodSpec) -> Tree:
    return some(
        affinity=dict(spec.affinity) if spec.affinity else None,
        containers=[_container(c) for c in spec.containers],
        dnsPolicy=spec.dns_policy,
        hostname=spec.hostname,
        hostNetwork=spec.host_network or None,
        initContainers=[_container(c) for c in spec.init_containers],
        nodeName=spec.node_name,
        overhead=dict(spec.overhead),
        nodeSelector=whole(spec.node_selector),
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
            some(
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


def _hooks(container: Container) -> Tree:
    """lifecycle, as far as it is known of a container that was made: commands are not."""
    sleep, start = container.pre_stop_sleep_s, container.post_start
    hooks: Tree = {} if sleep is None else {"preStop": {"sleep": {"seconds": sleep}}}
    if start is not None and start.action == "sleep":
        hooks["postStart"] = {"sleep": {"seconds": start.sleep_s}}
    elif start is not None and start.action == "httpGet":
        hooks["postStart"] = {"httpGet": some(host=start.host, port=start.port)}
    return hooks


def _container(container: Container) -> Tree:
    requests, limits, hooks = dict(container.requests), dict(container.limits), _hooks(container)
    return some(
        args=list(container.args),
        command=list(container.command),
        env=IfAbsent([{"name": name, "value": value} for name, value in container.env]) if container.env else None,
        image=container.image,
        lifecycle=IfAbsent(hooks) if hooks else None,
        livenessProbe=_probe(container.liveness),
        name=container.name,
        ports=[
            some(
                containerPort=p.port,
                hostIP=p.host_ip or None,
                hostPort=p.host_port or None,
                name=p.name,
                protocol=p.protocol,
            )
            for p in container.ports
        ],
        readinessProbe=_probe(container.readiness),
        resources=some(limits=limits, requests=requests) or None,
        restartPolicy=container.restart_policy,
        startupProbe=_probe(container.startup),
    )


def _probe(probe: Probe | None) -> Tree | None:
    if probe is None:
        return None
    handler: Tree = some(port=probe.port)
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


def template_tree(template: PodTemplate) -> Tree:
    """A workload's spec.template."""
    metadata = some(labels=whole(template.labels), annotations=whole(template.annotations))
    return {"metadata": metadata, "spec": _pod_spec(template.spec)}
