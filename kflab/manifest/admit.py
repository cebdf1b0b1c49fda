"""What the API server would say to an apply: may this object become that one?

Source: k8s.io/kubernetes pkg/apis/core/validation/validation.go (ValidateServiceUpdate, ValidatePodUpdate,
ValidateSecretUpdate, ValidateConfigMapUpdate, ValidateNodeUpdate), pkg/apis/apps/validation/validation.go,
pkg/registry/apps/*/strategy.go, pkg/apis/networking/validation, pkg/apis/discovery/validation.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from kflab.manifest.findings import Finding, Path, Places, Report, Severity
from kflab.manifest.marks import NoMarks
from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_cluster import Node, PriorityClass
from kflab.manifest.objects_config import Secret
from kflab.manifest.objects_network import EndpointSlice, IngressClass, Service
from kflab.manifest.objects_pods import Container, Pod, PodSpec
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, ReplicaSet, StatefulSet
from kflab.manifest.validate import validate
from kflab.manifest.values import go_selector, invalid

_IMMUTABLE: Final = "field is immutable"
_SET_ONCE: Final = "may not change once set"
_STATEFUL_SET: Final = (
    "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
    "forbidden"
)
_POD: Final = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def admit(old: KubeObject | None, new: KubeObject, places: Places | None = None) -> list[Finding]:
    """Judge a create (`old` None) or an update.

    Args:
        old: The object as the API server has it.
        new: The object as it would be stored: made from the tree of `patch.three_way`.
        places: Positions of the text it was written in.

    Returns:
        Findings of severity REFUSED or ERROR; empty when the API server would accept it.
    """
    report = Report(new.key, places or NoMarks())
    if new.raw is not None:
        validate(new.raw, report)
    if old is not None:
        check = _CHECKS.get(new.kind)
        if check is not None and type(old) is type(new):
            check(old, new, report)
    return [replace(f, assumption="") for f in report.findings if f.severity >= Severity.REFUSED]


def _refuse(report: Report, path: Path, message: str) -> None:
    report.refused(path, message, "")


def _service(old: Service, new: Service, report: Report) -> None:
    if "ExternalName" in (old.type, new.type):
        return
    if old.cluster_ips and new.cluster_ips[:1] != old.cluster_ips[:1]:
        shown = "[]string{" + ", ".join(f'"{ip}"' for ip in new.cluster_ips) + "}"
        _refuse(report, ("spec", "clusterIPs", 0), f"Invalid value: {shown}: {_SET_ONCE}")
    if old.type == new.type == "LoadBalancer" and old.load_balancer_class != new.load_balancer_class:
        _refuse(report, ("spec", "loadBalancerClass"), invalid(new.load_balancer_class, _SET_ONCE))
    needs = [s.type == "LoadBalancer" and s.external_traffic_policy == "Local" for s in (old, new)]
    if all(needs) and old.health_check_node_port and new.health_check_node_port != old.health_check_node_port:
        _refuse(report, ("spec", "healthCheckNodePort"), invalid(new.health_check_node_port, _IMMUTABLE))
    if old.ip_families[:1] != new.ip_families[:1] and old.cluster_ips:
        shown = "[]core.IPFamily{" + ", ".join(f'"{name}"' for name in new.ip_families) + "}"
        _refuse(report, ("spec", "ipFamilies", 0), f"Invalid value: {shown}: {_SET_ONCE}")


def _selector(old: Any, new: Any, report: Report) -> None:
    if old.selector != new.selector:
        shown = go_selector(new.selector)
        _refuse(report, ("spec", "selector"), f"Invalid value: {shown}: {_IMMUTABLE}")


def _stateful_set(old: StatefulSet, new: StatefulSet, report: Report) -> None:
    kept = ("selector", "service_name", "pod_management")
    if any(getattr(old, name) != getattr(new, name) for name in kept) or _claims(old) != _claims(new):
        _refuse(report, ("spec",), _STATEFUL_SET)


def _claims(obj: StatefulSet) -> Any:
    return ((obj.raw or {}).get("spec") or {}).get("volumeClaimTemplates") or []


def _pod(old: Pod, new: Pod, report: Report) -> None:
    if _fixed(old.spec) != _fixed(new.spec):
        _refuse(report, ("spec",), _POD)
    elif any(toleration not in new.spec.tolerations for toleration in old.spec.tolerations):
        _refuse(report, ("spec",), _POD)


def _fixed(spec: PodSpec) -> PodSpec:
    """A spec without what may change."""

    def without_image(containers: tuple[Container, ...]) -> tuple[Container, ...]:
        return tuple(replace(container, image="") for container in containers)

    return replace(
        spec,
        containers=without_image(spec.containers),
        init_containers=without_image(spec.init_containers),
        tolerations=(),
    )


def _node(old: Node, new: Node, report: Report) -> None:
    if old.pod_cidrs and old.pod_cidrs != new.pod_cidrs:
        words = 'Forbidden: node updates may not change podCIDR except from "" to valid'
        _refuse(report, ("spec", "podCIDRs"), words)
    if old.provider_id and old.provider_id != new.provider_id:
        words = 'Forbidden: node updates may not change providerID except from "" to valid'
        _refuse(report, ("spec", "providerID"), words)


def _ingress_class(old: IngressClass, new: IngressClass, report: Report) -> None:
    if old.controller != new.controller:
        _refuse(report, ("spec", "controller"), invalid(new.controller, _IMMUTABLE))


def _job(old: Job, new: Job, report: Report) -> None:
    if not old.indexed and old.completions != new.completions:
        _refuse(report, ("spec", "completions"), invalid(new.completions, _IMMUTABLE))
    if old.indexed != new.indexed:
        _refuse(report, ("spec", "completionMode"), invalid("Indexed" if new.indexed else "NonIndexed", _IMMUTABLE))
    if old.template != new.template and not old.suspend:
        _refuse(report, ("spec", "template"), f"Invalid value: core.PodTemplateSpec{{…}}: {_IMMUTABLE}")


def _priority_class(old: PriorityClass, new: PriorityClass, report: Report) -> None:
    if old.value != new.value:
        _refuse(report, ("value",), "Forbidden: may not be changed in an update.")
    if old.preemption_policy != new.preemption_policy:
        _refuse(report, ("preemptionPolicy",), invalid(new.preemption_policy, _IMMUTABLE))


def _endpoint_slice(old: EndpointSlice, new: EndpointSlice, report: Report) -> None:
    if old.address_type != new.address_type:
        _refuse(report, ("addressType",), invalid(new.address_type, _IMMUTABLE))


def _secret(old: Secret, new: Secret, report: Report) -> None:
    if old.type != new.type:
        _refuse(report, ("type",), invalid(new.type, _IMMUTABLE))
    _frozen_data(old, new, report)


def _frozen_data(old: KubeObject, new: KubeObject, report: Report) -> None:
    before, after = old.raw or {}, new.raw or {}
    if not before.get("immutable"):
        return
    if not after.get("immutable"):
        _refuse(report, ("immutable",), "Forbidden: field is immutable when `immutable` is set")
    for field in ("data", "binaryData"):
        if (before.get(field) or {}) != (after.get(field) or {}):
            _refuse(report, (field,), "Forbidden: field is immutable when `immutable` is set")


_CHECKS: dict[str, Callable[[Any, Any, Report], None]] = {
    "Service": _service,
    Deployment.__name__: _selector,
    ReplicaSet.__name__: _selector,
    DaemonSet.__name__: _selector,
    "StatefulSet": _stateful_set,
    "Pod": _pod,
    "Node": _node,
    "IngressClass": _ingress_class,
    "Job": _job,
    "PriorityClass": _priority_class,
    "EndpointSlice": _endpoint_slice,
    "Secret": _secret,
    "ConfigMap": _frozen_data,
}
