"""Opening a request that happened: the walker gets the same rules, draws and memory that the batch used.

The lab keeps what the walker needs of the past: who knew what since when (observers and store revisions), what listened
when, and each load balancer's targets.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from kflab.cluster.outside import Outside
from kflab.control.facts import NODE_CUTS, Fact, What
from kflab.control.machine import Machine
from kflab.dataplane.cni import CniProfile
from kflab.dataplane.dns import ClusterDns
from kflab.dataplane.memory_view import BlankMemory, KeptConnection, Turn
from kflab.dataplane.nginx import route
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet, RequestTrace, join_host_port
from kflab.dataplane.request import Choices, Request, TryRecord, trace_request
from kflab.dataplane.request import Record as WalkRecord
from kflab.dataplane.request_record import UNREACHABLE
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
from kflab.engine.addresses import ephemeral_ports, flow_hashes, flow_salt
from kflab.engine.ipvs_counts import unpacked
from kflab.engine.retrying import request_of
from kflab.engine.scheduled import entry_turn, try_turn
from kflab.engine.types import MAX_TRIES, Answer, Choice, Pick
from kflab.errors import KflabError
from kflab.kubectl.curl import CurlAnswer, CurlRequest
from kflab.kubectl.logs import AccessRecord, UpstreamTry
from kflab.lab.balancing import alb_in_force, in_force
from kflab.lab.gantt import BILL_IDS
from kflab.lab.kept_connections import kept_port, over_kept
from kflab.lab.lookups import after_lookup
from kflab.lab.opened_calls import called_by_name, with_calls
from kflab.lab.records import KEPT_TRACES, Record, status_text
from kflab.lab.retried import attempts_before, with_attempts
from kflab.lab.snapshot import TraceRow, TraceTry
from kflab.lab.wiring import Chooser, Wired
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab

ANSWER_WORDS = {
    Answer.OK: "ok",
    Answer.REFUSED: "refused",
    Answer.RESET: "reset",
    Answer.TIMEOUT: "timeout",
    Answer.REJECTED: "rejected",
    Answer.NO_UPSTREAM: "no upstream",
    Answer.TABLE_FULL: "timeout",
    Answer.NO_PORT: "timeout",
    Answer.UNREACHABLE: UNREACHABLE,
    Answer.GAVE_UP: "timeout",
    Answer.SYN_LOST: "timeout",
}

UNDER_WAY = ""
"""The answer of a try that has none yet."""

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


_NEW_HANGS = (What.PROCESS_HUNG, What.PROCESS_RESUMED, What.CONTAINER_EXITED, What.CONTAINER_COMPLETED)
"""Facts that tell behind which ports processes hang from now on."""

BODY_BYTES = 512
"""Length of every answer's body in access logs: a fixed modelling value, bodies are not modelled."""

REQUEST_BYTES = 256
"""Length of every request (line, headers, body) in access logs: a fixed modelling value, headers are not modelled."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the record says of round robin and kept connections, and what session affinity remembers."""

    lab: "Lab"
    positions: tuple[int, ...]
    kept: tuple[KeptConnection | None, ...]
    flow: str = ""
    """ip:port of the conntrack entry that a UDP request followed, or one over a connection that its client keeps."""
    dropped: tuple[str, ...] = ()
    """Node whose full table dropped the client's connection (0) or a try's; "" for none."""
    without_port: tuple[bool, ...] = ()
    """Whether the client's connection (0) or a try's got no source port."""
    turns: tuple[Turn | None, ...] = ()
    """Whom IPVS took for the client's connection (0) or a try's."""

    def turn(self, try_number: int) -> Turn | None:
        """The turn that is on record."""
        return self.turns[try_number] if try_number < len(self.turns) else None

    def round_robin(self, ingress: Key, upstream: str, try_number: int) -> int:
        """Index of the upstream that the record names."""
        return self.positions[try_number - 1] if try_number <= len(self.positions) else 0

    def kept_connection(self, ingress: Key, upstream: str, try_number: int) -> KeptConnection | None:
        """The connection the record says was reused."""
        return self.kept[try_number - 1] if try_number <= len(self.kept) else None

    def seen(self, node: str, chain: str, client: str, seconds: int, t_ns: int) -> bool:
        """Whether affinity keeps the client on the endpoint of a KUBE-SEP chain."""
        known = self.lab.reopener.world.ruleset_at(node, t_ns)
        if known is None:
            return False
        ports = (port for rules in known.rules.services.values() for port in rules.ports if port.affinity_s)
        for port in ports:
            endpoint = port.endpoint_of.get(chain)
            if endpoint is not None:
                held = self.lab.wiring.affinity.held(node, client, port.service, port.port, t_ns)
                # The connection that made the entry was drawn.
                return held is not None and held.since_ns < t_ns and self.lab.reopener.address(held.server) == endpoint
        return False

    def affinity_ended(self, node: str, client: str, service: Key, port: int, t_ns: int) -> int | None:
        """When the entry ran out that the connection of this instant found no more."""
        held = self.lab.wiring.affinity.held(node, client, service, port, t_ns)
        return held.ended_ns if held is not None and held.since_ns == t_ns and held.ended_ns >= 0 else None

    def affinity_forgotten(self, node: str, client: str, service: Key, port: int, t_ns: int) -> bool:
        """Whether the entry had been dropped that the connection of this instant made anew."""
        held = self.lab.wiring.affinity.held(node, client, service, port, t_ns)
        return held is not None and held.since_ns == t_ns and held.forgotten

    def tracked(self, node: str, packet: Packet) -> str:
        """The endpoint of the entry that the record says was there."""
        return self.flow

    def dropped_on(self, try_number: int) -> str:
        """Where the record says a full table dropped a connection."""
        return self.dropped[try_number] if try_number < len(self.dropped) else ""

    def found_no_port(self, try_number: int) -> bool:
        """Whether the record says a connection got no source port."""
        return try_number < len(self.without_port) and self.without_port[try_number]


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
            self._fates.setdefault(fact.subject, []).append((fact.t_ns, _FATES[fact.what]))

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

    # --- World ----------------------------------------------------------------------------------------------

    @property
    def cni(self) -> CniProfile:
        return self._lab.cni

    def ruleset_at(self, node: str, t_ns: int) -> RulesInForce | None:
        return self._lab.node_rules.at(node, t_ns)

    def ingress_config_at(self, pod: Key, t_ns: int) -> ConfigInForce | None:
        name = f"ingress/{pod.namespace}/{pod.name}"
        observer = self._lab.plane.observers.get(name)
        known = observer.at(t_ns) if observer else None
        config = self._lab.wiring.ingress_config(name, t_ns)
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
        if self._dns is None or self._dns[0] != revision:
            store = self._lab.store
            services = [cast(Service, obj) for obj in store.of_kind("Service")]
            slices = [cast(EndpointSlice, obj) for obj in store.of_kind("EndpointSlice")]
            self._dns = revision, ClusterDns.of(services, slices, self._lab.public_names())
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
            runtime = self._lab.plane.runtime.get(pod)
            obj = self._lab.store.get(pod)
            return runtime.node if runtime else (obj.spec.node_name if isinstance(obj, Pod) else "")
        for node in self._lab.store.of_kind("Node"):
            if address in cast(Node, node).internal_ips:
                return node.meta.name
        return ""

    def facts_of(self, node: str) -> NodeFacts | None:
        obj = self._lab.store.get(Key("Node", "", node))
        return node_facts(obj, self.cni) if isinstance(obj, Node) else None

    def fate_of(self, pod: Key, t_ns: int) -> Fate | None:
        fates = self._fates.get(pod, [])
        i = bisect_right(fates, t_ns, key=lambda entry: entry[0]) - 1
        return Fate(fates[i][1], fates[i][0]) if i >= 0 else None

    def outage_window(self, node: str, t_ns: int) -> tuple[int, int | None]:
        """Since when a node has been off the network at `t_ns`, and until when; None: it still is."""
        outages = self._outages.get(node, [])
        i = bisect_right(outages, t_ns, key=lambda entry: entry[0])
        since = i - 1
        while since > 0 and outages[since - 1][1]:
            since -= 1
        until = next((start for start, why in outages[i:] if not why), None)
        return (outages[since][0] if since >= 0 else t_ns), until

    def outage_of(self, node: str, t_ns: int) -> str:
        outages = self._outages.get(node, [])
        i = bisect_right(outages, t_ns, key=lambda entry: entry[0]) - 1
        return outages[i][1] if i >= 0 else ""


class Reopener:
    """Opens requests, sends single ones (`curl`), and reads access logs out of the kept rows."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self.world = LabWorld(lab)
        self._curled: dict[int, RequestTrace] = {}
        """Trace id (-1, -2, …) → what `send` sent; the last `KEPT_TRACES` of them."""
        self._sent = 0

    def forget_before(self, t_ns: int) -> None:
        """Drop what only requests that began before `t_ns` would ask for."""
        self.world.forget_before(t_ns)

    # --- what the rows say ----------------------------------------------------------------------------------

    def words(self, wired: Wired, number: int, attempt: int = 0) -> list[int]:
        """The four draw words of a try."""
        stream = wired.stream.address if wired.stream.address >= 0 else wired.entry.index
        words = self._lab.draws.rows(stream, np.array([number]), attempt)
        return [int(word) for word in words[0]]

    def client_port(self, wired: Wired, number: int) -> int:
        """The client's source port of a request."""
        pinned = next((port for n, port, _ in wired.stream.pinned_ports if n == number), 0)
        return wired.stream.flow_port or pinned or _port(self.words(wired, number)[Choice.ENTRY])

    def _port_of(self, wired: Wired, one: Record) -> int:
        """The client's source port of a request that happened: over a kept connection that connection's."""
        return kept_port(wired, one) or self.client_port(wired, one.number)

    def upstream_ports(self, wired: Wired, number: int, lost: int = 0) -> tuple[int, ...]:
        """NGINX's source port of each try of a request, had it opened a connection for it.

        `lost`: tries on kept connections that failed and were not counted; each drew anew.
        """
        ports = [_port(self.words(wired, number, lost + k)[Choice.BACKEND]) for k in range(MAX_TRIES)]
        if not lost:
            ports[0] = next((first for n, _, first in wired.stream.pinned_ports if n == number), 0) or ports[0]
        return tuple(ports)

    def row(self, trace_id: int, one: Record) -> TraceRow:
        """The short form for the trace pane."""
        lab = self._lab
        wired = lab.wiring.wired[one.stream]
        entry = wired.entry
        client_port = self._port_of(wired, one)
        ingress = lab.wiring.servers[one.ingress][3] if one.ingress >= 0 else None
        tries = tuple(
            TraceTry(self.server_name(server), ANSWER_WORDS.get(answer, "none"))
            for server, answer in zip(one.servers, one.answers, strict=True)
        )
        chooser = wired.upstreams.get(ingress) if ingress else next(iter(wired.entries.values()), None)
        return TraceRow(
            trace_id, one.stream, request_of(one.number), one.finish_ns, one.start_ns, entry.method, entry.path,
            entry.url, join_host_port(self.client(wired, one), client_port), ingress.name if ingress else "",
            chooser.service if chooser else entry.service, tries, status_text(one.status), one.ok, one.latency_ns,
            parts_of(one), entry.label,
        )  # fmt: skip

    def client(self, wired: Wired, one: Record) -> str:
        """Address of who sent a request: of a call the pod that made it."""
        caller = self._caller(wired, one)
        return self._lab.wiring.servers[caller][0] if caller >= 0 else wired.entry.client

    @staticmethod
    def _caller(wired: Wired, one: Record) -> int:
        """The server that made a call; -1 for all that are no calls."""
        return dict(one.extra)["caller"] if wired.entry.kind == "call" else -1

    def server_name(self, server: int) -> str:
        """The pod behind a server, else its address."""
        if server < 0:
            return "nobody"
        ip, port, _, pod = self._lab.wiring.servers[server]
        return pod.name if pod else join_host_port(ip, port)

    # --- opening --------------------------------------------------------------------------------------------

    def open(self, trace_id: int) -> RequestTrace:
        """Open a sampled request, or (negative ids) one that `curl` sent.

        Raises:
            KflabError: If it is no longer kept.
        """
        if trace_id < 0:
            if trace_id not in self._curled:
                raise KflabError(
                    f"this request is too old to be opened: the lab keeps the last {KEPT_TRACES} sent ones"
                )
            return self._curled[trace_id]
        one = self._lab.gantt.example(trace_id) if trace_id >= BILL_IDS else self._lab.sampler.find(trace_id)
        if one is None and trace_id >= BILL_IDS:
            raise KflabError("the requests of this bill are too old to be opened: their time's rules are forgotten")
        if one is None:
            raise KflabError("this request is too old to be opened: the lab keeps the last 400 sampled ones")
        sampler = self._lab.sampler
        trace = with_calls(self._lab, self.open_record(one), one, sampler.calls.get(trace_id, ()))
        return with_attempts(self._lab, trace, one, sampler.attempts.get(trace_id) or attempts_before(self._lab, one))

    def open_record(self, one: Record) -> RequestTrace:
        """Walk a request that happened, with its own draws, rules and memory."""
        lab = self._lab
        wired = lab.wiring.wired[one.stream]
        entry = wired.entry
        first = self.words(wired, one.number)
        lost = dict(one.extra).get("lost", 0)  # errors on kept connections drew anew without using up a try
        client_port, upstream_ports = self._port_of(wired, one), self.upstream_ports(wired, one.number, lost)
        backend = tuple(self.words(wired, one.number, lost + k)[Choice.BACKEND] >> 32 for k in range(MAX_TRIES))
        entry_word = first[Choice.ENTRY] >> 32
        caller = self._caller(wired, one)
        pod = lab.wiring.servers[caller][3] if caller >= 0 else entry.client_pod
        place = one.node if caller >= 0 else wired.stream.place
        request = Request(
            url=_walkable(entry.url), method=entry.method, source=self.client(wired, one), source_port=client_port,
            stream=one.stream, number=request_of(one.number), t_start_ns=one.start_ns, pod=pod,
            node=lab.wiring.places[place] if place >= 0 else "", protocol=entry.port.protocol,
            connect_to=None if entry.alb or (entry.kind == "l7" and entry.balanced) else self._dialled(wired, one),
        )  # fmt: skip
        timing = lab.engine.timing
        outside = not entry.inside
        waited = dict(one.extra).get("waited_ns", 0)
        record = WalkRecord(
            # A request in flight has no status yet: NGINX has taken it once there was a try.
            status=status_text(one.status or (200 if one.tries else 0)),
            finish_ns=one.finish_ns,
            tries=tuple(
                TryRecord(
                    ANSWER_WORDS.get(answer, UNDER_WAY), start, end,
                    self.address(server) if server >= 0 else "",
                )
                for server, answer, start, end in zip(
                    one.servers, one.answers, one.try_starts_ns, one.try_ends_ns, strict=True
                )
            ),
            lb_ns=one.start_ns + timing.client_lb_ns if outside else None,
            entry_ns=one.start_ns + timing.client_lb_ns + timing.lb_node_ns if outside else one.start_ns + waited,
            queue_ns=one.queue_ns, service_ns=one.service_ns,
            node=lab.wiring.places[one.node] if one.node >= 0 else "",
            ingress=self.address(one.ingress) if one.ingress >= 0 else "",
        )  # fmt: skip
        hashed = self._lb_choice(wired, client_port, first[Choice.ARRIVAL]) if entry.balanced and outside else None
        choices = Choices(entry_word, backend, hashed, upstream_ports)
        trace = trace_request(self.world, request, choices, self._memory(wired, one), record)
        trace = called_by_name(trace, entry.host) if caller >= 0 else trace
        trace = over_kept(replace(trace, url=entry.url, parts=parts_of(one)), wired, one)
        return after_lookup(trace, one)

    @staticmethod
    def _lb_choice(wired: Wired, client_port: int, word: int) -> int:
        """The u32 by which the batch chose a node: the flow's hash, or the draw of a balancer that takes turns."""
        if wired.lb is not None and wired.lb.picker in (Pick.RANDOM, Pick.SCHEDULED):
            return word & 0xFFFFFFFF
        return _flow_hash(wired, client_port)

    def _dialled(self, wired: Wired, one: Record) -> tuple[str, int] | None:
        entry = wired.entry
        service = self._lab.store.get(entry.service)
        if not isinstance(service, Service):
            return None
        if entry.inside:
            return service.cluster_ip, entry.port.port
        if entry.balanced:
            return self._lab.lb_address(entry.service), entry.port.port
        if one.node < 0:
            return None
        node = self._lab.store.get(Key("Node", "", self._lab.wiring.places[one.node]))
        return (cast(Node, node).internal_ips[0], entry.port.node_port) if node else None

    def address(self, server: int) -> str:
        ip, port, _, _ = self._lab.wiring.servers[server]
        return join_host_port(ip, port)

    def _memory(self, wired: Wired, one: Record) -> _Memory:
        """Round-robin positions and kept connections as the record has them."""
        lab = self._lab
        ingress = lab.wiring.servers[one.ingress][3] if one.ingress >= 0 else None
        chooser = wired.upstreams.get(ingress) if ingress else None
        if chooser is None:
            follows = wired.stream.flow_port or wired.stream.connections
            flow = self.address(one.servers[0]) if follows and dict(one.extra).get("kept") else ""
            told = self.dropped(one), self.without_port(one), self._turns(one)
            return _Memory(lab, (), (), flow, *told)
        positions: list[int] = []
        kept_bits, kept_ports = dict(one.extra).get("kept", 0), dict(one.extra).get("kept_ports", 0)
        kept: list[KeptConnection | None] = []
        for k, (server, start) in enumerate(zip(one.servers, one.try_starts_ns, strict=True)):
            config = lab.wiring.ingress_config(chooser.observers[0], start)
            address = self.address(server) if server >= 0 else ""
            ups = route(config, wired.entry.scheme, wired.entry.host, wired.entry.path).upstreams if config else ()
            positions.append(next((i for i, up in enumerate(ups) if up.text == address), 0))
            port = kept_ports >> 16 * k & 0xFFFF
            kept.append(KeptConnection(address, port) if kept_bits >> k & 1 else None)
        told = self.dropped(one), self.without_port(one), self._turns(one)
        return _Memory(lab, tuple(positions), tuple(kept), "", *told)

    @staticmethod
    def without_port(one: Record) -> tuple[bool, ...]:
        """Whether the client's connection (0) or one of NGINX's tries got no source port where it is masqueraded."""
        tries = tuple(answer == Answer.NO_PORT for answer in one.answers)
        return tries if one.ingress < 0 else (one.status == -Answer.NO_PORT, *tries)

    def _turns(self, one: Record) -> tuple[Turn | None, ...]:
        """Whom IPVS took for the client's connection (0) and for each of NGINX's tries."""
        extra = dict(one.extra)
        turns = extra.get("turns", 0)
        reached = one.ingress if one.ingress >= 0 else next(iter(one.servers), -1)
        places = [(reached, entry_turn(turns))]
        places += [(server, try_turn(turns, k)) for k, server in enumerate(one.servers)]
        found: list[Turn | None] = []
        for part, (server, n) in enumerate(places):
            loads = unpacked(extra.get(f"loads{part}", 0)) or (None, None)
            found.append(Turn(self.address(server), n, *loads) if n and server >= 0 else None)
        return tuple(found)

    def dropped(self, one: Record) -> tuple[str, ...]:
        """Node whose full table dropped the client's connection (0) or one of NGINX's tries; "" for none."""

        def node(place: int) -> str:
            return self._lab.wiring.places[place] if place >= 0 else ""

        places = self._lab.engine.memory.place
        tries = []
        for server, answer in zip(one.servers, one.answers, strict=True):
            near = int(places[one.ingress]) if one.ingress >= 0 else one.node
            there = int(places[server]) if server >= 0 else near
            tries.append(node(there) if answer == Answer.TABLE_FULL else "")
        if one.ingress < 0 and tries:
            return tuple(tries)
        client = int(places[one.ingress]) if one.ingress >= 0 else one.node
        return (node(client) if one.status == -Answer.TABLE_FULL else "", *tries)

    def sent(self) -> Sequence[RequestTrace]:
        """Single requests that were sent, as far as they are kept, newest first."""
        return tuple(reversed(self._curled.values()))

    # --- single requests ------------------------------------------------------------------------------------

    def send(self, request: Request, draw_name: str) -> RequestTrace:
        """Send one request now, by the walker alone: it meets what is there, and loads nobody.

        Its draws come from a stream of their own. It waits in no queue; its times are the data path's constants.
        """
        lab = self._lab
        n = self._sent

        def u32(what: str, k: int = 0) -> int:
            return lab.draws.control_u64(f"curl-{what}", draw_name, n * 4 + k) >> 32

        ports = tuple(32768 + (u32("port", k) * 28232 >> 32) for k in range(4))
        choices = Choices(u32("entry"), tuple(u32("backend", k) for k in range(3)), None, ports[1:])
        trace = trace_request(self.world, replace(request, source_port=ports[0]), choices, BlankMemory())
        trace = self._touching_pods(self._timed(trace))
        self._sent += 1
        self._curled[-self._sent] = trace
        self._curled.pop(KEPT_TRACES - self._sent, None)
        return trace

    def _touching_pods(self, trace: RequestTrace) -> RequestTrace:
        """A hop straight to a pod's own address (port-forward) belongs to the pod's row too."""
        hops = []
        for hop in trace.hops:
            to = hop.after if hop.outcome else None
            pod = self.world.pod_at(to.dst, hop.t_ns, to.dport) if to is not None else None
            if pod is not None and pod not in hop.touches:
                hop = replace(hop, touches=(*hop.touches, pod))
            hops.append(hop)
        return replace(trace, hops=tuple(hops))

    def _timed(self, trace: RequestTrace) -> RequestTrace:
        """Give a walked request the times that the data path's constants imply."""
        timing = self._lab.engine.timing
        refused = timeout = 0
        for hop in trace.hops:
            if hop.outcome == "refused":
                refused += 2 * timing.cross_node_ns
            elif hop.outcome in ("timeout", "dropped"):
                timeout += timing.connect_timeout_ns
        answered = trace.status.isdigit() and trace.status != "503"
        service = timing.service_p50_ns if answered and trace.status == "200" else 0
        network = 2 * timing.cross_node_ns + timing.nginx_ns
        parts = (("refused", refused), ("timeout", timeout), ("queue", 0), ("service", service), ("network", network))
        latency = sum(ns for _, ns in parts)
        said: tuple[str, ...] = ("queues: a single request is walked, not queued",)
        if self._lab.calls.edges:
            said += ("calls: what the answering pod would call for it",)
        return replace(trace, latency_ns=latency, parts=parts, not_modelled=(*trace.not_modelled, *said))

    def trace_id_of(self, trace: RequestTrace) -> int:
        """Id under which `open` finds a sent request."""
        return next(trace_id for trace_id, sent in reversed(self._curled.items()) if sent is trace)

    def request_for(self, url: str, method: str, source: Key | None) -> Request:
        """A request from the client outside (None), a pod or a node.

        Raises:
            KflabError: If there is no such pod or node.
        """
        lab = self._lab
        if source is None:
            return Request(url, method, lab.client_address(), t_start_ns=lab.t_ns)
        obj = lab.store.get(source)
        if isinstance(obj, Pod) and obj.ip:
            return Request(url, method, obj.ip, t_start_ns=lab.t_ns, pod=source, node=obj.spec.node_name)
        if isinstance(obj, Node):
            address = next(iter(obj.internal_ips), "")
            return Request(url, method, address, t_start_ns=lab.t_ns, node=obj.meta.name)
        raise KflabError(f"{source} cannot send requests: it does not exist or has no address")

    def curl(self, asked: CurlRequest) -> CurlAnswer:
        """One traced request for the command line."""
        request = self.request_for(asked.url, asked.method, asked.source)
        if asked.via is not None:
            # API server → kubelet → the pod's network namespace (kubernetes.io/docs, port-forward): no Service, no DNS.
            pod = self._lab.store.get(asked.via.pod)
            if not isinstance(pod, Pod) or not pod.ip:
                return CurlAnswer("refused")
            request = replace(
                request, connect_to=(pod.ip, asked.via.port), node=pod.spec.node_name, source=self._node_ip(pod)
            )
        for name, address in asked.resolve:
            host, _, port = name.rpartition(":")
            if host in asked.url:
                request = replace(request, connect_to=(address, int(port)))
        trace = self.send(request, str(asked.source or "client"))
        answered = self._answered(trace, asked.source)
        app = trace.status == "200"
        server = "" if app else "nginx"
        return CurlAnswer(trace.status, trace.latency_ns or 0, answered, self.trace_id_of(trace), server)

    def _answered(self, trace: RequestTrace, caller: Key | None) -> Key | None:
        """The pod that answered: whose address the last hop went to, or the last one that a rule names as target."""
        for hop in reversed(trace.hops):
            if hop.after is None:
                continue
            found = self.world.pod_at(hop.after.dst, self._lab.t_ns, hop.after.dport)
            named = (key for key in reversed(hop.touches) if key.kind == "Pod" and key != caller)
            return found or next(named, None)
        return None

    def _node_ip(self, pod: Pod) -> str:
        node = self._lab.store.get(Key("Node", "", pod.spec.node_name))
        return next(iter(node.internal_ips), "") if isinstance(node, Node) else ""

    # --- logs -----------------------------------------------------------------------------------------------

    def access_log(self, pod: Key) -> Sequence[AccessRecord]:
        """What a pod logged of the requests still kept, oldest first."""
        lab = self._lab
        mine = {i for i, server in enumerate(lab.wiring.servers) if server[3] == pod}
        is_ingress = lab.controllers.is_pod(pod)
        lines = []
        for one in lab.sampler.recent():
            wired = lab.wiring.wired[one.stream]
            entry = wired.entry
            if is_ingress:
                if one.ingress not in mine:
                    continue
                chooser = wired.upstreams.get(pod)
                service = chooser.service if chooser else None
                name = f"{service.namespace}-{service.name}-{chooser.service_port}" if service and chooser else ""
                tries = tuple(self._upstream_try(one, k, chooser) for k in range(len(one.servers)))
                lines.append(
                    AccessRecord(one.finish_ns, entry.client, entry.method, entry.path, _logged(one.status),
                                 one.finish_ns - one.start_ns, entry.host, upstream_name=name, tries=tries,
                                 body_bytes=BODY_BYTES, request_length=REQUEST_BYTES)
                )  # fmt: skip
            elif one.ok and one.servers and one.servers[-1] in mine:
                caller = self.client(wired, one)
                if one.ingress >= 0:
                    caller = lab.wiring.servers[one.ingress][0]
                lines.append(
                    AccessRecord(one.finish_ns, caller, entry.method, entry.path, status_text(one.status),
                                 one.service_ns, entry.host, body_bytes=BODY_BYTES, request_length=REQUEST_BYTES)
                )  # fmt: skip
        return lines

    def _upstream_try(self, one: Record, k: int, chooser: Chooser | None) -> UpstreamTry:
        silent = one.answers[k] in (Answer.TIMEOUT, Answer.TABLE_FULL, Answer.NO_PORT)
        status = status_text(one.status) if one.answers[k] == Answer.OK else "504" if silent else "502"
        address = self.address(one.servers[k]) if one.servers[k] >= 0 else "-"
        if chooser is not None and chooser.picker != Pick.ROUND_ROBIN and chooser.service is not None:
            service = self._lab.store.get(chooser.service)
            if isinstance(service, Service):
                address = join_host_port(service.cluster_ip, chooser.service_port)
        return UpstreamTry(address, status, one.try_ends_ns[k] - one.try_starts_ns[k])


def _flow_hash(wired: Wired, client_port: int) -> int:
    """The load balancer's hash as the batch made it: of the stream's addresses as they were when it began."""
    salt = np.array([flow_salt(wired.stream.client, wired.stream.destination)], dtype=np.uint64)
    return int(flow_hashes(salt, np.array([client_port]))[0])


def _logged(status: int) -> str:
    """The status in NGINX's access log: 499 where its client gave up (ngx_http_request.h)."""
    return "499" if status == -Answer.GAVE_UP else status_text(status)


def _walkable(url: str) -> str:
    """The URL as the walker takes it apart: to a UDP Service it is an address and a port, as to any other."""
    return f"tcp{url[3:]}" if url.startswith("udp://") else url


def _port(word: int) -> int:
    return int(ephemeral_ports(np.array([word], dtype=np.uint64))[0])


def parts_of(one: Record) -> tuple[tuple[str, int], ...]:
    """Split a request's latency: what lost tries cost, what was waited for and worked, and the rest, the way itself."""
    lost = {Answer.REFUSED: 0, Answer.TIMEOUT: 0, Answer.RESET: 0}
    for answer, start, end in zip(one.answers, one.try_starts_ns, one.try_ends_ns, strict=True):
        if answer in (Answer.REJECTED, Answer.REFUSED):
            lost[Answer.REFUSED] += end - start
        elif answer in (Answer.TABLE_FULL, Answer.NO_PORT, Answer.UNREACHABLE, Answer.GAVE_UP, Answer.SYN_LOST):
            lost[Answer.TIMEOUT] += end - start
        elif answer in lost:
            lost[answer] += end - start
    since = one.start_ns - one.began_ns
    parts = [("earlier attempts", since)] if since else []
    parts += [("refused", lost[Answer.REFUSED]), ("timeout", lost[Answer.TIMEOUT])]
    if lost[Answer.RESET]:
        parts.append(("reset", lost[Answer.RESET]))
    extra = dict(one.extra)
    lookup, waited = extra.get("lookup_ns", 0), extra.get("waited_ns", 0)
    if one.status == -Answer.NO_NAME:
        lookup = one.latency_ns
    parts += [("lookup", lookup)] if lookup else []
    parts += [("SYN", waited)] if waited and one.status != -Answer.SYN_LOST else []
    parts += [("queue", one.queue_ns), ("service", one.service_ns)]
    calling = extra.get("calling_ns", 0)
    if calling:
        parts.append(("calls", calling))
    return (*parts, ("network", one.latency_ns - sum(ns for _, ns in parts)))
