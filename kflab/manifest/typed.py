"""A tree → a typed object, with the API server's defaults and the lab's assumptions filled in.

Trees have passed shape.py: every known field has its type or is null, and null means absent (as for Go's decoder).
What the API server would refuse is said by the validate_*.py modules; here the assumption stated there is made.
"""

import re
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Any

from kflab.manifest.addresses import sloppy_cidr, sloppy_ip
from kflab.manifest.findings import PlaceOf
from kflab.manifest.kinds import CLUSTER_SCOPED, KINDS, Unmodelled
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_cluster import Namespace, Node, PriorityClass, Taint
from kflab.manifest.objects_config import ConfigMap, KubeProxyConfiguration, ProxyConntrack, Secret
from kflab.manifest.objects_network import IngressClass
from kflab.manifest.schema import group_of, modelled_kind
from kflab.manifest.typed_autoscaler import autoscaler
from kflab.manifest.typed_batch import job
from kflab.manifest.typed_common import Given, Tree, text_map, when_ns
from kflab.manifest.typed_network import endpoint_slice, endpoints, ingress, service
from kflab.manifest.typed_pods import pod, quantities
from kflab.manifest.typed_workloads import daemon_set, deployment, disruption_budget, replica_set, stateful_set

PROXY_MODES = ("iptables", "ipvs", "nftables")
IPVS_SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh")
"""Those of the kernel's schedulers that the lab knows; lblc and lblcr, for caches, are left out."""
_ALPHANUMS = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names (apimachinery pkg/util/rand)."""


def to_object(
    tree: Tree,
    place_of: PlaceOf | None = None,
    *,
    default_namespace: str = "default",
    now: datetime | None = None,
    raw: Tree | None = None,
) -> KubeObject:
    """Make the typed object of a tree.

    Args:
        tree: An object with kind and metadata.name, of the right shape.
        place_of: Finds places; gives the object's own.
        default_namespace: For namespaced kinds that name none.
        now: The moment that becomes t = 0; timestamps are in ns relative to it.
        raw: What the object keeps as its raw tree, if not `tree` itself.

    Returns:
        The object; `Unmodelled` for kinds without behaviour.
    """
    kind = str(tree.get("kind") or "")
    api_version = str(tree.get("apiVersion") or "")
    meta = read_meta(tree, default_namespace, now)
    given = Given(meta, tree if raw is None else raw, place_of(()) if place_of else None, now)
    if modelled_kind(kind, api_version) is None:
        return Unmodelled(meta, given.raw, given.place, given_kind=key_kind(kind, api_version), api_version=api_version)
    return _CONVERTERS[kind](tree, given)


def key_kind(kind: str, api_version: str) -> str:
    """The kind as keys use it: with its group where a kind of that name is modelled.

    So a Knative Service is `Service.serving.knative.dev`, as kubectl qualifies it.
    """
    if kind in KINDS and modelled_kind(kind, api_version) is None:
        return f"{kind}.{group_of(api_version) or api_version}"
    return kind


def key_of(tree: Tree, default_namespace: str = "default") -> Key:
    """The key of a tree; kind or name may be "" where the tree has none."""
    kind = tree.get("kind")
    kind = kind if isinstance(kind, str) else ""
    version = tree.get("apiVersion")
    version = version if isinstance(version, str) else ""
    metadata = tree.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = name_of(tree), metadata.get("namespace")
    if kind in CLUSTER_SCOPED:
        namespace = ""
    elif not isinstance(namespace, str) or not namespace:
        namespace = default_namespace
    return Key(key_kind(kind, version), namespace, name)


def name_of(tree: Tree) -> str:
    """metadata.name, or the one made from generateName; "" without either."""
    if tree.get("kind") == "KubeProxyConfiguration":
        return "kube-proxy"
    metadata = tree.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    name, prefix = metadata.get("name"), metadata.get("generateName")
    if isinstance(name, str) and name:
        return name
    if isinstance(prefix, str) and prefix:
        digest = blake2b(f"{tree.get('kind')}/{metadata.get('namespace')}/{prefix}".encode(), digest_size=5).digest()
        return prefix + "".join(_ALPHANUMS[byte % len(_ALPHANUMS)] for byte in digest)
    return ""


def read_meta(tree: Tree, default_namespace: str, now: datetime | None) -> Meta:
    """ObjectMeta; times are relative to `now`, or 0 without it."""
    key = key_of(tree, default_namespace)
    metadata = tree.get("metadata") or {}
    owner = None
    for reference in metadata.get("ownerReferences") or ():
        # A mirror pod's owner is its Node: no workload, and no other pod is made in its place.
        if reference.get("controller") and reference.get("kind") != "Node":
            owner = Key(str(reference.get("kind") or ""), key.namespace, str(reference.get("name") or ""))
    grace = metadata.get("deletionGracePeriodSeconds")
    deletion = when_ns(metadata.get("deletionTimestamp"), now)
    return Meta(
        name=key.name,
        namespace=key.namespace,
        labels=text_map(metadata.get("labels")),
        annotations=text_map(metadata.get("annotations")),
        uid=metadata.get("uid") or "",
        creation_ns=when_ns(metadata.get("creationTimestamp"), now) or 0,
        deletion_ns=None if deletion is None else deletion - int(grace or 0) * 1_000_000_000,
        grace_s=None if deletion is None else int(grace or 0),
        owner=owner,
        generation=int(metadata.get("generation") or 1),
    )


def _namespace(tree: Tree, given: Given) -> Namespace:
    return Namespace(given.meta, given.raw, given.place)


def _node(tree: Tree, given: Given) -> Node:
    spec, status = tree.get("spec") or {}, tree.get("status") or {}
    addresses = status.get("addresses") or ()
    ready = [str(c.get("status")) for c in status.get("conditions") or () if c.get("type") == "Ready"]
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return Node(
        given.meta,
        given.raw,
        given.place,
        pod_cidrs=tuple(usual for cidr in cidrs if cidr and (usual := sloppy_cidr(cidr))),
        internal_ips=_addresses(addresses, "InternalIP"),
        external_ips=_addresses(addresses, "ExternalIP"),
        ready=(ready[0] if ready[0] in ("True", "False") else "Unknown") if ready else "True",
        unschedulable=bool(spec.get("unschedulable")),
        taints=tuple(
            Taint(t.get("key") or "", t.get("effect") or "", t.get("value") or "") for t in spec.get("taints") or ()
        ),
        provider_id=spec.get("providerID") or "",
        cores=_cores((status.get("capacity") or {}).get("cpu")),
        # SetDefaults_NodeStatus: capacity stands for allocatable where that is missing.
        allocatable=quantities(status.get("allocatable") or status.get("capacity")),
    )


def _cores(quantity: Any) -> int:
    """Whole CPUs of a capacity such as 8, "8" or "7910m"; 0 for anything else."""
    match = re.fullmatch(r"(\d{1,6})(m?)", str(quantity))
    return 0 if match is None else int(match[1]) // (1000 if match[2] else 1)


def _addresses(entries: Any, kind: str) -> tuple[str, ...]:
    texts = (entry.get("address") or "" for entry in entries if entry.get("type") == kind)
    return tuple(usual for text in texts if (usual := sloppy_ip(text)))


def _ingress_class(tree: Tree, given: Given) -> IngressClass:
    controller = (tree.get("spec") or {}).get("controller") or ""
    return IngressClass(given.meta, given.raw, given.place, controller=controller)


def _priority_class(tree: Tree, given: Given) -> PriorityClass:
    """preemptionPolicy defaults to PreemptLowerPriority (pkg/apis/scheduling/v1/defaults.go)."""
    return PriorityClass(
        given.meta,
        given.raw,
        given.place,
        value=int(tree.get("value") or 0),
        global_default=bool(tree.get("globalDefault")),
        preemption_policy="Never" if tree.get("preemptionPolicy") == "Never" else "PreemptLowerPriority",
        description=tree.get("description") or "",
    )


def _config_map(tree: Tree, given: Given) -> ConfigMap:
    return ConfigMap(given.meta, given.raw, given.place, data=text_map(tree.get("data")))


def _secret(tree: Tree, given: Given) -> Secret:
    return Secret(given.meta, given.raw, given.place, type=tree.get("type") or "Opaque")


_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")


def duration_s(text: Any, default: float) -> float:
    """A Go duration (`1m30s`) in seconds; `default` when absent, zero or no duration."""
    if not isinstance(text, str) or not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        return default
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(text)) or default


def _node_port_address(text: str) -> str | None:
    return text if text == "primary" else sloppy_cidr(text)


def _proxy_conntrack(tree: Tree) -> ProxyConntrack:
    usual = ProxyConntrack()
    per_core, least = tree.get("maxPerCore"), tree.get("min")
    return ProxyConntrack(
        max_per_core=usual.max_per_core if per_core is None else max(0, int(per_core)),
        min=usual.min if least is None else max(0, int(least)),
        tcp_established_s=_timeout_s(tree.get("tcpEstablishedTimeout"), usual.tcp_established_s),
        tcp_close_wait_s=_timeout_s(tree.get("tcpCloseWaitTimeout"), usual.tcp_close_wait_s),
        udp_s=_timeout_s(tree.get("udpTimeout"), usual.udp_s),
        udp_stream_s=_timeout_s(tree.get("udpStreamTimeout"), usual.udp_stream_s),
    )


def _timeout_s(text: Any, default: float) -> float:
    """A Go duration in seconds; 0s is a value here: leave the kernel's."""
    return 0.0 if re.fullmatch(r"(0(ns|us|ms|s|m|h)?)+", str(text)) else duration_s(text, default)


def _kube_proxy(tree: Tree, given: Given) -> KubeProxyConfiguration:
    """Defaults: pkg/proxy/apis/config/v1alpha1/defaults.go."""
    mode = str(tree.get("mode") or "")
    mode = mode if mode in PROXY_MODES else "iptables"
    rules = tree.get("nftables" if mode == "nftables" else "ipvs" if mode == "ipvs" else "iptables") or {}
    iptables = tree.get("iptables") or {}
    local = iptables.get("localhostNodePorts")
    return KubeProxyConfiguration(
        given.meta,
        given.raw,
        given.place,
        mode=mode,
        cluster_cidrs=tuple(
            usual for cidr in (tree.get("clusterCIDR") or "").split(",") if (usual := sloppy_cidr(cidr))
        ),
        detect_local_mode=tree.get("detectLocalMode") or "ClusterCIDR",
        pod_interface=_pod_interface(tree),
        node_port_addresses=tuple(
            usual for text in tree.get("nodePortAddresses") or () if (usual := _node_port_address(text or ""))
        ),
        masquerade_all=bool(rules.get("masqueradeAll") or iptables.get("masqueradeAll")),
        localhost_node_ports=True if local is None else bool(local),
        min_sync_s=duration_s(rules.get("minSyncPeriod"), 1.0),
        sync_s=duration_s(rules.get("syncPeriod"), 30.0),
        ipvs_scheduler=name if (name := (tree.get("ipvs") or {}).get("scheduler")) in IPVS_SCHEDULERS else "",
        ipvs_tcp_s=_timeout_s((tree.get("ipvs") or {}).get("tcpTimeout"), 0.0),
        ipvs_udp_s=_timeout_s((tree.get("ipvs") or {}).get("udpTimeout"), 0.0),
        feature_gates={name: on for name, on in (tree.get("featureGates") or {}).items() if on is not None},
        conntrack=_proxy_conntrack(tree.get("conntrack") or {}),
    )


def _pod_interface(tree: Tree) -> str:
    given = tree.get("detectLocal") or {}
    match tree.get("detectLocalMode"):
        case "BridgeInterface":
            return str(given.get("bridgeInterface") or "")
        case "InterfaceNamePrefix":
            prefix = str(given.get("interfaceNamePrefix") or "")
            return f"{prefix}+" if prefix else ""
        case _:
            return ""


_CONVERTERS: dict[str, Callable[[Tree, Any], KubeObject]] = {
    "Namespace": _namespace,
    "Node": _node,
    "Pod": pod,
    "Deployment": deployment,
    "ReplicaSet": replica_set,
    "StatefulSet": stateful_set,
    "DaemonSet": daemon_set,
    "Job": job,
    "Service": service,
    "EndpointSlice": endpoint_slice,
    "Endpoints": endpoints,
    "Ingress": ingress,
    "IngressClass": _ingress_class,
    "PodDisruptionBudget": disruption_budget,
    "PriorityClass": _priority_class,
    "HorizontalPodAutoscaler": autoscaler,
    "ConfigMap": _config_map,
    "Secret": _secret,
    "KubeProxyConfiguration": _kube_proxy,
}
