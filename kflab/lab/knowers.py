"""The rows of "who knows": each observer of the last change, what it acts on, and since when.

A rollout or a drain takes pod after pod. The rows are then about the newest change of a pod, the one that spreads now;
how many of the changes so far everybody knows stands beside it.
"""

from typing import TYPE_CHECKING

from kflab.control.observers import Observer
from kflab.lab.bill_words import happening
from kflab.lab.countdowns import seconds_left
from kflab.lab.instants import instant
from kflab.lab.knowledge import CRASHES, DELETES, POD_ENDS, Incident
from kflab.lab.nobody_left import nobody_left
from kflab.lab.pod_changes import PodChanges
from kflab.lab.snapshot import Knower, Knowledge
from kflab.lab.spread import Spread
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_network import EndpointSlice
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab


class Knowers:
    """Reads what a lab's `Knowing` and spreads have heard."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab

    def knowledge(self) -> Knowledge:
        """Who knows of the last change."""
        incident = self._lab.knowing.incident
        changes = self._lab.knowing.changes
        if incident is None:
            resting = (*self._kubelet_at_rest(), self._slice_row(None), *self._observer_rows(None))
            return Knowledge("", None, "", None, None, resting)
        if incident.lasts and changes is not None:
            return self._lasting(incident, changes)
        rows = []
        if incident.kubelet:
            rows.append(self._kubelet_row(incident))
        elif incident.silent:
            rows.append(self._node_row(incident))
        rows.append(self._slice_row(incident))
        text = f"that {incident.what} at {instant(incident.t_ns)}"
        if incident.restarts and incident.kind in CRASHES:
            text += f" · restart {incident.restarts}"
        rows += self._observer_rows(incident)
        return Knowledge(text, incident.t_ns, incident.kind, incident.subject, incident.moved_ns, tuple(rows))

    def _lasting(self, incident: Incident, changes: PodChanges) -> Knowledge:
        """A rollout or drain: the rows are those of its newest change of a pod."""
        assert incident.subject is not None
        progress = self._lab.knowing.progress(incident.subject) or "over"
        newest, counts = changes.newest, changes.counts(self.all_adopted)
        if newest is None:
            rows = (*self._kubelet_at_rest(), self._slice_row(incident), *self._observer_rows(incident))
            text = f"that {incident.what} at {instant(incident.t_ns)} · {progress}"
            began = incident.t_ns
            return Knowledge(text, began, incident.kind, incident.subject, None, rows, None, began)
        known, count = counts
        text = f"that {happening(newest)} at {instant(newest.t_ns)} · "
        text += f"{known:,} of {count:,} pod changes known · {progress}"
        rows = (self._change_kubelet(newest), self._change_slice(newest), *self._change_observers(newest))
        kind = "delete" if newest.ends else "begin"
        return Knowledge(text, newest.t_ns, kind, newest.pod, newest.known_ns, rows, counts, incident.t_ns)

    # --- one change of a pod ------------------------------------------------------------------------------------

    def _change_kubelet(self, change: Spread) -> Knower:
        """Who has to notice: the kubelet, or the node controller where that told of it."""
        by = change.noticed_by or (f"kubelet {change.node}" if change.node else "kubelet")
        kind, _, node = by.partition(" ")
        name = f"{node} kubelet" if kind == "kubelet" and node else by
        noticed = change.noticed_ns
        up = self._lab.running(f"kubelet/{change.node}")
        unseen = "delete unseen" if change.deleted else "end unseen"
        if not change.ends:
            state, word = ("ready", "ready") if noticed is not None else ("not ready", "not ready yet")
        else:
            seen = "delete seen" if change.deleted else "end seen"
            state, word = (seen, "noticed") if noticed is not None else (unseen, "not noticed yet")
        word = word if up or noticed is not None else "stopped"
        return Knower(name, Key("Node", "", change.node), noticed is not None, up, state, "", noticed, word)

    def _change_slice(self, change: Spread) -> Knower:
        up, written = self._lab.running("controller-manager"), change.written_ns
        known = change.target or self._lab.store.revision
        word = "written" if written is not None else "not written yet" if up else "stopped"
        key = self._slice_of(change.service) if change.service else Key("EndpointSlice", "", "")
        rev = f"rev {self._lab.store.rules_revision(known)}"
        return Knower("EndpointSlice", key, written is not None, up, rev, "", written, word)

    def _change_observers(self, change: Spread) -> list[Knower]:
        calling_now = self._lab.wiring.calling()
        calling = change.calling if change.target else calling_now
        found = []
        for observer in self._lab.plane.observers.values():
            named = self._named(observer, calling, calling_now)
            if named is None:
                continue
            name, key, component = named
            up, off = self._up(observer, component), self._off(observer)
            calls, learned = observer.name in calling, change.learned.get(observer.name)
            adopted = change.target > 0 and (
                observer.name not in change.calling if observer.kind == "lb" else observer.revision >= change.target
            )
            adopted = adopted or (change.target > 0 and not self._hears(observer, change.proxied))
            in_step = learned is not None or adopted
            if learned is not None:
                moves = "traffic moves" if change.ends else "traffic comes"
                word = moves if calls and learned == change.known_ns else "in step"
            else:
                word = self._word(observer, in_step, up)
            known = change.target if in_step else observer.revision
            rev = self._rules_words(observer, known)
            callers = "callers here" if calls else "nobody calls"
            lost = self._lab.lost_by_observer.get(observer.name, 0)
            found.append(Knower(name, key, in_step, up, rev, callers, learned, word, lost, off))
        return found

    def all_adopted(self, change: Spread) -> bool:
        """Whether every running proxy and ingress pod acts on a revision that carries a change."""
        slow = (o for o in self._lab.plane.observers.values() if o.running and o.kind in ("kube-proxy", "ingress"))
        return all(o.revision >= change.target for o in slow if self._hears(o, change.proxied))

    @staticmethod
    def _hears(observer: Observer, proxied: bool) -> bool:
        """Whether an observer hears of a change at all; `proxied`: kube-proxies do."""
        return proxied or observer.kind != "kube-proxy"

    # --- one change by a user -----------------------------------------------------------------------------------

    def _kubelet_at_rest(self) -> list[Knower]:
        """A kubelet worth a row while nothing has happened to a pod: of the last node with endpoints."""
        nodes: dict[str, None] = {}
        for obj in self._lab.store.of_kind("EndpointSlice"):
            assert isinstance(obj, EndpointSlice)
            for endpoint in obj.endpoints:
                if endpoint.node_name and obj.meta.namespace != "kube-system":
                    nodes.setdefault(endpoint.node_name)
        if not nodes:
            return []
        node = list(nodes)[-1]
        up = self._lab.running(f"kubelet/{node}")
        state = "running" if up else "stopped"
        return [Knower(f"{node} kubelet", Key("Node", "", node), up, up, state, "", None, "" if up else state)]

    def _kubelet_row(self, incident: Incident) -> Knower:
        up, noticed = self._lab.running(f"kubelet/{incident.kubelet}"), incident.noticed_ns
        pod = self._lab.store.get(incident.subject) if incident.subject else None
        code = ""
        if isinstance(pod, Pod) and pod.status.containers and pod.status.containers[0].exit_code is not None:
            code = f"exit {pod.status.containers[0].exit_code}"
        if incident.kind in DELETES:
            seen, unseen = "delete seen", "delete unseen"
        elif incident.kind in CRASHES:
            seen, unseen = code or "exit seen", "exit unseen"
        elif incident.kind == "hang":
            seen, unseen = "probe failed", "probes pass"
        else:
            seen, unseen = "running", "running"
        word = "noticed" if noticed is not None else "not noticed yet" if up else "stopped"
        state = seen if noticed is not None else unseen
        key = Key("Node", "", incident.kubelet)
        return Knower(f"{incident.kubelet} kubelet", key, noticed is not None, up, state, "", noticed, word)

    def _node_row(self, incident: Incident) -> Knower:
        """What the node controllers make of a node that fell silent, and how old its lease is meanwhile."""
        key, noticed = incident.subject or Key("Node", "", ""), incident.noticed_ns
        node, up = self._lab.store.get(key), self._lab.running("controller-manager")
        ready = node.ready if isinstance(node, Node) else "gone"
        state = {"True": "Ready", "False": "NotReady"}.get(ready, ready)
        age = self._lab.plane.node_life.lease_age_ns(key.name)
        if noticed is None and age is not None:
            state = f"lease {seconds_left(age, 0)}s"
        word = "noticed" if noticed is not None else "not noticed yet" if up else "stopped"
        known = noticed is not None
        if not known and ready != "True" and incident.kind != "deleteVM":
            known, state, word = True, ready, "knew before"
        return Knower("node controller", key, known, up, state, "", noticed, word)

    def _slice_of(self, service: Key) -> Key:
        """A slice of a Service, else the Service itself."""
        found = (
            obj.key for obj in self._lab.store.of_kind("EndpointSlice", service.namespace)
            if isinstance(obj, EndpointSlice) and obj.service == service
        )  # fmt: skip
        return next(found, service)

    def _slice_row(self, incident: Incident | None) -> Knower:
        up = self._lab.running("controller-manager")
        unlisted = incident is not None and incident.unlisted and incident.target is None
        concerned = incident is not None and not unlisted and (incident.kind in POD_ENDS or incident.awaited)
        written = incident.target_ns if incident and incident.config is None else None
        revision = self._lab.store.rules_revision(incident.target if incident else None)
        key = Key("EndpointSlice", "", "")
        if incident is not None and incident.services:
            key = self._slice_of(sorted(incident.services)[0])
        in_step = not concerned or written is not None
        waiting = "not written yet" if up else "stopped"
        word = "written" if written is not None else ("" if in_step and up else waiting)
        word = "not listed" if unlisted and up else word
        return Knower("EndpointSlice", key, in_step, up, f"rev {revision}", "", written, word)

    def _observer_rows(self, incident: Incident | None) -> list[Knower]:
        calling_now = self._lab.wiring.calling()
        rows = (self._observer_row(incident, each, calling_now) for each in self._lab.plane.observers.values())
        return [row for row in rows if row is not None]

    def _observer_row(
        self, incident: Incident | None, observer: Observer, calling_now: frozenset[str]
    ) -> Knower | None:  # fmt: skip
        calling = incident.calling if incident and incident.target else calling_now
        named = self._named(observer, calling, calling_now)
        if named is None:
            return None
        label, key, component = named
        up, off = self._up(observer, component), self._off(observer)
        # Beside the time at which it learned stands what it then knew, not what has come since.
        known = incident.learned_revision.get(observer.name, observer.revision) if incident else observer.revision
        calls = observer.name in calling
        learned = incident.learned.get(observer.name) if incident else None
        concerned = incident is not None and self._hears(observer, incident.proxied) and bool(
            (incident.kind in POD_ENDS and not incident.unlisted) or incident.awaited or incident.target is not None
        )  # fmt: skip
        proxy = observer.kind == "kube-proxy"
        newest = self._lab.plane.proxies.relevant if proxy else self._lab.store.last_rule_change
        current = observer.kind == "lb" or observer.revision >= newest
        in_step = learned is not None if concerned else current
        if learned is not None:
            moves = calls and incident and incident.config is None and learned == incident.moved_ns
            word = "in step"
            if moves and incident is not None:
                word = "none is left" if nobody_left(self._lab, incident) else "traffic moves"
        else:
            word = self._word(observer, in_step, up)
        return Knower(
            label, key, in_step, up, self._rules_words(observer, known), "callers here" if calls else "nobody calls",
            learned, word, self._lab.lost_by_observer.get(observer.name, 0), off,
        )  # fmt: skip

    # --- an observer ----------------------------------------------------------------------------------------------

    def _named(
        self, observer: Observer, calling: frozenset[str], calling_now: frozenset[str]
    ) -> tuple[str, Key, str] | None:  # fmt: skip
        """(its row's name, what selecting that shows, its component); None where it has no row."""
        if observer.kind == "kube-proxy":
            return f"{observer.node} rules", Key("Node", "", observer.node), observer.name
        if observer.kind == "ingress" and observer.name in calling_now:
            _, namespace, name = observer.name.split("/", 2)
            return f"{name} upstreams", Key("Pod", namespace, name), observer.name
        if observer.name.startswith("lb/") and observer.name in calling:
            # With IP targets the load balancer itself decides which pod is called.
            namespace, name = observer.name.split("/", 2)[1], observer.service
            return f"{name} IP targets", Key("Service", namespace, name), observer.name
        return None

    def _up(self, observer: Observer, component: str) -> bool:
        # A kube-proxy that is being replaced is not stopped: it will learn.
        return self._lab.running(component) and (observer.running or observer.kind == "kube-proxy")

    def _off(self, observer: Observer) -> bool:
        """Whether its node has no power: nobody is there who could learn, and nobody who could be led astray."""
        machine = self._lab.plane.core.machines.get(observer.node) if observer.node else None
        return machine is not None and not machine.powered

    def _rules_words(self, observer: Observer, known: int) -> str:
        if observer.configs:
            return self._lab.node_rules.words(observer)
        return f"rev {self._lab.store.rules_revision(known)}"

    @staticmethod
    def _word(observer: Observer, in_step: bool, up: bool) -> str:
        """Of an observer that has not learned."""
        if up and not observer.running:
            return "restarting"
        return "" if in_step else "stale" if up else "stopped"
