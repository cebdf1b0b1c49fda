"""Clients that run in pods: which pod sends, what ends with it, and who goes on.

A client's process is the first container of a pod (sidecars aside). It sends while that runs and its pod has a network;
what it has in hand when it ends goes with it (`engine.client_gone`). SIGTERM alone changes nothing: an application
finishes its work until it exits (kflab.dev/exit-after). Who comes back sends from where it then is: its own address,
the rules and the conntrack table of its own node, no open connection.

Of a workload one pod at a time is the client. When it is gone, the oldest of the workload's pods that are Ready goes
on with the whole rate; where there is none, the first to become Ready. A pod given by its name comes back under that
name, as a StatefulSet's do, or never.

Simplified: a process that hangs sends nothing, and takes what is answered meanwhile as if it read it at once; a pod
whose network was taken away (`What.NETWORK_REMOVED`) counts as gone, though its process tries on; the kubelet's
restart of a container is Ready where the API server does not know yet that it had ended.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kflab.control.facts import Fact, What
from kflab.control.listening import main_container
from kflab.control.plane import ControlPlane
from kflab.control.runtime import PodRuntime
from kflab.lab.choosers import Home, Wired
from kflab.lab.pods_from import pods_of
from kflab.manifest.objects import Key
from kflab.manifest.objects_pods import Pod
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.wiring import Wiring

COMES = frozenset({What.CONTAINER_STARTED, What.POD_STATUS_WRITTEN})
"""Facts after which a pod may be the one that goes on."""

Line = tuple[int, str, str]
"""(when, who, what)."""


@dataclass(slots=True)
class _Client:
    """One stream from a pod."""

    wired: Wired
    which: str
    """As `pods_of` takes it."""
    name: str
    """Who it is, in words."""
    away: bool = False
    """Its process is gone, and nobody has come in its place."""


class ClientPods:
    """Follows the pods from which clients send.

    Args:
        plane: Ground truth and the API server's objects.
        wiring: Is told where a client is.
    """

    def __init__(self, plane: ControlPlane, wiring: "Wiring") -> None:
        self._plane, self._store, self._wiring = plane, plane.store, wiring
        self._clients: list[_Client] = []

    def home_of(self, pod: Pod, t_ns: int) -> Home:
        """Where a pod is, from `t_ns` on."""
        runtime = self._plane.runtime.get(pod.key)
        return Home(t_ns, pod.key, pod.ip, runtime.node if runtime else "", main_container(pod.spec))

    def add(self, wired: Wired) -> None:
        """Follow a client; one whose process does not run yet is away."""
        entry, home = wired.entry, wired.homes[-1]
        which = f"{home.pod.namespace}/{home.pod.name}"
        if entry.source is not None and entry.source.from_pod:
            which = entry.source.from_pod
        name = f"client {entry.source.name}" if entry.source is not None else f"client pod {home.pod.name}"
        self._clients.append(_Client(wired, which, name, away=not self.runs(home)))

    def runs(self, home: Home) -> bool:
        """Whether the client's process is there and has a network."""
        return self._process(home.pod, home.container) is not None

    def _process(self, pod: Key, container: str) -> PodRuntime | None:
        runtime = self._plane.runtime.get(pod)
        if runtime is None or not runtime.sandbox or container not in runtime.names:
            return None
        return runtime if runtime.container(container).up else None

    def hear(self, fact: Fact, *, cuts: bool) -> list[Line]:
        """Follow what happens to pods; return lines for clients that go, stand still or go on.

        Args:
            fact: What happened.
            cuts: Whether it changes what runs in a pod, or its network.
        """
        lines: dict[Line, None] = {}  # clients of one pod that call several Services say it once
        for client in self._clients if cuts or fact.what in COMES else ():
            home = client.wired.homes[-1]
            if not client.away and cuts and home.pod == fact.subject:
                lines.update(dict.fromkeys(self._changed(client, home, fact.t_ns)))
            elif client.away and fact.what in COMES and self._concerns(client, fact.subject):
                lines.update(dict.fromkeys(self._comes(client, fact.t_ns)))
        return list(lines)

    def _concerns(self, client: _Client, subject: Key) -> bool:
        return subject.kind == "Pod" and subject.namespace == client.which.partition("/")[0]

    def _changed(self, client: _Client, home: Home, t_ns: int) -> Iterator[Line]:
        """Something happened to the pod that sends."""
        runtime = self._process(home.pod, home.container)
        if runtime is not None:
            self._wiring.stand_still(client.wired, runtime.container(home.container).hung, t_ns)
            return
        client.away = True
        self._wiring.client_gone(client.wired, t_ns)
        yield t_ns, client.name, f"its process in {home.pod.name} is gone, and its requests in hand with it"
        yield from self._comes(client, t_ns)

    def _comes(self, client: _Client, t_ns: int) -> Iterator[Line]:
        """Let the oldest pod that is Ready, if there is one, be the client from `t_ns` on."""
        ready = [pod for pod in pods_of(self._store, client.which) if self._may_send(pod)]
        if not ready:
            return
        pod = min(ready, key=lambda one: (one.meta.creation_ns, one.meta.name))
        before, home = client.wired.homes[-1], self.home_of(pod, t_ns)
        client.away = False
        remark = self._wiring.client_comes(client.wired, home, t_ns)
        if (home.pod, home.address) == (before.pod, before.address):
            yield t_ns, client.name, f"sends from {home.pod.name} again{remark}"
        else:
            was = f"before from {before.address} on {before.node}" if before.node else "for the first time"
            yield t_ns, client.name, f"sends from {home.pod.name}, {home.address} on {home.node}; {was}{remark}"

    def _may_send(self, pod: Pod) -> bool:
        runs = self._process(pod.key, main_container(pod.spec)) is not None
        return runs and pod.status.ready and not pod.terminating and bool(pod.ip)

    def away(self, wired: Wired) -> bool:
        """Whether nobody sends a stream's requests now, its client being gone."""
        return any(client.away for client in self._clients if client.wired is wired)
