"""What breaks or is switched off, at the current instant: containers, kube-proxies, kubelets, the control plane."""

from dataclasses import replace

from kflab.cluster.checkpoint import Mutable
from kflab.control.admission import require_api
from kflab.control.core import API_SERVER, ETCD, SLOWED, Core
from kflab.control.facts import Fact, What
from kflab.control.ingresssync import IngressSync
from kflab.control.kubelet import Kubelet
from kflab.control.kubeletrestart import KubeletRestart
from kflab.control.leaders import LEADING, Leaders
from kflab.control.machine import Machine
from kflab.control.nodelife import NodeLife
from kflab.control.noderuntimes import NodeRuntimes
from kflab.control.proxysync import ProxySync
from kflab.control.termination import Termination
from kflab.control.writes import USER, pod_of
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_network import Service
from kflab.manifest.objects_workloads import Deployment

DNS = "coredns"

DNS_SERVICES = ("kube-dns", "coredns")
"""Names of the cluster's DNS Service in kube-system."""

ON_NODES = ("kube-proxy", "kubelet")

SLOWEST_NS = 7_000_000_000
"""etcd gives up a request after 5 s plus two election timeouts of 1 s (etcd server/config, ReqTimeout)."""


def can_be_slow(component: str) -> bool:
    """Whether slowing a component down is modelled."""
    return component in SLOWED or component.partition("/")[0] in ("kube-proxy", "ingress")


class Components(Mutable):
    """The part of the control plane's facade that stops and starts things."""

    core: Core
    kubelet: Kubelet
    kubelet_restart: KubeletRestart
    termination: Termination
    proxies: ProxySync
    node_life: NodeLife
    leaders: Leaders
    runtimes: NodeRuntimes
    ingresses: IngressSync
    _dns_replicas: int

    def crash(self, pod_key: Key, exit_code: int = 137, container: str = "") -> tuple[Fact, ...]:
        """A container's process ends now; nobody has noticed yet.

        Args:
            pod_key: The pod.
            exit_code: What it exits with.
            container: Which one; "": the first that runs.

        Raises:
            KflabError: When the pod or a running container is not there.
        """
        ground = self.core.runtime.get(pod_key)
        app = [c.name for c in pod_of(self.core, pod_key).spec.containers]
        running = [run.name for run in ground.containers if run.up and run.name in app] if ground is not None else []
        name = container or next(iter(sorted(running, key=app.index)), "")
        if name not in running:
            raise KflabError(
                f"no running container{' ' + name if name else ''} in pod {pod_key.namespace}/{pod_key.name}"
            )
        before = len(self.core.facts)
        self.kubelet.containers_exited(pod_key, (name,), exit_code, "")
        if ground is not None:
            self.termination.gone_if_done(pod_key, ground.uid)
        return self.core.told_since(before)

    def stop(self, component: str) -> tuple[Fact, ...]:
        """Stop a component of `ControlPlane.components` now: knowledge goes stale, traffic goes on.

        "ingress/NAMESPACE/POD" is the controller in that pod, which then hears of no change; its NGINX goes on.
        "coredns" has its pods ended: its workload is scaled to 0.

        Raises:
            KflabError: For an unknown component, or one that is stopped already.
        """
        what, node = self._component(component)
        if component in self.core.stopped:
            raise KflabError(f"{component} is stopped already")
        before = len(self.core.facts)
        if what == DNS:
            self._scale_dns(0)
        self.core.stopped[component] = self.core.now_ns
        self.core.electing.pop(component, None)
        self.core.fact(What.COMPONENT_STOPPED, Key("Component", "", component), USER, f"{component} was stopped")
        if what == "kube-proxy":
            self.proxies.stop(node)
        elif what == "kubelet":
            self.kubelet.pleg.kubelet_stopped(node)
            self.node_life.silenced(node)
        return self.core.told_since(before)

    def start(self, component: str) -> tuple[Fact, ...]:
        """Start a stopped component now.

        Raises:
            KflabError: For an unknown component, or one that runs.
        """
        what, node = self._component(component)
        if component not in self.core.stopped:
            raise KflabError(f"{component} runs already")
        if what in ON_NODES and not self.core.machines.get(node, Machine()).powered:
            raise KflabError(f"{component} cannot be started: node {node} has no power")
        before = len(self.core.facts)
        if what == DNS:
            self._scale_dns(self._dns_replicas)
        self.core.fact(What.COMPONENT_STARTED, Key("Component", "", component), USER, f"{component} was started")
        if what in (API_SERVER, ETCD):
            outage = self.core.now_ns - self.core.stopped[component]
            self.core.release_api(component)
            if self.core.api_up():
                self.leaders.api_back(outage)
        else:
            del self.core.stopped[component]
        if what in LEADING:
            self.leaders.elect(component)
        elif what == "kube-proxy":
            self.proxies.start(node)
        elif what == "ingress":
            self.ingresses.goes_on(Key("Pod", *node.split("/")))
        elif what == "kubelet":
            self.core.release_kubelet(node)
            self.runtimes.kubelet_started(node)
            self.kubelet.pleg.kubelet_started(node)
            self.termination.kubelet_started(node)
            if self.core.talks(node):
                self.node_life.heard_again(node, restarted=True)
                self.kubelet_restart.started(node)
        return self.core.told_since(before)

    def slow(self, component: str, by_ns: int) -> tuple[Fact, ...]:
        """Let each thing that a component does take so much longer from now on; 0: as long as usual.

        Raises:
            KflabError: For an unknown component, one of which this is not modelled, or more than etcd's own timeout.
        """
        self._component(component)
        if not can_be_slow(component):
            there = f"{', '.join(SLOWED)}, kube-proxy/NODE and ingress/NAMESPACE/POD"
            raise KflabError(f"{component} cannot be slow: modelled are {there}")
        if by_ns >= SLOWEST_NS:
            raise KflabError(f"by must be below 7s, etcd's own timeout of a request, not {by_ns / 1e9:g}s")
        before = len(self.core.facts)
        self.core.slow_down(component, by_ns)
        key = Key("Component", "", component)
        text = f"{component} is as fast as usual"
        if by_ns:
            text = f"{component} takes {by_ns / 1e9:g} s longer for everything"
        self.core.fact(What.COMPONENT_SLOWED, key, USER, text)
        (self.core.mark if by_ns else self.core.unmark)(key, "slow")
        return self.core.told_since(before)

    # --- CoreDNS --------------------------------------------------------------------------------------------

    def dns_workload(self) -> Deployment | None:
        """The Deployment behind the cluster's DNS Service; None where it is none."""
        for name in DNS_SERVICES:
            service = self.core.store.get(Key("Service", "kube-system", name))
            if isinstance(service, Service):
                for obj in self.core.store.of_kind("Deployment", "kube-system"):
                    labels = obj.template.labels if isinstance(obj, Deployment) else {}
                    if isinstance(obj, Deployment) and service.selector and service.selector.items() <= labels.items():
                        return obj
        return None

    def _scale_dns(self, replicas: int) -> None:
        require_api(self.core)
        workload = self.dns_workload()
        if workload is not None:
            self._dns_replicas = workload.replicas
            self.core.put(replace(workload, replicas=replicas), USER)

    def _component(self, component: str) -> tuple[str, str]:
        """Kind and node (or pod) of a component.

        Raises:
            KflabError: For an unknown one, with those that there are.
        """
        what, _, where = component.partition("/")
        known = component in (API_SERVER, ETCD, *LEADING) or (component == DNS and self.dns_workload() is not None)
        known = known or (what in ON_NODES and self.core.store.get(Key("Node", "", where)) is not None)
        known = known or (what == "ingress" and Key("Pod", *where.partition("/")[::2]) in self.ingresses.pods)
        if not known:
            there = ", ".join((API_SERVER, ETCD, *LEADING, DNS))
            there += ", ingress/NAMESPACE/POD, kube-proxy/NODE and kubelet/NODE"
            raise KflabError(f"no component {component!r}; there are {there}")
        return what, where
