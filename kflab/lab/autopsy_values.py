"""The autopsy as it is handed out: bills, and the Gantt of who knew when. Immutable; times are simulated ns."""

from kflab.manifest.objects import Key
from kflab.records import dataclass


@dataclass(frozen=True, slots=True)
class BillRow:
    """A bill as it is shown. Times are simulated ns."""

    id: int
    cause: str
    title: str
    outcome: str
    """What clients got, in words."""
    failed: int
    slowed: int
    outcomes: tuple[tuple[str, int], ...]
    observer: str
    pod: Key | None
    service: Key | None
    """Whose endpoints (or targets) were chosen from; None where nothing chose."""
    from_ns: int
    until_ns: int | None
    first_ns: int
    last_ns: int
    longest_ns: int
    event: int
    """Id of the Gantt's event it belongs to."""
    trace: int | None
    """What `open_request` takes to open one of its requests; None: too old."""

    @property
    def lost(self) -> int:
        """Requests on this bill."""
        return self.failed + self.slowed


@dataclass(frozen=True, slots=True)
class GanttRow:
    """One who had to learn of an event."""

    name: str
    kind: str
    """truth, kubelet, slice, rules, ingress, lb or others."""
    gap_ns: int
    """When its gap began: the one it learns from knew."""
    knew_ns: int | None
    """When it knew; None: not yet, or never (`note` says why)."""
    lost: int
    note: str
    calls: bool
    """Somebody reaches the Service by its rules."""


@dataclass(frozen=True, slots=True)
class GanttEvent:
    """One pod's end or beginning, or a window in which requests were lost for another reason."""

    id: int
    t_ns: int
    what: str
    pod: Key | None
    kind: str
    """end, start or window."""
    end_ns: int
    """End of the axis: when the last that is drawn knew, or the last request was lost."""
    known_ns: int | None
    """When the last calling observer knew."""
    lost: int
    rows: tuple[GanttRow, ...]


@dataclass(frozen=True, slots=True)
class GanttGroup:
    """A change and the events that came after it, until the next change."""

    t_ns: int
    kind: str
    """As in `Mark`; "" for what happened before the first change."""
    what: str
    lost: int
    events: tuple[GanttEvent, ...]


@dataclass(frozen=True, slots=True)
class AutopsyReport:
    """Everything billed so far."""

    failed: int = 0
    slowed: int = 0
    billed: int = 0
    unexplained: int = 0
    bills: tuple[BillRow, ...] = ()
    groups: tuple[GanttGroup, ...] = ()
    """Oldest first."""
