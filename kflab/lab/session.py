"""What was done in a lab so far, as a value from which it can be played again.

A pod's name holds the hash of its template, so it differs where the template does: a command about a pod is kept with
the pod's workload and its place among that workload's pods, as scenarios name them.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from kflab.lab.commands import Act, Command, Kill, Scale
from kflab.lab.spec import LabSpec
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, StatefulSet
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.running import Lab

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
"""Workloads whose settings can be changed."""


@dataclass(frozen=True, slots=True)
class Session:
    """A lab's story so far."""

    spec: LabSpec
    """How it began; its actions are what was done, those still to come left out. It has no end of its own."""
    t_ns: int
    """Simulated now."""
    what: str
    """The last change in words; "" when nothing was changed."""
    kind: str
    """Which kind of change that was: a verb's name, or one of the lab's own; "" when nothing was changed."""
    change_ns: int
    """When it was; 0 when nothing was changed."""
    changes: int
    """How many there were."""
    workload: KubeObject | None
    """The Deployment, StatefulSet or DaemonSet that the last change is about, as it is now; None: there is none."""
    mode: str
    """kube-proxy's mode."""
    configured: bool
    """The manifests hold a KubeProxyConfiguration."""


def place_of(lab: "Lab", command: Command) -> tuple[str, int] | None:
    """("namespace/Kind/name", ordinal) of the pod a command is about; None where that cannot be said.

    The ordinal counts the workload's pods that are not terminating, in order of creation.
    """
    key = command.pod if isinstance(command, Kill) else command.target if isinstance(command, Act) else None
    pod = lab.store.get(key) if key is not None and key.kind == "Pod" else None
    owner = lab.workload_of(pod) if isinstance(pod, Pod) else None
    if owner is None:
        return None
    # Among the pods of a large cluster only those are asked for their workload that may be of this one.
    family = {owner, *lab.plane.core.index.owned_by(owner)}
    pods = [
        obj.key for obj in lab.store.of_kind("Pod", owner.namespace)
        if obj.meta.owner in family and isinstance(obj, Pod) and not obj.terminating and lab.workload_of(obj) == owner
    ]  # fmt: skip
    return (f"{owner.namespace}/{owner.kind}/{owner.name}", pods.index(key)) if key in pods else None


def session_of(lab: "Lab") -> Session:
    """The story of a lab up to now."""
    changes = lab.gantt.changes
    last = changes[-1] if changes else None
    spec = replace(lab.spec, actions=tuple(lab.journal.actions), duration_ns=None)
    return Session(
        spec, lab.t_ns, last.what if last else "", last.kind if last else "", last.t_ns if last else 0, len(changes),
        _concerned(lab) if last else None, lab.book.config.mode, lab.proxy is not None,
    )  # fmt: skip


def _concerned(lab: "Lab") -> KubeObject | None:
    """The workload that the last change is about: named by it, or the one whose pods it ended with the most lost."""
    change = lab.gantt.changes[-1]
    action = next((a for a in reversed(lab.journal.actions) if a.t_ns == change.t_ns), None)
    named: Key | None = change.subject
    if action is not None and action.pod_of is not None:
        namespace, kind, name = action.pod_of[0].split("/")
        named = Key(kind, namespace, name)
    elif action is not None and isinstance(action.command, Scale):
        named = action.command.workload
    found = lab.store.get(named) if named is not None and named.kind in KINDS else None
    if found is not None:
        return found
    groups = lab.gantt.report().groups
    counts: dict[Key, int] = {}
    for event in groups[-1].events if groups and groups[-1].t_ns == change.t_ns else ():
        owner = _owner(lab, event.pod) if event.pod is not None else None
        if owner is not None:
            counts[owner] = counts.get(owner, 0) + 1 + event.lost
    return lab.store.get(max(counts, key=lambda key: counts[key])) if counts else None


def _owner(lab: "Lab", pod: Key) -> Key | None:
    """The workload of a pod, also of one that is gone, by its name."""
    for kind in KINDS:
        for obj in lab.store.of_kind(kind, pod.namespace):
            if isinstance(obj, Deployment | StatefulSet | DaemonSet) and is_of(obj.key, pod):
                return obj.key
    return None


def is_of(workload: Key, pod: Key) -> bool:
    """Whether a pod's name is one that the workload's controllers give: NAME-HASH-RANDOM, NAME-ORDINAL, NAME-RANDOM."""
    if pod.kind != "Pod" or pod.namespace != workload.namespace or not pod.name.startswith(f"{workload.name}-"):
        return False
    return pod.name.removeprefix(f"{workload.name}-").count("-") == (1 if workload.kind == "Deployment" else 0)
