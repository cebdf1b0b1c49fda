"""Events as `kubectl get events` lists them, told from what happened in the lab.

Only what a component of a real cluster would record becomes an Event: the kubelet's, the scheduler's, the workload and
the node controllers'. Ground truth that nobody noticed (a container that exited this instant) does not.

Source: reasons and messages of k8s.io/kubernetes pkg/kubelet/events/event.go, pkg/scheduler/schedule_one.go,
pkg/controller/controller_utils.go, pkg/controller/deployment/sync.go, pkg/controller/util/node/controller_utils.go,
pkg/controller/tainteviction/taint_eviction.go.
"""

from collections.abc import Iterable, Sequence

from kflab.cluster.store import Store
from kflab.control.facts import Fact, What
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

NOBODY = Key("", "", "")


@dataclass(frozen=True, slots=True)
class Event(KubeObject):
    """v1 Event, as far as it is printed."""

    t_ns: int = 0
    type: str = "Normal"
    reason: str = ""
    message: str = ""
    source: str = ""
    about: Key = NOBODY


def events_from(facts: Iterable[Fact], store: Store) -> Sequence[Event]:
    """Events of everything that happened, oldest first, named `OBJECT.NUMBER` by their order."""
    found: list[Event] = []
    for number, fact in enumerate(facts):
        told = _tell(fact, store)
        if told is None:
            continue
        about, kind, reason, message, source = told
        name = f"{about.name}.{number:016x}"
        namespace = about.namespace or "default"
        meta = Meta(name, namespace, creation_ns=fact.t_ns)
        found.append(Event(meta, None, None, fact.t_ns, kind, reason, message, source, about))
    return found


def _tell(fact: Fact, store: Store) -> tuple[Key, str, str, str, str] | None:
    """(object, type, reason, message, source) of the Event a fact leads to, if it does."""
    about = fact.subject
    pod = store.get(about) if about.kind == "Pod" else None
    container = pod.spec.containers[0].name if isinstance(pod, Pod) and pod.spec.containers else ""
    match fact.what:
        case What.POD_SCHEDULED:
            node = pod.spec.node_name if isinstance(pod, Pod) else ""
            text = f"Successfully assigned {about.namespace}/{about.name} to {node}"
            return about, "Normal", "Scheduled", text, "default-scheduler"
        case What.POD_UNSCHEDULABLE:
            return about, "Warning", "FailedScheduling", fact.detail, "default-scheduler"
        case What.CONTAINER_STARTED:
            return about, "Normal", "Started", f"Started container {container}".rstrip(), "kubelet"
        case What.SIGTERM_SENT:
            return about, "Normal", "Killing", f"Stopping container {container}".rstrip(), "kubelet"
        case What.IMAGE_PULLING:
            return about, "Normal", "Pulling", fact.detail, "kubelet"
        case What.IMAGE_FAILED:
            return about, "Warning", "Failed", fact.detail, "kubelet"
        case What.IMAGE_BACK_OFF:
            return about, "Normal", "BackOff", fact.detail, "kubelet"
        case What.PROBE_FAILED:
            return about, "Warning", "Unhealthy", fact.detail, "kubelet"
        case What.POST_START_FAILED:
            return about, "Warning", "FailedPostStartHook", fact.detail, "kubelet"
        case What.POD_EVICTED if fact.detail:
            return about, "Warning", "Evicted", fact.detail, "kubelet"
        case What.POD_PREEMPTED:
            return about, "Normal", "Preempted", fact.detail, "default-scheduler"
        case What.PROBE_GAVE_UP:
            return about, "Normal", "Killing", fact.detail, "kubelet"
        case What.BACK_OFF:
            uid = pod.meta.uid if isinstance(pod, Pod) else ""
            which = fact.detail or container
            text = f"Back-off restarting failed container {which} in pod {about.name}_{about.namespace}({uid})"
            return about, "Warning", "BackOff", text, "kubelet"
        case What.POD_CREATED:
            owner = pod.meta.owner if isinstance(pod, Pod) else None
            if owner is None:
                return None
            return owner, "Normal", "SuccessfulCreate", f"Created pod: {about.name}", f"{owner.kind.lower()}-controller"
        case What.POD_DELETED if fact.by == "taint-eviction-controller":
            text = f"Marking for deletion Pod {about.namespace}/{about.name}"
            return about, "Normal", "TaintManagerEviction", text, fact.by
        case What.POD_STATUS_WRITTEN if fact.by == "node-lifecycle-controller":
            return about, "Warning", "NodeNotReady", "Node is not ready", "node-controller"
        case What.NODE_READY_CHANGED:
            reason = "NodeReady" if " is Ready" in fact.text else "NodeNotReady"
            source = "kubelet" if fact.by.startswith("kubelet") else "node-controller"
            return about, "Normal", reason, f"Node {about.name} status is now: {reason}", source
        case What.JOB_FINISHED:
            reason, _, text = fact.detail.partition(": ")
            return about, "Normal" if reason == "Completed" else "Warning", reason, text, "job-controller"
        case What.AUTOSCALED:
            return about, "Normal", "SuccessfulRescale", fact.detail, "horizontal-pod-autoscaler"
        case What.AUTOSCALER_FAILED:
            reason, _, text = fact.detail.partition(": ")
            return about, "Warning", reason, text, "horizontal-pod-autoscaler"
        case What.NODE_REMOVED:
            text = f"Deleting node {about.name} because it does not exist in the cloud provider"
            return about, "Normal", "DeletingNode", text, "cloud-node-lifecycle-controller"
        case What.MACHINE_ON:
            return about, "Normal", "Starting", "Starting kubelet.", "kubelet"
        case What.POD_DELETED:
            owner = pod.meta.owner if isinstance(pod, Pod) else None
            if owner is None or not fact.by.endswith("controller"):
                return None
            return owner, "Normal", "SuccessfulDelete", f"Deleted pod: {about.name}", f"{owner.kind.lower()}-controller"
        case What.COMPONENT_STARTED if about.name.startswith(("kubelet/", "kube-proxy/")):
            component, _, node = about.name.partition("/")
            return Key("Node", "", node), "Normal", "Starting", f"Starting {component}.", component
        case _:
            return None
