"""What a load balancer does to one packet: which targets are in service, with what shares, and which one a flow gets.

Whose load balancer it is and how it looks at targets is data, in `control.lbprofiles`. Sources there, and: KEP-3458
(which nodes are targets); k/k pkg/proxy/healthcheck (who answers a check).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from hashlib import blake2b, sha256
from math import lcm
from typing import Final

from kflab.control.lbchoice import CLASSIC_NOTE, TYPE_ANNOTATION, choose
from kflab.control.lbprofiles import (
    CONNECT,
    DEFAULT,
    HEALTH_NODE_PORT,
    LB_ADDRESS,
    ONE_NODE,
    POD,
    PROXY_HEALTHZ,
    ROUTE,
    SPEAKER,
    Check,
    LbProfile,
)
from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.packets import Alternative, Packet, join_host_port
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service
from kflab.records import dataclass

__all__ = ["CLASSIC_NOTE", "TYPE_ANNOTATION"]

EXCLUDE_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"

ZONE_LABEL: Final = "topology.kubernetes.io/zone"

INNER_ADDRESS: Final = "10.0.0.5"
"""A cloud load balancer's own address inside the network, made: what targets see where the client is hidden."""

MOST_SHARES: Final = 1 << 15
"""Weights of a load balancer add up to about this at most: the engine lays them out one by one, up to twice as many."""

profile_of = choose


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How a Service's load balancer looks at a target."""

    port: int
    """healthCheckNodePort, 10256 or the NodePort; 0 for pods, which are asked on their own port, and speakers."""
    check: Check


def health_check(service: Service, profile: LbProfile = DEFAULT) -> HealthCheck:
    """The health check of a Service's targets (lifecycle.md 1.9)."""
    local = service.external_traffic_policy == "Local" and bool(service.health_check_node_port)
    check = profile.check(local)
    if check.how == HEALTH_NODE_PORT:
        return HealthCheck(service.health_check_node_port, check)
    if check.how == PROXY_HEALTHZ:
        return HealthCheck(10256, check)
    if check.how in (SPEAKER, ROUTE) or profile.destination == POD:
        return HealthCheck(0, check)
    return HealthCheck(next((port.node_port for port in service.ports if port.node_port), 0), check)


def target_nodes(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Nodes registered as targets: all but those labelled out; a NotReady node stays in (KEP-3458)."""
    return tuple(node for node in nodes if EXCLUDE_LABEL not in node.meta.labels)


def answers_health_check(
    rules: RuleSet | None,
    service: Service,
    profile: LbProfile = DEFAULT,
    *,
    proxy_running: bool = True,
    reaches: Callable[[int], bool] | None = None,
) -> bool:
    """Whether a node passes a health check now, by its rules.

    Args:
        rules: The node's rules as last synced; None before the first sync.
        service: The Service as the load balancer knows it.
        profile: Whose check it is.
        proxy_running: Whether kube-proxy runs: it serves healthCheckNodePort and :10256 itself.
        reaches: Whether a TCP connect to this NodePort of the node succeeds; asked where the check is one.
    """
    asked = health_check(service, profile)
    if asked.check.how == ROUTE:
        return True
    if asked.check.how == CONNECT:
        return bool(reaches is not None and asked.port and reaches(asked.port))
    if rules is None or not proxy_running:
        return False
    if asked.check.how == PROXY_HEALTHZ:
        return True
    compiled = rules.services.get(service.key)
    if compiled is None:
        return False
    if asked.check.how == SPEAKER and service.external_traffic_policy != "Local":
        return any(port.endpoints.any_usable for port in compiled.ports)
    return any(port.endpoints.local_ready(rules.facts.name) for port in compiled.ports)


@dataclass(frozen=True, slots=True)
class LbTarget:
    """One registered node, or one pod."""

    node: Key
    """The node; of a pod the node it is on."""
    address: str
    healthy: bool = True
    note: str = ""
    """Why it is not healthy, e.g. "no ingress pod"."""
    zone: str = ""
    pod: Key | None = None
    ports: tuple[tuple[int, int], ...] = ()
    """Of a pod: (port of the Service, port of the pod)."""
    state: str = ""
    """initial (no check has passed yet) or draining (deregistered), where it is one."""

    def port_of(self, port: int) -> int:
        """The pod's port behind a port of the Service; 0 where it has none."""
        return dict(self.ports).get(port, 0)


def in_service(targets: Sequence[LbTarget], profile: LbProfile = DEFAULT, address: str = "") -> tuple[LbTarget, ...]:
    """Targets that get traffic: the healthy ones; all where none is healthy and the load balancer fails open.

    Failing open is for targets that were found unhealthy: with initial and draining ones alone nobody gets traffic
    (aws-load-balancer-controller docs, Pod readiness gate: "service outage"; AWS's China blog on readiness gates
    measured two minutes of it). That such an ALB answers 503, as without targets, is taken from AWS's list of codes.
    Envoy in panic spreads over all (`LbProfile.panic_share`).

    Args:
        targets: Registered.
        profile: Whose they are.
        address: The load balancer's, by which MetalLB's layer 2 mode elects its one node.
    """
    healthy = tuple(target for target in targets if target.healthy)
    if profile.picks == ONE_NODE:
        return (min(healthy, key=lambda target: _election(target, address)),) if healthy else ()
    if len(healthy) < profile.panic_share * len(targets):
        # Envoy source/common/upstream/load_balancer_impl.cc, isHostSetInPanic: strictly below the threshold.
        return tuple(targets)
    return healthy or (tuple(target for target in targets if not target.state) if profile.fails_open else ())


def _election(target: LbTarget, address: str) -> bytes:
    """Order of MetalLB's candidates (speaker/layer2_controller.go ShouldAnnounce)."""
    return sha256(f"{target.node.name}#{address}".encode()).digest()


def weights(targets: Sequence[LbTarget], profile: LbProfile = DEFAULT, address: str = "") -> Mapping[LbTarget, int]:
    """Whole-number weights by which new flows fall on the targets in service.

    With cross-zone off, DNS gives clients the addresses of all zones that have a target in service alike, and each
    address reaches its zone's targets: a target in a small zone gets more (AWS docs, How Elastic Load Balancing works).
    Zones have equal parts exactly while all weights add up to at most `MOST_SHARES`; in larger clusters targets of one
    zone still weigh the same, and a zone's part is rounded.
    """
    candidates = in_service(targets, profile, address)
    if not profile.zonal or not candidates:
        return dict.fromkeys(candidates, 1)
    zones: dict[str, int] = {}
    for target in candidates:
        zones[target.zone] = zones.get(target.zone, 0) + 1
    part = lcm(*zones.values())
    if part * len(zones) > MOST_SHARES:
        largest = max(zones.values())
        whole = MOST_SHARES // (largest * len(zones))
        part = largest * whole if whole else MOST_SHARES // len(zones)
    return {target: max(1, round(part / zones[target.zone])) for target in candidates}


def shares(targets: Sequence[LbTarget], profile: LbProfile = DEFAULT, address: str = "") -> Mapping[LbTarget, Fraction]:
    """The share of new flows that each target in service gets."""
    parts = weights(targets, profile, address)
    total = sum(parts.values())
    return {target: Fraction(weight, total) for target, weight in parts.items()}


def node_weights(targets: Sequence[LbTarget], profile: LbProfile = DEFAULT, address: str = "") -> dict[Key, int]:
    """The nodes that new flows come to, with whole-number weights, in order of registration."""
    found: dict[Key, int] = {}
    for target, weight in weights(targets, profile, address).items():
        found[target.node] = found.get(target.node, 0) + weight
    return found


def flow_salt(client: str, destination: str, protocol: str = "TCP") -> int:
    """The constant part of a client's flows, 64 bits; `destination` is ip:port."""
    digest = blake2b(f"{protocol} {client} {destination}".encode(), digest_size=8, person=b"kflab flow").digest()
    return int.from_bytes(digest, "little")


def flow_hash(packet: Packet) -> int:
    """Hash a five-tuple to 32 bits.

    AWS does not publish the NLB's hash: this is an integer mix (the finaliser of splitmix64) of a hash of protocol,
    client and destination with the source port. Any well-mixed hash has the same shares and the same stickiness. The
    engine computes the same for whole arrays.
    """
    mask = (1 << 64) - 1
    mixed = flow_salt(packet.src, packet.destination, packet.protocol) ^ packet.sport
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
    return mixed >> 32


def pick_target(
    targets: Sequence[LbTarget], value: int, profile: LbProfile = DEFAULT, address: str = "", draw: int = 0
) -> LbTarget | None:
    """The target of a flow, or None without any.

    Args:
        targets: Registered.
        value: u32, the flow's hash (or draw), by which the node is picked.
        profile: Whose they are.
        address: The load balancer's.
        draw: u32, by which one of several pods on that node is picked: the lab takes IP targets in two steps, which
            gives each pod its exact share.
    """
    parts = node_weights(targets, profile, address)
    slot = value * sum(parts.values()) >> 32
    for node, weight in parts.items():
        slot -= weight
        if slot < 0:
            there = [target for target in in_service(targets, profile, address) if target.node == node]
            return there[draw * len(there) >> 32]
    return None


def target_alternatives(
    targets: Sequence[LbTarget],
    port: int,
    chosen: LbTarget | None,
    profile: LbProfile = DEFAULT,
    address: str = "",
) -> tuple[Alternative, ...]:
    """Every registered target with its chance; 0 for those out of service.

    Args:
        targets: Registered.
        port: The NodePort, or for pods the Service's port.
        chosen: The one taken.
        profile: Whose they are.
        address: The load balancer's.
    """
    parts = shares(targets, profile, address)

    def shown(target: LbTarget) -> str:
        if profile.destination == LB_ADDRESS:
            return target.address
        return join_host_port(target.address, target.port_of(port) if target.pod else port)

    return tuple(
        Alternative(
            shown(target),
            parts.get(target, Fraction(0)),
            target.pod or target.node,
            chosen=target is chosen,
            note=target.note,
        )
        for target in targets
    )


def source_at_target(profile: LbProfile, client: str, address: str, protocol: str = "TCP") -> str:
    """The source address that a target sees: the client's, or the load balancer's own.

    An NLB keeps the client's address of UDP flows whatever its settings (AWS docs, NLB target groups).
    """
    if profile.keeps_client or (protocol == "UDP" and not profile.copies):
        return client
    return address if profile.publishes == "ip" else INNER_ADDRESS
