"""One running lab: the only loop in which control plane and traffic advance together.

`advance` lets the control plane run ahead to the end of a slab and hands the engine what it needs to know with its
instant: what an observer learned never cuts the slab, each flow compares its own time; a listener that changed does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kflab.cluster.ipam import Pins
from kflab.cluster.store import Store
from kflab.control.delays import Delays
from kflab.control.facts import FLOW_ENDS, NODE_CUTS, Fact, What
from kflab.control.plane import ControlPlane
from kflab.control.profiles import PROFILES
from kflab.control.waves import Wave
from kflab.dataplane.cni import CNI_PROFILES
from kflab.dataplane.packets import RequestTrace
from kflab.dataplane.proxy_config import ProxyConfig
from kflab.draws import Draws
from kflab.engine.bins import Count
from kflab.engine.engine import Engine
from kflab.engine.neighbours import Neighbours
from kflab.engine.types import Finished
from kflab.kubectl.ages import instant
from kflab.lab import applying, pruning
from kflab.lab.assumptions import modelling_assumptions, part_assumptions
from kflab.lab.autopsy import Autopsy
from kflab.lab.call_losses import CallLosses
from kflab.lab.calls import CallGraph
from kflab.lab.commands import (
    Command,
    Finding,
    Result,
)
from kflab.lab.conntrack import Conntrack
from kflab.lab.controllers import Controllers
from kflab.lab.counting import Counting
from kflab.lab.entries import OUTSIDE_CLIENT, Entries, Entry, describe_traffic
from kflab.lab.flow_ends import FlowEnds
from kflab.lab.gantt import Gantt
from kflab.lab.handle import Tab
from kflab.lab.journal import Journal
from kflab.lab.knowers import Knowers
from kflab.lab.knowledge import Knowing
from kflab.lab.news import Line, News
from kflab.lab.node_rules import NodeRules
from kflab.lab.obeying import Obeying
from kflab.lab.opened_calls import calls_for
from kflab.lab.preparing import made_for, timing_of
from kflab.lab.records import Sampler, Totals
from kflab.lab.retried import Attempts, attempts_before
from kflab.lab.rollouts import drained, progress
from kflab.lab.rulebook import RuleBook
from kflab.lab.script import Script
from kflab.lab.signals import LabSignals
from kflab.lab.snapshot import Knowledge, ShareGroup, Snapshot
from kflab.lab.sockets import Sockets
from kflab.lab.spec import HOST_GW, LabSpec
from kflab.lab.view import View
from kflab.lab.wiring import Wiring
from kflab.lab.world import LabWorld
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_pods import Pod
from kflab.manifest.write import to_yaml

if TYPE_CHECKING:
    from kflab.lab.reopening import Reopener
    from kflab.lab.single_requests import SingleRequests
    from kflab.lab.terminal import Terminal

SLAB_NS = 500_000_000
"""Longest slab. Results are the same for any length (a test says so); long ones cost less per request."""

CUTS = frozenset(
    {
        What.LISTENERS_CHANGED,
        What.ADDRESS_GONE,
        What.POD_LOST,
        What.NETWORK_REMOVED,
        What.PROCESS_HUNG,
        What.PROCESS_RESUMED,
        What.CONTAINER_EXITED,
        What.CONTAINER_COMPLETED,
    }
)
"""Facts that change what requests meet."""

SILENT_EVENTS = 10_000
"""Events without words that "next event" passes over at most."""


class Lab:
    """A cluster with traffic.

    Args:
        spec: Everything that decides the story.
        slab_ns: Longest slab; decides how fast the story is computed, never the story.
        traffic: False: nobody calls anything, for questions about rules alone.

    Raises:
        KflabError: If the manifests cannot be loaded or a client's URL leads nowhere.
    """

    def __init__(self, spec: LabSpec, slab_ns: int = SLAB_NS, *, traffic: bool = True) -> None:
        self.spec = spec
        self.slab_ns = slab_ns
        self.tabs: tuple[Tab, ...] = spec.tabs
        self.draws = Draws(spec.seed)
        loaded = applying.load_tabs(spec.tabs, spec.namespace)
        loaded.raise_errors()
        self.findings: tuple[Finding, ...] = tuple(applying.shown(found) for found in loaded.findings)
        self.last_applied = {document.key: document.tree for document in loaded.documents}
        self.store = Store()
        speed = PROFILES[spec.profile or "small"]
        self.delays = Delays().with_overrides(speed.delays).with_overrides(spec.delays)
        self.proxy = next((o for o in loaded.objects if isinstance(o, KubeProxyConfiguration)), None)
        self.cni = CNI_PROFILES[spec.cni]
        self.book = RuleBook(self.store, ProxyConfig.from_object(self.proxy), cni=self.cni)
        signals = LabSignals(self.store, self.book)
        pins = Pins(pod_ips=spec.pins.pod_ips, lb_ips=spec.pins.load_balancer_ips)
        self.plane = ControlPlane(
            self.store, self.draws, self.delays, pins, signals, self.proxy, spec.load_balancer, self.cni.follows_pod
        )
        signals.plane = self.plane
        self.book.follow(self.plane.proxies.configs)
        self.node_rules = NodeRules(
            self.store, self.plane, self.book, lambda node, t_ns: self.wiring.compiler.draining(node, t_ns)
        )
        extra, self.client_pod = made_for(spec, loaded.objects)
        self.plane.load((*loaded.objects, *extra.objects), loaded.observed_keys, cold=spec.cold)
        if not spec.cold:
            self.plane.settle()
        self.book.reset()
        timing = timing_of(spec, self.proxy)
        self.engine = Engine(self.draws, timing, [], [], n_places=len(self.store.keys("Node")), slab_ns=slab_ns)
        if spec.pod_network == HOST_GW:
            self.engine.steps.neighbours = Neighbours(self.draws.control_u64("neighbours", ""), timing)
        self.controllers = Controllers(self.store)
        self.wiring = Wiring(
            self.plane, self.book, self.engine, self.controllers, self.draws, self.lb_address, spec.kernel
        )
        signals.waits, signals.busy = self.wiring.index.wait_ns, self.wiring.index.busy_ns
        self.calls = CallGraph(self.store, spec)
        called = self.calls.called()
        self._entries = Entries(self.store, spec, self.controllers, self.client_pod, called, self.plane.albs)
        for entry in self._entries.find() if traffic else ():
            self.wiring.add(entry)
        if traffic:
            self.wiring.inner.follow(self.calls, 0)
        self.uncalled = self._entries.uncalled
        self.assumptions: tuple[tuple[str, str], ...] = (
            *part_assumptions(spec.part_of),
            *((f"{found.assumption}: {found.message}", f"write it: {found.place}") for found in loaded.assumptions),
            *extra.assumptions,
            *self.plane.assumptions,
            *((text, "") for text in self._entries.skipped),
            *self.calls.notes,
            *modelling_assumptions(self),
        )
        self.sockets = Sockets(self)
        self.autopsy = Autopsy(self)
        self.knowing = Knowing(
            self.store, self.plane.observers, self.autopsy.spreading, self._progress,
            self.plane.core.index.services_selecting, lambda: self.plane.proxies.relevant,
        )  # fmt: skip
        self.knowers = Knowers(self)
        self._call_losses = CallLosses(self.wiring.inner)
        self._attempts = Attempts()
        self.gantt = Gantt(self)
        self.sampler = Sampler(lambda one: calls_for(self, one), lambda one: attempts_before(self, one))
        self.totals = Totals()
        self.since_event = Totals()
        """Counted from the last change."""
        self.event_rows_ns = 0
        """When `since_event` and the shares began."""
        self.lost_by_observer: dict[str, int] = {}
        self.news = News()
        self.load_factor = 1.0
        self.script = Script(self, spec.actions)
        self.journal = Journal(spec)
        self.counting = Counting(self)
        self._prune_at_ns = pruning.EVERY_NS
        self._watchers: list[Callable[[Finished], None]] = []
        self.view = View(self)
        self.world = LabWorld(self)
        self.flow_ends = FlowEnds(self.wiring, self.engine)
        self.conntrack = Conntrack(self, self.proxy)
        self._obeying = Obeying(self)

    # --- time -----------------------------------------------------------------------------------------------

    @property
    def t_ns(self) -> int:
        """Simulated now."""
        return self.engine.now_ns

    @property
    def ended(self) -> bool:
        """Whether the scenario's duration is over."""
        return self.spec.duration_ns is not None and bool(self.spec.actions) and self.t_ns >= self.spec.duration_ns

    def advance(self, to_ns: int) -> None:
        """Let the lab run to an instant; actions of the scenario happen on their way."""
        while (action := self.script.take_due(to_ns)) is not None:
            self._run_to(max(action.t_ns, self.t_ns))
            self.script.carry_out(action)
        self._run_to(to_ns)

    def _run_to(self, to_ns: int) -> None:
        while self.t_ns < to_ns:
            stop = self.counting.next_stop(to_ns)
            while (due := self.plane.next_ns()) is not None and due <= stop:
                self.hear(self.plane.stride(stop if self.knowing.follows else 0))
            self.plane.advance_clock(stop)
            self._engine_to(stop)
            if stop >= self._prune_at_ns:
                self._prune_at_ns = (stop // pruning.EVERY_NS + 1) * pruning.EVERY_NS
                pruning.prune(self)

    def _engine_to(self, t_ns: int) -> None:
        self.engine.advance(t_ns)
        self.collect(t_ns)

    def collect(self, t_ns: int) -> None:
        """Take in what the engine has finished up to `t_ns`."""
        counted, answered = self.engine.take_counted()
        self.totals.ok += int(counted.sum())
        self.since_event.ok += int(counted.sum())
        self.view.add_answered(answered)
        rows = self.engine.take_finished()
        calls = self.engine.is_call(rows.stream)
        others = calls | (rows.extra["next_ns"] > 0)  # nobody's ends
        fronts, inner = (rows.only(~others), rows.only(others)) if others.any() else (rows, None)
        for totals in (self.totals, self.since_event):
            totals.add(fronts)
            totals.add_tries(inner)
        sent, again = (self.engine.bins.totals(what) for what in (Count.STREAM_SENT, Count.STREAM_AGAIN))
        self.totals.sent = int(sent[self.wiring.fronts()].sum())
        self.totals.attempts = self.totals.sent + int(again.sum())
        self.totals.in_flight = self.totals.sent - self.totals.ok - self.totals.failed - self.totals.gone
        self.sampler.add(rows, t_ns, calls)
        billed = rows if not self.wiring.inner.outer else self._call_losses.billed(rows, calls)
        self.autopsy.add(self._attempts.billed(billed))
        self.view.count(rows)
        self.conntrack.add(rows, t_ns)
        self._count_ingress(rows)
        for watcher in self._watchers:
            watcher(rows)

    def _count_ingress(self, rows: Finished) -> None:
        """Count requests per ingress server: the engine's bins know tries, and a client's connection is none."""
        through = rows.ingress >= 0
        answered = rows.status > 0
        for count, part in ((Count.SERVER_OK, through & answered), (Count.SERVER_BAD, through & ~answered)):
            self.engine.bins.add(count, rows.ingress[part].astype(np.int64), rows.finish_ns[part])

    def watch_rows(self, watcher: Callable[[Finished], None]) -> None:
        """Let somebody see every finished request from now on."""
        self._watchers.append(watcher)

    def next_event(self) -> Result:
        """Advance to the next control-plane event that says something, and stand right behind it."""
        seen = self.news.told
        for _ in range(SILENT_EVENTS):
            times = [t for t in (self.plane.next_ns(), self.script.next_ns) if t is not None]
            if not times:
                return Result(False, "nothing is due: no control-plane event lies ahead")
            self.advance(max(min(times), self.t_ns + 1))
            if self.news.told > seen:
                return Result(True, self.news.last_words)
        return Result(True, f"at {self.t_ns / 1e9:.3f} s")

    # --- facts ----------------------------------------------------------------------------------------------

    def hear(self, entries: Sequence[Fact | Wave]) -> None:
        """Take in what happened: tell the engine, the knowledge tracker, the journal's hash and the views."""
        facts, told = [entry for entry in entries if not isinstance(entry, Wave)], list[tuple[int, str, str]]()
        for entry in entries:
            if isinstance(entry, Wave):
                self.wiring.observers_learned(entry)
            else:
                self._hear_one(entry)
                told += self.wiring.clients.hear(entry, cuts=entry.what in CUTS)
        self.news.hear(entries)
        for line in told:
            self.news.say(*line)
        if any(fact.what is What.APPLIED and fact.subject.kind == "LoadBalancer" for fact in facts):
            self.wiring.fronts_changed(facts[-1].t_ns)
        if any(self._structural(fact) for fact in facts):
            self.wiring.topology_changed(facts[-1].t_ns)
        if any(
            fact.what in (What.APPLIED, What.LB_TARGETS_CHANGED)
            or (fact.what is What.POD_STATUS_WRITTEN and fact.subject == self.client_pod)
            for fact in facts
        ):
            self._discover(facts[-1].t_ns)
            self._follow_calls(facts[-1].t_ns)
        for line in self.sockets.hear(entries):
            self.news.say(*line)
            self.knowing.mark(line[0], "cut", f"{line[1]}: {line[2]}")
        self.autopsy.hear(entries)
        self.knowing.hear(entries, self.wiring.callers_of, self.plane.now_ns)

    def _hear_one(self, fact: Fact) -> None:
        self.world.hear(fact)
        if fact.what in CUTS:
            self.wiring.pod_changed(fact.subject, fact.t_ns)
        if fact.what is What.MACHINE_OFF:
            self.conntrack.machine_off(fact.subject.name, fact.t_ns)
        if fact.what in FLOW_ENDS:
            self.flow_ends.hear(fact)
        if fact.what in NODE_CUTS:
            self.wiring.node_changed(fact.subject.name, fact.t_ns)
        if fact.what in (What.RULES_SYNCED, What.RULES_REMOVED, What.LB_TARGETS_CHANGED):
            self.wiring.observer_learned(fact.subject.name, fact.t_ns)

    def _structural(self, fact: Fact) -> bool:
        """Whether nodes or ingress pods may have come or gone."""
        if fact.what in (What.CONTAINER_STARTED, What.POD_STATUS_WRITTEN, What.POD_REMOVED):
            return self.controllers.is_pod(fact.subject)
        return fact.what is What.NODE_REMOVED or (fact.what is What.APPLIED and fact.subject.kind == "Node")

    def _follow_calls(self, t_ns: int) -> None:
        """Let pods call, from `t_ns` on, what the manifests name now."""
        if not self.wiring.wired or self.calls.spec.calls == "none":
            return
        old, self.calls = self.calls.notes, CallGraph(self.store, self.spec, at_start=False)
        self.wiring.inner.follow(self.calls, t_ns)
        self.assumptions = (*(known for known in self.assumptions if known not in old), *self.calls.notes)

    def _discover(self, t_ns: int) -> None:
        """From `t_ns` on, send traffic to entry points that an apply has added, at the rate of the others."""
        if self.spec.clients or self.spec.url:
            return
        known = {wired.entry.identity for wired in self.wiring.wired}
        outside = [wired.entry.rate_rps for wired in self.wiring.wired if not wired.entry.inside]
        called = self.calls.called()
        fresh = Entries(self.store, self.spec, self.controllers, self.client_pod, called, self.plane.albs)
        for entry in fresh.find():
            if entry.identity not in known:
                rate = entry.rate_rps if entry.kind == "pod" or not outside else outside[0]
                self.wiring.add(replace(entry, index=len(self.wiring.wired), rate_rps=rate), t_ns)
                if self.load_factor != 1.0:
                    self.wiring.set_rate(self.wiring.wired[-1], rate * self.load_factor, self.engine.now_ns)
        self.uncalled = fresh.uncalled

    def say(self, who: str, what: str) -> None:
        """Say something now."""
        self.news.say(self.t_ns, who, what)

    @property
    def facts(self) -> list[Fact]:
        """The newest facts."""
        return self.news.facts

    def take_lines(self) -> list[Line]:
        """(time, who, what) of everything since the last call, for the plain player."""
        return self.news.take_lines()

    def take_facts(self) -> list[Fact]:
        """Facts since the last call."""
        return self.news.take_facts()

    def do(self, command: Command) -> Result:
        """Carry out a command now. Bad ones are answered, not raised."""
        recorded = len(self.journal.actions)
        result = self._obeying.do(command)
        if len(self.journal.actions) > recorded:
            self.counting.interrupt()
        return result

    def begin(self, kind: str, subject: Key | None, what: str, kubelet: str, revision: int) -> None:
        """Something was changed after a store revision: follow who learns of it, and count anew."""
        config = len(self.plane.proxies.configs) - 1 if kind == "mode" else None
        self.knowing.open(self.t_ns, kind, subject, what, kubelet, revision, config)
        self.gantt.begin(self.t_ns, kind, subject, what)
        self.since_event = Totals()
        self.event_rows_ns = self.t_ns
        self.lost_by_observer = {}
        self.view.restart_counts()

    # --- questions ------------------------------------------------------------------------------------------

    def _progress(self, key: Key) -> str:
        """What a rollout or drain still waits for; "" when it is over."""
        return drained(*self.plane.drains.left(key.name)) if key.kind == "Node" else progress(self.store.get(key))

    def workload_of(self, pod: Pod) -> Key | None:
        """The workload a pod belongs to: the Deployment behind its ReplicaSet, its StatefulSet or DaemonSet."""
        owner = pod.meta.owner
        if owner is not None and owner.kind == "ReplicaSet":
            parent = self.store.get(owner)
            if parent is not None and parent.meta.owner is not None:
                return parent.meta.owner
        return owner

    def running(self, component: str) -> bool:
        """Whether a component runs ("apiserver", "kube-proxy/NODE", "kubelet/NODE"); others always do."""
        return component not in self.plane.core.stopped

    def locate(self, key: Key) -> tuple[str, int] | None:
        """Where an object, or the workload that made it, is written."""
        obj: KubeObject | None = self.store.get(key)
        for _ in range(4):
            if obj is None:
                return None
            if obj.place is not None:
                return obj.place.file, obj.place.line
            if obj.meta.owner is None:
                return None
            obj = self.store.get(obj.meta.owner)
        return None

    def lb_address(self, service: Key) -> str:
        """The address clients of a load balancer connect to.

        AWS publishes a host name in the Service's status; the address is the A record behind it, so no rule carries it.
        """
        pinned = self.spec.pins.load_balancer_ips.get(f"{service.namespace}/{service.name}")
        obj = self.store.get(service)
        if pinned or not isinstance(obj, Service):
            return pinned or ""
        balancer = self.plane.balancers.get(service)
        given = next((entry.ip for entry in obj.load_balancer if entry.ip), "")
        return given or (balancer.ips[0] if balancer and balancer.ips else "")

    def client_address(self) -> str:
        """Address of the client outside the cluster."""
        return self.spec.clients[0].address if self.spec.clients else OUTSIDE_CLIENT

    def live_yaml(self, key: Key) -> str:
        """The object as the API server has it now."""
        obj = self.store.get(key)
        return to_yaml(obj, instant(0)) if obj is not None else f"# {key}: no such object any more\n"

    def rules_text(self, node: str, t_ns: int | None = None) -> str:
        """The rules in force on a node at an instant (None: now), as its mode's own tool prints them.

        Raises:
            KflabError: If there is no such node.
        """
        return self.node_rules.text(node, self.t_ns if t_ns is None else t_ns)

    # Imported when somebody first asks: a lab whose requests nobody opens starts without.

    @cached_property
    def terminal(self) -> "Terminal":
        """The command line."""
        from kflab.lab.terminal import Terminal

        return Terminal(self)

    @cached_property
    def reopener(self) -> "Reopener":
        """Requests that happened, opened."""
        from kflab.lab.reopening import Reopener

        return Reopener(self)

    @cached_property
    def singles(self) -> "SingleRequests":
        """Requests that somebody sent one by one."""
        from kflab.lab.single_requests import SingleRequests

        return SingleRequests(self)

    def completions(self, line: str) -> tuple[str, ...]:
        """Completions of a command line."""
        from kflab.kubectl.complete import completions

        return completions(line, self.store, self.spec.namespace)

    def open_request(self, trace_id: int) -> RequestTrace:
        """The very request that happened, with the calls that were made for it.

        Raises:
            KflabError: If it is too old to be opened.
        """
        return self.reopener.open(trace_id)

    def run_words(self, words: Sequence[str]) -> Result:
        """A kubectl command line, already split."""
        return self.terminal.run_words(words)

    def entries(self) -> list[Entry]:
        """What sends requests."""
        return [wired.entry for wired in self.wiring.wired]

    def traffic_lines(self) -> list[str]:
        """What sends requests where, in words."""
        return describe_traffic(self.entries(), self.uncalled)

    def percentiles(self, from_ns: int, to_ns: int) -> tuple[int | None, int | None]:
        """p50 and p99 of the latency of requests that finished in [from, to), ns."""
        found = self.engine.window(from_ns, to_ns)
        return found.p50_ns, found.p99_ns

    def knowledge(self) -> Knowledge:
        """Who knows of the last change."""
        return self.view.knowledge()

    def shares(self) -> tuple[ShareGroup, ...]:
        """Connections against expected shares."""
        return self.view.shares()

    def snapshot(self) -> Snapshot:
        """Everything a face shows."""
        return self.view.snapshot()

    def call_counts(self) -> list[tuple[str, int, int, int]]:
        """(who → whom, calls sent, ok, failed) since the start, in the order in which callers make them."""
        bins = self.engine.bins
        counts: dict[str, list[int]] = {}
        columns = [bins.totals(what) for what in (Count.STREAM_SENT, Count.STREAM_OK, Count.STREAM_FAILED)]
        for wired in self.wiring.inner.callers():
            have = counts.setdefault(wired.entry.label, [0, 0, 0])
            for i, column in enumerate(columns):
                have[i] += int(column[wired.entry.index])
        return [(label, sent, ok, failed) for label, (sent, ok, failed) in counts.items()]

    def digest(self) -> str:
        """Hash of every fact and every finished request so far."""
        return self.news.digest(self.engine.digest().encode())
