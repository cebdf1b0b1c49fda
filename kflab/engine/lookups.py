"""What a client waits for before its connection is open: names that it asks for, and SYNs that got lost.

A client with `Stream.names` asks DNS for every request, one name after the other, A and AAAA at once from one socket;
each pair goes to the endpoint of kube-dns that its node's rules pick. No answer in 5 s
(`Timing.dns_timeout_ns`): asked again, twice in all, then
the lookup fails (resolv.conf(5): timeout 5, attempts 2; glibc resolv/res_send.c). An ICMP "port unreachable" counts as
an attempt, without a wait (ECONNREFUSED there). A name that does not exist leads to the next one of the search list
(glibc resolv/res_query.c, __res_context_search); a lookup that timed out ends the search.

With `Stream.lost_per_million` each packet of a lookup or of a handshake is lost with that chance, in either direction.
A SYN without an answer is sent again at the kernel's times (net/ipv4/tcp_timer.c, `SYN_TIMES_NS`). All is drawn per
request at addresses of its own, so nothing else changes by it.

`Col.START` is moved to the end of the lookup: it is when the connection begins, from where patience counts. What was
before is `Col.LOOKUP`; a request's latency is the sum of both.

Simplified: CoreDNS answers at once and cannot be overloaded (`Timing.dns_ns`); an answer to one of the two queries does
not spare the other (glibc then asks once more, one query at a time); the pods of kube-dns are drawn, also where IPVS
takes turns; a SYN that is sent again is judged by the rules of that moment, as after a race in conntrack; packets of an
open connection are not lost.
"""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.bins import Count
from kflab.engine.memory import Col, Stage
from kflab.engine.types import Answer, Behaviour, Int64Array, UInt64Array

if TYPE_CHECKING:
    from kflab.engine.step_state import StepState

DNS_ATTEMPTS = 2
"""RES_DFLRETRY of glibc's resolv.h."""

SYN_TIMES_NS = (0, 1_000_000_000, 3_000_000_000, 7_000_000_000, 15_000_000_000, 31_000_000_000, 63_000_000_000)
"""When a SYN is sent: TCP_TIMEOUT_INIT 1 s, doubling, tcp_syn_retries 6 (Documentation/networking/ip-sysctl.rst)."""
LINEAR_SYN_TIMES_NS = tuple(s * 1_000_000_000 for s in (0, 1, 2, 3, 4, 5, 7, 11))
"""From Linux 6.5 on: tcp_syn_linear_timeouts 4 (commit ccce324dabfe). Later ones are behind every client's patience
and behind the eight draws."""

MOST_NAMES = 100
"""Names that one request asks, at most: a search list has 32 (resolv.conf(5)), and `Col.ASKED` holds 255 questions."""

LINEAR_FROM = (6, 5)

_LOOKUP_ATTEMPT, _SYN_ATTEMPT = 1 << 20, (1 << 20) - 1
"""The part "try" of the addresses of these draws, far from those of tries."""
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_MILLION = 1_000_000


def threshold(lost_per_million: int, packets: int) -> int:
    """The chance, in 2^-32, that at least one of so many packets is lost."""
    whole, passing = pow(_MILLION, packets), pow(_MILLION - lost_per_million, packets)
    return int((1 << 32) - (passing << 32) // whole)


def begin(steps: "StepState", stream: int, rows: Int64Array) -> None:
    """Requests of a stream start: with the first name to ask, or with their SYN."""
    m, paths = steps.memory.flights.m, steps.paths
    if paths.names[stream]:
        m[Col.STAGE, rows] = Stage.LOOKUP
        m[Col.DUE, rows] = m[Col.START, rows]
    else:
        _connect(steps, stream, rows)


def look_up(steps: "StepState", rows: Int64Array, end_ns: int) -> None:
    """Ask until each name is known, the lookup has failed, or the next question is due after the slab."""
    m, paths = steps.memory.flights.m, steps.paths
    while len(rows):
        streams, nodes, times, asked = (m[col, rows] for col in (Col.STREAM, Col.NODE, Col.DUE, Col.ASKED))
        turn = asked >> 16 & 0xFF
        words = steps.draws.rows(paths.address[streams], m[Col.NUMBER, rows], _LOOKUP_ATTEMPT + turn)
        choosers = paths.dns.get(streams, nodes)
        servers, answers, _ = steps.pick_by(choosers, times, words[:, 1] >> _HALF)
        steps.dns_queries += 2 * len(rows)
        meets = np.where(answers == Answer.REJECTED, Behaviour.REFUSES, Behaviour.SILENT)
        hops: Int64Array = np.zeros(len(rows), dtype=np.int64)
        there = servers >= 0
        meets[there] = steps.meets(servers[there], nodes[there])
        hops[there] = steps.hop_ns(nodes[there], steps.memory.place[servers[there]])
        arrives = (words[:, 0] >> _HALF) >= paths.pair_lost[streams]
        answered = arrives & (meets == Behaviour.LISTENS)
        refused = arrives & (meets == Behaviour.REFUSES)
        silent = ~answered & ~refused
        m[Col.DUE, rows] += np.where(
            silent, steps.timing.dns_timeout_ns, 2 * hops + np.where(answered, steps.timing.dns_ns, 0)
        )
        for count, ended in ((Count.SERVER_OK, answered), (Count.SERVER_BAD, there & ~answered)):
            steps.bins.add(count, servers[ended], m[Col.DUE, rows[ended]])
        names = (asked & 0xFF) + answered
        attempt = np.where(answered, 0, (asked >> 8 & 0xFF) + 1)
        m[Col.ASKED, rows] = names | attempt << 8 | turn + 1 << 16 | (asked >> 24) + silent << 24
        known, failed = names == paths.names[streams], attempt == DNS_ATTEMPTS
        _resolved(steps, rows[known])
        _not_resolved(steps, rows[failed])
        rows = rows[~known & ~failed]
        rows = rows[m[Col.DUE, rows] < end_ns]


def _resolved(steps: "StepState", rows: Int64Array) -> None:
    m = steps.memory.flights.m
    m[Col.LOOKUP, rows] = m[Col.DUE, rows] - m[Col.START, rows]
    m[Col.START, rows] = m[Col.DUE, rows]
    m[Col.STAGE, rows] = Stage.NODE
    for stream in np.unique(m[Col.STREAM, rows]).tolist():
        _connect(steps, stream, rows[m[Col.STREAM, rows] == stream])


def _not_resolved(steps: "StepState", rows: Int64Array) -> None:
    """The resolver gives up: no connection is tried."""
    steps.end(rows, -Answer.NO_NAME, steps.memory.flights.m[Col.DUE, rows])


def _connect(steps: "StepState", stream: int, rows: Int64Array) -> None:
    """The SYN sets out, at the first of its times at which neither it nor its answer is lost."""
    m, paths = steps.memory.flights.m, steps.paths
    lost = int(paths.syn_lost[stream])
    if not lost or not len(rows):
        return
    words = steps.draws.rows(int(paths.address[stream]), m[Col.NUMBER, rows], _SYN_ATTEMPT)
    times = np.array(paths.syn_times[stream], dtype=np.int64)
    arrived = _eight(words)[:, : len(times)] >= np.uint64(lost)
    waits = np.where(arrived.any(axis=1), times[arrived.argmax(axis=1)], paths.dial_patience[stream])
    gives_up = waits >= paths.dial_patience[stream]
    m[Col.WAITED, rows] = np.minimum(waits, paths.dial_patience[stream])
    m[Col.DUE, rows] += np.where(gives_up, 0, waits)
    gone = rows[gives_up]
    steps.turned_away(gone, np.full(len(gone), Answer.SYN_LOST), np.zeros(len(gone), dtype=np.int64))


def _eight(words: UInt64Array) -> UInt64Array:
    """Eight draws of 32 bits a row, from its four words."""
    eight: UInt64Array = np.stack((words >> _HALF, words & _LOW), axis=2).reshape(len(words), 8)
    return eight
