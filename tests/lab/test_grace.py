"""A grace period that is too short resets requests; one that is long enough loses none."""

from dataclasses import replace

import pytest

from kflab.lab.running import Lab
from kflab.scenario.format import load

S = 1_000_000_000


@pytest.mark.parametrize(("grace_s", "resets"), [(30, True), (120, False)])
def test_what_is_in_hand_is_reset_only_where_sigkill_comes_first(grace_s: int, resets: bool) -> None:
    spec = load("grace-too-short").spec
    given = f"terminationGracePeriodSeconds: {grace_s}"
    tabs = tuple(replace(tab, text=tab.text.replace("terminationGracePeriodSeconds: 30", given)) for tab in spec.tabs)
    lab = Lab(replace(spec, tabs=tabs))
    lab.advance(260 * S)
    assert (lab.totals.by_status.get("reset", 0) > 0) == resets
    assert lab.totals.failed == lab.totals.by_status.get("reset", 0)
    killed = [fact for fact in lab.facts if fact.what == "sigkill-sent"]
    assert bool(killed) == resets
