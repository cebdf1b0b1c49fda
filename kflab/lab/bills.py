"""A bill: requests lost by one cause in one window of time; and the causes there are."""

from collections import Counter
from dataclasses import field

from kflab.lab.records import Record
from kflab.lab.spread import Spread
from kflab.lab.truth import OPEN
from kflab.manifest.objects import Key
from kflab.records import dataclass


class Cause:
    """Why a request was lost. Values are stable: they appear in JSON."""

    STALE = "stale"
    """An observer's rules still led to a pod that did not answer any more."""
    IN_FLIGHT = "in-flight"
    """The pod had accepted the request and went away before it answered."""
    DEAF = "not-listening"
    """Rules that are up to date lead to a port on which nothing listens: not yet, or not again after a restart."""
    KEPT = "kept-connection"
    """A connection kept from before led to a pod that was gone."""
    IDLE = "idle-close"
    """NGINX sent over a kept connection that its pod had just closed, because it was idle for so long."""
    STALE_FLOW = "stale-udp-entry"
    """A UDP sender's conntrack entry outlived its endpoint."""
    NO_ENDPOINTS = "no-endpoints"
    """REJECT: no endpoint to send to; NGINX answers 503."""
    NO_LOCAL = "no-local-endpoint"
    """Policy Local and no endpoint on this node: DROP; REJECT for callers in the cluster in IPVS mode."""
    BYPASSED = "answer-bypassed"
    """Policy Local and no endpoint on this node, in IPVS mode: a pod elsewhere answered the client in its own name."""
    NOT_PROGRAMMED = "not-programmed"
    """The node has no rule for this Service (yet): the packet follows the default route."""
    NO_RULES = "rules-removed"
    """kube-proxy was replaced and its predecessor's rules are removed."""
    NO_TARGETS = "no-targets"
    """The load balancer had no target that it held healthy."""
    FLOW_ENDED = "flow-ended"
    """A load balancer ended its connections to the target, which served on."""
    NODE_LOST = "node-lost"
    """A node on the way was off the network: no power, or cut off."""
    TABLE_FULL = "conntrack-full"
    NO_PORT = "no-source-port"
    """A node found no free source port for MASQUERADE."""
    DEADLINE = "client-deadline"
    """Its client gave up while a pod that answered all along had it queued or was serving it."""
    NO_NAME = "dns-no-answer"
    """DNS did not answer in time, or not at all."""
    SYN_LOST = "syn-lost"
    """A SYN, or the answer to it, got lost."""
    NO_ROUTE = "no-route"
    """NGINX has no rule for host and path: 404."""
    UNKNOWN = "not-explained"


@dataclass(slots=True)
class Bill:
    """Requests lost by one cause in one window. Times are simulated ns."""

    id: int
    cause: str
    observer: str
    """Whose knowledge (or choice) it was; "" where nobody's."""
    pod: Key | None
    """Who did not answer."""
    address: str
    """ip:port that was called; "" where nothing was."""
    node: str
    """Node on which the try began, or whose table was full."""
    service: Key | None
    """Whose endpoints were chosen from; None where nothing chose."""
    from_ns: int
    """When the truth changed, or the state began that lost it."""
    until_ns: int | None
    """When the observer had learned, or the state ended; None: not yet."""
    spread: Spread | None
    chooser: int
    server: int
    silent: bool = False
    """The server did not even refuse: whoever called waited."""
    cut: str = ""
    """Node that the server is on and that was off the network; "" where it was the server itself."""
    failed: int = 0
    slowed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """What clients got of the failed ones."""
    answers: Counter[int] = field(default_factory=Counter)
    """How the billed tries ended."""
    gaps: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Requests lost before the kubelet noticed, then before the slice was written, then before the observer learned."""
    first_ns: int = OPEN
    last_ns: int = -1
    """When the first and the last billed try was made."""
    sent: int = 0
    """How often clients sent these requests, retries counted."""
    patience_ns: int = 0
    """How long its caller waits for a connect, where it says so itself; for an answer where the pod hangs."""
    waits_for: str = "connect"
    """"read" where the pod hangs: its kernel makes connections. "answer" where there are none: UDP."""
    longest_ns: int = 0
    """The longest that any of these requests took."""
    example: Record | None = None

    @property
    def lost(self) -> int:
        """Requests on this bill."""
        return self.failed + self.slowed

    def take(self, other: "Bill") -> None:
        """Put another bill's requests on this one, which then is of both windows."""
        self.failed, self.slowed = self.failed + other.failed, self.slowed + other.slowed
        self.outcomes.update(other.outcomes)
        self.answers.update(other.answers)
        self.from_ns, self.first_ns = min(self.from_ns, other.from_ns), min(self.first_ns, other.first_ns)
        self.last_ns = max(self.last_ns, other.last_ns)
        self.until_ns = max(self.until_ns or 0, other.last_ns)
        self.longest_ns = max(self.longest_ns, other.longest_ns)
        self.sent += other.sent
