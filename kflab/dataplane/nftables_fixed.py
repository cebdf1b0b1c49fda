"""The chains of kube-proxy's nftables table that depend on no Service, and how its NodePorts are configured.

Source: k/k pkg/proxy/nftables/proxier.go (release-1.33 with the cherry-pick #133969 of #132456, 1.33.5: filter-input,
-forward and -output at priority 0, so that what a node sends is judged after its destination was rewritten),
nftablesBaseChains, nftablesJumpChains, setupNFTables.
"""

from dataclasses import replace
from typing import Final

from kflab.dataplane import nftables_names as names
from kflab.dataplane.addresses import IPV4, is_loopback
from kflab.dataplane.nftables_rules import (
    Addr,
    AddrIn,
    AddrInSet,
    CtNew,
    Decision,
    FibLocal,
    Hook,
    Masquerade,
    NftChain,
    NftRule,
    Part,
    SetMark,
    Unmarked,
    Vmap,
    rule,
)
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import MASQUERADE_MARK, ProxyConfig

COMMENT: Final = "rules for kube-proxy"

SET_COMMENTS: Final = {
    names.CLUSTER_IPS: "Active ClusterIPs",
    names.NODEPORT_IPS: "IPs that accept NodePort traffic",
    names.NO_ENDPOINT_SERVICES: "vmap to drop or reject packets to services with no endpoints",
    names.NO_ENDPOINT_NODEPORTS: "vmap to drop or reject packets to service nodeports with no endpoints",
    names.FIREWALL_IPS: "destinations that are subject to LoadBalancerSourceRanges",
    names.SERVICE_IPS: "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    names.SERVICE_NODEPORTS: "NodePort traffic",
}
"""Sets and maps that always exist (nodeport-ips only where not every local address serves), in order of creation."""


def _new(to: str) -> NftRule:
    return rule(CtNew(), Decision("jump", to))


def _jump(to: str) -> NftRule:
    return rule(Decision("jump", to))


BASE_CHAINS: Final = (
    NftChain(names.FILTER_PREROUTING_PRE_DNAT, (_new(names.FIREWALL_CHECK),), hook=Hook("filter", "prerouting", -110)),
    NftChain(names.FILTER_OUTPUT_PRE_DNAT, (_new(names.FIREWALL_CHECK),), hook=Hook("filter", "output", -110)),
    NftChain(
        names.FILTER_INPUT,
        (_new(names.NODEPORT_ENDPOINTS_CHECK), _new(names.SERVICE_ENDPOINTS_CHECK)),
        hook=Hook("filter", "input", 0),
    ),
    NftChain(
        names.FILTER_FORWARD,
        (_new(names.SERVICE_ENDPOINTS_CHECK), _new(names.CLUSTER_IPS_CHECK)),
        hook=Hook("filter", "forward", 0),
    ),
    NftChain(
        names.FILTER_OUTPUT,
        (_new(names.SERVICE_ENDPOINTS_CHECK), _new(names.CLUSTER_IPS_CHECK)),
        hook=Hook("filter", "output", 0),
    ),
    NftChain(names.NAT_PREROUTING, (_jump(names.SERVICES),), hook=Hook("nat", "prerouting", -100)),
    NftChain(names.NAT_OUTPUT, (_jump(names.SERVICES),), hook=Hook("nat", "output", -100)),
    NftChain(names.NAT_POSTROUTING, (_jump(names.MASQUERADING),), hook=Hook("nat", "postrouting", 100)),
)
"""Base chains with their jumps, in order of creation."""


def effective_config(config: ProxyConfig) -> ProxyConfig:
    """NodePorts of nftables mode: without nodePortAddresses only the node's primary addresses serve them.

    Source: k/k cmd/kube-proxy/app/server_linux.go, platformApplyDefaults (1.31 and newer); KEP-3866.
    """
    return config if config.node_port_addresses else replace(config, node_port_addresses=("primary",))


def serving_ips(facts: NodeFacts, config: ProxyConfig, family: str) -> tuple[str, ...] | None:
    """Addresses in set nodeport-ips; None where every local address but loopback serves (the set does not exist).

    Loopback is never among them: localhost NodePorts are not supported (setupNFTables says so in its log). A node
    without a primary address of the family has no CIDR of it, which means every address (pkg/proxy/util/
    nodeport_addresses.go, NewNodePortAddresses).
    """
    config = effective_config(config)
    if "primary" in config.node_port_addresses:
        primary = facts.primary_ip(family)
        return (primary,) if primary and not is_loopback(primary) else None
    if not config.node_port_cidrs(family):
        return None
    return tuple(ip for ip in facts.node_port_ips(config, family) if not is_loopback(ip))


def fixed_chains(
    facts: NodeFacts, config: ProxyConfig, family: str, service_cidrs: tuple[str, ...] = ()
) -> dict[str, NftChain]:
    """Chains that depend on no Service, base chains first, in order of creation.

    Args:
        facts: The node.
        config: kube-proxy's settings there.
        family: IPv4 or IPv6.
        service_cidrs: The cluster's ServiceCIDRs of this family; without any, unallocated ClusterIPs are not dropped.
    """
    away_from_loopback = Addr("daddr", "127.0.0.0/8" if family == IPV4 else "::1", inverted=True)
    # What comes to the input hook is local already.
    checked: tuple[Part, ...] = (away_from_loopback,)
    matches: tuple[Part, ...] = (FibLocal("daddr"), away_from_loopback)
    if serving_ips(facts, config, family) is not None:
        matches = checked = (AddrInSet("daddr", names.NODEPORT_IPS),)
    cluster_ips = [
        rule(
            AddrInSet("daddr", names.CLUSTER_IPS),
            Decision("reject"),
            comment="Reject traffic to invalid ports of ClusterIPs",
        )
    ]
    if service_cidrs:
        unallocated = AddrIn("daddr", service_cidrs)
        cluster_ips.append(rule(unallocated, Decision("drop"), comment="Drop traffic to unallocated ClusterIPs"))
    bits = MASQUERADE_MARK
    own = (
        NftChain(names.NODEPORT_ENDPOINTS_CHECK, (rule(*checked, Vmap(names.NO_ENDPOINT_NODEPORTS, False)),)),
        NftChain(names.SERVICE_ENDPOINTS_CHECK, (rule(Vmap(names.NO_ENDPOINT_SERVICES, True)),)),
        NftChain(names.FIREWALL_CHECK, (rule(Vmap(names.FIREWALL_IPS, True)),)),
        NftChain(
            names.SERVICES,
            (rule(Vmap(names.SERVICE_IPS, True)), rule(*matches, Vmap(names.SERVICE_NODEPORTS, False))),
        ),
        NftChain(
            names.MASQUERADING,
            (rule(Unmarked(bits), Decision("return")), rule(SetMark("^", bits)), rule(Masquerade())),
        ),
        NftChain(names.CLUSTER_IPS_CHECK, tuple(cluster_ips)),
        NftChain(names.MARK_MASQ, (rule(SetMark("|", bits)),)),
        NftChain(
            names.REJECT_CHAIN,
            (rule(Decision("reject")),),
            comment="helper for @no-endpoint-services / @no-endpoint-nodeports",
        ),
    )
    return {chain.name: chain for chain in (*BASE_CHAINS, *own)}
