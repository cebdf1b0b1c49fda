"""What a pod wishes of the pods around it, read from its spec: affinity terms and spread constraints.

Everything here can be hashed, so that pods of one template share one value.

Source: k8s.io/kubernetes pkg/scheduler/framework/types.go (AffinityTerm, getAffinityTerms) and
plugins/podtopologyspread/common.go; matchLabelKeys as pkg/registry/core/pod/strategy.go merges them.
"""

from collections.abc import Mapping
from typing import Any

from kflab.manifest.objects import Labels, LabelSelector, Requirement
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

Needs = tuple[Requirement, ...]
"""A label selector as expressions only."""

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True)
class Term:
    """One pod affinity term."""

    key: str
    """topologyKey."""
    needs: Needs | None
    """None selects no pod."""
    namespaces: tuple[str, ...]
    namespace_needs: Needs | None = None
    """namespaceSelector; () is every namespace, None adds none to `namespaces`."""
    weight: int = 1

    def selects(self, pod: Pod, namespace_labels: Labels) -> bool:
        """Whether a pod, in a namespace with these labels, is meant."""
        if self.needs is None or not meets(self.needs, pod.meta.labels):
            return False
        if pod.meta.namespace in self.namespaces:
            return True
        return self.namespace_needs is not None and meets(self.namespace_needs, namespace_labels)


@dataclass(frozen=True, slots=True)
class Spread:
    """One topologySpreadConstraint."""

    key: str
    max_skew: int
    needs: Needs | None
    hard: bool = True
    """DoNotSchedule; else ScheduleAnyway."""
    min_domains: int = 1
    affinity_honored: bool = True
    taints_honored: bool = False


@dataclass(frozen=True, slots=True)
class Wishes:
    """A pod's terms."""

    near: tuple[Term, ...] = ()
    """Required podAffinity."""
    apart: tuple[Term, ...] = ()
    """Required podAntiAffinity."""
    rather_near: tuple[Term, ...] = ()
    """Preferred: podAffinity with its weights, podAntiAffinity with negative ones."""
    spread: tuple[Spread, ...] = ()

    @property
    def of_pods(self) -> bool:
        """Whether other pods may have to heed them."""
        return bool(self.near or self.apart or self.rather_near)


NONE = Wishes()


def meets(needs: Needs, labels: Labels) -> bool:
    """Whether labels meet a selector."""
    return LabelSelector(match_expressions=needs).matches(labels)


def wishes_of(pod: Pod) -> Wishes:
    """A pod's wishes; `NONE` where it has none."""
    affinity = pod.spec.affinity
    if not pod.spec.spread and not (affinity and ("podAffinity" in affinity or "podAntiAffinity" in affinity)):
        return NONE
    to, away = ((affinity or {}).get(name) or {} for name in ("podAffinity", "podAntiAffinity"))
    rather = [_weighted(entry, pod, 1) for entry in to.get(PREFERRED) or ()]
    rather += [_weighted(entry, pod, -1) for entry in away.get(PREFERRED) or ()]
    return Wishes(
        tuple(_term(entry, pod) for entry in to.get(REQUIRED) or ()),
        tuple(_term(entry, pod) for entry in away.get(REQUIRED) or ()),
        tuple(rather),
        tuple(_spread(entry, pod) for entry in pod.spec.spread),
    )


def _weighted(entry: Mapping[str, Any], pod: Pod, sign: int) -> Term:
    return _term(entry.get("podAffinityTerm") or {}, pod, sign * int(entry.get("weight") or 0))


def _term(entry: Mapping[str, Any], pod: Pod, weight: int = 1) -> Term:
    names = tuple(str(name) for name in entry.get("namespaces") or ())
    others = entry.get("namespaceSelector")
    needs = selector(entry.get("labelSelector"))
    if needs is not None:
        needs += _own(entry, "matchLabelKeys", "In", pod) + _own(entry, "mismatchLabelKeys", "NotIn", pod)
    if not names and others is None:
        names = (pod.meta.namespace,)
    return Term(str(entry.get("topologyKey") or ""), needs, names, selector(others), weight)


def _spread(entry: Mapping[str, Any], pod: Pod) -> Spread:
    needs = selector(entry.get("labelSelector"))
    return Spread(
        str(entry.get("topologyKey") or ""),
        int(entry.get("maxSkew") or 1),
        None if needs is None else needs + _own(entry, "matchLabelKeys", "In", pod),
        entry.get("whenUnsatisfiable") != "ScheduleAnyway",
        int(entry.get("minDomains") or 1),
        entry.get("nodeAffinityPolicy") != "Ignore",
        entry.get("nodeTaintsPolicy") == "Honor",
    )


def _own(entry: Mapping[str, Any], field: str, operator: str, pod: Pod) -> Needs:
    labels = pod.meta.labels
    return tuple(Requirement(key, operator, (labels[key],)) for key in entry.get(field) or () if key in labels)


def selector(tree: Mapping[str, Any] | None) -> Needs | None:
    """A LabelSelector as expressions; None where there is none."""
    if tree is None:
        return None
    pairs = sorted((tree.get("matchLabels") or {}).items())
    needs = [Requirement(str(key), "In", (str(value),)) for key, value in pairs]
    for item in tree.get("matchExpressions") or ():
        values = tuple(str(value) for value in item.get("values") or ())
        needs.append(Requirement(str(item.get("key")), str(item.get("operator")), values))
    return tuple(needs)
