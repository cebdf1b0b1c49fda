"""Indexes over the store's present: pods by label, node and owner, Services by selector, slices by Service.

What informers' indexers are for in the real controllers: nobody looks through all pods to find a Service's.
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

from kflab.cluster.checkpoint import Mutable
from kflab.cluster.store import Change
from kflab.manifest.objects import Key, Labels, LabelSelector
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod

Pair = tuple[str, str, str]
"""(namespace, label, value)."""

Place = TypeVar("Place", bound=Hashable)

Bucket = dict[Key, None]
"""An ordered set of keys."""


class Index(Mutable):
    """Kept up to date by every write."""

    def __init__(self) -> None:
        self._pods_by_label: dict[Pair, Bucket] = {}
        self._pods_by_namespace: dict[str, Bucket] = {}
        self._by_owner: dict[Key, Bucket] = {}
        self._ownerless: dict[str, Bucket] = {}
        """Namespace → pods that nobody owns."""
        self._pods_by_node: dict[str, Bucket] = {}
        self._services_by_pair: dict[Pair, dict[Key, Labels]] = {}
        self._service_pair: dict[Key, Pair] = {}
        self._slices: dict[Key, Bucket] = {}

    def take(self, change: Change) -> None:
        """Take in one write."""
        old, new = change.old, change.new
        key = change.key
        old_owner = old.meta.owner if old is not None else None
        new_owner = new.meta.owner if new is not None else None
        if old_owner is not new_owner and old_owner != new_owner:
            _move(self._by_owner, old_owner, new_owner, key)
        match key.kind:
            case "Pod":
                if (old is not None and old_owner is None) != (new is not None and new_owner is None):
                    if new is not None and new_owner is None:
                        self._ownerless.setdefault(key.namespace, {})[key] = None
                    else:
                        _drop(self._ownerless, key.namespace, key)
                self._pod(key, old if isinstance(old, Pod) else None, new if isinstance(new, Pod) else None)
            case "Service":
                self._service(key, new if isinstance(new, Service) else None)
            case "EndpointSlice":
                before = old.service if isinstance(old, EndpointSlice) else None
                after = new.service if isinstance(new, EndpointSlice) else None
                if before != after:
                    _move(self._slices, before, after, key)

    def _pod(self, key: Key, old: Pod | None, new: Pod | None) -> None:
        old_node = old.spec.node_name if old is not None else ""
        new_node = new.spec.node_name if new is not None else ""
        if old_node != new_node:
            _move(self._pods_by_node, old_node or None, new_node or None, key)
        if old is not None and new is not None and (old.meta.labels is new.meta.labels):
            return
        namespace = key.namespace
        if old is None:
            self._pods_by_namespace.setdefault(namespace, {})[key] = None
        else:
            for label, value in old.meta.labels.items():
                _drop(self._pods_by_label, (namespace, label, value), key)
        if new is None:
            _drop(self._pods_by_namespace, namespace, key)
        else:
            for label, value in new.meta.labels.items():
                self._pods_by_label.setdefault((namespace, label, value), {})[key] = None

    def _service(self, key: Key, new: Service | None) -> None:
        old_pair = self._service_pair.pop(key, None)
        if old_pair is not None:
            bucket = self._services_by_pair[old_pair]
            del bucket[key]
            if not bucket:
                del self._services_by_pair[old_pair]
        if new is None or not new.selector:
            return
        pairs = [(key.namespace, label, value) for label, value in sorted(new.selector.items())]
        pair = min(pairs, key=lambda p: len(self._services_by_pair.get(p, ())))
        self._services_by_pair.setdefault(pair, {})[key] = new.selector
        self._service_pair[key] = pair

    # --- questions ------------------------------------------------------------------------------------------

    def services_selecting(self, namespace: str, labels: Labels) -> Sequence[Key]:
        """Services whose selector matches a pod with these labels."""
        found: list[Key] = []
        for label, value in labels.items():
            there = self._services_by_pair.get((namespace, label, value))
            for key, selector in there.items() if there else ():
                for name, wanted in selector.items():
                    if labels.get(name) != wanted:
                        break
                else:
                    found.append(key)
        return found

    def pods_selected(self, namespace: str, selector: Labels) -> Sequence[Key]:
        """Pods that carry all these labels, in order of creation; an empty selector means none, as for Services."""
        buckets = [self._pods_by_label.get((namespace, label, value)) for label, value in selector.items()]
        if not buckets or not all(buckets):
            return ()
        smallest, *others = sorted((b for b in buckets if b), key=len)
        found = list(smallest)
        for other in others:
            found = [key for key in found if key in other]
        return found

    def pods_matching(self, namespace: str, selector: LabelSelector) -> Sequence[Key]:
        """Candidates for a workload's selector: check `selector.matches` where it has expressions."""
        if selector.match_labels:
            return self.pods_selected(namespace, selector.match_labels)
        return list(self._pods_by_namespace.get(namespace, ()))

    def pods_on(self, node: str) -> Sequence[Key]:
        """Pods bound to a node."""
        return list(self._pods_by_node.get(node, ()))

    def count_on(self, node: str) -> int:
        """How many pods are bound to a node."""
        return len(self._pods_by_node.get(node, ()))

    def owned_by(self, owner: Key) -> Sequence[Key]:
        """Objects whose controlling ownerReference names `owner`, in order of creation."""
        return list(self._by_owner.get(owner, ()))

    def has_ownerless(self, namespace: str) -> bool:
        """Whether a namespace has pods that nobody owns."""
        return namespace in self._ownerless

    def slices_of(self, service: Key) -> Sequence[Key]:
        """A Service's EndpointSlices, in order of creation."""
        return list(self._slices.get(service, ()))


def _move(table: dict[Place, Bucket], old: Place | None, new: Place | None, key: Key) -> None:
    if old is not None:
        _drop(table, old, key)
    if new is not None:
        table.setdefault(new, {})[key] = None


def _drop(table: object, at: object, key: Key) -> None:
    assert isinstance(table, dict)
    bucket = table[at]
    bucket.pop(key, None)
    if not bucket:
        del table[at]
