"""What the walker may ask of this lab's past: who knew what, what listened where, which node was off.

What listened and when it ended are kept here; who knew what is read from the observers and the store's revisions.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from kflab.cluster.outside import Outside
from kflab.control.corednspods import corefile_in
from kflab.control.facts import NODE_CUTS, Fact, What
from kflab.control.machine import Machine
from kflab.dataplane.cni import CniProfile
from kflab.dataplane.dns import ClusterDns
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.world import (
    HANGS,
    LISTENS,
    REFUSES,
    SILENT,
    AlbInForce,
    ConfigInForce,
    Fate,
    LbInForce,
    RulesInForce,
    node_facts,
)
from kflab.lab.balancing import alb_in_force, in_force
from kflab.lab.public_names import public_names
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab

_FATES = {
    What.CONTAINER_EXITED: "crashed",
    What.CONTAINER_COMPLETED: "completed",
    What.POD_DELETED: "was deleted",
    What.SIGTERM_SENT: "got SIGTERM",
    What.SIGKILL_SENT: "was killed at the end of its grace period",
    What.ADDRESS_GONE: "was removed",
    What.POD_LOST: "went down with its node",
    What.NETWORK_REMOVED: "lost its network, as Calico saw its object go,",
    What.PROCESS_HUNG: "hung",
    What.PROCESS_RESUMED: "went on",
}

_AFTER_SIGTERM = "exited after SIGTERM"

_NEW_HANGS = (What.PROCESS_HUNG, What.PROCESS_RESUMED, What.CONTAINER_EXITED, What.CONTAINER_COMPLETED)
"""Facts that tell behind which ports processes hang from now on."""


class LabWorld:
    """`dataplane.world.World` on the lab's observers and its memory of what listened."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self._listened: dict[Key, list[tuple[int, frozenset[tuple[str, int]] | None]]] = {}
        """Pod → (from, what listens; None: its address is gone), ascending; before the first entry: as at the start."""
        self._fates: dict[Key, list[tuple[int, str]]] = {}
        self._outages: dict[str, list[tuple[int, str]]] = {}
        """Node → (from, why packets do not pass; "": they do), ascending."""
        self._hangs: dict[Key, list[tuple[int, frozenset[int]]]] = {}
        """Pod → (from, port numbers behind which processes hang), ascending."""
        self._by_ip: dict[str, Key] = {}
        self._node_by_ip: dict[str, str] = {}
        """Address of a pod, also of one that is gone → its node."""
        self._on_host: dict[str, dict[Key, None]] = {}
        """Node address → pods in the node's own network: several share it, each with its ports."""
        self._dns: tuple[int, ClusterDns] | None = None
        self._outside = Outside(lab.store)
        for key, runtime in lab.plane.runtime.items():
            self._place(key)
            self._listened[key] = [(-(1 << 62), frozenset(runtime.listening) if runtime.sandbox else None)]

    def hear(self, fact: Fact) -> None:
        """Keep what the walker will ask of this instant later."""
        without = self._without_network(fact.subject)
        if fact.what is What.LISTENERS_CHANGED:
            if not without:
                self._listened.setdefault(fact.subject, []).append((fact.t_ns, frozenset(fact.ports)))
            self._place(fact.subject)
        elif fact.what in (What.ADDRESS_GONE, What.POD_LOST, What.NETWORK_REMOVED):
            self._listened.setdefault(fact.subject, []).append((fact.t_ns, None))
        elif fact.what in NODE_CUTS:
            machine = self._lab.plane.core.machines.get(fact.subject.name, Machine())
            why = "" if machine.reachable else "is cut off from the network" if machine.powered else "has no power"
            self._outages.setdefault(fact.subject.name, []).append((fact.t_ns, why))
        elif fact.what in _NEW_HANGS:
            ports = frozenset(number for _, number in fact.ports)
            self._hangs.setdefault(fact.subject, []).append((fact.t_ns, ports))
        if fact.what in _FATES and not without:
            self._fates.setdefault(fact.subject, []).append((fact.t_ns, self._fate_word(fact)))

    def _fate_word(self, fact: Fact) -> str:
        """What befell a pod; a process that was told to go has not crashed when it goes."""
        if fact.what is not What.CONTAINER_EXITED:
            return _FATES[fact.what]
        before = next(reversed(self._fates.get(fact.subject, [])), (0, ""))[1]
        if before == _FATES[What.SIGKILL_SENT]:
            return before
        pod = self._lab.store.get(fact.subject)
        if before == _FATES[What.SIGTERM_SENT] or (
            before == _AFTER_SIGTERM and isinstance(pod, Pod) and pod.terminating
        ):
            return _AFTER_SIGTERM
        return _FATES[What.CONTAINER_EXITED]

    def _without_network(self, pod: Key) -> bool:
        """Whether a pod has no network any more, though it is there: what befalls it now is felt by nobody."""
        runtime = self._lab.plane.runtime.get(pod)
        fate = next(reversed(self._fates.get(pod, [])), (0, ""))[1]
        return fate == _FATES[What.NETWORK_REMOVED] and (runtime is None or not runtime.sandbox)

    def _place(self, pod: Key) -> None:
        """Remember whose addresses a pod has."""
        runtime = self._lab.plane.runtime.get(pod)
        obj = self._lab.store.get(pod)
        for ip in runtime.ips if runtime else ():
            if isinstance(obj, Pod) and obj.spec.host_network:
                self._on_host.setdefault(ip, {})[pod] = None
            else:
                self._by_ip[ip] = pod
                self._node_by_ip[ip] = runtime.node if runtime else ""

    def forget_before(self, t_ns: int) -> None:
        """Drop what was over before `t_ns`; pods that were gone by then are forgotten altogether."""
        for histories in (self._listened, self._fates, self._outages, self._hangs):
            for entries in histories.values():
                i = bisect_right(entries, t_ns, key=lambda entry: entry[0])
                del entries[: max(0, i - 1)]
        gone = [
            pod for pod, entries in self._listened.items()
            if len(entries) == 1 and entries[0][1] is None and pod not in self._lab.plane.runtime
        ]  # fmt: skip
        for pod in gone:
            del self._listened[pod]
            self._fates.pop(pod, None)
            self._hangs.pop(pod, None)
            for there in self._on_host.values():
                there.pop(pod, None)
        if gone:
            self._by_ip = {ip: pod for ip, pod in self._by_ip.items() if pod in self._listened}
            self._node_by_ip = {ip: node for ip, node in self._node_by_ip.items() if ip in self._by_ip}

    @property
    def cni(self) -> CniProfile:
        return self._lab.cni

    def ruleset_at(self, node: str, t_ns: int) -> RulesInForce | None:
        return self._lab.node_rules.at(node, t_ns)

    def ingress_config_at(self, pod: Key, t_ns: int) -> ConfigInForce | None:
        name = f"ingress/{pod.namespace}/{pod.name}"
        observer = self._lab.plane.observers.get(name)
        known = observer.at(t_ns) if observer else None
        config = self._lab.wiring.configs.at(name, t_ns)
        if known is None or config is None:
            return None
        return ConfigInForce(config, self._lab.store.rules_revision(known[1]), known[0])

    def lb_at(self, address: str, t_ns: int) -> LbInForce | None:
        for key, balancer in self._lab.plane.balancers.items():
            if self._lab.lb_address(key) == address:
                return in_force(self._lab.store, balancer, address, t_ns)
        return None

    def alb_at(self, address: str, t_ns: int) -> AlbInForce | None:
        plane = self._lab.plane
        one = next((one for one in plane.albs.values() if one.ip == address), None)
        return alb_in_force(self._lab.store, one, plane.balancers, t_ns) if one is not None else None

    def dns_at(self, t_ns: int) -> ClusterDns:
        revision = self._lab.store.rules_revision()
        store = self._lab.store
        corefile = corefile_in(store)
        if self._dns is None or self._dns[0] != revision or self._dns[1].corefile is not corefile:
            services = [cast(Service, obj) for obj in store.of_kind("Service")]
            slices = [cast(EndpointSlice, obj) for obj in store.of_kind("EndpointSlice")]
            self._dns = revision, ClusterDns.of(services, slices, public_names(self._lab), corefile)
        return self._dns[1]

    def behaviour_at(self, address: str, port: int, t_ns: int) -> str:
        pod = self._by_ip.get(address)
        if pod is None:
            if any(port in self._numbers(there, t_ns) for there in self._on_host.get(address, ())):
                return LISTENS
            if self.node_of(address):
                return REFUSES
            return LISTENS if self._outside.answers(address) else SILENT
        listening = self._listening(pod, t_ns)
        if listening is None:
            return SILENT
        hangs = self._hangs.get(pod, [])
        i = bisect_right(hangs, t_ns, key=lambda entry: entry[0]) - 1
        if i >= 0 and port in hangs[i][1]:
            return HANGS
        return LISTENS if any(number == port for _, number in listening) else REFUSES

    def _listening(self, pod: Key, t_ns: int) -> frozenset[tuple[str, int]] | None:
        """What a pod listened on; None while it has no address."""
        listened = self._listened.get(pod, [])
        i = bisect_right(listened, t_ns, key=lambda entry: entry[0]) - 1
        return listened[i][1] if i >= 0 else None

    def _numbers(self, pod: Key, t_ns: int) -> frozenset[int]:
        """Port numbers that a pod listened on."""
        return frozenset(number for _, number in self._listening(pod, t_ns) or ())

    def pod_at(self, address: str, t_ns: int, port: int = 0) -> Key | None:
        there = self._on_host.get(address, ()) if port else ()
        # One that has died is still the one that is dialled: it listened there before.
        heard = next((pod for pod in there if port in self._numbers(pod, t_ns)), None)
        ever = (pod for pod in there if any(port in numbers for numbers in self._ever(pod)))
        return self._by_ip.get(address) or heard or next(ever, None)

    def _ever(self, pod: Key) -> Iterator[frozenset[int]]:
        return (frozenset(number for _, number in heard or ()) for _, heard in self._listened.get(pod, []))

    def node_of(self, address: str) -> str:
        pod = self._by_ip.get(address)
        if pod is not None:
            return self._node_by_ip[address]
        for node in self._lab.store.of_kind("Node"):
            if address in cast(Node, node).internal_ips:
                return node.meta.name
        return ""

    def facts_of(self, node: str) -> NodeFacts | None:
        obj = self._lab.store.last(Key("Node", "", node))
        return node_facts(obj, self.cni) if isinstance(obj, Node) else None

    def fate_of(self, pod: Key, t_ns: int) -> Fate | None:
        fates = self._fates.get(pod, [])
        i = bisect_right(fates, t_ns, key=lambda entry: entry[0]) - 1
        return Fate(fates[i][1], fates[i][0]) if i >= 0 else None

    def link_changes(self) -> list[int]:
        """When nodes were cut off or could be reached again, ascending."""
        return sorted(t_ns for outages in self._outages.values() for t_ns, _ in outages)

    def outage_window(self, node: str, t_ns: int) -> tuple[int, int | None]:
        """Since when a node has been off the network at `t_ns`, and until when; None: it still is."""
        outages = self._outages.get(node, [])
        i = bisect_right(outages, t_ns, key=lambda entry: entry[0])
        since = i - 1
        while since > 0 and outages[since - 1][1]:
            since -= 1
        until = next((start for start, why in outages[i:] if not why), None)
        return (outages[since][0] if since >= 0 else t_ns), until

    def first_outage(self, node: str, from_ns: int, until_ns: int) -> int | None:
        """When a node first went off the network after `from_ns`, until `until_ns`; None: it did not."""
        times = (t_ns for t_ns, why in self._outages.get(node, []) if why and from_ns < t_ns <= until_ns)
        return next(times, None)

    def outage_of(self, node: str, t_ns: int) -> str:
        outages = self._outages.get(node, [])
        i = bisect_right(outages, t_ns, key=lambda entry: entry[0]) - 1
        return outages[i][1] if i >= 0 else ""

    def no_route_ns(self, near: str, there: str, t_ns: int) -> int | None:
        neighbours, places = self._lab.engine.steps.neighbours, self._lab.wiring.places
        if neighbours is None or near not in places or there not in places:
            return None
        asked = ([places.index(near)], [places.index(there)], [t_ns], [self._lab.engine.timing.connect_timeout_ns])
        told, heard = neighbours.ends(*(np.array(column, dtype=np.int64) for column in asked))
        return int(told[0]) - t_ns if heard[0] else None
