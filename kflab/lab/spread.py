"""How knowledge of each pod's end and beginning spread: what happened to the pod, and who heard of it when.

"Who knows" (`knowledge`) follows one change that a user made. Here every pod has a change of its own, so a rollout of
ten pods is twenty of them. A change is known to an observer once its rules are made from a revision that carries the
pod's new state in an EndpointSlice.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field

import numpy as np

from kflab.cluster.store import Store
from kflab.control.facts import Fact, What
from kflab.control.observers import Observer
from kflab.control.proxysync import matters
from kflab.control.waves import Wave
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

KEPT_SPREADS = 200
"""Changes of pods that are remembered."""

NAMED_OBSERVERS = 12
"""With so many observers or fewer each is remembered by name; with more only those by whose rules somebody calls."""

ENDINGS = {
    What.POD_DELETED: "was deleted",
    What.SIGTERM_SENT: "got SIGTERM",
    What.SIGKILL_SENT: "got SIGKILL",
    What.CONTAINER_EXITED: "exited",
    What.CONTAINER_COMPLETED: "completed",
    What.ADDRESS_GONE: "lost its address",
    What.POD_LOST: "went down with its node",
    What.NETWORK_REMOVED: "lost its network",
    What.POD_REMOVED: "was removed",
    What.PROCESS_HUNG: "hung",
    What.LINK_CUT: "was cut off with its node",
}
"""What befalls a pod on its way out, in words."""


_UNANSWERED = (What.ADDRESS_GONE, What.POD_LOST, What.NETWORK_REMOVED, What.PROCESS_HUNG)
"""What leaves requests without any answer from then on."""

_SLOW = ("kube-proxy", "ingress")
"""Kinds of observer that act on a revision."""


@dataclass(slots=True)
class Spread:
    """One pod's end (or beginning) and who knew of it when. Times are simulated ns."""

    id: int
    t_ns: int
    """When it began: the delete, or whatever happened to the pod first."""
    pod: Key
    node: str
    ends: bool
    """False: the pod began to answer."""
    deleted: bool
    """The API server knew first: the kubelet only follows."""
    removed: bool = False
    """Its object is gone, its processes are not: a forced deletion."""
    node_back: bool = False
    """It answers again because the link of its node was healed."""
    workload: Key | None = None
    """The workload that the pod belongs to; None where the pod was gone already."""
    served: bool = False
    """Some Service selects the pod."""
    marks: list[tuple[int, What]] = field(default_factory=list)
    """What befell the pod, ascending."""
    truth_ns: int | None = None
    """When it stopped (or began) to answer."""
    noticed_ns: int | None = None
    noticed_by: str = ""
    service: Key | None = None
    """The Service whose slice carried it."""
    written_ns: int | None = None
    target: int = 0
    """Store revision that carries it."""
    proxied: bool = True
    """Whether kube-proxies hear of it: not where only headless Services have the pod."""
    calling: frozenset[str] = frozenset()
    """Observers by whose rules somebody reaches the Service."""
    left: int = 0
    """How many of them have yet to learn."""
    learned: dict[str, int] = field(default_factory=dict)
    others: int = 0
    """Further observers that learned, unnamed."""
    others_first_ns: int = 0
    others_last_ns: int = 0

    @property
    def known_ns(self) -> int | None:
        """When the last calling observer had learned; None: not yet, or nobody calls."""
        if not self.calling or self.left:
            return None
        return max(self.learned[name] for name in self.calling)


class Spreading:
    """Follows facts and keeps the last changes of pods.

    Args:
        store: The cluster.
        observers: By name.
        answers: Whether a pod answers anybody now, in truth.
        about: The workload that a pod belongs to, and whether some Service selects the pod.
        pods_on: The pods bound to a node.
        reachable: Whether packets from elsewhere come to a node.
    """

    def __init__(
        self,
        store: Store,
        observers: Mapping[str, Observer],
        answers: Callable[[Key], bool],
        about: Callable[[Pod], tuple[Key, bool]],
        pods_on: Callable[[str], Sequence[Key]],
        reachable: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._observers = observers
        self._answers = answers
        self._about = about
        self._pods_on = pods_on
        self._reachable = reachable
        self.spreads: deque[Spread] = deque(maxlen=KEPT_SPREADS)
        self._open: dict[Key, Spread] = {}
        """Pod → its change that has not come to all observers yet, or may still get marks."""
        self._waiting: list[Spread] = []
        """Written to a slice, not yet known to all; in order of writing."""
        self._known: dict[str, int] = {}
        """Observer → revision that its last fact told of."""
        self._answering: dict[Key, bool] = {}
        self._count = 0

    @property
    def newest(self) -> int:
        """Id of the newest change; 0 before any."""
        return self._count

    def of(self, pod: Key, t_ns: int) -> Spread | None:
        """The end of a pod that was under way at an instant; None where none is remembered."""
        found = (s for s in reversed(self.spreads) if s.pod == pod and s.ends and s.t_ns <= t_ns)
        return next(found, None)

    def hear(
        self, entries: Iterable[Fact | Wave], callers_of: Callable[[frozenset[Key]], frozenset[str]]
    ) -> None:  # fmt: skip
        """Take in new facts, in order. `callers_of(services)` names the observers by whose rules those are reached."""
        for fact in entries:
            if isinstance(fact, Wave):
                self._learned_by_many(fact)
                continue
            match fact.what:
                case What.RULES_SYNCED | What.LB_TARGETS_CHANGED:
                    self._learned(fact)
                case What.ENDPOINTS_WRITTEN:
                    self._written(fact, callers_of)
                case What.LISTENERS_CHANGED:
                    self._listeners(fact)
                case What.KUBELET_NOTICED | What.POD_STATUS_WRITTEN:
                    self._noticed(fact)
                case What.PROCESS_RESUMED:
                    self._resumed(fact)
                case What.LINK_CUT | What.LINK_HEALED:
                    self._link_changed(fact)
                case what if what in ENDINGS:
                    self._befell(fact)

    # --- the pod --------------------------------------------------------------------------------------------

    def _begin(self, fact: Fact, *, ends: bool) -> Spread:
        pod = self._store.get(fact.subject)
        known = pod if isinstance(pod, Pod) else None
        self._count += 1
        spread = Spread(
            self._count, fact.t_ns, fact.subject, known.spec.node_name if known else "", ends,
            fact.what is What.POD_DELETED or (known is not None and known.terminating),
        )  # fmt: skip
        if known is not None:
            spread.workload, spread.served = self._about(known)
        self.spreads.append(spread)
        self._open[fact.subject] = spread
        while len(self._open) > KEPT_SPREADS:
            del self._open[next(iter(self._open))]
        return spread

    def _ending(self, pod: Key) -> Spread | None:
        spread = self._open.get(pod)
        return spread if spread is not None and spread.ends else None

    def _befell(self, fact: Fact) -> None:
        spread = self._ending(fact.subject)
        if spread is None:
            if fact.what is What.POD_REMOVED:
                return
            spread = self._begin(fact, ends=True)
        spread.marks.append((fact.t_ns, fact.what))
        if fact.what in _UNANSWERED and spread.truth_ns is None:
            spread.truth_ns = fact.t_ns
        if fact.what in (What.POD_LOST, What.NETWORK_REMOVED):
            self._answering[fact.subject] = False
        if fact.what is What.POD_REMOVED and self._answers(fact.subject):
            spread.removed = True
        elif fact.what is What.POD_REMOVED or (spread.removed and fact.what is What.ADDRESS_GONE):
            self._open.pop(fact.subject, None)
            self._answering.pop(fact.subject, None)

    def _link_changed(self, fact: Fact) -> None:
        """A node's pods are out of reach, or in reach again; a node cut off from the API alone serves on."""
        reachable = self._reachable(fact.subject.name)
        for pod in self._pods_on(fact.subject.name):
            spread = self._ending(pod)
            one = fact._replace(subject=pod)
            if fact.what is What.LINK_CUT and not reachable and (spread is not None or self._answers(pod)):
                self._befell(one)
                if spread is None:
                    self._open[pod].truth_ns = fact.t_ns
            elif fact.what is What.LINK_HEALED and reachable and spread is not None:
                # One that ended or was deleted while it was cut off is no pod that is back.
                if spread.marks and spread.marks[-1][1] is What.LINK_CUT and self._answers(pod):
                    self._resumed(one)

    def _resumed(self, fact: Fact) -> None:
        """A process that hung goes on, or its node is back: news where its pod had been found not ready."""
        spread = self._ending(fact.subject)
        if spread is None or spread.deleted:
            return
        del self._open[fact.subject]
        if spread.noticed_ns is not None:
            again = self._begin(fact, ends=False)
            again.truth_ns, again.node_back = fact.t_ns, fact.what is What.LINK_HEALED

    def _listeners(self, fact: Fact) -> None:
        before = self._answering.get(fact.subject)
        now = self._answers(fact.subject)
        self._answering[fact.subject] = now
        spread = self._ending(fact.subject)
        if not now:
            if spread is None and (before or (before is None and self._ready(fact.subject))):
                spread = self._begin(fact, ends=True)
            if spread is not None and spread.truth_ns is None:
                spread.truth_ns = fact.t_ns
        elif before is not True and (spread is None or spread.removed or not spread.deleted):
            self._begin(fact, ends=False).truth_ns = fact.t_ns

    def _ready(self, pod: Key) -> bool:
        """Whether a pod that nobody has spoken of is Ready; one that just started and does not listen is not."""
        found = self._store.get(pod)
        return isinstance(found, Pod) and found.status.ready

    def _noticed(self, fact: Fact) -> None:
        spread = self._open.get(fact.subject)
        if spread is None:
            return
        if spread.noticed_ns is not None:
            if spread.ends and not spread.deleted and self._ready(fact.subject):
                del self._open[
                    fact.subject
                ]  # a sidecar that came back: what befalls the pod next is a change of its own
            return
        if fact.what is What.POD_STATUS_WRITTEN or not spread.ends:
            pod = self._store.get(fact.subject, at=fact.revision or None)
            if not isinstance(pod, Pod) or pod.status.ready == spread.ends:
                return
        spread.noticed_ns, spread.noticed_by = fact.t_ns, fact.by

    # --- slices and observers -------------------------------------------------------------------------------

    def _written(self, fact: Fact, callers_of: Callable[[frozenset[Key]], frozenset[str]]) -> None:
        old, new = self._store.get(fact.subject, at=fact.revision - 1), self._store.get(fact.subject, at=fact.revision)
        before, after = _states(old), _states(new)
        piece = new if isinstance(new, EndpointSlice) else old
        if not isinstance(piece, EndpointSlice):
            return
        for pod in dict.fromkeys((*before, *after)):
            spread = self._open.get(pod)
            if spread is None or before.get(pod) == after.get(pod) or spread.learned:
                continue
            if spread.ends == (after.get(pod, (False,))[0] is not False):
                continue  # a write about something else, e.g. an older state of the pod
            calling, proxied = callers_of(frozenset({piece.service})), matters(old, new)
            if spread.target and (spread.calling or not calling) and (spread.proxied or not proxied):
                continue
            if not spread.target:
                self._waiting.append(spread)
            spread.service, spread.written_ns, spread.target = piece.service, fact.t_ns, fact.revision
            spread.calling, spread.left, spread.proxied = calling, len(calling), proxied
        del self._waiting[:-KEPT_SPREADS]

    def _learned(self, fact: Fact) -> None:
        observer = self._observers.get(fact.subject.name)
        if observer is None or observer.kind == "coredns":
            return
        name = observer.name
        all_named = len(self._observers) <= NAMED_OBSERVERS
        # A kube-proxy may have synced again by now: it learned what the fact says.
        revision = fact.revision if observer.kind == "kube-proxy" else observer.revision
        before, self._known[name] = self._known.get(name, 0), revision
        for spread in self._waiting:
            if not before < spread.target <= revision or name in spread.learned:
                continue
            if name in spread.calling or (all_named and observer.kind != "lb"):
                spread.learned[name] = fact.t_ns
                spread.left -= name in spread.calling
            elif observer.kind == "kube-proxy":
                spread.others += 1
                spread.others_first_ns = spread.others_first_ns or fact.t_ns
                spread.others_last_ns = fact.t_ns

    def _learned_by_many(self, wave: Wave) -> None:
        """As `_learned` for each of its facts."""
        if len(self._observers) <= NAMED_OBSERVERS:
            for fact in wave.facts():
                self._learned(fact)
            return
        names, revisions = wave.names, wave.revision.tolist()
        if not self._waiting:
            self._known.update(zip(names, revisions, strict=True))
            return
        before = np.zeros(len(wave), dtype=np.int64)
        for i, (name, revision) in enumerate(zip(names, revisions, strict=True)):
            before[i], self._known[name] = self._known.get(name, 0), revision
        for spread in self._waiting:
            news = wave.picked((before < spread.target) & (spread.target <= wave.revision))
            named = 0
            for fact in news.of(spread.calling):
                named += 1
                if fact.by not in spread.learned:
                    spread.learned[fact.by] = fact.t_ns
                    spread.left -= 1
            if len(news) > named:
                unnamed = news.t_ns if not named else news.without(spread.calling).t_ns
                spread.others += len(unnamed)
                spread.others_first_ns = spread.others_first_ns or int(unnamed[0])
                spread.others_last_ns = int(unnamed[-1])

    def forget_before(self, t_ns: int) -> None:
        """Stop waiting for observers that have not learned by now what was written before `t_ns`."""
        behind = min((o.revision for o in self._observers.values() if o.running and o.kind in _SLOW), default=0)
        late = (s for s in self._waiting if s.target > behind and (s.written_ns or 0) >= t_ns)
        self._waiting = list(late)


def _states(obj: object) -> dict[Key, tuple[bool | None, bool | None, bool | None]]:
    """Pod → (ready, serving, terminating) in a slice."""
    if not isinstance(obj, EndpointSlice):
        return {}
    return {e.target: (e.ready, e.serving, e.terminating) for e in obj.endpoints if e.target is not None}
