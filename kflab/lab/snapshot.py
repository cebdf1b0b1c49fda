"""What a running lab shows: one immutable value per frame. Faces read nothing else.

Rates, shares and percentiles cover the last 0.5 s of simulated time. Times are simulated int64 ns; t = 0 is the
moment the lab opened. Series are counts per 100 ms bin.
"""

from dataclasses import field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from kflab.lab.autopsy_values import AutopsyReport
from kflab.manifest.objects import Key
from kflab.records import dataclass

BIN_NS = 100_000_000
"""Width of a bin of every series, 0.1 s: one cell of the lens."""

SERIES_BINS = 340
"""How many bins a snapshot carries at most: 30 s of context and a little more."""


@dataclass(frozen=True, slots=True)
class Series:
    """Counts per bin, oldest first, aligned to `Snapshot.first_bin`; both arrays are read-only int64, same length.

    The last bin is the one that is still filling. `ok` counts what went well, `bad` tries refused, reset or timed
    out (in the failed row: failed requests).
    """

    ok: NDArray[np.int64]
    bad: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of a band: something a chooser may choose."""

    key: Key
    name: str
    """Full name; faces shorten it in the middle."""
    state: str
    """healthy, unhealthy, ready, "not ready", starting, crashed, hung, terminating, pending, gone, succeeded."""
    address: str = ""
    node: str = ""
    share: float | None = None
    """Observed share of the band's rate, 0..1; None where nothing flowed."""
    expected: float | None = None
    """Expected share, 0..1; None where it has no part."""
    low: float = 0.0
    high: float = 1.0
    """99 % band of the observed share, given how many connections there were."""
    rate_rps: float = 0.0
    failing: bool = False
    """Tries to it are being refused, reset or timed out in the last 0.5 s."""
    restarts: int = 0
    note: str = ""
    """Why its series is empty, e.g. "no ingress pod"; or what it waits for ("back-off 10 s")."""
    left: str = ""
    """What it waits for in at most 11 characters, stands for the state word: "ends in 27s", "backoff 38s"."""
    series: Series | None = None
    listed: bool = True
    """Whether the calling observer's rules list it (a crashed pod may still be listed)."""


@dataclass(frozen=True, slots=True)
class Band:
    """A chooser (one bold line) and its candidates (one row each)."""

    id: str
    """Stable for the life of the lab, e.g. "client/0", "lb/NS/SVC", "ingress/NS/SVC", "service/NS/SVC:80"."""
    kind: str
    """client, dns, lb, ingress, route, service."""
    title: str
    """client, DNS, load balancer, ingress, Service; "" for a route (connector) row."""
    detail: str
    """What stands after the title, complete: "product-service 10.96.100.50:80 → :8080 · random"."""
    short: str = ""
    """The same for 80 columns."""
    key: Key | None = None
    """The Service, Ingress or Deployment behind it."""
    figure: str = ""
    """Printed instead of a rate, e.g. "cached" for DNS."""
    rate_rps: float = 0.0
    tries_per_request: float = 1.0
    series: Series | None = None
    note: str = ""
    """Shown where the sparkline would be, e.g. "TTL 60 s"."""
    candidates: tuple[Candidate, ...] = ()
    footer: str = ""
    """E.g. "303 tries refused in 0.63 s; NGINX tried again and saved 187 requests"; "" in the steady state."""
    footer_short: str = ""
    """E.g. "303 refused"."""
    parent: str = ""
    """Id of the band whose chosen thing comes here ("" for the first)."""
    caller_nodes: tuple[str, ...] = ()
    """Nodes on which this band's choice is made."""


@dataclass(frozen=True, slots=True)
class SocketRow:
    """The WebSockets of one client."""

    client: str
    open: int
    cut: tuple[tuple[str, int], ...]
    """(why, how many were cut so far)."""
    last_cut_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """The row under the client: what the user feels."""

    rate_rps: float
    since_event: int
    """Failed requests since the last change (or the start)."""
    text: str
    """E.g. "18 answered 502 after 3 tries"; "" when there were none."""
    series: Series


@dataclass(frozen=True, slots=True)
class Knower:
    """One observer of the last change."""

    name: str
    """"node-b kubelet", "EndpointSlice", "node-a rules", "ingress-…-4kq2x upstreams", "load balancer"."""
    key: Key
    """What selecting the row shows: Node, EndpointSlice, Pod."""
    in_step: bool
    running: bool
    """False: this component is stopped; what it does not know it will not learn."""
    revision: str
    """"rev 41", "rev 41 nftables", "no rules", "exit 137", "exit unseen", "running"; a node's condition."""
    callers: str
    """"callers here", "nobody calls", ""."""
    learned_ns: int | None
    """Simulated time it learned of the last change; None: not yet, or nothing to learn."""
    word: str
    """What its learning meant: noticed, written, traffic moves, in step; "not noticed yet" before; "restarting"."""
    refused: int = 0
    """Tries by this observer's rules that were refused, reset or timed out since the change."""
    off: bool = False
    """Its node has no power: nobody is there who could learn. It does not count."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Who knows of the last change. Before any change all are in step and `what` is ""."""

    what: str
    """"that product-…-m4dd8 crashed at 12.40 · restart 1" with the full pod name; "" before the first change."""
    t_ns: int | None
    """When the change happened."""
    kind: str
    """crash, delete, apply, scale, stop, start, mode, "" """
    subject: Key | None
    moved_ns: int | None
    """When the rules of the last calling observer changed: traffic has moved. None: not yet or not concerned."""
    knowers: tuple[Knower, ...]
    changes: tuple[int, int] | None = None
    """Of a rollout or drain, (changes of pods known to all, changes so far); `t_ns`, `subject` and the rows are then
    about the newest of them. None: the change is of another kind, or has not come to a pod yet."""
    began_ns: int | None = None
    """When that rollout or drain began."""

    @property
    def known(self) -> int:
        """How many of those that count are in step."""
        return sum(knower.in_step for knower in self.knowers if not knower.off)

    @property
    def count(self) -> int:
        """How many observers have, or had, something to learn."""
        return sum(not knower.off for knower in self.knowers)


@dataclass(frozen=True, slots=True)
class Mark:
    """A change on the time axis."""

    t_ns: int
    kind: str
    """crash, delete, apply, scale, stop, start, mode and the other verbs; begin (a pod of a rollout answers), moved,
    cut (WebSockets)."""
    label: str


@dataclass(frozen=True, slots=True)
class PodRow:
    """A pod as the nodes view shows it."""

    key: Key
    state: str
    address: str
    rate_rps: float
    failing: bool
    restarts: int
    share: float | None = None
    expected: float | None = None
    left: str = ""
    """As `Candidate.left`."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node as the nodes view shows it."""

    key: Key
    address: str
    ready: str
    """True, False, Unknown."""
    zone: str
    rules: str
    """"rev 41"; once kube-proxy was reconfigured with its mode: "rev 41 nftables"; "no rules" until its first sync."""
    rules_in_step: bool
    proxy_running: bool
    kubelet_running: bool
    callers: bool
    dnat_rps: float
    """New connections DNATed on this node."""
    next_look_ns: int | None
    """When its kubelet's next PLEG relist that can matter happens; None where unknown or stopped."""
    pods: tuple[PodRow, ...]
    outage: str = ""
    """What is wrong with its machine in truth: "no power", "cut off", "cut off from the API", "shutting down"."""
    cordoned: bool = False
    draining: int = 0
    """IPVS: destinations of weight 0, kept for connections that are still open or remembered."""
    rules_since_ns: int | None = None
    """Since when its rules are made of that revision; None before its first sync."""


@dataclass(frozen=True, slots=True)
class TraceTry:
    """One try of a traced request, short form."""

    pod: str
    """Full pod name, or the address where no pod has it."""
    outcome: str
    """ok, refused, reset, timeout, dropped, rejected."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One sampled, finished request."""

    id: int
    """What `open_request` takes. Grows."""
    stream: int
    number: int
    t_ns: int
    """When it finished."""
    t_start_ns: int
    method: str
    path: str
    url: str
    source: str
    """"203.0.113.45:49408"."""
    ingress: str
    """Full name of the ingress pod, "" without one."""
    service: Key | None
    tries: tuple[TraceTry, ...]
    status: str
    """"200", "502", "refused", "timeout", …"""
    ok: bool
    latency_ns: int
    parts: tuple[tuple[str, int], ...]
    """(name, ns): earlier attempts, refused, timeout, queue, service, calls, network."""
    label: str = ""
    """Of a call between pods: "frontend → cartservice:7070"."""


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One candidate in the shares view: connections since the last change against the expected share."""

    key: Key
    state: str
    connections: int
    requests: int
    expected: Fraction | None
    low: int
    high: int
    """99 % band of `connections`."""


@dataclass(frozen=True, slots=True)
class ShareGroup:
    """The candidates of one chooser."""

    title: str
    band: str
    n: int
    since_ns: int
    p_value: float | None
    word: str
    """"luck" or "structural"."""
    why: str
    rows: tuple[ShareRow, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the story sentence. `tone`: text, dim, strong, key, known, late, lost."""

    text: str
    tone: str = "text"


@dataclass(frozen=True, slots=True)
class Component:
    """Something that can be stopped and started."""

    name: str
    """"kube-proxy/node-a", "kubelet/node-a", "apiserver"."""
    running: bool
    t_ns: int | None = None
    """Since when it is stopped."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The lab at one instant."""

    scenario: str
    seed: int
    t_ns: int
    paused: bool
    speed_asked: float
    speed_reached: float
    """Equal to asked when the lab keeps up (within 2 %)."""
    rate_rps: float
    ok_share: float | None
    """Share of finished requests that went well, last 0.5 s; None without any."""
    failed_total: int
    sent_total: int
    p50_ns: int | None
    p99_ns: int | None
    first_bin: int
    """Index of the first bin of every series: it covers [first_bin, first_bin + 1) × BIN_NS."""
    n_bins: int
    bands: tuple[Band, ...]
    failures: Failures
    knowledge: Knowledge
    marks: tuple[Mark, ...]
    nodes: tuple[NodeRow, ...]
    traces: tuple[TraceRow, ...]
    """The newest sampled requests, oldest first, at most 400."""
    traces_seen: int
    """How many rows were ever sampled (so a stopped view can say "214 newer")."""
    shares: tuple[ShareGroup, ...]
    components: tuple[Component, ...]
    story: tuple[Span, ...] = ()
    """The one sentence about what happens; () in the steady state (faces show their hint instead)."""
    sockets: tuple[SocketRow, ...] = ()
    """Of each client that keeps WebSockets open."""
    uncalled: tuple[Key, ...] = ()
    """Services that only the made client pod calls, at 1 request/s."""
    pods_total: int = 0
    rules_revision: int = 0
    load_factor: float = 1.0
    ended: bool = False
    """The scenario's duration is over."""
    narration: str = ""
    """Line of the scenario's last action that has one."""
    counting: bool = False
    """Requests are only counted now (`lab.counting`): `traces` gets no new rows."""
    followed: str = ""
    """Why requests are followed one by one now though they are counted where they can be; "" elsewhere."""
    autopsy: AutopsyReport = field(default_factory=AutopsyReport)
    """Bills of what was lost, and who knew when of every change."""
    extra: dict[str, str] = field(default_factory=dict)
