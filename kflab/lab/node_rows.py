"""The rows of the nodes view. Of thousands of nodes few change from frame to frame: the others' rows are kept."""

from typing import TYPE_CHECKING, cast

from kflab.control.tainteviction import no_execute
from kflab.lab.band_counts import Counts
from kflab.lab.snapshot import Band, Candidate, NodeRow, PodRow
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab
    from kflab.lab.view import View

RESTFUL = ("ready", "succeeded", "failed")
"""States in which a pod stays, with nothing running down, until its object changes or what is so on its node."""


class NodeRows:
    """Builds them for one frame after another."""

    def __init__(self, lab: "Lab", view: "View") -> None:
        self._lab = lab
        self._view = view
        self._resting: dict[str, tuple[int, tuple[PodRow, ...]]] = {}
        """Node → (how often what is so there had changed, the rows of its pods), where all of them rest."""
        self._order: dict[str, list[Pod]] = {}
        """Node → its pods in order of creation."""
        self._revision = -1
        """Changes up to here have been looked through."""

    def build(self, counts: Counts, bands: tuple[Band, ...]) -> tuple[NodeRow, ...]:
        """A row for each Node, in order of creation."""
        lab = self._lab
        figures = {row.key: row for band in bands if band.kind in ("service", "ingress") for row in band.candidates}
        self._wake({pod.spec.node_name for key in figures if isinstance(pod := lab.store.get(key), Pod)})
        calling = lab.wiring.calling()
        newest, config = lab.plane.proxies.relevant, len(lab.plane.proxies.configs) - 1
        deciders: dict[str, list[int]] = {}
        for chooser in lab.wiring.choosers:
            if not chooser.by_peer and chooser.kind != "lb":
                deciders.setdefault(chooser.place, []).append(chooser.index)
        rows = []
        for obj in lab.store.of_kind("Node"):
            node = cast(Node, obj)
            name = node.meta.name
            proxy = f"kube-proxy/{name}"
            observer = lab.plane.observers.get(proxy)
            ids = deciders.get(name, [])
            in_step = observer is not None and observer.revision >= newest and observer.config == config
            rows.append(
                NodeRow(
                    node.key, next(iter(node.internal_ips), ""), node.ready,
                    node.meta.labels.get("topology.kubernetes.io/zone", ""),
                    lab.node_rules.words(observer) if observer else "rev 0", in_step,
                    lab.running(proxy), lab.running(f"kubelet/{name}"), proxy in calling,
                    counts.rate(counts.chosen, ids) if ids else 0.0, lab.plane.next_relist_ns(name),
                    self._pods(node, figures), self._outage(name), node.unschedulable,
                    sum(map(len, lab.wiring.compiler.turns.draining(name, lab.t_ns).values())),
                    observer.since_ns if observer else None,
                )
            )  # fmt: skip
        return tuple(rows)

    def _wake(self, nodes: set[str]) -> None:
        """Forget the rows of nodes with pods that have changed, or that have figures now."""
        store = self._lab.store
        if self._revision < store.log_start:
            self._resting.clear()
            self._order.clear()
        changed: set[str] = set()
        for change in store.changes(max(self._revision, 0)):
            if change.key.kind == "Pod":
                changed.update(pod.spec.node_name for pod in (change.old, change.new) if isinstance(pod, Pod))
            elif change.key.kind == "Node":
                changed.add(change.key.name)
        for node in changed:
            self._order.pop(node, None)
        for node in nodes | changed:
            self._resting.pop(node, None)
        self._revision = store.revision

    def _pods(self, node: Node, figures: dict[Key, Candidate]) -> tuple[PodRow, ...]:
        """The rows of a node's pods, in order of creation."""
        core, name = self._lab.plane.core, node.meta.name
        changes = core.ground_changes.get(name, 0)
        known = self._resting.get(name)
        if known is not None and known[0] == changes:
            return known[1]
        pods = self._order.get(name)
        if pods is None:
            found = [cast(Pod, pod) for pod in core.store.all_of(core.index.pods_on(name))]
            pods = self._order[name] = sorted(found, key=lambda pod: pod.meta.creation_ns)
        rows = []
        rests = not no_execute(node)  # else its pods may be counted down
        for pod in pods:
            key = pod.key
            row = figures.get(key)
            state, _, left = self._view.pod_words(key, pod)
            rests = rests and row is None and state in RESTFUL and not left
            rows.append(
                PodRow(key, state, pod.ip, row.rate_rps if row else 0.0, bool(row and row.failing),
                       pod.status.restarts, row.share if row else None, row.expected if row else None, left)
            )  # fmt: skip
        if rests:
            self._resting[name] = changes, tuple(rows)
        return tuple(rows)

    def _outage(self, node: str) -> str:
        """What is wrong with a node's machine, in truth."""
        machine = self._lab.plane.core.machines.get(node)
        if machine is None:
            return "shutting down" if self._lab.plane.shutdowns.under_way(node) else ""
        if not machine.powered:
            return "no power"
        return "cut off" if not machine.network else "cut off from the API"
