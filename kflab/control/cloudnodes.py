"""Cloud node lifecycle controller: Node objects whose machine the cloud does not have any more.

Every 5 s it asks the cloud about every node that is not Ready. Questions that are answered "it is there" are no events.
Source: k8s.io/cloud-provider controllers/nodelifecycle/node_lifecycle_controller.go, MonitorNodes; lifecycle 1.5. The
taint for a machine that exists and is shut down is not modelled.
"""

from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.records import dataclass

BY = "cloud-controller-manager"


@dataclass(frozen=True, slots=True)
class CloudAnswered(Event):
    """The cloud has said that a node's machine is gone."""

    room: ClassVar[str] = "cloudnodes"
    needs_api: ClassVar[bool] = True
    node: str

    @property
    def actor(self) -> str:
        """A process of its own."""
        return BY


class CloudNodes(Controller):
    """Removes Nodes without a machine."""

    room = "cloudnodes"
    kinds = ("Node",)

    def changed(self, change: Change) -> None:
        """A node is not Ready."""
        if isinstance(change.new, Node) and not self.core.quiet:
            self.ask(change.key.name)

    def ask(self, name: str) -> None:
        """Let the cloud say that the machine of a node that is not Ready is gone, when that is so."""
        if not self._gone(name):
            return
        period = max(1, self.core.spans["cloud_node_period_s"][0])
        phase = self.core.draws.control_between("cloud-node-phase", "", 0, 0, period)
        tick = phase + ((self.core.now_ns - phase) // period + 1) * period
        self.core.push_at(tick + self.core.delay("cloud_api_s", f"machine/{name}"), CloudAnswered(name))

    def _gone(self, name: str) -> bool:
        machine, node = self.core.machines.get(name), self.core.store.get(Key("Node", "", name))
        return machine is not None and not machine.exists and isinstance(node, Node) and node.ready != "True"

    def handle(self, event: Event) -> None:
        """Delete the Node."""
        assert isinstance(event, CloudAnswered)
        key = Key("Node", "", event.node)
        change = self.core.remove(key, BY) if self._gone(event.node) else None
        if change is not None:
            text = f"{BY} deleted Node {event.node}: the cloud has no such machine"
            self.core.fact(What.NODE_REMOVED, key, BY, text, change.revision)
