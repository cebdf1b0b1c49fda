"""What `kubectl rollout status` says of a StatefulSet or DaemonSet.

Source: k8s.io/kubectl pkg/polymorphichelpers/rollout_status.go (StatefulSetStatusViewer, DaemonSetStatusViewer).
"""

from kflab.errors import KflabError
from kflab.kubectl.hostile import printable
from kflab.kubectl.printers import seen
from kflab.manifest.objects_workloads import DaemonSet, StatefulSet


def status_of_set(obj: StatefulSet | DaemonSet) -> str:
    """One line: what is waited for, or that it is done.

    Raises:
        KflabError: When its pods are only replaced by hand.
    """
    kind = obj.update_type if isinstance(obj, StatefulSet) else obj.update.type
    if kind != "RollingUpdate":
        raise KflabError("rollout status is only available for RollingUpdate strategy type")
    return _ordered(obj) if isinstance(obj, StatefulSet) else _daemons(obj)


def _ordered(obj: StatefulSet) -> str:
    updated = seen(obj, "updatedReplicas")
    if seen(obj, "observedGeneration") < obj.meta.generation:
        return "Waiting for statefulset spec update to be observed...\n"
    if seen(obj, "readyReplicas") < obj.replicas:
        return f"Waiting for {obj.replicas - seen(obj, 'readyReplicas')} pods to be ready...\n"
    if obj.partition is not None:
        wanted = obj.replicas - obj.partition
        if updated < wanted:
            return (
                f"Waiting for partitioned roll out to finish: {updated} out of {wanted} new pods have been updated...\n"
            )
        return f"partitioned roll out complete: {updated} new pods have been updated...\n"
    if obj.update_revision != obj.current_revision:
        name = printable(obj.update_revision)
        return f"waiting for statefulset rolling update to complete {updated} pods at revision {name}...\n"
    current, name = seen(obj, "currentReplicas"), printable(obj.current_revision)
    return f"statefulset rolling update complete {current} pods at revision {name}...\n"


def _daemons(obj: DaemonSet) -> str:
    name, desired = printable(obj.meta.name), seen(obj, "desiredNumberScheduled")
    updated, good = seen(obj, "updatedNumberScheduled"), seen(obj, "numberAvailable")
    if seen(obj, "observedGeneration") < obj.meta.generation:
        return "Waiting for daemon set spec update to be observed...\n"
    waiting = f'Waiting for daemon set "{name}" rollout to finish'
    if updated < desired:
        return f"{waiting}: {updated} out of {desired} new pods have been updated...\n"
    if good < desired:
        return f"{waiting}: {good} of {desired} updated pods are available...\n"
    return f'daemon set "{name}" successfully rolled out\n'
