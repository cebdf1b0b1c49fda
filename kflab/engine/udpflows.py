"""UDP senders with a fixed source port: their conntrack entry on the caller's node decides, not the rules.

Such a stream has one five-tuple, so one entry per node it calls through. The entry is made by the first datagram that
the rules let through; every later one follows it and renews it, whatever the rules say by then. It ends when nothing
was sent for its timeout (net/netfilter/nf_conntrack_proto_udp.c), or when kube-proxy on that node cleans up
(k/k pkg/proxy/conntrack/cleanup.go, CleanStaleEntries).

Simplified: a datagram that no Service rule takes (kube-proxy has not written the Service yet) leaves an entry without
DNAT in a kernel; here it leaves none.
"""

from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from kflab.dataplane.conntrack import UDP_STREAM_AFTER_NS
from kflab.engine.types import Int64Array, Timing
from kflab.records import dataclass

BoolArray = NDArray[np.bool_]

Place = tuple[int, int]
"""(stream, place whose kernel has the entry)."""


@dataclass(slots=True)
class UdpFlow:
    """One entry."""

    server: int
    """Where DNAT sends its datagrams."""
    number: int
    """The request that made it."""
    created_ns: int
    last_ns: int
    """When the last datagram passed."""
    replied: bool = False
    """Whether anything ever came back."""

    def timeout_ns(self, timing: Timing) -> int:
        """How long it lives after its last datagram."""
        stream = self.replied and self.last_ns > self.created_ns + UDP_STREAM_AFTER_NS
        return timing.udp_stream_timeout_ns if stream else timing.udp_timeout_ns


@dataclass(slots=True)
class UdpFlows:
    """The entries of all such streams: at most one per stream and place."""

    flows: dict[Place, UdpFlow] = field(default_factory=dict)
    cleanups: dict[Place, list[tuple[int, frozenset[int]]]] = field(default_factory=dict)
    """Cleanups to come, ascending: at this instant every entry whose server is not among these ends."""

    def clean(self, place: Place, t_ns: int, keep: frozenset[int]) -> None:
        """At `t_ns` (now or later) end the entry unless its server is in `keep`."""
        self.cleanups.setdefault(place, []).append((t_ns, keep))

    def _cleaned_ns(self, place: Place, flow: UdpFlow) -> int | None:
        """When a cleanup ends an entry; None if none does."""
        times = (t for t, keep in self.cleanups.get(place, ()) if t > flow.created_ns and flow.server not in keep)
        return next(times, None)

    def forget(self, stream: int) -> None:
        """A stream's datagrams come from another address from now on.

        Simplified: the entries from before, which nothing follows any more, do not stay until their timeout.
        """
        for place in [place for place in self.flows if place[0] == stream]:
            del self.flows[place]

    def settle(self, end_ns: int) -> None:
        """Carry out the cleanups before `end_ns` on entries that nobody used since."""
        for place, coming in list(self.cleanups.items()):
            flow = self.flows.get(place)
            cleaned = self._cleaned_ns(place, flow) if flow else None
            if cleaned is not None and cleaned < end_ns:
                del self.flows[place]
            left = [each for each in coming if each[0] >= end_ns]
            if left:
                self.cleanups[place] = left
            else:
                del self.cleanups[place]

    def has(self, place: Place, t_ns: int, answering: BoolArray, timing: Timing) -> bool:
        """Say whether a datagram at `t_ns` would follow an entry (`answering` as in `follow`)."""
        flow = self.flows.get(place)
        if flow is None:
            return False
        cleaned = self._cleaned_ns(place, flow)
        if cleaned is not None and cleaned <= t_ns:
            return False
        now = UdpFlow(
            flow.server, flow.number, flow.created_ns, flow.last_ns, flow.replied or bool(answering[flow.server])
        )
        return t_ns - flow.last_ns < now.timeout_ns(timing)

    def follow(
        self,
        place: Place,
        times: Int64Array,
        numbers: Int64Array,
        picks: Int64Array,
        answering: BoolArray,
        timing: Timing,
    ) -> tuple[Int64Array, BoolArray]:
        """Send datagrams of one stream through one node, in order of time.

        One turn of the loop per entry that ends, not per datagram.

        Args:
            place: Stream and place.
            times: When each datagram meets the node's rules, shape (n,), ns, ascending.
            numbers: Their numbers in the stream, shape (n,).
            picks: What the rules would choose for each, shape (n,); -1 where they reject or drop it.
            answering: [servers] -> whether anything comes back from it at this time.
            timing: For the timeouts.

        Returns:
            Server per datagram, shape (n,), -1 where the rules turned it away; and whether it followed an entry that
            was there already, shape (n,).
        """
        servers = picks.copy()
        followed = np.zeros(len(times), dtype=bool)
        i, n = 0, len(times)
        while i < n:
            flow = self.flows.get(place)
            if flow is None:
                made = np.flatnonzero(picks[i:] >= 0)
                if not len(made):
                    break
                i += int(made[0])
                flow = UdpFlow(int(picks[i]), int(numbers[i]), int(times[i]), int(times[i]))
                self.flows[place] = flow
                i += 1
            flow.replied = flow.replied or bool(answering[flow.server])
            before = np.concatenate(([flow.last_ns], times[i : n - 1])) if i < n else times[:0]
            streams = flow.replied & (before > flow.created_ns + UDP_STREAM_AFTER_NS)
            silent = times[i:] - before >= np.where(streams, timing.udp_stream_timeout_ns, timing.udp_timeout_ns)
            end = i + int(silent.argmax()) if silent.any() else n
            cleaned = self._cleaned_ns(place, flow)
            if cleaned is not None:
                end = min(end, int(np.searchsorted(times, cleaned, side="left")))
            servers[i:end], followed[i:end] = flow.server, True
            if end > i:
                flow.last_ns = int(times[end - 1])
            if end < n:
                del self.flows[place]
            i = max(i, end)
        return servers, followed
