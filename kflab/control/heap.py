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

    def push(self, t_ns: int, event: Event) -> None:
        """Let an event be due at `t_ns`; of two at the same instant the one pushed first comes first."""
        self._seq += 1
        heappush(self._heap, (t_ns, self._seq, event))

    def next_ns(self) -> int | None:
        """When the next event is due; None when none is."""
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Event:
        """Take the next event off."""
        return heappop(self._heap)[2]

    def discard(self, unwanted: Callable[[Event], bool]) -> None:
        """Take events off that will never be wanted. Costs a look at every event that is due."""
        kept = [entry for entry in self._heap if not unwanted(entry[2])]
        if len(kept) < len(self._heap):
            heapify(kept)
            self._heap = kept

    def pending(self) -> Sequence[tuple[int, Event]]:
        """What is due, in order, for looking at."""
        return tuple((t_ns, event) for t_ns, _, event in sorted(self._heap, key=lambda entry: entry[:2]))

    def __len__(self) -> int:
        return len(self._heap)
