"""One request as the walker gets it: what was asked, what was drawn, and (for one that happened) the record."""

from dataclasses import field

from kflab.manifest.objects import Key
from kflab.records import dataclass

OK = "ok"
REFUSED = "refused"
RESET = "reset"
TIMEOUT = "timeout"
REJECTED = "rejected"
NO_UPSTREAM = "no upstream"
UNREACHABLE = "no route"
"""EHOSTUNREACH, "No route to host"."""
CLIENT_GONE = "client gone"
"""Its caller's process ended first."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, and from where."""

    url: str
    method: str = "GET"
    source: str = ""
    """Address the caller sends from."""
    source_port: int = 0
    stream: int = 0
    number: int = 0
    t_start_ns: int = 0
    pod: Key | None = None
    """Calling pod; None for a client outside or a node."""
    node_dns: bool = False
    """The pod asks its node's resolvers, which know no Services (`dns.asks_cluster_dns`)."""
    node: str = ""
    """Node the caller is on; "" for a client outside the cluster."""
    connect_to: tuple[str, int] | None = None
    """Address and port to dial whatever the URL's host says (curl --connect-to); the host is still sent."""
    protocol: str = "TCP"

    @property
    def shown(self) -> str:
        """Who asked, in words."""
        if self.pod is not None:
            return f"pod {self.pod.namespace}/{self.pod.name}"
        return self.node or self.source


@dataclass(frozen=True, slots=True)
class Choices:
    """The draws of one request: the same words that the batch used."""

    entry: int = 0
    """u32: the first DNAT."""
    backend: tuple[int, ...] = (0, 0, 0)
    """u32 per try: the DNAT towards the backend."""
    flow_hash: int | None = None
    """u32 of the load balancer; None: `lb.flow_hash` of the packet."""
    upstream_ports: tuple[int, ...] = (0, 0, 0)
    """Source port of NGINX's connection per try."""

    def backend_of(self, try_number: int) -> int:
        return self.backend[min(try_number, len(self.backend)) - 1] if self.backend else 0

    def port_of(self, try_number: int) -> int:
        return self.upstream_ports[min(try_number, len(self.upstream_ports)) - 1] if self.upstream_ports else 0


@dataclass(frozen=True, slots=True)
class TryRecord:
    """How one try went."""

    answer: str
    """ok, refused, reset, timeout, rejected, no upstream, no route or client gone."""
    start_ns: int
    """When the caller sent the SYN: the rules of that time decided."""
    end_ns: int
    """When the caller knew."""
    server: str = ""
    """ip:port it reached, as recorded; "" where it reached nobody. Compared with the walk."""


@dataclass(frozen=True, slots=True)
class Record:
    """A request that happened."""

    status: str
    """As RequestTrace.status."""
    finish_ns: int | None = None
    tries: tuple[TryRecord, ...] = ()
    lb_ns: int | None = None
    """When its SYN reached the load balancer; None: at the start."""
    entry_ns: int | None = None
    """When its SYN reached the first node's rules; None: at the start."""
    queue_ns: int = 0
    service_ns: int = 0
    node: str = ""
    """Node the load balancer chose, as recorded."""
    ingress: str = ""
    """ip:port of the ingress pod, as recorded."""
    extra: tuple[tuple[str, str], ...] = field(default=())
