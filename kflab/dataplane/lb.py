"""The load balancer in front: AWS NLB with instance targets.

Sources: AWS documentation (Network Load Balancers: flow hash, target groups, client IP preservation, fail-open);
cloud-provider-aws and aws-load-balancer-controller pkg/service/model_builder.go (health checks; lifecycle.md 1.9);
KEP-3458 (which nodes are targets); k/k pkg/proxy/healthcheck/service_health.go.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from typing import Final

from kflab.dataplane.iptables import RuleSet
from kflab.dataplane.packets import Alternative, Packet, join_host_port
from kflab.manifest.objects import Key, Node, Service

TYPE_ANNOTATION: Final = "service.beta.kubernetes.io/aws-load-balancer-type"
EXCLUDE_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"

CLASSIC_NOTE: Final = (
    "a plain AWS Service (no aws-load-balancer-type annotation) gets a Classic LB, which hides the client; "
    "the lab shows an NLB, which keeps the client's address"
)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How the load balancer looks at a target."""

    port: int
    """healthCheckNodePort, or the NodePort itself."""
    http: bool
    """HTTP on healthCheckNodePort; else a TCP connect to the NodePort."""
    interval_s: int
    timeout_s: int
    unhealthy: int
    """Failures in a row until the target is out."""
    healthy: int
    """Successes in a row until it is back."""


@dataclass(frozen=True, slots=True)
class LbProfile:
    """One load balancer implementation as the packet meets it."""

    name: str
    keeps_client: bool
    note: str = ""


NLB: Final = LbProfile("AWS NLB, instance targets", keeps_client=True)


def profile_of(service: Service) -> LbProfile:
    """The profile of a Service's load balancer; with a note where AWS itself would make another kind."""
    kind = service.meta.annotations.get(TYPE_ANNOTATION, "")
    if kind in {"nlb", "external", "nlb-ip"} or service.load_balancer_class:
        return NLB
    return LbProfile(NLB.name, keeps_client=True, note=CLASSIC_NOTE)


def health_check(service: Service) -> HealthCheck:
    """The health check of a Service's targets (lifecycle.md 1.9, rows of the AWS LB controller)."""
    if service.external_traffic_policy == "Local" and service.health_check_node_port:
        return HealthCheck(service.health_check_node_port, True, 10, 6, 2, 2)
    node_port = next((port.node_port for port in service.ports if port.node_port), 0)
    return HealthCheck(node_port, False, 10, 10, 3, 3)


def target_nodes(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Nodes registered as targets: all but those labelled out; a NotReady node stays in (KEP-3458)."""
    return tuple(node for node in nodes if EXCLUDE_LABEL not in node.meta.labels)


def answers_health_check(
    rules: RuleSet | None,
    service: Service,
    *,
    proxy_running: bool = True,
    reaches: Callable[[int], bool] | None = None,
) -> bool:
    """Whether a node passes a health check now.

    Args:
        rules: The node's rules as last synced; None before the first sync.
        service: The Service as the load balancer knows it.
        proxy_running: Whether kube-proxy runs: it serves healthCheckNodePort itself, so stopped means refused.
        reaches: Whether a TCP connect to this NodePort of the node succeeds; asked without healthCheckNodePort.
    """
    check = health_check(service)
    if not check.http:
        return bool(reaches is not None and check.port and reaches(check.port))
    if rules is None or not proxy_running:
        return False
    compiled = rules.services.get(service.key)
    if compiled is None:
        return False
    return any(port.endpoints.local_ready(rules.facts.name) for port in compiled.ports)


@dataclass(frozen=True, slots=True)
class LbTarget:
    """One registered node."""

    node: Key
    address: str
    healthy: bool = True
    note: str = ""
    """Why it is not healthy, e.g. "no ingress pod"."""


def in_service(targets: Sequence[LbTarget]) -> tuple[LbTarget, ...]:
    """Targets that get traffic: the healthy ones; all of them when none is healthy (NLB fails open)."""
    return tuple(target for target in targets if target.healthy) or tuple(targets)


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


def pick_target(targets: Sequence[LbTarget], value: int) -> LbTarget | None:
    """The target of a flow: equal shares of the hash among targets in service; None without any."""
    candidates = in_service(targets)
    return candidates[(value * len(candidates)) >> 32] if candidates else None


def target_alternatives(
    targets: Sequence[LbTarget], node_port: int, chosen: LbTarget | None
) -> tuple[Alternative, ...]:
    """Every registered target with its chance; 0 for those out of service."""
    candidates = in_service(targets)
    share = Fraction(1, len(candidates)) if candidates else Fraction(0)
    return tuple(
        Alternative(
            join_host_port(target.address, node_port),
            share if target in candidates else Fraction(0),
            target.node,
            chosen=target is chosen,
            note=target.note if not target.healthy else "",
        )
        for target in targets
    )
