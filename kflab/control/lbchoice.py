"""Whose load balancer a Service gets: read from what real manifests carry.

In order: spec.loadBalancerClass; then the provider, as the user names it (`cluster.loadBalancer`, --load-balancer), as
the Nodes' spec.providerID or MetalLB's own objects tell it, or as the Service's annotations do; then that provider's
kind by annotation. A provider ignores the annotations of another, as the real controllers do.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from kflab.control import lbprofiles as lb
from kflab.control.lbprofiles import LbProfile
from kflab.manifest.objects import KubeObject
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Service
from kflab.records import dataclass

_AWS: Final = "service.beta.kubernetes.io/aws-load-balancer-"
TYPE_ANNOTATION: Final = f"{_AWS}type"

CLASSIC_NOTE: Final = (
    "a plain AWS Service (no aws-load-balancer-type annotation) gets a Classic LB, which hides the client; "
    "the lab shows an NLB, which keeps the client's address"
)

_CLASSES: Final = {
    "service.k8s.aws/nlb": "aws",
    "networking.gke.io/l4-regional-external": "gcp",
    "networking.gke.io/l4-regional-internal": "gcp",
    "metallb.io/metallb": "metallb",
    "metallb.universe.tf/metallb": "metallb",
}
"""loadBalancerClass → provider: AWS LBC docs, GKE docs; MetalLB serves what its --lb-class names (these by custom)."""

DESKTOP: Final = "docker-desktop"
DESKTOP_ID: Final = "kind://docker/desktop/"
"""How providerIDs of Docker Desktop's kind mode begin: its kind cluster is named desktop. (kind create cluster --name
desktop makes the same ones.)"""

_PROVIDER_IDS: Final = {"aws": "aws", "gce": "gcp", "kind": "kind", DESKTOP: DESKTOP, "minikube": "minikube"}
"""Scheme of a Node's spec.providerID → provider; for `DESKTOP` and minikube see `Surroundings.of`."""

MINIKUBE_LABEL: Final = "minikube.k8s.io/name"
"""On every node that minikube made; such a Node has no providerID."""

_ANNOTATIONS: Final = (
    (_AWS, "aws"),
    ("networking.gke.io/load-balancer-type", "gcp"),
    ("cloud.google.com/load-balancer-type", "gcp"),
    ("cloud.google.com/l4-rbs", "gcp"),
    ("metallb.universe.tf/", "metallb"),
    ("metallb.io/", "metallb"),
)
"""Beginning of an annotation → the provider that reads it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of a cluster decides its load balancers."""

    named: str = ""
    """Name of a profile, as the user gave it."""
    provider_ids: frozenset[str] = frozenset()
    """Schemes of the Nodes' providerIDs; "minikube" where a label says so, `DESKTOP` for Docker Desktop's."""
    metallb: tuple[str, ...] = ()
    """Kinds of MetalLB's objects that are there, e.g. L2Advertisement."""

    @classmethod
    def of(cls, nodes: Iterable[Node], others: Iterable[KubeObject] = (), named: str = "") -> "Surroundings":
        """Read Nodes and MetalLB's objects."""
        schemes = set()
        for node in nodes:
            scheme, found, _ = node.provider_id.partition("://")
            if node.provider_id.startswith(DESKTOP_ID):
                schemes.add(DESKTOP)
            elif found:
                schemes.add(scheme)
            elif MINIKUBE_LABEL in node.meta.labels:
                schemes.add("minikube")
        return cls(named, frozenset(schemes), tuple(dict.fromkeys(other.kind for other in others)))


METALLB_KINDS: Final = ("L2Advertisement", "BGPAdvertisement", "IPAddressPool")


def choose(service: Service, around: Surroundings = Surroundings()) -> LbProfile:
    """The profile of a Service's load balancer, with what chose it."""
    provider, why = _provider(service, around)
    base, reason = _KINDS[provider](service, around) if provider else (lb.DEFAULT, "")
    named = lb.PROFILES.get(around.named)
    if named is not None and named.provider == provider and not reason:
        base, reason = named, why
    profile = replace(base, chosen_by=reason or why)
    if provider == "aws":
        return _aws_settings(service, profile)
    if not provider:
        unknown = service.load_balancer_class
        note = f"nothing modelled serves loadBalancerClass {unknown}" if unknown else CLASSIC_NOTE
        return replace(profile, note=note, chosen_by="kflab's default")
    ignored = _ignored(service, provider)
    return replace(profile, note=ignored) if ignored else profile


def _provider(service: Service, around: Surroundings) -> tuple[str, str]:
    by_class = _CLASSES.get(service.load_balancer_class)
    if by_class:
        return by_class, f"loadBalancerClass {service.load_balancer_class}"
    if service.load_balancer_class:
        return "", ""
    if around.named:
        return lb.PROFILES[around.named].provider, f"loadBalancer {around.named}, as given"
    for scheme in sorted(around.provider_ids & _PROVIDER_IDS.keys()):
        # MetalLB is also run on kind and minikube; their own makers of load balancers then are not.
        if not (scheme in ("kind", DESKTOP, "minikube") and around.metallb):
            said = {"minikube": f"label {MINIKUBE_LABEL}", DESKTOP: f"providerID {DESKTOP_ID}"}
            return _PROVIDER_IDS[scheme], f"the Nodes' {said.get(scheme, f'providerID {scheme}://')}"
    if around.metallb:
        return "metallb", f"{around.metallb[0]} in the manifests"
    for name in sorted(service.meta.annotations):
        for start, provider in _ANNOTATIONS:
            if name.startswith(start):
                return provider, f"annotation {name}"
    return "", ""


def _ignored(service: Service, provider: str) -> str:
    """Annotations that another provider would have read."""
    others = [
        name for name in sorted(service.meta.annotations)
        if any(name.startswith(start) and whose != provider for start, whose in _ANNOTATIONS)
    ]  # fmt: skip
    return f"it does not read {others[0]}" if others else ""


# --- the kinds of each provider ---------------------------------------------------------------------------------


def _aws(service: Service, around: Surroundings) -> tuple[LbProfile, str]:
    """AWS: Classic unless the Service asks for an NLB.

    Source: cloud-provider-aws pkg/providers/v1/aws_loadbalancer.go isNLB, isLBExternal; AWS Load Balancer Controller
    docs/guide/service/nlb.md (type external or nlb-ip, or its class; target type instance by default with the class).
    """
    kind = service.meta.annotations.get(TYPE_ANNOTATION, "")
    target = service.meta.annotations.get(f"{_AWS}nlb-target-type", "")
    if kind == "nlb-ip":
        return lb.AWS_NLB_IP, f"annotation {TYPE_ANNOTATION}: nlb-ip"
    if kind == "external" or service.load_balancer_class:
        if target in ("ip", "nlb-ip"):
            return lb.AWS_NLB_IP, f"annotation {_AWS}nlb-target-type: {target}"
        return lb.AWS_NLB, f"annotation {TYPE_ANNOTATION}: {kind}" if kind else f"class {service.load_balancer_class}"
    if kind == "nlb":
        return lb.AWS_NLB_CLOUD_PROVIDER, f"annotation {TYPE_ANNOTATION}: nlb"
    return lb.AWS_CLB, ""


def _gcp(service: Service, around: Surroundings) -> tuple[LbProfile, str]:
    return lb.GCP_PASSTHROUGH, ""


def _metallb(service: Service, around: Surroundings) -> tuple[LbProfile, str]:
    if "BGPAdvertisement" in around.metallb and "L2Advertisement" not in around.metallb:
        return lb.METALLB_BGP, "BGPAdvertisement in the manifests"
    return lb.METALLB_L2, "L2Advertisement in the manifests" if "L2Advertisement" in around.metallb else ""


def _kind(service: Service, around: Surroundings) -> tuple[LbProfile, str]:
    return lb.KIND, ""


def _docker_desktop(service: Service, around: Surroundings) -> tuple[LbProfile, str]:
    return lb.DOCKER_DESKTOP, ""


def _minikube(service: Service, around: Surroundings) -> tuple[LbProfile, str]:
    return lb.MINIKUBE, ""


_KINDS: Final[Mapping[str, Callable[[Service, Surroundings], tuple[LbProfile, str]]]] = {
    "aws": _aws,
    "gcp": _gcp,
    "metallb": _metallb,
    "kind": _kind,
    DESKTOP: _docker_desktop,
    "minikube": _minikube,
}
"""Provider → (its kind for this Service, what said so; "" for the provider's default)."""


# --- settings ---------------------------------------------------------------------------------------------------


def _aws_settings(service: Service, profile: LbProfile) -> LbProfile:
    """Cross-zone, client-IP preservation and health-check timing as AWS's annotations set them.

    Source: aws-load-balancer-controller docs/guide/service/annotations.md; cloud-provider-aws
    docs/service_controller.md.
    """
    given = service.meta.annotations
    attributes = pairs(given.get(f"{_AWS}attributes", ""))
    cross = attributes.get("load_balancing.cross_zone.enabled") or given.get(
        f"{_AWS}cross-zone-load-balancing-enabled", ""
    )
    if cross:
        profile = replace(profile, zonal=cross != "true")
    kept = pairs(given.get(f"{_AWS}target-group-attributes", "")).get("preserve_client_ip.enabled", "")
    if kept and profile.picks == lb.FLOW_HASH:
        profile = replace(profile, keeps_client=kept == "true", told="" if kept == "true" else lb.AWS_NLB_IP.told)
    profile = ended_flows(profile, pairs(given.get(f"{_AWS}target-group-attributes", "")))
    cluster, local = _timed(profile.cluster_check, given), _timed(profile.local_check, given)
    return replace(profile, cluster_check=cluster, local_check=local)


def ended_flows(profile: LbProfile, attributes: Mapping[str, str]) -> LbProfile:
    """A profile with what target group attributes say of flows to targets that are unhealthy or deregistered.

    Source: AWS docs, Edit target group attributes for your Network Load Balancer, and for your Application one.
    """
    delay = attributes.get("deregistration_delay.timeout_seconds", "")
    if delay.isascii() and delay.isdecimal():
        profile = replace(profile, deregistration_s=float(delay))
    if profile.http:
        return profile
    if attributes.get("target_health_state.unhealthy.connection_termination.enabled") == "false":
        profile = replace(profile, resets_unhealthy=False)
    if attributes.get("deregistration_delay.connection_termination.enabled") == "true" and profile.drains:
        profile = replace(profile, ends_drained=lb.RESET)
    return profile


def _timed(check: lb.Check, given: Mapping[str, str]) -> lb.Check:
    """A check with the timing that annotations give."""

    def number(name: str) -> int:
        text = given.get(f"{_AWS}healthcheck-{name}", "")
        return int(text) if text.isdecimal() else 0

    return replace(
        check,
        interval_s=number("interval") or check.interval_s,
        timeout_s=number("timeout") or check.timeout_s,
        healthy=number("healthy-threshold") or check.healthy,
        unhealthy=number("unhealthy-threshold") or check.unhealthy,
    )


def pairs(text: str) -> dict[str, str]:
    """ "a=b,c=d" as AWS writes attribute lists."""
    parts = (part.partition("=") for part in text.split(","))
    return {key.strip(): value.strip().lower() for key, _, value in parts if key.strip()}
