"""Pods and pod templates.

Defaults: k8s.io/kubernetes pkg/apis/core/v1/defaults.go and zz_generated.defaults.go.
"""

import re
from typing import Any

from kflab.manifest.addresses import sloppy_ip
from kflab.manifest.objects import Condition
from kflab.manifest.objects_pods import (
    Container,
    ContainerPort,
    ContainerStatus,
    LifecycleHandler,
    Pod,
    PodSpec,
    PodStatus,
    PodTemplate,
    Probe,
    Toleration,
)
from kflab.manifest.typed_common import Given, Tree, protocol_of, seconds, text_map, when_ns
from kflab.replacing import replace

RESTART_POLICIES = ("Always", "Never", "OnFailure")
_QUANTITY = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})?\Z")
_NO_CONTAINER = (Container("app"),)
"""Stands in where a pod names no container, which the API server would refuse."""
_SLEEP = re.compile(r"(?:/\S*/)?sleep\s+(\d+)s?\s*;?\s*\Z")


def pod(tree: Tree, given: Given) -> Pod:
    """v1 Pod."""
    spec = pod_spec(tree.get("spec") or {})
    status = _status(tree.get("status") or {}, given)
    if spec.readiness_gates:
        status = replace(status, conditions=_gate_conditions(tree["status"], spec, given) if tree.get("status") else ())
    return Pod(given.meta, given.raw, given.place, spec=spec, status=status)


def pod_template(tree: Tree | None, restart_policy: str = "Always") -> PodTemplate:
    """PodTemplateSpec of a workload whose pods have this restartPolicy."""
    tree = tree or {}
    metadata = tree.get("metadata") or {}
    spec = replace(pod_spec(tree.get("spec") or {}), restart_policy=restart_policy)
    return PodTemplate(text_map(metadata.get("labels")), text_map(metadata.get("annotations")), spec)


def pod_spec(spec: Tree) -> PodSpec:
    """v1 PodSpec."""
    host_network = bool(spec.get("hostNetwork"))
    containers = tuple(_container(c, i, host_network) for i, c in enumerate(spec.get("containers") or ()))
    restart = spec.get("restartPolicy")
    return PodSpec(
        containers=containers or _NO_CONTAINER,
        init_containers=tuple(_container(c, i, host_network) for i, c in enumerate(spec.get("initContainers") or ())),
        node_name=spec.get("nodeName") or "",
        node_selector=text_map(spec.get("nodeSelector")),
        host_network=host_network,
        restart_policy=restart if restart in RESTART_POLICIES else "Always",
        grace_s=_grace(spec.get("terminationGracePeriodSeconds")),
        tolerations=tuple(_toleration(t) for t in spec.get("tolerations") or ()),
        dns_policy=spec.get("dnsPolicy") or "ClusterFirst",
        dns_options=tuple(
            (option.get("name") or "", option.get("value") or "")
            for option in (spec.get("dnsConfig") or {}).get("options") or ()
        ),
        hostname=spec.get("hostname") or "",
        subdomain=spec.get("subdomain") or "",
        service_account=spec.get("serviceAccountName") or spec.get("serviceAccount") or "default",
        affinity=spec.get("affinity") or None,
        readiness_gates=tuple(g.get("conditionType") or "" for g in spec.get("readinessGates") or ()),
        priority_class=spec.get("priorityClassName") or "",
        priority=int(spec.get("priority") or 0),
        preemption_policy="Never" if spec.get("preemptionPolicy") == "Never" else "",
        spread=tuple(spec.get("topologySpreadConstraints") or ()),
        overhead=tuple(quantities(spec.get("overhead")).items()),
    )


def _grace(value: Any) -> int:
    """A negative grace period is one second (validation.go, and kubelet's reading of old objects)."""
    return 1 if value is not None and value < 0 else seconds(value, 30)


def _toleration(tree: Tree) -> Toleration:
    limit = tree.get("tolerationSeconds")
    return Toleration(
        tree.get("key") or "",
        tree.get("operator") or "Equal",
        tree.get("value") or "",
        tree.get("effect") or "",
        None if limit is None else seconds(limit, 0),
    )


def _container(tree: Tree, position: int, host_network: bool) -> Container:
    return Container(
        name=tree.get("name") or f"container-{position + 1}",
        image=tree.get("image") or "",
        ports=tuple(
            ContainerPort(
                int(p["containerPort"]),
                p.get("name") or "",
                protocol_of(p),
                # On the host's network every port is a host port (SetDefaults_HostNetwork).
                int(p.get("hostPort") or (p["containerPort"] if host_network else 0)),
                str(p.get("hostIP") or ""),
            )
            for p in tree.get("ports") or ()
            if p.get("containerPort")
        ),
        args=tuple(str(a) for a in tree.get("args") or ()),
        command=tuple(str(a) for a in tree.get("command") or ()),
        env=tuple((e.get("name") or "", e.get("value") or "") for e in tree.get("env") or () if not e.get("valueFrom")),
        readiness=_probe(tree.get("readinessProbe")),
        liveness=_probe(tree.get("livenessProbe")),
        startup=_probe(tree.get("startupProbe")),
        pre_stop_sleep_s=(sleep := _pre_stop_sleep(tree)),
        pre_stop_hook=sleep is None and bool((tree.get("lifecycle") or {}).get("preStop")),
        post_start=_post_start((tree.get("lifecycle") or {}).get("postStart") or {}),
        restart_policy=tree.get("restartPolicy") or "",
        pull_policy=tree.get("imagePullPolicy") or "",
        requests=quantities((tree.get("resources") or {}).get("requests")),
        limits=tuple(sorted(quantities((tree.get("resources") or {}).get("limits")).items())),
    )


def quantities(tree: Any) -> dict[str, str]:
    """A ResourceList's entries that are quantities."""
    return {str(name): str(quantity) for name, quantity in (tree or {}).items() if is_quantity(quantity)}


def is_quantity(value: Any) -> bool:
    """Whether a value is a quantity (apimachinery pkg/api/resource/quantity.go)."""
    return value is not None and _QUANTITY.match(str(value)) is not None and len(str(value)) < 40


def _probe(tree: Any) -> Probe | None:
    if not tree:
        return None
    for action in ("httpGet", "tcpSocket", "grpc", "exec"):
        if tree.get(action) is not None:
            break
    else:
        return None
    handler = tree[action]
    own = tree.get("terminationGracePeriodSeconds")
    return Probe(
        action,
        handler.get("port"),
        handler.get("path") or "/" if action == "httpGet" else "/",
        seconds(tree.get("initialDelaySeconds"), 0),
        seconds(tree.get("periodSeconds") or None, 10),
        seconds(tree.get("timeoutSeconds") or None, 1),
        seconds(tree.get("successThreshold") or None, 1),
        seconds(tree.get("failureThreshold") or None, 3),
        seconds(own, 0) or None,
    )


def _pre_stop_sleep(tree: Tree) -> int | None:
    hook = ((tree.get("lifecycle") or {}).get("preStop")) or {}
    if hook.get("sleep"):
        return seconds(hook["sleep"].get("seconds"), 0)
    return _slept((hook.get("exec") or {}).get("command") or [])


def _post_start(hook: Tree) -> LifecycleHandler | None:
    if hook.get("sleep") is not None:
        return LifecycleHandler("sleep", seconds(hook["sleep"].get("seconds"), 0))
    if hook.get("exec") is not None:
        return LifecycleHandler("exec", _slept(hook["exec"].get("command") or []) or 0)
    if hook.get("httpGet") is not None:
        # Without a port the API server refuses it; 80 as handlers.go has it for an empty one.
        return LifecycleHandler("httpGet", 0, hook["httpGet"].get("port") or 80, str(hook["httpGet"].get("host") or ""))
    return LifecycleHandler("tcpSocket") if hook.get("tcpSocket") is not None else None


def _slept(command: list[Any]) -> int | None:
    """N of a command that is `sleep N` and nothing else."""
    if not command:
        return None
    # Either the words themselves, or a shell that is given them as one.
    text = str(command[-1]) if len(command) == 3 and command[1] == "-c" else " ".join(str(word) for word in command)
    found = _SLEEP.match(text)
    return seconds(int(found[1][:18]), 0) if found else None


def _status(status: Tree, given: Given) -> PodStatus:
    if not status:
        return PodStatus()
    ips = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    if not ips and status.get("podIP"):
        ips = [status["podIP"]]
    host_ips = [entry["ip"] for entry in status.get("hostIPs") or () if entry.get("ip")]
    if not host_ips and status.get("hostIP"):
        host_ips = [status["hostIP"]]
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready") or {}
    scheduled = conditions.get("PodScheduled") or {}
    is_ready = ready.get("status") == "True"
    return PodStatus(
        phase=status.get("phase") or "Pending",
        pod_ips=tuple(usual for ip in ips if (usual := sloppy_ip(ip))),
        host_ips=tuple(usual for ip in host_ips if (usual := sloppy_ip(ip))),
        ready=is_ready,
        ready_since_ns=when_ns(ready.get("lastTransitionTime"), given.now) if is_ready else None,
        scheduled_ns=when_ns(scheduled.get("lastTransitionTime"), given.now),
        start_ns=when_ns(status.get("startTime"), given.now),
        reason=status.get("reason") or "",
        containers=tuple(_container_status(c, given) for c in status.get("containerStatuses") or ()),
        inits=tuple(_container_status(c, given) for c in status.get("initContainerStatuses") or ()),
        nominated_node=status.get("nominatedNodeName") or "",
    )


def _gate_conditions(status: Tree, spec: PodSpec, given: Given) -> tuple[Condition, ...]:
    """The conditions that readiness gates name."""
    return tuple(
        Condition(
            c["type"],
            c.get("status") or "Unknown",
            c.get("reason") or "",
            c.get("message") or "",
            when_ns(c.get("lastTransitionTime"), given.now) or 0,
        )
        for c in status.get("conditions") or ()
        if c.get("type") in spec.readiness_gates
    )


def _container_status(tree: Tree, given: Given) -> ContainerStatus:
    state = tree.get("state") or {}
    name = next((n for n in ("running", "terminated", "waiting") if state.get(n) is not None), "waiting")
    now_state = state.get(name) or {}
    last = (tree.get("lastState") or {}).get("terminated") or {}
    ended = now_state if name == "terminated" else last
    exit_code = ended.get("exitCode")
    return ContainerStatus(
        name=tree.get("name") or "",
        state=name,
        reason=now_state.get("reason") or ("ContainerCreating" if name == "waiting" else ""),
        ready=bool(tree.get("ready")),
        restarts=int(tree.get("restartCount") or 0),
        started_ns=when_ns(now_state.get("startedAt"), given.now),
        finished_ns=when_ns(ended.get("finishedAt"), given.now),
        exit_code=None if exit_code is None else int(exit_code),
        exit_reason=(ended.get("reason") or "") if ended.get("reason") not in ("Error", "Completed") else "",
    )
