"""When a kubelet looks: the relist of the generic PLEG, computed from each node's phase.

A relist starts one period after the previous one ended and sees what was so when it started
(k8s.io/kubernetes pkg/kubelet/pleg/generic.go; lifecycle 1.1). Relists that would see nothing new are no events.
"""

from typing import ClassVar

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core
from kflab.control.heap import KubeletEvent
from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Relist(KubeletEvent):
    """A relist that will find something has ended."""

    room: ClassVar[str] = "kubelet"
    needs_runtime: ClassVar[bool] = True
    looked_ns: int
    """When it started looking."""


class Pleg(Mutable):
    """Phases and what is yet to be noticed, per node."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.takes = core.spans["pleg_takes_s"][0]
        self.period = max(1, core.spans["pleg_relist_s"][0] + self.takes)
        self._phase: dict[str, int] = {}
        self._changed: dict[str, dict[Key, int]] = {}
        self._scheduled: dict[str, int] = {}

    def phase(self, node: str) -> int:
        """A moment at which a relist of this node started."""
        if node not in self._phase:
            self._phase[node] = self.core.draws.control_between("pleg-phase", node, 0, 0, self.period)
        return self._phase[node]

    def next_look(self, node: str, t_ns: int) -> int:
        """Start of the first relist that sees what is so at `t_ns`."""
        phase = self.phase(node)
        return phase - ((phase - t_ns) // self.period) * self.period

    def pod_changed(self, node: str, key: Key) -> None:
        """Something about a pod's containers changed now; the next relist will find it."""
        self._changed.setdefault(node, {})[key] = self.core.now_ns
        if not self.core.stopped or f"kubelet/{node}" not in self.core.stopped:
            self._schedule(node, self.next_look(node, self.core.now_ns))

    def _schedule(self, node: str, look_ns: int) -> None:
        if self._scheduled.get(node, look_ns - 1) < look_ns:
            self._scheduled[node] = look_ns
            self.core.push_at(look_ns + self.takes, Relist(node, look_ns))

    def found(self, relist: Relist) -> list[Key]:
        """Pods that changed before a relist started, and are now noticed."""
        changed = self._changed.get(relist.node, {})
        found = [key for key, t_ns in changed.items() if t_ns <= relist.looked_ns]
        for key in found:
            del changed[key]
        return found

    def forget(self, node: str) -> None:
        """The node went down: what was to be noticed is gone with it."""
        self._changed.pop(node, None)
        self._scheduled.pop(node, None)

    def kubelet_stopped(self, node: str) -> None:
        """Nobody looks any more."""
        self._scheduled.pop(node, None)

    def kubelet_started(self, node: str) -> None:
        """A starting kubelet relists at once, and its phase is a new one."""
        self._phase[node] = self.core.now_ns % self.period
        if self._changed.get(node):
            self._schedule(node, self.core.now_ns)
