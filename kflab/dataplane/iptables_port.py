"""The iptables rules of one Service port on one node, in the order kube-proxy writes them.

Source: k/k pkg/proxy/iptables/proxier.go, syncProxyRules, writeServiceToEndpointRules, writeInternalTrafficPolicy…;
pkg/proxy/topology.go for the endpoint lists.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property, lru_cache

from kflab.dataplane import iptables_names as names
from kflab.dataplane.addresses import IPV4
from kflab.dataplane.endpoints import SAME_NODE_GATE
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.rules import (
    ACCEPT,
    DROP,
    REJECT,
    AddrType,
    Chain,
    Comment,
    Dport,
    Dst,
    Match,
    Nfacct,
    Proto,
    RecentCheck,
    RecentSet,
    Rule,
    Src,
    Statistic,
    Target,
)
from kflab.dataplane.service_ports import PortRules, ranges_hold
from kflab.records import dataclass

_MARK = Target(names.MARK_MASQ)


@lru_cache(maxsize=8192)
def _share(n: int) -> Statistic:
    return Statistic(Fraction(1, n))


@dataclass(frozen=True, eq=False)
class PortOnNode:
    """A Service port as one node's kube-proxy writes it. Rules and chains are made when asked for."""

    port: PortRules
    facts: NodeFacts
    config: ProxyConfig
    family: str = IPV4
    large: bool = False
    """Large-cluster mode: endpoint rules carry no comment."""

    # --- what decides ------------------------------------------------------------------------------------------

    @cached_property
    def cluster_endpoints(self) -> tuple[str, ...]:
        same_node = self.config.gate(SAME_NODE_GATE)
        return self.port.cluster_list(self.facts.name, self.facts.zone, same_node)

    @cached_property
    def local_endpoints(self) -> tuple[str, ...]:
        return self.port.local_list(self.facts.name)

    @cached_property
    def has_endpoints(self) -> bool:
        """Whether the Service has endpoints anywhere, for the policies it uses."""
        return bool(self.cluster_endpoints) or (self.port.uses_local and self.port.endpoints.any_usable)

    @property
    def has_internal(self) -> bool:
        return self.has_endpoints and bool(not self.port.internal_local or self.local_endpoints)

    @property
    def has_external(self) -> bool:
        return self.has_endpoints and bool(not self.port.external_local or self.local_endpoints)

    @property
    def guarded(self) -> bool:
        """Whether source ranges guard the load balancer addresses (chain KUBE-FW)."""
        return self.has_endpoints and bool(self.port.lb_ips and self.port.source_ranges)

    @property
    def svc(self) -> str:
        return names.SVC + self.port.hash

    @property
    def svl(self) -> str:
        return names.SVL + self.port.hash

    @property
    def ext(self) -> str:
        return names.EXT + self.port.hash

    @property
    def fw(self) -> str:
        return names.FW + self.port.hash

    @property
    def internal_chain(self) -> str:
        return self.svl if self.port.internal_local else self.svc

    # --- shared chains -----------------------------------------------------------------------------------------

    def _to(self, address: str) -> tuple[Match, ...]:
        return (Proto(self.port.protocol.lower()), Dst(address), Dport(self.port.port))

    @cached_property
    def nat_services(self) -> tuple[Rule, ...]:
        """Rules in nat KUBE-SERVICES."""
        port = self.port
        rules = []
        if self.has_internal:
            note = Comment(f"{port.name} cluster IP")
            rules.append(Rule((note, *self._to(port.cluster_ip)), Target(self.internal_chain)))
        if self.has_endpoints:
            note = Comment(f"{port.name} external IP")
            rules.extend(Rule((note, *self._to(ip)), Target(self.ext)) for ip in port.external_ips)
            note = Comment(f"{port.name} loadbalancer IP")
            lb_chain = Target(self.fw if self.guarded else self.ext)
            rules.extend(Rule((note, *self._to(ip)), lb_chain) for ip in port.lb_ips)
        return tuple(rules)

    @cached_property
    def nat_nodeports(self) -> tuple[Rule, ...]:
        """Rules in nat KUBE-NODEPORTS."""
        port = self.port
        if not port.node_port or not self.has_endpoints:
            return ()
        note, proto, dport = Comment(port.name), Proto(port.protocol.lower()), Dport(port.node_port)
        rules = []
        if self.config.nfacct and self.config.serves_localhost(self.family):
            counted = (note, proto, Dst("127.0.0.0/8"), dport, Nfacct("localhost_nps_accepted_pkts"))
            rules.append(Rule(counted, Target(self.ext)))
        rules.append(Rule((note, proto, dport), Target(self.ext)))
        return tuple(rules)

    def _refusal(self, present: bool) -> tuple[Comment, Target] | None:
        """Comment and target where traffic of one policy has nowhere to go; None where it has."""
        if not self.has_endpoints:
            return Comment(f"{self.port.name} has no endpoints"), REJECT
        if not present:
            return Comment(f"{self.port.name} has no local endpoints"), DROP
        return None

    @cached_property
    def filter_services(self) -> tuple[Rule, ...]:
        """Rules in filter KUBE-SERVICES: ClusterIP traffic with nowhere to go."""
        refusal = self._refusal(self.has_internal)
        if refusal is None:
            return ()
        note, target = refusal
        return (Rule((note, *self._to(self.port.cluster_ip)), target),)

    @cached_property
    def filter_external(self) -> tuple[Rule, ...]:
        """Rules in filter KUBE-EXTERNAL-SERVICES: outside traffic with nowhere to go."""
        port = self.port
        refusal = self._refusal(self.has_external)
        if refusal is None:
            return ()
        note, target = refusal
        rules = [Rule((note, *self._to(ip)), target) for ip in (*port.external_ips, *port.lb_ips)]
        if port.node_port:
            matches = (note, AddrType("dst"), Proto(port.protocol.lower()), Dport(port.node_port))
            rules.append(Rule(matches, target))
        return tuple(rules)

    @cached_property
    def filter_firewall(self) -> tuple[Rule, ...]:
        """Rules in filter KUBE-PROXY-FIREWALL: what KUBE-FW did not send on."""
        if not self.guarded:
            return ()
        note = Comment(f"{self.port.name} traffic not accepted by {self.fw}")
        return tuple(Rule((note, *self._to(ip)), DROP) for ip in self.port.lb_ips)

    @cached_property
    def filter_nodeports(self) -> tuple[Rule, ...]:
        """The rule in filter KUBE-NODEPORTS that opens the health check port."""
        if not self.port.health_port:
            return ()
        note = Comment(f"{self.port.name} health check node port")
        return (Rule((note, Proto("tcp"), Dport(self.port.health_port)), ACCEPT),)

    # --- chains of its own -------------------------------------------------------------------------------------

    @cached_property
    def chain_names(self) -> tuple[str, ...]:
        """Its nat chains, without KUBE-SEP."""
        if not self.has_endpoints:
            return ()
        found = []
        if self.port.externally_accessible:
            found.append(self.ext)
        if self.guarded:
            found.append(self.fw)
        if self.cluster_endpoints:
            found.append(self.svc)
        if self.local_endpoints:
            found.append(self.svl)
        return tuple(found)

    @cached_property
    def reachable(self) -> tuple[str, ...]:
        """ip:port of every endpoint that has a chain on this node."""
        return tuple(sorted(self._reachable))

    @cached_property
    def _reachable(self) -> frozenset[str]:
        return frozenset(self.cluster_endpoints) | frozenset(self.local_endpoints)

    @cached_property
    def ext_chain(self) -> Chain:
        port, name = self.port, self.ext
        if not port.external_local:
            note = Comment(f"masquerade traffic for {port.name} external destinations")
            return Chain(name, (Rule((note,), _MARK), Rule((), Target(self.svc))))
        rules = []
        pods = self.config.local_traffic(self.family, self.facts.pod_cidrs)
        if pods:
            note = Comment(f"pod traffic for {port.name} external destinations")
            rules.append(Rule((note, pods.match()), Target(self.svc)))
        local = AddrType("src")
        rules.append(Rule((Comment(f"masquerade LOCAL traffic for {port.name} external destinations"), local), _MARK))
        note = Comment(f"route LOCAL traffic for {port.name} external destinations")
        rules.append(Rule((note, local), Target(self.svc)))
        if self.local_endpoints:
            rules.append(Rule((), Target(self.svl)))
        return Chain(name, tuple(rules))

    @cached_property
    def fw_chain(self) -> Chain:
        port = self.port
        note = Comment(f"{port.name} loadbalancer IP")
        rules = [Rule((note, Src(cidr)), Target(self.ext)) for cidr in port.source_ranges]
        if ranges_hold(port.source_ranges, self.facts.primary_ip(self.family)):
            rules.extend(Rule((note, Src(ip)), Target(self.ext)) for ip in port.lb_ips)
        last = Comment(f"other traffic to {port.name} will be dropped by {names.PROXY_FIREWALL}")
        rules.append(Rule((last,), None))
        return Chain(self.fw, tuple(rules))

    def _masquerade_first(self) -> tuple[Rule, ...]:
        """First rule of the chain that ClusterIP traffic takes: who is not a pod is masqueraded."""
        if not self.has_internal:
            return ()
        matches: tuple[Match, ...] = (Comment(f"{self.port.name} cluster IP"), *self._to(self.port.cluster_ip))
        if self.config.masquerade_all:
            return (Rule(matches, _MARK),)
        pods = self.config.local_traffic(self.family, self.facts.pod_cidrs)
        return (Rule((*matches, pods.match(inverted=True)), _MARK),) if pods else ()

    def _to_endpoints(self, name: str, endpoints: tuple[str, ...]) -> Chain:
        port = self.port
        rules = list(self._masquerade_first()) if name == self.internal_chain else []
        notes: list[tuple[Match, ...]] = [
            () if self.large else (Comment(f"{port.name} -> {endpoint}"),) for endpoint in endpoints
        ]
        seps = [port.sep_of[endpoint] for endpoint in endpoints]
        if port.affinity_s:
            rules.extend(
                Rule((*note, RecentCheck(sep, port.affinity_s)), Target(sep))
                for note, sep in zip(notes, seps, strict=True)
            )
        n, start = len(endpoints), len(rules)
        for i, (note, sep) in enumerate(zip(notes, seps, strict=True)):
            matches = (*note, _share(n - i)) if i < n - 1 else note
            rules.append(Rule(matches, Target(sep)))
        return Chain(name, tuple(rules), shares=(start, n))

    @cached_property
    def svc_chain(self) -> Chain:
        return self._to_endpoints(self.svc, self.cluster_endpoints)

    @cached_property
    def svl_chain(self) -> Chain:
        return self._to_endpoints(self.svl, self.local_endpoints)

    def sep_chain(self, endpoint: str) -> Chain:
        """The chain of one endpoint: mark a call from itself (hairpin), then DNAT."""
        port = self.port
        name = port.sep_of[endpoint]
        note: tuple[Match, ...] = () if self.large else (Comment(port.name),)
        address = port.endpoints.by_text[endpoint].address
        recent: tuple[Match, ...] = (RecentSet(name),) if port.affinity_s else ()
        return Chain(
            name,
            (
                Rule((*note, Src(address)), _MARK),
                Rule((*note, *recent, Proto(port.protocol.lower())), Target("DNAT", f"--to-destination {endpoint}")),
            ),
        )

    def own_chains(self) -> Iterator[Chain]:
        """Every nat chain of this port, made one by one."""
        for name in self.chain_names:
            chain = self.chain(name)
            if chain is not None:
                yield chain
        if self.has_endpoints:
            for endpoint in self.reachable:
                yield self.sep_chain(endpoint)

    def own_chain_names(self) -> Iterator[str]:
        """Names of `own_chains`, without making them."""
        yield from self.chain_names
        if self.has_endpoints:
            yield from (self.port.sep_of[endpoint] for endpoint in self.reachable)

    def chain(self, name: str) -> Chain | None:
        """One of its nat chains by name; None where the node has no such chain."""
        prefix = names.prefix_of(name)
        if prefix == names.SEP:
            endpoint = self.port.endpoint_of.get(name)
            return self.sep_chain(endpoint) if endpoint is not None and endpoint in self._reachable else None
        if name not in self.chain_names:
            return None
        if prefix == names.SVC:
            return self.svc_chain
        if prefix == names.SVL:
            return self.svl_chain
        return self.ext_chain if prefix == names.EXT else self.fw_chain
