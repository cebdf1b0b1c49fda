"""What a selected object's menu is about: the object, its node, its workload, and the components above them."""

from typing import TYPE_CHECKING

from kflab.control.component_verbs import SLOWABLE
from kflab.control.components import can_be_slow
from kflab.control.core import API_SERVER
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.running import Lab

WORKLOAD_KINDS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"})


@dataclass(frozen=True, slots=True)
class Target:
    """Something verbs act on, with what lasts of what was done to it."""

    kind: str
    """One of `control.verb.TARGETS`."""
    key: Key
    states: frozenset[str] = frozenset()
    """E.g. "stopped", "cordoned"."""


def targets(lab: "Lab", key: Key | None) -> tuple[Target, ...]:
    """What the menu of a row is about, nearest first; reads the store only, so any thread may ask."""
    found: list[Target] = []
    node = ""
    match key:
        case Key("Pod", _, _):
            pod = lab.store.get(key)
            if isinstance(pod, Pod):
                found.append(_target(lab, "pod", key))
                node = pod.spec.node_name
                owner = lab.workload_of(pod)
                if owner is not None:
                    found.append(_target(lab, "workload", owner))
        case Key("Node", _, name):
            node = name
        case Key("Service", _, _):
            found.append(_target(lab, "service", key))
        case Key(kind, _, _) if kind in WORKLOAD_KINDS:
            found.append(_target(lab, "workload", key))
    if node:
        found.append(_target(lab, "node", Key("Node", "", node)))
    here = f"{key.namespace}/{key.name}" if key is not None and key.kind == "Pod" else ""
    names = [
        name for name in lab.plane.components
        if "/" not in name or name.partition("/")[2] in (node, here) or (key is None and name.startswith("ingress/"))
    ]  # fmt: skip
    names.sort(key=lambda name: (not name.endswith(f"/{node}") if node else False, name != API_SERVER))
    found += [_target(lab, "component", Key("Component", "", name)) for name in names]
    return tuple(found)


def _target(lab: "Lab", kind: str, key: Key) -> Target:
    core = lab.plane.core
    states = set(core.states.get(key, ()))
    if kind == "component" and key.name in core.stopped:
        states.add("stopped")
    elif kind == "component" and can_be_slow(key.name):
        states.add(SLOWABLE)
    return Target(kind, key, frozenset(states))
