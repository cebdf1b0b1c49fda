"""What traffic leaves behind: requests in flight, workers' backlogs, kept connections. One owner: the engine.

Requests in flight are columns of one int64 matrix, one column of it per request, so that moving a set of requests is
one numpy call. NGINX's round-robin positions are `Choosers.turn`, those of virtual servers are in `schedulers`.
"""

from dataclasses import field
from typing import TYPE_CHECKING, Final

import numpy as np

from kflab.engine.connections import ClientConnections
from kflab.engine.ewma import Scores
from kflab.engine.hangs import Hang
from kflab.engine.pools import Pools
from kflab.engine.schedulers import Schedulers
from kflab.engine.types import MAX_TRIES, Behaviour, Int64Array, Server, UInt64Array
from kflab.engine.udpflows import UdpFlows
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.engine.retrying import RetryBudget

NEVER = (1 << 63) - 1
"""A time that does not come: the due time of a free row."""


class Stage:
    """What happens to a request in flight when its due time comes."""

    LB: Final = 0
    """The SYN reaches the load balancer, which picks a node."""
    NODE: Final = 1
    """The SYN reaches the node whose rules pick the ingress server or pod."""
    INGRESS: Final = 2
    """The request reaches the ingress server."""
    TRY: Final = 3
    """The ingress starts a try."""
    SERVER: Final = 4
    """A try's SYN reaches the server."""
    RELEASE: Final = 5
    """Keep-alive: the ingress has the whole answer and keeps the connection."""
    ANSWER: Final = 6
    """The client knows how it ended."""
    CALL: Final = 7
    """The server has done its own work, or heard of a call: the next call starts, or its answer sets out."""
    WAIT: Final = 8
    """The server waits for the answer to a call."""
    LOOKUP: Final = 9
    """The client asks DNS for the next name."""


class Col:
    """Rows of the matrix of requests in flight. Times are ns; -1 means none."""

    STREAM: Final = 0
    NUMBER: Final = 1
    START: Final = 2
    STAGE: Final = 3
    DUE: Final = 4
    NODE: Final = 5
    INGRESS: Final = 6
    OUT: Final = 7
    """When the ingress is rid of it; NEVER while it holds it, 0 where no ingress ever held it."""
    TRIES: Final = 8
    BACK: Final = 9
    """One way: ingress to client (l7), server to client (others)."""
    HOP: Final = 10
    """One way: caller of the try to its server."""
    SERVED: Final = 11
    """When the server has done its work; 0 while it has not accepted it (or never will)."""
    QUEUE: Final = 12
    SERVICE: Final = 13
    STATUS: Final = 14
    KEPT: Final = 15
    """Bit k: try k went over a kept connection."""
    LOST: Final = 16
    """Errors on kept connections that did not use up a try."""
    ARRIVAL_WORD: Final = 17
    ENTRY_WORD: Final = 18
    BACKEND_WORD: Final = 19
    SERVICE_WORD: Final = 20
    SERVER0: Final = 21
    ANSWER0: Final = 24
    TRY_START0: Final = 27
    TRY_END0: Final = 30
    WORKER0: Final = 33
    KEPT_PORTS: Final = 36
    """16 bits per try, the first lowest: source port of the kept connection it went over; 0 for a new one."""
    CALL: Final = 37
    """How many calls its server has started for it."""
    LOST_SERVER: Final = 38
    """1 + the server of the last error counted in LOST; 0 without one."""
    CALLER: Final = 39
    """Of a call: the server that makes it; 0 elsewhere."""
    CALLING: Final = 40
    """How long its server made calls for it."""
    TURNS: Final = 41
    """Place of the server that a virtual server took among those with weight, from 1; 0 where none took one: 16 bits of
    the client's connection, then 15 of each try. A place that does not fit is left out."""
    OPENED: Final = 42
    """When the client's connection that it goes over was opened, where the client keeps some; 0 elsewhere."""
    LOADS0: Final = 43
    """What a virtual server that counts connections took a destination by (`ipvs_counts.packed`): for the client's
    connection, then for each try; 0 where none did. Of a try of which TURNS has no place: the scores by which NGINX
    took its peer (`ewma.packed`)."""
    SINCE: Final = 47
    """How long before it began the request's first attempt began; 0 for that one itself."""
    NEXT: Final = 48
    """When the client sends the request again; 0: this is how it ended."""
    LOOKUP: Final = 49
    """How long its client asked DNS before START."""
    ASKED: Final = 50
    """Of that, 8 bits each from the lowest: names known, attempts at the present one, questions, those unanswered."""
    WAITED: Final = 51
    """How long after START the SYN set out that was not lost."""
    POOLED_SINCE: Final = 52
    """When the kept connection that its last try goes over was opened; 0 for a new one."""
    POOLED_USES: Final = 53
    """How many requests that connection served before."""


N_COLS = Col.POOLED_USES + 1

_COMPACT_ABOVE = 1024


class Flights:
    """Requests in flight, and slots of the matrix for them."""

    def __init__(self) -> None:
        self.m: Int64Array = np.zeros((N_COLS, 256), dtype=np.int64)
        self.m[Col.DUE] = NEVER
        self.used = 0
        """Columns ever used; those above are free."""
        self.live = 0

    def add(self, count: int, blank: bool = True) -> Int64Array:
        """Make `count` fresh columns, blank but for what every new request has (or not even that)."""
        while self.used + count > self.m.shape[1]:
            spare = np.zeros_like(self.m)
            spare[Col.DUE] = NEVER
            self.m = np.concatenate((self.m, spare), axis=1)
        first, self.used = self.used, self.used + count
        self.live += count
        if blank:
            block = self.m[:, first : self.used]
            block[:] = 0
            block[[Col.NODE, Col.INGRESS]] = -1
            block[Col.SERVER0 : Col.SERVER0 + MAX_TRIES] = -1
            block[Col.WORKER0 : Col.WORKER0 + MAX_TRIES] = -1
        return np.arange(first, self.used)

    def due_before(self, end_ns: int) -> Int64Array:
        """List the columns whose due time is before `end_ns`."""
        return np.flatnonzero(self.m[Col.DUE, : self.used] < end_ns)

    def remove(self, rows: Int64Array) -> None:
        """Free columns. Indices of the others stay until `compact`."""
        self.m[Col.DUE, rows] = NEVER
        self.live -= len(rows)

    def compact(self) -> None:
        """Close the gaps when most of the matrix is free; only between slabs."""
        if self.used - self.live <= max(_COMPACT_ABOVE, self.live):
            return
        rows = np.flatnonzero(self.m[Col.DUE, : self.used] != NEVER)
        self.m[:, : len(rows)] = self.m[:, rows]
        self.m[Col.DUE, len(rows) : self.used] = NEVER
        self.used = len(rows)

    def words(self, col: int, rows: Int64Array) -> UInt64Array:
        """Return a column of draw words as they were drawn."""
        words: UInt64Array = self.m[col, rows].view(np.uint64)
        return words


@dataclass(slots=True)
class Memory:
    """Everything that one slab hands to the next, but for the streams' arrivals and the choosers."""

    flights: Flights = field(default_factory=Flights)
    pools: Pools = field(default_factory=Pools)
    udp: UdpFlows = field(default_factory=UdpFlows)
    schedulers: Schedulers = field(default_factory=Schedulers)
    scores: Scores = field(default_factory=Scores)
    connections: ClientConnections = field(default_factory=ClientConnections)
    budgets: "dict[int, RetryBudget]" = field(default_factory=dict)
    """Stream → what its client's retry budget is made of."""
    servers: list[Server] = field(default_factory=list)
    behaviour: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[servers] -> Behaviour."""
    place: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[servers] -> place."""
    group: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[servers] -> which make the same calls; -1 none."""
    n_workers: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[servers] -> how many workers."""
    first_worker: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[servers] -> index of its first worker in `busy_until`."""
    busy_until: Int64Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[workers of all servers] -> when the last request accepted so far will be done."""
    n_shared: int = 0
    """How many servers' workers take from one queue."""
    work: Int64Array | None = None
    """[workers of all servers] -> service time accepted so far; None until somebody wants to know."""
    hangs: dict[int, Hang] = field(default_factory=dict)
    """Server that hangs now → what it has."""

    def add_server(self, server: Server) -> int:
        """Add a server that listens; its workers are idle."""
        index = len(self.servers)
        self.servers.append(server)
        self.behaviour = np.append(self.behaviour, int(Behaviour.LISTENS))
        self.place = np.append(self.place, server.place)
        self.group = np.append(self.group, server.group)
        self.n_shared += server.shared_queue
        self.n_workers = np.append(self.n_workers, max(1, server.workers))
        self.first_worker = np.append(self.first_worker, len(self.busy_until))
        self.busy_until = np.append(self.busy_until, np.zeros(max(1, server.workers), dtype=np.int64))
        if self.work is not None:
            self.work = np.append(self.work, np.zeros(max(1, server.workers), dtype=np.int64))
        return index

    def free_first(self, server: int) -> int:
        """Which worker of a server is done with its work first; of equals the one with the lower number."""
        first = int(self.first_worker[server])
        return int(np.argmin(self.busy_until[first : first + int(self.n_workers[server])]))

    def clear_backlog(self, server: int, t_ns: int) -> None:
        """Forget the work queued at a server: its process is gone."""
        first = int(self.first_worker[server])
        span = slice(first, first + int(self.n_workers[server]))
        workers = self.busy_until[span]
        if self.work is not None:
            self.work[span] -= np.maximum(workers - t_ns, 0)
        np.minimum(workers, t_ns, out=workers)

    def count_work(self) -> None:
        """Count from now on how long workers serve."""
        if self.work is None:
            self.work = np.zeros(len(self.busy_until), dtype=np.int64)

    def note_work(self, workers: Int64Array, services: Int64Array) -> None:
        """Requests were accepted.

        Args:
            workers: Index into `busy_until` of each, shape (n,).
            services: Its service time, ns, shape (n,).
        """
        if self.work is not None:  # float64 sums are exact below 2^53 ns, 104 days of work in one slab
            self.work += np.bincount(workers, weights=services, minlength=len(self.work)).astype(np.int64)

    def worked_ns(self, server: int, t_ns: int) -> int:
        """How long a server's workers have served until now, `t_ns`: what they accepted less what is still to do.

        A worker is busy without a gap from now until `busy_until`. One that hangs does nothing since.
        """
        if self.work is None:
            return 0
        first = int(self.first_worker[server])
        accepted = int(self.work[first : first + int(self.n_workers[server])].sum())
        hang = self.hangs.get(server)
        return accepted - self.backlog_ns(server, t_ns if hang is None else hang.since_ns)

    def backlog_ns(self, server: int, t_ns: int) -> int:
        """Return the work still queued at a server's workers, summed."""
        first = int(self.first_worker[server])
        workers = self.busy_until[first : first + int(self.n_workers[server])]
        return int(np.maximum(workers - t_ns, 0).sum())
