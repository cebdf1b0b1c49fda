"""What each kind writes: the typed fields as the API has them, defaults included; nodes and configuration here."""

from collections.abc import Callable, Mapping
from typing import Any

from kflab.manifest.objects_cluster import Node, PriorityClass
from kflab.manifest.objects_config import ConfigMap, Secret
from kflab.manifest.write_common import Start, Tree, Whole, some
from kflab.manifest.write_network import (
    endpoint_slice_tree,
    endpoints_tree,
    ingress_class_tree,
    ingress_tree,
    service_tree,
)
from kflab.manifest.write_pods import pod_tree
from kflab.manifest.write_workloads import autoscaler_tree, budget_tree, deployment_tree, job_tree, replica_set_tree


def _priority_class(obj: PriorityClass, start: Start) -> Tree:
    return some(
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
        "spec": some(
            podCIDR=obj.pod_cidrs[0] if obj.pod_cidrs else None,
            podCIDRs=list(obj.pod_cidrs),
            providerID=obj.provider_id,
            taints=[some(effect=t.effect, key=t.key, value=t.value) for t in obj.taints],
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
    "Pod": pod_tree,
    "Deployment": deployment_tree,
    "ReplicaSet": replica_set_tree,
    "StatefulSet": replica_set_tree,
    "DaemonSet": replica_set_tree,
    "Service": service_tree,
    "EndpointSlice": endpoint_slice_tree,
    "Endpoints": endpoints_tree,
    "Ingress": ingress_tree,
    "IngressClass": ingress_class_tree,
    "PodDisruptionBudget": budget_tree,
    "Job": job_tree,
    "PriorityClass": _priority_class,
    "HorizontalPodAutoscaler": autoscaler_tree,
    "Node": _node,
    "ConfigMap": _config_map,
    "Secret": _secret,
}
"""Kinds that write more than their metadata."""
