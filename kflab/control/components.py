"""What breaks or is switched off, at the current instant: containers, kube-proxies, kubelets, the API server."""

from kflab.cluster.checkpoint import Mutable
from kflab.control.core import API_SERVER, Core
from kflab.control.facts import Fact, What
from kflab.control.kubelet import Kubelet
from kflab.control.machine import Machine
from kflab.control.nodelife import NodeLife
from kflab.control.proxysync import ProxySync
from kflab.control.termination import Termination
from kflab.control.writes import USER, pod_of
from kflab.errors import KflabError
from kflab.manifest.objects import Key


class Components(Mutable):
    """The part of the control plane's facade that stops and starts things."""

    core: Core
    kubelet: Kubelet
    termination: Termination
    proxies: ProxySync
    node_life: NodeLife

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
        return tuple(self.core.facts[before:])

    def stop(self, component: str) -> tuple[Fact, ...]:
        """Stop "apiserver", "kube-proxy/NODE" or "kubelet/NODE" now: knowledge goes stale, traffic goes on.

        Raises:
            KflabError: For an unknown component, or one that is stopped already.
        """
        what, node = self._component(component)
        if component in self.core.stopped:
            raise KflabError(f"{component} is stopped already")
        before = len(self.core.facts)
        self.core.stopped[component] = self.core.now_ns
        self.core.fact(What.COMPONENT_STOPPED, Key("Component", "", component), USER, f"{component} was stopped")
        if what == "kube-proxy":
            self.proxies.stop(node)
        elif what == "kubelet":
            self.kubelet.pleg.kubelet_stopped(node)
            self.node_life.silenced(node)
        return tuple(self.core.facts[before:])

    def start(self, component: str) -> tuple[Fact, ...]:
        """Start a stopped component now.

        Raises:
            KflabError: For an unknown component, or one that runs.
        """
        what, node = self._component(component)
        if component not in self.core.stopped:
            raise KflabError(f"{component} runs already")
        if node and not self.core.machines.get(node, Machine()).powered:
            raise KflabError(f"{component} cannot be started: node {node} has no power")
        before = len(self.core.facts)
        self.core.fact(What.COMPONENT_STARTED, Key("Component", "", component), USER, f"{component} was started")
        if what == API_SERVER:
            self.core.release_api()
        else:
            del self.core.stopped[component]
        if what == "kube-proxy":
            self.proxies.start(node)
        elif what == "kubelet":
            self.core.release_kubelet(node)
            self.kubelet.pleg.kubelet_started(node)
            self.termination.kubelet_started(node)
            if self.core.talks(node):
                self.node_life.heard_again(node, restarted=True)
                self.kubelet.status.reconcile(node, self.core.delay("kubelet_start_s", f"kubelet/{node}"))
        return tuple(self.core.facts[before:])

    def _component(self, component: str) -> tuple[str, str]:
        what, _, node = component.partition("/")
        known = what == API_SERVER and not node
        known = known or (what in ("kube-proxy", "kubelet") and self.core.store.get(Key("Node", "", node)) is not None)
        if not known:
            raise KflabError(f"no component {component!r}; there are apiserver, kube-proxy/NODE and kubelet/NODE")
        return what, node
