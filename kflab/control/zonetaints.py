"""NoExecute taints for nodes that are not Ready: one queue per zone, as fast as the zone's state allows.

Source: k8s.io/kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go (doNoExecuteTaintingPass,
ComputeZoneState, handleDisruption, setLimiterInZone, ReducedQPSFunc), scheduler/rate_limited_queue.go (SwapLimiter);
lifecycle 1.5.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from typing import ClassVar

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, ManagerEvent
from kflab.control.tolerations import NOT_READY, UNREACHABLE
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node, Taint
from kflab.records import dataclass

BY = "node-lifecycle-controller"

OWN = (UNREACHABLE, NOT_READY)

EXCLUDED = "node.kubernetes.io/exclude-disruption"

REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"

LEAST_UNREADY = 3
"""A zone with fewer nodes that are not Ready is never partially disrupted (ComputeZoneState: notReadyNodes > 2)."""

NORMAL, PARTIAL, FULL = "normal", "partial disruption", "full disruption"


@dataclass(frozen=True, slots=True)
class TaintNext(ManagerEvent):
    """The worker of a zone takes the next node."""

    room: ClassVar[str] = "zonetaints"
    zone: str


@dataclass(slots=True)
class Zone(Mutable):
    """One zone's queue and limiter."""

    state: str = NORMAL
    per_s: float = 0.0
    """Nodes tainted per second; 0: none."""
    token_ns: int = 0
    """When the limiter lets the next one pass."""
    waiting: dict[str, None] = field(default_factory=dict)
    due: bool = False


class ZoneTaints(Controller):
    """All zones' queues."""

    room = "zonetaints"
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.zones: dict[str, Zone] = {}
        self._all_full = False

    def zone(self, node: Node) -> Zone:
        """The zone of a node; a new one begins with the normal rate."""
        key = zone_key(node)
        if key not in self.zones:
            self.zones[key] = Zone(per_s=0.0 if self._all_full else self.core.delays.node_eviction_rate)
        return self.zones[key]

    def restarted(self) -> None:
        """Queues and zone states are in memory only; passes fill them anew."""
        self.zones.clear()
        self._all_full = False
        self.core.heap.discard(_is_next)

    # --- the queue ------------------------------------------------------------------------------------------

    def queue(self, node: Node) -> None:
        """A node was observed not Ready: it is to get its NoExecute taint, or the other one at once."""
        key = taint_key(node)
        held = {taint.key for taint in node.taints if taint.effect == "NoExecute"}
        if key in held:
            return
        if held & set(OWN):
            self._taint(node, key)  # SwapNodeControllerTaint
            return
        zone = self.zone(node)
        zone.waiting.setdefault(node.meta.name)
        self._plan(zone_key(node), zone)

    def _plan(self, name: str, zone: Zone) -> None:
        if zone.due or not zone.waiting or not zone.per_s:
            return
        zone.due = True
        loop = self.core.delay("node_taint_loop_s", f"zone/{name}")
        self.core.push_at(max(self.core.now_ns, zone.token_ns) + loop, TaintNext(name))

    def handle(self, event: Event) -> None:
        """Taint the next node that still needs it."""
        assert isinstance(event, TaintNext)
        zone = self.zones.get(event.zone)
        if zone is None:
            return
        zone.due = False
        while zone.waiting and zone.per_s and zone.token_ns <= self.core.now_ns:
            name = next(iter(zone.waiting))
            del zone.waiting[name]
            zone.token_ns = self.core.now_ns + round(1e9 / zone.per_s)
            node = self.core.store.get(Key("Node", "", name))
            if isinstance(node, Node) and node.ready != "True":
                self._taint(node, taint_key(node))
        self._plan(event.zone, zone)

    def _taint(self, node: Node, key: str) -> None:
        rest = without_own(node.taints, "NoExecute", OWN)
        change = self.core.put(replace(node, taints=(*rest, Taint(key, "NoExecute"))), BY)
        if change is not None:
            text = f"node {node.meta.name} has {key}:NoExecute"
            self.core.fact(What.NODE_TAINTED, node.key, BY, text, change.revision)

    def lift(self, node: Node) -> None:
        """markNodeAsReachable: the node loses its NoExecute taints and its place in the queue."""
        self.zone(node).waiting.pop(node.meta.name, None)
        rest = without_own(node.taints, "NoExecute", OWN)
        if len(rest) != len(node.taints):
            change = self.core.put(replace(node, taints=rest), BY)
            if change is not None:
                text = f"node {node.meta.name} has no NoExecute taint any more"
                self.core.fact(What.NODE_TAINTED, node.key, BY, text, change.revision)

    # --- disruption -----------------------------------------------------------------------------------------

    def disruption(self, conditions: Sequence[tuple[Node, str]]) -> None:
        """Work out every zone's state and rate from what the pass found."""
        ready: Counter[str] = Counter()
        unready: Counter[str] = Counter()
        for node, condition in conditions:
            if EXCLUDED not in node.meta.labels:
                (ready if condition == "True" else unready)[zone_key(node)] += 1
                self.zone(node)
        states = {name: self._state(ready[name], unready[name]) for name in (ready | unready)}
        for name in [name for name in self.zones if name not in states]:
            del self.zones[name]
        everywhere = bool(states) and all(state == FULL for state in states.values())
        if everywhere and not self._all_full:
            for node, _ in conditions:
                current = self.core.store.get(node.key)
                if isinstance(current, Node):
                    self.lift(current)
        changed = everywhere != self._all_full
        self._all_full = everywhere
        for name, state in states.items():
            zone = self.zones[name]
            if state != zone.state or changed:
                zone.state = state
                self._swap(name, zone, 0.0 if everywhere else self._rate(state, ready[name] + unready[name]))

    def _state(self, ready: int, unready: int) -> str:
        if not ready and unready:
            return FULL
        threshold = self.core.delays.unhealthy_zone_threshold
        return PARTIAL if unready >= LEAST_UNREADY and unready / (ready + unready) >= threshold else NORMAL

    def _rate(self, state: str, nodes: int) -> float:
        delays = self.core.delays
        if state != PARTIAL:
            return delays.node_eviction_rate
        return delays.secondary_node_eviction_rate if nodes > delays.large_cluster_size_threshold else 0.0

    def _swap(self, name: str, zone: Zone, per_s: float) -> None:
        """A new limiter is drained when the old one had nothing left (SwapLimiter)."""
        if zone.per_s == per_s:
            return
        drained = not zone.per_s or zone.token_ns > self.core.now_ns
        zone.per_s = per_s
        if drained and per_s:
            zone.token_ns = self.core.now_ns + round(1e9 / per_s)
        self._plan(name, zone)


def _is_next(event: Event) -> bool:
    return isinstance(event, TaintNext)


def zone_key(node: Node) -> str:
    """k8s.io/component-helpers/node/topology GetZoneKey."""
    region, zone = node.meta.labels.get(REGION, ""), node.meta.labels.get(ZONE, "")
    return f"{region}:{zone}" if region or zone else ""


def taint_key(node: Node) -> str:
    """The taint that a node's Ready condition asks for."""
    return UNREACHABLE if node.ready == "Unknown" else NOT_READY


def without_own(taints: Iterable[Taint], effect: str, keys: Sequence[str]) -> tuple[Taint, ...]:
    """Taints but those of an effect with one of these keys."""
    return tuple(taint for taint in taints if taint.effect != effect or taint.key not in keys)
