"""The end of a pod's network: whose job that is, and what the last packets meet.

Usually the kubelet's: it has the CNI plugin take the interface away with the sandbox, after the last container has
ended (kubelet/kuberuntime StopPodSandbox, CNI DEL). A process's FIN or RST gets out before.

Calico with the Kubernetes data store and the iptables data plane has an agent on every node that takes the Pod object
itself for the workload: when the object goes, Felix removes the pod's chains and its route at once
(projectcalico/calico libcalico-go/lib/backend/k8s/conversion; felix/dataplane/linux/endpoint_mgr.go, "Workload removed,
deleting its chains"). A graceful deletion removes the object last of all, after CNI DEL, so nothing is to be seen of
it. Where the object goes first, its process runs on without a network and whoever talks to it hears nothing, not even
its end: a forced deletion, a drain or an eviction with a grace period of 0, the pod garbage collector on a node that
lives. Reported in projectcalico/calico issues 7983 and 12117 and k/k issue 124290; seen neither with kindnet, Flannel
and Cilium nor, from v3.27 on, with Calico's eBPF data plane.

A first packet to the address falls into the blackhole route of the node's address block and is dropped without a word
(net/ipv4/route.c, ip_error: EINVAL).

Issue 7983 has it for Services with a ClusterIP and not for headless ones, and does not tell why; here both are alike.
It has it for callers on other nodes only: see the lab's assumptions (`lab.assuming_nodes.cni_assumptions`).
"""

from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, NodeEvent
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class NetworkRemoved(NodeEvent):
    """The agent of a node has heard that a Pod object is gone, and its data plane is up to date."""

    room: ClassVar[str] = "podnetwork"
    needs_api: ClassVar[bool] = True
    by_watch: ClassVar[bool] = True
    key: Key
    uid: str

    @property
    def actor(self) -> str:
        """The agent."""
        return f"calico-node/{self.node}"


class PodNetworkAgents(Controller):
    """Calico's agents, one a node, as far as they end networks.

    Args:
        core: The cluster's.
        present: Whether the cluster has them; else nothing ever happens here.
    """

    room = "podnetwork"
    kinds = ("Pod",)
    settles = False
    pods_gone = True

    def __init__(self, core: Core, present: bool) -> None:
        super().__init__(core)
        self._present = present

    def changed(self, change: Change) -> None:
        """A Pod object is gone; its pod may not be."""
        pod = change.old
        if not self._present or change.new is not None or not isinstance(pod, Pod) or pod.spec.host_network:
            return
        if pod.is_mirror:
            return  # the object is made anew at once; what Calico does meanwhile is not modelled
        ground = self.core.runtime.get(change.key)
        if ground is not None and ground.uid == pod.meta.uid and ground.sandbox:
            wait = self.core.delay("network_removed_s", change.key)
            self.core.push(wait, NetworkRemoved(ground.node, change.key, ground.uid))

    def handle(self, event: Event) -> None:
        """Chains and route go, unless the kubelet was faster."""
        assert isinstance(event, NetworkRemoved)
        ground = self.core.runtime.get(event.key)
        if ground is None or ground.uid != event.uid or not ground.sandbox:
            return
        self.core.set_ground(event.key, replace(ground, sandbox=False))
        still = "its process still runs" if ground.up else "its sandbox is still there"
        text = f"Calico on {event.node} took the network of {event.key.name} away: its object is gone, {still}"
        self.core.fact(What.NETWORK_REMOVED, event.key, event.actor, text)
