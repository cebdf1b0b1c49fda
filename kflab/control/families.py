"""Which address families a Service gets: ipFamilyPolicy and ipFamilies, defaulted and refused as the API server does.

Source: k8s.io/kubernetes pkg/registry/core/service/storage/alloc.go, initIPFamilyFields; KEP-563.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kflab.control.endpoints import family_of
from kflab.manifest.objects_network import Service
from kflab.manifest.typed_network import FAMILY_POLICIES


def with_families(service: Service, old: Service | None, configured: tuple[str, ...]) -> tuple[Service, str]:
    """Fill in a Service's families and policy; take its second ClusterIP away where the policy now says so.

    Args:
        service: As written, with the ClusterIPs it had before.
        old: The stored Service that it replaces.
        configured: Families with a Service range in this cluster, the default one first.

    Returns:
        The Service, and what the API server refuses of it ("spec.ipFamilyPolicy: Invalid value: …"), "" for nothing.
        A refused Service comes back as the cluster can have it.
    """
    if service.type == "ExternalName":
        return service, ""
    before = old if old is not None and old.type != "ExternalName" else None
    spec: Mapping[str, Any] = (service.raw or {}).get("spec") or {}
    policy = _policy(service, spec, before)
    families = _given(spec) or (before.ip_families if before is not None else ())
    ips = () if service.headless else service.cluster_ips
    refused = ""
    if before is not None and policy == "SingleStack":
        # The same addresses and families under a new policy: the second ones are given back.
        ips = ips[:1] if ips == before.cluster_ips else ips
        families = families[:1] if families == before.ip_families else families
    elif before is not None and not service.headless:
        shorter = 0 < len(ips) < len(before.cluster_ips), 0 < len(families) < len(before.ip_families)
        if any(shorter):
            what = "cluster IP" if shorter[0] else "IP family"
            refused = _policy_refused(policy, f"must be 'SingleStack' to release the secondary {what}")
            ips, families = (before.cluster_ips if shorter[0] else ips), before.ip_families
    if policy == "SingleStack" and max(len(ips), len(families)) > 1:
        what = "cluster IPs" if len(ips) > 1 else "IP families"
        words = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
        refused = refused or _policy_refused(policy, words)
        policy = "PreferDualStack"
    families += tuple(family_of(ip) for ip in ips[len(families) :])
    if service.headless and not service.selector:
        families = families or configured[:1]
        return replace(service, ip_families=_both(families, policy), ip_family_policy=policy), refused
    if policy == "RequireDualStack" and len(configured) < 2:
        refused = refused or _policy_refused(policy, "this cluster is not configured for dual-stack services")
        policy = "PreferDualStack"
    for i, family in enumerate(families):
        if family not in configured and not ips[i:]:
            refused = refused or f'spec.ipFamilies[{i}]: Invalid value: "{family}": not configured on this cluster'
    families = tuple(family for i, family in enumerate(families) if family in configured or ips[i:])
    families = families or configured[:1]
    if len(configured) == 2:
        families = _both(families, policy)
    return replace(
        service, cluster_ips=ips or service.cluster_ips, ip_families=families, ip_family_policy=policy
    ), refused


def _policy(service: Service, spec: Mapping[str, Any], before: Service | None) -> str:
    given = spec.get("ipFamilyPolicy")
    if given in FAMILY_POLICIES:
        return str(given)
    if before is not None:
        return before.ip_family_policy
    if service.raw is not None and service.headless and not service.selector:
        return "RequireDualStack"
    return service.ip_family_policy


def _given(spec: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in spec.get("ipFamilies") or () if name in ("IPv4", "IPv6"))


def _both(families: tuple[str, ...], policy: str) -> tuple[str, ...]:
    """Add the other family, unless the policy says SingleStack."""
    if policy == "SingleStack" or len(families) != 1:
        return families
    return (*families, "IPv6" if families[0] == "IPv4" else "IPv4")


def _policy_refused(policy: str, words: str) -> str:
    return f'spec.ipFamilyPolicy: Invalid value: "{policy}": {words}'
