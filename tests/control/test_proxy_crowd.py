"""Kube-proxies followed together do what each would do followed by itself: the same facts at the same instants."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kflab.cluster.store import Store
from kflab.control import proxysync
from kflab.control.delays import Delays
from kflab.control.facts import Fact
from kflab.control.plane import ControlPlane
from kflab.draws import Draws
from kflab.errors import KflabError
from kflab.manifest.objects import Key, KubeObject, LabelSelector, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service, ServicePort
from kflab.manifest.objects_pods import Container, ContainerPort, Pod, PodSpec, PodTemplate
from kflab.manifest.objects_workloads import Deployment

S = 1_000_000_000

NODES = 6

ALONE, TOGETHER = 10**9, 1


def objects(balanced: bool) -> list[KubeObject]:
    made: list[KubeObject] = [Node(Meta(f"n{i}"), internal_ips=(f"172.16.0.{i + 1}",)) for i in range(NODES)]
    for name in ("web", "api"):
        labels = {"app": name}
        template = PodTemplate(labels, spec=PodSpec((Container("c", f"{name}:1", (ContainerPort(8080),)),)))
        made.append(Deployment(Meta(name, "default"), replicas=3, selector=LabelSelector(labels), template=template))
        service = Service(Meta(name, "default"), ports=(ServicePort(80, target=8080),), selector=labels)
        if balanced and name == "web":
            service = replace(service, type="LoadBalancer", external_traffic_policy="Local")
        made.append(service)
    return made


def act(plane: ControlPlane, what: str, n: int) -> None:
    node = f"n{n % NODES}"
    pods = [obj for obj in plane.store.of_kind("Pod") if isinstance(obj, Pod) and not obj.terminating]
    proxy = f"kube-proxy/{node}"
    stopped = plane.components
    match what:
        case "delete" if pods:
            plane.delete_pod(pods[n % len(pods)].key)
        case "crash" if pods:
            plane.crash(pods[n % len(pods)].key)
        case "scale":
            plane.scale(Key("Deployment", "default", "web"), 1 + n % 5)
        case "proxy" if stopped.get(proxy) is None:
            plane.stop(proxy)
        case "proxy":
            plane.start(proxy)
        case "api" if stopped["apiserver"] is None:
            plane.stop("apiserver")
        case "api":
            plane.start("apiserver")
        case "slow":
            plane.slow(proxy, n % 3 * S)
        case "power" if node not in plane.core.machines:
            plane.machines.power_off(node)


def story(
    steps: list[tuple[str, int, int]], crowd: int, delays: Delays, balanced: bool, ahead: bool, copied: bool = False
) -> tuple[list[Fact], list[object]]:
    """All facts of a run, and what every observer knew since when."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxysync, "CROWD", crowd)
        plane = ControlPlane(Store(), Draws(3), delays)
        plane.load(objects(balanced))
        plane.settle()
        now, facts = 0, list[Fact]()
        for what, n, wait_ms in steps:
            with suppress(KflabError):  # the API server may be away
                act(plane, what, n)
            facts += plane.facts[len(facts) :]
            now += wait_ms * 1_000_000
            if ahead:
                facts += plane.run_until(now)
            else:
                while (due := plane.next_ns()) is not None and due <= now:
                    facts += plane.step()
                plane.advance_clock(now)
            if copied:
                plane, spent = plane.copy(), plane
                spent.run_until(now + S)  # what a copy's original does is nothing to the copy
        assert facts == list(plane.facts)
        return facts, [(o.name, o.running, o.versions, o.configs) for o in plane.observers.values()]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "crash", "scale", "scale", "proxy", "api", "slow", "power", "wait"]),
        st.integers(0, 30),
        st.sampled_from([1, 40, 300, 1100, 6000]),
    ),
    min_size=1,
    max_size=9,
)

SAME_INSTANT = Delays().with_overrides({"proxy_watch_s": 0.02, "proxy_sync_s": 0.05, "proxy_sync_large_s": 0.05})
"""All nodes sync at one instant: only the order of nodes and changes decides."""


@settings(max_examples=60, deadline=None)
@given(STEPS, st.booleans(), st.booleans())
def test_together_as_alone(steps: list[tuple[str, int, int]], balanced: bool, same_instant: bool) -> None:
    delays = SAME_INSTANT if same_instant else Delays()
    alone = story(steps, ALONE, delays, balanced, ahead=False)
    assert story(steps, TOGETHER, delays, balanced, ahead=True) == alone
    assert story(steps, TOGETHER, delays, balanced, ahead=False) == alone


def test_the_others_sync_though_the_next_one_lost_power() -> None:
    steps = [("delete", 0, 1), ("delete", 0, 1100), ("power", 0, 1), ("api", 0, 300)]
    alone = story(steps, ALONE, Delays(), False, ahead=False)
    assert story(steps, TOGETHER, Delays(), False, ahead=True) == alone


def test_a_copy_goes_its_own_way() -> None:
    steps = [("delete", 1, 40), ("scale", 4, 40), ("proxy", 2, 300), ("delete", 0, 1100), ("proxy", 2, 6000)]
    alone = story(steps, ALONE, Delays(), False, ahead=False)
    assert story(steps, TOGETHER, Delays(), False, ahead=True, copied=True) == alone


def in_force(steps: list[tuple[str, int, int]], crowd: int, forgets: bool) -> list[object]:
    """After each step: what every observer acted on throughout the two seconds before."""
    told: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxysync, "CROWD", crowd)
        plane = ControlPlane(Store(), Draws(3))
        plane.load(objects(False))
        plane.settle()
        for what, n, wait_ms in steps:
            with suppress(KflabError):
                act(plane, what, n)
            now = plane.now_ns + wait_ms * 1_000_000
            plane.run_until(now)
            if forgets:
                plane.forget_before(now - 2 * S)
            for o in plane.observers.values():
                told.append([o.name, o.revision, o.since_ns, o.versions[-1:]])
                told.append([o.at(t_ns) for t_ns in range(now - 2 * S, now + 1, 50_000_000)])
        if forgets:
            plane.run_until(plane.now_ns + 60 * S)
            plane.forget_before(plane.now_ns)
            assert all(len(o.versions) <= 2 for o in plane.observers.values())
    return told


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_what_was_in_force_is_known_though_the_past_is_forgotten(steps: list[tuple[str, int, int]]) -> None:
    assert in_force(steps, TOGETHER, forgets=True) == in_force(steps, ALONE, forgets=False)
