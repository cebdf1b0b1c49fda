"""EndpointSliceMirroring controller: Endpoints that somebody wrote by hand become slices, which kube-proxy reads.

Source: k8s.io/kubernetes pkg/controller/endpointslicemirroring endpointslicemirroring_controller.go (shouldMirror,
syncEndpoints: Services with a selector are left to the EndpointSlice controller), reconciler.go, utils.go. We keep one
slice for each subset and address family; upstream splits after --mirroring-max-endpoints-per-subset, 1000, which drops
the rest.
"""

from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core, address_of
from kflab.control.endpoints import family_of
from kflab.control.endpointslice import MANAGED_BY, SERVICE_NAME
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.names import generated
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_network import Endpoint, Endpoints, EndpointSlice, EndpointSubset, Service
from kflab.records import dataclass

BY = "endpointslicemirroring-controller"
MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
LEADER = "control-plane.alpha.kubernetes.io/leader"

MOST = 1000
"""--mirroring-max-endpoints-per-subset."""


@dataclass(frozen=True, slots=True)
class MirrorEndpoints(Event):
    """Endpoints are taken from the work queue and their slices are written."""

    room: ClassVar[str] = "mirroring"
    needs_api: ClassVar[bool] = True
    key: Key


class Mirroring(Controller):
    """Keeps slices in step with Endpoints of Services without a selector."""

    room = "mirroring"
    kinds = ("Endpoints", "Service")
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, None] = {}

    def changed(self, change: Change) -> None:
        """Queue the Endpoints, or those named as the Service is."""
        key = Key("Endpoints", change.key.namespace, change.key.name)
        if change.key.kind == "Service" and self.core.store.get(key) is None and not self._mirrored(key):
            return
        if key not in self._queued:
            self._queued[key] = None
            self.core.push(self.core.delay("endpointslice_s", key), MirrorEndpoints(key))

    def handle(self, event: Event) -> None:
        """Write what differs."""
        assert isinstance(event, MirrorEndpoints)
        self._queued.pop(event.key, None)
        given = self.core.store.get(event.key)
        service = self.core.store.get(Key("Service", event.key.namespace, event.key.name))
        existing = self._mirrored(event.key)
        wanted: list[EndpointSlice] = []
        if isinstance(given, Endpoints) and isinstance(service, Service) and mirrors(given, service):
            wanted = [piece for subset in given.subsets for piece in _slices(given, subset)]
        for piece in wanted:
            old = next((o for o in existing if (o.address_type, o.ports) == (piece.address_type, piece.ports)), None)
            if old is None:
                self._tell(event.key.name, self.core.create(replace(piece, meta=self._named(piece)), BY))
            else:
                existing.remove(old)
                meta = replace(old.meta, labels=piece.meta.labels, annotations=piece.meta.annotations)
                self._tell(event.key.name, self.core.put(replace(old, meta=meta, endpoints=piece.endpoints), BY))
        for old in existing:
            self._tell(event.key.name, self.core.remove(old.key, BY))

    def _mirrored(self, key: Key) -> list[EndpointSlice]:
        found = map(self.core.store.get, self.core.index.slices_of(Key("Service", key.namespace, key.name)))
        return [s for s in found if isinstance(s, EndpointSlice) and s.meta.labels.get(MANAGED_BY) == MANAGER]

    def _named(self, piece: EndpointSlice) -> Meta:
        service = piece.service
        name = ""
        while not name or self.core.store.get(Key("EndpointSlice", service.namespace, name)) is not None:
            name = generated(f"{service.name}-", self.core.bits("slice-name", address_of(service)))
        return replace(piece.meta, name=name)

    def _tell(self, service: str, change: Change | None) -> None:
        if change is None or self.core.quiet:
            return
        entries = change.new.endpoints if isinstance(change.new, EndpointSlice) else ()
        ready = sum(bool(entry.ready) for entry in entries)
        text = f"EndpointSlice {change.key.name} of {service} mirrors {ready} ready of {len(entries)}"
        self.core.fact(What.ENDPOINTS_WRITTEN, change.key, BY, text, change.revision)


def mirrors(given: Endpoints, service: Service) -> bool:
    """Whether Endpoints are mirrored: not those of a Service with a selector, of a leader election, or labelled out."""
    meta = given.meta
    return not service.selector and meta.labels.get(SKIP) != "true" and LEADER not in meta.annotations


def _slices(given: Endpoints, subset: EndpointSubset) -> list[EndpointSlice]:
    by_family: dict[str, list[Endpoint]] = {}
    for addresses, ready in ((subset.addresses, True), (subset.not_ready, False)):
        for ip, target, node in addresses:
            by_family.setdefault(family_of(ip), []).append(Endpoint((ip,), ready, node_name=node, target=target))
    labels = {**given.meta.labels, SERVICE_NAME: given.meta.name, MANAGED_BY: MANAGER}
    annotations = {name: value for name, value in given.meta.annotations.items() if name != LAST_APPLIED}
    meta = Meta("", given.meta.namespace, labels, annotations, owner=given.key)
    return [
        EndpointSlice(meta, None, None, family, tuple(entries[:MOST]), subset.ports)
        for family, entries in by_family.items()
    ]
