"""What the event loop does for connections that a virtual server counts (see `ipvs_counts`): when they are over.

Of a request that is the client's connection (its load balancer's, its pod's), over when the client knows how it ended,
and each try of an ingress server at a ClusterIP, over when NGINX knows. Connections that are kept count until they are
closed: by NGINX after their idle time, by a client as `connections` says.
"""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.connections import ClientConnection
from kflab.engine.ipvs_counts import CLOSE_NS, CLOSE_WAIT_NS, SYN_RECV_NS, TIME_WAIT_NS
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.types import MAX_TRIES, Answer, Int64Array

if TYPE_CHECKING:
    from kflab.engine.steps import Steps


def next_end(steps: "Steps", flight: list[int]) -> int:
    """When the next of a request's connections that are counted is over, as far as that is known; else `NEVER`."""
    return min((end for _, end in _ends(steps, flight)), default=NEVER)


def _ends(steps: "Steps", flight: list[int]) -> list[tuple[int, int]]:
    """(part, when it is over) of a request's connections that are counted, where that is known."""
    known, stream, number = steps.memory.schedulers.open, flight[Col.STREAM], flight[Col.NUMBER]
    answered = flight[Col.STAGE] == Stage.ANSWER
    found = [(0, flight[Col.DUE])] if answered and (stream, number, 0) in known else []
    if not steps.paths.is_l7[stream]:
        return found
    for k in range(MAX_TRIES):
        if (stream, number, k + 1) not in known:
            continue
        if flight[Col.STAGE] == Stage.TRY and k == flight[Col.TRIES]:
            found.append((k + 1, flight[Col.DUE]))  # a kept one that broke: the try is made anew, uncounted
            continue
        kept = flight[Col.STAGE] == Stage.RELEASE and k == flight[Col.TRIES] - 1
        if not kept and (answered or flight[Col.ANSWER0 + k] != Answer.NONE):
            found.append((k + 1, flight[Col.TRY_END0 + k] or flight[Col.OUT]))
    return found


def with_ending(steps: "Steps", rows: Int64Array, end_ns: int) -> Int64Array:
    """Add to the rows that the event loop takes those of which a counted connection is over before `end_ns`."""
    m, used = steps.memory.flights.m, steps.memory.flights.used
    through = (m[Col.TURNS, :used] != 0) | (m[Col.KEPT, :used] != 0)
    through &= m[Col.DUE, :used] != NEVER
    through[rows] = False
    answered = m[Col.STAGE, :used] == Stage.ANSWER
    over = answered & (m[Col.DUE, :used] < end_ns)
    for k in range(MAX_TRIES):
        known = answered | (m[Col.ANSWER0 + k, :used] != Answer.NONE)
        over |= known & (m[Col.SERVER0 + k, :used] >= 0) & (m[Col.TRY_END0 + k, :used] < end_ns)
    asked = np.flatnonzero(through & over)
    ending = [row for row in asked.tolist() if next_end(steps, m[:, row].tolist()) < end_ns]
    return np.concatenate((rows, np.array(ending, dtype=np.int64)))


def close_ended(steps: "Steps", flight: list[int], t_ns: int) -> None:
    """Let a request's connections be over that are so by now, `t_ns`."""
    stream, l7 = flight[Col.STREAM], bool(steps.paths.is_l7[flight[Col.STREAM]])
    for part, end in _ends(steps, flight):
        if end > t_ns:
            continue
        if part:
            answer, start = flight[Col.ANSWER0 + part - 1], flight[Col.TRY_START0 + part - 1]
            accepted = flight[Col.WORKER0 + part - 1] >= 0
            if flight[Col.STAGE] == Stage.TRY and part > flight[Col.TRIES]:
                answer = Answer.RESET
        elif l7:
            answer = Answer.OK if flight[Col.STATUS] > 0 else -flight[Col.STATUS]
            start, accepted = flight[Col.START], flight[Col.OUT] != 0
        else:
            answer, start, accepted = flight[Col.ANSWER0], flight[Col.START], flight[Col.WORKER0] >= 0
        close(steps, (stream, flight[Col.NUMBER], part), answer, accepted, start, end)


def close(steps: "Steps", key: tuple[int, int, int], answer: int, accepted: bool, start_ns: int, t_ns: int) -> None:
    """Let a connection be over now, `t_ns`, if it is counted; it is forgotten as in `lingering`."""
    schedulers = steps.memory.schedulers
    found = schedulers.open.get(key)
    if found is None:
        return
    lasts_ns, stays_active = _lasts(answer, accepted, start_ns, t_ns)
    udp_ns = schedulers.servers[found[0]].udp_ns
    if udp_ns:  # the last datagram was the answer, or the request
        lasts_ns, stays_active = udp_ns - (0 if answer == Answer.OK else t_ns - start_ns), False
    schedulers.close(key, t_ns, lasts_ns, stays_active)


def _lasts(answer: int, accepted: bool, start_ns: int, t_ns: int) -> tuple[int, bool]:
    """How long the entry of a connection lasts that ended so, and whether it counts as active until then."""
    if answer == Answer.OK:
        return TIME_WAIT_NS, False
    if answer in (Answer.REFUSED, Answer.RESET, Answer.NONE):
        return CLOSE_NS, False
    if answer in (Answer.TIMEOUT, Answer.GAVE_UP, Answer.CLIENT_GONE) and accepted:
        return CLOSE_WAIT_NS, False
    return max(0, start_ns + SYN_RECV_NS - t_ns), True


# --- connections that are kept --------------------------------------------------------------------------------------


def to_pool(steps: "Steps", flight: list[int]) -> int:
    """NGINX keeps the connection of a request's last try: the virtual server that counts it; -1 where none does."""
    found = steps.memory.schedulers.open.pop((flight[Col.STREAM], flight[Col.NUMBER], flight[Col.TRIES]), None)
    return found[0] if found is not None else -1


def from_pool(steps: "Steps", flight: list[int], via: int, server: int) -> None:
    """The next try of a request goes over a connection that NGINX kept."""
    if via >= 0:
        steps.memory.schedulers.open[flight[Col.STREAM], flight[Col.NUMBER], flight[Col.TRIES] + 1] = via, server


def close_idle(steps: "Steps", t_ns: int) -> None:
    """Close the kept connections that their owner has closed by now."""
    memory = steps.memory
    if not memory.schedulers.counting:
        return
    memory.pools.expire(t_ns)
    for end_ns, connection in memory.pools.gone:
        counts = memory.schedulers.servers[connection.via].counts
        counts.closed(connection.server, True, end_ns + TIME_WAIT_NS, False)
    memory.pools.gone.clear()
    if steps.paths.any_connections:
        for kept in tuple(memory.connections.current.values()):
            if kept.counted and kept.until_ns <= t_ns and not kept.in_hand:
                close_kept(steps, kept, Answer.RESET if kept.broken else Answer.OK, max(kept.until_ns, kept.last_ns))


def kept_key(connection: ClientConnection) -> tuple[int, int, int]:
    """The key of a connection that its client keeps."""
    return connection.stream, -1 - connection.slot, connection.opened_ns


def keep(steps: "Steps", connection: ClientConnection, flight: list[int]) -> None:
    """The connection that a request opens is one that its client keeps."""
    known = steps.memory.schedulers.open
    found = known.pop((flight[Col.STREAM], flight[Col.NUMBER], 0), None)
    if found is not None:
        known[kept_key(connection)] = found
        connection.counted = True


def close_kept(steps: "Steps", connection: ClientConnection, answer: int, t_ns: int) -> None:
    """A connection that its client kept is over; `answer` as its last request heard it."""
    if connection.counted:
        connection.counted = False
        close(steps, kept_key(connection), answer, connection.established, connection.opened_ns, t_ns)
