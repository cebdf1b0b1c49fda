"""What a full conntrack table does to make room (net/netfilter/nf_conntrack_core.c, Linux 6.1).

* A first packet takes the place of an entry that is not ASSURED, if the eight buckets it looks into hold one
  (early_drop; see `engine.table_room`, which draws that for each packet). Which entry goes is drawn from all such.
* The first packet that is dropped for want of one sets a flag. The collector's next scan sees it and kills entries that
  are not ASSURED or whose TCP connection closes (TIME_WAIT, CLOSE, FIN_WAIT …), until the table is below 95 % of its
  maximum (gc_worker, gc_worker_can_early_drop): 257 at most with the usual CONFIG_HZ of 250, for a scan that finds more
  (GC_SCAN_EXPIRED_MAX) goes on without the flag.
* It scans once in the mean time that entries have left, one second at least and 60 at most; 100 entries of 60 s are
  counted in (GC_SCAN_INITIAL_COUNT).

Simplified: all buckets are equally likely to hold an entry; a packet that finds a bucket with several such entries
evicts one, not all; until its table was full once, a node's collector scans every 60 s; a scan takes no time. An
evicted entry of a connection that still waits for its SYN's answer is not made again when the SYN is repeated. An
evicted entry of a request that is over leaves the count, not the listing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from kflab.control.names import number_of
from kflab.dataplane.conntrack import UDP_STREAM_AFTER_NS
from kflab.engine.memory import NEVER
from kflab.engine.scramble import words
from kflab.engine.table_room import TableRoom, chance
from kflab.engine.types import Finished, Int64Array, UInt64Array
from kflab.engine.udpflows import UdpFlow
from kflab.lab.records import Record
from kflab.lab.table_entries import EndedEntries, Found
from kflab.lab.tracked_rows import CLOSING, LOOSE, BoolArray

if TYPE_CHECKING:
    from kflab.lab.running import Lab

_S: Final = 1_000_000_000

SCAN_MIN_NS, SCAN_MAX_NS = 1 * _S, 60 * _S
"""GC_SCAN_INTERVAL_MIN, GC_SCAN_INTERVAL_MAX."""

PRETENDED: Final = 100
"""GC_SCAN_INITIAL_COUNT: entries of `SCAN_MAX_NS` that the mean begins with."""

HZ: Final = 250
"""CONFIG_HZ of most distributions' kernels."""

KILLED_MOST: Final = 64_000 // HZ + 1
"""A scan goes on without the flag when it has killed more than GC_SCAN_EXPIRED_MAX."""

_SYN_SENT_NS: Final = 120 * _S
_OPEN_NS: Final = 300 * _S
"""What the collector takes the time left of an established connection for (GC_SCAN_INTERVAL_CLAMP)."""


def assured(flow: UdpFlow) -> bool:
    """Whether a UDP entry is ASSURED: answered, and used two seconds after its first datagram."""
    return flow.replied and flow.last_ns > flow.created_ns + UDP_STREAM_AFTER_NS


class EarlyDrop:
    """The entries that full tables evict.

    Args:
        lab: The lab.
        ended: The nodes' entries of finished requests.
        buckets_of: Size of a node's hash table.
    """

    def __init__(self, lab: "Lab", ended: EndedEntries, buckets_of: Callable[[str], int]) -> None:
        self._lab, self._ended, self._buckets_of = lab, ended, buckets_of
        self._salt = lab.draws.control_u64("early-drop", "")
        self._gone: dict[int, UInt64Array] = {}
        """Place → words of evicted entries whose requests are under way, ascending."""
        self._flagged: dict[int, int] = {}
        """Place that dropped a packet since its collector's last scan → when it scans next."""
        self._next: dict[int, int] = {}
        """Place whose table was full once → when its collector scans next…"""
        self._every: dict[int, int] = {}
        """… and how often it does, by its last scan."""
        self._drawn: dict[int, int] = {}
        self._evicted: dict[int, int] = {}
        self._looks = 0

    def evicted(self, place: int) -> int:
        """Entries that gave way to a first packet on a node since the start (`conntrack -S`, early_drop)."""
        return self._evicted.get(place, 0)

    def machine_off(self, place: int) -> None:
        """A node's kernel stopped: its table is gone."""
        for known in (self._gone, self._flagged, self._next, self._every):
            known.pop(place, None)

    # --- entries that are gone ------------------------------------------------------------------------------------

    def without_gone(self, rows: Finished, found: Found) -> Found:
        """Leave out entries that were evicted while their requests were under way."""
        if not self._gone:
            return found
        return found.only(~self._is_gone(rows, found))

    def has_gone(self, place: int, one: Record, try_number: int) -> bool:
        """Whether a request's entry on a node was evicted while it was under way."""
        if place not in self._gone:
            return False
        stream, number, tries, there = (
            np.array([v], dtype=np.int64) for v in (one.stream, one.number, try_number, place)
        )
        return bool(np.isin(words(self._salt, stream, number, tries, there), self._gone[place])[0])

    def _is_gone(self, rows: Finished, found: Found) -> BoolArray:
        gone = np.zeros(len(found.places), dtype=bool)
        for place, known in self._gone.items():
            mine = np.flatnonzero(found.places == place)
            gone[mine] = np.isin(self._words(rows, found, mine), known)
        return gone

    def _words(self, rows: Finished, found: Found, which: Int64Array) -> UInt64Array:
        at = found.rows[which]
        return words(self._salt, rows.stream[at], rows.number[at], found.tries[which], found.places[which])

    # --- looking --------------------------------------------------------------------------------------------------

    def look(self, now_ns: int, rows: Finished, found: Found, count: Callable[[], Int64Array], most: Int64Array) -> int:
        """Carry out what first packets did since the last look, and what collectors do now.

        Args:
            now_ns: Now.
            rows: Requests under way.
            found: Their entries.
            count: Counts all entries, shape (places,).
            most: [places] -> nf_conntrack_max; `NEVER` where it is not enforced.

        Returns:
            When a collector scans next of a node that dropped a packet; `NEVER` for none.
        """
        self._forget(rows, found)
        room = self._lab.engine.steps.room
        if room is not None:
            for place in np.flatnonzero(room.evicted).tolist():
                n = int(room.evicted[place])
                self._evicted[place] = self._evicted.get(place, 0) + n
                self._evict(place, n, (LOOSE,), rows, found, now_ns)
            for place in np.flatnonzero(room.dropped).tolist():
                self._flag(place, now_ns)
        due = sorted(place for place, t_ns in self._flagged.items() if t_ns <= now_ns)
        if due:
            counts = count()
            for place in due:
                self._collect(place, int(counts[place]), int(most[place]), rows, found, now_ns)
        return min(self._flagged.values(), default=int(NEVER))

    def room(self, rows: Finished, found: Found, counts: Int64Array, most: Int64Array) -> TableRoom | None:
        """What the tables let in until the next look; None where none is full."""
        full = counts >= most
        if not full.any():
            return None
        self._looks += 1
        chances = np.zeros(len(full), dtype=np.uint64)
        for place in np.flatnonzero(full).tolist():
            n = int(np.count_nonzero((found.places == place) & (found.kinds == LOOSE)))
            n += len(self._flows(place)) + self._ended.of(LOOSE, place)
            chances[place] = chance(n, self._buckets_of(self._lab.wiring.places[place]))
        return TableRoom(full, chances, self._salt, self._looks)

    def _forget(self, rows: Finished, found: Found) -> None:
        """Requests that are over took the words of their entries with them."""
        for place, known in list(self._gone.items()):
            mine = np.flatnonzero(found.places == place)
            left = known[np.isin(known, self._words(rows, found, mine))]
            if len(left):
                self._gone[place] = left
            else:
                del self._gone[place]

    def _flag(self, place: int, now_ns: int) -> None:
        if place in self._flagged:
            return
        node, every = self._lab.wiring.places[place], self._every.get(place, SCAN_MAX_NS)
        following = self._next.get(place)
        if following is None:
            following = self._lab.draws.control_between("conntrack-collector", node, 0, 0, SCAN_MAX_NS)
        if following < now_ns:
            following += -(-(now_ns - following) // every) * every
        self._flagged[place] = self._next[place] = following

    def _collect(self, place: int, count: int, most: int, rows: Finished, found: Found, now_ns: int) -> None:
        """A scan of a node whose flag is set."""
        wanted = most // 100 * 95
        if wanted and count >= wanted:
            self._evict(place, min(count - wanted + 1, KILLED_MOST), (LOOSE, CLOSING), rows, found, now_ns)
        del self._flagged[place]
        mine = found.places == place
        ends, kinds = found.ends[mine], found.kinds[mine]
        open_ns = np.where(kinds == LOOSE, _SYN_SENT_NS, _OPEN_NS)
        left = np.where(ends == NEVER, open_ns, np.clip(ends - now_ns, SCAN_MIN_NS, _OPEN_NS))
        ended = int(self._ended.left[place])
        others = max(0, count - len(left) - ended)  # kept connections, UDP senders
        n = PRETENDED + len(left) + ended + others
        total = PRETENDED * SCAN_MAX_NS + int(left.sum()) + self._ended.time_left(place, now_ns) + others * _OPEN_NS
        self._every[place] = max(SCAN_MIN_NS, min(total // n, SCAN_MAX_NS))
        self._next[place] = now_ns + self._every[place]

    # --- evicting -------------------------------------------------------------------------------------------------

    def _flows(self, place: int) -> list[int]:
        """UDP senders with a fixed source port whose entry on their own node is not ASSURED: their streams."""
        flows = self._lab.engine.memory.udp.flows
        return sorted(stream for (stream, there), flow in flows.items() if there == place and not assured(flow))

    def _evict(self, place: int, n: int, kinds: tuple[int, ...], rows: Finished, found: Found, now_ns: int) -> None:
        """Let `n` entries of these kinds go, each as likely as any other."""
        mine = np.flatnonzero((found.places == place) & np.isin(found.kinds, kinds))
        open_ = self._words(rows, found, mine)
        open_ = open_[~np.isin(open_, self._gone.get(place, open_[:0]))]
        flows = self._flows(place)
        sizes = [len(open_), len(flows), *(self._ended.of(kind, place) for kind in kinds)]
        bounds = np.cumsum([0, *sizes])
        chosen = self._some(place, n, int(bounds[-1]))
        parts = [
            chosen[(chosen >= low) & (chosen < low + size)] - low for low, size in zip(bounds, sizes, strict=False)
        ]
        if len(parts[0]):
            self._gone[place] = np.sort(np.append(self._gone.get(place, open_[:0]), open_[parts[0]]))
        for at in parts[1].tolist():
            self._lab.engine.clean_flows(flows[at], place, now_ns, frozenset())
        for kind, which in zip(kinds, parts[2:], strict=True):
            if len(which):
                self._ended.take_some(kind, place, which)

    def _some(self, place: int, n: int, total: int) -> Int64Array:
        """Draw `n` different numbers below `total`; all of them where there are no more."""
        if n >= total:
            return np.arange(total)
        address = number_of(f"early-drop {self._lab.wiring.places[place]}")
        chosen: dict[int, None] = {}
        while len(chosen) < n:
            first = self._drawn.get(place, 0)
            wanted = n - len(chosen)
            self._drawn[place] = first + wanted
            drawn = self._lab.draws.rows(address, np.arange(first, first + wanted, dtype=np.int64))[:, 0]
            numbers = (drawn >> np.uint64(32)) * np.uint64(total) >> np.uint64(32)
            chosen.update(dict.fromkeys(numbers.astype(np.int64).tolist()))
        return np.array(list(chosen), dtype=np.int64)
