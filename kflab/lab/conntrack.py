"""Each node's conntrack table, read out of what the engine holds: requests in flight, kept connections, finished ones.

Nothing is kept twice. An entry is named by opening its request, so that both say the same; a request that finished
lives on in the counts until its entries time out. Not in the tables: what the lab does not send (kubelet's probes,
DNS lookups, the control plane), and TIME_WAIT of connections that NGINX closed for want of room in its pool. Each
connection counts, also one from a source port whose last connection is still in TIME_WAIT (a kernel has one entry for
both). Entries that gave up their port to a masqueraded connection (`source_ports`) leave the count, not the listing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kflab.dataplane.conntrack import (
    UDP_STREAM_AFTER_NS,
    ConntrackSettings,
    Course,
    Entry,
    Life,
    NodeTable,
    Tracked,
    buckets_for,
    life_of,
    tracked_by,
)
from kflab.dataplane.packets import Packet, RequestTrace, join_host_port
from kflab.dataplane.request_back import reply
from kflab.engine.memory import NEVER
from kflab.engine.pools import Connection
from kflab.engine.types import MAX_TRIES, Answer, Finished, Int64Array
from kflab.lab.drop_counters import DropCounters
from kflab.lab.early_drop import EarlyDrop
from kflab.lab.recorded_memory import dropped_on
from kflab.lab.records import Record, record
from kflab.lab.source_ports import SourcePorts
from kflab.lab.table_entries import EndedEntries, Found, found_in
from kflab.lab.tracked_rows import Reading
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import Service

BoolArray = NDArray[np.bool_]

if TYPE_CHECKING:
    from kflab.lab.running import Lab

TICK_NS = 10_000_000
"""How often a table near its maximum is counted."""

LOOK_NS = 500_000_000
"""How often one far from it is."""

ENTRIES_PER_REQUEST = 1 + 2 * MAX_TRIES
"""Most entries that one request makes on one node, tries that were not counted included."""

LISTED = 120
"""Requests opened for one listing at most (a millisecond each)."""

LISTED_PER_KIND = 30
"""Of one stream and one ending at most, so that rare ones are not crowded out."""

_ANSWERS = {
    Answer.OK: "ok",
    Answer.REFUSED: "refused",
    Answer.RESET: "reset",
    Answer.TIMEOUT: "timeout",
    Answer.TABLE_FULL: "timeout",
    Answer.NO_PORT: "timeout",
    Answer.UNREACHABLE: "timeout",
    Answer.CLIENT_GONE: "timeout",
    Answer.REJECTED: "rejected",
    Answer.NO_UPSTREAM: "no upstream",
}


class Conntrack:
    """The nodes' tables.

    Args:
        lab: The lab.
        given: kube-proxy's configuration, if the manifests have one.
    """

    def __init__(self, lab: "Lab", given: KubeProxyConfiguration | None) -> None:
        self._lab = lab
        self.settings = ConntrackSettings.from_object(given)
        self._ended = EndedEntries()
        """Entries of finished requests."""
        self.early = EarlyDrop(lab, self._ended, self.buckets_of)
        self.drops = DropCounters()
        self.ports = SourcePorts(lab, self._reading, self._ended)
        self.limited = self.limits_anyone()
        if self.limited:
            lab.engine.watch = self.watch
        self._nodes: dict[str, str] = {}
        """Pod's address → its node, of the first `_known` servers."""
        self._known = 0
        self._emptied: dict[int, int] = {}
        """Place → when its kernel stopped last, and its table was gone."""
        self._stopping: list[tuple[int, str]] = []
        """(when, node) of kernels that stop later in this slab, in order."""

    def machine_off(self, node: str, t_ns: int) -> None:
        """A node's kernel stops at `t_ns`, now or later in this slab: its table is gone then."""
        self._stopping.append((t_ns, node))
        self._empty(self._lab.t_ns)

    def _empty(self, now_ns: int) -> None:
        """Clear the tables of kernels that have stopped by now; until then they fill as ever."""
        while self._stopping and self._stopping[0][0] <= now_ns:
            t_ns, node = self._stopping.pop(0)
            place = self._place(node)
            if place >= 0:
                self._emptied[place] = t_ns
                self._ended.clear(place)
                self.early.machine_off(place)
                self.ports.machine_off(place, t_ns)

    # --- counts -----------------------------------------------------------------------------------------------

    def add(self, rows: Finished, now_ns: int) -> None:
        """Count the entries that finished requests leave behind; drop what has timed out by now."""
        self._empty(now_ns)
        self._ended.expire(now_ns, len(self._lab.wiring.places))
        if len(rows):
            self._ended.add(self._found(rows, now_ns))
            self.drops.add(rows, self._lab.engine.memory.place)
        self.ports.add(rows, now_ns)
        if self.ports.followed and self._lab.engine.watch is None:
            self._lab.engine.watch = self.watch
            self._lab.engine.next_watch_ns = -(-now_ns // LOOK_NS) * LOOK_NS

    def count(self, node: str) -> int:
        """How many entries a node's table has now."""
        sent = sum(entry.tracked.node == node for entry in self._sent())
        place = self._place(node)
        return sent + (int(self._counts()[place]) if place >= 0 else 0)

    def _place(self, node: str) -> int:
        """Index of a node; -1 for one that no traffic has come near (asking must not number it)."""
        places = self._lab.wiring.places
        return places.index(node) if node in places else -1

    def _counts(self, found: Found | None = None) -> Int64Array:
        """[places] -> entries now, but for those of single requests; of requests under way, these where given."""
        wiring, now_ns = self._lab.wiring, self._lab.t_ns
        if found is None:
            found = self._found(self._lab.engine.in_flight_rows(), now_ns)
        others = [
            self._place(entry.tracked.node) for entry in (*self._kept(), *self._kept_by_clients(), *self._flows())
        ]
        counts = np.bincount(found.places, minlength=len(wiring.places))
        counts += np.bincount(
            np.array([place for place in others if place >= 0], dtype=np.int64), minlength=len(counts)
        )
        self._ended.expire(now_ns, len(wiring.places))
        left = self._ended.left
        return counts[: len(left)] + left

    # --- the limit --------------------------------------------------------------------------------------------

    def limits(self, node: str) -> bool:
        """Whether a node drops at its maximum: where the scenario or the Node's capacity says what that is."""
        obj = self._lab.store.get(Key("Node", "", node))
        return self._lab.spec.conntrack_max > 0 or (isinstance(obj, Node) and obj.cores > 0)

    def limits_anyone(self) -> bool:
        """Whether any node does."""
        return any(self.limits(key.name) for key in self._lab.store.keys("Node"))

    def watch(self, now_ns: int) -> int:
        """Say whose table is full now; return when to look again.

        A kernel looks at every first packet (nf_conntrack_core.c, __nf_conntrack_alloc). Here a node counts as full
        for `TICK_NS` at a time, so its table may exceed the maximum by what comes in one such tick. How it makes room:
        `early_drop`.

        Far from the limit nobody looks more often than every `LOOK_NS`: no tick between can be full, given how many
        requests there are and can come.
        """
        self._lab.collect(now_ns)
        due = [(now_ns // LOOK_NS + 1) * LOOK_NS]
        if self.limited:
            due.append(self._watch_room(now_ns))
        if self.ports.followed:
            due.append(self.ports.look(now_ns))
        return min(due)

    def _watch_room(self, now_ns: int) -> int:
        lab, engine = self._lab, self._lab.engine
        nodes = lab.wiring.places
        most = np.array([self.max_of(node) if self.limits(node) else NEVER for node in nodes], dtype=np.int64)
        rows = engine.in_flight_rows()
        found = self._found(rows, now_ns)
        scan_ns = self.early.look(now_ns, rows, found, lambda: self._counts(self.early.without_gone(rows, found)), most)
        found = self.early.without_gone(rows, found)
        counts = self._counts(found)
        engine.steps.room = self.early.room(rows, found, counts, most)
        mean = engine.arrivals.rows_per_ns() * LOOK_NS
        coming = (engine.in_flight + int(mean + 12 * mean**0.5) + 100) * (1 + lab.wiring.inner.most_calls())
        near = bool((most - counts <= ENTRIES_PER_REQUEST * coming).any())
        step = TICK_NS if near else LOOK_NS
        return min((now_ns // step + 1) * step, scan_ns)

    def _found(self, rows: Finished, now_ns: int) -> Found:
        """The entries of requests that live now."""
        found = self.early.without_gone(rows, found_in(rows, self._reading().connections(rows, now_ns), now_ns))
        for place, t_ns in self._emptied.items():
            found = found.only((found.places != place) | (rows.start_ns[found.rows] >= t_ns))
        return found

    def _reading(self) -> Reading:
        return Reading(self._lab.engine, self.settings, self._udp())

    def _udp(self) -> BoolArray:
        """[streams] -> whether it is UDP."""
        return np.array([wired.entry.port.protocol == "UDP" for wired in self._lab.wiring.wired], dtype=bool)

    def max_of(self, node: str) -> int:
        """nf_conntrack_max of a node."""
        if self._lab.spec.conntrack_max:
            return self._lab.spec.conntrack_max
        obj = self._lab.store.get(Key("Node", "", node))
        return self.settings.max_of(obj.cores if isinstance(obj, Node) else 0)

    def buckets_of(self, node: str) -> int:
        """Size of a node's hash table."""
        return self._lab.spec.conntrack_buckets or buckets_for(self.max_of(node))

    # --- the table --------------------------------------------------------------------------------------------

    def table(self, node: str, protocol: str = "") -> NodeTable:
        """A node's table now.

        Args:
            node: Name of a node.
            protocol: TCP, UDP or SCTP: name entries of this one only; "" names all.
        """
        others = (
            entry
            for entry in (*self._kept(), *self._kept_by_clients(), *self._flows(), *self._sent())
            if entry.tracked.node == node
        )
        found = (*self._of_requests(node, protocol), *others)
        wanted = (entry for entry in found if protocol in ("", entry.tracked.original.protocol))
        place = self._place(node)
        ports = ((self._lab.wiring.servers[server], used) for server, used in self.ports.used(place))
        return NodeTable(
            node, tuple(wanted), self.count(node), self.max_of(node), self.limits(node),
            tuple((join_host_port(ip, port), used) for (ip, port, _, _), used in ports),
            self.drops.no_room(place), self.drops.no_port(place), self.early.evicted(place),
        )  # fmt: skip

    def _of_requests(self, node: str, protocol: str) -> Iterator[Entry]:
        """Entries of requests in flight, then of finished ones, newest first."""
        lab, now_ns = self._lab, self._lab.t_ns
        left: dict[tuple[int, bool, bool], int] = {}
        opened = 0
        for rows, in_flight in self._batches():
            found = self._found(rows, now_ns)
            here = np.unique(found.rows[found.places == self._place(node)])
            for i in here[::-1].tolist():
                entry = lab.wiring.wired[int(rows.stream[i])].entry
                if protocol not in ("", entry.port.protocol):
                    continue
                kind = (entry.index, in_flight, bool(rows.status[i] == 200))
                if left.setdefault(kind, LISTED_PER_KIND) <= 0:
                    continue
                left[kind] -= 1
                opened += 1
                yield from self.entries_of(record(rows, i, in_flight=in_flight), node)
                if opened >= LISTED:
                    return

    def _batches(self) -> Iterator[tuple[Finished, bool]]:
        yield self._lab.engine.in_flight_rows(), True
        for rows in self._lab.sampler.recent_batches():
            yield rows, False

    def entries_of(self, one: Record, node: str = "") -> Iterator[Entry]:
        """The entries that one request has now, on one node or on all."""
        lab = self._lab
        wired = lab.wiring.wired[one.stream]
        protocol = wired.entry.port.protocol
        if wired.stream.connections:
            opened = dict(one.extra).get("opened_ns", 0)
            mine = (entry for entry in self._kept_by_clients(one.stream) if entry.tracked.opened_ns == opened)
            yield from (entry for entry in mine if node in ("", entry.tracked.node))
            return
        trace = lab.reopener.open_record(one)
        keeps = one.ingress >= 0 and wired.stream.keepalive
        dropped = dropped_on(lab, one)
        for tracked in tracked_by(trace.hops, self.node_of):
            if node and tracked.node != node:
                continue
            full = dropped[tracked.try_number] if tracked.try_number < len(dropped) else ""
            if full and (full == tracked.node or (tracked.try_number and full == self._near(one))):
                continue
            if self.early.has_gone(self._place(tracked.node), one, tracked.try_number):
                continue
            course = _course(one, tracked.try_number)
            if keeps and tracked.try_number and course.answer == "ok" and (course.end_ns or 0) <= lab.t_ns:
                continue  # back in NGINX's pool, and listed there
            life = life_of(course, protocol, self.settings, lab.t_ns)
            if life is not None:
                yield Entry(tracked, life)

    def _near(self, one: Record) -> str:
        """The node from which NGINX connects."""
        place = int(self._lab.engine.memory.place[one.ingress]) if one.ingress >= 0 else -1
        return self._lab.wiring.places[place] if place >= 0 else ""

    def node_of(self, address: str) -> str:
        """The node that an address was on, also when its pod is gone: a node keeps its pod CIDR."""
        wiring = self._lab.wiring
        for ip, _, _, pod in wiring.servers[self._known :]:
            place = int(self._lab.engine.memory.place[self._known])
            if pod is not None and place >= 0:
                self._nodes[ip] = wiring.places[place]
            self._known += 1
        return self._nodes.get(address) or self._lab.world.node_of(address)

    # --- connections that no request is using -----------------------------------------------------------------

    def _kept(self) -> Iterator[Entry]:
        """Idle upstream connections of NGINX, and those that idled out and were not looked at since."""
        lab = self._lab
        pools = lab.engine.memory.pools
        for ingress, connection in pools:
            idle_ns = pools.limits_of(ingress).idle_ns
            sent, arrived = self._pool_packets(ingress, connection)
            ends_ns = connection.idle_since_ns + min(idle_ns, connection.pod_idle_ns or idle_ns)
            course = Course(0, ends_ns, "ok", True, connection.idle_since_ns)
            life = life_of(course, "TCP", self.settings, lab.t_ns)
            ends = {self.node_of(sent.src): sent}
            ends.setdefault(self.node_of(arrived.dst), arrived)
            for node, packet in ends.items():
                if life is not None and node:
                    yield Entry(Tracked(node, packet, reply(arrived), 1), life)

    def _pool_packets(self, ingress: int, connection: Connection) -> tuple[Packet, Packet]:
        """A kept connection as NGINX opened it, and as it reached its pod."""
        wiring = self._lab.wiring
        source = wiring.servers[ingress][0]
        ip, port, _, _ = wiring.servers[connection.server]
        arrived = Packet(source, connection.source_port, ip, port)
        kind, index = connection.key
        if kind == "server":
            return arrived, arrived
        chooser = wiring.choosers[index]
        service = self._lab.store.get(chooser.service) if chooser.service else None
        if not isinstance(service, Service):
            return arrived, arrived
        return Packet(source, connection.source_port, service.cluster_ip, chooser.service_port), arrived

    def _flows(self) -> Iterator[Entry]:
        """Entries of UDP senders with one source port: on their own node, and on their endpoint's."""
        lab, timing = self._lab, self._lab.engine.timing
        for (stream, place), flow in sorted(lab.engine.memory.udp.flows.items()):
            wired = lab.wiring.wired[stream]
            ip, port, _, _ = lab.wiring.servers[flow.server]
            host, _, dialled = wired.stream.destination.rpartition(":")
            sent = Packet(wired.stream.client, wired.stream.flow_port, host.strip("[]"), int(dialled), "UDP")
            arrived = Packet(sent.src, sent.sport, ip, port, "UDP")
            assured = flow.replied and flow.last_ns > flow.created_ns + UDP_STREAM_AFTER_NS
            life = Life("", flow.last_ns + flow.timeout_ns(timing), unreplied=not flow.replied, assured=assured)
            seen = {lab.wiring.places[place]: sent}
            seen.setdefault(self.node_of(ip), arrived)
            for node, packet in seen.items():
                if node and life.expires_ns > lab.t_ns:
                    yield Entry(Tracked(node, packet, reply(arrived), 0, flow.created_ns), life)

    def _kept_by_clients(self, stream: int = -1) -> Iterator[Entry]:
        """Entries of connections that clients keep open, on the client's node and on the pod's; of one stream or all.

        Simplified: the entry of one that ended is not listed in TIME_WAIT, CLOSE or FIN_WAIT.
        """
        lab = self._lab
        known = lab.engine.memory.connections
        for one in sorted((*known.current.values(), *known.leaving.values()), key=lambda one: one.opened_ns):
            course = Course(one.opened_ns, None, "", one.established, one.last_ns)
            life = life_of(course, "TCP", self.settings, lab.t_ns)
            over = one.until_ns <= lab.t_ns and not one.in_hand
            if life is None or over or stream not in (-1, one.stream):
                continue
            client = lab.wiring.wired[one.stream].stream
            ip, port, _, _ = lab.wiring.servers[one.server]
            host, _, dialled = client.destination.rpartition(":")
            sent = Packet(client.client, one.port, host.strip("[]"), int(dialled))
            arrived = Packet(sent.src, sent.sport, ip, port)
            seen = {lab.wiring.places[one.place]: sent}
            seen.setdefault(self.node_of(ip), arrived)
            for node, packet in seen.items():
                if node:
                    yield Entry(Tracked(node, packet, reply(arrived), 0, one.opened_ns), life)

    def _sent(self) -> Iterator[Entry]:
        """Entries of single requests (`curl`), which the walker sends alone."""
        for trace in self._lab.singles.sent():
            for tracked in tracked_by(trace.hops, self.node_of):
                life = life_of(_course_of_sent(trace, tracked.try_number), "TCP", self.settings, self._lab.t_ns)
                if life is not None:
                    yield Entry(tracked, life)


def _course(one: Record, try_number: int) -> Course:
    """How the client's connection (0) or a try's went."""
    if try_number == 0 and one.ingress >= 0:
        ended = one.finish_ns != NEVER
        answer = "ok" if one.status > 0 else _ANSWERS.get(-one.status, "")
        return Course(one.start_ns, one.finish_ns if ended else None, answer if ended else "", one.tries > 0)
    k = max(try_number - 1, 0)
    answer = _ANSWERS.get(one.answers[k], "") if k < len(one.answers) else "rejected"
    if k >= len(one.answers):
        return Course(one.start_ns, one.start_ns, answer)
    end_ns = one.try_ends_ns[k] if answer else None
    return Course(one.try_starts_ns[k], end_ns, answer, one.workers[k] >= 0)


def _course_of_sent(trace: RequestTrace, try_number: int) -> Course:
    """How a connection of a single request went: it takes no time but its latency."""
    end_ns = trace.t_start_ns + (trace.latency_ns or 0)
    lost = ("refused", "timeout", "reset")
    if try_number == 0 and trace.status.isdigit():
        return Course(trace.t_start_ns, end_ns, "ok", True)
    outcomes = [hop.outcome for hop in trace.hops if hop.try_number == max(try_number, 1) and hop.outcome in lost]
    answer = outcomes[-1] if outcomes else "ok" if trace.status.isdigit() else trace.status
    return Course(trace.t_start_ns, end_ns, answer, answer in ("ok", "reset"))
