"""The text of a node's table in nftables mode, as `nft list ruleset` prints it, kept so that a change costs what it
changed.

Sets and maps come first, then chains by Service port, as in `NftRuleSet.table`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from kflab.dataplane import nftables_names as names
from kflab.dataplane.nftables_fixed import COMMENT, SET_COMMENTS
from kflab.dataplane.nftables_port import NftPort
from kflab.dataplane.nftables_rules import INDENT, NftChain, NftMap, NftSet, family_word
from kflab.dataplane.text_blocks import ClaimedBlocks, TextBlocks
from kflab.manifest.objects import Key

BY_NODE_PORT = frozenset({names.SERVICE_NODEPORTS, names.NO_ENDPOINT_NODEPORTS})

Place = tuple[Key, int, int]
"""Service, number of its port, number of the element."""


class NftText:
    """The text, Service port by Service port.

    Args:
        fixed: Chains that depend on no Service.
        serving_ips: Addresses of set nodeport-ips; None where there is no such set.
        family: IPv4 or IPv6.
    """

    def __init__(self, fixed: Mapping[str, NftChain], serving_ips: tuple[str, ...] | None, family: str) -> None:
        self._family = family
        self._serving_ips = serving_ips
        self._fixed = "".join(f"\n{chain.listed(family)}" for chain in fixed.values())
        self._maps: dict[str, ClaimedBlocks[Place]] = {
            name: ClaimedBlocks() for name in SET_COMMENTS if name not in (names.CLUSTER_IPS, names.NODEPORT_IPS)
        }
        self._affinity: TextBlocks[tuple[Key, int]] = TextBlocks()
        self._chains: TextBlocks[tuple[Key, int]] = TextBlocks()
        self._cluster_ips: Counter[str] = Counter()
        """ClusterIP → how many Service ports have it."""
        self._cluster_set: tuple[frozenset[str], str] = frozenset(), self._set(names.CLUSTER_IPS, ())
        """The ClusterIPs last written, and their text."""

    def _set(self, name: str, addresses: Iterable[str]) -> str:
        return NftSet(name, SET_COMMENTS[name], tuple(addresses)).listed(self._family)

    def put(self, port: NftPort) -> None:
        """Write what a Service port puts into the table."""
        order, family = port.port.order, self._family
        self._cluster_ips[port.port.cluster_ip] += 1
        for name, blocks in self._maps.items():
            for i, element in enumerate(port.elements(name)):
                blocks.claim(element.key, (*order, i), (*order, i), f"{INDENT}{element.listed()}")
        self._affinity.put(order, "".join([f"\n{item.listed(family)}" for item in port.affinity_sets()]))
        self._chains.put(order, "".join([f"\n{chain.listed(family)}" for chain in port.chains()]))

    def drop(self, port: NftPort) -> None:
        """Remove what a Service port put into the table."""
        order, ip = port.port.order, port.port.cluster_ip
        self._cluster_ips[ip] -= 1
        if not self._cluster_ips[ip]:
            del self._cluster_ips[ip]
        for name, blocks in self._maps.items():
            for i, element in enumerate(port.elements(name)):
                blocks.release(element.key, (*order, i))
        self._affinity.drop(order)
        self._chains.drop(order)

    def blocks(self) -> list[str]:
        """The text, in pieces."""
        found = [f'table {family_word(self._family)} {names.TABLE} {{\n\tcomment "{COMMENT}"\n']
        for n, name in enumerate(SET_COMMENTS):
            # After the table's comment nft leaves no empty line, between its blocks it leaves one.
            between = "\n" if n else ""
            if name == names.CLUSTER_IPS:
                found += [between, self._cluster_ip_set()]
            elif name != names.NODEPORT_IPS:
                found += [between, *self._map(name)]
            elif self._serving_ips is not None:
                found += [between, self._set(name, self._serving_ips)]
        return [*found, *self._affinity.texts(), self._fixed, *self._chains.texts(), "}\n"]

    def _cluster_ip_set(self) -> str:
        """Set cluster-ips: two addresses to a line, so it is written whole, and only where an address came or went."""
        if self._cluster_ips.keys() != self._cluster_set[0]:
            self._cluster_set = frozenset(self._cluster_ips), self._set(names.CLUSTER_IPS, self._cluster_ips)
        return self._cluster_set[1]

    def _map(self, name: str) -> list[str]:
        texts = self._maps[name].blocks.texts()
        empty = NftMap(name, name not in BY_NODE_PORT, SET_COMMENTS[name])
        if not texts:
            return [empty.listed(self._family)]
        opening, closing = empty.around(self._family)
        return [opening, texts[0].removeprefix(INDENT), *texts[1:], closing]
