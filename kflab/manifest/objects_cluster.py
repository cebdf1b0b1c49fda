"""Nodes, namespaces and priority classes: what a cluster has before anything runs in it."""

from collections.abc import Mapping
from dataclasses import field

from kflab.manifest.objects import KubeObject
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Namespace(KubeObject):
    """v1 Namespace."""


@dataclass(frozen=True, slots=True)
class Taint:
    """A node taint."""

    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Node(KubeObject):
    """v1 Node."""

    pod_cidrs: tuple[str, ...] = ()
    internal_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    ready: str = "True"
    """Status of the Ready condition: True, False or Unknown."""
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()
    provider_id: str = ""
    cores: int = 0
    """status.capacity.cpu, whole CPUs; 0 where it is not given."""
    allocatable: Mapping[str, str] = field(default_factory=dict)
    """status.allocatable, or capacity where only that is given; empty: pods find room without end."""


@dataclass(frozen=True, slots=True)
class PriorityClass(KubeObject):
    """scheduling.k8s.io/v1 PriorityClass."""

    value: int = 0
    global_default: bool = False
    """Pods that name no class get this one."""
    preemption_policy: str = "PreemptLowerPriority"
    """Or Never."""
    description: str = ""
