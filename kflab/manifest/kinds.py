"""Which kinds there are: those with behaviour, those without a namespace, and what stands for all others."""

from collections.abc import Mapping

from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_autoscaler import HorizontalPodAutoscaler
from kflab.manifest.objects_cluster import Namespace, Node, PriorityClass
from kflab.manifest.objects_config import ConfigMap, KubeProxyConfiguration, Secret
from kflab.manifest.objects_network import Endpoints, EndpointSlice, Ingress, IngressClass, Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, Job, PodDisruptionBudget, ReplicaSet, StatefulSet
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Unmodelled(KubeObject):
    """Any other kind: kept, listed and shown, without behaviour."""

    given_kind: str = ""
    api_version: str = ""

    @property
    def kind(self) -> str:
        return self.given_kind


KINDS: Mapping[str, type[KubeObject]] = {
    cls.__name__: cls
    for cls in (
        Namespace, Node, Pod, Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, Service, EndpointSlice, Endpoints,
        Ingress, IngressClass, PodDisruptionBudget, PriorityClass, HorizontalPodAutoscaler, ConfigMap, Secret,
        KubeProxyConfiguration,
    )
}  # fmt: skip
"""Kinds with behaviour, by name."""

CLUSTER_SCOPED = frozenset(
    {"Namespace", "Node", "IngressClass", "KubeProxyConfiguration", "PersistentVolume", "StorageClass", "ClusterRole",
     "ClusterRoleBinding", "CustomResourceDefinition", "PriorityClass", "RuntimeClass", "APIService",
     "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "GatewayClass"}
)  # fmt: skip
"""Kinds without a namespace."""
