"""A virtual server that counts connections, told as a list of all it ever scheduled, read from the start each time.

The other half of the property test of `ipvs_counts` and `ipvs_entries`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kflab.engine.pools import Pools
from kflab.engine.reference_turns import TurnTaker
from kflab.engine.types import Answer

if TYPE_CHECKING:
    from kflab.engine.reference import Request, Try

_SECOND = 1_000_000_000


@dataclass(slots=True, eq=False)
class Scheduled:
    """A connection."""

    server: int
    request: "Request"
    this: "Try | None" = None
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


@dataclass(slots=True)
class LeastTaker(TurnTaker):
    """lc, wlc, sed or nq, all weights 1."""

    scheduler: str = "lc"
    log: list[Scheduled] = field(default_factory=list)

    def take_for(self, t_ns: int, request: "Request", pools: Pools, idle_ns: int) -> int:
        """Give a connection of a request its server."""
        self.write_until(t_ns)
        pools.expire(t_ns, idle_ns)
        for end_ns, connection in pools.gone:
            self.log[connection.via].idle_end_ns = end_ns
        pools.gone.clear()
        least, least_cost = -1, 0
        for server in self.ring[1:]:
            assert isinstance(server, int)
            kinds = [one.counts_as(t_ns) for one in self.log if one.server == server]
            active, inactive = kinds.count("active"), kinds.count("inactive")
            if self.scheduler == "nq" and not active:
                least = server
                break
            cost = (active << 8) + inactive if self.scheduler in ("lc", "wlc") else active + 1
            if least < 0 or cost < least_cost:
                least, least_cost = server, cost
        self.log.append(Scheduled(least, request))
        return least
