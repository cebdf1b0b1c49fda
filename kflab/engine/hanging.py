"""Steps of requests whose SYN meets a hanging server (see `hangs`)."""

from typing import TYPE_CHECKING

import numpy as np

from kflab.engine.memory import Col
from kflab.engine.types import Answer, Int64Array

if TYPE_CHECKING:
    from kflab.engine.steps import Steps

_WORKER_BITS = np.uint64(0xFFFF)


def admit(steps: "Steps", rows: Int64Array) -> None:
    """Let new connections to hanging servers wait, or drop their SYN where the accept queue is full.

    Args:
        steps: The engine's steps; no caller's patience ends before the slab does.
        rows: (n,) requests in flight whose SYN arrived at a hanging server; all of the slab's.
    """
    memory, paths = steps.memory, steps.paths
    m = memory.flights.m
    last = m[Col.TRIES, rows] - 1
    servers = m[Col.SERVER0 + last, rows]
    order = np.lexsort((m[Col.NUMBER, rows], m[Col.STREAM, rows], m[Col.DUE, rows], servers))
    rows, last, servers = rows[order], last[order], servers[order]
    words = memory.flights.words(Col.BACKEND_WORD, rows) & _WORKER_BITS
    workers = (words * memory.n_workers[servers].astype(np.uint64) >> np.uint64(16)).astype(np.int64)
    services = steps.service_ns(servers, memory.flights.words(Col.SERVICE_WORD, rows))
    waits = np.zeros(len(rows), dtype=bool)
    for server in np.unique(servers).tolist():
        mine = np.flatnonzero(servers == server)
        hang = memory.hangs[server]
        mine = mine[: max(0, memory.servers[server].backlog + 1 - hang.waiting)]
        waits[mine] = True
        hang.waiting += len(mine)
        own = rows[mine]
        attempts = m[Col.TRIES, own] + m[Col.LOST, own]
        columns = (m[Col.STREAM, own], m[Col.NUMBER, own], attempts, m[Col.DUE, own], workers[mine], services[mine])
        hang.add((*columns, np.zeros(len(own), dtype=np.int64)))
    began = m[Col.TRY_START0 + last, rows]
    streams = m[Col.STREAM, rows]
    patience = np.where(waits, paths.read_patience[streams], paths.connect_patience[streams])
    may_retry = ~waits | paths.idempotent[streams]
    steps.failed(rows, Answer.TIMEOUT, began + patience, may_retry)
