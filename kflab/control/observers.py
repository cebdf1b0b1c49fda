"""Observers: who acts on which revision of the cluster, since when (idea 3 of the architecture)."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from kflab.cluster.checkpoint import Mutable
from kflab.control.waves import Wave
from kflab.records import dataclass

Int64Array = NDArray[np.int64]

FAR_PAST = -(10**18)

NO_RULES = -1
"""Instead of a configuration's number: kube-proxy removed the rules it found and has not written its own yet."""


@dataclass(slots=True)
class Observer(Mutable):
    """One row of knowledge: a kube-proxy, an ingress controller pod, CoreDNS or a load balancer.

    Its rules are a pure function of the store at `revision`; `versions` keeps (effective_from_ns, revision),
    ascending, so that any flow can ask what was in force at its own time.
    """

    name: str
    """Unique: "kube-proxy/node-a", "ingress/NAMESPACE/POD", "coredns", "lb/NAMESPACE/SERVICE" or the name of a target
    group behind "lb/NAMESPACE/"."""
    kind: str
    """kube-proxy, ingress, coredns or lb."""
    node: str = ""
    """Where it runs; "" outside the cluster."""
    running: bool = True
    service: str = ""
    """lb: name of the Service whose targets it knows."""
    _own: list[tuple[int, int]] = field(default_factory=list)
    """Its versions; of one in a crowd those from before it joined."""
    _history: "History | None" = field(default=None, repr=False, compare=False)
    """Where its versions are kept while it is in a crowd."""
    _row: int = field(default=-1, repr=False, compare=False)
    configs: list[tuple[int, int]] = field(default_factory=list)
    """kube-proxy: (effective_from_ns, number of the configuration its rules follow), ascending; () is 0 throughout."""

    @property
    def versions(self) -> Sequence[tuple[int, int]]:
        """(effective_from_ns, revision), ascending."""
        return self._own if self._history is None else self._own + self._history.versions(self._row)

    @property
    def revision(self) -> int:
        """The revision its rules are made from now; 0 before its first sync."""
        if self._history is not None:
            return int(self._history.revision[self._row])
        return self._own[-1][1] if self._own else 0

    @property
    def since_ns(self) -> int | None:
        if self._history is not None:
            return int(self._history.since_ns[self._row])
        return self._own[-1][0] if self._own else None

    def learn(self, t_ns: int, revision: int) -> None:
        """From `t_ns` on its rules are made from `revision`. One in a crowd learns by its waves."""
        assert self._history is None
        self._own.append((t_ns, revision))

    def at(self, t_ns: int) -> tuple[int, int] | None:
        """(effective_from_ns, revision) in force at `t_ns`; None before the first sync."""
        if self._history is not None and self._history.since_ns[self._row] <= t_ns:
            return int(self._history.since_ns[self._row]), self.revision
        versions = self.versions
        i = bisect_right(versions, t_ns, key=lambda version: version[0])
        return versions[i - 1] if i else None

    def join_crowd(self, history: "History", row: int) -> None:
        """From now on its versions are a row of a crowd's history."""
        self._history, self._row = history, row

    def leave_crowd(self) -> None:
        """From now on it learns by itself again."""
        self._own, self._history = list(self.versions), None

    @property
    def config(self) -> int:
        """Number of the configuration its rules follow now; `NO_RULES` where they are removed."""
        return self.configs[-1][1] if self.configs else 0

    def configure(self, t_ns: int, number: int) -> None:
        """From `t_ns` on its rules follow another configuration, or are gone."""
        self.configs.append((t_ns, number))

    def config_at(self, t_ns: int) -> int:
        """Number of the configuration that its rules followed at `t_ns`."""
        i = bisect_right(self.configs, t_ns, key=lambda entry: entry[0])
        return self.configs[i - 1][1] if i else 0

    def forget_before(self, t_ns: int) -> None:
        """Drop versions that were replaced before `t_ns`; the one in force then stays. Waves go by themselves."""
        if self._history is not None and self._history.begins(self._row) is not None:
            self._own.clear()
        for entries in (self._own, self.configs):
            i = bisect_right(entries, t_ns, key=lambda entry: entry[0])
            if i > 1:
                del entries[: i - 1]


class History(Mutable):
    """Versions of a crowd's observers in columns. Index space of the arrays: row of an observer, shape (rows,).

    Arrays are replaced, never written into: checkpoints share them.
    """

    def __init__(self) -> None:
        self.revision = self.since_ns = _nothing(0)
        """What each acts on now, and since when."""
        self._base_revision = self._base_ns = _nothing(0)
        """What it acted on when everything before was forgotten; FAR_PAST: it had learned nothing here by then."""
        self._first = _nothing(0)
        """Number of the first wave since it joined."""
        self._waves: list[Wave] = []
        self._forgotten = 0
        """How many waves were forgotten; the number of the first that is kept."""
        self._index: tuple[Int64Array, Int64Array, Int64Array, Int64Array] | None = None
        """Instants, revisions, numbers of waves and rows of all waves, by row; None: to be made."""

    def join(self, members: Sequence[tuple[int, Observer]], rows: int) -> None:
        """Keep the versions of further observers, which have some, of `rows` now."""
        where = np.array([row for row, _ in members], dtype=np.int64)
        number = self._forgotten + len(self._waves)

        def filled(old: Int64Array, values: Sequence[int] | int) -> Int64Array:
            new = _nothing(rows)
            new[: len(old)] = old
            new[where] = values
            return new

        self.revision = filled(self.revision, [observer.revision for _, observer in members])
        self.since_ns = filled(self.since_ns, [observer.since_ns or 0 for _, observer in members])
        self._base_revision, self._base_ns = (filled(old, FAR_PAST) for old in (self._base_revision, self._base_ns))
        self._first = filled(self._first, number)
        for row, observer in members:
            observer.join_crowd(self, row)

    def add(self, wave: Wave) -> None:
        """Some of them act on new revisions."""
        self._waves.append(wave)
        self._index = None
        self.revision, self.since_ns = self.revision.copy(), self.since_ns.copy()
        self.revision[wave.row] = wave.revision
        self.since_ns[wave.row] = wave.t_ns

    def begins(self, row: int) -> int | None:
        """Since when the first version was in force that is kept here for good; None where there is none."""
        found = int(self._base_ns[row])
        return found if found > FAR_PAST else None

    def versions(self, row: int) -> list[tuple[int, int]]:
        """An observer's (effective_from_ns, revision) since it joined, ascending."""
        if self._index is None:
            waves = self._waves
            numbers = np.repeat(np.arange(len(waves)) + self._forgotten, [len(wave) for wave in waves])
            rows = np.concatenate([_nothing(0), *(wave.row for wave in waves)])
            times = np.concatenate([_nothing(0), *(wave.t_ns for wave in waves)])
            revisions = np.concatenate([_nothing(0), *(wave.revision for wave in waves)])
            order = np.argsort(rows, kind="stable")
            self._index = times[order], revisions[order], numbers[order], rows[order]
        times, revisions, numbers, rows = self._index
        low, high = np.searchsorted(rows, (row, row + 1)).tolist()
        low += int(np.searchsorted(numbers[low:high], self._first[row]))
        found = list(zip(times[low:high].tolist(), revisions[low:high].tolist(), strict=True))
        begins = self.begins(row)
        return found if begins is None else [(begins, int(self._base_revision[row])), *found]

    def forget_before(self, t_ns: int) -> None:
        """Drop waves that were over before `t_ns`; what was in force then stays."""
        over = bisect_right(self._waves, t_ns, key=lambda wave: int(wave.t_ns[-1]))
        if not over:
            return
        self._base_revision, self._base_ns = self._base_revision.copy(), self._base_ns.copy()
        for number, wave in enumerate(self._waves[:over], self._forgotten):
            counts = self._first[wave.row] <= number
            rows = wave.row[counts]
            self._base_revision[rows], self._base_ns[rows] = wave.revision[counts], wave.t_ns[counts]
        del self._waves[:over]
        self._forgotten += over
        self._index = None


def _nothing(rows: int) -> Int64Array:
    return np.full(rows, FAR_PAST, dtype=np.int64)


def revision_at(observers: Mapping[str, Observer], name: str, t_ns: int) -> int | None:
    """The revision that an observer's rules were made from at `t_ns`; None before its first sync, or without one."""
    observer = observers.get(name)
    found = observer.at(t_ns) if observer is not None else None
    return found[1] if found is not None else None
