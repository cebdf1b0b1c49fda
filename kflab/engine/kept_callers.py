"""All affinity entries that traffic may reach, and which of them share xt_recent's lists (`caller_lists`)."""

from dataclasses import field

import numpy as np

from kflab.engine.affinity import Affinity, Listed
from kflab.engine.caller_lists import CallerLists
from kflab.engine.types import Int64Array
from kflab.records import dataclass


@dataclass(slots=True)
class KeptCallers:
    """The entries, by the index of the virtual server whose place each takes."""

    entries: dict[int, Affinity] = field(default_factory=dict)
    _lists: dict[int, CallerLists] = field(default_factory=dict)
    """Number → lists of callers."""
    _in_lists: dict[int, int] = field(default_factory=dict)
    """Entry → the number of the lists that hold its caller, and the other callers of its Service port and node."""

    def share(self, index: int, number: int) -> None:
        """Let an entry's caller be in the lists of this number, with others; -1: in none."""
        before = self._in_lists.pop(index, -1)
        if before >= 0:
            self._lists[before].leave(index)
        if number >= 0:
            self._in_lists[index] = number
            self._lists.setdefault(number, CallerLists()).callers[index] = None

    def list_endpoints(self, index: int, from_ns: int, servers: tuple[int, ...]) -> None:
        """Let the rules of an entry list these servers for every pick at or after `from_ns`."""
        self.entries[index].learn(from_ns, servers)
        if index in self._in_lists:
            self._lists[self._in_lists[index]].learn(index, from_ns, servers)

    def take(
        self, which: Int64Array, times: Int64Array, drawn: Int64Array, versions: Int64Array, listed: Listed
    ) -> Int64Array:
        """Give connections the servers that their callers are kept on.

        Args:
            which: Entry of each, shape (n,): one for all, or those of callers in lists that may be full.
            times: When each asks, shape (n,), ns, ascending.
            drawn: Whom each would draw, shape (n,).
            versions: Version of its chooser, shape (n,).
            listed: Whether a version lists a server.
        """
        lists = self._crowded(int(which[0]))
        if lists is None:
            return self.entries[int(which[0])].take(times, drawn, versions, listed)
        endpoints = map(listed.endpoints, versions.tolist())
        return np.array(lists.take(which.tolist(), times, drawn, endpoints, self.entries), dtype=np.int64)

    def mates(self, index: int) -> tuple[int, ...]:
        """Entries whose picks depend on one another's, this one included."""
        lists = self._crowded(index)
        return tuple(lists.callers) if lists is not None else (index,)

    def together(self, which: Int64Array) -> Int64Array:
        """Indices with one and the same for all callers of lists that may be full."""
        crowds = [lists.callers for lists in self._lists.values() if lists.crowded]
        mates = {index: min(callers) for callers in crowds for index in callers}
        if not mates:
            return which
        known = np.array(sorted(mates), dtype=np.int64)
        first = np.array([mates[index] for index in known.tolist()], dtype=np.int64)
        at = np.minimum(np.searchsorted(known, which), len(known) - 1)
        return np.where(known[at] == which, first[at], which)

    def _crowded(self, index: int) -> CallerLists | None:
        """The lists of an entry, if they may be full."""
        lists = self._lists.get(self._in_lists.get(index, -1))
        return lists if lists is not None and lists.crowded else None
