"""What the reference records: requests, their tries, and the connections that outlive them."""

from dataclasses import field

from kflab.engine.reference_lookups import Lookup
from kflab.engine.types import Answer, Stream
from kflab.records import dataclass

_SECOND = 1_000_000_000


@dataclass(slots=True)
class Try:
    """One try, as it is recorded."""

    server: int
    answer: int
    start_ns: int
    end_ns: int
    worker: int = -1
    scheduled: "Scheduled | None" = None
    """The connection that a virtual server counts."""


@dataclass(slots=True)
class Request:
    """One request."""

    stream: Stream
    number: int
    start_ns: int
    words: list[int]
    node: int = -1
    ingress: int = -1
    admitted: bool = False
    """The ingress server has it."""
    back_ns: int = 0
    hop_ns: int = 0
    tries: list[Try] = field(default_factory=list)
    served_ns: int | None = None
    out_ns: int | None = None
    """When the ingress was rid of it."""
    queue_ns: int = 0
    service_ns: int = 0
    kept: int = 0
    lost: int = 0
    status: int | None = None
    finish_ns: int = 0
    """When the client knows, once there is a status."""
    calls_made: int | None = None
    """How many calls the server has started; None unless it is making calls."""
    outer: "tuple[Request, int] | None" = None
    """A call: the request it is made for, and which of its tries."""
    pooled: tuple[int, int] | None = None
    """Of the kept connection that its last try goes over: when it was opened, how many requests it served before."""
    lost_server: int = -1
    """The server of the last error counted in `lost`."""
    scored: bool = False
    """It has moved NGINX's score of its last peer."""
    lookup: Lookup | None = None
    waited_ns: int = 0
    """How long after its first SYN the one set out that arrived."""
    over: "Kept | None" = None
    """The connection that it goes over, where its client keeps some."""
    first_ns: int = 0
    """When the first attempt of the same request began."""
    epoch: int = 0
    """Events of an older epoch no longer count: its course was changed."""

    @property
    def is_l7(self) -> bool:
        return self.stream.kind == "l7"

    def being_served(self, now_ns: int) -> bool:
        """Whether a server has it still: at work on it, or waiting for a call that it made."""
        return self.served_ns is not None and (self.served_ns > now_ns or self.calls_made is not None)

    def at_ingress(self, now_ns: int) -> bool:
        """Whether the ingress has it still."""
        return self.admitted and (self.out_ns is None or self.out_ns > now_ns)

    @property
    def last_try(self) -> Try | None:
        return self.tries[-1] if self.tries else None


@dataclass(slots=True)
class Kept:
    """A connection that a client keeps."""

    server: int
    place: int
    worker: int
    until_ns: float
    up: bool = False
    """The server took it."""
    dead: bool = False
    """The process that took it is gone."""
    unheard_ns: float = float("inf")
    """Until when its packets may go unacknowledged."""


@dataclass(slots=True)
class Held:
    """A try at a hanging server."""

    request: Request
    this: Try
    arrival_ns: int
    worker: int
    service_ns: int
    done_ns: int | None = None
    """When it would have been done; None: not read yet."""
    calling: bool = False
    """It had made calls already: their answers are lost on it."""


@dataclass(slots=True)
class Hanging:
    """A hanging server."""

    since_ns: int
    waiting: int = 0
    held: list[Held] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Scheduled:
    """A connection that a virtual server counts, or did."""

    server: int
    request: Request
    this: Try | None = None
    """The try that it is for; None for the client's own."""
    pooled: bool = False
    """NGINX keeps it, idle."""
    broken_ns: int | None = None
    """When a request that it was kept for failed on it, uncounted."""
    idle_end_ns: int | None = None
    """When NGINX closed it, idle."""

    def end(self) -> tuple[int, int, bool, int] | None:
        """When it ended or will, with which answer, whether it had been accepted, and its start; None: not known."""
        if self.broken_ns is not None:
            return self.broken_ns, Answer.RESET, True, 0
        if self.idle_end_ns is not None:
            return self.idle_end_ns, Answer.OK, True, 0
        request, this = self.request, self.this
        over = request.status is not None
        if self.pooled:
            return None
        if this is not None:
            if this.answer == Answer.NONE and not over:
                return None
            return this.end_ns, this.answer, this.worker >= 0, this.start_ns
        if request.status is None:
            return None
        if request.is_l7:
            answer = Answer.OK if request.status > 0 else -request.status
            return request.finish_ns, answer, request.admitted, request.start_ns
        first = request.tries[0]
        return request.finish_ns, first.answer, first.worker >= 0, request.start_ns

    def counts_as(self, t_ns: int) -> str:
        """Whether it is active, inactive or forgotten."""
        found = self.end()
        if found is None or found[0] > t_ns:
            return "active"
        end_ns, answer, accepted, start_ns = found
        if answer == Answer.OK:
            return "inactive" if t_ns < end_ns + 120 * _SECOND else "forgotten"
        if answer in (Answer.RESET, Answer.REFUSED, Answer.NONE):
            return "inactive" if t_ns < end_ns + 10 * _SECOND else "forgotten"
        if answer == Answer.TIMEOUT and accepted:
            return "inactive" if t_ns < end_ns + 60 * _SECOND else "forgotten"
        return "active" if t_ns < max(end_ns, start_ns + 60 * _SECOND) else "forgotten"
