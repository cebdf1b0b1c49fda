"""The scheduler's view of the pods around a node: required and preferred pod affinity, topology spread.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins/interpodaffinity (filtering.go, scoring.go; weight 1 for
required affinity of pods that are there) and podtopologyspread (filtering.go, scoring.go, plugin.go systemDefault
constraints: hostname 3, zone 5, ScheduleAnyway). The default constraints take the pods of the same owner, or those of
the pod's Services, where upstream joins both selectors.
"""

from collections.abc import Mapping, Sequence
from math import log

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import Core
from kflab.control.nodefilters import affinity_allows, tolerated
from kflab.control.nodespace import MAX_SCORE, occupies
from kflab.control.podterms import NONE, Needs, Spread, Term, Wishes, meets, wishes_of
from kflab.manifest.objects import Key, LabelSelector
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"

DEFAULTS = (Spread(HOSTNAME, 3, (), hard=False), Spread(ZONE, 5, (), hard=False))

NOT_NEAR = "node(s) didn't match pod affinity rules"
NOT_APART = "node(s) didn't match pod anti-affinity rules"
KEPT_OUT = "node(s) didn't satisfy existing pods anti-affinity rules"
SKEWED = "node(s) didn't match pod topology spread constraints"
NO_LABEL = f"{SKEWED} (missing required label)"

Counts = Mapping[str, int]
"""Node, or value of a topology key, → number."""


class PodsAround(Mutable):
    """Who is where, and what those who are there wish."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.nodes: dict[str, Node] = {}
        self._there: dict[Wishes, dict[str, int]] = {}
        """Wishes of bound pods about others → node → how many such pods."""
        self.without: Mapping[Key, Pod] = {}
        """Pods that are thought away while the scheduler looks for victims."""
        self.beside: Sequence[Pod] = ()
        """Pods that are thought there: those nominated for a node."""

    def take(self, pod: Pod, node: str, step: int) -> None:
        """A pod was bound to a node (1), or left it (-1)."""
        wishes = wishes_of(pod)
        if not wishes.of_pods:
            return
        counts = self._there.setdefault(wishes, {})
        counts[node] = counts.get(node, 0) + step
        if not counts[node]:
            del counts[node]
        if not counts:
            del self._there[wishes]

    def concerned(self, pod: Pod) -> bool:
        """Whether a pod has wishes, or pods that are there have some about it."""
        if wishes_of(pod) is not NONE:
            return True
        return bool(self._there) and any(
            self._selects(term, pod)
            for wishes in self._there
            for term in (*wishes.apart, *wishes.near, *wishes.rather_near)
        )

    def _selects(self, term: Term, pod: Pod) -> bool:
        labels: Mapping[str, str] = {}
        if term.namespace_needs:
            namespace = self.core.store.get(Key("Namespace", "", pod.meta.namespace))
            labels = namespace.meta.labels if namespace is not None else {}
        return term.selects(pod, labels)

    # --- filters --------------------------------------------------------------------------------------------

    def refusals(self, pod: Pod, names: Sequence[str]) -> dict[str, str]:
        """Node → why the pods around refuse this one there; PodTopologySpread speaks before InterPodAffinity."""
        wishes = wishes_of(pod)
        found: dict[str, str] = {}
        for constraint in wishes.spread:
            if constraint.hard:
                self._spread_refusals(pod, wishes.spread, constraint, names, found)
        allowed = self._near(pod, wishes.near)
        own = {pair for term in wishes.apart for pair in self._by_value(term.key, self._pods_of((term,)))}
        theirs = {
            (term.key, value)
            for there, counts in self._there.items()
            for term in there.apart
            if self._selects(term, pod)
            for _, value in self._by_value(term.key, counts)
        }
        for name in names:
            labels = self.nodes[name].meta.labels
            pairs = labels.items()
            if allowed is not None and not all((term.key, labels.get(term.key)) in allowed for term in wishes.near):
                found.setdefault(name, NOT_NEAR)
            elif any(pair in own for pair in pairs):
                found.setdefault(name, NOT_APART)
            elif any(pair in theirs for pair in pairs):
                found.setdefault(name, KEPT_OUT)
        return found

    def _near(self, pod: Pod, terms: Sequence[Term]) -> set[tuple[str, str | None]] | None:
        """(key, value) of places next to pods that meet all terms; None: the pod needs none.

        The first of a group of pods that want to be together may start anywhere (filtering.go, satisfyPodAffinity).
        """
        if not terms:
            return None
        around = self._pods_of(terms)
        places: dict[str, Counts] = {term.key: around for term in terms}
        if not around and all(self._selects(term, pod) for term in terms):
            places = dict.fromkeys(places, dict.fromkeys(self.nodes, 1))
        return {pair for key, counts in places.items() for pair in self._by_value(key, counts)}

    def _by_value(self, key: str, counts: Counts) -> dict[tuple[str, str], int]:
        """Numbers by node as numbers by (key, value) of a topology; nodes without the label do not count."""
        found: dict[tuple[str, str], int] = {}
        for name, count in counts.items():
            node = self.nodes.get(name)
            if node is not None and key in node.meta.labels:
                pair = (key, node.meta.labels[key])
                found[pair] = found.get(pair, 0) + count
        return found

    def _pods_of(self, terms: Sequence[Term]) -> dict[str, int]:
        """Node → bound pods that all terms select."""
        first = terms[0]
        if first.needs is None:
            return {}
        namespaces = list(first.namespaces)
        if first.namespace_needs is not None:
            namespaces = [key.name for key in self.core.store.keys("Namespace")]
        found: dict[str, int] = {}
        for namespace in dict.fromkeys(namespaces):
            for pod in self._matching(namespace, first.needs):
                node = occupies(pod)
                if node and all(self._selects(term, pod) for term in terms):
                    found[node] = found.get(node, 0) + 1
        return found

    def _matching(self, namespace: str, needs: Needs) -> list[Pod]:
        labels = {need.key: need.values[0] for need in needs if need.operator == "In" and len(need.values) == 1}
        keys = self.core.index.pods_matching(namespace, LabelSelector(labels, needs))
        there = (self.core.store.get(key) for key in keys if key not in self.without)
        pods = (*there, *(pod for pod in self.beside if pod.meta.namespace == namespace))
        return [pod for pod in pods if isinstance(pod, Pod) and meets(needs, pod.meta.labels)]

    def _spread_refusals(
        self, pod: Pod, every: Sequence[Spread], constraint: Spread, names: Sequence[str], found: dict[str, str]
    ) -> None:
        keys = [other.key for other in every if other.hard]
        counted = self._counted(pod, constraint, keys)
        fewest = min(counted.values(), default=0) if len(counted) >= constraint.min_domains else 0
        itself = constraint.needs is not None and meets(constraint.needs, pod.meta.labels)
        for name in names:
            value = self.nodes[name].meta.labels.get(constraint.key)
            if value is None:
                found.setdefault(name, NO_LABEL)
            elif counted.get(value, 0) + itself - fewest > constraint.max_skew:
                found.setdefault(name, SKEWED)

    def _counted(self, pod: Pod, constraint: Spread, keys: Sequence[str]) -> dict[str, int]:
        """Value of a topology key → matching pods on its nodes, of those that count for the constraint."""
        pods = [] if constraint.needs is None else self._matching(pod.meta.namespace, constraint.needs)
        there = _by_node(pods)
        found: dict[str, int] = {}
        for name, node in self.nodes.items():
            labels = node.meta.labels
            if all(key in labels for key in keys) and _counts(constraint, pod, node):
                found[labels[constraint.key]] = found.get(labels[constraint.key], 0) + there.get(name, 0)
        return found

    # --- scores ---------------------------------------------------------------------------------------------

    def preference(self, pod: Pod, names: Sequence[str]) -> list[int]:
        """InterPodAffinity's score of each node, 0 to 100."""
        points: dict[tuple[str, str], int] = {}

        def give(key: str, counts: Counts, weight: int) -> None:
            for pair, count in self._by_value(key, counts).items():
                points[pair] = points.get(pair, 0) + weight * count

        for term in wishes_of(pod).rather_near:
            give(term.key, self._pods_of((term,)), term.weight)
        for there, counts in self._there.items():
            for term in (*there.near, *there.rather_near):
                if self._selects(term, pod):
                    give(term.key, counts, term.weight)
        sums = [sum(points.get(pair, 0) for pair in self.nodes[name].meta.labels.items()) for name in names]
        low, high = min(sums), max(sums)
        return [MAX_SCORE * (one - low) // (high - low) if high > low else 0 for one in sums]

    def evenness(self, pod: Pod, names: Sequence[str]) -> list[int]:
        """PodTopologySpread's score of each node, 0 to 100: of its ScheduleAnyway constraints or the default ones."""
        given = wishes_of(pod).spread
        soft = tuple(constraint for constraint in given if not constraint.hard)
        if given:
            pods = [[] if c.needs is None else self._matching(pod.meta.namespace, c.needs) for c in soft]
        else:
            alike = self._alike(pod)
            soft, pods = (DEFAULTS, [alike, alike]) if alike is not None else ((), [])
        if not soft:
            return [0] * len(names)
        keys = [constraint.key for constraint in soft]
        scored = [name for name in names if not given or all(k in self.nodes[name].meta.labels for k in keys)]
        raw = dict.fromkeys(scored, 0.0)
        for constraint, matching in zip(soft, pods, strict=True):
            self._add(pod, constraint, _by_node(matching), raw)
        rounded = {name: int(score + 0.5) for name, score in raw.items()}
        low, high = min(rounded.values(), default=0), max(rounded.values(), default=0)
        scores = {n: MAX_SCORE * (high + low - one) // high if high else MAX_SCORE for n, one in rounded.items()}
        return [scores.get(name, 0) for name in names]

    def _add(self, pod: Pod, constraint: Spread, there: Counts, raw: dict[str, float]) -> None:
        key = constraint.key
        candidates = {self.nodes[name].meta.labels[key] for name in raw if key in self.nodes[name].meta.labels}
        counts: dict[str, int] = {}
        for name, node in self.nodes.items():
            value = node.meta.labels.get(key)
            if value in candidates and value is not None and _counts(constraint, pod, node):
                counts[value] = counts.get(value, 0) + there.get(name, 0)
        weight = log((len(raw) if key == HOSTNAME else len(candidates)) + 2)
        for name in raw:
            value = self.nodes[name].meta.labels.get(key)
            if value is not None:
                raw[name] += counts.get(value, 0) * weight + constraint.max_skew - 1

    def _alike(self, pod: Pod) -> list[Pod] | None:
        """The pods that the default constraints spread; None: they do not apply."""
        owner = pod.meta.owner
        if owner is not None and owner.kind in ("ReplicaSet", "StatefulSet"):
            keys = list(self.core.index.owned_by(owner))
        else:
            namespace = pod.meta.namespace
            services = self.core.index.services_selecting(namespace, pod.meta.labels)
            if not services:
                return None
            wanted = {k: v for s in services for k, v in getattr(self.core.store.get(s), "selector", {}).items()}
            keys = list(self.core.index.pods_selected(namespace, wanted))
        return [found for found in map(self.core.store.get, keys) if isinstance(found, Pod)]


def _by_node(pods: Sequence[Pod]) -> dict[str, int]:
    """Pods by node, without those that are being deleted (podtopologyspread/common.go, countPodsMatchSelector)."""
    found: dict[str, int] = {}
    for pod in pods:
        node = occupies(pod)
        if node and not pod.terminating:
            found[node] = found.get(node, 0) + 1
    return found


def _counts(constraint: Spread, pod: Pod, node: Node) -> bool:
    """Whether a node's pods count (matchNodeInclusionPolicies)."""
    if constraint.affinity_honored and not affinity_allows(pod.spec, node):
        return False
    return not constraint.taints_honored or all(
        tolerated(taint, pod.spec.tolerations) for taint in node.taints if taint.effect != "PreferNoSchedule"
    )
