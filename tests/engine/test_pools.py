"""NGINX's idle connections: found by key, as a look through the whole list would find them."""

import pytest

from kflab.draws import Draws
from kflab.engine.pools import Connection, PoolLimits, Pools

IDLE_NS, LIMIT = 60, 6


class Listed:
    """One pool as nginx keeps it, a queue that is looked through: the newest connection of a peer is taken."""

    def __init__(self) -> None:
        self.kept: list[Connection] = []

    def expire(self, now_ns: int) -> None:
        self.kept = [one for one in self.kept if not one.pod_idle_ns or now_ns - one.idle_since_ns < one.pod_idle_ns]

    def take(self, key: tuple[str, int], now_ns: int) -> Connection | None:
        self.expire(now_ns)
        self.kept = [one for one in self.kept if now_ns - one.idle_since_ns < IDLE_NS]
        found = [one for one in self.kept if one.key == key]
        if found:
            self.kept.remove(found[-1])
        return found[-1] if found else None

    def keep(self, connection: Connection) -> None:
        self.expire(connection.idle_since_ns)
        self.kept = [*self.kept, connection][-LIMIT:]


def one_after(uses: int, age_ns: int) -> Connection:
    return Connection(("server", 1), 1, 0, 1000 + age_ns, opened_ns=1000, uses=uses)


def test_a_connection_that_served_enough_or_is_too_old_is_not_kept() -> None:
    pools = Pools(limits={7: PoolLimits(requests=3, time_ns=50)})
    for one, kept in ((one_after(2, 50), True), (one_after(3, 10), False), (one_after(1, 51), False)):
        pools.keep(7, one)
        assert (pools.take(7, one.key, one.idle_since_ns) == one) == kept
        pools.keep(8, one)
        assert pools.take(8, one.key, one.idle_since_ns) == one, "another NGINX has the usual limits"


@pytest.mark.parametrize("pod_idle_ns", [0, 25])
def test_pools_are_those_of_a_plain_list(pod_idle_ns: int) -> None:
    draws, pools, listed = Draws(4), Pools(usual=PoolLimits(LIMIT, IDLE_NS)), Listed()
    taken = 0
    for t_ns in range(3000):
        what, server = (draws.control_between(name, "", t_ns, 0, below) for name, below in (("do", 9), ("at", 5)))
        key = ("server", server)
        if what < 4:
            one = Connection(key, server, 0, t_ns, t_ns, pod_idle_ns=pod_idle_ns * (server % 2))
            pools.keep(7, one)
            listed.keep(one)
        elif what < 8:
            found = pools.take(7, key, t_ns)
            assert found == listed.take(key, t_ns)
            taken += found is not None
        elif server == 0 and t_ns % 3 == 0:
            pools.drop_server(t_ns % 5, t_ns)
            listed.kept = [one for one in listed.kept if one.server != t_ns % 5]
        assert [one for _, one in pools] == listed.kept
    assert taken > 400
