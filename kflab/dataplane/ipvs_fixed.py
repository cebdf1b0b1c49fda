"""The iptables rules around IPVS: marks for masquerade, source ranges, health check ports, what a VIP lets through.

Source: k/k pkg/proxy/ipvs/proxier.go (1.33), iptablesJumpChain, iptablesChains, ipsetWithIptablesChain,
writeIptablesRules, acceptIPVSTraffic. Each jump is put at the head of its chain, so the last one written comes first.
"""

from collections.abc import Callable, Iterable
from typing import Final

from kflab.dataplane import iptables_names as names
from kflab.dataplane import ipvs_sets as sets
from kflab.dataplane.addresses import IPV4
from kflab.dataplane.ipvs_rules import NOT_FROM_BRIDGE, SRC_NOT_LOCAL, MatchSet, ToVirtualServer, only_proto
from kflab.dataplane.local_traffic import LocalTraffic
from kflab.dataplane.proxy_config import MASQUERADE_MARK, ProxyConfig
from kflab.dataplane.rules import (
    ACCEPT,
    DROP,
    REJECT,
    RETURN,
    AddrType,
    Chain,
    Comment,
    CtState,
    Mark,
    Match,
    Rule,
    Src,
    Target,
)

NODE_PORT: Final = "KUBE-NODE-PORT"
LOAD_BALANCER: Final = "KUBE-LOAD-BALANCER"
SOURCE_RANGES: Final = "KUBE-SOURCE-RANGES-FIREWALL"
IPVS_FILTER: Final = "KUBE-IPVS-FILTER"
IPVS_OUT_FILTER: Final = "KUBE-IPVS-OUT-FILTER"

_MARK = Target(names.MARK_MASQ)

NoAccess = tuple[str, str, int]
"""Load balancer address, protocol in lower case, port."""


def _jump(to: str, comment: str) -> Rule:
    return Rule((Comment(comment),), Target(to))


_ACCESS = "kubernetes ipvs access filter"
_FIREWALL = _jump(names.PROXY_FIREWALL, "kube-proxy firewall rules")
_PORTALS = _jump(names.SERVICES, "kubernetes service portals")

BUILT_IN: Final = {
    "filter": (
        Chain(
            "INPUT",
            (_jump(IPVS_FILTER, _ACCESS), _FIREWALL, _jump(NODE_PORT, "kubernetes health check rules")),
            policy="ACCEPT",
        ),
        Chain("FORWARD", (_FIREWALL, _jump(names.FORWARD, "kubernetes forwarding rules")), policy="ACCEPT"),
        Chain("OUTPUT", (_jump(IPVS_OUT_FILTER, _ACCESS),), policy="ACCEPT"),
    ),
    "nat": (
        Chain("PREROUTING", (_PORTALS,), policy="ACCEPT"),
        Chain("INPUT", policy="ACCEPT"),
        Chain("OUTPUT", (_PORTALS,), policy="ACCEPT"),
        Chain("POSTROUTING", (_jump(names.POSTROUTING, "kubernetes postrouting rules"),), policy="ACCEPT"),
    ),
}
"""Built-in chains by table, with kube-proxy's jumps."""


class _Writer:
    """Writes rules that match ipsets.

    Args:
        family: IPv4 or IPv6.
        present: Whether a set has entries; most rules are written only then.
    """

    def __init__(self, family: str, present: Callable[[str], bool]) -> None:
        self._family, self._present = family, present

    def match(self, name: str, fields: str) -> MatchSet:
        return MatchSet.of(sets.set_name(name, self._family), fields)

    def noted(self, name: str, fields: str) -> tuple[Match, ...]:
        return Comment(sets.KIND_OF[name].comment), self.match(name, fields)

    def rules(self, name: str, fields: str, target: Target, protocol: str = "", *more: Match) -> tuple[Rule, ...]:
        """The rule for a set, if it has entries."""
        if not self._present(name):
            return ()
        first: tuple[Match, ...] = (only_proto(protocol),) if protocol else ()
        return (Rule((*first, *self.noted(name, fields), *more), target),)

    def node_ports(self) -> tuple[Rule, ...]:
        """nat KUBE-NODE-PORT: Local policy before the mark, TCP, UDP, SCTP."""
        found: list[Rule] = []
        for protocol in ("tcp", "udp", "sctp"):
            fields = "dst,dst" if protocol == "sctp" else "dst"
            found.extend(self.rules(sets.NODE_PORT_LOCAL[protocol], fields, RETURN, protocol))
            found.extend(self.rules(sets.NODE_PORT[protocol], fields, _MARK, protocol))
        return tuple(found)

    def external(self, name: str, mark: bool) -> tuple[Rule, ...]:
        """What comes to external addresses; ACCEPT ends nat for it, whoever's rules follow."""
        return (
            *(self.rules(name, "dst,dst", _MARK) if mark else ()),
            *self.rules(name, "dst,dst", ACCEPT, "", NOT_FROM_BRIDGE, SRC_NOT_LOCAL),
            *self.rules(name, "dst,dst", ACCEPT, "", AddrType("dst")),
        )

    def services(self, masquerade_all: bool, pods: LocalTraffic | None) -> tuple[Rule, ...]:
        """nat KUBE-SERVICES."""
        loopback = "127.0.0.0/8" if self._family == IPV4 else "::1/128"
        if masquerade_all:
            marked = self.rules(sets.CLUSTER_IP, "dst,dst", _MARK)
        elif pods:
            marked = self.rules(sets.CLUSTER_IP, "dst,dst", _MARK, "", pods.match(inverted=True))
        else:
            # Without a detector only what the node sends from a VIP itself: kube-ipvs0 has them all.
            marked = self.rules(sets.CLUSTER_IP, "src,dst", _MARK)
        accepted = (sets.CLUSTER_IP, sets.LOAD_BALANCER)
        return (
            Rule((Src(loopback),), RETURN),
            *self.rules(sets.LOAD_BALANCER, "dst,dst", Target(LOAD_BALANCER)),
            *marked,
            *self.external(sets.EXTERNAL_IP, mark=True),
            *self.external(sets.EXTERNAL_IP_LOCAL, mark=False),
            Rule((AddrType("dst"),), Target(NODE_PORT)),
            *(Rule((self.match(name, "dst,dst"),), ACCEPT) for name in accepted if self._present(name)),
        )

    def ipvs_filter(self) -> tuple[Rule, ...]:
        """filter KUBE-IPVS-FILTER: a VIP answers on its Services' ports only (k/k #72236)."""
        known = (sets.LOAD_BALANCER, sets.CLUSTER_IP, sets.EXTERNAL_IP, sets.EXTERNAL_IP_LOCAL)
        return (
            *(Rule((self.match(name, "dst,dst"),), RETURN) for name in known),
            Rule((self.match(sets.HEALTH_PORT, "dst"),), RETURN),
            Rule((CtState(("NEW",)), self.match(sets.IPVS_IPS, "dst")), REJECT),
        )


def chains(
    config: ProxyConfig,
    pods: LocalTraffic | None,
    family: str,
    present: Callable[[str], bool],
    no_access: Iterable[NoAccess],
) -> dict[tuple[str, str], Chain]:
    """kube-proxy's chains by (table, name).

    Args:
        config: kube-proxy's settings.
        pods: What tells pods from others; None without a detector.
        family: IPv4 or IPv6.
        present: Whether an ipset has entries.
        no_access: Load balancer ports whose source ranges leave the node out (k/k #119656).
    """
    write = _Writer(family, present)
    marked = Mark(MASQUERADE_MARK, MASQUERADE_MARK)
    masquerade = Target("MASQUERADE", "--random-fully" if config.random_fully else "")
    mark = f"{MASQUERADE_MARK:#x}"
    found: dict[tuple[str, str], tuple[Rule, ...]] = {
        ("nat", names.SERVICES): write.services(config.masquerade_all, pods),
        ("nat", names.POSTROUTING): (
            *write.rules(sets.LOOP_BACK, "dst,dst,src", Target("MASQUERADE")),
            Rule((marked._replace(inverted=True),), RETURN),
            Rule((), Target("MARK", f"--xor-mark {mark}")),
            Rule((Comment("kubernetes service traffic requiring SNAT"),), masquerade),
        ),
        ("nat", NODE_PORT): write.node_ports(),
        ("nat", LOAD_BALANCER): (*write.rules(sets.LOAD_BALANCER_LOCAL, "dst,dst", RETURN), Rule((), _MARK)),
        ("nat", names.MARK_MASQ): (Rule((), Target("MARK", f"--or-mark {mark}")),),
        ("filter", names.FORWARD): (
            Rule((Comment("kubernetes forwarding rules"), marked), ACCEPT),
            Rule((Comment("kubernetes forwarding conntrack rule"), CtState(("RELATED", "ESTABLISHED"))), ACCEPT),
        ),
        ("filter", NODE_PORT): (Rule(write.noted(sets.HEALTH_PORT, "dst"), ACCEPT),),
        ("filter", names.PROXY_FIREWALL): write.rules(sets.LOAD_BALANCER_FW, "dst,dst", Target(SOURCE_RANGES)),
        ("filter", SOURCE_RANGES): (
            *write.rules(sets.SOURCE_CIDR, "dst,dst,src", RETURN),
            *write.rules(sets.SOURCE_IP, "dst,dst,src", RETURN),
            Rule((), DROP),
        ),
        ("filter", IPVS_FILTER): write.ipvs_filter(),
        ("filter", IPVS_OUT_FILTER): tuple(
            Rule((Src(ip), ToVirtualServer.of(protocol, ip, port)), DROP) for ip, protocol, port in no_access
        ),
    }
    return {key: Chain(key[1], rules) for key, rules in found.items()}
