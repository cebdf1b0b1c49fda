"""Verbs on nodes: power, links, the machine itself, and what kubectl does to them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kflab.control.delays import SECOND_NS
from kflab.control.facts import Fact
from kflab.control.noderuntimes import RUNTIME_HANGS
from kflab.control.verb import Options, Verb
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane

SHUTDOWN_GRACE_NS, SHUTDOWN_CRITICAL_NS = 30 * SECOND_NS, 10 * SECOND_NS
"""shutdownGracePeriod and shutdownGracePeriodCriticalPods of the documentation's example; kubelet's default is 0, off
(kubernetes.io/docs/concepts/cluster-administration/node-shutdown)."""


def _facts(plane: "ControlPlane", act: Callable[[], None]) -> Sequence[Fact]:
    before = len(plane.core.facts)
    act()
    return plane.core.told_since(before)


def _power_off(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    def act() -> None:
        plane.machines.power_off(key.name)
        plane.shutdowns.forget(key.name)

    return _facts(plane, act)


def _power_on(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.power_on(key.name))


def _delete_vm(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    def act() -> None:
        plane.machines.delete_vm(key.name)
        plane.shutdowns.forget(key.name)

    return _facts(plane, act)


def _partition(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.partition(key.name, str(options.get("link", "network"))))


def _partition_control(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.partition(key.name, "control"))


def _heal(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.heal(key.name))


def _cordon(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.drains.cordon(key.name, True))


def _uncordon(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.drains.cordon(key.name, False))


def _drain(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    grace = options.get("gracePeriod")
    grace_s = None if grace is None else int(grace) // SECOND_NS
    force, ignore = bool(options.get("force")), bool(options.get("ignoreDaemonsets"))
    return _facts(plane, lambda: plane.drains.drain(key.name, grace_s, force=force, ignore_daemonsets=ignore))


def _shutdown(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    grace = int(options.get("gracePeriod", SHUTDOWN_GRACE_NS))
    critical = int(options.get("criticalGracePeriod", min(grace, SHUTDOWN_CRITICAL_NS)))
    return _facts(plane, lambda: plane.shutdowns.begin(key.name, grace, critical))


def _out_of_service(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.node_life.set_out_of_service(key.name, True))


def _in_service(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.node_life.set_out_of_service(key.name, False))


def _hang_runtime(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    length, listing = options.get("for"), bool(options.get("listingOnly"))
    for_ns = None if length is None else int(length)
    return _facts(plane, lambda: plane.runtimes.hang(key.name, for_ns, listing_only=listing))


def _resume_runtime(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.runtimes.answer(key.name))


def _remove(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    delay = options.get("delay")
    return _facts(plane, lambda: plane.scale_down.remove(key.name, None if delay is None else int(delay)))


NODE_VERBS = (
    Verb(
        "powerOff",
        "node",
        "power off",
        "no packet in or out, nobody is told",
        "{name} lost power",
        _power_off,
        letter="o",
        unless="powered off",
    ),
    Verb(
        "powerOn",
        "node",
        "power on",
        "it boots, its pods start anew",
        "{name} got power again",
        _power_on,
        letter="o",
        when="powered off",
    ),
    Verb(
        "partition",
        "node",
        "cut off from the network",
        "pods run on, no packet in or out",
        "{name} was cut off",
        _partition,
        letter="n",
        options={"link": "text"},
        unless="partitioned",
    ),
    Verb(
        "isolate",
        "node",
        "cut off from the API",
        "traffic flows, its rules go stale",
        "{name} was cut off from the API server",
        _partition_control,
        letter="i",
        unless="partitioned",
    ),
    Verb(
        "heal",
        "node",
        "heal its links",
        "kubelet and kube-proxy catch up",
        "the links of {name} were healed",
        _heal,
        letter="n",
        when="partitioned",
    ),
    Verb(
        "deleteVM",
        "node",
        "delete its machine",
        "gone for good, and its pods",
        "the machine of {name} was deleted",
        _delete_vm,
        letter="v",
        unless="deleted",
    ),
    Verb(
        "autoscaleDown",
        "node",
        "autoscaler removes it",
        "taint, 5 s, evictions, machine deleted",
        "{name} is removed by the cluster autoscaler",
        _remove,
        letter="a",
        options={"delay": "duration"},
        unless="deleted",
    ),
    Verb(
        "cordon",
        "node",
        "cordon",
        "no new pods come here",
        "{name} was cordoned",
        _cordon,
        letter="c",
        unless="cordoned",
    ),
    Verb(
        "uncordon",
        "node",
        "uncordon",
        "new pods may come again",
        "{name} was uncordoned",
        _uncordon,
        letter="c",
        when="cordoned",
    ),
    Verb(
        "drain",
        "node",
        "drain",
        "evicts pod by pod, as budgets allow",
        "the drain of {name} began",
        _drain,
        letter="d",
        options={"gracePeriod": "duration", "force": "truth", "ignoreDaemonsets": "truth"},
    ),
    Verb(
        "shutdown",
        "node",
        "shut down gracefully",
        "30 s for its pods to end, then off",
        "the shutdown of {name} began",
        _shutdown,
        letter="s",
        options={"gracePeriod": "duration", "criticalGracePeriod": "duration"},
        unless="powered off",
    ),
    Verb(
        "hangRuntime",
        "node",
        "hang its runtime",
        "no pod there starts, stops or is noticed",
        "the container runtime of {name} hung",
        _hang_runtime,
        letter="h",
        options={"for": "duration", "listingOnly": "truth"},
        unless=RUNTIME_HANGS,
    ),
    Verb(
        "resumeRuntime",
        "node",
        "resume its runtime",
        "its kubelet catches up",
        "the container runtime of {name} answered again",
        _resume_runtime,
        letter="h",
        when=RUNTIME_HANGS,
    ),
    Verb(
        "outOfService",
        "node",
        "taint out-of-service",
        "its pods are given up at once",
        "{name} was tainted out-of-service",
        _out_of_service,
        letter="t",
        unless="out of service",
    ),
    Verb(
        "inService",
        "node",
        "remove the out-of-service taint",
        "pods may come again",
        "{name} was put in service again",
        _in_service,
        letter="t",
        when="out of service",
    ),
)
