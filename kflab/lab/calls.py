"""Who calls whom behind the front door: given in a file, or guessed from what containers name.

A guess is an address of a Service of this cluster, with a port that it has, in the manifest of a workload's containers
(see `mentions`). A name counts if a pod's resolver would find the Service by it (`dataplane.dns`), a literal address if
it is a ClusterIP. Each Service port is called once per request that a pod of the workload serves.

Not guessed: paths that only some requests take, addresses in images, Secrets or code, calls to addresses outside.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from kflab.cluster.store import Store
from kflab.control.corednspods import corefile_in
from kflab.dataplane.dns import ClusterDns, asks_cluster_dns, resolve
from kflab.errors import KflabError
from kflab.lab.mentions import mentions
from kflab.lab.spec import GivenCall, LabSpec
from kflab.manifest.objects import Key, KubeObject, LabelSelector
from kflab.manifest.objects_config import ConfigMap
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kflab.records import dataclass

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod")
"""Kinds that run containers, in the order in which callers are looked through."""

MODEL = (
    "calls behind the front door: a pod does its own work, then makes its calls one after another in this order, once "
    "per request; its worker is free meanwhile (asynchronous server); one that fails answers its caller with 500; "
    "nobody tries again, and connects time out as for plain clients"
)


@dataclass(frozen=True, slots=True)
class Edge:
    """Pods of a workload call a Service port for every request they serve."""

    caller: Key
    service: Key
    port: int
    times: int = 1
    fatal: bool = True
    """Whether a failed call fails the request it is made for."""
    why: str = ""
    """What it was guessed from: "env CART_SERVICE_ADDR"; "" where it was given."""

    @property
    def callee(self) -> str:
        """As a person would write it: "cartservice:7070", or with its namespace where that is another."""
        name = self.service.name
        if self.service.namespace != self.caller.namespace:
            name += f".{self.service.namespace}"
        return f"{name}:{self.port}"


class CallGraph:
    """The calls of a cluster as it is now.

    Args:
        store: The cluster.
        spec: Whether calls are guessed, given or not wanted.
        at_start: Whether the lab is being made: later a given call to something that is gone is left out.

    Raises:
        KflabError: With its place, if a call that is given at the start names a workload, Service or port that is not
            there.
    """

    def __init__(self, store: Store, spec: LabSpec, *, at_start: bool = True) -> None:
        self._store, self.spec = store, spec
        self.notes: list[tuple[str, str]] = []
        """(what was assumed, what would make it certain)."""
        self.edges: dict[Key, tuple[Edge, ...]] = {}
        """Caller → its calls, in the order it makes them."""
        self._services = {obj.key: cast(Service, obj) for obj in store.of_kind("Service")}
        self._by_address = {ip: service for service in self._services.values() for ip in service.cluster_ips}
        self._behind: dict[Key, tuple[Key, ...]] = {}
        self._workloads = {obj.key: obj for obj in _unowned(store)}
        self._labelled: dict[tuple[str, str, str], list[Key]] = {}
        """(namespace, label, value) → workloads whose pods have it."""
        for key, workload in self._workloads.items():
            for label, value in _labels(workload).items():
                self._labelled.setdefault((key.namespace, label, value), []).append(key)
        self._serving: set[Key] = set()
        """Workloads that a Service with an address leads to; empty until asked for."""
        if spec.calls == "none":
            return
        found = self._given(spec.given_calls, at_start) if spec.calls == "given" else self._guessed()
        for edge in self._without_cycles([edge for edge in found if self._serves(edge)]):
            self.edges[edge.caller] = (*self.edges.get(edge.caller, ()), edge)
        self._tell()

    def behind(self, service: Key) -> tuple[Key, ...]:
        """The workloads whose pods a Service's selector takes."""
        known = self._behind.get(service)
        if known is None:
            obj = self._services.get(service)
            selector = obj.selector if obj is not None else {}
            maybe = self._labelled.get((service.namespace, *next(iter(selector.items()))), []) if selector else []
            matches = LabelSelector(selector).matches
            known = self._behind[service] = tuple(key for key in maybe if matches(_labels(self._workloads[key])))
        return known

    def called(self) -> frozenset[Key]:
        """Services that pods call while they serve requests."""
        return frozenset(edge.service for edges in self.edges.values() for edge in edges)

    def _serves(self, edge: Edge) -> bool:
        """Whether any Service leads to the pods of a caller, so that they have requests to serve."""
        if not self._serving:
            leading = (service for service in self._services.values() if service.cluster_ip and not service.headless)
            self._serving.update(key for service in leading for key in self.behind(service.key))
        if edge.caller in self._serving:
            return True
        why = f" ({edge.why})" if edge.why else ""
        text = f"{_named(edge.caller)} calls nobody, not {edge.callee}{why} either: no Service leads to it"
        self.notes.append((text, "give a scenario's client with `from`"))
        return False

    def leave_out(self, edge: Edge, most: int) -> None:
        """Say that a call is not made everywhere, because there are too many places where calls are made already."""
        text = (
            f"more than {most:,} places in the trees of calls: {_named(edge.caller)} does not call {edge.callee} in all"
        )
        if (text, "--calls FILE with fewer calls") not in self.notes:
            self.notes.append((text, "--calls FILE with fewer calls"))

    # --- given ----------------------------------------------------------------------------------------------

    def _given(self, calls: Sequence[GivenCall], at_start: bool) -> Iterator[Edge]:
        for call in calls:
            try:
                yield self._edge(call)
            except KflabError:
                if at_start:
                    raise

    def _edge(self, call: GivenCall) -> Edge:
        if call.caller not in self._workloads:
            caller = f"{call.caller.namespace}/{call.caller.kind}/{call.caller.name}"
            raise KflabError(f"no workload {caller} in these manifests", call.place)
        service = self._services.get(call.service)
        name = f"{call.service.namespace}/{call.service.name}"
        if service is None:
            raise KflabError(f"no Service {name} in these manifests", call.place)
        if service.headless or not service.cluster_ip:
            raise KflabError(f"Service {name} has no ClusterIP: expected one that rules are made for", call.place)
        ports = [port.port for port in service.ports if port.protocol == "TCP"]
        if call.port not in ports and (call.port or len(ports) != 1):
            has = ", ".join(map(str, ports)) or "none"
            which = f"TCP port {call.port}" if call.port else "single TCP port, so the call must name one"
            raise KflabError(f"Service {name} has no {which}; it has {has}", call.place)
        return Edge(call.caller, call.service, call.port or ports[0], call.times, call.fatal)

    # --- guessed --------------------------------------------------------------------------------------------

    def _guessed(self) -> Iterator[Edge]:
        dns = ClusterDns.of(self._services.values(), (), corefile=corefile_in(self._store))
        for key, workload in self._workloads.items():
            found: dict[tuple[Key, int], Edge] = {}
            for mention in mentions(_pod_spec(workload), self._config_maps(key.namespace)):
                service = self._resolved(dns, mention.host, workload)
                ports = [port.port for port in service.ports if port.protocol == "TCP"] if service is not None else []
                if service is None or mention.port not in ports or (service.key, mention.port) in found:
                    continue
                if service.headless:
                    name = f"{service.meta.namespace}/{service.meta.name}"
                    self.notes.append((
                        f"{_named(key)} names the headless Service {name} ({mention.where}): its pods are dialled "
                        "without any rule, which is not modelled, so it is not called", ""))  # fmt: skip
                    continue
                if service.cluster_ip:
                    found[service.key, mention.port] = Edge(key, service.key, mention.port, why=mention.where)
            yield from found.values()

    def _config_maps(self, namespace: str) -> Any:
        def data(name: str) -> Mapping[str, str]:
            obj = self._store.get(Key("ConfigMap", namespace, name))
            return obj.data if isinstance(obj, ConfigMap) else {}

        return data

    def _resolved(self, dns: ClusterDns, host: str, workload: KubeObject) -> Service | None:
        if host in self._by_address:
            return self._by_address[host]
        spec = workload.spec if isinstance(workload, Pod) else workload.template.spec  # type: ignore[attr-defined]  # all other workloads have one
        if not asks_cluster_dns(spec):
            return None
        asked = resolve(dns, host, workload.meta.namespace).asked
        key = next((answer.service for answer in asked if answer.service is not None), None)
        return self._services.get(key) if key is not None else None

    # --- both -----------------------------------------------------------------------------------------------

    def _without_cycles(self, edges: Sequence[Edge]) -> Iterator[Edge]:
        """Keep every edge that does not lead back to its caller by those kept before it."""
        kept: dict[Key, set[Key]] = {}
        for edge in edges:
            if edge.caller in self._reached(edge.service, kept):
                why = f" ({edge.why})" if edge.why else ""
                text = (
                    f"{_named(edge.caller)} does not call {edge.callee}{why}: the call would come back to it, a cycle"
                )
                self.notes.append((text, "--calls FILE says which call there is"))
                continue
            kept.setdefault(edge.caller, set()).add(edge.service)
            yield edge

    def _reached(self, service: Key, kept: Mapping[Key, set[Key]]) -> set[Key]:
        """The workloads that a request to a Service comes to."""
        seen: set[Key] = set()
        ahead = list(self.behind(service))
        while ahead:
            workload = ahead.pop()
            if workload not in seen:
                seen.add(workload)
                ahead += [key for called in kept.get(workload, ()) for key in self.behind(called)]
        return seen

    def _tell(self) -> None:
        """Put what was found into words, one line per caller."""
        lines = []
        for caller, edges in self.edges.items():
            texts = []
            for edge in edges:
                times = f" ×{edge.times}" if edge.times != 1 else ""
                ignored = "" if edge.fatal else ", failures ignored"
                why = f", from {edge.why}" if edge.why else ""
                remark = (ignored + why).removeprefix(", ")
                texts.append(f"{edge.callee}{times}" + (f" ({remark})" if remark else ""))
            guessed = " (guessed)" if any(edge.why for edge in edges) else ""
            advice = "--calls none: no such calls; --calls FILE: these instead" if guessed else ""
            lines.append((f"{_named(caller)} calls{guessed}: {', '.join(texts)}", advice))
        if lines:
            self.notes[:0] = [*lines, (MODEL, "")]
        for key in sorted(self.called()):
            if self._services[key].session_affinity == "ClientIP":
                name = f"{key.namespace}/{key.name}"
                text = f"Service {name} has session affinity: the pods of a node that call it count as one client"
                self.notes.append((text, ""))


def workload_of(store: Store, pod: Pod) -> Key:
    """The workload that a pod's calls are known by: the one that no other made, or the pod itself."""
    owner = pod.meta.owner
    while owner is not None:
        above = store.get(owner)
        if above is None or above.meta.owner is None:
            return owner
        owner = above.meta.owner
    return pod.key


def _named(key: Key) -> str:
    return f"{key.kind} {key.namespace}/{key.name}"


def _unowned(store: Store) -> Iterator[KubeObject]:
    """Workloads that no other one made."""
    for kind in WORKLOADS:
        yield from (obj for obj in store.of_kind(kind) if obj.meta.owner is None)


def _labels(workload: KubeObject) -> Mapping[str, str]:
    if isinstance(workload, Deployment | StatefulSet | DaemonSet | ReplicaSet):
        return workload.template.labels
    return workload.meta.labels


def _pod_spec(workload: KubeObject) -> Mapping[str, Any]:
    """Its PodSpec as it was written; what controllers made has the typed part only and names nothing."""
    tree: Any = (workload.raw or {}).get("spec") or {}
    if not isinstance(workload, Pod):
        tree = (tree.get("template") or {}).get("spec") or {}
    return cast(Mapping[str, Any], tree)
