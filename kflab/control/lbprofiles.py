"""Load balancers as data: what each implementation does to a packet, and how it finds out that a target is gone.

Each profile names its source. What no source says is marked M (a modelling choice), as in `control.delays`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from kflab.records import dataclass

NODE_PORT: Final = "node port"
"""Packets go to NODE:nodePort."""
LB_ADDRESS: Final = "load balancer address"
"""Packets come to a node with the load balancer's own address: kube-proxy's load-balancer-IP rule takes them."""
POD: Final = "pod"
"""Packets go to POD:targetPort; no kube-proxy is met on the way in."""

FLOW_HASH: Final = "flow hash"
ROUND_ROBIN: Final = "round robin"
LEAST_OUTSTANDING: Final = "least outstanding requests"
RANDOM: Final = "random"
ONE_NODE: Final = "one node"

CONNECT: Final = "TCP connect"
"""To what packets go to: the NodePort, or a pod's port."""
HEALTH_NODE_PORT: Final = "HTTP healthCheckNodePort"
PROXY_HEALTHZ: Final = "HTTP :10256/healthz"
"""kube-proxy's own health, whatever Services have (pkg/proxy/healthcheck/proxy_health.go)."""
SPEAKER: Final = "speaker"
"""No check of a port: a MetalLB speaker on the node follows the API and is missed by its peers when it is gone."""

ROUTE: Final = "route"
"""Nothing is checked: a route on the client's machine leads to one node, alive or not."""


@dataclass(frozen=True, slots=True)
class Check:
    """How a target is found good or bad."""

    how: str
    interval_s: float
    timeout_s: float
    unhealthy: int
    """Failures in a row until the target is out."""
    healthy: int
    """Successes in a row until it is back."""


@dataclass(frozen=True, slots=True)
class LbProfile:
    """One load balancer implementation as the packet meets it."""

    name: str
    """As `cluster.loadBalancer` of a scenario and --load-balancer name it."""
    title: str
    short: str
    """For narrow rows."""
    provider: str
    writer: str
    """Who registers targets and writes the Service's status."""
    destination: str
    keeps_client: bool
    """Whether targets see the client's own address (before kube-proxy's masquerade)."""
    picks: str
    cluster_check: Check
    local_check: Check
    publishes: str
    """What the Service's status gets: "hostname" or "ip"."""
    ip_mode: str = "VIP"
    """status.loadBalancer.ingress[].ipMode: with Proxy kube-proxy makes no rule for the address (KEP-1860)."""
    fails_open: bool = False
    """Whether all targets get traffic when none is healthy."""
    panic_share: float = 0.0
    """Envoy's panic threshold: with a smaller share of healthy targets than this, 0..1, all targets get traffic."""
    http: bool = False
    """Whether it speaks HTTP: it routes by host and path, and answers 502, 503 or 504 for its target."""
    drains: bool = False
    """Whether a controller registers its targets with a cloud: a new one is `initial` until checks have passed, one
    that leaves is `draining`, and new flows still come to it for a while (`Delays.lb_draining_s`)."""
    resets_unhealthy: bool = False
    """Whether flows to a target that is found unhealthy are reset, unless the load balancer then fails open."""
    deregistration_s: float = 300.0
    """How long flows to a deregistered target go on at least."""
    ends_drained: str = ""
    """What befalls them then: "reset", "silence" (their packets are passed on no more), or "": they stay."""
    ready_nodes: bool = False
    """Whether only nodes that are Ready are targets; else all that are there, and health checks decide (KEP-3458)."""
    heeds_taint: bool = False
    """Whether its controller deregisters nodes that an autoscaler is about to remove (see `lbtargets.leaves`)."""
    zonal: bool = False
    """Cross-zone is off: each zone has an address of its own, which reaches targets of that zone only."""
    told: str = ""
    """What the application can learn of the client where its address is hidden."""
    chosen_by: str = ""
    """What in manifests or options chose it."""
    note: str = ""
    """What the real thing would do otherwise, for the trace."""

    def check(self, local: bool) -> Check:
        """The health check under externalTrafficPolicy Local, or Cluster."""
        return self.local_check if local else self.cluster_check

    @property
    def copies(self) -> bool:
        """Whether it ends the client's connection and opens one of its own (Classic LB, ALB, Envoy)."""
        return self.picks in (ROUND_ROBIN, LEAST_OUTSTANDING, RANDOM)

    @property
    def has_gates(self) -> bool:
        """Whether the controller that registers its targets keeps pod readiness gates: for IP targets only."""
        return self.drains and self.destination == POD

    @property
    def takes_turns(self) -> bool:
        """Whether each of its nodes sends connections to its targets in turn; an ALB's requests are drawn here."""
        return self.picks == ROUND_ROBIN and not self.http

    @property
    def follows_api(self) -> bool:
        """Whether it reads EndpointSlices itself (MetalLB's speakers)."""
        return self.cluster_check.how == SPEAKER


RESET: Final = "reset"
SILENCE: Final = "silence"

_LBC_CLUSTER: Final = Check(CONNECT, 10, 10, 3, 3)
_HIDDEN: Final = "the client's address reaches nobody without PROXY protocol"

AWS_NLB: Final = LbProfile(
    "aws-nlb", "AWS NLB, instance targets", "NLB", "aws", "AWS Load Balancer Controller",
    NODE_PORT, True, FLOW_HASH, _LBC_CLUSTER, Check(HEALTH_NODE_PORT, 10, 6, 2, 2),
    publishes="hostname", fails_open=True, zonal=True, drains=True, ready_nodes=True, heeds_taint=True,
    resets_unhealthy=True,
)  # fmt: skip
"""By the AWS Load Balancer Controller.

Sources: kubernetes-sigs/aws-load-balancer-controller pkg/service/model_build_target_group.go (checks),
pkg/backend/endpoint_resolver.go ResolveNodePortEndpoints (nodes that are Ready); AWS docs,
Network Load Balancers (flow hash; cross-zone off by default; a zone without a healthy target leaves DNS; none healthy
at all: it fails open; client IP preservation is on for instance targets). A target that turns unhealthy: its flows are
reset (health checks for target groups: "sends a TCP RST"; attribute
target_health_state.unhealthy.connection_termination.enabled, true by default). A deregistered one: its flows go on
for deregistration_delay.timeout_seconds, 300 s, and after that too, unless
deregistration_delay.connection_termination.enabled is set (target groups, Deregistration delay).
"""

AWS_NLB_IP: Final = LbProfile(
    "aws-nlb-ip", "AWS NLB, IP targets", "NLB IP", "aws", "AWS Load Balancer Controller",
    POD, False, FLOW_HASH, _LBC_CLUSTER, _LBC_CLUSTER,
    publishes="hostname", fails_open=True, zonal=True, told=_HIDDEN, drains=True, resets_unhealthy=True,
)  # fmt: skip
"""Targets are ready pods. Client IP preservation is off by default for IP targets over TCP (AWS docs, NLB target
groups)."""

_ALB_CHECK: Final = Check(CONNECT, 15, 5, 2, 2)
"""HTTP GET on the traffic port. Applications here answer 200 where they listen, unless they hang: paths and codes are
not looked at. A NodePort answers where the node's rules list any endpoint."""

AWS_ALB: Final = LbProfile(
    "aws-alb", "AWS ALB, instance targets", "ALB", "aws", "AWS Load Balancer Controller",
    NODE_PORT, False, ROUND_ROBIN, _ALB_CHECK, _ALB_CHECK,
    publishes="hostname", fails_open=True, http=True, drains=True, ready_nodes=True, heeds_taint=True,
    ends_drained=RESET,
    told="X-Forwarded-For tells the client's",
)  # fmt: skip
"""A target group of an Ingress with target-type instance. Its check asks the NodePort under Local policy too.

Sources: kubernetes-sigs/aws-load-balancer-controller pkg/ingress/model_builder.go (defaultHealthCheckIntervalSeconds
15, timeout 5, healthy and unhealthy threshold 2) and model_build_target_group.go (health check port: traffic-port);
AWS docs, Application Load Balancers: target groups (round robin; cross-zone is on), health checks (a new target is
healthy after one check; with unhealthy targets alone it fails open), HTTP headers (X-Forwarded-For), troubleshooting
(connect 10 s; codes; 502 where the deregistration delay, 300 s, is over before the target has answered). It opens a
connection for each request here; a real ALB keeps connections to its targets.
"""

AWS_ALB_IP: Final = LbProfile(
    "aws-alb-ip", "AWS ALB, IP targets", "ALB IP", "aws", "AWS Load Balancer Controller",
    POD, False, ROUND_ROBIN, _ALB_CHECK, _ALB_CHECK,
    publishes="hostname", fails_open=True, http=True, drains=True, told=AWS_ALB.told, ends_drained=RESET,
)  # fmt: skip
"""The same with target-type ip: targets are pods."""

AWS_NLB_CLOUD_PROVIDER: Final = LbProfile(
    "aws-nlb-ccm", "AWS NLB, instance targets", "NLB", "aws", "cloud controller",
    NODE_PORT, True, FLOW_HASH, Check(CONNECT, 30, 10, 3, 3), Check(HEALTH_NODE_PORT, 10, 10, 2, 2),
    publishes="hostname", fails_open=True, zonal=True, resets_unhealthy=True,
)  # fmt: skip
"""By cloud-provider-aws: pkg/providers/v1/aws_loadbalancer.go (defaults), aws.go buildNLBHealthCheckConfiguration."""

AWS_CLB: Final = LbProfile(
    "aws-clb", "AWS Classic LB, TCP listeners", "CLB", "aws", "cloud controller",
    NODE_PORT, False, ROUND_ROBIN, Check(CONNECT, 10, 5, 6, 2), Check(HEALTH_NODE_PORT, 10, 5, 6, 2),
    publishes="hostname", zonal=True, told=_HIDDEN,
)  # fmt: skip
"""By cloud-provider-aws: it ends the client's connection and opens its own.

Sources: pkg/providers/v1/aws_loadbalancer.go (defaultElbHC…; cross-zone off unless annotated); AWS docs, How Elastic
Load Balancing works (Classic: round robin for TCP listeners). None healthy: nothing answers (M: a Classic LB refuses or
resets; the lab times out).
"""

_GCP_CLUSTER: Final = Check(PROXY_HEALTHZ, 8, 1, 3, 1)

GCP_PASSTHROUGH: Final = LbProfile(
    "gcp", "GCP passthrough network LB", "GCP L4", "gcp", "GKE's service controller",
    LB_ADDRESS, True, FLOW_HASH, _GCP_CLUSTER, Check(HEALTH_NODE_PORT, 8, 1, 3, 1),
    publishes="ip", fails_open=True, heeds_taint=True, deregistration_s=30.0, ends_drained=SILENCE,
)  # fmt: skip
"""Sources: kubernetes/ingress-gce pkg/healthchecksl4/healthchecksl4.go (checks; one shared check of :10256/healthz
under Cluster); Google Cloud docs, backend service-based external passthrough NLB (5-tuple hash; packets are not
rewritten, answers go straight back; with no healthy backend new connections go to all of them; TCP connections stay on
a backend that turned unhealthy); ingress-gce pkg/backends/backends.go (DefaultConnectionDrainingTimeoutSeconds 30 for
TCP) and Google Cloud docs, Enable connection draining (after it no traffic goes to the removed endpoint).
"""

_MEMBERLIST: Final = Check(SPEAKER, 1, 0.5, 6, 1)
"""hashicorp/memberlist DefaultLANConfig: one probe a second with a timeout of 500 ms, then a suspicion of SuspicionMult
4 × max(1, log10 n) × 1 s. A dead node is gone 5 to 6 s later in clusters of up to ten nodes; back as soon as it joins.
Shown as six checks; what the API says (endpoints) is followed at once."""

METALLB_L2: Final = LbProfile(
    "metallb-l2", "MetalLB, layer 2", "MetalLB L2", "metallb", "MetalLB controller and speakers",
    LB_ADDRESS, True, ONE_NODE, _MEMBERLIST, _MEMBERLIST, publishes="ip",
)  # fmt: skip
"""One node answers ARP for the address and gets all flows.

Sources: metallb/metallb speaker/layer2_controller.go ShouldAnnounce (who: any node with a speaker while some endpoint
can serve, under Local only nodes with one; first by sha256 of "NODE#IP"); internal/speakerlist/speakerlist.go. Every
node is taken to run a speaker; nodeSelectors of advertisements are not read.
"""

_BGP: Final = Check(SPEAKER, 30, 0, 3, 1)
"""Hold time 90 s, keepalive every 30 s, when neither BFD nor a shorter holdTime is set (RFC 4271 section 10; metallb
internal/bgp/native defaultHoldTime). A dead node's routes leave 60 to 90 s after its death."""

METALLB_BGP: Final = LbProfile(
    "metallb-bgp", "MetalLB, BGP", "MetalLB BGP", "metallb", "MetalLB controller and speakers",
    LB_ADDRESS, True, FLOW_HASH, _BGP, _BGP, publishes="ip",
)  # fmt: skip
"""Every node announces the address and the router spreads flows by ECMP.

Sources: metallb/metallb speaker/bgp_controller.go ShouldAnnounce; MetalLB docs, concepts/bgp (per-connection hash; a
change of the node set moves most flows, unless the router hashes consistently).
"""

KIND: Final = LbProfile(
    "kind", "cloud-provider-kind, Envoy", "kind", "kind", "cloud-provider-kind",
    NODE_PORT, False, RANDOM, Check(PROXY_HEALTHZ, 3, 5, 2, 1), Check(HEALTH_NODE_PORT, 3, 5, 2, 1),
    publishes="ip", ip_mode="Proxy", told=_HIDDEN,
)  # fmt: skip
"""One Envoy container per Service on the docker network, TCP proxy to the nodes' NodePorts.

Sources: kubernetes-sigs/cloud-provider-kind pkg/loadbalancer/proxy.go (RANDOM, checks), its pull request 360 (panic
threshold 0: it fails closed) and server.go (the container's address in status, ipMode Proxy).
"""

DOCKER_DESKTOP: Final = replace(
    KIND, name="docker-desktop", title="Docker Desktop, Envoy", short="Desktop", provider="docker-desktop",
    writer="desktop-cloud-provider-kind", panic_share=0.5,
)  # fmt: skip
"""Kubernetes of Docker Desktop in its kind mode: a fork of cloud-provider-kind, whose containers' ports are published
on the host as well (localhost:PORT).

Sources: Docker docs, Deploy on Kubernetes with Docker Desktop (kind mode runs desktop-cloud-provider-kind and Envoy);
docker/desktop-cloud-provider pkg/loadbalancer/server.go (address, ipMode Proxy, port bindings) and proxy.go (RANDOM,
the same checks). That proxy.go sets no healthy_panic_threshold, so Envoy's default of 50 % holds (Envoy docs, Panic
threshold). M: builds since then behave alike; upstream turned panic off in January 2026 (pull request 360).
The kubeadm mode, where vpnkit on the node dials the ClusterIP (moby/vpnkit go/pkg/controller), is not modelled.
"""

_NO_CHECK: Final = Check(ROUTE, 1, 0, 1, 1)

MINIKUBE: Final = LbProfile(
    "minikube", "minikube tunnel", "minikube", "minikube", "minikube tunnel",
    LB_ADDRESS, True, ONE_NODE, _NO_CHECK, _NO_CHECK, publishes="ip",
)  # fmt: skip
"""The host gets a route to the Service range through the first node, and the Service's status gets its own ClusterIP:
so kube-proxy's cluster-IP rule takes the packet, and externalTrafficPolicy plays no part.

Sources: kubernetes/minikube pkg/minikube/tunnel loadbalancer_patcher.go, route_linux.go. Where Docker runs in a VM
(macOS, Windows) the tunnel is ssh on 127.0.0.1 instead (kic/ssh_conn.go), from which the node itself dials the
ClusterIP: that is not modelled.
"""

PROFILES: Final[Mapping[str, LbProfile]] = {
    profile.name: profile
    for profile in (
        AWS_NLB, AWS_NLB_IP, AWS_NLB_CLOUD_PROVIDER, AWS_CLB, GCP_PASSTHROUGH, METALLB_L2, METALLB_BGP, KIND,
        DOCKER_DESKTOP, MINIKUBE,
    )
}  # fmt: skip
"""By name."""

DEFAULT: Final = AWS_NLB
"""Where nothing in the manifests says whose load balancer it is."""
