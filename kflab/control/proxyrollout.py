"""A changed kube-proxy configuration reaches the nodes: the DaemonSet replaces kube-proxy's pods, one node at a time.

As after `kubectl -n kube-system rollout restart daemonset kube-proxy`, which is what makes a change of its ConfigMap
count (kube-proxy's own watch of the file asks for write and rename, and a ConfigMap volume is updated otherwise: k/k
cmd/kube-proxy/app/options.go, eventHandler). RollingUpdate with maxUnavailable 1 is the default (k/k pkg/apis/apps/v1
defaults.go). kube-proxy's pods are no objects here; their replacement takes what that of any pod takes.
"""

from dataclasses import replace
from typing import ClassVar

from kflab.cluster.store import Change
from kflab.control.core import Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event, KubeletEvent
from kflab.control.proxysync import ProxySync
from kflab.manifest.objects import Key, Meta
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class NextPod(Event):
    """The DaemonSet controller looks for the next old pod to delete."""

    room: ClassVar[str] = "proxyrollout"
    needs_api: ClassVar[bool] = True
    ready: str = ""
    """The node whose new pod it has just seen ready."""


@dataclass(frozen=True, slots=True)
class ProxyPodEnds(KubeletEvent):
    """The old pod's process ends, as its kubelet has learned."""

    room: ClassVar[str] = "proxyrollout"
    needs_runtime: ClassVar[bool] = True
    needs_api: ClassVar[bool] = True
    by_watch: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ProxyPodStarts(KubeletEvent):
    """The new pod's process starts."""

    room: ClassVar[str] = "proxyrollout"
    needs_runtime: ClassVar[bool] = True


class ProxyRollout(Controller):
    """kube-proxy's DaemonSet."""

    room = "proxyrollout"
    kinds = ("KubeProxyConfiguration", "Node")
    component = "controller-manager"

    def __init__(self, core: Core, proxies: ProxySync) -> None:
        super().__init__(core)
        self.proxies = proxies
        self.waiting: list[str] = []
        """Nodes whose pod is of an older template, the next one last."""
        self.replacing = ""
        """The node whose pod is being replaced: one at a time."""

    def changed(self, change: Change) -> None:
        """A new configuration: every kube-proxy has to be started again."""
        config = change.new
        if not isinstance(config, KubeProxyConfiguration):
            if config is None and change.key == Key("Node", "", self.replacing):
                self.core.push(self.core.delay("watch_s", change.key), NextPod(self.replacing))
            return
        if self.core.quiet:
            self.proxies.configure(config)
            return
        if settings_of(config) == settings_of(self.proxies.configs[-1]):
            return
        self.proxies.configure(config)
        number = len(self.proxies.configs) - 1
        # The controller goes through a Go map of nodes, in any order (pkg/controller/daemon/update.go, rollingUpdate).
        self.waiting = sorted(
            self.proxies.proxies, key=lambda node: self.core.draws.control_u64("proxy-rollout", node, number)
        )
        self.core.push(self.core.delay("watch_s", change.key) + self.core.delay("controller_s", change.key), NextPod())

    def handle(self, event: Event) -> None:
        """One step of the rolling update."""
        match event:
            case ProxyPodEnds(node):
                self._ends(node)
            case ProxyPodStarts(node):
                self._starts(node)
            case NextPod(ready):
                self.replacing = "" if self.replacing == ready else self.replacing
                self._next()

    def _next(self) -> None:
        """Delete the next old pod, unless one is being replaced."""
        while self.waiting and not self.replacing:
            node = self.waiting.pop()
            proxy = self.proxies.proxies.get(node)
            # A stopped one reads the new configuration when it is started.
            if proxy is None or not proxy.observer.running or proxy.config == len(self.proxies.configs) - 1:
                continue
            self.replacing = node
            self.core.push(self._delay("kubelet_watch_s", node) + self._delay("sigterm_s", node), ProxyPodEnds(node))

    def _ends(self, node: str) -> None:
        proxy = self.proxies.proxies.get(node)
        if proxy is not None and proxy.observer.running:
            self.proxies.stop(node)
            name = proxy.observer.name
            text = f"kube-proxy on {node} stopped, to start with its new configuration; its rules stay"
            self.core.fact(What.PROXY_STOPPED, Key("Observer", "", name), name, text)
        self.core.push(self._delay("sandbox_s", node) + self._delay("container_start_s", node), ProxyPodStarts(node))

    def _starts(self, node: str) -> None:
        proxy = self.proxies.proxies.get(node)
        if proxy is not None and not proxy.observer.running and proxy.observer.name not in self.core.stopped:
            self.proxies.start(node)
        # No readiness probe (kubeadm's manifest): the pod is ready when its kubelet has seen the container run.
        seen = self.core.draws.control_between(
            "proxy-relist", node, len(self.proxies.configs), 0, self.core.spans["pleg_relist_s"][0] + 1
        )
        names = ("pod_status_write_s", "watch_s", "controller_s")
        self.core.push(seen + sum(self._delay(name, node) for name in names), NextPod(node))

    def _delay(self, name: str, node: str) -> int:
        return self.core.delay(name, f"kube-proxy/{node}")


def settings_of(config: KubeProxyConfiguration | None) -> KubeProxyConfiguration:
    """A configuration without what tells where it is written: equal ones restart nobody."""
    return replace(config or KubeProxyConfiguration(Meta("kube-proxy")), meta=Meta("kube-proxy"), raw=None, place=None)
