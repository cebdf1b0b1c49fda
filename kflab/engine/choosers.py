"""Choosers as flat tables: every version of every chooser is a run of candidates in one long array.

A weighted fan is laid out with each candidate repeated weight times, so that one multiply-shift picks with the exact
shares. An empty fan is one candidate -1. A slot is an index into the long array: counting slots counts what each
version gave to each candidate.
"""

from bisect import bisect_right
from math import gcd

import numpy as np

from kflab.draws import Draws
from kflab.engine.types import Answer, Fan, Int64Array, Pick, UInt64Array
from kflab.errors import KflabError
from kflab.records import dataclass

MAX_SLOTS = 1 << 16
"""Longest run of one fan, after dividing the weights by their common divisor."""

_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one chooser."""

    index: int
    """Row in the version tables."""
    from_ns: int
    fan: Fan


def _layout(fan: Fan) -> tuple[int, ...]:
    """Lay a fan out as a run of slots.

    Raises:
        KflabError: If weights and candidates do not match, or the weights need more than `MAX_SLOTS` slots.
    """
    if not fan.candidates:
        return (-1,)
    if len(fan.weights) != len(fan.candidates) or min(fan.weights) < 0 or sum(fan.weights) == 0:
        raise KflabError(f"a fan needs one weight ≥ 0 per candidate: {fan.candidates} with {fan.weights}")
    divisor = gcd(*fan.weights)
    total = sum(fan.weights) // divisor
    if total > MAX_SLOTS:
        raise KflabError(f"weights of a fan add up to {total}, more than {MAX_SLOTS} exact shares")
    return tuple(
        candidate
        for candidate, weight in zip(fan.candidates, fan.weights, strict=True)
        for _ in range(weight // divisor)
    )


class Choosers:
    """All choosers of an engine, with every version that a step may still need.

    Args:
        draws: For the start position of each round-robin list.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self.flat: Int64Array = np.full(64, -1, dtype=np.int64)
        """[slots] -> candidate; -1 where a fan is empty."""
        self.slot_picks: Int64Array = np.zeros(64, dtype=np.int64)
        """[slots] -> connections given so far."""
        self.owner: Int64Array = np.zeros(64, dtype=np.int64)
        """[slots] -> chooser."""
        self.n_slots = 1
        self.offset: Int64Array = np.zeros(16, dtype=np.int64)
        """[versions] -> first slot. Version 0 is "knows nothing": no rule, the packet goes astray (lifecycle.md 3)."""
        self.size: Int64Array = np.ones(16, dtype=np.int64)
        """[versions] -> number of slots."""
        self.answer: Int64Array = np.full(16, Answer.TIMEOUT, dtype=np.int64)
        """[versions] -> Answer when the fan is empty, else NONE."""
        self.turn: Int64Array = np.zeros(16, dtype=np.int64)
        """[versions] -> round robin: position of the next pick (memory)."""
        self.n_versions = 1
        self.current: Int64Array = np.zeros(16, dtype=np.int64)
        """[choosers] -> version in force at the start of the slab."""
        self.pick: Int64Array = np.zeros(16, dtype=np.int64)
        """[choosers] -> Pick."""
        self.scheduler: Int64Array = np.full(16, -1, dtype=np.int64)
        """[choosers] -> virtual server that picks; -1 for a chooser that picks otherwise."""
        self.n_scheduled = 0
        self.n_choosers = 0
        self.n_round_robin = 0
        self.n_scored = 0
        """How many choosers pick by NGINX's scores."""
        self._versions: list[list[Version]] = []
        """Per chooser: the version in force and those to come, by time."""
        self._learned: list[int] = []
        """Per chooser: how many versions it ever had."""
        self._coming: list[tuple[int, int, int]] = []
        """(from_ns, chooser, version) not yet in force, sorted."""
        self._keys: Int64Array | None = None
        """Changes inside the current slab as chooser × span + time, sorted; None when there are none."""
        self._key_versions: Int64Array = np.zeros(0, dtype=np.int64)
        self._key_choosers: Int64Array = np.zeros(0, dtype=np.int64)
        self._compact_at = 4096
        self._turn_servers: tuple[Int64Array, bool] | None = None
        self.changes = 0
        """Grows when any chooser has other candidates, or picks otherwise."""
        self._slab_start = 0
        self._span = 1

    def ensure(self, chooser: int) -> None:
        """Make room for a chooser."""
        while chooser >= len(self.current):
            self.current = np.concatenate((self.current, np.zeros_like(self.current)))
            self.pick = np.concatenate((self.pick, np.zeros_like(self.pick)))
            self.scheduler = np.concatenate((self.scheduler, np.full_like(self.scheduler, -1)))
        while chooser >= len(self._versions):
            self._versions.append([Version(0, -1, Fan(answer=Answer.TIMEOUT))])
            self._learned.append(0)
        self.n_choosers = max(self.n_choosers, chooser + 1)

    def set_pick(self, chooser: int, pick: int, scheduler: int = -1) -> None:
        """Say how a chooser picks; `scheduler`: the virtual server of one that is SCHEDULED."""
        self.ensure(chooser)
        self.pick[chooser] = pick
        self.scheduler[chooser] = scheduler
        self.n_scheduled = int(np.count_nonzero(self.scheduler >= 0))
        self._turn_servers = None
        self.changes += 1
        self.n_round_robin = int(np.count_nonzero(self.pick == Pick.ROUND_ROBIN))
        self.n_scored = int(np.count_nonzero(self.pick == Pick.EWMA))

    def learn(self, chooser: int, from_ns: int, fan: Fan, now_ns: int) -> None:
        """Append a version. The same fan as the last one is no change: positions and counts go on."""
        self.ensure(chooser)
        versions = self._versions[chooser]
        if from_ns < now_ns or from_ns < versions[-1].from_ns:
            late = max(now_ns, versions[-1].from_ns)
            raise KflabError(f"chooser {chooser} cannot learn at {from_ns} ns: it is already {late} ns")
        if versions[-1].fan == fan and self._learned[chooser]:
            return
        run = _layout(fan)
        index = self._add_version(chooser, run, fan)
        n = self._learned[chooser]
        self._learned[chooser] += 1
        # lua-resty-balancer's roundrobin starts a new list at a random node (random_start in roundrobin.lua).
        self.turn[index] = self._draws.control_between("round-robin-start", str(chooser), n, 0, len(run))
        versions.append(Version(index, from_ns, fan))
        self._turn_servers = None
        self.changes += 1
        if from_ns <= now_ns:
            self._enter(chooser, versions[-1])
        else:
            self._coming.append((from_ns, chooser, index))
            self._coming.sort()

    def _add_version(self, chooser: int, run: tuple[int, ...], fan: Fan) -> int:
        while self.n_slots + len(run) > len(self.flat):
            self.flat = np.concatenate((self.flat, np.full_like(self.flat, -1)))
            self.slot_picks = np.concatenate((self.slot_picks, np.zeros_like(self.slot_picks)))
            self.owner = np.concatenate((self.owner, np.zeros_like(self.owner)))
        if self.n_versions == len(self.offset):
            for name in ("offset", "size", "answer", "turn"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate((old, np.zeros_like(old))))
        index = self.n_versions
        self.n_versions += 1
        self.offset[index] = self.n_slots
        self.size[index] = len(run)
        self.answer[index] = Answer.NONE if fan.candidates else fan.answer
        self.flat[self.n_slots : self.n_slots + len(run)] = run
        self.owner[self.n_slots : self.n_slots + len(run)] = chooser
        self.n_slots += len(run)
        return index

    def _enter(self, chooser: int, version: Version) -> None:
        versions = self._versions[chooser]
        self.current[chooser] = version.index
        self._turn_servers = None
        self.changes += 1
        while versions[0].index != version.index:
            versions.pop(0)

    @property
    def changing(self) -> bool:
        """Whether any chooser changes inside the current slab."""
        return self._keys is not None

    @property
    def changes_ahead(self) -> bool:
        """Whether any chooser has a version that is not in force yet."""
        return bool(self._coming)

    def candidates(self, chooser: int) -> tuple[int, ...]:
        """Candidates in force now; none of a chooser of -1."""
        return self._versions[chooser][0].fan.candidates if chooser >= 0 else ()

    def fans(self, chooser: int) -> tuple[Fan, ...]:
        """The fan in force and those to come."""
        return tuple(version.fan for version in self._versions[chooser])

    def begin(self, start_ns: int, end_ns: int) -> None:
        """Look up what changes inside the slab [start, end)."""
        count = bisect_right(self._coming, (end_ns - 1, 1 << 62, 0))
        self._keys = None
        if not count:
            return
        self._slab_start, self._span = start_ns, end_ns - start_ns + 1
        changes = sorted((chooser, from_ns, version) for from_ns, chooser, version in self._coming[:count])
        self._keys = np.array([chooser * self._span + t - start_ns for chooser, t, _ in changes], dtype=np.int64)
        self._key_versions = np.array([version for _, _, version in changes], dtype=np.int64)
        self._key_choosers = np.array([chooser for chooser, _, _ in changes], dtype=np.int64)

    def end(self, end_ns: int) -> None:
        """Put in force, for the next slab, what is known from before or at its start."""
        count = bisect_right(self._coming, (end_ns, 1 << 62, 0))
        for _, chooser, index in self._coming[:count]:
            self._enter(chooser, next(version for version in self._versions[chooser] if version.index == index))
        del self._coming[:count]
        if self.n_slots > self._compact_at:
            self._compact()
            self._compact_at = max(4096, 2 * self.n_slots)

    def versions_at(self, choosers: Int64Array, times: Int64Array) -> Int64Array:
        """Return the version in force for each (chooser, time inside the slab)."""
        versions = self.current[choosers]
        if self._keys is None:
            return versions
        keys = choosers * self._span + (times - self._slab_start)
        place = np.searchsorted(self._keys, keys, side="right") - 1
        hit = (place >= 0) & (self._key_choosers[place] == choosers)
        return np.where(hit, self._key_versions[place], versions)

    def version_at(self, chooser: int, t_ns: int) -> int:
        """Return the version in force at one time inside the slab."""
        version = self._versions[chooser][0]
        for later in self._versions[chooser][1:]:
            if later.from_ns <= t_ns:
                version = later
        return version.index

    def slots_by_draw(self, versions: Int64Array, u32: UInt64Array) -> Int64Array:
        """Pick a slot by 32 random (or hash) bits each: index = u × n / 2³², which kube-proxy's walk agrees with."""
        return self.offset[versions] + (u32 * self.size[versions].astype(np.uint64) >> _HALF).astype(np.int64)

    def slots_by_turn(self, versions: Int64Array) -> Int64Array:
        """Pick in turn, one slot after the other; `versions` is grouped (ascending), each group in order of time."""
        ids, first, counts = np.unique(versions, return_index=True, return_counts=True)
        ranks = np.arange(len(versions)) - np.repeat(first, counts)
        slots = self.offset[versions] + (self.turn[versions] + ranks) % self.size[versions]
        self.turn[ids] = (self.turn[ids] + counts) % self.size[ids]
        return slots

    def scheduler_of(self, choosers: Int64Array) -> Int64Array:
        """Return the virtual server of each chooser; -1 for a chooser of -1 or one that picks otherwise."""
        return np.where(choosers < 0, -1, self.scheduler[np.maximum(choosers, 0)])

    def slots_of(self, versions: Int64Array, servers: Int64Array) -> Int64Array:
        """Find the slot of a server in each version; slot 0 where it is none of its candidates."""
        slots = np.zeros_like(versions)
        order = np.argsort(versions, kind="stable")
        ids, begins = np.unique(versions[order], return_index=True)
        for version, rows in zip(ids.tolist(), np.split(order, begins[1:]), strict=True):
            first, size = int(self.offset[version]), int(self.size[version])
            run = self.flat[first : first + size]
            ascending = np.argsort(run, kind="stable")
            found = ascending[np.minimum(np.searchsorted(run, servers[rows], sorter=ascending), size - 1)]
            slots[rows] = np.where(run[found] == servers[rows], first + found, 0)
        return slots

    def slot_of(self, version: int, server: int) -> int:
        """Find the slot of one server in a version, as `slots_of` does."""
        first = int(self.offset[version])
        found = np.flatnonzero(self.flat[first : first + int(self.size[version])] == server)
        return first + int(found[0]) if len(found) else 0

    def count(self, slots: Int64Array) -> None:
        """Count connections per slot (a slot is counted also when its fan is empty)."""
        if len(slots) < 64:
            np.add.at(self.slot_picks, slots, 1)
        else:
            self.slot_picks += np.bincount(slots, minlength=len(self.slot_picks))

    def turn_servers(self) -> tuple[Int64Array, bool]:
        """Return every server that a round-robin chooser lists or will list, and whether a list fails by itself."""
        if self._turn_servers is None:
            fans = [
                version.fan
                for chooser in np.flatnonzero(self.pick == Pick.ROUND_ROBIN).tolist()
                for version in self._versions[chooser]
            ]
            servers = sorted({candidate for fan in fans for candidate in fan.candidates})
            # The first "knows nothing" version times out, which a retry may follow; NO_UPSTREAM ends the request.
            failing = any(not fan.candidates and fan.answer != Answer.NO_UPSTREAM for fan in fans)
            self._turn_servers = (np.array(servers, dtype=np.int64), failing)
        return self._turn_servers

    def connections(self, chooser: int) -> tuple[tuple[int, int], ...]:
        """Return (candidate, connections) of the version in force, in the order of its fan."""
        version = self._versions[chooser][0]
        counts = dict.fromkeys(version.fan.candidates, 0)
        first = int(self.offset[version.index])
        for slot in range(first, first + int(self.size[version.index])):
            if self.flat[slot] >= 0:
                counts[int(self.flat[slot])] += int(self.slot_picks[slot])
        return tuple(counts.items())

    def _compact(self) -> None:
        """Forget versions that no step can meet any more."""
        live = [(chooser, version) for chooser, versions in enumerate(self._versions) for version in versions]
        old = (self.flat, self.slot_picks, self.offset, self.size, self.turn)
        flat, picks, offset, size, turn = old
        self.n_slots, self.n_versions = 1, 1
        self.flat, self.slot_picks = np.full_like(flat, -1), np.zeros_like(picks)
        self.offset, self.size = np.zeros_like(offset), np.ones_like(size)
        self.turn = np.zeros_like(turn)
        self.answer = np.full_like(self.answer, Answer.TIMEOUT)
        renamed: dict[int, int] = {0: 0}
        fresh: list[list[Version]] = [[] for _ in self._versions]
        for chooser, version in live:
            if version.index not in renamed:
                index = self._add_version(chooser, _layout(version.fan), version.fan)
                first, new, length = int(offset[version.index]), int(self.offset[index]), int(size[version.index])
                self.slot_picks[new : new + length] = picks[first : first + length]
                self.turn[index] = turn[version.index]
                renamed[version.index] = index
            fresh[chooser].append(Version(renamed[version.index], version.from_ns, version.fan))
        self._versions = fresh
        for chooser, versions in enumerate(fresh):
            self.current[chooser] = versions[0].index
        self._coming = [(t, chooser, renamed[index]) for t, chooser, index in self._coming]
