"""What happened in the control plane and on the nodes: immutable facts, in the past tense."""

from dataclasses import dataclass, field
from enum import StrEnum

from kflab.manifest.objects import Key
from kflab.replacing import quick


class What(StrEnum):
    """Kinds of fact. Values are stable: they appear in event logs and hashes."""

    CONTAINER_STARTED = "container-started"
    CONTAINER_EXITED = "container-exited"
    """Ground truth on the node, before anybody noticed. `ports` as for PROCESS_HUNG."""
    CONTAINER_COMPLETED = "container-completed"
    """It ended by itself, its work done; the rest as for CONTAINER_EXITED."""
    LISTENERS_CHANGED = "listeners-changed"
    """What answers on a pod's ports changed: cuts a slab. `ports` tells what listens from now on."""
    PROCESS_HUNG = "process-hung"
    """A container's process stands still: cuts a slab. `ports` tells behind which ports processes hang from now on."""
    PROCESS_RESUMED = "process-resumed"
    """It goes on: cuts a slab; `ports` as above."""
    PROBES_FAIL = "probes-fail"
    """The applications' health endpoints answer 503 from now on."""
    PROBES_PASS = "probes-pass"
    """They answer 200 again."""
    IMAGE_PULLING = "image-pulling"
    """A node began to pull an image, or queued it."""
    IMAGE_FAILED = "image-failed"
    """A pull failed: no registry has the image, or none answers."""
    IMAGE_BACK_OFF = "image-back-off"
    """The kubelet waits before it pulls an image again."""
    PROBE_FAILED = "probe-failed"
    """A kubelet's probe was not answered as it should be; `detail` is the message of its Event."""
    PROBE_GAVE_UP = "probe-gave-up"
    """A liveness or startup probe failed for good: the container will be restarted."""
    ADDRESS_GONE = "address-gone"
    """The pod sandbox is gone; packets to its IP find nobody. Cuts a slab."""
    KUBELET_NOTICED = "kubelet-noticed"
    POD_STATUS_WRITTEN = "pod-status-written"
    POD_CONDITION_SET = "pod-condition-set"
    """Somebody else than the kubelet set a condition that a pod's readiness gates name."""
    POD_CREATED = "pod-created"
    POD_SCHEDULED = "pod-scheduled"
    POD_UNSCHEDULABLE = "pod-unschedulable"
    """The scheduler found no node for a pod; `detail` is the message of its Event."""
    POD_DELETED = "pod-deleted"
    """deletionTimestamp was set."""
    POD_REMOVED = "pod-removed"
    """The object is gone."""
    POD_EVICTED = "pod-evicted"
    """The eviction API let a pod go; its delete follows at the same instant."""
    POD_PREEMPTED = "pod-preempted"
    """The scheduler chose a pod as victim, to make room; its delete follows. `detail` is the message of its Event."""
    NODE_PRESSURE = "node-pressure"
    """A node's memory ran out."""
    BUDGET_CHANGED = "budget-changed"
    """A PodDisruptionBudget allows another number of disruptions."""
    SIGTERM_SENT = "sigterm-sent"
    SIGKILL_SENT = "sigkill-sent"
    ENDPOINTS_WRITTEN = "endpoints-written"
    RULES_SYNCED = "rules-synced"
    """An observer's rules were made from a new revision; `revision` says which."""
    PROXY_STOPPED = "proxy-stopped"
    """A kube-proxy's pod is being replaced: the process ended, its rules stay in the kernel."""
    PROXY_STARTED = "proxy-started"
    """The new pod's process runs; the rules it found are still there."""
    RULES_REMOVED = "rules-removed"
    """The new pod's process runs, and has removed the rules of the mode before."""
    LB_TARGETS_CHANGED = "lb-targets-changed"
    FLOWS_RESET = "flows-reset"
    """A load balancer reset its flows to a target, whose name is `detail`: cuts a slab."""
    FLOWS_DROPPED = "flows-dropped"
    """It passes no packet of them on any more; the same."""
    APPLIED = "applied"
    SCALED = "scaled"
    JOB_FINISHED = "job-finished"
    """A Job is complete or has failed; `detail` is reason and message of its Event."""
    AUTOSCALED = "autoscaled"
    """An HPA set a workload's replicas; `detail` is the message of its Event."""
    AUTOSCALER_FAILED = "autoscaler-failed"
    """An HPA can tell no number of replicas any more; `detail` is reason and message of its Event."""
    COMPONENT_STOPPED = "component-stopped"
    COMPONENT_STARTED = "component-started"
    COMPONENT_SLOWED = "component-slowed"
    BACK_OFF = "back-off"
    MACHINE_OFF = "machine-off"
    """A node lost power: nothing runs there, nothing answers. Cuts a slab."""
    MACHINE_STOPS = "machine-stops"
    """A node begins to shut down gracefully."""
    MACHINE_STARTS = "machine-starts"
    MACHINE_ON = "machine-on"
    """A node's kernel and kubelet run again. Cuts a slab."""
    POD_LOST = "pod-lost"
    """A pod went down with its node: packets to its address find nobody. Cuts a slab."""
    LINK_CUT = "link-cut"
    """A node was cut off from the API server, or from everything. Cuts a slab."""
    LINK_HEALED = "link-healed"
    NODE_READY_CHANGED = "node-ready-changed"
    """The Ready condition of a Node was written."""
    NODE_TAINTED = "node-tainted"
    """Taints of a Node were written."""
    EVICTION_REFUSED = "eviction-refused"
    """A PodDisruptionBudget would be violated; kubectl drain tries again."""
    DRAIN_ENDED = "drain-ended"
    NODE_REMOVED = "node-removed"
    """A Node object is gone."""


FLOW_ENDS = frozenset({What.FLOWS_RESET, What.FLOWS_DROPPED})
"""Facts by which a load balancer ends flows."""

NODE_CUTS = frozenset({What.MACHINE_OFF, What.MACHINE_ON, What.LINK_CUT, What.LINK_HEALED})
"""Facts that may change whether packets reach a node."""


@quick
@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened."""

    t_ns: int
    what: What
    subject: Key
    """The object concerned; for components Key("Component", "", name), for observers Key("Observer", "", name)."""
    by: str
    """Component that did it."""
    text: str
    """One plain sentence without a time, e.g. "kubelet on node-b noticed that product-…-m4dd8 exited (137)"."""
    revision: int = 0
    """Store revision written or adopted; 0 where none was."""
    ports: tuple[tuple[str, int], ...] = field(default=())
    """For LISTENERS_CHANGED: every (protocol, port) that answers from now on; () is: connections are refused."""
    detail: str = ""
    """Message of the component's own Event, where its words are not to be had from the objects."""
