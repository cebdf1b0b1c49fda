"""Who knows of the last change: the facts behind the rows of "who knows" and the sentence above the ledger.

A change opens an incident. It is *known* by an observer once its rules are made from a revision that carries the
first effect of the change on a Service or EndpointSlice (`target`). Until that revision is written nobody can know.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field

from kflab.cluster.store import Store
from kflab.control.facts import Fact, What
from kflab.control.observers import Observer
from kflab.control.proxysync import matters
from kflab.control.waves import Wave
from kflab.lab.bill_words import happening
from kflab.lab.pod_changes import PodChanges
from kflab.lab.snapshot import Mark
from kflab.lab.spread import Spreading
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

CRASHES = ("crash", "exit", "oomKill")

DELETES = ("delete", "force", "evict")

POD_ENDS = (*CRASHES, *DELETES)
"""Kinds of change that end a pod or its containers."""

NODE_ENDS = ("powerOff", "partition", "isolate", "deleteVM", "shutdown")
"""Kinds of change after which a node is not Ready."""

CUTS_OFF = ("powerOff", "partition", "deleteVM")
"""Kinds of change after which no packet reaches a node."""

LASTING = ("restart", "undo", "setImage", "resumeRollout", "scale", "apply", "drain")
"""Kinds of change that take pod after pod."""

KEPT_MARKS = 200
"""Marks on the time axis that are kept."""


@dataclass(slots=True)
class Incident:
    """One change and how its knowledge spread."""

    t_ns: int
    kind: str
    subject: Key | None
    what: str
    """"product-… crashed"; past tense, without time."""
    revision: int
    """Store revision just before the change."""
    target: int | None = None
    """First store revision whose rules carry the change."""
    target_ns: int | None = None
    proxied: bool = True
    """Whether kube-proxies hear of that revision: not of a headless Service's slices, nor of an annotation. The first
    one that they do hear of takes its place."""
    unlisted: bool = False
    """The pod had no endpoint: there is nothing about it that anybody could learn."""
    looked: int = 0
    """Writes up to this revision were looked through for a target."""
    services: frozenset[Key] = frozenset()
    """Services whose endpoints the target revision changed."""
    kubelet: str = ""
    """Node whose kubelet has to notice; "" when none has to."""
    noticed_ns: int | None = None
    learned: dict[str, int] = field(default_factory=dict)
    """Observer name → when it first acted on the target revision."""
    learned_revision: dict[str, int] = field(default_factory=dict)
    """Observer name → the store revision it then acted on."""
    calling: frozenset[str] = frozenset()
    """Observers by whose rules somebody reaches the changed Services."""
    moved_ns: int | None = None
    settled_ns: int | None = None
    """When the last running observer had learned."""
    restarts: int = 0
    over_ns: int | None = None
    """When its rollout or drain was over; None while there is one, and where the change is no such thing."""
    lasts: bool = False
    """It takes pod after pod: a rollout, a drain."""
    config: int | None = None
    """Number of the kube-proxy configuration that every node has to come to; None: the change is none of it."""
    silent: bool = False
    """It keeps a node from telling that it is well."""
    awaited: frozenset[Key] = frozenset()
    """Services with endpoints on a node that fell silent: their slices will change, though nobody has written yet."""


class Knowing:
    """Follows facts and keeps the last incident and the marks on the time axis.

    Args:
        store: The cluster.
        observers: By name.
        spreading: Of every single pod: what a rollout or drain is made of.
        progress: What a rollout or drain still waits for, by workload or node: "1 of 3 updated"; "" when over.
        selecting: Services that select a pod of this namespace with these labels.
        relevant: The newest revision that kube-proxies make rules from.
    """

    def __init__(
        self,
        store: Store,
        observers: Mapping[str, Observer],
        spreading: Spreading,
        progress: Callable[[Key], str],
        selecting: Callable[[str, Mapping[str, str]], Sequence[Key]],
        relevant: Callable[[], int],
    ) -> None:
        self._store = store
        self._observers = observers
        self._spreading = spreading
        self.progress = progress
        self._selecting = selecting
        self.relevant = relevant
        self.incident: Incident | None = None
        self.changes: PodChanges | None = None
        """Of the incident, where it may take pod after pod."""
        self.marks: list[Mark] = []

    @property
    def follows(self) -> bool:
        """Whether each observer's own fact suffices: the change in hand, if any, has come to its revision."""
        return self.incident is None or self.incident.target is not None

    def open(
        self, t_ns: int, kind: str, subject: Key | None, what: str, kubelet: str, revision: int,
        config: int | None = None,
    ) -> None:  # fmt: skip
        """A user or scenario changed something after a store revision; `config`: as in `Incident`."""
        self._collect()
        self.incident = Incident(t_ns, kind, subject, what, revision, kubelet=kubelet, config=config, looked=revision)
        if kind in POD_ENDS and subject is not None:
            pod = self._store.get(subject, at=revision)
            labels = pod.meta.labels if isinstance(pod, Pod) and pod.status.pod_ips else {}
            self.incident.unlisted = not self._selecting(subject.namespace, labels)
        self.incident.silent = _silences(self.incident)
        if self.incident.silent and subject is not None:
            self.incident.awaited = self._services_on(subject.name)
        self.changes = PodChanges(t_ns, subject) if kind in LASTING and subject is not None else None
        self.mark(t_ns, kind, what)

    def mark(self, t_ns: int, kind: str, label: str) -> None:
        """Put something on the time axis."""
        self.marks.append(Mark(t_ns, kind, label))
        del self.marks[:-KEPT_MARKS]

    def _services_on(self, node: str) -> frozenset[Key]:
        """Services with ready endpoints on a node; headless ones only where there are no others."""
        found = [
            obj for obj in self._store.of_kind("EndpointSlice") if isinstance(obj, EndpointSlice)
            and any(endpoint.node_name == node and endpoint.ready is not False for endpoint in obj.endpoints)
        ]  # fmt: skip
        return frozenset(obj.service for obj in [obj for obj in found if matters(None, obj)] or found)

    def _collect(self) -> None:
        """Each further change of a pod in a rollout or drain is a mark on the time axis too."""
        if self.changes is None or self.incident is None or not self.incident.lasts:
            return
        for spread in self.changes.collect(self._spreading):
            kind = "delete" if spread.ends else "begin"
            self.mark(spread.t_ns, kind, happening(spread))

    def hear(
        self, entries: Iterable[Fact | Wave], callers_of: Callable[[frozenset[Key]], frozenset[str]], now_ns: int
    ) -> None:  # fmt: skip
        """Take in new facts, in order. `callers_of(services)` names the observers by whose rules those are reached."""
        incident = self.incident
        if incident is None:
            return
        for fact in entries:
            if isinstance(fact, Wave):
                self._learned_by_many(incident, fact, callers_of)
                continue
            if fact.what in (What.KUBELET_NOTICED, What.PROBE_FAILED) and fact.subject == incident.subject:
                incident.noticed_ns = incident.noticed_ns or fact.t_ns
            if fact.what in (What.NODE_READY_CHANGED, What.NODE_REMOVED) and fact.subject == incident.subject:
                incident.noticed_ns = incident.noticed_ns or fact.t_ns
            if incident.target is None or not incident.proxied:
                self._look_for_target(incident, callers_of)
            if fact.what in (What.RULES_SYNCED, What.LB_TARGETS_CHANGED) and incident.target is not None:
                self._learned(incident, fact)
            if fact.what is What.CONTAINER_STARTED and fact.subject == incident.subject:
                incident.restarts += 1
        if incident.kind in LASTING and incident.over_ns is None and incident.subject is not None:
            words = self.progress(incident.subject)
            incident.lasts |= bool(words)
            if incident.lasts and not words:
                incident.over_ns = now_ns
        self._collect()

    def _look_for_target(self, incident: Incident, callers_of: Callable[[frozenset[Key]], frozenset[str]]) -> None:
        if incident.kind == "start" or incident.config is not None:
            self._catch_up(incident, callers_of)
            return
        waiting = set(incident.awaited)
        if incident.target is not None and incident.looked == self._store.revision:
            return
        for change in self._store.changes(incident.revision if incident.target is None else incident.looked):
            if change.t_ns < incident.t_ns or not self._carries(incident, change.old, change.new):
                continue
            if incident.target is not None and not matters(change.old, change.new):
                continue
            obj = change.new or change.old
            named = obj.service if isinstance(obj, EndpointSlice) else change.key
            waiting.discard(named)
            if waiting:
                continue
            incident.target, incident.target_ns = change.revision, change.t_ns
            incident.services = incident.awaited or frozenset({named})
            incident.calling = callers_of(incident.services)
            incident.proxied = matters(change.old, change.new)
            incident.looked = change.revision
            incident.learned, incident.learned_revision = {}, {}
            incident.settled_ns = None if self._missing(incident) else change.t_ns
            return
        incident.looked = self._store.revision

    def _catch_up(self, incident: Incident, callers_of: Callable[[frozenset[Key]], frozenset[str]]) -> None:
        """A component started, or kube-proxies have to restart: what they missed is written already."""
        incident.target, incident.target_ns = self.relevant(), incident.t_ns
        incident.services = frozenset(self._store.keys("Service"))
        for observer in self._observers.values():
            if self._carried(incident, observer, observer.revision):
                incident.learned[observer.name] = incident.t_ns
        incident.calling = callers_of(incident.services) - set(incident.learned)
        if not self._missing(incident):
            incident.settled_ns = incident.t_ns

    def _missing(self, incident: Incident) -> set[str]:
        """Who runs and has yet to learn of the change."""
        # A kube-proxy that is being replaced does not run, and has yet to learn its new configuration.
        return {
            o.name for o in self._observers.values()
            if o.kind != "lb" and (o.running or incident.config is not None) and o.name not in incident.learned
            and (incident.proxied or o.kind != "kube-proxy")
        }  # fmt: skip

    @staticmethod
    def _carried(incident: Incident, observer: Observer, revision: int) -> bool:
        """Whether an observer with rules of a revision acts on what the incident has brought."""
        if incident.config is not None and observer.kind == "kube-proxy" and observer.config < incident.config:
            return False
        return incident.config is not None or revision >= (incident.target or 0)

    @staticmethod
    def _carries(incident: Incident, old: object, new: object) -> bool:
        """Whether a write is the change's first effect on rules."""
        if isinstance(new, Service) or isinstance(old, Service):
            return incident.kind == "apply" and old != new
        if not (isinstance(new, EndpointSlice) or isinstance(old, EndpointSlice)):
            return False
        if incident.subject is not None and incident.subject.kind == "Pod":
            return _state_of(old, incident.subject) != _state_of(new, incident.subject)
        if incident.silent and incident.subject is not None:
            return _states_on(old, incident.subject.name) != _states_on(new, incident.subject.name)
        if incident.kind == "scale" and incident.subject is not None:
            # A crash a moment earlier may still be on its way to its slice: only this workload's pods count.
            pods = {
                endpoint.target for obj in (old, new) if isinstance(obj, EndpointSlice) for endpoint in obj.endpoints
                if endpoint.target and endpoint.target.name.startswith(f"{incident.subject.name}-")
            }  # fmt: skip
            return any(_state_of(old, pod) != _state_of(new, pod) for pod in pods)
        return old != new

    def _learned(self, incident: Incident, fact: Fact) -> None:
        observer = self._observers.get(fact.subject.name)
        if observer is None or incident.target is None:
            return
        # A kube-proxy may have synced again by now: it learned what the fact says.
        revision = fact.revision if observer.kind == "kube-proxy" else observer.revision
        if not self._carried(incident, observer, revision):
            return
        if observer.name not in incident.learned:
            incident.learned[observer.name] = fact.t_ns
            incident.learned_revision[observer.name] = revision
        if incident.moved_ns is None and incident.calling and incident.calling <= incident.learned.keys():
            self._moved(incident, fact.t_ns)
        if incident.settled_ns is None and not self._missing(incident):
            incident.settled_ns = fact.t_ns

    def _learned_by_many(
        self, incident: Incident, wave: Wave, callers_of: Callable[[frozenset[Key]], frozenset[str]]
    ) -> None:  # fmt: skip
        """As for each of its facts."""
        if incident.target is None or not incident.proxied:
            self._look_for_target(incident, callers_of)
        if incident.target is None:
            return
        if incident.config is not None:
            for fact in wave.facts():
                self._learned(incident, fact)
            return
        wave = wave.picked(wave.revision >= incident.target)
        if not len(wave):
            return
        learned, missing = incident.learned, set() if incident.settled_ns is not None else self._missing(incident)
        waited = incident.calling - learned.keys()
        for name, t_ns, revision in zip(wave.names, wave.t_ns.tolist(), wave.revision.tolist(), strict=True):
            if name not in learned:
                learned[name], incident.learned_revision[name] = t_ns, revision
        first = int(wave.t_ns[0])
        if incident.moved_ns is None and incident.calling and waited <= learned.keys():
            self._moved(incident, max((learned[name] for name in waited), default=first))
        if incident.settled_ns is None and missing <= learned.keys():
            incident.settled_ns = max((learned[name] for name in missing), default=first)

    def _moved(self, incident: Incident, t_ns: int) -> None:
        incident.moved_ns = t_ns
        label = "traffic moved" if incident.config is None else "every caller's rules are new"
        self.marks.append(Mark(t_ns, "moved", label))


...


def _state_of(obj: object, pod: Key) -> tuple[bool | None, bool | None, bool | None] | None:
    if not isinstance(obj, EndpointSlice):
        return None
    for endpoint in obj.endpoints:
        if endpoint.target == pod:
            return (endpoint.ready, endpoint.serving, endpoint.terminating)
    return None


def _states_on(obj: object, node: str) -> dict[Key | None, tuple[bool | None, bool | None, bool | None]]:
    """Pod → state of its endpoint in a slice, of those on a node."""
    if not isinstance(obj, EndpointSlice):
        return {}
    return {e.target: (e.ready, e.serving, e.terminating) for e in obj.endpoints if e.node_name == node}


def _silences(incident: Incident) -> bool:
    """Whether a change kept a node from telling that it is well."""
    if incident.subject is None or incident.subject.kind != "Node":
        return False
    return incident.kind in NODE_ENDS or (incident.kind == "stop" and incident.what.startswith("kubelet/"))
