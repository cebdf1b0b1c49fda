"""Who knows of the last change: from facts to the rows of "who knows" and the sentence above the ledger.

A change opens an incident. It is *known* by an observer once its rules are made from a revision that carries the
first effect of the change on a Service or EndpointSlice (`target`). Until that revision is written nobody can know.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kflab.cluster.store import Store
from kflab.control.facts import Fact, What
from kflab.control.observers import NO_RULES, Observer
from kflab.lab.snapshot import Knower, Knowledge, Mark, Span
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice, Service
from kflab.manifest.objects_pods import Pod

CRASHES = ("crash", "exit", "oomKill")

DELETES = ("delete", "force", "evict")

POD_ENDS = (*CRASHES, *DELETES)
"""Kinds of change that end a pod or its containers."""

NODE_ENDS = ("powerOff", "partition", "isolate", "deleteVM", "shutdown")
"""Kinds of change after which a node is not Ready."""

LASTING = ("restart", "undo", "setImage", "resumeRollout", "scale", "apply", "drain")
"""Kinds of change that take pod after pod."""

HOLD_NS = 10_000_000_000
"""How long after all know the sentence stays before the hint comes back."""

_STOPPED = {
    "apiserver": "Nobody can learn anything; traffic goes on by the rules there are.",
    "kube-proxy": "Its rules stay as they are and the kernel goes on following them.",
    "kubelet": "Nobody looks after its pods: a crash there would go unnoticed; the node is Unknown in about 50 s.",
    "etcd": "Nothing can be written; watches stay open, traffic goes on.",
    "controller-manager": "No slice is written, no pod replaced, no node checked; traffic goes on by old rules.",
    "scheduler": "New pods stay Pending.",
    "coredns": "Names resolve no more; who knows an address goes on.",
    "ingress": "NGINX goes on with the endpoints and routes that it knows.",
}
"""What stopping a component means, by its kind."""


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


class Knowing:
    """Follows facts and keeps the last incident and the marks on the time axis.

    Args:
        store: The cluster.
        observers: By name.
        words: What a kube-proxy's rules are now: "rev 41", "rev 41 nftables", "no rules".
        progress: What a rollout or drain still waits for, by workload or node: "1 of 3 updated"; "" when over.
    """

    def __init__(
        self,
        store: Store,
        observers: Mapping[str, Observer],
        words: Callable[[Observer], str],
        progress: Callable[[Key], str],
    ) -> None:
        self._store = store
        self._observers = observers
        self._words = words
        self._progress = progress
        self.incident: Incident | None = None
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
        self.incident = Incident(t_ns, kind, subject, what, revision, kubelet=kubelet, config=config)
        self.marks.append(Mark(t_ns, kind, what))
        del self.marks[:-200]

    def hear(self, facts: Iterable[Fact], callers_of: Callable[[frozenset[Key]], frozenset[str]], now_ns: int) -> None:
        """Take in new facts, in order. `callers_of(services)` names the observers by whose rules those are reached."""
        incident = self.incident
        if incident is None:
            return
        for fact in facts:
            if fact.what in (What.KUBELET_NOTICED, What.PROBE_FAILED) and fact.subject == incident.subject:
                incident.noticed_ns = incident.noticed_ns or fact.t_ns
            if fact.what is What.NODE_READY_CHANGED and fact.subject == incident.subject:
                incident.noticed_ns = incident.noticed_ns or fact.t_ns
            if incident.target is None:
                self._look_for_target(incident, callers_of)
            if fact.what in (What.RULES_SYNCED, What.LB_TARGETS_CHANGED) and incident.target is not None:
                self._learned(incident, fact)
            if fact.what is What.CONTAINER_STARTED and fact.subject == incident.subject:
                incident.restarts += 1
        if incident.kind in LASTING and incident.over_ns is None and incident.subject is not None:
            words = self._progress(incident.subject)
            incident.lasts |= bool(words)
            if incident.lasts and not words:
                incident.over_ns = now_ns

    def _look_for_target(self, incident: Incident, callers_of: Callable[[frozenset[Key]], frozenset[str]]) -> None:
        if incident.kind == "start" or incident.config is not None:
            self._catch_up(incident, callers_of)
            return
        for change in self._store.changes(incident.revision):
            if change.t_ns < incident.t_ns or not self._carries(incident, change.old, change.new):
                continue
            incident.target, incident.target_ns = change.revision, change.t_ns
            obj = change.new or change.old
            named = obj.service if isinstance(obj, EndpointSlice) else change.key
            incident.services = frozenset({named})
            incident.calling = callers_of(incident.services)
            return

    def _catch_up(self, incident: Incident, callers_of: Callable[[frozenset[Key]], frozenset[str]]) -> None:
        """A component started, or kube-proxies have to restart: what they missed is written already."""
        incident.target, incident.target_ns = self._store.last_rule_change, incident.t_ns
        incident.services = frozenset(self._store.keys("Service"))
        for observer in self._observers.values():
            if self._carried(incident, observer, observer.revision):
                incident.learned[observer.name] = incident.t_ns
        incident.calling = callers_of(incident.services) - set(incident.learned)
        if self._all_learned(incident):
            incident.settled_ns = incident.t_ns

    def _all_learned(self, incident: Incident) -> bool:
        # A kube-proxy that is being replaced does not run, and has yet to learn its new configuration.
        return all(
            o.name in incident.learned for o in self._observers.values()
            if o.kind != "lb" and (o.running or incident.config is not None)
        )  # fmt: skip

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
            incident.moved_ns = fact.t_ns
            label = "traffic moved" if incident.config is None else "every caller's rules are new"
            self.marks.append(Mark(fact.t_ns, "moved", label))
        if self._all_learned(incident):
            incident.settled_ns = incident.settled_ns or fact.t_ns

    # --- what is shown --------------------------------------------------------------------------------------

    def knowledge(
        self, running: Callable[[str], bool], calling_now: frozenset[str], refused: Mapping[str, int]
    ) -> Knowledge:
        """The rows of "who knows".

        Args:
            running: Whether a component ("kubelet/node-a", "kube-proxy/node-a") runs.
            calling_now: Observers by whose rules traffic flows.
            refused: Tries lost since the incident by observer name.
        """
        incident, knowers = self.incident, []
        behind = incident is not None and incident.settled_ns is None
        if incident is None:
            for node in self._kubelets():
                name = f"kubelet/{node}"
                up = running(name)
                state = "running" if up else "stopped"
                word = "" if up else state
                knowers.append(Knower(f"{node} kubelet", Key("Node", "", node), up, up, state, "", None, word))
        elif incident.kubelet:
            knowers.append(self._kubelet_row(incident, running))
        elif _silences(incident):
            knowers.append(self._node_row(incident, running("controller-manager")))
        knowers.append(self._slice_row(incident, running("controller-manager")))
        for observer in self._observers.values():
            row = self._observer_row(incident, observer, running, calling_now, refused, behind)
            if row is not None:
                knowers.append(row)
        if incident is None:
            return Knowledge("", None, "", None, None, tuple(knowers))
        seconds = f"{incident.t_ns / 1e9:.2f}"
        text = f"that {incident.what} at {seconds}"
        if incident.restarts and incident.kind in CRASHES:
            text += f" · restart {incident.restarts}"
        if incident.lasts and incident.subject is not None:
            text += f" · {self._progress(incident.subject) or 'over'}"
        return Knowledge(text, incident.t_ns, incident.kind, incident.subject, incident.moved_ns, tuple(knowers))

    def _kubelets(self) -> list[str]:
        """Nodes whose kubelets are worth a row while nothing has happened: those with endpoints of called Services."""
        nodes: dict[str, None] = {}
        for obj in self._store.of_kind("EndpointSlice"):
            assert isinstance(obj, EndpointSlice)
            for endpoint in obj.endpoints:
                if endpoint.node_name and obj.meta.namespace != "kube-system":
                    nodes.setdefault(endpoint.node_name)
        return list(nodes)[-1:]

    def _kubelet_row(self, incident: Incident, running: Callable[[str], bool]) -> Knower:
        up = running(f"kubelet/{incident.kubelet}")
        noticed = incident.noticed_ns
        pod = self._store.get(incident.subject) if incident.subject else None
        code = ""
        if isinstance(pod, Pod) and pod.status.containers and pod.status.containers[0].exit_code is not None:
            code = f"exit {pod.status.containers[0].exit_code}"
        if incident.kind in DELETES:
            seen, unseen = "SIGTERM sent", "delete unseen"
        elif incident.kind in CRASHES:
            seen, unseen = code or "exit seen", "exit unseen"
        elif incident.kind == "hang":
            seen, unseen = "probe failed", "probes pass"
        else:
            seen, unseen = "running", "running"
        word = "noticed" if noticed is not None else ("stopped" if not up else "not noticed yet")
        return Knower(
            f"{incident.kubelet} kubelet",
            Key("Node", "", incident.kubelet),
            noticed is not None,
            up,
            seen if noticed is not None else unseen,
            "",
            noticed,
            word,
        )

    def _node_row(self, incident: Incident, up: bool) -> Knower:
        """What the node controllers make of a node that fell silent."""
        key, noticed = incident.subject or Key("Node", "", ""), incident.noticed_ns
        node = self._store.get(key)
        ready = node.ready if isinstance(node, Node) else "gone"
        state = {"True": "Ready", "False": "NotReady"}.get(ready, ready)
        word = "noticed" if noticed is not None else "not noticed yet" if up else "stopped"
        return Knower("node controller", key, noticed is not None, up, state, "", noticed, word)

    def _slice_row(self, incident: Incident | None, up: bool) -> Knower:
        concerned = incident is not None and incident.kind in POD_ENDS
        written = incident.target_ns if incident and incident.config is None else None
        revision = self._store.rules_revision(incident.target if incident else None)
        key = Key("EndpointSlice", "", "")
        if incident is not None and incident.services:
            service = sorted(incident.services)[0]
            key = next((o.key for o in self._store.of_kind("EndpointSlice", service.namespace)
                        if isinstance(o, EndpointSlice) and o.service == service), service)  # fmt: skip
        in_step = not concerned or written is not None
        waiting = "not written yet" if up else "stopped"
        word = "written" if written is not None else ("" if in_step and up else waiting)
        return Knower("EndpointSlice", key, in_step, up, f"rev {revision}", "", written, word)

    def _observer_row(
        self,
        incident: Incident | None,
        observer: Observer,
        running: Callable[[str], bool],
        calling_now: frozenset[str],
        refused: Mapping[str, int],
        behind: bool,
    ) -> Knower | None:
        calling = incident.calling if incident and incident.target else calling_now
        if observer.kind == "kube-proxy":
            label, key, component = f"{observer.node} rules", Key("Node", "", observer.node), observer.name
        elif observer.kind == "ingress" and observer.name in calling_now:
            _, namespace, name = observer.name.split("/", 2)
            label, key, component = f"{name} upstreams", Key("Pod", namespace, name), observer.name
        elif observer.name.startswith("lb/") and observer.name in calling:
            # With IP targets the load balancer itself decides which pod is called.
            namespace, name = observer.name.split("/", 2)[1], observer.service
            label, key, component = f"{name} IP targets", Key("Service", namespace, name), observer.name
        else:
            return None
        # A kube-proxy that is being replaced is not stopped: it will learn.
        up = running(component) and (observer.running or observer.kind == "kube-proxy")
        # Beside the time at which it learned stands what it then knew, not what has come since.
        known = incident.learned_revision.get(observer.name, observer.revision) if incident else observer.revision
        rev = self._words(observer) if observer.configs else f"rev {self._store.rules_revision(known)}"
        calls = observer.name in calling
        learned = incident.learned.get(observer.name) if incident else None
        concerned = incident is not None and (incident.kind in POD_ENDS or incident.target is not None)
        current = observer.kind == "lb" or observer.revision >= self._last_rule_revision()
        in_step = learned is not None if concerned else current
        if learned is not None:
            moves = calls and incident and incident.config is None and learned == incident.moved_ns
            word = "traffic moves" if moves else "in step"
        elif up and not observer.running:
            word = "restarting"
        else:
            word = "" if in_step else ("stopped" if not up else "stale")
        return Knower(
            label, key, in_step, up, rev, "callers here" if calls else "nobody calls", learned, word,
            refused.get(observer.name, 0),
        )  # fmt: skip

    def _last_rule_revision(self) -> int:
        """Store revision of the newest change that makes rules."""
        return self._store.last_rule_change

    def story(self, now_ns: int, expected_share: str) -> tuple[Span, ...]:
        """The one sentence above the ledger; () once all is quiet.

        Args:
            now_ns: Simulated time.
            expected_share: What the stale rules still do, e.g. "still send it 1 try in 3"; "" when unknown.
        """
        incident = self.incident
        if incident is None:
            return ()
        if incident.lasts:
            return self._lasting_story(incident, now_ns)
        quiet_since = incident.settled_ns or (incident.t_ns if incident.target is None else None)
        if quiet_since is not None and now_ns - quiet_since > HOLD_NS:
            return ()
        ago = (now_ns - incident.t_ns) / 1e9
        if incident.config is not None:
            return self._mode_story(incident, now_ns)
        if incident.moved_ns is not None:
            after = (incident.moved_ns - incident.t_ns) / 1e9
            who = next((n for n, t in incident.learned.items() if t == incident.moved_ns), "")
            name = who.partition("/")[2]
            reason = ", when NGINX read the new endpoints."
            if who.startswith("kube-proxy/"):
                reason = f", when {name}'s rules changed: DNAT is decided where the caller runs."
            return (Span("◆ ", "known"), Span(f"Traffic moved at +{after:.2f} s", "known"), Span(reason))
        tone = "lost" if incident.kind in (*POD_ENDS, "stop") else "late"
        glyph = "✖ " if tone == "lost" else "◇ "
        first = Span(f"{glyph}{incident.what} {ago:.2f} s ago. ", tone)
        if incident.kind in POD_ENDS:
            if incident.noticed_ns is None:
                rest = "Nobody has noticed"
            elif incident.target is None:
                noticed = (incident.noticed_ns - incident.t_ns) / 1e9
                rest = f"The kubelet knows since +{noticed:.2f} s"
            elif incident.calling:
                rest = "The EndpointSlice is written"
            else:
                rest = "The EndpointSlice is written; nobody calls this pod"
            if expected_share and incident.calling | {""} and incident.moved_ns is None:
                rest += f": {expected_share}"
            return (first, Span(rest + "."))
        return (first, Span(self._other_words(incident, now_ns)))

    def _lasting_story(self, incident: Incident, now_ns: int) -> tuple[Span, ...]:
        """How far a rollout or a drain has come."""
        assert incident.subject is not None
        ago = (now_ns - incident.t_ns) / 1e9
        if incident.over_ns is None:
            first = Span(f"◇ {incident.subject.name}: {self._progress(incident.subject)}", "late")
            return (first, Span(f"; {incident.what} {ago:.2f} s ago"))
        if now_ns - incident.over_ns > HOLD_NS:
            return ()
        after = (incident.over_ns - incident.t_ns) / 1e9
        word = "drained" if incident.subject.kind == "Node" else "rolled out"
        return (Span("◆ ", "known"), Span(f"{incident.subject.name}: {word} in {after:.2f} s", "known"))

    def _mode_story(self, incident: Incident, now_ns: int) -> tuple[Span, ...]:
        """How far kube-proxy's new configuration has come."""
        proxies = [o for o in self._observers.values() if o.kind == "kube-proxy"]
        done = sum(o.name in incident.learned for o in proxies)
        if incident.settled_ns is not None:
            after = (incident.settled_ns - incident.t_ns) / 1e9
            return (Span("◆ ", "known"), Span(f"{incident.what}: every node's rules follow it since +{after:.2f} s."))
        first = Span(f"◇ {incident.what} {(now_ns - incident.t_ns) / 1e9:.2f} s ago. ", "late")
        rest = f"{done} of {len(proxies)} nodes have new rules"
        bare = next((o.node for o in proxies if o.config == NO_RULES), "")
        busy = next((o.node for o in proxies if not o.running), "")
        if bare:
            rest += f"; {bare} has none until its first sync"
        elif busy:
            rest += f"; on {busy} it restarts, its rules stay"
        return (first, Span(rest + "."))

    def _other_words(self, incident: Incident, now_ns: int) -> str:
        """The second half of the sentence for changes that end no pod."""
        if incident.kind == "stop":
            return _STOPPED.get(incident.what.partition("/")[0].partition(" ")[0], "What it does is not done.")
        if incident.kind == "start":
            return "It catches up with what it missed."
        if incident.target is None and incident.noticed_ns is None and _silences(incident):
            return "The API has not heard of it: that takes until its lease is too old."
        if incident.target is None:
            return "No rule has changed so far."
        behind = [o.name for o in self._observers.values() if o.running and o.revision < incident.target]
        if behind:
            who = "1 observer still acts" if len(behind) == 1 else f"{len(behind)} observers still act"
            return f"Rules are changing: {who} on the past."
        last = max(incident.learned.values(), default=incident.t_ns)
        return f"All rules carry it since +{(last - incident.t_ns) / 1e9:.2f} s."


def _state_of(obj: object, pod: Key) -> tuple[bool | None, bool | None, bool | None] | None:
    if not isinstance(obj, EndpointSlice):
        return None
    for endpoint in obj.endpoints:
        if endpoint.target == pod:
            return (endpoint.ready, endpoint.serving, endpoint.terminating)
    return None


def _silences(incident: Incident) -> bool:
    """Whether a change kept a node from telling that it is well."""
    if incident.subject is None or incident.subject.kind != "Node":
        return False
    return incident.kind in NODE_ENDS or (incident.kind == "stop" and incident.what.startswith("kubelet/"))
