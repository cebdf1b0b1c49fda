"""Verbs on nodes: power, links, the machine itself."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kflab.control.facts import Fact
from kflab.control.verb import Options, Verb
from kflab.manifest.objects import Key

if TYPE_CHECKING:
    from kflab.control.plane import ControlPlane


def _facts(plane: "ControlPlane", act: Callable[[], None]) -> Sequence[Fact]:
    before = len(plane.core.facts)
    act()
    return tuple(plane.core.facts[before:])


def _power_off(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.power_off(key.name))


def _power_on(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.power_on(key.name))


def _delete_vm(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.delete_vm(key.name))


def _partition(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.partition(key.name, str(options.get("link", "network"))))


def _partition_control(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.partition(key.name, "control"))


def _heal(plane: "ControlPlane", key: Key, options: Options) -> Sequence[Fact]:
    return _facts(plane, lambda: plane.machines.heal(key.name))


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
        "{name} has power again",
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
        "cut off from the API only",
        "traffic flows, rules and status go stale",
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
        "gone for good; the cloud says so when asked",
        "the machine of {name} was deleted",
        _delete_vm,
        unless="deleted",
    ),
)
