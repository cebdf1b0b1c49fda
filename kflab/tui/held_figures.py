"""Figures that change at most four times a second, the same in every pane (design, rules 5 and 6).

What moves with events (states, marks, who knows, series) is always the newest; rates, shares, percentiles and the words
made of them are held together, so that two panes never show two figures for one thing.
"""

from dataclasses import replace

from kflab.lab.snapshot import Band, Candidate, Failures, NodeRow, PodRow, Snapshot

FIGURE_S = 0.25
"""Figures are taken anew after so much wall time, and at once when something happened."""


class HeldFigures:
    """Holds the figures of one snapshot while newer ones come by."""

    def __init__(self) -> None:
        self._at = -1.0
        self._of: Snapshot | None = None

    def restart(self) -> None:
        """A new life of the lab."""
        self._of = None

    def due(self, snapshot: Snapshot, now: float) -> bool:
        """Whether the newest figures were held back and may be shown now."""
        return self._of is not None and self._of is not snapshot and now - self._at >= FIGURE_S

    def take(self, snapshot: Snapshot, now: float) -> Snapshot:
        """The snapshot with the figures to show at `now` (wall seconds)."""
        held = self._of
        if held is None or snapshot.paused or now - self._at >= FIGURE_S or len(held.marks) != len(snapshot.marks):
            self._at, self._of = now, snapshot
            return snapshot
        bands = {band.id: band for band in held.bands}
        nodes = {row.key: row for row in held.nodes}
        return replace(
            snapshot,
            rate_rps=held.rate_rps,
            ok_share=held.ok_share,
            failed_total=held.failed_total,
            sent_total=held.sent_total,
            p50_ns=held.p50_ns,
            p99_ns=held.p99_ns,
            bands=tuple(_band(band, bands.get(band.id)) for band in snapshot.bands),
            failures=_failures(snapshot.failures, held.failures),
            nodes=tuple(_node(row, nodes.get(row.key)) for row in snapshot.nodes),
            shares=held.shares,
        )


def _failures(new: Failures, held: Failures) -> Failures:
    return replace(new, rate_rps=held.rate_rps, since_event=held.since_event, text=held.text)


def _band(new: Band, held: Band | None) -> Band:
    if held is None:
        return new
    rows = {row.key: row for row in held.candidates}
    return replace(
        new,
        detail=held.detail,
        short=held.short,
        figure=held.figure,
        rate_rps=held.rate_rps,
        tries_per_request=held.tries_per_request,
        footer=held.footer,
        footer_short=held.footer_short,
        candidates=tuple(_candidate(row, rows.get(row.key)) for row in new.candidates),
    )


def _candidate(new: Candidate, held: Candidate | None) -> Candidate:
    if held is None:
        return new
    return replace(
        new, share=held.share, expected=held.expected, low=held.low, high=held.high, rate_rps=held.rate_rps,
        failing=held.failing,
    )  # fmt: skip


def _node(new: NodeRow, held: NodeRow | None) -> NodeRow:
    if held is None:
        return new
    pods = {pod.key: pod for pod in held.pods}
    return replace(new, dnat_rps=held.dnat_rps, pods=tuple(_pod(pod, pods.get(pod.key)) for pod in new.pods))


def _pod(new: PodRow, held: PodRow | None) -> PodRow:
    if held is None:
        return new
    return replace(new, rate_rps=held.rate_rps, share=held.share, expected=held.expected, failing=held.failing)
