"""A server hangs: its process stands still, its node's kernel goes on (lifecycle.md 3, "Pod hung").

Connections are completed by the kernel and wait in the listener's accept queue; nobody takes them out, so their
callers wait for their read timeout. The queue takes one connection more than the backlog (Linux
include/net/sock.h, sk_acceptq_is_full); above that SYNs are dropped (net/ipv4/tcp_input.c, tcp_conn_request), and the
caller times out connecting. A caller that gives up does not leave the queue: the process learns of it when it reads.

When the process goes on, it does so where it stood still: what it had accepted is finished first, then the queue in its
order, also for callers that have gone. When it ends instead, the kernel resets all of them.

A try at a hanging server gets its ending, the caller's timeout, at once, as every try does; `leave` rewrites those
whose time has not come.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

import numpy as np

from kflab.engine.queues import serve
from kflab.engine.types import Int64Array
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.engine.memory import Memory


class Entry:
    """Rows of the matrix of what a hanging server has."""

    STREAM: Final = 0
    NUMBER: Final = 1
    ATTEMPT: Final = 2
    """Which of the request's tries, counting those that used up none."""
    ARRIVAL: Final = 3
    WORKER: Final = 4
    """Worker of the server."""
    SERVICE: Final = 5
    DONE: Final = 6
    """When it would have been done; 0: the process has not read it yet; `LOST`."""


N_ENTRY = Entry.DONE + 1

LOST: Final = -1
"""Its server had done its own work and waited for a call when it began to hang: what it heard is lost on it (M)."""


@dataclass(slots=True)
class Hang:
    """What a hanging server has."""

    since_ns: int
    waiting: int = 0
    """Connections in the accept queue, those of callers that have gone included."""
    parts: list[Int64Array] = field(default_factory=list)
    """Matrices of shape (N_ENTRY, n), in order of time."""

    def entries(self) -> Int64Array:
        """All entries, shape (N_ENTRY, n)."""
        self.parts = [np.concatenate([np.zeros((N_ENTRY, 0), dtype=np.int64), *self.parts], axis=1)]
        return self.parts[0]

    def add(self, columns: Sequence[Int64Array]) -> None:
        """Add entries, given as the columns of `Entry`, shape (n,) each."""
        self.parts.append(np.array(columns, dtype=np.int64))

    def latest(self, streams: Int64Array, numbers: Int64Array, attempts: Int64Array) -> Int64Array:
        """Find the entries of tries.

        Args:
            streams: (n,) stream of each request.
            numbers: (n,) its number.
            attempts: (n,) which of its tries; its latest.

        Returns:
            (n,) index into `entries`, -1 where the server never had that try.
        """
        entries = self.entries()
        if not entries.shape[1]:
            return np.full(len(streams), -1, dtype=np.int64)
        width = int(max(entries[Entry.STREAM].max(), streams.max(initial=0))) + 1
        keys = entries[Entry.NUMBER] * width + entries[Entry.STREAM]
        order = np.argsort(keys, kind="stable")
        wanted = numbers * width + streams
        # Of several tries of one request at this server the last came last.
        places = np.maximum(np.searchsorted(keys[order], wanted, side="right") - 1, 0)
        found = order[places]
        same = (keys[found] == wanted) & (entries[Entry.ATTEMPT, found] == attempts)
        return np.where(same, found, -1)


def work_off(memory: "Memory", server: int, hang: Hang, t_ns: int) -> Int64Array:
    """Let a server that hung go on at `t_ns`; return when each of its entries is done, shape (n,)."""
    entries, stood = hang.entries(), t_ns - hang.since_ns
    first, count = int(memory.first_worker[server]), int(memory.n_workers[server])
    busy = memory.busy_until[first : first + count]
    busy[:] = t_ns + np.maximum(busy - hang.since_ns, 0)
    done: Int64Array = np.where(entries[Entry.DONE] > 0, entries[Entry.DONE] + stood, entries[Entry.DONE])
    unread = np.flatnonzero(entries[Entry.DONE] == 0)
    if len(unread):
        keys = [Entry.NUMBER, Entry.STREAM, Entry.ARRIVAL]
        keys += [] if memory.servers[server].shared_queue else [Entry.WORKER]
        order = unread[np.lexsort([entries[key, unread] for key in keys])]
        if memory.servers[server].shared_queue:
            for entry in order.tolist():
                entries[Entry.WORKER, entry] = worker = int(np.argmin(busy))
                busy[worker] += entries[Entry.SERVICE, entry]
                done[entry] = busy[worker]
            memory.note_work(entries[Entry.WORKER, order] + first, entries[Entry.SERVICE, order])
            return done
        workers = entries[Entry.WORKER, order] + first
        done[order] = serve(workers, entries[Entry.ARRIVAL, order], entries[Entry.SERVICE, order], memory.busy_until)
        memory.note_work(workers, entries[Entry.SERVICE, order])
    return done
