"""Bench (e): generated clusters of 10 to 5,000 nodes: load, compile, and what one pod kill costs to compute.

Each size is measured in a process of its own, so that peak memory is its own.
"""

import gc
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from kflab.control.facts import What
from kflab.control.plane import ControlPlane
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.walk import FanOut
from kflab.draws import Draws
from kflab.lab.rulebook import RuleBook
from kflab.lab.signals import LabSignals
from kflab.manifest.loader import load
from kflab.manifest.objects import (
    Container,
    ContainerPort,
    Deployment,
    Key,
    KubeObject,
    LabelSelector,
    Meta,
    Node,
    Pod,
    PodSpec,
    PodTemplate,
    Service,
    ServicePort,
)
from kflab.manifest.sources import SourceText
from kflab.manifest.write import to_yaml

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
    """One pod's container exits: until the last node's rules are effective, computing time."""
    kill_simulated_s: float
    """The same in simulated time."""
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cluster(
        nodes, plane.store.count("Pod"), len(table), source, load_s, compile_s, kill_s, simulated_s, peak,
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


def _kill(plane: ControlPlane, book: RuleBook) -> tuple[float, float]:
    """Crash one pod; every node's rules are compiled as it learns, and its fan for the pod's Service is read."""
    pod = next(obj for obj in plane.store.of_kind("Pod") if isinstance(obj, Pod) and obj.meta.namespace == "default")
    name = pod.meta.labels["app"]
    service = plane.store.get(Key("Service", "default", name))
    assert isinstance(service, Service)
    packet = Packet("192.0.2.1", 1, service.cluster_ip, 80)
    waiting = {key.name for key in plane.store.keys("Node")}
    learned: list[FanOut] = []
    began = plane.now_ns
    before = plane.store.revision
    start = time.process_time()
    plane.crash(pod.key)
    while waiting:
        for fact in plane.step():
            if (
                fact.what is What.RULES_SYNCED
                and fact.subject.name.startswith("kube-proxy/")
                and fact.revision > before
            ):
                node = fact.subject.name.partition("/")[2]
                if node not in waiting:
                    continue
                waiting.discard(node)
                learned.append(book.fan(node, fact.revision, packet))
    spent_s = time.process_time() - start
    assert all(endpoint.target != pod.key for fan in learned for endpoint in fan.endpoints)
    return spent_s, (plane.now_ns - began) / 1e9


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
