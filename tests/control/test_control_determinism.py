"""Same seed, same story: however far one advances at once, and in a copy too."""

import pytest
from control_clusters import PRODUCT, S, cluster, deployment, pods, service

from kflab.control.facts import Fact


def story(step_ns: int | None, seed: int = 3) -> list[Fact]:
    """Crash, delete and scale, advancing event by event (None) or by fixed steps."""
    plane = cluster(deployment(4), service(type="LoadBalancer", external_traffic_policy="Local"), seed=seed)
    names = [p.key for p in pods(plane)]
    for t_ns, act in (
        (2 * S, lambda: plane.crash(names[0])),
        (2 * S + 1, lambda: plane.delete_pod(names[1])),
        (4 * S, lambda: plane.scale(PRODUCT, 7)),
        (9 * S, lambda: plane.stop("kube-proxy/node-1")),
        (11 * S, lambda: plane.start("kube-proxy/node-1")),
    ):
        go(plane, t_ns, step_ns)
        act()
    go(plane, 60 * S, step_ns)
    return list(plane.facts)


def go(plane, t_ns, step_ns):
    if step_ns is None:
        while (due := plane.next_ns()) is not None and due <= t_ns:
            plane.step()
        plane.advance_clock(t_ns)
        return
    while plane.now_ns < t_ns:
        plane.run_until(min(t_ns, plane.now_ns + step_ns))


@pytest.mark.parametrize("step_ns", [7_000_001, 100_000_000, 3 * S])
def test_the_story_does_not_depend_on_how_far_one_advances(step_ns):
    assert story(step_ns) == story(None)


def test_another_seed_tells_another_story():
    assert story(None, 3) != story(None, 4)


def test_a_copy_goes_its_own_way():
    plane = cluster()
    victim = pods(plane)[0].key
    plane.crash(victim)
    plane.run_until(int(0.9 * S))
    twin = plane.copy()
    before = len(plane.facts)
    ahead = twin.run_until(30 * S)
    assert ahead
    assert len(plane.facts) == before
    assert plane.now_ns == int(0.9 * S)
    assert plane.run_until(30 * S) == ahead
    twin.delete_pod(victim)
    twin.run_until(60 * S)
    assert plane.store.get(victim) is not None
    assert twin.store.get(victim) is None
    assert plane.store.revision < twin.store.revision


def test_a_copy_keeps_what_is_shared_shared():
    plane = cluster()
    twin = plane.copy()
    assert twin.core is twin.kubelet.core is twin.slices.core
    assert twin.core is not plane.core
    assert twin.observers["kube-proxy/node-1"] is twin.proxies.proxies["node-1"].observer
    assert twin.observers["kube-proxy/node-1"] is not plane.observers["kube-proxy/node-1"]


def test_an_unrelated_workload_does_not_change_the_names_of_pods():
    alone = {p.meta.name for p in pods(cluster(), app="product")}
    beside = {p.meta.name for p in pods(cluster(deployment(5, name="other"), deployment(), service()), app="product")}
    assert alone == beside
