"""The Gantt: per event who knew when, and how many requests were lost in each gap. Immutable values, made on demand.

A row's bar runs from the event to the instant at which its observer knew. Its *gap* is the last part of it: what it
took beyond the one it learns from (truth → kubelet → EndpointSlice → rules, NGINX, load balancer). A lost request is
counted in the gap that was open when its server was picked, so the rows of all events and the bills have the same sum.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kflab.control.facts import What
from kflab.control.lbevents import observer_name
from kflab.lab.autopsy_values import AutopsyReport, BillRow, GanttEvent, GanttGroup, GanttRow
from kflab.lab.bill_words import fate_words, happening, observer_words, outcome_words, title
from kflab.lab.bills import Bill, Cause
from kflab.lab.records import Record
from kflab.lab.spread import Spread
from kflab.manifest.objects import Key
from kflab.records import dataclass

if TYPE_CHECKING:
    from kflab.lab.running import Lab

KEPT_CHANGES = 200
"""Changes by a user or scenario that events are put under."""

BILL_IDS = 1 << 40
"""Trace ids from here on name the example of a bill."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a user or scenario did."""

    t_ns: int
    kind: str
    what: str
    subject: Key | None


class Gantt:
    """Makes reports of a lab's autopsy."""

    def __init__(self, lab: "Lab") -> None:
        self._lab = lab
        self.changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self._begun = 0
        self._made: tuple[tuple[int, int], AutopsyReport] = ((-1, -1), AutopsyReport())

    def begin(self, t_ns: int, kind: str, subject: Key | None, what: str) -> None:
        """A user or scenario changed something: what happens from now on stands under it."""
        self.changes.append(Change(t_ns, kind, what, subject))

    def example(self, trace_id: int) -> Record | None:
        """The request that a bill's trace id names; None when it is too old."""
        bills = (bill for bill in self._lab.autopsy.bills if bill.id == trace_id - BILL_IDS)
        return next((bill.example for bill in bills), None)

    def report(self) -> AutopsyReport:
        """The bills and the Gantt as they are now."""
        lab = self._lab
        stamp = (lab.autopsy.version, len(self.changes))
        if self._made[0] == stamp:
            return self._made[1]
        bills = lab.autopsy.bills
        events = self._events(bills)
        number = {bill_id: event.id for event, ids in events for bill_id in ids}
        rows = tuple(self._bill(bill, number.get(bill.id, 0)) for bill in bills)
        report = AutopsyReport(
            lab.totals.failed, lab.totals.slowed, sum(bill.lost for bill in bills),
            sum(bill.lost for bill in bills if bill.cause == Cause.UNKNOWN), rows,
            self._groups([event for event, _ in events]),
        )  # fmt: skip
        self._made = (stamp, report)
        return report

    def _bill(self, bill: Bill, event: int) -> BillRow:
        trace = BILL_IDS + bill.id if bill.example is not None else None
        return BillRow(
            bill.id, bill.cause, title(bill, self._patience(bill)), outcome_words(bill),
            bill.failed, bill.slowed, tuple(sorted(bill.outcomes.items())), bill.observer, bill.pod, bill.service,
            bill.from_ns, bill.until_ns, bill.first_ns, bill.last_ns, bill.longest_ns, event, trace,
        )  # fmt: skip

    def _patience(self, bill: Bill) -> int:
        """How long a connect was waited for, ns: an ALB has a time of its own; of a lookup an answer of DNS."""
        if bill.cause == Cause.NO_NAME:
            return self._lab.engine.timing.dns_timeout_ns
        for balancer in self._lab.plane.balancers.values():
            if balancer.profile.http and observer_name(balancer.key) == bill.observer:
                return self._lab.engine.timing.alb_connect_timeout_ns
        return self._lab.engine.timing.connect_timeout_ns

    # --- events ---------------------------------------------------------------------------------------------

    def _events(self, bills: Iterable[Bill]) -> list[tuple[GanttEvent, list[int]]]:
        """Events with the ids of their bills, by time."""
        of_spread: dict[int, list[Bill]] = {}
        rest: dict[tuple[object, ...], list[Bill]] = {}
        kept = {spread.id for spread in self._lab.autopsy.spreading.spreads}
        for bill in bills:
            if bill.spread is not None and bill.spread.id in kept:
                of_spread.setdefault(bill.spread.id, []).append(bill)
            else:
                rest.setdefault((bill.cause, bill.from_ns, bill.service, bill.address), []).append(bill)
        made = [
            (self._of_pod(spread, of_spread.get(spread.id, [])), [bill.id for bill in of_spread.get(spread.id, [])])
            for spread in self._lab.autopsy.spreading.spreads
            if spread.id in of_spread or spread.target or spread.truth_ns is not None
        ]
        made += [(self._window(found), [bill.id for bill in found]) for found in rest.values()]
        return sorted(made, key=lambda one: (one[0].t_ns, one[0].id))

    def _window(self, bills: list[Bill]) -> GanttEvent:
        """Losses that no pod's end explains: a row per observer."""
        first = bills[0]
        rows = tuple(
            GanttRow(
                observer_words(bill.observer) if bill.observer else bill.node or "client",
                bill.observer.partition("/")[0] or "window", bill.from_ns, bill.until_ns, bill.lost,
                bill.cause.replace("-", " "), True,
            )
            for bill in bills
        )  # fmt: skip
        ends = [bill.until_ns if bill.until_ns is not None else bill.last_ns for bill in bills]
        known = [bill.until_ns for bill in bills]
        return GanttEvent(
            (1 << 20) + first.id, first.from_ns, title(first, self._patience(first)), first.pod,
            "window", max(*ends, first.from_ns + 1), None if None in known else max(n for n in known if n is not None),
            sum(bill.lost for bill in bills), rows,
        )  # fmt: skip

    def _of_pod(self, spread: Spread, bills: list[Bill]) -> GanttEvent:
        gaps = [sum(bill.gaps[i] for bill in bills) for i in range(2)]
        rows = [self._truth_row(spread, sum(bill.lost for bill in bills if bill.cause != Cause.STALE))]
        rows.append(self._kubelet_row(spread, gaps[0]))
        told = spread.t_ns if spread.deleted else spread.noticed_ns
        if spread.written_ns is not None or spread.calling or bills:
            rows.append(GanttRow("EndpointSlice", "slice", told or spread.t_ns, spread.written_ns, gaps[1],
                                 "written" if spread.written_ns is not None else "not written yet", True))  # fmt: skip
        rows += self._observer_rows(spread, bills)
        last = [row.knew_ns for row in rows if row.knew_ns is not None]
        last += [bill.last_ns for bill in bills if bill.until_ns is None and bill.cause == Cause.STALE]
        return GanttEvent(
            spread.id, spread.t_ns, happening(spread), spread.pod, "end" if spread.ends else "start",
            max((*last, spread.t_ns + 1)), spread.known_ns, sum(bill.lost for bill in bills), tuple(rows),
        )  # fmt: skip

    @staticmethod
    def _truth_row(spread: Spread, lost: int) -> GanttRow:
        at = spread.truth_ns
        if not spread.ends:
            return GanttRow("truth", "truth", spread.t_ns, at, lost, "answers", False)
        note = fate_words(spread, at) if at is not None else "still answers"
        return GanttRow("truth", "truth", spread.t_ns, at, lost, note, False)

    @staticmethod
    def _kubelet_row(spread: Spread, lost: int) -> GanttRow:
        by = spread.noticed_by or (f"kubelet {spread.node}" if spread.node else "kubelet")
        kind, _, node = by.partition(" ")
        name = f"{node} kubelet" if kind == "kubelet" and node else by
        term = next((t_ns for t_ns, what in spread.marks if what is What.SIGTERM_SENT), None)
        note = "noticed" if spread.ends else "ready"
        if spread.deleted:
            note = "learned" if term is None else f"SIGTERM at +{(term - spread.t_ns) / 1e9:.3f} s"
        if spread.noticed_ns is None:
            note = "not noticed yet" if spread.ends else "not ready yet"
        return GanttRow(name, "kubelet", spread.t_ns, spread.noticed_ns, lost, note, False)

    def _observer_rows(self, spread: Spread, bills: list[Bill]) -> list[GanttRow]:
        own: dict[str, int] = {}
        left_out: dict[str, int | None] = {}
        for bill in bills:
            if bill.cause == Cause.STALE:
                own[bill.observer] = own.get(bill.observer, 0) + bill.gaps[2]
                left_out[bill.observer] = bill.until_ns
        written = spread.written_ns if spread.written_ns is not None else spread.t_ns
        names = dict.fromkeys((*sorted(spread.calling), *own, *sorted(set(spread.learned) - spread.calling)))
        rows = []
        for name in names:
            calls = name in spread.calling or name in own
            kind = {"kube-proxy": "rules", "ingress": "ingress"}.get(name.partition("/")[0], "lb")
            if not calls and kind == "ingress" and spread.calling:
                continue  # NGINX sends to the Service's address and leaves pods to kube-proxy
            note = "callers here" if calls else "nobody calls"
            learned, until = spread.learned.get(name), left_out.get(name)
            if learned is not None and until is not None and until > learned:
                note += ", its only endpoint till then"  # KEP-1669: a terminating endpoint rather than none
            knew = max((t_ns for t_ns in (learned, until) if t_ns is not None), default=None)
            if kind == "lb" and until is not None:
                knew = until  # its revision waits for all targets that drain, its choice for this one alone
            rows.append(GanttRow(observer_words(name), kind, written, knew, own.get(name, 0), note, calls))
        if spread.others:
            first = (spread.others_first_ns - spread.t_ns) / 1e9
            note = f"nobody calls, first +{first:.3f} s"
            rows.append(GanttRow(f"{spread.others} further nodes", "others", written, spread.others_last_ns, 0, note,
                                 False))  # fmt: skip
        return rows

    def _groups(self, events: list[GanttEvent]) -> tuple[GanttGroup, ...]:
        changes = list(self.changes)
        starts = [change.t_ns for change in changes]
        found: dict[int, list[GanttEvent]] = {i: [] for i in range(len(changes))}
        for event in events:
            found.setdefault(bisect_right(starts, event.t_ns) - 1, []).append(event)
        groups = []
        for i in sorted(found):
            mine = found[i]
            lost = sum(event.lost for event in mine)
            if i < 0:
                groups.append(GanttGroup(mine[0].t_ns, "", "before the first change", lost, tuple(mine)))
            else:
                groups.append(GanttGroup(changes[i].t_ns, changes[i].kind, changes[i].what, lost, tuple(mine)))
        return tuple(groups)


def as_tree(report: AutopsyReport) -> dict[str, Any]:
    """The report as plain data for JSON; times in seconds."""

    def s(t_ns: int | None) -> float | None:
        return None if t_ns is None else t_ns / 1e9

    return {
        "failed": report.failed, "slowed": report.slowed, "billed": report.billed, "not_explained": report.unexplained,
        "bills": [
            {"id": bill.id, "cause": bill.cause, "text": bill.title, "observer": bill.observer,
             "pod": str(bill.pod) if bill.pod else None,
             "service": str(bill.service) if bill.service else None,
             "from_s": s(bill.from_ns), "until_s": s(bill.until_ns),
             "failed": bill.failed, "slowed": bill.slowed, "outcomes": dict(bill.outcomes),
             "first_s": s(bill.first_ns), "last_s": s(bill.last_ns), "longest_s": s(bill.longest_ns),
             "event": bill.event}
            for bill in report.bills
        ],
        "gantt": [
            {"at_s": s(group.t_ns), "kind": group.kind, "what": group.what, "lost": group.lost,
             "events": [
                 {"id": event.id, "at_s": s(event.t_ns), "what": event.what, "kind": event.kind,
                  "pod": str(event.pod) if event.pod else None, "lost": event.lost, "known_s": s(event.known_ns),
                  "rows": [
                      {"name": row.name, "kind": row.kind, "gap_from_s": s(row.gap_ns), "knew_s": s(row.knew_ns),
                       "lost": row.lost, "note": row.note, "calls": row.calls}
                      for row in event.rows
                  ]}
                 for event in group.events
             ]}
            for group in report.groups
        ],
    }  # fmt: skip
