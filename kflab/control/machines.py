"""Nodes as machines: power and links, as they are, before anybody has noticed.

A machine without power runs nothing and answers nothing. Its links can be cut in two ways: kubelet and kube-proxy lose
the API server while pods run on and packets flow ("control"), or no packet leaves or reaches the node at all
("network"). Who notices, and when, is the node controller's business (`nodelife`) and that of health checks.

A watch that is cut comes back as a reflector's retries say (`Core.reconnected_since`), counted from the cut. In reality
client-go notices a silent connection up to 45 s later (HTTP/2 ping), and a shorter cut may be bridged by TCP alone.
"""

from dataclasses import replace
from typing import ClassVar

from kflab.control.cloudnodes import CloudNodes
from kflab.control.core import STATUS_WRITER, Controller, Core
from kflab.control.facts import What
from kflab.control.heap import Event
from kflab.control.ingresssync import IngressSync
from kflab.control.kubelet import KillPod, Kubelet, PodSeen
from kflab.control.lbsync import LbSync
from kflab.control.machine import LINKS, Machine
from kflab.control.nodelife import NodeLife
from kflab.control.noderuntimes import RUNTIME_HANGS
from kflab.control.proxysync import ProxySync
from kflab.control.staticpods import StaticPods
from kflab.control.status import PodWorker
from kflab.errors import KflabError
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import ContainerStatus, Pod
from kflab.records import dataclass

LOST = 255
"""Exit code of a container that was running when its machine stopped: containerd finds no exit status and reports 255
with reason Unknown (containerd internal/cri/server/restart.go)."""


@dataclass(frozen=True, slots=True)
class Booted(Event):
    """A machine has started; its kubelet runs."""

    room: ClassVar[str] = "machines"
    node: str


class Machines(Controller):
    """Turns machines off and on, cuts and heals their links."""

    room = "machines"

    def __init__(
        self,
        core: Core,
        kubelet: Kubelet,
        proxies: ProxySync,
        lb: LbSync,
        life: NodeLife,
        cloud: CloudNodes,
        ingresses: IngressSync,
        static_pods: StaticPods,
    ) -> None:
        super().__init__(core)
        self.static_pods = static_pods
        self.kubelet, self.proxies, self.lb = kubelet, proxies, lb
        self.life, self.cloud, self.ingresses = life, cloud, ingresses
        self._boots: dict[str, int] = {}
        """Node → when its machine will have started."""

    def _machine(self, node: str) -> Machine:
        return self.core.machines.get(node, Machine())

    def _tell(self, node: str, what: What, text: str) -> None:
        self.core.fact(what, Key("Node", "", node), f"node {node}", text)

    def _pods_there(self, node: str) -> list[Key]:
        return [key for key, ground in self.core.runtime.items() if ground.node == node]

    # --- power ----------------------------------------------------------------------------------------------

    def power_off(self, node: str, text: str = "") -> None:
        """Power is gone: every process on the node ends without a word, its kernel with all rules and connections.

        Raises:
            KflabError: When it is off.
        """
        machine = self._machine(node)
        if not machine.powered:
            raise KflabError(f"node {node} has no power already")
        core, now = self.core, self.core.now_ns
        core.machines[node] = replace(machine, powered=False, since_ns=now)
        core.mark(Key("Node", "", node), "powered off")
        self._tell(node, What.MACHINE_OFF, text or f"node {node} lost power")
        core.forget_kubelet(node)
        core.unmark(Key("Node", "", node), RUNTIME_HANGS)
        for name in (f"kubelet/{node}", f"kube-proxy/{node}"):
            core.stopped.setdefault(name, now)
        if node in self.proxies.proxies:
            self.proxies.stop(node)
        self.kubelet.pleg.forget(node)
        for key in self._pods_there(node):
            ground = core.runtime[key]
            dead = [
                replace(
                    run, up=False, accepting=False, since_ns=now, exit_code=LOST, exit_reason="Unknown", hung=False,
                    killed_ns=None,
                )
                for run in ground.containers if run.up
            ]  # fmt: skip
            core.set_ground(key, replace(ground.with_runs(*dead, exited_ns=now), sandbox=False))
            core.fact(What.POD_LOST, key, f"node {node}", f"{key.name} went down with {node}")
        self.life.silenced(node)
        self.lb.node_changed(node)

    def power_on(self, node: str) -> None:
        """Power is back: the machine boots, then its kubelet starts.

        Raises:
            KflabError: When it is on, boots already, or does not exist any more.
        """
        machine = self._machine(node)
        if machine.powered or node in self._boots:
            raise KflabError(f"node {node} {'has power' if machine.powered else 'is starting'} already")
        if not machine.exists:
            raise KflabError(f"node {node} cannot be powered on: its virtual machine was deleted")
        self._tell(node, What.MACHINE_STARTS, f"node {node} has power again and boots")
        wait = self.core.delay("node_boot_s", f"machine/{node}")
        self._boots[node] = self.core.now_ns + wait
        self.core.push(wait, Booted(node))

    def delete_vm(self, node: str) -> None:
        """The cloud removes the machine itself: it never comes back; the Node object is left to the node controllers.

        Raises:
            KflabError: When it was deleted before.
        """
        machine = self._machine(node)
        if not machine.exists:
            raise KflabError(f"node {node}: its virtual machine was deleted already")
        if machine.powered:
            self.power_off(node, f"the virtual machine of node {node} was deleted")
        else:
            self._boots.pop(node, None)
            self._tell(node, What.MACHINE_OFF, f"the virtual machine of node {node} was deleted")
        self.core.machines[node] = replace(self._machine(node), exists=False)
        self.core.mark(Key("Node", "", node), "deleted")
        self.cloud.ask(node)

    def handle(self, event: Event) -> None:
        """A machine has booted: its kernel is new, its kubelet starts its pods again."""
        assert isinstance(event, Booted)
        node, core = event.node, self.core
        if self._boots.get(node) != core.now_ns:
            return
        del self._boots[node]
        machine = replace(self._machine(node), powered=True)
        self._become(node, machine)
        core.unmark(Key("Node", "", node), "powered off")
        self._tell(node, What.MACHINE_ON, f"node {node} runs again; its kernel has no rules yet")
        core.forget_kubelet(node)  # what came while it was off is read anew from the API
        for name in (f"kubelet/{node}", f"kube-proxy/{node}"):
            core.stopped.pop(name, None)
        if node in self.proxies.proxies:
            self.proxies.rebooted(node)
        self.kubelet.pleg.kubelet_started(node)
        self.kubelet.probes.times.kubelet_started(node)
        self._start_pods(node)
        if machine.talks:
            self.life.heard_again(node, restarted=True)
        self.lb.node_changed(node)

    def _start_pods(self, node: str) -> None:
        """A kubelet after a reboot: pods that are to live get a new sandbox, others are cleaned up.

        Source: k/k pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions: no ready sandbox), and
        kubelet.go HandlePodAdditions with what the API lists.
        """
        core, status = self.core, self.kubelet.status
        known: set[Key] = {pod.key for pod in self.static_pods.on(node)}
        found: dict[Key, tuple[ContainerStatus, ...]] = {}
        for key, worker in [(k, w) for k, w in status.workers.items() if w.node == node]:
            pod = core.store.get(key)
            core.set_ground(key, None)
            if not worker.spec.host_network:
                core.addresses.release_pod_ips(node, worker.pod_ips)
            if key in known:
                found[key] = _after_reboot(worker, core.now_ns)
            elif not isinstance(pod, Pod) or pod.meta.uid != worker.uid:
                self.kubelet.worker_gone(key)
            else:
                known.add(key)
                if pod.terminating:
                    worker.pod_ips = ()  # they are free again; nothing is left to be torn down
                    core.push(0, KillPod(node, key, worker.uid, 0))
                elif pod.status.phase not in ("Succeeded", "Failed"):
                    self.kubelet.restart(pod, _after_reboot(worker, core.now_ns))
        for static in self.static_pods.on(node):
            self.kubelet.restart(static, found.get(static.key, ()))
            self.static_pods.sync(static.key)
        for key in core.index.pods_on(node):
            pod = core.store.get(key)
            if key not in known and isinstance(pod, Pod) and pod.status.phase not in ("Succeeded", "Failed"):
                core.push(0, PodSeen(node, key, pod.meta.uid))

    # --- links ----------------------------------------------------------------------------------------------

    def partition(self, node: str, link: str) -> None:
        """Cut a link: "control" or "network".

        Raises:
            KflabError: For another word, or when that link is cut already.
        """
        if link not in LINKS:
            raise KflabError(f"link {link!r}: expected one of {', '.join(LINKS)}")
        machine = self._machine(node)
        after = replace(machine, control=False, network=machine.network and link == "control")
        if after == machine:
            raise KflabError(f"node {node} is cut off already")
        talked = machine.talks
        self.core.machines[node] = replace(after, since_ns=self.core.now_ns if talked else machine.since_ns)
        self.core.mark(Key("Node", "", node), "partitioned")
        what = "from the API server" if link == "control" else "from the network"
        self._tell(node, What.LINK_CUT, f"node {node} was cut off {what}")
        if talked:
            self.proxies.cut_off(node)
            self.life.silenced(node)
        self.lb.node_changed(node)

    def heal(self, node: str) -> None:
        """All links are back.

        Raises:
            KflabError: When none was cut.
        """
        machine = self._machine(node)
        if machine.control and machine.network:
            raise KflabError(f"node {node} is not cut off")
        core, since = self.core, machine.since_ns
        self._become(node, replace(machine, control=True, network=True))
        core.unmark(Key("Node", "", node), "partitioned")
        self._tell(node, What.LINK_HEALED, f"the links of node {node} are back")
        if machine.powered:
            self.proxies.reconnected(node, core.reconnected_since(f"kube-proxy/{node}", since))
            self.ingresses.node_healed(node, since)
            core.release_node(node, since)
            if f"kubelet/{node}" not in core.stopped:
                self.life.heard_again(node, restarted=False)
                # The status manager compares what the API has with what it knows at its own tick.
                period = core.spans["status_retry_s"][0]
                tick = core.draws.control_between("status-tick", f"{STATUS_WRITER}{node}", since, 0, period + 1)
                self.kubelet.status.reconcile(node, tick)
        self.lb.node_changed(node)

    def _become(self, node: str, machine: Machine) -> None:
        if machine.well:
            self.core.machines.pop(node, None)
        else:
            self.core.machines[node] = machine

    # --- the Node object ------------------------------------------------------------------------------------

    def node_removed(self, node: str) -> None:
        """The Node object is gone; of a machine that is gone too nothing is left to remember."""
        if self._machine(node).exists:
            return
        core = self.core
        for key in self._pods_there(node):
            core.set_ground(key, None)
        for worker in [w for w in self.kubelet.status.workers.values() if w.node == node]:
            self.kubelet.worker_gone(worker.key)
        core.forget_kubelet(node)
        core.machines.pop(node, None)
        core.states.pop(Key("Node", "", node), None)
        for name in (f"kubelet/{node}", f"kube-proxy/{node}"):
            core.stopped.pop(name, None)


def _after_reboot(worker: PodWorker, now_ns: int) -> tuple[ContainerStatus, ...]:
    """What the kubelet finds of a pod's containers after a reboot: those that had run are dead."""

    def dead(status: ContainerStatus) -> ContainerStatus:
        if status.state == "waiting" and status.exit_code is None:
            return status
        return replace(
            status, state="terminated", reason="Unknown", ready=False, finished_ns=now_ns, exit_code=LOST
        )  # fmt: skip

    return tuple(dead(status) for status in worker.containers.values())
