"""What the ledger remembers from frame to frame: figures on show, changed states, what past changes looked like."""

from dataclasses import replace

from kflab.lab.snapshot import BIN_NS, Knowledge, Mark, Series, Snapshot
from kflab.manifest.objects import Key
from kflab.tui.ledger_context import Figures
from kflab.tui.ledger_rows import outside
from kflab.tui.lens import CONSEQUENCES

FLASH_S = 1.0
"""A state word that changed is bold for so long (wall time)."""

OUTSIDE_LOOKS = 4
"""A share is said to be outside its 99 % band after so many figure updates in a row: one look alone is chance."""

CAPTURES = 8
"""How many past changes can be drawn again after their bins have left the snapshot."""

_BEFORE_BINS = 8
"""Bins kept before a change: what the lens shows left of ✖, and a little more."""

_KEPT_BINS = 70
"""Bins kept of a change in all: more than the widest lens shows."""


class FigureKeeper:
    """The figures on show; `held_figures` decides when they change, for all panes."""

    def __init__(self) -> None:
        self.figures = Figures()
        self._first = True
        self._looks: dict[tuple[str, Key], int] = {}

    def restart(self) -> None:
        self._first = True
        self._looks.clear()

    def take(self, snapshot: Snapshot) -> None:
        """Take the figures of a snapshot, if they are others than those on show."""
        rates = {band.id: band.rate_rps for band in snapshot.bands}
        if self._first or rates != self.figures.rates or snapshot.failures.rate_rps != self.figures.failed_rps:
            self._take(snapshot, self._first)
            self._first = False

    def _take(self, snapshot: Snapshot, first: bool) -> None:
        outsides: dict[tuple[str, Key], int] = {}
        for band in snapshot.bands:
            for row in band.candidates:
                side = outside(row)
                spot = (band.id, row.key)
                looks = self._looks.get(spot, 0)
                if side == 0:
                    looks = 0
                elif first or (looks and (looks > 0) != (side > 0)):
                    looks = side * (OUTSIDE_LOOKS if first else 1)
                else:
                    looks += side
                self._looks[spot] = looks
                if abs(looks) >= OUTSIDE_LOOKS:
                    outsides[spot] = side
        self.figures = Figures(
            {band.id: band.rate_rps for band in snapshot.bands},
            {(band.id, row.key): row.share for band in snapshot.bands for row in band.candidates},
            outsides,
            snapshot.failures.rate_rps,
        )


class Flashes:
    """State words that changed."""

    def __init__(self) -> None:
        self._states: dict[Key, str] = {}
        self._until: dict[Key, float] = {}

    def restart(self) -> None:
        self._states.clear()
        self._until.clear()

    @property
    def keys(self) -> frozenset[Key]:
        """Whose word is bold now."""
        return frozenset(self._until)

    def look(self, snapshot: Snapshot, now: float) -> None:
        """Compare with the states before."""
        states = {row.key: row.state for band in snapshot.bands for row in band.candidates}
        if self._states:
            for key, state in states.items():
                if self._states.get(key, state) != state:
                    self._until[key] = now + FLASH_S
        self._states = states
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]

    def due(self, now: float) -> bool:
        """Whether a flash has to end."""
        return any(until <= now for until in self._until.values())


class Capture:
    """What a past change looked like, kept when its bins leave the snapshot's series."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.knowledge: Knowledge | None = None
        self.series: dict[str, tuple[Series, int]] = {}
        """Row id → (series, its first bin)."""


def completed(knowledge: Knowledge, now: Snapshot) -> Knowledge:
    """What was kept of a change, with what its observers have learned since: the Gantt follows each to its end."""
    events = (event for group in now.autopsy.groups for event in group.events)
    event = next((event for event in events if event.t_ns == knowledge.t_ns and event.pod == knowledge.subject), None)
    if event is None:
        return knowledge
    knew = {row.name: row.knew_ns for row in event.rows if row.knew_ns is not None}
    knowers = tuple(
        one if one.learned_ns is not None or one.name not in knew
        else replace(one, in_step=True, learned_ns=knew[one.name], word="in step")
        for one in knowledge.knowers
    )  # fmt: skip
    same = knowledge.began_ns is not None and knowledge.began_ns == now.knowledge.began_ns
    changes = now.knowledge.changes if same else knowledge.changes
    return replace(knowledge, knowers=knowers, changes=changes)


class Captures:
    """The last changes, by the instant at which they happened."""

    def __init__(self) -> None:
        self._of: dict[int, Capture] = {}

    def restart(self) -> None:
        self._of.clear()

    def get(self, t_ns: int | None) -> Capture | None:
        return self._of.get(t_ns) if t_ns is not None else None

    def drawable(self) -> list[int]:
        """Changes that can be drawn without the snapshot's series."""
        return [t_ns for t_ns, kept in self._of.items() if kept.series]

    def look(self, snapshot: Snapshot) -> None:
        """Keep what recent changes look like before their bins leave the snapshot."""
        for mark in snapshot.marks:
            if mark.kind in CONSEQUENCES:
                continue
            kept = self._of.get(mark.t_ns)
            if kept is None:
                kept = self._of[mark.t_ns] = Capture(mark)
                while len(self._of) > CAPTURES:
                    del self._of[min(self._of)]
            if snapshot.knowledge.t_ns == mark.t_ns:
                kept.knowledge = snapshot.knowledge
            first = mark.t_ns // BIN_NS - _BEFORE_BINS
            ripe = snapshot.t_ns // BIN_NS - mark.t_ns // BIN_NS >= _KEPT_BINS - _BEFORE_BINS
            if ripe and not kept.series and first >= snapshot.first_bin:
                self._keep(snapshot, kept, first)

    @staticmethod
    def _keep(snapshot: Snapshot, kept: Capture, first: int) -> None:
        low = first - snapshot.first_bin

        def part(series: Series) -> tuple[Series, int]:
            return Series(series.ok[low : low + _KEPT_BINS], series.bad[low : low + _KEPT_BINS]), first

        for band in snapshot.bands:
            if band.series is not None:
                kept.series[band.id] = part(band.series)
            for row in band.candidates:
                if row.series is not None:
                    kept.series[f"{band.id}|{row.key}|{row.key.namespace}"] = part(row.series)
        kept.series["failed"] = part(snapshot.failures.series)
