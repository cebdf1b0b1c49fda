"""Opening a cluster: given objects, intended or observed, become the store's first state; what is missing is made.

Observed objects (a dump with status) are taken as they stand: their pods run, with their names, nodes, addresses
and readiness. Intended ones are the controllers' work.
"""

from collections.abc import Iterable, Sequence

from kflab.cluster.ipam import Pins
from kflab.control import made
from kflab.control.admission import admit_service
from kflab.control.core import Core
from kflab.control.deployment import DeploymentController, made_replica_set
from kflab.control.endpointslice import MANAGED_BY, MANAGER, EndpointSliceController
from kflab.control.kubelet import Kubelet
from kflab.control.lbchoice import METALLB_KINDS
from kflab.control.listening import running_containers
from kflab.control.names import template_hash
from kflab.control.node import complete
from kflab.control.priorities import SYSTEM_CLASSES
from kflab.control.replicaset import ReplicaSetController
from kflab.control.set_revisions import DESIRED, HASH
from kflab.control.surroundings import look_around, published
from kflab.errors import KflabError
from kflab.manifest.objects import Key, KubeObject, Meta
from kflab.manifest.objects_cluster import Node, PriorityClass
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import ContainerStatus, Pod
from kflab.manifest.objects_workloads import DaemonSet, Deployment, ReplicaSet, StatefulSet
from kflab.replacing import replace

BY = "user"

WRITTEN_APART = ("Namespace", "Node", "Service", "EndpointSlice", "Pod")
"""Kinds with their own step of opening."""

WORKLOADS = ("StatefulSet", "DaemonSet", "Deployment", "ReplicaSet", "Job")


class Loader:
    """Puts the objects of one input into the store."""

    def __init__(
        self,
        core: Core,
        kubelet: Kubelet,
        slices: EndpointSliceController,
        deployments: DeploymentController,
        replica_sets: ReplicaSetController,
    ) -> None:
        self.core = core
        self.kubelet = kubelet
        self.slices = slices
        self.deployments = deployments
        self.replica_sets = replica_sets

    def load(self, objects: Iterable[KubeObject], observed: frozenset[Key]) -> None:
        """Write everything at this instant."""
        given = list(objects)
        pods = [obj for obj in given if isinstance(obj, Pod)]
        self._namespaces(given)
        self._nodes(given, pods)
        for obj in given:
            if isinstance(obj, KubeProxyConfiguration):
                self.core.addresses.have_ranges(obj.cluster_cidrs)
            if obj.kind in METALLB_KINDS:  # before Services: they decide who makes their load balancers
                self.core.create(obj, BY)
        look_around(self.core)
        self._priority_classes(given)
        self._services([obj for obj in given if isinstance(obj, Service)], observed)
        for obj in given:
            if obj.kind not in (*WRITTEN_APART, *METALLB_KINDS, *WORKLOADS):
                self.core.create(obj, BY)
        self._slices([obj for obj in given if isinstance(obj, EndpointSlice)], pods)
        workloads = [obj for obj in given if obj.kind in WORKLOADS]
        self.deployments.know([obj for obj in workloads if isinstance(obj, Deployment)])
        pods = self._owned(workloads, pods)
        for pod in pods:
            if pod.key in observed and pod.spec.node_name and (pod.status.pod_ips or finished(pod)):
                self._running(pod)
            else:
                self.core.create(replace(pod, status=type(pod.status)()), BY)
        for obj in workloads:
            if not (isinstance(obj, ReplicaSet) and self.core.store.get(obj.key) is not None):
                self.core.create(obj, BY)

    def _priority_classes(self, given: Sequence[KubeObject]) -> None:
        """The two that every cluster has, where another is asked about: otherwise nobody sees a difference."""
        specs = [obj.spec if isinstance(obj, Pod) else getattr(getattr(obj, "template", None), "spec", None)
                 for obj in given]  # fmt: skip
        known = ("", *(each.meta.name for each in SYSTEM_CLASSES))
        asked = any(spec is not None and spec.priority_class not in known for spec in specs)
        if asked or any(isinstance(obj, PriorityClass) for obj in given):
            keys = {obj.key for obj in given}
            for each in SYSTEM_CLASSES:
                if each.key not in keys:
                    self.core.create(each, BY)

    def _namespaces(self, given: Sequence[KubeObject]) -> None:
        names = [obj.meta.name for obj in given if obj.kind == "Namespace"]
        made_now = made.namespaces((obj.meta.namespace for obj in given), names)
        for obj in (*(o for o in given if o.kind == "Namespace"), *made_now.objects):
            self.core.create(obj, BY)
        self._assume(made_now)

    def _assume(self, made_now: made.Made) -> None:
        for text, override in made_now.assumptions:
            self.core.assume(text, override)

    def _nodes(self, given: Sequence[KubeObject], pods: Sequence[Pod]) -> None:
        nodes = [obj for obj in given if isinstance(obj, Node)]
        known = {node.meta.name for node in nodes}
        used = [name for name in dict.fromkeys(pod.spec.node_name for pod in pods) if name and name not in known]
        if used:
            text = f"nodes {', '.join(used[:5])}{' …' if len(used) > 5 else ''} made: pods run there, nobody gave them"
            self.core.assume(text, "give Node objects")
            nodes += _nodes_of(used, pods)
        if not nodes:
            made_now = made.nodes()
            self._assume(made_now)
            nodes = [node for node in made_now.objects if isinstance(node, Node)]
        for node in nodes:
            # Written-down ranges first, so that invented ones do not collide with them.
            self.core.addresses.reserve_pod_cidrs(node.pod_cidrs)
        for number, node in enumerate(nodes, 1):
            self.core.create(complete(self.core, node, number), BY)

    def _services(self, services: Sequence[Service], observed: frozenset[Key]) -> None:
        wishes = [service for service in services if service.cluster_ips or any(p.node_port for p in service.ports)]
        rest = [service for service in services if not (service.cluster_ips or any(p.node_port for p in service.ports))]
        admitted: dict[Key, Service] = {}
        for service in (*wishes, *rest):
            admitted[service.key] = admit_service(self.core, service, None, strict=False)
        for service in services:
            ready = admitted[service.key]
            if ready.type == "LoadBalancer" and not ready.load_balancer and service.key not in observed:
                # By t = 0 the cloud has long made it; its name is known at once, so that no event has to wait.
                ready = replace(ready, load_balancer=(published(self.core, ready),))
            self.core.create(ready if not self._cold() else admitted[service.key], BY)

    def _cold(self) -> bool:
        return not self.core.quiet

    def _slices(self, slices: Sequence[EndpointSlice], pods: Sequence[Pod]) -> None:
        for piece in slices:
            service = self.core.store.get(piece.service)
            if isinstance(service, Service) and service.selector:
                selector, space = service.selector, piece.meta.namespace
                matched = any(p.meta.namespace == space and selector.items() <= p.meta.labels.items() for p in pods)
                if not matched:
                    self.slices.kept[piece.service] = None
                elif MANAGED_BY not in piece.meta.labels and piece.meta.owner is not None:
                    labels = {**piece.meta.labels, MANAGED_BY: MANAGER}
                    piece = replace(piece, meta=replace(piece.meta, labels=labels))
            self.core.create(piece, BY)

    # --- pods that are there --------------------------------------------------------------------------------

    def _running(self, pod: Pod) -> None:
        """A pod of a dump: it is there, with name, node, addresses and readiness."""
        now = self.core.now_ns
        node = self.core.store.get(Key("Node", "", pod.spec.node_name))
        if not pod.spec.host_network:
            self.core.addresses.take_pod_ips(pod.spec.node_name, pod.status.pod_ips)
        containers = pod.status.containers or tuple(
            ContainerStatus(c.name, "running", "", pod.status.ready, 0, now) for c in pod.spec.containers
        )
        stored = replace(pod, meta=replace(pod.meta, creation_ns=pod.meta.creation_ns or now))
        key = pod.key
        seen = pod.status.start_ns
        if seen is None:
            seen = now - self.core.draws.control_between("probe-phase", str(key), 0, 0, 10_000_000_000)
        placeholder = replace(
            stored, meta=replace(stored.meta, uid=stored.meta.uid or f"given-{key.namespace}-{key.name}")
        )
        worker = self.kubelet.new_worker(pod.key, placeholder, seen)
        worker.pod_ips = pod.status.pod_ips
        worker.host_ips = pod.status.host_ips or (node.internal_ips if isinstance(node, Node) else ())
        worker.containers.update({c.name: c for c in containers if c.name in worker.containers})
        worker.ready, worker.ready_since_ns = pod.status.ready, pod.status.ready_since_ns
        worker.startup_passed = tuple(c.name for c in running_containers(pod.spec))
        worker.start_step = len(pod.spec.init_containers)
        for c in pod.spec.init_containers:
            if c.restart_policy == "Always":
                worker.containers[c.name] = ContainerStatus(c.name, "running", "", True, 0, now)
            else:
                worker.inits[c.name] = ContainerStatus(c.name, "terminated", "Completed", True, 0, now, now, 0)
        self.core.create(replace(placeholder, status=replace(placeholder.status, containers=containers)), BY)
        if finished(pod):
            return
        ground = self.kubelet.ground(placeholder, worker, pod.status.pod_ips)
        states = {c.name: c for c in containers}
        runs = []
        for container, run in zip(running_containers(pod.spec), ground.containers, strict=True):
            status = states.get(container.name)
            up = status is None or status.state == "running"
            starts = (status.restarts if status is not None else 0) + 1
            runs.append(replace(run, up=up, accepting=up, since_ns=now, starts=starts))
        self.core.set_ground(key, ground.with_runs(*runs, started_ns=now))

    # --- workloads that have pods ---------------------------------------------------------------------------

    def _owned(self, workloads: Sequence[KubeObject], pods: Sequence[Pod]) -> list[Pod]:
        """Give pods of the input to their workloads, so that nobody makes them again.

        By ownerReference where there is one; a ReplicaSet that pods name but nobody gave is made, below the
        Deployment whose selector takes its pods.
        """
        known = {obj.key: obj for obj in workloads}
        for obj in workloads:
            if isinstance(obj, ReplicaSet):
                self._given_set(obj, known)
        found: list[Pod] = []
        for pod in pods:
            owner = pod.meta.owner
            if owner is None:
                owner = self._taker(pod, workloads)
                if owner is not None:
                    pod = replace(pod, meta=replace(pod.meta, owner=owner))
            if owner is not None and owner.kind == "ReplicaSet" and owner not in known:
                self._missing_set(owner, pod, workloads, pods, known)
            found.append(pod)
            if owner is not None:
                above = self.core.store.get(owner)
                pin_owner = above.meta.owner if above is not None and above.meta.owner is not None else owner
                self.replica_sets.note_given(pin_owner, 1)
                self.core.as_given[owner] = self.core.as_given[pin_owner] = None
        return found

    def _taker(self, pod: Pod, workloads: Sequence[KubeObject]) -> Key | None:
        """A workload whose selector takes an ownerless pod, except Deployments: their ReplicaSet adopts it."""
        for obj in workloads:
            if obj.meta.namespace != pod.meta.namespace or not isinstance(obj, StatefulSet | DaemonSet):
                continue
            if obj.selector.matches(pod.meta.labels):
                return obj.key
        return None

    def _given_set(self, rs: ReplicaSet, known: dict[Key, KubeObject]) -> None:
        """A ReplicaSet of a dump: if its template is the Deployment's present one, it is the new ReplicaSet."""
        deployment = known.get(rs.meta.owner) if rs.meta.owner is not None else None
        if isinstance(deployment, Deployment):
            labels = {k: v for k, v in rs.template.labels.items() if k != HASH}
            if replace(rs.template, labels=labels) == deployment.template:
                code = template_hash(deployment, deployment.template)
                self.deployments.adopted[(deployment.key, code)] = rs.key
            if DESIRED not in rs.meta.annotations:
                annotations = {**rs.meta.annotations, DESIRED: str(deployment.replicas)}
                rs = replace(rs, meta=replace(rs.meta, annotations=annotations))
        self.core.create(rs, BY)

    def _missing_set(
        self,
        owner: Key,
        pod: Pod,
        workloads: Sequence[KubeObject],
        pods: Sequence[Pod],
        known: dict[Key, KubeObject],
    ) -> None:
        siblings = [p for p in pods if p.meta.owner == owner and p.meta.namespace == owner.namespace]
        for obj in workloads:
            if not isinstance(obj, Deployment) or obj.meta.namespace != owner.namespace:
                continue
            if owner.name.startswith(f"{obj.meta.name}-") and obj.selector.matches(pod.meta.labels):
                rs = made_replica_set(obj, owner.name, dict(pod.meta.labels), len(siblings))
                code = template_hash(obj, obj.template)
                self.deployments.adopted.setdefault((obj.key, code), rs.key)
                self.core.create(rs, BY)
                known[rs.key] = rs
                return
        # Without its Deployment the ReplicaSet still holds its pods.
        labels = dict(pod.meta.labels)
        template = replace(ReplicaSet(Meta(owner.name)).template, labels=labels, spec=replace(pod.spec, node_name=""))
        rs = ReplicaSet(Meta(owner.name, owner.namespace, labels), None, None, len(siblings), template=template)
        rs = replace(rs, selector=replace(rs.selector, match_labels=labels))
        self.core.create(rs, BY)
        known[rs.key] = rs
        self.core.assume(f"ReplicaSet {owner.name} made: {len(siblings)} pods name it as owner", "give the ReplicaSet")


def _nodes_of(names: Sequence[str], pods: Sequence[Pod]) -> list[Node]:
    """Nodes that given pods run on and nobody gave, with the address and the pod range that their pods show.

    The range is the /24 around the pods' addresses (kube-controller-manager --node-cidr-mask-size-ipv4, default 24)
    where pods of one node alone are in it; else one is invented.
    """
    hosts: dict[str, tuple[str, ...]] = {}
    inside: dict[str, dict[str, None]] = {}
    for pod in pods:
        name = pod.spec.node_name
        if pod.status.host_ips:
            hosts.setdefault(name, pod.status.host_ips)
        for ip in () if pod.spec.host_network else pod.status.pod_ips:
            if ":" not in ip:
                inside.setdefault(f"{ip.rpartition('.')[0]}.0/24", {})[name] = None
    ranges: dict[str, str] = {}
    for cidr, there in inside.items():
        if len(there) == 1:
            ranges.setdefault(next(iter(there)), cidr)
    return [
        replace(
            made.used_node(name, i),
            internal_ips=hosts.get(name, ()),
            pod_cidrs=(ranges[name],) if name in ranges else (),
        )
        for i, name in enumerate(names, 1)
    ]


def finished(pod: Pod) -> bool:
    """Whether a pod has run to its end."""
    return pod.status.phase in ("Succeeded", "Failed")


def pins_check(pins: Pins) -> None:
    """Refuse pins that give one address twice.

    Raises:
        KflabError: Naming the address.
    """
    seen: dict[str, str] = {}
    for owner, ips in pins.pod_ips.items():
        for ip in ips:
            if ip in seen:
                raise KflabError(f"address {ip} is pinned for {seen[ip]} and for {owner}")
            seen[ip] = owner
