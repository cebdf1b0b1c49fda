"""Requests that a person sends one at a time: the walker meets what is there, and loads nobody."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kflab.dataplane.dns import asks_cluster_dns
from kflab.dataplane.packets import RequestTrace
from kflab.dataplane.request import Choices, Request, trace_request
from kflab.dataplane.request_steps import CLIENT, SOCKET
from kflab.errors import KflabError
from kflab.kubectl.curl import CurlAnswer, CurlRequest
from kflab.lab.records import KEPT_TRACES
from kflab.lab.single_memory import SingleMemory
from kflab.lab.single_times import accepted, timed
from kflab.manifest.objects import Key
from kflab.manifest.objects_cluster import Node
from kflab.manifest.objects_pods import Pod

if TYPE_CHECKING:
    from kflab.lab.running import Lab


class SingleRequests:
    """Requests that a person sends one at a time (`curl`): walked, not queued."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self._kept: dict[int, RequestTrace] = {}
        """Trace id (-1, -2, …) → what `send` sent; the last `KEPT_TRACES` of them."""
        self._sent = 0

    def send(self, request: Request, draw_name: str) -> RequestTrace:
        """Send one request now, by the walker alone: it meets what is there, and loads nobody.

        Its draws come from a stream of their own. It waits in no queue; its times are the data path's constants.
        """
        lab = self._lab
        n = self._sent

        def u32(what: str, k: int = 0) -> int:
            return lab.draws.control_u64(f"curl-{what}", draw_name, n * 4 + k) >> 32

        ports = tuple(32768 + (u32("port", k) * 28232 >> 32) for k in range(4))
        choices = Choices(u32("entry"), tuple(u32("backend", k) for k in range(3)), None, ports[1:])
        memory = SingleMemory(lab=lab, number=n, draws=choices.backend)
        trace = trace_request(lab.world, replace(request, source_port=ports[0]), choices, memory)
        trace = self._touching_pods(timed(lab, trace))
        self._sent += 1
        self._kept[-self._sent] = trace
        self._kept.pop(KEPT_TRACES - self._sent, None)
        return trace

    def _touching_pods(self, trace: RequestTrace) -> RequestTrace:
        """A hop straight to a pod's own address (port-forward) belongs to the pod's row too."""
        hops = []
        for hop in trace.hops:
            to = hop.after if hop.outcome else None
            pod = self._lab.world.pod_at(to.dst, hop.t_ns, to.dport) if to is not None else None
            if pod is not None and pod not in hop.touches:
                hop = replace(hop, touches=(*hop.touches, pod))
            hops.append(hop)
        return replace(trace, hops=tuple(hops))

    def trace_id_of(self, trace: RequestTrace) -> int:
        """Id under which `find` has a sent request."""
        return next(trace_id for trace_id, sent in reversed(self._kept.items()) if sent is trace)

    def find(self, trace_id: int) -> RequestTrace:
        """A request that was sent, by its id.

        Raises:
            KflabError: If it is no longer kept.
        """
        if trace_id not in self._kept:
            raise KflabError(f"this request is too old to be opened: the lab keeps the last {KEPT_TRACES} sent ones")
        return self._kept[trace_id]

    def sent(self) -> Sequence[RequestTrace]:
        """Single requests that were sent, as far as they are kept, newest first."""
        return tuple(reversed(self._kept.values()))

    def request_for(self, url: str, method: str, source: Key | None) -> Request:
        """A request from the client outside (None), a pod or a node.

        Raises:
            KflabError: If there is no such pod or node.
        """
        lab = self._lab
        if source is None:
            return Request(url, method, lab.client_address(), t_start_ns=lab.t_ns)
        obj = lab.store.get(source)
        if isinstance(obj, Pod) and obj.ip:
            node, own = obj.spec.node_name, not asks_cluster_dns(obj.spec)
            return Request(url, method, obj.ip, t_start_ns=lab.t_ns, pod=source, node=node, node_dns=own)
        if isinstance(obj, Node):
            address = next(iter(obj.internal_ips), "")
            return Request(url, method, address, t_start_ns=lab.t_ns, node=obj.meta.name)
        raise KflabError(f"{source} cannot send requests: it does not exist or has no address")

    def curl(self, asked: CurlRequest) -> CurlAnswer:
        """One traced request for the command line."""
        request = self.request_for(asked.url, asked.method, asked.source)
        if asked.via is not None:
            # API server → kubelet → the pod's network namespace (kubernetes.io/docs, port-forward): no Service, no DNS.
            pod = self._lab.store.get(asked.via.pod)
            if not isinstance(pod, Pod) or not pod.ip:
                return CurlAnswer("refused")
            request = replace(
                request, connect_to=(pod.ip, asked.via.port), node=pod.spec.node_name, source=self._node_ip(pod)
            )
        for name, address in asked.resolve:
            host, _, port = name.rpartition(":")
            if host in asked.url:
                request = replace(request, connect_to=(address, int(port)))
        trace = self.send(request, str(asked.source or "client"))
        answered = self._answered(trace, asked.source)
        app = trace.status == "200"
        server = "" if app else "nginx"
        first = next((hop.after for hop in trace.hops if hop.mover in (CLIENT, SOCKET)), None)
        return CurlAnswer(
            trace.status, trace.latency_ns or 0, answered, self.trace_id_of(trace), server,
            connected=bool(trace.hops) and accepted(self._lab, trace.hops[-1]),
            dialled=((first.dst, first.dport), (first.src, first.sport)) if first is not None else None,
        )  # fmt: skip

    def _answered(self, trace: RequestTrace, caller: Key | None) -> Key | None:
        """The pod that answered: whose address the last hop went to, or the last one that a rule names as target."""
        for hop in reversed(trace.hops):
            if hop.after is None:
                continue
            found = self._lab.world.pod_at(hop.after.dst, self._lab.t_ns, hop.after.dport)
            named = (key for key in reversed(hop.touches) if key.kind == "Pod" and key != caller)
            return found or next(named, None)
        return None

    def _node_ip(self, pod: Pod) -> str:
        node = self._lab.store.get(Key("Node", "", pod.spec.node_name))
        return next(iter(node.internal_ips), "") if isinstance(node, Node) else ""
