"""Where nftables and IPVS mode differ from iptables mode for whoever calls: a closed list, each with its source.

`difference` tells from what a packet and a node are, without walking any rules, whether the mode answers a first packet
otherwise than iptables mode, why, and how. Where it returns None the modes agree; tests hold it against the walkers on
random clusters, both ways.
"""

from enum import Enum
from typing import NamedTuple

from kflab.dataplane.addresses import is_loopback
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.iptables_port import PortOnNode
from kflab.dataplane.ipvs import IpvsRuleSet
from kflab.dataplane.modes import ModeRules
from kflab.dataplane.nftables import NftRuleSet
from kflab.dataplane.nftables_fixed import serving_ips
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.service_ports import ranges_hold
from kflab.records import dataclass


class _Text(NamedTuple):
    words: str
    source: str


class Reason(Enum):
    """Why a mode answers otherwise than iptables mode."""

    LOCALHOST = _Text(
        "NodePorts on localhost",
        'nftables/proxier.go setupNFTables ("localhost NodePorts are not supported"), '
        "ipvs/proxier.go syncProxyRules and netlink_linux.go isValidForSet (loopback left out)",
    )
    TO_LOOPBACK = _Text(
        "a packet to loopback from another address",
        "iptables/proxier.go KUBE-FIREWALL drops it, as that mode sets route_localnet; the others write no rule and "
        "leave the kernel to discard it (net/ipv4/route.c, martian)",
    )
    OTHER_ADDRESS = _Text(
        "a NodePort on an address that does not serve NodePorts",
        "cmd/kube-proxy/app/server_linux.go platformApplyDefaults (nftables: the primary address, unless "
        "nodePortAddresses says otherwise); iptables/proxier.go refuses an empty Service's NodePort on every address",
    )
    CLUSTER_IP_PORT = _Text(
        "a port that the Service's address lacks",
        "nftables/proxier.go cluster-ips-check (ClusterIPs); ipvs/proxier.go KUBE-IPVS-FILTER (every address on "
        "kube-ipvs0); iptables mode leaves such packets alone",
    )
    HEALTH_PORT = _Text(
        "the health check node port",
        "nftables/proxier.go writes no rule for it; ipvs/proxier.go syncProxyRules leaves it out where the Service has "
        "a NodePort that no address serves, and its ipset (bitmap:port) does not ask for the protocol",
    )
    NODE_TO_EMPTY = _Text(
        "a call from the node itself to an external address without endpoints",
        "nftables/proxier.go service-endpoints-check hangs in output too; ipvs refuses (ip_vs_leave); "
        "iptables/proxier.go KUBE-EXTERNAL-SERVICES hangs in INPUT and FORWARD only",
    )
    RANGES_FIRST = _Text(
        "source ranges of a Service without endpoints",
        "nftables/proxier.go usesFWChain, ipvs/proxier.go KUBE-LOAD-BALANCER-FW: written with or without endpoints, "
        "and checked first; iptables/proxier.go usesFWChain needs endpoints",
    )
    NODE_SKIPS_RANGES = _Text(
        "source ranges and a call from the node itself",
        "ipvs/proxier.go KUBE-PROXY-FIREWALL hangs in INPUT and FORWARD only; KUBE-IPVS-OUT-FILTER drops only what the "
        "node sends with the load balancer's address",
    )
    LOCAL_FOR_ALL = _Text(
        "externalTrafficPolicy Local and a call from a pod or the node",
        "ipvs/proxier.go syncEndpoint: the virtual server has local servers only, and KUBE-NODE-PORT and "
        "KUBE-LOAD-BALANCER return before the mark; iptables/proxier.go short-circuits such calls",
    )
    LOCAL_FALLBACK = _Text(
        "policy Local without a local endpoint",
        "ipvs/proxier.go syncEndpoint falls back to all endpoints (k/k #97081)",
    )
    FROM_LOOPBACK = _Text(
        "a call from the node's loopback address",
        "ipvs/proxier.go writeIptablesRules: KUBE-SERVICES returns first for such sources, before any mark",
    )
    REMOTE_HAIRPIN = _Text(
        "a call that comes back to its own pod on another node",
        "ipvs/proxier.go fills KUBE-LOOP-BACK with the node's own endpoints only",
    )

    @property
    def words(self) -> str:
        """In words."""
        return self.value.words

    @property
    def source(self) -> str:
        """Files of k/k, below pkg/proxy where no folder is named."""
        return self.value.source


@dataclass(frozen=True, slots=True)
class Expected:
    """What a mode does with a first packet."""

    verdict: Verdict
    endpoints: tuple[str, ...] = ()
    """ip:port, each equally likely, in order of text."""
    masquerade: bool = False
    """Whether any of them sees another source address."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A mode's own answer, and why."""

    reason: Reason
    expected: Expected


_NOTHING = Expected(Verdict.NONE)


def difference(rules: ModeRules, packet: Packet) -> Difference | None:
    """Why and how a rule set answers otherwise than iptables mode; None where it does not.

    Args:
        rules: A node's rules in any mode.
        packet: First packet of a connection.
    """
    if isinstance(rules, NftRuleSet):
        return _Nftables(rules, packet).find()
    if isinstance(rules, IpvsRuleSet):
        return _Ipvs(rules, packet).find()
    return None


class _Case:
    """A packet at a node, and which Service ports it asks for."""

    def __init__(self, rules: NftRuleSet | IpvsRuleSet, packet: Packet) -> None:
        self.packet = packet
        self.facts, self.config, self.family = rules.facts, rules.config, rules.family
        self.iptables = RuleSet(rules.facts, rules.config, rules.services, rules.family)
        services = rules.services
        addressed = services.at(packet.dst, packet.protocol, packet.dport)
        self.addressed = tuple(self.iptables.on_node(port) for port in addressed)
        node_ports = services.at_node_port(packet.protocol, packet.dport)
        self.node_ports = tuple(self.iptables.on_node(port) for port in node_ports)
        self.health = services.at_health_port(packet.dport)
        pods = self.config.local_traffic(self.family, self.facts.pod_cidrs)
        self.from_pod = pods is not None and pods.holds(packet.src)
        self.from_outside_pods = pods is not None and not self.from_pod
        self.here = self.facts.is_local(packet.dst)

    @property
    def from_node(self) -> bool:
        return self.facts.is_local(self.packet.src)

    def iptables_serves(self) -> bool:
        """Whether iptables mode tries the destination as a NodePort."""
        chosen = self.config.node_port_cidrs(self.family) or "primary" in self.config.node_port_addresses
        if chosen:
            return self.packet.dst in self.facts.node_port_ips(self.config, self.family)
        return not is_loopback(self.packet.dst) or self.config.serves_localhost(self.family)

    def unserved(self, served: tuple[str, ...] | None) -> Difference | None:
        """A NodePort where iptables mode answers and this one does not."""
        dst = self.packet.dst
        if not self.here or self.addressed or not self.node_ports:
            return None
        if dst in served if served is not None else not is_loopback(dst):
            return None
        if not self.iptables_serves() and all(port.has_external for port in self.node_ports):
            return None
        return Difference(Reason.LOCALHOST if is_loopback(dst) else Reason.OTHER_ADDRESS, _NOTHING)

    def to_loopback(self) -> Difference | None:
        """What iptables mode has a rule for since it lets packets reach loopback at all."""
        dropped = is_loopback(self.packet.dst) and not is_loopback(self.packet.src)
        if not dropped or self.addressed or not self.config.serves_localhost(self.family):
            return None
        return Difference(Reason.TO_LOOPBACK, self.at_loopback())

    def at_loopback(self) -> Expected:
        """What the mode's own rules say of a packet to loopback."""
        return _NOTHING

    def ranges_first(self) -> Difference | None:
        """Source ranges that are checked although there is nothing behind them."""
        for port in self.addressed:
            own = port.port
            if port.has_endpoints or not own.source_ranges or self.packet.dst not in own.lb_ips:
                continue
            from_vip = self.packet.src in own.lb_ips
            asked = self.facts.primary_ip(self.family) if from_vip else self.packet.src
            if not ranges_hold(own.source_ranges, asked):
                return Difference(Reason.RANGES_FIRST, Expected(Verdict.DROP))
        return None

    def node_to_empty(self) -> Difference | None:
        """The node's own call to an external address of a Service without endpoints."""
        if self.here or not self.from_node or not self.addressed or self.addressed[0].has_endpoints:
            return None
        if self.packet.dst == self.addressed[0].port.cluster_ip:
            return None
        return Difference(Reason.NODE_TO_EMPTY, Expected(Verdict.REJECT))


class _Nftables(_Case):
    def __init__(self, rules: NftRuleSet, packet: Packet) -> None:
        super().__init__(rules, packet)
        self._rules = rules

    def find(self) -> Difference | None:
        served = serving_ips(self.facts, self.config, self.family)
        found = self.unserved(served) or self.to_loopback() or self.ranges_first()
        if found is not None:
            return found
        if not self.addressed and self._rules.services.has_cluster_ip(self.packet.dst):
            return Difference(Reason.CLUSTER_IP_PORT, Expected(Verdict.REJECT))
        if self.here and self.health and self.packet.protocol == "TCP" and not self.addressed and not self.node_ports:
            return Difference(Reason.HEALTH_PORT, _NOTHING)
        return self.node_to_empty()


class _Ipvs(_Case):
    def __init__(self, rules: IpvsRuleSet, packet: Packet) -> None:
        super().__init__(rules, packet)
        self._rules = rules

    def find(self) -> Difference | None:
        found = self.unserved(self._rules.node_ips) or self.to_loopback()
        if found is not None:
            return found
        if self.addressed:
            return self._service(self.addressed[0])
        if self._rules.bound(self.packet.dst):
            return Difference(Reason.CLUSTER_IP_PORT, Expected(self._at_a_vip()))
        if self.here and self.node_ports and self.packet.dst in self._rules.node_ips:
            return self._service(self.node_ports[0])
        if self.here and self.health and self._health_open() is not (self.packet.protocol == "TCP"):
            return Difference(Reason.HEALTH_PORT, Expected(Verdict.ACCEPT) if self._health_open() else _NOTHING)
        return None

    def _health_open(self) -> bool:
        return any(self._rules.node_ips or not port.node_port for port in self.health)

    def at_loopback(self) -> Expected:
        """Its rule for health check ports asks for no address."""
        return Expected(Verdict.ACCEPT) if self.health and self._health_open() else _NOTHING

    def _at_a_vip(self) -> Verdict:
        """A health check port is open on every address of the node, VIPs included."""
        return Verdict.ACCEPT if self.health and self._health_open() else Verdict.REJECT

    def _service(self, port: PortOnNode) -> Difference | None:
        own = port.port
        if self.packet.dst == own.cluster_ip and self.packet.dport == own.port:
            return self._internal(port)
        at_lb = self.packet.dst in own.lb_ips and self.packet.dport == own.port
        if at_lb and own.source_ranges and not (self.from_node or self._rules.is_local(self.packet.src)):
            if not ranges_hold(own.source_ranges, self.packet.src):
                return None if port.has_endpoints else Difference(Reason.RANGES_FIRST, Expected(Verdict.DROP))
        skipped = at_lb and port.guarded and self.from_node and not ranges_hold(own.source_ranges, self.packet.src)
        if skipped:
            marked = not own.external_local and not is_loopback(self.packet.src)
            return Difference(Reason.NODE_SKIPS_RANGES, self._sent(port, own.external_local, marked))
        if not port.has_endpoints:
            return self.node_to_empty()
        if not own.external_local:
            return self._mark(port, False, True)
        expected = self._sent(port, True, False)
        if self.from_node or (self.from_pod and port.local_endpoints):
            same = expected == self._short_circuited(port)
            return None if same else Difference(Reason.LOCAL_FOR_ALL, expected)
        if not port.local_endpoints and not self.from_pod:
            return Difference(Reason.LOCAL_FALLBACK, expected)
        return self._mark(port, True, False)

    def _short_circuited(self, port: PortOnNode) -> Expected:
        """What iptables mode does under Local policy with a call from a pod or the node: all endpoints (KUBE-EXT)."""
        by_text = port.port.endpoints.by_text
        addresses = [by_text[text].address for text in port.cluster_endpoints]
        leaving = [address for address in addresses if self.from_node or not self.facts.is_local(address)]
        marked = self.from_node and not self.from_pod
        masquerade = bool(leaving) and (marked or self.packet.src in leaving)
        return Expected(Verdict.DNAT, tuple(sorted(port.cluster_endpoints)), masquerade)

    def _internal(self, port: PortOnNode) -> Difference | None:
        marked = self.config.masquerade_all or self.from_outside_pods
        local = port.port.internal_local
        if port.has_endpoints and local and not port.local_endpoints:
            marked = marked and not is_loopback(self.packet.src)
            return Difference(Reason.LOCAL_FALLBACK, self._sent(port, True, marked))
        return self._mark(port, local, marked)

    def _mark(self, port: PortOnNode, local: bool, marked: bool) -> Difference | None:
        """The same servers, but not the mark: of loopback, or of a pod that calls itself and is not this node's."""
        if marked and is_loopback(self.packet.src) and port.has_endpoints:
            return Difference(Reason.FROM_LOOPBACK, self._sent(port, local, False))
        expected = self._sent(port, local, marked)
        if marked or expected.masquerade:
            return None
        by_text = port.port.endpoints.by_text
        if not any(by_text[text].address == self.packet.src for text in expected.endpoints):
            return None
        return Difference(Reason.REMOTE_HAIRPIN, expected)

    def _sent(self, port: PortOnNode, local: bool, marked: bool) -> Expected:
        """To the servers of a policy; refused where there are none."""
        texts = (port.local_endpoints if local else ()) or port.cluster_endpoints
        by_text = port.port.endpoints.by_text
        if not texts:
            return Expected(Verdict.REJECT)
        leaving = [text for text in texts if self.from_node or not self.facts.is_local(by_text[text].address)]
        own = any(
            by_text[text].address == self.packet.src and by_text[text].node == self.facts.name for text in leaving
        )
        return Expected(Verdict.DNAT, tuple(sorted(texts)), bool(leaving) and (marked or own))
