"""The changes of pods that a rollout or a drain brings, one after the other: which one spreads now, how many are known.

Each is a `Spread`, so what stands beside "who knows" is what the Gantt says of the same pod. Pods that no Service
selects are left out: nobody has to learn of them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import field

from kflab.control.facts import What
from kflab.lab.spread import Spread, Spreading
from kflab.manifest.objects import Key
from kflab.records import dataclass

KEPT = 200
"""Changes that are kept; of older ones only the number is."""


@dataclass(slots=True)
class PodChanges:
    """What happened to pods since a change that takes pod after pod, oldest first."""

    since_ns: int
    subject: Key
    """The workload that rolls, or the node that is drained."""
    kept: deque[Spread] = field(default_factory=lambda: deque(maxlen=KEPT))
    older: int = 0
    """How many are no longer kept; they count as known."""
    _looked: int = 0
    """The last spread that was looked at, by id."""
    _workloads: set[Key] = field(default_factory=set)
    """Of a drain: workloads whose pods left the node, so that their new pods elsewhere belong to it."""

    def collect(self, spreading: Spreading) -> list[Spread]:
        """Take in what has begun since the last time; return it."""
        if spreading.newest == self._looked:
            return []
        fresh = [spread for spread in spreading.spreads if spread.id > self._looked and self._belongs(spread)]
        self._looked = spreading.newest
        self.older += max(0, len(self.kept) + len(fresh) - KEPT)
        self.kept.extend(fresh)
        return fresh

    def _belongs(self, spread: Spread) -> bool:
        if spread.t_ns < self.since_ns or not spread.served:
            return False
        if self.subject.kind != "Node":
            return spread.workload == self.subject
        if spread.ends and spread.node == self.subject.name and spread.workload is not None:
            self._workloads.add(spread.workload)
            return True
        return not spread.ends and spread.workload in self._workloads

    @property
    def newest(self) -> Spread | None:
        """The change that spreads now, or did so last."""
        return next((spread for spread in reversed(self.kept) if concerns(spread)), None)

    def counts(self, adopted: Callable[[Spread], bool]) -> tuple[int, int]:
        """(changes known to all, changes). `adopted`: whether everybody acts on a change that nobody calls for."""
        there = [spread for spread in self.kept if concerns(spread)]
        known = sum(
            spread.known_ns is not None or (spread.target > 0 and not spread.calling and adopted(spread))
            for spread in there
        )
        return self.older + known, self.older + len(there)


def concerns(spread: Spread) -> bool:
    """Whether anybody has, or had, to learn of it: not where the pod came and went before any slice told of it."""
    return spread.target > 0 or not any(what is What.POD_REMOVED for _, what in spread.marks)
