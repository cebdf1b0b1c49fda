"""Index spaces of the engine's places and servers, and what answers at an address in truth."""

from collections.abc import Callable

from kflab.cluster.outside import Outside
from kflab.control.plane import ControlPlane
from kflab.control.runtime import PodRuntime
from kflab.dataplane.packets import join_host_port
from kflab.engine.engine import Engine
from kflab.engine.types import Behaviour, Server
from kflab.lab.controllers import Controllers
from kflab.manifest import app_annotations
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod


class ServerIndex:
    """Numbers for nodes and for addresses that may answer, and what answers there in truth.

    Args:
        plane: Control plane, for ground truth.
        engine: Is told of each server at its first use.
        controllers: Ingress controllers of the cluster.
        group_of: The group of a pod's servers, by the pod and its node: who is called for requests that it serves.
    """

    def __init__(
        self, plane: ControlPlane, engine: Engine, controllers: Controllers, group_of: Callable[[Key, str], int]
    ) -> None:
        self._plane, self._store, self._engine = plane, plane.store, engine
        self._controllers, self._group_of = controllers, group_of
        self._outside = Outside(plane.store)
        self.places: list[str] = []
        """[place] -> node name."""
        self._place_of: dict[str, int] = {}
        self.servers: list[tuple[str, int, str, Key | None]] = []
        """[server] -> (ip, port, protocol, pod)."""
        self._server_of: dict[tuple[str, int, str, Key | None], int] = {}
        self._of_pod: dict[Key, list[int]] = {}

    def place(self, node: str) -> int:
        """Index of a node; -1 for outside."""
        if not node:
            return -1
        found = self._place_of.get(node)
        if found is None:
            found = self._place_of[node] = len(self.places)
            self.places.append(node)
        return found

    def server(self, ip: str, port: int, protocol: str, pod: Key | None) -> int:
        """Index of an address that may answer; made known to the engine at first use."""
        key = (ip, port, protocol, pod)
        found = self._server_of.get(key)
        if found is None:
            runtime = self._plane.runtime.get(pod) if pod else None
            node = runtime.node if runtime else ""
            ingress = pod is not None and self._controllers.is_pod(pod)
            group = self._group_of(pod, node) if pod else -1
            obj = self._store.get(pod) if pod else None
            said = obj.meta.annotations if isinstance(obj, Pod) else {}
            found = self._engine.add_server(
                Server(
                    join_host_port(ip, port), self.place(node), app_annotations.workers(said), is_ingress=ingress,
                    group=group, backlog=app_annotations.backlog(said),
                    shared_queue=app_annotations.shares_queue(said),
                    idle_close_ns=app_annotations.keep_alive_ns(said),
                )
            )  # fmt: skip
            assert found == len(self.servers), "the engine numbers servers as the lab does"
            self._server_of[key] = found
            self.servers.append(key)
            if pod:
                self._of_pod.setdefault(pod, []).append(found)
            self._engine.behave(found, self.behaviour(ip, port, protocol, pod), self._engine.now_ns)
        return found

    def address(self, server: int) -> str:
        """ip:port of a server."""
        ip, port, _, _ = self.servers[server]
        return join_host_port(ip, port)

    def behaviour(self, ip: str, port: int, protocol: str, pod: Key | None) -> int:
        """What answers on an address now, in truth."""
        runtime = self._plane.runtime.get(pod) if pod else self._runtime_by_ip(ip)
        if runtime is None and pod is None and self._outside.answers(ip):
            return Behaviour.LISTENS
        if runtime is None or not runtime.sandbox or ip not in runtime.ips:
            return Behaviour.SILENT
        if (protocol, port) in runtime.hanging:
            return Behaviour.HANGS
        return Behaviour.LISTENS if (protocol, port) in runtime.listening else Behaviour.REFUSES

    def _runtime_by_ip(self, ip: str) -> PodRuntime | None:
        return next((run for run in self._plane.runtime.values() if run.sandbox and ip in run.ips), None)

    def wait_ns(self, pod: Key, port: int, word: int, t_ns: int) -> int:
        """How long a request to a pod's port would wait for its worker at `t_ns`, ns.

        The engine is brought up to `t_ns` first: the answer does not depend on how far it was ahead or behind.
        """
        engine_until(self._engine, t_ns)
        servers = self._of_pod.get(pod, ())
        index = next((index for index in servers if self.servers[index][1] == port), None)
        return 0 if index is None else self._engine.wait_ns(index, word)

    def busy_ns(self, pod: Key, t_ns: int) -> int:
        """How long a pod's workers have served requests until `t_ns`, ns, counted from the first time anybody asks."""
        engine_until(self._engine, t_ns)
        self._engine.memory.count_work()
        return sum(self._engine.memory.worked_ns(index, t_ns) for index in self._of_pod.get(pod, ()))

    def pod_changed(self, pod: Key, t_ns: int) -> None:
        """A pod's listeners or its sandbox changed at `t_ns`.

        A process that stopped listening and still runs (after SIGTERM) finishes what it had accepted.
        """
        runtime = self._plane.runtime.get(pod)
        for index in self._of_pod.get(pod, ()):
            ip, port, protocol, _ = self.servers[index]
            behaviour = self.behaviour(ip, port, protocol, pod)
            drains = behaviour == Behaviour.REFUSES and runtime is not None and runtime.serves((protocol, port))
            self._engine.behave(index, behaviour, t_ns, drain=drains)


def engine_until(engine: Engine, t_ns: int) -> None:
    """Let the engine come up to an instant at which its paths change: they have no versions, unlike choosers."""
    if t_ns > engine.now_ns:
        engine.advance(t_ns)
