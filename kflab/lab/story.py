"""The one sentence above the ledger: what happened last, who knows, and what that means for requests."""

from fractions import Fraction
from typing import TYPE_CHECKING

from kflab.control.observers import NO_RULES
from kflab.engine.types import Pick
from kflab.lab.countdowns import SECOND_NS, seconds_left
from kflab.lab.knowledge import CUTS_OFF, POD_ENDS, Incident
from kflab.lab.nobody_left import nobody_left
from kflab.lab.snapshot import Span
from kflab.lab.sockets import RELOADED
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab

MOST_PARTS = 100
"""A share is said as a fraction of at most so many parts."""

HOLD_NS = 10_000_000_000
"""How long after all know the sentence stays before the hint comes back."""

_STOPPED = {
    "apiserver": "Nobody can learn anything; traffic goes on by the rules there are.",
    "kube-proxy": "Its rules stay as they are and the kernel goes on following them.",
    "kubelet": "Nobody looks after its pods: a crash would go unnoticed; the node is Unknown in about {grace:g} s.",
    "etcd": "Nothing can be written; watches stay open, traffic goes on.",
    "controller-manager": "No slice is written, no pod replaced, no node checked; traffic goes on by old rules.",
    "scheduler": "New pods stay Pending.",
    "coredns": "Names resolve no more; who knows an address goes on.",
    "ingress": "NGINX goes on with the endpoints and routes that it knows.",
}
"""What stopping a component means, by its kind."""


class Story:
    """Tells it."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab

    def tell(self) -> tuple[Span, ...]:
        """The sentence; () once all is quiet."""
        cut = self._sockets_cut()
        return cut if cut and self._by_reload() else self._of_change() or cut

    def _by_reload(self) -> bool:
        """Whether the last WebSockets were cut long after the edit that did it: nothing else says so."""
        groups = self._lab.sockets.groups
        return max(groups, key=lambda group: group.last_cut_ns or 0).last_why == RELOADED

    def _sockets_cut(self) -> tuple[Span, ...]:
        """WebSockets that were cut a moment ago, and why."""
        lately = [
            group for group in self._lab.sockets.groups
            if group.last_cut_ns is not None and self._lab.t_ns - group.last_cut_ns <= HOLD_NS
        ]  # fmt: skip
        if not lately:
            return ()
        last = max(lately, key=lambda group: group.last_cut_ns or 0)
        ago = (self._lab.t_ns - (last.last_cut_ns or 0)) / 1e9
        first = Span(f"✖ {last.last_count:,} WebSockets cut {ago:.2f} s ago: ", "lost")
        return (first, Span(f"{last.last_why}. {last.name} has {last.open:,} open."))

    def _of_change(self) -> tuple[Span, ...]:
        """What the last change came to so far; () once that is quiet."""
        incident, now_ns = self._lab.knowing.incident, self._lab.t_ns
        if incident is None:
            return ()
        if incident.lasts:
            return self._lasting_story(incident, now_ns)
        quiet_since = incident.settled_ns
        if quiet_since is None and incident.target is None and not incident.awaited:
            quiet_since = incident.t_ns
        emptied = nobody_left(self._lab, incident) if incident.moved_ns is not None else None
        if quiet_since is not None and now_ns - quiet_since > HOLD_NS:
            evictions = self._evictions(incident) if incident.silent and incident.subject is not None else ""
            name = incident.subject.name if incident.subject is not None else ""
            if emptied is not None and emptied.until_ns is None:
                # Requests that are refused are never quiet.
                spans = emptied.spans(incident)
                return (*spans[:-1], Span(f"so far. {name}'s {evictions}")) if evictions else spans
            return (Span(f"◇ {name} is given up. ", "late"), Span(f"Its {evictions}")) if evictions else ()
        ago = (now_ns - incident.t_ns) / 1e9
        if incident.config is not None:
            return self._mode_story(incident, now_ns)
        if incident.silent and incident.target is None:
            return self._silence(incident)
        if emptied is not None:
            return emptied.spans(incident)
        if incident.moved_ns is not None:
            after = (incident.moved_ns - incident.t_ns) / 1e9
            who = next((n for n, t in incident.learned.items() if t == incident.moved_ns), "")
            name = who.partition("/")[2]
            reason = ", when NGINX read the new endpoints."
            if who.startswith("kube-proxy/"):
                reason = f", when {name}'s rules changed: DNAT is decided where the caller runs."
            return (Span("◆ ", "known"), Span(f"Traffic moved at +{after:.2f} s", "known"), Span(reason))
        tone = "lost" if incident.kind in (*POD_ENDS, *CUTS_OFF, "stop") else "late"
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
            if still := self._still_sent():
                rest += f": {still}"
            return (first, Span(rest + "."))
        return (first, Span(self._other_words(incident, now_ns)))

    def _still_sent(self) -> str:
        """What stale rules do to the pod or node of the last change: "node-a's rules still send it 1 try in 3"."""
        incident, wiring = self._lab.knowing.incident, self._lab.wiring
        if incident is None or incident.subject is None:
            return ""
        pod = self._lab.store.get(incident.subject)
        back = isinstance(pod, Pod) and pod.status.ready  # whoever learned that it went may send to it again
        for chooser in wiring.choosers:
            if not chooser.fan or chooser.kind == "lb" or chooser.place == incident.subject.name:
                continue
            if back and all(name in incident.learned for name in chooser.observers):
                continue
            weights = zip(chooser.fan.candidates, chooser.fan.weights, strict=True)
            part = sum(weight for server, weight in weights if self._is_subject(wiring.servers[server][3]))
            if not part:
                continue
            share = Fraction(part, sum(chooser.fan.weights)).limit_denominator(MOST_PARTS)
            of = f"{share.numerator:,} {'try' if share.numerator == 1 else 'tries'} in {share.denominator:,}"
            of = "every try" if share == 1 else of
            there = "it " if incident.subject.kind == "Pod" else ""
            behind = "" if incident.subject.kind == "Pod" else " there"
            if chooser.picker == Pick.EWMA and share != 1:
                return f"NGINX still draws {there or 'its pods '}and takes whom it scores lower"
            if chooser.picker == Pick.ROUND_ROBIN and share != 1:
                return f"NGINX still takes {there or 'its pods '}in turn, {of}"
            if chooser.observers[0].startswith("lb/"):
                return f"the load balancer still sends to {there.strip() or 'its pods'}"
            return f"{chooser.place}'s rules still send {there}{of}{behind}"
        return ""

    def _is_subject(self, pod: Key | None) -> bool:
        """Whether a server is the pod of the last change, or on its node."""
        incident = self._lab.knowing.incident
        assert incident is not None
        if pod is None or pod == incident.subject:
            return pod is not None
        runtime = self._lab.plane.runtime.get(pod)
        subject = incident.subject
        return subject is not None and subject.kind == "Node" and runtime is not None and runtime.node == subject.name

    def _silence(self, incident: Incident) -> tuple[Span, ...]:
        """A node that does not tell any more that it is well: how old its lease is, and what that costs meanwhile."""
        assert incident.subject is not None
        lab, node = self._lab, incident.subject.name
        ago = (lab.t_ns - incident.t_ns) / 1e9
        cut = incident.kind in CUTS_OFF
        first = Span(f"{'✖' if cut else '◇'} {incident.what} {ago:.2f} s ago. ", "lost" if cut else "late")
        age = lab.plane.node_life.lease_age_ns(node)
        there = lab.store.get(incident.subject)
        if incident.noticed_ns is None and isinstance(there, Node) and there.ready != "True":
            rest = "Its node was NotReady before"
        elif incident.noticed_ns is not None:
            rest = "Its node is NotReady; no rule has changed so far"
        elif age is None or not lab.running("controller-manager"):
            rest = "Nobody has noticed"
        else:
            grace = lab.plane.core.spans["node_monitor_grace_s"][0] // SECOND_NS
            rest = f"Its lease is {seconds_left(age, 0)} s old, Unknown at {grace} s"
        if cut and self._clients_on(node):
            rest = f"Its clients went dark too. {rest}"
        elif cut and (still := self._still_sent()):
            rest += f": {still}"
        return (first, Span(rest + "."))

    def _clients_on(self, node: str) -> bool:
        """Whether all traffic comes from pods of one node."""
        places = [self._lab.wiring.places[w.stream.place] for w in self._lab.wiring.wired if w.stream.place >= 0]
        return bool(places) and len(places) == len(self._lab.wiring.wired) and set(places) == {node}

    def _evictions(self, incident: Incident) -> str:
        """When the pods of a node that is given up have to go: what is left to wait for once all rules avoid it."""
        assert incident.subject is not None
        lab, due = self._lab, []
        for pod in lab.plane.core.index.pods_on(incident.subject.name):
            at_ns = lab.plane.taint_eviction.evicted_at_ns(pod)
            due += [at_ns] if at_ns is not None and at_ns > lab.t_ns else []
        if not due:
            return ""
        pods = "1 pod is" if len(due) == 1 else f"{len(due):,} pods are"
        return f"{pods} evicted in {seconds_left(max(due), lab.t_ns)} s, when their toleration ends."

    def _lasting_story(self, incident: Incident, now_ns: int) -> tuple[Span, ...]:
        """How far a rollout or a drain has come."""
        assert incident.subject is not None
        changes = self._lab.knowing.changes
        known, count = changes.counts(self._lab.knowers.all_adopted) if changes is not None else (0, 0)
        pods = f" · {known:,} of {count:,} pod changes known" if count else ""
        ago = (now_ns - incident.t_ns) / 1e9
        emptied = nobody_left(self._lab, incident)
        emptied = emptied if emptied is not None and emptied.until_ns is None else None
        if emptied is not None:
            pods = f"; {emptied.service.name} has no ready endpoint"
        if incident.over_ns is None:
            first = Span(f"◇ {incident.subject.name}: {self._lab.knowing.progress(incident.subject)}", "late")
            return (first, Span(f"; {incident.what} {ago:.2f} s ago{pods}"))
        if now_ns - incident.over_ns > HOLD_NS:
            return emptied.spans(incident) if emptied is not None else ()  # refused requests are never quiet
        after = (incident.over_ns - incident.t_ns) / 1e9
        word = "drained" if incident.subject.kind == "Node" else "rolled out"
        return (Span("◆ ", "known"), Span(f"{incident.subject.name}: {word} in {after:.2f} s", "known"), Span(pods))

    def _mode_story(self, incident: Incident, now_ns: int) -> tuple[Span, ...]:
        """How far kube-proxy's new configuration has come."""
        proxies = [o for o in self._lab.plane.observers.values() if o.kind == "kube-proxy"]
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
            text = _STOPPED.get(incident.what.partition("/")[0].partition(" ")[0], "What it does is not done.")
            return text.format(grace=self._lab.delays.node_monitor_grace_s)
        if incident.kind == "start":
            return "It catches up with what it missed."
        if incident.target is None:
            return "No rule has changed so far."
        behind = [o.name for o in self._lab.plane.observers.values() if o.running and o.revision < incident.target]
        if behind:
            who = "1 observer still acts" if len(behind) == 1 else f"{len(behind)} observers still act"
            return f"Rules are changing: {who} on the past."
        last = max(incident.learned.values(), default=incident.t_ns)
        return f"All rules carry it since +{(last - incident.t_ns) / 1e9:.2f} s."
