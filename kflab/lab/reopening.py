"""Opening a request that happened: the walker gets the same rules, draws and memory that the batch used."""

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from kflab.dataplane.packets import RequestTrace, join_host_port
from kflab.dataplane.request import Choices, Request, TryRecord, trace_request
from kflab.dataplane.request import Record as WalkRecord
from kflab.dataplane.request_record import CLIENT_GONE, UNREACHABLE
from kflab.engine.addresses import ephemeral_ports, flow_hashes, flow_salt
from kflab.engine.retrying import request_of
from kflab.engine.types import MAX_TRIES, Answer, Choice, Pick
from kflab.errors import KflabError
from kflab.lab.choosers import Wired
from kflab.lab.gantt import BILL_IDS
from kflab.lab.kept_connections import kept_port, over_kept
from kflab.lab.lookups import after_lookup, ended_early
from kflab.lab.opened_calls import called_by_name, with_calls
from kflab.lab.records import Record, status_text
from kflab.lab.retried import attempts_before, with_attempts
from kflab.lab.snapshot import TraceRow, TraceTry
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service

if TYPE_CHECKING:
    from kflab.lab.running import Lab
from kflab.lab.parts import parts_of
from kflab.lab.recorded_memory import memory_of

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
    Answer.CLIENT_GONE: CLIENT_GONE,
}


UNDER_WAY = ""
"""The answer of a try that has none yet."""


class Reopener:
    """Opens requests that happened, and tells what their rows say."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab

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
        caller, home = self._caller(wired, one), wired.home_at(one.start_ns, one.finish_ns)
        if caller >= 0:
            return self._lab.wiring.servers[caller][0]
        return home.address if home is not None else wired.entry.client

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

    def open(self, trace_id: int) -> RequestTrace:
        """Open a sampled request, or (negative ids) one that `curl` sent.

        Raises:
            KflabError: If it is no longer kept.
        """
        if trace_id < 0:
            return self._lab.singles.find(trace_id)
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
        home = wired.home_at(one.start_ns, one.finish_ns)
        pod = lab.wiring.servers[caller][3] if caller >= 0 else home.pod if home is not None else None
        place = lab.wiring.index.place(home.node) if home is not None else one.node if caller >= 0 else -1
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
                    lab.wiring.index.address(server) if server >= 0 else "",
                )
                for server, answer, start, end in zip(
                    one.servers, one.answers, one.try_starts_ns, one.try_ends_ns, strict=True
                )
            ),
            lb_ns=one.start_ns + timing.client_lb_ns if outside else None,
            entry_ns=one.start_ns + timing.client_lb_ns + timing.lb_node_ns if outside else one.start_ns + waited,
            queue_ns=one.queue_ns, service_ns=one.service_ns,
            node=lab.wiring.places[one.node] if one.node >= 0 else "",
            ingress=lab.wiring.index.address(one.ingress) if one.ingress >= 0 else "",
        )  # fmt: skip
        hashed = self._lb_choice(wired, client_port, first[Choice.ARRIVAL]) if entry.balanced and outside else None
        choices = Choices(entry_word, backend, hashed, upstream_ports)
        trace = trace_request(self._lab.world, request, choices, memory_of(self._lab, wired, one), record)
        trace = called_by_name(trace, entry.host) if caller >= 0 else trace
        trace = over_kept(replace(trace, url=entry.url, parts=parts_of(one)), wired, one)
        return ended_early(after_lookup(trace, one, timing.dns_timeout_ns), one)

    @staticmethod
    def _lb_choice(wired: Wired, client_port: int, word: int) -> int:
        """The u32 by which the batch chose a node: the flow's hash, or the draw of a balancer that takes turns."""
        # An ALB draws, also where its rules have no target group for these requests any more.
        if wired.entry.alb is not None or (wired.lb is not None and wired.lb.picker in (Pick.RANDOM, Pick.SCHEDULED)):
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
        node = self._lab.store.last(Key("Node", "", self._lab.wiring.places[one.node]))
        return (cast(Node, node).internal_ips[0], entry.port.node_port) if node else None


def _flow_hash(wired: Wired, client_port: int) -> int:
    """The load balancer's hash as the batch made it: of the stream's addresses as they were when it began."""
    salt = np.array([flow_salt(wired.stream.client, wired.stream.destination)], dtype=np.uint64)
    return int(flow_hashes(salt, np.array([client_port]))[0])


def _walkable(url: str) -> str:
    """The URL as the walker takes it apart: to a UDP Service it is an address and a port, as to any other."""
    return f"tcp{url[3:]}" if url.startswith("udp://") else url


def _port(word: int) -> int:
    return int(ephemeral_ports(np.array([word], dtype=np.uint64))[0])
