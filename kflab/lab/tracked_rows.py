"""Rows of requests read as connections: from where to where each went, and when its conntrack entries time out."""

from collections.abc import Iterator

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
)
from kflab.engine.engine import Engine
from kflab.engine.memory import NEVER
from kflab.engine.types import MAX_TRIES, Answer, Finished, Int64Array
from kflab.records import dataclass

BoolArray = NDArray[np.bool_]


LOOSE, CLOSING, FIRM = range(3)
"""What a full table may do with an entry: evict it at once (not ASSURED: SYN_SENT, and UDP until it is a stream), let
its collector take it (TCP that closes, nf_conntrack_proto_tcp.c, tcp_can_early_drop), or nothing."""


_SILENT = (Answer.TIMEOUT, Answer.TABLE_FULL, Answer.UNREACHABLE, Answer.GAVE_UP, Answer.CLIENT_GONE)
"""Nobody answered the SYN (an ICMP error leaves its entry as it is), or the caller, or its kernel, closed first."""


@dataclass(frozen=True, slots=True)
class Connections:
    """One connection of each of some requests: the client's to an ingress, or one try's. Arrays of one length."""

    try_number: int
    """0: the client's to an ingress server; else the try's number, from 1."""
    rows: Int64Array
    """Which requests."""
    near: Int64Array
    """Place where its caller's packets meet Service rules; -1 none."""
    far: Int64Array
    """Place of its server; -1 where no packet came there."""
    servers: Int64Array
    starts: Int64Array
    """When it was opened, ns."""
    until: Int64Array
    """When its entries time out, ns: `NEVER` while it is open, 0 where it left none."""
    closed: BoolArray
    """Whether they are in TIME_WAIT or CLOSE."""
    kinds: Int64Array
    """`LOOSE`, `CLOSING` or `FIRM`."""

    def only(self, some: Int64Array) -> "Connections":
        """Those of some requests, by their places here."""
        return Connections(
            self.try_number, self.rows[some], self.near[some], self.far[some], self.servers[some], self.starts[some],
            self.until[some], self.closed[some], self.kinds[some],
        )  # fmt: skip


class Reading:
    """Reads rows under one kube-proxy's settings.

    Args:
        engine: For where servers are, and which streams keep connections.
        settings: Timeouts.
        udp: [streams] -> whether it is UDP.
    """

    def __init__(self, engine: Engine, settings: ConntrackSettings, udp: BoolArray) -> None:
        self._engine, self._settings, self._udp = engine, settings, udp
        self._closing = {state: settings.tcp_s(state) * SECOND for state in (TIME_WAIT, CLOSE, FIN_WAIT, SYN_SENT)}

    def connections(self, rows: Finished, now_ns: int) -> Iterator[Connections]:
        """Every connection of the requests, grouped by its place in them.

        Connections on which nothing is tracked (no rule let the packet pass) are left out where that shows in the row,
        else their `until` is 0.
        """
        place_of, paths = self._engine.memory.place, self._engine.steps.paths
        node, ingress = rows.node.astype(np.int64), rows.ingress.astype(np.int64)
        through = ingress >= 0
        gate = np.where(through, place_of[ingress], -1) if len(place_of) else ingress
        open_ = rows.finish_ns > now_ns
        settled = np.where(rows.status > 0, Answer.OK, -rows.status.astype(np.int64))
        client = np.where(open_ & (settled != Answer.NO_PORT), Answer.NONE, settled)
        until = self._tcp(client, rows.start_ns, rows.finish_ns, rows.tries > 0, now_ns)
        some, every = np.flatnonzero(through), np.arange(len(through))
        if len(some):
            kinds = _kinds(client, until, rows.tries > 0)
            far, over = _passed(settled, gate), _closed(client) & ~open_
            yield Connections(0, every, node, far, ingress, rows.start_ns, until, over, kinds).only(some)
        caller = np.where(through, gate, node)
        keeps = through & paths.keepalive[rows.stream]
        udp, fixed = self._udp[rows.stream], paths.flow_port[rows.stream] + paths.connections[rows.stream] > 0
        for k in range(MAX_TRIES):
            server, answer = rows.try_server[:, k].astype(np.int64), rows.try_answer[:, k].astype(np.int64)
            # One entry stands for all datagrams of a fixed source port (`udpflows`), or for all requests over a
            # connection that the client keeps (`connections`).
            some = np.flatnonzero((server >= 0) & ~fixed)
            if not (server >= 0).any():
                continue
            start, end = rows.try_start_ns[:, k], rows.try_end_ns[:, k]
            accepted = rows.try_worker[:, k] >= 0
            until = self._tcp(answer, start, end, accepted, now_ns)
            kinds = _kinds(answer, until, accepted)
            until = np.where(keeps & (answer == Answer.OK) & (end <= now_ns), 0, until)  # back in NGINX's pool
            if udp.any():
                until = np.where(udp, self._udp_until(answer, start, end, now_ns), until)
                kinds = np.where(udp, np.where(_udp_stream(answer, start, end, now_ns), FIRM, LOOSE), kinds)
            over = _closed(answer) & (end <= now_ns) & ~udp
            far = _passed(answer, place_of[server])
            yield Connections(k + 1, every, caller, far, server, start, until, over, kinds).only(some)

    def _tcp(
        self, answer: Int64Array, start: Int64Array, end: Int64Array, accepted: BoolArray, now_ns: int
    ) -> Int64Array:
        closing = self._closing
        until = np.zeros(len(answer), dtype=np.int64)
        until = np.where(answer == Answer.OK, end + closing[TIME_WAIT], until)
        until = np.where(answer == Answer.RESET, end + closing[CLOSE], until)
        silent = np.isin(answer, _SILENT)
        until = np.where(silent & accepted, end + closing[FIN_WAIT], until)
        until = np.where(silent & ~accepted, _last_syns(start, end) + closing[SYN_SENT], until)
        # A try whose caller went away before it knew ended with it.
        until = np.where((answer == Answer.NONE) & (end > 0), end + closing[CLOSE], until)
        open_ = (((answer == Answer.NONE) & (end <= 0)) | (end > now_ns)) & (answer != Answer.NO_PORT)
        return np.where(open_, NEVER, until)

    def _udp_until(self, answer: Int64Array, start: Int64Array, end: Int64Array, now_ns: int) -> Int64Array:
        settings = self._settings
        replied, stream = (answer == Answer.OK) & (end <= now_ns), _udp_stream(answer, start, end, now_ns)
        until = np.where(replied, end, start) + np.where(stream, settings.udp_stream_ns, settings.udp_ns)
        return np.where(answer == Answer.NO_PORT, 0, until)


def _passed(answer: Int64Array, far: Int64Array) -> Int64Array:
    """A packet that a full table dropped left an entry on the caller's node at most."""
    return np.where(answer == Answer.TABLE_FULL, -1, far)


def _udp_stream(answer: Int64Array, start: Int64Array, end: Int64Array, now_ns: int) -> BoolArray:
    """Answered, and that not in the first two seconds."""
    stream: BoolArray = (answer == Answer.OK) & (end <= now_ns) & (end - start > UDP_STREAM_AFTER_NS)
    return stream


def _kinds(answer: Int64Array, until: Int64Array, accepted: BoolArray) -> Int64Array:
    """What a full table may do with TCP entries that end at `until` (`NEVER`: open)."""
    open_ = until == NEVER
    silent = np.isin(answer, _SILENT)
    loose = ~accepted & (open_ | silent)
    return np.where(loose, LOOSE, np.where(open_, FIRM, CLOSING))


def _closed(answer: Int64Array) -> BoolArray:
    closed: BoolArray = (answer == Answer.OK) | (answer == Answer.RESET)
    return closed


def _last_syns(start: Int64Array, until: Int64Array) -> Int64Array:
    waits = np.array(SYN_RETRIES_NS, dtype=np.int64)
    return start + waits[np.maximum(np.searchsorted(waits, until - start, side="right") - 1, 0)]
