"""The control plane of one cluster: the facade that `lab` and tests drive.

Time only moves when somebody calls `step` or `advance_clock`; commands act at the current instant.
"""

import gc
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kflab.cluster.checkpoint import Mutable, clone
from kflab.cluster.ipam import Pins
from kflab.cluster.store import Store
from kflab.control.admission import admit_service, carry_over, check_update, require_api
from kflab.control.core import API_SERVER, ControlDraws, Core
from kflab.control.corednssync import CorednsSync
from kflab.control.daemonset import DaemonSetController
from kflab.control.delays import Delays
from kflab.control.deployment import DeploymentController
from kflab.control.endpointslice import EndpointSliceController
from kflab.control.facts import Fact, What
from kflab.control.ground_signals import GroundSignals
from kflab.control.heap import Event
from kflab.control.ingresssync import IngressSync
from kflab.control.kubelet import Kubelet
from kflab.control.lbsync import LbSync
from kflab.control.load import Loader, pins_check
from kflab.control.loadbalancers import LoadBalancer
from kflab.control.node import NodeController, complete
from kflab.control.observers import Observer
from kflab.control.pods import mark_deleted
from kflab.control.probes import Probes
from kflab.control.proxysync import ProxySync
from kflab.control.replicaset import ReplicaSetController
from kflab.control.runtime import PodRuntime
from kflab.control.scheduler import Scheduler
from kflab.control.service import ServiceController
from kflab.control.signals import Signals
from kflab.control.statefulset import StatefulSetController
from kflab.control.status import StatusManager
from kflab.control.termination import Termination
from kflab.errors import KflabError
from kflab.manifest.objects import (
    Deployment,
    Key,
    KubeObject,
    KubeProxyConfiguration,
    Node,
    Pod,
    ReplicaSet,
    Service,
    StatefulSet,
)

USER = "user"


class ControlPlane(Mutable):
    """Store, controllers, nodes' ground truth and observers of one cluster.

    Args:
        store: An empty store; afterwards the API server's objects.
        draws: Addressed random numbers.
        delays: How long everything takes.
        pins: Addresses and names that a scenario fixes.
        signals: What traffic answers; None: ground truth alone.
        proxy_config: kube-proxy's configuration; one among the loaded objects replaces it.
    """

    def __init__(
        self,
        store: Store,
        draws: ControlDraws,
        delays: Delays | None = None,
        pins: Pins | None = None,
        signals: Signals | None = None,
        proxy_config: KubeProxyConfiguration | None = None,
    ) -> None:
        pins = pins or Pins()
        pins_check(pins)
        self.core = core = Core(store, draws, delays or Delays(), pins, signals)
        if core.signals is None:
            core.signals = GroundSignals(core)
        self.status = StatusManager(core)
        self.probes = Probes(core, self.status)
        self.kubelet = Kubelet(core, self.status, self.probes)
        self.termination = Termination(core, self.kubelet)
        self.replica_sets = ReplicaSetController(core)
        self.deployments = DeploymentController(core)
        self.slices = EndpointSliceController(core)
        self.lb = LbSync(core)
        self.proxies = ProxySync(core, self.lb)
        self.proxies.configure(proxy_config)
        self.ingresses = IngressSync(core)
        self.coredns = CorednsSync(core)
        self.scheduler = Scheduler(core)
        core.install(
            (
                NodeController(core, self.proxies),
                self.scheduler,
                self.kubelet,
                self.termination,
                self.status,
                self.probes,
                self.replica_sets,
                self.deployments,
                StatefulSetController(core),
                DaemonSetController(core),
                ServiceController(core),
                self.slices,
                self.lb,
                self.proxies,
                self.ingresses,
                self.coredns,
            )
        )

    # --- what is to be seen ---------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The API server's objects."""
        return self.core.store

    @property
    def now_ns(self) -> int:
        """The current instant."""
        return self.core.now_ns

    @property
    def facts(self) -> Sequence[Fact]:
        """Everything that happened since the start (t = 0, or the load when cold)."""
        return self.core.facts

    @property
    def observers(self) -> dict[str, Observer]:
        """Who acts on which revision."""
        return self.core.observers

    @property
    def runtime(self) -> dict[Key, PodRuntime]:
        """Ground truth: pods that have a sandbox on a node."""
        return self.core.runtime

    @property
    def balancers(self) -> dict[Key, LoadBalancer]:
        """Cloud load balancers by Service."""
        return self.lb.balancers

    @property
    def assumptions(self) -> Sequence[tuple[str, str]]:
        """(what was assumed, how to override it)."""
        return self.core.assumptions

    @property
    def components(self) -> dict[str, int | None]:
        """Everything that can be stopped → since when it is stopped; None: it runs."""
        nodes = [key.name for key in self.store.keys("Node")]
        names = [API_SERVER, *(f"{what}/{node}" for node in nodes for what in ("kube-proxy", "kubelet"))]
        return {name: self.core.stopped.get(name) for name in names}

    def next_relist_ns(self, node: str) -> int | None:
        """When the kubelet of a node will have noticed what is so now; None while it is stopped."""
        if f"kubelet/{node}" in self.core.stopped:
            return None
        return self.kubelet.pleg.next_look(node, self.now_ns) + self.kubelet.pleg.takes

    def use_signals(self, signals: Signals) -> None:
        """Let traffic answer from now on."""
        self.core.signals = signals

    # --- opening --------------------------------------------------------------------------------------------

    def load(self, objects: Iterable[KubeObject], observed_keys: Iterable[Key] = (), *, cold: bool = False) -> None:
        """Write the first objects; missing Nodes and Namespaces are made, and said in `assumptions`.

        Args:
            objects: Typed objects, the later of two with one key already dropped.
            observed_keys: Those that a dump gave with status: taken as they stand.
            cold: Start at t = 0 with nothing running; else at a negative time, for `settle`.
        """
        self.core.quiet = not cold
        self.store.keeps_past = cold
        self.core.now_ns = 0 if cold else -self.core.spans["settle_s"][0]
        loader = Loader(self.core, self.kubelet, self.slices, self.deployments, self.replica_sets)
        loader.load(objects, frozenset(observed_keys))

    def settle(self, until_ns: int = 0) -> None:
        """Run the controllers until nothing is due before `until_ns`, then bring every observer up to date."""
        heap = self.core.heap
        collecting = gc.isenabled()
        # Settling makes millions of objects that all stay: looking for garbage among them costs a third of the time.
        gc.disable()
        try:
            while (t_ns := heap.next_ns()) is not None and t_ns < until_ns:
                self.core.run_next()
        finally:
            if collecting:
                gc.enable()
                gc.collect(1)
        self.core.now_ns = until_ns
        self.proxies.finish_settling()
        self.coredns.finish_settling()
        self.ingresses.finish_settling()
        self.lb.finish_settling()
        self.core.quiet = False
        self.core.facts.clear()
        self.store.start_past()

    # --- time -----------------------------------------------------------------------------------------------

    def next_ns(self) -> int | None:
        """When the next event is due; None when nothing is."""
        return self.core.heap.next_ns()

    def step(self) -> tuple[Fact, ...]:
        """Run all events of the next instant, and say what happened."""
        t_ns = self.core.heap.next_ns()
        before = len(self.core.facts)
        while t_ns is not None and self.core.heap.next_ns() == t_ns:
            self.core.run_next()
        return tuple(self.core.facts[before:])

    def advance_clock(self, t_ns: int) -> None:
        """Let it be `t_ns`, when no event is due before.

        Raises:
            ValueError: When an event is due earlier, or `t_ns` is past.
        """
        due = self.core.heap.next_ns()
        if t_ns < self.core.now_ns or (due is not None and due < t_ns):
            raise ValueError(f"cannot go to {t_ns} ns from {self.core.now_ns} ns: an event is due at {due} ns")
        self.core.now_ns = t_ns

    def run_until(self, t_ns: int) -> tuple[Fact, ...]:
        """Run everything due up to and including `t_ns`, and let it be `t_ns`."""
        before = len(self.core.facts)
        while (due := self.core.heap.next_ns()) is not None and due <= t_ns:
            self.core.run_next()
        self.core.now_ns = max(self.core.now_ns, t_ns)
        return tuple(self.core.facts[before:])

    def pending(self) -> Sequence[tuple[int, Event]]:
        """What is due, for looking at."""
        return self.core.heap.pending()

    # --- commands at the current instant --------------------------------------------------------------------

    def crash(self, pod_key: Key, exit_code: int = 137, container: str = "") -> tuple[Fact, ...]:
        """A container's process ends now; nobody has noticed yet.

        Args:
            pod_key: The pod.
            exit_code: What it exits with.
            container: Which one; "": the first that runs.

        Raises:
            KflabError: When the pod or a running container is not there.
        """
        ground = self.core.runtime.get(pod_key)
        app = [c.name for c in self._pod(pod_key).spec.containers]
        running = [run.name for run in ground.containers if run.up and run.name in app] if ground is not None else []
        name = container or next(iter(sorted(running, key=app.index)), "")
        if name not in running:
            raise KflabError(
                f"no running container{' ' + name if name else ''} in pod {pod_key.namespace}/{pod_key.name}"
            )
        before = len(self.core.facts)
        self.kubelet.containers_exited(pod_key, (name,), exit_code, "")
        return tuple(self.core.facts[before:])

    def delete_pod(self, pod_key: Key, grace_s: int | None = None) -> tuple[Fact, ...]:
        """kubectl delete pod, now; `grace_s` 0 forces it out of the API at once.

        Raises:
            KflabError: When it is not there, or nobody answers.
        """
        require_api(self.core)
        before = len(self.core.facts)
        mark_deleted(self.core, self._pod(pod_key), grace_s, USER)
        return tuple(self.core.facts[before:])

    def _pod(self, key: Key) -> Pod:
        pod = self.store.get(key)
        if not isinstance(pod, Pod):
            raise KflabError(f'Error from server (NotFound): pods "{key.name}" not found')
        return pod

    def scale(self, key: Key, replicas: int) -> tuple[Fact, ...]:
        """kubectl scale, now.

        Raises:
            KflabError: When the workload is not there or has no replicas, or nobody answers.
        """
        require_api(self.core)
        workload = self.store.get(key)
        if not isinstance(workload, Deployment | ReplicaSet | StatefulSet):
            raise KflabError(f'Error from server (NotFound): {key.kind.lower()}s "{key.name}" not found')
        if replicas < 0:
            raise KflabError(f"--replicas must be 0 or more, not {replicas}")
        before = len(self.core.facts)
        meta = replace(workload.meta, generation=workload.meta.generation + 1)
        change = (
            self.core.put(replace(workload, meta=meta, replicas=replicas), USER)
            if workload.replicas != replicas
            else None
        )
        if change is not None:
            text = f"{key.kind} {key.name} was scaled from {workload.replicas} to {replicas}"
            self.core.fact(What.SCALED, key, USER, text, change.revision)
        return tuple(self.core.facts[before:])

    def apply(self, objects: Iterable[KubeObject], t_ns: int | None = None) -> tuple[Fact, ...]:
        """Create or update objects, already merged with the live ones: all or none.

        Args:
            objects: Typed objects as they should be.
            t_ns: The current instant, for checking; None: not checked.

        Raises:
            KflabError: In the API server's words; then nothing was written.
        """
        if t_ns is not None and t_ns != self.now_ns:
            self.advance_clock(t_ns)
        require_api(self.core)
        wanted = list(objects)
        for obj in wanted:
            old = self.store.get(obj.key)
            if old is not None:
                check_update(old, obj)
            elif obj.meta.namespace and self.store.get(Key("Namespace", "", obj.meta.namespace)) is None:
                named = any(o.kind == "Namespace" and o.meta.name == obj.meta.namespace for o in wanted)
                if not named:
                    raise KflabError(f'namespaces "{obj.meta.namespace}" not found')
        ranges = clone(self.core.addresses)
        try:
            ready = [self._admitted(obj) for obj in wanted]
        except KflabError:
            self.core.addresses.restore(ranges)
            raise
        before = len(self.core.facts)
        for obj in sorted(ready, key=lambda o: o.kind not in ("Namespace", "Node")):
            self._write(obj)
        return tuple(self.core.facts[before:])

    def _admitted(self, obj: KubeObject) -> KubeObject:
        old = self.store.get(obj.key)
        merged = carry_over(old, obj) if old is not None else obj
        if isinstance(merged, Service):
            return admit_service(self.core, merged, old if isinstance(old, Service) else None, strict=True)
        if isinstance(merged, Node) and old is None:
            return complete(self.core, merged, self.store.count("Node") + 1)
        return merged

    def _write(self, obj: KubeObject) -> None:
        old = self.store.get(obj.key)
        change = self.core.create(obj, USER) if old is None else self.core.put(obj, USER)
        if change is not None:
            word = "created" if old is None else "configured"
            self.core.fact(What.APPLIED, obj.key, USER, f"{obj.key} {word}", change.revision)

    def delete(self, key: Key, grace_s: int | None = None) -> tuple[Fact, ...]:
        """kubectl delete of any object, now; what it owned goes with it.

        Raises:
            KflabError: When it is not there, or nobody answers.
        """
        if key.kind == "Pod":
            return self.delete_pod(key, grace_s)
        require_api(self.core)
        if self.store.get(key) is None:
            raise KflabError(f'Error from server (NotFound): {key.kind.lower()}s "{key.name}" not found')
        before = len(self.core.facts)
        change = self.core.remove(key, USER)
        if change is not None:
            self.core.fact(What.APPLIED, key, USER, f"{key} deleted", change.revision)
        return tuple(self.core.facts[before:])

    # --- components -----------------------------------------------------------------------------------------

    def stop(self, component: str) -> tuple[Fact, ...]:
        """Stop "apiserver", "kube-proxy/NODE" or "kubelet/NODE" now: knowledge goes stale, traffic goes on.

        Raises:
            KflabError: For an unknown component, or one that is stopped already.
        """
        what, node = self._component(component)
        if component in self.core.stopped:
            raise KflabError(f"{component} is stopped already")
        before = len(self.core.facts)
        self.core.stopped[component] = self.now_ns
        self.core.fact(What.COMPONENT_STOPPED, Key("Component", "", component), USER, f"{component} was stopped")
        if what == "kube-proxy":
            self.proxies.stop(node)
        elif what == "kubelet":
            self.kubelet.pleg.kubelet_stopped(node)
        return tuple(self.core.facts[before:])

    def start(self, component: str) -> tuple[Fact, ...]:
        """Start a stopped component now.

        Raises:
            KflabError: For an unknown component, or one that runs.
        """
        what, node = self._component(component)
        if component not in self.core.stopped:
            raise KflabError(f"{component} runs already")
        before = len(self.core.facts)
        self.core.fact(What.COMPONENT_STARTED, Key("Component", "", component), USER, f"{component} was started")
        if what == API_SERVER:
            self.core.release_api()
        else:
            del self.core.stopped[component]
        if what == "kube-proxy":
            self.proxies.start(node)
        elif what == "kubelet":
            self.core.release_kubelet(node)
            self.kubelet.pleg.kubelet_started(node)
            self.termination.kubelet_started(node)
        return tuple(self.core.facts[before:])

    def _component(self, component: str) -> tuple[str, str]:
        what, _, node = component.partition("/")
        known = what == API_SERVER and not node
        known = known or (what in ("kube-proxy", "kubelet") and self.store.get(Key("Node", "", node)) is not None)
        if not known:
            raise KflabError(f"no component {component!r}; there are apiserver, kube-proxy/NODE and kubelet/NODE")
        return what, node

    # --- traffic speaks -------------------------------------------------------------------------------------

    def recheck_probes(self, pod_key: Key) -> None:
        """What probes of a pod meet changed without its listeners changing: their next ticks matter again."""
        worker = self.status.workers.get(pod_key)
        if worker is not None:
            self.probes.recheck(worker)

    # --- checkpoints ----------------------------------------------------------------------------------------

    def copy(self, signals: Signals | None = None) -> "ControlPlane":
        """An independent copy at this instant, sharing what is immutable.

        Args:
            signals: What answers in the copy; None: as before, ground truth if that was it.
        """
        twin = clone(self)
        if signals is not None:
            twin.core.signals = signals
        return twin


def settle(
    objects: Iterable[KubeObject],
    draws: ControlDraws,
    observed_keys: Iterable[Key] = (),
    delays: Delays | None = None,
    pins: Pins | None = None,
) -> ControlPlane:
    """Bring a cluster of objects to t = 0 without traffic."""
    plane = ControlPlane(Store(), draws, delays, pins)
    plane.load(objects, observed_keys)
    plane.settle()
    return plane
