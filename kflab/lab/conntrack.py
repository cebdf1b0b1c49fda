"""Each node's conntrack table, read out of what the engine holds: requests in flight, kept connections, finished ones.

Nothing is kept twice. An entry is named by opening its request, so that both say the same; a request that finished
lives on in the counts until its entries time out. Not in the tables: what the lab does not send (kubelet's probes,
DNS lookups, the control plane), and TIME_WAIT of connections that NGINX closed for want of room in its pool.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kflab.dataplane.conntrack import (
    CLOSE,
    FIN_WAIT,
    SECOND,
    SYN_RETRIES_NS,
    SYN_SENT,
    TIME_WAIT,
    UDP_STREAM_AFTER_NS,
    ConntrackSettings,
    Course,
    Entry,
    Life,
    NodeTable,
    Tracked,
    life_of,
    tracked_by,
)
from kflab.dataplane.packets import Packet, RequestTrace
from kflab.dataplane.request_back import reply
from kflab.engine.memory import NEVER
from kflab.engine.pools import Connection
from kflab.engine.types import MAX_TRIES, Answer, Finished, Int64Array
from kflab.lab.records import Record, record
from kflab.manifest.objects import Key, KubeProxyConfiguration, Node, Service

BoolArray = NDArray[np.bool_]

if TYPE_CHECKING:
    from kflab.lab.running import Lab

BIN_NS = 100_000_000
"""Finished requests' entries leave the count at the first multiple of this after their timeout: counts are exact at
every tenth of a second. (The kernel's own count holds expired entries until its collector comes by, gc_worker.)"""

LISTED = 120
"""Requests opened for one listing at most (a millisecond each)."""

LISTED_PER_KIND = 30
"""Of one stream and one ending at most, so that rare ones are not crowded out."""

_ANSWERS = {
    Answer.OK: "ok",
    Answer.REFUSED: "refused",
    Answer.RESET: "reset",
    Answer.TIMEOUT: "timeout",
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
        self._ending: dict[int, Int64Array] = {}
        """Bin of the timeout → entries of finished requests per place."""

    # --- counts -----------------------------------------------------------------------------------------------

    def add(self, rows: Finished, now_ns: int) -> None:
        """Count the entries that finished requests leave behind; drop what has timed out by now."""
        for done in [place for place in self._ending if place * BIN_NS <= now_ns]:
            del self._ending[done]
        if not len(rows):
            return
        places, ends, _ = self._ends(rows, now_ns)
        n_places = len(self._lab.wiring.places)
        bins = -(-ends // BIN_NS)
        first = int(bins.min()) if len(bins) else 0
        counts = np.bincount((bins - first) * n_places + places)
        for k in range(-(-len(counts) // n_places)):
            part = counts[k * n_places : (k + 1) * n_places]
            if part.any():
                known = self._ending.setdefault(first + k, np.zeros(n_places, dtype=np.int64))
                if len(known) < len(part):
                    known = self._ending[first + k] = np.append(known, np.zeros(len(part) - len(known), dtype=np.int64))
                known[: len(part)] += part

    def count(self, node: str) -> int:
        """How many entries a node's table has now."""
        place, now_ns = self._lab.wiring.place(node), self._lab.t_ns
        finished = sum(
            int(known[place]) for end, known in self._ending.items() if end * BIN_NS > now_ns and place < len(known)
        )
        places, _, _ = self._ends(self._lab.engine.in_flight_rows(), now_ns)
        others = len((*self._kept(node), *self._flows(node), *self._sent(node)))
        return finished + int((places == place).sum()) + others

    def _ends(self, rows: Finished, now_ns: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        """When the entries of requests time out: (place, end in ns or NEVER while open, row), one each per entry."""
        places: list[Int64Array] = []
        ends: list[Int64Array] = []
        indices: list[Int64Array] = []
        place_of, paths = self._lab.engine.memory.place, self._lab.engine.steps.paths
        settings = self.settings
        closing = {state: settings.tcp_s(state) * SECOND for state in (TIME_WAIT, CLOSE, FIN_WAIT, SYN_SENT)}

        def add(some: BoolArray, near: Int64Array, far: Int64Array, until: Int64Array) -> None:
            for where, mask in ((near, near >= 0), (far, (far >= 0) & (far != near))):
                rows_here = np.flatnonzero(some & mask & (until > now_ns))
                places.append(where[rows_here].astype(np.int64))
                ends.append(until[rows_here])
                indices.append(rows_here)

        def tcp(answer: Int64Array, start: Int64Array, end: Int64Array, accepted: BoolArray) -> Int64Array:
            until = np.zeros(len(answer), dtype=np.int64)
            until = np.where(answer == Answer.OK, end + closing[TIME_WAIT], until)
            until = np.where(answer == Answer.RESET, end + closing[CLOSE], until)
            silent = answer == Answer.TIMEOUT
            until = np.where(silent & accepted, end + closing[FIN_WAIT], until)
            until = np.where(silent & ~accepted, _last_syns(start, end) + closing[SYN_SENT], until)
            return np.where((answer == Answer.NONE) | (end > now_ns), NEVER, until)

        node, ingress = rows.node.astype(np.int64), rows.ingress.astype(np.int64)
        through = ingress >= 0
        gate = np.where(through, place_of[ingress], -1) if len(place_of) else ingress
        open_ = rows.finish_ns > now_ns
        client = np.where(rows.status > 0, Answer.OK, -rows.status.astype(np.int64))
        client = np.where(open_, Answer.NONE, client)
        add(through, node, gate, tcp(client, rows.start_ns, rows.finish_ns, rows.tries > 0))
        caller = np.where(through, gate, node)
        keeps = through & paths.keepalive[rows.stream]
        udp, fixed = self._udp()[rows.stream], paths.flow_port[rows.stream] > 0
        for k in range(MAX_TRIES):
            server, answer = rows.try_server[:, k].astype(np.int64), rows.try_answer[:, k].astype(np.int64)
            reached = server >= 0
            if not reached.any():
                continue
            start, end = rows.try_start_ns[:, k], rows.try_end_ns[:, k]
            until = tcp(answer, start, end, rows.try_worker[:, k] >= 0)
            until = np.where(keeps & (answer == Answer.OK) & (end <= now_ns), 0, until)  # back in NGINX's pool
            if udp.any():
                until = np.where(udp, self._udp_ends(answer, start, end, now_ns), until)
            # One entry stands for all datagrams of a fixed source port, see `_flows`; elsewhere they make one as well.
            add(reached & ~fixed, caller, place_of[server], until)
        return np.concatenate(places), np.concatenate(ends), np.concatenate(indices)

    def _udp_ends(self, answer: Int64Array, start: Int64Array, end: Int64Array, now_ns: int) -> Int64Array:
        replied = (answer == Answer.OK) & (end <= now_ns)
        stream = replied & (end - start > UDP_STREAM_AFTER_NS)
        return np.where(replied, end, start) + np.where(stream, self.settings.udp_stream_ns, self.settings.udp_ns)

    def _udp(self) -> BoolArray:
        """[streams] -> whether it is UDP."""
        return np.array([wired.entry.port.protocol == "UDP" for wired in self._lab.wiring.wired], dtype=bool)

    def max_of(self, node: str) -> int:
        """nf_conntrack_max of a node."""
        obj = self._lab.store.get(Key("Node", "", node))
        return self.settings.max_of(obj.cores if isinstance(obj, Node) else 0)

    # --- the table --------------------------------------------------------------------------------------------

    def table(self, node: str, protocol: str = "") -> NodeTable:
        """A node's table now.

        Args:
            node: Name of a node.
            protocol: TCP, UDP or SCTP: name entries of this one only; "" names all.
        """
        found = (*self._of_requests(node, protocol), *self._kept(node), *self._flows(node), *self._sent(node))
        wanted = (entry for entry in found if protocol in ("", entry.tracked.original.protocol))
        return NodeTable(node, tuple(wanted), self.count(node), self.max_of(node))

    def _of_requests(self, node: str, protocol: str) -> Iterator[Entry]:
        """Entries of requests in flight, then of finished ones, newest first."""
        lab, now_ns = self._lab, self._lab.t_ns
        left: dict[tuple[int, bool, bool], int] = {}
        opened = 0
        for rows, in_flight in self._batches():
            places, ends, indices = self._ends(rows, now_ns)
            here = np.unique(indices[(places == lab.wiring.place(node)) & (ends > now_ns)])
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
        trace = lab.reopener.open_record(one)
        keeps = one.ingress >= 0 and wired.stream.keepalive
        for tracked in tracked_by(trace.hops, self.node_of):
            if node and tracked.node != node:
                continue
            course = _course(one, tracked.try_number)
            if keeps and tracked.try_number and course.answer == "ok" and (course.end_ns or 0) <= lab.t_ns:
                continue  # back in NGINX's pool, and listed there
            life = life_of(course, protocol, self.settings, lab.t_ns)
            if life is not None:
                yield Entry(tracked, life)

    def node_of(self, address: str) -> str:
        """The node that an address was on, also when its pod is gone: a node keeps its pod CIDR."""
        wiring = self._lab.wiring
        for index, (ip, _, _, pod) in enumerate(wiring.servers):
            if ip == address and pod is not None:
                place = int(self._lab.engine.memory.place[index])
                return wiring.places[place] if place >= 0 else ""
        return self._lab.reopener.world.node_of(address)

    # --- connections that no request is using -----------------------------------------------------------------

    def _kept(self, node: str) -> Iterator[Entry]:
        """Idle upstream connections of NGINX, and those that idled out and were not looked at since."""
        lab = self._lab
        idle_ns = lab.engine.timing.keepalive_idle_ns
        for ingress, connection in lab.engine.memory.pools:
            sent, arrived = self._pool_packets(ingress, connection)
            course = Course(0, connection.idle_since_ns + idle_ns, "ok", True, connection.idle_since_ns)
            life = life_of(course, "TCP", self.settings, lab.t_ns)
            ends = {self.node_of(sent.src): sent}
            ends.setdefault(self.node_of(arrived.dst), arrived)
            if life is not None and node in ends:
                yield Entry(Tracked(node, ends[node], reply(arrived), 1), life)

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

    def _flows(self, node: str) -> Iterator[Entry]:
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
            if node in seen and life.expires_ns > lab.t_ns:
                yield Entry(Tracked(node, seen[node], reply(arrived), 0, flow.created_ns), life)

    def _sent(self, node: str) -> Iterator[Entry]:
        """Entries of single requests (`curl`), which the walker sends alone."""
        for trace in self._lab.reopener.sent():
            for tracked in tracked_by(trace.hops, self.node_of):
                life = life_of(_course_of_sent(trace, tracked.try_number), "TCP", self.settings, self._lab.t_ns)
                if tracked.node == node and life is not None:
                    yield Entry(tracked, life)


def _last_syns(start: Int64Array, until: Int64Array) -> Int64Array:
    waits = np.array(SYN_RETRIES_NS, dtype=np.int64)
    return start + waits[np.maximum(np.searchsorted(waits, until - start, side="right") - 1, 0)]


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
