"""What the API server would say about pods and workloads.

Source: k8s.io/kubernetes pkg/apis/core/validation/validation.go (ValidatePodSpec and below) and
pkg/apis/apps/validation/validation.go.
"""

from typing import Any

from kflab.manifest import app_annotations
from kflab.manifest.addresses import sloppy_ip
from kflab.manifest.findings import Path, Report, quoted
from kflab.manifest.objects import LabelSelector
from kflab.manifest.schema import API_VERSIONS
from kflab.manifest.typed_common import PROTOCOLS, Tree, protocol_of, text_map
from kflab.manifest.typed_pods import RESTART_POLICIES, is_quantity
from kflab.manifest.typed_workloads import is_share, label_selector, selects_something
from kflab.manifest.validate_hooks import check_hooks
from kflab.manifest.values import (
    PORT_RANGE,
    duplicate,
    go_map,
    go_selector,
    invalid,
    label_problem,
    label_value_problem,
    port_name_problem,
    unsupported,
)

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
HIGHEST_USER_PRIORITY = 1_000_000_000
"""pkg/apis/scheduling/types.go."""

_EMPTY_FOR = {"StatefulSet": "statefulset", "DaemonSet": "daemonset"}
"""Upstream says "deployment" for ReplicaSets too."""
_NO_SHARE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
_NO_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_LEFT_OUT = "this entry is left out"


def check_pod(tree: Tree, report: Report) -> None:
    """v1 Pod."""
    if not tree.get("spec"):
        report.refused(("spec",), "Required value", "a pod with one container that listens nowhere")
        return
    check_pod_spec(tree["spec"], ("spec",), report, workload=False)
    check_annotations(tree, ("metadata",), report)
    for position, entry in enumerate((tree.get("status") or {}).get("podIPs") or ()):
        if entry.get("ip") and sloppy_ip(entry["ip"]) is None:
            words = invalid(entry["ip"], "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
            report.refused(("status", "podIPs", position, "ip"), words, _LEFT_OUT)


def check_budget(tree: Tree, report: Report) -> None:
    """PodDisruptionBudget (k8s.io/kubernetes pkg/apis/policy/validation/validation.go)."""
    spec = tree.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        words = invalid("", "minAvailable and maxUnavailable cannot be both set")
        report.refused(("spec", "minAvailable"), words, "maxUnavailable counts")
    for field in ("minAvailable", "maxUnavailable"):
        share = spec.get(field)
        if share is not None and not is_share(share):
            words = _NO_SHARE if isinstance(share, str) else "must be greater than or equal to 0"
            report.refused(("spec", field), invalid(share, words), "it is ignored")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        words = unsupported(policy, ("AlwaysAllow", "IfHealthyBudget"))
        report.refused(("spec", "unhealthyPodEvictionPolicy"), words, "IfHealthyBudget")


def check_priority_class(tree: Tree, report: Report) -> None:
    """PriorityClass (k8s.io/kubernetes pkg/apis/scheduling/validation/validation.go)."""
    value, name = tree.get("value") or 0, (tree.get("metadata") or {}).get("name") or ""
    if name.startswith("system-") and name not in ("system-node-critical", "system-cluster-critical"):
        words = "Forbidden: priority class names with 'system-' prefix are reserved for system use only"
        report.refused(("metadata", "name"), words, "it counts all the same")
    elif value > HIGHEST_USER_PRIORITY and not name.startswith("system-"):
        words = f"Forbidden: maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        report.refused(("value",), words, "it counts all the same")
    policy = tree.get("preemptionPolicy")
    if policy and policy not in ("Never", "PreemptLowerPriority"):
        words = unsupported(policy, ("Never", "PreemptLowerPriority"))
        report.refused(("preemptionPolicy",), words, "PreemptLowerPriority")


def check_workload(tree: Tree, report: Report) -> None:
    """Deployment, ReplicaSet, StatefulSet and DaemonSet."""
    spec = tree.get("spec") or {}
    path: Path = ("spec",)
    replicas = spec.get("replicas")
    if replicas is not None and replicas < 0:
        report.refused((*path, "replicas"), invalid(replicas, "must be greater than or equal to 0"), "replicas 0")
    _check_selector(tree, spec, report)
    strategy = spec.get("strategy") or {}
    kind = strategy.get("type")
    if kind and kind not in ("Recreate", "RollingUpdate"):
        words = unsupported(kind, ("Recreate", "RollingUpdate"))
        report.refused((*path, "strategy", "type"), words, "RollingUpdate")
    elif kind == "Recreate" and strategy.get("rollingUpdate"):
        words = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
        report.refused((*path, "strategy", "rollingUpdate"), words, "it is ignored")
    for field in ("maxSurge", "maxUnavailable"):
        share = (strategy.get("rollingUpdate") or {}).get(field)
        if share is not None and not is_share(share):
            words = _NO_SHARE if isinstance(share, str) else "must be greater than or equal to 0"
            report.refused((*path, "strategy", "rollingUpdate", field), invalid(share, words), "25%")
    if report.key is not None and report.key.kind in _EMPTY_FOR:
        _check_update_strategy(spec.get("updateStrategy") or {}, (*path, "updateStrategy"), report)
    template = spec.get("template") or {}
    pod_path: Path = (*path, "template", "spec")
    pod_spec = template.get("spec")
    if not pod_spec:
        report.refused((*pod_path, "containers"), "Required value", "pods with one container that listens nowhere")
        return
    check_pod_spec(pod_spec, pod_path, report, workload=True)
    check_annotations(template, (*path, "template", "metadata"), report)


def _check_update_strategy(strategy: Tree, path: Path, report: Report) -> None:
    """updateStrategy of a StatefulSet or DaemonSet (k8s.io/kubernetes pkg/apis/apps/validation/validation.go)."""
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate") or {}
    if kind and kind not in ("OnDelete", "RollingUpdate"):
        report.refused((*path, "type"), unsupported(kind, ("OnDelete", "RollingUpdate")), "RollingUpdate")
    partition = rolling.get("partition")
    if partition is not None and partition < 0:
        words = "must be greater than or equal to 0"
        report.refused((*path, "rollingUpdate", "partition"), invalid(partition, words), "partition 0")
    for field in ("maxSurge", "maxUnavailable"):
        share = rolling.get(field)
        if share is not None and not is_share(share):
            words = _NO_SHARE if isinstance(share, str) else "must be greater than or equal to 0"
            report.refused((*path, "rollingUpdate", field), invalid(share, words), "it is ignored")
    if report.key is None or report.key.kind != "DaemonSet":
        if rolling.get("maxUnavailable") in (0, "0%"):
            words = invalid(rolling["maxUnavailable"], "cannot be 0")
            report.refused((*path, "rollingUpdate", "maxUnavailable"), words, "maxUnavailable 1")
        return
    surges, misses = (rolling.get(name, default) not in (0, "0%")
                      for name, default in (("maxSurge", 0), ("maxUnavailable", 1)))  # fmt: skip
    if surges and misses:
        words = invalid(rolling["maxSurge"], "may not be set when maxUnavailable is non-zero")
        report.refused((*path, "rollingUpdate", "maxSurge"), words, "both are kept")
    elif not surges and not misses:
        words = "Required value: cannot be 0 when maxSurge is 0"
        report.refused((*path, "rollingUpdate", "maxUnavailable"), words, "maxUnavailable 1")


def check_annotations(tree: Tree, path: Path, report: Report) -> None:
    """The lab's own annotations; the API server does not know them."""
    given = text_map((tree.get("metadata") or {}).get("annotations"))
    for name, words in app_annotations.problems(given).items():
        report.error((*path, "annotations", name), words)


def _check_selector(tree: Tree, spec: Tree, report: Report) -> None:
    template = text_map(((spec.get("template") or {}).get("metadata") or {}).get("labels"))
    for name, value in template.items():
        if value and (problem := label_value_problem(value)):
            path: Path = ("spec", "template", "metadata", "labels", name)
            report.refused(path, invalid(value, problem), "the label is kept as written")
    given = spec.get("selector")
    path = ("spec", "selector")
    if not selects_something(given):
        old = tree.get("apiVersion") not in (None, API_VERSIONS[str(tree["kind"])])
        labels = template or {"app": report.key.name if report.key else ""}
        if not (old and template):  # before apps/v1 the selector defaulted to the template's labels
            words = "Required value"
            if given is not None:
                what = _EMPTY_FOR.get(str(tree["kind"]), "deployment")
                words = f"Invalid value: {go_selector(LabelSelector())}: empty selector is invalid for {what}"
            report.refused(path, words, "selector " + ", ".join(f"{name}: {value}" for name, value in labels.items()))
        return
    if not label_selector(given).matches(template):
        labels_path: Path = ("spec", "template", "metadata", "labels")
        words = f"Invalid value: {go_map(template)}: `selector` does not match template `labels`"
        report.refused(labels_path, words, "the pods get the selector's labels as well")


def check_pod_spec(
    spec: Tree, path: Path, report: Report, workload: bool, policies: tuple[str, ...] = ("Always",)
) -> None:
    """PodSpec; of a workload with the restartPolicies that its pods may have."""
    containers = spec.get("containers") or []
    if not containers:
        report.refused((*path, "containers"), "Required value", "one container that listens nowhere")
    restart = spec.get("restartPolicy")
    if restart and (restart not in RESTART_POLICIES or (workload and restart not in policies)):
        supported = policies if workload else RESTART_POLICIES
        taken = policies[-1] if workload else "Always"
        report.refused((*path, "restartPolicy"), unsupported(restart, supported), taken)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        where = (*path, "terminationGracePeriodSeconds")
        report.refused(where, invalid(grace, "must be greater than or equal to 0"), "1 second")
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        for position, container in enumerate(spec.get(field) or ()):
            here = (*path, field, position)
            _check_container(container, here, report, names, volumes, field == "containers", grace)


def _check_container(
    tree: Tree, path: Path, report: Report, names: set[str], volumes: set[Any], probed: bool, grace_s: int | None
) -> None:
    name = tree.get("name")
    if not name:
        report.refused((*path, "name"), "Required value", f"its name is container-{int(path[-1]) + 1}")
    elif problem := label_problem(name):
        report.refused((*path, "name"), invalid(name, problem), "the name is kept")
    elif name in names:
        report.refused((*path, "name"), duplicate(name), "both containers run")
    names.add(name or "")
    if not tree.get("image"):
        report.refused((*path, "image"), "Required value", "an image that listens on the declared ports")
    _check_container_ports(tree.get("ports") or (), (*path, "ports"), report)
    for position, variable in enumerate(tree.get("env") or ()):
        if not variable.get("name"):
            report.refused((*path, "env", position, "name"), "Required value", _LEFT_OUT)
        elif variable.get("value") and variable.get("valueFrom"):
            words = invalid("", "may not be specified when `value` is not empty")
            report.refused((*path, "env", position, "valueFrom"), words, "the value counts")
    for position, mount in enumerate(tree.get("volumeMounts") or ()):
        here = (*path, "volumeMounts", position)
        if not mount.get("name"):
            report.refused((*here, "name"), "Required value", _LEFT_OUT)
        elif mount["name"] not in volumes and probed is not None and not _claimed(mount["name"], report):
            report.refused((*here, "name"), f"Not found: {quoted(mount['name'])}", "nothing is mounted")
        if not mount.get("mountPath"):
            report.refused((*here, "mountPath"), "Required value", _LEFT_OUT)
    for field in ("limits", "requests"):
        for resource, quantity in ((tree.get("resources") or {}).get(field) or {}).items():
            if quantity is not None and not is_quantity(quantity):
                where: Path = (*path, "resources", field, resource)
                report.refused(where, invalid(quantity, _NO_QUANTITY), _LEFT_OUT)
    check_hooks(tree.get("lifecycle") or {}, (*path, "lifecycle"), grace_s, report)
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if tree.get(field) is not None:
            _check_probe(tree[field], (*path, field), report)


def _claimed(name: str, report: Report) -> bool:
    """A StatefulSet's claim templates are volumes too; the API server looks only when it makes the pods."""
    return report.key is not None and report.key.kind == "StatefulSet"


def _check_container_ports(ports: Any, path: Path, report: Report) -> None:
    names: set[str] = set()
    for position, port in enumerate(ports):
        here = (*path, position)
        number = port.get("containerPort")
        if not number:
            report.refused((*here, "containerPort"), "Required value", _LEFT_OUT)
        elif not 1 <= number <= 65535:
            report.error((*here, "containerPort"), invalid(number, PORT_RANGE))
        host_port = port.get("hostPort")
        if host_port and not 1 <= host_port <= 65535:
            report.error((*here, "hostPort"), invalid(host_port, PORT_RANGE))
        protocol = port.get("protocol")
        if protocol and protocol not in PROTOCOLS:
            report.refused((*here, "protocol"), unsupported(protocol, PROTOCOLS), f"protocol {protocol_of(port)}")
        name = port.get("name")
        if name and (problem := port_name_problem(name)):
            report.refused((*here, "name"), invalid(name, problem), "the name is kept")
        elif name and name in names:
            report.refused((*here, "name"), duplicate(name), "the first one counts")
        names.add(name or "")


def _check_probe(tree: Tree, path: Path, report: Report) -> None:
    handlers = [name for name in _HANDLERS if tree.get(name) is not None]
    if not handlers:
        report.refused(path, "Required value: must specify a handler type", "there is no such probe")
        return
    for extra in handlers[1:]:
        words = "Forbidden: may not specify more than 1 handler type"
        report.refused((*path, extra), words, f"{handlers[0]} counts")
    port = tree[handlers[0]].get("port")
    if handlers[0] != "exec":
        where: Path = (*path, handlers[0], "port")
        if port is None:
            report.refused(where, "Required value", "the probe passes while the container is up")
        elif isinstance(port, int) and not 1 <= port <= 65535:
            report.error(where, invalid(port, PORT_RANGE))
        elif isinstance(port, str) and (problem := port_name_problem(port)):
            report.refused(where, invalid(port, problem), "the probe passes while the container is up")
    for field in ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold"):
        value = tree.get(field)
        if value is not None and value < 0:
            report.refused((*path, field), invalid(value, "must be greater than or equal to 0"), "its default")
    grace = tree.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 1:
        report.refused((*path, "terminationGracePeriodSeconds"), invalid(grace, "must be greater than 0"), "the pod's")
    elif grace is not None and path[-1] == "readinessProbe":
        words = invalid(grace, "must not be set for readinessProbes")
        report.refused((*path, "terminationGracePeriodSeconds"), words, "nothing: readiness kills nobody")
    success = tree.get("successThreshold")
    if path[-1] in ("livenessProbe", "startupProbe") and success not in (None, 0, 1):
        report.refused((*path, "successThreshold"), invalid(success, "must be 1"), "1")
