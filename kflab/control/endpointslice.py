"""EndpointSlice controller: which pods a Service reaches, in slices of up to 100.

Source: k8s.io/kubernetes pkg/controller/endpointslice/endpointslice_controller.go, k8s.io/endpointslice
reconciler.go (reconcileByPortMapping, finalize). Delays: lifecycle 1.3, 4A.4.
"""

from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core, address_of
from kflab.control.delays import ns
from kflab.control.endpoints import belongs, endpoint, endpoint_ports, family_of, with_hints, zone_of
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.names import generated
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import Endpoint, EndpointPort, EndpointSlice, Service
from kflab.manifest.objects_pods import Container, Pod
from kflab.records import dataclass
from kflab.replacing import replace

BY = "endpointslice-controller"

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"

Group = tuple[str, tuple[EndpointPort, ...]]
"""Address type and ports: what all endpoints of a slice share."""


@dataclass(frozen=True, slots=True)
class SyncService(Event):
    """A Service is taken from the work queue and its slices are written."""

    room: ClassVar[str] = "endpointslice"
    needs_api: ClassVar[bool] = True
    key: Key


class EndpointSliceController(Controller):
    """Keeps slices in step with pods."""

    room = "endpointslice"
    kinds = ("Pod", "Service", "EndpointSlice")
    component = "controller-manager"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._queued: dict[Key, int] = {}
        """Service → from when on it is in the work queue."""
        self.kept: dict[Key, None] = {}
        """Services whose given slices stand, because no pod in the input matches them."""

    def changed(self, change: Change) -> None:
        """Queue the Service, those that select the pod before or after, or the one whose slice somebody else wrote."""
        old, new = change.old, change.new
        if change.key.kind == "EndpointSlice":
            if change.by != BY and not self.core.quiet:
                self._repair(old, new)
            return
        if change.key.kind == "Service":
            if isinstance(new, Service) and isinstance(old, Service) and _wishes(old) == _wishes(new):
                return
            self._enqueue(change.key)
            return
        before = _seen(old) if isinstance(old, Pod) else None
        after = _seen(new) if isinstance(new, Pod) else None
        if before == after or not ((before and before[0]) or (after and after[0])):
            return
        services: dict[Key, None] = {}
        for obj in (old, new):
            if isinstance(obj, Pod):
                for key in self.core.index.services_selecting(obj.meta.namespace, obj.meta.labels):
                    services[key] = None
            if isinstance(old, Pod) and isinstance(new, Pod):
                labels = old.meta.labels
                if labels is new.meta.labels or labels == new.meta.labels:
                    break
        for key in services:
            if not self.core.quiet:
                self.kept.pop(key, None)
            self._enqueue(key, "endpointslice_batch_s")

    def _repair(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """A slice of this controller that is not as it left it (endpointSliceTracker; onEndpointSliceUpdate)."""
        for piece in (old, new):
            if isinstance(piece, EndpointSlice) and piece.meta.labels.get(MANAGED_BY) == MANAGER:
                self._enqueue(piece.service, "endpointslice_batch_s", ns(self.core.delays.endpointslice_repair_s))

    def _enqueue(self, key: Key, wait: str = "", least_ns: int = 0) -> None:
        """Have a Service synced; `wait` names a delay before it is queued. The earliest of several instants counts."""
        wait_ns = 0 if self.core.quiet or not wait else max(self.core.delay(wait, key), least_ns)
        queued, from_ns = self._queued.get(key), self.core.now_ns + wait_ns
        if queued is None or from_ns < queued:
            self._queued[key] = from_ns
            self.core.push(wait_ns + self.core.delay("endpointslice_s", key), SyncService(key))

    def handle(self, event: Event) -> None:
        """Write what differs."""
        assert isinstance(event, SyncService)
        self._queued.pop(event.key, None)
        if event.key in self.kept:
            return
        service = self.core.store.get(event.key)
        existing = [
            s for s in map(self.core.store.get, self.core.index.slices_of(event.key)) if isinstance(s, EndpointSlice)
        ]
        own = [s for s in existing if s.meta.labels.get(MANAGED_BY) == MANAGER]
        if not isinstance(service, Service):
            for lost in own:
                self._remove(lost)
            return
        if service.selector and service.type != "ExternalName":
            self._reconcile(service, own)

    def _reconcile(self, service: Service, existing: list[EndpointSlice]) -> None:
        wanted = self._wanted(service)
        by_group: dict[Group, list[EndpointSlice]] = {}
        for old in existing:
            by_group.setdefault((old.address_type, old.ports), []).append(old)
        created: list[tuple[Group, list[Endpoint]]] = []
        updated: list[tuple[EndpointSlice, list[Endpoint]]] = []
        deleted: list[EndpointSlice] = []
        most = int(self.core.delays.endpoints_per_slice)
        for group, entries in wanted.items():
            plan = plan_group(by_group.pop(group, []), entries, most)
            created.extend((group, chunk) for chunk in plan.created)
            updated.extend(plan.kept)
            deleted.extend(plan.deleted)
        if not wanted:
            # A Service without endpoints keeps one empty slice, so that readers see "none" instead of nothing.
            placeholder = by_group.pop(("IPv4", ()), [])
            if placeholder:
                updated.append((placeholder[0], []))
                deleted.extend(placeholder[1:])
            else:
                created.append((("IPv4", ()), []))
        for rest in by_group.values():
            deleted.extend(rest)
        self._write(service, created, updated, deleted)

    def _wanted(self, service: Service) -> dict[Group, dict[Key, Endpoint]]:
        wanted: dict[Group, dict[Key, Endpoint]] = {}
        families = service.ip_families or ("IPv4",)
        containers: tuple[Container, ...] | None = None
        ports: tuple[EndpointPort, ...] = ()
        groups: dict[str, dict[Key, Endpoint]] = {}
        """Family → what is wanted with these ports."""
        for key in self.core.index.pods_selected(service.meta.namespace, service.selector):
            pod = self.core.store.get(key)
            if not isinstance(pod, Pod) or not belongs(pod):
                continue
            node = self.core.store.get(Key("Node", "", pod.spec.node_name))
            if not isinstance(node, Node) and not service.publish_not_ready:
                continue
            zone = zone_of(node.meta.labels) if node is not None else ""
            if pod.spec.containers is not containers or pod.spec.init_containers:  # pods of one template share them
                containers, ports = pod.spec.containers, endpoint_ports(service, pod)
                groups = {}
            for ip in pod.status.pod_ips:
                family = family_of(ip)
                if family in families:
                    group = groups.get(family)
                    if group is None:
                        group = groups[family] = wanted.setdefault((family, ports), {})
                    group[key] = with_hints(service, endpoint(service, key, pod, ip, zone))
        return wanted

    # --- writes ---------------------------------------------------------------------------------------------

    def _write(
        self,
        service: Service,
        created: list[tuple[Group, list[Endpoint]]],
        updated: list[tuple[EndpointSlice, list[Endpoint]]],
        deleted: list[EndpointSlice],
    ) -> None:
        labels = self._labels(service)
        for group, entries in created:
            # finalize: a slice that would be deleted is used again under its name.
            recycled = next((old for old in deleted if old.address_type == group[0]), None)
            if recycled is not None:
                deleted.remove(recycled)
                self._put(service, recycled, group, entries, labels)
            else:
                self._create(service, group, entries, labels)
        for old, entries in updated:
            self._put(service, old, (old.address_type, old.ports), entries, labels)
        for old in deleted:
            self._remove(old)

    def _create(self, service: Service, group: Group, entries: list[Endpoint], labels: dict[str, str]) -> None:
        name = ""
        while not name or self.core.store.get(Key("EndpointSlice", service.meta.namespace, name)) is not None:
            name = generated(f"{service.meta.name}-", self.core.bits("slice-name", address_of(service.key)))
        meta = Meta(name, service.meta.namespace, labels, owner=service.key)
        change = self.core.create(EndpointSlice(meta, None, None, group[0], tuple(entries), group[1]), BY)
        self._tell(service, change)

    def _put(
        self, service: Service, old: EndpointSlice, group: Group, entries: list[Endpoint], labels: dict[str, str]
    ) -> None:
        meta = old.meta if old.meta.labels == labels else replace(old.meta, labels=labels)
        self._tell(service, self.core.put(replace(old, meta=meta, endpoints=tuple(entries), ports=group[1]), BY))

    def _remove(self, old: EndpointSlice) -> None:
        service = self.core.store.get(old.service)
        change = self.core.remove(old.key, BY)
        if isinstance(service, Service):
            self._tell(service, change)

    def _tell(self, service: Service, change: Change | None) -> None:
        if change is None or self.core.quiet:
            return
        entries = change.new.endpoints if isinstance(change.new, EndpointSlice) else ()
        ready = sum(bool(entry.ready) for entry in entries)
        text = f"EndpointSlice {change.key.name} of {service.meta.name} lists {ready} ready of {len(entries)}"
        self.core.fact(What.ENDPOINTS_WRITTEN, change.key, BY, text, change.revision)

    @staticmethod
    def _labels(service: Service) -> dict[str, str]:
        own = {SERVICE_NAME: service.meta.name, MANAGED_BY: MANAGER}
        if service.headless:
            own[HEADLESS] = ""
        return {**{k: v for k, v in service.meta.labels.items() if k != HEADLESS}, **own}


@dataclass(slots=True)
class GroupPlan:
    """What becomes of the slices of one group."""

    kept: list[tuple[EndpointSlice, list[Endpoint]]]
    created: list[list[Endpoint]]
    deleted: list[EndpointSlice]


def plan_group(existing: list[EndpointSlice], wanted: dict[Key, Endpoint], most: int) -> GroupPlan:
    """Fit endpoints into slices with few writes, as reconcileByPortMapping does.

    Endpoints stay in their slice, in their place. New ones fill slices that are written anyway, then the fullest
    slice that takes all the rest, then new slices of `most`.
    """
    left = dict(wanted)
    kept: list[tuple[EndpointSlice, list[Endpoint]]] = []
    deleted: list[EndpointSlice] = []
    dirty: list[int] = []
    for old in existing:
        entries = [
            left.pop(entry.target) for entry in old.endpoints if entry.target is not None and entry.target in left
        ]
        if not entries:
            deleted.append(old)
            continue
        if tuple(entries) != old.endpoints:
            dirty.append(len(kept))
        kept.append((old, entries))
    rest = list(left.values())
    for i in sorted(dirty, key=lambda i: -len(kept[i][1])):
        room = max(0, most - len(kept[i][1]))
        kept[i][1].extend(rest[:room])
        rest = rest[room:]
    created = []
    while len(rest) >= most:
        created.append(rest[:most])
        rest = rest[most:]
    if rest:
        fitting = [entries for _, entries in kept if len(entries) + len(rest) <= most]
        if fitting:
            max(fitting, key=len).extend(rest)
        else:
            created.append(rest)
    return GroupPlan(kept, created, deleted)


def _seen(pod: Pod) -> tuple[object, ...]:
    """What a Service sees of a pod (podEndpointsChanged)."""
    status = pod.status
    return (
        status.pod_ips, status.ready, pod.terminating, status.phase in ("Succeeded", "Failed"), pod.meta.labels,
        pod.spec.node_name,
    )  # fmt: skip


def _wishes(service: Service) -> tuple[object, ...]:
    """What slices take from a Service."""
    return (
        service.selector, service.ports, service.publish_not_ready, service.type, service.meta.labels,
        service.traffic_distribution, service.headless, service.ip_families,
    )  # fmt: skip
