"""Requests over connections that their clients keep, in bulk (see `connections`): which one each goes over.

While every connection is well, all that ends one is its age, and the first request after that opens the next by the
rules of its node. So whom a request meets depends on its draw and on when its place in the pool was last renewed, and
not on how other requests fare.
"""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.addresses import ephemeral_ports
from kflab.engine.connections import NEVER_NS, ClientConnection, lifetime_ns, slot_of
from kflab.engine.express import Express
from kflab.engine.memory import NEVER, Col, Stage
from kflab.engine.types import Int64Array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kflab.engine.arrivals import Batch
    from kflab.engine.memory import Memory
    from kflab.engine.steps import Steps

MANY_LEFT = 1000
"""More connections than this that were given up are looked through for those that are over. Ours."""

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_LOW_16 = np.uint64(0xFFFF)


def over_kept(steps: "Steps", batch: "Batch") -> Express:
    """Let new requests of one stream each go over one of the connections that its client keeps open.

    Args:
        steps: The engine's steps; nothing stands against it (`countable`).
        batch: The requests.
    """
    memory, stream, starts = steps.memory, batch.stream, batch.starts
    pool, place = int(steps.paths.connections[stream]), int(steps.paths.place[stream])
    slots = (batch.words[:, 0] & _LOW_HALF).view(np.int64) * pool >> 32
    known, opens, which = _lines(steps, batch, slots)
    last = np.zeros(len(known), dtype=np.int64)
    np.maximum.at(last, which, starts)
    for one, last_ns in zip(known, last.tolist(), strict=True):
        if one is not None:
            one.last_ns = max(one.last_ns, last_ns)
    columns = [(0, 0, 0, 0) if one is None else (one.server, one.worker, one.port, one.opened_ns) for one in known]
    servers, workers, ports, opened = np.array(columns, dtype=np.int64).T[:, which]
    ports[opens] = 0
    hops = steps.hop_ns(np.full(len(starts), place), memory.place[servers])
    arrivals = starts + hops
    return Express(
        stream=stream, numbers=np.arange(batch.first, batch.first + len(starts)), starts=starts, nodes=place,
        ingresses=-1, servers=servers, in_hops=0, out_hops=hops, arrivals=arrivals, workers=workers,
        queue_ids=memory.first_worker[servers] + workers, services=steps.service_ns(servers, batch.words[:, 3]),
        to_node_ns=0, nginx_ns=0, done=arrivals, finishes=arrivals, counted=True,
        opened=opened, ports=ports, arrival_words=batch.words[:, 0].view(np.int64),
    )  # fmt: skip


def _lines(
    steps: "Steps", batch: "Batch", slots: Int64Array
) -> "tuple[list[ClientConnection | None], Int64Array, Int64Array]":
    """Find the connection of each request, and open what has to be opened.

    Returns:
        The connections, None where a place of the pool has none that is used; the requests that opened one; and
        [requests] -> index among the connections.
    """
    current, stream, starts = steps.memory.connections.current, batch.stream, batch.starts
    pool, place = int(steps.paths.connections[stream]), int(steps.paths.place[stream])
    known = [current.get((stream, slot)) for slot in range(pool)]
    until: Int64Array = np.array([0 if one is None else ends_ns(one, place) for one in known], dtype=np.int64)
    order = np.argsort(slots, kind="stable")
    by_slot, times = slots[order], starts[order]
    which, openers = by_slot.copy(), [order[:0]]
    while len(due := np.flatnonzero(times >= until[by_slot])):
        # Starts ascend within a place, so these are its last ones: from the one that opens the next connection on.
        fresh, firsts = np.unique(by_slot[due], return_index=True)
        rows = order[due[firsts]]
        which[due] = len(known) + np.searchsorted(fresh, by_slot[due])
        opened = _open(steps, batch, rows, fresh)
        known += opened
        openers.append(rows)
        until[fresh] = [one.until_ns for one in opened]
    found = np.empty_like(which)
    found[order] = which
    return known, np.concatenate(openers), found


def ends_ns(connection: ClientConnection, place: int) -> int:
    """From when on its client, now on a node, sends no more requests over a connection."""
    if connection.place != place:
        return 0
    return min(connection.until_ns, connection.dies_ns or NEVER_NS)


def _open(steps: "Steps", batch: "Batch", rows: Int64Array, slots: Int64Array) -> list[ClientConnection]:
    """Open a connection with each of these requests of the batch, for these places of the pool."""
    paths, table, memory, stream = steps.paths, steps.choosers, steps.memory, batch.stream
    place, times, words = int(paths.place[stream]), batch.starts[rows], batch.words[rows]
    choosers = np.full(len(rows), paths.entries.get_one(stream, place))
    picks = table.slots_by_draw(table.current[choosers], words[:, 1] >> _HALF)
    steps.count_picks(choosers, times, picks)
    servers = table.flat[picks]
    workers = (words[:, 2] & _LOW_16).view(np.int64) * memory.n_workers[servers] >> 16
    streams = np.full(len(rows), stream)
    ports = paths.pin_ports(streams, batch.first + rows, ephemeral_ports(words[:, 1]))
    made = []
    for slot, t_ns, server, port, worker, word in zip(
        *(column.tolist() for column in (slots, times, servers, ports, workers, words[:, 2])), strict=True
    ):
        one = ClientConnection(stream, slot, place, server, t_ns, port, worker, established=True)
        one.until_ns = min(NEVER_NS, t_ns + lifetime_ns(int(paths.connection_age[stream]), word))
        before = memory.connections.current.get((stream, slot))
        if before is not None:
            memory.connections.leaving[stream, slot, before.opened_ns] = before
        memory.connections.current[stream, slot] = one
        made.append(one)
    return made


def note_workers(steps: "Steps", rows: Int64Array) -> None:
    """Write down which worker requests come to that are on their way over a connection that their client keeps."""
    m, known = steps.memory.flights.m, steps.memory.connections
    rows = rows[steps.paths.connections[m[Col.STREAM, rows]] > 0]
    columns = m[[Col.STREAM, Col.ARRIVAL_WORD, Col.OPENED]][:, rows].T.tolist()
    workers = [
        known.of((stream, slot_of(word, int(steps.paths.connections[stream]))), opened_ns).worker
        for stream, word, opened_ns in columns
    ]
    m[Col.WORKER0, rows] = workers


def count_in_hand(steps: "Steps") -> None:
    """Count anew what clients wait for over each connection, and forget those that were given up and have nothing.

    Every request under way has a row. A connection of which the first packet is still on its way is not established.
    """
    m, known = steps.memory.flights.m, steps.memory.connections
    live = steps.memory.flights.due_before(NEVER)
    live = live[(steps.paths.connections[m[Col.STREAM, live]] > 0) & (m[Col.SERVER0, live] >= 0)]
    for one in (*known.current.values(), *known.leaving.values()):
        one.in_hand = 0
    columns = m[[Col.STREAM, Col.ARRIVAL_WORD, Col.OPENED, Col.STAGE, Col.KEPT]][:, live].T.tolist()
    for stream, word, opened_ns, stage, kept in columns:
        slot = slot_of(word, int(steps.paths.connections[stream]))
        one = known.of((stream, slot), opened_ns)
        one.in_hand += 1
        if stage == Stage.SERVER and not kept:
            one.established = False
    known.leaving = {key: one for key, one in known.leaving.items() if one.in_hand}


def forget_left(memory: "Memory", routed: "Sequence[Express]") -> None:
    """Forget connections that were given up and that no request under way goes over.

    Args:
        memory: The engine's.
        routed: Requests under way without a row.
    """
    m, live = memory.flights.m, memory.flights.due_before(NEVER)
    used = set(map(tuple, m[[Col.STREAM, Col.OPENED]][:, live].T.tolist()))
    for express in routed:
        if not isinstance(express.opened, int):
            used.update((express.stream, opened_ns) for opened_ns in np.unique(express.opened).tolist())
    known = memory.connections
    known.leaving = {key: one for key, one in known.leaving.items() if (key[0], key[2]) in used}
