"""What all controllers share: clock, event heap, store, indexes, ground truth, facts and draws."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from kflab.cluster.checkpoint import Mutable
from kflab.cluster.ipam import Allocator, Pins
from kflab.cluster.store import Change, Store
from kflab.control.delay_tables import delay_tables
from kflab.control.delays import Delays, ns
from kflab.control.facts import Fact, What
from kflab.control.heap import Event, EventHeap, KubeletEvent, NodeEvent
from kflab.control.index import Index
from kflab.control.lbchoice import Surroundings
from kflab.control.machine import HungRuntime, Machine
from kflab.control.names import uid
from kflab.control.observers import Observer
from kflab.control.priorities import prioritized
from kflab.control.runtime import PodRuntime
from kflab.control.signals import Signals
from kflab.control.tolerations import with_defaults
from kflab.control.waves import Wave, flat
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_pods import Pod, PodSpec
from kflab.replacing import copier, replace

Int64Array = NDArray[np.int64]
UInt64Array = NDArray[np.uint64]

API_SERVER = "apiserver"
ETCD = "etcd"

WRITES = (
    "api_write_s", "controller_s", "scheduler_s", "endpointslice_s", "pod_status_write_s", "pod_removal_s",
    "kubelet_start_s",
)  # fmt: skip
"""Delays that contain a write to the API."""

SLOWED: Mapping[str, tuple[str, ...]] = {
    ETCD: WRITES,
    API_SERVER: (
        *WRITES,
        "watch_s",
        "kubelet_watch_s",
        "proxy_watch_s",
        "coredns_watch_s",
        "ingress_watch_s",
        "lb_watch_s",
    ),
    "controller-manager": ("controller_s", "endpointslice_s"),
    "scheduler": ("scheduler_s",),
    "coredns": ("coredns_watch_s",),
}
"""Component → delays that grow while it is slow. A slow kube-proxy's or ingress controller's sync grows by itself."""

STATUS_WRITER = "kubelet-status/"
"""Prefix of the actor of kubelets' writes."""

TABLE_SHIFT = 48
"""Of 64 random bits the upper 16 choose among a distribution's 65,536 values."""

SETTLE_BATCH_NS = 1_000_000_000
"""Work queues wait this long while settling: many changes of one object become one sync that nobody sees."""

SETTLE_RUN_NS = 4_000_000_000
"""While settling, pods run this long after they were made, if nothing keeps them: what follows from that can wait."""


class ControlDraws(Protocol):
    """What control needs of `kflab.draws.Draws`."""

    def control_u64(self, purpose: str, obj: str, n: int = 0) -> int:
        """64 random bits at an address."""
        ...

    def look_ahead(self, purpose: str, obj: str, first: int, count: int) -> None:
        """So many numbers from an address on are about to be asked for."""
        ...

    def control_between(self, purpose: str, obj: str, n: int, low: int, high: int) -> int:
        """A number low ≤ x < high at an address."""
        ...

    def rows(self, stream: int, numbers: Int64Array, attempts: int = 0) -> UInt64Array:
        """Four random words for each of many addresses."""
        ...


_born = copier(Meta, "uid", "creation_ns")
_admitted = copier(Pod, "meta", "spec")


def address_of(key: Key) -> str:
    """An object's part of the address of its draws."""
    return f"{key.kind}/{key.namespace}/{key.name}"


def _of_kubelet(event: Event, node: str) -> bool:
    return isinstance(event, KubeletEvent) and event.node == node


Audience = tuple[str, str, bool, bool]
"""Kind of the object written, kind of its owner ("" without one), whether it is gone, whether the cluster settles."""


class Controller(Mutable):
    """Base of all controllers: acts on its own events, hears of writes to its kinds."""

    room: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = ()
    component: ClassVar[str] = ""
    """The process it is part of, where that can be stopped by itself: "controller-manager", "scheduler"."""
    settles: ClassVar[bool] = True
    """False: what is written before t = 0 is nothing to it."""
    owners: ClassVar[tuple[str, ...] | None] = None
    """Kinds of owner whose pods it hears of, "" for pods without one; None: all pods."""
    pods_gone: ClassVar[bool] = False
    """Of pods it hears only that they are gone."""

    def __init__(self, core: "Core") -> None:
        self.core = core

    def changed(self, change: Change) -> None:
        """A write to one of `kinds` happened now; push an event for when this controller will know."""

    def ground_changed(self, key: Key) -> None:
        """What runs or listens on a pod changed now: seen by nobody, felt by packets."""

    def admitted(self, pod: Pod) -> Pod:
        """A pod that is about to be made, as this controller's mutating webhook lets it be."""
        return pod

    def placed(self, key: Key, pod: Pod) -> Pod:
        """A pod that is about to be made while the cluster settles, with what this controller will have added soon."""
        return pod

    def handle(self, event: Event) -> None:
        """An event of this controller's room is due now."""

    def restarted(self) -> None:
        """Its process is a new one and begins to act: what it kept in memory only is gone."""


class Core(Mutable):
    """The shared state of one cluster's control plane."""

    def __init__(
        self,
        store: Store,
        draws: ControlDraws,
        delays: Delays,
        pins: Pins,
        signals: Signals | None,
        load_balancer: str = "",
    ) -> None:
        self.store = store
        self.draws = draws
        self.delays = delays
        self.signals = signals
        self.spans = delays.spans_ns()
        self.tables = delay_tables(delays)
        self._middles = {name: (low + high) // 2 for name, (low, high) in self.spans.items()}
        self._middles.update(controller_s=SETTLE_BATCH_NS, endpointslice_s=2 * SETTLE_RUN_NS)
        self.pins = pins
        self.surroundings = Surroundings(load_balancer)
        """What decides whose load balancers Services get; `look_around` keeps it up to date."""
        self.now_ns = 0
        self.ahead_ns = 0
        """Up to when one event may tell of later instants too, as far as nothing else happens before them."""
        self.quiet = True
        """Before t = 0: fixed delays instead of draws, no facts, observers learn all at once at the end."""
        self.heap = EventHeap()
        self.index = Index()
        self.addresses = Allocator(pins, self._draw_number)
        self.pinned_ips: dict[Key, str] = {}
        """Pods that will get a pinned address when their sandbox is made."""
        self.runtime: dict[Key, PodRuntime] = {}
        self.ground_changes: dict[str, int] = {}
        """Node → how often what is so there has changed since t = 0."""
        self.observers: dict[str, Observer] = {}
        self.former: dict[str, tuple[tuple[int, Observer], ...]] = {}
        """Name → kube-proxies whose node has left the cluster, and when, ascending: they learn no more. What nobody
        can ask for any more is forgotten (`ControlPlane.forget_before`)."""
        self.as_given: dict[Key, None] = {}
        """Workloads that came with pods of their own: nothing is made for them before t = 0."""
        self.assumptions: list[tuple[str, str]] = []
        self.facts: list[Fact | Wave] = []
        self.controllers: dict[str, Controller] = {}
        self._hears: dict[str, list[Controller]] = {}
        self._audiences: dict[Audience, list[Controller]] = {}
        self._feels: list[Controller] = []
        self._admits: list[Controller] = []
        self._places: list[Controller] = []
        self.stopped: dict[str, int] = {}
        """Stopped components and since when."""
        self.states: dict[Key, dict[str, None]] = {}
        """Object or component → words for what was done to it and lasts ("cordoned"): which verbs make sense now."""
        self.machines: dict[str, Machine] = {}
        """Nodes with whose machine something is wrong."""
        self.runtimes: dict[str, HungRuntime] = {}
        """Nodes whose container runtime hangs."""
        self.failing: dict[Key, tuple[tuple[str, ...], int]] = {}
        """Pod or workload whose health endpoints answer 503 → kinds of probe, number of the outage."""
        self.electing: dict[str, int] = {}
        """Components whose process runs and waits for its lease → when it will have it."""
        self.slow: dict[str, int] = {}
        """Slow components → how much longer each thing they do takes, in ns."""
        self._slower: dict[str, int] = {}
        """Delay → by how much it is longer now."""
        self._held_component: dict[str, list[Event]] = {}
        self._held: list[Event] = []
        self._held_kubelet: dict[str, list[Event]] = {}
        self._held_cut: dict[str, list[Event]] = {}
        """What cut-off nodes would hear or say."""
        self._returning: dict[str, tuple[int, int]] = {}
        """Nodes whose links were healed and whose watches come back later → from when until when they were cut."""
        self._outages: list[tuple[int, int]] = []
        self._reconnected: dict[str, int] = {}
        self._drawn: dict[str, dict[str, int]] = {}
        self._uids: dict[Key, int] = {}
        self._tolerated = (PodSpec(), PodSpec())
        """The spec that a pod was last made with, and what became of it."""

    def install(self, controllers: Iterable[Controller]) -> None:
        """Know the controllers; writes are told in this order."""
        for controller in controllers:
            if type(controller).ground_changed is not Controller.ground_changed:
                self._feels.append(controller)
            if type(controller).admitted is not Controller.admitted:
                self._admits.append(controller)
            if type(controller).placed is not Controller.placed:
                self._places.append(controller)
            self.controllers[controller.room] = controller
            for kind in controller.kinds:
                self._hears.setdefault(kind, []).append(controller)

    # --- writes ---------------------------------------------------------------------------------------------

    def put(self, obj: KubeObject, by: str, key: Key | None = None) -> Change | None:
        """Write an object at this instant; `key` is its own, where it is at hand."""
        return self._tell(self.store.put(obj, self.now_ns, by, key))

    def create(self, obj: KubeObject, by: str, *, settled: bool = False) -> Change | None:
        """Write a new object: the API server adds uid and creation time, to a pod priority and default tolerations.

        Args:
            obj: The object.
            by: Who writes it.
            settled: A pod comes with what controllers would add at once: one write stands for two.
        """
        if isinstance(obj, Pod):
            for controller in self._admits:
                obj = controller.admitted(obj)
        key = obj.key
        n = self._uids.get(key, 0)
        self._uids[key] = n + 1
        given = obj.meta
        its_uid = given.uid or uid(key.kind, key.namespace, key.name, n)
        meta = _born(given, its_uid, given.creation_ns or self.now_ns)
        if isinstance(obj, Pod):
            made = _admitted(obj, meta, self._tolerant(self._prioritized(obj.spec)))
            for controller in self._places if settled else ():
                made = controller.placed(key, made)
            return self.put(made, by, key)
        return self.put(replace(obj, meta=meta), by, key)

    def _prioritized(self, spec: PodSpec) -> PodSpec:
        """A pod's spec with the priority of its class."""
        if not spec.priority_class and not self.store.count("PriorityClass"):
            return spec
        found, missing = prioritized(self.store, spec)
        if missing:
            text = f"PriorityClass {missing} is not given: its pods have priority 0"
            self.assume(f"{text}; the API server would refuse them", f"give PriorityClass {missing}")
        return found

    def _tolerant(self, spec: PodSpec) -> PodSpec:
        """A pod's spec with default tolerations; pods made one after another from one template share it."""
        given, made = self._tolerated
        if spec is given:
            return made
        seconds = self.spans["default_toleration_s"][0] // 1_000_000_000
        tolerations = with_defaults(spec.tolerations, seconds)
        made = spec if tolerations == spec.tolerations else replace(spec, tolerations=tolerations)
        self._tolerated = (spec, made)
        return made

    def remove(self, key: Key, by: str) -> Change | None:
        """Take an object out of the store at this instant."""
        return self._tell(self.store.delete(key, self.now_ns, by))

    def _tell(self, change: Change | None) -> Change | None:
        if change is not None:
            self.index.take(change)
            obj = change.new or change.old
            owner = obj.meta.owner if obj is not None else None
            about = (change.key.kind, "" if owner is None else owner.kind, change.new is None, self.quiet)
            audience = self._audiences.get(about)
            if audience is None:
                audience = self._audiences[about] = self._audience(*about)
            for controller in audience:
                controller.changed(change)
        return change

    def _audience(self, kind: str, owner: str, gone: bool, quiet: bool) -> list[Controller]:
        """Controllers to which a write means something, in order."""
        return [
            each for each in self._hears.get(kind, ())
            if (each.settles or not quiet)
            and (kind != "Pod" or ((gone or not each.pods_gone) and (each.owners is None or owner in each.owners)))
        ]  # fmt: skip

    def set_ground(self, key: Key, ground: PodRuntime | None) -> None:
        """Change what is so on a node; None: nothing of the pod is left there."""
        before = self.runtime.pop(key, None) if ground is None else None
        if ground is not None:
            self.runtime[key] = ground
        changed = ground or before
        if changed is not None and not self.quiet:
            self.ground_changes[changed.node] = self.ground_changes.get(changed.node, 0) + 1
        for controller in self._feels:
            controller.ground_changed(key)

    # --- time -----------------------------------------------------------------------------------------------

    def push(self, delay_ns: int, event: Event) -> None:
        """Let an event be due `delay_ns` from now."""
        self.heap.push(self.now_ns + delay_ns, event)

    def push_at(self, t_ns: int, event: Event) -> None:
        """Let an event be due at `t_ns`, or now when that is past."""
        self.heap.push(max(t_ns, self.now_ns), event)

    def run_settling(self, until_ns: int) -> None:
        """Run everything due before `until_ns`, where nothing is stopped or cut off yet."""
        assert self.quiet
        controllers = self.controllers
        for t_ns, event in self.heap.take_before(until_ns):
            self.now_ns = t_ns
            controllers[event.room].handle(event)

    def run_next(self) -> None:
        """Run the next event, unless what it needs is stopped: then it waits."""
        t_ns = self.heap.next_ns()
        assert t_ns is not None
        self.now_ns = t_ns
        event = self.heap.pop()
        if event.needs_api and not self.api_up():
            self._held.append(event)
        elif event.needs_api and self._outages and (back_ns := self.reconnected_ns(event.actor)) > t_ns:
            self.heap.push(back_ns, event)
        elif isinstance(event, KubeletEvent) and self.stopped and f"kubelet/{event.node}" in self.stopped:
            self._held_kubelet.setdefault(event.node, []).append(event)
        elif event.needs_runtime and self.runtimes and isinstance(event, NodeEvent) and event.node in self.runtimes:
            self.runtimes[event.node].held.append(event)
        elif event.needs_api and self.machines and isinstance(event, NodeEvent) and not self.talks(event.node):
            self._held_cut.setdefault(event.node, []).append(event)
        elif event.by_watch and self._returning and (back_ns := self._watch_back_ns(event)) > t_ns:
            self.heap.push(back_ns, event)
        else:
            controller = self.controllers[event.room]
            if controller.component and self.waits(controller.component) and not isinstance(event, KubeletEvent):
                self._held_component.setdefault(controller.component, []).append(event)
            else:
                controller.handle(event)

    def waits(self, component: str) -> bool:
        """Whether a component does not act now: it is stopped, or has no lease yet."""
        return component in self.stopped or component in self.electing

    def release_component(self, component: str) -> None:
        """A component acts again: it goes on with what it had to do."""
        for event in self._held_component.pop(component, ()):
            self.push(0, event)

    def slow_down(self, component: str, by_ns: int) -> None:
        """Let each thing that a component does take so much longer; 0: as long as usual."""
        self.slow.pop(component, None)
        if by_ns:
            self.slow[component] = by_ns
        self._slower = {}
        for name, extra in self.slow.items():
            for delay in SLOWED.get(name, ()):
                self._slower[delay] = self._slower.get(delay, 0) + extra

    def api_up(self) -> bool:
        """Whether the API server answers, and etcd lets it."""
        return API_SERVER not in self.stopped and ETCD not in self.stopped

    def release_api(self, component: str) -> None:
        """The API server or etcd is back: what waited for it goes on, when its component has reconnected."""
        since = self.stopped.pop(component)
        if component == API_SERVER:  # watches stay open while only etcd is away
            self._outages.append((since, self.now_ns))
            self._reconnected.clear()
        if not self.api_up():
            return
        held, self._held = self._held, []
        for event in held:
            self.push(0, event)

    def release_kubelet(self, node: str) -> None:
        """A kubelet is back: it goes on with what it had in hand, with a watch of its own."""
        self._returning.pop(node, None)
        for event in self._held_kubelet.pop(node, ()):
            self.push(0, event)

    # --- machines -------------------------------------------------------------------------------------------

    def talks(self, node: str) -> bool:
        """Whether a node's kubelet and kube-proxy, if they run, reach the API server."""
        machine = self.machines.get(node)
        return machine is None or machine.talks

    def reachable(self, node: str) -> bool:
        """Whether packets from elsewhere reach a node."""
        machine = self.machines.get(node)
        return machine is None or machine.reachable

    def release_node(self, node: str, since_ns: int) -> None:
        """A node's links are back: its kubelet hears and says what had to wait, when its watch is back."""
        self._returning[node] = (since_ns, self.now_ns)
        for event in self._held_cut.pop(node, ()):
            self.push_at(self.reconnected_since(event.actor, since_ns), event)

    def forget_kubelet(self, node: str) -> None:
        """A kubelet's memory is lost, with everything that it was about to do."""
        self._held_kubelet.pop(node, None)
        self._held_cut.pop(node, None)
        self._returning.pop(node, None)
        self.runtimes.pop(node, None)
        self._held = [event for event in self._held if not _of_kubelet(event, node)]
        self.heap.discard(lambda event: _of_kubelet(event, node))

    def reconnected_since(self, actor: str, down_ns: int) -> int:
        """When a component that lost the API server at `down_ns`, and can reach it again now, has its watch back."""
        return self._reconnect(actor, down_ns, self.now_ns, down_ns)

    def _watch_back_ns(self, event: Event) -> int:
        """When the watch that told of an event is back; 0 where it was not away."""
        cut = self._returning.get(event.node) if isinstance(event, NodeEvent) else None
        return 0 if cut is None else self._reconnect(event.actor, *cut, cut[0])

    @property
    def has_reconnects(self) -> bool:
        """Whether the API server was ever away, so that watches may still be coming back."""
        return bool(self._outages)

    def reconnected_ns(self, actor: str) -> int:
        """When a component's watch came back after the last outage of the API server.

        A reflector retries after 0.8, 1.6, 3.2 … s, each times 1 + U(0, 1), at most 30 s (client-go
        tools/cache/reflector.go, backoff manager); its first retry after the API server's return succeeds. Writes of
        kubelets are retried at the status manager's own tick instead.
        """
        if not self._outages:
            return self.now_ns
        if actor not in self._reconnected:
            number = len(self._outages)
            self._reconnected[actor] = self._reconnect(actor, *self._outages[-1], number)
        return self._reconnected[actor]

    def _reconnect(self, actor: str, down: int, up: int, number: int) -> int:
        """When a component is back; `number` tells this outage from others of it."""
        if actor.startswith(STATUS_WRITER):
            period = self.spans["status_retry_s"][0]
            return up + self.draws.control_between("status-tick", actor, number, 0, period + 1)
        wait, longest = self.spans["reflector_backoff_s"][0], self.spans["reflector_backoff_max_s"][0]
        t_ns, n = down, 1000 * number
        while t_ns < up:
            if wait <= 0:
                return up
            t_ns += self.draws.control_between("reconnect", actor, n, wait, 2 * wait + 1)
            wait, n = min(2 * wait, longest), n + 1
        return t_ns

    def mark(self, key: Key, state: str) -> None:
        """Something was done to an object that lasts."""
        self.states.setdefault(key, {})[state] = None

    def unmark(self, key: Key, state: str) -> None:
        """It lasts no longer."""
        states = self.states.get(key, {})
        states.pop(state, None)
        if not states:
            self.states.pop(key, None)

    # --- draws ----------------------------------------------------------------------------------------------

    def delay(self, name: str, about: Key | str) -> int:
        """A delay in ns: drawn for this object, anew each time; a fixed value while settling."""
        if self.quiet:
            return self._middles[name]
        if self._slower:
            return self._delay(name, about) + self._slower.get(name, 0)
        return self._delay(name, about)

    def slower_ns(self, name: str) -> int:
        """How much longer a delay is while a component that it belongs to is slow, ns."""
        return self._slower.get(name, 0)

    def queued_for(self, key: Key, settling_ns: int = SETTLE_BATCH_NS) -> int:
        """How long a change waits until a controller syncs the object, ns: watch and queue, settling `settling_ns`."""
        return self.delay("watch_s", key) + (settling_ns if self.quiet else self.delay("controller_s", key))

    def _delay(self, name: str, about: Key | str) -> int:
        low, high = self.spans[name]
        if high <= low:
            return low
        obj = about if isinstance(about, str) else address_of(about)
        table = self.tables.get(name)
        if table is not None:
            return int(table[self.bits(name, obj) >> TABLE_SHIFT])
        return self.draws.control_between(name, obj, self.next_draw(name, obj), low, high + 1)

    def bits(self, purpose: str, obj: str) -> int:
        """64 random bits for this object, anew each time."""
        return self.draws.control_u64(purpose, obj, self.next_draw(purpose, obj))

    def bits_ahead(self, purpose: str, obj: str, count: int) -> tuple[int, list[int]]:
        """So many of the draws that `bits` will make for this object, made at once, which costs less; none is counted.

        Returns:
            Number of the first, and the draws: `next_draw` tells which of them is the next.
        """
        first = self._drawn.get(obj, {}).get(purpose, 0)
        self.draws.look_ahead(purpose, obj, first, count)
        return first, [self.draws.control_u64(purpose, obj, n) for n in range(first, first + count)]

    def next_draw(self, purpose: str, obj: str) -> int:
        """How often this was drawn before for this purpose and object; counts it."""
        drawn = self._drawn.setdefault(obj, {})
        n = drawn.get(purpose, 0)
        drawn[purpose] = n + 1
        return n

    def forget_draws(self, key: Key) -> None:
        """An object with a name of its own is gone for good: its counters are not needed again."""
        self._drawn.pop(address_of(key), None)

    def _draw_number(self, obj: str, n: int, low: int, high: int) -> int:
        return self.draws.control_between("address", obj, n, low, high)

    # --- facts ----------------------------------------------------------------------------------------------

    def told_since(self, before: int) -> tuple[Fact, ...]:
        """What happened since there were so many entries in `facts`."""
        return tuple(flat(self.facts[before:]))

    def fact(
        self,
        what: What,
        subject: Key,
        by: str,
        text: str,
        revision: int = 0,
        ports: tuple[tuple[str, int], ...] = (),
        detail: str = "",
    ) -> None:
        """Record what happened now; before t = 0 nobody looks."""
        if not self.quiet:
            self.facts.append(Fact(self.now_ns, what, subject, by, text, revision, ports, detail))

    def assume(self, text: str, override: str) -> None:
        """Record something the lab had to assume, once."""
        if (text, override) not in self.assumptions:
            self.assumptions.append((text, override))

    def names_of(self, kind: str) -> Mapping[str, Key]:
        """Names of a cluster-scoped kind."""
        return {key.name: key for key in self.store.keys(kind)}


__all__ = ["API_SERVER", "Controller", "ControlDraws", "Core", "ns"]
