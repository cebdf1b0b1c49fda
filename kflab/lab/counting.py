"""Counts or flows: in which spans of a lab's time requests are only counted, and why not in the others.

With `traffic.mode: auto` each simulated second is one or the other, decided at its start by what the lab is then: by
what is due in the control plane, what happened shortly before, and what the engine has against it (`engine.counting`).
What nobody could foresee, a user's command or an action of the scenario, ends a counted second at its instant. So the
story is the same at any speed and for any frames.
"""

from collections import Counter
from typing import TYPE_CHECKING

from kflab.lab.spec import AUTO

if TYPE_CHECKING:
    from kflab.lab.running import Lab

CELL_NS = 1_000_000_000
"""Counts or flows is decided for this long."""

SETTLE_NS = 2_000_000_000
"""Requests are followed for this long after anything has happened, so that what it did to them is seen. Ours."""

ENTRY_S = 125
"""How long a conntrack entry of a request that goes well lasts at most, s: nf_conntrack_tcp_timeout_time_wait (120,
net/netfilter/nf_conntrack_proto_tcp.c) or nf_conntrack_udp_timeout_stream (120), and the request itself."""

ASSUMED = (
    "requests are counted while nothing changes, not followed one by one: none of those can be opened or found in a "
    "conntrack table; turns are taken in order of start, and of NGINX's kept connections only the turns are counted"
)
OVERRIDE = "traffic: {mode: flows}, --traffic flows"


class Counting:
    """Decides for one lab.

    Args:
        lab: The lab.
    """

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self.enabled = lab.spec.traffic_mode == AUTO
        self.followed: Counter[str] = Counter()
        """Why whole seconds were not counted → how many."""
        self._why = ""
        """Why this second is not counted; "" where it was when it began."""

    def next_stop(self, to_ns: int) -> int:
        """Decide about the second that begins now, if one does; return how far to go in one go, at most `to_ns`."""
        lab = self._lab
        slab_end = (lab.t_ns // lab.slab_ns + 1) * lab.slab_ns
        if not self.enabled:
            return min(to_ns, slab_end)
        cell_end = (lab.t_ns // CELL_NS + 1) * CELL_NS
        if lab.t_ns % CELL_NS == 0:
            why = self._why_not(cell_end)
            lab.engine.count_requests(not why)
            self._why = why
            if why:
                self.followed[why] += 1
        return min(to_ns, cell_end if lab.engine.counted.on else min(slab_end, cell_end))

    def _why_not(self, cell_end_ns: int) -> str:
        lab = self._lab
        due = lab.plane.next_ns()
        if due is not None and due <= cell_end_ns:
            return "the control plane had something to do"
        last_ns = lab.news.last_ns
        if last_ns is not None and lab.t_ns - last_ns < SETTLE_NS:
            return "something had just happened"
        # Counted requests leave no entries.
        if lab.conntrack.ports.followed:
            return "source ports may run out"
        if lab.conntrack.limited and not self._far_from_full():
            return "conntrack tables may come near their maximum"
        return lab.engine.may_count()

    def _far_from_full(self) -> bool:
        """Whether no node's table can be half full, even if every connection went to one node."""
        conntrack, nodes = self._lab.conntrack, [key.name for key in self._lab.store.keys("Node")]
        limits = [conntrack.max_of(node) for node in nodes if conntrack.limits(node)]
        connections = sum(one.rate_rps * (2 if one.kind == "l7" else 1) for one in self._lab.engine.streams)
        return not limits or 2 * connections * ENTRY_S <= min(limits)

    def interrupt(self) -> None:
        """Follow each request from now on: something was done that nobody could foresee."""
        if self.enabled:
            self._lab.engine.count_requests(False)

    @property
    def why_followed(self) -> str:
        """Why requests are followed one by one now; "" where they are counted, or are never."""
        counted = self._lab.engine.counted
        if not self.enabled or counted.on or not self._lab.t_ns:
            return ""
        return self._why or ("a client gave a request up" if counted.missed else "something has just happened")

    @property
    def requests(self) -> int:
        """How many requests were counted, not followed."""
        return self._lab.engine.counted.requests

    def spans(self) -> tuple[tuple[int, int], ...]:
        """(from, to) in ns of the counted spans, the latest `KEPT_SPANS` of them."""
        return self._lab.engine.counted.spans_until(self._lab.t_ns)

    def counted_ns(self) -> int:
        """How long requests were counted in all."""
        return self._lab.engine.counted.counted_ns(self._lab.t_ns)
