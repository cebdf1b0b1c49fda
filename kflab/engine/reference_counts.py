"""A virtual server that counts connections, told as a list of all it ever scheduled, read from the start each time.

The other half of the property test of `ipvs_counts` and `ipvs_entries`.
"""

from dataclasses import field

from kflab.engine.pools import Pools
from kflab.engine.reference_requests import Request, Scheduled
from kflab.engine.reference_turns import TurnTaker
from kflab.records import dataclass


@dataclass(slots=True)
class LeastTaker(TurnTaker):
    """lc, wlc, sed or nq, all weights 1."""

    scheduler: str = "lc"
    log: list[Scheduled] = field(default_factory=list)

    def take_for(self, t_ns: int, request: Request, pools: Pools) -> int:
        """Give a connection of a request its server."""
        self.write_until(t_ns)
        pools.expire(t_ns)
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
