"""Nodes: what a node needs to take part, and what comes and goes with it. Its life is `nodelife`.

Source: k8s.io/kubernetes pkg/kubelet/kubelet_node_status.go (labels), pkg/controller/nodeipam (pod CIDRs).
"""

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.machines import Machines
from kflab.control.made import node_labels
from kflab.control.proxysync import ProxySync
from kflab.manifest.objects_cluster import Node
from kflab.replacing import replace


class NodeController(Controller):
    """Gives nodes their pod range and their kube-proxy."""

    room = "node"
    kinds = ("Node",)

    def __init__(self, core: Core, proxies: ProxySync, machines: Machines) -> None:
        super().__init__(core)
        self.proxies, self.machines = proxies, machines

    def changed(self, change: Change) -> None:
        """A node joined or left."""
        if isinstance(change.new, Node):
            name = change.new.meta.name
            if change.old is None:
                self.core.addresses.add_node(name, change.new.pod_cidrs)
                self.proxies.add_node(name)
                if not self.core.quiet:
                    self.machines.kubelet.probes.times.kubelet_started(name)
        else:
            self.proxies.remove_node(change.key.name)
            self.machines.node_removed(change.key.name)


def complete(core: Core, node: Node, number: int) -> Node:
    """A Node as written, with what kubelet and controllers would add; says what had to be invented.

    Args:
        core: The shared state.
        node: As written.
        number: Its position among all nodes, from 1.
    """
    name = node.meta.name
    own = node_labels(name, "")
    labels = {k: v for k, v in own.items() if not k.startswith("topology.")}
    node = replace(node, meta=replace(node.meta, labels={**labels, **node.meta.labels}))
    if not node.pod_cidrs:
        cidr = core.addresses.free_pod_cidr()
        node = replace(node, pod_cidrs=(cidr,))
        core.assume(f"node {name} has no podCIDR: it got {cidr}", f"set spec.podCIDR of Node {name}")
    if not node.internal_ips:
        ip = f"10.0.{100 + number // 250}.{1 + number % 250}"
        node = replace(node, internal_ips=(ip,))
        core.assume(f"node {name} has no InternalIP: it got {ip}", f"set status.addresses of Node {name}")
    return node
