"""The places in a tree of calls, in the order in which a request comes to them."""

from collections.abc import Sequence

import numpy as np

from kflab.engine.types import Int64Array, Stream


class CallPlaces:
    """Where the requests of one stream come to: their own server first, then a place for each call in the tree.

    Args:
        streams: All streams, by index.
        stream: Index of the requests' stream.
    """

    def __init__(self, streams: Sequence[Stream], stream: int) -> None:
        self._streams = streams
        self._found: list[tuple[int, int, int, int, int]] = [(stream, -1, -1, 0, -1)]
        self._grow(0)
        columns: Int64Array = np.array(self._found, dtype=np.int64).T
        self.streams = columns[0]
        """[places] -> stream."""
        self.parents = columns[1]
        """[places] -> place that calls; -1 for the first."""
        self.groups = columns[2]
        """[places] -> group of the servers there that make this call."""
        self.turns = columns[3]
        """[places] -> which of their calls it is."""
        self.elder = columns[4]
        """[places] -> place of the call before it there; -1 for the first one."""
        n = len(self._found)
        self.youngest: Int64Array = np.full(n, -1, dtype=np.int64)
        """[places] -> place of the last call made there; -1 where none is."""
        self.youngest[self.parents[1:]] = np.arange(1, n)
        self.lasts: Int64Array = np.arange(n)
        """[places] -> the last place come to for it: itself, or in the tree below."""
        for place in range(n - 1, -1, -1):
            if self.youngest[place] >= 0:
                self.lasts[place] = self.lasts[self.youngest[place]]

    def __len__(self) -> int:
        return len(self._found)

    def _grow(self, place: int) -> None:
        elder = -1
        for group, calls in self._streams[self._found[place][0]].calls:
            for turn, call in enumerate(calls):
                self._found.append((call.stream, place, group, turn, elder))
                elder = len(self._found) - 1
                self._grow(elder)
