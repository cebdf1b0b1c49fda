"""The control plane of one cluster: the facade that `lab` and tests drive.

Time only moves when somebody calls `step` or `advance_clock`; commands act at the current instant.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from kflab.cluster.checkpoint import clone
from kflab.cluster.ipam import Pins
from kflab.cluster.outside import Outside, assumptions
from kflab.cluster.store import Store
from kflab.collector import held_off
from kflab.control.albsync import Alb, AlbSync
from kflab.control.apps import Apps
from kflab.control.cloudnodes import CloudNodes
from kflab.control.components import DNS, Components
from kflab.control.core import API_SERVER, ETCD, ControlDraws, Core
from kflab.control.corednssync import CorednsSync
from kflab.control.daemonset import DaemonSetController
from kflab.control.delays import Delays
from kflab.control.deployment import DeploymentController
from kflab.control.disruption import DisruptionController
from kflab.control.drain import Drains
from kflab.control.endpointslice import EndpointSliceController
from kflab.control.facts import Fact
from kflab.control.finite import Finite
from kflab.control.garbage import GarbageCollector
from kflab.control.ground_signals import GroundSignals
from kflab.control.heap import Event
from kflab.control.hpa import HpaController
from kflab.control.ingresssync import IngressSync
from kflab.control.job import JobController
from kflab.control.kubelet import Kubelet
from kflab.control.kubeletrestart import KubeletRestart
from kflab.control.lbgates import TargetGates
from kflab.control.lbsync import LbSync
from kflab.control.leaders import LEADING, Leaders
from kflab.control.load import Loader, pins_check
from kflab.control.loadbalancers import LoadBalancer
from kflab.control.machines import Machines
from kflab.control.mirroring import Mirroring
from kflab.control.node import NodeController
from kflab.control.nodelife import NodeLife
from kflab.control.noderuntimes import NodeRuntimes
from kflab.control.observers import Observer
from kflab.control.podgc import PodGc
from kflab.control.podmetrics import PodMetrics
from kflab.control.podnetwork import PodNetworkAgents
from kflab.control.podstart import PodStart
from kflab.control.poststart import PostStartHooks
from kflab.control.pressure import Pressure
from kflab.control.probes import Probes
from kflab.control.proxyrollout import ProxyRollout
from kflab.control.proxysync import ProxySync
from kflab.control.replicaset import ReplicaSetController
from kflab.control.runtime import PodRuntime
from kflab.control.scaledown import NodeScaleDown
from kflab.control.scheduler import Scheduler
from kflab.control.service import ServiceController
from kflab.control.shutdown import Shutdowns
from kflab.control.signals import Signals
from kflab.control.statefulset import StatefulSetController
from kflab.control.staticpods import StaticPods
from kflab.control.status import StatusManager
from kflab.control.tainteviction import TaintEviction
from kflab.control.termination import Termination
from kflab.control.waves import Wave, ended_ns, flat
from kflab.control.writes import Writes
from kflab.control.zonetaints import ZoneTaints
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_config import KubeProxyConfiguration

USER = "user"


class ControlPlane(Writes, Components):
    """Store, controllers, nodes' ground truth and observers of one cluster.

    Args:
        store: An empty store; afterwards the API server's objects.
        draws: Addressed random numbers.
        delays: How long everything takes.
        pins: Addresses and names that a scenario fixes.
        signals: What traffic answers; None: ground truth alone.
        proxy_config: kube-proxy's configuration; one among the loaded objects replaces it.
        load_balancer: Name of the profile of Services' load balancers; "": what the objects tell.
        network_follows_pod: A CNI agent ends a pod's network when the Pod object goes (`podnetwork`).
    """

    def __init__(
        self,
        store: Store,
        draws: ControlDraws,
        delays: Delays | None = None,
        pins: Pins | None = None,
        signals: Signals | None = None,
        proxy_config: KubeProxyConfiguration | None = None,
        load_balancer: str = "",
        network_follows_pod: bool = False,
    ) -> None:
        pins = pins or Pins()
        pins_check(pins)
        self._dns_replicas = 0
        self.core = core = Core(store, draws, delays or Delays(), pins, signals, load_balancer)
        if core.signals is None:
            core.signals = GroundSignals(core)
        self.status = StatusManager(core)
        self.start_of_pods = PodStart(core, self.status)
        self.probes = Probes(core, self.status, self.start_of_pods)
        hooks = PostStartHooks(core, self.status, self.start_of_pods.pleg)
        self.kubelet = Kubelet(core, self.status, self.probes, self.start_of_pods, hooks)
        self.kubelet_restart = KubeletRestart(core, self.kubelet)
        self.termination = Termination(core, self.kubelet)
        self.pressure = Pressure(core, self.termination)
        self.apps = Apps(core, self.kubelet, self.termination, self.probes)
        self.replica_sets = ReplicaSetController(core)
        self.deployments = DeploymentController(core)
        self.disruption = DisruptionController(core)
        self.slices = EndpointSliceController(core)
        self.lb = LbSync(core)
        self.alb = AlbSync(core, self.lb)
        self.proxies = ProxySync(core, self.lb)
        self.proxies.configure(proxy_config)
        self.ingresses = IngressSync(core)
        self.coredns = CorednsSync(core)
        self.scheduler = Scheduler(core)
        zones = ZoneTaints(core)
        self.node_life = NodeLife(core, zones)
        self.taint_eviction = TaintEviction(core)
        cloud = CloudNodes(core)
        self.leaders = Leaders(core)
        self.runtimes = NodeRuntimes(core, self.kubelet)
        static = StaticPods(core, self.kubelet)
        self.machines = Machines(
            core, self.kubelet, self.proxies, self.lb, self.node_life, cloud, self.ingresses, static
        )
        self.shutdowns = Shutdowns(core, self.termination, self.machines)
        self.drains = Drains(core, self.disruption)
        self.scale_down = NodeScaleDown(core, self.disruption, self.machines)
        self.pod_metrics = PodMetrics(core)
        core.install(
            (
                NodeController(core, self.proxies, self.machines),
                self.scheduler,
                self.kubelet,
                self.termination,
                PodNetworkAgents(core, network_follows_pod),
                self.status,
                self.start_of_pods,
                self.start_of_pods.failures,
                hooks,
                self.probes,
                self.kubelet_restart,
                static,
                self.runtimes,
                self.apps,
                self.pressure,
                self.replica_sets,
                self.deployments,
                StatefulSetController(core),
                DaemonSetController(core),
                JobController(core),
                Finite(core, self.kubelet, self.termination),
                ServiceController(core),
                self.disruption,
                self.slices,
                Mirroring(core),
                self.lb,
                self.alb,
                TargetGates(core, self.lb, self.alb),
                self.proxies,
                ProxyRollout(core, self.proxies),
                self.ingresses,
                self.coredns,
                self.node_life,
                zones,
                self.taint_eviction,
                PodGc(core),
                cloud,
                self.leaders,
                self.machines,
                GarbageCollector(core),
                self.drains,
                self.scale_down,
                self.pod_metrics,
                HpaController(core, self.pod_metrics),
                self.shutdowns,
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
        return list(flat(self.core.facts))

    @property
    def observers(self) -> dict[str, Observer]:
        """Who acts on which revision."""
        return self.core.observers

    def observer_at(self, name: str, t_ns: int) -> Observer | None:
        """Whose rules were in force under a name at an instant.

        A node that has left the cluster keeps the rules that its kube-proxy had written.
        """
        former = self.core.former.get(name, ())
        then = next((observer for left_ns, observer in former if t_ns < left_ns), None)
        return then or self.core.observers.get(name) or (former[-1][1] if former else None)

    @property
    def runtime(self) -> dict[Key, PodRuntime]:
        """Ground truth: pods that have a sandbox on a node."""
        return self.core.runtime

    @property
    def balancers(self) -> dict[Key, LoadBalancer]:
        """Cloud load balancers by Service; target groups of Application Load Balancers by TargetGroupBinding."""
        return self.lb.balancers

    @property
    def albs(self) -> dict[Key, Alb]:
        """AWS Application Load Balancers by Key("LoadBalancer", "", name)."""
        return self.alb.albs

    @property
    def assumptions(self) -> Sequence[tuple[str, str]]:
        """(what was assumed, how to override it)."""
        return self.core.assumptions

    @property
    def components(self) -> dict[str, int | None]:
        """Everything that can be stopped → since when it is stopped; None: it runs."""
        nodes = [key.name for key in self.store.keys("Node")]
        names = [API_SERVER, ETCD, *LEADING]
        if self.dns_workload() is not None:
            names.append(DNS)
        names += [f"ingress/{key.namespace}/{key.name}" for key in self.ingresses.pods]
        names += [f"{what}/{node}" for node in nodes for what in ("kube-proxy", "kubelet")]
        return {name: self.core.stopped.get(name) for name in names}

    def next_relist_ns(self, node: str) -> int | None:
        """When the kubelet of a node will have noticed what is so now; None while it or the runtime does not work."""
        if f"kubelet/{node}" in self.core.stopped or node in self.core.runtimes:
            return None
        return self.kubelet.pleg.next_look(node, self.now_ns) + self.kubelet.pleg.takes

    def said_by(self, deed: Callable[[], None]) -> tuple[Fact, ...]:
        """Do something now, and say what happened."""
        before = len(self.core.facts)
        deed()
        return self.core.told_since(before)

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
        with held_off():
            loader.load(objects, frozenset(observed_keys))

    def settle(self, until_ns: int = 0) -> None:
        """Run the controllers until nothing is due before `until_ns`, then bring every observer up to date."""
        with held_off():
            self.core.run_settling(until_ns)
        self.core.now_ns = until_ns
        self.proxies.finish_settling()
        self.coredns.finish_settling()
        self.ingresses.finish_settling()
        self.alb.finish_settling()
        self.lb.finish_settling()
        for text, override in assumptions(Outside(self.store)):
            self.core.assume(text, override)
        self.core.quiet = False
        self.pod_metrics.settled()
        self.core.facts.clear()
        self.store.start_past()

    # --- time -----------------------------------------------------------------------------------------------

    def next_ns(self) -> int | None:
        """When the next event is due; None when nothing is."""
        return self.core.heap.next_ns()

    def step(self) -> tuple[Fact, ...]:
        """Run all events of the next instant, and say what happened."""
        return tuple(flat(self.stride(0)))

    def stride(self, until_ns: int) -> tuple[Fact | Wave, ...]:
        """As `step`; and of many kube-proxies that sync one after another, with nothing between, all until `until_ns`.

        Each sync has its own instant; `now_ns` is that of the last.
        """
        t_ns = self.core.heap.next_ns()
        before = len(self.core.facts)
        self.core.ahead_ns = until_ns
        while t_ns is not None and self.core.heap.next_ns() == t_ns:
            self.core.run_next()
        self.core.ahead_ns = 0
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
        self.core.ahead_ns = t_ns
        while (due := self.core.heap.next_ns()) is not None and due <= t_ns:
            self.core.run_next()
        self.core.ahead_ns = 0
        self.core.now_ns = max(self.core.now_ns, t_ns)
        return self.core.told_since(before)

    def pending(self) -> Sequence[tuple[int, Event]]:
        """What is due, for looking at."""
        return self.core.heap.pending()

    # --- evictions ------------------------------------------------------------------------------------------

    def evict(self, pod_key: Key, by: str = USER, grace_s: int | None = None) -> tuple[Fact, ...]:
        """Evict a pod through the eviction API, now: its PodDisruptionBudget is asked.

        Raises:
            KflabError: In the API server's words when it refuses. `disruption.refusal` tells beforehand whether that
                is code 429, after which clients try again.
        """
        return self.said_by(lambda: self.disruption.evict(pod_key, by, grace_s))

    # --- traffic speaks -------------------------------------------------------------------------------------

    def recheck_probes(self, pod_key: Key) -> None:
        """What probes of a pod meet changed without its listeners changing: their next ticks matter again."""
        worker = self.status.workers.get(pod_key)
        if worker is not None:
            self.probes.recheck(worker)

    # --- checkpoints ----------------------------------------------------------------------------------------

    # --- forgetting -----------------------------------------------------------------------------------------

    def forget_before(self, t_ns: int) -> None:
        """Drop what was over before `t_ns`: facts, and what observers and load balancers knew."""
        facts = self.core.facts
        del facts[: bisect_left(facts, t_ns, key=ended_ns)]
        self.proxies.crowd.history.forget_before(t_ns)
        for observer in self.core.observers.values():
            observer.forget_before(t_ns)
        for name, known in list(self.core.former.items()):
            self.core.former[name] = tuple([one for one in known if one[0] > t_ns])
            if not self.core.former[name]:
                del self.core.former[name]
        self.lb.forget_before(t_ns)
        self.alb.forget_before(t_ns)

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
