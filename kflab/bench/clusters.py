"""Bench (e): generated clusters of 10 to 5,000 nodes: load, compile, and what a pod's and a node's end cost to compute.

Each size is measured in a process of its own, so that peak memory is its own.
"""

import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from statistics import median

import numpy as np

from kflab.control.facts import Fact, What
from kflab.control.plane import ControlPlane
from kflab.control.waves import Roll, Wave
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.walk import FanOut
from kflab.draws import Draws
from kflab.lab.rulebook import RuleBook
from kflab.lab.signals import LabSignals
from kflab.manifest.loader import load
from kflab.manifest.objects import Key, KubeObject, LabelSelector, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service, ServicePort
from kflab.manifest.objects_pods import Container, ContainerPort, Pod, PodSpec, PodTemplate
from kflab.manifest.objects_workloads import Deployment
from kflab.manifest.sources import SourceText
from kflab.manifest.write import to_yaml
from kflab.records import dataclass

PODS_PER_NODE = 30
PODS_PER_SERVICE = 15
SIZES = (10, 100, 1000, 5000)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one size cost. Times in seconds of CPU, which other programs disturb less; memory in MiB."""

    nodes: int
    pods: int
    services: int
    source: str
    """objects or yaml."""
    load_s: float
    """Reading (for yaml) and settling the control plane."""
    compile_s: float
    """All Services compiled and every node's rules made."""
    kill_s: float
    """One pod's container exits: until the last node's rules are effective, computing time. Median of `KILLS`."""
    kill_simulated_s: float
    """The same in simulated time."""
    lose_s: float
    """A node loses power: until no other node's rules lead to any of its pods, computing time."""
    lose_simulated_s: float
    lose_services: int
    """Services that had a pod there."""
    peak_mib: float


def objects(nodes: int) -> list[KubeObject]:
    """A generated cluster: nodes with 30 pods each, a Deployment and a Service per 15 pods."""
    made: list[KubeObject] = []
    for i in range(nodes):
        cidr = f"10.{i // 256}.{i % 256}.0/24"
        made.append(Node(Meta(f"node-{i:04d}"), pod_cidrs=(cidr,), internal_ips=(f"172.16.{i // 250}.{i % 250 + 1}",)))
    for i in range(nodes * PODS_PER_NODE // PODS_PER_SERVICE):
        labels = {"app": f"app-{i:05d}"}
        spec = PodSpec((Container("c", "app:1", (ContainerPort(8080),)),))
        name = f"app-{i:05d}"
        made.append(
            Deployment(Meta(name, "default"), replicas=PODS_PER_SERVICE, selector=LabelSelector(labels),
                       template=PodTemplate(labels, spec=spec))
        )  # fmt: skip
        made.append(Service(Meta(name, "default"), ports=(ServicePort(80, target=8080),), selector=labels))
    return made


def measure(nodes: int, source: str) -> Cluster:
    """Measure one size in this process."""
    given = objects(nodes)
    text = "---\n".join(to_yaml(obj) for obj in given) if source == "yaml" else ""
    if source == "yaml":
        given = []
    start = time.process_time()
    if source == "yaml":
        loaded = load([SourceText("cluster.yaml", text)])
        loaded.raise_errors()
        given = list(loaded.objects)
    plane, book = _plane(given)
    gc.freeze()  # as the lab's thread does: what a cluster is made of is no garbage to look through
    load_s = time.process_time() - start
    start = time.process_time()
    table = book.table(plane.store.revision)
    first = next(iter(table))
    service = plane.store.get(first)
    assert isinstance(service, Service)
    node = plane.store.keys("Node")[0].name
    found = book.fan(node, plane.store.revision, Packet("192.0.2.1", 1, service.cluster_ip, 80))
    assert found.endpoints
    for key in plane.store.keys("Node"):  # every node has rules before anything dies
        book.rule_set(key.name, plane.store.revision)
    compile_s = time.process_time() - start
    kill_s, simulated_s = _kill(plane, book)
    lost = _lose(plane, book)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cluster(
        nodes, plane.store.count("Pod"), len(table), source, load_s, compile_s, kill_s, simulated_s, *lost, peak,
    )  # fmt: skip


def _plane(given: list[KubeObject]) -> tuple[ControlPlane, RuleBook]:
    from kflab.cluster.store import Store

    store = Store()
    book = RuleBook(store, ProxyConfig())
    signals = LabSignals(store, book)
    plane = ControlPlane(store, Draws(7), signals=signals)
    signals.plane = plane
    plane.load(given)
    plane.settle()
    book.reset()
    return plane, book


CALLING = 10
"""Nodes with callers: what a packet there may come to is read anew with every revision of their rules. Elsewhere rules
are made when a packet enters, as in a lab."""

FAR = 10**18
"""Later than anything here, ns."""


KILLS = 5
"""One kill is over in milliseconds, in which other programs are heard: the median of so many is told."""

BETWEEN_NS = 30 * 10**9
"""From one kill to the next: the container has restarted by then, and everybody knows."""


def _kill(plane: ControlPlane, book: RuleBook) -> tuple[float, float]:
    """Crash one pod; returns the computing until every node's rules know of it, and the same in simulated time, s.

    Medians of `KILLS` pods of as many Services.
    """
    pods: dict[str, Pod] = {}
    for obj in plane.store.of_kind("Pod"):
        if isinstance(obj, Pod) and obj.meta.namespace == "default":
            pods.setdefault(obj.meta.labels["app"], obj)
        if len(pods) == KILLS:
            break
    found = []
    for app, pod in pods.items():
        crash = partial(plane.crash, pod.key)
        found.append(_until_known(plane, book, crash, [Key("Service", "default", app)], [pod.key]))
        plane.run_until(plane.now_ns + BETWEEN_NS)
    computing, simulated = zip(*found, strict=True)
    return median(computing), median(simulated)


def _lose(plane: ControlPlane, book: RuleBook) -> tuple[float, float, int]:
    """Cut a node's power; returns as `_kill`, and how many Services had a pod there.

    Its lease has to grow old, then the node controller writes all its pods not ready, and each Service's slice changes.
    """
    pods: dict[str, list[Pod]] = {}
    for obj in plane.store.of_kind("Pod"):
        if isinstance(obj, Pod) and obj.meta.namespace == "default" and obj.status.ready:
            pods.setdefault(obj.spec.node_name, []).append(obj)
    apps = {node: {pod.meta.labels["app"] for pod in there} for node, there in pods.items()}
    calling = {key.name for key in plane.store.keys("Node")[:CALLING]}
    node = max((name for name in pods if name not in calling), key=lambda name: len(apps[name]), default="")
    if not node:  # everybody calls
        node = max(pods, key=lambda name: len(apps[name]))
    services = [Key("Service", "default", app) for app in sorted(apps[node])]
    off = partial(plane.machines.power_off, node)
    found = _until_known(plane, book, off, services, [pod.key for pod in pods[node]], but=node)
    return *found, len(services)


def _until_known(
    plane: ControlPlane, book: RuleBook, act: Callable[[], object], services: list[Key], pods: list[Key], but: str = ""
) -> tuple[float, float]:  # fmt: skip
    """Do something; run until the rules of every node `but` one lead to none of the pods; read those of calling nodes.

    Returns:
        CPU time and simulated time of it, s.
    """
    nodes = [key.name for key in plane.store.keys("Node") if key.name != but]
    awaited = _Awaited({f"kube-proxy/{node}" for node in nodes}, plane.proxies.crowd.roll)
    calling = {f"kube-proxy/{node}": node for node in nodes[:CALLING]}
    packets = []
    for key in services:
        service = plane.store.get(key)
        assert isinstance(service, Service)
        packets.append(Packet("192.0.2.1", 1, service.cluster_ip, 80))
    gone, left = frozenset(pods), dict.fromkeys(services, True)
    target = 0
    fans: dict[str, list[FanOut]] = {}
    began, start = plane.now_ns, time.process_time()
    act()
    while awaited:
        for entry in plane.stride(FAR):
            if entry.what is What.RULES_SYNCED:
                synced = entry.of(calling) if isinstance(entry, Wave) else [entry]
                for fact in synced:
                    if fact.by in calling and fact.by in awaited:
                        fans[fact.by] = [book.fan(calling[fact.by], fact.revision, packet) for packet in packets]
                    if target:
                        awaited.heard(fact, target)
                if target and isinstance(entry, Wave):
                    awaited.heard(entry, target)
            elif isinstance(entry, Fact) and entry.what is What.ENDPOINTS_WRITTEN and any(left.values()):
                piece = plane.store.get(entry.subject)
                if isinstance(piece, EndpointSlice) and piece.service in left:
                    left[piece.service] = any(e.ready and e.target in gone for e in piece.endpoints)
                    target = entry.revision if not any(left.values()) else 0
    computing, simulated = time.process_time() - start, (plane.now_ns - began) / 1e9
    assert len(fans) == len(calling)
    assert all(endpoint.target not in gone for found in fans.values() for fan in found for endpoint in fan.endpoints)
    return computing, simulated


class _Awaited:
    """Whose rules still lack a change. Asking and telling costs little beside what is measured."""

    def __init__(self, names: set[str], roll: Roll) -> None:
        self._row_of = roll.row_of
        self._rows = np.array([name in names for name in roll.names], dtype=np.bool_)
        """[row of the roll] -> lacks it."""
        self._names = names.difference(roll.row_of)
        """Further ones."""

    def __bool__(self) -> bool:
        return bool(self._names) or bool(self._rows.any())

    def __contains__(self, name: str) -> bool:
        row = self._row_of.get(name)
        return name in self._names if row is None else bool(self._rows[row])

    def heard(self, entry: Fact | Wave, target: int) -> None:
        """Take off those whose rules are made from revision `target` or a later one now."""
        if isinstance(entry, Wave):
            have = entry.row[entry.revision >= target]
            known = have < len(self._rows)  # others joined later: they are known by name
            self._rows[have[known]] = False
            self._names.difference_update(entry.roll.names[row] for row in have[~known])
        elif entry.revision >= target:
            self._names.discard(entry.by)
            if entry.by in self._row_of:
                self._rows[self._row_of[entry.by]] = False


def run(sizes: tuple[int, ...] = SIZES, sources: tuple[str, ...] = ("objects", "yaml")) -> list[Cluster]:
    """Measure all sizes, each in a process of its own."""
    found = []
    for nodes in sizes:
        for source in sources:
            command = [sys.executable, "-m", "kflab.bench.clusters", str(nodes), source]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(Cluster(**json.loads(done.stdout)))
    return found


if __name__ == "__main__":
    print(json.dumps(asdict(measure(int(sys.argv[1]), sys.argv[2]))))
