"""5,000 nodes × 10,000 Services: memory is O(objects + observers + live revisions), never observers × Services."""

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kflab.bench.rules import objects
from kflab.cluster.store import Store
from kflab.control.facts import What
from kflab.control.plane import ControlPlane
from kflab.dataplane.modes import MODES, fan_in
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.draws import Draws
from kflab.lab.rulebook import KEPT_SETS, RuleBook
from kflab.lab.signals import LabSignals
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice, Service

SERVICES, NODES = 10_000, 5_000


@pytest.fixture(scope="module")
def plane() -> ControlPlane:
    """A settled control plane with a kube-proxy on every node."""
    store = Store()
    book = RuleBook(store, ProxyConfig(cluster_cidrs=("10.0.0.0/11",)))
    signals = LabSignals(store, book)
    made = signals.plane = ControlPlane(store, Draws(7), signals=signals)
    made.load(list(objects(SERVICES, NODES)))
    made.settle()
    return made


def slice_of(store: Store, n: int) -> EndpointSlice:
    piece = store.get(Key("EndpointSlice", "default", f"app-{n:05d}-x"))
    assert isinstance(piece, EndpointSlice)
    return piece


def without_one(piece: EndpointSlice) -> EndpointSlice:
    return replace(piece, endpoints=piece.endpoints[1:])


def call(store: Store, n: int) -> Packet:
    service = store.get(Key("Service", "default", f"app-{n:05d}"))
    assert isinstance(service, Service)
    return Packet("10.1.1.9", 40_000, service.cluster_ip, 80)


def grown(before: int) -> int:
    """Bytes since `before` that are still held."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


@pytest.fixture
def traced() -> Iterator[int]:
    """Bytes held at the start of a test, from where they are traced."""
    gc.collect()
    tracemalloc.start()
    yield tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


@pytest.mark.parametrize("mode", MODES)
def test_a_node_costs_what_it_was_asked_for_and_no_service(plane: ControlPlane, mode: str) -> None:
    store = plane.store
    book = RuleBook(store, ProxyConfig(mode=mode, cluster_cidrs=("10.0.0.0/11",)))
    table = book.table(store.revision)
    assert (len(table), table.n_endpoints) == (SERVICES, 10 * SERVICES)
    packet = call(store, 4711)
    nodes = [key.name for key in store.keys("Node")]
    assert len(nodes) == NODES
    book.fan(nodes[0], store.revision, packet)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    held = [book.rule_set(node, store.revision) for node in nodes]
    fans = [fan_in(rules, packet) for rules in held[::50]]  # slow under tracemalloc
    per_node = grown(before) / NODES
    tracemalloc.stop()
    assert all(rules.services is table for rules in held), "one table for all nodes"
    assert len(book._sets) <= KEPT_SETS
    assert all(found.verdict is Verdict.DNAT and len(found.endpoints) == 10 for found in fans)
    # Measured with fans of every fiftieth node; a pointer to each Service alone would be 80 KB a node.
    assert per_node < 4_000


def test_a_kube_proxy_is_two_integers_and_a_change_costs_each_of_them_little(plane: ControlPlane, traced: int) -> None:
    store, before = plane.store, len(plane.facts)
    proxies = [observer for observer in plane.observers.values() if observer.kind == "kube-proxy"]
    assert len(proxies) == NODES
    change = plane.core.put(without_one(slice_of(store, 17)), "test")
    assert change is not None
    waiting = {observer.name for observer in proxies}
    while waiting:
        for fact in plane.step():
            if fact.what is What.RULES_SYNCED and fact.revision >= change.revision:
                waiting.discard(fact.subject.name)
    assert len(plane.facts) >= before + NODES
    assert all(observer.revision >= change.revision for observer in proxies)
    assert all(len(observer.versions) == 2 for observer in proxies)
    # A fact in words, and a pair (time, revision): no part of it grows with the Services.
    assert grown(traced) / NODES < 2_000


def test_a_live_revision_costs_what_it_changed_and_a_forgotten_one_nothing(plane: ControlPlane) -> None:
    store = plane.store
    book = RuleBook(store, ProxyConfig())
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    first = book.table(store.revision)
    whole = grown(before)
    assert whole > 20_000_000
    n = 200
    before += whole
    tables = []
    for i in range(n):
        store.put(without_one(slice_of(store, 100 + i)), plane.now_ns, "test")
        tables.append(book.table(store.revision))
    live = grown(before)
    unchanged = Key("Service", "default", "app-09999")
    assert all(table[unchanged] is first[unchanged] for table in tables)
    assert len(book._tables) == n + 1
    # Every revision keeps its changed Service and an overlay of at most 512 entries.
    assert live / n < whole / 300
    del tables, first
    book.forget_before(store.revision)
    assert len(book._tables) == 1
    forgotten = grown(before)
    tracemalloc.stop()
    assert forgotten < live / 2
