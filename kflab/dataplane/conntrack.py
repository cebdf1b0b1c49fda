"""Connection tracking: what a node's kernel remembers of each connection that crossed it.

The first packet of a connection makes an entry on every node it passes: with the address changes where that node
rewrote it (DNAT, MASQUERADE), without any where it only forwarded it, as on the pod's node. Later packets are rewritten
by the entry alone, no rule is asked. A packet that a rule rejects or drops leaves no entry: entries are confirmed when
the packet leaves the node (kernel net/netfilter/nf_conntrack_core.c, __nf_conntrack_confirm).
"""

from collections.abc import Callable, Sequence
from typing import Final

from kflab.dataplane.packets import Hop, Packet
from kflab.dataplane.request_back import reply
from kflab.manifest.objects_config import KubeProxyConfiguration
from kflab.records import dataclass

SECOND: Final = 1_000_000_000

ESTABLISHED: Final = "ESTABLISHED"
SYN_SENT: Final = "SYN_SENT"
FIN_WAIT: Final = "FIN_WAIT"
TIME_WAIT: Final = "TIME_WAIT"
CLOSE: Final = "CLOSE"

KERNEL_TCP_S: Final = {
    SYN_SENT: 120,
    "SYN_RECV": 60,
    ESTABLISHED: 432_000,
    FIN_WAIT: 120,
    "CLOSE_WAIT": 60,
    "LAST_ACK": 30,
    TIME_WAIT: 120,
    CLOSE: 10,
}
"""The kernel's timeouts by state, seconds (net/netfilter/nf_conntrack_proto_tcp.c, tcp_timeouts; sysctls
nf_conntrack_tcp_timeout_*, Documentation/networking/nf_conntrack-sysctl.rst)."""

KERNEL_UDP_S: Final = 30
"""nf_conntrack_udp_timeout: nothing came back, or the exchange is younger than two seconds."""

KERNEL_UDP_STREAM_S: Final = 120
"""nf_conntrack_udp_timeout_stream: answered, and still used two seconds after the first packet."""

KERNEL_BUCKETS: Final = 262_144
"""Size of the hash table of such a kernel (the same function)."""

UDP_STREAM_AFTER_NS: Final = 2 * SECOND
"""net/netfilter/nf_conntrack_proto_udp.c: stream_ts, set two seconds after the first packet."""

KERNEL_MAX: Final = 262_144
"""nf_conntrack_max of a kernel with more than 4 GB of memory, where kube-proxy leaves it alone (nf_conntrack_core.c,
nf_conntrack_init_start: as many as buckets)."""

SYN_RETRIES_NS: Final = tuple(((1 << k) - 1) * SECOND for k in range(7))
"""When a SYN is sent, after the first: each wait is twice the one before, from 1 s (RFC 6298; net.ipv4.tcp_syn_retries
6). Each refreshes its entry. Kernels from 6.5 on wait 1 s four times first (tcp_syn_linear_timeouts); not modelled."""

PROTOCOL_NUMBERS: Final = {"TCP": 6, "UDP": 17, "SCTP": 132}


@dataclass(frozen=True, slots=True)
class ConntrackSettings:
    """What kube-proxy sets the kernel to. Defaults: pkg/proxy/apis/config/v1alpha1/defaults.go."""

    max_per_core: int = 32_768
    """`conntrack.maxPerCore`; 0 leaves nf_conntrack_max as it is."""
    min: int = 131_072
    """`conntrack.min`: nf_conntrack_max is never set below it."""
    tcp_established_s: int = 86_400
    """`conntrack.tcpEstablishedTimeout` (24 h); 0 leaves the kernel's five days."""
    tcp_close_wait_s: int = 3_600
    """`conntrack.tcpCloseWaitTimeout` (1 h); 0 leaves the kernel's."""
    udp_s: int = 0
    """`conntrack.udpTimeout`; 0 leaves the kernel's 30 s."""
    udp_stream_s: int = 0
    """`conntrack.udpStreamTimeout`; 0 leaves the kernel's 120 s."""

    @classmethod
    def from_object(cls, given: KubeProxyConfiguration | None) -> "ConntrackSettings":
        """Settings of a KubeProxyConfiguration object; the defaults without one."""
        if given is None:
            return cls()
        conntrack = given.conntrack
        return cls(
            conntrack.max_per_core,
            conntrack.min,
            int(conntrack.tcp_established_s),
            int(conntrack.tcp_close_wait_s),
            int(conntrack.udp_s),
            int(conntrack.udp_stream_s),
        )

    def max_of(self, cores: int) -> int:
        """nf_conntrack_max of a node (cmd/kube-proxy/app/server_linux.go, getConntrackMax).

        Args:
            cores: CPUs of the node; 0 where nobody says: then the minimum.
        """
        return max(self.max_per_core * cores, self.min) if self.max_per_core > 0 else KERNEL_MAX

    def tcp_s(self, state: str) -> int:
        """Timeout of a TCP state in seconds, as kube-proxy leaves it (cmd/kube-proxy/app/conntrack.go)."""
        given = {ESTABLISHED: self.tcp_established_s, "CLOSE_WAIT": self.tcp_close_wait_s}.get(state, 0)
        return given or KERNEL_TCP_S[state]

    @property
    def udp_ns(self) -> int:
        """How long an unanswered UDP entry lives after its last packet."""
        return (self.udp_s or KERNEL_UDP_S) * SECOND

    @property
    def udp_stream_ns(self) -> int:
        """How long an answered UDP stream's entry lives after its last packet."""
        return (self.udp_stream_s or KERNEL_UDP_STREAM_S) * SECOND


def buckets_for(most: int) -> int:
    """Size of a node's hash table: kube-proxy lets it be a quarter of nf_conntrack_max at least.

    Source: k/k cmd/kube-proxy/app/conntrack.go, SetMax.
    """
    return max(KERNEL_BUCKETS, most // 4)


# --- an entry ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Life:
    """State of an entry and when it ends if no packet comes."""

    state: str
    """TCP state; "" for other protocols."""
    expires_ns: int
    unreplied: bool = False
    assured: bool = False


@dataclass(frozen=True, slots=True)
class Tracked:
    """A connection as one node's table sees it."""

    node: str
    original: Packet
    """As its first packet came to (or left) the node."""
    reply: Packet
    """The answer that the node expects: it comes from where DNAT sent the packet, to where MASQUERADE says."""
    try_number: int = 0
    """Which of NGINX's tries opened it; 0: the client."""
    opened_ns: int = 0

    @property
    def src_nat(self) -> bool:
        """Whether the source was rewritten."""
        return (self.reply.dst, self.reply.dport) != (self.original.src, self.original.sport)

    @property
    def dst_nat(self) -> bool:
        """Whether the destination was rewritten."""
        return (self.reply.src, self.reply.sport) != (self.original.dst, self.original.dport)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a node's table."""

    tracked: Tracked
    life: Life

    def text(self, now_ns: int) -> str:
        """The line as `conntrack -L` prints it (libnetfilter_conntrack, src/conntrack/snprintf_default.c)."""
        original, life = self.tracked.original, self.life
        left_s = max(0, (life.expires_ns - now_ns) // SECOND)
        parts = [f"{original.protocol.lower():<8} {PROTOCOL_NUMBERS.get(original.protocol, 0)} {left_s}"]
        if life.state:
            parts.append(life.state)
        parts.append(_tuple_text(original))
        if life.unreplied:
            parts.append("[UNREPLIED]")
        parts.append(_tuple_text(self.tracked.reply))
        if life.assured:
            parts.append("[ASSURED]")
        return " ".join((*parts, "mark=0 use=1"))


def _tuple_text(packet: Packet) -> str:
    return f"src={packet.src} dst={packet.dst} sport={packet.sport} dport={packet.dport}"


@dataclass(frozen=True, slots=True)
class NodeTable:
    """A node's table at an instant."""

    node: str
    entries: tuple[Entry, ...]
    """Those the lab can name, newest requests first."""
    count: int
    """All of them."""
    max: int
    """nf_conntrack_max."""
    enforced: bool = True
    """Whether first packets are dropped at the maximum: not where it is only the minimum that kube-proxy sets."""
    ports: tuple[tuple[str, int], ...] = ()
    """(ip:port, source ports taken) of destinations towards which MASQUERADE may run out of them."""
    no_room: int = 0
    """First packets dropped because the table was full."""
    no_port: int = 0
    """First packets dropped because MASQUERADE found no source port."""
    early_drops: int = 0
    """Entries, not ASSURED, that gave way to first packets because the table was full."""


# --- what a request leaves behind -------------------------------------------------------------------------------

_OFF_NODE: Final = frozenset({"load balancer"})
_REWRITES: Final = frozenset({"kernel DNAT", "conntrack", "CNI route"})
_OPENS: Final = frozenset({"client", "socket", "NGINX"})


def tracked_by(hops: Sequence[Hop], node_of: Callable[[str], str]) -> tuple[Tracked, ...]:
    """The entries that a request's connections make, in order of the path.

    Args:
        hops: The request's way there, as the walker tells it.
        node_of: Node that holds an address; "" for one outside the cluster or one that is gone.

    Returns:
        One per connection and node it crosses. A node that passes a packet on by several rules has one entry. A pod
        that calls a pod of its own node crosses that node's forwarding and is tracked there once.
    """
    found: list[Tracked] = []
    connection = _Connection()
    for hop in hops:
        if not hop.number:
            continue
        opens = hop.mover in _OPENS and hop.after is not None
        if opens:
            found += connection.close(node_of)
            connection = _Connection(hop.after, hop.node, hop.try_number if hop.mover == "NGINX" else 0, hop.t_ns)
        elif hop.mover in _OFF_NODE:
            connection.packet = hop.after
        elif hop.after is None:
            connection.packet = None  # it ended here: rejected, dropped, or NGINX answered by itself
            if hop.mover == "NGINX":
                connection.packet = hop.before
        elif hop.mover in _REWRITES and hop.before is not None:
            connection.rewritten(hop.node, hop.before, hop.after)
    return (*found, *connection.close(node_of))


class _Connection:
    """A connection while its packet is followed."""

    def __init__(self, packet: Packet | None = None, node: str = "", try_number: int = 0, t_ns: int = 0) -> None:
        self.opened, self.packet, self.node = packet, packet, node
        self.try_number, self.t_ns = try_number, t_ns
        self.changes: dict[str, tuple[Packet, Packet]] = {}
        """Node → (as the packet came, as it left)."""

    def rewritten(self, node: str, before: Packet, after: Packet) -> None:
        came = self.changes[node][0] if node in self.changes else before
        self.changes[node] = came, after
        self.packet = after

    def close(self, node_of: Callable[[str], str]) -> list[Tracked]:
        """Entries on every node crossed; none for a packet that a rule ended."""
        if self.opened is None or self.packet is None:
            return []
        pairs = dict(self.changes)
        if self.node and self.node not in pairs:
            pairs = {self.node: (self.opened, self.opened), **pairs}
        there = node_of(self.packet.dst)
        if there and there not in pairs:
            pairs[there] = self.packet, self.packet
        return [
            Tracked(node, came, reply(left), self.try_number, self.t_ns) for node, (came, left) in pairs.items()
        ]  # fmt: skip


# --- how long it lives ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Course:
    """How a connection went, as far as it has gone."""

    start_ns: int
    """When its first packet was sent."""
    end_ns: int | None
    """When its caller knew the end; None while it is open."""
    answer: str = ""
    """ok, refused, reset, timeout, rejected, no upstream; "" while it is open."""
    accepted: bool = False
    """Whether the other side took the connection (or, UDP, answered)."""
    idle_since_ns: int | None = None
    """A kept connection: since when no packet passed; None: packets pass."""


def life_of(course: Course, protocol: str, settings: ConntrackSettings, now_ns: int) -> Life | None:
    """The state of a connection's entries, and when they end; None where there is none (any more).

    A caller closes its connection when it has the whole answer. RST to a SYN deletes the entry at once; RST on an
    established connection leaves CLOSE (nf_conntrack_proto_tcp.c, nf_conntrack_tcp_packet). The handshake and the
    closing one take no time of their own here, so SYN_RECV, CLOSE_WAIT and LAST_ACK are passed in no time. The clock
    of an entry starts at its caller's instants on every node; the way between nodes is left out.
    """
    ended = course.end_ns is not None and course.end_ns <= now_ns
    if protocol == "UDP":
        return _udp_life(course, settings, now_ns)
    if not ended:
        if not course.accepted:
            return _tcp_life(SYN_SENT, last_syn_ns(course.start_ns, now_ns), settings, now_ns)
        last = course.start_ns if course.idle_since_ns is None else course.idle_since_ns
        return _tcp_life(ESTABLISHED, last, settings, now_ns)
    end_ns = course.end_ns or 0
    match course.answer:
        case "ok":
            return _tcp_life(TIME_WAIT, end_ns, settings, now_ns)
        case "reset":
            return _tcp_life(CLOSE, end_ns, settings, now_ns)
        case "timeout" if course.accepted:
            return _tcp_life(FIN_WAIT, end_ns, settings, now_ns)
        case "timeout":
            return _tcp_life(SYN_SENT, last_syn_ns(course.start_ns, end_ns), settings, now_ns)
    return None


def last_syn_ns(start_ns: int, until_ns: int) -> int:
    """When the last SYN of a connection that nobody answers was sent, up to an instant."""
    return max(start_ns + wait for wait in SYN_RETRIES_NS if not wait or start_ns + wait <= until_ns)


def _tcp_life(state: str, since_ns: int, settings: ConntrackSettings, now_ns: int) -> Life | None:
    expires_ns = since_ns + settings.tcp_s(state) * SECOND
    if expires_ns <= now_ns:
        return None
    unreplied = state == SYN_SENT
    return Life(state, expires_ns, unreplied=unreplied, assured=not unreplied)


def _udp_life(course: Course, settings: ConntrackSettings, now_ns: int) -> Life | None:
    """One datagram and its answer; ICMP errors refresh nothing and delete nothing."""
    if course.answer in ("rejected", "no upstream"):
        return None
    replied = course.answer == "ok" and course.end_ns is not None and course.end_ns <= now_ns
    last_ns = course.end_ns if replied and course.end_ns is not None else course.start_ns
    stream = replied and last_ns - course.start_ns > UDP_STREAM_AFTER_NS
    expires_ns = last_ns + (settings.udp_stream_ns if stream else settings.udp_ns)
    return Life("", expires_ns, unreplied=not replied, assured=stream) if expires_ns > now_ns else None
