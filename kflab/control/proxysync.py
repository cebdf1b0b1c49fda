"""kube-proxy on every node: when it syncs, and which revision its rules are then made from.

Changes go through the bounded-frequency runner: at once when the last run is a second ago (or one of two tokens is
left), else a second after the last run ended; never a debounce. With proxy_burst 1, as from 1.34 on, a second always
lies between the end of a run and the next. Source: k8s.io/kubernetes pkg/util/async/bounded_frequency_runner.go as of
1.33, pkg/proxy/runner/bounded_frequency_runner.go, pkg/proxy/iptables/proxier.go; lifecycle 1.4.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core, address_of
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.lbsync import LbSync
from kflab.control.names import number_of
from kflab.control.observers import FAR_PAST, NO_RULES, Observer
from kflab.control.proxycrowd import Crowd, Proxy
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.manifest.objects_network import EndpointSlice, LoadBalancerIngress, Service
from kflab.records import dataclass
from kflab.replacing import replace

CROWD = 32
"""With fewer kube-proxies than this each is followed by itself; the results are the same."""

SMALL, LARGE = 100, 5000
"""Numbers of Services for which sync times are given."""

IPTABLES_BASED = ("iptables", "ipvs")
"""Modes that share chain names, so that neither cleans up after the other (k/k cmd/kube-proxy/app/server_linux.go,
isIPTablesBased)."""

PLAUSIBLE_NS = 60_000_000_000
"""Rules of a settled cluster were last written within the last minute before t = 0 (M)."""


@dataclass(frozen=True, slots=True)
class ProxySynced(Event):
    """A sync run has ended: the rules are in the kernel."""

    room: ClassVar[str] = "proxysync"
    node: str
    started_ns: int
    life: int
    full: bool = False


@dataclass(frozen=True, slots=True)
class ProxyReady(Event):
    """A started kube-proxy has filled its caches."""

    room: ClassVar[str] = "proxysync"
    needs_api: ClassVar[bool] = True
    node: str
    life: int
    full: bool = True
    """False: its watch only came back."""

    @property
    def actor(self) -> str:
        """The kube-proxy."""
        return f"kube-proxy/{self.node}"


@dataclass(frozen=True, slots=True)
class ProxyBoots(Event):
    """After a reboot the kubelet has started kube-proxy's pod again."""

    room: ClassVar[str] = "proxysync"
    node: str
    life: int


@dataclass(frozen=True, slots=True)
class CrowdSynced(Event):
    """The next sync run in the crowd has ended."""

    room: ClassVar[str] = "proxysync"
    end_ns: int
    number: int


class ProxySync(Controller):
    """All kube-proxies."""

    room = "proxysync"
    kinds = ("Service", "EndpointSlice")

    def __init__(self, core: Core, lb: LbSync) -> None:
        super().__init__(core)
        self.lb = lb
        self.proxies: dict[str, Proxy] = {}
        self.relevant = 0
        """Revision of the newest change that kube-proxies sync for."""
        self.relevant_ns = FAR_PAST
        self.configs: list[KubeProxyConfiguration | None] = [None]
        """Every configuration there was, by number; None: kube-proxy's defaults. A process reads the last at start."""
        self._intervals = [core.spans["proxy_min_sync_s"][0]]
        self.crowd = Crowd()
        self._alone: dict[str, None] = {}
        """Nodes whose kube-proxy is not in the crowd."""
        self._place_of: dict[str, int] = {}
        """Of nodes that are not in the crowd: place of the run for the change in hand."""
        self._order: tuple[dict[str, int], NDArray[np.int64]] = {}, np.empty(0, dtype=np.int64)
        """Where each node stands among all, by name and by row of the crowd; made anew when nodes come or go."""
        self._expected: dict[tuple[int, int], None] = {}
        """Instants and numbers of the events that are due for the crowd."""

    def configure(self, config: KubeProxyConfiguration | None) -> None:
        """What kube-proxies read when they start; before t = 0 all have read it.

        A scenario's `proxy_min_sync_s` overrides the configuration's minSyncPeriod.
        """
        interval = self.core.spans["proxy_min_sync_s"][0]
        if config is not None and self.core.delays.proxy_min_sync_s == 1.0:
            interval = round(config.min_sync_s * 1e9)
        if self.core.quiet:
            self.configs[-1], self._intervals[-1] = config, interval
        else:
            self.configs.append(config)
            self._intervals.append(interval)

    def mode(self, number: int) -> str:
        """The mode of a configuration, by its number."""
        config = self.configs[number]
        return config.mode if config is not None and config.mode else "iptables"

    def add_node(self, node: str) -> None:
        """A node has a kube-proxy; after t = 0 it starts now."""
        if node in self.proxies:
            return
        observer = Observer(f"kube-proxy/{node}", "kube-proxy", node)
        self.core.observers[observer.name] = observer
        subject, said = Key("Observer", "", observer.name), f"kube-proxy on {node} wrote new rules"
        self.proxies[node] = Proxy(observer, number_of(node), subject, said)
        self._alone[node] = None
        self._order = {}, np.empty(0, dtype=np.int64)
        if not self.core.quiet:
            self._begin(self.proxies[node])

    def remove_node(self, node: str) -> None:
        """The node is gone."""
        proxy = self.proxies.get(node)
        if proxy is not None:
            self._leave(node)
            del self.proxies[node], self._alone[node]
            self._order = {}, np.empty(0, dtype=np.int64)
            proxy.observer.running = False
            name = proxy.observer.name
            self.core.observers.pop(name, None)
            self.core.former[name] = (*self.core.former.get(name, ()), (self.core.now_ns, proxy.observer))

    # --- changes --------------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Wake every kube-proxy for a change that its trackers do not ignore."""
        if not matters(change.old, change.new):
            return
        self.relevant, self.relevant_ns = change.revision, self.core.now_ns
        if self.core.quiet:
            return
        core, now = self.core, self.core.now_ns
        self._gather()
        crowd, known = self.crowd, len(self.crowd.members)
        alone = [(node, self.proxies[node]) for node in self._alone]
        alone = [(node, proxy) for node, proxy in alone if proxy.observer.running and not proxy.cut]
        numbers = np.concatenate((crowd.numbers, np.array([proxy.number for _, proxy in alone], dtype=np.int64)))
        waits, lengths = self._draw(address_of(change.key), numbers)
        places = self._places(known)
        if known:
            arrivals, takes = now + waits[:known], self._slowed(lengths[:known])
            if core.has_reconnects:
                back = [core.reconnected_ns(proxy.observer.name) for proxy in crowd.members]
                arrivals = np.maximum(arrivals, np.array(back, dtype=np.int64))
            intervals = np.array(self._intervals, dtype=np.int64)[crowd.config]
            crowd.hear(now, change.revision, arrivals, takes, intervals, self._burst(), places)
            self._expect()
        own = zip(alone, waits[known:].tolist(), lengths[known:].tolist(), strict=True)
        for (node, proxy), wait, length in own:
            arrival = now + wait
            if core.has_reconnects:
                arrival = max(arrival, core.reconnected_ns(proxy.observer.name))
            if arrival < proxy.last_arrival:
                arrival = proxy.last_arrival
            proxy.last_arrival = arrival
            proxy.inbox.append((arrival, change.revision))
            if arrival > proxy.run_start:
                self._plan(node, proxy, arrival, length, number=self._place_of.get(node))

    # --- the crowd ------------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Let everybody join the crowd who has nothing in hand."""
        if not self._alone or len(self.proxies) < CROWD:
            return
        calm = [node for node in self._alone if self._calm(self.proxies[node])]
        for node in calm:
            del self._alone[node]
        if calm:
            self.crowd.join([self.proxies[node] for node in calm])

    def _calm(self, proxy: Proxy) -> bool:
        """Whether a kube-proxy only waits for changes."""
        observer = proxy.observer
        return (
            observer.running and proxy.ready and not proxy.cut and not proxy.inbox
            and proxy.run_end < self.core.now_ns and observer.config == proxy.config and bool(observer.versions)
        )  # fmt: skip

    def _leave(self, node: str) -> None:
        """Something else than a change befalls a kube-proxy: follow it by itself."""
        proxy = self.proxies[node]
        if not proxy.joined:
            return
        self._alone[node] = None
        for end_ns, number, start_ns in self.crowd.leave(proxy):
            self.core.heap.push_at_place(end_ns, number, ProxySynced(node, start_ns, proxy.life))
        self._expect()  # the event that was due may have been for one of these runs

    def _places(self, known: int) -> NDArray[np.int64]:
        """Numbers for the events of this change's runs, in the order of the nodes; shape (known,)."""
        self._place_of = {}
        if not self._alone:
            return self.core.heap.places(known) + np.arange(known, dtype=np.int64)
        first = self.core.heap.places(len(self.proxies))
        if (len(self._order[0]), len(self._order[1])) != (len(self.proxies), known):
            order = {node: place for place, node in enumerate(self.proxies)}
            rows = [order.get(proxy.observer.node, 0) for proxy in self.crowd.members]
            self._order = order, np.array(rows, dtype=np.int64)
        order, by_row = self._order
        self._place_of = {node: first + order[node] for node in self._alone}
        return first + by_row

    def _slowed(self, takes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Lengths of the crowd's runs, with what slow kube-proxies need more."""
        for name, extra in self.core.slow.items():
            proxy = self.proxies.get(name.partition("kube-proxy/")[2])
            if proxy is not None and proxy.joined:
                takes = takes.copy()
                takes[proxy.row] += extra
        return takes

    def _burst(self) -> int:
        return max(1, int(self.core.delays.proxy_burst))

    def _expect(self) -> None:
        """Have an event for the crowd's next run."""
        following = self.crowd.next_run()
        if following is not None and following not in self._expected:
            self._expected[following] = None
            self.core.heap.push_at_place(*following, CrowdSynced(*following))

    def _crowd_synced(self, event: CrowdSynced) -> None:
        """Runs in the crowd have ended: the next one, and those after it before anything else happens."""
        del self._expected[event.end_ns, event.number]
        if self.crowd.next_run() != (event.end_ns, event.number):
            return  # its kube-proxy left the crowd
        core, members = self.core, self.crowd.members
        quiet = self.lb.all_seen(self.crowd.oldest())
        until = max(core.now_ns, core.ahead_ns) if quiet else core.now_ns
        taken = self.crowd.take(until, core.heap.head())
        if quiet:
            core.facts.append(self.crowd.learn(taken))
        for i in () if quiet else range(len(taken.row)):
            one = taken.picked(slice(i, i + 1))
            observer = members[int(one.row[0])].observer
            before = observer.revision
            core.facts.append(self.crowd.learn(one))
            self.lb.proxy_synced(observer.node, before, observer.revision)
        core.now_ns = int(taken.end_ns[-1])
        self._expect()

    # --- one kube-proxy -------------------------------------------------------------------------------------

    def _draw(self, changed: str, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Watch delay and length of a sync for every proxy, in ns.

        The address of each pair is (changed object, node, how often the object changed): one array for all nodes,
        as five thousand of them wake for every change.
        """
        spans, tables = self.core.spans, self.core.tables
        n = self.core.next_draw("kube-proxy", changed)
        words = self.core.draws.rows(number_of(f"kube-proxy {changed}"), numbers, n)[:, 0]
        half = np.uint64(32)
        waits = _drawn(words >> half, spans["proxy_watch_s"], tables.get("proxy_watch_s"))
        waits = waits + self.core.slower_ns("proxy_watch_s")
        lengths = _drawn(words & np.uint64(0xFFFFFFFF), self._sync_span(), tables.get("proxy_sync_s"))
        return waits, lengths

    def _sync_span(self) -> tuple[int, int]:
        """Length of a sync for the present number of Services, as (low, high) in ns.

        A distribution is taken as it is: whoever gives one has the cluster's size in mind.
        """
        if "proxy_sync_s" in self.core.tables:
            return self.core.spans["proxy_sync_s"]
        small, large = self.core.spans["proxy_sync_s"], self.core.spans["proxy_sync_large_s"]
        above = max(0, self.core.store.count("Service") - SMALL)
        low, high = (s + (g - s) * above // (LARGE - SMALL) for s, g in zip(small, large, strict=True))
        return low, high

    def _plan(
        self, node: str, proxy: Proxy, asked_ns: int, takes_ns: int, *, full: bool = False, number: int | None = None
    ) -> None:
        """Plan the run that carries a change which no planned run carries yet; `number`: its place in its instant."""
        burst = self._burst()
        takes_ns += self.core.slow.get(proxy.observer.name, 0)
        interval = self._intervals[proxy.config]
        earliest = max(asked_ns, proxy.run_end)
        token_ns = proxy.bucket - (burst - 1) * interval
        if earliest < token_ns:
            # No token: the runner's timer fires one interval after the last run ended.
            earliest = max(token_ns, proxy.run_end + interval)
        proxy.run_start, proxy.run_end = earliest, earliest + takes_ns
        # Without a burst, as from 1.34 on, the wait begins when a run has ended (k/k pkg/proxy/runner).
        proxy.bucket = max(proxy.bucket, earliest if burst > 1 else proxy.run_end) + interval
        run = ProxySynced(node, earliest, proxy.life, full)
        if number is None:
            self.core.push_at(proxy.run_end, run)
        else:
            self.core.heap.push_at_place(max(proxy.run_end, self.core.now_ns), number, run)

    def handle(self, event: Event) -> None:
        """Rules are written, or a process is ready for its first sync."""
        if isinstance(event, CrowdSynced):
            self._crowd_synced(event)
        elif isinstance(event, ProxySynced):
            proxy = self.proxies.get(event.node)
            if proxy is not None and proxy.life == event.life:
                self._synced(event, proxy)
        elif isinstance(event, ProxyReady):
            proxy = self.proxies.get(event.node)
            if proxy is not None and proxy.life == event.life and self.core.talks(event.node):
                self._filled(event, proxy)
        elif isinstance(event, ProxyBoots):
            proxy = self.proxies.get(event.node)
            if proxy is not None and proxy.life == event.life and proxy.observer.name not in self.core.stopped:
                self._begin(proxy)

    def _filled(self, event: ProxyReady, proxy: Proxy) -> None:
        """The caches are full, or up to date again."""
        now, full = self.core.now_ns, event.full or not proxy.ready
        proxy.cut, proxy.ready = False, True
        if not full and proxy.observer.revision >= self.relevant:
            return
        proxy.inbox = [(now, max(self.relevant, 1))]
        proxy.last_arrival = now
        self._plan(event.node, proxy, now, self._sync_span()[1], full=full)

    def _synced(self, event: ProxySynced, proxy: Proxy) -> None:
        carried = 0
        while carried < len(proxy.inbox) and proxy.inbox[carried][0] <= event.started_ns:
            carried += 1
        if not carried:
            return
        revision = proxy.inbox[carried - 1][1]
        del proxy.inbox[:carried]
        observer = proxy.observer
        before = observer.revision
        observer.learn(self.core.now_ns, revision)
        how = "wrote all rules anew" if event.full else "wrote new rules"
        if observer.config != proxy.config:
            if observer.config == NO_RULES or self.mode(proxy.config) != self.mode(observer.config):
                how += f" in {self.mode(proxy.config)} mode"
            observer.configure(self.core.now_ns, proxy.config)
        self.core.fact(
            What.RULES_SYNCED, Key("Observer", "", observer.name), observer.name,
            f"kube-proxy on {event.node} {how}", revision,
        )  # fmt: skip
        self.lb.proxy_synced(event.node, before, revision)

    # --- stop and start -------------------------------------------------------------------------------------

    def stop(self, node: str) -> None:
        """The process ends; its rules stay in the kernel."""
        self._leave(node)
        proxy = self.proxies[node]
        proxy.observer.running = False
        proxy.life += 1
        proxy.inbox.clear()
        proxy.run_start = proxy.run_end = proxy.bucket = proxy.last_arrival = FAR_PAST
        self.lb.proxy_changed(node)

    def cut_off(self, node: str) -> None:
        """The process loses the API server: what is on its way does not arrive, its rules stay as they are."""
        proxy = self.proxies.get(node)
        if proxy is not None:
            self._leave(node)
            now = self.core.now_ns
            proxy.cut = True
            proxy.inbox = [(arrival, revision) for arrival, revision in proxy.inbox if arrival <= now]
            proxy.last_arrival = min(proxy.last_arrival, now)

    def reconnected(self, node: str, t_ns: int) -> None:
        """The API server can be reached again; the watch comes back at `t_ns`."""
        proxy = self.proxies.get(node)
        if proxy is not None and proxy.observer.running:
            self._leave(node)
            self.core.push_at(t_ns, ProxyReady(node, proxy.life, full=False))

    def rebooted(self, node: str) -> None:
        """A new kernel has no rules; kube-proxy's pod starts like any other."""
        self._leave(node)
        proxy = self.proxies[node]
        self.core.fact(
            What.RULES_REMOVED, Key("Observer", "", proxy.observer.name), f"node {node}",
            f"node {node} rebooted: kube-proxy's rules are gone until its first sync",
        )  # fmt: skip
        proxy.observer.configure(self.core.now_ns, NO_RULES)
        wait = self.core.delay("sandbox_s", proxy.observer.name) + self.core.delay(
            "container_start_s", proxy.observer.name
        )
        self.core.push(wait, ProxyBoots(node, proxy.life))

    def start(self, node: str) -> None:
        """A new process: reads the configuration, fills its caches, then a full sync."""
        self._leave(node)
        self._begin(self.proxies[node])

    def _begin(self, proxy: Proxy) -> None:
        proxy.observer.running, proxy.ready, proxy.cut = True, False, not self.core.talks(proxy.observer.node)
        proxy.config = len(self.configs) - 1
        node = proxy.observer.node
        self._clean_up(node, proxy)
        self.core.push(self.core.delay("proxy_start_s", f"kube-proxy/{node}"), ProxyReady(node, proxy.life))
        self.lb.proxy_changed(node)

    def _clean_up(self, node: str, proxy: Proxy) -> None:
        """What a starting kube-proxy removes before it does anything else.

        nftables mode removes what iptables and IPVS mode left, and these remove nftables' table: at once, not when
        their own rules are there. iptables and IPVS mode share chains and leave each other's alone (k/k
        cmd/kube-proxy/app/options.go Run, server_linux.go platformCleanup; pkg/proxy/*/proxier.go CleanupLeftovers).
        """
        observer, now = proxy.observer, self.core.now_ns
        if not observer.configs and not proxy.config:
            return  # never reconfigured
        found, mode = observer.config, self.mode(proxy.config)
        key = Key("Observer", "", observer.name)
        if not observer.versions or found == NO_RULES or self.mode(found) == mode:
            self.core.fact(What.PROXY_STARTED, key, observer.name, f"kube-proxy on {node} started in {mode} mode")
            return
        old = self.mode(found)
        if (old in IPTABLES_BASED) == (mode in IPTABLES_BASED):
            text = f"kube-proxy on {node} started in {mode} mode; until its first sync {old} mode's rules stay"
            self.core.fact(What.PROXY_STARTED, key, observer.name, text)
            return
        observer.configure(now, NO_RULES)
        text = f"kube-proxy on {node} started in {mode} mode and removed {old} mode's rules; none until its first sync"
        self.core.fact(What.RULES_REMOVED, key, observer.name, text)

    def finish_settling(self) -> None:
        """Bring all kube-proxies to the newest revision; nobody saw what they did before t = 0."""
        now = self.core.now_ns
        earliest = max(now - PLAUSIBLE_NS, min(self.relevant_ns, now - 1_000_000_000))
        for node, proxy in self.proxies.items():
            if proxy.observer.running:
                t_ns = self.core.draws.control_between("rules-written", node, 0, earliest, now)
                proxy.observer.learn(t_ns, self.relevant)
        self._gather()


def _drawn(
    bits: NDArray[np.uint64], span: tuple[int, int], table: NDArray[np.int64] | None
) -> NDArray[np.int64]:  # fmt: skip
    """Durations of 32 random bits each, shape (n,), in ns: uniform in a span, or by a distribution's table."""
    if table is not None:
        found: NDArray[np.int64] = table[(bits >> np.uint64(16)).astype(np.int64)]
        return found
    low, high = span
    return (bits * np.uint64(high - low + 1) >> np.uint64(32)).astype(np.int64) + low


def matters(old: KubeObject | None, new: KubeObject | None) -> bool:
    """Whether kube-proxy's change trackers see a difference.

    Source: k8s.io/kubernetes pkg/proxy/servicechangetracker.go, endpointschangetracker.go.
    """
    obj = new or old
    if isinstance(obj, EndpointSlice):
        # The informer leaves out slices of headless Services (cmd/kube-proxy/app/server.go).
        if "service.kubernetes.io/headless" in obj.meta.labels:
            return False
        if isinstance(old, EndpointSlice) and isinstance(new, EndpointSlice):
            return (old.endpoints, old.ports, old.service) != (new.endpoints, new.ports, new.service)
        return bool(obj.endpoints)
    if isinstance(obj, Service):
        return _rules_of(old) != _rules_of(new)
    return False


def _rules_of(service: KubeObject | None) -> Service | None:
    """A Service reduced to what rules are made from; None when it has none."""
    if (
        not isinstance(service, Service)
        or service.headless
        or service.type == "ExternalName"
        or not service.cluster_ips
    ):
        return None
    ips = tuple(LoadBalancerIngress(e.ip, "", e.ip_mode) for e in service.load_balancer if e.ip)
    meta = replace(service.meta, labels={}, annotations={}, generation=0, uid="", creation_ns=0)
    return replace(service, meta=meta, load_balancer=ips, selector={}, place=None, raw=None)
