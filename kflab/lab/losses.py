"""Requests that failed or were slowed, as columns: which try each is billed to, who chose its server, and when.

*Slowed*: it went well, but only after a try (or an attempt of its client's) was lost (refused, reset, or a timeout
waited out), counted or not, or after a packet of its lookup or handshake was.
One try stands for the request: of a failed one the last lost try (it decided what the client got), of a slowed one the
try that cost most time. A request that its ingress pod never answered is billed to that pod.
"""

import numpy as np
from numpy.typing import NDArray

from kflab.engine.engine import Engine
from kflab.engine.retrying import attempt_of
from kflab.engine.types import Answer, Finished, Int64Array
from kflab.records import dataclass

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Losses:
    """Columns, shape (n,) each. Indices as in the engine; -1 means none; times in ns."""

    row: Int64Array
    """Place in the finished rows."""
    failed: BoolArray
    """Else slowed."""
    status: Int64Array
    """HTTP status, or -Answer: what the client was told in the end."""
    stream: Int64Array
    server: Int64Array
    """Whom the billed try was sent to."""
    chooser: Int64Array
    """Who picked it, or had nothing to pick."""
    node: Int64Array
    """Node on which the try began: the caller's of a direct one, the ingress pod's of NGINX's."""
    answer: Int64Array
    """Answer of the billed try; NONE where no try was lost (404)."""
    kept: BoolArray
    """It went over a kept connection, or (UDP) by an entry that was there."""
    pick_ns: Int64Array
    """When its server was picked."""
    arrive_ns: Int64Array
    """When its first packet came there."""
    end_ns: Int64Array
    """When its caller knew."""
    start_ns: Int64Array
    """When the request began."""
    finish_ns: Int64Array
    sent: Int64Array
    """How often its client sent it."""

    def __len__(self) -> int:
        return len(self.row)


def ended_with_client(rows: Finished) -> BoolArray:
    """Which finished rows are of requests whose client went away while they were in hand; (n,)."""
    gone: BoolArray = rows.extra.get("told", rows.status) == -Answer.CLIENT_GONE
    return gone


def lost_tries(rows: Finished) -> BoolArray:
    """Which tries got no answer, for all that their caller was there to hear of it; (n, `MAX_TRIES`)."""
    lost: BoolArray = (rows.try_answer > Answer.OK) & (rows.try_answer != Answer.CLIENT_GONE)
    return lost


def lost_mask(rows: Finished) -> tuple[BoolArray, BoolArray]:
    """Which finished rows failed, and which were slowed; (n,) each. What the client was told in the end decides.

    What ended with its client is neither.
    """
    told = rows.extra.get("told", rows.status)
    good = (told >= 200) & (told < 400)
    again = (rows.try_answer > Answer.OK).any(axis=1) | (attempt_of(rows.number) > 0) | _broken(rows)
    if "lost" in rows.extra:
        again |= rows.extra["lost"] > 0
    if "asked" in rows.extra:
        again |= (rows.extra["asked"] >> 24 > 0) | (rows.extra["waited_ns"] > 0)
    return ~good & ~ended_with_client(rows), good & again


def _broken(rows: Finished) -> BoolArray:
    """Which rows did not end well by themselves; (n,)."""
    broken: BoolArray = (rows.status < 200) | (rows.status >= 400)
    return broken


def find_losses(rows: Finished, engine: Engine) -> Losses | None:
    """Pick out the rows that failed or were slowed; None where there are none."""
    if not len(rows):
        return None
    failed_rows, slowed_rows = lost_mask(rows)
    which = np.flatnonzero(failed_rows | slowed_rows)
    if not len(which):
        return None
    engine.compile_paths()
    paths, place = engine.steps.paths, engine.memory.place
    n = np.arange(len(which))
    failed, status, broken = failed_rows[which], rows.status[which].astype(np.int64), _broken(rows)[which]
    stream, node = rows.stream[which].astype(np.int64), rows.node[which].astype(np.int64)
    ingress = rows.ingress[which].astype(np.int64)
    bad = rows.try_answer[which] > Answer.OK
    starts, ends = rows.try_start_ns[which], rows.try_end_ns[which]
    last = bad.shape[1] - 1 - np.argmax(bad[:, ::-1], axis=1)
    longest = np.argmax(np.where(bad, ends - starts, -1), axis=1)
    tried = np.where(broken, last, longest)
    l7 = paths.is_l7[stream]
    # Its client gave up while NGINX waited for this try.
    waiting = (status == -Answer.GAVE_UP) & l7 & (rows.tries[which] > 0)
    tried[waiting] = rows.tries[which[waiting]] - 1

    server = rows.try_server[which, tried].astype(np.int64)
    answer = np.where(bad[n, tried], rows.try_answer[which, tried], Answer.NONE).astype(np.int64)
    answer[waiting] = Answer.GAVE_UP
    kept = (rows.extra["kept"][which] >> tried & 1).astype(bool)
    pick, end = starts[n, tried], ends[n, tried]
    upstream = paths.upstreams.get(stream, ingress)
    entry = paths.entries.get(stream, node)
    chooser = np.where(l7, upstream, entry)
    waited = rows.extra["waited_ns"][which] if "waited_ns" in rows.extra else 0
    pick = np.where(l7, pick, rows.start_ns[which] + paths.to_node[stream] + waited)

    # An error on a kept connection that NGINX did not count: the record has its server only.
    free = ~bad.any(axis=1) & ~waiting & (rows.extra["lost"][which] > 0)
    if free.any():
        server[free] = rows.extra["lost_server"][which[free]]
        answer[free], kept[free] = Answer.RESET, True
        end[free] = pick[free] = starts[free, np.maximum(rows.tries[which[free]].astype(np.int64) - 1, 0)]

    # What the client's own connection met on its way to the ingress pod, or lost with it.
    own = broken & l7 & (status <= 0) & ~waiting
    if own.any():
        server[own], answer[own], kept[own] = ingress[own], -status[own], False
        chooser[own] = entry[own]
        pick[own] = rows.start_ns[which[own]] + paths.to_node[stream[own]]
        end[own] = rows.finish_ns[which[own]]
    # Before its connection: DNS did not answer in time, or a SYN got lost.
    nameless, syn = _before_connecting(rows, which, failed)
    server[nameless | syn] = -1
    answer[nameless], answer[syn] = Answer.NO_NAME, Answer.SYN_LOST
    end[nameless | syn] = rows.finish_ns[which[nameless | syn]]

    off = (node < 0) & paths.balanced[stream]
    chooser[off] = paths.lb[stream[off]]

    near, there = node.copy(), np.full_like(node, -1)
    proxied = l7 & ~own & (ingress >= 0)
    near[proxied] = place[ingress[proxied]]
    there[server >= 0] = place[server[server >= 0]]
    arrive = np.where(free, end, pick + engine.steps.hop_ns(near, there))
    # Where a call behind it stands for a request (see `call_losses`), its client was told something else.
    first = rows.finish_ns - rows.latency_ns
    told, began, ended = (
        rows.extra.get(name, column)[which].astype(np.int64)
        for name, column in (
            ("told", rows.status),
            ("began_ns", first),
            ("ended_ns", rows.finish_ns),
        )
    )
    sent = rows.extra["sent"][which] if "sent" in rows.extra else np.ones(len(which), dtype=np.int64)
    return Losses(
        which, failed, told, stream, server, chooser, near, answer, kept, pick, arrive, end, began, ended, sent
    )


def _before_connecting(rows: Finished, which: Int64Array, failed: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Which of the lost requests are billed to their lookup, and which to a SYN that got lost; (n,) each."""
    none = np.zeros(len(which), dtype=bool)
    if "asked" not in rows.extra:
        return none, none
    status = rows.status[which]
    fine = ~failed & ~(rows.try_answer[which] > Answer.OK).any(axis=1)
    unanswered, waited = rows.extra["asked"][which] >> 24 > 0, rows.extra["waited_ns"][which] > 0
    nameless = (status == -Answer.NO_NAME) | (fine & unanswered)
    return nameless, ~nameless & ((status == -Answer.SYN_LOST) | (fine & waited))
