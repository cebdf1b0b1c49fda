"""IPVS's virtual servers, from a node's rules to the engine's memory of turns.

One for each node and address: connections of all streams that come to the address through the node share its turns
(rr, wrr) and its counts (lc, wlc, sed, nq). The first choice that session affinity keeps is drawn with equal shares.
"""

from kflab.dataplane.ipvs import IpvsRuleSet
from kflab.dataplane.modes import ModeRules
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.draws import Draws
from kflab.engine.engine import Engine
from kflab.engine.ipvs_counts import UDP_NS
from kflab.engine.schedulers import SCHEDULERS
from kflab.records import dataclass


@dataclass(slots=True)
class Known:
    """What the engine knows of one virtual server."""

    index: int
    told: tuple[int, frozenset[int], int] | None = None
    """Scheduler, destinations with weight and timeout of UDP entries, as the engine was told last."""
    n_changes: int = 0


def udp_entry_ns(config: ProxyConfig) -> int:
    """How long IPVS keeps an entry after its last datagram."""
    return round(config.ipvs_udp_s * 1e9) or UDP_NS


class Turns:
    """The virtual servers that traffic reaches.

    Args:
        engine: Has their memory.
        draws: For what nobody can know: in which order kube-proxy adds destinations (Go ranges over a set of them:
            k/k pkg/proxy/ipvs/proxier.go 1.33, syncEndpoint, UnsortedList), and since when it runs.
    """

    def __init__(self, engine: Engine, draws: Draws) -> None:
        self._engine, self._draws = engine, draws
        self._known: dict[tuple[str, str], Known] = {}
        """(node, virtual server's name) → what the engine knows."""
        self._of_node: dict[str, list[tuple[str, int]]] = {}
        """Node → (virtual server's name, its index)."""
        self._schedulers: dict[int, str] = {}
        """Virtual server → `ipvs.scheduler`."""

    def of(self, node: str, rules: ModeRules, packet: Packet, servers: tuple[int, ...], t_ns: int) -> int:
        """Find the virtual server that takes turns for a packet, and let it have its destinations from `t_ns` on.

        Args:
            node: Whose rules they are.
            rules: In any mode.
            packet: A first packet.
            servers: The destinations with weight.
            t_ns: When the rules came into force.

        Returns:
            Its index in the engine; -1 where nobody takes turns or counts.
        """
        if not isinstance(rules, IpvsRuleSet):
            return -1
        virtual = rules.virtual_server(packet)
        if virtual is None or virtual.scheduler not in SCHEDULERS:
            return -1
        key, scheduler = (node, virtual.name), SCHEDULERS[virtual.scheduler]
        known = self._known.get(key)
        if known is None:
            every_ns = self._engine.timing.ipvs_drain_poll_ns
            poll_ns = self._draws.control_between("ipvs-graceful-termination", node, 0, 0, every_ns)
            index = self._engine.add_virtual_server(poll_ns, graceful=packet.protocol == "TCP")
            known = self._known[key] = Known(index)
            self._of_node.setdefault(node, []).append((virtual.name, index))
        udp_ns = udp_entry_ns(rules.config) if packet.protocol == "UDP" else 0
        wanted = scheduler, frozenset(servers), udp_ns
        if known.told != wanted:
            order = self._shuffled(f"{node}/{virtual.name}", known.n_changes, servers)
            self._engine.list_destinations(known.index, t_ns, scheduler, order, udp_ns)
            known.told, self._schedulers[known.index] = wanted, virtual.scheduler
            known.n_changes += 1
        return known.index

    def scheduler(self, index: int) -> str:
        """`ipvs.scheduler` of a virtual server, by its index in the engine; "" for another kind."""
        return self._schedulers.get(index, "")

    def draining(self, node: str, t_ns: int) -> dict[str, tuple[int, ...]]:
        """Virtual servers of a node, by name → destinations that had weight 0 at an instant, where there were any."""
        servers = self._engine.memory.schedulers.servers
        found = {name: servers[index].draining_at(t_ns) for name, index in self._of_node.get(node, ())}
        return {name: listed for name, listed in found.items() if listed}

    def forget_before(self, t_ns: int) -> None:
        """Drop what was replaced before `t_ns`."""
        for known in self._known.values():
            self._engine.memory.schedulers.servers[known.index].forget_before(t_ns)

    def _shuffled(self, name: str, n: int, servers: tuple[int, ...]) -> tuple[int, ...]:
        left, order = sorted(servers), []
        for k in range(len(left)):
            order.append(left.pop(self._draws.control_between("ipvs-order", f"{name} {n}", k, 0, len(left))))
        return tuple(order)
