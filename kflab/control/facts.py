"""What happened in the control plane and on the nodes: immutable facts, in the past tense."""

from dataclasses import dataclass, field
from enum import StrEnum

from kflab.manifest.objects import Key


class What(StrEnum):
    """Kinds of fact. Values are stable: they appear in event logs and hashes."""

    CONTAINER_STARTED = "container-started"
    CONTAINER_EXITED = "container-exited"
    """Ground truth on the node, before anybody noticed."""
    LISTENERS_CHANGED = "listeners-changed"
    """What answers on a pod's ports changed: cuts a slab. `ports` tells what listens from now on."""
    ADDRESS_GONE = "address-gone"
    """The pod sandbox is gone; packets to its IP find nobody. Cuts a slab."""
    KUBELET_NOTICED = "kubelet-noticed"
    POD_STATUS_WRITTEN = "pod-status-written"
    POD_CREATED = "pod-created"
    POD_SCHEDULED = "pod-scheduled"
    POD_DELETED = "pod-deleted"
    """deletionTimestamp was set."""
    POD_REMOVED = "pod-removed"
    """The object is gone."""
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
    APPLIED = "applied"
    SCALED = "scaled"
    COMPONENT_STOPPED = "component-stopped"
    COMPONENT_STARTED = "component-started"
    BACK_OFF = "back-off"


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
