"""The event heap: what is due when, in an order that never depends on how far anybody advances at once."""

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import ClassVar

from kflab.cluster.checkpoint import Mutable
from kflab.manifest.objects import Key
from kflab.records import dataclass

MANAGER = "controller-manager"
"""kube-controller-manager, as an actor."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is due. Frozen data; the controller named by `room` acts on it."""

    room: ClassVar[str] = ""
    needs_api: ClassVar[bool] = False
    """Held back while the API server is stopped."""
    needs_runtime: ClassVar[bool] = False
    """Held back while the container runtime of its node hangs."""
    by_watch: ClassVar[bool] = False
    """A watch of its node told of it: held back until that is back, where the node was cut off."""

    @property
    def actor(self) -> str:
        """Component that acts: its watch has to come back after the API server was away."""
        return self.room


@dataclass(frozen=True, slots=True)
class NodeEvent(Event):
    """Something done on a node: what needs the API is held back while the node is cut off from it."""

    node: str


@dataclass(frozen=True, slots=True)
class KubeletEvent(NodeEvent):
    """Something a kubelet does: held back while it is stopped."""

    @property
    def actor(self) -> str:
        """The kubelet."""
        return f"kubelet/{self.node}"


@dataclass(frozen=True, slots=True)
class PodEvent(KubeletEvent):
    """Something a kubelet does with exactly this pod, not a later one with its name."""

    key: Key
    uid: str


@dataclass(frozen=True, slots=True)
class SpellOver(Event):
    """What was done to a pod or workload for a while is over; `number` tells the spells of one apart."""

    key: Key
    number: int


@dataclass(frozen=True, slots=True)
class ManagerEvent(Event):
    """Something that a controller of kube-controller-manager does, which has one connection for all of them."""

    needs_api: ClassVar[bool] = True

    @property
    def actor(self) -> str:
        """The process that all its controllers share."""
        return MANAGER


class EventHeap(Mutable):
    """Events by (time, order of pushing).

    Events of one instant share an entry of the heap: while a cluster settles, thousands of pods take each step at once.
    """

    def __init__(self) -> None:
        self._times: list[int] = []
        """Heap of instants at which something is due."""
        self._due: dict[int, list[tuple[int, Event]]] = {}
        """Instant → (number, event), in order of pushing; never empty beyond what was taken off."""
        self._taken = 0
        """Events of the next instant that were taken off."""
        self._seq = 0
        self._left = 0
        self._dropped: dict[int, None] = {}

    def push(self, t_ns: int, event: Event) -> int:
        """Let an event be due at `t_ns`; of two at the same instant the one pushed first comes first.

        Returns:
            Its number, to drop it by.
        """
        self._seq += 1
        self._left += 1
        due = self._due.get(t_ns)
        if due is not None:
            due.append((self._seq, event))
            return self._seq
        if self._taken and t_ns < self._times[0]:
            self._forget_taken()
        self._due[t_ns] = [(self._seq, event)]
        heappush(self._times, t_ns)
        return self._seq

    def places(self, count: int) -> int:
        """Set numbers aside for `count` events that are pushed later with `push_at_place`; returns the first."""
        first = self._seq + 1
        self._seq += count
        return first

    def push_at_place(self, t_ns: int, number: int, event: Event) -> None:
        """Let an event be due among those of one instant where its number belongs."""
        self._left += 1
        due = self._due.get(t_ns)
        if due is not None:
            low = self._taken if t_ns == self._times[0] else 0
            insort(due, (number, event), lo=low, key=lambda entry: entry[0])
            return
        if self._taken and t_ns < self._times[0]:
            self._forget_taken()
        self._due[t_ns] = [(number, event)]
        heappush(self._times, t_ns)

    def head(self) -> tuple[int, int] | None:
        """Instant and number of the next event."""
        return (self._times[0], self._due[self._times[0]][self._taken][0]) if self._times else None

    def drop(self, number: int) -> None:
        """Take back an event that is still due: what it would have looked at is over."""
        self._dropped[number] = None
        self._left -= 1
        self._skip()

    def next_ns(self) -> int | None:
        """When the next event is due; None when none is."""
        return self._times[0] if self._times else None

    def pop(self) -> Event:
        """Take the next event off."""
        due = self._due[self._times[0]]
        event = due[self._taken][1]
        self._taken += 1
        self._left -= 1
        if self._taken == len(due):
            del self._due[heappop(self._times)]
            self._taken = 0
        if self._dropped:
            self._skip()
        return event

    def take_before(self, until_ns: int) -> Iterator[tuple[int, Event]]:
        """Take events off, each with its instant, until none is due before `until_ns`; more may be pushed meanwhile."""
        while self._times and (t_ns := self._times[0]) < until_ns:
            yield t_ns, self.pop()

    def _skip(self) -> None:
        """Let the first entry be of an event that was not dropped."""
        while self._dropped and self._times:
            due = self._due[self._times[0]]
            if due[self._taken][0] not in self._dropped:
                return
            del self._dropped[due[self._taken][0]]
            self._taken += 1
            if self._taken == len(due):
                del self._due[heappop(self._times)]
                self._taken = 0

    def _forget_taken(self) -> None:
        """Let go of what was taken off: another instant comes first now."""
        del self._due[self._times[0]][: self._taken]
        self._taken = 0

    def discard(self, unwanted: Callable[[Event], bool]) -> None:
        """Take events off that will never be wanted. Costs a look at every event that is due."""
        if self._taken:
            self._forget_taken()
        for t_ns, due in list(self._due.items()):
            kept = [entry for entry in due if not unwanted(entry[1])]
            if len(kept) == len(due):
                continue
            for number, event in due:
                if not unwanted(event):
                    continue
                if number in self._dropped:
                    del self._dropped[number]
                else:
                    self._left -= 1
            if kept:
                self._due[t_ns] = kept
            else:
                del self._due[t_ns]
        self._times = list(self._due)
        heapify(self._times)
        self._skip()

    def pending(self) -> Sequence[tuple[int, Event]]:
        """What is due, in order, for looking at."""
        found = []
        for t_ns in sorted(self._due):
            due = self._due[t_ns]
            first = self._taken if t_ns == self._times[0] else 0
            found += [(t_ns, event) for number, event in due[first:] if number not in self._dropped]
        return tuple(found)

    def __len__(self) -> int:
        return self._left
