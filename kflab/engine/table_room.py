"""Nodes whose conntrack table is full: which first packets find room there all the same.

At nf_conntrack_max a kernel looks into eight buckets of its hash table, from that of the packet on, for entries that
are not ASSURED. Where it finds one, that entry goes and the packet has its place; else the packet is dropped ("table
full, dropping packet"; net/netfilter/nf_conntrack_core.c, __nf_conntrack_alloc, early_drop, NF_CT_EVICTION_RANGE).
Hashes are as good as random, so each packet draws whether its buckets hold one. What the table holds, and which entry
goes, is the lab's (`lab.early_drop`): it looks at the tables every few milliseconds and makes one of these.
"""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from kflab.engine.memory import Col
from kflab.engine.scramble import words
from kflab.engine.types import Int64Array, UInt64Array

if TYPE_CHECKING:
    from kflab.engine.step_state import Rows
    from kflab.engine.steps import Steps

BoolArray = NDArray[np.bool_]

EVICTION_RANGE: Final = 8
"""Buckets that are looked into (NF_CT_EVICTION_RANGE)."""


def chance(n_entries: int, n_buckets: int) -> int:
    """How likely eight buckets of a table hold one of its entries that may go, in 2⁻⁶⁴.

    Each entry stands in two chains, that of its packets and that of the answers. Multiplications only: those are the
    same on every machine.

    Args:
        n_entries: Entries that are not ASSURED.
        n_buckets: Size of the hash table, above 0.
    """
    none, factor, power = 1.0, max(0.0, 1.0 - EVICTION_RANGE / n_buckets), 2 * n_entries
    while power:
        if power & 1:
            none *= factor
        factor *= factor
        power >>= 1
    return min(int((1.0 - none) * 2.0**64), (1 << 64) - 1)


class TableRoom:
    """What the tables let in until the next look.

    Args:
        full: [places] -> whether the table is at its maximum.
        chances: [places] -> how likely a first packet finds an entry whose place it takes, in 2⁻⁶⁴; None: never.
        salt: Of the run's seed.
        look: Number of the look.
    """

    def __init__(self, full: BoolArray, chances: UInt64Array | None = None, salt: int = 0, look: int = 0) -> None:
        self.full, self._salt, self._look = full, salt, look
        self._chances = np.zeros(len(full), dtype=np.uint64) if chances is None else chances
        self.evicted: Int64Array = np.zeros(len(full), dtype=np.int64)
        """[places] -> first packets that took an entry's place so far."""
        self.dropped: Int64Array = np.zeros(len(full), dtype=np.int64)
        """[places] -> first packets that found none and are gone."""
        self._flows: dict[tuple[int, int], bool] = {}
        """(place, stream) → whether a UDP sender's datagrams are dropped."""

    def shut(
        self, places: Int64Array, streams: Int64Array, numbers: Int64Array, tries: "Int64Array | int"
    ) -> BoolArray:
        """Say which first packets are dropped, and count them and those that got in; each packet asks once.

        Args:
            places: Node that each meets, shape (n,); -1 none.
            streams: Its stream, shape (n,).
            numbers: Its number in the stream, shape (n,).
            tries: Which connection of the request it opens: 0 the client's, else the try's number from 1.
        """
        lost: BoolArray = (places >= 0) & self.full[places]
        met = np.flatnonzero(lost)
        if len(met):
            which = np.broadcast_to(np.asarray(tries, dtype=np.int64), lost.shape)[met]
            drawn = words(self._salt, streams[met], numbers[met], which, places[met])
            lost[met] = drawn >= self._chances[places[met]]
            np.add.at(self.dropped, places[lost], 1)
            np.add.at(self.evicted, places[met][~lost[met]], 1)
        return lost

    def shut_one(self, place: int, stream: int, number: int, try_number: int) -> bool:
        """The same of one packet."""
        if place < 0 or not self.full[place]:
            return False
        places, streams, numbers = (np.array([value], dtype=np.int64) for value in (place, stream, number))
        return bool(self.shut(places, streams, numbers, try_number)[0])

    def shut_flow(self, place: int, stream: int) -> bool:
        """The same of a UDP sender with a fixed source port: one answer per look, as its buckets never change."""
        if (place, stream) not in self._flows:
            self._flows[place, stream] = self.shut_one(place, stream, self._look, 0)
        return self._flows[place, stream]


# --- where requests meet it ---------------------------------------------------------------------------------------


def dropped_at_nodes(steps: "Steps", room: TableRoom, rows: "Rows") -> BoolArray:
    """Say which rows' first packets are dropped where their node's rules would take them; shape as `rows`.

    Later datagrams of a UDP sender whose source port is fixed have their entry.
    """
    m, flows = steps.memory.flights.m, steps.memory.udp.flows
    streams, nodes = m[Col.STREAM, rows], m[Col.NODE, rows]
    fixed = steps.paths.flow_port[streams] > 0
    shut = np.zeros(len(rows), dtype=bool)
    shut[~fixed] = room.shut(nodes[~fixed], streams[~fixed], m[Col.NUMBER, rows[~fixed]], 0)
    for at in np.flatnonzero(fixed).tolist():
        stream, node = int(streams[at]), int(nodes[at])
        shut[at] = (stream, node) not in flows and room.shut_flow(node, stream)
    return shut
