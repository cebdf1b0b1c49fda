"""Packets that nodes' kernels dropped, as `conntrack -S` counts them.

Kernel: net/netfilter/nf_conntrack_core.c. A first packet for which the table has no room counts as `drop`
(nf_conntrack_in), one whose entry could not be confirmed, because its addresses and ports are taken, as `drop` and
`insert_failed` (nf_ct_resolve_clash). Counted when the caller has given up. A real client sends its SYN again and each
counts; the lab's sends one.
"""

import numpy as np

from kflab.engine.types import MAX_TRIES, Answer, Finished, Int64Array

_NONE: Int64Array = np.zeros(0, dtype=np.int64)


class DropCounters:
    """Counts per node since the start."""

    def __init__(self) -> None:
        self._counts: dict[int, Int64Array] = {Answer.TABLE_FULL: _NONE, Answer.NO_PORT: _NONE}
        """Answer → [places] -> packets."""

    def add(self, rows: Finished, place_of: Int64Array) -> None:
        """Count what finished requests lost.

        Args:
            rows: The requests.
            place_of: [servers] -> place.
        """
        if not len(place_of):
            return
        node, ingress = rows.node.astype(np.int64), rows.ingress.astype(np.int64)
        near = np.where(ingress >= 0, place_of[ingress], node)
        for answer, counts in self._counts.items():
            full = answer == Answer.TABLE_FULL
            # The client's own connection: on the node it came to, or on the ingress' node if that one was full.
            places = [(near if full else node)[(rows.status == -answer) & (rows.tries == 0)]]
            for k in range(MAX_TRIES):
                server = rows.try_server[:, k].astype(np.int64)
                there = np.where((server >= 0) & full, place_of[server], near)
                places.append(there[rows.try_answer[:, k] == answer])
            fresh = np.bincount(np.concatenate(places), minlength=len(counts))
            fresh[: len(counts)] += counts
            self._counts[answer] = fresh

    def no_room(self, place: int) -> int:
        """Packets dropped on a node because its table was full."""
        return self._at(Answer.TABLE_FULL, place)

    def no_port(self, place: int) -> int:
        """Packets dropped on a node because no source port was found for them."""
        return self._at(Answer.NO_PORT, place)

    def _at(self, answer: int, place: int) -> int:
        counts = self._counts[answer]
        return int(counts[place]) if 0 <= place < len(counts) else 0
