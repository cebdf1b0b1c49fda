"""`kubectl describe` of pods, pod templates and the workloads that make them.

Source: k8s.io/kubectl pkg/describe/describe.go: describePod, DescribePodTemplate, describeContainers,
describeDeployment, describeReplicaSet. What the lab does not model (container ids, limits, volumes, environment taken
from elsewhere) is left out.
"""

from collections.abc import Sequence

from kflab.cluster.store import Store
from kflab.kubectl.ages import human_duration, rfc1123z
from kflab.kubectl.printers import seen
from kflab.kubectl.selectors import format_selector
from kflab.kubectl.sheet import annotations, lines_of
from kflab.kubectl.tabular import Writer
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Container, ContainerStatus, Pod, PodTemplate, Probe, Toleration
from kflab.manifest.objects_workloads import DaemonSet, Deployment, ReplicaSet, StatefulSet


def describe_pod(out: Writer, pod: Pod, store: Store, now_ns: int) -> None:
    """Write a pod."""
    del store
    spec, status = pod.spec, pod.status
    out.line(0, "Name:", pod.meta.name)
    out.line(0, "Namespace:", pod.meta.namespace)
    out.line(0, "Priority:", str(spec.priority))
    if spec.priority_class:
        out.line(0, "Priority Class Name:", spec.priority_class)
    if spec.service_account:
        out.line(0, "Service Account:", spec.service_account)
    host = status.host_ips[0] if status.host_ips else ""
    out.line(0, "Node:", f"{spec.node_name}/{host}" if spec.node_name else "<none>")
    if status.start_ns is not None:
        out.line(0, "Start Time:", rfc1123z(status.start_ns))
    lines_of(out, "Labels", pod.meta.labels)
    annotations(out, "Annotations", pod.meta.annotations)
    if pod.meta.deletion_ns is not None and status.phase not in ("Succeeded", "Failed"):
        # kubectl counts from deletionTimestamp, which lies the grace period after the delete.
        grace = pod.meta.grace_s if pod.meta.grace_s is not None else spec.grace_s
        lasts = human_duration(now_ns - pod.meta.deletion_ns - grace * 1_000_000_000)
        out.line(0, "Status:", f"Terminating (lasts {lasts})")
        out.line(0, "Termination Grace Period:", f"{grace}s")
    else:
        out.line(0, "Status:", status.phase)
    if status.reason:
        out.line(0, "Reason:", status.reason)
    out.line(0, "IP:", pod.ip)
    if status.pod_ips:
        out.line(0, "IPs:")
        for address in status.pod_ips:
            out.line(1, "IP:", address)
    else:
        out.line(0, "IPs:", "<none>")
    if pod.meta.owner is not None:
        out.line(0, "Controlled By:", f"{pod.meta.owner.kind}/{pod.meta.owner.name}")
    states = {state.name: state for state in (*status.inits, *status.containers)}
    if spec.init_containers:
        _containers(out, "Init Containers", spec.init_containers, states, 0)
    _containers(out, "Containers", spec.containers, states, 0)
    if spec.readiness_gates:
        out.line(0, "Readiness Gates:")
        out.line(1, "Type", "Status")
        for gate in spec.readiness_gates:
            found = status.condition(gate)
            out.line(1, f"{gate} ", f"{found.status if found is not None else '<none>'} ")
    _conditions(out, pod)
    out.line(0, "QoS Class:", qos_class(pod))
    lines_of(out, "Node-Selectors", spec.node_selector)
    _tolerations(out, 0, spec.tolerations)


def _conditions(out: Writer, pod: Pod) -> None:
    status = pod.status
    scheduled = bool(pod.spec.node_name)
    rows: list[tuple[str, bool | str]] = [("PodScheduled", scheduled)]
    if scheduled:
        # Order as the kubelet writes them (k8s.io/kubernetes pkg/kubelet/kubelet_pods.go, generateAPIPodStatus).
        has_sandbox = bool(status.pod_ips)
        failed = any(state.exit_code and state.state != "running" for state in status.inits)
        rows = [
            *((condition.type, condition.status) for condition in status.conditions),
            ("PodReadyToStartContainers", has_sandbox),
            ("Initialized", (status.phase != "Pending" or has_sandbox) and not failed),
            ("Ready", status.ready),
            ("ContainersReady", status.containers_ready),
            ("PodScheduled", True),
        ]
    out.line(0, "Conditions:")
    out.line(1, "Type", "Status")
    for name, true in rows:
        out.line(1, f"{name} ", f"{true} ")


def qos_class(pod: Pod) -> str:
    """Best effort without requests, else burstable; limits are not modelled, so never told as Guaranteed."""
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    return "Burstable" if any(container.requests for container in containers) else "BestEffort"


def _tolerations(out: Writer, level: int, tolerations: Sequence[Toleration]) -> None:
    texts = []
    for toleration in sorted(tolerations, key=lambda entry: entry.key):
        text = toleration.key
        if toleration.value:
            text += f"={toleration.value}"
        if toleration.effect:
            text += f":{toleration.effect}"
        if toleration.operator == "Exists" and not toleration.value:
            text += " op=Exists" if text else "op=Exists"
        if toleration.seconds is not None:
            text += f" for {toleration.seconds}s"
        texts.append(text)
    for i, text in enumerate(texts or ["<none>"]):
        out.line(level, "" if i else "Tolerations:", text)


def _containers(
    out: Writer, title: str, containers: Sequence[Container], states: dict[str, ContainerStatus], level: int
) -> None:
    out.line(level, f"{title}:" if containers else f"{title}: <none>")
    for container in containers:
        # kubectl indents a template's containers by one more blank, not by a level.
        out.line(0, f"{' ' * (3 if level else 2)}{container.name}:")
        _container(out, container, states.get(container.name), 2)


def _container(out: Writer, container: Container, state: ContainerStatus | None, level: int) -> None:
    out.line(level, "Image:", container.image)
    ports = ", ".join(f"{port.port}/{port.protocol}" for port in container.ports)
    out.line(level, "Ports:" if "," in ports else "Port:", ports or "<none>")
    hosts = ", ".join(f"{port.host_port}/{port.protocol}" for port in container.ports)
    out.line(level, "Host Ports:" if "," in hosts else "Host Port:", hosts or "<none>")
    for title, words in (("Command:", container.command), ("Args:", container.args)):
        if words:
            out.line(level, title)
            for word in words:
                for line in word.splitlines() or [""]:
                    out.line(level + 1, line)
    if state is not None:
        _state(out, state, level)
    if container.requests:
        out.line(level, "Requests:")
        for name in sorted(container.requests):
            out.line(level + 1, f"{name}:", container.requests[name])
    probes = (("Liveness:", container.liveness), ("Readiness:", container.readiness), ("Startup:", container.startup))
    for title, probe in probes:
        if probe is not None:
            out.line(level, title, probe_text(probe))
    if container.env:
        out.line(level, "Environment:")
        for name, value in container.env:
            for i, line in enumerate(value.splitlines() or [""]):
                out.line(level + 1, "" if i else f"{name}:", line)
    else:
        out.line(level, "Environment:", "<none>")


def _state(out: Writer, state: ContainerStatus, level: int) -> None:
    if state.state == "running":
        out.line(level, "State:", "Running")
        if state.started_ns is not None:
            out.line(level + 1, "Started:", rfc1123z(state.started_ns))
    else:
        out.line(level, "State:", state.state.capitalize())
        if state.reason:
            out.line(level + 1, "Reason:", state.reason)
        if state.state == "terminated":
            _ended(out, state, level, with_start=True)
    if state.state != "terminated" and state.exit_code is not None:
        out.line(level, "Last State:", "Terminated")
        out.line(level + 1, "Reason:", state.ended)
        # The lab keeps the start of the running container only, not of the one before it.
        _ended(out, state, level, with_start=False)
    out.line(level, "Ready:", str(state.ready))
    out.line(level, "Restart Count:", str(state.restarts))


def _ended(out: Writer, state: ContainerStatus, level: int, *, with_start: bool) -> None:
    out.line(level + 1, "Exit Code:", str(state.exit_code or 0))
    if with_start and state.started_ns is not None:
        out.line(level + 1, "Started:", rfc1123z(state.started_ns))
    if state.finished_ns is not None:
        out.line(level + 1, "Finished:", rfc1123z(state.finished_ns))


def probe_text(probe: Probe) -> str:
    """A probe in one line, as DescribeProbe writes it."""
    timing = (
        f"delay={probe.initial_delay_s}s timeout={probe.timeout_s}s period={probe.period_s}s "
        f"#success={probe.success} #failure={probe.failure}"
    )
    match probe.action:
        case "httpGet":
            return f"http-get http://:{probe.port}{probe.path} {timing}"
        case "tcpSocket":
            return f"tcp-socket :{probe.port} {timing}"
        case "grpc":
            return f"grpc <pod>:{probe.port}  {timing}"
        case action:
            return f"{action} {timing}"


def describe_template(out: Writer, template: PodTemplate) -> None:
    """Write a pod template."""
    out.line(0, "Pod Template:")
    lines_of(out, "  Labels", template.labels)
    if template.annotations:
        annotations(out, "  Annotations", template.annotations)
    if template.spec.service_account not in ("", "default"):
        out.line(1, "Service Account:", template.spec.service_account)
    if template.spec.init_containers:
        _containers(out, "Init Containers", template.spec.init_containers, {}, 1)
    _containers(out, "Containers", template.spec.containers, {}, 1)
    lines_of(out, "  Node-Selectors", template.spec.node_selector)
    _tolerations(out, 1, template.spec.tolerations)


def describe_deployment(out: Writer, obj: Deployment, store: Store, now_ns: int) -> None:
    """Write a Deployment."""
    del now_ns
    out.line(0, "Name:", obj.meta.name)
    out.line(0, "Namespace:", obj.meta.namespace)
    out.line(0, "CreationTimestamp:", rfc1123z(obj.meta.creation_ns))
    lines_of(out, "Labels", obj.meta.labels)
    annotations(out, "Annotations", obj.meta.annotations)
    out.line(0, "Selector:", format_selector(obj.selector))
    total, available = seen(obj, "replicas"), seen(obj, "availableReplicas")
    updated, wanted = seen(obj, "updatedReplicas"), obj.replicas
    missing = max(0, max(total, wanted) - available)
    counts = f"{updated} updated | {total} total | {available} available | {missing} unavailable"
    out.line(0, "Replicas:", f"{wanted} desired | {counts}")
    out.line(0, "StrategyType:", obj.strategy.type)
    out.line(0, "MinReadySeconds:", str(obj.min_ready_s))
    if obj.strategy.type == "RollingUpdate":
        bounds = f"{obj.strategy.max_unavailable} max unavailable, {obj.strategy.max_surge} max surge"
        out.line(0, "RollingUpdateStrategy:", bounds)
    describe_template(out, obj.template)
    _progress(out, obj)
    sets = [rs for rs in store.of_kind("ReplicaSet", obj.meta.namespace) if isinstance(rs, ReplicaSet)]
    mine = [rs for rs in sets if rs.meta.owner == obj.key]
    new = [rs for rs in mine if _made_from(rs, obj)][-1:]
    old = [rs for rs in mine if rs not in new]
    if mine:
        out.line(0, "OldReplicaSets:", _replica_sets(old))
        out.line(0, "NewReplicaSet:", _replica_sets(new))


def _progress(out: Writer, obj: Deployment) -> None:
    """Write the conditions that the controller has set."""
    if not obj.conditions:
        return
    out.line(0, "Conditions:")
    out.line(1, "Type", "Status", "Reason")
    out.line(1, "----", "------", "------")
    for entry in obj.conditions:
        out.line(1, f"{entry.type} ", entry.status, entry.reason)


def _made_from(replica_set: ReplicaSet, deployment: Deployment) -> bool:
    """Whether a ReplicaSet has the Deployment's current template, but for the hash label (deploymentutil.FindNew…)."""
    labels = {key: value for key, value in replica_set.template.labels.items() if key != "pod-template-hash"}
    return labels == dict(deployment.template.labels) and replica_set.template.spec == deployment.template.spec


def _replica_sets(found: Sequence[ReplicaSet]) -> str:
    texts = [f"{rs.meta.name} ({seen(rs, 'replicas')}/{rs.replicas} replicas created)" for rs in found]
    return ", ".join(texts) or "<none>"


_DAEMON_COUNTS = (
    ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
    ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
    ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
    ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
    ("Number of Nodes Misscheduled", "numberMisscheduled"),
)


def describe_set(out: Writer, obj: ReplicaSet | StatefulSet | DaemonSet, store: Store, now_ns: int) -> None:
    """Write a ReplicaSet, StatefulSet or DaemonSet."""
    del now_ns
    out.line(0, "Name:", obj.meta.name)
    out.line(0, "Namespace:", obj.meta.namespace)
    if isinstance(obj, StatefulSet):
        out.line(0, "CreationTimestamp:", rfc1123z(obj.meta.creation_ns))
    out.line(0, "Selector:", format_selector(obj.selector))
    if isinstance(obj, DaemonSet):
        selector = ",".join(f"{key}={value}" for key, value in sorted(obj.template.spec.node_selector.items()))
        out.line(0, "Node-Selector:", selector or "<none>")
    lines_of(out, "Labels", obj.meta.labels)
    annotations(out, "Annotations", obj.meta.annotations)
    if obj.meta.owner is not None:
        out.line(0, "Controlled By:", f"{obj.meta.owner.kind}/{obj.meta.owner.name}")
    if isinstance(obj, ReplicaSet):
        out.line(0, "Replicas:", f"{seen(obj, 'replicas')} current / {obj.replicas} desired")
    elif isinstance(obj, StatefulSet):
        out.line(0, "Replicas:", f"{obj.replicas} desired | {seen(obj, 'replicas')} total")
        out.line(0, "Update Strategy:", obj.update_type)
        if obj.update_type == "RollingUpdate" and obj.partition is not None:
            out.line(1, "Partition:", str(obj.partition))
            if obj.max_unavailable is not None:
                out.line(1, "MaxUnavailable:", str(obj.max_unavailable))
    else:
        for title, name in _DAEMON_COUNTS:
            out.line(0, f"{title}: {seen(obj, name)}")
    out.line(0, "Pods Status:", _phases(obj.key, obj.meta.namespace, store))
    describe_template(out, obj.template)


def _phases(owner: Key, namespace: str, store: Store) -> str:
    pods = [pod for pod in store.of_kind("Pod", namespace) if isinstance(pod, Pod) and pod.meta.owner == owner]
    names = (("Running", "Running"), ("Pending", "Waiting"), ("Succeeded", "Succeeded"), ("Failed", "Failed"))
    return " / ".join(f"{sum(pod.status.phase == phase for pod in pods)} {title}" for phase, title in names)
