"""What the request walker asks about the cluster: who knew what, and what answered, at a time.

`lab` implements `World` on its observers' revisions; `StaticWorld` is a cluster in which everybody knows everything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Protocol

from kflab.control.alb import AlbModel
from kflab.control.lbchoice import METALLB_KINDS, Surroundings, choose
from kflab.control.lbprofiles import DEFAULT, POD, LbProfile
from kflab.dataplane.addresses import IPV4, IPV6, canonical, family_of
from kflab.dataplane.cni import BRIDGE, CniProfile, gateway
from kflab.dataplane.dns import ClusterDns
from kflab.dataplane.iptables import RuleSet, ServiceTable, compile_service
from kflab.dataplane.lb import ZONE_LABEL, LbTarget, answers_health_check, target_nodes
from kflab.dataplane.modes import ModeRules
from kflab.dataplane.nginx_config import IngressConfig
from kflab.dataplane.node_facts import NodeFacts
from kflab.dataplane.packets import Packet, Verdict
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.dataplane.walk import fan
from kflab.manifest.corefile import CONFIG_MAP, corefile_of
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

LISTENS = "listens"
REFUSES = "refuses"
SILENT = "silent"
HANGS = "hangs"
"""The kernel makes the connection, the process does not answer."""


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """A node's rules at some time."""

    rules: ModeRules
    revision: int
    """As the screen counts them ("rules rev 41")."""
    written_ns: int
    rules_v6: ModeRules | None = None
    """The IPv6 proxier's rules, where the cluster has both families."""
    removed: bool = False
    """kube-proxy restarted in another mode and removed what it found (`written_ns`); its own are not written yet."""

    def of(self, address: str) -> ModeRules:
        """The rules that an address's family meets."""
        return self.rules_v6 if self.rules_v6 is not None and ":" in address else self.rules


@dataclass(frozen=True, slots=True)
class ConfigInForce:
    """An ingress controller's configuration at some time."""

    config: IngressConfig
    revision: int = 0
    since_ns: int = 0


@dataclass(frozen=True, slots=True)
class LbInForce:
    """A load balancer at some time."""

    service: Service
    targets: tuple[LbTarget, ...]
    since_ns: int = 0
    profile: LbProfile = DEFAULT
    address: str = ""
    """Where clients connect."""
    port: int = 0
    """Of a target group: the Service's port, whatever port clients connect to."""


@dataclass(frozen=True, slots=True)
class AlbInForce:
    """An AWS Application Load Balancer at some time."""

    model: AlbModel
    address: str
    """Where clients connect."""
    groups: Mapping[Key, LbInForce] = field(default_factory=dict)
    """Its target groups."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a pod."""

    word: str
    """crashed, deleted, terminating, starting…: "it … 0.13 s before"."""
    t_ns: int


class World(Protocol):
    """The cluster as of any time up to now."""

    @property
    def cni(self) -> CniProfile:
        """Profile of the pod network."""
        ...

    def ruleset_at(self, node: str, t_ns: int) -> RulesInForce | None:
        """Rules in force on a node; None before its first sync."""
        ...

    def ingress_config_at(self, pod: Key, t_ns: int) -> ConfigInForce | None:
        """Configuration of an ingress controller's pod; None for any other pod."""
        ...

    def lb_at(self, address: str, t_ns: int) -> LbInForce | None:
        """The load balancer with this address; None where there is none."""
        ...

    def alb_at(self, address: str, t_ns: int) -> AlbInForce | None:
        """The Application Load Balancer with this address; None where there is none."""
        ...

    def dns_at(self, t_ns: int) -> ClusterDns:
        """What CoreDNS and the public DNS answer."""
        ...

    def behaviour_at(self, address: str, port: int, t_ns: int) -> str:
        """What a SYN meets: "listens", "refuses" or "silent"."""
        ...

    def pod_at(self, address: str, t_ns: int, port: int = 0) -> Key | None:
        """The pod that has (or last had) an address; with a port, on a node's address, its host-network pod there."""
        ...

    def node_of(self, address: str) -> str:
        """Name of the node that holds a pod's or its own address; "" outside the cluster."""
        ...

    def facts_of(self, node: str) -> NodeFacts | None:
        """A node's addresses."""
        ...

    def fate_of(self, pod: Key, t_ns: int) -> Fate | None:
        """Why a pod does not answer at `t_ns`; None where it does, or nobody knows."""
        ...

    def outage_of(self, node: str, t_ns: int) -> str:
        """Why no packet reaches or leaves a node at `t_ns` ("has no power"); "" where packets pass."""
        ...

    def no_route_ns(self, near: str, there: str, t_ns: int) -> int | None:
        """How long after `t_ns` a connect from node `near` to `there`, off the network, hears "No route to host".

        None: it hears nothing before its caller waits no longer.
        """
        ...


@dataclass(frozen=True)
class StaticWorld:
    """A cluster at rest: every observer knows the objects as they are."""

    nodes: Mapping[str, NodeFacts]
    rules: Mapping[str, RuleSet]
    rules_v6: Mapping[str, RuleSet]
    pods: Mapping[str, Pod]
    """By address; without those in their node's network."""
    cluster_dns: ClusterDns
    load_balancers: Mapping[str, LbInForce] = field(default_factory=dict)
    ingress: Mapping[Key, IngressConfig] = field(default_factory=dict)
    """By controller pod."""
    revision: int = 0
    written_ns: int = 0
    silent: frozenset[str] = frozenset()
    """Addresses that do not answer."""
    cni: CniProfile = BRIDGE
    host_pods: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    """By their node's address."""
    albs: Mapping[str, AlbInForce] = field(default_factory=dict)
    """By address."""

    @classmethod
    def of(
        cls,
        objects: Iterable[KubeObject],
        *,
        load_balancers: Mapping[str, Key] | None = None,
        public: Mapping[str, tuple[str, ...]] | None = None,
        ingress: Mapping[Key, IngressConfig] | None = None,
        revision: int = 0,
        written_ns: int = 0,
        cni: CniProfile = BRIDGE,
        load_balancer: str = "",
    ) -> "StaticWorld":
        """Build from plain objects.

        Args:
            objects: The cluster.
            load_balancers: Address → Service.
            public: Public names → addresses.
            ingress: Controller pod → its configuration.
            revision: Shown as the revision of all rules.
            written_ns: When all rules were written.
            cni: Profile of the pod network.
            load_balancer: Name of a load-balancer profile, as a user gives it.
        """
        items = tuple(objects)
        services = {item.key: item for item in items if isinstance(item, Service)}
        slices: dict[Key, list[EndpointSlice]] = {}
        for item in items:
            if isinstance(item, EndpointSlice):
                slices.setdefault(item.service, []).append(item)
        config = ProxyConfig.from_object(
            next((item for item in items if isinstance(item, KubeProxyConfiguration)), None)
        )
        tables = {
            family: ServiceTable(
                (compile_service(service, slices.get(key, ()), family) for key, service in services.items()), family
            )
            for family in (IPV4, IPV6)
        }
        node_objects = [item for item in items if isinstance(item, Node)]
        nodes = {node.meta.name: node_facts(node, cni) for node in node_objects}
        rules = {name: RuleSet(facts, config, tables[IPV4]) for name, facts in nodes.items()}
        rules_v6 = {name: RuleSet(facts, config, tables[IPV6]) for name, facts in nodes.items()}
        balancers = {}
        around = Surroundings.of(node_objects, (item for item in items if item.kind in METALLB_KINDS), load_balancer)
        for address, key in (load_balancers or {}).items():
            service = services[key]
            profile = choose(service, around)
            if profile.destination == POD:
                targets = pod_targets(service, slices.get(key, ()), node_objects)
            else:
                targets = _targets(service, node_objects, rules, profile)
            balancers[address] = LbInForce(service, targets, written_ns, profile, address)
        everywhere = [(ip, item) for item in items if isinstance(item, Pod) for ip in item.status.pod_ips]
        pods = {ip: pod for ip, pod in everywhere if not pod.spec.host_network}
        host: dict[str, tuple[Pod, ...]] = {}
        for ip, pod in everywhere:
            if pod.spec.host_network:
                host[ip] = (*host.get(ip, ()), pod)
        every_slice = [piece for pieces in slices.values() for piece in pieces]
        corefile = corefile_of(next((item for item in items if item.key == CONFIG_MAP), None))
        return cls(
            nodes,
            rules,
            rules_v6,
            pods,
            ClusterDns.of(services.values(), every_slice, public, corefile),
            balancers,
            dict(ingress or {}),
            revision,
            written_ns,
            cni=cni,
            host_pods=host,
        )

    def ruleset_at(self, node: str, t_ns: int) -> RulesInForce | None:
        """The same at any time."""
        rules = self.rules.get(node)
        if rules is None:
            return None
        return RulesInForce(rules, self.revision, self.written_ns, self.rules_v6.get(node))

    def ingress_config_at(self, pod: Key, t_ns: int) -> ConfigInForce | None:
        """The same at any time."""
        config = self.ingress.get(pod)
        return ConfigInForce(config, self.revision, self.written_ns) if config else None

    def lb_at(self, address: str, t_ns: int) -> LbInForce | None:
        """The same at any time."""
        return self.load_balancers.get(address)

    def alb_at(self, address: str, t_ns: int) -> AlbInForce | None:
        """The same at any time."""
        return self.albs.get(address)

    def dns_at(self, t_ns: int) -> ClusterDns:
        """The same at any time."""
        return self.cluster_dns

    def behaviour_at(self, address: str, port: int, t_ns: int) -> str:
        """A pod listens on the ports it declares (on all, declaring none) while it is ready; nodes refuse."""
        pod = self._pod(address, port)
        if address in self.silent or (pod is None and not self.node_of(address)):
            return SILENT
        return LISTENS if pod is not None and pod.status.ready and _declares(pod, port) else REFUSES

    def pod_at(self, address: str, t_ns: int, port: int = 0) -> Key | None:
        """The pod with this address, or in the network of the node that has it."""
        pod = self._pod(address, port)
        return pod.key if pod else None

    def _pod(self, address: str, port: int) -> Pod | None:
        there = (pod for pod in self.host_pods.get(address, ()) if port and _declares(pod, port))
        return self.pods.get(address) or next(there, None)

    def node_of(self, address: str) -> str:
        """The pod's node, or the node with this address."""
        pod = self.pods.get(address)
        if pod is not None:
            return pod.spec.node_name
        return next((name for name, facts in self.nodes.items() if address in facts.ips), "")

    def facts_of(self, node: str) -> NodeFacts | None:
        """A node's addresses."""
        return self.nodes.get(node)

    def fate_of(self, pod: Key, t_ns: int) -> Fate | None:
        """Nothing happens in a cluster at rest."""
        return None

    def outage_of(self, node: str, t_ns: int) -> str:
        """Nothing happens in a cluster at rest."""
        return ""

    def no_route_ns(self, near: str, there: str, t_ns: int) -> int | None:
        """All nodes are there in a cluster at rest."""
        return None


def _declares(pod: Pod, port: int) -> bool:
    """Whether some container declares the port, or none declares any."""
    ports = {item.port for container in pod.spec.containers for item in container.ports}
    return not ports or port in ports


def node_facts(node: Node, cni: CniProfile = BRIDGE) -> NodeFacts:
    """A node's facts with the addresses its pod network gives it (the bridge's are of type LOCAL too)."""
    extra = (gateway(node.pod_cidrs, family) for family in (IPV4, IPV6)) if cni.bridge else ()
    return NodeFacts.from_node(node, tuple(filter(None, extra)))


def _targets(
    service: Service, nodes: Iterable[Node], rules: Mapping[str, RuleSet], profile: LbProfile
) -> tuple[LbTarget, ...]:
    targets = []
    for node in target_nodes(nodes):
        rule_set = rules[node.meta.name]
        address = rule_set.facts.primary_ip(IPV4)

        def reaches(port: int, address: str = address, rule_set: RuleSet = rule_set) -> bool:
            return fan(rule_set, Packet("192.0.2.1", 40000, address, port)).verdict is Verdict.DNAT

        healthy = answers_health_check(rule_set, service, profile, reaches=reaches)
        note = "" if healthy else f"no ready pod of {service.meta.name} there"
        targets.append(LbTarget(node.key, address, healthy, note, node.meta.labels.get(ZONE_LABEL, "")))
    return tuple(targets)


def pod_targets(service: Service, slices: Iterable[EndpointSlice], nodes: Iterable[Node]) -> tuple[LbTarget, ...]:
    """The ready endpoints of a Service as a load balancer with IP targets registers them."""
    zones = {node.meta.name: node.meta.labels.get(ZONE_LABEL, "") for node in nodes}
    found = []
    for piece in slices:
        numbers = {(port.name, port.protocol): port.port for port in piece.ports}
        pairs = ((port.port, numbers.get((port.name, port.protocol), 0)) for port in service.ports)
        ports = tuple((port, number) for port, number in pairs if number)
        for entry in piece.endpoints:
            if entry.ready is not False and entry.addresses:
                node, pod = entry.node_name, entry.target or Key("Endpoint", "", entry.addresses[0])
                zone = zones.get(node, "")
                found.append(LbTarget(Key("Node", "", node), entry.addresses[0], zone=zone, pod=pod, ports=ports))
    return tuple(found)


def same_family(address: str, candidates: Iterable[str]) -> str:
    """The first candidate of the address's family; "" without any."""
    family = family_of(address)
    return next((canonical(ip) for ip in candidates if family_of(ip) == family), "")
