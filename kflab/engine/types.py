"""The engine's vocabulary: index spaces, codes and the plain values that `lab` hands it.

Index spaces (all non-negative int32; -1 means "none" everywhere):

* *server*: one (pod, container port) that may answer, or an address nobody has. Rows of `Server`.
* *place*: a node, or a caller outside the cluster (-1).
* *chooser*: something that picks one of its candidates per connection (a load balancer, a node's DNAT for one
  Service port, an NGINX upstream). Candidates are places for a load balancer, servers for all others.
* *stream*: one kind of request from one kind of caller. Its index is part of the address of every draw.

Codes (`Answer`, `Pick`, ...) are plain ints in a class, not an IntEnum: numpy asks an operand's class for its special
methods, Python 3.11's EnumMeta answers each in Python (2.4 µs per comparison), and what a signal handler raises there,
Ctrl+C for one, numpy drops.
"""

from dataclasses import field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kflab.records import dataclass

Int8Array = NDArray[np.int8]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
UInt64Array = NDArray[np.uint64]

TCP_RETRIES2_NS = 924_600_000_000
"""How long Linux retransmits to a peer that is silent (net.ipv4.tcp_retries2 = 15, Documentation/networking/
ip-sysctl.rst: a hypothetical timeout of 924.6 s)."""

MAX_TRIES = 3
"""Columns of per-try arrays. ingress-nginx's proxy-next-upstream-tries default (lifecycle.md 1.8)."""


class Answer:
    """How one try ended."""

    NONE: Final = 0
    OK: Final = 1
    REFUSED: Final = 2
    """RST: nothing listens; one round trip later."""
    RESET: Final = 3
    """The connection was open and the pod went away before answering."""
    TIMEOUT: Final = 4
    """No answer to SYN (address gone, DROP) within the caller's connect timeout."""
    REJECTED: Final = 5
    """REJECT by a Service rule: ICMP port unreachable, the caller sees "connection refused"."""
    NO_UPSTREAM: Final = 6
    """NGINX has no endpoint for the route: 503 at once."""
    TABLE_FULL: Final = 7
    """A node's conntrack table had no room: the packet was dropped, the caller sees a timeout."""
    NO_PORT: Final = 8
    """The caller's node had no free source port left for MASQUERADE: the packet was dropped, the caller sees a
    timeout."""
    UNREACHABLE: Final = 9
    """The caller's node found nobody at the other node's address on their Ethernet: "No route to host"."""
    GAVE_UP: Final = 10
    """The client's own deadline passed first: it closed the connection (NGINX logs 499, ngx_http_request.h
    NGX_HTTP_CLIENT_CLOSED_REQUEST)."""
    CLIENT_GONE: Final = 11
    """The client's own process ended, or its pod: nobody is there to hear of an answer (see `client_gone`)."""
    NO_NAME: Final = 14
    """DNS did not answer: the name was not resolved (getaddrinfo's EAI_AGAIN)."""
    SYN_LOST: Final = 15
    """Every SYN in the connect timeout got lost."""


class Behaviour:
    """What a server does with a SYN."""

    LISTENS: Final = 0
    REFUSES: Final = 1
    """The sandbox is there, nothing listens: RST."""
    SILENT: Final = 2
    """Nobody has this address any more, or the node is off: no answer at all."""
    HANGS: Final = 3
    """The process stands still, its kernel does not: connections are made and wait (see `hangs`). Not for ingresses."""


class Pick:
    """How a chooser picks."""

    RANDOM: Final = 0
    """An addressed draw per connection (kube-proxy iptables `statistic --mode random`)."""
    FLOW_HASH: Final = 1
    """A hash of the five-tuple (AWS NLB)."""
    ROUND_ROBIN: Final = 2
    """Next in turn, position kept in memory per (chooser) (NGINX balancer, per ingress pod)."""
    SCHEDULED: Final = 3
    """By a virtual server that choosers share and that remembers (IPVS's rr and wrr: see `schedulers`)."""
    EWMA: Final = 4
    """NGINX picks the peer of two that answered sooner of late (see `ewma`)."""
    PEER_DRAWN: Final = 5
    """NGINX draws a peer (ingress-nginx chashsubset)."""


PEERS: Final = (Pick.ROUND_ROBIN, Pick.EWMA, Pick.PEER_DRAWN)
"""Where NGINX itself picks the peer: it is a server, and a kept connection to it only spares the handshake. Else the
only peer is a Service's address, and the rules of NGINX's node choose the server."""


class Choice:
    """Which of the four 64-bit words of a request's draw block serves what."""

    ARRIVAL: Final = 0
    """Attempt 0 (the first try): the 16 high bits give the gap before this request, the 32 low bits pick for a load
    balancer that picks at random; attempts ≥ 1 do not use it."""
    ENTRY: Final = 1
    """Attempt 0: high 32 bits pick the ingress pod or first DNAT, bits 16-31 the source port (see addresses.py)."""
    BACKEND: Final = 2
    """High 32 bits pick the endpoint of this try; bits 16-31 give the upstream port, bits 0-15 the pod's worker."""
    SERVICE: Final = 3
    """The 16 high bits give the service time of this try."""


@dataclass(frozen=True, slots=True)
class Fan:
    """Candidates of a chooser under one revision, with exact integer weights.

    Either `candidates` is non-empty and `answer` is NONE, or there is nothing to choose and every connection ends
    with `answer`.
    """

    candidates: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    """Same length as candidates; all equal in the ordinary case."""
    answer: int = Answer.NONE
    """REJECTED, TIMEOUT (DROP) or NO_UPSTREAM when candidates is empty."""


@dataclass(frozen=True, slots=True)
class Server:
    """One address that may answer."""

    address: str
    """ip:port, for debugging only."""
    place: int
    """Node it is on; -1 unknown."""
    workers: int = 16
    """Workers with one FIFO each; a connection goes to one at accept."""
    service: str = "default"
    """Name of its service-time table in `Timing.service_tables`."""
    is_ingress: bool = False
    backlog: int = 4096
    """What its process gave to listen(2), at most net.core.somaxconn: 4096 since Linux 5.4 (Documentation/admin-guide/
    sysctl/net.rst); Go takes somaxconn, NGINX and Node.js 511. Only a server that hangs fills it."""
    group: int = -1
    """Which servers make the same calls (`Stream.calls`): those of one workload."""
    idle_close_ns: int = 0
    """How long it lets a connection that NGINX keeps idle before it closes it; 0: longer than NGINX does."""
    shared_queue: bool = False
    """All workers take from one FIFO: a request goes to the worker that is free first (a thread pool that reads one
    queue). Exact, but such a lab is computed event by event, which is slower."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a pod makes once per request it serves."""

    stream: int
    """A stream of kind call."""
    fatal: bool = True
    """Whether its failure fails the request it is made for."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When a client sends a request again (see `retrying`)."""

    attempts: int
    """Attempts after the first, at most; 1 to `MAX_RETRIES`."""
    connect_failure: bool = False
    """Also where no connection was made: refused, rejected, no answer to the SYN."""
    reset: bool = False
    timeout: bool = False
    """Also where no answer came in time, or the attempt's own deadline passed."""
    statuses: frozenset[int] = frozenset()
    """HTTP statuses that are tried again."""
    backoff_ns: int = 25_000_000
    """Before retry n the client waits a random time below this × 2ⁿ⁻¹; 0: it never waits."""
    backoff_max_ns: int = 250_000_000
    """That bound grows no further than this."""
    budget_percent: int = -1
    """Retries in `budget_interval_ns`, at most this share of the requests in it; -1: as many as there are."""
    budget_interval_ns: int = 10_000_000_000
    budget_min_rate: int = 10
    """And this many per second on top."""


MAX_RETRIES = 15
"""More than that would not fit the numbers of the calls that pods make for an attempt."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One kind of request from one kind of caller.

    kinds:
      * ``l7``:  client → lb chooser → node → entry chooser of that node → ingress server → upstream chooser of that
        ingress server → server, up to `tries` tries, each a new pick.
      * ``l4``:  client → lb chooser → node → entry chooser of that node → server (one try).
      * ``node``: like l4 without a load balancer: the client dials `place` directly.
      * ``pod``: a caller on node `place` → entry chooser of its own node → server (one try).
      * ``call``: like pod, from the node of the server that serves a request of stream `parent` (see `calls`).
    """

    index: int
    kind: str
    rate_rps: float
    """Mean rate of a Poisson stream; 0 is silent."""
    lb: int = -1
    """Chooser whose candidates are places."""
    place: int = -1
    """For kinds node and pod."""
    entries: tuple[tuple[int, int], ...] = ()
    """(place, chooser): the DNAT that the node at `place` applies to this stream's destination."""
    upstreams: tuple[tuple[int, int], ...] = ()
    """(ingress server, upstream chooser), l7 only."""
    no_route: bool = False
    """l7: the ingress has no rule for this host and path: 404 from NGINX, no upstream try."""
    tries: int = 3
    """Tries in all towards upstreams; 1 for l4, node and pod."""
    idempotent: bool = True
    """GET: a reset after the request was sent may be tried again; POST: only a refused connect is."""
    keepalive: bool = False
    """Upstream connections are kept (a kept connection stays on its pod)."""
    pinned_ports: tuple[tuple[int, int, int], ...] = ()
    """(request number, client source port, first upstream source port)."""
    flow_port: int = 0
    """The one source port of every request, UDP only: they are one flow to conntrack (see `udpflows`). 0: a new port
    each."""
    one_way: bool = False
    """UDP: the server sends nothing back."""
    udp: bool = False
    """Its requests are datagrams: nobody waits for a connection."""
    connections: int = 0
    """pod, TCP: the client keeps this many connections open and sends each request over one of them (see
    `connections`); 0: a new connection per request."""
    names: int = 0
    """pod: how many names its client asks DNS for before each request (see `lookups`); 0: it knows the address."""
    dns: tuple[tuple[int, int], ...] = ()
    """(place, chooser): the DNAT that the node at `place` applies to queries; where there are names to ask."""
    lost_per_million: int = 0
    """pod: of a million packets of lookups and handshakes, how many are lost (see `lookups`)."""
    linear_syns: bool = False
    """Whether the caller's kernel sends SYNs again as from Linux 6.5 on."""
    connection_age_ns: int = 0
    """How old its server lets such a connection become, 10 % more or less; 0: for ever."""
    http_front: bool = False
    """l4: the load balancer is an HTTP proxy (AWS ALB): it connects to the target itself, waits for it, and answers
    the client 502, 503 or 504 where the target does not."""
    front_answer: int = 0
    """HTTP status with which the front answers every request itself (404 without a rule, …); 0: it forwards."""
    connect_timeout_ns: int = 0
    """How long a connect is waited for, by the client or by its HTTP front; 0: `Timing.connect_timeout_ns`."""
    read_timeout_ns: int = 0
    """How long an answer is waited for; 0: `Timing.read_timeout_ns`."""
    dial_timeout_ns: int = 0
    """How long the client itself waits for its connection; 0: as `connect_timeout_ns` (l7:
    `Timing.connect_timeout_ns`)."""
    timeout_ns: int = 0
    """How long the client waits for a request in all, attempts and waits between them together; 0: no such deadline."""
    attempt_timeout_ns: int = 0
    """How long the client waits for one attempt; 0: no such deadline."""
    peer_timeout_ns: int = 0
    """connections: how long after the first packet that a vanished peer does not acknowledge a connection is given up;
    0: `TCP_RETRIES2_NS`."""
    retry: Retry | None = None
    """When the client tries again; None: never."""
    client: str = ""
    """Client address (text), part of the flow hash."""
    destination: str = ""
    """Where the client connects, "52.100.10.20:443"; part of the flow hash."""
    calls: tuple[tuple[int, tuple[Call, ...]], ...] = ()
    """(group of the serving server, the calls it makes per request of this stream, one after another)."""
    parent: int = -1
    """call: the stream whose requests it is made for. A stream of calls stands for one place in one tree of calls."""
    address: int = -1
    """call: stands for the index in the addresses of its draws, so that other streams do not change its luck; ≥ 0."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays of the data path, in ns. All are modelling choices (M in lifecycle.md terms) unless said otherwise.

    Each is one number, not a range: hops and timers are the same for every request. Only service times are drawn.
    """

    client_lb_ns: int = 60_000
    """One way, client to load balancer (a client near the region; raise it for the Internet)."""
    lb_node_ns: int = 50_000
    """One way, load balancer to node."""
    same_node_ns: int = 20_000
    """One way between a node's host network and a pod on it, or two pods on it."""
    cross_node_ns: int = 80_000
    """One way between nodes in one zone."""
    nginx_ns: int = 100_000
    """NGINX: parse, route, choose; before the first try."""
    connect_timeout_ns: int = 5_000_000_000
    """ingress-nginx proxy-connect-timeout (lifecycle.md 1.8). Also how long plain clients wait."""
    read_timeout_ns: int = 60_000_000_000
    """ingress-nginx proxy-read-timeout."""
    service_p50_ns: int = 2_300_000
    service_p99_ns: int = 11_000_000
    """The default service time is log-normal with this median and 99th percentile."""
    service_tables: tuple[tuple[str, int, int], ...] = ()
    """(name, p50_ns, p99_ns) of further service times, named by `Server.service`; unknown names use the default."""
    keepalive_idle_ns: int = 60_000_000_000
    """ingress-nginx upstream-keepalive-timeout (lifecycle.md 1.8)."""
    dns_ns: int = 200_000
    """CoreDNS answers a question from what it has in memory."""
    udp_timeout_ns: int = 30_000_000_000
    """nf_conntrack_udp_timeout: an entry that nothing came back for, or younger than two seconds."""
    udp_stream_timeout_ns: int = 120_000_000_000
    """nf_conntrack_udp_timeout_stream."""
    alb_connect_timeout_ns: int = 10_000_000_000
    """How long an ALB waits for a target to accept (AWS docs, Troubleshoot your Application Load Balancers, HTTP 504).
    """
    dns_timeout_ns: int = 5_000_000_000
    """How long a resolver waits for an answer before it asks again: resolv.conf(5) timeout, RES_TIMEOUT of glibc's
    resolv.h. A pod's dnsConfig option of that name is not read."""
    ipvs_drain_poll_ns: int = 60_000_000_000
    """How often kube-proxy looks whether IPVS destinations that drain have no connections left
    (k/k pkg/proxy/ipvs/graceful_termination.go, rsCheckDeleteInterval)."""
    neighbour_reachable_ns: int = 30_000_000_000
    """net.ipv4.neigh.*.base_reachable_time_ms: an entry counts as reachable for half to three halves of it, drawn
    (net/ipv4/arp.c, arp_tbl; net/core/neighbour.c, neigh_rand_reach_time)."""
    neighbour_delay_ns: int = 5_000_000_000
    """delay_first_probe_time: then so long until it is probed (same places)."""
    neighbour_probe_ns: int = 1_000_000_000
    """retrans_time_ms: from one of the three probes to the next (same places)."""
    keepalive_connections: int = 320
    """ingress-nginx upstream-keepalive-connections: idle connections an ingress keeps at most (lifecycle.md 1.8)."""


@dataclass(slots=True)
class Finished:
    """Columns of finished requests, one row each, in order of finish (ties: stream, number). Shapes (n,) or (n, 3)."""

    stream: Int32Array
    number: Int64Array
    start_ns: Int64Array
    finish_ns: Int64Array
    status: Int32Array
    """HTTP status, or -Answer for an error the client sees on its socket (e.g. -2 refused)."""
    tries: Int8Array
    """Upstream tries (l7) or connection tries (others); at least 1 unless the route was missing (0)."""
    node: Int32Array
    """Place the load balancer chose; -1 without one."""
    ingress: Int32Array
    """Ingress server; -1 without one."""
    try_server: Int32Array
    """(n, 3) server picked by each try, -1 none."""
    try_answer: Int8Array
    """(n, 3) Answer of each try."""
    try_start_ns: Int64Array
    """(n, 3) when the caller sent the SYN of each try (its node's rules of that time decided)."""
    try_end_ns: Int64Array
    """(n, 3) when the caller knew how it ended."""
    try_worker: Int32Array
    """(n, 3) worker of the server, -1 where it never got one."""
    queue_ns: Int64Array
    """Wait in the answering worker's queue."""
    service_ns: Int64Array
    """Service time of the answering try."""
    extra: dict[str, Int64Array] = field(default_factory=dict)
    """Further columns, (n,) each: `kept`, `lost` and `kept_ports` (kept connections), `caller` (server that makes a
    call), `calling_ns` (how long the answering server made calls), `opened_ns` (when the client's connection was
    opened, where the client keeps some; else 0), `turns` and `loads0` to `loads3` (see `memory.Col`), and of attempts
    (see `retrying`) `since_ns` (how long before it the request's first one began) and `next_ns` (when the next one
    begins; 0: the request is over); of requests whose client asks DNS or loses packets `lookup_ns` (before `start_ns`),
    `asked` and `waited_ns` (see there)."""

    @property
    def latency_ns(self) -> Int64Array:
        """(n,) from the client's first question or SYN, in its first attempt, until it knew how the request ended."""
        took = self.finish_ns - self.start_ns
        return took + sum(self.extra[name] for name in ("lookup_ns", "since_ns") if name in self.extra)

    def __len__(self) -> int:
        return len(self.stream)

    def only(self, mask: NDArray[np.bool_]) -> "Finished":
        """Keep the rows of a mask, shape (n,)."""
        columns = {name: getattr(self, name)[mask] for name in self.__slots__ if name != "extra"}
        return Finished(**columns, extra={name: column[mask] for name, column in self.extra.items()})
