"""Ingress controllers: when NGINX acts on what the controller saw.

A change reaches the informer, waits for the sync rate limiter (0.3/s, burst 1), is posted to NGINX and picked up at
the Lua timer's next tick; a change of routes reloads NGINX instead. A certificate is posted too, but Lua looks it up
anew at each handshake. One sync runs at a time, a reload included. After a reload the old workers accept nothing more
and end with their last connection, at the latest after worker-shutdown-timeout. Source: kubernetes/ingress-nginx
internal/ingress/controller/nginx.go, controller.go syncIngress, internal/task/queue.go, rootfs/etc/nginx/lua/
balancer.lua, certificate.lua; lifecycle 1.8.
"""

from dataclasses import field, replace
from enum import IntFlag
from functools import reduce
from operator import or_
from typing import ClassVar

from kflab.cluster.checkpoint import Mutable
from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.ingressclass import ControllerIdentity, recognise, serves
from kflab.control.observers import Observer
from kflab.manifest.objects import Key, KubeObject
from kflab.manifest.objects_config import ConfigMap
from kflab.manifest.objects_network import Ingress, IngressClass, Service
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

FAR_PAST = -(10**18)

RELOADING = frozenset({"Ingress", "IngressClass", "ConfigMap"})
"""Kinds whose change makes a new nginx.conf; endpoints, Services and certificates go through Lua."""

SECRETS = ("auth-secret", "auth-tls-secret", "proxy-ssl-secret")
"""Annotations of an Ingress that name a Secret whose content becomes part of nginx.conf."""


class Brings(IntFlag):
    """What of NGINX a change is about."""

    ENDPOINTS = 1
    CERTIFICATES = 2
    ROUTES = 4
    """A new nginx.conf: NGINX reloads."""
    NOTHING = 8
    """A sync runs and finds NGINX configured as it should be."""


@dataclass(frozen=True, slots=True)
class SyncIngress(Event):
    """The rate limiter lets a sync run."""

    room: ClassVar[str] = "ingresssync"
    pod: Key
    life: int


@dataclass(frozen=True, slots=True)
class NginxLearned(Event):
    """NGINX routes by a new revision from now on."""

    room: ClassVar[str] = "ingresssync"
    pod: Key
    life: int
    revision: int
    brings: Brings


@dataclass(frozen=True, slots=True)
class OldWorkersEnd(Event):
    """worker-shutdown-timeout is over for the workers from before a reload."""

    room: ClassVar[str] = "ingresssync"
    pod: Key
    life: int
    reloaded_ns: int


@dataclass(frozen=True, slots=True)
class WriteIngressStatus(Event):
    """The leader writes addresses into the status of its Ingresses."""

    room: ClassVar[str] = "ingresssync"
    needs_api: ClassVar[bool] = True


@dataclass(slots=True)
class IngressPod(Mutable):
    """One controller pod."""

    observer: Observer
    identity: ControllerIdentity
    starts: int = 0
    life: int = 0
    inbox: list[tuple[int, int, Brings]] = field(default_factory=list)
    """(when the informer has it, revision, what it is about), ascending."""
    missed: tuple[int, Brings] | None = None
    """While its controller is stopped: newest revision it has not heard of, and what all of them are about."""
    last_arrival: int = FAR_PAST
    planned: int = FAR_PAST
    next_token: int = FAR_PAST
    busy_ns: int = FAR_PAST
    """Until when a sync runs."""
    effective: int = FAR_PAST


class IngressSync(Controller):
    """All ingress controller pods."""

    room = "ingresssync"
    kinds = ("Service", "EndpointSlice", "Ingress", "IngressClass", "ConfigMap", "Secret")

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.pods: dict[Key, IngressPod] = {}
        self._status_due = False

    # --- who is there ---------------------------------------------------------------------------------------

    def ground_changed(self, key: Key) -> None:
        """A controller's process started or ended."""
        pod = self.core.store.get(key)
        known = self.pods.get(key)
        if known is None:
            identity = recognise(pod.spec, key.namespace) if isinstance(pod, Pod) else None
            if identity is None or not isinstance(pod, Pod):
                return
            name = f"ingress/{key.namespace}/{key.name}"
            known = IngressPod(Observer(name, "ingress", pod.spec.node_name, running=False), identity)
            self.core.observers[name] = known.observer
            self.pods[key] = known
        ground = self.core.runtime.get(key)
        up = ground is not None and ground.up
        starts = sum(run.starts for run in ground.containers) if ground is not None else 0
        if up and (not known.observer.running or starts != known.starts):
            known.starts = starts
            self._begin(known)
        elif not up and known.observer.running:
            known.observer.running = False
            known.life += 1
            known.inbox.clear()
        if ground is None:
            del self.pods[key]
            self.core.stopped.pop(known.observer.name, None)

    def _begin(self, known: IngressPod) -> None:
        """A started controller reads everything before NGINX serves."""
        known.observer.running = True
        known.life += 1
        known.inbox.clear()
        known.missed = None
        self.core.stopped.pop(known.observer.name, None)  # a new process
        known.last_arrival = known.planned = known.next_token = known.busy_ns = known.effective = FAR_PAST
        if not self.core.quiet:
            known.observer.learn(self.core.now_ns, self.core.store.revision)

    def finish_settling(self) -> None:
        """All controllers know the newest revision."""
        now = self.core.now_ns
        for key, known in self.pods.items():
            if known.observer.running:
                t_ns = self.core.draws.control_between("nginx-learned", str(key), 0, now - 30_000_000_000, now)
                known.observer.learn(t_ns, self.core.store.revision)
        self._write_statuses()

    # --- changes --------------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Every controller's informers hear of it."""
        if self.core.quiet:
            return
        if change.key.kind in ("Service", "Ingress") and not self._status_due:
            self._status_due = True
            self.core.push(self.core.delay("ingress_status_s", "ingress-status"), WriteIngressStatus())
        brings = self._brings(change)
        if not brings:
            return
        for key, known in self.pods.items():
            if not known.observer.running or not self._concerned(known, change):
                continue
            if self._deaf(known):
                known.missed = (change.revision, brings | (known.missed[1] if known.missed else brings))
                continue
            arrival = self.core.now_ns + self.core.delay("ingress_watch_s", key)
            if self.core.has_reconnects:
                arrival = max(arrival, self.core.reconnected_ns(known.observer.name))
            known.last_arrival = max(arrival, known.last_arrival)
            known.inbox.append((known.last_arrival, change.revision, brings))
            if known.last_arrival > known.planned:
                self._plan(key, known, known.last_arrival)

    def _brings(self, change: Change) -> Brings:
        """What a change is about; 0 where no sync comes of it.

        A certificate makes no other nginx.conf, Lua presents it; files of passwords and of clients' authorities are
        part of it (annotations auth, authtls, proxyssl). A Secret that no Ingress names is passed over.

        Source: kubernetes/ingress-nginx internal/ingress/controller/store/store.go, secrEventHandler;
        pkg/util/ingress/ingress.go, IsDynamicConfigurationEnough, clearCertificates.
        """
        if change.key.kind == "Secret":
            ingresses = [each for each in self.core.store.of_kind("Ingress") if isinstance(each, Ingress)]
            routes = any(_configures(change.key, each) for each in ingresses)
            presented = any(_presents(change.key, each) for each in ingresses)
            return Brings(routes * Brings.ROUTES | presented * Brings.CERTIFICATES)
        if change.key.kind in RELOADING:
            return Brings.NOTHING if _only_status(change) else Brings.ROUTES
        return Brings.ENDPOINTS

    def _deaf(self, known: IngressPod) -> bool:
        """Whether a controller hears of no change: it is stopped, or its node is off the network."""
        return known.observer.name in self.core.stopped or not self.core.reachable(known.observer.node)

    def node_healed(self, node: str, since_ns: int) -> None:
        """A node is on the network again: its controllers' watches come back."""
        for key, known in self.pods.items():
            if known.observer.node == node and known.observer.running and not self._deaf(known):
                self.goes_on(key, self.core.reconnected_since(known.observer.name, since_ns))

    def goes_on(self, key: Key, t_ns: int | None = None) -> None:
        """A controller hears of changes again from `t_ns` (now) on: of all that it missed, at once."""
        known = self.pods[key]
        if known.missed is not None:
            since = self.core.now_ns if t_ns is None else t_ns
            known.last_arrival = since + self.core.delay("ingress_watch_s", key)
            known.inbox.append((known.last_arrival, *known.missed))
            known.missed = None
        if known.inbox:
            self._plan(key, known, max(self.core.now_ns, known.inbox[0][0]))

    @staticmethod
    def _concerned(known: IngressPod, change: Change) -> bool:
        space = known.identity.watch_namespace
        if space and change.key.namespace not in ("", space):
            return False
        if isinstance(change.new or change.old, ConfigMap):
            return change.key == known.identity.config_map
        return True

    def _plan(self, key: Key, known: IngressPod, asked_ns: int) -> None:
        interval = self.core.spans["ingress_sync_interval_s"][0]
        known.planned = max(asked_ns, known.next_token)
        known.next_token = known.planned + interval
        self.core.push_at(known.planned, SyncIngress(key, known.life))

    def handle(self, event: Event) -> None:
        """A sync starts, NGINX has learned, or statuses are written."""
        match event:
            case SyncIngress(pod, life):
                known = self.pods.get(pod)
                if known is not None and known.life == life and not self._deaf(known):
                    self._run(pod, known)
            case NginxLearned(pod, life, revision, brings):
                known = self.pods.get(pod)
                if known is not None and known.life == life:
                    known.observer.learn(self.core.now_ns, revision)
                    how = _how(brings)
                    name = known.observer.name
                    self.core.fact(
                        What.RULES_SYNCED, Key("Observer", "", name), name, f"NGINX in {pod.name} {how}", revision
                    )
                    if brings & Brings.ROUTES:
                        wait = self.core.spans["ingress_worker_shutdown_s"][0]
                        self.core.push(wait, OldWorkersEnd(pod, life, self.core.now_ns))
            case OldWorkersEnd(pod, life, reloaded_ns):
                known = self.pods.get(pod)
                if known is not None and known.life == life:
                    text = (
                        f"NGINX in {pod.name} ended what was left of its workers from before {reloaded_ns / 1e9:.1f} s"
                    )
                    self.core.fact(What.WORKERS_ENDED, pod, known.observer.name, text, detail=str(reloaded_ns))
            case WriteIngressStatus():
                self._status_due = False
                self._write_statuses()

    def _run(self, pod: Key, known: IngressPod) -> None:
        now = self.core.now_ns
        if now < known.busy_ns:
            self.core.push_at(known.busy_ns, SyncIngress(pod, known.life))
            return
        carried = [entry for entry in known.inbox if entry[0] <= now]
        known.inbox = [entry for entry in known.inbox if entry[0] > now]
        if not carried:
            return
        brings = reduce(or_, (entry[2] for entry in carried))
        done = now + self.core.delay("ingress_post_s", pod) + self.core.slow.get(known.observer.name, 0)
        if brings & Brings.ROUTES:
            done += self.core.delay("ingress_reload_s", pod)
        known.busy_ns = done
        if brings & Brings.ENDPOINTS and not brings & Brings.ROUTES:
            done = self._next_poll(pod, done)
        known.effective = max(done, known.effective)
        self.core.push_at(known.effective, NginxLearned(pod, known.life, carried[-1][1], brings))
        if known.inbox:
            self._plan(pod, known, known.inbox[0][0])

    def _next_poll(self, pod: Key, t_ns: int) -> int:
        """The Lua timer's first tick at or after `t_ns`; each pod has its own phase."""
        period = max(1, self.core.spans["ingress_lua_s"][0])
        phase = self.core.draws.control_between("lua-phase", str(pod), 0, 0, period)
        return phase - ((phase - t_ns) // period) * period

    # --- status ---------------------------------------------------------------------------------------------

    def _write_statuses(self) -> None:
        classes = [c for c in self.core.store.of_kind("IngressClass") if isinstance(c, IngressClass)]
        identities = list(dict.fromkeys(known.identity for known in self.pods.values() if known.observer.running))
        for identity in identities:
            service = self.core.store.get(identity.publish_service) if identity.publish_service else None
            if not isinstance(service, Service):
                continue
            for ingress in self.core.store.of_kind("Ingress"):
                if isinstance(ingress, Ingress) and serves(identity, ingress, classes):
                    self.core.put(replace(ingress, load_balancer=service.load_balancer), "ingress-controller")


def _how(brings: Brings) -> str:
    """What NGINX did with what a sync brought."""
    if brings & Brings.ROUTES:
        return "reloaded with new routes"
    words = {Brings.ENDPOINTS: "endpoints", Brings.CERTIFICATES: "certificates"}
    new = " and ".join(word for part, word in words.items() if brings & part)
    return f"picked up new {new}" if new else "was configured so already"


def _presents(secret: Key, ingress: Ingress) -> bool:
    """Whether an Ingress names a Secret as a certificate."""
    own = secret.namespace == ingress.meta.namespace
    return own and any(entry.secret == secret.name for entry in ingress.tls)


def _configures(secret: Key, ingress: KubeObject) -> bool:
    """Whether an Ingress names a Secret, as NAME or NAMESPACE/NAME, for more than a certificate."""
    named = (ingress.meta.annotations.get(f"nginx.ingress.kubernetes.io/{name}", "").strip() for name in SECRETS)
    own = ingress.meta.namespace
    return any((text if "/" in text else f"{own}/{text}") == f"{secret.namespace}/{secret.name}" for text in named)


def _only_status(change: Change) -> bool:
    old, new = change.old, change.new
    return (
        isinstance(old, Ingress) and isinstance(new, Ingress) and replace(old, load_balancer=new.load_balancer) == new
    )  # fmt: skip
