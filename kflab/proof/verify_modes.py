"""The proxy modes that verify can ask the kernel about, as one thing: text to load, and what kflab reads from it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from kflab.dataplane.addresses import IPV4
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.nftables_names import AFFINITY, ENDPOINT
from kflab.dataplane.nftables_walk import nft_fan
from kflab.dataplane.packets import Packet
from kflab.dataplane.walk import FanOut, Recent, fan
from kflab.records import dataclass

IPTABLES: Final = "iptables"
NFTABLES: Final = "nftables"

MODES: Final = (IPTABLES, NFTABLES)


def loader(mode: str, family: str = IPV4) -> tuple[str, ...]:
    """The command that loads rules of a mode from its standard input."""
    if mode == NFTABLES:
        return ("nft", "-f", "-")
    return ("iptables-restore" if family == IPV4 else "ip6tables-restore",)


def tools(mode: str, families: Iterable[str] = (IPV4,)) -> tuple[str, ...]:
    """Programs that a mode needs."""
    return ("ip", *dict.fromkeys(loader(mode, family)[0] for family in families))


class NodeRules(Protocol):
    """One node's rules in one mode."""

    def text(self) -> str:
        """What is loaded into the kernel."""
        ...

    def fan(self, packet: Packet, recent: Recent) -> FanOut:
        """What kflab says of a packet that meets these rules."""
        ...

    def remembered(self, before: Packet, after: Packet) -> Iterator[str]:
        """Under affinity: in which lists or sets a rewritten packet leaves its source."""
        ...

    def localnet(self) -> bool:
        """Whether kube-proxy sets net.ipv4.conf.all.route_localnet here, for NodePorts on 127.0.0.0/8."""
        ...


@dataclass(frozen=True, slots=True)
class _Iptables:
    rules: RuleSet

    def text(self) -> str:
        return self.rules.save_text()

    def fan(self, packet: Packet, recent: Recent) -> FanOut:
        return fan(self.rules, packet, recent=recent)

    def remembered(self, before: Packet, after: Packet) -> Iterator[str]:
        """Lists of xt_recent have their KUBE-SEP chain's name."""
        for on_node in self.rules.deciding(before):
            chain = on_node.port.sep_of.get(after.destination)
            if chain is not None:
                yield chain

    def localnet(self) -> bool:
        """Source: k/k pkg/proxy/iptables/proxier.go, NewProxier."""
        return self.rules.config.serves_localhost(self.rules.family)


@dataclass(frozen=True, slots=True)
class _Nftables:
    rules: NftRuleSet

    def text(self) -> str:
        return self.rules.save_text()

    def fan(self, packet: Packet, recent: Recent) -> FanOut:
        return nft_fan(self.rules, packet, recent=recent)

    def remembered(self, before: Packet, after: Packet) -> Iterator[str]:
        """Affinity sets are named as their endpoint's chain."""
        for port in self.rules.deciding(before):
            for chain, text in port.endpoint_chains.items():
                if text == after.destination:
                    yield AFFINITY + chain.removeprefix(ENDPOINT)

    def localnet(self) -> bool:
        """Localhost NodePorts are not supported (k/k pkg/proxy/nftables/proxier.go, NewProxier)."""
        return False


def rules_of(rules: Mapping[str, RuleSet], mode: str) -> dict[str, NodeRules]:
    """Each node's rules in a mode, made from the same Services.

    Args:
        rules: By node, as compiled for iptables mode.
        mode: iptables or nftables.
    """
    if mode == IPTABLES:
        return {name: _Iptables(own) for name, own in rules.items()}
    return {name: _Nftables(NftRuleSet(own.facts, own.config, own.services, own.family)) for name, own in rules.items()}
