"""How important a pod is: the priority that the API server fills in from its PriorityClass.

Source: k8s.io/kubernetes plugin/pkg/admission/priority/admission.go, pkg/apis/scheduling/types.go (the two system
classes). A class that is not there makes the API server refuse the pod; here the pod gets priority 0, and it is said.
"""

from dataclasses import replace
from typing import Final

from kflab.cluster.store import Store
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_cluster import PriorityClass
from kflab.manifest.objects_pods import PodSpec

NODE_CRITICAL: Final = "system-node-critical"
CLUSTER_CRITICAL: Final = "system-cluster-critical"

SYSTEM_CLASSES: Final = (
    PriorityClass(
        Meta(NODE_CRITICAL), value=2_000_001_000,
        description="Used for system critical pods that must not be moved from their current node.",
    ),
    PriorityClass(
        Meta(CLUSTER_CRITICAL), value=2_000_000_000,
        description="Used for system critical pods that must run in the cluster, but can be moved to another node "
        "if necessary.",
    ),
)  # fmt: skip
"""Every cluster has them."""

_SYSTEM: Final = {each.meta.name: each for each in SYSTEM_CLASSES}


SYSTEM_CRITICAL: Final = 2_000_000_000
"""From this priority on the kubelet takes a pod for critical (pkg/kubelet/types/pod_update.go, IsCriticalPod)."""


def critical(namespace: str, spec: PodSpec) -> bool:
    """Whether a kubelet ends a pod last; pods of kube-system that name no class are taken for critical too (M)."""
    return spec.priority >= SYSTEM_CRITICAL or (namespace == "kube-system" and not spec.priority_class)


def class_of(store: Store, name: str) -> PriorityClass | None:
    """The class that a pod names, or the default one; None: there is none."""
    if name:
        found = store.get(Key("PriorityClass", "", name))
        return found if isinstance(found, PriorityClass) else _SYSTEM.get(name)
    defaults = [each for each in store.of_kind("PriorityClass") if isinstance(each, PriorityClass)]
    # Of several the least important counts (getDefaultPriorityClass).
    return min((each for each in defaults if each.global_default), key=lambda each: each.value, default=None)


def prioritized(store: Store, spec: PodSpec) -> tuple[PodSpec, str]:
    """A pod's spec with its priority, and the name of its class where that is not there."""
    found = class_of(store, spec.priority_class)
    if found is None:
        return spec, spec.priority_class
    never = "Never" if found.preemption_policy == "Never" else ""
    policy = spec.preemption_policy or never
    made = replace(spec, priority_class=found.meta.name, priority=found.value, preemption_policy=policy)
    return (spec if made == spec else made), ""
