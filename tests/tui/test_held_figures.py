"""Figures change at most four times a second, and the same in all panes; events show at once."""

from dataclasses import replace

from kflab.tui.held_figures import HeldFigures
from tests.tui.fakes import SNAPSHOTS


def test_rates_and_the_words_made_of_them_are_held_together() -> None:
    figures, old, new = HeldFigures(), SNAPSHOTS["steady"](), SNAPSHOTS["steady"]()
    bands = tuple(replace(band, rate_rps=77.0, detail="other words") for band in new.bands)
    new = replace(new, bands=bands, rate_rps=77.0, t_ns=new.t_ns + 1)
    assert figures.take(old, 1.0) is old
    shown = figures.take(new, 1.1)
    assert [(band.rate_rps, band.detail) for band in shown.bands] == [(b.rate_rps, b.detail) for b in old.bands]
    assert shown.t_ns == new.t_ns
    assert not figures.due(new, 1.2)
    assert figures.due(new, 1.3)
    assert figures.take(new, 1.3) is new


def test_a_change_lets_the_newest_figures_through_and_states_never_wait() -> None:
    figures, steady, crash = HeldFigures(), SNAPSHOTS["steady"](), SNAPSHOTS["crash_half"]()
    figures.take(steady, 1.0)
    same_marks = figures.take(replace(crash, marks=steady.marks), 1.05)
    assert any(row.state == "crashed" for band in same_marks.bands for row in band.candidates)
    assert same_marks.rate_rps == steady.rate_rps
    assert figures.take(crash, 1.06) is crash


def test_a_paused_lab_shows_what_it_has() -> None:
    figures, steady = HeldFigures(), SNAPSHOTS["steady"]()
    figures.take(steady, 1.0)
    paused = replace(steady, rate_rps=5.0, paused=True)
    assert figures.take(paused, 1.01) is paused
