"""The three kube-proxy modes behind one door: a rule set for a mode, and walking or fanning whichever it is.

Where the modes differ for a user is told by `modes_differ`.
"""

from collections.abc import Mapping
from typing import Final

from kflab.dataplane.addresses import contains, family_of
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.ipvs import IpvsRuleSet
from kflab.dataplane.ipvs_port import IpvsPort
from kflab.dataplane.ipvs_schedulers import DEFAULT
from kflab.dataplane.ipvs_walk import ipvs_fan, ipvs_walk
from kflab.dataplane.memory_view import Turn
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.nftables_names import AFFINITY, ENDPOINT
from kflab.dataplane.nftables_port import NftPort
from kflab.dataplane.nftables_walk import nft_fan, nft_walk
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.service_addresses import cluster_ips
from kflab.dataplane.service_ports import PortRules, ServiceRules
from kflab.dataplane.service_table import ServiceTable
from kflab.dataplane.walk import FanOut, Recent, Walk, fan, walk
from kflab.errors import KflabError
from kflab.manifest.objects import Key

IPTABLES: Final = "iptables"
NFTABLES: Final = "nftables"
IPVS: Final = "ipvs"

MODES: Final = (IPTABLES, NFTABLES, IPVS)
"""KubeProxyConfiguration's `mode` on Linux; "" is iptables (cmd/kube-proxy/app/server_linux.go, 1.33)."""

ModeRules = RuleSet | NftRuleSet | IpvsRuleSet
"""A node's rules in any mode. All have `facts`, `config`, `services`, `family`, `deciding(packet)`, `endpoint(…)`,
`is_local(address)` and `save_text()`, the text that the mode's own tool prints."""


def rule_set_for(
    mode: str,
    facts: NodeFacts,
    config: ProxyConfig,
    services: Mapping[Key, ServiceRules],
    family: str,
    *,
    service_cidrs: tuple[str, ...] = (),
) -> ModeRules:
    """What kube-proxy writes on a node in a mode.

    Args:
        mode: iptables, nftables or ipvs; "" is iptables.
        facts: The node.
        config: kube-proxy's settings there (its own `mode` is not looked at).
        services: Compiled Services; a `ServiceTable` is shared, not copied.
        family: IPv4 or IPv6.
        service_cidrs: nftables: the cluster's ServiceCIDRs of this family, in which unallocated ClusterIPs are
            dropped; without any they are left alone.

    Raises:
        KflabError: For an unknown mode or scheduler.
    """
    match mode or IPTABLES:
        case "iptables":
            return RuleSet(facts, config, services, family)
        case "nftables":
            return NftRuleSet(facts, config, services, family, service_cidrs)
        case "ipvs":
            return IpvsRuleSet(facts, config, services, family, config.ipvs_scheduler or DEFAULT)
    raise KflabError(f"unknown kube-proxy mode {mode!r}; there are {', '.join(MODES)}")


def cidrs_in_use(cidrs: tuple[str, ...], services: ServiceTable) -> tuple[str, ...]:
    """ServiceCIDRs of a table's family, if they hold every ClusterIP; () otherwise: the cluster has others.

    Manifests of a foreign cluster do not say its ServiceCIDRs; to guess wrong would drop traffic that it lets pass.
    """
    own = tuple(cidr for cidr in cidrs if family_of(cidr) == services.family)
    held = all(any(contains(cidr, ip) for cidr in own) for ip in cluster_ips(services))
    return own if held else ()


def walk_in(
    rules: ModeRules,
    packet: Packet,
    draw: int,
    *,
    recent: Recent | None = None,
    explain: bool = True,
    turn: Turn | None = None,
) -> Walk:
    """Take one packet through a node's rules, whatever their mode (see `walk.walk`)."""
    if isinstance(rules, NftRuleSet):
        return nft_walk(rules, packet, draw, recent=recent, explain=explain)
    if isinstance(rules, IpvsRuleSet):
        return ipvs_walk(rules, packet, draw, recent=recent, explain=explain, turn=turn)
    return walk(rules, packet, draw, recent=recent, explain=explain)


def fan_in(rules: ModeRules, packet: Packet, *, recent: Recent | None = None) -> FanOut:
    """Everything a node's rules may do with a packet, whatever their mode (see `walk.fan`)."""
    if isinstance(rules, NftRuleSet):
        return nft_fan(rules, packet, recent=recent)
    if isinstance(rules, IpvsRuleSet):
        return ipvs_fan(rules, packet, recent=recent)
    return fan(rules, packet, recent=recent)


def remembered(rules: ModeRules, packet: Packet, name: str) -> tuple[PortRules, str] | None:
    """Whom a memory of session affinity keeps callers on.

    Args:
        rules: A node's.
        packet: The first packet of a connection, which the rules asked it about.
        name: A KUBE-SEP chain, an affinity set or a persistence template (see `Recent`).

    Returns:
        The Service port and its endpoint as ip:port; None for a name that is of none the packet can match.
    """
    for on_node in rules.deciding(packet):
        if isinstance(on_node, NftPort):
            text = on_node.endpoint_chains.get(ENDPOINT + name.removeprefix(AFFINITY))
        elif isinstance(on_node, IpvsPort):
            virtual = on_node.virtual_server(packet.dst, packet.dport)
            servers = virtual.servers if virtual is not None else ()
            text = next((server.text for server in servers if virtual and virtual.remembered(server) == name), None)
        else:
            text = on_node.port.endpoint_of.get(name)
        if text is not None:
            return on_node.port, text
    return None
