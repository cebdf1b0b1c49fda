"""What kflab says about a call: every outcome with its exact chance, read from the same rules that the kernel loads.

The walkers (`walk.fan`, `nftables_walk.nft_fan`) read one node's rules; here a packet goes on to the next node as the
routes lead it, and comes back: an answer counts only if it passes the node that rewrote the call.
"""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from fractions import Fraction
from typing import Final, NamedTuple

from kflab.dataplane.addresses import is_loopback
from kflab.dataplane.cni import ROUTED, masquerade_source
from kflab.dataplane.packets import Packet, Verdict
from kflab.proof.netns_calls import DELIVERED, DROPPED, REFUSED
from kflab.proof.verify_cluster import Cluster
from kflab.proof.verify_modes import NodeRules
from kflab.proof.verify_pairs import Pair
from kflab.records import dataclass

OWN: Final = "its own address"
"""Stands for the caller's address where the pod sees it unchanged, so that callers can be compared."""

_HOPS: Final = 8
"""Nodes a packet may pass; more is a routing loop, which ends by TTL."""


class Outcome(NamedTuple):
    """How a call can end."""

    verdict: str
    pod: str = ""
    """Who answered, namespace/name."""
    source: str = ""
    """The address it saw, or OWN."""

    def __str__(self) -> str:
        return f"{self.pod} which sees {self.source}" if self.verdict == DELIVERED else self.verdict


class Seen(NamedTuple):
    """Session affinity's memory of one source on one node."""

    node: str
    name: str
    """Name of the endpoint's list (KUBE-SEP-…) or set (affinity-…)."""
    source: str


@dataclass(frozen=True, slots=True)
class Branch:
    """One way a call may go."""

    outcome: Outcome
    chance: Fraction
    remembered: tuple[Seen, ...] = ()
    """What the rules will remember of it."""


@dataclass(frozen=True, slots=True)
class _Under:
    """A call on its way."""

    packet: Packet
    """As it is now."""
    caller: str
    """Address that the caller sent it from."""
    home: str
    """Node of the caller; "" outside."""
    chance: Fraction = Fraction(1)
    rewritten_on: tuple[str, ...] = ()
    """Nodes that hold a translation of it: the answer must pass them."""
    remembered: tuple[Seen, ...] = ()


class Oracle:
    """Reads a cluster's rules.

    Args:
        cluster: The cluster.
        rules: Each node's rules.
    """

    def __init__(self, cluster: Cluster, rules: Mapping[str, NodeRules]) -> None:
        self._cluster = cluster
        self._rules = rules
        self._node_of = {ip: name for name, facts in cluster.nodes.items() for ip in facts.ips}
        self._pod_at = {pod.address: pod for pod in cluster.pods if not pod.host_network}
        self._listeners = {(pod.address, *port): pod.name for pod in cluster.pods for port in pod.listening}

    def branches(self, pair: Pair, memory: AbstractSet[Seen] = frozenset()) -> tuple[Branch, ...]:
        """Everything that may become of a call, chances adding up to 1; equal ends are not merged.

        Args:
            pair: Who calls what.
            memory: What session affinity remembers.
        """
        packet = pair.packet
        start = _Under(packet, packet.src, pair.source.node)
        return tuple(self._through(start, pair.node, memory, _HOPS))

    def _through(self, call: _Under, node: str, memory: AbstractSet[Seen], hops: int) -> Iterator[Branch]:
        """Meet the rules of a node."""
        rules = self._rules[node]

        def recent(name: str, source: str, seconds: int) -> bool:
            return Seen(node, name, source) in memory

        found = rules.fan(call.packet, recent)
        if found.verdict is Verdict.REJECT:
            yield _end(call, REFUSED)
        elif found.verdict is Verdict.DROP:
            yield _end(call, DROPPED)
        elif found.verdict is not Verdict.DNAT:
            yield from self._routed(call, node, memory, hops)
        else:
            for endpoint in found.endpoints:
                packet = replace(call.packet, dst=endpoint.address, dport=endpoint.port)
                if endpoint.masquerade:
                    packet = replace(packet, src=self._masqueraded(node, endpoint.address))
                noted = rules.remembered(call.packet, packet) if found.affinity_s else ()
                onward = replace(
                    call,
                    packet=packet,
                    chance=call.chance * endpoint.chance,
                    rewritten_on=(*call.rewritten_on, node),
                    remembered=(*call.remembered, *(Seen(node, name, call.packet.src) for name in noted)),
                )
                yield from self._routed(onward, node, memory, hops)

    def _masqueraded(self, node: str, to: str) -> str:
        facts = self._cluster.nodes[node]
        pod = self._pod_at.get(to)
        local = pod is not None and pod.node == node
        return masquerade_source(ROUTED, facts.primary_ip(self._cluster.family), facts.pod_cidrs, local)

    def _routed(self, call: _Under, node: str, memory: AbstractSet[Seen], hops: int) -> Iterator[Branch]:
        """Go where a node's routes lead: a socket of its own, a pod of its own, another node, or nowhere."""
        dst = call.packet.dst
        pod = self._pod_at.get(dst)
        there = node if is_loopback(dst) else pod.node if pod is not None else self._node_of.get(dst, "")
        if not there or not hops:
            yield _end(call, DROPPED)
        elif there != node:
            yield from self._through(call, there, memory, hops - 1)
        elif not self._comes_back(call, node):
            yield _end(call, DROPPED)
        else:
            packet = call.packet
            name = self._listeners.get((dst, packet.protocol, packet.dport))
            if name is None:
                yield _end(call, REFUSED)
            else:
                source = OWN if packet.src == call.caller else packet.src
                yield Branch(Outcome(DELIVERED, name, source), call.chance, call.remembered)

    def _comes_back(self, call: _Under, last: str) -> bool:
        """Whether the answer passes every node that rewrote the call, so that the caller knows it again.

        It goes from the last node to the node of the address that the pod saw.
        """
        src = call.packet.src
        pod = self._pod_at.get(src)
        to = pod.node if pod is not None else self._node_of.get(src, call.home if src == call.caller else "")
        return all(node in {last, to} for node in call.rewritten_on)


def _end(call: _Under, verdict: str) -> Branch:
    return Branch(Outcome(verdict), call.chance, call.remembered)


def merged(branches: Iterable[Branch]) -> dict[Outcome, Fraction]:
    """Outcomes with their chances."""
    found: dict[Outcome, Fraction] = {}
    for branch in branches:
        found[branch.outcome] = found.get(branch.outcome, Fraction(0)) + branch.chance
    return found
