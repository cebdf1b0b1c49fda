"""The event heap: what is due when, in an order that never depends on how far anybody advances at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import ClassVar

from kflab.cluster.checkpoint import Mutable


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is due. Frozen data; the controller named by `room` acts on it."""

    room: ClassVar[str] = ""
    needs_api: ClassVar[bool] = False
    """Held back while the API server is stopped."""

    @property
    def actor(self) -> str:
        """Component that acts: its watch has to come back after the API server was away."""
        return self.room


@dataclass(frozen=True, slots=True)
class KubeletEvent(Event):
    """Something a kubelet does: held back while it is stopped."""

    node: str


class EventHeap(Mutable):
    """Events by (time, order of pushing)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Event]] = []
        self._seq = 0
        self._dropped: dict[int, None] = {}

    def push(self, t_ns: int, event: Event) -> int:
        """Let an event be due at `t_ns`; of two at the same instant the one pushed first comes first.

        Returns:
            Its number, to drop it by.
        """
        self._seq += 1
        heappush(self._heap, (t_ns, self._seq, event))
        return self._seq

    def drop(self, number: int) -> None:
        """Take back an event that is still due: what it would have looked at is over."""
        self._dropped[number] = None
        self._skip()

    def _skip(self) -> None:
        while self._dropped and self._heap and self._heap[0][1] in self._dropped:
            del self._dropped[heappop(self._heap)[1]]

    def next_ns(self) -> int | None:
        """When the next event is due; None when none is."""
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Event:
        """Take the next event off."""
        event = heappop(self._heap)[2]
        self._skip()
        return event

    def discard(self, unwanted: Callable[[Event], bool]) -> None:
        """Take events off that will never be wanted. Costs a look at every event that is due."""
        kept = [entry for entry in self._heap if not unwanted(entry[2])]
        if len(kept) < len(self._heap):
            heapify(kept)
            self._heap = kept

    def pending(self) -> Sequence[tuple[int, Event]]:
        """What is due, in order, for looking at."""
        due = sorted((entry for entry in self._heap if entry[1] not in self._dropped), key=lambda entry: entry[:2])
        return tuple((t_ns, event) for t_ns, _, event in due)

    def __len__(self) -> int:
        return len(self._heap) - len(self._dropped)
