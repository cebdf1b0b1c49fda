"""The cluster that verify builds: who is where, what listens, and which rules each node has."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_network

from kflab.control.plane import ControlPlane
from kflab.control.runtime import Ports
from kflab.dataplane.addresses import IPV4, IPV6, contains, family_of
from kflab.dataplane.cni import ROUTED
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.world import StaticWorld
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.proof.settled import settle
from kflab.records import dataclass
from kflab.scenario.format import Scenario

MOST = 500
"""Nodes and pods built at most: each is a network namespace, and pairs grow with their square."""


@dataclass(frozen=True, slots=True)
class PodSite:
    """A pod as it runs."""

    key: Key
    node: str
    address: str
    listening: Ports = ()
    host_network: bool = False

    @property
    def name(self) -> str:
        """namespace/name."""
        return f"{self.key.namespace}/{self.key.name}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster at rest, seen in one address family."""

    family: str
    """IPv4 or IPv6."""
    nodes: Mapping[str, NodeFacts]
    pods: tuple[PodSite, ...]
    rules: Mapping[str, RuleSet]
    """By node: what kube-proxy's rules say there."""
    config: ProxyConfig
    clients: tuple[str, ...]
    """Addresses of callers outside the cluster."""

    def node_with(self, address: str) -> str:
        """The node that has an address of its own; "" where none has."""
        return next((name for name, facts in self.nodes.items() if address in facts.ips), "")

    def pod_with(self, address: str) -> PodSite | None:
        """The pod with an address of its own (not one that shares its node's)."""
        return next((pod for pod in self.pods if pod.address == address and not pod.host_network), None)

    def listener(self, address: str, protocol: str, port: int) -> PodSite | None:
        """Whoever answers on a port of an address."""
        wanted = (protocol, port)
        return next((pod for pod in self.pods if pod.address == address and wanted in pod.listening), None)


DEFAULT_CLIENTS = {IPV4: "203.0.113.45", IPV6: "2001:db8:cb00:7100::45"}
"""A client outside, where the scenario names none: in ranges for documentation (RFC 5737, RFC 3849)."""


def clusters_of(scenario: Scenario) -> tuple[Cluster, ...]:
    """Bring a scenario's cluster to t = 0 as a lab does, without traffic.

    Returns:
        The cluster in each address family that its Services have.

    Raises:
        KflabError: If the manifests cannot be loaded.
    """
    spec = scenario.spec
    settled = settle(scenario)
    callers = [client.address for client in spec.clients if not client.from_pod]
    world = StaticWorld.of(settled.objects, cni=ROUTED)
    return tuple(
        _settled(settled.plane, world, rules, family, callers)
        for family, rules in ((IPV4, world.rules), (IPV6, world.rules_v6))
        if any(service.ports for own in rules.values() for service in own.services.values())
    )


def _settled(
    plane: ControlPlane, world: StaticWorld, all_rules: Mapping[str, RuleSet], family: str, clients: Iterable[str]
) -> Cluster:
    """The cluster that a control plane has brought to rest.

    Raises:
        KflabError: If it is too large to be built.
    """
    nodes = {name: _in_family(facts, family) for name, facts in world.nodes.items() if facts.primary_ip(family)}
    pods = []
    for key in sorted(plane.runtime):
        runtime, pod = plane.runtime[key], plane.store.get(key)
        address = next((ip for ip in runtime.ips if family_of(ip) == family), "")
        if runtime.sandbox and address and runtime.node in nodes and isinstance(pod, Pod):
            pods.append(PodSite(key, runtime.node, address, runtime.listening, pod.spec.host_network))
    if len(pods) + len(nodes) > MOST:
        raise KflabError(
            f"{len(nodes)} nodes and {len(pods)} pods: verify builds at most {MOST} of both; give fewer manifests"
        )
    rules = {name: all_rules[name] for name in nodes}
    config = next((own.config for own in rules.values()), ProxyConfig())
    wished = (*clients, DEFAULT_CLIENTS[family], *_range_clients(rules))
    outside = dict.fromkeys(ip for ip in wished if family_of(ip) == family)
    inside = [*config.cluster_cidrs, *(pod.address for pod in pods)]
    inside += [ip for facts in nodes.values() for ip in (*facts.ips, *facts.pod_cidrs)]
    callers = tuple(ip for ip in outside if not any(contains(cidr, ip) for cidr in inside))
    return Cluster(family, nodes, tuple(pods), rules, config, callers)


def _range_clients(rules: Mapping[str, RuleSet]) -> Iterable[str]:
    """A client inside each source range."""
    table = next(iter(rules.values())).services if rules else {}
    for service in table.values():
        for port in service.ports:
            for cidr in port.source_ranges:
                network = ip_network(cidr)
                yield str(network[min(1, network.num_addresses - 1)])


def _in_family(facts: NodeFacts, family: str) -> NodeFacts:
    """A node's addresses of one family."""
    return replace(
        facts,
        ips=tuple(ip for ip in facts.ips if family_of(ip) == family),
        primary_ips=(facts.primary_ip(family),),
        pod_cidrs=tuple(cidr for cidr in facts.pod_cidrs if family_of(cidr) == family),
    )
