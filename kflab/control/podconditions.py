"""Conditions of pods that others than the kubelet set: what spec.readinessGates wait for.

Source: kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle (Pod readiness): a controller of the gate's PATCHes
status.conditions; a condition that nobody has set counts as False.
"""

from collections.abc import Iterable

from kflab.control.core import Core
from kflab.control.facts import What
from kflab.control.pods import owners
from kflab.errors import KflabError
from kflab.manifest.objects import Condition, Key
from kflab.manifest.objects_pods import Pod
from kflab.replacing import replace

STATUSES = ("True", "False", "Unknown")


def set_conditions(core: Core, pod: Pod, types: Iterable[str], said: tuple[str, str, str], by: str, who: str) -> None:
    """Write conditions of a pod.

    Args:
        core: The control plane.
        pod: As it is in the store.
        types: Types of the conditions.
        said: Their (status, reason, message).
        by: Component that does it.
        who: Its name in a sentence.
    """
    conditions = {condition.type: condition for condition in pod.status.conditions}
    changed = False
    for type_ in types:
        old = conditions.get(type_)
        if old is None or (old.status, old.reason, old.message) != said:
            since = old.since_ns if old is not None and old.status == said[0] else core.now_ns
            conditions[type_] = Condition(type_, *said, since_ns=since)
            changed = changed or old is None or old.status != said[0]
    status = replace(pod.status, conditions=tuple(conditions.values()))
    change = core.put(replace(pod, status=status), by)
    if change is not None and changed:
        why = f" ({said[1]})" if said[1] else ""
        text = f"{who} set the readiness gate of {pod.meta.name} to {said[0]}{why}"
        core.fact(What.POD_CONDITION_SET, pod.key, by, text, change.revision)


def set_by_hand(core: Core, key: Key, type_: str, status: str) -> None:
    """Set a condition that readiness gates name, as `kubectl patch --subresource=status` does.

    Args:
        core: The control plane.
        key: A pod, or a workload: all its pods of now.
        type_: Type of the condition; "": every one that the pod's gates name.
        status: True, False or Unknown.

    Raises:
        KflabError: When no pod has such a gate, or the status is none of the three.
    """
    if status not in STATUSES:
        raise KflabError(f"status {status!r}: expected {', '.join(STATUSES)}")
    found = False
    for pod in list(core.store.of_kind("Pod", key.namespace)):
        if isinstance(pod, Pod) and key in owners(core, pod.key):
            gates = tuple(gate for gate in pod.spec.readiness_gates if type_ in ("", gate))
            if gates:
                found = True
                set_conditions(core, pod, gates, (status, "", ""), "user", "the user")
    if not found:
        raise KflabError(f"{key.name} has no readiness gate{f' {type_}' if type_ else ''}")
