"""Packets, verdicts and the story of one request: plain data shared by walker, traces, kubectl face and screen."""

from dataclasses import field
from enum import StrEnum
from fractions import Fraction

from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection. Addresses are text (IPv4 or IPv6), `protocol` is TCP, UDP or SCTP."""

    src: str
    sport: int
    dst: str
    dport: int
    protocol: str = "TCP"

    @property
    def source(self) -> str:
        return join_host_port(self.src, self.sport)

    @property
    def destination(self) -> str:
        return join_host_port(self.dst, self.dport)


def join_host_port(host: str, port: int) -> str:
    """Write host:port, with brackets around IPv6 (as Go's net.JoinHostPort)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Verdict(StrEnum):
    """What a node's Service rules do with a first packet."""

    DNAT = "dnat"
    REJECT = "reject"
    DROP = "drop"
    ACCEPT = "accept"
    NONE = "none"
    """No Service rule takes the packet."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One thing a chooser could have chosen."""

    address: str
    """ip:port, or a node's ip:port for a load balancer."""
    chance: Fraction
    """Exact, before the draw."""
    target: Key | None = None
    """Pod or Node behind the address, if known."""
    chosen: bool = False
    note: str = ""
    """Why it could not be chosen, e.g. "no ingress pod"; chance is 0 then."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a request: who moved the packet, what changed, by which rule, and who wrote that rule.

    A hop with `number` 0 is a remark between hops (a refused try, the DNS note) and is printed as a sentence.
    """

    number: int
    where: str
    """Who moved it, as printed: "client", "load balancer", "node-a, kernel", "ingress, NGINX", "pod m4dd8"."""
    node: str = ""
    before: Packet | None = None
    after: Packet | None = None
    chooser: str = ""
    """"random", "flow hash", "round robin", "only choice", "" where nothing is chosen."""
    chance: Fraction = Fraction(1)
    alternatives: tuple[Alternative, ...] = ()
    mover: str = ""
    """"kernel DNAT", "NGINX", "CNI route", "load balancer"."""
    chains: tuple[str, ...] = ()
    """Chains walked, in order."""
    rules: tuple[str, ...] = ()
    """Rules taken, in order, as the mode's own tool prints them; nftables: "chain: rule"."""
    writer: str = ""
    """Who wrote the deciding rule or route, from which revision, and when, in words."""
    why: str = ""
    """Plain-word reason, one line."""
    seen: str = ""
    """Who the receiver thinks is calling, in words: "pod m4dd8 sees 10.0.1.51, node-b, not …"; "" for a remark."""
    touches: tuple[Key, ...] = ()
    """Objects whose rows this hop belongs to (Node, Pod, Service, Ingress…)."""
    try_number: int = 1
    t_ns: int = 0
    """When it happened, simulated ns."""
    outcome: str = ""
    """"", "refused", "timeout", "reset", "dropped", or "200" on the answering pod."""


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """Everything about one request that really happened in the lab (or one `curl`)."""

    stream: int
    number: int
    """Number of the request in its stream; 0 is the one `kflab trace` shows."""
    method: str
    url: str
    source: str
    """Who asked: client address or pod name."""
    t_start_ns: int
    latency_ns: int | None
    """None while it is in flight."""
    status: str
    """"200", "502", "refused", "timeout", "reset", "no such host", …"""
    tries: int
    hops: tuple[Hop, ...]
    """The way there, in order, hops of all tries, numbered from 1."""
    back: tuple[Hop, ...] = ()
    """The way back, un-NATed, from the pod to the client."""
    parts: tuple[tuple[str, int], ...] = ()
    """Latency split in ns, in order: refused, timeout, queue, service, network (names as printed); sums to latency."""
    not_modelled: tuple[str, ...] = field(default=())
    proxy_waits_s: tuple[int | None, int | None] = (None, None)
    """How long its NGINX waits for a connection and for an answer, where its configuration says so."""
