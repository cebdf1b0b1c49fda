"""What every Kubernetes object has here: a key, metadata, a place in the user's text; and what kinds share.

Objects are typed and immutable: what every room right of `manifest` works with. The kinds are in objects_*.py beside
this file, `kinds` names them all. Only fields that the lab models are typed; `raw` keeps the whole tree as given.
Objects are never edited in place: controllers use `dataclasses.replace`. Defaults here are those the API server would
fill in (k8s.io/kubernetes pkg/apis/*/v1/defaults.go), so a freshly constructed object is already defaulted.
"""

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, NamedTuple

from kflab.errors import Place
from kflab.records import dataclass

Labels = Mapping[str, str]

NO_LABELS: Labels = {}

UNHASHED: Mapping[str, str] = MappingProxyType({"hash": "left out while it has its default"})
"""Metadata of a field that came after pod templates got their hashes: pods keep their names."""


class Key(NamedTuple):
    """Names one object in a cluster. `namespace` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """kubectl's `kind/name`, in lower case."""
        return f"{self.kind.lower()}/{self.name}"


_tuple = tuple.__new__

NO_KEY = Key("", "", "")
"""Names nothing."""


@dataclass(frozen=True, slots=True)
class Meta:
    """ObjectMeta, as far as the lab reads it."""

    name: str
    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    uid: str = ""
    """Empty until the API server (the store) has accepted the object."""
    creation_ns: int = 0
    """Simulated time of creation in ns; negative before the lab opened."""
    deletion_ns: int | None = None
    """deletionTimestamp minus the grace period, i.e. when delete was called; None while it lives."""
    grace_s: int | None = None
    """deletionGracePeriodSeconds, set with deletion_ns."""
    owner: Key | None = None
    """The controlling ownerReference."""
    generation: int = 1


@dataclass(frozen=True, slots=True)
class KubeObject:
    """Base of all kinds."""

    meta: Meta
    raw: Mapping[str, Any] | None = field(default=None, compare=False)
    """The tree as the user (or dump) gave it, defaults not filled in; None for objects that controllers made."""
    place: Place | None = field(default=None, compare=False)
    """Where the user wrote it; None for made objects."""

    @property
    def kind(self) -> str:
        return type(self).__name__

    @property
    def key(self) -> Key:
        meta = self.meta
        return _tuple(Key, (self.kind, meta.namespace, meta.name))  # asked so often that Key's own way counts


@dataclass(frozen=True, slots=True)
class Requirement:
    """One matchExpressions entry; `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """metav1.LabelSelector. An empty selector matches everything; "no selector" is None where it is used."""

    match_labels: Labels = field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether all requirements hold (apimachinery pkg/labels/selector.go)."""
        for key, value in self.match_labels.items():
            if labels.get(key) != value:
                return False
        for want in self.match_expressions:
            present = want.key in labels
            if want.operator == "In" and (not present or labels[want.key] not in want.values):
                return False
            if want.operator == "NotIn" and present and labels[want.key] in want.values:
                return False
            if want.operator == "Exists" and not present:
                return False
            if want.operator == "DoesNotExist" and present:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Condition:
    """One status.conditions entry of a pod or workload."""

    type: str
    status: str
    """True, False or Unknown."""
    reason: str = ""
    message: str = ""
    since_ns: int = 0
    """lastTransitionTime."""
    updated_ns: int = 0
    """lastUpdateTime."""
