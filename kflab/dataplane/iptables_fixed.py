"""The rules kube-proxy always writes, and the built-in chains with its jumps, on an otherwise empty node.

Source: k/k pkg/proxy/iptables/proxier.go, iptablesJumpChains, the fixed part of syncProxyRules; jump order as on a
fresh node (each jump is inserted at the head when missing).
"""

from kflab.dataplane import iptables_names as names
from kflab.dataplane.addresses import IPV6
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import MASQUERADE_MARK, ProxyConfig
from kflab.dataplane.rules import (
    ACCEPT,
    DROP,
    RETURN,
    AddrType,
    Chain,
    Comment,
    CtState,
    Dst,
    Mark,
    Match,
    Nfacct,
    Rule,
    Src,
    Target,
)

_NEW = CtState(("NEW",))


def _jump(to: str, comment: str = "", new: bool = False) -> Rule:
    matches: list[Match] = [_NEW] if new else []
    if comment:
        matches.append(Comment(comment))
    return Rule(tuple(matches), Target(to))


_SERVICES = "kubernetes service portals"
_EXTERNAL = _jump(names.EXTERNAL_SERVICES, "kubernetes externally-visible service portals", new=True)
_PROXY_FIREWALL = _jump(names.PROXY_FIREWALL, "kubernetes load balancer firewall", new=True)
_FIREWALL = _jump(names.FIREWALL)

BUILT_IN = {
    "mangle": tuple(
        Chain(name, policy="ACCEPT") for name in ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
    ),
    "filter": (
        Chain(
            "INPUT",
            (
                _FIREWALL,
                _PROXY_FIREWALL,
                _jump(names.NODEPORTS, "kubernetes health check service ports"),
                _EXTERNAL,
            ),
            policy="ACCEPT",
        ),
        Chain(
            "FORWARD",
            (
                _PROXY_FIREWALL,
                _jump(names.FORWARD, "kubernetes forwarding rules"),
                _jump(names.SERVICES, _SERVICES, new=True),
                _EXTERNAL,
            ),
            policy="ACCEPT",
        ),
        Chain("OUTPUT", (_FIREWALL, _PROXY_FIREWALL, _jump(names.SERVICES, _SERVICES, new=True)), policy="ACCEPT"),
    ),
    "nat": (
        Chain("PREROUTING", (_jump(names.SERVICES, _SERVICES),), policy="ACCEPT"),
        Chain("INPUT", policy="ACCEPT"),
        Chain("OUTPUT", (_jump(names.SERVICES, _SERVICES),), policy="ACCEPT"),
        Chain("POSTROUTING", (_jump(names.POSTROUTING, "kubernetes postrouting rules"),), policy="ACCEPT"),
    ),
}
"""Built-in chains by table, with kube-proxy's jumps."""


def nodeport_jumps(facts: NodeFacts, config: ProxyConfig, family: str) -> tuple[Rule, ...]:
    """The last rules of nat KUBE-SERVICES: which destinations are tried as NodePorts."""
    note = Comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    to = Target(names.NODEPORTS)
    if config.node_port_cidrs(family) or "primary" in config.node_port_addresses:
        return tuple(Rule((note, Dst(ip)), to) for ip in facts.node_port_ips(config, family))
    matches: list[Match] = [note, AddrType("dst")]
    if family == IPV6:
        matches.append(Dst("::1/128", inverted=True))
    elif not config.serves_localhost(family):
        matches.append(Dst("127.0.0.0/8", inverted=True))
    return (Rule(tuple(matches), to),)


def fixed_chains(config: ProxyConfig, family: str) -> dict[tuple[str, str], Chain]:
    """Chains whose rules depend on no Service, by (table, name)."""
    mark = f"{MASQUERADE_MARK:#x}"
    loopback = "127.0.0.0/8"
    firewall: tuple[Rule, ...] = ()
    if config.serves_localhost(family):
        matches = (
            Comment("block incoming localnet connections"),
            Dst(loopback),
            Src(loopback, inverted=True),
            CtState(("RELATED", "ESTABLISHED", "DNAT"), inverted=True),
        )
        firewall = (Rule(matches, DROP),)
    forward = []
    if not config.conntrack_tcp_be_liberal:
        counted: tuple[Match, ...] = (Nfacct("ct_state_invalid_dropped_pkts"),) if config.nfacct else ()
        forward.append(Rule((CtState(("INVALID",)), *counted), DROP))
    marked = Mark(MASQUERADE_MARK, MASQUERADE_MARK)
    forward.append(Rule((Comment("kubernetes forwarding rules"), marked), ACCEPT))
    known = CtState(("RELATED", "ESTABLISHED"))
    forward.append(Rule((Comment("kubernetes forwarding conntrack rule"), known), ACCEPT))
    masquerade = Target("MASQUERADE", "--random-fully" if config.random_fully else "")
    postrouting = (
        Rule((Mark(MASQUERADE_MARK, MASQUERADE_MARK, inverted=True),), RETURN),
        Rule((), Target("MARK", f"--xor-mark {mark}")),
        Rule((Comment("kubernetes service traffic requiring SNAT"),), masquerade),
    )
    chains = {
        ("filter", names.FIREWALL): firewall,
        ("filter", names.FORWARD): tuple(forward),
        ("nat", names.MARK_MASQ): (Rule((), Target("MARK", f"--or-mark {mark}")),),
        ("nat", names.POSTROUTING): postrouting,
    }
    return {key: Chain(key[1], rules) for key, rules in chains.items()}
