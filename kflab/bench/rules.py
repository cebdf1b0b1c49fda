"""Bench (h): one node's rules among 10,000 Services of 10 endpoints each and 5,000 nodes, in each mode of kube-proxy.

Each mode is measured in a process of its own. Times are of the process's CPU (one thread): on a machine that others use
too, wall-clock time measures them.
"""

import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter, process_time

from kflab import exits
from kflab.cluster.store import Store
from kflab.dataplane.iptables import RuleSet, Scan
from kflab.dataplane.ipvs import IpvsScan
from kflab.dataplane.ipvs_walk import ipvs_walk
from kflab.dataplane.modes import MODES, ModeRules, walk_in
from kflab.dataplane.nftables import NftRuleSet, NftScan
from kflab.dataplane.nftables_walk import nft_walk
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.walk import Walk, walk
from kflab.lab.rulebook import RuleBook
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort
from kflab.records import dataclass

SERVICES, ENDPOINTS, NODES = 10_000, 10, 5_000
QUICK_SERVICES, QUICK_NODES = 1_000, 500

CHANGES, WALKS, NAIVE_WALKS = 600, 1_000, 12
"""More changes than a table keeps in its overlay (512), so that merging it is among them."""

NODE_PORT_EVERY = 20
"""Every twentieth Service has a NodePort under Local policy."""

VECTORS = Path("..") / "shared" / "conformance"
"""Where the vector files are, from the repository's root."""


@dataclass(frozen=True, slots=True)
class NodeRules:
    """What one mode cost. Seconds and milliseconds are of CPU."""

    mode: str
    services: int
    endpoints: int
    nodes: int
    compile_s: float
    """Objects → tables, shared by all nodes and modes."""
    write_s: float
    """The node's whole text, once more everything."""
    text_mb: float
    lines: int
    change_p50_ms: float
    """A pod becomes unready: Service compiled, node's rules made anew, its whole text written again (in pieces)."""
    change_max_ms: float
    nodes_us: float
    """Per node: rule set made, one packet walked."""
    walk_p50_ms: float
    """One packet: verdict, rules taken, chance, pod. Most Services are asked about for the first time."""
    walk_p99_ms: float
    explained_p50_ms: float
    """The same with every alternative and its exact chance, as a trace shows them."""
    explained_p99_ms: float
    naive_p50_ms: float
    """A walk that reads every rule of every chain it comes to, without index."""
    peak_mib: float
    """Of this process, before the naive walker lists every rule."""


def objects(services: int, nodes: int) -> Iterator[KubeObject]:
    """Nodes, Services, and a slice of 10 endpoints per Service, spread over the nodes."""
    for n in range(nodes):
        meta = Meta(f"node-{n:04d}")
        yield Node(meta, pod_cidrs=(f"10.{n // 256}.{n % 256}.0/24",), internal_ips=(_node_ip(n),))
    for i in range(services):
        name = f"app-{i:05d}"
        exposed = i % NODE_PORT_EVERY == 0
        yield Service(
            Meta(name, "default"),
            type="NodePort" if exposed else "ClusterIP",
            ports=(ServicePort(80, "", "TCP", 8080, 30_000 + i // NODE_PORT_EVERY if exposed else 0),),
            cluster_ips=(_cluster_ip(i),),
            external_traffic_policy="Local" if exposed else "Cluster",
        )
        endpoints = []
        for j in range(i * ENDPOINTS, (i + 1) * ENDPOINTS):
            at, pod = j % nodes, j // nodes
            address = f"10.{at // 256}.{at % 256}.{pod + 2}"
            target = Key("Pod", "default", f"{name}-{j}")
            endpoints.append(Endpoint((address,), True, True, False, node_name=f"node-{at:04d}", target=target))
        meta = Meta(f"{name}-x", "default", labels={"kubernetes.io/service-name": name})
        yield EndpointSlice(meta, endpoints=tuple(endpoints), ports=(EndpointPort(8080),))


def _node_ip(n: int) -> str:
    return f"172.16.{n // 250}.{n % 250 + 1}"


def _cluster_ip(i: int) -> str:
    return f"10.96.{i // 250}.{i % 250 + 1}"


def measure(mode: str, services: int, nodes: int) -> NodeRules:
    """Measure one mode in this process."""
    store = Store()
    for obj in objects(services, nodes):
        store.put(obj, 0, "bench")
    book = RuleBook(store, ProxyConfig(mode=mode, cluster_cidrs=("10.0.0.0/11",)))
    start = process_time()
    book.table(store.revision)
    compile_s = process_time() - start
    start = process_time()
    blocks = book.text("node-0000", store.revision)
    write_s = process_time() - start
    gc.freeze()  # as the lab's thread does: what a cluster is made of is no garbage to look through
    changes = _changes(store, book, services)
    start = process_time()
    for n in range(nodes):
        rules = book.rule_set(f"node-{n:04d}", store.revision)
        assert walk_in(rules, _packet(8 * n, services), 1 << 31, explain=False).verdict is Verdict.DNAT
    nodes_us = (process_time() - start) / nodes * 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    walks, explained, naive = _walks(book.rule_set("node-0000", store.revision), services)
    return NodeRules(
        mode, services, services * ENDPOINTS, nodes, compile_s, write_s,
        sum(map(len, blocks)) / 1e6, sum(block.count("\n") for block in blocks),
        changes[len(changes) // 2], changes[-1], nodes_us,
        *_median_and_p99(walks), *_median_and_p99(explained), naive[len(naive) // 2], peak,
    )  # fmt: skip


def _changes(store: Store, book: RuleBook, services: int) -> list[float]:
    """Milliseconds of each change, ascending: one endpoint after the other becomes unready."""
    spent = []
    for n in range(CHANGES):
        piece = store.get(Key("EndpointSlice", "default", f"app-{n * 7919 % services:05d}-x"))
        assert isinstance(piece, EndpointSlice)
        i = n % ENDPOINTS
        gone = replace(piece.endpoints[i], ready=False, serving=False)
        changed = replace(piece, endpoints=(*piece.endpoints[:i], gone, *piece.endpoints[i + 1 :]))
        start = process_time()
        store.put(changed, n, "bench")
        blocks = book.text("node-0000", store.revision)
        spent.append((process_time() - start) * 1e3)
        if n % 200 == 199:
            assert "".join(blocks) == book.rule_set("node-0000", store.revision).save_text()
    return sorted(spent)


def _packet(n: int, services: int) -> Packet:
    """A pod's call of some Service; every eighth comes from outside, to a NodePort of the node measured."""
    if n % 8 == 7:
        exposed = n * 104_729 % services // NODE_PORT_EVERY
        return Packet("192.0.2.9", 40_000, _node_ip(0), 30_000 + exposed)
    return Packet(f"10.{n % 8}.1.9", 40_000, _cluster_ip(n * 104_729 % services), 80)


def _median_and_p99(ascending: list[float]) -> tuple[float, float]:
    return ascending[len(ascending) // 2], ascending[len(ascending) * 99 // 100]


def _walks(rules: ModeRules, services: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of each walk (plain, explained, naive), ascending. The naive ones must answer as the indexed do."""
    sent = [(_packet(n, services), n * 2_654_435_761 % (1 << 32)) for n in range(WALKS)]
    plain, answers = _timed(lambda packet, draw: walk_in(rules, packet, draw, explain=False), sent)
    explained, told = _timed(lambda packet, draw: walk_in(rules, packet, draw), sent)
    assert [_told(one) for one in told] == [_told(one) for one in answers]
    some = slice(None, None, WALKS // NAIVE_WALKS)
    naive, slow = _timed(_naive(rules), sent[some])
    assert [_told(one) for one in slow] == [_told(one) for one in answers[some]], "the naive walker answers otherwise"
    return plain, explained, naive


def _timed(one_walk: Callable[[Packet, int], Walk], sent: list[tuple[Packet, int]]) -> tuple[list[float], list[Walk]]:
    """Milliseconds of each walk, ascending, and the answers."""
    spent, answers = [], []
    for packet, draw in sent:
        start = process_time()
        answers.append(one_walk(packet, draw))
        spent.append((process_time() - start) * 1e3)
    return sorted(spent), answers


def _told(found: Walk) -> tuple[object, ...]:
    return found.verdict, found.packet, found.masquerade, found.chance, found.rules


def _naive(rules: ModeRules) -> Callable[[Packet, int], Walk]:
    """A walker through the same rules as whole lists, read from end to end as the kernel reads a chain."""
    if isinstance(rules, RuleSet):
        chains = Scan(rules)
        return lambda packet, draw: walk(chains, packet, draw, explain=False)
    if isinstance(rules, NftRuleSet):
        table = NftScan(rules.table(), rules)
        return lambda packet, draw: nft_walk(table, packet, draw, explain=False)
    everything = IpvsScan(rules)
    return lambda packet, draw: ipvs_walk(everything, packet, draw, explain=False)


def run(mode: str, *, quick: bool = False) -> NodeRules:
    """Measure a mode in a process of its own."""
    size = (QUICK_SERVICES, QUICK_NODES) if quick else (SERVICES, NODES)
    command = [sys.executable, "-m", "kflab.bench.rules", mode, *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return NodeRules(**json.loads(done.stdout))


@dataclass(frozen=True, slots=True)
class Conformed:
    """Running every vector file in every mode."""

    seconds: float
    """Wall-clock: process starts, and one more run of each file to learn its kind, included."""
    files: int
    left_out: int
    """Files of vectors that kflab has no runner for."""
    failed: int
    """Runs that did not pass."""


def conform(folder: Path = VECTORS) -> Conformed | None:
    """Run `kflab conform` on every vector file below a folder in every mode; None where it holds none."""
    files = sorted(str(path) for path in folder.glob("*/*.json"))
    start = perf_counter()
    known = [path for path in files if _conformed([path], MODES[0]) != exits.USAGE]
    if not known:
        return None
    failed = sum(_conformed(known, mode) != exits.OK for mode in MODES)
    return Conformed(perf_counter() - start, len(known), len(files) - len(known), failed)


def _conformed(files: list[str], mode: str) -> int:
    """The exit status of `kflab conform`; 2 where a file is of a kind that it does not run."""
    command = [sys.executable, "-m", "kflab", "conform", "--mode", mode, *files]
    return subprocess.run(command, capture_output=True, check=False).returncode


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
