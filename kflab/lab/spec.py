"""What a lab is made from: everything that decides its story, as plain data."""

from collections.abc import Mapping
from dataclasses import field

from kflab.dataplane.cni import BRIDGE
from kflab.engine.types import Retry
from kflab.errors import Place
from kflab.lab.commands import Command
from kflab.lab.handle import Tab
from kflab.manifest.objects import Key
from kflab.records import dataclass

ROUTED, HOST_GW = "routed", "host-gw"
POD_NETWORKS = (ROUTED, HOST_GW)
"""routed: by a router, as in a cloud's VPC, which drops what it cannot deliver without a word. host-gw: straight, the
nodes are on one Ethernet segment (flannel's backend of that name; Documentation/backends.md: "Requires direct layer2
connectivity between hosts")."""

KERNEL = (6, 1)
"""Linux release of nodes of which nobody says more."""


FLOWS, AUTO = "flows", "auto"
TRAFFIC_MODES = (FLOWS, AUTO)
"""How requests are simulated: each followed; or only counted while nothing changes (`lab.counting`)."""


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """One source of requests from outside the cluster (or, with `from_pod`, from a pod)."""

    url: str
    """scheme://host[:port]/path."""
    rate_rps: float
    """Mean rate of a Poisson stream, requests per second."""
    name: str = "client"
    address: str = "203.0.113.45"
    """Source address; ignored with from_pod."""
    method: str = "GET"
    from_pod: str = ""
    """"namespace/pod" or "namespace/Kind/name" of a workload (one of its pods at a time: `client_pods`)."""
    client_port: int = 0
    """UDP from a pod: the source port of every request (one socket); 0: a new one each."""
    one_way: bool = False
    """UDP: no answer is sent, as to statsd. A request is counted as answered when its pod has taken it."""
    connections: int = 0
    """HTTP or TCP from a pod: this many connections are kept open, and each request goes over one of them, chosen at
    random; 0: a new connection per request."""
    connection_age_ns: int = 0
    """How old the server lets such a connection become (gRPC max-connection-age), 10 % more or less; 0: for ever."""
    timeout_ns: int = 0
    """How long the client waits for a request in all, its attempts and the waits between them; 0: as long as plain
    clients (`Timing.connect_timeout_ns`, `read_timeout_ns`)."""
    attempt_timeout_ns: int = 0
    """How long it waits for one attempt; 0: no such deadline."""
    connect_timeout_ns: int = 0
    """How long it waits for its connection; 0: `Timing.connect_timeout_ns`."""
    keepalive_timeout_ns: int = 0
    """connections: how long after the first packet that a vanished peer does not acknowledge a connection is given up
    (TCP_USER_TIMEOUT, which gRPC sets to its keepalive timeout); 0: tcp_retries2, 924.6 s."""
    retry: Retry | None = None
    """When it sends a request again; None: never."""
    sockets: int = 0
    """From outside through an ingress controller: so many WebSockets are kept open, beside the requests."""
    lookups: bool = False
    """From a pod: DNS is asked for each request, as by an application that caches no addresses."""
    lost_per_million: int = 0
    """From a pod: of a million packets of its lookups and handshakes, how many are lost."""
    first_client_port: int | None = None
    """Pins the client's source port of request 0 only."""
    first_upstream_port: int | None = None
    """Pins NGINX's source port of request 0 only."""


@dataclass(frozen=True, slots=True)
class GivenCall:
    """A call that pods of a workload make for every request they serve."""

    caller: Key
    """The workload."""
    service: Key
    port: int
    """TCP port of the Service; 0: its only one."""
    times: int = 1
    fatal: bool = True
    """Whether its failure fails the request it is made for."""
    place: Place | None = None
    """Where it is written."""


@dataclass(frozen=True, slots=True)
class Action:
    """A timed step of a scenario."""

    t_ns: int
    command: Command
    say: str = ""
    """A line of narration shown when it happens."""
    pod_of: tuple[str, int] | None = None
    """("namespace/Kind/name", ordinal): the pod the command is about, when it is not named: the ordinal-th pod of the
    workload in order of creation, looked up at t_ns."""
    place: Place | None = None
    """Where it is written."""


@dataclass(frozen=True, slots=True)
class PinSpec:
    """Addresses and names fixed by the scenario. Keys are "namespace/Kind/name" (pods) or "namespace/name"."""

    pod_ips: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    load_balancer_ips: Mapping[str, str] = field(default_factory=dict)
    public_names: Mapping[str, str] = field(default_factory=dict)
    """Public DNS name → "namespace/name" of the LoadBalancer Service it points to."""


@dataclass(frozen=True, slots=True)
class LabSpec:
    """One lab, before it runs. The same spec gives the same story, byte for byte."""

    name: str
    tabs: tuple[Tab, ...]
    seed: int = 7
    title: str = ""
    pins: PinSpec = PinSpec()
    delays: Mapping[str, object] = field(default_factory=dict)
    """Overrides of control delays by name, in the units their names end in."""
    timing: Mapping[str, int] = field(default_factory=dict)
    """Overrides of data-path delays (engine Timing fields, ns)."""
    clients: tuple[ClientSpec, ...] = ()
    """() means: find every entry point in the manifests."""
    rate_rps: float = 100.0
    """Requests per second from outside, over all entry points found, when `clients` is empty."""
    url: str = ""
    """Only this URL from outside, when `clients` is empty."""
    traffic_mode: str = FLOWS
    """One of `TRAFFIC_MODES`."""
    conntrack_max: int = 0
    """nf_conntrack_max of every node; 0: as kube-proxy sets it."""
    conntrack_buckets: int = 0
    """Size of every node's conntrack hash table (nf_conntrack_buckets); 0: as the kernel and kube-proxy set it."""
    kernel: tuple[int, int] = KERNEL
    """Linux release of the nodes: from 6.5 on MASQUERADE may take the port of a connection in TIME_WAIT."""
    pod_network: str = ROUTED
    """How nodes reach one another's pods (`POD_NETWORKS`)."""
    cni: str = BRIDGE.name
    """How pods hang on their node, and when that ends (`dataplane.cni.CNI_PROFILES`)."""
    nodes: int = 0
    """Make this many Nodes; 0: those given, else three."""
    namespace: str = "default"
    """Namespace of objects that name none."""
    profile: str = ""
    """How fast the cluster is (`control.profiles`); "": `small`. `delays` and `timing` go over it."""
    load_balancer: str = ""
    """Name of the profile of Services' load balancers (`control.lbprofiles`); "": what the manifests tell."""
    part_of: str = ""
    """Scenario file beside the folder that the manifests come from, which it puts together; "": there is none."""
    calls: str = "guess"
    """Who calls whom behind the front door: "guess" it from the manifests, "none", or "given" in `given_calls`."""
    given_calls: tuple[GivenCall, ...] = ()
    actions: tuple[Action, ...] = ()
    cold: bool = False
    """Start from nothing instead of a settled cluster."""
    duration_ns: int | None = None
