"""What fields a kind has, of which type, and how a patch merges them."""

from difflib import get_close_matches
from functools import cache, lru_cache

from kflab.manifest.kinds import KINDS
from kflab.manifest.objects import KubeObject
from kflab.manifest.schema_table import STRUCTS
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class FieldType:
    """Type of one field."""

    form: str
    """text, integer, number, boolean, int_or_text, quantity, any, struct, map or list."""
    struct: str = ""
    """Name of the struct, for form struct."""
    of: "FieldType | None" = None
    """Type of the entries, for map and list."""
    merge_key: str = ""
    """For lists of structs that a strategic merge matches by this field; "" replaces the list."""
    merge_set: bool = False
    """For lists of plain values that a strategic merge unites."""
    surely: type | None = None
    """Class whose values all are of this type; None: each has to be looked at."""


ANY = FieldType("any")
_PLAIN = {
    "s": FieldType("text", surely=str),
    "i": FieldType("integer"),
    "f": FieldType("number", surely=float),
    "b": FieldType("boolean", surely=bool),
    "n": FieldType("int_or_text", surely=str),
    "q": FieldType("quantity", surely=str),
    "any": ANY,
}

API_VERSIONS = {
    "Namespace": "v1",
    "Node": "v1",
    "Pod": "v1",
    "Service": "v1",
    "ConfigMap": "v1",
    "Secret": "v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Endpoints": "v1",
    "Ingress": "networking.k8s.io/v1",
    "IngressClass": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "PriorityClass": "scheduling.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "KubeProxyConfiguration": "kubeproxy.config.k8s.io/v1alpha1",
}
"""The version of each modelled kind that Kubernetes 1.33 serves (for kube-proxy's file: reads)."""

ALSO_SERVED = {"HorizontalPodAutoscaler": ("autoscaling/v1",)}
"""Other versions of a kind that are served too."""

OLD_GROUPS = {
    "Deployment": ("apps", "extensions"),
    "ReplicaSet": ("apps", "extensions"),
    "StatefulSet": ("apps",),
    "DaemonSet": ("apps", "extensions"),
    "Job": ("batch",),
    "EndpointSlice": ("discovery.k8s.io",),
    "Ingress": ("networking.k8s.io", "extensions"),
    "IngressClass": ("networking.k8s.io",),
    "PodDisruptionBudget": ("policy",),
    "PriorityClass": ("scheduling.k8s.io",),
    "HorizontalPodAutoscaler": ("autoscaling",),
    "KubeProxyConfiguration": ("kubeproxy.config.k8s.io",),
}
"""Groups whose other versions are the same kind, no longer served (deprecation guide, v1.16–v1.25)."""

_MERGED_AS_WELL = {"batch/v1/CronJob", "v1/ServiceAccount"}
"""Kinds without behaviour whose patches merge strategically all the same; their fields are not judged."""


def group_of(api_version: str) -> str:
    """`apps/v1` → `apps`; "" for the core group."""
    return api_version.rpartition("/")[0]


@lru_cache(maxsize=1024)
def modelled_kind(kind: str, api_version: str) -> type[KubeObject] | None:
    """The class of a kind, or None where kflab has no behaviour for it.

    A kind of the same name in another group (a Knative Service) is another kind. An apiVersion that is missing counts
    as the right one; what is wrong with it is said elsewhere.
    """
    cls = KINDS.get(kind)
    if cls is None:
        return None
    group = group_of(api_version)
    if not api_version or group == group_of(API_VERSIONS[kind]) or group in OLD_GROUPS.get(kind, ()):
        return cls
    return None


def struct_of(kind: str, api_version: str) -> str | None:
    """Name of the struct that describes an object for merging; None where the kind is not known."""
    if modelled_kind(kind, api_version) or f"{api_version}/{kind}" in _MERGED_AS_WELL:
        return kind
    return None


@cache
def fields_of(struct: str) -> dict[str, FieldType]:
    """The fields of a struct by name."""
    fields = {}
    for word in _table()[struct]:
        name, _, type_text = word.partition(":")
        fields[name] = _parse_type(type_text)
    if struct in KINDS or struct in {"CronJob", "ServiceAccount"}:
        fields |= {"apiVersion": _PLAIN["s"], "kind": _PLAIN["s"], "metadata": FieldType("struct", "ObjectMeta")}
    return fields


@cache
def _table() -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    words: list[str] = []
    for line in STRUCTS.splitlines():
        if line and not line.startswith(" "):
            name, *words = line.split()
            table[name] = words
        else:
            words.extend(line.split())
    return table


@cache
def _parse_type(text: str) -> FieldType:
    if text in _PLAIN:
        return _PLAIN[text]
    if text.startswith("{"):
        return FieldType("map", of=_parse_type(text[1:-1]))
    if text.startswith("["):
        inner, _, rest = text[1:].rpartition("]")
        return FieldType("list", of=_parse_type(inner), merge_key=rest.removeprefix("/") if "/" in rest else "",
                         merge_set=rest == "+")  # fmt: skip
    return FieldType("struct", struct=text)


def did_you_mean(wrong: str, known: list[str]) -> str:
    """`; did you mean "x"?`, or "" where nothing is near."""
    lower = {name.lower(): name for name in known}
    near = get_close_matches(wrong.lower(), sorted(lower), n=1, cutoff=0.7)
    return f', did you mean "{lower[near[0]]}"?' if near else ""
