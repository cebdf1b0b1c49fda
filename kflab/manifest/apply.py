"""`kubectl apply` of one document to one live object, in memory."""

from dataclasses import replace
from typing import Any, Final

from kflab.manifest.admit import admit
from kflab.manifest.findings import Finding, Severity
from kflab.manifest.kinds import Unmodelled
from kflab.manifest.loader import Document
from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_network import Service
from kflab.manifest.patch import three_way
from kflab.manifest.typed import to_object
from kflab.manifest.typed_common import Tree
from kflab.manifest.write import to_tree
from kflab.records import dataclass

_STATUS: Final = {
    "Pod": ("status",),
    "Deployment": ("observed", "conditions"),
    "ReplicaSet": ("observed",),
    "StatefulSet": ("observed", "current_revision", "update_revision", "revisions"),
    "DaemonSet": ("observed", "revisions"),
    "Job": ("observed", "start_ns", "completion_ns", "completed_indexes", "conditions"),
    "Service": ("load_balancer",),
    "PodDisruptionBudget": ("status",),
    "HorizontalPodAutoscaler": ("status",),
    "Ingress": ("load_balancer",),
    "Node": ("ready",),
}
"""Fields that come from an object's status, which apply never writes (the status subresource)."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply would do to one object."""

    obj: KubeObject | None
    """The object to be stored; None when it is refused."""
    verb: str
    """kubectl's word: created, configured, unchanged; "" when refused."""
    refusals: tuple[Finding, ...] = ()
    """Why not, in the API server's words."""


def apply_document(live: KubeObject | None, last_applied: Tree | None, document: Document) -> Applied:
    """Merge a document into the live object as `kubectl apply` does, and judge the result.

    Args:
        live: The object as the API server has it; None: it does not exist.
        last_applied: The tree that was applied last (or with which the lab opened); None: none was.
        document: The document as written now, patches merged.

    Returns:
        The object with server-set fields (addresses, status, uid, times, owner) kept, or the refusals.
    """
    if document.obj is None:
        return Applied(None, "", ())
    if live is None:
        refusals = admit(None, document.obj, document.marks)
        return Applied(None, "", tuple(refusals)) if refusals else Applied(document.obj, "created")
    tree = three_way(last_applied, to_tree(live), document.tree, str(document.tree["kind"]))
    shape = [f for f in admit(None, replace(document.obj, raw=tree), document.marks) if f.severity is Severity.ERROR]
    if shape:
        return Applied(None, "", tuple(shape))
    if isinstance(live, Service):
        _drop_type_dependent(live, tree, document.tree)
    made = to_object(tree, document.marks.place, default_namespace=live.meta.namespace)
    made = _keep_server_fields(live, made)
    refusals = admit(live, made, document.marks)
    if refusals:
        return Applied(None, "", tuple(refusals))
    if made == live:
        return Applied(live, "unchanged")
    if isinstance(made, Unmodelled):
        return Applied(made, "configured")
    meta = made.meta
    if replace(made, meta=live.meta) != live:  # labels and annotations alone leave the generation
        meta = replace(meta, generation=live.meta.generation + 1)
    return Applied(replace(made, meta=meta), "configured")


def _drop_type_dependent(live: Service, tree: dict[str, Any], written: Tree) -> None:
    """Keep clusterIPs in step with clusterIP, and clear what the new type cannot have and nobody wrote.

    Source: k8s.io/kubernetes pkg/registry/core/service, normalizeClusterIPs and dropTypeDependentFields.
    """
    spec = dict(tree.get("spec") or {})
    own = written.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    if own.get("clusterIP") and "clusterIPs" not in own and spec.get("clusterIPs"):
        spec["clusterIPs"] = [own["clusterIP"], *spec["clusterIPs"][1:]]
    if kind == "ExternalName" and live.type != kind:
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if field not in own:
                spec.pop(field, None)
    node_ports = kind in ("NodePort", "LoadBalancer")
    if not node_ports and live.type in ("NodePort", "LoadBalancer"):
        kept = {port.get("nodePort") for port in own.get("ports") or () if isinstance(port, dict)}
        spec["ports"] = [
            port if port.get("nodePort") in kept else {name: v for name, v in port.items() if name != "nodePort"}
            for port in spec.get("ports") or ()
        ]
        if "externalTrafficPolicy" not in own and not spec.get("externalIPs"):
            spec.pop("externalTrafficPolicy", None)
    if kind != "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if field not in own:
                spec.pop(field, None)
    if not (kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"):
        if "healthCheckNodePort" not in own:
            spec.pop("healthCheckNodePort", None)
    tree["spec"] = spec


def _keep_server_fields(live: KubeObject, made: KubeObject) -> KubeObject:
    meta = replace(
        live.meta,
        labels=made.meta.labels,
        annotations=made.meta.annotations,
    )
    status: dict[str, Any] = {}
    if type(live) is type(made):
        status = {name: getattr(live, name) for name in _STATUS.get(made.kind, ())}
    return replace(made, meta=meta, **status)
